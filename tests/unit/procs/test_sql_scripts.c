/* SQL as PostgreSQL has it: scripts of one statement a line, with what they print.
 *
 * sql/<name>.sql runs line by line, each line a transaction under the barrier, on an empty node;
 * rows, tags, result columns with their types' oids, and errors with SQLSTATE and position are
 * compared with sql/<name>.out. What is in both databases was compared with PostgreSQL 15 when the
 * files were made: tests/unit/procs/sql/README.md says how to do that again. DBOS_UPDATE=1 writes
 * them anew. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "procs/sql/type_io.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_sql_scripts, .timeout = 60);

struct printer {
    struct dbos_sink sink;
    struct dbos_buf *out;
};

static void print(struct dbos_buf *out, const char *text) { dbos_buf_put(out, text, strlen(text)); }

static enum dbos_err print_row(struct dbos_sink *sink, const struct dbos_datum *datums,
                               uint32_t count, struct dbos_errinfo *info) {
    struct dbos_buf *out = ((struct printer *)(void *)sink)->out;
    (void)info;
    for (uint32_t i = 0; i < count; i++) {
        print(out, i == 0 ? "" : "|");
        if (datums[i].is_null) {
            print(out, "<null>");
        } else {
            dbos_text_out(&datums[i], out);
        }
    }
    print(out, "\n");
    return DBOS_OK;
}

static void print_columns(const struct dbos_plan *plan, struct dbos_buf *out) {
    char line[256];
    const struct dbos_result_column *columns;
    uint32_t count = dbos_plan_columns(plan, &columns);
    for (uint32_t i = 0; i < count; i++) {
        (void)snprintf(line, sizeof line, "%s%s:%s", i == 0 ? "" : "|", columns[i].name,
                       dbos_type_name((enum dbos_type)columns[i].type));
        print(out, line);
    }
    print(out, count == 0 ? "" : "\n");
}

static enum dbos_err run_statement(struct node *node, const struct dbos_run *run,
                                   struct dbos_script *script, uint32_t statement,
                                   struct dbos_buf *out) {
    struct printer printer = {.sink = {.row = print_row}, .out = out};
    struct dbos_plan *plan;
    char tag[64];
    uint64_t rows;
    enum dbos_err err = dbos_plan_make(&node->alloc, dbos_txn_catalog(run->txn), node->procs,
                                       script, statement, NULL, 0, &plan, &node->info);
    if (err != DBOS_OK) {
        return err;
    }
    const enum dbos_type *types;
    cr_assert_eq(dbos_plan_parameters(plan, &types), 0, "a script has no parameters");
    print_columns(plan, out);
    err = dbos_plan_run(plan, run, NULL, 0, &printer.sink, &rows, &node->info);
    if (err == DBOS_OK) {
        dbos_plan_tag(plan, rows, tag, sizeof tag);
        print(out, tag);
        print(out, "\n");
    }
    dbos_plan_unref(plan);
    return err;
}

static void print_error(const struct dbos_errinfo *info, struct dbos_buf *out) {
    char line[2048];
    (void)snprintf(line, sizeof line, "ERROR %s %s", info->sqlstate, info->message);
    print(out, line);
    if (info->position != 0) {
        (void)snprintf(line, sizeof line, " @%u", info->position);
        print(out, line);
    }
    (void)snprintf(line, sizeof line, "\n%s%s%s%s%s%s", info->detail[0] == '\0' ? "" : "DETAIL ",
                   info->detail, info->detail[0] == '\0' ? "" : "\n",
                   info->hint[0] == '\0' ? "" : "HINT ", info->hint,
                   info->hint[0] == '\0' ? "" : "\n");
    print(out, line);
}

static void run_line(struct node *node, const char *line, struct dbos_buf *out) {
    struct dbos_script *script = NULL;
    struct dbos_run run = node_begin(node, DBOS_PARTITION_ALL);
    print(out, "> ");
    print(out, line);
    print(out, "\n");
    enum dbos_err err = dbos_script_parse(&node->alloc, line, &script, &node->info);
    for (uint32_t i = 0; err == DBOS_OK && i < dbos_script_count(script); i++) {
        err = run_statement(node, &run, script, i, out);
    }
    dbos_script_close(script);
    err = node_end(node, &run, err);
    if (err != DBOS_OK) {
        cr_expect_eq(node->info.code, err, "%s: the error has its details", line);
        print_error(&node->info, out);
    }
}

static void run_script(const char *name) {
    char path[512];
    struct node node;
    struct dbos_buf out;
    char line[4096];
    node_open(&node);
    dbos_buf_init(&out, &node.alloc);
    (void)snprintf(path, sizeof path, "%s/tests/unit/procs/sql/%s.sql", DBOS_SOURCE_DIR, name);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file, "%s", path);
    while (fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0' && line[0] != '#') {
            run_line(&node, line, &out);
        }
    }
    (void)fclose(file);
    cr_assert_not(out.failed);
    (void)snprintf(path, sizeof path, "%s/tests/unit/procs/sql/%s.out", DBOS_SOURCE_DIR, name);
    if (getenv("DBOS_UPDATE") != NULL) {
        file = fopen(path, "w");
        cr_assert_not_null(file, "%s", path);
        cr_assert_eq(fwrite(out.data, 1, out.size_bytes, file), out.size_bytes);
        (void)fclose(file);
    }
    size_t expected_bytes;
    uint8_t *expected = node_read_file(&node.alloc, path, &expected_bytes);
    dbos_buf_put_u8(&out, 0);
    size_t same = 0;
    while (same < expected_bytes && same < out.size_bytes && expected[same] == out.data[same]) {
        same++;
    }
    size_t start = same;
    while (start > 0 && expected[start - 1] != '\n') {
        start--;
    }
    int left = (int)(expected_bytes - start < 300 ? expected_bytes - start : 300);
    cr_expect(same == expected_bytes && same + 1 == out.size_bytes,
              "%s.out differs from byte %zu on:\nexpected: %.*s\nis: %.300s", name, same, left,
              (const char *)expected + start, (const char *)out.data + start);
    dbos_give(&node.alloc, expected);
    dbos_buf_fini(&out);
    node_close(&node);
}

Test(procs_sql_scripts, expressions_and_functions_give_what_postgresql_gives) {
    run_script("expressions");
}
Test(procs_sql_scripts, queries_filter_group_sort_and_limit) { run_script("queries"); }
Test(procs_sql_scripts, changes_insert_update_delete_and_return) { run_script("changes"); }
Test(procs_sql_scripts, definitions_make_and_drop_tables_indexes_and_procedures) {
    run_script("definitions");
}
Test(procs_sql_scripts, what_is_not_supported_is_named) { run_script("unsupported"); }
