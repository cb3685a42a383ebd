/* The simple protocol: Query. */
#include "engine/session_internal.h"

static void fail_query(struct dbos_session *session, const struct dbos_errinfo *info) {
    dbos_settings_end_transaction(&session->settings);
    dbos_wire_put_error(dbos_session_bytes(session), "ERROR", info);
    dbos_session_put_ready(session);
}

/* One statement, or one that is left: a request of its own. The script is handed over. */
static void run_one(struct dbos_session *session, struct dbos_script *script) {
    struct dbos_errinfo info = {0};
    struct dbos_prepare prepare = {.name = ""};
    struct dbos_prepared *prepared = NULL;
    enum dbos_err err = dbos_prepared_of(session, &prepare, script, 0, &prepared, &info);
    if (err == DBOS_OK && dbos_prepared_parameters(prepared) != 0) {
        err = dbos_fail(&info, DBOS_ERR_UNDEFINED_PARAMETER, "there is no parameter $1");
    }
    if (err == DBOS_OK && dbos_statement_is_local(prepared->kind)) {
        err = dbos_prepared_run_locally(session, prepared, true, &info);
        if (err == DBOS_OK) {
            dbos_session_put_ready(session);
        }
    } else if (err == DBOS_OK) {
        struct dbos_execution *execution = dbos_execution_take(session);
        struct dbos_request_statement statement = {.describe = true};
        err = execution == NULL ? dbos_fail(&info, DBOS_ERR_NOMEM, "out of memory")
                                : dbos_execution_add(execution, prepared, &statement, &info);
        if (err == DBOS_OK) {
            execution->is_simple = true;
            if (prepared->kind == DBOS_STATEMENT_ARCHIVE) {
                execution->request.kind = DBOS_REQUEST_ARCHIVE;
                execution->request.script = prepared->script;
            }
            dbos_session_put_result(session, execution, 0, 0);
            dbos_session_put_ready(session);
            dbos_session_submit(session, execution);
        }
        if (execution != NULL) {
            dbos_execution_unref(execution);
        }
    }
    dbos_prepared_unref(prepared);
    if (err != DBOS_OK) {
        fail_query(session, &info);
    }
}

/* Several statements: one transaction, each planned when the one before has run. */
static void run_several(struct dbos_session *session, struct dbos_script *script) {
    struct dbos_execution *execution = dbos_execution_take(session);
    if (execution == NULL) {
        struct dbos_errinfo info;
        (void)dbos_fail(&info, DBOS_ERR_NOMEM, "out of memory");
        dbos_script_close(script);
        fail_query(session, &info);
        return;
    }
    execution->is_simple = true;
    execution->script = script;
    execution->request.kind = DBOS_REQUEST_SCRIPT;
    execution->request.script = script;
    dbos_session_put_result(session, execution, 0, 0);
    dbos_session_put_ready(session);
    dbos_session_submit(session, execution);
    dbos_execution_unref(execution);
}

/* -- SET among others ---------------------------------------------------------------------------
 */

enum mixture {
    ONLY_LOCAL,   /* SET, SHOW and empty statements */
    ONLY_OTHERS,  /* none of them */
    SET_IN_FRONT, /* SET, …, then others */
    BAD_MIXTURE,
};

static enum mixture mixture_of(const struct dbos_script *script) {
    uint32_t local = 0;
    uint32_t others = 0;
    bool is_bad = false;
    for (uint32_t i = 0; i < dbos_script_count(script); i++) {
        enum dbos_statement_kind kind = dbos_script_kind(script, i);
        if (!dbos_statement_is_local(kind)) {
            others++;
        } else if (kind != DBOS_STATEMENT_EMPTY) {
            local++;
            is_bad = is_bad || others != 0;
        }
    }
    for (uint32_t i = 0; i < dbos_script_count(script); i++) {
        is_bad = is_bad || (others != 0 && dbos_script_kind(script, i) == DBOS_STATEMENT_SHOW);
    }
    return others == 0  ? ONLY_LOCAL
           : is_bad     ? BAD_MIXTURE
           : local == 0 ? ONLY_OTHERS
                        : SET_IN_FRONT;
}

static enum dbos_err run_local(struct dbos_session *session, struct dbos_script *script, uint32_t i,
                               struct dbos_errinfo *info) {
    struct dbos_prepared borrowed = {
        .script = script, .statement = i, .kind = dbos_script_kind(script, i)};
    return dbos_prepared_run_locally(session, &borrowed, true, info);
}

