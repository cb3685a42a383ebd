/* Text. Positions and lengths are characters of UTF-8. */
#include <ctype.h>

#include "procs/sql/function.h"
#include "procs/sql/type_io.h"

static enum dbos_err put_text(struct dbos_datum *out, const uint8_t *data, size_t size_bytes) {
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, data, size_bytes);
    return DBOS_OK;
}

static bool starts_character(uint8_t byte) { return (byte & 0xc0) != 0x80; }

/* Byte offset of character `index` (from 0); the end where the text is shorter. */
static size_t offset_of(struct dbos_bytes text, int64_t index) {
    size_t at = 0;
    while (at < text.size_bytes && index > 0) {
        at++;
        while (at < text.size_bytes && !starts_character(text.data[at])) {
            at++;
        }
        index--;
    }
    return at;
}

static int64_t characters(struct dbos_bytes text) {
    return (int64_t)dbos_utf8_length(text.data, text.size_bytes);
}

static enum dbos_err length_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    *out = dbos_datum_int(DBOS_TYPE_INT4, characters(args[0].bytes));
    return DBOS_OK;
}

/* ASCII letters change; others stay, as in the C locale. */
static enum dbos_err change_case(struct dbos_eval *eval, const struct dbos_datum *text,
                                 int (*change)(int), struct dbos_datum *out) {
    uint8_t *to = NULL;
    enum dbos_err err = dbos_eval_take(eval, text->bytes.size_bytes, &to);
    if (err != DBOS_OK) {
        return err;
    }
    for (size_t i = 0; i < text->bytes.size_bytes; i++) {
        uint8_t byte = text->bytes.data[i];
        to[i] = byte < 0x80 ? (uint8_t)change(byte) : byte;
    }
    return put_text(out, to, text->bytes.size_bytes);
}

static enum dbos_err lower_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)count;
    return change_case(eval, &args[0], tolower, out);
}

static enum dbos_err upper_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)count;
    return change_case(eval, &args[0], toupper, out);
}

/* Characters [start, start + length) counted from 1; a start before the text uses up length. */
static enum dbos_err cut(struct dbos_eval *eval, struct dbos_bytes text, int64_t start,
                         const int64_t *length, struct dbos_datum *out) {
    int64_t end = characters(text) + 1;
    if (length != NULL) {
        if (*length < 0) {
            return dbos_fail_state(eval->info, DBOS_ERR_INVALID_PARAMETER, "22011",
                                   "negative substring length not allowed");
        }
        if (start <= INT64_MAX - *length && start + *length < end) {
            end = start + *length;
        }
    }
    size_t from = offset_of(text, start > 1 ? start - 1 : 0);
    size_t to = end > 1 ? offset_of(text, end - 1) : 0;
    return put_text(out, text.data + from, to > from ? to - from : 0);
}

static enum dbos_err substring2(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)count;
    return cut(eval, args[0].bytes, args[1].integer, NULL, out);
}

static enum dbos_err substring3(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    (void)count;
    return cut(eval, args[0].bytes, args[1].integer, &args[2].integer, out);
}

/* left('abcde', 2) = ab, left('abcde', -2) = abc; right likewise from the end. */
static enum dbos_err left_text(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    int64_t n = args[1].integer;
    (void)eval;
    (void)count;
    n = n < 0 ? characters(args[0].bytes) + n : n;
    return put_text(out, args[0].bytes.data, n <= 0 ? 0 : offset_of(args[0].bytes, n));
}

static enum dbos_err right_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    int64_t n = args[1].integer;
    int64_t all = characters(args[0].bytes);
    (void)eval;
    (void)count;
    int64_t skip = n < 0 ? -n : all - n;
    size_t from = offset_of(args[0].bytes, skip > 0 ? skip : 0);
    return put_text(out, args[0].bytes.data + from, args[0].bytes.size_bytes - from);
}

/* Is the character at `at` one of `set`? Its size, or 0. */
static size_t character_in(struct dbos_bytes text, size_t at, struct dbos_bytes set) {
    size_t size = 1;
    while (at + size < text.size_bytes && !starts_character(text.data[at + size])) {
        size++;
    }
    for (size_t i = 0; i + size <= set.size_bytes; i++) {
        if (starts_character(set.data[i]) && memcmp(set.data + i, text.data + at, size) == 0) {
            return size;
        }
    }
    return 0;
}

