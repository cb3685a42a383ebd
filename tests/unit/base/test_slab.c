#include "base/slab.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

#include "base/env.h"

TestSuite(base_slab, .timeout = 60);

struct block {
    uint8_t *data;
    size_t size_bytes;
    uint8_t fill;
};

enum { BLOCKS = 6000, MIB = 1024 * 1024 };

static struct block take_block(struct dbos_slab *slab, size_t size_bytes, uint8_t fill) {
    struct block block = {
        .data = dbos_slab_take(slab, size_bytes), .size_bytes = size_bytes, .fill = fill};
    if (block.data != NULL) {
        cr_assert_eq((uintptr_t)block.data % 8, 0);
        memset(block.data, fill, size_bytes);
    }
    return block;
}

/* What was written into a block is still there: no other block overlaps it. */
static void give_block(struct dbos_slab *slab, struct block *block) {
    for (size_t i = 0; i < block->size_bytes; i++) {
        cr_assert_eq(block->data[i], block->fill);
    }
    dbos_slab_give(slab, block->data, block->size_bytes);
    *block = (struct block){0};
}

static size_t random_size(struct dbos_rng *rng) {
    switch (dbos_rng_below(rng, 8)) {
    case 0:
        return dbos_rng_below(rng, 4096);
    case 1:
        return dbos_rng_below(rng, DBOS_SLAB_CELL_MAX + 2000);
    default:
        return 40 + 8 * dbos_rng_below(rng, 4);
    }
}

Test(base_slab, blocks_of_all_sizes_keep_what_is_written_through_takes_and_gives) {
    static struct block blocks[BLOCKS];
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    struct dbos_rng rng;
    uint64_t live_bytes = 0;
    dbos_rng_init(&rng, 7);
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    for (uint32_t round = 0; round < 60000; round++) {
        /* Fill, thin out, fill again, so that pages and regions become free in between. */
        bool filling = round / 10000 % 2 == 0;
        struct block *block = &blocks[dbos_rng_below(&rng, BLOCKS)];
        if (block->data != NULL && (!filling || dbos_rng_below(&rng, 4) == 0)) {
            live_bytes -= block->size_bytes;
            give_block(&slab, block);
        } else if (block->data == NULL && (filling || dbos_rng_below(&rng, 8) == 0)) {
            *block = take_block(&slab, random_size(&rng), (uint8_t)round);
            cr_assert_not_null(block->data);
            live_bytes += block->size_bytes;
        }
        cr_assert_geq(atomic_load(&alloc.bytes), live_bytes);
        if (round % 1000 == 0) {
            cr_assert(dbos_slab_consistent(&slab), "round %u", round);
        }
    }
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (blocks[i].data != NULL) {
            give_block(&slab, &blocks[i]);
        }
    }
    cr_assert(dbos_slab_consistent(&slab));
    dbos_slab_fini(&slab);
    cr_expect_eq(atomic_load(&alloc.bytes), 0);
    dbos_alloc_fini(&alloc);
}

Test(base_slab, each_size_fits_its_cell_and_no_cell_is_much_larger) {
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    for (size_t size_bytes = 0; size_bytes <= DBOS_SLAB_CELL_MAX + 100;
         size_bytes += size_bytes < 3000 ? 1 : 61) {
        struct block a = take_block(&slab, size_bytes, 1);
        struct block b = take_block(&slab, size_bytes, 2);
        cr_assert(a.data != NULL && b.data != NULL);
        give_block(&slab, &a);
        give_block(&slab, &b);
    }
    dbos_slab_fini(&slab);
    dbos_alloc_fini(&alloc);
}

Test(base_slab, small_rows_are_dense_and_a_small_owner_is_small) {
    enum { ROWS = 300000, ROW_BYTES = 48 };
    static void *rows[ROWS];
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    for (uint32_t i = 0; i < ROWS; i++) {
        rows[i] = dbos_slab_take(&slab, ROW_BYTES);
        cr_assert_not_null(rows[i]);
        if (i == 0) {
            cr_expect_leq(atomic_load(&alloc.bytes), 8192);
        }
    }
    /* The last region is not full. */
    cr_expect_leq(atomic_load(&alloc.bytes),
                  (uint64_t)ROWS * (ROW_BYTES + (uint64_t)DBOS_SLAB_CLASSES / 16) + 2 * MIB);
    for (uint32_t i = 0; i < ROWS; i++) { /* all but every 100th */
        if (i % 100 != 0) {
            dbos_slab_give(&slab, rows[i], ROW_BYTES);
        }
    }
    cr_assert(dbos_slab_consistent(&slab));
    for (uint32_t i = 0; i < ROWS; i += 100) {
        dbos_slab_give(&slab, rows[i], ROW_BYTES);
    }
    cr_expect_leq(atomic_load(&alloc.bytes), 2 * MIB + 8192, "empty regions go back, but for one");
    dbos_slab_fini(&slab);
    dbos_alloc_fini(&alloc);
}

