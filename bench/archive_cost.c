/* Processor time of the archiver for each record of a log: bench_archive DATA_DIR [HOT_MIB].
 *
 * DATA_DIR is the data directory of a node that has ended; its folder `archive` must not be there
 * (or hold nothing). The archiver takes over the whole log, exporting each sealed segment, as its
 * process does. One line of JSON: records, exports, Parquet bytes, microseconds of user and system
 * time for each record; then questions: what they answer, and their milliseconds by the clock and
 * on the processor.
 *
 * Thread: one, and DuckDB's. Memory: an allocator of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

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

static double wall_ms(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* Questions of each kind about the Vote benchmark's tables, each with what it answers and takes. */
static void ask(struct dbos_archiver *archiver, uint64_t position) {
    static const struct {
        const char *name, *sql, *function, *table, *block;
    } questions[] = {
        {"events", "SELECT count(*), count(DISTINCT position), sum(statement) FROM prov.event",
         NULL, NULL, NULL},
        {"last_writer", "SELECT count(*) FROM dbos_call_0", "prov_last_writer", "phone_votes",
         NULL},
        {"history", "SELECT count(*) FROM dbos_call_0", "prov_history", "phone_votes",
         "block:1024"},
        {"readers", "SELECT sum(n_reads) FROM dbos_call_0", "prov_block_readers", "contestants",
         "1"},
        {"upstream", "SELECT count(*) FROM dbos_call_0", "prov_upstream", "votes", "block:10240"},
        {"as_of", "SELECT count(*) FROM dbos_call_0", "dbos_as_of", "votes", "txn:100000"},
    };
    struct dbos_archive_sink sink = {no_columns, print_row, NULL};
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        struct dbos_errinfo info = {.code = DBOS_OK};
        struct dbos_archive_value values[2] = {{.text = questions[i].table},
                                               {.text = questions[i].block}};
        struct dbos_archive_function_call call = {.function = questions[i].function,
                                                  .argument_count =
                                                      questions[i].block == NULL ? 1 : 2,
                                                  .arguments = values};
        struct dbos_archive_question question = {.position = position,
                                                 .sql = questions[i].sql,
                                                 .call_count = call.function == NULL ? 0 : 1,
                                                 .calls = &call};
        double before = wall_ms(), busy = cpu_us();
        (void)printf(", \"%s\": [", questions[i].name);
        if (dbos_archiver_query(archiver, &question, &sink, &info) != DBOS_OK) {
            give_up(questions[i].name, &info);
        }
        (void)printf("], \"%s_ms\": [%.1f, %.1f]", questions[i].name, wall_ms() - before,
                     (cpu_us() - busy) / 1e3);
    }
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
    ask(archiver, last);
    (void)printf("}\n");
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
