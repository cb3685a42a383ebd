#include "engine/snapshots.h"

#include <stdio.h>

#include "base/log.h"
#include "engine/engine_internal.h"
#include "engine/wire.h"

enum {
    SLICE_US = 100,
    PAUSE_SLICES = 3,  /* a slice is followed by so many times of its length without one */
    WAIT_US = 200,     /* for chunks, before partitions are looked at */
    LOOK_US = 1000000, /* how often the log's growth is looked at */
    KEPT = 2,
    MEMORY_MAX_MB = 256,
    RETRY_NS_SHIFT = 34, /* after a failure: 17 s */
};
#define LOG_BYTES_DEFAULT (UINT64_C(1) << 30)

struct slice {
    _Atomic bool is_queued;
    _Atomic bool is_running;
    _Atomic uint64_t ended_ns;
};

struct dbos_snapshots {
    struct dbos_engine *engine;
    uint64_t log_bytes_max; /* between two; UINT64_MAX = only when asked for */
    struct dbos_queue queue;
    struct dbos_queue_node stop;
    _Atomic bool is_stopping;
    pthread_t thread;
    bool running;
    uint32_t generation;
    struct dbos_request cut;      /* the engine's own, through the barrier */
    struct dbos_request *asking;  /* wait for the one that is taken next */
    struct dbos_request *serving; /* … and for the one that is taken now */
    _Atomic(struct dbos_snapshot *) current;
    _Atomic uint32_t cut_done; /* 1 = the barrier has run it */
    struct slice *slices;
    uint64_t retry_ns;
    uint64_t cut_log_bytes; /* of the log at the last cut */
    pthread_mutex_t lock;   /* of stats */
    struct dbos_snapshots_stats stats;
};

static uint64_t now_ns(const struct dbos_snapshots *snapshots) {
    return snapshots->engine->env->ops->mono_ns(snapshots->engine->env);
}

static uint64_t log_bytes(const struct dbos_snapshots *snapshots) {
    struct dbos_log_stats log;
    dbos_log_stats(snapshots->engine->log, &log);
    return log.bytes + snapshots->engine->recovery.bytes;
}

/* --- partitions ------------------------------------------------------------------------------ */

/* Between transactions of all partitions. */
void dbos_snapshots_cut(struct dbos_snapshots *snapshots, struct dbos_request *request) {
    struct dbos_engine *engine = snapshots->engine;
    (void)pthread_mutex_lock(&engine->clock_lock);
    int64_t commit_us = engine->clock.last_us;
    (void)pthread_mutex_unlock(&engine->clock_lock);
    struct dbos_snapshot_options options = {
        .env = engine->env,
        .data_dir = engine->data_dir,
        .store = engine->store,
        .database = dbos_log_database(engine->log),
        .position = dbos_log_last_position(engine->log),
        .commit_us = commit_us,
        .generation = snapshots->generation,
    };
    struct dbos_snapshot *snapshot = NULL;
    request->outcome = dbos_snapshot_cut(&snapshots->engine->snapshots_alloc, &options, &snapshot,
                                         &request->error);
    atomic_store(&snapshots->current, snapshot);
}

void dbos_snapshots_slice(struct dbos_snapshots *snapshots, uint32_t partition) {
    struct slice *slice = &snapshots->slices[partition];
    struct dbos_snapshot *snapshot = atomic_load(&snapshots->current);
    atomic_store_explicit(&slice->is_running, true, memory_order_relaxed);
    dbos_snapshot_slice(snapshot, partition, (uint64_t)SLICE_US * 1000);
    atomic_store_explicit(&slice->is_running, false, memory_order_relaxed);
    atomic_store(&slice->ended_ns, now_ns(snapshots));
    atomic_store_explicit(&slice->is_queued, false, memory_order_release);
}

bool dbos_snapshots_is_slicing(const struct dbos_snapshots *snapshots, uint32_t partition) {
    return atomic_load_explicit(&snapshots->slices[partition].is_running, memory_order_relaxed);
}

static void cut_ended(struct dbos_request *request) {
    struct dbos_snapshots *snapshots = request->on_done_arg;
    atomic_store(&snapshots->cut_done, 1);
    dbos_queue_wake(&snapshots->queue);
}

