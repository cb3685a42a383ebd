/* Snapshots: the tables as they were at one position, in files, taken while transactions go on, and
 * what start-up loads instead of the log up to there (architecture decision 4).
 *
 *   barrier      partition p                 the snapshot's thread              disk
 *   dbos_snapshot_cut
 *      │   ... transaction, slice, transaction ...
 *      │         rows of the cut ──chunks──▶ dbos_snapshot_write ──▶ part p
 *      │         commit: versions that end ─▶       │
 *      ▼                                     dbos_snapshot_finish ──▶ sync, manifest, rename
 *
 * No copy of the tables is made in memory: rows go into chunks of 256 KB, a bounded number of which
 * wait for the disk; only versions that a commit ends do not wait for room. What fails, memory or
 * disk, gives the snapshot up: the one before it is still there.
 *
 * A snapshot counts from its manifest on, and that is renamed into place when everything up to the
 * cut is on disk in the log, so that no snapshot is ahead of its log. docs/formats/snapshot.md.
 *
 * Thread: each function says whose. Memory: all of a snapshot from the allocator given. */
#ifndef DBOS_TXN_SNAPSHOT_H
#define DBOS_TXN_SNAPSHOT_H

#include "base/queue.h"
#include "storage/store.h"
#include "txn/log.h"

struct dbos_snapshot;

struct dbos_snapshot_options {
    struct dbos_env *env;
    const char *data_dir; /* borrowed */
    struct dbos_store *store;
    struct dbos_uuid database;
    uint64_t position;   /* the cut: the last position taken */
    int64_t commit_us;   /* no transaction up to it is later */
    uint32_t generation; /* not 0, and never one of this process before */
};

/* Under the barrier (or before the partitions run): what is there now is what the snapshot will
 * hold. Takes memory for each table, and copies dbos.catalog. Errors: NOMEM. */
enum dbos_err dbos_snapshot_cut(struct dbos_alloc *alloc,
                                const struct dbos_snapshot_options *options,
                                struct dbos_snapshot **out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* By the partition's thread, between transactions: copies for about `budget_ns`. Does nothing when
 * too many chunks wait for the disk, or nothing is left. */
void dbos_snapshot_slice(struct dbos_snapshot *snapshot, uint32_t partition, uint64_t budget_ns);
/* The partition has nothing left to do for it. Any thread. */
bool dbos_snapshot_is_copied(const struct dbos_snapshot *snapshot, uint32_t partition);
/* Nothing more of it will be copied; slices then only end it. Any thread. */
void dbos_snapshot_give_up(struct dbos_snapshot *snapshot, enum dbos_err why);
/* A table is going to be dropped for good, and its rows with it. Under the barrier. */
void dbos_snapshot_table_dropped(struct dbos_table *part);

/* By the snapshot's thread: sleep until something waits for the disk or the time is over (0 = do
 * not sleep), and write it. Errors: IO, DISK_FULL, and why it was given up. */
enum dbos_err dbos_snapshot_write(struct dbos_snapshot *snapshot, uint64_t timeout_us,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
/* Everything is copied and the log is synced up to the cut: sync, and make it count. */
enum dbos_err dbos_snapshot_finish(struct dbos_snapshot *snapshot,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_snapshot_facts(const struct dbos_snapshot *snapshot, struct dbos_snapshot_facts *out);
/* No partition knows it any more (each is copied). Files that do not count are removed. */
void dbos_snapshot_close(struct dbos_snapshot *snapshot);

/* -- what is there -------------------------------------------------------------------------------
 * By the owner of the directory. */

/* Positions of the snapshots, newest first; `out` has room for max. *out_count may be larger. */
enum dbos_err dbos_snapshot_list(struct dbos_env *env, const char *data_dir, uint64_t *out,
                                 uint32_t max, uint32_t *out_count,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* Remove one that nobody needs any more. */
enum dbos_err dbos_snapshot_remove(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, uint64_t position,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
/* Remove the files of those that were never finished. */
enum dbos_err dbos_snapshot_remove_unfinished(struct dbos_alloc *alloc, struct dbos_env *env,
                                              const char *data_dir,
                                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* Read all of it and compare every checksum. Errors: CORRUPT, FORMAT_VERSION, IO; the message names
 * file and place. */
enum dbos_err dbos_snapshot_check(struct dbos_alloc *alloc, struct dbos_env *env,
                                  const char *data_dir, const struct dbos_uuid *database,
                                  uint64_t position, struct dbos_snapshot_facts *out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* Load one into an empty store, one thread for each partition; the number of partitions may be
 * another one than when it was taken. Every checksum and the state hash are compared. Values of
 * 4 KB or more come from the log's blob files. Errors: as above, NOMEM; the store is then of no
 * use.
 */
struct dbos_snapshot_load {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    const char *data_dir;
    struct dbos_uuid database;
    struct dbos_store *store;
    struct dbos_log *log; /* for large values; NULL = the store's objects only */
    uint64_t position;
    bool read_only; /* recover: the directory stays as it is */
};
enum dbos_err dbos_snapshot_load(const struct dbos_snapshot_load *load,
                                 struct dbos_snapshot_facts *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;

/* Check all that are there; any damaged one is an error. */
enum dbos_err dbos_snapshot_check_all(const struct dbos_snapshot_load *load, uint32_t *out_count,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

/* Start-up: files of unfinished snapshots go; the newest snapshot that is whole is loaded
 * (`position` of `load` does not count); then the log behind it is read (dbos_log_recover()).
 * Damaged ones are passed over, and removed once the database stands: *out_damaged counts them.
 * recovery->apply NULL: a thread for each partition applies the records. out->position 0: there was
 * no snapshot. Errors: as load and dbos_log_recover(). */
enum dbos_err dbos_snapshot_recover(const struct dbos_snapshot_load *load,
                                    struct dbos_recovery *recovery, struct dbos_snapshot_facts *out,
                                    uint32_t *out_damaged, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_TXN_SNAPSHOT_H */
