/* Expressions. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "procs/sql/sql_parse_internal.h"

static struct dbos_ast *new_node(struct dbos_parser *parser, enum dbos_ast_kind kind,
                                 int32_t location, size_t count) {
    struct dbos_ast *node = dbos_parse_take(parser, sizeof *node);
    if (node == NULL) {
        return NULL;
    }
    node->kind = kind;
    node->position = dbos_parse_position(parser, location);
    node->count = (uint32_t)count;
    if (count != 0) {
        node->args = dbos_parse_take(parser, count * sizeof(struct dbos_ast *));
    }
    return count != 0 && node->args == NULL ? NULL : node;
}

static bool fill_args(struct dbos_parser *parser, struct dbos_ast *node, uint32_t from,
                      PgQuery__Node **nodes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        node->args[from + i] = dbos_parse_expr(parser, nodes[i]);
        if (node->args[from + i] == NULL) {
            return false;
        }
    }
    return true;
}

struct dbos_ast **dbos_parse_list(struct dbos_parser *parser, PgQuery__Node **nodes, size_t count) {
    struct dbos_ast **list = dbos_parse_take(parser, count * sizeof(struct dbos_ast *));
    for (size_t i = 0; i < count && list != NULL; i++) {
        list[i] = dbos_parse_expr(parser, nodes[i]);
        if (list[i] == NULL) {
            return NULL;
        }
    }
    return list;
}

/* A node with these arguments in order. */
static struct dbos_ast *node_of(struct dbos_parser *parser, enum dbos_ast_kind kind,
                                int32_t location, PgQuery__Node **nodes, size_t count) {
    struct dbos_ast *node = new_node(parser, kind, location, count);
    return node != NULL && fill_args(parser, node, 0, nodes, count) ? node : NULL;
}

/* -- leaves ---------------------------------------------------------------------------------------
 */

/* Digits without a point that fit a bigint are integers; the scanner says Float from 2^31 on. */
static bool float_is_integer(const char *digits, int64_t *out) {
    char *end;
    if (strspn(digits, "0123456789-") != strlen(digits)) {
        return false;
    }
    errno = 0;
    *out = strtoll(digits, &end, 10);
    return errno == 0 && *end == '\0';
}

static struct dbos_ast *convert_constant(struct dbos_parser *parser, const PgQuery__AConst *value) {
    struct dbos_ast *node = new_node(parser, DBOS_AST_NULL, value->location, 0);
    if (node == NULL || value->isnull) {
        return node;
    }
    switch (value->val_case) {
    case PG_QUERY__A__CONST__VAL_IVAL:
        node->kind = DBOS_AST_INTEGER;
        node->integer = value->ival->ival;
        return node;
    case PG_QUERY__A__CONST__VAL_FVAL:
        node->kind =
            float_is_integer(value->fval->fval, &node->integer) ? DBOS_AST_INTEGER : DBOS_AST_FLOAT;
        node->name = dbos_parse_copy(parser, value->fval->fval);
        return node->name == NULL ? NULL : node;
    case PG_QUERY__A__CONST__VAL_BOOLVAL:
        node->kind = DBOS_AST_BOOL;
        node->integer = value->boolval->boolval ? 1 : 0;
        return node;
    case PG_QUERY__A__CONST__VAL_SVAL:
        node->kind = DBOS_AST_STRING;
        node->name = dbos_parse_copy(parser, value->sval->sval);
        return node->name == NULL ? NULL : node;
    case PG_QUERY__A__CONST__VAL_BSVAL:
    case PG_QUERY__A__CONST__VAL__NOT_SET:
    case _PG_QUERY__A__CONST__VAL__CASE_IS_INT_SIZE:
        break;
    }
    return dbos_parse_unsupported(parser, value->location, "type bit");
}

static struct dbos_ast *convert_column(struct dbos_parser *parser,
                                       const PgQuery__ColumnRef *column) {
    size_t count = column->n_fields;
    const PgQuery__Node *last = column->fields[count - 1];
    bool star = last->node_case == PG_QUERY__NODE__NODE_A_STAR;
    if (count > 3) {
        return dbos_parse_unsupported(parser, column->location, "a name of so many parts");
    }
    struct dbos_ast *node =
        new_node(parser, star ? DBOS_AST_STAR : DBOS_AST_COLUMN, column->location, 0);
    if (node == NULL) {
        return NULL;
    }
    if (!star) {
        node->name = dbos_parse_copy(parser, dbos_parse_string(last));
    }
    if (count > 1) {
        node->qualifier = dbos_parse_copy(parser, dbos_parse_string(column->fields[count - 2]));
    }
    return parser->err == DBOS_OK ? node : NULL;
}

