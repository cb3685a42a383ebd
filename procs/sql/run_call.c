/* CALL p(…) and SELECT f(…). */
#include "procs/procedure.h"
#include "procs/sql/run.h"

enum dbos_err dbos_run_call(struct dbos_runner *runner) {
    const struct dbos_call_plan *call = &runner->plan->call;
    struct dbos_procs *procs = runner->run->procs;
    struct dbos_datum args[DBOS_ARGUMENTS_MAX];
    struct dbos_datum value;
    /* The procedure's record may refer to the arguments until the end of the transaction. */
    runner->eval.arena = dbos_txn_arena(runner->run->txn);
    for (uint32_t i = 0; i < call->count; i++) {
        enum dbos_err err = dbos_expr_eval(call->args[i], &runner->eval, &args[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    struct dbos_procedure_handle *handle =
        procs == NULL ? NULL
                      : dbos_procs_find(procs, call->procedure->id, call->procedure->version);
    if (handle == NULL) {
        return dbos_fail(runner->info, DBOS_ERR_MODULE, "procedure \"%s\" is not loaded",
                         call->procedure->name);
    }
    enum dbos_err err =
        dbos_procedure_call(handle, runner->run, args, call->count, NULL, &value, runner->info);
    if (err != DBOS_OK || !call->is_select) {
        return err;
    }
    runner->rows = 1;
    return runner->sink->row(runner->sink, &value, 1, runner->info);
}
