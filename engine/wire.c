#include "engine/wire.h"

#include <assert.h>
#include <stdio.h>

#include "procs/sql/type_io.h"

/* -- framing ------------------------------------------------------------------------------------
 */

static enum dbos_wire_frame frame(const void *data, size_t size_bytes, size_t head_bytes,
                                  uint32_t length_min, uint32_t length_max,
                                  struct dbos_wire_message *out, size_t *out_needed) {
    const uint8_t *at = data;
    *out = (struct dbos_wire_message){0};
    *out_needed = head_bytes + 4;
    if (size_bytes < head_bytes + 4) {
        return DBOS_WIRE_PARTIAL;
    }
    uint32_t length = __builtin_bswap32(dbos_load_u32(at + head_bytes)); /* counts itself */
    if (length < length_min || length > length_max) {
        return DBOS_WIRE_BAD;
    }
    *out_needed = head_bytes + length;
    if (size_bytes < *out_needed) {
        return DBOS_WIRE_PARTIAL;
    }
    *out =
        (struct dbos_wire_message){.type = head_bytes == 0 ? 0 : at[0],
                                   .body = {.data = at + head_bytes + 4, .size_bytes = length - 4},
                                   .size_bytes = head_bytes + length};
    return DBOS_WIRE_WHOLE;
}

size_t dbos_wire_message_end(const struct dbos_buf *reply, size_t at) {
    DBOS_CHECK(reply->size_bytes - at >= 5);
    size_t length = __builtin_bswap32(dbos_load_u32(reply->data + at + 1));
    DBOS_CHECK(length >= 4 && length <= reply->size_bytes - at - 1);
    return at + 1 + length;
}

enum dbos_wire_frame dbos_wire_next(const void *data, size_t size_bytes,
                                    struct dbos_wire_message *out, size_t *out_needed) {
    return frame(data, size_bytes, 1, 4, DBOS_WIRE_MESSAGE_BYTES_MAX, out, out_needed);
}

enum dbos_wire_frame dbos_wire_next_startup(const void *data, size_t size_bytes,
                                            struct dbos_wire_message *out, size_t *out_needed) {
    return frame(data, size_bytes, 0, 8, DBOS_WIRE_STARTUP_BYTES_MAX, out, out_needed);
}

/* -- start-up -----------------------------------------------------------------------------------
 */

enum {
    CODE_CANCEL = 80877102,
    CODE_SSL = 80877103,
    CODE_GSS = 80877104,
};

static enum dbos_err malformed(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_PROTOCOL, "invalid message format");
}

/* A NUL-terminated string, or NULL. */
static const char *get_string(struct dbos_reader *reader) {
    size_t left_bytes = dbos_reader_left(reader);
    const uint8_t *end = left_bytes == 0 ? NULL : memchr(reader->next, 0, left_bytes);
    if (reader->failed || end == NULL) {
        reader->failed = true;
        return NULL;
    }
    const char *text = (const char *)reader->next;
    reader->next = end + 1;
    return text;
}

/* Pairs of strings, ended by an empty name. */
static bool parameters_are_whole(struct dbos_bytes parameters) {
    struct dbos_reader reader = dbos_reader_of(parameters.data, parameters.size_bytes);
    for (;;) {
        const char *name = get_string(&reader);
        if (name == NULL) {
            return false;
        }
        if (*name == 0) {
            return dbos_reader_left(&reader) == 0;
        }
        if (get_string(&reader) == NULL) {
            return false;
        }
    }
}

static enum dbos_err get_cancel(struct dbos_reader *reader, struct dbos_wire_startup *out,
                                struct dbos_errinfo *info) {
    out->kind = DBOS_WIRE_STARTUP_CANCEL;
    out->process = dbos_get_be32(reader);
    out->key = dbos_get_be32(reader);
    if (reader->failed || dbos_reader_left(reader) != 0) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "invalid length of query cancel packet");
    }
    return DBOS_OK;
}

