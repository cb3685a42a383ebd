/* Writing of segment files: making them, batches into sectors, passing to the next one. */
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "txn/log_internal.h"

/* Zeroes reach the disk in pieces of this size, each synced, so that a commit's sync on another
 * file never waits behind a whole segment. */
enum { ZERO_BYTES = 65536, ZERO_SYNC_BYTES = 4 * 1048576 };

/* --- making a segment ------------------------------------------------------------------------ */

/* Takes no memory: where there is none, the log still has to go on. */
static enum dbos_err fill_with_zeroes(struct dbos_env *env, int file, uint64_t size_bytes,
                                      struct dbos_errinfo *info) {
    static const uint8_t zeroes[ZERO_BYTES] = {0};
    uint64_t offset = 0;
    enum dbos_err err = env->ops->file_size(env, file, &offset, info);
    while (err == DBOS_OK && offset < size_bytes) {
        uint64_t part = size_bytes - offset > ZERO_BYTES ? ZERO_BYTES : size_bytes - offset;
        err = env->ops->file_write(env, file, offset, zeroes, (size_t)part, info);
        offset += part;
        if (err == DBOS_OK && offset % ZERO_SYNC_BYTES == 0) {
            err = env->ops->file_sync(env, file, info);
        }
    }
    return err == DBOS_OK ? env->ops->file_sync(env, file, info) : err;
}

/* A segment file of at least `size_bytes` zeroes, on disk with its name. One that was prepared
 * smaller (all zero too) is made longer. */
static enum dbos_err make_segment(struct dbos_env *env, const char *data_dir, uint32_t number,
                                  uint64_t size_bytes, int *out_file, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    char dir[DBOS_PATH_BYTES];
    int file = -1;
    *out_file = -1;
    dbos_segment_path(path, data_dir, number);
    dbos_log_path(dir, data_dir, "log");
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_CREATE, &file, info);
    if (err == DBOS_OK) {
        err = fill_with_zeroes(env, file, size_bytes, info);
        if (err == DBOS_OK) {
            err = env->ops->dir_sync(env, dir, info);
        }
        if (err != DBOS_OK) {
            env->ops->file_close(env, file);
        }
    }
    *out_file = err == DBOS_OK ? file : -1;
    return err;
}

/* What was made of a segment that found no room: others need it. Nobody has it open. */
static void drop_unfinished(struct dbos_segments *segments, uint32_t number) {
    char path[DBOS_PATH_BYTES];
    dbos_segment_path(path, segments->data_dir, number);
    (void)segments->env->ops->path_remove(segments->env, path, NULL);
}

/* --- the preparer ---------------------------------------------------------------------------- */

static void note_room(struct dbos_segments *segments, enum dbos_err err,
                      const struct dbos_errinfo *info) {
    bool is_full = err == DBOS_ERR_DISK_FULL;
    if (atomic_exchange(&segments->disk_full, is_full) == is_full) {
        return;
    }
    if (is_full) {
        dbos_log(DBOS_LOG_ERROR, "the disk is full: no new log segment: %s", info->message);
    } else {
        dbos_log(DBOS_LOG_INFO, "there is room for the log again");
    }
}

static void prepare_one(struct dbos_segments *segments, uint32_t number) {
    struct dbos_preparer *preparer = &segments->preparer;
    struct dbos_errinfo info = {0};
    int file = -1;
    (void)pthread_mutex_unlock(&preparer->lock);
    enum dbos_err err = make_segment(segments->env, segments->data_dir, number,
                                     segments->segment_bytes, &file, &info);
    if (err == DBOS_ERR_DISK_FULL) {
        drop_unfinished(segments, number);
    }
    note_room(segments, err, &info);
    (void)pthread_mutex_lock(&preparer->lock);
    preparer->again = err == DBOS_ERR_DISK_FULL ? number : 0;
    preparer->wanted = 0;
    preparer->err = err;
    preparer->info = info;
    preparer->ready = err == DBOS_OK ? number : 0;
    preparer->ready_file = file;
    (void)pthread_cond_broadcast(&preparer->changed);
}

