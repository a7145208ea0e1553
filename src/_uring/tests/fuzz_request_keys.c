/* Fuzz request_keys.c: nothing is read beyond the bytes, and what framing takes has that key. */
#include "../request_keys.h"

#include "../frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { KEYS = 5, STREAM_BYTES = 2048 };

static void must(int condition) {
    if (!condition)
        abort();
}

/* The keys of the arrays that framing finds are those that were found, in order. */
static void same_as_framing(const uint8_t *data, size_t len, const request_key *keys,
                            unsigned count) {
    const frame_config config = {.kind = FRAME_RESP, .frame_bytes_max = FRAME_BYTES_LIMIT};
    frame_resume resume = {0};
    frame_view view;
    unsigned found = 0;
    size_t bytes;
    while (found < count && frame_next(&config, data, len, &resume, &view) == FRAME_READY) {
        const uint8_t *pos = view.body;
        if (view.type == FRAME_BULKS && view.args > 1) {
            frame_bulk(&pos, &bytes);
            must(frame_bulk(&pos, &bytes) == keys[found].data && bytes == keys[found].bytes);
            found++;
        } else {
            found += keys[found].data < data + view.used; /* what follows was another type */
        }
        data += view.used;
        len -= view.used;
    }
}

static void check(const uint8_t *data, size_t size) {
    request_key keys[KEYS];
    uint8_t *copy = malloc(size ? size : 1); /* of its size, for the address sanitizer (K1) */
    size_t used;
    must(copy != NULL);
    memcpy(copy, data, size);
    unsigned count = request_keys(copy, size, keys, KEYS, &used);
    must(count <= KEYS && used <= size && (used > 0 || size == 0));
    for (unsigned i = 0; i < count; i++)
        must(keys[i].data > copy && keys[i].data + keys[i].bytes <= copy + size);
    same_as_framing(copy, size, keys, count);
    free(copy);
}

/* Requests whose numbers of words, and of bytes in them, are those of the input; then the input
 * says which of their bytes become others. */
static size_t requests(const uint8_t *data, size_t size, uint8_t *out) {
    size_t at = 0, used = 0;
    while (at < size && used < STREAM_BYTES - 128) {
        unsigned words = data[at++] % 5;
        used += (size_t)sprintf((char *)out + used, "*%u\r\n", words);
        for (; words > 0 && at < size; words--) {
            size_t bytes = data[at++] % 12;
            used += (size_t)sprintf((char *)out + used, "$%zu\r\n", bytes);
            for (size_t i = 0; i < bytes; i++)
                out[used++] = data[(at + i) % size];
            used += (size_t)sprintf((char *)out + used, "\r\n");
        }
    }
    for (at = 0; at + 3 <= size && data[at] % 4 == 0; at += 3)
        out[(data[at + 1] * 256u + data[at + 2]) % used] = data[at];
    return used;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t stream[STREAM_BYTES];
    check(data, size);
    if (size > 0)
        check(stream, requests(data, size, stream));
    return 0;
}
