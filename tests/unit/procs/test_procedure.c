#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "procs/procedure_internal.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_procedure, .timeout = 60);

static struct node node;

static void function(const char *signature, const char *symbol) {
    char sql[256];
    (void)snprintf(sql, sizeof sql, "CREATE FUNCTION %s LANGUAGE c AS 'test/kit.so', '%s'",
                   signature, symbol);
    node_exec(&node, sql);
}

static void setup(void) {
    node_open(&node);
    node_exec(&node, "CREATE TABLE things (id bigint PRIMARY KEY, n int, t text, b bytea) "
                     "PARTITION BY HASH (id)");
}

static void setup_kit(void) {
    setup();
    function("kit_put(id bigint, n int, t text, b bytea) RETURNS bigint", "kit_put");
    function("kit_text(id bigint) RETURNS text", "kit_text");
    function("kit_stubborn(id bigint) RETURNS int", "kit_stubborn");
    function("kit_misuse(id bigint, what int) RETURNS int", "kit_misuse");
    function("kit_abort(id bigint, message text) RETURNS int", "kit_abort");
    function("kit_all() RETURNS bigint", "kit_all");
    function("kit_loop(id bigint, times int) RETURNS bigint", "kit_loop");
    function("kit_surroundings() RETURNS text", "kit_surroundings");
}

static void cleanup(void) { node_close(&node); }

static void setup_vote(void) {
    node_open(&node);
    node_exec(&node, "CREATE TABLE contestants (id int PRIMARY KEY, name text NOT NULL, "
                     "total bigint NOT NULL DEFAULT 0)");
    node_exec(&node, "INSERT INTO contestants (id, name) VALUES (1, 'a'), (2, 'b')");
    node_exec(&node, "CREATE TABLE votes (phone bigint NOT NULL, contestant int NOT NULL) "
                     "PARTITION BY HASH (phone)");
    node_exec(&node, "CREATE TABLE phone_votes (phone bigint PRIMARY KEY, n int NOT NULL) "
                     "PARTITION BY HASH (phone)");
    node_exec(&node, "CREATE FUNCTION vote(bigint, int, int) RETURNS int LANGUAGE c "
                     "AS 'vote.so', 'vote'");
    node_exec(&node, "CREATE FUNCTION vote_hot(bigint, int, int) RETURNS int LANGUAGE c "
                     "AS 'vote.so', 'vote_hot'");
}

static int64_t call_int(const char *name, const struct dbos_datum *arguments, uint32_t count) {
    struct dbos_datum value;
    enum dbos_err err = node_call(&node, name, arguments, count, &value);
    cr_assert_eq(err, DBOS_OK, "%s: %s %s", name, node.info.message, node.info.detail);
    cr_assert(!value.is_null);
    return value.integer;
}

static int64_t vote(const char *name, int64_t phone, int64_t contestant, int64_t votes_max) {
    struct dbos_datum arguments[] = {bigint(phone), integer(contestant), integer(votes_max)};
    return call_int(name, arguments, 3);
}

static struct dbos_procedure_handle *handle_of(const char *name) {
    const struct dbos_procedure_info *info =
        dbos_catalog_procedure(dbos_store_catalog(node.store), name);
    return info == NULL ? NULL : dbos_procs_find(node.procs, info->id, info->version);
}

/* -- calls ----------------------------------------------------------------------------------------
 */

Test(procs_procedure, votes_are_counted_as_the_benchmark_says, .init = setup_vote,
     .fini = cleanup) {
    cr_expect_eq(vote("vote", 5, 7, 2), 1);
    cr_expect_eq(vote("vote", 5, 1, 2), 0);
    cr_expect_eq(vote("vote", 5, 2, 2), 0);
    cr_expect_eq(vote("vote", 5, 1, 2), 2);
    cr_expect_eq(vote("vote_hot", 6, 2, 2), 0);
    cr_expect_eq(vote("vote_hot", 5, 2, 2), 2);
    node_expect(&node, "SELECT phone, n FROM phone_votes ORDER BY phone", "5|2\n6|1\n");
    node_expect(&node, "SELECT count(*) FROM votes", "3\n");
    node_expect(&node, "SELECT total FROM contestants ORDER BY id", "0\n1\n");
}

