/* Reading the log back: check, apply, compare, cut what was never acknowledged. */
#include "base/log.h"
#include "txn/appliers.h"
#include "txn/log_internal.h"

/* What has been accepted so far. */
struct accepted {
    struct dbos_segment_header header; /* of the newest segment; number 0 = none is in use */
    uint64_t offset;                   /* behind the newest batch */
    uint32_t header_crc;               /* of the newest batch */
    uint64_t synced_position;          /* as the newest batch says */
    bool has_batch;                    /* in this segment */
};

/* --- applying -------------------------------------------------------------------------------- */

static int64_t last_commit_us(const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    int64_t commit_us = 0;
    const uint8_t *record;
    while ((record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        (void)dbos_record_peek(record, size_bytes, &commit_us);
    }
    return commit_us;
}

/* The snapshot ends where a batch does: then both know the state. */
static enum dbos_err check_loaded(const struct dbos_recovery *recovery,
                                  const struct dbos_batch *batch, struct dbos_errinfo *info) {
    if (recovery->after_hash == batch->state_hash) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_CORRUPT,
                     "the snapshot of position %llu has hash %016llx, the log recorded %016llx",
                     (unsigned long long)batch->last_position,
                     (unsigned long long)recovery->after_hash,
                     (unsigned long long)batch->state_hash);
}

static enum dbos_err apply_batch(struct dbos_recovery *recovery, const struct dbos_batch *batch,
                                 struct dbos_errinfo *info) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    int64_t commit_us = 0;
    recovery->last_position = batch->last_position;
    if (batch->last_position < recovery->after_position) {
        return DBOS_OK; /* all of it was loaded */
    }
    if (batch->last_position == recovery->after_position) {
        return check_loaded(recovery, batch, info);
    }
    recovery->batches++;
    recovery->bytes += batch->records_bytes;
    if (recovery->appliers != NULL) {
        recovery->last_commit_us = last_commit_us(batch);
        return dbos_appliers_take(recovery->appliers, batch, info);
    }
    for (;;) {
        const uint8_t *record = dbos_batch_next(batch, &cursor, &size_bytes);
        if (record == NULL) {
            break;
        }
        uint64_t position = dbos_record_peek(record, size_bytes, &commit_us);
        if (position <= recovery->after_position) {
            continue;
        }
        recovery->last_commit_us = commit_us;
        enum dbos_err err =
            recovery->apply(recovery->arg, record, size_bytes, &recovery->state_hash, info);
        if (err != DBOS_OK) {
            dbos_err_hint(info, "Log position %llu, segment %u, offset %llu.",
                          (unsigned long long)position, batch->segment,
                          (unsigned long long)batch->offset);
            return err;
        }
        recovery->records++;
    }
    if (recovery->state_hash != batch->state_hash) {
        return dbos_fail(info, DBOS_ERR_CORRUPT,
                         "state after position %llu has hash %016llx, the log recorded %016llx",
                         (unsigned long long)batch->last_position,
                         (unsigned long long)recovery->state_hash,
                         (unsigned long long)batch->state_hash);
    }
    return DBOS_OK;
}

static enum dbos_err check_database(const struct dbos_log *log,
                                    const struct dbos_segment_header *header,
                                    struct dbos_errinfo *info) {
    const struct dbos_stored_identity *identity = &log->identity;
    if (memcmp(&header->database, &identity->database, sizeof header->database) != 0 ||
        header->object_seed != identity->object_seed) {
        return dbos_fail(info, DBOS_ERR_CORRUPT,
                         "log segment %u does not belong to the database of %s", header->number,
                         log->data_dir);
    }
    return DBOS_OK;
}

/* --- where to begin -------------------------------------------------------------------------- */

/* The segment with what follows `position`: the newest one that does not begin behind it. Whether
 * what lies in and behind it is whole, the reader finds out. */
static enum dbos_err find_start(struct dbos_log *log, uint64_t position, uint32_t *out,
                                struct dbos_errinfo *info) {
    uint32_t lowest = 0;
    uint32_t number = 0;
    uint64_t begins_at = 0;
    bool exists = true;
    bool is_too_new = false;
    *out = 1;
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, &lowest, &number, info);
    if (err != DBOS_OK || position == 0) {
        return err;
    }
    for (; number > 0 && exists; number--) {
        struct dbos_errinfo why;
        dbos_errinfo_clear(&why);
        bool is_whole = dbos_log_segment_begins_at(log, number, &begins_at, &exists, &why);
        if (is_whole && begins_at <= position + 1) {
            *out = number;
            return DBOS_OK;
        }
        if (why.code == DBOS_ERR_FORMAT_VERSION) { /* what follows may well be in it */
            is_too_new = true;
            *info = why;
        }
    }
    if (is_too_new) {
        return DBOS_ERR_FORMAT_VERSION;
    }
    return dbos_fail(info, DBOS_ERR_CORRUPT,
                     "the snapshot ends at position %llu, and no log segment has what follows",
                     (unsigned long long)position);
}

