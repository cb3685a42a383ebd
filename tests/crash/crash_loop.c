/* Kill -9 under load, again and again: nothing acknowledged is lost, nothing happens twice.
 *
 * Each cycle starts a node on the same directory, checks what recovery brought back against what
 * clients were told, lets clients of many kinds work, and kills the whole process group at a random
 * moment. In every second cycle all bytes that were not synced are dropped, too (see
 * tests/support/lose_unsynced.c). At the end the tasks are waited for and the archive is asked.
 *
 *   crash_loop --bin DIR --modules DIR --cycles N --seed S [--lose SHIM --apply PROGRAM]
 *
 * A failure prints the command that repeats it. */
#include <errno.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "tests/support/crash_node.h"
#include "tools/demo/digits.h"

enum {
    WRITERS = 2,
    COUNTERS = 2,
    ACCOUNTS = 16,
    ACCOUNT_START = 1000,
    BATCHES = 4,
    BATCH_IMAGES = 20,
    TASKS_MAX = 100000,
    RUN_MS_MIN = 150,
    RUN_MS_MAX = 1500,
};

struct shared {
    struct crash_node node;
    int cycles;
    uint64_t seed;
    struct dbos_rng rng;
    struct dbos_env *env;
    _Atomic bool stop;
    /* What clients were told. */
    int64_t ledger[WRITERS];   /* rows acknowledged */
    int64_t counter[COUNTERS]; /* value acknowledged */
    int64_t reads;             /* acknowledged */
    int64_t versions;          /* replacements of the function acknowledged */
    int64_t transfers;
    uint32_t task_count;
    int64_t *tasks;
    int *task_batches;
    int64_t trainings;
};

static void fail(const struct shared *s, const char *format, ...) DBOS_PRINTF(2, 3);
static void fail(const struct shared *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "crash_loop: FAILED: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n  data: %s   repeat with: --cycles %d --seed %llu\n", s->node.dir,
                  s->cycles, (unsigned long long)s->seed);
    va_end(args);
    if (s->node.pid > 0) {
        node_kill(s->node.pid);
    }
    exit(1);
}

/* -- the node ------------------------------------------------------------------------------------
 */

static void start_node(struct shared *s, bool lose) {
    if (!crash_node_start(&s->node, lose)) {
        fail(s, "the node did not become ready; see %s", s->node.log);
    }
}

/* -- SQL -----------------------------------------------------------------------------------------
 */

static PGconn *connect_as(const struct shared *s, const char *user) {
    char info[128];
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=%s dbname=dbos", s->node.port,
                   user);
    return PQconnectdb(info);
}

/* NULL when the connection is gone; an error that the server says is a failure of the test. */
static PGresult *ask(struct shared *s, PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) {
        return result;
    }
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool gone = PQstatus(conn) != CONNECTION_OK || state == NULL || strncmp(state, "57P", 3) == 0;
    if (!gone) {
        fail(s, "%s: %s", sql, PQerrorMessage(conn));
    }
    PQclear(result);
    return NULL;
}

