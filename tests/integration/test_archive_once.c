/* Exactly once: each position of the log is in the archive one time, whatever is killed when. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/integration/archive_support.h"

TestSuite(archive_once, .timeout = 300);

enum { ACC = 100, TXNS = 360, KILLS = 12 };

static const struct dbos_session_info ann = {
    .id = 11, .user = "ann", .role = "ann", .address = "127.0.0.1", .application = "test"};

/* About 2.4 MB of log in groups of at most 8 commits: two sealed segments of 1 MiB and a tail;
 * large values as objects, too. */
static uint64_t fill(struct test_node *node) {
    static char value[20000];
    struct dbos_txn *all = node->barrier;
    node->last_us = INT64_C(1700000000000000);
    test_begin(all, &ann, 0);
    struct dbos_table_def *acc = test_node_def(node, ACC, "acc", true);
    test_statement(all, "create table acc");
    DBOS_CHECK(dbos_txn_create_table(all, acc, &node->info) == DBOS_OK);
    (void)test_commit(all);
    dbos_table_def_unref(acc);
    uint64_t position = 0;
    for (int64_t i = 0; i < TXNS; i++) {
        node->last_us += INT64_C(500000000); /* several days in all */
        memset(value, 'a' + (int)(i % 26), sizeof value);
        value[i % 10 == 0 ? 10000 : 3900] = '\0';
        test_begin(all, &ann, 0);
        test_statement(all, "insert into acc");
        test_put(all, ACC, i, value, (int32_t)i);
        value[3000] = '\0';
        test_put(all, ACC, 100000 + i, value, 0);
        test_statement(all, "update acc");
        test_change(all, ACC, i, "short", -1);
        position = test_commit(all);
        memset(value, 'x', sizeof value);
        if (i % 8 == 7) {
            dbos_log_wait(node->log, position);
        }
    }
    dbos_log_wait(node->log, position);
    return position;
}

/* Every position of 1..last once; every version, too. */
static void expect_once(struct test_archive *archive, uint64_t last) {
    char expected[128];
    (void)snprintf(expected, sizeof expected, "%llu|%llu|1|%llu\n", (unsigned long long)last,
                   (unsigned long long)last, (unsigned long long)last);
    const char *text = test_rows(archive,
                                 "SELECT count(*), count(DISTINCT position), min(position), "
                                 "max(position) FROM prov.txn",
                                 NULL);
    cr_assert_str_eq(text, expected, "got %s", text);
    text = test_rows(archive,
                     "SELECT count(*), count(DISTINCT ord), sum(n_writes) = (SELECT "
                     "count(*) FROM prov.event WHERE op IN ('insert', 'update', 'delete')) "
                     "FROM prov.event, (SELECT sum(n_writes) AS n_writes FROM prov.txn)",
                     NULL);
    text = test_rows(archive, "SELECT count(*) - count(DISTINCT ord) FROM prov.event", NULL);
    cr_assert_str_eq(text, "0\n", "got %s", text);
    text = test_rows(archive,
                     "SELECT count(*), count(DISTINCT ord), count(DISTINCT block_id) "
                     "FROM (SELECT e.ord, e.block_id FROM prov.event e "
                     "WHERE table_name = 'acc' AND op IN ('insert', 'update'))",
                     NULL);
    cr_assert_str_eq(text, "1080|1080|720\n", "got %s", text);
    text = test_rows(archive, "SELECT count(*), sum(length(v)) FROM acc", NULL);
    cr_assert_str_eq(text, "720|1081800\n", "got %s", text);
    text = test_rows(archive,
                     "SELECT count(*), max(length(old_v)), min(length(old_v)) FROM "
                     "dbos_call_0 WHERE op = 'update'",
                     "prov_history", "acc", NULL);
    cr_assert_str_eq(text, "360|10000|3900\n", "got %s", text);
}

static void advance(struct test_archive *archive, uint64_t position) {
    struct dbos_errinfo info = {.code = DBOS_OK};
    cr_assert_eq(dbos_archiver_advance(archive->archiver, position, &info), DBOS_OK, "%s %s",
                 info.message, info.detail);
}

/* All but the one that holds the last batch: what a strict reader finds on disk. */
static uint64_t sealed_segments(const char *dir) {
    struct dbos_alloc alloc;
    struct dbos_log_reader *reader;
    struct dbos_batch batch = {.segment = 0};
    struct dbos_errinfo info = {.code = DBOS_OK};
    dbos_alloc_init(&alloc, "reader", 0);
    cr_assert_eq(dbos_log_reader_open(&alloc, dbos_env_posix(), dir, 1, 0, &reader, &info),
                 DBOS_OK);
    dbos_log_reader_strict(reader);
    uint32_t last = 0;
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        last = batch.segment;
    }
    dbos_log_reader_close(reader);
    dbos_alloc_fini(&alloc);
    cr_assert_gt(last, 0);
    return last - 1;
}

