/* A value as text inside an error message. The text form of results is the SQL layer's.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_STORAGE_VALUE_TEXT_H
#define DBOS_STORAGE_VALUE_TEXT_H

#include "storage/value.h"

/* At most out_bytes - 1 bytes and a NUL; longer values are cut at a character's edge. As PostgreSQL
 * shows values in DETAIL: t/f, digits, \x..., "2026-01-02 03:04:05+00", null. */
void dbos_datum_describe(const struct dbos_datum *datum, char *out, size_t out_bytes);

#endif /* DBOS_STORAGE_VALUE_TEXT_H */
