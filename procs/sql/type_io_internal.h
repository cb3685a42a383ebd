/* The parts of type_io: numbers with a fraction and points in time.
 *
 * Thread: any. Memory: none but the buffers given. */
#ifndef DBOS_PROCS_SQL_TYPE_IO_INTERNAL_H
#define DBOS_PROCS_SQL_TYPE_IO_INTERNAL_H

#include "procs/sql/type_io.h"

/* Text without the blanks around it; borrowed. */
struct dbos_bytes dbos_text_trim(const char *text, size_t size_bytes);
bool dbos_text_equals(struct dbos_bytes text, const char *lower_case); /* ignores case */

/* Errors: INVALID_TEXT, OUT_OF_RANGE, NOMEM. */
enum dbos_err dbos_float_in(const char *text, size_t size_bytes, struct dbos_arena *arena,
                            double *out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_float_out(double value, struct dbos_buf *out);

/* Errors: DATETIME, DATETIME_RANGE. */
enum dbos_err dbos_time_in(const char *text, size_t size_bytes, int64_t *out_us,
                           struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_time_out(int64_t us, struct dbos_buf *out);

#endif /* DBOS_PROCS_SQL_TYPE_IO_INTERNAL_H */
