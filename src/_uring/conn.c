/* See conn.h for the table of states and the invariants. */
#define _GNU_SOURCE
#include "conn.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_SLOTS = 256,
    CARRY_BYTES_MIN = 512,
    CARRY_BYTES_KEPT = 65536, /* a larger carry is given back when it is empty */
    QUIET_MS = 1000, /* a few round trips, and time to read: what a client that was just answered
                        needs to see the end before its next request makes our kernel reset it */
};

#define SLOT_NONE UINT32_MAX

static void settle(conns *, conn *);

/* ---- the slab ---------------------------------------------------------------------------- */

static int list_push(slot_list *list, uint32_t slot) {
    if (list->count == list->capacity) {
        uint32_t capacity = list->capacity ? list->capacity * 2 : 64;
        uint32_t *grown = realloc(list->slots, sizeof *grown * capacity);
        if (grown == NULL) {
            return -ENOMEM;
        }
        list->slots = grown;
        list->capacity = capacity;
    }
    list->slots[list->count++] = slot;
    return 0;
}

int conns_open(conns *all, source *source, outq_pool *pool, wheel *wheel) {
    memset(all, 0, sizeof *all);
    all->source = source;
    all->pool = pool;
    all->wheel = wheel;
    all->free_head = SLOT_NONE;
    return 0;
}

void conns_close(conns *all) {
    for (uint32_t slot = 0; slot < all->chunk_count * CHUNK_SLOTS; slot++) {
        conn *c = conns_at(all, slot);
        if (c->state != CONN_FREE) {
            outq_clear(all->pool, &c->out);
            outq_abort(all->pool, &c->out);
            free(c->carry);
        }
    }
    for (uint32_t index = 0; index < all->chunk_count; index++) {
        free(all->chunks[index]);
    }
    free(all->chunks);
    free(all->dirty.slots);
    free(all->starved.slots);
    free(all->ended.slots);
    free(all->woken.slots);
    for (uint32_t index = 0; index < HELD_BATCHES; index++) {
        free(all->held[index].slots);
    }
    memset(all, 0, sizeof *all);
}

static int grow(conns *all) {
    conn **chunks = realloc(all->chunks, sizeof *chunks * (all->chunk_count + 1));
    if (chunks == NULL) {
        return -ENOMEM;
    }
    all->chunks = chunks;
    conn *chunk = calloc(CHUNK_SLOTS, sizeof *chunk);
    if (chunk == NULL) {
        return -ENOMEM;
    }
    uint32_t first = all->chunk_count * CHUNK_SLOTS;
    all->chunks[all->chunk_count++] = chunk;
    for (uint32_t index = CHUNK_SLOTS; index-- > 0;) {
        chunk[index].slot = first + index;
        chunk[index].generation = 1;
        chunk[index].protocol = all->free_head; /* the link while FREE */
        all->free_head = first + index;
    }
    return 0;
}

uint32_t conns_slots(const conns *all) { return all->chunk_count * CHUNK_SLOTS; }

conn *conns_at(const conns *all, uint32_t slot) {
    uint32_t chunk = slot / CHUNK_SLOTS;
    return chunk < all->chunk_count ? &all->chunks[chunk][slot % CHUNK_SLOTS] : NULL;
}

conn *conns_find(const conns *all, uint64_t token) {
    conn *c = conns_at(all, token_slot(token));
    if (c == NULL || c->state == CONN_FREE || c->generation != token_generation(token)) {
        return NULL; /* (C3) */
    }
    return c;
}

/* No more is read, and something is still to be answered or sent. */
static int is_leaving(const conn *c) {
    return c->state == CONN_FINISHING || c->state == CONN_DRAINING;
}

static uint64_t next_deadline(const conn *c) {
    uint64_t deadline = WHEEL_NONE;
    if (c->state == CONN_OPEN) {
        if (c->limits->idle_timeout_ms) {
            deadline = c->active_ms + c->limits->idle_timeout_ms;
        }
        if (c->limits->frame_timeout_ms && c->frame_since_ms) {
            uint64_t frame = c->frame_since_ms + c->limits->frame_timeout_ms;
            deadline = frame < deadline ? frame : deadline;
        }
    } else if (is_leaving(c) && (c->flags & CONN_HOLD)) {
        /* We owe replies: the peer's time begins when they are made. But one that has ended may
         * not be there at all any more, and a FIN does not tell. */
        if ((c->flags & CONN_PEER_ENDED) && c->limits->half_closed_ms) {
            deadline = c->linger_until_ms - c->limits->linger_ms + c->limits->half_closed_ms;
        }
    } else if (is_leaving(c)) {
        deadline = c->linger_until_ms;
    } else if (c->state == CONN_LINGERING) {
        uint64_t quiet_ms = c->spoke_ms + QUIET_MS;
        deadline = quiet_ms < c->linger_until_ms ? quiet_ms : c->linger_until_ms;
    }
    return deadline;
}

