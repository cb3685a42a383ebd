#include <assert.h>

#include "storage/schema.h"

/* Stored definitions; docs/formats/row.md, section "Definitions". The first two bytes are the
 * version of the format. Decoding goes through scratch parts in an arena and then through the same
 * maker that a CREATE statement uses, so both are checked alike. */
enum { TABLE_FORMAT = 1, PROCEDURE_FORMAT = 1 };
enum { COLUMN_NOT_NULL = 1, COLUMN_DEFAULT = 2 };
enum { INDEX_UNIQUE = 1, INDEX_PRIMARY = 2 };
enum { PROCEDURE_FUNCTION = 1, PROCEDURE_SYMBOL = 2, PROCEDURE_BODY = 4, PROCEDURE_ROUTE = 8 };

static void put_column(struct dbos_buf *buf, const struct dbos_column *column) {
    dbos_buf_put_varint(buf, column->id);
    dbos_buf_put_text(buf, column->name);
    dbos_buf_put_u8(buf, column->type);
    dbos_buf_put_u8(buf, (uint8_t)((column->not_null ? COLUMN_NOT_NULL : 0) |
                                   (column->default_sql != NULL ? COLUMN_DEFAULT : 0)));
    dbos_buf_put_varint(buf, column->chars_max);
    if (column->default_sql != NULL) {
        dbos_buf_put_text(buf, column->default_sql);
    }
}

static void put_index(struct dbos_buf *buf, const struct dbos_index_def *index) {
    dbos_buf_put_varint(buf, index->id);
    dbos_buf_put_text(buf, index->name);
    dbos_buf_put_u8(buf, index->kind);
    dbos_buf_put_u8(
        buf, (uint8_t)((index->unique ? INDEX_UNIQUE : 0) | (index->primary ? INDEX_PRIMARY : 0)));
    dbos_buf_put_varint(buf, index->column_count);
    for (uint32_t i = 0; i < index->column_count; i++) {
        dbos_buf_put_varint(buf, index->columns[i]);
    }
}

void dbos_table_def_encode(const struct dbos_table_def *def, struct dbos_buf *buf) {
    dbos_buf_put_u16(buf, TABLE_FORMAT);
    dbos_buf_put_varint(buf, def->id);
    dbos_buf_put_varint(buf, def->schema_version);
    dbos_buf_put_text(buf, def->schema);
    dbos_buf_put_text(buf, def->name);
    dbos_buf_put_zigzag(buf, def->partition_column);
    dbos_buf_put_varint(buf, def->column_count);
    for (uint32_t i = 0; i < def->column_count; i++) {
        put_column(buf, &def->columns[i]);
    }
    dbos_buf_put_varint(buf, def->index_count);
    for (uint32_t i = 0; i < def->index_count; i++) {
        put_index(buf, &def->indexes[i]);
    }
}

/* A varint that must not be above `max`. */
static uint32_t get_bounded(struct dbos_reader *reader, uint32_t max) {
    uint64_t value = dbos_get_varint(reader);
    if (value > max) {
        reader->failed = true;
        return 0;
    }
    return (uint32_t)value;
}

static void get_name(struct dbos_reader *reader, char name[DBOS_NAME_BYTES]) {
    struct dbos_bytes text = dbos_get_sized(reader);
    memset(name, 0, DBOS_NAME_BYTES);
    if (reader->failed || text.size_bytes >= DBOS_NAME_BYTES ||
        (text.size_bytes != 0 && memchr(text.data, 0, text.size_bytes) != NULL)) {
        reader->failed = true;
        return;
    }
    memcpy(name, text.data, text.size_bytes);
}

/* What a decoder needs besides the reader. */
struct decoder {
    struct dbos_reader reader;
    struct dbos_arena arena;
    bool no_memory;
};

static void *scratch(struct decoder *decoder, size_t size_bytes) {
    void *block = dbos_arena_take_zero(&decoder->arena, size_bytes);
    if (block == NULL) {
        decoder->no_memory = true;
        decoder->reader.failed = true;
    }
    return block;
}

static char *get_text(struct decoder *decoder) {
    struct dbos_bytes text = dbos_get_sized(&decoder->reader);
    if (decoder->reader.failed ||
        (text.size_bytes != 0 && memchr(text.data, 0, text.size_bytes) != NULL)) {
        decoder->reader.failed = true;
        return NULL;
    }
    char *copy = dbos_arena_copy(&decoder->arena, text.data, text.size_bytes);
    if (copy == NULL) {
        decoder->no_memory = true;
        decoder->reader.failed = true;
    }
    return copy;
}

static bool get_bool(uint8_t flags, unsigned flag) { return (flags & flag) != 0; }