Test(procs_procedure, a_procedure_routes_by_what_it_declares, .init = setup_vote, .fini = cleanup) {
    uint32_t table = 0;
    uint32_t argument = 9;
    cr_expect(dbos_procedure_route(handle_of("vote"), &table, &argument));
    cr_expect_eq(table, dbos_catalog_table(dbos_store_catalog(node.store), NULL, "votes")->id);
    cr_expect_eq(argument, 0);
    cr_expect(!dbos_procedure_route(handle_of("vote_hot"), &table, &argument));
    cr_expect(!dbos_procedure_reads_only(handle_of("vote")));
}

/* What a call itself needs is in the transaction's arena, which keeps its memory. */
Test(procs_procedure, a_warm_call_does_not_allocate, .init = setup_kit, .fini = cleanup) {
    struct dbos_datum value;
    cr_expect_eq(node_call(&node, "kit_surroundings", NULL, 0, &value), DBOS_OK);
    atomic_store(&node.txn_alloc.fail_countdown, 1);
    cr_expect_eq(node_call(&node, "kit_surroundings", NULL, 0, &value), DBOS_OK);
    cr_expect_eq(atomic_load(&node.txn_alloc.fail_countdown), 1, "something was taken");
    atomic_store(&node.txn_alloc.fail_countdown, 0);
}

Test(procs_procedure, a_statement_that_runs_again_uses_its_memory_again, .init = setup_kit,
     .fini = cleanup) {
    struct dbos_datum put[] = {bigint(3), integer(4), text_of("abc"), bytea("x", 1)};
    cr_expect_eq(call_int("kit_put", put, 4), 1);
    struct dbos_datum few[] = {bigint(3), integer(10)};
    struct dbos_datum many[] = {bigint(3), integer(3000)};
    cr_expect_eq(call_int("kit_loop", few, 2), 40);
    size_t used = dbos_txn_arena(node.parts[node_partition_of(&node, 3)])->used_bytes;
    cr_expect_eq(call_int("kit_loop", many, 2), 12000);
    size_t more = dbos_txn_arena(node.parts[node_partition_of(&node, 3)])->used_bytes;
    cr_expect_lt(more, used + 100000, "%zu bytes after 10, %zu after 3000", used, more);
}

Test(procs_procedure, values_pass_in_and_out_unchanged, .init = setup_kit, .fini = cleanup) {
    struct dbos_datum none[] = {bigint(1), dbos_datum_null(DBOS_TYPE_INT4),
                                dbos_datum_null(DBOS_TYPE_TEXT), dbos_datum_null(DBOS_TYPE_BYTEA)};
    struct dbos_datum some[] = {bigint(2), integer(-7), text_of("grüße"), bytea("\0\1", 2)};
    struct dbos_datum empty[] = {bigint(3), integer(0), text_of(""), bytea("", 0)};
    cr_expect_eq(call_int("kit_put", none, 4), 1);
    cr_expect_eq(call_int("kit_put", some, 4), 1);
    cr_expect_eq(call_int("kit_put", empty, 4), 1);
    node_expect(&node, "SELECT id, n, t, b FROM things ORDER BY id",
                "1|||\n2|-7|grüße|\\x0001\n3|0||\\x\n");
    struct dbos_datum id = bigint(2);
    struct dbos_datum value;
    cr_expect_eq(node_call(&node, "kit_text", &id, 1, &value), DBOS_OK);
    cr_expect_eq(value.type, DBOS_TYPE_TEXT);
    cr_expect_eq(value.bytes.size_bytes, strlen("grüße"));
    cr_expect_eq(memcmp(value.bytes.data, "grüße", strlen("grüße")), 0);
    id.integer = 1;
    cr_expect_eq(node_call(&node, "kit_text", &id, 1, &value), DBOS_OK);
    cr_expect(value.is_null);
}

Test(procs_procedure, the_surroundings_come_from_the_engine, .init = setup_kit, .fini = cleanup) {
    struct dbos_datum value;
    cr_expect_eq(node_call(&node, "kit_surroundings", NULL, 0, &value), DBOS_OK, "%s",
                 node.info.message);
    cr_expect_eq(value.bytes.size_bytes, 6);
    cr_expect_eq(memcmp(value.bytes.data, "tester", 6), 0);
}

/* -- errors ---------------------------------------------------------------------------------------
 */

