/* SELECTs for the archive: found by the provenance functions in their FROM clauses, at any depth,
 * and rewritten so that each call is a table that the archiver makes.
 *
 *   SELECT * FROM prov_history('t', 1) h JOIN prov.calls c ON …
 *   SELECT * FROM dbos_call_0 h JOIN prov.calls c ON …
 *
 * The tree is walked by protobuf-c's descriptions of it, because such a SELECT may hold any node.
 */
#include <stdio.h>
#include <stdlib.h>

#include "procs/sql/sql_lex.h"
#include "procs/sql/sql_parse_internal.h"

enum { CALLS_MAX = 64, WALK_DEPTH_MAX = 8000, LIST_MAX = 1 << 24 };

struct found {
    const PgQuery__FuncCall *call;
    bool has_alias;
};
struct walk {
    struct dbos_parser *parser;
    uint32_t depth;
    uint32_t count;
    bool uses_schema; /* prov.x */
    struct found calls[CALLS_MAX];
};

static bool is_provenance(const char *name) {
    return strncmp(name, "prov_", 5) == 0 || strcmp(name, "dbos_as_of") == 0;
}

static void see_range_function(struct walk *walk, const PgQuery__RangeFunction *range) {
    for (size_t i = 0; i < range->n_functions; i++) {
        const PgQuery__Node *node = range->functions[i];
        if (node->node_case != PG_QUERY__NODE__NODE_LIST || node->list->n_items == 0 ||
            node->list->items[0]->node_case != PG_QUERY__NODE__NODE_FUNC_CALL) {
            continue;
        }
        const PgQuery__FuncCall *call = node->list->items[0]->func_call;
        if (!is_provenance(dbos_parse_string(call->funcname[call->n_funcname - 1]))) {
            continue;
        }
        if (walk->count == CALLS_MAX) {
            (void)dbos_parse_unsupported(walk->parser, call->location,
                                         "more than 64 provenance calls in a query");
            return;
        }
        walk->calls[walk->count++] =
            (struct found){.call = call, .has_alias = range->alias != NULL};
    }
}

static void walk_message(struct walk *walk, const ProtobufCMessage *message);

static void walk_field(struct walk *walk, const ProtobufCMessage *message,
                       const ProtobufCFieldDescriptor *field) {
    const uint8_t *base = (const uint8_t *)message;
    if (field->type != PROTOBUF_C_TYPE_MESSAGE) {
        return;
    }
    if (field->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t count;
        ProtobufCMessage *const *items;
        memcpy(&count, base + field->quantifier_offset, sizeof count);
        memcpy(&items, base + field->offset, sizeof items);
        for (size_t i = 0; i < count && i < LIST_MAX; i++) {
            walk_message(walk, items[i]);
        }
        return;
    }
    if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t which;
        memcpy(&which, base + field->quantifier_offset, sizeof which);
        if (which != field->id) {
            return;
        }
    }
    const ProtobufCMessage *child;
    memcpy(&child, base + field->offset, sizeof child);
    if (child != NULL) {
        walk_message(walk, child);
    }
}

static void walk_message(struct walk *walk, const ProtobufCMessage *message) {
    if (walk->depth >= WALK_DEPTH_MAX || walk->parser->err != DBOS_OK) {
        return;
    }
    walk->depth++;
    const ProtobufCMessageDescriptor *type = message->descriptor;
    if (type == &pg_query__range_function__descriptor) {
        see_range_function(walk, (const PgQuery__RangeFunction *)(const void *)message);
    } else if (type == &pg_query__range_var__descriptor) {
        const PgQuery__RangeVar *range = (const PgQuery__RangeVar *)(const void *)message;
        walk->uses_schema = walk->uses_schema || strcmp(range->schemaname, "prov") == 0;
    }
    for (unsigned i = 0; i < type->n_fields; i++) {
        walk_field(walk, message, &type->fields[i]);
    }
    walk->depth--;
}

/* -- arguments ------------------------------------------------------------------------------------
 */

