#include "engine/task_result.h"

#include <stdio.h>

static struct dbos_row *task_row(struct dbos_store *store, uint64_t task_id,
                                 struct dbos_table_def **out_def) {
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, (int64_t)task_id);
    uint32_t partition = dbos_store_partition_of(store, dbos_slot_of(&key));
    struct dbos_table *table = dbos_store_table(store, DBOS_TABLE_TASK, partition);
    *out_def = dbos_table_def_of(table);
    return dbos_table_find(table, 0, &key);
}

static uint32_t integer_column(const struct dbos_table_def *def, const struct dbos_row *row,
                               const char *name) {
    int32_t column = dbos_table_def_column(def, name);
    DBOS_CHECK(column >= 0);
    struct dbos_datum datum = dbos_row_column(def, row, (uint32_t)column);
    return datum.is_null ? 0 : (uint32_t)datum.integer;
}

void dbos_task_result_describe(struct dbos_store *store, struct dbos_request *request,
                               struct dbos_txn_call *call) {
    struct dbos_task_outcome *outcome = request->owner;
    struct dbos_table_def *def = NULL;
    struct dbos_row *row = task_row(store, outcome->task_id, &def);
    call->task_id = outcome->task_id;
    call->is_task_result = true;
    if (row != NULL) {
        struct dbos_datum user =
            dbos_row_column(def, row, (uint32_t)dbos_table_def_column(def, "username"));
        (void)snprintf(outcome->user, sizeof outcome->user, "%.*s", (int)user.bytes.size_bytes,
                       (const char *)user.bytes.data);
        call->procedure = integer_column(def, row, "procedure_id");
        call->procedure_version = integer_column(def, row, "procedure_version");
    }
}

enum dbos_err dbos_task_result_run(const struct dbos_run *run, struct dbos_request *request,
                                   struct dbos_errinfo *info) {
    struct dbos_task_outcome *outcome = request->owner;
    bool done = false;
    enum dbos_err err = dbos_outbox_finish(
        run, outcome->task_id, outcome->failed ? NULL : &outcome->result,
        outcome->failed ? outcome->error : NULL, outcome->mark_only, &done, info);
    outcome->already = !done;
    return err;
}
