#include "procs/sql/type_io.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(procs_type_io, .timeout = 30);

struct fixture {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    struct dbos_buf out;
    struct dbos_errinfo info;
};

static void open_fixture(struct fixture *f) {
    *f = (struct fixture){0};
    dbos_alloc_init(&f->alloc, "test", 0);
    dbos_arena_init(&f->arena, &f->alloc, 0);
    dbos_buf_init(&f->out, &f->alloc);
}

static void close_fixture(struct fixture *f) {
    dbos_buf_fini(&f->out);
    dbos_arena_fini(&f->arena);
    dbos_alloc_fini(&f->alloc);
}

/* What a user sees: the text form of what was read, or "SQLSTATE message". */
static const char *through(struct fixture *f, enum dbos_type type, const char *text) {
    struct dbos_datum datum;
    dbos_arena_reset(&f->arena);
    dbos_buf_reset(&f->out);
    if (dbos_text_in(type, text, strlen(text), &f->arena, &datum, &f->info) != DBOS_OK) {
        dbos_buf_put(&f->out, f->info.sqlstate, 5);
        dbos_buf_put_u8(&f->out, ' ');
        dbos_buf_put(&f->out, f->info.message, strlen(f->info.message));
    } else {
        dbos_text_out(&datum, &f->out);
    }
    dbos_buf_put_u8(&f->out, 0);
    return (const char *)f->out.data;
}

struct form {
    enum dbos_type type;
    const char *in;
    const char *out;
};

/* Every line is what PostgreSQL 15.20 says. */
static const struct form forms[] = {
    {DBOS_TYPE_BOOL, "t", "t"},
    {DBOS_TYPE_BOOL, " TRUE ", "t"},
    {DBOS_TYPE_BOOL, "of", "f"},
    {DBOS_TYPE_BOOL, "o", "22P02 invalid input syntax for type boolean: \"o\""},
    {DBOS_TYPE_BOOL, "", "22P02 invalid input syntax for type boolean: \"\""},
    {DBOS_TYPE_INT2, " -32768", "-32768"},
    {DBOS_TYPE_INT2, "32768", "22003 value \"32768\" is out of range for type smallint"},
    {DBOS_TYPE_INT4, "+7", "7"},
    {DBOS_TYPE_INT4, "2147483648", "22003 value \"2147483648\" is out of range for type integer"},
    {DBOS_TYPE_INT4, "1.5", "22P02 invalid input syntax for type integer: \"1.5\""},
    {DBOS_TYPE_INT8, "-9223372036854775808", "-9223372036854775808"},
    {DBOS_TYPE_INT8, "9223372036854775808",
     "22003 value \"9223372036854775808\" is out of range for type bigint"},
    {DBOS_TYPE_INT8, "-", "22P02 invalid input syntax for type bigint: \"-\""},
    {DBOS_TYPE_FLOAT8, "0.1", "0.1"},
    {DBOS_TYPE_FLOAT8, "-0", "-0"},
    {DBOS_TYPE_FLOAT8, "100000000000000", "100000000000000"},
    {DBOS_TYPE_FLOAT8, "1e15", "1e+15"},
    {DBOS_TYPE_FLOAT8, "0.0001", "0.0001"},
    {DBOS_TYPE_FLOAT8, "0.00001", "1e-05"},
    {DBOS_TYPE_FLOAT8, "1e23", "9.999999999999999e+22"}, /* 1e23 is a tie: the double is below */
    {DBOS_TYPE_FLOAT8, "1e126", "1e+126"},
    {DBOS_TYPE_FLOAT8, "5.684341886080802e-14", "5.684341886080802e-14"}, /* 2^-44 */
    {DBOS_TYPE_FLOAT8, "5e-324", "5e-324"},
    {DBOS_TYPE_FLOAT8, "nan", "NaN"},
    {DBOS_TYPE_FLOAT8, "-inf", "-Infinity"},
    {DBOS_TYPE_FLOAT8, "1e400", "22003 \"1e400\" is out of range for type double precision"},
    {DBOS_TYPE_FLOAT8, "1e-400", "22003 \"1e-400\" is out of range for type double precision"},
    {DBOS_TYPE_FLOAT8, "1.5x", "22P02 invalid input syntax for type double precision: \"1.5x\""},
    {DBOS_TYPE_BYTEA, "\\x00Ff", "\\x00ff"},
    {DBOS_TYPE_BYTEA, "a\\\\b\\001", "\\x615c6201"},
    {DBOS_TYPE_BYTEA, "\\x0", "22023 invalid hexadecimal data: odd number of digits"},
    {DBOS_TYPE_BYTEA, "\\x0g", "22023 invalid hexadecimal digit: \"g\""},
    {DBOS_TYPE_BYTEA, "\\8", "22P02 invalid input syntax for type bytea"},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-02", "2024-01-02 00:00:00+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-02T03:04:05.120Z", "2024-01-02 03:04:05.12+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-02 03:04:05-08:30", "2024-01-02 11:34:05+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-02 03:04:05.1234565", "2024-01-02 03:04:05.123456+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-01 24:00", "2024-01-02 00:00:00+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "20240102T030405Z", "2024-01-02 03:04:05+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "epoch", "1970-01-01 00:00:00+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "1969-12-31 23:59:59.999999", "1969-12-31 23:59:59.999999+00"},
    {DBOS_TYPE_TIMESTAMPTZ, "0001-01-01 BC", "0001-01-01 00:00:00+00 BC"},
    {DBOS_TYPE_TIMESTAMPTZ, "4714-11-24 BC", "4714-11-24 00:00:00+00 BC"},
    {DBOS_TYPE_TIMESTAMPTZ, "4714-11-23 BC", "22008 timestamp out of range: \"4714-11-23 BC\""},
    {DBOS_TYPE_TIMESTAMPTZ, "2023-02-29",
     "22008 date/time field value out of range: \"2023-02-29\""},
    {DBOS_TYPE_TIMESTAMPTZ, "2024-01-02 03:04:05+16",
     "22009 time zone displacement out of range: \"2024-01-02 03:04:05+16\""},
    {DBOS_TYPE_TIMESTAMPTZ, "soon",
     "22007 invalid input syntax for type timestamp with time zone: \"soon\""},
    {DBOS_TYPE_TEXT, "caf\303\251", "caf\303\251"},
    {DBOS_TYPE_TEXT, "\303(", "22021 invalid byte sequence for encoding \"UTF8\": 0xc3 0x28"},
    {DBOS_TYPE_TEXT, "\355\240\200",
     "22021 invalid byte sequence for encoding \"UTF8\": 0xed 0xa0 0x80"},
};

