#include "provenance/archiver.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "provenance/archive_check.h"
#include "provenance/archive_internal.h"

enum {
    THREADS_DEFAULT = 1,
    MEMORY_MB_DEFAULT = 1024,
    ROWS_MAX_DEFAULT = 10000000,
    HOT_BYTES_DEFAULT = 256 * 1048576,
    RETRY_US = 20000,  /* a batch that is durable is readable at once; a slow disk cache … */
    RETRIES_MAX = 250, /* … gets five seconds */
};

enum dbos_err dbos_archive_run(const struct dbos_archiver *archiver, duckdb_connection connection,
                               struct dbos_buf *sql, struct dbos_errinfo *info) {
    const char *text = dbos_sql_text(sql);
    enum dbos_err err = text == NULL
                            ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for archive SQL")
                            : dbos_duckdb_run(archiver->duck, connection, text, info);
    dbos_buf_fini(sql);
    return err;
}

/* -- opening
 * ---------------------------------------------------------------------------------------- */

static enum dbos_err open_database(struct dbos_archiver *archiver,
                                   const struct dbos_archiver_options *options,
                                   struct dbos_errinfo *info) {
    const struct dbos_duckdb *duck = archiver->duck;
    char threads[16], memory[32];
    (void)snprintf(threads, sizeof threads, "%u",
                   options->threads == 0 ? THREADS_DEFAULT : options->threads);
    (void)snprintf(memory, sizeof memory, "%uMB",
                   options->memory_mb == 0 ? MEMORY_MB_DEFAULT : options->memory_mb);
    const char *const settings[][2] = {
        {"threads", threads},
        {"memory_limit", memory},
        {"autoinstall_known_extensions", "false"},
        {"autoload_known_extensions", "false"},
        {"default_null_order", "nulls_last_on_asc_first_on_desc"},
        {"integer_division", "true"},
    };
    duckdb_config config;
    if (duck->create_config(&config) != DuckDBSuccess) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "DuckDB made no configuration");
    }
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        if (duck->set_config(config, settings[i][0], settings[i][1]) != DuckDBSuccess) {
            duck->destroy_config(&config);
            return dbos_fail(info, DBOS_ERR_ARCHIVE, "DuckDB refuses the setting %s = %s",
                             settings[i][0], settings[i][1]);
        }
    }
    char *message = NULL;
    duckdb_state state = duck->open_ext(NULL, &archiver->database, config, &message);
    duck->destroy_config(&config);
    if (state != DuckDBSuccess) {
        (void)dbos_fail(info, DBOS_ERR_ARCHIVE, "cannot open DuckDB: %s",
                        message == NULL ? "no reason given" : message);
        duck->free(message);
        return DBOS_ERR_ARCHIVE;
    }
    return duck->connect(archiver->database, &archiver->connection) == DuckDBSuccess
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_ARCHIVE, "cannot connect to DuckDB");
}

/* Nothing outside the archive's folder is reachable from here on, and no setting can change that.
 */
static enum dbos_err lock_database(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_buf sql, folder;
    dbos_buf_init(&sql, archiver->alloc);
    dbos_buf_init(&folder, archiver->alloc);
    dbos_sql_putf(&folder, "%s/", archiver->folder);
    const char *path = dbos_sql_text(&folder);
    dbos_sql_putf(&sql, "SET GLOBAL TimeZone = 'UTC'; SET GLOBAL allowed_directories = [");
    dbos_sql_put_literal(&sql, path == NULL ? "" : path);
    dbos_sql_putf(&sql, "]; SET GLOBAL temp_directory = ");
    dbos_sql_put_literal(&sql, path == NULL ? "" : path);
    dbos_sql_putf(&sql, " || 'tmp'; SET GLOBAL enable_external_access = false; "
                        "SET GLOBAL lock_configuration = true;");
    sql.failed = sql.failed || path == NULL;
    dbos_buf_fini(&folder);
    return dbos_archive_run(archiver, archiver->connection, &sql, info);
}

static enum dbos_err make_schemas(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    return dbos_duckdb_run(archiver->duck, archiver->connection,
                           "CREATE SCHEMA arch; CREATE SCHEMA prov; "
                           "CREATE SCHEMA public; CREATE SCHEMA dbos;",
                           info);
}