static int is_quiet(const conns *all, const conn *c) { /* (C7) */
    return (c->spoke_ms == 0 || c->spoke_ms + QUIET_MS <= all->now_ms) &&
           !all->source->verbs->unacknowledged(all->source, c->fd);
}

/* One timer serves all limits of a connection and is moved only when the new deadline is earlier:
 * a request touches no timer (the deadlines are stored, and checked when it fires). */
static void arm_timer(conns *all, conn *c) {
    uint64_t deadline = next_deadline(c);
    if (deadline == WHEEL_NONE || (c->timer != 0 && c->timer_ms <= deadline)) {
        return;
    }
    if (c->timer != 0) {
        wheel_cancel(all->wheel, c->timer);
    }
    c->timer_ms = deadline;
    c->timer = wheel_start(all->wheel, deadline, conn_token(c, OP_NONE));
}

conn *conns_add(conns *all, int fd, int state, const conn_limits *limits, void *port) {
    assert(state == CONN_OPEN || state == CONN_CONNECTING);
    if (all->free_head == SLOT_NONE && grow(all) < 0) {
        return NULL;
    }
    conn *c = conns_at(all, all->free_head);
    assert(c->state == CONN_FREE);
    assert(c->in_flight == 0);
    all->free_head = c->protocol;
    uint32_t slot = c->slot;
    uint32_t generation = c->generation;
    memset(c, 0, sizeof *c);
    c->slot = slot;
    c->generation = generation;
    c->fd = fd;
    c->state = (uint8_t)state;
    c->limits = limits;
    c->active_left = limits->active;
    c->port = port;
    c->active_ms = c->opened_ms = all->now_ms;
    all->open_count++;
    c->id = ++all->stats.opened;
    if (state == CONN_CONNECTING) {
        c->in_flight = 1;
    } else {
        arm_timer(all, c);
    }
    return c;
}

void conns_release(conns *all, conn *c) {
    assert(c->state == CONN_ENDED);
    assert(c->in_flight == 0); /* (C1) */
    c->state = CONN_FREE;
    c->generation = (c->generation + 1) & TOKEN_GENERATION_MASK;
    c->generation += c->generation == 0; /* 0 would make a token look empty */
    c->protocol = all->free_head;
    all->free_head = c->slot;
    all->open_count--;
    all->stats.closed++;
}

/* ---- closing ----------------------------------------------------------------------------- */

static void end(conns *all, conn *c) {
    assert(c->in_flight == 0); /* (C1) */
    if (c->timer != 0) {
        wheel_cancel(all->wheel, c->timer);
        c->timer = 0;
    }
    int is_reset = c->reason == END_SLOW_CONSUMER || c->reason == END_LINGER ||
                   c->reason == END_DISK;
    if (c->fd >= 0) {
        all->source->verbs->close_fd(all->source, c->fd, is_reset);
    }
    outq_clear(all->pool, &c->out);
    outq_abort(all->pool, &c->out);
    free(c->carry);
    c->carry = NULL;
    c->carry_bytes = c->carry_capacity = 0;
    c->fd = -1;
    c->state = CONN_ENDED;
    all->stats.ended[c->reason]++;
    (void)list_push(&all->ended, c->slot);
}

static void begin_close(conns *all, conn *c) {
    int was_connecting = c->state == CONN_CONNECTING;
    c->state = CONN_CLOSING;
    if (c->in_flight > 0 && was_connecting) {
        (void)all->source->verbs->cancel(all->source, c->fd, conn_token(c, OP_CONNECT));
        return;
    }
    if (c->in_flight > 0) {
        /* Ends what is pending; close would not, and the number could name a new peer meanwhile. */
        (void)all->source->verbs->shutdown(all->source, c->fd, SHUT_RDWR);
        return;
    }
    end(all, c);
}

