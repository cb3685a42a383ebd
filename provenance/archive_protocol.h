/* What dbosd and the archiver say to each other over a socket pair. docs/formats/archive.md says
 * every byte.
 *
 *   dbosd ──ADVANCE position──▶ archiver ──PROGRESS──▶ dbosd   (left out while it answers)
 *   dbosd ──QUESTION──▶ archiver ──COLUMNS, ROWS…, DONE | ERROR──▶ dbosd
 *   dbosd ──CANCEL──▶ archiver                    (the question then ends with ERROR)
 *
 * Frame, little-endian: magic u32 'DBA1', version u16, kind u16, question id u32, payload bytes
 * u32, then the payload.
 *
 * Thread: any. Memory: encoders append to a buffer; decoders borrow the input, arrays come from an
 * arena. */
#ifndef DBOS_PROVENANCE_ARCHIVE_PROTOCOL_H
#define DBOS_PROVENANCE_ARCHIVE_PROTOCOL_H

#include "base/alloc.h"
#include "base/bytes.h"

enum {
    DBOS_ARCHIVE_MAGIC = 0x31414244, /* "DBA1" */
    DBOS_ARCHIVE_VERSION = 2,
    DBOS_ARCHIVE_HEAD_BYTES = 16,
    DBOS_ARCHIVE_PAYLOAD_MAX = 64 * 1048576,
    DBOS_ARCHIVE_ADVANCE_BYTES = 16,
    DBOS_ARCHIVE_PROGRESS_BYTES = 24,
    DBOS_ARCHIVE_FD = 3, /* the archiver's end of the socket pair */
    DBOS_ARCHIVE_CALLS_MAX = 64,
    DBOS_ARCHIVE_ARGUMENTS_MAX = 16,
    DBOS_ARCHIVE_PARAMETERS_MAX = 65535,
    DBOS_ARCHIVE_COLUMNS_MAX = 1600,
};

enum dbos_archive_frame_kind {
    DBOS_ARCHIVE_ADVANCE = 1,
    DBOS_ARCHIVE_QUESTION = 2,
    DBOS_ARCHIVE_CANCEL = 3,
    DBOS_ARCHIVE_COLUMNS = 10,
    DBOS_ARCHIVE_ROWS = 11,
    DBOS_ARCHIVE_DONE = 12,
    DBOS_ARCHIVE_ERROR = 13,
    DBOS_ARCHIVE_PROGRESS = 14,
};

/* Which processor time taking over gets. */
enum dbos_archive_pace {
    DBOS_ARCHIVE_PATIENT, /* what nobody else wants: SCHED_IDLE */
    DBOS_ARCHIVE_NORMAL,  /* its share */
    DBOS_ARCHIVE_POLITE,  /* as normal, but nice: a process that could not come back from idle */
};

struct dbos_archive_advance {
    uint64_t position; /* the log is durable up to here */
    bool urgent;       /* the archive is too far behind: do not be patient */
};
struct dbos_archive_progress {
    uint64_t taken;    /* the last position that questions see */
    uint64_t exported; /* and that is in files */
    uint32_t pace;     /* enum dbos_archive_pace */
};

struct dbos_archive_frame {
    uint16_t kind; /* enum dbos_archive_frame_kind */
    uint32_t id;   /* of the question */
    uint32_t payload_bytes;
};

/* One argument of a provenance function. */
struct dbos_archive_value {
    const char *text;     /* NULL = SQL NULL (or row_type) */
    const char *row_type; /* NULL::t: "t"; else NULL */
    const char *name;     /* named notation; else NULL */
    uint32_t parameter;   /* 1-based number of a parameter; 0 = `text` */
};
struct dbos_archive_function_call {
    const char *function; /* "prov_history" */
    uint32_t argument_count;
    const struct dbos_archive_value *arguments;
    uint32_t position; /* character in the statement, for errors */
};
/* A statement in which each call stands as the table dbos_call_<i>, i from 0. */
struct dbos_archive_question {
    uint64_t position; /* answer with everything up to here */
    const char *sql;
    uint32_t call_count;
    const struct dbos_archive_function_call *calls;
    uint32_t parameter_count;
    const char *const *parameters; /* text, NULL = SQL NULL */
    bool describe_only;            /* the columns, no rows */
    uint64_t timeout_us;           /* 0 = none */
};

struct dbos_archive_result_column {
    const char *name;
    uint32_t oid; /* PostgreSQL's, of one of our types */
};

/* A whole frame around what `payload` has. */
void dbos_archive_put_frame(struct dbos_buf *out, enum dbos_archive_frame_kind kind, uint32_t id,
                            const void *payload, size_t size_bytes);
/* The head of a frame from its DBOS_ARCHIVE_HEAD_BYTES. Errors: PROTOCOL, FORMAT_VERSION. */
enum dbos_err dbos_archive_get_head(const uint8_t *head, struct dbos_archive_frame *out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;

/* ADVANCE and PROGRESS. Errors: PROTOCOL. */
void dbos_archive_put_advance(struct dbos_buf *payload, const struct dbos_archive_advance *advance);
enum dbos_err dbos_archive_get_advance(const void *payload, size_t size_bytes,
                                       struct dbos_archive_advance *out,
                                       struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_archive_put_progress(struct dbos_buf *payload,
                               const struct dbos_archive_progress *progress);
enum dbos_err dbos_archive_get_progress(const void *payload, size_t size_bytes,
                                        struct dbos_archive_progress *out,
                                        struct dbos_errinfo *info) DBOS_MUST_USE;

void dbos_archive_put_question(struct dbos_buf *payload,
                               const struct dbos_archive_question *question);
/* Everything in *out lives in `arena`. Errors: PROTOCOL, NOMEM. */
enum dbos_err dbos_archive_get_question(struct dbos_arena *arena, const void *payload,
                                        size_t size_bytes, struct dbos_archive_question *out,
                                        struct dbos_errinfo *info) DBOS_MUST_USE;

void dbos_archive_put_columns(struct dbos_buf *payload,
                              const struct dbos_archive_result_column *columns, uint32_t count);
enum dbos_err dbos_archive_get_columns(struct dbos_arena *arena, const void *payload,
                                       size_t size_bytes, struct dbos_archive_result_column **out,
                                       uint32_t *out_count,
                                       struct dbos_errinfo *info) DBOS_MUST_USE;
/* ROWS holds rows one after the other, each cell as 0 = NULL or its size + 1 (varint) and bytes. */
void dbos_archive_put_row(struct dbos_buf *payload, const struct dbos_bytes *cells, uint32_t count);
/* The next row's cells; false at the end or when malformed (reader->failed). Not NUL-terminated. */
bool dbos_archive_get_row(struct dbos_reader *reader, struct dbos_bytes *cells, uint32_t count);

void dbos_archive_put_error(struct dbos_buf *payload, const struct dbos_errinfo *error);
/* Fills `error` (an unreadable payload is PROTOCOL). */
void dbos_archive_get_error(const void *payload, size_t size_bytes, struct dbos_errinfo *error);

#endif /* DBOS_PROVENANCE_ARCHIVE_PROTOCOL_H */
