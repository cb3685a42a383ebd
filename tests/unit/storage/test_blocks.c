#include "storage/blocks.h"

#include <criterion/criterion.h>
#include <string.h>

#include "base/env.h"
#include "storage/table.h"

TestSuite(storage_blocks, .timeout = 60);

/* Blocks of a few slots beside an array that says for each counter where its row is. */
enum { SLOTS = 5, COUNTERS = 3000, STEPS_MAX = 400 };

static const uint32_t slots[SLOTS] = {0, 1, 77, 512, 1023};

struct model {
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    struct dbos_blocks blocks;
    struct dbos_rng rng;
    uint32_t places[SLOTS][COUNTERS]; /* DBOS_BLOCKS_NONE = no row */
    uint64_t count;
};

static void set_up(struct model *m, uint64_t seed) {
    dbos_rng_init(&m->rng, seed);
    dbos_alloc_init(&m->alloc, "test", 0);
    dbos_slab_init(&m->slab, &m->alloc);
    dbos_blocks_init(&m->blocks, &m->slab);
    memset(m->places, 0xff, sizeof m->places);
    m->count = 0;
}

static void tear_down(struct model *m) {
    dbos_blocks_fini(&m->blocks);
    dbos_slab_fini(&m->slab);
    dbos_alloc_fini(&m->alloc);
}

static uint64_t block_of(uint32_t slot, uint32_t counter) {
    /* The upper half of the counters is far away, as after many deletions. */
    uint64_t far = counter < COUNTERS / 2 ? 1 : UINT64_C(1) << 40;
    return (far + counter) * DBOS_SLOTS + slots[slot];
}

static void expect_same(struct model *m) {
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        for (uint32_t counter = 0; counter < COUNTERS; counter++) {
            cr_assert_eq(dbos_blocks_find(&m->blocks, block_of(slot, counter)),
                         m->places[slot][counter]);
        }
    }
    cr_assert_eq(dbos_blocks_find(&m->blocks, 7 * DBOS_SLOTS + 500), DBOS_BLOCKS_NONE);
    cr_assert_eq(m->blocks.count, m->count);
    cr_assert(dbos_blocks_consistent(&m->blocks));
}

struct step {
    uint32_t slot, counter, before, after;
};

/* What a step does, and its undo with `before` and `after` exchanged. */
static void apply(struct model *m, const struct step *step) {
    uint64_t block = block_of(step->slot, step->counter);
    if (step->before == DBOS_BLOCKS_NONE) {
        dbos_blocks_put(&m->blocks, block, step->after);
        m->count++;
    } else if (step->after == DBOS_BLOCKS_NONE) {
        dbos_blocks_remove(&m->blocks, block);
        m->count--;
    } else {
        dbos_blocks_move(&m->blocks, block, step->after);
    }
    m->places[step->slot][step->counter] = step->after;
}

static struct step random_step(struct model *m, bool growing) {
    uint32_t slot = (uint32_t)dbos_rng_below(&m->rng, SLOTS);
    uint32_t counter = (uint32_t)dbos_rng_below(&m->rng, COUNTERS);
    uint32_t before = m->places[slot][counter];
    uint32_t after = (uint32_t)dbos_rng_below(&m->rng, 1u << 30);
    bool ends = before != DBOS_BLOCKS_NONE && dbos_rng_below(&m->rng, 4) >= (growing ? 3u : 1u);
    return (struct step){slot, counter, before, ends ? DBOS_BLOCKS_NONE : after};
}

Test(storage_blocks, behave_as_an_array_through_commits_and_undos) {
    static struct model m;
    static struct step steps[STEPS_MAX];
    set_up(&m, 11);
    for (uint32_t round = 0; round < 300; round++) {
        bool growing = round / 60 % 2 == 0;
        uint64_t count = 1 + dbos_rng_below(&m.rng, STEPS_MAX - 1);
        for (uint64_t i = 0; i < count; i++) {
            steps[i] = random_step(&m, growing);
            if (!growing && steps[i].before == DBOS_BLOCKS_NONE) {
                steps[i--] = (struct step){0}; /* only removals and moves */
                count--;
                continue;
            }
            cr_assert_eq(dbos_blocks_reserve(&m.blocks, block_of(steps[i].slot, steps[i].counter)),
                         DBOS_OK);
            apply(&m, &steps[i]);
        }
        if (round % 2 == 0) {
            atomic_store(&m.alloc.fail_countdown, 1);
            for (uint64_t i = count; i > 0; i--) {
                struct step back = steps[i - 1];
                back.before = steps[i - 1].after;
                back.after = steps[i - 1].before;
                apply(&m, &back);
            }
            cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1, "undo took memory");
            atomic_store(&m.alloc.fail_countdown, 0);
        }
        if (round % 10 == 0) {
            expect_same(&m);
        }
    }
    expect_same(&m);
    tear_down(&m);
}

Test(storage_blocks, a_failed_reserve_changes_nothing) {
    static struct model m;
    uint32_t failed = 0;
    set_up(&m, 12);
    for (uint32_t i = 0; i < 6000; i++) {
        struct step step = random_step(&m, true);
        uint64_t block = block_of(step.slot, step.counter);
        atomic_store(&m.alloc.fail_countdown, 1 + i % 3);
        enum dbos_err err = dbos_blocks_reserve(&m.blocks, block);
        bool refused = atomic_load(&m.alloc.fail_countdown) == 0;
        atomic_store(&m.alloc.fail_countdown, 0);
        cr_assert_eq(err, refused ? DBOS_ERR_NOMEM : DBOS_OK);
        failed += refused;
        if (err == DBOS_OK) {
            atomic_store(&m.alloc.fail_countdown, 1);
            apply(&m, &step);
            cr_assert_eq(atomic_load(&m.alloc.fail_countdown), 1, "a put took memory");
            atomic_store(&m.alloc.fail_countdown, 0);
        } else if (failed % 50 == 0) {
            expect_same(&m);
        }
    }
    cr_expect_gt(failed, 100);
    expect_same(&m);
    tear_down(&m);
}

/* A queue: each row lives for a while, one stays for ever. */
Test(storage_blocks, memory_follows_the_rows_that_live_and_not_the_counter) {
    enum { LIVE = 1000 };
    static struct model m;
    uint64_t most = 0;
    set_up(&m, 13);
    for (uint64_t counter = 1; counter < 200000; counter++) {
        cr_assert_eq(dbos_blocks_reserve(&m.blocks, counter * DBOS_SLOTS), DBOS_OK);
        dbos_blocks_put(&m.blocks, counter * DBOS_SLOTS, (uint32_t)counter);
        if (counter > LIVE + 1) {
            dbos_blocks_remove(&m.blocks, (counter - LIVE) * DBOS_SLOTS);
        }
        if (counter == 2 * LIVE) {
            most = atomic_load(&m.alloc.bytes);
        }
    }
    cr_expect_leq(atomic_load(&m.alloc.bytes), most);
    cr_expect_eq(dbos_blocks_find(&m.blocks, DBOS_SLOTS), 1);
    cr_expect_eq(m.blocks.count, LIVE + 1);
    cr_assert(dbos_blocks_consistent(&m.blocks));
    tear_down(&m);
}
