/* Goal: behind a slow disk memory does not grow without a bound, whatever clients send, and nothing
 * waits for ever. Method: a real engine on a disk whose syncs are slow; client threads that do not
 * wait for durability (as many sessions would together), now and then through the barrier; after
 * each commit, what is in flight is compared with the bound. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_back_pressure, .timeout = 120);

/* RECORD_BYTES: more than one transaction here holds, its large value included. */
enum { CLIENTS = 6, CALLS = 150, PARTITIONS = 3, BOUND = 256 * 1024, RECORD_BYTES = 32 * 1024 };

struct bench {
    struct dbos_engine *engine;
    _Atomic uint64_t peak; /* of the bytes in flight */
};

struct client {
    struct bench *bench;
    struct dbos_session_info session;
    uint64_t number;
    pthread_t thread;
    sem_t done;
};

/* In the partition, right after the record was appended: the highest that it gets. */
static void on_done(struct dbos_request *request) {
    struct client *client = request->owner;
    struct dbos_log_stats stats;
    dbos_log_stats(client->bench->engine->log, &stats);
    uint64_t peak = atomic_load(&client->bench->peak);
    while (stats.in_flight_bytes > peak &&
           !atomic_compare_exchange_weak(&client->bench->peak, &peak, stats.in_flight_bytes)) {
    }
    (void)sem_post(&client->done);
}

static enum dbos_err run_once(struct client *client, const char *sql, struct dbos_errinfo *info) {
    struct dbos_engine *engine = client->bench->engine;
    struct dbos_alloc *alloc = dbos_engine_session_alloc(engine);
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(engine);
    struct dbos_script *script = NULL;
    struct dbos_request_statement statement = {0};
    DBOS_CHECK(dbos_script_parse(alloc, sql, &script, info) == DBOS_OK);
    DBOS_CHECK(dbos_plan_make(alloc, catalog, dbos_engine_procs(engine), script, 0, NULL, 0,
                              &statement.plan, info) == DBOS_OK);
    dbos_catalog_unref(catalog);
    struct dbos_request request = {.kind = DBOS_REQUEST_STATEMENTS,
                                   .session = &client->session,
                                   .number = ++client->number,
                                   .statement_count = 1,
                                   .statements = &statement,
                                   .on_done = on_done,
                                   .owner = client};
    dbos_buf_init(&request.reply, alloc);
    DBOS_CHECK(dbos_engine_route(engine, &request, info) == DBOS_OK);
    dbos_engine_submit(engine, &request);
    while (sem_wait(&client->done) != 0) {
    }
    *info = request.error;
    dbos_buf_fini(&request.reply);
    dbos_plan_unref(statement.plan);
    dbos_script_close(script);
    return request.outcome;
}

static void run(struct client *client, const char *sql) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = run_once(client, sql, &info);
    cr_assert_eq(err, DBOS_OK, "%.60s: %s", sql, info.message);
}

static void open_client(struct client *client, struct bench *bench) {
    memset(client, 0, sizeof *client);
    client->bench = bench;
    client->session = (struct dbos_session_info){.id = dbos_engine_take_session_id(bench->engine),
                                                 .user = "u",
                                                 .role = "u",
                                                 .address = "in process",
                                                 .application = "back pressure"};
    (void)sem_init(&client->done, 0, 0);
}

static void *client_main(void *arg) {
    struct client *client = arg;
    char sql[8192];
    for (int i = 0; i < CALLS; i++) {
        int key = (int)(client->session.id % 1000) * 1000 + i;
        int bytes = i % 10 == 9 ? 6000 : 2000; /* the longer one is an object */
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, '%0*d')", key, bytes, key);
        run(client, i % 25 == 24 ? "UPDATE t SET k = k WHERE v = 'none of them'" : sql);
    }
    return NULL;
}

static void open_bench(struct bench *bench, struct dbos_alloc *alloc, struct env_fault *fault,
                       const char *dir, enum dbos_durability durability) {
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {.env = &fault->env,
                                          .data_dir = dir,
                                          .partitions = PARTITIONS,
                                          .durability = durability,
                                          .program_dir = "",
                                          .segment_bytes = 1 << 20,
                                          .log_in_flight_bytes_max = BOUND};
    atomic_init(&bench->peak, 0);
    cr_assert_eq(dbos_engine_open(alloc, &options, &bench->engine, &info), DBOS_OK, "%s",
                 info.message);
    cr_assert_eq(dbos_engine_start(bench->engine, NULL, NULL, &info), DBOS_OK, "%s", info.message);
}