static struct dbos_ast *convert_parameter(struct dbos_parser *parser,
                                          const PgQuery__ParamRef *parameter) {
    struct dbos_ast *node = new_node(parser, DBOS_AST_PARAMETER, parameter->location, 0);
    if (node != NULL && (parameter->number < 1 || parameter->number > UINT16_MAX)) {
        return dbos_parse_fail(parser, DBOS_ERR_UNDEFINED_PARAMETER, parameter->location,
                               "there is no parameter $%d", parameter->number);
    }
    if (node != NULL) {
        node->integer = parameter->number;
    }
    return node;
}

/* -- operators ------------------------------------------------------------------------------------
 */

static struct dbos_ast *convert_operator(struct dbos_parser *parser, const PgQuery__AExpr *expr) {
    bool prefix = expr->lexpr == NULL;
    struct dbos_ast *node = new_node(parser, DBOS_AST_OPERATOR, expr->location, prefix ? 1 : 2);
    if (node == NULL) {
        return NULL;
    }
    PgQuery__Node *args[2] = {prefix ? expr->rexpr : expr->lexpr, expr->rexpr};
    if (args[0] == NULL || args[1] == NULL) {
        return dbos_parse_unsupported(parser, expr->location, "a postfix operator");
    }
    node->name = dbos_parse_copy(parser, dbos_parse_string(expr->name[expr->n_name - 1]));
    return node->name != NULL && fill_args(parser, node, 0, args, node->count) ? node : NULL;
}

static struct dbos_ast *convert_in(struct dbos_parser *parser, const PgQuery__AExpr *expr) {
    if (expr->rexpr->node_case != PG_QUERY__NODE__NODE_LIST) {
        return dbos_parse_unsupported(parser, expr->location, "IN without a list");
    }
    const PgQuery__List *list = expr->rexpr->list;
    struct dbos_ast *node = new_node(parser, DBOS_AST_IN, expr->location, 1 + list->n_items);
    if (node == NULL) {
        return NULL;
    }
    PgQuery__Node *left = expr->lexpr;
    node->negated = strcmp(dbos_parse_string(expr->name[0]), "<>") == 0;
    return fill_args(parser, node, 0, &left, 1) &&
                   fill_args(parser, node, 1, list->items, list->n_items)
               ? node
               : NULL;
}

static struct dbos_ast *convert_between(struct dbos_parser *parser, const PgQuery__AExpr *expr,
                                        bool negated, bool symmetric) {
    struct dbos_ast *node = new_node(parser, DBOS_AST_BETWEEN, expr->location, 3);
    if (node == NULL) {
        return NULL;
    }
    DBOS_CHECK(expr->rexpr->node_case == PG_QUERY__NODE__NODE_LIST);
    DBOS_CHECK(expr->rexpr->list->n_items == 2);
    node->negated = negated;
    node->integer = symmetric ? 1 : 0;
    PgQuery__Node *left = expr->lexpr;
    return fill_args(parser, node, 0, &left, 1) &&
                   fill_args(parser, node, 1, expr->rexpr->list->items, 2)
               ? node
               : NULL;
}

/* LIKE … ESCAPE arrives as a call of like_escape() around the pattern. */
static bool has_escape(const PgQuery__Node *pattern) {
    return pattern->node_case == PG_QUERY__NODE__NODE_FUNC_CALL &&
           strcmp(
               dbos_parse_string(pattern->func_call->funcname[pattern->func_call->n_funcname - 1]),
               "like_escape") == 0;
}

