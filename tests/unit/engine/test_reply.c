#include <criterion/criterion.h>

#include "engine/reply.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_reply, .timeout = 30);

enum { LIMIT_BYTES = 512 * 1024 };

static uint64_t held(const struct test_engine *t) {
    return atomic_load(&t->engine->reply_alloc.bytes);
}

/* Goal: a reply is charged to the replies' memory when it is no longer small, and to nobody when it
 * is cut. Method: grow one by a kilobyte at a time until there is no room. */
Test(engine_reply, beyond_the_limit_it_ends_and_small_ones_pass) {
    static uint8_t piece[1024];
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_buf reply;
    struct dbos_buf other;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_buf_init(&reply, &t.engine->session_alloc);
    dbos_buf_init(&other, &t.engine->session_alloc);
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && reply.size_bytes < 2UL * LIMIT_BYTES) {
        dbos_buf_put(&reply, piece, sizeof piece);
        err = dbos_reply_check(t.engine, &reply, &info);
        bool is_small = reply.size_bytes <= DBOS_REPLY_SMALL_BYTES_MAX;
        cr_assert_eq(held(&t), is_small ? 0 : reply.capacity_bytes);
        cr_assert_leq(held(&t), LIMIT_BYTES);
    }
    cr_expect_eq(err, DBOS_ERR_NOMEM);
    cr_expect_str_eq(dbos_err_sqlstate(err), "53200");
    cr_expect_not_null(strstr(info.hint, "--reply-memory"), "%s", info.hint);
    cr_expect_gt(reply.size_bytes, LIMIT_BYTES / 4);
    dbos_buf_put(&other, piece, sizeof piece);
    cr_expect_eq(dbos_reply_finish(t.engine, &other, &info), DBOS_OK);
    dbos_reply_cut(t.engine, &reply, 0);
    cr_expect_eq(held(&t), 0);
    dbos_buf_put(&reply, piece, sizeof piece);
    cr_expect(!reply.failed && reply.alloc == &t.engine->session_alloc);
    dbos_buf_fini(&reply);
    dbos_buf_fini(&other);
    test_engine_close(&t);
}

Test(engine_reply, what_is_complete_holds_no_more_than_its_bytes) {
    static uint8_t piece[100000];
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_buf reply;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_buf_init(&reply, &t.engine->session_alloc);
    memset(piece, 'x', sizeof piece);
    for (int i = 0; i < 3; i++) {
        dbos_buf_put(&reply, piece, sizeof piece);
        cr_assert_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_OK);
    }
    cr_expect_gt(held(&t), 3 * sizeof piece);
    cr_expect_eq(dbos_reply_finish(t.engine, &reply, &info), DBOS_OK);
    cr_expect_eq(held(&t), 3 * sizeof piece);
    for (int i = 0; i < 3; i++) {
        cr_expect_arr_eq(reply.data + (size_t)i * sizeof piece, piece, sizeof piece);
    }
    dbos_buf_fini(&reply);
    test_engine_close(&t);
}

/* Goal: who reads "out of memory for replies" looks at --reply-memory; it is said for nothing else.
 * Method: a short reply whose own allocator has nothing left. */
Test(engine_reply, a_short_one_without_memory_does_not_blame_the_replies) {
    static uint8_t piece[1024];
    struct test_engine t;
    struct dbos_alloc none;
    struct dbos_errinfo info = {0};
    struct dbos_buf reply;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_alloc_init(&none, "none", 64);
    dbos_buf_init(&reply, &none);
    dbos_buf_put(&reply, piece, sizeof piece);
    cr_expect_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_ERR_NOMEM);
    cr_expect_str_eq(info.sqlstate, "53200");
    cr_expect_str_eq(info.message, "out of memory for the result");
    cr_expect_str_empty(info.hint);
    dbos_buf_fini(&reply);
    test_engine_close(&t);
}

static void fill(struct dbos_buf *reply, size_t size_bytes, uint8_t value) {
    uint8_t *to = dbos_buf_reserve(reply, size_bytes);
    cr_assert_not_null(to);
    memset(to, value, size_bytes);
    reply->size_bytes += size_bytes;
}

