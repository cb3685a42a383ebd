/* Transactions of many clients through the wire, with kills, checked for strict serialisability.
 *
 * Clients append to lists, update registers, move money and add to sets, in transactions of one
 * part of the data and of several, on a real node that is killed at random moments and started
 * again on the same directory. At the end the node is killed once more, everything is read, and the
 * history of what all clients were told is checked (checker.h).
 *
 *   history_test [--operations N] [--kills K] [--seed S] [--partitions N] [--durability sync|async]
 *                [--clients N] [--bin DIR] [--modules DIR]
 *                [--lose SHIM --apply PROGRAM [--ignore-sync yes]] [--must-find ANOMALY]
 *
 * With --lose (tests/support/lose_unsynced.c) every kill drops what was not synced, too; with
 * --ignore-sync nothing is ever synced, so that acknowledged transactions are lost, and --must-find
 * "lost write" is what has to come out. A failure
 * keeps the data directory, writes the history there as EDN, and prints how to repeat it; when a
 * kill hits depends on the clock as well. */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/history/checker.h"
#include "tests/history/client.h"
#include "tests/support/node.h"

struct shared {
    struct dbos_env *env;
    const char *bin, *modules, *partitions, *durability;
    const char *shim, *apply; /* NULL: plain kills */
    const char *must_find;    /* the name of an anomaly that there has to be; NULL: none may be */
    bool ignore_sync;
    uint64_t operations, seed;
    uint32_t kills, client_count;
    char dir[256], data[288], journal[288], log[288];
    pid_t node;
    struct dbos_rng rng;
    struct client_stage stage;
    struct client *clients;
    struct history history;
    double restart_s; /* all restarts together */
};

static void say_how_to_repeat(const struct shared *s) {
    (void)fprintf(
        stderr,
        "  data: %s\n  repeat with: history_test --operations %llu --kills %u --seed %llu "
        "--partitions %s --durability %s --clients %u%s%s%s%s\n",
        s->dir, (unsigned long long)s->operations, s->kills, (unsigned long long)s->seed,
        s->partitions, s->durability, s->client_count, s->shim == NULL ? "" : " --lose ",
        s->shim == NULL ? "" : s->shim, s->shim == NULL ? "" : " --apply ",
        s->shim == NULL ? "" : s->apply);
}

static void fail(const struct shared *s, const char *format, ...) DBOS_PRINTF(2, 3);
static void fail(const struct shared *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "history_test: FAILED: ");
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    say_how_to_repeat(s);
    if (s->node > 0) {
        node_kill(s->node);
    }
    exit(1);
}

static double seconds(const struct shared *s) { return (double)s->env->ops->mono_ns(s->env) / 1e9; }

/* -- the node ------------------------------------------------------------------------------------
 */

/* Reads relaxed, as by default: strict ones would hide a reader that is told too early. */
static int start_node(struct shared *s, bool lose) {
    const char *const arguments[] = {
        "--provenance-reads",  "relaxed", "--durability",         s->durability,
        "--log-segment-bytes", "4194304", "--snapshot-log-bytes", "67108864",
        "--no-worker",         NULL};
    const char *const environment[] = {"LD_PRELOAD",
                                       s->shim,
                                       "LOSE_UNSYNCED_ROOT",
                                       s->data,
                                       "LOSE_UNSYNCED_JOURNAL",
                                       s->journal,
                                       s->ignore_sync ? "LOSE_UNSYNCED_IGNORE_SYNC" : NULL,
                                       "1",
                                       NULL};
    struct node_options options = {.bin = s->bin,
                                   .data = s->data,
                                   .log = s->log,
                                   .partitions = s->partitions,
                                   .environment = lose ? environment : NULL,
                                   .arguments = arguments};
    int port = 0;
    s->node = node_start(&options, &port);
    if (s->node < 0) {
        fail(s, "the node did not become ready; see %s", s->log);
    }
    return port;
}

static void kill_node(struct shared *s) {
    client_stage_down(&s->stage);
    node_kill(s->node);
    s->node = 0;
    if (s->shim != NULL) {
        char command[1024];
        (void)snprintf(command, sizeof command,
                       "%s %s/*.journal >> %s/dropped.txt; rm -f %s/*.journal", s->apply,
                       s->journal, s->dir, s->journal);
        if (system(command) != 0) {
            fail(s, "cannot drop what was not synced");
        }
    }
}

static void restart_node(struct shared *s) {
    double start = seconds(s);
    kill_node(s);
    int port = start_node(s, s->shim != NULL);
    s->restart_s += seconds(s) - start;
    client_stage_up(&s->stage, port);
}

static void stop_node(struct shared *s) {
    int status = node_stop(s->node);
    s->node = 0;
    if (status != 0) {
        fail(s, "the node did not stop in order: status %d; see %s", status, s->log);
    }
}

static void must(struct shared *s, PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail(s, "%s: %s", sql, PQerrorMessage(conn));
    }
    PQclear(result);
}

