#include "storage/table.h"

#include <assert.h>

#include "storage/blocks.h"
#include "storage/index_ordered.h"

/* The row directory: chunks of row pointers, dense. A removed row's place is taken by the last row;
 * putting it back (newest first) reverses that exactly, so undo restores the scan order too. */
enum { CHUNK_ROWS = 1024, CHUNK_BYTES = CHUNK_ROWS * sizeof(struct dbos_row *) };

/* A unique hash index is a hash; every other index is a tree. */
struct dbos_table_index {
    bool is_hash;
    bool skips_nulls; /* rows with a NULL in the key are not in it: nobody can look them up */
    struct dbos_key key;
    struct dbos_hash hash;
    struct dbos_tree tree;
};

struct dbos_table {
    struct dbos_slab slab; /* rows, and all that is below */
    struct dbos_table_def *def;
    struct dbos_row ***chunks;
    uint32_t chunk_count;
    uint32_t chunk_capacity;
    _Atomic uint64_t row_count; /* written by one thread; anyone may look */
    uint64_t row_count_max;     /* ever: what a new index must have nodes for, so that undo fits */
    struct dbos_blocks blocks;  /* block -> place in the directory */
    struct dbos_table_index *indexes; /* as def->indexes */
    struct dbos_table_copy *copy;     /* being made, or NULL */
    uint64_t next_counters[DBOS_SLOTS];
};

#define FULL_SCAN UINT32_MAX

/* Frozen: block ids in logs contain the slot. */
uint32_t dbos_slot_of(const struct dbos_datum *value) {
    uint64_t hash;
    if (value->is_null) {
        hash = 0;
    } else if (dbos_type_is_bytes((enum dbos_type)value->type)) {
        hash = dbos_hash64(0, value->bytes.data, value->bytes.size_bytes);
    } else {
        uint64_t bits =
            value->type == DBOS_TYPE_FLOAT8 ? dbos_real_key(value->real) : (uint64_t)value->integer;
        hash = dbos_mix64(bits + UINT64_C(0x9e3779b97f4a7c15));
    }
    return (uint32_t)(hash % DBOS_SLOTS);
}

static uint64_t hash_of_row(const void *key, const void *row) {
    return dbos_key_hash_row(key, row);
}

static void index_init(struct dbos_table_index *index, struct dbos_slab *slab,
                       const struct dbos_table_def *def, const struct dbos_index_def *index_def) {
    *index = (struct dbos_table_index){
        .is_hash = index_def->kind == DBOS_INDEX_HASH && index_def->unique,
        .skips_nulls = index_def->kind == DBOS_INDEX_HASH,
    };
    dbos_key_init(&index->key, def, index_def);
    dbos_hash_init(&index->hash, slab, hash_of_row, &index->key);
    dbos_tree_init(&index->tree, slab, &index->key, index_def->kind == DBOS_INDEX_HASH);
}

static void index_fini(struct dbos_table_index *index) {
    dbos_hash_fini(&index->hash);
    dbos_tree_fini(&index->tree);
}

/* Let an index refer to the table's new definition, where it is the same index, and to itself,
 * where it has moved. */
static void index_rebind(struct dbos_table_index *index, const struct dbos_table_def *def,
                         const struct dbos_index_def *index_def) {
    dbos_key_init(&index->key, def, index_def);
    index->tree.key = index->key;
    index->hash.arg = &index->key;
}

static bool index_has(const struct dbos_table_index *index, const struct dbos_row *row) {
    return !index->skips_nulls || !dbos_key_row_has_null(&index->key, row);
}

/* What an operation asks of a row's keys more than once. */
struct row_keys {
    uint32_t absent;                   /* bit i: the row is not in index i */
    uint64_t hashes[DBOS_INDEXES_MAX]; /* of the keys in the hash indexes that have the row */
};
static_assert(DBOS_INDEXES_MAX <= 32, "one bit for each index");

/* In a large table each of the places where a row belongs is a miss: let them come side by side. */
static void find_keys(const struct dbos_table *table, const struct dbos_row *row,
                      struct row_keys *keys) {
    keys->absent = 0;
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        const struct dbos_table_index *index = &table->indexes[i];
        if (!index_has(index, row)) {
            keys->absent |= UINT32_C(1) << i;
        } else if (index->is_hash) {
            keys->hashes[i] = dbos_key_hash_row(&index->key, row);
            dbos_hash_prefetch(&index->hash, keys->hashes[i]);
        }
    }
}

