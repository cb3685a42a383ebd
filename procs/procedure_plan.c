/* The statements of a procedure: parsed once, planned again for each catalogue. */
#include <stdio.h>
#include <string.h>

#include "procs/procedure_internal.h"

enum { BODY_STATEMENTS_MAX = 256 };

void dbos_plan_set_close(struct dbos_alloc *alloc, struct dbos_plan_set *set) {
    if (set == NULL) {
        return;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        if (set->plans[i] != NULL) {
            dbos_plan_unref(set->plans[i]);
        }
    }
    dbos_give(alloc, set);
}

/* An error in a procedure's own statement: its position means nothing to the client. */
static enum dbos_err blame(const struct dbos_procedure_handle *handle, uint32_t statement,
                           struct dbos_errinfo *info) {
    if (info != NULL) {
        info->position = 0;
        if (info->detail[0] == '\0') {
            dbos_err_detail(info, "In statement %u of procedure \"%s\".", statement,
                            handle->info->name);
        }
        return info->code;
    }
    return DBOS_ERR_SYNTAX;
}

static enum dbos_err check_kind(enum dbos_statement_kind kind, struct dbos_errinfo *info) {
    switch (kind) {
    case DBOS_STATEMENT_SELECT:
    case DBOS_STATEMENT_INSERT:
    case DBOS_STATEMENT_UPDATE:
    case DBOS_STATEMENT_DELETE:
        return DBOS_OK;
    case DBOS_STATEMENT_CALL:
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "a procedure cannot call another one");
    case DBOS_STATEMENT_DDL:
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "a procedure cannot change the schema");
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "SET and SHOW are not for procedures");
    case DBOS_STATEMENT_ARCHIVE:
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                         "provenance and system views cannot be read inside a procedure");
    case DBOS_STATEMENT_EMPTY:
        break;
    }
    return dbos_fail(info, DBOS_ERR_SYNTAX, "a statement of a procedure is empty");
}

static enum dbos_err parse_one(struct dbos_procedure_handle *handle, uint32_t i, const char *text,
                               struct dbos_errinfo *info) {
    enum dbos_err err = dbos_script_parse(handle->procs->alloc, text, &handle->scripts[i], info);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t count = dbos_script_count(handle->scripts[i]);
    if (handle->code != NULL && count != 1) {
        return dbos_fail(info, DBOS_ERR_SYNTAX, "each of the .statements is one SQL statement");
    }
    if (count == 0 || count > BODY_STATEMENTS_MAX) {
        return dbos_fail(info, DBOS_ERR_SYNTAX, "a procedure has 1 to %d statements",
                         BODY_STATEMENTS_MAX);
    }
    for (uint32_t s = 0; s < count; s++) {
        err = check_kind(dbos_script_kind(handle->scripts[i], s), info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    handle->statement_count += count;
    return DBOS_OK;
}

enum dbos_err dbos_handle_parse(struct dbos_procedure_handle *handle, struct dbos_errinfo *info) {
    uint32_t count = handle->code != NULL ? handle->code->statement_count : 1;
    struct dbos_errinfo own;
    info = info == NULL ? &own : info;
    handle->scripts = dbos_take_zero(handle->procs->alloc, (count + 1) * sizeof *handle->scripts);
    if (handle->scripts == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory loading a procedure");
    }
    handle->script_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const char *text = handle->code != NULL ? handle->code->statements[i] : handle->info->body;
        if (parse_one(handle, i, text, info) != DBOS_OK) {
            return blame(handle, i, info);
        }
    }
    return DBOS_OK;
}

static enum dbos_err plan_one(const struct dbos_procedure_handle *handle,
                              struct dbos_catalog *catalog, struct dbos_script *script,
                              uint32_t statement, struct dbos_plan_set *set,
                              struct dbos_errinfo *info) {
    enum dbos_type hints[DBOS_ARGUMENTS_MAX];
    uint32_t hint_count = 0;
    if (handle->code == NULL) {
        hint_count = handle->info->argument_count;
        for (uint32_t i = 0; i < hint_count; i++) {
            hints[i] = (enum dbos_type)handle->info->arguments[i].type;
        }
    }
    struct dbos_plan **plan = &set->plans[set->count];
    enum dbos_err err =
        dbos_plan_make_in_procedure(handle->procs->alloc, catalog, handle->procs, script, statement,
                                    hints, hint_count, plan, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_plan_set_owner(*plan, handle->info, set->count);
    set->count++;
    const enum dbos_type *types;
    uint32_t parameters = dbos_plan_parameters(*plan, &types);
    set->parameters_max = parameters > set->parameters_max ? parameters : set->parameters_max;
    set->read_only = set->read_only && dbos_plan_is_read_only(*plan);
    if (handle->code == NULL && parameters > handle->info->argument_count) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_PARAMETER, "there is no parameter $%u",
                         parameters);
    }
    return DBOS_OK;
}

