/* CREATE and DROP. */
#include <pg_query.h>
#include <stdio.h>

#include "procs/sql/sql_parse_internal.h"

static bool refuse(struct dbos_parser *parser, int32_t location, const char *what) {
    return dbos_parse_unsupported(parser, location, what) != NULL;
}

/* -- CREATE TABLE ---------------------------------------------------------------------------------
 */

/* The tree does not say where an expression ends: its text is written anew, as "SELECT <it>". */
static const char *deparse(struct dbos_parser *parser, PgQuery__Node *expr, int32_t location) {
    PgQuery__ResTarget target = PG_QUERY__RES_TARGET__INIT;
    PgQuery__Node target_node = PG_QUERY__NODE__INIT;
    PgQuery__SelectStmt select = PG_QUERY__SELECT_STMT__INIT;
    PgQuery__Node select_node = PG_QUERY__NODE__INIT;
    PgQuery__RawStmt raw = PG_QUERY__RAW_STMT__INIT;
    PgQuery__ParseResult tree = PG_QUERY__PARSE_RESULT__INIT;
    PgQuery__Node *targets[] = {&target_node};
    PgQuery__RawStmt *statements[] = {&raw};
    target.val = expr;
    target_node.node_case = PG_QUERY__NODE__NODE_RES_TARGET;
    target_node.res_target = &target;
    select.n_target_list = 1;
    select.target_list = targets;
    select.limit_option = PG_QUERY__LIMIT_OPTION__LIMIT_OPTION_DEFAULT;
    select.op = PG_QUERY__SET_OPERATION__SETOP_NONE;
    select_node.node_case = PG_QUERY__NODE__NODE_SELECT_STMT;
    select_node.select_stmt = &select;
    raw.stmt = &select_node;
    tree.version = PG_VERSION_NUM;
    tree.n_stmts = 1;
    tree.stmts = statements;
    size_t size_bytes = pg_query__parse_result__get_packed_size(&tree);
    uint8_t *packed = dbos_parse_take(parser, size_bytes);
    if (packed == NULL) {
        return NULL;
    }
    (void)pg_query__parse_result__pack(&tree, packed);
    PgQueryDeparseResult result =
        pg_query_deparse_protobuf((PgQueryProtobuf){.len = size_bytes, .data = (char *)packed});
    const char *text = NULL;
    if (result.error == NULL && strncmp(result.query, "SELECT ", 7) == 0) {
        text = dbos_parse_copy(parser, result.query + 7);
    } else {
        (void)refuse(parser, location, "this DEFAULT expression");
    }
    pg_query_free_deparse_result(result);
    return text;
}

static bool add_key(struct dbos_parser *parser, struct dbos_ast_create_table *out,
                    const PgQuery__Constraint *node, const char *column) {
    struct dbos_ast_key *key = &out->keys[out->key_count];
    size_t count = column != NULL ? 1 : node->n_keys;
    if (node->deferrable || node->initdeferred || node->nulls_not_distinct ||
        node->n_including != 0 || node->n_options != 0 || node->where_clause != NULL ||
        count > DBOS_INDEX_COLUMNS_MAX) {
        return refuse(parser, node->location, "such a PRIMARY KEY or UNIQUE constraint");
    }
    key->name = dbos_parse_name(parser, node->conname);
    key->primary = node->contype == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY;
    key->position = dbos_parse_position(parser, node->location);
    key->column_count = (uint32_t)count;
    key->columns = dbos_parse_take(parser, count * sizeof *key->columns);
    for (size_t i = 0; i < count && key->columns != NULL; i++) {
        key->columns[i].position = key->position;
        key->columns[i].name =
            column != NULL ? column : dbos_parse_copy(parser, dbos_parse_string(node->keys[i]));
    }
    out->key_count++;
    return parser->err == DBOS_OK;
}

