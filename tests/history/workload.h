/* Which transactions the history test's clients run, as programs of history_ops.c and as SQL, and
 * how they and their answers are written into a history.
 *
 * Rows belong to one of WORKLOAD_PARTS parts, which the tables are partitioned by; object n of any
 * kind is one of part n % WORKLOAD_PARTS. Lists and sets are in use until they have about
 * WORKLOAD_ELEMENTS_MAX elements, so that reads stay short.
 *
 * Thread: any (the window of objects in use is atomic). Memory: none. */
#ifndef DBOS_HISTORY_WORKLOAD_H
#define DBOS_HISTORY_WORKLOAD_H

#include <stdatomic.h>

#include "base/env.h"
#include "tests/history/history.h"
#include "tests/support/modules/history_ops.h"

enum {
    WORKLOAD_PARTS = 8,
    WORKLOAD_LISTS = 4, /* of each part, in use */
    WORKLOAD_SETS = 2,
    WORKLOAD_REGISTERS = 4,
    WORKLOAD_ACCOUNTS = 4,
    WORKLOAD_ELEMENTS_MAX = 100,
    WORKLOAD_BALANCE = 1000,
    WORKLOAD_STEPS_MAX = WORKLOAD_PARTS * WORKLOAD_ACCOUNTS,
    WORKLOAD_SQL_BYTES = 4096,
    /* Accounts are registers behind the plain ones. */
    WORKLOAD_FIRST_ACCOUNT = WORKLOAD_PARTS * WORKLOAD_REGISTERS,
};

struct workload_slot {
    _Atomic uint32_t object;
    _Atomic uint32_t writes;
};

struct workload {
    struct workload_slot lists[WORKLOAD_PARTS][WORKLOAD_LISTS];
    struct workload_slot sets[WORKLOAD_PARTS][WORKLOAD_SETS];
    _Atomic uint32_t next_list[WORKLOAD_PARTS]; /* object numbers of the part */
    _Atomic uint32_t next_set[WORKLOAD_PARTS];
    _Atomic int64_t next_value;
};

struct workload_op {
    enum history_kind kind;
    int32_t part; /* of all steps; -1: of several parts */
    uint32_t count;
    struct history_op_step steps[WORKLOAD_STEPS_MAX];
};

void workload_init(struct workload *w);

/* A random transaction, to be run as a program. */
void workload_pick(struct workload *w, struct dbos_rng *rng, struct workload_op *out);
/* A random transaction that can be said in SQL. */
void workload_pick_sql(struct workload *w, struct dbos_rng *rng, struct workload_op *out);
/* Read 0, 1, … of all that there is; false behind the last. */
bool workload_final_read(const struct workload *w, uint32_t number, struct workload_op *out);

/* Statements for one message; each that reads gives one result. */
void workload_sql(const struct workload_op *op, char out[WORKLOAD_SQL_BYTES]);
/* CREATE TABLE … and the accounts and registers; statements, ended by NULL. */
const char *const *workload_schema(void);
/* Statement `number` that fills the tables; false behind the last. */
bool workload_fill(uint32_t number, char out[WORKLOAD_SQL_BYTES]);

/* The invocation; its number. */
size_t workload_begin(struct history *h, const struct workload_op *op, uint32_t process,
                      uint64_t now_ns);
/* What operation `number` was answered: as history_ops.c answers. False: that is no answer to it.
 */
bool workload_answer(struct history *h, size_t number, const struct workload_op *op,
                     const int64_t *answer, size_t count);

#endif /* DBOS_HISTORY_WORKLOAD_H */
