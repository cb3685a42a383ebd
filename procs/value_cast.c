/* SDK values to SQL values and back. */
#include "procs/procedure_internal.h"
#include "procs/sql/type_io.h"

struct dbos_value dbos_value_of(const struct dbos_datum *datum) {
    if (datum->is_null) {
        return DBOS_NULL;
    }
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        return DBOS_INT(datum->integer);
    case DBOS_TYPE_FLOAT8:
        return DBOS_FLOAT(datum->real);
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
        return DBOS_BYTES(datum->bytes.data, datum->bytes.size_bytes);
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_VOID:
        break;
    }
    return DBOS_NULL;
}

static enum dbos_value_kind kind_of(enum dbos_type type) {
    if (type == DBOS_TYPE_VOID || type == DBOS_TYPE_UNKNOWN) {
        return DBOS_VALUE_NULL;
    }
    if (dbos_type_is_bytes(type)) {
        return DBOS_VALUE_BYTES;
    }
    return type == DBOS_TYPE_FLOAT8 ? DBOS_VALUE_FLOAT : DBOS_VALUE_INT;
}

bool dbos_type_casts(enum dbos_type from, enum dbos_type to) {
    enum dbos_value_kind kind = kind_of(from);
    bool text = from == DBOS_TYPE_TEXT || from == DBOS_TYPE_VARCHAR;
    if (kind == DBOS_VALUE_BYTES) {
        return kind_of(to) == DBOS_VALUE_BYTES && text == (to != DBOS_TYPE_BYTEA);
    }
    if (from == DBOS_TYPE_BOOL || to == DBOS_TYPE_BOOL || from == DBOS_TYPE_TIMESTAMPTZ ||
        to == DBOS_TYPE_TIMESTAMPTZ) {
        return from == to;
    }
    return kind == kind_of(to) || (kind == DBOS_VALUE_INT && to == DBOS_TYPE_FLOAT8);
}

static const char *kind_name(enum dbos_value_kind kind) {
    switch (kind) {
    case DBOS_VALUE_INT:
        return "an integer";
    case DBOS_VALUE_FLOAT:
        return "a floating-point number";
    case DBOS_VALUE_BYTES:
        return "bytes";
    case DBOS_VALUE_NULL:
        break;
    }
    return "NULL";
}

static bool fits(int64_t value, enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_BOOL:
        return value == 0 || value == 1;
    case DBOS_TYPE_INT2:
        return value >= INT16_MIN && value <= INT16_MAX;
    case DBOS_TYPE_INT4:
        return value >= INT32_MIN && value <= INT32_MAX;
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_FLOAT8:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_VOID:
        break;
    }
    return true;
}

static enum dbos_err cast_integer(int64_t value, enum dbos_type type, struct dbos_datum *out,
                                  struct dbos_errinfo *info) {
    if (type == DBOS_TYPE_FLOAT8) {
        *out = dbos_datum_real((double)value);
        return DBOS_OK;
    }
    if (!fits(value, type)) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range", dbos_type_name(type));
    }
    *out = dbos_datum_int(type, value);
    return DBOS_OK;
}

static enum dbos_err cast_bytes(const struct dbos_value *value, enum dbos_type type,
                                struct dbos_datum *out, struct dbos_errinfo *info) {
    if (value->integer < 0 || (value->bytes == NULL && value->integer > 0)) {
        return dbos_fail(info, DBOS_ERR_DATATYPE_MISMATCH, "bytes of size %lld are no value",
                         (long long)value->integer);
    }
    size_t size_bytes = (size_t)value->integer;
    const void *data = size_bytes == 0 ? "" : value->bytes;
    if (type != DBOS_TYPE_BYTEA && !dbos_utf8_valid(data, size_bytes)) {
        return dbos_fail(info, DBOS_ERR_ENCODING, "invalid byte sequence for encoding \"UTF8\"");
    }
    *out = dbos_datum_bytes(type, data, size_bytes);
    return DBOS_OK;
}

enum dbos_err dbos_value_convert(const struct dbos_value *value, enum dbos_type type,
                                 struct dbos_datum *out, struct dbos_errinfo *info) {
    enum dbos_value_kind wanted = kind_of(type);
    if (value->kind == DBOS_VALUE_NULL) {
        *out = dbos_datum_null(type);
        return DBOS_OK;
    }
    if (value->kind == DBOS_VALUE_INT && (wanted == DBOS_VALUE_INT || wanted == DBOS_VALUE_FLOAT)) {
        return cast_integer(value->integer, type, out, info);
    }
    if (value->kind == DBOS_VALUE_FLOAT && wanted == DBOS_VALUE_FLOAT) {
        *out = dbos_datum_real(value->real);
        return DBOS_OK;
    }
    if (value->kind == DBOS_VALUE_BYTES && wanted == DBOS_VALUE_BYTES) {
        return cast_bytes(value, type, out, info);
    }
    *out = dbos_datum_null(type);
    return dbos_fail(info, DBOS_ERR_DATATYPE_MISMATCH, "%s is given where %s is expected",
                     kind_name(value->kind), dbos_type_name(type));
}
