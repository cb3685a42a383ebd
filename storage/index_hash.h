/* Hash index: 64-bit hash -> item, for unique keys (rows) and for block ids (storage/blocks.h).
 *
 * Extendible hashing. A directory of 2^depth places, indexed by the top bits of the hash, points to
 * segments; each segment is an array of buckets, a cache line each, of eight entries. An entry
 * has 8 bytes: the item's address, 16 bits of its hash, and how far from its home it lies, so that
 * a look-up mostly reads one line of the index and then the item. Items are asked for their hash
 * (`hash_of`) only when a segment is split or grows.
 *
 *      directory      segment              buckets
 *      +-------+      +-----------+        +--------------------------------+
 *      | 00..  |----->| count ... |------->| e e e e e e e e | e e e . . . . .| ...
 *      | 01..  |--+   +-----------+        +--------------------------------+
 *      | 10..  |  +-> ...                          full, so it runs over    '- ends the search
 *      | 11..  |----> ...  (shared until it is split)
 *      +-------+       entry: | tag 16 | distance 3 | address / 8: 45 |
 *
 * The entries of a bucket stand at its beginning. An entry that does not fit goes into the next
 * bucket that has room; every bucket on the way is full, so an empty place ends a search. A removal
 * closes its gap with an entry that was pushed on: there are no tombstones. A full segment is split
 * in two, so no operation pauses for longer than one segment takes; there is no rehash of the
 * whole.
 *
 * Beside the pointers to the segments the directory has one to their buckets, with their number: a
 * look-up does not touch the segment's head, and that part of the directory is small enough for a
 * cache.
 *
 * Segments are never merged and never shrink: a row that was taken out can always be put back
 * (newest first), which is what undo relies on.
 *
 * Thread: as the table. Memory: from the slab given at init. */
#ifndef DBOS_STORAGE_INDEX_HASH_H
#define DBOS_STORAGE_INDEX_HASH_H

#ifdef __SSE2__
#include <emmintrin.h>
#endif

#include "base/slab.h"

struct dbos_hash_segment {
    uint64_t *entries; /* 0 = free */
    uint32_t mask;     /* number of entries - 1; they are a power of two */
    uint32_t count;
    uint32_t depth; /* how many top bits its hashes have in common */
    uint32_t reserved;
};

struct dbos_hash {
    struct dbos_slab *slab;
    uint64_t (*hash_of)(const void *arg, const void *item);
    const void *arg;                      /* of hash_of; borrowed */
    uint64_t *buckets;                    /* 2^depth; NULL while nothing was ever reserved */
    struct dbos_hash_segment **directory; /* 2^depth, behind them */
    uint32_t depth;
    uint32_t segment_count;
    uint64_t count;
    _Atomic uint64_t bytes; /* held; anyone may look */
};

void dbos_hash_init(struct dbos_hash *index, struct dbos_slab *slab,
                    uint64_t (*hash_of)(const void *arg, const void *item), const void *arg);
void dbos_hash_fini(struct dbos_hash *index);

/* After this, one dbos_hash_put() of this hash can not fail. Errors: NOMEM, nothing has changed. */
enum dbos_err dbos_hash_reserve(struct dbos_hash *index, uint64_t hash) DBOS_MUST_USE;
/* An item's address is a multiple of 8. */
void dbos_hash_put(struct dbos_hash *index, uint64_t hash, void *item);
/* The item must be there, under this hash. */
void dbos_hash_remove(struct dbos_hash *index, uint64_t hash, const void *item);
/* `fresh` has the same hash. */
void dbos_hash_swap(struct dbos_hash *index, uint64_t hash, const void *old, void *fresh);

/* Starts to load the place of a hash, while the caller does something else. */
void dbos_hash_prefetch(const struct dbos_hash *index, uint64_t hash);

/* The items that may have this hash, one after the other (the caller looks whether it is the one
 * that is wanted: one in some thousands is not); NULL = no more. Begin with *place = UINT32_MAX. */
static inline void *dbos_hash_next(const struct dbos_hash *index, uint64_t hash, uint32_t *place);

/* Each item once, in no order. The index itself must not be changed meanwhile. */
void dbos_hash_each(const struct dbos_hash *index, void (*each)(void *item, void *arg), void *arg);

/* O(n): counts, places and depths are right. */
bool dbos_hash_consistent(const struct dbos_hash *index);

/* -- inline: the path of a look-up ----------------------------------------------------------------
 */