/* By a node of its own, which stops in order: no kill takes the tables away. */
static void set_up(struct shared *s) {
    char sql[WORKLOAD_SQL_BYTES];
    (void)snprintf(sql, sizeof sql, "host=127.0.0.1 port=%d user=setup dbname=dbos",
                   start_node(s, false));
    PGconn *conn = PQconnectdb(sql);
    for (const char *const *statement = workload_schema(); *statement != NULL; statement++) {
        must(s, conn, *statement);
    }
    for (uint32_t i = 0; workload_fill(i, sql); i++) {
        must(s, conn, sql);
    }
    (void)snprintf(sql, sizeof sql,
                   "CREATE FUNCTION history_one(part bigint, program bytea) RETURNS bytea "
                   "LANGUAGE c AS '%s/history_ops.so', 'history_one'",
                   s->modules);
    must(s, conn, sql);
    (void)snprintf(sql, sizeof sql,
                   "CREATE FUNCTION history_all(program bytea) RETURNS bytea "
                   "LANGUAGE c AS '%s/history_ops.so', 'history_all'",
                   s->modules);
    must(s, conn, sql);
    PQfinish(conn);
    stop_node(s);
}

/* -- clients and kills ---------------------------------------------------------------------------
 */

/* Half of them with SQL, the others with programs, one or several under way at a time. */
static void start_clients(struct shared *s) {
    static const struct {
        enum client_kind kind;
        uint32_t depth;
    } kinds[] = {{CLIENT_PROGRAMS, 1}, {CLIENT_SQL, 1}, {CLIENT_PROGRAMS, 8},
                 {CLIENT_SQL, 1},      {CLIENT_SQL, 1}, {CLIENT_PROGRAMS, 24}};
    enum { KINDS = sizeof kinds / sizeof kinds[0] };
    s->clients = calloc(s->client_count + 1, sizeof *s->clients);
    DBOS_CHECK(s->clients != NULL);
    for (uint32_t i = 0; i < s->client_count; i++) {
        struct client *c = &s->clients[i];
        c->stage = &s->stage;
        c->number = i;
        c->kind = kinds[i % KINDS].kind;
        c->depth = kinds[i % KINDS].depth;
        history_init(&c->history);
        client_start(c, dbos_rng_next(&s->rng));
    }
}

static void await_begun(struct shared *s, uint64_t count) {
    while (atomic_load(&s->stage.begun) < count) {
        if (atomic_load(&s->stage.has_failed)) {
            fail(s, "%s", s->stage.failure);
        }
        s->env->ops->sleep_us(s->env, 500);
    }
}

/* One kill in each of as many slices of the work, at a random place in it. */
static void run_and_kill(struct shared *s) {
    for (uint32_t i = 0; i < s->kills; i++) {
        uint64_t slice = s->operations / s->kills;
        await_begun(s, slice * i + dbos_rng_below(&s->rng, slice));
        s->env->ops->sleep_us(s->env, dbos_rng_below(&s->rng, 5000));
        restart_node(s);
        (void)printf("kill %u of %u: at %llu operations, ready again after %.2f s on average\n",
                     i + 1, s->kills, (unsigned long long)atomic_load(&s->stage.begun),
                     s->restart_s / (i + 1));
    }
    await_begun(s, s->operations);
    for (uint32_t i = 0; i < s->client_count; i++) {
        client_join(&s->clients[i]);
    }
}

static void read_everything(struct shared *s) {
    struct client *c = &s->clients[s->client_count];
    *c = (struct client){
        .stage = &s->stage, .kind = CLIENT_READER, .number = s->client_count, .depth = 8};
    history_init(&c->history);
    client_start(c, 0);
    client_join(c);
    if (atomic_load(&s->stage.has_failed)) {
        fail(s, "%s", s->stage.failure);
    }
}

static void collect_history(struct shared *s) {
    history_init(&s->history);
    s->history.account_count = WORKLOAD_PARTS * WORKLOAD_ACCOUNTS;
    s->history.total = (int64_t)s->history.account_count * WORKLOAD_BALANCE;
    for (uint32_t i = 0; i <= s->client_count; i++) {
        history_add_all(&s->history, &s->clients[i].history);
        history_fini(&s->clients[i].history);
    }
}

/* -- the report ----------------------------------------------------------------------------------
 */

static void print_operations(const struct history *h) {
    uint64_t counts[HISTORY_KINDS][HISTORY_OUTCOMES] = {{0}};
    for (size_t i = 0; i < h->op_count; i++) {
        counts[h->ops[i].kind][h->ops[i].outcome]++;
    }
    (void)printf("%10s %10s %10s %10s\n", "", "ok", "failed", "unknown");
    for (enum history_kind kind = 0; kind < HISTORY_KINDS; kind++) {
        (void)printf("%10s %10llu %10llu %10llu\n", history_kind_name(kind),
                     (unsigned long long)counts[kind][HISTORY_OK],
                     (unsigned long long)counts[kind][HISTORY_FAILED],
                     (unsigned long long)counts[kind][HISTORY_UNKNOWN]);
    }
    (void)printf("%zu operations of %zu steps, %zu elements read\n", h->op_count, h->step_count,
                 h->element_count);
}

