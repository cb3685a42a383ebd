/* Large values (architecture decision 9): immutable, reference-counted, known by their content.
 *
 * A value of 4 KB or more exists once in memory, whoever holds it: rows, undo, log entries, tasks
 * on their way to a worker. Its bytes are written once, to a blob segment, by the log thread.
 *
 * Thread: any; the store is sharded under small locks, counts are atomic.
 * Memory: from the store's allocator; an object is freed with its last reference. */
#ifndef DBOS_STORAGE_OBJECT_H
#define DBOS_STORAGE_OBJECT_H

#include <assert.h>
#include <stdatomic.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/hash.h"

/* As stored in rows and records: 24 bytes. */
struct dbos_object_id {
    struct dbos_hash128 hash; /* with the database's secret seed */
    uint32_t size_bytes;
    uint32_t reserved; /* zero */
};
static_assert(sizeof(struct dbos_object_id) == 24, "stored format");

struct dbos_objects;
struct dbos_object {
    _Atomic uint32_t refs;
    struct dbos_objects *store;
    struct dbos_object *next; /* in the store's bucket */
    struct dbos_object_id id;
    uint8_t data[];
};

/* `seed` is the database's secret: without it nobody can construct two values of one identity.
 * *out is owned by the caller. */
enum dbos_err dbos_objects_open(struct dbos_alloc *alloc, uint64_t seed,
                                struct dbos_objects **out) DBOS_MUST_USE;
/* Every object must have been given back. */
void dbos_objects_close(struct dbos_objects *store);

/* The object with these bytes (copied), one reference for the caller. An equal one that is alive is
 * shared. Errors: DBOS_ERR_NOMEM, *out is NULL. */
enum dbos_err dbos_object_make(struct dbos_objects *store, const void *data, size_t size_bytes,
                               struct dbos_object **out) DBOS_MUST_USE;
/* A living object by identity with one more reference, or NULL. */
struct dbos_object *dbos_object_find(struct dbos_objects *store, const struct dbos_object_id *id);
struct dbos_object *dbos_object_ref(struct dbos_object *object);
void dbos_object_unref(struct dbos_object *object); /* NULL is allowed */
/* The identity that these bytes have in this database. */
struct dbos_object_id dbos_object_identify(const struct dbos_objects *store, const void *data,
                                           size_t size_bytes);
uint64_t dbos_objects_count(struct dbos_objects *store);

#endif /* DBOS_STORAGE_OBJECT_H */
