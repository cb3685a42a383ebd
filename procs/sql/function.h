/* The functions of SQL: one table, searched by name and argument types.
 *
 * Thread: any; the tables are constant. Memory: results in the evaluation's arena. */
#ifndef DBOS_PROCS_SQL_FUNCTION_H
#define DBOS_PROCS_SQL_FUNCTION_H

#include "procs/sql/expr.h"

enum { DBOS_FUNCTION_ARGS_MAX = 4 };

enum dbos_volatility { DBOS_IMMUTABLE, DBOS_STABLE, DBOS_VOLATILE };

struct dbos_function {
    const char *name;
    uint8_t count;                        /* of args */
    uint8_t args[DBOS_FUNCTION_ARGS_MAX]; /* enum dbos_type; UNKNOWN = any */
    uint8_t result;
    uint8_t volatility; /* enum dbos_volatility */
    bool takes_null;    /* else NULL in, NULL out, without a call */
    bool variadic;      /* the last argument may come again and again */
    enum dbos_err (*call)(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                          struct dbos_datum *out);
};

struct dbos_function_table {
    const struct dbos_function *functions;
    uint32_t count;
};
/* function_math.c, function_text.c, function_time.c, function_bytes.c, function_session.c */
struct dbos_function_table dbos_functions_math(void);
struct dbos_function_table dbos_functions_text(void);
struct dbos_function_table dbos_functions_time(void);
struct dbos_function_table dbos_functions_bytes(void);
struct dbos_function_table dbos_functions_session(void);

enum dbos_found { DBOS_FOUND_NONE, DBOS_FOUND_ONE, DBOS_FOUND_MANY };
/* The function that PostgreSQL's rules choose: exact types, then implicit casts, then preferred
 * types; untyped literals go to text where a candidate takes it. */
enum dbos_found dbos_function_find(const char *name, const enum dbos_type *types, uint32_t count,
                                   const struct dbos_function **out);

/* Text of at most 50 MB in the arena. Errors: LIMIT, NOMEM. */
enum dbos_err dbos_eval_take(struct dbos_eval *eval, size_t size_bytes,
                             uint8_t **out) DBOS_MUST_USE;

#endif /* DBOS_PROCS_SQL_FUNCTION_H */
