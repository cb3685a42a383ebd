/* Taking a snapshot: the cut, slices, chunks to the disk, the end. */
#include <stdio.h>

#include "storage/table_copy.h"
#include "txn/snapshot.h"
#include "txn/snapshot_format.h"

enum {
    CHUNKS_PER_PART = 4,          /* that wait for the disk, before slices wait */
    PLACES_PER_LOOK = 8,          /* rows between two looks at the clock */
    UNSYNCED_BYTES_MAX = 1 << 20, /* so that the log's syncs never wait for much of ours */
    PAUSE_US_MAX = 50000,
};

struct part;

struct chunk {
    struct dbos_queue_node node; /* first */
    struct part *part;
    enum dbos_chunk_kind kind;
    uint32_t rows;
    uint32_t bytes;
    uint32_t capacity;
    uint8_t payload[];
};

struct part {
    struct dbos_snapshot *snapshot;
    uint32_t index;
    /* Of the partition (and of the barrier, and of who commits there). */
    struct dbos_table_copy *copies;
    uint32_t copy_count;
    uint32_t copy; /* the one that slices are at */
    struct chunk *current;
    uint64_t rows;
    uint64_t state_hash;
    _Atomic bool is_copied;
    _Atomic uint32_t waiting; /* chunks for the disk */
    /* Of the snapshot's thread. */
    int file;
    uint64_t offset;
    uint64_t synced;
    uint32_t chunk_count;
    uint32_t crc; /* of what was written last */
};

struct dbos_snapshot {
    struct dbos_alloc *alloc;
    struct dbos_snapshot_options options;
    int64_t taken_us;
    uint32_t next_table_id;
    uint32_t next_index_id;
    uint32_t next_procedure_id;
    _Atomic uint32_t failed; /* enum dbos_err */
    struct dbos_queue full;
    bool is_finished;
    uint32_t part_count;
    struct part parts[];
};

void dbos_snapshot_give_up(struct dbos_snapshot *snapshot, enum dbos_err why) {
    uint32_t none = DBOS_OK;
    (void)atomic_compare_exchange_strong(&snapshot->failed, &none, (uint32_t)why);
}

static bool has_failed(const struct dbos_snapshot *snapshot) {
    return atomic_load_explicit(&snapshot->failed, memory_order_relaxed) != DBOS_OK;
}

/* --- rows into chunks ------------------------------------------------------------------------ */

static void hand_over(struct part *part) {
    struct chunk *chunk = part->current;
    part->current = NULL;
    if (chunk == NULL) {
        return;
    }
    atomic_fetch_add_explicit(&part->waiting, 1, memory_order_relaxed);
    dbos_queue_push(&part->snapshot->full, &chunk->node);
}

/* The chunk that so many bytes of this kind go into. */
static struct chunk *chunk_for(struct part *part, enum dbos_chunk_kind kind, size_t bytes) {
    struct chunk *chunk = part->current;
    if (chunk != NULL && (chunk->kind != kind || chunk->capacity - chunk->bytes < bytes)) {
        hand_over(part);
    }
    if (part->current == NULL) {
        size_t capacity = bytes > DBOS_CHUNK_BYTES ? bytes : DBOS_CHUNK_BYTES;
        DBOS_CHECK(capacity <= DBOS_CHUNK_BYTES_MAX);
        part->current = dbos_take(part->snapshot->alloc, sizeof *part->current + capacity);
        if (part->current == NULL) {
            dbos_snapshot_give_up(part->snapshot, DBOS_ERR_NOMEM);
            return NULL;
        }
        part->current->part = part;
        part->current->kind = kind;
        part->current->rows = 0;
        part->current->bytes = 0;
        part->current->capacity = (uint32_t)capacity;
    }
    return part->current;
}

static void put_row(void *arg, uint32_t table_id, const struct dbos_row *row) {
    struct part *part = arg;
    if (has_failed(part->snapshot)) {
        return;
    }
    enum dbos_chunk_kind kind =
        table_id == DBOS_TABLE_CATALOG ? DBOS_CHUNK_CATALOG : DBOS_CHUNK_ROWS;
    struct chunk *chunk =
        chunk_for(part, kind, DBOS_SNAPSHOT_ROW_HEAD_BYTES_MAX + (size_t)row->size_bytes);
    if (chunk == NULL) {
        return;
    }
    struct dbos_snapshot_row stored = {
        .table_id = table_id,
        .block = row->block,
        .position = row->position,
        .payload = {.data = row->payload, .size_bytes = row->size_bytes},
    };
    chunk->bytes += (uint32_t)dbos_snapshot_row_put(chunk->payload + chunk->bytes, &stored);
    chunk->rows++;
    part->rows++;
    part->state_hash += dbos_row_hash(table_id, row);
}

