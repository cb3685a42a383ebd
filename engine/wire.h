/* The PostgreSQL protocol v3 as bytes: decoding of what clients send, encoding of what they get.
 *
 * Decoders have no state and no memory: the caller owns the input, results point into it. A decoder
 * says how many bytes a message has, or that it is not all there yet, or that it can never be
 * valid.
 *
 * Thread: any. Memory: encoders append to a buffer. */
#ifndef DBOS_ENGINE_WIRE_H
#define DBOS_ENGINE_WIRE_H

#include "procs/sql/sql.h"

/* -- what clients send --------------------------------------------------------------------------
 */

enum {
    DBOS_WIRE_STARTUP_BYTES_MAX = 10000,            /* as PostgreSQL: MAX_STARTUP_PACKET_LENGTH */
    DBOS_WIRE_MESSAGE_BYTES_MAX = 16 * 1024 * 1024, /* decided: 8 columns of 1 MB as hexadecimal */
    DBOS_WIRE_PROTOCOL = 3 << 16,
};

enum dbos_wire_frame {
    DBOS_WIRE_PARTIAL, /* more bytes are needed: at least *out_needed in all */
    DBOS_WIRE_WHOLE,
    DBOS_WIRE_BAD, /* a length that can not be: the stream is lost */
};

struct dbos_wire_message {
    uint8_t type; /* 0 for a start-up packet */
    struct dbos_bytes body;
    size_t size_bytes; /* of the whole message */
};

/* The message at the start of `data`. *out_needed is set for PARTIAL; *out for WHOLE. */
enum dbos_wire_frame dbos_wire_next(const void *data, size_t size_bytes,
                                    struct dbos_wire_message *out, size_t *out_needed);
/* Where the message at `at` of a reply of our own ends; what is not well-formed there is a bug. */
size_t dbos_wire_message_end(const struct dbos_buf *reply, size_t at);
/* The first packets of a connection have no type byte. */
enum dbos_wire_frame dbos_wire_next_startup(const void *data, size_t size_bytes,
                                            struct dbos_wire_message *out, size_t *out_needed);

