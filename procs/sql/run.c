/* Running a plan. */
#include "procs/sql/run.h"

enum {
    KEEP_STACK_BYTES = 2048,
    SCRATCH_STACK_BYTES = 1024,
};

enum dbos_err dbos_run_look(const struct dbos_run *run, struct dbos_errinfo *info) {
    if (run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed) != 0) {
        return dbos_fail(info, DBOS_ERR_CANCELED, "canceling statement due to user request");
    }
    if (run->env->ops->mono_ns(run->env) > run->deadline_ns) {
        return dbos_fail(info, DBOS_ERR_TIMEOUT, "canceling statement due to statement timeout");
    }
    return DBOS_OK;
}

/* The arena's first bytes are these; chunks follow when they are used up. */
static inline void begin_on_stack(struct dbos_arena *arena, struct dbos_alloc *alloc,
                                  uint8_t *bytes, size_t size_bytes) {
    arena->alloc = alloc;
    arena->chunk_bytes = DBOS_ARENA_CHUNK_BYTES;
    arena->next = bytes;
    arena->end = bytes + size_bytes;
}

static inline void end_on_stack(struct dbos_arena *arena) {
    if (arena->first != NULL) {
        dbos_arena_fini(arena);
    }
}

void dbos_runner_next_row(struct dbos_runner *runner) {
    struct dbos_arena *scratch = &runner->scratch;
    dbos_arena_reset(scratch);
    if (scratch->first == NULL) { /* no chunk, or a giant that was given back */
        scratch->next = runner->scratch_start;
        scratch->end = runner->scratch_start + SCRATCH_STACK_BYTES;
    }
}

static enum dbos_err run_kind(struct dbos_runner *runner) {
    switch (runner->plan->kind) {
    case DBOS_STATEMENT_SELECT:
        return dbos_run_select(runner, &runner->plan->select, runner->sink);
    case DBOS_STATEMENT_INSERT:
        return dbos_run_insert(runner);
    case DBOS_STATEMENT_UPDATE:
        return dbos_run_update(runner);
    case DBOS_STATEMENT_DELETE:
        return dbos_run_delete(runner);
    case DBOS_STATEMENT_CALL:
        return dbos_run_call(runner);
    case DBOS_STATEMENT_DDL:
        return dbos_run_ddl(runner);
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    DBOS_CHECK(!"this kind of statement has no plan");
    return DBOS_ERR_INTERNAL;
}

enum dbos_err dbos_plan_run(const struct dbos_plan *plan, const struct dbos_run *run,
                            const struct dbos_datum *parameters, uint32_t count,
                            struct dbos_sink *sink, uint64_t *out_rows, struct dbos_errinfo *info) {
    *out_rows = 0;
    if (count < plan->parameter_count) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_PARAMETER, "there is no parameter $%u",
                         count + 1);
    }
    DBOS_CHECK(sink != NULL || plan->column_count == 0);
    if (plan->catalog->version != dbos_txn_catalog(run->txn)->version) {
        return dbos_fail(info, DBOS_ERR_STALE_PLAN, "the plan is older than the catalogue");
    }
    struct dbos_alloc *alloc = dbos_txn_arena(run->txn)->alloc;
    struct dbos_runner runner = {
        .plan = plan, .run = run, .parameters = parameters, .sink = sink, .info = info};
    _Alignas(16) uint8_t keep_bytes[KEEP_STACK_BYTES];
    _Alignas(16) uint8_t scratch_bytes[SCRATCH_STACK_BYTES];
    begin_on_stack(&runner.keep, alloc, keep_bytes, sizeof keep_bytes);
    begin_on_stack(&runner.scratch, alloc, scratch_bytes, sizeof scratch_bytes);
    runner.scratch_start = scratch_bytes;
    runner.eval = (struct dbos_eval){
        .run = run, .arena = &runner.scratch, .parameters = parameters, .info = info};
    if (plan->own.procedure != 0) {
        dbos_txn_own_statement(run->txn, &plan->own);
    } else if (plan->kind != DBOS_STATEMENT_CALL) {
        dbos_txn_statement(run->txn, plan->statement_id, dbos_plan_text(plan));
    }
    enum dbos_err err = run_kind(&runner);
    *out_rows = runner.rows;
    end_on_stack(&runner.scratch);
    end_on_stack(&runner.keep);
    return err;
}