static void get_column(struct decoder *decoder, struct dbos_column *column) {
    struct dbos_reader *reader = &decoder->reader;
    column->id = get_bounded(reader, UINT32_MAX);
    get_name(reader, column->name);
    column->type = dbos_get_u8(reader);
    uint8_t flags = dbos_get_u8(reader);
    if (flags > (COLUMN_NOT_NULL | COLUMN_DEFAULT)) {
        reader->failed = true;
    }
    column->not_null = get_bool(flags, COLUMN_NOT_NULL);
    column->chars_max = get_bounded(reader, UINT32_MAX);
    if (get_bool(flags, COLUMN_DEFAULT)) {
        column->default_sql = get_text(decoder);
    }
}

static void get_index(struct dbos_reader *reader, struct dbos_index_def *index) {
    index->id = get_bounded(reader, UINT32_MAX);
    get_name(reader, index->name);
    index->kind = dbos_get_u8(reader);
    uint8_t flags = dbos_get_u8(reader);
    if (flags > (INDEX_UNIQUE | INDEX_PRIMARY)) {
        reader->failed = true;
    }
    index->unique = get_bool(flags, INDEX_UNIQUE);
    index->primary = get_bool(flags, INDEX_PRIMARY);
    index->column_count = (uint16_t)get_bounded(reader, DBOS_INDEX_COLUMNS_MAX);
    for (uint32_t i = 0; i < index->column_count; i++) {
        index->columns[i] = (uint16_t)get_bounded(reader, DBOS_COLUMNS_MAX);
    }
}

static void get_columns(struct decoder *decoder, struct dbos_table_parts *parts) {
    parts->column_count = (uint16_t)get_bounded(&decoder->reader, DBOS_COLUMNS_MAX);
    struct dbos_column *columns = scratch(decoder, parts->column_count * sizeof *columns + 1);
    parts->columns = columns;
    for (uint32_t i = 0; i < parts->column_count && !decoder->reader.failed; i++) {
        get_column(decoder, &columns[i]);
    }
}

static void get_indexes(struct decoder *decoder, struct dbos_table_parts *parts) {
    parts->index_count = (uint16_t)get_bounded(&decoder->reader, DBOS_INDEXES_MAX);
    struct dbos_index_def *indexes = scratch(decoder, parts->index_count * sizeof *indexes + 1);
    parts->indexes = indexes;
    for (uint32_t i = 0; i < parts->index_count && !decoder->reader.failed; i++) {
        get_index(&decoder->reader, &indexes[i]);
    }
}

static void get_table(struct decoder *decoder, struct dbos_table_parts *parts) {
    struct dbos_reader *reader = &decoder->reader;
    parts->id = get_bounded(reader, UINT32_MAX);
    parts->schema_version = get_bounded(reader, UINT32_MAX);
    parts->schema = get_text(decoder);
    parts->name = get_text(decoder);
    int64_t partition_column = dbos_get_zigzag(reader);
    if (partition_column < -1 || partition_column >= DBOS_COLUMNS_MAX) {
        reader->failed = true;
    }
    parts->partition_column = reader->failed ? -1 : (int32_t)partition_column;
    get_columns(decoder, parts);
    get_indexes(decoder, parts);
}

/* Sets up the decoder; a version that this program does not know is refused. */
static enum dbos_err start(struct decoder *decoder, struct dbos_alloc *alloc, const void *data,
                           size_t size_bytes, uint16_t known, struct dbos_errinfo *info) {
    *decoder = (struct decoder){.reader = dbos_reader_of(data, size_bytes)};
    dbos_arena_init(&decoder->arena, alloc, 4096);
    uint16_t version = dbos_get_u16(&decoder->reader);
    if (!decoder->reader.failed && version != known) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "stored definition has format %u, this program knows %u", version, known);
    }
    return DBOS_OK;
}

static enum dbos_err finish(const struct decoder *decoder, struct dbos_errinfo *info) {
    if (decoder->no_memory) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    if (decoder->reader.failed || dbos_reader_left(&decoder->reader) != 0) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "stored definition is malformed");
    }
    return DBOS_OK;
}

enum dbos_err dbos_table_def_decode(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                                    struct dbos_table_def **out, struct dbos_errinfo *info) {
    struct decoder decoder;
    struct dbos_table_parts parts = {0};
    *out = NULL;
    enum dbos_err err = start(&decoder, alloc, data, size_bytes, TABLE_FORMAT, info);
    if (err == DBOS_OK) {
        get_table(&decoder, &parts);
        err = finish(&decoder, info);
    }
    if (err == DBOS_OK) {
        err = dbos_table_def_make(alloc, &parts, out, info);
        if (err != DBOS_OK && err != DBOS_ERR_NOMEM) {
            err = dbos_fail(info, DBOS_ERR_CORRUPT, "stored definition is not valid");
        }
    }
    dbos_arena_fini(&decoder.arena);
    return err;
}

