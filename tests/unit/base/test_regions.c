#include "base/regions.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/env.h"
#include "base/process_memory.h"
#include "base/slab.h"

TestSuite(base_regions, .timeout = 60);

struct fixture {
    struct dbos_alloc alloc;
    struct dbos_regions *regions;
};

static void open_regions(struct fixture *f) {
    dbos_alloc_init(&f->alloc, "regions", 0);
    cr_assert_eq(dbos_regions_open(&f->alloc, &f->regions), DBOS_OK);
}

static void close_regions(struct fixture *f) {
    dbos_regions_close(f->regions);
    dbos_alloc_fini(&f->alloc); /* counts what was left */
}

/* The first one that is ready, after a take that found none. */
static uint8_t *take_ready(struct fixture *f) {
    uint8_t *region = dbos_regions_take(f->regions);
    for (uint32_t i = 0; region == NULL && i < 20000; i++) {
        (void)usleep(1000);
        region = dbos_regions_take(f->regions);
    }
    cr_assert_not_null(region);
    return region;
}

static void wait_until_counted(struct fixture *f, uint64_t bytes) {
    for (uint32_t i = 0; i < 20000 && atomic_load(&f->alloc.bytes) < bytes; i++) {
        (void)usleep(1000);
    }
    cr_assert_geq(atomic_load(&f->alloc.bytes), bytes);
}

Test(base_regions, nothing_is_held_before_somebody_asks) {
    struct fixture f;
    open_regions(&f);
    (void)usleep(50000);
    cr_assert_lt(atomic_load(&f.alloc.bytes), DBOS_REGION_BYTES);
    close_regions(&f);
}

Test(base_regions, a_region_is_aligned_zero_touched_and_the_takers) {
    struct fixture f;
    static const uint8_t zero[4096];
    open_regions(&f);
    uint8_t *region = take_ready(&f);
    cr_assert_eq((uintptr_t)region % DBOS_REGION_BYTES, 0);
    cr_assert_eq(dbos_resident_bytes(region, DBOS_REGION_BYTES), DBOS_REGION_BYTES);
    for (size_t at = 0; at < DBOS_REGION_BYTES; at += sizeof zero) {
        cr_assert_eq(memcmp(region + at, zero, sizeof zero), 0);
    }
    uint8_t *other = take_ready(&f);
    cr_assert_neq(region, other);
    memset(region, 1, DBOS_REGION_BYTES);
    cr_assert_eq(other[0], 0);
    close_regions(&f);
    cr_assert_eq(region[DBOS_REGION_BYTES - 1], 1); /* still mapped */
    dbos_region_unmap(region);
    dbos_region_unmap(other);
}

Test(base_regions, as_many_are_kept_ready_as_is_said_and_they_are_counted) {
    struct fixture f;
    open_regions(&f);
    uint64_t own = atomic_load(&f.alloc.bytes);
    dbos_region_unmap(take_ready(&f));
    uint64_t full = own + (uint64_t)DBOS_REGIONS_READY * DBOS_REGION_BYTES;
    wait_until_counted(&f, full);
    (void)usleep(50000);
    cr_assert_eq(atomic_load(&f.alloc.bytes), full);
    close_regions(&f);
}

Test(base_regions, past_the_allocators_limit_there_is_none_and_later_there_is) {
    struct fixture f;
    open_regions(&f);
    f.alloc.bytes_max = DBOS_REGION_BYTES; /* less than one with what is held already */
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_null(dbos_regions_take(f.regions));
        (void)usleep(1000);
    }
    f.alloc.bytes_max = 0;
    dbos_region_unmap(take_ready(&f));
    close_regions(&f);
}

Test(base_regions, no_memory_for_it_is_an_error) {
    struct dbos_alloc alloc;
    struct dbos_regions *regions;
    dbos_alloc_init(&alloc, "regions", 16);
    cr_assert_eq(dbos_regions_open(&alloc, &regions), DBOS_ERR_NOMEM);
    cr_assert_null(regions);
    dbos_alloc_fini(&alloc);
}

/* -- with a slab ----------------------------------------------------------------------------------
 */

enum { CELL_BYTES = 16 * 1024, CELLS = 3000 };

Test(base_regions, a_slab_that_grows_takes_them_and_gives_all_back) {
    struct fixture f;
    struct dbos_alloc alloc;
    struct dbos_slab slab;
    static uint8_t *cells[CELLS];
    open_regions(&f);
    uint8_t *ready = take_ready(&f);
    wait_until_counted(&f, DBOS_REGION_BYTES);
    dbos_alloc_init(&alloc, "slab", 0);
    alloc.regions = f.regions;
    dbos_slab_init(&slab, &alloc);
    for (uint32_t i = 0; i < CELLS; i++) {
        cells[i] = dbos_slab_take(&slab, CELL_BYTES);
        cr_assert_not_null(cells[i]);
        memset(cells[i], (int)(i % 251), CELL_BYTES);
    }
    cr_assert(dbos_slab_consistent(&slab));
    for (uint32_t i = 0; i < CELLS; i++) {
        cr_assert_eq(cells[i][0], i % 251);
        cr_assert_eq(cells[i][CELL_BYTES - 1], i % 251);
        dbos_slab_give(&slab, cells[i], CELL_BYTES);
    }
    dbos_slab_fini(&slab);
    dbos_alloc_fini(&alloc);
    dbos_region_unmap(ready);
    close_regions(&f);
}
