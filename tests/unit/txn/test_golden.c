/* Exact bytes of the stored formats of a data directory, beside their meaning as text:
 * tests/golden/log_*.hex and log_v*.txt. UPDATE=1 writes those of the newest version anew; that is
 * a new format version. The files of older ones are read, and never change.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "provenance/capture.h"
#include "provenance/segment_format.h"
#include "tests/unit/txn/txn_support.h"

TestSuite(txn_golden, .timeout = 30);

/* --- an environment in which nothing is by chance -------------------------------------------- */

static uint64_t fixed_random(struct dbos_env *env) {
    uint64_t *count = env->state;
    return 0x1111111111111111u * ++*count;
}

static int64_t fixed_wall_us(struct dbos_env *env) {
    (void)env;
    return INT64_C(1767225600000000); /* 2026-01-01 */
}

/* --- the record ------------------------------------------------------------------------------ */

static struct dbos_row *row_of(struct dbos_alloc *alloc, uint64_t block, uint64_t position,
                               const char *payload) {
    size_t bytes = strlen(payload);
    struct dbos_row *row = dbos_take_zero(alloc, sizeof *row + bytes);
    row->block = block;
    row->position = position;
    row->size_bytes = (uint32_t)bytes;
    memcpy(row->payload, payload, bytes);
    return row;
}

static const struct dbos_session_info ada = {
    .id = 300, .user = "ada", .role = "doctor", .address = "127.0.0.1:5", .application = "psql"};

/* A table with columns: patient_id bigint, visits integer, weight double precision, name text. */
static struct dbos_table_def *def_with_columns(struct test_log *t) {
    static const struct dbos_column columns[] = {
        {.id = 1, .name = "patient_id", .type = DBOS_TYPE_INT8},
        {.id = 2, .name = "visits", .type = DBOS_TYPE_INT4},
        {.id = 3, .name = "weight", .type = DBOS_TYPE_FLOAT8},
        {.id = 4, .name = "name", .type = DBOS_TYPE_TEXT},
    };
    struct dbos_table_parts parts = {.id = 103,
                                     .schema_version = 1,
                                     .schema = "public",
                                     .name = "patient",
                                     .partition_column = 0,
                                     .column_count = 4,
                                     .columns = columns};
    struct dbos_table_def *def = NULL;
    cr_assert_eq(dbos_table_def_make(&t->alloc, &parts, &def, &t->info), DBOS_OK, "%s",
                 t->info.message);
    return def;
}

/* Arguments, small and large numbers, texts, what stays the same: one of every step. */
static void capture_columns(struct test_log *t, struct dbos_capture *capture) {
    struct dbos_table_def *def = def_with_columns(t);
    struct dbos_row *a = NULL;
    struct dbos_row *b = NULL;
    struct dbos_datum datums[4] = {dbos_datum_int(DBOS_TYPE_INT8, -5),
                                   dbos_datum_int(DBOS_TYPE_INT4, 7), dbos_datum_real(61.5),
                                   dbos_datum_bytes(DBOS_TYPE_TEXT, "Augusta Ada King-Noel", 21)};
    struct dbos_bytes key = {.data = (const uint8_t *)"\x01\x7f\xff\xff\xff\xff\xff\xff\xfb",
                             .size_bytes = 9};
    cr_assert_eq(dbos_row_make(&t->alloc, t->objects, def, datums, &a, &t->info), DBOS_OK);
    datums[1].integer = 1000;
    datums[2] = dbos_datum_null(DBOS_TYPE_FLOAT8);
    cr_assert_eq(dbos_row_make(&t->alloc, t->objects, def, datums, &b, &t->info), DBOS_OK);
    a->block = 5 * 1024 + 77;
    a->position = 12345;
    b->block = a->block;
    dbos_capture_ordinal(capture, 0, dbos_record_statement_id(12, 3, 0), "select 1 from patient");
    dbos_capture_read(capture, 103, 4 * 1024 + 77);
    dbos_capture_ordinal(capture, 200, dbos_record_statement_id(12, 3, 200), "update patient");
    dbos_capture_absent(capture, 103, 1003, key);
    dbos_capture_update(capture, def, a, b);
    dbos_row_give(&t->alloc, def, a);
    dbos_row_give(&t->alloc, def, b);
    dbos_table_def_unref(def);
}

