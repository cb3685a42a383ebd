/* Evaluation. */
#include "procs/sql/expr.h"

#include "procs/sql/function.h"
#include "procs/sql/type_io.h"

/* -- helpers --------------------------------------------------------------------------------------
 */

static struct dbos_datum truth(bool value) { return dbos_datum_int(DBOS_TYPE_BOOL, value ? 1 : 0); }
static struct dbos_datum unknown(void) { return dbos_datum_null(DBOS_TYPE_BOOL); }

/* Both operands; *either_null says that one of them is NULL. */
static enum dbos_err eval_two(const struct dbos_expr *expr, struct dbos_eval *eval,
                              struct dbos_datum values[2], bool *either_null) {
    enum dbos_err err = dbos_expr_eval(expr->args[0], eval, &values[0]);
    if (err == DBOS_OK) {
        err = dbos_expr_eval(expr->args[1], eval, &values[1]);
    }
    *either_null = err == DBOS_OK && (values[0].is_null || values[1].is_null);
    return err;
}

enum dbos_err dbos_expr_test(const struct dbos_expr *expr, struct dbos_eval *eval, bool *out) {
    struct dbos_datum value;
    enum dbos_err err = dbos_expr_eval(expr, eval, &value);
    *out = err == DBOS_OK && !value.is_null && value.integer != 0;
    return err;
}

/* -- one kind each --------------------------------------------------------------------------------
 */

static enum dbos_err eval_column(const struct dbos_expr *expr, struct dbos_eval *eval,
                                 struct dbos_datum *out) {
    *out = eval->row != NULL ? dbos_row_column(eval->def, eval->row, expr->number)
                             : eval->values[expr->number];
    return DBOS_OK;
}

static enum dbos_err eval_cast(const struct dbos_expr *expr, struct dbos_eval *eval,
                               struct dbos_datum *out) {
    struct dbos_datum from;
    struct dbos_cast cast = {.to = (enum dbos_type)expr->type,
                             .chars_max = expr->chars_max,
                             .is_explicit = expr->explicit_cast};
    enum dbos_err err = dbos_expr_eval(expr->args[0], eval, &from);
    return err != DBOS_OK ? err : dbos_cast_datum(&from, &cast, eval->arena, out, eval->info);
}

static enum dbos_err eval_call(const struct dbos_expr *expr, struct dbos_eval *eval,
                               struct dbos_datum *out) {
    struct dbos_datum few[8];
    struct dbos_datum *args = few;
    if (expr->count > 8) {
        args = dbos_arena_take(eval->arena, expr->count * sizeof *args);
        if (args == NULL) {
            return dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
        }
    }
    bool any_null = false;
    for (uint32_t i = 0; i < expr->count; i++) {
        enum dbos_err err = dbos_expr_eval(expr->args[i], eval, &args[i]);
        if (err != DBOS_OK) {
            return err;
        }
        any_null = any_null || args[i].is_null;
    }
    *out = dbos_datum_null((enum dbos_type)expr->type);
    if (any_null && !expr->function->takes_null) {
        return DBOS_OK;
    }
    return expr->function->call(eval, args, expr->count, out);
}

static enum dbos_err eval_arithmetic(const struct dbos_expr *expr, struct dbos_eval *eval,
                                     struct dbos_datum *out) {
    struct dbos_datum values[2];
    bool either_null;
    enum dbos_err err = eval_two(expr, eval, values, &either_null);
    if (err != DBOS_OK || either_null) {
        *out = dbos_datum_null((enum dbos_type)expr->type);
        return err;
    }
    return dbos_arithmetic(expr->number, (enum dbos_type)expr->type, &values[0], &values[1], out,
                           eval->info);
}