Test(base_slab, a_page_that_became_free_serves_another_size) {
    enum { CELLS = 2000 };
    static void *cells[CELLS];
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    uint64_t most = 0;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    for (size_t size_bytes = 200; size_bytes <= 1000; size_bytes += 40) {
        for (uint32_t i = 0; i < CELLS; i++) {
            cells[i] = dbos_slab_take(&slab, size_bytes);
            cr_assert_not_null(cells[i]);
        }
        most = atomic_load(&alloc.bytes) > most ? atomic_load(&alloc.bytes) : most;
        for (uint32_t i = 0; i < CELLS; i++) {
            dbos_slab_give(&slab, cells[(uint64_t)i * 7 % CELLS], size_bytes);
        }
    }
    cr_expect_leq(most, 4 * MIB);
    dbos_slab_fini(&slab);
    dbos_alloc_fini(&alloc);
}

Test(base_slab, a_failed_take_leaves_the_slab_as_it_was) {
    static struct block blocks[BLOCKS];
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    uint32_t failed = 0;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        atomic_store(&alloc.fail_countdown, 1 + i % 3);
        blocks[i] = take_block(&slab, i % 50 == 0 ? 40000 : 48 + i % 7 * 100, (uint8_t)i);
        bool refused = atomic_load(&alloc.fail_countdown) == 0;
        cr_assert_eq(blocks[i].data == NULL, refused);
        failed += refused;
    }
    atomic_store(&alloc.fail_countdown, 0);
    cr_expect_eq(failed, BLOCKS / 3);
    cr_assert(dbos_slab_consistent(&slab));
    for (uint32_t i = 0; i < BLOCKS; i++) {
        if (blocks[i].data != NULL) {
            give_block(&slab, &blocks[i]);
        }
    }
    dbos_slab_fini(&slab);
    dbos_alloc_fini(&alloc);
}

Test(base_slab, the_limit_of_the_allocator_holds) {
    enum { CELLS = 100000 };
    static void *cells[CELLS];
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    for (uint64_t limit = 0; limit < 7; limit++) { /* within the first region, and within others */
        static const uint64_t limits[] = {1, 4096, 8192, 100000, 2 * MIB, 4 * MIB + 8192, 5 * MIB};
        uint32_t count = 0;
        dbos_alloc_init(&alloc, "test", limits[limit]);
        dbos_slab_init(&slab, &alloc);
        while (count < CELLS && (cells[count] = dbos_slab_take(&slab, 56)) != NULL) {
            count++;
        }
        cr_assert_lt(count, CELLS);
        cr_assert_leq(atomic_load(&alloc.bytes), limits[limit]);
        cr_assert(dbos_slab_consistent(&slab));
        cr_expect_null(dbos_slab_take(&slab, 56));
        if (count != 0) { /* what came back can be had again */
            dbos_slab_give(&slab, cells[--count], 56);
            cells[count] = dbos_slab_take(&slab, 56);
            cr_assert_not_null(cells[count++]);
        }
        for (uint32_t i = 0; i < count; i++) {
            dbos_slab_give(&slab, cells[i], 56);
        }
        dbos_slab_fini(&slab);
        dbos_alloc_fini(&alloc);
    }
}

Test(base_slab, a_cell_that_is_not_given_back_is_a_bug, .signal = SIGABRT) {
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&slab, &alloc);
    void *cell = dbos_slab_take(&slab, 40);
    cr_assert_not_null(cell);
    dbos_slab_fini(&slab);
}

Test(base_slab, giving_to_another_slab_is_a_bug, .signal = SIGABRT) {
    struct dbos_alloc alloc;
    struct dbos_slab one, two;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_slab_init(&one, &alloc);
    dbos_slab_init(&two, &alloc);
    void *cell = dbos_slab_take(&one, 40);
    cr_assert_not_null(cell);
    dbos_slab_give(&two, cell, 40);
}
