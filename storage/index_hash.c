#include "storage/index_hash.h"

#include <assert.h>

/* 32 KiB segments: a split moves at most 3,584 entries, and loads their items side by side. The
 * first one starts small, because most tables are. */
enum {
    BUCKET_ENTRIES = DBOS_HASH_BUCKET,
    SEGMENT_ENTRIES_FIRST = BUCKET_ENTRIES,
    SEGMENT_ENTRIES_MAX = 4096,
    DEPTH_MAX = 28,
    DISTANCE_MAX = 7, /* of buckets from home; this one means: as many or more */
};
static_assert(BUCKET_ENTRIES * sizeof(uint64_t) == 64, "a bucket is a cache line");
static_assert(SEGMENT_ENTRIES_MAX * sizeof(uint64_t) <= DBOS_SLAB_CELL_MAX, "segments are cells");

static uint32_t load_max(const struct dbos_hash_segment *segment) {
    uint32_t capacity = segment->mask + 1;
    return capacity - capacity / 8;
}

/* -- entries: see the header ----------------------------------------------------------------------
 */

static uint64_t address_bits(const void *item) {
    uint64_t address = (uint64_t)(uintptr_t)item;
    DBOS_CHECK((address & 7) == 0 && address >> 48 == 0);
    return address >> 3;
}

static uint64_t with_distance(uint64_t entry, uint32_t distance) {
    uint64_t kept = distance < DISTANCE_MAX ? distance : DISTANCE_MAX;
    return (entry & ~((uint64_t)DISTANCE_MAX << DBOS_HASH_DISTANCE_SHIFT)) |
           kept << DBOS_HASH_DISTANCE_SHIFT;
}

static uint64_t entry_of(uint64_t hash, const void *item) {
    return dbos_hash_tag(hash) << DBOS_HASH_TAG_SHIFT | address_bits(item);
}

/* How many buckets lie between an entry and its home. */
static uint32_t distance_of(const struct dbos_hash *index, const struct dbos_hash_segment *segment,
                            uint32_t place) {
    uint64_t entry = segment->entries[place];
    uint32_t distance = (uint32_t)(entry >> DBOS_HASH_DISTANCE_SHIFT) & DISTANCE_MAX;
    if (distance == DISTANCE_MAX) {
        uint32_t home =
            dbos_hash_home(index->hash_of(index->arg, dbos_hash_item(entry)), segment->mask);
        distance = ((place - home) & segment->mask) / BUCKET_ENTRIES;
    }
    return distance;
}

/* -- the directory --------------------------------------------------------------------------------
 */

void dbos_hash_init(struct dbos_hash *index, struct dbos_slab *slab,
                    uint64_t (*hash_of)(const void *arg, const void *item), const void *arg) {
    *index = (struct dbos_hash){.slab = slab, .hash_of = hash_of, .arg = arg};
}

static uint64_t directory_count(const struct dbos_hash *index) {
    return UINT64_C(1) << index->depth;
}

static size_t directory_bytes(uint32_t depth) {
    return (sizeof(uint64_t) + sizeof(struct dbos_hash_segment *)) << depth;
}

static struct dbos_hash_segment *segment_of(const struct dbos_hash *index, uint64_t hash) {
    return index->directory[dbos_hash_place(hash, index->depth)];
}

/* How many places of the directory point to a segment; they are neighbours. */
static uint64_t span_of(const struct dbos_hash *index, const struct dbos_hash_segment *segment) {
    return UINT64_C(1) << (index->depth - segment->depth);
}

/* One thread writes it: no locked instruction. */
static void count_bytes(struct dbos_hash *index, uint64_t taken, uint64_t given) {
    uint64_t held = atomic_load_explicit(&index->bytes, memory_order_relaxed);
    atomic_store_explicit(&index->bytes, held + taken - given, memory_order_relaxed);
}

static size_t entries_bytes(uint32_t capacity) { return (size_t)capacity * sizeof(uint64_t); }

static struct dbos_hash_segment *take_segment(struct dbos_hash *index, uint32_t capacity,
                                              uint32_t depth) {
    struct dbos_hash_segment *segment = dbos_slab_take(index->slab, sizeof *segment);
    uint64_t *entries = dbos_slab_take_zero(index->slab, entries_bytes(capacity));
    if (segment == NULL || entries == NULL) {
        dbos_slab_give(index->slab, segment, sizeof *segment);
        dbos_slab_give(index->slab, entries, entries_bytes(capacity));
        return NULL;
    }
    *segment = (struct dbos_hash_segment){.entries = entries, .mask = capacity - 1, .depth = depth};
    count_bytes(index, sizeof *segment + entries_bytes(capacity), 0);
    return segment;
}

