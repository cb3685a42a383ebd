/* The real dbosd behind its port: libpq, and a client that says what no library would say. */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/integration/wire_support.h"

TestSuite(wire_clients, .timeout = 120);

/* Everything is done over both kinds of network. */
static const char *const networks[] = {"best", "poll"};
enum { NETWORK_COUNT = 2 };

static void start(struct wire_node *node, int network) {
    const char *const arguments[] = {
        "--network", networks[network], "--partitions", "2", "--connections-max", "50", NULL};
    wire_node_start(node, arguments);
}

static PGconn *connect_to(const struct wire_node *node, const char *more) {
    char text[256];
    (void)snprintf(text, sizeof text, "host=127.0.0.1 port=%d user=ana dbname=dbos %s", node->port,
                   more);
    return PQconnectdb(text);
}

/* -- with libpq ---------------------------------------------------------------------------------
 */

static void expect_command(PGconn *conn, const char *sql, const char *tag) {
    PGresult *result = PQexec(conn, sql);
    cr_expect_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s: %s", sql, PQerrorMessage(conn));
    cr_expect_str_eq(PQcmdStatus(result), tag, "%s: %s", sql, PQcmdStatus(result));
    PQclear(result);
}

static void expect_error(PGconn *conn, const char *sql, const char *sqlstate) {
    wire_expect_error(conn, sql, sqlstate);
    cr_expect_eq(PQtransactionStatus(conn), PQTRANS_IDLE);
}

static void expect_value(PGconn *conn, const char *sql, const char *value) {
    PGresult *result = PQexec(conn, sql);
    cr_expect_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    cr_expect(PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), value) == 0, "%s: %s", sql,
              PQntuples(result) == 0 ? "no row" : PQgetvalue(result, 0, 0));
    PQclear(result);
}

/* A table of ten rows (0, "row 0"), … */
static void make_table(PGconn *conn) {
    expect_command(conn, "create table t (a bigint primary key, b text) partition by hash (a)",
                   "CREATE TABLE");
    expect_command(conn,
                   "insert into t values (0,'row 0'),(1,'row 1'),(2,'row 2'),(3,'row 3'),"
                   "(4,'row 4'),(5,'row 5'),(6,'row 6'),(7,'row 7'),(8,'row 8'),(9,'row 9')",
                   "INSERT 0 10");
}

static void check_simple(PGconn *conn) {
    expect_value(conn, "select b from t where a = 3", "row 3");
    expect_value(conn, "select count(*) from t", "10");
    expect_command(conn, "update t set b = 'new' where a = 9", "UPDATE 1");
    expect_value(conn, "select 1; select b from t where a = 9", "new");
    expect_error(conn, "select b from nope", "42P01");
    expect_error(conn, "selec 1", "42601");
    expect_error(conn, "insert into t values (20, 'x'); insert into t values (1, 'y')", "23505");
    expect_value(conn, "select count(*) from t where a = 20", "0");
    expect_error(conn, "begin", "0A000");
    PGresult *result = PQexec(conn, "");
    cr_expect_eq(PQresultStatus(result), PGRES_EMPTY_QUERY);
    PQclear(result);
    result = PQexec(conn, "select a,\n  nope from t");
    cr_expect_str_eq(PQresultErrorField(result, PG_DIAG_STATEMENT_POSITION), "13");
    PQclear(result);
}

static void check_parameters(PGconn *conn) {
    static const char *const texts[] = {"4"};
    int64_t big_endian = (int64_t)__builtin_bswap64(5);
    const char *binary[] = {(const char *)&big_endian};
    static const int lengths[] = {8};
    static const int formats[] = {1};
    PGresult *result =
        PQexecParams(conn, "select b from t where a = $1", 1, NULL, texts, NULL, NULL, 0);
    cr_expect_str_eq(PQgetvalue(result, 0, 0), "row 4");
    PQclear(result);
    result = PQprepare(conn, "find", "select a, b from t where a = $1", 0, NULL);
    cr_expect_eq(PQresultStatus(result), PGRES_COMMAND_OK, "%s", PQerrorMessage(conn));
    PQclear(result);
    result = PQdescribePrepared(conn, "find");
    cr_expect_eq(PQnparams(result), 1);
    cr_expect_eq(PQparamtype(result, 0), 20, "inferred: bigint");
    cr_expect_eq(PQftype(result, 1), 25);
    PQclear(result);
    result = PQexecPrepared(conn, "find", 1, binary, lengths, formats, 1);
    cr_expect_eq(PQntuples(result), 1, "%s", PQerrorMessage(conn));
    cr_expect_eq(memcmp(PQgetvalue(result, 0, 0), &big_endian, 8), 0);
    PQclear(result);
}