static void run_locals(struct dbos_session *session, struct dbos_script *script) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; err == DBOS_OK && i < dbos_script_count(script); i++) {
        err = run_local(session, script, i, &info);
    }
    dbos_script_close(script);
    if (err != DBOS_OK) {
        fail_query(session, &info);
        return;
    }
    dbos_session_put_ready(session);
}

/* One blank for each character of the statements that are settings: what is left has its positions.
 */
static void blank_settings(const struct dbos_script *script, struct dbos_buf *text) {
    size_t from = 0;
    for (uint32_t i = 0; i < dbos_script_count(script); i++) {
        struct dbos_bytes statement = dbos_script_text(script, i);
        if (statement.size_bytes == 0) {
            continue;
        }
        uint8_t *at = memmem(text->data + from, text->size_bytes - from, statement.data,
                             statement.size_bytes);
        DBOS_CHECK(at != NULL);
        from = (size_t)(at - text->data) + statement.size_bytes;
        if (dbos_script_kind(script, i) != DBOS_STATEMENT_SET) {
            continue;
        }
        uint8_t *to = at;
        for (size_t k = 0; k < statement.size_bytes; k++) {
            if ((at[k] & 0xc0) != 0x80) {
                *to++ = ' ';
            }
        }
        size_t gone = (size_t)(at + statement.size_bytes - to);
        memmove(to, at + statement.size_bytes, text->size_bytes - from);
        text->size_bytes -= gone;
        from -= gone;
    }
}

static void run_script(struct dbos_session *session, struct dbos_script *script);

static void run_settings_first(struct dbos_session *session, struct dbos_script *script,
                               const char *query) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = DBOS_OK;
    struct dbos_script *rest = NULL;
    for (uint32_t i = 0; err == DBOS_OK && i < dbos_script_count(script); i++) {
        if (dbos_script_kind(script, i) == DBOS_STATEMENT_SET) {
            err = run_local(session, script, i, &info);
        }
    }
    struct dbos_buf text;
    dbos_buf_init(&text, session->alloc);
    if (err == DBOS_OK) {
        dbos_buf_put(&text, query, strlen(query) + 1);
        if (text.failed) {
            err = dbos_fail(&info, DBOS_ERR_NOMEM, "out of memory");
        } else {
            blank_settings(script, &text);
            err = dbos_script_parse(session->alloc, (const char *)text.data, &rest, &info);
        }
    }
    dbos_buf_fini(&text);
    dbos_script_close(script);
    if (err != DBOS_OK) {
        fail_query(session, &info);
        return;
    }
    run_script(session, rest);
}

/* Without settings in it. */
static void run_script(struct dbos_session *session, struct dbos_script *script) {
    uint32_t count = dbos_script_count(script);
    uint32_t empty = 0;
    for (uint32_t i = 0; i < count; i++) {
        empty += dbos_script_kind(script, i) == DBOS_STATEMENT_EMPTY;
    }
    if (count == 1 || count == empty) {
        run_one(session, script);
    } else {
        run_several(session, script);
    }
}

void dbos_session_query(struct dbos_session *session, struct dbos_bytes body) {
    struct dbos_errinfo info = {0};
    struct dbos_script *script = NULL;
    const char *query = NULL;
    if (session->group != NULL) {
        dbos_session_end_group(session, false);
        dbos_session_put_boundary(session);
    }
    dbos_session_drop_portals(session);
    dbos_session_close_statement(session, "");
    enum dbos_err err = dbos_wire_get_query(body, &query, &info);
    if (err == DBOS_OK) {
        err = dbos_script_parse(session->alloc, query, &script, &info);
    }
    if (err != DBOS_OK) {
        fail_query(session, &info);
        return;
    }
    if (dbos_script_count(script) <= 1) {
        run_one(session, script);
        return;
    }
    switch (mixture_of(script)) {
    case ONLY_LOCAL:
        run_locals(session, script);
        return;
    case ONLY_OTHERS:
        run_script(session, script);
        return;
    case SET_IN_FRONT:
        run_settings_first(session, script, query);
        return;
    case BAD_MIXTURE:
        break;
    }
    dbos_script_close(script);
    (void)dbos_fail(&info, DBOS_ERR_NOT_SUPPORTED,
                    "SHOW, or SET behind another statement, among several statements in one "
                    "message is not supported");
    fail_query(session, &info);
}
