/* Clients of the history test: threads that run transactions on the node that is up, and write down
 * what they were told. What was under way when the node was killed is unknown, and they go on at
 * the next one.
 *
 * Thread: each client has its own; the stage is shared. Memory: histories by malloc. */
#ifndef DBOS_HISTORY_CLIENT_H
#define DBOS_HISTORY_CLIENT_H

#include <libpq-fe.h>
#include <pthread.h>

#include "tests/history/workload.h"

enum { CLIENT_DEPTH_MAX = 32, CLIENTS_MAX = 64 };

/* The node as clients see it, and what is left to do. */
struct client_stage {
    struct dbos_env *env;
    struct workload workload;
    uint64_t operations;
    _Atomic uint64_t begun;
    _Atomic bool has_failed; /* a client was told what nobody should be told: `failure` */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool is_up;
    uint32_t incarnation; /* counts nodes from 1 */
    int port;
    uint64_t start_ns; /* times of the history count from here */
    uint64_t ready_ns; /* when the present one was ready, before anybody asked it */
    char failure[512];
};

enum client_kind {
    CLIENT_PROGRAMS, /* calls of history_ops.c, `depth` of them under way at a time */
    CLIENT_SQL,      /* messages of statements, one at a time */
    CLIENT_READER,   /* the final reads of everything */
};

struct client_flight {
    size_t op; /* in the history */
    struct workload_op asked;
};

struct client {
    struct client_stage *stage;
    enum client_kind kind;
    uint32_t number;
    uint32_t depth;
    pthread_t thread;
    struct dbos_rng rng;
    struct history history;
    PGconn *conn;
    uint32_t incarnation;                           /* that it talks to, or did */
    uint64_t sent, settled;                         /* requests; those between are under way */
    struct client_flight flights[CLIENT_DEPTH_MAX]; /* by number of the request */
};

void client_stage_init(struct client_stage *stage, struct dbos_env *env, uint64_t operations);
/* A node is ready at this port; clients go on. */
void client_stage_up(struct client_stage *stage, int port);
/* It is about to be killed. */
void client_stage_down(struct client_stage *stage);

/* `client` is the caller's, with stage, kind, number, depth and history; it ends when all
 * operations were begun. */
void client_start(struct client *client, uint64_t seed);
void client_join(struct client *client);

#endif /* DBOS_HISTORY_CLIENT_H */