Test(procs_type_io, texts_are_read_and_written_as_postgresql_does) {
    struct fixture f;
    open_fixture(&f);
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        const char *got = through(&f, forms[i].type, forms[i].in);
        cr_expect_str_eq(got, forms[i].out, "%s '%s': %s", dbos_type_name(forms[i].type),
                         forms[i].in, got);
    }
    close_fixture(&f);
}

/* Ours alone: PostgreSQL takes them. */
Test(procs_type_io, times_that_depend_on_the_clock_or_never_end_are_refused) {
    struct fixture f;
    open_fixture(&f);
    static const char *const words[] = {"now",       "Today",    "tomorrow",
                                        "yesterday", "infinity", "-Infinity"};
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct dbos_datum datum;
        enum dbos_err err = dbos_text_in(DBOS_TYPE_TIMESTAMPTZ, words[i], strlen(words[i]),
                                         &f.arena, &datum, &f.info);
        cr_expect_eq(err, DBOS_ERR_DATETIME, "%s", words[i]);
        cr_expect(f.info.hint[0] != 0, "%s", words[i]);
    }
    close_fixture(&f);
}

static uint64_t step(uint64_t *state) {
    *state += 0x9e3779b97f4a7c15u;
    return dbos_load_u64(state) * 0xbf58476d1ce4e5b9u ^ (*state >> 29);
}

/* Digits without the zeros before the first and behind the last other one. */
static int significant(const uint8_t *text, size_t size_bytes) {
    int digits = 0;
    int zeros = 0;
    for (size_t i = 0; i < size_bytes && text[i] != 'e'; i++) {
        if (text[i] == '0') {
            zeros += digits != 0;
        } else if (text[i] >= '1' && text[i] <= '9') {
            digits += zeros + 1;
            zeros = 0;
        }
    }
    return digits;
}

/* Exactly between two doubles (which long double can hold): readers may differ, so it is not used.
 */
static bool is_tie(const char *text, double value) {
    long double exact = strtold(text, NULL);
    long double here = (long double)value;
    return exact == (here + (long double)nextafter(value, INFINITY)) / 2 ||
           exact == (here + (long double)nextafter(value, -INFINITY)) / 2;
}

Test(procs_type_io, every_float_reads_back_from_its_text_and_no_shorter_text_does) {
    struct fixture f;
    open_fixture(&f);
    uint64_t state = 1;
    for (int i = 0; i < 20000; i++) {
        uint64_t bits = step(&state);
        double value;
        memcpy(&value, &bits, sizeof value);
        if (isnan(value) || isinf(value)) {
            continue;
        }
        struct dbos_datum datum = dbos_datum_real(value);
        struct dbos_datum back;
        dbos_buf_reset(&f.out);
        dbos_text_out(&datum, &f.out);
        enum dbos_err err = dbos_text_in(DBOS_TYPE_FLOAT8, (const char *)f.out.data,
                                         f.out.size_bytes, &f.arena, &back, &f.info);
        cr_assert_eq(err, DBOS_OK);
        cr_assert_eq(memcmp(&back.real, &value, sizeof value), 0, "%.*s is not %.17g",
                     (int)f.out.size_bytes, (const char *)f.out.data, value);
        char shorter[40];
        int digits = significant(f.out.data, f.out.size_bytes);
        (void)snprintf(shorter, sizeof shorter, "%.*e", digits < 2 ? 0 : digits - 2, value);
        cr_assert(digits < 2 || strtod(shorter, NULL) != value || is_tie(shorter, value),
                  "%s is shorter", shorter);
    }
    close_fixture(&f);
}

