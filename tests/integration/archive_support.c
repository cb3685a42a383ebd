#include "tests/integration/archive_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum dbos_err open_archive(struct test_archive *t, const char *dir, uint64_t hot_bytes_max) {
    const char *paths[] = {getenv("DBOS_DUCKDB_LIBRARY"),
                           DBOS_SOURCE_DIR "/third_party/duckdb/libduckdb.so"};
    memset(t, 0, sizeof *t);
    dbos_alloc_init(&t->alloc, "archive", 0);
    DBOS_CHECK(dbos_duckdb_open(&t->alloc, paths, 2, &t->duck, &t->info) == DBOS_OK);
    struct dbos_archiver_options options = {
        .env = dbos_env_posix(),
        .duck = t->duck,
        .data_dir = dir,
        .memory_mb = 512,
        .hot_bytes_max = hot_bytes_max,
    };
    return dbos_archiver_open(&t->alloc, &options, &t->archiver, &t->info);
}

void test_archive_open(struct test_archive *t, const char *dir, uint64_t hot_bytes_max) {
    if (open_archive(t, dir, hot_bytes_max) != DBOS_OK) {
        (void)fprintf(stderr, "archive: %s %s\n", t->info.message, t->info.detail);
        abort();
    }
}

enum dbos_err test_archive_try(const char *dir) {
    struct test_archive archive;
    enum dbos_err err = open_archive(&archive, dir, 0);
    test_archive_close(&archive);
    return err;
}

void test_archive_close(struct test_archive *t) {
    dbos_archiver_close(t->archiver);
    dbos_duckdb_close(t->duck);
    dbos_alloc_fini(&t->alloc);
    free(t->text);
}

static void add_text(struct test_archive *t, const void *data, size_t size_bytes) {
    t->text = realloc(t->text, t->text_bytes + size_bytes + 1);
    DBOS_CHECK(t->text != NULL);
    memcpy(t->text + t->text_bytes, data, size_bytes);
    t->text_bytes += size_bytes;
    t->text[t->text_bytes] = '\0';
}

static enum dbos_err take_columns(void *arg, const struct dbos_archive_result_column *columns,
                                  uint32_t count, struct dbos_errinfo *info) {
    struct test_archive *t = arg;
    (void)info;
    for (uint32_t i = 0; i < count; i++) {
        add_text(t, i == 0 ? "" : "|", i == 0 ? 0 : 1);
        add_text(t, columns[i].name, strlen(columns[i].name));
        char oid[16];
        (void)snprintf(oid, sizeof oid, ":%u", columns[i].oid);
        add_text(t, oid, strlen(oid));
    }
    add_text(t, "\n", 1);
    return DBOS_OK;
}

static enum dbos_err take_row(void *arg, const struct dbos_bytes *cells, uint32_t count,
                              struct dbos_errinfo *info) {
    struct test_archive *t = arg;
    (void)info;
    for (uint32_t i = 0; i < count; i++) {
        add_text(t, i == 0 ? "" : "|", i == 0 ? 0 : 1);
        if (cells[i].data == NULL) {
            add_text(t, "~", 1);
        } else {
            add_text(t, cells[i].data, cells[i].size_bytes);
        }
    }
    add_text(t, "\n", 1);
    return DBOS_OK;
}

static const char *ask(struct test_archive *t, const char *sql, const char *function,
                       va_list arguments) {
    struct dbos_archive_value values[DBOS_ARCHIVE_ARGUMENTS_MAX] = {{0}};
    struct dbos_archive_function_call call = {.function = function, .arguments = values};
    const char *argument;
    while (function != NULL && (argument = va_arg(arguments, const char *)) != NULL) {
        values[call.argument_count++].text = argument;
    }
    struct dbos_archive_question question = {
        .sql = sql, .position = t->as_of, .call_count = function == NULL ? 0 : 1, .calls = &call};
    struct dbos_archive_sink sink = {take_columns, take_row, t};
    t->text_bytes = 0;
    add_text(t, "", 0);
    memset(&t->info, 0, sizeof t->info);
    if (dbos_archiver_query(t->archiver, &question, &sink, &t->info) != DBOS_OK) {
        t->text_bytes = 0;
        add_text(t, "ERROR ", 6);
        add_text(t, t->info.sqlstate, strlen(t->info.sqlstate));
        add_text(t, ": ", 2);
        add_text(t, t->info.message, strlen(t->info.message));
    }
    return t->text;
}

