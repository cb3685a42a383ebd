/* Goal: the submitting thread runs what has been quick, and nothing else; what turns out to be long
 * is run by the partition as if it had never been tried; nobody's order changes. Method: a real
 * engine; which thread calls on_done says which one ran it, the log says what became of it. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "engine/submitter.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_submitter, .timeout = 60);

enum { QUICK_RUNS = 16 };

struct scene {
    struct test_engine t;
    struct dbos_submitter submitter;
    sem_t done;
    pthread_t ran_in;          /* thread of the last request */
    uint64_t durable_position; /* when it had been settled */
};

static struct scene *scene_of_test; /* one test is one process */

static void on_done(struct dbos_request *request) {
    struct test_step *step = request->owner;
    scene_of_test->ran_in = pthread_self();
    (void)sem_post(step->done);
}

static void open_scene(struct scene *scene, struct dbos_engine_options options) {
    scene_of_test = scene;
    test_engine_open(&scene->t, options);
    scene->submitter = (struct dbos_submitter){.engine = scene->t.engine};
    (void)sem_init(&scene->done, 0, 0);
    cr_assert_eq(test_engine_run(&scene->t, "CREATE TABLE t (k int PRIMARY KEY, n int NOT NULL)"
                                            " PARTITION BY HASH (k)"),
                 DBOS_OK);
}

static void make_step(struct scene *scene, struct test_step *step, const char *sql) {
    test_step_prepare(&scene->t, step, sql, &scene->done);
    step->request.on_done = on_done;
}

static void submit(struct scene *scene, struct test_step *step) {
    test_step_again(step);
    dbos_submitter_submit(&scene->submitter, &step->request);
}

/* As a turn of the net thread does. True: it ran here. */
static bool run(struct scene *scene, struct test_step *step, bool is_alone) {
    dbos_submitter_works(&scene->submitter);
    submit(scene, step);
    (void)dbos_submitter_settle(&scene->submitter, is_alone);
    scene->durable_position = dbos_engine_durable(scene->t.engine);
    dbos_submitter_rests(&scene->submitter);
    test_wait_for(&scene->done, 1);
    return pthread_equal(scene->ran_in, pthread_self()) != 0;
}

static void seem_quick(struct test_step *step) {
    while (!dbos_plan_is_quick(step->statement.plan)) {
        dbos_plan_note_time(step->statement.plan, 1);
    }
}

/* The partition's thread may still be on its way to sleep. */
static bool run_until_here(struct scene *scene, struct test_step *step) {
    bool here = false;
    for (int i = 0; i < 500 && !here; i++) {
        (void)usleep(1000);
        seem_quick(step);
        here = run(scene, step, false);
    }
    return here;
}

static const struct dbos_engine_options one_partition = {.partitions = 1};

Test(engine_submitter, runs_itself_what_has_been_quick_often_enough) {
    struct scene scene;
    struct test_step step;
    open_scene(&scene, one_partition);
    make_step(&scene, &step, "UPDATE t SET n = n + 1 WHERE k = 1");
    for (int i = 0; i < QUICK_RUNS; i++) {
        cr_expect_not(run(&scene, &step, false), "run %d", i);
        cr_expect_eq(step.request.outcome, DBOS_OK, "%s", step.request.error.message);
    }
    for (int i = 0; i < 1000 && !dbos_plan_is_quick(step.statement.plan); i++) {
        (void)run(&scene, &step, false); /* some took long: a busy machine */
    }
    cr_expect(dbos_plan_is_quick(step.statement.plan));
    cr_expect(run_until_here(&scene, &step));
    cr_expect_eq(step.request.outcome, DBOS_OK);
    test_step_release(&step);
    test_engine_close(&scene.t);
}

/* One in many is enough: on a busy machine a thread may be kept from its processor anywhere. The
 * sync is slow, so that the log thread can not have been that quick. */
