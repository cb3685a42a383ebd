/* One thing fails, at every place: the n-th take of memory, the n-th operation that changes the
 * disk, for each n of each scenario.
 *
 *   faults [--scenario NAME] [--fault alloc|eio|enospc] [--n N] [--loud]
 *
 * Each n is a process of its own, on a copy of the same directory. A failure prints the command
 * that repeats it; the node's own messages are shown with it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/faults/run.h"
#include "txn/log.h"

enum { PATIENCE_S = 120, PATH_BYTES = 128, N_MAX = 100000 };

struct arguments {
    const char *scenario;
    const char *fault;
    int64_t n;
    bool is_loud;
};

struct place {
    char root[PATH_BYTES];
    char base[PATH_BYTES]; /* as each run finds it */
    char now[PATH_BYTES];
    char log[PATH_BYTES];
};

/* -- directories ---------------------------------------------------------------------------------
 */

static void must(bool is_done, const char *what, const char *path) {
    if (!is_done) {
        (void)fprintf(stderr, "faults: cannot %s %s: %s\n", what, path, strerror(errno));
        exit(1);
    }
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *where) {
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

static void remove_dir(const char *path) {
    bool is_there = access(path, F_OK) == 0;
    must(!is_there || nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0, "remove", path);
}

static void copy_file(const char *from, const char *to) {
    struct stat facts;
    int source = open(from, O_RDONLY | O_CLOEXEC);
    int target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    must(source >= 0 && target >= 0 && fstat(source, &facts) == 0, "copy", from);
    for (off_t left = facts.st_size; left > 0;) {
        ssize_t sent = sendfile(target, source, NULL, (size_t)left);
        must(sent > 0, "copy", from);
        left -= sent;
    }
    (void)close(source);
    (void)close(target);
}

static void copy_dir(const char *from, const char *to);
static void copy_entry(const char *from, const char *to, const struct dirent *entry) {
    char source[4 * PATH_BYTES];
    char target[4 * PATH_BYTES];
    (void)snprintf(source, sizeof source, "%.200s/%.200s", from, entry->d_name);
    (void)snprintf(target, sizeof target, "%.200s/%.200s", to, entry->d_name);
    if (entry->d_type == DT_DIR) {
        copy_dir(source, target);
    } else {
        copy_file(source, target);
    }
}

/* A data directory has one level below it. */
static void copy_dir(const char *from, const char *to) {
    DIR *dir = opendir(from);
    must(dir != NULL && mkdir(to, 0700) == 0, "copy", from);
    for (const struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            copy_entry(from, to, entry);
        }
    }
    (void)closedir(dir);
}

/* The end of what the node said. */
static void show_file(const char *path) {
    static char text[4096];
    int file = open(path, O_RDONLY | O_CLOEXEC);
    off_t size_bytes = lseek(file, 0, SEEK_END);
    off_t from = size_bytes > (off_t)sizeof text ? size_bytes - (off_t)sizeof text : 0;
    ssize_t got = file < 0 ? 0 : pread(file, text, sizeof text, from);
    (void)fwrite(text, 1, got < 0 ? 0 : (size_t)got, stdout);
    (void)fflush(stdout);
    (void)close(file);
}

/* -- processes -----------------------------------------------------------------------------------
 */

/* What a run is to do, in a process of its own. */
enum task { SET_UP, RUN, GO_ON };
struct job {
    const struct fault_scenario *scenario;
    const struct place *place;
    struct fault_run *run;
    enum fault_kind kind;
    int64_t n;
    bool is_loud;
};

static void do_task(const struct job *job, enum task task) {
    (void)alarm(PATIENCE_S);
    if (!job->is_loud) {
        int file = open(job->place->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        (void)dup2(file, STDERR_FILENO);
        (void)close(file);
    }
    if (task == SET_UP) {
        fault_set_up(job->scenario, job->place->base, job->run);
    } else if (task == RUN) {
        fault_run_one(job->scenario, job->kind, job->n, job->place->now, job->run);
    } else {
        fault_go_on(job->scenario, job->place->now, job->run);
    }
    _exit(0);
}

static int wait_for(pid_t child) {
    int status = 0;
    while (waitpid(child, &status, 0) != child) {
    }
    return status;
}

/* Its status as waitpid() has it. */
static int run_task(const struct job *job, enum task task) {
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        do_task(job, task);
    }
    return wait_for(child);
}

static bool report(const struct job *job, const char *what, int status) {
    (void)printf("FAILED in %s: %s\n", what, job->run->message);
    if (WIFSIGNALED(status)) {
        (void)printf("signal %d\n", WTERMSIG(status));
    } else {
        (void)printf("status %d\n", WEXITSTATUS(status));
    }
    (void)printf("repeat with: faults --scenario %s --fault %s --n %lld\n", job->scenario->name,
                 fault_kind_names[job->kind], (long long)job->n);
    show_file(job->place->log);
    return false;
}

