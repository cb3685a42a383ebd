#include "txn/log.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/hash.h"
#include "provenance/segment_format.h"
#include "tests/unit/txn/txn_support.h"
#include "txn/log_internal.h"

TestSuite(txn_log, .timeout = 120);

static const struct test_log_options plain = {0};

static void open_ok(struct test_log *t, const char *dir, const struct test_log_options *options) {
    enum dbos_err err = test_log_open(t, dir, options);
    cr_assert_eq(err, DBOS_OK, "%s: %s %s", dbos_err_name(err), t->info.message, t->info.detail);
}

static void start_ok(struct test_log *t, const struct test_log_options *options) {
    cr_assert_eq(test_log_start(t, options), DBOS_OK, "%s", t->info.message);
}

/* The log has exactly the positions 1..last, and says the hash that belongs to them. */
static void expect_log(const char *dir, uint64_t last) {
    struct test_log t;
    uint64_t hash = 0;
    open_ok(&t, dir, &plain);
    for (uint64_t position = 1; position <= last; position++) {
        hash += (uint64_t)test_hash_delta(position);
    }
    cr_expect_eq(t.recovery.last_position, last);
    cr_expect_eq(t.recovery.records, last);
    cr_expect_eq(t.recovery.state_hash, hash);
    cr_expect_eq(t.recovery.last_commit_us, (int64_t)last * 10);
    test_log_close(&t);
}

/* --- ordinary life --------------------------------------------------------------------------- */

Test(txn_log, what_was_appended_is_there_after_a_restart_and_positions_go_on) {
    char dir[64];
    struct test_log t;
    struct dbos_uuid database = {{0}};
    test_dir_make(dir, sizeof dir);
    for (uint64_t round = 0; round < 4; round++) {
        open_ok(&t, dir, &plain);
        struct dbos_uuid now = dbos_log_database(t.log);
        cr_expect(round == 0 || memcmp(&now, &database, sizeof now) == 0, "another identity");
        database = now;
        cr_expect_eq(t.recovery.last_position, round * 50);
        cr_expect_eq(dbos_log_durable(t.log), round * 50);
        start_ok(&t, &plain);
        for (uint64_t i = 1; i <= 50; i++) {
            uint64_t position = test_log_append(&t, i * 13, i % 10 == 0 ? 4096 + i : 0);
            cr_assert_eq(position, round * 50 + i);
            if (i % 7 == 0) {
                dbos_log_wait(t.log, position);
                cr_expect_geq(dbos_log_durable(t.log), position);
            }
        }
        test_log_close(&t);
    }
    expect_log(dir, 200);
    test_dir_remove(dir);
}

struct producer {
    struct test_log *t;
    pthread_t thread;
};

static void *produce(void *arg) {
    struct producer *producer = arg;
    for (int i = 0; i < 500; i++) {
        uint64_t position = test_log_append(producer->t, (size_t)i % 700, 0);
        if (i % 50 == 0) {
            dbos_log_wait(producer->t->log, position);
        }
    }
    return NULL;
}

static void check_monotone(void *arg) {
    struct test_log *t = arg;
    static uint64_t seen; /* only the log thread calls */
    uint64_t durable = dbos_log_durable(t->log);
    DBOS_CHECK(durable >= seen);
    seen = durable;
}