static void give_segment(struct dbos_hash *index, struct dbos_hash_segment *segment) {
    if (segment != NULL) {
        count_bytes(index, 0, sizeof *segment + entries_bytes(segment->mask + 1));
        dbos_slab_give(index->slab, segment->entries, entries_bytes(segment->mask + 1));
        dbos_slab_give(index->slab, segment, sizeof *segment);
    }
}

void dbos_hash_fini(struct dbos_hash *index) {
    if (index->buckets != NULL) {
        uint64_t place = 0;
        while (place < directory_count(index)) {
            struct dbos_hash_segment *segment = index->directory[place];
            place += span_of(index, segment);
            give_segment(index, segment);
        }
        dbos_slab_give(index->slab, index->buckets, directory_bytes(index->depth));
    }
    dbos_hash_init(index, index->slab, index->hash_of, index->arg);
}

static void point_to(struct dbos_hash *index, uint64_t place, struct dbos_hash_segment *segment) {
    uint64_t logarithm = (uint64_t)__builtin_ctz(segment->mask + 1);
    index->directory[place] = segment;
    index->buckets[place] = (uint64_t)(uintptr_t)segment->entries | logarithm
                                                                        << DBOS_HASH_LOG_SHIFT;
}

/* An empty directory; the old one is the caller's. */
static enum dbos_err take_directory(struct dbos_hash *index, uint32_t depth) {
    uint64_t *buckets = dbos_slab_take(index->slab, directory_bytes(depth));
    if (buckets == NULL) {
        return DBOS_ERR_NOMEM;
    }
    index->buckets = buckets;
    index->directory = (struct dbos_hash_segment **)(void *)(buckets + (UINT64_C(1) << depth));
    index->depth = depth;
    count_bytes(index, directory_bytes(depth), 0);
    return DBOS_OK;
}

static enum dbos_err open_directory(struct dbos_hash *index) {
    struct dbos_hash_segment *segment = take_segment(index, SEGMENT_ENTRIES_FIRST, 0);
    if (segment == NULL || take_directory(index, 0) != DBOS_OK) {
        give_segment(index, segment);
        return DBOS_ERR_NOMEM;
    }
    point_to(index, 0, segment);
    index->segment_count = 1;
    return DBOS_OK;
}

