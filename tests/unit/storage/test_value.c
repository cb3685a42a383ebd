#include <criterion/criterion.h>

#include "storage/object.h"
#include "storage/value_text.h"
#include "tests/unit/storage/storage_support.h"

TestSuite(storage_value, .timeout = 60);

static const enum dbos_type column_types[] = {
    DBOS_TYPE_BOOL, DBOS_TYPE_INT2,    DBOS_TYPE_INT4,  DBOS_TYPE_INT8,        DBOS_TYPE_FLOAT8,
    DBOS_TYPE_TEXT, DBOS_TYPE_VARCHAR, DBOS_TYPE_BYTEA, DBOS_TYPE_TIMESTAMPTZ,
};
enum { TYPES = sizeof column_types / sizeof column_types[0] };

static int sign(int64_t v) { return (v > 0) - (v < 0); }

static int compare_keys(const struct dbos_buf *a, const struct dbos_buf *b) {
    size_t common = a->size_bytes < b->size_bytes ? a->size_bytes : b->size_bytes;
    int order = memcmp(a->data, b->data, common);
    if (order == 0 && a->size_bytes != b->size_bytes) {
        return 99; /* one is a prefix of the other: must not be */
    }
    return sign(order);
}

Test(storage_value, order_of_key_bytes_is_the_order_of_values) {
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    struct dbos_buf a, b;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_rng_init(&rng, 1);
    dbos_buf_init(&a, &alloc);
    dbos_buf_init(&b, &alloc);
    for (uint32_t round = 0; round < 40000; round++) {
        enum dbos_type type = column_types[round % TYPES];
        uint8_t room_a[TEST_ROOM], room_b[TEST_ROOM];
        struct dbos_datum x = test_random_datum(&rng, type, room_a);
        struct dbos_datum y = test_random_datum(&rng, type, room_b);
        x.is_null = dbos_rng_below(&rng, 10) == 0;
        y.is_null = dbos_rng_below(&rng, 10) == 0;
        dbos_buf_reset(&a);
        dbos_buf_reset(&b);
        dbos_datum_put_key(&a, &x);
        dbos_datum_put_key(&b, &y);
        cr_assert_eq(compare_keys(&a, &b), sign(test_compare(&x, &y)), "round %u type %s", round,
                     dbos_type_name(type));
    }
    dbos_buf_fini(&a);
    dbos_buf_fini(&b);
    dbos_alloc_fini(&alloc);
}

Test(storage_value, integers_of_different_widths_have_the_same_key) {
    struct dbos_alloc alloc;
    struct dbos_buf a, b;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&a, &alloc);
    dbos_buf_init(&b, &alloc);
    struct dbos_datum narrow = dbos_datum_int(DBOS_TYPE_INT2, -7);
    struct dbos_datum wide = dbos_datum_int(DBOS_TYPE_INT8, -7);
    dbos_datum_put_key(&a, &narrow);
    dbos_datum_put_key(&b, &wide);
    cr_assert_eq(compare_keys(&a, &b), 0);
    cr_assert_eq(dbos_datum_compare(&narrow, &wide), 0);
    dbos_buf_fini(&a);
    dbos_buf_fini(&b);
    dbos_alloc_fini(&alloc);
}

static bool same_stored(const struct dbos_datum *a, const struct dbos_datum *b) {
    if (a->type != b->type || a->is_null != b->is_null) {
        return false;
    }
    return a->is_null || dbos_datum_compare(a, b) == 0;
}