static struct dbos_row *hash_equal_row(const struct dbos_table_index *index,
                                       const struct dbos_row *row, uint64_t hash) {
    uint32_t place = UINT32_MAX;
    for (;;) {
        struct dbos_row *found = dbos_hash_next(&index->hash, hash, &place);
        if (found == NULL || dbos_key_equal_rows(&index->key, found, row)) {
            return found;
        }
    }
}

static struct dbos_row *tree_equal_row(const struct dbos_table_index *index,
                                       const struct dbos_row *row) {
    struct dbos_datum datums[DBOS_INDEX_COLUMNS_MAX];
    uint32_t count = index->key.index->column_count;
    for (uint32_t i = 0; i < count; i++) {
        datums[i] = dbos_row_column(index->key.def, row, index->key.index->columns[i]);
    }
    struct dbos_row *found = dbos_tree_at(dbos_tree_seek(&index->tree, datums, count, false));
    bool equal = found != NULL && dbos_key_compare_rows(&index->key, found, row) == 0;
    return equal ? found : NULL;
}

/* The row with the same key, or NULL. NULLs are distinct: a key with one has no equal. `hash` is
 * that of the key, in a hash index. */
static struct dbos_row *index_equal_row(const struct dbos_table_index *index,
                                        const struct dbos_row *row, uint64_t hash) {
    if (index->is_hash) {
        return hash_equal_row(index, row, hash);
    }
    return dbos_key_row_has_null(&index->key, row) ? NULL : tree_equal_row(index, row);
}

/* `rows` is how many the tree must be able to hold. */
static enum dbos_err index_reserve(struct dbos_table_index *index, uint64_t hash, uint64_t rows) {
    return index->is_hash ? dbos_hash_reserve(&index->hash, hash)
                          : dbos_tree_reserve(&index->tree, rows);
}

static void index_put(struct dbos_table_index *index, struct dbos_row *row, uint64_t hash) {
    if (index->is_hash) {
        dbos_hash_put(&index->hash, hash, row);
    } else {
        dbos_tree_put(&index->tree, row);
    }
}

static void index_remove(struct dbos_table_index *index, const struct dbos_row *row,
                         uint64_t hash) {
    if (index->is_hash) {
        dbos_hash_remove(&index->hash, hash, row);
    } else {
        dbos_tree_remove(&index->tree, row);
    }
}

static bool index_same_key(const struct dbos_table_index *index, const struct dbos_row *a,
                           const struct dbos_row *b) {
    return dbos_key_compare_rows(&index->key, a, b) == 0;
}

/* Both rows have the same key and block. */
static void index_swap(struct dbos_table_index *index, const struct dbos_row *old,
                       struct dbos_row *fresh, uint64_t hash) {
    if (index->is_hash) {
        dbos_hash_swap(&index->hash, hash, old, fresh);
    } else {
        dbos_tree_swap(&index->tree, old, fresh);
    }
}

static struct dbos_row **place_at(const struct dbos_table *table, uint64_t place) {
    return &table->chunks[place / CHUNK_ROWS][place % CHUNK_ROWS];
}

static enum dbos_err add_chunk(struct dbos_table *table) {
    if (table->chunk_count == table->chunk_capacity) {
        uint32_t capacity = table->chunk_capacity == 0 ? 8 : table->chunk_capacity * 2;
        struct dbos_row ***chunks =
            dbos_retake(table->slab.alloc, table->chunks, capacity * sizeof(struct dbos_row **));
        if (chunks == NULL) {
            return DBOS_ERR_NOMEM;
        }
        table->chunks = chunks;
        table->chunk_capacity = capacity;
    }
    struct dbos_row **chunk = dbos_slab_take(&table->slab, CHUNK_BYTES);
    if (chunk == NULL) {
        return DBOS_ERR_NOMEM;
    }
    table->chunks[table->chunk_count++] = chunk;
    return DBOS_OK;
}

/* Room for one row more in the directory; row places have 32 bits. */
static enum dbos_err reserve_place(struct dbos_table *table) {
    if (table->row_count < (uint64_t)table->chunk_count * CHUNK_ROWS) {
        return DBOS_OK;
    }
    return table->row_count >= UINT32_MAX ? DBOS_ERR_NOMEM : add_chunk(table);
}

