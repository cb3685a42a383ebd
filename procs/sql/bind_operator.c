/* Operators: which there are for which types. */
#include "procs/sql/bind.h"

static const struct {
    const char *name;
    enum dbos_compare compare;
} comparisons[] = {
    {"=", DBOS_COMPARE_EQ},  {"<>", DBOS_COMPARE_NE}, {"<", DBOS_COMPARE_LT},
    {"<=", DBOS_COMPARE_LE}, {">", DBOS_COMPARE_GT},  {">=", DBOS_COMPARE_GE},
};

static int number_rank(enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_INT2:
        return 1;
    case DBOS_TYPE_INT4:
        return 2;
    case DBOS_TYPE_INT8:
        return 3;
    case DBOS_TYPE_FLOAT8:
        return 4;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_TIMESTAMPTZ:
    case DBOS_TYPE_VOID:
        break;
    }
    return 0;
}
static bool is_integer(enum dbos_type type) {
    return number_rank(type) >= 1 && number_rank(type) <= 3;
}
static bool is_text(enum dbos_type type) {
    return type == DBOS_TYPE_TEXT || type == DBOS_TYPE_VARCHAR;
}
static enum dbos_type type_of(const struct dbos_expr *expr) { return (enum dbos_type)expr->type; }

static uint32_t leftmost(const struct dbos_expr *left, uint32_t position) {
    return left != NULL && left->position != 0 && left->position < position ? left->position
                                                                            : position;
}

/* -- what does not exist --------------------------------------------------------------------------
 */

static void *no_operator(struct dbos_binder *binder, const char *name, enum dbos_type left,
                         const struct dbos_expr *right, uint32_t position, bool prefix) {
    const char *left_name = dbos_bind_type_name(left);
    const char *right_name = dbos_bind_type_name(type_of(right));
    if (left == DBOS_TYPE_UNKNOWN && type_of(right) == DBOS_TYPE_UNKNOWN) {
        (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_FUNCTION, position,
                             "operator is not unique: %s%s%s %s", prefix ? "" : left_name,
                             prefix ? "" : " ", name, right_name);
        if (binder->info != NULL) {
            memcpy(binder->info->sqlstate, "42725", sizeof "42725");
        }
        dbos_err_hint(binder->info, "Could not choose a best candidate operator. You might need "
                                    "to add explicit type casts.");
        return NULL;
    }
    (void)dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_FUNCTION, position,
                         "operator does not exist: %s%s%s %s", prefix ? "" : left_name,
                         prefix ? "" : " ", name, right_name);
    dbos_err_hint(binder->info,
                  prefix ? "No operator matches the given name and argument type. You might need "
                           "to add an explicit type cast."
                         : "No operator matches the given name and argument types. You might need "
                           "to add explicit type casts.");
    return NULL;
}

/* An untyped side takes the other side's type (text for varchar). False = failed. */
static bool settle(struct dbos_binder *binder, struct dbos_expr **left, struct dbos_expr **right) {
    enum dbos_type types[2] = {type_of(*left), type_of(*right)};
    struct dbos_expr **sides[2] = {left, right};
    for (uint32_t i = 0; i < 2; i++) {
        enum dbos_type other = types[1 - i];
        if (types[i] == DBOS_TYPE_UNKNOWN && other != DBOS_TYPE_UNKNOWN) {
            enum dbos_type wanted = other == DBOS_TYPE_VARCHAR ? DBOS_TYPE_TEXT : other;
            *sides[i] = dbos_coerce(binder, *sides[i], wanted, DBOS_CAST_IMPLICIT);
            return *sides[i] != NULL;
        }
    }
    return true;
}

static struct dbos_expr *binary(struct dbos_binder *binder, enum dbos_expr_kind kind,
                                enum dbos_type type, uint32_t number, struct dbos_expr *left,
                                struct dbos_expr *right, uint32_t position) {
    if (left == NULL || right == NULL) {
        return NULL;
    }
    struct dbos_expr *expr = dbos_expr_new(binder, kind, type, leftmost(left, position), 2);
    if (expr != NULL) {
        expr->number = number;
        expr->args[0] = left;
        expr->args[1] = right;
    }
    return expr;
}

/* -- comparisons ----------------------------------------------------------------------------------
 */

