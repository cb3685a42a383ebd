/* Regions: 2 MiB of memory each, mapped, aligned and touched by a thread ahead of whoever needs
 * one.
 *
 * The first touch of fresh memory is the system's work: it finds a page and clears it, which takes
 * milliseconds for a huge page where a virtual machine must ask its host. A partition thread that
 * needs room for rows would stand still for as long. One that takes a region here does not; where
 * none is ready it maps its own, as it would without this.
 *
 * Nothing is held before the first take: a node with small tables has none of it.
 *
 * Thread: any may take. Memory: regions that are ready are counted by the allocator given at open;
 * one that was taken is the taker's, to unmap. */
#ifndef DBOS_BASE_REGIONS_H
#define DBOS_BASE_REGIONS_H

#include "base/alloc.h"

enum {
    DBOS_REGION_BYTES = 2 * 1024 * 1024, /* also their alignment */
    DBOS_REGIONS_READY = 4,
};

struct dbos_regions;

/* Starts the thread. Errors: NOMEM (also for the thread). */
enum dbos_err dbos_regions_open(struct dbos_alloc *alloc, struct dbos_regions **out) DBOS_MUST_USE;
/* Ends the thread and unmaps what was not taken. NULL is allowed. */
void dbos_regions_close(struct dbos_regions *regions);
/* All zeroes, a huge page where the system has them; NULL: none is ready. */
void *dbos_regions_take(struct dbos_regions *regions) DBOS_MUST_USE;
/* A region that is mapped now, for the caller alone, and not touched; NULL: out of memory. */
void *dbos_region_map(bool huge) DBOS_MUST_USE;
void dbos_region_unmap(void *region);

#endif /* DBOS_BASE_REGIONS_H */
