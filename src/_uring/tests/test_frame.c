/* Tests of frame.c. `--seed N` replays the random cuts of streams. */
#include "../frame.h"

#include "check.h"

#define TEXT(literal) ((const uint8_t *)(literal)), (sizeof(literal) - 1)

enum { CUT_ROUNDS = 2000, STREAM_BYTES = 4096 };

static uint64_t seed = 1;

static frame_config resp(uint64_t limit) {
    return (frame_config){.kind = FRAME_RESP, .frame_bytes_max = limit};
}

static frame_config lines(const char *end, uint64_t limit) {
    frame_config config = {.kind = FRAME_LINES, .frame_bytes_max = limit};
    config.end_len = (uint8_t)strlen(end);
    memcpy(config.end, end, config.end_len);
    return config;
}

static frame_config prefixed(uint8_t width, uint8_t little, uint64_t limit) {
    return (frame_config){
        .kind = FRAME_LENGTH, .width = width, .little = little, .frame_bytes_max = limit};
}

/* One look at the whole input. */
static int once(frame_config config, const uint8_t *data, size_t len, frame_view *view) {
    frame_resume resume = {0};
    return frame_next(&config, data, len, &resume, view);
}

/* The result that the input has in one piece must be the one it has byte by byte (F1), and comes
 * not before the last byte unless it is an error. */
static int gradually(frame_config config, const uint8_t *data, size_t len, frame_view *view) {
    frame_resume resume = {0};
    frame_view first;
    int status = FRAME_MORE, expected = once(config, data, len, &first);
    for (size_t n = 0; n <= len && status == FRAME_MORE; n++)
        status = frame_next(&config, data, n, &resume, view);
    CHECK_EQUAL(status, expected);
    CHECK_EQUAL(view->error, first.error);
    CHECK_EQUAL(view->used, first.used);
    CHECK_EQUAL(view->args, first.args);
    CHECK_EQUAL(view->type, first.type);
    return status;
}

static void expect_body(const frame_view *view, const char *body) {
    CHECK_EQUAL(view->body_len, strlen(body));
    CHECK_BYTES(view->body, body, strlen(body));
}

static void expect_error(frame_config config, const uint8_t *data, size_t len, const char *text) {
    frame_view view;
    char got[128];
    CHECK(gradually(config, data, len, &view) < 0);
    CHECK_EQUAL(frame_error_text(&view, got, sizeof got), strlen(text));
    CHECK_BYTES(got, text, strlen(text) + 1);
}

static void test_raw_takes_what_is_there_up_to_the_limit(void) {
    frame_config config = {.kind = FRAME_RAW, .frame_bytes_max = 4};
    frame_view view;
    CHECK_EQUAL(once(config, TEXT(""), &view), FRAME_MORE);
    CHECK_EQUAL(once(config, TEXT("abc"), &view), FRAME_READY);
    CHECK_EQUAL(view.used, 3);
    CHECK_EQUAL(once(config, TEXT("abcde"), &view), FRAME_READY);
    CHECK_EQUAL(view.used, 4);
}

static void test_fixed_needs_exactly_its_size(void) {
    frame_config config = {.kind = FRAME_FIXED, .size = 4, .frame_bytes_max = 4};
    frame_view view;
    CHECK_EQUAL(once(config, TEXT("abc"), &view), FRAME_MORE);
    CHECK_EQUAL(view.need, 4);
    CHECK_EQUAL(once(config, TEXT("abcdX"), &view), FRAME_READY);
    CHECK_EQUAL(view.used, 4);
    expect_body(&view, "abcd");
}

static void test_a_line_ends_at_its_first_end(void) {
    frame_view view;
    CHECK_EQUAL(gradually(lines("\n", 10), TEXT("one\n"), &view), FRAME_READY);
    expect_body(&view, "one");
    CHECK_EQUAL(once(lines("\n", 10), TEXT("\n\n"), &view), FRAME_READY);
    CHECK_EQUAL(view.body_len, 0);
    CHECK_EQUAL(gradually(lines("\r\n", 10), TEXT("a\rb\r\r\n"), &view), FRAME_READY);
    expect_body(&view, "a\rb\r");
    CHECK_EQUAL(gradually(lines("aab", 10), TEXT("xaaab"), &view), FRAME_READY);
    expect_body(&view, "xa");
}

