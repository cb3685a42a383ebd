/* Functions on numbers. */
#include <math.h>

#include "procs/sql/function.h"

static enum dbos_err call_abs(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    *out = args[0];
    if (args[0].type == DBOS_TYPE_FLOAT8) {
        out->real = fabs(args[0].real);
        return DBOS_OK;
    }
    struct dbos_datum zero = dbos_datum_int((enum dbos_type)args[0].type, 0);
    return args[0].integer >= 0 ? DBOS_OK
                                : dbos_arithmetic('-', (enum dbos_type)args[0].type, &zero,
                                                  &args[0], out, eval->info);
}

static enum dbos_err call_sign(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    double x = args[0].real;
    *out = dbos_datum_real(x > 0 ? 1 : x < 0 ? -1 : 0);
    return DBOS_OK;
}

static enum dbos_err call_round(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(rint(args[0].real));
    return DBOS_OK;
}

/* PostgreSQL has this for numeric only; here digits of a double are cut in base ten. */
static enum dbos_err call_round_to(struct dbos_eval *eval, const struct dbos_datum *args,
                                   uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    int64_t digits = args[1].integer > 300 ? 300 : args[1].integer < -300 ? -300 : args[1].integer;
    double scale = pow(10, (double)digits);
    double scaled = args[0].real * scale;
    *out = dbos_datum_real(isfinite(scaled) ? round(scaled) / scale : args[0].real);
    return DBOS_OK;
}

static enum dbos_err call_floor(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(floor(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_ceil(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(ceil(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_trunc(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(trunc(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_mod(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    return dbos_arithmetic('%', (enum dbos_type)args[0].type, &args[0], &args[1], out, eval->info);
}

static enum dbos_err call_sqrt(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    (void)count;
    if (args[0].real < 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_INVALID_PARAMETER, "2201F",
                               "cannot take square root of a negative number");
    }
    *out = dbos_datum_real(sqrt(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_power(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)count;
    return dbos_arithmetic('^', DBOS_TYPE_FLOAT8, &args[0], &args[1], out, eval->info);
}

static enum dbos_err call_exp(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    double value = exp(args[0].real);
    if (isinf(value) && !isinf(args[0].real)) {
        return dbos_fail(eval->info, DBOS_ERR_OUT_OF_RANGE, "value out of range: overflow");
    }
    if (value == 0 && !isinf(args[0].real)) {
        return dbos_fail(eval->info, DBOS_ERR_OUT_OF_RANGE, "value out of range: underflow");
    }
    *out = dbos_datum_real(value);
    return DBOS_OK;
}

static enum dbos_err check_log(double value, struct dbos_errinfo *info) {
    if (value <= 0) {
        return dbos_fail_state(info, DBOS_ERR_INVALID_PARAMETER, "2201E",
                               value == 0 ? "cannot take logarithm of zero"
                                          : "cannot take logarithm of a negative number");
    }
    return DBOS_OK;
}

static enum dbos_err call_ln(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                             struct dbos_datum *out) {
    (void)count;
    *out = dbos_datum_real(log(args[0].real));
    return check_log(args[0].real, eval->info);
}

static enum dbos_err call_log(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    *out = dbos_datum_real(log10(args[0].real));
    return check_log(args[0].real, eval->info);
}

static enum dbos_err call_sin(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(sin(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_cos(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_real(cos(args[0].real));
    return DBOS_OK;
}

static enum dbos_err call_pi(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                             struct dbos_datum *out) {
    (void)eval;
    (void)args;
    (void)count;
    *out = dbos_datum_real(3.14159265358979323846);
    return DBOS_OK;
}

/* From the transaction's recorded seed, so that a run can be repeated. */
static enum dbos_err call_random(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    *out = dbos_datum_real((double)(dbos_txn_random(eval->run->txn) >> 11) * 0x1p-53);
    return DBOS_OK;
}

#define REAL DBOS_TYPE_FLOAT8
#define I2   DBOS_TYPE_INT2
#define I4   DBOS_TYPE_INT4
#define I8   DBOS_TYPE_INT8

static const struct dbos_function functions[] = {
    {.name = "abs", .count = 1, .args = {I2}, .result = I2, .call = call_abs},
    {.name = "abs", .count = 1, .args = {I4}, .result = I4, .call = call_abs},
    {.name = "abs", .count = 1, .args = {I8}, .result = I8, .call = call_abs},
    {.name = "abs", .count = 1, .args = {REAL}, .result = REAL, .call = call_abs},
    {.name = "sign", .count = 1, .args = {REAL}, .result = REAL, .call = call_sign},
    {.name = "round", .count = 1, .args = {REAL}, .result = REAL, .call = call_round},
    {.name = "round", .count = 2, .args = {REAL, I4}, .result = REAL, .call = call_round_to},
    {.name = "floor", .count = 1, .args = {REAL}, .result = REAL, .call = call_floor},
    {.name = "ceil", .count = 1, .args = {REAL}, .result = REAL, .call = call_ceil},
    {.name = "ceiling", .count = 1, .args = {REAL}, .result = REAL, .call = call_ceil},
    {.name = "trunc", .count = 1, .args = {REAL}, .result = REAL, .call = call_trunc},
    {.name = "mod", .count = 2, .args = {I2, I2}, .result = I2, .call = call_mod},
    {.name = "mod", .count = 2, .args = {I4, I4}, .result = I4, .call = call_mod},
    {.name = "mod", .count = 2, .args = {I8, I8}, .result = I8, .call = call_mod},
    {.name = "sqrt", .count = 1, .args = {REAL}, .result = REAL, .call = call_sqrt},
    {.name = "power", .count = 2, .args = {REAL, REAL}, .result = REAL, .call = call_power},
    {.name = "pow", .count = 2, .args = {REAL, REAL}, .result = REAL, .call = call_power},
    {.name = "exp", .count = 1, .args = {REAL}, .result = REAL, .call = call_exp},
    {.name = "ln", .count = 1, .args = {REAL}, .result = REAL, .call = call_ln},
    {.name = "log", .count = 1, .args = {REAL}, .result = REAL, .call = call_log},
    {.name = "log10", .count = 1, .args = {REAL}, .result = REAL, .call = call_log},
    {.name = "sin", .count = 1, .args = {REAL}, .result = REAL, .call = call_sin},
    {.name = "cos", .count = 1, .args = {REAL}, .result = REAL, .call = call_cos},
    {.name = "pi", .result = REAL, .call = call_pi},
    {.name = "random", .result = REAL, .volatility = DBOS_VOLATILE, .call = call_random},
};

struct dbos_function_table dbos_functions_math(void) {
    return (struct dbos_function_table){functions, sizeof functions / sizeof functions[0]};
}
