#include "storage/row_read.h"

#include <assert.h>
#include <stddef.h>

static_assert(offsetof(struct dbos_row, payload) == 32, "row header");
static_assert(sizeof(struct dbos_object *) == 8, "pointer area is 8-aligned");

/* The object pointers stand behind the payload, at the next multiple of 8. */
static size_t pointers_offset(size_t size_bytes) {
    return (offsetof(struct dbos_row, payload) + size_bytes + 7) & ~(size_t)7;
}

static struct dbos_object **pointers_of(const struct dbos_row *row) {
    return (struct dbos_object **)((uintptr_t)row + pointers_offset(row->size_bytes));
}

struct dbos_object *const *dbos_row_objects(const struct dbos_row *row) {
    return pointers_of(row);
}

static size_t row_bytes(size_t size_bytes, uint32_t object_count) {
    return pointers_offset(size_bytes) + object_count * sizeof(struct dbos_object *);
}

static struct dbos_row *take_row(struct dbos_slab *slab, size_t size_bytes, uint32_t object_count) {
    struct dbos_row *row = dbos_slab_take(slab, row_bytes(size_bytes, object_count));
    if (row != NULL) {
        *row = (struct dbos_row){
            .size_bytes = (uint32_t)size_bytes,
            .object_count = (uint16_t)object_count,
        };
    }
    return row;
}

static uint64_t characters_of(struct dbos_bytes text) {
    uint64_t count = 0;
    for (size_t i = 0; i < text.size_bytes; i++) {
        count += (text.data[i] & 0xc0) != 0x80; /* every byte but UTF-8's continuations */
    }
    return count;
}

static enum dbos_err fail_column(struct dbos_errinfo *info, const struct dbos_table_def *def,
                                 uint32_t column, enum dbos_err err) {
    if (info != NULL) {
        memcpy(info->table, def->name, sizeof info->table);
        memcpy(info->column, def->columns[column].name, sizeof info->column);
    }
    return err;
}

static bool is_object_size(size_t size_bytes) { return size_bytes >= DBOS_OBJECT_BYTES_MIN; }

/* What a row needs, found in a first pass over its values. */
struct row_size {
    size_t payload_bytes;
    size_t value_bytes; /* what the limit of a row is about: large values at their full size */
    uint32_t object_count;
};

static enum dbos_err check_bytes(const struct dbos_table_def *def, uint32_t column,
                                 struct dbos_bytes bytes, struct dbos_errinfo *info) {
    const struct dbos_column *definition = &def->columns[column];
    if (bytes.size_bytes > DBOS_COLUMN_BYTES_MAX) {
        enum dbos_err err =
            dbos_fail(info, DBOS_ERR_LIMIT, "column \"%s\" is %zu bytes: the limit is %d",
                      definition->name, bytes.size_bytes, DBOS_COLUMN_BYTES_MAX);
        return fail_column(info, def, column, err);
    }
    if (definition->type == DBOS_TYPE_VARCHAR && definition->chars_max != 0 &&
        bytes.size_bytes > definition->chars_max && characters_of(bytes) > definition->chars_max) {
        return dbos_fail(info, DBOS_ERR_TOO_LONG, "value too long for type character varying(%u)",
                         definition->chars_max);
    }
    return DBOS_OK;
}

static bool is_integer(uint8_t type) {
    return type == DBOS_TYPE_INT2 || type == DBOS_TYPE_INT4 || type == DBOS_TYPE_INT8;
}

/* The integer types and the two texts may stand for each other, as long as the value fits. */
static bool fits_column(uint8_t column_type, const struct dbos_datum *datum) {
    if (dbos_type_is_bytes((enum dbos_type)column_type)) {
        return dbos_type_is_bytes((enum dbos_type)datum->type) &&
               (column_type == DBOS_TYPE_BYTEA) == (datum->type == DBOS_TYPE_BYTEA);
    }
    return datum->type == column_type || (is_integer(column_type) && is_integer(datum->type));
}