/* LANGUAGE sql: the last statement gives the value, where one is declared. */
static enum dbos_err check_result(const struct dbos_procedure_handle *handle,
                                  const struct dbos_plan_set *set, struct dbos_errinfo *info) {
    const struct dbos_procedure_info *procedure = handle->info;
    if (handle->code != NULL || procedure->returns == DBOS_TYPE_VOID) {
        return DBOS_OK;
    }
    const struct dbos_result_column *columns;
    uint32_t count = dbos_plan_columns(set->plans[set->count - 1], &columns);
    if (count == 0 ||
        !dbos_type_casts((enum dbos_type)columns[0].type, (enum dbos_type)procedure->returns)) {
        return dbos_fail(info, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "return type mismatch in function \"%s\" declared to return %s: its last "
                         "statement returns %s",
                         procedure->name, dbos_type_name((enum dbos_type)procedure->returns),
                         count == 0 ? "no rows" : dbos_type_name((enum dbos_type)columns[0].type));
    }
    return DBOS_OK;
}

static enum dbos_err find_route(const struct dbos_procedure_handle *handle,
                                struct dbos_catalog *catalog, struct dbos_plan_set *set,
                                struct dbos_errinfo *info) {
    const char *text = handle->info->route;
    if (text == NULL && handle->code != NULL) {
        text = handle->code->route;
    }
    if (text != NULL && text[0] != '\0') {
        return dbos_route_parse(handle->info, text, catalog, &set->route, info);
    }
    set->route = handle->code == NULL ? dbos_route_infer(handle->info, set, catalog) : 0;
    return DBOS_OK;
}

static void note_expected(struct dbos_plan_set *set, const struct dbos_catalog *catalog) {
    for (uint32_t t = 0; t < catalog->table_count && set->route != 0; t++) {
        const struct dbos_table_def *def = catalog->tables[t];
        bool used = false;
        for (uint32_t i = 0; i < set->count && def->partition_column >= 0; i++) {
            used = used || dbos_plan_uses_table(set->plans[i], def->id);
        }
        if (used && set->expected_count < DBOS_EXPECTED_TABLES) {
            set->expected[set->expected_count++] = def->id;
        }
    }
}

enum dbos_err dbos_handle_plan(struct dbos_procedure_handle *handle, struct dbos_catalog *catalog,
                               struct dbos_plan_set **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_alloc *alloc = handle->procs->alloc;
    struct dbos_errinfo own;
    info = info == NULL ? &own : info;
    struct dbos_plan_set *set =
        dbos_take_zero(alloc, sizeof *set + handle->statement_count * sizeof *set->plans);
    if (set == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory planning a procedure");
    }
    set->read_only = true;
    set->catalog_version = catalog->version;
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < handle->script_count && err == DBOS_OK; i++) {
        uint32_t count = dbos_script_count(handle->scripts[i]);
        for (uint32_t s = 0; s < count && err == DBOS_OK; s++) {
            err = plan_one(handle, catalog, handle->scripts[i], s, set, info);
            if (err != DBOS_OK) {
                err = blame(handle, handle->code != NULL ? i : s, info);
            }
        }
    }
    if (err == DBOS_OK) {
        err = check_result(handle, set, info);
    }
    if (err == DBOS_OK) {
        err = find_route(handle, catalog, set, info);
    }
    if (err != DBOS_OK) {
        dbos_plan_set_close(alloc, set);
        return err;
    }
    note_expected(set, catalog);
    *out = set;
    return DBOS_OK;
}