/* What is there before the segment that is read first: others may need it, and ask how much it is.
 */
static enum dbos_err look_at_kept(struct dbos_log *log, uint32_t segment,
                                  struct dbos_recovery *recovery, struct dbos_errinfo *info) {
    uint32_t lowest = 0;
    uint32_t highest = 0;
    uint64_t begins_at = 1;
    bool exists = false;
    recovery->first_position = 1;
    recovery->kept_bytes = 0;
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, &lowest, &highest, info);
    if (err == DBOS_OK && lowest != 0 && lowest <= segment) {
        recovery->kept_bytes = (segment - lowest) * log->segments.segment_bytes;
        if (dbos_log_segment_begins_at(log, lowest, &begins_at, &exists, NULL)) {
            recovery->first_position = begins_at;
        }
    }
    return err;
}

/* Who waits for the node sees that it is alive. */
static void say_progress(struct dbos_log *log, const struct dbos_recovery *recovery,
                         uint64_t *said_ns) {
    enum { EVERY_S = 5 };
    uint64_t now_ns = log->env->ops->mono_ns(log->env);
    if (now_ns - *said_ns >= EVERY_S * UINT64_C(1000000000)) {
        *said_ns = now_ns;
        dbos_log(DBOS_LOG_INFO, "recovering: %llu MB of log behind position %llu, now at %llu",
                 (unsigned long long)(recovery->bytes >> 20),
                 (unsigned long long)recovery->after_position,
                 (unsigned long long)recovery->last_position);
    }
}

static enum dbos_err read_all(struct dbos_log *log, struct dbos_log_reader *reader,
                              struct dbos_recovery *recovery, struct accepted *accepted,
                              struct dbos_errinfo *info) {
    uint64_t said_ns = log->env->ops->mono_ns(log->env);
    for (;;) {
        struct dbos_batch batch;
        struct dbos_segment_header header;
        enum dbos_read_result result = dbos_log_reader_next(reader, &batch, info);
        if (result == DBOS_READ_CORRUPT) {
            return info->code;
        }
        if (dbos_log_reader_header(reader, &header) && header.number != accepted->header.number) {
            enum dbos_err err = check_database(log, &header, info);
            if (err != DBOS_OK) {
                return err;
            }
            accepted->header = header;
            if (recovery->last_position + 1 < header.first_position) {
                recovery->last_position =
                    header.first_position - 1; /* it begins behind a snapshot */
            }
            accepted->offset = DBOS_SEGMENT_HEADER_BYTES;
            accepted->has_batch = false;
        }
        if (result != DBOS_READ_BATCH) {
            return DBOS_OK;
        }
        enum dbos_err err = apply_batch(recovery, &batch, info);
        if (err != DBOS_OK) {
            return err;
        }
        accepted->offset = batch.end_offset;
        accepted->header_crc = batch.header_crc;
        accepted->synced_position = batch.synced_position;
        accepted->has_batch = true;
        say_progress(log, recovery, &said_ns);
    }
}

/* --- the tail -------------------------------------------------------------------------------- */

/* Where the first batch of the newest segment lies that was not known to be synced. */
static enum dbos_err first_unsynced(struct dbos_log *log, const struct accepted *accepted,
                                    uint64_t *out_offset, struct dbos_errinfo *info) {
    struct dbos_log_reader *reader = NULL;
    enum dbos_err err = dbos_log_reader_open(log->alloc, log->env, log->data_dir,
                                             accepted->header.number, 0, &reader, info);
    if (err != DBOS_OK) {
        return err;
    }
    for (;;) {
        struct dbos_batch batch;
        enum dbos_read_result result = dbos_log_reader_next(reader, &batch, info);
        if (result != DBOS_READ_BATCH) {
            err = result == DBOS_READ_CORRUPT ? info->code : DBOS_OK;
            *out_offset = accepted->offset;
            break;
        }
        if (batch.last_position > accepted->synced_position) {
            *out_offset = batch.offset;
            break;
        }
    }
    dbos_log_reader_close(reader);
    return err;
}

/* Read a piece of the file and write it again: what was only in the page cache of a machine that
 * went on, or whose sync failed, is on disk after the sync that follows. */
