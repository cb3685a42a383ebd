/* Snapshots that are there: which, whether they are whole, and loading one. */
#include <pthread.h>
#include <stdio.h>

#include "base/hash.h"
#include "base/log.h"
#include "txn/appliers.h"
#include "txn/snapshot.h"
#include "txn/snapshot_format.h"
#include "txn/txn_apply.h"

/* --- the directory --------------------------------------------------------------------------- */

struct listing {
    uint64_t *positions;
    uint32_t max;
    uint32_t count;
};

/* Newest first, and the newest ones where there is no room for all. */
static void list_one(void *arg, const char *name) {
    struct listing *listing = arg;
    struct dbos_snapshot_name parsed;
    if (!dbos_snapshot_name(name, &parsed) || !parsed.is_manifest) {
        return;
    }
    uint32_t held = listing->count < listing->max ? listing->count : listing->max;
    listing->count++;
    uint32_t at = held;
    while (at > 0 && listing->positions[at - 1] < parsed.position) {
        if (at < listing->max) {
            listing->positions[at] = listing->positions[at - 1];
        }
        at--;
    }
    if (at < listing->max) {
        listing->positions[at] = parsed.position;
    }
}

enum dbos_err dbos_snapshot_list(struct dbos_env *env, const char *data_dir, uint64_t *out,
                                 uint32_t max, uint32_t *out_count, struct dbos_errinfo *info) {
    char dir[DBOS_PATH_BYTES];
    struct listing listing = {.positions = out, .max = max};
    dbos_log_path(dir, data_dir, "snapshots");
    enum dbos_err err = env->ops->dir_list(env, dir, list_one, &listing, info);
    *out_count = listing.count;
    return err;
}

enum { SWEEP_MAX = 256, NAME_BYTES = 64 };

/* Names to remove; more than these go with the next sweep. */
struct sweep {
    bool unfinished; /* else those of `position` */
    uint64_t position;
    uint64_t counted[SWEEP_MAX]; /* positions with a manifest */
    uint32_t counted_count;
    uint32_t count;
    char names[SWEEP_MAX][NAME_BYTES];
};

static bool has_manifest(const struct sweep *sweep, uint64_t position) {
    for (uint32_t i = 0; i < sweep->counted_count; i++) {
        if (sweep->counted[i] == position) {
            return true;
        }
    }
    return false;
}

static void sweep_one(void *arg, const char *name) {
    struct sweep *sweep = arg;
    struct dbos_snapshot_name parsed;
    if (!dbos_snapshot_name(name, &parsed) || sweep->count == SWEEP_MAX ||
        strlen(name) >= NAME_BYTES || parsed.is_manifest) {
        return;
    }
    bool goes = sweep->unfinished ? parsed.is_unfinished || !has_manifest(sweep, parsed.position)
                                  : parsed.position == sweep->position;
    if (goes) {
        memcpy(sweep->names[sweep->count++], name, strlen(name) + 1);
    }
}

static enum dbos_err remove_names(struct dbos_env *env, const char *data_dir,
                                  const struct sweep *sweep, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES + NAME_BYTES];
    char dir[DBOS_PATH_BYTES];
    enum dbos_err err = DBOS_OK;
    dbos_log_path(dir, data_dir, "snapshots");
    for (uint32_t i = 0; err == DBOS_OK && i < sweep->count; i++) {
        (void)snprintf(path, sizeof path, "%s/%s", dir, sweep->names[i]);
        err = env->ops->path_remove(env, path, info);
    }
    return err == DBOS_OK && sweep->count != 0 ? env->ops->dir_sync(env, dir, info) : err;
}

static enum dbos_err sweep_dir(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                               bool unfinished, uint64_t position, struct dbos_errinfo *info) {
    char dir[DBOS_PATH_BYTES];
    struct sweep *sweep = dbos_take_zero(alloc, sizeof *sweep);
    if (sweep == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the list of snapshots");
    }
    sweep->unfinished = unfinished;
    sweep->position = position;
    dbos_log_path(dir, data_dir, "snapshots");
    enum dbos_err err =
        dbos_snapshot_list(env, data_dir, sweep->counted, SWEEP_MAX, &sweep->counted_count, info);
    if (err == DBOS_OK && sweep->counted_count > SWEEP_MAX) {
        err = dbos_fail(info, DBOS_ERR_LIMIT, "%s has %u snapshots: the limit is %d", dir,
                        sweep->counted_count, SWEEP_MAX);
    }
    if (err == DBOS_OK) {
        err = env->ops->dir_list(env, dir, sweep_one, sweep, info);
    }
    if (err == DBOS_OK) {
        err = remove_names(env, data_dir, sweep, info);
    }
    dbos_give(alloc, sweep);
    return err;
}

