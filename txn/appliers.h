/* Recovery with all partitions at work: the reader of the log hands batches over, and a thread for
 * each partition applies what is written there.
 *
 *   reader (recovery) ──chunks of batches──▶ applier 0: events of its slots, in order
 *                                        └─▶ applier 1: …
 *   when a chunk is done by all: the state hash after each of its batches is compared
 *
 * A row belongs to one partition for ever, so the order of the log is kept row by row. What ran
 * under the barrier (several partitions, definitions, tables that are not partitioned) is applied
 * by the reader itself, when all that came before it is done. The number of partitions may be
 * another one than when a record was written: a record then goes to all appliers, and each takes
 * its own.
 *
 * Thread: the reader's; the appliers are inside. Memory: some chunks of a megabyte. */
#ifndef DBOS_TXN_APPLIERS_H
#define DBOS_TXN_APPLIERS_H

#include "storage/store.h"
#include "txn/log.h"

struct dbos_appliers;

/* `state_hash` is that of what the store holds; `after_position` as in struct dbos_recovery. */
enum dbos_err dbos_appliers_open(struct dbos_alloc *alloc, struct dbos_store *store,
                                 struct dbos_log *log, uint64_t after_position, uint64_t state_hash,
                                 struct dbos_appliers **out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* All of the batch will be applied that is behind after_position. Errors of this batch or of one
 * that came before: as dbos_txn_apply_record(); CORRUPT where a state hash differs. */
enum dbos_err dbos_appliers_take(struct dbos_appliers *appliers, const struct dbos_batch *batch,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* Until all that was taken is applied and proved. */
enum dbos_err dbos_appliers_finish(struct dbos_appliers *appliers, uint64_t *out_state_hash,
                                   uint64_t *out_records, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_appliers_close(struct dbos_appliers *appliers); /* NULL is allowed */

#endif /* DBOS_TXN_APPLIERS_H */
