/* The simulator: seeds, each in a process of its own.
 *
 *   sim [--seeds N] [--first N] [--operations N] [--jobs N] [--twice] [--loud] [--stop]
 *
 * A seed is a database that lives several times on a simulated machine, with clients, faults and
 * crashes (tests/sim/world.h). --twice runs each again and compares what happened; --stop begins
 * none after one that failed. What fails says which seed; `--first SEED --seeds 1 --loud` repeats
 * it exactly. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/sim/world.h"

enum { JOBS_MAX = 64 };

struct options {
    uint64_t first;
    uint64_t seeds;
    uint32_t operations;
    uint32_t jobs;
    bool twice;
    bool loud;
    bool stop;
};

struct job {
    pid_t process;
    uint64_t seed;
    uint64_t trace; /* of its first run */
    bool is_second;
};

static struct world_facts *shared; /* a place for each job */
static struct world_facts sum;
static uint64_t failures;

static void start(struct job *job, uint32_t place, const struct options *options) {
    job->process = fork();
    if (job->process == 0) {
        world_run(job->seed, options->operations, options->loud, &shared[place]);
        _exit(0);
    }
}

static void add(const struct world_facts *facts) {
    sum.operations += facts->operations;
    sum.acked += facts->acked;
    sum.lives += facts->lives;
    sum.crashes += facts->crashes;
    sum.records += facts->records;
    sum.snapshots += facts->snapshots;
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        sum.fired[i] += facts->fired[i];
    }
}

static void fail(uint64_t seed, const char *why) {
    failures++;
    (void)fprintf(stderr, "FAILED: seed %llu %s\n  repeat with: --first %llu --seeds 1 --loud\n",
                  (unsigned long long)seed, why, (unsigned long long)seed);
}

/* True: its place is free. */
static bool finish(struct job *job, uint32_t place, int status, const struct options *options) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        fail(job->seed, WIFEXITED(status) ? "ended" : strsignal(WTERMSIG(status)));
        return true;
    }
    if (job->is_second) {
        if (job->trace != shared[place].trace) {
            fail(job->seed, "went another way when it was run again");
        }
        return true;
    }
    add(&shared[place]);
    if (!options->twice) {
        return true;
    }
    job->trace = shared[place].trace;
    job->is_second = true;
    start(job, place, options);
    return false;
}

static void run_all(const struct options *options) {
    struct job jobs[JOBS_MAX] = {0};
    uint64_t begun = 0;
    uint32_t running = 0;
    while (begun < options->seeds || running > 0) {
        if (options->stop && failures > 0) {
            begun = options->seeds;
        }
        for (uint32_t i = 0; i < options->jobs && begun < options->seeds; i++) {
            if (jobs[i].process == 0) {
                jobs[i] = (struct job){.seed = options->first + begun++};
                start(&jobs[i], i, options);
                running++;
            }
        }
        int status = 0;
        pid_t ended = running > 0 ? wait(&status) : -1;
        for (uint32_t i = 0; i < options->jobs; i++) {
            if (jobs[i].process == ended && finish(&jobs[i], i, status, options)) {
                jobs[i].process = 0;
                running--;
            }
        }
    }
}

static bool parse(int argc, char **argv, struct options *out) {
    *out = (struct options){.first = 1, .seeds = 100, .operations = 2000, .jobs = 2};
    for (int i = 1; i < argc; i++) {
        bool has_value = i + 1 < argc;
        if (strcmp(argv[i], "--twice") == 0) {
            out->twice = true;
        } else if (strcmp(argv[i], "--loud") == 0) {
            out->loud = true;
        } else if (strcmp(argv[i], "--stop") == 0) {
            out->stop = true;
        } else if (strcmp(argv[i], "--seeds") == 0 && has_value) {
            out->seeds = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--first") == 0 && has_value) {
            out->first = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--operations") == 0 && has_value) {
            out->operations = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--jobs") == 0 && has_value) {
            out->jobs = (uint32_t)strtoul(argv[++i], NULL, 10);
        } else {
            return false;
        }
    }
    return out->jobs >= 1 && out->jobs <= JOBS_MAX && out->operations <= 4000;
}

/* Addresses are the same in each run: nothing should depend on them, and what does repeats. */
static void fix_addresses(char **argv) {
    int persona = personality(0xffffffff);
    if ((persona & ADDR_NO_RANDOMIZE) == 0 &&
        personality((unsigned long)(persona | ADDR_NO_RANDOMIZE)) != -1) {
        (void)execv("/proc/self/exe", argv);
    }
}

int main(int argc, char **argv) {
    struct options options;
    if (!parse(argc, argv, &options)) {
        (void)fprintf(stderr, "usage: sim [--seeds N] [--first N] [--operations N] [--jobs N] "
                              "[--twice] [--loud] [--stop]\n");
        return 2;
    }
    fix_addresses(argv);
    shared = mmap(NULL, JOBS_MAX * sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        return 1;
    }
    world_prepare();
    run_all(&options);
    (void)printf("%llu seeds: %u operations, %u acknowledged, %u records, %u lives, %u of them "
                 "begun with a snapshot, %u crashes\n",
                 (unsigned long long)options.seeds, sum.operations, sum.acked, sum.records,
                 sum.lives, sum.snapshots, sum.crashes);
    for (uint32_t i = 0; i < SIM_FAULTS; i++) {
        (void)printf("  %-24s %llu\n", sim_fault_names[i], (unsigned long long)sum.fired[i]);
    }
    return failures == 0 ? 0 : 1;
}
