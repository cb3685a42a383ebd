/* One request, run as one transaction: begin, statements, commit or abort, reply. */
#include <stdio.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "engine/idempotency.h"
#include "engine/reply.h"
#include "engine/task_result.h"
#include "engine/tasks.h"
#include "engine/wire.h"

struct execution {
    struct dbos_engine *engine;
    struct dbos_txn *txn;
    struct dbos_request *request;
    struct dbos_run run;
    uint64_t limit_us; /* given up after so long; 0 = no limit */
    uint64_t start_ns;
    uint64_t end_ns; /* 0 = not known */
    uint32_t polls;
    bool did_ddl;
    bool did_write; /* a statement that is not read-only ran */
};

/* Writes rows into the reply as DataRow messages. */
struct reply_sink {
    struct dbos_sink sink; /* first: the runner hands a pointer to it */
    struct dbos_engine *engine;
    struct dbos_buf *reply;
    const int16_t *formats;
    uint32_t format_count;
    uint64_t rows;
    uint64_t rows_max; /* 0 = all */
};

static enum dbos_err put_row(struct dbos_sink *base, const struct dbos_datum *datums,
                             uint32_t count, struct dbos_errinfo *info) {
    struct reply_sink *sink = (struct reply_sink *)(void *)base;
    dbos_wire_put_row(sink->reply, datums, count, sink->formats, sink->format_count);
    sink->rows++;
    return dbos_reply_check(sink->engine, sink->reply, info);
}

static void init_run(struct execution *x) {
    struct dbos_request *request = x->request;
    struct dbos_env *env = x->engine->env;
    x->run = (struct dbos_run){
        .txn = x->txn,
        .procs = x->engine->procs,
        .user = request->session->user,
        .cancel = &request->cancel,
        .env = env,
        .views = &x->engine->views,
        .polls = &x->polls,
    };
}

static void start_clock(struct execution *x) {
    struct dbos_env *env = x->engine->env;
    uint64_t timeout_us = x->request->timeout_us;
    if (x->limit_us != 0 && (timeout_us == 0 || timeout_us > x->limit_us)) {
        timeout_us = x->limit_us;
    }
    x->start_ns = env->ops->mono_ns(env);
    x->run.deadline_ns = timeout_us == 0 ? 0 : x->start_ns + timeout_us * 1000;
}

/* What the statements have shown of how long they take. A run that its limit ended, or should have
 * ended, is none: false. It is asked before commit. */
static bool note_time(struct execution *x) {
    struct dbos_request *request = x->request;
    if (request->kind != DBOS_REQUEST_STATEMENTS) {
        return true;
    }
    bool asks = x->limit_us != 0;
    for (uint32_t i = 0; i < request->statement_count; i++) {
        asks = asks || !dbos_plan_is_quick(request->statements[i].plan);
    }
    if (!asks) {
        return true;
    }
    x->end_ns = x->engine->env->ops->mono_ns(x->engine->env);
    uint64_t us = (x->end_ns - x->start_ns) / 1000;
    for (uint32_t i = 0; i < request->statement_count; i++) {
        dbos_plan_note_time(request->statements[i].plan, us);
    }
    return x->limit_us == 0 || us < x->limit_us;
}

/* The record names the version that runs, not the one that the request was planned for. */
static void name_procedure(struct execution *x, const struct dbos_request_statement *statement) {
    const struct dbos_procedure_info *procedure = dbos_plan_procedure(statement->plan);
    if (x->request->statement_count == 1 && procedure != NULL) {
        dbos_txn_set_procedure(x->txn, procedure->id, procedure->version,
                               dbos_plan_is_read_only(statement->plan) &&
                                   x->request->idempotency_key == NULL);
    }
}

/* A plan that was made for an older catalogue is made again from its text: DDL came in between. It
 * must still want the same parameters, give the same columns and run here. */
static enum dbos_err refresh_plan(struct execution *x, struct dbos_request_statement *statement,
                                  struct dbos_errinfo *info) {
    struct dbos_catalog *catalog = dbos_txn_catalog(x->txn);
    if (dbos_plan_catalog_version(statement->plan) == catalog->version) {
        return DBOS_OK;
    }
    const enum dbos_type *types = NULL;
    const struct dbos_result_column *old_columns = NULL;
    const struct dbos_result_column *new_columns = NULL;
    uint32_t type_count = dbos_plan_parameters(statement->plan, &types);
    uint32_t old_count = dbos_plan_columns(statement->plan, &old_columns);
    struct dbos_script *script = NULL;
    struct dbos_plan *plan = NULL;
    enum dbos_err err = dbos_script_parse(&x->engine->session_alloc,
                                          dbos_plan_text(statement->plan), &script, info);
    if (err == DBOS_OK) {
        err = dbos_plan_make(&x->engine->session_alloc, catalog, x->engine->procs, script, 0, types,
                             type_count, &plan, info);
    }
    if (script != NULL) {
        dbos_script_close(script); /* the plan keeps its own reference */
    }
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t new_count = dbos_plan_columns(plan, &new_columns);
    bool same = new_count == old_count;
    for (uint32_t i = 0; same && i < new_count; i++) {
        same = new_columns[i].type == old_columns[i].type;
    }
    if (!same) {
        dbos_plan_unref(plan);
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "cached plan must not change result type");
    }
    if (!statement->borrows_plan) {
        dbos_plan_unref(statement->plan);
    }
    statement->plan = plan;
    statement->borrows_plan = false;
    name_procedure(x, statement);
    return DBOS_OK;
}

