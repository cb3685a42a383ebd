#include "tests/unit/txn/txn_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/env_fault.c"

void test_dir_make(char *out, size_t out_bytes) {
    (void)snprintf(out, out_bytes, "/tmp/dbos-txn-XXXXXX");
    DBOS_CHECK(mkdtemp(out) != NULL);
}

void test_dir_remove(const char *dir) {
    char command[600];
    DBOS_CHECK(strncmp(dir, "/tmp/dbos-txn-", 14) == 0);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", dir);
    DBOS_CHECK(system(command) == 0);
}

void test_dir_copy(const char *from, const char *to) {
    char command[1200];
    (void)snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s' '%s'", to, from, to);
    DBOS_CHECK(system(command) == 0);
}

/* --- a log alone ----------------------------------------------------------------------------- */

int64_t test_hash_delta(uint64_t position) { return (int64_t)dbos_mix64(position); }

static enum dbos_err sum_deltas(void *arg, const uint8_t *record, size_t size_bytes,
                                uint64_t *state_hash, struct dbos_errinfo *info) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    struct test_log *t = arg;
    dbos_record_scratch_init(&scratch, &t->alloc);
    enum dbos_err err = dbos_record_open(record, size_bytes, &scratch, &head, &decoder, info);
    if (err != DBOS_OK) {
        return err;
    }
    while (dbos_record_next(&decoder, &event)) {
        /* An ABSENT key of 24 bytes names an object: it must be there. */
        if (event.op == DBOS_EVENT_ABSENT &&
            event.low.size_bytes == sizeof(struct dbos_object_id)) {
            struct dbos_object_id id;
            memcpy(&id, event.low.data, sizeof id);
            struct dbos_object *object = NULL;
            err = dbos_log_load_object(t->log, &id, &object, info);
            if (err != DBOS_OK || object == NULL) {
                dbos_record_scratch_fini(&scratch);
                return err != DBOS_OK ? err
                                      : dbos_fail(info, DBOS_ERR_CORRUPT, "an object is missing");
            }
            dbos_object_unref(object);
        }
    }
    dbos_record_scratch_fini(&scratch);
    *state_hash += (uint64_t)test_hash_delta(head.position);
    return dbos_record_end(&decoder, info);
}

static void close_parts(struct test_log *t) {
    dbos_log_close(t->log);
    if (t->objects != NULL) {
        dbos_objects_close(t->objects);
    }
    dbos_alloc_fini(&t->alloc);
}

enum dbos_err test_log_open(struct test_log *t, const char *dir,
                            const struct test_log_options *options) {
    struct dbos_env *env = options->env == NULL ? dbos_env_posix() : options->env;
    uint64_t seed = 0;
    memset(t, 0, sizeof *t);
    dbos_alloc_init(&t->alloc, "test", 0);
    enum dbos_err err = dbos_log_object_seed(env, dir, &seed, &t->info);
    if (err == DBOS_OK) {
        err = dbos_objects_open(&t->alloc, seed, &t->objects);
    }
    struct dbos_log_options log_options = {
        .env = env,
        .data_dir = dir,
        .durability = options->durability,
        .async_flush_ms = options->flush_ms,
        .segment_bytes = options->segment_bytes == 0 ? 65536 : options->segment_bytes,
        .objects = t->objects,
    };
    if (err == DBOS_OK) {
        err = dbos_log_open(&t->alloc, &log_options, &t->log, &t->info);
    }
    if (err == DBOS_OK) {
        t->recovery = (struct dbos_recovery){.apply = sum_deltas, .arg = t};
        err = dbos_log_recover(t->log, &t->recovery, &t->info);
    }
    if (err != DBOS_OK) {
        close_parts(t);
    }
    return err;
}

enum dbos_err test_log_start(struct test_log *t, const struct test_log_options *options) {
    enum dbos_err err = dbos_log_start(t->log, options->on_durable, options->arg, &t->info);
    if (err != DBOS_OK) {
        close_parts(t);
    }
    return err;
}

void test_log_close(struct test_log *t) { close_parts(t); }

