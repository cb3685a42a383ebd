#include "provenance/idmap.h"

#include "base/hash.h"

void dbos_idmap_init(struct dbos_idmap *map, struct dbos_alloc *alloc) {
    *map = (struct dbos_idmap){.alloc = alloc};
}

void dbos_idmap_fini(struct dbos_idmap *map) {
    dbos_give(map->alloc, map->slots);
    map->slots = NULL;
    map->capacity = 0;
    map->count = 0;
}

/* The slot that has the id, or the free one where it belongs. */
static struct dbos_idmap_slot *slot_of(const struct dbos_idmap *map, uint64_t id) {
    uint64_t at = dbos_mix64(id) & (map->capacity - 1);
    while (map->slots[at].used && map->slots[at].id != id) {
        at = (at + 1) & (map->capacity - 1);
    }
    return &map->slots[at];
}

uint32_t *dbos_idmap_find(const struct dbos_idmap *map, uint64_t id) {
    if (map->capacity == 0) {
        return NULL;
    }
    struct dbos_idmap_slot *slot = slot_of(map, id);
    return slot->used ? &slot->value : NULL;
}

static enum dbos_err grow(struct dbos_idmap *map) {
    struct dbos_idmap larger = {.alloc = map->alloc, .count = map->count};
    larger.capacity = map->capacity == 0 ? 64 : map->capacity * 2;
    larger.slots = dbos_take_zero(map->alloc, larger.capacity * sizeof *larger.slots);
    if (larger.slots == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint64_t i = 0; i < map->capacity; i++) {
        if (map->slots[i].used) {
            *slot_of(&larger, map->slots[i].id) = map->slots[i];
        }
    }
    dbos_give(map->alloc, map->slots);
    *map = larger;
    return DBOS_OK;
}

enum dbos_err dbos_idmap_put(struct dbos_idmap *map, uint64_t id, uint32_t value) {
    if (2 * (map->count + 1) > map->capacity && grow(map) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_idmap_slot *slot = slot_of(map, id);
    map->count += slot->used ? 0 : 1;
    *slot = (struct dbos_idmap_slot){.id = id, .value = value, .used = 1};
    return DBOS_OK;
}
