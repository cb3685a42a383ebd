/* One seed: a database that lives several times, the clients that work on it, and the judge who
 * compares all that they were told, and all that the log holds, with the model.
 *
 * Thread: coroutines of tests/sim/sched.h. Memory: static; one seed in a process. */
#ifndef DBOS_TESTS_SIM_WORLD_H
#define DBOS_TESTS_SIM_WORLD_H

#include "tests/sim/disk.h"

struct world_facts {
    uint64_t seed;
    uint32_t operations; /* that clients have begun */
    uint32_t acked;
    uint32_t lives;
    uint32_t crashes;   /* of the machine or the process, with a recovery behind it */
    uint32_t records;   /* in the log at the end */
    uint32_t snapshots; /* lives that began with one */
    uint64_t trace;
    uint64_t fired[SIM_FAULTS];
};

/* Once, before the first. */
void world_prepare(void);
/* Ends the process, with what is wrong on standard error, where something is. `is_loud`: what
 * happens goes there, too. */
void world_run(uint64_t seed, uint32_t operations, bool is_loud, struct world_facts *out);

#endif /* DBOS_TESTS_SIM_WORLD_H */