static enum dbos_err init_fixed(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT; i++) {
        if (dbos_archive_relation_init_fixed(&archiver->fixed[i], archiver->alloc, archiver->duck,
                                             archiver->connection,
                                             (enum dbos_archive_fixed)i) != DBOS_OK) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
        }
    }
    return dbos_archive_relation_init_fixed(&archiver->walk, archiver->alloc, archiver->duck,
                                            archiver->connection,
                                            (enum dbos_archive_fixed)DBOS_ARCHIVE_WALK) == DBOS_OK
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
}

static enum dbos_err open_sources(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    uint32_t segment = 1;
    struct dbos_archive_findings found;
    /* Before anything is cut, or answered from it. */
    enum dbos_err err =
        dbos_archive_check(archiver->alloc, archiver->env, archiver->data_dir, false, &found, info);
    if (err == DBOS_OK) {
        err = dbos_archive_load_manifest(archiver, &segment, info);
    }
    if (err == DBOS_OK) {
        archiver->span.segment = segment;
        err = dbos_log_reader_open(archiver->alloc, archiver->env, archiver->data_dir, segment, 0,
                                   &archiver->reader, info);
    }
    if (err == DBOS_OK) {
        err = dbos_blob_index_open(archiver->alloc, archiver->env, archiver->data_dir,
                                   &archiver->blobs, info);
    }
    return err;
}

static enum dbos_err open_parts(struct dbos_archiver *archiver,
                                const struct dbos_archiver_options *options,
                                struct dbos_errinfo *info) {
    struct dbos_env *env = archiver->env;
    enum dbos_err err = env->ops->dir_make(env, archiver->folder, info);
    if (err == DBOS_OK) {
        err = env->ops->dir_sync(env, archiver->data_dir, info);
    }
    if (err == DBOS_OK) {
        err = open_database(archiver, options, info);
    }
    if (err == DBOS_OK) {
        err = lock_database(archiver, info);
    }
    if (err == DBOS_OK) {
        err = make_schemas(archiver, info);
    }
    if (err == DBOS_OK) {
        err = init_fixed(archiver, info);
    }
    if (err == DBOS_OK) {
        err = dbos_archive_define_system(archiver, info);
    }
    return err == DBOS_OK ? open_sources(archiver, info) : err;
}

/* DuckDB wants absolute paths for its allowed directories to match. */
static enum dbos_err set_paths(struct dbos_archiver *archiver, const char *data_dir,
                               struct dbos_errinfo *info) {
    char absolute[PATH_MAX];
    if (realpath(data_dir, absolute) == NULL) {
        return dbos_fail(info, DBOS_ERR_IO, "cannot open the data directory %s", data_dir);
    }
    if (strlen(absolute) + sizeof "/archive" > sizeof archiver->folder) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "the path of the data directory is too long");
    }
    (void)snprintf(archiver->data_dir, sizeof archiver->data_dir, "%.1000s", absolute);
    (void)snprintf(archiver->folder, sizeof archiver->folder, "%.1000s/archive", absolute);
    return DBOS_OK;
}

static void show_progress(struct dbos_archiver *archiver) {
    uint64_t exported =
        archiver->span.records == 0 ? archiver->position : archiver->span.first_position - 1;
    /* Whoever reads the one first and then the other one finds them in order. */
    atomic_store(&archiver->seen_taken, archiver->position);
    atomic_store(&archiver->seen_exported, exported);
}

