/* A transaction: reads and writes of tables with undo, capture and commit.
 *
 * It runs serially, to completion, on the thread that has its partition (or all of them, under the
 * barrier). Writes are eager, with an undo list; commit takes a position, stamps the rows written,
 * hands the record to the log and forgets the undo; abort undoes newest first.
 *
 *   begin ─▶ active ─▶ committed
 *              │  any write that failed with NOMEM marks it doomed: only abort is left
 *              └────▶ aborted (a record remains only if something was read)
 *
 * Thread: one at a time, the runner's. One `struct dbos_txn` is opened for each partition and for
 * the barrier, and used again and again.
 * Memory: undo and scratch from its own arena; rows from their table. */
#ifndef DBOS_TXN_TXN_H
#define DBOS_TXN_TXN_H

#include "base/env.h"
#include "provenance/capture.h"
#include "storage/store.h"
#include "txn/log.h"

struct dbos_txn;

struct dbos_txn_options {
    struct dbos_store *store;
    struct dbos_log *log;              /* NULL: nothing is logged (tests) */
    int64_t (*commit_time)(void *arg); /* strictly growing over all partitions */
    void *commit_time_arg;
    uint32_t partition; /* whose; DBOS_PARTITION_ALL for the barrier's */
    bool reads_off;     /* what is read is not recorded */
    struct dbos_env *env;
};
enum dbos_err dbos_txn_open(struct dbos_alloc *alloc, const struct dbos_txn_options *options,
                            struct dbos_txn **out) DBOS_MUST_USE;
void dbos_txn_close(struct dbos_txn *txn);

/* A recorded transaction that runs again: what it was given then. */
struct dbos_txn_again {
    uint64_t position;
    int64_t commit_us;
    int64_t start_us;
    uint64_t seed;
};

/* Who and what; borrowed until commit or abort. */
struct dbos_txn_call {
    const struct dbos_session_info *session;
    uint64_t request;
    uint32_t procedure;
    uint32_t procedure_version;
    uint64_t task_id;
    uint64_t start_ns; /* monotonic time at which it starts, where that is known; 0 = at begin */
    const struct dbos_datum *arguments;
    uint32_t argument_count;
    bool read_only; /* writes are DBOS_ERR_READ_ONLY */
    bool is_task_result;
    const struct dbos_txn_again *again; /* NULL: it happens now */
};
void dbos_txn_begin(struct dbos_txn *txn, const struct dbos_txn_call *call);
/* Commit. *out_position: the record's position, or 0 when there was nothing to record. Errors:
 * NOMEM (nothing has happened; abort). */
