/* Values as text and as PostgreSQL's binary format, both ways: literals, parameters, results.
 *
 * Text forms are PostgreSQL's (DateStyle ISO, TimeZone UTC, bytea_output hex, extra_float_digits 1:
 * shortest text that reads back equal). Text must be valid UTF-8 without NUL bytes.
 *
 * Thread: any. Memory: results go to the arena or buffer given. */
#ifndef DBOS_PROCS_SQL_TYPE_IO_H
#define DBOS_PROCS_SQL_TYPE_IO_H

#include "storage/value.h"

/* Text to a value of `type`. Bytes of the result are borrowed from `text` where nothing had to be
 * decoded, else from the arena.
 * Errors: INVALID_TEXT (invalid input syntax for type integer: "x"), OUT_OF_RANGE, DATETIME,
 * DATETIME_RANGE, ENCODING, NOMEM. */
enum dbos_err dbos_text_in(enum dbos_type type, const char *text, size_t size_bytes,
                           struct dbos_arena *arena, struct dbos_datum *out,
                           struct dbos_errinfo *info) DBOS_MUST_USE;
/* Appends the text form of a non-NULL value. */
void dbos_text_out(const struct dbos_datum *datum, struct dbos_buf *out);

/* Binary parameter of `oid`'s type to a value of that type (bytes borrowed).
 * Errors: INVALID_BINARY, ENCODING, NOT_SUPPORTED (oid). */
enum dbos_err dbos_binary_in(uint32_t oid, const void *data, size_t size_bytes,
                             struct dbos_datum *out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_binary_out(const struct dbos_datum *datum, struct dbos_buf *out);

/* Valid UTF-8 without NUL? */
bool dbos_utf8_valid(const void *data, size_t size_bytes);
/* Characters in valid UTF-8. */
size_t dbos_utf8_length(const void *data, size_t size_bytes);

#endif /* DBOS_PROCS_SQL_TYPE_IO_H */
