#include "storage/object.h"

#include <pthread.h>
#include <string.h>

/* The store is divided into shards by bits of the identity, each a chained hash table under its own
 * mutex. Invariant: an object in a shard has refs >= 1 whenever the shard's mutex is free. So find
 * may add a reference under the mutex, and the last unref takes the mutex before it drops to zero.
 */
enum { SHARDS = 64, BUCKETS_FIRST = 16 };

struct shard {
    _Alignas(64) pthread_mutex_t mutex;
    struct dbos_object **buckets;
    uint64_t bucket_count; /* a power of two */
    uint64_t object_count;
};

struct dbos_objects {
    struct dbos_alloc *alloc;
    uint64_t seed;
    struct shard *shards; /* SHARDS of them, aligned inside `block` */
    void *block;
};

static struct shard *shard_of(struct dbos_objects *store, const struct dbos_object_id *id) {
    return &store->shards[id->hash.high % SHARDS];
}

static bool same_id(const struct dbos_object_id *a, const struct dbos_object_id *b) {
    return a->hash.high == b->hash.high && a->hash.low == b->hash.low &&
           a->size_bytes == b->size_bytes;
}

enum dbos_err dbos_objects_open(struct dbos_alloc *alloc, uint64_t seed,
                                struct dbos_objects **out) {
    *out = NULL;
    struct dbos_objects *store = dbos_take_zero(alloc, sizeof *store);
    if (store == NULL) {
        return DBOS_ERR_NOMEM;
    }
    store->alloc = alloc;
    store->seed = seed;
    store->block = dbos_take_zero(alloc, (SHARDS + 1) * sizeof(struct shard));
    if (store->block == NULL) {
        dbos_give(alloc, store);
        return DBOS_ERR_NOMEM;
    }
    uintptr_t aligned = ((uintptr_t)store->block + 63) & ~(uintptr_t)63;
    store->shards = (struct shard *)aligned;
    for (uint32_t i = 0; i < SHARDS; i++) {
        DBOS_CHECK(pthread_mutex_init(&store->shards[i].mutex, NULL) == 0);
    }
    *out = store;
    return DBOS_OK;
}

void dbos_objects_close(struct dbos_objects *store) {
    if (store == NULL) {
        return;
    }
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &store->shards[i];
        DBOS_CHECK(shard->object_count == 0);
        dbos_give(store->alloc, shard->buckets);
        DBOS_CHECK(pthread_mutex_destroy(&shard->mutex) == 0);
    }
    dbos_give(store->alloc, store->block);
    dbos_give(store->alloc, store);
}

static void lock(struct shard *shard) { DBOS_CHECK(pthread_mutex_lock(&shard->mutex) == 0); }
static void unlock(struct shard *shard) { DBOS_CHECK(pthread_mutex_unlock(&shard->mutex) == 0); }

static struct dbos_object **bucket_of(const struct shard *shard, const struct dbos_object_id *id) {
    return &shard->buckets[id->hash.low & (shard->bucket_count - 1)];
}

/* Under the shard's mutex. */
static struct dbos_object *find_and_ref(const struct shard *shard,
                                        const struct dbos_object_id *id) {
    if (shard->bucket_count == 0) {
        return NULL;
    }
    struct dbos_object *object = *bucket_of(shard, id);
    while (object != NULL && !same_id(&object->id, id)) {
        object = object->next;
    }
    return object == NULL ? NULL : dbos_object_ref(object);
}

/* Doubles the buckets when they are full. Without memory the chains get longer instead; only the
 * first buckets must be there. */
static bool make_room(struct dbos_objects *store, struct shard *shard) {
    if (shard->object_count < shard->bucket_count) {
        return true;
    }
    uint64_t count = shard->bucket_count == 0 ? BUCKETS_FIRST : shard->bucket_count * 2;
    struct dbos_object **buckets = dbos_take_zero(store->alloc, count * sizeof *buckets);
    if (buckets == NULL) {
        return shard->bucket_count != 0;
    }
    for (uint64_t i = 0; i < shard->bucket_count; i++) {
        struct dbos_object *object = shard->buckets[i];
        while (object != NULL) {
            struct dbos_object *next = object->next;
            struct dbos_object **to = &buckets[object->id.hash.low & (count - 1)];
            object->next = *to;
            *to = object;
            object = next;
        }
    }
    dbos_give(store->alloc, shard->buckets);
    shard->buckets = buckets;
    shard->bucket_count = count;
    return true;
}

