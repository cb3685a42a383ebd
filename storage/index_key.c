#include "storage/index_key.h"

#include "storage/value_text.h"

static bool is_integer_like(uint8_t type) {
    switch ((enum dbos_type)type) {
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        return true;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_FLOAT8:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_VOID:
        break;
    }
    return false;
}

void dbos_key_init(struct dbos_key *key, const struct dbos_table_def *def,
                   const struct dbos_index_def *index) {
    int32_t bytes = 0;
    bool fixed = true;
    for (uint32_t i = 0; i < index->column_count; i++) {
        const struct dbos_column *column = &def->columns[index->columns[i]];
        fixed = fixed && column->not_null && !dbos_type_is_bytes((enum dbos_type)column->type);
        bytes += dbos_type_length((enum dbos_type)column->type);
    }
    *key = (struct dbos_key){
        .def = def,
        .index = index,
        .exact_hash =
            index->column_count == 1 && is_integer_like(def->columns[index->columns[0]].type),
        .exact_prefix = fixed && bytes <= 8,
    };
    if (key->exact_hash) {
        key->type = def->columns[index->columns[0]].type;
        key->offset = def->null_bytes + def->offsets[index->columns[0]];
    }
}

bool dbos_key_row_has_null(const struct dbos_key *key, const struct dbos_row *row) {
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        if (dbos_payload_is_null(row->payload, key->index->columns[i])) {
            return true;
        }
    }
    return false;
}

static uint64_t fold_datum(uint64_t hash, const struct dbos_datum *datum) {
    if (dbos_type_is_bytes((enum dbos_type)datum->type)) {
        return dbos_hash64(hash, datum->bytes.data, datum->bytes.size_bytes);
    }
    uint64_t bits =
        datum->type == DBOS_TYPE_FLOAT8 ? dbos_real_key(datum->real) : (uint64_t)datum->integer;
    return dbos_mix64(hash + dbos_mix64(bits + UINT64_C(0x9e3779b97f4a7c15)));
}

uint64_t dbos_key_fold_row(const struct dbos_key *key, const struct dbos_row *row) {
    uint64_t hash = key->index->column_count;
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        struct dbos_datum datum = dbos_row_column(key->def, row, key->index->columns[i]);
        hash = fold_datum(hash, &datum);
    }
    return hash;
}

uint64_t dbos_key_fold_datums(const struct dbos_key *key, const struct dbos_datum *datums) {
    uint64_t hash = key->index->column_count;
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        hash = fold_datum(hash, &datums[i]);
    }
    return hash;
}

static int compare_columns(const struct dbos_datum *a, const struct dbos_datum *b) {
    if (a->is_null || b->is_null) {
        return (int)a->is_null - (int)b->is_null;
    }
    return dbos_datum_compare(a, b);
}

int dbos_key_compare_rows(const struct dbos_key *key, const struct dbos_row *a,
                          const struct dbos_row *b) {
    int order = 0;
    for (uint32_t i = 0; order == 0 && i < key->index->column_count; i++) {
        struct dbos_datum of_a = dbos_row_column(key->def, a, key->index->columns[i]);
        struct dbos_datum of_b = dbos_row_column(key->def, b, key->index->columns[i]);
        order = compare_columns(&of_a, &of_b);
    }
    return order;
}

int dbos_key_compare_datums(const struct dbos_key *key, const struct dbos_row *row,
                            const struct dbos_datum *datums, uint32_t count) {
    int order = 0;
    for (uint32_t i = 0; order == 0 && i < count; i++) {
        struct dbos_datum of_row = dbos_row_column(key->def, row, key->index->columns[i]);
        order = compare_columns(&of_row, &datums[i]);
    }
    return order;
}

/* Appends columns to a prefix until its eight bytes are full or something is not exact. */
struct prefix_maker {
    uint64_t value;
    uint32_t bytes;
    bool exact;
};

static void append_number(struct prefix_maker *maker, uint64_t number, uint32_t width) {
    uint32_t room = 8 - maker->bytes;
    uint32_t taken = width < room ? width : room;
    if (taken == 0) {
        maker->exact = false;
        return;
    }
    uint64_t high = taken == 8 ? number : (number >> (8 * (width - taken)));
    maker->value |= high << (8 * (room - taken));
    maker->bytes += taken;
    maker->exact = maker->exact && taken == width;
}

