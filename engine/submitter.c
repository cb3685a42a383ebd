#include "engine/submitter.h"

#include "engine/engine_internal.h"

enum {
    RUNS_MAX = 64,   /* so that neither the sockets nor the log's lingering wait for long */
    LIMIT_US = 1000, /* of one */
};

void dbos_submitter_works(struct dbos_submitter *submitter) {
    submitter->runs_left = RUNS_MAX;
    dbos_log_producer_works(submitter->engine->log);
}

void dbos_submitter_rests(struct dbos_submitter *submitter) {
    DBOS_CHECK(!submitter->holds_log);
    dbos_log_producer_rests(submitter->engine->log);
}

static bool is_quick(const struct dbos_request *request) {
    if (request->kind != DBOS_REQUEST_STATEMENTS || request->is_ddl) {
        return false;
    }
    for (uint32_t i = 0; i < request->statement_count; i++) {
        if (!dbos_plan_is_quick(request->statements[i].plan)) {
            return false;
        }
    }
    return true;
}

static bool try_run(struct dbos_engine *engine, struct dbos_request *request) {
    return request->route == DBOS_ROUTE_BARRIER
               ? dbos_barrier_try(engine, request, LIMIT_US)
               : dbos_partition_try(&engine->partitions[request->partition], request, LIMIT_US);
}

void dbos_submitter_submit(struct dbos_submitter *submitter, struct dbos_request *request) {
    struct dbos_engine *engine = submitter->engine;
    bool may_run = submitter->runs_left != 0 && engine->options.answer == NULL &&
                   dbos_archive_gate_is_open(&engine->archive_gate) && is_quick(request);
    if (may_run && !submitter->holds_log) {
        submitter->holds_log = true;
        dbos_log_hold(engine->log);
    }
    bool has_run = may_run && try_run(engine, request);
    if (!has_run) {
        dbos_engine_submit(engine, request);
    }
    submitter->runs_left = has_run ? submitter->runs_left - 1 : 0;
    if (submitter->runs_left == 0) {
        (void)dbos_submitter_settle(submitter, false);
    }
}

bool dbos_submitter_settle(struct dbos_submitter *submitter, bool is_alone) {
    if (!submitter->holds_log) {
        return false;
    }
    submitter->holds_log = false;
    dbos_log_release(submitter->engine->log, is_alone);
    return is_alone;
}