Test(txn_log, many_producers_become_one_order_in_few_syncs) {
    char dir[64];
    struct test_log t;
    struct producer producers[4];
    struct dbos_log_stats stats;
    uint64_t position = 0;
    uint64_t hash = 0;
    test_dir_make(dir, sizeof dir);
    struct test_log_options options = {.on_durable = check_monotone, .arg = &t};
    open_ok(&t, dir, &options);
    start_ok(&t, &options);
    for (int i = 0; i < 4; i++) {
        producers[i].t = &t;
        cr_assert_eq(pthread_create(&producers[i].thread, NULL, produce, &producers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        (void)pthread_join(producers[i].thread, NULL);
    }
    dbos_log_wait(t.log, 2000);
    dbos_log_stats(t.log, &stats);
    cr_expect_eq(stats.records, 2000);
    cr_expect_lt(stats.batches, 2000, "nothing was grouped");
    cr_expect_gt(stats.segments, 1);
    dbos_log_state_hash(t.log, &position, &hash);
    cr_expect_eq(position, 2000);
    test_log_close(&t);
    expect_log(dir, 2000);
    test_dir_remove(dir);
}

Test(txn_log, records_larger_than_a_segment_and_than_the_write_buffer_fit) {
    char dir[64];
    struct test_log t;
    static const size_t sizes[] = {10, 70000, 5, 200000, 6000000, 0, 65536, 100};
    test_dir_make(dir, sizeof dir);
    open_ok(&t, dir, &plain);
    start_ok(&t, &plain);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t position = test_log_append(&t, sizes[i], 0);
        if (i % 2 == 1) {
            dbos_log_wait(t.log, position);
        }
    }
    test_log_close(&t);
    expect_log(dir, sizeof sizes / sizeof *sizes);
    test_dir_remove(dir);
}

Test(txn_log, an_equal_object_is_written_once) {
    char dir[64];
    struct test_log t;
    struct dbos_log_stats stats;
    test_dir_make(dir, sizeof dir);
    for (int round = 0; round < 2; round++) {
        open_ok(&t, dir, &plain);
        start_ok(&t, &plain);
        for (int i = 0; i < 5; i++) {
            (void)test_log_append(&t, 100, 50000);
        }
        dbos_log_wait(t.log, dbos_log_last_position(t.log));
        dbos_log_stats(t.log, &stats);
        cr_expect_eq(stats.blob_bytes, round == 0 ? dbos_blob_file_bytes(50000) : 0);
        test_log_close(&t);
    }
    expect_log(dir, 10);
    test_dir_remove(dir);
}

Test(txn_log, async_moves_the_watermark_before_the_sync_and_syncs_in_time) {
    char dir[64];
    struct test_log t;
    struct env_fault fault;
    test_dir_make(dir, sizeof dir);
    env_fault_init(&fault, 1);
    struct test_log_options options = {
        .env = &fault.env, .durability = DBOS_DURABILITY_ASYNC, .flush_ms = 300};
    open_ok(&t, dir, &options);
    start_ok(&t, &options);
    (void)pthread_mutex_lock(&fault.lock);
    uint64_t syncs = fault.syncs;
    (void)pthread_mutex_unlock(&fault.lock);
    dbos_log_wait(t.log, test_log_append(&t, 100, 0));
    (void)pthread_mutex_lock(&fault.lock);
    cr_expect_eq(fault.syncs, syncs, "the watermark waited for a sync");
    (void)pthread_mutex_unlock(&fault.lock);
    bool synced = false;
    for (int i = 0; i < 300 && !synced; i++) {
        usleep(10000);
        (void)pthread_mutex_lock(&fault.lock);
        synced = fault.syncs > syncs;
        (void)pthread_mutex_unlock(&fault.lock);
    }
    cr_expect(synced, "no sync came by itself");
    test_log_close(&t);
    env_fault_fini(&fault);
    expect_log(dir, 1);
    test_dir_remove(dir);
}

static uint64_t syncs_of(struct test_log *t) {
    struct dbos_log_stats stats;
    dbos_log_stats(t->log, &stats);
    return stats.syncs;
}

struct stream {
    struct test_log *t;
    _Atomic uint32_t stop;
    uint64_t appended;
};

/* So densely that there is always more when the log has written. */
static void *append_on_and_on(void *arg) {
    struct stream *stream = arg;
    dbos_log_producer_works(stream->t->log);
    while (atomic_load(&stream->stop) == 0) {
        (void)test_log_append(stream->t, 0, 0);
        stream->appended++;
        (void)usleep(500);
    }
    dbos_log_producer_rests(stream->t->log);
    return NULL;
}

Test(txn_log, async_syncs_in_time_also_while_more_and_more_comes) {
    char dir[64];
    struct test_log t;
    struct env_fault fault;
    pthread_t thread;
    test_dir_make(dir, sizeof dir);
    env_fault_init(&fault, 1);
    atomic_store(&fault.write_delay_us, 10000);
    struct test_log_options options = {
        .env = &fault.env,
        .durability = DBOS_DURABILITY_ASYNC,
        .flush_ms = 50,
        .segment_bytes = 16 << 20, /* none is passed meanwhile */
    };
    open_ok(&t, dir, &options);
    start_ok(&t, &options);
    struct stream stream = {.t = &t};
    uint64_t syncs = syncs_of(&t);
    cr_assert_eq(pthread_create(&thread, NULL, append_on_and_on, &stream), 0);
    bool synced = false;
    for (int i = 0; i < 300 && !synced; i++) {
        (void)usleep(10000);
        synced = syncs_of(&t) >= syncs + 10;
    }
    atomic_store(&stream.stop, 1);
    (void)pthread_join(thread, NULL);
    cr_expect(synced, "%llu syncs in 3 s", (unsigned long long)(syncs_of(&t) - syncs));
    test_log_close(&t);
    env_fault_fini(&fault);
    expect_log(dir, stream.appended);
    test_dir_remove(dir);
}

/* Whoever says that more is on its way and then brings nothing holds nobody up for ever. */
Test(txn_log, a_producer_that_never_rests_delays_a_commit_but_does_not_stop_it) {
    char dir[64];
    struct test_log t;
    test_dir_make(dir, sizeof dir);
    open_ok(&t, dir, &plain);
    start_ok(&t, &plain);
    dbos_log_producer_works(t.log);
    for (int i = 0; i < 20; i++) {
        dbos_log_wait(t.log, test_log_append(&t, 100, 0));
    }
    dbos_log_producer_rests(t.log);
    test_log_close(&t);
    expect_log(dir, 20);
    test_dir_remove(dir);
}

Test(txn_log, what_is_appended_during_a_hold_is_written_at_its_end) {
    char dir[64];
    struct test_log t;
    test_dir_make(dir, sizeof dir);
    open_ok(&t, dir, &plain);
    start_ok(&t, &plain);
    (void)usleep(50000); /* the log thread sleeps */
    dbos_log_hold(t.log);
    uint64_t position = 0;
    for (int i = 0; i < 5; i++) {
        position = test_log_append(&t, 100, 0);
    }
    (void)usleep(50000);
    cr_expect_eq(dbos_log_durable(t.log), 0, "it was woken");
    dbos_log_release(t.log, false);
    dbos_log_wait(t.log, position);
    test_log_close(&t);
    expect_log(dir, 5);
    test_dir_remove(dir);
}

Test(txn_log, a_release_here_has_written_when_it_returns_unless_the_log_thread_is_at_it) {
    enum { ROUNDS = 50 };
    char dir[64];
    struct test_log t;
    int at_once = 0; /* a busy machine may keep the log thread awake in most rounds */
    test_dir_make(dir, sizeof dir);
    open_ok(&t, dir, &plain);
    start_ok(&t, &plain);
    for (int i = 0; i < ROUNDS; i++) {
        (void)usleep(2000);
        dbos_log_hold(t.log);
        uint64_t position = test_log_append(&t, 100, i % 10 == 0 ? 5000 : 0);
        dbos_log_release(t.log, true);
        at_once += dbos_log_durable(t.log) == position;
        dbos_log_wait(t.log, position);
    }
    cr_expect_gt(at_once, 0);
    test_log_close(&t);
    expect_log(dir, ROUNDS);
    test_dir_remove(dir);
}

/* --- the directory --------------------------------------------------------------------------- */

Test(txn_log, a_directory_in_use_is_refused) {
    char dir[64];
    struct test_log first;
    struct test_log second;
    uint64_t seed = 0;
    test_dir_make(dir, sizeof dir);
    open_ok(&first, dir, &plain);
    cr_expect_eq(test_log_open(&second, dir, &plain), DBOS_ERR_DUPLICATE_OBJECT);
    cr_expect_eq(dbos_log_object_seed(dbos_env_posix(), dir, &seed, NULL),
                 DBOS_ERR_DUPLICATE_OBJECT);
    test_log_close(&first);
    open_ok(&second, dir, &plain);
    test_log_close(&second);
    test_dir_remove(dir);
}

/* `appends` batches, each synced before the next. */
static void make_log(const char *dir, int appends, const struct test_log_options *options,
                     size_t object_bytes) {
    struct test_log t;
    open_ok(&t, dir, options);
    start_ok(&t, options);
    for (int i = 0; i < appends; i++) {
        dbos_log_wait(t.log, test_log_append(&t, 1500, object_bytes));
    }
    test_log_close(&t);
}

static struct {
    char path[80]; /* whose sync fails */
    enum dbos_err err;
    uint32_t syncs; /* of it */
} parent;

static enum dbos_err sync_not_parent(struct dbos_env *env, const char *path,
                                     struct dbos_errinfo *info) {
    if (strcmp(path, parent.path) != 0) {
        return dbos_env_posix()->ops->dir_sync(env, path, info);
    }
    parent.syncs++;
    return parent.err == DBOS_OK ? DBOS_OK : dbos_fail(info, parent.err, "planned");
}

/* A directory that is made has its own name on disk before there is anything in it. */
Test(txn_log, the_name_of_a_new_directory_is_synced_where_its_parent_can_be_read) {
    static const enum dbos_err errors[] = {DBOS_OK, DBOS_ERR_PRIVILEGE, DBOS_ERR_IO};
    struct dbos_env_ops ops = *dbos_env_posix()->ops;
    struct dbos_env env = {.ops = &ops};
    struct test_log t;
    char dir[96];
    ops.dir_sync = sync_not_parent;
    for (size_t i = 0; i < 3; i++) {
        test_dir_make(parent.path, sizeof parent.path);
        (void)snprintf(dir, sizeof dir, "%s/data//", parent.path);
        parent.err = errors[i];
        parent.syncs = 0;
        struct test_log_options options = {.env = &env};
        enum dbos_err err = test_log_open(&t, dir, &options);
        cr_expect_eq(err, errors[i] == DBOS_ERR_IO ? DBOS_ERR_IO : DBOS_OK);
        cr_expect_geq(parent.syncs, 1);
        if (err == DBOS_OK) {
            test_log_close(&t);
        }
        test_dir_remove(parent.path);
    }
}

static int shell(const char *dir, const char *command) {
    char text[800];
    (void)snprintf(text, sizeof text, "cd '%s' && %s", dir, command);
    return system(text);
}

Test(txn_log, missing_files_are_corruption_and_nothing_is_changed) {
    static const struct {
        const char *damage;
        const char *words;
    } cases[] = {
        {"rm identity", "identity"},
        {"rm log/00000001.seg", "missing"},
        {"rm log/00000002.seg", "missing"},
        {"rm blobs/*", "object"},
        {"cp $OTHER/log/00000002.seg log/00000002.seg", "another database"},
        {"cp log/00000001.seg log/00000002.seg", "number"},
        {"cp $OTHER/identity identity", "does not belong"},
        {"truncate -s 5000 log/00000001.seg", "ends"},
        {"truncate -s 40 identity", "short"},
        {"truncate -s 3000 blobs/00000001.blob", "object"},
    };
    char dir[64];
    char copy[80];
    char other[64];
    struct test_log t;
    test_dir_make(dir, sizeof dir);
    (void)snprintf(copy, sizeof copy, "%s-copy", dir);
    test_dir_make(other, sizeof other);
    cr_assert_eq(setenv("OTHER", other, 1), 0);
    make_log(dir, 90, &plain, 5000);
    make_log(other, 90, &plain, 5000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        test_dir_copy(dir, copy);
        cr_assert_eq(shell(copy, cases[i].damage), 0);
        cr_assert_eq(shell(copy, "find . -type f ! -name lock | sort | xargs cat | md5sum > "
                                 "$OTHER/before"),
                     0);
        enum dbos_err err = test_log_open(&t, copy, &plain);
        cr_expect_eq(err, DBOS_ERR_CORRUPT, "%s: %s", cases[i].damage, dbos_err_name(err));
        cr_expect(strstr(t.info.message, cases[i].words) != NULL, "%s: %s", cases[i].damage,
                  t.info.message);
        cr_expect_eq(shell(copy, "find . -type f ! -name lock | sort | xargs cat | md5sum | cmp "
                                 "$OTHER/before -"),
                     0, "%s: a refused directory was changed", cases[i].damage);
    }
    expect_log(dir, 90);
    test_dir_remove(other);
    test_dir_remove(copy);
    test_dir_remove(dir);
}

/* --- torn or corrupt ------------------------------------------------------------------------- */

struct place {
    uint32_t segment;
    uint64_t offset;
    uint64_t end;
};

/* Where the batches lie; returns their number. */
static size_t find_batches(const char *dir, struct place *places, size_t max) {
    struct dbos_alloc alloc;
    struct dbos_log_reader *reader = NULL;
    struct dbos_errinfo info;
    size_t count = 0;
    dbos_alloc_init(&alloc, "find", 0);
    cr_assert_eq(dbos_log_reader_open(&alloc, dbos_env_posix(), dir, 1, 0, &reader, &info),
                 DBOS_OK);
    struct dbos_batch batch;
    while (count < max && dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        places[count++] = (struct place){batch.segment, batch.offset, batch.end_offset};
    }
    dbos_log_reader_close(reader);
    dbos_alloc_fini(&alloc);
    return count;
}

static int open_segment(const char *dir, uint32_t number) {
    char path[DBOS_PATH_BYTES];
    dbos_segment_path(path, dir, number);
    int file = open(path, O_RDWR);
    cr_assert_geq(file, 0, "%s", path);
    return file;
}

static void zero(const char *dir, uint32_t segment, uint64_t from, uint64_t to) {
    static const uint8_t zeroes[65536];
    int file = open_segment(dir, segment);
    cr_assert_eq(pwrite(file, zeroes, to - from, (off_t)from), (ssize_t)(to - from));
    (void)close(file);
}

/* Recover: the last position, 0 = CORRUPT. */
static uint64_t recovered(const char *dir, uint64_t *torn_bytes) {
    struct test_log t;
    enum dbos_err err = test_log_open(&t, dir, &plain);
    *torn_bytes = 0;
    if (err != DBOS_OK) {
        cr_expect_eq(err, DBOS_ERR_CORRUPT, "%s", t.info.message);
        return 0;
    }
    uint64_t last = t.recovery.last_position;
    *torn_bytes = t.recovery.torn_bytes;
    test_log_close(&t);
    return last;
}

Test(txn_log, an_unfinished_last_batch_is_cut_and_a_hole_before_a_later_one_is_corruption) {
    char dir[64];
    char copy[80];
    struct place places[10];
    uint64_t torn = 0;
    test_dir_make(dir, sizeof dir);
    (void)snprintf(copy, sizeof copy, "%s-copy", dir);
    make_log(dir, 5, &plain, 0);
    cr_assert_eq(find_batches(dir, places, 10), 5);
    for (size_t batch = 0; batch < 5; batch++) {
        uint64_t sectors = (places[batch].end - places[batch].offset) / DBOS_SECTOR_BYTES;
        cr_assert_eq(sectors, 4);
        /* Every choice of sectors that did not reach the disk. */
        for (unsigned lost = 1; lost < 16; lost++) {
            test_dir_copy(dir, copy);
            for (uint64_t i = 0; i < sectors; i++) {
                uint64_t at = places[batch].offset + i * DBOS_SECTOR_BYTES;
                if ((lost >> i & 1) != 0) {
                    zero(copy, 1, at, at + DBOS_SECTOR_BYTES);
                }
            }
            uint64_t last = recovered(copy, &torn);
            if (batch < 4) {
                cr_expect_eq(last, 0, "batch %zu, sectors %x: cut to %lu", batch, lost, last);
                continue;
            }
            cr_expect_eq(last, 4, "sectors %x: %lu", lost, last);
            unsigned left = 4 - (unsigned)__builtin_popcount(lost);
            cr_expect_eq(torn, left * DBOS_SECTOR_BYTES, "sectors %x: %lu", lost, torn);
            make_log(copy, 2, &plain, 0); /* and it goes on */
            cr_expect_eq(recovered(copy, &torn), 6);
        }
    }
    test_dir_remove(copy);
    test_dir_remove(dir);
}

Test(txn_log, async_batches_without_a_sync_between_them_are_cut_at_the_first_hole) {
    char dir[64];
    struct place places[10];
    uint64_t torn = 0;
    struct test_log_options options = {.durability = DBOS_DURABILITY_ASYNC, .flush_ms = 100000};
    test_dir_make(dir, sizeof dir);
    make_log(dir, 5, &options, 0);
    cr_assert_eq(find_batches(dir, places, 10), 5);
    zero(dir, 1, places[2].offset + DBOS_SECTOR_BYTES, places[2].end);
    cr_expect_eq(recovered(dir, &torn), 2);
    cr_expect_eq(torn, 9 * DBOS_SECTOR_BYTES);
    cr_expect_eq(recovered(dir, &torn), 2);
    cr_expect_eq(torn, 0);
    test_dir_remove(dir);
}

Test(txn_log, a_torn_first_write_of_a_new_segment_is_cut_and_a_lost_header_is_not) {
    char dir[64];
    char copy[80];
    struct place places[100];
    uint64_t torn = 0;
    test_dir_make(dir, sizeof dir);
    (void)snprintf(copy, sizeof copy, "%s-copy", dir);
    int appends = 1;
    size_t count = 0;
    do { /* until segment 2 has one batch */
        make_log(dir, 1, &plain, 0);
        count = find_batches(dir, places, 100);
        cr_assert_eq(count, (size_t)appends);
        appends++;
    } while (places[count - 1].segment == 1);
    test_dir_copy(dir, copy);
    zero(copy, 2, 0, DBOS_SEGMENT_HEADER_BYTES);
    cr_expect_eq(recovered(copy, &torn), count - 1);
    make_log(copy, 3, &plain, 0);
    cr_expect_eq(recovered(copy, &torn), count + 2);
    test_dir_copy(dir, copy);
    zero(copy, 2, DBOS_SEGMENT_HEADER_BYTES, places[count - 1].end);
    cr_expect_eq(recovered(copy, &torn), count - 1);
    make_log(copy, 3, &plain, 0);
    cr_expect_eq(recovered(copy, &torn), count + 2);
    /* With two more batches the header had been there. */
    make_log(dir, 2, &plain, 0);
    zero(dir, 2, 0, DBOS_SEGMENT_HEADER_BYTES);
    cr_expect_eq(recovered(dir, &torn), 0);
    test_dir_remove(copy);
    test_dir_remove(dir);
}

static void flip(const char *path, uint64_t offset, unsigned bit) {
    uint8_t byte = 0;
    int file = open(path, O_RDWR);
    cr_assert_geq(file, 0);
    cr_assert_eq(pread(file, &byte, 1, (off_t)offset), 1);
    byte = (uint8_t)(byte ^ (1u << bit));
    cr_assert_eq(pwrite(file, &byte, 1, (off_t)offset), 1);
    (void)close(file);
}

/* Flip a bit each `step` bytes of [from, to) of a file: recovery must refuse each. */
static void expect_flips_detected(const char *dir, const char *path, uint64_t from, uint64_t to,
                                  uint64_t step) {
    uint64_t torn = 0;
    for (uint64_t at = from; at < to; at += step) {
        unsigned bit = (unsigned)(at * 5 % 8);
        flip(path, at, bit);
        uint64_t last = recovered(dir, &torn);
        cr_expect_eq(last, 0, "%s: bit %u of byte %lu was not noticed", path, bit, at);
        flip(path, at, bit);
        if (last != 0) {
            return;
        }
    }
}

Test(txn_log, a_flipped_bit_anywhere_is_noticed_and_never_cut) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct place places[40];
    test_dir_make(dir, sizeof dir);
    make_log(dir, 33, &plain, 5000);
    size_t count = find_batches(dir, places, 40);
    cr_assert_eq(places[count - 1].segment, 2);
    uint64_t last = places[count - 1].offset;
    dbos_segment_path(path, dir, 1);
    expect_flips_detected(dir, path, 0, DBOS_SEGMENT_HEADER_BYTES, 41);
    expect_flips_detected(dir, path, DBOS_SEGMENT_HEADER_BYTES, 65536, 1021);
    dbos_segment_path(path, dir, 2);
    expect_flips_detected(dir, path, 0, DBOS_SEGMENT_HEADER_BYTES, 97);
    /* Each byte of the heads of the last batch: nothing behind it helps. */
    expect_flips_detected(dir, path, last, last + 12 + 64, 1);
    expect_flips_detected(dir, path, last + 76, places[count - 1].end, 101);
    expect_flips_detected(dir, path, places[count - 1].end, 65536, 3001); /* never written */
    dbos_blob_path(path, dir, 1);
    expect_flips_detected(dir, path, 0, 64 + 5000, 71);
    dbos_log_path(path, dir, "identity");
    expect_flips_detected(dir, path, 0, 64, 1);
    expect_log(dir, 33);
    test_dir_remove(dir);
}

