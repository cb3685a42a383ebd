/* Values to entries: a hash table over key bytes, which are equal where the values are. */
#include "procs/sql/run.h"

enum { BUCKETS_MIN = 64 };

void dbos_groups_init(struct dbos_groups *groups, struct dbos_arena *arena) {
    *groups = (struct dbos_groups){.arena = arena};
    dbos_buf_init(&groups->key, arena->alloc);
}

void dbos_groups_fini(struct dbos_groups *groups) { dbos_buf_fini(&groups->key); }

enum dbos_err dbos_datum_keep(struct dbos_arena *arena, const struct dbos_datum *from,
                              struct dbos_datum *out) {
    *out = *from;
    if (from->is_null || from->object != NULL || !dbos_type_is_bytes((enum dbos_type)from->type)) {
        return DBOS_OK;
    }
    const char *copy =
        dbos_arena_copy(arena, from->bytes.size_bytes == 0 ? (const uint8_t *)"" : from->bytes.data,
                        from->bytes.size_bytes);
    out->bytes.data = (const uint8_t *)copy;
    return copy == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
}

/* Twice the buckets when they are full; old tables stay in the arena (half as much in all). */
static enum dbos_err grow(struct dbos_groups *groups) {
    if (groups->count < groups->bucket_count) {
        return DBOS_OK;
    }
    uint32_t count = groups->bucket_count == 0 ? BUCKETS_MIN : groups->bucket_count * 2;
    struct dbos_group **buckets =
        dbos_arena_take_zero(groups->arena, count * sizeof(struct dbos_group *));
    if (buckets == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (struct dbos_group *group = groups->first; group != NULL; group = group->next) {
        struct dbos_group **bucket = &buckets[group->hash & (count - 1)];
        group->chain = *bucket;
        *bucket = group;
    }
    groups->buckets = buckets;
    groups->bucket_count = count;
    return DBOS_OK;
}

static struct dbos_group *look_up(const struct dbos_groups *groups, uint64_t hash) {
    struct dbos_group *group = groups->buckets[hash & (groups->bucket_count - 1)];
    while (group != NULL &&
           (group->hash != hash || group->key.size_bytes != groups->key.size_bytes ||
            memcmp(group->key.data, groups->key.data, groups->key.size_bytes) != 0)) {
        group = group->chain;
    }
    return group;
}

static struct dbos_group *add(struct dbos_groups *groups, uint64_t hash,
                              const struct dbos_datum *values, uint32_t count) {
    struct dbos_group *group = dbos_arena_take_zero(groups->arena, sizeof *group);
    struct dbos_datum *copies =
        dbos_arena_take(groups->arena, (count + 1) * sizeof(struct dbos_datum));
    const char *key = dbos_arena_copy(groups->arena, groups->key.data, groups->key.size_bytes);
    if (group == NULL || copies == NULL || key == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (dbos_datum_keep(groups->arena, &values[i], &copies[i]) != DBOS_OK) {
            return NULL;
        }
    }
    group->hash = hash;
    group->key =
        (struct dbos_bytes){.data = (const uint8_t *)key, .size_bytes = groups->key.size_bytes};
    group->values = copies;
    struct dbos_group **bucket = &groups->buckets[hash & (groups->bucket_count - 1)];
    group->chain = *bucket;
    *bucket = group;
    if (groups->last == NULL) {
        groups->first = group;
    } else {
        groups->last->next = group;
    }
    groups->last = group;
    groups->count++;
    return group;
}

enum dbos_err dbos_groups_get(struct dbos_groups *groups, const struct dbos_datum *values,
                              uint32_t count, struct dbos_group **out, bool *is_new) {
    *out = NULL;
    *is_new = false;
    dbos_buf_reset(&groups->key);
    dbos_buf_put_u8(&groups->key, 1); /* never empty */
    for (uint32_t i = 0; i < count; i++) {
        dbos_datum_put_key(&groups->key, &values[i]);
    }
    if (groups->key.failed || grow(groups) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    uint64_t hash = dbos_hash64(0, groups->key.data, groups->key.size_bytes);
    *out = look_up(groups, hash);
    if (*out == NULL) {
        *out = add(groups, hash, values, count);
        *is_new = true;
    }
    return *out == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
}
