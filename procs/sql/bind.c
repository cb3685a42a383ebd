/* Expressions, from the tree to typed nodes. */
#include "procs/sql/bind.h"

#include "procs/sql/type_io.h"

void *dbos_bind_fail(struct dbos_binder *binder, enum dbos_err err, uint32_t position,
                     const char *format, ...) {
    if (binder->err != DBOS_OK) {
        return NULL; /* the first error stays */
    }
    va_list args;
    va_start(args, format);
    binder->err = dbos_vfail(binder->info, err, format, args);
    va_end(args);
    if (binder->info != NULL) {
        binder->info->position = position;
    }
    return NULL;
}

void *dbos_bind_nomem(struct dbos_binder *binder) {
    return dbos_bind_fail(binder, DBOS_ERR_NOMEM, 0, "out of memory");
}

void *dbos_bind_take(struct dbos_binder *binder, size_t size_bytes) {
    void *block = dbos_arena_take_zero(binder->arena, size_bytes == 0 ? 1 : size_bytes);
    return block != NULL ? block : dbos_bind_nomem(binder);
}

/* -- parameters -----------------------------------------------------------------------------------
 */

static bool reserve_parameters(struct dbos_binder *binder, uint32_t count) {
    if (count <= binder->type_count) {
        return true;
    }
    if (count > binder->type_capacity) {
        uint32_t capacity = count < 8 ? 8 : count * 2;
        enum dbos_type *types = dbos_bind_take(binder, capacity * sizeof *types);
        if (types == NULL) {
            return false;
        }
        if (binder->type_count != 0) {
            memcpy(types, binder->types, binder->type_count * sizeof *types);
        }
        binder->types = types;
        binder->type_capacity = capacity;
    }
    binder->type_count = count;
    return true;
}

bool dbos_bind_hints(struct dbos_binder *binder, const enum dbos_type *hints, uint32_t count) {
    if (!reserve_parameters(binder, count)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        binder->types[i] = hints[i];
    }
    return true;
}

bool dbos_bind_parameters_known(struct dbos_binder *binder) {
    for (uint32_t i = 0; i < binder->type_count; i++) {
        if (binder->types[i] == DBOS_TYPE_UNKNOWN) {
            return dbos_bind_fail(binder, DBOS_ERR_INDETERMINATE_TYPE, 0,
                                  "could not determine data type of parameter $%u", i + 1) != NULL;
        }
    }
    return true;
}

static struct dbos_expr *bind_parameter(struct dbos_binder *binder, const struct dbos_ast *ast) {
    uint32_t number = (uint32_t)ast->integer;
    if (!reserve_parameters(binder, number)) {
        return NULL;
    }
    struct dbos_expr *expr =
        dbos_expr_new(binder, DBOS_EXPR_PARAMETER, binder->types[number - 1], ast->position, 0);
    if (expr != NULL) {
        expr->number = number - 1;
    }
    return expr;
}

/* -- constants and columns ------------------------------------------------------------------------
 */

static struct dbos_expr *constant(struct dbos_binder *binder, const struct dbos_ast *ast,
                                  struct dbos_datum value) {
    struct dbos_expr *expr =
        dbos_expr_new(binder, DBOS_EXPR_CONST, (enum dbos_type)value.type, ast->position, 0);
    if (expr != NULL) {
        expr->value = value;
    }
    return expr;
}

static struct dbos_expr *bind_constant(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_datum value = dbos_datum_null(DBOS_TYPE_UNKNOWN);
    if (ast->kind == DBOS_AST_INTEGER) {
        bool small = ast->integer >= INT32_MIN && ast->integer <= INT32_MAX;
        value = dbos_datum_int(small ? DBOS_TYPE_INT4 : DBOS_TYPE_INT8, ast->integer);
    } else if (ast->kind == DBOS_AST_BOOL) {
        value = dbos_datum_int(DBOS_TYPE_BOOL, ast->integer);
    } else if (ast->kind != DBOS_AST_NULL) {
        size_t size_bytes = strlen(ast->name);
        const char *text = dbos_arena_copy(binder->arena, ast->name, size_bytes);
        if (text == NULL) {
            return dbos_bind_nomem(binder);
        }
        value = dbos_datum_bytes(DBOS_TYPE_UNKNOWN, text, size_bytes);
    }
    struct dbos_expr *expr = constant(binder, ast, value);
    return expr != NULL && ast->kind == DBOS_AST_FLOAT
               ? dbos_coerce(binder, expr, DBOS_TYPE_FLOAT8, DBOS_CAST_IMPLICIT)
               : expr;
}

