/* The load generator: many connections, a fixed number of messages in flight on each.
 *
 *   load PORT CONNECTIONS PIPELINE BYTES CPU [set KEYS]
 *
 * A message is BYTES bytes that come back as they are; or a RESP SET of a value of BYTES bytes,
 * with a key of redis-benchmark's form drawn from KEYS, to be answered with OK.
 *
 * It opens its connections once and then waits for commands on standard input. `window SECONDS`
 * drives them for so long and answers with one line of JSON; between windows it is idle, so many
 * generators can be up at once and their windows be interleaved.
 *
 * Within a window it spins on epoll_wait(0) and never sleeps: a closed loop whose client sleeps
 * measures wake-ups. A batch of PIPELINE messages goes out in one write, and the next one when the
 * whole answer has come; its round trip goes into a histogram of 2 % wide buckets. Every answer is
 * compared with what it has to be.
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

enum { EVENTS = 512, BUCKETS = 1200, BATCH_BYTES_MAX = 1 << 20, KEY_DIGITS = 12 };

typedef struct peer {
    int fd;
    size_t got; /* bytes of the current answer */
    uint64_t sent_ns;
} peer;

typedef struct load {
    int epoll_fd, peers_count, pipeline;
    size_t batch_bytes, answer_bytes;
    size_t message_bytes, key_at; /* of one command, and where its key's digits begin */
    uint64_t keys, random;        /* 0 keys: messages are echoed */
    peer *peers;
    char *batch, *expected, *answer;
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

/* Gives each command of the next batch a key of its own (xorshift64, Marsaglia 2003). */
static void draw_keys(load *self) {
    for (int index = 0; index < self->pipeline; index++) {
        self->random ^= self->random << 13;
        self->random ^= self->random >> 7;
        self->random ^= self->random << 17;
        uint64_t key = self->random % self->keys;
        char *digit = self->batch + (size_t)index * self->message_bytes + self->key_at + KEY_DIGITS;
        for (int place = 0; place < KEY_DIGITS; place++) {
            *--digit = (char)('0' + key % 10);
            key /= 10;
        }
    }
}

static void send_batch(load *self, peer *p) {
    size_t done = 0;
    if (self->keys) {
        draw_keys(self);
    }
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
    ssize_t got = recv(p->fd, self->answer, self->answer_bytes - p->got, 0);
    if (got <= 0) {
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            return 0;
        }
        fail("the server closed a connection");
    }
    self->errors += memcmp(self->answer, self->expected + p->got, (size_t)got) != 0;
    p->got += (size_t)got;
    if (p->got < self->answer_bytes) {
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

static void repeat(char *out, const char *text, size_t bytes, int times) {
    for (int index = 0; index < times; index++) {
        memcpy(out + (size_t)index * bytes, text, bytes);
    }
}

static void make_echo(load *self, size_t bytes) {
    self->batch_bytes = self->answer_bytes = (size_t)self->pipeline * bytes;
    for (size_t index = 0; index < self->batch_bytes; index++) {
        self->batch[index] = self->expected[index] = (char)('a' + index % 26);
    }
}

static void make_sets(load *self, size_t bytes) {
    char *one = malloc(bytes + 128);
    int head = sprintf(one, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%0*d\r\n$%zu\r\n",
                       KEY_DIGITS, 0, bytes);
    self->key_at = (size_t)(strchr(one, ':') + 1 - one);
    memset(one + head, 'x', bytes);
    memcpy(one + head + bytes, "\r\n", 2);
    self->message_bytes = (size_t)head + bytes + 2;
    self->batch_bytes = (size_t)self->pipeline * self->message_bytes;
    self->answer_bytes = (size_t)self->pipeline * strlen("+OK\r\n");
    if (self->batch_bytes <= BATCH_BYTES_MAX) {
        repeat(self->batch, one, self->message_bytes, self->pipeline);
        repeat(self->expected, "+OK\r\n", strlen("+OK\r\n"), self->pipeline);
    }
    free(one);
}

int main(int count, char **words) {
    if (count != 6 && !(count == 8 && strcmp(words[6], "set") == 0)) {
        fprintf(stderr, "usage: load PORT CONNECTIONS PIPELINE BYTES CPU [set KEYS]\n");
        return 2;
    }
    load self;
    memset(&self, 0, sizeof self);
    self.peers_count = atoi(words[2]);
    self.pipeline = atoi(words[3]);
    long bytes = atol(words[4]);
    self.keys = count == 8 ? strtoull(words[7], NULL, 10) : 0;
    self.random = 88172645463325252u;
    if (self.peers_count < 1 || self.pipeline < 1 || bytes < 1 ||
        bytes * self.pipeline > BATCH_BYTES_MAX || (count == 8 && self.keys < 1)) {
        fprintf(stderr, "load: bad numbers\n");
        return 2;
    }
    self.batch = malloc(BATCH_BYTES_MAX);
    self.expected = malloc(BATCH_BYTES_MAX);
    self.answer = malloc(BATCH_BYTES_MAX);
    if (self.keys) {
        make_sets(&self, (size_t)bytes);
    } else {
        make_echo(&self, (size_t)bytes);
    }
    if (self.batch_bytes > BATCH_BYTES_MAX) {
        fprintf(stderr, "load: bad numbers\n");
        return 2;
    }
    pin(atoi(words[5]));
    self.peers = calloc((size_t)self.peers_count, sizeof *self.peers);
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
