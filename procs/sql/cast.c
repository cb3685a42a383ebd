/* Casts: which there are, as in PostgreSQL's pg_cast, and what they do. */
#include <math.h>
#include <stdio.h>

#include "procs/sql/expr.h"
#include "procs/sql/type_io.h"

static int integer_width(enum dbos_type type) {
    return type == DBOS_TYPE_INT2 ? 1 : type == DBOS_TYPE_INT4 ? 2 : type == DBOS_TYPE_INT8 ? 3 : 0;
}
static bool is_text(enum dbos_type type) {
    return type == DBOS_TYPE_TEXT || type == DBOS_TYPE_VARCHAR;
}

bool dbos_type_comparable(enum dbos_type a, enum dbos_type b) {
    return a == b || (integer_width(a) != 0 && integer_width(b) != 0) || (is_text(a) && is_text(b));
}

static enum dbos_cast_context between_numbers(enum dbos_type from, enum dbos_type to) {
    int from_width = from == DBOS_TYPE_FLOAT8 ? 4 : integer_width(from);
    int to_width = to == DBOS_TYPE_FLOAT8 ? 4 : integer_width(to);
    if (from_width == 0 || to_width == 0) {
        return DBOS_CAST_NONE;
    }
    return from_width <= to_width ? DBOS_CAST_IMPLICIT : DBOS_CAST_ASSIGNMENT;
}

enum dbos_cast_context dbos_cast_context(enum dbos_type from, enum dbos_type to) {
    if (from == to || (is_text(from) && is_text(to))) {
        return DBOS_CAST_IMPLICIT;
    }
    if (from == DBOS_TYPE_VOID || to == DBOS_TYPE_VOID) {
        return DBOS_CAST_NONE;
    }
    if (is_text(to)) {
        return DBOS_CAST_ASSIGNMENT;
    }
    if (is_text(from)) {
        return DBOS_CAST_EXPLICIT;
    }
    if ((from == DBOS_TYPE_BOOL && to == DBOS_TYPE_INT4) ||
        (from == DBOS_TYPE_INT4 && to == DBOS_TYPE_BOOL)) {
        return DBOS_CAST_EXPLICIT;
    }
    return between_numbers(from, to);
}

enum dbos_err dbos_fail_state(struct dbos_errinfo *info, enum dbos_err err, const char *sqlstate,
                              const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)dbos_vfail(info, err, format, args);
    va_end(args);
    if (info != NULL) {
        (void)snprintf(info->sqlstate, sizeof info->sqlstate, "%s", sqlstate);
    }
    return err;
}

enum dbos_err dbos_integer_check(enum dbos_type type, int64_t value, struct dbos_errinfo *info) {
    if ((type == DBOS_TYPE_INT2 && (value < INT16_MIN || value > INT16_MAX)) ||
        (type == DBOS_TYPE_INT4 && (value < INT32_MIN || value > INT32_MAX))) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range", dbos_type_name(type));
    }
    return DBOS_OK;
}

enum dbos_err dbos_cast_to_text(const struct dbos_datum *from, struct dbos_arena *arena,
                                struct dbos_bytes *out, struct dbos_errinfo *info) {
    if (is_text((enum dbos_type)from->type)) {
        *out = from->bytes;
        return DBOS_OK;
    }
    if (from->type == DBOS_TYPE_BOOL) {
        const char *word = from->integer != 0 ? "true" : "false";
        *out = (struct dbos_bytes){.data = (const uint8_t *)word, .size_bytes = strlen(word)};
        return DBOS_OK;
    }
    struct dbos_buf buf;
    dbos_buf_init(&buf, arena->alloc);
    dbos_text_out(from, &buf);
    char *copy = buf.failed ? NULL : dbos_arena_copy(arena, buf.data, buf.size_bytes);
    *out = (struct dbos_bytes){.data = (const uint8_t *)copy, .size_bytes = buf.size_bytes};
    dbos_buf_fini(&buf);
    return copy != NULL ? DBOS_OK : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* varchar(n): an explicit cast cuts; an assignment may cut blanks only. */
static enum dbos_err limit_chars(struct dbos_datum *value, const struct dbos_cast *cast,
                                 struct dbos_errinfo *info) {
    if (cast->chars_max == 0 || value->bytes.size_bytes <= cast->chars_max) {
        return DBOS_OK;
    }
    size_t at = 0;
    uint32_t chars = 0;
    while (at < value->bytes.size_bytes) {
        if ((value->bytes.data[at] & 0xc0) != 0x80 && chars++ == cast->chars_max) {
            break;
        }
        at++;
    }
    for (size_t i = at; i < value->bytes.size_bytes && !cast->is_explicit; i++) {
        if (value->bytes.data[i] != ' ') {
            return dbos_fail(info, DBOS_ERR_TOO_LONG,
                             "value too long for type character varying(%u)", cast->chars_max);
        }
    }
    if (at < value->bytes.size_bytes) {
        value->bytes.size_bytes = at;
        value->object = NULL;
    }
    return DBOS_OK;
}

static enum dbos_err to_text(const struct dbos_datum *from, const struct dbos_cast *cast,
                             struct dbos_arena *arena, struct dbos_datum *out,
                             struct dbos_errinfo *info) {
    struct dbos_bytes bytes;
    enum dbos_err err = dbos_cast_to_text(from, arena, &bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_object *object = is_text((enum dbos_type)from->type) ? from->object : NULL;
    *out = dbos_datum_bytes(cast->to, bytes.data, bytes.size_bytes);
    out->object = object;
    return limit_chars(out, cast, info);
}

static enum dbos_err real_to_integer(double real, enum dbos_type to, struct dbos_datum *out,
                                     struct dbos_errinfo *info) {
    double rounded = rint(real);
    double limit = to == DBOS_TYPE_INT2 ? 0x1p15 : to == DBOS_TYPE_INT4 ? 0x1p31 : 0x1p63;
    if (!(rounded >= -limit && rounded < limit)) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range", dbos_type_name(to));
    }
    *out = dbos_datum_int(to, (int64_t)rounded);
    return DBOS_OK;
}

enum dbos_err dbos_cast_datum(const struct dbos_datum *from, const struct dbos_cast *cast,
                              struct dbos_arena *arena, struct dbos_datum *out,
                              struct dbos_errinfo *info) {
    enum dbos_type type = (enum dbos_type)from->type;
    if (from->is_null) {
        *out = dbos_datum_null(cast->to);
        return DBOS_OK;
    }
    if (is_text(cast->to)) {
        return to_text(from, cast, arena, out, info);
    }
    if (type == cast->to) {
        *out = *from;
        return DBOS_OK;
    }
    if (is_text(type)) {
        return dbos_text_in(cast->to, (const char *)from->bytes.data, from->bytes.size_bytes, arena,
                            out, info);
    }
    if (cast->to == DBOS_TYPE_BOOL) {
        *out = dbos_datum_int(DBOS_TYPE_BOOL, from->integer != 0 ? 1 : 0);
        return DBOS_OK;
    }
    if (type == DBOS_TYPE_FLOAT8) {
        return real_to_integer(from->real, cast->to, out, info);
    }
    if (cast->to == DBOS_TYPE_FLOAT8) {
        *out = dbos_datum_real((double)from->integer);
        return DBOS_OK;
    }
    *out = dbos_datum_int(cast->to, from->integer);
    return dbos_integer_check(cast->to, from->integer, info);
}
