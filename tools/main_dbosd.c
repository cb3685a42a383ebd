/* dbosd: the node.
 *
 *   dbosd [--data-dir DIR] [--port N] [--partitions N] [--durability sync|async] …
 *
 * Says "dbosd <version> ready port=<port>" on standard output once it serves; SIGTERM and SIGINT
 * let what is under way end, then stop. Exit status: 0 = stopped in order, 1 = could not start, 2 =
 * wrong usage.
 *
 * Thread: main waits for signals; the others belong to the engine and the network.
 * Memory: one allocator for what main opens. */
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "engine/net.h"

#define VERSION "0.1.0"

enum {
    PORT = 5433,
    DRAIN_MS = 10000,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
};

struct arguments {
    struct dbos_engine_options engine;
    struct dbos_net_options net;
};

static const char help[] =
    "usage: dbosd [options]\n"
    "  --data-dir DIR            where the data lies (dbos-data)\n"
    "  --address ADDRESS         loopback address to listen on (127.0.0.1)\n"
    "  --port N                  TCP port, 0 = a free one (5433)\n"
    "  --partitions N            partition threads (cores - 1)\n"
    "  --durability sync|async   sync: an acknowledged write is on disk; async: it may be\n"
    "                            lost with the last few milliseconds before a crash (sync)\n"
    "  --provenance-reads relaxed|strict|off\n"
    "                            strict: a read is acknowledged when its record is on disk;\n"
    "                            off: what is read is not recorded (relaxed)\n"
    "  --connections-max N       sessions at once (1000)\n"
    "  --reply-memory MB         what replies above 64 KB may hold in all; 53200 beyond (1024)\n"
    "  --idempotency-keys N      replies kept under idempotency keys, the newest ones (1048576)\n"
    "  --log-segment-bytes BYTES size of a file of the log, 65536 at least (67108864)\n"
    "  --snapshot-log-bytes BYTES\n"
    "                            of log between two snapshots, 0 = only when asked for\n"
    "                            (1073741824)\n"
    "  --archive-backlog-max BYTES\n"
    "                            so far may the archive be behind the log before writers wait\n"
    "                            for it, 0 = any distance (4294967296)\n"
    "  --no-archive              no archiver: provenance queries fail\n"
    "  --no-worker               no model worker: tasks wait\n"
    "  --worker ADDRESS:PORT     a worker that runs elsewhere, instead of an own one\n"
    "  --network best|uring|poll how the sockets are driven (best)\n"
    "  --help, --version\n"
    "Clients speak the PostgreSQL protocol: psql -h 127.0.0.1 -p 5433 -U you dbos\n";

/* -- arguments ----------------------------------------------------------------------------------
 */

static bool number(const char *text, unsigned long max, unsigned long *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *out <= max;
}

