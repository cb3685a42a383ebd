/* Typed expressions and their evaluation.
 *
 * An expression is made by the binder (bind.h), in a plan's arena, and never changes afterwards.
 * Every node has one type; NULL is three-valued as in SQL. Casts between types are nodes of their
 * own, but smallint, integer and bigint compare with each other as they are, and text with varchar.
 *
 * Thread: evaluation by any thread, each with its own struct dbos_eval.
 * Memory: results borrow from row, parameters and constants, or are in the evaluation's arena. */
#ifndef DBOS_PROCS_SQL_EXPR_H
#define DBOS_PROCS_SQL_EXPR_H

#include "procs/sql/sql.h"

enum dbos_expr_kind {
    DBOS_EXPR_CONST,      /* value */
    DBOS_EXPR_PARAMETER,  /* number: from 0 */
    DBOS_EXPR_COLUMN,     /* number: of the source's row */
    DBOS_EXPR_CAST,       /* args[0] to type and chars_max; explicit_cast */
    DBOS_EXPR_CALL,       /* function */
    DBOS_EXPR_ARITHMETIC, /* number: + - * / % ^ & | # < (<<) > (>>); both args have the node's type
                           */
    DBOS_EXPR_NEGATE,     /* -x, or ~x where number is '~' */
    DBOS_EXPR_CONCAT,
    DBOS_EXPR_LIKE,    /* negated; number 1: ILIKE */
    DBOS_EXPR_COMPARE, /* number: enum dbos_compare */
    DBOS_EXPR_AND,
    DBOS_EXPR_OR,
    DBOS_EXPR_NOT,
    DBOS_EXPR_IS_NULL,  /* negated */
    DBOS_EXPR_IS_BOOL,  /* number: 0, 1; 2 = unknown; negated */
    DBOS_EXPR_DISTINCT, /* negated = IS NOT DISTINCT FROM */
    DBOS_EXPR_CASE,     /* condition, result, …, ELSE */
    DBOS_EXPR_COALESCE,
    DBOS_EXPR_GREATEST,
    DBOS_EXPR_LEAST,
    DBOS_EXPR_NULLIF,    /* args[0]; args[1] says whether it is to be NULL */
    DBOS_EXPR_AGGREGATE, /* number: of the query's aggregates */
    DBOS_EXPR_GROUP,     /* number: of the query's grouping expressions */
};

enum dbos_compare {
    DBOS_COMPARE_EQ,
    DBOS_COMPARE_NE,
    DBOS_COMPARE_LT,
    DBOS_COMPARE_LE,
    DBOS_COMPARE_GT,
    DBOS_COMPARE_GE,
};

struct dbos_function;

struct dbos_expr {
    uint8_t kind; /* enum dbos_expr_kind */
    uint8_t type; /* enum dbos_type */
    bool negated;
    bool explicit_cast;
    uint32_t chars_max;
    uint32_t number;
    uint32_t count;
    uint32_t position;
    struct dbos_expr **args;
    const struct dbos_function *function;
    struct dbos_datum value;
};

/* What an expression is evaluated in. */
struct dbos_eval {
    const struct dbos_run *run; /* NULL: only constants, parameters and immutable functions */
    struct dbos_arena *arena;
    const struct dbos_datum *parameters;
    const struct dbos_table_def *def;
    const struct dbos_row *row;      /* of a table … */
    const struct dbos_datum *values; /* … or of generate_series() */
    const struct dbos_datum *groups;
    const struct dbos_datum *aggregates;
    struct dbos_errinfo *info;
};

/* For dbos_expr_eval(): any expression that is more than a value that is there. */
enum dbos_err dbos_expr_compute(const struct dbos_expr *expr, struct dbos_eval *eval,
                                struct dbos_datum *out) DBOS_MUST_USE;
static inline DBOS_MUST_USE enum dbos_err
dbos_expr_eval(const struct dbos_expr *expr, struct dbos_eval *eval, struct dbos_datum *out) {
    if (expr->kind == DBOS_EXPR_PARAMETER) {
        *out = eval->parameters[expr->number];
        return DBOS_OK;
    }
    if (expr->kind == DBOS_EXPR_CONST) {
        *out = expr->value;
        return DBOS_OK;
    }
    return dbos_expr_compute(expr, eval, out);
}
/* A condition: NULL is false. */
enum dbos_err dbos_expr_test(const struct dbos_expr *expr, struct dbos_eval *eval,
                             bool *out) DBOS_MUST_USE;
/* The same expression? (positions do not count) */
bool dbos_expr_equal(const struct dbos_expr *a, const struct dbos_expr *b);

/* What an expression depends on. */
struct dbos_expr_uses {
    bool columns;
    bool aggregates; /* or groups */
    bool volatile_functions;
    bool stable_functions; /* need a transaction: now(), current_user */
};
void dbos_expr_uses(const struct dbos_expr *expr, struct dbos_expr_uses *uses);

/* cast.c -----------------------------------------------------------------------------------------
 */

/* In which context a value of one type becomes one of another by itself. */
enum dbos_cast_context {
    DBOS_CAST_NONE,
    DBOS_CAST_EXPLICIT,
    DBOS_CAST_ASSIGNMENT,
    DBOS_CAST_IMPLICIT,
};
enum dbos_cast_context dbos_cast_context(enum dbos_type from, enum dbos_type to);

struct dbos_cast {
    enum dbos_type to;
    uint32_t chars_max; /* VARCHAR(n): an explicit cast cuts, another one fails (TOO_LONG) */
    bool is_explicit;
};
enum dbos_err dbos_cast_datum(const struct dbos_datum *from, const struct dbos_cast *cast,
                              struct dbos_arena *arena, struct dbos_datum *out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* Same kind of value without any conversion: integers of any width, text and varchar. */
bool dbos_type_comparable(enum dbos_type a, enum dbos_type b);
/* Like dbos_fail(), with a SQLSTATE of its own that no code has. */
enum dbos_err dbos_fail_state(struct dbos_errinfo *info, enum dbos_err err, const char *sqlstate,
                              const char *format, ...) DBOS_PRINTF(4, 5);
/* Text of a value in the arena (the form of a cast: true, not t). */
enum dbos_err dbos_cast_to_text(const struct dbos_datum *from, struct dbos_arena *arena,
                                struct dbos_bytes *out, struct dbos_errinfo *info) DBOS_MUST_USE;

/* arithmetic.c ------------------------------------------------------------------------------------
 */

enum dbos_err dbos_arithmetic(uint32_t operation, enum dbos_type type,
                              const struct dbos_datum *left, const struct dbos_datum *right,
                              struct dbos_datum *out, struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_integer_check(enum dbos_type type, int64_t value,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;

/* like.c ------------------------------------------------------------------------------------------
 */

enum dbos_err dbos_like(struct dbos_bytes text, struct dbos_bytes pattern, bool ignore_case,
                        bool *out, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROCS_SQL_EXPR_H */
