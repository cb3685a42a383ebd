/* Calls of functions and aggregates. */
#include <stdio.h>

#include "procs/sql/bind.h"
#include "procs/sql/function.h"

static const struct {
    const char *name;
    enum dbos_aggregate_kind kind;
} aggregates[] = {
    {"count", DBOS_AGGREGATE_COUNT}, {"sum", DBOS_AGGREGATE_SUM}, {"min", DBOS_AGGREGATE_MIN},
    {"max", DBOS_AGGREGATE_MAX},     {"avg", DBOS_AGGREGATE_AVG},
};

void dbos_bind_signature(const char *name, const enum dbos_type *types, uint32_t count, char *out,
                         size_t out_bytes) {
    size_t used = (size_t)snprintf(out, out_bytes, "%s(", name);
    for (uint32_t i = 0; i < count && used + 1 < out_bytes; i++) {
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", i == 0 ? "" : ", ",
                                 dbos_bind_type_name(types[i]));
    }
    if (used + 1 < out_bytes) {
        (void)snprintf(out + used, out_bytes - used, ")");
    }
}

void *dbos_bind_no_function(struct dbos_binder *binder, const char *name,
                            const enum dbos_type *types, uint32_t count, uint32_t position) {
    char signature[256];
    dbos_bind_signature(name, types, count, signature, sizeof signature);
    (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_FUNCTION, position,
                         "function %s does not exist", signature);
    dbos_err_hint(binder->info, "No function matches the given name and argument types. You might "
                                "need to add explicit type casts.");
    return NULL;
}

static void *not_unique(struct dbos_binder *binder, const char *name, const enum dbos_type *types,
                        uint32_t count, uint32_t position) {
    char signature[256];
    dbos_bind_signature(name, types, count, signature, sizeof signature);
    (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_FUNCTION, position, "function %s is not unique",
                         signature);
    if (binder->info != NULL) {
        memcpy(binder->info->sqlstate, "42725", sizeof "42725");
    }
    dbos_err_hint(binder->info, "Could not choose a best candidate function. You might need to add "
                                "explicit type casts.");
    return NULL;
}

/* -- aggregates -----------------------------------------------------------------------------------
 */

static bool aggregate_type(enum dbos_aggregate_kind kind, enum dbos_type arg, enum dbos_type *out) {
    bool integer = arg == DBOS_TYPE_INT2 || arg == DBOS_TYPE_INT4 || arg == DBOS_TYPE_INT8;
    switch (kind) {
    case DBOS_AGGREGATE_COUNT:
        *out = DBOS_TYPE_INT8;
        return true;
    case DBOS_AGGREGATE_SUM:
        *out = integer ? DBOS_TYPE_INT8 : DBOS_TYPE_FLOAT8;
        return integer || arg == DBOS_TYPE_FLOAT8;
    case DBOS_AGGREGATE_AVG:
        *out = DBOS_TYPE_FLOAT8;
        return integer || arg == DBOS_TYPE_FLOAT8;
    case DBOS_AGGREGATE_MIN:
    case DBOS_AGGREGATE_MAX:
        break;
    }
    *out = arg == DBOS_TYPE_VARCHAR ? DBOS_TYPE_TEXT : arg;
    return arg != DBOS_TYPE_BOOL && arg != DBOS_TYPE_BYTEA && arg != DBOS_TYPE_VOID;
}

static bool aggregate_allowed(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (ast->distinct) {
        return dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, ast->position,
                              "DISTINCT in an aggregate is not supported") != NULL;
    }
    if (binder->in_aggregate) {
        return dbos_bind_fail(binder, DBOS_ERR_GROUPING, ast->position,
                              "aggregate function calls cannot be nested") != NULL;
    }
    if (!binder->aggregates_allowed) {
        return dbos_bind_fail(binder, DBOS_ERR_GROUPING, ast->position,
                              "aggregate functions are not allowed in %s", binder->clause) != NULL;
    }
    return true;
}

static struct dbos_expr *bind_argument(struct dbos_binder *binder, const struct dbos_ast *ast,
                                       enum dbos_aggregate_kind kind) {
    binder->in_aggregate = true;
    struct dbos_expr *arg = dbos_bind_expr(binder, ast->args[0]);
    binder->in_aggregate = false;
    if (arg == NULL || arg->type != DBOS_TYPE_UNKNOWN) {
        return arg;
    }
    enum dbos_type unknown = DBOS_TYPE_UNKNOWN;
    bool ambiguous = kind == DBOS_AGGREGATE_SUM || kind == DBOS_AGGREGATE_AVG;
    return ambiguous ? not_unique(binder, ast->name, &unknown, 1, ast->position)
                     : dbos_coerce_unknown(binder, arg);
}

/* An equal aggregate is computed once. */
static struct dbos_aggregate *add_aggregate(struct dbos_binder *binder,
                                            const struct dbos_aggregate *wanted) {
    for (struct dbos_aggregate *a = binder->first_aggregate; a != NULL; a = a->next) {
        bool same_arg = a->arg == NULL || wanted->arg == NULL
                            ? a->arg == wanted->arg
                            : dbos_expr_equal(a->arg, wanted->arg);
        if (a->kind == wanted->kind && same_arg) {
            return a;
        }
    }
    struct dbos_aggregate *fresh = dbos_bind_take(binder, sizeof *fresh);
    if (fresh == NULL) {
        return NULL;
    }
    *fresh = *wanted;
    fresh->number = binder->aggregate_count++;
    if (binder->last_aggregate == NULL) {
        binder->first_aggregate = fresh;
    } else {
        binder->last_aggregate->next = fresh;
    }
    binder->last_aggregate = fresh;
    return fresh;
}

