/* What clients count on, against the real dbosd: every type both ways, a cancel that comes at once,
 * a retry that takes effect once, transfers between partitions that are whole, a stop that loses
 * nothing that was acknowledged. To repeat one:
 *     build/dev/bin/integration_clients --filter 'client_session/NAME' */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "tests/integration/wire_support.h"
#include "tests/support/node.h"

TestSuite(client_session, .timeout = 120);

static void start(struct wire_node *node) {
    static const char *const arguments[] = {"--partitions", "3", NULL};
    wire_node_start(node, arguments);
}

static void expect_value(PGconn *conn, const char *sql, const char *value) {
    PGresult *result = PQexec(conn, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    cr_expect_str_eq(PQgetvalue(result, 0, 0), value, "%s: %s", sql, PQgetvalue(result, 0, 0));
    PQclear(result);
}

/* -- types --------------------------------------------------------------------------------------
 */

struct value {
    const char *type;
    const char *text;  /* as sent */
    const char *shown; /* as it comes back; NULL = as sent */
    const char *hex;   /* PostgreSQL's binary form */
};

static const struct value values[] = {
    {"smallint", "-32768", NULL, "8000"},
    {"smallint", "32767", NULL, "7fff"},
    {"int", " +7 ", "7", "00000007"},
    {"int", "-2147483648", NULL, "80000000"},
    {"bigint", "9223372036854775807", NULL, "7fffffffffffffff"},
    {"bigint", "-9223372036854775808", NULL, "8000000000000000"},
    {"double precision", "0.1", NULL, "3fb999999999999a"},
    {"double precision", "-0", NULL, "8000000000000000"},
    {"double precision", "1e308", "1e+308", "7fe1ccf385ebc8a0"},
    {"double precision", "5e-324", NULL, "0000000000000001"},
    {"double precision", "infinity", "Infinity", "7ff0000000000000"},
    {"double precision", "NaN", NULL, "7ff8000000000000"},
    {"boolean", "yes", "t", "01"},
    {"boolean", "off", "f", "00"},
    {"text", "", NULL, ""},
    {"text", "na\xc3\xafve \xe2\x82\xac \\ ' \"", NULL, "6e61c3af766520e282ac205c20272022"},
    {"varchar(5)", "abcde", NULL, "6162636465"},
    {"varchar(5)", "abcde   ", "abcde", "6162636465"},
    {"bytea", "\\x00ff10", NULL, "00ff10"},
    {"bytea", "a\\\\b\\000", "\\x615c6200", "615c6200"},
    {"bytea", "\\x", NULL, ""},
    {"timestamptz", "2000-01-01 00:00:00+00", NULL, "0000000000000000"},
    {"timestamptz", "2026-01-02T03:04:05.678901Z", "2026-01-02 03:04:05.678901+00",
     "0002ea5dbb1f6f35"},
    {"timestamptz", "1999-12-31 23:59:59.5-01", "2000-01-01 00:59:59.5+00", "00000000d68c02e0"},
};
enum { VALUE_COUNT = sizeof values / sizeof values[0] };

static int unhex(const char *hex, char *out) {
    int count = 0;
    for (; *hex != 0; hex += 2) {
        const char pair[3] = {hex[0], hex[1], 0};
        out[count++] = (char)strtoul(pair, NULL, 16);
    }
    return count;
}

static PGresult *insert(PGconn *conn, const char *value, int length, int format) {
    const char *parameters[] = {value};
    const int lengths[] = {length};
    const int formats[] = {format};
    PGresult *result = PQexecPrepared(conn, "put", 1, parameters, lengths, formats, 1);
    cr_expect_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    return result;
}

/* Sent once as text and once in binary; read back in both, the two rows are the same. */
static void check_value(PGconn *conn, const struct value *value) {
    char sql[128];
    char bytes[64];
    int size_bytes = unhex(value->hex, bytes);
    const char *shown = value->shown == NULL ? value->text : value->shown;
    (void)snprintf(sql, sizeof sql, "CREATE TABLE v (n int PRIMARY KEY DEFAULT 1, x %s)",
                   value->type);
    for (int sent = 0; sent < 2; sent++) {
        wire_run(conn, sql);
        PQclear(PQprepare(conn, "put", "INSERT INTO v (x) VALUES ($1)", 0, NULL));
        PQclear(PQprepare(conn, "get", "SELECT x FROM v", 0, NULL));
        PQclear(insert(conn, sent == 0 ? value->text : bytes, size_bytes, sent));
        for (int format = 0; format < 2; format++) {
            PGresult *result = PQexecPrepared(conn, "get", 0, NULL, NULL, NULL, format);
            cr_assert_eq(PQntuples(result), 1, "%s", PQerrorMessage(conn));
            const char *got = PQgetvalue(result, 0, 0);
            bool is_same = format == 0 ? strcmp(got, shown) == 0
                                       : PQgetlength(result, 0, 0) == size_bytes &&
                                             memcmp(got, bytes, (size_t)size_bytes) == 0;
            cr_expect(is_same, "%s '%s', sent in format %d: %s in format %d", value->type,
                      value->text, sent, format == 0 ? got : "other bytes", format);
            PQclear(result);
        }
        wire_run(conn, "DROP TABLE v");
        PQreset(conn); /* the names of the statements are free again */
    }
}

static void check_null(PGconn *conn, const char *type) {
    char sql[128];
    (void)snprintf(sql, sizeof sql, "CREATE TABLE v (n int PRIMARY KEY DEFAULT 1, x %s)", type);
    wire_run(conn, sql);
    PQclear(PQprepare(conn, "put", "INSERT INTO v (x) VALUES ($1)", 0, NULL));
    PQclear(insert(conn, NULL, 0, 1));
    for (int format = 0; format < 2; format++) {
        PGresult *result = PQexecParams(conn, "SELECT x FROM v", 0, NULL, NULL, NULL, NULL, format);
        cr_expect(PQntuples(result) == 1 && PQgetisnull(result, 0, 0), "%s", type);
        PQclear(result);
    }
    wire_run(conn, "DROP TABLE v");
    PQreset(conn);
}

Test(client_session, every_type_goes_both_ways_in_text_and_in_binary) {
    struct wire_node node;
    start(&node);
    PGconn *conn = wire_connect(node.port);
    for (size_t i = 0; i < VALUE_COUNT; i++) {
        check_value(conn, &values[i]);
        if (i == 0 || strcmp(values[i].type, values[i - 1].type) != 0) {
            check_null(conn, values[i].type);
        }
    }
    PQfinish(conn);
    wire_node_stop(&node);
}

/* -- cancel -------------------------------------------------------------------------------------
 */

/* The slowest of several cancels, each of a statement that would take hours. */
static double cancel_s(PGconn *conn, const char *sql) {
    char error[256];
    double worst = 0;
    PGcancel *cancel = PQgetCancel(conn);
    for (int i = 0; i < 5; i++) {
        cr_assert_eq(PQsendQuery(conn, sql), 1);
        (void)usleep(100000);
        double start_s = wire_seconds();
        cr_assert_eq(PQcancel(cancel, error, sizeof error), 1, "%s", error);
        PGresult *result = PQgetResult(conn);
        double took_s = wire_seconds() - start_s;
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        cr_expect(state != NULL && strcmp(state, "57014") == 0, "%s: %s", sql, state);
        cr_expect_str_eq(PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY),
                         "canceling statement due to user request");
        PQclear(result);
        cr_expect(PQgetResult(conn) == NULL);
        worst = took_s > worst ? took_s : worst;
    }
    PQfreeCancel(cancel);
    return worst;
}