static enum dbos_err rewrite(struct dbos_log *log, int file, uint64_t from, uint64_t to,
                             struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && from < to) {
        size_t part =
            to - from > DBOS_LOG_BUFFER_BYTES ? DBOS_LOG_BUFFER_BYTES : (size_t)(to - from);
        size_t got = 0;
        err =
            log->env->ops->file_read(log->env, file, from, log->segments.buffer, part, &got, info);
        if (err == DBOS_OK && got != part) {
            err = dbos_fail(info, DBOS_ERR_IO, "log segment became shorter while it was read");
        }
        if (err == DBOS_OK) {
            err = log->env->ops->file_write(log->env, file, from, log->segments.buffer, part, info);
        }
        from += part;
    }
    return err;
}

static bool is_zero(const uint8_t *bytes, size_t size_bytes) {
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

/* Zero every sector behind the accepted batches that is not zero (read-only: leave it); *torn_bytes
 * counts them. */
static enum dbos_err zero_torn(struct dbos_log *log, int file, uint64_t from, uint64_t to,
                               uint64_t *torn_bytes, struct dbos_errinfo *info) {
    static const uint8_t zeroes[DBOS_SECTOR_BYTES] = {0};
    while (from < to) {
        size_t got = 0;
        size_t part =
            to - from > DBOS_LOG_BUFFER_BYTES ? DBOS_LOG_BUFFER_BYTES : (size_t)(to - from);
        enum dbos_err err =
            log->env->ops->file_read(log->env, file, from, log->segments.buffer, part, &got, info);
        for (size_t at = 0; err == DBOS_OK && at + sizeof zeroes <= got; at += sizeof zeroes) {
            if (is_zero(log->segments.buffer + at, sizeof zeroes)) {
                continue;
            }
            *torn_bytes += sizeof zeroes;
            if (!log->read_only) {
                err = log->env->ops->file_write(log->env, file, from + at, zeroes, sizeof zeroes,
                                                info);
            }
        }
        if (err != DBOS_OK) {
            return err;
        }
        from += part;
    }
    return DBOS_OK;
}

/* Before `ready`: the accepted tail is on disk, and nothing lies behind it. */
static enum dbos_err settle_tail(struct dbos_log *log, const struct accepted *accepted,
                                 uint64_t *torn_bytes, struct dbos_errinfo *info) {
    uint64_t from = accepted->offset;
    enum dbos_err err = DBOS_OK;
    if (accepted->has_batch) {
        err = first_unsynced(log, accepted, &from, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (from <= DBOS_SEGMENT_HEADER_BYTES) {
        from = 0; /* the header belongs to the first write */
    }
    int file = log->segments.file;
    err = zero_torn(log, file, accepted->offset, accepted->header.size_bytes, torn_bytes, info);
    if (err == DBOS_OK) {
        err = rewrite(log, file, from, accepted->offset, info);
    }
    return err == DBOS_OK ? dbos_segments_sync(&log->segments, info) : err;
}

/* The segment behind the newest one was prepared, or its first write was torn: make it anew when it
 * is needed. Any further one means that segments are missing. */
static enum dbos_err drop_prepared(struct dbos_log *log, uint32_t newest,
                                   struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    uint32_t lowest = 0;
    uint32_t highest = 0;
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, &lowest, &highest, info);
    if (err != DBOS_OK || highest <= newest) {
        return err;
    }
    if (highest > newest + 1) {
        return dbos_fail(info, DBOS_ERR_CORRUPT,
                         "log segment %u is missing or empty, and there is a segment %u",
                         newest + 1, highest);
    }
    if (log->read_only) {
        return DBOS_OK;
    }
    dbos_segment_path(path, log->data_dir, highest);
    err = log->env->ops->path_remove(log->env, path, info);
    dbos_log_path(path, log->data_dir, "log");
    return err == DBOS_OK ? log->env->ops->dir_sync(log->env, path, info) : err;
}

/* Read-only: how much is there that the next start cuts? */
static enum dbos_err look_at_torn(struct dbos_log *log, const struct accepted *accepted,
                                  uint64_t *torn_bytes, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    int file = -1;
    dbos_segment_path(path, log->data_dir, accepted->header.number);
    enum dbos_err err = log->env->ops->file_open(log->env, path, DBOS_OPEN_READ, &file, info);
    if (err == DBOS_OK) {
        err = zero_torn(log, file, accepted->offset, accepted->header.size_bytes, torn_bytes, info);
        log->env->ops->file_close(log->env, file);
    }
    return err;
}

static enum dbos_err settle(struct dbos_log *log, struct dbos_recovery *recovery,
                            const struct accepted *accepted, struct dbos_errinfo *info) {
    enum dbos_err err = drop_prepared(log, accepted->header.number, info);
    if (err == DBOS_OK) {
        err = dbos_blob_index_check_end(log->blobs, recovery->last_position,
                                        log->identity.object_seed, info);
    }
    if (err == DBOS_OK && !log->read_only) {
        err = dbos_log_cut_objects(log, recovery->last_position, info);
    }
    if (err != DBOS_OK || accepted->header.number == 0) {
        return err;
    }
    if (log->read_only) {
        return look_at_torn(log, accepted, &recovery->torn_bytes, info);
    }
    uint32_t crc = accepted->has_batch ? accepted->header_crc : accepted->header.previous_crc;
    err = dbos_segments_resume(&log->segments, &accepted->header, accepted->offset, crc, info);
    return err == DBOS_OK ? settle_tail(log, accepted, &recovery->torn_bytes, info) : err;
}

enum dbos_err dbos_log_recover(struct dbos_log *log, struct dbos_recovery *recovery,
                               struct dbos_errinfo *info) {
    struct dbos_errinfo local;
    struct dbos_log_reader *reader = NULL;
    struct accepted accepted = {0};
    info = info == NULL ? &local : info;
    DBOS_CHECK(!log->recovered && !log->running);
    recovery->records = 0;
    recovery->batches = 0;
    recovery->bytes = 0;
    recovery->torn_bytes = 0;
    recovery->last_position = 0;
    recovery->last_commit_us = recovery->after_commit_us;
    recovery->state_hash = recovery->after_hash;
    uint32_t segment = 1;
    enum dbos_err err = find_start(log, recovery->after_position, &segment, info);
    if (err == DBOS_OK) {
        err = look_at_kept(log, segment, recovery, info);
    }
    if (err == DBOS_OK) {
        err = dbos_log_reader_open(log->alloc, log->env, log->data_dir, segment, 0, &reader, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    dbos_log_reader_strict(reader);
    err = read_all(log, reader, recovery, &accepted, info);
    dbos_log_reader_close(reader);
    recovery->kept_bytes += recovery->bytes;
    if (err == DBOS_OK && recovery->appliers != NULL) {
        err = dbos_appliers_finish(recovery->appliers, &recovery->state_hash, &recovery->records,
                                   info);
    }
    if (err == DBOS_OK && recovery->last_position < recovery->after_position) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT,
                        "the log ends at position %llu, and a snapshot was taken at %llu",
                        (unsigned long long)recovery->last_position,
                        (unsigned long long)recovery->after_position);
    }
    if (err == DBOS_OK) {
        err = settle(log, recovery, &accepted, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    log->written = recovery->last_position;
    log->synced = recovery->last_position;
    log->state_hash = recovery->state_hash;
    log->published_position = recovery->last_position;
    log->published_hash = recovery->state_hash;
    atomic_store(&log->taken, recovery->last_position);
    atomic_store(&log->durable, recovery->last_position);
    atomic_store(&log->synced_out, recovery->last_position);
    log->recovered = true;
    return DBOS_OK;
}

/* What is damaged is not there; what could not be read, or found no memory, may be. */
static enum dbos_err make_object(struct dbos_log *log, const struct dbos_object_id *id,
                                 uint8_t *bytes, struct dbos_object **out,
                                 struct dbos_errinfo *info) {
    enum dbos_err err = dbos_blob_read(log->blobs, id, bytes, info);
    if (err != DBOS_OK) {
        return err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION ? DBOS_OK : err;
    }
    if (dbos_object_make(log->objects, bytes, id->size_bytes, out) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a large value");
    }
    if ((*out)->id.hash.high != id->hash.high || (*out)->id.hash.low != id->hash.low) {
        dbos_object_unref(*out); /* the bytes are whole, but not those that were named */
        *out = NULL;
    }
    return DBOS_OK;
}

static enum dbos_err load_blob(struct dbos_log *log, const struct dbos_object_id *id,
                               struct dbos_object **out, struct dbos_errinfo *info) {
    if (!dbos_blob_index_has(log->blobs, id)) {
        return DBOS_OK;
    }
    uint8_t *bytes = dbos_take(log->alloc, id->size_bytes == 0 ? 1 : id->size_bytes);
    if (bytes == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a large value");
    }
    enum dbos_err err = make_object(log, id, bytes, out, info);
    dbos_give(log->alloc, bytes);
    return err;
}

enum dbos_err dbos_log_load_object(struct dbos_log *log, const struct dbos_object_id *id,
                                   struct dbos_object **out, struct dbos_errinfo *info) {
    *out = dbos_object_find(log->objects, id);
    if (*out != NULL) {
        return DBOS_OK;
    }
    (void)pthread_mutex_lock(&log->lock); /* partitions load side by side */
    enum dbos_err err = load_blob(log, id, out, info);
    (void)pthread_mutex_unlock(&log->lock);
    return err;
}
