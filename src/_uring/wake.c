/* See wake.h. */
#define _GNU_SOURCE
#include "wake.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

enum { DRAIN_BYTES = 256 };

int wake_open(wake *self) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0) {
        self->read_fd = self->write_fd = -1;
        return -errno;
    }
    self->read_fd = pair[0];
    self->write_fd = pair[1];
    return 0;
}

void wake_close(wake *self) {
    if (self->read_fd >= 0) {
        close(self->read_fd);
        close(self->write_fd);
    }
    self->read_fd = self->write_fd = -1;
}

void wake_signal(const wake *self) {
    char byte = 0;
    int error = errno; /* a signal handler must leave it as it was */
    while (send(self->write_fd, &byte, 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno == EINTR) {
    }
    errno = error;
}

void wake_drain(const wake *self) {
    char bytes[DRAIN_BYTES];
    ssize_t got;
    do {
        got = recv(self->read_fd, bytes, sizeof bytes, MSG_DONTWAIT);
    } while (got == (ssize_t)sizeof bytes || (got < 0 && errno == EINTR));
}
