/* What the archiver knew when it exported the last segment, read back from the Parquet files. */
#include "provenance/archive_internal.h"
#include "provenance/record.h"

/* Calls `each` with every chunk of a query's answer. */
static enum dbos_err each_chunk(struct dbos_archiver *archiver, const char *sql,
                                enum dbos_err (*each)(struct dbos_archiver *archiver,
                                                      duckdb_data_chunk chunk,
                                                      struct dbos_errinfo *info),
                                struct dbos_errinfo *info) {
    const struct dbos_duckdb *duck = archiver->duck;
    duckdb_result result;
    duckdb_data_chunk chunk;
    enum dbos_err err = dbos_duckdb_select(duck, archiver->connection, sql, &result, info);
    if (err != DBOS_OK) {
        return err;
    }
    while (err == DBOS_OK && (chunk = duck->fetch_chunk(result)) != NULL) {
        err = each(archiver, chunk, info);
        duck->destroy_data_chunk(&chunk);
    }
    duck->destroy_result(&result);
    return err;
}

static const void *column_of(const struct dbos_archiver *archiver, duckdb_data_chunk chunk,
                             uint64_t column) {
    return archiver->duck->vector_get_data(archiver->duck->data_chunk_get_vector(chunk, column));
}

static enum dbos_err restore_sessions(struct dbos_archiver *archiver, duckdb_data_chunk chunk,
                                      struct dbos_errinfo *info) {
    const int64_t *ids = column_of(archiver, chunk, 0);
    const duckdb_string_t *users = column_of(archiver, chunk, 1);
    const duckdb_string_t *roles = column_of(archiver, chunk, 2);
    uint64_t rows = archiver->duck->data_chunk_get_size(chunk);
    for (uint64_t i = 0; i < rows; i++) {
        if (dbos_archive_learn_session(archiver, (uint64_t)ids[i], dbos_duckdb_bytes(&users[i]),
                                       dbos_duckdb_bytes(&roles[i])) != DBOS_OK) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
        }
    }
    return DBOS_OK;
}

static enum dbos_err restore_texts(struct dbos_archiver *archiver, duckdb_data_chunk chunk,
                                   struct dbos_errinfo *info) {
    const int64_t *ids = column_of(archiver, chunk, 0);
    uint64_t rows = archiver->duck->data_chunk_get_size(chunk);
    for (uint64_t i = 0; i < rows; i++) {
        if (dbos_idmap_put(&archiver->texts, (uint64_t)ids[i], 1) != DBOS_OK) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
        }
    }
    return DBOS_OK;
}

static enum dbos_err restore_steps(struct dbos_archiver *archiver, duckdb_data_chunk chunk,
                                   struct dbos_errinfo *info) {
    const int64_t *ids = column_of(archiver, chunk, 0);
    const int32_t *numbers = column_of(archiver, chunk, 1);
    const int32_t *statements = column_of(archiver, chunk, 2);
    const int64_t *statement_ids = column_of(archiver, chunk, 3);
    uint64_t rows = archiver->duck->data_chunk_get_size(chunk);
    for (uint64_t i = 0; i < rows; i++) {
        struct dbos_archive_step step = {.statement_id = (uint64_t)statement_ids[i],
                                         .number = (uint32_t)numbers[i],
                                         .statement = (uint32_t)statements[i]};
        enum dbos_err err = dbos_archive_steps_learn(&archiver->steps, (uint64_t)ids[i], &step, 1);
        if (err != DBOS_OK) {
            return dbos_fail(info, err, "cannot read the archive's sequences of statements");
        }
    }
    return DBOS_OK;
}

static enum dbos_err restore_definitions(struct dbos_archiver *archiver, duckdb_data_chunk chunk,
                                         struct dbos_errinfo *info) {
    const int64_t *positions = column_of(archiver, chunk, 0);
    const int16_t *ops = column_of(archiver, chunk, 1);
    const int64_t *kinds = column_of(archiver, chunk, 2);
    const duckdb_string_t *definitions = column_of(archiver, chunk, 3);
    uint64_t rows = archiver->duck->data_chunk_get_size(chunk);
    enum dbos_err err = DBOS_OK;
    for (uint64_t i = 0; i < rows && err == DBOS_OK; i++) {
        uint64_t position = (uint64_t)positions[i];
        struct dbos_bytes definition = dbos_duckdb_bytes(&definitions[i]);
        err = ops[i] == DBOS_EVENT_DELETE
                  ? dbos_archive_undefine(archiver, position, kinds[i], definition, info)
                  : dbos_archive_define(archiver, position, kinds[i], definition, info);
    }
    return err;
}

/* SELECT of the catalogue's history, with the archive's names of its columns. */
static enum dbos_err definitions_sql(const struct dbos_archive_relation *catalog,
                                     struct dbos_buf *sql, struct dbos_errinfo *info) {
    int32_t kind = dbos_table_def_column(catalog->def, "kind");
    int32_t definition = dbos_table_def_column(catalog->def, "definition");
    DBOS_CHECK(kind >= 0 && definition >= 0);
    dbos_sql_putf(sql, "SELECT position, op, CAST(");
    dbos_sql_put_ident(sql, catalog->columns[catalog->places[kind]].name);
    dbos_sql_putf(sql, " AS BIGINT), ");
    dbos_sql_put_ident(sql, catalog->columns[catalog->places[definition]].name);
    dbos_sql_putf(sql, " FROM arch.%s ORDER BY ord", catalog->name);
    return dbos_sql_text(sql) == NULL
               ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive")
               : DBOS_OK;
}

enum dbos_err dbos_archive_restore(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_archive_relation *catalog = dbos_archive_table(archiver, DBOS_TABLE_CATALOG);
    DBOS_CHECK(catalog != NULL);
    struct dbos_archive_relation *needed[] = {&archiver->fixed[DBOS_ARCHIVE_SESSION],
                                              &archiver->fixed[DBOS_ARCHIVE_STATEMENT],
                                              &archiver->fixed[DBOS_ARCHIVE_STEP], catalog};
    enum dbos_err err = DBOS_OK;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0] && err == DBOS_OK; i++) {
        err = dbos_archive_relation_check(needed[i], archiver->env, archiver->folder, UINT32_MAX,
                                          info);
        if (err == DBOS_OK) {
            err = dbos_archive_relation_view(needed[i], archiver->folder, info);
        }
    }
    if (err == DBOS_OK) {
        err = each_chunk(archiver, "SELECT session, username, role FROM arch.session",
                         restore_sessions, info);
    }
    if (err == DBOS_OK) {
        err = each_chunk(archiver, "SELECT statement_id FROM arch.statement", restore_texts, info);
    }
    if (err == DBOS_OK) {
        err = each_chunk(archiver,
                         "SELECT steps, number, statement, statement_id FROM arch.step "
                         "ORDER BY position, steps, number",
                         restore_steps, info);
    }
    struct dbos_buf sql;
    dbos_buf_init(&sql, archiver->alloc);
    if (err == DBOS_OK) {
        err = definitions_sql(catalog, &sql, info);
    }
    if (err == DBOS_OK) {
        err = each_chunk(archiver, (const char *)sql.data, restore_definitions, info);
    }
    dbos_buf_fini(&sql);
    return err;
}