Test(engine_submitter, a_lonely_commit_is_durable_when_settle_returns) {
    enum { ROUNDS = 500 };
    struct scene scene;
    struct test_step step;
    bool at_once = false;
    open_scene(&scene, one_partition);
    make_step(&scene, &step, "UPDATE t SET n = n + 1 WHERE k = 1");
    cr_assert_eq(test_engine_run(&scene.t, "INSERT INTO t VALUES (1, 0)"), DBOS_OK);
    atomic_store(&scene.t.fault.sync_delay_us, 2000);
    for (int i = 0; i < ROUNDS && !at_once; i++) {
        (void)usleep(2000);
        seem_quick(&step);
        bool here = run(&scene, &step, true);
        cr_assert_eq(step.request.outcome, DBOS_OK);
        cr_assert_neq(step.request.position, 0);
        at_once = here && scene.durable_position >= step.request.position;
        dbos_log_wait(scene.t.engine->log, step.request.position);
    }
    cr_expect(at_once);
    test_step_release(&step);
    test_engine_close(&scene.t);
}

Test(engine_submitter, what_takes_longer_than_a_moment_is_run_once_by_the_partition) {
    struct scene scene;
    struct test_step step;
    char sql[128];
    open_scene(&scene, one_partition);
    cr_assert_eq(test_engine_run(&scene.t, "CREATE TABLE s (p int, k int, n int NOT NULL, PRIMARY "
                                           "KEY (p, k)) PARTITION BY HASH (p)"),
                 DBOS_OK);
    for (int i = 0; i < 20000; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO s VALUES (1, %d, 0)", i);
        cr_assert_eq(test_engine_run(&scene.t, sql), DBOS_OK);
    }
    make_step(&scene, &step, "UPDATE s SET n = n + 1 WHERE p = 1");
    for (int i = 1; i <= 3; i++) {
        seem_quick(&step);
        (void)usleep(20000); /* the partition sleeps: it is tried here */
        uint64_t before = dbos_log_last_position(scene.t.engine->log);
        cr_expect_not(run(&scene, &step, false));
        cr_expect_eq(step.request.outcome, DBOS_OK, "%s", step.request.error.message);
        cr_expect_not(dbos_plan_is_quick(step.statement.plan), "it has held the submitter up");
        cr_expect_eq(dbos_log_last_position(scene.t.engine->log), before + 1, "one record");
    }
    test_step_release(&step);
    make_step(&scene, &step, "SELECT min(n), max(n) FROM s WHERE p = 1");
    cr_expect_not(run(&scene, &step, false));
    static const uint8_t expected[] = "D\0\0\0\x10\0\2\0\0\0\1"
                                      "3"
                                      "\0\0\0\1"
                                      "3";
    cr_expect_arr_eq(step.request.reply.data, expected, sizeof expected - 1, "each ran once");
    test_step_release(&step);
    test_engine_close(&scene.t);
}

Test(engine_submitter, runs_across_all_partitions_when_all_of_them_sleep) {
    struct scene scene;
    struct test_step step;
    char sql[64];
    open_scene(&scene, (struct dbos_engine_options){.partitions = 3});
    for (int i = 0; i < 10; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, 0)", i);
        cr_assert_eq(test_engine_run(&scene.t, sql), DBOS_OK);
    }
    make_step(&scene, &step, "UPDATE t SET n = n + 1");
    cr_assert_eq(step.request.route, DBOS_ROUTE_BARRIER);
    cr_expect(run_until_here(&scene, &step));
    cr_expect_eq(step.request.outcome, DBOS_OK, "%s", step.request.error.message);
    cr_expect_eq(dbos_log_barrier_position(scene.t.engine->log), step.request.position);
    test_step_release(&step);
    test_engine_close(&scene.t);
}

Test(engine_submitter, a_request_never_overtakes_one_that_waits_in_the_partition) {
    enum { ROUNDS = 300 };
    struct scene scene;
    struct test_step first;
    struct test_step second;
    int here = 0;
    open_scene(&scene, one_partition);
    cr_assert_eq(test_engine_run(&scene.t, "INSERT INTO t VALUES (1, 0)"), DBOS_OK);
    make_step(&scene, &first, "UPDATE t SET n = n + 1 WHERE k = 1");
    make_step(&scene, &second, "UPDATE t SET n = n * 2 WHERE k = 1 AND n < 1000000");
    for (int i = 0; i < ROUNDS; i++) {
        seem_quick(&second);
        dbos_submitter_works(&scene.submitter);
        test_step_again(&first);
        dbos_engine_submit(scene.t.engine, &first.request);
        submit(&scene, &second);
        (void)dbos_submitter_settle(&scene.submitter, false);
        dbos_submitter_rests(&scene.submitter);
        test_wait_for(&scene.done, 2);
        cr_assert_gt(second.request.position, first.request.position, "round %d", i);
        seem_quick(&second);
        here += run(&scene, &second, false);
        (void)usleep(i % 3 == 0 ? 100 : 0);
    }
    cr_expect(here > 0 || run_until_here(&scene, &second), "none was run here at all");
    test_step_release(&first);
    test_step_release(&second);
    test_engine_close(&scene.t);
}

