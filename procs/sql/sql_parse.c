/* Text to our tree: errors, positions, and which statement it is. */
#include <pg_query.h>
#include <stdio.h>

#include "procs/sql/sql_lex.h"
#include "procs/sql/sql_parse_internal.h"

/* -- helpers of all conversions -------------------------------------------------------------------
 */

static uint32_t starts_char(char c) { return ((unsigned char)c & 0xc0) != 0x80 ? 1 : 0; }

/* Walks from the last place asked for: neighbours in the tree are neighbours in the text. */
uint32_t dbos_parse_position(struct dbos_parser *parser, int32_t location) {
    if (location < 0) {
        return 0;
    }
    const char *text = parser->script->text;
    uint32_t wanted = (uint32_t)location;
    while (parser->at_byte > wanted) {
        parser->at_byte--;
        parser->at_char -= starts_char(text[parser->at_byte]);
    }
    while (parser->at_byte < wanted && text[parser->at_byte] != '\0') {
        parser->at_char += starts_char(text[parser->at_byte]);
        parser->at_byte++;
    }
    return parser->at_char + 1;
}

void *dbos_parse_fail(struct dbos_parser *parser, enum dbos_err err, int32_t location,
                      const char *format, ...) {
    if (parser->err != DBOS_OK) {
        return NULL; /* the first error stays */
    }
    va_list args;
    va_start(args, format);
    parser->err = dbos_vfail(parser->info, err, format, args);
    va_end(args);
    if (parser->info != NULL) {
        parser->info->position = dbos_parse_position(parser, location);
    }
    return NULL;
}

void *dbos_parse_unsupported(struct dbos_parser *parser, int32_t location, const char *what) {
    (void)dbos_parse_fail(parser, DBOS_ERR_NOT_SUPPORTED, location, "%s is not supported", what);
    if (location < 0 && parser->info != NULL && parser->info->position == 0) {
        parser->info->position = parser->statement_position;
    }
    return NULL;
}

void *dbos_parse_take(struct dbos_parser *parser, size_t size_bytes) {
    void *block = dbos_arena_take_zero(parser->arena, size_bytes == 0 ? 1 : size_bytes);
    return block != NULL ? block : dbos_parse_fail(parser, DBOS_ERR_NOMEM, -1, "out of memory");
}

const char *dbos_parse_copy(struct dbos_parser *parser, const char *text) {
    const char *copy = dbos_arena_copy(parser->arena, text, strlen(text));
    return copy != NULL ? copy : dbos_parse_fail(parser, DBOS_ERR_NOMEM, -1, "out of memory");
}

const char *dbos_parse_name(struct dbos_parser *parser, const char *text) {
    return text == NULL || text[0] == '\0' ? NULL : dbos_parse_copy(parser, text);
}

const char *dbos_parse_string(const PgQuery__Node *node) {
    return node != NULL && node->node_case == PG_QUERY__NODE__NODE_STRING ? node->string->sval : "";
}

/* -- SET and SHOW ---------------------------------------------------------------------------------
 */

static const char *constant_text(struct dbos_parser *parser, const PgQuery__Node *node) {
    char digits[32];
    if (node->node_case != PG_QUERY__NODE__NODE_A_CONST || node->a_const->isnull) {
        return dbos_parse_unsupported(parser, -1, "SET with an expression");
    }
    const PgQuery__AConst *value = node->a_const;
    switch (value->val_case) {
    case PG_QUERY__A__CONST__VAL_IVAL:
        (void)snprintf(digits, sizeof digits, "%d", value->ival->ival);
        return dbos_parse_copy(parser, digits);
    case PG_QUERY__A__CONST__VAL_FVAL:
        return dbos_parse_copy(parser, value->fval->fval);
    case PG_QUERY__A__CONST__VAL_BOOLVAL:
        return value->boolval->boolval ? "on" : "off";
    case PG_QUERY__A__CONST__VAL_SVAL:
        return dbos_parse_copy(parser, value->sval->sval);
    case PG_QUERY__A__CONST__VAL_BSVAL:
    case PG_QUERY__A__CONST__VAL__NOT_SET:
    case _PG_QUERY__A__CONST__VAL__CASE_IS_INT_SIZE:
        break;
    }
    return dbos_parse_unsupported(parser, -1, "SET with such a value");
}