enum dbos_err dbos_archiver_open(struct dbos_alloc *alloc,
                                 const struct dbos_archiver_options *options,
                                 struct dbos_archiver **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_archiver *archiver = dbos_take_zero(alloc, sizeof *archiver);
    if (archiver == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the archiver");
    }
    archiver->alloc = alloc;
    archiver->env = options->env;
    archiver->duck = options->duck;
    archiver->rows_max = options->rows_max == 0 ? ROWS_MAX_DEFAULT : options->rows_max;
    archiver->hot_bytes_max =
        options->hot_bytes_max == 0 ? HOT_BYTES_DEFAULT : options->hot_bytes_max;
    archiver->manifest = -1;
    archiver->names_stale = true;
    (void)pthread_mutex_init(&archiver->question_mutex, NULL);
    dbos_idmap_init(&archiver->session_index, alloc);
    dbos_idmap_init(&archiver->texts, alloc);
    dbos_archive_steps_init(&archiver->steps, alloc);
    dbos_buf_init(&archiver->scratch, alloc);
    dbos_record_scratch_init(&archiver->record_scratch, alloc);
    dbos_buf_init(&archiver->object, alloc);
    enum dbos_err err = set_paths(archiver, options->data_dir, info);
    if (err == DBOS_OK) {
        err = open_parts(archiver, options, info);
    }
    if (err != DBOS_OK) {
        dbos_archiver_close(archiver);
        return err;
    }
    show_progress(archiver);
    *out = archiver;
    return DBOS_OK;
}

static void close_tables(struct dbos_archiver *archiver) {
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT; i++) {
        dbos_archive_relation_fini(&archiver->fixed[i]);
    }
    dbos_archive_relation_fini(&archiver->walk);
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        dbos_archive_relation_fini(archiver->tables[i]);
        dbos_give(archiver->alloc, archiver->tables[i]);
    }
    dbos_give(archiver->alloc, archiver->tables);
    for (uint32_t i = 0; i < archiver->session_count; i++) {
        dbos_give(archiver->alloc, archiver->sessions[i].user);
        dbos_give(archiver->alloc, archiver->sessions[i].role);
    }
    dbos_give(archiver->alloc, archiver->sessions);
    dbos_give(archiver->alloc, archiver->procedures);
}

void dbos_archiver_close(struct dbos_archiver *archiver) {
    if (archiver == NULL) {
        return;
    }
    close_tables(archiver);
    dbos_log_reader_close(archiver->reader);
    dbos_blob_index_close(archiver->blobs);
    if (archiver->connection != NULL) {
        archiver->duck->disconnect(&archiver->connection);
    }
    if (archiver->database != NULL) {
        archiver->duck->close(&archiver->database);
    }
    if (archiver->manifest >= 0) {
        archiver->env->ops->file_close(archiver->env, archiver->manifest);
    }
    dbos_idmap_fini(&archiver->session_index);
    dbos_idmap_fini(&archiver->texts);
    dbos_archive_steps_fini(&archiver->steps);
    dbos_buf_fini(&archiver->scratch);
    dbos_record_scratch_fini(&archiver->record_scratch);
    dbos_buf_fini(&archiver->object);
    (void)pthread_mutex_destroy(&archiver->question_mutex);
    dbos_give(archiver->alloc, archiver);
}

/* -- taking over
 * -------------------------------------------------------------------------------------- */

/* Bytes of the rows that wait for their files. A segment may name far more bytes than it has: large
 * values lie in blob segments. */
static uint64_t hot_bytes(const struct dbos_archiver *archiver) {
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT; i++) {
        bytes += archiver->fixed[i].hot_bytes;
    }
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        bytes += archiver->tables[i]->hot_bytes;
    }
    return bytes;
}

