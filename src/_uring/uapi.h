/* Kernel constants newer than the liburing headers of current distributions.
 *
 * The values are kernel ABI and never change. Each says the kernel that brought it. Only constants
 * of requests, completions and io_uring_enter stand here, never set-up layouts: those must be known
 * to the liburing compiled against, which owns the mappings (a layout it does not know corrupts the
 * ring header and leaves a process that no signal ends).
 */
#ifndef PYBEHAVE_UAPI_H
#define PYBEHAVE_UAPI_H

#include <stdint.h>

enum {
    UAPI_RECVSEND_POLL_FIRST = 1u << 0, /* 5.19, in sqe->ioprio */
    UAPI_RECV_MULTISHOT = 1u << 1,      /* 6.0, in sqe->ioprio */
    UAPI_ACCEPT_MULTISHOT = 1u << 0,    /* 5.19, in sqe->ioprio */
};

enum {
    UAPI_ENTER_ABS_TIMER = 1u << 5,  /* 6.12 */
    UAPI_ENTER_NO_IOWAIT = 1u << 7,  /* 6.15 */
};

enum {
    UAPI_FEAT_MIN_TIMEOUT = 1u << 15, /* 6.12 */
    UAPI_FEAT_NO_IOWAIT = 1u << 17,   /* 6.15 */
};

enum {
    UAPI_REGISTER_ENABLE_RINGS = 12,     /* 5.10 */
    UAPI_REGISTER_IOWQ_MAX_WORKERS = 19, /* 5.15 */
};

/* struct io_uring_getevents_arg with the field that was padding before 6.12. */
struct uapi_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_size;
    uint32_t wait_us_min; /* 6.12, with FEAT_MIN_TIMEOUT */
    uint64_t timespec;
};

_Static_assert(sizeof(struct uapi_getevents_arg) == 24, "kernel ABI");

#endif
