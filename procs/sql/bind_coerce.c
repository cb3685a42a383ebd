/* Types of literals and parameters, and casts. */
#include "procs/sql/bind.h"
#include "procs/sql/type_io.h"

const char *dbos_bind_type_name(enum dbos_type type) {
    return type == DBOS_TYPE_UNKNOWN ? "unknown" : dbos_type_name(type);
}

struct dbos_expr *dbos_expr_new(struct dbos_binder *binder, enum dbos_expr_kind kind,
                                enum dbos_type type, uint32_t position, uint32_t count) {
    struct dbos_expr *expr = dbos_bind_take(binder, sizeof *expr);
    if (expr == NULL) {
        return NULL;
    }
    expr->kind = (uint8_t)kind;
    expr->type = (uint8_t)type;
    expr->position = position;
    expr->count = count;
    if (count != 0) {
        expr->args = dbos_bind_take(binder, count * sizeof(struct dbos_expr *));
    }
    return count != 0 && expr->args == NULL ? NULL : expr;
}

/* -- literals and parameters ----------------------------------------------------------------------
 */

static struct dbos_expr *literal_as(struct dbos_binder *binder, const struct dbos_expr *literal,
                                    enum dbos_type type) {
    struct dbos_expr *typed = dbos_expr_new(binder, DBOS_EXPR_CONST, type, literal->position, 0);
    if (typed == NULL) {
        return NULL;
    }
    if (literal->value.is_null) {
        typed->value = dbos_datum_null(type);
        return typed;
    }
    binder->err =
        dbos_text_in(type, (const char *)literal->value.bytes.data, literal->value.bytes.size_bytes,
                     binder->arena, &typed->value, binder->info);
    if (binder->err != DBOS_OK) {
        if (binder->info != NULL) {
            binder->info->position = literal->position;
        }
        return NULL;
    }
    return typed;
}

/* The first use decides a parameter's type. */
static struct dbos_expr *parameter_as(struct dbos_binder *binder, struct dbos_expr *parameter,
                                      enum dbos_type type) {
    enum dbos_type *known = &binder->types[parameter->number];
    if (*known != DBOS_TYPE_UNKNOWN && *known != type) {
        (void)dbos_bind_fail(binder, DBOS_ERR_INDETERMINATE_TYPE, parameter->position,
                             "inconsistent types deduced for parameter $%u", parameter->number + 1);
        if (binder->info != NULL) {
            memcpy(binder->info->sqlstate, "42P08", sizeof "42P08");
            dbos_err_detail(binder->info, "%s versus %s", dbos_type_name(*known),
                            dbos_type_name(type));
        }
        return NULL;
    }
    *known = type;
    parameter->type = (uint8_t)type;
    return parameter;
}

static struct dbos_expr *cast_node(struct dbos_binder *binder, struct dbos_expr *expr,
                                   enum dbos_type type, uint32_t chars_max, bool is_explicit) {
    struct dbos_expr *cast = dbos_expr_new(binder, DBOS_EXPR_CAST, type, expr->position, 1);
    if (cast != NULL) {
        cast->args[0] = expr;
        cast->chars_max = chars_max;
        cast->explicit_cast = is_explicit;
    }
    return cast;
}

/* An integer literal is of its type at once: no cast at run time. */
static bool fold_integer(struct dbos_expr *expr, enum dbos_type type) {
    return expr->kind == DBOS_EXPR_CONST && !expr->value.is_null &&
           (expr->type == DBOS_TYPE_INT2 || expr->type == DBOS_TYPE_INT4) &&
           (type == DBOS_TYPE_INT4 || type == DBOS_TYPE_INT8);
}

struct dbos_expr *dbos_coerce(struct dbos_binder *binder, struct dbos_expr *expr,
                              enum dbos_type type, enum dbos_cast_context context) {
    enum dbos_type from = (enum dbos_type)expr->type;
    if (from == type) {
        return expr;
    }
    if (from == DBOS_TYPE_UNKNOWN) {
        return expr->kind == DBOS_EXPR_PARAMETER ? parameter_as(binder, expr, type)
                                                 : literal_as(binder, expr, type);
    }
    enum dbos_cast_context needs = dbos_cast_context(from, type);
    if (needs == DBOS_CAST_NONE || needs < context) {
        return NULL;
    }
    if (fold_integer(expr, type)) {
        struct dbos_expr *wide = dbos_expr_new(binder, DBOS_EXPR_CONST, type, expr->position, 0);
        if (wide != NULL) {
            wide->value = dbos_datum_int(type, expr->value.integer);
        }
        return wide;
    }
    return cast_node(binder, expr, type, 0, context == DBOS_CAST_EXPLICIT);
}

struct dbos_expr *dbos_coerce_unknown(struct dbos_binder *binder, struct dbos_expr *expr) {
    return expr->type == DBOS_TYPE_UNKNOWN
               ? dbos_coerce(binder, expr, DBOS_TYPE_TEXT, DBOS_CAST_IMPLICIT)
               : expr;
}

