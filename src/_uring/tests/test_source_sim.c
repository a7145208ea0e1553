/* Tests of the simulated source: bytes, faults, resets, complaints. Listening, connecting and time
 * are in test_sim_network.c, random histories in test_sim_storm.c. */
#define _GNU_SOURCE
#include "sim_world.h"

#include <sys/wait.h>
#include <unistd.h>

#define RECV_TOKEN token_make(OP_RECV, 1, 2)
#define SEND_TOKEN token_make(OP_SEND, 1, 2)
#define ACCEPT_TOKEN token_make(OP_ACCEPT, 1, 1)

static void test_bytes_go_there_and_back(void) {
    world w = world_open(1);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "hello", 5), 5);
    completion got = world_expect(&w, OP_RECV, 5);
    CHECK_EQUAL(got.flags, COMPLETION_MORE | COMPLETION_BUFFER);
    CHECK_BYTES(got.data, "hello", 5);
    w.verbs->buffer_return(w.source, got.buffer);
    CHECK(got.data[0] != 'h'); /* what is returned is spoilt */
    CHECK_EQUAL(w.verbs->send(w.source, fd, "world", 5, SEND_TOKEN), 0);
    (void)world_expect(&w, OP_SEND, 5);
    world_pass(&w, SECOND_NS);
    char text[8];
    CHECK_EQUAL(sim_peer_recv(w.source, peer, text, sizeof text), 5);
    CHECK_BYTES(text, "world", 5);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_OPEN);
    world_free(&w);
}

static void test_an_orderly_end_leaves_nothing_behind(void) {
    world w = world_open(2);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_close(w.source, peer), 0);
    completion got = world_expect(&w, OP_RECV, 0);
    CHECK_EQUAL(got.flags, 0);
    world_close(&w, fd);
    sim_peer_release(w.source, peer);
    w.verbs->close_fd(w.source, w.listener, 0);
    sim_census census;
    sim_census_take(w.source, &census);
    sim_census nothing = {0};
    CHECK_BYTES(&census, &nothing, sizeof census);
    world_free(&w);
}

static void test_half_close_still_lets_the_program_answer(void) {
    world w = world_open(3);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "q", 1), 1);
    CHECK_EQUAL(sim_peer_shutdown(w.source, peer), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "q", 1), -EPIPE);
    w.verbs->buffer_return(w.source, world_expect(&w, OP_RECV, 1).buffer);
    (void)world_expect(&w, OP_RECV, 0);
    CHECK_EQUAL(w.verbs->send(w.source, fd, "a", 1, SEND_TOKEN), 0);
    (void)world_expect(&w, OP_SEND, 1);
    CHECK_EQUAL(w.verbs->shutdown(w.source, fd, SHUT_WR), 0);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_ENDED);
    CHECK_EQUAL(sim_peer_readable(w.source, peer), 1);
    world_free(&w);
}

static void test_shutdown_ends_what_is_pending(void) {
    world w = world_open(4);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->window_bytes = 4;
    CHECK_EQUAL(sim_peer_pause(w.source, peer), 0);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(w.verbs->send(w.source, fd, "12345678", 8, SEND_TOKEN), 0);
    world_expect_nothing(&w);
    CHECK_EQUAL(w.verbs->shutdown(w.source, fd, SHUT_RDWR), 0);
    completion first = {0};
    completion second = {0};
    CHECK(world_take(&w, &first) && world_take(&w, &second));
    CHECK_EQUAL(first.token == RECV_TOKEN ? first.result : second.result, 0);
    CHECK_EQUAL(first.token == SEND_TOKEN ? first.result : second.result, 4);
    world_close(&w, fd);
    world_free(&w);
}

static void test_a_slow_reader_holds_up_the_send_until_it_reads(void) {
    world w = world_open(5);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->window_bytes = 100;
    CHECK_EQUAL(sim_peer_pause(w.source, peer), 0);
    char data[1000];
    memset(data, 'x', sizeof data);
    CHECK_EQUAL(w.verbs->send(w.source, fd, data, sizeof data, SEND_TOKEN), 0);
    world_expect_nothing(&w);
    CHECK_EQUAL(sim_peer_readable(w.source, peer), 0);
    CHECK_EQUAL(sim_peer_resume(w.source, peer), 0);
    (void)world_expect(&w, OP_SEND, 1000);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_readable(w.source, peer), 1000);
    world_free(&w);
}

