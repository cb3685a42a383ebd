/* The other half of the outbox: results, and tasks that a restart finds. */
#include <stdio.h>
#include <string.h>

#include "procs/outbox_internal.h"
#include "procs/outbox_model.h"

/* -- pieces of a task -----------------------------------------------------------------------------
 */

/* The rows of a task's pieces; grows in the transaction's arena. */
struct piece_rows {
    struct dbos_arena *arena;
    uint32_t count;
    uint32_t room;
    struct dbos_row **rows;
};

static bool keep_row(struct piece_rows *rows, struct dbos_row *row) {
    if (rows->count == rows->room) {
        uint32_t room = rows->room == 0 ? 16 : rows->room * 2;
        struct dbos_row **larger = dbos_arena_take(rows->arena, room * sizeof(struct dbos_row *));
        if (larger == NULL) {
            return false;
        }
        if (rows->count > 0) {
            memcpy(larger, rows->rows, rows->count * sizeof *larger);
        }
        rows->rows = larger;
        rows->room = room;
    }
    rows->rows[rows->count++] = row;
    return true;
}

/* The pieces on one partition, by key. */
static enum dbos_err pieces_by_key(struct dbos_txn *txn, int64_t task_id, uint32_t partition,
                                   struct piece_rows *rows) {
    struct dbos_store *store = dbos_txn_store(txn);
    struct dbos_table *table = dbos_store_table(store, DBOS_TABLE_TASK_PIECE, partition);
    struct dbos_datum key[] = {
        dbos_datum_int(DBOS_TYPE_INT8, dbos_outbox_route(store, task_id, partition)),
        dbos_datum_int(DBOS_TYPE_INT8, task_id),
    };
    struct dbos_bound bound = {.datums = key, .count = 2, .inclusive = true};
    struct dbos_cursor cursor;
    if (dbos_cursor_begin_range(table, 0, &bound, &bound, false, &cursor) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    uint32_t before = rows->count;
    bool kept = true;
    for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL && kept;
         row = dbos_cursor_next(&cursor)) {
        kept = keep_row(rows, row);
    }
    dbos_cursor_end(&cursor);
    dbos_txn_note_range(txn, DBOS_TABLE_TASK_PIECE, dbos_table_def_of(table)->indexes[0].id, &bound,
                        &bound, rows->count - before);
    return kept ? DBOS_OK : DBOS_ERR_NOMEM;
}

/* All of a partition: where pieces were added when the node had another number of partitions. */
static enum dbos_err pieces_by_scan(struct dbos_txn *txn, int64_t task_id, uint32_t partition,
                                    struct piece_rows *rows) {
    struct dbos_table *table =
        dbos_store_table(dbos_txn_store(txn), DBOS_TABLE_TASK_PIECE, partition);
    struct dbos_cursor cursor;
    bool kept = true;
    dbos_cursor_begin_full(table, &cursor);
    for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL && kept;
         row = dbos_cursor_next(&cursor)) {
        if (dbos_outbox_column(table, row, PIECE_TASK).integer == task_id) {
            kept = keep_row(rows, row);
        }
    }
    dbos_cursor_end(&cursor);
    dbos_txn_note_scan(txn, DBOS_TABLE_TASK_PIECE, partition, dbos_table_row_count(table));
    return kept ? DBOS_OK : DBOS_ERR_NOMEM;
}

static enum dbos_err collect(struct dbos_txn *txn, int64_t task_id,
                             enum dbos_err (*from)(struct dbos_txn *, int64_t, uint32_t,
                                                   struct piece_rows *),
                             struct piece_rows *rows) {
    uint32_t partitions = dbos_store_partitions(dbos_txn_store(txn));
    rows->count = 0;
    for (uint32_t p = 0; p < partitions; p++) {
        if (dbos_txn_has_partition(txn, p) && from(txn, task_id, p, rows) != DBOS_OK) {
            return DBOS_ERR_NOMEM;
        }
    }
    return DBOS_OK;
}