/* A list of values is one text with commas, as in PostgreSQL. */
static const char *setting_value(struct dbos_parser *parser, const PgQuery__VariableSetStmt *node) {
    const char *value = "";
    for (size_t i = 0; i < node->n_args && value != NULL; i++) {
        const char *next = constant_text(parser, node->args[i]);
        if (next == NULL || i == 0) {
            value = next;
            continue;
        }
        size_t size_bytes = strlen(value) + strlen(next) + 3;
        char *joined = dbos_parse_take(parser, size_bytes);
        if (joined != NULL) {
            (void)snprintf(joined, size_bytes, "%s, %s", value, next);
        }
        value = joined;
    }
    return value;
}

static bool lower_case(struct dbos_parser *parser, const char *name, const char **out) {
    char *copy = dbos_arena_copy(parser->arena, name, strlen(name));
    if (copy == NULL) {
        return dbos_parse_fail(parser, DBOS_ERR_NOMEM, -1, "out of memory") != NULL;
    }
    for (char *c = copy; *c != '\0'; c++) {
        *c = *c >= 'A' && *c <= 'Z' ? (char)(*c + 32) : *c;
    }
    *out = copy;
    return true;
}

static bool convert_set(struct dbos_parser *parser, const PgQuery__VariableSetStmt *node,
                        struct dbos_setting_change *out) {
    out->is_local = node->is_local;
    out->value = "";
    switch (node->kind) {
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_VALUE:
        out->value = setting_value(parser, node);
        return out->value != NULL && lower_case(parser, node->name, &out->name);
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_DEFAULT:
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET:
        out->is_reset = true;
        return lower_case(parser, node->name, &out->name);
    case PG_QUERY__VARIABLE_SET_KIND__VAR_RESET_ALL:
        out->is_reset = true;
        out->name = "all";
        return true;
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_CURRENT:
    case PG_QUERY__VARIABLE_SET_KIND__VAR_SET_MULTI:
    case PG_QUERY__VARIABLE_SET_KIND__VARIABLE_SET_KIND_UNDEFINED:
    case _PG_QUERY__VARIABLE_SET_KIND_IS_INT_SIZE:
        break;
    }
    return dbos_parse_unsupported(parser, -1, "SET TRANSACTION") != NULL;
}

static bool convert_call(struct dbos_parser *parser, const PgQuery__CallStmt *node,
                         struct dbos_ast_call *out) {
    struct dbos_ast *call = dbos_parse_function(parser, node->funccall);
    if (call == NULL) {
        return false;
    }
    *out = (struct dbos_ast_call){
        .name = call->name, .args = call->args, .count = call->count, .position = call->position};
    return true;
}

/* -- statements -----------------------------------------------------------------------------------
 */

/* The statement's name from its own first words: "BEGIN", "ALTER TABLE". */
static bool refuse_statement(struct dbos_parser *parser, uint32_t start) {
    char name[64];
    size_t used = 0;
    const char *text = parser->script->text;
    struct dbos_token token = dbos_lex_next(text, start);
    bool more = true;
    for (uint32_t i = 0; i < 2 && more && token.kind == DBOS_TOKEN_WORD; i++) {
        more = dbos_lex_is(text, &token, "create") || dbos_lex_is(text, &token, "alter") ||
               dbos_lex_is(text, &token, "drop");
        for (uint32_t at = token.start; at < token.end && used + 2 < sizeof name; at++) {
            char c = text[at];
            name[used++] = c >= 'a' && c <= 'z' ? (char)(c - 32) : c;
        }
        name[used++] = ' ';
        token = dbos_lex_next(text, token.end);
    }
    name[used == 0 ? 0 : used - 1] = '\0';
    return dbos_parse_unsupported(parser, -1, used == 0 ? "this statement" : name) != NULL;
}