enum dbos_err dbos_wire_get_startup(struct dbos_bytes body, struct dbos_wire_startup *out,
                                    struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    *out = (struct dbos_wire_startup){.kind = DBOS_WIRE_STARTUP_SESSION};
    out->version = dbos_get_be32(&reader);
    if (reader.failed) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "invalid length of startup packet");
    }
    if (out->version == CODE_CANCEL) {
        return get_cancel(&reader, out, info);
    }
    if (out->version == CODE_SSL || out->version == CODE_GSS) {
        out->kind = out->version == CODE_SSL ? DBOS_WIRE_STARTUP_SSL : DBOS_WIRE_STARTUP_GSS;
        return DBOS_OK;
    }
    if (out->version >> 16 != 3) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL,
                         "unsupported frontend protocol %u.%u: server supports 3.0 to 3.0",
                         out->version >> 16, out->version & 0xffff);
    }
    out->parameters =
        (struct dbos_bytes){.data = reader.next, .size_bytes = dbos_reader_left(&reader)};
    if (!parameters_are_whole(out->parameters)) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL,
                         "invalid startup packet layout: expected terminator as last byte");
    }
    return DBOS_OK;
}

bool dbos_wire_next_parameter(struct dbos_bytes *parameters, const char **out_name,
                              const char **out_value) {
    struct dbos_reader reader = dbos_reader_of(parameters->data, parameters->size_bytes);
    *out_name = get_string(&reader);
    *out_value = *out_name == NULL || **out_name == 0 ? NULL : get_string(&reader);
    parameters->data = reader.next;
    parameters->size_bytes = dbos_reader_left(&reader);
    return *out_value != NULL;
}

/* -- messages -----------------------------------------------------------------------------------
 */

/* The message must have been read whole, and its strings must be text. */
static enum dbos_err finish(const struct dbos_reader *reader, const char *first, const char *second,
                            struct dbos_errinfo *info) {
    if (reader->failed || dbos_reader_left(reader) != 0) {
        return malformed(info);
    }
    const char *const strings[] = {first, second};
    for (int i = 0; i < 2; i++) {
        if (strings[i] != NULL && !dbos_utf8_valid(strings[i], strlen(strings[i]))) {
            return dbos_fail(info, DBOS_ERR_ENCODING,
                             "invalid byte sequence for encoding \"UTF8\"");
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_wire_get_query(struct dbos_bytes body, const char **out,
                                  struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    *out = get_string(&reader);
    return finish(&reader, *out, NULL, info);
}

enum dbos_err dbos_wire_get_parse(struct dbos_bytes body, struct dbos_wire_parse *out,
                                  struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    *out = (struct dbos_wire_parse){0};
    out->name = get_string(&reader);
    out->query = get_string(&reader);
    out->type_count = dbos_get_be16(&reader);
    out->types = dbos_get(&reader, (size_t)out->type_count * 4);
    return finish(&reader, out->name, out->query, info);
}

static bool formats_are_known(const uint8_t *formats, uint16_t count) {
    for (uint32_t i = 0; i < count; i++) {
        if (formats[2 * i] != 0 || formats[2 * i + 1] > 1) {
            return false;
        }
    }
    return true;
}

static void skip_values(struct dbos_reader *reader, uint16_t count) {
    for (uint32_t i = 0; i < count && !reader->failed; i++) {
        uint32_t size_bytes = dbos_get_be32(reader);
        if (size_bytes != UINT32_MAX) {
            (void)dbos_get(reader, size_bytes);
        }
    }
}

enum dbos_err dbos_wire_get_bind(struct dbos_bytes body, struct dbos_wire_bind *out,
                                 struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    *out = (struct dbos_wire_bind){0};
    out->portal = get_string(&reader);
    out->statement = get_string(&reader);
    out->format_count = dbos_get_be16(&reader);
    out->formats = dbos_get(&reader, (size_t)out->format_count * 2);
    out->parameter_count = dbos_get_be16(&reader);
    out->values.data = reader.next;
    skip_values(&reader, out->parameter_count);
    out->values.size_bytes = (size_t)(reader.next - out->values.data);
    out->result_format_count = dbos_get_be16(&reader);
    out->result_formats = dbos_get(&reader, (size_t)out->result_format_count * 2);
    enum dbos_err err = finish(&reader, out->portal, out->statement, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (out->format_count > 1 && out->format_count != out->parameter_count) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL,
                         "bind message has %u parameter formats but %u parameters",
                         out->format_count, out->parameter_count);
    }
    if (!formats_are_known(out->formats, out->format_count) ||
        !formats_are_known(out->result_formats, out->result_format_count)) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "unsupported format code");
    }
    return DBOS_OK;
}

