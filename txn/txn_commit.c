/* The ends of a transaction: commit, abort, forget. Declared in txn/txn.h. */
#include "storage/table_copy.h"
#include "txn/snapshot.h"
#include "txn/txn_internal.h"

/* --- undo ------------------------------------------------------------------------------------ */

static void give_row(struct dbos_table *table, struct dbos_row *row) {
    dbos_row_give(dbos_table_alloc(table), dbos_table_def_of(table), row);
}

static void undo_one(struct dbos_txn *txn, struct dbos_undo *undo) {
    switch (undo->kind) {
    case DBOS_UNDO_INSERT:
        dbos_table_undo_insert(undo->table, undo->fresh);
        dbos_table_untake_block(undo->table, undo->fresh->block);
        give_row(undo->table, undo->fresh);
        break;
    case DBOS_UNDO_REPLACE:
        dbos_table_undo_replace(undo->table, undo->old, undo->fresh);
        give_row(undo->table, undo->fresh);
        break;
    case DBOS_UNDO_REMOVE:
        dbos_table_undo_remove(undo->table, undo->old);
        break;
    case DBOS_UNDO_DDL:
        dbos_store_undo_ddl(txn->options.store);
        break;
    case DBOS_UNDO_DROP:
        dbos_store_undrop_table(txn->options.store, undo->dropped);
        break;
    }
}

void dbos_txn_undo_all(struct dbos_txn *txn) {
    for (struct dbos_undo *undo = txn->newest; undo != NULL; undo = undo->older) {
        undo_one(txn, undo);
    }
    if (txn->is_ddl) {
        dbos_store_keep_ddl(txn->options.store); /* nothing is left: the old catalogue stands */
    }
    txn->oldest = NULL;
    txn->newest = NULL;
    txn->hash_delta = 0;
    txn->fresh_objects = 0;
}

/* --- the record ------------------------------------------------------------------------------ */

/* Arguments as the record holds them; a large one is an object, and the record only names it. The
 * objects come out with one reference each. */
static enum dbos_err encode_arguments(struct dbos_txn *txn, struct dbos_object ***out,
                                      uint32_t *out_count) {
    const struct dbos_txn_call *call = &txn->call;
    *out_count = 0;
    *out = dbos_arena_take(&txn->arena, (call->argument_count + 1u) * sizeof(struct dbos_object *));
    dbos_buf_reset(&txn->arguments);
    if (*out == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < call->argument_count; i++) {
        struct dbos_datum datum = call->arguments[i];
        if (!datum.is_null && dbos_type_is_bytes((enum dbos_type)datum.type) &&
            datum.bytes.size_bytes >= DBOS_OBJECT_BYTES_MIN &&
            datum.bytes.size_bytes <= DBOS_COLUMN_BYTES_MAX) {
            struct dbos_object *object = NULL;
            if (datum.object != NULL) {
                object = dbos_object_ref(datum.object);
            } else if (dbos_object_make(dbos_store_objects(txn->options.store), datum.bytes.data,
                                        datum.bytes.size_bytes, &object) != DBOS_OK) {
                return DBOS_ERR_NOMEM;
            }
            datum.object = object;
            (*out)[(*out_count)++] = object;
        }
        dbos_image_put_argument(&txn->arguments, &datum);
    }
    return txn->arguments.failed ? DBOS_ERR_NOMEM : DBOS_OK;
}

static uint16_t record_flags(const struct dbos_txn *txn, bool aborted) {
    unsigned flags = 0;
    flags |= txn->options.partition == DBOS_PARTITION_ALL ? DBOS_RECORD_BARRIER : 0u;
    flags |= aborted ? DBOS_RECORD_ABORTED : 0u;
    flags |= aborted || txn->newest == NULL ? DBOS_RECORD_READ_ONLY : 0u;
    flags |= txn->call.is_task_result ? DBOS_RECORD_TASK_RESULT : 0u;
    flags |= txn->is_ddl && !aborted ? DBOS_RECORD_DDL : 0u;
    flags |= txn->options.reads_off ? DBOS_RECORD_READS_OFF : 0u;
    return (uint16_t)flags;
}

