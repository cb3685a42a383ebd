#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>

#include "tests/unit/storage/storage_support.h"

TestSuite(storage_table, .timeout = 240);

/* A table beside a naive oracle: the live rows in an array, all questions answered by looking at
 * each of them. */
enum { COLUMNS = 5, ROWS_MAX = 700 };

struct model {
    struct dbos_alloc alloc;
    struct dbos_objects *objects;
    struct dbos_table_def *def;
    struct dbos_table *table;
    struct dbos_rng rng;
    struct dbos_row *live[ROWS_MAX]; /* in directory order */
    uint32_t count;
};

#define MODEL_COLUMNS                                                                              \
    {                                                                                              \
        {"a", DBOS_TYPE_INT4, true, 0}, {"b", DBOS_TYPE_INT8, false, 0},                           \
            {"c", DBOS_TYPE_TEXT, false, 0}, {"d", DBOS_TYPE_FLOAT8, false, 0}, {                  \
            "e", DBOS_TYPE_INT2, true, 0                                                           \
        }                                                                                          \
    }

static const struct test_table configurations[] = {
    {.id = 100, .name = "bare", .partition_column = -1, .columns = MODEL_COLUMNS},
    {.id = 101,
     .name = "hash_key",
     .partition_column = 0,
     .columns = MODEL_COLUMNS,
     .indexes = {{"p", DBOS_INDEX_HASH, true, true, 1, {0}},
                 {"c_hash", DBOS_INDEX_HASH, false, false, 1, {2}},
                 {"d_ordered", DBOS_INDEX_ORDERED, false, false, 1, {3}}}},
    {.id = 102,
     .name = "ordered_key",
     .partition_column = -1,
     .columns = MODEL_COLUMNS,
     .indexes = {{"p", DBOS_INDEX_ORDERED, true, true, 2, {4, 0}},
                 {"b_unique", DBOS_INDEX_ORDERED, true, false, 2, {1, 2}},
                 {"cb_hash", DBOS_INDEX_HASH, true, false, 2, {2, 1}},
                 {"cda", DBOS_INDEX_ORDERED, false, false, 3, {2, 3, 0}}}},
    {.id = 103,
     .name = "no_key",
     .partition_column = -1,
     .columns = MODEL_COLUMNS,
     .indexes = {{"b_hash", DBOS_INDEX_HASH, false, false, 1, {1}},
                 {"b_ordered", DBOS_INDEX_ORDERED, false, false, 1, {1}},
                 {"eab", DBOS_INDEX_ORDERED, false, false, 3, {4, 0, 1}},
                 {"d_unique", DBOS_INDEX_HASH, true, false, 1, {3}}}},
};
enum { CONFIGURATIONS = sizeof configurations / sizeof configurations[0] };

static void set_up(struct model *m, const struct test_table *table, uint64_t seed) {
    memset(m, 0, sizeof *m);
    dbos_alloc_init(&m->alloc, "test", 0);
    dbos_rng_init(&m->rng, seed);
    cr_assert_eq(dbos_objects_open(&m->alloc, 1, &m->objects), DBOS_OK);
    m->def = test_def(&m->alloc, table);
    cr_assert_eq(dbos_table_open(&m->alloc, m->def, &m->table), DBOS_OK);
}

static void tear_down(struct model *m) {
    dbos_table_close(m->table);
    dbos_table_def_unref(m->def);
    dbos_objects_close(m->objects);
    dbos_alloc_fini(&m->alloc);
}

static void random_datums(struct model *m, uint8_t room[TEST_ROOM], struct dbos_datum *datums) {
    datums[0] = dbos_datum_int(DBOS_TYPE_INT4, (int64_t)dbos_rng_below(&m->rng, 2000) - 1000);
    datums[1] = test_random_datum(&m->rng, DBOS_TYPE_INT8, room);
    datums[2] = test_random_datum(&m->rng, DBOS_TYPE_TEXT, room);
    datums[3] = test_random_datum(&m->rng, DBOS_TYPE_FLOAT8, room);
    datums[4] = dbos_datum_int(DBOS_TYPE_INT2, (int64_t)dbos_rng_below(&m->rng, 7) - 3);
    for (uint32_t i = 1; i <= 3; i++) {
        datums[i].is_null = dbos_rng_below(&m->rng, 4) == 0;
    }
    if (m->def->index_count > 0 && strcmp(m->def->name, "no_key") == 0) {
        datums[3].is_null = datums[3].is_null || dbos_rng_below(&m->rng, 3) != 0;
    }
}