/* A second, unless something happens before. */
static void wait_and_try_again(struct dbos_preparer *preparer) {
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec++;
    int woken = pthread_cond_timedwait(&preparer->changed, &preparer->lock, &until);
    if (woken != 0 && preparer->wanted == 0 && preparer->ready == 0) {
        preparer->wanted = preparer->again;
    }
}

static void *run_preparer(void *arg) {
    struct dbos_segments *segments = arg;
    struct dbos_preparer *preparer = &segments->preparer;
    (void)pthread_setname_np(pthread_self(), "segments");
    (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), 10);
    (void)pthread_mutex_lock(&preparer->lock);
    while (!preparer->stop) {
        if (preparer->wanted != 0) {
            prepare_one(segments, preparer->wanted);
        } else if (preparer->again != 0) {
            wait_and_try_again(preparer);
        } else {
            (void)pthread_cond_wait(&preparer->changed, &preparer->lock);
        }
    }
    (void)pthread_mutex_unlock(&preparer->lock);
    return NULL;
}

static bool is_half_full(const struct dbos_segments *segments) {
    return segments->offset >= segments->header.size_bytes / 2;
}

bool dbos_segments_wants_sync(const struct dbos_segments *segments) {
    return is_half_full(segments) && !segments->header_pending && !segments->header_synced;
}

/* Ask for the next segment when the current one is half full, and not before its header is on disk:
 * a segment that lies two behind the newest header then always means that one was lost which had
 * been synced, and a power cut can not make it look so. */
static void prepare_next(struct dbos_segments *segments) {
    struct dbos_preparer *preparer = &segments->preparer;
    if (!is_half_full(segments) || !segments->header_synced) {
        return;
    }
    (void)pthread_mutex_lock(&preparer->lock);
    if (preparer->running && preparer->wanted == 0 && preparer->ready == 0 &&
        preparer->err == DBOS_OK) {
        preparer->wanted = segments->header.number + 1;
        (void)pthread_cond_broadcast(&preparer->changed);
    }
    (void)pthread_mutex_unlock(&preparer->lock);
}

/* The prepared file of this number, waited for if it is being made; -1: there is none. */
static int take_prepared(struct dbos_segments *segments, uint32_t number) {
    struct dbos_preparer *preparer = &segments->preparer;
    int file = -1;
    (void)pthread_mutex_lock(&preparer->lock);
    while (preparer->wanted != 0) {
        (void)pthread_cond_wait(&preparer->changed, &preparer->lock);
    }
    if (preparer->ready != 0) {
        DBOS_CHECK(preparer->ready == number);
        file = preparer->ready_file;
    }
    preparer->ready = 0;
    preparer->ready_file = -1;
    preparer->again = 0;
    preparer->err = DBOS_OK; /* a failure is met again by whoever needs the segment now */
    (void)pthread_mutex_unlock(&preparer->lock);
    return file;
}

static enum dbos_err start_preparer(struct dbos_segments *segments, struct dbos_errinfo *info) {
    struct dbos_preparer *preparer = &segments->preparer;
    if (pthread_create(&preparer->thread, NULL, run_preparer, segments) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the thread that prepares segments");
    }
    (void)pthread_mutex_lock(&preparer->lock);
    preparer->running = true;
    (void)pthread_mutex_unlock(&preparer->lock);
    return DBOS_OK;
}

static void stop_preparer(struct dbos_preparer *preparer) {
    if (preparer->running) {
        (void)pthread_mutex_lock(&preparer->lock);
        preparer->stop = true;
        (void)pthread_cond_broadcast(&preparer->changed);
        (void)pthread_mutex_unlock(&preparer->lock);
        (void)pthread_join(preparer->thread, NULL);
    }
}

/* --- life ------------------------------------------------------------------------------------ */

