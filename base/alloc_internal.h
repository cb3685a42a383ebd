/* What the allocators of this folder share: counting and injected failures.
 *
 * Thread: as base/alloc.h. Memory: none. */
#ifndef DBOS_BASE_ALLOC_INTERNAL_H
#define DBOS_BASE_ALLOC_INTERNAL_H

#include "base/alloc.h"
#include "base/poison.h"

/* The take that a test asked to fail, here or above. */
static inline bool dbos_alloc_fails(struct dbos_alloc *alloc) {
    for (; alloc != NULL; alloc = alloc->parent) {
        if (atomic_load_explicit(&alloc->fail_countdown, memory_order_relaxed) > 0) {
            return atomic_fetch_sub(&alloc->fail_countdown, 1) == 1;
        }
    }
    return false;
}

/* Count bytes as held, here and above; false past a limit, and nothing is counted. */
bool dbos_alloc_charge(struct dbos_alloc *alloc, size_t size_bytes) DBOS_MUST_USE;
void dbos_alloc_discharge(struct dbos_alloc *alloc, size_t size_bytes);

#endif /* DBOS_BASE_ALLOC_INTERNAL_H */
