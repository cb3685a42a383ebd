#include "base/alloc.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc_internal.h"

/* Each block is preceded by its size, so that giving back needs no size from the caller. */
struct block_head {
    size_t size_bytes;
    size_t reserved;
};
static_assert(sizeof(struct block_head) == 16, "keeps blocks 16-byte aligned");

void dbos_alloc_init(struct dbos_alloc *alloc, const char *name, uint64_t bytes_max) {
    alloc->name = name;
    atomic_init(&alloc->bytes, 0);
    alloc->bytes_max = bytes_max;
    alloc->parent = NULL;
    alloc->regions = NULL;
    atomic_init(&alloc->fail_countdown, 0);
}

void dbos_alloc_init_part(struct dbos_alloc *alloc, const char *name, struct dbos_alloc *parent) {
    dbos_alloc_init(alloc, name, 0);
    alloc->parent = parent;
    alloc->regions = parent->regions;
}

void dbos_alloc_fini(struct dbos_alloc *alloc) { DBOS_CHECK(atomic_load(&alloc->bytes) == 0); }

bool dbos_alloc_charge(struct dbos_alloc *alloc, size_t size_bytes) {
    uint64_t held = atomic_fetch_add_explicit(&alloc->bytes, size_bytes, memory_order_relaxed);
    bool fits = alloc->bytes_max == 0 || held + size_bytes <= alloc->bytes_max;
    if (fits && (alloc->parent == NULL || dbos_alloc_charge(alloc->parent, size_bytes))) {
        return true;
    }
    atomic_fetch_sub_explicit(&alloc->bytes, size_bytes, memory_order_relaxed);
    return false;
}

void dbos_alloc_discharge(struct dbos_alloc *alloc, size_t size_bytes) {
    for (; alloc != NULL; alloc = alloc->parent) {
        uint64_t held = atomic_fetch_sub_explicit(&alloc->bytes, size_bytes, memory_order_relaxed);
        DBOS_CHECK(held >= size_bytes);
    }
}

void *dbos_take(struct dbos_alloc *alloc, size_t size_bytes) {
    if (dbos_alloc_fails(alloc) || size_bytes > SIZE_MAX / 2 ||
        !dbos_alloc_charge(alloc, size_bytes)) {
        return NULL;
    }
    struct block_head *head = malloc(sizeof *head + size_bytes);
    if (head == NULL) {
        dbos_alloc_discharge(alloc, size_bytes);
        return NULL;
    }
    head->size_bytes = size_bytes;
    return head + 1;
}

void *dbos_take_zero(struct dbos_alloc *alloc, size_t size_bytes) {
    void *block = dbos_take(alloc, size_bytes);
    if (block != NULL) {
        memset(block, 0, size_bytes);
    }
    return block;
}

void *dbos_retake(struct dbos_alloc *alloc, void *block, size_t size_bytes) {
    if (block == NULL) {
        return dbos_take(alloc, size_bytes);
    }
    struct block_head *head = (struct block_head *)block - 1;
    size_t old_bytes = head->size_bytes;
    size_t growth = size_bytes > old_bytes ? size_bytes - old_bytes : 0;
    if (dbos_alloc_fails(alloc) || size_bytes > SIZE_MAX / 2 || !dbos_alloc_charge(alloc, growth)) {
        return NULL;
    }
    struct block_head *moved = realloc(head, sizeof *head + size_bytes);
    if (moved == NULL) {
        dbos_alloc_discharge(alloc, growth);
        return NULL;
    }
    if (size_bytes < old_bytes) {
        dbos_alloc_discharge(alloc, old_bytes - size_bytes);
    }
    moved->size_bytes = size_bytes;
    return moved + 1;
}

void dbos_give(struct dbos_alloc *alloc, void *block) {
    if (block == NULL) {
        return;
    }
    struct block_head *head = (struct block_head *)block - 1;
    dbos_alloc_discharge(alloc, head->size_bytes);
    free(head);
}

struct dbos_arena_chunk {
    struct dbos_arena_chunk *next;
    size_t size_bytes; /* of data */
    _Alignas(16) uint8_t data[];
};

void dbos_arena_init(struct dbos_arena *arena, struct dbos_alloc *alloc, size_t chunk_bytes) {
    *arena = (struct dbos_arena){
        .alloc = alloc,
        .chunk_bytes = chunk_bytes == 0 ? DBOS_ARENA_CHUNK_BYTES : chunk_bytes,
    };
}

static void give_chunks(struct dbos_arena *arena, struct dbos_arena_chunk *chunk) {
    while (chunk != NULL) {
        struct dbos_arena_chunk *next = chunk->next;
        dbos_unpoison(chunk->data, chunk->size_bytes);
        dbos_give(arena->alloc, chunk);
        chunk = next;
    }
}

void dbos_arena_fini(struct dbos_arena *arena) {
    give_chunks(arena, arena->first);
    arena->first = arena->current = NULL;
    arena->next = arena->end = NULL;
    arena->used_bytes = 0;
}

static void enter_chunk(struct dbos_arena *arena, struct dbos_arena_chunk *chunk) {
    arena->current = chunk;
    arena->next = chunk->data;
    arena->end = chunk->data + chunk->size_bytes;
    dbos_poison(chunk->data, chunk->size_bytes);
}

void dbos_arena_reset(struct dbos_arena *arena) {
    arena->used_bytes = 0;
    if (arena->first == NULL) {
        return;
    }
    give_chunks(arena, arena->first->next);
    arena->first->next = NULL;
    if (arena->first->size_bytes > arena->chunk_bytes) { /* a giant is not kept */
        dbos_arena_fini(arena);
        return;
    }
    enter_chunk(arena, arena->first);
}

bool dbos_arena_grow(struct dbos_arena *arena, size_t wanted_bytes) {
    size_t size_bytes = wanted_bytes > arena->chunk_bytes ? wanted_bytes : arena->chunk_bytes;
    struct dbos_arena_chunk *chunk = dbos_take(arena->alloc, sizeof *chunk + size_bytes);
    if (chunk == NULL) {
        return false;
    }
    chunk->next = NULL;
    chunk->size_bytes = size_bytes;
    if (arena->current == NULL) {
        arena->first = chunk;
    } else {
        arena->current->next = chunk;
    }
    enter_chunk(arena, chunk);
    return true;
}

char *dbos_arena_copy(struct dbos_arena *arena, const void *data, size_t size_bytes) {
    char *copy = size_bytes == SIZE_MAX ? NULL : dbos_arena_take(arena, size_bytes + 1);
    if (copy != NULL) {
        if (size_bytes != 0) {
            memcpy(copy, data, size_bytes);
        }
        copy[size_bytes] = '\0';
    }
    return copy;
}
