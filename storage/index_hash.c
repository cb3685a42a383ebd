#include "storage/index_hash.h"

/* 64 KiB segments: a split moves at most 3,072 entries, some 20 µs. The first one starts small,
 * because most tables are. */
enum { SEGMENT_ENTRIES_FIRST = 16, SEGMENT_ENTRIES_MAX = 4096, DEPTH_MAX = 28 };

static uint32_t load_max(uint32_t capacity) { return capacity / 4 * 3; }

void dbos_hash_init(struct dbos_hash *index, struct dbos_alloc *alloc) {
    *index = (struct dbos_hash){.alloc = alloc};
}

static uint64_t directory_count(const struct dbos_hash *index) {
    return UINT64_C(1) << index->depth;
}

static uint64_t directory_place(uint64_t hash, uint32_t depth) {
    return depth == 0 ? 0 : hash >> (64 - depth);
}

static struct dbos_hash_segment *segment_of(const struct dbos_hash *index, uint64_t hash) {
    return index->directory[directory_place(hash, index->depth)].segment;
}

static struct dbos_hash_slot slot_of(struct dbos_hash_segment *segment) {
    return (struct dbos_hash_slot){.segment = segment, .mask = segment->capacity - 1};
}

/* How many places of the directory point to a segment; they are neighbours. */
static uint64_t span_of(const struct dbos_hash *index, const struct dbos_hash_segment *segment) {
    return UINT64_C(1) << (index->depth - segment->depth);
}

void dbos_hash_fini(struct dbos_hash *index) {
    if (index->directory != NULL) {
        uint64_t place = 0;
        while (place < directory_count(index)) {
            struct dbos_hash_segment *segment = index->directory[place].segment;
            place += span_of(index, segment);
            dbos_give(index->alloc, segment);
        }
        dbos_give(index->alloc, index->directory);
    }
    *index = (struct dbos_hash){.alloc = index->alloc};
}

static struct dbos_hash_segment *take_segment(struct dbos_hash *index, uint32_t capacity,
                                              uint32_t depth) {
    struct dbos_hash_segment *segment =
        dbos_take_zero(index->alloc, sizeof *segment + capacity * sizeof segment->entries[0]);
    if (segment != NULL) {
        segment->capacity = capacity;
        segment->depth = depth;
    }
    return segment;
}

static void segment_put(struct dbos_hash_segment *segment, uint64_t hash, struct dbos_row *row) {
    uint32_t mask = segment->capacity - 1;
    uint32_t place = (uint32_t)hash & mask;
    while (segment->entries[place].row != NULL) {
        place = (place + 1) & mask;
    }
    segment->entries[place] = (struct dbos_hash_entry){.hash = hash, .row = row};
    segment->count++;
}

static enum dbos_err open_directory(struct dbos_hash *index) {
    struct dbos_hash_slot *directory = dbos_take(index->alloc, sizeof *directory);
    struct dbos_hash_segment *segment = take_segment(index, SEGMENT_ENTRIES_FIRST, 0);
    if (directory == NULL || segment == NULL) {
        dbos_give(index->alloc, directory);
        dbos_give(index->alloc, segment);
        return DBOS_ERR_NOMEM;
    }
    directory[0] = slot_of(segment);
    index->directory = directory;
    index->depth = 0;
    index->segment_count = 1;
    return DBOS_OK;
}

static enum dbos_err double_directory(struct dbos_hash *index) {
    uint64_t count = directory_count(index);
    struct dbos_hash_slot *directory = dbos_take(index->alloc, 2 * count * sizeof *directory);
    if (directory == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint64_t i = 0; i < count; i++) {
        directory[2 * i] = directory[2 * i + 1] = index->directory[i];
    }
    dbos_give(index->alloc, index->directory);
    index->directory = directory;
    index->depth++;
    return DBOS_OK;
}

/* Let the places of `segment` in the directory point to `low` and `high`, half each. */
static void point_to_halves(struct dbos_hash *index, const struct dbos_hash_segment *segment,
                            uint64_t hash, struct dbos_hash_segment *low,
                            struct dbos_hash_segment *high) {
    uint64_t span = span_of(index, segment);
    uint64_t first = directory_place(hash, index->depth) & ~(span - 1);
    for (uint64_t i = 0; i < span; i++) {
        DBOS_CHECK(index->directory[first + i].segment == segment);
        index->directory[first + i] = slot_of(i < span / 2 ? low : high);
    }
}