enum dbos_err dbos_snapshot_remove_unfinished(struct dbos_alloc *alloc, struct dbos_env *env,
                                              const char *data_dir, struct dbos_errinfo *info) {
    return sweep_dir(alloc, env, data_dir, true, 0, info);
}

/* The manifest goes first, and for good: then there is no snapshot, only files that nobody needs.
 */
enum dbos_err dbos_snapshot_remove(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, uint64_t position,
                                   struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    dbos_manifest_path(path, data_dir, position);
    enum dbos_err err = env->ops->path_remove(env, path, info);
    if (err == DBOS_OK) {
        dbos_log_path(path, data_dir, "snapshots");
        err = env->ops->dir_sync(env, path, info);
    }
    return err == DBOS_OK ? sweep_dir(alloc, env, data_dir, false, position, info) : err;
}

/* --- the manifest ---------------------------------------------------------------------------- */

struct manifest {
    uint8_t *bytes;
    struct dbos_stored_manifest head;
    const struct dbos_stored_part_facts *parts; /* in bytes */
};

static enum dbos_err read_all(struct dbos_alloc *alloc, struct dbos_env *env, const char *path,
                              uint8_t **out, size_t *out_bytes, struct dbos_errinfo *info) {
    enum { BYTES_MAX = 1 << 20 };
    int file = -1;
    uint64_t size = 0;
    *out = NULL;
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_READ, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_size(env, file, &size, info);
    if (err == DBOS_OK && size > BYTES_MAX) {
        err =
            dbos_fail(info, DBOS_ERR_CORRUPT, "%s has %llu bytes", path, (unsigned long long)size);
    }
    if (err == DBOS_OK && (*out = dbos_take(alloc, (size_t)size + 1)) == NULL) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for %s", path);
    }
    if (err == DBOS_OK) {
        err = env->ops->file_read(env, file, 0, *out, (size_t)size, out_bytes, info);
    }
    env->ops->file_close(env, file);
    return err;
}

static void name_file(struct dbos_errinfo *info, const char *path) {
    dbos_err_detail(info, "%s", path);
}

static enum dbos_err read_manifest(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, const struct dbos_uuid *database,
                                   uint64_t position, struct manifest *out,
                                   struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    size_t bytes = 0;
    *out = (struct manifest){0};
    dbos_manifest_path(path, data_dir, position);
    enum dbos_err err = read_all(alloc, env, path, &out->bytes, &bytes, info);
    if (err == DBOS_OK) {
        err = dbos_manifest_check(out->bytes, bytes, &out->head, &out->parts, info);
        if (err == DBOS_OK && (out->head.position != position ||
                               memcmp(&out->head.database, database, sizeof *database) != 0)) {
            err = dbos_fail(info, DBOS_ERR_CORRUPT,
                            "the snapshot's manifest is of another database or position");
        }
        if (err != DBOS_OK) {
            name_file(info, path);
        }
    }
    return err;
}

static void tell_facts(const struct manifest *manifest, struct dbos_snapshot_facts *out) {
    const struct dbos_stored_manifest *head = &manifest->head;
    *out = (struct dbos_snapshot_facts){.position = head->position,
                                        .commit_us = head->commit_us,
                                        .taken_us = head->taken_us,
                                        .rows = head->rows,
                                        .state_hash = head->state_hash,
                                        .parts = head->parts};
    for (uint32_t i = 0; i < head->parts; i++) {
        out->bytes += manifest->parts[i].bytes;
    }
}

/* --- chunks ---------------------------------------------------------------------------------- */

/* Reads a part file chunk by chunk, and compares all that there is to compare. */
struct part_reader {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    const struct dbos_stored_part_facts *facts;
    char path[DBOS_PATH_BYTES];
    int file;
    uint64_t offset;
    uint32_t crc;
    uint32_t number;
    uint64_t rows;
    struct dbos_stored_chunk head;
    uint8_t *payload; /* of head.payload_bytes; DBOS_CHUNK_BYTES_MAX */
};

