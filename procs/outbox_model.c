#include "procs/outbox_model.h"

#include <stdio.h>
#include <string.h>

enum {
    MODEL_ID,
    MODEL_VERSION,
    MODEL_NAME,
    MODEL_ARCHITECTURE,
    MODEL_CHUNKS,
    MODEL_CREATED,
    MODEL_TASK,
    MODEL_COLUMNS
};
enum { CHUNK_MODEL_ID, CHUNK_VERSION, CHUNK_NUMBER, CHUNK_BYTES, CHUNK_COLUMNS };

/* An unpartitioned table has one part, which every partition number names. */
static struct dbos_table *part_of(struct dbos_store *store, uint32_t table_id) {
    return dbos_store_table(store, table_id, 0);
}

static struct dbos_datum column(struct dbos_table *table, const struct dbos_row *row,
                                uint32_t position) {
    return dbos_row_column(dbos_table_def_of(table), row, position);
}

/* -- reading --------------------------------------------------------------------------------------
 */

/* The row with the highest version. */
static enum dbos_err newest(struct dbos_table *table, struct dbos_txn *txn, int32_t model_id,
                            const struct dbos_row **out, struct dbos_errinfo *info) {
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT4, model_id);
    struct dbos_bound bound = {.datums = &key, .count = 1, .inclusive = true};
    struct dbos_cursor cursor;
    *out = NULL;
    if (dbos_cursor_begin_range(table, 0, &bound, &bound, true, &cursor) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory looking for a model");
    }
    *out = dbos_cursor_next(&cursor);
    dbos_cursor_end(&cursor);
    if (txn != NULL) {
        uint32_t index_id = dbos_table_def_of(table)->indexes[0].id;
        dbos_txn_note_range(txn, DBOS_TABLE_MODEL, index_id, &bound, &bound, *out != NULL);
    }
    return DBOS_OK;
}

enum dbos_err dbos_model_find(struct dbos_store *store, struct dbos_txn *txn, int32_t model_id,
                              int32_t version, struct dbos_model_ref *out,
                              struct dbos_errinfo *info) {
    struct dbos_table *table = part_of(store, DBOS_TABLE_MODEL);
    const struct dbos_row *row = NULL;
    if (version == 0) {
        enum dbos_err err = newest(table, txn, model_id, &row, info);
        if (err != DBOS_OK) {
            return err;
        }
    } else {
        struct dbos_datum key[] = {dbos_datum_int(DBOS_TYPE_INT4, model_id),
                                   dbos_datum_int(DBOS_TYPE_INT4, version)};
        row = dbos_table_find(table, 0, key);
        if (row == NULL && txn != NULL) {
            dbos_txn_note_absent(txn, DBOS_TABLE_MODEL, dbos_table_def_of(table)->indexes[0].id,
                                 key, 2);
        }
    }
    if (row == NULL) {
        return version == 0
                   ? dbos_fail(info, DBOS_ERR_UNDEFINED_OBJECT, "there is no model %d", model_id)
                   : dbos_fail(info, DBOS_ERR_UNDEFINED_OBJECT, "model %d has no version %d",
                               model_id, version);
    }
    if (txn != NULL) {
        dbos_txn_note_read(txn, DBOS_TABLE_MODEL, row);
    }
    *out = (struct dbos_model_ref){
        .model_id = model_id,
        .version = (int32_t)column(table, row, MODEL_VERSION).integer,
        .chunks = (uint32_t)column(table, row, MODEL_CHUNKS).integer,
    };
    return DBOS_OK;
}

const struct dbos_row *dbos_model_chunk(struct dbos_store *store, struct dbos_txn *txn,
                                        const struct dbos_model_ref *model, uint32_t chunk) {
    struct dbos_datum key[] = {dbos_datum_int(DBOS_TYPE_INT4, model->model_id),
                               dbos_datum_int(DBOS_TYPE_INT4, model->version),
                               dbos_datum_int(DBOS_TYPE_INT4, chunk)};
    const struct dbos_row *row = dbos_table_find(part_of(store, DBOS_TABLE_MODEL_CHUNK), 0, key);
    if (row != NULL && txn != NULL) {
        dbos_txn_note_read(txn, DBOS_TABLE_MODEL_CHUNK, row);
    }
    return row;
}

