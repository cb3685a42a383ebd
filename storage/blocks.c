#include "storage/blocks.h"

#include <assert.h>

#include "storage/index_key.h"
#include "storage/table.h"

static_assert(sizeof(struct dbos_blocks_leaf) == 64, "a leaf is a cache line");

enum { NEWEST_BYTES = DBOS_SLOTS * sizeof(struct dbos_blocks_leaf *) };

static uint64_t leaf_number(uint64_t block) {
    return block / DBOS_SLOTS / DBOS_BLOCKS_LEAF_ROWS * DBOS_SLOTS + block % DBOS_SLOTS;
}

static uint32_t place_in_leaf(uint64_t block) {
    return (uint32_t)(block / DBOS_SLOTS % DBOS_BLOCKS_LEAF_ROWS);
}

static uint64_t hash_of_number(uint64_t number) { return dbos_key_hash_integer((int64_t)number); }

static uint64_t hash_of_leaf(const void *arg, const void *item) {
    (void)arg;
    return hash_of_number(((const struct dbos_blocks_leaf *)item)->number);
}

void dbos_blocks_init(struct dbos_blocks *blocks, struct dbos_slab *slab) {
    *blocks = (struct dbos_blocks){.slab = slab};
    dbos_hash_init(&blocks->leaves, slab, hash_of_leaf, NULL);
}

/* A spare leaf's number is the address of the next one. */
static void push_spare(struct dbos_blocks *blocks, struct dbos_blocks_leaf *leaf) {
    leaf->number = (uint64_t)(uintptr_t)blocks->spare;
    blocks->spare = leaf;
}

static struct dbos_blocks_leaf *pop_spare(struct dbos_blocks *blocks) {
    struct dbos_blocks_leaf *leaf = blocks->spare;
    DBOS_CHECK(leaf != NULL);
    blocks->spare = (struct dbos_blocks_leaf *)(uintptr_t)leaf->number;
    return leaf;
}

static bool leaf_is_empty(const struct dbos_blocks_leaf *leaf) {
    uint32_t any = 0;
    for (uint32_t i = 0; i < DBOS_BLOCKS_LEAF_ROWS; i++) {
        any |= leaf->places[i];
    }
    return any == 0;
}

static struct dbos_blocks_leaf *find_leaf(const struct dbos_blocks *blocks, uint64_t number) {
    struct dbos_blocks_leaf *leaf =
        blocks->newest == NULL ? NULL : blocks->newest[number % DBOS_SLOTS];
    if (leaf != NULL && leaf->number == number) {
        return leaf;
    }
    uint32_t at = UINT32_MAX;
    uint64_t hash = hash_of_number(number);
    do {
        leaf = dbos_hash_next(&blocks->leaves, hash, &at);
    } while (leaf != NULL && leaf->number != number);
    return leaf;
}

static struct dbos_blocks_leaf *must_find_leaf(const struct dbos_blocks *blocks, uint64_t block) {
    struct dbos_blocks_leaf *leaf = find_leaf(blocks, leaf_number(block));
    DBOS_CHECK(leaf != NULL);
    DBOS_CHECK(leaf->places[place_in_leaf(block)] != 0);
    return leaf;
}

static void give_leaf(void *item, void *arg) {
    dbos_slab_give(arg, item, sizeof(struct dbos_blocks_leaf));
}

void dbos_blocks_fini(struct dbos_blocks *blocks) {
    dbos_hash_each(&blocks->leaves, give_leaf, blocks->slab);
    dbos_hash_fini(&blocks->leaves);
    while (blocks->spare != NULL) {
        dbos_slab_give(blocks->slab, pop_spare(blocks), sizeof(struct dbos_blocks_leaf));
    }
    dbos_slab_give(blocks->slab, blocks->newest, NEWEST_BYTES);
    dbos_blocks_init(blocks, blocks->slab);
}

