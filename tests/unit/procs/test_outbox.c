#include <criterion/criterion.h>
#include <string.h>

#include "tests/unit/procs/procs_support.h"

TestSuite(procs_outbox, .timeout = 60);

static struct node node;

static void setup(void) {
    node_open(&node);
    node_exec(&node, "CREATE TABLE results (task bigint PRIMARY KEY, context bytea, error text, "
                     "bytes bytea, pieces bigint, exec_us bigint) PARTITION BY HASH (task);"
                     "CREATE FUNCTION task_submit(int, int, int, int, bytea, bytea) RETURNS bigint "
                     "LANGUAGE c AS 'test/tasks.so', 'task_submit';"
                     "CREATE PROCEDURE task_add(bigint, int, bytea) "
                     "LANGUAGE c AS 'test/tasks.so', 'task_add';"
                     "CREATE PROCEDURE task_result(bigint, bytea, text) "
                     "LANGUAGE c AS 'test/tasks.so', 'task_result'");
}

static void cleanup(void) { node_close(&node); }

static enum dbos_err submit(int kind, int model, int version, int pieces, const char *context,
                            int64_t *out_task) {
    struct dbos_datum arguments[] = {integer(kind),      integer(model),
                                     integer(version),   integer(pieces),
                                     bytea("pixels", 6), bytea(context, strlen(context))};
    struct dbos_datum value;
    enum dbos_err err = node_call(&node, "task_submit", arguments, 6, &value);
    *out_task = err == DBOS_OK ? value.integer : -1;
    return err;
}

static int64_t train(int pieces, const char *context) {
    int64_t task = -1;
    enum dbos_err err = submit(DBOS_TASK_TRAIN, 1, 0, pieces, context, &task);
    cr_assert_eq(err, DBOS_OK, "%s", node.info.message);
    return task;
}

static const struct dbos_task_result_piece model_pieces[] = {
    {.payload = {.data = (const uint8_t *)"first chunk", .size_bytes = 11}, .count = 10},
    {.payload = {.data = (const uint8_t *)"second", .size_bytes = 6}, .count = 10},
};
static const struct dbos_task_result model_result = {
    .piece_count = 2, .pieces = model_pieces, .exec_us = 77};

static enum dbos_err finish(uint32_t partition, int64_t task, const char *error, bool mark_only,
                            bool *done) {
    struct dbos_run run = node_begin(&node, partition);
    enum dbos_err err =
        dbos_outbox_finish(&run, (uint64_t)task, error == NULL ? &model_result : NULL, error,
                           mark_only, done, &node.info);
    return node_end(&node, &run, err);
}

Test(procs_outbox, a_submitted_task_is_handed_over_when_it_has_committed, .init = setup,
     .fini = cleanup) {
    int64_t task = train(1, "context");
    cr_expect_eq(node.batch.task_count, 1);
    cr_expect_eq(node.batch.piece_count, 1);
    cr_expect_eq(node.batch.tasks[0].task_id, (uint64_t)task);
    cr_expect_eq(node.batch.tasks[0].kind, DBOS_TASK_TRAIN);
    cr_expect_eq(node.batch.tasks[0].pieces, 1);
    cr_expect_eq(node.batch.tasks[0].partition, node_partition_of(&node, task));
    cr_expect_gt(node.batch.tasks[0].deadline_us, node.last_us);
    cr_expect_eq(node.batch.pieces[0].task_id, (uint64_t)task);
    cr_expect_eq(node.batch.pieces[0].count, 10);
    cr_expect_eq(node.batch.pieces[0].payload->id.size_bytes, 6);
    cr_expect_eq(memcmp(node.batch.pieces[0].payload->data, "pixels", 6), 0);
    node_expect(&node, "SELECT state, kind, username, pieces FROM dbos.task", "1|3|tester|1\n");
    char user[64];
    cr_expect_eq(dbos_outbox_user(node.store, (uint64_t)task, user, sizeof user), DBOS_OK);
    cr_expect_str_eq(user, "tester");
    cr_expect_eq(dbos_outbox_user(node.store, 5, user, sizeof user), DBOS_ERR_UNDEFINED_OBJECT);
}

