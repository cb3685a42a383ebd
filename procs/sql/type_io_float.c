#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "procs/sql/type_io_internal.h"

/* -- in -----------------------------------------------------------------------------------------
 */

static enum dbos_err invalid_float(const char *text, size_t size_bytes, struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_INVALID_TEXT,
                     "invalid input syntax for type double precision: \"%.*s\"",
                     size_bytes > 300 ? 300 : (int)size_bytes, text);
}

/* strtod() needs a NUL behind the number; most numbers fit the small buffer. */
enum dbos_err dbos_float_in(const char *text, size_t size_bytes, struct dbos_arena *arena,
                            double *out, struct dbos_errinfo *info) {
    *out = 0;
    struct dbos_bytes trimmed = dbos_text_trim(text, size_bytes);
    if (trimmed.size_bytes == 0) {
        return invalid_float(text, size_bytes, info);
    }
    char small[64];
    char *number = small;
    if (trimmed.size_bytes < sizeof small) {
        memcpy(small, trimmed.data, trimmed.size_bytes);
        small[trimmed.size_bytes] = 0;
    } else {
        number = dbos_arena_copy(arena, trimmed.data, trimmed.size_bytes);
        if (number == NULL) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
        }
    }
    char *end = NULL;
    errno = 0;
    double value = strtod(number, &end);
    if (end != number + trimmed.size_bytes) {
        return invalid_float(text, size_bytes, info);
    }
    if (errno == ERANGE && (value == 0 || isinf(value))) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE,
                         "\"%.300s\" is out of range for type double precision", number);
    }
    *out = value;
    return DBOS_OK;
}

/* -- out ----------------------------------------------------------------------------------------
 */

enum { DIGITS_MAX = 17 }; /* enough for every double */

/* value = 0.d1d2d3… × 10^(exponent + 1), as %e writes it */
struct decimal {
    char digits[DIGITS_MAX + 1];
    int count;
    int exponent;
};

static struct decimal decimal_of(double value, int count) {
    char text[40];
    (void)snprintf(text, sizeof text, "%.*e", count - 1, value);
    struct decimal decimal = {.count = count};
    const char *e = strchr(text, 'e');
    int used = 0;
    for (const char *at = text; at < e && used < count; at++) {
        if (*at >= '0' && *at <= '9') {
            decimal.digits[used++] = *at;
        }
    }
    decimal.exponent = atoi(e + 1);
    return decimal;
}

/* The next decimal of as many digits. */
static void step_up(struct decimal *decimal) {
    int at = decimal->count - 1;
    while (at >= 0 && decimal->digits[at] == '9') {
        decimal->digits[at--] = '0';
    }
    if (at < 0) {
        decimal->digits[0] = '1';
        decimal->exponent++;
    } else {
        decimal->digits[at]++;
    }
}

__extension__ typedef unsigned __int128 wide;

/* Does the decimal lie exactly between two doubles? Then it is an odd number of 54 bits times a
 * power of two. Of 17 digits that needs a power of five that is small enough to be looked at here:
 * 5^23 < 2^54 above the point, and a divisor of the digits below it. */
static bool is_tie(const struct decimal *decimal) {
    int exponent = decimal->exponent - (decimal->count - 1); /* of the digits as an integer */
    if (exponent > 23 || exponent < -24) {
        return false;
    }
    wide number = 0;
    for (int i = 0; i < decimal->count; i++) {
        number = number * 10u + (unsigned)(decimal->digits[i] - '0');
    }
    for (; exponent > 0; exponent--) {
        number *= 5u;
    }
    for (; exponent < 0; exponent++) {
        if (number % 5u != 0) {
            return false;
        }
        number /= 5u;
    }
    while (number != 0 && number % 2u == 0) {
        number /= 2u;
    }
    return number >> 53 == 1u;
}

/* Does it read back as `value`, and not only because a tie was rounded its way? */
static bool reads_back(const struct decimal *decimal, double value) {
    char text[40];
    (void)snprintf(text, sizeof text, "%c.%.*se%d", decimal->digits[0], decimal->count - 1,
                   decimal->digits + 1, decimal->exponent);
    return strtod(text, NULL) == value && !is_tie(decimal);
}

/* A power of two has a smaller gap below than above: there the nearest decimal may miss while the
 * next one up reads back. */
static bool try_count(double value, int count, struct decimal *out) {
    *out = decimal_of(value, count);
    if (reads_back(out, value)) {
        return true;
    }
    int exponent;
    if (frexp(value, &exponent) != 0.5) {
        return false;
    }
    step_up(out);
    return reads_back(out, value);
}

/* A decimal of 15 digits or fewer survives the way through a normal double, so one that exists is
 * found, with zeros behind it, at 15; subnormal numbers have fewer digits and try all lengths. */
static struct decimal shortest(double value) {
    struct decimal decimal = {.count = 0};
    for (int count = value < 2.3e-308 ? 1 : 15; count <= DIGITS_MAX; count++) {
        if (try_count(value, count, &decimal)) {
            break;
        }
    }
    while (decimal.count > 1 && decimal.digits[decimal.count - 1] == '0') {
        decimal.count--;
    }
    return decimal;
}

static void put_scientific(const struct decimal *decimal, struct dbos_buf *out) {
    char text[40];
    dbos_buf_put(out, decimal->digits, 1);
    if (decimal->count > 1) {
        dbos_buf_put_u8(out, '.');
        dbos_buf_put(out, decimal->digits + 1, (size_t)decimal->count - 1);
    }
    int length = snprintf(text, sizeof text, "e%+03d", decimal->exponent);
    dbos_buf_put(out, text, (size_t)length);
}

static void put_plain(const struct decimal *decimal, struct dbos_buf *out) {
    int before = decimal->exponent + 1; /* digits before the point */
    if (before <= 0) {
        dbos_buf_put(out, "0.", 2);
        dbos_buf_put(out, "0000", (size_t)-before);
        dbos_buf_put(out, decimal->digits, (size_t)decimal->count);
        return;
    }
    int whole = decimal->count < before ? decimal->count : before;
    dbos_buf_put(out, decimal->digits, (size_t)whole);
    dbos_buf_put(out, "000000000000000", (size_t)(before - whole));
    if (decimal->count > before) {
        dbos_buf_put_u8(out, '.');
        dbos_buf_put(out, decimal->digits + before, (size_t)(decimal->count - before));
    }
}

/* PostgreSQL writes exponents below -4 and from 15 on. */
void dbos_float_out(double value, struct dbos_buf *out) {
    if (isnan(value)) {
        dbos_buf_put(out, "NaN", 3);
        return;
    }
    if (signbit(value) != 0) {
        dbos_buf_put_u8(out, '-');
        value = -value;
    }
    if (isinf(value)) {
        dbos_buf_put(out, "Infinity", 8);
    } else if (value == 0) {
        dbos_buf_put_u8(out, '0');
    } else {
        struct decimal decimal = shortest(value);
        if (decimal.exponent < -4 || decimal.exponent >= 15) {
            put_scientific(&decimal, out);
        } else {
            put_plain(&decimal, out);
        }
    }
}