enum dbos_err dbos_segments_init(struct dbos_segments *segments, struct dbos_alloc *alloc,
                                 const struct dbos_log_options *options, const char *data_dir,
                                 struct dbos_errinfo *info) {
    *segments = (struct dbos_segments){.env = options->env,
                                       .alloc = alloc,
                                       .data_dir = data_dir,
                                       .segment_bytes = options->segment_bytes,
                                       .file = -1,
                                       .preparer = {.ready_file = -1}};
    if (segments->segment_bytes == 0) {
        segments->segment_bytes = DBOS_LOG_SEGMENT_BYTES;
    }
    segments->segment_bytes &= ~(uint64_t)(DBOS_SECTOR_BYTES - 1);
    if (segments->segment_bytes < DBOS_LOG_SEGMENT_BYTES_MIN) {
        segments->segment_bytes = DBOS_LOG_SEGMENT_BYTES_MIN;
    }
    (void)pthread_mutex_init(&segments->preparer.lock, NULL);
    (void)pthread_cond_init(&segments->preparer.changed, NULL);
    segments->buffer = dbos_take(alloc, DBOS_LOG_BUFFER_BYTES);
    return segments->buffer == NULL
               ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the log's write buffer")
               : DBOS_OK;
}

size_t dbos_log_buffer(const struct dbos_log *log, const void **out) {
    *out = log->segments.buffer;
    return log->segments.buffer == NULL ? 0 : DBOS_LOG_BUFFER_BYTES;
}

void dbos_segments_fini(struct dbos_segments *segments) {
    struct dbos_preparer *preparer = &segments->preparer;
    stop_preparer(preparer);
    if (preparer->ready_file >= 0) {
        segments->env->ops->file_close(segments->env, preparer->ready_file);
    }
    if (segments->file >= 0) {
        segments->env->ops->file_close(segments->env, segments->file);
    }
    (void)pthread_cond_destroy(&preparer->changed);
    (void)pthread_mutex_destroy(&preparer->lock);
    dbos_give(segments->alloc, segments->buffer);
}

enum dbos_err dbos_segments_resume(struct dbos_segments *segments,
                                   const struct dbos_segment_header *header, uint64_t offset,
                                   uint32_t previous_crc, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    DBOS_CHECK(segments->file < 0);
    dbos_segment_path(path, segments->data_dir, header->number);
    enum dbos_err err =
        segments->env->ops->file_open(segments->env, path, DBOS_OPEN_WRITE, &segments->file, info);
    if (err != DBOS_OK) {
        segments->file = -1;
        return err;
    }
    segments->header = *header;
    segments->offset = offset;
    segments->previous_crc = previous_crc;
    return DBOS_OK;
}

/* The file of the next segment becomes the current one. */
static void use_segment(struct dbos_segments *segments, int file, uint64_t size_bytes) {
    segments->header.number++;
    segments->header.generation = 1;
    segments->header.epoch = 1;
    segments->header.size_bytes = size_bytes;
    segments->header_pending = true;
    segments->header_synced = false;
    segments->file = file;
    segments->offset = DBOS_SEGMENT_HEADER_BYTES;
    segments->made++;
}

enum dbos_err dbos_segments_start(struct dbos_segments *segments,
                                  const struct dbos_stored_identity *identity,
                                  struct dbos_errinfo *info) {
    segments->header.database = identity->database;
    segments->header.object_seed = identity->object_seed;
    if (segments->header.number == 0) {
        int file = -1;
        enum dbos_err err = make_segment(segments->env, segments->data_dir, 1,
                                         segments->segment_bytes, &file, info);
        if (err != DBOS_OK) {
            return err;
        }
        use_segment(segments, file, segments->segment_bytes);
    }
    enum dbos_err err = start_preparer(segments, info);
    if (err == DBOS_OK) {
        prepare_next(segments);
    }
    return err;
}

/* --- writing --------------------------------------------------------------------------------- */

