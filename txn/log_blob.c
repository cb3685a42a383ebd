/* Objects of the log: each is written once, synced before the batch that names it. */
#include "base/log.h"
#include "txn/log_internal.h"

/* Objects gathered in the log's buffer on their way to one blob file. */
struct blob_write {
    struct dbos_log *log;
    uint64_t offset; /* in the file, of the buffer's first byte */
    size_t buffer_bytes;
    uint64_t position; /* of the batch */
    bool dirty;        /* something of this file waits for a sync */
};

static enum dbos_err flush_blobs(struct blob_write *write, struct dbos_errinfo *info) {
    struct dbos_log *log = write->log;
    if (write->buffer_bytes == 0) {
        return DBOS_OK;
    }
    enum dbos_err err = log->env->ops->file_write(log->env, log->blob_file, write->offset,
                                                  log->segments.buffer, write->buffer_bytes, info);
    if (err != DBOS_OK) {
        dbos_err_detail(info, "Blob file %u, offset %llu.", log->blob_number,
                        (unsigned long long)write->offset);
    }
    write->offset += write->buffer_bytes;
    write->buffer_bytes = 0;
    return err;
}

static enum dbos_err sync_blobs(struct blob_write *write, struct dbos_errinfo *info) {
    enum dbos_err err = flush_blobs(write, info);
    if (err == DBOS_OK && write->dirty) {
        err = write->log->env->ops->file_sync(write->log->env, write->log->blob_file, info);
        write->log->stats.syncs++;
        write->dirty = false;
    }
    return err;
}

/* Open blob file `number` for appending; a new one's name is synced. */
static enum dbos_err use_blob_file(struct dbos_log *log, uint32_t number,
                                   struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    const struct dbos_env_ops *ops = log->env->ops;
    if (log->blob_file >= 0 && log->blob_number == number) {
        return DBOS_OK;
    }
    if (log->blob_file >= 0) {
        ops->file_close(log->env, log->blob_file);
        log->blob_file = -1;
    }
    dbos_blob_path(path, log->data_dir, number);
    enum dbos_err err = ops->file_open(log->env, path, DBOS_OPEN_CREATE, &log->blob_file, info);
    if (err != DBOS_OK) {
        log->blob_file = -1;
        return err;
    }
    log->blob_number = number;
    dbos_log_path(path, log->data_dir, "blobs");
    return ops->dir_sync(log->env, path, info);
}

/* The file and place for the next object; a full file is synced and left. */
static enum dbos_err place_object(struct blob_write *write, uint32_t *number, uint64_t *offset,
                                  struct dbos_errinfo *info) {
    struct dbos_log *log = write->log;
    dbos_blob_index_end(log->blobs, number, offset);
    if (*offset >= log->blob_file_bytes) {
        enum dbos_err err = sync_blobs(write, info);
        if (err != DBOS_OK) {
            return err;
        }
        *number += 1;
        *offset = 0;
        dbos_blob_index_set_end(log->blobs, *number, 0);
    }
    enum dbos_err err = use_blob_file(log, *number, info);
    if (err == DBOS_OK && write->buffer_bytes == 0) {
        write->offset = *offset;
    }
    return err;
}

static void buffer_object(struct blob_write *write, const struct dbos_stored_blob *blob,
                          const struct dbos_object *object) {
    uint8_t *to = write->log->segments.buffer + write->buffer_bytes;
    size_t used = sizeof *blob + object->id.size_bytes;
    size_t all = (size_t)dbos_blob_file_bytes(object->id.size_bytes);
    memcpy(to, blob, sizeof *blob);
    memcpy(to + sizeof *blob, object->data, object->id.size_bytes);
    memset(to + used, 0, all - used);
    write->buffer_bytes += all;
}

