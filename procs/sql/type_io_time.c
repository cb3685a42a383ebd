#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "procs/sql/type_io_internal.h"

enum { SECONDS_PER_DAY = 86400 };
#define US_PER_SECOND INT64_C(1000000)
#define US_PER_DAY    (SECONDS_PER_DAY * US_PER_SECOND)

/* -- calendar (proleptic Gregorian, year 0 = 1 BC) -----------------------------------------------
 */

/* Days since 1970-01-01; years of 400-year eras that begin on 1 March. */
static int64_t days_of(int64_t year, int64_t month, int64_t day) {
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t of_era = year - era * 400;
    int64_t of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return era * 146097 + day_of_era - 719468;
}

struct date {
    int64_t year;
    int64_t month;
    int64_t day;
};

static struct date date_of(int64_t days) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t of_era = days - era * 146097;
    int64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year + year / 4 - year / 100);
    int64_t month = (5 * of_year + 2) / 153;
    struct date date = {.day = of_year - (153 * month + 2) / 5 + 1,
                        .month = month < 10 ? month + 3 : month - 9};
    date.year = year + era * 400 + (date.month <= 2);
    return date;
}

static int64_t days_in_month(int64_t year, int64_t month) {
    int64_t next = month == 12 ? days_of(year + 1, 1, 1) : days_of(year, month + 1, 1);
    return next - days_of(year, month, 1);
}

/* -- out ----------------------------------------------------------------------------------------
 */

void dbos_time_out(int64_t us, struct dbos_buf *out) {
    int64_t days = us / US_PER_DAY - (us % US_PER_DAY < 0);
    int64_t of_day = us - days * US_PER_DAY;
    int64_t seconds = of_day / US_PER_SECOND;
    int64_t fraction = of_day % US_PER_SECOND;
    struct date date = date_of(days);
    bool is_bc = date.year <= 0;
    char text[80];
    int length = snprintf(text, sizeof text, "%04lld-%02lld-%02lld %02lld:%02lld:%02lld",
                          (long long)(is_bc ? 1 - date.year : date.year), (long long)date.month,
                          (long long)date.day, (long long)(seconds / 3600),
                          (long long)(seconds / 60 % 60), (long long)(seconds % 60));
    if (fraction != 0) {
        length +=
            snprintf(text + length, sizeof text - (size_t)length, ".%06lld", (long long)fraction);
        while (text[length - 1] == '0') {
            length--;
        }
    }
    dbos_buf_put(out, text, (size_t)length);
    dbos_buf_put(out, is_bc ? "+00 BC" : "+00", is_bc ? 6 : 3);
}

/* -- in -----------------------------------------------------------------------------------------
 */

/* The text being read, and the whole of it for messages. */
struct scan {
    const char *at;
    const char *end;
    struct dbos_bytes whole;
    struct dbos_errinfo *info;
};

static enum dbos_err invalid_time(const struct scan *scan) {
    return dbos_fail(scan->info, DBOS_ERR_DATETIME,
                     "invalid input syntax for type timestamp with time zone: \"%.*s\"",
                     scan->whole.size_bytes > 200 ? 200 : (int)scan->whole.size_bytes,
                     (const char *)scan->whole.data);
}

static enum dbos_err field_range(const struct scan *scan) {
    return dbos_fail(scan->info, DBOS_ERR_DATETIME_RANGE,
                     "date/time field value out of range: \"%.*s\"",
                     scan->whole.size_bytes > 200 ? 200 : (int)scan->whole.size_bytes,
                     (const char *)scan->whole.data);
}

static bool is_digit(const struct scan *scan) {
    return scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9';
}

static bool skip(struct scan *scan, char wanted) {
    if (scan->at < scan->end && *scan->at == wanted) {
        scan->at++;
        return true;
    }
    return false;
}

static bool skip_blanks(struct scan *scan) {
    const char *start = scan->at;
    while (scan->at < scan->end && (*scan->at == ' ' || *scan->at == '\t')) {
        scan->at++;
    }
    return scan->at != start;
}