/* After DDL the same statement may have to run elsewhere; the transaction says so (55P04) unless it
 * only reads, where a part of the rows would be a silent wrong answer. */
static enum dbos_err check_route(struct execution *x,
                                 const struct dbos_request_statement *statement,
                                 struct dbos_errinfo *info) {
    uint32_t partition = dbos_txn_partition(x->txn);
    if (partition == DBOS_PARTITION_ALL) {
        return DBOS_OK;
    }
    enum dbos_route_kind kind = DBOS_ROUTE_ANY;
    uint32_t slot = 0;
    enum dbos_err err = dbos_plan_route(statement->plan, statement->parameters,
                                        statement->parameter_count, &kind, &slot, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (kind == DBOS_ROUTE_BARRIER ||
        (kind == DBOS_ROUTE_ONE && dbos_store_partition_of(x->engine->store, slot) != partition)) {
        return dbos_fail(info, DBOS_ERR_STALE_PLAN, "the catalogue has changed: run it again");
    }
    return DBOS_OK;
}

static enum dbos_err run_statement(struct execution *x, struct dbos_request_statement *statement,
                                   struct dbos_errinfo *info) {
    struct dbos_buf *reply = &x->request->reply;
    bool is_stale = dbos_plan_catalog_version(statement->plan) != dbos_txn_catalog(x->txn)->version;
    if (is_stale) {
        enum dbos_err err = refresh_plan(x, statement, info);
        if (err == DBOS_OK) {
            err = check_route(x, statement, info);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
    const struct dbos_plan *plan = statement->plan;
    const struct dbos_result_column *columns = NULL;
    uint32_t column_count = dbos_plan_columns(plan, &columns);
    if (statement->describe && column_count != 0) {
        dbos_wire_put_row_description(reply, columns, column_count, statement->formats,
                                      statement->format_count);
    }
    if (dbos_plan_kind(plan) == DBOS_STATEMENT_CALL) {
        dbos_txn_statement(x->txn, dbos_plan_statement_id(plan), dbos_plan_text(plan));
    }
    size_t rows_start = reply->size_bytes;
    struct reply_sink sink = {
        .sink = {.row = put_row},
        .engine = x->engine,
        .reply = reply,
        .formats = statement->formats,
        .format_count = statement->format_count,
    };
    uint64_t rows = 0;
    enum dbos_err err = dbos_plan_run(plan, &x->run, statement->parameters,
                                      statement->parameter_count, &sink.sink, &rows, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (sink.rows != 0) {
        size_t bytes = reply->size_bytes - rows_start;
        dbos_txn_note_egress(x->txn, sink.rows, bytes,
                             dbos_hash64(0, reply->data + rows_start, bytes));
    }
    char tag[64];
    dbos_plan_tag(plan, rows, tag, sizeof tag);
    dbos_wire_put_complete(reply, tag);
    x->did_ddl = x->did_ddl || dbos_plan_kind(plan) == DBOS_STATEMENT_DDL;
    x->did_write = x->did_write || !dbos_plan_is_read_only(plan);
    return DBOS_OK;
}

static enum dbos_err run_planned(struct execution *x, struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < x->request->statement_count; i++) {
        enum dbos_err err = run_statement(x, &x->request->statements[i], info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

static const char *name_aside(const struct dbos_script *script, uint32_t i) {
    struct dbos_archive_query query;
    if (dbos_script_kind(script, i) == DBOS_STATEMENT_SHOW) {
        return "SHOW";
    }
    dbos_script_archive(script, i, &query);
    return query.takes_snapshot ? "dbos_snapshot()" : "a provenance query";
}

static enum dbos_err run_script_statement(struct execution *x, uint32_t i,
                                          struct dbos_errinfo *info) {
    struct dbos_script *script = x->request->script;
    enum dbos_statement_kind kind = dbos_script_kind(script, i);
    if (kind == DBOS_STATEMENT_EMPTY || kind == DBOS_STATEMENT_SET) {
        return DBOS_OK; /* the session has applied its settings */
    }
    if (kind == DBOS_STATEMENT_SHOW || kind == DBOS_STATEMENT_ARCHIVE) {
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                         "%s among several statements in one message is not supported",
                         name_aside(script, i));
    }
    struct dbos_request_statement statement = {.describe = true};
    enum dbos_err err = dbos_plan_make(&x->engine->session_alloc, dbos_txn_catalog(x->txn),
                                       x->engine->procs, script, i, NULL, 0, &statement.plan, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = run_statement(x, &statement, info);
    dbos_plan_unref(statement.plan);
    return err;
}

static enum dbos_err run_script(struct execution *x, struct dbos_errinfo *info) {
    uint32_t count = dbos_script_count(x->request->script);
    for (uint32_t i = 0; i < count; i++) {
        enum dbos_err err = run_script_statement(x, i, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

static bool is_given_up(void *arg) {
    struct dbos_run run = ((const struct execution *)arg)->run;
    uint32_t counter = 0;
    run.polls = NULL; /* look at the clock each time */
    return dbos_run_poll(&run, &counter, NULL) != DBOS_OK;
}

/* The one place where a partition, or the barrier with all of them, waits for the disk: memory
 * would grow without a bound behind a stalled one. A client may give up meanwhile; a task's result
 * must not fail because the disk is slow, so that its time begins behind the wait. Returns the
 * monotonic time where that is known. */
static uint64_t wait_for_log(struct execution *x) {
    bool is_client = x->request->kind != DBOS_REQUEST_TASK;
    start_clock(x);
    if (!dbos_log_wait_room(x->engine->log, is_client ? is_given_up : NULL, x)) {
        x->polls = 1; /* the clock was read just now */
        return x->start_ns;
    }
    if (!is_client) {
        start_clock(x);
    }
    return 0;
}

static enum dbos_err run_body(struct execution *x, struct dbos_errinfo *info) {
    uint32_t counter = 0;
    enum dbos_err err = dbos_run_poll(&x->run, &counter, info);
    if (err != DBOS_OK) {
        return err;
    }
    switch (x->request->kind) {
    case DBOS_REQUEST_STATEMENTS:
        return run_planned(x, info);
    case DBOS_REQUEST_SCRIPT:
        return run_script(x, info);
    case DBOS_REQUEST_TASK:
        return dbos_task_result_run(&x->run, x->request, info);
    case DBOS_REQUEST_ARCHIVE:
    case DBOS_REQUEST_SNAPSHOT:
        break;
    }
    return dbos_fail(info, DBOS_ERR_INTERNAL, "request of kind %d in a partition",
                     (int)x->request->kind);
}

/* Unless it has been answered under its idempotency key before. */
static enum dbos_err run_once(struct execution *x, size_t reply_start, struct dbos_errinfo *info) {
    bool replayed = false;
    enum dbos_err err = dbos_idempotency_begin(&x->run, x->request, &replayed, info);
    if (err != DBOS_OK || replayed) {
        return err;
    }
    err = run_body(x, info);
    if (err == DBOS_OK) {
        err = dbos_idempotency_end(&x->run, x->request, reply_start, info);
    }
    if (err == DBOS_OK) {
        err = dbos_idempotency_expire(&x->run, x->request, x->engine->options.idempotency_keys_max,
                                      info);
    }
    return err;
}

/* The record names the procedure when the request is one call of it. */
static void describe_call(struct execution *x, struct dbos_txn_call *call) {
    struct dbos_request *request = x->request;
    *call = (struct dbos_txn_call){.session = request->session, .request = request->number};
    if (request->kind == DBOS_REQUEST_TASK) {
        dbos_task_result_describe(x->engine->store, request, call);
        return;
    }
    if (request->kind != DBOS_REQUEST_STATEMENTS || request->statement_count != 1) {
        return;
    }
    const struct dbos_request_statement *statement = &request->statements[0];
    const struct dbos_procedure_info *procedure = dbos_plan_procedure(statement->plan);
    if (procedure != NULL) {
        call->procedure = procedure->id;
        call->procedure_version = procedure->version;
    }
    call->arguments = statement->parameters;
    call->argument_count = statement->parameter_count;
    /* Keeping a reply under an idempotency key is a write. */
    call->read_only = dbos_plan_is_read_only(statement->plan) && request->idempotency_key == NULL;
}

/* What the reply must wait for (decision 3). A write waits for its own record; a reader, and an
 * error, for the writes that it saw; under provenance_reads = strict for its own record too. */
static void set_gate(struct execution *x, uint64_t position, uint64_t seen) {
    struct dbos_request *request = x->request;
    bool wrote = request->outcome == DBOS_OK && x->did_write;
    request->position = position;
    request->gate_position = seen;
    if (position != 0 && (wrote || x->engine->options.provenance_reads == DBOS_READS_STRICT)) {
        request->gate_position = position;
    }
    if (x->engine->options.durability == DBOS_DURABILITY_ASYNC) {
        request->gate_position = 0;
    }
}

static void finish_ddl(struct execution *x, bool committed) {
    if (dbos_txn_partition(x->txn) != DBOS_PARTITION_ALL) {
        return;
    }
    if (committed) {
        dbos_procs_committed(x->engine->procs);
    } else {
        dbos_procs_aborted(x->engine->procs);
    }
}

static void fail_request(struct execution *x, enum dbos_err err, size_t reply_start) {
    struct dbos_request *request = x->request;
    uint64_t seen = dbos_txn_seen_position(x->txn);
    uint64_t position = 0;
    if (err == DBOS_ERR_STALE_PLAN) {
        dbos_txn_forget(x->txn);
    } else {
        position = dbos_txn_abort(x->txn, err);
    }
    finish_ddl(x, false);
    request->outcome = err;
    /* Nothing of a failed transaction is shown but its error. */
    dbos_reply_cut(x->engine, &request->reply, reply_start);
    if (err != DBOS_ERR_STALE_PLAN && request->kind != DBOS_REQUEST_TASK) {
        dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    }
    set_gate(x, position, seen);
}

static void give_up(struct execution *x, size_t reply_start) {
    dbos_txn_forget(x->txn);
    dbos_errinfo_clear(&x->request->error);
    dbos_reply_cut(x->engine, &x->request->reply, reply_start);
}

/* What it submits takes its memory before the commit: what is committed leaves, whatever happens.
 */
static enum dbos_err prepare_tasks(struct execution *x, struct dbos_task_message **out,
                                   struct dbos_errinfo *info) {
    struct dbos_outbox_batch tasks;
    *out = NULL;
    enum dbos_err err = dbos_outbox_take(x->txn, &tasks, info);
    if (err != DBOS_OK || (tasks.task_count == 0 && tasks.piece_count == 0)) {
        return err;
    }
    return dbos_dispatcher_prepare(x->engine->dispatcher, &tasks, out, info);
}

static enum dbos_err commit(struct execution *x, struct dbos_errinfo *info) {
    struct dbos_dispatcher *dispatcher = x->engine->dispatcher;
    struct dbos_task_message *tasks = NULL;
    uint64_t position = 0;
    uint64_t seen = dbos_txn_seen_position(x->txn);
    x->did_write = x->did_write || dbos_txn_has_writes(x->txn);
    enum dbos_err err = prepare_tasks(x, &tasks, info);
    if (err == DBOS_OK) {
        err = dbos_txn_commit(x->txn, &position, info);
    }
    if (err != DBOS_OK) {
        if (tasks != NULL) {
            dbos_dispatcher_forget_give(dispatcher, tasks);
        }
        return err;
    }
    finish_ddl(x, true);
    if (tasks != NULL) {
        dbos_dispatcher_committed_give(dispatcher, tasks, position);
    }
    set_gate(x, position, seen);
    return DBOS_OK;
}

static bool run_transaction(struct execution *x) {
    struct dbos_txn *txn = x->txn;
    struct dbos_request *request = x->request;
    struct dbos_txn_call call;
    size_t reply_start = request->reply.size_bytes;
    init_run(x);
    uint64_t start_ns = wait_for_log(x);
    describe_call(x, &call);
    call.start_ns = start_ns;
    dbos_txn_begin(txn, &call);
    request->outcome = DBOS_OK;
    enum dbos_err err = run_once(x, reply_start, &request->error);
    if (err == DBOS_OK && request->kind != DBOS_REQUEST_TASK) {
        err = dbos_reply_finish(x->engine, &request->reply, &request->error);
    }
    if (!note_time(x)) {
        give_up(x, reply_start);
        return false;
    }
    if (err == DBOS_OK) {
        err = commit(x, &request->error);
    }
    if (err != DBOS_OK) {
        fail_request(x, err, reply_start);
    }
    return true;
}

bool dbos_request_is_quick(const struct dbos_request *request) {
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

bool dbos_request_run(struct dbos_engine *engine, struct dbos_txn *txn,
                      struct dbos_request *request, uint64_t limit_us) {
    struct execution x = {.engine = engine, .txn = txn, .request = request, .limit_us = limit_us};
    uint32_t partition = dbos_txn_partition(txn);
    request->is_followed = false; /* as long as the partition's queue does not say so */
    struct dbos_meter *meter =
        &engine->meters[partition == DBOS_PARTITION_ALL ? engine->partition_count : partition];
    if (limit_us != 0) { /* it did not come by a queue */
        dbos_meter_submitted(meter, 1);
    }
    if (!run_transaction(&x)) {
        dbos_meter_gave_up(meter);
        return false;
    }
    dbos_meter_note(meter, request, x.start_ns, x.end_ns);
    return true;
}
