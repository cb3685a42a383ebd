/* Bytes out and in: a growing buffer and a bounds-checked reader. Every stored or sent format is
 * written and read through these, so that an over-read is impossible by construction.
 *
 * Both have a sticky failure flag: callers put or get a whole record, then look once.
 * Integers are little-endian; `_be` variants exist for the PostgreSQL protocol.
 * Varints are LEB128; signed ones zig-zag.
 *
 * Thread: one at a time.
 * Memory: a buffer grows from its allocator; a reader borrows. */
#ifndef DBOS_BASE_BYTES_H
#define DBOS_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/alloc.h"

/* A borrowed run of bytes. data may be NULL only where size_bytes is 0. */
struct dbos_bytes {
    const uint8_t *data;
    size_t size_bytes;
};

struct dbos_buf {
    struct dbos_alloc *alloc;
    uint8_t *data;
    size_t size_bytes;
    size_t capacity_bytes;
    bool failed; /* out of memory at some put; contents are then unusable */
};

void dbos_buf_init(struct dbos_buf *buf, struct dbos_alloc *alloc);
void dbos_buf_fini(struct dbos_buf *buf);
/* Empty it, keep the memory, clear the failure. */
void dbos_buf_reset(struct dbos_buf *buf);
/* For dbos_buf_reserve(): what it needs first. */
uint8_t *dbos_buf_grow(struct dbos_buf *buf, size_t extra_bytes);
/* Room for `extra_bytes` more at data + size_bytes, or NULL (and failed is set). */
static inline uint8_t *dbos_buf_reserve(struct dbos_buf *buf, size_t extra_bytes) {
    if (buf->failed || buf->data == NULL || extra_bytes > buf->capacity_bytes - buf->size_bytes) {
        return dbos_buf_grow(buf, extra_bytes);
    }
    return buf->data + buf->size_bytes;
}
static inline void dbos_buf_put(struct dbos_buf *buf, const void *data, size_t size_bytes) {
    uint8_t *to = dbos_buf_reserve(buf, size_bytes);
    if (to != NULL && size_bytes != 0) {
        memcpy(to, data, size_bytes);
        buf->size_bytes += size_bytes;
    }
}
void dbos_buf_put_zero(struct dbos_buf *buf, size_t size_bytes);
static inline void dbos_buf_put_u8(struct dbos_buf *buf, uint8_t value) {
    dbos_buf_put(buf, &value, sizeof value);
}
static inline void dbos_buf_put_u16(struct dbos_buf *buf, uint16_t value) {
    dbos_buf_put(buf, &value, sizeof value);
}
static inline void dbos_buf_put_u32(struct dbos_buf *buf, uint32_t value) {
    dbos_buf_put(buf, &value, sizeof value);
}
static inline void dbos_buf_put_u64(struct dbos_buf *buf, uint64_t value) {
    dbos_buf_put(buf, &value, sizeof value);
}
static inline void dbos_buf_put_be16(struct dbos_buf *buf, uint16_t value) {
    dbos_buf_put_u16(buf, __builtin_bswap16(value));
}
static inline void dbos_buf_put_be32(struct dbos_buf *buf, uint32_t value) {
    dbos_buf_put_u32(buf, __builtin_bswap32(value));
}
static inline void dbos_buf_put_be64(struct dbos_buf *buf, uint64_t value) {
    dbos_buf_put_u64(buf, __builtin_bswap64(value));
}
void dbos_buf_put_varint(struct dbos_buf *buf, uint64_t value);
void dbos_buf_put_zigzag(struct dbos_buf *buf, int64_t value);
/* Varint length, then the bytes. */
void dbos_buf_put_sized(struct dbos_buf *buf, const void *data, size_t size_bytes);
void dbos_buf_put_text(struct dbos_buf *buf, const char *text); /* as put_sized, without the NUL */

struct dbos_reader {
    const uint8_t *next;
    const uint8_t *end;
    bool failed; /* something was read past the end or was malformed; later gets return zero */
};

static inline struct dbos_reader dbos_reader_of(const void *data, size_t size_bytes) {
    const uint8_t *start = data == NULL ? (const uint8_t *)"" : data;
    return (struct dbos_reader){.next = start, .end = start + size_bytes};
}
static inline size_t dbos_reader_left(const struct dbos_reader *reader) {
    return (size_t)(reader->end - reader->next);
}
/* `size_bytes` borrowed bytes, or NULL with `failed` set. For size 0 a valid pointer. */
const uint8_t *dbos_get(struct dbos_reader *reader, size_t size_bytes);
uint8_t dbos_get_u8(struct dbos_reader *reader);
uint16_t dbos_get_u16(struct dbos_reader *reader);
uint32_t dbos_get_u32(struct dbos_reader *reader);
uint64_t dbos_get_u64(struct dbos_reader *reader);
uint16_t dbos_get_be16(struct dbos_reader *reader);
uint32_t dbos_get_be32(struct dbos_reader *reader);
uint64_t dbos_get_be64(struct dbos_reader *reader);
uint64_t dbos_get_varint(struct dbos_reader *reader);
int64_t dbos_get_zigzag(struct dbos_reader *reader);
/* What put_sized wrote. On failure an empty run. */
struct dbos_bytes dbos_get_sized(struct dbos_reader *reader);

/* Loads and stores at known places. */
static inline uint16_t dbos_load_u16(const void *p) {
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint32_t dbos_load_u32(const void *p) {
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline uint64_t dbos_load_u64(const void *p) {
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void dbos_store_u16(void *p, uint16_t v) { memcpy(p, &v, sizeof v); }
static inline void dbos_store_u32(void *p, uint32_t v) { memcpy(p, &v, sizeof v); }
static inline void dbos_store_u64(void *p, uint64_t v) { memcpy(p, &v, sizeof v); }

#endif /* DBOS_BASE_BYTES_H */
