/* The floor of a request through the network: the node's own net, session and wire code, with a
 * constant in the place of what a call would do.
 *
 *   bench_null_server DATA_DIR [--port N]
 *
 * Everything is real up to the hand-over to a partition: recv, decode, bind, the plan and its
 * route, the encoding of the reply, send. A Bind/Execute of one call of a procedure ends there, in
 * the net thread, with one row of an int4 and its CommandComplete; no partition, transaction,
 * record or log has a part in it, and no reply waits for the disk. All else runs (simple queries
 * too), so that the schema and the procedure are registered as in a node. Says
 * "null-server ready port=<port>"; ends at SIGTERM and SIGINT. Exit status: 0, 1 = failed, 2 =
 * wrong usage.
 *
 * Thread: main waits for signals. Memory: one allocator for what main opens. */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/net.h"
#include "engine/wire.h"

enum { DRAIN_MS = 2000, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* For dbos_engine_options.answer. */
static bool answer(struct dbos_request *request) {
    if (request->kind != DBOS_REQUEST_STATEMENTS || request->statement_count != 1) {
        return false;
    }
    const struct dbos_request_statement *statement = &request->statements[0];
    if (dbos_plan_kind(statement->plan) != DBOS_STATEMENT_CALL || statement->describe) {
        return false;
    }
    struct dbos_datum zero = dbos_datum_int(DBOS_TYPE_INT4, 0);
    dbos_wire_put_row(&request->reply, &zero, 1, statement->formats, statement->format_count);
    dbos_wire_put_complete(&request->reply, "SELECT 1");
    request->outcome = DBOS_OK;
    request->gate_position = 0;
    request->position = 0;
    return true;
}

static void serve_until_signal(struct dbos_net *net, const sigset_t *signals) {
    (void)printf("null-server ready port=%u\n", dbos_net_port(net));
    (void)fflush(stdout);
    int number_of = 0;
    while (sigwait(signals, &number_of) != 0) {
    }
    (void)dbos_net_drain(net, DRAIN_MS);
}

static enum dbos_err run(struct dbos_alloc *alloc, const struct dbos_engine_options *options,
                         uint16_t port, const sigset_t *signals, struct dbos_errinfo *info) {
    struct dbos_net_options net_options = {.port = port};
    struct dbos_engine *engine = NULL;
    struct dbos_net *net = NULL;
    enum dbos_err err = dbos_engine_open(alloc, options, &engine, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_net_open(alloc, engine, &net_options, &net, info);
    if (err == DBOS_OK) {
        err = dbos_engine_start(engine, dbos_net_durable, net, info);
    }
    if (err == DBOS_OK) {
        err = dbos_net_start(net, info);
        if (err == DBOS_OK) {
            serve_until_signal(net, signals);
        }
        dbos_net_stop(net);
        dbos_engine_stop(engine);
    }
    dbos_engine_close(engine);
    dbos_net_close(net);
    return err;
}

/* The folder of this program: modules lie in lib/ beside it. */
static void program_dir(char *out, size_t out_bytes) {
    ssize_t size = readlink("/proc/self/exe", out, out_bytes - 1);
    out[size < 0 ? 0 : size] = 0;
    char *slash = strrchr(out, '/');
    if (slash != NULL) {
        *slash = 0;
    }
}

static bool parse(int argc, char **argv, const char **out_dir, uint16_t *out_port) {
    unsigned long port = 0;
    if (argc == 4 && strcmp(argv[2], "--port") == 0) {
        char *end = NULL;
        port = strtoul(argv[3], &end, 10);
        if (*end != 0 || argv[3][0] < '0' || argv[3][0] > '9' || port > UINT16_MAX) {
            return false;
        }
    } else if (argc != 2) {
        return false;
    }
    *out_dir = argv[1];
    *out_port = (uint16_t)port;
    return argv[1][0] != '-' && argv[1][0] != 0;
}

int main(int argc, char **argv) {
    char directory[PATH_MAX];
    uint16_t port = 0;
    struct dbos_errinfo info = {0};
    struct dbos_alloc alloc;
    struct dbos_engine_options options = {.env = dbos_env_posix(),
                                          .partitions = 1,
                                          .durability = DBOS_DURABILITY_ASYNC,
                                          .program_dir = directory,
                                          .answer = answer};
    if (!parse(argc, argv, &options.data_dir, &port)) {
        (void)fputs("usage: bench_null_server DATA_DIR [--port N]\n", stderr);
        return EXIT_USAGE;
    }
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* before any thread is started */
    (void)signal(SIGPIPE, SIG_IGN);
    program_dir(directory, sizeof directory);
    dbos_alloc_init(&alloc, "null-server", 0);
    if (run(&alloc, &options, port, &signals, &info) != DBOS_OK) {
        (void)fprintf(stderr, "bench_null_server: %s %s\n", info.message, info.hint);
        return EXIT_FAILED;
    }
    dbos_alloc_fini(&alloc);
    return 0;
}
