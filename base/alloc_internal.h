/* What the allocators of this folder share: counting, injected failures, ASan's poison.
 *
 * Thread: as base/alloc.h. Memory: none. */
#ifndef DBOS_BASE_ALLOC_INTERNAL_H
#define DBOS_BASE_ALLOC_INTERNAL_H

#include "base/alloc.h"

#if defined(__SANITIZE_ADDRESS__)
#define DBOS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DBOS_ASAN 1
#endif
#endif
#ifdef DBOS_ASAN
#include <sanitizer/asan_interface.h>
#define DBOS_POISON(p, n)   ASAN_POISON_MEMORY_REGION((p), (n))
#define DBOS_UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
enum { DBOS_RED_ZONE = 16 };
#else
#define DBOS_POISON(p, n)   ((void)(p), (void)(n))
#define DBOS_UNPOISON(p, n) ((void)(p), (void)(n))
enum { DBOS_RED_ZONE = 0 };
#endif

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
