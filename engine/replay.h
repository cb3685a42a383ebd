/* `dbosctl replay`: every call that the log of a stopped node records runs again on what it had
 * read, and must read and write the same (replay_call.h says why that is what is tested).
 *
 *   for each number of partitions that the node has had:
 *     state at the beginning ─▶ record ─▶ run its call again, compare, undo
 *                                 └─────▶ apply what was recorded, and the next one
 *
 * A part of what a call sees depends on how many partitions there are (what it has in hand, in
 * which order a scan meets rows), so that a record counts in the pass with its own number of them.
 *
 * Thread: one. Memory: that of the node's tables, from the allocator given. */
#ifndef DBOS_ENGINE_REPLAY_H
#define DBOS_ENGINE_REPLAY_H

#include "engine/replay_call.h"

struct dbos_replay_options {
    struct dbos_env *env;
    const char *data_dir; /* borrowed */
    /* Told of each difference; borrowed for the call. */
    void (*differs)(void *arg, const struct dbos_replay_finding *finding);
    void *arg;
};

struct dbos_replay_facts {
    uint64_t after_position; /* of the snapshot that it began with; 0 = the log has all */
    uint64_t last_position;
    uint64_t records;
    uint32_t passes;
    uint64_t verdicts[DBOS_REPLAY_VERDICTS]; /* ELSEWHERE is always 0 */
    uint64_t same_aborted;                   /* of the SAME: calls that had given up */
};

/* What was found until an error is in *out. Errors: those of dbos_history_begin() and
 * dbos_history_read(), MODULE (a procedure of the log does not load), NOMEM. */
enum dbos_err dbos_replay(struct dbos_alloc *alloc, const struct dbos_replay_options *options,
                          struct dbos_replay_facts *out, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_REPLAY_H */
