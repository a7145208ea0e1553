/* Tests of the simulated network: listening, connecting, time, the test's own turn. */
#define _GNU_SOURCE
#include "sim_world.h"

#include <poll.h>
#include <unistd.h>

#define RECV_TOKEN token_make(OP_RECV, 1, 2)
#define ACCEPT_TOKEN token_make(OP_ACCEPT, 1, 1)
#define POLL_TOKEN token_make(OP_POLL, 1, 4)

/* ---- listening and connecting --------------------------------------------------------------- */

static void test_accept_fails_and_the_connection_waits(void) {
    world w = world_open(20);
    sim_knobs_of(w.source)->descriptors_max = 1; /* the listener itself */
    sim_peer peer = world_peer(&w);
    CHECK_EQUAL(w.verbs->accept(w.source, w.listener, ACCEPT_TOKEN), 0);
    completion got = world_expect(&w, OP_ACCEPT, -EMFILE);
    CHECK_EQUAL(got.flags, 0);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_OPEN);
    sim_knobs_of(w.source)->descriptors_max = 2;
    CHECK_EQUAL(w.verbs->accept(w.source, w.listener, ACCEPT_TOKEN), 0);
    got = world_expect(&w, OP_ACCEPT, SIM_FD_BASE + 1);
    CHECK_EQUAL(got.flags, COMPLETION_MORE);
    world_free(&w);
}

static void test_refuse_resets_one_waiting_connection(void) {
    world w = world_open(21);
    sim_peer peer = world_peer(&w);
    world_pass(&w, SECOND_NS);
    w.verbs->refuse(w.source, w.listener);
    w.verbs->refuse(w.source, w.listener); /* nobody waits: nothing happens */
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_RESET);
    world_free(&w);
}

static void test_accept_errors_of_both_kinds_come_by_chance(void) {
    world w = world_open(22);
    sim_knobs_of(w.source)->accept_failure = 500;
    int seen_emfile = 0;
    int seen_aborted = 0;
    for (int round = 0; round < 100; round++) {
        sim_peer peer = world_peer(&w);
        CHECK_EQUAL(w.verbs->accept(w.source, w.listener, ACCEPT_TOKEN), 0);
        completion got = {0};
        CHECK(world_take(&w, &got));
        seen_emfile += got.result == -EMFILE;
        seen_aborted += got.result == -ECONNABORTED;
        if (got.flags & COMPLETION_MORE) {
            CHECK_EQUAL(w.verbs->cancel(w.source, w.listener, ACCEPT_TOKEN), 0);
            (void)world_expect(&w, OP_ACCEPT, -ECANCELED);
        }
        sim_peer_release(w.source, peer);
        w.verbs->refuse(w.source, w.listener);
    }
    CHECK(seen_emfile > 0);
    CHECK(seen_aborted > 0);
    world_free(&w);
}

static void test_a_full_backlog_makes_the_next_peer_try_again(void) {
    world w = world_open(23);
    sim_peer last = 0;
    for (int i = 0; i <= WORLD_BACKLOG; i++) {
        last = world_peer(&w);
        world_pass(&w, SECOND_NS / 1000);
    }
    CHECK_EQUAL(sim_peer_state(w.source, last), SIM_PEER_CONNECTING);
    CHECK_EQUAL(w.verbs->accept(w.source, w.listener, ACCEPT_TOKEN), 0);
    world_pass(&w, 2 * SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, last), SIM_PEER_OPEN);
    world_free(&w);
}

static void test_closing_a_listener_resets_who_waits_and_refuses_the_next(void) {
    world w = world_open(24);
    sim_peer waiting = world_peer(&w);
    world_pass(&w, SECOND_NS);
    world_close(&w, w.listener);
    sim_peer late = world_peer(&w);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, waiting), SIM_PEER_RESET);
    CHECK_EQUAL(sim_peer_state(w.source, late), SIM_PEER_REFUSED);
    world_free(&w);
}

static int listen_at(world *w, const char *host, uint16_t port, int reuse_port) {
    struct sockaddr_in address = world_address(port);
    CHECK_EQUAL(inet_pton(AF_INET, host, &address.sin_addr), 1);
    listen_options options = {.backlog = 1, .reuse_port = reuse_port};
    return w->verbs->listen(w->source, (struct sockaddr *)&address, sizeof address, &options);
}

static void test_addresses_are_checked_and_matched(void) {
    world w = world_open(25);
    CHECK_EQUAL(listen_at(&w, "127.0.0.1", WORLD_PORT, 0), -EADDRINUSE);
    CHECK_EQUAL(listen_at(&w, "127.0.0.1", WORLD_PORT, 1), -EADDRINUSE);
    CHECK(listen_at(&w, "127.0.0.1", 7000, 1) > 0);
    CHECK(listen_at(&w, "127.0.0.1", 7000, 1) > 0);
    CHECK(listen_at(&w, "0.0.0.0", 7001, 0) > 0);
    struct sockaddr_in other = world_address(7001);
    sim_peer peer = sim_peer_connect(w.source, (struct sockaddr *)&other, sizeof other);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_OPEN);
    int fd = listen_at(&w, "127.0.0.1", 0, 0);
    struct sockaddr_in given;
    CHECK_EQUAL(sim_address_of(w.source, fd, (struct sockaddr *)&given, sizeof given),
                sizeof given);
    CHECK(ntohs(given.sin_port) >= 40000);
    world_free(&w);
}

