/* Goal: a client hears of a definition, by a reply or by an error, only when it is on the disk.
 * Method: a real engine on a disk whose syncs are slow, and two sessions that are fed bytes: one
 * creates a table, the other asks for it while the first record is still on its way. */
#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/engine/engine_support.h"

TestSuite(engine_session_gate, .timeout = 60);

enum { SYNC_DELAY_US = 500000 };

struct scene {
    struct test_engine t;
    struct dbos_submitter submitter;
    struct dbos_session_pool *pool;
    sem_t done;
    struct dbos_request *ended;
};

static void on_done(struct dbos_request *request) {
    struct scene *scene = request->on_done_arg;
    scene->ended = request;
    (void)sem_post(&scene->done);
}

static void open_scene(struct scene *scene) {
    const struct dbos_engine_options options = {
        .partitions = 2, .durability = DBOS_DURABILITY_SYNC, .segment_bytes = 1 << 20};
    memset(scene, 0, sizeof *scene);
    test_engine_open(&scene->t, options);
    (void)sem_init(&scene->done, 0, 0);
    scene->submitter.engine = scene->t.engine;
    cr_assert_eq(dbos_session_pool_open(dbos_engine_session_alloc(scene->t.engine), &scene->pool),
                 DBOS_OK);
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

static void feed_text(struct dbos_session *session, char type, const char *head, const char *text) {
    uint8_t message[256];
    size_t length = 4 + strlen(head) + (type == 'P' ? 1 : 0) + strlen(text) + 1;
    length += type == 'P' ? 2 : 0;
    memset(message, 0, sizeof message);
    message[0] = (uint8_t)type;
    message[4] = (uint8_t)length;
    memcpy(message + 5, head, strlen(head));
    memcpy(message + 5 + strlen(head) + (type == 'P' ? 1 : 0), text, strlen(text));
    cr_assert_eq(dbos_session_feed(session, message, length + 1), length + 1);
}

static size_t collected(struct scene *scene, struct dbos_session *session, uint64_t durable) {
    struct dbos_buf out;
    dbos_buf_init(&out, &scene->t.alloc);
    dbos_session_collect(session, durable, &out);
    size_t bytes = out.size_bytes;
    dbos_buf_fini(&out);
    return bytes;
}

/* The bytes of a pipeline of simple queries that are used at once. */
static uint32_t queries_taken(struct dbos_session *session, uint32_t count) {
    static const char query[] = "Q\0\0\0\x18SELECT k FROM slow;";
    enum { BYTES = sizeof query };
    static uint8_t messages[512 * BYTES];
    cr_assert_leq(count, 512);
    for (uint32_t i = 0; i < count; i++) {
        memcpy(messages + i * BYTES, query, BYTES);
        messages[i * BYTES + 4] = BYTES - 1;
    }
    return (uint32_t)(dbos_session_feed(session, messages, count * BYTES) / BYTES);
}

/* A session that asks much ahead gets less of the node the more of them there are. */
Test(engine_session_gate, sessions_share_what_may_be_asked_ahead) {
    struct scene scene;
    static const struct {
        uint32_t sessions;
        uint32_t taken;
    } cases[] = {
        {1, 255}, {8, 255}, {64, 31}, {1024, 1}, {100000, 1}}; /* the last one's end counts */
    open_scene(&scene);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_session *session = begin_session(&scene);
        dbos_session_pool_share(scene.pool, cases[i].sessions);
        uint32_t taken = queries_taken(session, 400);
        cr_expect_eq(taken, cases[i].taken, "%u of %u sessions", taken, cases[i].sessions);
        (void)collected(&scene, session, UINT64_MAX); /* no such table: each is answered at once */
        cr_expect_eq(queries_taken(session, 1), 1, "it goes on");
        (void)collected(&scene, session, UINT64_MAX);
        dbos_session_close(session);
    }
    close_scene(&scene);
}

static struct dbos_request run_step(struct scene *scene, const char *sql) {
    struct test_step step;
    test_step_prepare(&scene->t, &step, sql, &scene->done);
    dbos_engine_submit(scene->t.engine, &step.request);
    test_wait_for(&scene->done, 1);
    struct dbos_request ended = step.request;
    test_step_release(&step);
    cr_assert_eq(ended.outcome, DBOS_OK);
    return ended;
}

/* Else what only reads would stop as soon as the log has no room for the records of reads. */
Test(engine_session_gate, a_read_of_all_partitions_waits_for_writes_and_not_for_reads) {
    struct scene scene;
    open_scene(&scene);
    run_step(&scene, "CREATE TABLE t (k int PRIMARY KEY) PARTITION BY HASH (k)");
    for (int k = 1; k < 9; k++) {
        char insert[64];
        char select[64];
        (void)snprintf(insert, sizeof insert, "INSERT INTO t VALUES (%d)", k);
        (void)snprintf(select, sizeof select, "SELECT k FROM t WHERE k = %d", k);
        uint64_t written = run_step(&scene, insert).position;
        struct dbos_request one = run_step(&scene, select);
        struct dbos_request all = run_step(&scene, "SELECT count(*) FROM t");
        cr_expect_gt(one.position, written);
        cr_expect_gt(all.position, one.position);
        cr_expect_eq(one.gate_position, written);
        cr_expect_eq(all.gate_position, written);
    }
    close_scene(&scene);
}

Test(engine_session_gate, a_definition_is_not_spoken_of_before_it_is_durable) {
    struct scene scene;
    open_scene(&scene);
    struct dbos_session *writer = begin_session(&scene);
    struct dbos_session *parser = begin_session(&scene);
    struct dbos_session *asker = begin_session(&scene);
    atomic_store(&scene.t.fault.sync_delay_us, SYNC_DELAY_US);
    feed_text(writer, 'Q', "", "CREATE TABLE t (k int PRIMARY KEY)");
    test_wait_for(&scene.done, 1);
    dbos_session_done(writer, scene.ended);
    uint64_t position = dbos_log_last_position(scene.t.engine->log);
    cr_assert_lt(dbos_engine_durable(scene.t.engine), position, "the disk was too fast");
    feed_text(parser, 'P', "", "SELECT k FROM t");
    feed_text(asker, 'P', "", "SELECT nothing FROM t"); /* the error shows that t is there */
    cr_expect_eq(collected(&scene, writer, position - 1), 0);
    cr_expect_eq(collected(&scene, parser, position - 1), 0);
    cr_expect_eq(collected(&scene, asker, position - 1), 0);
    cr_expect_gt(collected(&scene, writer, position), 0);
    cr_expect_eq(collected(&scene, parser, position), 5, "ParseComplete");
    cr_expect_gt(collected(&scene, asker, position), 50, "ErrorResponse");
    atomic_store(&scene.t.fault.sync_delay_us, 0);
    dbos_session_close(writer);
    dbos_session_close(parser);
    dbos_session_close(asker);
    close_scene(&scene);
}
