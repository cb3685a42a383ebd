/* A whole node in this process, engine and port, as dbosd starts and ends it, on a disk that can be
 * made to fail; and what a client sees of its tables.
 *
 * Thread: one for each node. Memory: the node's is below the root of tests/support/alloc_fault.h;
 * the client's is malloc's. */
#ifndef DBOS_TESTS_FAULTS_NODE_H
#define DBOS_TESTS_FAULTS_NODE_H

#include <libpq-fe.h>

#include "engine/net.h"
#include "tests/support/env_fault.h"

struct fault_node {
    struct env_fault disk; /* initialised by the caller, who may arm it before the start */
    struct dbos_alloc alloc;
    struct dbos_engine *engine;
    struct dbos_net *net;
};

/* Start; on an error nothing of it is left. */
enum dbos_err fault_node_start(struct fault_node *node, const char *dir,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* Drain and close. False: the indexes of a table and its rows do not agree. */
bool fault_node_stop(struct fault_node *node);

/* A session of ana; never NULL. Look at PQstatus(). */
PGconn *fault_node_connect(const struct fault_node *node);
/* All definitions and all rows, as text that does not depend on the order of rows. False: a query
 * has failed; `out` then says which. */
bool fault_node_dump(const struct fault_node *node, PGconn *conn, char *out, size_t out_bytes);

#endif /* DBOS_TESTS_FAULTS_NODE_H */
