/* Echo over epoll in plain C: edge-triggered, one read and one write a turn.
 *
 *   epoll_echo PORT
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, BUFFER_BYTES = 65536 };

static char buffer[BUFFER_BYTES];

static int listen_on(int port) {
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0) {
        return -1;
    }
    return fd;
}

static void echo(int fd) {
    for (;;) {
        ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0) {
            if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
                close(fd);
            }
            return;
        }
        for (ssize_t done = 0; done < got;) {
            ssize_t sent = send(fd, buffer + done, (size_t)(got - done), MSG_NOSIGNAL);
            if (sent < 0 && errno != EAGAIN) {
                close(fd);
                return;
            }
            done += sent > 0 ? sent : 0;
        }
        if (got < (ssize_t)sizeof buffer) {
            return;
        }
    }
}

static void accept_all(int epoll_fd, int listener) {
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data = {.fd = fd}};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **words) {
    int listener = count == 2 ? listen_on(atoi(words[1])) : -1;
    int epoll_fd = epoll_create1(0);
    if (listener < 0 || epoll_fd < 0) {
        fprintf(stderr, "epoll_echo: cannot start: %s\n", strerror(errno));
        return 1;
    }
    struct epoll_event event = {.events = EPOLLIN, .data = {.fd = listener}};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        struct epoll_event events[EVENTS];
        int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
        for (int index = 0; index < ready; index++) {
            if (events[index].data.fd == listener) {
                accept_all(epoll_fd, listener);
            } else {
                echo(events[index].data.fd);
            }
        }
    }
}