static struct dbos_row *random_row(struct model *m) {
    uint8_t room[TEST_ROOM];
    struct dbos_datum datums[COLUMNS];
    struct dbos_row *row;
    random_datums(m, room, datums);
    cr_assert_eq(dbos_row_make(dbos_table_alloc(m->table), m->objects, m->def, datums, &row, NULL),
                 DBOS_OK);
    return row;
}

/* Order of two rows by an index; ties as they are. */
static int compare_by(const struct model *m, const struct dbos_index_def *index,
                      const struct dbos_row *x, const struct dbos_row *y) {
    for (uint32_t i = 0; i < index->column_count; i++) {
        struct dbos_datum a = dbos_row_column(m->def, x, index->columns[i]);
        struct dbos_datum b = dbos_row_column(m->def, y, index->columns[i]);
        int order = test_compare(&a, &b);
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

static bool key_has_null(const struct model *m, const struct dbos_index_def *index,
                         const struct dbos_row *row) {
    for (uint32_t i = 0; i < index->column_count; i++) {
        if (dbos_row_column(m->def, row, index->columns[i]).is_null) {
            return true;
        }
    }
    return false;
}

/* The name of the first unique index that forbids `row` in place of `instead`, or NULL. */
static const char *forbidden_by(const struct model *m, const struct dbos_row *row,
                                const struct dbos_row *instead) {
    for (uint32_t i = 0; i < m->def->index_count; i++) {
        const struct dbos_index_def *index = &m->def->indexes[i];
        if (!index->unique || key_has_null(m, index, row)) {
            continue;
        }
        for (uint32_t j = 0; j < m->count; j++) {
            if (m->live[j] != instead && compare_by(m, index, m->live[j], row) == 0) {
                return index->name;
            }
        }
    }
    return NULL;
}

static void expect_same_rows(struct model *m) {
    struct dbos_cursor cursor;
    cr_assert_eq(dbos_table_row_count(m->table), m->count);
    dbos_cursor_begin_full(m->table, &cursor);
    for (uint32_t i = 0; i < m->count; i++) {
        cr_assert_eq(dbos_cursor_next(&cursor), m->live[i]);
        cr_assert_eq(dbos_table_by_block(m->table, m->live[i]->block), m->live[i]);
    }
    cr_assert_null(dbos_cursor_next(&cursor));
    dbos_cursor_end(&cursor);
}

/* One change that a transaction made. */
struct step {
    struct dbos_row *old;   /* NULL: insert */
    struct dbos_row *fresh; /* NULL: remove */
};

static uint32_t slot_of_row(const struct model *m, const struct dbos_row *row) {
    if (m->def->partition_column < 0) {
        return 0;
    }
    struct dbos_datum datum = dbos_row_column(m->def, row, (uint32_t)m->def->partition_column);
    return dbos_slot_of(&datum);
}

static bool try_insert(struct model *m, struct step *step) {
    struct dbos_row *row = random_row(m);
    const char *forbidden = forbidden_by(m, row, NULL);
    struct dbos_errinfo info = {0};
    row->block = dbos_table_take_block(m->table, slot_of_row(m, row));
    enum dbos_err err = dbos_table_insert(m->table, row, &info);
    cr_assert_eq(err, forbidden == NULL ? DBOS_OK : DBOS_ERR_UNIQUE);
    if (err != DBOS_OK) {
        cr_assert_str_eq(info.constraint, forbidden);
        dbos_table_untake_block(m->table, row->block);
        dbos_row_give(dbos_table_alloc(m->table), m->def, row);
        return false;
    }
    m->live[m->count++] = row;
    *step = (struct step){.fresh = row};
    return true;
}

static bool try_replace(struct model *m, struct step *step) {
    uint32_t at = (uint32_t)dbos_rng_below(&m->rng, m->count);
    struct dbos_row *old = m->live[at];
    struct dbos_row *fresh = random_row(m);
    if (dbos_rng_below(&m->rng, 3) == 0) { /* an update that keeps every key */
        dbos_row_give(dbos_table_alloc(m->table), m->def, fresh);
        struct dbos_datum datums[COLUMNS];
        for (uint32_t i = 0; i < COLUMNS; i++) {
            datums[i] = dbos_row_column(m->def, old, i);
        }
        cr_assert_eq(
            dbos_row_make(dbos_table_alloc(m->table), m->objects, m->def, datums, &fresh, NULL),
            DBOS_OK);
    }
    fresh->block = old->block;
    const char *forbidden = forbidden_by(m, fresh, old);
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_table_replace(m->table, old, fresh, &info);
    cr_assert_eq(err, forbidden == NULL ? DBOS_OK : DBOS_ERR_UNIQUE);
    if (err != DBOS_OK) {
        cr_assert_str_eq(info.constraint, forbidden);
        dbos_row_give(dbos_table_alloc(m->table), m->def, fresh);
        return false;
    }
    m->live[at] = fresh;
    *step = (struct step){.old = old, .fresh = fresh};
    return true;
}

static bool do_remove(struct model *m, struct step *step) {
    uint32_t at = (uint32_t)dbos_rng_below(&m->rng, m->count);
    struct dbos_row *old = m->live[at];
    dbos_table_remove(m->table, old);
    m->live[at] = m->live[--m->count];
    *step = (struct step){.old = old};
    return true;
}

static bool random_step(struct model *m, uint64_t insert_weight, struct step *step) {
    uint64_t choice = dbos_rng_below(&m->rng, 100);
    if (m->count == 0 || (choice < insert_weight && m->count < ROWS_MAX)) {
        return try_insert(m, step);
    }
    return choice % 2 == 0 ? try_replace(m, step) : do_remove(m, step);
}

static void undo_step(struct model *m, const struct step *step) {
    if (step->old == NULL) {
        dbos_table_undo_insert(m->table, step->fresh);
        dbos_table_untake_block(m->table, step->fresh->block);
        dbos_row_give(dbos_table_alloc(m->table), m->def, step->fresh);
    } else if (step->fresh == NULL) {
        dbos_table_undo_remove(m->table, step->old);
    } else {
        dbos_table_undo_replace(m->table, step->old, step->fresh);
        dbos_row_give(dbos_table_alloc(m->table), m->def, step->fresh);
    }
}

/* Some steps; then they are kept, or undone without a single allocation. */
static void run_transaction(struct model *m, uint64_t insert_weight) {
    enum { STEPS_MAX = 60 };
    static struct dbos_row *before[ROWS_MAX];
    struct step steps[STEPS_MAX];
    uint32_t step_count = 0;
    uint32_t count_before = m->count;
    memcpy(before, m->live, sizeof before);
    uint64_t tries = 1 + dbos_rng_below(&m->rng, STEPS_MAX - 1);
    for (uint64_t i = 0; i < tries; i++) {
        step_count += random_step(m, insert_weight, &steps[step_count]);
    }
    if (dbos_rng_below(&m->rng, 2) == 0) {
        atomic_store(&m->alloc.fail_countdown, 1);
        while (step_count > 0) {
            undo_step(m, &steps[--step_count]);
        }
        cr_assert_eq(atomic_load(&m->alloc.fail_countdown), 1, "undo took memory");
        atomic_store(&m->alloc.fail_countdown, 0);
        memcpy(m->live, before, sizeof before);
        m->count = count_before;
    }
    for (uint32_t i = 0; i < step_count; i++) {
        dbos_row_give(dbos_table_alloc(m->table), m->def, steps[i].old);
    }
}

/* The oracle's answer to a range scan. */
static bool satisfies(const struct model *m, const struct dbos_index_def *index,
                      const struct dbos_row *row, const struct dbos_bound *bound, int direction) {
    for (uint32_t i = 0; i < bound->count; i++) {
        struct dbos_datum column = dbos_row_column(m->def, row, index->columns[i]);
        int order = test_compare(&column, &bound->datums[i]) * direction;
        if (order != 0) {
            return order > 0;
        }
    }
    return bound->count == 0 || bound->inclusive;
}

static void sort_by(const struct model *m, const struct dbos_index_def *index,
                    struct dbos_row **rows, uint32_t count) {
    for (uint32_t i = 1; i < count; i++) {
        struct dbos_row *row = rows[i];
        uint32_t at = i;
        while (at > 0) {
            int order = compare_by(m, index, rows[at - 1], row);
            if (order < 0 || (order == 0 && rows[at - 1]->block < row->block)) {
                break;
            }
            rows[at] = rows[at - 1];
            at--;
        }
        rows[at] = row;
    }
}

/* A bound of random values, often those of a row that is there. */
static void random_bound(struct model *m, const struct dbos_index_def *index, uint16_t count,
                         uint8_t room[TEST_ROOM], struct dbos_datum *datums,
                         struct dbos_bound *bound) {
    struct dbos_datum all[COLUMNS];
    random_datums(m, room, all);
    if (m->count > 0 && dbos_rng_below(&m->rng, 3) != 0) {
        const struct dbos_row *row = m->live[dbos_rng_below(&m->rng, m->count)];
        for (uint32_t i = 0; i < COLUMNS; i++) {
            all[i] = dbos_row_column(m->def, row, i);
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        datums[i] = all[index->columns[i]];
        if (dbos_rng_below(&m->rng, 12) == 0) { /* also where no row can be NULL */
            datums[i].is_null = true;
        }
    }
    *bound = (struct dbos_bound){
        .datums = datums, .count = count, .inclusive = dbos_rng_below(&m->rng, 2) == 0};
}

static void expect_scan(struct model *m, uint32_t number, const struct dbos_bound *low,
                        const struct dbos_bound *high) {
    static struct dbos_row *expected[ROWS_MAX];
    const struct dbos_index_def *index = &m->def->indexes[number];
    bool hash = index->kind == DBOS_INDEX_HASH;
    uint32_t count = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        struct dbos_row *row = m->live[i];
        if (satisfies(m, index, row, low, 1) && satisfies(m, index, row, high, -1) &&
            !(hash && key_has_null(m, index, row))) {
            expected[count++] = row;
        }
    }
    sort_by(m, index, expected, count);
    for (int descending = 0; descending <= 1; descending++) {
        struct dbos_cursor cursor;
        cr_assert_eq(dbos_cursor_begin_range(m->table, number, low, high, descending != 0, &cursor),
                     DBOS_OK);
        for (uint32_t i = 0; i < count; i++) {
            const struct dbos_row *got = dbos_cursor_next(&cursor);
            cr_assert_eq(got, expected[descending != 0 ? count - 1 - i : i], "index %s row %u",
                         index->name, i);
        }
        cr_assert_null(dbos_cursor_next(&cursor), "index %s, %u rows", index->name, count);
        dbos_cursor_end(&cursor);
    }
}

static void random_scan(struct model *m) {
    if (m->def->index_count == 0) {
        return;
    }
    uint8_t low_room[TEST_ROOM], high_room[TEST_ROOM];
    struct dbos_datum low_datums[4], high_datums[4];
    struct dbos_bound low, high;
    uint32_t number = (uint32_t)dbos_rng_below(&m->rng, m->def->index_count);
    const struct dbos_index_def *index = &m->def->indexes[number];
    uint16_t columns = index->column_count;
    if (index->kind == DBOS_INDEX_HASH) {
        random_bound(m, index, columns, low_room, low_datums, &low);
        low.inclusive = true;
        expect_scan(m, number, &low, &low);
    } else {
        random_bound(m, index, (uint16_t)dbos_rng_below(&m->rng, columns + 1u), low_room,
                     low_datums, &low);
        random_bound(m, index, (uint16_t)dbos_rng_below(&m->rng, columns + 1u), high_room,
                     high_datums, &high);
        expect_scan(m, number, &low, &high);
    }
}

/* Every live row is found by each unique index; a random key is found exactly when it is there. */
static void expect_finds(struct model *m) {
    for (uint32_t i = 0; i < m->def->index_count; i++) {
        const struct dbos_index_def *index = &m->def->indexes[i];
        for (uint32_t j = 0; index->unique && j < m->count; j++) {
            struct dbos_datum key[4];
            for (uint32_t k = 0; k < index->column_count; k++) {
                key[k] = dbos_row_column(m->def, m->live[j], index->columns[k]);
            }
            bool null = key_has_null(m, index, m->live[j]);
            cr_assert_eq(dbos_table_find(m->table, i, key), null ? NULL : m->live[j]);
        }
        if (index->unique) {
            uint8_t room[TEST_ROOM];
            struct dbos_datum all[COLUMNS], key[4];
            random_datums(m, room, all);
            for (uint32_t k = 0; k < index->column_count; k++) {
                key[k] = all[index->columns[k]];
            }
            struct dbos_bound bound = {
                .datums = key, .count = index->column_count, .inclusive = true};
            const struct dbos_row *found = dbos_table_find(m->table, i, key);
            bool there = false;
            for (uint32_t j = 0; j < m->count; j++) {
                there = there || (!key_has_null(m, index, m->live[j]) &&
                                  satisfies(m, index, m->live[j], &bound, 1) &&
                                  satisfies(m, index, m->live[j], &bound, -1));
            }
            cr_assert_eq(found != NULL, there);
        }
    }
}

Test(storage_table, behaves_as_the_oracle_through_commits_and_undos) {
    static struct model m;
    for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
        set_up(&m, &configurations[i], 1000 + i);
        for (uint32_t round = 0; round < 400; round++) {
            /* Grow for a while, then shrink, again and again. */
            uint64_t insert_weight = (round / 50) % 2 == 0 ? 80 : 15;
            run_transaction(&m, insert_weight);
            cr_assert(dbos_table_consistent(m.table), "table %s round %u", m.def->name, round);
            random_scan(&m);
            random_scan(&m);
            if (round % 20 == 0) {
                expect_same_rows(&m);
                expect_finds(&m);
            }
        }
        expect_same_rows(&m);
        tear_down(&m);
    }
}

Test(storage_table, a_failed_allocation_leaves_the_table_as_it_was) {
    static struct model m;
    for (uint32_t i = 0; i < CONFIGURATIONS; i++) {
        set_up(&m, &configurations[i], 2000 + i);
        uint32_t failed = 0;
        for (uint32_t round = 0; round < 3000 && m.count < ROWS_MAX; round++) {
            struct dbos_row *row = random_row(&m);
            row->block = dbos_table_take_block(m.table, slot_of_row(&m, row));
            struct dbos_row *old =
                m.count > 0 && round % 3 == 0 ? m.live[dbos_rng_below(&m.rng, m.count)] : NULL;
            if (old != NULL) {
                dbos_table_untake_block(m.table, row->block);
                row->block = old->block;
            }
            atomic_store(&m.alloc.fail_countdown, 1 + round % 3);
            enum dbos_err err = old == NULL ? dbos_table_insert(m.table, row, NULL)
                                            : dbos_table_replace(m.table, old, row, NULL);
            atomic_store(&m.alloc.fail_countdown, 0);
            if (err == DBOS_OK && old == NULL) {
                m.live[m.count++] = row;
            } else if (err == DBOS_OK) {
                m.live[old->place] = row;
                dbos_row_give(dbos_table_alloc(m.table), m.def, old);
            } else {
                failed += err == DBOS_ERR_NOMEM;
                dbos_row_give(dbos_table_alloc(m.table), m.def, row);
            }
            if (err == DBOS_ERR_NOMEM) {
                expect_same_rows(&m);
                cr_assert(dbos_table_consistent(m.table));
            }
        }
        cr_expect_geq(failed, 2, "%s: %u failures", m.def->name, failed);
        tear_down(&m);
    }
}

Test(storage_table, opening_survives_every_failed_allocation) {
    struct dbos_alloc alloc;
    struct dbos_table *table;
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_table_def *def = test_def(&alloc, &configurations[2]);
    uint64_t held = atomic_load(&alloc.bytes);
    int64_t n = 0;
    do {
        atomic_store(&alloc.fail_countdown, ++n);
        enum dbos_err err = dbos_table_open(&alloc, def, &table);
        cr_assert_eq(err == DBOS_OK, table != NULL);
        dbos_table_close(table);
        cr_assert_eq(atomic_load(&alloc.bytes), held);
    } while (atomic_load(&alloc.fail_countdown) <= 0);
    cr_expect_geq(n, 3);
    atomic_store(&alloc.fail_countdown, 0);
    dbos_table_def_unref(def);
    dbos_alloc_fini(&alloc);
}

static const struct test_table simple_table = {
    .id = 100,
    .name = "simple",
    .partition_column = -1,
    .columns = {{"id", DBOS_TYPE_INT8, true, 0},
                {"name", DBOS_TYPE_TEXT, false, 0},
                {"at", DBOS_TYPE_TIMESTAMPTZ, false, 0}},
    .indexes = {{"simple_pkey", DBOS_INDEX_HASH, true, true, 1, {0}},
                {"simple_name_at_key", DBOS_INDEX_ORDERED, true, false, 2, {1, 2}}},
};

static struct dbos_row *simple_row(struct model *m, int64_t id, const char *name, int64_t at) {
    struct dbos_datum datums[] = {
        dbos_datum_int(DBOS_TYPE_INT8, id),
        dbos_datum_bytes(DBOS_TYPE_TEXT, name, name == NULL ? 0 : strlen(name)),
        dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, at),
    };
    datums[1].is_null = name == NULL;
    struct dbos_row *row;
    cr_assert_eq(dbos_row_make(dbos_table_alloc(m->table), m->objects, m->def, datums, &row, NULL),
                 DBOS_OK);
    row->block = dbos_table_take_block(m->table, 0);
    return row;
}

