/* One scenario, once, in the calling process: with a fault or without, against what was seen
 * without.
 *
 * Thread: one. Memory: what two processes share is the caller's. */
#ifndef DBOS_TESTS_FAULTS_RUN_H
#define DBOS_TESTS_FAULTS_RUN_H

#include <stddef.h>
#include <sys/types.h>

#include "tests/faults/scenario.h"

enum fault_kind {
    FAULT_NOTHING,
    FAULT_ALLOC,  /* a take of memory finds none */
    FAULT_THREAD, /* a thread can not be started */
    FAULT_EIO,    /* an operation that changes the disk */
    FAULT_ENOSPC, /* the same: there is no room */
    FAULT_FULL,   /* … and none for any that needs some, for a while */
    FAULT_KINDS,
};
extern const char *const fault_kind_names[FAULT_KINDS];

enum { FAULT_DUMP_BYTES = 65536 };

/* Of the run without a fault; shared by all. */
struct fault_truth {
    uint64_t answers[FAULT_STATEMENTS_MAX];                 /* hashes */
    char dumps[FAULT_STATEMENTS_MAX + 1][FAULT_DUMP_BYTES]; /* before the first, after each */
};

/* Shared by the process that runs it and the one that waits. */
struct fault_run {
    bool has_fired;
    bool was_refused; /* a statement, or the start, ended with an error */
    bool was_cut;     /* the session ended */
    uint32_t acknowledged;
    uint32_t submitted;
    char message[2048]; /* why it is a failure */
    char now[FAULT_DUMP_BYTES];
};

struct fault_task {
    const struct fault_scenario *scenario;
    const char *dir;
    struct fault_truth *truth;
    struct fault_run *run;
    enum fault_kind kind;
    int64_t n;
};

/* Each ends the process with status 1, after a message, when something is wrong. */

/* Start, set up, stop. */
void fault_set_up(const struct fault_task *task);
/* `kind` NOTHING fills in the truth. */
void fault_run_one(const struct fault_task *task);
/* The process has ended itself because of its log: start again on what is there, which must be what
 * was acknowledged, perhaps what was submitted, and go on to the end. */
void fault_go_on(const struct fault_task *task);

#endif /* DBOS_TESTS_FAULTS_RUN_H */
