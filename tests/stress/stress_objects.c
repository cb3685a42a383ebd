/* The object store under threads.
 * Goal: the last unref and a find of the same object may race, and neither a freed object is handed
 * out nor an object lost; equal values made at the same time are one object.
 * Method: threads make, find, ref and unref few values again and again, so that counts are always
 * near zero; each object handed out is compared byte by byte. At the end nothing is left. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/err.h"
#include "storage/object.h"

enum { THREADS = 4, ROUNDS = 60000, VALUES = 12, VALUE_BYTES = 64, HELD_MAX = 4 };

struct worker {
    struct dbos_objects *store;
    uint64_t seed;
    uint64_t found;
    uint64_t missed;
};

static void fill(uint8_t value[VALUE_BYTES], uint64_t number) {
    memset(value, (int)('a' + number), VALUE_BYTES);
}

static void check_object(const struct dbos_object *object, uint64_t number) {
    uint8_t value[VALUE_BYTES];
    fill(value, number);
    DBOS_CHECK(object->id.size_bytes == VALUE_BYTES);
    DBOS_CHECK(memcmp(object->data, value, VALUE_BYTES) == 0);
}

static struct dbos_object *make_or_find(struct worker *self, struct dbos_rng *rng) {
    uint64_t number = dbos_rng_below(rng, VALUES);
    uint8_t value[VALUE_BYTES];
    struct dbos_object *object;
    fill(value, number);
    if (dbos_rng_below(rng, 2) == 0) {
        DBOS_CHECK(dbos_object_make(self->store, value, sizeof value, &object) == DBOS_OK);
    } else {
        struct dbos_object_id id = dbos_object_identify(self->store, value, sizeof value);
        object = dbos_object_find(self->store, &id);
        self->found += object != NULL;
        self->missed += object == NULL;
    }
    if (object != NULL) {
        check_object(object, number);
    }
    return object;
}

static void *work(void *arg) {
    struct worker *self = arg;
    struct dbos_object *held[HELD_MAX] = {NULL};
    struct dbos_rng rng;
    dbos_rng_init(&rng, self->seed);
    for (uint32_t i = 0; i < ROUNDS; i++) {
        struct dbos_object **place = &held[dbos_rng_below(&rng, HELD_MAX)];
        dbos_object_unref(*place);
        *place = make_or_find(self, &rng);
        if (*place != NULL && dbos_rng_below(&rng, 4) == 0) {
            dbos_object_unref(dbos_object_ref(*place));
        }
    }
    for (uint32_t i = 0; i < HELD_MAX; i++) {
        dbos_object_unref(held[i]);
    }
    return NULL;
}

int main(void) {
    struct dbos_alloc alloc;
    struct dbos_objects *store;
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    uint64_t found = 0, missed = 0;
    dbos_alloc_init(&alloc, "objects", 0);
    DBOS_CHECK(dbos_objects_open(&alloc, 99, &store) == DBOS_OK);
    for (uint32_t i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.store = store, .seed = i + 1};
        DBOS_CHECK(pthread_create(&threads[i], NULL, work, &workers[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        DBOS_CHECK(pthread_join(threads[i], NULL) == 0);
        found += workers[i].found;
        missed += workers[i].missed;
    }
    DBOS_CHECK(dbos_objects_count(store) == 0);
    DBOS_CHECK(found > 0 && missed > 0); /* both sides of the race were met */
    dbos_objects_close(store);
    dbos_alloc_fini(&alloc);
    (void)printf("objects: %llu found, %llu missed, none left\n", (unsigned long long)found,
                 (unsigned long long)missed);
    return 0;
}