const char *test_ask(struct test_archive *t, const char *sql, const char *function, ...) {
    va_list arguments;
    va_start(arguments, function);
    const char *text = ask(t, sql, function, arguments);
    va_end(arguments);
    return text;
}

const char *test_rows(struct test_archive *t, const char *sql, const char *function, ...) {
    va_list arguments;
    va_start(arguments, function);
    const char *text = ask(t, sql, function, arguments);
    va_end(arguments);
    const char *line = strchr(text, '\n');
    return strncmp(text, "ERROR", 5) == 0 || line == NULL ? text : line + 1;
}

/* -- transactions -------------------------------------------------------------------------------
 */

void test_begin(struct dbos_txn *txn, const struct dbos_session_info *session, uint32_t procedure) {
    struct dbos_txn_call call = {.session = session,
                                 .request = 1,
                                 .procedure = procedure,
                                 .procedure_version = procedure == 0 ? 0 : 1};
    dbos_txn_begin(txn, &call);
}

uint64_t test_commit(struct dbos_txn *txn) {
    struct dbos_errinfo info;
    uint64_t position;
    DBOS_CHECK(dbos_txn_commit(txn, &position, &info) == DBOS_OK);
    return position;
}

void test_statement(struct dbos_txn *txn, const char *text) {
    dbos_txn_statement(txn, dbos_hash64(0, text, strlen(text)), text);
}

static void make_datums(struct dbos_datum *datums, int64_t k, const char *v, int32_t n) {
    datums[0] = dbos_datum_int(DBOS_TYPE_INT8, k);
    datums[1] = v == NULL ? dbos_datum_null(DBOS_TYPE_TEXT)
                          : dbos_datum_bytes(DBOS_TYPE_TEXT, v, strlen(v));
    datums[2] = dbos_datum_int(DBOS_TYPE_INT4, n);
}

static void must(enum dbos_err err, const struct dbos_errinfo *info) {
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "%s\n", info->message);
        abort();
    }
}

void test_put(struct dbos_txn *txn, uint32_t table, int64_t k, const char *v, int32_t n) {
    struct dbos_datum datums[3];
    struct dbos_errinfo info;
    struct dbos_row *row;
    make_datums(datums, k, v, n);
    must(dbos_txn_insert(txn, table, datums, &row, &info), &info);
}

/* The partition that has the key. */
static struct dbos_table *part_of(struct dbos_txn *txn, uint32_t table, int64_t k) {
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, k);
    struct dbos_table_def *def = dbos_catalog_table_by_id(dbos_txn_catalog(txn), table);
    struct dbos_errinfo info;
    uint32_t partition = 0;
    must(dbos_txn_route(txn, def, &key, &partition, &info), &info);
    return dbos_txn_table(txn, table, partition);
}

struct dbos_row *test_read(struct dbos_txn *txn, uint32_t table, int64_t k) {
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, k);
    struct dbos_row *row = dbos_table_find(part_of(txn, table, k), 0, &key);
    if (row == NULL) {
        dbos_txn_note_absent(txn, table, table * 10, &key, 1);
    } else {
        dbos_txn_note_read(txn, table, row);
    }
    return row;
}

void test_change(struct dbos_txn *txn, uint32_t table, int64_t k, const char *v, int32_t n) {
    struct dbos_datum datums[3];
    struct dbos_errinfo info;
    struct dbos_row *fresh;
    struct dbos_row *row = test_read(txn, table, k);
    DBOS_CHECK(row != NULL);
    make_datums(datums, k, v, n);
    must(dbos_txn_update(txn, table, row, datums, &fresh, &info), &info);
}