static enum dbos_err sync_segment(struct dbos_segments *segments, struct dbos_errinfo *info) {
    enum dbos_err err = segments->env->ops->file_sync(segments->env, segments->file, info);
    if (err != DBOS_OK) {
        dbos_err_detail(info, "Log segment %u.", segments->header.number);
    }
    return err;
}

enum dbos_err dbos_segments_sync(struct dbos_segments *segments, struct dbos_errinfo *info) {
    enum dbos_err err = sync_segment(segments, info);
    if (err == DBOS_OK && !segments->header_pending) {
        segments->header_synced = true;
        prepare_next(segments);
    }
    return err;
}

/* Nothing was written to the current segment yet: make it longer, so that the first batch fits. */
static enum dbos_err grow_segment(struct dbos_segments *segments, uint64_t size_bytes,
                                  struct dbos_errinfo *info) {
    int file = -1;
    enum dbos_err err = make_segment(segments->env, segments->data_dir, segments->header.number,
                                     size_bytes, &file, info);
    if (err == DBOS_OK) {
        segments->env->ops->file_close(segments->env, segments->file);
        segments->file = file;
        segments->header.size_bytes = size_bytes;
    }
    return err;
}

/* Pass to the next segment, with room for `batch_bytes`. */
static enum dbos_err next_segment(struct dbos_segments *segments, uint64_t batch_bytes,
                                  struct dbos_errinfo *info) {
    uint64_t size_bytes = segments->segment_bytes;
    bool is_larger = DBOS_SEGMENT_HEADER_BYTES + batch_bytes > size_bytes;
    size_bytes = is_larger ? DBOS_SEGMENT_HEADER_BYTES + batch_bytes : size_bytes;
    if (segments->header_pending) {
        return grow_segment(segments, size_bytes, info);
    }
    /* A used segment means that the one before it is complete on disk. */
    enum dbos_err err = sync_segment(segments, info);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t number = segments->header.number + 1;
    int file = take_prepared(segments, number);
    if (file >= 0 && is_larger) {
        segments->env->ops->file_close(segments->env, file);
        file = -1;
    }
    if (file < 0) {
        err = make_segment(segments->env, segments->data_dir, number, size_bytes, &file, info);
        if (err == DBOS_ERR_DISK_FULL) {
            drop_unfinished(segments, number);
        }
        note_room(segments, err, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    segments->env->ops->file_close(segments->env, segments->file);
    use_segment(segments, file, size_bytes);
    return DBOS_OK;
}

/* Bytes on their way into sectors. */
struct sector_stream {
    struct dbos_segments *segments;
    uint64_t offset;      /* in the file, of the buffer's first byte */
    size_t buffer_bytes;  /* whole sectors (and a header) in the buffer */
    size_t payload_bytes; /* in the sector that is being filled, behind them */
    uint32_t ordinal;     /* of that sector */
};

static enum dbos_err flush_stream(struct sector_stream *stream, struct dbos_errinfo *info) {
    struct dbos_segments *segments = stream->segments;
    enum dbos_err err =
        segments->env->ops->file_write(segments->env, segments->file, stream->offset,
                                       segments->buffer, stream->buffer_bytes, info);
    if (err != DBOS_OK) {
        dbos_err_detail(info, "Log segment %u, offset %llu.", segments->header.number,
                        (unsigned long long)stream->offset);
    }
    stream->offset += stream->buffer_bytes;
    stream->buffer_bytes = 0;
    return err;
}

static void end_sector(struct sector_stream *stream) {
    struct dbos_segments *segments = stream->segments;
    uint8_t *sector = segments->buffer + stream->buffer_bytes;
    uint64_t index = (stream->offset + stream->buffer_bytes) / DBOS_SECTOR_BYTES;
    memset(sector + sizeof(struct dbos_sector_head) + stream->payload_bytes, 0,
           DBOS_SECTOR_PAYLOAD_BYTES - stream->payload_bytes);
    dbos_sector_seal(sector, segments->header.generation, (uint32_t)index, stream->ordinal);
    stream->ordinal++;
    stream->buffer_bytes += DBOS_SECTOR_BYTES;
    stream->payload_bytes = 0;
}

static enum dbos_err put_stream(struct sector_stream *stream, const void *data, size_t size_bytes,
                                struct dbos_errinfo *info) {
    const uint8_t *from = data;
    while (size_bytes != 0) {
        if (stream->buffer_bytes + DBOS_SECTOR_BYTES > DBOS_LOG_BUFFER_BYTES) {
            enum dbos_err err = flush_stream(stream, info);
            if (err != DBOS_OK) {
                return err;
            }
        }
        size_t part = DBOS_SECTOR_PAYLOAD_BYTES - stream->payload_bytes;
        part = part > size_bytes ? size_bytes : part;
        memcpy(stream->segments->buffer + stream->buffer_bytes + sizeof(struct dbos_sector_head) +
                   stream->payload_bytes,
               from, part);
        stream->payload_bytes += part;
        from += part;
        size_bytes -= part;
        if (stream->payload_bytes == DBOS_SECTOR_PAYLOAD_BYTES) {
            end_sector(stream);
        }
    }
    return DBOS_OK;
}

/* A segment's header goes out in front of its first batch, in the same write. */
static void begin_stream(struct dbos_segments *segments, uint64_t first_position,
                         struct sector_stream *stream) {
    *stream = (struct sector_stream){.segments = segments, .offset = segments->offset};
    if (segments->header_pending) {
        DBOS_CHECK(segments->offset == DBOS_SEGMENT_HEADER_BYTES);
        segments->header.first_position = first_position;
        segments->header.previous_crc = segments->previous_crc;
        dbos_segment_header_encode(&segments->header, segments->buffer);
        stream->offset = 0;
        stream->buffer_bytes = DBOS_SEGMENT_HEADER_BYTES;
        segments->header_pending = false;
    }
}

enum dbos_err dbos_segments_reserve(struct dbos_segments *segments, struct dbos_stored_batch *batch,
                                    struct dbos_errinfo *info) {
    uint64_t batch_bytes = dbos_batch_sectors(batch->records_bytes) * DBOS_SECTOR_BYTES;
    if (segments->offset + batch_bytes <= segments->header.size_bytes) {
        return DBOS_OK;
    }
    enum dbos_err err = next_segment(segments, batch_bytes, info);
    if (err == DBOS_OK) {
        batch->synced_position = batch->first_position - 1;
    }
    return err;
}

enum dbos_err dbos_segments_write(struct dbos_segments *segments, struct dbos_stored_batch *batch,
                                  const struct dbos_log_entry *first, struct dbos_errinfo *info) {
    struct sector_stream stream;
    uint64_t batch_bytes = dbos_batch_sectors(batch->records_bytes) * DBOS_SECTOR_BYTES;
    DBOS_CHECK(segments->offset + batch_bytes <= segments->header.size_bytes);
    batch->records_crc = 0;
    const struct dbos_log_entry *entry = first;
    for (uint32_t i = 0; i < batch->record_count; i++, entry = entry->next) {
        batch->records_crc = dbos_crc32c(batch->records_crc, entry->data, entry->size_bytes);
    }
    batch->previous_crc = segments->previous_crc;
    dbos_batch_seal(batch);
    begin_stream(segments, batch->first_position, &stream);
    enum dbos_err err = put_stream(&stream, batch, sizeof *batch, info);
    entry = first;
    for (uint32_t i = 0; err == DBOS_OK && i < batch->record_count; i++, entry = entry->next) {
        err = put_stream(&stream, entry->data, entry->size_bytes, info);
    }
    if (err == DBOS_OK && stream.payload_bytes != 0) {
        end_sector(&stream);
    }
    if (err == DBOS_OK && stream.buffer_bytes != 0) {
        err = flush_stream(&stream, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    segments->previous_crc = batch->crc;
    segments->offset += batch_bytes;
    prepare_next(segments);
    return DBOS_OK;
}
