#include <criterion/criterion.h>

#include "tests/unit/storage/storage_support.h"

TestSuite(storage_store, .timeout = 60);
TestSuite(storage_catalog, .timeout = 60);

static const struct test_table first_table = {
    .id = 100,
    .name = "first",
    .partition_column = 0,
    .columns = {{"id", DBOS_TYPE_INT8, true, 0}, {"v", DBOS_TYPE_INT4, false, 0}},
    .indexes = {{"first_pkey", DBOS_INDEX_HASH, true, true, 1, {0}}},
};
static const struct test_table second_table = {
    .id = 101,
    .name = "second",
    .partition_column = -1,
    .columns = {{"id", DBOS_TYPE_INT8, true, 0}},
    .indexes = {{"second_pkey", DBOS_INDEX_HASH, true, true, 1, {0}}},
};

static struct test_table first_with_index(void) {
    struct test_table table = first_table;
    table.indexes[1] = (struct test_index){"first_v", DBOS_INDEX_ORDERED, false, false, 1, {1}};
    return table;
}

static struct dbos_procedure_info *procedure(struct dbos_alloc *alloc, uint32_t id,
                                             uint32_t version, const char *name) {
    char body[] = "SELECT 1";
    struct dbos_procedure_info parts = {
        .id = id, .version = version, .language = DBOS_LANGUAGE_SQL, .body = body};
    (void)snprintf(parts.name, sizeof parts.name, "%s", name);
    struct dbos_procedure_info *made;
    DBOS_CHECK(dbos_procedure_info_make(alloc, &parts, &made) == DBOS_OK);
    return made;
}

Test(storage_catalog, an_empty_database_has_the_system_tables_as_the_format_page_says) {
    static const struct {
        uint32_t id;
        const char *name, *columns, *key;
        int32_t partition_column;
    } expected[] = {
        {DBOS_TABLE_CATALOG, "catalog",
         "kind smallint, id bigint, name text, version integer, definition bytea", "kind id", -1},
        {DBOS_TABLE_MODULE_CHUNK, "module_chunk", "hash bytea, chunk integer, bytes bytea",
         "hash chunk", -1},
        {DBOS_TABLE_TASK, "task",
         "task_id bigint, kind smallint, state smallint, username text, procedure_id integer, "
         "procedure_version integer, model_id integer, model_version integer, pieces integer, "
         "context bytea, deadline_us bigint, submitted_us bigint, attempt integer, error text, "
         "finished_us bigint",
         "task_id", 0},
        {DBOS_TABLE_TASK_PIECE, "task_piece",
         "route bigint, task_id bigint, piece integer, count integer, payload bytea",
         "route task_id piece", 0},
        {DBOS_TABLE_MODEL, "model",
         "model_id integer, version integer, name text, architecture text, chunks integer, "
         "created_us bigint, task_id bigint",
         "model_id version", -1},
        {DBOS_TABLE_MODEL_CHUNK, "model_chunk",
         "model_id integer, version integer, chunk integer, bytes bytea", "model_id version chunk",
         -1},
        {DBOS_TABLE_IDEMPOTENCY, "idempotency",
         "key text, username text, digest bytea, reply bytea, committed_us bigint", "key", 0},
    };
    struct dbos_alloc alloc;
    struct dbos_catalog *catalog;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_eq(dbos_catalog_open(&alloc, &catalog), DBOS_OK);
    cr_expect_eq(catalog->table_count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < sizeof expected / sizeof expected[0]; i++) {
        const struct dbos_table_def *def = dbos_catalog_table_by_id(catalog, expected[i].id);
        cr_assert_not_null(def);
        cr_expect_eq(dbos_catalog_table(catalog, NULL, expected[i].name), def);
        cr_expect_eq(dbos_catalog_table(catalog, "dbos", expected[i].name), def);
        cr_expect_null(dbos_catalog_table(catalog, "public", expected[i].name));
        char columns[1024] = "", key[256] = "";
        for (uint32_t j = 0; j < def->column_count; j++) {
            size_t used = strlen(columns);
            (void)snprintf(columns + used, sizeof columns - used, "%s%s %s", j == 0 ? "" : ", ",
                           def->columns[j].name,
                           dbos_type_name((enum dbos_type)def->columns[j].type));
        }
        for (uint32_t j = 0; j < def->indexes[0].column_count; j++) {
            size_t used = strlen(key);
            (void)snprintf(key + used, sizeof key - used, "%s%s", j == 0 ? "" : " ",
                           def->columns[def->indexes[0].columns[j]].name);
        }
        cr_expect_str_eq(columns, expected[i].columns);
        cr_expect_str_eq(key, expected[i].key);
        cr_expect(def->indexes[0].primary);
        cr_expect_eq(def->partition_column, expected[i].partition_column);
    }
    cr_expect_null(dbos_catalog_table_by_id(catalog, 2));
    cr_expect_eq(catalog->next_table_id, DBOS_TABLE_FIRST_USER);
    dbos_catalog_unref(catalog);
    dbos_alloc_fini(&alloc);
}

