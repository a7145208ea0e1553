/* The load generator: many connections, a fixed number of messages in flight on each.
 *
 *   load PORT CONNECTIONS PIPELINE BYTES CPU
 *
 * It opens its connections once and then waits for commands on standard input. `window SECONDS`
 * drives them for so long and answers with one line of JSON; between windows it is idle, so many
 * generators can be up at once and their windows be interleaved.
 *
 * Within a window it spins on epoll_wait(0) and never sleeps: a closed loop whose client sleeps
 * measures wake-ups. A batch of PIPELINE messages goes out in one write, and the next one when the
 * whole answer has come; its round trip goes into a histogram of 2 % wide buckets. Every answer is
 * compared with what was sent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 512, BUCKETS = 1200, BATCH_BYTES_MAX = 1 << 20 };

typedef struct peer {
    int fd;
    size_t got; /* bytes of the current answer */
    uint64_t sent_ns;
} peer;

typedef struct load {
    int epoll_fd, peers_count, pipeline;
    size_t batch_bytes;
    peer *peers;
    char *batch, *answer;
    uint64_t count, errors, window_ends_ns;
    uint64_t buckets[BUCKETS];
} load;

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void fail(const char *what) {
    fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int dial(int port) {
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof to) < 0) {
        fail("connect");
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void open_all(load *self, int port) {
    close(dial(port)); /* warms asyncio's receive buffer, see bench/README.md */
    self->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    for (int index = 0; index < self->peers_count; index++) {
        peer *p = &self->peers[index];
        p->fd = dial(port);
        struct epoll_event event = {.events = EPOLLIN, .data = {.ptr = p}};
        epoll_ctl(self->epoll_fd, EPOLL_CTL_ADD, p->fd, &event);
    }
}

static void send_batch(load *self, peer *p) {
    size_t done = 0;
    p->got = 0;
    p->sent_ns = now_ns();
    while (done < self->batch_bytes) {
        ssize_t sent = send(p->fd, self->batch + done, self->batch_bytes - done, MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN && errno != EINTR) {
            fail("send");
        }
        done += sent > 0 ? (size_t)sent : 0;
    }
}

static void record(load *self, uint64_t latency_ns) {
    int bucket = (int)(log((double)latency_ns) / log(1.02));
    self->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
}

/* Returns 1 when a whole batch has been answered. */
static int receive(load *self, peer *p) {
    ssize_t got = recv(p->fd, self->answer, self->batch_bytes - p->got, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        fail("the server closed a connection");
    }
    self->errors += memcmp(self->answer, self->batch + p->got, (size_t)got) != 0;
    p->got += (size_t)got;
    if (p->got < self->batch_bytes) {
        return 0;
    }
    record(self, now_ns() - p->sent_ns);
    self->count += (uint64_t)self->pipeline;
    return 1;
}

static double percentile(const load *self, double share) {
    uint64_t total = 0;
    uint64_t seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        total += self->buckets[bucket];
    }
    for (int bucket = 0; bucket < BUCKETS; bucket++) {
        seen += self->buckets[bucket];
        if (total > 0 && (double)seen >= share * (double)total) {
            return pow(1.02, bucket + 0.5) / 1000.0;
        }
    }
    return 0.0;
}

static void window(load *self, double seconds) {
    struct epoll_event events[EVENTS];
    int busy = self->peers_count;
    self->count = self->errors = 0;
    memset(self->buckets, 0, sizeof self->buckets);
    uint64_t began = now_ns();
    uint64_t ends = began + (uint64_t)(seconds * 1e9);
    for (int index = 0; index < self->peers_count; index++) {
        send_batch(self, &self->peers[index]);
    }
    while (busy > 0) {
        int ready = epoll_wait(self->epoll_fd, events, EVENTS, 0);
        int is_over = now_ns() >= ends;
        for (int index = 0; index < ready; index++) {
            peer *p = events[index].data.ptr;
            if (!receive(self, p)) {
                continue;
            }
            if (is_over) {
                busy--; /* every answer is awaited: the next window begins with none in flight */
            } else {
                send_batch(self, p);
            }
        }
    }
    double took = (double)(now_ns() - began) / 1e9;
    printf("{\"count\": %llu, \"seconds\": %.6f, \"errors\": %llu, \"p50_us\": %.2f, "
           "\"p90_us\": %.2f, \"p99_us\": %.2f, \"p999_us\": %.2f}\n",
           (unsigned long long)self->count, took, (unsigned long long)self->errors,
           percentile(self, 0.5), percentile(self, 0.9), percentile(self, 0.99),
           percentile(self, 0.999));
    fflush(stdout);
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (cpu >= 0) {
        sched_setaffinity(0, sizeof set, &set);
    }
}

int main(int count, char **words) {
    if (count != 6) {
        fprintf(stderr, "usage: load PORT CONNECTIONS PIPELINE BYTES CPU\n");
        return 2;
    }
    load self;
    memset(&self, 0, sizeof self);
    self.peers_count = atoi(words[2]);
    self.pipeline = atoi(words[3]);
    self.batch_bytes = (size_t)self.pipeline * (size_t)atoi(words[4]);
    if (self.peers_count < 1 || self.batch_bytes < 1 || self.batch_bytes > BATCH_BYTES_MAX) {
        fprintf(stderr, "load: bad numbers\n");
        return 2;
    }
    pin(atoi(words[5]));
    self.peers = calloc((size_t)self.peers_count, sizeof *self.peers);
    self.batch = malloc(self.batch_bytes);
    self.answer = malloc(self.batch_bytes);
    for (size_t index = 0; index < self.batch_bytes; index++) {
        self.batch[index] = (char)('a' + index % 26);
    }
    open_all(&self, atoi(words[1]));
    puts("ready");
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL) {
        double seconds = 0;
        if (sscanf(line, "window %lf", &seconds) == 1) {
            window(&self, seconds);
        }
    }
    return 0;
}
