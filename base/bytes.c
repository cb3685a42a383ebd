#include "base/bytes.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "stored formats are little-endian and are read in place"
#endif

void dbos_buf_init(struct dbos_buf *buf, struct dbos_alloc *alloc) {
    *buf = (struct dbos_buf){.alloc = alloc};
}

void dbos_buf_fini(struct dbos_buf *buf) {
    dbos_give(buf->alloc, buf->data);
    *buf = (struct dbos_buf){.alloc = buf->alloc};
}

void dbos_buf_reset(struct dbos_buf *buf) {
    buf->size_bytes = 0;
    buf->failed = false;
}

uint8_t *dbos_buf_grow(struct dbos_buf *buf, size_t extra_bytes) {
    if (buf->failed || extra_bytes > SIZE_MAX / 4 - buf->size_bytes) {
        buf->failed = true;
        return NULL;
    }
    size_t wanted = buf->size_bytes + extra_bytes;
    if (wanted > buf->capacity_bytes || buf->data == NULL) {
        size_t capacity = buf->capacity_bytes < 256 ? 256 : buf->capacity_bytes * 2;
        if (capacity < wanted) {
            capacity = wanted;
        }
        uint8_t *data = dbos_retake(buf->alloc, buf->data, capacity);
        if (data == NULL) {
            buf->failed = true;
            return NULL;
        }
        buf->data = data;
        buf->capacity_bytes = capacity;
    }
    return buf->data + buf->size_bytes;
}

void dbos_buf_put_zero(struct dbos_buf *buf, size_t size_bytes) {
    uint8_t *to = dbos_buf_reserve(buf, size_bytes);
    if (to != NULL) {
        memset(to, 0, size_bytes);
        buf->size_bytes += size_bytes;
    }
}

void dbos_buf_put_varint(struct dbos_buf *buf, uint64_t value) {
    uint8_t bytes[10];
    size_t count = 0;
    while (value >= 0x80) {
        bytes[count++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    bytes[count++] = (uint8_t)value;
    dbos_buf_put(buf, bytes, count);
}

void dbos_buf_put_zigzag(struct dbos_buf *buf, int64_t value) {
    dbos_buf_put_varint(buf, ((uint64_t)value << 1) ^ (value < 0 ? UINT64_MAX : 0));
}

void dbos_buf_put_sized(struct dbos_buf *buf, const void *data, size_t size_bytes) {
    dbos_buf_put_varint(buf, size_bytes);
    dbos_buf_put(buf, data, size_bytes);
}

void dbos_buf_put_text(struct dbos_buf *buf, const char *text) {
    dbos_buf_put_sized(buf, text, strlen(text));
}

const uint8_t *dbos_get(struct dbos_reader *reader, size_t size_bytes) {
    if (reader->failed || size_bytes > dbos_reader_left(reader)) {
        reader->failed = true;
        return NULL;
    }
    const uint8_t *at = reader->next;
    if (size_bytes != 0) {
        reader->next += size_bytes;
    }
    return at;
}

uint8_t dbos_get_u8(struct dbos_reader *reader) {
    const uint8_t *at = dbos_get(reader, 1);
    return at == NULL ? 0 : *at;
}
uint16_t dbos_get_u16(struct dbos_reader *reader) {
    const uint8_t *at = dbos_get(reader, 2);
    return at == NULL ? 0 : dbos_load_u16(at);
}
uint32_t dbos_get_u32(struct dbos_reader *reader) {
    const uint8_t *at = dbos_get(reader, 4);
    return at == NULL ? 0 : dbos_load_u32(at);
}
uint64_t dbos_get_u64(struct dbos_reader *reader) {
    const uint8_t *at = dbos_get(reader, 8);
    return at == NULL ? 0 : dbos_load_u64(at);
}
uint16_t dbos_get_be16(struct dbos_reader *reader) {
    return __builtin_bswap16(dbos_get_u16(reader));
}
uint32_t dbos_get_be32(struct dbos_reader *reader) {
    return __builtin_bswap32(dbos_get_u32(reader));
}
uint64_t dbos_get_be64(struct dbos_reader *reader) {
    return __builtin_bswap64(dbos_get_u64(reader));
}

uint64_t dbos_get_varint(struct dbos_reader *reader) {
    uint64_t value = 0;
    for (uint32_t shift = 0; shift < 70; shift += 7) {
        uint8_t byte = dbos_get_u8(reader);
        if (reader->failed) {
            return 0;
        }
        if (shift == 63 && byte > 1) {
            break; /* more than 64 bits */
        }
        value |= (uint64_t)(byte & 0x7f) << shift;
        if ((byte & 0x80) == 0) {
            return value;
        }
    }
    reader->failed = true;
    return 0;
}

int64_t dbos_get_zigzag(struct dbos_reader *reader) {
    uint64_t value = dbos_get_varint(reader);
    return (int64_t)((value >> 1) ^ (UINT64_MAX * (value & 1)));
}

struct dbos_bytes dbos_get_sized(struct dbos_reader *reader) {
    uint64_t size_bytes = dbos_get_varint(reader);
    if (size_bytes > dbos_reader_left(reader)) {
        reader->failed = true;
    }
    const uint8_t *at = reader->failed ? NULL : dbos_get(reader, (size_t)size_bytes);
    return (struct dbos_bytes){.data = at, .size_bytes = at == NULL ? 0 : (size_t)size_bytes};
}
