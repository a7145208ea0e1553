/* A simulated source with one listener: the smallest program a verb can be called from. */
#ifndef PYBEHAVE_TESTS_SIM_WORLD_H
#define PYBEHAVE_TESTS_SIM_WORLD_H

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "../source_sim.h"
#include "check.h"

enum { WORLD_PORT = 6379, WORLD_BUFFERS = 16, WORLD_BUFFER_BYTES = 64, WORLD_BACKLOG = 8 };

#define SECOND_NS 1000000000ull

typedef struct world {
    source *source;
    const source_verbs *verbs;
    int listener;
    struct sockaddr_in address;
} world;

static inline struct sockaddr_in world_address(uint16_t port) {
    struct sockaddr_in address;
    memset(&address, 0, sizeof address);
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static inline world world_open_with(uint64_t seed, uint32_t buffers) {
    source_config config = {.submissions = 64,
                            .completions = 128,
                            .buffers = buffers,
                            .buffer_bytes = WORLD_BUFFER_BYTES,
                            .seed = seed};
    world made;
    memset(&made, 0, sizeof made);
    made.source = source_sim_new(&config);
    CHECK(made.source != NULL);
    made.verbs = made.source->verbs;
    CHECK_EQUAL(made.verbs->open(made.source), 0);
    CHECK_EQUAL(made.verbs->enable(made.source), 0);
    made.address = world_address(WORLD_PORT);
    listen_options options = {.backlog = WORLD_BACKLOG};
    made.listener = made.verbs->listen(made.source, (struct sockaddr *)&made.address,
                                       sizeof made.address, &options);
    CHECK(made.listener >= SIM_FD_BASE);
    return made;
}

static inline world world_open(uint64_t seed) { return world_open_with(seed, WORLD_BUFFERS); }

static inline void world_free(world *self) {
    self->verbs->close(self->source);
    free(self->source);
}

/* One completion within a virtual minute; 0 = none. */
static inline int world_take(world *self, completion *out) {
    uint64_t deadline_ns = self->verbs->now(self->source) + 60 * SECOND_NS;
    while (self->verbs->now(self->source) < deadline_ns) {
        if (self->verbs->reap(self->source, out, 1) == 1) {
            return 1;
        }
        wait_request request = {deadline_ns, 1, 0};
        int error = self->verbs->wait(self->source, &request);
        CHECK(error == 0 || error == -EINTR);
    }
    return (int)self->verbs->reap(self->source, out, 1);
}

/* The next completion is this one. */
static inline completion world_expect(world *self, unsigned op, int result) {
    completion got = {0};
    CHECK(world_take(self, &got));
    CHECK_EQUAL(token_op(got.token), op);
    CHECK_EQUAL(got.result, result);
    return got;
}

/* Let a virtual second pass in which nothing is completed. */
static inline void world_expect_nothing(world *self) {
    completion got;
    wait_request request = {self->verbs->now(self->source) + SECOND_NS, 1, 0};
    CHECK_EQUAL(self->verbs->wait(self->source, &request), 0);
    CHECK_EQUAL(self->verbs->reap(self->source, &got, 1), 0);
}

static inline void world_pass(world *self, uint64_t ns) {
    uint64_t until_ns = self->verbs->now(self->source) + ns;
    while (self->verbs->now(self->source) < until_ns) {
        wait_request request = {until_ns, 1000000, 0};
        (void)self->verbs->wait(self->source, &request);
    }
}

static inline sim_peer world_peer(world *self) {
    sim_peer peer = sim_peer_connect(self->source, (struct sockaddr *)&self->address,
                                     sizeof self->address);
    CHECK(peer > 0);
    return peer;
}

/* A peer and its accepted descriptor; recv is not armed. */
static inline int world_accepted(world *self, sim_peer *peer) {
    *peer = world_peer(self);
    uint64_t token = token_make(OP_ACCEPT, 1, 1);
    CHECK_EQUAL(self->verbs->accept(self->source, self->listener, token), 0);
    completion got = {0};
    CHECK(world_take(self, &got));
    CHECK(got.result >= SIM_FD_BASE);
    if (got.flags & COMPLETION_MORE) {
        CHECK_EQUAL(self->verbs->cancel(self->source, self->listener, token), 0);
        (void)world_expect(self, OP_ACCEPT, -ECANCELED);
    }
    return got.result;
}

#define WORLD_CONNECT_TOKEN token_make(OP_CONNECT, 1, 3)

/* Start to connect to a peer that answers so. */
static inline int world_connect(world *self, enum sim_answer answer) {
    struct sockaddr_in address = world_address(5432);
    CHECK_EQUAL(sim_listen(self->source, (struct sockaddr *)&address, sizeof address, answer), 0);
    int fd = self->verbs->connect(self->source, (struct sockaddr *)&address, sizeof address,
                                  WORLD_CONNECT_TOKEN);
    CHECK(fd >= SIM_FD_BASE);
    return fd;
}

static inline void world_close(world *self, int fd) { self->verbs->close_fd(self->source, fd, 0); }

#endif
