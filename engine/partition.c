#include "engine/engine_internal.h"

#include <assert.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>

enum {
    IDLE_WAIT_US = 1000000,
    FOLLOWED_MAX = 64, /* quick ones, of some microseconds each */
    FOLLOWED_MIN = 16, /* from here on it ends with a client's last one: its replies go together */
};

/* By who holds the turn: no locked instruction. */
static void count_executed(struct dbos_partition *partition) {
    uint64_t before = atomic_load_explicit(&partition->executed, memory_order_relaxed);
    atomic_store_explicit(&partition->executed, before + 1, memory_order_relaxed);
}

static void end_request(struct dbos_partition *partition, struct dbos_request *request) {
    struct dbos_request *next = atomic_exchange(&request->then, dbos_request_over());
    request->on_done(request); /* it is the session's again */
    if (next != NULL) {
        dbos_engine_submit(partition->engine, next);
    }
}

/* The next request was written by another processor: have it brought here while this one runs. */
static void fetch_ahead(struct dbos_partition *partition) {
    const uint8_t *ahead = (const uint8_t *)dbos_queue_ahead(&partition->queue);
    if (ahead != NULL) {
        for (size_t at = 0; at < offsetof(struct dbos_request, error); at += 64) {
            __builtin_prefetch(ahead + at);
        }
    }
}

/* Waking the owner for each of many short requests costs more than they do. */
static bool is_followed(struct dbos_partition *partition, const struct dbos_request *request) {
    const struct dbos_queue_node *node = dbos_queue_ahead(&partition->queue);
    if (node == NULL || node == &partition->park || node == &partition->slice ||
        node == &partition->stop) {
        return false;
    }
    const struct dbos_request *next = (const struct dbos_request *)(const void *)node;
    uint32_t most = next->owner == request->owner ? FOLLOWED_MAX : FOLLOWED_MIN;
    return partition->followed_count < most && next->on_done == request->on_done &&
           next->on_done_arg == request->on_done_arg && dbos_request_is_quick(next);
}

static void run_request(struct dbos_partition *partition, struct dbos_request *request) {
    fetch_ahead(partition);
    (void)dbos_request_run(partition->engine, partition->txn, request, 0);
    count_executed(partition);
    request->is_followed = is_followed(partition, request);
    partition->followed_count = request->is_followed ? partition->followed_count + 1 : 0;
    end_request(partition, request);
}

/* The partition is copying for a snapshot, which is over in 0.1 ms: less than two wake-ups take. It
 * may have other work behind that: then no longer. (A lock with a time limit would do, but for
 * ThreadSanitizer, which does not know the one with a clock that can not be set.) */
static bool wait_for_slice(struct dbos_partition *partition) {
    enum { WAIT_NS = 200000 };
    struct dbos_env *env = partition->engine->env;
    uint64_t until_ns = env->ops->mono_ns(env) + WAIT_NS;
    do {
        (void)sched_yield();
        if (pthread_mutex_trylock(&partition->turn) == 0) {
            return true;
        }
    } while (env->ops->mono_ns(env) < until_ns);
    return false;
}

bool dbos_partition_try(struct dbos_partition *partition, struct dbos_request *request,
                        uint64_t limit_us) {
    if (pthread_mutex_trylock(&partition->turn) != 0) {
        if (!dbos_snapshots_is_slicing(partition->engine->snapshots, partition->index)) {
            return false;
        }
        if (!wait_for_slice(partition)) {
            return false;
        }
    }
    bool has_run = dbos_queue_is_empty(&partition->queue) &&
                   dbos_request_run(partition->engine, partition->txn, request, limit_us);
    if (has_run) {
        count_executed(partition);
    }
    (void)pthread_mutex_unlock(&partition->turn);
    if (has_run) {
        end_request(partition, request);
    }
    return has_run;
}

/* The log need not wait for more from here. */
static struct dbos_queue_node *rest(struct dbos_partition *partition) {
    struct dbos_log *log = partition->engine->log;
    struct dbos_queue_node *node = NULL;
    dbos_log_producer_rests(log);
    dbos_meter_rest(&partition->engine->meters[partition->index], partition->engine->env);
    while (node == NULL) {
        node = dbos_queue_wait_turn(&partition->queue, &partition->turn, IDLE_WAIT_US);
    }
    dbos_log_producer_works(log);
    return node;
}

static void park(struct dbos_partition *partition) {
    dbos_log_producer_rests(partition->engine->log);
    dbos_meter_rest(&partition->engine->meters[partition->index], partition->engine->env);
    dbos_barrier_arrive(partition->engine);
    dbos_log_producer_works(partition->engine->log);
}

static void *partition_main(void *arg) {
    struct dbos_partition *partition = arg;
    (void)pthread_mutex_lock(&partition->turn);
    dbos_log_producer_works(partition->engine->log);
    for (;;) {
        struct dbos_queue_node *node = dbos_queue_pop(&partition->queue);
        if (node == NULL) {
            node = rest(partition);
        }
        if (node == &partition->stop) {
            dbos_log_producer_rests(partition->engine->log);
            (void)pthread_mutex_unlock(&partition->turn);
            return NULL;
        }
        if (node == &partition->park) {
            park(partition);
        } else if (node == &partition->slice) {
            dbos_meter_rest(&partition->engine->meters[partition->index], partition->engine->env);
            dbos_snapshots_slice(partition->engine->snapshots, partition->index);
        } else {
            run_request(partition, (struct dbos_request *)(void *)node);
        }
    }
}

enum dbos_err dbos_partition_start(struct dbos_partition *partition, struct dbos_errinfo *info) {
    static_assert(offsetof(struct dbos_request, node) == 0, "a queued node is its request");
    if (pthread_create(&partition->thread, NULL, partition_main, partition) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the thread of partition %u",
                         partition->index);
    }
    partition->running = true;
    char name[16];
    (void)snprintf(name, sizeof name, "partition-%u", partition->index % 1000);
    (void)pthread_setname_np(partition->thread, name);
    return DBOS_OK;
}

void dbos_partition_stop(struct dbos_partition *partition) {
    if (!partition->running) {
        return;
    }
    dbos_queue_push(&partition->queue, &partition->stop);
    (void)pthread_join(partition->thread, NULL);
    partition->running = false;
}
