#include "base/hash.h"

#include <stdbool.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* CRC32C, reflected polynomial 0x82f63b78; one table, for machines without SSE4.2. */
static uint32_t crc32c_bitwise_byte(uint32_t crc, uint8_t byte) {
    crc ^= byte;
    for (int bit = 0; bit < 8; bit++) {
        crc = (crc >> 1) ^ (0x82f63b78u & (0u - (crc & 1)));
    }
    return crc;
}

static uint32_t crc32c_portable(uint32_t crc, const uint8_t *data, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++) {
        crc = crc32c_bitwise_byte(crc, data[i]);
    }
    return crc;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const uint8_t *data,
                                                               size_t size_bytes) {
    uint64_t state = crc;
    while (size_bytes >= 8) {
        uint64_t word;
        memcpy(&word, data, sizeof word);
        state = __builtin_ia32_crc32di(state, word);
        data += 8;
        size_bytes -= 8;
    }
    uint32_t tail = (uint32_t)state;
    for (size_t i = 0; i < size_bytes; i++) {
        tail = __builtin_ia32_crc32qi(tail, data[i]);
    }
    return tail;
}
#endif

uint32_t dbos_crc32c(uint32_t crc, const void *data, size_t size_bytes) {
    crc = ~crc;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) {
        return ~crc32c_sse42(crc, data, size_bytes);
    }
#endif
    return ~crc32c_portable(crc, data, size_bytes);
}

uint64_t dbos_hash64(uint64_t seed, const void *data, size_t size_bytes) {
    return XXH3_64bits_withSeed(data, size_bytes, seed);
}

struct dbos_hash128 dbos_hash128(uint64_t seed, const void *data, size_t size_bytes) {
    XXH128_hash_t hash = XXH3_128bits_withSeed(data, size_bytes, seed);
    return (struct dbos_hash128){.high = hash.high64, .low = hash.low64};
}
