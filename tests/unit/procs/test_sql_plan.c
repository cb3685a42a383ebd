/* Plans: parameters, routes, where they may run, how they stop, and what they survive. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "procs/sql/type_io.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_sql_plan, .timeout = 60);

static const char *const schema =
    "CREATE TABLE p (k bigint PRIMARY KEY, small smallint, v varchar(10), t text)"
    " PARTITION BY HASH (k);"
    "CREATE TABLE u (a int PRIMARY KEY, b text, c double precision, z timestamptz);"
    "CREATE INDEX ON p (small);"
    "INSERT INTO u VALUES (1, 'one', 1.5, NULL), (2, 'two', NULL, NULL)";

struct planned {
    struct dbos_script *script;
    struct dbos_plan *plan;
};

static enum dbos_err make_plan(struct node *node, const char *sql, struct planned *out) {
    memset(&node->info, 0, sizeof node->info);
    out->plan = NULL;
    struct dbos_catalog *catalog = dbos_store_catalog(node->store);
    enum dbos_err err = dbos_script_parse(&node->alloc, sql, &out->script, &node->info);
    if (err == DBOS_OK) {
        err = dbos_plan_make(&node->alloc, catalog, node->procs, out->script, 0, NULL, 0,
                             &out->plan, &node->info);
        dbos_script_close(out->script); /* the plan keeps its own reference */
    }
    return err;
}

static struct dbos_plan *plan_of(struct node *node, const char *sql) {
    struct planned planned;
    enum dbos_err err = make_plan(node, sql, &planned);
    cr_assert_eq(err, DBOS_OK, "%s: %s", sql, node->info.message);
    return planned.plan;
}

/* -- parameters -----------------------------------------------------------------------------------
 */

Test(procs_sql_plan, parameters_take_the_type_of_what_they_meet) {
    static const struct {
        const char *sql;
        const char *types;
    } cases[] = {
        {"SELECT * FROM p WHERE k = $1", "bigint"},
        {"SELECT * FROM p WHERE $1 < small", "smallint"},
        {"SELECT * FROM p WHERE v = $1 AND t = $2", "text text"},
        {"INSERT INTO p VALUES ($1, $2, $3, $4)", "bigint smallint character varying text"},
        {"INSERT INTO u (b, z) VALUES ($2, $1)", "timestamp with time zone text"},
        {"INSERT INTO u SELECT $1, $2", "integer text"},
        {"UPDATE u SET c = $1, b = b || $2 WHERE a = $3", "double precision text integer"},
        {"UPDATE u SET a = a + $1", "integer"},
        {"DELETE FROM u WHERE a IN ($1, $2)", "integer integer"},
        {"SELECT * FROM u WHERE a BETWEEN $1 AND $2", "integer integer"},
        {"SELECT $1::int + $2, $2::bigint", "integer integer"},
        {"SELECT $1", "text"},
        {"SELECT $1 || 'x', upper($2), length($3)", "text text text"},
        {"SELECT abs($1::float8), $2 IS NULL, NOT $3", "double precision text boolean"},
        {"SELECT 1 LIMIT $1 OFFSET $2", "bigint bigint"},
        {"SELECT coalesce($1, 5), CASE WHEN $2 THEN 1 ELSE $3 END", "integer boolean integer"},
        {"SELECT * FROM u WHERE b LIKE $1", "text"},
        {"SELECT * FROM generate_series($1, $2)", "integer integer"},
        {"SELECT substring('abc' from $1), round($2)", "integer double precision"},
    };
    struct node node;
    node_open(&node);
    node_exec(&node, schema);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const enum dbos_type *types;
        char text[256] = "";
        struct dbos_plan *plan = plan_of(&node, cases[i].sql);
        uint32_t count = dbos_plan_parameters(plan, &types);
        for (uint32_t p = 0; p < count; p++) {
            (void)strcat(strcat(text, p == 0 ? "" : " "), dbos_type_name(types[p]));
        }
        cr_expect_str_eq(text, cases[i].types, "%s: %s", cases[i].sql, text);
        dbos_plan_unref(plan);
    }
    node_close(&node);
}