enum dbos_err dbos_table_open(struct dbos_alloc *alloc, struct dbos_table_def *def,
                              struct dbos_table **out) {
    *out = NULL;
    struct dbos_table *table = dbos_take_zero(alloc, sizeof *table);
    if (table == NULL) {
        return DBOS_ERR_NOMEM;
    }
    dbos_slab_init(&table->slab, alloc);
    table->indexes = dbos_take(alloc, def->index_count * sizeof *table->indexes + 1);
    if (table->indexes == NULL) {
        dbos_give(alloc, table);
        return DBOS_ERR_NOMEM;
    }
    table->def = dbos_table_def_ref(def);
    dbos_blocks_init(&table->blocks, &table->slab);
    for (uint32_t i = 0; i < def->index_count; i++) {
        index_init(&table->indexes[i], &table->slab, def, &def->indexes[i]);
    }
    for (uint32_t i = 0; i < DBOS_SLOTS; i++) {
        table->next_counters[i] = 1; /* so that no block is 0 */
    }
    *out = table;
    return DBOS_OK;
}

void dbos_table_close(struct dbos_table *table) {
    if (table == NULL) {
        return;
    }
    struct dbos_alloc *alloc = table->slab.alloc;
    for (uint64_t i = 0; i < table->row_count; i++) {
        dbos_row_give(&table->slab, table->def, *place_at(table, i));
    }
    for (uint32_t i = 0; i < table->chunk_count; i++) {
        dbos_slab_give(&table->slab, table->chunks[i], CHUNK_BYTES);
    }
    dbos_give(alloc, table->chunks);
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        index_fini(&table->indexes[i]);
    }
    dbos_give(alloc, table->indexes);
    dbos_blocks_fini(&table->blocks);
    dbos_slab_fini(&table->slab);
    dbos_table_def_unref(table->def);
    dbos_give(alloc, table);
}

struct dbos_table_def *dbos_table_def_of(const struct dbos_table *table) {
    return table->def;
}
uint64_t dbos_table_row_count(const struct dbos_table *table) {
    return atomic_load_explicit(&table->row_count, memory_order_relaxed);
}

uint64_t dbos_table_index_bytes(const struct dbos_table *table, uint32_t index) {
    DBOS_CHECK(index < table->def->index_count);
    return atomic_load_explicit(&table->indexes[index].hash.bytes, memory_order_relaxed) +
           atomic_load_explicit(&table->indexes[index].tree.bytes, memory_order_relaxed);
}

/* Not by ++, which would be a locked instruction. */
static void set_row_count(struct dbos_table *table, uint64_t count) {
    atomic_store_explicit(&table->row_count, count, memory_order_relaxed);
}
struct dbos_slab *dbos_table_alloc(struct dbos_table *table) {
    return &table->slab;
}

uint64_t dbos_table_take_block(struct dbos_table *table, uint32_t slot) {
    DBOS_CHECK(slot < DBOS_SLOTS);
    return table->next_counters[slot]++ * DBOS_SLOTS + slot;
}

void dbos_table_untake_block(struct dbos_table *table, uint64_t block) {
    uint64_t *next = &table->next_counters[block % DBOS_SLOTS];
    DBOS_CHECK(*next - 1 == block / DBOS_SLOTS);
    *next -= 1;
}

void dbos_table_saw_block(struct dbos_table *table, uint64_t block) {
    uint64_t *next = &table->next_counters[block % DBOS_SLOTS];
    if (*next <= block / DBOS_SLOTS) {
        *next = block / DBOS_SLOTS + 1;
    }
}

uint64_t dbos_table_next_counter(const struct dbos_table *table, uint32_t slot) {
    DBOS_CHECK(slot < DBOS_SLOTS);
    return table->next_counters[slot];
}

void dbos_table_saw_counter(struct dbos_table *table, uint32_t slot, uint64_t next_counter) {
    DBOS_CHECK(slot < DBOS_SLOTS);
    if (table->next_counters[slot] < next_counter) {
        table->next_counters[slot] = next_counter;
    }
}

struct dbos_row *dbos_table_row_at(const struct dbos_table *table, uint64_t place) {
    DBOS_CHECK(place < table->row_count);
    return *place_at(table, place);
}

void dbos_table_set_copy(struct dbos_table *table, struct dbos_table_copy *copy) {
    table->copy = copy;
}