static int64_t value_of(struct shared *s, PGconn *conn, const char *format, ...) DBOS_PRINTF(3, 4);
static int64_t value_of(struct shared *s, PGconn *conn, const char *format, ...) {
    char sql[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(sql, sizeof sql, format, args);
    va_end(args);
    PGresult *result = ask(s, conn, sql);
    if (result == NULL) {
        fail(s, "%s: the node is gone: %s", sql, PQerrorMessage(conn));
    }
    int64_t value = PQntuples(result) == 0 || PQgetisnull(result, 0, 0)
                        ? -1
                        : strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

static void must(struct shared *s, PGconn *conn, const char *sql) {
    PGresult *result = ask(s, conn, sql);
    if (result == NULL) {
        fail(s, "%s: the node is gone", sql);
    }
    PQclear(result);
}

/* -- clients -------------------------------------------------------------------------------------
 */

struct client {
    struct shared *s;
    int number;
    pthread_t thread;
};

static void *write_ledger(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "writer");
    char sql[128];
    while (!atomic_load(&c->s->stop)) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO ledger VALUES (%lld, %d)",
                       (long long)(c->number * 1000000000LL + c->s->ledger[c->number]), c->number);
        PGresult *result = ask(c->s, conn, sql);
        if (result == NULL) {
            break;
        }
        c->s->ledger[c->number]++;
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

static void *bump_counter(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "counter");
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT bump(%d)", c->number);
    while (!atomic_load(&c->s->stop)) {
        PGresult *result = ask(c->s, conn, sql);
        if (result == NULL) {
            break;
        }
        c->s->counter[c->number] = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

static void *read_counters(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "reader");
    while (!atomic_load(&c->s->stop)) {
        PGresult *result = ask(c->s, conn, "SELECT n FROM counters WHERE id = 0");
        if (result == NULL) {
            break;
        }
        c->s->reads++;
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

static void *move_money(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "banker");
    struct dbos_rng rng;
    char sql[128];
    dbos_rng_init(&rng, c->s->seed + (uint64_t)c->s->transfers);
    while (!atomic_load(&c->s->stop)) {
        (void)snprintf(sql, sizeof sql, "CALL move(%d, %d, %d)",
                       (int)dbos_rng_below(&rng, ACCOUNTS), (int)dbos_rng_below(&rng, ACCOUNTS),
                       (int)dbos_rng_below(&rng, 10));
        PGresult *result = ask(c->s, conn, sql);
        if (result == NULL) {
            break;
        }
        c->s->transfers++;
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

static void *replace_function(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "developer");
    while (!atomic_load(&c->s->stop)) {
        PGresult *result = ask(c->s, conn,
                               "CREATE OR REPLACE FUNCTION classify(batch int) RETURNS bigint "
                               "LANGUAGE c AS 'mnist.so', 'classify'");
        if (result == NULL) {
            break;
        }
        c->s->versions++;
        PQclear(result);
        c->s->env->ops->sleep_us(c->s->env, 20000);
    }
    PQfinish(conn);
    return NULL;
}

static void *submit_tasks(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "app");
    char sql[128];
    for (int i = 0; !atomic_load(&c->s->stop) && c->s->task_count < TASKS_MAX; i++) {
        int batch = i % BATCHES;
        (void)snprintf(sql, sizeof sql, "SELECT classify(%d)", batch);
        PGresult *result = ask(c->s, conn, sql);
        if (result == NULL) {
            break;
        }
        c->s->tasks[c->s->task_count] = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        c->s->task_batches[c->s->task_count++] = batch;
        PQclear(result);
        c->s->env->ops->sleep_us(c->s->env, 5000);
    }
    PQfinish(conn);
    return NULL;
}

static void *train_again(void *arg) {
    struct client *c = arg;
    PGconn *conn = connect_as(c->s, "trainer");
    char sql[128];
    while (!atomic_load(&c->s->stop)) {
        PGresult *result = ask(c->s, conn, "SELECT train_open(1)");
        if (result == NULL) {
            break;
        }
        (void)snprintf(sql, sizeof sql, "SELECT train_add(0, %s, 0)", PQgetvalue(result, 0, 0));
        PQclear(result);
        result = ask(c->s, conn, sql);
        if (result == NULL) {
            break;
        }
        c->s->trainings++;
        PQclear(result);
        c->s->env->ops->sleep_us(c->s->env, 200000);
    }
    PQfinish(conn);
    return NULL;
}

static void work_and_kill(struct shared *s) {
    static void *(*const kinds[])(void *) = {write_ledger,     write_ledger,  bump_counter,
                                             bump_counter,     read_counters, move_money,
                                             replace_function, submit_tasks,  train_again};
    static const int numbers[] = {0, 1, 0, 1, 0, 0, 0, 0, 0};
    enum { CLIENTS = sizeof kinds / sizeof kinds[0] };
    struct client clients[CLIENTS];
    atomic_store(&s->stop, false);
    for (int i = 0; i < CLIENTS; i++) {
        clients[i] = (struct client){.s = s, .number = numbers[i]};
        if (pthread_create(&clients[i].thread, NULL, kinds[i], &clients[i]) != 0) {
            fail(s, "no thread");
        }
    }
    uint64_t ms = RUN_MS_MIN + dbos_rng_below(&s->rng, RUN_MS_MAX - RUN_MS_MIN);
    s->env->ops->sleep_us(s->env, ms * 1000 + dbos_rng_below(&s->rng, 1000));
    if (!crash_node_kill(&s->node)) {
        fail(s, "cannot drop what was not synced");
    }
    atomic_store(&s->stop, true);
    for (int i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
    }
}

/* -- set-up --------------------------------------------------------------------------------------
 */

static void make_schema(struct shared *s, PGconn *conn, const char *source) {
    char command[1024];
    (void)snprintf(command, sizeof command,
                   "psql -q -X -v ON_ERROR_STOP=1 -h 127.0.0.1 -p %d -U setup -d dbos -f "
                   "%s/procs/examples/mnist.sql",
                   s->node.port, source);
    if (system(command) != 0) {
        fail(s, "cannot make the schema");
    }
    must(s, conn, "CREATE TABLE ledger (id bigint PRIMARY KEY, client int) PARTITION BY HASH (id)");
    must(s, conn,
         "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL) "
         "PARTITION BY HASH (id)");
    must(s, conn,
         "CREATE TABLE accounts (id int PRIMARY KEY, n bigint NOT NULL) "
         "PARTITION BY HASH (id)");
    must(s, conn,
         "CREATE FUNCTION bump(id int) RETURNS bigint LANGUAGE sql AS "
         "'UPDATE counters SET n = n + 1 WHERE id = $1; "
         "SELECT n FROM counters WHERE id = $1' SET dbos.partition = 'counters.id=$1'");
    must(s, conn,
         "CREATE PROCEDURE move(a int, b int, amount int) LANGUAGE sql AS "
         "'UPDATE accounts SET n = n - $3 WHERE id = $1; "
         "UPDATE accounts SET n = n + $3 WHERE id = $2'");
    char sql[128];
    for (int i = 0; i < COUNTERS; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO counters VALUES (%d, 0)", i);
        must(s, conn, sql);
    }
    for (int i = 0; i < ACCOUNTS; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO accounts VALUES (%d, %d)", i, ACCOUNT_START);
        must(s, conn, sql);
    }
}

static void load_images(struct shared *s, PGconn *conn) {
    struct dbos_alloc alloc;
    struct dbos_digits digits;
    struct dbos_errinfo info;
    dbos_alloc_init(&alloc, "digits", 0);
    if (dbos_digits_draw(&alloc, BATCHES * BATCH_IMAGES, 0, 1, &digits, &info) != DBOS_OK) {
        fail(s, "%s", info.message);
    }
    for (int i = 0; i < BATCHES * BATCH_IMAGES; i++) {
        char sql[128 + 2 * DBOS_DIGIT_PIXELS];
        size_t used =
            (size_t)snprintf(sql, sizeof sql, "INSERT INTO images VALUES (%d, %d, %d, '\\x",
                             i / BATCH_IMAGES, i, digits.labels[i]);
        for (int p = 0; p < DBOS_DIGIT_PIXELS; p++) {
            used += (size_t)snprintf(sql + used, sizeof sql - used, "%02x",
                                     digits.pixels[(size_t)i * DBOS_DIGIT_PIXELS + (size_t)p]);
        }
        (void)snprintf(sql + used, sizeof sql - used, "')");
        must(s, conn, sql);
    }
    dbos_digits_close(&digits);
}

static void await_model(struct shared *s, PGconn *conn) {
    (void)value_of(s, conn, "SELECT train_add(0, (%lld), 0)",
                   (long long)value_of(s, conn, "SELECT train_open(1)"));
    for (int i = 0; i < 600; i++) {
        if (value_of(s, conn, "SELECT count(*) FROM dbos.model") > 0) {
            return;
        }
        s->env->ops->sleep_us(s->env, 100000);
    }
    fail(s, "no model after 60 s");
}

/* -- checks --------------------------------------------------------------------------------------
 */

static void between(struct shared *s, const char *what, int64_t value, int64_t low, int64_t high) {
    if (value < low || value > high) {
        fail(s, "%s is %lld, not within %lld..%lld", what, (long long)value, (long long)low,
             (long long)high);
    }
}

/* An acknowledged effect is there; the one call that was under way may be there. */
static void check_recovered(struct shared *s, PGconn *conn) {
    for (int i = 0; i < WRITERS; i++) {
        int64_t rows = value_of(s, conn, "SELECT count(*) FROM ledger WHERE client = %d", i);
        between(s, "ledger rows of a writer", rows, s->ledger[i], s->ledger[i] + 1);
        s->ledger[i] = rows;
    }
    for (int i = 0; i < COUNTERS; i++) {
        int64_t n = value_of(s, conn, "SELECT n FROM counters WHERE id = %d", i);
        between(s, "a counter", n, s->counter[i], s->counter[i] + 1);
        s->counter[i] = n;
    }
    between(s, "the sum of the accounts", value_of(s, conn, "SELECT sum(n) FROM accounts"),
            ACCOUNTS * ACCOUNT_START, ACCOUNTS * ACCOUNT_START);
    int64_t version =
        value_of(s, conn, "SELECT version FROM dbos.catalog WHERE kind = 2 AND name = 'classify'");
    between(s, "the function's version", version, s->versions + 1, s->versions + 2);
    s->versions = version - 1;
}

/* A snapshot was taken, and the beginning of the log cut off behind it: else nothing of that was
 * tried. The archiver may take its time. */
static void check_snapshots(struct shared *s, PGconn *conn) {
    char path[400];
    (void)snprintf(path, sizeof path, "%s/log/00000001.seg", s->node.data);
    for (int i = 0; i < 60; i++) {
        (void)value_of(s, conn, "SELECT dbos_snapshot()");
        if (access(path, F_OK) != 0) {
            return;
        }
        s->env->ops->sleep_us(s->env, 500000);
    }
    fail(s, "the log was never cut off behind a snapshot");
}

static void await_tasks(struct shared *s, PGconn *conn) {
    for (int i = 0; i < 1200; i++) {
        if (value_of(s, conn, "SELECT count(*) FROM dbos.task WHERE state = 1 AND kind = 2") == 0) {
            return;
        }
        s->env->ops->sleep_us(s->env, 100000);
    }
    fail(s, "tasks are still open after 120 s");
}

static void check_tasks(struct shared *s, PGconn *conn) {
    await_tasks(s, conn);
    for (uint32_t i = 0; i < s->task_count; i++) {
        int64_t rows = value_of(
            s, conn, "SELECT count(*) FROM runs WHERE batch = %d AND task = %lld AND error IS NULL",
            s->task_batches[i], (long long)s->tasks[i]);
        between(s, "effects of a task", rows, 1, 1);
    }
    int64_t done = value_of(s, conn, "SELECT count(*) FROM dbos.task WHERE kind = 2 AND state = 2");
    between(s, "runs", value_of(s, conn, "SELECT count(*) FROM runs"), done, done);
    between(s, "finished tasks", done, s->task_count, s->task_count + (uint32_t)s->cycles);
}

/* The archiver has had little time in each life: it has to catch up first. */
static void let_take_time(struct shared *s, PGconn *conn) {
    char sql[64];
    (void)snprintf(sql, sizeof sql, "SET statement_timeout = '%ds'", 120 + 4 * s->cycles);
    must(s, conn, sql);
}

static void check_archive(struct shared *s, PGconn *conn) {
    int64_t rows = 0;
    for (int i = 0; i < WRITERS; i++) {
        rows += s->ledger[i];
    }
    between(s, "insertions into the ledger in the archive",
            value_of(s, conn, "SELECT count(*) FROM prov_history('ledger')"), rows, rows);
    int64_t all = value_of(s, conn, "SELECT count(*) FROM prov.txn");
    between(s, "distinct positions in the archive",
            value_of(s, conn, "SELECT count(DISTINCT position) FROM prov.txn"), all, all);
    /* The question before left no gap either: positions are dense. */
    int64_t first = value_of(s, conn, "SELECT min(position) FROM prov.txn");
    int64_t last = value_of(s, conn, "SELECT max(position) FROM prov.txn");
    int64_t count =
        value_of(s, conn, "SELECT count(*) FROM prov.txn WHERE position <= %lld", (long long)last);
    between(s, "positions in the archive", count, last - first + 1, last - first + 1);
    between(s, "the first position in the archive", first, 1, 1);
    between(s, "reads of the reader in the archive",
            value_of(s, conn, "SELECT sum(n) FROM prov_user_blocks('reader') WHERE op = 'read'"),
            s->reads, s->reads + s->cycles);
    for (int i = 0; i < COUNTERS; i++) {
        between(s, "updates of a counter in the archive",
                value_of(s, conn,
                         "SELECT count(*) FROM prov_history('counters', '%d') WHERE op = 'update'",
                         i),
                s->counter[i], s->counter[i]);
    }
}

/* -- main ----------------------------------------------------------------------------------------
 */

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return otherwise;
}

static void open_shared(struct shared *s, int argc, char **argv) {
    s->env = dbos_env_posix();
    s->node.bin = option(argc, argv, "--bin", DBOS_BIN_DIR);
    s->node.shim = option(argc, argv, "--lose", NULL);
    s->node.apply = option(argc, argv, "--apply", NULL);
    s->node.ignores_sync = getenv("CRASH_IGNORE_SYNC") != NULL;
    s->cycles = atoi(option(argc, argv, "--cycles", "10"));
    s->seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10);
    dbos_rng_init(&s->rng, s->seed);
    if (!crash_node_init(&s->node)) {
        fail(s, "no temporary directory");
    }
    s->tasks = calloc(TASKS_MAX, sizeof *s->tasks);
    s->task_batches = calloc(TASKS_MAX, sizeof *s->task_batches);
}