Test(storage_table, a_duplicate_is_reported_in_the_words_of_postgresql) {
    static struct model m;
    set_up(&m, &simple_table, 1);
    const struct {
        int64_t id;
        const char *name;
        const char *message, *detail, *constraint;
    } cases[] = {
        {1, "x", "", "", ""},
        {1, "y", "duplicate key value violates unique constraint \"simple_pkey\"",
         "Key (id)=(1) already exists.", "simple_pkey"},
        {2, "x", "duplicate key value violates unique constraint \"simple_name_at_key\"",
         "Key (name, at)=(x, 1970-01-01 00:00:00+00) already exists.", "simple_name_at_key"},
        {3, NULL, "", "", ""},
        {4, NULL, "", "", ""}, /* NULLs are distinct */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_errinfo info = {0};
        struct dbos_row *row = simple_row(&m, cases[i].id, cases[i].name, 0);
        enum dbos_err err = dbos_table_insert(m.table, row, &info);
        cr_expect_eq(err, cases[i].message[0] == '\0' ? DBOS_OK : DBOS_ERR_UNIQUE);
        cr_expect_str_eq(info.message, cases[i].message);
        cr_expect_str_eq(info.detail, cases[i].detail);
        cr_expect_str_eq(info.constraint, cases[i].constraint);
        cr_expect_str_eq(info.table, err == DBOS_OK ? "" : "simple");
        if (err != DBOS_OK) {
            dbos_row_give(dbos_table_alloc(m.table), m.def, row);
        }
    }
    tear_down(&m);
}

