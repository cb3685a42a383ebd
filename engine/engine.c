#include "engine/engine.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/regions.h"
#include "engine/engine_internal.h"
#include "engine/idempotency.h"
#include "engine/reply.h"
#include "engine/tasks.h"

enum { PARTITIONS_MAX = 256 };

/* -- opening -------------------------------------------------------------------------------------
 */

static enum dbos_err recover(struct dbos_engine *engine, struct dbos_errinfo *info) {
    uint64_t start_ns = engine->env->ops->mono_ns(engine->env);
    engine->recovery = (struct dbos_recovery){.apply = NULL};
    struct dbos_snapshot_load load = {.alloc = &engine->snapshots_alloc,
                                      .env = engine->env,
                                      .data_dir = engine->data_dir,
                                      .database = dbos_log_database(engine->log),
                                      .store = engine->store,
                                      .log = engine->log};
    enum dbos_err err = dbos_snapshot_recover(&load, &engine->recovery, &engine->loaded,
                                              &engine->damaged_snapshots, info);
    engine->recovered_bytes = engine->recovery.kept_bytes;
    if (err != DBOS_OK) {
        return err;
    }
    if (engine->loaded.position != 0) {
        dbos_log(DBOS_LOG_INFO, "loaded the snapshot of position %llu: %llu rows, %llu bytes",
                 (unsigned long long)engine->loaded.position,
                 (unsigned long long)engine->loaded.rows, (unsigned long long)engine->loaded.bytes);
    }
    if (engine->recovery.records != 0) {
        uint64_t ms = (engine->env->ops->mono_ns(engine->env) - start_ns) / 1000000;
        dbos_log(DBOS_LOG_INFO,
                 "recovered %llu records in %llu batches, position %llu, in %llu ms; state hash "
                 "%016llx proved; %llu torn bytes cut",
                 (unsigned long long)engine->recovery.records,
                 (unsigned long long)engine->recovery.batches,
                 (unsigned long long)engine->recovery.last_position, (unsigned long long)ms,
                 (unsigned long long)engine->recovery.state_hash,
                 (unsigned long long)engine->recovery.torn_bytes);
    }
    return DBOS_OK;
}

static int64_t commit_time(void *arg) {
    struct dbos_engine *engine = arg;
    (void)pthread_mutex_lock(&engine->clock_lock);
    bool alarmed = engine->clock.alarm;
    int64_t now_us = dbos_clock_next_us(&engine->clock);
    bool alarm = engine->clock.alarm && !alarmed;
    (void)pthread_mutex_unlock(&engine->clock_lock);
    if (alarm) {
        dbos_log(DBOS_LOG_ERROR, "the wall clock has jumped by more than 60 s: not followed");
    }
    return now_us;
}

static enum dbos_err open_txn(struct dbos_engine *engine, uint32_t partition, struct dbos_txn **out,
                              struct dbos_errinfo *info) {
    struct dbos_txn_options options = {
        .store = engine->store,
        .log = engine->log,
        .commit_time = commit_time,
        .commit_time_arg = engine,
        .partition = partition,
        .reads_off = engine->options.provenance_reads == DBOS_READS_OFF,
        .env = engine->env,
    };
    if (dbos_txn_open(&engine->storage_alloc, &options, out) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a partition");
    }
    return DBOS_OK;
}

static uint32_t processors(void) {
    long count = sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : (uint32_t)count;
}

