/* Definitions: columns, indexes, tables, procedures. Immutable once made; kept by reference count,
 * because plans, tables and catalogue versions share them.
 *
 * Thread: a definition may be read by any thread; counts are atomic.
 * Memory: one block for each definition, from the allocator given to the maker. */
#ifndef DBOS_STORAGE_SCHEMA_H
#define DBOS_STORAGE_SCHEMA_H

#include <stdatomic.h>

#include "base/hash.h"
#include "storage/value.h"

/* Ids are never reused (decision 16). Below FIRST_USER are the system's own tables. */
enum {
    DBOS_TABLE_CATALOG = 1,
    DBOS_TABLE_MODULE_CHUNK = 3,
    DBOS_TABLE_TASK = 4,
    DBOS_TABLE_TASK_PIECE = 5,
    DBOS_TABLE_MODEL = 6,
    DBOS_TABLE_MODEL_CHUNK = 7,
    DBOS_TABLE_IDEMPOTENCY = 8,
    DBOS_TABLE_FIRST_USER = 100,
};

struct dbos_column {
    uint32_t id; /* never reused within the table */
    char name[DBOS_NAME_BYTES];
    uint8_t type; /* enum dbos_type */
    bool not_null;
    uint32_t chars_max; /* VARCHAR(n); 0 = none */
    char *default_sql;  /* text of the DEFAULT expression, or NULL */
};

enum dbos_index_kind { DBOS_INDEX_HASH = 1, DBOS_INDEX_ORDERED = 2 };

struct dbos_index_def {
    uint32_t id; /* never reused in the database */
    char name[DBOS_NAME_BYTES];
    uint8_t kind; /* enum dbos_index_kind */
    bool unique;
    bool primary;
    uint16_t column_count;
    uint16_t columns[DBOS_INDEX_COLUMNS_MAX]; /* positions in the table */
};

struct dbos_table_def {
    _Atomic uint32_t refs;
    struct dbos_alloc *alloc;
    uint32_t id;
    uint32_t schema_version;      /* grows with each change of this table's definition */
    char schema[DBOS_NAME_BYTES]; /* "public" or "dbos" */
    char name[DBOS_NAME_BYTES];
    int32_t partition_column; /* position; -1 = unpartitioned: once per node */
    uint16_t column_count;
    uint16_t index_count; /* the primary key, where there is one, is indexes[0] */
    struct dbos_column *columns;
    struct dbos_index_def *indexes;
    /* Layout of the row payload, computed by the maker; see storage/row.h. */
    uint32_t *offsets; /* of column i in the fixed area, or its number among the variable ones */
    uint32_t null_bytes;
    uint32_t fixed_bytes;
    uint32_t variable_count;
};

enum dbos_language { DBOS_LANGUAGE_C = 1, DBOS_LANGUAGE_SQL = 2 };

struct dbos_argument {
    char name[DBOS_NAME_BYTES]; /* may be empty */
    uint8_t type;
};

struct dbos_procedure_info {
    _Atomic uint32_t refs;
    struct dbos_alloc *alloc;
    uint32_t id;
    uint32_t version; /* 1, 2, … with each CREATE OR REPLACE */
    char name[DBOS_NAME_BYTES];
    bool is_function;
    uint8_t returns; /* enum dbos_type; VOID for a procedure */
    uint8_t language;
    uint16_t argument_count;
    struct dbos_argument *arguments;
    char *symbol;               /* LANGUAGE c: the name given to DBOS_PROCEDURE() */
    struct dbos_hash128 module; /* LANGUAGE c: content of the module, as in dbos.module_chunk */
    uint32_t module_bytes;
    char *body;  /* LANGUAGE sql: the statements; else NULL */
    char *route; /* "table.column=$n" from CREATE or the SDK; NULL = none */
};

/* Fill a new definition from these parts (copied), check it (unique names, PRIMARY KEY and UNIQUE
 * contain the partitioning column, limits) and compute its layout. One reference for the caller.
 * Errors: DUPLICATE_COLUMN, INVALID_TABLE_DEFINITION, TOO_MANY_COLUMNS, NOMEM. */
struct dbos_table_parts {
    uint32_t id;
    uint32_t schema_version;
    const char *schema;
    const char *name;
    int32_t partition_column;
    uint16_t column_count;
    uint16_t index_count;
    const struct dbos_column *columns;
    const struct dbos_index_def *indexes;
};
enum dbos_err dbos_table_def_make(struct dbos_alloc *alloc, const struct dbos_table_parts *parts,
                                  struct dbos_table_def **out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
struct dbos_table_def *dbos_table_def_ref(struct dbos_table_def *def);
void dbos_table_def_unref(struct dbos_table_def *def);
/* Position of a column by name; -1 = none. */
int32_t dbos_table_def_column(const struct dbos_table_def *def, const char *name);

/* A copy of `parts` (strings included); `refs` and `alloc` of it are ignored. */
enum dbos_err dbos_procedure_info_make(struct dbos_alloc *alloc,
                                       const struct dbos_procedure_info *parts,
                                       struct dbos_procedure_info **out) DBOS_MUST_USE;
struct dbos_procedure_info *dbos_procedure_info_ref(struct dbos_procedure_info *procedure);
void dbos_procedure_info_unref(struct dbos_procedure_info *procedure);

/* Stored form (dbos.catalog.definition), with a version number first. Decoding checks everything.
 */
void dbos_table_def_encode(const struct dbos_table_def *def, struct dbos_buf *buf);
enum dbos_err dbos_table_def_decode(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                                    struct dbos_table_def **out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_procedure_info_encode(const struct dbos_procedure_info *procedure, struct dbos_buf *buf);
enum dbos_err dbos_procedure_info_decode(struct dbos_alloc *alloc, const void *data,
                                         size_t size_bytes, struct dbos_procedure_info **out,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_STORAGE_SCHEMA_H */
