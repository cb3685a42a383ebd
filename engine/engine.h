/* The engine of a node: owns store, log, procedures, partitions, archive and task dispatcher, and
 * takes requests from sessions.
 *
 * Thread: open, start, stop, close by the owner; route and submit by any session thread.
 * Memory: everything below it comes from the allocators it makes, listed by dbos.memory. */
#ifndef DBOS_ENGINE_ENGINE_H
#define DBOS_ENGINE_ENGINE_H

#include "engine/request.h"

struct dbos_engine;
struct dbos_histogram;
struct dbos_session_list;

enum dbos_provenance_reads {
    DBOS_READS_RELAXED, /* a read is answered before its own record is durable */
    DBOS_READS_STRICT,  /* it waits for that */
    DBOS_READS_OFF,     /* what is read is not recorded */
};

struct dbos_engine_options {
    struct dbos_env *env;
    const char *data_dir;
    uint32_t partitions; /* 0 = cores - 1, at least 1 */
    enum dbos_durability durability;
    enum dbos_provenance_reads provenance_reads;
    bool archive; /* run the archiver process */
    /* What writes waits while the log has more than so many bytes that the archiver has not taken
     * over; 0 = default (4 GiB), UINT64_MAX = no limit. */
    uint64_t archive_backlog_max;
    /* A snapshot is taken when the log has grown by so many bytes since the last one; 0 = default
     * (1 GiB), UINT64_MAX = only when asked for. */
    uint64_t snapshot_log_bytes;
    bool worker;                /* supervise a worker process */
    const char *worker_address; /* "127.0.0.1:9000" of a worker that runs elsewhere; NULL = own */
    const char *program_dir;    /* where dbos-worker and dbos-archiver lie */
    uint64_t segment_bytes;     /* 0 = default */
    uint64_t blob_file_bytes;   /* of large values, before another file is begun; 0 = default */
    /* A request waits in its partition, before its transaction begins, while the log has more than
     * this still to write; 0 = default (256 MiB). */
    uint64_t log_in_flight_bytes_max;
    /* What replies above 64 KiB may hold in all (engine/reply.h); 0 = default (1 GiB). */
    uint64_t reply_bytes_max;
    uint64_t idempotency_keys_max; /* replies kept under keys (idempotency.h); 0 = default */
    /* For the benchmark's floor; NULL in a node. Is asked, by the submitting thread, about each
     * routed request that is for a partition: true = the outcome and the reply are filled in, and
     * on_done() follows at once, still inside submit; false = it runs as usual. */
    bool (*answer)(struct dbos_request *request);
};

/* Opens the data directory, recovers, loads procedures. Nothing runs yet. */
enum dbos_err dbos_engine_open(struct dbos_alloc *alloc, const struct dbos_engine_options *options,
                               struct dbos_engine **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Starts log, partitions, archive, dispatcher. `on_durable(arg)` is called, by the thread that
 * moved it, when the watermark has moved and replies may have waited for that; it must not block.
 */
enum dbos_err dbos_engine_start(struct dbos_engine *engine, void (*on_durable)(void *arg),
                                void *arg, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Waits for what was submitted, then stops all threads and child processes. */
void dbos_engine_stop(struct dbos_engine *engine);
void dbos_engine_close(struct dbos_engine *engine);

struct dbos_env *dbos_engine_env(struct dbos_engine *engine);
struct dbos_alloc *dbos_engine_session_alloc(struct dbos_engine *engine);
/* Of replies that are not small: a part of the former, with a limit. */
struct dbos_alloc *dbos_engine_reply_alloc(struct dbos_engine *engine);
struct dbos_procs *dbos_engine_procs(struct dbos_engine *engine);
/* The published catalogue, with a reference for the caller. */
struct dbos_catalog *dbos_engine_catalog_ref(struct dbos_engine *engine);
uint64_t dbos_engine_catalog_version(struct dbos_engine *engine);
/* What tells a client of that catalogue, errors too, must wait for this position (decision 3).
 * 0 = nothing to wait for. */
uint64_t dbos_engine_definitions_gate(const struct dbos_engine *engine);
/* What the front door counts for dbos.sessions and dbos.latency: the sessions that there are, and
 * the nanoseconds from a request's arrival to its reply (one writer: the net thread). */
struct dbos_session_list *dbos_engine_sessions(struct dbos_engine *engine);
struct dbos_histogram *dbos_engine_request_times(struct dbos_engine *engine);
/* Sessions are numbered over the life of the database. */
uint64_t dbos_engine_take_session_id(struct dbos_engine *engine);

/* Find where a request runs (route, partition, is_ddl). Errors: of evaluating the routing values.
 */
enum dbos_err dbos_engine_route(struct dbos_engine *engine, struct dbos_request *request,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* Hand a routed request over. It runs behind what was submitted to the same place before. */
void dbos_engine_submit(struct dbos_engine *engine, struct dbos_request *request);
/* Behind `previous`, wherever that runs; both on partitions. `previous` was submitted, its
 * on_done() has not been taken notice of yet, and nothing else was put behind it. The partition
 * that ends `previous` submits it: no thread waits. */
void dbos_engine_submit_after(struct dbos_engine *engine, struct dbos_request *request,
                              struct dbos_request *previous);

/* Everything up to here is durable: replies gated at or below it may leave. */
uint64_t dbos_engine_durable(struct dbos_engine *engine);
/* No reply waits for the disk. */
bool dbos_engine_is_async(const struct dbos_engine *engine);
uint32_t dbos_engine_partitions(const struct dbos_engine *engine);

/* A line of key=value facts for dbosctl status and the log. */
void dbos_engine_status(struct dbos_engine *engine, struct dbos_buf *out);

#endif /* DBOS_ENGINE_ENGINE_H */
