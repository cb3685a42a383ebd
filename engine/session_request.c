/* Executions: requests on their way to the engine and back. */
#include "engine/session_internal.h"

enum {
    REPLY_KEPT_BYTES_MAX = 16384,
    UNIT_KEPT_BYTES_MAX = 8192,
    ARENA_CHUNK_BYTES = 4096,
    ATTEMPTS_MAX = 8,
    NO_PARTITION = UINT32_MAX >> 1, /* the barrier's: shared with nothing */
};

static enum dbos_err no_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* -- pool ---------------------------------------------------------------------------------------
 */

enum dbos_err dbos_session_pool_open(struct dbos_alloc *alloc, struct dbos_session_pool **out) {
    *out = dbos_take_zero(alloc, sizeof(struct dbos_session_pool));
    if (*out == NULL) {
        return DBOS_ERR_NOMEM;
    }
    (*out)->alloc = alloc;
    dbos_session_pool_share(*out, 1);
    return DBOS_OK;
}

void dbos_session_pool_share(struct dbos_session_pool *pool, uint32_t sessions) {
    uint32_t share = DBOS_POOL_UNITS_MAX / (sessions == 0 ? 1 : sessions);
    share = share > DBOS_SESSION_UNITS_MAX ? DBOS_SESSION_UNITS_MAX : share;
    pool->share = share < DBOS_SESSION_UNITS_MIN ? DBOS_SESSION_UNITS_MIN : share;
    pool->kept_max = sessions < DBOS_POOL_KEPT_MIN / DBOS_SESSION_UNITS_MIN
                         ? DBOS_POOL_KEPT_MIN
                         : sessions * DBOS_SESSION_UNITS_MIN;
}

static void free_execution(struct dbos_session_pool *pool, struct dbos_execution *execution) {
    dbos_arena_fini(&execution->request.arena);
    dbos_buf_fini(&execution->request.reply);
    dbos_buf_fini(&execution->unit.bytes);
    dbos_give(pool->alloc, execution);
}

void dbos_session_pool_close(struct dbos_session_pool *pool) {
    if (pool == NULL) {
        return;
    }
    while (pool->executions != NULL) {
        struct dbos_execution *execution = pool->executions;
        pool->executions = execution->next;
        free_execution(pool, execution);
    }
    while (pool->units != NULL) {
        struct dbos_unit *unit = pool->units;
        pool->units = unit->next;
        dbos_buf_fini(&unit->bytes);
        dbos_give(pool->alloc, unit);
    }
    dbos_give(pool->alloc, pool);
}

static struct dbos_execution *pooled(struct dbos_session_pool *pool) {
    struct dbos_execution *execution = pool->executions;
    if (execution != NULL) {
        pool->executions = execution->next;
        pool->execution_count--;
        for (size_t at = 0; at < offsetof(struct dbos_request, arena); at += 64) {
            __builtin_prefetch((uint8_t *)pool->executions + at, 1); /* for the next one */
        }
        return execution;
    }
    execution = dbos_take_zero(pool->alloc, sizeof *execution);
    if (execution != NULL) {
        dbos_arena_init(&execution->request.arena, pool->alloc, ARENA_CHUNK_BYTES);
        dbos_buf_init(&execution->request.reply, pool->alloc);
        dbos_buf_init(&execution->unit.bytes, pool->alloc);
    }
    return execution;
}

/* All but the memory that it keeps, room that is written before it is read, and the error, which
 * was cleared when it was pooled. */
static void clear(struct dbos_execution *execution) {
    struct dbos_request *request = &execution->request;
    struct dbos_buf reply = request->reply;
    memset(request, 0, offsetof(struct dbos_request, arena));
    uint8_t *own = (uint8_t *)execution + sizeof *request;
    memset(own, 0, offsetof(struct dbos_execution, one_pinned) - sizeof *request);
    request->reply = reply;
}