static enum dbos_err check_blobs(const char *dir) {
    struct dbos_alloc alloc;
    struct dbos_blob_index *index = NULL;
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&alloc, "blobs", 0);
    enum dbos_err err = dbos_blob_index_open(&alloc, dbos_env_posix(), dir, &index, &info);
    if (err == DBOS_OK) {
        err = dbos_blob_index_check_end(index, UINT64_MAX, 1, &info);
    }
    dbos_blob_index_close(index);
    dbos_alloc_fini(&alloc);
    return err;
}

/* No record behind the newest snapshot may name it, and still the archive wants it. */
Test(txn_log, a_damaged_header_of_the_last_large_value_is_no_torn_end) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct dbos_stored_blob blob;
    static const struct dbos_stored_blob nothing;
    test_dir_make(dir, sizeof dir);
    make_log(dir, 9, &plain, 5000);
    dbos_blob_path(path, dir, 1);
    int file = open(path, O_RDWR);
    cr_assert_geq(file, 0);
    off_t last = lseek(file, 0, SEEK_END) - (off_t)dbos_blob_file_bytes(5000);
    cr_assert_eq(pread(file, &blob, sizeof blob, last), (ssize_t)sizeof blob);
    cr_assert_eq(check_blobs(dir), DBOS_OK);
    for (size_t bit = 0; bit < 8 * sizeof blob; bit++) {
        struct dbos_stored_blob other = blob;
        ((uint8_t *)&other)[bit / 8] ^= (uint8_t)(1U << bit % 8);
        cr_assert_eq(pwrite(file, &other, sizeof other, last), (ssize_t)sizeof other);
        enum dbos_err err = check_blobs(dir);
        cr_expect(err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION, "bit %zu: %s", bit,
                  dbos_err_name(err));
    }
    cr_assert_eq(pwrite(file, &nothing, sizeof nothing, last), (ssize_t)sizeof nothing);
    cr_expect_eq(check_blobs(dir), DBOS_OK, "its write may have been torn");
    (void)close(file);
    test_dir_remove(dir);
}

