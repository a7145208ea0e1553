/* See journal.h for the table of states and the invariants. */
#define _GNU_SOURCE
#include "journal.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY_INITIAL = 256 * 1024, /* 2,000 commands of 100 bytes: a busy commit's worth */
    SEAL_BLOCKS = 1,               /* kept free for SEAL or CLOSE */
    CACHE_LINE = 64,
    AHEAD_BYTES = 192, /* most records of a busy server */
};

/* ---- buffers ----------------------------------------------------------------------------- */

static uint8_t *buffer_new(size_t bytes) {
    void *memory = NULL;
    return posix_memalign(&memory, SEGMENT_BLOCK, bytes) == 0 ? memory : NULL;
}

int journal_open(journal *j, const journal_config *config, const manifest *start,
                 const segment_header *active, int fd, int manifest_fd) {
    memset(j, 0, sizeof *j);
    j->config = *config;
    j->manifest = *start;
    assert(config->depth >= 1 && config->depth <= JOURNAL_DEPTH_MAX);
    assert(config->frame_bytes_max <= SEGMENT_FRAME_BYTES_MAX);
    assert(config->frame_bytes_max >= SEGMENT_BLOCK);
    assert(config->frame_bytes_max % SEGMENT_BLOCK == 0); /* padding stays inside the buffer */
    assert(config->segment_bytes % SEGMENT_BLOCK == 0);
    assert(config->encode == NULL ||
           config->frame_bytes_max + JOURNAL_GROWTH_MAX <= SEGMENT_FRAME_BYTES_MAX);
    for (uint32_t index = 0; index < JOURNAL_SLOTS; index++) {
        uint32_t bytes = index == JOURNAL_SLOT_CONTROL ? MANIFEST_SLOT_BYTES
                         : index <= config->depth      ? CAPACITY_INITIAL
                                                       : 0;
        if (index != JOURNAL_SLOT_CONTROL && bytes > config->frame_bytes_max) {
            bytes = config->frame_bytes_max;
        }
        j->slots[index].capacity = bytes;
        j->slots[index].data = bytes ? buffer_new(bytes) : NULL;
        if (bytes && j->slots[index].data == NULL) {
            journal_free(j);
            return -ENOMEM;
        }
    }
    j->fd = fd;
    j->manifest_fd = manifest_fd;
    j->spare_fd = -1;
    j->segment = active->number;
    j->segment_first_lsn = active->first_lsn;
    j->manifest_durable = start->counter;
    j->block = SEGMENT_HEADER_BLOCKS;
    j->next_seq = active->first_seq;
    j->next_lsn = active->first_lsn;
    j->durable_seq = active->first_seq - 1;
    j->durable_lsn = active->first_lsn - 1;
    j->chain = active->chain;
    j->batch = 1;
    j->filling_lsn = j->next_lsn;
    j->slots[0].state = SLOT_FILLING;
    j->slots[0].used = FRAME_HEADER_BYTES;
    return 0;
}

void journal_free(journal *j) {
    for (uint32_t index = 0; index < JOURNAL_SLOTS; index++) {
        free(j->slots[index].data);
        free(j->slots[index].coded);
        j->slots[index].data = j->slots[index].coded = NULL;
    }
}

/* ---- records ----------------------------------------------------------------------------- */

int journal_begin(journal *j) {
    const journal_slot *slot = &j->slots[j->filling];
    assert(j->open_at == 0); /* one record at a time */
    if (j->error) {
        return -j->error;
    }
    if (j->is_closing) {
        return -EBUSY;
    }
    j->open_at = slot->used;
    if (journal_put(j, RECORD_HEADER_BYTES) == NULL) {
        j->open_at = 0;
        return -ENOSPC;
    }
    return 0;
}

uint8_t *journal_grow(journal *j, uint32_t bytes) {
    journal_slot *slot = &j->slots[j->filling];
    uint64_t needed = (uint64_t)j->open_at + bytes;
    if (needed > j->config.frame_bytes_max) {
        return NULL;
    }
    uint64_t capacity = slot->capacity;
    while (capacity < needed) {
        capacity *= 2;
    }
    capacity = capacity > j->config.frame_bytes_max ? j->config.frame_bytes_max : capacity;
    uint8_t *grown = buffer_new(capacity);
    if (grown == NULL) {
        return NULL;
    }
    memcpy(grown, slot->data, j->open_at);
    free(slot->data);
    slot->data = grown;
    slot->capacity = (uint32_t)capacity;
    j->open_at += bytes;
    return grown + needed - bytes;
}