/* Ask each partition that has something left for its next slice, once its pause is over. */
static bool push_slices(struct dbos_snapshots *snapshots, struct dbos_snapshot *snapshot) {
    struct dbos_engine *engine = snapshots->engine;
    uint64_t now = now_ns(snapshots);
    bool any_left = false;
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        struct slice *slice = &snapshots->slices[i];
        if (atomic_load_explicit(&slice->is_queued, memory_order_acquire)) {
            any_left = true;
            continue;
        }
        if (dbos_snapshot_is_copied(snapshot, i)) {
            continue;
        }
        any_left = true;
        if (now - atomic_load(&slice->ended_ns) >= (uint64_t)SLICE_US * PAUSE_SLICES * 1000) {
            atomic_store(&slice->is_queued, true);
            dbos_queue_push(&engine->partitions[i].queue, &engine->partitions[i].slice);
        }
    }
    return any_left;
}

static void look_at_asking(struct dbos_snapshots *snapshots);

/* --- one snapshot ---------------------------------------------------------------------------- */

static enum dbos_err run_cut(struct dbos_snapshots *snapshots, struct dbos_errinfo *info) {
    snapshots->generation++;
    snapshots->cut = (struct dbos_request){.kind = DBOS_REQUEST_SNAPSHOT,
                                           .route = DBOS_ROUTE_BARRIER,
                                           .on_done = cut_ended,
                                           .on_done_arg = snapshots};
    atomic_store(&snapshots->cut_done, 0);
    dbos_barrier_submit(snapshots->engine, &snapshots->cut);
    while (atomic_load(&snapshots->cut_done) == 0) {
        snapshots->engine->env->ops->sleep_us(snapshots->engine->env, 100);
    }
    if (snapshots->cut.outcome != DBOS_OK) {
        *info = snapshots->cut.error;
    }
    return snapshots->cut.outcome;
}

/* Copy and write at the same time. Whatever happens, no partition knows the snapshot afterwards. */
static enum dbos_err copy(struct dbos_snapshots *snapshots, struct dbos_snapshot *snapshot,
                          struct dbos_errinfo *info) {
    struct dbos_errinfo later;
    enum dbos_err err = DBOS_OK;
    while (push_slices(snapshots, snapshot)) {
        if (atomic_load(&snapshots->is_stopping)) {
            dbos_snapshot_give_up(snapshot, DBOS_ERR_SHUTDOWN);
        }
        look_at_asking(snapshots);
        enum dbos_err now = dbos_snapshot_write(snapshot, WAIT_US, err == DBOS_OK ? info : &later);
        err = err == DBOS_OK ? now : err;
    }
    /* The last slice, too, may have given it up. */
    return err == DBOS_OK ? dbos_snapshot_write(snapshot, 0, info) : err;
}

/* A log that waits for room on the disk is not waited for when the node stops. */
static enum dbos_err wait_synced(struct dbos_snapshots *snapshots, uint64_t position,
                                 struct dbos_errinfo *info) {
    struct dbos_engine *engine = snapshots->engine;
    while (dbos_log_synced(engine->log) < position) {
        if (atomic_load(&snapshots->is_stopping)) {
            return dbos_fail(info, DBOS_ERR_SHUTDOWN, "the node is shutting down");
        }
        look_at_asking(snapshots);
        engine->env->ops->sleep_us(engine->env, 1000);
    }
    return DBOS_OK;
}

/* Where the log ends at the cut it knows the state, too: before anything is cut off it, both agree.
 */
static enum dbos_err compare(struct dbos_snapshots *snapshots,
                             const struct dbos_snapshot_facts *facts, struct dbos_errinfo *info) {
    uint64_t position = 0;
    uint64_t hash = 0;
    dbos_log_state_hash(snapshots->engine->log, &position, &hash);
    if (position != facts->position || hash == facts->state_hash) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_INTERNAL,
                     "the snapshot of position %llu has hash %016llx, the log has %016llx",
                     (unsigned long long)position, (unsigned long long)facts->state_hash,
                     (unsigned long long)hash);
}