struct dbos_expr *dbos_bind_compare(struct dbos_binder *binder, enum dbos_compare compare,
                                    struct dbos_expr *left, struct dbos_expr *right,
                                    uint32_t position) {
    const char *name = comparisons[compare].name;
    enum dbos_type left_type = type_of(left);
    if (left_type == DBOS_TYPE_UNKNOWN && type_of(right) == DBOS_TYPE_UNKNOWN) {
        left = dbos_coerce_unknown(binder, left);
        right = left == NULL ? NULL : dbos_coerce_unknown(binder, right);
        return binary(binder, DBOS_EXPR_COMPARE, DBOS_TYPE_BOOL, compare, left, right, position);
    }
    if (!settle(binder, &left, &right)) {
        return NULL;
    }
    enum dbos_type a = type_of(left);
    enum dbos_type b = type_of(right);
    if (!dbos_type_comparable(a, b)) {
        if (number_rank(a) == 0 || number_rank(b) == 0) {
            return no_operator(binder, name, left_type, right, position, false);
        }
        left = dbos_coerce(binder, left, DBOS_TYPE_FLOAT8, DBOS_CAST_IMPLICIT);
        right =
            left == NULL ? NULL : dbos_coerce(binder, right, DBOS_TYPE_FLOAT8, DBOS_CAST_IMPLICIT);
    } else if (a == DBOS_TYPE_VOID) {
        return no_operator(binder, name, left_type, right, position, false);
    }
    return binary(binder, DBOS_EXPR_COMPARE, DBOS_TYPE_BOOL, compare, left, right, position);
}

/* -- the others -----------------------------------------------------------------------------------
 */

/* time - time, and time +- '1 day': of or with a type that is not here. */
static bool needs_interval(const char *name, enum dbos_type left, enum dbos_type right) {
    bool left_time = left == DBOS_TYPE_TIMESTAMPTZ;
    bool right_time = right == DBOS_TYPE_TIMESTAMPTZ;
    return (name[0] == '-' && left_time && (right_time || right == DBOS_TYPE_UNKNOWN)) ||
           (name[0] == '+' && left_time && right == DBOS_TYPE_UNKNOWN) ||
           (name[0] == '+' && right_time && left == DBOS_TYPE_UNKNOWN);
}

static struct dbos_expr *bind_arithmetic(struct dbos_binder *binder, const char *name,
                                         struct dbos_expr *left, struct dbos_expr *right,
                                         uint32_t position) {
    bool bits = strchr("&|#<>", name[0]) != NULL;
    enum dbos_type left_type = type_of(left);
    if (needs_interval(name, left_type, type_of(right))) {
        return dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, position,
                              "type interval is not supported");
    }
    const struct dbos_expr *right_given = right;
    if (!settle(binder, &left, &right)) {
        return NULL;
    }
    int rank_left = number_rank(type_of(left));
    int rank_right = number_rank(type_of(right));
    bool integers = is_integer(type_of(left)) && is_integer(type_of(right));
    if (rank_left == 0 || rank_right == 0 || ((bits || name[0] == '%') && !integers)) {
        return no_operator(binder, name, left_type, right_given, position, false);
    }
    enum dbos_type type = rank_left >= rank_right || name[0] == '<' || name[0] == '>'
                              ? type_of(left)
                              : type_of(right);
    type = name[0] == '^' ? DBOS_TYPE_FLOAT8 : type;
    enum dbos_cast_context context =
        name[0] == '<' || name[0] == '>' ? DBOS_CAST_ASSIGNMENT : DBOS_CAST_IMPLICIT;
    left = dbos_coerce(binder, left, type, context);
    right = left == NULL ? NULL : dbos_coerce(binder, right, type, context);
    return binary(binder, DBOS_EXPR_ARITHMETIC, type, (uint32_t)name[0], left, right, position);
}

