/* Definitions: changes of the store together with their rows in dbos.catalog. Declared in
 * txn/txn.h. A failure after the store has changed dooms the transaction: only abort is left. */
#include "txn/catalog_row.h"
#include "txn/txn_internal.h"

static enum dbos_err begin_ddl(struct dbos_txn *txn, struct dbos_undo **out,
                               struct dbos_errinfo *info) {
    *out = NULL;
    enum dbos_err err = dbos_txn_may_write(txn, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (txn->options.partition != DBOS_PARTITION_ALL) {
        return dbos_fail(info, DBOS_ERR_WRONG_PARTITION,
                         "definitions are changed on all partitions together");
    }
    *out = dbos_txn_undo_make(txn);
    if (*out == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    txn->is_ddl = true;
    dbos_store_track_ddl(txn->options.store);
    return DBOS_OK;
}

/* The store has changed and remembers how. */
static void push_ddl(struct dbos_txn *txn, struct dbos_undo *undo) {
    undo->kind = DBOS_UNDO_DDL;
    dbos_txn_undo_push(txn, undo);
}

/* Store and catalogue row must agree, or nothing remains. */
static enum dbos_err doom(struct dbos_txn *txn, enum dbos_err err) {
    if (err != DBOS_OK) {
        txn->doom = err;
    }
    return err;
}

static struct dbos_row *catalog_row(struct dbos_txn *txn, enum dbos_catalog_kind kind,
                                    uint32_t id) {
    struct dbos_datum key[2] = {dbos_datum_int(DBOS_TYPE_INT2, (int64_t)kind),
                                dbos_datum_int(DBOS_TYPE_INT8, id)};
    return dbos_table_find(dbos_store_table(txn->options.store, DBOS_TABLE_CATALOG, 0), 0, key);
}

/* Write the row of a definition: a new one, or a new version of the one that is there. */
static enum dbos_err put_catalog_row(struct dbos_txn *txn, enum dbos_catalog_kind kind, uint32_t id,
                                     uint32_t version, const char *name,
                                     const struct dbos_buf *definition, struct dbos_errinfo *info) {
    struct dbos_datum datums[DBOS_CATALOG_COLUMNS] = {
        [DBOS_CATALOG_KIND] = dbos_datum_int(DBOS_TYPE_INT2, (int64_t)kind),
        [DBOS_CATALOG_ID] = dbos_datum_int(DBOS_TYPE_INT8, id),
        [DBOS_CATALOG_NAME] = dbos_datum_bytes(DBOS_TYPE_TEXT, name, strlen(name)),
        [DBOS_CATALOG_VERSION] = dbos_datum_int(DBOS_TYPE_INT4, version),
        [DBOS_CATALOG_DEFINITION] =
            dbos_datum_bytes(DBOS_TYPE_BYTEA, definition->data, definition->size_bytes),
    };
    struct dbos_row *old = catalog_row(txn, kind, id);
    struct dbos_row *row = NULL;
    if (definition->failed) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    return old == NULL ? dbos_txn_insert(txn, DBOS_TABLE_CATALOG, datums, &row, info)
                       : dbos_txn_update(txn, DBOS_TABLE_CATALOG, old, datums, &row, info);
}

static enum dbos_err put_table_row(struct dbos_txn *txn, const struct dbos_table_def *def,
                                   struct dbos_errinfo *info) {
    struct dbos_buf buf;
    dbos_buf_init(&buf, txn->alloc);
    dbos_table_def_encode(def, &buf);
    enum dbos_err err = put_catalog_row(txn, DBOS_CATALOG_TABLE, def->id, def->schema_version,
                                        def->name, &buf, info);
    dbos_buf_fini(&buf);
    return doom(txn, err);
}

static enum dbos_err delete_catalog_row(struct dbos_txn *txn, enum dbos_catalog_kind kind,
                                        uint32_t id, struct dbos_errinfo *info) {
    struct dbos_row *row = catalog_row(txn, kind, id);
    if (row == NULL) {
        return doom(
            txn, dbos_fail(info, DBOS_ERR_INTERNAL, "dbos.catalog has no row for what is dropped"));
    }
    return doom(txn, dbos_txn_delete(txn, DBOS_TABLE_CATALOG, row, info));
}

/* --- tables ---------------------------------------------------------------------------------- */

enum dbos_err dbos_txn_create_table(struct dbos_txn *txn, struct dbos_table_def *def,
                                    struct dbos_errinfo *info) {
    struct dbos_undo *undo = NULL;
    enum dbos_err err = begin_ddl(txn, &undo, info);
    if (err == DBOS_OK) {
        err = dbos_store_create_table(txn->options.store, def, info);
    }
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn, err);
    }
    push_ddl(txn, undo);
    return put_table_row(txn, def, info);
}

enum dbos_err dbos_txn_redefine_table(struct dbos_txn *txn, struct dbos_table_def *def,
                                      struct dbos_errinfo *info) {
    struct dbos_undo *undo = NULL;
    enum dbos_err err = begin_ddl(txn, &undo, info);
    if (err == DBOS_OK) {
        err = dbos_store_redefine_table(txn->options.store, def, info);
    }
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn, err);
    }
    push_ddl(txn, undo);
    return put_table_row(txn, def, info);
}

enum dbos_err dbos_txn_drop_table(struct dbos_txn *txn, uint32_t table_id,
                                  struct dbos_errinfo *info) {
    struct dbos_undo *undo = NULL;
    enum dbos_err err = begin_ddl(txn, &undo, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_dropped_table *dropped = dbos_arena_take_zero(&txn->arena, sizeof *dropped);
    if (dropped == NULL) {
        return dbos_txn_note_error(txn, dbos_fail(info, DBOS_ERR_NOMEM, "out of memory"));
    }
    err = dbos_store_drop_table(txn->options.store, table_id, dropped, info);
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn, err);
    }
    undo->kind = DBOS_UNDO_DROP;
    undo->dropped = dropped;
    dbos_txn_undo_push(txn, undo);
    for (uint32_t i = 0; i < dropped->part_count; i++) {
        txn->hash_delta -= dbos_table_state_hash(dropped->parts[i]);
    }
    return delete_catalog_row(txn, DBOS_CATALOG_TABLE, table_id, info);
}

/* --- procedures ------------------------------------------------------------------------------ */

enum dbos_err dbos_txn_put_procedure(struct dbos_txn *txn, struct dbos_procedure_info *procedure,
                                     struct dbos_errinfo *info) {
    struct dbos_undo *undo = NULL;
    enum dbos_err err = begin_ddl(txn, &undo, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_store_put_procedure(txn->options.store, procedure);
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn,
                                   dbos_fail(info, err, "cannot define \"%s\"", procedure->name));
    }
    push_ddl(txn, undo);
    struct dbos_buf buf;
    dbos_buf_init(&buf, txn->alloc);
    dbos_procedure_info_encode(procedure, &buf);
    err = put_catalog_row(txn, DBOS_CATALOG_PROCEDURE, procedure->id, procedure->version,
                          procedure->name, &buf, info);
    dbos_buf_fini(&buf);
    return doom(txn, err);
}

enum dbos_err dbos_txn_drop_procedure(struct dbos_txn *txn, uint32_t id,
                                      struct dbos_errinfo *info) {
    struct dbos_undo *undo = NULL;
    enum dbos_err err = begin_ddl(txn, &undo, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_store_drop_procedure(txn->options.store, id);
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn, dbos_fail(info, err, "procedure %u does not exist", id));
    }
    push_ddl(txn, undo);
    return delete_catalog_row(txn, DBOS_CATALOG_PROCEDURE, id, info);
}