Test(procs_procedure, after_an_error_nothing_does_anything_and_the_error_stays, .init = setup_kit,
     .fini = cleanup) {
    struct dbos_datum id = bigint(8);
    cr_expect_eq(node_call(&node, "kit_stubborn", &id, 1, NULL), DBOS_ERR_UNIQUE, "%s",
                 node.info.message);
    cr_expect_str_eq(node.info.sqlstate, "23505");
    cr_expect_eq(node.info.position, 0);
    node_expect(&node, "SELECT count(*) FROM things", "0\n");
}

Test(procs_procedure, each_misuse_is_an_error_that_says_so, .init = setup_kit, .fini = cleanup) {
    static const struct {
        enum dbos_err err;
        const char *says;
    } cases[] = {
        {DBOS_ERR_UNDEFINED_PARAMETER, "asks for argument 9 of 2"},
        {DBOS_ERR_DATATYPE_MISMATCH, "asks for argument 0 as floating-point, but it is bigint"},
        {DBOS_ERR_DATATYPE_MISMATCH, "asks for argument 1 as bytes, but it is integer"},
        {DBOS_ERR_UNDEFINED_STATEMENT, "has no statement 77"},
        {DBOS_ERR_UNDEFINED_PARAMETER, "has 1 parameters, 0 are given"},
        {DBOS_ERR_UNDEFINED_PARAMETER, "has 1 parameters, 2 are given"},
        {DBOS_ERR_DATATYPE_MISMATCH, "bytes is given where bigint is expected"},
        {DBOS_ERR_INVALID_COLUMN_REFERENCE, "reads a column of statement 0 without a row"},
        {DBOS_ERR_INVALID_COLUMN_REFERENCE, "reads column 4 of statement 4, which returns 1"},
        {DBOS_ERR_DATATYPE_MISMATCH, "reads column 0 of statement 4 as floating-point"},
        {DBOS_ERR_DATATYPE_MISMATCH, "bytes is given where integer is expected"},
        {DBOS_ERR_OUT_OF_RANGE, "integer out of range"},
        {DBOS_ERR_OUT_OF_RANGE, "integer out of range"},
        {DBOS_ERR_ENCODING, "invalid byte sequence"},
        {DBOS_ERR_RAISED, "returned 5"},
        {DBOS_ERR_RAISED, "said and then forgotten"},
        {DBOS_OK, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dbos_datum arguments[] = {bigint(1), integer((int64_t)i)};
        enum dbos_err err = node_call(&node, "kit_misuse", arguments, 2, NULL);
        cr_expect_eq(err, cases[i].err, "%zu: %s: %s", i, dbos_err_name(err), node.info.message);
        cr_expect_not_null(strstr(node.info.message, cases[i].says), "%zu: \"%s\"", i,
                           node.info.message);
    }
    node_expect(&node, "SELECT count(*) FROM things", "0\n");
}

Test(procs_procedure, an_abort_undoes_everything_and_keeps_its_message, .init = setup_kit,
     .fini = cleanup) {
    char message[500];
    memset(message, 'm', sizeof message);
    memcpy(message + 381, "ü", 3); /* its second byte is the 383rd and last that fits */
    message[499] = '\0';
    struct dbos_datum arguments[] = {bigint(5), text_of("no more")};
    cr_expect_eq(node_call(&node, "kit_abort", arguments, 2, NULL), DBOS_ERR_RAISED);
    cr_expect_str_eq(node.info.sqlstate, "P0001");
    cr_expect_str_eq(node.info.message, "no more");
    message[383] = 'm';
    arguments[1] = text_of(message);
    cr_expect_eq(node_call(&node, "kit_abort", arguments, 2, NULL), DBOS_ERR_RAISED);
    cr_expect_eq(strlen(node.info.message), 383);
    message[381] = 'm';
    memcpy(message + 382, "ü", 2); /* now it would be cut in the middle */
    arguments[1] = text_of(message);
    cr_expect_eq(node_call(&node, "kit_abort", arguments, 2, NULL), DBOS_ERR_RAISED);
    cr_expect_eq(strlen(node.info.message), 382);
    cr_expect_eq(node.info.message[381], 'm');
    node_expect(&node, "SELECT count(*) FROM things", "0\n");
}

Test(procs_procedure, results_over_50_mb_are_an_error, .init = setup_kit, .fini = cleanup) {
    uint8_t *large = dbos_take(&node.alloc, DBOS_COLUMN_BYTES_MAX);
    for (int64_t i = 0; i < 51; i++) {
        memset(large, (int)i + 1, DBOS_COLUMN_BYTES_MAX);
        struct dbos_datum put[] = {bigint(i), integer(1), text_of("x"),
                                   bytea(large, DBOS_COLUMN_BYTES_MAX)};
        if (i == 49) {
            cr_expect_eq(call_int("kit_all", NULL, 0), INT64_C(49) * DBOS_COLUMN_BYTES_MAX);
        }
        cr_expect_eq(call_int("kit_put", put, 4), 1);
    }
    dbos_give(&node.alloc, large);
    cr_expect_eq(node_call(&node, "kit_all", NULL, 0, NULL), DBOS_ERR_LIMIT);
    cr_expect_str_eq(node.info.sqlstate, "54000");
}

Test(procs_procedure, a_row_of_another_partition_is_refused, .init = setup_vote, .fini = cleanup) {
    int64_t phone = node_value_on(&node, 0, 0);
    struct dbos_datum arguments[] = {bigint(phone), integer(1), integer(2)};
    struct dbos_datum value;
    struct dbos_run run = node_begin(&node, 1);
    enum dbos_err err =
        dbos_procedure_call(handle_of("vote"), &run, arguments, 3, NULL, &value, &node.info);
    cr_expect_eq(err, DBOS_ERR_WRONG_PARTITION, "%s", dbos_err_name(err));
    cr_expect_eq(node_end(&node, &run, err), DBOS_ERR_WRONG_PARTITION);
}

/* -- registration ---------------------------------------------------------------------------------
 */

Test(procs_procedure, create_refuses_what_is_wrong_and_leaves_nothing, .init = setup,
     .fini = cleanup) {
    static const struct {
        const char *sql;
        enum dbos_err err;
        const char *says;
    } cases[] = {
        {"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'no/such.so', 'f'", DBOS_ERR_UNDEFINED_FILE,
         "no/such.so"},
        {"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'test/kit.so', 'nothing'", DBOS_ERR_MODULE,
         "module has no procedure \"nothing\""},
        {"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'test/bad_functions.so', 'bad_functions'",
         DBOS_ERR_MODULE, "module uses functions that are not allowed: rand, time"},
        {"CREATE FUNCTION f() RETURNS int LANGUAGE c AS "
         "'dbos:00000000000000000000000000000000', 'f'",
         DBOS_ERR_UNDEFINED_FILE, "is not in the database"},
        {"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'vote.so', 'vote'",
         DBOS_ERR_UNDEFINED_TABLE, "contestants"},
        {"CREATE FUNCTION f(int) RETURNS int LANGUAGE sql AS 'SELECT id FROM nowhere'",
         DBOS_ERR_UNDEFINED_TABLE, "nowhere"},
        {"CREATE FUNCTION f(int) RETURNS text LANGUAGE sql AS 'SELECT id FROM things'",
         DBOS_ERR_INVALID_OBJECT_DEFINITION, "return type mismatch"},
        {"CREATE PROCEDURE f(int) LANGUAGE sql AS 'DROP TABLE things'", DBOS_ERR_NOT_SUPPORTED,
         "cannot change the schema"},
        {"CREATE PROCEDURE f(int) LANGUAGE sql AS 'SET a.b = 1'", DBOS_ERR_NOT_SUPPORTED, "SET"},
        {"CREATE PROCEDURE f(bigint) LANGUAGE sql SET dbos.partition = 'things.n=$1' "
         "AS 'DELETE FROM things WHERE id = $1'",
         DBOS_ERR_INVALID_OBJECT_DEFINITION, "not the partitioning column"},
        {"CREATE PROCEDURE f(bigint) LANGUAGE sql SET dbos.partition = 'things.id=$2' "
         "AS 'DELETE FROM things WHERE id = $1'",
         DBOS_ERR_INVALID_OBJECT_DEFINITION, "has 1 arguments"},
        {"CREATE PROCEDURE f(bigint) LANGUAGE sql SET dbos.partition = 'nowhere' "
         "AS 'DELETE FROM things WHERE id = $1'",
         DBOS_ERR_INVALID_OBJECT_DEFINITION, "not of the form"},
        {"CREATE PROCEDURE f(text) LANGUAGE sql SET dbos.partition = 'things.id=$1' "
         "AS 'DELETE FROM things WHERE t = $1'",
         DBOS_ERR_INVALID_OBJECT_DEFINITION, "the column is bigint, the argument text"},
        {"CREATE FUNCTION dbos_module_put() RETURNS int LANGUAGE sql AS 'SELECT 1'",
         DBOS_ERR_DUPLICATE_FUNCTION, "already exists"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        enum dbos_err err = node_try(&node, cases[i].sql);
        cr_expect_eq(err, cases[i].err, "%s: %s: %s", cases[i].sql, dbos_err_name(err),
                     node.info.message);
        cr_expect_not_null(strstr(node.info.message, cases[i].says), "%s: \"%s\"", cases[i].sql,
                           node.info.message);
        cr_expect_null(dbos_catalog_procedure(dbos_store_catalog(node.store), "f"));
    }
    node_expect(&node, "SELECT count(*) FROM dbos.module_chunk", "0\n");
}

Test(procs_procedure, a_replaced_procedure_gets_a_version_and_the_old_one_stays_for_tasks,
     .init = setup, .fini = cleanup) {
    node_exec(&node, "CREATE FUNCTION f(a bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1 + 1'");
    struct dbos_procedure_handle *first = handle_of("f");
    cr_expect_eq(node_try(&node, "CREATE FUNCTION f(a bigint) RETURNS bigint LANGUAGE sql "
                                 "AS 'SELECT $1 + 2'"),
                 DBOS_ERR_DUPLICATE_FUNCTION);
    cr_expect_eq(node_try(&node, "CREATE OR REPLACE PROCEDURE f(a bigint) LANGUAGE sql "
                                 "AS 'SELECT $1 + 2'"),
                 DBOS_ERR_WRONG_OBJECT_TYPE);
    node_exec(&node, "CREATE OR REPLACE FUNCTION f(a bigint) RETURNS bigint LANGUAGE sql "
                     "AS 'SELECT $1 + 2'");
    struct dbos_datum one = bigint(1);
    cr_expect_eq(call_int("f", &one, 1), 3);
    const struct dbos_procedure_info *info = dbos_procedure_info_of(handle_of("f"));
    cr_expect_eq(info->version, 2);
    cr_expect_eq(info->id, dbos_procedure_info_of(first)->id);
    cr_expect_eq(dbos_procs_find(node.procs, info->id, 1), first);
    struct dbos_datum value;
    struct dbos_run run = node_begin(&node, DBOS_PARTITION_ALL);
    cr_expect_eq(dbos_procedure_call(first, &run, &one, 1, NULL, &value, &node.info), DBOS_OK);
    cr_expect_eq(value.integer, 2);
    cr_expect_eq(node_end(&node, &run, DBOS_OK), DBOS_OK);
    node_exec(&node, "DROP FUNCTION f");
    cr_expect_null(handle_of("f"));
    cr_expect_eq(node_try(&node, "DROP FUNCTION f"), DBOS_ERR_UNDEFINED_FUNCTION);
    node_exec(&node, "DROP FUNCTION IF EXISTS f");
}

Test(procs_procedure, create_is_undone_with_its_transaction, .init = setup, .fini = cleanup) {
    cr_expect_eq(node_try(&node, "CREATE TABLE made (id bigint PRIMARY KEY) PARTITION BY HASH (id);"
                                 "CREATE FUNCTION f(bigint) RETURNS bigint LANGUAGE sql "
                                 "AS 'SELECT count(*) FROM made WHERE id = $1';"
                                 "INSERT INTO nowhere VALUES (1)"),
                 DBOS_ERR_UNDEFINED_TABLE);
    cr_expect_null(handle_of("f"));
    node_exec(&node, "CREATE TABLE made (id bigint PRIMARY KEY) PARTITION BY HASH (id);"
                     "CREATE FUNCTION f(bigint) RETURNS bigint LANGUAGE sql "
                     "AS 'SELECT count(*) FROM made WHERE id = $1';"
                     "INSERT INTO made VALUES (1)");
    struct dbos_datum one = bigint(1);
    cr_expect_eq(call_int("f", &one, 1), 1);
}

Test(procs_procedure, ddl_that_would_break_a_procedure_is_refused_and_names_it, .init = setup_vote,
     .fini = cleanup) {
    cr_expect_eq(node_try(&node, "DROP TABLE phone_votes"), DBOS_ERR_DEPENDENT_OBJECTS);
    cr_expect_not_null(strstr(node.info.message, "\"vote"), "%s", node.info.message);
    cr_expect_str_eq(node.info.sqlstate, "2BP01");
    cr_expect_eq(vote("vote", 5, 1, 2), 0);
    node_exec(&node, "CREATE INDEX by_contestant ON votes (contestant)");
    cr_expect_eq(vote("vote", 5, 1, 2), 0, "plans were made again");
    node_exec(&node, "DROP FUNCTION vote");
    node_exec(&node, "DROP FUNCTION vote_hot");
    node_exec(&node, "DROP TABLE phone_votes");
}

Test(procs_procedure, a_sql_procedure_finds_its_route, .init = setup, .fini = cleanup) {
    static const struct {
        const char *sql;
        bool routed;
        uint32_t argument;
        bool reads_only;
    } cases[] = {
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS int LANGUAGE sql "
         "AS 'SELECT n FROM things WHERE id = $2'",
         true, 1, true},
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS bigint LANGUAGE sql "
         "AS 'UPDATE things SET n = $1 WHERE id = $2; SELECT count(*) FROM things WHERE id = $2'",
         true, 1, false},
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS bigint LANGUAGE sql "
         "AS 'DELETE FROM things WHERE id = $1; SELECT count(*) FROM things WHERE id = $2'",
         false, 0, false},
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS bigint LANGUAGE sql "
         "AS 'SELECT count(*) FROM things WHERE id = $2 + 1'",
         false, 0, true},
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS bigint LANGUAGE sql "
         "AS 'SELECT count(*) FROM things WHERE id = 5'",
         false, 0, true},
        {"CREATE OR REPLACE FUNCTION f(a int, b bigint) RETURNS bigint LANGUAGE sql "
         "AS 'SELECT $2 + 1'",
         false, 0, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t table = 0;
        uint32_t argument = 0;
        node_exec(&node, cases[i].sql);
        struct dbos_procedure_handle *handle = handle_of("f");
        cr_expect_eq(dbos_procedure_route(handle, &table, &argument), cases[i].routed, "%s",
                     cases[i].sql);
        cr_expect_eq(argument, cases[i].argument, "%s", cases[i].sql);
        cr_expect_eq(dbos_procedure_reads_only(handle), cases[i].reads_only, "%s", cases[i].sql);
    }
}

