/* A copy of the rows of a table as they are at one moment, the cut, made piece by piece while
 * transactions go on changing the table (architecture decision 4).
 *
 *     place  0                      left                     row_count
 *            | still to be looked at |  copied, or newer than the cut  |
 *
 * It walks down, because the place of a removed row is taken by the last one: what moves comes from
 * above and was looked at already, and new rows come above. A version that ends before its turn is
 * copied when the transaction that ends it commits; an abort puts it back where it was. So every
 * row of the cut is copied once: a row carries the generation of the copy that has it, and the
 * position of the transaction that wrote it tells what is newer than the cut.
 *
 * Thread: the one that may change the table, between transactions (but row_ended: when one
 * commits). Memory: the caller's; it stays where it is until the end. */
#ifndef DBOS_STORAGE_TABLE_COPY_H
#define DBOS_STORAGE_TABLE_COPY_H

#include "storage/table.h"

struct dbos_table_copy {
    struct dbos_table *table; /* NULL: it has ended */
    uint64_t position;        /* the cut: what later transactions wrote is not in it */
    uint32_t generation;      /* not 0, and another one than that of every copy before */
    uint64_t left;
    /* Takes the row, as it is, into the copy. The row is the table's. */
    void (*put)(void *arg, uint32_t table_id, const struct dbos_row *row);
    void *arg;
};

/* The moment of the cut: no transaction is under way. The other fields are filled in. The table has
 * no other copy. */
void dbos_table_copy_begin(struct dbos_table_copy *copy, struct dbos_table *table);
/* Looks at `places` more. True: all is copied, and the copy has ended. */
bool dbos_table_copy_step(struct dbos_table_copy *copy, uint32_t places);
/* Give it up, or nothing if it has ended. */
void dbos_table_copy_end(struct dbos_table_copy *copy);

/* A commit has ended this version, which is not the table's any more. */
static inline void dbos_table_row_ended(struct dbos_table *table, struct dbos_row *row) {
    struct dbos_table_copy *copy = dbos_table_copy_of(table);
    /* Position 0: a version of the committing transaction itself. */
    if (copy != NULL && row->position != 0 && row->position <= copy->position &&
        row->generation != copy->generation) {
        copy->put(copy->arg, dbos_table_def_of(table)->id, row);
    }
}

#endif /* DBOS_STORAGE_TABLE_COPY_H */
