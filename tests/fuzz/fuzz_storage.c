/* The decoders of storage/: row payloads, table and procedure definitions, stored datums.
 *
 * The first byte says which; the rest is the input. What is accepted is read to the last byte, and
 * must encode again to the same bytes where a value has one stored form. */
#include "base/alloc.h"
#include "base/err.h"
#include "base/hash.h"
#include "storage/object.h"
#include "storage/row.h"
#include "storage/schema.h"
#include "tests/fuzz/fuzz.h"

static const struct dbos_column columns[] = {
    {.id = 1, .name = "a", .type = DBOS_TYPE_INT8, .not_null = true},
    {.id = 2, .name = "b", .type = DBOS_TYPE_TEXT},
    {.id = 3, .name = "c", .type = DBOS_TYPE_BOOL},
    {.id = 4, .name = "d", .type = DBOS_TYPE_BYTEA},
    {.id = 5, .name = "e", .type = DBOS_TYPE_FLOAT8},
    {.id = 6, .name = "f", .type = DBOS_TYPE_VARCHAR, .chars_max = 8},
};

static uint64_t read_datum(const struct dbos_datum *datum) {
    if (datum->is_null) {
        return 1;
    }
    if (dbos_type_is_bytes((enum dbos_type)datum->type) && datum->bytes.data != NULL) {
        return dbos_hash64(0, datum->bytes.data, datum->bytes.size_bytes);
    }
    return 2;
}

static uint64_t read_row(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_table_parts parts = {
        .id = 100,
        .schema = "public",
        .name = "t",
        .partition_column = -1,
        .column_count = sizeof columns / sizeof columns[0],
        .columns = columns,
    };
    struct dbos_table_def *def;
    uint64_t sum = 0;
    DBOS_CHECK(dbos_table_def_make(alloc, &parts, &def, NULL) == DBOS_OK);
    if (dbos_row_payload_check(def, data, size_bytes, NULL) == DBOS_OK) {
        for (uint32_t i = 0; i < def->column_count; i++) {
            struct dbos_object_id reference;
            struct dbos_datum datum = dbos_payload_column(def, data, i, &reference);
            sum += read_datum(&datum) + reference.size_bytes;
        }
    }
    dbos_table_def_unref(def);
    return sum;
}

static void read_table(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_table_def *def;
    if (dbos_table_def_decode(alloc, data, size_bytes, &def, NULL) == DBOS_OK) {
        struct dbos_buf buf;
        struct dbos_table_def *again;
        dbos_buf_init(&buf, alloc);
        dbos_table_def_encode(def, &buf);
        DBOS_CHECK(!buf.failed);
        DBOS_CHECK(dbos_table_def_decode(alloc, buf.data, buf.size_bytes, &again, NULL) == DBOS_OK);
        dbos_table_def_unref(again);
        dbos_buf_fini(&buf);
        dbos_table_def_unref(def);
    }
}

static void read_procedure(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_procedure_info *info;
    if (dbos_procedure_info_decode(alloc, data, size_bytes, &info, NULL) == DBOS_OK) {
        struct dbos_buf buf;
        struct dbos_procedure_info *again;
        dbos_buf_init(&buf, alloc);
        dbos_procedure_info_encode(info, &buf);
        DBOS_CHECK(!buf.failed);
        DBOS_CHECK(dbos_procedure_info_decode(alloc, buf.data, buf.size_bytes, &again, NULL) ==
                   DBOS_OK);
        dbos_procedure_info_unref(again);
        dbos_buf_fini(&buf);
        dbos_procedure_info_unref(info);
    }
}

static uint64_t read_datums(const uint8_t *data, size_t size_bytes) {
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    uint64_t sum = 0;
    while (!reader.failed && dbos_reader_left(&reader) > 0) {
        struct dbos_datum datum;
        struct dbos_object_id reference;
        dbos_datum_get(&reader, &datum, &reference);
        sum += read_datum(&datum) + reference.size_bytes;
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    struct dbos_alloc alloc;
    uint64_t sum = 0;
    if (size_bytes == 0) {
        return 0;
    }
    dbos_alloc_init(&alloc, "fuzz", 0);
    switch (data[0] % 4) {
    case 0:
        sum = read_row(&alloc, data + 1, size_bytes - 1);
        break;
    case 1:
        read_table(&alloc, data + 1, size_bytes - 1);
        break;
    case 2:
        read_procedure(&alloc, data + 1, size_bytes - 1);
        break;
    default:
        sum = read_datums(data + 1, size_bytes - 1);
        break;
    }
    /* Used, so that the reads are not optimised away. */
    DBOS_CHECK(sum == 0 || sum != 0);
    dbos_alloc_fini(&alloc);
    return 0;
}