Test(txn_log, a_newer_format_is_refused_by_name) {
    char dir[64];
    struct test_log t;
    struct dbos_stored_batch batch;
    struct place places[4];
    uint8_t sector[DBOS_SECTOR_BYTES];
    test_dir_make(dir, sizeof dir);
    make_log(dir, 1, &plain, 0);
    cr_assert_eq(find_batches(dir, places, 4), 1);
    int file = open_segment(dir, 1);
    cr_assert_eq(pread(file, sector, sizeof sector, (off_t)places[0].offset), 512);
    memcpy(&batch, sector + 12, sizeof batch);
    batch.version = DBOS_BATCH_FORMAT_VERSION + 1;
    batch.crc = dbos_crc32c(0, &batch, offsetof(struct dbos_stored_batch, crc));
    memcpy(sector + 12, &batch, sizeof batch);
    dbos_sector_seal(sector, 1, (uint32_t)(places[0].offset / 512), 0);
    cr_assert_eq(pwrite(file, sector, sizeof sector, (off_t)places[0].offset), 512);
    (void)close(file);
    cr_expect_eq(test_log_open(&t, dir, &plain), DBOS_ERR_FORMAT_VERSION);
    test_dir_remove(dir);
}

/* --- crashes --------------------------------------------------------------------------------- */