void test_erase(struct dbos_txn *txn, uint32_t table, int64_t k) {
    struct dbos_errinfo info;
    struct dbos_row *row = test_read(txn, table, k);
    DBOS_CHECK(row != NULL);
    must(dbos_txn_delete(txn, table, row, &info), &info);
}

void test_scan(struct dbos_txn *txn, uint32_t table) {
    uint32_t partitions = dbos_store_partitions(dbos_txn_store(txn));
    for (uint32_t i = 0; i < partitions; i++) {
        if (!dbos_txn_has_partition(txn, i)) {
            continue;
        }
        struct dbos_table *part = dbos_txn_table(txn, table, i);
        dbos_txn_note_scan(txn, table, i, dbos_table_row_count(part));
        if (dbos_table_def_of(part)->partition_column < 0) {
            return;
        }
    }
}

/* -- a history ------------------------------------------------------------------------------------
 */

const struct dbos_session_info test_ann = {
    .id = 11, .user = "ann", .role = "ann", .address = "127.0.0.1", .application = "test"};
const struct dbos_session_info test_bob = {
    .id = 12, .user = "bob", .role = "bob", .address = "127.0.0.1", .application = "test"};

void test_play(struct test_node *node) {
    struct dbos_txn *all = node->barrier;
    node->last_us = INT64_C(1700000000000000); /* 2023-11-14 22:13:20 UTC */
    test_begin(all, &test_ann, 0);
    struct dbos_table_def *acc = test_node_def(node, TEST_ACC, "acc", true);
    struct dbos_table_def *ref = test_node_def(node, TEST_REF, "ref", false);
    test_statement(all, "create table acc");
    DBOS_CHECK(dbos_txn_create_table(all, acc, &node->info) == DBOS_OK);
    DBOS_CHECK(dbos_txn_create_table(all, ref, &node->info) == DBOS_OK);
    DBOS_CHECK(test_commit(all) == 1);
    dbos_table_def_unref(acc);
    dbos_table_def_unref(ref);

    test_begin(all, &test_ann, 0);
    test_statement(all, "insert into acc");
    test_put(all, TEST_ACC, 1, "one", 10);
    test_put(all, TEST_ACC, 2, NULL, 20);
    DBOS_CHECK(test_commit(all) == 2);

    test_begin(all, &test_bob, 0);
    test_statement(all, "select from acc");
    (void)test_read(all, TEST_ACC, 1);
    dbos_txn_note_egress(all, 1, 100, 5);
    test_statement(all, "insert into acc");
    test_put(all, TEST_ACC, 3, "copy", 11);
    DBOS_CHECK(test_commit(all) == 3);

    test_begin(all, &test_bob, 0);
    test_statement(all, "select * from acc");
    test_scan(all, TEST_ACC);
    test_statement(all, "insert into ref");
    test_put(all, TEST_REF, 7, "sum", 41);
    DBOS_CHECK(test_commit(all) == 4);

    test_begin(all, &test_ann, 0);
    test_statement(all, "update acc");
    test_change(all, TEST_ACC, 1, "uno", 12);
    DBOS_CHECK(test_commit(all) == 5);

    test_begin(all, &test_ann, 0);
    test_statement(all, "delete from acc");
    test_erase(all, TEST_ACC, 2);
    DBOS_CHECK(test_commit(all) == 6);

    test_begin(all, &test_bob, 0);
    test_statement(all, "select from acc");
    (void)test_read(all, TEST_ACC, 1);
    DBOS_CHECK(dbos_txn_abort(all, DBOS_ERR_RAISED) == 7);

    test_begin(all, &test_ann, 0);
    test_statement(all, "insert into acc");
    test_put(all, TEST_ACC, 2, "again", 21);
    DBOS_CHECK(test_commit(all) == 8);
    dbos_log_wait(node->log, 8);
}
