#include "tests/faults/scenario.h"

#include <stddef.h>

#define KIT(head, symbol) "CREATE " head " LANGUAGE c AS 'test/kit.so', '" symbol "'"

/* A partitioned table with every kind of index and one that exists once, each with a few rows; both
 * have a large value, which lies in a blob. */
#define TABLES                                                                                     \
    "CREATE TABLE t (k bigint PRIMARY KEY, a int, s text) PARTITION BY HASH (k)",                  \
        "CREATE INDEX t_s ON t (s, a)", "CREATE INDEX t_a ON t USING hash (a)",                    \
        "CREATE TABLE u (k int PRIMARY KEY, b bytea UNIQUE, f double precision)",                  \
        "INSERT INTO t SELECT i, i % 3, 'row ' || i FROM generate_series(1, 12) AS i",             \
        "INSERT INTO t VALUES (13, 1, repeat('large', 1500))",                                     \
        "INSERT INTO u VALUES (1, '\\x01', 0.5), (2, NULL, NULL)",                                 \
        "INSERT INTO u VALUES (3, convert_to(repeat('blob', 1300), 'UTF8'), 1)"

#define THINGS                                                                                     \
    "CREATE TABLE things (id bigint PRIMARY KEY, n int, t text, b bytea) PARTITION BY HASH (id)",  \
        "INSERT INTO things SELECT i, i, 'thing', '\\x0101' FROM generate_series(1, 6) AS i",      \
        "INSERT INTO things VALUES (7, 7, NULL, convert_to(repeat('x', 7000), 'UTF8'))",           \
        KIT("FUNCTION kit_put(bigint, int, text, bytea) RETURNS bigint", "kit_put"),               \
        KIT("FUNCTION kit_text(bigint) RETURNS text", "kit_text"),                                 \
        KIT("FUNCTION kit_all() RETURNS bigint", "kit_all"),                                       \
        KIT("FUNCTION kit_loop(bigint, int) RETURNS bigint", "kit_loop"),                          \
        KIT("PROCEDURE kit_abort(bigint, text)", "kit_abort")

/* What a start makes of procedures: one compiled, one in SQL, and a table that has large values. */
#define BOOT                                                                                       \
    "CREATE TABLE things (id bigint PRIMARY KEY, n int, t text, b bytea) PARTITION BY HASH (id)",  \
        "CREATE INDEX ON things (n, t)",                                                           \
        "INSERT INTO things VALUES (1, 1, 'one', NULL), (2, 2, NULL, '\\x02')",                    \
        "INSERT INTO things VALUES (7, 7, NULL, convert_to(repeat('x', 7000), 'UTF8'))",           \
        KIT("FUNCTION kit_text(bigint) RETURNS text", "kit_text"),                                 \
        "CREATE FUNCTION count_things() RETURNS bigint LANGUAGE sql AS "                           \
        "$$ SELECT count(*) FROM things $$"

#define ACCOUNTS                                                                                   \
    "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL) "  \
    "PARTITION BY HASH (id)",                                                                      \
        "INSERT INTO account VALUES (1, 'ada', 100), (2, 'grace', 50), (3, 'mary', 0)",            \
        "CREATE PROCEDURE transfer(source bigint, target bigint, amount bigint) LANGUAGE c AS "    \
        "'transfer.so', 'transfer'"