/* Take the steps that have become possible. */
static void settle(conns *all, conn *c) {
    if (c->state == CONN_DRAINING && !(c->flags & CONN_HOLD) && outq_bytes(&c->out) == 0 &&
        c->held <= all->durable_batch) {
        if ((c->flags & CONN_PEER_ENDED) || c->limits->linger_ms == 0 || is_quiet(all, c)) {
            begin_close(all, c);
            return;
        }
        (void)all->source->verbs->shutdown(all->source, c->fd, SHUT_WR);
        c->state = CONN_LINGERING;
        arm_timer(all, c);
        conn_arm(all, c);
    }
    if (c->state == CONN_LINGERING && (c->flags & CONN_PEER_ENDED)) {
        begin_close(all, c);
        return;
    }
    if (c->state == CONN_CLOSING && c->in_flight == 0) {
        end(all, c);
    }
}

void conn_finish(conns *all, conn *c, int reason) {
    if (c->state == CONN_CONNECTING) {
        conn_abort(all, c, reason, 0);
        return;
    }
    if (!conn_takes_input(c)) {
        return;
    }
    c->reason = (uint8_t)reason;
    c->state = CONN_DRAINING;
    c->carry_bytes = 0;
    c->linger_until_ms = all->now_ms + c->limits->linger_ms;
    arm_timer(all, c);
    settle(all, c);
}

void conn_finish_received(conns *all, conn *c, int reason) {
    if (c->state != CONN_OPEN || c->carry_bytes == 0) {
        conn_finish(all, c, reason);
        return;
    }
    c->reason = (uint8_t)reason;
    c->state = CONN_FINISHING;
    c->linger_until_ms = all->now_ms + c->limits->linger_ms;
    arm_timer(all, c);
    if (c->paused == 0) {
        (void)list_push(&all->woken, c->slot);
    }
}

void conn_abort(conns *all, conn *c, int reason, int error) {
    if (c->state == CONN_FREE || c->state == CONN_CLOSING || c->state == CONN_ENDED) {
        return;
    }
    if (c->reason == END_NONE || c->state == CONN_OPEN) {
        c->reason = (uint8_t)reason;
        c->error = (int16_t)error;
    } else if (reason == END_LINGER) {
        c->reason = END_LINGER;
    }
    outq_clear(all->pool, &c->out);
    begin_close(all, c);
}

void conn_released_hold(conns *all, conn *c) {
    c->flags &= (uint8_t)~CONN_HOLD;
    if (is_leaving(c)) {
        c->linger_until_ms = all->now_ms + c->limits->linger_ms;
        arm_timer(all, c);
    }
    settle(all, c);
}

void conn_enter(conn *c) { c->in_flight++; }

void conn_leave(conns *all, conn *c) {
    assert(c->in_flight > 0);
    c->in_flight--;
    if (c->state == CONN_FINISHING && (c->paused == 0 || c->carry_bytes == 0)) {
        conn_finish(all, c, c->reason); /* what came before the end has been taken now */
    }
    if (c->state == CONN_CLOSING) {
        settle(all, c);
    }
}

/* ---- receiving --------------------------------------------------------------------------- */

/* A passive one is read up to its high water: it would not be seen to end otherwise. */
static int wants_input(const conn *c) {
    if (c->state == CONN_OPEN && c->paused == PAUSE_PASSIVE) {
        return c->carry_bytes <= c->limits->high_water_bytes;
    }
    return (c->state == CONN_OPEN && c->paused == 0) || c->state == CONN_LINGERING;
}

void conn_arm(conns *all, conn *c) {
    int wants = wants_input(c);
    if (!wants || (c->flags & (CONN_RECV | CONN_PEER_ENDED | CONN_STARVED))) {
        return; /* (C2) */
    }
    int error = all->source->verbs->recv(all->source, c->fd, conn_token(c, OP_RECV));
    if (error < 0) {
        conn_abort(all, c, END_RESET, -error);
        return;
    }
    c->flags |= CONN_RECV;
    c->in_flight++;
}

/* A pause stops parsing at once but leaves the receive armed: most are over within a tick, and
 * cancelling costs a round through the kernel. stop_receiving follows when input piles up. */
void conn_pause(conns *all, conn *c, int why) {
    if (c->paused == 0) {
        all->stats.pauses++;
    }
    c->paused |= (uint8_t)why;
}

