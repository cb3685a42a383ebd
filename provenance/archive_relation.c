#include "provenance/archive_relation.h"

#include <stdio.h>
#include <string.h>

/* -- columns ------------------------------------------------------------------------------------
 */

struct fixed_column {
    const char *name;
    duckdb_type type;
};

static const struct fixed_column txn_columns[DBOS_TXN_COLUMNS] = {
    [DBOS_TXN_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_TXN_START_TS] = {"start_ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_TXN_PARTITION] = {"partition", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_PARTITIONS] = {"partitions", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_FLAGS] = {"flags", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_OUTCOME] = {"outcome", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_STATUS] = {"status", DUCKDB_TYPE_VARCHAR},
    [DBOS_TXN_READ_ONLY] = {"read_only", DUCKDB_TYPE_BOOLEAN},
    [DBOS_TXN_SESSION] = {"session", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_REQUEST] = {"request", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_USERNAME] = {"username", DUCKDB_TYPE_VARCHAR},
    [DBOS_TXN_ROLE] = {"role", DUCKDB_TYPE_VARCHAR},
    [DBOS_TXN_PROCEDURE_ID] = {"procedure_id", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_PROCEDURE_VERSION] = {"procedure_version", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_PROCEDURE] = {"procedure", DUCKDB_TYPE_VARCHAR},
    [DBOS_TXN_TASK_ID] = {"task_id", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_SEED] = {"seed", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_ARGUMENT_COUNT] = {"argument_count", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_ARGUMENTS] = {"arguments", DUCKDB_TYPE_BLOB},
    [DBOS_TXN_HASH_DELTA] = {"hash_delta", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_READS] = {"n_reads", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_WRITES] = {"n_writes", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_STEPS] = {"steps", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_EGRESS_NUMBER] = {"egress_number", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_EGRESS_STATEMENT] = {"egress_statement", DUCKDB_TYPE_INTEGER},
    [DBOS_TXN_EGRESS_COUNT] = {"egress_count", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_EGRESS_BYTES] = {"egress_bytes", DUCKDB_TYPE_BIGINT},
    [DBOS_TXN_EGRESS_DIGEST] = {"egress_digest", DUCKDB_TYPE_BIGINT},
};
static const struct fixed_column event_columns[DBOS_EVENT_COLUMNS] = {
    [DBOS_EVENT_COLUMN_ORD] = {"ord", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_EVENT_COLUMN_STATEMENT] = {"statement", DUCKDB_TYPE_INTEGER},
    [DBOS_EVENT_COLUMN_OP] = {"op", DUCKDB_TYPE_SMALLINT},
    [DBOS_EVENT_COLUMN_TABLE] = {"table_id", DUCKDB_TYPE_INTEGER},
    [DBOS_EVENT_COLUMN_BLOCK] = {"block", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_COUNT] = {"count", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_PREVIOUS] = {"previous_position", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_PK] = {"pk", DUCKDB_TYPE_VARCHAR},
    [DBOS_EVENT_COLUMN_PARTITION] = {"partition", DUCKDB_TYPE_INTEGER},
    [DBOS_EVENT_COLUMN_PARTITIONS] = {"partitions", DUCKDB_TYPE_INTEGER},
    [DBOS_EVENT_COLUMN_INDEX] = {"index_id", DUCKDB_TYPE_INTEGER},
    [DBOS_EVENT_COLUMN_STATEMENT_ID] = {"statement_id", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_BYTES] = {"bytes", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_DIGEST] = {"digest", DUCKDB_TYPE_BIGINT},
    [DBOS_EVENT_COLUMN_LOW] = {"low", DUCKDB_TYPE_BLOB},
    [DBOS_EVENT_COLUMN_HIGH] = {"high", DUCKDB_TYPE_BLOB},
    [DBOS_EVENT_COLUMN_BOUNDS] = {"bound_flags", DUCKDB_TYPE_SMALLINT},
};
static const struct fixed_column session_columns[DBOS_SESSION_COLUMNS] = {
    [DBOS_SESSION_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_SESSION_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_SESSION_ID] = {"session", DUCKDB_TYPE_BIGINT},
    [DBOS_SESSION_USERNAME] = {"username", DUCKDB_TYPE_VARCHAR},
    [DBOS_SESSION_ROLE] = {"role", DUCKDB_TYPE_VARCHAR},
    [DBOS_SESSION_ADDRESS] = {"address", DUCKDB_TYPE_VARCHAR},
    [DBOS_SESSION_APPLICATION] = {"application", DUCKDB_TYPE_VARCHAR},
};
static const struct fixed_column text_columns[DBOS_TEXT_COLUMNS] = {
    [DBOS_TEXT_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_TEXT_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_TEXT_ID] = {"statement_id", DUCKDB_TYPE_BIGINT},
    [DBOS_TEXT_TEXT] = {"text", DUCKDB_TYPE_VARCHAR},
};
static const struct fixed_column step_columns[DBOS_STEP_COLUMNS] = {
    [DBOS_STEP_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_STEP_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_STEP_STEPS] = {"steps", DUCKDB_TYPE_BIGINT},
    [DBOS_STEP_NUMBER] = {"number", DUCKDB_TYPE_INTEGER},
    [DBOS_STEP_STATEMENT] = {"statement", DUCKDB_TYPE_INTEGER},
    [DBOS_STEP_STATEMENT_ID] = {"statement_id", DUCKDB_TYPE_BIGINT},
};
static const struct fixed_column row_columns[DBOS_ROW_COLUMNS] = {
    [DBOS_ROW_COLUMN_ORD] = {"ord", DUCKDB_TYPE_BIGINT},
    [DBOS_ROW_COLUMN_POSITION] = {"position", DUCKDB_TYPE_BIGINT},
    [DBOS_ROW_COLUMN_TS] = {"ts", DUCKDB_TYPE_TIMESTAMP_TZ},
    [DBOS_ROW_COLUMN_STATEMENT] = {"statement", DUCKDB_TYPE_INTEGER},
    [DBOS_ROW_COLUMN_OP] = {"op", DUCKDB_TYPE_SMALLINT},
    [DBOS_ROW_COLUMN_BLOCK] = {"block", DUCKDB_TYPE_BIGINT},
    [DBOS_ROW_COLUMN_PREVIOUS] = {"previous_position", DUCKDB_TYPE_BIGINT},
    [DBOS_ROW_COLUMN_PK] = {"pk", DUCKDB_TYPE_VARCHAR},
};
static const struct fixed_column walk_columns[DBOS_WALK_COLUMNS] = {
    [DBOS_WALK_DEPTH] = {"depth", DUCKDB_TYPE_INTEGER},
    [DBOS_WALK_ORD] = {"ord", DUCKDB_TYPE_BIGINT},
    [DBOS_WALK_PARENT] = {"parent", DUCKDB_TYPE_BIGINT},
};
static const struct {
    const char *name;
    const struct fixed_column *columns;
    uint32_t count;
} fixed_relations[DBOS_ARCHIVE_KIND_COUNT] = {
    [DBOS_ARCHIVE_WALK] = {"walk", walk_columns, DBOS_WALK_COLUMNS},
    [DBOS_ARCHIVE_TXN] = {"txn", txn_columns, DBOS_TXN_COLUMNS},
    [DBOS_ARCHIVE_EVENT] = {"event", event_columns, DBOS_EVENT_COLUMNS},
    [DBOS_ARCHIVE_ACCESS] = {"access", event_columns, DBOS_ACCESS_COLUMNS},
    [DBOS_ARCHIVE_STEP] = {"step", step_columns, DBOS_STEP_COLUMNS},
    [DBOS_ARCHIVE_SESSION] = {"session", session_columns, DBOS_SESSION_COLUMNS},
    [DBOS_ARCHIVE_STATEMENT] = {"statement", text_columns, DBOS_TEXT_COLUMNS},
};

duckdb_type dbos_archive_type_of(enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_BOOL:
        return DUCKDB_TYPE_BOOLEAN;
    case DBOS_TYPE_INT2:
        return DUCKDB_TYPE_SMALLINT;
    case DBOS_TYPE_INT4:
        return DUCKDB_TYPE_INTEGER;
    case DBOS_TYPE_INT8:
        return DUCKDB_TYPE_BIGINT;
    case DBOS_TYPE_FLOAT8:
        return DUCKDB_TYPE_DOUBLE;
    case DBOS_TYPE_BYTEA:
        return DUCKDB_TYPE_BLOB;
    case DBOS_TYPE_TIMESTAMPTZ:
        return DUCKDB_TYPE_TIMESTAMP_TZ;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
    case DBOS_TYPE_VOID:
        break;
    }
    return DUCKDB_TYPE_VARCHAR;
}

