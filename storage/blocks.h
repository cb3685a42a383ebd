/* Where the row of a block is: block id -> place in the table's row directory.
 *
 * Block ids count up in each slot (counter * 1024 + slot), so neighbours in a slot share a *leaf*:
 * a cache line with the places of 14 counters. Leaves are found by their number in a hash; the one
 * that a slot came to last is at hand, so that an insert touches no other memory. A slot may have
 * any holes: what is empty has no leaf.
 *
 *      block = 1024 * counter + slot          leaf (64 bytes)
 *                     |                       +--------+-----+-----+--   --+------+
 *                     +-- / 14, hashed ------>| number | [0] | [1] |  ...  | [13] |
 *                     +-- % 14 --------------------------^
 *
 * Memory for undo: a leaf that becomes empty is kept, so there are always as many as there ever
 * were at once: what was taken out can be put back (newest first).
 *
 * Thread: as the table. Memory: from the slab given at init. */
#ifndef DBOS_STORAGE_BLOCKS_H
#define DBOS_STORAGE_BLOCKS_H

#include "storage/index_hash.h"

enum { DBOS_BLOCKS_LEAF_ROWS = 14 };

#define DBOS_BLOCKS_NONE UINT32_MAX

struct dbos_blocks_leaf {
    uint64_t number;                        /* counter / 14 * 1024 + slot */
    uint32_t places[DBOS_BLOCKS_LEAF_ROWS]; /* place + 1; 0 = no row */
};

struct dbos_blocks {
    struct dbos_slab *slab;
    struct dbos_hash leaves;
    struct dbos_blocks_leaf **newest; /* of each slot, or NULL; a look-up there comes first */
    struct dbos_blocks_leaf *spare;   /* without a row; their numbers link them */
    uint64_t count;                   /* of rows */
};

void dbos_blocks_init(struct dbos_blocks *blocks, struct dbos_slab *slab);
void dbos_blocks_fini(struct dbos_blocks *blocks);

/* After this, one dbos_blocks_put() of this block can not fail. Errors: NOMEM, nothing has changed.
 */
enum dbos_err dbos_blocks_reserve(struct dbos_blocks *blocks, uint64_t block) DBOS_MUST_USE;
/* The block must not be there. */
void dbos_blocks_put(struct dbos_blocks *blocks, uint64_t block, uint32_t place);
/* It must be there. */
void dbos_blocks_move(struct dbos_blocks *blocks, uint64_t block, uint32_t place);
void dbos_blocks_remove(struct dbos_blocks *blocks, uint64_t block);
/* DBOS_BLOCKS_NONE = no such block. */
uint32_t dbos_blocks_find(const struct dbos_blocks *blocks, uint64_t block);
/* Starts to load what the others will read. */
void dbos_blocks_prefetch(const struct dbos_blocks *blocks, uint64_t block);

/* O(n): counts agree, and no leaf in the hash is empty. */
bool dbos_blocks_consistent(const struct dbos_blocks *blocks);

#endif /* DBOS_STORAGE_BLOCKS_H */
