/* Tests of wheel.c. `--measure` prints the cost of each verb with a million timers armed;
 * `--seed N` replays the random comparison with a model. */
#include "../wheel.h"

#include "check.h"

enum {
    FIRED_MAX = 64,
    MODEL_TIMERS = 512,
    MODEL_STEPS = 2000,
    MODEL_ROUNDS = 40,
    MANY = 1000000,
};

static uint64_t seed = 1;

/* Fire everything up to now_ms in chunks; data of what came is written to out. */
static unsigned drain(wheel *timers, uint64_t now_ms, uint64_t *out, unsigned out_size) {
    wheel_fired fired[3]; /* small and odd, so that chunks end within slots */
    unsigned count = 0;
    for (;;) {
        unsigned got = wheel_advance(timers, now_ms, fired, 3);
        for (unsigned i = 0; i < got; i++) {
            CHECK(count < out_size);
            CHECK(fired[i].deadline_ms <= now_ms); /* (W1) */
            out[count++] = fired[i].data;
        }
        if (got < 3) {
            return count;
        }
    }
}

static void test_an_empty_wheel_has_nothing_to_wait_for(void) {
    wheel *timers = wheel_new(77);
    uint64_t out[1];
    CHECK(wheel_next(timers) == WHEEL_NONE);
    CHECK_EQUAL(drain(timers, 1u << 30, out, 1), 0);
    CHECK_EQUAL(wheel_count(timers), 0);
    wheel_free(timers);
    wheel_free(NULL);
}

static void test_W1_a_timer_fires_at_its_deadline_and_not_before(void) {
    static const uint64_t distances[] = {0,      1,       255,      256,        257,
                                         16383,  16384,   16385,    1048575,    1048576,
                                         67108863, 67108864, 4294967296u, 1ull << 45, 1ull << 62};
    static const uint64_t starts[] = {0, 1, 255, 256, 1000003, 1ull << 33, (1ull << 40) - 1};
    uint64_t out[1];
    for (size_t s = 0; s < sizeof starts / sizeof *starts; s++) {
        for (size_t d = 0; d < sizeof distances / sizeof *distances; d++) {
            wheel *timers = wheel_new(starts[s]);
            uint64_t deadline_ms = starts[s] + distances[d];
            CHECK(wheel_start(timers, deadline_ms, 5) != 0);
            if (distances[d] > 0) {
                CHECK_EQUAL(drain(timers, deadline_ms - 1, out, 1), 0);
            }
            CHECK_EQUAL(drain(timers, deadline_ms, out, 1), 1);
            CHECK_EQUAL(out[0], 5);
            CHECK_EQUAL(wheel_count(timers), 0);
            wheel_free(timers);
        }
    }
}

static void test_W1_a_deadline_in_the_past_fires_at_once(void) {
    wheel *timers = wheel_new(1000);
    uint64_t out[4];
    CHECK(wheel_start(timers, 999, 1) != 0);
    CHECK(wheel_start(timers, 0, 2) != 0);
    CHECK(wheel_start(timers, 1000, 3) != 0);
    CHECK(wheel_next(timers) == 0);
    CHECK_EQUAL(drain(timers, 1000, out, 4), 3);
    CHECK_EQUAL(out[0], 2); /* (W2) by deadline, not by start */
    CHECK_EQUAL(out[1], 1);
    CHECK_EQUAL(out[2], 3);
    wheel_free(timers);
}

static void test_the_last_possible_deadline_is_accepted(void) {
    wheel *timers = wheel_new(0);
    uint64_t out[2];
    uint64_t id = wheel_start(timers, UINT64_MAX, 9);
    CHECK(id != 0);
    CHECK(wheel_start(timers, UINT64_MAX - 1, 8) != 0);
    CHECK_EQUAL(drain(timers, UINT64_MAX - 2, out, 2), 0);
    CHECK_EQUAL(drain(timers, UINT64_MAX, out, 2), 2);
    CHECK_EQUAL(out[0], 8);
    CHECK_EQUAL(out[1], 9);
    wheel_free(timers);
}

static void test_W2_equal_deadlines_fire_in_order_of_start_across_levels(void) {
    /* The first is started far away, the second near: a wheel by distance would swap them. */
    wheel *timers = wheel_new(0);
    uint64_t out[3];
    CHECK(wheel_start(timers, 100000, 1) != 0);
    CHECK_EQUAL(drain(timers, 99000, out, 3), 0);
    CHECK(wheel_start(timers, 100000, 2) != 0);
    CHECK_EQUAL(drain(timers, 99999, out, 3), 0);
    CHECK(wheel_start(timers, 100000, 3) != 0);
    CHECK_EQUAL(drain(timers, 100000, out, 3), 3);
    CHECK_EQUAL(out[0], 1);
    CHECK_EQUAL(out[1], 2);
    CHECK_EQUAL(out[2], 3);
    wheel_free(timers);
}

