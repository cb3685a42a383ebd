/* Entries: the blocks in which records go to the log, and the pools that they come back to.
 *
 * An appender takes blocks from its pool; whoever has written them puts them back on a stack of the
 * pool, from which the appender takes all at once when its own list is empty. So a commit asks the
 * system's allocator for nothing, and no block is freed by another thread than the one that it will
 * be taken by again. Declared in txn/log.h.
 *
 *     appender ◀─ own list ◀── (all at once) ── returned ◀── (one by one) ─ who has written
 *        └─ take ─▶ record ─▶ queue of the log ─▶ batch ─▶ give ─┘ */
#include "base/poison.h"
#include "txn/log_internal.h"

enum { CLASSES = 3, NO_CLASS = CLASSES };

/* Sizes of blocks, and how many of them a pool makes at most: 7 MB in all. What is larger, or comes
 * in greater numbers, is the allocator's. */
static const size_t class_bytes[CLASSES] = {512, 2048, 16384};
static const uint32_t class_blocks_max[CLASSES] = {8192, 1024, 64};

struct pool_class {
    struct dbos_log_entry *own; /* the appender's */
    uint32_t made;              /* blocks, wherever they are now */
    uint8_t apart[64];          /* the line below is other threads' */
    _Atomic(struct dbos_log_entry *) returned;
};

struct dbos_log_pool {
    struct dbos_log *log;
    struct dbos_log_pool *next; /* of the log's, under its lock */
    bool is_open;               /* under the same */
    struct pool_class classes[CLASSES];
};

/* --- pools ----------------------------------------------------------------------------------- */

static struct dbos_log_pool *find_closed(struct dbos_log *log) {
    struct dbos_log_pool *pool = log->pools;
    while (pool != NULL && pool->is_open) {
        pool = pool->next;
    }
    return pool;
}

enum dbos_err dbos_log_pool_open(struct dbos_log *log, struct dbos_log_pool **out) {
    (void)pthread_mutex_lock(&log->lock);
    struct dbos_log_pool *pool = find_closed(log);
    if (pool == NULL) {
        pool = dbos_take_zero(log->alloc, sizeof *pool);
        if (pool != NULL) {
            pool->log = log;
            pool->next = log->pools;
            log->pools = pool;
        }
    }
    if (pool != NULL) {
        pool->is_open = true;
    }
    (void)pthread_mutex_unlock(&log->lock);
    *out = pool;
    return pool == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
}

void dbos_log_pool_close(struct dbos_log_pool *pool) {
    if (pool == NULL) {
        return;
    }
    struct dbos_log *log = pool->log;
    (void)pthread_mutex_lock(&log->lock);
    pool->is_open = false;
    (void)pthread_mutex_unlock(&log->lock);
}

/* Returns how many blocks there were. */
static uint32_t free_blocks(struct dbos_log *log, struct dbos_log_entry *entry, size_t bytes) {
    uint32_t count = 0;
    while (entry != NULL) {
        struct dbos_log_entry *next = entry->next;
        dbos_unpoison(entry, bytes);
        dbos_give(log->alloc, entry);
        entry = next;
        count++;
    }
    return count;
}

void dbos_log_pools_fini(struct dbos_log *log) {
    while (log->pools != NULL) {
        struct dbos_log_pool *pool = log->pools;
        log->pools = pool->next;
        for (unsigned i = 0; i < CLASSES; i++) {
            struct pool_class *class = &pool->classes[i];
            uint32_t count = free_blocks(log, class->own, class_bytes[i]);
            count += free_blocks(log, atomic_load(&class->returned), class_bytes[i]);
            DBOS_CHECK(count == class->made); /* every entry came back */
        }
        dbos_give(log->alloc, pool);
    }
}

/* --- entries --------------------------------------------------------------------------------- */

static struct dbos_log_entry *init_entry(void *block, struct dbos_log_entry facts,
                                         uint32_t objects_max) {
    struct dbos_log_entry *entry = block;
    if (entry == NULL) {
        return NULL;
    }
    *entry = facts;
    entry->objects = (struct dbos_object **)(entry + 1);
    entry->data = (uint8_t *)(entry->objects + objects_max);
    return entry;
}

static size_t entry_bytes(size_t record_bytes_max, uint32_t objects_max) {
    return sizeof(struct dbos_log_entry) + (size_t)objects_max * sizeof(struct dbos_object *) +
           record_bytes_max;
}

struct dbos_log_entry *dbos_log_entry_make(struct dbos_log *log, size_t record_bytes_max,
                                           uint32_t objects_max) {
    size_t bytes = entry_bytes(record_bytes_max, objects_max);
    return init_entry(dbos_take(log->alloc, bytes),
                      (struct dbos_log_entry){.held_bytes = bytes, .size_class = NO_CLASS},
                      objects_max);
}

/* A block of the class: one that came back, or a new one; NULL: there are enough, or no memory. */
static struct dbos_log_entry *take_block(struct dbos_log_pool *pool, unsigned size_class) {
    struct pool_class *class = &pool->classes[size_class];
    if (class->own == NULL) {
        class->own = atomic_exchange_explicit(&class->returned, NULL, memory_order_acquire);
    }
    struct dbos_log_entry *entry = class->own;
    if (entry != NULL) {
        class->own = entry->next;
    } else if (class->made < class_blocks_max[size_class]) {
        entry = dbos_take(pool->log->alloc, class_bytes[size_class]);
        class->made += entry == NULL ? 0 : 1;
    }
    return entry;
}

struct dbos_log_entry *dbos_log_pool_take(struct dbos_log_pool *pool, size_t record_bytes_max,
                                          uint32_t objects_max) {
    size_t bytes = entry_bytes(record_bytes_max, objects_max);
    unsigned size_class = 0;
    while (size_class < CLASSES && class_bytes[size_class] < bytes) {
        size_class++;
    }
    struct dbos_log_entry *block = size_class == NO_CLASS ? NULL : take_block(pool, size_class);
    if (block == NULL) {
        return dbos_log_entry_make(pool->log, record_bytes_max, objects_max);
    }
    dbos_poison(block, class_bytes[size_class]);
    dbos_unpoison(block, bytes);
    return init_entry(block,
                      (struct dbos_log_entry){.held_bytes = class_bytes[size_class],
                                              .pool = pool,
                                              .size_class = (uint8_t)size_class},
                      objects_max);
}

void dbos_log_entry_give(struct dbos_log *log, struct dbos_log_entry *entry) {
    if (entry == NULL) {
        return;
    }
    for (uint32_t i = 0; i < entry->object_count; i++) {
        dbos_object_unref(entry->objects[i]);
    }
    if (entry->pool == NULL) {
        dbos_give(log->alloc, entry);
        return;
    }
    struct pool_class *class = &entry->pool->classes[entry->size_class];
    dbos_poison(entry + 1, class_bytes[entry->size_class] - sizeof *entry);
    struct dbos_log_entry *head = atomic_load_explicit(&class->returned, memory_order_relaxed);
    do {
        entry->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&class->returned, &head, entry,
                                                    memory_order_release, memory_order_relaxed));
}
