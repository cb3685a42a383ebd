#include "tests/unit/storage/storage_support.h"

#include <math.h>

enum dbos_err test_make_def(struct dbos_alloc *alloc, const struct test_table *table,
                            struct dbos_table_def **out, struct dbos_errinfo *info) {
    struct dbos_column columns[12] = {0};
    struct dbos_index_def indexes[6] = {0};
    struct dbos_table_parts parts = {
        .id = table->id,
        .schema_version = 1,
        .schema = "public",
        .name = table->name,
        .partition_column = table->partition_column,
        .columns = columns,
        .indexes = indexes,
    };
    for (uint32_t i = 0; i < 12 && table->columns[i].name != NULL; i++) {
        const struct test_column *from = &table->columns[i];
        columns[i].id = i + 1;
        (void)snprintf(columns[i].name, sizeof columns[i].name, "%s", from->name);
        columns[i].type = from->type;
        columns[i].not_null = from->not_null;
        columns[i].chars_max = from->chars_max;
        parts.column_count++;
    }
    for (uint32_t i = 0; i < 6 && table->indexes[i].name != NULL; i++) {
        const struct test_index *from = &table->indexes[i];
        indexes[i] = (struct dbos_index_def){
            .id = table->id * 10 + i,
            .kind = from->kind,
            .unique = from->unique,
            .primary = from->primary,
            .column_count = from->column_count,
        };
        (void)snprintf(indexes[i].name, sizeof indexes[i].name, "%s", from->name);
        memcpy(indexes[i].columns, from->columns, sizeof from->columns);
        parts.index_count++;
    }
    return dbos_table_def_make(alloc, &parts, out, info);
}

struct dbos_table_def *test_def(struct dbos_alloc *alloc, const struct test_table *table) {
    struct dbos_table_def *def;
    struct dbos_errinfo info = {0};
    enum dbos_err err = test_make_def(alloc, table, &def, &info);
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "test definition: %s\n", info.message);
    }
    DBOS_CHECK(err == DBOS_OK);
    return def;
}

static double random_real(struct dbos_rng *rng) {
    static const double special[] = {0.0, -0.0, 1.5, -1.5, 1e308, -1e308, 5e-324};
    uint64_t choice = dbos_rng_below(rng, 10);
    if (choice < 7) {
        return special[choice];
    }
    if (choice == 7) {
        return (double)NAN;
    }
    return choice == 8 ? (double)INFINITY : -(double)INFINITY;
}

static int64_t random_integer(struct dbos_rng *rng, enum dbos_type type) {
    static const int64_t high[] = {
        [DBOS_TYPE_INT2] = INT16_MAX, [DBOS_TYPE_INT4] = INT32_MAX, [DBOS_TYPE_INT8] = INT64_MAX};
    int64_t max = type == DBOS_TYPE_TIMESTAMPTZ ? INT64_MAX : high[type];
    switch (dbos_rng_below(rng, 8)) {
    case 0:
        return max;
    case 1:
        return -max - 1;
    default:
        return (int64_t)dbos_rng_below(rng, 40) - 20;
    }
}

struct dbos_datum test_random_datum(struct dbos_rng *rng, enum dbos_type type, uint8_t *room) {
    switch (type) {
    case DBOS_TYPE_BOOL:
        return dbos_datum_int(type, (int64_t)dbos_rng_below(rng, 2));
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
    case DBOS_TYPE_TIMESTAMPTZ:
        return dbos_datum_int(type, random_integer(rng, type));
    case DBOS_TYPE_FLOAT8:
        return dbos_datum_real(random_real(rng));
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_BYTEA: {
        /* Few letters and zeros, often with a common beginning of eight bytes. */
        size_t size_bytes = 0;
        if (dbos_rng_below(rng, 2) == 0) {
            memcpy(room, "prefixes", 8);
            size_bytes = 8;
        }
        size_t more = dbos_rng_below(rng, 4);
        for (size_t i = 0; i < more; i++) {
            room[size_bytes++] = (uint8_t) "\0\1a\xff"[dbos_rng_below(rng, 4)];
        }
        return dbos_datum_bytes(type, room, size_bytes);
    }
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_VOID:
        break;
    }
    return dbos_datum_null(type);
}

int test_compare(const struct dbos_datum *a, const struct dbos_datum *b) {
    if (a->is_null || b->is_null) {
        return (int)a->is_null - (int)b->is_null;
    }
    return dbos_datum_compare(a, b);
}
