#include "procs/call.h"

#include <stdio.h>
#include <string.h>

#include "procs/deaths.h"
#include "procs/guard.h"

/* -- results of statements ------------------------------------------------------------------------
 */

struct row_sink {
    struct dbos_sink base;
    struct dbos_call *call;
    struct dbos_call_statement *statement;
};

static size_t padded(size_t bytes) { return (bytes + 15) & ~(size_t)15; }

/* Bytes of the copy of a row: large values are referenced, not copied. */
static size_t copied_bytes(const struct dbos_datum *datums, uint32_t count, size_t *result_bytes) {
    size_t bytes = count * sizeof *datums;
    *result_bytes = bytes;
    for (uint32_t i = 0; i < count; i++) {
        if (!datums[i].is_null && dbos_type_is_bytes((enum dbos_type)datums[i].type)) {
            *result_bytes += datums[i].bytes.size_bytes;
            bytes += datums[i].object != NULL ? 0 : datums[i].bytes.size_bytes + 1;
        }
    }
    return bytes;
}

/* A row of an earlier execution where it is large enough, else a new one. */
static struct dbos_call_row *take_row(struct dbos_call *call, struct dbos_call_statement *statement,
                                      size_t bytes) {
    struct dbos_call_row *row = statement->free;
    if (row != NULL && row->capacity_bytes >= bytes) {
        statement->free = row->next;
        return row;
    }
    row = dbos_arena_take(call->arena, sizeof *row + padded(bytes));
    if (row != NULL) {
        row->capacity_bytes = padded(bytes);
    }
    return row;
}

static bool hold_object(struct dbos_call *call, struct dbos_object *object) {
    if (call->holds != NULL && call->holds->object == object) {
        return true;
    }
    struct dbos_call_hold *hold = dbos_arena_take(call->arena, sizeof *hold);
    if (hold == NULL) {
        return false;
    }
    hold->object = dbos_object_ref(object);
    hold->next = call->holds;
    call->holds = hold;
    return true;
}

/* Bytes get a NUL behind them, so that text can be used as a C string. */
static bool copy_datums(struct dbos_call *call, struct dbos_call_row *row,
                        const struct dbos_datum *datums, uint32_t count) {
    uint8_t *bytes = (uint8_t *)(row->datums + count);
    memcpy(row->datums, datums, count * sizeof *datums);
    for (uint32_t i = 0; i < count; i++) {
        struct dbos_datum *datum = &row->datums[i];
        if (datum->is_null || !dbos_type_is_bytes((enum dbos_type)datum->type)) {
            continue;
        }
        if (datum->object != NULL) {
            if (!hold_object(call, datum->object)) {
                return false;
            }
            continue;
        }
        size_t size_bytes = datum->bytes.size_bytes;
        if (size_bytes > 0) {
            memcpy(bytes, datum->bytes.data, size_bytes);
        }
        bytes[size_bytes] = 0;
        datum->bytes.data = bytes;
        bytes += size_bytes + 1;
    }
    return true;
}

static enum dbos_err sink_row(struct dbos_sink *sink, const struct dbos_datum *datums,
                              uint32_t count, struct dbos_errinfo *info) {
    struct row_sink *to = (struct row_sink *)sink;
    struct dbos_call *call = to->call;
    size_t result_bytes = 0;
    size_t bytes = copied_bytes(datums, count, &result_bytes);
    if (call->result_bytes + result_bytes > DBOS_RESULT_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT,
                         "results of the statements of procedure \"%s\" are over 50 MB",
                         call->procedure->info->name);
    }
    struct dbos_call_row *row = take_row(call, to->statement, bytes);
    if (row == NULL || !copy_datums(call, row, datums, count)) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the result of a statement");
    }
    row->count = count;
    row->next = NULL;
    *(to->statement->first == NULL ? &to->statement->first : &to->statement->last->next) = row;
    to->statement->last = row;
    to->statement->result_bytes += result_bytes;
    call->result_bytes += result_bytes;
    return DBOS_OK;
}

