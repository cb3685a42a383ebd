/* Operators on numbers, with PostgreSQL's errors. */
#include <math.h>

#include "procs/sql/expr.h"

static enum dbos_err overflow(enum dbos_type type, struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range", dbos_type_name(type));
}
static enum dbos_err by_zero(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_DIVISION_BY_ZERO, "division by zero");
}

/* Shifts count modulo the width, as in C on PostgreSQL's machines. */
static int64_t shift(uint32_t operation, enum dbos_type type, int64_t left, int64_t right) {
    uint32_t mask = type == DBOS_TYPE_INT8 ? 63 : 31;
    uint32_t by = (uint32_t)right & mask;
    if (operation == '>') {
        return left >> by;
    }
    uint64_t shifted = (uint64_t)left << by;
    if (type == DBOS_TYPE_INT8) {
        return (int64_t)shifted;
    }
    return type == DBOS_TYPE_INT4 ? (int32_t)(uint32_t)shifted : (int16_t)(uint16_t)shifted;
}

static enum dbos_err divide(uint32_t operation, enum dbos_type type, int64_t left, int64_t right,
                            int64_t *out, struct dbos_errinfo *info) {
    if (right == 0) {
        return by_zero(info);
    }
    if (right == -1) { /* the smallest value has no opposite */
        *out = 0;
        return operation == '/' && __builtin_sub_overflow(INT64_C(0), left, out)
                   ? overflow(type, info)
                   : DBOS_OK;
    }
    *out = operation == '/' ? left / right : left % right;
    return DBOS_OK;
}

static enum dbos_err on_integers(uint32_t operation, enum dbos_type type, int64_t left,
                                 int64_t right, struct dbos_datum *out, struct dbos_errinfo *info) {
    int64_t value = 0;
    bool failed = false;
    enum dbos_err err = DBOS_OK;
    switch (operation) {
    case '+':
        failed = __builtin_add_overflow(left, right, &value);
        break;
    case '-':
        failed = __builtin_sub_overflow(left, right, &value);
        break;
    case '*':
        failed = __builtin_mul_overflow(left, right, &value);
        break;
    case '/':
    case '%':
        err = divide(operation, type, left, right, &value, info);
        break;
    case '&':
        value = left & right;
        break;
    case '|':
        value = left | right;
        break;
    case '#':
        value = left ^ right;
        break;
    case '<':
    case '>':
        value = shift(operation, type, left, right);
        break;
    default:
        DBOS_CHECK(!"no such operation on integers");
    }
    if (err != DBOS_OK || failed) {
        return failed ? overflow(type, info) : err;
    }
    *out = dbos_datum_int(type, value);
    return dbos_integer_check(type, value, info);
}

static enum dbos_err power(double left, double right, double *out, struct dbos_errinfo *info) {
    if (left == 0 && right < 0) {
        return dbos_fail_state(info, DBOS_ERR_INVALID_PARAMETER, "2201F",
                               "zero raised to a negative power is undefined");
    }
    if (left < 0 && isfinite(right) && floor(right) != right) {
        return dbos_fail_state(
            info, DBOS_ERR_INVALID_PARAMETER, "2201F",
            "a negative number raised to a non-integer power yields a complex result");
    }
    *out = pow(left, right);
    return DBOS_OK;
}

static enum dbos_err on_reals(uint32_t operation, double left, double right, struct dbos_datum *out,
                              struct dbos_errinfo *info) {
    double value = 0;
    bool may_underflow = false;
    switch (operation) {
    case '+':
        value = left + right;
        break;
    case '-':
        value = left - right;
        break;
    case '*':
        value = left * right;
        may_underflow = left != 0 && right != 0;
        break;
    case '/':
        if (right == 0 && !isnan(left)) {
            return by_zero(info);
        }
        value = left / right;
        may_underflow = left != 0 && !isinf(right);
        break;
    case '^': {
        enum dbos_err err = power(left, right, &value, info);
        if (err != DBOS_OK) {
            return err;
        }
        may_underflow = left != 0 && !isinf(right) && !isinf(left);
        break;
    }
    default:
        DBOS_CHECK(!"no such operation on real numbers");
    }
    if (isinf(value) && !isinf(left) && !isinf(right)) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "value out of range: overflow");
    }
    if (value == 0 && may_underflow) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "value out of range: underflow");
    }
    *out = dbos_datum_real(value);
    return DBOS_OK;
}

enum dbos_err dbos_arithmetic(uint32_t operation, enum dbos_type type,
                              const struct dbos_datum *left, const struct dbos_datum *right,
                              struct dbos_datum *out, struct dbos_errinfo *info) {
    if (type == DBOS_TYPE_FLOAT8) {
        return on_reals(operation, left->real, right->real, out, info);
    }
    return on_integers(operation, type, left->integer, right->integer, out, info);
}
