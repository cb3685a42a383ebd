#include "storage/index_ordered.h"

/* Rows are counted by 32-bit places in the table, nodes have at least 32 entries: at most seven
 * levels, so a path of twelve always suffices. */
enum { LEVELS_MAX = 12, ENTRIES_MAX = DBOS_TREE_ENTRIES_MAX, ENTRIES_MIN = DBOS_TREE_ENTRIES_MIN };

void dbos_tree_init(struct dbos_tree *tree, struct dbos_slab *slab, const struct dbos_key *key,
                    bool by_hash) {
    *tree = (struct dbos_tree){.slab = slab, .key = *key, .by_hash = by_hash};
}

static size_t node_bytes(bool is_leaf) {
    return sizeof(struct dbos_tree_node) +
           (is_leaf ? 0 : ENTRIES_MAX * sizeof(struct dbos_tree_node *));
}

static void give_pool(struct dbos_tree *tree, struct dbos_tree_node *node) {
    while (node != NULL) {
        struct dbos_tree_node *next = node->next;
        dbos_slab_give(tree->slab, node, node_bytes(node->is_leaf));
        node = next;
    }
}

/* The recursion is as deep as the tree: at most LEVELS_MAX. */
static void give_subtree(struct dbos_tree *tree, struct dbos_tree_node *node) {
    if (!node->is_leaf) {
        for (uint32_t i = 0; i < node->count; i++) {
            give_subtree(tree, node->children[i]);
        }
    }
    dbos_slab_give(tree->slab, node, node_bytes(node->is_leaf));
}

void dbos_tree_fini(struct dbos_tree *tree) {
    if (tree->root != NULL) {
        give_subtree(tree, tree->root);
    }
    give_pool(tree, tree->free_leaves);
    give_pool(tree, tree->free_inners);
    tree->root = tree->free_leaves = tree->free_inners = NULL;
}

/* Nodes of the worst tree of `rows` rows, all nodes half full. */
static uint64_t leaves_for(uint64_t rows) {
    return rows < 2 * ENTRIES_MIN ? 1 : rows / ENTRIES_MIN;
}
static uint64_t inners_for(uint64_t leaves) {
    uint64_t inners = 0;
    while (leaves > 1) {
        leaves = leaves < 2 * ENTRIES_MIN ? 1 : leaves / ENTRIES_MIN;
        inners += leaves;
    }
    return inners;
}

static struct dbos_tree_node *take_node(struct dbos_tree *tree, bool is_leaf) {
    struct dbos_tree_node *node = dbos_slab_take(tree->slab, node_bytes(is_leaf));
    if (node != NULL) {
        node->is_leaf = is_leaf;
        uint64_t held = atomic_load_explicit(&tree->bytes, memory_order_relaxed);
        atomic_store_explicit(&tree->bytes, held + node_bytes(is_leaf), memory_order_relaxed);
    }
    return node;
}

static void give_to_pool(struct dbos_tree *tree, struct dbos_tree_node *node) {
    struct dbos_tree_node **pool = node->is_leaf ? &tree->free_leaves : &tree->free_inners;
    node->next = *pool;
    *pool = node;
}

static struct dbos_tree_node *take_from_pool(struct dbos_tree *tree, bool is_leaf) {
    struct dbos_tree_node **pool = is_leaf ? &tree->free_leaves : &tree->free_inners;
    struct dbos_tree_node *node = *pool;
    DBOS_CHECK(node != NULL); /* reserved */
    *pool = node->next;
    node->count = 0;
    node->next = node->previous = NULL;
    return node;
}

enum dbos_err dbos_tree_reserve(struct dbos_tree *tree, uint64_t rows) {
    if (rows <= tree->reserved_rows) {
        return DBOS_OK;
    }
    uint64_t leaves = leaves_for(rows);
    uint64_t inners = inners_for(leaves);
    while (tree->leaves_owned < leaves || tree->inners_owned < inners) {
        bool is_leaf = tree->leaves_owned < leaves;
        struct dbos_tree_node *node = take_node(tree, is_leaf);
        if (node == NULL) {
            return DBOS_ERR_NOMEM; /* what has been taken is of use later */
        }
        give_to_pool(tree, node);
        tree->leaves_owned += is_leaf;
        tree->inners_owned += !is_leaf;
    }
    /* The most rows for which the same numbers suffice. */
    uint64_t most = (leaves + 1) * ENTRIES_MIN - 1;
    tree->reserved_rows = most > rows ? most : rows;
    DBOS_CHECK(leaves_for(tree->reserved_rows) == leaves);
    return DBOS_OK;
}

