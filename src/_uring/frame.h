/* Framing: where does the next message in these bytes end?
 *
 * Theory. A framing is a pure function of the bytes of a stream. frame_next is given everything
 * received since the end of the last message and says READY (one whole message, as a view into the
 * input), MORE, or an error. Nothing is copied and nothing is kept but a resume state of 16 bytes,
 * which lets the scan of a message that arrives in many pieces go on where it stopped.
 *
 * Invariants
 *  (F1) The messages do not depend on how the stream was cut into pieces.
 *  (F2) view->used <= len, and body lies within data[0 .. used). No byte beyond len is read.
 *  (F3) A message in k pieces costs O(bytes + k): what has been scanned is not scanned again, but
 *       for one header of some 20 bytes a piece (frame_resume).
 *  (F4) A message over frame_bytes_max is refused from its header, before its body has come. At
 *       most frame_bytes_max plus one header need ever be kept.
 *  (F5) After READY the resume state is zero: fresh for the next message. After an error the
 *       stream has no further meaning; the caller answers and closes.
 *  (F6) READY consumes at least one byte.
 *
 * What frame_bytes_max counts: the payload for lines and length prefixed messages, the whole
 * request for RESP. Raw input longer than it is cut into several messages.
 *
 * Does not know: descriptors, clocks, memory allocation, Python.
 * Source: RESP as in "Redis serialization protocol specification", strictness as Redis 7 has it.
 */
#ifndef PYBEHAVE_FRAME_H
#define PYBEHAVE_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum frame_kind {
    FRAME_RAW,    /* whatever has arrived is a message */
    FRAME_FIXED,  /* messages of `size` bytes */
    FRAME_LINES,  /* messages that end with the bytes `end` */
    FRAME_LENGTH, /* an unsigned length of `width` bytes, then so many bytes */
    FRAME_RESP,   /* requests of the Redis protocol, inline ones too */
    FRAME_CUSTOM, /* the protocol's own split() in Python: Codec.split, never frame_next */
    FRAME_REPLY,  /* replies of the Redis protocol: what a client receives */
    FRAME_READER, /* the protocol's own reader in Python: Codec.read, never frame_next */
};

#define FRAME_END_BYTES_MAX 8
#define FRAME_WIDTH_MAX 8
/* One request may not hold more elements than Redis allows (1024 * 1024, networking.c). */
#define FRAME_ELEMENTS_MAX 1048576
/* An inline request and a RESP number are short; Redis allows 64 KiB for an inline request. */
#define FRAME_INLINE_BYTES_MAX 65536
/* Redis' proto-max-bulk-len. */
#define FRAME_BULK_BYTES_MAX 536870912
/* Offsets within one message fit 32 bits with room to spare; frame_bytes_max is kept below. */
#define FRAME_BYTES_LIMIT 0x7fffffffu

typedef struct frame_config {
    int kind;
    uint32_t size;         /* FRAME_FIXED */
    uint8_t width, little; /* FRAME_LENGTH: 1..8 bytes; 0 = big-endian */
    uint8_t end[FRAME_END_BYTES_MAX]; /* FRAME_LINES */
    uint8_t end_len;
    uint64_t frame_bytes_max; /* 1..FRAME_BYTES_LIMIT */
} frame_config;

/* Zero = fresh. Belongs to one connection; valid while data[0] stays the first byte of the same
 * message. The caller never looks inside. */
typedef struct frame_resume {
    uint32_t scanned;       /* bytes of the message that need not be looked at again */
    uint32_t line;          /* RESP: bytes behind those in which no line end was found */
    uint32_t pending;       /* RESP: elements still to come */
    uint32_t elements : 31; /* RESP: elements announced so far */
    uint32_t nested : 1;    /* RESP: something else than a bulk string was among them */
} frame_resume;

/* frame_view.type. For every framing but RESP it is FRAME_BODY. */
enum frame_type {
    FRAME_BODY = 0,
    FRAME_EMPTY,  /* RESP: an empty line, *0, *-1: to be dropped without an answer; no body */
    FRAME_BULKS,  /* RESP: `args` bulk strings, one after the other, in body */
    FRAME_NESTED, /* RESP: `args` elements, some of other types */
    FRAME_INLINE, /* RESP: a line of `args` words; body without the line's end */
    FRAME_VALUE,  /* replies: one value of any type; body includes its header */
    FRAME_MADE,   /* the reader has made the message; no body */
};

enum frame_error {
    FRAME_ERROR_NONE = 0,
    FRAME_ERROR_TOO_LONG,
    FRAME_ERROR_CUSTOM, /* split() raised or returned nonsense */
    FRAME_ERROR_COUNT,  /* invalid multibulk length */
    FRAME_ERROR_COUNT_STRING,
    FRAME_ERROR_BULK, /* invalid bulk length */
    FRAME_ERROR_BULK_STRING,
    FRAME_ERROR_END,  /* CR LF was due */
    FRAME_ERROR_TYPE, /* expected '$', got view->got */
    FRAME_ERROR_LINE, /* a number or simple string that does not end */
    FRAME_ERROR_INLINE,
    FRAME_ERROR_QUOTES,
    FRAME_ERROR_HTTP, /* a browser was made to talk to this port */
};

typedef struct frame_view {
    size_t used;         /* bytes consumed from the input for this message */
    const uint8_t *body; /* payload inside the input, no copy */
    size_t body_len;
    uint32_t args; /* RESP: element count */
    int type;      /* enum frame_type */
    size_t need;   /* when incomplete: total bytes known to be needed, or 0 */
    uint8_t error; /* enum frame_error, when the result is negative */
    uint8_t got;   /* FRAME_ERROR_TYPE: the byte that was there instead */
} frame_view;

enum { FRAME_MORE = 0, FRAME_READY = 1, FRAME_TOO_LONG = -1, FRAME_MALFORMED = -2 };

/* Look for one message. With FRAME_MORE call again when more bytes follow the same ones. */
int frame_next(const frame_config *, const uint8_t *data, size_t len, frame_resume *,
               frame_view *);

/* What is wrong, in Redis' words where Redis has some; for a reply. Returns the length. */
size_t frame_error_text(const frame_view *, char *out, size_t out_bytes);

/* One word of an inline request, unquoted as Redis does ("a\x00\n", 'b\'c'). *pos moves on. With
 * out == NULL only the length is found; otherwise out has room for end - *pos bytes.
 * 1 = a word, 0 = no more words, -1 = unbalanced quotes. */
int frame_word(const uint8_t **pos, const uint8_t *end, uint8_t *out, size_t *out_len);

/* One bulk string of a FRAME_BULKS body, which frame_next has validated to the last byte: so
 * nothing is checked here. */
static inline const uint8_t *frame_bulk(const uint8_t **pos, size_t *len) {
    const uint8_t *p = *pos + 1; /* past '$' */
    size_t n = (size_t)(*p++ - '0');
    while (*p != '\r')
        n = n * 10 + (size_t)(*p++ - '0');
    p += 2;
    *len = n;
    *pos = p + n + 2;
    return p;
}

#endif
