/* Units: what the client gets, in the order of its messages. */
#include <stdio.h>

#include "engine/reply.h"
#include "engine/session_internal.h"

enum { KEPT_BYTES_MAX = 8192, SWAP_BYTES_MIN = 32768 };

static struct dbos_unit *take_unit(struct dbos_session *session) {
    struct dbos_session_pool *pool = session->options.pool;
    struct dbos_unit *unit = pool->units;
    if (unit != NULL) {
        pool->units = unit->next;
        pool->unit_count--;
    } else {
        unit = dbos_take_zero(session->alloc, sizeof *unit);
        if (unit == NULL) {
            return NULL;
        }
        dbos_buf_init(&unit->bytes, session->alloc);
    }
    unit->next = NULL;
    unit->execution = NULL;
    unit->is_sync = false;
    unit->is_call = false;
    unit->is_begun = false;
    unit->gate_position = 0;
    unit->run_start = 0;
    unit->run_end = 0;
    return unit;
}

static void give_unit(struct dbos_session *session, struct dbos_unit *unit) {
    struct dbos_session_pool *pool = session->options.pool;
    bool is_own = unit->is_call; /* it lies in the execution */
    if (unit->execution != NULL) {
        dbos_execution_unref(unit->execution);
    }
    if (is_own) {
        return;
    }
    if (unit->bytes.capacity_bytes > KEPT_BYTES_MAX) {
        dbos_buf_fini(&unit->bytes);
        dbos_buf_init(&unit->bytes, session->alloc);
    }
    if (pool->unit_count >= pool->kept_max) {
        dbos_buf_fini(&unit->bytes);
        dbos_give(session->alloc, unit);
        return;
    }
    dbos_buf_reset(&unit->bytes);
    unit->next = pool->units;
    pool->units = unit;
    pool->unit_count++;
}

/* Behind all others. */
static void link_unit(struct dbos_session *session, struct dbos_unit *unit) {
    if (session->last == NULL) {
        session->first = unit;
    } else {
        session->last->next = unit;
    }
    session->last = unit;
    session->unit_count++;
}

/* Without memory for it the conversation can not go on. */
static struct dbos_unit *append_unit(struct dbos_session *session) {
    struct dbos_unit *unit = take_unit(session);
    if (unit == NULL) {
        session->state = DBOS_SESSION_OVER;
        return NULL;
    }
    link_unit(session, unit);
    return unit;
}

static void pop_unit(struct dbos_session *session) {
    struct dbos_unit *unit = session->first;
    session->first = unit->next;
    if (session->first == NULL) {
        session->last = NULL;
    }
    session->unit_count--;
    give_unit(session, unit);
}

void dbos_session_drop_units(struct dbos_session *session) {
    while (session->first != NULL) {
        pop_unit(session);
    }
}

struct dbos_buf *dbos_session_bytes(struct dbos_session *session) {
    struct dbos_unit *unit = session->last;
    if (unit == NULL || unit->execution != NULL) {
        unit = append_unit(session);
    }
    if (unit == NULL) {
        return &session->lost;
    }
    unit->gate_position = session->gate_position;
    return &unit->bytes;
}

void dbos_session_put_result(struct dbos_session *session, struct dbos_execution *execution,
                             uint32_t statement, uint32_t rows_max) {
    struct dbos_unit *unit = session->last;
    if (unit == NULL || unit->execution != NULL) {
        unit = append_unit(session);
    }
    if (unit == NULL) {
        return;
    }
    execution->refs++;
    unit->execution = execution;
    unit->statement = statement;
    unit->rows_max = rows_max;
}

void dbos_session_put_call(struct dbos_session *session, struct dbos_execution *execution) {
    struct dbos_unit *unit = &execution->unit;
    unit->next = NULL;
    unit->execution = execution;
    unit->statement = 0;
    unit->rows_max = 0;
    unit->is_sync = true;
    unit->is_call = true;
    unit->is_begun = false;
    unit->run_start = 0;
    unit->run_end = 0;
    unit->gate_position = session->gate_position;
    execution->refs++;
    link_unit(session, unit);
}

void dbos_session_put_boundary(struct dbos_session *session) {
    struct dbos_unit *unit = append_unit(session);
    if (unit != NULL) {
        unit->is_sync = true;
    }
}

void dbos_session_put_ready(struct dbos_session *session) {
    dbos_session_put_boundary(session);
    dbos_wire_put_ready(dbos_session_bytes(session));
}

/* -- parts of a reply ---------------------------------------------------------------------------
 */