/* One of every event. */
static void capture_everything(struct dbos_alloc *alloc, struct dbos_capture *capture) {
    const struct dbos_table_def def = {.id = 100};
    struct dbos_row *a = row_of(alloc, 1029, 40, "before");
    struct dbos_row *b = row_of(alloc, 1029, 0, "after!");
    struct dbos_bytes low = {.data = (const uint8_t *)"\x01low", .size_bytes = 4};
    struct dbos_bytes high = {.data = (const uint8_t *)"\x01m", .size_bytes = 2};
    dbos_capture_statement(capture, 0x8877665544332211u, "select * from patient where id = $1");
    dbos_capture_absent(capture, 100, 1000, low);
    dbos_capture_range(capture, 100, 1001, low, high, 1, 4);
    dbos_capture_read(capture, 100, 1029);
    for (uint64_t i = 0; i < 3; i++) {
        dbos_capture_read(capture, 100, 2053 + i * 2048);
        dbos_capture_read(capture, 101, 7 + i * 1024);
    }
    dbos_capture_read(capture, 101, 7 + 3 * 1024);
    dbos_capture_scan(capture, 102, DBOS_PARTITION_ALL, 200);
    dbos_capture_statement(capture, 5, "update patient set name = $2");
    dbos_capture_update(capture, &def, a, b);
    dbos_capture_delete(capture, &def, b);
    dbos_capture_insert(capture, &def, a);
    dbos_capture_egress(capture, 4, 123, 0x0102030405060708u);
    dbos_give(alloc, a);
    dbos_give(alloc, b);
}

static struct dbos_log_entry *make_entry(struct test_log *t, struct dbos_capture *capture,
                                         const uint8_t *object_bytes) {
    struct dbos_object *object = NULL;
    struct dbos_buf arguments;
    cr_assert_eq(dbos_object_make(t->objects, object_bytes, 4096, &object), DBOS_OK);
    struct dbos_datum datums[3] = {
        dbos_datum_int(DBOS_TYPE_INT8, -5), dbos_datum_null(DBOS_TYPE_TEXT),
        dbos_datum_bytes(DBOS_TYPE_BYTEA, object->data, object->id.size_bytes)};
    datums[2].object = object;
    dbos_buf_init(&arguments, &t->alloc);
    for (int i = 0; i < 3; i++) {
        dbos_image_put_argument(&arguments, &datums[i]);
    }
    struct dbos_record_head head = {
        .commit_us = INT64_C(1767225600000077),
        .start_us = INT64_C(1767225600000001),
        .partition = 2,
        .partitions = 3,
        .session = ada.id,
        .request = 9,
        .procedure = 12,
        .procedure_version = 3,
        .seed = 0xabcdef,
        .has_seed = true,
        .argument_count = 3,
        .arguments = {.data = arguments.data, .size_bytes = arguments.size_bytes},
        .hash_delta = -2,
    };
    dbos_capture_begin(capture);
    dbos_capture_arguments(capture, datums, 3);
    capture_everything(&t->alloc, capture);
    capture_columns(t, capture);
    cr_assert_eq(dbos_capture_reserve(capture, 0), DBOS_OK);
    struct dbos_log_entry *entry =
        dbos_log_entry_make(t->log, dbos_capture_record_bytes_max(capture, &head), 1);
    head.position = dbos_log_take_position(t->log);
    entry->position = head.position;
    entry->hash_delta = head.hash_delta;
    entry->objects[entry->object_count++] = object;
    entry->size_bytes = (uint32_t)dbos_capture_finish(capture, &head, &ada, entry->data);
    dbos_buf_fini(&arguments);
    return entry;
}

/* --- files ----------------------------------------------------------------------------------- */

static char *read_whole(const char *path, size_t *out_bytes) {
    FILE *file = fopen(path, "rb");
    char *data = calloc(1, 1u << 20);
    *out_bytes = file == NULL ? 0 : fread(data, 1, (1u << 20) - 1, file);
    if (file != NULL) {
        (void)fclose(file);
    }
    return data;
}

static void expect_text(const char *name, const char *text) {
    char path[512];
    size_t bytes = 0;
    (void)snprintf(path, sizeof path, DBOS_SOURCE_DIR "/tests/golden/%s", name);
    if (getenv("UPDATE") != NULL && strcmp(name, "log_v1.txt") != 0) {
        FILE *file = fopen(path, "wb");
        cr_assert(file != NULL);
        (void)fputs(text, file);
        (void)fclose(file);
    }
    char *wanted = read_whole(path, &bytes);
    cr_expect_str_eq(text, wanted, "%s", name);
    free(wanted);
}