static void set_up(struct shared *s) {
    start_node(s, false);
    PGconn *conn = connect_as(s, "setup");
    make_schema(s, conn, DBOS_SOURCE_DIR);
    load_images(s, conn);
    await_model(s, conn);
    PQfinish(conn);
    int status = crash_node_stop(&s->node);
    if (status != 0) {
        fail(s, "the node did not stop cleanly: status %d", status);
    }
}

int main(int argc, char **argv) {
    struct shared s = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    open_shared(&s, argc, argv);
    set_up(&s);
    for (int cycle = 0; cycle < s.cycles; cycle++) {
        bool lose = s.node.shim != NULL && cycle % 2 == 1;
        start_node(&s, lose);
        PGconn *conn = connect_as(&s, "checker");
        check_recovered(&s, conn);
        PQfinish(conn);
        work_and_kill(&s);
        (void)printf(
            "cycle %d of %d%s: ledger %lld+%lld, counters %lld+%lld, reads %lld, tasks %u, "
            "versions %lld, trainings %lld\n",
            cycle + 1, s.cycles, lose ? " (unsynced bytes dropped)" : "", (long long)s.ledger[0],
            (long long)s.ledger[1], (long long)s.counter[0], (long long)s.counter[1],
            (long long)s.reads, s.task_count, (long long)s.versions, (long long)s.trainings);
        (void)fflush(stdout);
    }
    start_node(&s, false);
    PGconn *conn = connect_as(&s, "checker");
    let_take_time(&s, conn);
    check_recovered(&s, conn);
    check_tasks(&s, conn);
    check_archive(&s, conn);
    check_snapshots(&s, conn);
    check_archive(&s, conn); /* it needs nothing of what was cut off */
    PQfinish(conn);
    (void)crash_node_stop(&s.node);
    start_node(&s, false);
    conn = connect_as(&s, "checker");
    let_take_time(&s, conn);
    check_recovered(&s, conn);
    check_archive(&s, conn);
    PQfinish(conn);
    (void)crash_node_stop(&s.node);
    (void)printf("%d kills: nothing acknowledged was lost, nothing happened twice\n", s.cycles);
    crash_node_remove(&s.node);
    return 0;
}