/* Nothing was committed since the last one, or ever: it is what is asked for. */
static bool is_there(struct dbos_snapshots *snapshots, struct dbos_snapshot_facts *out) {
    struct dbos_snapshots_stats stats;
    dbos_snapshots_stats(snapshots, &stats);
    *out = stats.last;
    return out->position == dbos_log_last_position(snapshots->engine->log);
}

static enum dbos_err take(struct dbos_snapshots *snapshots, struct dbos_snapshot_facts *out,
                          struct dbos_errinfo *info) {
    uint64_t bytes = log_bytes(snapshots);
    enum dbos_err err = run_cut(snapshots, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_snapshot *snapshot = atomic_load(&snapshots->current);
    err = copy(snapshots, snapshot, info);
    if (err == DBOS_OK) {
        dbos_snapshot_facts(snapshot, out);
        err = wait_synced(snapshots, out->position, info);
    }
    if (err == DBOS_OK) {
        err = compare(snapshots, out, info);
    }
    if (err == DBOS_OK) {
        err = dbos_snapshot_finish(snapshot, info);
        dbos_snapshot_facts(snapshot, out);
    }
    atomic_store(&snapshots->current, NULL);
    dbos_snapshot_close(snapshot);
    snapshots->cut_log_bytes = err == DBOS_OK ? bytes : snapshots->cut_log_bytes;
    return err;
}

/* The last two stay; the log behind the older one stays, and what the archiver has not put into
 * files yet. */
static enum dbos_err tidy(struct dbos_snapshots *snapshots, uint32_t *out_removed,
                          struct dbos_errinfo *info) {
    enum { MAX = 64 };
    struct dbos_engine *engine = snapshots->engine;
    uint64_t positions[MAX];
    uint32_t count = 0;
    *out_removed = 0;
    enum dbos_err err =
        dbos_snapshot_list(engine->env, engine->data_dir, positions, MAX, &count, info);
    for (uint32_t i = KEPT; err == DBOS_OK && i < count && i < MAX; i++) {
        err = dbos_snapshot_remove(&engine->snapshots_alloc, engine->env, engine->data_dir,
                                   positions[i], info);
    }
    if (err != DBOS_OK || count < KEPT || engine->archive == NULL) {
        return err;
    }
    struct dbos_archive_facts archive;
    dbos_archive_service_facts(engine->archive, &archive);
    uint64_t needed = archive.is_on && archive.is_known ? archive.exported : 0;
    needed = needed < positions[KEPT - 1] ? needed : positions[KEPT - 1];
    return dbos_log_truncate(engine->log, needed, out_removed, info);
}

static void note(struct dbos_snapshots *snapshots, enum dbos_err err,
                 const struct dbos_snapshot_facts *facts, uint64_t took_ns, uint32_t removed,
                 const struct dbos_errinfo *info) {
    struct dbos_snapshots_stats *stats = &snapshots->stats;
    (void)pthread_mutex_lock(&snapshots->lock);
    stats->is_taking = false;
    if (err == DBOS_OK) {
        stats->last = *facts;
        stats->taken++;
        stats->took_ns = took_ns;
    } else {
        stats->failed++;
    }
    (void)pthread_mutex_unlock(&snapshots->lock);
    if (err == DBOS_OK) {
        dbos_log(DBOS_LOG_INFO,
                 "snapshot of position %llu: %llu rows, %llu bytes, in %llu ms; %u log segments "
                 "removed",
                 (unsigned long long)facts->position, (unsigned long long)facts->rows,
                 (unsigned long long)facts->bytes, (unsigned long long)(took_ns / 1000000),
                 removed);
    } else if (err != DBOS_ERR_SHUTDOWN) {
        dbos_log(DBOS_LOG_ERROR, "snapshot: %s", info->message);
    }
}

/* --- who asks -------------------------------------------------------------------------------- */

static void describe(struct dbos_request *request) {
    static const struct dbos_result_column column = {.name = "dbos_snapshot",
                                                     .type = DBOS_TYPE_INT8};
    const struct dbos_request_statement *statement =
        request->statement_count == 0 ? NULL : &request->statements[0];
    if (request->describe_only || statement == NULL || statement->describe) {
        dbos_wire_put_row_description(&request->reply, &column, 1,
                                      statement == NULL ? NULL : statement->formats,
                                      statement == NULL ? 0 : statement->format_count);
    }
}

static void answer(struct dbos_request *request, enum dbos_err err,
                   const struct dbos_snapshot_facts *facts, const struct dbos_errinfo *info) {
    request->outcome = err;
    request->gate_position = 0;
    if (err == DBOS_OK) {
        struct dbos_datum position = dbos_datum_int(DBOS_TYPE_INT8, (int64_t)facts->position);
        describe(request);
        const struct dbos_request_statement *statement =
            request->statement_count == 0 ? NULL : &request->statements[0];
        dbos_wire_put_row(&request->reply, &position, 1,
                          statement == NULL ? NULL : statement->formats,
                          statement == NULL ? 0 : statement->format_count);
        dbos_wire_put_complete(&request->reply, "SELECT 1");
    } else {
        request->error = *info;
        dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    }
    request->on_done(request);
}

static void answer_all(struct dbos_snapshots *snapshots, enum dbos_err err,
                       const struct dbos_snapshot_facts *facts, const struct dbos_errinfo *info) {
    while (snapshots->serving != NULL) {
        struct dbos_request *request = snapshots->serving;
        snapshots->serving = request->next;
        answer(request, err, facts, info);
    }
}

/* Who was canceled, has gone or is sent away does not wait. */
static void end_canceled(struct dbos_request **list) {
    while (*list != NULL) {
        struct dbos_request *request = *list;
        if (atomic_load(&request->cancel) == 0) {
            list = &request->next;
            continue;
        }
        struct dbos_errinfo info;
        *list = request->next;
        enum dbos_err err =
            dbos_fail(&info, DBOS_ERR_CANCELED, "canceling statement due to user request");
        answer(request, err, NULL, &info);
    }
}

/* Those that have come until now; who comes while one is taken waits for the next. */
static void take_asking(struct dbos_snapshots *snapshots, struct dbos_queue_node *node) {
    for (; node != NULL; node = dbos_queue_pop(&snapshots->queue)) {
        if (node == &snapshots->stop) {
            continue; /* it has woken this thread, that is all */
        }
        struct dbos_request *request = (struct dbos_request *)(void *)node;
        request->next = snapshots->asking;
        snapshots->asking = request;
    }
}

static void look_at_asking(struct dbos_snapshots *snapshots) {
    take_asking(snapshots, dbos_queue_pop(&snapshots->queue));
    end_canceled(&snapshots->asking);
    end_canceled(&snapshots->serving);
}

void dbos_snapshots_submit(struct dbos_snapshots *snapshots, struct dbos_request *request) {
    if (request->describe_only) { /* nobody has to be asked for that */
        describe(request);
        request->outcome = DBOS_OK;
        request->gate_position = 0;
        request->on_done(request);
        return;
    }
    dbos_queue_push(&snapshots->queue, &request->node);
}

/* --- the thread ------------------------------------------------------------------------------ */

static bool is_due(struct dbos_snapshots *snapshots) {
    uint64_t grown = log_bytes(snapshots) - snapshots->cut_log_bytes;
    if (dbos_log_is_disk_full(snapshots->engine->log)) {
        grown = 0; /* it would take the room that the log needs */
    }
    return snapshots->asking != NULL ||
           (grown > snapshots->log_bytes_max && now_ns(snapshots) >= snapshots->retry_ns);
}

static uint32_t tidy_up(struct dbos_snapshots *snapshots) {
    struct dbos_errinfo info;
    uint32_t removed = 0;
    if (tidy(snapshots, &removed, &info) != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "after the snapshot: %s", info.message);
    }
    (void)pthread_mutex_lock(&snapshots->lock);
    snapshots->stats.segments_removed += removed;
    (void)pthread_mutex_unlock(&snapshots->lock);
    return removed;
}