Test(procs_outbox, a_task_that_can_not_be_is_refused_and_leaves_nothing, .init = setup,
     .fini = cleanup) {
    static const struct {
        int kind, model, version, pieces;
        enum dbos_err err;
        const char *says;
    } cases[] = {
        {9, 1, 0, 1, DBOS_ERR_INVALID_PARAMETER, "there is no task kind 9"},
        {DBOS_TASK_TRAIN, 0, 0, 1, DBOS_ERR_INVALID_PARAMETER, "number from 1"},
        {DBOS_TASK_TRAIN, 1, 0, 0, DBOS_ERR_INVALID_PARAMETER, "1 to 4096 pieces"},
        {DBOS_TASK_TRAIN, 1, 0, 5000, DBOS_ERR_INVALID_PARAMETER, "1 to 4096 pieces"},
        {DBOS_TASK_INFER, 1, 0, 1, DBOS_ERR_UNDEFINED_OBJECT, "there is no model 1"},
        {DBOS_TASK_INFER, 1, 4, 1, DBOS_ERR_UNDEFINED_OBJECT, "model 1 has no version 4"},
    };
    int64_t task;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum dbos_err err =
            submit(cases[i].kind, cases[i].model, cases[i].version, cases[i].pieces, "", &task);
        cr_expect_eq(err, cases[i].err, "%zu: %s", i, dbos_err_name(err));
        cr_expect_not_null(strstr(node.info.message, cases[i].says), "%zu: %s", i,
                           node.info.message);
        cr_expect_eq(node.batch.task_count + node.batch.piece_count, 0);
    }
    node_exec(&node, "DROP PROCEDURE task_result");
    cr_expect_eq(submit(DBOS_TASK_TRAIN, 1, 0, 1, "", &task), DBOS_ERR_UNDEFINED_FUNCTION);
    node_exec(&node, "CREATE PROCEDURE task_result(bigint, text, text) LANGUAGE c "
                     "AS 'test/tasks.so', 'task_result'");
    cr_expect_eq(submit(DBOS_TASK_TRAIN, 1, 0, 1, "", &task), DBOS_ERR_UNDEFINED_FUNCTION);
    cr_expect_str_eq(node.info.message,
                     "result procedure task_result(bigint, bytea, text) does not exist");
    node_expect(&node, "SELECT count(*) FROM dbos.task", "0\n");
    node_expect(&node, "SELECT count(*) FROM dbos.task_piece", "0\n");
}

Test(procs_outbox, a_result_has_its_effect_once, .init = setup, .fini = cleanup) {
    int64_t task = train(1, "model");
    bool done = false;
    /* The result procedure writes a model, which all partitions read: not on the task's own. */
    cr_expect_eq(finish(node_partition_of(&node, task), task, NULL, false, &done),
                 DBOS_ERR_WRONG_PARTITION);
    cr_expect(!done);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, NULL, false, &done), DBOS_OK, "%s",
                 node.info.message);
    cr_expect(done);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, NULL, false, &done), DBOS_OK);
    cr_expect(!done);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, "late error", false, &done), DBOS_OK);
    cr_expect(!done);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, 12345, NULL, false, &done), DBOS_OK);
    cr_expect(!done);
    node_expect(&node, "SELECT context, error, bytes, pieces, exec_us FROM results",
                "\\x6d6f64656c||\\x6669727374206368756e6b|2|77\n");
    node_expect(&node, "SELECT state, error FROM dbos.task", "2|\n");
    node_expect(&node, "SELECT count(*) FROM dbos.task_piece", "0\n");
    node_expect(&node, "SELECT model_id, version, chunks FROM dbos.model", "1|1|2\n");
    node_expect(&node, "SELECT chunk, bytes FROM dbos.model_chunk ORDER BY chunk",
                "0|\\x6669727374206368756e6b\n1|\\x7365636f6e64\n");
}