static struct dbos_expr *bind_concat(struct dbos_binder *binder, struct dbos_expr *left,
                                     struct dbos_expr *right, uint32_t position) {
    enum dbos_type a = type_of(left);
    enum dbos_type b = type_of(right);
    bool some_text = is_text(a) || is_text(b);
    bool some_unknown = a == DBOS_TYPE_UNKNOWN || b == DBOS_TYPE_UNKNOWN;
    bool some_bytea = a == DBOS_TYPE_BYTEA || b == DBOS_TYPE_BYTEA;
    enum dbos_type type =
        some_bytea && !some_text && (a == b || some_unknown) ? DBOS_TYPE_BYTEA : DBOS_TYPE_TEXT;
    if (type == DBOS_TYPE_TEXT && !some_text && !some_unknown) {
        return no_operator(binder, "||", a, right, position, false);
    }
    left = dbos_coerce(binder, left, type, DBOS_CAST_ASSIGNMENT);
    right = left == NULL ? NULL : dbos_coerce(binder, right, type, DBOS_CAST_ASSIGNMENT);
    return binary(binder, DBOS_EXPR_CONCAT, type, 0, left, right, position);
}

/* ~~ is LIKE, ~~* ILIKE, and ! before them NOT. */
static struct dbos_expr *bind_like(struct dbos_binder *binder, const char *name,
                                   struct dbos_expr *left, struct dbos_expr *right,
                                   uint32_t position) {
    enum dbos_type a = type_of(left);
    enum dbos_type b = type_of(right);
    if ((a != DBOS_TYPE_UNKNOWN && !is_text(a)) || (b != DBOS_TYPE_UNKNOWN && !is_text(b))) {
        return no_operator(binder, name, a, right, position, false);
    }
    left = dbos_coerce_unknown(binder, left);
    right = left == NULL ? NULL : dbos_coerce_unknown(binder, right);
    struct dbos_expr *expr = binary(binder, DBOS_EXPR_LIKE, DBOS_TYPE_BOOL,
                                    name[strlen(name) - 1] == '*' ? 1 : 0, left, right, position);
    if (expr != NULL) {
        expr->negated = name[0] == '!';
    }
    return expr;
}

static struct dbos_expr *bind_prefix(struct dbos_binder *binder, const char *name,
                                     struct dbos_expr *arg, uint32_t position) {
    enum dbos_type type = type_of(arg);
    bool known = strcmp(name, "-") == 0 || strcmp(name, "+") == 0;
    if (!(known && number_rank(type) != 0) && !(strcmp(name, "~") == 0 && is_integer(type))) {
        return no_operator(binder, name, DBOS_TYPE_UNKNOWN, arg, position, true);
    }
    if (name[0] == '+') {
        return arg;
    }
    struct dbos_expr *expr = dbos_expr_new(binder, DBOS_EXPR_NEGATE, type, position, 1);
    if (expr != NULL) {
        expr->number = (uint32_t)name[0];
        expr->args[0] = arg;
    }
    return expr;
}

struct dbos_expr *dbos_bind_operator(struct dbos_binder *binder, const char *name,
                                     struct dbos_expr *left, struct dbos_expr *right,
                                     uint32_t position) {
    static const char *const arithmetic[] = {"+", "-", "*", "/",  "%", "^",
                                             "&", "|", "#", "<<", ">>"};
    if (right == NULL) {
        return bind_prefix(binder, name, left, position);
    }
    for (size_t i = 0; i < sizeof comparisons / sizeof comparisons[0]; i++) {
        if (strcmp(comparisons[i].name, name) == 0) {
            return dbos_bind_compare(binder, comparisons[i].compare, left, right, position);
        }
    }
    for (size_t i = 0; i < sizeof arithmetic / sizeof arithmetic[0]; i++) {
        if (strcmp(arithmetic[i], name) == 0) {
            return bind_arithmetic(binder, name, left, right, position);
        }
    }
    if (strcmp(name, "||") == 0) {
        return bind_concat(binder, left, right, position);
    }
    if (strcmp(name, "~~") == 0 || strcmp(name, "!~~") == 0 || strcmp(name, "~~*") == 0 ||
        strcmp(name, "!~~*") == 0) {
        return bind_like(binder, name, left, right, position);
    }
    if (name[0] == '~' || strcmp(name, "!~") == 0 || strcmp(name, "!~*") == 0) {
        return dbos_bind_fail(binder, DBOS_ERR_NOT_SUPPORTED, position,
                              "a regular expression is not supported");
    }
    return no_operator(binder, name, type_of(left), right, position, false);
}