struct dbos_table_copy *dbos_table_copy_of(const struct dbos_table *table) {
    return table->copy;
}

static enum dbos_err fail_unique(const struct dbos_table_index *index, const struct dbos_row *row,
                                 struct dbos_errinfo *info) {
    const struct dbos_index_def *index_def = index->key.index;
    enum dbos_err err =
        dbos_fail(info, DBOS_ERR_UNIQUE, "duplicate key value violates unique constraint \"%s\"",
                  index_def->name);
    if (info != NULL) {
        char key[320];
        dbos_key_describe(&index->key, row, key, sizeof key);
        dbos_err_detail(info, "Key %s already exists.", key);
        memcpy(info->table, index->key.def->name, sizeof info->table);
        memcpy(info->constraint, index_def->name, sizeof info->constraint);
    }
    return err;
}

static enum dbos_err fail_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* No unique index has another row with the key of `row`. Bit i of `same`: the key in index i is
 * that of the row which is going away. */
static enum dbos_err check_unique(const struct dbos_table *table, const struct dbos_row *row,
                                  const struct row_keys *keys, uint32_t same,
                                  struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        const struct dbos_table_index *index = &table->indexes[i];
        bool free = !index->key.index->unique || (((same | keys->absent) >> i) & 1) != 0;
        if (!free && index_equal_row(index, row, keys->hashes[i]) != NULL) {
            return fail_unique(index, row, info);
        }
    }
    return DBOS_OK;
}

static enum dbos_err reserve_indexes(struct dbos_table *table, const struct row_keys *keys,
                                     uint32_t same, struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        bool stays = (((same | keys->absent) >> i) & 1) != 0;
        if (!stays &&
            index_reserve(&table->indexes[i], keys->hashes[i], table->row_count + 1) != DBOS_OK) {
            return fail_memory(info);
        }
    }
    return DBOS_OK;
}

/* The indexes in which two rows have the same key, as bits. */
static uint32_t same_keys(const struct dbos_table *table, const struct dbos_row *a,
                          const struct dbos_row *b) {
    uint32_t same = 0;
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        same |= (uint32_t)index_same_key(&table->indexes[i], a, b) << i;
    }
    return same;
}

/* The last place of the directory is the row's; the one that had `place` before moves there. */
static void put_row(struct dbos_table *table, struct dbos_row *row, const struct row_keys *keys,
                    uint64_t place) {
    uint64_t last = table->row_count;
    set_row_count(table, last + 1);
    DBOS_CHECK(place <= last);
    if (place != last) {
        struct dbos_row *moved = *place_at(table, place);
        *place_at(table, last) = moved;
        moved->place = (uint32_t)last;
        dbos_blocks_move(&table->blocks, moved->block, moved->place);
    }
    *place_at(table, place) = row;
    row->place = (uint32_t)place;
    if (table->row_count > table->row_count_max) {
        table->row_count_max = table->row_count;
    }
    dbos_blocks_put(&table->blocks, row->block, row->place);
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        if (((keys->absent >> i) & 1) == 0) {
            index_put(&table->indexes[i], row, keys->hashes[i]);
        }
    }
}

static void expect_key(const struct dbos_table_index *index, const struct dbos_datum *key) {
    dbos_hash_prefetch(&index->hash, dbos_key_hash_integer(key->integer));
}

void dbos_table_expect_row(const struct dbos_table *table, uint32_t slot,
                           const struct dbos_datum *datums) {
    dbos_blocks_prefetch(&table->blocks, slot);
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        const struct dbos_table_index *index = &table->indexes[i];
        if (index->is_hash && index->key.exact_hash) {
            expect_key(index, &datums[index->key.index->columns[0]]);
        }
    }
}

void dbos_table_expect_value(const struct dbos_table *table, const struct dbos_datum *value) {
    dbos_blocks_prefetch(&table->blocks, dbos_slot_of(value));
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        const struct dbos_table_index *index = &table->indexes[i];
        if (index->is_hash && index->key.exact_hash &&
            (int32_t)index->key.index->columns[0] == table->def->partition_column) {
            expect_key(index, value);
        }
    }
}

