/* Goal: quantiles are as close to the exact ones as the header says, of any mixture of values, also
 * after a merge. Method: random samples of several shapes, sorted; the model is the sorted array.
 */
#include "base/histogram.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/env.h"

TestSuite(base_histogram, .timeout = 60);

enum { SAMPLES = 20000, SHAPES = 5, PARTS = 3 };

static int compare(const void *a, const void *b) {
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

/* Some are dense and small, some spread over all octaves, some lie on the edges of buckets. */
static uint64_t sample(struct dbos_rng *rng, int shape) {
    switch (shape) {
    case 0:
        return dbos_rng_below(rng, 128);
    case 1:
        return 1000 + dbos_rng_below(rng, 100);
    case 2:
        return (UINT64_C(1) << dbos_rng_below(rng, 37)) - dbos_rng_below(rng, 2);
    case 3:
        return dbos_rng_next(rng) >> (27 + dbos_rng_below(rng, 37));
    default:
        return dbos_rng_below(rng, 100) == 0 ? 5000000000u + dbos_rng_below(rng, 1000000000)
                                             : 1500 + dbos_rng_below(rng, 3000);
    }
}

static void expect_close(uint64_t got, uint64_t exact, const char *what) {
    uint64_t away = got > exact ? got - exact : exact - got;
    cr_assert(away * 128 <= exact, "%s: %llu is not close to %llu", what, (unsigned long long)got,
              (unsigned long long)exact);
}

static uint64_t exact_quantile(const uint64_t *sorted, uint32_t count, uint32_t per_mille) {
    uint64_t rank = ((uint64_t)count * per_mille + 999) / 1000;
    return sorted[rank == 0 ? 0 : rank - 1];
}

Test(base_histogram, quantiles_of_merged_parts_are_close_to_the_exact_ones) {
    static struct dbos_histogram parts[PARTS];
    static struct dbos_histogram_reading reading;
    static uint64_t values[SAMPLES];
    static const uint32_t quantiles[] = {0, 1, 250, 500, 900, 990, 999, 1000};
    struct dbos_rng rng;
    dbos_rng_init(&rng, 20);
    for (int shape = 0; shape < SHAPES; shape++) {
        for (uint32_t count = 1; count <= SAMPLES; count = count * 5 + 3) {
            uint64_t sum = 0;
            memset(parts, 0, sizeof parts);
            memset(&reading, 0, sizeof reading);
            for (uint32_t i = 0; i < count; i++) {
                values[i] = sample(&rng, shape);
                sum += values[i];
                dbos_histogram_add(&parts[dbos_rng_below(&rng, PARTS)], values[i]);
            }
            for (int i = 0; i < PARTS; i++) {
                dbos_histogram_read(&parts[i], &reading);
            }
            qsort(values, count, sizeof values[0], compare);
            cr_assert_eq(reading.count, count);
            cr_assert_eq(reading.sum, sum);
            cr_assert_eq(reading.max, values[count - 1]);
            for (size_t q = 0; q < sizeof quantiles / sizeof quantiles[0]; q++) {
                expect_close(dbos_histogram_quantile(&reading, quantiles[q]),
                             exact_quantile(values, count, quantiles[q]), "quantile");
            }
        }
    }
}

Test(base_histogram, every_value_is_in_its_bucket_and_buckets_follow_each_other) {
    for (uint32_t bucket = 0; bucket < DBOS_HISTOGRAM_BUCKETS; bucket++) {
        uint64_t low = dbos_histogram_low(bucket);
        uint64_t next = dbos_histogram_low(bucket + 1);
        cr_assert_lt(low, next);
        cr_assert_eq(dbos_histogram_bucket(low), bucket);
        cr_assert_eq(dbos_histogram_bucket(next - 1), bucket);
        cr_assert((next - low) * 64 <= low || next - low == 1, "bucket %u is too wide", bucket);
    }
    cr_expect_eq(dbos_histogram_low(DBOS_HISTOGRAM_BUCKETS), UINT64_C(1) << 37);
}

Test(base_histogram, what_is_too_large_counts_in_the_last_bucket_and_keeps_its_maximum) {
    static struct dbos_histogram histogram;
    static struct dbos_histogram_reading reading;
    dbos_histogram_add(&histogram, UINT64_MAX / 4);
    dbos_histogram_add(&histogram, 10);
    dbos_histogram_read(&histogram, &reading);
    cr_expect_eq(reading.counts[DBOS_HISTOGRAM_BUCKETS - 1], 1);
    cr_expect_eq(reading.max, UINT64_MAX / 4);
    cr_expect_eq(dbos_histogram_quantile(&reading, 500), 10);
    cr_expect_geq(dbos_histogram_quantile(&reading, 1000), UINT64_C(127) << 30);
}

Test(base_histogram, an_empty_one_has_no_quantiles) {
    static struct dbos_histogram_reading reading;
    cr_expect_eq(dbos_histogram_quantile(&reading, 0), 0);
    cr_expect_eq(dbos_histogram_quantile(&reading, 1000), 0);
}
