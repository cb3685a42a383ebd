#include "base/hash.h"

#include <criterion/criterion.h>
#include <string.h>

#include "base/env.h"

TestSuite(base_hash, .timeout = 20);

/* RFC 3720, appendix B.4, and the check value of the CRC catalogue. */
Test(base_hash, crc32c_has_the_published_values) {
    uint8_t zeros[32] = {0};
    uint8_t ones[32];
    uint8_t up[32];
    uint8_t down[32];
    memset(ones, 0xff, sizeof ones);
    for (int i = 0; i < 32; i++) {
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    cr_expect_eq(dbos_crc32c(0, "123456789", 9), 0xe3069283u);
    cr_expect_eq(dbos_crc32c(0, zeros, 32), 0x8a9136aau);
    cr_expect_eq(dbos_crc32c(0, ones, 32), 0x62a8ab43u);
    cr_expect_eq(dbos_crc32c(0, up, 32), 0x46dd794eu);
    cr_expect_eq(dbos_crc32c(0, down, 32), 0x113fdb5cu);
    cr_expect_eq(dbos_crc32c(0, "", 0), 0u);
}

/* Bit by bit from the polynomial: every length and alignment against the fast one. */
static uint32_t slow_crc32c(const uint8_t *data, size_t size_bytes) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size_bytes * 8; i++) {
        uint32_t bit = (crc ^ ((uint32_t)data[i / 8] >> (i % 8))) & 1;
        crc = (crc >> 1) ^ (bit == 0 ? 0 : 0x82f63b78u);
    }
    return ~crc;
}

Test(base_hash, crc32c_is_right_for_every_length_and_alignment_and_in_pieces) {
    uint8_t data[128];
    struct dbos_rng rng;
    dbos_rng_init(&rng, 5);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)dbos_rng_next(&rng);
    }
    for (size_t start = 0; start < 9; start++) {
        for (size_t size = 0; size + start < sizeof data; size++) {
            uint32_t whole = dbos_crc32c(0, data + start, size);
            cr_assert_eq(whole, slow_crc32c(data + start, size), "from %zu, %zu", start, size);
            uint32_t head = dbos_crc32c(0, data + start, size / 3);
            cr_assert_eq(dbos_crc32c(head, data + start + size / 3, size - size / 3), whole);
        }
    }
}

/* These values stand in logs and snapshots: XXH3 must never change under us. */
Test(base_hash, stored_hashes_stay_what_they_were) {
    cr_expect_eq(dbos_hash64(0, "", 0), 0x2d06800538d394c2u);
    cr_expect_neq(dbos_hash64(1, "abc", 3), dbos_hash64(0, "abc", 3));
    struct dbos_hash128 empty = dbos_hash128(0, "", 0);
    cr_expect_eq(empty.high, 0x99aa06d3014798d8u);
    cr_expect_eq(empty.low, 0x6001c324468d497fu);
    cr_expect_eq(dbos_mix64(1), 0x5692161d100b05e5u);
}
