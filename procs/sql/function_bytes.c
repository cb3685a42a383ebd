/* Functions on bytea: encode and decode, single bytes, MD5 (a checksum, not for secrets). */
#include <openssl/evp.h>

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

static enum dbos_err call_md5(ARGS) {
    (void)count;
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_bytes = 0;
    struct dbos_bytes from = args[0].bytes;
    if (EVP_Digest(from.size_bytes == 0 ? (const uint8_t *)"" : from.data, from.size_bytes, digest,
                   &digest_bytes, EVP_md5(), NULL) != 1) {
        return dbos_fail(eval->info, DBOS_ERR_NOT_SUPPORTED, "MD5 is not available here");
    }
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, (size_t)digest_bytes * 2, &data);
    if (err == DBOS_OK) {
        put_hex(data, digest, digest_bytes);
        *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, (size_t)digest_bytes * 2);
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
