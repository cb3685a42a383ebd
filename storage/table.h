/* Rows of one table on one partition, with their indexes.
 *
 * Thread: only the thread that owns the partition. An unpartitioned table is read by every
 * partition and changed only under the barrier.
 * Memory: rows, indexes and directories come from a slab of the table, and that from the allocator
 * given at open.
 *
 * Ownership: insert takes the row over; remove and replace hand the old row back to the caller,
 * which keeps it for undo and gives it back with dbos_row_give() when the transaction has ended.
 * A cursor is valid until the next change of the table: collect first, change afterwards. */
#ifndef DBOS_STORAGE_TABLE_H
#define DBOS_STORAGE_TABLE_H

#include "storage/row.h"

enum { DBOS_SLOTS = 1024 };

struct dbos_table;

/* The slot of a partitioning value: a frozen function (logged block ids contain it). */
uint32_t dbos_slot_of(const struct dbos_datum *value);

enum dbos_err dbos_table_open(struct dbos_alloc *alloc, struct dbos_table_def *def,
                              struct dbos_table **out) DBOS_MUST_USE;
void dbos_table_close(struct dbos_table *table);                          /* NULL is allowed */
struct dbos_table_def *dbos_table_def_of(const struct dbos_table *table); /* borrowed */
uint64_t dbos_table_row_count(const struct dbos_table *table);            /* by any thread */
/* What an index holds, as a part of what the table's allocator holds. Any thread, while no DDL
 * runs.
 */
uint64_t dbos_table_index_bytes(const struct dbos_table *table, uint32_t index);
/* What the table's rows are made with and given back to: dbos_row_make(), dbos_row_give(). */
struct dbos_slab *dbos_table_alloc(struct dbos_table *table);

/* Next block id of a slot (0 for an unpartitioned table): counter * 1024 + slot. Undone by giving
 * the id back, newest first. Recovery says which ids exist with dbos_table_saw_block(). */
uint64_t dbos_table_take_block(struct dbos_table *table, uint32_t slot);
void dbos_table_untake_block(struct dbos_table *table, uint64_t block);
void dbos_table_saw_block(struct dbos_table *table, uint64_t block);

/* Hints, which change nothing: what will be touched soon comes from memory meanwhile. A row with
 * these values (one datum for each column, of this slot) is going to be made and inserted … */
void dbos_table_expect_row(const struct dbos_table *table, uint32_t slot,
                           const struct dbos_datum *datums);
/* … or one that has this value in the partitioning column is looked for, or inserted. */
void dbos_table_expect_value(const struct dbos_table *table, const struct dbos_datum *value);
/* The row is from dbos_table_alloc(); row->block is set by the caller. Errors: UNIQUE (constraint
 * named, DETAIL "Key (a)=(1) already exists."), NOMEM; the table is then unchanged and the row
 * still the caller's. */
enum dbos_err dbos_table_insert(struct dbos_table *table, struct dbos_row *row,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* Can not fail. The row is the caller's afterwards. */
void dbos_table_remove(struct dbos_table *table, struct dbos_row *row);
/* Put `fresh` in the place of `old` (same block). Same errors as insert; on success `old` is the
 * caller's. */
enum dbos_err dbos_table_replace(struct dbos_table *table, struct dbos_row *old,
                                 struct dbos_row *fresh, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Undo of insert, remove and replace: these can not fail, because the memory that they need was
 * kept when the forward operation was done. */
void dbos_table_undo_insert(struct dbos_table *table, struct dbos_row *row);
void dbos_table_undo_remove(struct dbos_table *table, struct dbos_row *row);
void dbos_table_undo_replace(struct dbos_table *table, struct dbos_row *old,
                             struct dbos_row *fresh);

/* Block counters as they are stored: the counter of the next block of a slot, and that one again
 * (never back). */
uint64_t dbos_table_next_counter(const struct dbos_table *table, uint32_t slot);
void dbos_table_saw_counter(struct dbos_table *table, uint32_t slot, uint64_t next_counter);

/* Rows by their place in the directory, 0..row_count-1. A removed row's place is taken by the last
 * one; undo reverses that exactly. For a copy that is being made: storage/table_copy.h. */
struct dbos_row *dbos_table_row_at(const struct dbos_table *table, uint64_t place);
struct dbos_table_copy;
void dbos_table_set_copy(struct dbos_table *table, struct dbos_table_copy *copy);
struct dbos_table_copy *dbos_table_copy_of(const struct dbos_table *table);

/* The row with this block, or NULL. O(1) (recovery and as-of need it). */
struct dbos_row *dbos_table_by_block(struct dbos_table *table, uint64_t block);

/* The row of a unique index whose key columns equal `key` (one datum per index column, of the
 * columns' types, none NULL), or NULL. */
struct dbos_row *dbos_table_find(struct dbos_table *table, uint32_t index,
                                 const struct dbos_datum *key);

/* Scans. A bound has 0..column_count leading columns of the index; fewer = prefix. */
struct dbos_bound {
    const struct dbos_datum *datums; /* borrowed during begin only */
    uint16_t count;                  /* 0 = unbounded */
    bool inclusive;
};
struct dbos_cursor {
    struct dbos_table *table;
    uint32_t index; /* UINT32_MAX = full scan in directory order */
    bool descending;
    void *node; /* of the index */
    uint64_t place;
    uint8_t key_end[16];   /* of the index */
    struct dbos_buf bound; /* encoded end key, from the table's allocator; freed by _end */
};
void dbos_cursor_begin_full(struct dbos_table *table, struct dbos_cursor *cursor);
/* Rows of an ordered index between two bounds, in key order (or reversed). NULL keys are at the end
 * of the order and are visited only when the bounds include them. For a hash index `low` and `high`
 * must be the same full key: its equal rows. Errors: NOMEM. */
enum dbos_err dbos_cursor_begin_range(struct dbos_table *table, uint32_t index,
                                      const struct dbos_bound *low, const struct dbos_bound *high,
                                      bool descending, struct dbos_cursor *cursor) DBOS_MUST_USE;
struct dbos_row *dbos_cursor_next(struct dbos_cursor *cursor); /* NULL at the end */
void dbos_cursor_end(struct dbos_cursor *cursor);

/* Replace the definition by one with one index more or less (DDL, under the barrier). Building a
 * unique index over duplicates is UNIQUE, and nothing has changed. */
enum dbos_err dbos_table_redefine(struct dbos_table *table, struct dbos_table_def *def,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* The same in two steps that can be taken back. Prepare builds what is new and changes nothing;
 * exchange puts it in and can not fail: `change` then holds what was there before, so that a second
 * exchange is the undo (newest first, as with rows). Forget gives back what `change` holds. */
struct dbos_table_index;
struct dbos_table_change {
    struct dbos_table_def *def;
    struct dbos_table_index *indexes;
};
enum dbos_err dbos_table_prepare(struct dbos_table *table, struct dbos_table_def *def,
                                 struct dbos_table_change *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_table_exchange(struct dbos_table *table, struct dbos_table_change *change);
void dbos_table_forget_change(struct dbos_table *table, struct dbos_table_change *change);

/* O(n): indexes and directory agree with each other. For DBOS_DEBUG_CHECK and tests. */
bool dbos_table_consistent(struct dbos_table *table);
/* Sum of dbos_row_hash over all rows. O(n), for tests and verification. */
uint64_t dbos_table_state_hash(struct dbos_table *table);

#endif /* DBOS_STORAGE_TABLE_H */
