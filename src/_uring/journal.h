/* The journal's writer: what is to be written next, and what is durable.
 *
 * Theory. Records gather in one buffer. When fewer than `depth` frames are in flight the buffer is
 * closed into a frame and handed out to be written; the next one gathers meanwhile. No timer is
 * needed: the slower the disk, the larger the frames. The writer does no I/O: `journal_next` says
 * what to write, `journal_completed` what became of it.
 *
 *   rolling       event                        next          written
 *   ROLL_NONE     next frame does not fit      ROLL_SEAL     SEAL, in the block kept for it
 *   ROLL_SEAL     all in flight is durable     ROLL_HEADER   header blocks of the spare
 *   ROLL_HEADER   header durable               ROLL_MANIFEST manifest: current = the new segment
 *   ROLL_MANIFEST manifest durable             ROLL_NONE     frames go to the new segment
 *   ROLL_NONE     close asked, nothing left    ROLL_CLOSE    CLOSE
 *   ROLL_CLOSE    CLOSE durable                ROLL_CLEAN    manifest: flag "closed cleanly"
 *   ROLL_CLEAN    manifest durable             ROLL_CLOSED   nothing any more
 *
 * Invariants
 *  (J1) A block that holds a durable byte is never written again: frames start on fresh blocks.
 *  (J2) Frame s is handed out only if s <= durable seq + depth (evidence f of the format).
 *  (J3) Frames become durable in the order of their seq, whatever the order of completions.
 *  (J4) The first failure is final: it is latched, nothing is handed out any more, and nothing in
 *       flight becomes durable after it.
 *  (J5) A short write is continued with the same guarantee; the frame counts only when whole.
 *  (J6) Each step of a roll is durable before the next is handed out.
 *  (J7) At most one manifest write is in flight, and slots alternate.
 *  (J8) Batch numbers count DATA frames; a record belongs to the batch in which it gathered.
 *
 * Does not know: files, rings, servers, what a record means.
 * Source: durability.md 3.4 to 3.9; group commit after Gray & Reuter, and FoundationDB's DiskQueue.
 */
#ifndef PYBEHAVE_JOURNAL_H
#define PYBEHAVE_JOURNAL_H

#include "segment.h"

enum {
    JOURNAL_DEPTH_MAX = 8,
    JOURNAL_SLOTS = JOURNAL_DEPTH_MAX + 2, /* in flight, one gathering, one for control blocks */
    JOURNAL_SLOT_CONTROL = JOURNAL_SLOTS - 1,
    JOURNAL_SLOT_NONE = JOURNAL_SLOTS,
    JOURNAL_GROWTH_MAX = SEGMENT_BLOCK, /* bytes that codecs may add to a frame */
};

/* Makes of a frame's body what is to be stored, with room for JOURNAL_GROWTH_MAX bytes more than it
 * has. Returns how many there are, or -errno, which is final as that of a write (J4). */
typedef int64_t (*journal_encode)(void *owner, const segment_frame *, const uint8_t *body,
                                  uint8_t *out);

typedef struct journal_config {
    journal_hash id;
    uint64_t epoch, segment_bytes;
    uint32_t depth;
    uint32_t frame_bytes_max;
    uint32_t features;     /* of the segments that are begun */
    journal_encode encode; /* NULL = bodies are stored as they are */
    void *owner;
} journal_config;

enum journal_slot_state { SLOT_FREE, SLOT_FILLING, SLOT_FLYING, SLOT_LANDED };

typedef struct journal_slot {
    uint8_t *data; /* block-aligned; what was recorded, until it is durable */
    uint8_t *coded; /* what is written in its place, or NULL; as large, and JOURNAL_GROWTH_MAX */
    const uint8_t *image; /* what is written: one of the two */
    uint64_t offset;
    uint64_t seq, first_lsn, last_lsn, batch; /* of a frame; batch 0 = no DATA frame */
    uint32_t records;
    uint32_t capacity, used;       /* used: header and records */
    uint32_t coded_capacity;
    uint32_t bytes, written;       /* of the write */
    int fd;
    uint8_t state;
    uint8_t is_short; /* the rest is to be handed out */
} journal_slot;

