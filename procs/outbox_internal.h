/* What the files of the outbox share: where rows are, and their columns.
 *
 * Thread: as procs/outbox.h. Memory: none but what is said. */
#ifndef DBOS_PROCS_OUTBOX_INTERNAL_H
#define DBOS_PROCS_OUTBOX_INTERNAL_H

#include "procs/outbox.h"

/* Columns of dbos.task and dbos.task_piece, as storage/catalog_system.c has them. */
enum {
    TASK_ID,
    TASK_KIND,
    TASK_STATE,
    TASK_USER,
    TASK_PROCEDURE,
    TASK_PROCEDURE_VERSION,
    TASK_MODEL,
    TASK_MODEL_VERSION,
    TASK_PIECES,
    TASK_CONTEXT,
    TASK_DEADLINE,
    TASK_SUBMITTED,
    TASK_ATTEMPT,
    TASK_ERROR,
    TASK_FINISHED,
    TASK_COLUMNS
};
enum { PIECE_ROUTE, PIECE_TASK, PIECE_NUMBER, PIECE_COUNT, PIECE_PAYLOAD, PIECE_COLUMNS };

uint32_t dbos_outbox_partition(struct dbos_store *store, int64_t task_id);
int64_t dbos_outbox_route(struct dbos_store *store, int64_t task_id, uint32_t partition);
/* A task's row, or NULL; borrowed from its table. */
struct dbos_row *dbos_outbox_find(struct dbos_store *store, int64_t task_id,
                                  struct dbos_table **out_table);
struct dbos_object *dbos_outbox_object(struct dbos_store *store, const struct dbos_datum *datum);
/* `task->chunks` has room for chunk_count; one that is not there leaves it with none. Errors:
 * NOMEM, and it has none. */
enum dbos_err dbos_outbox_reference_chunks(struct dbos_store *store,
                                           struct dbos_outbox_task *task) DBOS_MUST_USE;

static inline struct dbos_datum dbos_outbox_column(struct dbos_table *table,
                                                   const struct dbos_row *row, uint32_t column) {
    return dbos_row_column(dbos_table_def_of(table), row, column);
}

/* Reads and writes of the outbox are a statement of their own in the record. */
static inline void dbos_outbox_statement(struct dbos_txn *txn, const char *text) {
    dbos_txn_statement(txn, dbos_hash64(0, text, strlen(text)), text);
}

#endif /* DBOS_PROCS_OUTBOX_INTERNAL_H */
