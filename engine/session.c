#include "engine/session.h"

#include <stdio.h>

#include "engine/session_internal.h"

enum dbos_err dbos_session_open(const struct dbos_session_options *options,
                                struct dbos_session **out) {
    struct dbos_alloc *alloc = dbos_engine_session_alloc(options->engine);
    struct dbos_session *session = dbos_take_zero(alloc, sizeof *session);
    *out = session;
    if (session == NULL) {
        return DBOS_ERR_NOMEM;
    }
    session->alloc = alloc;
    session->options = *options;
    (void)snprintf(session->address, sizeof session->address, "%s", options->address);
    session->options.address = session->address;
    session->needed_bytes = 1;
    dbos_buf_init(&session->lost, alloc);
    dbos_buf_init(&session->notices, alloc);
    return DBOS_OK;
}

static void drop_waiting(struct dbos_session *session) {
    while (session->waiting != NULL) {
        struct dbos_execution *execution = session->waiting;
        session->waiting = execution->next;
        execution->is_discarded = true;
        dbos_execution_unref(execution);
    }
    session->waiting_last = NULL;
}

void dbos_session_close(struct dbos_session *session) {
    if (session == NULL) {
        return;
    }
    DBOS_CHECK(session->in_flight == 0);
    drop_waiting(session);
    dbos_session_drop_group(session);
    dbos_session_drop_portals(session);
    dbos_session_drop_units(session);
    dbos_session_drop_statements(session);
    dbos_session_list_remove(dbos_engine_sessions(session->options.engine), &session->entry);
    dbos_identity_unref(session->alloc, session->identity);
    dbos_buf_fini(&session->lost);
    dbos_buf_fini(&session->notices);
    dbos_give(session->alloc, session);
}

/* -- state --------------------------------------------------------------------------------------
 */

void *dbos_session_owner(struct dbos_session *session) { return session->options.owner; }

size_t dbos_session_needs(const struct dbos_session *session) { return session->needed_bytes; }
uint32_t dbos_session_in_flight(const struct dbos_session *session) { return session->in_flight; }

bool dbos_session_is_ready(const struct dbos_session *session) {
    return session->state == DBOS_SESSION_READY;
}

bool dbos_session_is_idle(const struct dbos_session *session) {
    return session->in_flight == 0 && session->waiting == NULL && session->first == NULL &&
           session->group == NULL;
}

bool dbos_session_is_over(const struct dbos_session *session) {
    return session->state == DBOS_SESSION_OVER;
}

/* An open group must be allowed to go on, whatever is ahead of it: only its Sync lets it run. */
bool dbos_session_wants_input(const struct dbos_session *session) {
    bool is_held = session->is_held && session->in_flight != 0;
    bool is_open = session->group != NULL && session->group->request.statement_count != 0;
    bool is_full =
        session->unit_count >= session->options.pool->share ||
        (session->last != NULL && session->last->bytes.size_bytes >= DBOS_SESSION_UNSENT_MAX);
    return session->state != DBOS_SESSION_OVER && session->waiting == NULL && !is_held &&
           (is_open || !is_full);
}

void dbos_session_cancel_all(struct dbos_session *session) {
    for (struct dbos_execution *at = session->flying; at != NULL; at = at->next) {
        atomic_store_explicit(&at->request.cancel, 1, memory_order_relaxed);
    }
}

bool dbos_session_cancel(struct dbos_session *session, uint32_t process, uint32_t key) {
    if (session->state != DBOS_SESSION_READY || session->key != key ||
        ((uint32_t)session->id & INT32_MAX) != process) {
        return false;
    }
    dbos_session_cancel_all(session);
    return true;
}

void dbos_session_fatal(struct dbos_session *session, const struct dbos_errinfo *info) {
    dbos_session_drop_group(session);
    if (session->state != DBOS_SESSION_OVER) {
        dbos_session_put_boundary(session);
        dbos_wire_put_error(dbos_session_bytes(session), "FATAL", info);
        session->state = DBOS_SESSION_OVER;
    }
}

void dbos_session_end(struct dbos_session *session, const struct dbos_errinfo *why) {
    dbos_session_fatal(session, why);
}

void dbos_session_forsake(struct dbos_session *session, const struct dbos_errinfo *why) {
    bool is_within_reply = session->first != NULL && session->first->is_begun;
    drop_waiting(session);
    dbos_session_drop_group(session);
    dbos_session_drop_units(session);
    if (!is_within_reply) {
        dbos_session_fatal(session, why);
    }
}