enum dbos_err dbos_table_insert(struct dbos_table *table, struct dbos_row *row,
                                struct dbos_errinfo *info) {
    struct row_keys keys;
    DBOS_CHECK(row->block != 0);
    dbos_blocks_prefetch(&table->blocks, row->block);
    find_keys(table, row, &keys);
    if (reserve_place(table) != DBOS_OK || /* while the places of the keys come */
        dbos_blocks_reserve(&table->blocks, row->block) != DBOS_OK) {
        return fail_memory(info);
    }
    enum dbos_err err = check_unique(table, row, &keys, 0, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = reserve_indexes(table, &keys, 0, info);
    if (err == DBOS_OK) {
        put_row(table, row, &keys, table->row_count);
    }
    return err;
}

void dbos_table_remove(struct dbos_table *table, struct dbos_row *row) {
    struct row_keys keys;
    DBOS_CHECK(row->place < table->row_count);
    DBOS_CHECK(*place_at(table, row->place) == row);
    uint64_t last = table->row_count - 1;
    set_row_count(table, last);
    struct dbos_row *moved = *place_at(table, last);
    dbos_blocks_prefetch(&table->blocks, row->block);
    dbos_blocks_prefetch(&table->blocks, moved->block);
    find_keys(table, row, &keys);
    if (moved != row) {
        *place_at(table, row->place) = moved;
        moved->place = row->place; /* row keeps its place too: undo needs it */
        dbos_blocks_move(&table->blocks, moved->block, moved->place);
    }
    dbos_blocks_remove(&table->blocks, row->block);
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        if (((keys.absent >> i) & 1) == 0) {
            index_remove(&table->indexes[i], row, keys.hashes[i]);
        }
    }
}

/* The directory by block is not concerned: the place stays. */
static void swap_row(struct dbos_table *table, struct dbos_row *old, struct dbos_row *fresh,
                     const struct row_keys *fresh_keys, uint32_t same) {
    struct row_keys old_keys;
    DBOS_CHECK(old->place < table->row_count);
    DBOS_CHECK(*place_at(table, old->place) == old);
    DBOS_CHECK(old->block == fresh->block);
    fresh->place = old->place;
    *place_at(table, fresh->place) = fresh;
    find_keys(table, old, &old_keys);
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        struct dbos_table_index *index = &table->indexes[i];
        bool old_is_there = ((old_keys.absent >> i) & 1) == 0;
        if (((same >> i) & 1) != 0) {
            if (old_is_there) {
                index_swap(index, old, fresh, old_keys.hashes[i]);
            }
            continue;
        }
        if (old_is_there) {
            index_remove(index, old, old_keys.hashes[i]);
        }
        if (((fresh_keys->absent >> i) & 1) == 0) {
            index_put(index, fresh, fresh_keys->hashes[i]);
        }
    }
}

enum dbos_err dbos_table_replace(struct dbos_table *table, struct dbos_row *old,
                                 struct dbos_row *fresh, struct dbos_errinfo *info) {
    struct row_keys keys;
    DBOS_CHECK(fresh->block == old->block);
    find_keys(table, fresh, &keys);
    uint32_t same = same_keys(table, old, fresh);
    enum dbos_err err = check_unique(table, fresh, &keys, same, info);
    if (err == DBOS_OK) {
        err = reserve_indexes(table, &keys, same, info);
    }
    if (err == DBOS_OK) {
        swap_row(table, old, fresh, &keys, same);
    }
    return err;
}

void dbos_table_undo_insert(struct dbos_table *table, struct dbos_row *row) {
    dbos_table_remove(table, row);
}

void dbos_table_undo_remove(struct dbos_table *table, struct dbos_row *row) {
    struct row_keys keys;
    find_keys(table, row, &keys);
    put_row(table, row, &keys, row->place);
}

void dbos_table_undo_replace(struct dbos_table *table, struct dbos_row *old,
                             struct dbos_row *fresh) {
    struct row_keys keys;
    find_keys(table, old, &keys);
    swap_row(table, fresh, old, &keys, same_keys(table, old, fresh));
}

struct dbos_row *dbos_table_by_block(struct dbos_table *table, uint64_t block) {
    uint32_t place = dbos_blocks_find(&table->blocks, block);
    return place == DBOS_BLOCKS_NONE ? NULL : *place_at(table, place);
}

static bool any_null(const struct dbos_datum *datums, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (datums[i].is_null) {
            return true;
        }
    }
    return false;
}

