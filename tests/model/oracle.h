/* The naive database that dbosd is compared with: arrays, linear searches, and a copy of every
 * table after every transaction. It knows what each statement reads, writes and answers.
 *
 * What counts as read (docs/provenance.md): equality on a unique index: the row found, even if a
 * further condition rejects it, or an absent key; equality on another index or a range of an
 * ordered one: every row that the index visits; otherwise every live row of the table, or of the
 * partition where the transaction has one partition. UPDATE and DELETE read in the same way, in the
 * same statement as their writes.
 *
 * Thread: one. Memory: from the allocator given at open. */
#ifndef DBOS_TESTS_MODEL_ORACLE_H
#define DBOS_TESTS_MODEL_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "tests/support/modules/model_ops.h"

#define ORACLE_NONE UINT32_MAX /* no version, no transaction */
enum { ORACLE_ALL_PARTITIONS = -1 };

enum oracle_write { ORACLE_INSERT = 1, ORACLE_DELETE, ORACLE_UPDATE };
enum oracle_via { ORACLE_BY_KEY, ORACLE_BY_RANGE, ORACLE_BY_SCAN };
enum oracle_outcome {
    ORACLE_DONE,
    ORACLE_GAVE_UP,   /* dbos_abort() */
    ORACLE_DUPLICATE, /* 23505 */
    ORACLE_ELSEWHERE, /* a row of another partition */
};

struct oracle_row {
    int32_t a, b, g;
    int32_t s; /* text "s<n>"; negative = NULL */
    int64_t v;
};

/* What one statement made of one row. A version's number is its place in oracle.versions. */
struct oracle_version {
    struct oracle_row row; /* DELETE: as it was */
    uint32_t txn;
    uint32_t block;       /* the oracle's own number of the row's identity */
    uint32_t previous;    /* version that it ends, or NONE */
    uint32_t last_reader; /* a read of it; NONE = nobody */
    uint16_t statement;
    uint8_t table;
    uint8_t op; /* enum oracle_write */
};

/* One row seen by one statement. */
struct oracle_read {
    uint32_t txn;
    uint32_t version;
    uint32_t next; /* read of the same version, or NONE */
    uint16_t statement;
    uint8_t via; /* enum oracle_via */
};

/* A transaction that read or wrote something: it has a position. */
struct oracle_txn {
    uint32_t user;
    uint32_t procedure;
    bool committed;
    uint32_t version_first, version_count;
    uint32_t read_first, read_count;
    uint32_t absent_count;
    uint16_t egress;     /* the last statement of which rows left to the client; 0 = none */
    uint32_t copy_first; /* in oracle.copies */
    uint32_t copy_counts[MODEL_TABLES]; /* rows of each table, one table after the other */
};

struct oracle_request {
    uint32_t user;
    uint32_t procedure; /* 0 = none: ad hoc statements */
    int32_t partition;  /* or ORACLE_ALL_PARTITIONS */
    uint32_t op_count;
    struct model_op ops[MODEL_PROGRAM_MAX];
};

struct oracle_reply {
    enum oracle_outcome outcome;
    uint64_t value; /* DONE: as model_ops.c returns it */
    uint32_t txn;   /* NONE: it left no record */
};

struct oracle_list { /* of version numbers or whatever else fits */
    uint32_t *items;
    uint32_t count, capacity;
};

struct oracle {
    struct dbos_alloc *alloc;
    uint32_t partitions;
    bool value_index[MODEL_TABLES]; /* an ordered index on v is there */
    struct oracle_version *versions;
    uint32_t version_count, version_capacity;
    struct oracle_read *reads;
    uint32_t read_count, read_capacity;
    struct oracle_txn *txns;
    uint32_t txn_count, txn_capacity;
    uint32_t block_count;
    struct oracle_list live[MODEL_TABLES]; /* versions */
    struct oracle_list copies;
    struct oracle_list matches; /* scratch of a statement */
};

void oracle_open(struct dbos_alloc *alloc, uint32_t partitions, struct oracle *o);
void oracle_close(struct oracle *o);
/* Run one transaction, wholly or not at all. */
struct oracle_reply oracle_run(struct oracle *o, const struct oracle_request *request);
uint32_t oracle_partition_of(const struct oracle *o, int32_t a);

/* -- questions; lists are cleared first -----------------------------------------------------------
 */

/* The live version of a key now, or NONE. */
uint32_t oracle_find(const struct oracle *o, int32_t table, int32_t a, int32_t b);
/* Versions live after transaction `txn`; borrowed until the next oracle_run(). */
const uint32_t *oracle_copy(const struct oracle *o, uint32_t txn, int32_t table, uint32_t *count);
/* Blocks that ever had this key, oldest first. */
void oracle_blocks(struct oracle *o, int32_t table, int32_t a, int32_t b, struct oracle_list *out);
/* Versions of these blocks, oldest first. */
void oracle_history(struct oracle *o, const struct oracle_list *blocks, struct oracle_list *out);
/* Depth of every version from `starts` (which have 0), NONE where it is not reached. `depths` has
 * version_count items. */
void oracle_upstream(struct oracle *o, const struct oracle_list *starts, uint32_t *depths);
void oracle_downstream(struct oracle *o, const struct oracle_list *starts, uint32_t *depths);

void oracle_list_add(struct dbos_alloc *alloc, struct oracle_list *list, uint32_t item);
bool oracle_list_has(const struct oracle_list *list, uint32_t item);
void oracle_list_close(struct dbos_alloc *alloc, struct oracle_list *list);

#endif /* DBOS_TESTS_MODEL_ORACLE_H */