/* -- SQL text -----------------------------------------------------------------------------------
 */

static void put_quoted(struct dbos_buf *sql, const char *text, char quote) {
    dbos_buf_put_u8(sql, (uint8_t)quote);
    for (; *text != '\0'; text++) {
        if (*text == quote) {
            dbos_buf_put_u8(sql, (uint8_t)quote);
        }
        dbos_buf_put_u8(sql, (uint8_t)*text);
    }
    dbos_buf_put_u8(sql, (uint8_t)quote);
}

void dbos_sql_put_ident(struct dbos_buf *sql, const char *name) { put_quoted(sql, name, '"'); }

void dbos_sql_put_literal(struct dbos_buf *sql, const char *text) { put_quoted(sql, text, '\''); }

void dbos_sql_putf(struct dbos_buf *sql, const char *format, ...) {
    va_list args;
    va_start(args, format);
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    DBOS_CHECK(length >= 0);
    uint8_t *to = dbos_buf_reserve(sql, (size_t)length + 1);
    if (to != NULL) {
        (void)vsnprintf((char *)to, (size_t)length + 1, format, again);
        sql->size_bytes += (size_t)length;
    }
    va_end(again);
}

const char *dbos_sql_text(struct dbos_buf *sql) {
    uint8_t *end = dbos_buf_reserve(sql, 1);
    if (end == NULL || sql->failed) {
        return NULL;
    }
    *end = '\0';
    return (const char *)sql->data;
}

