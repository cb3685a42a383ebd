#include "provenance/archive_protocol.h"

#include <stdio.h>

void dbos_archive_put_frame(struct dbos_buf *out, enum dbos_archive_frame_kind kind, uint32_t id,
                            const void *payload, size_t size_bytes) {
    DBOS_CHECK(size_bytes <= DBOS_ARCHIVE_PAYLOAD_MAX);
    dbos_buf_put_u32(out, DBOS_ARCHIVE_MAGIC);
    dbos_buf_put_u16(out, DBOS_ARCHIVE_VERSION);
    dbos_buf_put_u16(out, (uint16_t)kind);
    dbos_buf_put_u32(out, id);
    dbos_buf_put_u32(out, (uint32_t)size_bytes);
    dbos_buf_put(out, payload, size_bytes);
}

enum dbos_err dbos_archive_get_head(const uint8_t *head, struct dbos_archive_frame *out,
                                    struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(head, DBOS_ARCHIVE_HEAD_BYTES);
    uint32_t magic = dbos_get_u32(&reader);
    uint16_t version = dbos_get_u16(&reader);
    out->kind = dbos_get_u16(&reader);
    out->id = dbos_get_u32(&reader);
    out->payload_bytes = dbos_get_u32(&reader);
    if (magic != DBOS_ARCHIVE_MAGIC) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "archive frame with magic %08x", magic);
    }
    if (version != DBOS_ARCHIVE_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION, "archive frame of version %u", version);
    }
    if (out->payload_bytes > DBOS_ARCHIVE_PAYLOAD_MAX) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "archive frame of %u bytes", out->payload_bytes);
    }
    return DBOS_OK;
}

void dbos_archive_put_advance(struct dbos_buf *payload,
                              const struct dbos_archive_advance *advance) {
    dbos_buf_put_u64(payload, advance->position);
    dbos_buf_put_u64(payload, advance->urgent ? 1 : 0);
}

enum dbos_err dbos_archive_get_advance(const void *payload, size_t size_bytes,
                                       struct dbos_archive_advance *out,
                                       struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, size_bytes);
    out->position = dbos_get_u64(&reader);
    uint64_t flags = dbos_get_u64(&reader);
    out->urgent = flags == 1;
    return reader.failed || dbos_reader_left(&reader) != 0 || flags > 1
               ? dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed ADVANCE to the archive")
               : DBOS_OK;
}

void dbos_archive_put_progress(struct dbos_buf *payload,
                               const struct dbos_archive_progress *progress) {
    dbos_buf_put_u64(payload, progress->taken);
    dbos_buf_put_u64(payload, progress->exported);
    dbos_buf_put_u32(payload, progress->pace);
    dbos_buf_put_u32(payload, 0);
}

enum dbos_err dbos_archive_get_progress(const void *payload, size_t size_bytes,
                                        struct dbos_archive_progress *out,
                                        struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, size_bytes);
    out->taken = dbos_get_u64(&reader);
    out->exported = dbos_get_u64(&reader);
    out->pace = dbos_get_u32(&reader);
    uint32_t reserved = dbos_get_u32(&reader);
    bool is_sound = !reader.failed && dbos_reader_left(&reader) == 0 && reserved == 0 &&
                    out->pace <= DBOS_ARCHIVE_POLITE && out->exported <= out->taken;
    return is_sound ? DBOS_OK
                    : dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed PROGRESS of the archive");
}

/* A text that may be NULL: 0, or 1 and the text. */
static void put_text(struct dbos_buf *payload, const char *text) {
    dbos_buf_put_u8(payload, text != NULL);
    if (text != NULL) {
        dbos_buf_put_text(payload, text);
    }
}

static const char *get_text(struct dbos_reader *reader, struct dbos_arena *arena) {
    if (dbos_get_u8(reader) == 0) {
        return NULL;
    }
    struct dbos_bytes bytes = dbos_get_sized(reader);
    const char *text = dbos_arena_copy(arena, bytes.data, bytes.size_bytes);
    reader->failed = reader->failed || text == NULL;
    return text;
}

void dbos_archive_put_question(struct dbos_buf *payload,
                               const struct dbos_archive_question *question) {
    dbos_buf_put_u64(payload, question->position);
    dbos_buf_put_u64(payload, question->timeout_us);
    dbos_buf_put_u8(payload, question->describe_only);
    put_text(payload, question->sql);
    dbos_buf_put_varint(payload, question->call_count);
    for (uint32_t i = 0; i < question->call_count; i++) {
        const struct dbos_archive_function_call *call = &question->calls[i];
        put_text(payload, call->function);
        dbos_buf_put_varint(payload, call->position);
        dbos_buf_put_varint(payload, call->argument_count);
        for (uint32_t j = 0; j < call->argument_count; j++) {
            put_text(payload, call->arguments[j].text);
            put_text(payload, call->arguments[j].row_type);
            put_text(payload, call->arguments[j].name);
            dbos_buf_put_varint(payload, call->arguments[j].parameter);
        }
    }
    dbos_buf_put_varint(payload, question->parameter_count);
    for (uint32_t i = 0; i < question->parameter_count; i++) {
        put_text(payload, question->parameters[i]);
    }
}

/* A count, and memory for so many things; more than `max` is malformed. */
static void *get_array(struct dbos_reader *reader, struct dbos_arena *arena, uint32_t max,
                       size_t item_bytes, uint32_t *out_count) {
    uint64_t count = dbos_get_varint(reader);
    reader->failed = reader->failed || count > max;
    *out_count = reader->failed ? 0 : (uint32_t)count;
    void *items = dbos_arena_take_zero(arena, (*out_count + 1) * item_bytes);
    if (items == NULL) {
        reader->failed = true;
        *out_count = 0;
    }
    return items;
}

