/* The functions of dbos/procedure.h, called by compiled procedures. */
#include <stdio.h>
#include <string.h>

#include "procs/call.h"
#include "procs/guard.h"
#include "procs/outbox.h"

enum { TASK_CONTEXT_MAX = 65536, ALLOC_BYTES_MAX = 256 * 1048576 };

#define FAIL(call, code, ...) ((call)->err = dbos_fail((call)->info, (code), __VA_ARGS__))

/* The first error of a call sticks. Asked at the begin of each function, where the engine holds
 * nothing: so deep in the stack that it would come to its end in here, the procedure ends. */
static bool failed(const struct dbos_call *call) {
    if ((uintptr_t)__builtin_frame_address(0) < call->stack_floor) {
        dbos_guard_end_of_stack();
    }
    return call->err != DBOS_OK;
}

/* -- arguments ------------------------------------------------------------------------------------
 */

size_t dbos_arg_count(struct dbos_call *call) { return call->argument_count; }

/* The argument, or NULL: an error, or SQL NULL. `what` it is asked for as. */
static const struct dbos_datum *argument(struct dbos_call *call, size_t i,
                                         enum dbos_value_kind kind, const char *what) {
    if (failed(call)) {
        return NULL;
    }
    if (i >= call->argument_count) {
        FAIL(call, DBOS_ERR_UNDEFINED_PARAMETER, "procedure \"%s\" asks for argument %zu of %u",
             call->procedure->info->name, i, call->argument_count);
        return NULL;
    }
    const struct dbos_datum *datum = &call->arguments[i];
    if (datum->is_null) {
        return NULL;
    }
    enum dbos_value_kind has = dbos_value_of(datum).kind;
    if (kind != DBOS_VALUE_NULL && has != kind) {
        FAIL(call, DBOS_ERR_DATATYPE_MISMATCH,
             "procedure \"%s\" asks for argument %zu as %s, but it is %s",
             call->procedure->info->name, i, what, dbos_type_name((enum dbos_type)datum->type));
        return NULL;
    }
    return datum;
}

bool dbos_arg_is_null(struct dbos_call *call, size_t i) {
    return argument(call, i, DBOS_VALUE_NULL, "") == NULL;
}

int64_t dbos_arg_int(struct dbos_call *call, size_t i) {
    const struct dbos_datum *datum = argument(call, i, DBOS_VALUE_INT, "an integer");
    return datum == NULL ? 0 : datum->integer;
}

double dbos_arg_float(struct dbos_call *call, size_t i) {
    const struct dbos_datum *datum = argument(call, i, DBOS_VALUE_FLOAT, "floating-point");
    return datum == NULL ? 0.0 : datum->real;
}

const void *dbos_arg_bytes(struct dbos_call *call, size_t i, size_t *out_size) {
    const struct dbos_datum *datum = argument(call, i, DBOS_VALUE_BYTES, "bytes");
    if (out_size != NULL) {
        *out_size = datum == NULL ? 0 : datum->bytes.size_bytes;
    }
    return datum == NULL ? NULL : datum->bytes.data;
}

/* -- statements -----------------------------------------------------------------------------------
 */

static bool statement_exists(struct dbos_call *call, uint32_t statement) {
    if (failed(call)) {
        return false;
    }
    if (statement >= call->plans->count) {
        FAIL(call, DBOS_ERR_UNDEFINED_STATEMENT, "procedure \"%s\" has no statement %u",
             call->procedure->info->name, statement);
        return false;
    }
    return true;
}

/* Cast the values to the types that the plan expects. */
static bool bind(struct dbos_call *call, uint32_t statement, const struct dbos_value *values,
                 size_t count) {
    const enum dbos_type *types;
    uint32_t expected = dbos_plan_parameters(call->plans->plans[statement], &types);
    if (count != expected) {
        FAIL(call, DBOS_ERR_UNDEFINED_PARAMETER,
             "statement %u of procedure \"%s\" has %u parameters, %zu are given", statement,
             call->procedure->info->name, expected, count);
        return false;
    }
    for (uint32_t i = 0; i < expected; i++) {
        call->err = dbos_value_cast(&values[i], types[i], &call->parameters[i], call->info);
        if (failed(call)) {
            dbos_err_detail(call->info, "Parameter $%u of statement %u of procedure \"%s\".", i + 1,
                            statement, call->procedure->info->name);
            return false;
        }
    }
    return true;
}