/* Runs what was built in `sql` and frees the buffer. */
static enum dbos_err run_built(struct dbos_archive_relation *relation, struct dbos_buf *sql,
                               struct dbos_errinfo *info) {
    const char *text = dbos_sql_text(sql);
    enum dbos_err err = text == NULL
                            ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for archive SQL")
                            : dbos_duckdb_run(relation->duck, relation->connection, text, info);
    dbos_buf_fini(sql);
    return err;
}

/* -- definition ---------------------------------------------------------------------------------
 */

static void start(struct dbos_archive_relation *relation, struct dbos_alloc *alloc,
                  const struct dbos_duckdb *duck, duckdb_connection connection) {
    memset(relation, 0, sizeof *relation);
    relation->alloc = alloc;
    relation->duck = duck;
    relation->connection = connection;
    relation->view_stale = true;
    relation->dropped_position = UINT64_MAX;
}

/* Room for `count` columns in all arrays that have one entry for each. */
static enum dbos_err size_columns(struct dbos_archive_relation *relation, uint32_t count) {
    struct dbos_alloc *alloc = relation->alloc;
    void *columns = dbos_retake(alloc, relation->columns, count * sizeof *relation->columns);
    relation->columns = columns == NULL ? relation->columns : columns;
    void *slots = dbos_retake(alloc, relation->slots, count * sizeof *relation->slots);
    relation->slots = slots == NULL ? relation->slots : slots;
    bool failed = columns == NULL || slots == NULL;
    return failed ? DBOS_ERR_NOMEM : DBOS_OK;
}

static void set_fixed(struct dbos_archive_relation *relation, const struct fixed_column *columns,
                      uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        struct dbos_archive_column *column = &relation->columns[i];
        (void)snprintf(column->name, sizeof column->name, "%s", columns[i].name);
        column->type = columns[i].type;
        column->field_id = i + 1;
    }
    relation->column_count = count;
}

