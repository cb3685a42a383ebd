/* Histograms of durations: quantiles of any number of values in fixed memory, mergeable.
 *
 * Log-linear: values below 128 have a bucket each; above, every power of two is cut into 64 buckets
 * of equal width. A quantile is the middle of its bucket: at most 1/128 (0.8 %) away from the exact
 * one, up to 2^37 (137 s in nanoseconds); the largest value is kept exactly. Whatever is larger
 * than that counts in the last bucket. The unit is the caller's; here it is nanoseconds.
 *
 *   value     0 1 2 … 127 | 128 130 … 254 | 256 260 … 508 | …
 *   buckets       128     |      64       |      64       | …
 *
 * Thread: one writer; any number of readers at any time, each of which sees every value that was
 * added before it began. Adding is one bucket, one sum and one comparison: no locked instruction.
 * Memory: the caller's; cleared memory is an empty histogram. */
#ifndef DBOS_BASE_HISTOGRAM_H
#define DBOS_BASE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdint.h>

enum {
    DBOS_HISTOGRAM_LINEAR = 128, /* values with a bucket of their own */
    DBOS_HISTOGRAM_PER_OCTAVE = 64,
    DBOS_HISTOGRAM_OCTAVE_MAX = 36, /* the last one is from 2^36 up to 2^37 */
    DBOS_HISTOGRAM_BUCKETS =
        DBOS_HISTOGRAM_LINEAR + (DBOS_HISTOGRAM_OCTAVE_MAX - 6) * DBOS_HISTOGRAM_PER_OCTAVE,
};

struct dbos_histogram {
    _Atomic uint64_t sum;
    _Atomic uint64_t max;
    _Atomic uint64_t counts[DBOS_HISTOGRAM_BUCKETS];
};

/* What was read of one or more histograms. Cleared memory is an empty one. */
struct dbos_histogram_reading {
    uint64_t count;
    uint64_t sum;
    uint64_t max;
    uint64_t counts[DBOS_HISTOGRAM_BUCKETS];
};

static inline uint32_t dbos_histogram_bucket(uint64_t value) {
    if (value < DBOS_HISTOGRAM_LINEAR) {
        return (uint32_t)value;
    }
    uint32_t octave = 63u - (uint32_t)__builtin_clzll(value);
    if (octave > DBOS_HISTOGRAM_OCTAVE_MAX) {
        return DBOS_HISTOGRAM_BUCKETS - 1;
    }
    /* The 6 bits behind the highest one. */
    uint32_t within = (uint32_t)(value >> (octave - 6)) - DBOS_HISTOGRAM_PER_OCTAVE;
    return DBOS_HISTOGRAM_LINEAR + (octave - 7) * DBOS_HISTOGRAM_PER_OCTAVE + within;
}

/* Of one writer at a time. */
static inline void dbos_histogram_add(struct dbos_histogram *histogram, uint64_t value) {
    _Atomic uint64_t *count = &histogram->counts[dbos_histogram_bucket(value)];
    atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&histogram->sum,
                          atomic_load_explicit(&histogram->sum, memory_order_relaxed) + value,
                          memory_order_relaxed);
    if (value > atomic_load_explicit(&histogram->max, memory_order_relaxed)) {
        atomic_store_explicit(&histogram->max, value, memory_order_relaxed);
    }
}

/* Add what a histogram holds to a reading. Values that are added meanwhile may be in it in part:
 * in the count and not yet in the sum. */
void dbos_histogram_read(const struct dbos_histogram *histogram,
                         struct dbos_histogram_reading *reading);

/* The smallest value that at least `per_mille` / 1000 of all values do not exceed (500 = median);
 * 0 of an empty one. */
uint64_t dbos_histogram_quantile(const struct dbos_histogram_reading *reading, uint32_t per_mille);

/* The values of a bucket: from low up to, not including, the next one's low. */
uint64_t dbos_histogram_low(uint32_t bucket);

#endif /* DBOS_BASE_HISTOGRAM_H */
