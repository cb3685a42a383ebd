/* Functions on text: characters are those of UTF-8; upper and lower know ASCII, as the C locale. */
#include <stdio.h>

#include "procs/sql/function.h"
#include "procs/sql/type_io.h"

#define ARGS                                                                                       \
    struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count, struct dbos_datum *out

static struct dbos_datum text_of(struct dbos_bytes bytes) {
    return dbos_datum_bytes(
        DBOS_TYPE_TEXT, bytes.size_bytes == 0 ? (const uint8_t *)"" : bytes.data, bytes.size_bytes);
}
static struct dbos_bytes slice(struct dbos_bytes text, size_t from, size_t to) {
    const uint8_t *data = text.data == NULL ? (const uint8_t *)"" : text.data + from;
    return (struct dbos_bytes){.data = data, .size_bytes = to - from};
}
static bool is_start(uint8_t c) { return (c & 0xc0) != 0x80; }

/* Byte offset of character `n` (from 0); the size when there are fewer. */
static size_t char_offset(struct dbos_bytes text, uint64_t n) {
    size_t at = 0;
    uint64_t chars = 0;
    for (; at < text.size_bytes; at++) {
        if (is_start(text.data[at]) && chars++ == n) {
            return at;
        }
    }
    return at;
}
static int64_t char_count(struct dbos_bytes text) {
    return (int64_t)dbos_utf8_length(text.data, text.size_bytes);
}

static enum dbos_err call_char_length(ARGS) {
    (void)eval;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_INT4, char_count(args[0].bytes));
    return DBOS_OK;
}

static enum dbos_err call_octet_length(ARGS) {
    (void)eval;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_INT4, (int64_t)args[0].bytes.size_bytes);
    return DBOS_OK;
}

static enum dbos_err change_case(struct dbos_eval *eval, struct dbos_bytes text, char first,
                                 struct dbos_datum *out) {
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, text.size_bytes, &data);
    for (size_t i = 0; err == DBOS_OK && i < text.size_bytes; i++) {
        uint8_t c = text.data[i];
        data[i] = c >= (uint8_t)first && c <= (uint8_t)(first + 25) ? (uint8_t)(c ^ 0x20) : c;
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, text.size_bytes);
    return err;
}
static enum dbos_err call_lower(ARGS) {
    (void)count;
    return change_case(eval, args[0].bytes, 'A', out);
}
static enum dbos_err call_upper(ARGS) {
    (void)count;
    return change_case(eval, args[0].bytes, 'a', out);
}

/* Characters from `start` (from 1, may be less) on, `length` of them (-1 = all). */
static enum dbos_err substring(struct dbos_eval *eval, struct dbos_bytes text, int64_t start,
                               int64_t length, bool has_length, struct dbos_datum *out) {
    if (has_length && length < 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_INVALID_PARAMETER, "22011",
                               "negative substring length not allowed");
    }
    int64_t end = has_length ? start + length : INT64_MAX; /* both are 32 bits wide */
    start = start < 1 ? 1 : start;
    end = end < start ? start : end;
    size_t from = char_offset(text, (uint64_t)start - 1);
    size_t to = has_length ? char_offset(text, (uint64_t)end - 1) : text.size_bytes;
    *out = text_of(slice(text, from, to));
    return DBOS_OK;
}
static enum dbos_err call_substring(ARGS) {
    return substring(eval, args[0].bytes, args[1].integer, count > 2 ? args[2].integer : 0,
                     count > 2, out);
}
static enum dbos_err call_substring_bytes(ARGS) {
    int64_t start = args[1].integer;
    int64_t size = (int64_t)args[0].bytes.size_bytes;
    if (count > 2 && args[2].integer < 0) {
        return dbos_fail_state(eval->info, DBOS_ERR_INVALID_PARAMETER, "22011",
                               "negative substring length not allowed");
    }
    int64_t end = count > 2 ? start + args[2].integer : size + 1;
    start = start < 1 ? 1 : start > size + 1 ? size + 1 : start;
    end = end < start ? start : end > size + 1 ? size + 1 : end;
    struct dbos_bytes bytes = slice(args[0].bytes, (size_t)start - 1, (size_t)end - 1);
    *out = text_of(bytes);
    out->type = DBOS_TYPE_BYTEA;
    return DBOS_OK;
}

