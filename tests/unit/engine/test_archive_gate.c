/* Goal: while the archive's backlog is full, what writes waits, in the order of its session, with
 * its time going on; what reads goes on; nothing is lost, and nothing stays behind.
 * Method: a real engine without an archive, whose gate the test closes and opens. */
#include <criterion/criterion.h>
#include <unistd.h>

#include "engine/tasks.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_archive_gate, .timeout = 60);

struct scene {
    struct test_engine t;
    sem_t done;
    struct dbos_archive_gate *gate;
};

static void open_scene(struct scene *scene, uint32_t partitions) {
    test_engine_open(&scene->t, (struct dbos_engine_options){.partitions = partitions});
    (void)sem_init(&scene->done, 0, 0);
    scene->gate = &scene->t.engine->archive_gate;
    cr_assert_eq(
        test_engine_run(&scene->t, "CREATE TABLE t (k int PRIMARY KEY) PARTITION BY HASH (k)"),
        DBOS_OK);
    cr_assert_eq(test_engine_run(&scene->t, "INSERT INTO t VALUES (1)"), DBOS_OK);
}

static void submit(struct scene *scene, struct test_step *step, const char *sql) {
    test_step_prepare(&scene->t, step, sql, &scene->done);
    dbos_engine_submit(scene->t.engine, &step->request);
}

static bool is_done(struct scene *scene) {
    (void)usleep(20000);
    return sem_trywait(&scene->done) == 0;
}

static bool reply_has(const struct test_step *step, const char *text) {
    return memmem(step->request.reply.data, step->request.reply.size_bytes, text, strlen(text)) !=
           NULL;
}

Test(engine_archive_gate, writers_wait_and_readers_do_not) {
    static const char *const writers[] = {
        "INSERT INTO t VALUES (2)", "UPDATE t SET k = k", "DELETE FROM t WHERE k = 7",
        "CREATE TABLE u (k int PRIMARY KEY)", "INSERT INTO t VALUES (3)"};
    enum { WRITERS = sizeof writers / sizeof writers[0] };
    struct scene scene;
    struct test_step steps[WRITERS];
    open_scene(&scene, 2);
    uint64_t last = dbos_log_last_position(scene.t.engine->log);
    dbos_archive_gate_close(scene.gate);
    for (int i = 0; i < WRITERS; i++) {
        submit(&scene, &steps[i], writers[i]);
    }
    cr_expect_not(is_done(&scene), "a writer did not wait");
    cr_expect_eq(atomic_load(&scene.gate->waiting), WRITERS);
    cr_expect_eq(dbos_log_last_position(scene.t.engine->log), last, "they left something");
    cr_expect_eq(test_engine_run(&scene.t, "SELECT * FROM t WHERE k = 1"), DBOS_OK);
    cr_expect_eq(test_engine_run(&scene.t, "SELECT count(*) FROM t"), DBOS_OK);
    cr_expect_eq(test_engine_run(&scene.t, "SELECT waiting FROM dbos.archive"), DBOS_OK);
    dbos_archive_gate_open(scene.t.engine);
    test_wait_for(&scene.done, WRITERS);
    for (int i = 0; i < WRITERS; i++) {
        cr_expect_eq(steps[i].request.outcome, DBOS_OK, "%s: %s", writers[i],
                     steps[i].request.error.message);
        test_step_release(&steps[i]);
    }
    cr_expect_eq(atomic_load(&scene.gate->waiting), 0);
    cr_expect_eq(atomic_load(&scene.gate->waits), WRITERS);
    cr_expect_eq(atomic_load(&scene.gate->refused), 0);
    cr_expect_eq(test_engine_run(&scene.t, "INSERT INTO t VALUES (4)"), DBOS_OK);
    test_engine_close(&scene.t);
}

/* A session's read sees its write before it; another session's does not wait for either. */
Test(engine_archive_gate, a_read_does_not_overtake_the_write_of_its_session) {
    struct scene scene;
    struct test_step write, read, other;
    open_scene(&scene, 1);
    dbos_archive_gate_close(scene.gate);
    submit(&scene, &write, "INSERT INTO t VALUES (2)");
    test_step_prepare(&scene.t, &read, "SELECT 'two', k FROM t WHERE k = 2", &scene.done);
    read.request.owner = write.request.owner; /* the same session's */
    dbos_engine_submit(scene.t.engine, &read.request);
    cr_expect_not(is_done(&scene));
    submit(&scene, &other, "SELECT 'two', k FROM t WHERE k = 2");
    test_wait_for(&scene.done, 1);
    cr_expect_not(reply_has(&other, "two"), "what waits was seen");
    cr_expect_eq(atomic_load(&scene.gate->waiting), 2);
    dbos_archive_gate_open(scene.t.engine);
    test_wait_for(&scene.done, 2);
    cr_expect(reply_has(&read, "two"));
    test_step_release(&write);
    test_step_release(&read);
    test_step_release(&other);
    test_engine_close(&scene.t);
}