static void test_v6_and_unix_addresses(void) {
    world w = world_open(26);
    struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(8000)};
    listen_options options = {.backlog = 8};
    CHECK(w.verbs->listen(w.source, (struct sockaddr *)&any, sizeof any, &options) > 0);
    struct sockaddr_in v4 = world_address(8000);
    sim_peer peer = sim_peer_connect(w.source, (struct sockaddr *)&v4, sizeof v4);
    struct sockaddr_in6 v6 = any;
    v6.sin6_addr = in6addr_loopback;
    sim_peer peer6 = sim_peer_connect(w.source, (struct sockaddr *)&v6, sizeof v6);
    struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/run/x.sock"};
    CHECK(w.verbs->listen(w.source, (struct sockaddr *)&path, sizeof path, &options) > 0);
    sim_peer local = sim_peer_connect(w.source, (struct sockaddr *)&path, sizeof path);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_OPEN);
    CHECK_EQUAL(sim_peer_state(w.source, peer6), SIM_PEER_OPEN);
    CHECK_EQUAL(sim_peer_state(w.source, local), SIM_PEER_OPEN);
    world_free(&w);
}

static void test_an_inherited_listener_can_be_adopted_once(void) {
    world w = world_open(27);
    struct sockaddr_in address = world_address(9000);
    int fd = sim_inherit(w.source, (struct sockaddr *)&address, sizeof address, 4);
    CHECK_EQUAL(w.verbs->adopt(w.source, fd), fd);
    CHECK_EQUAL(w.verbs->adopt(w.source, fd), -EBADF);
    CHECK_EQUAL(w.verbs->adopt(w.source, 3), -EBADF);
    CHECK_EQUAL(w.verbs->accept(w.source, fd, ACCEPT_TOKEN), 0);
    world_free(&w);
}

static void test_the_program_connects_out(void) {
    world w = world_open(28);
    int fd = world_connect(&w, SIM_ANSWER_ACCEPT);
    (void)world_expect(&w, OP_CONNECT, 0);
    sim_event event = {0, 0, 0};
    CHECK_EQUAL(sim_next_event(w.source, &event), 1);
    CHECK_EQUAL(event.kind, SIM_ACCEPTED);
    CHECK_EQUAL(sim_peer_send(w.source, event.peer, "hi", 2), 2);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, 2);
    world_free(&w);
}

static void test_a_connect_is_refused_or_times_out_or_is_cancelled(void) {
    world w = world_open(29);
    int fd = world_connect(&w, SIM_ANSWER_REFUSE);
    (void)world_expect(&w, OP_CONNECT, -ECONNREFUSED);
    world_close(&w, fd);
    fd = world_connect(&w, SIM_ANSWER_SILENCE);
    uint64_t before_ns = w.verbs->now(w.source);
    world_pass(&w, 100 * SECOND_NS);
    (void)world_expect(&w, OP_CONNECT, -ETIMEDOUT);
    CHECK(w.verbs->now(w.source) >= before_ns + 127 * SECOND_NS);
    world_close(&w, fd);
    fd = world_connect(&w, SIM_ANSWER_SILENCE);
    CHECK_EQUAL(w.verbs->cancel(w.source, fd, WORLD_CONNECT_TOKEN), 0);
    (void)world_expect(&w, OP_CONNECT, -ECANCELED);
    world_close(&w, fd);
    struct sockaddr_in nobody = world_address(1);
    fd = w.verbs->connect(w.source, (struct sockaddr *)&nobody, sizeof nobody, WORLD_CONNECT_TOKEN);
    (void)world_expect(&w, OP_CONNECT, -ECONNREFUSED);
    world_close(&w, fd);
    sim_census census;
    sim_census_take(w.source, &census);
    CHECK_EQUAL(census.links, 0);
    world_free(&w);
}

/* ---- time ----------------------------------------------------------------------------------- */

static void test_waiting_passes_virtual_time_exactly_to_the_deadline(void) {
    world w = world_open(30);
    uint64_t hour_ns = 3600 * SECOND_NS;
    uint64_t deadline_ns = w.verbs->now(w.source) + hour_ns;
    wait_request request = {deadline_ns, 1, 0};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), 0);
    CHECK(w.verbs->now(w.source) == deadline_ns);
    request.deadline_ns = 0; /* does not block, still takes a moment */
    CHECK_EQUAL(w.verbs->wait(w.source, &request), 0);
    CHECK(w.verbs->now(w.source) > deadline_ns);
    CHECK(w.verbs->now(w.source) < deadline_ns + SECOND_NS);
    world_free(&w);
}

