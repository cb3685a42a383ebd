/* Functions on bytea: encode and decode, single bytes, MD5 (RFC 1321; a checksum, not for secrets).
 */
#include "procs/sql/function.h"
#include "procs/sql/type_io.h"

#define ARGS                                                                                       \
    struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count, struct dbos_datum *out

/* -- hex and base64 -------------------------------------------------------------------------------
 */

static const char hex_digits[] = "0123456789abcdef";
static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static void put_hex(uint8_t *to, const uint8_t *from, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++) {
        to[2 * i] = (uint8_t)hex_digits[from[i] >> 4];
        to[2 * i + 1] = (uint8_t)hex_digits[from[i] & 15];
    }
}

static bool is_format(struct dbos_bytes name, const char *format) {
    return name.size_bytes == strlen(format) && memcmp(name.data, format, name.size_bytes) == 0;
}
static enum dbos_err no_format(struct dbos_bytes name, struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "unrecognized encoding: \"%.*s\"",
                     (int)(name.size_bytes > 60 ? 60 : name.size_bytes),
                     name.size_bytes == 0 ? "" : (const char *)name.data);
}

/* Lines of 76 digits, as in PostgreSQL (RFC 2045). */
static enum dbos_err encode_base64(struct dbos_eval *eval, struct dbos_bytes from,
                                   struct dbos_datum *out) {
    size_t digits = (from.size_bytes + 2) / 3 * 4;
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, digits + digits / 76, &data);
    if (err != DBOS_OK) {
        return err;
    }
    size_t used = 0;
    size_t line = 0;
    for (size_t i = 0; i < from.size_bytes; i += 3) {
        size_t left = from.size_bytes - i;
        uint32_t group = (uint32_t)from.data[i] << 16;
        group |= left > 1 ? (uint32_t)from.data[i + 1] << 8 : 0;
        group |= left > 2 ? from.data[i + 2] : 0;
        data[used++] = (uint8_t)base64_digits[group >> 18];
        data[used++] = (uint8_t)base64_digits[group >> 12 & 63];
        data[used++] = left > 1 ? (uint8_t)base64_digits[group >> 6 & 63] : '=';
        data[used++] = left > 2 ? (uint8_t)base64_digits[group & 63] : '=';
        line += 4;
        if (line == 76) {
            data[used++] = '\n';
            line = 0;
        }
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, used);
    return DBOS_OK;
}

static enum dbos_err call_encode(ARGS) {
    (void)count;
    struct dbos_bytes from = args[0].bytes;
    uint8_t *data;
    if (is_format(args[1].bytes, "base64")) {
        return encode_base64(eval, from, out);
    }
    if (!is_format(args[1].bytes, "hex")) {
        return no_format(args[1].bytes, eval->info);
    }
    enum dbos_err err = dbos_eval_take(eval, 2 * from.size_bytes, &data);
    if (err == DBOS_OK) {
        put_hex(data, from.data, from.size_bytes);
        *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, 2 * from.size_bytes);
    }
    return err;
}

static int digit_of(const char *digits, uint8_t c) {
    const char *at = c == 0 ? NULL : strchr(digits, c);
    return at == NULL ? -1 : (int)(at - digits);
}
static bool is_blank(uint8_t c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; }

static enum dbos_err decode_hex(struct dbos_bytes from, uint8_t *data, size_t *used,
                                struct dbos_errinfo *info) {
    int high = -1;
    for (size_t i = 0; i < from.size_bytes; i++) {
        uint8_t c = from.data[i];
        int digit = digit_of(hex_digits, c >= 'A' && c <= 'F' ? (uint8_t)(c + 32) : c);
        if (is_blank(c) && high < 0) {
            continue;
        }
        if (digit < 0) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "invalid hexadecimal digit: \"%c\"",
                             c >= 0x80 ? '?' : c);
        }
        if (high < 0) {
            high = digit;
        } else {
            data[(*used)++] = (uint8_t)(high << 4 | digit);
            high = -1;
        }
    }
    return high < 0 ? DBOS_OK
                    : dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                                "invalid hexadecimal data: odd number of digits");
}

