#include "provenance/archive_text.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void put_chars(struct dbos_buf *out, const char *text) {
    dbos_buf_put(out, text, strlen(text));
}

void dbos_archive_text_bool(struct dbos_buf *out, bool value) {
    dbos_buf_put_u8(out, value ? 't' : 'f');
}

void dbos_archive_text_int(struct dbos_buf *out, int64_t value) {
    char text[20];
    char *at = text + sizeof text;
    uint64_t rest = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        *--at = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest != 0);
    if (value < 0) {
        *--at = '-';
    }
    dbos_buf_put(out, at, (size_t)(text + sizeof text - at));
}

/* The shortest digits that read back equal, laid out as PostgreSQL does: plain from 1e-4 to 1e15.
 */
void dbos_archive_text_real(struct dbos_buf *out, double value) {
    if (isnan(value) || isinf(value)) {
        put_chars(out, isnan(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity");
        return;
    }
    char text[40] = "";
    int precision = 1;
    do {
        (void)snprintf(text, sizeof text, "%.*e", precision - 1, value);
        precision++;
    } while (precision <= 17 && strtod(text, NULL) != value);
    int exponent = (int)strtol(strchr(text, 'e') + 1, NULL, 10);
    int digits = precision - 1;
    if (exponent >= -4 && exponent < 15) {
        int decimals = digits - 1 - exponent;
        (void)snprintf(text, sizeof text, "%.*f", decimals < 0 ? 0 : decimals, value);
    }
    put_chars(out, text);
}

void dbos_archive_text_bytea(struct dbos_buf *out, const void *data, size_t size_bytes) {
    static const char digits[] = "0123456789abcdef";
    const uint8_t *from = data;
    uint8_t *to = dbos_buf_reserve(out, 2 + 2 * size_bytes);
    if (to == NULL) {
        return;
    }
    *to++ = '\\';
    *to++ = 'x';
    for (size_t i = 0; i < size_bytes; i++) {
        *to++ = (uint8_t)digits[from[i] >> 4];
        *to++ = (uint8_t)digits[from[i] & 15];
    }
    out->size_bytes += 2 + 2 * size_bytes;
}

/* Days since 1970-01-01 to a date of the proleptic Gregorian calendar (H. Hinnant's algorithm). */
static void civil_of_days(int64_t days, int64_t *year, unsigned *month, unsigned *day) {
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    unsigned day_of_era = (unsigned)(days - era * 146097);
    unsigned year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    unsigned day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    unsigned shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = (int64_t)year_of_era + era * 400 + (*month <= 2 ? 1 : 0);
}

void dbos_archive_text_timestamp(struct dbos_buf *out, int64_t us) {
    const int64_t day_us = INT64_C(86400000000);
    int64_t days = us / day_us - (us % day_us < 0 ? 1 : 0);
    int64_t rest = us - days * day_us;
    int64_t year;
    unsigned month, day;
    civil_of_days(days, &year, &month, &day);
    char text[80];
    (void)snprintf(text, sizeof text, "%04lld-%02u-%02u %02d:%02d:%02d",
                   (long long)(year > 0 ? year : 1 - year), month, day, (int)(rest / 3600000000),
                   (int)(rest / 60000000 % 60), (int)(rest / 1000000 % 60));
    put_chars(out, text);
    int fraction = (int)(rest % 1000000);
    if (fraction != 0) {
        int length = snprintf(text, sizeof text, ".%06d", fraction);
        while (text[length - 1] == '0') {
            text[--length] = '\0';
        }
        put_chars(out, text);
    }
    put_chars(out, year > 0 ? "+00" : "+00 BC");
}

void dbos_archive_text_datum(struct dbos_buf *out, const struct dbos_datum *datum) {
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
        dbos_archive_text_bool(out, datum->integer != 0);
        return;
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        dbos_archive_text_int(out, datum->integer);
        return;
    case DBOS_TYPE_FLOAT8:
        dbos_archive_text_real(out, datum->real);
        return;
    case DBOS_TYPE_TIMESTAMPTZ:
        dbos_archive_text_timestamp(out, datum->integer);
        return;
    case DBOS_TYPE_BYTEA:
        dbos_archive_text_bytea(out, datum->bytes.data, datum->bytes.size_bytes);
        return;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_VOID:
        dbos_buf_put(out, datum->bytes.data, datum->bytes.size_bytes);
        return;
    }
}

/* One field of a row literal: quoted where it holds what separates fields. */
static void put_field(struct dbos_buf *out, const struct dbos_datum *datum) {
    struct dbos_buf text;
    dbos_buf_init(&text, out->alloc);
    dbos_archive_text_datum(&text, datum);
    bool quote = text.size_bytes == 0;
    for (size_t i = 0; i < text.size_bytes; i++) {
        quote = quote || strchr("(),\"\\ \t\n", text.data[i]) != NULL;
    }
    if (!quote) {
        dbos_buf_put(out, text.data, text.size_bytes);
    } else {
        dbos_buf_put_u8(out, '"');
        for (size_t i = 0; i < text.size_bytes; i++) {
            if (text.data[i] == '"' || text.data[i] == '\\') {
                dbos_buf_put_u8(out, text.data[i]);
            }
            dbos_buf_put_u8(out, text.data[i]);
        }
        dbos_buf_put_u8(out, '"');
    }
    out->failed = out->failed || text.failed;
    dbos_buf_fini(&text);
}

bool dbos_archive_text_key(struct dbos_buf *out, const struct dbos_table_def *def,
                           const uint8_t *payload) {
    if (def->index_count == 0 || !def->indexes[0].primary) {
        return false;
    }
    const struct dbos_index_def *key = &def->indexes[0];
    bool several = key->column_count > 1;
    for (uint32_t i = 0; i < key->column_count; i++) {
        struct dbos_object_id reference = {.size_bytes = 0};
        struct dbos_datum datum = dbos_payload_column(def, payload, key->columns[i], &reference);
        if (datum.is_null || reference.size_bytes != 0) {
            return false;
        }
        if (several) {
            dbos_buf_put_u8(out, i == 0 ? '(' : ',');
            put_field(out, &datum);
        } else {
            dbos_archive_text_datum(out, &datum);
        }
    }
    if (several) {
        dbos_buf_put_u8(out, ')');
    }
    return true;
}

/* Length of the valid UTF-8 character at `at`, 0 = none. */
static size_t utf8_length(const uint8_t *at, size_t left) {
    uint8_t lead = at[0];
    size_t length = lead < 0x80   ? 1
                    : lead < 0xc2 ? 0
                    : lead < 0xe0 ? 2
                    : lead < 0xf0 ? 3
                    : lead < 0xf5 ? 4
                                  : 0;
    if (length == 0 || length > left) {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (lead == 0xe0 && at[1] < 0xa0) || (lead == 0xf0 && at[1] < 0x90);
    bool outside = (lead == 0xed && at[1] > 0x9f) || (lead == 0xf4 && at[1] > 0x8f);
    return overlong || outside ? 0 : length;
}

void dbos_archive_text_clean(struct dbos_buf *out, const void *data, size_t size_bytes) {
    const uint8_t *from = data;
    size_t at = 0;
    while (at < size_bytes) {
        size_t length = from[at] == 0 ? 0 : utf8_length(from + at, size_bytes - at);
        if (length == 0) {
            dbos_buf_put_u8(out, '?');
            at++;
        } else {
            dbos_buf_put(out, from + at, length);
            at += length;
        }
    }
}
