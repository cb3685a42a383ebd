/* SQL: any text is parsed, and what parses is planned and routed against a small catalogue. */
#include <string.h>

#include "procs/sql/sql.h"
#include "tests/fuzz/fuzz.h"

/* t: partitioned, with every type; u: unpartitioned. */
static struct dbos_table_def *make_table(struct dbos_alloc *alloc, uint32_t id, const char *name,
                                         int32_t partition_column) {
    static const struct dbos_column columns[] = {
        {.id = 1, .name = "id", .type = DBOS_TYPE_INT8, .not_null = true},
        {.id = 2, .name = "a", .type = DBOS_TYPE_INT4},
        {.id = 3, .name = "b", .type = DBOS_TYPE_TEXT},
        {.id = 4, .name = "c", .type = DBOS_TYPE_VARCHAR, .chars_max = 5},
        {.id = 5, .name = "d", .type = DBOS_TYPE_FLOAT8},
        {.id = 6, .name = "e", .type = DBOS_TYPE_BOOL},
        {.id = 7, .name = "f", .type = DBOS_TYPE_BYTEA},
        {.id = 8, .name = "g", .type = DBOS_TYPE_TIMESTAMPTZ},
        {.id = 9, .name = "s", .type = DBOS_TYPE_INT2},
    };
    struct dbos_index_def indexes[] = {
        {.id = id * 10,
         .name = "pkey",
         .kind = DBOS_INDEX_HASH,
         .unique = true,
         .primary = true,
         .column_count = 1},
        {.id = id * 10 + 1,
         .name = "ordered",
         .kind = DBOS_INDEX_ORDERED,
         .column_count = 2,
         .columns = {1, 2}},
    };
    indexes[0].name[4] = name[0];
    indexes[1].name[7] = name[0];
    struct dbos_table_parts parts = {
        .id = id,
        .schema_version = 1,
        .schema = "public",
        .name = name,
        .partition_column = partition_column,
        .column_count = sizeof columns / sizeof columns[0],
        .index_count = 2,
        .columns = columns,
        .indexes = indexes,
    };
    struct dbos_table_def *def;
    struct dbos_errinfo info;
    DBOS_CHECK(dbos_table_def_make(alloc, &parts, &def, &info) == DBOS_OK);
    return def;
}

static struct dbos_catalog *with_table(struct dbos_catalog *catalog, struct dbos_table_def *def) {
    struct dbos_catalog *next;
    DBOS_CHECK(dbos_catalog_with_table(catalog, def, &next) == DBOS_OK);
    dbos_table_def_unref(def);
    dbos_catalog_unref(catalog);
    return next;
}

static void route(const struct dbos_plan *plan) {
    const enum dbos_type *types;
    struct dbos_datum values[8];
    enum dbos_route_kind kind;
    uint32_t slot;
    struct dbos_errinfo info = {0};
    uint32_t count = dbos_plan_parameters(plan, &types);
    for (uint32_t i = 0; i < count && i < 8; i++) {
        values[i] = dbos_type_is_bytes(types[i]) ? dbos_datum_bytes(types[i], "1", 1)
                                                 : dbos_datum_int(types[i], 1);
    }
    enum dbos_err err = dbos_plan_route(plan, values, count < 8 ? count : 8, &kind, &slot, &info);
    DBOS_CHECK(err != DBOS_OK || kind != DBOS_ROUTE_ONE || slot < 1024);
}

static void plan_statement(struct dbos_alloc *alloc, struct dbos_catalog *catalog,
                           struct dbos_script *script, uint32_t i) {
    struct dbos_plan *plan = NULL;
    struct dbos_errinfo info = {0};
    enum dbos_err err =
        i % 2 == 0
            ? dbos_plan_make(alloc, catalog, NULL, script, i, NULL, 0, &plan, &info)
            : dbos_plan_make_in_procedure(alloc, catalog, NULL, script, i, NULL, 0, &plan, &info);
    DBOS_CHECK((err == DBOS_OK) == (plan != NULL));
    DBOS_CHECK(err == DBOS_OK || info.code == err);
    if (plan != NULL) {
        char tag[64];
        const struct dbos_result_column *columns;
        dbos_plan_tag(plan, 1, tag, sizeof tag);
        for (uint32_t c = 0; c < dbos_plan_columns(plan, &columns); c++) {
            DBOS_CHECK(columns[c].type != DBOS_TYPE_UNKNOWN);
        }
        route(plan);
    }
    dbos_plan_unref(plan);
}

static bool has_plan(enum dbos_statement_kind kind) {
    return kind == DBOS_STATEMENT_SELECT || kind == DBOS_STATEMENT_INSERT ||
           kind == DBOS_STATEMENT_UPDATE || kind == DBOS_STATEMENT_DELETE ||
           kind == DBOS_STATEMENT_CALL || kind == DBOS_STATEMENT_DDL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    struct dbos_alloc alloc;
    struct dbos_catalog *catalog;
    struct dbos_script *script = NULL;
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&alloc, "fuzz", 0);
    DBOS_CHECK(dbos_catalog_open(&alloc, &catalog) == DBOS_OK);
    catalog = with_table(catalog, make_table(&alloc, 100, "t", 0));
    catalog = with_table(catalog, make_table(&alloc, 101, "u", -1));
    char *text = dbos_take(&alloc, size_bytes + 1);
    DBOS_CHECK(text != NULL);
    memcpy(text, size_bytes == 0 ? (const uint8_t *)"" : data, size_bytes);
    text[size_bytes] = '\0';
    enum dbos_err err = dbos_script_parse(&alloc, text, &script, &info);
    DBOS_CHECK((err == DBOS_OK) == (script != NULL));
    DBOS_CHECK(err == DBOS_OK || info.position <= size_bytes + 1);
    for (uint32_t i = 0; script != NULL && i < dbos_script_count(script); i++) {
        if (has_plan(dbos_script_kind(script, i))) {
            plan_statement(&alloc, catalog, script, i);
        }
    }
    dbos_script_close(script);
    dbos_give(&alloc, text);
    dbos_catalog_unref(catalog);
    dbos_alloc_fini(&alloc);
    return 0;
}
