#include <criterion/criterion.h>

#include "tests/unit/storage/storage_support.h"

TestSuite(storage_row, .timeout = 120);

static const struct test_table wide_table = {
    .id = 100,
    .name = "wide",
    .partition_column = -1,
    .columns = {{"a", DBOS_TYPE_INT8, false, 0},
                {"b", DBOS_TYPE_BOOL, false, 0},
                {"c", DBOS_TYPE_TEXT, false, 0},
                {"d", DBOS_TYPE_INT2, false, 0},
                {"e", DBOS_TYPE_BYTEA, false, 0},
                {"f", DBOS_TYPE_FLOAT8, false, 0},
                {"g", DBOS_TYPE_VARCHAR, false, 9},
                {"h", DBOS_TYPE_INT4, true, 0},
                {"i", DBOS_TYPE_TIMESTAMPTZ, false, 0}},
};
enum { WIDE_COLUMNS = 9 };

/* An allocator, an object store, a definition: what each test needs. */
struct fixture {
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    struct dbos_objects *objects;
    struct dbos_table_def *def;
};

static void set_up(struct fixture *f, const struct test_table *table) {
    dbos_alloc_init(&f->alloc, "test", 0);
    dbos_slab_init(&f->slab, &f->alloc);
    cr_assert_eq(dbos_objects_open(&f->alloc, 42, &f->objects), DBOS_OK);
    f->def = test_def(&f->alloc, table);
}

static void tear_down(struct fixture *f) {
    dbos_table_def_unref(f->def);
    cr_assert_eq(dbos_objects_count(f->objects), 0);
    dbos_objects_close(f->objects);
    dbos_slab_fini(&f->slab);
    dbos_alloc_fini(&f->alloc);
}

static enum dbos_err find_in_store(void *arg, const struct dbos_object_id *id,
                                   struct dbos_object **out, struct dbos_errinfo *info) {
    (void)info;
    *out = dbos_object_find(arg, id);
    return DBOS_OK;
}

static const uint8_t *large_bytes(void) {
    static uint8_t bytes[DBOS_COLUMN_BYTES_MAX + 1];
    memset(bytes, 'x', sizeof bytes);
    return bytes;
}

/* Random values for every column; now and then one around the size where objects begin. */
static void random_datums(struct dbos_rng *rng, const struct dbos_table_def *def,
                          const uint8_t *large, uint8_t room[][TEST_ROOM],
                          struct dbos_datum *datums) {
    for (uint32_t i = 0; i < def->column_count; i++) {
        enum dbos_type type = (enum dbos_type)def->columns[i].type;
        datums[i] = test_random_datum(rng, type, room[i]);
        if (def->columns[i].chars_max != 0) {
            datums[i].bytes.size_bytes %= def->columns[i].chars_max;
        } else if (dbos_type_is_bytes(type) && dbos_rng_below(rng, 4) == 0) {
            size_t size = DBOS_OBJECT_BYTES_MIN - 2 + dbos_rng_below(rng, 4);
            datums[i] = dbos_datum_bytes(type, large, size);
        }
        if (!def->columns[i].not_null && dbos_rng_below(rng, 5) == 0) {
            datums[i] = dbos_datum_null(type);
        }
    }
}

static void expect_columns(const struct dbos_table_def *def, const struct dbos_row *row,
                           const struct dbos_datum *datums) {
    uint32_t objects = 0;
    for (uint32_t i = 0; i < def->column_count; i++) {
        struct dbos_datum got = dbos_row_column(def, row, i);
        cr_assert_eq(got.type, def->columns[i].type);
        cr_assert_eq(test_compare(&got, &datums[i]), 0, "column %u", i);
        bool large = dbos_type_is_bytes(got.type) && !got.is_null &&
                     got.bytes.size_bytes >= DBOS_OBJECT_BYTES_MIN;
        cr_assert_eq(got.object != NULL, large);
        if (large) {
            cr_assert_eq(dbos_row_objects(row)[objects++], got.object);
        }
    }
    cr_assert_eq(row->object_count, objects);
}

