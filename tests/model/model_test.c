/* Random procedures, statements, aborts, DDL and crashes, against a naive oracle that keeps a copy
 * of the database after each transaction: every answer, every provenance function and AS OF must
 * agree.
 *
 *   model_test --episodes N --transactions N --seed S [--jobs N] [--bin DIR]
 *
 * Episode i has the seed S + i. A failure prints the command that repeats its episode. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/model/episode.h"

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return otherwise;
}

struct plan {
    uint32_t episodes, transactions, jobs;
    uint64_t seed;
    const char *bin;
};

static void run_one(const struct plan *plan, uint32_t i) {
    struct dbos_env *env = dbos_env_posix();
    struct episode e = {
        .bin = plan->bin, .seed = plan->seed + i, .transactions = plan->transactions};
    uint64_t start = env->ops->mono_ns(env);
    episode_run(&e);
    (void)printf(
        "episode %u of %u (seed %llu): %u recorded, %u failed as they should, %u kills, %u "
        "groups, %llu lines of provenance compared in %.1f s, %llu calls run again, %.1f s in "
        "all\n",
        i + 1, plan->episodes, (unsigned long long)e.seed, e.recorded, e.aborted, e.kills, e.groups,
        (unsigned long long)e.compared, e.check_s, (unsigned long long)e.replayed,
        (double)(env->ops->mono_ns(env) - start) / 1e9);
    (void)fflush(stdout);
}

/* Every `jobs`th episode from `first` on, in a process of its own. */
static pid_t start_job(const struct plan *plan, uint32_t first) {
    pid_t pid = fork();
    if (pid == 0) {
        for (uint32_t i = first; i < plan->episodes; i += plan->jobs) {
            run_one(plan, i);
        }
        exit(0);
    }
    return pid;
}

int main(int argc, char **argv) {
    struct plan plan = {
        .episodes = (uint32_t)atoi(option(argc, argv, "--episodes", "10")),
        .transactions = (uint32_t)atoi(option(argc, argv, "--transactions", "1000")),
        .jobs = (uint32_t)atoi(option(argc, argv, "--jobs", "1")),
        .seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10),
        .bin = option(argc, argv, "--bin", DBOS_BIN_DIR),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    int failed = 0;
    for (uint32_t job = 0; job < plan.jobs; job++) {
        failed += start_job(&plan, job) < 0;
    }
    for (uint32_t job = 0; job < plan.jobs; job++) {
        int status = 1;
        (void)wait(&status);
        failed += status != 0;
    }
    if (failed == 0) {
        (void)printf("%u episodes of %u transactions: all agree\n", plan.episodes,
                     plan.transactions);
    }
    return failed == 0 ? 0 : 1;
}
