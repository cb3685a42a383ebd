/* The log under ThreadSanitizer: producers, a follower, waiters, and the log's own threads.
 *
 * Some producers take over the log thread's work for a moment.
 * Checked: the watermark never goes back and never passes what was taken, every record comes out of
 * the follower once and in order, recovery finds all of them with the recorded hash. The bound of
 * what is in flight is low, so that producers meet it, and nothing is left in flight. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "provenance/capture.h"
#include "txn/log.h"

enum { PRODUCERS = 4, RECORDS = 3000, ALL = PRODUCERS * RECORDS };

static struct dbos_alloc alloc;
static struct dbos_objects *objects;
static struct dbos_log *node_log;
static char dir[64];

static int64_t delta_of(uint64_t position) { return (int64_t)dbos_mix64(position); }

/* Every 50th record names an object. */
static struct dbos_log_entry *make_entry(struct dbos_log_pool *pool, struct dbos_capture *capture,
                                         uint64_t i, struct dbos_record_head *head) {
    static const uint8_t bytes[9000] = {1, 2, 3};
    size_t size = i % 50 == 0 ? 4096 + i % 4000 : 0;
    dbos_capture_begin(capture);
    dbos_capture_statement(capture, i % 7, "select");
    for (uint64_t k = 0; k < i % 9; k++) {
        dbos_capture_read(capture, 100, i * 1024 + k * 1024);
    }
    dbos_capture_scan(capture, 100, 0, i);
    DBOS_CHECK(dbos_capture_reserve(capture, 0) == DBOS_OK);
    struct dbos_log_entry *entry =
        dbos_log_pool_take(pool, dbos_capture_record_bytes_max(capture, head), 1);
    DBOS_CHECK(entry != NULL);
    if (size != 0) {
        struct dbos_object *object = NULL;
        DBOS_CHECK(dbos_object_make(objects, bytes, size, &object) == DBOS_OK);
        entry->objects[entry->object_count++] = object;
    }
    return entry;
}

static void *produce(void *arg) {
    struct dbos_capture *capture = NULL;
    uint64_t number = *(uint64_t *)arg;
    struct dbos_session_info session = {.id = number, .user = "u"};
    struct dbos_log_pool *pool = NULL;
    DBOS_CHECK(dbos_capture_open(&alloc, &capture) == DBOS_OK);
    DBOS_CHECK(dbos_log_pool_open(node_log, &pool) == DBOS_OK);
    for (uint64_t i = 0; i < RECORDS; i++) {
        struct dbos_record_head head = {.session = number};
        (void)dbos_log_wait_room(node_log, NULL, NULL);
        struct dbos_log_entry *entry = make_entry(pool, capture, i, &head);
        head.position = dbos_log_take_position(node_log);
        head.hash_delta = delta_of(head.position);
        entry->position = head.position;
        entry->hash_delta = head.hash_delta;
        entry->size_bytes = (uint32_t)dbos_capture_finish(capture, &head, &session, entry->data);
        bool works = i % 5 < 3;
        if (works) {
            dbos_log_producer_works(node_log);
        }
        bool holds = i % 3 == 0;
        if (holds) {
            dbos_log_hold(node_log);
        }
        dbos_log_append_give(node_log, entry);
        if (holds) {
            dbos_log_release(node_log, i % 2 == 0);
        }
        if (works) {
            dbos_log_producer_rests(node_log);
        }
        if (i % 97 == 0) {
            dbos_log_wait(node_log, head.position);
            DBOS_CHECK(dbos_log_durable(node_log) >= head.position);
        }
    }
    dbos_log_pool_close(pool);
    dbos_capture_close(capture);
    return NULL;
}

static void on_durable(void *arg) {
    uint64_t *seen = arg; /* one thread at a time is here */
    uint64_t durable = dbos_log_durable(node_log);
    DBOS_CHECK(durable >= *seen && durable <= dbos_log_last_position(node_log));
    *seen = durable;
}