Test(storage_value, stored_form_round_trips_and_every_truncation_is_refused) {
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_rng_init(&rng, 2);
    dbos_buf_init(&buf, &alloc);
    for (uint32_t round = 0; round < 5000; round++) {
        uint8_t room[TEST_ROOM];
        struct dbos_datum datum = test_random_datum(&rng, column_types[round % TYPES], room);
        datum.is_null = dbos_rng_below(&rng, 10) == 0;
        dbos_buf_reset(&buf);
        dbos_datum_put(&buf, &datum, true);
        for (size_t size = 0; size <= buf.size_bytes; size++) {
            struct dbos_reader reader = dbos_reader_of(buf.data, size);
            struct dbos_object_id reference;
            struct dbos_datum back;
            dbos_datum_get(&reader, &back, &reference);
            cr_assert_eq(reader.failed, size < buf.size_bytes);
            cr_assert_eq(reference.size_bytes, 0);
            cr_assert(size < buf.size_bytes || same_stored(&datum, &back));
        }
    }
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

Test(storage_value, a_large_value_is_stored_by_reference_or_by_bytes) {
    struct dbos_alloc alloc;
    struct dbos_objects *objects;
    struct dbos_object *object;
    static uint8_t bytes[DBOS_OBJECT_BYTES_MIN];
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_eq(dbos_objects_open(&alloc, 7, &objects), DBOS_OK);
    cr_assert_eq(dbos_object_make(objects, bytes, sizeof bytes, &object), DBOS_OK);
    struct dbos_datum datum = dbos_datum_bytes(DBOS_TYPE_BYTEA, object->data, sizeof bytes);
    datum.object = object;
    struct dbos_buf buf;
    dbos_buf_init(&buf, &alloc);
    for (int by_reference = 0; by_reference <= 1; by_reference++) {
        dbos_buf_reset(&buf);
        dbos_datum_put(&buf, &datum, by_reference != 0);
        struct dbos_reader reader = dbos_reader_of(buf.data, buf.size_bytes);
        struct dbos_object_id reference;
        struct dbos_datum back;
        dbos_datum_get(&reader, &back, &reference);
        cr_assert(!reader.failed);
        cr_assert_eq(back.bytes.size_bytes, sizeof bytes);
        cr_assert_eq(back.bytes.data == NULL, by_reference != 0);
        cr_assert_eq(reference.hash.low, by_reference != 0 ? object->id.hash.low : 0);
    }
    struct dbos_reader reader = dbos_reader_of(buf.data, buf.size_bytes);
    struct dbos_datum back;
    dbos_datum_get(&reader, &back, NULL);
    cr_assert(reader.failed, "a reference where none is expected");
    dbos_buf_fini(&buf);
    dbos_object_unref(object);
    dbos_objects_close(objects);
    dbos_alloc_fini(&alloc);
}

Test(storage_value, random_bytes_never_crash_the_reader) {
    struct dbos_rng rng;
    dbos_rng_init(&rng, 3);
    for (uint32_t round = 0; round < 100000; round++) {
        uint8_t bytes[24];
        size_t size = dbos_rng_below(&rng, sizeof bytes + 1);
        for (size_t i = 0; i < size; i++) {
            bytes[i] = (uint8_t)(i < 2 ? dbos_rng_below(&rng, 12) : dbos_rng_next(&rng));
        }
        struct dbos_reader reader = dbos_reader_of(bytes, size);
        struct dbos_object_id reference;
        struct dbos_datum datum;
        dbos_datum_get(&reader, &datum, &reference);
        cr_assert(reader.failed || datum.is_null || !dbos_type_is_bytes(datum.type) ||
                  reference.size_bytes != 0 || datum.bytes.size_bytes <= size);
    }
}

Test(storage_value, types_have_the_oids_of_postgresql) {
    static const struct {
        enum dbos_type type;
        uint32_t oid;
        const char *name;
    } expected[] = {
        {DBOS_TYPE_BOOL, 16, "boolean"},
        {DBOS_TYPE_INT2, 21, "smallint"},
        {DBOS_TYPE_INT4, 23, "integer"},
        {DBOS_TYPE_INT8, 20, "bigint"},
        {DBOS_TYPE_FLOAT8, 701, "double precision"},
        {DBOS_TYPE_TEXT, 25, "text"},
        {DBOS_TYPE_VARCHAR, 1043, "character varying"},
        {DBOS_TYPE_BYTEA, 17, "bytea"},
        {DBOS_TYPE_TIMESTAMPTZ, 1184, "timestamp with time zone"},
    };
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        cr_expect_eq(dbos_type_oid(expected[i].type), expected[i].oid);
        cr_expect_eq(dbos_type_of_oid(expected[i].oid), expected[i].type);
        cr_expect_str_eq(dbos_type_name(expected[i].type), expected[i].name);
    }
    cr_expect_eq(dbos_type_of_oid(0), DBOS_TYPE_UNKNOWN);
    cr_expect_eq(dbos_type_of_oid(705), DBOS_TYPE_UNKNOWN);
    cr_expect_eq(dbos_type_of_oid(1700), DBOS_TYPE_UNKNOWN);
}

Test(storage_value, values_are_described_as_in_postgresql) {
    static const uint8_t bytes[] = {0x00, 0xab};
    const struct {
        struct dbos_datum datum;
        const char *text;
    } cases[] = {
        {dbos_datum_int(DBOS_TYPE_BOOL, 1), "t"},
        {dbos_datum_int(DBOS_TYPE_INT8, INT64_MIN), "-9223372036854775808"},
        {dbos_datum_real(0.1), "0.1"},
        {dbos_datum_real(-1e300), "-1e+300"},
        {dbos_datum_bytes(DBOS_TYPE_BYTEA, bytes, 2), "\\x00ab"},
        {dbos_datum_bytes(DBOS_TYPE_TEXT, "x y", 3), "x y"},
        {dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, 0), "1970-01-01 00:00:00+00"},
        {dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, 1798761599500000), "2026-12-31 23:59:59.5+00"},
        {dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, -1), "1969-12-31 23:59:59.999999+00"},
        {dbos_datum_null(DBOS_TYPE_INT4), "null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[64];
        dbos_datum_describe(&cases[i].datum, text, sizeof text);
        cr_expect_str_eq(text, cases[i].text);
    }
    struct dbos_datum umlauts = dbos_datum_bytes(DBOS_TYPE_TEXT, "aaaaaa\xc3\xa4", 8);
    char narrow[8];
    dbos_datum_describe(&umlauts, narrow, sizeof narrow);
    cr_expect_str_eq(narrow, "aaaaaa", "cut before the character that does not fit");
}