/* What is in flight stays within the bound, but for what the partitions had begun. */
static void press(const char *dir, enum dbos_durability durability) {
    struct dbos_alloc alloc;
    struct env_fault fault;
    struct bench bench;
    struct client first;
    struct client clients[CLIENTS];
    struct dbos_log_stats stats;
    dbos_alloc_init(&alloc, "engine", 0);
    env_fault_init(&fault, 1);
    open_bench(&bench, &alloc, &fault, dir, durability);
    open_client(&first, &bench);
    run(&first, "CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY HASH (k)");
    atomic_store(&fault.sync_delay_us, 50000);
    for (int i = 0; i < CLIENTS; i++) {
        open_client(&clients[i], &bench);
        cr_assert_eq(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]), 0);
    }
    for (int i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
    }
    dbos_engine_stop(bench.engine);
    dbos_log_stats(bench.engine->log, &stats);
    cr_expect_eq(stats.in_flight_bytes, 0);
    cr_expect_gt(stats.room_waits, 0, "nobody had to wait");
    cr_expect_gt(atomic_load(&bench.peak), BOUND, "the bound was not reached");
    cr_expect_leq(atomic_load(&bench.peak), BOUND + PARTITIONS * RECORD_BYTES);
    dbos_engine_close(bench.engine);
    env_fault_fini(&fault);
    dbos_alloc_fini(&alloc);
}

Test(engine_back_pressure, requests_wait_in_their_partition_while_the_log_is_behind) {
    static const enum dbos_durability kinds[] = {DBOS_DURABILITY_SYNC, DBOS_DURABILITY_ASYNC};
    for (size_t i = 0; i < 2; i++) {
        char dir[] = "/tmp/dbos-engine-XXXXXX";
        char command[64];
        cr_assert_not_null(mkdtemp(dir));
        press(dir, kinds[i]);
        (void)snprintf(command, sizeof command, "rm -rf %s", dir);
        cr_assert_eq(system(command), 0);
    }
}

/* Behind a disk that stalls a client need not wait for longer than it wants to. */
Test(engine_back_pressure, who_waits_for_room_in_the_log_may_give_up) {
    enum { SMALL_BOUND = 4096, STALL_US = 5000000, TIMEOUT_US = 50000 };
    struct test_engine t;
    struct test_step step;
    struct dbos_log_stats stats = {0};
    sem_t done;
    char sql[64];
    (void)sem_init(&done, 0, 0);
    test_engine_open(
        &t, (struct dbos_engine_options){.partitions = 1, .log_in_flight_bytes_max = SMALL_BOUND});
    cr_assert_eq(test_engine_run(&t, "CREATE TABLE t (k int PRIMARY KEY) PARTITION BY HASH (k)"),
                 DBOS_OK);
    atomic_store(&t.fault.sync_delay_us, STALL_US);
    for (int i = 0; i < 1000 && stats.in_flight_bytes <= SMALL_BOUND; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", i);
        cr_assert_eq(test_engine_run(&t, sql), DBOS_OK);
        dbos_log_stats(t.engine->log, &stats);
    }
    uint64_t durable = dbos_engine_durable(t.engine);
    uint64_t last = dbos_log_last_position(t.engine->log);
    test_step_prepare(&t, &step, "INSERT INTO t VALUES (-1)", &done);
    step.request.timeout_us = TIMEOUT_US;
    dbos_engine_submit(t.engine, &step.request);
    test_wait_for(&done, 1);
    cr_expect_eq(step.request.outcome, DBOS_ERR_TIMEOUT, "%s", step.request.error.message);
    cr_expect_eq(dbos_engine_durable(t.engine), durable, "not before the disk went on");
    test_step_again(&step);
    step.request.timeout_us = 0;
    atomic_store(&step.request.cancel, 1);
    dbos_engine_submit(t.engine, &step.request);
    test_wait_for(&done, 1);
    cr_expect_eq(step.request.outcome, DBOS_ERR_CANCELED, "%s", step.request.error.message);
    cr_expect_eq(dbos_engine_durable(t.engine), durable, "not before the disk went on");
    cr_expect_eq(dbos_log_last_position(t.engine->log), last, "they left something");
    atomic_store(&t.fault.sync_delay_us, 0);
    test_step_release(&step);
    test_engine_close(&t);
}
