/* Goal: Bind, Execute and Sync in one piece are answered as the same messages one by one, whatever
 * is in them, and nothing leaves ahead of its result. Method: a real engine and two sessions that
 * are fed the same bytes, one all at once, the other message by message. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "engine/session_internal.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_session_call, .timeout = 60);

enum { DURABLE = INT32_MAX };

struct scene {
    struct test_engine t;
    struct dbos_submitter submitter;
    struct dbos_session_pool *pool;
    struct dbos_queue done;
};

static void on_done(struct dbos_request *request) {
    dbos_queue_push(&((struct scene *)request->on_done_arg)->done, &request->node);
}

static void open_scene(struct scene *scene, uint32_t partitions) {
    struct dbos_engine_options options = {.partitions = partitions,
                                          .durability = DBOS_DURABILITY_SYNC};
    test_engine_open(&scene->t, options);
    scene->submitter = (struct dbos_submitter){.engine = scene->t.engine};
    dbos_queue_init(&scene->done, -1);
    cr_assert_eq(dbos_session_pool_open(dbos_engine_session_alloc(scene->t.engine), &scene->pool),
                 DBOS_OK);
    cr_assert_eq(test_engine_run(&scene->t, "CREATE TABLE t (k bigint PRIMARY KEY, a int, s text)"
                                            " PARTITION BY HASH (k)"),
                 DBOS_OK);
    for (int i = 0; i < 3; i++) {
        char sql[64];
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, %d, 'row %d')", i, -i, i);
        cr_assert_eq(test_engine_run(&scene->t, sql), DBOS_OK);
    }
}

static void close_scene(struct scene *scene) {
    dbos_session_pool_close(scene->pool);
    test_engine_close(&scene->t);
}

static struct dbos_session *begin_session(struct scene *scene) {
    const struct dbos_session_options options = {.submitter = &scene->submitter,
                                                 .pool = scene->pool,
                                                 .on_done = on_done,
                                                 .on_done_arg = scene};
    return test_session_begin(&scene->t, options);
}

/* Everything that is under way ends. */
static void settle(struct scene *scene, struct dbos_session *session) {
    while (dbos_session_in_flight(session) != 0) {
        struct dbos_queue_node *node = dbos_queue_wait(&scene->done, 1000000);
        if (node != NULL) {
            struct dbos_request *request = (struct dbos_request *)(void *)node;
            dbos_session_done(request->owner, request);
        }
    }
}

/* -- messages -- */

static size_t begin(struct dbos_buf *out, char type) {
    dbos_buf_put_u8(out, (uint8_t)type);
    dbos_buf_put_u32(out, 0);
    return out->size_bytes - 4;
}

static void end(struct dbos_buf *out, size_t at) {
    dbos_store_u32(out->data + at, __builtin_bswap32((uint32_t)(out->size_bytes - at)));
}

static void put_string(struct dbos_buf *out, const char *text) {
    dbos_buf_put(out, text, strlen(text) + 1);
}

static void put_parse(struct dbos_buf *out, const char *name, const char *sql) {
    size_t at = begin(out, 'P');
    put_string(out, name);
    put_string(out, sql);
    dbos_buf_put_be16(out, 0);
    end(out, at);
}

struct value {
    const void *data; /* NULL = null */
    uint32_t size_bytes;
};

struct bind {
    const char *portal;
    const char *statement;
    uint16_t format; /* of all, in and out */
    uint16_t count;
    struct value values[6];
};

static void put_bind(struct dbos_buf *out, const struct bind *bind) {
    size_t at = begin(out, 'B');
    put_string(out, bind->portal);
    put_string(out, bind->statement);
    dbos_buf_put_be16(out, 1);
    dbos_buf_put_be16(out, bind->format);
    dbos_buf_put_be16(out, bind->count);
    for (uint16_t i = 0; i < bind->count; i++) {
        bool is_null = bind->values[i].data == NULL;
        dbos_buf_put_be32(out, is_null ? UINT32_MAX : bind->values[i].size_bytes);
        dbos_buf_put(out, bind->values[i].data, is_null ? 0 : bind->values[i].size_bytes);
    }
    dbos_buf_put_be16(out, 1);
    dbos_buf_put_be16(out, bind->format);
    end(out, at);
}

