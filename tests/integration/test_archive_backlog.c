/* Goal: the archive lets transactions go first, and never so that something hangs or is lost. When
 * its backlog is full, writers wait or are told so, readers go on, and all goes on by itself when
 * the archiver does; then the archive has what was acknowledged, and nothing else.
 * Method: the real dbosd and its real archiver, which is stopped (SIGSTOP) and let go on. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/integration/wire_support.h"

TestSuite(archive_backlog, .timeout = 200);

enum { WRITERS = 4, ROWS_MAX = 5000, BACKLOG_BYTES = 400000, ROW_BYTES = 2200 };

struct scene {
    struct wire_node node;
    PGconn *conn;
    pid_t archiver;
};

static const char *ask(PGconn *conn, const char *sql) {
    static char value[128];
    PGresult *result = PQexec(conn, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    (void)snprintf(value, sizeof value, "%s",
                   PQgetisnull(result, 0, 0) ? "NULL" : PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

/* Until the column says so; the seconds are many, because other tests run beside this one. */
static void expect_soon(PGconn *conn, const char *column, const char *value) {
    char sql[128];
    double until = wire_seconds() + 60;
    (void)snprintf(sql, sizeof sql, "SELECT %s FROM dbos.archive", column);
    while (strcmp(ask(conn, sql), value) != 0) {
        cr_assert_lt(wire_seconds(), until, "%s is %s, not %s", column, ask(conn, sql), value);
        (void)usleep(5000);
    }
}

static void open_scene(struct scene *scene, const char *backlog_max) {
    const char *const arguments[] = {"--archive-backlog-max", backlog_max, "--partitions", "2",
                                     NULL};
    memset(scene, 0, sizeof *scene);
    wire_node_start(&scene->node, arguments);
    scene->conn = wire_connect(scene->node.port);
    wire_run(scene->conn, "CREATE TABLE t (k int PRIMARY KEY, v text) PARTITION BY HASH (k)");
    cr_assert_str_eq(ask(scene->conn, "SELECT count(*) FROM prov.txn WHERE false"), "0");
    expect_soon(scene->conn, "taken_position = durable_position", "t");
    scene->archiver = (pid_t)atoi(ask(scene->conn, "SELECT process FROM dbos.archive"));
    cr_assert_gt(scene->archiver, 1);
}

static void close_scene(struct scene *scene) {
    PQfinish(scene->conn);
    wire_node_stop(&scene->node);
}

/* A statement that inserts a row of two kilobytes. */
static const char *put_row(char sql[ROW_BYTES], int key) {
    (void)snprintf(sql, ROW_BYTES, "INSERT INTO t VALUES (%d, '%02000d')", key, key);
    return sql;
}

static void insert(struct scene *scene, int rows) {
    char sql[ROW_BYTES];
    for (int i = 0; i < rows; i++) {
        wire_run(scene->conn, put_row(sql, i));
    }
}

/* -- a backlog that is full ----------------------------------------------------------------------
 */

struct writer {
    struct scene *scene;
    pthread_t thread;
    int first; /* of its keys */
    int acknowledged;
    char state[8]; /* SQLSTATE of what was refused */
    char hint[256];
};

/* Rows of two kilobytes until one is refused. */
static void *writer_main(void *arg) {
    struct writer *writer = arg;
    PGconn *conn = wire_connect(writer->scene->node.port);
    wire_run(conn, "SET statement_timeout = 300");
    for (int i = 0; i < ROWS_MAX && writer->state[0] == 0; i++) {
        char sql[ROW_BYTES];
        PGresult *result = PQexec(conn, put_row(sql, writer->first + i));
        if (PQresultStatus(result) == PGRES_COMMAND_OK) {
            writer->acknowledged++;
        } else {
            (void)snprintf(writer->state, sizeof writer->state, "%s",
                           PQresultErrorField(result, PG_DIAG_SQLSTATE));
            (void)snprintf(writer->hint, sizeof writer->hint, "%s",
                           PQresultErrorField(result, PG_DIAG_MESSAGE_HINT));
        }
        PQclear(result);
    }
    PQfinish(conn);
    return NULL;
}

/* How many rows were acknowledged before the backlog was full. */
static int fill(struct scene *scene) {
    struct writer writers[WRITERS];
    int acknowledged = 0;
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = (struct writer){.scene = scene, .first = i * ROWS_MAX};
        cr_assert_eq(pthread_create(&writers[i].thread, NULL, writer_main, &writers[i]), 0);
    }
    for (int i = 0; i < WRITERS; i++) {
        (void)pthread_join(writers[i].thread, NULL);
        cr_expect_str_eq(writers[i].state, "53100", "%s", writers[i].state);
        cr_expect(strstr(writers[i].hint, "dbos.archive") != NULL, "%s", writers[i].hint);
        acknowledged += writers[i].acknowledged;
    }
    cr_assert_lt(acknowledged, WRITERS * ROWS_MAX, "it was never full");
    return acknowledged;
}