static void test_W2_timers_started_between_two_chunks_keep_their_place(void) {
    wheel *timers = wheel_new(0);
    wheel_fired fired[FIRED_MAX];
    CHECK(wheel_start(timers, 50, 1) != 0);
    CHECK(wheel_start(timers, 50, 2) != 0);
    CHECK(wheel_start(timers, 70, 5) != 0);
    CHECK_EQUAL(wheel_advance(timers, 100, fired, 1), 1);
    CHECK(wheel_start(timers, 50, 3) != 0); /* the slot being worked on */
    CHECK(wheel_start(timers, 60, 4) != 0); /* ahead, but already past */
    CHECK(wheel_start(timers, 40, 6) != 0); /* behind: comes first now */
    CHECK_EQUAL(wheel_advance(timers, 100, fired, FIRED_MAX), 5);
    static const uint64_t expected[] = {6, 2, 3, 4, 5};
    for (unsigned i = 0; i < 5; i++) {
        CHECK_EQUAL(fired[i].data, expected[i]);
    }
    wheel_free(timers);
}

static void test_W3_a_cancelled_timer_never_fires_and_its_id_is_stale(void) {
    wheel *timers = wheel_new(0);
    uint64_t out[2];
    uint64_t id = wheel_start(timers, 10, 1);
    CHECK_EQUAL(wheel_cancel(timers, id), 1);
    CHECK_EQUAL(wheel_cancel(timers, id), 0);
    uint64_t successor = wheel_start(timers, 10, 2); /* takes the same node */
    CHECK((uint32_t)successor == (uint32_t)id);
    CHECK(successor != id);
    CHECK_EQUAL(wheel_cancel(timers, id), 0);
    CHECK_EQUAL(drain(timers, 10, out, 2), 1);
    CHECK_EQUAL(out[0], 2);
    CHECK_EQUAL(wheel_cancel(timers, successor), 0); /* fired already */
    CHECK_EQUAL(wheel_cancel(timers, 0), 0);
    CHECK_EQUAL(wheel_cancel(timers, UINT64_MAX), 0);
    wheel_free(timers);
}

static void test_W3_a_due_timer_can_be_cancelled_between_two_chunks(void) {
    wheel *timers = wheel_new(1000);
    wheel_fired fired[FIRED_MAX];
    uint64_t ids[4];
    for (uint64_t i = 0; i < 4; i++) {
        ids[i] = wheel_start(timers, 10 + i, i);
    }
    CHECK_EQUAL(wheel_cancel(timers, ids[3]), 1); /* while late */
    CHECK_EQUAL(wheel_advance(timers, 1000, fired, 1), 1);
    CHECK_EQUAL(wheel_cancel(timers, ids[1]), 1); /* while due */
    CHECK_EQUAL(wheel_advance(timers, 1000, fired, FIRED_MAX), 1);
    CHECK_EQUAL(fired[0].data, 2);
    CHECK(wheel_next(timers) == WHEEL_NONE);
    wheel_free(timers);
}

static void test_W4_next_is_exact_near_and_a_lower_bound_far(void) {
    wheel *timers = wheel_new(0);
    uint64_t far = wheel_start(timers, 1000000, 1);
    CHECK(wheel_next(timers) <= 1000000);
    CHECK(wheel_next(timers) > 0);
    uint64_t near = wheel_start(timers, 200, 2);
    CHECK_EQUAL(wheel_next(timers), 200);
    CHECK_EQUAL(wheel_cancel(timers, near), 1);
    CHECK(wheel_next(timers) > 200);
    CHECK_EQUAL(wheel_cancel(timers, far), 1);
    CHECK(wheel_next(timers) == WHEEL_NONE);
    wheel_free(timers);
}

static void test_W4_following_next_reaches_a_deadline_in_few_steps(void) {
    wheel *timers = wheel_new(12345);
    uint64_t out[1];
    uint64_t year_ms = 365ull * 24 * 3600 * 1000;
    CHECK(wheel_start(timers, 12345 + 3 * year_ms, 1) != 0);
    unsigned wakeups = 0;
    while (wheel_count(timers) > 0) {
        CHECK(wakeups++ < 11); /* once a level at most */
        (void)drain(timers, wheel_next(timers), out, 1);
    }
    wheel_free(timers);
}

