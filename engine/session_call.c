/* The common call in one go: Bind, Execute and Sync of a prepared statement, as drivers send it.
 *
 * One by one these messages make a portal, a group and two units, only to take them apart again at
 * the Sync. Whatever is out of the ordinary, errors first of all, is left to that way: nothing has
 * been changed by then. */
#include "engine/session_internal.h"

/* Nothing of the conversation has a part in it. */
static bool is_between(const struct dbos_session *session) {
    return session->state == DBOS_SESSION_READY && !session->is_skipping &&
           session->group == NULL && session->portals == NULL;
}

/* Nearly always the one that was called last. `name` ends within the message. */
static struct dbos_prepared *find(struct dbos_session *session, const char *name) {
    struct dbos_prepared *recent = session->recent;
    if (recent == NULL || strcmp(recent->name, name) != 0) {
        recent = dbos_session_find_statement(session, name);
        session->recent = recent;
    }
    return recent;
}

/* It has a plan that is the newest, and is one of those that need nothing else. */
static bool is_callable(const struct dbos_session *session, const struct dbos_prepared *prepared,
                        const struct dbos_wire_bind *bind) {
    return prepared != NULL && prepared->plan != NULL && prepared->kind != DBOS_STATEMENT_DDL &&
           dbos_plan_catalog_version(prepared->plan) ==
               dbos_engine_catalog_version(session->options.engine) &&
           dbos_prepared_check_counts(prepared, bind, NULL) == DBOS_OK;
}

static enum dbos_err fill(struct dbos_execution *execution, struct dbos_prepared *prepared,
                          const struct dbos_wire_call *call) {
    struct dbos_errinfo info; /* nobody hears of it: the long way finds it again */
    struct dbos_portal portal = {0};
    enum dbos_err err = dbos_prepared_bind(prepared, &call->bind, execution, &portal, &info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_request_statement statement = {
        .parameters = portal.parameters,
        .parameter_count = portal.parameter_count,
        .formats = portal.formats,
        .format_count = portal.format_count,
    };
    if (call->describes) {
        dbos_prepared_describe(prepared, portal.formats, portal.format_count,
                               &execution->unit.bytes);
    }
    return dbos_execution_add(execution, prepared, &statement, &info);
}

size_t dbos_session_call(struct dbos_session *session, const uint8_t *data, size_t size_bytes) {
    struct dbos_wire_call call;
    if (!is_between(session) || !dbos_wire_get_call(data, size_bytes, &call)) {
        return 0;
    }
    struct dbos_prepared *prepared = find(session, call.bind.statement);
    if (!is_callable(session, prepared, &call.bind)) {
        return 0;
    }
    struct dbos_execution *execution = dbos_execution_take(session);
    if (execution == NULL) {
        return 0;
    }
    if (fill(execution, prepared, &call) != DBOS_OK) {
        dbos_execution_unref(execution);
        return 0;
    }
    dbos_session_put_call(session, execution);
    dbos_session_submit(session, execution);
    dbos_execution_unref(execution);
    return call.size_bytes;
}