Test(procs_sql_plan, parameters_that_no_type_fits_are_refused) {
    static const struct {
        const char *sql;
        const char *sqlstate;
        const char *message;
    } cases[] = {
        {"SELECT * FROM p WHERE k = $2", "42P18", "could not determine data type of parameter $1"},
        {"SELECT $1 + 1, $1 || 'x' FROM u WHERE a = $1", "", ""},
        {"SELECT * FROM p WHERE k = $1 AND small = $1", "", ""},
        {"SELECT * FROM u WHERE z = $1 AND a = $1", "42883",
         "operator does not exist: integer = timestamp with time zone"},
        {"SELECT $1 + $2", "42725", "operator is not unique: unknown + unknown"},
        {"SELECT $0", "42P02", "there is no parameter $0"},
    };
    struct node node;
    node_open(&node);
    node_exec(&node, schema);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct planned planned;
        enum dbos_err err = make_plan(&node, cases[i].sql, &planned);
        cr_expect_eq(err == DBOS_OK, cases[i].sqlstate[0] == '\0', "%s: %s", cases[i].sql,
                     node.info.message);
        cr_expect_str_eq(node.info.sqlstate, cases[i].sqlstate, "%s: %s", cases[i].sql,
                         node.info.sqlstate);
        cr_expect_str_eq(node.info.message, cases[i].message, "%s: %s", cases[i].sql,
                         node.info.message);
        dbos_plan_unref(planned.plan);
    }
    /* Missing ones are an error of the caller's client, not a bug. */
    struct dbos_plan *plan = plan_of(&node, "SELECT * FROM p WHERE k = $1");
    enum dbos_route_kind kind;
    uint32_t slot;
    cr_expect_eq(dbos_plan_route(plan, NULL, 0, &kind, &slot, &node.info),
                 DBOS_ERR_UNDEFINED_PARAMETER);
    cr_expect_str_eq(node.info.message, "there is no parameter $1");
    dbos_plan_unref(plan);
    node_close(&node);
}

/* -- routes ---------------------------------------------------------------------------------------
 */

Test(procs_sql_plan, routes_follow_the_partitioning_column) {
    static const struct {
        const char *sql; /* $1 = 42, $2 = 43, both bigint */
        enum dbos_route_kind kind;
        int64_t value; /* whose slot, for ONE */
    } cases[] = {
        {"SELECT 1", DBOS_ROUTE_ANY, 0},
        {"SELECT * FROM u", DBOS_ROUTE_ANY, 0},
        {"SELECT * FROM p", DBOS_ROUTE_BARRIER, 0},
        {"SELECT * FROM p WHERE k = 7", DBOS_ROUTE_ONE, 7},
        {"SELECT * FROM p WHERE k = $1::bigint", DBOS_ROUTE_ONE, 42},
        {"SELECT * FROM p WHERE 7 = k AND v = 'x'", DBOS_ROUTE_ONE, 7},
        {"SELECT * FROM p WHERE k = $1::bigint + 1", DBOS_ROUTE_ONE, 43},
        {"SELECT * FROM p WHERE k IN (7)", DBOS_ROUTE_ONE, 7},
        {"SELECT * FROM p WHERE k IN (7, 8)", DBOS_ROUTE_BARRIER, 0},
        {"SELECT * FROM p WHERE k = 7 OR v = 'x'", DBOS_ROUTE_BARRIER, 0},
        {"SELECT * FROM p WHERE k > 7", DBOS_ROUTE_BARRIER, 0},
        {"SELECT * FROM p WHERE k = small", DBOS_ROUTE_BARRIER, 0},
        {"SELECT * FROM p WHERE k = 7.0", DBOS_ROUTE_BARRIER, 0},
        {"SELECT count(*) FROM p WHERE k = 7 AND small > 1", DBOS_ROUTE_ONE, 7},
        {"INSERT INTO p (k) VALUES (7)", DBOS_ROUTE_ONE, 7},
        {"INSERT INTO p (k) VALUES ('7')", DBOS_ROUTE_ONE, 7},
        {"INSERT INTO p (k) VALUES (7), (7)", DBOS_ROUTE_ONE, 7},
        {"INSERT INTO p (k) VALUES (7), (8)", DBOS_ROUTE_BARRIER, 0},
        {"INSERT INTO p (k) SELECT 7", DBOS_ROUTE_BARRIER, 0},
        {"INSERT INTO p (k) VALUES ((random() * 10)::bigint)", DBOS_ROUTE_BARRIER, 0},
        {"INSERT INTO u VALUES (7)", DBOS_ROUTE_BARRIER, 0},
        {"UPDATE p SET v = 'x' WHERE k = 7", DBOS_ROUTE_ONE, 7},
        {"UPDATE p SET v = 'x'", DBOS_ROUTE_BARRIER, 0},
        {"UPDATE p SET k = 7 WHERE k = 7", DBOS_ROUTE_ONE, 7},
        {"UPDATE p SET k = 8 WHERE k = 7", DBOS_ROUTE_BARRIER, 0},
        {"UPDATE p SET k = k + 1 WHERE k = 7", DBOS_ROUTE_BARRIER, 0},
        {"UPDATE u SET b = 'x' WHERE a = 7", DBOS_ROUTE_BARRIER, 0},
        {"DELETE FROM p WHERE k = 7", DBOS_ROUTE_ONE, 7},
        {"DELETE FROM p WHERE v = '7'", DBOS_ROUTE_BARRIER, 0},
        {"CREATE TABLE x (a int)", DBOS_ROUTE_BARRIER, 0},
    };
    struct node node;
    struct dbos_datum values[2] = {bigint(42), bigint(43)};
    node_open(&node);
    node_exec(&node, schema);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        enum dbos_route_kind kind;
        uint32_t slot;
        struct dbos_datum value = bigint(cases[i].value);
        struct dbos_plan *plan = plan_of(&node, cases[i].sql);
        cr_assert_eq(dbos_plan_route(plan, values, 2, &kind, &slot, &node.info), DBOS_OK);
        cr_expect_eq(kind, cases[i].kind, "%s: %d", cases[i].sql, (int)kind);
        cr_expect(kind != DBOS_ROUTE_ONE || slot == dbos_slot_of(&value), "%s: slot %u",
                  cases[i].sql, slot);
        dbos_plan_unref(plan);
    }
    struct dbos_plan *plan = plan_of(&node, "SELECT * FROM p WHERE k = 1 / $1::bigint");
    struct dbos_datum zero = bigint(0);
    enum dbos_route_kind kind;
    uint32_t slot;
    cr_expect_eq(dbos_plan_route(plan, &zero, 1, &kind, &slot, &node.info),
                 DBOS_ERR_DIVISION_BY_ZERO);
    dbos_plan_unref(plan);
    node_close(&node);
}

