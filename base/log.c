#include "base/log.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

void dbos_log(enum dbos_log_level level, const char *format, ...) {
    static const char *const names[] = {"INFO", "WARN", "ERROR"};
    char line[1024];
    struct timespec now;
    struct tm utc;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &utc);
    size_t used = strftime(line, sizeof line, "%Y-%m-%dT%H:%M:%S", &utc);
    int head = snprintf(line + used, sizeof line - used, ".%03ldZ %s ", now.tv_nsec / 1000000,
                        names[level]);
    used += (size_t)head;
    va_list args;
    va_start(args, format);
    int body = vsnprintf(line + used, sizeof line - used - 1, format, args);
    va_end(args);
    size_t text = used;
    used += body < 0 ? 0 : (size_t)body;
    if (used > sizeof line - 2) {
        used = sizeof line - 2;
    }
    /* Text of clients may be in it: it can not start a line of its own, nor move the cursor. */
    for (; text < used; text++) {
        if ((unsigned char)line[text] < ' ' || line[text] == 0x7f) {
            line[text] = ' ';
        }
    }
    line[used++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, used);
    (void)written;
}