uint64_t journal_end(journal *j, unsigned type, unsigned kind, unsigned flags, uint32_t server,
                     uint32_t outcome) {
    journal_slot *slot = &j->slots[j->filling];
    assert(j->open_at >= slot->used + RECORD_HEADER_BYTES);
    segment_record_write(slot->data + slot->used, j->open_at - slot->used - RECORD_HEADER_BYTES,
                         type, kind, flags, server, outcome);
    slot->used = j->open_at;
    j->open_at = 0;
    j->records++;
    j->stats.records++;
    /* Frames are larger than caches are: the next record is written to lines that are there. */
    for (uint32_t line = CACHE_LINE; line <= AHEAD_BYTES; line += CACHE_LINE) {
        __builtin_prefetch(slot->data + slot->used + line, 1);
    }
    return j->next_lsn++;
}

void journal_drop(journal *j) { j->open_at = 0; }

/* ---- what to write ----------------------------------------------------------------------- */

static int hand_out(journal *j, uint32_t index, journal_write *out) {
    journal_slot *slot = &j->slots[index];
    slot->state = SLOT_FLYING;
    slot->is_short = 0;
    out->data = slot->image + slot->written;
    out->offset = slot->offset + slot->written;
    out->bytes = slot->bytes - slot->written;
    out->slot = index;
    out->fd = slot->fd;
    assert(out->bytes > 0 && out->bytes % SEGMENT_BLOCK == 0);
    return 1;
}

static int hand_out_rest(journal *j, journal_write *out) {
    for (uint32_t index = 0; index < JOURNAL_SLOTS; index++) {
        if (j->slots[index].state == SLOT_FLYING && j->slots[index].is_short) {
            return hand_out(j, index, out);
        }
    }
    return 0;
}

static uint64_t advance_time(journal *j, uint64_t now_ns) {
    j->time_ns = now_ns > j->time_ns ? now_ns : j->time_ns;
    return j->time_ns;
}

/* Room for a frame in its stored form. 0 or -ENOMEM. */
static int make_coded(journal_slot *slot) {
    if (slot->coded_capacity < slot->capacity) {
        free(slot->coded);
        slot->coded = buffer_new((size_t)slot->capacity + JOURNAL_GROWTH_MAX);
        slot->coded_capacity = slot->coded ? slot->capacity : 0;
    }
    return slot->coded ? 0 : -ENOMEM;
}

/* The stored form of a frame's body, and where the frame is to be completed; NULL = it failed. The
 * records stay as they are: the tail, and servers that crash, read them until they are durable. */
static uint8_t *encode_body(journal *j, journal_slot *slot, segment_frame *frame) {
    int64_t bytes = make_coded(slot);
    if (bytes == 0) {
        bytes = j->config.encode(j->config.owner, frame, slot->data + FRAME_HEADER_BYTES,
                                 slot->coded + FRAME_HEADER_BYTES);
    }
    if (bytes < 0) {
        journal_fail(j, (int)-bytes);
        return NULL;
    }
    assert(bytes <= (int64_t)frame->body_bytes + JOURNAL_GROWTH_MAX);
    frame->flags = FRAME_CODED;
    frame->body_bytes = (uint32_t)bytes;
    return slot->coded;
}

/* Close a slot's bytes into a frame at the next free blocks (J1). */
static int hand_out_frame(journal *j, uint32_t index, unsigned type, uint64_t now_ns,
                          journal_write *out) {
    journal_slot *slot = &j->slots[index];
    segment_frame frame;
    assert(j->next_seq <= j->durable_seq + j->config.depth); /* (J2) */
    memset(&frame, 0, sizeof frame);
    int is_data = type == SEGMENT_DATA;
    frame.type = (uint8_t)type;
    frame.body_bytes = is_data ? slot->used - FRAME_HEADER_BYTES : 0;
    frame.records = is_data ? j->records : 0;
    frame.block = (uint32_t)j->block;
    frame.segment = j->segment;
    frame.seq = j->next_seq++;
    frame.first_lsn = j->filling_lsn; /* of the next record, when this holds none */
    frame.durable_seq = j->durable_seq;
    frame.time_ns = advance_time(j, now_ns);
    frame.epoch = j->config.epoch;
    frame.chain = j->chain;
    uint8_t *image = slot->data;
    if (is_data && j->config.encode != NULL) {
        image = encode_body(j, slot, &frame);
        if (image == NULL) {
            return 0;
        }
    }
    segment_frame_write(&frame, &j->config.id, image);
    slot->image = image;
    j->chain = frame.body_hash;
    slot->offset = j->block * SEGMENT_BLOCK;
    slot->bytes = (uint32_t)segment_blocks_bytes(FRAME_HEADER_BYTES + (uint64_t)frame.body_bytes);
    slot->written = 0;
    slot->fd = j->fd;
    slot->seq = frame.seq;
    slot->first_lsn = frame.first_lsn;
    slot->records = frame.records;
    slot->last_lsn = is_data ? j->next_lsn - 1 : j->filling_lsn - 1;
    slot->batch = is_data ? j->batch : 0;
    j->block += slot->bytes / SEGMENT_BLOCK;
    j->in_flight++;
    j->stats.frames++;
    j->stats.bytes += slot->bytes;
    j->stats.padding += slot->bytes - FRAME_HEADER_BYTES - frame.body_bytes;
    assert(j->block * SEGMENT_BLOCK <= j->config.segment_bytes);
    return hand_out(j, index, out);
}