static void expect_number(PGconn *conn, const char *sql, int number) {
    cr_expect_eq(atoi(ask(conn, sql)), number, "%s: %s, not %d", sql, ask(conn, sql), number);
}

/* What has been sent has not been answered. */
static void expect_waiting(PGconn *conn) {
    double until = wire_seconds() + 0.3;
    while (wire_seconds() < until) {
        cr_assert_eq(PQconsumeInput(conn), 1);
        cr_assert(PQisBusy(conn), "it did not wait");
        (void)usleep(10000);
    }
}

static void expect_result(PGconn *conn, ExecStatusType wanted, const char *value) {
    PGresult *result = PQgetResult(conn);
    cr_assert_eq(PQresultStatus(result), wanted, "%s", PQerrorMessage(conn));
    if (wanted == PGRES_FATAL_ERROR) {
        cr_expect_str_eq(PQresultErrorField(result, PG_DIAG_SQLSTATE), value);
    } else if (value != NULL) {
        cr_expect_str_eq(PQgetvalue(result, 0, 0), value);
    }
    PQclear(result);
    cr_expect_null(PQgetResult(conn));
}

Test(archive_backlog, writers_wait_while_it_is_full_and_nothing_is_lost) {
    struct scene scene;
    char cancel_error[64];
    open_scene(&scene, "400000");
    PGconn *patient = wire_connect(scene.node.port);
    PGconn *cancelled = wire_connect(scene.node.port);
    cr_assert_eq(kill(scene.archiver, SIGSTOP), 0);
    int rows = fill(&scene);
    cr_expect_gt(rows, BACKLOG_BYTES / 4000, "%d rows are no backlog", rows);
    expect_number(scene.conn, "SELECT count(*) FROM t", rows);
    cr_expect_str_eq(ask(scene.conn, "SELECT is_full FROM dbos.archive"), "t");
    cr_expect_gt(atoi(ask(scene.conn, "SELECT lag_bytes FROM dbos.archive")), BACKLOG_BYTES);
    cr_expect_geq(atoi(ask(scene.conn, "SELECT lag_positions FROM dbos.archive")), rows);
    cr_expect_geq(atoi(ask(scene.conn, "SELECT refused FROM dbos.archive")), WRITERS);

    wire_run(patient, "SET statement_timeout = 0");
    wire_run(cancelled, "SET statement_timeout = 0");
    cr_assert_eq(PQsendQuery(patient, "INSERT INTO t VALUES (-1, 'patient')"), 1);
    cr_assert_eq(PQsendQuery(cancelled, "INSERT INTO t VALUES (-2, 'cancelled')"), 1);
    expect_waiting(patient);
    expect_waiting(cancelled);
    cr_expect_str_eq(ask(scene.conn, "SELECT waiting FROM dbos.archive"), "2");
    PGcancel *cancel = PQgetCancel(cancelled);
    cr_assert_eq(PQcancel(cancel, cancel_error, sizeof cancel_error), 1, "%s", cancel_error);
    PQfreeCancel(cancel);
    expect_result(cancelled, PGRES_FATAL_ERROR, "57014");
    expect_number(scene.conn, "SELECT count(*) FROM t", rows);

    cr_assert_eq(kill(scene.archiver, SIGCONT), 0);
    expect_result(patient, PGRES_COMMAND_OK, NULL);
    expect_soon(scene.conn, "is_full", "f");
    wire_run(cancelled, "INSERT INTO t VALUES (-3, 'after')");
    rows += 2;
    expect_number(scene.conn, "SELECT count(*) FROM t", rows);
    expect_number(scene.conn,
                  "SELECT count(*) FROM prov.event WHERE table_name = 't' AND op = 'insert'", rows);
    expect_soon(scene.conn, "lag_bytes", "0");
    cr_expect_str_eq(ask(scene.conn, "SELECT starts FROM dbos.archive"), "1");
    PQfinish(patient);
    PQfinish(cancelled);
    close_scene(&scene);
}

/* A dead archiver is started again, and what it had not exported is a backlog again; a node whose
 * backlog is full stops in order all the same. */
