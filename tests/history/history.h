/* What clients did and were told: operations that overlap in time, each one a transaction of steps.
 *
 * An operation begins when its request is about to be sent and returns when its whole reply has
 * come, both on one monotonic clock. Values that are appended, written or added to one object are
 * distinct and not 0. Objects are numbered from 0: lists, registers and sets each for themselves.
 *
 * An account of the bank is a register: its value is a tag, distinct for each transfer, and its
 * balance stands beside it. So a bank is ordered as strictly as any register.
 *
 * Thread: one for each history. Memory: malloc, freed by history_fini(). */
#ifndef DBOS_HISTORY_HISTORY_H
#define DBOS_HISTORY_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum history_action {
    HISTORY_APPEND,    /* a value to a list */
    HISTORY_READ_LIST, /* all of it, in its order */
    HISTORY_WRITE,     /* a value into a register */
    HISTORY_READ,      /* a register; 0: nothing was written yet */
    HISTORY_ADD,       /* an element to a set */
    HISTORY_READ_SET,  /* all of it, sorted */
};
enum history_space { HISTORY_LISTS, HISTORY_REGISTERS, HISTORY_SETS, HISTORY_SPACES };

enum history_kind {
    HISTORY_LIST_TXN,
    HISTORY_REGISTER_TXN,
    HISTORY_TRANSFER, /* reads and writes two accounts */
    HISTORY_SNAPSHOT, /* reads all accounts */
    HISTORY_SET_TXN,
    HISTORY_MIXED,
    HISTORY_KINDS,
};

enum history_outcome {
    HISTORY_OK,
    HISTORY_FAILED,  /* it definitely has no effect */
    HISTORY_UNKNOWN, /* it took effect before return_ns, or never; what it read is not known */
    HISTORY_OUTCOMES,
};

#define HISTORY_BALANCE_UNKNOWN INT64_MIN
#define HISTORY_NEVER           UINT64_MAX /* return_ns of what may take effect at any later time */

struct history_step {
    uint8_t action;  /* HISTORY_APPEND … */
    uint32_t object; /* of the action's space */
    uint32_t count;  /* READ_LIST, READ_SET: elements read */
    int64_t value;   /* the others: what was appended, written, read, added */
    union {
        uint64_t first;  /* READ_LIST, READ_SET: the first of them in history.elements */
        int64_t balance; /* READ, WRITE of an account; 0 for a plain register */
    };
};

struct history_op {
    uint8_t kind;
    uint8_t outcome;
    uint32_t process;
    uint32_t step_count;
    uint64_t first_step; /* in history.steps */
    uint64_t invoke_ns, return_ns;
};

struct history {
    struct history_op *ops;
    struct history_step *steps;
    int64_t *elements;
    size_t op_count, step_count, element_count;
    size_t op_max, step_max, element_max;
    /* The bank: what every snapshot has to add up to, and of how many accounts. */
    int64_t total;
    uint32_t account_count;
};

void history_init(struct history *h);
void history_fini(struct history *h);

/* Begin an operation of unknown outcome that returns never; its number. Its steps follow it. */
size_t history_begin(struct history *h, enum history_kind kind, uint32_t process,
                     uint64_t invoke_ns);
/* A step of the operation that was begun last. */
void history_add_step(struct history *h, const struct history_step *step);
/* What the reading step saw; elements of a set are sorted here. */
void history_set_read(struct history *h, size_t step, const int64_t *elements, uint32_t count);
/* `from` behind what `h` has. */
void history_add_all(struct history *h, const struct history *from);

enum history_space history_space_of(enum history_action action);
bool history_is_write(enum history_action action);
const char *history_kind_name(enum history_kind kind);

/* One line: number, process, times, outcome, steps; long reads are shortened. */
void history_print_op(const struct history *h, size_t op, FILE *out);
/* The whole history as lines of EDN, an invocation and a completion for each operation in order of
 * time, as Jepsen's checkers read them. */
void history_write_edn(const struct history *h, FILE *out);

#endif /* DBOS_HISTORY_HISTORY_H */
