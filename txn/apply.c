/* Recovery: the writes of one record, applied to the store. Declared in txn/txn.h. Needs no planner
 * and no module: definitions come from dbos.catalog, rows as they were logged. */
#include "txn/catalog_row.h"
#include "txn/txn.h"
#include "txn/txn_apply.h"

struct apply {
    struct dbos_store *store;
    struct dbos_log *log;
    uint64_t position;
    uint32_t only;       /* what this partition owns; DBOS_PARTITION_ALL = everything */
    uint64_t state_hash; /* change so far, modulo 2^64 */
    struct dbos_object_finder finder;
};

static enum dbos_err find_object(void *arg, const struct dbos_object_id *id,
                                 struct dbos_object **out, struct dbos_errinfo *info) {
    struct apply *apply = arg;
    *out = apply->log == NULL ? dbos_object_find(dbos_store_objects(apply->store), id) : NULL;
    return apply->log == NULL ? DBOS_OK : dbos_log_load_object(apply->log, id, out, info);
}

static enum dbos_err contradiction(const struct apply *apply, const struct dbos_event *event,
                                   const char *what, struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_CORRUPT,
                     "record %llu does not fit the state: %s (table %u, block %llu)",
                     (unsigned long long)apply->position, what, event->table_id,
                     (unsigned long long)event->block);
}

/* The part of the table that the block lives on; the number of partitions may be another one than
 * when the record was written. */
static struct dbos_table *part_of(const struct apply *apply, const struct dbos_event *event) {
    struct dbos_table *table = dbos_store_table(apply->store, event->table_id, 0);
    if (table == NULL || dbos_table_def_of(table)->partition_column < 0) {
        return table;
    }
    uint32_t slot = (uint32_t)(event->block % DBOS_SLOTS);
    return dbos_store_table(apply->store, event->table_id,
                            dbos_store_partition_of(apply->store, slot));
}

/* A row from the after-image, not in the table yet. */
static enum dbos_err decode_after(const struct apply *apply, struct dbos_table *table,
                                  const struct dbos_event *event, struct dbos_row **out,
                                  struct dbos_errinfo *info) {
    enum dbos_err err =
        dbos_row_decode(dbos_table_alloc(table), dbos_table_def_of(table), &apply->finder,
                        event->after.data, event->after.size_bytes, out, info);
    if (err != DBOS_OK) {
        dbos_err_detail(info, "Record %llu, table %u, block %llu.",
                        (unsigned long long)apply->position, event->table_id,
                        (unsigned long long)event->block);
        return err;
    }
    (*out)->block = event->block;
    (*out)->position = apply->position;
    return DBOS_OK;
}

static void give_row(struct dbos_table *table, struct dbos_row *row) {
    dbos_row_give(dbos_table_alloc(table), dbos_table_def_of(table), row);
}

