/* Idempotency keys (architecture decision 7): a transaction with a key runs once; the same key
 * again gets the reply of the first time. A key is a row of dbos.idempotency, written in the
 * transaction itself, so that it is there exactly when the transaction's other effects are.
 *
 * The same key with other statements or arguments, or of another user, is 22023.
 *
 * Thread: in a transaction that has the key's partition in hand (dbos_engine_route() sees to it).
 */
#ifndef DBOS_ENGINE_IDEMPOTENCY_H
#define DBOS_ENGINE_IDEMPOTENCY_H

#include "engine/request.h"

/* Slot of a key's row. */
uint32_t dbos_idempotency_slot(const char *key);
/* Look the key up: *out_replayed says that request->reply was filled from the first time. Does
 * nothing without a key. Errors: INVALID_PARAMETER, NOMEM. */
enum dbos_err dbos_idempotency_begin(const struct dbos_run *run, struct dbos_request *request,
                                     bool *out_replayed, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Keep the reply (from `reply_start` on) under the key. Errors: LIMIT (a reply over 1 MB can not be
 * kept), NOMEM, and those of an insert. */
enum dbos_err dbos_idempotency_end(const struct dbos_run *run, struct dbos_request *request,
                                   size_t reply_start, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_IDEMPOTENCY_H */
