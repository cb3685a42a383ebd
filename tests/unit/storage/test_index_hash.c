#include "storage/index_hash.h"

#include <criterion/criterion.h>
#include <string.h>

#include "base/env.h"
#include "base/hash.h"

TestSuite(storage_index_hash, .timeout = 120);

/* Items that carry the hash that is claimed for them, beside a flag for each: is it in the index?
 */
enum { ITEMS = 20000 };

struct item {
    uint64_t hash;
    bool in;
};

struct model {
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    struct dbos_hash index;
    struct dbos_rng rng;
    uint64_t count;
    struct item items[ITEMS];
};

static uint64_t hash_of_item(const void *arg, const void *item) {
    const uint64_t *asked = arg;
    cr_assert_eq(*asked, 42);
    return ((const struct item *)item)->hash;
}

static const uint64_t the_arg = 42;

/* How the hashes of a run are made: what an index likes, and what it likes least. */
static uint64_t make_hash(uint32_t kind, uint64_t i) {
    uint64_t mixed = dbos_mix64(i + 1);
    switch (kind) {
    case 0:
        return mixed;
    case 1:
        return UINT64_C(0xabcdef0000000000) + i; /* all top bits agree, and the tags */
    case 2:
        return mixed & UINT64_C(0xffffffff00000000); /* one home */
    case 3:
        return dbos_mix64(i / 20); /* twenty items for each hash */
    default:
        return mixed & ~UINT64_C(0xffff00000); /* one tag */
    }
}

static void set_up(struct model *m, uint32_t kind, uint32_t items) {
    memset(m, 0, sizeof *m);
    dbos_rng_init(&m->rng, kind + 1);
    dbos_alloc_init(&m->alloc, "test", 0);
    dbos_slab_init(&m->slab, &m->alloc);
    dbos_hash_init(&m->index, &m->slab, hash_of_item, &the_arg);
    for (uint32_t i = 0; i < items; i++) {
        m->items[i].hash = make_hash(kind, i);
    }
}

static void tear_down(struct model *m) {
    dbos_hash_fini(&m->index);
    dbos_slab_fini(&m->slab);
    dbos_alloc_fini(&m->alloc);
}

static bool is_in(const struct model *m, const struct item *item) {
    uint32_t place = UINT32_MAX;
    uint32_t times = 0;
    const struct item *found;
    while ((found = dbos_hash_next(&m->index, item->hash, &place)) != NULL) {
        cr_assert(found->in);
        times += found == item;
    }
    cr_assert_leq(times, 1);
    return times == 1;
}

static void put(struct model *m, struct item *item) {
    dbos_hash_put(&m->index, item->hash, item);
    item->in = true;
    m->count++;
}

static void take_out(struct model *m, struct item *item) {
    dbos_hash_remove(&m->index, item->hash, item);
    item->in = false;
    m->count--;
}

static void count_item(void *item, void *arg) {
    uint64_t *count = arg;
    cr_assert(((const struct item *)item)->in);
    *count += 1;
}

static void expect_same(struct model *m, uint32_t items) {
    uint64_t visited = 0;
    for (uint32_t i = 0; i < items; i++) {
        cr_assert_eq(is_in(m, &m->items[i]), m->items[i].in, "item %u", i);
    }
    dbos_hash_each(&m->index, count_item, &visited);
    cr_assert_eq(visited, m->count);
    cr_assert_eq(m->index.count, m->count);
    cr_assert(dbos_hash_consistent(&m->index));
}

Test(storage_index_hash, holds_what_was_put_whatever_the_hashes_are) {
    static struct model m;
    for (uint32_t kind = 0; kind <= 4; kind++) {
        uint32_t items = kind == 2 ? 1500 : (kind == 1 || kind == 4 ? 5000 : ITEMS);
        set_up(&m, kind, items);
        for (uint32_t round = 0; round < 8 * items; round++) {
            struct item *item = &m.items[dbos_rng_below(&m.rng, items)];
            bool growing = round / items % 2 == 0;
            if (!item->in && growing) {
                cr_assert_eq(dbos_hash_reserve(&m.index, item->hash), DBOS_OK);
                put(&m, item);
            } else if (item->in && (!growing || round % 4 == 0)) {
                take_out(&m, item);
            }
            if (round % (2 * items) == 0) {
                expect_same(&m, items);
            }
        }
        expect_same(&m, items);
        tear_down(&m);
    }
}

Test(storage_index_hash, a_failed_reserve_changes_nothing_and_a_put_takes_nothing) {
    static struct model m;
    set_up(&m, 0, ITEMS);
    uint32_t failed = 0;
    for (uint32_t i = 0; i < ITEMS; i++) {
        for (int64_t n = 1;; n++) { /* each take of the reserve once */
            atomic_store(&m.alloc.fail_countdown, n);
            enum dbos_err err = dbos_hash_reserve(&m.index, m.items[i].hash);
            bool refused = atomic_load(&m.alloc.fail_countdown) <= 0;
            cr_assert_eq(err, refused ? DBOS_ERR_NOMEM : DBOS_OK);
            if (!refused) {
                break;
            }
            failed++;
            cr_assert(dbos_hash_consistent(&m.index));
        }
        atomic_store(&m.alloc.fail_countdown, 1);
        put(&m, &m.items[i]);
        cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1, "a put took memory");
        atomic_store(&m.alloc.fail_countdown, 0);
    }
    cr_expect_gt(failed, 30);
    expect_same(&m, ITEMS);
    tear_down(&m);
}

Test(storage_index_hash, all_that_was_taken_out_goes_back_without_memory) {
    static struct model m;
    for (uint32_t kind = 0; kind <= 1; kind++) {
        set_up(&m, kind, 5000);
        for (uint32_t i = 0; i < 5000; i++) {
            cr_assert_eq(dbos_hash_reserve(&m.index, m.items[i].hash), DBOS_OK);
            put(&m, &m.items[i]);
        }
        for (uint32_t i = 0; i < 5000; i++) {
            take_out(&m, &m.items[i * 7919ul % 5000]);
        }
        atomic_store(&m.alloc.fail_countdown, 1);
        for (uint32_t i = 5000; i > 0; i--) {
            put(&m, &m.items[(i - 1) * 7919ul % 5000]);
        }
        cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1, "undo took memory");
        atomic_store(&m.alloc.fail_countdown, 0);
        expect_same(&m, 5000);
        tear_down(&m);
    }
}

Test(storage_index_hash, a_swapped_item_is_found_and_the_old_one_is_not) {
    static struct model m;
    static struct item fresh[2000];
    set_up(&m, 3, 2000);
    for (uint32_t i = 0; i < 2000; i++) {
        cr_assert_eq(dbos_hash_reserve(&m.index, m.items[i].hash), DBOS_OK);
        put(&m, &m.items[i]);
    }
    for (uint32_t i = 0; i < 2000; i++) {
        fresh[i] = m.items[i];
        dbos_hash_swap(&m.index, m.items[i].hash, &m.items[i], &fresh[i]);
        m.items[i].in = false;
        cr_assert(is_in(&m, &fresh[i]));
        cr_assert_not(is_in(&m, &m.items[i]));
    }
    cr_assert(dbos_hash_consistent(&m.index));
    tear_down(&m);
}
