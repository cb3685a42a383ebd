/* Random procedures, statements, aborts, DDL and crashes, against a naive oracle that keeps a copy
 * of the database after each transaction: every answer, every provenance function and AS OF must
 * agree.
 *
 *   model_test --episodes N --transactions N --seed S [--bin DIR]
 *
 * Episode i has the seed S + i. A failure prints the command that repeats its episode. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/episode.h"

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return otherwise;
}

int main(int argc, char **argv) {
    uint32_t episodes = (uint32_t)atoi(option(argc, argv, "--episodes", "10"));
    uint32_t transactions = (uint32_t)atoi(option(argc, argv, "--transactions", "1000"));
    uint64_t seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10);
    const char *bin = option(argc, argv, "--bin", DBOS_BIN_DIR);
    uint64_t compared = 0;
    uint32_t kills = 0;
    (void)signal(SIGPIPE, SIG_IGN);
    for (uint32_t i = 0; i < episodes; i++) {
        struct episode e = {.bin = bin, .seed = seed + i, .transactions = transactions};
        uint64_t start = dbos_env_posix()->ops->mono_ns(dbos_env_posix());
        episode_run(&e);
        double s = (double)(dbos_env_posix()->ops->mono_ns(dbos_env_posix()) - start) / 1e9;
        (void)printf(
            "episode %u of %u (seed %llu): %u recorded, %u failed as they should, %u kills, "
            "%u groups, %llu lines of provenance compared in %.1f s, %.1f s in all\n",
            i + 1, episodes, (unsigned long long)e.seed, e.recorded, e.aborted, e.kills, e.groups,
            (unsigned long long)e.compared, e.check_s, s);
        (void)fflush(stdout);
        compared += e.compared;
        kills += e.kills;
    }
    (void)printf("%u episodes of %u transactions, %u kills, %llu lines compared: all agree\n",
                 episodes, transactions, kills, (unsigned long long)compared);
    return 0;
}