static struct dbos_ast *convert_a_expr(struct dbos_parser *parser, const PgQuery__AExpr *expr) {
    PgQuery__Node *both[2] = {expr->lexpr, expr->rexpr};
    struct dbos_ast *node;
    switch (expr->kind) {
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP:
        return convert_operator(parser, expr);
    case PG_QUERY__A__EXPR__KIND__AEXPR_LIKE:
    case PG_QUERY__A__EXPR__KIND__AEXPR_ILIKE:
        if (has_escape(expr->rexpr)) {
            return dbos_parse_unsupported(parser, expr->location, "LIKE … ESCAPE");
        }
        return convert_operator(parser, expr);
    case PG_QUERY__A__EXPR__KIND__AEXPR_DISTINCT:
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT:
        node = node_of(parser, DBOS_AST_DISTINCT, expr->location, both, 2);
        if (node != NULL) {
            node->negated = expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NOT_DISTINCT;
        }
        return node;
    case PG_QUERY__A__EXPR__KIND__AEXPR_NULLIF:
        return node_of(parser, DBOS_AST_NULLIF, expr->location, both, 2);
    case PG_QUERY__A__EXPR__KIND__AEXPR_IN:
        return convert_in(parser, expr);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN:
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN:
        return convert_between(parser, expr,
                               expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN, false);
    case PG_QUERY__A__EXPR__KIND__AEXPR_BETWEEN_SYM:
    case PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM:
        return convert_between(parser, expr,
                               expr->kind == PG_QUERY__A__EXPR__KIND__AEXPR_NOT_BETWEEN_SYM, true);
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ANY:
    case PG_QUERY__A__EXPR__KIND__AEXPR_OP_ALL:
        return dbos_parse_unsupported(parser, expr->location, "ANY or ALL over an array");
    case PG_QUERY__A__EXPR__KIND__AEXPR_SIMILAR:
        return dbos_parse_unsupported(parser, expr->location, "SIMILAR TO");
    case PG_QUERY__A__EXPR__KIND__A_EXPR_KIND_UNDEFINED:
    case _PG_QUERY__A__EXPR__KIND_IS_INT_SIZE:
        break;
    }
    return dbos_parse_unsupported(parser, expr->location, "this expression");
}

static struct dbos_ast *convert_bool(struct dbos_parser *parser, const PgQuery__BoolExpr *expr) {
    enum dbos_ast_kind kind = expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__AND_EXPR  ? DBOS_AST_AND
                              : expr->boolop == PG_QUERY__BOOL_EXPR_TYPE__OR_EXPR ? DBOS_AST_OR
                                                                                  : DBOS_AST_NOT;
    return node_of(parser, kind, expr->location, expr->args, expr->n_args);
}

static struct dbos_ast *convert_null_test(struct dbos_parser *parser,
                                          const PgQuery__NullTest *test) {
    PgQuery__Node *arg = test->arg;
    struct dbos_ast *node = node_of(parser, DBOS_AST_IS_NULL, test->location, &arg, 1);
    if (node != NULL) {
        node->negated = test->nulltesttype == PG_QUERY__NULL_TEST_TYPE__IS_NOT_NULL;
    }
    return node;
}

static struct dbos_ast *convert_bool_test(struct dbos_parser *parser,
                                          const PgQuery__BooleanTest *test) {
    PgQuery__Node *arg = test->arg;
    struct dbos_ast *node = node_of(parser, DBOS_AST_IS_BOOL, test->location, &arg, 1);
    if (node == NULL) {
        return NULL;
    }
    int kind = (int)test->booltesttype;
    node->negated = kind == PG_QUERY__BOOL_TEST_TYPE__IS_NOT_TRUE ||
                    kind == PG_QUERY__BOOL_TEST_TYPE__IS_NOT_FALSE ||
                    kind == PG_QUERY__BOOL_TEST_TYPE__IS_NOT_UNKNOWN;
    if (kind == PG_QUERY__BOOL_TEST_TYPE__IS_TRUE ||
        kind == PG_QUERY__BOOL_TEST_TYPE__IS_NOT_TRUE) {
        node->integer = 1;
    } else if (kind == PG_QUERY__BOOL_TEST_TYPE__IS_UNKNOWN ||
               kind == PG_QUERY__BOOL_TEST_TYPE__IS_NOT_UNKNOWN) {
        node->integer = -1;
    }
    return node;
}

/* -- CASE, calls, casts ---------------------------------------------------------------------------
 */

