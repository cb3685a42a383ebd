/* The floor of a durable commit: what one write and its sync cost without a database.
 *
 *   bench_raw_sync DIR [--size BYTES] [--seconds N]
 *
 * The file is the log's own: a segment that txn/log_segment.c makes and fills with zeroes, opened
 * and synced as there, its memory the log's write buffer. A write follows its predecessor's sync,
 * by a thread of the log's priority. Prints one line of JSON in the form of the peers' lines. What
 * it made in DIR/raw-sync is removed. Exit status: 0, 1 = failed, 2 = wrong usage.
 *
 * Thread: one, besides the segment's preparer, which has nothing to do.
 * Memory: one allocator; a number for each write. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "txn/log_internal.h"

enum {
    SYNCS_PER_SECOND_MAX = 200000, /* no disk is faster; memory for their times */
    SECONDS_MAX = 600,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
};

struct arguments {
    const char *dir;
    unsigned long size_bytes;
    unsigned long seconds;
};

struct times {
    uint32_t *ns; /* of each write with its sync */
    size_t count;
    size_t count_max;
    uint64_t total_ns;
};

static int compare(const void *a, const void *b) {
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

static double percentile_us(const struct times *times, double part) {
    size_t at = (size_t)((double)(times->count - 1) * part);
    return (double)times->ns[at] / 1e3;
}

/* Through the segment from its header on, and again from there: its blocks were written before in
 * either case. */
static enum dbos_err write_and_sync(struct dbos_segments *segments,
                                    const struct arguments *arguments, struct times *times,
                                    struct dbos_errinfo *info) {
    struct dbos_env *env = segments->env;
    uint64_t offset = DBOS_SEGMENT_HEADER_BYTES;
    uint64_t start_ns = env->ops->mono_ns(env);
    uint64_t before_ns = start_ns;
    uint64_t limit_ns = (uint64_t)arguments->seconds * 1000000000;
    while (before_ns - start_ns < limit_ns && times->count < times->count_max) {
        memset(segments->buffer, (int)(times->count & 0xff), arguments->size_bytes);
        enum dbos_err err = env->ops->file_write(env, segments->file, offset, segments->buffer,
                                                 arguments->size_bytes, info);
        if (err == DBOS_OK) {
            err = env->ops->file_sync(env, segments->file, info);
        }
        if (err != DBOS_OK) {
            return err;
        }
        uint64_t after_ns = env->ops->mono_ns(env);
        uint64_t took_ns = after_ns - before_ns;
        times->ns[times->count++] = took_ns > UINT32_MAX ? UINT32_MAX : (uint32_t)took_ns;
        before_ns = after_ns;
        offset += arguments->size_bytes;
        if (offset + arguments->size_bytes > segments->segment_bytes) {
            offset = DBOS_SEGMENT_HEADER_BYTES;
        }
    }
    times->total_ns = before_ns - start_ns;
    return DBOS_OK;
}

static void print_times(const struct times *times) {
    qsort(times->ns, times->count, sizeof *times->ns, compare);
    (void)printf(
        "{\"system\":\"raw-sync\",\"workload\":\"write+sync\",\"clients\":1,\"pipeline\":1,"
        "\"tps\":%.1f,\"p50_us\":%.1f,\"p99_us\":%.1f}\n",
        (double)times->count * 1e9 / (double)times->total_ns, percentile_us(times, 0.5),
        percentile_us(times, 0.99));
}

/* A data directory with nothing but its first segment. */
static enum dbos_err make_log(struct dbos_segments *segments, struct dbos_alloc *alloc,
                              const char *data_dir, struct dbos_errinfo *info) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_log_options options = {.env = env, .durability = DBOS_DURABILITY_SYNC};
    struct dbos_stored_identity identity = {0};
    char log_dir[DBOS_PATH_BYTES];
    dbos_log_path(log_dir, data_dir, "log");
    enum dbos_err err = env->ops->dir_make(env, data_dir, info);
    if (err == DBOS_OK) {
        err = env->ops->dir_make(env, log_dir, info);
    }
    if (err == DBOS_OK) {
        err = dbos_segments_init(segments, alloc, &options, data_dir, info);
    }
    return err == DBOS_OK ? dbos_segments_start(segments, &identity, info) : err;
}

static void remove_log(const char *data_dir) {
    char path[DBOS_PATH_BYTES];
    dbos_segment_path(path, data_dir, 1);
    (void)unlink(path);
    dbos_log_path(path, data_dir, "log");
    (void)rmdir(path);
    (void)rmdir(data_dir);
}

static enum dbos_err measure(struct dbos_alloc *alloc, const struct arguments *arguments,
                             struct dbos_errinfo *info) {
    struct dbos_segments segments = {0};
    struct times times = {.count_max = arguments->seconds * SYNCS_PER_SECOND_MAX};
    char data_dir[DBOS_DATA_DIR_BYTES_MAX + 1];
    (void)snprintf(data_dir, sizeof data_dir, "%s/raw-sync", arguments->dir);
    times.ns = dbos_take(alloc, times.count_max * sizeof *times.ns);
    if (times.ns == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the times");
    }
    enum dbos_err err = make_log(&segments, alloc, data_dir, info);
    if (err == DBOS_OK) {
        dbos_log_raise_priority();
        err = write_and_sync(&segments, arguments, &times, info);
    }
    if (segments.buffer != NULL) {
        dbos_segments_fini(&segments);
    }
    if (err == DBOS_OK) {
        print_times(&times);
    }
    remove_log(data_dir);
    dbos_give(alloc, times.ns);
    return err;
}

static bool number(const char *text, unsigned long max, unsigned long *out) {
    char *end = NULL;
    errno = 0;
    *out = strtoul(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && *end == 0 && errno == 0 && *out != 0 && *out <= max;
}

static bool parse(int argc, char **argv, struct arguments *out) {
    for (int i = 1; i < argc; i++) {
        bool is_size = strcmp(argv[i], "--size") == 0;
        if (is_size || strcmp(argv[i], "--seconds") == 0) {
            unsigned long max = is_size ? DBOS_LOG_BATCH_BYTES : SECONDS_MAX;
            if (++i == argc || !number(argv[i], max, is_size ? &out->size_bytes : &out->seconds)) {
                return false;
            }
        } else if (argv[i][0] != '-' && out->dir == NULL) {
            out->dir = argv[i];
        } else {
            return false;
        }
    }
    return out->dir != NULL && strlen(out->dir) + sizeof "/raw-sync" <= DBOS_DATA_DIR_BYTES_MAX &&
           out->size_bytes % DBOS_SECTOR_BYTES == 0;
}

int main(int argc, char **argv) {
    struct arguments arguments = {.size_bytes = DBOS_SECTOR_BYTES, .seconds = 3};
    struct dbos_alloc alloc;
    struct dbos_errinfo info = {0};
    if (!parse(argc, argv, &arguments)) {
        (void)fprintf(stderr,
                      "usage: bench_raw_sync DIR [--size BYTES] [--seconds N]\n"
                      "  BYTES: a multiple of %d, at most %d (%d); N: 1 to %d (3)\n",
                      DBOS_SECTOR_BYTES, DBOS_LOG_BATCH_BYTES, DBOS_SECTOR_BYTES, SECONDS_MAX);
        return EXIT_USAGE;
    }
    dbos_alloc_init(&alloc, "raw-sync", 0);
    if (measure(&alloc, &arguments, &info) != DBOS_OK) {
        (void)fprintf(stderr, "bench_raw_sync: %s %s\n", info.message, info.detail);
        return EXIT_FAILED;
    }
    dbos_alloc_fini(&alloc);
    return 0;
}
