/* Numbers. */
#include <math.h>

#include "procs/sql/function.h"

static enum dbos_err put_integer(struct dbos_eval *eval, enum dbos_type type, int64_t value,
                                 struct dbos_datum *out) {
    *out = dbos_datum_int(type, value);
    return dbos_integer_check(type, value, eval->info);
}

static enum dbos_err put_real(struct dbos_eval *eval, double value, bool inputs_finite,
                              struct dbos_datum *out) {
    *out = dbos_datum_real(value);
    if (inputs_finite && isinf(value)) {
        return dbos_fail(eval->info, DBOS_ERR_OUT_OF_RANGE, "value out of range: overflow");
    }
    return DBOS_OK;
}

static enum dbos_err abs_integer(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)count;
    enum dbos_type type = (enum dbos_type)args[0].type;
    if (args[0].integer == INT64_MIN) {
        return dbos_fail(eval->info, DBOS_ERR_OUT_OF_RANGE, "bigint out of range");
    }
    return put_integer(eval, type, args[0].integer < 0 ? -args[0].integer : args[0].integer, out);
}

static enum dbos_err mod_integer(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)count;
    if (args[1].integer == 0) {
        return dbos_fail(eval->info, DBOS_ERR_DIVISION_BY_ZERO, "division by zero");
    }
    int64_t rest = args[1].integer == -1 ? 0 : args[0].integer % args[1].integer;
    return put_integer(eval, (enum dbos_type)args[0].type, rest, out);
}

static enum dbos_err sign_real(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    double x = args[0].real;
    (void)count;
    return put_real(eval, x > 0 ? 1 : x < 0 ? -1 : 0, true, out);
}

/* round() goes to even at a tie for double precision, as PostgreSQL does (rint). */
#define REAL_FUNCTION(name, expression)                                                            \
    static enum dbos_err name(struct dbos_eval *eval, const struct dbos_datum *args,               \
                              uint32_t count, struct dbos_datum *out) {                            \
        double x = args[0].real;                                                                   \
        (void)count;                                                                               \
        return put_real(eval, (expression), isfinite(x), out);                                     \
    }
REAL_FUNCTION(abs_real, fabs(x))
REAL_FUNCTION(round_real, rint(x))
REAL_FUNCTION(floor_real, floor(x))
REAL_FUNCTION(ceil_real, ceil(x))
REAL_FUNCTION(trunc_real, trunc(x))
REAL_FUNCTION(exp_real, exp(x))
REAL_FUNCTION(sin_real, sin(x))
REAL_FUNCTION(cos_real, cos(x))
REAL_FUNCTION(tan_real, tan(x))

static enum dbos_err sqrt_real(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    (void)count;
    if (args[0].real < 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_OUT_OF_RANGE, "2201F",
                               "cannot take square root of a negative number");
    }
    return put_real(eval, sqrt(args[0].real), false, out);
}

static enum dbos_err logarithm(struct dbos_eval *eval, double x, double value,
                               struct dbos_datum *out) {
    if (x <= 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_OUT_OF_RANGE, "2201E",
                               x == 0 ? "cannot take logarithm of zero"
                                      : "cannot take logarithm of a negative number");
    }
    return put_real(eval, value, false, out);
}

static enum dbos_err ln_real(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                             struct dbos_datum *out) {
    (void)count;
    return logarithm(eval, args[0].real, log(args[0].real), out);
}

static enum dbos_err log_real(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    return logarithm(eval, args[0].real, log10(args[0].real), out);
}

static enum dbos_err power_real(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    double x = args[0].real;
    double y = args[1].real;
    (void)count;
    if (x == 0 && y < 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_OUT_OF_RANGE, "2201F",
                               "zero raised to a negative power is undefined");
    }
    if (x < 0 && isfinite(y) && floor(y) != y) {
        return dbos_fail_state(
            eval->info, DBOS_ERR_OUT_OF_RANGE, "2201F",
            "a negative number raised to a non-integer power yields a complex result");
    }
    return put_real(eval, pow(x, y), isfinite(x) && isfinite(y), out);
}

static enum dbos_err pi_real(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                             struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_real(eval, 3.14159265358979323846, true, out);
}

/* Uniform in [0, 1), from the transaction's recorded seed. */
static enum dbos_err random_real(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_real(eval, (double)(dbos_txn_random(eval->run->txn) >> 11) * 0x1.0p-53, true, out);
}

#define INT2 DBOS_TYPE_INT2
#define INT4 DBOS_TYPE_INT4
#define INT8 DBOS_TYPE_INT8
#define REAL DBOS_TYPE_FLOAT8

static const struct dbos_function functions[] = {
    {.name = "abs", .count = 1, .args = {INT2}, .result = INT2, .call = abs_integer},
    {.name = "abs", .count = 1, .args = {INT4}, .result = INT4, .call = abs_integer},
    {.name = "abs", .count = 1, .args = {INT8}, .result = INT8, .call = abs_integer},
    {.name = "abs", .count = 1, .args = {REAL}, .result = REAL, .call = abs_real},
    {.name = "mod", .count = 2, .args = {INT2, INT2}, .result = INT2, .call = mod_integer},
    {.name = "mod", .count = 2, .args = {INT4, INT4}, .result = INT4, .call = mod_integer},
    {.name = "mod", .count = 2, .args = {INT8, INT8}, .result = INT8, .call = mod_integer},
    {.name = "round", .count = 1, .args = {REAL}, .result = REAL, .call = round_real},
    {.name = "floor", .count = 1, .args = {REAL}, .result = REAL, .call = floor_real},
    {.name = "ceil", .count = 1, .args = {REAL}, .result = REAL, .call = ceil_real},
    {.name = "ceiling", .count = 1, .args = {REAL}, .result = REAL, .call = ceil_real},
    {.name = "trunc", .count = 1, .args = {REAL}, .result = REAL, .call = trunc_real},
    {.name = "sign", .count = 1, .args = {REAL}, .result = REAL, .call = sign_real},
    {.name = "sqrt", .count = 1, .args = {REAL}, .result = REAL, .call = sqrt_real},
    {.name = "exp", .count = 1, .args = {REAL}, .result = REAL, .call = exp_real},
    {.name = "ln", .count = 1, .args = {REAL}, .result = REAL, .call = ln_real},
    {.name = "log", .count = 1, .args = {REAL}, .result = REAL, .call = log_real},
    {.name = "log10", .count = 1, .args = {REAL}, .result = REAL, .call = log_real},
    {.name = "sin", .count = 1, .args = {REAL}, .result = REAL, .call = sin_real},
    {.name = "cos", .count = 1, .args = {REAL}, .result = REAL, .call = cos_real},
    {.name = "tan", .count = 1, .args = {REAL}, .result = REAL, .call = tan_real},
    {.name = "power", .count = 2, .args = {REAL, REAL}, .result = REAL, .call = power_real},
    {.name = "pow", .count = 2, .args = {REAL, REAL}, .result = REAL, .call = power_real},
    {.name = "pi", .count = 0, .result = REAL, .call = pi_real},
    {.name = "random",
     .count = 0,
     .result = REAL,
     .volatility = DBOS_VOLATILE,
     .call = random_real},
};

struct dbos_function_table dbos_functions_math(void) {
    return (struct dbos_function_table){.functions = functions,
                                        .count = sizeof functions / sizeof functions[0]};
}
