/* Types and values of SQL.
 *
 * A datum is one value in flight: an argument, a column of a row being read, an intermediate
 * result. Its bytes are borrowed; who lends them is said where a datum is handed over.
 *
 * Thread: any. Memory: none, borrowed bytes only. */
#ifndef DBOS_STORAGE_VALUE_H
#define DBOS_STORAGE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"

/* Stored in the log and the catalogue: never renumber. */
enum dbos_type {
    DBOS_TYPE_UNKNOWN = 0, /* an untyped literal or parameter, before it is bound */
    DBOS_TYPE_BOOL = 1,
    DBOS_TYPE_INT2 = 2,
    DBOS_TYPE_INT4 = 3,
    DBOS_TYPE_INT8 = 4,
    DBOS_TYPE_FLOAT8 = 5,
    DBOS_TYPE_TEXT = 6,
    DBOS_TYPE_VARCHAR = 7, /* text with a limit in characters, kept in the column */
    DBOS_TYPE_BYTEA = 8,
    DBOS_TYPE_TIMESTAMPTZ = 9, /* microseconds since 1970-01-01 UTC, in `integer` */
    DBOS_TYPE_VOID = 10,       /* result of a procedure */
};

enum {
    DBOS_COLUMN_BYTES_MAX = 1048576,      /* decision 8 */
    DBOS_ROW_BYTES_MAX = 2 * 1048576,     /* decision 8 */
    DBOS_RESULT_BYTES_MAX = 50 * 1048576, /* decision 8 */
    DBOS_TASK_BYTES_MAX = 1048576,        /* decision 8 */
    DBOS_OBJECT_BYTES_MIN = 4096,         /* decision 9: from here on a value is an object */
    DBOS_NAME_BYTES = 64,                 /* with the NUL: 63 characters as in PostgreSQL */
    DBOS_COLUMNS_MAX = 256,
    DBOS_INDEX_COLUMNS_MAX = 8,
    DBOS_INDEXES_MAX = 16,
    DBOS_ARGUMENTS_MAX = 32,
};

struct dbos_object;

struct dbos_datum {
    uint8_t type; /* enum dbos_type */
    bool is_null;
    union {
        int64_t integer;         /* BOOL (0, 1), INT2, INT4, INT8, TIMESTAMPTZ */
        double real;             /* FLOAT8 */
        struct dbos_bytes bytes; /* TEXT, VARCHAR, BYTEA: borrowed */
    };
    struct dbos_object *object; /* non-NULL: `bytes` are this object's; borrowed reference */
};

static inline bool dbos_type_is_bytes(enum dbos_type type) {
    return type == DBOS_TYPE_TEXT || type == DBOS_TYPE_VARCHAR || type == DBOS_TYPE_BYTEA;
}
static inline struct dbos_datum dbos_datum_null(enum dbos_type type) {
    return (struct dbos_datum){.type = (uint8_t)type, .is_null = true};
}
static inline struct dbos_datum dbos_datum_int(enum dbos_type type, int64_t value) {
    return (struct dbos_datum){.type = (uint8_t)type, .integer = value};
}
static inline struct dbos_datum dbos_datum_real(double value) {
    return (struct dbos_datum){.type = DBOS_TYPE_FLOAT8, .real = value};
}
static inline struct dbos_datum dbos_datum_bytes(enum dbos_type type, const void *data,
                                                 size_t size_bytes) {
    struct dbos_datum datum = {.type = (uint8_t)type};
    datum.bytes.data = data;
    datum.bytes.size_bytes = size_bytes;
    return datum;
}

/* SQL name ("bigint", "double precision"), and PostgreSQL's oid and typlen of a type. */
const char *dbos_type_name(enum dbos_type type);
uint32_t dbos_type_oid(enum dbos_type type);
int16_t dbos_type_length(enum dbos_type type);
/* The type of an oid; UNKNOWN for 0, 705 and anything else. */
enum dbos_type dbos_type_of_oid(uint32_t oid);

/* Total order within one type; NULLs are the caller's. float8: -0 = 0, NaN above all (PostgreSQL).
 * int2/int4/int8 compare with each other; text with varchar; other mixtures are a bug.
 * Text compares bytewise (C collation). <0, 0, >0. */
int dbos_datum_compare(const struct dbos_datum *a, const struct dbos_datum *b);

/* Key bytes whose memcmp order is the datum order (NULL last), for ordered indexes, range records
 * and hash indexes: a datum appended to a key. The same value has the same bytes for int2, int4
 * and int8. Text and bytea are escaped (00 -> 00 ff, end 00 00), so no key is a prefix of another.
 */
void dbos_datum_put_key(struct dbos_buf *key, const struct dbos_datum *datum);

/* Bits of a float8 whose unsigned order is the order of the values. */
uint64_t dbos_real_key(double real);

/* Stored form of a datum in records (arguments, defaults, keys): type, null flag, value.
 * Objects are written as their identity when `by_reference`, else as bytes. */
void dbos_datum_put(struct dbos_buf *buf, const struct dbos_datum *datum, bool by_reference);
/* Reads what put wrote; bytes are borrowed from the reader. An object reference leaves
 * bytes.data = NULL, bytes.size_bytes = its size, and *reference set; a value that is none leaves
 * *reference zero. `reference` may be NULL: a reference is then malformed. */
struct dbos_object_id;
void dbos_datum_get(struct dbos_reader *reader, struct dbos_datum *datum,
                    struct dbos_object_id *reference);

#endif /* DBOS_STORAGE_VALUE_H */
