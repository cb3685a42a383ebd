#include "base/slab.h"

#include <assert.h>
#include <string.h>

#include "base/alloc_internal.h"
#include "base/regions.h"

#ifdef DBOS_ASAN
#include <sanitizer/lsan_interface.h>
#endif

enum {
    REGION_BYTES = DBOS_REGION_BYTES,
    PAGE_BYTES = 64 * 1024,
    PAGES = REGION_BYTES / PAGE_BYTES,
    HEAD_BYTES = 2048,         /* of a region */
    CHARGE_BYTES = 4096,       /* what the system hands out at once */
    EXACT_BYTES_MAX = 2 * 1024 /* cells by steps of 8 bytes */
};

struct dbos_slab_page {
    struct dbos_slab_page *next; /* with a free cell of the same class */
    struct dbos_slab_page *previous;
    void *free;          /* cells that came back: each holds the next one */
    uint32_t fresh;      /* offset in the region of the first cell that was never handed out */
    uint32_t end;        /* behind the last cell */
    uint32_t charged;    /* up to which offset it is counted */
    uint32_t cell_bytes; /* 0 = the page is free */
    uint32_t live;
    uint32_t reserved;
};

struct dbos_slab_region {
    struct dbos_slab *slab;
    struct dbos_slab_region *next; /* with a free page */
    struct dbos_slab_region *previous;
    uint32_t free_pages; /* a bit each */
    bool huge;
    struct dbos_slab_page pages[PAGES];
};
static_assert(sizeof(struct dbos_slab_region) <= HEAD_BYTES, "the head fits");
static_assert(PAGES == 32, "one bit for each page");
static_assert(HEAD_BYTES % 64 == 0, "cells of page 0 begin cache lines, too");
static_assert(PAGE_BYTES - HEAD_BYTES >= DBOS_SLAB_CELL_MAX, "page 0 has room for any cell");

#define ALL_PAGES UINT32_MAX

/* -- classes --------------------------------------------------------------------------------------
 */

static uint32_t class_of(size_t size_bytes) {
    if (size_bytes <= EXACT_BYTES_MAX) {
        return size_bytes == 0 ? 1 : (uint32_t)(size_bytes + 7) / 8;
    }
    uint32_t last = (uint32_t)size_bytes - 1;
    uint32_t power = 31u - (uint32_t)__builtin_clz(last); /* 2^power <= last < 2^(power + 1) */
    uint32_t quarter = (last >> (power - 2)) & 3;
    return EXACT_BYTES_MAX / 8 + 1 + (power - 11) * 4 + quarter;
}

static uint32_t class_bytes(uint32_t class) {
    if (class <= EXACT_BYTES_MAX / 8) {
        return class * 8;
    }
    uint32_t number = class - EXACT_BYTES_MAX / 8 - 1;
    return (number % 4 + 5) << (number / 4 + 9);
}

/* -- regions --------------------------------------------------------------------------------------
 */

static void link_region(struct dbos_slab *slab, struct dbos_slab_region *region) {
    region->previous = NULL;
    region->next = slab->open;
    if (slab->open != NULL) {
        slab->open->previous = region;
    }
    slab->open = region;
}

static void unlink_region(struct dbos_slab *slab, struct dbos_slab_region *region) {
    if (region->previous != NULL) {
        region->previous->next = region->next;
    } else {
        slab->open = region->next;
    }
    if (region->next != NULL) {
        region->next->previous = region->previous;
    }
}

static size_t region_charge(const struct dbos_slab_region *region) {
    return region->huge ? REGION_BYTES
                        : CHARGE_BYTES; /* small: the head only, pages by themselves */
}

static struct dbos_slab_region *add_region(struct dbos_slab *slab) {
    bool huge = slab->first != NULL;
    size_t charge = huge ? REGION_BYTES : CHARGE_BYTES;
    if (!dbos_alloc_charge(slab->alloc, charge)) {
        return NULL;
    }
    struct dbos_slab_region *region = NULL;
    if (huge && slab->alloc->regions != NULL) {
        region = dbos_regions_take(slab->alloc->regions);
    }
    if (region == NULL && (region = dbos_region_map(huge)) == NULL) {
        dbos_alloc_discharge(slab->alloc, charge);
        return NULL;
    }
    *region = (struct dbos_slab_region){.slab = slab, .free_pages = ALL_PAGES, .huge = huge};
#ifdef DBOS_ASAN
    __lsan_register_root_region(region,
                                REGION_BYTES); /* cells may hold the only pointer to blocks */
#endif
    dbos_poison((uint8_t *)region + HEAD_BYTES, REGION_BYTES - HEAD_BYTES);
    link_region(slab, region);
    if (!huge) {
        slab->first = region;
    }
    return region;
}

