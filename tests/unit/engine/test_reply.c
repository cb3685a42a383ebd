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
