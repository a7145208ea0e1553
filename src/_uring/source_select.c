/* Which completion source: probed by trying, never by version number alone.
 *
 * Order for `auto`: uring-full, uring-basic, epoll. A tier counts only after a functional self-test
 * on a socket pair: receive must deliver the bytes in a provided buffer (and stay armed on the full
 * tier), cancel must end it. The reason is one sentence a person can act on; for a refusal it is
 * decided by reading the two switches that exist (seccomp mode of this process, the sysctl), since
 * the errno alone misleads: container profiles are seen to answer EPERM and ENOSYS alike.
 */
#define _GNU_SOURCE
#include "source.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    TEST_BUFFERS = 16,
    TEST_BUFFER_BYTES = 64,
    TEST_ENTRIES = 16,
    TEST_ROUNDS_MAX = 8,
    TEST_DEADLINE_NS = 200 * 1000 * 1000,
};

void source_free(source *self) {
    if (self != NULL) {
        self->verbs->close(self);
        free(self);
    }
}

/* ---- the self-test ----------------------------------------------------------------------- */

/* Wait until one completion is there. 1 = yes, 0 = none in time, negative = errno. */
static int test_take(source *self, completion *out) {
    for (int round = 0; round < TEST_ROUNDS_MAX; round++) {
        wait_request request = {self->verbs->now(self) + TEST_DEADLINE_NS, 1, 0};
        int error = self->verbs->wait(self, &request);
        if (error < 0 && error != -EINTR) {
            return error;
        }
        if (self->verbs->reap(self, out, 1) == 1) {
            return 1;
        }
    }
    return 0;
}

static int test_receive(source *self, const int pair[2], int is_multishot) {
    uint64_t token = token_make(OP_RECV, 1, 1);
    completion got;
    int error = self->verbs->recv(self, pair[0], token);
    if (error < 0 || send(pair[1], "pybehave", 8, MSG_NOSIGNAL) != 8) {
        return error < 0 ? error : -EIO;
    }
    int count = test_take(self, &got);
    if (count <= 0) {
        return count < 0 ? count : -ETIME;
    }
    int has_more = (got.flags & COMPLETION_MORE) != 0;
    if (got.token != token || got.result != 8 || !(got.flags & COMPLETION_BUFFER) ||
        memcmp(got.data, "pybehave", 8) != 0 || has_more != is_multishot) {
        return -EIO;
    }
    self->verbs->buffer_return(self, got.buffer);
    if (!is_multishot) {
        error = self->verbs->recv(self, pair[0], token);
    }
    error = error < 0 ? error : self->verbs->cancel(self, pair[0], token);
    count = error < 0 ? error : test_take(self, &got);
    if (count <= 0) {
        return count < 0 ? count : -ETIME;
    }
    return got.token == token && !(got.flags & COMPLETION_MORE) && got.result < 0 ? 0 : -EIO;
}

static int self_test(int is_basic) {
    source_config config = {.submissions = TEST_ENTRIES,
                            .completions = 2 * TEST_ENTRIES,
                            .buffers = TEST_BUFFERS,
                            .buffer_bytes = TEST_BUFFER_BYTES,
                            .force_basic = is_basic};
    source *self = source_uring_new(&config);
    if (self == NULL) {
        return -ENOTSUP;
    }
    int pair[2] = {-1, -1};
    int error = self->verbs->open(self);
    error = error ? error : self->verbs->enable(self);
    if (error == 0 && socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        error = -errno;
    }
    error = error ? error : test_receive(self, pair, !is_basic);
    source_free(self);
    if (pair[0] >= 0) {
        close(pair[0]);
        close(pair[1]);
    }
    return error;
}

/* ---- reasons ----------------------------------------------------------------------------- */

static int read_number(const char *path, const char *label) {
    char line[256];
    int value = -1;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return -1;
    }
    while (value < 0 && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, label, strlen(label)) == 0) {
            value = atoi(line + strlen(label));
        }
    }
    fclose(file);
    return value;
}

