/* The log: one sequence of transaction records for all partitions, made durable in groups.
 *
 * A partition takes a position (one atomic counter) when a transaction has executed, encodes its
 * record and hands it over. The log thread puts the records in the order of positions, writes those
 * that have come together as one batch (objects first, to the blob segment, synced), syncs, and
 * moves the watermark. Replies, tasks, the archive and prov_ functions wait for the watermark
 * (decision 3). A failed write or sync stops the process: memory that may not be on disk is never
 * built upon. Only where the disk has no room for another segment the log waits: nothing is half
 * done then.
 *
 *   partition ──append──▶ queue ──▶ [reorder by position] ──▶ batch ──write──sync──▶ watermark
 *
 * Thread: take_position and append by any; durable by any; open, recover, start, close by the
 * owner. Memory: entries are made by the appender, from `alloc` or a pool of its own, and given to
 * the log. */
#ifndef DBOS_TXN_LOG_H
#define DBOS_TXN_LOG_H

#include "base/queue.h"
#include "provenance/segment.h"

/* The exit status when a write or a sync of the log has failed (EX_IOERR). */
enum { DBOS_EXIT_LOG_FAILED = 74 };

enum dbos_durability { DBOS_DURABILITY_SYNC, DBOS_DURABILITY_ASYNC };

struct dbos_log_options {
    struct dbos_env *env;
    const char *data_dir; /* borrowed during open */
    enum dbos_durability durability;
    uint32_t async_flush_ms;      /* async: a sync at least so often */
    uint64_t segment_bytes;       /* 0 = 64 MiB */
    uint64_t blob_file_bytes;     /* of large values, before another file is begun; 0 = 256 MiB */
    uint64_t in_flight_bytes_max; /* see dbos_log_wait_room(); 0 = 256 MiB */
    struct dbos_objects *objects;
    /* Look, and change nothing: no start, no append; recover applies and checks, and leaves the
     * tail as it is. The directory must be a database's; its lock is taken where there is one. */
    bool read_only;
};

/* One record on its way. `data` has size_bytes of a framed record. */
struct dbos_log_entry {
    struct dbos_queue_node node;
    struct dbos_log_entry *next; /* of the log thread, with `previous` */
    struct dbos_log_entry *previous;
    uint64_t position;
    int64_t hash_delta;
    uint64_t held_bytes;        /* of this block; from append on of the objects, too */
    struct dbos_log_pool *pool; /* that the block goes back to; NULL = the allocator */
    uint32_t size_bytes;
    uint32_t object_count;
    uint8_t size_class;           /* in the pool */
    struct dbos_object **objects; /* one reference each, given to the log; inside this block */
    uint8_t *data;                /* inside this block */
};

struct dbos_log;
struct dbos_log_pool;

/* Open or create the log of a data directory: reads the segment headers, knows the database's id
 * and secret. No thread runs yet. Errors: IO, DISK_FULL, CORRUPT, FORMAT_VERSION (a newer program
 * wrote it), DUPLICATE_OBJECT (another process has the directory). */