uint64_t test_log_append(struct test_log *t, size_t bytes, size_t object_bytes) {
    struct dbos_capture *capture = NULL;
    DBOS_CHECK(dbos_capture_open(&t->alloc, &capture) == DBOS_OK);
    uint8_t *filling = dbos_take_zero(&t->alloc, bytes + object_bytes + 1);
    DBOS_CHECK(filling != NULL);
    for (size_t i = 0; i < bytes + object_bytes; i++) {
        filling[i] = (uint8_t)(i * 7 + bytes + object_bytes);
    }
    struct dbos_bytes key = {.data = filling, .size_bytes = bytes == 24 ? 25 : bytes};
    dbos_capture_absent(capture, 7, 8, key);
    struct dbos_object *object = NULL;
    if (object_bytes != 0) {
        DBOS_CHECK(dbos_object_make(t->objects, filling, object_bytes, &object) == DBOS_OK);
        key = (struct dbos_bytes){.data = (uint8_t *)&object->id, .size_bytes = sizeof object->id};
        dbos_capture_absent(capture, 7, 8, key);
    }
    struct dbos_record_head head = {.partitions = 1};
    DBOS_CHECK(dbos_capture_reserve(capture, 0) == DBOS_OK);
    struct dbos_log_entry *entry =
        dbos_log_entry_make(t->log, dbos_capture_record_bytes_max(capture, &head), 1);
    DBOS_CHECK(entry != NULL);
    if (object != NULL) {
        entry->objects[entry->object_count++] = object;
    }
    head.position = dbos_log_take_position(t->log);
    head.hash_delta = test_hash_delta(head.position);
    head.commit_us = (int64_t)head.position * 10;
    entry->position = head.position;
    entry->hash_delta = head.hash_delta;
    entry->size_bytes = (uint32_t)dbos_capture_finish(capture, &head, NULL, entry->data);
    dbos_log_append_give(t->log, entry);
    dbos_give(&t->alloc, filling);
    dbos_capture_close(capture);
    return head.position;
}

/* --- a node ---------------------------------------------------------------------------------- */

static int64_t next_us(void *arg) {
    struct test_node *node = arg;
    return ++node->last_us;
}

static void open_txn(struct test_node *node, uint32_t partition, bool reads_off,
                     struct dbos_txn **out) {
    struct dbos_txn_options options = {
        .store = node->store,
        .log = node->log,
        .commit_time = next_us,
        .commit_time_arg = node,
        .partition = partition,
        .reads_off = reads_off,
        .env = node->env,
    };
    DBOS_CHECK(dbos_txn_open(&node->alloc, &options, out) == DBOS_OK);
}

void test_node_reads_off(struct test_node *node) {
    dbos_txn_close(node->barrier);
    open_txn(node, DBOS_PARTITION_ALL, true, &node->barrier);
}

uint64_t test_node_segment_bytes = 1048576;
int64_t test_node_recovery_fails;

enum dbos_err test_node_open_env(struct test_node *node, const char *dir, uint32_t partitions,
                                 struct dbos_env *env) {
    uint64_t seed = 0;
    memset(node, 0, sizeof *node);
    node->env = env;
    node->partitions = partitions;
    dbos_alloc_init(&node->alloc, "node", 0);
    if (dbos_log_object_seed(node->env, dir, &seed, &node->info) != DBOS_OK) {
        dbos_alloc_fini(&node->alloc);
        return node->info.code;
    }
    DBOS_CHECK(dbos_objects_open(&node->alloc, seed, &node->objects) == DBOS_OK);
    DBOS_CHECK(dbos_store_open(&node->alloc, node->objects, partitions, &node->store) == DBOS_OK);
    struct dbos_log_options options = {.env = node->env,
                                       .data_dir = dir,
                                       .segment_bytes = test_node_segment_bytes,
                                       .objects = node->objects};
    enum dbos_err err = dbos_log_open(&node->alloc, &options, &node->log, &node->info);
    if (err == DBOS_OK) {
        node->recovery = (struct dbos_recovery){.apply = NULL};
        struct dbos_snapshot_load load = {.alloc = &node->alloc,
                                          .env = node->env,
                                          .data_dir = dir,
                                          .database = dbos_log_database(node->log),
                                          .store = node->store,
                                          .log = node->log};
        atomic_store(&node->alloc.fail_countdown, test_node_recovery_fails);
        err = dbos_snapshot_recover(&load, &node->recovery, &node->snapshot, &node->damaged,
                                    &node->info);
        node->has_met_failure = atomic_exchange(&node->alloc.fail_countdown, 0) <= 0;
    }
    if (err == DBOS_OK) {
        err = dbos_log_start(node->log, NULL, NULL, &node->info);
    }
    node->last_us = node->recovery.last_commit_us;
    if (err != DBOS_OK) {
        test_node_close(node);
        return err;
    }
    for (uint32_t i = 0; i < partitions; i++) {
        open_txn(node, i, false, &node->txns[i]);
    }
    open_txn(node, DBOS_PARTITION_ALL, false, &node->barrier);
    return DBOS_OK;
}

enum dbos_err test_node_open(struct test_node *node, const char *dir, uint32_t partitions) {
    return test_node_open_env(node, dir, partitions, dbos_env_posix());
}

void test_node_close(struct test_node *node) {
    for (uint32_t i = 0; i < node->partitions; i++) {
        dbos_txn_close(node->txns[i]);
    }
    dbos_txn_close(node->barrier);
    dbos_log_close(node->log);
    dbos_store_close(node->store);
    dbos_objects_close(node->objects);
    dbos_alloc_fini(&node->alloc);
}

