/* Goal: requests that are put behind each other run in that order, whatever partition each runs on,
 * and whether the one before is still waiting, is running, or has ended. Method: a real engine, a
 * chain of inserts with random keys that is submitted at an uneven pace; the positions in the log
 * say in which order they ran. */
#include <criterion/criterion.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_internal.h"

TestSuite(engine_order, .timeout = 60);

enum { PARTITIONS = 3, CHAIN = 400, ROUNDS = 10 };

struct step {
    struct dbos_request request;
    struct dbos_request_statement statement;
    struct dbos_script *script;
    sem_t *done;
};

static void on_done(struct dbos_request *request) {
    (void)sem_post(((struct step *)request->owner)->done);
}

static void prepare(struct dbos_engine *engine, struct step *step, const char *sql,
                    const struct dbos_session_info *session, sem_t *done) {
    struct dbos_errinfo info = {0};
    struct dbos_alloc *alloc = dbos_engine_session_alloc(engine);
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(engine);
    memset(step, 0, sizeof *step);
    step->done = done;
    cr_assert_eq(dbos_script_parse(alloc, sql, &step->script, &info), DBOS_OK, "%s", info.message);
    cr_assert_eq(dbos_plan_make(alloc, catalog, dbos_engine_procs(engine), step->script, 0, NULL, 0,
                                &step->statement.plan, &info),
                 DBOS_OK, "%s", info.message);
    dbos_catalog_unref(catalog);
    step->request.kind = DBOS_REQUEST_STATEMENTS;
    step->request.session = session;
    step->request.statement_count = 1;
    step->request.statements = &step->statement;
    step->request.on_done = on_done;
    step->request.owner = step;
    dbos_buf_init(&step->request.reply, alloc);
    cr_assert_eq(dbos_engine_route(engine, &step->request, &info), DBOS_OK, "%s", info.message);
}

static void release(struct step *step) {
    dbos_buf_fini(&step->request.reply);
    dbos_plan_unref(step->statement.plan);
    dbos_script_close(step->script);
}

static void wait_for(sem_t *done, int count) {
    for (int i = 0; i < count; i++) {
        while (sem_wait(done) != 0) {
        }
    }
}

static void run_chain(struct dbos_engine *engine, struct dbos_rng *rng, int round) {
    static struct step steps[CHAIN];
    struct dbos_session_info session = {.id = dbos_engine_take_session_id(engine),
                                        .user = "u",
                                        .role = "u",
                                        .address = "in process",
                                        .application = "order"};
    uint32_t used = 0;
    char sql[64];
    sem_t done;
    (void)sem_init(&done, 0, 0);
    for (int i = 0; i < CHAIN; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", round * CHAIN + i);
        prepare(engine, &steps[i], sql, &session, &done);
        used |= 1u << steps[i].request.partition;
    }
    cr_assert_eq(used, (1u << PARTITIONS) - 1, "every partition has some");
    dbos_engine_submit(engine, &steps[0].request);
    for (int i = 1; i < CHAIN; i++) {
        if (dbos_rng_below(rng, 20) == 0) {
            (void)usleep((useconds_t)dbos_rng_below(rng, 300));
        }
        dbos_engine_submit_after(engine, &steps[i].request, &steps[i - 1].request);
    }
    wait_for(&done, CHAIN);
    for (int i = 0; i < CHAIN; i++) {
        cr_assert_eq(steps[i].request.outcome, DBOS_OK, "%s", steps[i].request.error.message);
        cr_assert(i == 0 || steps[i].request.position > steps[i - 1].request.position,
                  "round %d: request %d ran before the one before it", round, i);
        release(&steps[i]);
    }
}

Test(engine_order, a_request_behind_another_runs_behind_it_on_any_partition) {
    char dir[] = "/tmp/dbos-engine-XXXXXX";
    char command[64];
    struct dbos_alloc alloc;
    struct dbos_engine *engine = NULL;
    struct dbos_errinfo info = {0};
    struct dbos_rng rng;
    struct step table;
    sem_t done;
    struct dbos_session_info session = {
        .id = 1, .user = "u", .role = "u", .address = "", .application = ""};
    cr_assert_not_null(mkdtemp(dir));
    dbos_alloc_init(&alloc, "engine", 0);
    dbos_rng_init(&rng, 7);
    (void)sem_init(&done, 0, 0);
    struct dbos_engine_options options = {.env = dbos_env_posix(),
                                          .data_dir = dir,
                                          .partitions = PARTITIONS,
                                          .durability = DBOS_DURABILITY_SYNC,
                                          .program_dir = ""};
    cr_assert_eq(dbos_engine_open(&alloc, &options, &engine, &info), DBOS_OK, "%s", info.message);
    cr_assert_eq(dbos_engine_start(engine, NULL, NULL, &info), DBOS_OK, "%s", info.message);
    prepare(engine, &table, "CREATE TABLE t (k int PRIMARY KEY) PARTITION BY HASH (k)", &session,
            &done);
    dbos_engine_submit(engine, &table.request);
    wait_for(&done, 1);
    cr_assert_eq(table.request.outcome, DBOS_OK);
    release(&table);
    for (int round = 0; round < ROUNDS; round++) {
        run_chain(engine, &rng, round);
    }
    dbos_engine_stop(engine);
    dbos_engine_close(engine);
    dbos_alloc_fini(&alloc);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    cr_assert_eq(system(command), 0);
}
