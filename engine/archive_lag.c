#include "engine/archive_lag.h"

#include <string.h>

#include "base/err.h"

void dbos_lag_init(struct dbos_lag *lag, uint64_t position, uint64_t bytes, uint64_t now_ns) {
    lag->count = 0;
    if (position != 0) {
        lag->marks[lag->count++] = (struct dbos_lag_mark){.ns = now_ns};
    }
    lag->marks[lag->count++] =
        (struct dbos_lag_mark){.position = position, .bytes = bytes, .ns = now_ns};
}

/* Every second one goes; the first and the last stay. */
static void thin(struct dbos_lag *lag) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < lag->count; i += 2) {
        lag->marks[kept++] = lag->marks[i];
    }
    if (lag->count % 2 == 0) {
        lag->marks[kept++] = lag->marks[lag->count - 1];
    }
    lag->count = kept;
}

void dbos_lag_note(struct dbos_lag *lag, uint64_t position, uint64_t bytes, uint64_t now_ns) {
    struct dbos_lag_mark *last = &lag->marks[lag->count - 1];
    DBOS_CHECK(position >= last->position && bytes >= last->bytes);
    if (position == last->position) {
        last->ns = now_ns; /* what comes next is younger than this */
        return;
    }
    if (lag->count == DBOS_LAG_MARKS_MAX) {
        thin(lag);
    }
    lag->marks[lag->count++] =
        (struct dbos_lag_mark){.position = position, .bytes = bytes, .ns = now_ns};
}

/* The last mark at or before `position`. */
static uint32_t find(const struct dbos_lag *lag, uint64_t position) {
    uint32_t low = 0, high = lag->count;
    while (high - low > 1) {
        uint32_t middle = (low + high) / 2;
        if (lag->marks[middle].position <= position) {
            low = middle;
        } else {
            high = middle;
        }
    }
    return low;
}

void dbos_lag_forget(struct dbos_lag *lag, uint64_t position) {
    uint32_t first = find(lag, position);
    lag->count -= first;
    memmove(lag->marks, lag->marks + first, lag->count * sizeof lag->marks[0]);
}

void dbos_lag_read(const struct dbos_lag *lag, uint64_t position, uint64_t now_ns,
                   uint64_t *out_bytes, uint64_t *out_ns) {
    const struct dbos_lag_mark *last = &lag->marks[lag->count - 1];
    const struct dbos_lag_mark *from = &lag->marks[find(lag, position)];
    *out_bytes = 0;
    *out_ns = 0;
    if (position >= last->position) {
        return;
    }
    double part = 0; /* of the way to the next mark */
    if (position > from->position) {
        part = (double)(position - from->position) / (double)(from[1].position - from->position);
    }
    uint64_t bytes = from->bytes + (uint64_t)(part * (double)(from[1].bytes - from->bytes));
    uint64_t ns = from->ns + (uint64_t)(part * (double)(from[1].ns - from->ns));
    *out_bytes = last->bytes - bytes;
    *out_ns = now_ns > ns ? now_ns - ns : 0;
}
