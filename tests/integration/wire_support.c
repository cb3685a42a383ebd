#include "tests/integration/wire_support.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <ftw.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32, PATIENCE_S = 30 };

/* -- node ---------------------------------------------------------------------------------------
 */

static void run_node(const char *data, const char *const *arguments, int out) {
    char *words[ARGUMENTS_MAX] = {
        (char *)(uintptr_t) "dbosd",       (char *)(uintptr_t) "--data-dir",
        (char *)(uintptr_t)data,           (char *)(uintptr_t) "--port",
        (char *)(uintptr_t) "0",           (char *)(uintptr_t) "--no-worker",
        (char *)(uintptr_t) "--no-archive"};
    bool has_archive = *arguments != NULL && strcmp(*arguments, "--archive-backlog-max") == 0;
    for (int i = has_archive ? 6 : 7; *arguments != NULL && i < ARGUMENTS_MAX - 1; i++) {
        words[i] = (char *)(uintptr_t)*arguments++;
    }
    (void)dup2(out, STDOUT_FILENO);
    (void)execv(DBOS_BIN_DIR "/dbosd", words);
    _exit(127);
}

static int read_port(int in) {
    char line[256] = "";
    size_t used = 0;
    while (strchr(line, '\n') == NULL && used < sizeof line - 1) {
        ssize_t got = read(in, line + used, sizeof line - 1 - used);
        if (got <= 0) {
            return 0;
        }
        used += (size_t)got;
        line[used] = 0;
    }
    const char *port = strstr(line, "port=");
    return port == NULL ? 0 : atoi(port + 5);
}

void wire_node_start(struct wire_node *node, const char *const *arguments) {
    int out[2];
    (void)snprintf(node->data, sizeof node->data, "/tmp/dbos-wire-XXXXXX");
    cr_assert(mkdtemp(node->data) != NULL);
    cr_assert_eq(pipe(out), 0);
    node->pid = fork();
    if (node->pid == 0) {
        run_node(node->data, arguments, out[1]);
    }
    (void)close(out[1]);
    node->port = read_port(out[0]);
    (void)close(out[0]);
    cr_assert(node->port != 0, "dbosd did not start");
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *where) {
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

void wire_node_stop(struct wire_node *node) {
    int status = -1;
    (void)kill(node->pid, SIGTERM);
    (void)waitpid(node->pid, &status, 0);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    (void)nftw(node->data, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* -- client -------------------------------------------------------------------------------------
 */

void wire_open(struct wire_client *client, const struct wire_node *node) {
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)node->port)};
    struct timeval patience = {.tv_sec = PATIENCE_S};
    *client = (struct wire_client){0};
    dbos_alloc_init(&client->alloc, "client", 0);
    dbos_buf_init(&client->out, &client->alloc);
    dbos_buf_init(&client->in, &client->alloc);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    client->file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)setsockopt(client->file, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int result = connect(client->file, (struct sockaddr *)&where, sizeof where);
    cr_assert_eq(result, 0, "connect: %s", strerror(errno));
}

void wire_begin(struct wire_client *client, const struct wire_node *node) {
    static const char startup[] = "\0\0\0\x20\0\x03\0\0user\0ana\0database\0dbos\0";
    wire_open(client, node);
    wire_put_bytes(client, startup, sizeof startup);
    const char *got = wire_read(client, 'Z', 1);
    cr_assert_str_eq(got, "R S*13 K Z", "%s", got);
}

void wire_close(struct wire_client *client) {
    (void)close(client->file);
    dbos_buf_fini(&client->out);
    dbos_buf_fini(&client->in);
    dbos_alloc_fini(&client->alloc);
}

static size_t begin(struct wire_client *client, char type) {
    dbos_buf_put_u8(&client->out, (uint8_t)type);
    dbos_buf_put_u32(&client->out, 0);
    return client->out.size_bytes - 4;
}

