/* A dbosd for the tests of the front door, a client that speaks the protocol byte by byte, and what
 * tests with libpq share.
 *
 * Thread: one. Memory: buffers of fixed size in the structs, or from malloc and freed by close. */
#ifndef DBOS_TESTS_INTEGRATION_WIRE_SUPPORT_H
#define DBOS_TESTS_INTEGRATION_WIRE_SUPPORT_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/bytes.h"

struct wire_node {
    char data[64];
    pid_t pid;
    int port;
};

/* Start a node in a new directory; `arguments` ends with NULL. It has no worker, and no archive
 * unless the first of them is --archive-backlog-max. */
void wire_node_start(struct wire_node *node, const char *const *arguments);
/* SIGTERM; it must stop in order. Removes the directory. */
void wire_node_stop(struct wire_node *node);

struct wire_client {
    struct dbos_alloc alloc;
    int file;
    uint32_t process;
    uint32_t key;
    struct dbos_buf out; /* messages not sent yet */
    struct dbos_buf in;  /* bytes not looked at yet, from `seen` on */
    size_t seen;
    char text[8192]; /* what wire_read() returned */
};

/* Connect; nothing is said yet. */
void wire_open(struct wire_client *client, const struct wire_node *node);
/* Connect and start a session as ana. */
void wire_begin(struct wire_client *client, const struct wire_node *node);
void wire_close(struct wire_client *client);

void wire_put_query(struct wire_client *client, const char *query);
void wire_put_parse(struct wire_client *client, const char *name, const char *query, uint32_t oid);
/* Parameters as text, ended by NULL in `values`. */
void wire_put_bind(struct wire_client *client, const char *portal, const char *statement,
                   const char *const *values);
/* One binary parameter, all results binary. */
void wire_put_bind_binary(struct wire_client *client, const char *statement, const void *value,
                          uint32_t size_bytes);
void wire_put_target(struct wire_client *client, char type, char kind, const char *name);
void wire_put_execute(struct wire_client *client, const char *portal, uint32_t rows_max);
void wire_put_bare(struct wire_client *client, char type); /* H, S, X, … */
void wire_put_bytes(struct wire_client *client, const void *data, size_t size_bytes);
void wire_send(struct wire_client *client);

/* Send what was put, read until the `count`-th message of type `last`, or until the end of the
 * connection, and say what came: types in order, as in "1 2 T D*3 C(SELECT 3) Z", "E(42P01 …)",
 * "t[20]", "EOF". */
const char *wire_read(struct wire_client *client, char last, int count);

/* By libpq, as ana; it must work. End it with PQfinish(). */
PGconn *wire_connect(int port);
/* A statement that must work; its rows are dropped. */
void wire_run(PGconn *conn, const char *sql);
/* A statement that must fail so. */
void wire_expect_error(PGconn *conn, const char *sql, const char *sqlstate);

/* Of a clock that only goes on. */
double wire_seconds(void);

#endif /* DBOS_TESTS_INTEGRATION_WIRE_SUPPORT_H */
