#include "storage/value.h"

#include <assert.h>
#include <math.h>

#include "storage/object.h"

/* Facts of a type, by its number. Oids and lengths are PostgreSQL's (pg_type.dat). */
struct type_facts {
    const char *name;
    uint32_t oid;
    int16_t length; /* -1 varies, -2 NUL-terminated */
};
static const struct type_facts type_facts[] = {
    [DBOS_TYPE_UNKNOWN] = {"unknown", 705, -2},
    [DBOS_TYPE_BOOL] = {"boolean", 16, 1},
    [DBOS_TYPE_INT2] = {"smallint", 21, 2},
    [DBOS_TYPE_INT4] = {"integer", 23, 4},
    [DBOS_TYPE_INT8] = {"bigint", 20, 8},
    [DBOS_TYPE_FLOAT8] = {"double precision", 701, 8},
    [DBOS_TYPE_TEXT] = {"text", 25, -1},
    [DBOS_TYPE_VARCHAR] = {"character varying", 1043, -1},
    [DBOS_TYPE_BYTEA] = {"bytea", 17, -1},
    [DBOS_TYPE_TIMESTAMPTZ] = {"timestamp with time zone", 1184, 8},
    [DBOS_TYPE_VOID] = {"void", 2278, 4},
};
enum { TYPE_COUNT = sizeof type_facts / sizeof type_facts[0] };

static const struct type_facts *facts_of(enum dbos_type type) {
    DBOS_CHECK((unsigned)type < TYPE_COUNT);
    return &type_facts[type];
}

const char *dbos_type_name(enum dbos_type type) { return facts_of(type)->name; }
uint32_t dbos_type_oid(enum dbos_type type) { return facts_of(type)->oid; }
int16_t dbos_type_length(enum dbos_type type) { return facts_of(type)->length; }

enum dbos_type dbos_type_of_oid(uint32_t oid) {
    for (unsigned type = DBOS_TYPE_BOOL; type < TYPE_COUNT; type++) {
        if (type_facts[type].oid == oid) {
            return (enum dbos_type)type;
        }
    }
    return DBOS_TYPE_UNKNOWN;
}

/* Types of one family compare with each other and have the same key bytes. */
enum family { FAMILY_INTEGER, FAMILY_BOOL, FAMILY_TIME, FAMILY_REAL, FAMILY_TEXT, FAMILY_BYTEA };

static enum family family_of(const struct dbos_datum *datum) {
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
        return FAMILY_BOOL;
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        return FAMILY_INTEGER;
    case DBOS_TYPE_TIMESTAMPTZ:
        return FAMILY_TIME;
    case DBOS_TYPE_FLOAT8:
        return FAMILY_REAL;
    case DBOS_TYPE_BYTEA:
        return FAMILY_BYTEA;
    case DBOS_TYPE_UNKNOWN: /* a literal's text */
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        return FAMILY_TEXT;
    case DBOS_TYPE_VOID:
        break;
    }
    DBOS_CHECK(!"a value of this type has no order");
    return FAMILY_BYTEA;
}

static int compare_reals(double a, double b) {
    if (isnan(a) || isnan(b)) {
        return (int)isnan(a) - (int)isnan(b);
    }
    return (a > b) - (a < b);
}

static int compare_bytes(struct dbos_bytes a, struct dbos_bytes b) {
    size_t common = a.size_bytes < b.size_bytes ? a.size_bytes : b.size_bytes;
    int order = common == 0 || a.data == b.data ? 0 : memcmp(a.data, b.data, common);
    return order != 0 ? order : (a.size_bytes > b.size_bytes) - (a.size_bytes < b.size_bytes);
}

int dbos_datum_compare(const struct dbos_datum *a, const struct dbos_datum *b) {
    enum family family = family_of(a);
    DBOS_CHECK(family == family_of(b));
    DBOS_CHECK(!a->is_null && !b->is_null);
    switch (family) {
    case FAMILY_REAL:
        return compare_reals(a->real, b->real);
    case FAMILY_TEXT:
    case FAMILY_BYTEA:
        return compare_bytes(a->bytes, b->bytes);
    case FAMILY_INTEGER:
    case FAMILY_BOOL:
    case FAMILY_TIME:
        break;
    }
    return (a->integer > b->integer) - (a->integer < b->integer);
}

enum { KEY_VALUE = 1, KEY_NULL = 2 }; /* first byte of each datum of a key: NULL is last */

uint64_t dbos_real_key(double real) {
    uint64_t bits;
    if (isnan(real)) {
        return UINT64_MAX; /* every NaN is the same one, above all */
    }
    real = real == 0 ? 0 : real; /* -0 = 0 */
    memcpy(&bits, &real, sizeof bits);
    return (bits >> 63) != 0 ? ~bits : bits | (UINT64_C(1) << 63);
}

/* 00 becomes 00 ff, and 00 00 ends the value: a shorter value comes before its continuations. */
static void put_escaped(struct dbos_buf *key, struct dbos_bytes bytes) {
    static const uint8_t escaped_zero[] = {0x00, 0xff};
    size_t done = 0;
    while (done < bytes.size_bytes) {
        const uint8_t *from = bytes.data + done;
        const uint8_t *zero = memchr(from, 0, bytes.size_bytes - done);
        size_t run = zero == NULL ? bytes.size_bytes - done : (size_t)(zero - from);
        dbos_buf_put(key, from, run);
        done += run;
        if (zero != NULL) {
            dbos_buf_put(key, escaped_zero, sizeof escaped_zero);
            done++;
        }
    }
    dbos_buf_put_zero(key, 2);
}