static bool check_qualifier(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (ast->qualifier == NULL ||
        (binder->table_name != NULL && strcmp(ast->qualifier, binder->table_name) == 0)) {
        return true;
    }
    if (binder->has_alias && binder->def != NULL &&
        strcmp(ast->qualifier, binder->def->name) == 0) {
        (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_TABLE, ast->position,
                             "invalid reference to FROM-clause entry for table \"%s\"",
                             ast->qualifier);
        dbos_err_hint(binder->info, "Perhaps you meant to reference the table alias \"%s\".",
                      binder->table_name);
        return false;
    }
    return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_TABLE, ast->position,
                          "missing FROM-clause entry for table \"%s\"", ast->qualifier) != NULL;
}

static void *no_column(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (ast->qualifier != NULL) {
        return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_COLUMN, ast->position,
                              "column %s.%s does not exist", ast->qualifier, ast->name);
    }
    return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_COLUMN, ast->position,
                          "column \"%s\" does not exist", ast->name);
}

static struct dbos_expr *bind_column(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (!check_qualifier(binder, ast)) {
        return NULL;
    }
    int32_t number = -1;
    enum dbos_type type = DBOS_TYPE_UNKNOWN;
    uint32_t chars_max = 0;
    if (binder->def != NULL) {
        number = dbos_table_def_column(binder->def, ast->name);
        type = number < 0 ? type : (enum dbos_type)binder->def->columns[number].type;
        chars_max = number < 0 ? 0 : binder->def->columns[number].chars_max;
    } else if (binder->series_column != NULL && strcmp(ast->name, binder->series_column) == 0) {
        number = 0;
        type = binder->series_type;
    }
    if (number < 0) {
        return no_column(binder, ast);
    }
    if (binder->columns_forbidden) {
        return dbos_bind_fail(binder, DBOS_ERR_INVALID_COLUMN_REFERENCE, ast->position,
                              "argument of %s must not contain variables", binder->clause);
    }
    struct dbos_expr *expr = dbos_expr_new(binder, DBOS_EXPR_COLUMN, type, ast->position, 0);
    if (expr != NULL) {
        expr->number = (uint32_t)number;
        expr->chars_max = chars_max;
    }
    return expr;
}

/* -- logic ----------------------------------------------------------------------------------------
 */

static struct dbos_expr *bind_logic(struct dbos_binder *binder, const struct dbos_ast *ast) {
    bool is_and = ast->kind == DBOS_AST_AND;
    bool is_not = ast->kind == DBOS_AST_NOT;
    struct dbos_expr *expr =
        dbos_expr_new(binder, is_not ? DBOS_EXPR_NOT : (is_and ? DBOS_EXPR_AND : DBOS_EXPR_OR),
                      DBOS_TYPE_BOOL, ast->position, ast->count);
    for (uint32_t i = 0; i < ast->count && expr != NULL; i++) {
        struct dbos_expr *arg = dbos_bind_expr(binder, ast->args[i]);
        expr->args[i] =
            arg == NULL ? NULL
                        : dbos_coerce_bool(binder, arg, is_not ? "NOT" : (is_and ? "AND" : "OR"));
        if (expr->args[i] == NULL) {
            return NULL;
        }
    }
    if (expr != NULL && !is_not && expr->args[0]->position != 0) {
        expr->position = expr->args[0]->position;
    }
    return expr;
}

static struct dbos_expr *bind_is(struct dbos_binder *binder, const struct dbos_ast *ast) {
    static const char *const clauses[] = {"IS UNKNOWN", "IS FALSE", "IS TRUE"};
    static const char *const negations[] = {"IS NOT UNKNOWN", "IS NOT FALSE", "IS NOT TRUE"};
    struct dbos_expr *arg = dbos_bind_expr(binder, ast->args[0]);
    if (arg == NULL) {
        return NULL;
    }
    bool is_null = ast->kind == DBOS_AST_IS_NULL;
    arg = is_null ? dbos_coerce_unknown(binder, arg)
                  : dbos_coerce_bool(binder, arg,
                                     (ast->negated ? negations : clauses)[ast->integer + 1]);
    struct dbos_expr *expr =
        arg == NULL ? NULL
                    : dbos_expr_new(binder, is_null ? DBOS_EXPR_IS_NULL : DBOS_EXPR_IS_BOOL,
                                    DBOS_TYPE_BOOL, arg->position, 1);
    if (expr != NULL) {
        expr->negated = ast->negated;
        expr->number = ast->integer < 0 ? 2 : (uint32_t)ast->integer;
        expr->args[0] = arg;
    }
    return expr;
}

