/* The journal's bytes: manifest, segment headers, frames, records. docs/journal-format.md is the
 * same in prose; every offset is there.
 *
 * Invariants
 *  (G1) All integers are little-endian, whatever the machine.
 *  (G2) A read function trusts nothing: it returns 0 only for bytes whose hash is right.
 *  (G3) No length from disk is used before the hash that covers it has been checked.
 *
 * Does not know: files, buffers in flight, when anything is written (journal.h).
 */
#ifndef PYBEHAVE_SEGMENT_H
#define PYBEHAVE_SEGMENT_H

#include <stddef.h>
#include <stdint.h>

enum {
    SEGMENT_BLOCK = 4096,
    SEGMENT_HEADER_BLOCKS = 2, /* the header, twice */
    SEGMENT_FORMAT = 1,
    FRAME_HEADER_BYTES = 128,
    RECORD_HEADER_BYTES = 16,
    MANIFEST_BYTES = 65536,
    MANIFEST_SLOT_BYTES = 2 * SEGMENT_BLOCK, /* a slot and its copy */
    MANIFEST_SLOT_B = 32768,                 /* offset of the second slot */
};

#define SEGMENT_FRAME_BYTES_MAX (32u << 20) /* header and padding included */

typedef struct journal_hash {
    uint8_t bytes[16];
} journal_hash;

enum segment_end { ENDED_NONE, ENDED_SEALED, ENDED_CLOSED, ENDED_RECOVERED };

typedef struct segment_header {
    journal_hash id;
    uint64_t number, epoch, first_seq, first_lsn;
    uint64_t before, before_seq; /* the segment before, and its last seq that counts */
    journal_hash chain;
    uint32_t before_end; /* enum segment_end */
    uint64_t bytes;
    uint64_t made_ns;
    uint32_t features; /* that a reader must know */
} segment_header;

/* Incompatible, of manifests and segments: there may be frames with the flag. */
enum segment_feature { FEATURE_CODED = 1 };
/* The body is what codecs have made of the records (pybehave/journal/codec.py). */
enum segment_frame_flag { FRAME_CODED = 1 };

enum segment_frame_type { SEGMENT_DATA = 1, SEGMENT_SEAL, SEGMENT_CLOSE };

typedef struct segment_frame {
    uint8_t type, flags;
    uint32_t body_bytes, records, block;
    uint64_t segment, seq, first_lsn, durable_seq, time_ns, epoch;
    journal_hash chain, header_hash, body_hash;
} segment_frame;

enum record_type {
    RECORD_INPUT = 1,
    RECORD_SERVER,
    RECORD_TIME,
    RECORD_START,
    RECORD_SKIP,
    RECORD_EFFECT,
    RECORD_STATE,
    RECORD_STORE,
    RECORD_FORGET,
};

enum record_flag {
    RECORD_FAILED = 1,
    RECORD_CAUSE = 2,
    RECORD_REQUEST = 4,
    RECORD_STOPS = 8,
    RECORD_FROM = 16,
};

/* Of an input that is FAILED: its server refused it, and nobody has failed. */
enum { OUTCOME_REFUSED = 1 };

typedef struct segment_record {
    const uint8_t *payload; /* behind the extensions */
    uint32_t payload_bytes;
    uint8_t type, kind;
    uint16_t flags;
    uint32_t server, outcome;
    uint64_t cause_lsn, client, session, request;
    uint32_t cause_index;
} segment_record;

enum manifest_flag { MANIFEST_CLEAN = 1 };

typedef struct manifest {
    journal_hash id;
    uint64_t counter, epoch, oldest, current, segment_bytes, durable_seq, durable_lsn;
    uint32_t depth, flags;
    uint64_t snapshot_lsn[2];
    journal_hash snapshot_hash[2];
    uint64_t replay_lsn;
    uint32_t replay_attempts;
    uint32_t features; /* that a reader must know */
} manifest;

enum segment_problem {
    SEGMENT_SOUND = 0,
    SEGMENT_NOT_ONE = -1, /* no magic, a wrong hash, or fields that cannot be */
    SEGMENT_NEWER = -2,   /* a version or feature this code does not know */
    SEGMENT_OTHER = -3,   /* sound, but of another journal */
    SEGMENT_BODY = -4,    /* the header is right, the body is not */
    SEGMENT_PADDING = -5, /* the bytes behind the body are not zero */
};

static inline uint64_t segment_blocks_bytes(uint64_t bytes) {
    return (bytes + SEGMENT_BLOCK - 1) & ~(uint64_t)(SEGMENT_BLOCK - 1);
}

void segment_hash(const void *data, size_t bytes, journal_hash *out);
uint32_t segment_outcome(uint64_t hash);
uint64_t segment_hash64(const void *data, size_t bytes, uint64_t seed);

/* Both copies: SEGMENT_HEADER_BLOCKS blocks. */
void segment_header_write(const segment_header *, uint8_t *out);
int segment_header_read(const uint8_t *block, segment_header *out);

/* Completes a frame in place: the header before the body, zeros behind it up to the next block.
 * Sets header_hash and body_hash. The buffer has room for segment_blocks_bytes of all. */
void segment_frame_write(segment_frame *, const journal_hash *id, uint8_t *frame);
/* The header alone; `bytes` is what may be read at `block`, at least FRAME_HEADER_BYTES. */
int segment_frame_read(const uint8_t *block, const journal_hash *id, segment_frame *out);
/* The body and its padding; segment_blocks_bytes of header and body can be read. */
int segment_frame_check(const uint8_t *frame, const segment_frame *);

void segment_record_write(uint8_t *header, uint32_t payload_bytes, unsigned type, unsigned kind,
                          unsigned flags, uint32_t server, uint32_t outcome);
/* The record at data; returns its bytes, or 0 when there is no whole sound record there. */
size_t segment_record_read(const uint8_t *data, size_t bytes, segment_record *out);

/* A slot and its copy: MANIFEST_SLOT_BYTES. */
void manifest_write(const manifest *, uint8_t *out);
int manifest_read(const uint8_t *block, manifest *out);

#endif
