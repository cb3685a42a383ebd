/* The stored form of a transaction record, shared by its encoder (capture) and decoder (record).
 * docs/formats/log.md says every byte.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_PROVENANCE_RECORD_FORMAT_H
#define DBOS_PROVENANCE_RECORD_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* First bytes of every record; the rest of the head follows as varints. */
struct dbos_record_frame {
    uint32_t size_bytes; /* of the whole record, this struct included */
    uint32_t crc;        /* CRC32C of everything behind this field */
    uint16_t version;
    uint16_t flags;
    uint16_t outcome;
    uint16_t partition;
    uint16_t partitions;
    uint16_t reserved; /* zero */
    uint32_t argument_count;
    uint64_t position;
    int64_t commit_us;
    int64_t start_us;
    uint64_t seed;
    int64_t hash_delta;
};
static_assert(sizeof(struct dbos_record_frame) == 64, "stored format");
static_assert(offsetof(struct dbos_record_frame, version) == 8, "the CRC starts here");
static_assert(offsetof(struct dbos_record_frame, position) == 24, "stored format");

enum {
    DBOS_RECORD_CRC_FROM = 8,
    /* session, request, procedure, its version, task: five varints of at most 10 bytes, then the
     * length of the arguments. */
    DBOS_RECORD_HEAD_BYTES_MAX = 64 + 6 * 10,
    /* Blocks of one slot follow each other at this distance. */
    DBOS_BLOCK_STEP = 1024,
    /* In the operation byte of a READ. */
    DBOS_EVENT_OP_MASK = 0x1f,
    DBOS_EVENT_SAME_TABLE = 0x20, /* as the READ before it: no table id follows */
    DBOS_EVENT_ONE_BLOCK = 0x40,  /* count is 1 and does not follow */
};

#endif /* DBOS_PROVENANCE_RECORD_FORMAT_H */
