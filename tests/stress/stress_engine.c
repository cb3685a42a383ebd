/* Partitions, barrier, log and archive service of a real engine, under ThreadSanitizer: several
 * client threads call single-partition and multi-partition statements and look at the system views
 * at the same time, and DDL comes in between, while the archive's gate closes and opens. Money
 * moves, none appears. */
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine_internal.h"
#include "engine/submitter.h"

enum { CLIENTS = 4, CALLS = 400, ACCOUNTS = 64, START = 100, PARTITIONS = 3 };

static void fail(const char *what, const struct dbos_errinfo *info) {
    (void)fprintf(stderr, "stress_engine: %s: %s\n", what, info == NULL ? "" : info->message);
    exit(1);
}

struct client {
    struct dbos_engine *engine;
    struct dbos_submitter submitter;
    struct dbos_session_info session;
    uint64_t requests;
    struct dbos_rng rng;
    pthread_t thread;
    sem_t done;
};

static void on_done(struct dbos_request *request) {
    struct client *client = request->owner;
    (void)sem_post(&client->done);
}

static void wait_durable(struct client *client, uint64_t position) {
    while (dbos_engine_durable(client->engine) < position) {
        (void)usleep(50);
    }
}

/* Half of them may run in this thread, some of those with their commit. */
static void submit(struct client *client, struct dbos_request *request, struct dbos_plan *plan) {
    if (client->requests % 2 == 0) {
        dbos_engine_submit(client->engine, request);
        return;
    }
    bool is_alone = client->requests % 4 == 1;
    for (int i = 0; i < 20; i++) { /* it would take that many runs to seem quick */
        dbos_plan_note_time(plan, 1);
    }
    dbos_submitter_works(&client->submitter);
    dbos_submitter_submit(&client->submitter, request);
    (void)dbos_submitter_settle(&client->submitter, is_alone);
    dbos_submitter_rests(&client->submitter);
}

/* One statement as one request; the reply's bytes go to `reply`, when that is wanted. */
static enum dbos_err run(struct client *client, const char *sql, struct dbos_errinfo *info) {
    struct dbos_alloc *alloc = dbos_engine_session_alloc(client->engine);
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(client->engine);
    struct dbos_script *script = NULL;
    struct dbos_request_statement statement = {0};
    enum dbos_err err = dbos_script_parse(alloc, sql, &script, info);
    if (err == DBOS_OK) {
        err = dbos_plan_make(alloc, catalog, dbos_engine_procs(client->engine), script, 0, NULL, 0,
                             &statement.plan, info);
    }
    dbos_catalog_unref(catalog);
    struct dbos_request request = {
        .kind = DBOS_REQUEST_STATEMENTS,
        .session = &client->session,
        .number = ++client->requests,
        .statement_count = 1,
        .statements = &statement,
        .on_done = on_done,
        .owner = client,
    };
    dbos_buf_init(&request.reply, alloc);
    if (err == DBOS_OK) {
        err = dbos_engine_route(client->engine, &request, info);
    }
    if (err == DBOS_OK) {
        submit(client, &request, statement.plan);
        while (sem_wait(&client->done) != 0) {
        }
        wait_durable(client, request.gate_position);
        err = request.outcome;
        *info = request.error;
    }
    dbos_buf_fini(&request.reply);
    dbos_plan_unref(statement.plan);
    if (script != NULL) {
        dbos_script_close(script);
    }
    return err;
}

static void must(struct client *client, const char *sql) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = run(client, sql, &info);
    while (err == DBOS_ERR_STALE_PLAN) { /* DDL came between planning and running */
        err = run(client, sql, &info);
    }
    if (err != DBOS_OK) {
        fail(sql, &info);
    }
}

