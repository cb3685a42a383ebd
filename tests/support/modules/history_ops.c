/* The history test's procedures: each runs the steps that it gets, as one transaction.
 *
 *     FUNCTION history_one(part bigint, program bytea) RETURNS bytea    on the partition of part
 *     FUNCTION history_all(program bytea) RETURNS bytea                 with all partitions in hand
 */
#include <dbos/procedure.h>
#include <string.h>

#include "tests/support/modules/history_ops.h"

enum {
    LIST_APPEND,
    LIST_MAKE,
    LIST_READ,
    REGISTER_WRITE,
    REGISTER_READ,
    SET_ADD,
    SET_READ,
    ACCOUNT_CHANGE,
    ACCOUNT_READ,
    STATEMENTS
};
static const char *const statements[STATEMENTS] = {
    [LIST_APPEND] = "UPDATE lists SET body = body || $3 WHERE part = $1 AND id = $2",
    [LIST_MAKE] = "INSERT INTO lists (part, id, body) VALUES ($1, $2, $3)",
    [LIST_READ] = "SELECT body FROM lists WHERE part = $1 AND id = $2",
    [REGISTER_WRITE] = "UPDATE registers SET value = $3 WHERE part = $1 AND id = $2",
    [REGISTER_READ] = "SELECT value FROM registers WHERE part = $1 AND id = $2",
    [SET_ADD] = "INSERT INTO sets (part, id, element) VALUES ($1, $2, $3)",
    [SET_READ] = "SELECT element FROM sets WHERE part = $1 AND id = $2",
    [ACCOUNT_CHANGE] = ("UPDATE accounts SET tag = $3, balance = balance + $4 "
                        "WHERE part = $1 AND id = $2 RETURNING balance"),
    [ACCOUNT_READ] = "SELECT tag, balance FROM accounts WHERE part = $1 AND id = $2",
};

enum { ANSWER_MAX = 4096 }; /* numbers */

struct answer {
    struct dbos_call *call;
    int64_t *numbers;
    size_t count;
};

static void answer_number(struct answer *a, int64_t number) {
    if (a->count < ANSWER_MAX) {
        a->numbers[a->count++] = number;
    }
}

#define KEY(op) DBOS_INT((op)->part), DBOS_INT((op)->object)

static void append(struct answer *a, const struct history_op_step *op) {
    struct dbos_value value = DBOS_BYTES(&op->value, sizeof op->value);
    if (dbos_execute(a->call, LIST_APPEND, KEY(op), value) == 0) {
        dbos_execute(a->call, LIST_MAKE, KEY(op), value);
    }
}

static void read_list(struct answer *a, const struct history_op_step *op) {
    size_t size = 0;
    const uint8_t *body = NULL;
    dbos_execute(a->call, LIST_READ, KEY(op));
    if (dbos_fetch(a->call, LIST_READ)) {
        body = dbos_column_bytes(a->call, LIST_READ, 0, &size);
    }
    answer_number(a, (int64_t)(size / sizeof(int64_t)));
    for (size_t at = 0; at + sizeof(int64_t) <= size; at += sizeof(int64_t)) {
        int64_t number = 0;
        memcpy(&number, body + at, sizeof number);
        answer_number(a, number);
    }
}

/* Columns of the one row; zeros where there is none. */
static void read_row(struct answer *a, const struct history_op_step *op, uint32_t statement,
                     size_t columns) {
    dbos_execute(a->call, statement, KEY(op));
    bool is_there = dbos_fetch(a->call, statement);
    answer_number(a, (int64_t)columns);
    for (size_t i = 0; i < columns; i++) {
        answer_number(a, is_there ? dbos_column_int(a->call, statement, i) : 0);
    }
}

static void read_set(struct answer *a, const struct history_op_step *op) {
    size_t start = a->count;
    dbos_execute(a->call, SET_READ, KEY(op));
    answer_number(a, 0);
    while (dbos_fetch(a->call, SET_READ)) {
        answer_number(a, dbos_column_int(a->call, SET_READ, 0));
    }
    a->numbers[start] = (int64_t)(a->count - start - 1);
}

static int change(struct answer *a, const struct history_op_step *op) {
    dbos_execute(a->call, ACCOUNT_CHANGE, KEY(op), DBOS_INT(op->value), DBOS_INT(op->amount));
    if (!dbos_fetch(a->call, ACCOUNT_CHANGE) || dbos_column_int(a->call, ACCOUNT_CHANGE, 0) < 0) {
        return dbos_abort(a->call, "account %lld has not so much", (long long)op->object);
    }
    return DBOS_DONE;
}

static int run_step(struct answer *a, const struct history_op_step *op) {
    switch (op->kind) {
    case HISTORY_OP_APPEND:
        append(a, op);
        return DBOS_DONE;
    case HISTORY_OP_READ_LIST:
        read_list(a, op);
        return DBOS_DONE;
    case HISTORY_OP_WRITE:
        dbos_execute(a->call, REGISTER_WRITE, KEY(op), DBOS_INT(op->value));
        return DBOS_DONE;
    case HISTORY_OP_READ:
        read_row(a, op, REGISTER_READ, 1);
        return DBOS_DONE;
    case HISTORY_OP_ADD:
        dbos_execute(a->call, SET_ADD, KEY(op), DBOS_INT(op->value));
        return DBOS_DONE;
    case HISTORY_OP_READ_SET:
        read_set(a, op);
        return DBOS_DONE;
    case HISTORY_OP_READ_ACCOUNT:
        read_row(a, op, ACCOUNT_READ, 2);
        return DBOS_DONE;
    case HISTORY_OP_CHANGE:
        return change(a, op);
    default:
        return dbos_abort(a->call, "the program says so");
    }
}

static int run_program(struct dbos_call *call, size_t argument) {
    size_t size = 0;
    const uint8_t *program = dbos_arg_bytes(call, argument, &size);
    struct answer a = {.call = call, .numbers = dbos_alloc(call, ANSWER_MAX * sizeof(int64_t))};
    if (a.numbers == NULL) {
        return DBOS_ABORTED;
    }
    for (size_t at = 0; at + sizeof(struct history_op_step) <= size;
         at += sizeof(struct history_op_step)) {
        struct history_op_step op;
        memcpy(&op, program + at, sizeof op);
        if (run_step(&a, &op) != DBOS_DONE) {
            return DBOS_ABORTED;
        }
    }
    if (a.count == ANSWER_MAX) {
        return dbos_abort(call, "the answer is too long");
    }
    return dbos_return_bytes(call, a.numbers, a.count * sizeof(int64_t));
}

static int history_one(struct dbos_call *call) { return run_program(call, 1); }
DBOS_PROCEDURE(history_one, .run = history_one, .statements = statements,
               .statement_count = STATEMENTS, .route = "lists.part=$1");

static int history_all(struct dbos_call *call) { return run_program(call, 0); }
DBOS_PROCEDURE(history_all, .run = history_all, .statements = statements,
               .statement_count = STATEMENTS);
