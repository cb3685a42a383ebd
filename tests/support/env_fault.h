/* An environment whose disk fails: the real one, with every operation that changes the disk
 * counted, and the n-th of them made to fail, or to be the moment of a power cut.
 *
 * A power cut takes back a random choice of the 512-byte sectors that were written since their file
 * was last synced (each sector is whole: old or new), and sizes that were not synced, and ends the
 * process with ENV_FAULT_POWER_CUT. Names (create, rename, remove) are taken to last at once.
 *
 * Thread: any. Memory: malloc; it belongs to the test. */
#ifndef DBOS_TESTS_SUPPORT_ENV_FAULT_H
#define DBOS_TESTS_SUPPORT_ENV_FAULT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/env.h"

enum { ENV_FAULT_POWER_CUT = 99, ENV_FAULT_FILES = 256 };

enum env_fault_action {
    ENV_FAULT_NONE,
    ENV_FAULT_FAIL_ONCE,    /* the n-th operation fails, later ones succeed */
    ENV_FAULT_FAIL_FOREVER, /* the n-th and all later ones fail */
    ENV_FAULT_CUT,          /* power cut instead of the n-th operation */
    ENV_FAULT_KILL,         /* the process ends there, in the midst of a write; the disk goes on */
    ENV_FAULT_FULL,         /* no room from the n-th operation on that makes a file or makes one
                               longer (only these count), for full_us */
};

struct env_fault_sector;
struct env_fault_file {
    char path[512];
    uint64_t synced_bytes; /* size at the last sync */
};

struct env_fault {
    struct dbos_env env; /* give this to the program */
    struct dbos_env *base;
    struct dbos_env_ops ops;
    pthread_mutex_t lock;
    enum env_fault_action action;
    enum dbos_err error; /* that a failure ends with; 0 = DBOS_ERR_IO */
    int64_t countdown;   /* operations until it happens */
    uint64_t full_us;
    uint64_t full_until_ns; /* 0 = there has been room so far */
    uint64_t operations;    /* counted so far */
    uint64_t syncs;
    _Atomic uint32_t sync_delay_us;  /* each sync of a file takes so much longer */
    _Atomic uint32_t write_delay_us; /* each write, too */
    bool lose_all;                   /* a cut takes back everything that was not synced: no dice */
    bool has_failed;                 /* an operation was made to fail, in this thread first */
    pthread_t failed_in;
    struct dbos_rng rng;
    struct env_fault_file files[ENV_FAULT_FILES];
    uint32_t file_count;
    uint32_t file_of[1024];          /* by descriptor: index + 1 */
    struct env_fault_sector *newest; /* written and not synced */
};

void env_fault_init(struct env_fault *fault, uint64_t seed);
void env_fault_fini(struct env_fault *fault);
/* From now on the n-th operation (1 = the next). */
void env_fault_arm(struct env_fault *fault, enum env_fault_action action, int64_t n);
/* Take back what was not synced, by the dice or all of it, and end the process. The lock is held.
 */
void env_fault_cut(struct env_fault *fault);
/* Did this thread meet the first failure? What follows in it builds on something that is not there.
 */
bool env_fault_met_here(struct env_fault *fault);

#endif /* DBOS_TESTS_SUPPORT_ENV_FAULT_H */