static void stop_receiving(conns *all, conn *c) {
    if ((c->flags & CONN_RECV) && !(c->flags & CONN_CANCELLING)) {
        c->flags |= CONN_CANCELLING;
        (void)all->source->verbs->cancel(all->source, c->fd, conn_token(c, OP_RECV));
    }
}

void conn_resume(conns *all, conn *c, int why) {
    if (!(c->paused & why)) {
        return;
    }
    c->paused &= (uint8_t)~why;
    if (c->paused == 0 && conn_takes_input(c)) {
        if (c->carry_bytes > 0) {
            (void)list_push(&all->woken, c->slot);
        }
        if (c->carry_bytes > c->limits->high_water_bytes) {
            return; /* read again when that has been parsed: each resume would add to it */
        }
    }
    conn_arm(all, c);
}

void conn_activate(conns *all, conn *c, uint32_t messages) {
    c->active_left = messages;
    if (messages == 0) {
        conn_pause(all, c, PAUSE_PASSIVE);
    } else {
        conn_resume(all, c, PAUSE_PASSIVE);
    }
}

void conn_give_back(conns *all, conn *c) {
    uint32_t most = c->limits->active > 0 ? c->limits->active : 1;
    if (c->active_left < most) {
        conn_activate(all, c, c->active_left + 1);
    }
}

void conn_still(conns *all, conn *c) {
    assert(c->state == CONN_OPEN || conn_is_unasked(c));
    conn_pause(all, c, PAUSE_MOVING);
    stop_receiving(all, c);
}

int conn_is_still(const conns *all, const conn *c) {
    /* The end of its peer is read once more by whoever takes it over, behind what waits here. */
    int is_whole = c->state == CONN_OPEN || (c->state == CONN_FINISHING && c->reason == END_PEER);
    return is_whole && (c->paused & PAUSE_MOVING) && c->in_flight == 0 &&
           !(c->flags & CONN_HOLD) && outq_bytes(&c->out) == 0 && c->held <= all->durable_batch;
}

static int recv_failed(conns *all, conn *c, int result) {
    switch (-result) {
    case ENOBUFS:
        c->flags |= CONN_STARVED;
        (void)list_push(&all->starved, c->slot);
        break;
    case ECANCELED:
    case EINTR:
    case EAGAIN:
        if (c->state == CONN_OPEN && c->paused == 0 &&
            c->carry_bytes > c->limits->high_water_bytes) {
            (void)list_push(&all->woken, c->slot); /* as in conn_resume */
        } else {
            conn_arm(all, c);
        }
        break;
    default:
        conn_abort(all, c, END_RESET, -result);
    }
    return INPUT_NONE;
}

int conn_recv_completed(conns *all, conn *c, const completion *done) {
    if (!(done->flags & COMPLETION_MORE)) {
        assert(c->in_flight > 0);
        c->in_flight--;
        c->flags &= (uint8_t)~(CONN_RECV | CONN_CANCELLING);
    }
    if (done->flags & COMPLETION_BUFFER) {
        if (c->state == CONN_OPEN && done->result > 0) {
            all->stats.recv_bytes += (uint64_t)done->result;
            c->active_ms = c->spoke_ms = all->now_ms;
            return INPUT_DATA;
        }
        all->source->verbs->buffer_return(all->source, done->buffer);
    }
    if (c->state == CONN_CLOSING) {
        settle(all, c);
        return INPUT_NONE;
    }
    if (done->result < 0) {
        return recv_failed(all, c, done->result);
    }
    if (done->result > 0) { /* dropped: no longer OPEN */
        c->spoke_ms = all->now_ms;
        conn_arm(all, c);
        return INPUT_NONE;
    }
    c->flags |= CONN_PEER_ENDED;
    if (c->state == CONN_OPEN) {
        conn_finish_received(all, c, END_PEER);
    } else {
        settle(all, c);
    }
    return INPUT_NONE;
}

void conns_feed_starved(conns *all) {
    uint32_t count = all->starved.count;
    for (uint32_t index = 0; index < count; index++) {
        conn *c = conns_at(all, all->starved.slots[index]);
        c->flags &= (uint8_t)~CONN_STARVED;
        conn_arm(all, c);
    }
    all->starved.count = 0;
}