static enum dbos_err open_partitions(struct dbos_engine *engine, struct dbos_errinfo *info) {
    engine->partitions =
        dbos_take_zero(engine->alloc, engine->partition_count * sizeof *engine->partitions);
    if (engine->partitions == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the partitions");
    }
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        struct dbos_partition *partition = &engine->partitions[i];
        partition->engine = engine;
        partition->index = i;
        dbos_queue_init(&partition->queue, -1);
        (void)pthread_mutex_init(&partition->turn, NULL);
        enum dbos_err err = open_txn(engine, i, &partition->txn, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    dbos_barrier_init(&engine->barrier, engine->partition_count < processors());
    engine->meters =
        dbos_take_zero(engine->alloc, (engine->partition_count + 1) * sizeof *engine->meters);
    if (engine->meters == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the partitions");
    }
    for (uint32_t i = 0; i <= engine->partition_count; i++) {
        dbos_meter_init(&engine->meters[i], engine->alloc);
    }
    return open_txn(engine, DBOS_PARTITION_ALL, &engine->barrier.txn, info);
}

static enum dbos_err open_log(struct dbos_engine *engine, struct dbos_errinfo *info) {
    uint64_t seed = 0;
    enum dbos_err err = engine->env->ops->dir_make(engine->env, engine->data_dir, info);
    if (err == DBOS_OK) {
        err = dbos_log_object_seed(engine->env, engine->data_dir, &seed, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (dbos_regions_open(&engine->regions_alloc, &engine->regions) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the tables");
    }
    engine->storage_alloc.regions = engine->regions;
    if (dbos_objects_open(&engine->objects_alloc, seed, &engine->objects) != DBOS_OK ||
        dbos_store_open(&engine->storage_alloc, engine->objects, engine->partition_count,
                        &engine->store) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the tables");
    }
    struct dbos_log_options options = {
        .env = engine->env,
        .data_dir = engine->data_dir,
        .durability = engine->options.durability,
        .async_flush_ms = 100,
        .segment_bytes = engine->options.segment_bytes,
        .blob_file_bytes = engine->options.blob_file_bytes,
        .in_flight_bytes_max = engine->options.log_in_flight_bytes_max,
        .objects = engine->objects,
    };
    return dbos_log_open(&engine->log_alloc, &options, &engine->log, info);
}

static enum dbos_err open_parts(struct dbos_engine *engine, struct dbos_errinfo *info) {
    enum dbos_err err = open_log(engine, info);
    if (err == DBOS_OK) {
        err = recover(engine, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    dbos_clock_init(&engine->clock, engine->env, engine->recovery.last_commit_us);
    /* Microseconds: more than one session per microsecond, for the life of a process, does not
     * happen, so the numbers of two lives do not meet. */
    atomic_store(&engine->next_session, (uint64_t)dbos_clock_next_us(&engine->clock));
    if (dbos_procs_open(&engine->procs_alloc, engine->env, engine->data_dir, &engine->procs) !=
        DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the procedures");
    }
    err = dbos_procs_load_all(engine->procs, engine->store, info);
    if (err == DBOS_OK) {
        err = open_partitions(engine, info);
    }
    return err == DBOS_OK ? dbos_snapshots_open(engine, &engine->loaded, &engine->snapshots, info)
                          : err;
}

static uint32_t default_partitions(void) { return processors() <= 2 ? 1 : processors() - 1; }

enum dbos_err dbos_engine_open(struct dbos_alloc *alloc, const struct dbos_engine_options *options,
                               struct dbos_engine **out, struct dbos_errinfo *info) {
    *out = NULL;
    if (options->partitions > PARTITIONS_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "%u partitions: the limit is %d",
                         options->partitions, PARTITIONS_MAX);
    }
    struct dbos_engine *engine = dbos_take_zero(alloc, sizeof *engine);
    if (engine == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the engine");
    }
    engine->alloc = alloc;
    engine->options = *options;
    if (engine->options.idempotency_keys_max == 0) {
        engine->options.idempotency_keys_max = DBOS_IDEMPOTENCY_KEYS_MAX;
    }
    engine->env = options->env;
    (void)snprintf(engine->data_dir, sizeof engine->data_dir, "%s", options->data_dir);
    (void)snprintf(engine->program_dir, sizeof engine->program_dir, "%s", options->program_dir);
    engine->partition_count = options->partitions == 0 ? default_partitions() : options->partitions;
    dbos_alloc_init(&engine->storage_alloc, "storage", 0);
    dbos_alloc_init(&engine->objects_alloc, "objects", 0);
    dbos_alloc_init(&engine->session_alloc, "sessions", 0);
    dbos_alloc_init_part(&engine->reply_alloc, "replies", &engine->session_alloc);
    engine->reply_alloc.bytes_max = options->reply_bytes_max == 0
                                        ? (uint64_t)DBOS_REPLY_MEMORY_MB << 20
                                        : options->reply_bytes_max;
    dbos_alloc_init(&engine->log_alloc, "log", 0);
    dbos_alloc_init(&engine->procs_alloc, "procedures", 0);
    dbos_alloc_init(&engine->regions_alloc, "regions", 0);
    dbos_alloc_init(&engine->snapshots_alloc, "snapshots", 0);
    engine->views = (struct dbos_views){.arg = engine, .fill = dbos_views_fill};
    dbos_session_list_init(&engine->sessions);
    dbos_archive_gate_init(&engine->archive_gate);
    (void)pthread_mutex_init(&engine->clock_lock, NULL);
    enum dbos_err err = open_parts(engine, info);
    if (err != DBOS_OK) {
        dbos_engine_close(engine);
        return err;
    }
    *out = engine;
    return DBOS_OK;
}

void dbos_engine_close(struct dbos_engine *engine) {
    if (engine == NULL) {
        return;
    }
    for (uint32_t i = 0; engine->partitions != NULL && i < engine->partition_count; i++) {
        if (engine->partitions[i].txn != NULL) {
            dbos_txn_close(engine->partitions[i].txn);
            (void)pthread_mutex_destroy(&engine->partitions[i].turn);
        }
    }
    if (engine->barrier.txn != NULL) {
        dbos_txn_close(engine->barrier.txn);
    }
    dbos_snapshots_close(engine->snapshots);
    if (engine->log != NULL) {
        dbos_log_close(engine->log); /* drains: entries hold references to objects */
    }
    dbos_dispatcher_close(engine->dispatcher); /* the log thread no longer wakes it */
    if (engine->procs != NULL) {
        dbos_procs_close(engine->procs);
    }
    if (engine->store != NULL) {
        dbos_store_close(engine->store);
    }
    if (engine->objects != NULL) {
        dbos_objects_close(engine->objects);
    }
    for (uint32_t i = 0; engine->meters != NULL && i <= engine->partition_count; i++) {
        dbos_meter_fini(&engine->meters[i]);
    }
    dbos_give(engine->alloc, engine->meters);
    dbos_give(engine->alloc, engine->partitions);
    dbos_regions_close(engine->regions);
    dbos_alloc_fini(&engine->regions_alloc);
    dbos_alloc_fini(&engine->snapshots_alloc);
    dbos_alloc_fini(&engine->procs_alloc);
    dbos_alloc_fini(&engine->log_alloc);
    dbos_alloc_fini(&engine->reply_alloc);
    dbos_alloc_fini(&engine->session_alloc);
    dbos_alloc_fini(&engine->objects_alloc);
    dbos_alloc_fini(&engine->storage_alloc);
    dbos_session_list_fini(&engine->sessions);
    dbos_archive_gate_fini(&engine->archive_gate);
    (void)pthread_mutex_destroy(&engine->clock_lock);
    dbos_give(engine->alloc, engine);
}

/* -- running -------------------------------------------------------------------------------------
 */

static void watermark_moved(void *arg) {
    struct dbos_engine *engine = arg;
    if (engine->dispatcher != NULL) {
        dbos_dispatcher_durable(engine->dispatcher, dbos_log_durable(engine->log));
    }
    bool is_gate = engine->options.durability != DBOS_DURABILITY_ASYNC; /* of any reply */
    if (is_gate && engine->on_durable != NULL) {
        engine->on_durable(engine->on_durable_arg);
    }
}

enum dbos_err dbos_engine_start(struct dbos_engine *engine, void (*on_durable)(void *arg),
                                void *arg, struct dbos_errinfo *info) {
    engine->on_durable = on_durable;
    engine->on_durable_arg = arg;
    enum dbos_err err = dbos_archive_service_start(engine, &engine->archive, info);
    if (err == DBOS_OK) {
        err = dbos_dispatcher_start(engine, &engine->dispatcher, info);
    }
    if (err == DBOS_OK) {
        err = dbos_log_start(engine->log, watermark_moved, engine, info);
        engine->log_started = err == DBOS_OK;
    }
    if (err == DBOS_OK) {
        err = dbos_watchdog_start(&engine->watchdog, engine->env, info);
    }
    for (uint32_t i = 0; err == DBOS_OK && i < engine->partition_count; i++) {
        err = dbos_partition_start(&engine->partitions[i], info);
    }
    if (err == DBOS_OK) {
        err = dbos_snapshots_start(engine->snapshots, info);
    }
    if (err != DBOS_OK) {
        dbos_engine_stop(engine);
    }
    return err;
}

/* A disk that is full is not waited for: what was not written was not acknowledged. The log writes
 * what it has room for when it is closed, or ends the process. */
static void wait_for_log(struct dbos_engine *engine) {
    uint64_t last = dbos_log_last_position(engine->log);
    while (dbos_log_durable(engine->log) < last) {
        if (dbos_log_is_disk_full(engine->log)) {
            return;
        }
        engine->env->ops->sleep_us(engine->env, 1000);
    }
}

void dbos_engine_stop(struct dbos_engine *engine) {
    dbos_archive_gate_end(engine);
    if (engine->dispatcher != NULL) {
        dbos_dispatcher_stop(engine->dispatcher); /* no more results come */
    }
    dbos_snapshots_stop(engine->snapshots); /* the partitions know none any more */
    /* A partition that has stopped does not come to a barrier: let the last one be over. */
    while (engine->log_started && !dbos_barrier_idle(&engine->barrier)) {
        engine->env->ops->sleep_us(engine->env, 1000);
    }
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        dbos_partition_stop(&engine->partitions[i]);
    }
    dbos_watchdog_stop(&engine->watchdog);
    if (engine->log_started) {
        wait_for_log(engine);
    }
    dbos_archive_service_stop(engine->archive);
    engine->archive = NULL;
}

struct dbos_env *dbos_engine_env(struct dbos_engine *engine) {
    return engine->env;
}

struct dbos_alloc *dbos_engine_session_alloc(struct dbos_engine *engine) {
    return &engine->session_alloc;
}

struct dbos_alloc *dbos_engine_reply_alloc(struct dbos_engine *engine) {
    return &engine->reply_alloc;
}

struct dbos_procs *dbos_engine_procs(struct dbos_engine *engine) {
    return engine->procs;
}

struct dbos_catalog *dbos_engine_catalog_ref(struct dbos_engine *engine) {
    return dbos_store_catalog_ref(engine->store);
}

uint64_t dbos_engine_catalog_version(struct dbos_engine *engine) {
    return dbos_store_catalog_version(engine->store);
}

uint64_t dbos_engine_definitions_gate(const struct dbos_engine *engine) {
    bool waits = engine->options.durability != DBOS_DURABILITY_ASYNC;
    return waits ? dbos_log_barrier_position(engine->log) : 0;
}

struct dbos_session_list *dbos_engine_sessions(struct dbos_engine *engine) {
    return &engine->sessions;
}

struct dbos_histogram *dbos_engine_request_times(struct dbos_engine *engine) {
    return &engine->request_times;
}

uint64_t dbos_engine_take_session_id(struct dbos_engine *engine) {
    return atomic_fetch_add(&engine->next_session, 1);
}

uint64_t dbos_engine_durable(struct dbos_engine *engine) { return dbos_log_durable(engine->log); }

uint32_t dbos_engine_partitions(const struct dbos_engine *engine) {
    return engine->partition_count;
}

bool dbos_engine_is_async(const struct dbos_engine *engine) {
    return engine->options.durability == DBOS_DURABILITY_ASYNC;
}

/* -- routing -------------------------------------------------------------------------------------
 */

/* Two parts of one transaction must be able to run together: the same partition, or anywhere. */
static void combine(struct dbos_engine *engine, struct dbos_request *request,
                    enum dbos_route_kind kind, uint32_t slot) {
    if (kind == DBOS_ROUTE_ANY || request->route == DBOS_ROUTE_BARRIER) {
        return;
    }
    uint32_t partition = kind == DBOS_ROUTE_ONE ? dbos_store_partition_of(engine->store, slot) : 0;
    if (kind == DBOS_ROUTE_BARRIER ||
        (request->route == DBOS_ROUTE_ONE && request->partition != partition)) {
        request->route = DBOS_ROUTE_BARRIER;
        return;
    }
    request->route = DBOS_ROUTE_ONE;
    request->partition = partition;
}

static enum dbos_err route_statements(struct dbos_engine *engine, struct dbos_request *request,
                                      struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < request->statement_count; i++) {
        const struct dbos_request_statement *statement = &request->statements[i];
        enum dbos_route_kind kind = DBOS_ROUTE_ANY;
        uint32_t slot = 0;
        enum dbos_err err = dbos_plan_route(statement->plan, statement->parameters,
                                            statement->parameter_count, &kind, &slot, info);
        if (err != DBOS_OK) {
            return err;
        }
        combine(engine, request, kind, slot);
        request->is_ddl = request->is_ddl || dbos_plan_kind(statement->plan) == DBOS_STATEMENT_DDL;
    }
    return DBOS_OK;
}

static void route_script(struct dbos_request *request) {
    request->route = DBOS_ROUTE_BARRIER;
    for (uint32_t i = 0; i < dbos_script_count(request->script); i++) {
        request->is_ddl =
            request->is_ddl || dbos_script_kind(request->script, i) == DBOS_STATEMENT_DDL;
    }
}

enum dbos_err dbos_engine_route(struct dbos_engine *engine, struct dbos_request *request,
                                struct dbos_errinfo *info) {
    request->is_ddl = false;
    switch (request->kind) {
    case DBOS_REQUEST_ARCHIVE:
        request->route = DBOS_ROUTE_ANY;
        request->partition = engine->partition_count; /* none of them */
        return DBOS_OK;
    case DBOS_REQUEST_SCRIPT:
        route_script(request);
        return DBOS_OK;
    case DBOS_REQUEST_TASK:
    case DBOS_REQUEST_SNAPSHOT:
        return DBOS_OK; /* who made it knows */
    case DBOS_REQUEST_STATEMENTS:
        break;
    }
    request->route = DBOS_ROUTE_ANY;
    enum dbos_err err = route_statements(engine, request, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (request->idempotency_key != NULL) {
        combine(engine, request, DBOS_ROUTE_ONE, dbos_idempotency_slot(request->idempotency_key));
    }
    if (request->route == DBOS_ROUTE_ANY) {
        /* One session's pipelined requests stay together: spread by session. */
        request->partition = (uint32_t)(request->session->id % engine->partition_count);
    }
    return DBOS_OK;
}

/* See dbos_engine_options.answer. What is left to be submitted: a request may have others behind
 * it, as one that has run; NULL = nothing. */
static struct dbos_request *answer(struct dbos_engine *engine, struct dbos_request *request) {
    while (request != NULL && request->kind != DBOS_REQUEST_ARCHIVE &&
           request->route != DBOS_ROUTE_BARRIER && engine->options.answer(request)) {
        struct dbos_request *next = atomic_exchange(&request->then, dbos_request_over());
        request->on_done(request); /* it is the session's again */
        request = next;
    }
    return request;
}

void dbos_engine_submit(struct dbos_engine *engine, struct dbos_request *request) {
    if (engine->options.answer != NULL) {
        request = answer(engine, request);
        if (request == NULL) {
            return;
        }
    }
    if (dbos_archive_gate_is_open(&engine->archive_gate) ||
        !dbos_archive_gate_hold(engine, request)) {
        dbos_engine_pass(engine, request);
    }
}

/* What no partition runs. */
static void submit_aside(struct dbos_engine *engine, struct dbos_request *request) {
    struct dbos_archive_query query;
    dbos_script_archive(request->script, request->script_statement, &query);
    if (query.takes_snapshot) {
        dbos_snapshots_submit(engine->snapshots, request);
    } else {
        dbos_archive_service_submit(engine->archive, request);
    }
}

void dbos_engine_pass(struct dbos_engine *engine, struct dbos_request *request) {
    if (request->kind == DBOS_REQUEST_ARCHIVE) {
        submit_aside(engine, request);
    } else if (request->route == DBOS_ROUTE_BARRIER) {
        dbos_meter_submitted(&engine->meters[engine->partition_count], 1);
        dbos_barrier_submit(engine, request);
    } else {
        dbos_meter_submitted(&engine->meters[request->partition], 1);
        dbos_queue_push(&engine->partitions[request->partition].queue, &request->node);
    }
}

void dbos_engine_submit_chain(struct dbos_engine *engine, const struct dbos_request_chain *chain) {
    uint32_t partition = chain->first->partition;
    dbos_meter_submitted(&engine->meters[partition], chain->count);
    dbos_queue_push_all(&engine->partitions[partition].queue, &chain->first->node,
                        &chain->last->node);
}

struct dbos_request *dbos_request_over(void) {
    static struct dbos_request over; /* only its address counts */
    return &over;
}

void dbos_engine_submit_after(struct dbos_engine *engine, struct dbos_request *request,
                              struct dbos_request *previous) {
    struct dbos_request *nothing = NULL;
    if (!atomic_compare_exchange_strong(&previous->then, &nothing, request)) {
        DBOS_CHECK(nothing == dbos_request_over());
        dbos_engine_submit(engine, request);
    }
}

void dbos_engine_status(struct dbos_engine *engine, struct dbos_buf *out) {
    struct dbos_log_stats log;
    struct dbos_dispatcher_stats tasks = {0};
    uint64_t executed = 0;
    char line[1024];
    dbos_log_stats(engine->log, &log);
    if (engine->dispatcher != NULL) {
        dbos_dispatcher_stats(engine->dispatcher, &tasks);
    }
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        executed += atomic_load_explicit(&engine->partitions[i].executed, memory_order_relaxed);
    }
    int size = snprintf(
        line, sizeof line,
        "partitions=%u executed=%llu barriers=%llu position=%llu durable=%llu records=%llu "
        "batches=%llu syncs=%llu log_bytes=%llu log_in_flight=%llu log_waits=%llu tasks_open=%llu "
        "tasks_done=%llu tasks_failed=%llu "
        "worker=%s\n",
        engine->partition_count, (unsigned long long)executed,
        (unsigned long long)atomic_load(&engine->barrier.executed),
        (unsigned long long)dbos_log_last_position(engine->log),
        (unsigned long long)dbos_log_durable(engine->log), (unsigned long long)log.records,
        (unsigned long long)log.batches, (unsigned long long)log.syncs,
        (unsigned long long)log.bytes, (unsigned long long)log.in_flight_bytes,
        (unsigned long long)log.room_waits, (unsigned long long)tasks.open,
        (unsigned long long)tasks.done, (unsigned long long)tasks.failed,
        tasks.worker_connected ? "connected" : "none");
    dbos_buf_put(out, line, (size_t)size);
}