static bool refuse_constraint(struct dbos_parser *parser, const PgQuery__Constraint *node) {
    static const struct {
        int type;
        const char *name;
    } names[] = {
        {PG_QUERY__CONSTR_TYPE__CONSTR_CHECK, "a CHECK constraint"},
        {PG_QUERY__CONSTR_TYPE__CONSTR_FOREIGN, "a FOREIGN KEY constraint"},
        {PG_QUERY__CONSTR_TYPE__CONSTR_IDENTITY, "an identity column"},
        {PG_QUERY__CONSTR_TYPE__CONSTR_GENERATED, "a generated column"},
        {PG_QUERY__CONSTR_TYPE__CONSTR_EXCLUSION, "an EXCLUDE constraint"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (names[i].type == (int)node->contype) {
            return refuse(parser, node->location, names[i].name);
        }
    }
    return refuse(parser, node->location, "a deferrable constraint");
}

static bool column_constraint(struct dbos_parser *parser, struct dbos_ast_create_table *out,
                              struct dbos_ast_column *column, const PgQuery__Constraint *node) {
    int type = (int)node->contype;
    if (type == PG_QUERY__CONSTR_TYPE__CONSTR_NULL) {
        return true;
    }
    if (type == PG_QUERY__CONSTR_TYPE__CONSTR_NOTNULL) {
        column->not_null = true;
        return true;
    }
    if (type == PG_QUERY__CONSTR_TYPE__CONSTR_DEFAULT) {
        column->default_value = dbos_parse_expr(parser, node->raw_expr);
        column->default_sql =
            column->default_value == NULL ? NULL : deparse(parser, node->raw_expr, node->location);
        return column->default_sql != NULL;
    }
    if (type == PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY ||
        type == PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE) {
        return add_key(parser, out, node, column->name);
    }
    return refuse_constraint(parser, node);
}

static bool convert_column(struct dbos_parser *parser, struct dbos_ast_create_table *out,
                           const PgQuery__ColumnDef *node) {
    struct dbos_ast_column *column = &out->columns[out->column_count];
    column->name = dbos_parse_copy(parser, node->colname);
    column->position = dbos_parse_position(parser, node->location);
    if (column->name == NULL) {
        return false;
    }
    if (node->coll_clause != NULL) {
        return refuse(parser, node->coll_clause->location, "COLLATE");
    }
    if (node->type_name == NULL ||
        !dbos_parse_type(parser, node->type_name, false, &column->type)) {
        return node->type_name == NULL && refuse(parser, node->location, "a column without a type");
    }
    out->column_count++;
    for (size_t i = 0; i < node->n_constraints; i++) {
        if (!column_constraint(parser, out, column, node->constraints[i]->constraint)) {
            return false;
        }
    }
    return true;
}

static bool convert_element(struct dbos_parser *parser, struct dbos_ast_create_table *out,
                            const PgQuery__Node *node) {
    if (node->node_case == PG_QUERY__NODE__NODE_COLUMN_DEF) {
        return convert_column(parser, out, node->column_def);
    }
    if (node->node_case != PG_QUERY__NODE__NODE_CONSTRAINT) {
        return refuse(parser, -1, "LIKE in CREATE TABLE");
    }
    const PgQuery__Constraint *constraint = node->constraint;
    if (constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_PRIMARY &&
        constraint->contype != PG_QUERY__CONSTR_TYPE__CONSTR_UNIQUE) {
        return refuse_constraint(parser, constraint);
    }
    return add_key(parser, out, constraint, NULL);
}

static bool convert_partitioning(struct dbos_parser *parser, const PgQuery__PartitionSpec *node,
                                 struct dbos_ast_create_table *out) {
    if (node == NULL) {
        return true;
    }
    const PgQuery__PartitionElem *elem =
        node->n_part_params == 0 ? NULL : node->part_params[0]->partition_elem;
    if (strcmp(node->strategy, "hash") != 0) {
        return refuse(parser, node->location, "PARTITION BY other than HASH");
    }
    if (node->n_part_params != 1 || elem == NULL || elem->expr != NULL || elem->n_opclass != 0 ||
        elem->n_collation != 0) {
        return refuse(parser, node->location, "PARTITION BY HASH of other than one column");
    }
    out->partition_column = dbos_parse_copy(parser, elem->name);
    out->partition_position = dbos_parse_position(parser, elem->location);
    return out->partition_column != NULL;
}

static const char *create_refusal(const PgQuery__CreateStmt *node) {
    if (node->n_inh_relations != 0 && node->partbound == NULL) {
        return "INHERITS";
    }
    if (node->partbound != NULL) {
        return "PARTITION OF";
    }
    if (node->of_typename != NULL) {
        return "CREATE TABLE … OF";
    }
    if (node->n_options != 0) {
        return "WITH (…) in CREATE TABLE";
    }
    if (strcmp(node->relation->relpersistence, "t") == 0) {
        return "a temporary table";
    }
    if (strcmp(node->relation->relpersistence, "u") == 0) {
        return "an unlogged table";
    }
    if (node->tablespacename[0] != '\0') {
        return "TABLESPACE";
    }
    return node->access_method[0] != '\0' ? "USING in CREATE TABLE" : NULL;
}

static size_t constraint_count(const PgQuery__CreateStmt *node) {
    size_t count = 0;
    for (size_t i = 0; i < node->n_table_elts; i++) {
        const PgQuery__Node *element = node->table_elts[i];
        count += element->node_case == PG_QUERY__NODE__NODE_COLUMN_DEF
                     ? element->column_def->n_constraints
                     : 1;
    }
    return count;
}

static bool convert_create_table(struct dbos_parser *parser, const PgQuery__CreateStmt *node,
                                 struct dbos_ast_create_table *out) {
    const char *refusal = create_refusal(node);
    if (refusal != NULL) {
        return refuse(parser, node->relation->location, refusal);
    }
    out->if_not_exists = node->if_not_exists;
    out->columns = dbos_parse_take(parser, node->n_table_elts * sizeof *out->columns);
    out->keys = dbos_parse_take(parser, constraint_count(node) * sizeof *out->keys);
    if (out->columns == NULL || out->keys == NULL ||
        !dbos_parse_relation(parser, node->relation, &out->table)) {
        return false;
    }
    for (size_t i = 0; i < node->n_table_elts; i++) {
        if (!convert_element(parser, out, node->table_elts[i])) {
            return false;
        }
    }
    return convert_partitioning(parser, node->partspec, out);
}

/* -- CREATE INDEX ---------------------------------------------------------------------------------
 */

static const char *index_refusal(const PgQuery__IndexStmt *node) {
    if (node->where_clause != NULL) {
        return "a partial index";
    }
    if (node->n_index_including_params != 0) {
        return "INCLUDE in an index";
    }
    if (node->n_options != 0) {
        return "WITH (…) in CREATE INDEX";
    }
    if (node->concurrent) {
        return "CREATE INDEX CONCURRENTLY";
    }
    if (node->nulls_not_distinct) {
        return "NULLS NOT DISTINCT";
    }
    if (node->n_index_params > DBOS_INDEX_COLUMNS_MAX) {
        return "an index of more than 8 columns";
    }
    return strcmp(node->access_method, "btree") != 0 && strcmp(node->access_method, "hash") != 0
               ? "an index method other than btree and hash"
               : NULL;
}

static bool convert_index_column(struct dbos_parser *parser, const PgQuery__IndexElem *node,
                                 int32_t location, struct dbos_ast_name *out) {
    if (node->expr != NULL || node->name[0] == '\0') {
        return refuse(parser, location, "an index on an expression");
    }
    if (node->n_collation != 0 || node->n_opclass != 0 ||
        node->ordering == PG_QUERY__SORT_BY_DIR__SORTBY_DESC ||
        node->nulls_ordering == PG_QUERY__SORT_BY_NULLS__SORTBY_NULLS_FIRST) {
        return refuse(parser, location,
                      "COLLATE, an operator class, DESC or NULLS FIRST in an index");
    }
    out->name = dbos_parse_copy(parser, node->name);
    return out->name != NULL;
}

static bool convert_create_index(struct dbos_parser *parser, const PgQuery__IndexStmt *node,
                                 struct dbos_ast_create_index *out) {
    const char *refusal = index_refusal(node);
    if (refusal != NULL) {
        return refuse(parser, -1, refusal);
    }
    out->name = dbos_parse_name(parser, node->idxname);
    out->unique = node->unique;
    out->if_not_exists = node->if_not_exists;
    out->hash = strcmp(node->access_method, "hash") == 0;
    out->column_count = (uint32_t)node->n_index_params;
    out->columns = dbos_parse_take(parser, node->n_index_params * sizeof *out->columns);
    if (out->columns == NULL || !dbos_parse_relation(parser, node->relation, &out->table)) {
        return false;
    }
    for (size_t i = 0; i < node->n_index_params; i++) {
        if (!convert_index_column(parser, node->index_params[i]->index_elem,
                                  node->relation->location, &out->columns[i])) {
            return false;
        }
    }
    return true;
}

/* -- DROP -----------------------------------------------------------------------------------------
 */

/* [schema, name] or [name]. */
static bool convert_name(struct dbos_parser *parser, PgQuery__Node **parts, size_t count,
                         struct dbos_ast_name *out) {
    if (count == 0 || count > 2) {
        return refuse(parser, -1, "a name of so many parts");
    }
    out->name = dbos_parse_copy(parser, dbos_parse_string(parts[count - 1]));
    out->schema = count == 2 ? dbos_parse_copy(parser, dbos_parse_string(parts[0])) : NULL;
    return parser->err == DBOS_OK;
}

static bool convert_dropped(struct dbos_parser *parser, const PgQuery__Node *node,
                            struct dbos_ast_name *out) {
    if (node->node_case == PG_QUERY__NODE__NODE_LIST) {
        return convert_name(parser, node->list->items, node->list->n_items, out);
    }
    if (node->node_case == PG_QUERY__NODE__NODE_OBJECT_WITH_ARGS) {
        return convert_name(parser, node->object_with_args->objname,
                            node->object_with_args->n_objname, out);
    }
    return refuse(parser, -1, "DROP of such a name");
}

static bool drop_kind(struct dbos_parser *parser, const PgQuery__DropStmt *node,
                      struct dbos_ast_statement *out) {
    int type = (int)node->remove_type;
    if (type == PG_QUERY__OBJECT_TYPE__OBJECT_TABLE) {
        out->ddl = DBOS_DDL_DROP_TABLE;
        return true;
    }
    if (type == PG_QUERY__OBJECT_TYPE__OBJECT_INDEX && !node->concurrent) {
        out->ddl = DBOS_DDL_DROP_INDEX;
        return true;
    }
    if (type == PG_QUERY__OBJECT_TYPE__OBJECT_PROCEDURE ||
        type == PG_QUERY__OBJECT_TYPE__OBJECT_FUNCTION) {
        out->ddl = DBOS_DDL_DROP_PROCEDURE;
        out->drop.is_function = type == PG_QUERY__OBJECT_TYPE__OBJECT_FUNCTION;
        return true;
    }
    return refuse(parser, -1, "DROP of other than TABLE, INDEX, PROCEDURE and FUNCTION");
}

static bool convert_drop(struct dbos_parser *parser, const PgQuery__DropStmt *node,
                         struct dbos_ast_statement *out) {
    if (!drop_kind(parser, node, out)) {
        return false;
    }
    if (node->behavior == PG_QUERY__DROP_BEHAVIOR__DROP_CASCADE) {
        return refuse(parser, -1, "DROP … CASCADE");
    }
    struct dbos_ast_drop *drop = &out->drop;
    drop->if_exists = node->missing_ok;
    drop->names = dbos_parse_take(parser, node->n_objects * sizeof *drop->names);
    for (size_t i = 0; i < node->n_objects && drop->names != NULL; i++) {
        if (!convert_dropped(parser, node->objects[i], &drop->names[i])) {
            return false;
        }
        drop->name_count++;
    }
    return parser->err == DBOS_OK;
}

/* -- CREATE PROCEDURE -----------------------------------------------------------------------------
 */

static bool convert_argument(struct dbos_parser *parser, const PgQuery__FunctionParameter *node,
                             struct dbos_argument *out) {
    struct dbos_ast_type type;
    int mode = (int)node->mode;
    if (mode != PG_QUERY__FUNCTION_PARAMETER_MODE__FUNC_PARAM_IN &&
        mode != PG_QUERY__FUNCTION_PARAMETER_MODE__FUNC_PARAM_DEFAULT) {
        return refuse(parser, node->arg_type->location,
                      mode == PG_QUERY__FUNCTION_PARAMETER_MODE__FUNC_PARAM_TABLE
                          ? "RETURNS TABLE"
                          : "an OUT, INOUT or VARIADIC parameter");
    }
    if (node->defexpr != NULL) {
        return refuse(parser, node->arg_type->location, "DEFAULT of a parameter");
    }
    if (!dbos_parse_type(parser, node->arg_type, false, &type)) {
        return false;
    }
    (void)snprintf(out->name, sizeof out->name, "%s", node->name);
    out->type = (uint8_t)type.type;
    return true;
}

static bool convert_arguments(struct dbos_parser *parser, const PgQuery__CreateFunctionStmt *node,
                              struct dbos_ast_create_procedure *out) {
    if (node->n_parameters > DBOS_ARGUMENTS_MAX) {
        return dbos_parse_fail(parser, DBOS_ERR_TOO_MANY_ARGUMENTS, -1,
                               "functions cannot have more than %d arguments",
                               DBOS_ARGUMENTS_MAX) != NULL;
    }
    out->arguments = dbos_parse_take(parser, node->n_parameters * sizeof *out->arguments);
    for (size_t i = 0; i < node->n_parameters && out->arguments != NULL; i++) {
        if (!convert_argument(parser, node->parameters[i]->function_parameter,
                              &out->arguments[i])) {
            return false;
        }
        out->argument_count++;
    }
    return parser->err == DBOS_OK;
}

/* AS 'file', 'symbol' (C) or AS 'statements' (SQL): told apart when the language is known. */
static bool convert_as(struct dbos_parser *parser, const PgQuery__DefElem *option,
                       struct dbos_ast_create_procedure *out) {
    if (option->arg == NULL || option->arg->node_case != PG_QUERY__NODE__NODE_LIST ||
        option->arg->list->n_items == 0) {
        return refuse(parser, option->location, "such an AS");
    }
    const PgQuery__List *list = option->arg->list;
    out->file = dbos_parse_copy(parser, dbos_parse_string(list->items[0]));
    out->symbol =
        list->n_items == 1 ? NULL : dbos_parse_copy(parser, dbos_parse_string(list->items[1]));
    return parser->err == DBOS_OK;
}

static bool convert_language(struct dbos_parser *parser, const PgQuery__DefElem *option,
                             struct dbos_ast_create_procedure *out) {
    const char *name = dbos_parse_string(option->arg);
    if (strcmp(name, "c") == 0) {
        out->language = DBOS_LANGUAGE_C;
        return true;
    }
    if (strcmp(name, "sql") == 0) {
        out->language = DBOS_LANGUAGE_SQL;
        return true;
    }
    return dbos_parse_fail(parser, DBOS_ERR_NOT_SUPPORTED, option->location,
                           "language \"%s\" is not supported", name) != NULL;
}

static bool convert_set(struct dbos_parser *parser, const PgQuery__DefElem *option,
                        struct dbos_ast_create_procedure *out) {
    const PgQuery__VariableSetStmt *set =
        option->arg != NULL && option->arg->node_case == PG_QUERY__NODE__NODE_VARIABLE_SET_STMT
            ? option->arg->variable_set_stmt
            : NULL;
    if (set == NULL || strcmp(set->name, "dbos.partition") != 0 || set->n_args != 1 ||
        set->args[0]->node_case != PG_QUERY__NODE__NODE_A_CONST ||
        set->args[0]->a_const->val_case != PG_QUERY__A__CONST__VAL_SVAL) {
        return refuse(parser, option->location,
                      "SET in CREATE PROCEDURE of other than dbos.partition");
    }
    out->route = dbos_parse_copy(parser, set->args[0]->a_const->sval->sval);
    return out->route != NULL;
}

static bool is_planner_hint(const char *name) {
    return strcmp(name, "volatility") == 0 || strcmp(name, "cost") == 0 ||
           strcmp(name, "rows") == 0 || strcmp(name, "parallel") == 0;
}

static bool convert_option(struct dbos_parser *parser, const PgQuery__DefElem *option,
                           struct dbos_ast_create_procedure *out) {
    char what[96];
    if (strcmp(option->defname, "as") == 0) {
        return convert_as(parser, option, out);
    }
    if (strcmp(option->defname, "language") == 0) {
        return convert_language(parser, option, out);
    }
    if (strcmp(option->defname, "set") == 0) {
        return convert_set(parser, option, out);
    }
    if (is_planner_hint(option->defname)) {
        return true;
    }
    (void)snprintf(what, sizeof what, "the option %.60s of a procedure", option->defname);
    return refuse(parser, option->location, what);
}

/* What PostgreSQL calls an invalid function definition has a SQLSTATE of its own. */
static bool invalid_function(struct dbos_parser *parser, const char *message) {
    (void)dbos_parse_fail(parser, DBOS_ERR_INVALID_OBJECT_DEFINITION, -1, "%s", message);
    if (parser->info != NULL) {
        memcpy(parser->info->sqlstate, "42P13", sizeof "42P13");
    }
    return false;
}

static bool check_procedure(struct dbos_parser *parser, struct dbos_ast_create_procedure *out) {
    if (out->language == 0) {
        return invalid_function(parser, "no language specified");
    }
    if (out->file == NULL) {
        return invalid_function(parser, "no function body specified");
    }
    if (out->language == DBOS_LANGUAGE_C) {
        out->symbol = out->symbol == NULL ? out->name : out->symbol;
        return true;
    }
    if (out->symbol != NULL) {
        return invalid_function(parser, "only one AS item needed for language \"sql\"");
    }
    out->body = out->file;
    out->file = NULL;
    return true;
}

static bool convert_create_procedure(struct dbos_parser *parser,
                                     const PgQuery__CreateFunctionStmt *node,
                                     struct dbos_ast_create_procedure *out) {
    struct dbos_ast_name name = {0};
    struct dbos_ast_type returns = {.type = DBOS_TYPE_VOID};
    if (node->sql_body != NULL) {
        return refuse(parser, -1, "BEGIN ATOMIC or RETURN as a body");
    }
    if (!convert_name(parser, node->funcname, node->n_funcname, &name)) {
        return false;
    }
    if (name.schema != NULL && strcmp(name.schema, "public") != 0) {
        return refuse(parser, -1, "a procedure in another schema than public");
    }
    out->name = name.name;
    out->is_function = !node->is_procedure;
    out->replace = node->replace;
    if (!convert_arguments(parser, node, out) ||
        (node->return_type != NULL &&
         !dbos_parse_type(parser, node->return_type, true, &returns))) {
        return false;
    }
    if (out->is_function && node->return_type == NULL) {
        return invalid_function(parser, "function result type must be specified");
    }
    out->returns = returns.type;
    for (size_t i = 0; i < node->n_options; i++) {
        if (!convert_option(parser, node->options[i]->def_elem, out)) {
            return false;
        }
    }
    return check_procedure(parser, out);
}

bool dbos_parse_ddl(struct dbos_parser *parser, const PgQuery__Node *node,
                    struct dbos_ast_statement *out) {
    int kind = (int)node->node_case;
    if (kind == PG_QUERY__NODE__NODE_CREATE_STMT) {
        out->ddl = DBOS_DDL_CREATE_TABLE;
        return convert_create_table(parser, node->create_stmt, &out->create_table);
    }
    if (kind == PG_QUERY__NODE__NODE_INDEX_STMT) {
        out->ddl = DBOS_DDL_CREATE_INDEX;
        return convert_create_index(parser, node->index_stmt, &out->create_index);
    }
    if (kind == PG_QUERY__NODE__NODE_DROP_STMT) {
        return convert_drop(parser, node->drop_stmt, out);
    }
    out->ddl = DBOS_DDL_CREATE_PROCEDURE;
    return convert_create_procedure(parser, node->create_function_stmt, &out->create_procedure);
}
