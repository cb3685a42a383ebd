/* What the engine's own files share: partitions, the barrier, and who owns what.
 *
 *   struct dbos_engine
 *     ├── store, log, procs, clock          one each
 *     ├── partitions[n]: thread, queue, txn  requests run here, one after the other
 *     ├── barrier: queue, txn                requests that need all partitions
 *     ├── archive: thread, queue             provenance queries wait here, not in a partition
 *     ├── snapshots: thread, queue           copies of the tables, and what they make useless
 *     └── dispatcher: thread                 tasks out, results in
 *
 * Thread: each field says whose it is. Memory: the engine's allocator. */
#ifndef DBOS_ENGINE_ENGINE_INTERNAL_H
#define DBOS_ENGINE_ENGINE_INTERNAL_H

#include <pthread.h>

#include "engine/archive_gate.h"
#include "engine/engine.h"
#include "engine/meter.h"
#include "engine/session_list.h"
#include "engine/snapshots.h"
#include "engine/views.h"
#include "engine/watchdog.h"

struct dbos_dispatcher;
struct dbos_archive_service;

struct dbos_partition {
    struct dbos_engine *engine;
    uint32_t index;
    pthread_t thread;
    bool running;
    struct dbos_queue queue; /* of requests, `park` and `stop` */
    pthread_mutex_t turn;    /* who holds it is the queue's consumer and runs the transactions: the
                                thread, or while that sleeps a submitter */
    struct dbos_queue_node park;  /* pushed to say: come to the barrier */
    struct dbos_queue_node slice; /* … copy something for the snapshot that is being taken */
    struct dbos_queue_node stop;
    struct dbos_txn *txn;
    uint32_t followed_count;   /* in a row: owners that were not woken yet */
    _Atomic uint64_t executed; /* requests, for dbosctl status */
};

/* All partitions arrive; the last one to come runs what is queued with all of them in hand; then
 * all go on. Requests that come meanwhile share the next one. */
struct dbos_barrier {
    struct dbos_queue queue;    /* consumed by the partition that runs the barrier */
    _Atomic uint32_t requested; /* 1 = the park nodes are out */
    _Atomic uint32_t arrived;
    _Atomic uint32_t generation; /* futex word: changes when the partitions may go on */
    struct dbos_txn *txn;
    uint32_t spins; /* of a parked partition, before it sleeps */
    _Atomic uint64_t executed;
};

struct dbos_engine {
    struct dbos_alloc *alloc;        /* of the owner */
    struct dbos_alloc storage_alloc; /* catalogue, transactions; tables have their own */
    struct dbos_alloc objects_alloc;
    struct dbos_alloc session_alloc; /* sessions, requests, replies, plans */
    struct dbos_alloc reply_alloc;   /* a part of it: large replies */
    struct dbos_alloc log_alloc;
    struct dbos_alloc procs_alloc;
    struct dbos_alloc regions_alloc;
    struct dbos_alloc snapshots_alloc;
    struct dbos_engine_options options;
    char data_dir[512];
    char program_dir[512];
    struct dbos_env *env;
    struct dbos_regions *regions; /* for the rows of tables */
    struct dbos_objects *objects;
    struct dbos_store *store;
    struct dbos_log *log;
    struct dbos_procs *procs;
    pthread_mutex_t clock_lock;
    struct dbos_clock clock;
    _Atomic uint64_t next_session;
    _Atomic uint32_t next_any; /* spreads requests that any partition can run */
    uint32_t partition_count;
    struct dbos_partition *partitions;
    struct dbos_barrier barrier;
    struct dbos_archive_service *archive;
    struct dbos_archive_gate archive_gate; /* before everything that runs requests */
    struct dbos_dispatcher *dispatcher;
    void (*on_durable)(void *arg);
    void *on_durable_arg;
    struct dbos_recovery recovery;     /* what start-up found */
    struct dbos_snapshot_facts loaded; /* … and where it began; position 0 = with the log */
    uint32_t damaged_snapshots;        /* … and what it passed over */
    struct dbos_snapshots *snapshots;
    struct dbos_watchdog watchdog;
    uint64_t recovered_bytes;  /* of its records */
    struct dbos_views views;   /* who makes the rows of system views: this engine */
    struct dbos_meter *meters; /* of each partition, and behind them the barrier's */
    struct dbos_session_list sessions;
    struct dbos_histogram request_times; /* from arrival to reply, in ns; by the net thread */
    bool log_started;
};