/* A pipeline: a group that works, one that fails in the middle, one that works again. */
static void check_pipeline(PGconn *conn) {
    static const char *const five[] = {"5"};
    static const char *const bad[] = {"x"};
    static const ExecStatusType wanted[] = {
        PGRES_TUPLES_OK,        PGRES_TUPLES_OK,     PGRES_PIPELINE_SYNC, PGRES_FATAL_ERROR,
        PGRES_PIPELINE_ABORTED, PGRES_PIPELINE_SYNC, PGRES_TUPLES_OK,     PGRES_PIPELINE_SYNC,
    };
    cr_assert_eq(PQenterPipelineMode(conn), 1);
    cr_assert_eq(PQsendQueryPrepared(conn, "find", 1, five, NULL, NULL, 0), 1);
    cr_assert_eq(PQsendQueryPrepared(conn, "find", 1, five, NULL, NULL, 0), 1);
    cr_assert_eq(PQpipelineSync(conn), 1);
    cr_assert_eq(PQsendQueryPrepared(conn, "find", 1, bad, NULL, NULL, 0), 1);
    cr_assert_eq(PQsendQueryPrepared(conn, "find", 1, five, NULL, NULL, 0), 1);
    cr_assert_eq(PQpipelineSync(conn), 1);
    cr_assert_eq(PQsendQueryPrepared(conn, "find", 1, five, NULL, NULL, 0), 1);
    cr_assert_eq(PQpipelineSync(conn), 1);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        PGresult *result = PQgetResult(conn);
        cr_expect_eq(PQresultStatus(result), wanted[i], "step %zu: %s", i,
                     PQresStatus(PQresultStatus(result)));
        PQclear(result);
        if (wanted[i] != PGRES_PIPELINE_SYNC) {
            cr_expect(PQgetResult(conn) == NULL);
        }
    }
    cr_assert_eq(PQexitPipelineMode(conn), 1);
}

static void check_settings(PGconn *conn) {
    cr_expect_str_eq(PQparameterStatus(conn, "server_version"), "15.0 (dbosd 0.1)");
    expect_command(conn, "set application_name = 'tests'", "SET");
    cr_expect_str_eq(PQparameterStatus(conn, "application_name"), "tests");
    expect_value(conn, "show application_name", "tests");
    expect_command(conn, "reset application_name", "RESET");
    expect_command(conn, "set statement_timeout = '1500ms'", "SET");
    expect_value(conn, "show statement_timeout", "1500ms");
    expect_command(conn, "set statement_timeout = 60000", "SET");
    expect_value(conn, "show statement_timeout", "1min");
    expect_error(conn, "set nope = 1", "42704");
    expect_error(conn, "set timezone = 'Europe/Paris'", "22023");
    expect_error(conn, "set client_encoding = 'LATIN1'", "22023");
    expect_error(conn, "set server_version = '16'", "55P02");
    expect_error(conn, "select 1; show timezone", "0A000");
    expect_value(conn, "set statement_timeout = '2s'; show statement_timeout", "2s");
    expect_command(conn, "reset all", "RESET");
}

Test(wire_clients, libpq_has_its_simple_prepared_and_pipelined_statements) {
    for (int network = 0; network < NETWORK_COUNT; network++) {
        struct wire_node node;
        start(&node, network);
        PGconn *conn = connect_to(&node, "");
        cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
        make_table(conn);
        check_simple(conn);
        check_parameters(conn);
        check_pipeline(conn);
        check_settings(conn);
        PQfinish(conn);
        wire_node_stop(&node);
    }
}

static void expect_refused(const struct wire_node *node, const char *more, const char *words) {
    PGconn *conn = connect_to(node, more);
    cr_expect_eq(PQstatus(conn), CONNECTION_BAD);
    cr_expect(strstr(PQerrorMessage(conn), words) != NULL, "%s: %s", more, PQerrorMessage(conn));
    PQfinish(conn);
}