Test(client_session, a_statement_that_would_take_hours_is_canceled_at_once) {
    static const char *const statements[] = {
        "SELECT count(*) FROM generate_series(1, 1000000000000) AS i WHERE i % 7 = 8",
        "SELECT i FROM generate_series(1, 1000000000000) AS i WHERE i < 0 ORDER BY i",
        "UPDATE w SET b = b + 1 FROM generate_series(1, 2) AS i",
    };
    struct wire_node node;
    start(&node);
    PGconn *conn = wire_connect(node.port);
    PGconn *other = wire_connect(node.port);
    wire_run(conn, "CREATE TABLE w (a int PRIMARY KEY, b int) PARTITION BY HASH (a)");
    wire_run(conn, "SET statement_timeout = 0");
    for (size_t i = 0; i < 2; i++) {
        double worst = cancel_s(conn, statements[i]);
        cr_expect(worst < 1, "%s: %.3f s", statements[i], worst);
    }
    /* A write that is canceled leaves nothing. */
    double worst =
        cancel_s(conn, "INSERT INTO w SELECT i, 0 FROM generate_series(1, 100000000) AS i");
    cr_expect(worst < 5, "undo of an insert: %.3f s", worst);
    expect_value(other, "SELECT count(*) FROM w", "0");
    wire_expect_error(conn, statements[2], "0A000");
    wire_expect_error(conn, "SELECT FROM w", "0A000"); /* rows that no client could be told about */
    wire_run(conn, "SET statement_timeout = '200ms'");
    double start_s = wire_seconds();
    wire_expect_error(conn, statements[0], "57014");
    cr_expect(wire_seconds() - start_s < 1.2);
    PQfinish(conn);
    PQfinish(other);
    wire_node_stop(&node);
}