static enum dbos_err split(struct dbos_hash *index, struct dbos_hash_segment *segment,
                           uint64_t hash) {
    if (segment->depth == index->depth && double_directory(index) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_hash_segment *low = take_segment(index, segment->capacity, segment->depth + 1);
    struct dbos_hash_segment *high = take_segment(index, segment->capacity, segment->depth + 1);
    if (low == NULL || high == NULL) {
        dbos_give(index->alloc, low);
        dbos_give(index->alloc, high);
        return DBOS_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < segment->capacity; i++) {
        struct dbos_hash_entry *entry = &segment->entries[i];
        if (entry->row != NULL) {
            bool to_high = ((entry->hash >> (63 - segment->depth)) & 1) != 0;
            segment_put(to_high ? high : low, entry->hash, entry->row);
        }
    }
    point_to_halves(index, segment, hash, low, high);
    index->segment_count++;
    dbos_give(index->alloc, segment);
    return DBOS_OK;
}

static enum dbos_err grow(struct dbos_hash *index, struct dbos_hash_segment *segment,
                          uint64_t hash) {
    if (segment->capacity > UINT32_MAX / 4) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_hash_segment *larger = take_segment(index, segment->capacity * 2, segment->depth);
    if (larger == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < segment->capacity; i++) {
        if (segment->entries[i].row != NULL) {
            segment_put(larger, segment->entries[i].hash, segment->entries[i].row);
        }
    }
    point_to_halves(index, segment, hash, larger, larger);
    dbos_give(index->alloc, segment);
    return DBOS_OK;
}

/* Keys whose hashes agree in many top bits would double the directory without end: their segment
 * grows instead. */
static bool should_grow(const struct dbos_hash *index, const struct dbos_hash_segment *segment) {
    if (segment->capacity < SEGMENT_ENTRIES_MAX) {
        return true;
    }
    bool directory_is_sparse = directory_count(index) > 16 + 16 * (uint64_t)index->segment_count;
    return segment->depth == index->depth && (directory_is_sparse || index->depth == DEPTH_MAX);
}

enum dbos_err dbos_hash_reserve(struct dbos_hash *index, uint64_t hash) {
    if (index->directory == NULL && open_directory(index) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_hash_segment *segment = segment_of(index, hash);
    while (segment->count >= load_max(segment->capacity)) {
        enum dbos_err err =
            should_grow(index, segment) ? grow(index, segment, hash) : split(index, segment, hash);
        if (err != DBOS_OK) {
            return err;
        }
        segment = segment_of(index, hash);
    }
    return DBOS_OK;
}

void dbos_hash_put(struct dbos_hash *index, uint64_t hash, struct dbos_row *row) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    DBOS_CHECK(segment->count < load_max(segment->capacity));
    segment_put(segment, hash, row);
    index->count++;
}

static uint32_t place_of(const struct dbos_hash_segment *segment, uint64_t hash,
                         const struct dbos_row *row) {
    uint32_t mask = segment->capacity - 1;
    uint32_t place = (uint32_t)hash & mask;
    while (segment->entries[place].row != row) {
        DBOS_CHECK(segment->entries[place].row != NULL);
        place = (place + 1) & mask;
    }
    return place;
}

void dbos_hash_remove(struct dbos_hash *index, uint64_t hash, const struct dbos_row *row) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    uint32_t mask = segment->capacity - 1;
    uint32_t hole = place_of(segment, hash, row);
    uint32_t next = (hole + 1) & mask;
    while (segment->entries[next].row != NULL) {
        uint32_t home = (uint32_t)segment->entries[next].hash & mask;
        /* It may move into the hole unless its home lies behind the hole, on the way to it. */
        if (((next - home) & mask) >= ((next - hole) & mask)) {
            segment->entries[hole] = segment->entries[next];
            hole = next;
        }
        next = (next + 1) & mask;
    }
    segment->entries[hole] = (struct dbos_hash_entry){0};
    segment->count--;
    index->count--;
}

void dbos_hash_swap(struct dbos_hash *index, uint64_t hash, const struct dbos_row *old,
                    struct dbos_row *fresh) {
    struct dbos_hash_segment *segment = segment_of(index, hash);
    uint32_t place = place_of(segment, hash, old);
    DBOS_CHECK(segment->entries[place].hash == hash);
    segment->entries[place].row = fresh;
}

void dbos_hash_prefetch(const struct dbos_hash *index, uint64_t hash) {
    if (index->directory != NULL) {
        struct dbos_hash_slot slot = index->directory[directory_place(hash, index->depth)];
        __builtin_prefetch(&slot.segment->entries[(uint32_t)hash & slot.mask]);
        __builtin_prefetch(slot.segment);
    }
}

struct dbos_row *dbos_hash_next(const struct dbos_hash *index, uint64_t hash, uint32_t *place) {
    if (index->directory == NULL) {
        return NULL;
    }
    struct dbos_hash_slot slot = index->directory[directory_place(hash, index->depth)];
    const struct dbos_hash_entry *entries = slot.segment->entries;
    uint32_t at = *place == UINT32_MAX ? (uint32_t)hash & slot.mask : (*place + 1) & slot.mask;
    while (entries[at].row != NULL) {
        if (entries[at].hash == hash) {
            *place = at;
            return entries[at].row;
        }
        at = (at + 1) & slot.mask;
    }
    return NULL;
}

static bool segment_is_consistent(const struct dbos_hash_segment *segment, uint64_t place,
                                  uint32_t directory_depth) {
    uint32_t mask = segment->capacity - 1;
    uint32_t count = 0;
    for (uint32_t i = 0; i < segment->capacity; i++) {
        const struct dbos_hash_entry *entry = &segment->entries[i];
        if (entry->row == NULL) {
            continue;
        }
        count++;
        uint64_t top = directory_place(entry->hash, segment->depth);
        if (top != place >> (directory_depth - segment->depth)) {
            return false;
        }
        for (uint32_t at = (uint32_t)entry->hash & mask; at != i; at = (at + 1) & mask) {
            if (segment->entries[at].row == NULL) {
                return false; /* a search would stop before it */
            }
        }
    }
    return count == segment->count;
}

bool dbos_hash_consistent(const struct dbos_hash *index) {
    if (index->directory == NULL) {
        return index->count == 0;
    }
    uint64_t count = 0;
    uint32_t segments = 0;
    uint64_t place = 0;
    while (place < directory_count(index)) {
        const struct dbos_hash_segment *segment = index->directory[place].segment;
        if (segment->depth > index->depth ||
            index->directory[place].mask != segment->capacity - 1 ||
            !segment_is_consistent(segment, place, index->depth)) {
            return false;
        }
        count += segment->count;
        segments++;
        place += span_of(index, segment);
    }
    return count == index->count && segments == index->segment_count;
}
