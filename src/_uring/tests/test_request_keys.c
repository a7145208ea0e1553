/* Tests of request_keys.c. */
#include "../request_keys.h"

#include "check.h"

#define SET(key) "*3\r\n$3\r\nSET\r\n" key "$1\r\nv\r\n"
#define KEY(text) "$1\r\n" text "\r\n"

enum { KEYS = 4 };

typedef struct seen {
    unsigned count;
    size_t used;
    char keys[64]; /* a space behind each */
} seen;

static seen look(const char *text, size_t len) {
    request_key keys[KEYS];
    seen out = {0};
    size_t at = 0;
    uint8_t *data = malloc(len ? len : 1); /* of its size: a sanitizer sees a byte too many */
    CHECK(data != NULL);
    memcpy(data, text, len);
    out.count = request_keys(data, len, keys, KEYS, &out.used);
    for (unsigned i = 0; i < out.count; i++) {
        memcpy(out.keys + at, keys[i].data, keys[i].bytes);
        at += keys[i].bytes;
        out.keys[at++] = ' ';
    }
    free(data);
    return out;
}

static void expect(const char *text, const char *keys, size_t used) {
    seen found = look(text, strlen(text));
    CHECK(strcmp(found.keys, keys) == 0);
    CHECK_EQUAL(found.used, used);
}

static void test_the_key_is_the_word_behind_the_name(void) {
    const char *two = SET(KEY("a")) SET(KEY("b"));
    expect(two, "a b ", strlen(two));
    expect("*2\r\n$3\r\nGET\r\n$8\r\nkey\r\nof.\r\n", "key\r\nof. ", 27);
    expect("*1\r\n$4\r\nPING\r\n" SET(KEY("c")), "c ", 14 + 27);
    expect("*2\r\n$3\r\nGET\r\n$0\r\n\r\n" SET(KEY("d")), " d ", 19 + 27);
    expect("*0\r\n" SET(KEY("e")), "e ", 4 + 27);
}

static void test_it_stops_when_it_has_enough(void) {
    const char *six = SET(KEY("1")) SET(KEY("2")) SET(KEY("3")) SET(KEY("4")) SET(KEY("5"));
    expect(six, "1 2 3 4 ", 4 * 27);
    expect("*0\r\n*0\r\n*0\r\n*0\r\n*0\r\n", "", 16);
    expect("", "", 0);
}

static void test_K1_a_request_cut_anywhere(void) {
    const char *whole = SET(KEY("a")) SET(KEY("b"));
    for (size_t len = 0; len <= strlen(whole); len++) {
        seen found = look(whole, len);
        CHECK_EQUAL(found.count, (unsigned)(len >= 18) + (len >= 27 + 18));
        CHECK_EQUAL(found.used, len);
    }
}

static void test_K2_it_ends_at_what_is_no_array_of_bulk_strings(void) {
    static const char *const odd[] = {
        "SET x 1\r\n",      "*-1\r\n",           "*3\n",        "*\r\n",
        "*2\r\n:1\r\n",     "*2\r\n$-1\r\n",     "*2\r\n$1x\r", "*99999999999999999999\r\n",
        "*2\r\n$3\r\nGETx", "*2\r\n$9999999\r\n"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        char text[128];
        snprintf(text, sizeof text, "%s%s%s", SET(KEY("a")), odd[i], SET(KEY("b")));
        expect(text, "a ", strlen(text)); /* nothing behind it can be found either */
    }
}

static void test_K3_a_request_of_many_words_ends_it(void) {
    char text[2048];
    for (unsigned words = REQUEST_KEYS_WORDS_MAX; words <= REQUEST_KEYS_WORDS_MAX + 1; words++) {
        int len = sprintf(text, "*%u\r\n", words);
        for (unsigned i = 0; i < words; i++)
            len += sprintf(text + len, KEY("w"));
        len += sprintf(text + len, SET(KEY("a")));
        expect(text, words > REQUEST_KEYS_WORDS_MAX ? "" : "w a ", (size_t)len);
    }
}

static void test_K3_a_long_key_is_none(void) {
    char text[1024];
    for (unsigned bytes = REQUEST_KEYS_BYTES_MAX; bytes <= REQUEST_KEYS_BYTES_MAX + 1; bytes++) {
        size_t used;
        request_key keys[KEYS];
        int len = sprintf(text, "*2\r\n$3\r\nGET\r\n$%u\r\n%*s\r\n", bytes, (int)bytes, "");
        len += sprintf(text + len, SET(KEY("a")));
        CHECK_EQUAL(request_keys((const uint8_t *)text, (size_t)len, keys, KEYS, &used),
                    bytes > REQUEST_KEYS_BYTES_MAX ? 1 : 2);
        CHECK_EQUAL(used, len);
    }
}

int main(void) {
    RUN(test_the_key_is_the_word_behind_the_name);
    RUN(test_it_stops_when_it_has_enough);
    RUN(test_K1_a_request_cut_anywhere);
    RUN(test_K2_it_ends_at_what_is_no_array_of_bulk_strings);
    RUN(test_K3_a_request_of_many_words_ends_it);
    RUN(test_K3_a_long_key_is_none);
    return 0;
}