static struct dbos_expr *with_length(struct dbos_binder *binder, struct dbos_expr *expr,
                                     uint32_t chars_max, bool is_explicit) {
    if (chars_max == 0 || (expr->kind == DBOS_EXPR_COLUMN && expr->chars_max == chars_max) ||
        (expr->kind == DBOS_EXPR_CONST && expr->value.is_null)) {
        return expr;
    }
    return cast_node(binder, expr, DBOS_TYPE_VARCHAR, chars_max, is_explicit);
}

struct dbos_expr *dbos_coerce_column(struct dbos_binder *binder, struct dbos_expr *expr,
                                     const struct dbos_column *column) {
    struct dbos_expr *value =
        dbos_coerce(binder, expr, (enum dbos_type)column->type, DBOS_CAST_ASSIGNMENT);
    if (value == NULL && binder->err == DBOS_OK) {
        (void)dbos_bind_fail(binder, DBOS_ERR_DATATYPE_MISMATCH, expr->position,
                             "column \"%s\" is of type %s but expression is of type %s",
                             column->name, dbos_type_name((enum dbos_type)column->type),
                             dbos_bind_type_name((enum dbos_type)expr->type));
        dbos_err_hint(binder->info, "You will need to rewrite or cast the expression.");
    }
    return value == NULL ? NULL : with_length(binder, value, column->chars_max, false);
}

struct dbos_expr *dbos_coerce_explicit(struct dbos_binder *binder, struct dbos_expr *expr,
                                       const struct dbos_ast_type *type, uint32_t position) {
    struct dbos_expr *value = dbos_coerce(binder, expr, type->type, DBOS_CAST_EXPLICIT);
    if (value == NULL && binder->err == DBOS_OK) {
        return dbos_bind_fail(binder, DBOS_ERR_CANNOT_COERCE, position, "cannot cast type %s to %s",
                              dbos_bind_type_name((enum dbos_type)expr->type),
                              dbos_type_name(type->type));
    }
    return value == NULL ? NULL : with_length(binder, value, type->chars_max, true);
}

struct dbos_expr *dbos_coerce_bool(struct dbos_binder *binder, struct dbos_expr *expr,
                                   const char *clause) {
    struct dbos_expr *value = dbos_coerce(binder, expr, DBOS_TYPE_BOOL, DBOS_CAST_ASSIGNMENT);
    if (value == NULL && binder->err == DBOS_OK) {
        return dbos_bind_fail(binder, DBOS_ERR_DATATYPE_MISMATCH, expr->position,
                              "argument of %s must be type boolean, not type %s", clause,
                              dbos_bind_type_name((enum dbos_type)expr->type));
    }
    return value;
}

/* -- one type for several -------------------------------------------------------------------------
 */

enum category { CATEGORY_NUMBER, CATEGORY_STRING, CATEGORY_OTHER };

static enum category category_of(enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_FLOAT8:
        return CATEGORY_NUMBER;
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        return CATEGORY_STRING;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_TIMESTAMPTZ:
    case DBOS_TYPE_VOID:
        break;
    }
    return CATEGORY_OTHER;
}

static bool is_preferred(enum dbos_type type) {
    return type == DBOS_TYPE_FLOAT8 || type == DBOS_TYPE_TEXT;
}

static enum dbos_type choose_common(struct dbos_binder *binder, struct dbos_expr **args,
                                    uint32_t count, const char *what) {
    enum dbos_type type = DBOS_TYPE_UNKNOWN;
    for (uint32_t i = 0; i < count; i++) {
        enum dbos_type next = (enum dbos_type)args[i]->type;
        if (next == DBOS_TYPE_UNKNOWN || next == type) {
            continue;
        }
        if (type == DBOS_TYPE_UNKNOWN) {
            type = next;
        } else if (category_of(type) != category_of(next) || category_of(type) == CATEGORY_OTHER) {
            (void)dbos_bind_fail(binder, DBOS_ERR_DATATYPE_MISMATCH, args[i]->position,
                                 "%s types %s and %s cannot be matched", what, dbos_type_name(type),
                                 dbos_type_name(next));
            return DBOS_TYPE_UNKNOWN;
        } else if (!is_preferred(type) && dbos_cast_context(type, next) == DBOS_CAST_IMPLICIT &&
                   (dbos_cast_context(next, type) != DBOS_CAST_IMPLICIT)) {
            type = next;
        }
    }
    return type == DBOS_TYPE_UNKNOWN ? DBOS_TYPE_TEXT : type;
}

enum dbos_type dbos_coerce_common(struct dbos_binder *binder, struct dbos_expr **args,
                                  uint32_t count, const char *what) {
    enum dbos_type type = choose_common(binder, args, count, what);
    for (uint32_t i = 0; i < count && type != DBOS_TYPE_UNKNOWN; i++) {
        struct dbos_expr *value = dbos_coerce(binder, args[i], type, DBOS_CAST_IMPLICIT);
        if (value == NULL) {
            if (binder->err == DBOS_OK) {
                (void)dbos_bind_fail(binder, DBOS_ERR_CANNOT_COERCE, args[i]->position,
                                     "%s could not convert type %s to %s", what,
                                     dbos_bind_type_name((enum dbos_type)args[i]->type),
                                     dbos_type_name(type));
            }
            return DBOS_TYPE_UNKNOWN;
        }
        args[i] = value;
    }
    return type;
}
