/* Hash index: 64-bit hash -> row, for unique keys and for block ids.
 *
 * Extendible hashing. A directory of 2^depth pointers, indexed by the top bits of the hash, points
 * to segments; each segment is a small open-addressing table (linear probing by the low bits,
 * removal by shifting back, no tombstones). A full segment is split in two, so no operation pauses
 * for longer than one segment takes; there is no rehash of the whole.
 *
 *      directory          segment (up to SEGMENT_ENTRIES_MAX entries)
 *      +-------+          +-------------------------------+
 *      | 00..  |--------->| hash,row | -        | hash,row | ...
 *      | 01..  |----+     +-------------------------------+
 *      | 10..  |--+ +---->  ...
 *      | 11..  |--+------>  (shared until it is split)
 *      +-------+
 *
 * Segments are never merged and never shrink: a row that was taken out can always be put back
 * (newest first), which is what undo relies on.
 *
 * Thread: as the table. Memory: from the allocator given at init. */
#ifndef DBOS_STORAGE_INDEX_HASH_H
#define DBOS_STORAGE_INDEX_HASH_H

#include "base/alloc.h"

struct dbos_row;

struct dbos_hash_entry {
    uint64_t hash;
    struct dbos_row *row; /* NULL = free */
};

struct dbos_hash_segment {
    uint32_t capacity; /* a power of two */
    uint32_t count;
    uint32_t depth; /* how many top bits its hashes have in common */
    uint32_t reserved;
    struct dbos_hash_entry entries[];
};

/* The mask stands beside the pointer, so that a look-up does not touch the segment's head. */
struct dbos_hash_slot {
    struct dbos_hash_segment *segment;
    uint32_t mask; /* its capacity - 1 */
    uint32_t reserved;
};

struct dbos_hash {
    struct dbos_alloc *alloc;
    struct dbos_hash_slot *directory; /* 2^depth; NULL while nothing was ever reserved */
    uint32_t depth;
    uint32_t segment_count;
    uint64_t count;
};

void dbos_hash_init(struct dbos_hash *index, struct dbos_alloc *alloc);
void dbos_hash_fini(struct dbos_hash *index);

/* After this, one dbos_hash_put() of this hash can not fail. Errors: NOMEM, nothing has changed. */
enum dbos_err dbos_hash_reserve(struct dbos_hash *index, uint64_t hash) DBOS_MUST_USE;
void dbos_hash_put(struct dbos_hash *index, uint64_t hash, struct dbos_row *row);
/* The row must be there, under this hash. */
void dbos_hash_remove(struct dbos_hash *index, uint64_t hash, const struct dbos_row *row);
void dbos_hash_swap(struct dbos_hash *index, uint64_t hash, const struct dbos_row *old,
                    struct dbos_row *fresh);

/* Starts to load the place of a hash, while the caller does something else. */
void dbos_hash_prefetch(const struct dbos_hash *index, uint64_t hash);

/* The rows of one hash, one after the other; NULL = no more. Begin with *place = UINT32_MAX. */
struct dbos_row *dbos_hash_next(const struct dbos_hash *index, uint64_t hash, uint32_t *place);

/* O(n): counts, places and depths are right. */
bool dbos_hash_consistent(const struct dbos_hash *index);

#endif /* DBOS_STORAGE_INDEX_HASH_H */
