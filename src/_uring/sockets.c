/* See sockets.h. */
#define _GNU_SOURCE
#include "sockets.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <linux/sockios.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    BIND_TRIES = 80,         /* 80 x 25 ms = 2 s, the bound the user is told */
    BIND_PAUSE_MS = 25,
    KEEPALIVE_INTERVAL_S = 15,
    KEEPALIVE_PROBES = 4,
};

static int set_int(int fd, int level, int name, int value) {
    return setsockopt(fd, level, name, &value, sizeof value) < 0 ? -errno : 0;
}

static int set_options(int fd, int family, const listen_options *options) {
    /* Accepted sockets inherit these, which saves system calls per connection. */
    int error = family == AF_UNIX ? 0 : set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (error == 0 && options->reuse_port) {
        error = set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (error == 0 && family == AF_INET6) {
        error = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, options->v6_only);
    }
    if (error == 0 && family != AF_UNIX && options->nodelay) {
        error = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    if (error == 0 && family != AF_UNIX && options->keepalive_s > 0) {
        error = set_int(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        error = error ? error : set_int(fd, IPPROTO_TCP, TCP_KEEPIDLE, options->keepalive_s);
        error = error ? error : set_int(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S);
        error = error ? error : set_int(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_PROBES);
    }
    return error;
}

static int bind_patiently(int fd, const struct sockaddr *address, socklen_t length) {
    struct timespec pause = {0, BIND_PAUSE_MS * 1000000L};
    for (int attempt = 0; attempt < BIND_TRIES; attempt++) {
        if (bind(fd, address, length) == 0) {
            return 0;
        }
        if (errno != EADDRINUSE || address->sa_family == AF_UNIX) {
            return -errno;
        }
        nanosleep(&pause, NULL);
    }
    return -EADDRINUSE;
}

int sockets_stream(int family, int nonblocking) {
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0) {
        return -errno;
    }
    if (family != AF_UNIX) {
        (void)set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    }
    return fd;
}

int sockets_listen(const struct sockaddr *address, socklen_t length,
                   const listen_options *options, int nonblocking) {
    int family = address->sa_family;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0) {
        return -errno;
    }
    int error = set_options(fd, family, options);
    error = error ? error : bind_patiently(fd, address, length);
    if (error == 0 && listen(fd, options->backlog) < 0) {
        error = -errno;
    }
    if (error) {
        close(fd);
        return error;
    }
    return fd;
}

int sockets_adopt(int fd, int nonblocking) {
    int listening = 0;
    int type = 0;
    socklen_t size = sizeof listening;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0) {
        return -errno;
    }
    size = sizeof type;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) < 0) {
        return -errno;
    }
    if (!listening || type != SOCK_STREAM) {
        return -EINVAL;
    }
    int flags = fcntl(fd, F_GETFL);
    flags = nonblocking ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
    if (fcntl(fd, F_SETFL, flags) < 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) < 0) {
        return -errno;
    }
    return fd;
}

int sockets_unacknowledged(int fd) {
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void sockets_close(int fd, int reset) {
    if (reset) {
        struct linger now = {1, 0};
        (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(fd);
}

int sockets_spare(void) { return open("/dev/null", O_RDONLY | O_CLOEXEC); }

int sockets_refuse_one(int listener, int spare) {
    if (spare < 0) {
        return sockets_spare();
    }
    close(spare);
    /* The listener may be blocking (uring): never wait here for a peer that has gone meanwhile. */
    int flags = fcntl(listener, F_GETFL);
    (void)fcntl(listener, F_SETFL, flags | O_NONBLOCK);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    (void)fcntl(listener, F_SETFL, flags);
    if (fd >= 0) {
        sockets_close(fd, 1);
    }
    return sockets_spare();
}

int sockets_peer(int fd, char *out, size_t out_bytes) {
    union {
        struct sockaddr any;
        struct sockaddr_in v4;
        struct sockaddr_in6 v6;
    } peer;
    char text[INET6_ADDRSTRLEN];
    socklen_t size = sizeof peer;
    if (getpeername(fd, &peer.any, &size) < 0) {
        return 0;
    }
    if (peer.any.sa_family == AF_INET && inet_ntop(AF_INET, &peer.v4.sin_addr, text, sizeof text)) {
        return snprintf(out, out_bytes, "%s:%u", text, ntohs(peer.v4.sin_port));
    }
    if (peer.any.sa_family == AF_INET6 &&
        inet_ntop(AF_INET6, &peer.v6.sin6_addr, text, sizeof text)) {
        return snprintf(out, out_bytes, "[%s]:%u", text, ntohs(peer.v6.sin6_port));
    }
    return 0;
}

int64_t sockets_peer_uid(int fd) {
    struct ucred who;
    struct sockaddr_storage own;
    socklen_t size = sizeof own;
    if (getsockname(fd, (struct sockaddr *)&own, &size) < 0 || own.ss_family != AF_UNIX) {
        return -1; /* other families answer too: with nobody's number */
    }
    size = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) < 0 ? -1 : (int64_t)who.uid;
}

uint64_t sockets_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}
