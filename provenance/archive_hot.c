/* hot_<name>(): a table function that hands out a relation's chunks by reference. DuckDB calls back
 * on threads of its own when it has several; nothing is put while a statement runs. */
#include <stdio.h>
#include <string.h>

#include "provenance/archive_relation.h"

/* How far one run of the function has got. */
struct scan {
    struct dbos_alloc *alloc;
    uint32_t next; /* chunk */
    uint32_t column_count;
    uint64_t columns[]; /* of the relation, as asked for */
};

static void bind_hot(duckdb_bind_info info) {
    const struct dbos_archive_relation *relation = dbos_duckdb_bind_extra(info);
    const struct dbos_duckdb *duck = relation->duck;
    for (uint32_t i = 0; i < relation->column_count; i++) {
        duckdb_logical_type type = duck->create_logical_type(relation->columns[i].type);
        duck->bind_add_result_column(info, relation->columns[i].name, type);
        duck->destroy_logical_type(&type);
    }
    duck->bind_set_cardinality(info, relation->hot_rows, true);
}

static void give_scan(void *data) {
    struct scan *scan = data;
    dbos_give(scan->alloc, scan);
}

static void init_hot(duckdb_init_info info) {
    const struct dbos_archive_relation *relation = dbos_duckdb_init_extra(info);
    const struct dbos_duckdb *duck = relation->duck;
    uint64_t count = duck->init_get_column_count(info);
    struct scan *scan = dbos_take(relation->alloc, sizeof *scan + count * sizeof scan->columns[0]);
    if (scan == NULL) {
        duck->init_set_error(info, "out of memory in the archive");
        return;
    }
    scan->alloc = relation->alloc;
    scan->next = 0;
    scan->column_count = (uint32_t)count;
    for (uint32_t i = 0; i < count; i++) {
        scan->columns[i] = duck->init_get_column_index(info, i);
    }
    duck->init_set_init_data(info, scan, give_scan);
}

/* A column that the relation did not have yet when the chunk was filled. */
static void put_nulls(const struct dbos_duckdb *duck, duckdb_vector to) {
    duck->vector_ensure_validity_writable(to);
    memset(duck->vector_get_validity(to), 0, DBOS_ARCHIVE_CHUNK_ROWS / 8);
}

static void read_hot(duckdb_function_info info, duckdb_data_chunk output) {
    const struct dbos_archive_relation *relation = dbos_duckdb_function_extra(info);
    const struct dbos_duckdb *duck = relation->duck;
    struct scan *scan = duck->function_get_init_data(info);
    while (scan->next < relation->chunk_count && relation->chunks[scan->next].rows == 0) {
        scan->next++;
    }
    if (scan->next == relation->chunk_count) {
        duck->data_chunk_set_size(output, 0);
        return;
    }
    const struct dbos_archive_chunk *chunk = &relation->chunks[scan->next++];
    for (uint32_t i = 0; i < scan->column_count; i++) {
        duckdb_vector to = duck->data_chunk_get_vector(output, i);
        if (scan->columns[i] < chunk->columns) {
            duck->vector_reference_vector(
                to, duck->data_chunk_get_vector(chunk->data, scan->columns[i]));
        } else {
            put_nulls(duck, to);
        }
    }
    duck->data_chunk_set_size(output, chunk->rows);
}

enum dbos_err dbos_archive_relation_register(struct dbos_archive_relation *relation,
                                             struct dbos_errinfo *info) {
    if (relation->function) {
        return DBOS_OK;
    }
    const struct dbos_duckdb *duck = relation->duck;
    char name[sizeof relation->name + 4];
    (void)snprintf(name, sizeof name, "hot_%s", relation->name);
    duckdb_table_function function = duck->create_table_function();
    duck->table_function_set_name(function, name);
    duck->table_function_set_extra_info(function, relation, NULL);
    duck->table_function_set_bind(function, bind_hot);
    duck->table_function_set_init(function, init_hot);
    duck->table_function_set_function(function, read_hot);
    duck->table_function_supports_projection_pushdown(function, true);
    relation->function =
        duck->register_table_function(relation->connection, function) == DuckDBSuccess;
    duck->destroy_table_function(&function);
    return relation->function
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_ARCHIVE, "DuckDB takes no function %s", name);
}
