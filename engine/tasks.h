/* The dispatcher: takes committed tasks to a worker and brings their results back as transactions.
 *
 *                    all pieces here,                    result or error frame,
 *   COLLECTING ──────────────────────▶ READY ──▶ SENT ──────────────────────────▶ FINISHING ──▶
 * gone log durable         ▲        │ lease over, worker lost           │ └────────┘ (attempt + 1,
 * back-off)           │ deadline over: any state
 * ────────────────────────────────────────────────────┘
 *
 * Everything here is volatile: the truth is in dbos.task and dbos.task_piece, and after a restart
 * every open task is sent again. A result takes effect once, because finishing looks at the task's
 * row in its own transaction.
 *
 * Thread: one thread of its own; prepare, committed, forget and durable by any thread.
 * Memory: from the engine's allocator; payloads are references to the rows' objects. */
#ifndef DBOS_ENGINE_TASKS_H
#define DBOS_ENGINE_TASKS_H

#include "engine/request.h"

struct dbos_engine;
struct dbos_dispatcher;
struct dbos_task_message; /* to the dispatcher's thread */

enum { DBOS_TASK_ERROR_BYTES = 256 };

/* One way to finish a task; the engine runs it like any request (kind TASK). */
struct dbos_task_outcome {
    struct dbos_request request; /* first; request.owner = this */
    struct dbos_dispatcher *dispatcher;
    struct dbos_task_message *message; /* that it has ended; ours: the end needs no memory */
    uint64_t task_id;
    struct dbos_task_result result; /* pieces borrow from `bytes` */
    struct dbos_task_result_piece *pieces;
    struct dbos_buf bytes;
    bool failed; /* `error` says why */
    bool mark_only;
    char error[DBOS_TASK_ERROR_BYTES];
    bool already; /* out: it had been finished before */
    struct dbos_session_info session;
    char user[DBOS_NAME_BYTES];
};

enum dbos_err dbos_dispatcher_start(struct dbos_engine *engine, struct dbos_dispatcher **out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
/* Stops the thread and the worker process; results under way are dropped (the tasks stay open). */
void dbos_dispatcher_stop(struct dbos_dispatcher *dispatcher);
/* Frees it, with what was committed since. Must be stopped; NULL is allowed. */
void dbos_dispatcher_close(struct dbos_dispatcher *dispatcher);
/* What a transaction submits that is about to commit; takes over the batch's references, whatever
 * comes of it. Errors: NOMEM. */
enum dbos_err dbos_dispatcher_prepare(struct dbos_dispatcher *dispatcher,
                                      const struct dbos_outbox_batch *batch,
                                      struct dbos_task_message **out,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;
/* It has committed, with this position: sent on when that is durable. */
void dbos_dispatcher_committed_give(struct dbos_dispatcher *dispatcher,
                                    struct dbos_task_message *message, uint64_t position);
/* It has not. */
void dbos_dispatcher_forget_give(struct dbos_dispatcher *dispatcher,
                                 struct dbos_task_message *message);
/* The watermark has moved to `position`. Wakes the dispatcher if it waits for that; must not block.
 */
void dbos_dispatcher_durable(struct dbos_dispatcher *dispatcher, uint64_t position);

struct dbos_dispatcher_stats {
    uint64_t open, sent, done, failed, retried;
    bool worker_connected;
};
void dbos_dispatcher_stats(struct dbos_dispatcher *dispatcher, struct dbos_dispatcher_stats *out);

#endif /* DBOS_ENGINE_TASKS_H */