/* -- garbage ------------------------------------------------------------------------------------
 */

/* Bytes from a seed, with and without a correct start-up before them; a session works meanwhile. */
Test(client_session, random_bytes_on_the_port_disturb_no_other_session) {
    enum { ROUNDS = 60, BYTES_MAX = 3000 };
    struct wire_node node;
    struct dbos_rng rng;
    uint8_t bytes[BYTES_MAX];
    const uint64_t seed = 20261;
    dbos_rng_init(&rng, seed);
    start(&node);
    PGconn *conn = wire_connect(node.port);
    wire_run(conn, "CREATE TABLE g (n int PRIMARY KEY)");
    for (int i = 0; i < ROUNDS; i++) {
        struct wire_client bad;
        char sql[64];
        size_t size_bytes = 1 + (size_t)dbos_rng_below(&rng, BYTES_MAX);
        for (size_t k = 0; k < size_bytes; k++) {
            bytes[k] = (uint8_t)dbos_rng_below(&rng, 256);
        }
        if (i % 2 == 0) {
            wire_open(&bad, &node);
        } else {
            wire_begin(&bad, &node);
        }
        wire_put_bytes(&bad, bytes, size_bytes);
        wire_send(&bad);
        (void)snprintf(sql, sizeof sql, "INSERT INTO g VALUES (%d)", i);
        wire_run(conn, sql);
        wire_close(&bad);
    }
    expect_value(conn, "SELECT count(*) FROM g", "60");
    struct wire_client other;
    wire_open(&other, &node);
    wire_put_bytes(&other, "\0\0\0\x20\0\x03\0\0user\0ana\0database\0shop\0", 32);
    cr_expect_str_eq(wire_read(&other, 'Z', 1), "E(3D000 database \"shop\" does not exist) EOF",
                     "%s", other.text);
    wire_close(&other);
    PQfinish(conn);
    wire_node_stop(&node);
}

/* -- a retry ------------------------------------------------------------------------------------
 */

