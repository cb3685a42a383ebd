/* Inside of a transaction: what txn.c (life and writes), txn_commit.c (commit, abort) and ddl.c
 * share.
 *
 * Thread: the runner's. */
#ifndef DBOS_TXN_TXN_INTERNAL_H
#define DBOS_TXN_TXN_INTERNAL_H

#include "txn/txn.h"

enum dbos_undo_kind {
    DBOS_UNDO_INSERT,  /* fresh */
    DBOS_UNDO_REPLACE, /* old, fresh */
    DBOS_UNDO_REMOVE,  /* old */
    DBOS_UNDO_DDL,     /* the store remembers what */
    DBOS_UNDO_DROP,    /* dropped */
};

/* One change, in the transaction's arena. Commit walks from the oldest on, abort from the newest.
 */
struct dbos_undo {
    struct dbos_undo *older;
    struct dbos_undo *newer;
    enum dbos_undo_kind kind;
    struct dbos_table *table;
    struct dbos_row *old;   /* the transaction's, until it ends */
    struct dbos_row *fresh; /* the table's */
    struct dbos_dropped_table *dropped;
};

enum dbos_txn_state { DBOS_TXN_IDLE, DBOS_TXN_ACTIVE };

struct dbos_txn {
    struct dbos_alloc *alloc;
    struct dbos_txn_options options;
    struct dbos_arena arena;
    struct dbos_capture *capture;
    struct dbos_log_pool *pool; /* NULL: nothing is logged */
    enum dbos_txn_state state;
    enum dbos_err doom; /* not OK: only abort is left */
    struct dbos_txn_call call;
    struct dbos_undo *oldest;
    struct dbos_undo *newest;
    uint32_t fresh_objects; /* of the rows written: the most that the record can name */
    uint64_t hash_delta;    /* modulo 2^64 */
    int64_t start_us;
    int64_t wall_us;  /* a reading of the wall clock, at most a millisecond old when it is used, */
    uint64_t wall_ns; /* and the monotonic time of it */
    uint64_t seed;
    bool random_begun;
    bool is_ddl;
    struct dbos_rng random;
    struct dbos_rng seeds;        /* gives each transaction its seed */
    uint64_t last_write_position; /* of this struct's transactions, or shown to it since */
    uint64_t unlogged_position;   /* counts where there is no log */
    void *attachment;             /* of the layer above; NULL at begin */
    struct dbos_buf arguments;    /* as the record holds them */
    struct dbos_buf low_key;
    struct dbos_buf high_key;
};

/* Room for a change, not in the list yet; NULL: out of memory, and the transaction is doomed. */
struct dbos_undo *dbos_txn_undo_make(struct dbos_txn *txn);
void dbos_txn_undo_push(struct dbos_txn *txn, struct dbos_undo *undo);
/* Keeps `err` as the doom where it is NOMEM, and returns it. */
enum dbos_err dbos_txn_note_error(struct dbos_txn *txn, enum dbos_err err);
/* Errors: READ_ONLY, LIMIT (the record is full), the doom. */
enum dbos_err dbos_txn_may_write(struct dbos_txn *txn, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Take back every change, newest first. */
void dbos_txn_undo_all(struct dbos_txn *txn);

#endif /* DBOS_TXN_TXN_INTERNAL_H */
