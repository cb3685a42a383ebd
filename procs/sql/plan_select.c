/* SELECT: targets, grouping, order. */
#include "procs/sql/plan.h"

void dbos_plan_describe(const struct dbos_expr *expr, const char *name,
                        const struct dbos_table_def *def, struct dbos_result_column *out) {
    *out =
        (struct dbos_result_column){.name = name, .type = expr->type, .chars_max = expr->chars_max};
    if (expr->kind == DBOS_EXPR_COLUMN && def != NULL) {
        out->table_id = def->id;
        out->column = (uint16_t)(expr->number + 1);
    }
}

/* -- targets --------------------------------------------------------------------------------------
 */

struct target {
    struct dbos_expr *expr;
    const char *name;
};
struct targets {
    struct target *items;
    uint32_t count;
    uint32_t capacity;
};

static bool add_target(struct dbos_binder *binder, struct targets *targets, struct dbos_expr *expr,
                       const char *name) {
    if (expr != NULL && expr->type == DBOS_TYPE_UNKNOWN && targets->count < binder->wanted_count) {
        expr = dbos_coerce(binder, expr, binder->wanted[targets->count], DBOS_CAST_ASSIGNMENT);
    }
    expr = expr == NULL ? NULL : dbos_coerce_unknown(binder, expr);
    const char *copy = expr == NULL ? NULL : dbos_arena_copy(binder->arena, name, strlen(name));
    if (copy == NULL) {
        return binder->err == DBOS_OK ? dbos_bind_nomem(binder) != NULL : false;
    }
    if (targets->count == targets->capacity) {
        uint32_t capacity = targets->capacity == 0 ? 8 : targets->capacity * 2;
        struct target *items = dbos_bind_take(binder, capacity * sizeof *items);
        if (items == NULL) {
            return false;
        }
        if (targets->count != 0) {
            memcpy(items, targets->items, targets->count * sizeof *items);
        }
        targets->items = items;
        targets->capacity = capacity;
    }
    targets->items[targets->count++] = (struct target){.expr = expr, .name = copy};
    if (targets->count > 1664) {
        return dbos_bind_fail(binder, DBOS_ERR_TOO_MANY_COLUMNS, 0,
                              "target lists can have at most 1664 entries") != NULL;
    }
    return true;
}

static bool expand_star(struct dbos_binder *binder, const struct dbos_ast *star,
                        struct targets *targets) {
    struct dbos_ast column = {
        .kind = DBOS_AST_COLUMN, .position = star->position, .qualifier = star->qualifier};
    if (binder->def == NULL && binder->series_column == NULL) {
        return (star->qualifier == NULL
                    ? dbos_bind_fail(binder, DBOS_ERR_SYNTAX, star->position,
                                     "SELECT * with no tables specified is not valid")
                    : dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_TABLE, star->position,
                                     "missing FROM-clause entry for table \"%s\"",
                                     star->qualifier)) != NULL;
    }
    uint32_t count = binder->def == NULL ? 1 : binder->def->column_count;
    for (uint32_t i = 0; i < count; i++) {
        column.name = binder->def == NULL ? binder->series_column : binder->def->columns[i].name;
        if (!add_target(binder, targets, dbos_bind_expr(binder, &column), column.name)) {
            return false;
        }
    }
    return true;
}

static bool bind_targets(struct dbos_binder *binder, const struct dbos_ast_targets *ast,
                         struct targets *out) {
    for (uint32_t i = 0; i < ast->count; i++) {
        const struct dbos_ast_target *target = &ast->items[i];
        bool done = target->expr->kind == DBOS_AST_STAR
                        ? expand_star(binder, target->expr, out)
                        : add_target(binder, out, dbos_bind_expr(binder, target->expr),
                                     target->name != NULL ? target->name
                                                          : dbos_bind_column_name(target->expr));
        if (!done) {
            return false;
        }
    }
    return true;
}

static bool describe_targets(struct dbos_binder *binder, const struct targets *targets,
                             const struct dbos_table_def *def, struct dbos_expr ***exprs,
                             struct dbos_result_column **columns) {
    *exprs = dbos_bind_take(binder, targets->count * sizeof(struct dbos_expr *));
    *columns = dbos_bind_take(binder, targets->count * sizeof **columns);
    if (*exprs == NULL || *columns == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < targets->count; i++) {
        (*exprs)[i] = targets->items[i].expr;
        dbos_plan_describe(targets->items[i].expr, targets->items[i].name, def, &(*columns)[i]);
    }
    return true;
}