static void drop_region(struct dbos_slab *slab, struct dbos_slab_region *region) {
    unlink_region(slab, region);
    dbos_alloc_discharge(slab->alloc, region_charge(region));
#ifdef DBOS_ASAN
    __lsan_unregister_root_region(region, REGION_BYTES);
#endif
    dbos_unpoison(region, REGION_BYTES);
    dbos_region_unmap(region);
}

/* The first region stays, and one more: at the seam of a region each take and give would map it. */
static void region_is_empty(struct dbos_slab *slab, struct dbos_slab_region *region) {
    if (region == slab->first) {
        return;
    }
    if (slab->spare != NULL) {
        drop_region(slab, region);
    } else {
        slab->spare = region;
    }
}

/* -- pages ----------------------------------------------------------------------------------------
 */

static struct dbos_slab_region *region_of(const void *address) {
    return (struct dbos_slab_region *)((uintptr_t)address & ~(uintptr_t)(REGION_BYTES - 1));
}

static uint32_t page_start(const struct dbos_slab_region *region,
                           const struct dbos_slab_page *page) {
    uint32_t number = (uint32_t)(page - region->pages);
    return number == 0 ? HEAD_BYTES : number * PAGE_BYTES;
}

/* Up to where a page is counted before it has any cell. */
static uint32_t uncharged_from(uint32_t start) {
    return start == HEAD_BYTES ? CHARGE_BYTES : start;
}

static void link_page(struct dbos_slab *slab, struct dbos_slab_page *page) {
    struct dbos_slab_page **head = &slab->partial[class_of(page->cell_bytes)];
    page->previous = NULL;
    page->next = *head;
    if (*head != NULL) {
        (*head)->previous = page;
    }
    *head = page;
}

static void unlink_page(struct dbos_slab *slab, struct dbos_slab_page *page) {
    if (page->previous != NULL) {
        page->previous->next = page->next;
    } else {
        slab->partial[class_of(page->cell_bytes)] = page->next;
    }
    if (page->next != NULL) {
        page->next->previous = page->previous;
    }
}

static bool page_is_full(const struct dbos_slab_page *page) {
    return page->free == NULL && page->fresh == page->end;
}

/* Let the page's next fresh cell be counted. */
static bool charge_page(struct dbos_slab *slab, struct dbos_slab_page *page) {
    uint32_t wanted = (page->fresh + page->cell_bytes + CHARGE_BYTES - 1) & ~(CHARGE_BYTES - 1u);
    if (!dbos_alloc_charge(slab->alloc, wanted - page->charged)) {
        return false;
    }
    page->charged = wanted;
    return true;
}

static struct dbos_slab_page *add_page(struct dbos_slab *slab, uint32_t class) {
    struct dbos_slab_region *region = slab->open;
    if (region == NULL && (region = add_region(slab)) == NULL) {
        return NULL;
    }
    struct dbos_slab_page *page = &region->pages[__builtin_ctz(region->free_pages)];
    uint32_t start = page_start(region, page);
    uint32_t page_end = (uint32_t)(page - region->pages + 1) * PAGE_BYTES;
    uint32_t cell_bytes = class_bytes(class);
    *page = (struct dbos_slab_page){
        .cell_bytes = cell_bytes,
        .fresh = start,
        .end = start + (page_end - start) / cell_bytes * cell_bytes,
        .charged = region->huge ? page_end : uncharged_from(start),
    };
    if (page->fresh + cell_bytes > page->charged && !charge_page(slab, page)) {
        page->cell_bytes = 0;
        return NULL;
    }
    region->free_pages &= ~(UINT32_C(1) << (page - region->pages));
    if (region->free_pages == 0) {
        unlink_region(slab, region);
    }
    if (region == slab->spare) {
        slab->spare = NULL;
    }
    link_page(slab, page);
    return page;
}

/* The page has no cell left, and is in no list. */
static void free_page(struct dbos_slab *slab, struct dbos_slab_region *region,
                      struct dbos_slab_page *page) {
    uint32_t start = page_start(region, page);
    if (!region->huge) {
        dbos_alloc_discharge(slab->alloc, page->charged - uncharged_from(start));
    }
    page->cell_bytes = 0;
    if (region->free_pages == 0) {
        link_region(slab, region);
    }
    region->free_pages |= UINT32_C(1) << (page - region->pages);
    if (region->free_pages == ALL_PAGES) {
        region_is_empty(slab, region);
    }
}

/* -- cells ----------------------------------------------------------------------------------------
 */

void dbos_slab_init(struct dbos_slab *slab, struct dbos_alloc *alloc) {
    *slab = (struct dbos_slab){.alloc = alloc};
}