static enum dbos_err measure(const struct dbos_table_def *def, const struct dbos_datum *datums,
                             struct row_size *size, struct dbos_errinfo *info) {
    *size = (struct row_size){
        .payload_bytes = def->null_bytes + def->fixed_bytes + 4 * (size_t)def->variable_count,
        .value_bytes = def->fixed_bytes,
    };
    for (uint32_t i = 0; i < def->column_count; i++) {
        const struct dbos_column *column = &def->columns[i];
        const struct dbos_datum *datum = &datums[i];
        if (datum->is_null) {
            if (column->not_null) {
                enum dbos_err err = dbos_fail(
                    info, DBOS_ERR_NOT_NULL,
                    "null value in column \"%s\" of relation \"%s\" violates not-null constraint",
                    column->name, def->name);
                return fail_column(info, def, i, err);
            }
            continue;
        }
        DBOS_CHECK(fits_column(column->type, datum));
        if (!dbos_type_is_bytes((enum dbos_type)column->type)) {
            continue;
        }
        enum dbos_err err = check_bytes(def, i, datum->bytes, info);
        if (err != DBOS_OK) {
            return err;
        }
        bool object = is_object_size(datum->bytes.size_bytes);
        size->object_count += object;
        size->payload_bytes += object ? sizeof(struct dbos_object_id) : datum->bytes.size_bytes;
        size->value_bytes += datum->bytes.size_bytes;
    }
    if (size->value_bytes > DBOS_ROW_BYTES_MAX) {
        enum dbos_err err = dbos_fail(info, DBOS_ERR_LIMIT, "row is %zu bytes: the limit is %d",
                                      size->value_bytes, DBOS_ROW_BYTES_MAX);
        if (info != NULL) {
            memcpy(info->table, def->name, sizeof info->table);
        }
        return err;
    }
    return DBOS_OK;
}

static void put_fixed(uint8_t *at, uint8_t type, const struct dbos_datum *datum) {
    switch ((enum dbos_type)type) {
    case DBOS_TYPE_BOOL:
        *at = datum->integer != 0;
        return;
    case DBOS_TYPE_INT2:
        DBOS_CHECK(datum->integer >= INT16_MIN && datum->integer <= INT16_MAX);
        dbos_store_u16(at, (uint16_t)datum->integer);
        return;
    case DBOS_TYPE_INT4:
        DBOS_CHECK(datum->integer >= INT32_MIN && datum->integer <= INT32_MAX);
        dbos_store_u32(at, (uint32_t)datum->integer);
        return;
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        dbos_store_u64(at, (uint64_t)datum->integer);
        return;
    case DBOS_TYPE_FLOAT8:
        memcpy(at, &datum->real, sizeof datum->real);
        return;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_VOID:
        break;
    }
    DBOS_CHECK(!"value has no fixed width");
}

/* The object of a large value: the one that the datum brings when it is of the same store and the
 * datum is all of it, else a new or an equal one. */
static enum dbos_err object_of(struct dbos_objects *objects, const struct dbos_datum *datum,
                               struct dbos_object **out) {
    struct dbos_object *brought = datum->object;
    if (brought != NULL && brought->store == objects && datum->bytes.data == brought->data &&
        datum->bytes.size_bytes == brought->id.size_bytes) {
        *out = dbos_object_ref(brought);
        return DBOS_OK;
    }
    return dbos_object_make(objects, datum->bytes.data, datum->bytes.size_bytes, out);
}

/* Where a row under construction has come to. */
struct row_filler {
    struct dbos_objects *objects;
    struct dbos_row *row;
    uint8_t *ends;  /* of the next variable column */
    uint8_t *bytes; /* start of the variable bytes */
    uint32_t end;   /* of the variable bytes so far */
    uint32_t object_count;
};

static enum dbos_err put_variable(struct row_filler *filler, const struct dbos_datum *datum) {
    uint32_t flag = 0;
    if (!datum->is_null && is_object_size(datum->bytes.size_bytes)) {
        struct dbos_object *object;
        enum dbos_err err = object_of(filler->objects, datum, &object);
        if (err != DBOS_OK) {
            return err;
        }
        pointers_of(filler->row)[filler->object_count++] = object;
        memcpy(filler->bytes + filler->end, &object->id, sizeof object->id);
        filler->end += (uint32_t)sizeof object->id;
        flag = DBOS_END_OBJECT;
    } else if (!datum->is_null && datum->bytes.size_bytes != 0) {
        memcpy(filler->bytes + filler->end, datum->bytes.data, datum->bytes.size_bytes);
        filler->end += (uint32_t)datum->bytes.size_bytes;
    }
    dbos_store_u32(filler->ends, filler->end | flag);
    filler->ends += 4;
    return DBOS_OK;
}

