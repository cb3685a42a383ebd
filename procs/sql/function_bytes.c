/* Bytes, and their text encodings. */
#include <openssl/evp.h>

#include "procs/sql/function.h"
#include "procs/sql/type_io.h"

static enum dbos_err size_of(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                             struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_INT4, (int64_t)args[0].bytes.size_bytes);
    return DBOS_OK;
}

static enum dbos_err get_byte(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                              struct dbos_datum *out) {
    (void)count;
    if (args[1].integer < 0 || (uint64_t)args[1].integer >= args[0].bytes.size_bytes) {
        return dbos_fail_state(eval->info, DBOS_ERR_OUT_OF_RANGE, "2202E",
                               "index %lld out of valid range, 0..%lld", (long long)args[1].integer,
                               (long long)args[0].bytes.size_bytes - 1);
    }
    *out = dbos_datum_int(DBOS_TYPE_INT4, args[0].bytes.data[args[1].integer]);
    return DBOS_OK;
}

static enum dbos_err put_hex(struct dbos_eval *eval, struct dbos_bytes bytes,
                             struct dbos_datum *out) {
    static const char digits[] = "0123456789abcdef";
    uint8_t *to = NULL;
    enum dbos_err err = dbos_eval_take(eval, bytes.size_bytes * 2, &to);
    for (size_t i = 0; err == DBOS_OK && i < bytes.size_bytes; i++) {
        to[i * 2] = (uint8_t)digits[bytes.data[i] >> 4];
        to[i * 2 + 1] = (uint8_t)digits[bytes.data[i] & 15];
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, to, bytes.size_bytes * 2);
    return err;
}

static bool is_format(const struct dbos_datum *format, const char *name) {
    return format->bytes.size_bytes == strlen(name) &&
           strncasecmp((const char *)format->bytes.data, name, strlen(name)) == 0;
}

static enum dbos_err bad_format(struct dbos_eval *eval, const struct dbos_datum *format) {
    enum dbos_err err =
        dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER, "unrecognized encoding: \"%.*s\"",
                  (int)format->bytes.size_bytes, (const char *)format->bytes.data);
    dbos_err_hint(eval->info, "Encodings are hex and base64.");
    return err;
}

/* base64 with a line break after 76 characters, as PostgreSQL writes it. */
static enum dbos_err put_base64(struct dbos_eval *eval, struct dbos_bytes bytes,
                                struct dbos_datum *out) {
    enum { LINE_BYTES = 57 };
    size_t lines = bytes.size_bytes / LINE_BYTES;
    uint8_t *to = NULL;
    enum dbos_err err = dbos_eval_take(eval, (bytes.size_bytes + 2) / 3 * 4 + lines + 4, &to);
    if (err != DBOS_OK) {
        return err;
    }
    size_t used = 0;
    for (size_t at = 0; at < bytes.size_bytes; at += LINE_BYTES) {
        size_t left = bytes.size_bytes - at;
        if (at != 0) {
            to[used++] = '\n';
        }
        used += (size_t)EVP_EncodeBlock(to + used, bytes.data + at,
                                        (int)(left < LINE_BYTES ? left : LINE_BYTES));
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, to, used);
    return DBOS_OK;
}

static enum dbos_err encode_bytes(struct dbos_eval *eval, const struct dbos_datum *args,
                                  uint32_t count, struct dbos_datum *out) {
    (void)count;
    if (is_format(&args[1], "hex")) {
        return put_hex(eval, args[0].bytes, out);
    }
    return is_format(&args[1], "base64") ? put_base64(eval, args[0].bytes, out)
                                         : bad_format(eval, &args[1]);
}

static int base64_value(uint8_t byte) {
    if (byte >= 'A' && byte <= 'Z') {
        return byte - 'A';
    }
    if (byte >= 'a' && byte <= 'z') {
        return byte - 'a' + 26;
    }
    if (byte >= '0' && byte <= '9') {
        return byte - '0' + 52;
    }
    return byte == '+' ? 62 : byte == '/' ? 63 : -1;
}

static enum dbos_err get_base64(struct dbos_eval *eval, struct dbos_bytes text,
                                struct dbos_datum *out) {
    uint8_t *to = NULL;
    size_t used = 0;
    uint32_t bits = 0;
    uint32_t digits = 0;
    uint32_t padding = 0;
    enum dbos_err err = dbos_eval_take(eval, text.size_bytes / 4 * 3 + 3, &to);
    for (size_t i = 0; err == DBOS_OK && i < text.size_bytes; i++) {
        uint8_t byte = text.data[i];
        int value = base64_value(byte);
        if (byte == ' ' || byte == '\n' || byte == '\r' || byte == '\t') {
            continue;
        }
        padding += byte == '=';
        if ((value < 0 && byte != '=') || (padding != 0 && byte != '=') || padding > 2) {
            return dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER,
                             "invalid symbol \"%c\" found while decoding base64 sequence", byte);
        }
        bits = bits << 6 | (uint32_t)(value < 0 ? 0 : value);
        if (++digits % 4 == 0) {
            to[used++] = (uint8_t)(bits >> 16);
            to[used++] = (uint8_t)(bits >> 8);
            to[used++] = (uint8_t)bits;
        }
    }
    if (err == DBOS_OK && digits % 4 != 0) {
        return dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER, "invalid base64 end sequence");
    }
    *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, to, used - padding);
    return err;
}

