/* One row in memory: header, payload, object pointers.
 *
 *   +-----------------+------------+------------+---------------------------+----------------+
 *   | row header (32) | null bits  | fixed area | variable: end offsets u32 | object pointers|
 *   |                 | 1 = NULL   | 1/2/4/8 B  | [variable_count], bytes   | (8-aligned)    |
 *   +-----------------+------------+------------+---------------------------+----------------+
 *                     '------------- payload, size_bytes: as logged --------'
 *
 * The payload is the stored form: the log's write set, the state hash and the archive use the same
 * bytes. A variable column of DBOS_OBJECT_BYTES_MIN bytes or more is an object: the top bit of its
 * end offset is set and its bytes are the 24-byte struct dbos_object_id; its pointer stands behind
 * the payload. docs/formats/row.md says every byte.
 *
 * Thread: a row belongs to the thread that owns its partition (unpartitioned tables: readable by
 * all partitions, changed under the barrier).
 * Memory: one block from the slab given to the maker (of a table: dbos_table_alloc()); it holds
 * references to its objects. */
#ifndef DBOS_STORAGE_ROW_H
#define DBOS_STORAGE_ROW_H

#include "base/slab.h"
#include "storage/object.h"
#include "storage/schema.h"

struct dbos_row {
    uint64_t position;   /* log position of the transaction that wrote this version; 0 = not yet */
    uint64_t block;      /* identity of the row: counter * 1024 + slot; kept across updates */
    uint32_t generation; /* of the snapshot that has it already (storage/table_copy.h) */
    uint32_t size_bytes; /* of payload */
    uint32_t place;      /* of the table: where the scan finds it */
    uint16_t object_count;
    uint16_t flags;
    uint8_t payload[];
};
static_assert(sizeof(struct dbos_row) == 32, "row header");

/* Row from one datum per column, in table order. Casts are done already: each datum has its
 * column's type (or is NULL). Large values become objects of `objects`. block and position are 0.
 * Errors: NOT_NULL (table and column named), TOO_LONG (varchar), LIMIT (column > 1 MB, row > 2 MB),
 * NOMEM. *out is the caller's. */
enum dbos_err dbos_row_make(struct dbos_slab *slab, struct dbos_objects *objects,
                            const struct dbos_table_def *def, const struct dbos_datum *datums,
                            struct dbos_row **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Row from a logged payload; the payload is checked against the definition (lengths, offsets).
 * Objects are looked up with `find`, which gives a reference that the row takes over, or NULL where
 * there is none (then DBOS_ERR_CORRUPT: each must be there). Its errors: NOMEM, IO. */
struct dbos_object_finder {
    enum dbos_err (*find)(void *arg, const struct dbos_object_id *id, struct dbos_object **out,
                          struct dbos_errinfo *info);
    void *arg;
};
enum dbos_err dbos_row_decode(struct dbos_slab *slab, const struct dbos_table_def *def,
                              const struct dbos_object_finder *finder, const void *payload,
                              size_t size_bytes, struct dbos_row **out,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* Gives back the row, to the slab that it is from, and its object references. NULL is allowed. */
void dbos_row_give(struct dbos_slab *slab, const struct dbos_table_def *def, struct dbos_row *row);

/* Value of a column; bytes are borrowed from the row (or its object). */
struct dbos_datum dbos_row_column(const struct dbos_table_def *def, const struct dbos_row *row,
                                  uint32_t column);
/* The same from a bare payload that dbos_row_payload_check() accepted; an object leaves
 * bytes.data NULL and *reference set (reference->size_bytes 0 = not an object). */
struct dbos_datum dbos_payload_column(const struct dbos_table_def *def, const uint8_t *payload,
                                      uint32_t column, struct dbos_object_id *reference);
enum dbos_err dbos_row_payload_check(const struct dbos_table_def *def, const uint8_t *payload,
                                     size_t size_bytes, struct dbos_errinfo *info) DBOS_MUST_USE;
/* The objects of a row, in column order. */
struct dbos_object *const *dbos_row_objects(const struct dbos_row *row);

/* Contribution of a row to the order-free state hash: H(table, block, payload). The state hash of a
 * database is the sum of it over all rows, modulo 2^64. */
uint64_t dbos_row_hash(uint32_t table_id, const struct dbos_row *row);

#endif /* DBOS_STORAGE_ROW_H */
