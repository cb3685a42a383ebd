/* Cells: small blocks of many sizes for one owner, dense in memory that is mapped in regions.
 *
 * A cell has no head and costs its size, rounded up to 8 bytes (beyond 2 KiB to a fifth more at
 * most). Cells of one size share a page; a page with no cell left may serve another size, and a
 * region with no page left goes back to the system, but for one. So memory follows what is live.
 * From the second region on regions are huge pages, where the system has them: a table of many rows
 * costs a TLB entry for each 2 MiB of it. A block of more than DBOS_SLAB_CELL_MAX comes from the
 * allocator below.
 *
 *      region, 2 MiB, aligned
 *      +------+----------+----------+----------+--   --+----------+
 *      | head | page 0   | page 1   | page 2   |  ...  | page 31  |     64 KiB each
 *      |      | 48 48 48 | 48 48 48 | 64 64 64 |       | (free)   |
 *      +------+----------+----------+----------+--   --+----------+
 *
 * The allocator below counts what is in use of the pages, in steps of the machine's pages; a huge
 * region as a whole. A take counts as one of its takes (fail_countdown, bytes_max).
 *
 * Thread: one at a time. Memory: mapped by the slab, counted by the allocator given at init. */
#ifndef DBOS_BASE_SLAB_H
#define DBOS_BASE_SLAB_H

#include "base/alloc.h"

enum {
    DBOS_SLAB_CELL_MAX = 32 * 1024,
    DBOS_SLAB_CLASSES = 1 + 256 + 4 * 4, /* up to 2 KiB by 8 bytes; then four to each doubling */
};

struct dbos_slab_page;
struct dbos_slab_region;

struct dbos_slab {
    struct dbos_alloc *alloc;
    struct dbos_slab_region *open;  /* regions with a free page */
    struct dbos_slab_region *first; /* stays until the end: small pages, for small owners */
    struct dbos_slab_region *spare; /* the one that is kept though it is empty, or NULL */
    uint64_t live;                  /* cells handed out */
    struct dbos_slab_page *partial[DBOS_SLAB_CLASSES]; /* pages with a free cell */
};

void dbos_slab_init(struct dbos_slab *slab, struct dbos_alloc *alloc);
/* All cells must have been given back: aborts otherwise (a leak is a bug). */
void dbos_slab_fini(struct dbos_slab *slab);

/* Not cleared, 8-byte aligned; a cell whose size is a multiple of 64 begins a cache line. NULL when
 * out of memory or past the allocator's limit. */
void *dbos_slab_take(struct dbos_slab *slab, size_t size_bytes) DBOS_MUST_USE;
void *dbos_slab_take_zero(struct dbos_slab *slab, size_t size_bytes) DBOS_MUST_USE;
/* `size_bytes` is what was asked for. NULL is allowed. */
void dbos_slab_give(struct dbos_slab *slab, void *block, size_t size_bytes);

/* O(pages): counts, lists and bounds agree. */
bool dbos_slab_consistent(const struct dbos_slab *slab);

#endif /* DBOS_BASE_SLAB_H */
