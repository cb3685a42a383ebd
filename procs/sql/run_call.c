/* CALL p(…) and SELECT f(…). */
#include "procs/procedure.h"
#include "procs/sql/run.h"

/* The record of a request that is one call names the procedure (the engine has said so at begin);
 * it then holds the values that the procedure got, literals included. */
static void record_arguments(const struct dbos_runner *runner, const struct dbos_datum *args) {
    const struct dbos_call_plan *call = &runner->plan->call;
    const struct dbos_txn_call *recorded = dbos_txn_call(runner->run->txn);
    if (recorded->procedure == call->procedure->id &&
        recorded->procedure_version == call->procedure->version) {
        dbos_txn_set_arguments(runner->run->txn, args, call->count);
    }
}

enum dbos_err dbos_run_call(struct dbos_runner *runner) {
    const struct dbos_call_plan *call = &runner->plan->call;
    struct dbos_procs *procs = runner->run->procs;
    struct dbos_datum value;
    /* The record refers to the arguments until the end of the transaction. */
    runner->eval.arena = dbos_txn_arena(runner->run->txn);
    struct dbos_datum *args = dbos_arena_take(runner->eval.arena, (call->count + 1) * sizeof *args);
    if (args == NULL) {
        return dbos_runner_nomem(runner);
    }
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
    record_arguments(runner, args);
    enum dbos_err err =
        dbos_procedure_call(handle, runner->run, args, call->count, NULL, &value, runner->info);
    if (err != DBOS_OK || !call->is_select) {
        return err;
    }
    runner->rows = 1;
    return runner->sink->row(runner->sink, &value, 1, runner->info);
}