/* The place of `text` in the list; -1 = not in it. */
static int choice(const char *text, const char *const *words, int count) {
    for (int i = 0; i < count; i++) {
        if (strcmp(text, words[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static bool take_choice(struct arguments *arguments, const char *name, const char *value) {
    static const char *const durabilities[] = {"sync", "async"};
    static const char *const reads[] = {"relaxed", "strict", "off"};
    static const char *const loops[] = {"best", "uring", "poll"};
    int which = -1;
    if (strcmp(name, "--durability") == 0) {
        which = choice(value, durabilities, 2);
        arguments->engine.durability = which == 1 ? DBOS_DURABILITY_ASYNC : DBOS_DURABILITY_SYNC;
    } else if (strcmp(name, "--provenance-reads") == 0) {
        which = choice(value, reads, 3);
        arguments->engine.provenance_reads = which == 2   ? DBOS_READS_OFF
                                             : which == 1 ? DBOS_READS_STRICT
                                                          : DBOS_READS_RELAXED;
    } else if (strcmp(name, "--network") == 0) {
        which = choice(value, loops, 3);
        arguments->net.loop = which == 1   ? DBOS_LOOP_URING
                              : which == 2 ? DBOS_LOOP_POLL
                                           : DBOS_LOOP_BEST;
    }
    return which >= 0;
}

static bool take_option(struct arguments *arguments, const char *name, const char *value) {
    unsigned long count = 0;
    if (strcmp(name, "--data-dir") == 0) {
        arguments->engine.data_dir = value;
        return value[0] != 0;
    }
    if (strcmp(name, "--address") == 0) {
        arguments->net.address = value;
        return true;
    }
    if (strcmp(name, "--worker") == 0) {
        arguments->engine.worker_address = value;
        return strchr(value, ':') != NULL;
    }
    if (strcmp(name, "--port") == 0 && number(value, UINT16_MAX, &count)) {
        arguments->net.port = (uint16_t)count;
        return true;
    }
    if (strcmp(name, "--partitions") == 0 && number(value, 256, &count) && count != 0) {
        arguments->engine.partitions = (uint32_t)count;
        return true;
    }
    if (strcmp(name, "--connections-max") == 0 && number(value, 100000, &count) && count != 0) {
        arguments->net.connections_max = (uint32_t)count;
        return true;
    }
    if (strcmp(name, "--reply-memory") == 0 && number(value, 1024 * 1024, &count) && count != 0) {
        arguments->engine.reply_bytes_max = (uint64_t)count << 20;
        return true;
    }
    if (strcmp(name, "--idempotency-keys") == 0 && number(value, INT32_MAX, &count) &&
        count >= 1024) {
        arguments->engine.idempotency_keys_max = count;
        return true;
    }
    if (strcmp(name, "--log-segment-bytes") == 0 && number(value, 1UL << 40, &count) &&
        count >= 65536) {
        arguments->engine.segment_bytes = count & ~511UL;
        return true;
    }
    if (strcmp(name, "--snapshot-log-bytes") == 0 && number(value, INT64_MAX, &count)) {
        arguments->engine.snapshot_log_bytes = count == 0 ? UINT64_MAX : count;
        return true;
    }
    if (strcmp(name, "--archive-backlog-max") == 0 && number(value, INT64_MAX, &count)) {
        arguments->engine.archive_backlog_max = count == 0 ? UINT64_MAX : count;
        return true;
    }
    return take_choice(arguments, name, value);
}

static bool take_flag(struct arguments *arguments, const char *name) {
    if (strcmp(name, "--no-archive") == 0) {
        arguments->engine.archive = false;
    } else if (strcmp(name, "--no-worker") == 0) {
        arguments->engine.worker = false;
    } else {
        return false;
    }
    return true;
}

/* "--name value" or "--name=value". -1 = go on; else the exit status. */
static int parse(int argc, char **argv, struct arguments *arguments) {
    for (int i = 1; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (strcmp(argv[i], "--help") == 0) {
            (void)fputs(help, stdout);
            return 0;
        }
        if (strcmp(argv[i], "--version") == 0) {
            (void)puts("dbosd " VERSION);
            return 0;
        }
        if (take_flag(arguments, argv[i])) {
            continue;
        }
        const char *name = argv[i];
        if (value != NULL) {
            *value++ = 0;
        } else if (i + 1 < argc) {
            value = argv[++i];
        }
        if (value == NULL || !take_option(arguments, name, value)) {
            (void)fprintf(stderr, "dbosd: wrong option or value: %s%s%s\n%s", name,
                          value == NULL ? "" : " ", value == NULL ? "" : value, help);
            return EXIT_USAGE;
        }
    }
    return -1;
}

/* The folder of this program: the worker and the archiver lie beside it. */
static void program_dir(char *out, size_t out_bytes) {
    ssize_t size = readlink("/proc/self/exe", out, out_bytes - 1);
    out[size < 0 ? 0 : size] = 0;
    char *slash = strrchr(out, '/');
    if (slash == NULL) {
        (void)snprintf(out, out_bytes, ".");
    } else {
        *slash = 0;
    }
}

/* -- running ------------------------------------------------------------------------------------
 */

/* Before any thread is started, so that all of them leave the signals to main. */
static void block_signals(sigset_t *signals) {
    (void)sigemptyset(signals);
    (void)sigaddset(signals, SIGTERM);
    (void)sigaddset(signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, signals, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

static void serve_until_signal(struct dbos_net *net, const sigset_t *signals) {
    (void)printf("dbosd " VERSION " ready port=%u\n", dbos_net_port(net));
    (void)fflush(stdout);
    int number_of = 0;
    while (sigwait(signals, &number_of) != 0) {
    }
    dbos_log(DBOS_LOG_INFO, "stopping: %s", strsignal(number_of));
    if (!dbos_net_drain(net, DRAIN_MS)) {
        dbos_log(DBOS_LOG_WARN, "%u connections did not end in time", dbos_net_connections(net));
    }
}

static enum dbos_err run(struct dbos_alloc *alloc, const struct arguments *arguments,
                         const sigset_t *signals, struct dbos_errinfo *info) {
    struct dbos_engine *engine = NULL;
    struct dbos_net *net = NULL;
    enum dbos_err err = dbos_engine_open(alloc, &arguments->engine, &engine, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_net_open(alloc, engine, &arguments->net, &net, info);
    if (err == DBOS_OK) {
        err = dbos_engine_start(engine, dbos_net_durable, net, info);
        if (err == DBOS_OK) {
            err = dbos_net_start(net, info);
            if (err == DBOS_OK) {
                serve_until_signal(net, signals);
            }
            dbos_net_stop(net);
            dbos_engine_stop(engine);
        } else {
            dbos_net_stop(net);
        }
    }
    dbos_engine_close(engine);
    dbos_net_close(net);
    return err;
}

/* Rows and records come from many threads' heaps: grow them by a lot at once, and keep it. Memory
 * that is not touched costs nothing. */
static void tune_heaps(void) {
    (void)mallopt(M_TOP_PAD, 16 * 1024 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
}

int main(int argc, char **argv) {
    char directory[PATH_MAX];
    struct dbos_errinfo info = {0};
    struct dbos_alloc alloc;
    program_dir(directory, sizeof directory);
    struct arguments arguments = {
        .engine = {.env = dbos_env_posix(),
                   .data_dir = "dbos-data",
                   .durability = DBOS_DURABILITY_SYNC,
                   .archive = true,
                   .worker = true,
                   .program_dir = directory},
        .net = {.port = PORT},
    };
    int status = parse(argc, argv, &arguments);
    if (status >= 0) {
        return status;
    }
    sigset_t signals;
    block_signals(&signals);
    tune_heaps();
    dbos_alloc_init(&alloc, "node", 0);
    if (run(&alloc, &arguments, &signals, &info) != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "%s%s%s%s%s", info.message, info.detail[0] == 0 ? "" : ". ",
                 info.detail, info.hint[0] == 0 ? "" : " ", info.hint);
        return EXIT_FAILED;
    }
    dbos_alloc_fini(&alloc);
    return 0;
}
