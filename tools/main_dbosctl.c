/* dbosctl: the operator's tool.
 *
 *   dbosctl [-h host] [-p port] [-U user] status
 *   dbosctl [-h host] [-p port] [-U user] top [--interval SECONDS] [--once]
 *   dbosctl [-h host] [-p port] [-U user] procedure load FILE.so --sql 'CREATE … AS :module, …'
 *   dbosctl module check FILE.so …
 *   dbosctl verify DATA_DIR
 *   dbosctl backup DATA_DIR NEW_DIR
 *   dbosctl replay DATA_DIR
 *
 * Exit status: 0 = fine, 1 = the answer is no, 2 = wrong usage.
 *
 * Thread: one. Memory: one allocator, balanced at the end. */
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/hash.h"
#include "procs/module.h"
#include "tools/dbosctl_backup.h"
#include "tools/dbosctl_replay.h"
#include "tools/dbosctl_top.h"
#include "tools/dbosctl_verify.h"

enum { CHUNK_BYTES = 1048576, EXIT_NO = 1, EXIT_USAGE = 2 };

struct options {
    const char *host;
    const char *port;
    const char *user;
    int count; /* of what is not an option */
    const char *words[16];
    const char *sql;
    const char *interval;
    bool once;
};

static int usage(void) {
    (void)fprintf(stderr,
                  "usage: dbosctl [-h host] [-p port] [-U user] status\n"
                  "       dbosctl [-h host] [-p port] [-U user] top [--interval SECONDS] [--once]\n"
                  "       dbosctl [-h host] [-p port] [-U user] snapshot\n"
                  "       dbosctl [-h host] [-p port] [-U user] procedure load FILE.so --sql "
                  "'CREATE PROCEDURE ... LANGUAGE c AS :module, ''symbol'''\n"
                  "       dbosctl module check FILE.so ...\n"
                  "       dbosctl verify DATA_DIR\n"
                  "       dbosctl backup DATA_DIR NEW_DIR\n"
                  "       dbosctl replay DATA_DIR\n");
    return EXIT_USAGE;
}

static bool parse(int argc, char **argv, struct options *options) {
    *options = (struct options){.host = "127.0.0.1", .port = "5433", .user = "dbos"};
    for (int i = 1; i < argc; i++) {
        const char **value = NULL;
        if (strcmp(argv[i], "--once") == 0) {
            options->once = true;
            continue;
        }
        if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--host") == 0) {
            value = &options->host;
        } else if (strcmp(argv[i], "-p") == 0 || strcmp(argv[i], "--port") == 0) {
            value = &options->port;
        } else if (strcmp(argv[i], "-U") == 0) {
            value = &options->user;
        } else if (strcmp(argv[i], "--sql") == 0) {
            value = &options->sql;
        } else if (strcmp(argv[i], "--interval") == 0) {
            value = &options->interval;
        } else if (argv[i][0] == '-' || options->count == 16) {
            return false;
        }
        if (value == NULL) {
            options->words[options->count++] = argv[i];
        } else if (++i == argc) {
            return false;
        } else {
            *value = argv[i];
        }
    }
    return options->count > 0;
}

static bool is(const struct options *options, int i, const char *word) {
    return i < options->count && strcmp(options->words[i], word) == 0;
}

/* -- files ----------------------------------------------------------------------------------------
 */

/* The whole file in a block of `alloc`; NULL and a message on standard error. */
static uint8_t *read_file(struct dbos_alloc *alloc, const char *path, size_t *out_bytes) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info = {0};
    int file = -1;
    uint64_t size_bytes = 0;
    uint8_t *data = NULL;
    if (env->ops->file_open(env, path, DBOS_OPEN_READ, &file, &info) != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: %s\n", info.message);
        return NULL;
    }
    enum dbos_err err = env->ops->file_size(env, file, &size_bytes, &info);
    if (err == DBOS_OK && size_bytes > DBOS_MODULE_BYTES_MAX) {
        err = dbos_fail(&info, DBOS_ERR_LIMIT, "%s is over 64 MB", path);
    }
    if (err == DBOS_OK && (data = dbos_take(alloc, size_bytes + 1)) == NULL) {
        err = dbos_fail(&info, DBOS_ERR_NOMEM, "out of memory for %s", path);
    }
    if (err == DBOS_OK) {
        err = env->ops->file_read(env, file, 0, data, size_bytes, out_bytes, &info);
    }
    env->ops->file_close(env, file);
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: %s\n", info.message);
        dbos_give(alloc, data);
        return NULL;
    }
    return data;
}