Test(storage_catalog, a_change_makes_a_new_snapshot_and_leaves_the_old_one) {
    struct dbos_alloc alloc;
    struct dbos_catalog *c[6];
    dbos_alloc_init(&alloc, "test", 0);
    struct test_table larger = first_with_index();
    struct dbos_table_def *second = test_def(&alloc, &second_table);
    struct dbos_table_def *first = test_def(&alloc, &first_table);
    struct dbos_table_def *redefined = test_def(&alloc, &larger);
    struct dbos_procedure_info *p = procedure(&alloc, 100, 1, "p");
    cr_assert_eq(dbos_catalog_open(&alloc, &c[0]), DBOS_OK);
    cr_assert_eq(dbos_catalog_with_table(c[0], second, &c[1]), DBOS_OK);
    cr_assert_eq(dbos_catalog_with_table(c[1], first, &c[2]), DBOS_OK);
    cr_assert_eq(dbos_catalog_with_table(c[2], redefined, &c[3]), DBOS_OK);
    cr_assert_eq(dbos_catalog_with_procedure(c[3], p, &c[4]), DBOS_OK);
    cr_assert_eq(dbos_catalog_without_table(c[4], 101, &c[5]), DBOS_OK);
    for (uint32_t i = 1; i < 6; i++) {
        cr_expect_eq(c[i]->version, c[0]->version + i);
        for (uint32_t j = 1; j < c[i]->table_count; j++) {
            cr_expect_lt(c[i]->tables[j - 1]->id, c[i]->tables[j]->id);
        }
    }
    uint32_t position;
    cr_expect_eq(dbos_catalog_table(c[2], NULL, "first"), first);
    cr_expect_eq(dbos_catalog_table(c[3], NULL, "first"), redefined);
    cr_expect_eq(c[3]->table_count, c[2]->table_count);
    cr_expect_null(dbos_catalog_index(c[2], NULL, "first_v", &position));
    cr_expect_eq(dbos_catalog_index(c[3], NULL, "first_v", &position), redefined);
    cr_expect_eq(position, 1);
    cr_expect_null(dbos_catalog_procedure(c[3], "p"));
    cr_expect_eq(dbos_catalog_procedure(c[4], "p"), p);
    cr_expect_eq(dbos_catalog_procedure_by_id(c[5], 100), p);
    cr_expect_eq(dbos_catalog_table_by_id(c[4], 101), second);
    cr_expect_null(dbos_catalog_table_by_id(c[5], 101));
    cr_expect_eq(c[5]->next_table_id, 102, "an id is not given out twice");
    cr_expect_eq(c[5]->next_procedure_id, 101);
    cr_expect_eq(c[5]->next_index_id, 1011);
    for (uint32_t i = 0; i < 6; i++) {
        dbos_catalog_unref(c[i]);
    }
    dbos_table_def_unref(first);
    dbos_table_def_unref(second);
    dbos_table_def_unref(redefined);
    dbos_procedure_info_unref(p);
    dbos_alloc_fini(&alloc);
}

