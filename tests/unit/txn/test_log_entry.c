#include <criterion/criterion.h>

#include "tests/unit/txn/txn_support.h"

TestSuite(txn_log_entry, .timeout = 60);

enum { MANY = 9000 }; /* more than a pool makes of the smallest class */

struct fixture {
    char dir[64];
    struct test_log t;
    struct dbos_log_pool *pool;
};

static void set_up(struct fixture *f) {
    const struct test_log_options options = {0};
    test_dir_make(f->dir, sizeof f->dir);
    cr_assert_eq(test_log_open(&f->t, f->dir, &options), DBOS_OK, "%s", f->t.info.message);
    cr_assert_eq(dbos_log_pool_open(f->t.log, &f->pool), DBOS_OK);
}

/* The balance of the log's allocator is proved by its end. */
static void tear_down(struct fixture *f) {
    dbos_log_pool_close(f->pool);
    test_log_close(&f->t);
    test_dir_remove(f->dir);
}

static struct dbos_log_entry *take(struct fixture *f, size_t bytes) {
    struct dbos_log_entry *entry = dbos_log_pool_take(f->pool, bytes, 3);
    cr_assert(entry != NULL);
    cr_assert_eq(entry->object_count, 0);
    memset(entry->objects, 0xaa, 3 * sizeof *entry->objects);
    memset(entry->data, 0xbb, bytes);
    return entry;
}

static uint64_t held(const struct fixture *f) { return atomic_load(&f->t.alloc.bytes); }

Test(txn_log_entry, a_warm_pool_asks_the_allocator_for_nothing) {
    static const size_t sizes[] = {1, 300, 1000, 12000};
    struct fixture f;
    struct dbos_log_entry *entries[40];
    set_up(&f);
    uint64_t warm = 0;
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 40; i++) {
            entries[i] = take(&f, sizes[i % 4]);
        }
        if (round == 0) {
            warm = held(&f);
            atomic_store(&f.t.alloc.fail_countdown, 1);
        }
        cr_expect_eq(held(&f), warm);
        for (int i = 0; i < 40; i++) {
            dbos_log_entry_give(f.t.log, entries[(i * 7) % 40]);
        }
        cr_expect_eq(held(&f), warm);
    }
    cr_expect_eq(atomic_load(&f.t.alloc.fail_countdown), 1);
    atomic_store(&f.t.alloc.fail_countdown, 0);
    tear_down(&f);
}

Test(txn_log_entry, what_a_pool_does_not_hold_comes_from_the_allocator_and_goes_back) {
    static struct dbos_log_entry *entries[MANY];
    struct fixture f;
    set_up(&f);
    uint64_t before = held(&f);
    struct dbos_log_entry *large = take(&f, 20000);
    dbos_log_entry_give(f.t.log, large);
    cr_expect_eq(held(&f), before);
    for (int i = 0; i < MANY; i++) {
        entries[i] = take(&f, 100);
    }
    uint64_t most = held(&f);
    for (int i = 0; i < MANY; i++) {
        dbos_log_entry_give(f.t.log, entries[i]);
    }
    cr_expect_lt(held(&f), most);
    cr_expect_leq(held(&f) - before, 8192 * (512 + 32));
    tear_down(&f);
}

Test(txn_log_entry, memory_that_runs_out_gives_no_entry) {
    struct fixture f;
    set_up(&f);
    struct dbos_log_pool *none = NULL;
    atomic_store(&f.t.alloc.fail_countdown, 1);
    cr_expect_eq(dbos_log_pool_open(f.t.log, &none), DBOS_ERR_NOMEM);
    cr_expect(none == NULL);
    /* The second try is not for a pool, and its smaller block is there. */
    atomic_store(&f.t.alloc.fail_countdown, 1);
    struct dbos_log_entry *entry = dbos_log_pool_take(f.pool, 100, 0);
    cr_expect(entry != NULL);
    dbos_log_entry_give(f.t.log, entry);
    uint64_t bytes_max = f.t.alloc.bytes_max;
    f.t.alloc.bytes_max = 1;
    cr_expect(dbos_log_pool_take(f.pool, 100, 0) == NULL);
    f.t.alloc.bytes_max = bytes_max;
    tear_down(&f);
}

Test(txn_log_entry, a_closed_pool_is_opened_by_the_next_with_what_it_holds) {
    struct fixture f;
    struct dbos_log_pool *second = NULL;
    struct dbos_log_pool *third = NULL;
    set_up(&f);
    struct dbos_log_entry *entry = take(&f, 100);
    dbos_log_pool_close(f.pool); /* its entry is still on its way */
    cr_assert_eq(dbos_log_pool_open(f.t.log, &second), DBOS_OK);
    cr_expect_eq(second, f.pool);
    cr_assert_eq(dbos_log_pool_open(f.t.log, &third), DBOS_OK);
    cr_expect_neq(third, second);
    dbos_log_entry_give(f.t.log, entry);
    cr_expect_eq(take(&f, 100), entry);
    dbos_log_entry_give(f.t.log, entry);
    dbos_log_pool_close(third);
    tear_down(&f);
}
