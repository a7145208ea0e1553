/* RESP's small change in C: names of commands, decimal numbers, headers and bulk strings.
 *
 * Theory. What a request costs beyond the allocation of its bytes objects is here: finding the
 * command's name among the known ones without a loop over its letters, and writing a length in
 * front of a reply. Everything is inline, for codec.pyx only.
 *
 * Does not know: Python (a name's object is an opaque pointer), framing.
 */
#ifndef PYBEHAVE_RESP_H
#define PYBEHAVE_RESP_H

#include "outq.h"

#include <string.h>

/* ---- Names of commands: a table by open addressing, filled once, at most a quarter full. - */

#define RESP_NAMES 1024
#define RESP_NAME_BYTES_MAX 16

/* Names worth an object of their own. */
#define RESP_COMMANDS                                                                              \
    "APPEND AUTH BITCOUNT BITFIELD BITOP BITPOS BLMOVE BLPOP BRPOP BZPOPMAX BZPOPMIN CLIENT "      \
    "COMMAND CONFIG COPY DBSIZE DECR DECRBY DEL DISCARD DUMP ECHO EVAL EVALSHA EXEC EXISTS "       \
    "EXPIRE EXPIREAT EXPIRETIME FLUSHALL FLUSHDB GEOADD GEODIST GEOHASH GEOPOS GEOSEARCH GET "     \
    "GETBIT GETDEL GETEX GETRANGE GETSET HDEL HELLO HEXISTS HGET HGETALL HINCRBY HINCRBYFLOAT "    \
    "HKEYS HLEN HMGET HMSET HRANDFIELD HSCAN HSET HSETNX HSTRLEN HVALS INCR INCRBY "               \
    "INCRBYFLOAT INFO KEYS LCS LINDEX LINSERT LLEN LMOVE LMPOP LPOP LPOS LPUSH LPUSHX LRANGE "     \
    "LREM LSET LTRIM MGET MOVE MSET MSETNX MULTI OBJECT PERSIST PEXPIRE PEXPIREAT PFADD "          \
    "PFCOUNT PFMERGE PING PSETEX PSUBSCRIBE PTTL PUBLISH PUBSUB PUNSUBSCRIBE QUIT RANDOMKEY "      \
    "RENAME RENAMENX RESET RPOP RPOPLPUSH RPUSH RPUSHX SADD SCAN SCARD SDIFF SDIFFSTORE "          \
    "SELECT SET SETBIT SETEX SETNX SETRANGE SINTER SINTERSTORE SISMEMBER SMEMBERS SMISMEMBER "     \
    "SMOVE SORT SPOP SRANDMEMBER SREM SSCAN STRLEN SUBSCRIBE SUNION SUNIONSTORE SWAPDB TIME "      \
    "TOUCH TTL TYPE UNLINK UNSUBSCRIBE UNWATCH WAIT WATCH XACK XADD XDEL XLEN XRANGE XREAD "       \
    "XTRIM ZADD ZCARD ZCOUNT ZINCRBY ZMSCORE ZPOPMAX ZPOPMIN ZRANGE ZRANGEBYSCORE ZRANK ZREM "     \
    "ZREVRANGE ZREVRANK ZSCAN ZSCORE "

typedef struct resp_name {
    uint64_t low, high; /* the letters */
    size_t size;
    void *object; /* NULL = free slot */
} resp_name;

/* Eight ASCII letters to upper case at once: bit 7 marks the bytes from 'a' to 'z'. */
static inline uint64_t resp_upper8(uint64_t x) {
    uint64_t low7 = x & 0x7f7f7f7f7f7f7f7fu;
    uint64_t from_a = low7 + 0x1f1f1f1f1f1f1f1fu;
    uint64_t past_z = low7 + 0x0505050505050505u;
    uint64_t letters = from_a & ~past_z & ~x & 0x8080808080808080u;
    return x - (letters >> 2);
}

static inline uint64_t resp_load(const uint8_t *p, size_t bytes) {
    uint64_t x = 0;
    memcpy(&x, p, bytes); /* bytes is a constant: one load */
    return x;
}

/* 1..16 bytes as two words, by loads that overlap instead of a loop; the size makes them unique. */
static inline resp_name resp_name_of(const uint8_t *p, size_t size, int upper) {
    resp_name name = {.size = size};
    if (size >= 8) {
        name.low = resp_load(p, 8);
        name.high = resp_load(p + size - 8, 8);
    } else if (size >= 4) {
        name.low = resp_load(p, 4);
        name.high = resp_load(p + size - 4, 4);
    } else {
        name.low = p[0] | (uint64_t)p[size >> 1] << 8 | (uint64_t)p[size - 1] << 16;
    }
    if (upper) {
        name.low = resp_upper8(name.low);
        name.high = resp_upper8(name.high);
    }
    return name;
}

