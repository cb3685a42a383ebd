/* The system views of a real dbosd, through libpq: every row of them that can be known beforehand,
 * and that they account for the process' memory. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/poison.h"
#include "tests/integration/wire_support.h"

TestSuite(views, .timeout = 200);

enum { SESSIONS = 20, LOADS = 100, LOAD_ROWS = 10000 };

static void start(struct wire_node *node) {
    const char *const arguments[] = {"--partitions", "2", NULL};
    wire_node_start(node, arguments);
}

static PGconn *connect_as(const struct wire_node *node, const char *user) {
    char text[256];
    (void)snprintf(text, sizeof text,
                   "host=127.0.0.1 port=%d user=%s dbname=dbos application_name='of %s'",
                   node->port, user, user);
    PGconn *conn = PQconnectdb(text);
    cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
    return conn;
}

/* All rows as "a|b\n". */
static const char *ask(PGconn *conn, const char *sql, char *out, size_t out_bytes) {
    PGresult *result = PQexec(conn, sql);
    size_t used = 0;
    out[0] = 0;
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    for (int i = 0; i < PQntuples(result); i++) {
        for (int k = 0; k < PQnfields(result) && used < out_bytes - 1; k++) {
            used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", k == 0 ? "" : "|",
                                     PQgetvalue(result, i, k));
        }
        used += used < out_bytes - 1 ? (size_t)snprintf(out + used, out_bytes - used, "\n") : 0;
    }
    PQclear(result);
    return out;
}

static void expect(PGconn *conn, const char *sql, const char *rows) {
    char text[4096];
    cr_expect_str_eq(ask(conn, sql, text, sizeof text), rows, "%s gives %s", sql, text);
}

static long long number(PGconn *conn, const char *sql) {
    char text[256];
    return strtoll(ask(conn, sql, text, sizeof text), NULL, 10);
}

/* 20 rows by 20 statements, one of which fails; three calls, one of which fails. */
static void do_something(PGconn *conn) {
    char sql[128];
    wire_run(conn, "CREATE TABLE t (id int PRIMARY KEY, b text) PARTITION BY HASH (id)");
    wire_run(conn, "CREATE INDEX t_b ON t (b)");
    wire_run(conn,
             "CREATE PROCEDURE put(a int) LANGUAGE sql AS 'INSERT INTO t VALUES ($1, ''p'')'");
    for (int i = 0; i < 20; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d, 'i')", i);
        wire_run(conn, sql);
    }
    wire_expect_error(conn, "INSERT INTO t VALUES (1, 'again')", "23505");
    wire_run(conn, "UPDATE t SET b = 'u' WHERE id = 3");
    wire_run(conn, "DELETE FROM t WHERE id = 4");
    wire_run(conn, "CALL put(100)");
    wire_run(conn, "CALL put(101)");
    wire_expect_error(conn, "CALL put(101)", "23505");
}