static enum dbos_err eval_negate(const struct dbos_expr *expr, struct dbos_eval *eval,
                                 struct dbos_datum *out) {
    enum dbos_err err = dbos_expr_eval(expr->args[0], eval, out);
    if (err != DBOS_OK || out->is_null) {
        return err;
    }
    if (expr->type == DBOS_TYPE_FLOAT8) {
        out->real = -out->real;
        return DBOS_OK;
    }
    if (expr->number == '~') {
        out->integer = ~out->integer;
        return DBOS_OK;
    }
    struct dbos_datum zero = dbos_datum_int((enum dbos_type)expr->type, 0);
    struct dbos_datum value = *out;
    return dbos_arithmetic('-', (enum dbos_type)expr->type, &zero, &value, out, eval->info);
}

static enum dbos_err eval_concat(const struct dbos_expr *expr, struct dbos_eval *eval,
                                 struct dbos_datum *out) {
    struct dbos_datum values[2];
    bool either_null;
    enum dbos_err err = eval_two(expr, eval, values, &either_null);
    *out = dbos_datum_null((enum dbos_type)expr->type);
    if (err != DBOS_OK || either_null) {
        return err;
    }
    size_t left = values[0].bytes.size_bytes;
    size_t right = values[1].bytes.size_bytes;
    uint8_t *data;
    err = dbos_eval_take(eval, left + right, &data);
    if (err != DBOS_OK) {
        return err;
    }
    memcpy(data, left == 0 ? (const uint8_t *)"" : values[0].bytes.data, left);
    memcpy(data + left, right == 0 ? (const uint8_t *)"" : values[1].bytes.data, right);
    *out = dbos_datum_bytes((enum dbos_type)expr->type, data, left + right);
    return DBOS_OK;
}

static enum dbos_err eval_like(const struct dbos_expr *expr, struct dbos_eval *eval,
                               struct dbos_datum *out) {
    struct dbos_datum values[2];
    bool either_null;
    bool matches = false;
    enum dbos_err err = eval_two(expr, eval, values, &either_null);
    *out = unknown();
    if (err != DBOS_OK || either_null) {
        return err;
    }
    err = dbos_like(values[0].bytes, values[1].bytes, expr->number == 1, &matches, eval->info);
    *out = truth(matches != expr->negated);
    return err;
}

static bool holds(enum dbos_compare compare, int order) {
    switch (compare) {
    case DBOS_COMPARE_EQ:
        return order == 0;
    case DBOS_COMPARE_NE:
        return order != 0;
    case DBOS_COMPARE_LT:
        return order < 0;
    case DBOS_COMPARE_LE:
        return order <= 0;
    case DBOS_COMPARE_GT:
        return order > 0;
    case DBOS_COMPARE_GE:
        break;
    }
    return order >= 0;
}

static enum dbos_err eval_compare(const struct dbos_expr *expr, struct dbos_eval *eval,
                                  struct dbos_datum *out) {
    struct dbos_datum values[2];
    bool either_null;
    enum dbos_err err = eval_two(expr, eval, values, &either_null);
    *out = unknown();
    if (err == DBOS_OK && !either_null) {
        *out = truth(
            holds((enum dbos_compare)expr->number, dbos_datum_compare(&values[0], &values[1])));
    }
    return err;
}

/* AND stops at false, OR at true; without either, NULL wins. */
static enum dbos_err eval_and_or(const struct dbos_expr *expr, struct dbos_eval *eval,
                                 struct dbos_datum *out) {
    bool decides = expr->kind == DBOS_EXPR_OR;
    bool any_null = false;
    for (uint32_t i = 0; i < expr->count; i++) {
        struct dbos_datum value;
        enum dbos_err err = dbos_expr_eval(expr->args[i], eval, &value);
        if (err != DBOS_OK) {
            return err;
        }
        if (!value.is_null && (value.integer != 0) == decides) {
            *out = truth(decides);
            return DBOS_OK;
        }
        any_null = any_null || value.is_null;
    }
    *out = any_null ? unknown() : truth(!decides);
    return DBOS_OK;
}

static enum dbos_err eval_not(const struct dbos_expr *expr, struct dbos_eval *eval,
                              struct dbos_datum *out) {
    enum dbos_err err = dbos_expr_eval(expr->args[0], eval, out);
    if (err == DBOS_OK && !out->is_null) {
        *out = truth(out->integer == 0);
    }
    return err;
}