static enum dbos_err double_directory(struct dbos_hash *index) {
    struct dbos_hash old = *index;
    if (take_directory(index, old.depth + 1) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    for (uint64_t i = 0; i < directory_count(&old); i++) {
        index->directory[2 * i] = index->directory[2 * i + 1] = old.directory[i];
        index->buckets[2 * i] = index->buckets[2 * i + 1] = old.buckets[i];
    }
    dbos_slab_give(index->slab, old.buckets, directory_bytes(old.depth));
    count_bytes(index, 0, directory_bytes(old.depth));
    return DBOS_OK;
}

/* Let the places of `segment` in the directory point to `low` and `high`, half each. */
static void point_to_halves(struct dbos_hash *index, const struct dbos_hash_segment *segment,
                            uint64_t hash, struct dbos_hash_segment *low,
                            struct dbos_hash_segment *high) {
    uint64_t span = span_of(index, segment);
    uint64_t first = dbos_hash_place(hash, index->depth) & ~(span - 1);
    for (uint64_t i = 0; i < span; i++) {
        DBOS_CHECK(index->directory[first + i] == segment);
        point_to(index, first + i, i < span / 2 ? low : high);
    }
}

/* -- growth ---------------------------------------------------------------------------------------
 */

static void segment_put(struct dbos_hash_segment *segment, uint64_t hash, const void *item) {
    uint32_t bucket = dbos_hash_home(hash, segment->mask);
    uint32_t distance = 0;
    uint32_t free = dbos_hash_match(segment->entries + bucket, 0);
    while (free == 0) {
        bucket = (bucket + BUCKET_ENTRIES) & segment->mask;
        distance++;
        free = dbos_hash_match(segment->entries + bucket, 0);
    }
    segment->entries[bucket + (uint32_t)__builtin_ctz(free)] =
        with_distance(entry_of(hash, item), distance);
    segment->count++;
}

/* Where the key of an entry's item is, behind a row's header; the entry itself, where there is
 * none. The caller prefetches: gcc takes a function that does nothing else for one without effect.
 */
static const void *key_address(const struct dbos_hash_segment *segment, uint32_t place) {
    enum { KEY_OFFSET = 32 };
    const uint64_t *entry = &segment->entries[place & segment->mask];
    return *entry == 0 ? (const void *)entry : (const uint8_t *)dbos_hash_item(*entry) + KEY_OFFSET;
}

/* Bit `63 - depth` of its hash decides to which of the two an item goes. */
static void distribute(const struct dbos_hash *index, const struct dbos_hash_segment *segment,
                       struct dbos_hash_segment *low, struct dbos_hash_segment *high) {
    enum { AHEAD = 24 }; /* items are anywhere in memory: let them come side by side */
    for (uint32_t i = 0; i < AHEAD; i++) {
        __builtin_prefetch(key_address(segment, i));
    }
    for (uint32_t i = 0; i <= segment->mask; i++) {
        __builtin_prefetch(key_address(segment, i + AHEAD));
        if (segment->entries[i] != 0) {
            void *item = dbos_hash_item(segment->entries[i]);
            uint64_t hash = index->hash_of(index->arg, item);
            segment_put((hash >> (63 - segment->depth)) & 1 ? high : low, hash, item);
        }
    }
}

static enum dbos_err split(struct dbos_hash *index, struct dbos_hash_segment *segment,
                           uint64_t hash) {
    if (segment->depth == index->depth && double_directory(index) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    uint32_t capacity = segment->mask + 1;
    struct dbos_hash_segment *low = take_segment(index, capacity, segment->depth + 1);
    struct dbos_hash_segment *high = take_segment(index, capacity, segment->depth + 1);
    if (low == NULL || high == NULL) {
        give_segment(index, low);
        give_segment(index, high);
        return DBOS_ERR_NOMEM;
    }
    distribute(index, segment, low, high);
    point_to_halves(index, segment, hash, low, high);
    index->segment_count++;
    give_segment(index, segment);
    return DBOS_OK;
}

static enum dbos_err grow(struct dbos_hash *index, struct dbos_hash_segment *segment,
                          uint64_t hash) {
    if (segment->mask > UINT32_MAX / 4) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_hash_segment *larger = take_segment(index, (segment->mask + 1) * 2, segment->depth);
    if (larger == NULL) {
        return DBOS_ERR_NOMEM;
    }
    distribute(index, segment, larger, larger);
    point_to_halves(index, segment, hash, larger, larger);
    give_segment(index, segment);
    return DBOS_OK;
}

/* Keys whose hashes agree in many top bits would double the directory without end: their segment
 * grows instead. */
static bool should_grow(const struct dbos_hash *index, const struct dbos_hash_segment *segment) {
    if (segment->mask + 1 < SEGMENT_ENTRIES_MAX) {
        return true;
    }
    bool directory_is_sparse = directory_count(index) > 16 + 16 * (uint64_t)index->segment_count;
    return segment->depth == index->depth && (directory_is_sparse || index->depth == DEPTH_MAX);
}

enum dbos_err dbos_hash_reserve(struct dbos_hash *index, uint64_t hash) {
    if (index->buckets == NULL && open_directory(index) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_hash_segment *segment = segment_of(index, hash);
    while (segment->count >= load_max(segment)) {
        enum dbos_err err =
            should_grow(index, segment) ? grow(index, segment, hash) : split(index, segment, hash);
        if (err != DBOS_OK) {
            return err;
        }
        segment = segment_of(index, hash);
    }
    return DBOS_OK;
}

/* -- put, remove, find ----------------------------------------------------------------------------
 */

void dbos_hash_put(struct dbos_hash *index, uint64_t hash, void *item) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    DBOS_CHECK(segment->count < load_max(segment));
    segment_put(segment, hash, item);
    index->count++;
}

static uint32_t place_of(const struct dbos_hash_segment *segment, uint64_t hash, const void *item) {
    uint64_t address = address_bits(item);
    uint32_t place = dbos_hash_home(hash, segment->mask);
    while ((segment->entries[place] & DBOS_HASH_ADDRESS) != address) {
        DBOS_CHECK(segment->entries[place] != 0);
        place = (place + 1) & segment->mask;
    }
    return place;
}

/* The first entry behind a full bucket that was pushed out of it, or over it; UINT32_MAX = none. */
static uint32_t pushed_over(const struct dbos_hash *index, const struct dbos_hash_segment *segment,
                            uint32_t bucket) {
    uint32_t behind = BUCKET_ENTRIES;
    while (behind <= segment->mask) {
        uint32_t place = (bucket + behind) & segment->mask;
        if (segment->entries[place] == 0) {
            break;
        }
        if (distance_of(index, segment, place) >= behind / BUCKET_ENTRIES) {
            return place;
        }
        behind++;
    }
    return UINT32_MAX;
}

void dbos_hash_remove(struct dbos_hash *index, uint64_t hash, const void *item) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    uint32_t hole = place_of(segment, hash, item);
    for (;;) {
        uint32_t bucket = hole & ~(BUCKET_ENTRIES - 1u);
        uint32_t last = bucket + BUCKET_ENTRIES - 1;
        bool was_full = segment->entries[last] != 0;
        uint32_t from = was_full ? pushed_over(index, segment, bucket) : UINT32_MAX;
        if (from == UINT32_MAX) {
            while (segment->entries[last] == 0) {
                last--;
            }
            segment->entries[hole] = segment->entries[last];
            segment->entries[last] = 0;
            break;
        }
        uint32_t back = ((from - bucket) & segment->mask) / BUCKET_ENTRIES;
        uint32_t distance = distance_of(index, segment, from);
        segment->entries[hole] = with_distance(segment->entries[from], distance - back);
        hole = from;
    }
    segment->count--;
    index->count--;
}

void dbos_hash_swap(struct dbos_hash *index, uint64_t hash, const void *old, void *fresh) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    uint64_t *entry = &segment->entries[place_of(segment, hash, old)];
    DBOS_CHECK(*entry >> DBOS_HASH_TAG_SHIFT == dbos_hash_tag(hash));
    *entry = (*entry & ~DBOS_HASH_ADDRESS) | address_bits(fresh);
}