enum dbos_err dbos_txn_commit(struct dbos_txn *txn, uint64_t *out_position,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* Undo everything; `why` goes into the record. Returns the record's position or 0. */
uint64_t dbos_txn_abort(struct dbos_txn *txn, enum dbos_err why);
/* Undo everything and leave no trace at all (re-run of a call: stale plan). */
void dbos_txn_forget(struct dbos_txn *txn);
/* The end of one that ran `again`, without a log: *record is what commit (`why` is OK) or abort
 * would have written, empty where that is nothing; then everything is undone, and no trace is left.
 * Errors: NOMEM. */
enum dbos_err dbos_txn_rehearse(struct dbos_txn *txn, enum dbos_err why, struct dbos_buf *record,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* The procedure that really runs, where that is another version than begin said. */
void dbos_txn_set_procedure(struct dbos_txn *txn, uint32_t procedure, uint32_t version,
                            bool read_only);
/* What the procedure of this call was called with, where that is not what the client sent as
 * parameters (literals, expressions); borrowed until commit or abort. Once: the record refers to
 * the arguments from then on. */
void dbos_txn_set_arguments(struct dbos_txn *txn, const struct dbos_datum *arguments,
                            uint32_t count);

/* Facts for the runner. */
struct dbos_arena *dbos_txn_arena(struct dbos_txn *txn); /* reset at begin */
struct dbos_store *dbos_txn_store(struct dbos_txn *txn);
struct dbos_catalog *dbos_txn_catalog(struct dbos_txn *txn); /* as this transaction sees it */
uint32_t dbos_txn_partition(const struct dbos_txn *txn);     /* or DBOS_PARTITION_ALL */
bool dbos_txn_has_partition(const struct dbos_txn *txn, uint32_t partition);
const struct dbos_txn_call *dbos_txn_call(const struct dbos_txn *txn);
int64_t dbos_txn_now_us(struct dbos_txn *txn);  /* fixed at begin */
uint64_t dbos_txn_random(struct dbos_txn *txn); /* from the recorded seed */
bool dbos_txn_has_writes(const struct dbos_txn *txn);
/* Position of the newest write that is visible to this transaction on what it has in hand: what a
 * read-only reply must wait for under provenance_reads = relaxed. */
uint64_t dbos_txn_seen_position(const struct dbos_txn *txn);
/* Under the barrier, before a transaction begins there: what a partition's transactions have
 * written up to here is visible to it. */
void dbos_txn_see(struct dbos_txn *txn, uint64_t position);

/* One pointer for the layer above (the task outbox); NULL at begin. */
void **dbos_txn_attachment(struct dbos_txn *txn);

/* The next reads and writes belong to this statement. */
void dbos_txn_statement(struct dbos_txn *txn, uint64_t statement_id, const char *text);
/* The same for a statement of a procedure. In a record that names this procedure its number stands
 * for it, else its text; the text is borrowed for the call. */
struct dbos_txn_own_statement {
    uint32_t procedure;
    uint32_t procedure_version;
    uint32_t ordinal; /* within the procedure, from 0 */
    uint64_t id;      /* dbos_record_statement_id() of these */
    uint64_t text_id; /* hash of the text */
    const char *text;
};
void dbos_txn_own_statement(struct dbos_txn *txn, const struct dbos_txn_own_statement *statement);

/* A part of a table that is in hand; NULL: no such table, or another partition's. */
struct dbos_table *dbos_txn_table(struct dbos_txn *txn, uint32_t table_id, uint32_t partition);
/* Which partition a row with this partitioning value lives on (any one for an unpartitioned table:
 * the transaction's own, or 0 under the barrier). Errors: WRONG_PARTITION when it is not in hand.
 */
enum dbos_err dbos_txn_route(struct dbos_txn *txn, const struct dbos_table_def *def,
                             const struct dbos_datum *value, uint32_t *out_partition,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

/* Reads go to the table directly (table.h); these note them, unless reads are off. */
void dbos_txn_note_read(struct dbos_txn *txn, uint32_t table_id, const struct dbos_row *row);
void dbos_txn_note_absent(struct dbos_txn *txn, uint32_t table_id, uint32_t index_id,
                          const struct dbos_datum *key, uint32_t count);
void dbos_txn_note_scan(struct dbos_txn *txn, uint32_t table_id, uint32_t partition, uint64_t rows);
void dbos_txn_note_range(struct dbos_txn *txn, uint32_t table_id, uint32_t index_id,
                         const struct dbos_bound *low, const struct dbos_bound *high,
                         uint64_t rows);
void dbos_txn_note_egress(struct dbos_txn *txn, uint64_t rows, uint64_t bytes, uint64_t digest);

/* Writes. Datums are one per column, of the columns' types. Errors: those of dbos_row_make() and
 * dbos_table_insert(); WRONG_PARTITION (row not in hand; unpartitioned table outside the barrier);
 * READ_ONLY. On error nothing of this row has changed. */
enum dbos_err dbos_txn_insert(struct dbos_txn *txn, uint32_t table_id,
                              const struct dbos_datum *datums, struct dbos_row **out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* A change of the partitioning column to another slot is a delete and an insert (a new block). */
enum dbos_err dbos_txn_update(struct dbos_txn *txn, uint32_t table_id, struct dbos_row *row,
                              const struct dbos_datum *datums, struct dbos_row **out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_txn_delete(struct dbos_txn *txn, uint32_t table_id, struct dbos_row *row,
                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* DDL, under the barrier: changes the store and writes dbos.catalog, with undo. */
enum dbos_err dbos_txn_create_table(struct dbos_txn *txn, struct dbos_table_def *def,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_txn_drop_table(struct dbos_txn *txn, uint32_t table_id,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
/* A definition with one index more or less. */
enum dbos_err dbos_txn_redefine_table(struct dbos_txn *txn, struct dbos_table_def *def,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_txn_put_procedure(struct dbos_txn *txn, struct dbos_procedure_info *procedure,
                                     struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_txn_drop_procedure(struct dbos_txn *txn, uint32_t id,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

/* Recovery: apply one record's writes to the store (no planner, no module). Writes to dbos.catalog
 * change the catalogue too. Adds the change of the state hash to *state_hash. */
enum dbos_err dbos_txn_apply_record(struct dbos_store *store, struct dbos_log *log,
                                    const uint8_t *record, size_t size_bytes, uint64_t *state_hash,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_TXN_TXN_H */