static enum dbos_err damaged(const struct part_reader *reader, const char *what,
                             struct dbos_errinfo *info) {
    enum dbos_err err = dbos_fail(info, DBOS_ERR_CORRUPT, "the snapshot is damaged: %s", what);
    dbos_err_detail(info, "%s, offset %llu", reader->path, (unsigned long long)reader->offset);
    return err;
}

static enum dbos_err take(struct part_reader *reader, void *to, size_t bytes,
                          struct dbos_errinfo *info) {
    size_t got = 0;
    enum dbos_err err = reader->env->ops->file_read(reader->env, reader->file, reader->offset, to,
                                                    bytes, &got, info);
    if (err == DBOS_OK && got != bytes) {
        return damaged(reader, "the file ends early", info);
    }
    reader->offset += bytes;
    return err;
}

static void part_close(struct part_reader *reader) {
    if (reader->file >= 0) {
        reader->env->ops->file_close(reader->env, reader->file);
    }
    dbos_give(reader->alloc, reader->payload);
    reader->payload = NULL;
    reader->file = -1;
}

static enum dbos_err part_open(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                               const struct manifest *manifest, uint32_t part,
                               struct part_reader *out, struct dbos_errinfo *info) {
    struct dbos_stored_part header;
    uint64_t size = 0;
    *out = (struct part_reader){
        .alloc = alloc, .env = env, .file = -1, .facts = &manifest->parts[part]};
    dbos_part_path(out->path, data_dir, manifest->head.position, part);
    out->payload = dbos_take(alloc, DBOS_CHUNK_BYTES_MAX);
    if (out->payload == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the snapshot");
    }
    enum dbos_err err = env->ops->file_open(env, out->path, DBOS_OPEN_READ, &out->file, info);
    if (err == DBOS_OK) {
        err = env->ops->file_size(env, out->file, &size, info);
    }
    if (err == DBOS_OK && size != out->facts->bytes) {
        err = damaged(out, "the file has another size than its manifest says", info);
    }
    if (err == DBOS_OK) {
        err = take(out, &header, sizeof header, info);
    }
    if (err == DBOS_OK && dbos_part_check(&header, info) != DBOS_OK) {
        name_file(info, out->path);
        err = info->code;
    }
    if (err == DBOS_OK &&
        (header.position != manifest->head.position || header.part != part ||
         header.parts != manifest->head.parts ||
         memcmp(&header.database, &manifest->head.database, sizeof header.database) != 0)) {
        err = damaged(out, "the file belongs to another one", info);
    }
    out->crc = header.crc;
    return err;
}