Test(wire_clients, the_start_up_takes_a_database_and_settings_and_refuses_others) {
    struct wire_node node;
    start(&node, 0);
    expect_refused(&node, "dbname=other", "database \"other\" does not exist");
    expect_refused(&node, "options='-c nope=1'", "unrecognized configuration parameter");
    expect_refused(&node, "replication=true", "not supported");
    PGconn *conn = connect_to(&node, "options='-c statement_timeout=7s' application_name=me");
    cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
    expect_value(conn, "show statement_timeout", "7s");
    expect_value(conn, "show application_name", "me");
    expect_command(conn, "set statement_timeout = '1s'", "SET");
    expect_command(conn, "reset statement_timeout", "RESET");
    expect_value(conn, "show statement_timeout", "7s");
    PQfinish(conn);
    wire_node_stop(&node);
}

/* -- byte by byte -------------------------------------------------------------------------------
 */

static void expect_reply(struct wire_client *client, char last, int count, const char *wanted) {
    const char *got = wire_read(client, last, count);
    cr_expect_str_eq(got, wanted, "\n   got  %s\n   want %s", got, wanted);
}

static const char *const none[] = {NULL};
static const char *const three[] = {"3", NULL};
static const char *const five[] = {"5", NULL};
static const char *const word[] = {"x", NULL};

static void check_extended(struct wire_client *c) {
    wire_put_parse(c, "s", "select a from t where a < $1", 0);
    wire_put_target(c, 'D', 'S', "s");
    wire_put_bare(c, 'H'); /* postgres.js waits here */
    expect_reply(c, 'T', 1, "1 t[20] T");
    wire_put_bind(c, "", "s", three);
    wire_put_target(c, 'D', 'P', "");
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "2 T D*3 C(SELECT 3) Z");
    wire_put_bind_binary(c, "s", "\0\0\0\0\0\0\0\2", 8);
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "2 D*2 C(SELECT 2) Z");
    /* psycopg sends the narrowest integer that holds the value. */
    wire_put_parse(c, "narrow", "select a from t where a < $1", 21);
    wire_put_bind_binary(c, "narrow", "\0\2", 2);
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "1 2 D*2 C(SELECT 2) Z");
    wire_put_parse(c, "", "", 0);
    wire_put_bind(c, "", "", none);
    wire_put_target(c, 'D', 'P', "");
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "1 2 n I Z");
    wire_put_parse(c, "", "show timezone", 0);
    wire_put_bind(c, "", "", none);
    wire_put_target(c, 'D', 'P', "");
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "1 2 T D*1 C(SHOW) Z");
}

static void check_portals(struct wire_client *c) {
    wire_put_bind(c, "p", "s", five);
    for (int i = 0; i < 4; i++) {
        wire_put_execute(c, "p", 2);
    }
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "2 D*2 s D*2 s D*1 C(SELECT 1) C(SELECT 0) Z");
    /* Two at once, in turns. */
    wire_put_bind(c, "p", "s", three);
    wire_put_bind(c, "q", "s", three);
    wire_put_execute(c, "p", 1);
    wire_put_execute(c, "q", 2);
    wire_put_execute(c, "p", 0);
    wire_put_execute(c, "q", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "2 2 D*1 s D*2 s D*2 C(SELECT 2) D*1 C(SELECT 1) Z");
    /* A cursor of node-postgres: Flush, not Sync. */
    wire_put_bind(c, "p", "s", five);
    wire_put_execute(c, "p", 3);
    wire_put_bare(c, 'H');
    expect_reply(c, 's', 1, "2 D*3 s");
    wire_put_execute(c, "p", 3);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "D*2 C(SELECT 2) Z");
    wire_put_execute(c, "p", 3);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "E(34000 portal \"p\" does not exist) Z");
    /* JDBC executes updates with a limit of one row. */
    wire_put_parse(c, "", "update t set b = 'u' where a < 2", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 1);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "1 2 C(UPDATE 2) Z");
}