Test(client_session, a_call_that_is_sent_twice_under_a_key_takes_effect_once) {
    struct wire_node node;
    start(&node);
    PGconn *conn = wire_connect(node.port);
    PGconn *other = wire_connect(node.port);
    wire_run(conn,
             "CREATE TABLE account (id int PRIMARY KEY, balance bigint) PARTITION BY HASH (id)");
    wire_run(conn, "INSERT INTO account VALUES (1, 100), (2, 100)");
    wire_run(conn,
             "CREATE PROCEDURE transfer(a int, b int, amount bigint) LANGUAGE c AS 'transfer.so', "
             "'transfer'");
    static const char keyed[] =
        "SET LOCAL dbos.idempotency_key = 'order 7'; CALL transfer(1, 2, 30)";
    wire_run(conn, keyed);
    wire_run(conn, keyed);
    wire_run(other, keyed); /* the key belongs to the user, not to the connection */
    expect_value(conn, "SELECT balance FROM account WHERE id = 1", "70");
    wire_expect_error(conn, "SET LOCAL dbos.idempotency_key = 'order 7'; CALL transfer(1, 2, 31)",
                      "22023");
    expect_value(conn, "SELECT balance FROM account WHERE id = 1", "70");
    wire_run(conn, "SET LOCAL dbos.idempotency_key = 'order 8'; CALL transfer(1, 2, 31)");
    wire_run(conn, "CALL transfer(1, 2, 1)"); /* the key was for one transaction */
    wire_run(conn, "CALL transfer(1, 2, 1)");
    expect_value(conn, "SELECT balance FROM account WHERE id = 1", "37");
    PQfinish(conn);
    PQfinish(other);
    wire_node_stop(&node);
}

/* -- several partitions -------------------------------------------------------------------------
 */

enum { ACCOUNTS = 12, WRITERS = 3, TRANSFERS = 150 };

static void send_transfers(PGconn *conn, struct dbos_rng *rng) {
    cr_assert_eq(PQenterPipelineMode(conn), 1);
    for (int i = 0; i < TRANSFERS; i++) {
        char text[3][16];
        const char *const parameters[] = {text[0], text[1], text[2]};
        (void)snprintf(text[0], 16, "%d", (int)dbos_rng_below(rng, ACCOUNTS));
        (void)snprintf(text[1], 16, "%d", (int)dbos_rng_below(rng, ACCOUNTS + 1)); /* or nobody */
        (void)snprintf(text[2], 16, "%d", 1 + (int)dbos_rng_below(rng, 90));
        cr_assert_eq(PQsendQueryParams(conn, "CALL transfer($1, $2, $3)", 3, NULL, parameters, NULL,
                                       NULL, 0),
                     1);
        cr_assert_eq(PQpipelineSync(conn), 1);
    }
    cr_assert_eq(PQflush(conn), 0);
}

/* How many went through; the others aborted, for lack of money or of the account. */
static int collect_transfers(PGconn *conn) {
    int done = 0;
    for (int i = 0; i < TRANSFERS; i++) {
        PGresult *result = PQgetResult(conn);
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        bool is_done = PQresultStatus(result) == PGRES_COMMAND_OK;
        cr_expect(is_done || (state != NULL && strcmp(state, "P0001") == 0), "%s: %s", state,
                  PQresultErrorMessage(result));
        done += is_done;
        PQclear(result);
        cr_expect(PQgetResult(conn) == NULL);
        result = PQgetResult(conn);
        cr_assert_eq(PQresultStatus(result), PGRES_PIPELINE_SYNC);
        PQclear(result);
    }
    cr_assert_eq(PQexitPipelineMode(conn), 1);
    return done;
}

/* Whoever looks while money moves between partitions sees all of it. */
Test(client_session, transfers_between_partitions_are_whole_to_everybody) {
    struct wire_node node;
    struct dbos_rng rng;
    PGconn *writers[WRITERS];
    int done = 0;
    dbos_rng_init(&rng, 7);
    start(&node);
    PGconn *reader = wire_connect(node.port);
    wire_run(reader,
             "CREATE TABLE account (id int PRIMARY KEY, balance bigint) PARTITION BY HASH (id)");
    wire_run(reader, "CREATE PROCEDURE transfer(a int, b int, amount bigint) LANGUAGE c AS "
                     "'transfer.so', 'transfer'");
    wire_run(reader, "INSERT INTO account SELECT i, 100 FROM generate_series(0, 11) AS i");
    for (int i = 0; i < WRITERS; i++) {
        writers[i] = wire_connect(node.port);
        send_transfers(writers[i], &rng);
    }
    for (int i = 0; i < 200; i++) {
        expect_value(reader, "SELECT sum(balance) FROM account", "1200");
        expect_value(reader, "SELECT count(*) FROM account WHERE balance < 0", "0");
    }
    for (int i = 0; i < WRITERS; i++) {
        done += collect_transfers(writers[i]);
        PQfinish(writers[i]);
    }
    cr_expect(done > WRITERS * TRANSFERS / 10 && done < WRITERS * TRANSFERS, "%d", done);
    expect_value(reader, "SELECT sum(balance) FROM account", "1200");
    PQfinish(reader);
    wire_node_stop(&node);
}