int conn_carry(conns *all, conn *c, const uint8_t *data, size_t length, size_t need) {
    size_t bytes = c->carry_bytes + length;
    if (bytes > c->carry_capacity) {
        size_t capacity = c->carry_capacity ? c->carry_capacity * 2 : CARRY_BYTES_MIN;
        capacity = capacity < bytes ? bytes : capacity;
        capacity = capacity < need ? need : capacity;
        uint8_t *grown = realloc(c->carry, capacity);
        if (grown == NULL) {
            return -ENOMEM;
        }
        c->carry = grown;
        c->carry_capacity = capacity;
    }
    memcpy(c->carry + c->carry_bytes, data, length);
    if (c->frame_since_ms == 0) {
        c->frame_since_ms = all->now_ms + (all->now_ms == 0);
        arm_timer(all, c);
    }
    c->carry_bytes = bytes;
    if (c->paused != 0 && bytes > c->limits->high_water_bytes) {
        stop_receiving(all, c);
    }
    return 0;
}

void conn_carry_consumed(conns *all, conn *c, size_t used) {
    assert(used <= c->carry_bytes);
    c->carry_bytes -= used;
    if (used > 0) {
        memmove(c->carry, c->carry + used, c->carry_bytes);
        c->frame_since_ms = c->carry_bytes > 0 ? all->now_ms + (all->now_ms == 0) : 0;
    }
    if (c->carry_bytes == 0) {
        /* An idle connection holds no buffer; malloc keeps small ones warm. */
        free(c->carry);
        c->carry = NULL;
        c->carry_capacity = 0;
    }
}

/* ---- sending ----------------------------------------------------------------------------- */

void conn_output(conns *all, conn *c) {
    if (!(c->flags & CONN_DIRTY)) {
        if (list_push(&all->dirty, c->slot) < 0) {
            conn_abort(all, c, END_MEMORY, ENOMEM);
            return;
        }
        c->flags |= CONN_DIRTY;
    }
}

static void output_gone(conns *all, conn *c) {
    if ((c->paused & PAUSE_OUTPUT) && outq_bytes(&c->out) <= c->limits->low_water_bytes) {
        conn_resume(all, c, PAUSE_OUTPUT);
    }
    settle(all, c);
}

/* Hand a block over. 1 = it has gone already and the next may follow; 0 = in flight, or failed. */
static int send_block(conns *all, conn *c, const uint8_t *data, size_t length) {
    all->stats.sends++;
    ssize_t result =
        all->source->verbs->send(all->source, c->fd, data, length, conn_token(c, OP_SEND));
    if (result < 0) {
        outq_abort(all->pool, &c->out);
        conn_abort(all, c, END_RESET, (int)-result);
        return 0;
    }
    if (result == 0) {
        c->flags |= CONN_SEND;
        c->in_flight++;
        all->sends_new++;
        return 0;
    }
    assert((size_t)result == length); /* (S4) */
    all->stats.sent_bytes += (uint64_t)result;
    c->spoke_ms = all->now_ms;
    int is_rest = outq_sent(all->pool, &c->out, length, &data, &length);
    assert(!is_rest);
    (void)is_rest;
    return 1;
}

/* How much of what is filled may leave now (C6). */
static size_t releasable(const conns *all, const conn *c) {
    if (c->held <= all->durable_batch) {
        return SIZE_MAX;
    }
    return c->held_before <= all->durable_batch ? c->held_mark : 0;
}

static void send_filled(conns *all, conn *c) {
    const uint8_t *data;
    size_t length;
    while (outq_begin(all->pool, &c->out, releasable(all, c), &data, &length)) {
        c->held_mark = 0; /* what is filled now is all behind the mark */
        if (!send_block(all, c, data, length)) {
            break;
        }
    }
    output_gone(all, c);
}

void conns_flush(conns *all) {
    for (uint32_t index = 0; index < all->dirty.count; index++) {
        conn *c = conns_at(all, all->dirty.slots[index]);
        c->flags &= (uint8_t)~CONN_DIRTY;
        /* (C2): with a send in flight the rest goes with its completion. */
        if (conn_takes_output(c) && !(c->flags & CONN_SEND)) {
            send_filled(all, c);
        }
    }
    all->dirty.count = 0;
}