/* After an error everything is skipped up to the Sync, and nothing of the group remains. */
static void check_errors(struct wire_client *c) {
    wire_put_parse(c, "", "select a from nope", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    wire_put_query(c, "select 1");
    expect_reply(c, 'Z', 2, "E(42P01 relation \"nope\" does not exist) Z T D*1 C(SELECT 1) Z");
    wire_put_parse(c, "", "insert into t values (77, 'x')", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_bind(c, "", "s", word);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "1 2 E(22P02 invalid input syntax for type bigint: \"x\") Z");
    wire_put_parse(c, "", "insert into t values (77, 'x')", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_parse(c, "", "select 1 / (a - a) from t where a = 1", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    wire_put_query(c, "select a from t where a = 77");
    expect_reply(c, 'Z', 2, "1 2 E(22012 division by zero) Z T C(SELECT 0) Z");
    wire_put_bind(c, "", "zz", none);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "E(26000 prepared statement \"zz\" does not exist) Z");
    wire_put_parse(c, "s", "select 1", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "E(42P05 prepared statement \"s\" already exists) Z");
    wire_put_parse(c, "", "select 1; select 2", 0);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "E(42601 cannot insert multiple commands into a prepared statement) Z");
    wire_put_bind(c, "", "s", none);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1,
                 "E(08P01 bind message supplies 0 parameters, but prepared statement \"s\" "
                 "requires 1) Z");
    wire_put_bytes(c, "F\0\0\0\4", 5);
    expect_reply(c, 'Z', 1, "E(0A000 the function call protocol is not supported) Z");
    wire_put_bytes(c,
                   "d\0\0\0\5x"
                   "c\0\0\0\4",
                   11); /* left over from a COPY */
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 1, "Z");
}

