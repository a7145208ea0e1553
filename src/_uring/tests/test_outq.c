/* Tests of outq.c. `--seed N` replays the random comparison with a model. */
#include "../outq.h"

#include "check.h"

enum { MODEL_STEPS = 200000, MODEL_BYTES = 1 << 22 };

static uint64_t seed = 1;

static void append(outq_pool *pool, outq *q, const void *data, size_t len) {
    uint8_t *p = outq_reserve(pool, q, len);
    CHECK(p != NULL);
    memcpy(p, data, len);
    outq_commit(q, len);
}

static uint64_t blocks_used(const outq_pool *pool) {
    outq_pool_stats stats;
    outq_pool_read(pool, &stats);
    return stats.blocks_used;
}

static void test_an_empty_queue_holds_nothing(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    const uint8_t *data;
    size_t len;
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 0);
    CHECK_EQUAL(outq_bytes(&q), 0);
    outq_clear(pool, &q);
    outq_abort(pool, &q);
    CHECK_EQUAL(blocks_used(pool), 0);
    outq_pool_free(pool);
}

static void test_what_is_appended_goes_out_in_one_piece(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    const uint8_t *data;
    size_t len;
    append(pool, &q, "one ", 4);
    append(pool, &q, "two", 3);
    CHECK_EQUAL(outq_bytes(&q), 7);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 1);
    CHECK_EQUAL(len, 7);
    CHECK_BYTES(data, "one two", 7);
    CHECK_EQUAL(outq_sent(pool, &q, 7, &data, &len), 0);
    CHECK_EQUAL(blocks_used(pool), 0); /* (Q3) */
    outq_pool_free(pool);
}

static void test_Q1_nothing_overtakes_a_partial_send(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    const uint8_t *data;
    size_t len;
    append(pool, &q, "abcdef", 6);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 1);
    append(pool, &q, "later", 5);
    CHECK_EQUAL(outq_sent(pool, &q, 2, &data, &len), 1);
    CHECK_EQUAL(len, 4);
    CHECK_BYTES(data, "cdef", 4);
    CHECK_EQUAL(outq_bytes(&q), 9);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 0);
    CHECK_EQUAL(outq_sent(pool, &q, 0, &data, &len), 1);
    CHECK_EQUAL(outq_sent(pool, &q, 4, &data, &len), 0);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 1);
    CHECK_BYTES(data, "later", 5);
    outq_abort(pool, &q);
    outq_pool_free(pool);
}

static void test_Q2_the_block_in_flight_does_not_move(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    const uint8_t *data;
    size_t len;
    append(pool, &q, "stay", 4);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 1);
    for (int i = 0; i < 100000; i++)
        append(pool, &q, "growing", 7);
    outq_clear(pool, &q);
    append(pool, &q, "new", 3);
    CHECK_BYTES(data, "stay", 4);
    CHECK(data == q.sending->data);
    outq_clear(pool, &q);
    CHECK_EQUAL(blocks_used(pool), 1);
    outq_abort(pool, &q);
    CHECK_EQUAL(blocks_used(pool), 0);
    outq_pool_free(pool);
}

static void test_Q5_rollback_drops_what_came_after_the_mark(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    const uint8_t *data;
    size_t len, mark;
    append(pool, &q, "keep", 4);
    mark = outq_mark(&q);
    for (int i = 0; i < 1000; i++)
        append(pool, &q, "dropped", 7); /* the block grows meanwhile */
    outq_rollback(pool, &q, mark);
    CHECK_EQUAL(outq_begin(pool, &q, SIZE_MAX, &data, &len), 1);
    CHECK_EQUAL(len, 4);
    CHECK_BYTES(data, "keep", 4);
    append(pool, &q, "x", 1);
    outq_rollback(pool, &q, 0);
    CHECK(q.filling == NULL);
    outq_abort(pool, &q);
    outq_pool_free(pool);
}

static void test_free_blocks_are_reused_last_in_first_out(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq a = {0}, b = {0};
    outq_pool_stats stats;
    append(pool, &a, "a", 1);
    append(pool, &b, "b", 1);
    outq_block *second = b.filling;
    outq_clear(pool, &a);
    outq_clear(pool, &b);
    append(pool, &a, "again", 5);
    CHECK(a.filling == second);
    outq_pool_read(pool, &stats);
    CHECK_EQUAL(stats.allocations, 2);
    CHECK_EQUAL(stats.reuses, 1);
    outq_clear(pool, &a);
    outq_pool_free(pool);
}

static void test_free_blocks_above_the_cap_are_given_back(void) {
    outq_pool *pool = outq_pool_new(2048);
    outq queues[4] = {{0}};
    outq_pool_stats stats;
    for (int i = 0; i < 4; i++)
        append(pool, &queues[i], "x", 1);
    for (int i = 0; i < 4; i++)
        outq_clear(pool, &queues[i]);
    outq_pool_read(pool, &stats);
    CHECK_EQUAL(stats.bytes_kept, 2048);
    CHECK_EQUAL(stats.bytes_used, 0);
    outq_pool_free(pool);
}