static void get_call(struct dbos_reader *reader, struct dbos_arena *arena,
                     struct dbos_archive_function_call *call) {
    call->function = get_text(reader, arena);
    reader->failed = reader->failed || call->function == NULL;
    call->position = (uint32_t)dbos_get_varint(reader);
    struct dbos_archive_value *values =
        get_array(reader, arena, DBOS_ARCHIVE_ARGUMENTS_MAX, sizeof *values, &call->argument_count);
    for (uint32_t i = 0; i < call->argument_count; i++) {
        values[i].text = get_text(reader, arena);
        values[i].row_type = get_text(reader, arena);
        values[i].name = get_text(reader, arena);
        values[i].parameter = (uint32_t)dbos_get_varint(reader);
    }
    call->arguments = values;
}

enum dbos_err dbos_archive_get_question(struct dbos_arena *arena, const void *payload,
                                        size_t size_bytes, struct dbos_archive_question *out,
                                        struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, size_bytes);
    memset(out, 0, sizeof *out);
    out->position = dbos_get_u64(&reader);
    out->timeout_us = dbos_get_u64(&reader);
    out->describe_only = dbos_get_u8(&reader) != 0;
    out->sql = get_text(&reader, arena);
    reader.failed = reader.failed || out->sql == NULL;
    struct dbos_archive_function_call *calls =
        get_array(&reader, arena, DBOS_ARCHIVE_CALLS_MAX, sizeof *calls, &out->call_count);
    for (uint32_t i = 0; i < out->call_count && !reader.failed; i++) {
        get_call(&reader, arena, &calls[i]);
    }
    out->calls = calls;
    const char **parameters = get_array(&reader, arena, DBOS_ARCHIVE_PARAMETERS_MAX,
                                        sizeof *parameters, &out->parameter_count);
    for (uint32_t i = 0; i < out->parameter_count && !reader.failed; i++) {
        parameters[i] = get_text(&reader, arena);
    }
    out->parameters = parameters;
    if (reader.failed || dbos_reader_left(&reader) != 0) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed archive question");
    }
    return DBOS_OK;
}

void dbos_archive_put_columns(struct dbos_buf *payload,
                              const struct dbos_archive_result_column *columns, uint32_t count) {
    dbos_buf_put_varint(payload, count);
    for (uint32_t i = 0; i < count; i++) {
        put_text(payload, columns[i].name);
        dbos_buf_put_u32(payload, columns[i].oid);
    }
}

enum dbos_err dbos_archive_get_columns(struct dbos_arena *arena, const void *payload,
                                       size_t size_bytes, struct dbos_archive_result_column **out,
                                       uint32_t *out_count, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, size_bytes);
    struct dbos_archive_result_column *columns =
        get_array(&reader, arena, DBOS_ARCHIVE_COLUMNS_MAX, sizeof *columns, out_count);
    for (uint32_t i = 0; i < *out_count; i++) {
        columns[i].name = get_text(&reader, arena);
        columns[i].oid = dbos_get_u32(&reader);
        reader.failed = reader.failed || columns[i].name == NULL;
    }
    *out = columns;
    if (reader.failed || dbos_reader_left(&reader) != 0) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed columns of an archive answer");
    }
    return DBOS_OK;
}

void dbos_archive_put_row(struct dbos_buf *payload, const struct dbos_bytes *cells,
                          uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (cells[i].data == NULL) {
            dbos_buf_put_varint(payload, 0);
        } else {
            dbos_buf_put_varint(payload, cells[i].size_bytes + 1);
            dbos_buf_put(payload, cells[i].data, cells[i].size_bytes);
        }
    }
}

bool dbos_archive_get_row(struct dbos_reader *reader, struct dbos_bytes *cells, uint32_t count) {
    if (reader->failed || dbos_reader_left(reader) == 0) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        uint64_t size = dbos_get_varint(reader);
        cells[i] = (struct dbos_bytes){.data = NULL};
        if (size != 0) {
            cells[i].data = dbos_get(reader, (size_t)(size - 1));
            cells[i].size_bytes = (size_t)(size - 1);
        }
    }
    return !reader->failed;
}

void dbos_archive_put_error(struct dbos_buf *payload, const struct dbos_errinfo *error) {
    dbos_buf_put_varint(payload, (uint64_t)error->code);
    dbos_buf_put_varint(payload, error->position);
    dbos_buf_put_text(payload, error->sqlstate);
    dbos_buf_put_text(payload, error->message);
    dbos_buf_put_text(payload, error->detail);
    dbos_buf_put_text(payload, error->hint);
}

static void get_into(struct dbos_reader *reader, char *out, size_t out_bytes) {
    struct dbos_bytes bytes = dbos_get_sized(reader);
    (void)snprintf(out, out_bytes, "%.*s", (int)bytes.size_bytes,
                   bytes.size_bytes == 0 ? "" : (const char *)bytes.data);
}

void dbos_archive_get_error(const void *payload, size_t size_bytes, struct dbos_errinfo *error) {
    struct dbos_reader reader = dbos_reader_of(payload, size_bytes);
    memset(error, 0, sizeof *error);
    error->code = (enum dbos_err)dbos_get_varint(&reader);
    error->position = (uint32_t)dbos_get_varint(&reader);
    get_into(&reader, error->sqlstate, sizeof error->sqlstate);
    get_into(&reader, error->message, sizeof error->message);
    get_into(&reader, error->detail, sizeof error->detail);
    get_into(&reader, error->hint, sizeof error->hint);
    if (reader.failed || error->code == DBOS_OK) {
        (void)dbos_fail(error, DBOS_ERR_PROTOCOL, "malformed error of the archive");
    }
}