static enum dbos_err get_hex(struct dbos_eval *eval, struct dbos_bytes text,
                             struct dbos_datum *out) {
    char *prefixed = dbos_arena_take(eval->arena, text.size_bytes + 3);
    if (prefixed == NULL) {
        return dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
    }
    memcpy(prefixed, "\\x", 2);
    memcpy(prefixed + 2, text.data, text.size_bytes);
    return dbos_text_in(DBOS_TYPE_BYTEA, prefixed, text.size_bytes + 2, eval->arena, out,
                        eval->info);
}

static enum dbos_err decode_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)count;
    if (is_format(&args[1], "hex")) {
        return get_hex(eval, args[0].bytes, out);
    }
    return is_format(&args[1], "base64") ? get_base64(eval, args[0].bytes, out)
                                         : bad_format(eval, &args[1]);
}

static enum dbos_err digest(struct dbos_eval *eval, const EVP_MD *kind, struct dbos_bytes bytes,
                            struct dbos_bytes *out) {
    uint8_t *to = NULL;
    unsigned int size = 0;
    enum dbos_err err = dbos_eval_take(eval, EVP_MAX_MD_SIZE, &to);
    if (err == DBOS_OK && EVP_Digest(bytes.data, bytes.size_bytes, to, &size, kind, NULL) != 1) {
        err = dbos_fail(eval->info, DBOS_ERR_INTERNAL, "the digest is not available");
    }
    *out = (struct dbos_bytes){.data = to, .size_bytes = size};
    return err;
}

static enum dbos_err md5_of(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                            struct dbos_datum *out) {
    struct dbos_bytes sum;
    (void)count;
    enum dbos_err err = digest(eval, EVP_md5(), args[0].bytes, &sum);
    return err != DBOS_OK ? err : put_hex(eval, sum, out);
}

static enum dbos_err sha256_of(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    struct dbos_bytes sum;
    (void)count;
    enum dbos_err err = digest(eval, EVP_sha256(), args[0].bytes, &sum);
    *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, sum.data, sum.size_bytes);
    return err;
}

static enum dbos_err to_hex(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                            struct dbos_datum *out) {
    char digits[32];
    (void)count;
    unsigned long long value = args[0].type == DBOS_TYPE_INT8
                                   ? (unsigned long long)args[0].integer
                                   : (unsigned long long)(uint32_t)args[0].integer;
    int size = snprintf(digits, sizeof digits, "%llx", value);
    char *copy = dbos_arena_copy(eval->arena, digits, (size_t)size);
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, copy, (size_t)size);
    return copy != NULL ? DBOS_OK : dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
}

/* substr(bytea, from, count), in bytes. */
static enum dbos_err substring_bytes(struct dbos_eval *eval, const struct dbos_datum *args,
                                     uint32_t count, struct dbos_datum *out) {
    int64_t size = (int64_t)args[0].bytes.size_bytes;
    int64_t start = args[1].integer - 1;
    int64_t end = size;
    if (count == 3) {
        if (args[2].integer < 0) {
            return dbos_fail_state(eval->info, DBOS_ERR_INVALID_PARAMETER, "22011",
                                   "negative substring length not allowed");
        }
        end = start + args[2].integer < size ? start + args[2].integer : size;
    }
    start = start < 0 ? 0 : start;
    *out = dbos_datum_bytes(DBOS_TYPE_BYTEA, args[0].bytes.data + (start < size ? start : size),
                            end > start ? (size_t)(end - start) : 0);
    return DBOS_OK;
}

#define TEXT  DBOS_TYPE_TEXT
#define BYTEA DBOS_TYPE_BYTEA
#define INT4  DBOS_TYPE_INT4
#define INT8  DBOS_TYPE_INT8

static const struct dbos_function functions[] = {
    {.name = "octet_length", .count = 1, .args = {TEXT}, .result = INT4, .call = size_of},
    {.name = "octet_length", .count = 1, .args = {BYTEA}, .result = INT4, .call = size_of},
    {.name = "length", .count = 1, .args = {BYTEA}, .result = INT4, .call = size_of},
    {.name = "get_byte", .count = 2, .args = {BYTEA, INT4}, .result = INT4, .call = get_byte},
    {.name = "encode", .count = 2, .args = {BYTEA, TEXT}, .result = TEXT, .call = encode_bytes},
    {.name = "decode", .count = 2, .args = {TEXT, TEXT}, .result = BYTEA, .call = decode_text},
    {.name = "md5", .count = 1, .args = {TEXT}, .result = TEXT, .call = md5_of},
    {.name = "md5", .count = 1, .args = {BYTEA}, .result = TEXT, .call = md5_of},
    {.name = "sha256", .count = 1, .args = {BYTEA}, .result = BYTEA, .call = sha256_of},
    {.name = "to_hex", .count = 1, .args = {INT4}, .result = TEXT, .call = to_hex},
    {.name = "to_hex", .count = 1, .args = {INT8}, .result = TEXT, .call = to_hex},
    {.name = "substr", .count = 2, .args = {BYTEA, INT4}, .result = BYTEA, .call = substring_bytes},
    {.name = "substr",
     .count = 3,
     .args = {BYTEA, INT4, INT4},
     .result = BYTEA,
     .call = substring_bytes},
    {.name = "substring",
     .count = 3,
     .args = {BYTEA, INT4, INT4},
     .result = BYTEA,
     .call = substring_bytes},
};

struct dbos_function_table dbos_functions_bytes(void) {
    return (struct dbos_function_table){.functions = functions,
                                        .count = sizeof functions / sizeof functions[0]};
}
