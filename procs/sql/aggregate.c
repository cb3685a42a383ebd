/* count, sum, min, max, avg. Sums of integers are exact, or an error; averages are double
 * precision, of an exact sum as long as that fits a bigint. */
#include <math.h>

#include "procs/sql/run.h"

static enum dbos_err add_real(struct dbos_aggregate_state *state, double value,
                              struct dbos_runner *runner) {
    double sum = state->real + value;
    if (isinf(sum) && !isinf(state->real) && !isinf(value)) {
        return dbos_fail(runner->info, DBOS_ERR_OUT_OF_RANGE, "value out of range: overflow");
    }
    state->real = sum;
    return DBOS_OK;
}

static enum dbos_err add_integer(const struct dbos_aggregate *aggregate,
                                 struct dbos_aggregate_state *state, int64_t value,
                                 struct dbos_runner *runner) {
    int64_t sum;
    if (!__builtin_add_overflow(state->integer, value, &sum)) {
        state->integer = sum;
        return DBOS_OK;
    }
    if (aggregate->kind == DBOS_AGGREGATE_SUM) {
        return dbos_fail(runner->info, DBOS_ERR_OUT_OF_RANGE, "bigint out of range");
    }
    state->real += (double)state->integer;
    state->integer = value;
    return DBOS_OK;
}

/* A minimum's bytes live in a buffer of its own, which only grows. */
static enum dbos_err keep_value(struct dbos_aggregate_state *state, const struct dbos_datum *value,
                                struct dbos_runner *runner) {
    state->value = *value;
    if (!dbos_type_is_bytes((enum dbos_type)value->type) || value->object != NULL) {
        return DBOS_OK;
    }
    size_t size_bytes = value->bytes.size_bytes;
    if (size_bytes > state->buffer_bytes || state->buffer == NULL) {
        state->buffer = dbos_arena_take(&runner->keep, size_bytes * 2 + 16);
        if (state->buffer == NULL) {
            return dbos_runner_nomem(runner);
        }
        state->buffer_bytes = size_bytes * 2 + 16;
    }
    if (size_bytes != 0) {
        memcpy(state->buffer, value->bytes.data, size_bytes);
    }
    state->value.bytes.data = state->buffer;
    return DBOS_OK;
}

static enum dbos_err add_extreme(const struct dbos_aggregate *aggregate,
                                 struct dbos_aggregate_state *state, const struct dbos_datum *value,
                                 struct dbos_runner *runner) {
    if (state->count > 1) {
        int order = dbos_datum_compare(value, &state->value);
        if (aggregate->kind == DBOS_AGGREGATE_MIN ? order >= 0 : order <= 0) {
            return DBOS_OK;
        }
    }
    return keep_value(state, value, runner);
}

enum dbos_err dbos_aggregate_add(const struct dbos_aggregate *aggregate,
                                 struct dbos_aggregate_state *state, struct dbos_runner *runner) {
    struct dbos_datum value;
    if (aggregate->arg == NULL) {
        state->count++;
        return DBOS_OK;
    }
    enum dbos_err err = dbos_expr_eval(aggregate->arg, &runner->eval, &value);
    if (err != DBOS_OK || value.is_null) {
        return err;
    }
    state->count++;
    switch (aggregate->kind) {
    case DBOS_AGGREGATE_COUNT:
        return DBOS_OK;
    case DBOS_AGGREGATE_SUM:
    case DBOS_AGGREGATE_AVG:
        return value.type == DBOS_TYPE_FLOAT8
                   ? add_real(state, value.real, runner)
                   : add_integer(aggregate, state, value.integer, runner);
    case DBOS_AGGREGATE_MIN:
    case DBOS_AGGREGATE_MAX:
        break;
    }
    return add_extreme(aggregate, state, &value, runner);
}

struct dbos_datum dbos_aggregate_result(const struct dbos_aggregate *aggregate,
                                        const struct dbos_aggregate_state *state) {
    struct dbos_datum result = state->value;
    if (aggregate->kind == DBOS_AGGREGATE_COUNT) {
        return dbos_datum_int(DBOS_TYPE_INT8, (int64_t)state->count);
    }
    if (state->count == 0) {
        return dbos_datum_null(aggregate->type);
    }
    switch (aggregate->kind) {
    case DBOS_AGGREGATE_SUM:
        return aggregate->type == DBOS_TYPE_FLOAT8 ? dbos_datum_real(state->real)
                                                   : dbos_datum_int(DBOS_TYPE_INT8, state->integer);
    case DBOS_AGGREGATE_AVG:
        return dbos_datum_real((state->real + (double)state->integer) / (double)state->count);
    case DBOS_AGGREGATE_COUNT:
    case DBOS_AGGREGATE_MIN:
    case DBOS_AGGREGATE_MAX:
        break;
    }
    result.type = (uint8_t)aggregate->type;
    return result;
}
