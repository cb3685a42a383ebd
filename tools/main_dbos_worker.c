/* dbos-worker: serves models and trains them for databases; see gpu/worker.h.
 *
 * Prints one line, "ready port=N backend=NAME", once it serves. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/log.h"
#include "gpu/worker.h"

#define MIB 1048576ull

static const char usage[] =
    "usage: dbos-worker [options]\n"
    "  --listen ADDRESS:PORT   where to serve; port 0 takes a free one (127.0.0.1:0)\n"
    "  --backend NAME          dnnl (oneDNN on the CPU) or ref (slow reference) (dnnl)\n"
    "  --threads N             threads of one computation (1)\n"
    "  --task-memory-mb N      memory for tasks that wait for pieces, wait or run (256)\n"
    "  --model-memory-mb N     memory for the weights of loaded models (256)\n"
    "  --queue N               tasks that may wait (1024)\n"
    "  --name NAME             as shown in the database (dbos-worker)\n"
    "  --exit-with-parent      end when standard input ends or the parent dies\n"
    "  --help\n";

enum {
    OPT_LISTEN = 1,
    OPT_BACKEND,
    OPT_THREADS,
    OPT_TASKS,
    OPT_MODELS,
    OPT_QUEUE,
    OPT_NAME,
    OPT_PARENT,
    OPT_HELP
};

static bool read_number(const char *text, uint64_t min, uint64_t max, uint64_t *out) {
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    *out = value;
    return errno == 0 && end != text && *end == 0 && text[0] != '-' && value >= min && value <= max;
}

/* ADDRESS:PORT into `address`, which holds 64 bytes. */
static bool read_listen(const char *text, char *address, uint16_t *port) {
    const char *colon = strrchr(text, ':');
    uint64_t number = 0;
    if (colon == NULL || colon - text > 63 || !read_number(colon + 1, 0, 65535, &number)) {
        return false;
    }
    memcpy(address, text, (size_t)(colon - text));
    address[colon - text] = 0;
    *port = (uint16_t)number;
    return true;
}

struct settings {
    struct dbos_worker_options worker;
    char address[64];
    bool with_parent;
    bool help;
};

static bool apply(struct settings *s, int option, const char *value) {
    uint64_t number = 0;
    bool good = true;
    switch (option) {
    case OPT_LISTEN:
        good = read_listen(value, s->address, &s->worker.port);
        break;
    case OPT_BACKEND:
        s->worker.backend = dbos_backend_find(value);
        good = s->worker.backend != NULL;
        break;
    case OPT_THREADS:
        good = read_number(value, 1, 1024, &number);
        s->worker.threads = (uint32_t)number;
        break;
    case OPT_TASKS:
        good = read_number(value, 1, 1048576, &number);
        s->worker.assembled_bytes_max = number * MIB;
        break;
    case OPT_MODELS:
        good = read_number(value, 1, 1048576, &number);
        s->worker.model_bytes_max = number * MIB;
        break;
    case OPT_QUEUE:
        good = read_number(value, 1, 1000000, &number);
        s->worker.queue_max = (uint32_t)number;
        break;
    case OPT_NAME:
        s->worker.name = value;
        good = strlen(value) < 32;
        break;
    case OPT_PARENT:
        s->with_parent = true;
        break;
    default:
        s->help = true;
        break;
    }
    return good;
}

static bool read_options(int argc, char **argv, struct settings *s) {
    static const struct option options[] = {
        {"listen", required_argument, NULL, OPT_LISTEN},
        {"backend", required_argument, NULL, OPT_BACKEND},
        {"threads", required_argument, NULL, OPT_THREADS},
        {"task-memory-mb", required_argument, NULL, OPT_TASKS},
        {"model-memory-mb", required_argument, NULL, OPT_MODELS},
        {"queue", required_argument, NULL, OPT_QUEUE},
        {"name", required_argument, NULL, OPT_NAME},
        {"exit-with-parent", no_argument, NULL, OPT_PARENT},
        {"help", no_argument, NULL, OPT_HELP},
        {NULL, 0, NULL, 0},
    };
    int option;
    int which = 0;
    while ((option = getopt_long(argc, argv, "", options, &which)) != -1) {
        if (option == '?') {
            return false;
        }
        if (!apply(s, option, optarg)) {
            (void)fprintf(stderr, "dbos-worker: --%s cannot be \"%s\"\n", options[which].name,
                          optarg);
            return false;
        }
    }
    if (optind < argc) {
        (void)fprintf(stderr, "dbos-worker: unexpected \"%s\"\n", argv[optind]);
    }
    return optind == argc;
}

/* Signals as a descriptor; blocked in every thread that is started later. */
static int stop_signals(void) {
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int serve(struct settings *s) {
    struct dbos_alloc alloc;
    struct dbos_worker *worker = NULL;
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&alloc, "worker", 0);
    enum dbos_err err = dbos_worker_open(&alloc, dbos_env_posix(), &s->worker, &worker, &info);
    if (err == DBOS_OK) {
        (void)printf("ready port=%u backend=%s\n", dbos_worker_port(worker),
                     s->worker.backend->name);
        (void)fflush(stdout);
        err = dbos_worker_run(worker, &info);
    }
    if (err != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "dbos-worker: %s", info.message);
    }
    dbos_worker_close(worker);
    dbos_alloc_fini(&alloc);
    return err == DBOS_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}

int main(int argc, char **argv) {
    struct settings s = {.address = "127.0.0.1"};
    dbos_worker_defaults(&s.worker);
    s.worker.name = "dbos-worker";
    s.worker.address = s.address;
    s.worker.backend = dbos_backend_find("dnnl");
    if (!read_options(argc, argv, &s) || s.help) {
        (void)fputs(usage, s.help ? stdout : stderr);
        return s.help ? EXIT_SUCCESS : 2;
    }
    s.worker.stop_fd = stop_signals();
    if (s.worker.stop_fd < 0) {
        dbos_log(DBOS_LOG_ERROR, "dbos-worker: signalfd: %s", strerror(errno));
        return EXIT_FAILURE;
    }
    if (s.with_parent) {
        /* Of the thread that started us; standard input covers a parent that started us elsewhere
         * or died before this line. */
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        s.worker.parent_fd = STDIN_FILENO;
    }
    return serve(&s);
}
