/* Goal: a task ends in one transaction, whatever happens on the way, and its record says what ran.
 * Method: a real engine without a worker, so that tasks miss their deadlines: the dispatcher then
 * hands their ends to the engine as it does with a worker's results. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "engine/tasks.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_task_result, .timeout = 60);

enum { PATIENCE_MS = 20000 };

static void run(struct test_engine *t, const char *sql) {
    cr_assert_eq(test_engine_run(t, sql), DBOS_OK, "%.100s", sql);
}

static void open_tasks(struct test_engine *t) {
    test_engine_open(t, (struct dbos_engine_options){.partitions = 1});
    for (size_t i = 0; i < TEST_TASK_DEFINITIONS; i++) {
        run(t, test_task_definitions[i]);
    }
}

/* A training task with a deadline of 300 ms. */
static void submit(struct test_engine *t) {
    run(t, "SELECT task_submit(3, 1, 0, 1, '\\x00', '\\x736f6f6e')"); /* soon */
}

static struct dbos_dispatcher_stats stats_of(struct test_engine *t) {
    struct dbos_dispatcher_stats stats;
    dbos_dispatcher_stats(t->engine->dispatcher, &stats);
    return stats;
}

static void wait_for_ends(struct test_engine *t, uint64_t count) {
    struct dbos_env *env = &t->fault.env;
    for (int ms = 0; stats_of(t).failed < count && ms < PATIENCE_MS; ms += 10) {
        env->ops->sleep_us(env, 10000);
    }
    cr_assert_eq(stats_of(t).failed, count);
    dbos_log_wait(t->engine->log, dbos_log_last_position(t->engine->log));
}

/* What the records of results say, in their order. */
struct results {
    uint32_t count;
    uint32_t versions[8];
    uint32_t inserts[8];
    bool aborted[8];
};

static void note_result(void *arg, const struct dbos_record_head *head,
                        struct dbos_record_decoder *decoder, size_t size_bytes) {
    struct results *results = arg;
    struct dbos_event event;
    uint32_t inserts = 0;
    (void)size_bytes;
    while (dbos_record_next(decoder, &event)) {
        inserts += event.op == DBOS_EVENT_INSERT;
    }
    if ((head->flags & DBOS_RECORD_TASK_RESULT) != 0) {
        cr_assert_lt(results->count, 8);
        results->versions[results->count] = head->procedure_version;
        results->aborted[results->count] = head->outcome != 0;
        results->inserts[results->count++] = inserts;
    }
}

static void read_results(struct test_engine *t, struct results *results) {
    *results = (struct results){.count = 0};
    test_log_walk(t, note_result, results);
}

/* Half a megabyte is more than a transaction keeps for the next one. */
static const char large[] =
    "CREATE OR REPLACE PROCEDURE task_result(bigint, bytea, text) LANGUAGE sql "
    "AS 'INSERT INTO results (task, error) VALUES ($1, repeat($3, 20000))'";

Test(engine_task_result, that_finds_no_memory_is_tried_again) {
    struct test_engine t;
    struct results results;
    open_tasks(&t);
    run(&t, large);
    submit(&t); /* what is kept for reuse is there behind it */
    wait_for_ends(&t, 1);
    cr_assert_eq(stats_of(&t).retried, 0);
    submit(&t);
    atomic_store(&t.engine->storage_alloc.fail_countdown, 1);
    wait_for_ends(&t, 2);
    cr_expect_eq(atomic_load(&t.engine->storage_alloc.fail_countdown), 0, "nothing was taken");
    cr_expect_eq(stats_of(&t).retried, 1);
    read_results(&t, &results);
    /* Its result procedure has run in the end: the task is not just marked as failed. */
    cr_assert_geq(results.count, 2);
    cr_expect_eq(results.inserts[results.count - 1], 1);
    cr_expect(!results.aborted[results.count - 1]);
    test_engine_close(&t);
}

/* The same database, by a new process as it were. */
static void restart(struct test_engine *t) {
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .env = &t->fault.env, .data_dir = t->dir, .program_dir = "", .partitions = 1};
    dbos_engine_stop(t->engine);
    dbos_engine_close(t->engine);
    cr_assert_eq(dbos_engine_open(&t->alloc, &options, &t->engine, &info), DBOS_OK, "%s",
                 info.message);
    cr_assert_eq(dbos_engine_start(t->engine, NULL, NULL, &info), DBOS_OK, "%s", info.message);
}

static const char second[] =
    "CREATE OR REPLACE PROCEDURE task_result(bigint, bytea, text) LANGUAGE sql "
    "AS 'INSERT INTO results (task, error) VALUES ($1, ''version 2'')'";

/* The version that a task was submitted with runs while it is loaded; a restart loads only the
 * newest one, which runs then, and is what the record names. */
Test(engine_task_result, record_names_the_version_that_ran) {
    struct test_engine t;
    struct results results;
    open_tasks(&t);
    submit(&t);
    run(&t, second);
    wait_for_ends(&t, 1);
    read_results(&t, &results);
    cr_assert_eq(results.count, 1);
    cr_expect_eq(results.versions[0], 1);
    test_engine_close(&t);
    open_tasks(&t);
    submit(&t);
    run(&t, second);
    restart(&t);
    wait_for_ends(&t, 1);
    read_results(&t, &results);
    cr_assert_eq(results.count, 1);
    cr_expect_eq(results.versions[0], 2);
    test_engine_close(&t);
}