static bool convert_select(struct dbos_parser *parser, const PgQuery__Node *node,
                           struct dbos_ast_statement *out) {
    out->kind = DBOS_STATEMENT_SELECT;
    return dbos_parse_select(parser, node->select_stmt, &out->select);
}

/* Wswitch-enum would want all 230 kinds of node here. */
static bool convert(struct dbos_parser *parser, const PgQuery__Node *node, uint32_t start,
                    struct dbos_ast_statement *out) {
    int kind = (int)node->node_case;
    if (kind == PG_QUERY__NODE__NODE_SELECT_STMT) {
        return convert_select(parser, node, out);
    }
    if (kind == PG_QUERY__NODE__NODE_INSERT_STMT) {
        out->kind = DBOS_STATEMENT_INSERT;
        return dbos_parse_insert(parser, node->insert_stmt, &out->insert);
    }
    if (kind == PG_QUERY__NODE__NODE_UPDATE_STMT) {
        out->kind = DBOS_STATEMENT_UPDATE;
        return dbos_parse_update(parser, node->update_stmt, &out->update);
    }
    if (kind == PG_QUERY__NODE__NODE_DELETE_STMT) {
        out->kind = DBOS_STATEMENT_DELETE;
        return dbos_parse_delete(parser, node->delete_stmt, &out->delete_from);
    }
    if (kind == PG_QUERY__NODE__NODE_CALL_STMT) {
        out->kind = DBOS_STATEMENT_CALL;
        return convert_call(parser, node->call_stmt, &out->call);
    }
    if (kind == PG_QUERY__NODE__NODE_VARIABLE_SET_STMT) {
        out->kind = DBOS_STATEMENT_SET;
        return convert_set(parser, node->variable_set_stmt, &out->setting);
    }
    if (kind == PG_QUERY__NODE__NODE_VARIABLE_SHOW_STMT) {
        out->kind = DBOS_STATEMENT_SHOW;
        out->setting.value = "";
        return lower_case(parser, node->variable_show_stmt->name, &out->setting.name);
    }
    if (kind == PG_QUERY__NODE__NODE_CREATE_STMT || kind == PG_QUERY__NODE__NODE_INDEX_STMT ||
        kind == PG_QUERY__NODE__NODE_DROP_STMT ||
        kind == PG_QUERY__NODE__NODE_CREATE_FUNCTION_STMT) {
        out->kind = DBOS_STATEMENT_DDL;
        return dbos_parse_ddl(parser, node, out);
    }
    if (kind == PG_QUERY__NODE__NODE_CREATE_TABLE_AS_STMT) {
        bool view = node->create_table_as_stmt->objtype == PG_QUERY__OBJECT_TYPE__OBJECT_MATVIEW;
        return dbos_parse_unsupported(
                   parser, -1, view ? "CREATE MATERIALIZED VIEW" : "CREATE TABLE AS") != NULL;
    }
    return refuse_statement(parser, start);
}

/* Where the statement's text begins and ends: without blanks, comments before it and the ;. */
static void find_text(const struct dbos_script *script, const PgQuery__RawStmt *raw,
                      uint32_t *start, uint32_t *end) {
    uint32_t total = (uint32_t)strlen(script->text);
    uint32_t from = raw->stmt_location < 0 ? 0 : (uint32_t)raw->stmt_location;
    *end = raw->stmt_len <= 0 ? total : from + (uint32_t)raw->stmt_len;
    *end = *end > total ? total : *end;
    *start = dbos_lex_next(script->text, from).start;
    *start = *start > *end ? *end : *start;
    while (*end > *start && strchr(" \t\r\n\f\v;", script->text[*end - 1]) != NULL) {
        (*end)--;
    }
}

