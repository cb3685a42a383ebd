/* The extended protocol: Parse, Bind, Describe, Execute, Close, Flush, Sync. */
#include "base/hash.h"
#include "engine/session_internal.h"

static enum dbos_err no_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* -- the open group -----------------------------------------------------------------------------
 */

static enum dbos_err open_group(struct dbos_session *session, struct dbos_errinfo *info) {
    if (session->group == NULL) {
        session->group = dbos_execution_take(session);
    }
    return session->group == NULL ? no_memory(info) : DBOS_OK;
}

void dbos_session_end_group(struct dbos_session *session, bool goes_on) {
    struct dbos_execution *group = session->group;
    session->group = NULL;
    if (group == NULL) {
        return;
    }
    if (group->request.statement_count != 0) {
        session->is_held = session->is_held || goes_on;
        group->goes_on = goes_on;
        dbos_session_submit(session, group);
    }
    dbos_execution_unref(group);
}

void dbos_session_drop_group(struct dbos_session *session) {
    if (session->group != NULL) {
        session->group->is_discarded = true;
        dbos_execution_unref(session->group);
        session->group = NULL;
    }
}

void dbos_session_fail_extended(struct dbos_session *session, const struct dbos_errinfo *info) {
    dbos_session_drop_group(session);
    dbos_settings_end_transaction(&session->settings);
    dbos_wire_put_error(dbos_session_bytes(session), "ERROR", info);
    session->is_skipping = true;
}

/* -- prepared statements ------------------------------------------------------------------------
 */

static struct dbos_prepared **bucket(struct dbos_session *session, const char *name) {
    return &session->statements[dbos_hash64(0, name, strlen(name)) % DBOS_SESSION_NAME_BUCKETS];
}

struct dbos_prepared *dbos_session_find_statement(struct dbos_session *session, const char *name) {
    if (name[0] == 0) {
        return session->unnamed;
    }
    struct dbos_prepared *at = *bucket(session, name);
    while (at != NULL && strcmp(at->name, name) != 0) {
        at = at->next;
    }
    return at;
}

static enum dbos_err get_statement(struct dbos_session *session, const char *name,
                                   struct dbos_prepared **out, struct dbos_errinfo *info) {
    *out = dbos_session_find_statement(session, name);
    if (*out != NULL) {
        return DBOS_OK;
    }
    return name[0] == 0 ? dbos_fail(info, DBOS_ERR_UNDEFINED_STATEMENT,
                                    "unnamed prepared statement does not exist")
                        : dbos_fail(info, DBOS_ERR_UNDEFINED_STATEMENT,
                                    "prepared statement \"%s\" does not exist", name);
}

void dbos_session_close_statement(struct dbos_session *session, const char *name) {
    session->recent = NULL; /* perhaps this one */
    if (name[0] == 0) {
        dbos_prepared_unref(session->unnamed);
        session->unnamed = NULL;
        return;
    }
    struct dbos_prepared **at = bucket(session, name);
    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    struct dbos_prepared *found = *at;
    if (found != NULL) {
        *at = found->next;
        session->statement_count--;
        dbos_prepared_unref(found);
    }
}

void dbos_session_drop_statements(struct dbos_session *session) {
    dbos_session_close_statement(session, ""); /* forgets which was called last, too */
    for (size_t i = 0; i < DBOS_SESSION_NAME_BUCKETS; i++) {
        while (session->statements[i] != NULL) {
            struct dbos_prepared *prepared = session->statements[i];
            session->statements[i] = prepared->next;
            dbos_prepared_unref(prepared);
        }
    }
    session->statement_count = 0;
}

