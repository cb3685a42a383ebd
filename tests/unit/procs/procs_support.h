/* What the tests of procedures share: a node without a log. Two partitions and the barrier, each
 * with its transaction; statements and calls run as the engine runs them.
 *
 * Thread: the test's. Memory: the node's allocator, whose balance node_close() checks. */
#ifndef DBOS_PROCS_PROCS_SUPPORT_H
#define DBOS_PROCS_PROCS_SUPPORT_H

#include "base/env.h"
#include "procs/outbox.h"
#include "procs/procedure.h"

enum { NODE_PARTITIONS = 2, NODE_TEXT_BYTES = 4096 };

struct node {
    struct dbos_alloc alloc;
    struct dbos_alloc txn_alloc; /* of the transactions alone: a warm call takes nothing of it */
    struct dbos_objects *objects;
    struct dbos_store *store;
    struct dbos_procs *procs;
    struct dbos_txn *barrier;
    struct dbos_txn *parts[NODE_PARTITIONS];
    int64_t last_us;
    struct dbos_outbox_batch batch; /* of the last transaction; node_drop_batch() before the next */
    struct dbos_errinfo info;       /* of the last failure */
    char text[NODE_TEXT_BYTES];     /* rows of the last statement: "1|a\n2|b\n" */
};

void node_open(struct node *node);
void node_close(struct node *node);
/* Close the registry and load it again from the tables, as after a restart. */
enum dbos_err node_reload_procedures(struct node *node);

/* Run the statements of `sql` as one transaction under the barrier. */
enum dbos_err node_try(struct node *node, const char *sql);
void node_exec(struct node *node, const char *sql); /* which must succeed */
/* The same and its rows, which must be `expected`. */
void node_expect(struct node *node, const char *sql, const char *expected);

/* Call a procedure where its route says, as one transaction. Bytes of *out are valid until the next
 * transaction there. */
enum dbos_err node_call(struct node *node, const char *name, const struct dbos_datum *arguments,
                        uint32_t count, struct dbos_datum *out);
/* The partition a bigint lives on. */
uint32_t node_partition_of(const struct node *node, int64_t value);
/* The i-th positive bigint that lives on `partition`. */
int64_t node_value_on(const struct node *node, uint32_t partition, uint32_t i);
void node_drop_batch(struct node *node);

/* Begin and end a transaction by hand; partition DBOS_PARTITION_ALL = the barrier. */
struct dbos_run node_begin(struct node *node, uint32_t partition);
enum dbos_err node_end(struct node *node, const struct dbos_run *run, enum dbos_err err);

/* Path of a compiled module under lib/dbos, in `out`. */
const char *node_module(const char *name, char out[512]);
/* The whole file; give it back to `alloc`. */
uint8_t *node_read_file(struct dbos_alloc *alloc, const char *path, size_t *out_bytes);

struct dbos_datum text_of(const char *text);
struct dbos_datum bigint(int64_t value);
struct dbos_datum integer(int64_t value);
struct dbos_datum bytea(const void *data, size_t size_bytes);

#endif /* DBOS_PROCS_PROCS_SUPPORT_H */
