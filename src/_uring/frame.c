/* Framing in place; see frame.h for the contract (F1)-(F6).
 *
 * Every decision here is made on a prefix of the message that does not depend on how much more has
 * arrived: a byte that is wrong is refused when it is the last one seen as well as in the middle.
 * That is what makes (F1) hold for errors too.
 *
 * Over 500 lines: six framings and the words for their faults. They share the resume state, and a
 * reader who checks (F1)-(F6) wants them under one eye.
 */
#include "frame.h"

#include <assert.h>
#include <string.h>

/* The shortest RESP element is "_\r\n". */
#define ELEMENT_BYTES_MIN 3
/* A 64-bit number with its sign; longer ones are refused before their end is seen. */
#define NUMBER_BYTES_MAX 20

static_assert(sizeof(frame_resume) == 16, "one per connection");
static_assert((uint64_t)FRAME_ELEMENTS_MAX * 2 < 0x7fffffff, "a map counts twice, in 31 bits");
static_assert(FRAME_BULK_BYTES_MAX < FRAME_BYTES_LIMIT, "offsets fit 32 bits");

static int fail(frame_view *view, enum frame_error error) {
    assert(error != FRAME_ERROR_NONE);
    view->error = (uint8_t)error;
    return error == FRAME_ERROR_TOO_LONG ? FRAME_TOO_LONG : FRAME_MALFORMED;
}

static int more(frame_view *view, size_t need) {
    view->need = need;
    return FRAME_MORE;
}

static int ready(frame_view *view, frame_resume *resume, const uint8_t *body, size_t body_len,
                 size_t used) {
    assert(used > 0); /* (F6) */
    view->body = body;
    view->body_len = body_len;
    view->used = used;
    *resume = (frame_resume){0}; /* (F5) */
    return FRAME_READY;
}

static int next_raw(const frame_config *config, const uint8_t *data, size_t len,
                    frame_resume *resume, frame_view *view) {
    size_t used = len < config->frame_bytes_max ? len : (size_t)config->frame_bytes_max;
    if (used == 0)
        return more(view, 1);
    return ready(view, resume, data, used, used);
}

static int next_fixed(const frame_config *config, const uint8_t *data, size_t len,
                      frame_resume *resume, frame_view *view) {
    assert(config->size > 0);
    if (len < config->size)
        return more(view, config->size);
    return ready(view, resume, data, config->size, config->size);
}

static int next_length(const frame_config *config, const uint8_t *data, size_t len,
                       frame_resume *resume, frame_view *view) {
    unsigned width = config->width;
    uint64_t size = 0;
    assert(width >= 1 && width <= FRAME_WIDTH_MAX);
    if (len < width)
        return more(view, width);
    for (unsigned i = 0; i < width; i++)
        size = size << 8 | data[config->little ? width - 1 - i : i];
    if (size > config->frame_bytes_max)
        return fail(view, FRAME_ERROR_TOO_LONG); /* (F4) */
    if (len - width < size)
        return more(view, width + (size_t)size);
    return ready(view, resume, data + width, (size_t)size, width + (size_t)size);
}

static int next_line(const frame_config *config, const uint8_t *data, size_t len,
                     frame_resume *resume, frame_view *view) {
    size_t end_len = config->end_len;
    size_t window = (size_t)config->frame_bytes_max + end_len; /* an end beyond it is too late */
    size_t seen = len < window ? len : window;
    size_t pos = resume->scanned;
    assert(end_len >= 1 && end_len <= FRAME_END_BYTES_MAX);
    while (pos < seen) {
        const uint8_t *hit = memchr(data + pos, config->end[0], seen - pos);
        if (hit == NULL) {
            pos = seen;
            break;
        }
        pos = (size_t)(hit - data);
        if (seen - pos < end_len)
            break;
        if (memcmp(hit, config->end, end_len) == 0)
            return ready(view, resume, data, pos, pos + end_len);
        pos++;
    }
    if (pos > config->frame_bytes_max)
        return fail(view, FRAME_ERROR_TOO_LONG);
    resume->scanned = (uint32_t)pos;
    return more(view, 0);
}

/* A number and its CR LF, strictly: no plus, no leading zero, no -0. 1 = *value and *pos are set,
 * 0 = incomplete, -1 = not a number, -2 = more digits than any number has. */