enum dbos_err dbos_blocks_reserve(struct dbos_blocks *blocks, uint64_t block) {
    if (blocks->newest == NULL) {
        blocks->newest = dbos_slab_take_zero(blocks->slab, NEWEST_BYTES);
        if (blocks->newest == NULL) {
            return DBOS_ERR_NOMEM;
        }
    }
    uint64_t number = leaf_number(block);
    if (find_leaf(blocks, number) != NULL) {
        return DBOS_OK;
    }
    if (blocks->spare == NULL) {
        struct dbos_blocks_leaf *leaf = dbos_slab_take_zero(blocks->slab, sizeof *leaf);
        if (leaf == NULL) {
            return DBOS_ERR_NOMEM;
        }
        push_spare(blocks, leaf);
    }
    return dbos_hash_reserve(&blocks->leaves, hash_of_number(number));
}

void dbos_blocks_put(struct dbos_blocks *blocks, uint64_t block, uint32_t place) {
    uint64_t number = leaf_number(block);
    struct dbos_blocks_leaf *leaf = find_leaf(blocks, number);
    DBOS_CHECK(place < UINT32_MAX - 1);
    if (leaf == NULL) {
        leaf = pop_spare(blocks);
        leaf->number = number;
        dbos_hash_put(&blocks->leaves, hash_of_number(number), leaf);
    }
    DBOS_CHECK(leaf->places[place_in_leaf(block)] == 0);
    leaf->places[place_in_leaf(block)] = place + 1;
    blocks->newest[number % DBOS_SLOTS] = leaf;
    blocks->count++;
}

void dbos_blocks_move(struct dbos_blocks *blocks, uint64_t block, uint32_t place) {
    must_find_leaf(blocks, block)->places[place_in_leaf(block)] = place + 1;
}

void dbos_blocks_remove(struct dbos_blocks *blocks, uint64_t block) {
    struct dbos_blocks_leaf *leaf = must_find_leaf(blocks, block);
    struct dbos_blocks_leaf **newest = &blocks->newest[block % DBOS_SLOTS];
    leaf->places[place_in_leaf(block)] = 0;
    blocks->count--;
    if (leaf_is_empty(leaf)) {
        dbos_hash_remove(&blocks->leaves, hash_of_number(leaf->number), leaf);
        if (*newest == leaf) {
            *newest = NULL;
        }
        push_spare(blocks, leaf);
    }
}

uint32_t dbos_blocks_find(const struct dbos_blocks *blocks, uint64_t block) {
    const struct dbos_blocks_leaf *leaf = find_leaf(blocks, leaf_number(block));
    uint32_t place = leaf == NULL ? 0 : leaf->places[place_in_leaf(block)];
    return place == 0 ? DBOS_BLOCKS_NONE : place - 1;
}

void dbos_blocks_prefetch(const struct dbos_blocks *blocks, uint64_t block) {
    if (blocks->newest != NULL) {
        __builtin_prefetch(blocks->newest[block % DBOS_SLOTS]);
    }
}

struct leaf_walk {
    uint64_t rows;
    bool fine;
};

static void check_leaf(void *item, void *arg) {
    const struct dbos_blocks_leaf *leaf = item;
    struct leaf_walk *walk = arg;
    walk->fine = walk->fine && !leaf_is_empty(leaf);
    for (uint32_t i = 0; i < DBOS_BLOCKS_LEAF_ROWS; i++) {
        walk->rows += leaf->places[i] != 0;
    }
}

bool dbos_blocks_consistent(const struct dbos_blocks *blocks) {
    struct leaf_walk walk = {.fine = true};
    dbos_hash_each(&blocks->leaves, check_leaf, &walk);
    for (const struct dbos_blocks_leaf *leaf = blocks->spare; leaf != NULL;
         leaf = (const struct dbos_blocks_leaf *)(uintptr_t)leaf->number) {
        walk.fine = walk.fine && leaf_is_empty(leaf);
    }
    for (uint32_t i = 0; blocks->newest != NULL && i < DBOS_SLOTS; i++) {
        const struct dbos_blocks_leaf *leaf = blocks->newest[i];
        walk.fine = walk.fine && (leaf == NULL || leaf->number % DBOS_SLOTS == i);
    }
    return walk.fine && walk.rows == blocks->count && dbos_hash_consistent(&blocks->leaves);
}