/* The counters of a table's slots that have had a row. */
static void put_counters(struct part *part, const struct dbos_table *table) {
    enum { ENTRY_BYTES_MAX = 3 + 10, HEAD_BYTES_MAX = 5 + 3 };
    struct dbos_buf buf;
    uint32_t slots = 0;
    for (uint32_t slot = 0; slot < DBOS_SLOTS; slot++) {
        slots += dbos_table_next_counter(table, slot) > 1;
    }
    struct chunk *chunk = slots == 0 ? NULL
                                     : chunk_for(part, DBOS_CHUNK_COUNTERS,
                                                 HEAD_BYTES_MAX + (size_t)slots * ENTRY_BYTES_MAX);
    if (chunk == NULL) {
        return;
    }
    dbos_buf_init(&buf, part->snapshot->alloc);
    dbos_buf_put_varint(&buf, dbos_table_def_of(table)->id);
    dbos_buf_put_varint(&buf, slots);
    for (uint32_t slot = 0; slot < DBOS_SLOTS; slot++) {
        uint64_t next = dbos_table_next_counter(table, slot);
        if (next > 1) {
            dbos_buf_put_varint(&buf, slot);
            dbos_buf_put_varint(&buf, next);
        }
    }
    if (buf.failed) {
        dbos_snapshot_give_up(part->snapshot, DBOS_ERR_NOMEM);
    } else {
        memcpy(chunk->payload + chunk->bytes, buf.data, buf.size_bytes);
        chunk->bytes += (uint32_t)buf.size_bytes;
    }
    dbos_buf_fini(&buf);
}

/* --- the cut --------------------------------------------------------------------------------- */

struct cut {
    struct dbos_snapshot *snapshot;
    uint32_t table_count;
};

static void count_table(void *arg, const struct dbos_table_facts *facts) {
    (void)facts;
    ((struct cut *)arg)->table_count++;
}

/* The part of a table that this partition copies: its own, or the only one, by the first. */
static struct dbos_table *part_of(struct part *part, const struct dbos_table_def *def) {
    bool is_single = def->partition_column < 0;
    return is_single && part->index != 0
               ? NULL
               : dbos_store_table(part->snapshot->options.store, def->id, part->index);
}

static void begin_table(void *arg, const struct dbos_table_facts *facts) {
    struct dbos_snapshot *snapshot = ((struct cut *)arg)->snapshot;
    for (uint32_t i = 0; i < snapshot->part_count; i++) {
        struct part *part = &snapshot->parts[i];
        struct dbos_table *table = part_of(part, facts->def);
        if (table == NULL) {
            continue;
        }
        struct dbos_table_copy *copy = &part->copies[part->copy_count++];
        *copy = (struct dbos_table_copy){.position = snapshot->options.position,
                                         .generation = snapshot->options.generation,
                                         .put = put_row,
                                         .arg = part};
        dbos_table_copy_begin(copy, table);
        if (facts->def->id == DBOS_TABLE_CATALOG) {
            while (!dbos_table_copy_step(copy, PLACES_PER_LOOK)) {
            }
        }
        put_counters(part, table);
    }
}

/* Definitions first: whoever loads needs them before the rows. */
static void begin_catalog(void *arg, const struct dbos_table_facts *facts) {
    if (facts->def->id == DBOS_TABLE_CATALOG) {
        begin_table(arg, facts);
    }
}

static void begin_other(void *arg, const struct dbos_table_facts *facts) {
    if (facts->def->id != DBOS_TABLE_CATALOG) {
        begin_table(arg, facts);
    }
}

