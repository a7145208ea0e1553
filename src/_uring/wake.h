/* Waking a loop that waits: from other threads and from signal handlers.
 *
 * Theory. A non-blocking socket pair. The loop polls one end; anyone writes a byte to the other. A
 * socket and not an eventfd, for CPython's signal.set_wakeup_fd writes single bytes. Readability is
 * a boolean: what was asked stands in the loop's own queue, and a full pair loses nothing.
 */
#ifndef PYBEHAVE_WAKE_H
#define PYBEHAVE_WAKE_H

typedef struct wake {
    int read_fd, write_fd;
} wake;

int wake_open(wake *); /* 0 or -errno */
void wake_close(wake *);
void wake_signal(const wake *); /* any thread, any signal handler */
void wake_drain(const wake *);

#endif
