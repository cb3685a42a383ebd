/* System views in SQL, apart from what any of them says: what can be asked of one, and what can
 * not. Method: a maker of rows of our own, on a node without an engine. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "procs/sql/type_io.h"
#include "procs/sql/view.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_sql_view, .timeout = 60);

/* Three lines of memory, so many times. */
struct maker {
    uint32_t calls;
    int times;
};

static enum dbos_err fill(void *arg, struct dbos_view_rows *rows) {
    static const char *const areas[] = {"table", "log", "table"};
    static const char *const names[] = {"a", "b", "c"};
    struct maker *maker = arg;
    char name[8];
    maker->calls++;
    cr_assert_eq(rows->view, DBOS_VIEW_MEMORY);
    for (int i = 0; i < 3 * maker->times; i++) {
        (void)snprintf(name, sizeof name, "%s", names[i % 3]); /* it is copied */
        struct dbos_datum row[] = {text_of(areas[i % 3]), text_of(name), bigint((i % 3 + 1) * 100)};
        enum dbos_err err = dbos_view_add(rows, row, 3);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

struct text_sink {
    struct dbos_sink sink;
    struct dbos_buf text;
};

static enum dbos_err put_row(struct dbos_sink *base, const struct dbos_datum *datums,
                             uint32_t count, struct dbos_errinfo *info) {
    struct text_sink *sink = (struct text_sink *)(void *)base;
    (void)info;
    for (uint32_t i = 0; i < count; i++) {
        dbos_buf_put(&sink->text, "|", i == 0 ? 0 : 1);
        if (!datums[i].is_null) {
            dbos_text_out(&datums[i], &sink->text);
        }
    }
    dbos_buf_put(&sink->text, "\n", 1);
    return DBOS_OK;
}

static enum dbos_err make(struct node *node, const char *sql, struct dbos_plan **out) {
    struct dbos_script *script = NULL;
    cr_assert_eq(dbos_script_parse(&node->alloc, sql, &script, &node->info), DBOS_OK, "%s", sql);
    enum dbos_err err = dbos_plan_make(&node->alloc, dbos_store_catalog(node->store), node->procs,
                                       script, 0, NULL, 0, out, &node->info);
    dbos_script_close(script);
    return err;
}

static void expect_rows(struct node *node, const struct dbos_views *views, const char *sql,
                        const char *expected) {
    struct dbos_plan *plan = NULL;
    struct text_sink sink = {.sink = {.row = put_row}};
    uint64_t rows = 0;
    enum dbos_route_kind kind;
    uint32_t slot;
    cr_assert_eq(make(node, sql, &plan), DBOS_OK, "%s: %s", sql, node->info.message);
    cr_expect(dbos_plan_is_read_only(plan));
    cr_assert_eq(dbos_plan_route(plan, NULL, 0, &kind, &slot, &node->info), DBOS_OK);
    cr_expect_eq(kind, DBOS_ROUTE_ANY, "%s", sql);
    dbos_buf_init(&sink.text, &node->alloc);
    struct dbos_run run = node_begin(node, 0);
    run.views = views;
    enum dbos_err err = dbos_plan_run(plan, &run, NULL, 0, &sink.sink, &rows, &node->info);
    cr_assert_eq(err, DBOS_OK, "%s: %s", sql, node->info.message);
    cr_assert_eq(node_end(node, &run, err), DBOS_OK);
    dbos_buf_put(&sink.text, "", 1);
    cr_expect_str_eq((const char *)sink.text.data, expected, "%s", sql);
    dbos_buf_fini(&sink.text);
    dbos_plan_unref(plan);
}

Test(procs_sql_view, a_view_can_be_asked_like_a_table) {
    static const struct {
        const char *sql;
        const char *rows;
    } cases[] = {
        {"SELECT * FROM dbos.memory", "table|a|100\nlog|b|200\ntable|c|300\n"},
        {"SELECT name FROM memory ORDER BY bytes DESC LIMIT 2", "c\nb\n"},
        {"SELECT m.name, bytes / 10 FROM dbos.memory m WHERE m.area = 'table' AND bytes > 100",
         "c|30\n"},
        {"SELECT area, sum(bytes), count(*) FROM dbos.memory GROUP BY area ORDER BY 2",
         "log|200|1\ntable|400|2\n"},
        {"SELECT count(*), min(name), max(bytes), avg(bytes) FROM dbos.memory", "3|a|300|200\n"},
        {"SELECT count(*) FROM dbos.memory WHERE area = 'nothing'", "0\n"},
        {"SELECT area FROM dbos.memory GROUP BY area HAVING count(*) > 1", "table\n"},
        {"SELECT DISTINCT area FROM dbos.memory ORDER BY area", "log\ntable\n"},
        {"SELECT name FROM dbos.memory OFFSET 2", "c\n"},
        {"SELECT name FROM dbos.memory LIMIT 0", ""},
        {"SELECT name, CASE WHEN bytes >= 200 THEN 'large' END FROM dbos.memory",
         "a|\nb|large\nc|large\n"},
    };
    struct node node;
    struct maker maker = {.times = 1};
    struct dbos_views views = {.arg = &maker, .fill = fill};
    node_open(&node);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        maker.calls = 0;
        expect_rows(&node, &views, cases[i].sql, cases[i].rows);
        cr_expect_eq(maker.calls, 1, "%s: rows were made %u times", cases[i].sql, maker.calls);
    }
    node_close(&node);
}

Test(procs_sql_view, a_table_of_the_user_hides_a_view_of_that_name) {
    struct node node;
    struct maker maker = {.times = 1};
    struct dbos_views views = {.arg = &maker, .fill = fill};
    node_open(&node);
    node_exec(&node, "CREATE TABLE memory (a int PRIMARY KEY); INSERT INTO memory VALUES (7)");
    expect_rows(&node, &views, "SELECT * FROM memory", "7\n");
    cr_expect_eq(maker.calls, 0);
    expect_rows(&node, &views, "SELECT name FROM dbos.memory LIMIT 1", "a\n");
    node_close(&node);
}

Test(procs_sql_view, what_can_not_be_done_with_a_view_is_a_clear_error) {
    static const struct {
        const char *sql;
        const char *sqlstate;
    } cases[] = {
        {"INSERT INTO dbos.memory VALUES ('a', 'b', 1)", "42501"},
        {"UPDATE dbos.memory SET bytes = 1", "42501"},
        {"DELETE FROM dbos.log", "42501"},
        {"DROP TABLE dbos.sessions", "42809"},
        {"DROP TABLE IF EXISTS dbos.sessions", "42809"},
        {"CREATE INDEX ON dbos.tables (name)", "42501"},
        {"INSERT INTO t SELECT area, bytes FROM dbos.memory", "0A000"},
        {"CREATE PROCEDURE look() LANGUAGE sql AS 'SELECT bytes FROM dbos.memory'", "0A000"},
        {"SELECT nothing FROM dbos.memory", "42703"},
        {"SELECT area, bytes FROM dbos.memory GROUP BY area", "42803"},
        {"SELECT * FROM public.memory", "42P01"},
        {"SELECT * FROM dbos.nothing", "42P01"},
        {"SELECT * FROM dbos.memory", "0A000"}, /* nobody makes rows here */
    };
    struct node node;
    node_open(&node);
    node_exec(&node, "CREATE TABLE t (area text PRIMARY KEY, bytes bigint)");
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_neq(node_try(&node, cases[i].sql), DBOS_OK, "%s", cases[i].sql);
        cr_expect_str_eq(node.info.sqlstate, cases[i].sqlstate, "%s: %s %s", cases[i].sql,
                         node.info.sqlstate, node.info.message);
    }
    node_expect(&node, "SELECT count(*) FROM t", "0\n");
    node_close(&node);
}

