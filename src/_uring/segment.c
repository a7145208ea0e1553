/* See segment.h; the offsets are those of docs/journal-format.md. */
#include "segment.h"

#include <assert.h>
#include <endian.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    HASH_AT = SEGMENT_BLOCK - 16,
    FRAME_HASHED = 96,
    CAUSE_BYTES = 12,
    REQUEST_BYTES = 24,
    FEATURES_KNOWN = FEATURE_CODED,
};

static const uint8_t MAGIC_MANIFEST[8] = "pbhvman\n";
static const uint8_t MAGIC_SEGMENT[8] = "pbhvseg\n";
static const uint8_t MAGIC_FRAME[8] = "pbhvfrm\n";

_Static_assert(SEGMENT_BLOCK % 512 == 0, "a block is whole sectors");
_Static_assert(SEGMENT_FRAME_BYTES_MAX % SEGMENT_BLOCK == 0, "a frame is whole blocks");
_Static_assert(2 * MANIFEST_SLOT_B == MANIFEST_BYTES, "two slots fill the manifest");

/* ---- integers and hashes ----------------------------------------------------------------- */

static void put16(uint8_t *at, uint16_t value) {
    value = htole16(value);
    memcpy(at, &value, sizeof value);
}

static void put32(uint8_t *at, uint32_t value) {
    value = htole32(value);
    memcpy(at, &value, sizeof value);
}

static void put64(uint8_t *at, uint64_t value) {
    value = htole64(value);
    memcpy(at, &value, sizeof value);
}

static uint16_t get16(const uint8_t *at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return le16toh(value);
}

static uint32_t get32(const uint8_t *at) {
    uint32_t value;
    memcpy(&value, at, sizeof value);
    return le32toh(value);
}

static uint64_t get64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return le64toh(value);
}

static void put_hash(uint8_t *at, const journal_hash *hash) { memcpy(at, hash->bytes, 16); }

static void get_hash(const uint8_t *at, journal_hash *hash) { memcpy(hash->bytes, at, 16); }

static void canonical(XXH128_hash_t value, journal_hash *out) {
    XXH128_canonical_t text;
    XXH128_canonicalFromHash(&text, value);
    memcpy(out->bytes, text.digest, 16);
}

void segment_hash(const void *data, size_t bytes, journal_hash *out) {
    canonical(XXH3_128bits(data, bytes), out);
}

uint64_t segment_hash64(const void *data, size_t bytes, uint64_t seed) {
    return XXH3_64bits_withSeed(data, bytes, seed);
}

uint32_t segment_outcome(uint64_t hash) {
    uint32_t low = (uint32_t)hash;
    return low == 0 ? 1 : low;
}

/* H(a, b): the hash of both, one after the other. */
static void hash_pair(const void *a, size_t a_bytes, const void *b, size_t b_bytes,
                      journal_hash *out) {
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    XXH3_128bits_update(&state, a, a_bytes);
    XXH3_128bits_update(&state, b, b_bytes);
    canonical(XXH3_128bits_digest(&state), out);
}

static int hash_is(const uint8_t *at, const journal_hash *hash) {
    return memcmp(at, hash->bytes, 16) == 0;
}

static int is_zero(const uint8_t *data, size_t bytes) {
    return bytes == 0 || (data[0] == 0 && memcmp(data, data + 1, bytes - 1) == 0);
}

/* A block that ends in the hash of all before it: header copies and manifest slots. */
static void finish_block(uint8_t *block) {
    journal_hash hash;
    segment_hash(block, HASH_AT, &hash);
    put_hash(block + HASH_AT, &hash);
}

static int block_is_sound(const uint8_t *block, const uint8_t magic[8]) {
    journal_hash hash;
    if (memcmp(block, magic, 8) != 0) {
        return 0;
    }
    segment_hash(block, HASH_AT, &hash);
    return hash_is(block + HASH_AT, &hash);
}

/* ---- segment header ---------------------------------------------------------------------- */

void segment_header_write(const segment_header *header, uint8_t *out) {
    memset(out, 0, SEGMENT_HEADER_BLOCKS * SEGMENT_BLOCK);
    for (uint32_t copy = 0; copy < SEGMENT_HEADER_BLOCKS; copy++) {
        uint8_t *at = out + copy * SEGMENT_BLOCK;
        memcpy(at, MAGIC_SEGMENT, 8);
        put32(at + 8, SEGMENT_FORMAT);
        put32(at + 12, copy);
        put_hash(at + 16, &header->id);
        put64(at + 32, header->number);
        put64(at + 40, header->epoch);
        put64(at + 48, header->first_seq);
        put64(at + 56, header->first_lsn);
        put64(at + 64, header->before);
        put64(at + 72, header->before_seq);
        put_hash(at + 80, &header->chain);
        put32(at + 96, header->before_end);
        put32(at + 100, SEGMENT_BLOCK);
        put64(at + 104, header->bytes);
        put32(at + 112, header->features);
        put64(at + 120, header->made_ns);
        finish_block(at);
    }
}