/* Forget the last result; its rows are used again. */
static void reset_statement(struct dbos_call *call, struct dbos_call_statement *statement) {
    if (statement->first != NULL) {
        statement->last->next = statement->free;
        statement->free = statement->first;
    }
    call->result_bytes -= statement->result_bytes;
    statement->first = NULL;
    statement->last = NULL;
    statement->at = NULL;
    statement->fetching = false;
    statement->result_bytes = 0;
}

enum dbos_err dbos_call_execute(struct dbos_call *call, uint32_t statement,
                                const struct dbos_datum *parameters, uint32_t count,
                                uint64_t *out_rows) {
    const struct dbos_plan *plan = call->plans->plans[statement];
    struct row_sink sink = {
        .base = {.row = sink_row}, .call = call, .statement = &call->statements[statement]};
    const struct dbos_result_column *columns;
    bool returns = dbos_plan_columns(plan, &columns) > 0;
    reset_statement(call, sink.statement);
    *out_rows = 0;
    enum dbos_err err = dbos_plan_run(plan, call->run, parameters, count,
                                      returns ? &sink.base : NULL, out_rows, call->info);
    if (err != DBOS_OK) {
        call->err = err;
        call->info->position = 0; /* it is a place in the procedure's text, not in the client's */
    }
    return err;
}

/* -- the call -------------------------------------------------------------------------------------
 */

/* LANGUAGE sql: every statement with the procedure's arguments; the last one gives the value. */
static void run_statements(struct dbos_call *call) {
    for (uint32_t i = 0; i < call->plans->count; i++) {
        const enum dbos_type *types;
        uint32_t count = dbos_plan_parameters(call->plans->plans[i], &types);
        uint64_t rows = 0;
        if (dbos_call_execute(call, i, call->arguments, count, &rows) != DBOS_OK) {
            return;
        }
    }
    if (call->plans->count == 0) {
        return;
    }
    const struct dbos_call_statement *last = &call->statements[call->plans->count - 1];
    if (last->first != NULL && last->first->count > 0) {
        call->value = dbos_value_of(&last->first->datums[0]);
    }
}

static void run_code(struct dbos_call *call) {
    struct dbos_errinfo info;
    int outcome = DBOS_DONE;
    enum dbos_err err = dbos_guard_run(call, &outcome, &info);
    if (call->err == DBOS_OK && err != DBOS_OK) {
        *call->info = info;
        call->err = err;
    }
    if (call->err == DBOS_OK && outcome != DBOS_DONE) {
        call->err = dbos_fail(call->info, DBOS_ERR_RAISED, "procedure \"%s\" returned %d",
                              call->procedure->info->name, outcome);
    }
}

static enum dbos_err open_call(struct dbos_call *call) {
    size_t states = call->plans->count * sizeof *call->statements;
    size_t parameters = (call->plans->parameters_max + 1u) * sizeof *call->parameters;
    call->statements = dbos_arena_take_zero(call->arena, states + parameters);
    if (call->statements == NULL) {
        return dbos_fail(call->info, DBOS_ERR_NOMEM, "out of memory for a call");
    }
    call->parameters = (struct dbos_datum *)(void *)((uint8_t *)call->statements + states);
    return DBOS_OK;
}

/* The value as the declared type, its bytes in the arena. */
static enum dbos_err close_call(struct dbos_call *call, struct dbos_datum *out) {
    enum dbos_type returns = (enum dbos_type)call->procedure->info->returns;
    enum dbos_err err = call->err;
    if (err == DBOS_OK && returns != DBOS_TYPE_VOID) {
        err = dbos_value_cast(&call->value, returns, out, call->info);
        if (err == DBOS_OK && !out->is_null && dbos_type_is_bytes(returns)) {
            /* What a row or an object lent ends with the call. */
            out->bytes.data = (const uint8_t *)dbos_arena_copy(call->arena, out->bytes.data,
                                                               out->bytes.size_bytes);
            if (out->bytes.data == NULL) {
                err = dbos_fail(call->info, DBOS_ERR_NOMEM, "out of memory for a result");
            }
        }
    }
    for (struct dbos_call_hold *hold = call->holds; hold != NULL; hold = hold->next) {
        dbos_object_unref(hold->object);
    }
    return err;
}