const struct fault_scenario fault_scenarios[] = {
    {.name = "boot_empty", .is_boot = true},
    {.name = "boot_log", .is_boot = true, .setup = {BOOT}},
    {.name = "boot_snapshot",
     .is_boot = true,
     .setup = {BOOT, "SELECT dbos_snapshot()",
               "INSERT INTO things VALUES (20, 2, repeat('after', 1000), NULL)",
               "DELETE FROM things WHERE id = 1", "UPDATE things SET n = n + 10 WHERE id > 5",
               "DROP INDEX things_n_t_idx", "CREATE TABLE v (k int PRIMARY KEY)",
               "INSERT INTO v VALUES (1)"}},
    {.name = "ddl",
     .setup = {TABLES},
     .statements =
         {
             {.sql = "CREATE TABLE w (k bigint, l int, s text DEFAULT 'none', UNIQUE (s), "
                     "PRIMARY KEY (k, l))"},
             {.sql = "CREATE TABLE p (k int PRIMARY KEY, v varchar(9)) PARTITION BY HASH (k)",
              FAULT_EXTENDED},
             {.sql = "CREATE INDEX t_new ON t (a, k)"},
             {.sql = "CREATE UNIQUE INDEX t_unique ON t USING hash (k, s)", FAULT_PREPARED},
             {.sql = "CREATE UNIQUE INDEX t_none ON t (k, a, a)", .state = "42P16"},
             {.sql = "DROP INDEX t_s"},
             {.sql = "DROP INDEX t_a, t_new"},
             {.sql = "INSERT INTO w VALUES (1, 1)"},
             {.sql = "DROP TABLE w, u"},
             {.sql = "CREATE TABLE w (k int)"},
             {.sql = "DROP TABLE t"},
         }},
    {.name = "load",
     .full_us = 1200000, /* the node looks once in a while, and only reads then */
     .setup = {TABLES},
     .statements =
         {
             {.sql = "INSERT INTO t SELECT i, i % 5, 'loaded ' || i FROM generate_series(100, 125) "
                     "AS i"},
             {.sql = "INSERT INTO t VALUES (200, 1, 'x'), (201, 2, repeat('yz', 2500)), (202, 3, "
                     "NULL)"},
             {.sql = "INSERT INTO t VALUES (300, 1, 'x'), (301, 1, 'y'), (300, 1, 'z')",
              .state = "23505"},
             {.sql = "INSERT INTO t VALUES ($1, $2, $3)", FAULT_EXTENDED, {"400", "4", "*"}},
             {.sql = "INSERT INTO u VALUES ($1, $2, 7) RETURNING k, b",
              FAULT_PREPARED,
              {"10", "*"}},
             {.sql = "INSERT INTO t VALUES ($1, $2, $3)", FAULT_PIPELINED, {"500", "5", "one"}},
             {.sql = "INSERT INTO t VALUES ($1, $2, $3)", FAULT_PIPELINED, {"501", "5", "*"}},
             {.sql = "INSERT INTO t VALUES ($1, $2, $3), ($1::bigint + 10, $2, $3)",
              FAULT_PIPELINED,
              {"502", "5", "three"}},
             {.sql = "INSERT INTO u (k) VALUES ($1)", FAULT_PIPELINED, {"11"}},
             {.sql = "INSERT INTO t SELECT k + 1000, a, s FROM t WHERE k < 100"},
             /* One passes to the next segment of the log, one does not fit into any. */
             {.sql = "INSERT INTO t SELECT i, 1, repeat('m', 4000) FROM generate_series(600, 601) "
                     "AS i"},
             {.sql = "INSERT INTO t SELECT i, 1, repeat('n', 4000) FROM generate_series(610, 611) "
                     "AS i",
              FAULT_EXTENDED},
             {.sql = "INSERT INTO t SELECT i, 1, repeat('o', 4000) FROM generate_series(620, 625) "
                     "AS i"},
             {.sql = "INSERT INTO t SELECT i, 1, repeat('p', 4000) FROM generate_series(630, 631) "
                     "AS i"},
         }},
    {.name = "change",
     .setup = {TABLES},
     .statements =
         {
             {.sql = "UPDATE t SET a = a + 1, s = s || '!' WHERE k = 4"},
             {.sql = "UPDATE t SET a = a * 2", FAULT_EXTENDED},
             {.sql = "UPDATE t SET s = $2 WHERE k = $1 RETURNING k, s", FAULT_PREPARED, {"5", "*"}},
             {.sql = "UPDATE u SET k = k + 10"},
             {.sql = "UPDATE t SET k = k + 1 WHERE k < 3", .state = "23505"},
             {.sql = "DELETE FROM t WHERE k = $1", FAULT_EXTENDED, {"13"}},
             {.sql = "DELETE FROM t WHERE a > 6 RETURNING *"},
             {.sql = "DELETE FROM u"},
             {.sql = "UPDATE t SET a = -1 WHERE k = 1; UPDATE t SET a = -2 WHERE k = 7; "
                     "DELETE FROM t WHERE k = 10"},
         }},
    {.name = "read",
     .setup = {TABLES},
     .statements =
         {
             {.sql = "SELECT * FROM t WHERE k = 4"},
             {.sql = "SELECT k, a, s FROM t WHERE k = $1", FAULT_EXTENDED, {"13"}},
             {.sql = "SELECT a, count(*), min(s), sum(k) FROM t GROUP BY a ORDER BY a"},
             {.sql = "SELECT DISTINCT a FROM t WHERE s > 'row 3' ORDER BY a DESC LIMIT 2"},
             {.sql = "SELECT k FROM t WHERE a = $1 ORDER BY k", FAULT_PREPARED, {"1"}},
             {.sql = "SELECT i, repeat('r', 1000) FROM generate_series(1, 150) AS i"},
             {.sql = "SELECT 1 / (k - 4) FROM t ORDER BY k", .state = "22012"},
             {.sql = "SELECT * FROM t ORDER BY s, k", FAULT_PIPELINED},
             {.sql = "SELECT b FROM u WHERE k = $1", FAULT_PIPELINED, {"3"}},
             {.sql = "SELECT count(*) > 5 FROM dbos.memory"},
         }},
    {.name = "call",
     .setup = {THINGS, ACCOUNTS},
     .statements =
         {
             {.sql = "SELECT kit_put(10, 1, 'new', '\\x0a')"},
             {.sql = "SELECT kit_put($1, $2, $3, $4)", FAULT_PREPARED, {"11", "2", "*", "*"}},
             {.sql = "SELECT kit_text(5)"},
             {.sql = "SELECT kit_loop($1, $2)", FAULT_EXTENDED, {"2", "3"}},
             {.sql = "SELECT kit_all()"},
             {.sql = "CALL transfer(1, 2, 30)"},
             {.sql = "CALL transfer($1, $2, $3)", FAULT_PIPELINED, {"2", "3", "15"}},
             {.sql = "CALL transfer($1, $2, $3)", FAULT_PIPELINED, {"1", "2", "5"}},
             {.sql = "CALL transfer(1, 9, 5)", .state = "P0001"},
             {.sql = "CALL kit_abort(12, 'given up')", .state = "P0001"},
             {.sql = "SET dbos.idempotency_key = 'once'; CALL transfer(2, 1, 7)"},
         }},
    {.name = "connect",
     .setup = {TABLES},
     .statements =
         {
             {.sql = "SELECT count(*) FROM t", FAULT_CONNECT},
             {.sql = "SET application_name = 'faults'; SHOW application_name"},
             {.sql = "INSERT INTO t VALUES (30, 3, 'connected')", FAULT_CONNECT},
             {.sql = "", FAULT_SIMPLE},
             {.sql = "SELEC", FAULT_SIMPLE, .state = "42601"},
             {.sql = "SELECT k FROM t WHERE k = $1", FAULT_EXTENDED, {"seven"}, "22P02"},
             {.sql = "SELECT user", FAULT_CONNECT},
         }},
    {.name = "snapshot",
     .setup = {TABLES},
     .statements =
         {
             {.sql = "SELECT dbos_snapshot()", .varies = true},
             {.sql = "INSERT INTO t VALUES (40, 4, repeat('between', 900))"},
             {.sql = "SELECT dbos_snapshot()", .varies = true},
             {.sql = "UPDATE t SET a = a + 1"},
             {.sql = "SELECT dbos_snapshot()", .varies = true},
         }},
    {.name = "stop",
     .is_stop = true,
     .setup = {TABLES},
     .statements =
         {
             {.sql = "INSERT INTO t VALUES (50, 5, repeat('stop', 1100))"},
             {.sql = "SELECT dbos_snapshot()", .varies = true},
             {.sql = "DELETE FROM u WHERE k = 1"},
             {.sql = "SELECT * FROM t ORDER BY k"},
         }},
    {.name = NULL},
};