int16_t dbos_wire_format(const uint8_t *formats, uint16_t count, uint32_t i) {
    if (count == 0) {
        return 0;
    }
    return (int16_t)__builtin_bswap16(dbos_load_u16(formats + (count == 1 ? 0 : 2 * (size_t)i)));
}

enum dbos_err dbos_wire_get_target(struct dbos_bytes body, struct dbos_wire_target *out,
                                   struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    out->kind = dbos_get_u8(&reader);
    out->name = get_string(&reader);
    enum dbos_err err = finish(&reader, out->name, NULL, info);
    if (err == DBOS_OK && out->kind != 'S' && out->kind != 'P') {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "invalid message subtype %u", out->kind);
    }
    return err;
}

enum dbos_err dbos_wire_get_execute(struct dbos_bytes body, struct dbos_wire_execute *out,
                                    struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(body.data, body.size_bytes);
    out->portal = get_string(&reader);
    out->rows_max = dbos_get_be32(&reader);
    if (out->rows_max > INT32_MAX) {
        out->rows_max = 0; /* negative: all, as in PostgreSQL */
    }
    return finish(&reader, out->portal, NULL, info);
}

static uint32_t be32(const uint8_t *at) { return __builtin_bswap32(dbos_load_u32(at)); }
static uint16_t be16(const uint8_t *at) { return __builtin_bswap16(dbos_load_u16(at)); }

/* The part of Bind behind the names, which must end at `end`. */
static bool get_call_values(const uint8_t *at, const uint8_t *end, struct dbos_wire_bind *out) {
    if (end - at < 2) {
        return false;
    }
    out->format_count = be16(at);
    out->formats = at + 2;
    if ((size_t)(end - out->formats) < 2 * (size_t)out->format_count + 2) {
        return false;
    }
    at = out->formats + 2 * (size_t)out->format_count;
    out->parameter_count = be16(at);
    at += 2;
    out->values.data = at;
    for (uint32_t i = 0; i < out->parameter_count; i++) {
        if (end - at < 4) {
            return false;
        }
        uint32_t size_bytes = be32(at);
        at += 4;
        if (size_bytes != UINT32_MAX && size_bytes > (size_t)(end - at)) {
            return false;
        }
        at += size_bytes == UINT32_MAX ? 0 : size_bytes;
    }
    out->values.size_bytes = (size_t)(at - out->values.data);
    if (end - at < 2) {
        return false;
    }
    out->result_format_count = be16(at);
    out->result_formats = at + 2;
    return (size_t)(end - out->result_formats) == 2 * (size_t)out->result_format_count &&
           (out->format_count <= 1 || out->format_count == out->parameter_count) &&
           formats_are_known(out->formats, out->format_count) &&
           formats_are_known(out->result_formats, out->result_format_count);
}