static enum dbos_err check_arguments(const struct dbos_call *call) {
    const struct dbos_procedure_info *info = call->procedure->info;
    if (call->argument_count != info->argument_count) {
        return dbos_fail(call->info, DBOS_ERR_UNDEFINED_FUNCTION,
                         "procedure \"%s\" has %u arguments, %u are given", info->name,
                         info->argument_count, call->argument_count);
    }
    for (uint32_t i = 0; i < call->argument_count; i++) {
        const struct dbos_datum *datum = &call->arguments[i];
        if (!datum->is_null && datum->type != info->arguments[i].type &&
            !dbos_type_casts((enum dbos_type)datum->type,
                             (enum dbos_type)info->arguments[i].type)) {
            return dbos_fail(call->info, DBOS_ERR_DATATYPE_MISMATCH,
                             "argument %u of procedure \"%s\" is %s, not %s", i, info->name,
                             dbos_type_name((enum dbos_type)info->arguments[i].type),
                             dbos_type_name((enum dbos_type)datum->type));
        }
    }
    return DBOS_OK;
}

/* While the call is set up and its first statement runs, what it will look for comes from memory.
 */
static void expect_rows(const struct dbos_call *call) {
    const struct dbos_plan_set *set = call->plans;
    struct dbos_txn *txn = call->run->txn;
    uint32_t partition = dbos_txn_partition(txn);
    uint32_t argument = (uint32_t)set->route - 1;
    if (set->expected_count == 0 || partition == DBOS_PARTITION_ALL ||
        call->arguments[argument].is_null) {
        return;
    }
    for (uint32_t i = 0; i < set->expected_count; i++) {
        const struct dbos_table *table = dbos_txn_table(txn, set->expected[i], partition);
        if (table != NULL) {
            dbos_table_expect_value(table, &call->arguments[argument]);
        }
    }
}

static enum dbos_err refuse(const struct dbos_procedure_handle *procedure,
                            struct dbos_errinfo *info) {
    (void)dbos_fail(info, DBOS_ERR_QUARANTINED,
                    "procedure \"%s\" version %u is not run: it has ended the node %u times",
                    procedure->info->name, procedure->info->version, procedure->deaths);
    dbos_err_hint(info, "CREATE OR REPLACE it: the next version is run again.");
    return DBOS_ERR_QUARANTINED;
}

enum dbos_err dbos_procedure_call(struct dbos_procedure_handle *procedure,
                                  const struct dbos_run *run, const struct dbos_datum *arguments,
                                  uint32_t count, const struct dbos_task_result *task_result,
                                  struct dbos_datum *out_value, struct dbos_errinfo *info) {
    struct dbos_errinfo own;
    struct dbos_call call = {
        .run = run,
        .arena = dbos_txn_arena(run->txn),
        .procedure = procedure,
        .plans = procedure->next_version != 0 ? procedure->next : procedure->plans,
        .arguments = arguments,
        .argument_count = count,
        .task_result = task_result,
        .info = info == NULL ? &own : info,
    };
    *out_value = dbos_datum_null((enum dbos_type)procedure->info->returns);
    enum dbos_err err = check_arguments(&call);
    if (err != DBOS_OK) {
        return err;
    }
    if (procedure->builtin != NULL) {
        return procedure->builtin(run, arguments, call.info);
    }
    if (call.plans == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FUNCTION,
                         "version %u of procedure \"%s\" does not fit the tables any more",
                         procedure->info->version, procedure->info->name);
    }
    if (procedure->deaths >= DBOS_DEATHS_MAX) {
        return refuse(procedure, info);
    }
    expect_rows(&call);
    err = open_call(&call);
    if (err != DBOS_OK) {
        return err;
    }
    if (procedure->code != NULL) {
        run_code(&call);
    } else {
        run_statements(&call);
    }
    return close_call(&call, out_value);
}