/* At most `digits_max` digits; how many there were, 0 = none (or too many). */
static int number(struct scan *scan, int digits_max, int64_t *out) {
    int digits = 0;
    *out = 0;
    while (is_digit(scan)) {
        *out = *out * 10 + (*scan->at++ - '0');
        if (++digits > digits_max) {
            return 0;
        }
    }
    return digits;
}

/* YYYY-MM-DD, single digits allowed, or YYYYMMDD */
static bool read_date(struct scan *scan, struct date *date) {
    int digits = number(scan, 8, &date->year);
    if (digits == 8) {
        date->day = date->year % 100;
        date->month = date->year / 100 % 100;
        date->year /= 10000;
        return true;
    }
    return digits >= 3 && digits <= 6 && skip(scan, '-') && number(scan, 2, &date->month) != 0 &&
           skip(scan, '-') && number(scan, 2, &date->day) != 0;
}

struct day_time {
    int64_t hour;
    int64_t minute;
    int64_t second;
    int64_t us;
};

/* Digits behind the point, rounded to microseconds as PostgreSQL does it. */
static bool read_fraction(struct scan *scan, int64_t *out_us) {
    char text[24] = "0.";
    size_t used = 2;
    while (is_digit(scan)) {
        if (used < sizeof text - 1) {
            text[used++] = *scan->at;
        }
        scan->at++;
    }
    text[used] = 0;
    *out_us = (int64_t)rint(strtod(text, NULL) * 1e6);
    return true;
}

/* HH:MM[:SS[.ffffff]] or HHMMSS[.ffffff] */
static bool read_day_time(struct scan *scan, struct day_time *time) {
    int digits = number(scan, 6, &time->hour);
    if (digits == 6) {
        time->second = time->hour % 100;
        time->minute = time->hour / 100 % 100;
        time->hour /= 10000;
        return !skip(scan, '.') || read_fraction(scan, &time->us);
    }
    if (digits == 0 || digits > 2 || !skip(scan, ':') || number(scan, 2, &time->minute) == 0) {
        return false;
    }
    if (!skip(scan, ':') || !is_digit(scan)) {
        return true;
    }
    if (number(scan, 2, &time->second) == 0) {
        return false;
    }
    return !skip(scan, '.') || read_fraction(scan, &time->us);
}

/* Letters from here on, without case. */
static bool skip_word(struct scan *scan, const char *word) {
    const char *end = scan->at;
    while (end < scan->end && ((*end >= 'a' && *end <= 'z') || (*end >= 'A' && *end <= 'Z'))) {
        end++;
    }
    struct dbos_bytes text = {.data = (const uint8_t *)scan->at,
                              .size_bytes = (size_t)(end - scan->at)};
    if (!dbos_text_equals(text, word)) {
        return false;
    }
    scan->at = end;
    return true;
}

/* Z, UTC, GMT, +hh, +hhmm, +hh:mm, +hh:mm:ss */
static enum dbos_err read_zone(struct scan *scan, int64_t *out_seconds) {
    *out_seconds = 0;
    if (skip_word(scan, "z") || skip_word(scan, "utc") || skip_word(scan, "gmt")) {
        return DBOS_OK;
    }
    bool is_minus = scan->at < scan->end && *scan->at == '-';
    if (!is_minus && (scan->at >= scan->end || *scan->at != '+')) {
        return DBOS_OK; /* no zone: UTC */
    }
    scan->at++;
    int64_t hour = 0;
    int64_t minute = 0;
    int64_t second = 0;
    int digits = number(scan, 4, &hour);
    if (digits == 0) {
        return invalid_time(scan);
    }
    if (digits > 2) {
        minute = hour % 100;
        hour /= 100;
    } else if (skip(scan, ':') && number(scan, 2, &minute) == 0) {
        return invalid_time(scan);
    } else if (skip(scan, ':') && number(scan, 2, &second) == 0) {
        return invalid_time(scan);
    }
    if (hour > 15 || minute > 59 || second > 59) {
        enum dbos_err err = dbos_fail(
            scan->info, DBOS_ERR_DATETIME_RANGE, "time zone displacement out of range: \"%.*s\"",
            scan->whole.size_bytes > 200 ? 200 : (int)scan->whole.size_bytes,
            (const char *)scan->whole.data);
        if (scan->info != NULL) {
            memcpy(scan->info->sqlstate, "22009", sizeof scan->info->sqlstate);
        }
        return err;
    }
    *out_seconds = (hour * 3600 + minute * 60 + second) * (is_minus ? -1 : 1);
    return DBOS_OK;
}