/* A key of one integer, whose hash is as good as the key. */
static struct dbos_row *find_integer(const struct dbos_table_index *index,
                                     const struct dbos_datum *key) {
    uint64_t hash = dbos_key_hash_integer(key->integer);
    uint32_t place = UINT32_MAX;
    struct dbos_row *row;
    do {
        row = dbos_hash_next(&index->hash, hash, &place);
    } while (row != NULL && !dbos_key_equal_datums(&index->key, row, key));
    return row;
}

/* Any other key. */
__attribute__((noinline)) static struct dbos_row *find_key(const struct dbos_table_index *index,
                                                           const struct dbos_datum *key) {
    uint32_t count = index->key.index->column_count;
    if (any_null(key, count)) {
        return NULL;
    }
    if (index->is_hash) {
        uint64_t hash = dbos_key_hash_datums(&index->key, key);
        uint32_t place = UINT32_MAX;
        struct dbos_row *row;
        do {
            row = dbos_hash_next(&index->hash, hash, &place);
        } while (row != NULL && !dbos_key_equal_datums(&index->key, row, key));
        return row;
    }
    struct dbos_row *row = dbos_tree_at(dbos_tree_seek(&index->tree, key, count, false));
    bool equal = row != NULL && dbos_key_compare_datums(&index->key, row, key, count) == 0;
    return equal ? row : NULL;
}

struct dbos_row *dbos_table_find(struct dbos_table *table, uint32_t index_number,
                                 const struct dbos_datum *key) {
    DBOS_CHECK(index_number < table->def->index_count);
    const struct dbos_table_index *index = &table->indexes[index_number];
    if (index->is_hash && index->key.exact_hash) {
        return key->is_null ? NULL : find_integer(index, key);
    }
    DBOS_CHECK(index->key.index->unique);
    return find_key(index, key);
}

void dbos_cursor_begin_full(struct dbos_table *table, struct dbos_cursor *cursor) {
    *cursor = (struct dbos_cursor){.table = table, .index = FULL_SCAN};
}

static_assert(sizeof(struct dbos_tree_place) == sizeof((struct dbos_cursor *)0)->key_end,
              "a cursor keeps the place where it ends");

/* A cursor over a tree runs from (node, place) to the place in key_end; see dbos_cursor_next(). */
static void aim(struct dbos_cursor *cursor, struct dbos_tree_place first,
                struct dbos_tree_place end) {
    struct dbos_tree_place from = cursor->descending ? end : first;
    struct dbos_tree_place to = cursor->descending ? first : end;
    cursor->node = from.leaf;
    cursor->place = from.at;
    memcpy(cursor->key_end, &to, sizeof to);
}

static void aim_at_range(const struct dbos_table_index *index, const struct dbos_bound *low,
                         const struct dbos_bound *high, struct dbos_cursor *cursor) {
    const struct dbos_key *key = &index->key;
    DBOS_CHECK(low->count <= key->index->column_count && high->count <= key->index->column_count);
    struct dbos_tree_place first =
        dbos_tree_seek(&index->tree, low->datums, low->count, low->count != 0 && !low->inclusive);
    struct dbos_tree_place end = dbos_tree_seek(&index->tree, high->datums, high->count,
                                                high->count == 0 || high->inclusive);
    /* Bounds that cross would make a cursor run past its end. */
    const struct dbos_row *row = dbos_tree_at(first);
    if (row != NULL && high->count != 0) {
        int order = dbos_key_compare_datums(key, row, high->datums, high->count);
        if (order > 0 || (order == 0 && !high->inclusive)) {
            end = first;
        }
    }
    aim(cursor, row == NULL ? end : first, end);
}

/* All rows of one key. */
static void aim_at_key(const struct dbos_table_index *index, const struct dbos_bound *bound,
                       struct dbos_cursor *cursor) {
    DBOS_CHECK(bound->count == index->key.index->column_count);
    if (any_null(bound->datums, bound->count)) {
        return;
    }
    if (index->is_hash) {
        cursor->node = dbos_table_find(cursor->table, cursor->index, bound->datums);
    } else {
        aim(cursor, dbos_tree_seek(&index->tree, bound->datums, bound->count, false),
            dbos_tree_seek(&index->tree, bound->datums, bound->count, true));
    }
}

