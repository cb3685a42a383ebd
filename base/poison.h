/* Memory that is held and not in use: AddressSanitizer is told, so that a use of it is found. In
 * other builds nothing happens.
 *
 * Thread: the memory's owner. Memory: none. */
#ifndef DBOS_BASE_POISON_H
#define DBOS_BASE_POISON_H

#include <stddef.h>

#if defined(__SANITIZE_ADDRESS__)
#define DBOS_POISON_BY_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DBOS_POISON_BY_ASAN 1
#endif
#endif

#ifdef DBOS_POISON_BY_ASAN
#include <sanitizer/asan_interface.h>
enum { DBOS_POISONS = 1 };   /* there is somebody who looks */
enum { DBOS_RED_ZONE = 16 }; /* bytes that an arena leaves between two blocks */
static inline void dbos_poison(void *memory, size_t size_bytes) {
    ASAN_POISON_MEMORY_REGION(memory, size_bytes);
}
static inline void dbos_unpoison(void *memory, size_t size_bytes) {
    ASAN_UNPOISON_MEMORY_REGION(memory, size_bytes);
}
#else
enum { DBOS_POISONS = 0 };
enum { DBOS_RED_ZONE = 0 };
static inline void dbos_poison(void *memory, size_t size_bytes) {
    (void)memory;
    (void)size_bytes;
}
static inline void dbos_unpoison(void *memory, size_t size_bytes) {
    (void)memory;
    (void)size_bytes;
}
#endif

#endif /* DBOS_BASE_POISON_H */