static bool convert_value(struct dbos_parser *parser, const PgQuery__AConst *value,
                          struct dbos_archive_argument *out) {
    char digits[32];
    if (value->isnull) {
        return true;
    }
    int kind = (int)value->val_case;
    if (kind == PG_QUERY__A__CONST__VAL_IVAL) {
        (void)snprintf(digits, sizeof digits, "%d", value->ival->ival);
        out->text = dbos_parse_copy(parser, digits);
    } else if (kind == PG_QUERY__A__CONST__VAL_FVAL) {
        out->text = dbos_parse_copy(parser, value->fval->fval);
    } else if (kind == PG_QUERY__A__CONST__VAL_BOOLVAL) {
        out->text = value->boolval->boolval ? "true" : "false";
    } else if (kind == PG_QUERY__A__CONST__VAL_SVAL) {
        out->text = dbos_parse_copy(parser, value->sval->sval);
    } else {
        (void)dbos_parse_unsupported(parser, value->location, "type bit");
    }
    return parser->err == DBOS_OK;
}

static bool convert_argument(struct dbos_parser *parser, const PgQuery__Node *node,
                             int32_t location, struct dbos_archive_argument *out) {
    if (node->node_case == PG_QUERY__NODE__NODE_NAMED_ARG_EXPR) {
        out->name = dbos_parse_copy(parser, node->named_arg_expr->name);
        node = node->named_arg_expr->arg;
    }
    const PgQuery__TypeCast *cast = NULL;
    if (node->node_case == PG_QUERY__NODE__NODE_TYPE_CAST) {
        cast = node->type_cast;
        node = cast->arg;
    }
    if (node->node_case == PG_QUERY__NODE__NODE_PARAM_REF) {
        out->parameter = (uint32_t)node->param_ref->number;
        return parser->err == DBOS_OK;
    }
    if (node->node_case != PG_QUERY__NODE__NODE_A_CONST) {
        return dbos_parse_unsupported(
                   parser, location,
                   "an argument of a provenance function other than a literal or a parameter") !=
               NULL;
    }
    if (cast != NULL && node->a_const->isnull && cast->type_name->n_names != 0) {
        const PgQuery__TypeName *type = cast->type_name;
        out->row_type = dbos_parse_copy(parser, dbos_parse_string(type->names[type->n_names - 1]));
    }
    return convert_value(parser, node->a_const, out);
}

static bool convert_call(struct dbos_parser *parser, const PgQuery__FuncCall *node,
                         struct dbos_archive_call *out) {
    struct dbos_archive_argument *arguments =
        dbos_parse_take(parser, node->n_args * sizeof *arguments);
    out->function =
        dbos_parse_copy(parser, dbos_parse_string(node->funcname[node->n_funcname - 1]));
    out->arguments = arguments;
    out->argument_count = (uint32_t)node->n_args;
    out->position = dbos_parse_position(parser, node->location);
    for (size_t i = 0; i < node->n_args && parser->err == DBOS_OK; i++) {
        if (!convert_argument(parser, node->args[i], node->location, &arguments[i])) {
            return false;
        }
    }
    return parser->err == DBOS_OK;
}

/* -- the text -------------------------------------------------------------------------------------
 */

/* The call's bytes in the text: its name to its closing parenthesis. */
static bool call_extent(const char *text, const PgQuery__FuncCall *call, uint32_t *out_end) {
    struct dbos_token token = dbos_lex_next(text, (uint32_t)call->location);
    while (token.kind != DBOS_TOKEN_END &&
           !(token.kind == DBOS_TOKEN_OTHER && text[token.start] == '(')) {
        token = dbos_lex_next(text, token.end);
    }
    *out_end = token.kind == DBOS_TOKEN_END ? 0 : dbos_lex_close(text, token.start);
    return *out_end != 0;
}