static bool convert_raw(struct dbos_parser *parser, const PgQuery__RawStmt *raw,
                        struct dbos_ast_statement *out) {
    uint32_t start;
    uint32_t end;
    find_text(parser->script, raw, &start, &end);
    parser->depth = 0;
    parser->statement_position = dbos_parse_position(parser, (int32_t)start);
    out->text_position = parser->statement_position - 1;
    char *text = dbos_arena_copy(parser->arena, parser->script->text + start, end - start);
    if (text == NULL) {
        return dbos_parse_fail(parser, DBOS_ERR_NOMEM, -1, "out of memory") != NULL;
    }
    out->text = (struct dbos_bytes){.data = (const uint8_t *)text, .size_bytes = end - start};
    if (raw->stmt->node_case == PG_QUERY__NODE__NODE_SELECT_STMT &&
        (dbos_parse_archive(parser, raw->stmt, start, end, out) || parser->err != DBOS_OK)) {
        return parser->err == DBOS_OK;
    }
    return convert(parser, raw->stmt, start, out);
}

static enum dbos_err convert_all(struct dbos_parser *parser, const PgQuery__ParseResult *tree) {
    struct dbos_script *script = parser->script;
    script->statements = dbos_parse_take(parser, tree->n_stmts * sizeof *script->statements);
    for (size_t i = 0; i < tree->n_stmts && parser->err == DBOS_OK; i++) {
        if (convert_raw(parser, tree->stmts[i], &script->statements[i])) {
            script->count++;
        }
    }
    DBOS_CHECK(parser->err != DBOS_OK || script->count == tree->n_stmts);
    return parser->err;
}

/* -- libpg_query ----------------------------------------------------------------------------------
 */

static enum dbos_err syntax_error(struct dbos_parser *parser, const PgQueryError *error) {
    const char *message = error->message;
    enum dbos_err code = DBOS_ERR_SYNTAX;
    if (strstr(message, "memory exhausted") != NULL || strstr(message, "stack depth") != NULL) {
        code = DBOS_ERR_TOO_COMPLEX;
    } else if (strstr(message, "not supported") != NULL ||
               strstr(message, "not implemented") != NULL) {
        code = DBOS_ERR_NOT_SUPPORTED;
    }
    (void)dbos_fail(parser->info, code, "%s", message);
    if (parser->info != NULL && error->cursorpos > 0) {
        parser->info->position = (uint32_t)error->cursorpos; /* characters already */
    }
    return code;
}

static void *unpack_take(void *arena, size_t size_bytes) {
    return dbos_arena_take(arena, size_bytes);
}
static void unpack_give(void *arena, void *block) {
    (void)arena;
    (void)block;
}

static enum dbos_err unpack_and_convert(struct dbos_parser *parser, const PgQueryProtobuf *bytes) {
    struct dbos_arena tree_arena;
    dbos_arena_init(&tree_arena, parser->script->alloc, 0);
    ProtobufCAllocator allocator = {
        .alloc = unpack_take, .free = unpack_give, .allocator_data = &tree_arena};
    PgQuery__ParseResult *tree =
        pg_query__parse_result__unpack(&allocator, bytes->len, (const uint8_t *)bytes->data);
    enum dbos_err err = tree == NULL ? dbos_fail(parser->info, DBOS_ERR_NOMEM, "out of memory")
                                     : convert_all(parser, tree);
    dbos_arena_fini(&tree_arena);
    return err;
}

enum dbos_err dbos_script_fill(struct dbos_script *script, struct dbos_errinfo *info) {
    struct dbos_parser parser = {.script = script, .arena = &script->arena, .info = info};
    PgQueryProtobufParseResult result = pg_query_parse_protobuf(script->text);
    enum dbos_err err = result.error != NULL ? syntax_error(&parser, result.error)
                                             : unpack_and_convert(&parser, &result.parse_tree);
    pg_query_free_protobuf_parse_result(result);
    return err;
}