/* The submitter serves all clients: it must not wait for a slow disk. */
Test(engine_submitter, does_not_wait_for_room_in_the_log) {
    struct scene scene;
    struct test_step step;
    char sql[128];
    open_scene(&scene,
               (struct dbos_engine_options){.partitions = 1, .log_in_flight_bytes_max = 4096});
    make_step(&scene, &step, "UPDATE t SET n = n + 1 WHERE k = 1");
    seem_quick(&step);
    atomic_store(&scene.t.fault.sync_delay_us, 1000000);
    for (int i = 0; i < 200; i++) {
        struct dbos_log_stats stats;
        dbos_log_stats(scene.t.engine->log, &stats);
        if (stats.in_flight_bytes > 4096) {
            break;
        }
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, 0)", i);
        cr_assert_eq(test_engine_run(&scene.t, sql), DBOS_OK);
    }
    uint64_t start_ns = scene.t.fault.base->ops->mono_ns(scene.t.fault.base);
    dbos_submitter_works(&scene.submitter);
    submit(&scene, &step);
    (void)dbos_submitter_settle(&scene.submitter, false);
    dbos_submitter_rests(&scene.submitter);
    uint64_t us = (scene.t.fault.base->ops->mono_ns(scene.t.fault.base) - start_ns) / 1000;
    cr_expect_lt(us, 500000, "it waited for the disk: %llu us", (unsigned long long)us);
    test_wait_for(&scene.done, 1);
    cr_expect_eq(step.request.outcome, DBOS_OK);
    cr_expect_not(pthread_equal(scene.ran_in, pthread_self()));
    atomic_store(&scene.t.fault.sync_delay_us, 0);
    test_step_release(&step);
    test_engine_close(&scene.t);
}

enum { ROW = 40, SLOW = 20 };

static struct {
    struct test_step *steps[ROW]; /* in the order of their ends */
    bool is_followed[ROW];
    int count;
} row_of_test;

static void note_row(struct dbos_request *request) {
    struct test_step *step = request->owner;
    row_of_test.is_followed[row_of_test.count] = request->is_followed;
    row_of_test.steps[row_of_test.count++] = step;
    (void)sem_post(step->done);
}

/* Goal: what is handed over together runs in its order; one that is not the last of a row of short
 * ones says so, a row is not long, and neither its last one nor one before a slow one does. */
Test(engine_submitter, of_a_row_of_short_requests_the_last_one_wakes) {
    static struct test_step steps[ROW];
    struct scene scene;
    open_scene(&scene, one_partition);
    for (int i = 0; i < ROW; i++) {
        make_step(&scene, &steps[i], "UPDATE t SET n = n + 1 WHERE k = 1");
        steps[i].request.on_done = note_row;
        if (i != SLOW) {
            seem_quick(&steps[i]);
        }
    }
    for (int i = 0; i < ROW; i++) { /* not at work: it runs nothing itself */
        dbos_submitter_queue(&scene.submitter, &steps[i].request);
    }
    dbos_submitter_flush(&scene.submitter);
    test_wait_for(&scene.done, ROW);
    int followed = 0;
    int in_a_row = 0;
    for (int i = 0; i < ROW; i++) {
        cr_expect_eq(row_of_test.steps[i], &steps[i], "order at %d", i);
        in_a_row = row_of_test.is_followed[i] ? in_a_row + 1 : 0;
        followed += row_of_test.is_followed[i];
        cr_expect_leq(in_a_row, 16, "at %d", i);
    }
    cr_expect_geq(followed, 10, "the first ones lay there together");
    cr_expect_not(row_of_test.is_followed[SLOW - 1]);
    cr_expect_not(row_of_test.is_followed[ROW - 1]);
    for (int i = 0; i < ROW; i++) {
        test_step_release(&steps[i]);
    }
    test_engine_close(&scene.t);
}