struct dbos_table_def *test_node_def(struct test_node *node, uint32_t id, const char *name,
                                     bool partitioned) {
    struct dbos_column columns[3] = {{.id = 1, .name = "k", .type = DBOS_TYPE_INT8},
                                     {.id = 2, .name = "v", .type = DBOS_TYPE_TEXT},
                                     {.id = 3, .name = "n", .type = DBOS_TYPE_INT4}};
    struct dbos_index_def index = {.id = id * 10,
                                   .kind = DBOS_INDEX_HASH,
                                   .unique = true,
                                   .primary = true,
                                   .column_count = 1,
                                   .columns = {0}};
    struct dbos_table_parts parts = {.id = id,
                                     .schema_version = 1,
                                     .schema = "public",
                                     .name = name,
                                     .partition_column = partitioned ? 0 : -1,
                                     .column_count = 3,
                                     .index_count = 1,
                                     .columns = columns,
                                     .indexes = &index};
    struct dbos_table_def *def = NULL;
    columns[0].not_null = true;
    (void)snprintf(index.name, sizeof index.name, "%s_pkey", name);
    DBOS_CHECK(dbos_table_def_make(&node->alloc, &parts, &def, &node->info) == DBOS_OK);
    return def;
}

struct lines {
    char **items;
    size_t count;
};

static void add_row(struct lines *lines, uint32_t table_id, const struct dbos_row *row) {
    char *line = malloc(96 + 2u * row->size_bytes);
    DBOS_CHECK(line != NULL);
    int at = sprintf(line, "%u %llu@%llu ", table_id, (unsigned long long)row->block,
                     (unsigned long long)row->position);
    for (uint32_t i = 0; i < row->size_bytes; i++) {
        at += sprintf(line + at, "%02x", row->payload[i]);
    }
    lines->items = realloc(lines->items, (lines->count + 1) * sizeof *lines->items);
    DBOS_CHECK(lines->items != NULL);
    lines->items[lines->count++] = line;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void add_table(struct lines *lines, struct test_node *node, uint32_t table_id) {
    for (uint32_t partition = 0; partition < node->partitions; partition++) {
        struct dbos_table *table = dbos_store_table(node->store, table_id, partition);
        struct dbos_cursor cursor;
        DBOS_CHECK(dbos_table_consistent(table));
        dbos_cursor_begin_full(table, &cursor);
        for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL;
             row = dbos_cursor_next(&cursor)) {
            add_row(lines, table_id, row);
        }
        dbos_cursor_end(&cursor);
        if (dbos_table_def_of(table)->partition_column < 0) {
            break;
        }
    }
}

char *test_node_text(struct test_node *node) {
    struct lines lines = {0};
    const struct dbos_catalog *catalog = dbos_store_catalog(node->store);
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        add_table(&lines, node, catalog->tables[i]->id);
    }
    if (lines.count != 0) {
        qsort(lines.items, lines.count, sizeof *lines.items, by_text);
    }
    size_t bytes = 1;
    for (size_t i = 0; i < lines.count; i++) {
        bytes += strlen(lines.items[i]) + 1;
    }
    bytes += catalog->table_count * 128u + catalog->procedure_count * 128u;
    char *text = malloc(bytes);
    DBOS_CHECK(text != NULL);
    char *at = text;
    *at = '\0';
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        const struct dbos_table_def *def = catalog->tables[i];
        at += sprintf(at, "table %u %s v%u i%u\n", def->id, def->name, def->schema_version,
                      def->index_count);
    }
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        at += sprintf(at, "procedure %u v%u\n", catalog->procedures[i]->id,
                      catalog->procedures[i]->version);
    }
    for (size_t i = 0; i < lines.count; i++) {
        at += sprintf(at, "%s\n", lines.items[i]);
        free(lines.items[i]);
    }
    free(lines.items);
    return text;
}

/* --- transactions ---------------------------------------------------------------------------- */

const struct dbos_session_info test_ada = {
    .id = 5, .user = "ada", .role = "reader", .address = "127.0.0.1:9", .application = "psql"};
const struct dbos_txn_call test_call = {.session = &test_ada, .request = 1};

void test_node_open_ok(struct test_node *node, const char *dir, uint32_t partitions) {
    enum dbos_err err = test_node_open(node, dir, partitions);
    cr_assert_eq(err, DBOS_OK, "%s: %s (%s)", dbos_err_name(err), node->info.message,
                 node->info.detail);
}

uint64_t test_node_commit(struct test_node *node, struct dbos_txn *txn) {
    uint64_t position = 0;
    enum dbos_err err = dbos_txn_commit(txn, &position, &node->info);
    cr_assert_eq(err, DBOS_OK, "%s", node->info.message);
    return position;
}

void test_node_create(struct test_node *node, uint32_t id, const char *name, bool partitioned) {
    struct dbos_table_def *def = test_node_def(node, id, name, partitioned);
    dbos_txn_begin(node->barrier, &test_call);
    cr_assert_eq(dbos_txn_create_table(node->barrier, def, &node->info), DBOS_OK, "%s",
                 node->info.message);
    (void)test_node_commit(node, node->barrier);
    dbos_table_def_unref(def);
}