static void test_a_program_that_does_not_read_holds_up_the_peer(void) {
    world w = world_open(6);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->window_bytes = 10;
    CHECK_EQUAL(sim_peer_send(w.source, peer, "0123456789abc", 13), 10);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "abc", 3), 0);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, 10);
    world_pass(&w, SECOND_NS);
    sim_event event;
    int kinds = 0;
    while (sim_next_event(w.source, &event)) {
        kinds |= 1 << event.kind;
    }
    CHECK(kinds & 1 << SIM_ROOM);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "abc", 3), 3);
    world_free(&w);
}

static void test_a_direct_send_has_no_completion(void) {
    world w = world_open(7);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->direct_send = SIM_PER_MILLE;
    char data[4] = "abc";
    CHECK_EQUAL(w.verbs->send(w.source, fd, data, 3, SEND_TOKEN), 3);
    memset(data, 0, sizeof data); /* (S4) */
    world_expect_nothing(&w);
    CHECK_EQUAL(sim_peer_recv(w.source, peer, data, 3), 3);
    CHECK_BYTES(data, "abc", 3);
    world_free(&w);
}

static void test_a_short_send_ends_with_less(void) {
    world w = world_open(8);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->short_send = SIM_PER_MILLE;
    completion got = {0};
    CHECK_EQUAL(w.verbs->send(w.source, fd, "0123456789", 10, SEND_TOKEN), 0);
    CHECK(world_take(&w, &got));
    CHECK(got.result > 0 && got.result < 10);
    world_expect_nothing(&w); /* it was the only one */
    CHECK_EQUAL(sim_peer_readable(w.source, peer), got.result);
    world_free(&w);
}

static void test_S9_want_of_a_buffer_loses_no_byte(void) {
    world w = world_open_with(9, 1);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    char sent[WORLD_BUFFER_BYTES + 3];
    memset(sent, 'a', sizeof sent);
    sent[WORLD_BUFFER_BYTES] = 'z';
    CHECK_EQUAL(sim_peer_send(w.source, peer, sent, sizeof sent), sizeof sent);
    completion got = world_expect(&w, OP_RECV, WORLD_BUFFER_BYTES);
    (void)world_expect(&w, OP_RECV, -ENOBUFS);
    CHECK_EQUAL(w.source->stats.starved, 1);
    w.verbs->buffer_return(w.source, got.buffer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    got = world_expect(&w, OP_RECV, 3);
    CHECK_BYTES(got.data, "zaa", 3);
    world_free(&w);
}

static void test_multishot_can_end_at_any_completion(void) {
    world w = world_open(10);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->rearm = SIM_PER_MILLE;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "a", 1), 1);
    completion got = world_expect(&w, OP_RECV, 1);
    CHECK_EQUAL(got.flags, COMPLETION_BUFFER);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "b", 1), 1);
    world_expect_nothing(&w);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, 1);
    world_free(&w);
}

static void test_interrupted_receives_lose_nothing(void) {
    world w = world_open(11);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->interrupted = SIM_PER_MILLE;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "a", 1), 1);
    (void)world_expect(&w, OP_RECV, -EINTR);
    sim_knobs_of(w.source)->interrupted = 0;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, 1);
    world_free(&w);
}

static void test_S3_a_cancel_ends_recv_or_loses_to_data(void) {
    world w = world_open(12);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(w.verbs->cancel(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, -ECANCELED);
    CHECK_EQUAL(w.verbs->cancel(w.source, fd, RECV_TOKEN), -ENOENT);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "a", 1), 1);
    world_pass(&w, SECOND_NS); /* completed, not reaped */
    CHECK_EQUAL(w.verbs->cancel(w.source, fd, RECV_TOKEN), 0);
    completion got = world_expect(&w, OP_RECV, 1);
    CHECK(got.flags & COMPLETION_MORE);
    (void)world_expect(&w, OP_RECV, -ECANCELED);
    world_free(&w);
}

static void test_S3_a_cancelled_send_tells_how_much_went(void) {
    world w = world_open(13);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->window_bytes = 4;
    CHECK_EQUAL(sim_peer_pause(w.source, peer), 0);
    CHECK_EQUAL(w.verbs->send(w.source, fd, "12345678", 8, SEND_TOKEN), 0);
    world_expect_nothing(&w);
    CHECK_EQUAL(w.verbs->cancel(w.source, fd, SEND_TOKEN), 0);
    (void)world_expect(&w, OP_SEND, 4);
    world_free(&w);
}