Test(storage_table, block_ids_count_up_in_each_slot_and_can_be_given_back) {
    static struct model m;
    set_up(&m, &simple_table, 1);
    cr_expect_eq(dbos_table_take_block(m.table, 5), 1024 + 5);
    uint64_t second = dbos_table_take_block(m.table, 5);
    cr_expect_eq(second, 2 * 1024 + 5);
    cr_expect_eq(dbos_table_take_block(m.table, 1023), 1024 + 1023);
    dbos_table_untake_block(m.table, second);
    cr_expect_eq(dbos_table_take_block(m.table, 5), second);
    dbos_table_saw_block(m.table, 9 * 1024 + 5);
    dbos_table_saw_block(m.table, 3 * 1024 + 5);
    cr_expect_eq(dbos_table_take_block(m.table, 5), 10 * 1024 + 5);
    tear_down(&m);
}

Test(storage_table, the_slot_of_a_value_never_changes) {
    const struct {
        struct dbos_datum datum;
        uint32_t slot;
    } frozen[] = {
        {dbos_datum_int(DBOS_TYPE_INT8, 0), 431},
        {dbos_datum_int(DBOS_TYPE_INT4, 0), 431},
        {dbos_datum_int(DBOS_TYPE_INT8, 1), 193},
        {dbos_datum_int(DBOS_TYPE_INT2, -1), 32},
        {dbos_datum_bytes(DBOS_TYPE_TEXT, "dbos", 4), 516},
        {dbos_datum_bytes(DBOS_TYPE_TEXT, "", 0), 194},
        {dbos_datum_real(1.5), 823},
        {dbos_datum_real(-0.0), 987},
        {dbos_datum_real(0.0), 987},
        {dbos_datum_null(DBOS_TYPE_INT8), 0},
    };
    for (size_t i = 0; i < sizeof frozen / sizeof frozen[0]; i++) {
        cr_expect_eq(dbos_slot_of(&frozen[i].datum), frozen[i].slot, "case %zu: %u", i,
                     dbos_slot_of(&frozen[i].datum));
    }
}