static enum dbos_err decode_base64(struct dbos_bytes from, uint8_t *data, size_t *used,
                                   struct dbos_errinfo *info) {
    uint32_t group = 0;
    uint32_t digits = 0;
    uint32_t padding = 0;
    for (size_t i = 0; i < from.size_bytes; i++) {
        uint8_t c = from.data[i];
        int digit = digit_of(base64_digits, c);
        if (is_blank(c)) {
            continue;
        }
        if (c == '=' && digits >= 2) {
            padding++;
            digit = 0;
        } else if (digit < 0 || padding != 0) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                             "invalid symbol \"%c\" found while decoding base64 sequence",
                             c >= 0x80 ? '?' : c);
        }
        group = group << 6 | (uint32_t)digit;
        if (++digits == 4) {
            uint8_t bytes[3] = {(uint8_t)(group >> 16), (uint8_t)(group >> 8), (uint8_t)group};
            memcpy(data + *used, bytes, 3 - padding);
            *used += 3 - padding;
            group = digits = 0;
        }
    }
    return digits == 0 ? DBOS_OK
                       : dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "invalid base64 end sequence");
}

static enum dbos_err call_decode(ARGS) {
    (void)count;
    struct dbos_bytes from = args[0].bytes;
    bool hex = is_format(args[1].bytes, "hex");
    uint8_t *data;
    size_t used = 0;
    if (!hex && !is_format(args[1].bytes, "base64")) {
        return no_format(args[1].bytes, eval->info);
    }
    enum dbos_err err = dbos_eval_take(eval, from.size_bytes + 3, &data);
    if (err == DBOS_OK) {
        err = hex ? decode_hex(from, data, &used, eval->info)
                  : decode_base64(from, data, &used, eval->info);
    }
    *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, data, used);
    return err;
}

/* -- bytes ----------------------------------------------------------------------------------------
 */

static enum dbos_err check_index(struct dbos_bytes bytes, int64_t index,
                                 struct dbos_errinfo *info) {
    if (index < 0 || (uint64_t)index >= bytes.size_bytes) {
        return dbos_fail_state(info, DBOS_ERR_INVALID_PARAMETER, "2202E",
                               "index %lld out of valid range, 0..%lld", (long long)index,
                               (long long)bytes.size_bytes - 1);
    }
    return DBOS_OK;
}

static enum dbos_err call_get_byte(ARGS) {
    (void)count;
    enum dbos_err err = check_index(args[0].bytes, args[1].integer, eval->info);
    if (err == DBOS_OK) {
        *out = dbos_datum_int(DBOS_TYPE_INT4, args[0].bytes.data[args[1].integer]);
    }
    return err;
}

static enum dbos_err call_set_byte(ARGS) {
    (void)count;
    uint8_t *data;
    struct dbos_bytes from = args[0].bytes;
    enum dbos_err err = check_index(from, args[1].integer, eval->info);
    if (err == DBOS_OK) {
        err = dbos_eval_take(eval, from.size_bytes, &data);
    }
    if (err == DBOS_OK) {
        memcpy(data, from.data, from.size_bytes);
        data[args[1].integer] = (uint8_t)args[2].integer;
        *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, data, from.size_bytes);
    }
    return err;
}

static enum dbos_err call_convert_from(ARGS) {
    (void)count;
    struct dbos_bytes name = args[1].bytes;
    if (!is_format(name, "UTF8") && !is_format(name, "utf8") && !is_format(name, "UTF-8")) {
        return no_format(name, eval->info);
    }
    if (!dbos_utf8_valid(args[0].bytes.data, args[0].bytes.size_bytes)) {
        return dbos_fail(eval->info, DBOS_ERR_ENCODING,
                         "invalid byte sequence for encoding \"UTF8\"");
    }
    *out = args[0];
    out->type = DBOS_TYPE_TEXT;
    return DBOS_OK;
}
static enum dbos_err call_convert_to(ARGS) {
    (void)count;
    struct dbos_bytes name = args[1].bytes;
    if (!is_format(name, "UTF8") && !is_format(name, "utf8") && !is_format(name, "UTF-8")) {
        return no_format(name, eval->info);
    }
    *out = args[0];
    out->type = DBOS_TYPE_BYTEA;
    return DBOS_OK;
}