static void fill_head(struct dbos_txn *txn, enum dbos_err outcome, struct dbos_record_head *head) {
    const struct dbos_txn_call *call = &txn->call;
    *head = (struct dbos_record_head){
        .start_us = txn->start_us,
        .partition = (uint16_t)txn->options.partition,
        .partitions = (uint16_t)dbos_store_partitions(txn->options.store),
        .flags = record_flags(txn, outcome != DBOS_OK),
        .outcome = (uint16_t)outcome,
        .session = call->session == NULL ? 0 : call->session->id,
        .request = call->request,
        .procedure = call->procedure,
        .procedure_version = call->procedure_version,
        .task_id = call->task_id,
        .seed = txn->seed,
        .has_seed = txn->random_begun,
        .argument_count = call->argument_count,
        .arguments = {.data = txn->arguments.data, .size_bytes = txn->arguments.size_bytes},
        .hash_delta = (int64_t)txn->hash_delta,
    };
}

/* References to the objects of the rows that this transaction wrote, for the log to write. */
static void take_row_objects(const struct dbos_txn *txn, struct dbos_log_entry *entry) {
    for (const struct dbos_undo *undo = txn->oldest; undo != NULL; undo = undo->newer) {
        for (uint32_t i = 0; undo->fresh != NULL && i < undo->fresh->object_count; i++) {
            entry->objects[entry->object_count++] =
                dbos_object_ref(dbos_row_objects(undo->fresh)[i]);
        }
    }
}

/* An entry with room for the record; `objects` (of the arguments) go over to it. */
static enum dbos_err make_entry(struct dbos_txn *txn, const struct dbos_record_head *head,
                                struct dbos_object **objects, uint32_t object_count,
                                struct dbos_log_entry **out, struct dbos_errinfo *info) {
    size_t bytes = dbos_capture_record_bytes_max(txn->capture, head);
    *out = NULL;
    if (bytes > DBOS_RECORD_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT,
                         "the transaction reads and writes more than one log record of %d bytes "
                         "can hold",
                         DBOS_RECORD_BYTES_MAX);
    }
    struct dbos_log_entry *entry =
        dbos_log_pool_take(txn->pool, bytes, txn->fresh_objects + object_count);
    if (entry == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a log record");
    }
    for (uint32_t i = 0; i < object_count; i++) {
        entry->objects[entry->object_count++] = objects[i];
    }
    take_row_objects(txn, entry);
    *out = entry;
    return DBOS_OK;
}

/* Everything that can fail, done before a position is taken. */
static enum dbos_err prepare_record(struct dbos_txn *txn, enum dbos_err outcome,
                                    struct dbos_record_head *head, struct dbos_log_entry **out,
                                    struct dbos_errinfo *info) {
    struct dbos_object **objects = NULL;
    uint32_t object_count = 0;
    *out = NULL;
    enum dbos_err err = encode_arguments(txn, &objects, &object_count);
    if (err == DBOS_OK) {
        err = dbos_capture_reserve(txn->capture, txn->arguments.size_bytes);
    }
    if (err != DBOS_OK) {
        (void)dbos_fail(info, err, "out of memory for a log record");
    } else {
        fill_head(txn, outcome, head);
        if (txn->options.log != NULL) {
            err = make_entry(txn, head, objects, object_count, out, info);
        }
    }
    if (err != DBOS_OK || txn->options.log == NULL) {
        for (uint32_t i = 0; i < object_count; i++) {
            dbos_object_unref(objects[i]);
        }
    }
    return err;
}

/* Take the position, encode, hand over. Later positions wait for this one, so nothing here can fail
 * or block. */
static uint64_t append_record(struct dbos_txn *txn, struct dbos_record_head *head,
                              struct dbos_log_entry *entry) {
    struct dbos_log *log = txn->options.log;
    if (log == NULL) {
        return ++txn->unlogged_position;
    }
    head->position = dbos_log_take_position(log);
    head->commit_us = txn->options.commit_time(txn->options.commit_time_arg);
    entry->position = head->position;
    entry->hash_delta = head->hash_delta;
    entry->size_bytes =
        (uint32_t)dbos_capture_finish(txn->capture, head, txn->call.session, entry->data);
    dbos_log_append_give(log, entry);
    return head->position;
}

/* --- commit ---------------------------------------------------------------------------------- */

/* A snapshot that is being taken cannot have the rows of a table that is no more. */
static void end_copies(const struct dbos_dropped_table *dropped) {
    for (uint32_t i = 0; i < dropped->part_count; i++) {
        dbos_snapshot_table_dropped(dropped->parts[i]);
    }
}

/* Stamp what was written, give back what it replaced. From the oldest on: a version that a later
 * change of this transaction ended is stamped first and given back then. */