static void take_one(struct dbos_snapshots *snapshots) {
    struct dbos_snapshot_facts facts = {0};
    struct dbos_errinfo info;
    uint64_t begun_ns = now_ns(snapshots);
    snapshots->serving = snapshots->asking;
    snapshots->asking = NULL;
    if (is_there(snapshots, &facts)) {
        snapshots->cut_log_bytes = log_bytes(snapshots);
        (void)tidy_up(snapshots); /* the archive may have come further */
        answer_all(snapshots, DBOS_OK, &facts, NULL);
        return;
    }
    (void)pthread_mutex_lock(&snapshots->lock);
    snapshots->stats.is_taking = true;
    (void)pthread_mutex_unlock(&snapshots->lock);
    enum dbos_err err = take(snapshots, &facts, &info);
    uint32_t removed = err == DBOS_OK ? tidy_up(snapshots) : 0;
    uint64_t took_ns = now_ns(snapshots) - begun_ns;
    if (err != DBOS_OK) {
        snapshots->retry_ns = begun_ns + took_ns + (UINT64_C(1) << RETRY_NS_SHIFT);
    }
    note(snapshots, err, &facts, took_ns, removed, &info);
    answer_all(snapshots, err, &facts, &info);
}

static void *snapshots_main(void *arg) {
    struct dbos_snapshots *snapshots = arg;
    (void)pthread_setname_np(pthread_self(), "snapshots");
    while (!atomic_load(&snapshots->is_stopping)) {
        if (is_due(snapshots)) {
            take_one(snapshots);
            look_at_asking(snapshots);
        } else {
            take_asking(snapshots, dbos_queue_wait(&snapshots->queue, LOOK_US));
            look_at_asking(snapshots);
        }
    }
    take_asking(snapshots, dbos_queue_pop(&snapshots->queue));
    struct dbos_errinfo info;
    enum dbos_err err = dbos_fail(&info, DBOS_ERR_SHUTDOWN, "the node is shutting down");
    snapshots->serving = snapshots->asking;
    snapshots->asking = NULL;
    answer_all(snapshots, err, NULL, &info);
    return NULL;
}