/* -- MD5 ------------------------------------------------------------------------------------------
 */

static const uint32_t md5_sines[64] = {
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
};
static const uint8_t md5_shifts[4][4] = {
    {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};

static void md5_block(uint32_t state[4], const uint8_t *block) {
    uint32_t a = state[0];
    uint32_t b = state[1];
    uint32_t c = state[2];
    uint32_t d = state[3];
    for (uint32_t i = 0; i < 64; i++) {
        uint32_t round = i / 16;
        uint32_t mix = round == 0   ? (b & c) | (~b & d)
                       : round == 1 ? (d & b) | (~d & c)
                       : round == 2 ? b ^ c ^ d
                                    : c ^ (b | ~d);
        uint32_t word = round == 0   ? i
                        : round == 1 ? (5 * i + 1) % 16
                        : round == 2 ? (3 * i + 5) % 16
                                     : (7 * i) % 16;
        uint32_t shift = md5_shifts[round][i % 4];
        uint32_t sum = a + mix + md5_sines[i] + dbos_load_u32(block + (size_t)word * 4);
        a = d;
        d = c;
        c = b;
        b += sum << shift | sum >> (32 - shift);
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

static enum dbos_err call_md5(ARGS) {
    (void)count;
    struct dbos_bytes from = args[0].bytes;
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    uint8_t tail[128] = {0};
    uint8_t digest[16];
    size_t whole = from.size_bytes / 64 * 64;
    size_t rest = from.size_bytes - whole;
    size_t tail_bytes = rest < 56 ? 64 : 128;
    for (size_t at = 0; at < whole; at += 64) {
        md5_block(state, from.data + at);
    }
    if (rest != 0) {
        memcpy(tail, from.data + whole, rest);
    }
    tail[rest] = 0x80;
    dbos_store_u64(tail + tail_bytes - 8, (uint64_t)from.size_bytes * 8);
    for (size_t at = 0; at < tail_bytes; at += 64) {
        md5_block(state, tail + at);
    }
    memcpy(digest, state, sizeof digest);
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, 32, &data);
    if (err == DBOS_OK) {
        put_hex(data, digest, sizeof digest);
        *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, 32);
    }
    return err;
}

#define TEXT  DBOS_TYPE_TEXT
#define BYTES DBOS_TYPE_BYTEA
#define I4    DBOS_TYPE_INT4

static const struct dbos_function functions[] = {
    {.name = "encode", .count = 2, .args = {BYTES, TEXT}, .result = TEXT, .call = call_encode},
    {.name = "decode", .count = 2, .args = {TEXT, TEXT}, .result = BYTES, .call = call_decode},
    {.name = "get_byte", .count = 2, .args = {BYTES, I4}, .result = I4, .call = call_get_byte},
    {.name = "set_byte",
     .count = 3,
     .args = {BYTES, I4, I4},
     .result = BYTES,
     .call = call_set_byte},
    {.name = "convert_from",
     .count = 2,
     .args = {BYTES, TEXT},
     .result = TEXT,
     .call = call_convert_from},
    {.name = "convert_to",
     .count = 2,
     .args = {TEXT, TEXT},
     .result = BYTES,
     .call = call_convert_to},
    {.name = "md5", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_md5},
    {.name = "md5", .count = 1, .args = {BYTES}, .result = TEXT, .call = call_md5},
};

struct dbos_function_table dbos_functions_bytes(void) {
    return (struct dbos_function_table){functions, sizeof functions / sizeof functions[0]};
}