Test(archive_once, sealed_segments_become_files_and_a_restart_goes_on) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    struct dbos_archiver_stats stats;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    uint64_t last = fill(&node);
    test_archive_open(&archive, dir, 0);
    advance(&archive, last);
    expect_once(&archive, last);
    dbos_archiver_stats(archive.archiver, &stats);
    cr_expect_eq(stats.exports, sealed_segments(dir));
    cr_expect_geq(stats.exports, 2);
    cr_expect_eq(stats.records, last);
    uint64_t exports = stats.exports, files = stats.files;
    test_archive_close(&archive);

    test_archive_open(&archive, dir, 0);
    cr_expect_gt(dbos_archiver_position(archive.archiver), 0);
    advance(&archive, last);
    expect_once(&archive, last);
    dbos_archiver_stats(archive.archiver, &stats);
    cr_expect_eq(stats.exports, exports);
    cr_expect_eq(stats.files, files);
    cr_expect_lt(stats.records, last); /* the sealed ones were not read again */
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(archive_once, many_large_values_are_exported_before_their_segment_is_sealed) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    struct dbos_archiver_stats stats;
    uint64_t exports = 0;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    uint64_t last = fill(&node);
    for (uint64_t part = 1; part <= 4; part++) { /* and a restart after each quarter */
        test_archive_open(&archive, dir, 1);
        advance(&archive, last * part / 4);
        dbos_archiver_stats(archive.archiver, &stats);
        cr_expect_geq(stats.exports, exports);
        cr_expect(part == 1 || stats.records < last, "not from the beginning");
        exports = stats.exports;
        if (part == 4) {
            expect_once(&archive, last);
        }
        test_archive_close(&archive);
    }
    test_archive_open(&archive, dir, 0);
    cr_expect_eq(dbos_archiver_position(archive.archiver), last, "the tail was exported, too");
    expect_once(&archive, last);
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* An asynchronous log has written what a power cut can take back. */
Test(archive_once, what_is_not_known_to_be_on_disk_is_answered_and_not_exported) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    uint64_t taken = 0;
    uint64_t exported = 0;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    uint64_t last = fill(&node);
    test_archive_open(&archive, dir, 1);
    advance(&archive, 1);
    archive.as_of = last / 8; /* in the first segment, which is sealed later */
    cr_expect_str_eq(test_rows(&archive, "SELECT max(position) >= 45 FROM prov.txn", NULL), "t\n");
    dbos_archiver_progress(archive.archiver, &taken, &exported);
    cr_expect_geq(taken, last / 8);
    cr_expect_leq(exported, 1);
    advance(&archive, taken + 16); /* now it is: two groups of eight, so that one is whole */
    dbos_archiver_progress(archive.archiver, &taken, &exported);
    cr_expect_geq(exported, last / 8);
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(archive_once, strays_and_a_torn_manifest_line_are_removed) {
    char dir[64], path[512];
    struct test_node node;
    struct test_archive archive;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 2), DBOS_OK);
    uint64_t last = fill(&node);
    test_archive_open(&archive, dir, 0);
    advance(&archive, last);
    test_archive_close(&archive);

    (void)snprintf(path, sizeof path, "%s/archive/MANIFEST.jsonl", dir);
    FILE *manifest = fopen(path, "a");
    cr_assert_not_null(manifest);
    (void)fprintf(manifest, "{\"format\":1,\"schema_version\":1,\"segment\":9,\"records\":1");
    (void)fclose(manifest);
    (void)snprintf(
        path, sizeof path,
        "cd %s/archive/txn/day=2023-11-15 && for f in *.parquet; do cp $f stray.parquet; "
        "cp $f part-99999999-1-2.parquet.tmp; done",
        dir);
    cr_assert_eq(system(path), 0);
    test_archive_open(&archive, dir, 0);
    advance(&archive, last);
    expect_once(&archive, last);
    test_archive_close(&archive);
    (void)snprintf(path, sizeof path, "ls %s/archive/txn/day=2023-11-15 | grep -c -e stray -e tmp",
                   dir);
    cr_expect_neq(system(path), 0, "strays are gone");
    test_node_close(&node);
    test_dir_remove(dir);
}

/* The program itself, as dbosd starts it; returns the process, *out our end of the socket. */
static pid_t start_archiver(const char *dir, int *out) {
    int ends[2];
    cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    pid_t child = fork();
    if (child == 0) {
        if (ends[1] == DBOS_ARCHIVE_FD) {
            (void)fcntl(ends[1], F_SETFD, 0);
        } else {
            (void)dup2(ends[1], DBOS_ARCHIVE_FD);
        }
        (void)execl(DBOS_BIN_DIR "/dbos-archiver", "dbos-archiver", dir, (char *)NULL);
        _exit(127);
    }
    (void)close(ends[1]);
    *out = ends[0];
    return child;
}

static void send_advance(int socket, uint64_t position) {
    struct dbos_alloc alloc;
    struct dbos_buf frame, payload;
    const struct dbos_archive_advance advance = {.position = position};
    dbos_alloc_init(&alloc, "frame", 0);
    dbos_buf_init(&frame, &alloc);
    dbos_buf_init(&payload, &alloc);
    dbos_archive_put_advance(&payload, &advance);
    dbos_archive_put_frame(&frame, DBOS_ARCHIVE_ADVANCE, 0, payload.data, payload.size_bytes);
    cr_assert_eq(send(socket, frame.data, frame.size_bytes, MSG_NOSIGNAL),
                 (ssize_t)frame.size_bytes);
    dbos_buf_fini(&payload);
    dbos_buf_fini(&frame);
    dbos_alloc_fini(&alloc);
}

Test(archive_once, a_killed_archiver_loses_and_repeats_nothing) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    struct dbos_rng rng;
    dbos_rng_init(&rng, 7);
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    uint64_t last = fill(&node);
    for (int i = 0; i < KILLS; i++) {
        int socket, status;
        pid_t child = start_archiver(dir, &socket);
        send_advance(socket, last);
        /* From before it is open until after the exports, in growing steps. */
        (void)usleep((useconds_t)(i * 60000 + (int)dbos_rng_below(&rng, 60000)));
        (void)kill(child, SIGKILL);
        (void)waitpid(child, &status, 0);
        cr_expect(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "it ran until the kill");
        (void)close(socket);
    }
    test_archive_open(&archive, dir, 0);
    advance(&archive, last);
    expect_once(&archive, last);
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}
