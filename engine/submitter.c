#include "engine/submitter.h"

#include "engine/engine_internal.h"

enum {
    RUNS_MAX = 64,   /* so that neither the sockets nor the log's lingering wait for long */
    LIMIT_US = 1000, /* of one */
    CHAIN_MAX = 16,  /* the partition begins with the first meanwhile */
};

void dbos_submitter_works(struct dbos_submitter *submitter) {
    submitter->runs_left = RUNS_MAX;
    dbos_log_producer_works(submitter->engine->log);
}

void dbos_submitter_rests(struct dbos_submitter *submitter) {
    DBOS_CHECK(submitter->chain.count == 0);
    dbos_log_producer_rests(submitter->engine->log);
}

static bool try_run(struct dbos_engine *engine, struct dbos_request *request) {
    return request->route == DBOS_ROUTE_BARRIER
               ? dbos_barrier_try(engine, request, LIMIT_US)
               : dbos_partition_try(&engine->partitions[request->partition], request, LIMIT_US);
}

void dbos_submitter_flush(struct dbos_submitter *submitter) {
    if (submitter->chain.count != 0) {
        dbos_engine_submit_chain(submitter->engine, &submitter->chain);
        submitter->chain = (struct dbos_request_chain){0};
    }
}

/* Behind the others, if it goes where they go. */
static void hand_over(struct dbos_submitter *submitter, struct dbos_request *request) {
    struct dbos_engine *engine = submitter->engine;
    struct dbos_request_chain *chain = &submitter->chain;
    bool is_apart = request->kind == DBOS_REQUEST_ARCHIVE || request->route == DBOS_ROUTE_BARRIER ||
                    engine->options.answer != NULL ||
                    !dbos_archive_gate_is_open(&engine->archive_gate);
    if (is_apart || chain->count == CHAIN_MAX ||
        (chain->count != 0 && chain->first->partition != request->partition)) {
        dbos_submitter_flush(submitter);
    }
    if (is_apart) {
        dbos_engine_submit(engine, request);
        return;
    }
    if (chain->count++ == 0) {
        chain->first = request;
    } else {
        atomic_store_explicit(&chain->last->node.next, &request->node, memory_order_relaxed);
    }
    chain->last = request;
}

void dbos_submitter_queue(struct dbos_submitter *submitter, struct dbos_request *request) {
    struct dbos_engine *engine = submitter->engine;
    bool may_run = submitter->runs_left != 0 && engine->options.answer == NULL &&
                   dbos_archive_gate_is_open(&engine->archive_gate) &&
                   dbos_request_is_quick(request);
    if (may_run && !submitter->holds_log) {
        submitter->holds_log = true;
        dbos_log_hold(engine->log);
    }
    bool has_run = may_run && try_run(engine, request);
    if (!has_run) {
        hand_over(submitter, request);
    }
    submitter->runs_left = has_run ? submitter->runs_left - 1 : 0;
    if (submitter->runs_left == 0) {
        (void)dbos_submitter_settle(submitter, false);
    }
}

void dbos_submitter_submit(struct dbos_submitter *submitter, struct dbos_request *request) {
    dbos_submitter_queue(submitter, request);
    dbos_submitter_flush(submitter);
}

bool dbos_submitter_settle(struct dbos_submitter *submitter, bool here) {
    if (!submitter->holds_log) {
        return false;
    }
    submitter->holds_log = false;
    dbos_log_release(submitter->engine->log, here);
    return here;
}
