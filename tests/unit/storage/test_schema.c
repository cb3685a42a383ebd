#include <criterion/criterion.h>

#include "tests/unit/storage/storage_support.h"

TestSuite(storage_schema, .timeout = 60);

static const struct test_table accounts = {
    .id = 100,
    .name = "accounts",
    .partition_column = 0,
    .columns = {{"owner", DBOS_TYPE_TEXT, false, 0},
                {"number", DBOS_TYPE_INT4, false, 0},
                {"label", DBOS_TYPE_VARCHAR, false, 20},
                {"amount", DBOS_TYPE_INT8, true, 0}},
    .indexes = {{"accounts_pkey", DBOS_INDEX_ORDERED, true, true, 2, {0, 1}},
                {"accounts_label", DBOS_INDEX_HASH, false, false, 1, {2}}},
};

Test(storage_schema, a_definition_knows_its_columns_and_its_layout) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_table_def *def = test_def(&alloc, &accounts);
    cr_expect_eq(dbos_table_def_column(def, "label"), 2);
    cr_expect_eq(dbos_table_def_column(def, "Label"), -1);
    cr_expect(def->columns[0].not_null, "a primary key column is NOT NULL");
    cr_expect(def->columns[1].not_null);
    cr_expect(!def->columns[2].not_null);
    cr_expect_eq(def->null_bytes, 1);
    cr_expect_eq(def->fixed_bytes, 12);
    cr_expect_eq(def->variable_count, 2);
    cr_expect_eq(def->offsets[3], 4);
    cr_expect_eq(def->offsets[2], 1);
    cr_expect_eq(dbos_table_def_ref(def), def);
    dbos_table_def_unref(def);
    dbos_table_def_unref(def);
    dbos_alloc_fini(&alloc);
}

Test(storage_schema, what_is_not_a_table_is_refused_with_its_code) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct test_table same_name = accounts;
    same_name.columns[2].name = "owner";
    struct test_table key_without_partition = accounts;
    key_without_partition.indexes[0].column_count = 1;
    key_without_partition.indexes[0].columns[0] = 1;
    struct test_table no_such_column = accounts;
    no_such_column.indexes[1].columns[0] = 4;
    struct test_table late_key = accounts;
    late_key.indexes[1].primary = late_key.indexes[1].unique = true;
    struct test_table no_partition_column = accounts;
    no_partition_column.partition_column = 4;
    struct test_table no_columns = {.id = 1, .name = "none", .partition_column = -1};
    const struct {
        const struct test_table *table;
        enum dbos_err err;
        const char *message;
    } cases[] = {
        {&same_name, DBOS_ERR_DUPLICATE_COLUMN, "column \"owner\" specified more than once"},
        {&key_without_partition, DBOS_ERR_INVALID_TABLE_DEFINITION,
         "unique constraint on partitioned table must include the partitioning column"},
        {&no_such_column, DBOS_ERR_INVALID_TABLE_DEFINITION, NULL},
        {&late_key, DBOS_ERR_INVALID_TABLE_DEFINITION, NULL},
        {&no_partition_column, DBOS_ERR_INVALID_TABLE_DEFINITION, NULL},
        {&no_columns, DBOS_ERR_INVALID_TABLE_DEFINITION, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_table_def *def;
        struct dbos_errinfo info = {0};
        cr_expect_eq(test_make_def(&alloc, cases[i].table, &def, &info), cases[i].err, "case %zu",
                     i);
        cr_expect_null(def);
        if (cases[i].message != NULL) {
            cr_expect_str_eq(info.message, cases[i].message);
        }
    }
    static struct dbos_column many[DBOS_COLUMNS_MAX + 1];
    struct dbos_table_parts parts = {
        .id = 1, .schema = "public", .name = "many", .partition_column = -1, .columns = many};
    for (uint32_t i = 0; i <= DBOS_COLUMNS_MAX; i++) {
        many[i].type = DBOS_TYPE_INT4;
        (void)snprintf(many[i].name, sizeof many[i].name, "c%u", i);
    }
    struct dbos_table_def *def;
    parts.column_count = DBOS_COLUMNS_MAX + 1;
    cr_expect_eq(dbos_table_def_make(&alloc, &parts, &def, NULL), DBOS_ERR_TOO_MANY_COLUMNS);
    parts.column_count = DBOS_COLUMNS_MAX;
    cr_expect_eq(dbos_table_def_make(&alloc, &parts, &def, NULL), DBOS_OK);
    dbos_table_def_unref(def);
    dbos_alloc_fini(&alloc);
}

