/* Relations of the archive: transactions, events, sessions, statement texts, and one for each table
 * with its row versions. What of a relation is not in Parquet files yet is "hot": chunks in
 * DuckDB's own layout, filled in place, which its table function hot_<name>() hands out without a
 * copy. A view `arch.<name>` is the union.
 *
 *   put_… row_end ─▶ chunks of 2,048 rows ─ hot_<name>() ─export─▶ <name>/day=…/part-….parquet
 *                                              └────────── arch.<name> (view) ────────┘
 *
 * Thread: the archiver's.
 * Memory: from the allocator given at init. */
#ifndef DBOS_PROVENANCE_ARCHIVE_RELATION_H
#define DBOS_PROVENANCE_ARCHIVE_RELATION_H

#include "provenance/archive_check.h"
#include "provenance/archive_columns.h"
#include "provenance/duckdb.h"
#include "storage/schema.h"

enum {
    DBOS_ARCHIVE_CHUNK_ROWS = 2048,  /* DuckDB's vector size */
    DBOS_ARCHIVE_CHUNKS_KEPT = 8,    /* a relation with so many will have them again */
    DBOS_ARCHIVE_NAME_BYTES = 96,    /* "c<id>_<column name>" */
    DBOS_ARCHIVE_FIELD_FIRST = 1000, /* Parquet field id of a table's column = this + column id */
};

struct dbos_archive_column {
    char name[DBOS_ARCHIVE_NAME_BYTES];
    duckdb_type type;
    uint32_t field_id;
};

/* A column of the chunk that is being filled. */
struct dbos_archive_slot {
    void *data;
    uint64_t *validity; /* NULL until the chunk's first NULL in that column */
    duckdb_vector vector;
    duckdb_type type;
};
struct dbos_archive_chunk {
    duckdb_data_chunk data;
    uint32_t rows;
    uint32_t columns; /* the relation may have got more since */
};

struct dbos_archive_file {
    char *path; /* below the archive's folder */
    uint64_t bytes;
    uint64_t xxh3;
    uint64_t min_position;
    uint64_t max_position;
};

struct dbos_archive_relation {
    struct dbos_alloc *alloc;
    const struct dbos_duckdb *duck;
    duckdb_connection connection; /* borrowed */
    char name[32];                /* "event", "t_101" */
    const char *view; /* of arch: the name, but for event, which is more than its rows */
    uint32_t column_count;
    struct dbos_archive_column *columns;
    /* Of a table. */
    uint32_t table_id;          /* 0 = a fixed relation */
    struct dbos_table_def *def; /* the newest; a reference */
    uint64_t created_position;  /* the table exists in [created, dropped) */
    uint64_t dropped_position;  /* UINT64_MAX = it is there */
    uint32_t *places;           /* of the definition's column i among `columns` */
    /* Parquet files, as they came; the first so many of them are known to be whole. */
    struct dbos_archive_file *files;
    uint32_t file_count;
    uint32_t files_checked;
    uint32_t file_capacity;

    /* Hot rows; the last chunk is being filled when `filling`. */
    bool function; /* hot_<name>() is there */
    bool view_stale;
    bool filling;
    uint32_t row; /* of the last chunk: the one being put */
    uint32_t row_bytes;
    uint64_t hot_bytes; /* since it was cool */
    uint64_t hot_rows;
    struct dbos_archive_chunk *chunks;
    uint32_t chunk_count;
    uint32_t chunk_spare; /* emptied ones behind them */
    uint32_t chunk_capacity;
    struct dbos_archive_slot *slots; /* one for each column */
};

enum dbos_err dbos_archive_relation_init_fixed(struct dbos_archive_relation *relation,
                                               struct dbos_alloc *alloc,
                                               const struct dbos_duckdb *duck,
                                               duckdb_connection connection,
                                               enum dbos_archive_fixed which) DBOS_MUST_USE;
enum dbos_err dbos_archive_relation_init_table(struct dbos_archive_relation *relation,
                                               struct dbos_alloc *alloc,
                                               const struct dbos_duckdb *duck,
                                               duckdb_connection connection,
                                               struct dbos_table_def *def) DBOS_MUST_USE;
void dbos_archive_relation_fini(struct dbos_archive_relation *relation);
/* A newer definition of the table: new columns join, old ones stay. */
enum dbos_err dbos_archive_relation_redefine(struct dbos_archive_relation *relation,
                                             struct dbos_table_def *def,
                                             struct dbos_errinfo *info) DBOS_MUST_USE;
