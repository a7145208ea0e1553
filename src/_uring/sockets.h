/* Socket calls that the uring and epoll sources share: they differ in waiting, not in sockets. */
#ifndef PYBEHAVE_SOCKETS_H
#define PYBEHAVE_SOCKETS_H

#include "source.h"

/* A bound, listening stream socket with the options set; -errno. Retries a port that is still held
 * by the ring of a killed process: its teardown is asynchronous (seen up to 12 ms). */
int sockets_listen(const struct sockaddr *, socklen_t, const listen_options *, int nonblocking);
/* Check that fd is a listening stream socket and set its blocking mode; fd, or -errno. */
int sockets_adopt(int fd, int nonblocking);
/* A stream socket of that family for connect; -errno. */
int sockets_stream(int family, int nonblocking);
/* Whether bytes that were sent, or the FIN behind them, are still on their way (Linux, SIOCOUTQ: on
 * TCP what is not acknowledged, on Unix sockets what the peer has not read). */
int sockets_unacknowledged(int fd);
/* Close; with reset the peer sees RST and unsent data is dropped. */
void sockets_close(int fd, int reset);
/* Take one waiting connection with the spare descriptor and reset it, so that a peer is refused
 * rather than left hanging when descriptors have run out. Returns the new spare, or -1. */
int sockets_refuse_one(int listener, int spare);
int sockets_spare(void);
/* The peer's address as text (192.0.2.1:80, [::1]:80); 0 when there is none. */
int sockets_peer(int fd, char *out, size_t out_bytes);
/* The user at the other end of a Unix socket; -1 when there is none to be known. */
int64_t sockets_peer_uid(int fd);
uint64_t sockets_now_ns(void);

#endif