bool dbos_plan_returning(struct dbos_binder *binder, struct dbos_plan *plan,
                         const struct dbos_ast_targets *targets, const struct dbos_table_def *def,
                         struct dbos_returning *out) {
    struct targets bound = {.count = 0};
    binder->clause = "RETURNING";
    binder->columns_forbidden = false;
    if (targets->count == 0) {
        return true;
    }
    if (!bind_targets(binder, targets, &bound) ||
        !describe_targets(binder, &bound, def, &out->exprs, &plan->columns)) {
        return false;
    }
    out->count = bound.count;
    plan->column_count = bound.count;
    return true;
}

/* -- FROM -----------------------------------------------------------------------------------------
 */

static bool plan_series(struct dbos_binder *binder, const struct dbos_ast_relation *from,
                        struct dbos_access *access) {
    const struct dbos_ast *call = from->series;
    access->kind = DBOS_ACCESS_SERIES;
    enum dbos_type type = DBOS_TYPE_INT4;
    enum dbos_type types[3];
    binder->clause = "FROM";
    for (uint32_t i = 0; i < call->count && i < 3; i++) {
        access->series[i] = dbos_bind_expr(binder, call->args[i]);
        if (access->series[i] == NULL) {
            return false;
        }
        types[i] = (enum dbos_type)access->series[i]->type;
        type = types[i] == DBOS_TYPE_INT8 ? DBOS_TYPE_INT8 : type;
    }
    if (call->count < 2 || call->count > 3) {
        return dbos_bind_no_function(binder, "generate_series", types,
                                     call->count > 3 ? 3 : call->count, call->position) != NULL;
    }
    for (uint32_t i = 0; i < call->count; i++) {
        access->series[i] = dbos_coerce(binder, access->series[i], type, DBOS_CAST_IMPLICIT);
        if (access->series[i] == NULL) {
            return binder->err != DBOS_OK
                       ? false
                       : dbos_bind_no_function(binder, "generate_series", types, call->count,
                                               call->position) != NULL;
        }
    }
    binder->series_type = type;
    binder->table_name = from->alias != NULL ? from->alias : from->name;
    binder->series_column = from->column_alias != NULL ? from->column_alias : binder->table_name;
    return true;
}

/* A view shows the node and not the database: what a procedure does, and what is written, must not
 * depend on it. */
static bool plan_view(struct dbos_binder *binder, struct dbos_plan *plan,
                      const struct dbos_ast_relation *from, struct dbos_access *access) {
    if (plan->in_procedure || plan->kind != DBOS_STATEMENT_SELECT) {
        return dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, from->position,
                              "system view \"%s\" cannot be read %s", from->name,
                              plan->in_procedure ? "in a procedure"
                                                 : "by a statement that writes") != NULL;
    }
    DBOS_CHECK(plan->view_columns == NULL);
    if (dbos_view_define(plan->alloc, access->view, &plan->view_columns) != DBOS_OK) {
        return dbos_bind_nomem(binder) != NULL;
    }
    access->kind = DBOS_ACCESS_VIEW;
    dbos_plan_set_source(binder, from, plan->view_columns);
    return true;
}

static bool plan_from(struct dbos_binder *binder, struct dbos_plan *plan,
                      const struct dbos_ast_relation *from, struct dbos_access *access) {
    access->kind = DBOS_ACCESS_NOTHING;
    if (from->series != NULL) {
        return plan_series(binder, from, access);
    }
    if (from->name == NULL) {
        return true;
    }
    if (dbos_plan_is_view(binder, from, &access->view)) {
        return plan_view(binder, plan, from, access);
    }
    access->def = dbos_plan_find_table(binder, from);
    access->kind = DBOS_ACCESS_FULL;
    if (access->def != NULL) {
        dbos_plan_set_source(binder, from, access->def);
    }
    return access->def != NULL;
}

/* -- ORDER BY and GROUP BY ------------------------------------------------------------------------
 */

