/* SELECT, INSERT, UPDATE, DELETE. */
#include "procs/sql/sql_parse_internal.h"

/* -- FROM -----------------------------------------------------------------------------------------
 */

bool dbos_parse_relation(struct dbos_parser *parser, const PgQuery__RangeVar *node,
                         struct dbos_ast_relation *out) {
    if (node->alias != NULL && node->alias->n_colnames != 0) {
        return dbos_parse_unsupported(parser, node->location, "a list of column aliases") != NULL;
    }
    out->schema = dbos_parse_name(parser, node->schemaname);
    out->name = dbos_parse_name(parser, node->relname);
    out->alias = node->alias == NULL ? NULL : dbos_parse_name(parser, node->alias->aliasname);
    out->position = dbos_parse_position(parser, node->location);
    return parser->err == DBOS_OK;
}

static const PgQuery__FuncCall *only_function(const PgQuery__RangeFunction *node) {
    if (node->n_functions != 1 || node->functions[0]->node_case != PG_QUERY__NODE__NODE_LIST ||
        node->functions[0]->list->n_items == 0 ||
        node->functions[0]->list->items[0]->node_case != PG_QUERY__NODE__NODE_FUNC_CALL) {
        return NULL;
    }
    return node->functions[0]->list->items[0]->func_call;
}

/* generate_series() is the one function that FROM takes. */
static bool convert_range_function(struct dbos_parser *parser, const PgQuery__RangeFunction *node,
                                   struct dbos_ast_relation *out) {
    const PgQuery__FuncCall *call = only_function(node);
    if (call == NULL || node->ordinality || node->n_coldeflist != 0 ||
        strcmp(dbos_parse_string(call->funcname[call->n_funcname - 1]), "generate_series") != 0) {
        return dbos_parse_unsupported(parser, call == NULL ? -1 : call->location,
                                      "a function in FROM other than generate_series()") != NULL;
    }
    out->series = dbos_parse_function(parser, call);
    out->name = "generate_series";
    out->position = dbos_parse_position(parser, call->location);
    if (node->alias != NULL) {
        out->alias = dbos_parse_name(parser, node->alias->aliasname);
        if (node->alias->n_colnames > 0) {
            out->column_alias =
                dbos_parse_name(parser, dbos_parse_string(node->alias->colnames[0]));
        }
    }
    return parser->err == DBOS_OK;
}

/* Where a join begins: the location of its leftmost table. */
static int32_t from_location(const PgQuery__Node *node) {
    for (uint32_t i = 0; i < 1000 && node != NULL; i++) {
        if (node->node_case == PG_QUERY__NODE__NODE_RANGE_VAR) {
            return node->range_var->location;
        }
        if (node->node_case != PG_QUERY__NODE__NODE_JOIN_EXPR) {
            break;
        }
        node = node->join_expr->rarg;
    }
    return -1;
}

static bool convert_from(struct dbos_parser *parser, PgQuery__Node **nodes, size_t count,
                         struct dbos_ast_relation *out) {
    if (count == 0) {
        return true;
    }
    if (count > 1) {
        return dbos_parse_unsupported(parser, from_location(nodes[1]),
                                      "a join (several tables in FROM)") != NULL;
    }
    int kind = (int)nodes[0]->node_case;
    if (kind == PG_QUERY__NODE__NODE_RANGE_VAR) {
        return dbos_parse_relation(parser, nodes[0]->range_var, out);
    }
    if (kind == PG_QUERY__NODE__NODE_RANGE_FUNCTION) {
        return convert_range_function(parser, nodes[0]->range_function, out);
    }
    const char *what = kind == PG_QUERY__NODE__NODE_JOIN_EXPR         ? "JOIN"
                       : kind == PG_QUERY__NODE__NODE_RANGE_SUBSELECT ? "a subquery in FROM"
                                                                      : "this item in FROM";
    return dbos_parse_unsupported(parser, from_location(nodes[0]), what) != NULL;
}

/* -- lists of targets -----------------------------------------------------------------------------
 */

