#include "txn/log.h"

#include <linux/futex.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "txn/log_internal.h"

enum {
    ROOM_POLL_US = 1000,
    FULL_WAIT_US = 100000,     /* before it is looked again whether the disk has room */
    LINGER_US = 1000,          /* a sync costs the processor as much as dozens of transactions */
    LINGER_RECORDS_MAX = 4096, /* enough for one write */
    SYNC_SHARE = 3,            /* of the time, at most one in so many is spent in syncs of few */
};

/* What the log thread lingers for. */
enum { LINGERS_NOT = 0, LINGERS_FOR_REST = 1, LINGERS_FOR_RECORDS = 2 };

/* --- opening and closing --------------------------------------------------------------------- */

static enum dbos_err make_directories(struct dbos_log *log, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    dbos_log_path(path, log->data_dir, "log");
    enum dbos_err err = log->env->ops->dir_make(log->env, path, info);
    if (err == DBOS_OK) {
        dbos_log_path(path, log->data_dir, "blobs");
        err = log->env->ops->dir_make(log->env, path, info);
    }
    return err == DBOS_OK ? log->env->ops->dir_sync(log->env, log->data_dir, info) : err;
}

static enum dbos_err open_parts(struct dbos_log *log, const struct dbos_log_options *options,
                                struct dbos_errinfo *info) {
    enum dbos_err err =
        dbos_segments_init(&log->segments, log->alloc, options, log->data_dir, info);
    if (err == DBOS_OK) {
        err = dbos_log_lock_dir(log->env, options->data_dir, log->read_only, &log->lock_file, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    memcpy(log->data_dir, options->data_dir, strlen(options->data_dir) + 1);
    err = dbos_log_identity(log->env, log->data_dir, log->read_only, &log->identity, info);
    if (err == DBOS_OK && !log->read_only) {
        err = make_directories(log, info);
    }
    if (err == DBOS_OK) {
        err = dbos_blob_index_open(log->alloc, log->env, log->data_dir, &log->blobs, info);
    }
    return err;
}

/* The queue wants cache lines of its own; the allocator aligns to less. */
static struct dbos_log *take_log(struct dbos_alloc *alloc) {
    size_t align = _Alignof(struct dbos_log);
    uint8_t *block = dbos_take_zero(alloc, sizeof(struct dbos_log) + align);
    if (block == NULL) {
        return NULL;
    }
    struct dbos_log *log = (void *)(block + (align - (uintptr_t)block % align) % align);
    log->alloc = alloc;
    log->block = block;
    return log;
}

enum dbos_err dbos_log_open(struct dbos_alloc *alloc, const struct dbos_log_options *options,
                            struct dbos_log **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_log *log = take_log(alloc);
    if (log == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the log");
    }
    log->env = options->env;
    log->durability = options->durability;
    log->flush_ns = (uint64_t)options->async_flush_ms * 1000000u;
    log->objects = options->objects;
    log->read_only = options->read_only;
    log->in_flight_bytes_max =
        options->in_flight_bytes_max == 0 ? DBOS_LOG_IN_FLIGHT_BYTES : options->in_flight_bytes_max;
    log->blob_file_bytes =
        options->blob_file_bytes == 0 ? DBOS_BLOB_FILE_BYTES : options->blob_file_bytes;
    log->lock_file = -1;
    log->blob_file = -1;
    dbos_queue_init(&log->queue, -1);
    (void)pthread_mutex_init(&log->turn, NULL);
    (void)pthread_mutex_init(&log->lock, NULL);
    (void)pthread_cond_init(&log->moved, NULL);
    enum dbos_err err = open_parts(log, options, info);
    if (err != DBOS_OK) {
        dbos_log_close(log);
        return err;
    }
    *out = log;
    return DBOS_OK;
}

static void close_file(struct dbos_log *log, int file) {
    if (file >= 0) {
        log->env->ops->file_close(log->env, file);
    }
}

void dbos_log_close(struct dbos_log *log) {
    if (log == NULL) {
        return;
    }
    if (log->running) {
        atomic_store(&log->is_closing, true);
        dbos_queue_push(&log->queue, &log->stop_node);
        (void)pthread_join(log->thread, NULL);
    }
    DBOS_CHECK(log->first == NULL); /* every position that was taken was appended */
    dbos_log_pools_fini(log);
    dbos_segments_fini(&log->segments);
    dbos_blob_index_close(log->blobs);
    close_file(log, log->blob_file);
    close_file(log, log->lock_file);
    (void)pthread_cond_destroy(&log->moved);
    (void)pthread_mutex_destroy(&log->lock);
    (void)pthread_mutex_destroy(&log->turn);
    dbos_give(log->alloc, log->block);
}

struct dbos_uuid dbos_log_database(const struct dbos_log *log) {
    return log->identity.database;
}

/* --- appending ------------------------------------------------------------------------------- */

uint64_t dbos_log_take_position(struct dbos_log *log) {
    return atomic_fetch_add(&log->taken, 1) + 1;
}

uint64_t dbos_log_last_position(const struct dbos_log *log) { return atomic_load(&log->taken); }

void dbos_log_append_give(struct dbos_log *log, struct dbos_log_entry *entry) {
    DBOS_CHECK(entry->position != 0 && entry->size_bytes != 0);
    for (uint32_t i = 0; i < entry->object_count; i++) {
        entry->held_bytes += entry->objects[i]->id.size_bytes;
    }
    (void)atomic_fetch_add_explicit(&log->in_flight_bytes, entry->held_bytes, memory_order_relaxed);
    if (atomic_load_explicit(&log->holds, memory_order_relaxed) == 0) {
        dbos_queue_push(&log->queue, &entry->node);
        return;
    }
    dbos_queue_push_quietly(&log->queue, &entry->node);
    /* Has the hold ended meanwhile? Then it may not have seen this: one of the two sees the other,
     * because both change the word. */
    if (atomic_fetch_add(&log->holds, 0) == 0) {
        dbos_queue_kick(&log->queue);
    }
}

bool dbos_log_wait_room(struct dbos_log *log, bool (*gives_up)(void *arg), void *arg) {
    uint64_t bytes = atomic_load_explicit(&log->in_flight_bytes, memory_order_relaxed);
    if (bytes <= log->in_flight_bytes_max) {
        return false;
    }
    (void)atomic_fetch_add(&log->room_waits, 1);
    while (atomic_load(&log->in_flight_bytes) > log->in_flight_bytes_max &&
           (gives_up == NULL || !gives_up(arg))) {
        log->env->ops->sleep_us(log->env, ROOM_POLL_US);
    }
    return true;
}

/* --- what is durable ------------------------------------------------------------------------- */

uint64_t dbos_log_durable(const struct dbos_log *log) {
    return atomic_load_explicit(&log->durable, memory_order_acquire);
}

void dbos_log_wait(struct dbos_log *log, uint64_t position) {
    if (dbos_log_durable(log) >= position) {
        return;
    }
    (void)atomic_fetch_add(&log->waiters, 1);
    (void)pthread_mutex_lock(&log->lock);
    while (atomic_load(&log->durable) < position) {
        (void)pthread_cond_wait(&log->moved, &log->lock);
    }
    (void)pthread_mutex_unlock(&log->lock);
    (void)atomic_fetch_sub(&log->waiters, 1);
}

uint64_t dbos_log_synced(const struct dbos_log *log) { return atomic_load(&log->synced_out); }

bool dbos_log_is_disk_full(const struct dbos_log *log) {
    return atomic_load_explicit(&log->segments.disk_full, memory_order_relaxed);
}

void dbos_log_state_hash(const struct dbos_log *log, uint64_t *out_position, uint64_t *out_hash) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&log->lock;
    (void)pthread_mutex_lock(lock);
    *out_position = log->published_position;
    *out_hash = log->published_hash;
    (void)pthread_mutex_unlock(lock);
}

void dbos_log_stats(const struct dbos_log *log, struct dbos_log_stats *out) {
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&log->lock;
    (void)pthread_mutex_lock(lock);
    *out = log->published_stats;
    (void)pthread_mutex_unlock(lock);
    out->in_flight_bytes = atomic_load_explicit(&log->in_flight_bytes, memory_order_relaxed);
    out->room_waits = atomic_load_explicit(&log->room_waits, memory_order_relaxed);
}

const struct dbos_histogram *dbos_log_sync_times(const struct dbos_log *log) {
    return &log->sync_times;
}

void dbos_log_note_barrier(struct dbos_log *log, uint64_t position) {
    atomic_store(&log->barrier, position);
}

uint64_t dbos_log_barrier_position(const struct dbos_log *log) {
    return atomic_load_explicit(&log->barrier, memory_order_relaxed);
}

/* Move the watermark and say so. */
static void publish(struct dbos_log *log) {
    (void)pthread_mutex_lock(&log->lock);
    log->published_position = log->written;
    log->published_hash = log->state_hash;
    log->published_stats = log->stats;
    log->published_stats.segments = log->segments.made;
    (void)pthread_mutex_unlock(&log->lock);
    /* Sequentially consistent with the waiter's count: one of the two sees the other. */
    atomic_store(&log->synced_out, log->synced);
    atomic_store(&log->durable, log->written);
    if (atomic_load(&log->waiters) != 0) {
        (void)pthread_mutex_lock(&log->lock);
        (void)pthread_cond_broadcast(&log->moved);
        (void)pthread_mutex_unlock(&log->lock);
    }
    if (log->on_durable != NULL) {
        log->on_durable(log->on_durable_arg);
    }
}

/* --- the log thread -------------------------------------------------------------------------- */

/* What is in memory may not be on disk: nothing may be built upon it, nothing may be answered. The
 * process ends here and now; the next start reads what is there. */
static noreturn void stop_at_once(const struct dbos_errinfo *info) {
    dbos_log(DBOS_LOG_ERROR, "the log cannot be written, stopping: %s %s", info->message,
             info->detail);
    _exit(DBOS_EXIT_LOG_FAILED);
}

/* Put an entry in its place by position: nearly always the last. */
static void keep_in_order(struct dbos_log *log, struct dbos_log_entry *entry) {
    struct dbos_log_entry *before = log->last;
    DBOS_CHECK(entry->position > log->written);
    while (before != NULL && before->position > entry->position) {
        before = before->previous;
    }
    struct dbos_log_entry *after = before == NULL ? log->first : before->next;
    entry->previous = before;
    entry->next = after;
    *(before == NULL ? &log->first : &before->next) = entry;
    *(after == NULL ? &log->last : &after->previous) = entry;
}

static void take_queued(struct dbos_log *log, struct dbos_queue_node *node) {
    static_assert(offsetof(struct dbos_log_entry, node) == 0, "a node is its entry");
    while (node != NULL) {
        if (node == &log->stop_node) {
            log->stop = true;
        } else {
            keep_in_order(log, (struct dbos_log_entry *)node);
        }
        node = dbos_queue_pop(&log->queue);
    }
}

/* The records that follow each other from the last written one on: as many as fit. False: the next
 * position has not come yet. */
static bool gather(struct dbos_log *log, struct dbos_stored_batch *batch) {
    *batch = (struct dbos_stored_batch){.first_position = log->written + 1,
                                        .synced_position = log->synced,
                                        .state_hash = log->state_hash};
    uint64_t position = log->written;
    uint64_t bytes = 0;
    for (struct dbos_log_entry *entry = log->first;
         entry != NULL && entry->position == position + 1; entry = entry->next) {
        if (batch->record_count != 0 && bytes + entry->size_bytes > DBOS_LOG_BATCH_BYTES) {
            break;
        }
        position++;
        bytes += entry->size_bytes;
        batch->record_count++;
        batch->state_hash += (uint64_t)entry->hash_delta;
    }
    batch->last_position = position;
    batch->records_bytes = (uint32_t)bytes;
    return batch->record_count != 0;
}

static void sync_log(struct dbos_log *log) {
    struct dbos_errinfo info = {0};
    uint64_t start_ns = log->env->ops->mono_ns(log->env);
    if (dbos_segments_sync(&log->segments, &info) != DBOS_OK) {
        stop_at_once(&info);
    }
    log->stats.syncs++;
    log->synced = log->written;
    log->synced_ns = log->env->ops->mono_ns(log->env);
    log->sync_begun_ns = start_ns;
    log->sync_takes_ns += ((log->synced_ns - start_ns) >> 3) - (log->sync_takes_ns >> 3);
    dbos_histogram_add(&log->sync_times, log->synced_ns - start_ns);
}

/* Records with a position that are not durable yet. Any thread. */
static uint64_t pending(const struct dbos_log *log) {
    return atomic_load(&log->taken) - atomic_load(&log->durable);
}

/* The entries that were written leave the list; returned as a list of their own. */
static struct dbos_log_entry *unlink_written(struct dbos_log *log, uint32_t count) {
    struct dbos_log_entry *written = log->first;
    struct dbos_log_entry *last = NULL;
    for (uint32_t i = 0; i < count; i++) {
        last = log->first;
        log->first = last->next;
    }
    last->next = NULL;
    *(log->first == NULL ? &log->last : &log->first->previous) = NULL;
    return written;
}

/* Before publish(), which wakes who waits for room. The memory follows in a moment. */
static void make_room(struct dbos_log *log, const struct dbos_log_entry *written) {
    uint64_t bytes = 0;
    for (const struct dbos_log_entry *entry = written; entry != NULL; entry = entry->next) {
        bytes += entry->held_bytes;
    }
    (void)atomic_fetch_sub(&log->in_flight_bytes, bytes);
}

static void give_entries(struct dbos_log *log, struct dbos_log_entry *entry) {
    while (entry != NULL) {
        struct dbos_log_entry *next = entry->next;
        dbos_log_entry_give(log, entry);
        entry = next;
    }
}

/* False: the disk has no room for another segment. Nothing of the batch was done; what comes behind
 * it is not acknowledged either, so that it may be tried again. */
static bool reserve(struct dbos_log *log, struct dbos_stored_batch *batch) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_segments_reserve(&log->segments, batch, &info);
    if (err != DBOS_OK && err != DBOS_ERR_DISK_FULL) {
        stop_at_once(&info);
    }
    if (err != DBOS_OK && atomic_load(&log->is_closing)) {
        stop_at_once(&info); /* nobody will make room any more */
    }
    return err == DBOS_OK;
}