enum { SCENARIO_FAILED_CLEANLY = 10, SCENARIO_WENT_ON = 12, SCENARIO_LAST = 24 };

static struct env_fault scenario_fault; /* of the child */

static void note_acknowledged(void *arg) {
    struct test_log *t = arg;
    _Atomic uint64_t *acknowledged = (void *)(t + 1);
    if (env_fault_met_here(&scenario_fault)) {
        _exit(SCENARIO_WENT_ON); /* the log thread saw a failure and acknowledges all the same */
    }
    /* In the log thread, so its own facts may be read: async promises only what was synced. */
    bool is_sync = t->log->durability == DBOS_DURABILITY_SYNC;
    atomic_store(acknowledged, is_sync ? dbos_log_durable(t->log) : t->log->synced);
}

struct scenario {
    const char *dir;
    enum env_fault_action action;
    int64_t n;
    uint64_t seed;
    enum dbos_durability durability;
};

/* In a child: open, recover, append some of everything, close. `shared` outlives it. The same seed
 * appends the same objects. */
static noreturn void run_scenario(const struct scenario *scenario, struct test_log *shared) {
    uint64_t seed = scenario->seed;
    env_fault_init(&scenario_fault, seed * 31 + (uint64_t)scenario->n);
    env_fault_arm(&scenario_fault, scenario->action, scenario->n);
    struct test_log_options options = {.env = &scenario_fault.env,
                                       .durability = scenario->durability,
                                       .segment_bytes = 16384,
                                       .flush_ms = 1,
                                       .on_durable = note_acknowledged,
                                       .arg = shared};
    if (test_log_open(shared, scenario->dir, &options) != DBOS_OK ||
        test_log_start(shared, &options) != DBOS_OK) {
        _exit(shared->info.code == DBOS_ERR_IO ? SCENARIO_FAILED_CLEANLY : 11);
    }
    for (uint64_t i = 0; i < SCENARIO_LAST; i++) {
        size_t object = i % 5 == 1 ? 4096 + 3000 * (i + seed % 7) : 0;
        uint64_t position = test_log_append(shared, 37 * ((i * seed) % 60), object);
        if ((i + seed) % 3 == 0) {
            dbos_log_wait(shared->log, position);
        }
    }
    test_log_close(shared);
    _exit(0);
}