struct dbos_execution *dbos_execution_take(struct dbos_session *session) {
    struct dbos_session_pool *pool = session->options.pool;
    struct dbos_execution *execution = pooled(pool);
    if (execution == NULL) {
        return NULL;
    }
    clear(execution);
    execution->session = session;
    execution->pool = pool;
    execution->refs = 1;
    execution->identity = session->identity;
    execution->request.kind = DBOS_REQUEST_STATEMENTS;
    execution->cursors = &execution->one_cursor;
    execution->ends = &execution->one_end;
    atomic_init(&execution->request.cancel, 0);
    atomic_init(&execution->request.is_awaited, 0);
    session->identity->refs++;
    return execution;
}

/* Its parameters are not needed any more. A lender that is done has none itself: one step deep. */
static void drop_lender(struct dbos_execution *execution) {
    if (execution->lender != NULL) {
        struct dbos_execution *lender = execution->lender;
        execution->lender = NULL;
        dbos_execution_unref(lender);
    }
}

void dbos_execution_unref(struct dbos_execution *execution) {
    DBOS_CHECK(execution->refs > 0);
    if (--execution->refs != 0) {
        return;
    }
    struct dbos_session_pool *pool = execution->pool;
    struct dbos_request *request = &execution->request;
    for (uint32_t i = 0; i < request->statement_count; i++) {
        if (!request->statements[i].borrows_plan && request->statements[i].plan != NULL) {
            dbos_plan_unref(request->statements[i].plan); /* the runner has made it */
        }
        dbos_planned_unref(execution->pinned[i].planned);
        dbos_prepared_unref(execution->pinned[i].prepared);
    }
    if (execution->script != NULL) {
        dbos_script_close(execution->script);
    }
    drop_lender(execution);
    dbos_identity_unref(pool->alloc, execution->identity);
    if (pool->execution_count >= pool->kept_max) {
        free_execution(pool, execution);
        return;
    }
    if (request->reply.capacity_bytes > REPLY_KEPT_BYTES_MAX) {
        dbos_buf_fini(&request->reply);
        dbos_buf_init(&request->reply, pool->alloc);
    }
    dbos_buf_reset(&request->reply);
    if (execution->unit.is_call) {
        execution->unit.is_call = false;
        if (execution->unit.bytes.capacity_bytes > UNIT_KEPT_BYTES_MAX) {
            dbos_buf_fini(&execution->unit.bytes);
        }
    }
    dbos_buf_reset(&execution->unit.bytes);
    if (request->arena.used_bytes != 0) {
        dbos_arena_reset(&request->arena);
    }
    if (request->error.code != DBOS_OK) {
        dbos_errinfo_clear(&request->error);
    }
    execution->next = pool->executions;
    pool->executions = execution;
    pool->execution_count++;
}

static enum dbos_err grow(struct dbos_execution *execution, struct dbos_errinfo *info) {
    struct dbos_request *request = &execution->request;
    uint32_t count = request->statement_count;
    if (count == 0) {
        request->statements = &request->one_statement;
        execution->pinned = &execution->one_pinned;
        execution->statement_capacity = 1;
        return DBOS_OK;
    }
    uint32_t capacity = count * 4;
    struct dbos_request_statement *statements =
        dbos_arena_take(&request->arena, capacity * sizeof *statements);
    struct dbos_pinned *pinned = dbos_arena_take(&request->arena, capacity * sizeof *pinned);
    size_t *cursors = dbos_arena_take(&request->arena, capacity * sizeof *cursors);
    size_t *ends = dbos_arena_take(&request->arena, capacity * sizeof *ends);
    if (statements == NULL || pinned == NULL || cursors == NULL || ends == NULL) {
        return no_memory(info);
    }
    memcpy(statements, request->statements, count * sizeof *statements);
    memcpy(pinned, execution->pinned, count * sizeof *pinned);
    request->statements = statements;
    execution->pinned = pinned;
    execution->cursors = cursors;
    execution->ends = ends;
    execution->statement_capacity = capacity;
    return DBOS_OK;
}