static void settle_writes(struct dbos_txn *txn, uint64_t position) {
    bool has_ddl = false;
    for (struct dbos_undo *undo = txn->oldest; undo != NULL; undo = undo->newer) {
        if (undo->fresh != NULL) {
            undo->fresh->position = position;
        }
        if (undo->old != NULL) {
            dbos_table_row_ended(undo->table, undo->old);
            give_row(undo->table, undo->old);
        }
        has_ddl |= undo->kind == DBOS_UNDO_DDL || undo->kind == DBOS_UNDO_DROP;
    }
    if (has_ddl) {
        dbos_store_keep_ddl(txn->options.store);
        for (struct dbos_undo *undo = txn->oldest; undo != NULL; undo = undo->newer) {
            if (undo->kind == DBOS_UNDO_DROP) {
                end_copies(undo->dropped);
                dbos_store_forget_table(txn->options.store, undo->dropped);
            }
        }
    }
}

enum dbos_err dbos_txn_commit(struct dbos_txn *txn, uint64_t *out_position,
                              struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_log_entry *entry = NULL;
    *out_position = 0;
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE);
    if (txn->doom != DBOS_OK || dbos_capture_failed(txn->capture)) {
        return dbos_fail(info, txn->doom == DBOS_OK ? DBOS_ERR_NOMEM : txn->doom,
                         "the transaction has failed and can only be aborted");
    }
    if (txn->newest == NULL && !dbos_capture_has_reads(txn->capture)) {
        txn->state = DBOS_TXN_IDLE;
        return DBOS_OK;
    }
    enum dbos_err err = prepare_record(txn, DBOS_OK, &head, &entry, info);
    if (err != DBOS_OK) {
        txn->doom = err;
        return err;
    }
    uint64_t position = append_record(txn, &head, entry);
    if (txn->newest != NULL) {
        if (txn->options.partition == DBOS_PARTITION_ALL && txn->options.log != NULL) {
            dbos_log_note_barrier(txn->options.log, position); /* before anyone can see it */
        }
        settle_writes(txn, position);
        txn->last_write_position = position;
    }
    txn->state = DBOS_TXN_IDLE;
    *out_position = position;
    return DBOS_OK;
}

/* --- abort ----------------------------------------------------------------------------------- */

uint64_t dbos_txn_abort(struct dbos_txn *txn, enum dbos_err why) {
    struct dbos_record_head head;
    struct dbos_log_entry *entry = NULL;
    struct dbos_errinfo ignored;
    uint64_t position = 0;
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE && why != DBOS_OK);
    dbos_txn_undo_all(txn);
    /* Where there is no memory for it, the record of the reads of a transaction that never was is
     * what can be done without. */
    if (dbos_capture_has_reads(txn->capture) && !dbos_capture_failed(txn->capture) &&
        prepare_record(txn, why, &head, &entry, &ignored) == DBOS_OK) {
        position = append_record(txn, &head, entry);
    }
    txn->state = DBOS_TXN_IDLE;
    return position;
}

void dbos_txn_forget(struct dbos_txn *txn) {
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE);
    dbos_txn_undo_all(txn);
    txn->state = DBOS_TXN_IDLE;
}

/* --- again ----------------------------------------------------------------------------------- */

static enum dbos_err put_record(struct dbos_txn *txn, struct dbos_record_head *head,
                                struct dbos_buf *out, struct dbos_errinfo *info) {
    size_t bytes_max = dbos_capture_record_bytes_max(txn->capture, head);
    if (bytes_max > DBOS_RECORD_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "the record is over %d bytes",
                         DBOS_RECORD_BYTES_MAX);
    }
    uint8_t *to = dbos_buf_reserve(out, bytes_max);
    if (to == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a record");
    }
    head->position = txn->call.again->position;
    head->commit_us = txn->call.again->commit_us;
    out->size_bytes += dbos_capture_finish(txn->capture, head, txn->call.session, to);
    return DBOS_OK;
}

enum dbos_err dbos_txn_rehearse(struct dbos_txn *txn, enum dbos_err why, struct dbos_buf *record,
                                struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_log_entry *entry = NULL;
    enum dbos_err err = DBOS_OK;
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE && txn->call.again != NULL);
    DBOS_CHECK(txn->options.log == NULL && !txn->is_ddl);
    dbos_buf_reset(record);
    if (why != DBOS_OK) {
        dbos_txn_undo_all(txn); /* as abort does, which shows in the record's flags */
    }
    if (txn->doom != DBOS_OK || dbos_capture_failed(txn->capture)) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a transaction that runs again");
    } else if (txn->newest != NULL || dbos_capture_has_reads(txn->capture)) {
        err = prepare_record(txn, why, &head, &entry, info);
        if (err == DBOS_OK) {
            err = put_record(txn, &head, record, info);
        }
    }
    dbos_txn_undo_all(txn);
    txn->state = DBOS_TXN_IDLE;
    return err;
}