static int run_child(const struct scenario *scenario, struct test_log *shared) {
    int status = 0;
    (void)fflush(NULL);
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        int quiet = open("/dev/null", O_WRONLY);
        (void)dup2(quiet, STDERR_FILENO);
        run_scenario(scenario, shared);
    }
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "seed %lu, n %ld: signal %d", scenario->seed, scenario->n,
              WTERMSIG(status));
    return WEXITSTATUS(status);
}

static struct test_log *share(_Atomic uint64_t **acknowledged) {
    struct test_log *shared =
        mmap(NULL, sizeof *shared + 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(shared, MAP_FAILED);
    *acknowledged = (void *)(shared + 1);
    return shared;
}

static void expect_acknowledged(const char *dir, uint64_t acknowledged, uint64_t seed, int64_t n) {
    struct test_log t;
    enum dbos_err err = test_log_open(&t, dir, &plain);
    cr_assert_eq(err, DBOS_OK, "seed %lu, n %ld: %s %s", seed, n, t.info.message, t.info.detail);
    cr_expect_geq(t.recovery.last_position, acknowledged, "seed %lu, n %ld: %lu < %lu", seed, n,
                  t.recovery.last_position, acknowledged);
    test_log_close(&t);
}

/* Cut at operation n; often again in what follows; then a whole run of the same appends, so that
 * objects of the lost writes come back. Returns whether operation n was reached. */
static bool cut_and_recover(struct scenario scenario, struct test_log *shared,
                            _Atomic uint64_t *acknowledged) {
    char dir[64];
    test_dir_make(dir, sizeof dir);
    scenario.dir = dir;
    atomic_store(acknowledged, 0);
    int status = run_child(&scenario, shared);
    cr_assert(status == ENV_FAULT_POWER_CUT || status == 0, "status %d", status);
    bool reached = status == ENV_FAULT_POWER_CUT;
    expect_acknowledged(dir, atomic_load(acknowledged), scenario.seed, scenario.n);
    if (scenario.n % 2 == 0) {
        struct scenario again = scenario;
        again.n = 1 + scenario.n % 17;
        (void)run_child(&again, shared);
    }
    uint64_t before = atomic_load(acknowledged);
    scenario.action = ENV_FAULT_NONE;
    cr_assert_eq(run_child(&scenario, shared), 0, "seed %lu, n %ld: no start after a cut",
                 scenario.seed, scenario.n);
    cr_expect_geq(atomic_load(acknowledged), before + SCENARIO_LAST);
    expect_acknowledged(dir, atomic_load(acknowledged), scenario.seed, scenario.n);
    test_dir_remove(dir);
    return reached;
}

static uint64_t cut_everywhere(enum dbos_durability durability, uint64_t seeds) {
    _Atomic uint64_t *acknowledged = NULL;
    struct test_log *shared = share(&acknowledged);
    uint64_t cuts = 0;
    for (uint64_t seed = 1; seed <= seeds; seed++) {
        struct scenario scenario = {
            .action = ENV_FAULT_CUT, .n = 1, .seed = seed, .durability = durability};
        for (; cut_and_recover(scenario, shared, acknowledged); scenario.n++) {
            cuts++;
        }
    }
    (void)munmap(shared, sizeof *shared + 64);
    return cuts;
}

Test(txn_log, a_power_cut_at_any_operation_loses_nothing_acknowledged) {
    cr_expect_gt(cut_everywhere(DBOS_DURABILITY_SYNC, 3), 100);
}

Test(txn_log, async_a_power_cut_at_any_operation_leaves_a_log_that_can_be_recovered) {
    cr_expect_gt(cut_everywhere(DBOS_DURABILITY_ASYNC, 3), 100);
}

/* In a child: pass to segment 2, more than half of it in one batch; when the file of segment 3 is
 * there, everything that was not synced is lost. */
static noreturn void cut_when_prepared(const char *dir, const struct test_log_options *options,
                                       struct test_log *shared) {
    char path[DBOS_PATH_BYTES];
    if (test_log_open(shared, dir, options) != DBOS_OK ||
        test_log_start(shared, options) != DBOS_OK) {
        _exit(11);
    }
    dbos_log_wait(shared->log, test_log_append(shared, 11000, 0));
    atomic_store(&scenario_fault.sync_delay_us, 200000); /* the preparer has time to be too early */
    (void)test_log_append(shared, 9000, 0);
    dbos_segment_path(path, dir, 3);
    for (int i = 0; i < 20000 && access(path, F_OK) != 0; i++) {
        usleep(1000);
    }
    (void)pthread_mutex_lock(&scenario_fault.lock);
    env_fault_cut(&scenario_fault);
    _exit(13);
}

Test(txn_log, the_next_segment_is_prepared_only_when_the_header_of_this_one_is_on_disk) {
    _Atomic uint64_t *acknowledged = NULL;
    struct test_log *shared = share(&acknowledged);
    static const enum dbos_durability kinds[] = {DBOS_DURABILITY_SYNC, DBOS_DURABILITY_ASYNC};
    for (size_t i = 0; i < 2; i++) {
        char dir[64];
        char path[DBOS_PATH_BYTES];
        int status = 0;
        test_dir_make(dir, sizeof dir);
        env_fault_init(&scenario_fault, 1);
        scenario_fault.lose_all = true;
        struct test_log_options options = {.env = &scenario_fault.env,
                                           .durability = kinds[i],
                                           .segment_bytes = 16384,
                                           .flush_ms = 1000000};
        pid_t child = fork();
        cr_assert_geq(child, 0);
        if (child == 0) {
            cut_when_prepared(dir, &options, shared);
        }
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == ENV_FAULT_POWER_CUT, "%x", status);
        dbos_segment_path(path, dir, 3);
        cr_assert_eq(access(path, F_OK), 0, "durability %zu: nothing was prepared", i);
        expect_log(dir, 2); /* what began segment 2 was synced first */
        env_fault_fini(&scenario_fault);
        test_dir_remove(dir);
    }
    (void)munmap(shared, sizeof *shared + 64);
}