/* --- life ------------------------------------------------------------------------------------ */

enum dbos_err dbos_snapshots_open(struct dbos_engine *engine,
                                  const struct dbos_snapshot_facts *loaded,
                                  struct dbos_snapshots **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_snapshots *snapshots = dbos_take_zero(engine->alloc, sizeof *snapshots);
    struct slice *slices = dbos_take_zero(engine->alloc, engine->partition_count * sizeof *slices);
    if (snapshots == NULL || slices == NULL) {
        dbos_give(engine->alloc, snapshots);
        dbos_give(engine->alloc, slices);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for snapshots");
    }
    snapshots->engine = engine;
    snapshots->slices = slices;
    engine->snapshots_alloc.bytes_max = (uint64_t)MEMORY_MAX_MB << 20;
    snapshots->log_bytes_max = engine->options.snapshot_log_bytes == 0
                                   ? LOG_BYTES_DEFAULT
                                   : engine->options.snapshot_log_bytes;
    snapshots->stats.last = *loaded;
    dbos_queue_init(&snapshots->queue, -1);
    (void)pthread_mutex_init(&snapshots->lock, NULL);
    *out = snapshots;
    return DBOS_OK;
}

enum dbos_err dbos_snapshots_start(struct dbos_snapshots *snapshots, struct dbos_errinfo *info) {
    if (pthread_create(&snapshots->thread, NULL, snapshots_main, snapshots) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the snapshots' thread");
    }
    snapshots->running = true;
    return DBOS_OK;
}

void dbos_snapshots_stop(struct dbos_snapshots *snapshots) {
    if (snapshots != NULL && snapshots->running) {
        atomic_store(&snapshots->is_stopping, true);
        dbos_queue_push(&snapshots->queue, &snapshots->stop);
        (void)pthread_join(snapshots->thread, NULL);
        snapshots->running = false;
    }
}

void dbos_snapshots_close(struct dbos_snapshots *snapshots) {
    if (snapshots == NULL) {
        return;
    }
    struct dbos_alloc *alloc = snapshots->engine->alloc;
    DBOS_CHECK(!snapshots->running);
    (void)pthread_mutex_destroy(&snapshots->lock);
    dbos_give(alloc, snapshots->slices);
    dbos_give(alloc, snapshots);
}

void dbos_snapshots_stats(struct dbos_snapshots *snapshots, struct dbos_snapshots_stats *out) {
    (void)pthread_mutex_lock(&snapshots->lock);
    *out = snapshots->stats;
    (void)pthread_mutex_unlock(&snapshots->lock);
}