enum journal_roll {
    ROLL_NONE,
    ROLL_SEAL,
    ROLL_HEADER,
    ROLL_MANIFEST,
    ROLL_CLOSE,
    ROLL_CLEAN,
    ROLL_CLOSED,
};

typedef struct journal_write {
    const uint8_t *data;
    uint64_t offset;
    uint32_t bytes;
    uint32_t slot;
    int fd;
} journal_write;

typedef struct journal_stats {
    uint64_t frames, records, bytes, padding; /* handed out */
    uint64_t rolls, manifests, short_writes, retries;
    uint64_t stalls; /* times a frame had to wait for a spare segment */
} journal_stats;

typedef struct journal {
    journal_config config;
    journal_slot slots[JOURNAL_SLOTS];
    uint32_t filling;   /* index of the slot that gathers */
    uint32_t open_at;   /* end of the record being made, 0 = none */
    uint32_t records;   /* in the filling slot */
    uint64_t filling_lsn; /* of its first record */
    uint64_t next_lsn, next_seq, batch;
    uint64_t durable_seq, durable_lsn, durable_batch;
    uint64_t time_ns; /* latest that was written; never goes back */
    uint32_t in_flight; /* DATA, SEAL and CLOSE frames */
    journal_hash chain;
    uint64_t segment;
    uint64_t segment_first_lsn;
    uint64_t manifest_durable; /* counter of the latest manifest known to be durable */
    uint64_t block; /* next free block of the segment */
    int fd, manifest_fd;
    int spare_fd; /* -1 = none */
    uint64_t spare;
    uint8_t roll;
    uint8_t is_closing;
    uint8_t is_manifest_wanted;
    uint8_t is_stalled;
    int error; /* errno, latched (J4) */
    manifest manifest;
    journal_stats stats;
} journal;

/* Where recovery left off: an empty active segment with its header written, and its manifest.
 * 0 or -ENOMEM. */
int journal_open(journal *, const journal_config *, const manifest *, const segment_header *active,
                 int fd, int manifest_fd);
void journal_free(journal *);

/* One record: begin, put its payload, end. Returns of begin: 0, -errno after a failure, -ENOSPC
 * when the frame is full, -EBUSY when closing. */
int journal_begin(journal *);
/* The slow half of journal_put. */
uint8_t *journal_grow(journal *, uint32_t bytes);
uint64_t journal_end(journal *, unsigned type, unsigned kind, unsigned flags, uint32_t server,
                     uint32_t outcome);
void journal_drop(journal *);

/* Room for so many bytes behind what was put; NULL = more than a frame holds, or no memory. */
static inline uint8_t *journal_put(journal *j, uint32_t bytes) {
    journal_slot *slot = &j->slots[j->filling];
    if (__builtin_expect(bytes > slot->capacity - j->open_at, 0)) {
        return journal_grow(j, bytes);
    }
    uint8_t *at = slot->data + j->open_at;
    j->open_at += bytes;
    return at;
}

/* What to write now. 1 = out is to be written, durably, and its slot be completed. */
int journal_next(journal *, uint64_t now_ns, journal_write *out);
/* The result of a write: bytes or -errno. 1 = something more is durable, 0 = not yet,
 * negative = failed for good. */
int journal_completed(journal *, uint32_t slot, int32_t result);
/* Something other than a write has failed (the device, the preparation of the manifest). */
void journal_fail(journal *, int error);

/* A prepared segment for the next roll. */
void journal_spare(journal *, uint64_t number, int fd);
/* Write the durable watermark to the manifest when there is time. */
void journal_watermark(journal *);
/* No more records; everything, CLOSE and the clean flag are still handed out. */
void journal_close(journal *);

#endif