static void write_batch(struct dbos_log *log, struct dbos_stored_batch *batch) {
    struct dbos_errinfo info = {0};
    if (dbos_log_write_objects(log, log->first, batch->record_count, &info) != DBOS_OK ||
        dbos_segments_write(&log->segments, batch, log->first, &info) != DBOS_OK) {
        stop_at_once(&info);
    }
    log->written = batch->last_position;
    log->state_hash = batch->state_hash;
    if (log->durability == DBOS_DURABILITY_SYNC || dbos_segments_wants_sync(&log->segments)) {
        sync_log(log);
    } else if (log->synced < batch->synced_position) {
        log->synced = batch->synced_position; /* the segment before it was synced */
    }
    log->stats.batches++;
    log->stats.records += batch->record_count;
    log->stats.bytes += batch->records_bytes;
    struct dbos_log_entry *written = unlink_written(log, batch->record_count);
    make_room(log, written);
    publish(log);
    log->expected = batch->record_count + pending(log);
    give_entries(log, written);
}

/* Asynchronous: how long until what was written must be synced. */
static uint64_t sync_due_us(struct dbos_log *log) {
    uint64_t idle_us = 1000000;
    if (log->synced == log->written) {
        return idle_us;
    }
    uint64_t since = log->env->ops->mono_ns(log->env) - log->synced_ns;
    return since >= log->flush_ns ? 0 : (log->flush_ns - since) / 1000 + 1;
}