struct dbos_datum dbos_model_chunk_bytes(struct dbos_store *store, const struct dbos_row *row) {
    return column(part_of(store, DBOS_TABLE_MODEL_CHUNK), row, CHUNK_BYTES);
}

/* -- writing --------------------------------------------------------------------------------------
 */

/* "mlp 784-512-10" for a stored model of docs/formats/frame.md ("DBM1"), else "unknown". */
static void describe(const struct dbos_task_result *result, char *out, size_t out_bytes) {
    enum {
        MAGIC = 0x314d4244,
        ARCH_AT = 8,
        INPUTS_AT = 12,
        HIDDEN_AT = 16,
        OUTPUTS_AT = 20,
        HEAD_BYTES = 24
    };
    (void)snprintf(out, out_bytes, "unknown");
    if (result->piece_count == 0 || result->pieces[0].payload.size_bytes < HEAD_BYTES) {
        return;
    }
    const uint8_t *head = result->pieces[0].payload.data;
    if (dbos_load_u32(head) == MAGIC && dbos_load_u32(head + ARCH_AT) == 1) {
        (void)snprintf(out, out_bytes, "mlp %u-%u-%u", dbos_load_u32(head + INPUTS_AT),
                       dbos_load_u32(head + HIDDEN_AT), dbos_load_u32(head + OUTPUTS_AT));
    }
}

static enum dbos_err store_chunks(const struct dbos_run *run, int32_t model_id, int32_t version,
                                  const struct dbos_task_result *result,
                                  struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < result->piece_count; i++) {
        const struct dbos_bytes *payload = &result->pieces[i].payload;
        struct dbos_datum datums[CHUNK_COLUMNS] = {
            [CHUNK_MODEL_ID] = dbos_datum_int(DBOS_TYPE_INT4, model_id),
            [CHUNK_VERSION] = dbos_datum_int(DBOS_TYPE_INT4, version),
            [CHUNK_NUMBER] = dbos_datum_int(DBOS_TYPE_INT4, i),
            [CHUNK_BYTES] = dbos_datum_bytes(DBOS_TYPE_BYTEA, payload->data, payload->size_bytes),
        };
        struct dbos_row *row;
        enum dbos_err err = dbos_txn_insert(run->txn, DBOS_TABLE_MODEL_CHUNK, datums, &row, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_model_store(const struct dbos_run *run, int32_t model_id, int64_t task_id,
                               const struct dbos_task_result *result, struct dbos_errinfo *info) {
    struct dbos_store *store = dbos_txn_store(run->txn);
    struct dbos_table *table = part_of(store, DBOS_TABLE_MODEL);
    const struct dbos_row *last = NULL;
    enum dbos_err err = newest(table, run->txn, model_id, &last, info);
    if (err != DBOS_OK) {
        return err;
    }
    int32_t version = 1;
    if (last != NULL) {
        dbos_txn_note_read(run->txn, DBOS_TABLE_MODEL, last);
        version = (int32_t)column(table, last, MODEL_VERSION).integer + 1;
    }
    char name[32];
    char architecture[64];
    (void)snprintf(name, sizeof name, "model %d", model_id);
    describe(result, architecture, sizeof architecture);
    struct dbos_datum datums[MODEL_COLUMNS] = {
        [MODEL_ID] = dbos_datum_int(DBOS_TYPE_INT4, model_id),
        [MODEL_VERSION] = dbos_datum_int(DBOS_TYPE_INT4, version),
        [MODEL_NAME] = dbos_datum_bytes(DBOS_TYPE_TEXT, name, strlen(name)),
        [MODEL_ARCHITECTURE] = dbos_datum_bytes(DBOS_TYPE_TEXT, architecture, strlen(architecture)),
        [MODEL_CHUNKS] = dbos_datum_int(DBOS_TYPE_INT4, result->piece_count),
        [MODEL_CREATED] = dbos_datum_int(DBOS_TYPE_INT8, dbos_txn_now_us(run->txn)),
        [MODEL_TASK] = dbos_datum_int(DBOS_TYPE_INT8, task_id),
    };
    struct dbos_row *row;
    err = dbos_txn_insert(run->txn, DBOS_TABLE_MODEL, datums, &row, info);
    if (err != DBOS_OK) {
        return err;
    }
    return store_chunks(run, model_id, version, result, info);
}