/* -- running --------------------------------------------------------------------------------------
 */

struct counter {
    struct dbos_sink sink;
    uint64_t rows;
    int64_t sum;
};
static enum dbos_err count_row(struct dbos_sink *sink, const struct dbos_datum *datums,
                               uint32_t count, struct dbos_errinfo *info) {
    struct counter *counter = (struct counter *)(void *)sink;
    (void)info;
    counter->rows++;
    counter->sum += count > 0 && !datums[0].is_null ? datums[0].integer : 0;
    return DBOS_OK;
}

static enum dbos_err run_on(struct node *node, uint32_t partition, struct dbos_plan *plan,
                            const struct dbos_datum *values, uint32_t count,
                            struct counter *counter) {
    uint64_t rows;
    *counter = (struct counter){.sink = {.row = count_row}};
    struct dbos_run run = node_begin(node, partition);
    enum dbos_err err =
        dbos_plan_run(plan, &run, values, count, &counter->sink, &rows, &node->info);
    return node_end(node, &run, err);
}

Test(procs_sql_plan, a_partition_sees_its_own_rows_and_refuses_others) {
    struct node node;
    struct counter counter;
    node_open(&node);
    node_exec(&node, schema);
    node_exec(&node, "INSERT INTO p (k, small) SELECT g, g % 5 FROM generate_series(1, 100) g");
    struct dbos_plan *all = plan_of(&node, "SELECT k FROM p");
    struct dbos_plan *ranged = plan_of(&node, "SELECT k FROM p WHERE small = 3 ORDER BY k");
    struct dbos_plan *one = plan_of(&node, "SELECT k FROM p WHERE k = $1");
    struct dbos_plan *put = plan_of(&node, "INSERT INTO p (k) VALUES ($1)");
    struct dbos_plan *shared = plan_of(&node, "INSERT INTO u VALUES ($1)");
    uint64_t rows = 0;
    uint64_t ranged_rows = 0;
    int64_t sum = 0;
    for (uint32_t p = 0; p < NODE_PARTITIONS; p++) {
        cr_assert_eq(run_on(&node, p, all, NULL, 0, &counter), DBOS_OK);
        cr_expect(counter.rows > 0 && counter.rows < 100, "each partition has some rows");
        rows += counter.rows;
        sum += counter.sum;
        cr_assert_eq(run_on(&node, p, ranged, NULL, 0, &counter), DBOS_OK);
        ranged_rows += counter.rows;
        struct dbos_datum own = bigint(node_value_on(&node, p, 0));
        struct dbos_datum other = bigint(node_value_on(&node, 1 - p, 0));
        cr_assert_eq(run_on(&node, p, one, &own, 1, &counter), DBOS_OK);
        cr_expect_eq(counter.rows, 1);
        cr_expect_eq(run_on(&node, p, one, &other, 1, &counter), DBOS_ERR_WRONG_PARTITION);
        other.integer = node_value_on(&node, 1 - p, 200);
        cr_expect_eq(run_on(&node, p, put, &other, 1, &counter), DBOS_ERR_WRONG_PARTITION);
        struct dbos_datum a = integer(77);
        cr_expect_eq(run_on(&node, p, shared, &a, 1, &counter), DBOS_ERR_WRONG_PARTITION);
    }
    cr_expect_eq(rows, 100);
    cr_expect_eq(sum, 5050);
    cr_expect_eq(ranged_rows, 20);
    cr_assert_eq(run_on(&node, DBOS_PARTITION_ALL, ranged, NULL, 0, &counter), DBOS_OK);
    cr_expect_eq(counter.rows, 20);
    struct dbos_plan *const plans[] = {all, ranged, one, put, shared};
    for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
        dbos_plan_unref(plans[i]);
    }
    node_close(&node);
}