static bool is_good(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

struct counts {
    int64_t n;        /* that fired */
    int64_t refused;  /* ended a statement, or the start, with an error */
    int64_t cut;      /* ended a session */
    int64_t ended;    /* ended the node */
    int64_t failures; /* of the test */
};

/* True: the fault has fired. */
static bool run_n(const struct job *job, struct counts *counts) {
    struct fault_run *run = job->run;
    copy_dir(job->place->base, job->place->now);
    run->has_fired = run->was_refused = run->was_cut = false;
    run->acknowledged = run->submitted = 0;
    run->message[0] = 0;
    int status = run_task(job, RUN);
    bool has_ended = WIFEXITED(status) && WEXITSTATUS(status) == DBOS_EXIT_LOG_FAILED &&
                     job->kind != FAULT_ALLOC;
    bool is_ok = is_good(status) || has_ended;
    if (!is_ok) {
        report(job, "the run", status);
    } else if (has_ended) {
        run->has_fired = true;
        status = run_task(job, GO_ON);
        is_ok = is_good(status) || report(job, "the next start", status);
    }
    counts->n += run->has_fired;
    counts->refused += run->was_refused;
    counts->cut += run->was_cut;
    counts->ended += has_ended;
    counts->failures += !is_ok;
    remove_dir(job->place->now);
    return run->has_fired;
}

static double seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Every n of one kind; with --n that one. The failures. */
static int64_t run_kind(struct job *job, const struct arguments *arguments) {
    struct counts counts = {0};
    double begun = seconds();
    bool has_fired = true;
    if (arguments->n != 0) {
        job->n = arguments->n;
        (void)run_n(job, &counts);
    }
    for (job->n = 1; arguments->n == 0 && has_fired && counts.failures < 5 && job->n < N_MAX;
         job->n++) {
        has_fired = run_n(job, &counts) || counts.failures != 0;
    }
    (void)printf("%-14s %-7s %5lld: %lld refused, %lld sessions and %lld nodes ended, %.1f s\n",
                 job->scenario->name, fault_kind_names[job->kind], (long long)counts.n,
                 (long long)counts.refused, (long long)counts.cut, (long long)counts.ended,
                 seconds() - begun);
    (void)fflush(stdout);
    return counts.failures;
}

static int64_t run_scenario(struct job *job, const struct arguments *arguments) {
    int64_t failures = 0;
    remove_dir(job->place->base);
    must(mkdir(job->place->base, 0700) == 0, "make", job->place->base);
    int status = run_task(job, SET_UP);
    if (!is_good(status)) {
        return report(job, "the preparation", status) ? 0 : 1;
    }
    job->kind = FAULT_NOTHING;
    copy_dir(job->place->base, job->place->now);
    status = run_task(job, RUN);
    remove_dir(job->place->now);
    if (!is_good(status)) {
        return report(job, "the run without a fault", status) ? 0 : 1;
    }
    for (job->kind = FAULT_ALLOC; job->kind < FAULT_KINDS; job->kind++) {
        if (arguments->fault == NULL ||
            strcmp(arguments->fault, fault_kind_names[job->kind]) == 0) {
            failures += run_kind(job, arguments);
        }
    }
    return failures;
}

static bool parse(int argc, char **argv, struct arguments *out) {
    *out = (struct arguments){.scenario = NULL};
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (strcmp(argv[i], "--loud") == 0) {
            out->is_loud = true;
            continue;
        }
        if (value == NULL) {
            return false;
        }
        if (strcmp(argv[i], "--scenario") == 0) {
            out->scenario = value;
        } else if (strcmp(argv[i], "--fault") == 0) {
            out->fault = value;
        } else if (strcmp(argv[i], "--n") == 0) {
            out->n = strtoll(value, NULL, 10);
        } else {
            return false;
        }
        i++;
    }
    return true;
}

static void make_place(struct place *place) {
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(place->root, sizeof place->root, "%.64s/dbos-faults-XXXXXX",
                   tmp == NULL ? "/tmp" : tmp);
    must(mkdtemp(place->root) != NULL, "make", place->root);
    (void)snprintf(place->base, sizeof place->base, "%.100s/base", place->root);
    (void)snprintf(place->now, sizeof place->now, "%.100s/now", place->root);
    (void)snprintf(place->log, sizeof place->log, "%.100s/log", place->root);
}

int main(int argc, char **argv) {
    struct arguments arguments;
    struct place place;
    int64_t failures = 0;
    if (!parse(argc, argv, &arguments)) {
        (void)fprintf(stderr, "usage: faults [--scenario NAME] [--fault KIND] [--n N] [--loud]\n");
        return 2;
    }
    make_place(&place);
    struct fault_run *run =
        mmap(NULL, sizeof *run, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (run == MAP_FAILED) {
        return 1;
    }
    for (const struct fault_scenario *scenario = fault_scenarios; scenario->name != NULL;
         scenario++) {
        if (arguments.scenario == NULL || strcmp(arguments.scenario, scenario->name) == 0) {
            struct job job = {
                .scenario = scenario, .place = &place, .run = run, .is_loud = arguments.is_loud};
            failures += run_scenario(&job, &arguments);
        }
    }
    remove_dir(place.root);
    return failures == 0 ? 0 : 1;
}