static enum dbos_err on_parse(struct dbos_session *session, struct dbos_bytes body,
                              struct dbos_errinfo *info) {
    struct dbos_wire_parse parse;
    struct dbos_prepared *prepared = NULL;
    enum dbos_err err = dbos_wire_get_parse(body, &parse, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (session->statement_count >= DBOS_SESSION_STATEMENTS_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "more than %d prepared statements",
                         DBOS_SESSION_STATEMENTS_MAX);
    }
    struct dbos_prepare prepare = {.name = parse.name,
                                   .text = parse.query,
                                   .declared_count = parse.type_count,
                                   .declared = parse.types};
    if (parse.name[0] == 0) {
        dbos_session_close_statement(session, "");
    }
    err = dbos_prepared_make(session, &prepare, &prepared, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (parse.name[0] == 0) {
        session->unnamed = prepared;
    } else if (dbos_session_find_statement(session, parse.name) != NULL) {
        dbos_prepared_unref(prepared);
        return dbos_fail(info, DBOS_ERR_DUPLICATE_STATEMENT,
                         "prepared statement \"%s\" already exists", parse.name);
    } else {
        struct dbos_prepared **at = bucket(session, parse.name);
        prepared->next = *at;
        *at = prepared;
        session->statement_count++;
    }
    dbos_wire_put_parse_complete(dbos_session_bytes(session));
    return DBOS_OK;
}

/* -- portals ------------------------------------------------------------------------------------
 */

static struct dbos_portal *find_portal(struct dbos_session *session, const char *name) {
    struct dbos_portal *at = session->portals;
    while (at != NULL && strcmp(at->name, name) != 0) {
        at = at->next;
    }
    return at;
}

static enum dbos_err get_portal(struct dbos_session *session, const char *name,
                                struct dbos_portal **out, struct dbos_errinfo *info) {
    *out = find_portal(session, name);
    return *out != NULL
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_UNDEFINED_PORTAL, "portal \"%s\" does not exist", name);
}

static void free_portal(struct dbos_session *session, struct dbos_portal *portal) {
    if (portal->execution != NULL) {
        dbos_execution_unref(portal->execution);
    }
    if (portal->home != NULL) {
        dbos_execution_unref(portal->home);
    }
    dbos_prepared_unref(portal->prepared);
    dbos_give(session->alloc, portal);
}

static void close_portal(struct dbos_session *session, const char *name) {
    struct dbos_portal **at = &session->portals;
    while (*at != NULL && strcmp((*at)->name, name) != 0) {
        at = &(*at)->next;
    }
    struct dbos_portal *portal = *at;
    if (portal != NULL) {
        *at = portal->next;
        session->portal_count--;
        free_portal(session, portal);
    }
}

void dbos_session_drop_portals(struct dbos_session *session) {
    while (session->portals != NULL) {
        struct dbos_portal *portal = session->portals;
        session->portals = portal->next;
        free_portal(session, portal);
    }
    session->portal_count = 0;
}

static struct dbos_portal *make_portal(struct dbos_session *session, const char *name,
                                       struct dbos_prepared *prepared) {
    size_t size_bytes = strlen(name) + 1;
    struct dbos_portal *portal = dbos_take_zero(session->alloc, sizeof *portal + size_bytes);
    if (portal == NULL) {
        return NULL;
    }
    portal->name = memcpy(portal + 1, name, size_bytes);
    portal->prepared = prepared;
    portal->home = session->group;
    prepared->refs++;
    session->group->refs++;
    return portal;
}