static bool convert_targets(struct dbos_parser *parser, PgQuery__Node **nodes, size_t count,
                            struct dbos_ast_targets *out) {
    out->items = dbos_parse_take(parser, count * sizeof *out->items);
    for (size_t i = 0; i < count && out->items != NULL; i++) {
        const PgQuery__ResTarget *target = nodes[i]->res_target;
        if (target->n_indirection != 0) {
            return dbos_parse_unsupported(parser, target->location,
                                          "a subscript or field of a column") != NULL;
        }
        if (target->val != NULL &&
            target->val->node_case == PG_QUERY__NODE__NODE_MULTI_ASSIGN_REF) {
            return dbos_parse_unsupported(parser, target->location, "SET of a list of columns") !=
                   NULL;
        }
        out->items[i].name = dbos_parse_name(parser, target->name);
        out->items[i].position = dbos_parse_position(parser, target->location);
        if (target->val != NULL) {
            out->items[i].expr = dbos_parse_expr(parser, target->val);
        }
        if (parser->err != DBOS_OK) {
            return false;
        }
        out->count++;
    }
    return parser->err == DBOS_OK;
}

static struct dbos_ast *optional_expr(struct dbos_parser *parser, const PgQuery__Node *node) {
    return node == NULL ? NULL : dbos_parse_expr(parser, node);
}

/* -- SELECT ---------------------------------------------------------------------------------------
 */

static const char *select_refusal(const PgQuery__SelectStmt *node) {
    if (node->with_clause != NULL) {
        return "WITH";
    }
    if (node->op != PG_QUERY__SET_OPERATION__SETOP_NONE) {
        return "UNION, INTERSECT or EXCEPT";
    }
    if (node->into_clause != NULL) {
        return "SELECT INTO";
    }
    if (node->n_values_lists != 0) {
        return "VALUES as a query";
    }
    if (node->n_target_list == 0) {
        return "SELECT without columns"; /* its rows would have no description on the wire */
    }
    if (node->n_window_clause != 0) {
        return "WINDOW";
    }
    if (node->n_locking_clause != 0) {
        return "FOR UPDATE or FOR SHARE";
    }
    if (node->limit_option == PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_WITH_TIES) {
        return "WITH TIES";
    }
    if (node->n_distinct_clause != 0 &&
        node->distinct_clause[0]->node_case != PG_QUERY__NODE__NODE__NOT_SET) {
        return "DISTINCT ON";
    }
    return NULL;
}

static bool convert_sort(struct dbos_parser *parser, const PgQuery__SelectStmt *node,
                         struct dbos_ast_select *out) {
    out->sort = dbos_parse_take(parser, node->n_sort_clause * sizeof *out->sort);
    for (size_t i = 0; i < node->n_sort_clause && out->sort != NULL; i++) {
        const PgQuery__SortBy *by = node->sort_clause[i]->sort_by;
        struct dbos_ast_sort *sort = &out->sort[i];
        if (by->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_USING) {
            return dbos_parse_unsupported(parser, by->location, "ORDER BY … USING") != NULL;
        }
        sort->expr = dbos_parse_expr(parser, by->node);
        sort->descending = by->sortby_dir == PG_QUERY__SORT_BY_DIR__SORTBY_DESC;
        sort->nulls_first =
            by->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST ||
            (by->sortby_nulls == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_DEFAULT && sort->descending);
        if (sort->expr == NULL) {
            return false;
        }
        out->sort_count++;
    }
    return parser->err == DBOS_OK;
}

static bool convert_group(struct dbos_parser *parser, const PgQuery__SelectStmt *node,
                          struct dbos_ast_select *out) {
    for (size_t i = 0; i < node->n_group_clause; i++) {
        if (node->group_clause[i]->node_case == PG_QUERY__NODE__NODE_GROUPING_SET) {
            return dbos_parse_unsupported(parser, node->group_clause[i]->grouping_set->location,
                                          "GROUPING SETS, CUBE or ROLLUP") != NULL;
        }
    }
    out->group = dbos_parse_list(parser, node->group_clause, node->n_group_clause);
    out->group_count = (uint32_t)node->n_group_clause;
    return out->group != NULL;
}

bool dbos_parse_select(struct dbos_parser *parser, const PgQuery__SelectStmt *node,
                       struct dbos_ast_select *out) {
    const char *refusal = select_refusal(node);
    if (refusal != NULL) {
        int32_t location = node->with_clause != NULL ? node->with_clause->location : -1;
        return dbos_parse_unsupported(parser, location, refusal) != NULL;
    }
    out->distinct = node->n_distinct_clause != 0;
    if (!convert_from(parser, node->from_clause, node->n_from_clause, &out->from) ||
        !convert_targets(parser, node->target_list, node->n_target_list, &out->targets)) {
        return false;
    }
    out->where = optional_expr(parser, node->where_clause);
    out->having = parser->err == DBOS_OK ? optional_expr(parser, node->having_clause) : NULL;
    out->limit = parser->err == DBOS_OK ? optional_expr(parser, node->limit_count) : NULL;
    out->offset = parser->err == DBOS_OK ? optional_expr(parser, node->limit_offset) : NULL;
    return parser->err == DBOS_OK && convert_group(parser, node, out) &&
           convert_sort(parser, node, out);
}

