/* Inside of the log: the parts that log.c (queue and thread), log_segment.c (segment files),
 * log_blob.c (objects), log_identity.c (the directory) and log_recover.c share.
 *
 * Thread: the log thread once it runs, the owner before and after; the preparer has its own lock.
 */
#ifndef DBOS_TXN_LOG_INTERNAL_H
#define DBOS_TXN_LOG_INTERNAL_H

#include <pthread.h>

#include "base/histogram.h"
#include "provenance/segment_format.h"
#include "txn/log.h"

enum {
    DBOS_LOG_BATCH_BYTES = 4 * 1048576, /* a batch takes no further record past this */
    /* One write; larger batches (a single large record) take several before their one sync. */
    DBOS_LOG_BUFFER_BYTES = DBOS_SEGMENT_HEADER_BYTES + 4 * 1048576 + 256 * 1024,
    DBOS_LOG_SEGMENT_BYTES = 64 * 1048576,
    DBOS_LOG_SEGMENT_BYTES_MIN = 16 * 1024,
    DBOS_LOG_IN_FLIGHT_BYTES = 256 * 1048576,
};

/* Makes the next segment ahead of time, so that no commit waits for zeroes to reach the disk. */
struct dbos_preparer {
    pthread_t thread;
    bool running;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool stop;
    uint32_t wanted; /* number of the segment to make; 0 = none */
    uint32_t ready;  /* number of the one that is made and not taken yet; 0 = none */
    int ready_file;
    uint32_t again;    /* number of the one that found no room: it is tried again; 0 = none */
    enum dbos_err err; /* of the last making; its words are in info */
    struct dbos_errinfo info;
};

/* The segment being written. */
struct dbos_segments {
    struct dbos_env *env;
    struct dbos_alloc *alloc;
    const char *data_dir;
    uint64_t segment_bytes;            /* of an ordinary segment */
    struct dbos_segment_header header; /* number 0: there is none yet */
    bool header_pending;               /* goes out with the first batch */
    bool header_synced;                /* only then may the next segment be prepared */
    int file;
    uint64_t offset; /* of the next batch */
    uint32_t previous_crc;
    uint8_t *buffer; /* DBOS_LOG_BUFFER_BYTES */
    struct dbos_preparer preparer;
    _Atomic bool disk_full; /* a segment could not be made */
    uint64_t made;          /* segments taken into use */
};

struct dbos_log {
    struct dbos_alloc *alloc;
    void *block; /* that this struct lies in */
    struct dbos_env *env;
    char data_dir[DBOS_DATA_DIR_BYTES_MAX + 1];
    enum dbos_durability durability;
    bool read_only;
    uint64_t flush_ns;
    struct dbos_objects *objects;
    struct dbos_stored_identity identity;
    int lock_file;
    struct dbos_blob_index *blobs;
    int blob_file; /* being appended to; -1 = not open */
    uint32_t blob_number;
    struct dbos_segments segments;

    struct dbos_queue queue;
    pthread_mutex_t turn;   /* who holds it does the log thread's work: consumes, writes, syncs */
    _Atomic uint32_t holds; /* threads that will see to what is appended: it wakes nobody */
    _Atomic uint64_t taken;
    _Atomic uint64_t durable;
    _Atomic uint64_t synced_out;      /* last position synced, for other threads */
    _Atomic uint64_t in_flight_bytes; /* of entries appended and not written */
    _Atomic uint64_t room_waits;
    _Atomic uint32_t producers; /* that have more to do */
    _Atomic uint32_t lingers;   /* futex word: what the log thread waits for, see log.c */
    _Atomic uint64_t ripe;      /* so many records end its waiting for more */
    uint64_t in_flight_bytes_max;
    uint64_t blob_file_bytes;
    _Atomic uint64_t barrier;
    struct dbos_queue_node stop_node; /* queued by close, behind everything */
    _Atomic bool is_closing;
    _Atomic uint32_t waiters;
    pthread_mutex_t lock; /* of the published facts below, of `moved` and `pools` */
    struct dbos_log_pool *pools;
    pthread_cond_t moved;
    uint64_t published_position;
    uint64_t published_hash;
    struct dbos_log_stats published_stats;