enum dbos_err dbos_archive_relation_init_fixed(struct dbos_archive_relation *relation,
                                               struct dbos_alloc *alloc,
                                               const struct dbos_duckdb *duck,
                                               duckdb_connection connection,
                                               enum dbos_archive_fixed which) {
    start(relation, alloc, duck, connection);
    (void)snprintf(relation->name, sizeof relation->name, "%s", fixed_relations[which].name);
    relation->view = which == DBOS_ARCHIVE_EVENT ? "other_event" : relation->name;
    enum dbos_err err = size_columns(relation, fixed_relations[which].count);
    if (err != DBOS_OK) {
        dbos_archive_relation_fini(relation);
        return err;
    }
    set_fixed(relation, fixed_relations[which].columns, fixed_relations[which].count);
    return DBOS_OK;
}

static uint32_t find_field(const struct dbos_archive_relation *relation, uint32_t field_id) {
    uint32_t i = DBOS_ROW_COLUMNS;
    while (i < relation->column_count && relation->columns[i].field_id != field_id) {
        i++;
    }
    return i;
}

/* Adds the definition's new columns to `columns` and maps all of them. */
static enum dbos_err adopt_definition(struct dbos_archive_relation *relation,
                                      struct dbos_table_def *def) {
    uint32_t *places =
        dbos_retake(relation->alloc, relation->places, (def->column_count + 1u) * sizeof *places);
    if (places == NULL ||
        size_columns(relation, relation->column_count + def->column_count) != DBOS_OK) {
        relation->places = places == NULL ? relation->places : places;
        return DBOS_ERR_NOMEM;
    }
    relation->places = places;
    for (uint32_t i = 0; i < def->column_count; i++) {
        uint32_t field_id = DBOS_ARCHIVE_FIELD_FIRST + def->columns[i].id;
        uint32_t place = find_field(relation, field_id);
        if (place == relation->column_count) {
            struct dbos_archive_column *column = &relation->columns[place];
            (void)snprintf(column->name, sizeof column->name, "c%u_%s", def->columns[i].id,
                           def->columns[i].name);
            column->type = dbos_archive_type_of((enum dbos_type)def->columns[i].type);
            column->field_id = field_id;
            relation->column_count++;
        }
        places[i] = place;
    }
    dbos_table_def_unref(relation->def);
    relation->def = dbos_table_def_ref(def);
    return DBOS_OK;
}

enum dbos_err dbos_archive_relation_init_table(struct dbos_archive_relation *relation,
                                               struct dbos_alloc *alloc,
                                               const struct dbos_duckdb *duck,
                                               duckdb_connection connection,
                                               struct dbos_table_def *def) {
    start(relation, alloc, duck, connection);
    relation->table_id = def->id;
    (void)snprintf(relation->name, sizeof relation->name, "t_%u", def->id);
    relation->view = relation->name;
    enum dbos_err err = size_columns(relation, DBOS_ROW_COLUMNS);
    if (err == DBOS_OK) {
        set_fixed(relation, row_columns, DBOS_ROW_COLUMNS);
        err = adopt_definition(relation, def);
    }
    if (err != DBOS_OK) {
        dbos_archive_relation_fini(relation);
    }
    return err;
}

static void free_spare(struct dbos_archive_relation *relation) {
    for (uint32_t i = 0; i < relation->chunk_spare; i++) {
        relation->duck->destroy_data_chunk(&relation->chunks[relation->chunk_count + i].data);
    }
    relation->chunk_spare = 0;
}

void dbos_archive_relation_fini(struct dbos_archive_relation *relation) {
    if (relation->alloc == NULL) {
        return;
    }
    dbos_archive_relation_cool(relation);
    free_spare(relation);
    for (uint32_t i = 0; i < relation->file_count; i++) {
        dbos_give(relation->alloc, relation->files[i].path);
    }
    dbos_give(relation->alloc, relation->files);
    dbos_give(relation->alloc, relation->columns);
    dbos_give(relation->alloc, relation->slots);
    dbos_give(relation->alloc, relation->chunks);
    dbos_give(relation->alloc, relation->places);
    if (relation->def != NULL) {
        dbos_table_def_unref(relation->def);
    }
    memset(relation, 0, sizeof *relation);
}