/* The next chunk; *out_end: it was the last one, and all agrees. */
static enum dbos_err part_next(struct part_reader *reader, bool *out_end,
                               struct dbos_errinfo *info) {
    struct dbos_stored_chunk *head = &reader->head;
    *out_end = false;
    enum dbos_err err = take(reader, head, sizeof *head, info);
    if (err == DBOS_OK && dbos_chunk_check(head, reader->number, reader->crc, info) != DBOS_OK) {
        return damaged(reader, "the head of a chunk", info);
    }
    if (err == DBOS_OK) {
        err = take(reader, reader->payload, head->payload_bytes, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (head->payload_crc != dbos_crc32c(reader->crc, reader->payload, head->payload_bytes)) {
        return damaged(reader, "the rows of a chunk", info);
    }
    reader->crc = head->crc;
    reader->number++;
    reader->rows += head->rows;
    if (head->kind != DBOS_CHUNK_END) {
        return DBOS_OK;
    }
    *out_end = true;
    bool agrees = reader->number == reader->facts->chunks && reader->crc == reader->facts->crc &&
                  reader->rows == reader->facts->rows && reader->offset == reader->facts->bytes;
    return agrees ? DBOS_OK : damaged(reader, "it is not the file that the manifest means", info);
}

enum dbos_err dbos_snapshot_check(struct dbos_alloc *alloc, struct dbos_env *env,
                                  const char *data_dir, const struct dbos_uuid *database,
                                  uint64_t position, struct dbos_snapshot_facts *out,
                                  struct dbos_errinfo *info) {
    struct manifest manifest;
    struct dbos_errinfo local;
    info = info == NULL ? &local : info;
    *out = (struct dbos_snapshot_facts){0};
    enum dbos_err err = read_manifest(alloc, env, data_dir, database, position, &manifest, info);
    if (err == DBOS_OK) {
        tell_facts(&manifest, out);
    }
    for (uint32_t i = 0; err == DBOS_OK && i < manifest.head.parts; i++) {
        struct part_reader reader;
        bool is_end = false;
        err = part_open(alloc, env, data_dir, &manifest, i, &reader, info);
        while (err == DBOS_OK && !is_end) {
            err = part_next(&reader, &is_end, info);
        }
        part_close(&reader);
    }
    dbos_give(alloc, manifest.bytes);
    return err;
}

/* --- loading --------------------------------------------------------------------------------- */

struct loader; /* of one partition */

struct loading {
    const struct dbos_snapshot_load *load;
    struct manifest manifest;
    struct loader *loaders;
    uint32_t partitions;
    _Atomic uint64_t rows;
    _Atomic bool failed;
};

struct loader {
    struct loading *loading;
    uint32_t partition;
    pthread_t thread;
    bool has_thread;
    struct dbos_object_finder finder;
    uint64_t rows;
    uint64_t state_hash;
    enum dbos_err err;
    struct dbos_errinfo info;
};

static enum dbos_err find_object(void *arg, const struct dbos_object_id *id,
                                 struct dbos_object **out, struct dbos_errinfo *info) {
    struct loading *loading = ((struct loader *)arg)->loading;
    const struct dbos_snapshot_load *load = loading->load;
    *out = dbos_object_find(dbos_store_objects(load->store), id);
    return *out == NULL && load->log != NULL ? dbos_log_load_object(load->log, id, out, info)
                                             : DBOS_OK;
}

/* The part of the table that the row lives on, if that is this loader's; *out_known: there is such
 * a table. */
static struct dbos_table *table_of(const struct loader *loader, uint32_t table_id, uint32_t slot,
                                   bool *out_known) {
    struct dbos_store *store = loader->loading->load->store;
    struct dbos_table *table = dbos_store_table(store, table_id, loader->partition);
    *out_known = table != NULL;
    if (table == NULL) {
        return NULL;
    }
    uint32_t owner =
        dbos_table_def_of(table)->partition_column < 0 ? 0 : dbos_store_partition_of(store, slot);
    return owner == loader->partition ? table : NULL;
}

static enum dbos_err contradiction(const struct part_reader *reader,
                                   const struct dbos_snapshot_row *row, const char *what,
                                   struct dbos_errinfo *info) {
    enum dbos_err err = dbos_fail(info, DBOS_ERR_CORRUPT,
                                  "the snapshot contradicts itself: %s (table %u, block %llu)",
                                  what, row->table_id, (unsigned long long)row->block);
    name_file(info, reader->path);
    return err;
}

static enum dbos_err load_row(struct loader *loader, const struct part_reader *reader,
                              const struct dbos_snapshot_row *stored, struct dbos_errinfo *info) {
    bool is_known = false;
    struct dbos_table *table =
        table_of(loader, stored->table_id, (uint32_t)(stored->block % DBOS_SLOTS), &is_known);
    if (table == NULL) {
        return is_known ? DBOS_OK : contradiction(reader, stored, "there is no such table", info);
    }
    if (stored->block == 0 || stored->position == 0 ||
        stored->position > loader->loading->load->position) {
        return contradiction(reader, stored, "an impossible row", info);
    }
    if (dbos_table_by_block(table, stored->block) != NULL) {
        return contradiction(reader, stored, "a row comes twice", info);
    }
    struct dbos_row *row = NULL;
    enum dbos_err err =
        dbos_row_decode(dbos_table_alloc(table), dbos_table_def_of(table), &loader->finder,
                        stored->payload.data, stored->payload.size_bytes, &row, info);
    if (err != DBOS_OK) {
        dbos_err_detail(info, "%s, table %u, block %llu", reader->path, stored->table_id,
                        (unsigned long long)stored->block);
        return err;
    }
    row->block = stored->block;
    row->position = stored->position;
    err = dbos_table_insert(table, row, info);
    if (err != DBOS_OK) {
        dbos_row_give(dbos_table_alloc(table), dbos_table_def_of(table), row);
        return err == DBOS_ERR_NOMEM ? err : contradiction(reader, stored, "a key is taken", info);
    }
    dbos_table_saw_block(table, row->block);
    loader->state_hash += dbos_row_hash(stored->table_id, row);
    loader->rows++;
    if (stored->table_id == DBOS_TABLE_CATALOG) {
        return dbos_txn_define(loader->loading->load->store, table, row, true, info);
    }
    return DBOS_OK;
}

static enum dbos_err load_rows(struct loader *loader, const struct part_reader *reader,
                               struct dbos_errinfo *info) {
    struct dbos_reader bytes = dbos_reader_of(reader->payload, reader->head.payload_bytes);
    struct dbos_snapshot_row row;
    enum dbos_err err = DBOS_OK;
    bool is_catalog = reader->head.kind == DBOS_CHUNK_CATALOG;
    while (err == DBOS_OK && dbos_snapshot_row_next(&bytes, &row)) {
        err = is_catalog == (row.table_id == DBOS_TABLE_CATALOG)
                  ? load_row(loader, reader, &row, info)
                  : contradiction(reader, &row, "a definition among rows", info);
    }
    return err == DBOS_OK && bytes.failed ? damaged(reader, "a row is malformed", info) : err;
}

static enum dbos_err load_counters(struct loader *loader, const struct part_reader *reader,
                                   struct dbos_errinfo *info) {
    struct dbos_reader bytes = dbos_reader_of(reader->payload, reader->head.payload_bytes);
    while (!bytes.failed && dbos_reader_left(&bytes) != 0) {
        uint64_t table_id = dbos_get_varint(&bytes);
        uint64_t slots = dbos_get_varint(&bytes);
        for (uint64_t i = 0; i < slots && !bytes.failed; i++) {
            uint64_t slot = dbos_get_varint(&bytes);
            uint64_t next = dbos_get_varint(&bytes);
            bool is_known = false;
            bytes.failed = bytes.failed || slot >= DBOS_SLOTS || table_id > UINT32_MAX;
            struct dbos_table *table =
                bytes.failed ? NULL
                             : table_of(loader, (uint32_t)table_id, (uint32_t)slot, &is_known);
            bytes.failed = bytes.failed || !is_known;
            if (table != NULL) {
                dbos_table_saw_counter(table, (uint32_t)slot, next);
            }
        }
    }
    return bytes.failed ? damaged(reader, "a counter is malformed", info) : DBOS_OK;
}

/* Chunks of one kind of pass: definitions, by the first loader; or all the rest. */
static enum dbos_err load_part(struct loader *loader, uint32_t part, bool definitions,
                               struct dbos_errinfo *info) {
    struct loading *loading = loader->loading;
    const struct dbos_snapshot_load *load = loading->load;
    struct part_reader reader;
    bool is_end = false;
    enum dbos_err err =
        part_open(load->alloc, load->env, load->data_dir, &loading->manifest, part, &reader, info);
    while (err == DBOS_OK && !is_end && !atomic_load(&loading->failed)) {
        uint64_t before = loader->rows;
        err = part_next(&reader, &is_end, info);
        if (err != DBOS_OK) {
            break;
        }
        bool is_definition = reader.head.kind == DBOS_CHUNK_CATALOG;
        if (is_definition == definitions &&
            (is_definition || reader.head.kind == DBOS_CHUNK_ROWS)) {
            err = load_rows(loader, &reader, info);
        } else if (reader.head.kind == DBOS_CHUNK_COUNTERS && !definitions) {
            err = load_counters(loader, &reader, info);
        }
        atomic_fetch_add(&loading->rows, loader->rows - before);
    }
    part_close(&reader);
    return err;
}

/* Where there were as many partitions, each one's rows are in its own file; else each loader looks
 * through all of them. */
static void *load_partition(void *arg) {
    struct loader *loader = arg;
    struct loading *loading = loader->loading;
    uint32_t parts = loading->manifest.head.parts;
    bool is_same = parts == loading->partitions;
    for (uint32_t i = 0; loader->err == DBOS_OK && i < parts; i++) {
        if (!is_same || i == loader->partition) {
            loader->err = load_part(loader, i, false, &loader->info);
        }
    }
    if (loader->err != DBOS_OK) {
        atomic_store(&loading->failed, true);
    }
    return NULL;
}

static void start_loader(struct loading *loading, uint32_t partition) {
    struct loader *loader = &loading->loaders[partition];
    loader->has_thread = pthread_create(&loader->thread, NULL, load_partition, loader) == 0;
    if (loader->has_thread) {
        (void)pthread_setname_np(loader->thread, "load");
    } else {
        (void)load_partition(loader); /* slower, that is all */
    }
}

static enum dbos_err join_loaders(struct loading *loading, struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < loading->partitions; i++) {
        struct loader *loader = &loading->loaders[i];
        if (loader->has_thread) {
            (void)pthread_join(loader->thread, NULL);
        }
        if (err == DBOS_OK && loader->err != DBOS_OK) {
            err = loader->err;
            *info = loader->info;
        }
    }
    return err;
}

static enum dbos_err check_sum(const struct loading *loading, struct dbos_errinfo *info) {
    const struct dbos_stored_manifest *head = &loading->manifest.head;
    uint64_t rows = 0;
    uint64_t hash = 0;
    for (uint32_t i = 0; i < loading->partitions; i++) {
        rows += loading->loaders[i].rows;
        hash += loading->loaders[i].state_hash;
    }
    if (rows == head->rows && hash == head->state_hash) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_CORRUPT,
                     "the snapshot of position %llu has %llu rows with hash %016llx, its manifest "
                     "says %llu with %016llx",
                     (unsigned long long)head->position, (unsigned long long)rows,
                     (unsigned long long)hash, (unsigned long long)head->rows,
                     (unsigned long long)head->state_hash);
}

