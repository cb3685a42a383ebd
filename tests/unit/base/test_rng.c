#include <criterion/criterion.h>

#include "base/env.h"

TestSuite(base_rng, .timeout = 10);

/* Procedures are replayed with recorded seeds: the numbers can never change. */
Test(base_rng, a_seed_gives_the_same_numbers_for_ever) {
    static const uint64_t first[] = {0x15780b2e0c2ec716u, 0x6104d9866d113a7eu, 0xae17533239e499a1u,
                                     0xecb8ad4703b360a1u, 0xfde6dc7fe2ec5e64u};
    struct dbos_rng rng;
    dbos_rng_init(&rng, 42);
    for (size_t i = 0; i < sizeof first / sizeof first[0]; i++) {
        cr_expect_eq(dbos_rng_next(&rng), first[i], "number %zu", i);
    }
    struct dbos_rng other;
    dbos_rng_init(&rng, 0);
    dbos_rng_init(&other, 1);
    cr_expect_neq(dbos_rng_next(&rng), dbos_rng_next(&other));
}

Test(base_rng, numbers_below_a_bound_are_below_it_and_spread) {
    static const uint64_t bounds[] = {1, 2, 3, 10, 1000, 1ull << 32, UINT64_MAX};
    struct dbos_rng rng;
    dbos_rng_init(&rng, 7);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        for (int n = 0; n < 1000; n++) {
            cr_assert_lt(dbos_rng_below(&rng, bounds[i]), bounds[i]);
        }
    }
    int counts[10] = {0};
    for (int n = 0; n < 100000; n++) {
        counts[dbos_rng_below(&rng, 10)]++;
    }
    for (int i = 0; i < 10; i++) {
        /* 10,000 expected, standard deviation 95: six of them. */
        cr_expect(counts[i] > 9430 && counts[i] < 10570, "%d came %d times", i, counts[i]);
    }
}

Test(base_rng, unit_numbers_are_in_range_and_average_a_half) {
    struct dbos_rng rng;
    double sum = 0;
    dbos_rng_init(&rng, 9);
    for (int n = 0; n < 100000; n++) {
        double value = dbos_rng_unit(&rng);
        cr_assert(value >= 0 && value < 1);
        sum += value;
    }
    cr_expect(sum > 49000 && sum < 51000);
}
