/* What apply.c (records of the log), appliers.c (many at once) and snapshot_load.c (rows of a
 * snapshot) share.
 *
 * Thread: the one that loads the store. */
#ifndef DBOS_TXN_TXN_APPLY_H
#define DBOS_TXN_TXN_APPLY_H

#include "storage/store.h"
#include "txn/log.h"

/* A row of dbos.catalog is in its table: make the table or the procedure that it defines. Errors:
 * CORRUPT (no such definition), those of the store. */
enum dbos_err dbos_txn_define(struct dbos_store *store, const struct dbos_table *catalog,
                              const struct dbos_row *row, bool is_new,
                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* dbos_txn_apply_record() of what this partition owns, alone or beside those of other partitions.
 * The record did not run under the barrier. */
enum dbos_err dbos_txn_apply_part(struct dbos_store *store, struct dbos_log *log,
                                  const uint8_t *record, size_t size_bytes, uint32_t partition,
                                  uint64_t *state_hash, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_TXN_TXN_APPLY_H */
