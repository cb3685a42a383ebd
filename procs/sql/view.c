#include "procs/sql/view.h"

struct column_plan {
    const char *name;
    uint8_t type;
};

struct view_plan {
    const char *name;
    struct column_plan columns[DBOS_VIEW_COLUMNS_MAX]; /* ended by an empty one, or full */
};

#define TEXT      DBOS_TYPE_TEXT
#define INTEGER   DBOS_TYPE_INT4
#define BIGINT    DBOS_TYPE_INT8
#define REAL      DBOS_TYPE_FLOAT8
#define TIMESTAMP DBOS_TYPE_TIMESTAMPTZ

static const struct view_plan plans[DBOS_VIEWS] = {
    [DBOS_VIEW_ARCHIVE] = {"archive",
                           {{"state", TEXT},
                            {"class", TEXT},
                            {"process", INTEGER},
                            {"starts", BIGINT},
                            {"durable_position", BIGINT},
                            {"taken_position", BIGINT},
                            {"exported_position", BIGINT},
                            {"lag_positions", BIGINT},
                            {"lag_bytes", BIGINT},
                            {"lag_s", REAL},
                            {"backlog_max_bytes", BIGINT},
                            {"is_full", DBOS_TYPE_BOOL},
                            {"waiting", INTEGER},
                            {"waits", BIGINT},
                            {"refused", BIGINT}}},
    [DBOS_VIEW_HISTOGRAM] =
        {"histogram", {{"name", TEXT}, {"from_us", REAL}, {"to_us", REAL}, {"count", BIGINT}}},
    [DBOS_VIEW_LATENCY] = {"latency",
                           {{"name", TEXT},
                            {"count", BIGINT},
                            {"mean_us", REAL},
                            {"p50_us", REAL},
                            {"p99_us", REAL},
                            {"max_us", REAL}}},
    [DBOS_VIEW_LOG] = {"log",
                       {{"records", BIGINT},
                        {"batches", BIGINT},
                        {"syncs", BIGINT},
                        {"bytes", BIGINT},
                        {"blob_bytes", BIGINT},
                        {"segments", BIGINT},
                        {"in_flight_bytes", BIGINT},
                        {"room_waits", BIGINT},
                        {"records_per_batch", REAL},
                        {"sync_p50_us", REAL},
                        {"sync_p99_us", REAL},
                        {"sync_max_us", REAL},
                        {"last_position", BIGINT},
                        {"durable_position", BIGINT},
                        {"is_disk_full", DBOS_TYPE_BOOL}}},
    [DBOS_VIEW_MEMORY] = {"memory", {{"area", TEXT}, {"name", TEXT}, {"bytes", BIGINT}}},
    [DBOS_VIEW_PARTITIONS] = {"partitions",
                              {{"partition", INTEGER},
                               {"kind", TEXT},
                               {"executed", BIGINT},
                               {"queue_depth", BIGINT},
                               {"busy_us", BIGINT},
                               {"run_p50_us", REAL},
                               {"run_p99_us", REAL},
                               {"run_max_us", REAL},
                               {"wait_p50_us", REAL},
                               {"wait_p99_us", REAL},
                               {"wait_max_us", REAL}}},
    [DBOS_VIEW_SESSIONS] = {"sessions",
                            {{"id", BIGINT},
                             {"username", TEXT},
                             {"application", TEXT},
                             {"address", TEXT},
                             {"state", TEXT},
                             {"connected", TIMESTAMP},
                             {"statements", BIGINT},
                             {"in_flight", INTEGER},
                             {"buffered_bytes", BIGINT}}},
    [DBOS_VIEW_SNAPSHOT] = {"snapshot",
                            {{"state", TEXT},
                             {"position", BIGINT},
                             {"cut", TIMESTAMP},
                             {"rows", BIGINT},
                             {"bytes", BIGINT},
                             {"took_us", BIGINT},
                             {"taken", BIGINT},
                             {"failed", BIGINT},
                             {"segments_removed", BIGINT}}},
    [DBOS_VIEW_STATEMENTS] = {"statements",
                              {{"name", TEXT},
                               {"kind", TEXT},
                               {"calls", BIGINT},
                               {"errors", BIGINT},
                               {"total_us", BIGINT},
                               {"mean_us", REAL},
                               {"p50_us", REAL},
                               {"p99_us", REAL},
                               {"max_us", REAL}}},
    [DBOS_VIEW_TABLES] = {"tables",
                          {{"schema", TEXT},
                           {"name", TEXT},
                           {"rows", BIGINT},
                           {"bytes", BIGINT},
                           {"index_bytes", BIGINT},
                           {"parts", INTEGER},
                           {"indexes", INTEGER},
                           {"partition_column", TEXT}}},
};

static uint16_t column_count(enum dbos_view_id view) {
    uint16_t count = 0;
    while (count < DBOS_VIEW_COLUMNS_MAX && plans[view].columns[count].name != NULL) {
        count++;
    }
    return count;
}

const char *dbos_view_name(enum dbos_view_id view) {
    DBOS_CHECK(view < DBOS_VIEWS);
    return plans[view].name;
}

bool dbos_view_find(const char *schema, const char *name, enum dbos_view_id *out) {
    if (schema != NULL && strcmp(schema, "dbos") != 0) {
        return false;
    }
    for (uint32_t i = 0; i < DBOS_VIEWS; i++) {
        if (strcmp(plans[i].name, name) == 0) {
            *out = (enum dbos_view_id)i;
            return true;
        }
    }
    return false;
}

enum dbos_err dbos_view_define(struct dbos_alloc *alloc, enum dbos_view_id view,
                               struct dbos_table_def **out) {
    struct dbos_column columns[DBOS_VIEW_COLUMNS_MAX];
    DBOS_CHECK(view < DBOS_VIEWS);
    uint16_t count = column_count(view);
    for (uint16_t i = 0; i < count; i++) {
        const struct column_plan *plan = &plans[view].columns[i];
        columns[i] = (struct dbos_column){.id = i + 1u, .type = plan->type};
        memcpy(columns[i].name, plan->name, strlen(plan->name));
    }
    struct dbos_table_parts parts = {
        .schema_version = 1,
        .schema = "dbos",
        .name = plans[view].name,
        .partition_column = -1,
        .column_count = count,
        .columns = columns,
    };
    return dbos_table_def_make(alloc, &parts, out, NULL);
}

enum dbos_err dbos_view_add(struct dbos_view_rows *rows, const struct dbos_datum *datums,
                            uint32_t count) {
    DBOS_CHECK(count == column_count(rows->view));
    struct dbos_view_row *row = dbos_arena_take(rows->arena, sizeof *row + count * sizeof *datums);
    if (row == NULL) {
        return DBOS_ERR_NOMEM;
    }
    row->next = NULL;
    for (uint32_t i = 0; i < count; i++) {
        DBOS_CHECK(datums[i].type == plans[rows->view].columns[i].type);
        row->datums[i] = datums[i];
        if (!datums[i].is_null && dbos_type_is_bytes((enum dbos_type)datums[i].type)) {
            row->datums[i].bytes.data = (uint8_t *)dbos_arena_copy(
                rows->arena, datums[i].bytes.data, datums[i].bytes.size_bytes);
            if (row->datums[i].bytes.data == NULL) {
                return DBOS_ERR_NOMEM;
            }
        }
    }
    *(rows->last == NULL ? &rows->first : &rows->last->next) = row;
    rows->last = row;
    return DBOS_OK;
}