bool dbos_wire_get_call(const void *data, size_t size_bytes, struct dbos_wire_call *out) {
    static const uint8_t describe[] = {'D', 0, 0, 0, 6, 'P', 0};
    static const uint8_t execute_sync[] = {'E', 0, 0, 0, 9, 0, 0, 0, 0, 0, 'S', 0, 0, 0, 4};
    enum { HEAD_BYTES = 5, BIND_BYTES_MIN = 12 }; /* the least that a Bind's length can say */
    const uint8_t *at = data;
    if (size_bytes < 1 + BIND_BYTES_MIN + sizeof execute_sync || at[0] != 'B') {
        return false;
    }
    uint32_t length = be32(at + 1);
    size_t left_bytes = size_bytes - 1 - sizeof execute_sync;
    if (length < BIND_BYTES_MIN || length > left_bytes || length > DBOS_WIRE_MESSAGE_BYTES_MAX ||
        at[HEAD_BYTES] != 0) {
        return false;
    }
    const uint8_t *end = at + 1 + length;
    const uint8_t *statement = at + HEAD_BYTES + 1;
    const uint8_t *name_end = memchr(statement, 0, (size_t)(end - statement));
    if (name_end == NULL || !get_call_values(name_end + 1, end, &out->bind)) {
        return false;
    }
    out->bind.portal = (const char *)at + HEAD_BYTES;
    out->bind.statement = (const char *)statement;
    left_bytes -= length;
    out->describes = left_bytes >= sizeof describe && memcmp(end, describe, sizeof describe) == 0;
    end += out->describes ? sizeof describe : 0;
    out->size_bytes = (size_t)(end - at) + sizeof execute_sync;
    return memcmp(end, execute_sync, sizeof execute_sync) == 0;
}

/* -- encoding -----------------------------------------------------------------------------------
 */

/* Returns where the message starts, for finish_message(). */
static size_t begin_message(struct dbos_buf *out, char type) {
    size_t start = out->size_bytes;
    dbos_buf_put_u8(out, (uint8_t)type);
    dbos_buf_put_u32(out, 0);
    return start;
}

static void finish_message(struct dbos_buf *out, size_t start) {
    if (!out->failed) {
        uint32_t length = (uint32_t)(out->size_bytes - start - 1);
        dbos_store_u32(out->data + start + 1, __builtin_bswap32(length));
    }
}

static void put_string(struct dbos_buf *out, const char *text) {
    dbos_buf_put(out, text, strlen(text) + 1);
}

static void put_bare(struct dbos_buf *out, char type) {
    const uint8_t message[] = {(uint8_t)type, 0, 0, 0, 4};
    dbos_buf_put(out, message, sizeof message);
}

static int16_t format_of(const int16_t *formats, uint32_t format_count, uint32_t i) {
    return format_count == 0 ? 0 : format_count == 1 ? formats[0] : formats[i];
}

/* Integers in binary, which is what procedures return and drivers ask for: their size; else 0. */
static uint32_t plain_bytes(const struct dbos_datum *datum, int16_t format) {
    if (format != 1 || datum->is_null) {
        return 0;
    }
    enum dbos_type type = (enum dbos_type)datum->type;
    return type == DBOS_TYPE_INT8 ? 8 : type == DBOS_TYPE_INT4 ? 4 : type == DBOS_TYPE_INT2 ? 2 : 0;
}

/* A row of one such integer, without a look at the buffer for each part. */
static void put_plain_row(struct dbos_buf *out, const struct dbos_datum *datum,
                          uint32_t size_bytes) {
    enum { HEAD_BYTES = 11 };
    uint8_t *to = dbos_buf_reserve(out, HEAD_BYTES + 8);
    if (to == NULL) {
        return;
    }
    uint64_t value = __builtin_bswap64((uint64_t)datum->integer << (64 - 8 * size_bytes));
    to[0] = 'D';
    dbos_store_u32(to + 1, __builtin_bswap32(HEAD_BYTES - 1 + size_bytes));
    dbos_store_u16(to + 5, __builtin_bswap16(1));
    dbos_store_u32(to + 7, __builtin_bswap32(size_bytes));
    dbos_store_u64(to + HEAD_BYTES, value);
    out->size_bytes += HEAD_BYTES + size_bytes;
}