/* Few bytes, by words: a row has room up to the next multiple of 8 behind its payload. */
static void clear_head(uint8_t *payload, size_t head_bytes) {
    for (size_t at = 0; at < head_bytes; at += 8) {
        dbos_store_u64(payload + at, 0);
    }
}

static enum dbos_err fill_row(struct row_filler *filler, const struct dbos_table_def *def,
                              const struct dbos_datum *datums) {
    uint8_t *payload = filler->row->payload;
    clear_head(payload, def->null_bytes + def->fixed_bytes);
    filler->ends = payload + def->null_bytes + def->fixed_bytes;
    filler->bytes = filler->ends + 4 * (size_t)def->variable_count;
    for (uint32_t i = 0; i < def->column_count; i++) {
        if (datums[i].is_null) {
            payload[i / 8] = (uint8_t)(payload[i / 8] | (1u << (i % 8)));
        }
        if (dbos_type_is_bytes((enum dbos_type)def->columns[i].type)) {
            enum dbos_err err = put_variable(filler, &datums[i]);
            if (err != DBOS_OK) {
                return err;
            }
        } else if (!datums[i].is_null) {
            put_fixed(payload + def->null_bytes + def->offsets[i], def->columns[i].type,
                      &datums[i]);
        }
    }
    DBOS_CHECK(filler->bytes + filler->end == payload + filler->row->size_bytes);
    return DBOS_OK;
}

/* A row that has room for all of its objects and references to the first `held` of them. */
static void give_row(struct dbos_slab *slab, struct dbos_row *row, uint32_t held) {
    for (uint32_t i = 0; i < held; i++) {
        dbos_object_unref(pointers_of(row)[i]);
    }
    dbos_slab_give(slab, row, row_bytes(row->size_bytes, row->object_count));
}