static struct dbos_ast *convert_case(struct dbos_parser *parser, const PgQuery__CaseExpr *expr) {
    bool has_operand = expr->arg != NULL;
    size_t count = (has_operand ? 1 : 0) + 2 * expr->n_args + 1;
    struct dbos_ast *node = new_node(parser, DBOS_AST_CASE, expr->location, count);
    if (node == NULL) {
        return NULL;
    }
    node->has_operand = has_operand;
    uint32_t at = 0;
    PgQuery__Node *operand = expr->arg;
    if (has_operand && !fill_args(parser, node, at++, &operand, 1)) {
        return NULL;
    }
    for (size_t i = 0; i < expr->n_args; i++, at += 2) {
        const PgQuery__CaseWhen *when = expr->args[i]->case_when;
        PgQuery__Node *pair[2] = {when->expr, when->result};
        if (!fill_args(parser, node, at, pair, 2)) {
            return NULL;
        }
    }
    if (expr->defresult == NULL) {
        node->args[at] = new_node(parser, DBOS_AST_NULL, -1, 0);
        return node->args[at] == NULL ? NULL : node;
    }
    PgQuery__Node *otherwise = expr->defresult;
    return fill_args(parser, node, at, &otherwise, 1) ? node : NULL;
}

static const char *call_refusal(const PgQuery__FuncCall *call) {
    if (call->over != NULL) {
        return "a window function";
    }
    if (call->agg_filter != NULL) {
        return "FILTER";
    }
    if (call->agg_within_group) {
        return "WITHIN GROUP";
    }
    if (call->n_agg_order != 0) {
        return "ORDER BY in an aggregate";
    }
    if (call->func_variadic) {
        return "VARIADIC";
    }
    return call->n_funcname > 2 ? "a name of so many parts" : NULL;
}

/* pg_catalog and public need not be said; any other schema stays in the name. */
static const char *function_name(struct dbos_parser *parser, const PgQuery__FuncCall *call) {
    const char *name = dbos_parse_string(call->funcname[call->n_funcname - 1]);
    const char *schema = call->n_funcname == 2 ? dbos_parse_string(call->funcname[0]) : "public";
    if (strcmp(schema, "public") == 0 || strcmp(schema, "pg_catalog") == 0) {
        return dbos_parse_copy(parser, name);
    }
    size_t size_bytes = strlen(schema) + strlen(name) + 2;
    char *both = dbos_parse_take(parser, size_bytes);
    if (both != NULL) {
        (void)snprintf(both, size_bytes, "%s.%s", schema, name);
    }
    return both;
}

struct dbos_ast *dbos_parse_function(struct dbos_parser *parser, const PgQuery__FuncCall *call) {
    const char *refusal = call_refusal(call);
    if (refusal != NULL) {
        return dbos_parse_unsupported(parser, call->location, refusal);
    }
    struct dbos_ast *node =
        node_of(parser, DBOS_AST_CALL, call->location, call->args, call->n_args);
    if (node == NULL) {
        return NULL;
    }
    node->star = call->agg_star;
    node->distinct = call->agg_distinct;
    node->name = function_name(parser, call);
    return node->name == NULL ? NULL : node;
}

static struct dbos_ast *convert_value_function(struct dbos_parser *parser,
                                               const PgQuery__SQLValueFunction *function) {
    static const struct {
        int op;
        const char *name;
    } names[] = {
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_TIMESTAMP, "current_timestamp"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_ROLE, "current_role"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_USER, "current_user"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_USER, "user"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_SESSION_USER, "session_user"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_CATALOG, "current_catalog"},
        {PG_QUERY__SQLVALUE_FUNCTION_OP__SVFOP_CURRENT_SCHEMA, "current_schema"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].op == (int)function->op) {
            struct dbos_ast *node = new_node(parser, DBOS_AST_CALL, function->location, 0);
            if (node != NULL) {
                node->name = names[i].name;
            }
            return node;
        }
    }
    return dbos_parse_unsupported(parser, function->location,
                                  "CURRENT_DATE, CURRENT_TIME, LOCALTIME or LOCALTIMESTAMP");
}

static struct dbos_ast *convert_cast(struct dbos_parser *parser, const PgQuery__TypeCast *cast) {
    PgQuery__Node *arg = cast->arg;
    struct dbos_ast *node = node_of(parser, DBOS_AST_CAST, cast->location, &arg, 1);
    if (node == NULL || !dbos_parse_type(parser, cast->type_name, false, &node->type)) {
        return NULL;
    }
    return node;
}

