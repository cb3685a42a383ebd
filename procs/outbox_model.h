/* Models as rows: dbos.model and dbos.model_chunk (both unpartitioned, so that every partition
 * reads them and only the barrier writes them).
 *
 * Thread: a transaction's, or before the partitions run. Memory: none but rows. */
#ifndef DBOS_PROCS_OUTBOX_MODEL_H
#define DBOS_PROCS_OUTBOX_MODEL_H

#include "procs/procedure.h"

struct dbos_model_ref {
    int32_t model_id;
    int32_t version;
    uint32_t chunks;
};

/* Find a version of a model, the newest for version 0. The reads are noted in `txn` (NULL:
 * nowhere). Errors: UNDEFINED_OBJECT, NOMEM. */
enum dbos_err dbos_model_find(struct dbos_store *store, struct dbos_txn *txn, int32_t model_id,
                              int32_t version, struct dbos_model_ref *out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* The row of one chunk, or NULL; noted likewise. */
const struct dbos_row *dbos_model_chunk(struct dbos_store *store, struct dbos_txn *txn,
                                        const struct dbos_model_ref *model, uint32_t chunk);
/* The bytes column of a chunk's row. */
struct dbos_datum dbos_model_chunk_bytes(struct dbos_store *store, const struct dbos_row *row);
#endif /* DBOS_PROCS_OUTBOX_MODEL_H */
