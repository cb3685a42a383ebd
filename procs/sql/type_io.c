#include "procs/sql/type_io.h"

#include <stdio.h>

#include "procs/sql/type_io_internal.h"

/* PostgreSQL counts microseconds from 2000-01-01 in its binary format, we from 1970-01-01. */
#define PG_EPOCH_US INT64_C(946684800000000)

enum { SHOWN_BYTES_MAX = 300 }; /* of an input, in a message */

static int shown(size_t size_bytes) {
    return size_bytes > SHOWN_BYTES_MAX ? SHOWN_BYTES_MAX : (int)size_bytes;
}

/* -- text helpers -------------------------------------------------------------------------------
 */

static bool is_blank(uint8_t c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

struct dbos_bytes dbos_text_trim(const char *text, size_t size_bytes) {
    const uint8_t *start = (const uint8_t *)text;
    while (size_bytes != 0 && is_blank(*start)) {
        start++;
        size_bytes--;
    }
    while (size_bytes != 0 && is_blank(start[size_bytes - 1])) {
        size_bytes--;
    }
    return (struct dbos_bytes){.data = start, .size_bytes = size_bytes};
}

static uint8_t lower(uint8_t c) { return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c; }

/* Is `text` a beginning of `word`? */
static bool begins(struct dbos_bytes text, const char *word) {
    for (size_t i = 0; i < text.size_bytes; i++) {
        if (word[i] == 0 || lower(text.data[i]) != (uint8_t)word[i]) {
            return false;
        }
    }
    return true;
}

bool dbos_text_equals(struct dbos_bytes text, const char *lower_case) {
    return text.size_bytes == strlen(lower_case) && begins(text, lower_case);
}

/* -- UTF-8 --------------------------------------------------------------------------------------
 */

/* Bytes of the character that begins here: 1 to 4, or 0 = invalid. NUL is invalid. */
static size_t character(const uint8_t *at, size_t left_bytes) {
    uint8_t first = at[0];
    if (first < 0x80) {
        return first != 0;
    }
    size_t size_bytes = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || left_bytes < size_bytes) {
        return 0;
    }
    for (size_t i = 1; i < size_bytes; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    bool is_surrogate = first == 0xed && at[1] > 0x9f;
    bool is_past_end = first == 0xf4 && at[1] > 0x8f;
    return is_overlong || is_surrogate || is_past_end ? 0 : size_bytes;
}

/* Eight bytes of which none is NUL or has the high bit? */
static bool is_plain_word(const uint8_t *at) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t highs = UINT64_C(0x8080808080808080);
    uint64_t word = dbos_load_u64(at);
    return ((word | (word - ones)) & highs) == 0;
}

/* Offset of the first byte that is not valid; size_bytes = all is. */
static size_t first_invalid(const uint8_t *text, size_t size_bytes) {
    size_t at = 0;
    while (at < size_bytes) {
        if (size_bytes - at >= 8 && is_plain_word(text + at)) {
            at += 8;
            continue;
        }
        size_t step = character(text + at, size_bytes - at);
        if (step == 0) {
            return at;
        }
        at += step;
    }
    return size_bytes;
}

bool dbos_utf8_valid(const void *data, size_t size_bytes) {
    return first_invalid(data, size_bytes) == size_bytes;
}

size_t dbos_utf8_length(const void *data, size_t size_bytes) {
    const uint8_t *text = data;
    size_t count = 0;
    for (size_t i = 0; i < size_bytes; i++) {
        count += (text[i] & 0xc0) != 0x80;
    }
    return count;
}

/* As PostgreSQL: the bytes that the first one promises, in hexadecimal. */
static enum dbos_err check_utf8(const uint8_t *text, size_t size_bytes, struct dbos_errinfo *info) {
    size_t at = first_invalid(text, size_bytes);
    if (at == size_bytes) {
        return DBOS_OK;
    }
    uint8_t first = text[at];
    size_t promised = first >= 0xf8 || first < 0xc0 ? 1 : first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    char bytes[32] = "";
    size_t used = 0;
    for (size_t i = 0; i < promised && at + i < size_bytes; i++) {
        used += (size_t)snprintf(bytes + used, sizeof bytes - used, "%s0x%02x", i == 0 ? "" : " ",
                                 text[at + i]);
    }
    return dbos_fail(info, DBOS_ERR_ENCODING, "invalid byte sequence for encoding \"UTF8\": %s",
                     bytes);
}

/* -- text in ------------------------------------------------------------------------------------
 */

static enum dbos_err invalid(enum dbos_type type, const char *text, size_t size_bytes,
                             struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_INVALID_TEXT, "invalid input syntax for type %s: \"%.*s\"",
                     dbos_type_name(type), shown(size_bytes), text);
}