static void test_S1_a_completion_may_come_long_after_shutdown(void) {
    world w = world_open(14);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->late = SIM_PER_MILLE;
    sim_knobs_of(w.source)->late_ns_max = 50 * SECOND_NS;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    world_pass(&w, 1000);
    uint64_t before_ns = w.verbs->now(w.source);
    CHECK_EQUAL(w.verbs->shutdown(w.source, fd, SHUT_RDWR), 0);
    (void)world_expect(&w, OP_RECV, 0);
    CHECK(w.verbs->now(w.source) > before_ns + SECOND_NS);
    world_expect_nothing(&w);
    world_close(&w, fd);
    world_free(&w);
}

/* ---- resets --------------------------------------------------------------------------------- */

static void test_a_reset_is_told_once_then_the_stream_has_ended(void) {
    world w = world_open(15);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(sim_peer_reset(w.source, peer), 0);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, -ECONNRESET);
    CHECK_EQUAL(w.verbs->send(w.source, fd, "a", 1, SEND_TOKEN), 0);
    (void)world_expect(&w, OP_SEND, -EPIPE);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, 0);
    CHECK_EQUAL(w.verbs->shutdown(w.source, fd, SHUT_RDWR), -ENOTCONN);
    world_close(&w, fd);
    world_free(&w);
}

static void test_closing_with_unread_bytes_resets_the_peer(void) {
    world w = world_open(16);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "unread", 6), 6);
    world_pass(&w, SECOND_NS);
    world_close(&w, fd);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_RESET);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "x", 1), -ECONNRESET);
    world_free(&w);
}

static void test_close_fd_chooses_between_end_and_reset(void) {
    for (int reset = 0; reset < 2; reset++) {
        world w = world_open(17);
        sim_peer peer;
        int fd = world_accepted(&w, &peer);
        w.verbs->close_fd(w.source, fd, reset);
        world_pass(&w, SECOND_NS);
        CHECK_EQUAL(sim_peer_state(w.source, peer), reset ? SIM_PEER_RESET : SIM_PEER_ENDED);
        world_free(&w);
    }
}

static void test_bytes_for_a_closed_peer_come_back_as_a_reset(void) {
    world w = world_open(18);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    CHECK_EQUAL(sim_peer_close(w.source, peer), 0);
    CHECK_EQUAL(w.verbs->send(w.source, fd, "a", 1, SEND_TOKEN), 0);
    (void)world_expect(&w, OP_SEND, 1);
    world_pass(&w, SECOND_NS);
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    (void)world_expect(&w, OP_RECV, -ECONNRESET);
    world_free(&w);
}

static void test_the_network_can_reset_a_connection(void) {
    world w = world_open(19);
    sim_peer peer;
    int fd = world_accepted(&w, &peer);
    sim_knobs_of(w.source)->reset = SIM_PER_MILLE;
    CHECK_EQUAL(w.verbs->recv(w.source, fd, RECV_TOKEN), 0);
    CHECK_EQUAL(sim_peer_send(w.source, peer, "a", 1), 1);
    (void)world_expect(&w, OP_RECV, 1);
    (void)world_expect(&w, OP_RECV, -ECONNRESET);
    CHECK_EQUAL(sim_peer_state(w.source, peer), SIM_PEER_RESET);
    world_free(&w);
}

/* ---- complaints ----------------------------------------------------------------------------- */

static void complain(void *context, const char *sentence) {
    const char *expected = context;
    _exit(strstr(sentence, expected) != NULL ? 77 : 1);
}

/* Run `act` in a child; it must end with a sentence that contains `expected`. */
static void expect_complaint(const char *expected, void (*act)(world *)) {
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        world w = world_open(99);
        sim_set_broken_hook(w.source, complain, (void *)(uintptr_t)expected);
        act(&w);
        fprintf(stderr, "no complaint about: %s\n", expected);
        _exit(2);
    }
    int status = 0;
    CHECK_EQUAL(waitpid(child, &status, 0), child);
    CHECK(WIFEXITED(status));
    CHECK_EQUAL(WEXITSTATUS(status), 77);
}

static void act_on_closed(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    world_close(w, fd);
    (void)w->verbs->recv(w->source, fd, RECV_TOKEN);
}

static void act_receive_twice(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->recv(w->source, fd, RECV_TOKEN);
    (void)w->verbs->recv(w->source, fd, RECV_TOKEN);
}

static void act_send_twice(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->send(w->source, fd, "a", 1, SEND_TOKEN);
    (void)w->verbs->send(w->source, fd, "b", 1, SEND_TOKEN);
}

