/* One episode of the model test: a node, its clients, the oracle beside them, and which position in
 * the log each of the oracle's transactions has.
 *
 * Thread: one. Memory: from the episode's allocator. */
#ifndef DBOS_TESTS_MODEL_EPISODE_H
#define DBOS_TESTS_MODEL_EPISODE_H

#include <libpq-fe.h>

#include "tests/model/program.h"
#include "tests/support/node.h"

enum { EPISODE_PATH_BYTES = 320, EPISODE_TS_BYTES = 40 };

struct episode_position {
    uint64_t position;
    char ts[EPISODE_TS_BYTES];        /* of the commit, as the archive prints it */
    char before_ts[EPISODE_TS_BYTES]; /* a microsecond earlier */
};

struct episode {
    const char *bin;
    uint64_t seed;
    uint32_t transactions; /* to run */
    struct dbos_alloc alloc;
    struct dbos_env *env;
    struct dbos_rng rng;
    char dir[EPISODE_PATH_BYTES - 64];
    char data[EPISODE_PATH_BYTES];
    char log[EPISODE_PATH_BYTES];
    pid_t node;
    int port;
    PGconn *users[PROGRAM_USERS];
    PGconn *setup; /* DDL, and the archive's questions */
    struct oracle oracle;
    bool later_exists;
    int32_t markers; /* drawn so far */
    /* What prov.txn says: one for each of the oracle's transactions of which it was asked. */
    struct episode_position *positions;
    uint32_t position_count, position_capacity;
    /* The database's number and the table of each of the oracle's blocks; 0 = not learned yet. */
    uint64_t *block_ids;
    uint8_t *block_tables;
    uint32_t block_capacity;
    uint64_t last_position;  /* of all that prov.txn has shown */
    uint64_t later_position; /* of the creation of MODEL_LATER */
    /* For the summary. */
    uint32_t kills, groups, aborted, recorded;
    uint64_t compared; /* lines */
    uint64_t replayed; /* calls */
    double check_s;
};

/* Print what went wrong and the command that repeats it; end the node and the program. */
_Noreturn void episode_fail(const struct episode *e, const char *format, ...) DBOS_PRINTF(2, 3);

/* A query of the archive or the set-up's: its rows, or the end of the test. */
PGresult *episode_ask(struct episode *e, const char *sql);

/* Learn the positions of transactions since the last call. `leftover[u]` (may be NULL): positions
 * of user u that belong to none of the oracle's transactions, at most one each; 0 = none. Without
 * `leftover` there must be none. */
void episode_learn_positions(struct episode *e, uint64_t *leftover);

/* The whole of it: set up, run, kill, compare, tear down. */
void episode_run(struct episode *e);

/* check.c: compare every provenance function with the oracle, `samples` arguments each. */
void check_provenance(struct episode *e, uint32_t samples);

#endif /* DBOS_TESTS_MODEL_EPISODE_H */
