/* A map from 64-bit ids to 32-bit numbers: sessions and statements that the archiver knows.
 *
 * Open addressing, linear probing, at most half full. Ids are never removed.
 *
 * Thread: one at a time. Memory: one block from the allocator. */
#ifndef DBOS_PROVENANCE_IDMAP_H
#define DBOS_PROVENANCE_IDMAP_H

#include "base/alloc.h"

struct dbos_idmap_slot {
    uint64_t id;
    uint32_t value;
    uint32_t used;
};
struct dbos_idmap {
    struct dbos_alloc *alloc;
    struct dbos_idmap_slot *slots;
    uint64_t capacity; /* a power of two, or 0 */
    uint64_t count;
};

void dbos_idmap_init(struct dbos_idmap *map, struct dbos_alloc *alloc);
void dbos_idmap_fini(struct dbos_idmap *map);
/* The value of an id, or NULL. Valid until the next put. */
uint32_t *dbos_idmap_find(const struct dbos_idmap *map, uint64_t id);
/* Set the value of an id. Errors: NOMEM. */
enum dbos_err dbos_idmap_put(struct dbos_idmap *map, uint64_t id, uint32_t value) DBOS_MUST_USE;

#endif /* DBOS_PROVENANCE_IDMAP_H */