static struct dbos_ast *convert_named(struct dbos_parser *parser, const PgQuery__Node *node) {
    int kind = (int)node->node_case;
    if (kind == PG_QUERY__NODE__NODE_COALESCE_EXPR) {
        return node_of(parser, DBOS_AST_COALESCE, node->coalesce_expr->location,
                       node->coalesce_expr->args, node->coalesce_expr->n_args);
    }
    if (kind == PG_QUERY__NODE__NODE_MIN_MAX_EXPR) {
        const PgQuery__MinMaxExpr *expr = node->min_max_expr;
        return node_of(parser,
                       expr->op == PG_QUERY__MIN_MAX_OP__IS_GREATEST ? DBOS_AST_GREATEST
                                                                     : DBOS_AST_LEAST,
                       expr->location, expr->args, expr->n_args);
    }
    if (kind == PG_QUERY__NODE__NODE_SUB_LINK) {
        return dbos_parse_unsupported(parser, node->sub_link->location, "a subquery");
    }
    if (kind == PG_QUERY__NODE__NODE_A_ARRAY_EXPR) {
        return dbos_parse_unsupported(parser, node->a_array_expr->location, "an array");
    }
    if (kind == PG_QUERY__NODE__NODE_ROW_EXPR) {
        return dbos_parse_unsupported(parser, node->row_expr->location, "a row expression");
    }
    if (kind == PG_QUERY__NODE__NODE_COLLATE_CLAUSE) {
        return dbos_parse_unsupported(parser, node->collate_clause->location, "COLLATE");
    }
    if (kind == PG_QUERY__NODE__NODE_NAMED_ARG_EXPR) {
        return dbos_parse_unsupported(parser, node->named_arg_expr->location, "a named argument");
    }
    if (kind == PG_QUERY__NODE__NODE_A_INDIRECTION) {
        return dbos_parse_unsupported(parser, -1, "a subscript or field selection");
    }
    if (kind == PG_QUERY__NODE__NODE_GROUPING_FUNC) {
        return dbos_parse_unsupported(parser, node->grouping_func->location, "GROUPING");
    }
    return dbos_parse_unsupported(parser, -1, "this expression");
}

static struct dbos_ast *convert_expr(struct dbos_parser *parser, const PgQuery__Node *node) {
    int kind = (int)node->node_case;
    switch (kind) {
    case PG_QUERY__NODE__NODE_A_CONST:
        return convert_constant(parser, node->a_const);
    case PG_QUERY__NODE__NODE_COLUMN_REF:
        return convert_column(parser, node->column_ref);
    case PG_QUERY__NODE__NODE_PARAM_REF:
        return convert_parameter(parser, node->param_ref);
    case PG_QUERY__NODE__NODE_A_EXPR:
        return convert_a_expr(parser, node->a_expr);
    case PG_QUERY__NODE__NODE_BOOL_EXPR:
        return convert_bool(parser, node->bool_expr);
    case PG_QUERY__NODE__NODE_NULL_TEST:
        return convert_null_test(parser, node->null_test);
    case PG_QUERY__NODE__NODE_BOOLEAN_TEST:
        return convert_bool_test(parser, node->boolean_test);
    case PG_QUERY__NODE__NODE_CASE_EXPR:
        return convert_case(parser, node->case_expr);
    case PG_QUERY__NODE__NODE_FUNC_CALL:
        return dbos_parse_function(parser, node->func_call);
    case PG_QUERY__NODE__NODE_SQLVALUE_FUNCTION:
        return convert_value_function(parser, node->sqlvalue_function);
    case PG_QUERY__NODE__NODE_TYPE_CAST:
        return convert_cast(parser, node->type_cast);
    case PG_QUERY__NODE__NODE_SET_TO_DEFAULT:
        return new_node(parser, DBOS_AST_DEFAULT, node->set_to_default->location, 0);
    default:
        return convert_named(parser, node);
    }
}

struct dbos_ast *dbos_parse_expr(struct dbos_parser *parser, const PgQuery__Node *node) {
    if (parser->depth >= DBOS_PARSE_DEPTH_MAX) {
        return dbos_parse_fail(parser, DBOS_ERR_TOO_COMPLEX, -1, "stack depth limit exceeded");
    }
    parser->depth++;
    struct dbos_ast *expr = convert_expr(parser, node);
    parser->depth--;
    DBOS_CHECK(expr != NULL || parser->err != DBOS_OK);
    return expr;
}