enum dbos_err dbos_cursor_begin_range(struct dbos_table *table, uint32_t index,
                                      const struct dbos_bound *low, const struct dbos_bound *high,
                                      bool descending, struct dbos_cursor *cursor) {
    DBOS_CHECK(index < table->def->index_count);
    *cursor = (struct dbos_cursor){.table = table, .index = index, .descending = descending};
    const struct dbos_table_index *of_table = &table->indexes[index];
    if (of_table->key.index->kind == DBOS_INDEX_ORDERED) {
        aim_at_range(of_table, low, high, cursor);
    } else {
        aim_at_key(of_table, low, cursor);
    }
    return DBOS_OK;
}

static struct dbos_row *next_in_tree(struct dbos_cursor *cursor, const struct dbos_tree *tree) {
    struct dbos_tree_place at = {.leaf = cursor->node, .at = cursor->place};
    struct dbos_tree_place end;
    memcpy(&end, cursor->key_end, sizeof end);
    if (at.leaf == end.leaf && at.at == end.at) {
        return NULL;
    }
    struct dbos_row *row;
    if (cursor->descending) {
        at = dbos_tree_back(tree, at);
        row = dbos_tree_at(at);
    } else {
        row = dbos_tree_at(at);
        at = dbos_tree_forward(at);
    }
    cursor->node = at.leaf;
    cursor->place = at.at;
    return row;
}

/* Rows lie anywhere in memory: the one that comes soon is loaded meanwhile. */
static struct dbos_row *next_in_directory(struct dbos_cursor *cursor) {
    enum { AHEAD = 8 };
    const struct dbos_table *table = cursor->table;
    if (cursor->place >= table->row_count) {
        return NULL;
    }
    if (cursor->place + AHEAD < table->row_count) {
        __builtin_prefetch(*place_at(table, cursor->place + AHEAD));
    }
    return *place_at(table, cursor->place++);
}

struct dbos_row *dbos_cursor_next(struct dbos_cursor *cursor) {
    struct dbos_table *table = cursor->table;
    if (cursor->index == FULL_SCAN) {
        return next_in_directory(cursor);
    }
    const struct dbos_table_index *index = &table->indexes[cursor->index];
    if (!index->is_hash) {
        return next_in_tree(cursor, &index->tree);
    }
    struct dbos_row *row = cursor->node; /* at most one */
    cursor->node = NULL;
    return row;
}

void dbos_cursor_end(struct dbos_cursor *cursor) { *cursor = (struct dbos_cursor){0}; }

static enum dbos_err build_index(struct dbos_table *table, struct dbos_table_index *index,
                                 struct dbos_errinfo *info) {
    if (!index->is_hash && dbos_tree_reserve(&index->tree, table->row_count_max) != DBOS_OK) {
        return fail_memory(info);
    }
    for (uint64_t i = 0; i < table->row_count; i++) {
        struct dbos_row *row = *place_at(table, i);
        if (!index_has(index, row)) {
            continue;
        }
        uint64_t hash = index->is_hash ? dbos_key_hash_row(&index->key, row) : 0;
        if (index->key.index->unique && index_equal_row(index, row, hash) != NULL) {
            return fail_unique(index, row, info);
        }
        if (index_reserve(index, hash, i + 1) != DBOS_OK) {
            return fail_memory(info);
        }
        index_put(index, row, hash);
    }
    return DBOS_OK;
}

/* The index of the present definition that goes on living as `index_def`, or NULL. */
static struct dbos_table_index *surviving_index(const struct dbos_table *table,
                                                const struct dbos_index_def *index_def) {
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        const struct dbos_index_def *present = &table->def->indexes[i];
        if (present->id == index_def->id) {
            DBOS_CHECK(present->kind == index_def->kind && present->unique == index_def->unique);
            DBOS_CHECK(present->column_count == index_def->column_count);
            return &table->indexes[i];
        }
    }
    return NULL;
}

static void give_indexes(struct dbos_table *table, struct dbos_table_index *indexes,
                         uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        index_fini(&indexes[i]);
    }
    dbos_give(table->slab.alloc, indexes);
}

/* Same columns: rows and surviving indexes stay as they are. */
static bool same_columns(const struct dbos_table_def *a, const struct dbos_table_def *b) {
    if (a->id != b->id || a->column_count != b->column_count ||
        a->partition_column != b->partition_column) {
        return false;
    }
    for (uint32_t i = 0; i < a->column_count; i++) {
        if (a->columns[i].type != b->columns[i].type ||
            a->columns[i].not_null != b->columns[i].not_null) {
            return false;
        }
    }
    return true;
}