Test(procs_sql_plan, an_index_that_gives_the_order_spares_the_sort_in_one_partition) {
    struct node node;
    struct counter counter;
    node_open(&node);
    node_exec(&node, "CREATE TABLE o (k int, n int, PRIMARY KEY (k, n)) PARTITION BY HASH (k);"
                     "INSERT INTO o SELECT 1, g FROM generate_series(1, 500) g");
    node_expect(&node, "SELECT n FROM o WHERE k = 1 ORDER BY n LIMIT 3", "1\n2\n3\n");
    node_expect(&node, "SELECT n FROM o WHERE k = 1 ORDER BY n DESC LIMIT 3", "500\n499\n498\n");
    node_expect(&node, "SELECT n FROM o WHERE k = 1 AND n > 497 ORDER BY n DESC",
                "500\n499\n498\n");
    node_expect(&node, "SELECT n FROM o ORDER BY k, n LIMIT 2 OFFSET 10", "11\n12\n");
    node_expect(&node, "SELECT n FROM o ORDER BY k DESC, n LIMIT 2", "1\n2\n");
    struct dbos_plan *plan = plan_of(&node, "SELECT n FROM o WHERE k = 1 ORDER BY n LIMIT 2");
    struct dbos_datum k = bigint(1);
    cr_assert_eq(run_on(&node, node_partition_of(&node, 1), plan, &k, 0, &counter), DBOS_OK);
    cr_expect_eq(counter.sum, 3);
    dbos_plan_unref(plan);
    node_close(&node);
}

Test(procs_sql_plan, a_plan_of_an_older_catalogue_does_nothing) {
    struct node node;
    struct counter counter;
    node_open(&node);
    node_exec(&node, schema);
    struct dbos_plan *plan = plan_of(&node, "DELETE FROM u");
    const struct dbos_catalog *catalog = dbos_store_catalog(node.store);
    const struct dbos_table_def *u = dbos_catalog_table(catalog, NULL, "u");
    cr_expect(dbos_plan_uses_table(plan, u->id));
    cr_expect_not(dbos_plan_uses_table(plan, dbos_catalog_table(catalog, NULL, "p")->id));
    cr_expect_not(dbos_plan_is_read_only(plan));
    node_exec(&node, "CREATE INDEX ON u (b)");
    cr_expect_eq(run_on(&node, DBOS_PARTITION_ALL, plan, NULL, 0, &counter), DBOS_ERR_STALE_PLAN);
    dbos_plan_unref(plan);
    node_expect(&node, "SELECT count(*) FROM u", "2\n");
    node_close(&node);
}