/* accounts with a DEFAULT. */
static struct dbos_table_def *with_default(struct dbos_alloc *alloc) {
    struct dbos_table_def *plain = test_def(alloc, &accounts);
    struct dbos_column columns[4];
    memcpy(columns, plain->columns, sizeof columns);
    char text[] = "1 + 2";
    columns[3].default_sql = text;
    struct dbos_table_parts parts = {
        .id = plain->id,
        .schema_version = 3,
        .schema = plain->schema,
        .name = plain->name,
        .partition_column = plain->partition_column,
        .column_count = plain->column_count,
        .index_count = plain->index_count,
        .columns = columns,
        .indexes = plain->indexes,
    };
    struct dbos_table_def *def;
    cr_assert_eq(dbos_table_def_make(alloc, &parts, &def, NULL), DBOS_OK);
    memset(text, 'x', sizeof text - 1); /* copied: this must not show */
    dbos_table_def_unref(plain);
    return def;
}

static struct dbos_procedure_info *a_procedure(struct dbos_alloc *alloc) {
    struct dbos_argument arguments[] = {{"id", DBOS_TYPE_INT8}, {"", DBOS_TYPE_BYTEA}};
    char symbol[] = "transfer", route[] = "accounts.owner=$1";
    struct dbos_procedure_info parts = {
        .id = 100,
        .version = 2,
        .name = "transfer",
        .is_function = true,
        .returns = DBOS_TYPE_INT4,
        .language = DBOS_LANGUAGE_C,
        .argument_count = 2,
        .arguments = arguments,
        .symbol = symbol,
        .module = {.high = 1, .low = 2},
        .module_bytes = 12345,
        .route = route,
    };
    struct dbos_procedure_info *procedure;
    cr_assert_eq(dbos_procedure_info_make(alloc, &parts, &procedure), DBOS_OK);
    return procedure;
}

static void expect_same_bytes(const struct dbos_buf *a, const struct dbos_buf *b) {
    cr_assert_eq(a->size_bytes, b->size_bytes);
    cr_assert_eq(memcmp(a->data, b->data, a->size_bytes), 0);
}

Test(storage_schema, definitions_round_trip_through_their_stored_form) {
    struct dbos_alloc alloc;
    struct dbos_buf first, second;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&first, &alloc);
    dbos_buf_init(&second, &alloc);
    struct dbos_table_def *def = with_default(&alloc), *def_back;
    dbos_table_def_encode(def, &first);
    cr_assert_eq(dbos_table_def_decode(&alloc, first.data, first.size_bytes, &def_back, NULL),
                 DBOS_OK);
    dbos_table_def_encode(def_back, &second);
    expect_same_bytes(&first, &second);
    cr_expect_str_eq(def_back->columns[3].default_sql, "1 + 2");
    cr_expect_eq(def_back->columns[2].chars_max, 20);
    cr_expect_eq(def_back->schema_version, 3);
    struct dbos_procedure_info *procedure = a_procedure(&alloc), *procedure_back;
    dbos_buf_reset(&first);
    dbos_buf_reset(&second);
    dbos_procedure_info_encode(procedure, &first);
    cr_assert_eq(
        dbos_procedure_info_decode(&alloc, first.data, first.size_bytes, &procedure_back, NULL),
        DBOS_OK);
    dbos_procedure_info_encode(procedure_back, &second);
    expect_same_bytes(&first, &second);
    cr_expect_str_eq(procedure_back->symbol, "transfer");
    cr_expect_str_eq(procedure_back->route, "accounts.owner=$1");
    cr_expect_null(procedure_back->body);
    cr_expect_eq(procedure_back->arguments[1].type, DBOS_TYPE_BYTEA);
    dbos_table_def_unref(def);
    dbos_table_def_unref(def_back);
    dbos_procedure_info_unref(procedure);
    dbos_procedure_info_unref(procedure_back);
    dbos_buf_fini(&first);
    dbos_buf_fini(&second);
    dbos_alloc_fini(&alloc);
}