enum dbos_err dbos_table_prepare(struct dbos_table *table, struct dbos_table_def *def,
                                 struct dbos_table_change *out, struct dbos_errinfo *info) {
    *out = (struct dbos_table_change){0};
    DBOS_CHECK(same_columns(def, table->def));
    struct dbos_table_index *indexes =
        dbos_take(table->slab.alloc, def->index_count * sizeof *indexes + 1);
    if (indexes == NULL) {
        return fail_memory(info);
    }
    for (uint32_t i = 0; i < def->index_count; i++) {
        index_init(&indexes[i], &table->slab, def, &def->indexes[i]);
    }
    for (uint32_t i = 0; i < def->index_count; i++) {
        if (surviving_index(table, &def->indexes[i]) != NULL) {
            continue;
        }
        enum dbos_err err = build_index(table, &indexes[i], info);
        if (err != DBOS_OK) {
            give_indexes(table, indexes, def->index_count);
            return err;
        }
    }
    *out = (struct dbos_table_change){.def = dbos_table_def_ref(def), .indexes = indexes};
    return DBOS_OK;
}

void dbos_table_exchange(struct dbos_table *table, struct dbos_table_change *change) {
    struct dbos_table_def *def = change->def;
    struct dbos_table_index *indexes = change->indexes;
    for (uint32_t i = 0; i < def->index_count; i++) {
        struct dbos_table_index *survivor = surviving_index(table, &def->indexes[i]);
        if (survivor != NULL) {
            struct dbos_table_index other = indexes[i]; /* empty */
            indexes[i] = *survivor;
            index_rebind(&indexes[i], def, &def->indexes[i]);
            *survivor = other;
        }
    }
    *change = (struct dbos_table_change){.def = table->def, .indexes = table->indexes};
    table->def = def;
    table->indexes = indexes;
}

void dbos_table_forget_change(struct dbos_table *table, struct dbos_table_change *change) {
    if (change->def != NULL) {
        give_indexes(table, change->indexes, change->def->index_count);
        dbos_table_def_unref(change->def);
    }
    *change = (struct dbos_table_change){0};
}

enum dbos_err dbos_table_redefine(struct dbos_table *table, struct dbos_table_def *def,
                                  struct dbos_errinfo *info) {
    struct dbos_table_change change;
    enum dbos_err err = dbos_table_prepare(table, def, &change, info);
    if (err == DBOS_OK) {
        dbos_table_exchange(table, &change);
        dbos_table_forget_change(table, &change);
    }
    return err;
}

static bool index_contains(const struct dbos_table_index *index, const struct dbos_row *row) {
    if (!index->is_hash) {
        return dbos_tree_contains(&index->tree, row);
    }
    return index_equal_row(index, row, dbos_key_hash_row(&index->key, row)) == row;
}

static bool index_is_consistent(const struct dbos_table *table,
                                const struct dbos_table_index *index) {
    uint64_t expected = 0;
    for (uint64_t i = 0; i < table->row_count; i++) {
        const struct dbos_row *row = *place_at(table, i);
        if (index_has(index, row)) {
            expected++;
            if (!index_contains(index, row)) {
                return false;
            }
        }
    }
    return (index->is_hash ? index->hash.count : index->tree.count) == expected &&
           dbos_hash_consistent(&index->hash) && dbos_tree_consistent(&index->tree);
}

bool dbos_table_consistent(struct dbos_table *table) {
    for (uint64_t i = 0; i < table->row_count; i++) {
        const struct dbos_row *row = *place_at(table, i);
        if (row->place != i || dbos_table_by_block(table, row->block) != row ||
            table->next_counters[row->block % DBOS_SLOTS] <= row->block / DBOS_SLOTS) {
            return false;
        }
    }
    for (uint32_t i = 0; i < table->def->index_count; i++) {
        if (!index_is_consistent(table, &table->indexes[i])) {
            return false;
        }
    }
    return table->blocks.count == table->row_count && dbos_blocks_consistent(&table->blocks) &&
           dbos_slab_consistent(&table->slab);
}

uint64_t dbos_table_state_hash(struct dbos_table *table) {
    uint64_t sum = 0;
    for (uint64_t i = 0; i < table->row_count; i++) {
        sum += dbos_row_hash(table->def->id, *place_at(table, i));
    }
    return sum;
}
