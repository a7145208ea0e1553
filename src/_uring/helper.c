/* See helper.h. */
#define _GNU_SOURCE
#include "helper.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

enum { JOBS_MAX = 64 }; /* the journal has at most ten writes in flight */

typedef struct job {
    write_request request;
    uint64_t token;
    int32_t result;
} job;

struct helper {
    pthread_mutex_t mutex;
    pthread_cond_t wanted_some;
    pthread_t thread;
    int fd;
    int is_started, is_ending;
    job jobs[JOBS_MAX]; /* ring: done ones first, then wanted ones */
    unsigned head, done, wanted;
};

int write_in_place(const write_request *request) {
    struct iovec vector = {(void *)(uintptr_t)request->data, request->bytes};
    int flags = request->how == WRITE_DSYNC ? RWF_DSYNC : 0;
    ssize_t result = pwritev2(request->fd, &vector, 1, (off_t)request->offset, flags);
    if (result < 0) {
        return -errno;
    }
    if (request->how == WRITE_FDATASYNC && fdatasync(request->fd) < 0) {
        return -errno;
    }
    return result == 0 ? -EIO : (int)result;
}

static void *work(void *context) {
    helper *self = context;
    pthread_mutex_lock(&self->mutex);
    for (;;) {
        while (self->wanted == 0 && !self->is_ending) {
            pthread_cond_wait(&self->wanted_some, &self->mutex);
        }
        if (self->wanted == 0) {
            break;
        }
        job *next = &self->jobs[(self->head + self->done) % JOBS_MAX];
        write_request request = next->request;
        pthread_mutex_unlock(&self->mutex);
        int32_t result = write_in_place(&request);
        pthread_mutex_lock(&self->mutex);
        next->result = result;
        self->wanted--;
        self->done++;
        uint64_t one = 1;
        (void)!write(self->fd, &one, sizeof one);
    }
    pthread_mutex_unlock(&self->mutex);
    return NULL;
}

helper *helper_open(void) {
    helper *self = calloc(1, sizeof *self);
    if (self == NULL) {
        return NULL;
    }
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->fd < 0) {
        free(self);
        return NULL;
    }
    pthread_mutex_init(&self->mutex, NULL);
    pthread_cond_init(&self->wanted_some, NULL);
    return self;
}

void helper_close(helper *self) {
    pthread_mutex_lock(&self->mutex);
    self->is_ending = 1;
    pthread_cond_signal(&self->wanted_some);
    pthread_mutex_unlock(&self->mutex);
    if (self->is_started) {
        pthread_join(self->thread, NULL); /* (H2) */
    }
    pthread_cond_destroy(&self->wanted_some);
    pthread_mutex_destroy(&self->mutex);
    close(self->fd);
    free(self);
}

void helper_abandon(helper *self) { close(self->fd); } /* (H3): the rest is the parent's memory */

int helper_fd(const helper *self) { return self->fd; }

int helper_write(helper *self, const write_request *request, uint64_t token) {
    int error = 0;
    pthread_mutex_lock(&self->mutex);
    if (!self->is_started) {
        error = -pthread_create(&self->thread, NULL, work, self);
        self->is_started = error == 0;
    }
    unsigned count = self->done + self->wanted;
    if (error == 0 && count == JOBS_MAX) {
        error = -EBUSY;
    }
    if (error == 0) {
        self->jobs[(self->head + count) % JOBS_MAX] = (job){*request, token, 0};
        self->wanted++;
        pthread_cond_signal(&self->wanted_some);
    }
    pthread_mutex_unlock(&self->mutex);
    return error;
}

unsigned helper_take(helper *self, completion *out, unsigned count_max) {
    uint64_t events;
    unsigned count = 0;
    (void)!read(self->fd, &events, sizeof events);
    pthread_mutex_lock(&self->mutex);
    while (self->done > 0 && count < count_max) {
        const job *finished = &self->jobs[self->head];
        memset(&out[count], 0, sizeof *out);
        out[count].token = finished->token;
        out[count].result = finished->result;
        self->head = (self->head + 1) % JOBS_MAX;
        self->done--;
        count++;
    }
    if (self->done > 0) {
        uint64_t one = 1;
        (void)!write(self->fd, &one, sizeof one);
    }
    pthread_mutex_unlock(&self->mutex);
    return count;
}