static struct dbos_expr *bind_aggregate(struct dbos_binder *binder, const struct dbos_ast *ast,
                                        enum dbos_aggregate_kind kind) {
    struct dbos_aggregate aggregate = {.kind = kind};
    if (!aggregate_allowed(binder, ast)) {
        return NULL;
    }
    if (ast->star ? kind != DBOS_AGGREGATE_COUNT : ast->count == 0) {
        if (kind == DBOS_AGGREGATE_COUNT) {
            return dbos_bind_fail(
                binder, DBOS_ERR_WRONG_OBJECT_TYPE, ast->position,
                "count(*) must be used to call a parameterless aggregate function");
        }
        return dbos_bind_no_function(binder, ast->name, NULL, 0, ast->position);
    }
    enum dbos_type type = DBOS_TYPE_UNKNOWN;
    if (!ast->star) {
        aggregate.arg = bind_argument(binder, ast, kind);
        if (aggregate.arg == NULL) {
            return NULL;
        }
        type = (enum dbos_type)aggregate.arg->type;
    }
    if (ast->count > 1 || !aggregate_type(kind, type, &aggregate.type)) {
        return dbos_bind_no_function(binder, ast->name, &type, 1, ast->position);
    }
    struct dbos_aggregate *added = add_aggregate(binder, &aggregate);
    struct dbos_expr *expr =
        added == NULL ? NULL
                      : dbos_expr_new(binder, DBOS_EXPR_AGGREGATE, added->type, ast->position, 0);
    if (expr != NULL) {
        expr->number = added->number;
    }
    return expr;
}

/* -- functions ------------------------------------------------------------------------------------
 */

static bool coerce_arguments(struct dbos_binder *binder, struct dbos_expr *call) {
    const struct dbos_function *function = call->function;
    for (uint32_t i = 0; i < call->count; i++) {
        enum dbos_type wanted =
            (enum dbos_type)function->args[i < function->count ? i : function->count - 1u];
        call->args[i] = wanted == DBOS_TYPE_UNKNOWN
                            ? dbos_coerce_unknown(binder, call->args[i])
                            : dbos_coerce(binder, call->args[i], wanted, DBOS_CAST_IMPLICIT);
        if (call->args[i] == NULL) {
            DBOS_CHECK(binder->err != DBOS_OK);
            return false;
        }
    }
    return true;
}

/* A registered function is a transaction's whole work: SELECT f(…) alone. */
static void *registered_function(struct dbos_binder *binder, const struct dbos_ast *ast,
                                 const struct dbos_procedure_info *procedure) {
    if (!procedure->is_function) {
        (void)dbos_bind_fail(binder, DBOS_ERR_WRONG_OBJECT_TYPE, ast->position, "%s is a procedure",
                             ast->name);
        dbos_err_hint(binder->info, "To call a procedure, use CALL.");
        return NULL;
    }
    (void)dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, ast->position,
                         "function %s inside an expression or a query is not supported", ast->name);
    dbos_err_hint(binder->info, "Call it as SELECT %s(…) alone.", ast->name);
    return NULL;
}

static struct dbos_expr *bind_function(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (ast->count > 100) {
        return dbos_bind_fail(binder, DBOS_ERR_TOO_MANY_ARGUMENTS, ast->position,
                              "cannot pass more than 100 arguments to a function");
    }
    enum dbos_type types[100];
    struct dbos_expr *call =
        dbos_expr_new(binder, DBOS_EXPR_CALL, DBOS_TYPE_UNKNOWN, ast->position, ast->count);
    for (uint32_t i = 0; i < ast->count && call != NULL; i++) {
        call->args[i] = dbos_bind_expr(binder, ast->args[i]);
        if (call->args[i] == NULL) {
            return NULL;
        }
        types[i] = (enum dbos_type)call->args[i]->type;
    }
    if (call == NULL) {
        return NULL;
    }
    const struct dbos_procedure_info *procedure =
        dbos_catalog_procedure(binder->catalog, ast->name);
    enum dbos_found found = dbos_function_find(ast->name, types, ast->count, &call->function);
    if (found == DBOS_FOUND_MANY) {
        return not_unique(binder, ast->name, types, ast->count, ast->position);
    }
    if (found == DBOS_FOUND_NONE) {
        return procedure != NULL
                   ? registered_function(binder, ast, procedure)
                   : dbos_bind_no_function(binder, ast->name, types, ast->count, ast->position);
    }
    if (ast->distinct || ast->star) {
        return dbos_bind_fail(binder, DBOS_ERR_WRONG_OBJECT_TYPE, ast->position,
                              "%s specified, but %s is not an aggregate function",
                              ast->star ? "(*)" : "DISTINCT", ast->name);
    }
    call->type = call->function->result;
    return coerce_arguments(binder, call) ? call : NULL;
}

struct dbos_expr *dbos_bind_call(struct dbos_binder *binder, const struct dbos_ast *ast) {
    for (size_t i = 0; i < sizeof aggregates / sizeof aggregates[0]; i++) {
        if (strcmp(aggregates[i].name, ast->name) == 0) {
            return bind_aggregate(binder, ast, aggregates[i].kind);
        }
    }
    return bind_function(binder, ast);
}
