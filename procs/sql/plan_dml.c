/* INSERT, UPDATE, DELETE. */
#include "procs/sql/plan.h"

/* -- defaults -------------------------------------------------------------------------------------
 */

static struct dbos_expr *null_of(struct dbos_binder *binder, const struct dbos_column *column) {
    struct dbos_expr *expr =
        dbos_expr_new(binder, DBOS_EXPR_CONST, (enum dbos_type)column->type, 0, 0);
    if (expr != NULL) {
        expr->value = dbos_datum_null((enum dbos_type)column->type);
    }
    return expr;
}

/* A default is kept as text; it names no columns and no parameters. */
static struct dbos_expr *parse_default(struct dbos_binder *binder,
                                       const struct dbos_column *column) {
    size_t size_bytes = strlen(column->default_sql) + 8;
    char *text = dbos_bind_take(binder, size_bytes);
    if (text == NULL) {
        return NULL;
    }
    memcpy(text, "SELECT ", 7);
    memcpy(text + 7, column->default_sql, size_bytes - 8);
    struct dbos_script *script = NULL;
    binder->err = dbos_script_parse(binder->arena->alloc, text, &script, binder->info);
    if (binder->err != DBOS_OK) {
        return NULL;
    }
    struct dbos_binder own = {.arena = binder->arena,
                              .info = binder->info,
                              .catalog = binder->catalog,
                              .clause = "DEFAULT"};
    struct dbos_expr *expr = NULL;
    if (script->count == 1 && script->statements[0].kind == DBOS_STATEMENT_SELECT &&
        script->statements[0].select.targets.count == 1) {
        expr = dbos_bind_expr(&own, script->statements[0].select.targets.items[0].expr);
        expr = expr == NULL ? NULL : dbos_coerce_column(&own, expr, column);
    }
    dbos_script_close(script);
    if (expr == NULL) {
        binder->err = own.err != DBOS_OK
                          ? own.err
                          : dbos_fail(binder->info, DBOS_ERR_CORRUPT,
                                      "default of column \"%s\" is no expression", column->name);
    }
    return expr;
}

static struct dbos_expr *default_of(struct dbos_binder *binder, const struct dbos_column *column) {
    if (column->default_sql == NULL) {
        return null_of(binder, column);
    }
    struct dbos_expr *expr = parse_default(binder, column);
    if (expr == NULL && binder->info != NULL) {
        binder->info->position = 0; /* it would point into the default's text */
    }
    return expr;
}

/* -- INSERT ---------------------------------------------------------------------------------------
 */

/* Which column of the table the n-th value is for. */
struct column_list {
    uint32_t columns[DBOS_COLUMNS_MAX];
    uint32_t count;
    bool is_named;
};

static bool list_columns(struct dbos_binder *binder, const struct dbos_ast_insert *ast,
                         const struct dbos_table_def *def, struct column_list *out) {
    bool seen[DBOS_COLUMNS_MAX] = {false};
    out->is_named = ast->column_count != 0;
    out->count = out->is_named ? ast->column_count : def->column_count;
    if (out->count > DBOS_COLUMNS_MAX) {
        return dbos_bind_fail(binder, DBOS_ERR_TOO_MANY_COLUMNS, 0,
                              "INSERT has too many columns") != NULL;
    }
    for (uint32_t i = 0; i < out->count; i++) {
        int32_t column = (int32_t)i;
        if (out->is_named) {
            column = dbos_table_def_column(def, ast->columns[i].name);
        }
        if (column < 0) {
            return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_COLUMN, ast->columns[i].position,
                                  "column \"%s\" of relation \"%s\" does not exist",
                                  ast->columns[i].name, def->name) != NULL;
        }
        if (seen[column]) {
            return dbos_bind_fail(binder, DBOS_ERR_DUPLICATE_COLUMN, ast->columns[i].position,
                                  "column \"%s\" specified more than once",
                                  ast->columns[i].name) != NULL;
        }
        seen[column] = true;
        out->columns[i] = (uint32_t)column;
    }
    return true;
}

static bool check_width(struct dbos_binder *binder, const struct dbos_ast_insert *ast,
                        const struct column_list *list, uint32_t count,
                        uint32_t position_of_extra) {
    if (count > list->count) {
        return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, position_of_extra,
                              "INSERT has more expressions than target columns") != NULL;
    }
    if (list->is_named && count < list->count) {
        return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, ast->columns[count].position,
                              "INSERT has more target columns than expressions") != NULL;
    }
    return true;
}

