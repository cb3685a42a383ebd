#include "base/env.h"
#include "base/hash.h"

void dbos_rng_init(struct dbos_rng *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        rng->s[i] = dbos_mix64(seed);
    }
}

static uint64_t rotl(uint64_t v, int bits) { return (v << bits) | (v >> (64 - bits)); }

/* xoshiro256**, Blackman and Vigna, public domain algorithm. */
uint64_t dbos_rng_next(struct dbos_rng *rng) {
    uint64_t *s = rng->s;
    uint64_t result = rotl(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

uint64_t dbos_rng_below(struct dbos_rng *rng, uint64_t bound) {
    return (uint64_t)(__extension__((unsigned __int128)dbos_rng_next(rng) * bound) >> 64);
}

double dbos_rng_unit(struct dbos_rng *rng) {
    return (double)(dbos_rng_next(rng) >> 11) * 0x1.0p-53;
}