/* Pieces that are elsewhere can be had under the barrier only. */
static enum dbos_err find_pieces(struct dbos_txn *txn, int64_t task_id, uint32_t expected,
                                 struct piece_rows *rows, struct dbos_errinfo *info) {
    enum dbos_err err = collect(txn, task_id, pieces_by_key, rows);
    if (err == DBOS_OK && rows->count < expected) {
        if (dbos_txn_partition(txn) != DBOS_PARTITION_ALL) {
            return dbos_fail(info, DBOS_ERR_WRONG_PARTITION,
                             "pieces of task %lld are on other partitions", (long long)task_id);
        }
        err = collect(txn, task_id, pieces_by_scan, rows);
    }
    if (err != DBOS_OK) {
        return dbos_fail(info, err, "out of memory for the pieces of task %lld",
                         (long long)task_id);
    }
    for (uint32_t i = 0; i < rows->count; i++) {
        dbos_txn_note_read(txn, DBOS_TABLE_TASK_PIECE, rows->rows[i]);
    }
    return DBOS_OK;
}

static enum dbos_err delete_pieces(struct dbos_txn *txn, const struct piece_rows *rows,
                                   struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < rows->count; i++) {
        enum dbos_err err = dbos_txn_delete(txn, DBOS_TABLE_TASK_PIECE, rows->rows[i], info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* -- finish ---------------------------------------------------------------------------------------
 */

/* The version pinned at submission; the newest one where it is not loaded any more (a restart loads
 * only the newest). */
static enum dbos_err pinned_procedure(const struct dbos_run *run, struct dbos_table *table,
                                      const struct dbos_row *row,
                                      struct dbos_procedure_handle **out,
                                      struct dbos_errinfo *info) {
    uint32_t id = (uint32_t)dbos_outbox_column(table, row, TASK_PROCEDURE).integer;
    uint32_t version = (uint32_t)dbos_outbox_column(table, row, TASK_PROCEDURE_VERSION).integer;
    *out = dbos_procs_find(run->procs, id, version);
    if (*out == NULL) {
        const struct dbos_procedure_info *newest =
            dbos_catalog_procedure_by_id(dbos_txn_catalog(run->txn), id);
        *out = newest == NULL ? NULL : dbos_procs_find(run->procs, id, newest->version);
        if (*out != NULL) {
            dbos_txn_set_procedure(run->txn, id, newest->version, false);
        }
    }
    if (*out == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FUNCTION,
                         "the result procedure of the task was dropped");
    }
    return DBOS_OK;
}

static enum dbos_err call_result_procedure(const struct dbos_run *run, struct dbos_table *table,
                                           const struct dbos_row *row,
                                           const struct dbos_task_result *result, const char *error,
                                           struct dbos_errinfo *info) {
    struct dbos_procedure_handle *procedure = NULL;
    enum dbos_err err = pinned_procedure(run, table, row, &procedure, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_datum arguments[] = {
        dbos_outbox_column(table, row, TASK_ID),
        dbos_outbox_column(table, row, TASK_CONTEXT),
        error == NULL ? dbos_datum_null(DBOS_TYPE_TEXT)
                      : dbos_datum_bytes(DBOS_TYPE_TEXT, error, strlen(error)),
    };
    struct dbos_datum value;
    return dbos_procedure_call(procedure, run, arguments, 3, error == NULL ? result : NULL, &value,
                               info);
}

static enum dbos_err mark(const struct dbos_run *run, struct dbos_table *table,
                          struct dbos_row *row, const char *error, struct dbos_errinfo *info) {
    struct dbos_datum datums[TASK_COLUMNS];
    for (uint32_t i = 0; i < TASK_COLUMNS; i++) {
        datums[i] = dbos_outbox_column(table, row, i);
    }
    datums[TASK_STATE].integer = error == NULL ? DBOS_TASK_STATE_DONE : DBOS_TASK_STATE_FAILED;
    datums[TASK_FINISHED] = dbos_datum_int(DBOS_TYPE_INT8, dbos_txn_now_us(run->txn));
    if (error != NULL) {
        datums[TASK_ERROR] = dbos_datum_bytes(DBOS_TYPE_TEXT, error, strlen(error));
    }
    struct dbos_row *fresh;
    return dbos_txn_update(run->txn, DBOS_TABLE_TASK, row, datums, &fresh, info);
}

enum dbos_err dbos_outbox_finish(const struct dbos_run *run, uint64_t task_id,
                                 const struct dbos_task_result *result, const char *error,
                                 bool mark_only, bool *out_done, struct dbos_errinfo *info) {
    struct dbos_txn *txn = run->txn;
    int64_t id = (int64_t)task_id;
    static const struct dbos_task_result nothing = {0};
    *out_done = false;
    dbos_outbox_statement(txn, "task result");
    if (!dbos_txn_has_partition(txn, dbos_outbox_partition(dbos_txn_store(txn), id))) {
        return dbos_fail(info, DBOS_ERR_WRONG_PARTITION, "task %lld is on another partition",
                         (long long)id);
    }
    struct dbos_table *table;
    struct dbos_row *row = dbos_outbox_find(dbos_txn_store(txn), id, &table);
    if (row == NULL) {
        return DBOS_OK;
    }
    dbos_txn_note_read(txn, DBOS_TABLE_TASK, row);
    if (dbos_outbox_column(table, row, TASK_STATE).integer != DBOS_TASK_STATE_OPEN) {
        return DBOS_OK;
    }
    struct piece_rows pieces = {.arena = dbos_txn_arena(txn)};
    uint32_t expected = (uint32_t)dbos_outbox_column(table, row, TASK_PIECES).integer;
    enum dbos_err err = find_pieces(txn, id, expected, &pieces, info);
    if (err == DBOS_OK && !mark_only) {
        err =
            call_result_procedure(run, table, row, result == NULL ? &nothing : result, error, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    dbos_outbox_statement(txn, "task result");
    err = delete_pieces(txn, &pieces, info);
    if (err == DBOS_OK) {
        err = mark(run, table, row, error, info);
    }
    *out_done = err == DBOS_OK;
    return err;
}

enum dbos_err dbos_outbox_user(struct dbos_store *store, uint64_t task_id, char *out,
                               size_t out_bytes) {
    struct dbos_table *table;
    struct dbos_row *row = dbos_outbox_find(store, (int64_t)task_id, &table);
    out[0] = '\0';
    if (row == NULL) {
        return DBOS_ERR_UNDEFINED_OBJECT;
    }
    struct dbos_bytes user = dbos_outbox_column(table, row, TASK_USER).bytes;
    size_t length = user.size_bytes < out_bytes ? user.size_bytes : out_bytes - 1;
    memcpy(out, user.data, length);
    out[length] = '\0';
    return DBOS_OK;
}

/* -- after a restart ------------------------------------------------------------------------------
 */

struct scan {
    struct dbos_store *store;
    struct dbos_alloc *alloc;
    void (*each_task)(void *arg, struct dbos_outbox_task *task);
    void (*each_piece)(void *arg, struct dbos_outbox_piece *piece);
    void *arg;
};

static enum dbos_err scan_task(const struct scan *scan, struct dbos_table *table,
                               const struct dbos_row *row) {
    struct dbos_outbox_task task = {
        .task_id = (uint64_t)dbos_outbox_column(table, row, TASK_ID).integer,
        .kind = (uint16_t)dbos_outbox_column(table, row, TASK_KIND).integer,
        .pieces = (uint32_t)dbos_outbox_column(table, row, TASK_PIECES).integer,
        .model_id = (int32_t)dbos_outbox_column(table, row, TASK_MODEL).integer,
        .model_version = (int32_t)dbos_outbox_column(table, row, TASK_MODEL_VERSION).integer,
        .deadline_us = dbos_outbox_column(table, row, TASK_DEADLINE).integer,
    };
    task.partition = dbos_outbox_partition(scan->store, (int64_t)task.task_id);
    struct dbos_model_ref model;
    if (task.kind == DBOS_TASK_INFER &&
        dbos_model_find(scan->store, NULL, task.model_id, task.model_version, &model, NULL) ==
            DBOS_OK) {
        task.chunk_count = model.chunks;
        task.chunks = dbos_take_zero(scan->alloc, (model.chunks + 1u) * sizeof(void *));
        if (task.chunks == NULL) {
            return DBOS_ERR_NOMEM;
        }
        if (dbos_outbox_reference_chunks(scan->store, &task) != DBOS_OK) {
            dbos_give(scan->alloc, task.chunks);
            return DBOS_ERR_NOMEM;
        }
    }
    scan->each_task(scan->arg, &task);
    return DBOS_OK;
}

static bool is_open(struct dbos_table *table, const struct dbos_row *row) {
    return row != NULL &&
           dbos_outbox_column(table, row, TASK_STATE).integer == DBOS_TASK_STATE_OPEN;
}

static enum dbos_err scan_piece(const struct scan *scan, struct dbos_table *table,
                                const struct dbos_row *row) {
    struct dbos_datum payload = dbos_outbox_column(table, row, PIECE_PAYLOAD);
    struct dbos_outbox_piece piece = {
        .task_id = (uint64_t)dbos_outbox_column(table, row, PIECE_TASK).integer,
        .piece = (uint32_t)dbos_outbox_column(table, row, PIECE_NUMBER).integer,
        .count = (uint32_t)dbos_outbox_column(table, row, PIECE_COUNT).integer,
    };
    struct dbos_table *tasks;
    const struct dbos_row *task = dbos_outbox_find(scan->store, (int64_t)piece.task_id, &tasks);
    if (!is_open(tasks, task)) {
        return DBOS_OK;
    }
    piece.payload = dbos_outbox_object(scan->store, &payload);
    if (piece.payload == NULL) {
        return DBOS_ERR_NOMEM;
    }
    scan->each_piece(scan->arg, &piece);
    return DBOS_OK;
}

static enum dbos_err scan_partition(const struct scan *scan, uint32_t partition, bool tasks) {
    struct dbos_table *table =
        dbos_store_table(scan->store, tasks ? DBOS_TABLE_TASK : DBOS_TABLE_TASK_PIECE, partition);
    struct dbos_cursor cursor;
    enum dbos_err err = DBOS_OK;
    dbos_cursor_begin_full(table, &cursor);
    for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL && err == DBOS_OK;
         row = dbos_cursor_next(&cursor)) {
        if (!tasks) {
            err = scan_piece(scan, table, row);
        } else if (is_open(table, row)) {
            err = scan_task(scan, table, row);
        }
    }
    dbos_cursor_end(&cursor);
    return err;
}

enum dbos_err dbos_outbox_scan(struct dbos_store *store, struct dbos_alloc *alloc,
                               void (*each_task)(void *arg, struct dbos_outbox_task *task),
                               void (*each_piece)(void *arg, struct dbos_outbox_piece *piece),
                               void *arg, struct dbos_errinfo *info) {
    struct scan scan = {.store = store,
                        .alloc = alloc,
                        .each_task = each_task,
                        .each_piece = each_piece,
                        .arg = arg};
    for (uint32_t pass = 0; pass < 2; pass++) {
        for (uint32_t p = 0; p < dbos_store_partitions(store); p++) {
            if (scan_partition(&scan, p, pass == 0) != DBOS_OK) {
                return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory looking for open tasks");
            }
        }
    }
    return DBOS_OK;
}