Test(engine_reply, sixty_four_kilobytes_are_small_and_one_byte_more_is_not) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_buf reply;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_buf_init(&reply, &t.engine->session_alloc);
    fill(&reply, DBOS_REPLY_SMALL_BYTES_MAX, 'x');
    cr_expect_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_OK);
    cr_expect_eq(held(&t), 0);
    fill(&reply, 1, 'x');
    cr_expect_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_OK);
    cr_expect_gt(held(&t), DBOS_REPLY_SMALL_BYTES_MAX);
    dbos_buf_fini(&reply);
    test_engine_close(&t);
}

/* Goal: no answer is taken for whole that is not. Method: one that has all the memory, and another
 * that becomes large then. */
Test(engine_reply, one_that_becomes_large_without_room_is_refused_and_changes_no_other) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_buf first;
    struct dbos_buf second;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_buf_init(&first, &t.engine->session_alloc);
    dbos_buf_init(&second, &t.engine->session_alloc);
    fill(&first, LIMIT_BYTES - 1000, 'x');
    cr_assert_eq(dbos_reply_check(t.engine, &first, &info), DBOS_OK);
    fill(&second, DBOS_REPLY_SMALL_BYTES_MAX + 1, 'y');
    cr_expect_eq(dbos_reply_check(t.engine, &second, &info), DBOS_ERR_NOMEM);
    cr_expect_not_null(strstr(info.detail, "524288 bytes"), "%s", info.detail);
    cr_expect_eq(dbos_reply_finish(t.engine, &second, &info), DBOS_ERR_NOMEM);
    cr_expect_eq(held(&t), LIMIT_BYTES - 1000);
    dbos_buf_fini(&first);
    cr_expect_eq(dbos_reply_finish(t.engine, &second, &info), DBOS_OK, "%s", info.message);
    cr_expect_eq(held(&t), DBOS_REPLY_SMALL_BYTES_MAX + 1);
    cr_expect_eq(second.data[DBOS_REPLY_SMALL_BYTES_MAX], 'y');
    dbos_buf_fini(&second);
    test_engine_close(&t);
}

/* Its last piece may have been the one too many. Nobody looks at what is in it before. */
Test(engine_reply, that_is_larger_than_a_result_is_refused) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    struct dbos_buf reply = {.alloc = &t.engine->reply_alloc,
                             .size_bytes = DBOS_RESULT_BYTES_MAX,
                             .capacity_bytes = DBOS_RESULT_BYTES_MAX};
    cr_expect_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_OK);
    reply.size_bytes++;
    cr_expect_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_ERR_LIMIT);
    cr_expect_not_null(strstr(info.hint, "LIMIT"), "%s", info.hint);
    cr_expect_eq(dbos_reply_finish(t.engine, &reply, &info), DBOS_ERR_LIMIT);
    test_engine_close(&t);
}

/* What has come before its start, as of the statements in front of one that fails, stays. */
Test(engine_reply, what_was_cut_goes_on_where_it_was_cut) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_buf reply;
    test_engine_open(&t, (struct dbos_engine_options){.reply_bytes_max = LIMIT_BYTES});
    dbos_buf_init(&reply, &t.engine->session_alloc);
    fill(&reply, 100000, 'x');
    cr_assert_eq(dbos_reply_check(t.engine, &reply, &info), DBOS_OK);
    reply.failed = true; /* as behind a piece that found no memory */
    dbos_reply_cut(t.engine, &reply, 1000);
    cr_expect(!reply.failed && reply.size_bytes == 1000 && reply.data[999] == 'x');
    cr_expect_eq(dbos_reply_finish(t.engine, &reply, &info), DBOS_OK);
    cr_expect_eq(held(&t), 1000);
    fill(&reply, 50, 'y'); /* an error behind it takes memory of its own */
    cr_expect_eq(held(&t), reply.capacity_bytes);
    cr_expect(reply.data[999] == 'x' && reply.data[1049] == 'y');
    dbos_buf_fini(&reply);
    cr_expect_eq(held(&t), 0);
    test_engine_close(&t);
}