static enum dbos_err call_left(ARGS) {
    (void)eval;
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    int64_t n = args[1].integer;
    n = n < 0 ? char_count(text) + n : n;
    *out = text_of(slice(text, 0, n <= 0 ? 0 : char_offset(text, (uint64_t)n)));
    return DBOS_OK;
}
static enum dbos_err call_right(ARGS) {
    (void)eval;
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    int64_t n = args[1].integer;
    int64_t skip = n < 0 ? -n : char_count(text) - n;
    *out = text_of(slice(text, skip <= 0 ? 0 : char_offset(text, (uint64_t)skip), text.size_bytes));
    return DBOS_OK;
}

/* -- trim -----------------------------------------------------------------------------------------
 */

static size_t char_bytes(struct dbos_bytes text, size_t at) {
    size_t end = at + 1;
    while (end < text.size_bytes && !is_start(text.data[end])) {
        end++;
    }
    return end - at;
}
static bool contains(struct dbos_bytes set, const uint8_t *c, size_t size_bytes) {
    for (size_t at = 0; at < set.size_bytes; at += char_bytes(set, at)) {
        if (char_bytes(set, at) == size_bytes && memcmp(set.data + at, c, size_bytes) == 0) {
            return true;
        }
    }
    return false;
}
static struct dbos_bytes trim(struct dbos_bytes text, struct dbos_bytes set, bool left,
                              bool right) {
    size_t from = 0;
    size_t to = text.size_bytes;
    while (left && from < to && contains(set, text.data + from, char_bytes(text, from))) {
        from += char_bytes(text, from);
    }
    while (right && to > from) {
        size_t last = to - 1;
        while (last > from && !is_start(text.data[last])) {
            last--;
        }
        if (!contains(set, text.data + last, to - last)) {
            break;
        }
        to = last;
    }
    return slice(text, from, to);
}
static struct dbos_bytes trim_set(const struct dbos_datum *args, uint32_t count) {
    return count > 1 ? args[1].bytes
                     : (struct dbos_bytes){.data = (const uint8_t *)" ", .size_bytes = 1};
}
static enum dbos_err call_btrim(ARGS) {
    (void)eval;
    *out = text_of(trim(args[0].bytes, trim_set(args, count), true, true));
    return DBOS_OK;
}
static enum dbos_err call_ltrim(ARGS) {
    (void)eval;
    *out = text_of(trim(args[0].bytes, trim_set(args, count), true, false));
    return DBOS_OK;
}
static enum dbos_err call_rtrim(ARGS) {
    (void)eval;
    *out = text_of(trim(args[0].bytes, trim_set(args, count), false, true));
    return DBOS_OK;
}

/* -- searching ------------------------------------------------------------------------------------
 */

/* Byte offset of `wanted` at or after `from`; the size + 1 when it is not there. */
static size_t find_bytes(struct dbos_bytes text, struct dbos_bytes wanted, size_t from) {
    if (wanted.size_bytes == 0) {
        return from;
    }
    if (from >= text.size_bytes) {
        return text.size_bytes + 1;
    }
    const uint8_t *at =
        memmem(text.data + from, text.size_bytes - from, wanted.data, wanted.size_bytes);
    return at == NULL ? text.size_bytes + 1 : (size_t)(at - text.data);
}
static enum dbos_err call_strpos(ARGS) {
    (void)eval;
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    size_t at = find_bytes(text, args[1].bytes, 0);
    int64_t position = at > text.size_bytes ? 0 : char_count(slice(text, 0, at)) + 1;
    *out = dbos_datum_int(DBOS_TYPE_INT4, position);
    return DBOS_OK;
}
static enum dbos_err call_starts_with(ARGS) {
    (void)eval;
    (void)count;
    size_t size = args[1].bytes.size_bytes;
    bool is = size <= args[0].bytes.size_bytes &&
              (size == 0 || memcmp(args[0].bytes.data, args[1].bytes.data, size) == 0);
    *out = dbos_datum_int(DBOS_TYPE_BOOL, is ? 1 : 0);
    return DBOS_OK;
}