static enum dbos_err load_all(struct loading *loading, struct dbos_errinfo *info) {
    const struct dbos_snapshot_load *load = loading->load;
    enum dbos_err err = load_part(&loading->loaders[0], 0, true, info);
    if (err != DBOS_OK) {
        return err;
    }
    const struct dbos_stored_manifest *head = &loading->manifest.head;
    dbos_store_saw_ids(load->store, head->next_table_id, head->next_index_id,
                       head->next_procedure_id);
    for (uint32_t i = 1; i < loading->partitions; i++) {
        start_loader(loading, i);
    }
    (void)load_partition(&loading->loaders[0]);
    err = join_loaders(loading, info);
    return err == DBOS_OK ? check_sum(loading, info) : err;
}

enum dbos_err dbos_snapshot_load(const struct dbos_snapshot_load *load,
                                 struct dbos_snapshot_facts *out, struct dbos_errinfo *info) {
    struct dbos_errinfo local;
    struct loading loading = {.load = load, .partitions = dbos_store_partitions(load->store)};
    info = info == NULL ? &local : info;
    *out = (struct dbos_snapshot_facts){0};
    enum dbos_err err = read_manifest(load->alloc, load->env, load->data_dir, &load->database,
                                      load->position, &loading.manifest, info);
    if (err == DBOS_OK) {
        tell_facts(&loading.manifest, out);
        loading.loaders = dbos_take_zero(load->alloc, loading.partitions * sizeof *loading.loaders);
        if (loading.loaders == NULL) {
            err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the snapshot");
        }
    }
    if (err == DBOS_OK) {
        for (uint32_t i = 0; i < loading.partitions; i++) {
            struct loader *loader = &loading.loaders[i];
            loader->loading = &loading;
            loader->partition = i;
            loader->finder = (struct dbos_object_finder){.find = find_object, .arg = loader};
        }
        err = load_all(&loading, info);
    }
    dbos_give(load->alloc, loading.loaders);
    dbos_give(load->alloc, loading.manifest.bytes);
    return err;
}