static void test_a_line_is_refused_when_its_end_cannot_come_in_time(void) {
    frame_view view;
    CHECK_EQUAL(gradually(lines("\n", 4), TEXT("abc\n"), &view), FRAME_READY);
    CHECK_EQUAL(gradually(lines("\n", 4), TEXT("abcd\n"), &view), FRAME_READY);
    CHECK_EQUAL(gradually(lines("\n", 4), TEXT("abcde\n"), &view), FRAME_TOO_LONG);
    CHECK_EQUAL(once(lines("\n", 4), TEXT("abcd"), &view), FRAME_MORE);
    CHECK_EQUAL(once(lines("\n", 4), TEXT("abcde"), &view), FRAME_TOO_LONG);
    CHECK_EQUAL(gradually(lines("\r\n", 4), TEXT("abcd\r\n"), &view), FRAME_READY);
    CHECK_EQUAL(gradually(lines("\r\n", 4), TEXT("abcd\rx"), &view), FRAME_TOO_LONG);
}

static void test_F3_a_line_is_scanned_once_however_it_arrives(void) {
    enum { BYTES = 1 << 20 };
    frame_config config = lines("\n", BYTES);
    frame_resume resume = {0};
    frame_view view;
    uint8_t *data = malloc(BYTES + 1);
    CHECK(data != NULL);
    memset(data, 'x', BYTES);
    data[BYTES] = '\n';
    uint64_t start = check_clock_ns();
    for (size_t n = 1; n <= BYTES; n++)
        CHECK_EQUAL(frame_next(&config, data, n, &resume, &view), FRAME_MORE);
    CHECK_EQUAL(frame_next(&config, data, BYTES + 1, &resume, &view), FRAME_READY);
    /* Rescanning would be half a million megabytes: minutes, not milliseconds. */
    CHECK(check_clock_ns() - start < 10000000000u);
    free(data);
}

static void test_a_length_is_read_in_either_order(void) {
    frame_view view;
    CHECK_EQUAL(gradually(prefixed(4, 0, 9), TEXT("\0\0\0\3abc"), &view), FRAME_READY);
    expect_body(&view, "abc");
    CHECK_EQUAL(gradually(prefixed(2, 1, 9), TEXT("\3\0abc"), &view), FRAME_READY);
    expect_body(&view, "abc");
    CHECK_EQUAL(gradually(prefixed(8, 0, 9), TEXT("\0\0\0\0\0\0\0\0"), &view), FRAME_READY);
    CHECK_EQUAL(view.body_len, 0);
    CHECK_EQUAL(once(prefixed(3, 0, 9), TEXT("\0\0\5ab"), &view), FRAME_MORE);
    CHECK_EQUAL(view.need, 8);
}

static void test_F4_a_length_over_the_limit_is_refused_without_its_body(void) {
    frame_view view;
    CHECK_EQUAL(once(prefixed(4, 0, 8), TEXT("\0\0\0\7"), &view), FRAME_MORE);
    CHECK_EQUAL(once(prefixed(4, 0, 8), TEXT("\0\0\0\10"), &view), FRAME_MORE);
    CHECK_EQUAL(once(prefixed(4, 0, 8), TEXT("\0\0\0\11"), &view), FRAME_TOO_LONG);
    CHECK_EQUAL(once(prefixed(8, 1, 8), TEXT("\377\377\377\377\377\377\377\377"), &view),
                FRAME_TOO_LONG);
}

static void test_resp_arrays_of_bulk_strings(void) {
    frame_view view;
    const uint8_t *pos, *data;
    size_t len;
    CHECK_EQUAL(gradually(resp(99), TEXT("*2\r\n$3\r\nGET\r\n$0\r\n\r\n"), &view), FRAME_READY);
    CHECK_EQUAL(view.type, FRAME_BULKS);
    CHECK_EQUAL(view.args, 2);
    pos = view.body;
    data = frame_bulk(&pos, &len);
    CHECK_EQUAL(len, 3);
    CHECK_BYTES(data, "GET", 3);
    frame_bulk(&pos, &len);
    CHECK_EQUAL(len, 0);
    CHECK(pos == view.body + view.body_len);
}