void dbos_execution_split(struct dbos_execution *execution) {
    const struct dbos_buf *reply = &execution->request.reply;
    uint32_t count = execution->request.statement_count;
    if (execution->unit.is_call) {
        return;
    }
    if (execution->request.outcome != DBOS_OK || count <= 1) {
        execution->cursors[0] = 0;
        execution->ends[0] = reply->size_bytes;
        return;
    }
    size_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        execution->cursors[i] = at;
        uint8_t type = 0;
        while (at < reply->size_bytes && type != 'C' && type != 'I') {
            type = reply->data[at];
            at = dbos_wire_message_end(reply, at);
        }
        execution->ends[i] = at;
    }
    DBOS_CHECK(at == reply->size_bytes);
}

/* A reply that is all there is changes hands without being copied; of any other, put_rest() takes
 * as much at a time as `out` should hold. */
static void put_run(struct dbos_unit *unit, struct dbos_buf *out, size_t start, size_t end,
                    bool may_take) {
    struct dbos_buf *reply = &unit->execution->request.reply;
    bool is_whole = start == 0 && end == reply->size_bytes;
    if (may_take && is_whole && out->size_bytes == 0 && end >= SWAP_BYTES_MIN && !out->failed) {
        struct dbos_buf swapped = *out;
        *out = *reply;
        *reply = swapped;
        return;
    }
    unit->run_start = start;
    unit->run_end = end;
}

/* False: there is more of it. */
static bool put_rest(struct dbos_unit *unit, struct dbos_buf *out) {
    size_t left = unit->run_end - unit->run_start;
    if (left == 0) {
        return true;
    }
    size_t room = DBOS_SESSION_UNSENT_MAX;
    room = out->size_bytes < room ? room - out->size_bytes : 0;
    size_t size_bytes = left < room ? left : room;
    dbos_buf_put(out, unit->execution->request.reply.data + unit->run_start, size_bytes);
    unit->run_start += size_bytes;
    return size_bytes == left;
}

static void put_count(struct dbos_buf *out, uint64_t rows) {
    char tag[32];
    (void)snprintf(tag, sizeof tag, "SELECT %llu", (unsigned long long)rows);
    dbos_wire_put_complete(out, tag);
}

/* Some of the rows, from the cursor on: at most `rows_max`, or all that are left. What says so
 * leaves behind them. */
static void put_slice(struct dbos_execution *execution, struct dbos_unit *unit,
                      struct dbos_buf *out) {
    struct dbos_buf *reply = &execution->request.reply;
    size_t start = execution->cursors[unit->statement];
    size_t end = execution->ends[unit->statement];
    bool is_first = start == (unit->statement == 0 ? 0 : execution->ends[unit->statement - 1]);
    size_t at = start;
    uint64_t rows = 0;
    while (at < end && reply->data[at] == 'T') {
        at = dbos_wire_message_end(reply, at);
    }
    size_t rows_start = at;
    while (at < end && reply->data[at] == 'D' && (unit->rows_max == 0 || rows < unit->rows_max)) {
        at = dbos_wire_message_end(reply, at);
        rows++;
    }
    bool is_suspended = unit->rows_max != 0 && rows == unit->rows_max;
    execution->cursors[unit->statement] = is_suspended ? at : end;
    if (is_first && !is_suspended) {
        put_run(unit, out, rows_start, end, false);
        return;
    }
    put_run(unit, out, rows_start, at, false);
    if (is_suspended) {
        dbos_wire_put_portal_suspended(&unit->bytes);
    } else {
        put_count(&unit->bytes, rows);
    }
}

/* Describe of a provenance query: the archive knows its columns. */
static void put_columns(const struct dbos_execution *execution, struct dbos_buf *out) {
    const struct dbos_buf *reply = &execution->request.reply;
    if (reply->size_bytes != 0 && reply->data[0] == 'T') {
        dbos_buf_put(out, reply->data, dbos_wire_message_end(reply, 0));
    } else {
        dbos_wire_put_no_data(out);
    }
}

static void put_part(struct dbos_session *session, struct dbos_unit *unit, struct dbos_buf *out) {
    struct dbos_execution *execution = unit->execution;
    struct dbos_buf *reply = &execution->request.reply;
    bool is_alone = execution->refs == 1 && execution->request.statement_count <= 1;
    if (execution->request.outcome != DBOS_OK) {
        session->is_dropping = true;
        put_run(unit, out, 0, reply->size_bytes, false);
    } else if (execution->is_describe) {
        put_columns(execution, out);
    } else if (execution->is_simple ||
               (is_alone && unit->rows_max == 0 && execution->cursors[0] == 0 &&
                reply->size_bytes != 0 && reply->data[0] != 'T')) {
        put_run(unit, out, 0, reply->size_bytes, is_alone);
    } else {
        put_slice(execution, unit, out);
    }
}