/* --- starting -------------------------------------------------------------------------------- */

enum { SNAPSHOTS_MAX = 64 }; /* that are looked at, newest first */

static void find_dir(void *arg, const char *name) {
    bool *found = arg;
    *found = *found || strcmp(name, "snapshots") == 0;
}

/* What is there, newest first. A directory without snapshots/ (an older program's) has none. */
static enum dbos_err list_for_start(const struct dbos_snapshot_load *load, uint64_t *out,
                                    uint32_t max, uint32_t *out_count, struct dbos_errinfo *info) {
    struct dbos_env *env = load->env;
    bool found = false;
    *out_count = 0;
    enum dbos_err err = env->ops->dir_list(env, load->data_dir, find_dir, &found, info);
    if (err == DBOS_OK && !load->read_only) {
        char dir[DBOS_PATH_BYTES];
        dbos_log_path(dir, load->data_dir, "snapshots");
        err = env->ops->dir_make(env, dir, info);
        if (err == DBOS_OK) { /* also one that was made just before a crash */
            err = env->ops->dir_sync(env, load->data_dir, info);
        }
        if (err == DBOS_OK) {
            err = dbos_snapshot_remove_unfinished(load->alloc, env, load->data_dir, info);
        }
        found = true;
    }
    return err == DBOS_OK && found
               ? dbos_snapshot_list(env, load->data_dir, out, max, out_count, info)
               : err;
}