/* A Parquet file of this relation, path relative to the archive's folder (copied). */
/* `is_whole`: it was written by this process. */
enum dbos_err dbos_archive_relation_add_file(struct dbos_archive_relation *relation,
                                             const struct dbos_manifest_file *file,
                                             bool is_whole) DBOS_MUST_USE;
/* Read at most `most` files that are not known to be whole. `folder` is the archive's. Errors:
 * CORRUPT, NOMEM. */
enum dbos_err dbos_archive_relation_check(struct dbos_archive_relation *relation,
                                          struct dbos_env *env, const char *folder, uint32_t most,
                                          struct dbos_errinfo *info) DBOS_MUST_USE;

/* A row: begin, one put for each column, end. It is hot at once. */
enum dbos_err dbos_archive_row_begin(struct dbos_archive_relation *relation,
                                     struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_archive_row_end(struct dbos_archive_relation *relation);
/* The column's first NULL of this chunk. */
void dbos_archive_put_first_null(struct dbos_archive_relation *relation, uint32_t column);
static inline void dbos_archive_put_null(struct dbos_archive_relation *relation, uint32_t column) {
    if (relation->slots[column].validity == NULL) {
        dbos_archive_put_first_null(relation, column);
    }
    relation->slots[column].validity[relation->row / 64] &= ~(UINT64_C(1) << (relation->row % 64));
}
/* Takes back a NULL of this row; a value follows. */
static inline void dbos_archive_put_valid(struct dbos_archive_relation *relation, uint32_t column) {
    if (relation->slots[column].validity != NULL) {
        relation->slots[column].validity[relation->row / 64] |= UINT64_C(1) << (relation->row % 64);
    }
}
static inline void dbos_archive_put_int(struct dbos_archive_relation *relation, uint32_t column,
                                        int64_t value) {
    void *data = relation->slots[column].data;
    duckdb_type type = relation->slots[column].type;
    if (type == DUCKDB_TYPE_BIGINT || type == DUCKDB_TYPE_TIMESTAMP_TZ) {
        ((int64_t *)data)[relation->row] = value;
    } else if (type == DUCKDB_TYPE_INTEGER) {
        ((int32_t *)data)[relation->row] = (int32_t)value;
    } else if (type == DUCKDB_TYPE_SMALLINT) {
        ((int16_t *)data)[relation->row] = (int16_t)value;
    } else {
        DBOS_CHECK(type == DUCKDB_TYPE_BOOLEAN);
        ((bool *)data)[relation->row] = value != 0;
    }
}
void dbos_archive_put_real(struct dbos_archive_relation *relation, uint32_t column, double value);
/* Text must be valid UTF-8 (a database value is); `text` of clients is made so first. */
void dbos_archive_put_bytes(struct dbos_archive_relation *relation, uint32_t column,
                            const void *data, size_t size_bytes);

/* Of the hot rows, where there are any: their columns position and ts. */
struct dbos_archive_extent {
    int64_t min_position, max_position;
    int64_t min_ts, max_ts;
};
struct dbos_archive_extent
dbos_archive_relation_extent(const struct dbos_archive_relation *relation);
/* Is the column NULL in each hot row? */
bool dbos_archive_relation_lacks(const struct dbos_archive_relation *relation, uint32_t column);
/* The hot rows go: they are in files now. No question may be under way. */
void dbos_archive_relation_cool(struct dbos_archive_relation *relation);
/* Make arch.<name> show the files and the hot rows. `folder` is the archive's. */
enum dbos_err dbos_archive_relation_view(struct dbos_archive_relation *relation, const char *folder,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;
/* hot_<name>() is there from here on (archive_hot.c). Every relation that a function was made for
 * must stay where it is until the connection's database is closed. */
enum dbos_err dbos_archive_relation_register(struct dbos_archive_relation *relation,
                                             struct dbos_errinfo *info) DBOS_MUST_USE;
duckdb_type dbos_archive_type_of(enum dbos_type type);

/* SQL text: a quoted identifier and a quoted literal (both with doubled quotes), formatted text. */
void dbos_sql_put_ident(struct dbos_buf *sql, const char *name);
void dbos_sql_put_literal(struct dbos_buf *sql, const char *text);
void dbos_sql_putf(struct dbos_buf *sql, const char *format, ...) DBOS_PRINTF(2, 3);
/* The text with its NUL, or NULL when the buffer ran out of memory. */
const char *dbos_sql_text(struct dbos_buf *sql);

#endif /* DBOS_PROVENANCE_ARCHIVE_RELATION_H */