Test(storage_row, what_is_made_is_read_back_and_decodes_to_the_same) {
    struct fixture f;
    struct dbos_rng rng;
    set_up(&f, &wide_table);
    dbos_rng_init(&rng, 5);
    const uint8_t *large = large_bytes();
    struct dbos_object_finder finder = {.find = find_in_store, .arg = f.objects};
    for (uint32_t round = 0; round < 3000; round++) {
        uint8_t room[WIDE_COLUMNS][TEST_ROOM];
        struct dbos_datum datums[WIDE_COLUMNS];
        struct dbos_row *row, *again;
        struct dbos_errinfo info = {0};
        random_datums(&rng, f.def, large, room, datums);
        cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &row, &info), DBOS_OK);
        expect_columns(f.def, row, datums);
        cr_assert_eq(
            dbos_row_decode(&f.slab, f.def, &finder, row->payload, row->size_bytes, &again, &info),
            DBOS_OK, "%s", info.message);
        expect_columns(f.def, again, datums);
        row->block = again->block = round;
        cr_assert_eq(dbos_row_hash(100, row), dbos_row_hash(100, again));
        cr_assert_neq(dbos_row_hash(101, row), dbos_row_hash(100, again));
        dbos_row_give(&f.slab, f.def, row);
        dbos_row_give(&f.slab, f.def, again);
    }
    tear_down(&f);
}

Test(storage_row, a_large_value_exists_once_whoever_holds_it) {
    struct fixture f;
    struct dbos_row *first, *second;
    struct dbos_datum datums[WIDE_COLUMNS];
    set_up(&f, &wide_table);
    for (uint32_t i = 0; i < WIDE_COLUMNS; i++) {
        datums[i] = dbos_datum_null(f.def->columns[i].type);
    }
    datums[7] = dbos_datum_int(DBOS_TYPE_INT4, 1);
    datums[2] = dbos_datum_bytes(DBOS_TYPE_TEXT, large_bytes(), 5000);
    datums[4] = dbos_datum_bytes(DBOS_TYPE_BYTEA, large_bytes(), 5000);
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &first, NULL), DBOS_OK);
    datums[2] = dbos_row_column(f.def, first, 2); /* as an UPDATE that keeps the value does */
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &second, NULL), DBOS_OK);
    cr_expect_eq(dbos_objects_count(f.objects), 1);
    cr_expect_eq(atomic_load(&dbos_row_objects(first)[0]->refs), 4);
    cr_expect(second->size_bytes < 200);
    struct dbos_object_id id;
    struct dbos_datum bare = dbos_payload_column(f.def, second->payload, 4, &id);
    cr_expect_eq(id.size_bytes, 5000);
    cr_expect_null(bare.bytes.data);
    dbos_row_give(&f.slab, f.def, first);
    dbos_row_give(&f.slab, f.def, second);
    tear_down(&f);
}

static const struct test_table limits_table = {
    .id = 100,
    .name = "limits",
    .partition_column = -1,
    .columns = {{"v", DBOS_TYPE_VARCHAR, false, 3},
                {"x", DBOS_TYPE_BYTEA, false, 0},
                {"y", DBOS_TYPE_BYTEA, false, 0},
                {"z", DBOS_TYPE_BYTEA, false, 0},
                {"n", DBOS_TYPE_BOOL, true, 0}},
};

Test(storage_row, each_limit_is_an_error_with_its_text_and_leaves_nothing) {
    struct fixture f;
    set_up(&f, &limits_table);
    const uint8_t *large = large_bytes();
    const size_t max = DBOS_COLUMN_BYTES_MAX;
    const struct {
        const char *v;
        size_t x, y, z;
        bool null;
        enum dbos_err err;
        const char *message, *column;
    } cases[] = {
        {"abc", max, max - 4, 0, false, DBOS_OK, "", ""},
        {"abc", max, max - 3, 0, false, DBOS_ERR_LIMIT,
         "row is 2097153 bytes: the limit is 2097152", ""},
        {"", max, max - 1, 1, false, DBOS_ERR_LIMIT, "row is 2097153 bytes: the limit is 2097152",
         ""},
        {"abc", 1, 1, max + 1, false, DBOS_ERR_LIMIT,
         "column \"z\" is 1048577 bytes: the limit is 1048576", "z"},
        {"abcd", 1, 1, 1, false, DBOS_ERR_TOO_LONG, "value too long for type character varying(3)",
         ""},
        {"\xc3\xa4\xc3\xa4\xc3\xa4", 1, 1, 1, false, DBOS_OK, "", ""},
        {"\xc3\xa4\xc3\xa4\xc3\xa4x", 1, 1, 1, false, DBOS_ERR_TOO_LONG,
         "value too long for type character varying(3)", ""},
        {"", 1, 1, 1, true, DBOS_ERR_NOT_NULL,
         "null value in column \"n\" of relation \"limits\" violates not-null constraint", "n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_row *row;
        struct dbos_errinfo info = {0};
        struct dbos_datum datums[] = {
            dbos_datum_bytes(DBOS_TYPE_TEXT, cases[i].v, strlen(cases[i].v)),
            dbos_datum_bytes(DBOS_TYPE_BYTEA, large, cases[i].x),
            dbos_datum_bytes(DBOS_TYPE_BYTEA, large, cases[i].y),
            dbos_datum_bytes(DBOS_TYPE_BYTEA, large, cases[i].z),
            dbos_datum_int(DBOS_TYPE_BOOL, 1),
        };
        datums[4].is_null = cases[i].null;
        cr_expect_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &row, &info), cases[i].err,
                     "case %zu", i);
        cr_expect_str_eq(info.message, cases[i].message);
        cr_expect_str_eq(info.column, cases[i].column);
        cr_expect_eq(row == NULL, cases[i].err != DBOS_OK);
        cr_expect_eq(info.table[0] != '\0', cases[i].err != DBOS_OK && i != 4 && i != 6);
        dbos_row_give(&f.slab, f.def, row);
    }
    tear_down(&f);
}