/* 32 bytes a line with their offset; runs of zero lines are left out. */
static void expect_bytes(const char *name, const uint8_t *data, size_t from, size_t to) {
    char *text = calloc(1, (to - from) * 3 + (to - from) / 32 * 16 + 64);
    char *at = text;
    for (size_t line = from; line < to; line += 32) {
        static const uint8_t zeroes[32];
        size_t part = to - line < 32 ? to - line : 32;
        if (memcmp(data + line, zeroes, part) == 0) {
            continue;
        }
        at += sprintf(at, "%06zx", line);
        for (size_t i = 0; i < part; i++) {
            at += sprintf(at, "%s%02x", i % 8 == 0 ? " " : "", data[line + i]);
        }
        at += sprintf(at, "\n");
    }
    expect_text(name, text);
    free(text);
}

static char *put_bytes(char *at, const char *name, struct dbos_bytes bytes) {
    if (bytes.size_bytes == 0) {
        return at;
    }
    at += sprintf(at, " %s=", name);
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        bool plain = bytes.data[i] >= ' ' && bytes.data[i] < 127;
        at += sprintf(at, plain ? "%c" : "\\%02x", bytes.data[i]);
    }
    return at;
}

static char *put_event(char *at, const struct dbos_event *event) {
    at += sprintf(at,
                  "  event op=%u statement=%u table=%u index=%u partition=%u block=%llu "
                  "count=%llu previous=%llu",
                  event->op, event->statement, event->table_id, event->index_id, event->partition,
                  (unsigned long long)event->block, (unsigned long long)event->count,
                  (unsigned long long)event->previous_position);
    if (event->statement_id != 0) {
        at += sprintf(at, " id=%016llx", (unsigned long long)event->statement_id);
    }
    if (event->op == DBOS_EVENT_EGRESS) {
        at += sprintf(at, " bytes=%llu digest=%016llx", (unsigned long long)event->bytes,
                      (unsigned long long)event->digest);
    }
    if (event->op == DBOS_EVENT_SESSION) {
        at += sprintf(at, " session=%llu", (unsigned long long)event->session);
    }
    at = put_bytes(at, "before", event->before);
    at = put_bytes(at, "after", event->after);
    at = put_bytes(at, "low", event->low);
    at = put_bytes(at, "high", event->high);
    at += event->op == DBOS_EVENT_RANGE ? sprintf(at, " bounds=%u", event->bound_flags) : 0;
    at = put_bytes(at, "user", event->user);
    at = put_bytes(at, "role", event->role);
    at = put_bytes(at, "address", event->address);
    at = put_bytes(at, "application", event->application);
    at = put_bytes(at, "text", event->text);
    return at + sprintf(at, "\n");
}

static char *put_record(char *at, const uint8_t *record, size_t bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    struct dbos_errinfo info;
    dbos_record_scratch_init(&scratch, NULL); /* nothing here is large */
    cr_assert_eq(dbos_record_open(record, bytes, &scratch, &head, &decoder, &info), DBOS_OK);
    at += sprintf(at,
                  "record position=%llu commit_us=%lld start_us=%lld partition=%u/%u flags=%u "
                  "outcome=%u session=%llu request=%llu procedure=%u.%u task=%llu seed=%llx "
                  "arguments=%u (%zu bytes) hash_delta=%lld\n",
                  (unsigned long long)head.position, (long long)head.commit_us,
                  (long long)head.start_us, head.partition, head.partitions, head.flags,
                  head.outcome, (unsigned long long)head.session, (unsigned long long)head.request,
                  head.procedure, head.procedure_version, (unsigned long long)head.task_id,
                  (unsigned long long)head.seed, head.argument_count, head.arguments.size_bytes,
                  (long long)head.hash_delta);
    while (dbos_record_next(&decoder, &event)) {
        at = put_event(at, &event);
    }
    cr_assert(!decoder.failed);
    return at;
}