static void test_wait_gathers_until_enough_or_the_short_wait_is_over(void) {
    world w = world_open(31);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->jitter_ns_max = 0;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "a", 1), 1);
    uint64_t before_ns = w.verbs->now(w.source);
    wait_request request = {before_ns + SECOND_NS, 8, 500};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), 0);
    CHECK_EQUAL(w.verbs->ready(w.source), 1);
    CHECK(w.verbs->now(w.source) >= before_ns + 500000);
    CHECK(w.verbs->now(w.source) < before_ns + SECOND_NS);
    world_free(&w);
}

static void test_wait_can_be_interrupted(void) {
    world w = world_open(32);
    sim_knobs_of(w.source)->wait_interrupted = SIM_PER_MILLE;
    wait_request request = {WAIT_FOREVER, 1, 0};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), -EINTR);
    world_free(&w);
}

static void test_waiting_for_ever_for_nothing_is_an_error(void) {
    world w = world_open(33);
    wait_request request = {WAIT_FOREVER, 1, 0};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), -EDEADLK);
    world_free(&w);
}

static void test_a_real_descriptor_can_be_polled(void) {
    world w = world_open(34);
    int ends[2];
    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(w.verbs->poll(w.source, ends[0], POLL_TOKEN), 0);
    world_expect_nothing(&w);
    CHECK_EQUAL(write(ends[1], "x", 1), 1);
    wait_request request = {WAIT_FOREVER, 1, 0};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), 0);
    (void)world_expect(&w, OP_POLL, POLLIN);
    CHECK_EQUAL(w.verbs->poll(w.source, ends[0], POLL_TOKEN), 0);
    (void)world_expect(&w, OP_POLL, POLLIN);
    char byte;
    CHECK_EQUAL(read(ends[0], &byte, 1), 1);
    CHECK_EQUAL(w.verbs->poll(w.source, ends[0], POLL_TOKEN), 0);
    CHECK_EQUAL(w.verbs->cancel(w.source, ends[0], POLL_TOKEN), 0);
    (void)world_expect(&w, OP_POLL, -ECANCELED);
    close(ends[0]);
    close(ends[1]);
    world_free(&w);
}

/* ---- the test's turn ------------------------------------------------------------------------ */

typedef struct script {
    source *source;
    int64_t alarms, quiets;
    uint64_t alarm_ns;
} script;

static int script_turn(void *context) {
    script *self = context;
    sim_event event;
    int wants_return = 0;
    while (sim_next_event(self->source, &event)) {
        if (event.kind == SIM_ALARM) {
            self->alarms += event.value;
            self->alarm_ns = self->source->verbs->now(self->source);
        } else if (event.kind == SIM_QUIET) {
            self->quiets++;
            wants_return = 1;
        }
    }
    return wants_return;
}

static void test_the_hook_is_called_at_the_virtual_moment(void) {
    world w = world_open(35);
    script play = {w.source, 0, 0, 0};
    sim_set_hook(w.source, script_turn, &play);
    uint64_t at_ns = w.verbs->now(w.source) + 1234567;
    sim_alarm(w.source, at_ns, 40);
    sim_alarm(w.source, at_ns, 2);
    wait_request request = {WAIT_FOREVER, 1, 0};
    CHECK_EQUAL(w.verbs->wait(w.source, &request), 0);
    CHECK_EQUAL(play.alarms, 42);
    CHECK(play.alarm_ns == at_ns);
    CHECK_EQUAL(play.quiets, 1); /* and then it heard that nothing is left */
    world_free(&w);
}

int main(void) {
    RUN(test_accept_fails_and_the_connection_waits);
    RUN(test_refuse_resets_one_waiting_connection);
    RUN(test_accept_errors_of_both_kinds_come_by_chance);
    RUN(test_a_full_backlog_makes_the_next_peer_try_again);
    RUN(test_closing_a_listener_resets_who_waits_and_refuses_the_next);
    RUN(test_addresses_are_checked_and_matched);
    RUN(test_v6_and_unix_addresses);
    RUN(test_an_inherited_listener_can_be_adopted_once);
    RUN(test_the_program_connects_out);
    RUN(test_a_connect_is_refused_or_times_out_or_is_cancelled);
    RUN(test_waiting_passes_virtual_time_exactly_to_the_deadline);
    RUN(test_wait_gathers_until_enough_or_the_short_wait_is_over);
    RUN(test_wait_can_be_interrupted);
    RUN(test_waiting_for_ever_for_nothing_is_an_error);
    RUN(test_a_real_descriptor_can_be_polled);
    RUN(test_the_hook_is_called_at_the_virtual_moment);
    return 0;
}