/* Whatever the check accepts must be readable to the last byte, and be in the one stored form. */
static uint64_t read_all(struct fixture *f, const uint8_t *payload, size_t size) {
    struct dbos_datum datums[WIDE_COLUMNS];
    bool has_objects = false;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < f->def->column_count; i++) {
        struct dbos_object_id id;
        datums[i] = dbos_payload_column(f->def, payload, i, &id);
        has_objects = has_objects || id.size_bytes != 0;
        if (!datums[i].is_null && dbos_type_is_bytes(datums[i].type) && id.size_bytes == 0 &&
            datums[i].bytes.size_bytes != 0) {
            sum += dbos_hash64(0, datums[i].bytes.data, datums[i].bytes.size_bytes);
        }
    }
    struct dbos_row *row;
    if (has_objects || dbos_row_make(&f->slab, f->objects, f->def, datums, &row, NULL) != DBOS_OK) {
        return sum; /* a varchar may have become too long: that is not the payload's business */
    }
    cr_assert_eq(row->size_bytes, size);
    cr_assert_eq(memcmp(row->payload, payload, size), 0);
    dbos_row_give(&f->slab, f->def, row);
    return sum;
}

Test(storage_row, no_damaged_payload_is_read_past_its_end) {
    struct fixture f;
    struct dbos_rng rng;
    set_up(&f, &wide_table);
    dbos_rng_init(&rng, 6);
    const uint8_t *large = large_bytes();
    uint32_t accepted = 0, refused = 0;
    uint64_t sum = 0; /* of all bytes read: nothing is optimised away */
    for (uint32_t round = 0; round < 20000; round++) {
        uint8_t room[WIDE_COLUMNS][TEST_ROOM];
        struct dbos_datum datums[WIDE_COLUMNS];
        struct dbos_row *row;
        random_datums(&rng, f.def, large, room, datums);
        cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &row, NULL), DBOS_OK);
        size_t size = row->size_bytes;
        if (dbos_rng_below(&rng, 2) == 0) {
            size = dbos_rng_below(&rng, size + 1); /* cut */
        }
        uint8_t *payload = dbos_take(&f.alloc, size); /* of exactly this size, for ASan */
        memcpy(payload, row->payload, size);
        uint64_t flips = dbos_rng_below(&rng, 4);
        for (uint64_t i = 0; i < flips && size != 0; i++) {
            uint64_t within = dbos_rng_below(&rng, 2) == 0 ? size : (size < 48 ? size : 48);
            payload[dbos_rng_below(&rng, within)] ^= (uint8_t)(1u << dbos_rng_below(&rng, 8));
        }
        struct dbos_errinfo info = {0};
        if (dbos_row_payload_check(f.def, payload, size, &info) == DBOS_OK) {
            accepted++;
            sum += read_all(&f, payload, size);
        } else {
            refused++;
            cr_assert_eq(info.code, DBOS_ERR_CORRUPT);
        }
        dbos_give(&f.alloc, payload);
        dbos_row_give(&f.slab, f.def, row);
    }
    cr_expect(accepted > 1000 && refused > 1000, "%u accepted, %u refused", accepted, refused);
    cr_expect_neq(sum, 0);
    tear_down(&f);
}

static enum dbos_err find_nothing(void *arg, const struct dbos_object_id *id,
                                  struct dbos_object **out, struct dbos_errinfo *info) {
    (void)arg;
    (void)id;
    (void)info;
    *out = NULL;
    return DBOS_OK;
}