static enum dbos_err eval_is(const struct dbos_expr *expr, struct dbos_eval *eval,
                             struct dbos_datum *out) {
    struct dbos_datum value;
    enum dbos_err err = dbos_expr_eval(expr->args[0], eval, &value);
    if (err != DBOS_OK) {
        return err;
    }
    bool is = value.is_null;
    if (expr->kind == DBOS_EXPR_IS_BOOL && expr->number < 2) {
        is = !value.is_null && (value.integer != 0) == (expr->number == 1);
    }
    *out = truth(is != expr->negated);
    return DBOS_OK;
}

static enum dbos_err eval_distinct(const struct dbos_expr *expr, struct dbos_eval *eval,
                                   struct dbos_datum *out) {
    struct dbos_datum values[2];
    bool either_null;
    enum dbos_err err = eval_two(expr, eval, values, &either_null);
    if (err != DBOS_OK) {
        return err;
    }
    bool differ = either_null ? values[0].is_null != values[1].is_null
                              : dbos_datum_compare(&values[0], &values[1]) != 0;
    *out = truth(differ != expr->negated);
    return DBOS_OK;
}

static enum dbos_err eval_case(const struct dbos_expr *expr, struct dbos_eval *eval,
                               struct dbos_datum *out) {
    uint32_t i = 0;
    for (; i + 1 < expr->count; i += 2) {
        bool is = false;
        enum dbos_err err = dbos_expr_test(expr->args[i], eval, &is);
        if (err != DBOS_OK) {
            return err;
        }
        if (is) {
            return dbos_expr_eval(expr->args[i + 1], eval, out);
        }
    }
    return dbos_expr_eval(expr->args[i], eval, out);
}

static enum dbos_err eval_coalesce(const struct dbos_expr *expr, struct dbos_eval *eval,
                                   struct dbos_datum *out) {
    *out = dbos_datum_null((enum dbos_type)expr->type);
    for (uint32_t i = 0; i < expr->count; i++) {
        enum dbos_err err = dbos_expr_eval(expr->args[i], eval, out);
        if (err != DBOS_OK || !out->is_null) {
            return err;
        }
    }
    return DBOS_OK;
}

static enum dbos_err eval_extreme(const struct dbos_expr *expr, struct dbos_eval *eval,
                                  struct dbos_datum *out) {
    *out = dbos_datum_null((enum dbos_type)expr->type);
    for (uint32_t i = 0; i < expr->count; i++) {
        struct dbos_datum value;
        enum dbos_err err = dbos_expr_eval(expr->args[i], eval, &value);
        if (err != DBOS_OK) {
            return err;
        }
        if (value.is_null) {
            continue;
        }
        int order = out->is_null ? 0 : dbos_datum_compare(&value, out);
        if (out->is_null || (expr->kind == DBOS_EXPR_GREATEST ? order > 0 : order < 0)) {
            *out = value;
        }
    }
    return DBOS_OK;
}

static enum dbos_err eval_nullif(const struct dbos_expr *expr, struct dbos_eval *eval,
                                 struct dbos_datum *out) {
    bool equal = false;
    enum dbos_err err = dbos_expr_test(expr->args[1], eval, &equal);
    if (err != DBOS_OK || equal) {
        *out = dbos_datum_null((enum dbos_type)expr->type);
        return err;
    }
    return dbos_expr_eval(expr->args[0], eval, out);
}

