#include "tools/archiver_pace.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

enum {
    NICENESS = 10,
    /* linux/ioprio.h: class 2 is best effort, its levels go from 0 to 7 (the least). Not class 3
     * (idle): a write that waits in it may hold what the log's writes wait for. */
    IOPRIO_PROCESS = 1,
    IOPRIO_BEST_EFFORT = 2 << 13,
    IOPRIO_LEVEL_USUAL = 4,
    IOPRIO_LEVEL_LEAST = 7,
};

static int set_class(pid_t thread, bool patient) {
    const struct sched_param param = {.sched_priority = 0};
    (void)syscall(SYS_ioprio_set, IOPRIO_PROCESS, thread,
                  IOPRIO_BEST_EFFORT | (patient ? IOPRIO_LEVEL_LEAST : IOPRIO_LEVEL_USUAL));
    return sched_setscheduler(thread, patient ? SCHED_IDLE : SCHED_OTHER, &param);
}

/* A thread for trying: where there is no way back, it is gone with it. */
static void *try_return(void *arg) {
    bool *may_return = arg;
    pid_t self = (pid_t)syscall(SYS_gettid);
    *may_return = set_class(self, true) == 0 && set_class(self, false) == 0;
    return NULL;
}

void archiver_pace_init(struct archiver_pace *pace) {
    pthread_t thread;
    *pace = (struct archiver_pace){.now = DBOS_ARCHIVE_NORMAL};
    if (pthread_create(&thread, NULL, try_return, &pace->may_return) == 0) {
        (void)pthread_join(thread, NULL);
    }
    if (!pace->may_return) {
        (void)setpriority(PRIO_PROCESS, 0, NICENESS); /* threads to come have it, too */
        pace->now = DBOS_ARCHIVE_POLITE;
    }
}

void archiver_pace_keep(struct archiver_pace *pace) { pace->keeper = (pid_t)syscall(SYS_gettid); }

/* One that ends meanwhile is no failure. */
static bool set_all(const struct archiver_pace *pace, bool patient) {
    DIR *tasks = opendir("/proc/self/task");
    if (tasks == NULL) {
        return false;
    }
    bool is_set = true;
    for (struct dirent *entry = readdir(tasks); entry != NULL; entry = readdir(tasks)) {
        pid_t thread = (pid_t)strtol(entry->d_name, NULL, 10);
        if (thread > 0 && thread != pace->keeper && set_class(thread, patient) != 0) {
            is_set = is_set && errno == ESRCH;
        }
    }
    (void)closedir(tasks);
    return is_set;
}

void archiver_pace_set(struct archiver_pace *pace, enum dbos_archive_pace wanted) {
    if (!pace->may_return || wanted == pace->now) {
        return;
    }
    if (!set_all(pace, wanted == DBOS_ARCHIVE_PATIENT)) {
        dbos_log(DBOS_LOG_WARN, "archiver: cannot set its scheduling class: %s", strerror(errno));
    }
    pace->now = wanted;
}
