/* Processor time of the archiver for each record of a log: bench_archive DATA_DIR [HOT_MIB].
 *
 * DATA_DIR is the data directory of a node that has ended; its folder `archive` must not be there
 * (or hold nothing). The archiver takes over the whole log, exporting each sealed segment, as its
 * process does. One line of JSON: records, exports, Parquet bytes, microseconds of user and system
 * time for each record; `rest` is what a question costs that needs all that is not exported.
 *
 * Thread: one, and DuckDB's. Memory: an allocator of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "provenance/archiver.h"
#include "provenance/segment.h"

static double cpu_us(void) {
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1e6 +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
}

static _Noreturn void give_up(const char *what, const struct dbos_errinfo *info) {
    (void)fprintf(stderr, "bench_archive: %s: %s %s\n", what, info->message, info->detail);
    exit(1);
}

static uint64_t last_position(struct dbos_alloc *alloc, const char *dir) {
    struct dbos_log_reader *reader;
    struct dbos_batch batch;
    struct dbos_errinfo info = {.code = DBOS_OK};
    uint64_t last = 0;
    if (dbos_log_reader_open(alloc, dbos_env_posix(), dir, 1, 0, &reader, &info) != DBOS_OK) {
        give_up("cannot read the log", &info);
    }
    dbos_log_reader_strict(reader);
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        last = batch.last_position;
    }
    dbos_log_reader_close(reader);
    return last;
}

static enum dbos_err no_columns(void *arg, const struct dbos_archive_result_column *columns,
                                uint32_t count, struct dbos_errinfo *info) {
    (void)arg, (void)columns, (void)count, (void)info;
    return DBOS_OK;
}

static enum dbos_err print_row(void *arg, const struct dbos_bytes *cells, uint32_t count,
                               struct dbos_errinfo *info) {
    (void)arg, (void)info;
    for (uint32_t i = 0; i < count; i++) {
        (void)printf("%s%.*s", i == 0 ? "" : ", ", (int)cells[i].size_bytes,
                     (const char *)cells[i].data);
    }
    return DBOS_OK;
}

/* Events in all, as the views count them. */
static void ask(struct dbos_archiver *archiver, uint64_t position) {
    struct dbos_errinfo info = {.code = DBOS_OK};
    struct dbos_archive_question question = {
        .position = position,
        .sql = "SELECT count(*), count(DISTINCT position), sum(statement) FROM prov.event"};
    struct dbos_archive_sink sink = {no_columns, print_row, NULL};
    (void)printf(", \"events\": [");
    if (dbos_archiver_query(archiver, &question, &sink, &info) != DBOS_OK) {
        give_up("cannot ask", &info);
    }
    (void)printf("]");
}

static void measure(struct dbos_archiver *archiver, uint64_t last) {
    struct dbos_errinfo info = {.code = DBOS_OK};
    struct dbos_archiver_stats stats;
    double before = cpu_us();
    if (dbos_archiver_advance(archiver, last, &info) != DBOS_OK) {
        give_up("cannot take over", &info);
    }
    double after = cpu_us();
    dbos_archiver_stats(archiver, &stats);
    (void)printf("{\"records\": %llu, \"exports\": %llu, \"files\": %llu, \"us_per_record\": %.2f",
                 (unsigned long long)stats.records, (unsigned long long)stats.exports,
                 (unsigned long long)stats.files, (after - before) / (double)stats.records);
    before = cpu_us();
    ask(archiver, last);
    (void)printf(", \"question_ms\": %.1f}\n", (cpu_us() - before) / 1e3);
}

int main(int argc, char **argv) {
    struct dbos_alloc alloc;
    struct dbos_duckdb *duck;
    struct dbos_archiver *archiver;
    struct dbos_errinfo info = {.code = DBOS_OK};
    const char *paths[] = {getenv("DBOS_DUCKDB_LIBRARY"),
                           DBOS_SOURCE_DIR "/third_party/duckdb/libduckdb.so"};
    if (argc < 2) {
        (void)fprintf(stderr, "usage: bench_archive DATA_DIR [HOT_MIB]\n");
        return 2;
    }
    dbos_alloc_init(&alloc, "archive", 0);
    if (dbos_duckdb_open(&alloc, paths, 2, &duck, &info) != DBOS_OK) {
        give_up("cannot load DuckDB", &info);
    }
    uint64_t last = last_position(&alloc, argv[1]);
    struct dbos_archiver_options options = {
        .env = dbos_env_posix(),
        .duck = duck,
        .data_dir = argv[1],
        .hot_bytes_max = argc < 3 ? 0 : strtoull(argv[2], NULL, 10) * 1048576,
    };
    if (dbos_archiver_open(&alloc, &options, &archiver, &info) != DBOS_OK) {
        give_up("cannot open the archive", &info);
    }
    if (dbos_archiver_position(archiver) != 0) {
        (void)fprintf(stderr, "bench_archive: %s/archive has rows already\n", argv[1]);
        return 2;
    }
    measure(archiver, last);
    dbos_archiver_close(archiver);
    dbos_duckdb_close(duck);
    dbos_alloc_fini(&alloc);
    return 0;
}