/* So many rows that hash segments split and the tree has four levels, in the orders that trees and
 * hashes like least. */
Test(storage_table, a_large_table_stays_consistent_while_it_grows_and_is_emptied) {
    enum { ROWS = 60000 };
    static struct model m;
    static struct dbos_row *rows[ROWS];
    set_up(&m, &simple_table, 1);
    for (int64_t i = 0; i < ROWS; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "%08x", (uint32_t)(i * 2654435761u));
        rows[i] = simple_row(&m, i * 4096, name, i);
        cr_assert_eq(dbos_table_insert(m.table, rows[i], NULL), DBOS_OK);
    }
    cr_assert(dbos_table_consistent(m.table));
    for (int64_t i = 0; i < ROWS; i++) {
        struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, i * 4096);
        cr_assert_eq(dbos_table_find(m.table, 0, &key), rows[i]);
        key.integer++;
        cr_assert_null(dbos_table_find(m.table, 0, &key));
    }
    for (uint32_t i = 0; i < ROWS; i++) { /* a prime step reaches all */
        dbos_table_remove(m.table, rows[(uint64_t)i * 7919 % ROWS]);
        if (i % 10000 == 0) {
            cr_assert(dbos_table_consistent(m.table));
        }
    }
    cr_assert_eq(dbos_table_row_count(m.table), 0);
    uint64_t index_bytes = dbos_table_index_bytes(m.table, 0) + dbos_table_index_bytes(m.table, 1);
    cr_expect_gt(dbos_table_index_bytes(m.table, 0), ROWS * 9ul);
    cr_expect_gt(dbos_table_index_bytes(m.table, 1), ROWS * 16ul);
    cr_expect_lt(index_bytes, atomic_load(&m.alloc.bytes));
    atomic_store(&m.alloc.fail_countdown, 1);
    for (uint32_t i = ROWS; i > 0; i--) { /* all of it is undone */
        dbos_table_undo_remove(m.table, rows[(uint64_t)(i - 1) * 7919 % ROWS]);
    }
    cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1, "undo took memory");
    atomic_store(&m.alloc.fail_countdown, 0);
    cr_assert(dbos_table_consistent(m.table));
    cr_assert_eq(dbos_table_row_count(m.table), ROWS);
    tear_down(&m);
}