struct fixture {
    struct dbos_alloc alloc;
    struct dbos_objects *objects;
    struct dbos_store *store;
    struct dbos_table_def *first, *second, *larger;
    struct dbos_procedure_info *p1, *p2;
};

static void set_up(struct fixture *f, uint32_t partitions) {
    dbos_alloc_init(&f->alloc, "test", 0);
    struct test_table larger = first_with_index();
    cr_assert_eq(dbos_objects_open(&f->alloc, 3, &f->objects), DBOS_OK);
    cr_assert_eq(dbos_store_open(&f->alloc, f->objects, partitions, &f->store), DBOS_OK);
    f->first = test_def(&f->alloc, &first_table);
    f->second = test_def(&f->alloc, &second_table);
    f->larger = test_def(&f->alloc, &larger);
    f->p1 = procedure(&f->alloc, 100, 1, "p");
    f->p2 = procedure(&f->alloc, 100, 2, "p");
}

static void tear_down(struct fixture *f) {
    dbos_store_close(f->store);
    dbos_table_def_unref(f->first);
    dbos_table_def_unref(f->second);
    dbos_table_def_unref(f->larger);
    dbos_procedure_info_unref(f->p1);
    dbos_procedure_info_unref(f->p2);
    dbos_objects_close(f->objects);
    dbos_alloc_fini(&f->alloc);
}

static void insert_rows(struct fixture *f, int64_t from, int64_t count) {
    for (int64_t id = from; id < from + count; id++) {
        struct dbos_datum datums[] = {dbos_datum_int(DBOS_TYPE_INT8, id),
                                      dbos_datum_int(DBOS_TYPE_INT4, id % 10)};
        uint32_t slot = dbos_slot_of(&datums[0]);
        struct dbos_table *table =
            dbos_store_table(f->store, 100, dbos_store_partition_of(f->store, slot));
        struct dbos_row *row;
        cr_assert_eq(dbos_row_make(dbos_table_alloc(table), f->objects, dbos_table_def_of(table),
                                   datums, &row, NULL),
                     DBOS_OK);
        row->block = dbos_table_take_block(table, slot);
        cr_assert_eq(dbos_table_insert(table, row, NULL), DBOS_OK);
    }
}

static uint64_t rows_of(struct fixture *f, uint32_t table_id) {
    uint64_t rows = 0;
    for (uint32_t i = 0; i < dbos_store_partitions(f->store); i++) {
        rows += dbos_table_row_count(dbos_store_table(f->store, table_id, i));
    }
    return rows;
}

Test(storage_store, a_partitioned_table_has_parts_and_an_unpartitioned_one_exists_once) {
    struct fixture f;
    set_up(&f, 3);
    cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
    cr_assert_eq(dbos_store_create_table(f.store, f.second, NULL), DBOS_OK);
    cr_expect_neq(dbos_store_table(f.store, 100, 0), dbos_store_table(f.store, 100, 2));
    cr_expect_eq(dbos_store_table(f.store, 101, 0), dbos_store_table(f.store, 101, 2));
    cr_expect_null(dbos_store_table(f.store, 99, 0));
    cr_expect_null(dbos_store_table(f.store, 4000000000u, 0));
    insert_rows(&f, 0, 300);
    cr_expect_eq(rows_of(&f, 100), 300);
    cr_expect_gt(dbos_table_row_count(dbos_store_table(f.store, 100, 1)), 60);
    cr_expect_neq(dbos_store_state_hash(f.store), 0);
    struct dbos_errinfo info = {0};
    cr_expect_eq(dbos_store_create_table(f.store, f.first, &info), DBOS_ERR_DUPLICATE_TABLE);
    cr_expect_str_eq(info.message, "relation \"first\" already exists");
    tear_down(&f);
}