static void print_report(const struct checker_report *report, double check_s) {
    (void)printf("checked %llu transactions, %llu reads, %llu nodes; edges: ww %llu, wr %llu, rw "
                 "%llu, real time %llu, through virtual nodes %llu; in %.1f s\n",
                 (unsigned long long)report->transactions, (unsigned long long)report->reads,
                 (unsigned long long)report->nodes, (unsigned long long)report->edges[GRAPH_WW],
                 (unsigned long long)report->edges[GRAPH_WR],
                 (unsigned long long)report->edges[GRAPH_RW],
                 (unsigned long long)report->edges[GRAPH_REALTIME],
                 (unsigned long long)report->edges[GRAPH_VIA], check_s);
    for (enum checker_anomaly a = 0; a < CHECKER_ANOMALIES; a++) {
        if (report->found[a] > 0) {
            (void)printf("%s: %llu\n", checker_anomaly_name(a),
                         (unsigned long long)report->found[a]);
        }
    }
}

static void write_history(const struct shared *s) {
    char path[300];
    (void)snprintf(path, sizeof path, "%s/history.edn", s->dir);
    FILE *out = fopen(path, "w");
    if (out == NULL) {
        (void)fprintf(stderr, "cannot write %s\n", path);
        return;
    }
    history_write_edn(&s->history, out);
    (void)fclose(out);
    (void)fprintf(stderr, "  history: %s\n", path);
}

static bool has_found(const struct checker_report *report, const char *name) {
    for (enum checker_anomaly a = 0; a < CHECKER_ANOMALIES; a++) {
        if (report->found[a] > 0 && strcmp(checker_anomaly_name(a), name) == 0) {
            return true;
        }
    }
    return false;
}

static void check(struct shared *s) {
    struct checker_report report;
    double start = seconds(s);
    checker_run(&s->history, stdout, &report);
    print_report(&report, seconds(s) - start);
    if (s->must_find != NULL) {
        if (!has_found(&report, s->must_find)) {
            fail(s, "no %s among %llu anomalies", s->must_find,
                 (unsigned long long)report.anomalies);
        }
        (void)printf("found as it must be: %s\n", s->must_find);
        return;
    }
    if (report.anomalies > 0) {
        write_history(s);
        fail(s, "%llu anomalies", (unsigned long long)report.anomalies);
    }
    (void)printf("%u kills, and one at the end: strictly serialisable\n", s->kills);
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
    s->bin = option(argc, argv, "--bin", DBOS_BIN_DIR);
    s->modules = option(argc, argv, "--modules", DBOS_MODULE_DIR);
    s->partitions = option(argc, argv, "--partitions", "2");
    s->durability = option(argc, argv, "--durability", "sync");
    s->shim = option(argc, argv, "--lose", NULL);
    s->apply = option(argc, argv, "--apply", NULL);
    s->ignore_sync = option(argc, argv, "--ignore-sync", NULL) != NULL;
    s->must_find = option(argc, argv, "--must-find", NULL);
    s->operations = strtoull(option(argc, argv, "--operations", "20000"), NULL, 10);
    s->kills = (uint32_t)atoi(option(argc, argv, "--kills", "3"));
    s->client_count = (uint32_t)atoi(option(argc, argv, "--clients", "12"));
    s->seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10);
    if (s->operations <= s->kills || s->client_count == 0 || s->client_count >= CLIENTS_MAX) {
        fail(s, "more operations than kills, and 1 to %d clients", CLIENTS_MAX - 1);
    }
    dbos_rng_init(&s->rng, s->seed);
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(s->dir, sizeof s->dir, "%.200s/dbosd-history-XXXXXX",
                   tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(s->dir) == NULL) {
        fail(s, "no temporary directory");
    }
    (void)snprintf(s->data, sizeof s->data, "%s/data", s->dir);
    (void)snprintf(s->journal, sizeof s->journal, "%s/journal", s->dir);
    (void)snprintf(s->log, sizeof s->log, "%s/dbosd.log", s->dir);
    (void)mkdir(s->journal, 0700);
}

static void remove_all(const struct shared *s) {
    char command[320];
    (void)snprintf(command, sizeof command, "rm -rf %s", s->dir);
    (void)!system(command);
}

int main(int argc, char **argv) {
    struct shared s = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    open_shared(&s, argc, argv);
    client_stage_init(&s.stage, s.env, s.operations);
    set_up(&s);
    client_stage_up(&s.stage, start_node(&s, s.shim != NULL));
    double start = seconds(&s);
    start_clients(&s);
    run_and_kill(&s);
    double run_s = seconds(&s) - start;
    double working_s = run_s - s.restart_s;
    restart_node(&s);
    read_everything(&s);
    stop_node(&s);
    collect_history(&s);
    (void)printf("ran %.1f s, of which %.1f s in restarts: %.0f operations/s between them\n", run_s,
                 run_s - working_s, (double)s.operations / working_s);
    print_operations(&s.history);
    check(&s);
    history_fini(&s.history);
    free(s.clients);
    remove_all(&s);
    return 0;
}
