/* Fuzz frame.c: a stream cut in any way gives the same messages, and nothing is read beyond it.
 *
 * The first eight bytes of an input choose the framing and the cuts, the rest is the stream. Every
 * prefix that frame_next sees is an exact-size heap copy, so that the address sanitizer notices a
 * read of one byte too many (F2). Checked besides: (F1), (F4), (F5), (F6), and that words of inline
 * requests and bulk strings are what the framing said they are.
 */
#include "../frame.h"

#include <stdlib.h>
#include <string.h>

#define HEAD_BYTES 8
#define STREAM_BYTES_MAX 2048
#define MESSAGES_MAX 4096

typedef struct message {
    size_t start, used, body, body_len; /* offsets in the stream */
    uint32_t args;
    int type;
} message;

typedef struct outcome {
    message messages[MESSAGES_MAX];
    size_t count;
    size_t consumed;
    int status;
    uint8_t error;
} outcome;

static outcome whole, pieces;

static void must(int condition) {
    if (!condition)
        abort();
}

static void check_bulks(const frame_view *view) {
    const uint8_t *pos = view->body;
    size_t len;
    for (uint32_t i = 0; i < view->args; i++) {
        const uint8_t *data = frame_bulk(&pos, &len);
        must(data >= view->body && data + len + 2 <= view->body + view->body_len);
        must(data[len] == '\r' && data[len + 1] == '\n');
    }
    must(pos == view->body + view->body_len);
}

static void check_words(const frame_view *view) {
    const uint8_t *pos = view->body, *end = view->body + view->body_len;
    uint8_t *word = malloc(view->body_len + 1);
    size_t len, count = 0;
    must(word != NULL);
    for (;;) {
        const uint8_t *before = pos;
        int got = frame_word(&pos, end, word, &len);
        must(got >= 0);
        if (got == 0)
            break;
        must(len <= (size_t)(pos - before));
        count++;
    }
    must(count == view->args);
    free(word);
}

static void check_ready(const frame_config *config, const uint8_t *data, size_t len,
                        const frame_resume *resume, const frame_view *view) {
    static const frame_resume fresh;
    must(view->used >= 1 && view->used <= len);                             /* (F2) (F6) */
    must(view->body >= data && view->body + view->body_len <= data + view->used);
    must(view->body_len <= config->frame_bytes_max || config->kind == FRAME_FIXED); /* (F4) */
    must(memcmp(resume, &fresh, sizeof fresh) == 0);                        /* (F5) */
    if (view->type == FRAME_BULKS)
        check_bulks(view);
    if (view->type == FRAME_INLINE)
        check_words(view);
}

/* Feed the stream up to `arrived[i]` for each i; messages and errors go to out. */
static void run(const frame_config *config, const uint8_t *stream, const size_t *arrived,
                size_t arrivals, outcome *out) {
    frame_resume resume = {0};
    frame_view view;
    out->count = out->consumed = 0;
    out->status = FRAME_MORE;
    out->error = 0;
    for (size_t i = 0; i < arrivals && out->status >= 0; i++) {
        for (;;) {
            size_t len = arrived[i] - out->consumed;
            uint8_t *copy = malloc(len ? len : 1);
            must(copy != NULL);
            memcpy(copy, stream + out->consumed, len);
            out->status = frame_next(config, copy, len, &resume, &view);
            if (out->status == FRAME_READY) {
                check_ready(config, copy, len, &resume, &view);
                must(out->count < MESSAGES_MAX);
                out->messages[out->count++] = (message){
                    out->consumed, view.used, (size_t)(view.body - copy), view.body_len,
                    view.args, view.type};
                out->consumed += view.used;
            }
            free(copy);
            if (out->status != FRAME_READY)
                break;
        }
        out->error = view.error;
        must(out->status != FRAME_MORE || view.need == 0 ||
             view.need > arrived[i] - out->consumed);
    }
}

static void same(const outcome *a, const outcome *b) {
    must(a->count == b->count);
    for (size_t i = 0; i < a->count; i++) {
        const message *left = &a->messages[i], *right = &b->messages[i];
        must(left->start == right->start && left->used == right->used);
        must(left->body == right->body && left->body_len == right->body_len);
        must(left->args == right->args && left->type == right->type);
    }
    must(a->status == b->status && a->error == b->error);
}

static frame_config config_from(const uint8_t *head) {
    static const uint64_t limits[] = {1, 5, 16, 64, 300, 1000, 70000, FRAME_BYTES_LIMIT};
    static const char *ends[] = {"\n", "\r\n", ";;", "aab"};
    frame_config config = {.kind = head[0] % 7, .size = head[1] % 40 + 1u};
    config.width = head[2] % FRAME_WIDTH_MAX + 1;
    config.little = head[2] >> 7;
    config.end_len = (uint8_t)strlen(ends[head[3] % 4]);
    memcpy(config.end, ends[head[3] % 4], config.end_len);
    config.frame_bytes_max = limits[head[4] % 8];
    if (config.kind == FRAME_RAW || config.kind == FRAME_CUSTOM)
        config.kind = FRAME_RESP; /* the one with the most to get wrong */
    return config;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static size_t arrived[STREAM_BYTES_MAX + 1];
    if (size < HEAD_BYTES || size > HEAD_BYTES + STREAM_BYTES_MAX)
        return 0;
    frame_config config = config_from(data);
    const uint8_t *stream = data + HEAD_BYTES;
    size_t len = size - HEAD_BYTES, count = 0, step = data[5] % 7 + 1u;
    arrived[0] = len;
    run(&config, stream, arrived, 1, &whole);
    for (size_t at = data[6] % step; at < len; at += step)
        arrived[count++] = at;
    arrived[count++] = len;
    run(&config, stream, arrived, count, &pieces);
    same(&whole, &pieces);
    return 0;
}
