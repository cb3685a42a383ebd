#include "storage/value_text.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Year, month and day of a count of days since 1970-01-01 (Howard Hinnant's civil_from_days). */
static void civil_of_days(int64_t days, int64_t *year, int64_t *month, int64_t *day) {
    days += 719468; /* from 0000-03-01 */
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153; /* 0 = March */
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

static void describe_time(int64_t us, char *out, size_t out_bytes) {
    enum { DAY_SECONDS = 86400, SECOND_US = 1000000 };
    int64_t seconds = us / SECOND_US - (us % SECOND_US < 0);
    int64_t fraction = us - seconds * SECOND_US;
    int64_t days = seconds / DAY_SECONDS - (seconds % DAY_SECONDS < 0);
    int64_t second = seconds - days * DAY_SECONDS;
    int64_t year, month, day;
    civil_of_days(days, &year, &month, &day);
    char tail[16] = "";
    if (fraction != 0) {
        int length = snprintf(tail, sizeof tail, ".%06" PRId64, fraction);
        while (length > 0 && tail[length - 1] == '0') {
            tail[--length] = '\0';
        }
    }
    (void)snprintf(out, out_bytes,
                   "%04" PRId64 "-%02" PRId64 "-%02" PRId64 " %02" PRId64 ":%02" PRId64
                   ":%02" PRId64 "%s+00",
                   year, month, day, second / 3600, second / 60 % 60, second % 60, tail);
}

/* The shortest digits that read back as the same value. */
static void describe_real(double real, char *out, size_t out_bytes) {
    if (isnan(real) || isinf(real)) {
        (void)snprintf(out, out_bytes, "%s",
                       isnan(real) ? "NaN" : (real < 0 ? "-Infinity" : "Infinity"));
        return;
    }
    char digits[40] = "";
    for (int precision = 1; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, real);
        if (strtod(digits, NULL) == real) {
            break;
        }
    }
    (void)snprintf(out, out_bytes, "%s", digits);
}

static void describe_text(struct dbos_bytes text, char *out, size_t out_bytes) {
    size_t taken = text.size_bytes < out_bytes - 1 ? text.size_bytes : out_bytes - 1;
    while (taken > 0 && taken < text.size_bytes && (text.data[taken] & 0xc0) == 0x80) {
        taken--; /* not within a character */
    }
    if (taken != 0) {
        memcpy(out, text.data, taken);
    }
    out[taken] = '\0';
}

static void describe_bytea(struct dbos_bytes bytes, char *out, size_t out_bytes) {
    size_t used = (size_t)snprintf(out, out_bytes, "\\x");
    for (size_t i = 0; i < bytes.size_bytes && used + 2 < out_bytes; i++) {
        used += (size_t)snprintf(out + used, out_bytes - used, "%02x", bytes.data[i]);
    }
}

void dbos_datum_describe(const struct dbos_datum *datum, char *out, size_t out_bytes) {
    DBOS_CHECK(out_bytes >= 8);
    if (datum->is_null) {
        (void)snprintf(out, out_bytes, "null");
        return;
    }
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
        (void)snprintf(out, out_bytes, "%s", datum->integer != 0 ? "t" : "f");
        return;
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        (void)snprintf(out, out_bytes, "%" PRId64, datum->integer);
        return;
    case DBOS_TYPE_TIMESTAMPTZ:
        describe_time(datum->integer, out, out_bytes);
        return;
    case DBOS_TYPE_FLOAT8:
        describe_real(datum->real, out, out_bytes);
        return;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        describe_text(datum->bytes, out, out_bytes);
        return;
    case DBOS_TYPE_BYTEA:
        describe_bytea(datum->bytes, out, out_bytes);
        return;
    case DBOS_TYPE_VOID:
        break;
    }
    out[0] = '\0';
}