int64_t dbos_execute_values(struct dbos_call *call, uint32_t statement,
                            const struct dbos_value *values, size_t count) {
    uint64_t rows = 0;
    if (!statement_exists(call, statement) || !bind(call, statement, values, count) ||
        dbos_call_execute(call, statement, call->parameters, (uint32_t)count, &rows) != DBOS_OK) {
        return -1;
    }
    return (int64_t)rows;
}

bool dbos_fetch(struct dbos_call *call, uint32_t statement) {
    if (!statement_exists(call, statement)) {
        return false;
    }
    struct dbos_call_statement *state = &call->statements[statement];
    if (!state->fetching) {
        state->fetching = true;
        state->at = state->first;
    } else if (state->at != NULL) {
        state->at = state->at->next;
    }
    return state->at != NULL;
}

static const struct dbos_datum *column_of(struct dbos_call *call, uint32_t statement, size_t column,
                                          enum dbos_value_kind kind, const char *what) {
    if (!statement_exists(call, statement)) {
        return NULL;
    }
    const struct dbos_call_row *row = call->statements[statement].at;
    const char *name = call->procedure->info->name;
    if (row == NULL) {
        FAIL(call, DBOS_ERR_INVALID_COLUMN_REFERENCE,
             "procedure \"%s\" reads a column of statement %u without a row", name, statement);
        return NULL;
    }
    if (column >= row->count) {
        FAIL(call, DBOS_ERR_INVALID_COLUMN_REFERENCE,
             "procedure \"%s\" reads column %zu of statement %u, which returns %u", name, column,
             statement, row->count);
        return NULL;
    }
    const struct dbos_datum *datum = &row->datums[column];
    if (datum->is_null) {
        return NULL;
    }
    if (kind != DBOS_VALUE_NULL && dbos_value_of(datum).kind != kind) {
        FAIL(call, DBOS_ERR_DATATYPE_MISMATCH,
             "procedure \"%s\" reads column %zu of statement %u as %s, but it is %s", name, column,
             statement, what, dbos_type_name((enum dbos_type)datum->type));
        return NULL;
    }
    return datum;
}

bool dbos_column_is_null(struct dbos_call *call, uint32_t statement, size_t column) {
    return column_of(call, statement, column, DBOS_VALUE_NULL, "") == NULL;
}

int64_t dbos_column_int(struct dbos_call *call, uint32_t statement, size_t column) {
    const struct dbos_datum *datum =
        column_of(call, statement, column, DBOS_VALUE_INT, "an integer");
    return datum == NULL ? 0 : datum->integer;
}

double dbos_column_float(struct dbos_call *call, uint32_t statement, size_t column) {
    const struct dbos_datum *datum =
        column_of(call, statement, column, DBOS_VALUE_FLOAT, "floating-point");
    return datum == NULL ? 0.0 : datum->real;
}

const void *dbos_column_bytes(struct dbos_call *call, uint32_t statement, size_t column,
                              size_t *out_size) {
    const struct dbos_datum *datum = column_of(call, statement, column, DBOS_VALUE_BYTES, "bytes");
    if (out_size != NULL) {
        *out_size = datum == NULL ? 0 : datum->bytes.size_bytes;
    }
    return datum == NULL ? NULL : datum->bytes.data;
}

/* -- outcome --------------------------------------------------------------------------------------
 */

/* A message that was cut must still be valid UTF-8: drop a character that lost its end. */
static void mend_text(char *text) {
    size_t length = strlen(text);
    size_t start = length;
    while (start > 0 && length - start < 4 && ((uint8_t)text[start - 1] & 0xC0) == 0x80) {
        start--;
    }
    if (start == 0) {
        return;
    }
    uint8_t lead = (uint8_t)text[start - 1];
    size_t needs = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
    if (needs > length - start + 1) {
        text[start - 1] = '\0';
    }
}

int dbos_abort(struct dbos_call *call, const char *format, ...) {
    if (!failed(call)) {
        va_list args;
        va_start(args, format);
        call->err = dbos_vfail(call->info, DBOS_ERR_RAISED, format, args);
        va_end(args);
        mend_text(call->info->message);
    }
    return DBOS_ABORTED;
}

int dbos_return_null(struct dbos_call *call) {
    call->value = DBOS_NULL;
    return DBOS_DONE;
}

int dbos_return_int(struct dbos_call *call, int64_t value) {
    call->value = DBOS_INT(value);
    return DBOS_DONE;
}

