/* Values as text in the archive: primary keys of rows, and cells of answers, in PostgreSQL's form
 * (t/f, digits, shortest float8, \x…, "2026-01-02 03:04:05.678+00").
 *
 * Thread: any. Memory: appended to the caller's buffer. */
#ifndef DBOS_PROVENANCE_ARCHIVE_TEXT_H
#define DBOS_PROVENANCE_ARCHIVE_TEXT_H

#include "storage/row.h"

void dbos_archive_text_bool(struct dbos_buf *out, bool value);
void dbos_archive_text_int(struct dbos_buf *out, int64_t value);
void dbos_archive_text_real(struct dbos_buf *out, double value);
void dbos_archive_text_bytea(struct dbos_buf *out, const void *data, size_t size_bytes);
void dbos_archive_text_timestamp(struct dbos_buf *out, int64_t us);
/* A value that is not NULL and no object. */
void dbos_archive_text_datum(struct dbos_buf *out, const struct dbos_datum *datum);

/* The primary key of a payload: the value's text, or "(a,b)" as PostgreSQL writes a row where the
 * key has several columns. false = the table has no primary key (or it is an object). */
bool dbos_archive_text_key(struct dbos_buf *out, const struct dbos_table_def *def,
                           const uint8_t *payload);
/* Bytes that are not valid UTF-8 become '?'; NUL bytes too. */
void dbos_archive_text_clean(struct dbos_buf *out, const void *data, size_t size_bytes);

#endif /* DBOS_PROVENANCE_ARCHIVE_TEXT_H */
