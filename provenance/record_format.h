/* The stored form of a transaction record, shared by its encoder (capture) and decoder (record).
 * docs/formats/log.md says every byte.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_PROVENANCE_RECORD_FORMAT_H
#define DBOS_PROVENANCE_RECORD_FORMAT_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Every record starts with a u32: its size, and above that its format version. Version 1 left those
 * bits zero. Version 2 has no checksum of its own: that of its batch covers it. */
enum {
    DBOS_RECORD_SIZE_BITS = 26,
    DBOS_RECORD_SIZE_MASK = (1 << DBOS_RECORD_SIZE_BITS) - 1,
    DBOS_RECORD_FRAME_BYTES = 4,
};

/* Version 1: first bytes of a record; the rest of the head follows as varints. */
struct dbos_record_frame_v1 {
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
static_assert(sizeof(struct dbos_record_frame_v1) == 64, "stored format");
static_assert(offsetof(struct dbos_record_frame_v1, version) == 8, "the CRC starts here");
static_assert(offsetof(struct dbos_record_frame_v1, position) == 24, "stored format");

/* Version 2: what the head holds, below the flags of the record. */
enum {
    DBOS_HEAD_SESSION_STAMP = 1, /* the session is a difference to the commit time */
    DBOS_HEAD_SEED = 2,
    DBOS_HEAD_OUTCOME = 4,
    DBOS_HEAD_TASK = 8,
    DBOS_HEAD_FLAG_BITS = 4, /* flags of the record stand above */
    /* Partition and number of partitions in one byte, where they are below this. */
    DBOS_HEAD_NIBBLE_MAX = 15,
};

/* Version 2: commit times count from 2026-01-01, which saves a byte until 2034. */
#define DBOS_RECORD_EPOCH_US INT64_C(1767225600000000)

enum {
    DBOS_RECORD_V1_CRC_FROM = 8,
    /* Of version 2, without arguments: the frame and at most 14 numbers. */
    DBOS_RECORD_HEAD_BYTES_MAX = DBOS_RECORD_FRAME_BYTES + 14 * 10,
    /* Blocks of one slot follow each other at this distance. */
    DBOS_BLOCK_STEP = 1024,

    DBOS_EVENT_OP_MASK = 0x1f,
    DBOS_EVENT_SAME_TABLE = 0x20, /* as the event before it that counts: no table id follows */
    DBOS_EVENT_ONE_BLOCK = 0x40,  /* READ: count is 1 and does not follow */
    DBOS_EVENT_SAME_SLOT = 0x40,  /* version 2, writes: the difference counts block steps */
    /* Version 2: a statement of the record's procedure, its number in the lower bits. */
    DBOS_EVENT_ORDINAL = 0x80,
    DBOS_EVENT_ORDINAL_MAX = 0x3e, /* a larger one follows as a varint */
    DBOS_EVENT_ORDINAL_FOLLOWS = 0x3f,
    /* The same, and a READ of one block behind it. */
    DBOS_EVENT_ORDINAL_READ = 0xc0,
    DBOS_EVENT_ORDINAL_READ_MAX = 0x1f,
};

/* Numbers of at most 10 bytes at a known place; they return the place behind. */
static inline uint8_t *dbos_store_varint(uint8_t *to, uint64_t value) {
    while (value >= 0x80) {
        *to++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *to++ = (uint8_t)value;
    return to;
}
static inline uint8_t *dbos_store_zigzag(uint8_t *to, int64_t value) {
    return dbos_store_varint(to, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

#endif /* DBOS_PROVENANCE_RECORD_FORMAT_H */