enum dbos_err dbos_row_make(struct dbos_slab *slab, struct dbos_objects *objects,
                            const struct dbos_table_def *def, const struct dbos_datum *datums,
                            struct dbos_row **out, struct dbos_errinfo *info) {
    struct row_size size;
    *out = NULL;
    enum dbos_err err = measure(def, datums, &size, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_row *row = take_row(slab, size.payload_bytes, size.object_count);
    if (row == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    struct row_filler filler = {.objects = objects, .row = row};
    err = fill_row(&filler, def, datums);
    if (err != DBOS_OK) {
        give_row(slab, row, filler.object_count);
        return dbos_fail(info, err, "out of memory");
    }
    DBOS_CHECK(filler.object_count == size.object_count);
    *out = row;
    return DBOS_OK;
}

void dbos_row_give(struct dbos_slab *slab, const struct dbos_table_def *def, struct dbos_row *row) {
    (void)def;
    if (row != NULL) {
        give_row(slab, row, row->object_count);
    }
}

static inline struct dbos_datum fixed_column(const struct dbos_table_def *def,
                                             const uint8_t *payload, uint32_t column,
                                             enum dbos_type type) {
    const uint8_t *at = payload + def->null_bytes + def->offsets[column];
    bool is_null = dbos_payload_is_null(payload, column); /* and the value's place is zero */
    return (struct dbos_datum){
        .type = (uint8_t)type,
        .is_null = is_null,
        .integer = dbos_load_fixed(at, type), /* of a float8, the same bits as .real */
    };
}

struct dbos_datum dbos_payload_column(const struct dbos_table_def *def, const uint8_t *payload,
                                      uint32_t column, struct dbos_object_id *reference) {
    DBOS_CHECK(column < def->column_count);
    enum dbos_type type = (enum dbos_type)def->columns[column].type;
    struct dbos_datum datum = {.type = (uint8_t)type};
    *reference = (struct dbos_object_id){0};
    if (!dbos_type_is_bytes(type)) {
        return fixed_column(def, payload, column, type);
    }
    if (dbos_payload_is_null(payload, column)) {
        datum.is_null = true;
        return datum;
    }
    bool object;
    datum.bytes = dbos_payload_variable(def, payload, column, &object);
    if (object) {
        memcpy(reference, datum.bytes.data, sizeof *reference);
        datum.bytes.data = NULL;
        datum.bytes.size_bytes = reference->size_bytes;
    }
    return datum;
}

/* Which of the row's objects a variable column has: as many as objects stand before it. */
static uint32_t object_number(const struct dbos_table_def *def, const uint8_t *payload,
                              uint32_t column) {
    const uint8_t *ends = dbos_payload_ends(def, payload);
    uint32_t number = 0;
    for (uint32_t i = 0; i < def->offsets[column]; i++) {
        number += (dbos_load_u32(ends + 4 * i) & DBOS_END_OBJECT) != 0;
    }
    return number;
}

/* Apart, so that the short way of the other columns stays short. */
__attribute__((noinline)) static struct dbos_datum
variable_column(const struct dbos_table_def *def, const struct dbos_row *row, uint32_t column) {
    struct dbos_object_id reference;
    struct dbos_datum datum = dbos_payload_column(def, row->payload, column, &reference);
    if (reference.size_bytes != 0) {
        uint32_t number = object_number(def, row->payload, column);
        DBOS_CHECK(number < row->object_count);
        datum.object = pointers_of(row)[number];
        datum.bytes.data = datum.object->data;
    }
    return datum;
}

struct dbos_datum dbos_row_column(const struct dbos_table_def *def, const struct dbos_row *row,
                                  uint32_t column) {
    DBOS_CHECK(column < def->column_count);
    enum dbos_type type = (enum dbos_type)def->columns[column].type;
    return dbos_type_is_bytes(type) ? variable_column(def, row, column)
                                    : fixed_column(def, row->payload, column, type);
}

static bool zero_bytes(const uint8_t *data, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++) {
        if (data[i] != 0) {
            return false;
        }
    }
    return true;
}

/* Each value has one stored form, so that equal rows have equal hashes: spare null bits and the
 * places of NULLs are zero. */
static bool fixed_is_canonical(const struct dbos_table_def *def, const uint8_t *payload,
                               uint32_t column) {
    uint8_t type = def->columns[column].type;
    const uint8_t *at = payload + def->null_bytes + def->offsets[column];
    if (dbos_payload_is_null(payload, column)) {
        return zero_bytes(at, (size_t)dbos_type_length((enum dbos_type)type));
    }
    return type != DBOS_TYPE_BOOL || *at <= 1;
}

static bool reference_is_valid(struct dbos_bytes bytes) {
    struct dbos_object_id id;
    if (bytes.size_bytes != sizeof id) {
        return false;
    }
    memcpy(&id, bytes.data, sizeof id);
    return id.reserved == 0 && id.size_bytes >= DBOS_OBJECT_BYTES_MIN &&
           id.size_bytes <= DBOS_COLUMN_BYTES_MAX;
}

static bool ends_are_ascending(const struct dbos_table_def *def, const uint8_t *payload,
                               size_t variable_bytes) {
    const uint8_t *ends = dbos_payload_ends(def, payload);
    uint32_t last = 0;
    for (uint32_t i = 0; i < def->variable_count; i++) {
        uint32_t end = dbos_load_u32(ends + 4 * i) & ~DBOS_END_OBJECT;
        if (end < last) {
            return false;
        }
        last = end;
    }
    return last == variable_bytes;
}

/* After ends_are_ascending(). Adds the value's size to *value_bytes. */
static bool variable_is_canonical(const struct dbos_table_def *def, const uint8_t *payload,
                                  uint32_t column, size_t *value_bytes) {
    bool object;
    struct dbos_bytes bytes = dbos_payload_variable(def, payload, column, &object);
    if (dbos_payload_is_null(payload, column)) {
        return !object && bytes.size_bytes == 0;
    }
    if (!object) {
        *value_bytes += bytes.size_bytes;
        return bytes.size_bytes < DBOS_OBJECT_BYTES_MIN;
    }
    if (!reference_is_valid(bytes)) {
        return false;
    }
    *value_bytes += dbos_load_u32(bytes.data + offsetof(struct dbos_object_id, size_bytes));
    return true;
}

static bool spare_null_bits_are_zero(const struct dbos_table_def *def, const uint8_t *payload) {
    uint32_t used = def->column_count % 8;
    return used == 0 || (payload[def->null_bytes - 1] >> used) == 0;
}

static const char *find_fault(const struct dbos_table_def *def, const uint8_t *payload,
                              size_t size_bytes) {
    size_t head_bytes = def->null_bytes + def->fixed_bytes + 4 * (size_t)def->variable_count;
    size_t value_bytes = def->fixed_bytes;
    if (size_bytes < head_bytes || size_bytes > head_bytes + DBOS_ROW_BYTES_MAX) {
        return "its size is impossible";
    }
    if (!spare_null_bits_are_zero(def, payload)) {
        return "its null bits are not valid";
    }
    if (!ends_are_ascending(def, payload, size_bytes - head_bytes)) {
        return "its end offsets are not valid";
    }
    for (uint32_t i = 0; i < def->column_count; i++) {
        if (dbos_payload_is_null(payload, i) && def->columns[i].not_null) {
            return "a column that can not be null is";
        }
        bool variable = dbos_type_is_bytes((enum dbos_type)def->columns[i].type);
        if (variable ? !variable_is_canonical(def, payload, i, &value_bytes)
                     : !fixed_is_canonical(def, payload, i)) {
            return "a value is not valid";
        }
    }
    return value_bytes > DBOS_ROW_BYTES_MAX ? "it is too long" : NULL;
}

enum dbos_err dbos_row_payload_check(const struct dbos_table_def *def, const uint8_t *payload,
                                     size_t size_bytes, struct dbos_errinfo *info) {
    const char *fault = find_fault(def, payload, size_bytes);
    if (fault != NULL) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "stored row of table \"%s\" is malformed: %s",
                         def->name, fault);
    }
    return DBOS_OK;
}

