/* One scenario, once, in the calling process: with a fault or without, against what was seen
 * without.
 *
 * Thread: one. Memory: what two processes share is the caller's. */
#ifndef DBOS_TESTS_FAULTS_RUN_H
#define DBOS_TESTS_FAULTS_RUN_H

#include <stddef.h>
#include <sys/types.h>

#include "tests/faults/scenario.h"

enum fault_kind { FAULT_NOTHING, FAULT_ALLOC, FAULT_EIO, FAULT_ENOSPC, FAULT_KINDS };
extern const char *const fault_kind_names[FAULT_KINDS];

enum { FAULT_DUMP_BYTES = 65536 };

/* Shared by the process that runs it and the one that waits. */
struct fault_run {
    /* Of the run without a fault. */
    uint32_t statement_count;
    int64_t takes;
    uint64_t operations;
    uint64_t answers[FAULT_STATEMENTS_MAX];                 /* hashes */
    char dumps[FAULT_STATEMENTS_MAX + 1][FAULT_DUMP_BYTES]; /* before the first, after each */
    /* Of this run. */
    bool has_fired;
    bool was_refused; /* a statement, or the start, ended with an error */
    bool was_cut;     /* the session ended */
    uint32_t acknowledged;
    uint32_t submitted;
    char message[2048]; /* why it is a failure */
    char now[FAULT_DUMP_BYTES];
};

/* Start, set up, stop. */
void fault_set_up(const struct fault_scenario *scenario, const char *dir, struct fault_run *run);
/* `kind` NOTHING: fills the first part. Ends the process with status 1, after a message, when
 * something is wrong. */
void fault_run_one(const struct fault_scenario *scenario, enum fault_kind kind, int64_t n,
                   const char *dir, struct fault_run *run);
/* The process has ended itself because of its log: start again on what is there, which must be what
 * was acknowledged, perhaps what was submitted, and go on to the end. */
void fault_go_on(const struct fault_scenario *scenario, const char *dir, struct fault_run *run);

#endif /* DBOS_TESTS_FAULTS_RUN_H */