Test(procs_outbox, an_error_reaches_the_result_procedure, .init = setup, .fini = cleanup) {
    int64_t task = train(1, "context");
    bool done = false;
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, "the worker fell over", false, &done), DBOS_OK);
    cr_expect(done);
    node_expect(&node, "SELECT error, bytes, pieces FROM results", "the worker fell over||0\n");
    node_expect(&node, "SELECT state, error FROM dbos.task", "3|the worker fell over\n");
    node_expect(&node, "SELECT count(*) FROM dbos.model", "0\n");
}

Test(procs_outbox, a_result_procedure_that_aborts_leaves_the_task_to_be_marked, .init = setup,
     .fini = cleanup) {
    int64_t task = train(1, "refuse");
    bool done = true;
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, NULL, false, &done), DBOS_ERR_RAISED);
    cr_expect(!done);
    cr_expect_str_eq(node.info.message, "refused by the result procedure");
    node_expect(&node, "SELECT state FROM dbos.task", "1\n");
    node_expect(&node, "SELECT count(*) FROM dbos.model", "0\n");
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, "refused", true, &done), DBOS_OK);
    cr_expect(done);
    node_expect(&node, "SELECT state, error FROM dbos.task", "3|refused\n");
    node_expect(&node, "SELECT count(*) FROM results", "0\n");
    node_expect(&node, "SELECT count(*) FROM dbos.task_piece", "0\n");
}

static enum dbos_err add_on(uint32_t partition, int64_t task, uint32_t piece) {
    struct dbos_run run = node_begin(&node, partition);
    enum dbos_err err = dbos_outbox_add(&run, task, piece, 10, "more", 4, &node.info);
    return node_end(&node, &run, err);
}

Test(procs_outbox, pieces_come_from_any_partition_and_are_found_under_the_barrier, .init = setup,
     .fini = cleanup) {
    int64_t task = train(3, "context");
    uint32_t home = node_partition_of(&node, task);
    bool done = false;
    cr_expect_eq(add_on(1 - home, task, 1), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(node.batch.piece_count, 1);
    cr_expect_eq(node.batch.task_count, 0);
    cr_expect_eq(add_on(1 - home, task, 1), DBOS_ERR_UNIQUE, "the same piece again");
    cr_expect_eq(add_on(home, task, 2), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(add_on(home, task, 3), DBOS_ERR_INVALID_PARAMETER);
    cr_expect_eq(add_on(home, node_value_on(&node, home, 2), 0), DBOS_ERR_INVALID_PARAMETER);
    node_expect(&node, "SELECT count(*) FROM dbos.task_piece", "3\n");
    cr_expect_eq(finish(home, task, "on the home partition", false, &done),
                 DBOS_ERR_WRONG_PARTITION);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, task, "done", false, &done), DBOS_OK);
    cr_expect(done);
    node_expect(&node, "SELECT count(*) FROM dbos.task_piece", "0\n");
}

