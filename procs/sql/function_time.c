/* Functions on points in time (UTC). */
#include <stdio.h>

#include "procs/sql/function.h"

#define ARGS                                                                                       \
    struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count, struct dbos_datum *out

#define US_SECOND INT64_C(1000000)
#define US_DAY    (INT64_C(86400) * US_SECOND)

struct civil {
    int64_t year;
    int32_t month; /* 1..12 */
    int32_t day;
    int64_t days; /* since 1970-01-01 */
    int64_t us;   /* of the day */
};

static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }

/* Howard Hinnant's algorithms: eras of 400 years, years that begin in March. */
static int64_t days_of(int64_t year, int32_t month, int32_t day) {
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = floor_div(y, 400);
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}
static struct civil civil_of(int64_t us) {
    struct civil civil = {.days = floor_div(us, US_DAY)};
    civil.us = us - civil.days * US_DAY;
    int64_t z = civil.days + 719468;
    int64_t era = floor_div(z, 146097);
    int64_t doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int64_t mp = (5 * doy + 2) / 153;
    civil.day = (int32_t)(doy - (153 * mp + 2) / 5 + 1);
    civil.month = (int32_t)(mp < 10 ? mp + 3 : mp - 9);
    civil.year = yoe + era * 400 + (civil.month <= 2 ? 1 : 0);
    return civil;
}

/* 1 = Monday … 7 = Sunday. */
static int64_t iso_weekday(int64_t days) {
    int64_t weekday = (days + 3) % 7;
    return (weekday < 0 ? weekday + 7 : weekday) + 1;
}
/* ISO week: that of the Thursday. */
static void iso_week(const struct civil *civil, int64_t *year, int64_t *week) {
    int64_t thursday = civil->days - iso_weekday(civil->days) + 4;
    struct civil of_week = civil_of(thursday * US_DAY);
    *year = of_week.year;
    *week = (thursday - days_of(of_week.year, 1, 1)) / 7 + 1;
}

enum unit {
    UNIT_EPOCH,
    UNIT_MICROSECONDS,
    UNIT_MILLISECONDS,
    UNIT_SECOND,
    UNIT_MINUTE,
    UNIT_HOUR,
    UNIT_DAY,
    UNIT_WEEK,
    UNIT_MONTH,
    UNIT_QUARTER,
    UNIT_YEAR,
    UNIT_DECADE,
    UNIT_CENTURY,
    UNIT_DOW,
    UNIT_ISODOW,
    UNIT_DOY,
    UNIT_ISOYEAR,
    UNIT_TIMEZONE,
};
static const struct {
    const char *name;
    enum unit unit;
} units[] = {
    {"epoch", UNIT_EPOCH},
    {"microseconds", UNIT_MICROSECONDS},
    {"milliseconds", UNIT_MILLISECONDS},
    {"second", UNIT_SECOND},
    {"seconds", UNIT_SECOND},
    {"minute", UNIT_MINUTE},
    {"minutes", UNIT_MINUTE},
    {"hour", UNIT_HOUR},
    {"hours", UNIT_HOUR},
    {"day", UNIT_DAY},
    {"days", UNIT_DAY},
    {"week", UNIT_WEEK},
    {"weeks", UNIT_WEEK},
    {"month", UNIT_MONTH},
    {"months", UNIT_MONTH},
    {"quarter", UNIT_QUARTER},
    {"year", UNIT_YEAR},
    {"years", UNIT_YEAR},
    {"decade", UNIT_DECADE},
    {"century", UNIT_CENTURY},
    {"dow", UNIT_DOW},
    {"isodow", UNIT_ISODOW},
    {"doy", UNIT_DOY},
    {"isoyear", UNIT_ISOYEAR},
    {"timezone", UNIT_TIMEZONE},
};

static enum dbos_err find_unit(struct dbos_bytes name, enum unit *out, struct dbos_errinfo *info) {
    char lower[24] = "";
    for (size_t i = 0; i < name.size_bytes && i + 1 < sizeof lower; i++) {
        char c = (char)name.data[i];
        lower[i] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
    }
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (name.size_bytes < sizeof lower && strcmp(units[i].name, lower) == 0) {
            *out = units[i].unit;
            return DBOS_OK;
        }
    }
    return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                     "unit \"%.*s\" not recognized for type timestamp with time zone",
                     (int)(name.size_bytes > 60 ? 60 : name.size_bytes),
                     name.size_bytes == 0 ? "" : (const char *)name.data);
}

static double part_of_day(enum unit unit, int64_t us) {
    switch ((int)unit) {
    case UNIT_MICROSECONDS:
        return (double)(us % (60 * US_SECOND));
    case UNIT_MILLISECONDS:
        return (double)(us % (60 * US_SECOND)) / 1000.0;
    case UNIT_SECOND:
        return (double)(us % (60 * US_SECOND)) / 1e6;
    case UNIT_MINUTE:
        return (double)(us / (60 * US_SECOND) % 60);
    default:
        return (double)(us / (3600 * US_SECOND));
    }
}