/* An ordinal ("ORDER BY 2"); -1 = the expression is none; -2 = failed. */
static int64_t ordinal(struct dbos_binder *binder, const struct dbos_ast *ast,
                       const struct targets *targets, const char *clause) {
    if (ast->kind == DBOS_AST_INTEGER) {
        if (ast->integer < 1 || ast->integer > targets->count) {
            (void)dbos_bind_fail(binder, DBOS_ERR_INVALID_COLUMN_REFERENCE, ast->position,
                                 "%s position %lld is not in select list", clause,
                                 (long long)ast->integer);
            return -2;
        }
        return ast->integer - 1;
    }
    if (ast->kind == DBOS_AST_STRING || ast->kind == DBOS_AST_FLOAT || ast->kind == DBOS_AST_NULL ||
        ast->kind == DBOS_AST_BOOL) {
        (void)dbos_bind_fail(binder, DBOS_ERR_SYNTAX, ast->position, "non-integer constant in %s",
                             clause);
        return -2;
    }
    return -1;
}

/* A result column's name; -1 = there is none; -2 = failed. */
static int64_t output_name(struct dbos_binder *binder, const struct dbos_ast *ast,
                           const struct targets *targets, const char *clause) {
    int64_t found = -1;
    if (ast->kind != DBOS_AST_COLUMN || ast->qualifier != NULL) {
        return -1;
    }
    for (uint32_t i = 0; i < targets->count; i++) {
        if (strcmp(targets->items[i].name, ast->name) != 0) {
            continue;
        }
        if (found >= 0 && !dbos_expr_equal(targets->items[found].expr, targets->items[i].expr)) {
            (void)dbos_bind_fail(binder, DBOS_ERR_AMBIGUOUS_COLUMN, ast->position,
                                 "%s \"%s\" is ambiguous", clause, ast->name);
            return -2;
        }
        found = found < 0 ? (int64_t)i : found;
    }
    return found;
}

static int64_t equal_target(const struct targets *targets, const struct dbos_expr *expr) {
    for (uint32_t i = 0; i < targets->count; i++) {
        if (dbos_expr_equal(targets->items[i].expr, expr)) {
            return i;
        }
    }
    return -1;
}

/* Position of the expression to sort by; a new one goes behind the result's columns. */
static int64_t sort_output(struct dbos_binder *binder, const struct dbos_ast *ast,
                           struct targets *targets, uint32_t visible, bool distinct) {
    struct targets shown = {.items = targets->items, .count = visible};
    int64_t output = ordinal(binder, ast, &shown, "ORDER BY");
    if (output == -1) {
        output = output_name(binder, ast, &shown, "ORDER BY");
    }
    if (output != -1) {
        return output;
    }
    struct dbos_expr *expr = dbos_bind_expr(binder, ast);
    expr = expr == NULL ? NULL : dbos_coerce_unknown(binder, expr);
    if (expr == NULL) {
        return -2;
    }
    output = equal_target(targets, expr);
    if (output >= 0 && (!distinct || output < (int64_t)visible)) {
        return output;
    }
    if (distinct) {
        (void)dbos_bind_fail(
            binder, DBOS_ERR_INVALID_COLUMN_REFERENCE, ast->position,
            "for SELECT DISTINCT, ORDER BY expressions must appear in select list");
        return -2;
    }
    return add_target(binder, targets, expr, "") ? (int64_t)targets->count - 1 : -2;
}

static bool bind_sort(struct dbos_binder *binder, const struct dbos_ast_select *ast,
                      struct targets *targets, struct dbos_select_plan *out) {
    uint32_t visible = targets->count;
    out->sort = dbos_bind_take(binder, ast->sort_count * sizeof *out->sort);
    for (uint32_t i = 0; i < ast->sort_count && out->sort != NULL; i++) {
        binder->clause = "ORDER BY";
        int64_t output = sort_output(binder, ast->sort[i].expr, targets, visible, ast->distinct);
        if (output < 0) {
            return false;
        }
        out->sort[i] = (struct dbos_sort_key){.output = (uint32_t)output,
                                              .descending = ast->sort[i].descending,
                                              .nulls_first = ast->sort[i].nulls_first};
    }
    out->sort_count = ast->sort_count;
    return binder->err == DBOS_OK;
}

static bool is_input_column(const struct dbos_binder *binder, const struct dbos_ast *ast) {
    return (binder->def != NULL && dbos_table_def_column(binder->def, ast->name) >= 0) ||
           (binder->series_column != NULL && strcmp(binder->series_column, ast->name) == 0);
}