enum dbos_err dbos_log_open(struct dbos_alloc *alloc, const struct dbos_log_options *options,
                            struct dbos_log **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Drains and syncs what was appended, stops the thread, closes. */
void dbos_log_close(struct dbos_log *log);
/* The objects' secret seed of a data directory, made at its first use; before dbos_log_open(),
 * because the object store needs it. */
enum dbos_err dbos_log_object_seed(struct dbos_env *env, const char *data_dir, uint64_t *out_seed,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

/* Read everything that is there, oldest first, or all that is behind a snapshot. `apply` is called
 * for each record and adds to *state_hash; after each batch the log compares it with the recorded
 * one (CORRUPT when it differs). A torn tail is cut; the accepted tail is rewritten and synced;
 * then positions go on after it. `next_position` and `last_commit_us` (of the newest record) come
 * out. */
struct dbos_appliers;
struct dbos_recovery {
    enum dbos_err (*apply)(void *arg, const uint8_t *record, size_t size_bytes,
                           uint64_t *state_hash, struct dbos_errinfo *info);
    void *arg;
    struct dbos_appliers *appliers; /* not NULL: they apply, and compare; `apply` is not called */
    /* In: what was loaded already, up to a position (0 = nothing), its hash, and the newest commit.
     * The log must reach back and up to there. */
    uint64_t after_position;
    uint64_t after_hash;
    int64_t after_commit_us;
    uint64_t records;        /* out: applied */
    uint64_t bytes;          /* out: of them */
    uint64_t first_position; /* out: of what the log still has; 1 where it has all */
    uint64_t kept_bytes;     /* out: of that, more or less */
    uint64_t batches;        /* out */
    uint64_t torn_bytes;     /* out: cut at the end (read-only: found there) */
    uint64_t last_position;
    int64_t last_commit_us;
    uint64_t state_hash; /* out: equal to the recorded one */
};
enum dbos_err dbos_log_recover(struct dbos_log *log, struct dbos_recovery *recovery,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* Object of the blob segments, loaded into the store: one reference for the caller, NULL (and no
 * error) when it is not there or damaged. For dbos_row_decode() during recovery. Errors: NOMEM, IO.
 */
enum dbos_err dbos_log_load_object(struct dbos_log *log, const struct dbos_object_id *id,
                                   struct dbos_object **out,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_snapshot_facts {
    uint64_t position; /* of the cut; 0 = there is none */
    int64_t commit_us; /* no transaction up to it is later */
    int64_t taken_us;  /* wall clock */
    uint64_t rows;
    uint64_t bytes; /* of its files */
    uint64_t state_hash;
    uint32_t parts;
};

/* Do to a stopped node's directory what start-up does to it, without changing it: every checksum of
 * snapshots and log, every row loaded and applied, every state hash compared, every large value
 * read. Errors: as open and recover; DUPLICATE_OBJECT: the node runs. What was found until then is
 * in *out. */
struct dbos_log_findings {
    uint32_t snapshots;                  /* that are whole */
    struct dbos_snapshot_facts snapshot; /* the newest */
    struct dbos_recovery log;            /* behind it */
    struct dbos_blob_facts blobs;
    struct dbos_uuid database;
};
enum dbos_err dbos_log_verify(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                              struct dbos_log_findings *out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* Identity of the database, made with its directory: lasting, and no secret. */
struct dbos_uuid dbos_log_database(const struct dbos_log *log);

/* Start the log thread. `on_durable` is called whenever the watermark has moved, by the thread that
 * moved it (the log's, or one in dbos_log_release()); it must not block. Scheduling priority is
 * raised where allowed. */
enum dbos_err dbos_log_start(struct dbos_log *log, void (*on_durable)(void *arg), void *arg,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

/* Memory for an entry with room for a record and object references; from the log's allocator. */
struct dbos_log_entry *dbos_log_entry_make(struct dbos_log *log, size_t record_bytes_max,
                                           uint32_t objects_max) DBOS_MUST_USE;
void dbos_log_entry_give(struct dbos_log *log, struct dbos_log_entry *entry);
/* Entries of one appender, whose memory is used again: at most 7 MB, of the log's allocator. One
 * thread at a time takes; they may be given back by any, later than the pool is closed. The log
 * owns it: close lets another appender open it. Errors: NOMEM. */
enum dbos_err dbos_log_pool_open(struct dbos_log *log, struct dbos_log_pool **out) DBOS_MUST_USE;
void dbos_log_pool_close(struct dbos_log_pool *pool);
/* As dbos_log_entry_make(). */
struct dbos_log_entry *dbos_log_pool_take(struct dbos_log_pool *pool, size_t record_bytes_max,
                                          uint32_t objects_max) DBOS_MUST_USE;
/* The next position: 1, 2, … Each one taken must be appended soon: later ones wait for it. */
uint64_t dbos_log_take_position(struct dbos_log *log);
/* The last position taken (0 = none). */
uint64_t dbos_log_last_position(const struct dbos_log *log);
void dbos_log_append_give(struct dbos_log *log, struct dbos_log_entry *entry);
/* Back-pressure, before a transaction begins: returns at once while what was appended and is not
 * written yet holds at most in_flight_bytes_max (one relaxed load), else sleeps until the log
 * thread has caught up, or until `gives_up` (asked every few ms; may be NULL: never) says so. Never
 * between begin and commit: what a transaction appends may pass the bound, by one record for each
 * thread. The log thread waits for no one who waits here, so that this ends whenever the disk goes
 * on. Returns whether it has slept. */
bool dbos_log_wait_room(struct dbos_log *log, bool (*gives_up)(void *arg), void *arg);

/* Everything up to here is durable (async: is written and may be lost in a power cut). */
uint64_t dbos_log_durable(const struct dbos_log *log);
/* Sleep until `position` is durable. For tests, DDL tools and shutdown; partitions never call it.
 */
void dbos_log_wait(struct dbos_log *log, uint64_t position);
/* Everything up to here is on disk: also asynchronously, where durable means less. Any thread. */
uint64_t dbos_log_synced(const struct dbos_log *log);
/* There was no room on the disk for the next segment; it is tried again each second. Half a segment
 * is left, or less: whoever would write should not begin. Where that is used up, too, the log
 * waits, and so does everything that is appended. Any thread. */
bool dbos_log_is_disk_full(const struct dbos_log *log);
/* Remove the segments before that of `position`, oldest first. The caller knows that a snapshot,
 * and the archive, have what was in them. Any one thread. Errors: IO. */
enum dbos_err dbos_log_truncate(struct dbos_log *log, uint64_t position, uint32_t *out_removed,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* State hash after the last durable batch, and its position. */
void dbos_log_state_hash(const struct dbos_log *log, uint64_t *out_position, uint64_t *out_hash);

/* A thread that appends says when it has more to do and when it has not. While one has, the log
 * waits a moment (1 ms at most) before it writes, so that one sync serves many; when the last
 * one rests, it writes at once, unless many came to the last sync and few have come to this: then
 * it keeps a distance of three syncs. Who never says so is not waited for. Asynchronously, where no
 * reply waits, it lingers in any case. Any thread, in pairs. */
void dbos_log_producer_works(struct dbos_log *log);
void dbos_log_producer_rests(struct dbos_log *log);

/* Between the two, what any thread appends does not wake the log thread: the caller has more to
 * append, or will do the log thread's work itself. Release then wakes it; with `here` (synchronous
 * durability), where that thread sleeps, the caller writes and syncs what there is, which saves a
 * few clients two changes of threads. It may take as long as the disk does, and calls on_durable.
 * Any thread, in pairs, for a millisecond at most. */
void dbos_log_hold(struct dbos_log *log);
void dbos_log_release(struct dbos_log *log, bool here);

/* The newest position that a transaction under the barrier has written at: every partition sees it.
 * The barrier's runner notes it, partitions read it. */
void dbos_log_note_barrier(struct dbos_log *log, uint64_t position);
uint64_t dbos_log_barrier_position(const struct dbos_log *log);

struct dbos_log_stats {
    uint64_t records, batches, syncs, bytes, blob_bytes, segments;
    uint64_t in_flight_bytes; /* now */
    uint64_t room_waits;      /* transactions that slept in dbos_log_wait_room() */
};
void dbos_log_stats(const struct dbos_log *log, struct dbos_log_stats *out);
/* How long syncs take, in nanoseconds; goes on counting. */
struct dbos_histogram;
const struct dbos_histogram *dbos_log_sync_times(const struct dbos_log *log);

/* The write buffer, for dbos.memory; its size. Only its address is anyone's business. */
size_t dbos_log_buffer(const struct dbos_log *log, const void **out);

#endif /* DBOS_TXN_LOG_H */