enum dbos_wire_startup_kind {
    DBOS_WIRE_STARTUP_SSL,
    DBOS_WIRE_STARTUP_GSS,
    DBOS_WIRE_STARTUP_CANCEL,
    DBOS_WIRE_STARTUP_SESSION,
};
struct dbos_wire_startup {
    enum dbos_wire_startup_kind kind;
    uint32_t version;             /* SESSION */
    struct dbos_bytes parameters; /* SESSION: read with dbos_wire_next_parameter() */
    uint32_t process;             /* CANCEL */
    uint32_t key;                 /* CANCEL */
};
/* Errors: PROTOCOL. */
enum dbos_err dbos_wire_get_startup(struct dbos_bytes body, struct dbos_wire_startup *out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
/* The next name and value; false at the end. `parameters` was checked by get_startup. */
bool dbos_wire_next_parameter(struct dbos_bytes *parameters, const char **out_name,
                              const char **out_value);

/* Q: the text. Errors: PROTOCOL, ENCODING (both also below). */
enum dbos_err dbos_wire_get_query(struct dbos_bytes body, const char **out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_wire_parse {
    const char *name;
    const char *query;
    uint16_t type_count;
    const uint8_t *types; /* big-endian oids: dbos_wire_be32_at() */
};
enum dbos_err dbos_wire_get_parse(struct dbos_bytes body, struct dbos_wire_parse *out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_wire_bind {
    const char *portal;
    const char *statement;
    uint16_t format_count; /* 0, 1 or parameter_count */
    const uint8_t *formats;
    uint16_t parameter_count;
    struct dbos_bytes values; /* read with dbos_wire_next_value() */
    uint16_t result_format_count;
    const uint8_t *result_formats;
};
enum dbos_err dbos_wire_get_bind(struct dbos_bytes body, struct dbos_wire_bind *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* One parameter; *out_is_null. `values` was checked by get_bind. */
static inline struct dbos_bytes dbos_wire_next_value(struct dbos_bytes *values, bool *out_is_null) {
    DBOS_CHECK(values->size_bytes >= 4);
    uint32_t size_bytes = __builtin_bswap32(dbos_load_u32(values->data));
    *out_is_null = size_bytes == UINT32_MAX;
    size_bytes = *out_is_null ? 0 : size_bytes;
    struct dbos_bytes value = {.data = values->data + 4, .size_bytes = size_bytes};
    DBOS_CHECK(size_bytes <= values->size_bytes - 4);
    values->data += 4 + (size_t)size_bytes;
    values->size_bytes -= 4 + (size_t)size_bytes;
    return value;
}
/* The format of item i in a list of 0, 1 or n formats. */
int16_t dbos_wire_format(const uint8_t *formats, uint16_t count, uint32_t i);

/* D and C: 'S' statement or 'P' portal, and its name. */
struct dbos_wire_target {
    uint8_t kind;
    const char *name;
};
enum dbos_err dbos_wire_get_target(struct dbos_bytes body, struct dbos_wire_target *out,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_wire_execute {
    const char *portal;
    uint32_t rows_max; /* 0 = all */
};
enum dbos_err dbos_wire_get_execute(struct dbos_bytes body, struct dbos_wire_execute *out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;

/* Bind, perhaps Describe, Execute of all rows and Sync, all of the unnamed portal. */
struct dbos_wire_call {
    struct dbos_wire_bind bind; /* whether the statement's name is text, was not looked at */
    bool describes;
    size_t size_bytes; /* of these messages */
};
/* True: `data` begins with such a sequence, whole and without a mistake. False: it may be anything
 * else. */
bool dbos_wire_get_call(const void *data, size_t size_bytes, struct dbos_wire_call *out);

static inline uint32_t dbos_wire_be32_at(const uint8_t *list, uint32_t i) {
    return __builtin_bswap32(dbos_load_u32(list + (size_t)i * 4));
}

/* -- what clients get ---------------------------------------------------------------------------
 */

/* BindComplete, what describes the rows (perhaps nothing), a reply, ReadyForQuery. */
void dbos_wire_put_call(struct dbos_buf *out, const struct dbos_buf *description,
                        const struct dbos_buf *reply);
/* One DataRow. `formats` as in struct dbos_request_statement. */
void dbos_wire_put_row(struct dbos_buf *out, const struct dbos_datum *datums, uint32_t count,
                       const int16_t *formats, uint32_t format_count);
void dbos_wire_put_row_description(struct dbos_buf *out, const struct dbos_result_column *columns,
                                   uint32_t count, const int16_t *formats, uint32_t format_count);
void dbos_wire_put_complete(struct dbos_buf *out, const char *tag);
/* ErrorResponse with S, V, C, M and, where set, D, H, P, t, c, n. `severity`: "ERROR", "FATAL". */
void dbos_wire_put_error(struct dbos_buf *out, const char *severity,
                         const struct dbos_errinfo *info);
/* `severity`: "NOTICE" when info->code is OK, else "WARNING". */
void dbos_wire_put_notice(struct dbos_buf *out, const struct dbos_errinfo *info);
void dbos_wire_put_empty_query(struct dbos_buf *out);

void dbos_wire_put_authentication_ok(struct dbos_buf *out);
void dbos_wire_put_parameter_status(struct dbos_buf *out, const char *name, const char *value);
void dbos_wire_put_key(struct dbos_buf *out, uint32_t process, uint32_t key);
/* There are no interactive transactions: the status is always I. */
void dbos_wire_put_ready(struct dbos_buf *out);
/* Answer to a 3.x start-up, x > 0, or to options `_pq_.…` (given as the raw parameters). */
void dbos_wire_put_negotiate(struct dbos_buf *out, struct dbos_bytes parameters);
void dbos_wire_put_parse_complete(struct dbos_buf *out);
void dbos_wire_put_bind_complete(struct dbos_buf *out);
void dbos_wire_put_close_complete(struct dbos_buf *out);
void dbos_wire_put_no_data(struct dbos_buf *out);
void dbos_wire_put_portal_suspended(struct dbos_buf *out);
void dbos_wire_put_parameter_description(struct dbos_buf *out, const uint32_t *oids,
                                         uint32_t count);

#endif /* DBOS_ENGINE_WIRE_H */