static enum dbos_err write_object(struct blob_write *write, const struct dbos_object *object,
                                  struct dbos_errinfo *info) {
    struct dbos_log *log = write->log;
    uint32_t number = 0;
    uint64_t offset = 0;
    uint64_t all = dbos_blob_file_bytes(object->id.size_bytes);
    if (all > DBOS_LOG_BUFFER_BYTES) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "a large value of %u bytes is too large to log",
                         object->id.size_bytes);
    }
    enum dbos_err err = DBOS_OK;
    if (write->buffer_bytes + all > DBOS_LOG_BUFFER_BYTES) {
        err = flush_blobs(write, info);
    }
    if (err == DBOS_OK) {
        err = place_object(write, &number, &offset, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_stored_blob blob = {.id = object->id, .position = write->position};
    dbos_blob_seal(&blob, object->data);
    buffer_object(write, &blob, object);
    write->dirty = true;
    log->stats.blob_bytes += all;
    dbos_blob_index_set_end(log->blobs, number, offset + all);
    if (dbos_blob_index_add(log->blobs, &object->id, number, offset, write->position) != DBOS_OK) {
        dbos_log(DBOS_LOG_WARN, "no memory to index a large value: it may be written twice");
    }
    return DBOS_OK;
}

enum dbos_err dbos_log_write_objects(struct dbos_log *log, const struct dbos_log_entry *first,
                                     uint32_t count, struct dbos_errinfo *info) {
    struct blob_write write = {.log = log, .position = first->position};
    const struct dbos_log_entry *entry = first;
    for (uint32_t i = 0; i < count; i++, entry = entry->next) {
        for (uint32_t k = 0; k < entry->object_count; k++) {
            if (dbos_blob_index_has(log->blobs, &entry->objects[k]->id)) {
                continue;
            }
            enum dbos_err err = write_object(&write, entry->objects[k], info);
            if (err != DBOS_OK) {
                return err;
            }
        }
    }
    return sync_blobs(&write, info);
}

/* --- recovery -------------------------------------------------------------------------------- */

static enum dbos_err reopen_index(struct dbos_log *log, struct dbos_errinfo *info) {
    dbos_blob_index_close(log->blobs);
    log->blobs = NULL;
    return dbos_blob_index_open(log->alloc, log->env, log->data_dir, &log->blobs, info);
}

/* Files behind `keep`, the last first, so that a crash in between leaves no gap. */
static enum dbos_err remove_blob_files(struct dbos_log *log, uint32_t keep, uint32_t last,
                                       struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t number = last; err == DBOS_OK && number > keep; number--) {
        char path[DBOS_PATH_BYTES];
        dbos_blob_path(path, log->data_dir, number);
        err = log->env->ops->path_remove(log->env, path, info);
    }
    return err;
}

enum dbos_err dbos_log_cut_objects(struct dbos_log *log, uint64_t position,
                                   struct dbos_errinfo *info) {
    uint32_t number = 0;
    uint64_t offset = 0;
    uint32_t last = 0;
    uint64_t end = 0;
    uint64_t size_bytes = 0;
    dbos_blob_index_end(log->blobs, &last, &end);
    if (!dbos_blob_index_first_after(log->blobs, position, &number, &offset)) {
        number = last;
        offset = end;
    }
    /* Even where nothing whole is in the file: what an unfinished write left behind must not be
     * taken for an object once something stands in front of it. */
    enum dbos_err err = remove_blob_files(log, number, last, info);
    if (err == DBOS_OK) {
        err = use_blob_file(log, number, info);
    }
    if (err == DBOS_OK) {
        err = log->env->ops->file_size(log->env, log->blob_file, &size_bytes, info);
    }
    if (err == DBOS_OK && size_bytes != offset) {
        err = log->env->ops->file_truncate(log->env, log->blob_file, offset, info);
    }
    if (err == DBOS_OK) {
        err = log->env->ops->file_sync(log->env, log->blob_file, info);
    }
    return err == DBOS_OK ? reopen_index(log, info) : err;
}
