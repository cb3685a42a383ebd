/* Memory: the allocator that constructors take, and the arena for things that die together.
 *
 * Every constructor takes a `struct dbos_alloc *` first; nothing else calls malloc. An allocator
 * counts what it holds, so that dbos.memory can show it and a test can ask for a zero balance.
 * One arena for each lifetime (statement, transaction, request, plan): reset beats free.
 *
 * Thread: an allocator may be used by any thread (counts are atomic); an arena by one at a time.
 * Memory: blocks come from the system allocator; ASan sees each arena chunk poisoned when free. */
#ifndef DBOS_BASE_ALLOC_H
#define DBOS_BASE_ALLOC_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/err.h"
#include "base/poison.h"

struct dbos_regions;

struct dbos_alloc {
    const char *name;       /* as dbos.memory shows it; borrowed, static */
    _Atomic uint64_t bytes; /* held now */
    uint64_t bytes_max;     /* 0 = no limit; past it dbos_take() returns NULL */
    /* What this one holds is held by that one, too, which also limits it and makes it fail; NULL =
     * none. Borrowed. */
    struct dbos_alloc *parent;
    struct dbos_regions *regions; /* where slabs find regions that are ready; NULL = nowhere */
    /* For tests: n > 0 makes the n-th take from now fail once; 0 = off. */
    _Atomic int64_t fail_countdown;
};

void dbos_alloc_init(struct dbos_alloc *alloc, const char *name, uint64_t bytes_max);
/* A part of `parent` whose bytes are also known apart. */
void dbos_alloc_init_part(struct dbos_alloc *alloc, const char *name, struct dbos_alloc *parent);
/* Balance must be zero: aborts otherwise (a leak is a bug). */
void dbos_alloc_fini(struct dbos_alloc *alloc);

/* Take `size_bytes` (16-byte aligned, not cleared). NULL when out of memory or past the limit. */
void *dbos_take(struct dbos_alloc *alloc, size_t size_bytes) DBOS_MUST_USE;
/* Same, cleared. */
void *dbos_take_zero(struct dbos_alloc *alloc, size_t size_bytes) DBOS_MUST_USE;
/* Resize; on NULL the old block is still valid. `block` may be NULL. */
void *dbos_retake(struct dbos_alloc *alloc, void *block, size_t size_bytes) DBOS_MUST_USE;
/* Give back. NULL is allowed. */
void dbos_give(struct dbos_alloc *alloc, void *block);

/* A bump arena. Memory of the caller; chunks from `alloc`. */
struct dbos_arena_chunk;
struct dbos_arena {
    struct dbos_alloc *alloc;
    struct dbos_arena_chunk *first; /* chunks in use; kept over reset */
    struct dbos_arena_chunk *current;
    uint8_t *next;
    uint8_t *end;
    size_t chunk_bytes;
    size_t used_bytes; /* handed out since the last reset */
};

enum { DBOS_ARENA_CHUNK_BYTES = 16 * 1024 };
/* `chunk_bytes` is the size of one chunk; 0 takes the default. Allocates nothing yet. */
void dbos_arena_init(struct dbos_arena *arena, struct dbos_alloc *alloc, size_t chunk_bytes);
void dbos_arena_fini(struct dbos_arena *arena);
/* Everything taken is dead; one chunk is kept, so that a warm arena does not allocate. */
void dbos_arena_reset(struct dbos_arena *arena);
/* One chunk more, with room for `wanted_bytes`; false: out of memory. For dbos_arena_take(). */
bool dbos_arena_grow(struct dbos_arena *arena, size_t wanted_bytes) DBOS_MUST_USE;
/* 16-byte aligned, not cleared; NULL when out of memory. */
static inline DBOS_MUST_USE void *dbos_arena_take(struct dbos_arena *arena, size_t size_bytes) {
    if (size_bytes > SIZE_MAX / 4) {
        return NULL;
    }
    /* Never zero bytes: an arena without a chunk would return NULL, which means out of memory. */
    size_t rounded = size_bytes == 0 ? 16 : (size_bytes + 15) & ~(size_t)15;
    rounded += DBOS_RED_ZONE;
    if ((size_t)(arena->end - arena->next) < rounded && !dbos_arena_grow(arena, rounded)) {
        return NULL;
    }
    void *block = arena->next;
    arena->next += rounded;
    arena->used_bytes += rounded;
    dbos_unpoison(block, size_bytes);
    return block;
}
static inline DBOS_MUST_USE void *dbos_arena_take_zero(struct dbos_arena *arena,
                                                       size_t size_bytes) {
    void *block = dbos_arena_take(arena, size_bytes);
    if (block != NULL) {
        memset(block, 0, size_bytes);
    }
    return block;
}
/* Copies with a terminating NUL byte after `size_bytes`. */
char *dbos_arena_copy(struct dbos_arena *arena, const void *data, size_t size_bytes) DBOS_MUST_USE;

#endif /* DBOS_BASE_ALLOC_H */