static enum dbos_err take_batch(struct dbos_archiver *archiver, const struct dbos_batch *batch,
                                struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    if (batch->last_position <= archiver->position) {
        return DBOS_OK; /* exported before a restart, from a segment that was not sealed */
    }
    if (archiver->span.segment != batch->segment) {
        err = dbos_archive_export(archiver, batch->segment, info); /* the old one is sealed */
    }
    size_t cursor = 0, size_bytes;
    const uint8_t *record;
    while (err == DBOS_OK && (record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        err = dbos_archive_ingest(archiver, record, size_bytes, info);
    }
    bool is_synced = batch->last_position <= archiver->synced;
    if (err == DBOS_OK && is_synced && hot_bytes(archiver) > archiver->hot_bytes_max) {
        err = dbos_archive_export(archiver, batch->segment, info);
    }
    if (err == DBOS_OK) {
        show_progress(archiver);
    }
    return err;
}

/* Batches until the reader has no more, or `stop` says so. */
static enum dbos_err take_available(struct dbos_archiver *archiver,
                                    bool (*stop)(struct dbos_archiver *archiver),
                                    struct dbos_errinfo *info) {
    struct dbos_batch batch;
    enum dbos_read_result result = DBOS_READ_END;
    while (!stop(archiver) &&
           (result = dbos_log_reader_next(archiver->reader, &batch, info)) == DBOS_READ_BATCH) {
        enum dbos_err err = take_batch(archiver, &batch, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    if (result == DBOS_READ_CORRUPT) {
        return info->code == DBOS_OK ? DBOS_ERR_CORRUPT : info->code;
    }
    return DBOS_OK;
}

/* Up to `durable`; what is durable is readable at once, a slow file system gets some time. */
static enum dbos_err take_until(struct dbos_archiver *archiver, uint64_t durable,
                                bool (*stop)(struct dbos_archiver *archiver),
                                struct dbos_errinfo *info) {
    dbos_log_reader_set_durable(archiver->reader, durable);
    enum dbos_err err = take_available(archiver, stop, info);
    for (uint32_t i = 0;
         err == DBOS_OK && archiver->position < durable && !stop(archiver) && i < RETRIES_MAX;
         i++) {
        archiver->env->ops->sleep_us(archiver->env, RETRY_US);
        err = take_available(archiver, stop, info);
    }
    if (err == DBOS_OK && archiver->position < durable && !stop(archiver)) {
        err = dbos_fail(info, DBOS_ERR_ARCHIVE, "the log ends at position %llu, not at %llu",
                        (unsigned long long)archiver->position, (unsigned long long)durable);
    }
    return err;
}

static enum dbos_err advance(struct dbos_archiver *archiver, uint64_t durable,
                             bool (*stop)(struct dbos_archiver *archiver),
                             struct dbos_errinfo *info) {
    struct dbos_errinfo own = {.code = DBOS_OK};
    enum dbos_err err = archiver->broken.code;
    if (err == DBOS_OK && durable > archiver->position) {
        err = take_until(archiver, durable, stop, &own);
        if (err != DBOS_OK) {
            archiver->broken = own;
            archiver->broken.code = err;
            dbos_log(DBOS_LOG_ERROR, "archive: %s %s", own.message, own.detail);
        }
    }
    if (err != DBOS_OK && info != NULL) {
        *info = archiver->broken;
    }
    return err;
}

static bool is_hurried(struct dbos_archiver *archiver) { return atomic_load(&archiver->hurry); }

enum dbos_err dbos_archiver_advance(struct dbos_archiver *archiver, uint64_t durable,
                                    struct dbos_errinfo *info) {
    archiver->synced = durable > archiver->synced ? durable : archiver->synced;
    return advance(archiver, durable, is_hurried, info);
}

void dbos_archiver_set_hurry(struct dbos_archiver *archiver, bool hurry) {
    atomic_store(&archiver->hurry, hurry);
}

enum dbos_err dbos_archive_advance_for(struct dbos_archiver *archiver, uint64_t position,
                                       struct dbos_errinfo *info) {
    enum dbos_err err = advance(archiver, position, dbos_archive_interrupted, info);
    return err == DBOS_OK && archiver->position < position
               ? dbos_fail(info, DBOS_ERR_CANCELED, "canceling statement due to user request")
               : err;
}

uint64_t dbos_archiver_position(const struct dbos_archiver *archiver) { return archiver->position; }

void dbos_archiver_progress(const struct dbos_archiver *archiver, uint64_t *out_taken,
                            uint64_t *out_exported) {
    *out_exported = atomic_load(&archiver->seen_exported);
    *out_taken = atomic_load(&archiver->seen_taken);
}

void dbos_archiver_stats(const struct dbos_archiver *archiver, struct dbos_archiver_stats *out) {
    *out = (struct dbos_archiver_stats){
        .records = archiver->records, .exports = archiver->exports, .files = archiver->files};
}

/* -- views
 * ------------------------------------------------------------------------------------------- */

/* As PostgreSQL shows it: the schema is left out where the search path finds it. */
static void put_table_name(struct dbos_buf *sql, const struct dbos_table_def *def) {
    struct dbos_buf name;
    dbos_buf_init(&name, sql->alloc);
    dbos_sql_putf(&name, "%s%s%s", strcmp(def->schema, "public") == 0 ? "" : def->schema,
                  strcmp(def->schema, "public") == 0 ? "" : ".", def->name);
    const char *text = dbos_sql_text(&name);
    dbos_sql_put_literal(sql, text == NULL ? "" : text);
    sql->failed = sql->failed || text == NULL;
    dbos_buf_fini(&name);
}

static enum dbos_err name_relations(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_buf sql;
    dbos_buf_init(&sql, archiver->alloc);
    dbos_sql_putf(&sql, "CREATE OR REPLACE TABLE arch.relation AS SELECT * FROM (VALUES ");
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        const struct dbos_archive_relation *table = archiver->tables[i];
        dbos_sql_putf(&sql, "%s(%u, ", i == 0 ? "" : ", ", table->table_id);
        put_table_name(&sql, table->def);
        dbos_sql_putf(&sql, ", CAST(%llu AS BIGINT), ",
                      (unsigned long long)table->created_position);
        if (table->dropped_position == UINT64_MAX) {
            dbos_sql_putf(&sql, "CAST(NULL AS BIGINT))");
        } else {
            dbos_sql_putf(&sql, "CAST(%llu AS BIGINT))",
                          (unsigned long long)table->dropped_position);
        }
    }
    dbos_sql_putf(&sql, ") AS r(table_id, table_name, created_position, dropped_position);");
    return dbos_archive_run(archiver, archiver->connection, &sql, info);
}

/* The current rows of a table under its own name, so that a query may join history with the
 * present. */
static void put_present(const struct dbos_archive_relation *table, const char *schema,
                        struct dbos_buf *sql) {
    dbos_sql_putf(sql, "CREATE OR REPLACE VIEW ");
    dbos_sql_put_ident(sql, schema);
    dbos_sql_putf(sql, ".");
    dbos_sql_put_ident(sql, table->def->name);
    dbos_sql_putf(sql, " AS SELECT ");
    for (uint32_t i = 0; i < table->def->column_count; i++) {
        dbos_sql_putf(sql, "%s", i == 0 ? "" : ", ");
        dbos_sql_put_ident(sql, table->columns[table->places[i]].name);
        dbos_sql_putf(sql, " AS ");
        dbos_sql_put_ident(sql, table->def->columns[i].name);
    }
    dbos_sql_putf(sql,
                  " FROM arch.%s WHERE op <> 2 AND ord IN (SELECT max(ord) FROM arch.%s "
                  "GROUP BY block); ",
                  table->name, table->name);
}

/* A table of public is found without its schema, too. */
static enum dbos_err show_present(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_buf sql;
    dbos_buf_init(&sql, archiver->alloc);
    dbos_sql_putf(&sql, "DROP SCHEMA public CASCADE; CREATE SCHEMA public; ");
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        dbos_sql_putf(&sql, "DROP VIEW IF EXISTS main.");
        dbos_sql_put_ident(&sql, archiver->tables[i]->def->name);
        dbos_sql_putf(&sql, "; ");
    }
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        const struct dbos_archive_relation *table = archiver->tables[i];
        if (table->dropped_position != UINT64_MAX) {
            continue;
        }
        put_present(table, table->def->schema, &sql);
        if (strcmp(table->def->schema, "public") == 0) {
            put_present(table, "main", &sql);
        }
    }
    return dbos_archive_run(archiver, archiver->connection, &sql, info);
}