static size_t count_matches(struct dbos_bytes text, struct dbos_bytes wanted) {
    size_t matches = 0;
    size_t at = find_bytes(text, wanted, 0);
    while (at + wanted.size_bytes <= text.size_bytes) {
        matches++;
        at = find_bytes(text, wanted, at + wanted.size_bytes);
    }
    return matches;
}
static enum dbos_err call_replace(ARGS) {
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    struct dbos_bytes wanted = args[1].bytes;
    struct dbos_bytes with = args[2].bytes;
    *out = text_of(text);
    size_t matches = wanted.size_bytes == 0 ? 0 : count_matches(text, wanted);
    if (matches == 0) {
        return DBOS_OK;
    }
    size_t total = text.size_bytes - matches * wanted.size_bytes + matches * with.size_bytes;
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, total, &data);
    if (err != DBOS_OK) {
        return err;
    }
    size_t from = 0;
    size_t used = 0;
    for (size_t i = 0; i < matches; i++) {
        size_t at = find_bytes(text, wanted, from);
        memcpy(data + used, text.data + from, at - from);
        used += at - from;
        memcpy(data + used, with.data == NULL ? (const uint8_t *)"" : with.data, with.size_bytes);
        used += with.size_bytes;
        from = at + wanted.size_bytes;
    }
    memcpy(data + used, text.data + from, text.size_bytes - from);
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, total);
    return DBOS_OK;
}

/* -- building -------------------------------------------------------------------------------------
 */

static enum dbos_err join(struct dbos_eval *eval, struct dbos_bytes separator,
                          const struct dbos_datum *args, uint32_t count, struct dbos_datum *out) {
    struct dbos_buf buf;
    bool first = true;
    enum dbos_err err = DBOS_OK;
    dbos_buf_init(&buf, eval->arena->alloc);
    for (uint32_t i = 0; i < count && err == DBOS_OK; i++) {
        if (args[i].is_null) {
            continue;
        }
        if (!first) {
            dbos_buf_put(&buf, separator.data, separator.size_bytes);
        }
        first = false;
        if (args[i].type == DBOS_TYPE_TEXT || args[i].type == DBOS_TYPE_VARCHAR) {
            dbos_buf_put(&buf, args[i].bytes.data, args[i].bytes.size_bytes);
        } else {
            dbos_text_out(&args[i], &buf);
        }
        if (buf.size_bytes > DBOS_RESULT_BYTES_MAX) {
            err = dbos_fail(eval->info, DBOS_ERR_LIMIT, "requested length too large");
        }
    }
    uint8_t *data = NULL;
    if (err == DBOS_OK) {
        err = buf.failed ? dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory")
                         : dbos_eval_take(eval, buf.size_bytes, &data);
    }
    if (err == DBOS_OK && buf.size_bytes != 0) {
        memcpy(data, buf.data, buf.size_bytes);
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, buf.size_bytes);
    dbos_buf_fini(&buf);
    return err;
}
static enum dbos_err call_concat(ARGS) {
    return join(eval, (struct dbos_bytes){.data = (const uint8_t *)"", .size_bytes = 0}, args,
                count, out);
}
static enum dbos_err call_concat_ws(ARGS) {
    if (args[0].is_null) {
        *out = dbos_datum_null(DBOS_TYPE_TEXT);
        return DBOS_OK;
    }
    return join(eval, args[0].bytes, args + 1, count - 1, out);
}

static enum dbos_err call_repeat(ARGS) {
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    uint64_t times = args[1].integer < 0 ? 0 : (uint64_t)args[1].integer;
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, text.size_bytes * times, &data);
    for (uint64_t i = 0; err == DBOS_OK && text.size_bytes != 0 && i < times; i++) {
        memcpy(data + i * text.size_bytes, text.data, text.size_bytes);
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, text.size_bytes * times);
    return err;
}

static enum dbos_err call_reverse(ARGS) {
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, text.size_bytes, &data);
    for (size_t at = 0; err == DBOS_OK && at < text.size_bytes;) {
        size_t size = char_bytes(text, at);
        memcpy(data + text.size_bytes - at - size, text.data + at, size);
        at += size;
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, text.size_bytes);
    return err;
}

