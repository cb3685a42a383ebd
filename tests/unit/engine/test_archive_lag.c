/* How far the archive is behind: bytes and age of what lies behind a position. */
#include <criterion/criterion.h>

#include "engine/archive_lag.h"

TestSuite(engine_archive_lag, .timeout = 10);

enum { SECOND = 1000000000 };

static void expect(const struct dbos_lag *lag, uint64_t position, uint64_t now_ns, uint64_t bytes,
                   uint64_t ns) {
    uint64_t got_bytes, got_ns;
    dbos_lag_read(lag, position, now_ns, &got_bytes, &got_ns);
    cr_expect_eq(got_bytes, bytes, "bytes behind %lu: %lu", position, got_bytes);
    cr_expect_eq(got_ns, ns, "age behind %lu: %lu", position, got_ns);
}

Test(engine_archive_lag, what_is_behind_a_position_has_bytes_and_an_age) {
    struct dbos_lag lag;
    dbos_lag_init(&lag, 0, 0, SECOND);
    expect(&lag, 0, 2L * SECOND, 0, 0);
    dbos_lag_note(&lag, 100, 1000, 2L * SECOND);
    dbos_lag_note(&lag, 300, 5000, 4L * SECOND);
    expect(&lag, 300, 9L * SECOND, 0, 0);
    expect(&lag, 400, 9L * SECOND, 0, 0);
    expect(&lag, 0, 5L * SECOND, 5000, 4L * SECOND);
    expect(&lag, 50, 5L * SECOND, 4500, 3500000000);
    expect(&lag, 100, 5L * SECOND, 4000, 3L * SECOND);
    expect(&lag, 200, 5L * SECOND, 2000, 2L * SECOND);
}

/* A log that rests for an hour makes nothing an hour old that was written after it. */
Test(engine_archive_lag, the_time_in_which_nothing_is_written_makes_nothing_old) {
    struct dbos_lag lag;
    dbos_lag_init(&lag, 0, 0, 0);
    dbos_lag_note(&lag, 10, 100, 1L * SECOND);
    for (uint64_t second = 2; second <= 3600; second++) {
        dbos_lag_note(&lag, 10, 100, second * SECOND);
    }
    dbos_lag_note(&lag, 20, 200, 3601L * SECOND);
    expect(&lag, 10, 3602L * SECOND, 100, 2L * SECOND);
    cr_expect_leq(lag.count, 3);
}

Test(engine_archive_lag, what_was_there_at_the_start_counts_from_the_start) {
    struct dbos_lag lag;
    dbos_lag_init(&lag, 1000, 50000, SECOND);
    expect(&lag, 1000, 5L * SECOND, 0, 0);
    expect(&lag, 0, 5L * SECOND, 50000, 4L * SECOND);
    expect(&lag, 500, 5L * SECOND, 25000, 4L * SECOND);
}

/* However long the archive is dead, the marks suffice, and are right to about one of them. */
Test(engine_archive_lag, marks_are_thinned_and_forgotten) {
    struct dbos_lag lag;
    enum { TICKS = 100000 };
    dbos_lag_init(&lag, 0, 0, 0);
    for (uint64_t i = 1; i <= TICKS; i++) {
        dbos_lag_note(&lag, i * 10, i * 1000, i * SECOND);
        cr_assert_leq(lag.count, DBOS_LAG_MARKS_MAX);
    }
    for (uint64_t i = 0; i < TICKS; i += 777) {
        uint64_t bytes, ns;
        dbos_lag_read(&lag, i * 10, (uint64_t)TICKS * SECOND, &bytes, &ns);
        cr_assert_leq(bytes - (TICKS - i) * 1000 + 1, 2, "the line is straight: %lu", bytes);
        cr_assert_leq(ns > (TICKS - i) * SECOND ? ns - (TICKS - i) * SECOND
                                                : (TICKS - i) * SECOND - ns,
                      1000);
    }
    dbos_lag_forget(&lag, 999000);
    cr_expect_lt(lag.count, 200);
    expect(&lag, 1000000, (uint64_t)TICKS * SECOND, 0, 0);
    uint64_t bytes, ns;
    dbos_lag_read(&lag, 999500, (uint64_t)TICKS * SECOND, &bytes, &ns);
    cr_expect_eq(bytes, 50000, "%lu", bytes);
}
