#include "engine/archive_gate.h"

#include "engine/engine_internal.h"
#include "engine/wire.h"

void dbos_archive_gate_init(struct dbos_archive_gate *gate) {
    atomic_init(&gate->state, DBOS_GATE_OPEN);
    atomic_init(&gate->waits, 0);
    atomic_init(&gate->refused, 0);
    atomic_init(&gate->waiting, 0);
    (void)pthread_mutex_init(&gate->lock, NULL);
    gate->ended = false;
    gate->first = NULL;
    gate->last = NULL;
}

void dbos_archive_gate_fini(struct dbos_archive_gate *gate) {
    DBOS_CHECK(gate->first == NULL);
    (void)pthread_mutex_destroy(&gate->lock);
}

/* -- who waits ----------------------------------------------------------------------------------
 */

static bool script_writes(const struct dbos_script *script) {
    for (uint32_t i = 0; i < dbos_script_count(script); i++) {
        enum dbos_statement_kind kind = dbos_script_kind(script, i);
        bool reads = kind == DBOS_STATEMENT_SELECT || kind == DBOS_STATEMENT_SET ||
                     kind == DBOS_STATEMENT_SHOW || kind == DBOS_STATEMENT_EMPTY;
        if (!reads) {
            return true; /* or may: a procedure that is not planned yet */
        }
    }
    return false;
}

static bool writes(const struct dbos_request *request) {
    switch (request->kind) {
    case DBOS_REQUEST_ARCHIVE:
    case DBOS_REQUEST_SNAPSHOT:
        return false;
    case DBOS_REQUEST_SCRIPT:
        return script_writes(request->script);
    case DBOS_REQUEST_TASK:
        return true;
    case DBOS_REQUEST_STATEMENTS:
        break;
    }
    for (uint32_t i = 0; i < request->statement_count; i++) {
        if (!dbos_plan_is_read_only(request->statements[i].plan)) {
            return true;
        }
    }
    return request->idempotency_key != NULL;
}

/* Requests of a session run in its order. */
static bool follows(const struct dbos_archive_gate *gate, const struct dbos_request *request) {
    const struct dbos_request *held = gate->first;
    while (held != NULL && held->owner != request->owner) {
        held = held->next;
    }
    return held != NULL;
}

static void append(struct dbos_archive_gate *gate, struct dbos_request *request) {
    request->next = NULL;
    if (gate->first == NULL) {
        gate->first = request;
    } else {
        gate->last->next = request;
    }
    gate->last = request;
}

bool dbos_archive_gate_hold(struct dbos_engine *engine, struct dbos_request *request) {
    struct dbos_archive_gate *gate = &engine->archive_gate;
    bool may_wait = writes(request);
    (void)pthread_mutex_lock(&gate->lock);
    uint32_t state = atomic_load(&gate->state);
    /* On a full disk what writes is ended at once: nobody has to wait behind it. */
    bool may_follow = !atomic_load(&gate->is_disk_full) && follows(gate, request);
    bool is_held = state == DBOS_GATE_FULL && (may_wait || may_follow);
    if (is_held) {
        if (request->arrived_ns == 0) {
            request->arrived_ns = engine->env->ops->mono_ns(engine->env);
        }
        append(gate, request);
        (void)atomic_fetch_add(&gate->waits, 1);
        (void)atomic_fetch_add(&gate->waiting, 1);
    }
    (void)pthread_mutex_unlock(&gate->lock);
    return is_held;
}

void dbos_archive_gate_close(struct dbos_archive_gate *gate) {
    (void)pthread_mutex_lock(&gate->lock);
    if (!gate->ended && atomic_load(&gate->state) == DBOS_GATE_OPEN) {
        atomic_store(&gate->state, DBOS_GATE_FULL);
    }
    (void)pthread_mutex_unlock(&gate->lock);
}

/* -- going on -----------------------------------------------------------------------------------
 */

/* A task's result has been paid for and nobody is waiting for an answer: it waits until it may be
 * written, and then has all its time. */
static bool has_time_limit(const struct dbos_request *request) {
    return request->timeout_us != 0 && request->kind != DBOS_REQUEST_TASK;
}

/* Its time goes on where it had come to. */
static void pass(struct dbos_engine *engine, struct dbos_request *request, uint64_t now_ns) {
    uint64_t waited_us = (now_ns - request->arrived_ns) / 1000;
    if (has_time_limit(request)) {
        request->timeout_us = request->timeout_us > waited_us ? request->timeout_us - waited_us : 1;
    }
    request->next = NULL;
    dbos_engine_pass(engine, request);
}