Test(engine_archive_gate, who_waits_too_long_is_told_why) {
    struct scene scene;
    struct test_step write, after, cancelled, patient;
    open_scene(&scene, 1);
    uint64_t last = dbos_log_last_position(scene.t.engine->log);
    dbos_archive_gate_close(scene.gate);
    test_step_prepare(&scene.t, &write, "INSERT INTO t VALUES (2)", &scene.done);
    test_step_prepare(&scene.t, &after, "SELECT k FROM t", &scene.done);
    write.request.timeout_us = 100000;
    dbos_engine_submit(scene.t.engine, &write.request);
    dbos_engine_submit_after(scene.t.engine, &after.request, &write.request);
    submit(&scene, &cancelled, "INSERT INTO t VALUES (3)");
    submit(&scene, &patient, "INSERT INTO t VALUES (4)");
    dbos_archive_gate_look(scene.t.engine);
    cr_expect_not(is_done(&scene), "it was too early");
    atomic_store(&cancelled.request.cancel, 1);
    (void)usleep(100000);
    dbos_archive_gate_look(scene.t.engine);
    test_wait_for(&scene.done, 3);
    cr_expect_eq(write.request.outcome, DBOS_ERR_DISK_FULL);
    cr_expect_str_eq(write.request.error.sqlstate, "53100");
    cr_expect(reply_has(&write, "C53100") && reply_has(&write, "--archive-backlog-max"));
    cr_expect_eq(after.request.outcome, DBOS_OK, "%s", after.request.error.message);
    cr_expect_eq(cancelled.request.outcome, DBOS_ERR_CANCELED);
    cr_expect(reply_has(&cancelled, "C57014") && !reply_has(&cancelled, "timeout"));
    cr_expect_eq(atomic_load(&scene.gate->waiting), 1);
    cr_expect_eq(atomic_load(&scene.gate->refused), 2);
    dbos_archive_gate_open(scene.t.engine);
    test_wait_for(&scene.done, 1);
    cr_expect_eq(patient.request.outcome, DBOS_OK);
    cr_expect_eq(patient.request.position, dbos_log_last_position(scene.t.engine->log));
    cr_expect_leq(patient.request.position, last + 2, "what was refused left something");
    test_step_release(&write);
    test_step_release(&after);
    test_step_release(&cancelled);
    test_step_release(&patient);
    test_engine_close(&scene.t);
}

/* What is left of its time is what it may run. */
Test(engine_archive_gate, the_wait_counts_as_time_of_the_statement) {
    struct scene scene;
    struct test_step write;
    open_scene(&scene, 1);
    dbos_archive_gate_close(scene.gate);
    test_step_prepare(&scene.t, &write, "INSERT INTO t VALUES (2)", &scene.done);
    write.request.timeout_us = 10000000;
    dbos_engine_submit(scene.t.engine, &write.request);
    (void)usleep(50000);
    dbos_archive_gate_open(scene.t.engine);
    test_wait_for(&scene.done, 1);
    cr_expect_eq(write.request.outcome, DBOS_OK);
    cr_expect_leq(write.request.timeout_us, 9950000);
    cr_expect_gt(write.request.timeout_us, 1000000);
    test_step_release(&write);
    test_engine_close(&scene.t);
}

static void post(struct dbos_request *request) { (void)sem_post(request->on_done_arg); }

/* Goal: what a task has computed is not thrown away because the disk is slow.
 * Method: the end of a task that nobody knows, which waits ten times its time limit. */
Test(engine_archive_gate, a_result_of_a_task_waits_as_long_as_it_takes) {
    struct scene scene;
    open_scene(&scene, 1);
    struct dbos_task_outcome outcome = {
        .task_id = 999,
        .failed = true,
        .mark_only = true,
        .session = scene.t.session,
        .request = {.kind = DBOS_REQUEST_TASK,
                    .route = DBOS_ROUTE_ONE,
                    .timeout_us = 10000,
                    .session = &outcome.session,
                    .owner = &outcome,
                    .on_done = post,
                    .on_done_arg = &scene.done},
    };
    dbos_buf_init(&outcome.request.reply, dbos_engine_session_alloc(scene.t.engine));
    dbos_archive_gate_close(scene.gate);
    dbos_engine_submit(scene.t.engine, &outcome.request);
    (void)usleep(100000);
    dbos_archive_gate_look(scene.t.engine);
    cr_expect_not(is_done(&scene), "it was given up: %s", outcome.request.error.message);
    dbos_archive_gate_open(scene.t.engine);
    test_wait_for(&scene.done, 1);
    cr_expect_eq(outcome.request.outcome, DBOS_OK, "%s", outcome.request.error.message);
    cr_expect_eq(outcome.request.timeout_us, 10000, "it has all its time to run");
    cr_expect_eq(atomic_load(&scene.gate->refused), 0);
    dbos_buf_fini(&outcome.request.reply);
    test_engine_close(&scene.t);
}

/* An engine that stops runs what it has got. */
Test(engine_archive_gate, what_waits_at_the_end_is_run) {
    struct scene scene;
    struct test_step write;
    open_scene(&scene, 1);
    dbos_archive_gate_close(scene.gate);
    submit(&scene, &write, "INSERT INTO t VALUES (2)");
    cr_expect_not(is_done(&scene));
    dbos_engine_stop(scene.t.engine);
    test_wait_for(&scene.done, 1);
    cr_expect_eq(write.request.outcome, DBOS_OK);
    cr_expect_eq(dbos_engine_durable(scene.t.engine), write.request.position);
    dbos_archive_gate_close(scene.gate);
    cr_expect(dbos_archive_gate_is_open(scene.gate), "it is open for good");
    test_step_release(&write);
    test_engine_close(&scene.t);
}