static void put_describe(struct dbos_buf *out, char kind, const char *name) {
    size_t at = begin(out, 'D');
    dbos_buf_put_u8(out, (uint8_t)kind);
    put_string(out, name);
    end(out, at);
}

static void put_execute(struct dbos_buf *out, const char *portal, uint32_t rows_max) {
    size_t at = begin(out, 'E');
    put_string(out, portal);
    dbos_buf_put_be32(out, rows_max);
    end(out, at);
}

static void put_bare(struct dbos_buf *out, char type) { end(out, begin(out, type)); }

static void put_call(struct dbos_buf *out, const struct bind *bind, bool describes) {
    put_bind(out, bind);
    if (describes) {
        put_describe(out, 'P', "");
    }
    put_execute(out, "", 0);
    put_bare(out, 'S');
}

static const uint8_t one[] = {0, 0, 0, 0, 0, 0, 0, 1};
static const uint8_t negative[] = {0xff, 0xff, 0xff, 0xfe};
static const struct bind calls[] = {
    {"", "a", 1, 1, {{one, 8}}},
    {"", "a", 0, 1, {{"2", 1}}},
    {"", "a", 0, 1, {{"77", 2}}},  /* no row */
    {"", "a", 1, 1, {{one, 4}}},   /* too short for a bigint */
    {"", "a", 0, 1, {{"two", 3}}}, /* no number */
    {"", "a", 1, 1, {{NULL, 0}}},
    {"", "a", 1, 2, {{one, 8}, {one, 8}}}, /* too many */
    {"", "nobody", 1, 1, {{one, 8}}},
    {"", "b", 1, 1, {{negative, 4}}},
    {"", "b", 1, 1, {{"\0\0\0\0", 4}}}, /* division by zero */
    {"", "many", 1, 6, {{one, 8}, {one, 8}, {one, 8}, {one, 8}, {one, 8}, {one, 8}}},
    {"", "set", 0, 0, {{NULL, 0}}},
    {"", "show", 0, 0, {{NULL, 0}}},
    {"", "empty", 0, 0, {{NULL, 0}}},
    {"", "", 1, 1, {{one, 8}}},
    {"named", "a", 1, 1, {{one, 8}}},
    {"", "a", 7, 1, {{one, 8}}}, /* no such format */
    {"", "w", 1, 1, {{negative, 4}}},
};
enum { CALLS = sizeof calls / sizeof calls[0] };

static void put_statements(struct dbos_buf *out) {
    put_parse(out, "a", "SELECT a, s, k FROM t WHERE k = $1");
    put_parse(out, "b", "SELECT 10 / $1::int");
    put_parse(out, "many",
              "SELECT $1::bigint + $2::bigint + $3::bigint + $4::bigint + $5::bigint"
              " + $6::bigint");
    put_parse(out, "set", "SET application_name = 'tests'");
    put_parse(out, "show", "SHOW application_name");
    put_parse(out, "empty", "");
    put_parse(out, "w", "UPDATE t SET a = $1 WHERE k = 1");
    put_parse(out, "", "SELECT s FROM t WHERE k = $1");
    put_bare(out, 'S');
}