Test(storage_store, a_dropped_table_comes_back_with_its_rows) {
    struct fixture f;
    struct dbos_dropped_table dropped;
    set_up(&f, 2);
    cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
    insert_rows(&f, 0, 100);
    uint64_t hash = dbos_store_state_hash(f.store);
    struct dbos_catalog *before = dbos_store_catalog_ref(f.store);
    cr_assert_eq(dbos_store_drop_table(f.store, 100, &dropped, NULL), DBOS_OK);
    cr_expect_eq(dropped.part_count, 2);
    cr_expect_null(dbos_store_table(f.store, 100, 0));
    cr_expect_null(dbos_catalog_table(dbos_store_catalog(f.store), NULL, "first"));
    cr_expect_eq(dbos_catalog_table(before, NULL, "first"), f.first, "who holds it, still sees it");
    cr_expect_eq(dbos_store_state_hash(f.store), 0);
    uint64_t version = dbos_store_catalog(f.store)->version;
    atomic_store(&f.alloc.fail_countdown, 1);
    dbos_store_undrop_table(f.store, &dropped);
    cr_expect_eq(atomic_load(&f.alloc.fail_countdown), 1);
    atomic_store(&f.alloc.fail_countdown, 0);
    cr_expect_gt(dbos_store_catalog(f.store)->version, version);
    cr_expect_eq(dbos_store_state_hash(f.store), hash);
    cr_expect_eq(dbos_catalog_table(dbos_store_catalog(f.store), NULL, "first"), f.first);
    cr_assert_eq(dbos_store_drop_table(f.store, 100, &dropped, NULL), DBOS_OK);
    dbos_store_forget_table(f.store, &dropped);
    cr_expect_eq(dbos_store_drop_table(f.store, 100, &dropped, NULL), DBOS_ERR_UNDEFINED_TABLE);
    dbos_catalog_unref(before);
    tear_down(&f);
}

/* One DDL operation of each kind. */
static enum dbos_err run_operation(struct fixture *f, uint32_t n) {
    switch (n) {
    case 0:
        return dbos_store_create_table(f->store, f->second, NULL);
    case 1:
        return dbos_store_redefine_table(f->store, f->larger, NULL);
    case 2:
        return dbos_store_put_procedure(f->store, f->p1);
    case 3:
        return dbos_store_put_procedure(f->store, f->p2);
    case 4:
        return dbos_store_drop_procedure(f->store, 100);
    default:
        return dbos_store_redefine_table(f->store, f->first, NULL);
    }
}
enum { OPERATIONS = 6 };

Test(storage_store, what_a_transaction_has_changed_is_published_when_it_ends) {
    struct fixture f;
    set_up(&f, 2);
    for (int kept = 0; kept <= 1; kept++) {
        struct dbos_catalog *before = dbos_store_catalog_ref(f.store);
        dbos_store_track_ddl(f.store);
        cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
        cr_expect_neq(dbos_store_catalog(f.store), before, "the transaction sees it");
        struct dbos_catalog *during = dbos_store_catalog_ref(f.store);
        cr_expect_eq(during, before, "nobody else does");
        if (kept == 0) {
            dbos_store_undo_ddl(f.store);
        }
        dbos_store_keep_ddl(f.store);
        struct dbos_catalog *after = dbos_store_catalog_ref(f.store);
        cr_expect_eq(after, dbos_store_catalog(f.store));
        cr_expect_eq(dbos_catalog_table(after, NULL, "first") != NULL, kept == 1);
        dbos_catalog_unref(before);
        dbos_catalog_unref(during);
        dbos_catalog_unref(after);
    }
    tear_down(&f);
}