int segment_header_read(const uint8_t *block, segment_header *out) {
    if (!block_is_sound(block, MAGIC_SEGMENT)) {
        return SEGMENT_NOT_ONE;
    }
    out->features = get32(block + 112);
    if (get32(block + 8) != SEGMENT_FORMAT || (out->features & ~FEATURES_KNOWN) != 0) {
        return SEGMENT_NEWER;
    }
    get_hash(block + 16, &out->id);
    out->number = get64(block + 32);
    out->epoch = get64(block + 40);
    out->first_seq = get64(block + 48);
    out->first_lsn = get64(block + 56);
    out->before = get64(block + 64);
    out->before_seq = get64(block + 72);
    get_hash(block + 80, &out->chain);
    out->before_end = get32(block + 96);
    out->bytes = get64(block + 104);
    out->made_ns = get64(block + 120);
    if (get32(block + 100) != SEGMENT_BLOCK || out->number == 0 || out->before >= out->number) {
        return SEGMENT_NOT_ONE;
    }
    return SEGMENT_SOUND;
}

/* ---- frame ------------------------------------------------------------------------------- */

void segment_frame_write(segment_frame *frame, const journal_hash *id, uint8_t *at) {
    uint64_t used = FRAME_HEADER_BYTES + (uint64_t)frame->body_bytes;
    assert(segment_blocks_bytes(used) <= SEGMENT_FRAME_BYTES_MAX);
    memset(at + used, 0, segment_blocks_bytes(used) - used);
    memset(at, 0, FRAME_HEADER_BYTES);
    memcpy(at, MAGIC_FRAME, 8);
    at[8] = frame->type;
    at[9] = frame->flags;
    put16(at + 10, FRAME_HEADER_BYTES);
    put32(at + 12, frame->body_bytes);
    put32(at + 16, frame->records);
    put32(at + 20, frame->block);
    put64(at + 24, frame->segment);
    put64(at + 32, frame->seq);
    put64(at + 40, frame->first_lsn);
    put64(at + 48, frame->durable_seq);
    put64(at + 56, frame->time_ns);
    put64(at + 64, frame->epoch);
    put_hash(at + 80, &frame->chain);
    hash_pair(id->bytes, 16, at, FRAME_HASHED, &frame->header_hash);
    put_hash(at + 96, &frame->header_hash);
    hash_pair(frame->header_hash.bytes, 16, at + FRAME_HEADER_BYTES, frame->body_bytes,
              &frame->body_hash);
    put_hash(at + 112, &frame->body_hash);
}

int segment_frame_read(const uint8_t *block, const journal_hash *id, segment_frame *out) {
    journal_hash hash;
    if (memcmp(block, MAGIC_FRAME, 8) != 0) {
        return SEGMENT_NOT_ONE;
    }
    hash_pair(id->bytes, 16, block, FRAME_HASHED, &hash);
    if (!hash_is(block + 96, &hash)) {
        return SEGMENT_NOT_ONE;
    }
    out->type = block[8];
    out->flags = block[9];
    out->body_bytes = get32(block + 12);
    out->records = get32(block + 16);
    out->block = get32(block + 20);
    out->segment = get64(block + 24);
    out->seq = get64(block + 32);
    out->first_lsn = get64(block + 40);
    out->durable_seq = get64(block + 48);
    out->time_ns = get64(block + 56);
    out->epoch = get64(block + 64);
    get_hash(block + 80, &out->chain);
    get_hash(block + 96, &out->header_hash);
    get_hash(block + 112, &out->body_hash);
    uint64_t bytes = segment_blocks_bytes(FRAME_HEADER_BYTES + (uint64_t)out->body_bytes);
    int is_known = out->type >= SEGMENT_DATA && out->type <= SEGMENT_CLOSE &&
                   (out->flags & ~FRAME_CODED) == 0 &&
                   get16(block + 10) == FRAME_HEADER_BYTES && get64(block + 72) == 0;
    int is_coded = out->flags & FRAME_CODED; /* what its records take is known when it is opened */
    int is_possible = bytes <= SEGMENT_FRAME_BYTES_MAX && out->seq > out->durable_seq &&
                      (is_coded || out->records <= out->body_bytes / RECORD_HEADER_BYTES);
    return is_known && is_possible ? SEGMENT_SOUND : SEGMENT_NOT_ONE;
}

int segment_frame_check(const uint8_t *at, const segment_frame *frame) {
    journal_hash hash;
    uint64_t used = FRAME_HEADER_BYTES + (uint64_t)frame->body_bytes;
    hash_pair(frame->header_hash.bytes, 16, at + FRAME_HEADER_BYTES, frame->body_bytes, &hash);
    if (memcmp(hash.bytes, frame->body_hash.bytes, 16) != 0) {
        return SEGMENT_BODY;
    }
    return is_zero(at + used, segment_blocks_bytes(used) - used) ? SEGMENT_SOUND : SEGMENT_PADDING;
}

