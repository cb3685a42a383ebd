/* One thing fails, at every place: the n-th take of memory, the n-th start of a thread, the n-th
 * operation that changes the disk, for each n of each scenario.
 *
 *   faults [--scenario NAME] [--fault alloc|thread|eio|enospc|full] [--n N] [--jobs N] [--loud]
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

/* Threads take turns in another order each time: so many n in a row that did not fire are the end.
 * A run mostly waits for its threads, so that some go side by side on one processor. */
enum { PATIENCE_S = 120, PATH_BYTES = 128, FAILURES_MAX = 5, QUIET_MAX = 4, LANES_MAX = 8 };

struct arguments {
    const char *scenario;
    const char *fault;
    int64_t n;
    uint32_t jobs;
    bool is_loud;
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

/* What a process of its own does. */
enum work { SET_UP, RUN, GO_ON };

/* Where one n at a time is tried, by a process at a time. */
struct lane {
    char dir[PATH_BYTES];
    char log[PATH_BYTES];
    struct fault_run *run;
    struct fault_task task;
    enum work work;
    pid_t child; /* 0 = nothing is tried */
};

struct job {
    const struct arguments *arguments;
    const struct fault_scenario *scenario;
    char root[PATH_BYTES];
    char base[PATH_BYTES]; /* as each run finds it */
    struct fault_truth *truth;
    struct lane lanes[LANES_MAX];
    enum fault_kind kind;
    int64_t next; /* n */
};

static void do_work(const struct job *job, const struct lane *lane) {
    (void)alarm(PATIENCE_S);
    if (!job->arguments->is_loud) {
        int file = open(lane->log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        (void)dup2(file, STDERR_FILENO);
        (void)close(file);
    }
    if (lane->work == SET_UP) {
        fault_set_up(&lane->task);
    } else if (lane->work == RUN) {
        fault_run_one(&lane->task);
    } else {
        fault_go_on(&lane->task);
    }
    _exit(0);
}

static void begin_work(const struct job *job, struct lane *lane, enum work work) {
    lane->work = work;
    (void)fflush(NULL);
    lane->child = fork();
    must(lane->child >= 0, "fork for", lane->dir);
    if (lane->child == 0) {
        do_work(job, lane);
    }
}

static void report(const struct lane *lane, int status) {
    static const char *const works[] = {"the preparation", "the run", "the next start"};
    (void)printf("FAILED in %s: %s\n%s %d\nrepeat with: faults --scenario %s --fault %s --n %lld\n",
                 works[lane->work], lane->run->message, WIFSIGNALED(status) ? "signal" : "status",
                 WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
                 lane->task.scenario->name, fault_kind_names[lane->task.kind],
                 (long long)lane->task.n);
    show_file(lane->log);
}

static bool is_good(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

/* True: it was good; else it has been reported. */
static bool work_alone(const struct job *job, struct lane *lane, enum work work) {
    int status = 0;
    begin_work(job, lane, work);
    must(waitpid(lane->child, &status, 0) == lane->child, "wait for", lane->dir);
    lane->child = 0;
    if (!is_good(status)) {
        report(lane, status);
    }
    return is_good(status);
}

/* -- every n -------------------------------------------------------------------------------------
 */

struct counts {
    int64_t n;        /* that fired */
    int64_t refused;  /* ended a statement, or the start, with an error */
    int64_t cut;      /* ended a session */
    int64_t ended;    /* ended the node */
    int64_t failures; /* of the test */
    int64_t quiet;    /* in a row that did not fire */
};

static void begin_n(struct job *job, struct lane *lane) {
    struct fault_run *run = lane->run;
    copy_dir(job->base, lane->dir);
    run->has_fired = run->was_refused = run->was_cut = false;
    run->acknowledged = run->submitted = 0;
    run->message[0] = 0;
    lane->task.kind = job->kind;
    lane->task.n = job->next++;
    begin_work(job, lane, RUN);
}

static void count_n(const struct fault_run *run, struct counts *counts) {
    counts->n += run->has_fired;
    counts->refused += run->was_refused;
    counts->cut += run->was_cut;
    counts->quiet = run->has_fired ? 0 : counts->quiet + 1;
}

static void end_work(struct job *job, struct lane *lane, int status, struct counts *counts) {
    bool is_disk = job->kind != FAULT_ALLOC && job->kind != FAULT_THREAD;
    bool has_ended = lane->work == RUN && is_disk && WIFEXITED(status) &&
                     WEXITSTATUS(status) == DBOS_EXIT_LOG_FAILED;
    lane->child = 0;
    if (has_ended) {
        counts->ended++;
        lane->run->has_fired = true;
        begin_work(job, lane, GO_ON);
        return;
    }
    if (!is_good(status)) {
        counts->failures++;
        lane->run->has_fired = true; /* it is not the end of the scenario */
        report(lane, status);
    }
    count_n(lane->run, counts);
    remove_dir(lane->dir);
}

static uint32_t fill_lanes(struct job *job, const struct counts *counts) {
    const struct arguments *arguments = job->arguments;
    uint32_t busy = 0;
    for (uint32_t i = 0; i < arguments->jobs; i++) {
        bool is_over = counts->quiet >= QUIET_MAX || counts->failures >= FAILURES_MAX ||
                       (arguments->n != 0 && job->next > arguments->n);
        if (job->lanes[i].child == 0 && !is_over) {
            begin_n(job, &job->lanes[i]);
        }
        busy += job->lanes[i].child != 0;
    }
    return busy;
}

static double seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Every n of one kind; with --n that one. The failures. */
static int64_t run_kind(struct job *job) {
    struct counts counts = {0};
    double begun = seconds();
    job->next = job->arguments->n == 0 ? 1 : job->arguments->n;
    while (fill_lanes(job, &counts) != 0) {
        int status = 0;
        pid_t child = wait(&status);
        for (uint32_t i = 0; i < job->arguments->jobs; i++) {
            if (job->lanes[i].child == child) {
                end_work(job, &job->lanes[i], status, &counts);
            }
        }
    }
    (void)printf("%-14s %-7s %5lld: %lld refused, %lld sessions and %lld nodes ended, %.1f s\n",
                 job->scenario->name, fault_kind_names[job->kind], (long long)counts.n,
                 (long long)counts.refused, (long long)counts.cut, (long long)counts.ended,
                 seconds() - begun);
    (void)fflush(stdout);
    return counts.failures;
}

/* The base that all runs start from, and the truth. */
static bool prepare(struct job *job) {
    struct lane *lane = &job->lanes[0];
    remove_dir(job->base);
    must(mkdir(job->base, 0700) == 0, "make", job->base);
    for (uint32_t i = 0; i < job->arguments->jobs; i++) {
        job->lanes[i].task = (struct fault_task){.scenario = job->scenario,
                                                 .dir = job->lanes[i].dir,
                                                 .truth = job->truth,
                                                 .run = job->lanes[i].run};
    }
    lane->task.dir = job->base;
    bool is_empty = job->scenario->setup[0] == NULL; /* not even a node has been there */
    bool is_ok = is_empty || work_alone(job, lane, SET_UP);
    lane->task.dir = lane->dir;
    copy_dir(job->base, lane->dir);
    is_ok = is_ok && work_alone(job, lane, RUN);
    remove_dir(lane->dir);
    return is_ok;
}

static int64_t run_scenario(struct job *job) {
    const char *fault = job->arguments->fault;
    int64_t failures = 0;
    if (!prepare(job)) {
        return 1;
    }
    for (job->kind = FAULT_ALLOC; job->kind < FAULT_KINDS; job->kind++) {
        bool is_idle = job->kind == FAULT_THREAD && !job->scenario->is_boot; /* starts none */
        if (!is_idle && (fault == NULL || strcmp(fault, fault_kind_names[job->kind]) == 0)) {
            failures += run_kind(job);
        }
    }
    return failures;
}

/* -- main ----------------------------------------------------------------------------------------
 */

static bool take_option(struct arguments *arguments, const char *name, const char *value) {
    if (strcmp(name, "--scenario") == 0) {
        arguments->scenario = value;
    } else if (strcmp(name, "--fault") == 0) {
        arguments->fault = value;
    } else if (strcmp(name, "--n") == 0) {
        arguments->n = strtoll(value, NULL, 10);
    } else if (strcmp(name, "--jobs") == 0) {
        arguments->jobs = (uint32_t)strtoul(value, NULL, 10);
    } else {
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct arguments *out) {
    *out = (struct arguments){.jobs = LANES_MAX / 2};
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--loud") == 0) {
            out->is_loud = true;
        } else if (i + 1 == argc || !take_option(out, argv[i], argv[i + 1])) {
            return false;
        } else {
            i++;
        }
    }
    return out->jobs >= 1 && out->jobs <= LANES_MAX && out->n >= 0;
}

static void *share(size_t size_bytes) {
    void *memory =
        mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    must(memory != MAP_FAILED, "share", "memory");
    return memory;
}

static void open_job(struct job *job) {
    /* Nothing here asks what a disk does by itself, and memory is quicker. */
    const char *tmp = getenv("TMPDIR");
    const char *memory = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(job->root, sizeof job->root, "%.64s/dbos-faults-XXXXXX",
                   tmp == NULL ? memory : tmp);
    must(mkdtemp(job->root) != NULL, "make", job->root);
    (void)snprintf(job->base, sizeof job->base, "%.100s/base", job->root);
    job->truth = share(sizeof *job->truth);
    for (uint32_t i = 0; i < job->arguments->jobs; i++) {
        struct lane *lane = &job->lanes[i];
        (void)snprintf(lane->dir, sizeof lane->dir, "%.100s/%u", job->root, i);
        (void)snprintf(lane->log, sizeof lane->log, "%.100s/%u.log", job->root, i);
        lane->run = share(sizeof *lane->run);
    }
}

int main(int argc, char **argv) {
    struct arguments arguments;
    static struct job job;
    int64_t failures = 0;
    if (!parse(argc, argv, &arguments)) {
        (void)fprintf(
            stderr,
            "usage: faults [--scenario NAME] [--fault alloc|thread|eio|enospc|full] [--n N] "
            "[--jobs N] [--loud]\n");
        return 2;
    }
    job.arguments = &arguments;
    open_job(&job);
    for (const struct fault_scenario *scenario = fault_scenarios; scenario->name != NULL;
         scenario++) {
        if (arguments.scenario == NULL || strcmp(arguments.scenario, scenario->name) == 0) {
            job.scenario = scenario;
            failures += run_scenario(&job);
        }
    }
    remove_dir(job.root);
    return failures == 0 ? 0 : 1;
}