static int number(const uint8_t **pos, const uint8_t *end, int64_t *value) {
    const uint8_t *p = *pos, *first;
    uint64_t magnitude = 0;
    int overflow = 0, negative = p < end && *p == '-';
    p += negative;
    first = p;
    for (; p < end && *p != '\r'; p++) {
        uint64_t digit = (uint64_t)*p - '0';
        if (digit > 9 || (p > first && *first == '0'))
            return -1;
        if (p - first >= NUMBER_BYTES_MAX)
            return -2;
        overflow |= magnitude > (INT64_MAX - digit) / 10;
        magnitude = magnitude * 10 + digit;
    }
    if (p < end && (p == first || overflow || (negative && magnitude == 0)))
        return -1;
    if (end - p < 2)
        return 0;
    if (p[1] != '\n')
        return -1;
    *value = negative ? -(int64_t)magnitude : (int64_t)magnitude;
    *pos = p + 2;
    return 1;
}

/* The state of one scan through a RESP message; written back to frame_resume when it stops. */
typedef struct scan {
    const uint8_t *data, *pos, *end;
    const frame_config *config;
    frame_view *view;
    uint64_t pending;  /* elements still to come */
    uint32_t elements; /* elements announced */
    uint32_t line;     /* bytes after pos without a line end */
    int nested;
} scan;

/* So many elements were announced: is the message still within its limits? */
static int announce(scan *s, uint64_t count) {
    if (count > FRAME_ELEMENTS_MAX - s->elements)
        return fail(s->view, FRAME_ERROR_COUNT);
    s->elements += (uint32_t)count;
    s->pending += count;
    if ((uint64_t)(s->pos - s->data) + s->pending * ELEMENT_BYTES_MIN > s->config->frame_bytes_max)
        return fail(s->view, FRAME_ERROR_TOO_LONG);
    return FRAME_READY;
}

/* $, = and !: a length, so many bytes, CR LF. */
static int element_bulk(scan *s) {
    const uint8_t *p = s->pos + 1;
    int64_t size = 0;
    size_t body, due;
    int got = number(&p, s->end, &size);
    if (got == 0)
        return more(s->view, 0);
    if (got < 0)
        return fail(s->view, got == -2 ? FRAME_ERROR_BULK_STRING : FRAME_ERROR_BULK);
    if (size == -1 && *s->pos == '$' && s->config->kind == FRAME_REPLY) {
        s->pos = p; /* the null of RESP2; a request has none (Redis: invalid bulk length) */
        return announce(s, 0);
    }
    if (size < 0 || size > FRAME_BULK_BYTES_MAX)
        return fail(s->view, FRAME_ERROR_BULK);
    body = (size_t)(p - s->data);
    due = (size_t)size + 2;
    if (body + due > s->config->frame_bytes_max)
        return fail(s->view, FRAME_ERROR_TOO_LONG); /* (F4) */
    if ((size_t)(s->end - p) >= due - 1 && p[size] != '\r')
        return fail(s->view, FRAME_ERROR_END);
    if ((size_t)(s->end - p) < due)
        return more(s->view, body + due);
    if (p[size + 1] != '\n')
        return fail(s->view, FRAME_ERROR_END);
    s->pos = p + due;
    return FRAME_READY;
}

/* + - : , ( # _: bytes up to CR LF. What they mean is for decode to say. */
static int element_line(scan *s) {
    size_t have = (size_t)(s->end - s->pos);
    size_t seen = have < FRAME_INLINE_BYTES_MAX ? have : FRAME_INLINE_BYTES_MAX;
    const uint8_t *hit = memchr(s->pos + s->line, '\r', seen - s->line);
    size_t at = hit != NULL ? (size_t)(hit - s->pos) : seen;
    if ((uint64_t)(s->pos - s->data) + at + 2 > s->config->frame_bytes_max)
        return fail(s->view, FRAME_ERROR_TOO_LONG);
    if (at == FRAME_INLINE_BYTES_MAX)
        return fail(s->view, FRAME_ERROR_LINE);
    s->line = (uint32_t)at;
    if (hit == NULL || at + 1 == have)
        return more(s->view, 0);
    if (hit[1] != '\n')
        return fail(s->view, FRAME_ERROR_END);
    s->pos = hit + 2;
    s->line = 0;
    return FRAME_READY;
}