/* -- INSERT, UPDATE, DELETE -----------------------------------------------------------------------
 */

static bool convert_values(struct dbos_parser *parser, const PgQuery__SelectStmt *node,
                           struct dbos_ast_insert *out) {
    if (node->n_sort_clause != 0 || node->limit_count != NULL || node->limit_offset != NULL ||
        node->with_clause != NULL) {
        return dbos_parse_unsupported(parser, -1, "VALUES with ORDER BY, LIMIT or WITH") != NULL;
    }
    out->rows = dbos_parse_take(parser, node->n_values_lists * sizeof *out->rows);
    for (size_t i = 0; i < node->n_values_lists && out->rows != NULL; i++) {
        const PgQuery__List *list = node->values_lists[i]->list;
        out->rows[i].values = dbos_parse_list(parser, list->items, list->n_items);
        out->rows[i].count = (uint32_t)list->n_items;
        if (out->rows[i].values == NULL) {
            return false;
        }
    }
    out->row_count = (uint32_t)node->n_values_lists;
    return parser->err == DBOS_OK;
}

static bool convert_source(struct dbos_parser *parser, const PgQuery__Node *node,
                           struct dbos_ast_insert *out) {
    if (node == NULL) {
        out->default_values = true;
        return true;
    }
    DBOS_CHECK(node->node_case == PG_QUERY__NODE__NODE_SELECT_STMT);
    if (node->select_stmt->n_values_lists != 0) {
        return convert_values(parser, node->select_stmt, out);
    }
    out->select = dbos_parse_take(parser, sizeof *out->select);
    return out->select != NULL && dbos_parse_select(parser, node->select_stmt, out->select);
}

bool dbos_parse_insert(struct dbos_parser *parser, const PgQuery__InsertStmt *node,
                       struct dbos_ast_insert *out) {
    if (node->on_conflict_clause != NULL) {
        return dbos_parse_unsupported(parser, node->on_conflict_clause->location, "ON CONFLICT") !=
               NULL;
    }
    if (node->with_clause != NULL) {
        return dbos_parse_unsupported(parser, node->with_clause->location, "WITH") != NULL;
    }
    if (node->override > PG_QUERY__OVERRIDING_KIND__OVERRIDING_NOT_SET) {
        return dbos_parse_unsupported(parser, -1, "OVERRIDING") != NULL;
    }
    struct dbos_ast_targets columns = {0};
    if (!dbos_parse_relation(parser, node->relation, &out->table) ||
        !convert_targets(parser, node->cols, node->n_cols, &columns)) {
        return false;
    }
    out->columns = columns.items;
    out->column_count = columns.count;
    return convert_source(parser, node->select_stmt, out) &&
           convert_targets(parser, node->returning_list, node->n_returning_list, &out->returning);
}

bool dbos_parse_update(struct dbos_parser *parser, const PgQuery__UpdateStmt *node,
                       struct dbos_ast_update *out) {
    if (node->with_clause != NULL || node->n_from_clause != 0) {
        return dbos_parse_unsupported(parser,
                                      node->with_clause != NULL
                                          ? node->with_clause->location
                                          : from_location(node->from_clause[0]),
                                      node->with_clause != NULL ? "WITH" : "UPDATE … FROM") != NULL;
    }
    if (!dbos_parse_relation(parser, node->relation, &out->table) ||
        !convert_targets(parser, node->target_list, node->n_target_list, &out->set)) {
        return false;
    }
    out->where = optional_expr(parser, node->where_clause);
    return parser->err == DBOS_OK &&
           convert_targets(parser, node->returning_list, node->n_returning_list, &out->returning);
}

bool dbos_parse_delete(struct dbos_parser *parser, const PgQuery__DeleteStmt *node,
                       struct dbos_ast_delete *out) {
    if (node->with_clause != NULL || node->n_using_clause != 0) {
        return dbos_parse_unsupported(
                   parser,
                   node->with_clause != NULL ? node->with_clause->location
                                             : from_location(node->using_clause[0]),
                   node->with_clause != NULL ? "WITH" : "DELETE … USING") != NULL;
    }
    if (!dbos_parse_relation(parser, node->relation, &out->table)) {
        return false;
    }
    out->where = optional_expr(parser, node->where_clause);
    return parser->err == DBOS_OK &&
           convert_targets(parser, node->returning_list, node->n_returning_list, &out->returning);
}
