/* Capture: builds one transaction's record while it runs.
 *
 * Ids only for reads; consecutive blocks of a table become runs; a block read twice in one
 * statement is written once (a small direct-mapped cache). Sessions and statement texts are defined
 * in the first record of this capture (one capture per partition) that needs them, and named by id
 * later; what falls out of a bounded cache is defined again. Session texts are cut at 1,024 bytes.
 *
 * Thread: the partition's thread; under the barrier the thread that runs it.
 * Memory: two buffers from the allocator, reused from transaction to transaction. */
#ifndef DBOS_PROVENANCE_CAPTURE_H
#define DBOS_PROVENANCE_CAPTURE_H

#include "provenance/record.h"

struct dbos_capture;

/* Who is connected; the strings are borrowed and live as long as the session. */
struct dbos_session_info {
    uint64_t id;
    const char *user;
    const char *role;
    const char *address;
    const char *application;
};

enum dbos_err dbos_capture_open(struct dbos_alloc *alloc, struct dbos_capture **out) DBOS_MUST_USE;
void dbos_capture_close(struct dbos_capture *capture);

/* Forget the events of the last transaction (definitions already logged stay known). */
void dbos_capture_begin(struct dbos_capture *capture);
/* What the record will hold as arguments: what events write of them is a reference (borrowed until
 * the record is finished). After begin and before any event that could refer to others. */
void dbos_capture_arguments(struct dbos_capture *capture, const struct dbos_datum *arguments,
                            uint32_t count);
/* The next events belong to this statement; `text` is borrowed for the call. */
void dbos_capture_statement(struct dbos_capture *capture, uint64_t statement_id, const char *text);
/* The same for a statement of the procedure that the head will name: its number says which, and
 * `statement_id` is dbos_record_statement_id() of it. */
void dbos_capture_ordinal(struct dbos_capture *capture, uint32_t ordinal, uint64_t statement_id,
                          const char *text);
/* Was there such a statement? Then the head's procedure is settled. */
bool dbos_capture_has_ordinals(const struct dbos_capture *capture);
void dbos_capture_read(struct dbos_capture *capture, uint32_t table_id, uint64_t block);
void dbos_capture_scan(struct dbos_capture *capture, uint32_t table_id, uint16_t partition,
                       uint64_t rows);
void dbos_capture_range(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                        struct dbos_bytes low, struct dbos_bytes high, uint8_t bound_flags,
                        uint64_t rows);
void dbos_capture_absent(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                         struct dbos_bytes key);
/* Writes: the definition says whose row it is, and where its columns are (none: the payload is
 * taken as it is). */
void dbos_capture_insert(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *row);
void dbos_capture_update(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *before, const struct dbos_row *after);
void dbos_capture_delete(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *row);
void dbos_capture_egress(struct dbos_capture *capture, uint64_t rows, uint64_t bytes,
                         uint64_t digest);
/* Did anything happen that a record must hold? */
bool dbos_capture_has_reads(const struct dbos_capture *capture);
bool dbos_capture_has_writes(const struct dbos_capture *capture);
/* Out of memory at some call since begin: the transaction must abort with DBOS_ERR_NOMEM. */
bool dbos_capture_failed(const struct dbos_capture *capture);

/* Bytes of events and definitions so far. */
size_t dbos_capture_bytes(const struct dbos_capture *capture);

/* Make sure that dbos_capture_finish() can not fail: memory for the whole record. */
enum dbos_err dbos_capture_reserve(struct dbos_capture *capture, size_t head_bytes) DBOS_MUST_USE;
/* Bytes of the framed record with this head (an upper bound). */
size_t dbos_capture_record_bytes_max(const struct dbos_capture *capture,
                                     const struct dbos_record_head *head);
/* Write the framed record (length, head, definitions, events) to `to`, which has room for
 * ..._bytes_max(); returns its size. `aborted`: write events are left out. The session and texts
 * that it defines count as known from now on. */
size_t dbos_capture_finish(struct dbos_capture *capture, const struct dbos_record_head *head,
                           const struct dbos_session_info *session, uint8_t *to);

#endif /* DBOS_PROVENANCE_CAPTURE_H */
