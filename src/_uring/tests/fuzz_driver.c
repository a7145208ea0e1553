/* Run a fuzz target without libFuzzer: seeded inputs, repeatable by number.
 *
 * Usage: fuzz_NAME RUNS [SEED]      RUNS inputs from SEED (default 1)
 *        fuzz_NAME FILE...          these inputs once, e.g. a crash found by libFuzzer
 *
 * Each input is one of: random bytes, random tokens of the protocols, or a mutation of the
 * input before it. Mutation keeps long prefixes alive, so that states deep inside a frame are
 * reached, which independent random inputs never do. On an abort or a sanitizer's finding the
 * input is written to a file, which is the argument that repeats it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Present only in a sanitizer build; gcc has no header for it. */
void __sanitizer_set_death_callback(void (*callback)(void)) __attribute__((weak));

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* As libFuzzer's -max_len in CMakeLists.txt: a few receive buffers' worth. */
#define INPUT_BYTES_MAX 4096

/* What the framings look at; random bytes alone would hardly ever form a header. The last entry
 * stands for one random byte. */
static const struct token {
    const char *bytes;
    uint8_t size;
} tokens[] = {
    {"\r\n", 2},   {"\n", 1},      {"\0", 1},       {"\0\0\0\4", 4}, {"\377\377\377\377", 4},
    {"*1\r\n", 4}, {"*2\r\n", 4},  {"*-1\r\n", 5},  {"$0\r\n", 4},   {"$3\r\n", 4},
    {"$-1\r\n", 5}, {"$4294967296\r\n", 13}, {"%1\r\n", 4}, {"~1\r\n", 4}, {">1\r\n", 4},
    {"+OK\r\n", 5}, {":1\r\n", 4},  {"#t\r\n", 4},   {"_\r\n", 3},    {"=8\r\n", 4},
    {"(9\r\n", 4}, {",1.5\r\n", 6}, {"PING", 4},     {"GET ", 4},      {"\"\\x41\"", 6},
    {"3", 1},      {"9", 1},       {"-", 1},        {" ", 1},         {NULL, 1},
};
#define TOKENS (sizeof tokens / sizeof tokens[0])

typedef struct fuzz_input {
    uint64_t random; /* xorshift state */
    size_t size;
    uint8_t bytes[INPUT_BYTES_MAX];
} fuzz_input;

/* The input being run, where a handler without arguments can find it. */
static fuzz_input current;
static const char *program;

static uint64_t random_next(fuzz_input *input) {
    uint64_t x = input->random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return input->random = x;
}

static size_t random_below(fuzz_input *input, size_t limit) {
    return limit ? (size_t)(random_next(input) % limit) : 0;
}

/* Half of the inputs are short: that is where the edges of a framing lie. */
static size_t random_size(fuzz_input *input) {
    return random_below(input, random_below(input, 2) ? 64 : INPUT_BYTES_MAX);
}

/* Put one token at `at`, or a random byte when the token is the placeholder. */
static void token_insert(fuzz_input *input, size_t at) {
    const struct token *token = &tokens[random_below(input, TOKENS)];
    uint8_t byte = (uint8_t)random_next(input);
    if (input->size + token->size > INPUT_BYTES_MAX)
        return;
    memmove(input->bytes + at + token->size, input->bytes + at, input->size - at);
    memcpy(input->bytes + at, token->bytes ? (const void *)token->bytes : &byte, token->size);
    input->size += token->size;
}

static void input_fresh(fuzz_input *input) {
    size_t size = random_size(input);
    int text = random_below(input, 4) != 0;
    input->size = 0;
    while (input->size < size && input->size + 16 < INPUT_BYTES_MAX) {
        if (text)
            token_insert(input, input->size);
        else
            input->bytes[input->size++] = (uint8_t)random_next(input);
    }
}

static void input_mutate(fuzz_input *input) {
    size_t edits = 1 + random_below(input, 4);
    for (size_t i = 0; i < edits; i++) {
        size_t at = random_below(input, input->size);
        switch (random_below(input, 4)) {
        case 0: /* change one byte */
            if (input->size)
                input->bytes[at] = (uint8_t)random_next(input);
            break;
        case 1:
            token_insert(input, at);
            break;
        case 2: /* cut the tail */
            input->size = at;
            break;
        default: /* repeat the head: several frames in one input */
            at = at < INPUT_BYTES_MAX - input->size ? at : INPUT_BYTES_MAX - input->size;
            memmove(input->bytes + input->size, input->bytes, at);
            input->size += at;
        }
    }
}

static int run_files(int count, char **paths) {
    static uint8_t bytes[1 << 20];
    for (int i = 0; i < count; i++) {
        FILE *file = fopen(paths[i], "rb");
        if (!file) {
            fprintf(stderr, "%s: %s\n", paths[i], strerror(errno));
            return 2;
        }
        size_t size = fread(bytes, 1, sizeof bytes, file);
        fclose(file);
        LLVMFuzzerTestOneInput(bytes, size);
    }
    printf("%d files run\n", count);
    return 0;
}

/* Only calls that a signal handler may make, but for snprintf into its own buffer. */
static void input_save(void) {
    char path[128];
    snprintf(path, sizeof path, "crash-%s-%ld", program, (long)getpid());
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0 || write(fd, current.bytes, current.size) != (ssize_t)current.size)
        return;
    close(fd);
    fprintf(stderr, "the input is in %s; repeat it with: %s %s\n", path, program, path);
}

static void on_abort(int signal_number) {
    (void)signal_number;
    input_save();
}

/* An exact-size heap copy: the sanitizer sees a read of one byte past the end. */
static int run_current(void) {
    uint8_t *copy = malloc(current.size ? current.size : 1);
    if (!copy)
        return 2;
    memcpy(copy, current.bytes, current.size);
    LLVMFuzzerTestOneInput(copy, current.size);
    free(copy);
    return 0;
}

int main(int argc, char **argv) {
    char *end = NULL;
    unsigned long runs = argc > 1 ? strtoul(argv[1], &end, 10) : 10000;
    if (end && *end)
        return run_files(argc - 1, argv + 1);
    unsigned long seed = argc > 2 ? strtoul(argv[2], NULL, 10) : 1;
    const char *slash = strrchr(argv[0], '/');
    program = slash ? slash + 1 : argv[0];
    signal(SIGABRT, on_abort); /* an assertion; afterwards abort() goes on to end the process */
    if (__sanitizer_set_death_callback)
        __sanitizer_set_death_callback(input_save);
    current.random = 0x9e3779b97f4a7c15u * (seed ? seed : 1);
    for (unsigned long i = 0; i < runs; i++) {
        if (i % 16 == 0)
            input_fresh(&current);
        else
            input_mutate(&current);
        if (run_current())
            return 2;
    }
    printf("%lu inputs from seed %lu\n", runs, seed);
    return 0;
}