struct dbos_object_id dbos_object_identify(const struct dbos_objects *store, const void *data,
                                           size_t size_bytes) {
    DBOS_CHECK(size_bytes <= UINT32_MAX);
    return (struct dbos_object_id){
        .hash = dbos_hash128(store->seed, data, size_bytes),
        .size_bytes = (uint32_t)size_bytes,
    };
}

/* Puts `fresh` in, unless another thread has made an equal one meanwhile: that one then. */
static struct dbos_object *publish(struct dbos_objects *store, struct dbos_object *fresh) {
    struct shard *shard = shard_of(store, &fresh->id);
    lock(shard);
    struct dbos_object *object = find_and_ref(shard, &fresh->id);
    if (object == NULL && make_room(store, shard)) {
        struct dbos_object **bucket = bucket_of(shard, &fresh->id);
        fresh->next = *bucket;
        *bucket = fresh;
        shard->object_count++;
        object = fresh;
    }
    unlock(shard);
    return object;
}

enum dbos_err dbos_object_make(struct dbos_objects *store, const void *data, size_t size_bytes,
                               struct dbos_object **out) {
    struct dbos_object_id id = dbos_object_identify(store, data, size_bytes);
    *out = dbos_object_find(store, &id);
    if (*out != NULL) {
        DBOS_DEBUG_CHECK(size_bytes == 0 || memcmp((*out)->data, data, size_bytes) == 0);
        return DBOS_OK;
    }
    struct dbos_object *fresh = dbos_take(store->alloc, sizeof *fresh + size_bytes);
    if (fresh == NULL) {
        return DBOS_ERR_NOMEM;
    }
    *fresh = (struct dbos_object){.store = store, .id = id};
    atomic_init(&fresh->refs, 1);
    if (size_bytes != 0) {
        memcpy(fresh->data, data, size_bytes);
    }
    *out = publish(store, fresh);
    if (*out != fresh) {
        dbos_give(store->alloc, fresh);
    }
    return *out == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
}

struct dbos_object *dbos_object_find(struct dbos_objects *store, const struct dbos_object_id *id) {
    struct shard *shard = shard_of(store, id);
    lock(shard);
    struct dbos_object *object = find_and_ref(shard, id);
    unlock(shard);
    return object;
}

struct dbos_object *dbos_object_ref(struct dbos_object *object) {
    uint32_t before = atomic_fetch_add_explicit(&object->refs, 1, memory_order_relaxed);
    DBOS_CHECK(before != 0 && before != UINT32_MAX);
    return object;
}

/* Drops a reference that is not the last one; false when it may be the last. */
static bool drop_one_of_many(struct dbos_object *object) {
    uint32_t refs = atomic_load_explicit(&object->refs, memory_order_relaxed);
    while (refs > 1) {
        if (atomic_compare_exchange_weak_explicit(&object->refs, &refs, refs - 1,
                                                  memory_order_release, memory_order_relaxed)) {
            return true;
        }
    }
    DBOS_CHECK(refs == 1);
    return false;
}

static void unlink_object(struct shard *shard, struct dbos_object *object) {
    struct dbos_object **link = bucket_of(shard, &object->id);
    while (*link != object) {
        DBOS_CHECK(*link != NULL);
        link = &(*link)->next;
    }
    *link = object->next;
    shard->object_count--;
}

void dbos_object_unref(struct dbos_object *object) {
    if (object == NULL || drop_one_of_many(object)) {
        return;
    }
    struct dbos_objects *store = object->store;
    struct shard *shard = shard_of(store, &object->id);
    lock(shard); /* from here on nobody can find it; somebody may have found it before */
    bool last = atomic_fetch_sub_explicit(&object->refs, 1, memory_order_acq_rel) == 1;
    if (last) {
        unlink_object(shard, object);
    }
    unlock(shard);
    if (last) {
        dbos_give(store->alloc, object);
    }
}

uint64_t dbos_objects_count(struct dbos_objects *store) {
    uint64_t count = 0;
    for (uint32_t i = 0; i < SHARDS; i++) {
        lock(&store->shards[i]);
        count += store->shards[i].object_count;
        unlock(&store->shards[i]);
    }
    return count;
}