static void test_time_that_goes_back_is_ignored(void) {
    wheel *timers = wheel_new(500);
    uint64_t out[1];
    CHECK(wheel_start(timers, 600, 1) != 0);
    CHECK_EQUAL(drain(timers, 550, out, 1), 0);
    CHECK_EQUAL(drain(timers, 100, out, 1), 0);
    CHECK_EQUAL(wheel_next(timers), 600);
    CHECK_EQUAL(drain(timers, 600, out, 1), 1);
    wheel_free(timers);
}

static void test_memory_is_reused(void) {
    wheel *timers = wheel_new(0);
    uint64_t out[1];
    size_t bytes = 0;
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t id = wheel_start(timers, i + 100, i);
        CHECK(id != 0);
        CHECK_EQUAL(wheel_cancel(timers, id), 1);
        CHECK_EQUAL(drain(timers, i, out, 1), 0);
        bytes = i == 0 ? wheel_bytes(timers) : bytes;
    }
    CHECK_EQUAL(wheel_bytes(timers), bytes);
    wheel_free(timers);
}

/* The model: an array, searched linearly. */

typedef struct model_timer {
    uint64_t deadline_ms;
    uint64_t order;
    uint64_t id; /* 0 = not armed */
} model_timer;

typedef struct model {
    wheel *timers;
    model_timer armed[MODEL_TIMERS];
    uint64_t now_ms;
    uint64_t order;
    uint64_t random;
} model;

static model_timer *model_earliest(model *self) {
    model_timer *earliest = NULL;
    for (unsigned i = 0; i < MODEL_TIMERS; i++) {
        model_timer *timer = &self->armed[i];
        if (timer->id == 0) {
            continue;
        }
        if (earliest == NULL || timer->deadline_ms < earliest->deadline_ms ||
            (timer->deadline_ms == earliest->deadline_ms && timer->order < earliest->order)) {
            earliest = timer;
        }
    }
    return earliest;
}

static uint64_t model_distance(model *self) {
    unsigned bits = (unsigned)check_below(&self->random, 46);
    return check_random(&self->random) >> (63 - bits);
}

static void model_start(model *self) {
    unsigned slot = (unsigned)check_below(&self->random, MODEL_TIMERS);
    if (self->armed[slot].id != 0) {
        CHECK_EQUAL(wheel_cancel(self->timers, self->armed[slot].id), 1);
        self->armed[slot].id = 0;
        return;
    }
    uint64_t deadline_ms = self->now_ms + model_distance(self);
    if (check_below(&self->random, 8) == 0) {
        deadline_ms = check_below(&self->random, self->now_ms + 1);
    } else if (check_below(&self->random, 4) == 0 && self->armed[slot].deadline_ms > 0) {
        deadline_ms = self->armed[check_below(&self->random, MODEL_TIMERS)].deadline_ms;
    }
    self->armed[slot].deadline_ms = deadline_ms;
    self->armed[slot].order = self->order++;
    self->armed[slot].id = wheel_start(self->timers, deadline_ms, slot);
    CHECK(self->armed[slot].id != 0);
}

static void model_advance(model *self) {
    wheel_fired fired[FIRED_MAX];
    unsigned count_max = 1 + (unsigned)check_below(&self->random, FIRED_MAX);
    if (check_below(&self->random, 4) != 0) {
        self->now_ms += model_distance(self) >> check_below(&self->random, 40);
    }
    unsigned count = wheel_advance(self->timers, self->now_ms, fired, count_max);
    for (unsigned i = 0; i < count; i++) {
        model_timer *expected = model_earliest(self); /* (W2), (W3) */
        CHECK(expected != NULL);
        CHECK_EQUAL(fired[i].data, expected - self->armed);
        CHECK(fired[i].id == expected->id);
        CHECK(fired[i].deadline_ms == expected->deadline_ms);
        CHECK(fired[i].deadline_ms <= self->now_ms); /* (W1) */
        expected->id = 0;
    }
    model_timer *next = model_earliest(self);
    CHECK(count == count_max || next == NULL || next->deadline_ms > self->now_ms); /* (W1) */
}

static void model_check_next(model *self) {
    model_timer *earliest = model_earliest(self);
    uint64_t next_ms = wheel_next(self->timers);
    if (earliest == NULL) {
        CHECK(next_ms == WHEEL_NONE);
        CHECK_EQUAL(wheel_count(self->timers), 0);
    } else {
        CHECK(next_ms <= earliest->deadline_ms); /* (W4) */
    }
}

static void test_random_histories_agree_with_a_sorted_list(void) {
    for (uint64_t round = 0; round < MODEL_ROUNDS; round++) {
        model *self = calloc(1, sizeof *self);
        CHECK(self != NULL);
        self->random = seed + round;
        self->now_ms = check_random(&self->random) >> (16 + check_below(&self->random, 48));
        self->timers = wheel_new(self->now_ms);
        for (unsigned step = 0; step < MODEL_STEPS; step++) {
            unsigned starts = (unsigned)check_below(&self->random, 10);
            for (unsigned i = 0; i < starts; i++) {
                model_start(self);
            }
            model_advance(self);
            model_check_next(self);
        }
        wheel_free(self->timers);
        free(self);
    }
}

