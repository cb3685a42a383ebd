/* A make-believe database that runs random transactions one after the other, with many clients
 * whose operations overlap in time: its histories are strictly serialisable. Asked to, it does one
 * thing wrong, once, at a place where it can be seen from outside: then they are not.
 *
 * Thread: one. Memory: malloc, freed before it returns; the history is the caller's. */
#ifndef DBOS_HISTORY_SIMULATE_H
#define DBOS_HISTORY_SIMULATE_H

#include "tests/history/history.h"

enum simulate_bug {
    SIMULATE_NO_BUG,
    SIMULATE_DIRTY_READ, /* of a list, a register or a set that an aborted transaction wrote */
    SIMULATE_ABORT_KEPT, /* an append of an aborted transaction stays */
    SIMULATE_INTERMEDIATE_READ, /* between two appends of one transaction */
    SIMULATE_LOST_UPDATE,       /* of a register: read before, written after another's update */
    SIMULATE_LOST_TRANSFER,     /* the same of an account */
    SIMULATE_LOST_APPEND,       /* acknowledged, then gone */
    SIMULATE_LOST_ADD,          /* the same of a set */
    SIMULATE_LOST_TAIL,         /* the last transactions are gone, as after a crash without sync */
    SIMULATE_STALE_LIST,        /* a read as of before a write that had returned */
    SIMULATE_STALE_REGISTER,    /* the same of a register */
    SIMULATE_STALE_SET,         /* the same of a set */
    SIMULATE_STALE_ACCOUNT,     /* a snapshot with one account as it was before */
    SIMULATE_DUPLICATE_APPEND,  /* done twice */
    SIMULATE_REORDERED_APPEND,  /* two that did not overlap change places */
    SIMULATE_READ_SKEW,         /* one half of a transaction seen, the other not */
    SIMULATE_WRITE_SKEW,        /* two read both registers, each writes one */
    SIMULATE_LONG_FORK,         /* two readers see two additions in opposite orders */
    SIMULATE_TORN_UNKNOWN,      /* of a request under way at a kill, one half remains */
    SIMULATE_BUGS,
};

struct simulate_options {
    uint64_t seed;
    uint32_t operations;
    uint32_t clients;      /* at once */
    enum simulate_bug bug; /* done at the first chance after operation `bug_at` */
    uint32_t bug_at;
};

/* Run, and read every object at the end. True: the bug was done (or none was asked for). */
bool simulate_run(const struct simulate_options *options, struct history *out);

const char *simulate_bug_name(enum simulate_bug bug);

#endif /* DBOS_HISTORY_SIMULATE_H */