static enum dbos_err apply_insert(struct apply *apply, struct dbos_table *table,
                                  const struct dbos_event *event, struct dbos_errinfo *info) {
    struct dbos_row *row = NULL;
    if (dbos_table_by_block(table, event->block) != NULL) {
        return contradiction(apply, event, "an inserted row is there already", info);
    }
    enum dbos_err err = decode_after(apply, table, event, &row, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_table_insert(table, row, info);
    if (err != DBOS_OK) {
        give_row(table, row);
        return err == DBOS_ERR_NOMEM
                   ? err
                   : contradiction(apply, event, "an inserted row has a key that is taken", info);
    }
    dbos_table_saw_block(table, event->block);
    apply->state_hash += dbos_row_hash(event->table_id, row);
    return DBOS_OK;
}

/* The row that an update or a delete ends. */
static enum dbos_err find_before(const struct apply *apply, struct dbos_table *table,
                                 const struct dbos_event *event, struct dbos_row **out,
                                 struct dbos_errinfo *info) {
    *out = dbos_table_by_block(table, event->block);
    if (*out == NULL) {
        return contradiction(apply, event, "a changed row is not there", info);
    }
    if ((*out)->position != event->previous_position) {
        return contradiction(apply, event, "a changed row has another version", info);
    }
    return DBOS_OK;
}

static enum dbos_err apply_update(struct apply *apply, struct dbos_table *table,
                                  const struct dbos_event *event, struct dbos_errinfo *info) {
    struct dbos_row *old = NULL;
    struct dbos_row *fresh = NULL;
    enum dbos_err err = find_before(apply, table, event, &old, info);
    if (err == DBOS_OK) {
        err = decode_after(apply, table, event, &fresh, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_table_replace(table, old, fresh, info);
    if (err != DBOS_OK) {
        give_row(table, fresh);
        return err == DBOS_ERR_NOMEM
                   ? err
                   : contradiction(apply, event, "an updated row has a key that is taken", info);
    }
    apply->state_hash +=
        dbos_row_hash(event->table_id, fresh) - dbos_row_hash(event->table_id, old);
    give_row(table, old);
    return DBOS_OK;
}

static enum dbos_err apply_delete(struct apply *apply, struct dbos_table *table,
                                  const struct dbos_event *event, struct dbos_errinfo *info) {
    struct dbos_row *old = NULL;
    enum dbos_err err = find_before(apply, table, event, &old, info);
    if (err != DBOS_OK) {
        return err;
    }
    apply->state_hash -= dbos_row_hash(event->table_id, old);
    dbos_table_remove(table, old);
    give_row(table, old);
    return DBOS_OK;
}

/* --- definitions ----------------------------------------------------------------------------- */

static enum dbos_err define_table(struct dbos_store *store, const struct dbos_datum *definition,
                                  bool is_new, struct dbos_errinfo *info) {
    struct dbos_table_def *def = NULL;
    enum dbos_err err =
        dbos_table_def_decode(dbos_store_catalog(store)->alloc, definition->bytes.data,
                              definition->bytes.size_bytes, &def, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = is_new ? dbos_store_create_table(store, def, info)
                 : dbos_store_redefine_table(store, def, info);
    dbos_table_def_unref(def);
    return err;
}

static enum dbos_err define_procedure(struct dbos_store *store, const struct dbos_datum *definition,
                                      struct dbos_errinfo *info) {
    struct dbos_procedure_info *procedure = NULL;
    enum dbos_err err =
        dbos_procedure_info_decode(dbos_store_catalog(store)->alloc, definition->bytes.data,
                                   definition->bytes.size_bytes, &procedure, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_store_put_procedure(store, procedure);
    if (err != DBOS_OK) {
        (void)dbos_fail(info, err, "cannot define \"%s\"", procedure->name);
    }
    dbos_procedure_info_unref(procedure);
    return err;
}

enum dbos_err dbos_txn_define(struct dbos_store *store, const struct dbos_table *catalog,
                              const struct dbos_row *row, bool is_new, struct dbos_errinfo *info) {
    const struct dbos_table_def *def = dbos_table_def_of(catalog);
    struct dbos_datum kind = dbos_row_column(def, row, DBOS_CATALOG_KIND);
    struct dbos_datum definition = dbos_row_column(def, row, DBOS_CATALOG_DEFINITION);
    if (kind.is_null || definition.is_null) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "definition %llu is empty",
                         (unsigned long long)row->block);
    }
    switch (kind.integer) {
    case DBOS_CATALOG_TABLE:
        return define_table(store, &definition, is_new, info);
    case DBOS_CATALOG_PROCEDURE:
        return define_procedure(store, &definition, info);
    default:
        return dbos_fail(info, DBOS_ERR_CORRUPT, "definition %llu has an unknown kind",
                         (unsigned long long)row->block);
    }
}

/* The row of dbos.catalog is written; the store follows. */
static enum dbos_err define(struct apply *apply, struct dbos_table *table,
                            const struct dbos_event *event, struct dbos_errinfo *info) {
    const struct dbos_row *row = dbos_table_by_block(table, event->block);
    enum dbos_err err =
        dbos_txn_define(apply->store, table, row, event->op == DBOS_EVENT_INSERT, info);
    return err == DBOS_ERR_CORRUPT ? contradiction(apply, event, "a definition is malformed", info)
                                   : err;
}

static enum dbos_err drop_table(struct apply *apply, uint32_t table_id, struct dbos_errinfo *info) {
    struct dbos_dropped_table dropped;
    enum dbos_err err = dbos_store_drop_table(apply->store, table_id, &dropped, info);
    if (err != DBOS_OK) {
        return err;
    }
    for (uint32_t i = 0; i < dropped.part_count; i++) {
        apply->state_hash -= dbos_table_state_hash(dropped.parts[i]);
    }
    dbos_store_forget_table(apply->store, &dropped);
    return DBOS_OK;
}

/* A row of dbos.catalog is about to be deleted: what it defines goes first. */
static enum dbos_err undefine(struct apply *apply, struct dbos_table *table,
                              const struct dbos_event *event, struct dbos_errinfo *info) {
    const struct dbos_table_def *def = dbos_table_def_of(table);
    const struct dbos_row *row = dbos_table_by_block(table, event->block);
    if (row == NULL) {
        return contradiction(apply, event, "a changed row is not there", info);
    }
    struct dbos_datum kind = dbos_row_column(def, row, DBOS_CATALOG_KIND);
    struct dbos_datum id = dbos_row_column(def, row, DBOS_CATALOG_ID);
    if (id.integer < 0 || id.integer > UINT32_MAX) {
        return contradiction(apply, event, "a definition has an impossible id", info);
    }
    if (kind.integer == DBOS_CATALOG_TABLE) {
        return drop_table(apply, (uint32_t)id.integer, info);
    }
    enum dbos_err err = dbos_store_drop_procedure(apply->store, (uint32_t)id.integer);
    return err == DBOS_OK
               ? err
               : dbos_fail(info, err, "procedure %u cannot be dropped", (uint32_t)id.integer);
}

/* --- records --------------------------------------------------------------------------------- */

static enum dbos_err apply_event(struct apply *apply, const struct dbos_event *event,
                                 struct dbos_errinfo *info) {
    struct dbos_table *table = part_of(apply, event);
    bool is_catalog = event->table_id == DBOS_TABLE_CATALOG;
    enum dbos_err err = DBOS_OK;
    if (table == NULL) {
        return contradiction(apply, event, "the table does not exist", info);
    }
    if (apply->only != DBOS_PARTITION_ALL) {
        if (dbos_table_def_of(table)->partition_column < 0) {
            return contradiction(apply, event, "one partition has written what all share", info);
        }
        uint32_t slot = (uint32_t)(event->block % DBOS_SLOTS);
        if (dbos_store_partition_of(apply->store, slot) != apply->only) {
            return DBOS_OK;
        }
    }
    if (event->op == DBOS_EVENT_DELETE) {
        if (is_catalog) {
            err = undefine(apply, table, event, info);
        }
        return err == DBOS_OK ? apply_delete(apply, table, event, info) : err;
    }
    err = event->op == DBOS_EVENT_INSERT ? apply_insert(apply, table, event, info)
                                         : apply_update(apply, table, event, info);
    return err == DBOS_OK && is_catalog ? define(apply, table, event, info) : err;
}

static enum dbos_err apply_record(struct dbos_store *store, struct dbos_log *log,
                                  const uint8_t *record, size_t size_bytes, uint32_t only,
                                  uint64_t *state_hash, struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    dbos_record_scratch_init(&scratch, dbos_store_catalog(store)->alloc);
    enum dbos_err err = dbos_record_open(record, size_bytes, &scratch, &head, &decoder, info);
    if (err != DBOS_OK || (head.flags & (DBOS_RECORD_ABORTED | DBOS_RECORD_READ_ONLY)) != 0) {
        dbos_record_scratch_fini(&scratch);
        return err;
    }
    struct apply apply = {.store = store, .log = log, .position = head.position, .only = only};
    apply.finder = (struct dbos_object_finder){.find = find_object, .arg = &apply};
    while (err == DBOS_OK && dbos_record_next(&decoder, &event)) {
        if (event.op == DBOS_EVENT_INSERT || event.op == DBOS_EVENT_UPDATE ||
            event.op == DBOS_EVENT_DELETE) {
            err = apply_event(&apply, &event, info);
        }
    }
    dbos_record_scratch_fini(&scratch);
    if (err == DBOS_OK) {
        err = dbos_record_end(&decoder, info);
    }
    if (err == DBOS_OK && head.has_hash_delta && apply.state_hash != (uint64_t)head.hash_delta) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT,
                        "record %llu changes the state otherwise than it says",
                        (unsigned long long)head.position);
    }
    *state_hash += apply.state_hash;
    return err;
}

enum dbos_err dbos_txn_apply_record(struct dbos_store *store, struct dbos_log *log,
                                    const uint8_t *record, size_t size_bytes, uint64_t *state_hash,
                                    struct dbos_errinfo *info) {
    return apply_record(store, log, record, size_bytes, DBOS_PARTITION_ALL, state_hash, info);
}

enum dbos_err dbos_txn_apply_part(struct dbos_store *store, struct dbos_log *log,
                                  const uint8_t *record, size_t size_bytes, uint32_t partition,
                                  uint64_t *state_hash, struct dbos_errinfo *info) {
    return apply_record(store, log, record, size_bytes, partition, state_hash, info);
}