static enum dbos_err take_copies(struct dbos_snapshot *snapshot, uint32_t table_count) {
    for (uint32_t i = 0; i < snapshot->part_count; i++) {
        struct part *part = &snapshot->parts[i];
        part->copies = dbos_take_zero(snapshot->alloc, (table_count + 1) * sizeof *part->copies);
        if (part->copies == NULL) {
            return DBOS_ERR_NOMEM;
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_snapshot_cut(struct dbos_alloc *alloc,
                                const struct dbos_snapshot_options *options,
                                struct dbos_snapshot **out, struct dbos_errinfo *info) {
    uint32_t part_count = dbos_store_partitions(options->store);
    const struct dbos_catalog *catalog = dbos_store_catalog(options->store);
    *out = NULL;
    struct dbos_snapshot *snapshot =
        dbos_take_zero(alloc, sizeof *snapshot + part_count * sizeof(struct part));
    if (snapshot == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a snapshot");
    }
    snapshot->alloc = alloc;
    snapshot->options = *options;
    snapshot->taken_us = options->env->ops->wall_us(options->env);
    snapshot->next_table_id = catalog->next_table_id;
    snapshot->next_index_id = catalog->next_index_id;
    snapshot->next_procedure_id = catalog->next_procedure_id;
    snapshot->part_count = part_count;
    dbos_queue_init(&snapshot->full, -1);
    for (uint32_t i = 0; i < part_count; i++) {
        snapshot->parts[i] = (struct part){.snapshot = snapshot, .index = i, .file = -1};
    }
    struct cut cut = {.snapshot = snapshot};
    dbos_store_each_table(options->store, count_table, &cut);
    if (take_copies(snapshot, cut.table_count) != DBOS_OK) {
        for (uint32_t i = 0; i < part_count; i++) {
            atomic_store(&snapshot->parts[i].is_copied, true);
        }
        dbos_snapshot_close(snapshot);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a snapshot");
    }
    dbos_store_each_table(options->store, begin_catalog, &cut);
    dbos_store_each_table(options->store, begin_other, &cut);
    *out = snapshot;
    return DBOS_OK;
}

/* --- slices ---------------------------------------------------------------------------------- */

static void end_part(struct part *part) {
    for (uint32_t i = 0; i < part->copy_count; i++) {
        dbos_table_copy_end(&part->copies[i]);
    }
    hand_over(part);
    atomic_store_explicit(&part->is_copied, true, memory_order_release);
    dbos_queue_wake(&part->snapshot->full);
}

static bool has_room(const struct part *part) {
    return atomic_load_explicit(&part->waiting, memory_order_relaxed) < CHUNKS_PER_PART;
}

void dbos_snapshot_slice(struct dbos_snapshot *snapshot, uint32_t partition, uint64_t budget_ns) {
    struct part *part = &snapshot->parts[partition];
    struct dbos_env *env = snapshot->options.env;
    if (dbos_snapshot_is_copied(snapshot, partition)) {
        return;
    }
    uint64_t until_ns = env->ops->mono_ns(env) + budget_ns;
    while (!has_failed(snapshot) && part->copy < part->copy_count) {
        struct dbos_table_copy *copy = &part->copies[part->copy];
        if (!has_room(part)) {
            return;
        }
        if (copy->table == NULL || dbos_table_copy_step(copy, PLACES_PER_LOOK)) {
            part->copy++;
        }
        if (env->ops->mono_ns(env) >= until_ns) {
            break;
        }
    }
    if (has_failed(snapshot) || part->copy == part->copy_count) {
        end_part(part);
    }
}

bool dbos_snapshot_is_copied(const struct dbos_snapshot *snapshot, uint32_t partition) {
    return atomic_load_explicit(&snapshot->parts[partition].is_copied, memory_order_acquire);
}

void dbos_snapshot_table_dropped(struct dbos_table *part) {
    struct dbos_table_copy *copy = dbos_table_copy_of(part);
    if (copy != NULL) {
        dbos_snapshot_give_up(((struct part *)copy->arg)->snapshot, DBOS_ERR_UNDEFINED_TABLE);
        dbos_table_copy_end(copy);
    }
}

/* --- to the disk ----------------------------------------------------------------------------- */

static enum dbos_err put(struct part *part, const void *data, size_t bytes,
                         struct dbos_errinfo *info) {
    struct dbos_env *env = part->snapshot->options.env;
    enum dbos_err err = env->ops->file_write(env, part->file, part->offset, data, bytes, info);
    part->offset += bytes;
    return err;
}

static enum dbos_err open_file(struct part *part, struct dbos_errinfo *info) {
    const struct dbos_snapshot_options *options = &part->snapshot->options;
    struct dbos_env *env = options->env;
    char path[DBOS_PATH_BYTES];
    dbos_part_path(path, options->data_dir, options->position, part->index);
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_CREATE_NEW, &part->file, info);
    struct dbos_stored_part header = {.database = options->database,
                                      .position = options->position,
                                      .part = part->index,
                                      .parts = part->snapshot->part_count};
    dbos_part_seal(&header);
    part->crc = header.crc;
    return err == DBOS_OK ? put(part, &header, sizeof header, info) : err;
}

/* Then leave the disk to the log for as long as this took. */
static enum dbos_err sync_some(struct part *part, struct dbos_errinfo *info) {
    struct dbos_env *env = part->snapshot->options.env;
    uint64_t begun_ns = env->ops->mono_ns(env);
    enum dbos_err err = env->ops->file_sync(env, part->file, info);
    uint64_t took_us = (env->ops->mono_ns(env) - begun_ns) / 1000;
    part->synced = part->offset;
    env->ops->sleep_us(env, took_us < PAUSE_US_MAX ? took_us : PAUSE_US_MAX);
    return err;
}

static enum dbos_err write_chunk(struct part *part, enum dbos_chunk_kind kind, const void *payload,
                                 uint32_t bytes, uint32_t rows, struct dbos_errinfo *info) {
    struct dbos_stored_chunk head = {
        .kind = (uint16_t)kind, .number = part->chunk_count, .payload_bytes = bytes, .rows = rows};
    enum dbos_err err = part->file < 0 ? open_file(part, info) : DBOS_OK;
    if (err != DBOS_OK) {
        return err;
    }
    dbos_chunk_seal(&head, payload, part->crc);
    err = put(part, &head, sizeof head, info);
    if (err == DBOS_OK && bytes != 0) {
        err = put(part, payload, bytes, info);
    }
    part->crc = head.crc;
    part->chunk_count++;
    return err == DBOS_OK && part->offset - part->synced >= UNSYNCED_BYTES_MAX
               ? sync_some(part, info)
               : err;
}

static enum dbos_err why_given_up(const struct dbos_snapshot *snapshot, struct dbos_errinfo *info) {
    enum dbos_err why = (enum dbos_err)atomic_load(&snapshot->failed);
    if (why == DBOS_OK) {
        return DBOS_OK;
    }
    const char *text = why == DBOS_ERR_NOMEM             ? "out of memory for the snapshot"
                       : why == DBOS_ERR_UNDEFINED_TABLE ? "a table was dropped meanwhile"
                                                         : "the snapshot was given up";
    return dbos_fail(info, why, "%s", text);
}

enum dbos_err dbos_snapshot_write(struct dbos_snapshot *snapshot, uint64_t timeout_us,
                                  struct dbos_errinfo *info) {
    enum dbos_err err = why_given_up(snapshot, info);
    struct dbos_queue_node *node = timeout_us == 0 ? dbos_queue_pop(&snapshot->full)
                                                   : dbos_queue_wait(&snapshot->full, timeout_us);
    for (; node != NULL; node = dbos_queue_pop(&snapshot->full)) {
        struct chunk *chunk = (struct chunk *)(void *)node;
        if (err == DBOS_OK) {
            err = write_chunk(chunk->part, chunk->kind, chunk->payload, chunk->bytes, chunk->rows,
                              info);
        }
        atomic_fetch_sub_explicit(&chunk->part->waiting, 1, memory_order_relaxed);
        dbos_give(snapshot->alloc, chunk);
    }
    if (err != DBOS_OK) {
        dbos_snapshot_give_up(snapshot, err);
    }
    return err;
}

/* --- the end --------------------------------------------------------------------------------- */

static enum dbos_err finish_parts(struct dbos_snapshot *snapshot,
                                  struct dbos_stored_part_facts *facts, struct dbos_errinfo *info) {
    struct dbos_env *env = snapshot->options.env;
    for (uint32_t i = 0; i < snapshot->part_count; i++) {
        struct part *part = &snapshot->parts[i];
        DBOS_CHECK(dbos_snapshot_is_copied(snapshot, i));
        enum dbos_err err = write_chunk(part, DBOS_CHUNK_END, "", 0, 0, info);
        if (err == DBOS_OK) {
            err = env->ops->file_sync(env, part->file, info);
        }
        if (err != DBOS_OK) {
            return err;
        }
        facts[i] = (struct dbos_stored_part_facts){.bytes = part->offset,
                                                   .rows = part->rows,
                                                   .state_hash = part->state_hash,
                                                   .chunks = part->chunk_count,
                                                   .crc = part->crc};
    }
    return DBOS_OK;
}

static enum dbos_err write_manifest(struct dbos_snapshot *snapshot,
                                    const struct dbos_stored_part_facts *parts,
                                    struct dbos_errinfo *info) {
    const struct dbos_snapshot_options *options = &snapshot->options;
    struct dbos_env *env = options->env;
    char dir[DBOS_PATH_BYTES];
    char path[DBOS_PATH_BYTES];
    char fresh[DBOS_PATH_BYTES + 8];
    int file = -1;
    struct dbos_snapshot_facts facts;
    dbos_snapshot_facts(snapshot, &facts);
    struct dbos_stored_manifest manifest = {.database = options->database,
                                            .position = options->position,
                                            .commit_us = options->commit_us,
                                            .taken_us = snapshot->taken_us,
                                            .state_hash = facts.state_hash,
                                            .rows = facts.rows,
                                            .parts = snapshot->part_count,
                                            .next_table_id = snapshot->next_table_id,
                                            .next_index_id = snapshot->next_index_id,
                                            .next_procedure_id = snapshot->next_procedure_id};
    dbos_manifest_seal(&manifest, parts);
    dbos_manifest_path(path, options->data_dir, options->position);
    (void)snprintf(fresh, sizeof fresh, "%s.new", path);
    enum dbos_err err = env->ops->file_open(env, fresh, DBOS_OPEN_CREATE_NEW, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_write(env, file, 0, &manifest, sizeof manifest, info);
    if (err == DBOS_OK) {
        err = env->ops->file_write(env, file, sizeof manifest, parts,
                                   manifest.parts * sizeof *parts, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->file_sync(env, file, info);
    }
    env->ops->file_close(env, file);
    /* The names of the parts last before that of the manifest does. */
    dbos_log_path(dir, options->data_dir, "snapshots");
    if (err == DBOS_OK) {
        err = env->ops->dir_sync(env, dir, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->path_rename(env, fresh, path, info);
    }
    if (err != DBOS_OK) {
        (void)env->ops->path_remove(env, fresh, NULL);
        return err;
    }
    snapshot->is_finished = true; /* it is whole, whether its name lasts or not */
    return env->ops->dir_sync(env, dir, info);
}

enum dbos_err dbos_snapshot_finish(struct dbos_snapshot *snapshot, struct dbos_errinfo *info) {
    enum dbos_err err = dbos_snapshot_write(snapshot, 0, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_stored_part_facts *facts =
        dbos_take_zero(snapshot->alloc, snapshot->part_count * sizeof *facts);
    if (facts == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a snapshot");
    }
    err = finish_parts(snapshot, facts, info);
    if (err == DBOS_OK) {
        err = write_manifest(snapshot, facts, info);
    }
    dbos_give(snapshot->alloc, facts);
    return err;
}

void dbos_snapshot_facts(const struct dbos_snapshot *snapshot, struct dbos_snapshot_facts *out) {
    *out = (struct dbos_snapshot_facts){.position = snapshot->options.position,
                                        .commit_us = snapshot->options.commit_us,
                                        .taken_us = snapshot->taken_us,
                                        .parts = snapshot->part_count};
    for (uint32_t i = 0; i < snapshot->part_count; i++) {
        out->rows += snapshot->parts[i].rows;
        out->bytes += snapshot->parts[i].offset;
        out->state_hash += snapshot->parts[i].state_hash;
    }
}

void dbos_snapshot_close(struct dbos_snapshot *snapshot) {
    struct dbos_env *env = snapshot->options.env;
    char path[DBOS_PATH_BYTES];
    struct dbos_queue_node *node;
    while ((node = dbos_queue_pop(&snapshot->full)) != NULL) {
        dbos_give(snapshot->alloc, (struct chunk *)(void *)node);
    }
    for (uint32_t i = 0; i < snapshot->part_count; i++) {
        struct part *part = &snapshot->parts[i];
        DBOS_CHECK(dbos_snapshot_is_copied(snapshot, i));
        dbos_give(snapshot->alloc, part->current);
        dbos_give(snapshot->alloc, part->copies);
        if (part->file >= 0) {
            env->ops->file_close(env, part->file);
        }
        if (part->file >= 0 && !snapshot->is_finished) {
            /* Else the next start does it. */
            dbos_part_path(path, snapshot->options.data_dir, snapshot->options.position, i);
            (void)env->ops->path_remove(env, path, NULL);
        }
    }
    dbos_give(snapshot->alloc, snapshot);
}
