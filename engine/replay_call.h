/* One recorded call, run again in the state that it met.
 *
 * Why that is the same as serving it the recorded reads: a call sees what is committed on the
 * partitions that it has in hand, and nothing else, and everything that was committed there before
 * it has a lower position. So a store to which the records before it were applied, serially, holds
 * for each row the version that the call met. The record says which rows, keys and ranges that
 * were; what the call asks for now is captured again by the same code and compared with it, and the
 * versions that it ended (position and bytes) stand in its writes. A read that was not recorded, or
 * of another row, shows as a difference, whatever came of it.
 *
 * It is given what the record holds: procedure and version, arguments, user, start time (now()),
 * seed, partition. Nothing remains of it: the caller applies the recorded writes.
 *
 * Thread: one; the store is its own.
 * Memory: from the allocator given at open; grows with the sessions that the log names. */
#ifndef DBOS_ENGINE_REPLAY_CALL_H
#define DBOS_ENGINE_REPLAY_CALL_H

#include "engine/replay_compare.h"
#include "procs/procedure.h"

struct dbos_replayer;

struct dbos_replayer_options {
    struct dbos_env *env;
    struct dbos_store *store; /* with as many partitions as the node had */
    struct dbos_log *log;     /* for large values */
    /* The node may have begun with a snapshot, or this store has: a scan of a table then meets its
     * rows in another order, which no index gives and a snapshot does not keep. */
    bool has_other_order;
};
/* Loads the procedures that the store has. Errors: NOMEM, MODULE. */
enum dbos_err dbos_replayer_open(struct dbos_alloc *alloc,
                                 const struct dbos_replayer_options *options,
                                 struct dbos_replayer **out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_replayer_close(struct dbos_replayer *replayer); /* NULL is allowed */

enum dbos_replay_verdict {
    DBOS_REPLAY_SAME,
    DBOS_REPLAY_DIFFERENT,
    /* Not run again: */
    DBOS_REPLAY_ELSEWHERE,   /* the node had another number of partitions then */
    DBOS_REPLAY_DEFINITIONS, /* DDL */
    DBOS_REPLAY_STATEMENTS,  /* the record names no procedure: SQL, or several statements */
    DBOS_REPLAY_TASK_RESULT, /* what the worker answered is not in the record */
    DBOS_REPLAY_KEPT_REPLY,  /* answered by an idempotency key: no procedure ran */
    DBOS_REPLAY_CUT_SHORT,   /* ended from outside: cancel, time limit, memory, disk */
    /* Run again, and different, but something was not known that may be the reason: */
    DBOS_REPLAY_NO_CALLER, /* who called: the session began in a part of the log that is gone */
    DBOS_REPLAY_ROW_ORDER, /* the order of rows in a scan, where has_other_order is */
    DBOS_REPLAY_VERDICTS,
};
struct dbos_replay_finding {
    enum dbos_replay_verdict verdict;
    struct dbos_record_head head;   /* its `arguments` are gone */
    const char *procedure;          /* name; borrowed until the next record is applied */
    struct dbos_replay_texts texts; /* DIFFERENT */
};
/* The record that comes next; the store is as before afterwards. Errors: CORRUPT, NOMEM. */
enum dbos_err dbos_replayer_check(struct dbos_replayer *replayer, const uint8_t *record,
                                  size_t size_bytes, struct dbos_replay_finding *out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
/* A record with definitions was applied to the store. Errors: those of dbos_procs_follow(). */
enum dbos_err dbos_replayer_redefined(struct dbos_replayer *replayer,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_REPLAY_CALL_H */