/* GROUP BY prefers columns of the table to names of the result. */
static struct dbos_expr *bind_group(struct dbos_binder *binder, const struct dbos_ast *ast,
                                    const struct targets *targets) {
    int64_t output = ordinal(binder, ast, targets, "GROUP BY");
    if (output == -1 && !(ast->kind == DBOS_AST_COLUMN && is_input_column(binder, ast))) {
        output = output_name(binder, ast, targets, "GROUP BY");
    }
    if (output == -2) {
        return NULL;
    }
    struct dbos_expr *expr =
        output >= 0 ? targets->items[output].expr : dbos_bind_expr(binder, ast);
    expr = expr == NULL ? NULL : dbos_coerce_unknown(binder, expr);
    struct dbos_expr_uses uses = {false, false, false, false};
    if (expr != NULL) {
        dbos_expr_uses(expr, &uses);
    }
    if (uses.aggregates) {
        return dbos_bind_fail(binder, DBOS_ERR_GROUPING, ast->position,
                              "aggregate functions are not allowed in GROUP BY");
    }
    return expr;
}

static bool bind_groups(struct dbos_binder *binder, const struct dbos_ast_select *ast,
                        const struct targets *targets, struct dbos_select_plan *out) {
    out->groups = dbos_bind_take(binder, ast->group_count * sizeof(struct dbos_expr *));
    binder->clause = "GROUP BY";
    binder->aggregates_allowed = false;
    for (uint32_t i = 0; i < ast->group_count && out->groups != NULL; i++) {
        out->groups[i] = bind_group(binder, ast->group[i], targets);
        if (out->groups[i] == NULL) {
            return false;
        }
        out->group_count++;
    }
    binder->aggregates_allowed = true;
    return binder->err == DBOS_OK;
}

/* -- after grouping -------------------------------------------------------------------------------
 */

struct regroup {
    struct dbos_binder *binder;
    const struct dbos_select_plan *select;
    bool by_primary_key; /* grouped by it: each group is one row, and any column may be named */
};

/* A column that is neither grouped by nor inside an aggregate. */
static struct dbos_expr *ungrouped(const struct regroup *regroup, struct dbos_expr *column) {
    struct dbos_binder *binder = regroup->binder;
    if (regroup->by_primary_key) {
        return column;
    }
    const char *name =
        binder->def != NULL ? binder->def->columns[column->number].name : binder->series_column;
    return dbos_bind_fail(binder, DBOS_ERR_GROUPING, column->position,
                          "column \"%s.%s\" must appear in the GROUP BY clause or be used in an "
                          "aggregate function",
                          binder->table_name, name);
}

/* The expression over a group: what is grouped by is taken from the group. */
static struct dbos_expr *over_group(const struct regroup *regroup, struct dbos_expr *expr) {
    const struct dbos_select_plan *select = regroup->select;
    for (uint32_t i = 0; i < select->group_count; i++) {
        if (dbos_expr_equal(select->groups[i], expr)) {
            struct dbos_expr *group = dbos_expr_new(regroup->binder, DBOS_EXPR_GROUP,
                                                    (enum dbos_type)expr->type, expr->position, 0);
            if (group != NULL) {
                group->number = i;
                group->chars_max = expr->chars_max;
            }
            return group;
        }
    }
    if (expr->kind == DBOS_EXPR_COLUMN) {
        return ungrouped(regroup, expr);
    }
    if (expr->count == 0) {
        return expr;
    }
    struct dbos_expr *copy = dbos_expr_new(regroup->binder, (enum dbos_expr_kind)expr->kind,
                                           (enum dbos_type)expr->type, expr->position, expr->count);
    if (copy == NULL) {
        return NULL;
    }
    struct dbos_expr **args = copy->args;
    *copy = *expr;
    copy->args = args;
    for (uint32_t i = 0; i < expr->count; i++) {
        args[i] = over_group(regroup, expr->args[i]);
        if (args[i] == NULL) {
            return NULL;
        }
    }
    return copy;
}

static bool groups_by_key(const struct dbos_select_plan *select, const struct dbos_table_def *def) {
    if (def == NULL || def->index_count == 0 || !def->indexes[0].primary) {
        return false;
    }
    for (uint32_t k = 0; k < def->indexes[0].column_count; k++) {
        bool found = false;
        for (uint32_t i = 0; i < select->group_count; i++) {
            found = found || (select->groups[i]->kind == DBOS_EXPR_COLUMN &&
                              select->groups[i]->number == def->indexes[0].columns[k]);
        }
        if (!found) {
            return false;
        }
    }
    return true;
}

