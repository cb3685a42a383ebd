#include "base/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

TestSuite(base_log, .timeout = 10);

/* What dbos_log() writes for one message. */
static size_t logged(const char *text, char *out, size_t out_bytes) {
    int ends[2];
    int saved = dup(STDERR_FILENO);
    cr_assert_eq(pipe(ends), 0);
    cr_assert_geq(dup2(ends[1], STDERR_FILENO), 0);
    dbos_log(DBOS_LOG_WARN, "%s", text);
    cr_assert_geq(dup2(saved, STDERR_FILENO), 0);
    (void)close(ends[1]);
    (void)close(saved);
    ssize_t got = read(ends[0], out, out_bytes - 1);
    (void)close(ends[0]);
    cr_assert_gt(got, 0);
    out[got] = '\0';
    return (size_t)got;
}

Test(base_log, a_message_is_one_line_with_time_and_level_whatever_it_holds) {
    char line[4096];
    size_t size_bytes = logged("two\nlines\rand\x1b[2J", line, sizeof line);
    cr_expect_eq(strcspn(line, "\n"), size_bytes - 1, "one line end, at the end");
    cr_expect_not_null(strstr(line, "Z WARN two lines and [2J\n"), "%s", line);
    int year = 0;
    cr_expect_eq(sscanf(line, "%4d-%*2d-%*2dT", &year), 1);
    cr_expect_geq(year, 2023);
}

Test(base_log, a_message_too_long_is_cut_but_still_a_line) {
    char line[4096];
    char text[3000];
    memset(text, 'y', sizeof text);
    text[sizeof text - 1] = '\0';
    size_t size_bytes = logged(text, line, sizeof line);
    cr_expect_leq(size_bytes, 1024);
    cr_expect_eq(line[size_bytes - 1], '\n');
    cr_expect_eq(line[size_bytes - 2], 'y');
}