Test(storage_row, a_missing_large_value_is_corruption_that_names_the_column) {
    struct fixture f;
    struct dbos_row *row, *again;
    struct dbos_errinfo info = {0};
    set_up(&f, &limits_table);
    struct dbos_datum datums[] = {
        dbos_datum_null(DBOS_TYPE_VARCHAR),
        dbos_datum_null(DBOS_TYPE_BYTEA),
        dbos_datum_bytes(DBOS_TYPE_BYTEA, large_bytes(), 4096),
        dbos_datum_null(DBOS_TYPE_BYTEA),
        dbos_datum_int(DBOS_TYPE_BOOL, 0),
    };
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &row, NULL), DBOS_OK);
    struct dbos_object_finder finder = {.find = find_nothing};
    cr_expect_eq(
        dbos_row_decode(&f.slab, f.def, &finder, row->payload, row->size_bytes, &again, &info),
        DBOS_ERR_CORRUPT);
    cr_expect_null(again);
    cr_expect_str_eq(info.column, "y");
    dbos_row_give(&f.slab, f.def, row);
    tear_down(&f);
}

Test(storage_row, every_failed_allocation_leaves_nothing_behind) {
    struct fixture f;
    set_up(&f, &wide_table);
    struct dbos_datum datums[WIDE_COLUMNS];
    for (uint32_t i = 0; i < WIDE_COLUMNS; i++) {
        datums[i] = dbos_datum_null(f.def->columns[i].type);
    }
    datums[2] = dbos_datum_bytes(DBOS_TYPE_TEXT, large_bytes(), 4096);
    datums[4] = dbos_datum_bytes(DBOS_TYPE_BYTEA, large_bytes(), 4097);
    datums[7] = dbos_datum_int(DBOS_TYPE_INT4, 1);
    struct dbos_object_finder finder = {.find = find_in_store, .arg = f.objects};
    uint32_t failures = 0;
    bool done = false;
    while (!done) {
        struct dbos_row *row, *again = NULL;
        struct dbos_errinfo info = {0};
        atomic_store(&f.alloc.fail_countdown, failures + 1);
        enum dbos_err err = dbos_row_make(&f.slab, f.objects, f.def, datums, &row, &info);
        if (err == DBOS_OK) {
            err = dbos_row_decode(&f.slab, f.def, &finder, row->payload, row->size_bytes, &again,
                                  &info);
        }
        done = atomic_load(&f.alloc.fail_countdown) > 0;
        cr_assert_eq(err, done ? DBOS_OK : DBOS_ERR_NOMEM);
        dbos_row_give(&f.slab, f.def, row);
        dbos_row_give(&f.slab, f.def, again);
        cr_assert_eq(dbos_objects_count(f.objects), 0);
        failures++;
        cr_assert_lt(failures, 100);
    }
    atomic_store(&f.alloc.fail_countdown, 0);
    cr_expect_geq(failures, 4);
    tear_down(&f);
}

Test(storage_row, the_payload_has_exactly_the_bytes_of_the_format_page) {
    static const struct test_table table = {
        .id = 100,
        .name = "t",
        .partition_column = -1,
        .columns = {{"a", DBOS_TYPE_INT4, false, 0},
                    {"b", DBOS_TYPE_TEXT, false, 0},
                    {"c", DBOS_TYPE_BOOL, false, 0},
                    {"d", DBOS_TYPE_TEXT, false, 0},
                    {"e", DBOS_TYPE_INT2, false, 0}},
    };
    static const uint8_t expected[] = {
        0x08,                   /* d is NULL */
        0xfe, 0xff, 0xff, 0xff, /* a = -2 */
        0x01,                   /* c = true */
        0x34, 0x12,             /* e = 0x1234 */
        0x02, 0x00, 0x00, 0x00, /* b ends at 2 */
        0x02, 0x00, 0x00, 0x00, /* d ends there too */
        'h',  'i',
    };
    struct fixture f;
    struct dbos_row *row;
    set_up(&f, &table);
    struct dbos_datum datums[] = {
        dbos_datum_int(DBOS_TYPE_INT4, -2),     dbos_datum_bytes(DBOS_TYPE_TEXT, "hi", 2),
        dbos_datum_int(DBOS_TYPE_BOOL, 1),      dbos_datum_null(DBOS_TYPE_TEXT),
        dbos_datum_int(DBOS_TYPE_INT2, 0x1234),
    };
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &row, NULL), DBOS_OK);
    cr_assert_eq(row->size_bytes, sizeof expected);
    cr_expect_arr_eq(row->payload, expected, sizeof expected);
    row->block = 1025;
    cr_expect_eq(dbos_row_hash(100, row), UINT64_C(0x448602f715eb62c1), "frozen: %llx",
                 (unsigned long long)dbos_row_hash(100, row));
    dbos_row_give(&f.slab, f.def, row);
    tear_down(&f);
}
