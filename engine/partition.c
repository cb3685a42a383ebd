#include "engine/engine_internal.h"

#include <assert.h>
#include <stddef.h>
#include <stdio.h>

enum { IDLE_WAIT_US = 1000000 };

static void run_request(struct dbos_partition *partition, struct dbos_request *request) {
    dbos_request_run(partition->engine, partition->txn, request);
    atomic_fetch_add_explicit(&partition->executed, 1, memory_order_relaxed);
    struct dbos_request *next = atomic_exchange(&request->then, dbos_request_over());
    request->on_done(request); /* it is the session's again */
    if (next != NULL) {
        dbos_engine_submit(partition->engine, next);
    }
}

/* The log need not wait for more from here. */
static struct dbos_queue_node *rest(struct dbos_partition *partition) {
    struct dbos_log *log = partition->engine->log;
    struct dbos_queue_node *node = NULL;
    dbos_log_producer_rests(log);
    dbos_meter_rest(&partition->engine->meters[partition->index], partition->engine->env);
    while (node == NULL) {
        node = dbos_queue_wait(&partition->queue, IDLE_WAIT_US);
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
    dbos_log_producer_works(partition->engine->log);
    for (;;) {
        struct dbos_queue_node *node = dbos_queue_pop(&partition->queue);
        if (node == NULL) {
            node = rest(partition);
        }
        if (node == &partition->stop) {
            dbos_log_producer_rests(partition->engine->log);
            return NULL;
        }
        if (node == &partition->park) {
            park(partition);
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