enum dbos_err dbos_archive_relation_redefine(struct dbos_archive_relation *relation,
                                             struct dbos_table_def *def,
                                             struct dbos_errinfo *info) {
    relation->filling = false; /* rows of the new kind begin a chunk of their own */
    free_spare(relation);
    relation->view_stale = true;
    return adopt_definition(relation, def) == DBOS_OK
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a table of the archive");
}

enum dbos_err dbos_archive_relation_add_file(struct dbos_archive_relation *relation,
                                             const struct dbos_manifest_file *file, bool is_whole) {
    if (relation->file_count == relation->file_capacity) {
        uint32_t capacity = relation->file_capacity * 2 + 8;
        struct dbos_archive_file *files =
            dbos_retake(relation->alloc, relation->files, capacity * sizeof *files);
        if (files == NULL) {
            return DBOS_ERR_NOMEM;
        }
        relation->files = files;
        relation->file_capacity = capacity;
    }
    size_t size_bytes = strlen(file->path) + 1;
    char *copy = dbos_take(relation->alloc, size_bytes);
    if (copy == NULL) {
        return DBOS_ERR_NOMEM;
    }
    memcpy(copy, file->path, size_bytes);
    bool are_all_whole = relation->files_checked == relation->file_count;
    relation->files[relation->file_count++] =
        (struct dbos_archive_file){.path = copy,
                                   .bytes = file->bytes,
                                   .xxh3 = file->xxh3,
                                   .min_position = file->min_position,
                                   .max_position = file->max_position};
    relation->files_checked += is_whole && are_all_whole;
    relation->view_stale = true;
    return DBOS_OK;
}

enum dbos_err dbos_archive_relation_check(struct dbos_archive_relation *relation,
                                          struct dbos_env *env, const char *folder, uint32_t most,
                                          struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    for (; err == DBOS_OK && most > 0 && relation->files_checked < relation->file_count; most--) {
        const struct dbos_archive_file *one = &relation->files[relation->files_checked];
        struct dbos_manifest_file file = {.path = one->path,
                                          .bytes = one->bytes,
                                          .xxh3 = one->xxh3,
                                          .min_position = one->min_position,
                                          .max_position = one->max_position};
        err = dbos_archive_check_file(relation->alloc, env, folder, &file, info);
        relation->files_checked += err == DBOS_OK;
    }
    return err;
}

/* -- writing ------------------------------------------------------------------------------------
 */

static uint32_t width_of(duckdb_type type) {
    if (type == DUCKDB_TYPE_BOOLEAN) {
        return sizeof(bool);
    }
    if (type == DUCKDB_TYPE_SMALLINT) {
        return sizeof(int16_t);
    }
    if (type == DUCKDB_TYPE_INTEGER) {
        return sizeof(int32_t);
    }
    bool is_bytes = type == DUCKDB_TYPE_VARCHAR || type == DUCKDB_TYPE_BLOB;
    return is_bytes ? sizeof(duckdb_string_t) : sizeof(int64_t);
}

/* Pointers into the new chunk. */
static void fetch_slots(struct dbos_archive_relation *relation, duckdb_data_chunk chunk) {
    const struct dbos_duckdb *duck = relation->duck;
    relation->row_bytes = 0;
    for (uint32_t i = 0; i < relation->column_count; i++) {
        struct dbos_archive_slot *slot = &relation->slots[i];
        slot->vector = duck->data_chunk_get_vector(chunk, i);
        slot->data = duck->vector_get_data(slot->vector);
        slot->validity = NULL;
        slot->type = relation->columns[i].type;
        relation->row_bytes += width_of(slot->type);
    }
    relation->row = 0;
}

static duckdb_data_chunk make_chunk(struct dbos_archive_relation *relation) {
    const struct dbos_duckdb *duck = relation->duck;
    duckdb_logical_type *types =
        dbos_take_zero(relation->alloc, relation->column_count * sizeof(duckdb_logical_type));
    if (types == NULL) {
        return NULL;
    }
    for (uint32_t i = 0; i < relation->column_count; i++) {
        types[i] = duck->create_logical_type(relation->columns[i].type);
    }
    duckdb_data_chunk chunk = duck->create_data_chunk(types, relation->column_count);
    for (uint32_t i = 0; i < relation->column_count; i++) {
        duck->destroy_logical_type(&types[i]);
    }
    dbos_give(relation->alloc, types);
    return chunk;
}

