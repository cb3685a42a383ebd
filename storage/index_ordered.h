/* Ordered index: a B+tree of rows. Also the non-unique hash index, ordered by the keys' hashes.
 *
 * Entries are a key prefix and the row; equal keys are in the order of their block ids, so every
 * entry has one place and a scan has one order. The separator before child i of an inner node is
 * exactly the first entry of that child's subtree. Every node but the root is at least half full.
 *
 *        inner   | -  s1  s2 |            si = first entry below child i
 *                 /   |     \
 *        leaf  [a b]<>[s1 c]<>[s2 d e]    leaves are linked both ways
 *
 * Memory for undo: nodes that become free are kept in a pool, and reserve sees to it that the pool
 * and the tree together have the nodes of the worst (half full) tree of all rows. So putting back a
 * row that was taken out never needs memory, whatever shape the tree has got meanwhile.
 *
 * Thread: as the table. Memory: from the slab given at init. */
#ifndef DBOS_STORAGE_INDEX_ORDERED_H
#define DBOS_STORAGE_INDEX_ORDERED_H

#include "storage/index_key.h"

enum { DBOS_TREE_ENTRIES_MAX = 64, DBOS_TREE_ENTRIES_MIN = DBOS_TREE_ENTRIES_MAX / 2 };

struct dbos_tree_node {
    uint32_t count; /* of entries; in an inner node also of children */
    bool is_leaf;
    struct dbos_tree_node *next;     /* of leaves; in the pool: the next free node */
    struct dbos_tree_node *previous; /* of leaves */
    uint64_t prefixes[DBOS_TREE_ENTRIES_MAX];
    struct dbos_row *rows[DBOS_TREE_ENTRIES_MAX]; /* inner: [0] of both is not used */
    struct dbos_tree_node *children[];            /* inner: DBOS_TREE_ENTRIES_MAX of them */
};

struct dbos_tree {
    struct dbos_slab *slab;
    struct dbos_key key;
    bool by_hash;                /* prefixes are hashes of the keys */
    struct dbos_tree_node *root; /* NULL = empty */
    struct dbos_tree_node *free_leaves;
    struct dbos_tree_node *free_inners;
    uint64_t leaves_owned; /* in the tree and in the pool */
    uint64_t inners_owned;
    uint64_t reserved_rows; /* what the owned nodes suffice for */
    uint64_t count;
    _Atomic uint64_t bytes; /* of the nodes owned; anyone may look */
};

void dbos_tree_init(struct dbos_tree *tree, struct dbos_slab *slab, const struct dbos_key *key,
                    bool by_hash);
void dbos_tree_fini(struct dbos_tree *tree);

/* After this, puts up to `rows` rows in all can not fail. Errors: NOMEM, nothing has changed. */
enum dbos_err dbos_tree_reserve(struct dbos_tree *tree, uint64_t rows) DBOS_MUST_USE;
void dbos_tree_put(struct dbos_tree *tree, struct dbos_row *row);
/* The row must be there. */
void dbos_tree_remove(struct dbos_tree *tree, const struct dbos_row *row);
/* `fresh` has the key and the block of `old`. */
void dbos_tree_swap(struct dbos_tree *tree, const struct dbos_row *old, struct dbos_row *fresh);
bool dbos_tree_contains(const struct dbos_tree *tree, const struct dbos_row *row);

/* A place between entries: before entry `at` of `leaf`; leaf NULL = behind the last entry. */
struct dbos_tree_place {
    struct dbos_tree_node *leaf;
    uint64_t at;
};
/* The place before (`after` false) or behind (true) all entries whose first `count` key columns are
 * equal to the datums. A tree by hash wants all columns, none NULL. */
struct dbos_tree_place dbos_tree_seek(const struct dbos_tree *tree, const struct dbos_datum *datums,
                                      uint32_t count, bool after);
/* The entry behind a place, or NULL. */
struct dbos_row *dbos_tree_at(struct dbos_tree_place place);
/* One entry on, or back (the place must have an entry before it). */
struct dbos_tree_place dbos_tree_forward(struct dbos_tree_place place);
struct dbos_tree_place dbos_tree_back(const struct dbos_tree *tree, struct dbos_tree_place place);

/* O(n): order, separators, fill and links are right. */
bool dbos_tree_consistent(const struct dbos_tree *tree);

#endif /* DBOS_STORAGE_INDEX_ORDERED_H */