static enum dbos_err trim(struct dbos_bytes text, struct dbos_bytes set, bool left, bool right,
                          struct dbos_datum *out) {
    size_t start = 0;
    size_t end = text.size_bytes;
    while (left && start < end) {
        size_t size = character_in(text, start, set);
        if (size == 0) {
            break;
        }
        start += size;
    }
    while (right && end > start) {
        size_t last = end - 1;
        while (last > start && !starts_character(text.data[last])) {
            last--;
        }
        if (character_in((struct dbos_bytes){.data = text.data, .size_bytes = end}, last, set) ==
            0) {
            break;
        }
        end = last;
    }
    return put_text(out, text.data + start, end - start);
}

#define TRIM_FUNCTION(name, left, right)                                                           \
    static enum dbos_err name(struct dbos_eval *eval, const struct dbos_datum *args,               \
                              uint32_t count, struct dbos_datum *out) {                            \
        static const uint8_t blank = ' ';                                                          \
        struct dbos_bytes set = {.data = &blank, .size_bytes = 1};                                 \
        (void)eval;                                                                                \
        return trim(args[0].bytes, count == 2 ? args[1].bytes : set, left, right, out);            \
    }
TRIM_FUNCTION(btrim_text, true, true)
TRIM_FUNCTION(ltrim_text, true, false)
TRIM_FUNCTION(rtrim_text, false, true)

static const uint8_t *find(const uint8_t *from, const uint8_t *end, struct dbos_bytes what) {
    return what.size_bytes == 0 || from >= end
               ? NULL
               : memmem(from, (size_t)(end - from), what.data, what.size_bytes);
}

static enum dbos_err replace_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                  uint32_t count, struct dbos_datum *out) {
    struct dbos_bytes text = args[0].bytes;
    struct dbos_bytes from = args[1].bytes;
    struct dbos_bytes to = args[2].bytes;
    const uint8_t *end = text.data + text.size_bytes;
    size_t hits = 0;
    (void)count;
    for (const uint8_t *at = find(text.data, end, from); at != NULL;
         at = find(at + from.size_bytes, end, from)) {
        hits++;
    }
    uint8_t *result = NULL;
    size_t size_bytes = text.size_bytes - hits * from.size_bytes + hits * to.size_bytes;
    enum dbos_err err = dbos_eval_take(eval, size_bytes, &result);
    if (err != DBOS_OK) {
        return err;
    }
    uint8_t *put = result;
    const uint8_t *kept = text.data;
    for (const uint8_t *at = find(kept, end, from); at != NULL; at = find(kept, end, from)) {
        memcpy(put, kept, (size_t)(at - kept));
        put += at - kept;
        memcpy(put, to.data, to.size_bytes);
        put += to.size_bytes;
        kept = at + from.size_bytes;
    }
    memcpy(put, kept, (size_t)(end - kept));
    return put_text(out, result, size_bytes);
}

static enum dbos_err position_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                   uint32_t count, struct dbos_datum *out) {
    struct dbos_bytes text = args[0].bytes;
    int64_t position = 1;
    (void)eval;
    (void)count;
    if (args[1].bytes.size_bytes != 0) {
        const uint8_t *at = find(text.data, text.data + text.size_bytes, args[1].bytes);
        position =
            at == NULL ? 0 : 1 + (int64_t)dbos_utf8_length(text.data, (size_t)(at - text.data));
    }
    *out = dbos_datum_int(DBOS_TYPE_INT4, position);
    return DBOS_OK;
}

/* concat(any, …): NULLs are left out. */
static enum dbos_err concat_any(struct dbos_eval *eval, const struct dbos_datum *args,
                                uint32_t count, struct dbos_datum *out) {
    struct dbos_bytes *parts = dbos_arena_take_zero(eval->arena, (count + 1) * sizeof *parts);
    size_t size_bytes = 0;
    if (parts == NULL) {
        return dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!args[i].is_null) {
            enum dbos_err err = dbos_cast_to_text(&args[i], eval->arena, &parts[i], eval->info);
            if (err != DBOS_OK) {
                return err;
            }
            size_bytes += parts[i].size_bytes;
        }
    }
    uint8_t *result = NULL;
    enum dbos_err err = dbos_eval_take(eval, size_bytes, &result);
    if (err != DBOS_OK) {
        return err;
    }
    uint8_t *put = result;
    for (uint32_t i = 0; i < count; i++) {
        if (parts[i].size_bytes != 0) {
            memcpy(put, parts[i].data, parts[i].size_bytes);
            put += parts[i].size_bytes;
        }
    }
    return put_text(out, result, size_bytes);
}