static enum dbos_err add_chunk(struct dbos_archive_relation *relation, struct dbos_errinfo *info) {
    if (relation->chunk_count == relation->chunk_capacity) {
        uint32_t capacity = relation->chunk_capacity * 2 + 8;
        void *chunks =
            dbos_retake(relation->alloc, relation->chunks, capacity * sizeof *relation->chunks);
        if (chunks == NULL) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for archive rows");
        }
        relation->chunks = chunks;
        relation->chunk_capacity = capacity;
    }
    duckdb_data_chunk chunk = make_chunk(relation);
    if (chunk == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for archive rows");
    }
    relation->chunks[relation->chunk_count] =
        (struct dbos_archive_chunk){.data = chunk, .columns = relation->column_count};
    relation->chunk_spare++;
    return DBOS_OK;
}

static enum dbos_err begin_chunk(struct dbos_archive_relation *relation,
                                 struct dbos_errinfo *info) {
    if (relation->chunk_spare == 0) {
        enum dbos_err err = add_chunk(relation, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    struct dbos_archive_chunk *chunk = &relation->chunks[relation->chunk_count++];
    relation->chunk_spare--;
    chunk->rows = 0;
    DBOS_CHECK(chunk->columns == relation->column_count);
    fetch_slots(relation, chunk->data);
    relation->filling = true;
    return DBOS_OK;
}

enum dbos_err dbos_archive_row_begin(struct dbos_archive_relation *relation,
                                     struct dbos_errinfo *info) {
    return relation->filling ? DBOS_OK : begin_chunk(relation, info);
}

void dbos_archive_put_first_null(struct dbos_archive_relation *relation, uint32_t column) {
    struct dbos_archive_slot *slot = &relation->slots[column];
    relation->duck->vector_ensure_validity_writable(slot->vector);
    slot->validity = relation->duck->vector_get_validity(slot->vector);
}

void dbos_archive_put_real(struct dbos_archive_relation *relation, uint32_t column, double value) {
    DBOS_CHECK(relation->columns[column].type == DUCKDB_TYPE_DOUBLE);
    ((double *)relation->slots[column].data)[relation->row] = value;
}

void dbos_archive_put_bytes(struct dbos_archive_relation *relation, uint32_t column,
                            const void *data, size_t size_bytes) {
    struct dbos_archive_slot *slot = &relation->slots[column];
    duckdb_string_t text = {.value.inlined.length = (uint32_t)size_bytes};
    if (size_bytes <= sizeof text.value.inlined.inlined) {
        if (size_bytes != 0) {
            memcpy(text.value.inlined.inlined, data, size_bytes);
        }
        ((duckdb_string_t *)slot->data)[relation->row] = text;
        return;
    }
    relation->duck->vector_assign_string_element_len(slot->vector, relation->row, data, size_bytes);
    relation->hot_bytes += size_bytes;
}

void dbos_archive_row_end(struct dbos_archive_relation *relation) {
    relation->row++;
    relation->chunks[relation->chunk_count - 1].rows = relation->row;
    relation->hot_rows++;
    relation->hot_bytes += relation->row_bytes;
    relation->filling = relation->row != DBOS_ARCHIVE_CHUNK_ROWS;
}

static uint32_t column_named(const struct dbos_archive_relation *relation, const char *name) {
    uint32_t i = 0;
    while (i < relation->column_count && strcmp(relation->columns[i].name, name) != 0) {
        i++;
    }
    DBOS_CHECK(i < relation->column_count);
    return i;
}

static void widen(const int64_t *values, uint32_t count, int64_t *min, int64_t *max) {
    for (uint32_t i = 0; i < count; i++) {
        *min = values[i] < *min ? values[i] : *min;
        *max = values[i] > *max ? values[i] : *max;
    }
}

struct dbos_archive_extent
dbos_archive_relation_extent(const struct dbos_archive_relation *relation) {
    const struct dbos_duckdb *duck = relation->duck;
    struct dbos_archive_extent extent = {INT64_MAX, INT64_MIN, INT64_MAX, INT64_MIN};
    uint32_t position = column_named(relation, "position");
    uint32_t ts = column_named(relation, "ts");
    for (uint32_t i = 0; i < relation->chunk_count; i++) {
        const struct dbos_archive_chunk *chunk = &relation->chunks[i];
        widen(duck->vector_get_data(duck->data_chunk_get_vector(chunk->data, position)),
              chunk->rows, &extent.min_position, &extent.max_position);
        widen(duck->vector_get_data(duck->data_chunk_get_vector(chunk->data, ts)), chunk->rows,
              &extent.min_ts, &extent.max_ts);
    }
    return extent;
}

static bool is_empty(const uint64_t *validity, uint32_t rows) {
    uint32_t words = rows / 64;
    uint64_t any = 0;
    for (uint32_t i = 0; i < words; i++) {
        any |= validity[i];
    }
    any |= rows % 64 == 0 ? 0 : validity[words] & ((UINT64_C(1) << (rows % 64)) - 1);
    return any == 0;
}

bool dbos_archive_relation_lacks(const struct dbos_archive_relation *relation, uint32_t column) {
    const struct dbos_duckdb *duck = relation->duck;
    for (uint32_t i = 0; i < relation->chunk_count; i++) {
        const struct dbos_archive_chunk *chunk = &relation->chunks[i];
        if (column >= chunk->columns || chunk->rows == 0) {
            continue;
        }
        const uint64_t *validity =
            duck->vector_get_validity(duck->data_chunk_get_vector(chunk->data, column));
        if (validity == NULL || !is_empty(validity, chunk->rows)) {
            return false;
        }
    }
    return true;
}

void dbos_archive_relation_cool(struct dbos_archive_relation *relation) {
    relation->chunk_spare += relation->chunk_count;
    relation->chunk_count = 0;
    bool keep = relation->chunk_spare >= DBOS_ARCHIVE_CHUNKS_KEPT;
    for (uint32_t i = 0; i < relation->chunk_spare; i++) {
        keep = keep && relation->chunks[i].columns == relation->column_count;
    }
    if (!keep) {
        free_spare(relation);
    }
    for (uint32_t i = 0; i < relation->chunk_spare; i++) {
        relation->duck->data_chunk_reset(relation->chunks[i].data);
    }
    relation->filling = false;
    relation->hot_bytes = 0;
    relation->hot_rows = 0;
}

static void put_files(const struct dbos_archive_relation *relation, const char *folder,
                      struct dbos_buf *sql) {
    dbos_sql_putf(sql, "SELECT * FROM read_parquet([");
    for (uint32_t i = 0; i < relation->file_count; i++) {
        struct dbos_buf path;
        dbos_buf_init(&path, relation->alloc);
        dbos_sql_putf(&path, "%s/%s", folder, relation->files[i].path);
        const char *text = dbos_sql_text(&path);
        dbos_sql_putf(sql, "%s", i == 0 ? "" : ", ");
        if (text == NULL) {
            sql->failed = true;
        } else {
            dbos_sql_put_literal(sql, text);
        }
        dbos_buf_fini(&path);
    }
    dbos_sql_putf(sql, "], union_by_name = true, hive_partitioning = false) UNION ALL BY NAME ");
}

enum dbos_err dbos_archive_relation_view(struct dbos_archive_relation *relation, const char *folder,
                                         struct dbos_errinfo *info) {
    if (!relation->view_stale) {
        return DBOS_OK;
    }
    enum dbos_err err = dbos_archive_relation_register(relation, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_buf sql;
    dbos_buf_init(&sql, relation->alloc);
    dbos_sql_putf(&sql, "CREATE OR REPLACE VIEW arch.%s AS ", relation->view);
    if (relation->file_count != 0) {
        put_files(relation, folder, &sql);
    }
    dbos_sql_putf(&sql, "SELECT * FROM hot_%s()", relation->name);
    err = run_built(relation, &sql, info);
    relation->view_stale = err != DBOS_OK;
    return err;
}