/* What is looked for: a row (with its block), or leading datums. */
struct probe {
    struct dbos_prefix prefix;
    const struct dbos_row *row; /* NULL: datums */
    const struct dbos_datum *datums;
    uint32_t datum_count;
};

static uint64_t prefix_of(const struct dbos_tree *tree, const struct dbos_row *row) {
    return tree->by_hash ? dbos_key_hash_row(&tree->key, row)
                         : dbos_key_prefix_row(&tree->key, row);
}

static struct probe probe_row(const struct dbos_tree *tree, const struct dbos_row *row) {
    bool exact = tree->by_hash ? tree->key.exact_hash : tree->key.exact_prefix;
    return (struct probe){
        .prefix = {.value = prefix_of(tree, row), .mask = UINT64_MAX, .exact = exact},
        .row = row,
    };
}

static struct probe probe_datums(const struct dbos_tree *tree, const struct dbos_datum *datums,
                                 uint32_t count) {
    struct probe probe = {.datums = datums, .datum_count = count};
    if (tree->by_hash) {
        DBOS_CHECK(count == tree->key.index->column_count);
        probe.prefix = (struct dbos_prefix){
            .value = dbos_key_hash_datums(&tree->key, datums),
            .mask = UINT64_MAX,
            .exact = tree->key.exact_hash,
        };
    } else {
        probe.prefix = dbos_key_prefix_datums(&tree->key, datums, count);
    }
    return probe;
}

/* Order of an entry against a probe whose prefix it shares. */
static int compare_rest(const struct dbos_tree *tree, const struct dbos_row *row,
                        const struct probe *probe) {
    if (probe->row == NULL) {
        return probe->prefix.exact
                   ? 0
                   : dbos_key_compare_datums(&tree->key, row, probe->datums, probe->datum_count);
    }
    int order = probe->prefix.exact ? 0 : dbos_key_compare_rows(&tree->key, row, probe->row);
    if (order != 0) {
        return order;
    }
    return (row->block > probe->row->block) - (row->block < probe->row->block);
}

static int compare_entry(const struct dbos_tree *tree, const struct dbos_tree_node *node,
                         uint32_t at, const struct probe *probe) {
    uint64_t prefix = node->prefixes[at] & probe->prefix.mask;
    if (prefix != probe->prefix.value) {
        return prefix < probe->prefix.value ? -1 : 1;
    }
    return compare_rest(tree, node->rows[at], probe);
}

/* The first entry from `from` on whose prefix is not below the probe's. Without branches that
 * depend on the data: a mispredicted one costs more than the whole search. */
static uint32_t first_not_below(const struct dbos_tree_node *node, uint32_t from,
                                const struct dbos_prefix *prefix) {
    uint32_t base = from;
    uint32_t length = node->count - from;
    while (length > 0) {
        uint32_t half = (length + 1) / 2;
        bool below = (node->prefixes[base + half - 1] & prefix->mask) < prefix->value;
        base += below ? half : 0;
        length -= half;
    }
    return base;
}

/* How many entries from `from` on are before the probe, or equal to it where `equal_too`; plus
 * `from`. */
