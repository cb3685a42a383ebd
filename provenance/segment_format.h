/* The stored forms of the log directory, shared by the writer (txn/log) and the readers:
 * identity file, segment header, sector, batch header, blob header. docs/formats/log.md says every
 * byte. All integers are little-endian.
 *
 * A sector is written, unwritten or damaged, and which of them can be told from the sector alone:
 * that is what makes "torn or corrupt" decidable (architecture decision 5).
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_PROVENANCE_SEGMENT_FORMAT_H
#define DBOS_PROVENANCE_SEGMENT_FORMAT_H

#include <assert.h>
#include <stddef.h>

#include "provenance/segment.h"

/* "DBI1", "DBS1", "DBB1", "DBO1" as they lie in the file. */
enum {
    DBOS_IDENTITY_MAGIC = 0x31494244,
    DBOS_SEGMENT_MAGIC = 0x31534244,
    DBOS_BATCH_MAGIC = 0x31424244,
    DBOS_BLOB_MAGIC = 0x314f4244,
};

struct dbos_stored_identity {
    uint32_t magic;
    uint16_t version;
    uint16_t size_bytes; /* of this struct */
    struct dbos_uuid database;
    uint64_t object_seed;
    int64_t created_us;
    uint8_t reserved[20]; /* zero */
    uint32_t crc;         /* of all before */
};
static_assert(sizeof(struct dbos_stored_identity) == 64, "stored format");

/* At the start of the 4,096 bytes of a segment header; the rest is zero. */
struct dbos_stored_segment {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes; /* 4096 */
    uint32_t number;
    uint32_t generation;
    uint64_t epoch;
    uint64_t first_position;
    uint64_t size_bytes;
    struct dbos_uuid database;
    uint64_t object_seed;
    uint32_t previous_crc; /* of the last batch header of the segment before; 0 in segment 1 */
    uint32_t crc;          /* of the 4,096 bytes with this field zero */
};
static_assert(sizeof(struct dbos_stored_segment) == 72, "stored format");

struct dbos_sector_head {
    uint32_t generation; /* of the segment when this was written; 0 = never written */
    uint32_t crc;        /* of generation, sector number in the file, ordinal, then the payload */
    uint32_t ordinal;    /* of this sector in its batch; 0 = a batch starts here */
};
static_assert(sizeof(struct dbos_sector_head) == 12, "stored format");
enum { DBOS_SECTOR_PAYLOAD_BYTES = DBOS_SECTOR_BYTES - 12 };

/* First bytes of the payload of a batch's first sector; the records follow. */
struct dbos_stored_batch {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes; /* 64 */
    uint32_t records_bytes;
    uint32_t record_count;
    uint64_t first_position;
    uint64_t last_position;
    uint64_t synced_position; /* everything up to here was synced when this batch was written */
    uint64_t state_hash;
    uint32_t records_crc;  /* of the records_bytes behind this header */
    uint32_t previous_crc; /* the `crc` of the batch before; 0 for the first of a database */
    uint32_t reserved;     /* zero */
    uint32_t crc;          /* of all before */
};
static_assert(sizeof(struct dbos_stored_batch) == 64, "stored format");

struct dbos_stored_blob {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes; /* 64 */
    struct dbos_object_id id;
    uint64_t position; /* first position of the batch that it was written for */
    uint32_t data_crc;
    uint8_t reserved[16]; /* zero */
    uint32_t crc;         /* of all before */
};
/* id needs 8-byte alignment and gets it at offset 8. */
static_assert(offsetof(struct dbos_stored_blob, id) == 8, "stored format");
static_assert(sizeof(struct dbos_stored_blob) == 64, "stored format");

enum {
    DBOS_PATH_BYTES = 1200,
    DBOS_DATA_DIR_BYTES_MAX = 1000,       /* a longer one is refused */
    DBOS_BLOB_FILE_BYTES = 256 * 1048576, /* past this size a new blob file is begun */
};

/* Number of sectors of a batch with so many bytes of records. */
static inline uint64_t dbos_batch_sectors(uint64_t records_bytes) {
    return (sizeof(struct dbos_stored_batch) + records_bytes + DBOS_SECTOR_PAYLOAD_BYTES - 1) /
           DBOS_SECTOR_PAYLOAD_BYTES;
}
/* Bytes in the file of a blob of so many bytes. */
static inline uint64_t dbos_blob_file_bytes(uint64_t size_bytes) {
    return (sizeof(struct dbos_stored_blob) + size_bytes + DBOS_SECTOR_BYTES - 1) /
           DBOS_SECTOR_BYTES * DBOS_SECTOR_BYTES;
}

/* Paths within a data directory, written to `out` (DBOS_PATH_BYTES). */
void dbos_segment_path(char *out, const char *data_dir, uint32_t number);
void dbos_blob_path(char *out, const char *data_dir, uint32_t number);
void dbos_log_path(char *out, const char *data_dir, const char *name);

/* Fill in the head of a sector whose payload is in place. `index` is its number in the file. */
void dbos_sector_seal(uint8_t *sector, uint32_t generation, uint32_t index, uint32_t ordinal);

enum dbos_sector_state {
    DBOS_SECTOR_UNWRITTEN, /* all zero, or whole and of an older generation */
    DBOS_SECTOR_WRITTEN,   /* whole and of this generation */
    DBOS_SECTOR_DAMAGED,   /* neither: no write that was cut short leaves this behind */
};
enum dbos_sector_state dbos_sector_state(const uint8_t *sector, uint32_t generation,
                                         uint32_t index);
uint32_t dbos_sector_ordinal(const uint8_t *sector);

void dbos_identity_encode(struct dbos_stored_identity *identity); /* magic, version, CRC */
enum dbos_err dbos_identity_check(const struct dbos_stored_identity *identity,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* `out` has DBOS_SEGMENT_HEADER_BYTES. */
void dbos_segment_header_encode(const struct dbos_segment_header *header, uint8_t *out);
enum dbos_header_state { DBOS_HEADER_UNUSED, DBOS_HEADER_VALID, DBOS_HEADER_BAD };
/* UNUSED: all zero, the segment was prepared and is not in use. BAD: info says why. */
enum dbos_header_state dbos_segment_header_decode(const uint8_t *bytes,
                                                  struct dbos_segment_header *out,
                                                  struct dbos_errinfo *info);

void dbos_batch_seal(struct dbos_stored_batch *batch); /* magic, version, sizes, CRC */
enum dbos_err dbos_batch_check(const struct dbos_stored_batch *batch,
                               struct dbos_errinfo *info) DBOS_MUST_USE;

void dbos_blob_seal(struct dbos_stored_blob *blob, const void *data);
/* True: a whole header of a known version. A newer version sets *too_new. */
bool dbos_blob_check(const struct dbos_stored_blob *blob, bool *too_new);

#endif /* DBOS_PROVENANCE_SEGMENT_FORMAT_H */