Test(procs_type_io, values_survive_the_binary_format) {
    struct fixture f;
    open_fixture(&f);
    const struct dbos_datum datums[] = {
        dbos_datum_int(DBOS_TYPE_BOOL, 1),
        dbos_datum_int(DBOS_TYPE_INT2, -2),
        dbos_datum_int(DBOS_TYPE_INT4, INT32_MIN),
        dbos_datum_int(DBOS_TYPE_INT8, INT64_MAX),
        dbos_datum_real(-1.5e300),
        dbos_datum_bytes(DBOS_TYPE_TEXT, "text", 4),
        dbos_datum_bytes(DBOS_TYPE_BYTEA, "\0\xff", 2),
        dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, 946684800000001),
    };
    for (size_t i = 0; i < sizeof datums / sizeof datums[0]; i++) {
        struct dbos_datum back;
        dbos_buf_reset(&f.out);
        dbos_binary_out(&datums[i], &f.out);
        uint32_t oid = dbos_type_oid((enum dbos_type)datums[i].type);
        enum dbos_err err = dbos_binary_in(oid, f.out.data, f.out.size_bytes, &back, &f.info);
        cr_assert_eq(err, DBOS_OK, "oid %u: %s", oid, f.info.message);
        cr_expect_eq(dbos_datum_compare(&datums[i], &back), 0, "oid %u", oid);
        /* One byte less is never the same value. */
        err = dbos_binary_in(oid, f.out.data, f.out.size_bytes - 1, &back, &f.info);
        cr_expect(err == DBOS_ERR_INVALID_BINARY || dbos_datum_compare(&datums[i], &back) != 0);
    }
    /* 2000-01-01 00:00:00.000001 is 1 for PostgreSQL. */
    dbos_buf_reset(&f.out);
    dbos_binary_out(&datums[7], &f.out);
    cr_expect_eq(memcmp(f.out.data, "\0\0\0\0\0\0\0\1", 8), 0);
    close_fixture(&f);
}

Test(procs_type_io, binary_values_that_are_not_ours_are_refused_by_name) {
    struct fixture f;
    open_fixture(&f);
    static const struct {
        uint32_t oid;
        const char *data;
        size_t size_bytes;
        enum dbos_err err;
    } cases[] = {
        {1700, "\0\0\0\0\0\0\0\0", 8, DBOS_ERR_NOT_SUPPORTED}, /* numeric */
        {25, "a\0b", 3, DBOS_ERR_ENCODING},
        {25, "\xff", 1, DBOS_ERR_ENCODING},
        {1184, "\x7f\xff\xff\xff\xff\xff\xff\xff", 8, DBOS_ERR_DATETIME}, /* infinity */
        {1184, "\x7f\xff\xff\xff\xff\xff\xff\xfe", 8, DBOS_ERR_DATETIME_RANGE},
        {23, "\0\0\0", 3, DBOS_ERR_INVALID_BINARY},
        {16, "", 0, DBOS_ERR_INVALID_BINARY},
        {701, "\0", 1, DBOS_ERR_INVALID_BINARY},
        {700, "\x3f\x80\0\0", 4, DBOS_OK}, /* float4 */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_datum datum;
        enum dbos_err err =
            dbos_binary_in(cases[i].oid, cases[i].data, cases[i].size_bytes, &datum, &f.info);
        cr_expect_eq(err, cases[i].err, "case %zu: %s", i, dbos_err_name(err));
    }
    close_fixture(&f);
}

/* Goal: the fast path over eight plain bytes decides as the slow one. Method: every position of a
 * bad byte in a text longer than two words. */
Test(procs_type_io, a_bad_byte_is_found_at_every_position) {
    static const char bad[] = {0, '\x80', '\xff', '\xc0'};
    for (size_t at = 0; at < 20; at++) {
        for (size_t k = 0; k < sizeof bad; k++) {
            char text[20];
            memset(text, 'a', sizeof text);
            cr_assert(dbos_utf8_valid(text, sizeof text));
            text[at] = bad[k];
            cr_expect_not(dbos_utf8_valid(text, sizeof text), "byte %zu", at);
        }
    }
    cr_expect_eq(dbos_utf8_length("a\303\251\342\202\254\360\237\230\200", 10), 4);
}
