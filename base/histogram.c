#include "base/histogram.h"

#include <assert.h>

#include "base/err.h"

static_assert(DBOS_HISTOGRAM_BUCKETS == 2048, "16 KiB");

void dbos_histogram_read(const struct dbos_histogram *histogram,
                         struct dbos_histogram_reading *reading) {
    for (uint32_t i = 0; i < DBOS_HISTOGRAM_BUCKETS; i++) {
        uint64_t count = atomic_load_explicit(&histogram->counts[i], memory_order_relaxed);
        reading->counts[i] += count;
        reading->count += count;
    }
    reading->sum += atomic_load_explicit(&histogram->sum, memory_order_relaxed);
    uint64_t max = atomic_load_explicit(&histogram->max, memory_order_relaxed);
    reading->max = max > reading->max ? max : reading->max;
}

uint64_t dbos_histogram_low(uint32_t bucket) {
    DBOS_CHECK(bucket <= DBOS_HISTOGRAM_BUCKETS);
    if (bucket < DBOS_HISTOGRAM_LINEAR) {
        return bucket;
    }
    uint32_t octave = 7 + (bucket - DBOS_HISTOGRAM_LINEAR) / DBOS_HISTOGRAM_PER_OCTAVE;
    uint64_t within = (bucket - DBOS_HISTOGRAM_LINEAR) % DBOS_HISTOGRAM_PER_OCTAVE;
    return (DBOS_HISTOGRAM_PER_OCTAVE + within) << (octave - 6);
}

uint64_t dbos_histogram_quantile(const struct dbos_histogram_reading *reading, uint32_t per_mille) {
    DBOS_CHECK(per_mille <= 1000);
    /* The rank, from 1, rounded up; in two steps, so that nothing overflows. */
    uint64_t whole = reading->count / 1000 * per_mille;
    uint64_t rank = whole + (reading->count % 1000 * per_mille + 999) / 1000;
    uint64_t seen = 0;
    rank = rank == 0 ? 1 : rank;
    for (uint32_t i = 0; i < DBOS_HISTOGRAM_BUCKETS; i++) {
        seen += reading->counts[i];
        if (seen >= rank) {
            uint64_t low = dbos_histogram_low(i);
            uint64_t middle = low + (dbos_histogram_low(i + 1) - low) / 2;
            return middle < reading->max || reading->max == 0 ? middle : reading->max;
        }
    }
    return 0;
}