/* It is not open before all have gone, so that what follows in a session does not overtake. */
static void let_all_pass(struct dbos_engine *engine) {
    struct dbos_archive_gate *gate = &engine->archive_gate;
    struct dbos_request *request = gate->first;
    uint64_t now_ns = request == NULL ? 0 : engine->env->ops->mono_ns(engine->env);
    while (request != NULL) {
        struct dbos_request *next = request->next;
        pass(engine, request, now_ns);
        request = next;
    }
    gate->first = NULL;
    gate->last = NULL;
    atomic_store(&gate->waiting, 0);
    atomic_store(&gate->state, DBOS_GATE_OPEN);
}

void dbos_archive_gate_open(struct dbos_engine *engine) {
    struct dbos_archive_gate *gate = &engine->archive_gate;
    (void)pthread_mutex_lock(&gate->lock);
    let_all_pass(engine);
    (void)pthread_mutex_unlock(&gate->lock);
}

void dbos_archive_gate_end(struct dbos_engine *engine) {
    struct dbos_archive_gate *gate = &engine->archive_gate;
    (void)pthread_mutex_lock(&gate->lock);
    gate->ended = true;
    let_all_pass(engine);
    (void)pthread_mutex_unlock(&gate->lock);
}

/* -- giving up ----------------------------------------------------------------------------------
 */

static bool gives_up(const struct dbos_archive_gate *gate, const struct dbos_request *request,
                     uint64_t now_ns) {
    bool may_end = request->kind != DBOS_REQUEST_TASK;
    return (may_end && atomic_load(&gate->is_disk_full)) ||
           atomic_load_explicit(&request->cancel, memory_order_relaxed) != 0 ||
           (has_time_limit(request) && now_ns > request->arrived_ns + request->timeout_us * 1000);
}

/* Those that give up, in a list of their own. */
static struct dbos_request *take_those(struct dbos_archive_gate *gate, uint64_t now_ns) {
    struct dbos_request *given_up = NULL;
    struct dbos_request *request = gate->first;
    gate->first = NULL;
    gate->last = NULL;
    while (request != NULL) {
        struct dbos_request *next = request->next;
        if (gives_up(gate, request, now_ns)) {
            request->next = given_up;
            given_up = request;
            (void)atomic_fetch_sub(&gate->waiting, 1);
            (void)atomic_fetch_add(&gate->refused, 1);
        } else {
            append(gate, request);
        }
        request = next;
    }
    return given_up;
}

static void end_refused(struct dbos_engine *engine, struct dbos_request *request) {
    request->gate_position = 0;
    request->position = 0;
    request->is_followed = false;
    dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    struct dbos_request *next = atomic_exchange(&request->then, dbos_request_over());
    request->on_done(request); /* it is the session's again */
    if (next != NULL) {
        dbos_engine_submit(engine, next);
    }
}

static void refuse(struct dbos_engine *engine, struct dbos_request *request) {
    if (atomic_load(&engine->archive_gate.is_disk_full)) {
        request->outcome = dbos_fail(&request->error, DBOS_ERR_DISK_FULL,
                                     "the disk is full: this node only reads");
        dbos_err_detail(&request->error, "There is no room for the log to grow. The statement was "
                                         "not begun.");
        dbos_err_hint(&request->error, "Make room on the disk of the data directory: writes go on "
                                       "by themselves within two seconds.");
        end_refused(engine, request);
        return;
    }
    if (atomic_load(&request->cancel) != 0) {
        request->outcome = dbos_fail(&request->error, DBOS_ERR_CANCELED,
                                     "canceling statement due to user request");
        dbos_err_detail(&request->error, "It waited for the archive, whose backlog is full.");
    } else {
        request->outcome = dbos_fail(&request->error, DBOS_ERR_DISK_FULL,
                                     "the archive is too far behind to take more writes");
        dbos_err_detail(
            &request->error,
            "Its backlog is full; the statement waited until its timeout, and left no trace.");
    }
    dbos_err_hint(&request->error,
                  "See dbos.archive. Writes go on when the archiver has caught up; "
                  "--archive-backlog-max says how far it may be behind.");
    end_refused(engine, request);
}

void dbos_archive_gate_look(struct dbos_engine *engine) {
    struct dbos_archive_gate *gate = &engine->archive_gate;
    if (atomic_load(&gate->waiting) == 0) {
        return;
    }
    uint64_t now_ns = engine->env->ops->mono_ns(engine->env);
    (void)pthread_mutex_lock(&gate->lock);
    struct dbos_request *given_up = take_those(gate, now_ns);
    (void)pthread_mutex_unlock(&gate->lock);
    while (given_up != NULL) {
        struct dbos_request *next = given_up->next;
        given_up->next = NULL;
        refuse(engine, given_up);
        given_up = next;
    }
}
