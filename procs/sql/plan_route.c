/* Where a statement must run. */
#include "procs/procedure.h"
#include "procs/sql/plan.h"

/* What is asked, and the answer. */
struct route {
    const struct dbos_plan *plan;
    struct dbos_eval eval;
    enum dbos_route_kind kind;
    uint32_t slot;
};

/* Known from parameters and literals alone? */
static bool is_known(const struct dbos_expr *expr) {
    struct dbos_expr_uses uses = {false, false, false, false};
    dbos_expr_uses(expr, &uses);
    return !uses.columns && !uses.aggregates && !uses.volatile_functions && !uses.stable_functions;
}

/* The slot of an expression's value; *known = false when it can not be told. */
static enum dbos_err slot_of(struct route *route, const struct dbos_expr *expr,
                             enum dbos_type column, bool *known, uint32_t *slot) {
    struct dbos_datum value;
    *known = is_known(expr);
    if (!*known) {
        return DBOS_OK;
    }
    enum dbos_err err = dbos_expr_eval(expr, &route->eval, &value);
    if (err != DBOS_OK) {
        return err;
    }
    if (!value.is_null && !dbos_type_comparable((enum dbos_type)value.type, column)) {
        struct dbos_cast cast = {.to = column};
        struct dbos_datum given = value;
        err = dbos_cast_datum(&given, &cast, route->eval.arena, &value, route->eval.info);
    }
    *slot = err == DBOS_OK ? dbos_slot_of(&value) : 0;
    return err;
}

static enum dbos_type partition_type(const struct dbos_table_def *def) {
    return (enum dbos_type)def->columns[def->partition_column].type;
}

static enum dbos_err route_access(struct route *route, const struct dbos_access *access,
                                  bool writes) {
    if (access->def == NULL) {
        route->kind = DBOS_ROUTE_ANY;
        return DBOS_OK;
    }
    if (access->def->partition_column < 0) {
        route->kind = writes ? DBOS_ROUTE_BARRIER : DBOS_ROUTE_ANY;
        return DBOS_OK;
    }
    if (access->partition == NULL) {
        return DBOS_OK;
    }
    bool known;
    enum dbos_err err =
        slot_of(route, access->partition, partition_type(access->def), &known, &route->slot);
    route->kind = known ? DBOS_ROUTE_ONE : DBOS_ROUTE_BARRIER;
    return err;
}

/* All rows of one slot, or the barrier. */
static enum dbos_err route_insert(struct route *route, const struct dbos_insert_plan *insert) {
    const struct dbos_table_def *def = insert->def;
    if (def->partition_column < 0 || insert->select != NULL) {
        return DBOS_OK;
    }
    for (uint32_t i = 0; i < insert->row_count; i++) {
        bool known;
        uint32_t slot = 0;
        enum dbos_err err = slot_of(route, insert->rows[i][def->partition_column],
                                    partition_type(def), &known, &slot);
        if (err != DBOS_OK || !known || (i > 0 && slot != route->slot)) {
            return err;
        }
        route->slot = slot;
    }
    route->kind = DBOS_ROUTE_ONE;
    return DBOS_OK;
}

/* An UPDATE of the partitioning column moves rows: it stays in one slot, or needs the barrier. */
static enum dbos_err route_update(struct route *route, const struct dbos_change_plan *change) {
    const struct dbos_table_def *def = change->access.def;
    enum dbos_err err = route_access(route, &change->access, true);
    if (err != DBOS_OK || route->kind != DBOS_ROUTE_ONE ||
        change->set[def->partition_column] == NULL) {
        return err;
    }
    bool known;
    uint32_t slot = 0;
    err = slot_of(route, change->set[def->partition_column], partition_type(def), &known, &slot);
    if (!known || slot != route->slot) {
        route->kind = DBOS_ROUTE_BARRIER;
    }
    return err;
}

static enum dbos_err route_call(struct route *route, const struct dbos_call_plan *call) {
    uint32_t table_id;
    uint32_t argument;
    const struct dbos_plan *plan = route->plan;
    const struct dbos_procedure_handle *handle =
        plan->procs == NULL
            ? NULL
            : dbos_procs_find(plan->procs, call->procedure->id, call->procedure->version);
    if (handle == NULL || !dbos_procedure_route(handle, &table_id, &argument)) {
        return DBOS_OK;
    }
    const struct dbos_table_def *def = dbos_catalog_table_by_id(plan->catalog, table_id);
    if (def == NULL || def->partition_column < 0 || argument >= call->count) {
        return DBOS_OK;
    }
    bool known;
    enum dbos_err err =
        slot_of(route, call->args[argument], partition_type(def), &known, &route->slot);
    route->kind = known ? DBOS_ROUTE_ONE : DBOS_ROUTE_BARRIER;
    return err;
}

static enum dbos_err route_statement(struct route *route) {
    const struct dbos_plan *plan = route->plan;
    switch (plan->kind) {
    case DBOS_STATEMENT_SELECT:
        return route_access(route, &plan->select.access, false);
    case DBOS_STATEMENT_INSERT:
        return route_insert(route, &plan->insert);
    case DBOS_STATEMENT_UPDATE:
        return route_update(route, &plan->change);
    case DBOS_STATEMENT_DELETE:
        return route_access(route, &plan->change.access, true);
    case DBOS_STATEMENT_CALL:
        return route_call(route, &plan->call);
    case DBOS_STATEMENT_DDL:
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    return DBOS_OK;
}

enum dbos_err dbos_plan_route(const struct dbos_plan *plan, const struct dbos_datum *parameters,
                              uint32_t count, enum dbos_route_kind *out_kind, uint32_t *out_slot,
                              struct dbos_errinfo *info) {
    *out_kind = DBOS_ROUTE_BARRIER;
    *out_slot = 0;
    if (count < plan->parameter_count) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_PARAMETER, "there is no parameter $%u",
                         count + 1);
    }
    struct dbos_arena arena;
    dbos_arena_init(&arena, plan->alloc, 0);
    struct route route = {.plan = plan,
                          .eval = {.arena = &arena, .parameters = parameters, .info = info},
                          .kind = DBOS_ROUTE_BARRIER};
    enum dbos_err err = route_statement(&route);
    dbos_arena_fini(&arena);
    *out_kind = route.kind;
    *out_slot = route.slot;
    return err;
}