void dbos_wire_put_row(struct dbos_buf *out, const struct dbos_datum *datums, uint32_t count,
                       const int16_t *formats, uint32_t format_count) {
    uint32_t plain = count == 1 ? plain_bytes(datums, format_of(formats, format_count, 0)) : 0;
    if (plain != 0) {
        put_plain_row(out, datums, plain);
        return;
    }
    size_t start = begin_message(out, 'D');
    dbos_buf_put_be16(out, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        if (datums[i].is_null) {
            dbos_buf_put_be32(out, UINT32_MAX);
            continue;
        }
        size_t length_at = out->size_bytes;
        dbos_buf_put_be32(out, 0);
        if (format_of(formats, format_count, i) == 1) {
            dbos_binary_out(&datums[i], out);
        } else {
            dbos_text_out(&datums[i], out);
        }
        if (!out->failed) {
            uint32_t length = (uint32_t)(out->size_bytes - length_at - 4);
            dbos_store_u32(out->data + length_at, __builtin_bswap32(length));
        }
    }
    finish_message(out, start);
}

void dbos_wire_put_row_description(struct dbos_buf *out, const struct dbos_result_column *columns,
                                   uint32_t count, const int16_t *formats, uint32_t format_count) {
    size_t start = begin_message(out, 'T');
    dbos_buf_put_be16(out, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        const struct dbos_result_column *column = &columns[i];
        enum dbos_type type = (enum dbos_type)column->type;
        type = type == DBOS_TYPE_UNKNOWN ? DBOS_TYPE_TEXT : type;
        /* PostgreSQL's typmod counts the four bytes of a varlena head. */
        uint32_t modifier = column->chars_max == 0 ? UINT32_MAX : column->chars_max + 4;
        put_string(out, column->name);
        dbos_buf_put_be32(out, column->table_id);
        dbos_buf_put_be16(out, column->column);
        dbos_buf_put_be32(out, dbos_type_oid(type));
        dbos_buf_put_be16(out, (uint16_t)dbos_type_length(type));
        dbos_buf_put_be32(out, modifier);
        dbos_buf_put_be16(out, (uint16_t)format_of(formats, format_count, i));
    }
    finish_message(out, start);
}

void dbos_wire_put_complete(struct dbos_buf *out, const char *tag) {
    size_t tag_bytes = strlen(tag) + 1;
    uint8_t *to = dbos_buf_reserve(out, 5 + tag_bytes);
    if (to != NULL) {
        to[0] = 'C';
        dbos_store_u32(to + 1, __builtin_bswap32((uint32_t)tag_bytes + 4));
        memcpy(to + 5, tag, tag_bytes);
        out->size_bytes += 5 + tag_bytes;
    }
}

/* One field of an error. Messages are cut to a fixed size and quote what users sent: what is not
 * UTF-8 (any more) becomes question marks, a half character at the end goes. */
static void put_field(struct dbos_buf *out, char code, const char *text) {
    if (text[0] == 0) {
        return;
    }
    size_t size_bytes = strlen(text);
    dbos_buf_put_u8(out, (uint8_t)code);
    size_t at = out->size_bytes;
    dbos_buf_put(out, text, size_bytes + 1);
    for (int cut = 0; cut <= 3 && size_bytes > 0 && !out->failed; cut++) {
        if (dbos_utf8_valid(text, size_bytes)) {
            out->data[at + size_bytes] = 0;
            out->size_bytes = at + size_bytes + 1;
            return;
        }
        size_bytes--;
    }
    for (size_t i = at; !out->failed && i + 1 < out->size_bytes; i++) {
        out->data[i] = out->data[i] < 0x80 ? out->data[i] : '?';
    }
}

static void put_report(struct dbos_buf *out, char type, const char *severity,
                       const struct dbos_errinfo *info) {
    char position[16] = "";
    if (info->position != 0) {
        (void)snprintf(position, sizeof position, "%u", info->position);
    }
    size_t start = begin_message(out, type);
    put_field(out, 'S', severity);
    put_field(out, 'V', severity);
    put_field(out, 'C', info->sqlstate[0] != 0 ? info->sqlstate : dbos_err_sqlstate(info->code));
    put_field(out, 'M', info->message[0] != 0 ? info->message : dbos_err_text(info->code));
    put_field(out, 'D', info->detail);
    put_field(out, 'H', info->hint);
    put_field(out, 'P', position);
    put_field(out, 't', info->table);
    put_field(out, 'c', info->column);
    put_field(out, 'n', info->constraint);
    dbos_buf_put_u8(out, 0);
    finish_message(out, start);
}

