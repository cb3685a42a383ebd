/* Time. Time zone is UTC; timestamptz is microseconds since 1970. */
#include <math.h>
#include <time.h>

#include "procs/sql/function.h"

enum { SECOND_US = 1000000 };

static int64_t floor_div(int64_t value, int64_t by) {
    return value / by - (value % by < 0 ? 1 : 0);
}

static enum dbos_err now_time(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)args;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, dbos_txn_now_us(eval->run->txn));
    return DBOS_OK;
}

static enum dbos_err to_timestamp(struct dbos_eval *eval, const struct dbos_datum *args,
                                  uint32_t count, struct dbos_datum *out) {
    double us = args[0].real * SECOND_US;
    (void)count;
    if (!(fabs(us) < 9e18)) {
        return dbos_fail(eval->info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range");
    }
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, (int64_t)rint(us));
    return DBOS_OK;
}

struct parts {
    struct tm tm;
    int64_t second; /* since 1970 */
    int64_t us;     /* within the second */
};

static bool split(int64_t timestamp, struct parts *out) {
    out->second = floor_div(timestamp, SECOND_US);
    out->us = timestamp - out->second * SECOND_US;
    time_t second = (time_t)out->second;
    return gmtime_r(&second, &out->tm) != NULL;
}

static bool field_is(const struct dbos_datum *field, const char *name) {
    return field->bytes.size_bytes == strlen(name) &&
           strncasecmp((const char *)field->bytes.data, name, strlen(name)) == 0;
}

static enum dbos_err bad_field(struct dbos_eval *eval, const struct dbos_datum *field) {
    return dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER,
                     "unit \"%.*s\" not recognized for type timestamp with time zone",
                     (int)field->bytes.size_bytes, (const char *)field->bytes.data);
}

/* date_part(field, time), and extract(field FROM time). */
static enum dbos_err date_part(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    const struct dbos_datum *field = &args[0];
    struct parts parts;
    double value = 0;
    (void)count;
    if (!split(args[1].integer, &parts)) {
        return dbos_fail(eval->info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range");
    }
    double seconds = (double)parts.tm.tm_sec + (double)parts.us / SECOND_US;
    if (field_is(field, "epoch")) {
        value = (double)args[1].integer / SECOND_US;
    } else if (field_is(field, "year")) {
        value = parts.tm.tm_year + 1900;
    } else if (field_is(field, "month")) {
        value = parts.tm.tm_mon + 1;
    } else if (field_is(field, "quarter")) {
        value = parts.tm.tm_mon / 3 + 1;
    } else if (field_is(field, "day")) {
        value = parts.tm.tm_mday;
    } else if (field_is(field, "hour")) {
        value = parts.tm.tm_hour;
    } else if (field_is(field, "minute")) {
        value = parts.tm.tm_min;
    } else if (field_is(field, "second")) {
        value = seconds;
    } else if (field_is(field, "milliseconds")) {
        value = seconds * 1e3;
    } else if (field_is(field, "microseconds")) {
        value = seconds * 1e6;
    } else if (field_is(field, "dow")) {
        value = parts.tm.tm_wday;
    } else if (field_is(field, "isodow")) {
        value = parts.tm.tm_wday == 0 ? 7 : parts.tm.tm_wday;
    } else if (field_is(field, "doy")) {
        value = parts.tm.tm_yday + 1;
    } else {
        return bad_field(eval, field);
    }
    *out = dbos_datum_real(value);
    return DBOS_OK;
}

/* Clear what is smaller than the field; false = not a field. */
static bool truncate_to(struct parts *parts, const struct dbos_datum *field) {
    static const char *const fields[] = {"second", "minute", "hour", "day", "month", "year"};
    int level = -1;
    for (int i = 0; i < 6; i++) {
        level = field_is(field, fields[i]) ? i : level;
    }
    if (level < 0) {
        return false;
    }
    parts->us = 0;
    parts->tm.tm_sec = level >= 1 ? 0 : parts->tm.tm_sec;
    parts->tm.tm_min = level >= 2 ? 0 : parts->tm.tm_min;
    parts->tm.tm_hour = level >= 3 ? 0 : parts->tm.tm_hour;
    parts->tm.tm_mday = level >= 4 ? 1 : parts->tm.tm_mday;
    parts->tm.tm_mon = level >= 5 ? 0 : parts->tm.tm_mon;
    return true;
}

static enum dbos_err date_trunc(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    struct parts parts;
    (void)count;
    if (!split(args[1].integer, &parts)) {
        return dbos_fail(eval->info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range");
    }
    if (!truncate_to(&parts, &args[0])) {
        return bad_field(eval, &args[0]);
    }
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, (int64_t)timegm(&parts.tm) * SECOND_US);
    return DBOS_OK;
}

#define TEXT DBOS_TYPE_TEXT
#define TIME DBOS_TYPE_TIMESTAMPTZ
#define REAL DBOS_TYPE_FLOAT8

static const struct dbos_function functions[] = {
    {.name = "now", .result = TIME, .volatility = DBOS_STABLE, .call = now_time},
    {.name = "current_timestamp", .result = TIME, .volatility = DBOS_STABLE, .call = now_time},
    {.name = "transaction_timestamp", .result = TIME, .volatility = DBOS_STABLE, .call = now_time},
    {.name = "to_timestamp", .count = 1, .args = {REAL}, .result = TIME, .call = to_timestamp},
    {.name = "date_part", .count = 2, .args = {TEXT, TIME}, .result = REAL, .call = date_part},
    {.name = "extract", .count = 2, .args = {TEXT, TIME}, .result = REAL, .call = date_part},
    {.name = "date_trunc", .count = 2, .args = {TEXT, TIME}, .result = TIME, .call = date_trunc},
};

struct dbos_function_table dbos_functions_time(void) {
    return (struct dbos_function_table){.functions = functions,
                                        .count = sizeof functions / sizeof functions[0]};
}