void dbos_datum_put_key(struct dbos_buf *key, const struct dbos_datum *datum) {
    if (datum->is_null) {
        dbos_buf_put_u8(key, KEY_NULL);
        return;
    }
    dbos_buf_put_u8(key, KEY_VALUE);
    switch (family_of(datum)) {
    case FAMILY_REAL:
        dbos_buf_put_be64(key, dbos_real_key(datum->real));
        return;
    case FAMILY_TEXT:
    case FAMILY_BYTEA:
        put_escaped(key, datum->bytes);
        return;
    case FAMILY_INTEGER:
    case FAMILY_BOOL:
    case FAMILY_TIME:
        break;
    }
    dbos_buf_put_be64(key, (uint64_t)datum->integer ^ (UINT64_C(1) << 63));
}

/* Second byte of a stored datum. */
enum { STORED_VALUE = 0, STORED_NULL = 1, STORED_REFERENCE = 2 };

void dbos_datum_put(struct dbos_buf *buf, const struct dbos_datum *datum, bool by_reference) {
    dbos_buf_put_u8(buf, datum->type);
    if (datum->is_null) {
        dbos_buf_put_u8(buf, STORED_NULL);
        return;
    }
    if (datum->object != NULL && by_reference) {
        dbos_buf_put_u8(buf, STORED_REFERENCE);
        dbos_buf_put(buf, &datum->object->id, sizeof datum->object->id);
        return;
    }
    dbos_buf_put_u8(buf, STORED_VALUE);
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        dbos_buf_put_zigzag(buf, datum->integer);
        return;
    case DBOS_TYPE_FLOAT8: {
        uint64_t bits;
        memcpy(&bits, &datum->real, sizeof bits);
        dbos_buf_put_u64(buf, bits);
        return;
    }
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
        DBOS_CHECK(datum->bytes.data != NULL || datum->bytes.size_bytes == 0);
        dbos_buf_put_sized(buf, datum->bytes.data, datum->bytes.size_bytes);
        return;
    case DBOS_TYPE_VOID:
        break;
    }
    DBOS_CHECK(!"a value of type void is NULL");
}

static void get_integer(struct dbos_reader *reader, struct dbos_datum *datum) {
    static const int64_t highest[TYPE_COUNT] = {
        [DBOS_TYPE_BOOL] = 1,
        [DBOS_TYPE_INT2] = INT16_MAX,
        [DBOS_TYPE_INT4] = INT32_MAX,
        [DBOS_TYPE_INT8] = INT64_MAX,
        [DBOS_TYPE_TIMESTAMPTZ] = INT64_MAX,
    };
    int64_t value = dbos_get_zigzag(reader);
    int64_t high = highest[datum->type];
    int64_t low = datum->type == DBOS_TYPE_BOOL ? 0 : -high - 1;
    if (value < low || value > high) {
        reader->failed = true;
        value = 0;
    }
    datum->integer = value;
}

static void get_reference(struct dbos_reader *reader, struct dbos_datum *datum,
                          struct dbos_object_id *reference) {
    const uint8_t *at = dbos_get(reader, sizeof *reference);
    if (at == NULL || reference == NULL || !dbos_type_is_bytes((enum dbos_type)datum->type)) {
        reader->failed = true;
        return;
    }
    memcpy(reference, at, sizeof *reference);
    if (reference->reserved != 0 || reference->size_bytes < DBOS_OBJECT_BYTES_MIN ||
        reference->size_bytes > DBOS_COLUMN_BYTES_MAX) {
        reader->failed = true;
        *reference = (struct dbos_object_id){0};
    }
    datum->bytes.size_bytes = reference->size_bytes;
}

static void get_value(struct dbos_reader *reader, struct dbos_datum *datum) {
    switch ((enum dbos_type)datum->type) {
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        get_integer(reader, datum);
        return;
    case DBOS_TYPE_FLOAT8: {
        uint64_t bits = dbos_get_u64(reader);
        memcpy(&datum->real, &bits, sizeof bits);
        return;
    }
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
        datum->bytes = dbos_get_sized(reader);
        return;
    case DBOS_TYPE_VOID:
        break;
    }
    reader->failed = true;
}

void dbos_datum_get(struct dbos_reader *reader, struct dbos_datum *datum,
                    struct dbos_object_id *reference) {
    *datum = dbos_datum_null(DBOS_TYPE_UNKNOWN);
    if (reference != NULL) {
        *reference = (struct dbos_object_id){0};
    }
    uint8_t type = dbos_get_u8(reader);
    uint8_t form = dbos_get_u8(reader);
    if (type >= TYPE_COUNT || form > STORED_REFERENCE) {
        reader->failed = true;
    }
    if (reader->failed) {
        return;
    }
    *datum = (struct dbos_datum){.type = type, .is_null = form == STORED_NULL};
    if (form == STORED_REFERENCE) {
        get_reference(reader, datum, reference);
    } else if (form == STORED_VALUE) {
        get_value(reader, datum);
    }
    if (reader->failed) {
        *datum = dbos_datum_null((enum dbos_type)type);
    }
}