Test(procs_sql_plan, loops_end_when_canceled_or_late) {
    struct node node;
    _Atomic uint32_t cancel = 1;
    struct counter counter = {.sink = {.row = count_row}};
    static const char *const statements[] = {
        "SELECT count(*) FROM generate_series(1, 9223372036854775807)",
        "SELECT g FROM generate_series(1, 9223372036854775807) g WHERE g < 0",
        "INSERT INTO u SELECT g FROM generate_series(10, 2147483647) g",
        "UPDATE u SET b = 'x'",
        "DELETE FROM u",
    };
    node_open(&node);
    node_exec(&node, schema);
    for (size_t i = 0; i < 2 * sizeof statements / sizeof statements[0]; i++) {
        uint64_t rows;
        bool late = i % 2 == 1;
        struct dbos_plan *plan = plan_of(&node, statements[i / 2]);
        struct dbos_run run = node_begin(&node, DBOS_PARTITION_ALL);
        run.cancel = late ? NULL : &cancel;
        run.deadline_ns = late ? 1 : 0;
        enum dbos_err err = dbos_plan_run(plan, &run, NULL, 0, &counter.sink, &rows, &node.info);
        cr_expect_eq(err, late ? DBOS_ERR_TIMEOUT : DBOS_ERR_CANCELED, "%s: %s", statements[i / 2],
                     dbos_err_name(err));
        cr_expect_str_eq(node.info.sqlstate, "57014");
        (void)node_end(&node, &run, err);
        dbos_plan_unref(plan);
    }
    node_expect(&node, "SELECT a, b FROM u ORDER BY a", "1|one\n2|two\n");
    node_close(&node);
}

/* Goal: no point of failing memory leaks, crashes, or leaves anything behind.
 * Method: fail the 1st take, then the 2nd, and so on until the statement succeeds. */
Test(procs_sql_plan, statements_survive_every_failed_take) {
    static const char *const statements[] = {
        "SELECT b || 'x', upper(b), count(*), sum(a) FROM u WHERE a > 0 GROUP BY b ORDER BY 1",
        "SELECT DISTINCT a % 2, b FROM u ORDER BY b DESC LIMIT 5",
        "INSERT INTO u (a, b) SELECT g, 'row ' || g FROM generate_series(100, 110) g",
        "UPDATE u SET b = repeat(b, 3), c = a WHERE a = 1 RETURNING *",
        "DELETE FROM u WHERE a IN (1, 100) RETURNING b",
        "CREATE TABLE w (k int, v text DEFAULT 'a' || 'b', PRIMARY KEY (k)) PARTITION BY HASH (k)",
        "SELECT * FROM prov_history('u', $1, depth => 3) h",
    };
    struct node node;
    node_open(&node);
    node_exec(&node, schema);
    for (size_t i = 0; i < sizeof statements / sizeof statements[0]; i++) {
        enum dbos_err err = DBOS_ERR_NOMEM;
        uint64_t state = dbos_store_state_hash(node.store);
        bool archive = strstr(statements[i], "prov_") != NULL;
        for (int64_t n = 1; err != DBOS_OK && n < 100000; n++) {
            atomic_store(&node.alloc.fail_countdown, n);
            atomic_store(&node.txn_alloc.fail_countdown, n);
            struct dbos_script *script = NULL;
            err = archive ? dbos_script_parse(&node.alloc, statements[i], &script, &node.info)
                          : node_try(&node, statements[i]);
            dbos_script_close(script);
            bool failed = atomic_load(&node.alloc.fail_countdown) == 0 ||
                          atomic_load(&node.txn_alloc.fail_countdown) == 0;
            atomic_store(&node.alloc.fail_countdown, 0);
            atomic_store(&node.txn_alloc.fail_countdown, 0);
            cr_assert(err == DBOS_OK || (err == DBOS_ERR_NOMEM && failed), "%s, take %lld: %s %s",
                      statements[i], (long long)n, dbos_err_name(err), node.info.message);
            cr_assert(err == DBOS_OK || dbos_store_state_hash(node.store) == state,
                      "%s, take %lld: something remains", statements[i], (long long)n);
        }
        cr_assert_eq(err, DBOS_OK, "%s", statements[i]);
    }
    node_close(&node);
}

/* Goal: the scratch memory of a row is right whatever the row before needed: none, a chunk, or one
 * of its own that is given back. */
Test(procs_sql_plan, rows_of_very_different_size_follow_each_other) {
    struct node node;
    node_open(&node);
    node_exec(&node, "CREATE TABLE r (a int PRIMARY KEY, n int)");
    node_exec(&node, "INSERT INTO r SELECT g, CASE g % 4 WHEN 0 THEN 1 WHEN 1 THEN 900 WHEN 2 THEN "
                     "100000 ELSE 0 END FROM generate_series(1, 400) g");
    node_expect(
        &node,
        "SELECT count(*), sum(length(repeat('x', n) || a)), max(length(md5(repeat('y', n))))"
        " FROM r WHERE length(repeat('z', n)) >= 0",
        "400|10091192|32\n");
    node_expect(&node,
                "SELECT sum(length(upper(repeat('x', n)))) FROM r WHERE repeat('y', n) <> 'q'",
                "10090100\n");
    node_close(&node);
}
