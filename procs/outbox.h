/* The task outbox (architecture decision 11): tasks and their pieces are rows of dbos.task and
 * dbos.task_piece, so that submitting, finishing and failing one are ordinary writes of ordinary
 * transactions: logged, undone, recovered and explained like any other. First outcome wins.
 *
 *   open (state 1) ──all pieces there, durable──▶ [sent: volatile] ──result──▶ done (2)
 *                                                        └──error/deadline──▶ failed (3)
 *
 * A task's row lives on the partition that opened it (its id is chosen so that it hashes there); a
 * piece's row on the partition that added it (`route` likewise). Submitting an infer task reads the
 * model's rows, so provenance knows which model version made a prediction; finishing reads the task
 * and its pieces, so it knows from which transactions the inputs came.
 *
 * Thread: in a transaction, on its thread. Memory: the transaction's arena. */
#ifndef DBOS_PROCS_OUTBOX_H
#define DBOS_PROCS_OUTBOX_H

#include "procs/include/dbos/procedure.h"
#include "procs/procedure.h"

enum dbos_task_state {
    DBOS_TASK_STATE_OPEN = 1,
    DBOS_TASK_STATE_DONE = 2,
    DBOS_TASK_STATE_FAILED = 3,
};

/* See dbos/procedure.h. Errors: UNDEFINED_FUNCTION (result procedure), INVALID_PARAMETER,
 * UNDEFINED_OBJECT (model), LIMIT (task over 1 MB, context over 64 KB). */
enum dbos_err dbos_outbox_open(const struct dbos_run *run, const struct dbos_task *task,
                               int64_t *out_task_id, struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_outbox_add(const struct dbos_run *run, int64_t task_id, uint32_t piece,
                              uint32_t count, const void *payload, size_t size_bytes,
                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* What the dispatcher needs of a task and its pieces; objects are referenced (unref each). It is
 * filled by the transaction that opened or added, and handed to the engine when it is about to
 * commit, and by a scan of the tables after a restart. */
struct dbos_outbox_piece {
    uint64_t task_id;
    uint32_t piece;
    uint32_t count;
    struct dbos_object *payload; /* referenced; small payloads are objects here, too */
};
struct dbos_outbox_task {
    uint64_t task_id;
    uint16_t kind;
    uint32_t pieces;
    int32_t model_id;
    int32_t model_version; /* resolved: never 0 for infer */
    int64_t deadline_us;   /* wall clock */
    uint32_t partition;    /* whose slot the task's row is in now */
    uint32_t chunk_count;  /* infer: the model's chunks, referenced */
    struct dbos_object **chunks;
};
/* Work of one transaction, in order; made in the transaction's arena. */
struct dbos_outbox_batch {
    uint32_t task_count;
    uint32_t piece_count;
    struct dbos_outbox_task *tasks;
    struct dbos_outbox_piece *pieces;
};
/* Events of the transaction since begin, to be looked at before it commits: what is committed needs
 * no memory any more to leave. The caller takes over the references. Empty for almost all
 * transactions: costs one comparison. Errors: NOMEM, and the transaction can only be aborted. */
enum dbos_err dbos_outbox_take(struct dbos_txn *txn, struct dbos_outbox_batch *out,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* Give its references back. */
void dbos_outbox_drop(const struct dbos_outbox_batch *batch);
/* After recovery: every open task and every piece of an open task. `each_*` take over references.
 */
enum dbos_err dbos_outbox_scan(struct dbos_store *store, struct dbos_alloc *alloc,
                               void (*each_task)(void *arg, struct dbos_outbox_task *task),
                               void (*each_piece)(void *arg, struct dbos_outbox_piece *piece),
                               void *arg, struct dbos_errinfo *info) DBOS_MUST_USE;

/* Finish a task in run->txn: read its row and pieces, do nothing when it is finished already
 * (*out_done = false), else call its result procedure (the version pinned at submission) with
 * (task, context, error) and mark it. `error` NULL = success. If the result procedure aborts, the
 * caller aborts the transaction and calls again with the error as text, which only marks it failed.
 * Errors: WRONG_PARTITION, to be done again under the barrier: pieces are on other partitions, or
 * the result procedure writes what is not in hand; and what the result procedure says. */
enum dbos_err dbos_outbox_finish(const struct dbos_run *run, uint64_t task_id,
                                 const struct dbos_task_result *result, const char *error,
                                 bool mark_only, bool *out_done,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* The user a task runs as, from its row; for the session of the result transaction. */
enum dbos_err dbos_outbox_user(struct dbos_store *store, uint64_t task_id, char *out,
                               size_t out_bytes) DBOS_MUST_USE;

#endif /* DBOS_PROCS_OUTBOX_H */