Test(procs_procedure, a_sql_function_returns_the_first_value_of_its_last_statement, .init = setup,
     .fini = cleanup) {
    node_exec(&node, "CREATE FUNCTION f(id bigint, n int) RETURNS text LANGUAGE sql AS "
                     "'INSERT INTO things (id, n, t) VALUES ($1, $2, ''hello'');"
                     "SELECT t, n FROM things WHERE id = $1'");
    struct dbos_datum arguments[] = {bigint(4), integer(2)};
    struct dbos_datum value;
    cr_expect_eq(node_call(&node, "f", arguments, 2, &value), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(value.bytes.size_bytes, 5);
    cr_expect_eq(memcmp(value.bytes.data, "hello", 5), 0);
    cr_expect_eq(node_call(&node, "f", arguments, 2, &value), DBOS_ERR_UNIQUE);
}

/* -- modules in the database ----------------------------------------------------------------------
 */

Test(procs_procedure, everything_loads_again_from_the_tables_alone, .init = setup_vote,
     .fini = cleanup) {
    cr_expect_eq(vote("vote", 5, 1, 9), 0);
    cr_expect_eq(node_reload_procedures(&node), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(vote("vote", 5, 1, 9), 0);
    cr_expect_eq(vote("vote_hot", 5, 1, 9), 0);
    node_expect(&node, "SELECT count(*) FROM dbos.module_chunk", "1\n"); /* both share it */
}

Test(procs_procedure, an_uploaded_module_is_used_by_its_hash, .init = setup, .fini = cleanup) {
    char path[512];
    char hash[33];
    char sql[256];
    size_t size_bytes = 0;
    uint8_t *data = node_read_file(&node.alloc, node_module("test/good.so", path), &size_bytes);
    dbos_hash_text(dbos_hash128(0, data, size_bytes), hash);
    const struct dbos_procedure_info *put = dbos_procs_builtin(node.procs, "dbos_module_put");
    cr_assert_not_null(put);
    struct dbos_procedure_handle *handle = dbos_procs_find(node.procs, put->id, put->version);
    struct dbos_datum value;
    for (int attempt = 0; attempt < 2; attempt++) { /* a chunk may come twice */
        size_t half = size_bytes / 2;
        for (int64_t chunk = 0; chunk < 2; chunk++) {
            struct dbos_datum arguments[] = {
                text_of(hash), integer(chunk),
                bytea(data + (size_t)chunk * half, chunk == 0 ? half : size_bytes - half)};
            struct dbos_run run = node_begin(&node, DBOS_PARTITION_ALL);
            enum dbos_err err =
                dbos_procedure_call(handle, &run, arguments, 3, NULL, &value, &node.info);
            cr_expect_eq(node_end(&node, &run, err), DBOS_OK, "%s", node.info.message);
        }
    }
    dbos_give(&node.alloc, data);
    (void)snprintf(sql, sizeof sql,
                   "CREATE FUNCTION word(bigint) RETURNS text LANGUAGE c AS 'dbos:%s', 'word'",
                   hash);
    node_exec(&node, sql);
    struct dbos_datum two = bigint(2);
    cr_expect_eq(node_call(&node, "word", &two, 1, &value), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(memcmp(value.bytes.data, "two", 3), 0);
    two.integer = 3;
    cr_expect_eq(node_call(&node, "word", &two, 1, &value), DBOS_ERR_RAISED);
    cr_expect_str_eq(node.info.message, "no word for 3");
}

/* -- memory ---------------------------------------------------------------------------------------
 */

/* Fail the 1st take, then the 2nd, and so on until it succeeds: nothing remains of each failure,
 * and node_close() finds nothing lost. */
Test(procs_procedure, create_survives_every_failed_take, .init = setup, .fini = cleanup) {
    static const char sql[] =
        "CREATE FUNCTION kit_text(id bigint) RETURNS text LANGUAGE c AS 'test/kit.so', 'kit_text'";
    int64_t failures = 0;
    for (;;) {
        atomic_store(&node.alloc.fail_countdown, failures + 1);
        enum dbos_err err = node_try(&node, sql);
        atomic_store(&node.alloc.fail_countdown, 0);
        if (err == DBOS_OK) {
            break;
        }
        cr_assert_eq(err, DBOS_ERR_NOMEM, "take %lld: %s: %s", (long long)failures,
                     dbos_err_name(err), node.info.message);
        cr_assert_null(handle_of("kit_text"));
        failures++;
    }
    cr_expect_gt(failures, 20, "only %lld takes", (long long)failures);
    struct dbos_datum id = bigint(1);
    cr_expect_eq(node_call(&node, "kit_text", &id, 1, NULL), DBOS_OK, "%s", node.info.message);
}

Test(procs_procedure, a_call_survives_every_failed_take, .init = setup_kit, .fini = cleanup) {
    struct dbos_alloc *const allocs[] = {&node.alloc, &node.txn_alloc};
    uint8_t large[5000] = {0}; /* an object */
    for (size_t a = 0; a < 2; a++) {
        int64_t id = 100 * (int64_t)(a + 1);
        struct dbos_datum put[] = {bigint(id), integer(1), text_of("abc"),
                                   bytea(large, sizeof large)};
        enum dbos_err err = DBOS_ERR_NOMEM;
        int64_t failures = 0;
        for (; err != DBOS_OK; failures++) {
            large[0] = (uint8_t)failures;
            atomic_store(&allocs[a]->fail_countdown, failures + 1);
            err = node_call(&node, "kit_put", put, 4, NULL);
            atomic_store(&allocs[a]->fail_countdown, 0);
            cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "take %lld: %s: %s",
                      (long long)failures, dbos_err_name(err), node.info.message);
        }
        cr_expect_gt(failures, 1, "allocator %zu was not used", a);
    }
    node_expect(&node, "SELECT id FROM things ORDER BY id", "100\n200\n");
}