Test(txn_log, a_failed_write_or_sync_stops_the_process_and_acknowledges_nothing_more) {
    _Atomic uint64_t *acknowledged = NULL;
    struct test_log *shared = share(&acknowledged);
    static const enum env_fault_action actions[] = {ENV_FAULT_FAIL_ONCE, ENV_FAULT_FAIL_FOREVER};
    for (size_t a = 0; a < 2; a++) {
        uint64_t stopped = 0;
        int ended = 0;
        for (int64_t n = 1; ended == 0; n++) {
            char dir[64];
            test_dir_make(dir, sizeof dir);
            atomic_store(acknowledged, 0);
            struct scenario scenario = {.dir = dir, .action = actions[a], .n = n, .seed = 5};
            int status = run_child(&scenario, shared);
            cr_expect(status == 0 || status == SCENARIO_FAILED_CLEANLY ||
                          status == DBOS_EXIT_LOG_FAILED,
                      "n %ld: status %d", n, status);
            stopped += status == DBOS_EXIT_LOG_FAILED;
            /* A failure to prepare a segment is met again when it is needed: it may pass unseen. */
            ended = status == 0 && n > 80;
            if (status == 0) {
                cr_expect_eq(atomic_load(acknowledged), SCENARIO_LAST);
            }
            expect_acknowledged(dir, atomic_load(acknowledged), 5, n);
            test_dir_remove(dir);
        }
        cr_expect_gt(stopped, 20);
    }
    (void)munmap(shared, sizeof *shared + 64);
}