/* Nothing waits for a sync: the interval until the next one starts with what is written now. */
static void note_interval(struct dbos_log *log) {
    if (log->synced == log->written) {
        log->synced_ns = log->env->ops->mono_ns(log->env);
    }
}

/* The log's latency is everyone's: go before other threads where that is allowed. */
void dbos_log_raise_priority(void) {
    struct sched_param param = {.sched_priority = 10};
    if (pthread_setschedparam(pthread_self(), SCHED_FIFO, &param) != 0) {
        (void)setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), -10);
    }
}

void dbos_log_producer_works(struct dbos_log *log) {
    (void)atomic_fetch_add_explicit(&log->producers, 1, memory_order_relaxed);
}

/* Sequentially consistent with what the log thread does: one of the two sees the other. */
void dbos_log_producer_rests(struct dbos_log *log) {
    if (atomic_fetch_sub(&log->producers, 1) != 1) {
        return;
    }
    uint32_t lingers = atomic_load(&log->lingers);
    bool is_over = lingers == LINGERS_FOR_REST ||
                   (lingers == LINGERS_FOR_RECORDS && pending(log) >= atomic_load(&log->ripe));
    if (is_over && atomic_exchange(&log->lingers, LINGERS_NOT) != LINGERS_NOT) {
        (void)syscall(SYS_futex, &log->lingers, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
    }
}

static void sleep_lingering(struct dbos_log *log, uint32_t what, uint64_t ns) {
    struct timespec timeout = {.tv_sec = (time_t)(ns / 1000000000),
                               .tv_nsec = (long)(ns % 1000000000)};
    (void)syscall(SYS_futex, &log->lingers, FUTEX_WAIT_PRIVATE, what, &timeout, NULL, 0);
}

static void wait_for_producers(struct dbos_log *log) {
    atomic_store(&log->lingers, LINGERS_FOR_REST);
    if (atomic_load(&log->producers) != 0) {
        sleep_lingering(log, LINGERS_FOR_REST, LINGER_US * 1000);
    }
    atomic_store(&log->lingers, LINGERS_NOT);
}

/* Clients that wait for their replies send their next requests when they have got them: about as
 * many as there were are to be expected again. Until most of them are there, syncs keep their
 * distance, because each costs the processor as much, whatever is in it. One lonely client is its
 * own batch, and waits for nobody. */
static void wait_for_expected(struct dbos_log *log) {
    uint64_t most = (log->expected * 3 + 3) / 4;
    uint64_t distance_ns = SYNC_SHARE * log->sync_takes_ns;
    distance_ns = distance_ns < LINGER_US * 1000 ? distance_ns : LINGER_US * 1000;
    if (pending(log) >= most) {
        return;
    }
    uint64_t since_ns = log->env->ops->mono_ns(log->env) - log->sync_begun_ns;
    if (since_ns >= distance_ns) {
        return;
    }
    atomic_store(&log->ripe, most);
    atomic_store(&log->lingers, LINGERS_FOR_RECORDS);
    if (pending(log) < most) {
        sleep_lingering(log, LINGERS_FOR_RECORDS, distance_ns - since_ns);
    }
    atomic_store(&log->lingers, LINGERS_NOT);
}

/* Something is there to be written: is more on its way? What is pushed meanwhile wakes nobody,
 * because the queue's consumer counts as awake. Asynchronously no reply waits for it, so that what
 * comes one by one, too, is written once in a while and not each by itself. */
static void linger(struct dbos_log *log) {
    bool is_enough = atomic_load_explicit(&log->taken, memory_order_relaxed) - log->written >=
                         LINGER_RECORDS_MAX ||
                     atomic_load(&log->in_flight_bytes) > log->in_flight_bytes_max;
    if (is_enough || log->stop) {
        return; /* whoever waits for room brings nothing more */
    }
    if (log->durability == DBOS_DURABILITY_ASYNC) {
        if (atomic_load(&log->waiters) == 0) {
            log->env->ops->sleep_us(log->env, LINGER_US);
        }
    } else {
        if (atomic_load_explicit(&log->producers, memory_order_relaxed) != 0) {
            wait_for_producers(log);
        }
        wait_for_expected(log);
    }
    take_queued(log, dbos_queue_pop(&log->queue));
}

/* What was written asynchronously, once its time has come. */
static void sync_if_due(struct dbos_log *log) {
    if (log->synced != log->written && (log->stop || sync_due_us(log) == 0)) {
        sync_log(log);
        publish(log);
    }
}

/* Everything that is there, and what comes meanwhile: this may go on for as long as there is work,
 * so that nothing may be put off until its end. */
static void write_all(struct dbos_log *log) {
    struct dbos_stored_batch batch;
    while (gather(log, &batch)) {
        note_interval(log);
        while (!reserve(log, &batch)) {
            log->env->ops->sleep_us(log->env, FULL_WAIT_US);
        }
        write_batch(log, &batch);
        sync_if_due(log);
        take_queued(log, dbos_queue_pop(&log->queue));
        /* Asynchronously also when nothing is there: while work goes on, nobody has to wake this
         * thread for it. */
        if (log->first != NULL || log->durability == DBOS_DURABILITY_ASYNC) {
            linger(log);
        }
    }
}

static void *run_log(void *arg) {
    struct dbos_log *log = arg;
    (void)pthread_setname_np(pthread_self(), "log");
    dbos_log_raise_priority();
    (void)pthread_mutex_lock(&log->turn);
    while (!log->stop) {
        uint64_t due_us = sync_due_us(log);
        take_queued(log, due_us == 0 ? dbos_queue_pop(&log->queue)
                                     : dbos_queue_wait_turn(&log->queue, &log->turn, due_us));
        if (log->first != NULL) {
            linger(log);
        }
        write_all(log);
        sync_if_due(log);
    }
    (void)pthread_mutex_unlock(&log->turn);
    return NULL;
}

void dbos_log_hold(struct dbos_log *log) { (void)atomic_fetch_add(&log->holds, 1); }

/* The log thread's work, without lingering: this thread has no more. False: it is at it itself. */
static bool write_here(struct dbos_log *log) {
    struct dbos_stored_batch batch;
    if (pthread_mutex_trylock(&log->turn) != 0) {
        return false;
    }
    take_queued(log, dbos_queue_pop(&log->queue));
    bool has_room = true;
    while (has_room && gather(log, &batch)) {
        has_room = reserve(log, &batch); /* else the log thread waits for it */
        if (has_room) {
            write_batch(log, &batch);
            take_queued(log, dbos_queue_pop(&log->queue));
        }
    }
    bool is_all = has_room && !log->stop && dbos_queue_is_empty(&log->queue);
    (void)pthread_mutex_unlock(&log->turn);
    return is_all;
}

void dbos_log_release(struct dbos_log *log, bool here) {
    (void)atomic_fetch_sub(&log->holds, 1);
    if (atomic_load(&log->taken) == dbos_log_durable(log)) {
        return;
    }
    if (!here || log->durability == DBOS_DURABILITY_ASYNC || !write_here(log)) {
        dbos_queue_kick(&log->queue);
    }
}

enum dbos_err dbos_log_start(struct dbos_log *log, void (*on_durable)(void *arg), void *arg,
                             struct dbos_errinfo *info) {
    DBOS_CHECK(log->recovered && !log->running && !log->read_only);
    log->on_durable = on_durable;
    log->on_durable_arg = arg;
    enum dbos_err err = dbos_segments_start(&log->segments, &log->identity, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (pthread_create(&log->thread, NULL, run_log, log) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the log thread");
    }
    log->running = true;
    return DBOS_OK;
}