void conn_send_completed(conns *all, conn *c, int result) {
    assert(c->flags & CONN_SEND);
    c->flags &= (uint8_t)~CONN_SEND;
    c->in_flight--;
    if (c->state == CONN_CLOSING) {
        settle(all, c);
        return;
    }
    const uint8_t *data;
    size_t length;
    if (result < 0 && result != -EINTR && result != -EAGAIN) {
        outq_abort(all->pool, &c->out);
        conn_abort(all, c, END_RESET, -result);
        return;
    }
    size_t sent = result > 0 ? (size_t)result : 0;
    all->stats.sent_bytes += sent;
    c->spoke_ms = all->now_ms;
    if (sent > 0 && is_leaving(c)) {
        c->linger_until_ms = all->now_ms + c->limits->linger_ms; /* it reads: it has time */
    }
    if (outq_sent(all->pool, &c->out, sent, &data, &length)) {
        all->stats.short_sends++;
        if (!send_block(all, c, data, length)) {
            return;
        }
    }
    send_filled(all, c);
}

/* ---- output that waits for the disk ------------------------------------------------------- */

void conn_hold(conns *all, conn *c, uint64_t batch) {
    if (batch <= c->held) {
        return; /* it stands behind what waits already */
    }
    assert(batch > all->durable_batch);
    if (c->held_before <= all->durable_batch) {
        c->held_before = c->held;
        c->held_mark = outq_mark(&c->out);
    }
    c->held = batch;
    if (list_push(&all->held[batch % HELD_BATCHES], c->slot) < 0) {
        conn_abort(all, c, END_MEMORY, ENOMEM); /* nobody would let its output go */
    }
}

void conns_released(conns *all, uint64_t durable_batch) {
    assert(durable_batch >= all->durable_batch);
    assert(durable_batch - all->durable_batch < HELD_BATCHES);
    while (all->durable_batch < durable_batch) {
        slot_list *list = &all->held[++all->durable_batch % HELD_BATCHES];
        for (uint32_t index = 0; index < list->count; index++) {
            /* The slot may have a new owner: whether it may send is asked of itself (flush). */
            conn *c = conns_at(all, list->slots[index]);
            if (!conn_takes_output(c)) {
                continue;
            }
            if (outq_mark(&c->out) > 0) {
                conn_output(all, c);
            } else {
                settle(all, c); /* its end alone waited */
            }
        }
        list->count = 0;
    }
}

void conns_held_lost(conns *all) {
    for (uint32_t batch = 0; batch < HELD_BATCHES; batch++) {
        slot_list *list = &all->held[batch];
        for (uint32_t index = 0; index < list->count; index++) {
            conn *c = conns_at(all, list->slots[index]);
            if (c->held > all->durable_batch) {
                conn_abort(all, c, END_DISK, 0);
            }
        }
        list->count = 0;
    }
}

/* ---- the rest ---------------------------------------------------------------------------- */

void conn_connect_completed(conns *all, conn *c, int result) {
    assert(c->in_flight > 0);
    c->in_flight--;
    if (c->state == CONN_CLOSING) {
        settle(all, c);
        return;
    }
    assert(c->state == CONN_CONNECTING);
    if (result < 0) {
        conn_abort(all, c, END_CONNECT, -result);
        return;
    }
    c->state = CONN_OPEN;
    c->active_ms = all->now_ms;
    arm_timer(all, c);
    conn_arm(all, c);
}

int conn_timer_fired(conns *all, conn *c) {
    c->timer = 0;
    if (c->state == CONN_OPEN && c->paused != 0) {
        /* We do not read, so the peer is not to blame for what has not arrived. */
        c->active_ms = all->now_ms;
        c->frame_since_ms = c->frame_since_ms ? all->now_ms : 0;
    }
    if (c->state == CONN_FINISHING && !(c->paused & PAUSE_OUTPUT)) {
        c->linger_until_ms = all->now_ms + c->limits->linger_ms + 1; /* nor here: the disk is */
    }
    if (c->state == CONN_LINGERING && all->source->verbs->unacknowledged(all->source, c->fd)) {
        c->spoke_ms = all->now_ms; /* its kernel still owes us news of the last bytes */
    }
    if (next_deadline(c) > all->now_ms) {
        arm_timer(all, c);
        return 0;
    }
    if (c->state == CONN_OPEN) {
        int is_frame = c->frame_since_ms != 0 && c->limits->frame_timeout_ms != 0 &&
                       c->frame_since_ms + c->limits->frame_timeout_ms <= all->now_ms;
        conn_finish(all, c, is_frame ? END_FRAME_TIMEOUT : END_IDLE);
    } else {
        conn_abort(all, c, is_leaving(c) ? END_LINGER : (int)c->reason, 0);
    }
    return 1;
}
