/* How far the archive is behind the log: marks of how long the log was when, and the difference.
 *
 *   position, bytes ─┐        ● ● ●   ●   ●     ● ● now
 *                    └ time     ▲ the archive is here: bytes and age of what lies right of it
 *
 * The marks are thinned when they get too many, from the oldest on twice as wide apart each time;
 * between two of them the line is straight.
 *
 * Thread: one at a time. Memory: none but the caller's. */
#ifndef DBOS_ENGINE_ARCHIVE_LAG_H
#define DBOS_ENGINE_ARCHIVE_LAG_H

#include <stdint.h>

enum { DBOS_LAG_MARKS_MAX = 512 };

struct dbos_lag_mark {
    uint64_t position; /* the newest one … */
    uint64_t bytes;    /* … of so many in the log … */
    uint64_t ns;       /* … the last time that somebody looked */
};
struct dbos_lag {
    uint32_t count; /* at least 1 */
    struct dbos_lag_mark marks[DBOS_LAG_MARKS_MAX];
};

/* The log as it is now: all of it counts as of this moment. */
void dbos_lag_init(struct dbos_lag *lag, uint64_t position, uint64_t bytes, uint64_t now_ns);
/* It is so long now; nothing of it becomes less. */
void dbos_lag_note(struct dbos_lag *lag, uint64_t position, uint64_t bytes, uint64_t now_ns);
/* Nobody will ask about what is before `position`. */
void dbos_lag_forget(struct dbos_lag *lag, uint64_t position);
/* What lies behind `position`: its bytes, and how long ago the first of it was written. */
void dbos_lag_read(const struct dbos_lag *lag, uint64_t position, uint64_t now_ns,
                   uint64_t *out_bytes, uint64_t *out_ns);

#endif /* DBOS_ENGINE_ARCHIVE_LAG_H */
