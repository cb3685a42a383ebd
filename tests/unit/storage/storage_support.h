/* What the storage tests share: an allocator with a balance, definitions and random datums. */
#ifndef DBOS_STORAGE_STORAGE_SUPPORT_H
#define DBOS_STORAGE_STORAGE_SUPPORT_H

#include <stdio.h>

#include "base/env.h"
#include "storage/store.h"

/* A column by name and type; `not_null` as in SQL. */
struct test_column {
    const char *name;
    uint8_t type;
    bool not_null;
    uint32_t chars_max;
};
struct test_index {
    const char *name;
    uint8_t kind;
    bool unique;
    bool primary;
    uint16_t column_count;
    uint16_t columns[4];
};
/* Arrays end with an entry without a name. */
struct test_table {
    uint32_t id;
    const char *name;
    int32_t partition_column;
    struct test_column columns[12];
    struct test_index indexes[6];
};
enum dbos_err test_make_def(struct dbos_alloc *alloc, const struct test_table *table,
                            struct dbos_table_def **out, struct dbos_errinfo *info);
/* The same, which must succeed. */
struct dbos_table_def *test_def(struct dbos_alloc *alloc, const struct test_table *table);

/* A random value of a type out of a small domain, so that equal ones are common; bytes are static
 * or in `room` (TEST_ROOM bytes). */
enum { TEST_ROOM = 16 };
struct dbos_datum test_random_datum(struct dbos_rng *rng, enum dbos_type type, uint8_t *room);

/* Equality in the sense of dbos_datum_compare, NULL = NULL. */
int test_compare(const struct dbos_datum *a, const struct dbos_datum *b);

#endif /* DBOS_STORAGE_STORAGE_SUPPORT_H */