static enum dbos_err bool_in(const char *text, size_t size_bytes, int64_t *out,
                             struct dbos_errinfo *info) {
    struct dbos_bytes word = dbos_text_trim(text, size_bytes);
    bool is_two = word.size_bytes >= 2; /* "o" could be on or off */
    bool is_some = word.size_bytes >= 1;
    bool yes = is_some && (begins(word, "true") || begins(word, "yes") || begins(word, "1") ||
                           dbos_text_equals(word, "on"));
    bool no = is_some && (begins(word, "false") || begins(word, "no") || begins(word, "0") ||
                          (is_two && begins(word, "off")));
    if (!yes && !no) {
        return invalid(DBOS_TYPE_BOOL, text, size_bytes, info);
    }
    *out = yes;
    return DBOS_OK;
}

static int64_t integer_max(enum dbos_type type) {
    return type == DBOS_TYPE_INT2 ? INT16_MAX : type == DBOS_TYPE_INT4 ? INT32_MAX : INT64_MAX;
}

static enum dbos_err integer_in(enum dbos_type type, const char *text, size_t size_bytes,
                                int64_t *out, struct dbos_errinfo *info) {
    struct dbos_bytes digits = dbos_text_trim(text, size_bytes);
    bool is_minus = digits.size_bytes != 0 && digits.data[0] == '-';
    size_t at = is_minus || (digits.size_bytes != 0 && digits.data[0] == '+');
    if (at == digits.size_bytes) {
        return invalid(type, text, size_bytes, info);
    }
    uint64_t limit = (uint64_t)integer_max(type) + is_minus;
    uint64_t value = 0;
    for (; at < digits.size_bytes; at++) {
        if (digits.data[at] < '0' || digits.data[at] > '9') {
            return invalid(type, text, size_bytes, info);
        }
        uint64_t digit = (uint64_t)(digits.data[at] - '0');
        if (value > (limit - digit) / 10) {
            return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE,
                             "value \"%.*s\" is out of range for type %s", shown(size_bytes), text,
                             dbos_type_name(type));
        }
        value = value * 10 + digit;
    }
    *out = (int64_t)(is_minus ? 0 - value : value);
    return DBOS_OK;
}

static int hex_digit(uint8_t c) {
    c = lower(c);
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Behind "\x": pairs of digits, blanks between the pairs. */
static enum dbos_err hex_in(const uint8_t *text, size_t size_bytes, uint8_t *to, size_t *out_bytes,
                            struct dbos_errinfo *info) {
    size_t used = 0;
    for (size_t at = 0; at < size_bytes;) {
        if (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r') {
            at++;
            continue;
        }
        for (size_t i = at; i < at + 2 && i < size_bytes; i++) {
            if (hex_digit(text[i]) < 0) {
                return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                                 "invalid hexadecimal digit: \"%.*s\"",
                                 text[i] < 0x80 ? 1 : (int)character(text + i, size_bytes - i),
                                 (const char *)text + i);
            }
        }
        if (at + 1 == size_bytes) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                             "invalid hexadecimal data: odd number of digits");
        }
        to[used++] = (uint8_t)(hex_digit(text[at]) << 4 | hex_digit(text[at + 1]));
        at += 2;
    }
    *out_bytes = used;
    return DBOS_OK;
}

static bool is_octal(const uint8_t *at, size_t left_bytes) {
    return left_bytes >= 4 && at[1] >= '0' && at[1] <= '3' && at[2] >= '0' && at[2] <= '7' &&
           at[3] >= '0' && at[3] <= '7';
}

/* Bytes as they are, with \\ and \ooo. */
static enum dbos_err escape_in(const uint8_t *text, size_t size_bytes, uint8_t *to,
                               size_t *out_bytes, struct dbos_errinfo *info) {
    size_t used = 0;
    for (size_t at = 0; at < size_bytes;) {
        if (text[at] != '\\') {
            to[used++] = text[at++];
        } else if (is_octal(text + at, size_bytes - at)) {
            to[used++] = (uint8_t)((text[at + 1] - '0') << 6 | (text[at + 2] - '0') << 3 |
                                   (text[at + 3] - '0'));
            at += 4;
        } else if (at + 1 < size_bytes && text[at + 1] == '\\') {
            to[used++] = '\\';
            at += 2;
        } else {
            return dbos_fail(info, DBOS_ERR_INVALID_TEXT, "invalid input syntax for type bytea");
        }
    }
    *out_bytes = used;
    return DBOS_OK;
}