static void test_sizes_around_each_class(void) {
    static const size_t sizes[] = {1,     1007,  1008,  1009,  4079,  4080,    4081,   16367,
                                   16368, 16369, 65519, 65520, 65521, 1 << 20, 3000001};
    outq_pool *pool = outq_pool_new(1 << 20);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        outq q = {0};
        uint8_t *p = outq_reserve(pool, &q, sizes[i]);
        CHECK(p != NULL);
        memset(p, 'z', sizes[i]);
        outq_commit(&q, sizes[i]);
        append(pool, &q, "end", 3);
        CHECK_EQUAL(outq_bytes(&q), sizes[i] + 3);
        CHECK_BYTES(q.filling->data + sizes[i], "end", 3);
        outq_clear(pool, &q);
    }
    CHECK_EQUAL(blocks_used(pool), 0);
    outq_pool_free(pool);
}

static void test_no_memory_changes_nothing(void) {
    outq_pool *pool = outq_pool_new(1 << 20);
    outq q = {0};
    outq_pool_stats stats;
    append(pool, &q, "kept", 4);
    CHECK(outq_reserve(pool, &q, SIZE_MAX) == NULL);
    CHECK(outq_reserve(pool, &q, SIZE_MAX / 2) == NULL);
    CHECK_EQUAL(outq_bytes(&q), 4);
    CHECK_BYTES(q.filling->data, "kept", 4);
    outq_pool_read(pool, &stats);
    CHECK_EQUAL(stats.failures, 2);
    outq_clear(pool, &q);
    outq_pool_free(pool);
}

/* The model is one long string: `written` bytes were appended, `arrived` bytes were sent. Byte i
 * of the stream is a function of i, so that any reordering or loss shows. */
typedef struct model {
    size_t written, arrived;
    const uint8_t *data;
    size_t len;
    int sending;
} model;

static uint8_t stream_byte(size_t i) { return (uint8_t)(i * 131 + (i >> 8) * 7); }

static void model_append(outq_pool *pool, outq *q, model *m, size_t len) {
    uint8_t *p = outq_reserve(pool, q, len);
    CHECK(p != NULL);
    for (size_t i = 0; i < len; i++)
        p[i] = stream_byte(m->written + i);
    outq_commit(q, len);
    m->written += len;
}

static void model_step(outq_pool *pool, outq *q, model *m, uint64_t *random) {
    uint64_t choice = check_below(random, 8);
    if (choice < 4 && m->written - m->arrived < MODEL_BYTES) {
        model_append(pool, q, m, check_below(random, choice == 0 ? 70000 : 200));
    } else if (choice == 4) { /* a step that fails half way */
        size_t mark = outq_mark(q), kept = m->written;
        model_append(pool, q, m, check_below(random, 3000));
        m->written = kept;
        outq_rollback(pool, q, mark);
    } else if (!m->sending) {
        size_t most = check_below(random, 4) ? SIZE_MAX : 1 + check_below(random, 70000);
        m->sending = outq_begin(pool, q, most, &m->data, &m->len);
    } else {
        size_t n = check_below(random, m->len + 1);
        for (size_t i = 0; i < n; i++)
            CHECK(m->data[i] == stream_byte(m->arrived + i));
        m->arrived += n;
        m->sending = outq_sent(pool, q, n, &m->data, &m->len);
    }
    CHECK_EQUAL(outq_bytes(q), m->written - m->arrived);
}

static void test_a_random_life_delivers_every_byte_in_order(void) {
    outq_pool *pool = outq_pool_new(1 << 18);
    outq q = {0};
    model m = {0};
    uint64_t random = seed;
    for (int i = 0; i < MODEL_STEPS; i++)
        model_step(pool, &q, &m, &random);
    outq_clear(pool, &q);
    outq_abort(pool, &q);
    CHECK_EQUAL(blocks_used(pool), 0);
    outq_pool_free(pool);
}

int main(int argc, char **argv) {
    seed = check_seed(argc, argv, seed);
    RUN(test_an_empty_queue_holds_nothing);
    RUN(test_what_is_appended_goes_out_in_one_piece);
    RUN(test_Q1_nothing_overtakes_a_partial_send);
    RUN(test_Q2_the_block_in_flight_does_not_move);
    RUN(test_Q5_rollback_drops_what_came_after_the_mark);
    RUN(test_free_blocks_are_reused_last_in_first_out);
    RUN(test_free_blocks_above_the_cap_are_given_back);
    RUN(test_sizes_around_each_class);
    RUN(test_no_memory_changes_nothing);
    RUN(test_a_random_life_delivers_every_byte_in_order);
    return 0;
}