/* Once for each request, when the first of its reply leaves. */
static void measure(struct dbos_session *session, struct dbos_request *request) {
    if (request->arrived_ns != 0) {
        uint64_t now_ns = *session->options.now_ns;
        dbos_histogram_add(dbos_engine_request_times(session->options.engine),
                           now_ns > request->arrived_ns ? now_ns - request->arrived_ns : 0);
        request->arrived_ns = 0;
    }
}

static bool may_leave(const struct dbos_execution *execution, uint64_t durable) {
    return execution->is_done && execution->request.gate_position <= durable;
}

static void put_bytes(struct dbos_unit *unit, struct dbos_buf *out) {
    out->failed = out->failed || unit->bytes.failed;
    dbos_buf_put(out, unit->bytes.data, unit->bytes.size_bytes);
    dbos_buf_reset(&unit->bytes);
}

/* A call's replies: all at once, unless that is much. After an error of what came before it, its
 * Sync alone is answered. */
static void put_call(struct dbos_session *session, struct dbos_unit *unit, struct dbos_buf *out) {
    const struct dbos_buf *reply = &unit->execution->request.reply;
    if (session->is_dropping) {
        dbos_wire_put_ready(out);
        dbos_buf_reset(&unit->bytes);
    } else if (reply->size_bytes <= DBOS_REPLY_SMALL_BYTES_MAX) {
        out->failed = out->failed || unit->bytes.failed || reply->failed;
        dbos_wire_put_call(out, &unit->bytes, reply);
        dbos_buf_reset(&unit->bytes);
    } else {
        out->failed = out->failed || reply->failed;
        dbos_wire_put_bind_complete(out);
        put_bytes(unit, out);
        put_run(unit, out, 0, reply->size_bytes, false);
        dbos_wire_put_ready(&unit->bytes);
    }
    session->is_dropping = false;
    measure(session, &unit->execution->request);
}

/* The bytes of the first unit, and which part of a reply follows. False: it must wait. */
static bool begin_unit(struct dbos_session *session, uint64_t durable, struct dbos_buf *out) {
    struct dbos_unit *unit = session->first;
    struct dbos_execution *execution = unit->execution;
    bool has_result = execution != NULL && !execution->is_discarded;
    session->is_dropping = session->is_dropping && unit->is_call;
    /* What is ready ahead of a result leaves with it: a Flush or Sync, which the client needs to
     * count on any of it, ends the transaction anyway, and a send of its own is dear. */
    if (unit->gate_position > durable || (has_result && !may_leave(execution, durable))) {
        return false;
    }
    if (unit->is_call) {
        put_call(session, unit, out);
    } else {
        put_bytes(unit, out);
    }
    if (has_result && !unit->is_call) {
        out->failed = out->failed || execution->request.reply.failed;
        put_part(session, unit, out);
        measure(session, &execution->request);
    }
    unit->is_begun = true;
    return true;
}

bool dbos_session_collect(struct dbos_session *session, uint64_t durable, struct dbos_buf *out) {
    const struct dbos_alloc *large = dbos_engine_reply_alloc(session->options.engine);
    while (session->first != NULL) {
        struct dbos_unit *unit = session->first;
        if (out->size_bytes >= DBOS_SESSION_UNSENT_MAX || out->alloc == large) {
            return true;
        }
        if (session->is_dropping && !unit->is_sync && !unit->is_begun) {
            pop_unit(session);
            continue;
        }
        if (!unit->is_begun && !begin_unit(session, durable, out)) {
            return false;
        }
        if (!put_rest(unit, out)) {
            return true;
        }
        if (unit->bytes.size_bytes != 0) {
            put_bytes(unit, out);
        }
        pop_unit(session);
    }
    return false;
}

void dbos_session_note_buffered(struct dbos_session *session, size_t bytes, size_t large_bytes) {
    const struct dbos_unit *unit = session->first;
    if (unit != NULL && unit->is_begun && unit->execution != NULL) {
        const struct dbos_buf *reply = &unit->execution->request.reply;
        bool is_large = reply->alloc == dbos_engine_reply_alloc(session->options.engine);
        bytes += is_large ? reply->capacity_bytes : 0;
        large_bytes += is_large ? reply->capacity_bytes : 0;
    }
    atomic_store_explicit(&session->entry.buffered_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&session->entry.large_bytes, large_bytes, memory_order_relaxed);
}
