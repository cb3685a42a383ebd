#include "storage/catalog_system.h"

#include <assert.h>
#include <stdio.h>

enum { COLUMNS_MAX = 16, KEY_MAX = 3 };

struct column_plan {
    const char *name;
    uint8_t type;
};

/* One system table: its key is its first columns, or those that `key` names. */
struct table_plan {
    uint32_t id;
    const char *name;
    int32_t partition_column;
    uint8_t key_kind; /* enum dbos_index_kind */
    uint8_t key_count;
    uint16_t key[KEY_MAX];
    struct column_plan columns[COLUMNS_MAX]; /* ended by an empty one */
};

static const struct table_plan plans[] = {
    /* One row for each table (kind 1) and procedure (kind 2); the row of a dropped one is deleted.
     */
    {DBOS_TABLE_CATALOG,
     "catalog",
     -1,
     DBOS_INDEX_ORDERED,
     2,
     {0, 1},
     {{"kind", DBOS_TYPE_INT2},
      {"id", DBOS_TYPE_INT8},
      {"name", DBOS_TYPE_TEXT},
      {"version", DBOS_TYPE_INT4},
      {"definition", DBOS_TYPE_BYTEA}}},
    /* Modules by content, in chunks of at most 1 MB. */
    {DBOS_TABLE_MODULE_CHUNK,
     "module_chunk",
     -1,
     DBOS_INDEX_ORDERED,
     2,
     {0, 1},
     {{"hash", DBOS_TYPE_BYTEA}, {"chunk", DBOS_TYPE_INT4}, {"bytes", DBOS_TYPE_BYTEA}}},
    /* The outbox: a task and its pieces. */
    {DBOS_TABLE_TASK,
     "task",
     0,
     DBOS_INDEX_HASH,
     1,
     {0},
     {{"task_id", DBOS_TYPE_INT8},
      {"kind", DBOS_TYPE_INT2},
      {"state", DBOS_TYPE_INT2},
      {"username", DBOS_TYPE_TEXT},
      {"procedure_id", DBOS_TYPE_INT4},
      {"procedure_version", DBOS_TYPE_INT4},
      {"model_id", DBOS_TYPE_INT4},
      {"model_version", DBOS_TYPE_INT4},
      {"pieces", DBOS_TYPE_INT4},
      {"context", DBOS_TYPE_BYTEA},
      {"deadline_us", DBOS_TYPE_INT8},
      {"submitted_us", DBOS_TYPE_INT8},
      {"attempt", DBOS_TYPE_INT4},
      {"error", DBOS_TYPE_TEXT},
      {"finished_us", DBOS_TYPE_INT8}}},
    {DBOS_TABLE_TASK_PIECE,
     "task_piece",
     0,
     DBOS_INDEX_ORDERED,
     3,
     {0, 1, 2},
     {{"route", DBOS_TYPE_INT8},
      {"task_id", DBOS_TYPE_INT8},
      {"piece", DBOS_TYPE_INT4},
      {"count", DBOS_TYPE_INT4},
      {"payload", DBOS_TYPE_BYTEA}}},
    /* Models by version, in chunks of at most 1 MB. */
    {DBOS_TABLE_MODEL,
     "model",
     -1,
     DBOS_INDEX_ORDERED,
     2,
     {0, 1},
     {{"model_id", DBOS_TYPE_INT4},
      {"version", DBOS_TYPE_INT4},
      {"name", DBOS_TYPE_TEXT},
      {"architecture", DBOS_TYPE_TEXT},
      {"chunks", DBOS_TYPE_INT4},
      {"created_us", DBOS_TYPE_INT8},
      {"task_id", DBOS_TYPE_INT8}}},
    {DBOS_TABLE_MODEL_CHUNK,
     "model_chunk",
     -1,
     DBOS_INDEX_ORDERED,
     3,
     {0, 1, 2},
     {{"model_id", DBOS_TYPE_INT4},
      {"version", DBOS_TYPE_INT4},
      {"chunk", DBOS_TYPE_INT4},
      {"bytes", DBOS_TYPE_BYTEA}}},
    /* What was answered under an idempotency key. */
    {DBOS_TABLE_IDEMPOTENCY,
     "idempotency",
     0,
     DBOS_INDEX_HASH,
     1,
     {0},
     {{"key", DBOS_TYPE_TEXT},
      {"username", DBOS_TYPE_TEXT},
      {"digest", DBOS_TYPE_BYTEA},
      {"reply", DBOS_TYPE_BYTEA},
      {"committed_us", DBOS_TYPE_INT8}}},
};
static_assert(sizeof plans / sizeof plans[0] == DBOS_SYSTEM_TABLES, "one plan for each");

static uint16_t fill_columns(const struct table_plan *plan, struct dbos_column *columns) {
    uint16_t count = 0;
    while (count < COLUMNS_MAX && plan->columns[count].name != NULL) {
        const char *name = plan->columns[count].name;
        struct dbos_column *column = &columns[count];
        *column = (struct dbos_column){.id = count + 1u, .type = plan->columns[count].type};
        memcpy(column->name, name, strlen(name));
        count++;
    }
    return count;
}

enum dbos_err dbos_catalog_system_table(struct dbos_alloc *alloc, uint32_t n,
                                        struct dbos_table_def **out) {
    DBOS_CHECK(n < DBOS_SYSTEM_TABLES);
    const struct table_plan *plan = &plans[n];
    struct dbos_column columns[COLUMNS_MAX];
    struct dbos_index_def key = {
        .id = plan->id,
        .kind = plan->key_kind,
        .unique = true,
        .primary = true,
        .column_count = plan->key_count,
    };
    memcpy(key.columns, plan->key, sizeof plan->key);
    (void)snprintf(key.name, sizeof key.name, "%s_pkey", plan->name);
    struct dbos_table_parts parts = {
        .id = plan->id,
        .schema_version = 1,
        .schema = "dbos",
        .name = plan->name,
        .partition_column = plan->partition_column,
        .column_count = fill_columns(plan, columns),
        .index_count = 1,
        .columns = columns,
        .indexes = &key,
    };
    return dbos_table_def_make(alloc, &parts, out, NULL);
}