/* Decodes a copy of exactly `size` bytes, so that ASan sees each over-read. */
static void decode_both(struct dbos_alloc *alloc, const uint8_t *data, size_t size, bool whole) {
    uint8_t *copy = dbos_take(alloc, size);
    memcpy(copy, data, size);
    struct dbos_table_def *def;
    struct dbos_procedure_info *procedure;
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_table_def_decode(alloc, copy, size, &def, &info);
    cr_assert(whole || err != DBOS_OK);
    cr_assert_eq(err == DBOS_OK, def != NULL);
    cr_assert(err == DBOS_OK || err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION);
    dbos_table_def_unref(def);
    err = dbos_procedure_info_decode(alloc, copy, size, &procedure, &info);
    cr_assert_eq(err == DBOS_OK, procedure != NULL);
    dbos_procedure_info_unref(procedure);
    dbos_give(alloc, copy);
}

Test(storage_schema, damaged_definitions_are_refused_without_a_crash) {
    struct dbos_alloc alloc;
    struct dbos_buf buf;
    struct dbos_rng rng;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&buf, &alloc);
    dbos_rng_init(&rng, 8);
    struct dbos_table_def *def = with_default(&alloc);
    struct dbos_procedure_info *procedure = a_procedure(&alloc);
    for (int which = 0; which < 2; which++) {
        dbos_buf_reset(&buf);
        if (which == 0) {
            dbos_table_def_encode(def, &buf);
        } else {
            dbos_procedure_info_encode(procedure, &buf);
        }
        for (size_t size = 0; size < buf.size_bytes; size++) {
            decode_both(&alloc, buf.data, size, false);
        }
        for (uint32_t round = 0; round < 10000; round++) {
            size_t at = dbos_rng_below(&rng, buf.size_bytes);
            uint8_t before = buf.data[at];
            buf.data[at] = (uint8_t)dbos_rng_next(&rng);
            decode_both(&alloc, buf.data, buf.size_bytes, true);
            buf.data[at] = before;
        }
    }
    buf.data[0] = 2; /* a later version of the format */
    struct dbos_errinfo info = {0};
    struct dbos_procedure_info *none;
    cr_expect_eq(dbos_procedure_info_decode(&alloc, buf.data, buf.size_bytes, &none, &info),
                 DBOS_ERR_FORMAT_VERSION);
    dbos_table_def_unref(def);
    dbos_procedure_info_unref(procedure);
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

Test(storage_schema, decoding_survives_every_failed_allocation) {
    struct dbos_alloc alloc, other;
    struct dbos_buf table, procedure;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_alloc_init(&other, "buffers", 0);
    dbos_buf_init(&table, &other);
    dbos_buf_init(&procedure, &other);
    struct dbos_table_def *def = with_default(&alloc);
    struct dbos_procedure_info *info = a_procedure(&alloc);
    dbos_table_def_encode(def, &table);
    dbos_procedure_info_encode(info, &procedure);
    dbos_table_def_unref(def);
    dbos_procedure_info_unref(info);
    bool done = false;
    int64_t n = 0;
    while (!done) {
        atomic_store(&alloc.fail_countdown, ++n);
        enum dbos_err first =
            dbos_table_def_decode(&alloc, table.data, table.size_bytes, &def, NULL);
        enum dbos_err second =
            dbos_procedure_info_decode(&alloc, procedure.data, procedure.size_bytes, &info, NULL);
        done = atomic_load(&alloc.fail_countdown) > 0;
        cr_assert_eq((first == DBOS_ERR_NOMEM) + (second == DBOS_ERR_NOMEM), done ? 0 : 1);
        dbos_table_def_unref(def);
        dbos_procedure_info_unref(info);
        cr_assert_eq(atomic_load(&alloc.bytes), 0);
        cr_assert_lt(n, 50);
    }
    cr_expect_gt(n, 4);
    dbos_buf_fini(&table);
    dbos_buf_fini(&procedure);
    dbos_alloc_fini(&other);
}