/* To `length` characters, with `fill` again and again, or cut. */
static enum dbos_err pad(struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count,
                         bool left, struct dbos_datum *out) {
    struct dbos_bytes text = args[0].bytes;
    struct dbos_bytes fill = count > 2 ? args[2].bytes : trim_set(args, 1);
    int64_t length = args[1].integer < 0 ? 0 : args[1].integer;
    int64_t chars = char_count(text);
    if (chars >= length || fill.size_bytes == 0) {
        *out = text_of(slice(text, 0, char_offset(text, (uint64_t)length)));
        return DBOS_OK;
    }
    uint64_t missing = (uint64_t)(length - chars);
    uint64_t fill_chars = (uint64_t)char_count(fill);
    size_t fill_bytes =
        missing / fill_chars * fill.size_bytes + char_offset(fill, missing % fill_chars);
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, fill_bytes + text.size_bytes, &data);
    if (err != DBOS_OK) {
        return err;
    }
    uint8_t *fill_at = left ? data : data + text.size_bytes;
    for (size_t i = 0; i < fill_bytes; i++) {
        fill_at[i] = fill.data[i % fill.size_bytes];
    }
    if (text.size_bytes != 0) {
        memcpy(left ? data + fill_bytes : data, text.data, text.size_bytes);
    }
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, fill_bytes + text.size_bytes);
    return DBOS_OK;
}
static enum dbos_err call_lpad(ARGS) { return pad(eval, args, count, true, out); }
static enum dbos_err call_rpad(ARGS) { return pad(eval, args, count, false, out); }

static enum dbos_err call_split_part(ARGS) {
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    struct dbos_bytes by = args[1].bytes;
    int64_t wanted = args[2].integer;
    if (wanted == 0) {
        return dbos_fail(eval->info, DBOS_ERR_INVALID_PARAMETER, "field position must not be zero");
    }
    int64_t fields = by.size_bytes == 0 ? 1 : (int64_t)count_matches(text, by) + 1;
    wanted = wanted < 0 ? fields + wanted + 1 : wanted;
    *out = text_of((struct dbos_bytes){.data = (const uint8_t *)"", .size_bytes = 0});
    if (wanted < 1 || wanted > fields) {
        return DBOS_OK;
    }
    size_t from = 0;
    for (int64_t i = 1; i < wanted; i++) {
        from = find_bytes(text, by, from) + by.size_bytes;
    }
    size_t to = by.size_bytes == 0 ? text.size_bytes : find_bytes(text, by, from);
    *out = text_of(slice(text, from, to > text.size_bytes ? text.size_bytes : to));
    return DBOS_OK;
}

static enum dbos_err call_to_hex(ARGS) {
    (void)count;
    uint8_t *data;
    enum dbos_err err = dbos_eval_take(eval, 16, &data);
    if (err != DBOS_OK) {
        return err;
    }
    unsigned long long value = (unsigned long long)args[0].integer;
    value = args[0].type == DBOS_TYPE_INT8 ? value : value & UINT32_MAX;
    int used = snprintf((char *)data, 17, "%llx", value);
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, (size_t)used);
    return DBOS_OK;
}

static enum dbos_err call_ascii(ARGS) {
    (void)eval;
    (void)count;
    struct dbos_bytes text = args[0].bytes;
    uint32_t code = text.size_bytes == 0 ? 0 : text.data[0];
    if (code >= 0xc0) { /* valid UTF-8: the bytes that follow are there */
        size_t size = char_bytes(text, 0);
        code &= 0xffu >> (size + 1);
        for (size_t i = 1; i < size; i++) {
            code = code << 6 | (text.data[i] & 0x3fu);
        }
    }
    *out = dbos_datum_int(DBOS_TYPE_INT4, code);
    return DBOS_OK;
}

static enum dbos_err call_chr(ARGS) {
    (void)count;
    int64_t code = args[0].integer;
    uint8_t *data;
    if (code <= 0 || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) {
        return dbos_fail(eval->info, DBOS_ERR_LIMIT,
                         code == 0 ? "null character not permitted"
                                   : "requested character not valid for encoding");
    }
    enum dbos_err err = dbos_eval_take(eval, 4, &data);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t c = (uint32_t)code;
    size_t size = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = size; i-- > 1; c >>= 6) {
        data[i] = (uint8_t)(0x80 | (c & 0x3f));
    }
    uint32_t first = size == 1 ? c : (0xf00u >> size) | c;
    data[0] = (uint8_t)first;
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, size);
    return DBOS_OK;
}

#define TEXT  DBOS_TYPE_TEXT
#define BYTES DBOS_TYPE_BYTEA
#define I4    DBOS_TYPE_INT4
#define I8    DBOS_TYPE_INT8
#define ANY   DBOS_TYPE_UNKNOWN