static double part_of_date(enum unit unit, const struct civil *civil) {
    int64_t week_year;
    int64_t week;
    iso_week(civil, &week_year, &week);
    switch ((int)unit) {
    case UNIT_DAY:
        return civil->day;
    case UNIT_WEEK:
        return (double)week;
    case UNIT_ISOYEAR:
        return (double)week_year;
    case UNIT_MONTH:
        return civil->month;
    case UNIT_QUARTER:
        return (civil->month - 1) / 3 + 1;
    case UNIT_YEAR:
        return (double)civil->year;
    case UNIT_DECADE:
        return (double)floor_div(civil->year, 10);
    case UNIT_CENTURY:
        return (double)(floor_div(civil->year - 1, 100) + 1);
    case UNIT_DOW:
        return (double)(iso_weekday(civil->days) % 7);
    case UNIT_ISODOW:
        return (double)iso_weekday(civil->days);
    case UNIT_DOY:
        return (double)(civil->days - days_of(civil->year, 1, 1) + 1);
    default: /* UTC */
        return 0;
    }
}

static enum dbos_err call_extract(ARGS) {
    (void)count;
    enum unit unit = UNIT_EPOCH;
    int64_t us = args[1].integer;
    enum dbos_err err = find_unit(args[0].bytes, &unit, eval->info);
    if (err != DBOS_OK) {
        return err;
    }
    struct civil civil = civil_of(us);
    double value = unit == UNIT_EPOCH  ? (double)us / 1e6
                   : unit <= UNIT_HOUR ? part_of_day(unit, civil.us)
                                       : part_of_date(unit, &civil);
    *out = dbos_datum_real(value);
    return DBOS_OK;
}

static int64_t truncate_date(enum unit unit, const struct civil *civil) {
    int64_t year = civil->year;
    switch ((int)unit) {
    case UNIT_WEEK:
        return (civil->days - iso_weekday(civil->days) + 1) * US_DAY;
    case UNIT_MONTH:
        return days_of(year, civil->month, 1) * US_DAY;
    case UNIT_QUARTER:
        return days_of(year, (civil->month - 1) / 3 * 3 + 1, 1) * US_DAY;
    case UNIT_YEAR:
        return days_of(year, 1, 1) * US_DAY;
    case UNIT_DECADE:
        return days_of(floor_div(year, 10) * 10, 1, 1) * US_DAY;
    case UNIT_CENTURY:
        return days_of(floor_div(year - 1, 100) * 100 + 1, 1, 1) * US_DAY;
    default:
        return civil->days * US_DAY;
    }
}

static enum dbos_err call_date_trunc(ARGS) {
    static const int64_t steps[] = {
        [UNIT_MICROSECONDS] = 1,        [UNIT_MILLISECONDS] = 1000,     [UNIT_SECOND] = US_SECOND,
        [UNIT_MINUTE] = 60 * US_SECOND, [UNIT_HOUR] = 3600 * US_SECOND,
    };
    (void)count;
    enum unit unit = UNIT_EPOCH;
    int64_t us = args[1].integer;
    enum dbos_err err = find_unit(args[0].bytes, &unit, eval->info);
    if (err != DBOS_OK) {
        return err;
    }
    if (unit == UNIT_EPOCH || unit >= UNIT_DOW) {
        return dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER,
                         "unit \"%.*s\" not supported for type timestamp with time zone",
                         (int)args[0].bytes.size_bytes, (const char *)args[0].bytes.data);
    }
    struct civil civil = civil_of(us);
    int64_t value = unit <= UNIT_HOUR ? us - (civil.us % steps[unit]) : truncate_date(unit, &civil);
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, value);
    return DBOS_OK;
}

static enum dbos_err call_now(ARGS) {
    (void)args;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, dbos_txn_now_us(eval->run->txn));
    return DBOS_OK;
}

static enum dbos_err call_to_timestamp(ARGS) {
    (void)count;
    double us = args[0].real * 1e6;
    if (!(us > -2e17 && us < 9e18)) {
        return dbos_fail(eval->info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range: \"%g\"",
                         args[0].real);
    }
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, (int64_t)(us < 0 ? us - 0.5 : us + 0.5));
    return DBOS_OK;
}

#define TIME DBOS_TYPE_TIMESTAMPTZ
#define REAL DBOS_TYPE_FLOAT8
#define TEXT DBOS_TYPE_TEXT

static const struct dbos_function functions[] = {
    {.name = "extract", .count = 2, .args = {TEXT, TIME}, .result = REAL, .call = call_extract},
    {.name = "date_part", .count = 2, .args = {TEXT, TIME}, .result = REAL, .call = call_extract},
    {.name = "date_trunc",
     .count = 2,
     .args = {TEXT, TIME},
     .result = TIME,
     .call = call_date_trunc},
    {.name = "to_timestamp", .count = 1, .args = {REAL}, .result = TIME, .call = call_to_timestamp},
    {.name = "now", .result = TIME, .volatility = DBOS_STABLE, .call = call_now},
    {.name = "current_timestamp", .result = TIME, .volatility = DBOS_STABLE, .call = call_now},
    {.name = "transaction_timestamp", .result = TIME, .volatility = DBOS_STABLE, .call = call_now},
};

struct dbos_function_table dbos_functions_time(void) {
    return (struct dbos_function_table){functions, sizeof functions / sizeof functions[0]};
}