void dbos_wire_put_error(struct dbos_buf *out, const char *severity,
                         const struct dbos_errinfo *info) {
    put_report(out, 'E', severity, info);
}

void dbos_wire_put_notice(struct dbos_buf *out, const struct dbos_errinfo *info) {
    put_report(out, 'N', info->code == DBOS_OK ? "NOTICE" : "WARNING", info);
}

void dbos_wire_put_empty_query(struct dbos_buf *out) { put_bare(out, 'I'); }
void dbos_wire_put_parse_complete(struct dbos_buf *out) { put_bare(out, '1'); }
void dbos_wire_put_bind_complete(struct dbos_buf *out) { put_bare(out, '2'); }
void dbos_wire_put_close_complete(struct dbos_buf *out) { put_bare(out, '3'); }
void dbos_wire_put_no_data(struct dbos_buf *out) { put_bare(out, 'n'); }
void dbos_wire_put_portal_suspended(struct dbos_buf *out) { put_bare(out, 's'); }

void dbos_wire_put_authentication_ok(struct dbos_buf *out) {
    const uint8_t message[] = {'R', 0, 0, 0, 8, 0, 0, 0, 0};
    dbos_buf_put(out, message, sizeof message);
}

void dbos_wire_put_parameter_status(struct dbos_buf *out, const char *name, const char *value) {
    size_t start = begin_message(out, 'S');
    put_string(out, name);
    put_string(out, value);
    finish_message(out, start);
}

void dbos_wire_put_key(struct dbos_buf *out, uint32_t process, uint32_t key) {
    size_t start = begin_message(out, 'K');
    dbos_buf_put_be32(out, process);
    dbos_buf_put_be32(out, key);
    finish_message(out, start);
}

void dbos_wire_put_call(struct dbos_buf *out, const struct dbos_buf *description,
                        const struct dbos_buf *reply) {
    static const uint8_t bound[] = {'2', 0, 0, 0, 4};
    static const uint8_t ready[] = {'Z', 0, 0, 0, 5, 'I'};
    size_t size_bytes = sizeof bound + description->size_bytes + reply->size_bytes + sizeof ready;
    uint8_t *to = dbos_buf_reserve(out, size_bytes);
    if (to == NULL) {
        return;
    }
    memcpy(to, bound, sizeof bound);
    to += sizeof bound;
    if (description->size_bytes != 0) {
        memcpy(to, description->data, description->size_bytes);
        to += description->size_bytes;
    }
    if (reply->size_bytes != 0) {
        memcpy(to, reply->data, reply->size_bytes);
        to += reply->size_bytes;
    }
    memcpy(to, ready, sizeof ready);
    out->size_bytes += size_bytes;
}

void dbos_wire_put_ready(struct dbos_buf *out) {
    const uint8_t message[] = {'Z', 0, 0, 0, 5, 'I'};
    dbos_buf_put(out, message, sizeof message);
}

void dbos_wire_put_negotiate(struct dbos_buf *out, struct dbos_bytes parameters) {
    size_t start = begin_message(out, 'v');
    dbos_buf_put_be32(out, 0); /* newest minor version that we speak */
    size_t count_at = out->size_bytes;
    uint32_t count = 0;
    const char *name;
    const char *value;
    dbos_buf_put_be32(out, 0);
    while (dbos_wire_next_parameter(&parameters, &name, &value)) {
        if (strncmp(name, "_pq_.", 5) == 0) {
            put_string(out, name);
            count++;
        }
    }
    if (!out->failed) {
        dbos_store_u32(out->data + count_at, __builtin_bswap32(count));
    }
    finish_message(out, start);
}

void dbos_wire_put_parameter_description(struct dbos_buf *out, const uint32_t *oids,
                                         uint32_t count) {
    size_t start = begin_message(out, 't');
    dbos_buf_put_be16(out, (uint16_t)count);
    for (uint32_t i = 0; i < count; i++) {
        dbos_buf_put_be32(out, oids[i]);
    }
    finish_message(out, start);
}