static void test_resp_bulk_lengths_of_one_to_four_digits(void) {
    static uint8_t data[12000];
    static const size_t sizes[] = {0, 1, 9, 10, 99, 100, 999, 1000, 9999, 10000};
    frame_view view;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        int head = snprintf((char *)data, sizeof data, "*1\r\n$%zu\r\n", sizes[i]);
        memset(data + head, '\r', sizes[i]); /* what is inside does not matter */
        memcpy(data + head + sizes[i], "\r\n", 2);
        CHECK_EQUAL(gradually(resp(20000), data, (size_t)head + sizes[i] + 2, &view), FRAME_READY);
        CHECK_EQUAL(view.used, (size_t)head + sizes[i] + 2);
    }
}

static void test_resp_other_types_may_stand_in_arrays(void) {
    frame_view view;
    CHECK_EQUAL(gradually(resp(999),
                          TEXT("*9\r\n$1\r\na\r\n:-5\r\n+ok\r\n-no\r\n#t\r\n_\r\n,1.5\r\n"
                               "%1\r\n~2\r\n:1\r\n:2\r\n*0\r\n=7\r\ntxt:abc\r\n"),
                          &view),
                FRAME_READY);
    CHECK_EQUAL(view.type, FRAME_NESTED);
    CHECK_EQUAL(view.args, 9);
}

static void test_resp_nothing_is_skipped_without_an_answer(void) {
    static const char *nothings[] = {"\r\n", "\n", "*0\r\n", "*-1\r\n", "*-7\r\n", "  \t\r\n"};
    frame_view view;
    for (size_t i = 0; i < sizeof nothings / sizeof *nothings; i++) {
        size_t len = strlen(nothings[i]);
        CHECK_EQUAL(gradually(resp(99), (const uint8_t *)nothings[i], len, &view), FRAME_READY);
        CHECK_EQUAL(view.type, FRAME_EMPTY);
        CHECK_EQUAL(view.used, len);
    }
}

static void test_resp_faults_are_named_in_redis_words(void) {
    expect_error(resp(999), TEXT("*x\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*+1\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*01\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*-0\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*1\rx"), "invalid multibulk length");
    expect_error(resp(FRAME_BYTES_LIMIT), TEXT("*1048577\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*9223372036854775808\r\n"), "invalid multibulk length");
    expect_error(resp(999), TEXT("*111111111111111111111"), "too big mbulk count string");
    expect_error(resp(999), TEXT("*1\r\n$-1\r\n"), "invalid bulk length");
    expect_error(resp(999), TEXT("*1\r\n$536870913\r\n"), "invalid bulk length");
    expect_error(resp(999), TEXT("*1\r\n$1a\r\n"), "invalid bulk length");
    expect_error(resp(999), TEXT("*1\r\n$111111111111111111111"), "too big bulk count string");
    expect_error(resp(999), TEXT("*1\r\nxyz"), "expected '$', got 'x'");
    expect_error(resp(999), TEXT("*1\r\n\n"), "expected '$', got '\\x0a'");
    expect_error(resp(999), TEXT("*1\r\n$1\r\nabc"), "expected CR LF after a value");
    expect_error(resp(999), TEXT("GET \"a\r\n"), "unbalanced quotes in request");
    expect_error(resp(999), TEXT("GET \"a\"b\r\n"), "unbalanced quotes in request");
    expect_error(resp(999), TEXT("POST / HTTP/1.1\r\n"),
                 "HTTP on a RESP port (possible cross-protocol attack)");
}

static void test_F4_resp_is_refused_from_the_header(void) {
    frame_view view;
    /* "*1\r\n" and "$N\r\n" are 4 bytes each, CR LF behind the body is 2: N = 6 makes 16. */
    CHECK_EQUAL(once(resp(16), TEXT("*1\r\n$5\r\n"), &view), FRAME_MORE);
    CHECK_EQUAL(view.need, 15);
    CHECK_EQUAL(once(resp(16), TEXT("*1\r\n$6\r\n"), &view), FRAME_MORE);
    CHECK_EQUAL(once(resp(16), TEXT("*1\r\n$7\r\n"), &view), FRAME_TOO_LONG);
    CHECK_EQUAL(gradually(resp(16), TEXT("*1\r\n$6\r\nabcdef\r\n"), &view), FRAME_READY);
    CHECK_EQUAL(once(resp(16), TEXT("*4\r\n"), &view), FRAME_MORE);
    CHECK_EQUAL(once(resp(16), TEXT("*5\r\n"), &view), FRAME_TOO_LONG);
}