/* --- memory ---------------------------------------------------------------------------------- */

Test(txn_log, opening_and_recovering_survive_every_failed_take) {
    char dir[64];
    test_dir_make(dir, sizeof dir);
    make_log(dir, 40, &plain, 5000);
    bool done = false;
    for (int64_t n = 1; !done; n++) {
        struct dbos_alloc alloc;
        struct dbos_objects *objects = NULL;
        struct dbos_log *log = NULL;
        struct dbos_log_reader *reader = NULL;
        struct dbos_errinfo info = {0};
        struct dbos_batch batch;
        dbos_alloc_init(&alloc, "failing", 0);
        cr_assert_eq(dbos_objects_open(&alloc, 1, &objects), DBOS_OK);
        struct dbos_log_options options = {
            .env = dbos_env_posix(), .data_dir = dir, .segment_bytes = 65536, .objects = objects};
        atomic_store(&alloc.fail_countdown, n);
        enum dbos_err err = dbos_log_open(&alloc, &options, &log, &info);
        cr_expect(err == DBOS_OK || err == DBOS_ERR_NOMEM);
        if (err == DBOS_OK) {
            err = dbos_log_reader_open(&alloc, options.env, dir, 1, 0, &reader, &info);
        }
        while (err == DBOS_OK) {
            enum dbos_read_result result = dbos_log_reader_next(reader, &batch, &info);
            if (result == DBOS_READ_CORRUPT) {
                err = info.code;
            } else if (result != DBOS_READ_BATCH) {
                break;
            }
        }
        cr_expect(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%s", info.message);
        done = atomic_load(&alloc.fail_countdown) > 0;
        cr_expect(!done || err == DBOS_OK);
        atomic_store(&alloc.fail_countdown, 0);
        dbos_log_reader_close(reader);
        dbos_log_close(log);
        dbos_objects_close(objects);
        dbos_alloc_fini(&alloc);
    }
    expect_log(dir, 40);
    test_dir_remove(dir);
}

/* --- following ------------------------------------------------------------------------------- */

static void *append_many(void *arg) {
    struct test_log *t = arg;
    for (int i = 0; i < 1500; i++) {
        (void)test_log_append(t, (size_t)(i * 31) % 2000, 0);
    }
    return NULL;
}

Test(txn_log, a_reader_follows_a_living_writer_up_to_the_watermark) {
    char dir[64];
    struct test_log t;
    pthread_t writer;
    struct dbos_log_reader *reader = NULL;
    struct dbos_errinfo info = {0};
    struct dbos_batch batch;
    uint64_t last = 0;
    test_dir_make(dir, sizeof dir);
    open_ok(&t, dir, &plain);
    cr_assert_eq(dbos_log_reader_open(&t.alloc, dbos_env_posix(), dir, 1, 0, &reader, &info),
                 DBOS_OK);
    cr_expect_eq(dbos_log_reader_next(reader, &batch, &info), DBOS_READ_END);
    start_ok(&t, &plain);
    cr_assert_eq(pthread_create(&writer, NULL, append_many, &t), 0);
    while (last < 1500) {
        dbos_log_reader_set_durable(reader, dbos_log_durable(t.log));
        enum dbos_read_result result = dbos_log_reader_next(reader, &batch, &info);
        cr_assert(result == DBOS_READ_BATCH || result == DBOS_READ_END, "%s %s", info.message,
                  info.detail);
        if (result == DBOS_READ_BATCH) {
            cr_assert_eq(batch.first_position, last + 1);
            cr_assert_leq(batch.last_position, dbos_log_durable(t.log));
            last = batch.last_position;
        }
    }
    (void)pthread_join(writer, NULL);
    dbos_log_reader_set_durable(reader, 1501); /* promised, and not there */
    cr_expect_eq(dbos_log_reader_next(reader, &batch, &info), DBOS_READ_CORRUPT);
    dbos_log_reader_close(reader);
    test_log_close(&t);
    test_dir_remove(dir);
}