void dbos_slab_fini(struct dbos_slab *slab) {
    DBOS_CHECK(slab->live == 0);
    while (slab->open != NULL) { /* without a cell all regions are here */
        drop_region(slab, slab->open);
    }
    *slab = (struct dbos_slab){.alloc = slab->alloc};
}

static bool is_large(size_t size_bytes) { return size_bytes > DBOS_SLAB_CELL_MAX - DBOS_RED_ZONE; }

static void *pop_cell(struct dbos_slab *slab, struct dbos_slab_page *page) {
    void *cell = page->free;
    if (cell != NULL) {
        dbos_unpoison(cell, sizeof(void *));
        memcpy(&page->free, cell, sizeof page->free);
        dbos_poison(cell, sizeof(void *));
    } else {
        if (page->fresh + page->cell_bytes > page->charged && !charge_page(slab, page)) {
            return NULL;
        }
        cell = (uint8_t *)region_of(page) + page->fresh;
        page->fresh += page->cell_bytes;
    }
    page->live++;
    slab->live++;
    if (page_is_full(page)) {
        unlink_page(slab, page);
    }
    return cell;
}

void *dbos_slab_take(struct dbos_slab *slab, size_t size_bytes) {
    if (is_large(size_bytes)) {
        return dbos_take(slab->alloc, size_bytes);
    }
    if (dbos_alloc_fails(slab->alloc)) {
        return NULL;
    }
    uint32_t class = class_of(size_bytes + DBOS_RED_ZONE);
    struct dbos_slab_page *page = slab->partial[class];
    if (page == NULL && (page = add_page(slab, class)) == NULL) {
        return NULL;
    }
    void *cell = pop_cell(slab, page);
    if (cell != NULL) {
        dbos_unpoison(cell, size_bytes);
    }
    return cell;
}

void *dbos_slab_take_zero(struct dbos_slab *slab, size_t size_bytes) {
    void *block = dbos_slab_take(slab, size_bytes);
    if (block != NULL) {
        memset(block, 0, size_bytes);
    }
    return block;
}

void dbos_slab_give(struct dbos_slab *slab, void *block, size_t size_bytes) {
    if (block == NULL) {
        return;
    }
    if (is_large(size_bytes)) {
        dbos_give(slab->alloc, block);
        return;
    }
    struct dbos_slab_region *region = region_of(block);
    struct dbos_slab_page *page = &region->pages[(uintptr_t)block % REGION_BYTES / PAGE_BYTES];
    DBOS_CHECK(region->slab == slab);
    DBOS_CHECK(page->cell_bytes == class_bytes(class_of(size_bytes + DBOS_RED_ZONE)));
    DBOS_CHECK(page->live != 0);
    bool was_full = page_is_full(page);
    dbos_unpoison(block, sizeof(void *));
    memcpy(block, &page->free, sizeof page->free);
    dbos_poison(block, page->cell_bytes);
    page->free = block;
    page->live--;
    slab->live--;
    if (page->live == 0) {
        if (!was_full) {
            unlink_page(slab, page);
        }
        free_page(slab, region, page);
    } else if (was_full) {
        link_page(slab, page);
    }
}

/* -- checks ---------------------------------------------------------------------------------------
 */

static bool page_is_consistent(const struct dbos_slab_page *page) {
    const struct dbos_slab_region *region = region_of(page);
    uint32_t start = page_start(region, page);
    uint32_t ever = (page->fresh - start) / page->cell_bytes;
    bool in_use = (region->free_pages >> (page - region->pages) & 1) == 0;
    return in_use && page->live != 0 && page->live <= ever && page->fresh <= page->end &&
           page->fresh <= page->charged && !page_is_full(page) &&
           (page->fresh - start) % page->cell_bytes == 0 &&
           (page->free != NULL) == (page->live < ever);
}

bool dbos_slab_consistent(const struct dbos_slab *slab) {
    for (uint32_t class = 0; class < DBOS_SLAB_CLASSES; class ++) {
        const struct dbos_slab_page *previous = NULL;
        for (const struct dbos_slab_page *page = slab->partial[class]; page != NULL;
             page = page->next) {
            if (page->previous != previous || page->cell_bytes != class_bytes(class) ||
                region_of(page)->slab != slab || !page_is_consistent(page)) {
                return false;
            }
            previous = page;
        }
    }
    const struct dbos_slab_region *previous = NULL;
    for (const struct dbos_slab_region *region = slab->open; region != NULL;
         region = region->next) {
        bool empty = region->free_pages == ALL_PAGES;
        if (region->previous != previous || region->free_pages == 0 ||
            (empty && region != slab->first && region != slab->spare)) {
            return false;
        }
        previous = region;
    }
    return true;
}
