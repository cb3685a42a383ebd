/* Type names. */
#include "procs/sql/sql_parse_internal.h"

static const struct {
    const char *name;
    enum dbos_type type;
} types[] = {
    {"bool", DBOS_TYPE_BOOL},   {"boolean", DBOS_TYPE_BOOL},
    {"int2", DBOS_TYPE_INT2},   {"int4", DBOS_TYPE_INT4},
    {"int8", DBOS_TYPE_INT8},   {"float8", DBOS_TYPE_FLOAT8},
    {"text", DBOS_TYPE_TEXT},   {"varchar", DBOS_TYPE_VARCHAR},
    {"bytea", DBOS_TYPE_BYTEA}, {"timestamptz", DBOS_TYPE_TIMESTAMPTZ},
};

/* PostgreSQL has them, this database does not; the name as its documentation writes it. */
static const struct {
    const char *name;
    const char *shown;
} unsupported[] = {
    {"numeric", "numeric"},
    {"float4", "real"},
    {"bpchar", "character"},
    {"char", "\"char\""},
    {"date", "date"},
    {"time", "time"},
    {"timetz", "time with time zone"},
    {"timestamp", "timestamp without time zone"},
    {"interval", "interval"},
    {"json", "json"},
    {"jsonb", "jsonb"},
    {"xml", "xml"},
    {"uuid", "uuid"},
    {"bit", "bit"},
    {"varbit", "bit varying"},
    {"inet", "inet"},
    {"cidr", "cidr"},
    {"macaddr", "macaddr"},
    {"money", "money"},
    {"point", "point"},
    {"name", "name"},
    {"oid", "oid"},
    {"regclass", "regclass"},
    {"regproc", "regproc"},
    {"regtype", "regtype"},
    {"smallserial", "smallserial"},
    {"serial", "serial"},
    {"bigserial", "bigserial"},
    {"serial2", "smallserial"},
    {"serial4", "serial"},
    {"serial8", "bigserial"},
    {"tsvector", "tsvector"},
    {"tsquery", "tsquery"},
    {"record", "record"},
    {"trigger", "trigger"},
    {"void", "void"},
    {"anyelement", "anyelement"},
};

static bool refuse_type(struct dbos_parser *parser, const PgQuery__TypeName *node,
                        const char *name) {
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++) {
        if (strcmp(unsupported[i].name, name) == 0) {
            return dbos_parse_fail(parser, DBOS_ERR_NOT_SUPPORTED, node->location,
                                   "type %s is not supported", unsupported[i].shown) != NULL;
        }
    }
    return dbos_parse_fail(parser, DBOS_ERR_UNDEFINED_OBJECT, node->location,
                           "type \"%s\" does not exist", name) != NULL;
}

static bool take_length(struct dbos_parser *parser, const PgQuery__TypeName *node,
                        struct dbos_ast_type *out) {
    const PgQuery__Node *length = node->typmods[0];
    if (out->type != DBOS_TYPE_VARCHAR || node->n_typmods != 1 ||
        length->node_case != PG_QUERY__NODE__NODE_A_CONST ||
        length->a_const->val_case != PG_QUERY__A__CONST__VAL_IVAL) {
        return dbos_parse_fail(parser, DBOS_ERR_NOT_SUPPORTED, node->location,
                               "type modifier of %s is not supported",
                               dbos_type_name(out->type)) != NULL;
    }
    int32_t chars = length->a_const->ival->ival;
    if (chars < 1) {
        return dbos_parse_fail(parser, DBOS_ERR_INVALID_PARAMETER, node->location,
                               "length for type varchar must be at least 1") != NULL;
    }
    if (chars > 10485760) {
        return dbos_parse_fail(parser, DBOS_ERR_INVALID_PARAMETER, node->location,
                               "length for type varchar cannot exceed 10485760") != NULL;
    }
    out->chars_max = (uint32_t)chars;
    return true;
}

bool dbos_parse_type(struct dbos_parser *parser, const PgQuery__TypeName *node, bool allow_void,
                     struct dbos_ast_type *out) {
    *out = (struct dbos_ast_type){.position = dbos_parse_position(parser, node->location)};
    if (node->setof || node->pct_type || node->n_array_bounds != 0 || node->n_names == 0) {
        return dbos_parse_unsupported(parser, node->location,
                                      node->setof                 ? "SETOF"
                                      : node->n_array_bounds != 0 ? "an array type"
                                                                  : "%TYPE") != NULL;
    }
    const char *name = dbos_parse_string(node->names[node->n_names - 1]);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].name, name) == 0) {
            out->type = types[i].type;
            return node->n_typmods == 0 || take_length(parser, node, out);
        }
    }
    if (allow_void && strcmp(name, "void") == 0) {
        out->type = DBOS_TYPE_VOID;
        return true;
    }
    return refuse_type(parser, node, name);
}