static void act_change_memory(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    char data[] = "before";
    (void)w->verbs->send(w->source, fd, data, 6, SEND_TOKEN);
    data[3] = 'X';
    (void)world_expect(w, OP_SEND, 6);
}

static void act_close_in_flight(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->recv(w->source, fd, RECV_TOKEN);
    world_close(w, fd);
}

static void act_return_twice(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->recv(w->source, fd, RECV_TOKEN);
    (void)sim_peer_send(w->source, peer, "a", 1);
    completion got = world_expect(w, OP_RECV, 1);
    w->verbs->buffer_return(w->source, got.buffer);
    w->verbs->buffer_return(w->source, got.buffer);
}

static void act_wrong_token(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->recv(w->source, fd, SEND_TOKEN);
}

static void act_foreign_descriptor(world *w) { (void)w->verbs->recv(w->source, 5, RECV_TOKEN); }

static void act_send_before_connected(world *w) {
    int fd = world_connect(w, SIM_ANSWER_SILENCE);
    (void)w->verbs->send(w->source, fd, "a", 1, SEND_TOKEN);
}

static void act_send_nothing(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->send(w->source, fd, "", 0, SEND_TOKEN);
}

static void act_accept_on_socket(world *w) {
    sim_peer peer;
    int fd = world_accepted(w, &peer);
    (void)w->verbs->accept(w->source, fd, ACCEPT_TOKEN);
}

static void test_breaches_of_the_contract_end_with_a_sentence(void) {
    expect_complaint("which is closed", act_on_closed);
    expect_complaint("a second recv", act_receive_twice);
    expect_complaint("a second send", act_send_twice);
    expect_complaint("changed before its completion", act_change_memory);
    expect_complaint("while its recv is in flight", act_close_in_flight);
    expect_complaint("which is not lent", act_return_twice);
    expect_complaint("with a token of kind", act_wrong_token);
    expect_complaint("never gave out", act_foreign_descriptor);
    expect_complaint("which is not connected", act_send_before_connected);
    expect_complaint("send of no bytes", act_send_nothing);
    expect_complaint("does not listen", act_accept_on_socket);
    expect_complaint("seed 99", act_on_closed);
}

static void test_descriptor_numbers_are_reused_at_once(void) {
    world w = world_open(36);
    sim_peer first;
    sim_peer second;
    int fd = world_accepted(&w, &first);
    world_close(&w, fd);
    CHECK_EQUAL(world_accepted(&w, &second), fd);
    world_pass(&w, SECOND_NS);
    sim_peer_release(w.source, first);
    CHECK_EQUAL(sim_peer_state(w.source, first), -EBADF);
    CHECK_EQUAL(sim_peer_send(w.source, first, "a", 1), -EBADF);
    CHECK_EQUAL(sim_peer_state(w.source, second), SIM_PEER_OPEN);
    world_free(&w);
}

static void run_tests_of_bytes(void) {
    RUN(test_bytes_go_there_and_back);
    RUN(test_an_orderly_end_leaves_nothing_behind);
    RUN(test_half_close_still_lets_the_program_answer);
    RUN(test_shutdown_ends_what_is_pending);
    RUN(test_a_slow_reader_holds_up_the_send_until_it_reads);
    RUN(test_a_program_that_does_not_read_holds_up_the_peer);
    RUN(test_a_direct_send_has_no_completion);
    RUN(test_a_short_send_ends_with_less);
    RUN(test_S9_want_of_a_buffer_loses_no_byte);
    RUN(test_multishot_can_end_at_any_completion);
    RUN(test_interrupted_receives_lose_nothing);
    RUN(test_S3_a_cancel_ends_recv_or_loses_to_data);
    RUN(test_S3_a_cancelled_send_tells_how_much_went);
    RUN(test_S1_a_completion_may_come_long_after_shutdown);
}

int main(void) {
    run_tests_of_bytes();
    RUN(test_a_reset_is_told_once_then_the_stream_has_ended);
    RUN(test_closing_with_unread_bytes_resets_the_peer);
    RUN(test_close_fd_chooses_between_end_and_reset);
    RUN(test_bytes_for_a_closed_peer_come_back_as_a_reset);
    RUN(test_the_network_can_reset_a_connection);
    RUN(test_breaches_of_the_contract_end_with_a_sentence);
    RUN(test_descriptor_numbers_are_reused_at_once);
    return 0;
}
