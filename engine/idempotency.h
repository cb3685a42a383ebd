/* Idempotency keys (architecture decision 7): a transaction with a key runs once; the same key
 * again gets the reply of the first time. A key is a row of dbos.idempotency, written in the
 * transaction itself, so that it is there exactly when the transaction's other effects are.
 *
 * The same key with other statements or arguments, or of another user, is 22023.
 *
 * The newest keys are kept, as many as the engine's options say, and no clock is asked: each new
 * one of a slot puts an end to the oldest there, by an ordinary delete of its own transaction. Who
 * comes with a key that has ended is taken for a new one.
 *
 * Thread: in a transaction that has the key's partition in hand (dbos_engine_route() sees to it).
 */
#ifndef DBOS_ENGINE_IDEMPOTENCY_H
#define DBOS_ENGINE_IDEMPOTENCY_H

#include "engine/request.h"

/* Keys kept by default: 1,024 in each slot, for small replies some 250 MB. */
#define DBOS_IDEMPOTENCY_KEYS_MAX (UINT64_C(1) << 20)

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
/* When its reply is kept: put an end to what is beyond `keys_max`, of which each slot has its part,
 * one at least. Does nothing without a key. Errors: NOMEM, LIMIT (of the record). */
enum dbos_err dbos_idempotency_expire(const struct dbos_run *run,
                                      const struct dbos_request *request, uint64_t keys_max,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_IDEMPOTENCY_H */