static uint32_t count_objects(const struct dbos_table_def *def, const uint8_t *payload) {
    const uint8_t *ends = dbos_payload_ends(def, payload);
    uint32_t count = 0;
    for (uint32_t i = 0; i < def->variable_count; i++) {
        count += (dbos_load_u32(ends + 4 * i) & DBOS_END_OBJECT) != 0;
    }
    return count;
}

/* Looks up the row's objects in column order; *held counts those that it has got. */
static enum dbos_err find_objects(const struct dbos_table_def *def,
                                  const struct dbos_object_finder *finder, struct dbos_row *row,
                                  uint32_t *held, struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < def->column_count; i++) {
        struct dbos_object_id id;
        (void)dbos_payload_column(def, row->payload, i, &id);
        if (id.size_bytes == 0) {
            continue;
        }
        struct dbos_object *object = NULL;
        enum dbos_err err = finder->find(finder->arg, &id, &object, info);
        if (err != DBOS_OK) {
            return err;
        }
        if (object == NULL) {
            err = dbos_fail(info, DBOS_ERR_CORRUPT,
                            "large value of column \"%s\" of table \"%s\" is missing",
                            def->columns[i].name, def->name);
            return fail_column(info, def, i, err);
        }
        DBOS_CHECK(object->id.size_bytes == id.size_bytes);
        pointers_of(row)[(*held)++] = object;
    }
    return DBOS_OK;
}

enum dbos_err dbos_row_decode(struct dbos_slab *slab, const struct dbos_table_def *def,
                              const struct dbos_object_finder *finder, const void *payload,
                              size_t size_bytes, struct dbos_row **out, struct dbos_errinfo *info) {
    *out = NULL;
    enum dbos_err err = dbos_row_payload_check(def, payload, size_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_row *row = take_row(slab, size_bytes, count_objects(def, payload));
    if (row == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    memcpy(row->payload, payload, size_bytes);
    uint32_t held = 0;
    err = find_objects(def, finder, row, &held, info);
    if (err != DBOS_OK) {
        give_row(slab, row, held);
        return err;
    }
    DBOS_CHECK(held == row->object_count);
    *out = row;
    return DBOS_OK;
}

uint64_t dbos_row_hash(uint32_t table_id, const struct dbos_row *row) {
    uint64_t seed = dbos_mix64(row->block ^ dbos_mix64(table_id));
    return dbos_hash64(seed, row->payload, row->size_bytes);
}