static uint32_t ast_position(const struct dbos_ast *ast) {
    return ast->count != 0 && ast->args[0]->position != 0 && ast->kind != DBOS_AST_CALL &&
                   ast->args[0]->position < ast->position
               ? ast->args[0]->position
               : ast->position;
}

/* One expression for each column of the table. */
static struct dbos_expr **bind_row(struct dbos_binder *binder, const struct dbos_ast_row *row,
                                   const struct dbos_table_def *def,
                                   const struct column_list *list) {
    struct dbos_expr **exprs =
        dbos_bind_take(binder, def->column_count * sizeof(struct dbos_expr *));
    for (uint32_t i = 0; exprs != NULL && i < row->count; i++) {
        const struct dbos_column *column = &def->columns[list->columns[i]];
        if (row->values[i]->kind == DBOS_AST_DEFAULT) {
            continue;
        }
        struct dbos_expr *expr = dbos_bind_expr(binder, row->values[i]);
        exprs[list->columns[i]] = expr == NULL ? NULL : dbos_coerce_column(binder, expr, column);
        if (exprs[list->columns[i]] == NULL) {
            return NULL;
        }
    }
    return exprs;
}

/* Defaults are bound once, and shared by all rows. */
static bool fill_defaults(struct dbos_binder *binder, const struct dbos_table_def *def,
                          struct dbos_expr ***rows, uint32_t row_count) {
    for (uint32_t c = 0; c < def->column_count; c++) {
        struct dbos_expr *value = NULL;
        for (uint32_t r = 0; r < row_count; r++) {
            if (rows[r][c] != NULL) {
                continue;
            }
            value = value == NULL ? default_of(binder, &def->columns[c]) : value;
            if (value == NULL) {
                return false;
            }
            rows[r][c] = value;
        }
    }
    return true;
}

static bool plan_values(struct dbos_binder *binder, const struct dbos_ast_insert *ast,
                        const struct column_list *list, struct dbos_insert_plan *out) {
    static const struct dbos_ast_row all_defaults = {.count = 0};
    uint32_t count = ast->default_values ? 1 : ast->row_count;
    out->rows = dbos_bind_take(binder, count * sizeof(struct dbos_expr **));
    binder->clause = "VALUES";
    binder->def = NULL;
    binder->table_name = NULL;
    for (uint32_t r = 0; r < count && out->rows != NULL; r++) {
        const struct dbos_ast_row *row = ast->default_values ? &all_defaults : &ast->rows[r];
        if (r > 0 && row->count != ast->rows[0].count) {
            return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, ast_position(row->values[0]),
                                  "VALUES lists must all be the same length") != NULL;
        }
        uint32_t extra = row->count > list->count ? ast_position(row->values[list->count]) : 0;
        if (!ast->default_values && !check_width(binder, ast, list, row->count, extra)) {
            return false;
        }
        out->rows[r] = bind_row(binder, row, out->def, list);
        if (out->rows[r] == NULL) {
            return false;
        }
    }
    out->row_count = count;
    return out->rows != NULL && fill_defaults(binder, out->def, out->rows, count);
}

/* The select's columns, as if they were those of generate_series(): values by number. */
static bool plan_from_select(struct dbos_binder *binder, struct dbos_plan *plan,
                             const struct dbos_ast_insert *ast, const struct column_list *list,
                             struct dbos_insert_plan *out) {
    struct dbos_result_column *columns = NULL;
    struct dbos_binder own = *binder;
    enum dbos_type wanted[DBOS_COLUMNS_MAX];
    for (uint32_t i = 0; i < list->count; i++) {
        wanted[i] = (enum dbos_type)out->def->columns[list->columns[i]].type;
    }
    own.wanted = wanted;
    own.wanted_count = list->count;
    own.def = NULL;
    own.table_name = NULL;
    out->select = dbos_bind_take(binder, sizeof *out->select);
    if (out->select == NULL) {
        return false;
    }
    bool done = dbos_plan_select(&own, plan, ast->select, out->select, &columns);
    binder->err = own.err;
    binder->types = own.types;
    binder->type_count = own.type_count;
    binder->type_capacity = own.type_capacity;
    if (!done) {
        return false;
    }
    uint32_t extra =
        out->select->column_count > list->count ? out->select->exprs[list->count]->position : 0;
    if (!check_width(binder, ast, list, out->select->column_count, extra)) {
        return false;
    }
    out->from_select = dbos_bind_take(binder, out->def->column_count * sizeof(struct dbos_expr *));
    for (uint32_t i = 0; out->from_select != NULL && i < out->select->column_count; i++) {
        const struct dbos_expr *source = out->select->exprs[i];
        struct dbos_expr *value = dbos_expr_new(binder, DBOS_EXPR_COLUMN,
                                                (enum dbos_type)source->type, source->position, 0);
        if (value == NULL) {
            return false;
        }
        value->number = i;
        uint32_t column = list->columns[i];
        out->from_select[column] = dbos_coerce_column(binder, value, &out->def->columns[column]);
        if (out->from_select[column] == NULL) {
            return false;
        }
    }
    return out->from_select != NULL && fill_defaults(binder, out->def, &out->from_select, 1);
}

