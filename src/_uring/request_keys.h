/* The keys of the requests that stand in these bytes, before anything is made of them.
 *
 * Theory. A client that sends many requests at once lets us see which keys are asked for next. In
 * most of what Redis understands the word behind the command's name is the key. What is found is a
 * hint: whoever takes it fetches memory ahead of its use, and nothing else depends on it.
 *
 * Invariants
 *  (K1) No byte beyond data[0 .. len) is read, whatever the bytes are, and every key lies within.
 *  (K2) It ends at the first thing that is not an array of bulk strings, so of what framing takes
 *       it may miss some, and what it finds framing may refuse.
 *  (K3) A look takes no longer than `max` requests of REQUEST_KEYS_WORDS_MAX words: one of a
 *       million words that arrives in many pieces is not read again with each. Nor are keys found
 *       that are longer than REQUEST_KEYS_BYTES_MAX: to hash them twice costs more than it saves.
 *
 * Does not know: what keys are for. Source: Valkey 8, which fetches a batch's keys ahead.
 */
#ifndef PYBEHAVE_REQUEST_KEYS_H
#define PYBEHAVE_REQUEST_KEYS_H

#include <stddef.h>
#include <stdint.h>

#define REQUEST_KEYS_WORDS_MAX 64
#define REQUEST_KEYS_BYTES_MAX 256

typedef struct request_key {
    const uint8_t *data;
    size_t bytes;
} request_key;

/* The keys of the next `max` requests; *used is how many bytes these are, at most len. Not each has
 * one; one that is not complete may have. */
unsigned request_keys(const uint8_t *data, size_t len, request_key *keys, unsigned max,
                      size_t *used);

#endif