static bool check_bytes(const char *path, const uint8_t *data, size_t size_bytes) {
    struct dbos_module_facts facts;
    struct dbos_errinfo info = {0};
    if (dbos_module_check(data, size_bytes, &facts, &info) == DBOS_OK) {
        return true;
    }
    (void)fprintf(stderr, "%s: %s\n", path, info.message);
    if (info.hint[0] != '\0') {
        (void)fprintf(stderr, "%s\n", info.hint);
    }
    return false;
}

static int module_check(struct dbos_alloc *alloc, const struct options *options) {
    int status = 0;
    for (int i = 2; i < options->count; i++) {
        size_t size_bytes = 0;
        uint8_t *data = read_file(alloc, options->words[i], &size_bytes);
        if (data == NULL || !check_bytes(options->words[i], data, size_bytes)) {
            status = EXIT_NO;
        }
        dbos_give(alloc, data);
    }
    return status;
}

/* -- the server -----------------------------------------------------------------------------------
 */

static PGconn *connect_to(const struct options *options) {
    const char *const names[] = {"host", "port", "user", "dbname", "application_name", NULL};
    const char *const values[] = {options->host, options->port, options->user,
                                  "dbos",        "dbosctl",     NULL};
    PGconn *connection = PQconnectdbParams(names, values, 0);
    if (PQstatus(connection) != CONNECTION_OK) {
        (void)fprintf(stderr, "dbosctl: %s", PQerrorMessage(connection));
        PQfinish(connection);
        return NULL;
    }
    return connection;
}

static bool succeeded(PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    bool fine = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;
    if (!fine) {
        (void)fprintf(stderr, "dbosctl: %s", PQresultErrorMessage(result));
    }
    return fine;
}

static bool execute(PGconn *connection, const char *sql) {
    PGresult *result = PQexec(connection, sql);
    bool fine = succeeded(result);
    PQclear(result);
    return fine;
}

static bool put_chunk(PGconn *connection, const char *hash, uint32_t chunk, const uint8_t *data,
                      size_t size_bytes) {
    char number[16];
    (void)snprintf(number, sizeof number, "%u", chunk);
    const char *const values[] = {hash, number, (const char *)data};
    const int lengths[] = {0, 0, (int)size_bytes};
    const int formats[] = {0, 0, 1};
    PGresult *result = PQexecParams(connection, "CALL dbos_module_put($1, $2, $3)", 3, NULL, values,
                                    lengths, formats, 0);
    bool fine = succeeded(result);
    PQclear(result);
    return fine;
}

/* The statement with :module replaced by 'dbos:<hash>'; NULL without :module or memory. */
static char *with_module(struct dbos_alloc *alloc, const char *sql, const char *hash) {
    static const char mark[] = ":module";
    const char *at = strstr(sql, mark);
    size_t room = strlen(sql) + 64;
    char *text = at == NULL ? NULL : dbos_take(alloc, room);
    if (text != NULL) {
        (void)snprintf(text, room, "%.*s'dbos:%s'%s", (int)(at - sql), sql, hash,
                       at + sizeof mark - 1);
    }
    return text;
}

static bool upload(PGconn *connection, const uint8_t *data, size_t size_bytes, const char *hash) {
    uint32_t chunk = 0;
    for (size_t at = 0; at < size_bytes; at += CHUNK_BYTES) {
        size_t left = size_bytes - at;
        if (!put_chunk(connection, hash, chunk++, data + at,
                       left < CHUNK_BYTES ? left : CHUNK_BYTES)) {
            return false;
        }
    }
    return true;
}

static int procedure_load(struct dbos_alloc *alloc, const struct options *options) {
    if (options->count != 3 || options->sql == NULL) {
        return usage();
    }
    const char *path = options->words[2];
    size_t size_bytes = 0;
    uint8_t *data = read_file(alloc, path, &size_bytes);
    if (data == NULL || !check_bytes(path, data, size_bytes)) {
        dbos_give(alloc, data);
        return EXIT_NO;
    }
    char hash[33];
    struct dbos_hash128 content = dbos_hash128(0, data, size_bytes);
    (void)snprintf(hash, sizeof hash, "%016llx%016llx", (unsigned long long)content.high,
                   (unsigned long long)content.low);
    char *sql = with_module(alloc, options->sql, hash);
    PGconn *connection = sql == NULL ? NULL : connect_to(options);
    bool fine = connection != NULL && upload(connection, data, size_bytes, hash) &&
                execute(connection, sql);
    if (sql == NULL) {
        (void)fprintf(stderr, "dbosctl: --sql must contain :module where the file's name stands\n");
    }
    PQfinish(connection);
    dbos_give(alloc, sql);
    dbos_give(alloc, data);
    return fine ? 0 : EXIT_NO;
}

