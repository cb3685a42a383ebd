/* Log segments on disk: sectors, batches, headers, and the reader that recovery and the archiver
 * share. The writer is txn/log.h. docs/formats/log.md says every byte.
 *
 *   segment file  <dir>/log/00000001.seg, pre-zeroed, DBOS_SEGMENT_BYTES
 *   +--------------+----------------------------------------------------------------+
 *   | header 4 KiB | 512-byte sectors: generation u32, crc of nothing, 508 of payload |
 *   +--------------+----------------------------------------------------------------+
 *   A batch starts at a sector boundary: batch header (magic, format version, bytes, record count,
 *   first and last position, state hash after the last record, CRC32C of the previous batch header,
 *   CRC32C), then framed records. Batches follow each other; the rest is zero.
 *
 * Torn or corrupt (decision 5): a bad batch is torn only if one of its sectors does not carry the
 * segment's generation (it was never written in this use of the file); else it is corruption.
 *
 * Objects (decision 9): <dir>/blobs/00000001.blob, records of {magic, version, size, id 24 bytes,
 * CRC32C} + bytes, padded to 512; appended and synced before the batch that names them.
 *
 * Thread: a reader belongs to one thread.
 * Memory: from the allocator given at open. */
#ifndef DBOS_PROVENANCE_SEGMENT_H
#define DBOS_PROVENANCE_SEGMENT_H

#include "base/env.h"
#include "provenance/record.h"

enum {
    DBOS_SECTOR_BYTES = 512,
    DBOS_SEGMENT_HEADER_BYTES = 4096,
    DBOS_LOG_FORMAT_VERSION = 1,
};

struct dbos_uuid {
    uint8_t bytes[16];
};

struct dbos_segment_header {
    uint32_t number;     /* 1, 2, …: the file's name */
    uint32_t generation; /* grows when the file is used again */
    uint64_t epoch;      /* of the primary; 1 on a single node */
    uint64_t first_position;
    uint64_t size_bytes;
    struct dbos_uuid database;
    uint64_t object_seed; /* secret of the content identities */
};

struct dbos_batch {
    uint32_t segment;      /* number */
    uint64_t offset;       /* of the batch in the segment file */
    uint64_t end_offset;   /* of the next batch */
    uint64_t first_position;
    uint64_t last_position;
    uint64_t state_hash;   /* of the whole database after last_position */
    uint32_t record_count;
    const uint8_t *records; /* record_count framed records, one after the other; valid until next */
    size_t records_bytes;
};

enum dbos_read_result {
    DBOS_READ_BATCH,   /* *out is valid */
    DBOS_READ_END,     /* nothing more was written yet (all zero or an older generation) */
    DBOS_READ_TORN,    /* an unfinished write: never acknowledged, may be cut */
    DBOS_READ_CORRUPT, /* damage: info says which file, offset and positions */
};

struct dbos_log_reader;

/* Start at a segment (1 = the first) and an offset in it (0 = its first batch). The directory need
 * not have segments yet. */
enum dbos_err dbos_log_reader_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, uint32_t segment, uint64_t offset,
                                   struct dbos_log_reader **out,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_log_reader_close(struct dbos_log_reader *reader);
/* The next batch, passing to the next segment where one ends. After END it may be called again
 * later: the file may have grown (the archiver follows the log so). */
enum dbos_read_result dbos_log_reader_next(struct dbos_log_reader *reader, struct dbos_batch *out,
                                           struct dbos_errinfo *info);
/* Header of the segment being read; false before the first. */
bool dbos_log_reader_header(const struct dbos_log_reader *reader,
                            struct dbos_segment_header *out);
/* Walk the records of a batch: `cursor` starts at 0. NULL at the end. */
const uint8_t *dbos_batch_next(const struct dbos_batch *batch, size_t *cursor,
                               size_t *out_bytes);

/* Blob segments: find where each object lies, and read one. */
struct dbos_blob_index;
enum dbos_err dbos_blob_index_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, struct dbos_blob_index **out,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_blob_index_close(struct dbos_blob_index *index);
/* Look for objects appended since (the archiver follows). */
enum dbos_err dbos_blob_index_refresh(struct dbos_blob_index *index,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;
bool dbos_blob_index_has(const struct dbos_blob_index *index, const struct dbos_object_id *id);
/* Reads id->size_bytes bytes into `to` and checks CRC. Errors: UNDEFINED_OBJECT, IO, CORRUPT. */
enum dbos_err dbos_blob_read(struct dbos_blob_index *index, const struct dbos_object_id *id,
                             uint8_t *to, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROVENANCE_SEGMENT_H */