static void pin_plan(struct dbos_execution *execution, uint32_t i,
                     const struct dbos_prepared *prepared) {
    struct dbos_request_statement *statement = &execution->request.statements[i];
    statement->plan = prepared->plan;
    statement->borrows_plan = true;
    execution->pinned[i].planned = prepared->planned;
    if (prepared->planned != NULL) {
        prepared->planned->refs++;
    }
}

enum dbos_err dbos_execution_add(struct dbos_execution *execution, struct dbos_prepared *prepared,
                                 const struct dbos_request_statement *statement,
                                 struct dbos_errinfo *info) {
    struct dbos_request *request = &execution->request;
    if (request->statement_count >= DBOS_SESSION_GROUP_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "more than %d statements in one transaction",
                         DBOS_SESSION_GROUP_MAX);
    }
    if (request->statement_count == execution->statement_capacity) {
        enum dbos_err err = grow(execution, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    uint32_t i = request->statement_count++;
    request->statements[i] = *statement;
    pin_plan(execution, i, prepared);
    execution->pinned[i].prepared = prepared;
    prepared->refs++;
    return DBOS_OK;
}

/* -- identity -----------------------------------------------------------------------------------
 */

void dbos_identity_unref(struct dbos_alloc *alloc, struct dbos_identity *identity) {
    if (identity != NULL && --identity->refs == 0) {
        dbos_give(alloc, identity);
    }
}

enum dbos_err dbos_session_identify(struct dbos_session *session) {
    const char *application = dbos_settings_application(&session->settings);
    const char *const texts[] = {session->user, session->address, application};
    const char *copies[3];
    size_t size_bytes = sizeof(struct dbos_identity);
    for (int i = 0; i < 3; i++) {
        size_bytes += strlen(texts[i]) + 1;
    }
    struct dbos_identity *identity = dbos_take_zero(session->alloc, size_bytes);
    if (identity == NULL) {
        return DBOS_ERR_NOMEM;
    }
    char *at = identity->text;
    for (int i = 0; i < 3; i++) {
        size_t length = strlen(texts[i]) + 1;
        copies[i] = memcpy(at, texts[i], length);
        at += length;
    }
    identity->refs = 1;
    identity->info = (struct dbos_session_info){.id = session->id,
                                                .user = copies[0],
                                                .role = copies[0],
                                                .address = copies[1],
                                                .application = copies[2]};
    dbos_identity_unref(session->alloc, session->identity);
    session->identity = identity;
    struct dbos_env *env = dbos_engine_env(session->options.engine);
    dbos_session_list_set(dbos_engine_sessions(session->options.engine), &session->entry,
                          &identity->info, env->ops->wall_us(env));
    return DBOS_OK;
}

/* -- submit -------------------------------------------------------------------------------------
 */

/* It ends here, with an error of our own. */
static void finish_with(struct dbos_session *session, struct dbos_execution *execution,
                        enum dbos_err err) {
    struct dbos_request *request = &execution->request;
    request->outcome = err;
    request->gate_position = session->gate_position;
    dbos_buf_reset(&request->reply);
    dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    execution->is_done = true;
    session->is_skipping = session->is_skipping || execution->goes_on;
}

/* Archive and barrier are queues of their own, that know nothing of our order. */
static bool may_fly(const struct dbos_session *session, uint32_t partition) {
    return session->in_flight == 0 ||
           (partition != NO_PARTITION && session->flying_partition != NO_PARTITION);
}

/* In the order of the session: on the same partition the queue keeps it, else the newest one that
 * is under way takes this one along. */
static void submit_in_order(struct dbos_session *session, struct dbos_execution *execution,
                            uint32_t partition) {
    struct dbos_execution *newest = session->newest;
    session->newest = partition == NO_PARTITION ? NULL : execution;
    bool same_queue = session->newest_is_direct && partition == session->flying_partition;
    session->newest_is_direct = newest == NULL || same_queue;
    session->flying_partition = partition;
    if (session->newest_is_direct) {
        dbos_submitter_queue(session->options.submitter, &execution->request);
    } else {
        dbos_engine_submit_after(session->options.engine, &execution->request, &newest->request);
    }
}

static void note_in_flight(struct dbos_session *session, uint32_t count) {
    session->in_flight = count;
    atomic_store_explicit(&session->entry.in_flight, count, memory_order_relaxed);
}

static void fly(struct dbos_session *session, struct dbos_execution *execution,
                uint32_t partition) {
    session->is_held = session->is_held || execution->request.is_ddl;
    note_in_flight(session, session->in_flight + 1);
    execution->refs++;
    execution->previous = NULL;
    execution->next = session->flying;
    if (execution->next != NULL) {
        execution->next->previous = execution;
    }
    session->flying = execution;
    atomic_store_explicit(&execution->request.then, NULL, memory_order_relaxed);
    submit_in_order(session, execution, partition);
}

static void land(struct dbos_session *session, struct dbos_execution *execution) {
    DBOS_CHECK(session->in_flight > 0);
    note_in_flight(session, session->in_flight - 1);
    session->newest = session->newest == execution ? NULL : session->newest;
    if (execution->next != NULL) {
        execution->next->previous = execution->previous;
    }
    if (execution->previous != NULL) {
        execution->previous->next = execution->next;
    } else {
        session->flying = execution->next;
    }
    execution->next = NULL;
    execution->previous = NULL;
}

/* Where there is one partition, a call of a procedure that runs on one belongs there, whatever its
 * parameters are: that is found out once for each plan. */
static enum dbos_err route(struct dbos_session *session, struct dbos_execution *execution) {
    struct dbos_engine *engine = session->options.engine;
    struct dbos_request *request = &execution->request;
    bool is_single = request->kind == DBOS_REQUEST_STATEMENTS && request->statement_count == 1;
    struct dbos_planned *planned = is_single ? execution->pinned[0].planned : NULL;
    if (planned != NULL && planned->is_routed) {
        request->is_ddl = false;
        request->route = DBOS_ROUTE_ONE;
        request->partition = 0;
        return DBOS_OK;
    }
    enum dbos_err err = dbos_engine_route(engine, request, &request->error);
    if (err == DBOS_OK && planned != NULL && request->route == DBOS_ROUTE_ONE) {
        planned->is_routed = dbos_plan_kind(planned->plan) == DBOS_STATEMENT_CALL &&
                             dbos_engine_partitions(engine) == 1 &&
                             request->idempotency_key == NULL;
    }
    return err;
}

/* Off it goes, or it fails here. False: it must wait for those under way. */
static bool try_start(struct dbos_session *session, struct dbos_execution *execution) {
    struct dbos_request *request = &execution->request;
    enum dbos_err err = route(session, execution);
    if (err != DBOS_OK) {
        finish_with(session, execution, err);
        return true;
    }
    bool is_apart = request->kind == DBOS_REQUEST_ARCHIVE || request->route == DBOS_ROUTE_BARRIER;
    uint32_t partition = is_apart ? NO_PARTITION : request->partition;
    if (!may_fly(session, partition)) {
        if (session->newest != NULL) {
            atomic_store_explicit(&session->newest->request.is_awaited, 1, memory_order_relaxed);
        }
        return false;
    }
    fly(session, execution, partition);
    return true;
}

/* Start those that wait, in their order, as far as they may go together. */
static void start_waiting(struct dbos_session *session) {
    while (session->waiting != NULL) {
        struct dbos_execution *execution = session->waiting;
        struct dbos_execution *next = execution->next; /* start changes it */
        if (!try_start(session, execution)) {
            return;
        }
        session->waiting = next;
        if (next == NULL) {
            session->waiting_last = NULL;
        }
        dbos_execution_unref(execution);
    }
}

/* What belongs to the session at this moment, and is for the next transaction alone. */
static enum dbos_err fill_in(struct dbos_session *session, struct dbos_execution *execution) {
    struct dbos_request *request = &execution->request;
    struct dbos_settings *settings = &session->settings;
    enum dbos_err err = DBOS_OK;
    request->session = &execution->identity->info;
    request->number = ++session->next_number;
    atomic_store_explicit(&session->entry.statements, request->number, memory_order_relaxed);
    request->arrived_ns = session->options.now_ns == NULL ? 0 : *session->options.now_ns;
    request->on_done = session->options.on_done;
    request->on_done_arg = session->options.on_done_arg;
    request->owner = session;
    request->timeout_us =
        settings->has_local_timeout ? settings->local_timeout_us : settings->statement_timeout_us;
    if (settings->has_idempotency_key && !execution->is_describe) {
        request->idempotency_key = dbos_arena_copy(&request->arena, settings->idempotency_key,
                                                   strlen(settings->idempotency_key));
        err = request->idempotency_key == NULL ? no_memory(&request->error) : DBOS_OK;
    }
    if (!execution->is_describe) {
        dbos_settings_end_transaction(settings);
    }
    return err;
}

void dbos_session_submit(struct dbos_session *session, struct dbos_execution *execution) {
    enum dbos_err err = fill_in(session, execution);
    if (err != DBOS_OK) {
        finish_with(session, execution, err);
        return;
    }
    if (session->waiting == NULL && try_start(session, execution)) {
        return;
    }
    execution->refs++;
    execution->next = NULL;
    if (session->waiting == NULL) {
        session->waiting = execution;
    } else {
        session->waiting_last->next = execution;
    }
    session->waiting_last = execution;
}

/* -- back ---------------------------------------------------------------------------------------
 */

/* DDL of another session came in between and it belongs elsewhere now: plan again, and again to the
 * head of the queue. */
static bool try_again(struct dbos_session *session, struct dbos_execution *execution) {
    struct dbos_request *request = &execution->request;
    if (execution->attempts++ == ATTEMPTS_MAX || request->kind != DBOS_REQUEST_STATEMENTS) {
        finish_with(session, execution,
                    dbos_fail(&request->error, DBOS_ERR_STALE_PLAN, "the catalogue has changed"));
        return false;
    }
    for (uint32_t i = 0; i < request->statement_count; i++) {
        struct dbos_prepared *prepared = execution->pinned[i].prepared;
        enum dbos_err err = dbos_prepared_refresh(session, prepared, &request->error);
        if (err != DBOS_OK) {
            finish_with(session, execution, err);
            return false;
        }
        if (!request->statements[i].borrows_plan) {
            dbos_plan_unref(request->statements[i].plan);
        }
        dbos_planned_unref(execution->pinned[i].planned);
        pin_plan(execution, i, prepared);
    }
    request->error = (struct dbos_errinfo){0};
    request->outcome = DBOS_OK;
    dbos_buf_reset(&request->reply);
    execution->refs++;
    execution->next = session->waiting;
    session->waiting = execution;
    session->waiting_last = execution->next == NULL ? execution : session->waiting_last;
    return true;
}

void dbos_session_done(struct dbos_session *session, struct dbos_request *request) {
    struct dbos_execution *execution = (struct dbos_execution *)(void *)request;
    DBOS_CHECK(execution->session == session && !execution->is_done);
    land(session, execution);
    if (request->outcome == DBOS_ERR_STALE_PLAN && session->state != DBOS_SESSION_OVER) {
        (void)try_again(session, execution);
    } else {
        execution->is_done = true;
        bool fails = request->outcome != DBOS_OK;
        session->is_skipping = session->is_skipping || (fails && execution->goes_on);
    }
    if (execution->is_done) {
        dbos_execution_split(execution);
        drop_lender(execution);
    }
    start_waiting(session);
    if (session->in_flight == 0 && session->waiting == NULL) {
        session->is_held = false;
    }
    dbos_execution_unref(execution);
    dbos_submitter_flush(session->options.submitter);
}