static void finish(struct wire_client *client, size_t start) {
    uint32_t length = (uint32_t)(client->out.size_bytes - start);
    dbos_store_u32(client->out.data + start, __builtin_bswap32(length));
}

static void put_string(struct wire_client *client, const char *text) {
    dbos_buf_put(&client->out, text, strlen(text) + 1);
}

void wire_put_query(struct wire_client *client, const char *query) {
    size_t start = begin(client, 'Q');
    put_string(client, query);
    finish(client, start);
}

void wire_put_parse(struct wire_client *client, const char *name, const char *query, uint32_t oid) {
    size_t start = begin(client, 'P');
    put_string(client, name);
    put_string(client, query);
    dbos_buf_put_be16(&client->out, oid != 0);
    if (oid != 0) {
        dbos_buf_put_be32(&client->out, oid);
    }
    finish(client, start);
}

void wire_put_bind(struct wire_client *client, const char *portal, const char *statement,
                   const char *const *values) {
    size_t start = begin(client, 'B');
    uint16_t count = 0;
    put_string(client, portal);
    put_string(client, statement);
    dbos_buf_put_be16(&client->out, 0);
    while (values[count] != NULL) {
        count++;
    }
    dbos_buf_put_be16(&client->out, count);
    for (uint16_t i = 0; i < count; i++) {
        dbos_buf_put_be32(&client->out, (uint32_t)strlen(values[i]));
        dbos_buf_put(&client->out, values[i], strlen(values[i]));
    }
    dbos_buf_put_be16(&client->out, 0);
    finish(client, start);
}

void wire_put_bind_binary(struct wire_client *client, const char *statement, const void *value,
                          uint32_t size_bytes) {
    size_t start = begin(client, 'B');
    put_string(client, "");
    put_string(client, statement);
    dbos_buf_put_be16(&client->out, 1);
    dbos_buf_put_be16(&client->out, 1);
    dbos_buf_put_be16(&client->out, 1);
    dbos_buf_put_be32(&client->out, size_bytes);
    dbos_buf_put(&client->out, value, size_bytes);
    dbos_buf_put_be16(&client->out, 1);
    dbos_buf_put_be16(&client->out, 1);
    finish(client, start);
}

void wire_put_target(struct wire_client *client, char type, char kind, const char *name) {
    size_t start = begin(client, type);
    dbos_buf_put_u8(&client->out, (uint8_t)kind);
    put_string(client, name);
    finish(client, start);
}

void wire_put_execute(struct wire_client *client, const char *portal, uint32_t rows_max) {
    size_t start = begin(client, 'E');
    put_string(client, portal);
    dbos_buf_put_be32(&client->out, rows_max);
    finish(client, start);
}

void wire_put_bare(struct wire_client *client, char type) { finish(client, begin(client, type)); }

void wire_put_bytes(struct wire_client *client, const void *data, size_t size_bytes) {
    dbos_buf_put(&client->out, data, size_bytes);
}

void wire_send(struct wire_client *client) {
    size_t sent = 0;
    while (sent < client->out.size_bytes) {
        ssize_t result = send(client->file, client->out.data + sent, client->out.size_bytes - sent,
                              MSG_NOSIGNAL);
        if (result <= 0) {
            break; /* what the node says about it is read next */
        }
        sent += (size_t)result;
    }
    dbos_buf_reset(&client->out);
}

/* -- what came ----------------------------------------------------------------------------------
 */

/* More bytes; false at the end of the connection. */
static bool receive(struct wire_client *client) {
    uint8_t *room = dbos_buf_reserve(&client->in, 65536);
    ssize_t got = recv(client->file, room, 65536, 0);
    cr_assert(got >= 0 || errno == ECONNRESET, "no reply: %s; so far: %s", strerror(errno),
              client->text);
    client->in.size_bytes += got > 0 ? (size_t)got : 0;
    return got > 0;
}

