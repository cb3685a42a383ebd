/* The key of an index: hashing, ordering and abbreviating it, straight from rows and datums.
 *
 * Nothing here builds key buffers. An ordered index keeps for each row the first eight bytes of its
 * key (the *prefix*), so that most comparisons do not touch the row; where the prefix is the whole
 * key (`exact`), none does. A hash of one integer is a bijection, so equal hashes are equal keys.
 *
 * Thread: as the table. Memory: none. */
#ifndef DBOS_STORAGE_INDEX_KEY_H
#define DBOS_STORAGE_INDEX_KEY_H

#include "storage/row_read.h"

struct dbos_key {
    const struct dbos_table_def *def;
    const struct dbos_index_def *index;
    bool exact_hash;   /* one integer column: equal hashes are equal keys */
    uint8_t type;      /* of that column, */
    uint32_t offset;   /* and where it lies in the payload */
    bool exact_prefix; /* fixed columns of at most eight bytes in all, none of them nullable */
};

void dbos_key_init(struct dbos_key *key, const struct dbos_table_def *def,
                   const struct dbos_index_def *index);

bool dbos_key_row_has_null(const struct dbos_key *key, const struct dbos_row *row);
/* The datums are one per index column, none NULL. Both give the same for equal values. */
static inline uint64_t dbos_key_hash_row(const struct dbos_key *key, const struct dbos_row *row);
static inline uint64_t dbos_key_hash_datums(const struct dbos_key *key,
                                            const struct dbos_datum *datums);

/* Order of key columns, NULL last and equal to NULL. <0, 0, >0. */
int dbos_key_compare_rows(const struct dbos_key *key, const struct dbos_row *a,
                          const struct dbos_row *b);
/* The same against `count` leading datums. */
int dbos_key_compare_datums(const struct dbos_key *key, const struct dbos_row *row,
                            const struct dbos_datum *datums, uint32_t count);

/* The same as 0 of the two above, for keys without a NULL; `datums` are all columns. Inline where a
 * key is one integer: it is the end of each look-up by hash. */
static inline bool dbos_key_equal_rows(const struct dbos_key *key, const struct dbos_row *a,
                                       const struct dbos_row *b) {
    if (key->exact_hash) {
        return dbos_load_fixed(a->payload + key->offset, (enum dbos_type)key->type) ==
               dbos_load_fixed(b->payload + key->offset, (enum dbos_type)key->type);
    }
    return dbos_key_compare_rows(key, a, b) == 0;
}
static inline bool dbos_key_equal_datums(const struct dbos_key *key, const struct dbos_row *row,
                                         const struct dbos_datum *datums) {
    if (key->exact_hash) {
        return dbos_load_fixed(row->payload + key->offset, (enum dbos_type)key->type) ==
               datums[0].integer;
    }
    return dbos_key_compare_datums(key, row, datums, key->index->column_count) == 0;
}

/* Big-endian beginning of a key: prefix order never contradicts key order. */
struct dbos_prefix {
    uint64_t value;
    uint64_t mask; /* of the bits that the given columns decide */
    bool exact;    /* equal bits under the mask are equal columns */
};
uint64_t dbos_key_prefix_row(const struct dbos_key *key, const struct dbos_row *row);
struct dbos_prefix dbos_key_prefix_datums(const struct dbos_key *key,
                                          const struct dbos_datum *datums, uint32_t count);

/* "(a, b)=(1, x)", cut to fit, for the DETAIL of a duplicate. */
void dbos_key_describe(const struct dbos_key *key, const struct dbos_row *row, char *out,
                       size_t out_bytes);

/* The hash of one integer; also of a leaf of block ids. A bijection. Other constants than
 * dbos_slot_of()'s, because the rows of a partition agree in bits of that. */
static inline uint64_t dbos_key_hash_integer(int64_t value) {
    return dbos_mix64((uint64_t)value ^ UINT64_C(0x2545f4914f6cdd1d));
}

/* Keys of any columns. */
uint64_t dbos_key_fold_row(const struct dbos_key *key, const struct dbos_row *row);
uint64_t dbos_key_fold_datums(const struct dbos_key *key, const struct dbos_datum *datums);

static inline uint64_t dbos_key_hash_row(const struct dbos_key *key, const struct dbos_row *row) {
    return key->exact_hash ? dbos_key_hash_integer(dbos_load_fixed(row->payload + key->offset,
                                                                   (enum dbos_type)key->type))
                           : dbos_key_fold_row(key, row);
}
static inline uint64_t dbos_key_hash_datums(const struct dbos_key *key,
                                            const struct dbos_datum *datums) {
    return key->exact_hash ? dbos_key_hash_integer(datums[0].integer)
                           : dbos_key_fold_datums(key, datums);
}

#endif /* DBOS_STORAGE_INDEX_KEY_H */
