/* Tests of busy_poll.c: a source of our own, whose clock goes on with each look. */
#include "../busy_poll.h"

#include "check.h"

enum { LOOK_NS = 1000, NEVER = 1000000 };

typedef struct looked {
    source base;
    uint64_t now_ns;
    int looks;
    int comes_at; /* the look that finds something */
    int own;      /* completions that are there from the first look on */
    int error;
} looked;

static int look(source *base, const wait_request *request) {
    looked *self = (looked *)base;
    CHECK_EQUAL(request->deadline_ns, 0);
    self->looks++;
    self->now_ns += LOOK_NS;
    return self->error;
}

static int is_ready(source *base) {
    looked *self = (looked *)base;
    return self->own + (self->looks >= self->comes_at);
}

static uint64_t now(source *base) { return ((looked *)base)->now_ns; }

static const source_verbs VERBS = {.wait = look, .ready = is_ready, .now = now};

/* One chance; how many looks it took. */
static int chance(busy_poll *self, int comes_at, uint64_t deadline_ns, int expected) {
    int looks[2];
    for (int own = 0; own < 2; own++) { /* with a send of our own, and without */
        busy_poll copy = *self;
        looked from = {.base = {.verbs = &VERBS}, .now_ns = 5, .comes_at = comes_at, .own = own};
        wait_request request = {deadline_ns, 1 + (uint32_t)own, 0};
        CHECK_EQUAL(busy_poll_look(own ? self : &copy, &from.base, &request), expected);
        looks[own] = from.looks;
    }
    CHECK_EQUAL(looks[0], looks[1]);
    return looks[0];
}

static void test_B1_a_try_ends_with_an_event_or_in_time(void) {
    busy_poll self = {0};
    CHECK_EQUAL(chance(&self, 1, WAIT_FOREVER, 1), 1);
    CHECK_EQUAL(chance(&self, 7, WAIT_FOREVER, 1), 7);
    CHECK_EQUAL(chance(&self, NEVER, WAIT_FOREVER, 0), BUSY_POLL_NS / LOOK_NS);
    CHECK_EQUAL(chance(&self, NEVER, 5 + 3 * LOOK_NS, 0), 3);
    CHECK_EQUAL(chance(&self, NEVER, 1, 0), 1);
}

static void test_B2_tries_that_do_not_pay_become_rare_until_one_does(void) {
    busy_poll self = {0};
    int tries = 0;
    for (int count = 0; count < BUSY_POLL_MISSES_MAX + 10 * BUSY_POLL_RARELY; count++) {
        tries += chance(&self, NEVER, WAIT_FOREVER, 0) > 0;
    }
    CHECK_EQUAL(tries, BUSY_POLL_MISSES_MAX + 10);
    for (int count = 0; count < BUSY_POLL_RARELY - 1; count++) {
        CHECK_EQUAL(chance(&self, 1, WAIT_FOREVER, 0), 0);
    }
    for (int count = 0; count < 100; count++) {
        CHECK_EQUAL(chance(&self, 1, WAIT_FOREVER, 1), 1);
    }
}

static void test_a_miss_among_many_that_pay_changes_nothing(void) {
    busy_poll self = {0};
    for (int count = 0; count < 1000; count++) {
        int comes_at = count % BUSY_POLL_MISSES_MAX ? NEVER : 1;
        CHECK(chance(&self, comes_at, WAIT_FOREVER, comes_at == 1) > 0);
    }
}

static void test_an_error_is_the_callers(void) {
    busy_poll self = {0};
    looked from = {.base = {.verbs = &VERBS}, .comes_at = NEVER, .error = -4};
    wait_request request = {WAIT_FOREVER, 1, 0};
    CHECK_EQUAL(busy_poll_look(&self, &from.base, &request), -4);
    CHECK_EQUAL(from.looks, 1);
}

int main(void) {
    RUN(test_B1_a_try_ends_with_an_event_or_in_time);
    RUN(test_B2_tries_that_do_not_pay_become_rare_until_one_does);
    RUN(test_a_miss_among_many_that_pay_changes_nothing);
    RUN(test_an_error_is_the_callers);
    return 0;
}