static void put_optional(struct dbos_buf *buf, const char *text) {
    if (text != NULL) {
        dbos_buf_put_text(buf, text);
    }
}

void dbos_procedure_info_encode(const struct dbos_procedure_info *procedure, struct dbos_buf *buf) {
    dbos_buf_put_u16(buf, PROCEDURE_FORMAT);
    dbos_buf_put_varint(buf, procedure->id);
    dbos_buf_put_varint(buf, procedure->version);
    dbos_buf_put_text(buf, procedure->name);
    dbos_buf_put_u8(buf, (uint8_t)((procedure->is_function ? PROCEDURE_FUNCTION : 0) |
                                   (procedure->symbol != NULL ? PROCEDURE_SYMBOL : 0) |
                                   (procedure->body != NULL ? PROCEDURE_BODY : 0) |
                                   (procedure->route != NULL ? PROCEDURE_ROUTE : 0)));
    dbos_buf_put_u8(buf, procedure->returns);
    dbos_buf_put_u8(buf, procedure->language);
    dbos_buf_put_varint(buf, procedure->argument_count);
    for (uint32_t i = 0; i < procedure->argument_count; i++) {
        dbos_buf_put_text(buf, procedure->arguments[i].name);
        dbos_buf_put_u8(buf, procedure->arguments[i].type);
    }
    dbos_buf_put_u64(buf, procedure->module.high);
    dbos_buf_put_u64(buf, procedure->module.low);
    dbos_buf_put_varint(buf, procedure->module_bytes);
    put_optional(buf, procedure->symbol);
    put_optional(buf, procedure->body);
    put_optional(buf, procedure->route);
}

static void get_arguments(struct decoder *decoder, struct dbos_procedure_info *parts) {
    struct dbos_reader *reader = &decoder->reader;
    parts->argument_count = (uint16_t)get_bounded(reader, DBOS_ARGUMENTS_MAX);
    parts->arguments = scratch(decoder, parts->argument_count * sizeof *parts->arguments + 1);
    for (uint32_t i = 0; i < parts->argument_count && !reader->failed; i++) {
        get_name(reader, parts->arguments[i].name);
        parts->arguments[i].type = dbos_get_u8(reader);
        if (parts->arguments[i].type > DBOS_TYPE_TIMESTAMPTZ) {
            reader->failed = true;
        }
    }
}

static void get_procedure(struct decoder *decoder, struct dbos_procedure_info *parts) {
    struct dbos_reader *reader = &decoder->reader;
    parts->id = get_bounded(reader, UINT32_MAX);
    parts->version = get_bounded(reader, UINT32_MAX);
    get_name(reader, parts->name);
    uint8_t flags = dbos_get_u8(reader);
    parts->is_function = get_bool(flags, PROCEDURE_FUNCTION);
    parts->returns = dbos_get_u8(reader);
    parts->language = dbos_get_u8(reader);
    if (flags > 15 || parts->returns > DBOS_TYPE_VOID ||
        (parts->language != DBOS_LANGUAGE_C && parts->language != DBOS_LANGUAGE_SQL)) {
        reader->failed = true;
    }
    get_arguments(decoder, parts);
    parts->module.high = dbos_get_u64(reader);
    parts->module.low = dbos_get_u64(reader);
    parts->module_bytes = get_bounded(reader, UINT32_MAX);
    parts->symbol = get_bool(flags, PROCEDURE_SYMBOL) ? get_text(decoder) : NULL;
    parts->body = get_bool(flags, PROCEDURE_BODY) ? get_text(decoder) : NULL;
    parts->route = get_bool(flags, PROCEDURE_ROUTE) ? get_text(decoder) : NULL;
}

enum dbos_err dbos_procedure_info_decode(struct dbos_alloc *alloc, const void *data,
                                         size_t size_bytes, struct dbos_procedure_info **out,
                                         struct dbos_errinfo *info) {
    struct decoder decoder;
    struct dbos_procedure_info parts;
    memset(&parts, 0, sizeof parts);
    *out = NULL;
    enum dbos_err err = start(&decoder, alloc, data, size_bytes, PROCEDURE_FORMAT, info);
    if (err == DBOS_OK) {
        get_procedure(&decoder, &parts);
        err = finish(&decoder, info);
    }
    if (err == DBOS_OK && dbos_procedure_info_make(alloc, &parts, out) != DBOS_OK) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    dbos_arena_fini(&decoder.arena);
    return err;
}