/* * ~ > and %: a count; the elements follow. */
static int element_aggregate(scan *s) {
    const uint8_t *p = s->pos + 1;
    int64_t count = 0;
    int got = number(&p, s->end, &count);
    uint8_t type = *s->pos;
    if (got == 0)
        return more(s->view, 0);
    if (got < 0)
        return fail(s->view, got == -2 ? FRAME_ERROR_COUNT_STRING : FRAME_ERROR_COUNT);
    if (count == -1 && type == '*' && s->config->kind == FRAME_REPLY)
        count = 0; /* a null array: nothing follows */
    if (count < 0 || count > FRAME_ELEMENTS_MAX)
        return fail(s->view, FRAME_ERROR_COUNT);
    s->pos = p;
    return announce(s, type == '%' ? (uint64_t)count * 2 : (uint64_t)count);
}

static int element(scan *s) {
    if (s->pos == s->end)
        return more(s->view, 0);
    switch (*s->pos) {
    case '$':
        return element_bulk(s);
    case '=':
    case '!':
        s->nested = 1;
        return element_bulk(s);
    case '+':
    case '-':
    case ':':
    case ',':
    case '(':
    case '#':
    case '_':
        s->nested = 1;
        return element_line(s);
    case '*':
    case '~':
    case '>':
    case '%':
        s->nested = 1;
        return element_aggregate(s);
    default:
        s->view->got = *s->pos;
        return fail(s->view, FRAME_ERROR_TYPE);
    }
}

/* The common element, "$64\r\n...\r\n" with one to three digits and wholly there. NULL = take the
 * careful way, which also finds out what is wrong. */
static inline const uint8_t *element_short(const uint8_t *p, const uint8_t *end) {
    size_t size, head;
    if (end - p < 6 || p[0] != '$')
        return NULL;
    size = (size_t)p[1] - '0';
    head = 2;
    if (size > 9 || (size == 0 && p[2] != '\r'))
        return NULL;
    while (p[head] != '\r') { /* stops at p[4] */
        size_t digit = (size_t)p[head] - '0';
        if (digit > 9 || head == 4)
            return NULL;
        size = size * 10 + digit;
        head++;
    }
    if (p[head + 1] != '\n' || (size_t)(end - p) < head + size + 4)
        return NULL;
    p += head + 2 + size;
    return p[0] == '\r' && p[1] == '\n' ? p + 2 : NULL;
}

static int elements(scan *s) {
    const uint8_t *limit = s->end;
    if ((uint64_t)(s->end - s->data) > s->config->frame_bytes_max)
        limit = s->data + s->config->frame_bytes_max;
    while (s->pending > 0) {
        const uint8_t *next = s->pos < limit ? element_short(s->pos, limit) : NULL;
        s->pending--;
        if (next != NULL) {
            s->pos = next;
            continue;
        }
        int status = element(s);
        if (status != FRAME_READY) {
            s->pending++;
            return status;
        }
    }
    return FRAME_READY;
}

static void scan_resume(scan *s, const frame_resume *resume) {
    s->pos = s->data + resume->scanned;
    s->pending = resume->pending;
    s->elements = resume->elements;
    s->line = resume->line;
    s->nested = resume->nested;
}

static void scan_stop(const scan *s, frame_resume *resume) {
    resume->scanned = (uint32_t)(s->pos - s->data);
    resume->pending = (uint32_t)s->pending;
    resume->elements = s->elements & 0x7fffffffu;
    resume->line = s->line;
    resume->nested = s->nested ? 1 : 0;
}

/* *N and then N elements. */
static int next_array(scan *s, frame_resume *resume) {
    const uint8_t *body = s->data + 1;
    int64_t count = 0;
    int got = number(&body, s->end, &count); /* again after a pause: args and body are wanted */
    int status;
    if (got == 0)
        return more(s->view, 0);
    if (got < 0 || count > FRAME_ELEMENTS_MAX)
        return fail(s->view, got == -2 ? FRAME_ERROR_COUNT_STRING : FRAME_ERROR_COUNT);
    if (count <= 0) {
        s->view->type = FRAME_EMPTY;
        return ready(s->view, resume, body, 0, (size_t)(body - s->data));
    }
    if (resume->scanned != 0) {
        scan_resume(s, resume);
        status = FRAME_READY;
    } else {
        s->pos = body;
        status = announce(s, (uint64_t)count);
    }
    if (status == FRAME_READY)
        status = elements(s);
    if (status == FRAME_MORE)
        scan_stop(s, resume);
    if (status != FRAME_READY)
        return status;
    s->view->args = (uint32_t)count;
    s->view->type = s->nested ? FRAME_NESTED : FRAME_BULKS;
    return ready(s->view, resume, body, (size_t)(s->pos - body), (size_t)(s->pos - s->data));
}