    pthread_t thread;
    bool running;
    bool recovered;
    void (*on_durable)(void *arg);
    void *on_durable_arg;

    /* Of the thread that has the turn. */
    bool stop;
    struct dbos_log_entry *first; /* waiting, by position */
    struct dbos_log_entry *last;
    uint64_t written; /* last position written */
    uint64_t synced;  /* last position synced */
    uint64_t synced_ns;
    uint64_t sync_begun_ns; /* of the last one */
    uint64_t sync_takes_ns; /* one, lately */
    uint64_t expected;      /* records: the last batch, and what waited when it was durable */
    uint64_t state_hash;
    struct dbos_log_stats stats;
    struct dbos_histogram sync_times; /* read by anyone */
};

/* log.c: the calling thread goes before others, where that is allowed. */
void dbos_log_raise_priority(void);

/* log_identity.c: directories, lock and identity file. Read-only: nothing is made, and a directory
 * without a lock file (a copy) is not locked: *out_file is -1. */
enum dbos_err dbos_log_lock_dir(struct dbos_env *env, const char *data_dir, bool read_only,
                                int *out_file, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Reads the identity, or makes it in a directory that has no log yet. The lock is held. */
enum dbos_err dbos_log_identity(struct dbos_env *env, const char *data_dir, bool read_only,
                                struct dbos_stored_identity *out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* Lowest and highest number of a segment file; 0 = there is none. */
enum dbos_err dbos_log_segment_range(struct dbos_env *env, const char *data_dir, uint32_t *out_low,
                                     uint32_t *out_high, struct dbos_errinfo *info) DBOS_MUST_USE;

/* log_truncate.c: the first position of a segment. False: there is no such file (*out_exists), or
 * it has no whole header: `info` (NULL allowed) says what is wrong with that of one in use. Any
 * thread. */
bool dbos_log_segment_begins_at(struct dbos_log *log, uint32_t number, uint64_t *out_position,
                                bool *out_exists, struct dbos_errinfo *info);

/* log_entry.c: every entry has come back. */
void dbos_log_pools_fini(struct dbos_log *log);

/* log_segment.c. */
enum dbos_err dbos_segments_init(struct dbos_segments *segments, struct dbos_alloc *alloc,
                                 const struct dbos_log_options *options, const char *data_dir,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_segments_fini(struct dbos_segments *segments);
/* Go on writing in a segment that recovery has read to `offset`. */
enum dbos_err dbos_segments_resume(struct dbos_segments *segments,
                                   const struct dbos_segment_header *header, uint64_t offset,
                                   uint32_t previous_crc, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Makes the first segment where there is none, and starts the preparer. */
enum dbos_err dbos_segments_start(struct dbos_segments *segments,
                                  const struct dbos_stored_identity *identity,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
/* Room for the batch: passes to the next segment where it must, and syncs what was written before.
 * Errors: DISK_FULL, and nothing has changed: it may be tried again; IO, NOMEM. */
enum dbos_err dbos_segments_reserve(struct dbos_segments *segments, struct dbos_stored_batch *batch,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
/* Write the entries from `first` on, `count` of them, as one batch, without a sync. `batch` has
 * positions, hash, records_bytes and record_count; the rest is filled in. There is room for it. */
enum dbos_err dbos_segments_write(struct dbos_segments *segments, struct dbos_stored_batch *batch,
                                  const struct dbos_log_entry *first,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_segments_sync(struct dbos_segments *segments,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* Time to prepare the next segment, and a sync is missing that it has to wait for. */
bool dbos_segments_wants_sync(const struct dbos_segments *segments);

/* log_blob.c: write the objects of these entries that no blob file has yet, and sync them. */
enum dbos_err dbos_log_write_objects(struct dbos_log *log, const struct dbos_log_entry *first,
                                     uint32_t count, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Cut the objects that no accepted batch names: written for positions after `position`. */
enum dbos_err dbos_log_cut_objects(struct dbos_log *log, uint64_t position,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_TXN_LOG_INTERNAL_H */
