/* Tests of ways.c: no clock, no disk. */
#include "../ways.h"

#include "check.h"

enum { MS = 1000000 };
#define IN_TIME (WAYS_LATE_NS / 4)
#define LATE (8 * WAYS_LATE_NS)

/* Writes one after the other from *now on; each takes what its way takes. */
static unsigned write_some(ways *self, uint64_t *now, unsigned count, uint64_t ring,
                           uint64_t thread) {
    unsigned by_ring = 0;
    for (unsigned index = 0; index < count; index++) {
        way way = ways_choose(self, 0, 0, *now);
        uint64_t took = way == WAY_RING ? ring : thread;
        *now += took;
        ways_took(self, way, took, *now);
        by_ring += way == WAY_RING;
    }
    return by_ring;
}

static void test_alone_it_is_the_ring_and_busy_the_thread(void) {
    ways self = {0};
    uint64_t now = 5 * MS;
    CHECK_EQUAL(ways_choose(&self, 0, 1, now), WAY_THREAD);
    CHECK_EQUAL(write_some(&self, &now, 1000, IN_TIME, IN_TIME), 1000);
}

static void test_one_late_write_changes_nothing(void) {
    ways self = {0};
    uint64_t now = 0;
    for (int round = 0; round < 10; round++) {
        CHECK_EQUAL(write_some(&self, &now, 1, LATE, IN_TIME), 1);
        CHECK_EQUAL(write_some(&self, &now, 1, IN_TIME, IN_TIME), 1);
    }
}

static void test_W1_late_ones_in_a_row_give_the_thread_its_turn_and_tries_become_rare(void) {
    ways self = {0};
    uint64_t now = 0;
    /* Two at first, then after 1, 2, 4, 8, 16, 32 and 64 s, and then every 64 s (W2). */
    unsigned by_ring = 0;
    while (now < 260ULL * 1000 * MS) {
        by_ring += write_some(&self, &now, 1, LATE, IN_TIME);
    }
    CHECK_EQUAL(by_ring, 2 + 6 + 1 + 2);
}

static void test_a_try_in_time_brings_the_ring_back(void) {
    ways self = {0};
    uint64_t now = 0;
    CHECK_EQUAL(write_some(&self, &now, 100, LATE, IN_TIME), 2);
    now += WAYS_PATIENCE_MAX_NS;
    CHECK_EQUAL(write_some(&self, &now, 100, IN_TIME, IN_TIME), 100);
    CHECK_EQUAL(self.ring.patience_ns, 0);
}

static void test_a_disk_that_is_slow_either_way_keeps_the_ring(void) {
    ways self = {0};
    uint64_t now = 0;
    CHECK_EQUAL(write_some(&self, &now, 99, LATE, LATE), 66); /* two, and one by the thread */
}

/* As write_some, for a loop that is quiet. */
static unsigned write_quietly(ways *self, uint64_t *now, unsigned count, uint64_t took) {
    unsigned in_place = 0;
    for (unsigned index = 0; index < count; index++) {
        way way = ways_choose(self, 1, 0, *now);
        *now += took;
        ways_took(self, way, took, *now);
        in_place += way == WAY_IN_PLACE;
    }
    return in_place;
}

static void test_a_quiet_loop_writes_in_place_while_the_disk_is_quick(void) {
    ways self = {0};
    uint64_t now = 5 * MS;
    CHECK_EQUAL(ways_choose(&self, 1, 0, now), WAY_IN_PLACE);
    CHECK_EQUAL(write_quietly(&self, &now, 1000, WAYS_IN_PLACE_NS - 1), 1000);
}

static void test_a_long_write_now_and_then_changes_nothing(void) {
    ways self = {0};
    uint64_t now = 0;
    for (int round = 0; round < 100; round++) {
        CHECK_EQUAL(write_quietly(&self, &now, 9, IN_TIME / 2), 9);
        CHECK_EQUAL(write_quietly(&self, &now, 1, 50 * LATE), 1);
    }
}

static void test_W1_a_disk_that_is_not_quick_is_waited_for_elsewhere(void) {
    ways self = {0};
    uint64_t now = 0;
    CHECK_EQUAL(write_quietly(&self, &now, 1000, IN_TIME / 2), 1000);
    unsigned in_place = 0;
    /* Too long for the loop, in time for the ring. */
    while (now < 260ULL * 1000 * MS) {
        in_place += write_quietly(&self, &now, 1, WAYS_LATE_NS - 1);
    }
    CHECK(in_place >= 2 + 6 + 1 + 2);
    CHECK(in_place <= 16 + 6 + 1 + 2);
    CHECK_EQUAL(ways_choose(&self, 1, 0, now), WAY_RING);
    CHECK_EQUAL(ways_choose(&self, 1, 1, now), WAY_THREAD);
    now += WAYS_PATIENCE_MAX_NS;
    CHECK_EQUAL(write_quietly(&self, &now, 100, IN_TIME / 2), 100);
}

int main(void) {
    RUN(test_a_quiet_loop_writes_in_place_while_the_disk_is_quick);
    RUN(test_a_long_write_now_and_then_changes_nothing);
    RUN(test_W1_a_disk_that_is_not_quick_is_waited_for_elsewhere);
    RUN(test_alone_it_is_the_ring_and_busy_the_thread);
    RUN(test_one_late_write_changes_nothing);
    RUN(test_W1_late_ones_in_a_row_give_the_thread_its_turn_and_tries_become_rare);
    RUN(test_a_try_in_time_brings_the_ring_back);
    RUN(test_a_disk_that_is_slow_either_way_keeps_the_ring);
    return 0;
}
