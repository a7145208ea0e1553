/* See request_keys.h. */
#include "request_keys.h"

/* A number and its \r\n behind `type`; past it, or NULL. Six digits are more than a hint needs. */
static const uint8_t *number(const uint8_t *p, const uint8_t *end, uint8_t type, size_t *value) {
    const uint8_t *digits;
    size_t n = 0;
    if (end - p < 4 || *p != type)
        return NULL;
    for (digits = ++p; p < end && p - digits < 6 && *p >= '0' && *p <= '9'; p++)
        n = n * 10 + (size_t)(*p - '0');
    if (p == digits || end - p < 2 || p[0] != '\r' || p[1] != '\n')
        return NULL;
    *value = n;
    return p + 2;
}

/* One request: past it, or NULL when not all of it is there. A key that is there is *key. */
static const uint8_t *request(const uint8_t *p, const uint8_t *end, request_key *key) {
    size_t words, bytes;
    if ((p = number(p, end, '*', &words)) == NULL || words > REQUEST_KEYS_WORDS_MAX)
        return NULL;
    for (size_t word = 0; word < words; word++) {
        if ((p = number(p, end, '$', &bytes)) == NULL || (size_t)(end - p) < bytes)
            return NULL;
        if (word == 1 && bytes <= REQUEST_KEYS_BYTES_MAX)
            *key = (request_key){p, bytes};
        if ((size_t)(end - p) < bytes + 2)
            return NULL;
        p += bytes + 2;
    }
    return p;
}

unsigned request_keys(const uint8_t *data, size_t len, request_key *keys, unsigned max,
                      size_t *used) {
    const uint8_t *p = data, *end = data + len, *next;
    unsigned count = 0;
    for (unsigned requests = 0; p < end && requests < max; requests++) {
        keys[count].data = NULL;
        next = request(p, end, &keys[count]);
        count += keys[count].data != NULL;
        if (next == NULL) { /* nothing behind it can be found either */
            p = end;
            break;
        }
        p = next;
    }
    *used = (size_t)(p - data);
    return count;
}
