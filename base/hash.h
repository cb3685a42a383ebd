/* Checksums and hashes: CRC32C (is it damaged?), XXH3 (tables, state hash, content identity).
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_BASE_HASH_H
#define DBOS_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C (Castagnoli), SSE4.2 where the machine has it, tables elsewhere; start with crc = 0. */
uint32_t dbos_crc32c(uint32_t crc, const void *data, size_t size_bytes);

/* XXH3 64 with a seed: hash indexes, state hash, digests. */
uint64_t dbos_hash64(uint64_t seed, const void *data, size_t size_bytes);

/* Content identity of a large value: XXH3 128 with a secret seed of the database. */
struct dbos_hash128 {
    uint64_t high;
    uint64_t low;
};
struct dbos_hash128 dbos_hash128(uint64_t seed, const void *data, size_t size_bytes);

/* Mixes one integer (splitmix64 finaliser). */
static inline uint64_t dbos_mix64(uint64_t v) {
    v ^= v >> 30;
    v *= 0xbf58476d1ce4e5b9u;
    v ^= v >> 27;
    v *= 0x94d049bb133111ebu;
    return v ^ (v >> 31);
}

#endif /* DBOS_BASE_HASH_H */
