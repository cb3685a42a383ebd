/* The log of a stopped node, read from its beginning: each record in the order of positions, and
 * the state that it met. Recovery wants the state at the end and begins with the newest snapshot;
 * who wants to know how it came about begins as early as there is something to begin with.
 *
 *   open ─▶ store, empty ─▶ read: [oldest snapshot, where the log does not reach back to its start]
 *                                 record, record, … ─▶ apply(), which changes the store
 *
 * Nothing in the directory changes, and it is locked meanwhile, where it has a lock.
 *
 * Thread: one; the store is its reader's.
 * Memory: store, objects and log from the allocator given at open. */
#ifndef DBOS_TXN_HISTORY_H
#define DBOS_TXN_HISTORY_H

#include "storage/store.h"
#include "txn/log.h"

struct dbos_history;

/* `partitions`: of the store. Errors: those of dbos_log_open(); DUPLICATE_OBJECT: the node runs. */
enum dbos_err dbos_history_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                const char *data_dir, uint32_t partitions,
                                struct dbos_history **out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_history_close(struct dbos_history *history); /* NULL is allowed */

struct dbos_store *dbos_history_store(struct dbos_history *history);
struct dbos_log *dbos_history_log(struct dbos_history *history);

/* Of the node that wrote the log's first record; 0 = there is no record. Errors: CORRUPT, IO. */
enum dbos_err dbos_history_partitions(struct dbos_history *history, uint32_t *out,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

/* There are snapshots, that a start of the node may have begun with. */
bool dbos_history_has_snapshots(struct dbos_history *history);

/* Make the state before the first record that can be read. *out_position: where that is, 0 = before
 * all of them. Errors: CORRUPT (neither log nor a snapshot reaches back), those of
 * dbos_snapshot_load(). */
enum dbos_err dbos_history_begin(struct dbos_history *history, uint64_t *out_position,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* After begin, once: all records, to recovery->apply, which applies them to the store. After each
 * batch the state must have the hash that the log recorded. Errors: those of dbos_log_recover(). */
enum dbos_err dbos_history_read(struct dbos_history *history, struct dbos_recovery *recovery,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_TXN_HISTORY_H */