static void test_resp_elements_at_the_limit(void) {
    enum { HEAD = 10, BYTES = HEAD + FRAME_ELEMENTS_MAX * 3 };
    uint8_t *data = malloc(BYTES);
    frame_view view;
    CHECK(data != NULL);
    memcpy(data, "*1048576\r\n", HEAD);
    for (size_t i = 0; i < FRAME_ELEMENTS_MAX; i++)
        memcpy(data + HEAD + 3 * i, "_\r\n", 3);
    CHECK_EQUAL(once(resp(BYTES), data, BYTES, &view), FRAME_READY);
    CHECK_EQUAL(view.args, FRAME_ELEMENTS_MAX);
    CHECK_EQUAL(once(resp(BYTES - 1), data, BYTES, &view), FRAME_TOO_LONG);
    memcpy(data, "*1048575\r\n", HEAD);
    memcpy(data + HEAD, "*2\r", 3); /* nested ones count */
    data[HEAD + 3] = '\n';
    CHECK_EQUAL(once(resp(BYTES), data, HEAD + 4, &view), FRAME_MALFORMED);
    free(data);
}

static void test_inline_requests(void) {
    frame_view view;
    CHECK_EQUAL(gradually(resp(99), TEXT("PING\r\n"), &view), FRAME_READY);
    CHECK_EQUAL(view.type, FRAME_INLINE);
    CHECK_EQUAL(view.args, 1);
    expect_body(&view, "PING");
    CHECK_EQUAL(gradually(resp(99), TEXT(" SET k 'a b' \n"), &view), FRAME_READY);
    CHECK_EQUAL(view.args, 3);
}

static void test_inline_requests_at_their_limits(void) {
    static uint8_t data[FRAME_INLINE_BYTES_MAX + 2];
    frame_view view;
    memset(data, 'a', sizeof data);
    data[FRAME_INLINE_BYTES_MAX - 1] = '\n';
    CHECK_EQUAL(once(resp(1 << 20), data, sizeof data, &view), FRAME_READY);
    data[FRAME_INLINE_BYTES_MAX - 1] = 'a';
    CHECK_EQUAL(once(resp(1 << 20), data, FRAME_INLINE_BYTES_MAX - 1, &view), FRAME_MORE);
    CHECK_EQUAL(once(resp(1 << 20), data, FRAME_INLINE_BYTES_MAX, &view), FRAME_MALFORMED);
    CHECK_EQUAL(view.error, FRAME_ERROR_INLINE);
    CHECK_EQUAL(gradually(resp(5), TEXT("PING\n"), &view), FRAME_READY);
    CHECK_EQUAL(gradually(resp(4), TEXT("PING\n"), &view), FRAME_TOO_LONG);
}

static void expect_words(const char *line, const char *words[], size_t count) {
    const uint8_t *pos = (const uint8_t *)line, *end = pos + strlen(line);
    uint8_t word[64];
    size_t len;
    for (size_t i = 0; i < count; i++) {
        CHECK_EQUAL(frame_word(&pos, end, word, &len), 1);
        CHECK_EQUAL(len, strlen(words[i]));
        CHECK_BYTES(word, words[i], len);
    }
    CHECK_EQUAL(frame_word(&pos, end, word, &len), 0);
}

static void test_words_are_unquoted_as_redis_does(void) {
    expect_words("  a\tbc  ", (const char *[]){"a", "bc"}, 2);
    expect_words("\"a b\" 'c\"d'", (const char *[]){"a b", "c\"d"}, 2);
    expect_words("\"\\x41\\n\\r\\t\\b\\a\\q\\\"\"", (const char *[]){"A\n\r\t\b\aq\""}, 1);
    expect_words("'a\\'b\\n'", (const char *[]){"a'b\\n"}, 1);
    expect_words("\"\" ''", (const char *[]){"", ""}, 2);
    expect_words("\"\\x4g\"", (const char *[]){"x4g"}, 1);
    expect_words("a\\b", (const char *[]){"a\\b"}, 1);
}