static struct dbos_expr *bind_distinct(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *left = dbos_bind_expr(binder, ast->args[0]);
    struct dbos_expr *right = left == NULL ? NULL : dbos_bind_expr(binder, ast->args[1]);
    struct dbos_expr *expr =
        right == NULL ? NULL
                      : dbos_bind_compare(binder, DBOS_COMPARE_EQ, left, right, ast->position);
    if (expr != NULL) {
        expr->kind = DBOS_EXPR_DISTINCT;
        expr->number = 0;
        expr->negated = ast->negated;
    }
    return expr;
}

static struct dbos_expr *negate(struct dbos_binder *binder, struct dbos_expr *arg) {
    struct dbos_expr *expr = dbos_expr_new(binder, DBOS_EXPR_NOT, DBOS_TYPE_BOOL, arg->position, 1);
    if (expr != NULL) {
        expr->args[0] = arg;
    }
    return expr;
}

/* x IN (a, b) is x = a OR x = b; NOT IN is the opposite. */
static struct dbos_expr *bind_in(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *left = dbos_bind_expr(binder, ast->args[0]);
    struct dbos_expr *any = left == NULL ? NULL
                                         : dbos_expr_new(binder, DBOS_EXPR_OR, DBOS_TYPE_BOOL,
                                                         left->position, ast->count - 1);
    for (uint32_t i = 1; i < ast->count && any != NULL; i++) {
        struct dbos_expr *right = dbos_bind_expr(binder, ast->args[i]);
        any->args[i - 1] =
            right == NULL ? NULL
                          : dbos_bind_compare(binder, DBOS_COMPARE_EQ, left, right, ast->position);
        if (any->args[i - 1] == NULL) {
            return NULL;
        }
    }
    if (any == NULL) {
        return NULL;
    }
    struct dbos_expr *expr = any->count == 1 ? any->args[0] : any;
    return ast->negated ? negate(binder, expr) : expr;
}

static struct dbos_expr *pair(struct dbos_binder *binder, enum dbos_expr_kind kind,
                              struct dbos_expr *left, struct dbos_expr *right) {
    if (left == NULL || right == NULL) {
        return NULL;
    }
    struct dbos_expr *expr = dbos_expr_new(binder, kind, DBOS_TYPE_BOOL, left->position, 2);
    if (expr != NULL) {
        expr->args[0] = left;
        expr->args[1] = right;
    }
    return expr;
}

/* x BETWEEN a AND b is x >= a AND x <= b, whose halves can bound an index scan. */
static struct dbos_expr *between(struct dbos_binder *binder, const struct dbos_ast *ast,
                                 struct dbos_expr *const bound[3], uint32_t low, uint32_t high) {
    struct dbos_expr *from =
        dbos_bind_compare(binder, DBOS_COMPARE_GE, bound[0], bound[low], ast->position);
    struct dbos_expr *to = from == NULL ? NULL
                                        : dbos_bind_compare(binder, DBOS_COMPARE_LE, bound[0],
                                                            bound[high], ast->position);
    return pair(binder, DBOS_EXPR_AND, from, to);
}

static struct dbos_expr *bind_between(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *args[3];
    for (uint32_t i = 0; i < 3; i++) {
        args[i] = dbos_bind_expr(binder, ast->args[i]);
        if (args[i] == NULL) {
            return NULL;
        }
    }
    struct dbos_expr *expr = between(binder, ast, args, 1, 2);
    if (expr != NULL && ast->integer == 1) {
        expr = pair(binder, DBOS_EXPR_OR, expr, between(binder, ast, args, 2, 1));
    }
    return expr != NULL && ast->negated ? negate(binder, expr) : expr;
}

/* -- CASE and its like ----------------------------------------------------------------------------
 */

static struct dbos_expr *bind_when(struct dbos_binder *binder, const struct dbos_ast *operand,
                                   const struct dbos_ast *when) {
    struct dbos_expr *value = dbos_bind_expr(binder, when);
    if (value == NULL) {
        return NULL;
    }
    if (operand == NULL) {
        return dbos_coerce_bool(binder, value, "CASE/WHEN");
    }
    struct dbos_expr *left = dbos_bind_expr(binder, operand);
    left = left == NULL ? NULL : dbos_coerce_unknown(binder, left);
    return left == NULL ? NULL
                        : dbos_bind_compare(binder, DBOS_COMPARE_EQ, left, value, value->position);
}