/* Goal: out of memory, wherever it comes, is 53200 and leaves nothing behind. */
Test(procs_sql_view, reading_a_view_survives_every_failed_take) {
    struct node node;
    struct maker maker = {.times = 500};
    uint64_t rows = 0;
    int64_t failed = 0;
    struct dbos_views views = {.arg = &maker, .fill = fill};
    struct dbos_plan *plan = NULL;
    struct text_sink sink = {.sink = {.row = put_row}};
    node_open(&node);
    static const char sql[] = "SELECT area, sum(bytes) FROM dbos.memory GROUP BY area ORDER BY 1";
    while (plan == NULL) {
        atomic_store(&node.alloc.fail_countdown, ++failed);
        struct dbos_script *script = NULL;
        enum dbos_err err = dbos_script_parse(&node.alloc, sql, &script, &node.info);
        if (err == DBOS_OK) {
            err = dbos_plan_make(&node.alloc, dbos_store_catalog(node.store), node.procs, script, 0,
                                 NULL, 0, &plan, &node.info);
            dbos_script_close(script);
        }
        cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%s", node.info.message);
    }
    atomic_store(&node.alloc.fail_countdown, 0);
    cr_expect_gt(failed, 3, "it was made with %lld takes", (long long)failed);
    dbos_buf_init(&sink.text, &node.alloc);
    enum dbos_err err = DBOS_ERR_NOMEM;
    for (failed = 1; err != DBOS_OK; failed++) {
        struct dbos_run run = node_begin(&node, 0);
        run.views = &views;
        atomic_store(&node.txn_alloc.fail_countdown, failed);
        err = dbos_plan_run(plan, &run, NULL, 0, &sink.sink, &rows, &node.info);
        atomic_store(&node.txn_alloc.fail_countdown, 0);
        cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%s", node.info.message);
        err = node_end(&node, &run, err); /* a record that has no memory fails here */
    }
    cr_expect_gt(failed, 3, "it was run with %lld takes", (long long)failed - 2);
    dbos_buf_fini(&sink.text);
    dbos_plan_unref(plan);
    node_close(&node);
}

Test(procs_sql_view, every_view_is_found_by_its_name_and_has_columns) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (uint32_t i = 0; i < DBOS_VIEWS; i++) {
        enum dbos_view_id found = DBOS_VIEWS;
        struct dbos_table_def *def = NULL;
        cr_expect(dbos_view_find("dbos", dbos_view_name((enum dbos_view_id)i), &found));
        cr_expect_eq(found, i);
        cr_assert_eq(dbos_view_define(&alloc, (enum dbos_view_id)i, &def), DBOS_OK);
        cr_expect(def->column_count >= 3 && def->column_count <= DBOS_VIEW_COLUMNS_MAX);
        dbos_table_def_unref(def);
    }
    dbos_alloc_fini(&alloc);
}