static const struct dbos_function functions[] = {
    {.name = "length", .count = 1, .args = {TEXT}, .result = I4, .call = call_char_length},
    {.name = "length", .count = 1, .args = {BYTES}, .result = I4, .call = call_octet_length},
    {.name = "char_length", .count = 1, .args = {TEXT}, .result = I4, .call = call_char_length},
    {.name = "character_length",
     .count = 1,
     .args = {TEXT},
     .result = I4,
     .call = call_char_length},
    {.name = "octet_length", .count = 1, .args = {TEXT}, .result = I4, .call = call_octet_length},
    {.name = "octet_length", .count = 1, .args = {BYTES}, .result = I4, .call = call_octet_length},
    {.name = "lower", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_lower},
    {.name = "upper", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_upper},
    {.name = "substring", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_substring},
    {.name = "substring",
     .count = 3,
     .args = {TEXT, I4, I4},
     .result = TEXT,
     .call = call_substring},
    {.name = "substring",
     .count = 2,
     .args = {BYTES, I4},
     .result = BYTES,
     .call = call_substring_bytes},
    {.name = "substring",
     .count = 3,
     .args = {BYTES, I4, I4},
     .result = BYTES,
     .call = call_substring_bytes},
    {.name = "substr", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_substring},
    {.name = "substr", .count = 3, .args = {TEXT, I4, I4}, .result = TEXT, .call = call_substring},
    {.name = "substr",
     .count = 2,
     .args = {BYTES, I4},
     .result = BYTES,
     .call = call_substring_bytes},
    {.name = "substr",
     .count = 3,
     .args = {BYTES, I4, I4},
     .result = BYTES,
     .call = call_substring_bytes},
    {.name = "left", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_left},
    {.name = "right", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_right},
    {.name = "btrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_btrim},
    {.name = "btrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = call_btrim},
    {.name = "ltrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_ltrim},
    {.name = "ltrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = call_ltrim},
    {.name = "rtrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_rtrim},
    {.name = "rtrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = call_rtrim},
    {.name = "strpos", .count = 2, .args = {TEXT, TEXT}, .result = I4, .call = call_strpos},
    {.name = "position", .count = 2, .args = {TEXT, TEXT}, .result = I4, .call = call_strpos},
    {.name = "starts_with",
     .count = 2,
     .args = {TEXT, TEXT},
     .result = DBOS_TYPE_BOOL,
     .call = call_starts_with},
    {.name = "replace",
     .count = 3,
     .args = {TEXT, TEXT, TEXT},
     .result = TEXT,
     .call = call_replace},
    {.name = "concat",
     .count = 1,
     .args = {ANY},
     .result = TEXT,
     .takes_null = true,
     .variadic = true,
     .call = call_concat},
    {.name = "concat_ws",
     .count = 2,
     .args = {TEXT, ANY},
     .result = TEXT,
     .takes_null = true,
     .variadic = true,
     .call = call_concat_ws},
    {.name = "repeat", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_repeat},
    {.name = "reverse", .count = 1, .args = {TEXT}, .result = TEXT, .call = call_reverse},
    {.name = "lpad", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_lpad},
    {.name = "lpad", .count = 3, .args = {TEXT, I4, TEXT}, .result = TEXT, .call = call_lpad},
    {.name = "rpad", .count = 2, .args = {TEXT, I4}, .result = TEXT, .call = call_rpad},
    {.name = "rpad", .count = 3, .args = {TEXT, I4, TEXT}, .result = TEXT, .call = call_rpad},
    {.name = "split_part",
     .count = 3,
     .args = {TEXT, TEXT, I4},
     .result = TEXT,
     .call = call_split_part},
    {.name = "to_hex", .count = 1, .args = {I4}, .result = TEXT, .call = call_to_hex},
    {.name = "to_hex", .count = 1, .args = {I8}, .result = TEXT, .call = call_to_hex},
    {.name = "ascii", .count = 1, .args = {TEXT}, .result = I4, .call = call_ascii},
    {.name = "chr", .count = 1, .args = {I4}, .result = TEXT, .call = call_chr},
};

struct dbos_function_table dbos_functions_text(void) {
    return (struct dbos_function_table){functions, sizeof functions / sizeof functions[0]};
}