/* The results must agree in type; PostgreSQL looks at ELSE first. */
static bool unify_results(struct dbos_binder *binder, struct dbos_expr *expr) {
    uint32_t count = expr->count / 2 + 1;
    struct dbos_expr **results = dbos_bind_take(binder, count * sizeof(struct dbos_expr *));
    if (results == NULL) {
        return false;
    }
    results[0] = expr->args[expr->count - 1];
    for (uint32_t i = 1; i < count; i++) {
        results[i] = expr->args[2 * i - 1];
    }
    enum dbos_type type = dbos_coerce_common(binder, results, count, "CASE");
    if (type == DBOS_TYPE_UNKNOWN) {
        return false;
    }
    expr->args[expr->count - 1] = results[0];
    for (uint32_t i = 1; i < count; i++) {
        expr->args[2 * i - 1] = results[i];
    }
    expr->type = (uint8_t)type;
    return true;
}

static struct dbos_expr *bind_case(struct dbos_binder *binder, const struct dbos_ast *ast) {
    uint32_t skip = ast->has_operand ? 1 : 0;
    const struct dbos_ast *operand = ast->has_operand ? ast->args[0] : NULL;
    struct dbos_expr *expr =
        dbos_expr_new(binder, DBOS_EXPR_CASE, DBOS_TYPE_UNKNOWN, ast->position, ast->count - skip);
    for (uint32_t i = 0; expr != NULL && i < expr->count; i++) {
        const struct dbos_ast *arg = ast->args[i + skip];
        bool is_when = i % 2 == 0 && i + 1 < expr->count;
        expr->args[i] = is_when ? bind_when(binder, operand, arg) : dbos_bind_expr(binder, arg);
        if (expr->args[i] == NULL) {
            return NULL;
        }
    }
    return expr != NULL && unify_results(binder, expr) ? expr : NULL;
}

static struct dbos_expr *bind_variadic(struct dbos_binder *binder, const struct dbos_ast *ast,
                                       enum dbos_expr_kind kind, const char *what) {
    struct dbos_expr *expr =
        dbos_expr_new(binder, kind, DBOS_TYPE_UNKNOWN, ast->position, ast->count);
    for (uint32_t i = 0; i < ast->count && expr != NULL; i++) {
        expr->args[i] = dbos_bind_expr(binder, ast->args[i]);
        if (expr->args[i] == NULL) {
            return NULL;
        }
    }
    if (expr == NULL) {
        return NULL;
    }
    enum dbos_type type = dbos_coerce_common(binder, expr->args, expr->count, what);
    expr->type = (uint8_t)type;
    return type == DBOS_TYPE_UNKNOWN ? NULL : expr;
}

static struct dbos_expr *bind_nullif(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *left = dbos_bind_expr(binder, ast->args[0]);
    struct dbos_expr *right = left == NULL ? NULL : dbos_bind_expr(binder, ast->args[1]);
    struct dbos_expr *equal =
        right == NULL ? NULL
                      : dbos_bind_compare(binder, DBOS_COMPARE_EQ, left, right, ast->position);
    if (equal == NULL) {
        return NULL;
    }
    /* An untyped first argument got its type by the comparison. */
    left = left->type == DBOS_TYPE_UNKNOWN ? equal->args[0] : left;
    struct dbos_expr *expr =
        dbos_expr_new(binder, DBOS_EXPR_NULLIF, (enum dbos_type)left->type, ast->position, 2);
    if (expr != NULL) {
        expr->args[0] = left;
        expr->args[1] = equal;
    }
    return expr;
}

/* -- all ------------------------------------------------------------------------------------------
 */

static struct dbos_expr *bind_operator(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *left = dbos_bind_expr(binder, ast->args[0]);
    if (left == NULL || ast->count == 1) {
        return left == NULL ? NULL
                            : dbos_bind_operator(binder, ast->name, left, NULL, ast->position);
    }
    struct dbos_expr *right = dbos_bind_expr(binder, ast->args[1]);
    return right == NULL ? NULL : dbos_bind_operator(binder, ast->name, left, right, ast->position);
}

static struct dbos_expr *bind_cast(struct dbos_binder *binder, const struct dbos_ast *ast) {
    struct dbos_expr *arg = dbos_bind_expr(binder, ast->args[0]);
    return arg == NULL ? NULL : dbos_coerce_explicit(binder, arg, &ast->type, ast->position);
}

