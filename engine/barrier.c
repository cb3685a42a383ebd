#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "engine/engine_internal.h"

/* One barrier runs at most so many requests, so that single-partition work is not starved. */
enum { REQUESTS_PER_BARRIER = 64, SPINS_BEFORE_SLEEP = 2000 };

void dbos_barrier_init(struct dbos_barrier *barrier, bool may_spin) {
    barrier->spins = may_spin ? SPINS_BEFORE_SLEEP : 0;
    dbos_queue_init(&barrier->queue, -1);
    atomic_init(&barrier->requested, 0);
    atomic_init(&barrier->arrived, 0);
    atomic_init(&barrier->generation, 0);
    atomic_init(&barrier->executed, 0);
    barrier->txn = NULL;
}

static void push_park_nodes(struct dbos_engine *engine) {
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        dbos_queue_push(&engine->partitions[i].queue, &engine->partitions[i].park);
    }
}

bool dbos_barrier_idle(const struct dbos_barrier *barrier) {
    return atomic_load(&barrier->requested) == 0;
}

void dbos_barrier_submit(struct dbos_engine *engine, struct dbos_request *request) {
    dbos_queue_push(&engine->barrier.queue, &request->node);
    if (atomic_exchange(&engine->barrier.requested, 1) == 0) {
        push_park_nodes(engine);
    } /* else they are on their way, and the leader looks again before it lets go */
}

/* The partitions stand still: what they have written is visible here. */
static void see_partitions(struct dbos_engine *engine) {
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        dbos_txn_see(engine->barrier.txn, dbos_txn_seen_position(engine->partitions[i].txn));
    }
}

/* Every partition is parked: the tables are ours until the generation changes. Returns whether the
 * queue was emptied. */
static bool run_queued(struct dbos_engine *engine) {
    struct dbos_barrier *barrier = &engine->barrier;
    see_partitions(engine);
    for (uint32_t i = 0; i < REQUESTS_PER_BARRIER; i++) {
        struct dbos_queue_node *node = dbos_queue_pop(&barrier->queue);
        if (node == NULL) {
            return true;
        }
        struct dbos_request *request = (struct dbos_request *)(void *)node;
        if (request->kind == DBOS_REQUEST_SNAPSHOT) {
            dbos_snapshots_cut(engine->snapshots, request);
        } else {
            (void)dbos_request_run(engine, barrier->txn, request, 0);
        }
        atomic_fetch_add_explicit(&barrier->executed, 1, memory_order_relaxed);
        request->on_done(request);
    }
    return false;
}

static void give_turns(struct dbos_engine *engine, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        (void)pthread_mutex_unlock(&engine->partitions[i].turn);
    }
}

/* All partitions sleep, and nothing waits in any of them. A park node in a queue is something. */
static bool take_turns(struct dbos_engine *engine) {
    for (uint32_t i = 0; i < engine->partition_count; i++) {
        if (pthread_mutex_trylock(&engine->partitions[i].turn) != 0) {
            give_turns(engine, i);
            return false;
        }
        if (!dbos_queue_is_empty(&engine->partitions[i].queue)) {
            give_turns(engine, i + 1);
            return false;
        }
    }
    return true;
}

bool dbos_barrier_try(struct dbos_engine *engine, struct dbos_request *request, uint64_t limit_us) {
    if (!take_turns(engine)) {
        return false;
    }
    see_partitions(engine);
    bool has_run = dbos_request_run(engine, engine->barrier.txn, request, limit_us);
    give_turns(engine, engine->partition_count);
    if (has_run) {
        atomic_fetch_add_explicit(&engine->barrier.executed, 1, memory_order_relaxed);
        request->on_done(request);
    }
    return has_run;
}

static void release(struct dbos_barrier *barrier) {
    atomic_store(&barrier->arrived, 0);
    atomic_fetch_add(&barrier->generation, 1);
    (void)syscall(SYS_futex, &barrier->generation, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Something is queued, or a push is half done. Only the leader asks: it is the queue's consumer. */
static bool has_more(struct dbos_barrier *barrier) {
    return atomic_load(&barrier->queue.tail) != barrier->queue.head;
}

/* Run what is queued and let the partitions go on. Lowering `requested` and then looking again
 * closes the gap in which a submitter saw it up and relied on this barrier: either the leader sees
 * its request now, or the submitter sees `requested` down and calls the partitions itself. */
static void lead(struct dbos_engine *engine) {
    struct dbos_barrier *barrier = &engine->barrier;
    bool is_empty = run_queued(engine);
    dbos_meter_rest(&engine->meters[engine->partition_count], engine->env);
    if (is_empty && !has_more(barrier)) {
        atomic_store(&barrier->requested, 0);
        if (!has_more(barrier) || atomic_exchange(&barrier->requested, 1) != 0) {
            release(barrier);
            return;
        }
    }
    release(barrier);
    push_park_nodes(engine);
}

void dbos_barrier_arrive(struct dbos_engine *engine) {
    struct dbos_barrier *barrier = &engine->barrier;
    uint32_t generation = atomic_load(&barrier->generation);
    if (atomic_fetch_add(&barrier->arrived, 1) + 1 == engine->partition_count) {
        lead(engine);
        return;
    }
    for (uint32_t spin = 0; spin < barrier->spins; spin++) {
        if (atomic_load(&barrier->generation) != generation) {
            return;
        }
        __builtin_ia32_pause();
    }
    while (atomic_load(&barrier->generation) == generation) {
        (void)syscall(SYS_futex, &barrier->generation, FUTEX_WAIT_PRIVATE, generation, NULL, NULL,
                      0);
    }
}
