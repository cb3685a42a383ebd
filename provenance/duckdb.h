/* DuckDB, loaded at run time: a table of the functions that the archiver uses.
 *
 * Only the archiver process and its tests open the library; dbosd never does. What is loaded is the
 * library that scripts/setup.sh fetches with a pinned checksum, so its header matches.
 *
 * Thread: a connection is used by one thread at a time; interrupt may be called by any.
 * Memory: the library's own; results and messages are freed with the calls named here. */
#ifndef DBOS_PROVENANCE_DUCKDB_H
#define DBOS_PROVENANCE_DUCKDB_H

#include <duckdb.h>

#include "base/bytes.h"

#define DBOS_DUCKDB_FUNCTIONS(X)                                                                   \
    X(open_ext)                                                                                    \
    X(close)                                                                                       \
    X(connect)                                                                                     \
    X(disconnect)                                                                                  \
    X(interrupt)                                                                                   \
    X(library_version)                                                                             \
    X(create_config)                                                                               \
    X(set_config)                                                                                  \
    X(destroy_config)                                                                              \
    X(query)                                                                                       \
    X(destroy_result)                                                                              \
    X(result_error)                                                                                \
    X(result_error_type)                                                                           \
    X(rows_changed)                                                                                \
    X(column_count)                                                                                \
    X(column_name)                                                                                 \
    X(column_type)                                                                                 \
    X(fetch_chunk)                                                                                 \
    X(extract_statements)                                                                          \
    X(extract_statements_error)                                                                    \
    X(prepare_extracted_statement)                                                                 \
    X(destroy_extracted)                                                                           \
    X(prepare)                                                                                     \
    X(prepare_error)                                                                               \
    X(prepared_statement_type)                                                                     \
    X(prepared_statement_column_count)                                                             \
    X(prepared_statement_column_name)                                                              \
    X(prepared_statement_column_type)                                                              \
    X(execute_prepared)                                                                            \
    X(destroy_prepare)                                                                             \
    X(create_logical_type)                                                                         \
    X(destroy_logical_type)                                                                        \
    X(create_data_chunk)                                                                           \
    X(destroy_data_chunk)                                                                          \
    X(data_chunk_reset)                                                                            \
    X(data_chunk_set_size)                                                                         \
    X(data_chunk_get_size)                                                                         \
    X(data_chunk_get_vector)                                                                       \
    X(vector_get_data)                                                                             \
    X(vector_get_validity)                                                                         \
    X(vector_ensure_validity_writable)                                                             \
    X(vector_assign_string_element_len)                                                            \
    X(data_chunk_get_column_count)                                                                 \
    X(vector_reference_vector)                                                                     \
    X(create_table_function)                                                                       \
    X(destroy_table_function)                                                                      \
    X(table_function_set_name)                                                                     \
    X(table_function_set_extra_info)                                                               \
    X(table_function_set_bind)                                                                     \
    X(table_function_set_init)                                                                     \
    X(table_function_set_function)                                                                 \
    X(table_function_supports_projection_pushdown)                                                 \
    X(register_table_function)                                                                     \
    X(bind_add_result_column)                                                                      \
    X(bind_set_cardinality)                                                                        \
    X(init_set_init_data)                                                                          \
    X(init_set_error)                                                                              \
    X(init_get_column_count)                                                                       \
    X(init_get_column_index)                                                                       \
    X(function_get_init_data)                                                                      \
    X(free)

struct dbos_duckdb {
    struct dbos_alloc *alloc;
    void *library;
#define DBOS_DUCKDB_MEMBER(name) __typeof__(&duckdb_##name) name;
    DBOS_DUCKDB_FUNCTIONS(DBOS_DUCKDB_MEMBER)
#undef DBOS_DUCKDB_MEMBER
};

/* Load the first of `paths` that exists; NULL entries are passed over.
 * Errors: UNDEFINED_FILE (none of them loads: the message names the last and why), NOMEM. */
enum dbos_err dbos_duckdb_open(struct dbos_alloc *alloc, const char *const *paths, uint32_t count,
                               struct dbos_duckdb **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Forgets the table. The library stays loaded: its threads may still be ending. NULL is allowed. */
void dbos_duckdb_close(struct dbos_duckdb *duck);

/* Run statements whose rows nobody wants. Errors: dbos_duckdb_fail()'s. */
enum dbos_err dbos_duckdb_run(const struct dbos_duckdb *duck, duckdb_connection connection,
                              const char *sql, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Run one statement; *out is the caller's, to be given to destroy_result. */
enum dbos_err dbos_duckdb_select(const struct dbos_duckdb *duck, duckdb_connection connection,
                                 const char *sql, duckdb_result *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* DuckDB's error as ours: syntax 42601, unknown names 42P01, 42703, 42883, conversion 22P02, …;
 * INTERRUPT is CANCELED. The line and caret of the text become the error's position. */
enum dbos_err dbos_duckdb_fail(duckdb_error_type type, const char *message,
                               struct dbos_errinfo *info);

/* What was given to table_function_set_extra_info, as the function's callbacks ask for it: they
 * have no table of functions yet. The library must be loaded. */
void *dbos_duckdb_bind_extra(duckdb_bind_info info);
void *dbos_duckdb_init_extra(duckdb_init_info info);
void *dbos_duckdb_function_extra(duckdb_function_info info);

/* A string or blob of a result's vector; borrowed from its chunk. */
static inline struct dbos_bytes dbos_duckdb_bytes(const duckdb_string_t *text) {
    uint32_t length = text->value.inlined.length;
    const char *data = length <= 12 ? text->value.inlined.inlined : text->value.pointer.ptr;
    return (struct dbos_bytes){.data = (const uint8_t *)data, .size_bytes = length};
}
/* Is the row not NULL? `validity` NULL = no row is. */
static inline bool dbos_duckdb_valid(const uint64_t *validity, uint64_t row) {
    return validity == NULL || ((validity[row / 64] >> (row % 64)) & 1) != 0;
}

#endif /* DBOS_PROVENANCE_DUCKDB_H */
