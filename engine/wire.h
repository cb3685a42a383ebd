/* The PostgreSQL protocol v3 as bytes: decoding of what clients send, encoding of what they get.
 *
 * Decoders have no state and no memory: the caller owns the input, results point into it. A decoder
 * says how many bytes a message has, or that it is not all there yet, or that it can never be valid.
 *
 * Thread: any. Memory: encoders append to a buffer. */
#ifndef DBOS_ENGINE_WIRE_H
#define DBOS_ENGINE_WIRE_H

#include "procs/sql/sql.h"

/* One DataRow. `formats` as in struct dbos_request_statement. */
void dbos_wire_put_row(struct dbos_buf *out, const struct dbos_datum *datums, uint32_t count,
                       const int16_t *formats, uint32_t format_count);
void dbos_wire_put_row_description(struct dbos_buf *out, const struct dbos_result_column *columns,
                                   uint32_t count, const int16_t *formats, uint32_t format_count);
void dbos_wire_put_complete(struct dbos_buf *out, const char *tag);
/* ErrorResponse with S, V, C, M and, where set, D, H, P, t, c, n. `severity`: "ERROR", "FATAL". */
void dbos_wire_put_error(struct dbos_buf *out, const char *severity,
                         const struct dbos_errinfo *info);
void dbos_wire_put_notice(struct dbos_buf *out, const struct dbos_errinfo *info);
void dbos_wire_put_empty_query(struct dbos_buf *out);

#endif /* DBOS_ENGINE_WIRE_H */
