/* What the lives, their clients and their judge share: one world. */
#ifndef DBOS_TESTS_SIM_WORLD_INTERNAL_H
#define DBOS_TESTS_SIM_WORLD_INTERNAL_H

#include "engine/engine_internal.h"
#include "engine/submitter.h"
#include "tests/sim/model.h"
#include "tests/sim/world.h"

enum {
    CLIENTS_MAX = 6,
    PIPELINE_MAX = 5,
    SETUP = 2 + SIM_SMALL_KEYS, /* positions of the first life before clients come */
    POSITIONS_MAX = 3 * SIM_OPS_MAX,
    TEXT_BYTES_MAX = 10000,
    ASYNC_NS_MAX = 1000000000, /* a flush each 100 ms, and what a good disk needs */
};
#define SIM_DATA_DIR "disk/data"

struct client {
    struct world *world;
    struct dbos_session_info session;
    struct dbos_submitter submitter;
    bool runs_itself;
};

struct world {
    uint64_t seed;
    bool is_loud;
    uint32_t operations; /* to be done in all */
    /* This life. */
    uint32_t life;
    bool is_sync;
    uint32_t partitions;
    uint32_t quota; /* operations until it is stopped in order */
    struct dbos_alloc alloc;
    struct dbos_engine *engine;
    struct client clients[CLIENTS_MAX];
    uint32_t client_count;
    uint32_t clients_left;
    uint64_t acked_position; /* the newest that a client knows */
    bool had_fault;          /* the disk may fail in it */
    bool is_stopped;         /* in order */
    bool was_short;          /* … of memory, since a judge has looked */
    bool was_stopped;        /* the life before it */
    bool is_damaged;         /* a bit on its disk is another one: it may refuse to start */
    bool is_slow;            /* an operation of the disk may take its time */
    bool is_small;           /* the disk is full now and then */
    bool is_short;           /* of memory, now and then */
    bool rests;              /* its clients have gone */
    bool has_archive;
    bool has_small_backlog; /* writers wait for it now and then */
    uint32_t large_one_in;  /* so many inserts has a value that is kept apart */
    bool is_verified;
    struct dbos_log_findings seen; /* what verification said before it began */
    struct dbos_errinfo seen_info;
    enum dbos_err seen_err;
    /* All lives. */
    struct sim_op ops[SIM_OPS_MAX];
    uint32_t op_count;
    int32_t key_count;
    uint32_t crcs[POSITIONS_MAX]; /* of the record at each position that was judged */
    uint64_t ended_ns;            /* the life before */
    uint64_t judged;              /* the newest position that the model has seen */
    uint32_t unjudged;            /* the first life whose operations it has not */
    struct sim_model model;
    uint64_t state_hash; /* at an orderly stop; 0 = not known */
    uint32_t acked;
    uint32_t crashes;
    uint32_t snapshots;
};
extern struct world world;

/* judge.c: says what is wrong, with seed and life, and ends the process. */
noreturn void sim_wrong(const char *format, ...) DBOS_PRINTF(1, 2);
/* What verification says of the disk, before the engine is opened. */
void sim_judge_disk(void);
/* The engine is open: is all there that should be, and nothing else? */
void sim_judge_start(void);
/* A client has its answer. */
void sim_judge_time(const struct sim_op *op);
/* The clients have gone, and the disk is good. In the last life, all comes to rest in a while. */
void sim_judge_rest(void);
/* The engine is stopped, and not closed. */
void sim_judge_stop(void);

/* clients.c: SQL that is parsed once; the tables of the first life; clients of this one; what one
 * of them does until the life's quota is used up; whom a moved watermark wakes. */
void sim_clients_prepare(void);
void sim_clients_make_tables(void);
void sim_clients_choose(void);
void *sim_client_main(void *arg);
/* Before the engine is closed. */
void sim_clients_forget_plans(void);
void sim_clients_on_durable(void *arg);

#endif /* DBOS_TESTS_SIM_WORLD_INTERNAL_H */