static void explain_refusal(int error, char *reason, size_t bytes) {
    int disabled = read_number("/proc/sys/kernel/io_uring_disabled", "");
    int seccomp = read_number("/proc/self/status", "Seccomp:");
    if (disabled > 0) {
        snprintf(reason, bytes,
                 "io_uring is switched off by the sysctl kernel.io_uring_disabled=%d (%s)",
                 disabled,
                 disabled == 1 ? "needs CAP_SYS_ADMIN or the group of kernel.io_uring_group"
                               : "off for every process");
    } else if (seccomp > 0) {
        snprintf(reason, bytes,
                 "io_uring_setup failed (%s) and this process is under seccomp, so a container "
                 "profile blocks it; allow io_uring_setup, io_uring_enter and io_uring_register",
                 strerror(error));
    } else if (error == ENOSYS) {
        snprintf(reason, bytes, "this kernel or sandbox has no io_uring");
    } else {
        snprintf(reason, bytes, "io_uring_setup failed: %s", strerror(error));
    }
}

static void explain(int error, char *reason, size_t bytes) {
    struct rlimit limit = {0, 0};
    switch (error) {
    case EPERM:
    case EACCES:
    case ENOSYS:
        explain_refusal(error, reason, bytes);
        break;
    case ENOTSUP: /* the same number as EOPNOTSUPP on Linux: two causes, told apart by the build */
#ifdef PYBEHAVE_HAVE_URING
        snprintf(reason, bytes, "the kernel lacks io_uring features that this tier needs");
#else
        snprintf(reason, bytes, "this build has no liburing (install liburing-dev and rebuild)");
#endif
        break;
    case EINVAL:
        snprintf(reason, bytes, "the kernel is older than 6.1 (no deferred task running)");
        break;
    case ENOMEM:
        getrlimit(RLIMIT_MEMLOCK, &limit);
        snprintf(reason, bytes,
                 "the ring does not fit the locked-memory limit of %llu KiB (ulimit -l, "
                 "LimitMEMLOCK=)",
                 (unsigned long long)limit.rlim_cur / 1024);
        break;
    case EMFILE:
        snprintf(reason, bytes, "no descriptor is left for the ring (ulimit -n)");
        break;
    default:
        snprintf(reason, bytes, "the io_uring self-test failed: %s", strerror(error));
    }
}

/* ---- choosing ---------------------------------------------------------------------------- */

static int open_source(source *self, source **out) {
    if (self == NULL) {
        return -ENOMEM;
    }
    int error = self->verbs->open(self);
    if (error) {
        source_free(self);
        return error;
    }
    *out = self;
    return 0;
}

static int try_uring(const source_config *config, int is_basic, source **out) {
    int error = self_test(is_basic);
    if (error) {
        return error;
    }
    source_config wanted = *config;
    wanted.force_basic = is_basic;
    return open_source(source_uring_new(&wanted), out);
}

static int choose_uring(const char *wanted, const source_config *config, source **out,
                        char *reason, size_t bytes) {
    int error = -EOPNOTSUPP;
    if (strcmp(wanted, "basic") != 0) {
        error = try_uring(config, 0, out);
        if (error == 0) {
            snprintf(reason, bytes, "io_uring with multishot (kernel 6.12 or newer)");
            return 0;
        }
    }
    char why_not_full[256] = "it was asked for";
    if (error != -EOPNOTSUPP || strcmp(wanted, "basic") != 0) {
        explain(-error, why_not_full, sizeof why_not_full);
    }
    if (strcmp(wanted, "full") != 0) {
        error = try_uring(config, 1, out);
        if (error == 0) {
            snprintf(reason, bytes, "io_uring, single-shot: %s", why_not_full);
            return 0;
        }
    }
    explain(-error, reason, bytes);
    return error;
}

int source_select(const char *wanted, const source_config *config, source **out, char *reason,
                  size_t reason_bytes) {
    if (strcmp(wanted, "sim") == 0) {
        snprintf(reason, reason_bytes, "the simulator was asked for");
        return open_source(source_sim_new(config), out);
    }
    if (strcmp(wanted, "epoll") == 0) {
        snprintf(reason, reason_bytes, "epoll was asked for");
        return open_source(source_epoll_new(config), out);
    }
    int is_auto = strcmp(wanted, "auto") == 0;
    if (!is_auto && strcmp(wanted, "uring") != 0 && strcmp(wanted, "full") != 0 &&
        strcmp(wanted, "basic") != 0) {
        snprintf(reason, reason_bytes,
                 "unknown source '%.32s': use auto, uring, full, basic, epoll or sim", wanted);
        return -EINVAL;
    }
    int error = choose_uring(wanted, config, out, reason, reason_bytes);
    return error && is_auto ? open_source(source_epoll_new(config), out) : error;
}