/* A text or bytea takes all that is left, padded with zeros. */
static void append_bytes(struct prefix_maker *maker, struct dbos_bytes bytes) {
    uint32_t room = 8 - maker->bytes;
    for (uint32_t i = 0; i < room && i < bytes.size_bytes; i++) {
        maker->value |= (uint64_t)bytes.data[i] << (8 * (room - 1 - i));
    }
    maker->bytes = 8;
    maker->exact = false;
}

/* False when nothing can be appended any more. */
static bool append_column(struct prefix_maker *maker, const struct dbos_column *column,
                          const struct dbos_datum *datum) {
    if (!column->not_null) {
        append_number(maker, datum->is_null ? 2 : 1, 1);
    }
    if (datum->is_null) { /* a bound may be NULL where no row can be */
        maker->exact = false;
        return false;
    }
    if (dbos_type_is_bytes((enum dbos_type)column->type)) {
        append_bytes(maker, datum->bytes);
        return false;
    }
    uint32_t width = (uint32_t)dbos_type_length((enum dbos_type)column->type);
    uint64_t number;
    if (column->type == DBOS_TYPE_FLOAT8) {
        number = dbos_real_key(datum->real);
    } else {
        int64_t half = width == 8 ? 0 : (int64_t)(UINT64_C(1) << (8 * width - 1));
        if (width != 8 && (datum->integer < -half || datum->integer >= half)) {
            maker->exact = false; /* a bound that the column's type can not hold */
            return false;
        }
        number = width == 8 ? (uint64_t)datum->integer ^ (UINT64_C(1) << 63)
                            : (uint64_t)(datum->integer + half);
    }
    append_number(maker, number, width);
    return maker->exact;
}

uint64_t dbos_key_prefix_row(const struct dbos_key *key, const struct dbos_row *row) {
    struct prefix_maker maker = {.exact = true};
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        uint32_t column = key->index->columns[i];
        struct dbos_datum datum = dbos_row_column(key->def, row, column);
        if (!append_column(&maker, &key->def->columns[column], &datum)) {
            break;
        }
    }
    return maker.value;
}

struct dbos_prefix dbos_key_prefix_datums(const struct dbos_key *key,
                                          const struct dbos_datum *datums, uint32_t count) {
    struct prefix_maker maker = {.exact = true};
    for (uint32_t i = 0; i < count; i++) {
        if (!append_column(&maker, &key->def->columns[key->index->columns[i]], &datums[i])) {
            break;
        }
    }
    return (struct dbos_prefix){
        .value = maker.value,
        .mask = maker.bytes == 0 ? 0 : UINT64_MAX << (8 * (8 - maker.bytes)),
        .exact = maker.exact,
    };
}

/* Appends to a text of *used bytes; what does not fit is left out. */
static void append_text(char *out, size_t out_bytes, size_t *used, const char *text) {
    size_t size_bytes = strlen(text);
    size_t room = out_bytes - 1 - *used;
    size_t taken = size_bytes < room ? size_bytes : room;
    memcpy(out + *used, text, taken);
    *used += taken;
    out[*used] = '\0';
}

void dbos_key_describe(const struct dbos_key *key, const struct dbos_row *row, char *out,
                       size_t out_bytes) {
    size_t used = 0;
    char value[128];
    DBOS_CHECK(out_bytes > 0);
    append_text(out, out_bytes, &used, "(");
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        append_text(out, out_bytes, &used, i == 0 ? "" : ", ");
        append_text(out, out_bytes, &used, key->def->columns[key->index->columns[i]].name);
    }
    append_text(out, out_bytes, &used, ")=(");
    for (uint32_t i = 0; i < key->index->column_count; i++) {
        struct dbos_datum datum = dbos_row_column(key->def, row, key->index->columns[i]);
        dbos_datum_describe(&datum, value, sizeof value);
        append_text(out, out_bytes, &used, i == 0 ? "" : ", ");
        append_text(out, out_bytes, &used, value);
    }
    append_text(out, out_bytes, &used, ")");
}
