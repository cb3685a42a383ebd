/* One execution of a procedure: the state behind the SDK's `struct dbos_call`.
 *
 * The first error sticks: every SDK function after it does nothing, and the caller of the procedure
 * gets that error whatever the procedure returns.
 *
 * Thread: the transaction's. Memory: the transaction's arena; results of a statement are kept in
 * rows that the next execution of that statement uses again. */
#ifndef DBOS_PROCS_CALL_H
#define DBOS_PROCS_CALL_H

#include "procs/procedure_internal.h"

/* One row of a result: its datums, then their bytes. */
struct dbos_call_row {
    struct dbos_call_row *next;
    size_t capacity_bytes; /* of what follows this header */
    uint32_t count;
    struct dbos_datum datums[];
};

/* A statement of the running procedure and what its last execution returned. */
struct dbos_call_statement {
    struct dbos_call_row *first;
    struct dbos_call_row *last;
    struct dbos_call_row *at;   /* the row that dbos_fetch() reached */
    struct dbos_call_row *free; /* of earlier executions */
    size_t result_bytes;
    bool fetching;
};

/* An object whose bytes were handed to the procedure. */
struct dbos_call_hold {
    struct dbos_object *object;
    struct dbos_call_hold *next;
};

struct dbos_call {
    const struct dbos_run *run;
    struct dbos_arena *arena;
    const struct dbos_procedure_handle *procedure;
    const struct dbos_plan_set *plans;
    const struct dbos_datum *arguments;
    uint32_t argument_count;
    struct dbos_call_statement *statements;
    struct dbos_datum *parameters; /* of the statement that runs */
    size_t result_bytes;           /* of all statements, now */
    struct dbos_call_hold *holds;
    struct dbos_value value; /* dbos_return_…() */
    const struct dbos_task_result *task_result;
    uintptr_t stack_floor;  /* below, the SDK does nothing any more: it needs room itself */
    size_t allocated_bytes; /* dbos_alloc() */
    enum dbos_err err;
    struct dbos_errinfo *info; /* never NULL */
};

/* Run statement `statement` with parameters of the plan's types; rows go to its state. */
enum dbos_err dbos_call_execute(struct dbos_call *call, uint32_t statement,
                                const struct dbos_datum *parameters, uint32_t count,
                                uint64_t *out_rows) DBOS_MUST_USE;

#endif /* DBOS_PROCS_CALL_H */
