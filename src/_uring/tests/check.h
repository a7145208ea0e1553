/* Assertions for the C tests: no framework, the first failure ends the program with its place.
 *
 * Works with NDEBUG too. A test program is a main that calls RUN(test_name) for each test.
 */
#ifndef PYBEHAVE_TESTS_CHECK_H
#define PYBEHAVE_TESTS_CHECK_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition)) {                                                                  \
            check_failed(__FILE__, __LINE__, #condition);                                    \
        }                                                                                    \
    } while (0)

/* Both sides as signed 64-bit numbers, both printed. */
#define CHECK_EQUAL(actual, expected)                                                        \
    check_equal(__FILE__, __LINE__, #actual, (int64_t)(actual), (int64_t)(expected))

#define CHECK_BYTES(actual, expected, size)                                                  \
    check_bytes(__FILE__, __LINE__, #actual, (actual), (expected), (size))

#define RUN(test)                                                                            \
    do {                                                                                     \
        test();                                                                              \
        printf("ok %s\n", #test);                                                            \
        fflush(stdout);                                                                      \
    } while (0)

_Noreturn static inline void check_failed(const char *file, int line, const char *condition) {
    fprintf(stderr, "%s:%d: not true: %s\n", file, line, condition);
    exit(1);
}

static inline void check_equal(const char *file, int line, const char *what, int64_t actual,
                               int64_t expected) {
    if (actual != expected) {
        fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", file, line, what,
                actual, expected);
        exit(1);
    }
}

static inline void check_bytes(const char *file, int line, const char *what, const void *actual,
                               const void *expected, size_t size) {
    const unsigned char *left = actual;
    const unsigned char *right = expected;
    for (size_t i = 0; i < size; i++) {
        if (left[i] != right[i]) {
            fprintf(stderr, "%s:%d: %s differs at byte %zu: 0x%02x, expected 0x%02x\n", file,
                    line, what, i, left[i], right[i]);
            exit(1);
        }
    }
}

/* splitmix64 (Steele, Lea, Flood 2014): every seed is a good one. */
static inline uint64_t check_random(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static inline uint64_t check_below(uint64_t *state, uint64_t bound) {
    return check_random(state) % bound;
}

/* `--seed N` or `default_seed`. */
static inline uint64_t check_seed(int argc, char **argv, uint64_t default_seed) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0) {
            return strtoull(argv[i + 1], NULL, 10);
        }
    }
    return default_seed;
}

static inline int check_option(int argc, char **argv, const char *option) {
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], option) == 0) {
            return 1;
        }
    }
    return 0;
}

static inline uint64_t check_clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif
