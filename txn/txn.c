#include "txn/txn.h"

#include "txn/txn_internal.h"

enum dbos_err dbos_txn_open(struct dbos_alloc *alloc, const struct dbos_txn_options *options,
                            struct dbos_txn **out) {
    *out = NULL;
    DBOS_CHECK(options->partition == DBOS_PARTITION_ALL ||
               options->partition < dbos_store_partitions(options->store));
    struct dbos_txn *txn = dbos_take_zero(alloc, sizeof *txn);
    if (txn == NULL) {
        return DBOS_ERR_NOMEM;
    }
    txn->alloc = alloc;
    txn->options = *options;
    dbos_arena_init(&txn->arena, alloc, 0);
    dbos_buf_init(&txn->arguments, alloc);
    dbos_buf_init(&txn->low_key, alloc);
    dbos_buf_init(&txn->high_key, alloc);
    dbos_rng_init(&txn->seeds, options->env->ops->random_u64(options->env));
    if (dbos_capture_open(alloc, &txn->capture) != DBOS_OK ||
        (options->log != NULL && dbos_log_pool_open(options->log, &txn->pool) != DBOS_OK)) {
        dbos_txn_close(txn);
        return DBOS_ERR_NOMEM;
    }
    *out = txn;
    return DBOS_OK;
}

void dbos_txn_close(struct dbos_txn *txn) {
    if (txn == NULL) {
        return;
    }
    DBOS_CHECK(txn->state == DBOS_TXN_IDLE);
    dbos_capture_close(txn->capture);
    dbos_log_pool_close(txn->pool);
    dbos_buf_fini(&txn->arguments);
    dbos_buf_fini(&txn->low_key);
    dbos_buf_fini(&txn->high_key);
    dbos_arena_fini(&txn->arena);
    dbos_give(txn->alloc, txn);
}

/* Most transactions know a monotonic time already: that saves them a look at the wall clock. */
static int64_t start_time(struct dbos_txn *txn, uint64_t start_ns) {
    enum { READING_LASTS_NS = 1000000 };
    struct dbos_env *env = txn->options.env;
    if (start_ns == 0) {
        return env->ops->wall_us(env);
    }
    if (start_ns - txn->wall_ns >= READING_LASTS_NS) {
        txn->wall_us = env->ops->wall_us(env);
        txn->wall_ns = start_ns;
    }
    return txn->wall_us + (int64_t)((start_ns - txn->wall_ns) / 1000);
}

void dbos_txn_begin(struct dbos_txn *txn, const struct dbos_txn_call *call) {
    DBOS_CHECK(txn->state == DBOS_TXN_IDLE);
    dbos_arena_reset(&txn->arena);
    dbos_capture_begin(txn->capture);
    if (call->procedure == 0) { /* a procedure's arguments are known when it is called */
        dbos_capture_arguments(txn->capture, call->arguments, call->argument_count);
    }
    txn->state = DBOS_TXN_ACTIVE;
    txn->doom = DBOS_OK;
    txn->call = *call;
    txn->oldest = NULL;
    txn->newest = NULL;
    txn->fresh_objects = 0;
    txn->hash_delta = 0;
    if (call->again == NULL) {
        txn->start_us = start_time(txn, call->start_ns);
        txn->seed = dbos_rng_next(&txn->seeds);
    } else {
        txn->start_us = call->again->start_us;
        txn->seed = call->again->seed;
    }
    txn->random_begun = false;
    txn->is_ddl = false;
    txn->attachment = NULL;
}

void dbos_txn_set_procedure(struct dbos_txn *txn, uint32_t procedure, uint32_t version,
                            bool read_only) {
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE);
    DBOS_CHECK(!dbos_txn_has_writes(txn) && !dbos_capture_has_ordinals(txn->capture));
    txn->call.procedure = procedure;
    txn->call.procedure_version = version;
    txn->call.read_only = read_only;
}

void dbos_txn_set_arguments(struct dbos_txn *txn, const struct dbos_datum *arguments,
                            uint32_t count) {
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE);
    txn->call.arguments = arguments;
    txn->call.argument_count = count;
    /* What they drew is in them. What the procedure draws begins with a seed of its own, so that
     * the one seed of the record stands for all of it. */
    if (txn->random_begun) {
        txn->seed = dbos_rng_next(&txn->seeds);
        txn->random_begun = false;
    }
    dbos_capture_arguments(txn->capture, arguments, count);
}

/* --- facts ----------------------------------------------------------------------------------- */

struct dbos_arena *dbos_txn_arena(struct dbos_txn *txn) {
    return &txn->arena;
}
void **dbos_txn_attachment(struct dbos_txn *txn) { return &txn->attachment; }
struct dbos_store *dbos_txn_store(struct dbos_txn *txn) {
    return txn->options.store;
}
struct dbos_catalog *dbos_txn_catalog(struct dbos_txn *txn) {
    return dbos_store_catalog(txn->options.store);
}
uint32_t dbos_txn_partition(const struct dbos_txn *txn) { return txn->options.partition; }

bool dbos_txn_has_partition(const struct dbos_txn *txn, uint32_t partition) {
    return txn->options.partition == DBOS_PARTITION_ALL || txn->options.partition == partition;
}

const struct dbos_txn_call *dbos_txn_call(const struct dbos_txn *txn) { return &txn->call; }

int64_t dbos_txn_now_us(struct dbos_txn *txn) { return txn->start_us; }

uint64_t dbos_txn_random(struct dbos_txn *txn) {
    if (!txn->random_begun) {
        dbos_rng_init(&txn->random, txn->seed);
        txn->random_begun = true;
    }
    return dbos_rng_next(&txn->random);
}

bool dbos_txn_has_writes(const struct dbos_txn *txn) { return txn->newest != NULL; }

uint64_t dbos_txn_seen_position(const struct dbos_txn *txn) {
    struct dbos_log *log = txn->options.log;
    if (log == NULL) {
        return txn->last_write_position;
    }
    uint64_t barrier = dbos_log_barrier_position(log);
    return barrier > txn->last_write_position ? barrier : txn->last_write_position;
}

void dbos_txn_see(struct dbos_txn *txn, uint64_t position) {
    if (position > txn->last_write_position) {
        txn->last_write_position = position;
    }
}

/* --- partitions ------------------------------------------------------------------------------ */

/* Some part of a table, for its definition. */
static struct dbos_table *any_part(struct dbos_txn *txn, uint32_t table_id) {
    uint32_t own = txn->options.partition == DBOS_PARTITION_ALL ? 0 : txn->options.partition;
    return dbos_store_table(txn->options.store, table_id, own);
}

struct dbos_table *dbos_txn_table(struct dbos_txn *txn, uint32_t table_id, uint32_t partition) {
    struct dbos_table *part = any_part(txn, table_id);
    if (part == NULL || dbos_table_def_of(part)->partition_column < 0 ||
        (partition == txn->options.partition && partition != DBOS_PARTITION_ALL)) {
        return part;
    }
    if (partition >= dbos_store_partitions(txn->options.store) ||
        !dbos_txn_has_partition(txn, partition)) {
        return NULL;
    }
    return dbos_store_table(txn->options.store, table_id, partition);
}

static enum dbos_err wrong_partition(const struct dbos_txn *txn, const struct dbos_table_def *def,
                                     uint32_t partition, struct dbos_errinfo *info) {
    enum dbos_err err =
        dbos_fail(info, DBOS_ERR_WRONG_PARTITION,
                  "row of \"%s\" belongs to partition %u, this transaction runs on partition %u",
                  def->name, partition, txn->options.partition);
    dbos_err_hint(info, "Route the call by the partitioning column, or let it run on all "
                        "partitions.");
    return err;
}

enum dbos_err dbos_txn_route(struct dbos_txn *txn, const struct dbos_table_def *def,
                             const struct dbos_datum *value, uint32_t *out_partition,
                             struct dbos_errinfo *info) {
    uint32_t own = txn->options.partition == DBOS_PARTITION_ALL ? 0 : txn->options.partition;
    *out_partition = own;
    if (def->partition_column < 0) {
        return DBOS_OK;
    }
    uint32_t partition = dbos_store_partition_of(txn->options.store, dbos_slot_of(value));
    if (!dbos_txn_has_partition(txn, partition)) {
        return wrong_partition(txn, def, partition, info);
    }
    *out_partition = partition;
    return DBOS_OK;
}

/* The part that a row lives on, for writing. */
static enum dbos_err part_for_write(struct dbos_txn *txn, struct dbos_table *any, uint32_t slot,
                                    struct dbos_table **out, struct dbos_errinfo *info) {
    const struct dbos_table_def *def = dbos_table_def_of(any);
    *out = any;
    if (def->partition_column < 0) {
        if (txn->options.partition == DBOS_PARTITION_ALL) {
            return DBOS_OK;
        }
        enum dbos_err err = dbos_fail(
            info, DBOS_ERR_WRONG_PARTITION,
            "table \"%s\" is not partitioned: it is written on all partitions together, and this "
            "transaction runs on partition %u",
            def->name, txn->options.partition);
        dbos_err_hint(info, "Let the call run on all partitions.");
        return err;
    }
    uint32_t partition = dbos_store_partition_of(txn->options.store, slot);
    if (partition == txn->options.partition) { /* the part that any_part() found */
        return DBOS_OK;
    }
    if (!dbos_txn_has_partition(txn, partition)) {
        return wrong_partition(txn, def, partition, info);
    }
    *out = dbos_store_table(txn->options.store, def->id, partition);
    return DBOS_OK;
}

/* --- reads ----------------------------------------------------------------------------------- */

void dbos_txn_statement(struct dbos_txn *txn, uint64_t statement_id, const char *text) {
    dbos_capture_statement(txn->capture, statement_id, text);
}

void dbos_txn_own_statement(struct dbos_txn *txn, const struct dbos_txn_own_statement *statement) {
    if (txn->call.procedure == statement->procedure &&
        txn->call.procedure_version == statement->procedure_version) {
        dbos_capture_ordinal(txn->capture, statement->ordinal, statement->id, statement->text);
    } else {
        dbos_capture_statement(txn->capture, statement->text_id, statement->text);
    }
}

void dbos_txn_note_read(struct dbos_txn *txn, uint32_t table_id, const struct dbos_row *row) {
    /* Rows that this transaction wrote, too: what it writes later depends on them. After an abort a
     * block that it inserted was never there; the archive passes over reads of such blocks. */
    if (!txn->options.reads_off) {
        dbos_capture_read(txn->capture, table_id, row->block);
    }
}

/* Key bytes of leading index columns; empty where there is no memory (the record then fails). */
static struct dbos_bytes key_of(struct dbos_txn *txn, struct dbos_buf *buf,
                                const struct dbos_datum *datums, uint32_t count) {
    dbos_buf_reset(buf);
    for (uint32_t i = 0; i < count; i++) {
        dbos_datum_put_key(buf, &datums[i]);
    }
    if (buf->failed) {
        (void)dbos_txn_note_error(txn, DBOS_ERR_NOMEM);
        return (struct dbos_bytes){0};
    }
    return (struct dbos_bytes){.data = buf->data, .size_bytes = buf->size_bytes};
}

void dbos_txn_note_absent(struct dbos_txn *txn, uint32_t table_id, uint32_t index_id,
                          const struct dbos_datum *key, uint32_t count) {
    if (!txn->options.reads_off) {
        dbos_capture_absent(txn->capture, table_id, index_id,
                            key_of(txn, &txn->low_key, key, count));
    }
}

void dbos_txn_note_scan(struct dbos_txn *txn, uint32_t table_id, uint32_t partition,
                        uint64_t rows) {
    if (!txn->options.reads_off) {
        dbos_capture_scan(txn->capture, table_id, (uint16_t)partition, rows);
    }
}

void dbos_txn_note_range(struct dbos_txn *txn, uint32_t table_id, uint32_t index_id,
                         const struct dbos_bound *low, const struct dbos_bound *high,
                         uint64_t rows) {
    static const struct dbos_bound unbounded = {0};
    if (txn->options.reads_off) {
        return;
    }
    low = low == NULL ? &unbounded : low;
    high = high == NULL ? &unbounded : high;
    uint8_t flags = (uint8_t)((low->inclusive ? 1 : 0) | (high->inclusive ? 2 : 0));
    struct dbos_bytes low_key = key_of(txn, &txn->low_key, low->datums, low->count);
    struct dbos_bytes high_key = key_of(txn, &txn->high_key, high->datums, high->count);
    dbos_capture_range(txn->capture, table_id, index_id, low_key, high_key, flags, rows);
}

void dbos_txn_note_egress(struct dbos_txn *txn, uint64_t rows, uint64_t bytes, uint64_t digest) {
    if (!txn->options.reads_off) {
        dbos_capture_egress(txn->capture, rows, bytes, digest);
    }
}

/* --- writes ---------------------------------------------------------------------------------- */

enum dbos_err dbos_txn_note_error(struct dbos_txn *txn, enum dbos_err err) {
    if (err == DBOS_ERR_NOMEM) {
        txn->doom = err;
    }
    return err;
}

struct dbos_undo *dbos_txn_undo_make(struct dbos_txn *txn) {
    struct dbos_undo *undo = dbos_arena_take_zero(&txn->arena, sizeof *undo);
    if (undo == NULL) {
        (void)dbos_txn_note_error(txn, DBOS_ERR_NOMEM);
    }
    return undo;
}

void dbos_txn_undo_push(struct dbos_txn *txn, struct dbos_undo *undo) {
    undo->older = txn->newest;
    undo->newer = NULL;
    *(txn->newest == NULL ? &txn->oldest : &txn->newest->newer) = undo;
    txn->newest = undo;
    if (undo->fresh != NULL) {
        txn->fresh_objects += undo->fresh->object_count;
    }
}

static enum dbos_err fail_memory(struct dbos_txn *txn, struct dbos_errinfo *info) {
    return dbos_txn_note_error(txn, dbos_fail(info, DBOS_ERR_NOMEM, "out of memory"));
}

enum dbos_err dbos_txn_may_write(struct dbos_txn *txn, struct dbos_errinfo *info) {
    DBOS_CHECK(txn->state == DBOS_TXN_ACTIVE);
    if (txn->doom != DBOS_OK) {
        return dbos_fail(info, txn->doom, "the transaction has failed already");
    }
    if (txn->call.read_only) {
        return dbos_fail(info, DBOS_ERR_READ_ONLY, "cannot write in a read-only transaction");
    }
    if (dbos_capture_bytes(txn->capture) > DBOS_RECORD_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT,
                         "the transaction reads and writes more than one log record of %d bytes "
                         "can hold",
                         DBOS_RECORD_BYTES_MAX);
    }
    return DBOS_OK;
}

/* The table, where this transaction may write to it at all. */
static enum dbos_err begin_write(struct dbos_txn *txn, uint32_t table_id, struct dbos_table **any,
                                 struct dbos_errinfo *info) {
    enum dbos_err err = dbos_txn_may_write(txn, info);
    *any = err == DBOS_OK ? any_part(txn, table_id) : NULL;
    if (err == DBOS_OK && *any == NULL) {
        err = dbos_fail(info, DBOS_ERR_UNDEFINED_TABLE, "table %u does not exist", table_id);
    }
    return err;
}

/* Put a row that was made for it into a part of a table, as a new block. */
static enum dbos_err insert_row(struct dbos_txn *txn, struct dbos_table *table, uint32_t slot,
                                struct dbos_row *row, struct dbos_errinfo *info) {
    struct dbos_undo *undo = dbos_txn_undo_make(txn);
    if (undo == NULL) {
        return fail_memory(txn, info);
    }
    uint32_t table_id = dbos_table_def_of(table)->id;
    row->block = dbos_table_take_block(table, slot);
    enum dbos_err err = dbos_table_insert(table, row, info);
    if (err != DBOS_OK) {
        dbos_table_untake_block(table, row->block);
        return dbos_txn_note_error(txn, err);
    }
    *undo = (struct dbos_undo){.kind = DBOS_UNDO_INSERT, .table = table, .fresh = row};
    dbos_txn_undo_push(txn, undo);
    dbos_capture_insert(txn->capture, dbos_table_def_of(table), row);
    txn->hash_delta += dbos_row_hash(table_id, row);
    return DBOS_OK;
}

/* Of a new row; 0 in an unpartitioned table. */
static uint32_t slot_of(const struct dbos_table_def *def, const struct dbos_datum *datums) {
    return def->partition_column < 0 ? 0 : dbos_slot_of(&datums[def->partition_column]);
}

static enum dbos_err make_row(struct dbos_txn *txn, struct dbos_table *table,
                              const struct dbos_datum *datums, struct dbos_row **out,
                              struct dbos_errinfo *info) {
    enum dbos_err err =
        dbos_row_make(dbos_table_alloc(table), dbos_store_objects(txn->options.store),
                      dbos_table_def_of(table), datums, out, info);
    return dbos_txn_note_error(txn, err);
}

enum dbos_err dbos_txn_insert(struct dbos_txn *txn, uint32_t table_id,
                              const struct dbos_datum *datums, struct dbos_row **out,
                              struct dbos_errinfo *info) {
    struct dbos_table *any = NULL;
    struct dbos_table *table = NULL;
    struct dbos_row *row = NULL;
    *out = NULL;
    enum dbos_err err = begin_write(txn, table_id, &any, info);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t slot = slot_of(dbos_table_def_of(any), datums);
    err = part_for_write(txn, any, slot, &table, info);
    if (err == DBOS_OK) {
        dbos_table_expect_row(table, slot, datums);
        err = make_row(txn, table, datums, &row, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    err = insert_row(txn, table, slot, row, info);
    if (err != DBOS_OK) {
        dbos_row_give(dbos_table_alloc(table), dbos_table_def_of(table), row);
        return err;
    }
    *out = row;
    return DBOS_OK;
}

static void remove_row(struct dbos_txn *txn, struct dbos_table *table, struct dbos_row *row,
                       struct dbos_undo *undo) {
    uint32_t table_id = dbos_table_def_of(table)->id;
    dbos_table_remove(table, row);
    *undo = (struct dbos_undo){.kind = DBOS_UNDO_REMOVE, .table = table, .old = row};
    dbos_txn_undo_push(txn, undo);
    dbos_capture_delete(txn->capture, dbos_table_def_of(table), row);
    txn->hash_delta -= dbos_row_hash(table_id, row);
}

enum dbos_err dbos_txn_delete(struct dbos_txn *txn, uint32_t table_id, struct dbos_row *row,
                              struct dbos_errinfo *info) {
    struct dbos_table *any = NULL;
    struct dbos_table *table = NULL;
    enum dbos_err err = begin_write(txn, table_id, &any, info);
    if (err == DBOS_OK) {
        err = part_for_write(txn, any, (uint32_t)(row->block % DBOS_SLOTS), &table, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_undo *undo = dbos_txn_undo_make(txn);
    if (undo == NULL) {
        return fail_memory(txn, info);
    }
    remove_row(txn, table, row, undo);
    return DBOS_OK;
}

/* The new version takes the old one's place and block. */
static enum dbos_err replace_row(struct dbos_txn *txn, struct dbos_table *table,
                                 struct dbos_row *old, struct dbos_row *fresh,
                                 struct dbos_errinfo *info) {
    struct dbos_undo *undo = dbos_txn_undo_make(txn);
    if (undo == NULL) {
        return fail_memory(txn, info);
    }
    uint32_t table_id = dbos_table_def_of(table)->id;
    fresh->block = old->block;
    enum dbos_err err = dbos_table_replace(table, old, fresh, info);
    if (err != DBOS_OK) {
        return dbos_txn_note_error(txn, err);
    }
    *undo =
        (struct dbos_undo){.kind = DBOS_UNDO_REPLACE, .table = table, .old = old, .fresh = fresh};
    dbos_txn_undo_push(txn, undo);
    dbos_capture_update(txn->capture, dbos_table_def_of(table), old, fresh);
    txn->hash_delta += (dbos_row_hash(table_id, fresh) - dbos_row_hash(table_id, old));
    return DBOS_OK;
}

/* To another slot: a new block there, then the old one goes. In this order an error leaves nothing
 * behind; the keys differ, because every unique key contains the partitioning column. */
static enum dbos_err move_row(struct dbos_txn *txn, struct dbos_table *from, struct dbos_row *old,
                              struct dbos_table *to, uint32_t slot, struct dbos_row *fresh,
                              struct dbos_errinfo *info) {
    struct dbos_undo *undo = dbos_txn_undo_make(txn);
    if (undo == NULL) {
        return fail_memory(txn, info);
    }
    enum dbos_err err = insert_row(txn, to, slot, fresh, info);
    if (err == DBOS_OK) {
        remove_row(txn, from, old, undo);
    }
    return err;
}

enum dbos_err dbos_txn_update(struct dbos_txn *txn, uint32_t table_id, struct dbos_row *row,
                              const struct dbos_datum *datums, struct dbos_row **out,
                              struct dbos_errinfo *info) {
    struct dbos_table *any = NULL;
    struct dbos_table *from = NULL;
    struct dbos_table *to = NULL;
    struct dbos_row *fresh = NULL;
    uint32_t old_slot = (uint32_t)(row->block % DBOS_SLOTS);
    *out = NULL;
    enum dbos_err err = begin_write(txn, table_id, &any, info);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t slot = slot_of(dbos_table_def_of(any), datums);
    err = part_for_write(txn, any, old_slot, &from, info);
    if (err == DBOS_OK) {
        err = part_for_write(txn, any, slot, &to, info);
    }
    if (err == DBOS_OK) {
        err = make_row(txn, to, datums, &fresh, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    err = slot == old_slot ? replace_row(txn, to, row, fresh, info)
                           : move_row(txn, from, row, to, slot, fresh, info);
    if (err != DBOS_OK) {
        dbos_row_give(dbos_table_alloc(to), dbos_table_def_of(to), fresh);
        return err;
    }
    *out = fresh;
    return DBOS_OK;
}
