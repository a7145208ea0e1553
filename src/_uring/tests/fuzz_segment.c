/* The journal's readers on arbitrary bytes: they read nothing outside, and trust nothing (G2, G3).
 *
 * Half of the inputs are given right hashes, so that the fields behind them are reached too. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "../segment.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_records(const uint8_t *data, size_t size) {
    segment_record record;
    while (size > 0) {
        size_t used = segment_record_read(data, size, &record);
        if (used == 0) {
            return;
        }
        assert(used <= size);
        assert(record.payload >= data && record.payload + record.payload_bytes == data + used);
        data += used;
        size -= used;
    }
}

static void read_blocks(const uint8_t *block) {
    manifest value;
    segment_header header;
    if (manifest_read(block, &value) == SEGMENT_SOUND) {
        assert(value.depth > 0 && value.oldest <= value.current);
    }
    if (segment_header_read(block, &header) == SEGMENT_SOUND) {
        assert(header.number > header.before);
    }
}

static void seal(uint8_t *block) {
    journal_hash hash;
    segment_hash(block, SEGMENT_BLOCK - 16, &hash);
    memcpy(block + SEGMENT_BLOCK - 16, hash.bytes, 16);
}

static void read_frame(const uint8_t *data, size_t size) {
    journal_hash id = {{1}};
    segment_frame frame;
    /* Exactly as many bytes as the reader may touch: the sanitizer sees every other one. */
    uint8_t *head = malloc(FRAME_HEADER_BYTES);
    memset(head, 0, FRAME_HEADER_BYTES);
    memcpy(head, data, size < FRAME_HEADER_BYTES ? size : FRAME_HEADER_BYTES);
    if (segment_frame_read(head, &id, &frame) == SEGMENT_SOUND) {
        assert(frame.seq > frame.durable_seq);
    }
    free(head);
    memset(&frame, 0, sizeof frame);
    frame.type = SEGMENT_DATA;
    frame.seq = 1;
    frame.body_bytes = (uint32_t)size;
    uint8_t *whole = calloc(1, segment_blocks_bytes(FRAME_HEADER_BYTES + size));
    memcpy(whole + FRAME_HEADER_BYTES, data, size);
    segment_frame_write(&frame, &id, whole);
    segment_frame found;
    assert(segment_frame_read(whole, &id, &found) == SEGMENT_SOUND);
    assert(segment_frame_check(whole, &found) == SEGMENT_SOUND);
    if (size > 0) {
        whole[FRAME_HEADER_BYTES + data[0] % size] ^= 1;
        assert(segment_frame_check(whole, &found) == SEGMENT_BODY);
    }
    free(whole);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const char *const magics[] = {"pbhvman\n", "pbhvseg\n"};
    uint8_t block[SEGMENT_BLOCK];
    memset(block, 0, sizeof block);
    memcpy(block, data, size < sizeof block ? size : sizeof block);
    read_blocks(block);
    for (int index = 0; index < 2; index++) {
        memcpy(block, magics[index], 8);
        seal(block);
        read_blocks(block);
    }
    read_records(data, size);
    read_frame(data, size);
    return 0;
}