static int hand_out_manifest(journal *j, journal_write *out) {
    journal_slot *slot = &j->slots[JOURNAL_SLOT_CONTROL];
    j->manifest.counter++;
    j->manifest.epoch = j->config.epoch;
    j->manifest.durable_seq = j->durable_seq;
    j->manifest.durable_lsn = j->durable_lsn;
    j->manifest.depth = j->config.depth;
    manifest_write(&j->manifest, slot->data);
    slot->image = slot->data;
    slot->offset = (j->manifest.counter & 1) ? MANIFEST_SLOT_B : 0; /* (J7) */
    slot->bytes = MANIFEST_SLOT_BYTES;
    slot->written = 0;
    slot->fd = j->manifest_fd;
    slot->batch = slot->seq = 0;
    j->is_manifest_wanted = 0;
    j->stats.manifests++;
    return hand_out(j, JOURNAL_SLOT_CONTROL, out);
}

static int hand_out_header(journal *j, uint64_t now_ns, journal_write *out) {
    journal_slot *slot = &j->slots[JOURNAL_SLOT_CONTROL];
    segment_header header;
    memset(&header, 0, sizeof header);
    header.id = j->config.id;
    header.number = j->spare;
    header.epoch = j->config.epoch;
    header.first_seq = j->next_seq;
    header.first_lsn = j->segment_first_lsn = j->filling_lsn;
    header.before = j->segment;
    header.before_seq = j->next_seq - 1;
    header.chain = j->chain;
    header.before_end = ENDED_SEALED;
    header.bytes = j->config.segment_bytes;
    header.made_ns = advance_time(j, now_ns);
    header.features = j->config.features;
    segment_header_write(&header, slot->data);
    slot->image = slot->data;
    slot->offset = 0;
    slot->bytes = SEGMENT_HEADER_BLOCKS * SEGMENT_BLOCK;
    slot->written = 0;
    slot->fd = j->spare_fd;
    slot->batch = slot->seq = 0;
    return hand_out(j, JOURNAL_SLOT_CONTROL, out);
}

static uint32_t free_slot(const journal *j) {
    for (uint32_t index = 0; index <= j->config.depth; index++) {
        if (j->slots[index].state == SLOT_FREE) {
            return index;
        }
    }
    return JOURNAL_SLOT_NONE;
}

/* The filling slot as a DATA frame; another slot gathers from now on. */
static int hand_out_records(journal *j, uint64_t now_ns, journal_write *out) {
    uint32_t index = j->filling;
    uint32_t next = free_slot(j);
    assert(next != JOURNAL_SLOT_NONE);
    if (!hand_out_frame(j, index, SEGMENT_DATA, now_ns, out)) {
        return 0;
    }
    j->filling = next;
    j->slots[next].state = SLOT_FILLING;
    j->slots[next].used = FRAME_HEADER_BYTES;
    j->records = 0;
    j->filling_lsn = j->next_lsn;
    j->batch++;
    return 1;
}

static int fits(const journal *j) {
    uint32_t growth = j->config.encode != NULL ? JOURNAL_GROWTH_MAX : 0;
    uint64_t bytes = segment_blocks_bytes((uint64_t)j->slots[j->filling].used + growth);
    return j->block * SEGMENT_BLOCK + bytes + SEAL_BLOCKS * SEGMENT_BLOCK <=
           j->config.segment_bytes;
}

static int next_of_roll(journal *j, uint64_t now_ns, journal_write *out) {
    if (j->in_flight > 0 || j->slots[JOURNAL_SLOT_CONTROL].state != SLOT_FREE) {
        return 0; /* (J6) */
    }
    switch (j->roll) {
    case ROLL_SEAL:
        j->roll = ROLL_HEADER;
        return hand_out_header(j, now_ns, out);
    case ROLL_HEADER:
        j->roll = ROLL_MANIFEST;
        j->segment = j->spare;
        j->fd = j->spare_fd;
        j->block = SEGMENT_HEADER_BLOCKS;
        j->spare_fd = -1;
        j->manifest.current = j->segment;
        j->stats.rolls++;
        return hand_out_manifest(j, out);
    case ROLL_CLOSE:
        j->roll = ROLL_CLEAN;
        j->manifest.flags |= MANIFEST_CLEAN;
        return hand_out_manifest(j, out);
    default:
        assert(j->roll == ROLL_CLOSED);
        return 0;
    }
}

