/* Reading a column out of a payload, inline: indexes compare and hash rows on the hot path.
 *
 * The payload must have been made by dbos_row_make() or accepted by dbos_row_payload_check().
 *
 * Thread: as the row. Memory: none. */
#ifndef DBOS_STORAGE_ROW_READ_H
#define DBOS_STORAGE_ROW_READ_H

#include "storage/row.h"

/* Top bit of an end offset: the bytes are a struct dbos_object_id. */
#define DBOS_END_OBJECT UINT32_C(0x80000000)

static inline bool dbos_payload_is_null(const uint8_t *payload, uint32_t column) {
    return ((payload[column / 8] >> (column % 8)) & 1) != 0;
}

static inline const uint8_t *dbos_payload_ends(const struct dbos_table_def *def,
                                               const uint8_t *payload) {
    return payload + def->null_bytes + def->fixed_bytes;
}

/* An integer of a type's width, or a float8's bits. */
static inline int64_t dbos_load_fixed(const uint8_t *at, enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_BOOL:
        return *at;
    case DBOS_TYPE_INT2:
        return (int16_t)dbos_load_u16(at);
    case DBOS_TYPE_INT4:
        return (int32_t)dbos_load_u32(at);
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_FLOAT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        return (int64_t)dbos_load_u64(at);
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_VOID:
        break;
    }
    DBOS_CHECK(!"column has no fixed width");
    return 0;
}

static inline int64_t dbos_payload_fixed(const struct dbos_table_def *def, const uint8_t *payload,
                                         uint32_t column) {
    return dbos_load_fixed(payload + def->null_bytes + def->offsets[column],
                           (enum dbos_type)def->columns[column].type);
}

/* The bytes of a variable column; *object = they are an object's identity. */
static inline struct dbos_bytes dbos_payload_variable(const struct dbos_table_def *def,
                                                      const uint8_t *payload, uint32_t column,
                                                      bool *object) {
    const uint8_t *ends = dbos_payload_ends(def, payload);
    uint32_t number = def->offsets[column];
    uint32_t start = number == 0 ? 0 : dbos_load_u32(ends + 4 * (number - 1)) & ~DBOS_END_OBJECT;
    uint32_t end = dbos_load_u32(ends + 4 * number);
    *object = (end & DBOS_END_OBJECT) != 0;
    return (struct dbos_bytes){
        .data = ends + 4 * def->variable_count + start,
        .size_bytes = (end & ~DBOS_END_OBJECT) - start,
    };
}

#endif /* DBOS_STORAGE_ROW_READ_H */
