/* The model test's procedures: each runs a list of operations that it gets as an argument.
 *
 *     FUNCTION model_one(a int, program bytea) RETURNS bigint    on the partition of a
 *     FUNCTION model_all(program bytea) RETURNS bigint           with all partitions in hand */
#include <dbos/procedure.h>
#include <stdio.h>

#include "tests/support/modules/model_ops.h"

static const char *const statements[] = {MODEL_STATEMENTS};
enum { STATEMENTS = sizeof statements / sizeof statements[0] };
_Static_assert(STATEMENTS == MODEL_PROCEDURE_TABLES * MODEL_KINDS, "one for each kind and table");

struct parameters {
    struct dbos_value values[8];
    size_t count;
    char text[MODEL_TEXT_BYTES];
};

static void add_parameter(struct parameters *p, const struct model_op *op, char letter) {
    struct dbos_value value = DBOS_NULL;
    switch (letter) {
    case 'a':
        value = DBOS_INT(op->a);
        break;
    case 'b':
        value = DBOS_INT(op->b);
        break;
    case 'x':
        value = DBOS_INT(op->x);
        break;
    case 'y':
        value = DBOS_INT(op->y);
        break;
    case 'z':
        value = DBOS_INT(op->z);
        break;
    default:
        if (op->s >= 0) {
            int size = snprintf(p->text, sizeof p->text, "s%d", (int)op->s);
            value = DBOS_BYTES(p->text, size);
        }
        break;
    }
    p->values[p->count++] = value;
}

static void add_parameters(struct parameters *p, const struct model_op *op) {
    for (const char *c = model_parameters(op->kind); *c != '\0'; c++) {
        if (*c != 'K') {
            add_parameter(p, op, *c);
            continue;
        }
        add_parameter(p, op, 'a');
        if (model_key_columns(op->table) == 2) {
            add_parameter(p, op, 'b');
        }
    }
}

static uint64_t hash_rows(struct dbos_call *call, uint32_t statement) {
    uint64_t sum = 0;
    while (dbos_fetch(call, statement)) {
        size_t size = 0;
        const char *s = dbos_column_is_null(call, statement, 4)
                            ? NULL
                            : dbos_column_bytes(call, statement, 4, &size);
        sum += model_row_hash(
            dbos_column_int(call, statement, 0), dbos_column_int(call, statement, 1),
            dbos_column_int(call, statement, 2), dbos_column_int(call, statement, 3), s, size);
    }
    return sum;
}

/* Negative: an error, the transaction is lost. */
static int64_t run_op(struct dbos_call *call, const struct model_op *op, uint64_t *value) {
    uint32_t statement = (uint32_t)(op->table * MODEL_KINDS + op->kind);
    struct parameters p = {.count = 0};
    add_parameters(&p, op);
    int64_t rows = dbos_execute_values(call, statement, p.values, p.count);
    if (rows >= 0) {
        bool reads = statements[statement][0] == 'S';
        *value = model_value_add(*value, rows, reads ? hash_rows(call, statement) : 0);
    }
    return rows;
}

static int run_program(struct dbos_call *call, size_t argument) {
    size_t size = 0;
    const uint8_t *program = dbos_arg_bytes(call, argument, &size);
    uint64_t value = 0;
    for (size_t at = 0; at + sizeof(struct model_op) <= size; at += sizeof(struct model_op)) {
        struct model_op op;
        memcpy(&op, program + at, sizeof op);
        if (op.kind == MODEL_ABORT) {
            return dbos_abort(call, "the program says so");
        }
        if (op.kind < 0 || op.kind > MODEL_ABORT || op.table < 0 ||
            op.table >= MODEL_PROCEDURE_TABLES) {
            return dbos_abort(call, "no operation %d on table %d", (int)op.kind, (int)op.table);
        }
        if (run_op(call, &op, &value) < 0) {
            return DBOS_ABORTED;
        }
    }
    return dbos_return_int(call, (int64_t)value);
}

static int model_one(struct dbos_call *call) { return run_program(call, 1); }
DBOS_PROCEDURE(model_one, .run = model_one, .statements = statements, .statement_count = STATEMENTS,
               .route = "items.a=$1");

static int model_all(struct dbos_call *call) { return run_program(call, 0); }
DBOS_PROCEDURE(model_all, .run = model_all, .statements = statements,
               .statement_count = STATEMENTS);