static const char *rewrite(const struct walk *walk, uint32_t start, uint32_t end) {
    struct dbos_parser *parser = walk->parser;
    const char *text = parser->script->text;
    size_t capacity = end - start + (size_t)walk->count * (2 * DBOS_NAME_BYTES + 32) + 1;
    char *out = dbos_parse_take(parser, capacity);
    size_t used = 0;
    uint32_t at = start;
    for (uint32_t i = 0; i < walk->count && out != NULL; i++) {
        const PgQuery__FuncCall *call = walk->calls[i].call;
        uint32_t call_end;
        if ((uint32_t)call->location < at || !call_extent(text, call, &call_end) ||
            call_end > end) {
            return dbos_parse_unsupported(parser, call->location, "such a provenance call");
        }
        memcpy(out + used, text + at, (uint32_t)call->location - at);
        used += (uint32_t)call->location - at;
        used += (size_t)snprintf(out + used, capacity - used, "dbos_call_%u", i);
        if (!walk->calls[i].has_alias) { /* its columns may be named by the function's name */
            used += (size_t)snprintf(out + used, capacity - used, " AS %s",
                                     dbos_parse_string(call->funcname[call->n_funcname - 1]));
        }
        at = call_end;
    }
    if (out != NULL) {
        memcpy(out + used, text + at, end - at);
    }
    return out;
}

static int by_location(const void *a, const void *b) {
    int32_t left = ((const struct found *)a)->call->location;
    int32_t right = ((const struct found *)b)->call->location;
    return (left > right) - (left < right);
}

/* SELECT dbos_snapshot() and nothing else: who takes it is no part of a transaction. */
static bool is_snapshot(const PgQuery__SelectStmt *select) {
    if (select->n_target_list != 1 || select->n_from_clause != 0 || select->where_clause != NULL ||
        select->n_values_lists != 0 || select->limit_count != NULL || select->n_sort_clause != 0 ||
        select->n_distinct_clause != 0 || select->n_group_clause != 0 ||
        select->having_clause != NULL || select->limit_offset != NULL ||
        select->into_clause != NULL || select->n_locking_clause != 0 ||
        select->with_clause != NULL || select->op != PG_QUERY__SET_OPERATION__SETOP_NONE) {
        return false;
    }
    const PgQuery__Node *target = select->target_list[0];
    if (target->node_case != PG_QUERY__NODE__NODE_RES_TARGET ||
        target->res_target->name[0] != '\0' ||
        target->res_target->val->node_case != PG_QUERY__NODE__NODE_FUNC_CALL) {
        return false;
    }
    const PgQuery__FuncCall *call = target->res_target->val->func_call;
    return call->n_args == 0 && call->n_funcname == 1 && call->over == NULL &&
           call->agg_filter == NULL &&
           strcmp(dbos_parse_string(call->funcname[call->n_funcname - 1]), "dbos_snapshot") == 0;
}

bool dbos_parse_archive(struct dbos_parser *parser, const PgQuery__Node *node, uint32_t start,
                        uint32_t end, struct dbos_ast_statement *out) {
    struct walk walk = {.parser = parser};
    if (is_snapshot(node->select_stmt)) {
        out->kind = DBOS_STATEMENT_ARCHIVE;
        out->archive.sql = "";
        out->archive.takes_snapshot = true;
        return true;
    }
    walk_message(&walk, &node->base);
    if (parser->err != DBOS_OK || (walk.count == 0 && !walk.uses_schema)) {
        return false;
    }
    qsort(walk.calls, walk.count, sizeof walk.calls[0], by_location);
    out->kind = DBOS_STATEMENT_ARCHIVE;
    struct dbos_archive_call *calls = dbos_parse_take(parser, walk.count * sizeof *calls);
    for (uint32_t i = 0; i < walk.count && calls != NULL; i++) {
        if (!convert_call(parser, walk.calls[i].call, &calls[i])) {
            return false;
        }
    }
    out->archive.calls = calls;
    out->archive.call_count = walk.count;
    out->archive.sql = rewrite(&walk, start, end);
    return parser->err == DBOS_OK;
}