static bool in_range(const struct date *date, const struct day_time *time) {
    if (date->month < 1 || date->month > 12 || date->day < 1 ||
        date->day > days_in_month(date->year, date->month)) {
        return false;
    }
    bool is_midnight_after =
        time->hour == 24 && time->minute == 0 && time->second == 0 && time->us == 0;
    return (time->hour < 24 || is_midnight_after) && time->minute < 60 && time->second <= 60;
}

static enum dbos_err combine(const struct scan *scan, const struct date *date,
                             const struct day_time *time, int64_t zone_seconds, int64_t *out_us) {
    if (!in_range(date, time)) {
        return field_range(scan);
    }
    /* The range of PostgreSQL's timestamps that 64 bits of microseconds since 1970 can hold. */
    int64_t days = date->year < -5000 || date->year > 294246
                       ? INT64_MIN
                       : days_of(date->year, date->month, date->day);
    if (days < days_of(-4713, 11, 24)) {
        return dbos_fail(scan->info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range: \"%.*s\"",
                         scan->whole.size_bytes > 200 ? 200 : (int)scan->whole.size_bytes,
                         (const char *)scan->whole.data);
    }
    int64_t seconds = time->hour * 3600 + time->minute * 60 + time->second - zone_seconds;
    *out_us = days * US_PER_DAY + seconds * US_PER_SECOND + time->us;
    return DBOS_OK;
}

static enum dbos_err read_word(const struct scan *scan, int64_t *out_us) {
    static const char *const words[] = {"now",       "today",    "tomorrow",
                                        "yesterday", "infinity", "-infinity"};
    if (dbos_text_equals(scan->whole, "epoch")) {
        *out_us = 0;
        return DBOS_OK;
    }
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (dbos_text_equals(scan->whole, words[i])) {
            enum dbos_err err = dbos_fail(scan->info, DBOS_ERR_DATETIME,
                                          "timestamp \"%s\" is not supported", words[i]);
            dbos_err_hint(scan->info, "%s", i < 4 ? "Use now()." : "Use NULL or a far date.");
            return err;
        }
    }
    return invalid_time(scan);
}

enum dbos_err dbos_time_in(const char *text, size_t size_bytes, int64_t *out_us,
                           struct dbos_errinfo *info) {
    struct dbos_bytes trimmed = dbos_text_trim(text, size_bytes);
    struct scan scan = {.at = (const char *)trimmed.data, .whole = trimmed, .info = info};
    scan.end = trimmed.size_bytes == 0 ? scan.at : scan.at + trimmed.size_bytes;
    struct date date = {0};
    struct day_time time = {0};
    int64_t zone_seconds = 0;
    *out_us = 0;
    if (!is_digit(&scan)) {
        return read_word(&scan, out_us);
    }
    if (!read_date(&scan, &date)) {
        return invalid_time(&scan);
    }
    bool has_separator = skip(&scan, 'T') || skip(&scan, 't') || skip_blanks(&scan);
    if (has_separator && is_digit(&scan)) {
        if (!read_day_time(&scan, &time)) {
            return invalid_time(&scan);
        }
    } else if (scan.at[-1] == 'T' || scan.at[-1] == 't') {
        return invalid_time(&scan);
    }
    (void)skip_blanks(&scan);
    bool is_bc = skip_word(&scan, "bc");
    enum dbos_err err = is_bc ? DBOS_OK : read_zone(&scan, &zone_seconds);
    if (err != DBOS_OK) {
        return err;
    }
    (void)skip_blanks(&scan);
    is_bc = is_bc || skip_word(&scan, "bc");
    if (scan.at != scan.end) {
        return invalid_time(&scan);
    }
    if (date.year == 0) {
        return field_range(&scan);
    }
    date.year = is_bc ? 1 - date.year : date.year;
    return combine(&scan, &date, &time, zone_seconds, out_us);
}