static void *follow(void *arg) {
    struct dbos_alloc own;
    struct dbos_log_reader *reader = NULL;
    struct dbos_errinfo info;
    uint64_t *last = arg;
    dbos_alloc_init(&own, "follower", 0);
    DBOS_CHECK(dbos_log_reader_open(&own, dbos_env_posix(), dir, 1, 0, &reader, &info) == DBOS_OK);
    while (*last < ALL) {
        struct dbos_batch batch;
        struct dbos_log_stats stats;
        uint64_t position = 0;
        uint64_t hash = 0;
        dbos_log_reader_set_durable(reader, dbos_log_durable(node_log));
        enum dbos_read_result result = dbos_log_reader_next(reader, &batch, &info);
        DBOS_CHECK(result == DBOS_READ_BATCH || result == DBOS_READ_END);
        if (result == DBOS_READ_BATCH) {
            DBOS_CHECK(batch.first_position == *last + 1);
            *last = batch.last_position;
        } else {
            dbos_env_posix()->ops->sleep_us(dbos_env_posix(), 500);
        }
        dbos_log_state_hash(node_log, &position, &hash);
        dbos_log_stats(node_log, &stats);
        DBOS_CHECK(position >= *last && stats.records >= *last);
    }
    dbos_log_reader_close(reader);
    dbos_alloc_fini(&own);
    return NULL;
}

static enum dbos_err apply(void *arg, const uint8_t *record, size_t size_bytes,
                           uint64_t *state_hash, struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    (void)arg;
    struct dbos_record_scratch scratch;
    dbos_record_scratch_init(&scratch, &alloc);
    enum dbos_err err = dbos_record_open(record, size_bytes, &scratch, &head, &decoder, info);
    *state_hash += (uint64_t)delta_of(head.position);
    dbos_record_scratch_fini(&scratch);
    return err;
}

static void open_log(enum dbos_durability durability, struct dbos_recovery *recovery) {
    struct dbos_errinfo info = {0};
    uint64_t seed = 0;
    DBOS_CHECK(dbos_log_object_seed(dbos_env_posix(), dir, &seed, &info) == DBOS_OK);
    DBOS_CHECK(dbos_objects_open(&alloc, seed, &objects) == DBOS_OK);
    struct dbos_log_options options = {.env = dbos_env_posix(),
                                       .data_dir = dir,
                                       .durability = durability,
                                       .async_flush_ms = 5,
                                       .segment_bytes = 256 * 1024,
                                       .in_flight_bytes_max = 16 * 1024,
                                       .objects = objects};
    DBOS_CHECK(dbos_log_open(&alloc, &options, &node_log, &info) == DBOS_OK);
    *recovery = (struct dbos_recovery){.apply = apply};
    DBOS_CHECK(dbos_log_recover(node_log, recovery, &info) == DBOS_OK);
}

static void close_log(void) {
    dbos_log_close(node_log);
    dbos_objects_close(objects);
}

static void run(enum dbos_durability durability) {
    struct dbos_recovery recovery;
    struct dbos_errinfo info;
    pthread_t producers[PRODUCERS];
    pthread_t follower;
    uint64_t numbers[PRODUCERS];
    struct dbos_log_stats stats;
    uint64_t seen = 0;
    uint64_t followed = 0;
    uint64_t hash = 0;
    (void)snprintf(dir, sizeof dir, "/tmp/dbos-stress-XXXXXX");
    DBOS_CHECK(mkdtemp(dir) != NULL);
    open_log(durability, &recovery);
    DBOS_CHECK(dbos_log_start(node_log, on_durable, &seen, &info) == DBOS_OK);
    for (uint64_t i = 0; i < PRODUCERS; i++) {
        numbers[i] = i + 1;
        DBOS_CHECK(pthread_create(&producers[i], NULL, produce, &numbers[i]) == 0);
    }
    DBOS_CHECK(pthread_create(&follower, NULL, follow, &followed) == 0);
    for (int i = 0; i < PRODUCERS; i++) {
        (void)pthread_join(producers[i], NULL);
    }
    (void)pthread_join(follower, NULL);
    dbos_log_stats(node_log, &stats);
    DBOS_CHECK(stats.in_flight_bytes == 0);
    (void)printf("%llu waits for room\n", (unsigned long long)stats.room_waits);
    close_log();
    DBOS_CHECK(seen == ALL && followed == ALL);
    open_log(durability, &recovery);
    for (uint64_t position = 1; position <= ALL; position++) {
        hash += (uint64_t)delta_of(position);
    }
    DBOS_CHECK(recovery.last_position == ALL && recovery.state_hash == hash);
    close_log();
    char command[128];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    DBOS_CHECK(system(command) == 0);
}

int main(void) {
    dbos_alloc_init(&alloc, "stress", 0);
    run(DBOS_DURABILITY_SYNC);
    run(DBOS_DURABILITY_ASYNC);
    dbos_alloc_fini(&alloc);
    (void)printf("%d records of %d producers, twice\n", ALL, PRODUCERS);
    return 0;
}
