/* The transaction that finishes a task: identity and body of a TASK request.
 *
 * Thread: the runner of the request. */
#ifndef DBOS_ENGINE_TASK_RESULT_H
#define DBOS_ENGINE_TASK_RESULT_H

#include "engine/tasks.h"

/* Who the record names: the procedure pinned by the task's row. */
void dbos_task_result_describe(struct dbos_store *store, struct dbos_request *request,
                               struct dbos_txn_call *call);
enum dbos_err dbos_task_result_run(const struct dbos_run *run, struct dbos_request *request,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_TASK_RESULT_H */