/* One row for each line: the columns with tabs between them. */
static bool print_query(PGconn *connection, const char *title, const char *sql) {
    PGresult *result = PQexec(connection, sql);
    bool fine = succeeded(result);
    if (fine) {
        (void)printf("%s\n", title);
    }
    for (int row = 0; fine && row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++) {
            (void)printf("%s%s", column == 0 ? "  " : "\t", PQgetvalue(result, row, column));
        }
        (void)printf("\n");
    }
    PQclear(result);
    return fine;
}

static int status(const struct options *options) {
    PGconn *connection = connect_to(options);
    if (connection == NULL) {
        return EXIT_NO;
    }
    bool fine = print_query(connection, "version:", "SHOW dbos.version");
    fine = print_query(connection, "tasks (state, count):",
                       "SELECT state, count(*) FROM dbos.task GROUP BY state ORDER BY state") &&
           fine;
    fine = print_query(connection, "models (id, version, architecture, chunks):",
                       "SELECT model_id, version, architecture, chunks FROM dbos.model "
                       "ORDER BY model_id, version") &&
           fine;
    fine = print_query(connection, "tables and procedures (kind, name, version):",
                       "SELECT kind, name, version FROM dbos.catalog ORDER BY kind, name") &&
           fine;
    PQfinish(connection);
    return fine ? 0 : EXIT_NO;
}

static int snapshot(const struct options *options) {
    PGconn *connection = connect_to(options);
    bool fine = connection != NULL &&
                print_query(connection, "snapshot of position:", "SELECT dbos_snapshot()");
    PQfinish(connection);
    return fine ? 0 : EXIT_NO;
}

/* A second, unless --interval says something else: 0.1 s to an hour. */
static bool interval_ms(const struct options *options, uint32_t *out) {
    char *end = NULL;
    double seconds = options->interval == NULL ? 1 : strtod(options->interval, &end);
    if ((end != NULL && (end == options->interval || *end != '\0')) ||
        !(seconds >= 0.1 && seconds <= 3600)) {
        (void)fprintf(stderr, "dbosctl: --interval must be from 0.1 to 3600 seconds\n");
        return false;
    }
    *out = (uint32_t)(seconds * 1000);
    return true;
}

static int top(const struct options *options) {
    char where[128];
    struct dbosctl_top_options top_options = {.where = where, .once = options->once};
    if (!interval_ms(options, &top_options.interval_ms)) {
        return EXIT_USAGE;
    }
    PGconn *connection = connect_to(options);
    if (connection == NULL) {
        return EXIT_NO;
    }
    (void)snprintf(where, sizeof where, "%s:%s", options->host, options->port);
    bool fine = dbosctl_top(connection, &top_options);
    PQfinish(connection);
    return fine ? 0 : EXIT_NO;
}

int main(int argc, char **argv) {
    struct options options;
    struct dbos_alloc alloc;
    int code = EXIT_USAGE;
    dbos_alloc_init(&alloc, "dbosctl", 0);
    if (!parse(argc, argv, &options)) {
        return usage();
    }
    if (is(&options, 0, "module") && is(&options, 1, "check") && options.count > 2) {
        code = module_check(&alloc, &options);
    } else if (is(&options, 0, "procedure") && is(&options, 1, "load")) {
        code = procedure_load(&alloc, &options);
    } else if (is(&options, 0, "status") && options.count == 1) {
        code = status(&options);
    } else if (is(&options, 0, "top") && options.count == 1) {
        code = top(&options);
    } else if (is(&options, 0, "snapshot") && options.count == 1) {
        code = snapshot(&options);
    } else if (is(&options, 0, "backup") && options.count == 3) {
        code = dbosctl_backup(&alloc, options.words[1], options.words[2]);
    } else if (is(&options, 0, "verify") && options.count == 2) {
        code = dbosctl_verify(&alloc, options.words[1]);
    } else if (is(&options, 0, "replay") && options.count == 2) {
        code = dbosctl_replay(&alloc, options.words[1]);
    } else {
        (void)usage();
    }
    dbos_alloc_fini(&alloc);
    return code;
}