static int next_frame(journal *j, uint64_t now_ns, journal_write *out) {
    journal_slot *control = &j->slots[JOURNAL_SLOT_CONTROL];
    if (j->is_manifest_wanted && control->state == SLOT_FREE) {
        return hand_out_manifest(j, out); /* first: under load there are always records */
    }
    if (j->in_flight >= j->config.depth || j->next_seq > j->durable_seq + j->config.depth) {
        return 0; /* (J2) */
    }
    if (j->records > 0 && fits(j)) {
        return hand_out_records(j, now_ns, out);
    }
    if (control->state != SLOT_FREE) {
        return 0; /* SEAL and CLOSE are made there */
    }
    if (j->records > 0) {
        j->stats.stalls += !j->is_stalled && j->spare_fd < 0;
        j->is_stalled = j->spare_fd < 0;
        if (j->is_stalled) {
            return 0;
        }
        j->roll = ROLL_SEAL;
        return hand_out_frame(j, JOURNAL_SLOT_CONTROL, SEGMENT_SEAL, now_ns, out);
    }
    if (j->is_closing && j->in_flight == 0) {
        j->roll = ROLL_CLOSE;
        return hand_out_frame(j, JOURNAL_SLOT_CONTROL, SEGMENT_CLOSE, now_ns, out);
    }
    return 0;
}

int journal_next(journal *j, uint64_t now_ns, journal_write *out) {
    if (j->error) {
        return 0; /* (J4) */
    }
    if (hand_out_rest(j, out)) {
        return 1;
    }
    if (j->roll != ROLL_NONE) {
        return next_of_roll(j, now_ns, out);
    }
    return next_frame(j, now_ns, out);
}

/* ---- what has become of it --------------------------------------------------------------- */

/* Frames that are whole count in the order of their seq (J3). */
static int land(journal *j) {
    int is_more = 0;
    for (;;) {
        uint32_t index = 0;
        while (index < JOURNAL_SLOTS && !(j->slots[index].state == SLOT_LANDED &&
                                          j->slots[index].seq == j->durable_seq + 1)) {
            index++;
        }
        if (index == JOURNAL_SLOTS) {
            return is_more;
        }
        journal_slot *slot = &j->slots[index];
        j->durable_seq = slot->seq;
        j->durable_lsn = slot->last_lsn;
        j->durable_batch = slot->batch ? slot->batch : j->durable_batch;
        slot->state = SLOT_FREE;
        j->in_flight--;
        is_more = 1;
    }
}

static void control_landed(journal *j, journal_slot *slot) {
    slot->state = SLOT_FREE;
    if (slot->fd == j->manifest_fd) {
        j->manifest_durable = j->manifest.counter; /* (J7): it is the latest */
    }
    if (j->roll == ROLL_MANIFEST) {
        j->roll = ROLL_NONE;
    } else if (j->roll == ROLL_CLEAN) {
        j->roll = ROLL_CLOSED;
    }
}

int journal_completed(journal *j, uint32_t index, int32_t result) {
    assert(index < JOURNAL_SLOTS);
    journal_slot *slot = &j->slots[index];
    assert(slot->state == SLOT_FLYING && !slot->is_short);
    int is_retried = result == -EINTR || result == -EAGAIN;
    if (result <= 0 && !is_retried) {
        journal_fail(j, result == 0 ? EIO : -result);
    }
    if (j->error) {
        slot->state = SLOT_LANDED; /* back from the disk, and it never counts (J4) */
        return -j->error;
    }
    if (is_retried) {
        j->stats.retries++;
        slot->is_short = 1; /* nothing was promised: the same again */
        return 0;
    }
    assert((uint32_t)result <= slot->bytes - slot->written);
    slot->written += (uint32_t)result;
    if (slot->written < slot->bytes) {
        slot->written -= slot->written % SEGMENT_BLOCK; /* direct I/O starts on a block */
        slot->is_short = 1;                             /* (J5) */
        j->stats.short_writes++;
        return 0;
    }
    if (slot->seq == 0) {
        control_landed(j, slot);
        return 0;
    }
    slot->state = SLOT_LANDED;
    return land(j);
}

void journal_fail(journal *j, int error) {
    if (j->error == 0) {
        j->error = error;
    }
}

void journal_spare(journal *j, uint64_t number, int fd) {
    assert(j->spare_fd < 0);
    assert(number > j->segment);
    j->spare = number;
    j->spare_fd = fd;
    j->is_stalled = 0;
}

void journal_watermark(journal *j) { j->is_manifest_wanted = 1; }

void journal_close(journal *j) { j->is_closing = 1; }