static enum dbos_err bytea_in(const char *text, size_t size_bytes, struct dbos_arena *arena,
                              struct dbos_datum *out, struct dbos_errinfo *info) {
    const uint8_t *bytes = (const uint8_t *)text;
    bool is_hex = size_bytes >= 2 && text[0] == '\\' && text[1] == 'x';
    if (!is_hex && (size_bytes == 0 || memchr(text, '\\', size_bytes) == NULL)) {
        *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, text, size_bytes);
        return DBOS_OK;
    }
    uint8_t *to = dbos_arena_take(arena, is_hex ? size_bytes / 2 : size_bytes);
    if (to == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    size_t used = 0;
    enum dbos_err err = is_hex ? hex_in(bytes + 2, size_bytes - 2, to, &used, info)
                               : escape_in(bytes, size_bytes, to, &used, info);
    *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, to, used);
    return err;
}

enum dbos_err dbos_text_in(enum dbos_type type, const char *text, size_t size_bytes,
                           struct dbos_arena *arena, struct dbos_datum *out,
                           struct dbos_errinfo *info) {
    *out = (struct dbos_datum){.type = (uint8_t)type};
    enum dbos_err err = check_utf8((const uint8_t *)text, size_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    switch (type) {
    case DBOS_TYPE_BOOL:
        return bool_in(text, size_bytes, &out->integer, info);
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        return integer_in(type, text, size_bytes, &out->integer, info);
    case DBOS_TYPE_FLOAT8:
        return dbos_float_in(text, size_bytes, arena, &out->real, info);
    case DBOS_TYPE_TIMESTAMPTZ:
        return dbos_time_in(text, size_bytes, &out->integer, info);
    case DBOS_TYPE_BYTEA:
        return bytea_in(text, size_bytes, arena, out, info);
    case DBOS_TYPE_VOID:
        out->is_null = true; /* drivers send something for the result of a call */
        return DBOS_OK;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        break;
    }
    *out = dbos_datum_bytes(type, text, size_bytes);
    return DBOS_OK;
}

/* -- text out -----------------------------------------------------------------------------------
 */

static void integer_out(int64_t value, struct dbos_buf *out) {
    char text[24];
    size_t at = sizeof text;
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        text[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (value < 0) {
        text[--at] = '-';
    }
    dbos_buf_put(out, text + at, sizeof text - at);
}

static void hex_out(struct dbos_bytes bytes, struct dbos_buf *out) {
    static const char digits[] = "0123456789abcdef";
    uint8_t *to = dbos_buf_reserve(out, 2 + 2 * bytes.size_bytes);
    if (to == NULL) {
        return;
    }
    *to++ = '\\';
    *to++ = 'x';
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        *to++ = (uint8_t)digits[bytes.data[i] >> 4];
        *to++ = (uint8_t)digits[bytes.data[i] & 15];
    }
    out->size_bytes += 2 + 2 * bytes.size_bytes;
}

void dbos_text_out(const struct dbos_datum *datum, struct dbos_buf *out) {
    DBOS_CHECK(!datum->is_null);
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
        dbos_buf_put_u8(out, datum->integer != 0 ? 't' : 'f');
        return;
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        integer_out(datum->integer, out);
        return;
    case DBOS_TYPE_FLOAT8:
        dbos_float_out(datum->real, out);
        return;
    case DBOS_TYPE_TIMESTAMPTZ:
        dbos_time_out(datum->integer, out);
        return;
    case DBOS_TYPE_BYTEA:
        hex_out(datum->bytes, out);
        return;
    case DBOS_TYPE_VOID:
        return;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        dbos_buf_put(out, datum->bytes.data, datum->bytes.size_bytes);
        return;
    }
    dbos_check_failed("a type has a text form", __FILE__, __LINE__);
}

/* -- binary -------------------------------------------------------------------------------------
 */

/* Oids of PostgreSQL types that are read as one of ours. */
enum {
    OID_NAME = 19,
    OID_OID = 26,
    OID_FLOAT4 = 700,
    OID_UNKNOWN = 705,
    OID_BPCHAR = 1042,
    OID_TIMESTAMP = 1114,
};

static enum dbos_err invalid_binary(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_INVALID_BINARY, "incorrect binary data format");
}

static enum dbos_err binary_integer(enum dbos_type type, struct dbos_reader reader,
                                    struct dbos_datum *out, struct dbos_errinfo *info) {
    size_t width = dbos_reader_left(&reader);
    if (width != (size_t)dbos_type_length(type)) {
        return invalid_binary(info);
    }
    int64_t value = width == 1   ? dbos_get_u8(&reader) != 0
                    : width == 2 ? (int16_t)dbos_get_be16(&reader)
                    : width == 4 ? (int32_t)dbos_get_be32(&reader)
                                 : (int64_t)dbos_get_be64(&reader);
    *out = dbos_datum_int(type, value);
    return DBOS_OK;
}

