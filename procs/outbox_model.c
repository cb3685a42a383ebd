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