static void test_a_million_late_timers_come_out_sorted(void) {
    wheel *timers = wheel_new(1ull << 40);
    wheel_fired fired[FIRED_MAX];
    uint64_t random = seed;
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(wheel_start(timers, check_below(&random, 1u << 30), i) != 0);
    }
    uint64_t last_ms = 0;
    unsigned total = 0;
    for (unsigned count = FIRED_MAX; count == FIRED_MAX; total += count) {
        count = wheel_advance(timers, 1ull << 40, fired, FIRED_MAX);
        for (unsigned i = 0; i < count; i++) {
            CHECK(fired[i].deadline_ms >= last_ms);
            last_ms = fired[i].deadline_ms;
        }
    }
    CHECK_EQUAL(total, MANY);
    wheel_free(timers);
}

static double per_timer(uint64_t begin_ns, unsigned count) {
    return (double)(check_clock_ns() - begin_ns) / count;
}

/* A million timers over ten minutes; then a million restarts among them; then all fire. */
static void measure(void) {
    wheel *timers = wheel_new(0);
    uint64_t *ids = malloc(sizeof *ids * MANY);
    CHECK(ids != NULL);
    uint64_t random = seed;
    uint64_t begin_ns = check_clock_ns();
    for (unsigned i = 0; i < MANY; i++) {
        ids[i] = wheel_start(timers, 1 + check_below(&random, 600000), i);
    }
    printf("start, growing to a million: %.0f ns\n", per_timer(begin_ns, MANY));
    printf("memory: %.1f bytes a timer\n", (double)wheel_bytes(timers) / MANY);
    begin_ns = check_clock_ns();
    for (unsigned i = 0; i < MANY; i++) {
        unsigned victim = (unsigned)check_below(&random, MANY);
        CHECK(wheel_cancel(timers, ids[victim]) == 1);
        ids[victim] = wheel_start(timers, 1 + check_below(&random, 600000), victim);
    }
    printf("cancel and start, random, a million armed: %.0f ns\n", per_timer(begin_ns, MANY));
    begin_ns = check_clock_ns();
    for (unsigned i = 0; i < MANY; i++) {
        CHECK(wheel_cancel(timers, wheel_start(timers, 30000, 1)) == 1);
    }
    printf("start and cancel of one, a million armed: %.0f ns\n", per_timer(begin_ns, MANY));
    static wheel_fired fired[256];
    uint64_t slowest_ns = 0;
    unsigned total = 0;
    begin_ns = check_clock_ns();
    for (uint64_t now_ms = 1; wheel_count(timers) > 0; now_ms++) {
        uint64_t tick_ns = check_clock_ns();
        for (unsigned count = 256; count == 256; total += count) {
            count = wheel_advance(timers, now_ms, fired, 256);
        }
        tick_ns = check_clock_ns() - tick_ns;
        slowest_ns = tick_ns > slowest_ns ? tick_ns : slowest_ns;
    }
    printf("fire, cascades included: %.0f ns; slowest of 600000 advances: %.2f ms\n",
           per_timer(begin_ns, total), (double)slowest_ns / 1e6);
    free(ids);
    wheel_free(timers);
}

int main(int argc, char **argv) {
    seed = check_seed(argc, argv, 1);
    if (check_option(argc, argv, "--measure")) {
        measure();
        return 0;
    }
    RUN(test_an_empty_wheel_has_nothing_to_wait_for);
    RUN(test_W1_a_timer_fires_at_its_deadline_and_not_before);
    RUN(test_W1_a_deadline_in_the_past_fires_at_once);
    RUN(test_the_last_possible_deadline_is_accepted);
    RUN(test_W2_equal_deadlines_fire_in_order_of_start_across_levels);
    RUN(test_W2_timers_started_between_two_chunks_keep_their_place);
    RUN(test_W3_a_cancelled_timer_never_fires_and_its_id_is_stale);
    RUN(test_W3_a_due_timer_can_be_cancelled_between_two_chunks);
    RUN(test_W4_next_is_exact_near_and_a_lower_bound_far);
    RUN(test_W4_following_next_reaches_a_deadline_in_few_steps);
    RUN(test_time_that_goes_back_is_ignored);
    RUN(test_memory_is_reused);
    RUN(test_random_histories_agree_with_a_sorted_list);
    RUN(test_a_million_late_timers_come_out_sorted);
    return 0;
}