static uint32_t count_before(const struct dbos_tree *tree, const struct dbos_tree_node *node,
                             uint32_t from, const struct probe *probe, bool equal_too) {
    uint32_t low = first_not_below(node, from, &probe->prefix);
    uint32_t high = node->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 4; /* entries that share the prefix are few */
        if (compare_entry(tree, node, middle, probe) < (equal_too ? 1 : 0)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The prefixes of a node are eight lines of the cache: load them at once, not one by one. */
static struct dbos_tree_node *prefetch_node(struct dbos_tree_node *node) {
    for (uint32_t i = 0; i < ENTRIES_MAX; i += 8) {
        __builtin_prefetch(&node->prefixes[i]);
    }
    return node;
}

/* The nodes from the root to a leaf; at[i] is the child taken, in the leaf the entry. */
struct path {
    struct dbos_tree_node *nodes[LEVELS_MAX];
    uint32_t at[LEVELS_MAX];
    uint32_t leaf_level;
};

static void descend(const struct dbos_tree *tree, const struct probe *probe, struct path *path) {
    struct dbos_tree_node *node = tree->root;
    uint32_t level = 0;
    while (!node->is_leaf) {
        DBOS_CHECK(level < LEVELS_MAX - 1);
        path->nodes[level] = node;
        path->at[level] = count_before(tree, node, 1, probe, true) - 1;
        node = prefetch_node(node->children[path->at[level]]);
        level++;
    }
    path->nodes[level] = node;
    path->at[level] = count_before(tree, node, 0, probe, false);
    path->leaf_level = level;
}

static void move_entries(struct dbos_tree_node *to, uint32_t to_at,
                         const struct dbos_tree_node *from, uint32_t from_at, uint32_t count) {
    memmove(&to->prefixes[to_at], &from->prefixes[from_at], count * sizeof to->prefixes[0]);
    memmove(&to->rows[to_at], &from->rows[from_at], count * sizeof(struct dbos_row *));
    if (!to->is_leaf) {
        memmove(&to->children[to_at], &from->children[from_at],
                count * sizeof(struct dbos_tree_node *));
    }
}

static void copy_separator(struct dbos_tree_node *to, uint32_t to_at,
                           const struct dbos_tree_node *from, uint32_t from_at) {
    to->prefixes[to_at] = from->prefixes[from_at];
    to->rows[to_at] = from->rows[from_at];
}

struct entry {
    uint64_t prefix;
    struct dbos_row *row;
    struct dbos_tree_node *child; /* of an inner node */
};

static void put_into(struct dbos_tree_node *node, uint32_t at, const struct entry *entry) {
    move_entries(node, at + 1, node, at, node->count - at);
    node->prefixes[at] = entry->prefix;
    node->rows[at] = entry->row;
    if (!node->is_leaf) {
        node->children[at] = entry->child;
    }
    node->count++;
}

/* Moves the upper half of a full node into a new one behind it. */
static struct dbos_tree_node *split(struct dbos_tree *tree, struct dbos_tree_node *node) {
    struct dbos_tree_node *fresh = take_from_pool(tree, node->is_leaf);
    move_entries(fresh, 0, node, ENTRIES_MIN, ENTRIES_MAX - ENTRIES_MIN);
    fresh->count = ENTRIES_MAX - ENTRIES_MIN;
    node->count = ENTRIES_MIN;
    if (node->is_leaf) {
        fresh->next = node->next;
        fresh->previous = node;
        if (node->next != NULL) {
            node->next->previous = fresh;
        }
        node->next = fresh;
    }
    return fresh;
}

static void grow_root(struct dbos_tree *tree, const struct entry *second) {
    struct dbos_tree_node *root = take_from_pool(tree, false);
    root->children[0] = tree->root;
    root->prefixes[0] = 0;
    root->rows[0] = NULL;
    root->count = 1;
    put_into(root, 1, second);
    tree->root = root;
}

void dbos_tree_put(struct dbos_tree *tree, struct dbos_row *row) {
    DBOS_CHECK(tree->count < tree->reserved_rows);
    if (tree->root == NULL) {
        tree->root = take_from_pool(tree, true);
    }
    struct path path;
    struct probe probe = probe_row(tree, row);
    descend(tree, &probe, &path);
    struct entry entry = {.prefix = probe.prefix.value, .row = row};
    uint32_t level = path.leaf_level;
    uint32_t at = path.at[level];
    for (;;) {
        struct dbos_tree_node *node = path.nodes[level];
        if (node->count < ENTRIES_MAX) {
            put_into(node, at, &entry);
            break;
        }
        struct dbos_tree_node *fresh = split(tree, node);
        bool to_fresh = at > ENTRIES_MIN; /* at the seam it goes to the left, behind its last */
        put_into(to_fresh ? fresh : node, to_fresh ? at - ENTRIES_MIN : at, &entry);
        entry = (struct entry){.prefix = fresh->prefixes[0], .row = fresh->rows[0], .child = fresh};
        if (level == 0) {
            grow_root(tree, &entry);
            break;
        }
        level--;
        at = path.at[level] + 1;
    }
    tree->count++;
}

/* The first entry of the leaf has changed: so has the separator before it, in the nearest ancestor
 * where the path does not go by the first child. */
static void renew_separator(const struct path *path) {
    const struct dbos_tree_node *leaf = path->nodes[path->leaf_level];
    for (uint32_t level = path->leaf_level; level > 0; level--) {
        if (path->at[level - 1] != 0) {
            copy_separator(path->nodes[level - 1], path->at[level - 1], leaf, 0);
            return;
        }
    }
}

static void take_out(struct dbos_tree_node *node, uint32_t at) {
    move_entries(node, at, node, at + 1, node->count - at - 1);
    node->count--;
}

/* Children `right - 1` and `right` of the parent become one, or share their entries evenly. */
static void merge_or_share(struct dbos_tree *tree, struct dbos_tree_node *parent, uint32_t right) {
    struct dbos_tree_node *l = parent->children[right - 1];
    struct dbos_tree_node *r = parent->children[right];
    copy_separator(r, 0, parent, right); /* an inner node does not keep its own */
    uint32_t total = l->count + r->count;
    if (total <= ENTRIES_MAX) {
        move_entries(l, l->count, r, 0, r->count);
        l->count = total;
        if (l->is_leaf) {
            l->next = r->next;
            if (r->next != NULL) {
                r->next->previous = l;
            }
        }
        take_out(parent, right);
        give_to_pool(tree, r);
        return;
    }
    uint32_t keep = total / 2;
    if (l->count > keep) {
        uint32_t moved = l->count - keep;
        move_entries(r, moved, r, 0, r->count);
        move_entries(r, 0, l, keep, moved);
    } else {
        uint32_t moved = keep - l->count;
        move_entries(l, l->count, r, 0, moved);
        move_entries(r, 0, r, moved, r->count - moved);
    }
    l->count = keep;
    r->count = total - keep;
    copy_separator(parent, right, r, 0);
}

/* From the leaf upwards, as long as nodes are less than half full. */
static void rebalance(struct dbos_tree *tree, const struct path *path) {
    uint32_t level = path->leaf_level;
    while (level > 0 && path->nodes[level]->count < ENTRIES_MIN) {
        uint32_t at = path->at[level - 1];
        merge_or_share(tree, path->nodes[level - 1], at == 0 ? 1 : at);
        level--;
    }
    struct dbos_tree_node *root = tree->root;
    if (!root->is_leaf && root->count == 1) {
        tree->root = root->children[0];
        give_to_pool(tree, root);
    } else if (root->is_leaf && root->count == 0) {
        tree->root = NULL;
        give_to_pool(tree, root);
    }
}

void dbos_tree_remove(struct dbos_tree *tree, const struct dbos_row *row) {
    struct path path;
    struct probe probe = probe_row(tree, row);
    DBOS_CHECK(tree->root != NULL);
    descend(tree, &probe, &path);
    struct dbos_tree_node *leaf = path.nodes[path.leaf_level];
    uint32_t at = path.at[path.leaf_level];
    DBOS_CHECK(at < leaf->count);
    DBOS_CHECK(leaf->rows[at] == row);
    take_out(leaf, at);
    if (at == 0 && leaf->count != 0) {
        renew_separator(&path);
    }
    rebalance(tree, &path);
    tree->count--;
}

void dbos_tree_swap(struct dbos_tree *tree, const struct dbos_row *old, struct dbos_row *fresh) {
    struct path path;
    struct probe probe = probe_row(tree, old);
    DBOS_CHECK(tree->root != NULL);
    descend(tree, &probe, &path);
    struct dbos_tree_node *leaf = path.nodes[path.leaf_level];
    uint32_t at = path.at[path.leaf_level];
    DBOS_CHECK(at < leaf->count);
    DBOS_CHECK(leaf->rows[at] == old);
    leaf->rows[at] = fresh;
    if (at == 0) {
        renew_separator(&path);
    }
}

bool dbos_tree_contains(const struct dbos_tree *tree, const struct dbos_row *row) {
    if (tree->root == NULL) {
        return false;
    }
    struct path path;
    struct probe probe = probe_row(tree, row);
    descend(tree, &probe, &path);
    const struct dbos_tree_node *leaf = path.nodes[path.leaf_level];
    uint32_t at = path.at[path.leaf_level];
    return at < leaf->count && leaf->rows[at] == row;
}

/* A place behind the last entry of a leaf is the one before the first of the next leaf. */
static struct dbos_tree_place place_of(struct dbos_tree_node *leaf, uint64_t at) {
    return at < leaf->count ? (struct dbos_tree_place){.leaf = leaf, .at = at}
                            : (struct dbos_tree_place){.leaf = leaf->next, .at = 0};
}

struct dbos_tree_place dbos_tree_seek(const struct dbos_tree *tree, const struct dbos_datum *datums,
                                      uint32_t count, bool after) {
    struct dbos_tree_node *node = tree->root;
    if (node == NULL || (count == 0 && after)) {
        return (struct dbos_tree_place){0};
    }
    struct probe probe = {.datums = datums};
    if (count != 0) {
        probe = probe_datums(tree, datums, count);
    } else {
        probe.prefix.exact = true; /* with mask 0 all entries are equal to it */
    }
    while (!node->is_leaf) {
        node = prefetch_node(node->children[count_before(tree, node, 1, &probe, after) - 1]);
    }
    return place_of(node, count_before(tree, node, 0, &probe, after));
}

struct dbos_row *dbos_tree_at(struct dbos_tree_place place) {
    return place.leaf == NULL ? NULL : place.leaf->rows[place.at];
}

struct dbos_tree_place dbos_tree_forward(struct dbos_tree_place place) {
    return place_of(place.leaf, place.at + 1);
}

struct dbos_tree_place dbos_tree_back(const struct dbos_tree *tree, struct dbos_tree_place place) {
    if (place.leaf != NULL && place.at > 0) {
        return (struct dbos_tree_place){.leaf = place.leaf, .at = place.at - 1};
    }
    struct dbos_tree_node *leaf = place.leaf == NULL ? tree->root : place.leaf->previous;
    DBOS_CHECK(leaf != NULL);
    while (!leaf->is_leaf) {
        leaf = leaf->children[leaf->count - 1];
    }
    return (struct dbos_tree_place){.leaf = leaf, .at = leaf->count - 1};
}

/* What a walk over the tree in order carries from leaf to leaf. */
struct walk {
    const struct dbos_tree *tree;
    const struct dbos_row *last_row;
    const struct dbos_tree_node *last_leaf;
    uint64_t rows;
    uint64_t leaves;
    uint64_t inners;
    uint32_t leaf_depth;
};

static bool leaf_is_consistent(struct walk *walk, const struct dbos_tree_node *leaf) {
    for (uint32_t i = 0; i < leaf->count; i++) {
        const struct dbos_row *row = leaf->rows[i];
        if (leaf->prefixes[i] != prefix_of(walk->tree, row)) {
            return false;
        }
        if (walk->last_row != NULL) {
            struct probe probe = probe_row(walk->tree, walk->last_row);
            if (compare_entry(walk->tree, leaf, i, &probe) <= 0) {
                return false;
            }
        }
        walk->last_row = row;
    }
    bool linked = leaf->previous == walk->last_leaf &&
                  (walk->last_leaf == NULL || walk->last_leaf->next == leaf);
    walk->last_leaf = leaf;
    walk->leaves++;
    walk->rows += leaf->count;
    return linked;
}

static const struct dbos_row *first_below(const struct dbos_tree_node *node) {
    while (!node->is_leaf) {
        node = node->children[0];
    }
    return node->rows[0];
}

/* The recursion is as deep as the tree: at most LEVELS_MAX. */
static bool subtree_is_consistent(struct walk *walk, const struct dbos_tree_node *node,
                                  uint32_t depth) {
    bool is_root = node == walk->tree->root;
    uint32_t least = !is_root ? ENTRIES_MIN : (node->is_leaf ? 1 : 2);
    if (node->count < least || node->count > ENTRIES_MAX || depth >= LEVELS_MAX) {
        return false;
    }
    if (node->is_leaf) {
        bool level = walk->leaf_depth == 0 || walk->leaf_depth == depth;
        walk->leaf_depth = depth;
        return level && leaf_is_consistent(walk, node);
    }
    walk->inners++;
    for (uint32_t i = 0; i < node->count; i++) {
        const struct dbos_row *first = first_below(node->children[i]);
        if (i > 0 &&
            (node->rows[i] != first || node->prefixes[i] != prefix_of(walk->tree, first))) {
            return false;
        }
        if (!subtree_is_consistent(walk, node->children[i], depth + 1)) {
            return false;
        }
    }
    return true;
}

static uint64_t pool_count(const struct dbos_tree_node *node) {
    uint64_t count = 0;
    for (; node != NULL; node = node->next) {
        count++;
    }
    return count;
}

bool dbos_tree_consistent(const struct dbos_tree *tree) {
    struct walk walk = {.tree = tree};
    if (tree->root != NULL && !subtree_is_consistent(&walk, tree->root, 1)) {
        return false;
    }
    uint64_t leaves = tree->reserved_rows == 0 ? 0 : leaves_for(tree->reserved_rows);
    return walk.rows == tree->count && (walk.last_leaf == NULL || walk.last_leaf->next == NULL) &&
           walk.leaves + pool_count(tree->free_leaves) == tree->leaves_owned &&
           walk.inners + pool_count(tree->free_inners) == tree->inners_owned &&
           tree->leaves_owned >= leaves && tree->inners_owned >= inners_for(leaves) &&
           tree->bytes ==
               tree->leaves_owned * node_bytes(true) + tree->inners_owned * node_bytes(false);
}
