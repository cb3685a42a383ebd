/* What the parts of the checker share.
 *
 * Thread: one. Memory: malloc, freed by checker_run(). */
#ifndef DBOS_HISTORY_CHECKER_INTERNAL_H
#define DBOS_HISTORY_CHECKER_INTERNAL_H

#include "tests/history/checker.h"

#define CHECKER_NONE UINT32_MAX

enum {
    CHECKER_EXTERNAL =
        1,            /* a read of what others wrote: the transaction's first step on the object */
    CHECKER_LAST = 2, /* a write that no later one of its transaction on the object follows */
};

/* Steps of one object, in the order of the history, so that those of a transaction are together. */
struct checker_object {
    const uint32_t *steps;
    uint32_t count;
};

/* Values of the writes to one object, sorted, to find who wrote what was read. */
struct checker_value {
    int64_t value;
    uint32_t step;
};
struct checker_values {
    struct checker_value *items;
    uint32_t count;
};

struct checker {
    const struct history *h;
    struct checker_report *report;
    FILE *out;
    uint32_t said[CHECKER_ANOMALIES]; /* explained so far */
    struct graph graph;
    uint32_t *step_op;   /* the transaction of each step */
    uint8_t *step_flags; /* CHECKER_EXTERNAL … */
    bool *is_committed;  /* transactions that took effect: acknowledged, or seen */
    /* Steps by object. Objects of space s are numbered from object_base[s] on. */
    uint32_t object_base[HISTORY_SPACES + 1];
    uint32_t *steps_by_object;
    uint32_t *object_first;
    uint32_t *longest; /* of each list: the step of the longest read; CHECKER_NONE: never read */
};

/* Zeroed memory for `count` items, and one more; to be freed. */
void *checker_take(size_t count, size_t item_bytes);

/* Count an anomaly, and explain it while there are few. Transactions may be CHECKER_NONE. */
void checker_say(struct checker *c, enum checker_anomaly anomaly, uint32_t op, uint32_t other,
                 const char *format, ...) __attribute__((format(printf, 5, 6)));

/* The steps of object `object` (numbered over all spaces). */
struct checker_object checker_object(const struct checker *c, uint32_t object);
/* To be freed: values.items. */
struct checker_values checker_values(const struct checker *c, struct checker_object object);
/* Its place in the values, or CHECKER_NONE. */
uint32_t checker_find(const struct checker_values *values, int64_t value);
/* Who wrote what the reading step saw? Says a phantom, and who read of a failed transaction; else
 * notes that the writer took effect. */
void checker_observe(struct checker *c, const struct checker_values *values, uint32_t step,
                     int64_t value);
/* Did the step of an acknowledged transaction read? */
bool checker_is_read(const struct checker *c, uint32_t step);

/* First what was seen of each object, then, when it is known who took effect, its edges. */
void checker_observe_list(struct checker *c, uint32_t object);
void checker_observe_register(struct checker *c, uint32_t object);
void checker_observe_set(struct checker *c, uint32_t object);
void checker_link_list(struct checker *c, uint32_t object);
void checker_link_register(struct checker *c, uint32_t object);
void checker_link_set(struct checker *c, uint32_t object);

#endif /* DBOS_HISTORY_CHECKER_INTERNAL_H */