/* ---- record ------------------------------------------------------------------------------ */

void segment_record_write(uint8_t *header, uint32_t payload_bytes, unsigned type, unsigned kind,
                          unsigned flags, uint32_t server, uint32_t outcome) {
    put32(header, payload_bytes);
    header[4] = (uint8_t)type;
    header[5] = (uint8_t)kind;
    put16(header + 6, (uint16_t)flags);
    put32(header + 8, server);
    put32(header + 12, outcome);
}

size_t segment_record_read(const uint8_t *data, size_t bytes, segment_record *out) {
    if (bytes < RECORD_HEADER_BYTES || get32(data) > bytes - RECORD_HEADER_BYTES) {
        return 0;
    }
    size_t left = get32(data);
    const uint8_t *at = data + RECORD_HEADER_BYTES;
    out->type = data[4];
    out->kind = data[5];
    out->flags = get16(data + 6);
    out->server = get32(data + 8);
    out->outcome = get32(data + 12);
    out->cause_lsn = out->client = out->session = out->request = 0;
    out->cause_index = 0;
    if (out->flags & RECORD_CAUSE) {
        if (left < CAUSE_BYTES) {
            return 0;
        }
        out->cause_lsn = get64(at);
        out->cause_index = get32(at + 8);
        at += CAUSE_BYTES;
        left -= CAUSE_BYTES;
    }
    if (out->flags & RECORD_REQUEST) {
        if (left < REQUEST_BYTES) {
            return 0;
        }
        out->client = get64(at);
        out->session = get64(at + 8);
        out->request = get64(at + 16);
        at += REQUEST_BYTES;
        left -= REQUEST_BYTES;
    }
    out->payload = at;
    out->payload_bytes = (uint32_t)left;
    return RECORD_HEADER_BYTES + get32(data);
}

/* ---- manifest ---------------------------------------------------------------------------- */

void manifest_write(const manifest *value, uint8_t *out) {
    memset(out, 0, MANIFEST_SLOT_BYTES);
    for (uint32_t copy = 0; copy < 2; copy++) {
        uint8_t *at = out + copy * SEGMENT_BLOCK;
        memcpy(at, MAGIC_MANIFEST, 8);
        put32(at + 8, SEGMENT_FORMAT);
        put32(at + 12, SEGMENT_FORMAT);
        put_hash(at + 16, &value->id);
        put64(at + 32, value->counter);
        put64(at + 40, value->epoch);
        put64(at + 48, value->oldest);
        put64(at + 56, value->current);
        put64(at + 64, value->segment_bytes);
        put32(at + 72, SEGMENT_BLOCK);
        put32(at + 76, value->depth);
        put64(at + 80, value->durable_seq);
        put64(at + 88, value->durable_lsn);
        put32(at + 96, value->flags);
        put32(at + 100, value->features);
        put32(at + 108, copy);
        for (int index = 0; index < 2; index++) {
            put64(at + 112 + 24 * index, value->snapshot_lsn[index]);
            put_hash(at + 120 + 24 * index, &value->snapshot_hash[index]);
        }
        put64(at + 160, value->replay_lsn);
        put32(at + 168, value->replay_attempts);
        finish_block(at);
    }
}

int manifest_read(const uint8_t *block, manifest *out) {
    if (!block_is_sound(block, MAGIC_MANIFEST)) {
        return SEGMENT_NOT_ONE;
    }
    out->features = get32(block + 100);
    if (get32(block + 12) > SEGMENT_FORMAT || (out->features & ~FEATURES_KNOWN) != 0) {
        return SEGMENT_NEWER;
    }
    get_hash(block + 16, &out->id);
    out->counter = get64(block + 32);
    out->epoch = get64(block + 40);
    out->oldest = get64(block + 48);
    out->current = get64(block + 56);
    out->segment_bytes = get64(block + 64);
    out->depth = get32(block + 76);
    out->durable_seq = get64(block + 80);
    out->durable_lsn = get64(block + 88);
    out->flags = get32(block + 96);
    for (int index = 0; index < 2; index++) {
        out->snapshot_lsn[index] = get64(block + 112 + 24 * index);
        get_hash(block + 120 + 24 * index, &out->snapshot_hash[index]);
    }
    out->replay_lsn = get64(block + 160);
    out->replay_attempts = get32(block + 168);
    int is_possible = get32(block + 72) == SEGMENT_BLOCK && out->oldest > 0 &&
                      out->current >= out->oldest && out->segment_bytes % SEGMENT_BLOCK == 0 &&
                      out->depth > 0;
    return is_possible ? SEGMENT_SOUND : SEGMENT_NOT_ONE;
}