static enum dbos_err binary_time(struct dbos_reader reader, struct dbos_datum *out,
                                 struct dbos_errinfo *info) {
    int64_t value = (int64_t)dbos_get_be64(&reader);
    if (reader.failed || dbos_reader_left(&reader) != 0) {
        return invalid_binary(info);
    }
    if (value == INT64_MAX || value == INT64_MIN) {
        return dbos_fail(info, DBOS_ERR_DATETIME, "timestamp \"infinity\" is not supported");
    }
    if (value > INT64_MAX - PG_EPOCH_US) {
        return dbos_fail(info, DBOS_ERR_DATETIME_RANGE, "timestamp out of range");
    }
    *out = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, value + PG_EPOCH_US);
    return DBOS_OK;
}

static enum dbos_err binary_real(uint32_t oid, struct dbos_reader reader, struct dbos_datum *out,
                                 struct dbos_errinfo *info) {
    double value = 0;
    if (oid == OID_FLOAT4) {
        uint32_t bits = dbos_get_be32(&reader);
        float narrow;
        memcpy(&narrow, &bits, sizeof narrow);
        value = (double)narrow;
    } else {
        uint64_t bits = dbos_get_be64(&reader);
        memcpy(&value, &bits, sizeof value);
    }
    if (reader.failed || dbos_reader_left(&reader) != 0) {
        return invalid_binary(info);
    }
    *out = dbos_datum_real(value);
    return DBOS_OK;
}

static enum dbos_err binary_oid(struct dbos_reader reader, struct dbos_datum *out,
                                struct dbos_errinfo *info) {
    uint32_t value = dbos_get_be32(&reader);
    if (reader.failed || dbos_reader_left(&reader) != 0) {
        return invalid_binary(info);
    }
    *out = dbos_datum_int(DBOS_TYPE_INT8, value);
    return DBOS_OK;
}

static enum dbos_err binary_text(enum dbos_type type, const void *data, size_t size_bytes,
                                 struct dbos_datum *out, struct dbos_errinfo *info) {
    *out = dbos_datum_bytes(type, data, size_bytes);
    return check_utf8(data, size_bytes, info);
}

/* What our own types do not cover but drivers send. */
static enum dbos_err binary_foreign(uint32_t oid, const void *data, size_t size_bytes,
                                    struct dbos_datum *out, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    switch (oid) {
    case 0:
    case OID_UNKNOWN:
        return binary_text(DBOS_TYPE_UNKNOWN, data, size_bytes, out, info);
    case OID_NAME:
    case OID_BPCHAR:
        return binary_text(DBOS_TYPE_TEXT, data, size_bytes, out, info);
    case OID_TIMESTAMP:
        return binary_time(reader, out, info);
    case OID_FLOAT4:
        return binary_real(oid, reader, out, info);
    case OID_OID:
        return binary_oid(reader, out, info);
    default:
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                         "binary format of the type with oid %u is not supported", oid);
    }
}

enum dbos_err dbos_binary_in(uint32_t oid, const void *data, size_t size_bytes,
                             struct dbos_datum *out, struct dbos_errinfo *info) {
    enum dbos_type type = dbos_type_of_oid(oid);
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    *out = dbos_datum_null(type);
    switch (type) {
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        return binary_integer(type, reader, out, info);
    case DBOS_TYPE_FLOAT8:
        return binary_real(oid, reader, out, info);
    case DBOS_TYPE_TIMESTAMPTZ:
        return binary_time(reader, out, info);
    case DBOS_TYPE_BYTEA:
        *out = dbos_datum_bytes(type, data, size_bytes);
        return DBOS_OK;
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        return binary_text(type, data, size_bytes, out, info);
    case DBOS_TYPE_VOID:
        return DBOS_OK;
    case DBOS_TYPE_UNKNOWN:
        break;
    }
    return binary_foreign(oid, data, size_bytes, out, info);
}

void dbos_binary_out(const struct dbos_datum *datum, struct dbos_buf *out) {
    DBOS_CHECK(!datum->is_null);
    uint64_t bits;
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
        dbos_buf_put_u8(out, datum->integer != 0);
        return;
    case DBOS_TYPE_INT2:
        dbos_buf_put_be16(out, (uint16_t)datum->integer);
        return;
    case DBOS_TYPE_INT4:
        dbos_buf_put_be32(out, (uint32_t)datum->integer);
        return;
    case DBOS_TYPE_INT8:
        dbos_buf_put_be64(out, (uint64_t)datum->integer);
        return;
    case DBOS_TYPE_FLOAT8:
        memcpy(&bits, &datum->real, sizeof bits);
        dbos_buf_put_be64(out, bits);
        return;
    case DBOS_TYPE_TIMESTAMPTZ: /* unsigned: a far past may not overflow */
        dbos_buf_put_be64(out, (uint64_t)datum->integer - (uint64_t)PG_EPOCH_US);
        return;
    case DBOS_TYPE_VOID:
        return;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
        dbos_buf_put(out, datum->bytes.data, datum->bytes.size_bytes);
        return;
    }
    dbos_check_failed("a type has a binary form", __FILE__, __LINE__);
}