Test(procs_outbox, an_infer_task_carries_the_newest_model_and_finishes_at_home, .init = setup,
     .fini = cleanup) {
    bool done = false;
    for (int version = 1; version <= 2; version++) {
        cr_expect_eq(finish(DBOS_PARTITION_ALL, train(1, "model"), NULL, false, &done), DBOS_OK);
    }
    int64_t task = -1;
    cr_expect_eq(submit(DBOS_TASK_INFER, 1, 0, 1, "i", &task), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(node.batch.tasks[0].model_version, 2);
    cr_expect_eq(node.batch.tasks[0].chunk_count, 2);
    cr_expect_eq(memcmp(node.batch.tasks[0].chunks[1]->data, "second", 6), 0);
    cr_expect_eq(submit(DBOS_TASK_INFER, 1, 1, 1, "i", &task), DBOS_OK);
    cr_expect_eq(node.batch.tasks[0].model_version, 1);
    /* The result procedure writes by the task's id, so it runs where the task is. */
    cr_expect_eq(finish(node_partition_of(&node, task), task, NULL, false, &done), DBOS_OK, "%s",
                 node.info.message);
    cr_expect(done);
    node_expect(&node, "SELECT count(*) FROM dbos.model", "2\n");
}

/* -- after a restart ------------------------------------------------------------------------------
 */

struct seen {
    uint64_t tasks[8];
    uint32_t task_count;
    uint32_t chunk_count;
    uint32_t piece_count;
};

static void each_task(void *arg, struct dbos_outbox_task *task) {
    struct seen *seen = arg;
    seen->tasks[seen->task_count++] = task->task_id;
    for (uint32_t i = 0; i < task->chunk_count; i++) {
        dbos_object_unref(task->chunks[i]);
        seen->chunk_count++;
    }
    dbos_give(&node.alloc, task->chunks);
}

static void each_piece(void *arg, struct dbos_outbox_piece *piece) {
    ((struct seen *)arg)->piece_count++;
    dbos_object_unref(piece->payload);
}

Test(procs_outbox, a_restart_finds_the_open_tasks_and_their_pieces, .init = setup,
     .fini = cleanup) {
    bool done = false;
    struct seen seen = {0};
    int64_t infer = -1;
    cr_expect_eq(finish(DBOS_PARTITION_ALL, train(1, "model"), NULL, false, &done), DBOS_OK);
    int64_t open = train(2, "open");
    cr_expect_eq(submit(DBOS_TASK_INFER, 1, 0, 1, "i", &infer), DBOS_OK);
    node_drop_batch(&node);
    cr_expect_eq(
        dbos_outbox_scan(node.store, &node.alloc, each_task, each_piece, &seen, &node.info),
        DBOS_OK);
    cr_expect_eq(seen.task_count, 2);
    cr_expect_eq(seen.piece_count, 2);
    cr_expect_eq(seen.chunk_count, 2);
    cr_expect((seen.tasks[0] == (uint64_t)open && seen.tasks[1] == (uint64_t)infer) ||
              (seen.tasks[1] == (uint64_t)open && seen.tasks[0] == (uint64_t)infer));
}

Test(procs_outbox, the_pinned_version_of_the_result_procedure_runs, .init = setup,
     .fini = cleanup) {
    int64_t pinned = train(1, "context");
    node_exec(&node, "CREATE OR REPLACE PROCEDURE task_result(bigint, bytea, text) LANGUAGE sql "
                     "AS 'INSERT INTO results (task, error) VALUES ($1, ''version 2'')'");
    int64_t newer = train(1, "context");
    bool done = false;
    cr_expect_eq(finish(DBOS_PARTITION_ALL, pinned, NULL, false, &done), DBOS_OK, "%s",
                 node.info.message);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, newer, NULL, false, &done), DBOS_OK);
    node_expect(&node, "SELECT count(*) FROM results WHERE error IS NULL", "1\n");
    node_expect(&node, "SELECT count(*) FROM results WHERE error = 'version 2'", "1\n");
    /* After a restart only the newest version is loaded; an older pinned one becomes it. */
    int64_t late = train(1, "context");
    node_exec(&node, "CREATE OR REPLACE PROCEDURE task_result(bigint, bytea, text) LANGUAGE sql "
                     "AS 'INSERT INTO results (task, error) VALUES ($1, ''version 3'')'");
    cr_expect_eq(node_reload_procedures(&node), DBOS_OK);
    cr_expect_eq(finish(DBOS_PARTITION_ALL, late, NULL, false, &done), DBOS_OK);
    node_expect(&node, "SELECT count(*) FROM results WHERE error = 'version 3'", "1\n");
}
