/* Log segments on disk: sectors, batches, headers, and the reader that recovery and the archiver
 * share. The writer is txn/log.h. docs/formats/log.md says every byte.
 *
 *   segment file  <dir>/log/00000001.seg, pre-zeroed, size_bytes of its header
 *   +--------------+----------------------------------------------------------------+
 *   | header 4 KiB | 512-byte sectors: generation u32, CRC32C u32, ordinal u32,     |
 *   |              | 500 bytes of payload                                           |
 *   +--------------+----------------------------------------------------------------+
 *   A batch starts at a sector boundary; `ordinal` counts its sectors from 0, the CRC covers
 *   generation, number of the sector in the file, ordinal and payload. The payloads of its sectors,
 *   joined, are: batch header (magic, format version, sizes, first and last position, the position
 *   up to which all was synced when it was written, state hash after the last record, CRC32C of the
 *   previous batch header, CRC32C of records and header), then framed records. Batches follow each
 *   other; the rest is zero. A prepared segment has a zero header; header and first batch are
 *   written together.
 *
 * Torn or corrupt (decision 5). A sector is unwritten (all zero, or whole with an older
 * generation), written (whole, this generation) or damaged. A batch that can not be read is torn
 * only if one of its sectors is unwritten, none is damaged, and no later batch says that it had
 * been synced; else it is corruption. So a cut never takes an acknowledged record, and a flipped
 * bit is never a cut.
 *
 * Objects (decision 9): <dir>/blobs/00000001.blob, records of {magic, version, id 24 bytes (with
 * the size), position, CRC32C} + bytes, padded to 512; appended and synced before the batch that
 * names them.
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
    /* 2: records may be of format version 2. What version 1 could hold is read as ever. */
    DBOS_BATCH_FORMAT_VERSION = 2,
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
    uint64_t object_seed;  /* secret of the content identities */
    uint32_t previous_crc; /* of the batch header before the first of this segment */
};

struct dbos_batch {
    uint32_t segment;    /* number */
    uint64_t offset;     /* of the batch in the segment file */
    uint64_t end_offset; /* of the next batch */
    uint64_t first_position;
    uint64_t last_position;
    uint64_t synced_position; /* up to here all was synced when this batch was written */
    uint32_t header_crc;      /* which the next batch repeats */
    uint64_t state_hash;      /* of the whole database after last_position */
    uint32_t record_count;
    const uint8_t *records; /* record_count framed records, one after the other; valid until next */
    size_t records_bytes;
};

enum dbos_read_result {
    DBOS_READ_BATCH,   /* *out is valid */
    DBOS_READ_END,     /* nothing more was written yet (all zero or an older generation) */
    DBOS_READ_TORN,    /* strict only: an unfinished write, never acknowledged, may be cut */
    DBOS_READ_CORRUPT, /* damage, or a file that can not be read: info says which file, offset and
                          positions; info->code may be IO, NOMEM or FORMAT_VERSION too */
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
bool dbos_log_reader_header(const struct dbos_log_reader *reader, struct dbos_segment_header *out);
/* Recovery and verification: nobody writes. An end is decided by all that lies behind it: END, TORN
 * or CORRUPT. Without this the reader follows a living writer, and whatever is unfinished in the
 * newest segment is END. */
void dbos_log_reader_strict(struct dbos_log_reader *reader);
/* A follower does not pass the batch that has this position (the writer's watermark, or one below
 * it: a batch becomes durable as a whole; UINT64_MAX, as at open: none), and up to it everything
 * must be readable: what is not there is CORRUPT. */
void dbos_log_reader_set_durable(struct dbos_log_reader *reader, uint64_t position);
/* Where the next batch will be looked for. */
void dbos_log_reader_place(const struct dbos_log_reader *reader, uint32_t *out_segment,
                           uint64_t *out_offset);
/* Walk the records of a batch: `cursor` starts at 0. NULL at the end. */
const uint8_t *dbos_batch_next(const struct dbos_batch *batch, size_t *cursor, size_t *out_bytes);

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

/* For the writer (txn/log): note an object just written; where the next one goes; where the first
 * one lies that was written for a batch after `position` (false: there is none). */
enum dbos_err dbos_blob_index_add(struct dbos_blob_index *index, const struct dbos_object_id *id,
                                  uint32_t file, uint64_t offset, uint64_t position) DBOS_MUST_USE;
void dbos_blob_index_end(const struct dbos_blob_index *index, uint32_t *out_file,
                         uint64_t *out_offset);
void dbos_blob_index_set_end(struct dbos_blob_index *index, uint32_t file, uint64_t offset);
bool dbos_blob_index_first_after(const struct dbos_blob_index *index, uint64_t position,
                                 uint32_t *out_file, uint64_t *out_offset);
/* Behind the last whole value that was found nothing may lie that was synced: a whole value written
 * for a batch up to `position`, with its true identity (`object_seed` makes it), is proof of damage
 * before it. Errors: CORRUPT, IO, NOMEM. */
enum dbos_err dbos_blob_index_check_end(struct dbos_blob_index *index, uint64_t position,
                                        uint64_t object_seed,
                                        struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_blob_facts {
    uint64_t values;     /* written for batches up to the position */
    uint64_t bytes;      /* of them */
    uint64_t torn_bytes; /* of files, behind them: never named by a batch */
};
/* Verification: read every value written for a batch up to `position`, compare checksum and
 * identity, and check the end. Errors: as above. */
enum dbos_err dbos_blob_index_verify(struct dbos_blob_index *index, uint64_t position,
                                     uint64_t object_seed, struct dbos_blob_facts *out,
                                     struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROVENANCE_SEGMENT_H */