static const char prov_views[] =
    /* Every event, wherever it lies. */
    "CREATE OR REPLACE VIEW arch.event AS SELECT * FROM arch.access "
    "UNION ALL BY NAME SELECT * FROM arch.other_event "
    "UNION ALL BY NAME SELECT (t.position << 24) + s.number AS ord, t.position, t.ts, "
    "s.statement, CAST(9 AS SMALLINT) AS op, CAST(0 AS BIGINT) AS count, s.statement_id "
    "FROM arch.txn t JOIN arch.step s USING (steps) "
    "UNION ALL BY NAME SELECT (position << 24) + egress_number AS ord, position, ts, "
    "egress_statement AS statement, CAST(8 AS SMALLINT) AS op, egress_count AS count, "
    "egress_bytes AS bytes, egress_digest AS digest FROM arch.txn "
    "WHERE egress_number IS NOT NULL;"
    "CREATE OR REPLACE VIEW prov.txn AS SELECT * EXCLUDE (steps, egress_number, "
    "egress_statement, egress_count, egress_bytes, egress_digest) FROM arch.txn;"
    "CREATE OR REPLACE VIEW prov.event AS SELECT e.position, e.ts, e.statement, CASE e.op "
    "WHEN 1 THEN 'insert' WHEN 2 THEN 'delete' WHEN 3 THEN 'update' WHEN 4 THEN 'read' "
    "WHEN 5 THEN 'range' WHEN 6 THEN 'absent' WHEN 7 THEN 'scan' WHEN 8 THEN 'egress' "
    "ELSE 'statement' END AS op, r.table_name, e.table_id, e.block AS block_id, e.count, e.pk, "
    "e.previous_position, e.partition, e.index_id, e.statement_id, e.bytes, e.digest, e.low, "
    "e.high, e.bound_flags, e.ord FROM arch.event e LEFT JOIN arch.relation r USING (table_id);"
    "CREATE OR REPLACE VIEW prov.session AS SELECT * FROM arch.session;"
    "CREATE OR REPLACE VIEW prov.statement AS SELECT * FROM arch.statement;"
    "CREATE OR REPLACE VIEW prov.relation AS SELECT * FROM arch.relation;"
    /* Each version of each row, and the event at which it ended. */
    "CREATE OR REPLACE VIEW arch.version AS SELECT ord, position, ts, statement, op, table_id, "
    "block, pk, lead(ord, 1, 9223372036854775807) OVER (PARTITION BY table_id, block ORDER BY ord)"
    " AS next_ord FROM arch.event WHERE op IN (1, 2, 3);";