static struct dbos_expr *bind_kind(struct dbos_binder *binder, const struct dbos_ast *ast) {
    switch (ast->kind) {
    case DBOS_AST_NULL:
    case DBOS_AST_INTEGER:
    case DBOS_AST_FLOAT:
    case DBOS_AST_STRING:
    case DBOS_AST_BOOL:
        return bind_constant(binder, ast);
    case DBOS_AST_PARAMETER:
        return bind_parameter(binder, ast);
    case DBOS_AST_COLUMN:
        return bind_column(binder, ast);
    case DBOS_AST_STAR:
        return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, ast->position,
                              "row expansion via \"*\" is not supported here");
    case DBOS_AST_OPERATOR:
        return bind_operator(binder, ast);
    case DBOS_AST_AND:
    case DBOS_AST_OR:
    case DBOS_AST_NOT:
        return bind_logic(binder, ast);
    case DBOS_AST_IS_NULL:
    case DBOS_AST_IS_BOOL:
        return bind_is(binder, ast);
    case DBOS_AST_DISTINCT:
        return bind_distinct(binder, ast);
    case DBOS_AST_IN:
        return bind_in(binder, ast);
    case DBOS_AST_BETWEEN:
        return bind_between(binder, ast);
    case DBOS_AST_CASE:
        return bind_case(binder, ast);
    case DBOS_AST_COALESCE:
        return bind_variadic(binder, ast, DBOS_EXPR_COALESCE, "COALESCE");
    case DBOS_AST_GREATEST:
        return bind_variadic(binder, ast, DBOS_EXPR_GREATEST, "GREATEST");
    case DBOS_AST_LEAST:
        return bind_variadic(binder, ast, DBOS_EXPR_LEAST, "LEAST");
    case DBOS_AST_NULLIF:
        return bind_nullif(binder, ast);
    case DBOS_AST_CALL:
        return dbos_bind_call(binder, ast);
    case DBOS_AST_CAST:
        return bind_cast(binder, ast);
    case DBOS_AST_DEFAULT:
        return dbos_bind_fail(binder, DBOS_ERR_SYNTAX, ast->position,
                              "DEFAULT is not allowed in this context");
    }
    DBOS_CHECK(!"no such node");
    return NULL;
}

struct dbos_expr *dbos_bind_expr(struct dbos_binder *binder, const struct dbos_ast *ast) {
    if (binder->depth >= DBOS_BIND_DEPTH_MAX) {
        return dbos_bind_fail(binder, DBOS_ERR_TOO_COMPLEX, 0, "stack depth limit exceeded");
    }
    binder->depth++;
    struct dbos_expr *expr = bind_kind(binder, ast);
    binder->depth--;
    DBOS_CHECK(expr != NULL || binder->err != DBOS_OK);
    return expr;
}

struct dbos_expr *dbos_bind_condition(struct dbos_binder *binder, const struct dbos_ast *ast,
                                      const char *clause) {
    struct dbos_expr *expr = dbos_bind_expr(binder, ast);
    return expr == NULL ? NULL : dbos_coerce_bool(binder, expr, clause);
}

/* -- names of result columns ----------------------------------------------------------------------
 */

static const char *type_column_name(enum dbos_type type) {
    static const char *const names[] = {"?column?", "bool", "int2",    "int4",  "int8",
                                        "float8",   "text", "varchar", "bytea", "timestamptz"};
    return type < sizeof names / sizeof names[0] ? names[type] : "?column?";
}

/* A name and how good it is: 2 a column or function, 1 a type, 0 none. */
static int name_of(const struct dbos_ast *ast, uint32_t depth, const char **out) {
    if (depth > DBOS_BIND_DEPTH_MAX) {
        return 0;
    }
    int strength;
    switch ((int)ast->kind) {
    case DBOS_AST_COLUMN:
    case DBOS_AST_CALL:
        *out = ast->name;
        return 2;
    case DBOS_AST_COALESCE:
        *out = "coalesce";
        return 2;
    case DBOS_AST_GREATEST:
        *out = "greatest";
        return 2;
    case DBOS_AST_LEAST:
        *out = "least";
        return 2;
    case DBOS_AST_NULLIF:
        *out = "nullif";
        return 2;
    case DBOS_AST_CAST:
        strength = name_of(ast->args[0], depth + 1, out);
        if (strength <= 1) {
            *out = type_column_name(ast->type.type);
            return 1;
        }
        return strength;
    case DBOS_AST_CASE:
        strength = name_of(ast->args[ast->count - 1], depth + 1, out);
        if (strength <= 1) {
            *out = "case";
            return 1;
        }
        return strength;
    default:
        return 0;
    }
}

const char *dbos_bind_column_name(const struct dbos_ast *ast) {
    const char *name = "?column?";
    return name_of(ast, 0, &name) == 0 ? "?column?" : name;
}