/* DDL in the middle of a pipeline: what follows sees the new catalogue. */
static void check_definitions(struct wire_client *c) {
    wire_put_parse(c, "", "create table u (a int primary key)", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_parse(c, "", "insert into u values (1)", 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
    wire_put_bare(c, 'S');
    wire_put_query(c, "select a from u");
    wire_put_query(c, "drop table u");
    wire_put_query(c, "select a from u");
    expect_reply(c, 'Z', 4,
                 "1 2 C(CREATE TABLE) 1 2 C(INSERT 0 1) Z T D*1 C(SELECT 1) Z C(DROP TABLE) Z "
                 "E(42P01 relation \"u\" does not exist) Z");
    /* A prepared statement whose table has another shape now. */
    wire_put_query(c, "create table v (a int primary key)");
    wire_put_parse(c, "v", "select * from v", 0);
    wire_put_bare(c, 'S');
    wire_put_query(c, "drop table v; create table v (a text primary key)");
    wire_put_bind(c, "", "v", none);
    wire_put_bare(c, 'S');
    expect_reply(c, 'Z', 4,
                 "C(CREATE TABLE) Z 1 Z C(DROP TABLE) C(CREATE TABLE) Z "
                 "E(0A000 cached plan must not change result type) Z");
}

Test(wire_clients, the_extended_protocol_is_postgresqls_step_by_step) {
    for (int network = 0; network < NETWORK_COUNT; network++) {
        struct wire_node node;
        struct wire_client client;
        start(&node, network);
        PGconn *conn = connect_to(&node, "");
        make_table(conn);
        PQfinish(conn);
        wire_begin(&client, &node);
        check_extended(&client);
        check_portals(&client);
        check_errors(&client);
        check_definitions(&client);
        wire_put_bare(&client, 'X');
        expect_reply(&client, 'Z', 1, "EOF");
        wire_close(&client);
        wire_node_stop(&node);
    }
}

/* Parse, Bind and Execute of a statement without parameters. */
static void put_statement(struct wire_client *c, const char *query) {
    wire_put_parse(c, "", query, 0);
    wire_put_bind(c, "", "", none);
    wire_put_execute(c, "", 0);
}

Test(wire_clients, a_portal_bound_before_a_column_changed_its_type_is_refused) {
    struct wire_node node;
    struct wire_client client;
    start(&node, 0);
    wire_begin(&client, &node);
    wire_put_query(&client, "create table x (k bigint primary key, v bigint)");
    expect_reply(&client, 'Z', 1, "C(CREATE TABLE) Z");
    for (int rebinds = 1; rebinds >= 0; rebinds--) {
        wire_put_parse(&client, rebinds ? "s" : "r", "insert into x values (1, $1)", 0);
        wire_put_bind(&client, "p1", rebinds ? "s" : "r", five);
        put_statement(&client, "drop table x");
        put_statement(&client, rebinds ? "create table x (k bigint primary key, v text)"
                                       : "create table x (k bigint primary key, v bytea)");
        if (rebinds) {
            wire_put_bind(&client, "p2", "s", word);
        }
        wire_put_execute(&client, "p1", 0);
        wire_put_bare(&client, 'S');
        wire_put_query(&client, "select k from x");
        expect_reply(&client, 'Z', 2,
                     rebinds ? "1 2 1 2 C(DROP TABLE) 1 2 C(CREATE TABLE) "
                               "E(0A000 cached plan must not change result type) Z T "
                               "C(SELECT 0) Z"
                             : "1 2 1 2 C(DROP TABLE) 1 2 C(CREATE TABLE) "
                               "E(42804 column \"v\" is of type bytea but expression is of type "
                               "text) Z T C(SELECT 0) Z");
    }
    wire_close(&client);
    wire_node_stop(&node);
}

Test(wire_clients, a_failure_before_a_sync_skips_nothing_behind_it) {
    struct wire_node node;
    struct wire_client client;
    start(&node, 0);
    wire_begin(&client, &node);
    wire_put_query(&client, "create table y (k int primary key); insert into y values (1)");
    expect_reply(&client, 'Z', 1, "C(CREATE TABLE) C(INSERT 0 1) Z");
    put_statement(&client, "insert into y values (1)");
    wire_put_bare(&client, 'S');
    put_statement(&client, "insert into y values (201)");
    wire_put_bare(&client, 'H');
    put_statement(&client, "insert into y values (202)");
    wire_put_bare(&client, 'S');
    wire_put_query(&client, "select k from y");
    const char *got = wire_read(&client, 'Z', 3);
    cr_expect(strstr(got, "E(23505 ") != NULL, "%s", got);
    cr_expect(strstr(got, "Z 1 2 C(INSERT 0 1) 1 2 C(INSERT 0 1) Z T D*3 C(SELECT 3) Z") != NULL,
              "%s", got);
    wire_close(&client);
    wire_node_stop(&node);
}

/* Far more in flight than the node looks ahead, and replies that nobody reads for a while. */
Test(wire_clients, a_long_pipeline_is_answered_in_order) {
    enum { COUNT = 5000 };
    for (int network = 0; network < NETWORK_COUNT; network++) {
        struct wire_node node;
        struct wire_client client;
        start(&node, network);
        PGconn *conn = connect_to(&node, "");
        make_table(conn);
        PQfinish(conn);
        wire_begin(&client, &node);
        wire_put_parse(&client, "s", "update t set b = b where a = $1", 0);
        for (int i = 0; i < COUNT; i++) {
            char number[16];
            const char *const values[] = {number, NULL};
            (void)snprintf(number, sizeof number, "%d", i % 10);
            wire_put_bind(&client, "", "s", values); /* several partitions, by turns */
            wire_put_execute(&client, "", 0);
        }
        wire_put_bare(&client, 'S');
        expect_reply(&client, 'C', 1, "1 2 C(UPDATE 1)");
        for (int i = 1; i < COUNT; i++) {
            const char *got = wire_read(&client, 'C', 1);
            cr_assert_str_eq(got, "2 C(UPDATE 1)", "statement %d: %s", i, got);
        }
        expect_reply(&client, 'Z', 1, "Z");
        for (int i = 0; i < COUNT; i++) {
            char number[16];
            const char *const values[] = {number, NULL};
            (void)snprintf(number, sizeof number, "%d", i % 10);
            wire_put_bind(&client, "", "s", values);
            wire_put_execute(&client, "", 0);
            wire_put_bare(&client, 'S');
        }
        wire_send(&client);
        for (int i = 0; i < COUNT; i++) {
            const char *got = wire_read(&client, 'Z', 1);
            cr_assert_str_eq(got, "2 C(UPDATE 1) Z", "reply %d: %s", i, got);
        }
        wire_close(&client);
        wire_node_stop(&node);
    }
}

/* -- what is no client --------------------------------------------------------------------------
 */

struct garbage {
    const char *bytes;
    size_t size_bytes;
    const char *reply;
};

static const struct garbage garbage[] = {
    {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 35, "EOF"},
    {"\0\0\0\0\0\0\0\0", 8, "EOF"},
    {"\x7f\xff\xff\xff\0\3\0\0", 8, "EOF"},
    {"\0\0\0\x08\0\2\0\0", 8,
     "E(08P01 unsupported frontend protocol 2.0: server supports 3.0 to 3.0) EOF"},
    {"\0\0\0\x0e\0\3\0\0user\0x", 14,
     "E(08P01 invalid startup packet layout: expected terminator as last byte) EOF"},
    {"\0\0\0\x09\0\3\0\0\0", 9, "E(28000 no PostgreSQL user name specified in startup packet) EOF"},
};

/* The same conversation goes on while others are thrown out. */
Test(wire_clients, garbage_closes_its_own_connection_and_nothing_else) {
    for (int network = 0; network < NETWORK_COUNT; network++) {
        struct wire_node node;
        struct wire_client good;
        struct wire_client bad;
        struct wire_client silent;
        start(&node, network);
        wire_open(&silent, &node);
        wire_put_bytes(&silent, "\0\0\0\x20\0\3", 6); /* half a packet, then nothing */
        wire_send(&silent);
        wire_begin(&good, &node);
        for (size_t i = 0; i < sizeof garbage / sizeof garbage[0]; i++) {
            wire_open(&bad, &node);
            wire_put_bytes(&bad, garbage[i].bytes, garbage[i].size_bytes);
            expect_reply(&bad, 'Z', 1, garbage[i].reply);
            wire_close(&bad);
            wire_put_query(&good, "select 1");
            expect_reply(&good, 'Z', 1, "T D*1 C(SELECT 1) Z");
        }
        wire_begin(&bad, &node);
        wire_put_bytes(&bad, "Q\x7f\xff\xff\xff", 5);
        expect_reply(&bad, 'Z', 1, "E(08P01 invalid message length) EOF");
        wire_close(&bad);
        wire_begin(&bad, &node);
        wire_put_bytes(&bad, "z\0\0\0\4", 5);
        expect_reply(&bad, 'Z', 1, "E(08P01 invalid frontend message type 122) EOF");
        wire_close(&bad);
        wire_open(&bad, &node); /* SSLRequest, GSSENCRequest: no; then plain */
        wire_put_bytes(&bad, "\0\0\0\x08\x04\xd2\x16\x2f", 8);
        wire_send(&bad);
        char answer = 0;
        cr_expect_eq(read(bad.file, &answer, 1), 1);
        cr_expect_eq(answer, 'N');
        wire_close(&bad);
        expect_reply(&silent, 'Z', 1, "EOF"); /* after ten seconds */
        wire_close(&silent);
        wire_put_query(&good, "select 1");
        expect_reply(&good, 'Z', 1, "T D*1 C(SELECT 1) Z");
        wire_close(&good);
        wire_node_stop(&node);
    }
}

static void *connect_late(void *node) { return connect_to(node, ""); }

Test(wire_clients, one_session_too_many_is_told_so) {
    enum { MAX = 50, STARTING = 64 };
    struct wire_node node;
    PGconn *conns[MAX];
    struct wire_client silent[STARTING];
    start(&node, 0);
    for (int i = 0; i < MAX; i++) {
        conns[i] = connect_to(&node, "");
        cr_assert_eq(PQstatus(conns[i]), CONNECTION_OK, "%d: %s", i, PQerrorMessage(conns[i]));
    }
    expect_refused(&node, "", "sorry, too many clients already");
    for (int i = 0; i < STARTING; i++) {
        wire_open(&silent[i], &node);
    }
    pthread_t thread; /* where none may even begin to start, a client waits until it is told */
    void *late = NULL;
    cr_assert_eq(pthread_create(&thread, NULL, connect_late, &node), 0);
    (void)usleep(200000);
    for (int i = 0; i < STARTING; i++) {
        wire_close(&silent[i]);
    }
    (void)pthread_join(thread, &late);
    cr_expect(strstr(PQerrorMessage(late), "sorry, too many clients already") != NULL, "%s",
              PQerrorMessage(late));
    PQfinish(late);
    PQfinish(conns[0]);
    PGconn *conn = NULL;
    for (int i = 0; i < 100; i++) { /* the node hears of the end a moment later */
        conn = connect_to(&node, "");
        if (PQstatus(conn) == CONNECTION_OK) {
            break;
        }
        PQfinish(conn);
        conn = NULL;
        (void)usleep(10000);
    }
    cr_assert(conn != NULL);
    expect_value(conn, "select 1", "1");
    PQfinish(conn);
    for (int i = 1; i < MAX; i++) {
        PQfinish(conns[i]);
    }
    wire_node_stop(&node);
}

/* -- cancel and stop ----------------------------------------------------------------------------
 */

/* Enough rows for a scan to take many milliseconds. */
static void make_long_table(PGconn *conn) {
    enum { STATEMENTS = 20, ROWS = 2000 };
    static const char filler[] = "abcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabcabc";
    char *sql = malloc((size_t)ROWS * 100);
    cr_assert(sql != NULL);
    expect_command(conn, "create table l (a bigint primary key, b text)", "CREATE TABLE");
    for (int s = 0; s < STATEMENTS; s++) {
        size_t used = (size_t)sprintf(sql, "insert into l values ");
        for (int i = 0; i < ROWS; i++) {
            used +=
                (size_t)sprintf(sql + used, "%s(%d,'%s')", i == 0 ? "" : ",", s * ROWS + i, filler);
        }
        expect_command(conn, sql, "INSERT 0 2000");
    }
    free(sql);
}

static const char long_query[] =
    "select count(*) from l where b like '%a%b%c%a%b%x%' or b like '%c%b%a%c%b%y%'";

/* The SQLSTATE of the next result, "" when it is one; the connection is idle afterwards. */
static void finish(PGconn *conn, char sqlstate[6]) {
    PGresult *result = PQgetResult(conn);
    const char *got = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(sqlstate, 6, "%s", got == NULL ? "" : got);
    while (result != NULL) {
        PQclear(result);
        result = PQgetResult(conn);
    }
}

Test(wire_clients, a_statement_is_canceled_by_its_key_and_by_its_time) {
    struct wire_node node;
    char sqlstate[6];
    char error[256];
    start(&node, 0);
    PGconn *conn = connect_to(&node, "");
    PGconn *other = connect_to(&node, "");
    make_long_table(conn);
    expect_command(conn, "set statement_timeout = '1ms'", "SET");
    expect_error(conn, long_query, "57014");
    expect_command(conn, "set statement_timeout = 0", "SET");
    expect_value(conn, long_query, "0");
    int canceled = 0;
    PGcancel *cancel = PQgetCancel(conn);
    PGcancel *wrong = PQgetCancel(other);
    for (int i = 0; i < 200 && canceled < 3; i++) {
        cr_assert_eq(PQsendQuery(conn, long_query), 1);
        cr_assert_eq(PQcancel(cancel, error, sizeof error), 1);
        finish(conn, sqlstate);
        cr_expect(sqlstate[0] == 0 || strcmp(sqlstate, "57014") == 0, "%s", sqlstate);
        canceled += sqlstate[0] != 0;
    }
    cr_expect(canceled > 0, "never in time");
    for (int i = 0; i < 10; i++) { /* the other's key: not ours */
        cr_assert_eq(PQsendQuery(conn, long_query), 1);
        cr_assert_eq(PQcancel(wrong, error, sizeof error), 1);
        finish(conn, sqlstate);
        cr_expect_str_eq(sqlstate, "");
    }
    PQfreeCancel(cancel);
    PQfreeCancel(wrong);
    PQfinish(conn);
    PQfinish(other);
    wire_node_stop(&node);
}

/* What was submitted ends although nobody waits for it. */
Test(wire_clients, a_client_that_vanishes_harms_nobody) {
    enum { CLIENTS = 20 };
    struct wire_node node;
    struct wire_client clients[CLIENTS];
    start(&node, 0);
    PGconn *conn = connect_to(&node, "");
    make_table(conn);
    for (int i = 0; i < CLIENTS; i++) {
        char sql[64];
        wire_begin(&clients[i], &node);
        (void)snprintf(sql, sizeof sql, "insert into t values (%d, 'gone')", 100 + i);
        wire_put_query(&clients[i], sql);
        wire_send(&clients[i]);
        (void)usleep((useconds_t)(i % 4) * 300);
        wire_close(&clients[i]);
    }
    expect_command(conn, "insert into t values (99, 'here')", "INSERT 0 1");
    expect_value(conn, "select b from t where a = 99", "here");
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(wire_clients, an_idle_client_hears_that_the_node_stops) {
    struct wire_node node;
    struct wire_client client;
    start(&node, 0);
    wire_begin(&client, &node);
    cr_assert_eq(kill(node.pid, SIGTERM), 0);
    expect_reply(&client, 'Z', 1,
                 "E(57P01 terminating connection due to administrator command) EOF");
    wire_close(&client);
    wire_node_stop(&node);
}

Test(wire_clients, a_stop_ends_a_statement_that_has_no_time_limit) {
    struct wire_node node;
    struct wire_client client;
    start(&node, 0);
    wire_begin(&client, &node);
    wire_put_query(&client, "set statement_timeout = 0");
    expect_reply(&client, 'Z', 1, "C(SET) Z");
    wire_put_query(&client, "select count(*) from generate_series(1, 1000000000000) as i");
    wire_send(&client);
    (void)usleep(100000);
    wire_node_stop(&node); /* SIGTERM, and it must come to an end */
    wire_close(&client);
}

/* The key goes with the next transaction, once. */
Test(wire_clients, an_idempotency_key_makes_a_retry_give_the_first_answer) {
    struct wire_node node;
    start(&node, 0);
    PGconn *conn = connect_to(&node, "");
    make_table(conn);
    for (int i = 0; i < 2; i++) {
        expect_command(conn,
                       "set local dbos.idempotency_key = 'k1'; insert into t values (50, 'once')",
                       "INSERT 0 1");
    }
    expect_error(conn, "insert into t values (50, 'once')", "23505");
    expect_error(conn, "set local dbos.idempotency_key = 'k1'; insert into t values (51, 'x')",
                 "22023");
    expect_value(conn, "select count(*) from t", "11");
    PQfinish(conn);
    wire_node_stop(&node);
}

/* The extended protocol describes rows on its own, the simple one with the reply. */
Test(wire_clients, a_retry_may_come_by_the_other_protocol) {
    static const char *const kinds[] = {"set local dbos.idempotency_key = 'a'",
                                        "set local dbos.idempotency_key = 'b'"};
    struct wire_node node;
    start(&node, 0);
    PGconn *conn = connect_to(&node, "");
    make_table(conn);
    for (int first = 0; first < 2; first++) {
        for (int i = 0; i < 2; i++) {
            expect_command(conn, kinds[first], "SET");
            PGresult *result = first == i ? PQexec(conn, "select b from t where a = 1")
                                          : PQexecParams(conn, "select b from t where a = 1", 0,
                                                         NULL, NULL, NULL, NULL, 0);
            cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(conn));
            cr_expect_eq(PQntuples(result), 1);
            cr_expect_eq(PQnfields(result), 1);
            cr_expect_str_eq(PQgetvalue(result, 0, 0), "row 1");
            PQclear(result);
        }
        expect_value(conn, "select count(*) from dbos.idempotency", first == 0 ? "1" : "2");
    }
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(wire_clients, a_table_may_have_the_name_of_one_of_the_systems) {
    struct wire_node node;
    start(&node, 0);
    PGconn *conn = connect_to(&node, "");
    expect_command(conn, "create table task (id int primary key)", "CREATE TABLE");
    expect_command(conn, "insert into task values (7)", "INSERT 0 1");
    expect_value(conn, "select id from task", "7");
    expect_value(conn, "select count(*) from dbos.task", "0");
    expect_error(conn, "create table x (id int, constraint task_pkey primary key (id))", "42P07");
    expect_command(conn, "drop table task", "DROP TABLE");
    PQfinish(conn);
    wire_node_stop(&node);
}

Test(wire_clients, another_address_than_loopback_is_refused) {
    int status = system(DBOS_BIN_DIR "/dbosd --data-dir /tmp/dbos-wire-never --address 0.0.0.0 "
                                     "--port 0 --no-archive --no-worker 2> /dev/null");
    cr_expect_eq(status, 256, "exit status 1");
    (void)system("rm -rf /tmp/dbos-wire-never");
}
