/* Tests of lost_ends.c on socket pairs. */
#define _GNU_SOURCE
#include "../lost_ends.h"

#include "check.h"

#include <sys/socket.h>
#include <unistd.h>

enum { PAIRS = 600, SLOT_HIGH = 100000 };

static void make_pair(int pair[2]) {
    CHECK_EQUAL(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
}

static void close_pair(const int pair[2]) {
    close(pair[0]);
    close(pair[1]);
}

static void test_nothing_heard_means_nothing_to_look_at(void) {
    lost_ends ends = {0};
    int pair[2];
    make_pair(pair);
    CHECK_EQUAL(lost_ends_arm(&ends, 1, pair[0]), 0);
    CHECK(lost_ends_next(&ends, 5) == LOST_ENDS_NONE);
    CHECK_EQUAL(shutdown(pair[1], SHUT_WR), 0);
    CHECK_EQUAL(lost_ends_look(&ends), 0);
    lost_ends_close(&ends);
    close_pair(pair);
}

static void test_E2_one_look_after_the_last_data_and_then_none(void) {
    lost_ends ends = {0};
    int pair[2];
    make_pair(pair);
    CHECK_EQUAL(lost_ends_arm(&ends, 7, pair[0]), 0);
    lost_ends_heard(&ends, 7);
    uint64_t look_ns = lost_ends_next(&ends, 1000);
    CHECK(look_ns > 1000);
    lost_ends_heard(&ends, 7);
    CHECK_EQUAL(lost_ends_next(&ends, 2000), look_ns); /* not put off by more data */
    CHECK_EQUAL(lost_ends_look(&ends), 0);
    CHECK(lost_ends_next(&ends, 3000) == LOST_ENDS_NONE);
    lost_ends_close(&ends);
    close_pair(pair);
}

static void test_an_ended_peer_is_found_and_what_it_sent_is_still_there(void) {
    lost_ends ends = {0};
    int pair[2];
    char data[8];
    make_pair(pair);
    CHECK_EQUAL(lost_ends_arm(&ends, 0, pair[0]), 0);
    lost_ends_heard(&ends, 0);
    CHECK_EQUAL(send(pair[1], "last", 4, 0), 4);
    CHECK_EQUAL(shutdown(pair[1], SHUT_WR), 0);
    CHECK_EQUAL(lost_ends_look(&ends), 1);
    CHECK_EQUAL(recv(pair[0], data, sizeof data, MSG_DONTWAIT), 4);
    CHECK_EQUAL(recv(pair[0], data, sizeof data, MSG_DONTWAIT), 0);
    CHECK_EQUAL(send(pair[0], "reply", 5, MSG_NOSIGNAL), 5); /* only the reading side ended */
    lost_ends_close(&ends);
    close_pair(pair);
}

static void test_E1_a_disarmed_slot_is_not_looked_at(void) {
    lost_ends ends = {0};
    int pair[2];
    make_pair(pair);
    CHECK_EQUAL(lost_ends_arm(&ends, 3, pair[0]), 0);
    lost_ends_heard(&ends, 3);
    lost_ends_disarm(&ends, 3);
    CHECK_EQUAL(shutdown(pair[1], SHUT_WR), 0);
    CHECK_EQUAL(lost_ends_look(&ends), 0);
    lost_ends_close(&ends);
    close_pair(pair);
}

static void test_more_than_one_call_takes_and_slots_far_apart(void) {
    lost_ends ends = {0};
    int pairs[PAIRS][2];
    for (int index = 0; index < PAIRS; index++) {
        uint32_t slot = index == 0 ? SLOT_HIGH : (uint32_t)index;
        make_pair(pairs[index]);
        CHECK_EQUAL(lost_ends_arm(&ends, slot, pairs[index][0]), 0);
        lost_ends_heard(&ends, slot);
        if (index % 3 == 0) {
            CHECK_EQUAL(shutdown(pairs[index][1], SHUT_WR), 0);
        }
    }
    CHECK_EQUAL(lost_ends_look(&ends), PAIRS / 3);
    CHECK_EQUAL(lost_ends_look(&ends), 0);
    for (int index = 0; index < PAIRS; index++) {
        close_pair(pairs[index]);
    }
    lost_ends_close(&ends);
}

int main(void) {
    RUN(test_nothing_heard_means_nothing_to_look_at);
    RUN(test_E2_one_look_after_the_last_data_and_then_none);
    RUN(test_an_ended_peer_is_found_and_what_it_sent_is_still_there);
    RUN(test_E1_a_disarmed_slot_is_not_looked_at);
    RUN(test_more_than_one_call_takes_and_slots_far_apart);
    return 0;
}