static int next_reply(const frame_config *config, const uint8_t *data, size_t len,
                      frame_resume *resume, frame_view *view) {
    scan s = {.data = data, .pos = data, .end = data + len, .config = config, .view = view};
    int status;
    s.pending = 1;
    if (resume->pending != 0)
        scan_resume(&s, resume);
    status = elements(&s);
    if (status == FRAME_MORE)
        scan_stop(&s, resume);
    if (status != FRAME_READY)
        return status;
    view->args = 1;
    view->type = FRAME_VALUE;
    return ready(view, resume, data, (size_t)(s.pos - data), (size_t)(s.pos - data));
}

static int is_blank(uint8_t byte) { return byte == ' ' || (byte >= '\t' && byte <= '\r'); }

static int is_word(const uint8_t *data, size_t len, const char *word) {
    size_t i = 0;
    for (; i < len && word[i] != '\0'; i++)
        if ((data[i] >= 'A' && data[i] <= 'Z' ? data[i] + 32 : data[i]) != word[i])
            return 0;
    return word[i] == '\0' && (i == len || is_blank(data[i]));
}

/* The line is whole: count its words, which also proves its quotes. */
static int inline_words(frame_resume *resume, frame_view *view, const uint8_t *data, size_t body,
                        size_t used) {
    const uint8_t *pos = data;
    size_t word_len;
    int got;
    /* A page in a browser can POST to any port: what it could say as a command is refused. */
    if (is_word(data, body, "post") || is_word(data, body, "host:"))
        return fail(view, FRAME_ERROR_HTTP);
    while ((got = frame_word(&pos, data + body, NULL, &word_len)) > 0)
        view->args++;
    if (got < 0)
        return fail(view, FRAME_ERROR_QUOTES);
    view->type = view->args > 0 ? FRAME_INLINE : FRAME_EMPTY;
    return ready(view, resume, data, view->type == FRAME_EMPTY ? 0 : body, used);
}

static int next_inline(const frame_config *config, const uint8_t *data, size_t len,
                       frame_resume *resume, frame_view *view) {
    size_t limit = FRAME_INLINE_BYTES_MAX;
    enum frame_error error = FRAME_ERROR_INLINE;
    size_t seen, at;
    const uint8_t *hit;
    if (config->frame_bytes_max < limit) {
        limit = (size_t)config->frame_bytes_max;
        error = FRAME_ERROR_TOO_LONG;
    }
    seen = len < limit ? len : limit; /* the line's end counts, as in all of RESP */
    hit = memchr(data + resume->scanned, '\n', seen - resume->scanned);
    if (hit == NULL) {
        resume->scanned = (uint32_t)seen;
        return seen == limit ? fail(view, error) : more(view, 0);
    }
    at = (size_t)(hit - data);
    return inline_words(resume, view, data, at - (at > 0 && hit[-1] == '\r'), at + 1);
}

static int next_resp(const frame_config *config, const uint8_t *data, size_t len,
                     frame_resume *resume, frame_view *view) {
    scan s;
    if (len == 0)
        return more(view, 1);
    if (data[0] != '*')
        return next_inline(config, data, len, resume, view);
    s = (scan){.data = data, .pos = data, .end = data + len, .config = config, .view = view};
    return next_array(&s, resume);
}