/* The slot of this name, or the free one where it belongs. */
static inline resp_name *resp_name_slot(resp_name *table, const resp_name *name) {
    uint64_t mixed = (name->low ^ name->high << 7 ^ name->size) * 0x9e3779b97f4a7c15u;
    size_t i = (size_t)(mixed >> 54); /* the top 10 bits: RESP_NAMES */
    while (table[i].object != NULL && (table[i].low != name->low || table[i].high != name->high ||
                                       table[i].size != name->size))
        i = (i + 1) % RESP_NAMES;
    return &table[i];
}

/* ---- Commands that the protocol answers itself ------------------------------------------- */

/* Refuse nearly every other command by its length and first letter: SET and GET by the length. */
static inline int resp_may_be_native(const uint8_t *name, size_t size) {
    uint8_t first = name[0] & 0xdf;
    switch (size) {
    case 4: /* PING ECHO INFO QUIT AUTH */
        return first == 'P' || first == 'E' || first == 'I' || first == 'Q' || first == 'A';
    case 5: /* HELLO RESET */
        return first == 'H' || first == 'R';
    case 6: /* CLIENT CONFIG SELECT */
        return first == 'C' || first == 'S';
    case 7: /* COMMAND */
        return first == 'C';
    default:
        return 0;
    }
}

/* The first word of an inline request that has one; of 0 bytes when there are quotes in it, for
 * then only frame_word can tell what it says. */
static inline const uint8_t *resp_first_word(const uint8_t *line, size_t size, size_t *word) {
    size_t n = 0;
    for (; size > 0 && (*line == ' ' || *line == '\t'); size--)
        line++;
    while (n < size && line[n] > ' ' && line[n] != '"' && line[n] != '\'')
        n++;
    *word = n < size && line[n] > ' ' ? 0 : n;
    return line;
}

static inline int resp_is_ping(const uint8_t *name, size_t size) {
    return size == 4 && resp_upper8(resp_load(name, 4)) == resp_load((const uint8_t *)"PING", 4);
}

/* ---- Writing ----------------------------------------------------------------------------- */

/* Type byte, sign, 20 digits, CR LF; and the CR LF behind a bulk string. */
#define RESP_HEADER_BYTES 26

/* Decimal digits; returns what is behind them. */
static inline uint8_t *resp_write_number(uint8_t *p, uint64_t number) {
    uint8_t digits[20];
    int n = 0;
    if (number < 10) {
        *p = (uint8_t)('0' + number);
        return p + 1;
    }
    if (number < 100) {
        p[0] = (uint8_t)('0' + number / 10);
        p[1] = (uint8_t)('0' + number % 10);
        return p + 2;
    }
    for (; number > 0; number /= 10)
        digits[n++] = (uint8_t)('0' + number % 10);
    while (n > 0)
        *p++ = digits[--n];
    return p;
}

static inline uint8_t *resp_write_end(uint8_t *p) {
    p[0] = '\r';
    p[1] = '\n';
    return p + 2;
}

/* The following return 0, or -1 = no memory and nothing appended. */

static inline int resp_put(outq_pool *pool, outq *q, const void *data, size_t size) {
    uint8_t *p = outq_reserve(pool, q, size);
    if (p == NULL)
        return -1;
    memcpy(p, data, size);
    outq_commit(q, size);
    return 0;
}

/* A type byte, a number, CR LF: counts and integers. */
static inline int resp_put_number(outq_pool *pool, outq *q, char type, int64_t number) {
    uint8_t *start = outq_reserve(pool, q, RESP_HEADER_BYTES), *p = start;
    if (start == NULL)
        return -1;
    *p++ = (uint8_t)type;
    if (number < 0)
        *p++ = '-';
    p = resp_write_number(p, number < 0 ? 0 - (uint64_t)number : (uint64_t)number);
    outq_commit(q, (size_t)(resp_write_end(p) - start));
    return 0;
}

static inline int resp_put_bulk(outq_pool *pool, outq *q, const void *data, size_t size) {
    uint8_t *start = outq_reserve(pool, q, size + RESP_HEADER_BYTES), *p = start;
    if (start == NULL)
        return -1;
    *p++ = '$';
    p = resp_write_end(resp_write_number(p, size));
    memcpy(p, data, size);
    outq_commit(q, (size_t)(resp_write_end(p + size) - start));
    return 0;
}

#endif