Test(storage_table, state_hash_depends_on_rows_and_not_on_their_order) {
    static struct model one, two;
    set_up(&one, &simple_table, 1);
    set_up(&two, &simple_table, 1);
    for (int64_t i = 0; i < 50; i++) {
        struct dbos_row *a = simple_row(&one, i, "x", i);
        struct dbos_row *b = simple_row(&two, 49 - i, "x", 49 - i);
        b->block = 1024 * (uint64_t)(50 - i);
        cr_assert_eq(dbos_table_insert(one.table, a, NULL), DBOS_OK);
        cr_assert_eq(dbos_table_insert(two.table, b, NULL), DBOS_OK);
    }
    cr_expect_eq(dbos_table_state_hash(one.table), dbos_table_state_hash(two.table));
    struct dbos_row *row = dbos_table_by_block(one.table, 1024);
    uint64_t before = dbos_table_state_hash(one.table);
    dbos_table_remove(one.table, row);
    cr_expect_eq(dbos_table_state_hash(one.table), before - dbos_row_hash(100, row));
    dbos_row_give(dbos_table_alloc(one.table), one.def, row);
    tear_down(&one);
    tear_down(&two);
}

Test(storage_table, an_index_can_be_added_taken_away_and_put_back) {
    static struct model m;
    struct test_table with_index = simple_table;
    with_index.indexes[2] = (struct test_index){"simple_at", DBOS_INDEX_HASH, true, false, 1, {2}};
    set_up(&m, &simple_table, 1);
    struct dbos_table_def *plain = m.def;
    struct dbos_table_def *larger = test_def(&m.alloc, &with_index);
    for (int64_t i = 0; i < 500; i++) {
        struct dbos_row *row = simple_row(&m, i, "x", i);
        cr_assert_eq(dbos_table_insert(m.table, row, NULL), DBOS_OK);
    }
    uint64_t held = dbos_table_alloc(m.table)->live;
    bool done = false;
    int64_t n = 0;
    while (!done) { /* every failed allocation of the build */
        atomic_store(&m.alloc.fail_countdown, ++n);
        enum dbos_err err = dbos_table_redefine(m.table, larger, NULL);
        done = atomic_load(&m.alloc.fail_countdown) > 0;
        cr_assert_eq(err, done ? DBOS_OK : DBOS_ERR_NOMEM);
        cr_assert(done || dbos_table_alloc(m.table)->live == held);
        cr_assert_eq(dbos_table_def_of(m.table), done ? larger : plain);
        cr_assert(dbos_table_consistent(m.table));
    }
    atomic_store(&m.alloc.fail_countdown, 0);
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, 77);
    const struct dbos_row *found = dbos_table_find(m.table, 2, &key);
    cr_assert_not_null(found);

    struct dbos_table_change change; /* drop it, change rows, take all of that back */
    cr_assert_eq(dbos_table_prepare(m.table, plain, &change, NULL), DBOS_OK);
    dbos_table_exchange(m.table, &change);
    cr_assert_eq(dbos_table_def_of(m.table), plain);
    struct dbos_row *extra = simple_row(&m, 1000, "y", 77);
    cr_assert_eq(dbos_table_insert(m.table, extra, NULL), DBOS_OK);
    cr_assert(dbos_table_consistent(m.table));
    dbos_table_undo_insert(m.table, extra);
    atomic_store(&m.alloc.fail_countdown, 1);
    dbos_table_exchange(m.table, &change);
    cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1);
    atomic_store(&m.alloc.fail_countdown, 0);
    dbos_table_forget_change(m.table, &change);
    cr_assert_eq(dbos_table_find(m.table, 2, &key), found);
    cr_assert(dbos_table_consistent(m.table));

    cr_assert_eq(dbos_table_redefine(m.table, plain, NULL), DBOS_OK);
    cr_assert_eq(dbos_table_insert(m.table, extra, NULL), DBOS_OK); /* at = 77 twice */
    struct dbos_errinfo info = {0};
    cr_expect_eq(dbos_table_redefine(m.table, larger, &info), DBOS_ERR_UNIQUE);
    cr_expect_str_eq(info.constraint, "simple_at");
    cr_expect_eq(dbos_table_def_of(m.table), plain);
    dbos_table_def_unref(larger);
    tear_down(&m);
}