/* The next whole message; its body is valid until the next call. 0 = the connection has ended. */
static char next(struct wire_client *client, struct dbos_bytes *body) {
    for (;;) {
        size_t left = client->in.size_bytes - client->seen;
        const uint8_t *at = client->in.data + client->seen;
        uint32_t length = left < 5 ? 0 : __builtin_bswap32(dbos_load_u32(at + 1));
        if (left >= 5 && left >= (size_t)length + 1) {
            *body = (struct dbos_bytes){.data = at + 5, .size_bytes = length - 4};
            client->seen += (size_t)length + 1;
            return (char)at[0];
        }
        if (left == 0) {
            client->in.size_bytes = 0;
            client->seen = 0;
        }
        if (!receive(client)) {
            return 0;
        }
    }
}

static const char *field(struct dbos_bytes body, char code) {
    const char *at = (const char *)body.data;
    while (*at != 0 && *at != code) {
        at += strlen(at) + 1;
    }
    return *at == 0 ? "" : at + 1;
}

static void describe(struct wire_client *client, char type, struct dbos_bytes body, char *out,
                     size_t out_bytes) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    (void)snprintf(out, out_bytes, "%c", type);
    if (type == 'E' || type == 'N') {
        (void)snprintf(out, out_bytes, "%c(%s %s)", type, field(body, 'C'), field(body, 'M'));
    } else if (type == 'C') {
        (void)snprintf(out, out_bytes, "C(%s)", (const char *)body.data);
    } else if (type == 't') {
        uint16_t count = dbos_get_be16(&reader);
        int used = snprintf(out, out_bytes, "t[");
        for (uint16_t i = 0; i < count; i++) {
            used += snprintf(out + used, out_bytes - (size_t)used, "%s%u", i == 0 ? "" : ",",
                             dbos_get_be32(&reader));
        }
        (void)snprintf(out + used, out_bytes - (size_t)used, "]");
    } else if (type == 'K') {
        client->process = dbos_get_be32(&reader);
        client->key = dbos_get_be32(&reader);
    }
}

/* Several of one kind in a row, D and S, are counted. */
static void append(struct wire_client *client, const char *item, int run) {
    size_t used = strlen(client->text);
    if (run > 1) {
        char *last = strrchr(client->text, ' ');
        used = last == NULL ? 0 : (size_t)(last - client->text);
        client->text[used] = 0;
    }
    char counted[64];
    (void)snprintf(counted, sizeof counted, "%s*%d", item, run);
    (void)snprintf(client->text + used, sizeof client->text - used, "%s%s", used == 0 ? "" : " ",
                   run == 0 ? item : counted);
}

const char *wire_read(struct wire_client *client, char last, int count) {
    char item[512];
    char previous = 0;
    int run = 0;
    client->text[0] = 0;
    wire_send(client);
    while (count > 0) {
        struct dbos_bytes body;
        char type = next(client, &body);
        if (type == 0) {
            append(client, "EOF", 0);
            break;
        }
        bool is_counted = type == 'D' || type == 'S';
        run = !is_counted ? 0 : type == previous ? run + 1 : 1;
        previous = type;
        describe(client, type, body, item, sizeof item);
        append(client, item, run);
        count -= type == last;
    }
    return client->text;
}

/* -- libpq --------------------------------------------------------------------------------------
 */

PGconn *wire_connect(int port) {
    char text[128];
    (void)snprintf(text, sizeof text, "host=127.0.0.1 port=%d user=ana dbname=dbos", port);
    PGconn *conn = PQconnectdb(text);
    cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
    return conn;
}

void wire_run(PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    cr_assert(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK, "%s: %s", sql,
              PQerrorMessage(conn));
    PQclear(result);
}

void wire_expect_error(PGconn *conn, const char *sql, const char *sqlstate) {
    PGresult *result = PQexec(conn, sql);
    const char *got = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    cr_expect(got != NULL && strcmp(got, sqlstate) == 0, "%s: %s %s", sql, got,
              PQresultErrorMessage(result));
    PQclear(result);
}

double wire_seconds(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
