/* What a client sends, from the first byte: start-up packets, then messages, each decoded. */
#include "engine/wire.h"
#include "tests/fuzz/fuzz.h"

/* Text that is handed on must be text. */
static size_t read_text(const char *text) { return text == NULL ? 0 : strlen(text); }

static size_t decode_startup(struct dbos_bytes body) {
    struct dbos_wire_startup startup;
    size_t seen = 0;
    if (dbos_wire_get_startup(body, &startup, NULL) != DBOS_OK) {
        return 0;
    }
    const char *name = NULL;
    const char *value = NULL;
    while (startup.kind == DBOS_WIRE_STARTUP_SESSION &&
           dbos_wire_next_parameter(&startup.parameters, &name, &value)) {
        seen += read_text(name) + read_text(value);
    }
    return seen;
}

static size_t decode_bind(struct dbos_bytes body) {
    struct dbos_wire_bind bind;
    size_t seen = 0;
    if (dbos_wire_get_bind(body, &bind, NULL) != DBOS_OK) {
        return 0;
    }
    struct dbos_bytes values = bind.values;
    for (uint32_t i = 0; i < bind.parameter_count; i++) {
        bool is_null = false;
        struct dbos_bytes value = dbos_wire_next_value(&values, &is_null);
        seen += (size_t)dbos_wire_format(bind.formats, bind.format_count, i);
        for (size_t k = 0; k < value.size_bytes; k++) {
            seen += value.data[k];
        }
    }
    for (uint32_t i = 0; i < bind.result_format_count; i++) {
        seen += (size_t)dbos_wire_format(bind.result_formats, bind.result_format_count, i);
    }
    return seen + read_text(bind.portal) + read_text(bind.statement);
}

static size_t decode_parse(struct dbos_bytes body) {
    struct dbos_wire_parse parse;
    size_t seen = 0;
    if (dbos_wire_get_parse(body, &parse, NULL) != DBOS_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < parse.type_count; i++) {
        seen += dbos_wire_be32_at(parse.types, i);
    }
    return seen + read_text(parse.name) + read_text(parse.query);
}

static size_t decode(const struct dbos_wire_message *message) {
    const char *query = NULL;
    struct dbos_wire_target target;
    struct dbos_wire_execute execute;
    switch (message->type) {
    case 'Q':
        return dbos_wire_get_query(message->body, &query, NULL) == DBOS_OK ? read_text(query) : 0;
    case 'P':
        return decode_parse(message->body);
    case 'B':
        return decode_bind(message->body);
    case 'D':
    case 'C':
        return dbos_wire_get_target(message->body, &target, NULL) == DBOS_OK
                   ? read_text(target.name)
                   : 0;
    case 'E':
        return dbos_wire_get_execute(message->body, &execute, NULL) == DBOS_OK
                   ? read_text(execute.portal)
                   : 0;
    default:
        return 0;
    }
}

/* What is taken for a call in one piece must be what the other decoders find, too. */
static size_t decode_call(const uint8_t *data, size_t size_bytes) {
    struct dbos_wire_call call;
    struct dbos_wire_message message;
    struct dbos_wire_bind bind;
    size_t needed = 0;
    if (!dbos_wire_get_call(data, size_bytes, &call)) {
        return 0;
    }
    DBOS_CHECK(call.size_bytes <= size_bytes);
    DBOS_CHECK(dbos_wire_next(data, size_bytes, &message, &needed) == DBOS_WIRE_WHOLE);
    DBOS_CHECK(message.type == 'B' && message.size_bytes < call.size_bytes);
    if (dbos_wire_get_bind(message.body, &bind, NULL) == DBOS_OK) { /* else its name is no text */
        DBOS_CHECK(bind.statement == call.bind.statement);
        DBOS_CHECK(bind.parameter_count == call.bind.parameter_count);
        DBOS_CHECK(bind.values.data == call.bind.values.data);
        DBOS_CHECK(bind.values.size_bytes == call.bind.values.size_bytes);
        DBOS_CHECK(bind.result_format_count == call.bind.result_format_count);
    }
    return call.describes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    struct dbos_wire_message message;
    size_t needed = 0;
    size_t at = 0;
    size_t seen = 0;
    bool is_started = false;
    while (at < size_bytes) {
        enum dbos_wire_frame frame =
            is_started ? dbos_wire_next(data + at, size_bytes - at, &message, &needed)
                       : dbos_wire_next_startup(data + at, size_bytes - at, &message, &needed);
        if (frame != DBOS_WIRE_WHOLE) {
            DBOS_CHECK(frame == DBOS_WIRE_BAD || needed > size_bytes - at);
            break;
        }
        DBOS_CHECK(message.size_bytes <= size_bytes - at);
        seen += is_started ? decode(&message) : decode_startup(message.body);
        seen += is_started ? decode_call(data + at, size_bytes - at) : 0;
        /* Encryption requests come before the start-up packet that counts. */
        is_started = is_started || message.size_bytes != 8;
        at += message.size_bytes;
    }
    __asm__ volatile("" : : "r"(seen)); /* what was decoded is looked at */
    return 0;
}
