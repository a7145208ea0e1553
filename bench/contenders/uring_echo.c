/* Echo over io_uring in plain C: what the kernel can do without any Python.
 *
 *   uring_echo PORT
 *
 * Straightforward and good: deferred task running, one multishot accept, multishot receive into a
 * provided-buffer ring, one send for each receive out of the buffer it came in, one system call a
 * turn. No framing, no step.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BUFFERS = 1024, BUFFER_BYTES = 4096, ENTRIES = 4096 };
enum { ACCEPT = 1, RECV, SEND };

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static char *arena;

static __u64 tag(int what, int which) { return ((__u64)what << 32) | (unsigned)which; }

static struct io_uring_sqe *entry(void) {
    struct io_uring_sqe *sqe = io_uring_get_sqe(&ring);
    while (sqe == NULL) {
        io_uring_submit(&ring);
        sqe = io_uring_get_sqe(&ring);
    }
    return sqe;
}

static void arm(int fd) {
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = 0;
    sqe->user_data = tag(RECV, fd);
}

static void give(int id) {
    io_uring_buf_ring_add(buffers, arena + (size_t)id * BUFFER_BYTES, BUFFER_BYTES,
                          (unsigned short)id, io_uring_buf_ring_mask(BUFFERS), 0);
    io_uring_buf_ring_advance(buffers, 1);
}

static int make_ring(void) {
    struct io_uring_params params;
    memset(&params, 0, sizeof params);
    params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE |
                   IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CLAMP;
    params.cq_entries = 4 * ENTRIES;
    int error = io_uring_queue_init_params(ENTRIES, &ring, &params);
    if (error < 0) {
        return error;
    }
    io_uring_register_ring_fd(&ring);
    if (posix_memalign((void **)&buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)) != 0) {
        return -ENOMEM;
    }
    struct io_uring_buf_reg registration;
    memset(&registration, 0, sizeof registration);
    registration.ring_addr = (__u64)(unsigned long)buffers;
    registration.ring_entries = BUFFERS;
    error = io_uring_register_buf_ring(&ring, &registration, 0);
    io_uring_buf_ring_init(buffers);
    arena = malloc((size_t)BUFFERS * BUFFER_BYTES);
    for (int id = 0; id < BUFFERS && arena != NULL; id++) {
        give(id);
    }
    return arena == NULL ? -ENOMEM : error;
}

static int listen_on(int port) {
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1024) < 0) {
        return -errno;
    }
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, 0);
    sqe->user_data = tag(ACCEPT, fd);
    return fd;
}

static void received(const struct io_uring_cqe *cqe, int fd) {
    int is_armed = (cqe->flags & IORING_CQE_F_MORE) != 0;
    if (cqe->res <= 0) {
        if (cqe->res == -ENOBUFS) {
            arm(fd);
        } else if (!is_armed) {
            close(fd);
        }
        return;
    }
    int id = (int)(cqe->flags >> IORING_CQE_BUFFER_SHIFT);
    struct io_uring_sqe *sqe = entry();
    io_uring_prep_send(sqe, fd, arena + (size_t)id * BUFFER_BYTES, (size_t)cqe->res,
                       MSG_NOSIGNAL | MSG_WAITALL);
    sqe->user_data = tag(SEND, id); /* the buffer is the kernel's until then */
    if (!is_armed) {
        arm(fd);
    }
}

static void completed(const struct io_uring_cqe *cqe) {
    int fd = (int)(cqe->user_data & 0xffffffffu); /* of a send: the buffer's number */
    switch (cqe->user_data >> 32) {
    case ACCEPT:
        if (cqe->res >= 0) {
            arm(cqe->res);
        }
        break;
    case RECV:
        received(cqe, fd);
        break;
    default:
        give(fd);
        break;
    }
}

int main(int count, char **words) {
    if (count != 2 || make_ring() < 0 || listen_on(atoi(words[1])) < 0) {
        fprintf(stderr, "uring_echo: cannot start: %s\n", strerror(errno));
        return 1;
    }
    for (;;) {
        struct io_uring_cqe *cqe;
        unsigned head;
        unsigned done = 0;
        io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, cqe) {
            completed(cqe);
            done++;
        }
        io_uring_cq_advance(&ring, done);
    }
}