void dbos_session_abandon(struct dbos_session *session) {
    session->state = DBOS_SESSION_OVER;
    drop_waiting(session);
    dbos_session_drop_group(session);
    dbos_session_drop_units(session);
}

/* -- input --------------------------------------------------------------------------------------
 */

static void protocol_error(struct dbos_session *session, const char *what, uint32_t type) {
    struct dbos_errinfo info;
    (void)dbos_fail(&info, DBOS_ERR_PROTOCOL, "%s%u", what, type);
    dbos_session_fatal(session, &info);
}

static void refuse_function_call(struct dbos_session *session) {
    struct dbos_errinfo info;
    (void)dbos_fail(&info, DBOS_ERR_NOT_SUPPORTED, "the function call protocol is not supported");
    dbos_wire_put_error(dbos_session_bytes(session), "ERROR", &info);
    dbos_session_put_ready(session);
}

static void handle(struct dbos_session *session, const struct dbos_wire_message *message) {
    if (session->is_skipping && message->type != 'S' && message->type != 'X') {
        return;
    }
    switch (message->type) {
    case 'Q':
        dbos_session_query(session, message->body);
        return;
    case 'P':
    case 'B':
    case 'D':
    case 'E':
    case 'C':
    case 'H':
    case 'S':
        dbos_session_extended(session, message);
        return;
    case 'X':
        dbos_session_drop_group(session);
        session->state = DBOS_SESSION_OVER;
        return;
    case 'd': /* what is left of a COPY that failed */
    case 'c':
    case 'f':
        return;
    case 'F':
        refuse_function_call(session);
        return;
    default:
        protocol_error(session, "invalid frontend message type ", message->type);
        return;
    }
}

static bool is_known_type(uint8_t type) {
    return type != 0 && strchr("QPBDECHSXdcfF", type) != NULL;
}

static enum dbos_wire_frame next(struct dbos_session *session, const uint8_t *data,
                                 size_t size_bytes, struct dbos_wire_message *message) {
    if (session->state == DBOS_SESSION_STARTING) {
        return dbos_wire_next_startup(data, size_bytes, message, &session->needed_bytes);
    }
    enum dbos_wire_frame frame = dbos_wire_next(data, size_bytes, message, &session->needed_bytes);
    if (frame != DBOS_WIRE_BAD && size_bytes != 0 && !is_known_type(data[0])) {
        protocol_error(session, "invalid frontend message type ", data[0]);
        return DBOS_WIRE_BAD;
    }
    return frame;
}

static void bad_length(struct dbos_session *session) {
    if (session->state == DBOS_SESSION_STARTING) {
        session->state = DBOS_SESSION_OVER; /* whoever this is does not speak our protocol */
    } else if (session->state == DBOS_SESSION_READY) {
        struct dbos_errinfo info;
        (void)dbos_fail(&info, DBOS_ERR_PROTOCOL, "invalid message length");
        dbos_err_detail(&info, "A message has at most %d bytes.", DBOS_WIRE_MESSAGE_BYTES_MAX);
        dbos_session_fatal(session, &info);
    }
}

size_t dbos_session_feed(struct dbos_session *session, const void *data, size_t size_bytes) {
    const uint8_t *at = data;
    size_t used = 0;
    while (dbos_session_wants_input(session)) {
        if (session->in_flight == 0) {
            session->is_held = false;
        }
        struct dbos_wire_message message;
        session->needed_bytes = 1;
        if (used == size_bytes) {
            break;
        }
        size_t call_bytes = dbos_session_call(session, at + used, size_bytes - used);
        if (call_bytes != 0) {
            used += call_bytes;
            continue;
        }
        enum dbos_wire_frame frame = next(session, at + used, size_bytes - used, &message);
        if (frame == DBOS_WIRE_PARTIAL) {
            break;
        }
        if (frame == DBOS_WIRE_BAD) {
            bad_length(session);
            break;
        }
        used += message.size_bytes;
        if (session->state == DBOS_SESSION_STARTING) {
            dbos_session_startup(session, message.body);
        } else {
            handle(session, &message);
        }
    }
    dbos_submitter_flush(session->options.submitter);
    return used;
}
