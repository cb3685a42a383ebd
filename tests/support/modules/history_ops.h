/* What the history test and its procedures share: steps of a transaction, and what it answers.
 *
 * A program is an array of steps, handed to history_ops.c as a bytea. The answer is a bytea, too:
 * for each step that reads, in their order, a count of numbers and then the numbers (int64,
 * native).
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_MODULES_HISTORY_OPS_H
#define DBOS_TESTS_SUPPORT_MODULES_HISTORY_OPS_H

#include <stdint.h>

enum {
    HISTORY_OP_APPEND,    /* value to the list's body; the list is made when it is not there */
    HISTORY_OP_READ_LIST, /* → its values */
    HISTORY_OP_WRITE,     /* value into the register */
    HISTORY_OP_READ,      /* → the register's value */
    HISTORY_OP_ADD,       /* value to the set */
    HISTORY_OP_READ_SET,  /* → its elements */
    HISTORY_OP_CHANGE,    /* the account's balance by amount, not below 0; its tag becomes value */
    HISTORY_OP_READ_ACCOUNT, /* → tag, balance */
    HISTORY_OP_ABORT,
    HISTORY_OP_KINDS,
};

/* As handed over: native order, the module runs on the machine that sent it. */
struct history_op_step {
    int32_t kind; /* HISTORY_OP_APPEND … */
    int32_t part; /* the rows' partitioning column */
    int64_t object;
    int64_t value;
    int64_t amount;
};
_Static_assert(sizeof(struct history_op_step) == 32, "sent format");

#endif /* DBOS_TESTS_SUPPORT_MODULES_HISTORY_OPS_H */