int frame_next(const frame_config *config, const uint8_t *data, size_t len, frame_resume *resume,
               frame_view *view) {
    assert(config->frame_bytes_max >= 1 && config->frame_bytes_max <= FRAME_BYTES_LIMIT);
    assert(resume->scanned <= len);
    *view = (frame_view){0};
    switch (config->kind) {
    case FRAME_RAW:
        return next_raw(config, data, len, resume, view);
    case FRAME_FIXED:
        return next_fixed(config, data, len, resume, view);
    case FRAME_LINES:
        return next_line(config, data, len, resume, view);
    case FRAME_LENGTH:
        return next_length(config, data, len, resume, view);
    case FRAME_RESP:
        return next_resp(config, data, len, resume, view);
    case FRAME_REPLY:
        return next_reply(config, data, len, resume, view);
    default:
        return fail(view, FRAME_ERROR_CUSTOM);
    }
}

static int hex(uint8_t byte) {
    if (byte >= '0' && byte <= '9')
        return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The byte that an escape within double quotes stands for; *p is on the backslash, and moves to
 * the last byte of the escape. */
static uint8_t unescape(const uint8_t **p, const uint8_t *end) {
    const uint8_t *q = *p;
    if (end - q >= 4 && q[1] == 'x' && hex(q[2]) >= 0 && hex(q[3]) >= 0) {
        *p = q + 3;
        return (uint8_t)(hex(q[2]) * 16 + hex(q[3]));
    }
    *p = q + 1;
    switch (q[1]) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'a':
        return '\a';
    default:
        return q[1];
    }
}

int frame_word(const uint8_t **pos, const uint8_t *end, uint8_t *out, size_t *out_len) {
    const uint8_t *p = *pos;
    uint8_t quote = 0;
    size_t n = 0;
    while (p < end && is_blank(*p))
        p++;
    if (p == end)
        return 0;
    for (; p < end && (quote || !is_blank(*p)); p++) {
        uint8_t byte = *p;
        if (quote == 0 && (byte == '"' || byte == '\'')) {
            quote = byte;
            continue;
        }
        if (quote != 0 && byte == quote) {
            if (p + 1 < end && !is_blank(p[1]))
                return -1; /* a closing quote ends the word */
            quote = 0;
            continue;
        }
        if (quote == '"' && byte == '\\' && end - p >= 2)
            byte = unescape(&p, end);
        else if (quote == '\'' && byte == '\\' && end - p >= 2 && p[1] == '\'')
            byte = *++p;
        if (out != NULL)
            out[n] = byte;
        n++;
    }
    if (quote != 0)
        return -1;
    *pos = p;
    *out_len = n;
    return 1;
}

static const char *error_sentence(enum frame_error error) {
    switch (error) {
    case FRAME_ERROR_NONE:
        return "no error";
    case FRAME_ERROR_TOO_LONG:
        return "message too long";
    case FRAME_ERROR_CUSTOM:
        return "invalid message";
    case FRAME_ERROR_COUNT:
        return "invalid multibulk length";
    case FRAME_ERROR_COUNT_STRING:
        return "too big mbulk count string";
    case FRAME_ERROR_BULK:
        return "invalid bulk length";
    case FRAME_ERROR_BULK_STRING:
        return "too big bulk count string";
    case FRAME_ERROR_END:
        return "expected CR LF after a value";
    case FRAME_ERROR_TYPE:
        return "expected '$', got '";
    case FRAME_ERROR_LINE:
        return "too big simple value";
    case FRAME_ERROR_INLINE:
        return "too big inline request";
    case FRAME_ERROR_QUOTES:
        return "unbalanced quotes in request";
    case FRAME_ERROR_HTTP:
        return "HTTP on a RESP port (possible cross-protocol attack)";
    }
    return "invalid message";
}

size_t frame_error_text(const frame_view *view, char *out, size_t out_bytes) {
    static const char digits[] = "0123456789abcdef";
    char text[96];
    const char *sentence = error_sentence((enum frame_error)view->error);
    size_t n = strlen(sentence);
    assert(n + 6 <= sizeof text && out_bytes > 0);
    memcpy(text, sentence, n);
    if (view->error == FRAME_ERROR_TYPE) {
        if (view->got >= 0x20 && view->got < 0x7f) {
            text[n++] = (char)view->got;
        } else { /* a control byte would break the reply's line */
            memcpy(text + n, "\\x", 2);
            text[n + 2] = digits[view->got >> 4];
            text[n + 3] = digits[view->got & 15];
            n += 4;
        }
        text[n++] = '\'';
    }
    if (n > out_bytes - 1)
        n = out_bytes - 1;
    memcpy(out, text, n);
    out[n] = '\0';
    return n;
}
