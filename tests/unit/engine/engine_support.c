#include "tests/unit/engine/engine_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void test_engine_open(struct test_engine *t, struct dbos_engine_options options) {
    struct dbos_errinfo info = {0};
    memset(t, 0, sizeof *t);
    (void)snprintf(t->dir, sizeof t->dir, "/tmp/dbos-engine-XXXXXX");
    cr_assert_not_null(mkdtemp(t->dir));
    dbos_alloc_init(&t->alloc, "engine", 0);
    env_fault_init(&t->fault, 1);
    options.env = &t->fault.env;
    options.data_dir = t->dir;
    options.program_dir = "";
    cr_assert_eq(dbos_engine_open(&t->alloc, &options, &t->engine, &info), DBOS_OK, "%s",
                 info.message);
    cr_assert_eq(dbos_engine_start(t->engine, NULL, NULL, &info), DBOS_OK, "%s", info.message);
    t->session = (struct dbos_session_info){.id = dbos_engine_take_session_id(t->engine),
                                            .user = "u",
                                            .role = "u",
                                            .address = "in process",
                                            .application = "test"};
}

void test_engine_close(struct test_engine *t) {
    char command[80];
    dbos_engine_stop(t->engine);
    dbos_engine_close(t->engine);
    env_fault_fini(&t->fault);
    dbos_alloc_fini(&t->alloc);
    (void)snprintf(command, sizeof command, "rm -rf %s", t->dir);
    cr_assert_eq(system(command), 0);
}

static void on_done(struct dbos_request *request) {
    (void)sem_post(((struct test_step *)request->owner)->done);
}

void test_step_prepare(struct test_engine *t, struct test_step *step, const char *sql,
                       sem_t *done) {
    struct dbos_errinfo info = {0};
    struct dbos_alloc *alloc = dbos_engine_session_alloc(t->engine);
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(t->engine);
    memset(step, 0, sizeof *step);
    step->done = done;
    cr_assert_eq(dbos_script_parse(alloc, sql, &step->script, &info), DBOS_OK, "%s", info.message);
    cr_assert_eq(dbos_plan_make(alloc, catalog, dbos_engine_procs(t->engine), step->script, 0, NULL,
                                0, &step->statement.plan, &info),
                 DBOS_OK, "%s", info.message);
    dbos_catalog_unref(catalog);
    step->request.kind = DBOS_REQUEST_STATEMENTS;
    step->request.session = &t->session;
    step->request.statement_count = 1;
    step->request.statements = &step->statement;
    step->request.on_done = on_done;
    step->request.owner = step;
    dbos_buf_init(&step->request.reply, alloc);
    cr_assert_eq(dbos_engine_route(t->engine, &step->request, &info), DBOS_OK, "%s", info.message);
}

void test_step_release(struct test_step *step) {
    dbos_buf_fini(&step->request.reply);
    dbos_plan_unref(step->statement.plan);
    dbos_script_close(step->script);
}

void test_step_again(struct test_step *step) {
    struct dbos_request *request = &step->request;
    dbos_buf_reset(&request->reply);
    request->error = (struct dbos_errinfo){0};
    request->outcome = DBOS_OK;
    request->position = 0;
    atomic_store(&request->then, NULL);
}

void test_wait_for(sem_t *done, int count) {
    for (int i = 0; i < count; i++) {
        while (sem_wait(done) != 0) {
        }
    }
}

enum dbos_err test_engine_run(struct test_engine *t, const char *sql) {
    struct test_step step;
    sem_t done;
    (void)sem_init(&done, 0, 0);
    test_step_prepare(t, &step, sql, &done);
    dbos_engine_submit(t->engine, &step.request);
    test_wait_for(&done, 1);
    enum dbos_err outcome = step.request.outcome;
    test_step_release(&step);
    return outcome;
}

static bool admit(void *owner) { return owner != NULL; }
static void cancel(void *owner, uint32_t process, uint32_t key) {
    (void)owner;
    (void)process;
    (void)key;
}

struct dbos_session *test_session_begin(struct test_engine *t,
                                        struct dbos_session_options options) {
    static const uint8_t startup[] = "\0\0\0\x20\0\3\0\0user\0ana\0database\0dbos\0";
    struct dbos_session *session = NULL;
    struct dbos_buf out;
    options.engine = t->engine;
    options.address = "in process";
    options.owner = t;
    options.admit = admit;
    options.cancel = cancel;
    cr_assert_eq(dbos_session_open(&options, &session), DBOS_OK);
    cr_assert_eq(dbos_session_feed(session, startup, sizeof startup), sizeof startup);
    dbos_buf_init(&out, &t->alloc);
    dbos_session_collect(session, 0, &out);
    dbos_buf_fini(&out);
    cr_assert(dbos_session_is_ready(session));
    return session;
}

static void visit_batch(const struct dbos_batch *batch, struct dbos_record_scratch *scratch,
                        test_record_visit *visit, void *arg) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    const uint8_t *record = NULL;
    while ((record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        struct dbos_record_head head;
        struct dbos_record_decoder decoder;
        struct dbos_errinfo info = {0};
        cr_assert_eq(dbos_record_open(record, size_bytes, scratch, &head, &decoder, &info), DBOS_OK,
                     "%s", info.message);
        visit(arg, &head, &decoder, size_bytes);
        cr_assert_eq(dbos_record_end(&decoder, &info), DBOS_OK, "%s", info.message);
    }
}

void test_log_walk(struct test_engine *t, test_record_visit *visit, void *arg) {
    struct dbos_log_reader *reader = NULL;
    struct dbos_record_scratch scratch;
    struct dbos_batch batch;
    struct dbos_errinfo info = {0};
    dbos_record_scratch_init(&scratch, &t->alloc);
    cr_assert_eq(dbos_log_reader_open(&t->alloc, dbos_env_posix(), t->dir, 1, 0, &reader, &info),
                 DBOS_OK, "%s", info.message);
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        visit_batch(&batch, &scratch, visit, arg);
    }
    dbos_log_reader_close(reader);
    dbos_record_scratch_fini(&scratch);
}

const char *const test_task_definitions[TEST_TASK_DEFINITIONS] = {
    "CREATE TABLE results (task bigint PRIMARY KEY, context bytea, error text, bytes bytea, "
    "pieces bigint, exec_us bigint) PARTITION BY HASH (task)",
    "CREATE FUNCTION task_submit(int, int, int, int, bytea, bytea) RETURNS bigint LANGUAGE c "
    "AS 'test/tasks.so', 'task_submit'",
    "CREATE PROCEDURE task_result(bigint, bytea, text) LANGUAGE c "
    "AS 'test/tasks.so', 'task_result'",
};