static struct dbos_archive_relation *next_unchecked(const struct dbos_archiver *archiver) {
    struct dbos_archiver *all = (struct dbos_archiver *)(uintptr_t)archiver;
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT + archiver->table_count; i++) {
        struct dbos_archive_relation *relation =
            i < DBOS_ARCHIVE_FIXED_COUNT ? &all->fixed[i]
                                         : archiver->tables[i - DBOS_ARCHIVE_FIXED_COUNT];
        if (relation->files_checked < relation->file_count) {
            return relation;
        }
    }
    return NULL;
}

bool dbos_archiver_has_unchecked(const struct dbos_archiver *archiver) {
    return next_unchecked(archiver) != NULL;
}

enum dbos_err dbos_archiver_check_next(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_archive_relation *relation = next_unchecked(archiver);
    return relation == NULL
               ? DBOS_OK
               : dbos_archive_relation_check(relation, archiver->env, archiver->folder, 1, info);
}

enum dbos_err dbos_archive_refresh(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && dbos_archiver_has_unchecked(archiver)) {
        err = dbos_archive_interrupted(archiver)
                  ? dbos_fail(info, DBOS_ERR_CANCELED, "canceling statement due to user request")
                  : dbos_archiver_check_next(archiver, info);
    }
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT && err == DBOS_OK; i++) {
        /* A view remembers the columns that it was made upon. With its first file a relation's are
         * the file's, which may be others than those of rows in memory alone. */
        archiver->names_stale = archiver->names_stale || archiver->fixed[i].view_stale;
        err = dbos_archive_relation_view(&archiver->fixed[i], archiver->folder, info);
    }
    for (uint32_t i = 0; i < archiver->table_count && err == DBOS_OK; i++) {
        err = dbos_archive_relation_view(archiver->tables[i], archiver->folder, info);
    }
    if (err != DBOS_OK || !archiver->names_stale) {
        return err;
    }
    err = name_relations(archiver, info);
    if (err == DBOS_OK) {
        err = dbos_duckdb_run(archiver->duck, archiver->connection, prov_views, info);
    }
    if (err == DBOS_OK) {
        err = show_present(archiver, info);
    }
    archiver->names_stale = err != DBOS_OK;
    return err;
}