/* Keys whose hashes agree in their top bits: the inverse of the mixing is easy, so a client can
 * choose them. The directory must not explode. */
static uint64_t unmix64(uint64_t v) {
    v ^= (v >> 31) ^ (v >> 62);
    v *= UINT64_C(0x319642b2d24d8ec3);
    v ^= (v >> 27) ^ (v >> 54);
    v *= UINT64_C(0x96de1b173f119089);
    return v ^ (v >> 30) ^ (v >> 60);
}

Test(storage_table, chosen_keys_with_equal_hashes_do_not_blow_up_the_index) {
    enum { ROWS = 20000 };
    static struct model m;
    set_up(&m, &simple_table, 1);
    cr_assert_eq(dbos_mix64(unmix64(12345)), 12345);
    for (uint64_t i = 0; i < ROWS; i++) {
        uint64_t hash = UINT64_C(0xabcdef0000000000) + i;
        int64_t id = (int64_t)(unmix64(hash) ^ UINT64_C(0x2545f4914f6cdd1d));
        struct dbos_row *row = simple_row(&m, id, NULL, 0);
        cr_assert_eq(dbos_table_insert(m.table, row, NULL), DBOS_OK);
    }
    cr_assert(dbos_table_consistent(m.table));
    cr_expect_lt(atomic_load(&m.alloc.bytes), 12u * 1024 * 1024);
    tear_down(&m);
}
