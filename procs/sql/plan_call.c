/* CALL p(…), and SELECT f(…) of a registered function. */
#include "procs/procedure.h"
#include "procs/sql/plan.h"

bool dbos_plan_is_call(const struct dbos_plan *plan, const struct dbos_ast_select *ast,
                       struct dbos_ast_call *out, const char **out_name) {
    if (ast->targets.count != 1 || ast->from.name != NULL || ast->where != NULL ||
        ast->group_count != 0 || ast->having != NULL || ast->sort_count != 0 ||
        ast->limit != NULL || ast->offset != NULL || ast->distinct) {
        return false;
    }
    const struct dbos_ast_target *target = &ast->targets.items[0];
    const struct dbos_ast *expr = target->expr;
    if (expr->kind != DBOS_AST_CALL || expr->star || expr->distinct ||
        dbos_catalog_procedure(plan->catalog, expr->name) == NULL) {
        return false;
    }
    *out = (struct dbos_ast_call){
        .name = expr->name, .args = expr->args, .count = expr->count, .position = expr->position};
    *out_name = target->name != NULL ? target->name : expr->name;
    return true;
}

static const struct dbos_procedure_info *find(const struct dbos_plan *plan, const char *name,
                                              bool is_select) {
    const struct dbos_procedure_info *procedure = dbos_catalog_procedure(plan->catalog, name);
    if (procedure == NULL && plan->procs != NULL && !is_select) {
        procedure = dbos_procs_builtin(plan->procs, name);
    }
    return procedure;
}

static void *no_procedure(struct dbos_binder *binder, const struct dbos_ast_call *ast,
                          const enum dbos_type *types, bool is_select) {
    char signature[256];
    if (is_select) {
        return dbos_bind_no_function(binder, ast->name, types, ast->count, ast->position);
    }
    dbos_bind_signature(ast->name, types, ast->count, signature, sizeof signature);
    (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_FUNCTION, ast->position,
                         "procedure %s does not exist", signature);
    dbos_err_hint(binder->info, "No procedure matches the given name and argument types. You "
                                "might need to add explicit type casts.");
    return NULL;
}

static bool right_kind(struct dbos_binder *binder, const struct dbos_ast_call *ast,
                       const struct dbos_procedure_info *procedure, const enum dbos_type *types,
                       bool is_select) {
    char signature[256];
    if (procedure->is_function == is_select) {
        return true;
    }
    dbos_bind_signature(ast->name, types, ast->count, signature, sizeof signature);
    (void)dbos_bind_fail(binder, DBOS_ERR_WRONG_OBJECT_TYPE, ast->position, "%s is %s", signature,
                         is_select ? "a procedure" : "not a procedure");
    dbos_err_hint(binder->info,
                  is_select ? "To call a procedure, use CALL." : "To call a function, use SELECT.");
    return false;
}

static bool bind_arguments(struct dbos_binder *binder, const struct dbos_ast_call *ast,
                           struct dbos_call_plan *out, enum dbos_type *types) {
    out->args = dbos_bind_take(binder, ast->count * sizeof(struct dbos_expr *));
    binder->clause = "CALL";
    for (uint32_t i = 0; i < ast->count && out->args != NULL; i++) {
        out->args[i] = dbos_bind_expr(binder, ast->args[i]);
        if (out->args[i] == NULL) {
            return false;
        }
        types[i] = (enum dbos_type)out->args[i]->type;
    }
    out->count = ast->count;
    return out->args != NULL;
}

static bool coerce_arguments(struct dbos_binder *binder, struct dbos_call_plan *out,
                             const struct dbos_ast_call *ast, const enum dbos_type *types,
                             bool is_select) {
    for (uint32_t i = 0; i < out->count; i++) {
        enum dbos_type wanted = (enum dbos_type)out->procedure->arguments[i].type;
        out->args[i] = dbos_coerce(binder, out->args[i], wanted, DBOS_CAST_IMPLICIT);
        if (out->args[i] == NULL) {
            return binder->err != DBOS_OK ? false
                                          : no_procedure(binder, ast, types, is_select) != NULL;
        }
    }
    return true;
}

static bool reads_only(const struct dbos_plan *plan) {
    const struct dbos_procedure_info *procedure = plan->call.procedure;
    const struct dbos_procedure_handle *handle =
        plan->procs == NULL ? NULL
                            : dbos_procs_find(plan->procs, procedure->id, procedure->version);
    return handle != NULL && dbos_procedure_reads_only(handle);
}

bool dbos_plan_call(struct dbos_binder *binder, struct dbos_plan *plan,
                    const struct dbos_ast_call *ast, const char *column_name, bool is_select) {
    enum dbos_type types[DBOS_ARGUMENTS_MAX];
    struct dbos_call_plan *out = &plan->call;
    plan->kind = DBOS_STATEMENT_CALL;
    if (plan->in_procedure) {
        return dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, ast->position,
                              "a procedure that calls another one is not supported") != NULL;
    }
    if (ast->count > DBOS_ARGUMENTS_MAX) {
        return dbos_bind_fail(binder, DBOS_ERR_TOO_MANY_ARGUMENTS, ast->position,
                              "cannot pass more than %d arguments to a function",
                              DBOS_ARGUMENTS_MAX) != NULL;
    }
    if (!bind_arguments(binder, ast, out, types)) {
        return false;
    }
    out->is_select = is_select;
    out->procedure = find(plan, ast->name, is_select);
    if (out->procedure == NULL) {
        return no_procedure(binder, ast, types, is_select) != NULL;
    }
    if (!right_kind(binder, ast, out->procedure, types, is_select)) {
        return false;
    }
    if (out->procedure->argument_count != ast->count) {
        return no_procedure(binder, ast, types, is_select) != NULL;
    }
    if (!coerce_arguments(binder, out, ast, types, is_select)) {
        return false;
    }
    plan->read_only = reads_only(plan);
    if (!is_select) {
        return true;
    }
    plan->columns = dbos_bind_take(binder, sizeof *plan->columns);
    const char *name = dbos_arena_copy(binder->arena, column_name, strlen(column_name));
    if (plan->columns == NULL || name == NULL) {
        return dbos_bind_nomem(binder) != NULL;
    }
    plan->columns[0] = (struct dbos_result_column){.name = name, .type = out->procedure->returns};
    plan->column_count = 1;
    return true;
}