/* -- stop ---------------------------------------------------------------------------------------
 */

/* Insert until the node ends the connection; the numbers 0 .. the result - 1 were acknowledged. */
static int insert_until_stopped(PGconn *conn, pid_t pid) {
    enum { COUNT = 4000, STOP_AT = 300 };
    int acknowledged = 0;
    cr_assert_eq(PQenterPipelineMode(conn), 1);
    for (int i = 0; i < COUNT; i++) {
        char text[16];
        const char *const parameters[] = {text};
        (void)snprintf(text, sizeof text, "%d", i);
        (void)PQsendQueryParams(conn, "INSERT INTO k VALUES ($1)", 1, NULL, parameters, NULL, NULL,
                                0);
        (void)PQpipelineSync(conn);
    }
    (void)PQflush(conn);
    while (acknowledged < COUNT) {
        PGresult *result = PQgetResult(conn);
        ExecStatusType status = PQresultStatus(result);
        bool is_between = result == NULL && PQstatus(conn) == CONNECTION_OK;
        PQclear(result);
        if (status == PGRES_COMMAND_OK) {
            acknowledged++;
        } else if (status != PGRES_PIPELINE_SYNC && !is_between) {
            break;
        }
        if (status == PGRES_COMMAND_OK && acknowledged == STOP_AT) {
            cr_assert_eq(kill(pid, SIGTERM), 0);
        }
    }
    return acknowledged;
}

Test(client_session, a_stop_in_the_middle_of_a_pipeline_keeps_what_was_acknowledged) {
    char data[] = "/tmp/dbos-stop-XXXXXX";
    char log[64];
    char wanted[32];
    int port = 0;
    int status = 0;
    cr_assert(mkdtemp(data) != NULL);
    (void)snprintf(log, sizeof log, "%s/log", data);
    char node[64];
    (void)snprintf(node, sizeof node, "%s/node", data);
    struct node_options options = {
        .bin = DBOS_BIN_DIR, .data = node, .log = log, .partitions = "2"};
    pid_t pid = node_start(&options, &port);
    cr_assert(pid > 0, "the log is %s", log);
    PGconn *conn = wire_connect(port);
    wire_run(conn, "CREATE TABLE k (n int PRIMARY KEY) PARTITION BY HASH (n)");
    double start_s = wire_seconds();
    int acknowledged = insert_until_stopped(conn, pid);
    PQfinish(conn);
    (void)waitpid(pid, &status, 0);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    cr_expect(wire_seconds() - start_s < 10, "%.1f s", wire_seconds() - start_s);
    cr_expect(acknowledged >= 300);
    pid = node_start(&options, &port);
    cr_assert(pid > 0, "the log is %s", log);
    conn = wire_connect(port);
    char sql[64];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM k WHERE n < %d", acknowledged);
    (void)snprintf(wanted, sizeof wanted, "%d", acknowledged);
    expect_value(conn, sql, wanted);
    /* In order: nothing was left out before what came last. */
    expect_value(conn, "SELECT max(n) - count(*) FROM k", "-1");
    PQfinish(conn);
    cr_expect_eq(node_stop(pid), 0);
    (void)snprintf(sql, sizeof sql, "rm -rf %s", data);
    cr_expect_eq(system(sql), 0);
}