static void test_replies_are_values_of_any_type(void) {
    static const char *replies[] = {
        "+OK\r\n",         "-ERR no\r\n",           "$-1\r\n",       "*-1\r\n",
        ":5\r\n",          "$3\r\nabc\r\n",         "_\r\n",         "*2\r\n$-1\r\n*1\r\n:1\r\n",
        "%1\r\n+a\r\n:1\r\n", ">1\r\n+x\r\n", "(123\r\n", "!2\r\nno\r\n",
    };
    frame_config config = {.kind = FRAME_REPLY, .frame_bytes_max = 999};
    frame_view view;
    for (size_t i = 0; i < sizeof replies / sizeof *replies; i++) {
        size_t len = strlen(replies[i]);
        CHECK_EQUAL(gradually(config, (const uint8_t *)replies[i], len, &view), FRAME_READY);
        CHECK_EQUAL(view.type, FRAME_VALUE);
        CHECK_EQUAL(view.used, len);
        CHECK_EQUAL(view.body_len, len);
    }
    expect_error(config, TEXT("PING\r\n"), "expected '$', got 'P'");
}

static size_t stream_random(uint8_t *data, uint64_t *random) {
    static const char *parts[] = {
        "*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$12\r\nkey:00000001\r\n", "PING\r\n", "\r\n",
        "*0\r\n", "*2\r\n:1\r\n*1\r\n_\r\n", "SET k \"a b\"\n",
    };
    size_t len = 0;
    while (len < STREAM_BYTES - 64) {
        const char *part = parts[check_below(random, sizeof parts / sizeof *parts)];
        memcpy(data + len, part, strlen(part));
        len += strlen(part);
    }
    return len;
}

/* A sum over the messages that depends on their order and bytes. */
static uint64_t digest(uint64_t sum, const frame_view *view) {
    sum = sum * 1099511628211u + view->args * 8 + (uint64_t)view->type;
    for (size_t i = 0; i < view->body_len; i++)
        sum = (sum ^ view->body[i]) * 1099511628211u;
    return sum;
}

static uint64_t digest_in_pieces(const uint8_t *data, size_t len, size_t piece_max,
                                 uint64_t *random) {
    frame_config config = resp(STREAM_BYTES);
    frame_resume resume = {0};
    frame_view view;
    uint64_t sum = 0;
    size_t arrived = 0, consumed = 0;
    while (arrived < len) {
        arrived += 1 + check_below(random, piece_max);
        arrived = arrived < len ? arrived : len;
        while (frame_next(&config, data + consumed, arrived - consumed, &resume, &view) ==
               FRAME_READY) {
            sum = digest(sum, &view);
            consumed += view.used;
        }
        CHECK_EQUAL(view.error, 0);
    }
    CHECK_EQUAL(consumed, len);
    return sum;
}

static void test_F1_messages_do_not_depend_on_the_cuts(void) {
    static uint8_t data[STREAM_BYTES];
    uint64_t random = seed;
    for (int round = 0; round < CUT_ROUNDS; round++) {
        size_t len = stream_random(data, &random);
        uint64_t sum = digest_in_pieces(data, len, 1 + check_below(&random, 100), &random);
        CHECK(sum == digest_in_pieces(data, len, 1 + check_below(&random, 4000), &random));
    }
}

int main(int argc, char **argv) {
    seed = check_seed(argc, argv, seed);
    RUN(test_raw_takes_what_is_there_up_to_the_limit);
    RUN(test_fixed_needs_exactly_its_size);
    RUN(test_a_line_ends_at_its_first_end);
    RUN(test_a_line_is_refused_when_its_end_cannot_come_in_time);
    RUN(test_F3_a_line_is_scanned_once_however_it_arrives);
    RUN(test_a_length_is_read_in_either_order);
    RUN(test_F4_a_length_over_the_limit_is_refused_without_its_body);
    RUN(test_resp_arrays_of_bulk_strings);
    RUN(test_resp_bulk_lengths_of_one_to_four_digits);
    RUN(test_resp_other_types_may_stand_in_arrays);
    RUN(test_resp_nothing_is_skipped_without_an_answer);
    RUN(test_resp_faults_are_named_in_redis_words);
    RUN(test_F4_resp_is_refused_from_the_header);
    RUN(test_resp_elements_at_the_limit);
    RUN(test_inline_requests);
    RUN(test_inline_requests_at_their_limits);
    RUN(test_words_are_unquoted_as_redis_does);
    RUN(test_replies_are_values_of_any_type);
    RUN(test_F1_messages_do_not_depend_on_the_cuts);
    return 0;
}