Test(views, statements_and_partitions_count_what_was_done) {
    struct wire_node node;
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    do_something(conn);
    expect(conn,
           "SELECT name, kind, calls, errors FROM dbos.statements WHERE name <> 'SELECT' "
           "ORDER BY name",
           "DDL|statement|3|0\nDELETE|statement|1|0\nINSERT|statement|21|1\n"
           "UPDATE|statement|1|0\nput|procedure|3|1\n");
    expect(conn,
           "SELECT kind, count(*), sum(executed) FROM dbos.partitions GROUP BY kind ORDER BY 1",
           "barrier|1|3\npartition|2|27\n");
    expect(conn, "SELECT partition, kind FROM dbos.partitions ORDER BY 1",
           "0|partition\n1|partition\n|barrier\n");
    /* Nothing else runs: this statement is the one that has come and not ended. */
    expect(conn, "SELECT sum(queue_depth) FROM dbos.partitions", "1\n");
    expect(conn,
           "SELECT count(*) FROM dbos.partitions WHERE run_p50_us > 0 AND run_p50_us <= run_p99_us "
           "AND run_p99_us <= run_max_us AND wait_p50_us <= wait_p99_us AND wait_max_us > 0 "
           "AND busy_us > 0",
           "3\n");
    expect(conn,
           "SELECT count(*) FROM dbos.statements WHERE total_us < 0 OR p50_us > p99_us OR "
           "p99_us > max_us OR mean_us > max_us",
           "0\n");
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(views, latencies_are_the_same_counts_as_their_histograms) {
    struct wire_node node;
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    do_something(conn);
    expect(conn, "SELECT name FROM dbos.latency",
           "request\nwait\nrun\nbarrier wait\nbarrier run\nlog sync\n");
    expect(conn, "SELECT name, count FROM dbos.latency WHERE name LIKE 'barrier%'",
           "barrier wait|3\nbarrier run|3\n");
    expect(conn, "SELECT sum(count) FROM dbos.histogram WHERE name LIKE 'barrier%'", "6\n");
    /* 29 statements and 3 questions before this one have been answered. */
    expect(conn, "SELECT count FROM dbos.latency WHERE name = 'request'", "32\n");
    expect(conn, "SELECT count(*) FROM dbos.histogram WHERE from_us >= to_us OR count <= 0", "0\n");
    expect(conn,
           "SELECT count(*) FROM dbos.latency WHERE mean_us > max_us OR p50_us > p99_us OR "
           "p99_us > max_us OR p50_us <= 0",
           "0\n");
    /* A plan that is known to be quick is run by the thread that submits it: that takes time, too.
     */
    static const char *const values[] = {"3"};
    PQclear(PQprepare(conn, "quick", "SELECT b FROM t WHERE id = $1", 0, NULL));
    for (int i = 0; i < 200; i++) {
        PGresult *result = PQexecPrepared(conn, "quick", 1, values, NULL, NULL, 0);
        cr_assert_eq(PQntuples(result), 1, "%s", PQerrorMessage(conn));
        PQclear(result);
    }
    expect(conn,
           "SELECT sum(count) FROM dbos.histogram WHERE name = 'request' AND from_us < 0.5 OR "
           "name = 'run' AND from_us < 0.05",
           "\n");
    expect(conn, "SELECT calls >= 200 FROM dbos.statements WHERE name = 'SELECT'", "t\n");
    expect(conn, "SELECT sum(queue_depth) FROM dbos.partitions", "1\n");
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(views, reading_views_leaves_no_record_in_the_log) {
    struct wire_node node;
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    do_something(conn);
    long long records = number(conn, "SELECT records FROM dbos.log");
    cr_expect_geq(records, 25);
    static const char *const all[] = {"histogram",  "latency",  "log",        "memory",
                                      "partitions", "sessions", "statements", "tables"};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
        char sql[64];
        (void)snprintf(sql, sizeof sql, "SELECT count(*) > 0 FROM dbos.%s", all[i]);
        expect(conn, sql, "t\n");
    }
    cr_expect_eq(number(conn, "SELECT records FROM dbos.log"), records);
    expect(conn,
           "SELECT records = last_position, durable_position = last_position, batches <= records, "
           "syncs >= batches, segments, in_flight_bytes, room_waits, bytes > records * 20, "
           "records_per_batch >= 1, sync_p50_us > 0, sync_p50_us <= sync_max_us FROM dbos.log",
           "t|t|t|t|1|0|0|t|t|t|t\n");
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(views, sessions_and_tables_are_those_that_there_are) {
    struct wire_node node;
    start(&node);
    PGconn *ana = connect_as(&node, "ana");
    PGconn *bob = connect_as(&node, "bob");
    do_something(ana);
    expect(ana,
           "SELECT username, application, state, statements, in_flight FROM dbos.sessions "
           "ORDER BY username",
           "ana|of ana|active|30|1\nbob|of bob|idle|0|0\n");
    wire_run(bob, "SET application_name = 'another'");
    expect(ana,
           "SELECT application, address LIKE '127.0.0.1:%', buffered_bytes > 0, "
           "connected <= now(), id > 0 FROM dbos.sessions WHERE username = 'bob'",
           "another|t|t|t|t\n");
    PQfinish(bob);
    for (int i = 0; i < 100 && number(ana, "SELECT count(*) FROM dbos.sessions") != 1; i++) {
    }
    expect(ana, "SELECT username FROM dbos.sessions", "ana\n");
    expect(ana,
           "SELECT name, rows, parts, indexes, partition_column, bytes > index_bytes, "
           "index_bytes > 0 FROM dbos.tables WHERE schema = 'public'",
           "t|21|2|2|id|t|t\n");
    expect(ana, "SELECT count(*), sum(rows) > 0 FROM dbos.tables WHERE schema = 'dbos'", "7|t\n");
    expect(ana,
           "SELECT name FROM dbos.memory WHERE area = 'index' AND bytes > 200 AND "
           "name LIKE 'public.%' ORDER BY name",
           "public.t.t_b\npublic.t.t_pkey\n");
    wire_run(ana, "DROP INDEX t_b");
    expect(ana, "SELECT area, name FROM dbos.memory WHERE name LIKE 'public.%' ORDER BY area",
           "index|public.t.t_pkey\ntable|public.t\n");
    wire_run(ana, "DROP PROCEDURE put");
    wire_run(ana, "DROP TABLE t");
    expect(ana, "SELECT count(*) FROM dbos.tables WHERE schema = 'public'", "0\n");
    PQfinish(ana);
    wire_node_stop(&node);
}

Test(views, errors_have_their_sqlstate) {
    static const char *const values[] = {"table"};
    struct wire_node node;
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    wire_run(conn, "CREATE TABLE t (id int PRIMARY KEY, b text)");
    wire_expect_error(conn, "INSERT INTO dbos.sessions VALUES (1)", "42501");
    wire_expect_error(conn, "UPDATE dbos.log SET records = 0", "42501");
    wire_expect_error(conn, "DELETE FROM dbos.sessions", "42501");
    wire_expect_error(conn, "DROP TABLE dbos.memory", "42809");
    wire_expect_error(conn, "INSERT INTO t SELECT 1, name FROM dbos.memory", "0A000");
    wire_expect_error(conn, "CREATE PROCEDURE p() LANGUAGE sql AS 'SELECT name FROM dbos.log'",
                      "0A000");
    wire_expect_error(
        conn, "SELECT a.name FROM dbos.memory a JOIN dbos.tables b ON a.name = b.name", "0A000");
    /* Through the other protocol, and after a change of definitions. */
    PGresult *result =
        PQprepare(conn, "m", "SELECT name FROM dbos.memory WHERE area = $1", 0, NULL);
    cr_expect_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    wire_run(conn, "DROP TABLE t");
    result = PQexecPrepared(conn, "m", 1, values, NULL, NULL, 0);
    cr_expect_eq(PQntuples(result), 7, "%s", PQerrorMessage(conn));
    PQclear(result);
    PQfinish(conn);
    wire_node_stop(&node);
}

/* -- memory ---------------------------------------------------------------------------------------
 */

/* The sum of what is accounted for, in thousandths of the anonymous RSS. */
static long long accounted(PGconn *conn, const char *when) {
    char text[8192];
    (void)ask(conn, "SELECT area, name, bytes FROM dbos.memory WHERE bytes > 100000", text,
              sizeof text);
    long long sum = number(conn, "SELECT sum(bytes) FROM dbos.memory WHERE area <> 'process'");
    long long rss = number(conn, "SELECT bytes FROM dbos.memory WHERE name = 'anonymous RSS'");
    (void)fprintf(stderr, "%s: %lld of %lld bytes are accounted for\n%s", when, sum, rss, text);
    cr_assert_gt(rss, 0);
    return sum * 1000 / rss;
}

/* Goal: dbos.memory accounts for at least 95 % of the anonymous RSS, and does not invent any.
 * Method: a million rows of 250 bytes and more in two indexes, and sessions that have replies. */
Test(views, memory_accounts_for_the_process) {
    struct wire_node node;
    PGconn *others[SESSIONS];
    char sql[256];
    char text[8192];
    if (DBOS_POISONS != 0) {
        cr_skip_test("another allocator than the one that is accounted for");
    }
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    wire_run(conn,
             "CREATE TABLE big (id bigint PRIMARY KEY, a int, b text) PARTITION BY HASH (id)");
    wire_run(conn, "CREATE INDEX big_a ON big (a)");
    for (int i = 0; i < LOADS; i++) {
        (void)snprintf(sql, sizeof sql,
                       "INSERT INTO big SELECT g, (g %% 1000)::int, repeat('x', 150) "
                       "FROM generate_series(%d, %d) AS g",
                       i * LOAD_ROWS, (i + 1) * LOAD_ROWS - 1);
        wire_run(conn, sql);
    }
    for (int i = 0; i < SESSIONS; i++) {
        others[i] = connect_as(&node, "bob");
        (void)ask(others[i], "SELECT b FROM big WHERE id < 20", text, sizeof text);
    }
    long long thousandths = accounted(conn, "loaded");
    cr_expect(number(conn, "SELECT bytes FROM dbos.tables WHERE name = 'big'") > 200000000);
    cr_expect(thousandths >= 950 && thousandths <= 1020, "%lld / 1000", thousandths);
    cr_expect_eq(number(conn, "SELECT bytes FROM dbos.tables WHERE name = 'big'"),
                 number(conn, "SELECT sum(bytes) FROM dbos.memory WHERE name LIKE 'public.big%'"));
    /* Where most of it is taken back, what the C library keeps is accounted for, too. */
    for (int i = 0; i < LOADS; i++) {
        (void)snprintf(sql, sizeof sql, "DELETE FROM big WHERE a >= %d AND a < %d", i * 7,
                       (i + 1) * 7);
        wire_run(conn, sql);
    }
    thousandths = accounted(conn, "deleted");
    cr_expect(thousandths >= 950 && thousandths <= 1050, "%lld / 1000", thousandths);
    for (int i = 0; i < SESSIONS; i++) {
        PQfinish(others[i]);
    }
    PQfinish(conn);
    wire_node_stop(&node);
}

/* -- dbosctl top ----------------------------------------------------------------------------------
 */

/* One interval, in which there was nothing but what top itself asks. */
Test(views, top_shows_every_part_once) {
    static const char *const wanted[] = {
        "requests/s",        "LATENCY us",    "log sync",      "PARTITION",
        "barrier",           "records/batch", "ARCHIVE",       "requests waiting",
        "statement  SELECT", "MEMORY MB",     "anonymous RSS", "table      dbos.catalog",
    };
    struct wire_node node;
    char command[512];
    char text[16384];
    start(&node);
    PGconn *conn = connect_as(&node, "ana");
    do_something(conn);
    (void)snprintf(command, sizeof command,
                   DBOS_BIN_DIR "/dbosctl --port %d top --once --interval 0.3", node.port);
    FILE *out = popen(command, "r");
    cr_assert_not_null(out);
    size_t size = fread(text, 1, sizeof text - 1, out);
    text[size] = 0;
    cr_expect_eq(pclose(out), 0);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        cr_expect_not_null(strstr(text, wanted[i]), "no %s in:\n%s", wanted[i], text);
    }
    cr_expect_null(strchr(text, '\033'), "no screen control in a file");
    PQfinish(conn);
    wire_node_stop(&node);
    (void)snprintf(command, sizeof command,
                   DBOS_BIN_DIR "/dbosctl --port %d top --once 2>/dev/null", node.port);
    cr_expect_neq(system(command), 0, "there is no node any more");
}
