/* What the simulated node should answer: two tables of integers and texts, and what was kept under
 * idempotency keys. Written from the documentation of SQL, without the engine.
 *
 * Thread: one. Memory: none. */
#ifndef DBOS_TESTS_SIM_MODEL_H
#define DBOS_TESTS_SIM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SIM_KEYS = 40, SIM_SMALL_KEYS = 6, SIM_OPS_MAX = 6000, SIM_IDEMPOTENT_MAX = 1000 };

enum sim_kind {
    SIM_INSERT,       /* a, n, text */
    SIM_ADD,          /* a, n */
    SIM_DELETE,       /* a */
    SIM_ADD_RANGE,    /* a <= k < b, n: all partitions */
    SIM_DIVIDE_RANGE, /* fails half way where a row has n */
    SIM_GET,          /* a */
    SIM_COUNT,        /* all partitions */
    SIM_TRANSFER,     /* two statements in one message: a to b */
    SIM_TRANSFER_BAD, /* … and a third that fails: nothing remains */
    SIM_SMALL_ADD,    /* a, n: the table that is not partitioned */
    SIM_SMALL_COUNT,
    SIM_INDEX, /* CREATE INDEX */
    SIM_DROP_INDEX,
    SIM_TABLE, /* CREATE TABLE: one that comes and goes */
    SIM_DROP_TABLE,
    SIM_TABLE_INSERT, /* a, n: into it */
    SIM_KINDS,
};

/* What a client was told. */
struct sim_answer {
    char error[6]; /* SQLSTATE; "" = done */
    uint32_t rows; /* sent */
    int64_t values[2];
    bool is_null[2];
    int64_t changed; /* sum of the command tags */
};

struct sim_op {
    enum sim_kind kind;
    int64_t a, b, n;
    uint32_t text_bytes;
    char letter; /* of which the text consists */
    int32_t key; /* idempotency; -1 = none */
    /* What happened. */
    uint32_t life;
    bool is_sync;  /* its life's durability */
    bool is_done;  /* it ran to its end */
    bool is_acked; /* and its client was told */
    struct sim_answer answer;
    uint64_t position; /* 0 = left no record */
    uint64_t begun_ns; /* simulated time */
    uint64_t acked_ns;
    bool is_flushed_in_time; /* asynchronously: nothing keeps its life from it */
    uint64_t after;          /* the newest position that had been acknowledged when it began */
    uint64_t logged;         /* where the log has it; 0 = it does not */
};

struct sim_row {
    bool is_there;
    int64_t n;
    uint32_t text_bytes;
    char letter;
    uint64_t position; /* of the transaction that wrote it */
};

struct sim_model {
    struct sim_row rows[SIM_KEYS];
    int64_t small[SIM_SMALL_KEYS];
    bool has_index;
    bool has_table;
    bool in_table[SIM_KEYS];
    bool has_key[SIM_IDEMPOTENT_MAX];
    struct sim_answer kept[SIM_IDEMPOTENT_MAX];
};

/* Run it: what its answer must be, and how many rows it writes (*out_writes; of DDL: 0). `position`
 * is that of the transaction. The model changes as the tables do; with `look` it does not. */
struct sim_answer sim_model_run(struct sim_model *model, const struct sim_op *op, uint64_t position,
                                bool look, uint32_t *out_writes);
bool sim_is_ddl(const struct sim_op *op);
bool sim_answers_agree(const struct sim_answer *one, const struct sim_answer *other);
/* "GET 3 -> 1 row (5, 20)" */
void sim_describe(const struct sim_op *op, const struct sim_answer *answer, char *out,
                  size_t out_bytes);

#endif /* DBOS_TESTS_SIM_MODEL_H */