void dbos_hash_prefetch(const struct dbos_hash *index, uint64_t hash) {
    if (index->buckets != NULL) {
        uint32_t mask;
        uint64_t place = dbos_hash_place(hash, index->depth);
        const uint64_t *entries = dbos_hash_entries(index->buckets[place], &mask);
        __builtin_prefetch(entries + dbos_hash_home(hash, mask));
        __builtin_prefetch(index->directory[place]);
    }
}

void dbos_hash_each(const struct dbos_hash *index, void (*each)(void *item, void *arg), void *arg) {
    uint64_t place = 0;
    while (index->buckets != NULL && place < directory_count(index)) {
        const struct dbos_hash_segment *segment = index->directory[place];
        place += span_of(index, segment);
        for (uint32_t i = 0; i <= segment->mask; i++) {
            if (segment->entries[i] != 0) {
                each(dbos_hash_item(segment->entries[i]), arg);
            }
        }
    }
}

/* -- checks ---------------------------------------------------------------------------------------
 */

static bool entry_is_consistent(const struct dbos_hash *index,
                                const struct dbos_hash_segment *segment, uint32_t place,
                                uint64_t top) {
    uint64_t entry = segment->entries[place];
    uint64_t hash = index->hash_of(index->arg, dbos_hash_item(entry));
    uint32_t home = dbos_hash_home(hash, segment->mask);
    uint32_t distance = ((place - home) & segment->mask) / BUCKET_ENTRIES;
    for (uint32_t at = home; at != place; at = (at + 1) & segment->mask) {
        if (segment->entries[at] == 0) {
            return false; /* a search would stop before it */
        }
    }
    return dbos_hash_place(hash, segment->depth) == top &&
           entry >> DBOS_HASH_TAG_SHIFT == dbos_hash_tag(hash) &&
           with_distance(entry, distance) == entry;
}

static bool segment_is_consistent(const struct dbos_hash *index,
                                  const struct dbos_hash_segment *segment, uint64_t place) {
    uint64_t top = place >> (index->depth - segment->depth);
    uint32_t count = 0;
    for (uint32_t i = 0; i <= segment->mask; i++) {
        if (segment->entries[i] != 0) {
            count++;
            if (!entry_is_consistent(index, segment, i, top)) {
                return false;
            }
        }
    }
    return count == segment->count && count <= load_max(segment);
}

bool dbos_hash_consistent(const struct dbos_hash *index) {
    if (index->buckets == NULL) {
        return index->count == 0;
    }
    uint64_t count = 0;
    uint32_t segments = 0;
    uint64_t place = 0;
    uint64_t bytes = directory_bytes(index->depth);
    while (place < directory_count(index)) {
        const struct dbos_hash_segment *segment = index->directory[place];
        uint32_t mask;
        if (segment->depth > index->depth || !segment_is_consistent(index, segment, place) ||
            dbos_hash_entries(index->buckets[place], &mask) != segment->entries ||
            mask != segment->mask) {
            return false;
        }
        count += segment->count;
        segments++;
        bytes += sizeof *segment + entries_bytes(segment->mask + 1);
        place += span_of(index, segment);
    }
    return count == index->count && segments == index->segment_count && bytes == index->bytes;
}
