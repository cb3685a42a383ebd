#include "engine/watchdog.h"

#include "procs/guard.h"

/* A call that is over sooner is not looked at. One that is late and was in the engine's own code is
 * met in the module's soon. */
enum { LOOK_US = 20000, LOOK_AGAIN_US = 1000 };

static void *watchdog_main(void *arg) {
    struct dbos_watchdog *watchdog = arg;
    (void)pthread_setname_np(pthread_self(), "watchdog");
    while (!atomic_load(&watchdog->is_stopping)) {
        bool is_late = dbos_guards_look();
        watchdog->env->ops->sleep_us(watchdog->env, is_late ? LOOK_AGAIN_US : LOOK_US);
    }
    return NULL;
}

enum dbos_err dbos_watchdog_start(struct dbos_watchdog *watchdog, struct dbos_env *env,
                                  struct dbos_errinfo *info) {
    watchdog->env = env;
    atomic_store(&watchdog->is_stopping, false);
    if (pthread_create(&watchdog->thread, NULL, watchdog_main, watchdog) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the watchdog's thread");
    }
    watchdog->is_running = true;
    return DBOS_OK;
}

void dbos_watchdog_stop(struct dbos_watchdog *watchdog) {
    if (watchdog->is_running) {
        atomic_store(&watchdog->is_stopping, true);
        (void)pthread_join(watchdog->thread, NULL);
        watchdog->is_running = false;
    }
}