/* The newest that is whole; *out_position 0 = none. A damaged one is passed over, and said: the one
 * before it and the log behind that have the same. */
static enum dbos_err choose(const struct dbos_snapshot_load *load, uint64_t *out_position,
                            uint64_t *out_damaged, uint32_t *out_damaged_count,
                            struct dbos_errinfo *info) {
    uint64_t positions[SNAPSHOTS_MAX];
    uint32_t count = 0;
    struct dbos_snapshot_facts facts;
    *out_position = 0;
    *out_damaged_count = 0;
    enum dbos_err err = list_for_start(load, positions, SNAPSHOTS_MAX, &count, info);
    for (uint32_t i = 0; err == DBOS_OK && i < count && i < SNAPSHOTS_MAX; i++) {
        err = dbos_snapshot_check(load->alloc, load->env, load->data_dir, &load->database,
                                  positions[i], &facts, info);
        if (err == DBOS_OK) {
            *out_position = positions[i];
            return DBOS_OK;
        }
        if (err != DBOS_ERR_CORRUPT && err != DBOS_ERR_IO) {
            return err;
        }
        dbos_log(DBOS_LOG_ERROR, "snapshot of position %llu: %s (%s): it is not used",
                 (unsigned long long)positions[i], info->message, info->detail);
        out_damaged[(*out_damaged_count)++] = err == DBOS_ERR_CORRUPT ? positions[i] : 0;
        err = DBOS_OK;
    }
    return err;
}

enum dbos_err dbos_snapshot_check_all(const struct dbos_snapshot_load *load, uint32_t *out_count,
                                      struct dbos_errinfo *info) {
    uint64_t positions[SNAPSHOTS_MAX];
    struct dbos_snapshot_facts facts;
    enum dbos_err err = list_for_start(load, positions, SNAPSHOTS_MAX, out_count, info);
    for (uint32_t i = 0; err == DBOS_OK && i < *out_count && i < SNAPSHOTS_MAX; i++) {
        err = dbos_snapshot_check(load->alloc, load->env, load->data_dir, &load->database,
                                  positions[i], &facts, info);
    }
    return err;
}

/* The database stands without them: who counts the last two shall not count these. */
static void remove_damaged(const struct dbos_snapshot_load *load, const uint64_t *positions,
                           uint32_t count) {
    struct dbos_errinfo info;
    for (uint32_t i = 0; i < count && !load->read_only; i++) {
        bool is_unreadable = positions[i] == 0; /* that may be another time's luck */
        if (!is_unreadable && dbos_snapshot_remove(load->alloc, load->env, load->data_dir,
                                                   positions[i], &info) != DBOS_OK) {
            dbos_log(DBOS_LOG_WARN, "a damaged snapshot stays: %s", info.message);
        }
    }
}

enum dbos_err dbos_snapshot_recover(const struct dbos_snapshot_load *load,
                                    struct dbos_recovery *recovery, struct dbos_snapshot_facts *out,
                                    uint32_t *out_damaged, struct dbos_errinfo *info) {
    struct dbos_errinfo local;
    struct dbos_snapshot_load chosen = *load;
    uint64_t damaged[SNAPSHOTS_MAX];
    info = info == NULL ? &local : info;
    *out = (struct dbos_snapshot_facts){0};
    enum dbos_err err = choose(load, &chosen.position, damaged, out_damaged, info);
    if (err == DBOS_OK && chosen.position != 0) {
        err = dbos_snapshot_load(&chosen, out, info);
        recovery->after_position = out->position;
        recovery->after_hash = out->state_hash;
        recovery->after_commit_us = out->commit_us;
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (recovery->apply == NULL) {
        err = dbos_appliers_open(load->alloc, load->store, load->log, recovery->after_position,
                                 recovery->after_hash, &recovery->appliers, info);
    }
    if (err == DBOS_OK) {
        err = dbos_log_recover(load->log, recovery, info);
    }
    dbos_appliers_close(recovery->appliers);
    recovery->appliers = NULL;
    if (err == DBOS_OK) {
        remove_damaged(load, damaged, *out_damaged);
    } else if (err == DBOS_ERR_CORRUPT && *out_damaged != 0) {
        dbos_err_hint(info, "A newer snapshot is damaged, too; restore a backup.");
    }
    return err;
}