enum dbos_err dbos_expr_compute(const struct dbos_expr *expr, struct dbos_eval *eval,
                                struct dbos_datum *out) {
    switch ((enum dbos_expr_kind)expr->kind) {
    case DBOS_EXPR_CONST:
    case DBOS_EXPR_PARAMETER:
        return dbos_expr_eval(expr, eval, out);
    case DBOS_EXPR_COLUMN:
        return eval_column(expr, eval, out);
    case DBOS_EXPR_CAST:
        return eval_cast(expr, eval, out);
    case DBOS_EXPR_CALL:
        return eval_call(expr, eval, out);
    case DBOS_EXPR_ARITHMETIC:
        return eval_arithmetic(expr, eval, out);
    case DBOS_EXPR_NEGATE:
        return eval_negate(expr, eval, out);
    case DBOS_EXPR_CONCAT:
        return eval_concat(expr, eval, out);
    case DBOS_EXPR_LIKE:
        return eval_like(expr, eval, out);
    case DBOS_EXPR_COMPARE:
        return eval_compare(expr, eval, out);
    case DBOS_EXPR_AND:
    case DBOS_EXPR_OR:
        return eval_and_or(expr, eval, out);
    case DBOS_EXPR_NOT:
        return eval_not(expr, eval, out);
    case DBOS_EXPR_IS_NULL:
    case DBOS_EXPR_IS_BOOL:
        return eval_is(expr, eval, out);
    case DBOS_EXPR_DISTINCT:
        return eval_distinct(expr, eval, out);
    case DBOS_EXPR_CASE:
        return eval_case(expr, eval, out);
    case DBOS_EXPR_COALESCE:
        return eval_coalesce(expr, eval, out);
    case DBOS_EXPR_GREATEST:
    case DBOS_EXPR_LEAST:
        return eval_extreme(expr, eval, out);
    case DBOS_EXPR_NULLIF:
        return eval_nullif(expr, eval, out);
    case DBOS_EXPR_AGGREGATE:
        *out = eval->aggregates[expr->number];
        return DBOS_OK;
    case DBOS_EXPR_GROUP:
        *out = eval->groups[expr->number];
        return DBOS_OK;
    }
    DBOS_CHECK(!"no such expression");
    return DBOS_ERR_INTERNAL;
}

/* -- looking at expressions -----------------------------------------------------------------------
 */

static bool same_value(const struct dbos_datum *a, const struct dbos_datum *b) {
    if (a->type != b->type || a->is_null != b->is_null) {
        return false;
    }
    if (a->is_null) {
        return true;
    }
    if (dbos_type_is_bytes((enum dbos_type)a->type) || a->type == DBOS_TYPE_UNKNOWN) {
        return a->bytes.size_bytes == b->bytes.size_bytes &&
               (a->bytes.size_bytes == 0 ||
                memcmp(a->bytes.data, b->bytes.data, a->bytes.size_bytes) == 0);
    }
    return a->integer == b->integer; /* a double's bits, too */
}

bool dbos_expr_equal(const struct dbos_expr *a, const struct dbos_expr *b) {
    if (a->kind != b->kind || a->type != b->type || a->negated != b->negated ||
        a->chars_max != b->chars_max || a->number != b->number || a->count != b->count ||
        a->function != b->function || a->explicit_cast != b->explicit_cast ||
        (a->kind == DBOS_EXPR_CONST && !same_value(&a->value, &b->value))) {
        return false;
    }
    for (uint32_t i = 0; i < a->count; i++) {
        if (!dbos_expr_equal(a->args[i], b->args[i])) {
            return false;
        }
    }
    return true;
}

void dbos_expr_uses(const struct dbos_expr *expr, struct dbos_expr_uses *uses) {
    uses->columns = uses->columns || expr->kind == DBOS_EXPR_COLUMN;
    uses->aggregates =
        uses->aggregates || expr->kind == DBOS_EXPR_AGGREGATE || expr->kind == DBOS_EXPR_GROUP;
    if (expr->kind == DBOS_EXPR_CALL) {
        uses->volatile_functions =
            uses->volatile_functions || expr->function->volatility == DBOS_VOLATILE;
        uses->stable_functions =
            uses->stable_functions || expr->function->volatility == DBOS_STABLE;
    }
    for (uint32_t i = 0; i < expr->count; i++) {
        dbos_expr_uses(expr->args[i], uses);
    }
}