enum { DBOS_HASH_BUCKET = 8, DBOS_HASH_TAG_SHIFT = 48, DBOS_HASH_DISTANCE_SHIFT = 45 };

#define DBOS_HASH_ADDRESS ((UINT64_C(1) << DBOS_HASH_DISTANCE_SHIFT) - 1)

/* Neither the bits of the directory nor those of the home bucket; never 0, as free entries are. */
static inline uint64_t dbos_hash_tag(uint64_t hash) { return ((hash >> 20) & 0xffff) | 0x8000; }

static inline void *dbos_hash_item(uint64_t entry) {
    return (void *)(uintptr_t)((entry & DBOS_HASH_ADDRESS) << 3);
}

/* The first entry of the bucket where a hash is looked for. */
static inline uint32_t dbos_hash_home(uint64_t hash, uint32_t mask) {
    return (uint32_t)hash * DBOS_HASH_BUCKET & mask;
}

/* Where a hash belongs in the directory: its top bits. */
static inline uint64_t dbos_hash_place(uint64_t hash, uint32_t depth) {
    return hash >> 1 >> (63 - depth);
}

/* A place of `buckets`: the address of the entries, and the logarithm of their number on top. */
enum { DBOS_HASH_LOG_SHIFT = 56 };

static inline uint64_t *dbos_hash_entries(uint64_t place, uint32_t *mask) {
    *mask = (UINT32_C(1) << (place >> DBOS_HASH_LOG_SHIFT)) - 1;
    return (uint64_t *)(uintptr_t)(place & ((UINT64_C(1) << DBOS_HASH_LOG_SHIFT) - 1));
}

/* Bit i: entry i of a bucket has the tag. Without a branch: what a processor guesses wrong here, it
 * finds out only when the bucket has come from memory, and it could have begun the next look-up. */
static inline uint32_t dbos_hash_match(const uint64_t *bucket, uint64_t tag) {
#ifdef __SSE2__
    const __m128i *pairs = (const __m128i *)(const void *)bucket;
    __m128i wanted = _mm_set1_epi32((int)tag);
    __m128 one = _mm_castsi128_ps(_mm_loadu_si128(pairs));
    __m128 two = _mm_castsi128_ps(_mm_loadu_si128(pairs + 1));
    __m128 three = _mm_castsi128_ps(_mm_loadu_si128(pairs + 2));
    __m128 four = _mm_castsi128_ps(_mm_loadu_si128(pairs + 3));
    /* The upper halves of four entries, and of them the tags. */
    __m128i low = _mm_srli_epi32(_mm_castps_si128(_mm_shuffle_ps(one, two, 0xdd)), 16);
    __m128i high = _mm_srli_epi32(_mm_castps_si128(_mm_shuffle_ps(three, four, 0xdd)), 16);
    __m128i equal = _mm_packs_epi32(_mm_cmpeq_epi32(low, wanted), _mm_cmpeq_epi32(high, wanted));
    return (uint32_t)_mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128()));
#else
    uint32_t match = 0;
    for (int i = 0; i < DBOS_HASH_BUCKET; i++) {
        match |= (uint32_t)(bucket[i] >> DBOS_HASH_TAG_SHIFT == tag) << i;
    }
    return match;
#endif
}

static inline void *dbos_hash_next(const struct dbos_hash *index, uint64_t hash, uint32_t *place) {
    if (index->buckets == NULL) {
        return NULL;
    }
    uint32_t mask;
    uint64_t tag = dbos_hash_tag(hash);
    const uint64_t *all =
        dbos_hash_entries(index->buckets[dbos_hash_place(hash, index->depth)], &mask);
    uint32_t bucket = dbos_hash_home(hash, mask);
    uint32_t behind = 0xff; /* entries that have not been looked at */
    if (*place != UINT32_MAX) {
        bucket = *place & ~(DBOS_HASH_BUCKET - 1u);
        behind = 0xfeu << *place % DBOS_HASH_BUCKET;
    }
    const uint64_t *entries = all + bucket;
    uint32_t match = dbos_hash_match(entries, tag) & behind;
    while (match == 0) {
        if (entries[DBOS_HASH_BUCKET - 1] == 0) {
            return NULL;
        }
        bucket = (bucket + DBOS_HASH_BUCKET) & mask;
        entries = all + bucket;
        match = dbos_hash_match(entries, tag);
    }
    uint32_t number = (uint32_t)__builtin_ctz(match);
    *place = bucket + number;
    return dbos_hash_item(entries[number]);
}

#endif /* DBOS_STORAGE_INDEX_HASH_H */