int dbos_return_float(struct dbos_call *call, double value) {
    call->value = DBOS_FLOAT(value);
    return DBOS_DONE;
}

int dbos_return_bytes(struct dbos_call *call, const void *data, size_t size) {
    if (failed(call)) {
        return DBOS_DONE;
    }
    if (size > DBOS_RESULT_BYTES_MAX) {
        FAIL(call, DBOS_ERR_LIMIT, "the result of procedure \"%s\" is over 50 MB",
             call->procedure->info->name);
        return DBOS_DONE;
    }
    /* The procedure's own memory ends when it returns. */
    char *copy = dbos_arena_copy(call->arena, size == 0 ? "" : data, size);
    if (copy == NULL) {
        FAIL(call, DBOS_ERR_NOMEM, "out of memory for a result");
        return DBOS_DONE;
    }
    call->value = DBOS_BYTES(copy, size);
    return DBOS_DONE;
}

/* -- surroundings ---------------------------------------------------------------------------------
 */

int64_t dbos_now_us(struct dbos_call *call) { return dbos_txn_now_us(call->run->txn); }

uint64_t dbos_random(struct dbos_call *call) { return dbos_txn_random(call->run->txn); }

const char *dbos_user(struct dbos_call *call) {
    return call->run->user == NULL ? "" : call->run->user;
}

void *dbos_alloc(struct dbos_call *call, size_t size) {
    if (failed(call)) {
        return NULL;
    }
    if (size > ALLOC_BYTES_MAX - call->allocated_bytes) {
        FAIL(call, DBOS_ERR_NOMEM, "procedure \"%s\" asks for more than 256 MB of memory",
             call->procedure->info->name);
        return NULL;
    }
    void *memory = dbos_arena_take(call->arena, size);
    if (memory == NULL) {
        FAIL(call, DBOS_ERR_NOMEM, "out of memory in procedure \"%s\"",
             call->procedure->info->name);
    } else {
        call->allocated_bytes += size;
    }
    return memory;
}

/* -- tasks ----------------------------------------------------------------------------------------
 */

int64_t dbos_task_open(struct dbos_call *call, const struct dbos_task *task) {
    int64_t id = -1;
    if (failed(call)) {
        return -1;
    }
    if (task == NULL || task->result_procedure == NULL ||
        (task->context == NULL && task->context_size > 0)) {
        FAIL(call, DBOS_ERR_INVALID_PARAMETER, "a task needs a result procedure and its context");
        return -1;
    }
    if (task->context_size > TASK_CONTEXT_MAX) {
        FAIL(call, DBOS_ERR_LIMIT, "the context of a task is over 64 KB");
        return -1;
    }
    call->err = dbos_outbox_open(call->run, task, &id, call->info);
    return failed(call) ? -1 : id;
}

int dbos_task_add(struct dbos_call *call, int64_t task_id, uint32_t piece, uint32_t count,
                  const void *payload, size_t size) {
    if (failed(call)) {
        return -1;
    }
    call->err = dbos_outbox_add(call->run, task_id, piece, count, payload, size, call->info);
    return failed(call) ? -1 : 0;
}

int64_t dbos_task_submit(struct dbos_call *call, const struct dbos_task *task, uint32_t count,
                         const void *payload, size_t size) {
    if (failed(call) || task == NULL) {
        return -1;
    }
    struct dbos_task one = *task;
    one.pieces = 1;
    int64_t id = dbos_task_open(call, &one);
    if (id < 0 || dbos_task_add(call, id, 0, count, payload, size) < 0) {
        return -1;
    }
    return id;
}

size_t dbos_result_pieces(struct dbos_call *call) {
    return call->task_result == NULL ? 0 : call->task_result->piece_count;
}

const void *dbos_result_piece(struct dbos_call *call, size_t piece, size_t *out_size,
                              uint32_t *out_count) {
    bool there = piece < dbos_result_pieces(call);
    const struct dbos_task_result_piece *from = there ? &call->task_result->pieces[piece] : NULL;
    if (out_size != NULL) {
        *out_size = there ? from->payload.size_bytes : 0;
    }
    if (out_count != NULL) {
        *out_count = there ? from->count : 0;
    }
    return there ? from->payload.data : NULL;
}

uint32_t dbos_result_exec_us(struct dbos_call *call) {
    return call->task_result == NULL ? 0 : call->task_result->exec_us;
}

uint32_t dbos_sdk_version(void) { return DBOS_SDK_VERSION; }