static enum dbos_err repeat_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    size_t size_bytes = args[0].bytes.size_bytes;
    uint64_t times = args[1].integer < 0 ? 0 : (uint64_t)args[1].integer;
    uint8_t *result = NULL;
    (void)count;
    if (size_bytes != 0 && times > (uint64_t)DBOS_RESULT_BYTES_MAX / size_bytes) {
        return dbos_fail(eval->info, DBOS_ERR_LIMIT, "requested length too large");
    }
    enum dbos_err err = dbos_eval_take(eval, size_bytes * (size_t)times, &result);
    if (err != DBOS_OK) {
        return err;
    }
    if (size_bytes == 1) {
        memset(result, args[0].bytes.data[0], (size_t)times);
    }
    for (uint64_t i = 0; size_bytes > 1 && i < times; i++) {
        memcpy(result + i * size_bytes, args[0].bytes.data, size_bytes);
    }
    return put_text(out, result, size_bytes * (size_t)times);
}

static enum dbos_err reverse_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                  uint32_t count, struct dbos_datum *out) {
    struct dbos_bytes text = args[0].bytes;
    uint8_t *result = NULL;
    (void)count;
    enum dbos_err err = dbos_eval_take(eval, text.size_bytes, &result);
    if (err != DBOS_OK) {
        return err;
    }
    size_t at = 0;
    while (at < text.size_bytes) {
        size_t size = offset_of((struct dbos_bytes){text.data + at, text.size_bytes - at}, 1);
        memcpy(result + text.size_bytes - at - size, text.data + at, size);
        at += size;
    }
    return put_text(out, result, text.size_bytes);
}

static enum dbos_err starts_with(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)eval;
    (void)count;
    bool yes = args[1].bytes.size_bytes <= args[0].bytes.size_bytes &&
               (args[1].bytes.size_bytes == 0 ||
                memcmp(args[0].bytes.data, args[1].bytes.data, args[1].bytes.size_bytes) == 0);
    *out = dbos_datum_int(DBOS_TYPE_BOOL, yes);
    return DBOS_OK;
}

#define TEXT DBOS_TYPE_TEXT
#define INT4 DBOS_TYPE_INT4

static const struct dbos_function functions[] = {
    {.name = "length", .count = 1, .args = {TEXT}, .result = INT4, .call = length_text},
    {.name = "char_length", .count = 1, .args = {TEXT}, .result = INT4, .call = length_text},
    {.name = "character_length", .count = 1, .args = {TEXT}, .result = INT4, .call = length_text},
    {.name = "lower", .count = 1, .args = {TEXT}, .result = TEXT, .call = lower_text},
    {.name = "upper", .count = 1, .args = {TEXT}, .result = TEXT, .call = upper_text},
    {.name = "substr", .count = 2, .args = {TEXT, INT4}, .result = TEXT, .call = substring2},
    {.name = "substr", .count = 3, .args = {TEXT, INT4, INT4}, .result = TEXT, .call = substring3},
    {.name = "substring", .count = 2, .args = {TEXT, INT4}, .result = TEXT, .call = substring2},
    {.name = "substring",
     .count = 3,
     .args = {TEXT, INT4, INT4},
     .result = TEXT,
     .call = substring3},
    {.name = "left", .count = 2, .args = {TEXT, INT4}, .result = TEXT, .call = left_text},
    {.name = "right", .count = 2, .args = {TEXT, INT4}, .result = TEXT, .call = right_text},
    {.name = "btrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = btrim_text},
    {.name = "btrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = btrim_text},
    {.name = "ltrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = ltrim_text},
    {.name = "ltrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = ltrim_text},
    {.name = "rtrim", .count = 1, .args = {TEXT}, .result = TEXT, .call = rtrim_text},
    {.name = "rtrim", .count = 2, .args = {TEXT, TEXT}, .result = TEXT, .call = rtrim_text},
    {.name = "replace",
     .count = 3,
     .args = {TEXT, TEXT, TEXT},
     .result = TEXT,
     .call = replace_text},
    {.name = "position", .count = 2, .args = {TEXT, TEXT}, .result = INT4, .call = position_text},
    {.name = "strpos", .count = 2, .args = {TEXT, TEXT}, .result = INT4, .call = position_text},
    {.name = "concat",
     .count = 1,
     .args = {DBOS_TYPE_UNKNOWN},
     .result = TEXT,
     .takes_null = true,
     .variadic = true,
     .call = concat_any},
    {.name = "repeat", .count = 2, .args = {TEXT, INT4}, .result = TEXT, .call = repeat_text},
    {.name = "reverse", .count = 1, .args = {TEXT}, .result = TEXT, .call = reverse_text},
    {.name = "starts_with",
     .count = 2,
     .args = {TEXT, TEXT},
     .result = DBOS_TYPE_BOOL,
     .call = starts_with},
};

struct dbos_function_table dbos_functions_text(void) {
    return (struct dbos_function_table){.functions = functions,
                                        .count = sizeof functions / sizeof functions[0]};
}