/* execute.c: run one request as one transaction and fill its outcome; does not call on_done. With a
 * limit (0 = none) it is given up once it has taken so long: false, it has left no trace. */
bool dbos_request_run(struct dbos_engine *engine, struct dbos_txn *txn,
                      struct dbos_request *request, uint64_t limit_us);

/* As dbos_engine_submit(), but past the archive's gate. */
void dbos_engine_pass(struct dbos_engine *engine, struct dbos_request *request);
/* Its statements have nearly always been shorter than a moment (dbos_plan_is_quick). */
bool dbos_request_is_quick(const struct dbos_request *request);

/* dbos_engine_submit() of several requests for one partition. */
void dbos_engine_submit_chain(struct dbos_engine *engine, const struct dbos_request_chain *chain);

/* What is in `then` of a request that has run. */
struct dbos_request *dbos_request_over(void);

/* partition.c */
enum dbos_err dbos_partition_start(struct dbos_partition *partition,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_partition_stop(struct dbos_partition *partition);
/* Run a request in the calling thread if the partition sleeps and nothing is queued there. False:
 * it was not run, or took longer than the limit and has left no trace. */
bool dbos_partition_try(struct dbos_partition *partition, struct dbos_request *request,
                        uint64_t limit_us);

/* barrier.c */
/* `may_spin`: every partition has a processor of its own. Else who spins keeps the one from running
 * that it waits for: at 4 partitions on 2 processors a quarter of the throughput (measured). */
void dbos_barrier_init(struct dbos_barrier *barrier, bool may_spin);
/* Nobody has called the partitions. Stays so when nothing more is submitted. */
bool dbos_barrier_idle(const struct dbos_barrier *barrier);
/* Queue a request and call the partitions, unless they are called already. Any thread. */
void dbos_barrier_submit(struct dbos_engine *engine, struct dbos_request *request);
/* Run a request in the calling thread if all partitions sleep and nothing is queued in any. False:
 * as dbos_partition_try(). */
bool dbos_barrier_try(struct dbos_engine *engine, struct dbos_request *request, uint64_t limit_us);
/* A partition has met its park node: wait, or run the barrier when it is the last to come. */
void dbos_barrier_arrive(struct dbos_engine *engine);

/* archive_service.c: a thread that answers provenance queries and tells the archiver how far the
 * log is durable. */
enum dbos_err dbos_archive_service_start(struct dbos_engine *engine,
                                         struct dbos_archive_service **out,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_archive_service_submit(struct dbos_archive_service *service,
                                 struct dbos_request *request);
void dbos_archive_service_stop(struct dbos_archive_service *service); /* NULL is allowed */
/* What dbos.archive shows; any thread. */
struct dbos_archive_facts {
    bool is_on;         /* there is to be an archive */
    pid_t process;      /* 0 = none at the moment */
    uint64_t starts;    /* of the process */
    bool is_known;      /* it has said how far it is */
    uint64_t taken;     /* … the last position that questions see */
    uint64_t exported;  /* … and that is in files */
    uint32_t pace;      /* enum dbos_archive_pace; where a process runs */
    uint64_t position;  /* durable */
    uint64_t lag_bytes; /* of records between the two, and their age */
    uint64_t lag_ns;
    uint64_t backlog_max; /* UINT64_MAX = none */
};
void dbos_archive_service_facts(struct dbos_archive_service *service,
                                struct dbos_archive_facts *out);

#endif /* DBOS_ENGINE_ENGINE_INTERNAL_H */