static bool plan_aggregation(struct dbos_binder *binder, struct dbos_select_plan *out) {
    struct regroup regroup = {.binder = binder, .select = out};
    out->aggregated = binder->aggregate_count != 0 || out->group_count != 0 || out->having != NULL;
    if (!out->aggregated) {
        return true;
    }
    regroup.by_primary_key = groups_by_key(out, binder->def);
    for (uint32_t i = 0; i < out->expr_count; i++) {
        out->exprs[i] = over_group(&regroup, out->exprs[i]);
        if (out->exprs[i] == NULL) {
            return false;
        }
    }
    if (out->having != NULL) {
        out->having = over_group(&regroup, out->having);
    }
    out->aggregates = dbos_bind_take(binder, binder->aggregate_count * sizeof *out->aggregates);
    out->aggregate_count = binder->aggregate_count;
    for (struct dbos_aggregate *a = binder->first_aggregate; a != NULL && out->aggregates != NULL;
         a = a->next) {
        out->aggregates[a->number] = *a;
    }
    return binder->err == DBOS_OK;
}

/* -- the whole ------------------------------------------------------------------------------------
 */

static bool bind_count(struct dbos_binder *binder, const struct dbos_ast *ast, const char *clause,
                       struct dbos_expr **out) {
    if (ast == NULL || ast->kind == DBOS_AST_NULL) { /* LIMIT ALL */
        return true;
    }
    binder->clause = clause;
    binder->columns_forbidden = true;
    binder->aggregates_allowed = false;
    struct dbos_expr *expr = dbos_bind_expr(binder, ast);
    *out = expr == NULL ? NULL : dbos_coerce(binder, expr, DBOS_TYPE_INT8, DBOS_CAST_ASSIGNMENT);
    if (*out == NULL && binder->err == DBOS_OK) {
        return dbos_bind_fail(binder, DBOS_ERR_DATATYPE_MISMATCH, expr->position,
                              "argument of %s must be type bigint, not type %s", clause,
                              dbos_bind_type_name((enum dbos_type)expr->type)) != NULL;
    }
    return *out != NULL;
}

static bool bind_where(struct dbos_binder *binder, const struct dbos_ast_select *ast,
                       struct dbos_select_plan *out) {
    binder->clause = "WHERE";
    binder->aggregates_allowed = false;
    if (ast->where != NULL) {
        out->access.where = dbos_bind_condition(binder, ast->where, "WHERE");
    }
    binder->aggregates_allowed = true;
    return binder->err == DBOS_OK;
}

static bool bind_having(struct dbos_binder *binder, const struct dbos_ast_select *ast,
                        struct dbos_select_plan *out) {
    binder->clause = "HAVING";
    if (ast->having != NULL) {
        out->having = dbos_bind_condition(binder, ast->having, "HAVING");
    }
    return binder->err == DBOS_OK;
}

bool dbos_plan_select(struct dbos_binder *binder, struct dbos_plan *plan,
                      const struct dbos_ast_select *ast, struct dbos_select_plan *out,
                      struct dbos_result_column **columns) {
    struct targets targets = {.count = 0};
    binder->clause = "SELECT";
    if (!plan_from(binder, plan, &ast->from, &out->access)) {
        return false;
    }
    binder->aggregates_allowed = true;
    if (!bind_targets(binder, &ast->targets, &targets)) {
        return false;
    }
    out->column_count = targets.count;
    if (!bind_where(binder, ast, out) || !bind_having(binder, ast, out) ||
        !bind_sort(binder, ast, &targets, out) || !bind_groups(binder, ast, &targets, out) ||
        !describe_targets(binder, &targets, out->access.def, &out->exprs, columns)) {
        return false;
    }
    out->expr_count = targets.count;
    out->distinct = ast->distinct;
    if (!plan_aggregation(binder, out) || !bind_count(binder, ast->limit, "LIMIT", &out->limit) ||
        !bind_count(binder, ast->offset, "OFFSET", &out->offset)) {
        return false;
    }
    if (out->access.def != NULL) {
        dbos_plan_access(binder, &out->access);
        dbos_plan_order(&out->access, out);
    }
    return true;
}