static enum dbos_err on_bind(struct dbos_session *session, struct dbos_bytes body,
                             struct dbos_errinfo *info) {
    struct dbos_wire_bind bind;
    struct dbos_prepared *prepared = NULL;
    enum dbos_err err = dbos_wire_get_bind(body, &bind, info);
    if (err == DBOS_OK) {
        err = get_statement(session, bind.statement, &prepared, info);
    }
    if (err == DBOS_OK) {
        err = dbos_prepared_refresh(session, prepared, info);
    }
    if (err == DBOS_OK) {
        err = dbos_prepared_check_counts(prepared, &bind, info);
    }
    if (err == DBOS_OK) {
        err = open_group(session, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    if (bind.portal[0] == 0) {
        close_portal(session, "");
    } else if (find_portal(session, bind.portal) != NULL) {
        err = dbos_fail(info, DBOS_ERR_PROTOCOL, "cursor \"%s\" already exists", bind.portal);
        memcpy(info->sqlstate, "42P03", sizeof info->sqlstate);
        return err;
    }
    if (session->portal_count >= DBOS_SESSION_PORTALS_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "more than %d open portals",
                         DBOS_SESSION_PORTALS_MAX);
    }
    struct dbos_portal *portal = make_portal(session, bind.portal, prepared);
    if (portal == NULL) {
        return no_memory(info);
    }
    err = dbos_prepared_bind(prepared, &bind, session->group, portal, info);
    if (err != DBOS_OK) {
        free_portal(session, portal);
        return err;
    }
    portal->next = session->portals;
    session->portals = portal;
    session->portal_count++;
    dbos_wire_put_bind_complete(dbos_session_bytes(session));
    return DBOS_OK;
}

/* -- Describe -----------------------------------------------------------------------------------
 */

/* A provenance query's columns are the archive's business: ask it. */
static enum dbos_err describe_archive(struct dbos_session *session, struct dbos_prepared *prepared,
                                      const struct dbos_portal *portal, struct dbos_errinfo *info) {
    struct dbos_request_statement statement = {.describe = true};
    dbos_session_end_group(session, true);
    struct dbos_execution *execution = dbos_execution_take(session);
    if (execution == NULL) {
        return no_memory(info);
    }
    struct dbos_request *request = &execution->request;
    if (portal != NULL) {
        request->archive_parameters = portal->archive_parameters;
        request->archive_parameter_count = portal->parameter_count;
        statement.formats = portal->formats;
        statement.format_count = portal->format_count;
        execution->lender = portal->home;
        execution->lender->refs++;
    }
    enum dbos_err err = dbos_execution_add(execution, prepared, &statement, info);
    if (err == DBOS_OK) {
        execution->is_describe = true;
        request->kind = DBOS_REQUEST_ARCHIVE;
        request->script = prepared->script;
        request->script_statement = prepared->statement;
        request->describe_only = true;
        session->is_held = true;
        execution->goes_on = true;
        dbos_session_put_result(session, execution, 0, 0);
        dbos_session_submit(session, execution);
    }
    dbos_execution_unref(execution);
    return err;
}

static enum dbos_err describe_rows(struct dbos_session *session, struct dbos_prepared *prepared,
                                   const struct dbos_portal *portal, struct dbos_errinfo *info) {
    struct dbos_buf *out = dbos_session_bytes(session);
    struct dbos_result_column show[3];
    const int16_t *formats = portal == NULL ? NULL : portal->formats;
    uint32_t format_count = portal == NULL ? 0 : portal->format_count;
    if (prepared->kind == DBOS_STATEMENT_ARCHIVE) {
        return describe_archive(session, prepared, portal, info);
    }
    if (prepared->plan != NULL) {
        dbos_prepared_describe(prepared, formats, format_count, out);
    } else if (prepared->kind == DBOS_STATEMENT_SHOW) {
        uint32_t count = dbos_prepared_show_columns(prepared, session, show);
        dbos_wire_put_row_description(out, show, count, formats,
                                      format_count > 1 ? 0 : format_count);
    } else {
        dbos_wire_put_no_data(out);
    }
    return DBOS_OK;
}

static enum dbos_err describe_statement(struct dbos_session *session, const char *name,
                                        struct dbos_errinfo *info) {
    struct dbos_prepared *prepared = NULL;
    enum dbos_err err = get_statement(session, name, &prepared, info);
    if (err == DBOS_OK) {
        err = dbos_prepared_refresh(session, prepared, info);
    }
    if (err == DBOS_OK) {
        err = open_group(session, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t count = dbos_prepared_parameters(prepared);
    uint32_t *oids = dbos_arena_take(&session->group->request.arena, (count + 1) * sizeof *oids);
    if (oids == NULL) {
        return no_memory(info);
    }
    for (uint32_t i = 0; i < count; i++) {
        oids[i] = dbos_prepared_parameter_oid(prepared, i);
    }
    dbos_wire_put_parameter_description(dbos_session_bytes(session), oids, count);
    return describe_rows(session, prepared, NULL, info);
}

static enum dbos_err on_describe(struct dbos_session *session, struct dbos_bytes body,
                                 struct dbos_errinfo *info) {
    struct dbos_wire_target target;
    struct dbos_portal *portal = NULL;
    enum dbos_err err = dbos_wire_get_target(body, &target, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (target.kind == 'S') {
        return describe_statement(session, target.name, info);
    }
    err = get_portal(session, target.name, &portal, info);
    return err == DBOS_OK ? describe_rows(session, portal->prepared, portal, info) : err;
}

/* -- Execute ------------------------------------------------------------------------------------
 */

/* The portal's parameters lie in the group in which it was bound; another group must keep that. */
static enum dbos_err borrow(struct dbos_execution *execution, struct dbos_portal *portal,
                            struct dbos_errinfo *info) {
    if (portal->home == execution || execution->lender == portal->home) {
        return DBOS_OK;
    }
    if (execution->lender != NULL) {
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                         "portals bound before several Flush messages in one transaction");
    }
    execution->lender = portal->home;
    portal->home->refs++;
    return DBOS_OK;
}

static enum dbos_err add_to_group(struct dbos_session *session, struct dbos_portal *portal,
                                  struct dbos_errinfo *info) {
    struct dbos_request_statement statement = {
        .parameters = portal->parameters,
        .parameter_count = portal->parameter_count,
        .formats = portal->formats,
        .format_count = portal->format_count,
    };
    enum dbos_err err = open_group(session, info);
    if (err == DBOS_OK) {
        err = borrow(session->group, portal, info);
    }
    if (err == DBOS_OK) {
        err = dbos_execution_add(session->group, portal->prepared, &statement, info);
    }
    if (err == DBOS_OK) {
        portal->execution = session->group;
        portal->execution->refs++;
        portal->statement = session->group->request.statement_count - 1;
    }
    return err;
}

/* Alone in its request, and nothing is looked at before it is done. */
static enum dbos_err execute_archive(struct dbos_session *session, struct dbos_portal *portal,
                                     uint32_t rows_max, struct dbos_errinfo *info) {
    dbos_session_end_group(session, true);
    enum dbos_err err = add_to_group(session, portal, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_request *request = &session->group->request;
    request->kind = DBOS_REQUEST_ARCHIVE;
    request->script = portal->prepared->script;
    request->script_statement = portal->prepared->statement;
    request->archive_parameters = portal->archive_parameters;
    request->archive_parameter_count = portal->parameter_count;
    dbos_session_put_result(session, session->group, 0, rows_max);
    dbos_session_end_group(session, true);
    return DBOS_OK;
}

static bool gives_rows(const struct dbos_prepared *prepared) {
    const struct dbos_result_column *columns = NULL;
    return prepared->plan == NULL || dbos_plan_columns(prepared->plan, &columns) != 0;
}

static enum dbos_err cannot_run(const struct dbos_portal *portal, struct dbos_errinfo *info) {
    enum dbos_err err =
        dbos_fail(info, DBOS_ERR_PROTOCOL, "portal \"%s\" cannot be run", portal->name);
    memcpy(info->sqlstate, "55000", sizeof info->sqlstate);
    return err;
}

/* SET, SHOW, or nothing. */
static enum dbos_err execute_locally(struct dbos_session *session, struct dbos_portal *portal,
                                     struct dbos_errinfo *info) {
    bool is_again = portal->was_local;
    portal->was_local = true;
    if (is_again && portal->prepared->kind == DBOS_STATEMENT_SET) {
        return cannot_run(portal, info);
    }
    if (is_again && portal->prepared->kind == DBOS_STATEMENT_SHOW) {
        dbos_wire_put_complete(dbos_session_bytes(session), "SHOW"); /* no more rows */
        return DBOS_OK;
    }
    return dbos_prepared_run_locally(session, portal->prepared, false, info);
}

static enum dbos_err execute_again(struct dbos_session *session, struct dbos_portal *portal,
                                   uint32_t rows_max, struct dbos_errinfo *info) {
    if (!gives_rows(portal->prepared)) {
        return cannot_run(portal, info);
    }
    dbos_session_put_result(session, portal->execution, portal->statement, rows_max);
    return DBOS_OK;
}

static enum dbos_err on_execute(struct dbos_session *session, struct dbos_bytes body,
                                struct dbos_errinfo *info) {
    struct dbos_wire_execute execute;
    struct dbos_portal *portal = NULL;
    enum dbos_err err = dbos_wire_get_execute(body, &execute, info);
    if (err == DBOS_OK) {
        err = get_portal(session, execute.portal, &portal, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_prepared *prepared = portal->prepared;
    if (dbos_statement_is_local(prepared->kind)) {
        return execute_locally(session, portal, info);
    }
    if (portal->execution != NULL) {
        return execute_again(session, portal, execute.rows_max, info);
    }
    if (prepared->kind == DBOS_STATEMENT_ARCHIVE) {
        return execute_archive(session, portal, execute.rows_max, info);
    }
    err = add_to_group(session, portal, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_session_put_result(session, session->group, portal->statement, execute.rows_max);
    if (prepared->kind == DBOS_STATEMENT_DDL) {
        dbos_session_end_group(session, true); /* what follows must see the new catalogue */
    }
    return DBOS_OK;
}

/* -- the rest -----------------------------------------------------------------------------------
 */

static enum dbos_err on_close(struct dbos_session *session, struct dbos_bytes body,
                              struct dbos_errinfo *info) {
    struct dbos_wire_target target;
    enum dbos_err err = dbos_wire_get_target(body, &target, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (target.kind == 'S') {
        dbos_session_close_statement(session, target.name);
    } else {
        close_portal(session, target.name);
    }
    dbos_wire_put_close_complete(dbos_session_bytes(session));
    return DBOS_OK;
}

static void on_sync(struct dbos_session *session) {
    dbos_session_end_group(session, false);
    dbos_session_drop_portals(session);
    session->is_skipping = false;
    dbos_session_put_ready(session);
}

/* What an open group has said already waits for its Sync: that is bounded, too. */
static enum dbos_err check_backlog(const struct dbos_session *session, struct dbos_errinfo *info) {
    if (session->group == NULL || session->last == NULL ||
        session->last->bytes.size_bytes < DBOS_SESSION_UNSENT_MAX) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_LIMIT, "too many messages before a Sync");
}

void dbos_session_extended(struct dbos_session *session, const struct dbos_wire_message *message) {
    struct dbos_errinfo info;
    dbos_errinfo_clear(&info);
    enum dbos_err err = message->type == 'S' ? DBOS_OK : check_backlog(session, &info);
    if (err != DBOS_OK) {
        dbos_session_fail_extended(session, &info);
        return;
    }
    switch (message->type) {
    case 'P':
        err = on_parse(session, message->body, &info);
        break;
    case 'B':
        err = on_bind(session, message->body, &info);
        break;
    case 'D':
        err = on_describe(session, message->body, &info);
        break;
    case 'E':
        err = on_execute(session, message->body, &info);
        break;
    case 'C':
        err = on_close(session, message->body, &info);
        break;
    case 'H':
        dbos_session_end_group(session, true);
        break;
    default:
        on_sync(session);
        break;
    }
    if (err != DBOS_OK) {
        dbos_session_fail_extended(session, &info);
    }
}