/* Every call with and without Describe, and what may come between two. */
static void put_conversation(struct dbos_buf *out) {
    put_statements(out);
    for (size_t i = 0; i < (size_t)2 * CALLS; i++) {
        put_call(out, &calls[i / 2], i % 2 == 1);
    }
    put_bind(out, &calls[0]); /* a group of two */
    put_execute(out, "", 0);
    put_call(out, &calls[1], false);
    put_bind(out, &calls[0]); /* one row at a time */
    put_execute(out, "", 1);
    put_execute(out, "", 1);
    put_bare(out, 'S');
    put_bind(out, &calls[0]); /* skips up to the Sync */
    put_describe(out, 'P', "nobody");
    put_call(out, &calls[0], false);
    put_call(out, &calls[0], false);
    put_describe(out, 'S', "nobody"); /* skips as well, without a portal */
    put_call(out, &calls[0], false);
    put_parse(out, "", "SELECT k, a FROM t WHERE k = $1"); /* takes the place of the unnamed one */
    put_call(out, &calls[14], true);
    size_t at = begin(out, 'C');
    dbos_buf_put_u8(out, 'S');
    put_string(out, "a");
    end(out, at);
    put_call(out, &calls[0], false); /* it is closed */
    put_call(out, &calls[8], false);
}

/* As the net thread does: feed, let it end, collect. `by_one`: message by message. */
static void converse(struct scene *scene, const struct dbos_buf *in, bool by_one,
                     struct dbos_buf *out) {
    struct dbos_session *session = begin_session(scene);
    size_t at = 0;
    cr_assert_eq(test_engine_run(&scene->t, "UPDATE t SET a = 5 WHERE k = 1"), DBOS_OK);
    while (at < in->size_bytes) {
        size_t stop = by_one ? dbos_wire_message_end(in, at) : in->size_bytes;
        size_t used = dbos_session_feed(session, in->data + at, stop - at);
        settle(scene, session);
        dbos_session_collect(session, DURABLE, out);
        cr_assert(used != 0 || dbos_session_wants_input(session), "it is stuck at %zu", at);
        at += used;
    }
    cr_expect(dbos_session_is_idle(session));
    dbos_session_close(session);
}

static void compare(uint32_t partitions) {
    struct scene scene;
    struct dbos_buf in;
    struct dbos_buf whole;
    struct dbos_buf parts;
    open_scene(&scene, partitions);
    dbos_buf_init(&in, &scene.t.alloc);
    dbos_buf_init(&whole, &scene.t.alloc);
    dbos_buf_init(&parts, &scene.t.alloc);
    put_conversation(&in);
    converse(&scene, &in, true, &parts);
    converse(&scene, &in, false, &whole);
    size_t same = 0;
    while (same < whole.size_bytes && same < parts.size_bytes &&
           whole.data[same] == parts.data[same]) {
        same++;
    }
    cr_expect_gt(whole.size_bytes, 2000);
    cr_expect(same == whole.size_bytes && same == parts.size_bytes,
              "%zu and %zu bytes, of which %zu are the same", whole.size_bytes, parts.size_bytes,
              same);
    dbos_buf_fini(&in);
    dbos_buf_fini(&whole);
    dbos_buf_fini(&parts);
    close_scene(&scene);
}

Test(engine_session_call, one_piece_is_answered_as_message_by_message) { compare(1); }
Test(engine_session_call, on_several_partitions_too) { compare(3); }

/* A session that has prepared the statements, and buffers for what it says and hears. */
static struct dbos_session *open_prepared(struct scene *scene, uint32_t partitions,
                                          struct dbos_buf *in, struct dbos_buf *out) {
    open_scene(scene, partitions);
    dbos_buf_init(in, &scene->t.alloc);
    dbos_buf_init(out, &scene->t.alloc);
    struct dbos_session *session = begin_session(scene);
    put_statements(in);
    cr_assert_eq(dbos_session_feed(session, in->data, in->size_bytes), in->size_bytes);
    return session;
}

static void close_prepared(struct scene *scene, struct dbos_session *session, struct dbos_buf *in,
                           struct dbos_buf *out) {
    dbos_session_close(session);
    dbos_buf_fini(in);
    dbos_buf_fini(out);
    close_scene(scene);
}

