/* The stored form of a snapshot, shared by who writes one and who reads one.
 * docs/formats/snapshot.md says every byte. All integers are little-endian.
 *
 *   <data dir>/snapshots/
 *     00000000000000012345.manifest      written last: without it there is no snapshot
 *     00000000000000012345-0000.part     one file for each partition that there was
 *
 *   part file   | header 64 | chunk | chunk | ... | end chunk |
 *   chunk       | head 32 | payload |
 *   payload     of rows: table v, block v, position v, bytes v, payload; one behind the other
 *               of counters: table v, slots v, then slot v, counter v each
 *
 * Every byte is under a checksum, and every checksum is of this file of this snapshot: it starts
 * with that of the header before it.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_TXN_SNAPSHOT_FORMAT_H
#define DBOS_TXN_SNAPSHOT_FORMAT_H

#include "provenance/segment_format.h"

/* "DBM1", "DBP1", "DBC1" as they lie in the file. */
enum {
    DBOS_MANIFEST_MAGIC = 0x314d4244,
    DBOS_PART_MAGIC = 0x31504244,
    DBOS_CHUNK_MAGIC = 0x31434244,
    DBOS_SNAPSHOT_FORMAT_VERSION = 1,
    DBOS_SNAPSHOT_PARTS_MAX = 1024,
    /* A payload ends with the row that passes the first of these; none is larger than the second.
     */
    DBOS_CHUNK_BYTES = 256 * 1024,
    DBOS_CHUNK_BYTES_MAX = DBOS_CHUNK_BYTES + 3 * 1048576,
};

struct dbos_stored_manifest {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes; /* of this struct; the parts follow */
    struct dbos_uuid database;
    uint64_t position;   /* the cut */
    int64_t commit_us;   /* no transaction up to the cut is later */
    int64_t taken_us;    /* wall clock at the cut */
    uint64_t state_hash; /* at the cut */
    uint64_t rows;
    uint32_t parts;
    uint32_t next_table_id; /* ids that were never given out */
    uint32_t next_index_id;
    uint32_t next_procedure_id;
    uint8_t reserved[12]; /* zero */
    uint32_t crc;         /* of all before, then the parts */
};
static_assert(sizeof(struct dbos_stored_manifest) == 96, "stored format");

/* What the manifest says of a part. */
struct dbos_stored_part_facts {
    uint64_t bytes; /* of the file */
    uint64_t rows;
    uint64_t state_hash;
    uint32_t chunks; /* the end chunk, too */
    uint32_t crc;    /* of the end chunk's head */
};
static_assert(sizeof(struct dbos_stored_part_facts) == 32, "stored format");

struct dbos_stored_part {
    uint32_t magic;
    uint16_t version;
    uint16_t header_bytes; /* of this struct */
    struct dbos_uuid database;
    uint64_t position;
    uint32_t part;
    uint32_t parts;
    uint8_t reserved[20]; /* zero */
    uint32_t crc;         /* of all before */
};
static_assert(sizeof(struct dbos_stored_part) == 64, "stored format");

/* Stored: never renumber. The rows of dbos.catalog come first, in chunks of their own. */
enum dbos_chunk_kind {
    DBOS_CHUNK_CATALOG = 1,
    DBOS_CHUNK_ROWS = 2,
    DBOS_CHUNK_COUNTERS = 3,
    DBOS_CHUNK_END = 4,
};

struct dbos_stored_chunk {
    uint32_t magic;
    uint16_t kind;
    uint16_t head_bytes; /* of this struct */
    uint32_t number;     /* 0, 1, … in the file */
    uint32_t payload_bytes;
    uint32_t rows;
    uint32_t reserved; /* zero */
    uint32_t payload_crc;
    uint32_t crc; /* of all before, begun with the `crc` of what lies before this chunk: the header,
                     or the chunk's head */
};
static_assert(sizeof(struct dbos_stored_chunk) == 32, "stored format");

/* Paths, written to `out` (DBOS_PATH_BYTES). */
void dbos_manifest_path(char *out, const char *data_dir, uint64_t position);
void dbos_part_path(char *out, const char *data_dir, uint64_t position, uint32_t part);
/* Of a file's name in snapshots/: false = it is none of ours. */
struct dbos_snapshot_name {
    uint64_t position;
    bool is_manifest;
    bool is_unfinished; /* a manifest that was not renamed */
};
bool dbos_snapshot_name(const char *name, struct dbos_snapshot_name *out);

/* magic, version, sizes, CRC. */
void dbos_manifest_seal(struct dbos_stored_manifest *manifest,
                        const struct dbos_stored_part_facts *parts);
void dbos_part_seal(struct dbos_stored_part *part);
void dbos_chunk_seal(struct dbos_stored_chunk *chunk, const void *payload, uint32_t crc_before);

/* Errors: CORRUPT, FORMAT_VERSION. `bytes` has size_bytes of the file; the parts point into it. */
enum dbos_err dbos_manifest_check(const uint8_t *bytes, size_t size_bytes,
                                  struct dbos_stored_manifest *out,
                                  const struct dbos_stored_part_facts **out_parts,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_part_check(const struct dbos_stored_part *part,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* The head alone: then the payload may be read, and compared with payload_crc. */
enum dbos_err dbos_chunk_check(const struct dbos_stored_chunk *chunk, uint32_t number,
                               uint32_t crc_before, struct dbos_errinfo *info) DBOS_MUST_USE;

/* The rows of a payload, one after the other. */
struct dbos_snapshot_row {
    uint32_t table_id;
    uint64_t block;
    uint64_t position;
    struct dbos_bytes payload; /* borrowed */
};
/* False at the end, or (reader->failed) where it is malformed. */
bool dbos_snapshot_row_next(struct dbos_reader *reader, struct dbos_snapshot_row *out);
enum { DBOS_SNAPSHOT_ROW_HEAD_BYTES_MAX = 5 + 10 + 10 + 5 };
/* Room for the head and the payload is there; returns the bytes. */
size_t dbos_snapshot_row_put(uint8_t *to, const struct dbos_snapshot_row *row);

#endif /* DBOS_TXN_SNAPSHOT_FORMAT_H */
