/* Looks now and then whether a procedure runs longer than it may (procs/guard.h).
 *
 * Thread: one of its own; start and stop by the engine's owner. Memory: none. */
#ifndef DBOS_ENGINE_WATCHDOG_H
#define DBOS_ENGINE_WATCHDOG_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/env.h"

struct dbos_watchdog {
    struct dbos_env *env;
    pthread_t thread;
    bool is_running;
    _Atomic bool is_stopping;
};

/* Errors: NOMEM. */
enum dbos_err dbos_watchdog_start(struct dbos_watchdog *watchdog, struct dbos_env *env,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_watchdog_stop(struct dbos_watchdog *watchdog); /* one that was not started, too */

#endif /* DBOS_ENGINE_WATCHDOG_H */