bool dbos_plan_insert(struct dbos_binder *binder, struct dbos_plan *plan) {
    const struct dbos_ast_insert *ast = &plan->statement->insert;
    struct dbos_insert_plan *out = &plan->insert;
    struct column_list list;
    out->def = dbos_plan_find_table(binder, &ast->table);
    if (out->def == NULL || !dbos_plan_may_write(binder, plan, out->def) ||
        !list_columns(binder, ast, out->def, &list)) {
        return false;
    }
    bool done = ast->select != NULL ? plan_from_select(binder, plan, ast, &list, out)
                                    : plan_values(binder, ast, &list, out);
    dbos_plan_set_source(binder, &ast->table, out->def);
    return done && dbos_plan_returning(binder, plan, &ast->returning, out->def, &out->returning);
}

/* -- UPDATE and DELETE ----------------------------------------------------------------------------
 */

static bool plan_target(struct dbos_binder *binder, struct dbos_plan *plan,
                        const struct dbos_ast_relation *table, const struct dbos_ast *where,
                        struct dbos_access *access) {
    access->def = dbos_plan_find_table(binder, table);
    if (access->def == NULL || !dbos_plan_may_write(binder, plan, access->def)) {
        return false;
    }
    dbos_plan_set_source(binder, table, access->def);
    binder->clause = "WHERE";
    if (where != NULL) {
        access->where = dbos_bind_condition(binder, where, "WHERE");
        if (access->where == NULL) {
            return false;
        }
    }
    return true;
}

static bool bind_set(struct dbos_binder *binder, const struct dbos_ast_target *target,
                     struct dbos_change_plan *out) {
    const struct dbos_table_def *def = out->access.def;
    int32_t column = dbos_table_def_column(def, target->name);
    if (column < 0) {
        return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_COLUMN, target->position,
                              "column \"%s\" of relation \"%s\" does not exist", target->name,
                              def->name) != NULL;
    }
    if (out->set[column] != NULL) {
        return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, 0,
                              "multiple assignments to same column \"%s\"", target->name) != NULL;
    }
    if (target->expr->kind == DBOS_AST_DEFAULT) {
        out->set[column] = default_of(binder, &def->columns[column]);
        return out->set[column] != NULL;
    }
    struct dbos_expr *expr = dbos_bind_expr(binder, target->expr);
    out->set[column] =
        expr == NULL ? NULL : dbos_coerce_column(binder, expr, &def->columns[column]);
    return out->set[column] != NULL;
}

bool dbos_plan_update(struct dbos_binder *binder, struct dbos_plan *plan) {
    const struct dbos_ast_update *ast = &plan->statement->update;
    struct dbos_change_plan *out = &plan->change;
    out->access.def = dbos_plan_find_table(binder, &ast->table);
    if (out->access.def == NULL || !dbos_plan_may_write(binder, plan, out->access.def)) {
        return false;
    }
    dbos_plan_set_source(binder, &ast->table, out->access.def);
    out->set = dbos_bind_take(binder, out->access.def->column_count * sizeof(struct dbos_expr *));
    binder->clause = "UPDATE";
    for (uint32_t i = 0; i < ast->set.count && out->set != NULL; i++) {
        if (!bind_set(binder, &ast->set.items[i], out)) {
            return false;
        }
    }
    if (out->set == NULL || !plan_target(binder, plan, &ast->table, ast->where, &out->access)) {
        return false;
    }
    dbos_plan_access(binder, &out->access);
    return dbos_plan_returning(binder, plan, &ast->returning, out->access.def, &out->returning);
}

bool dbos_plan_delete(struct dbos_binder *binder, struct dbos_plan *plan) {
    const struct dbos_ast_delete *ast = &plan->statement->delete_from;
    struct dbos_change_plan *out = &plan->change;
    if (!plan_target(binder, plan, &ast->table, ast->where, &out->access)) {
        return false;
    }
    dbos_plan_access(binder, &out->access);
    return dbos_plan_returning(binder, plan, &ast->returning, out->access.def, &out->returning);
}