Test(archive_backlog, it_is_full_again_and_the_node_stops) {
    struct scene scene;
    open_scene(&scene, "400000");
    cr_assert_eq(kill(scene.archiver, SIGSTOP), 0);
    int rows = fill(&scene);
    cr_assert_eq(kill(scene.archiver, SIGKILL), 0);
    expect_soon(scene.conn, "is_full", "f");
    expect_number(scene.conn,
                  "SELECT count(*) FROM prov.event WHERE table_name = 't' AND op = 'insert'", rows);
    cr_expect_str_eq(ask(scene.conn, "SELECT starts FROM dbos.archive"), "2");
    cr_assert_eq(kill((pid_t)atoi(ask(scene.conn, "SELECT process FROM dbos.archive")), SIGSTOP),
                 0);
    wire_run(scene.conn, "DELETE FROM t");
    (void)fill(&scene);
    cr_expect_str_eq(ask(scene.conn, "SELECT is_full FROM dbos.archive"), "t");
    close_scene(&scene);
}

Test(archive_backlog, without_a_limit_nobody_waits) {
    struct scene scene;
    open_scene(&scene, "0");
    cr_assert_eq(kill(scene.archiver, SIGSTOP), 0);
    insert(&scene, 500);
    expect_soon(scene.conn, "lag_bytes > 400000", "t");
    cr_expect_str_eq(ask(scene.conn, "SELECT backlog_max_bytes FROM dbos.archive"), "NULL");
    cr_expect_str_eq(ask(scene.conn, "SELECT is_full FROM dbos.archive"), "f");
    cr_assert_eq(kill(scene.archiver, SIGCONT), 0);
    expect_soon(scene.conn, "lag_bytes", "0");
    close_scene(&scene);
}

/* -- the processor -------------------------------------------------------------------------------
 */

/* Where the archiver may not come back from SCHED_IDLE, it never goes there. */
static bool has_classes(struct scene *scene) {
    expect_soon(scene->conn, "class IS NULL", "f");
    return strcmp(ask(scene->conn, "SELECT class FROM dbos.archive"), "nice") != 0;
}

static void expect_policy(const struct scene *scene, int policy) {
    double until = wire_seconds() + 30;
    while (sched_getscheduler(scene->archiver) != policy) {
        cr_assert_lt(wire_seconds(), until, "the archiver's policy is %d, not %d",
                     sched_getscheduler(scene->archiver), policy);
        (void)usleep(5000);
    }
}

Test(archive_backlog, the_archiver_is_patient_until_somebody_waits) {
    struct scene scene;
    open_scene(&scene, "4000000");
    PGconn *asker = wire_connect(scene.node.port);
    if (!has_classes(&scene)) {
        cr_log_warn("the archiver may not change its scheduling class here: not tested");
    } else {
        expect_policy(&scene, SCHED_IDLE);
        wire_run(asker, "SET statement_timeout = 20000");
        cr_assert_eq(PQsendQuery(asker, "SELECT count(*) FROM prov.txn a, prov.txn b, prov.txn c, "
                                        "prov.txn d, prov.txn e, prov.txn f, prov.txn g, "
                                        "prov.txn h, prov.txn i, prov.txn j, prov.txn k, "
                                        "prov.txn l, prov.txn m, prov.txn n"),
                     1);
        expect_policy(&scene, SCHED_OTHER);
        PGcancel *cancel = PQgetCancel(asker);
        char error[64];
        (void)PQcancel(cancel, error, sizeof error);
        PQfreeCancel(cancel);
        for (PGresult *result = PQgetResult(asker); result != NULL; result = PQgetResult(asker)) {
            PQclear(result);
        }
        expect_policy(&scene, SCHED_IDLE);
        expect_soon(scene.conn, "class", "idle");
    }
    PQfinish(asker);
    close_scene(&scene);
}

Test(archive_backlog, half_a_backlog_makes_it_urgent) {
    struct scene scene;
    open_scene(&scene, "4000000");
    if (has_classes(&scene)) {
        expect_policy(&scene, SCHED_IDLE);
        cr_assert_eq(kill(scene.archiver, SIGSTOP), 0);
        insert(&scene, 700);
        expect_soon(scene.conn, "lag_bytes > 2000000", "t");
        cr_expect_str_eq(ask(scene.conn, "SELECT is_full FROM dbos.archive"), "f");
        (void)usleep(500000); /* it is told so */
        cr_assert_eq(kill(scene.archiver, SIGCONT), 0);
        expect_soon(scene.conn, "class", "normal");
        expect_soon(scene.conn, "class", "idle");
        expect_soon(scene.conn, "lag_bytes", "0");
    }
    close_scene(&scene);
}
