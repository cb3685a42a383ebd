/* Binding: names to columns and functions, literals and parameters to types, casts made explicit.
 *
 * Rules, messages and positions are PostgreSQL's, for the types that there are.
 *
 * Thread: any. Memory: the plan's arena. A function that returns NULL has set binder->err. */
#ifndef DBOS_PROCS_SQL_BIND_H
#define DBOS_PROCS_SQL_BIND_H

#include "procs/sql/ast.h"
#include "procs/sql/expr.h"

enum dbos_aggregate_kind {
    DBOS_AGGREGATE_COUNT, /* of rows, where there is no argument */
    DBOS_AGGREGATE_SUM,
    DBOS_AGGREGATE_MIN,
    DBOS_AGGREGATE_MAX,
    DBOS_AGGREGATE_AVG,
};
struct dbos_aggregate {
    enum dbos_aggregate_kind kind;
    enum dbos_type type; /* of the result */
    struct dbos_expr *arg;
    struct dbos_aggregate *next; /* while binding: in order of `number` */
    uint32_t number;
};

struct dbos_binder {
    struct dbos_arena *arena;
    struct dbos_errinfo *info;
    enum dbos_err err;
    struct dbos_catalog *catalog;
    /* Parameters: types known so far. */
    enum dbos_type *types;
    uint32_t type_count;
    uint32_t type_capacity;
    /* What columns are of: a table, or generate_series(). */
    const struct dbos_table_def *def;
    const char *table_name; /* as it is referred to */
    bool has_alias;
    const char *series_column;
    enum dbos_type series_type;
    /* Where we are. */
    const char *clause; /* "WHERE": for "aggregate functions are not allowed in WHERE" */
    bool aggregates_allowed;
    bool in_aggregate;
    bool columns_forbidden; /* VALUES, DEFAULT, LIMIT */
    /* INSERT … SELECT: an untyped literal of the select takes the type of its column. */
    const enum dbos_type *wanted;
    uint32_t wanted_count;
    uint32_t depth;
    struct dbos_aggregate *first_aggregate;
    struct dbos_aggregate *last_aggregate;
    uint32_t aggregate_count;
};

enum { DBOS_BIND_DEPTH_MAX = 4000 };

void *dbos_bind_fail(struct dbos_binder *binder, enum dbos_err err, uint32_t position,
                     const char *format, ...) DBOS_PRINTF(4, 5);
void *dbos_bind_nomem(struct dbos_binder *binder);
void *dbos_bind_take(struct dbos_binder *binder, size_t size_bytes); /* cleared */

/* Known types of parameters. */
bool dbos_bind_hints(struct dbos_binder *binder, const enum dbos_type *hints, uint32_t count);
/* All must be known by now: 42P18. */
bool dbos_bind_parameters_known(struct dbos_binder *binder);

struct dbos_expr *dbos_bind_expr(struct dbos_binder *binder, const struct dbos_ast *ast);
/* Coerced to boolean: "argument of WHERE must be type boolean, not type integer". */
struct dbos_expr *dbos_bind_condition(struct dbos_binder *binder, const struct dbos_ast *ast,
                                      const char *clause);
/* The name of a result column. */
const char *dbos_bind_column_name(const struct dbos_ast *ast);

/* bind_coerce.c ----------------------------------------------------------------------------------
 */

struct dbos_expr *dbos_expr_new(struct dbos_binder *binder, enum dbos_expr_kind kind,
                                enum dbos_type type, uint32_t position, uint32_t count);
/* `expr` as a value of `type`; NULL without an error when the context does not allow it. */
struct dbos_expr *dbos_coerce(struct dbos_binder *binder, struct dbos_expr *expr,
                              enum dbos_type type, enum dbos_cast_context context);
/* With the length of varchar(n). */
struct dbos_expr *dbos_coerce_column(struct dbos_binder *binder, struct dbos_expr *expr,
                                     const struct dbos_column *column);
struct dbos_expr *dbos_coerce_explicit(struct dbos_binder *binder, struct dbos_expr *expr,
                                       const struct dbos_ast_type *type, uint32_t position);
/* An untyped literal or parameter becomes text. */
struct dbos_expr *dbos_coerce_unknown(struct dbos_binder *binder, struct dbos_expr *expr);
struct dbos_expr *dbos_coerce_bool(struct dbos_binder *binder, struct dbos_expr *expr,
                                   const char *clause);
/* All of `args` to one type, which is returned; UNKNOWN = failed. */
enum dbos_type dbos_coerce_common(struct dbos_binder *binder, struct dbos_expr **args,
                                  uint32_t count, const char *what);
/* Type name for messages: "unknown" for what is not typed yet. */
const char *dbos_bind_type_name(enum dbos_type type);

/* bind_operator.c ---------------------------------------------------------------------------------
 */

struct dbos_expr *dbos_bind_operator(struct dbos_binder *binder, const char *name,
                                     struct dbos_expr *left, struct dbos_expr *right,
                                     uint32_t position);
/* left <compare> right; `name` for messages. */
struct dbos_expr *dbos_bind_compare(struct dbos_binder *binder, enum dbos_compare compare,
                                    struct dbos_expr *left, struct dbos_expr *right,
                                    uint32_t position);

/* bind_call.c -------------------------------------------------------------------------------------
 */

struct dbos_expr *dbos_bind_call(struct dbos_binder *binder, const struct dbos_ast *ast);
/* "f(integer, text)" for messages. */
void dbos_bind_signature(const char *name, const enum dbos_type *types, uint32_t count, char *out,
                         size_t out_bytes);
void *dbos_bind_no_function(struct dbos_binder *binder, const char *name,
                            const enum dbos_type *types, uint32_t count, uint32_t position);

#endif /* DBOS_PROCS_SQL_BIND_H */