Test(engine_session_call, what_is_ordinary_is_taken_in_one_go_and_nothing_else) {
    static const bool is_ordinary[CALLS] = {true,  true,  true, false, false, true,
                                            false, false, true, true,  true,  false,
                                            false, false, true, false, false, true};
    struct scene scene;
    struct dbos_buf in;
    struct dbos_buf out;
    struct dbos_session *session = open_prepared(&scene, 2, &in, &out);
    for (size_t i = 0; i < (size_t)2 * CALLS; i++) {
        dbos_buf_reset(&in);
        put_call(&in, &calls[i / 2], i % 2 == 1);
        size_t used = dbos_session_call(session, in.data, in.size_bytes);
        dbos_submitter_flush(&scene.submitter);
        cr_expect_eq(used, is_ordinary[i / 2] ? in.size_bytes : 0, "call %zu", i);
        settle(&scene, session);
        dbos_session_collect(session, DURABLE, &out);
    }
    close_prepared(&scene, session, &in, &out);
}

/* In one piece and by one: BindComplete has nothing to say by itself. */
Test(engine_session_call, nothing_leaves_ahead_of_its_result) {
    struct scene scene;
    struct dbos_buf in;
    struct dbos_buf out;
    struct dbos_session *session = open_prepared(&scene, 1, &in, &out);
    dbos_session_collect(session, DURABLE, &out);
    for (int by_one = 0; by_one < 2; by_one++) {
        dbos_buf_reset(&in);
        dbos_buf_reset(&out);
        put_call(&in, &calls[17], false); /* a write */
        size_t bind_bytes = by_one == 1 ? dbos_wire_message_end(&in, 0) : 0;
        cr_assert_eq(dbos_session_feed(session, in.data, bind_bytes), bind_bytes);
        cr_assert_eq(dbos_session_feed(session, in.data + bind_bytes, in.size_bytes - bind_bytes),
                     in.size_bytes - bind_bytes);
        dbos_session_collect(session, DURABLE, &out);
        cr_expect_eq(out.size_bytes, 0, "under way");
        settle(&scene, session);
        dbos_session_collect(session, 0, &out);
        cr_expect_eq(out.size_bytes, 0, "not durable");
        dbos_session_collect(session, DURABLE, &out);
        cr_expect_gt(out.size_bytes, 5 + 6);
        cr_expect_eq(out.data[0], '2');
        cr_expect_eq(out.data[out.size_bytes - 6], 'Z');
    }
    close_prepared(&scene, session, &in, &out);
}

/* As the net thread does with what has come in one piece. */
static void say(struct scene *scene, struct dbos_session *session, const struct dbos_buf *in,
                struct dbos_buf *out) {
    dbos_buf_reset(out);
    cr_assert_eq(dbos_session_feed(session, in->data, in->size_bytes), in->size_bytes);
    settle(scene, session);
    dbos_session_collect(session, DURABLE, out);
}

/* The statement that was called last is remembered: not beyond its end. */
Test(engine_session_call, a_query_ends_the_unnamed_statement_for_calls_too) {
    struct scene scene;
    struct dbos_buf in;
    struct dbos_buf out;
    struct dbos_session *session = open_prepared(&scene, 1, &in, &out);
    dbos_session_collect(session, DURABLE, &out);
    dbos_buf_reset(&in);
    put_call(&in, &calls[14], false);
    say(&scene, session, &in, &out);
    cr_expect_eq(out.data[0], '2', "BindComplete");
    dbos_buf_reset(&in);
    size_t at = begin(&in, 'Q');
    put_string(&in, "SELECT k FROM t WHERE k = 1");
    end(&in, at);
    say(&scene, session, &in, &out);
    cr_expect_eq(out.data[0], 'T', "RowDescription");
    dbos_buf_reset(&in);
    put_call(&in, &calls[14], false);
    say(&scene, session, &in, &out);
    cr_expect_eq(out.data[0], 'E', "it is there no more");
    cr_expect_not_null(memmem(out.data, out.size_bytes, "C26000", 7));
    close_prepared(&scene, session, &in, &out);
}