Test(storage_store, ddl_is_undone_without_memory_to_exactly_what_was) {
    struct fixture f;
    set_up(&f, 2);
    cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
    insert_rows(&f, 0, 200);
    uint64_t hash = dbos_store_state_hash(f.store);
    uint64_t held = atomic_load(&f.alloc.bytes);
    for (uint32_t count = 1; count <= OPERATIONS; count++) {
        uint32_t tables = dbos_store_catalog(f.store)->table_count;
        dbos_store_track_ddl(f.store);
        for (uint32_t i = 0; i < count; i++) {
            cr_assert_eq(run_operation(&f, i), DBOS_OK);
        }
        atomic_store(&f.alloc.fail_countdown, 1);
        for (uint32_t i = 0; i < count; i++) {
            dbos_store_undo_ddl(f.store);
        }
        cr_assert_eq(atomic_load(&f.alloc.fail_countdown), 1, "undo took memory");
        atomic_store(&f.alloc.fail_countdown, 0);
        dbos_store_keep_ddl(f.store);
        const struct dbos_catalog *catalog = dbos_store_catalog(f.store);
        cr_expect_eq(catalog->table_count, tables);
        cr_expect_eq(catalog->procedure_count, 0);
        cr_expect_eq(dbos_catalog_table(catalog, NULL, "first"), f.first);
        cr_expect_eq(dbos_table_def_of(dbos_store_table(f.store, 100, 1)), f.first);
        cr_expect_null(dbos_store_table(f.store, 101, 0));
        cr_expect_eq(catalog->next_table_id, 102);
        cr_expect_eq(dbos_store_state_hash(f.store), hash);
        cr_expect(dbos_table_consistent(dbos_store_table(f.store, 100, 0)));
        cr_expect_eq(atomic_load(&f.alloc.bytes), held);
    }
    tear_down(&f);
}

Test(storage_store, ddl_that_fails_at_any_allocation_changes_nothing) {
    for (int tracked = 0; tracked <= 1; tracked++) {
        struct fixture f;
        set_up(&f, 2);
        cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
        insert_rows(&f, 0, 200);
        for (uint32_t i = 0; i < OPERATIONS; i++) {
            bool done = false;
            int64_t n = 0;
            while (!done) {
                const struct dbos_catalog *before = dbos_store_catalog(f.store);
                if (tracked != 0) {
                    dbos_store_track_ddl(f.store);
                }
                atomic_store(&f.alloc.fail_countdown, ++n);
                enum dbos_err err = run_operation(&f, i);
                done = atomic_load(&f.alloc.fail_countdown) > 0;
                atomic_store(&f.alloc.fail_countdown, 0);
                cr_assert_eq(err, done ? DBOS_OK : DBOS_ERR_NOMEM, "operation %u", i);
                cr_assert_eq(dbos_store_catalog(f.store) == before, !done);
                cr_assert_lt(n, 50);
            }
            cr_expect_geq(n, 2);
            dbos_store_keep_ddl(f.store);
        }
        tear_down(&f);
    }
}

static void add_memory(void *arg, const char *name, uint64_t bytes, uint64_t rows) {
    uint64_t *sums = arg;
    sums[0]++;
    sums[1] += rows;
    sums[2] += strcmp(name, "public.first") == 0 ? bytes : 0;
}

Test(storage_store, opening_survives_every_failed_allocation_and_memory_is_accounted_for) {
    struct dbos_alloc alloc;
    struct dbos_store *store;
    dbos_alloc_init(&alloc, "test", 0);
    int64_t n = 0;
    do {
        atomic_store(&alloc.fail_countdown, ++n);
        enum dbos_err err = dbos_store_open(&alloc, NULL, 2, &store);
        cr_assert_eq(err == DBOS_OK, store != NULL);
        dbos_store_close(store);
        cr_assert_eq(atomic_load(&alloc.bytes), 0);
    } while (atomic_load(&alloc.fail_countdown) <= 0);
    atomic_store(&alloc.fail_countdown, 0);
    cr_expect_gt(n, 15);
    dbos_alloc_fini(&alloc);

    struct fixture f;
    uint64_t sums[3] = {0};
    set_up(&f, 2);
    cr_assert_eq(dbos_store_create_table(f.store, f.first, NULL), DBOS_OK);
    insert_rows(&f, 0, 100);
    dbos_store_each_memory(f.store, add_memory, sums);
    cr_expect_eq(sums[0], 9, "the store, seven system tables and one more");
    cr_expect_eq(sums[1], 100);
    cr_expect_gt(sums[2], 100 * 52);
    tear_down(&f);
}