/* Everything in the directory's log, as the readers understand it. */
static void expect_meaning(const char *dir, const char *name) {
    struct dbos_alloc alloc;
    struct dbos_log_reader *reader = NULL;
    struct dbos_segment_header header;
    struct dbos_batch batch;
    struct dbos_errinfo info;
    char *text = calloc(1, 65536);
    char *at = text;
    dbos_alloc_init(&alloc, "golden", 0);
    cr_assert_eq(dbos_log_reader_open(&alloc, dbos_env_posix(), dir, 1, 0, &reader, &info),
                 DBOS_OK);
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        size_t cursor = 0;
        size_t bytes = 0;
        cr_assert(dbos_log_reader_header(reader, &header));
        at += sprintf(at, "segment %u generation=%u epoch=%llu first=%llu bytes=%llu\n",
                      header.number, header.generation, (unsigned long long)header.epoch,
                      (unsigned long long)header.first_position,
                      (unsigned long long)header.size_bytes);
        at += sprintf(
            at, "batch %llu..%llu offset=%llu end=%llu synced=%llu hash=%016llx\n",
            (unsigned long long)batch.first_position, (unsigned long long)batch.last_position,
            (unsigned long long)batch.offset, (unsigned long long)batch.end_offset,
            (unsigned long long)batch.synced_position, (unsigned long long)batch.state_hash);
        const uint8_t *record = NULL;
        while ((record = dbos_batch_next(&batch, &cursor, &bytes)) != NULL) {
            at = put_record(at, record, bytes);
        }
    }
    dbos_log_reader_close(reader);
    dbos_alloc_fini(&alloc);
    expect_text(name, text);
    free(text);
}

static void expect_file(const char *name, const char *path, size_t from, size_t to) {
    size_t bytes = 0;
    char *data = read_whole(path, &bytes);
    cr_assert_geq(bytes, to, "%s", path);
    expect_bytes(name, (const uint8_t *)data, from, to);
    free(data);
}

Test(txn_golden, a_data_directory_has_exactly_these_bytes) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct test_log t;
    struct dbos_capture *capture = NULL;
    uint64_t randoms = 0;
    struct dbos_env_ops ops = *dbos_env_posix()->ops;
    struct dbos_env env = {.ops = &ops, .state = &randoms};
    uint8_t object[4096];
    ops.random_u64 = fixed_random;
    ops.wall_us = fixed_wall_us;
    for (size_t i = 0; i < sizeof object; i++) {
        object[i] = (uint8_t)(i % 251);
    }
    test_dir_make(dir, sizeof dir);
    struct test_log_options options = {.env = &env, .segment_bytes = 16384};
    cr_assert_eq(test_log_open(&t, dir, &options), DBOS_OK, "%s", t.info.message);
    cr_assert_eq(dbos_capture_open(&t.alloc, &capture), DBOS_OK);
    cr_assert_eq(test_log_start(&t, &options), DBOS_OK);
    for (int i = 0; i < 2; i++) {
        struct dbos_log_entry *entry = make_entry(&t, capture, object);
        uint64_t position = entry->position;
        dbos_log_append_give(t.log, entry);
        dbos_log_wait(t.log, position);
    }
    dbos_capture_close(capture);
    test_log_close(&t);
    dbos_log_path(path, dir, "identity");
    expect_file("log_identity_v1.hex", path, 0, sizeof(struct dbos_stored_identity));
    dbos_segment_path(path, dir, 1);
    expect_file("log_segment_v2.hex", path, 0, 16384);
    dbos_blob_path(path, dir, 1);
    expect_file("log_blob_v1.hex", path, 0, 128);
    expect_meaning(dir, "log_v2.txt");
    test_dir_remove(dir);
}

/* Lines of expect_bytes() back into `bytes` bytes of a file. */
static void write_golden(const char *name, const char *path, size_t bytes) {
    char source[512];
    size_t length = 0;
    uint8_t *data = calloc(1, bytes);
    (void)snprintf(source, sizeof source, DBOS_SOURCE_DIR "/tests/golden/%s", name);
    char *text = read_whole(source, &length);
    cr_assert_gt(length, 0, "%s", source);
    for (char *line = strtok(text, "\n"); line != NULL; line = strtok(NULL, "\n")) {
        char *next = line;
        size_t offset = strtoul(next, &next, 16);
        for (; *next != '\0'; next += *next == ' ' ? 1 : 2) {
            unsigned value = 0;
            if (*next != ' ') {
                cr_assert_eq(sscanf(next, "%2x", &value), 1);
                data[offset++] = (uint8_t)value;
            }
        }
    }
    FILE *file = fopen(path, "wb");
    cr_assert(file != NULL);
    cr_assert_eq(fwrite(data, 1, bytes, file), bytes);
    (void)fclose(file);
    free(data);
    free(text);
}

Test(txn_golden, a_directory_of_version_1_means_what_it_meant) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    test_dir_make(dir, sizeof dir);
    (void)snprintf(path, sizeof path, "%s/log", dir);
    cr_assert_eq(mkdir(path, 0700), 0);
    dbos_segment_path(path, dir, 1);
    write_golden("log_segment_v1.hex", path, 16384);
    expect_meaning(dir, "log_v1.txt");
    test_dir_remove(dir);
}