static void one_call(struct client *client, int i) {
    static const char *const views[] = {"archive",    "histogram", "latency",    "log",   "memory",
                                        "partitions", "sessions",  "statements", "tables"};
    char sql[256];
    int a = (int)dbos_rng_below(&client->rng, ACCOUNTS);
    int b = (int)dbos_rng_below(&client->rng, ACCOUNTS);
    switch (dbos_rng_below(&client->rng, 8)) {
    case 0: /* all partitions */
        (void)snprintf(sql, sizeof sql,
                       "UPDATE account SET n = n + CASE id WHEN %d THEN 1 WHEN %d THEN -1 ELSE 0 "
                       "END WHERE id = %d OR id = %d",
                       a, b, a, b);
        if (a == b) {
            return;
        }
        break;
    case 1:
        (void)snprintf(sql, sizeof sql, "SELECT sum(n) FROM account");
        break;
    case 2:
        (void)snprintf(sql, sizeof sql, "CREATE TABLE t%d_%d (id int PRIMARY KEY)",
                       (int)(client->session.id % 100000), i);
        break;
    case 3:
        (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM dbos.%s", views[i % 9]);
        break;
    default: /* one partition */
        (void)snprintf(sql, sizeof sql, "UPDATE account SET calls = calls + 1 WHERE id = %d", a);
        break;
    }
    must(client, sql);
}

static void *client_main(void *arg) {
    struct client *client = arg;
    for (int i = 0; i < CALLS; i++) {
        one_call(client, i);
    }
    return NULL;
}

static void open_client(struct client *client, struct dbos_engine *engine, uint64_t seed) {
    memset(client, 0, sizeof *client);
    client->engine = engine;
    client->submitter.engine = engine;
    client->session = (struct dbos_session_info){
        .id = dbos_engine_take_session_id(engine),
        .user = "stress",
        .role = "stress",
        .address = "in process",
        .application = "stress_engine",
    };
    dbos_rng_init(&client->rng, seed);
    (void)sem_init(&client->done, 0, 0);
}

/* As the archive's thread, were there an archive that is behind now and then. */
struct gatekeeper {
    struct dbos_engine *engine;
    atomic_bool stop;
    pthread_t thread;
};

static void *gatekeeper_main(void *arg) {
    struct gatekeeper *keeper = arg;
    while (!atomic_load(&keeper->stop)) {
        dbos_archive_gate_close(&keeper->engine->archive_gate);
        (void)usleep(300);
        dbos_archive_gate_look(keeper->engine);
        dbos_archive_gate_open(keeper->engine);
        (void)usleep(300);
    }
    return NULL;
}

static void stop_keeping(struct gatekeeper *keeper) {
    atomic_store(&keeper->stop, true);
    (void)pthread_join(keeper->thread, NULL);
    if (atomic_load(&keeper->engine->archive_gate.waits) == 0) {
        fail("nobody waited at the gate", NULL);
    }
}

static void drive(struct dbos_engine *engine) {
    struct gatekeeper keeper = {.engine = engine};
    struct client first;
    struct client clients[CLIENTS];
    char sql[128];
    open_client(&first, engine, 0);
    must(&first, "CREATE TABLE account (id int PRIMARY KEY, n bigint NOT NULL, calls bigint NOT "
                 "NULL) PARTITION BY HASH (id)");
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO account VALUES (%d, %d, 0)", i, START);
        must(&first, sql);
    }
    if (pthread_create(&keeper.thread, NULL, gatekeeper_main, &keeper) != 0) {
        fail("no thread", NULL);
    }
    for (int i = 0; i < CLIENTS; i++) {
        open_client(&clients[i], engine, (uint64_t)i + 1);
        if (pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) != 0) {
            fail("no thread", NULL);
        }
    }
    for (int i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
    }
    stop_keeping(&keeper);
    /* 1 / 0 where the sum is wrong: the statement itself is the check. */
    (void)snprintf(sql, sizeof sql,
                   "SELECT 1 / CASE WHEN sum(n) = %d THEN 1 ELSE 0 END FROM account",
                   ACCOUNTS * START);
    must(&first, sql);
}

int main(void) {
    char dir[] = "/tmp/dbosd-stress-XXXXXX";
    char data[64];
    char command[96];
    struct dbos_alloc alloc;
    struct dbos_engine *engine = NULL;
    struct dbos_errinfo info = {0};
    if (mkdtemp(dir) == NULL) {
        fail("no directory", NULL);
    }
    (void)snprintf(data, sizeof data, "%s/data", dir);
    dbos_alloc_init(&alloc, "stress", 0);
    struct dbos_engine_options options = {
        .env = dbos_env_posix(),
        .data_dir = data,
        .partitions = PARTITIONS,
        .durability = DBOS_DURABILITY_SYNC,
        .provenance_reads = DBOS_READS_STRICT,
        .program_dir = ".",
        .segment_bytes = 1 << 20,
        .snapshot_log_bytes = 1, /* one after the other */
    };
    if (dbos_engine_open(&alloc, &options, &engine, &info) != DBOS_OK ||
        dbos_engine_start(engine, NULL, NULL, &info) != DBOS_OK) {
        fail("cannot start", &info);
    }
    drive(engine);
    dbos_engine_stop(engine);
    dbos_engine_close(engine);
    if (dbos_engine_open(&alloc, &options, &engine, &info) != DBOS_OK) {
        fail("cannot start again", &info);
    }
    dbos_engine_close(engine);
    dbos_alloc_fini(&alloc);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    (void)!system(command);
    (void)printf("stress_engine: ok\n");
    return 0;
}
