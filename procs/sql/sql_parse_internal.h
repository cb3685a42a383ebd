/* What the files of the parser share. These (sql_parse*.c) are the only ones that know libpg_query.
 *
 * A conversion that fails sets parser->err and returns NULL (or false); callers pass that on.
 *
 * Thread: any; libpg_query keeps its memory contexts per thread, and pg_query_exit() is never
 * called, because it frees twice at the end of a thread.
 * Memory: the script's arena. */
#ifndef DBOS_PROCS_SQL_SQL_PARSE_INTERNAL_H
#define DBOS_PROCS_SQL_SQL_PARSE_INTERNAL_H

#include <pg_query/pg_query.pb-c.h>

#include "procs/sql/ast.h"

enum { DBOS_PARSE_DEPTH_MAX = 2000 };

struct dbos_parser {
    struct dbos_script *script;
    struct dbos_arena *arena;
    struct dbos_errinfo *info;
    enum dbos_err err;
    uint32_t depth;
    /* A place in the text, in bytes and in characters: positions mostly grow. */
    uint32_t at_byte;
    uint32_t at_char;
    uint32_t statement_position; /* of the statement being converted; for what has no own */
};

/* Character position (from 1) of a byte offset; 0 for a negative one. */
uint32_t dbos_parse_position(struct dbos_parser *parser, int32_t location);
/* 0A000 "<what> is not supported", at a byte offset (-1: the statement). Returns NULL always. */
void *dbos_parse_unsupported(struct dbos_parser *parser, int32_t location, const char *what);
void *dbos_parse_fail(struct dbos_parser *parser, enum dbos_err err, int32_t location,
                      const char *format, ...) DBOS_PRINTF(4, 5);
void *dbos_parse_take(struct dbos_parser *parser, size_t size_bytes); /* cleared */
const char *dbos_parse_copy(struct dbos_parser *parser, const char *text);
/* NULL for the empty string, which is how the tree says "none". */
const char *dbos_parse_name(struct dbos_parser *parser, const char *text);
const char *dbos_parse_string(const PgQuery__Node *node); /* a String node's; "" otherwise */

/* sql_parse_expr.c */
struct dbos_ast *dbos_parse_expr(struct dbos_parser *parser, const PgQuery__Node *node);
struct dbos_ast **dbos_parse_list(struct dbos_parser *parser, PgQuery__Node **nodes, size_t count);
struct dbos_ast *dbos_parse_function(struct dbos_parser *parser, const PgQuery__FuncCall *call);

/* sql_parse_type.c. `allow_void`: RETURNS void. */
bool dbos_parse_type(struct dbos_parser *parser, const PgQuery__TypeName *node, bool allow_void,
                     struct dbos_ast_type *out);

/* sql_parse_query.c */
bool dbos_parse_select(struct dbos_parser *parser, const PgQuery__SelectStmt *node,
                       struct dbos_ast_select *out);
bool dbos_parse_insert(struct dbos_parser *parser, const PgQuery__InsertStmt *node,
                       struct dbos_ast_insert *out);
bool dbos_parse_update(struct dbos_parser *parser, const PgQuery__UpdateStmt *node,
                       struct dbos_ast_update *out);
bool dbos_parse_delete(struct dbos_parser *parser, const PgQuery__DeleteStmt *node,
                       struct dbos_ast_delete *out);
bool dbos_parse_relation(struct dbos_parser *parser, const PgQuery__RangeVar *node,
                         struct dbos_ast_relation *out);

/* sql_parse_ddl.c */
bool dbos_parse_ddl(struct dbos_parser *parser, const PgQuery__Node *node,
                    struct dbos_ast_statement *out);

/* sql_parse_archive.c: is this SELECT one for the archive, or SELECT dbos_snapshot()? Then it is
 * converted. */
bool dbos_parse_archive(struct dbos_parser *parser, const PgQuery__Node *node, uint32_t start,
                        uint32_t end, struct dbos_ast_statement *out);

#endif /* DBOS_PROCS_SQL_SQL_PARSE_INTERNAL_H */
