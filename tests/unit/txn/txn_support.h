/* What the tests of txn/ share: a directory, a store on it, tables, transactions, a text of
 * everything that the store holds.
 *
 * Thread: the test's. Memory: malloc and the node's allocator, whose balance close checks. */
#ifndef DBOS_TESTS_UNIT_TXN_TXN_SUPPORT_H
#define DBOS_TESTS_UNIT_TXN_TXN_SUPPORT_H

#include "tests/support/env_fault.h"
#include "txn/snapshot.h"
#include "txn/txn.h"

/* A data directory of its own under /tmp; the caller removes it. */
void test_dir_make(char *out, size_t out_bytes);
void test_dir_remove(const char *dir);
void test_dir_copy(const char *from, const char *to);

/* One log on a directory. */
struct test_log {
    struct dbos_alloc alloc;
    struct dbos_objects *objects;
    struct dbos_log *log;
    struct dbos_recovery recovery;
    struct dbos_errinfo info;
};
struct test_log_options {
    struct dbos_env *env; /* NULL = the real one */
    enum dbos_durability durability;
    uint64_t segment_bytes; /* 0 = 64 KiB */
    uint32_t flush_ms;
    void (*on_durable)(void *arg);
    void *arg;
};
/* Open and recover with the sum of hash deltas for a state; DBOS_OK, or what went wrong, and then
 * everything is closed again. */
enum dbos_err test_log_open(struct test_log *t, const char *dir,
                            const struct test_log_options *options);
enum dbos_err test_log_start(struct test_log *t, const struct test_log_options *options);
void test_log_close(struct test_log *t);
/* Append a record with `bytes` of filling, and an object where object_bytes is not 0. Its hash
 * delta is a function of the position. */
uint64_t test_log_append(struct test_log *t, size_t bytes, size_t object_bytes);
int64_t test_hash_delta(uint64_t position);

/* A store with its log, and transactions for each partition and the barrier. */
enum { TEST_PARTITIONS_MAX = 8 };
struct test_node {
    struct dbos_alloc alloc;
    struct dbos_env *env;
    struct dbos_objects *objects;
    struct dbos_store *store;
    struct dbos_log *log;
    struct dbos_txn *txns[TEST_PARTITIONS_MAX];
    struct dbos_txn *barrier;
    uint32_t partitions;
    int64_t last_us;
    struct dbos_recovery recovery;
    struct dbos_snapshot_facts snapshot; /* that it started from; position 0 = none */
    uint32_t damaged;                    /* snapshots */
    bool has_met_failure;                /* test_node_recovery_fails has happened */
    struct dbos_errinfo info;
};
extern uint64_t test_node_segment_bytes; /* of a node's log; 1 MiB */
extern int64_t test_node_recovery_fails; /* which take of memory fails in recovery; 0 = none */
enum dbos_err test_node_open(struct test_node *node, const char *dir, uint32_t partitions);
enum dbos_err test_node_open_env(struct test_node *node, const char *dir, uint32_t partitions,
                                 struct dbos_env *env);
/* Of DBOS_OK, or the test fails. */
void test_node_open_ok(struct test_node *node, const char *dir, uint32_t partitions);
/* The barrier's transactions record no reads from now on. */
void test_node_reads_off(struct test_node *node);
void test_node_close(struct test_node *node);

/* create table <name> (k bigint primary key, v text, n int) partition by hash (k), or not. */
struct dbos_table_def *test_node_def(struct test_node *node, uint32_t id, const char *name,
                                     bool partitioned);
/* … in a transaction of the barrier. */
void test_node_create(struct test_node *node, uint32_t id, const char *name, bool partitioned);

/* Who calls, and what: what a transaction begins with where nothing else matters. */
extern const struct dbos_session_info test_ada;
extern const struct dbos_txn_call test_call;
/* The position; the test fails where it does not commit. */
uint64_t test_node_commit(struct test_node *node, struct dbos_txn *txn);

/* Everything in the store, as sorted text: tables, rows with block, position and payload. malloc.
 */
char *test_node_text(struct test_node *node);

#endif /* DBOS_TESTS_UNIT_TXN_TXN_SUPPORT_H */
