/* What lies in the archive's files: those of an earlier program are answered like new ones, and
 * rows are in order. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "provenance/archive_check.h"
#include "provenance/archive_relation.h"
#include "tests/integration/archive_support.h"

TestSuite(archive_files, .timeout = 180);

#define expect_text(actual, expected) cr_expect_str_eq(actual, expected, "got:\n%s", actual)

static void advance(struct test_archive *archive, uint64_t position) {
    struct dbos_errinfo info = {.code = DBOS_OK};
    cr_assert_eq(dbos_archiver_advance(archive->archiver, position, &info), DBOS_OK, "%s %s",
                 info.message, info.detail);
}

/* A node's directory with the history of test_play(), and one more transaction when `more`. */
static void make_node(struct test_node *node, char *dir, size_t dir_bytes, bool more) {
    test_dir_make(dir, dir_bytes);
    cr_assert_eq(test_node_open(node, dir, 3), DBOS_OK);
    test_play(node);
    if (more) {
        test_begin(node->barrier, &test_bob, 0);
        test_statement(node->barrier, "insert into acc"); /* the archive knows the text */
        test_put(node->barrier, TEST_ACC, 9, "nine", 90);
        dbos_log_wait(node->log, test_commit(node->barrier));
    }
}

static const struct {
    const char *sql;
    const char *function;
    const char *arguments[3];
} questions[] = {
    {"SELECT * EXCLUDE (start_ts) FROM prov.txn ORDER BY position", NULL, {NULL}},
    {"SELECT * FROM prov.event ORDER BY ord", NULL, {NULL}},
    {"SELECT * FROM prov.event WHERE op = 'statement' ORDER BY ord", NULL, {NULL}},
    {"SELECT * FROM prov.event WHERE op = 'egress' AND position < 5", NULL, {NULL}},
    {"SELECT * FROM prov.session ORDER BY ALL", NULL, {NULL}},
    {"SELECT * FROM prov.statement ORDER BY ALL", NULL, {NULL}},
    {"SELECT * FROM prov.relation ORDER BY ALL", NULL, {NULL}},
    {"SELECT t.username, s.text FROM prov.event e JOIN prov.txn t USING (position) JOIN "
     "prov.statement s USING (statement_id) WHERE e.op = 'statement' ORDER BY e.ord",
     NULL,
     {NULL}},
    {"SELECT * FROM acc ORDER BY k", NULL, {NULL}},
    {"SELECT * FROM dbos_call_0", "prov_last_writer", {"acc"}},
    {"SELECT * FROM dbos_call_0", "prov_history", {"acc"}},
    {"SELECT * FROM dbos_call_0", "prov_history", {"acc", "txn:3", "txn:7"}},
    {"SELECT * FROM dbos_call_0", "prov_user_blocks", {"bob"}},
    {"SELECT * FROM dbos_call_0", "prov_block_readers", {"acc", "1"}},
    {"SELECT * FROM dbos_call_0", "prov_upstream", {"ref", "7"}},
    {"SELECT * FROM dbos_call_0", "prov_downstream", {"acc", "1"}},
    {"SELECT * FROM dbos_call_0 ORDER BY k", "dbos_as_of", {"acc", "txn:4"}},
};

/* Every question has the same answer here and there. */
static void expect_same(struct test_archive *here, struct test_archive *there) {
    for (size_t i = 0; i < sizeof questions / sizeof questions[0]; i++) {
        const char *const *a = questions[i].arguments;
        const char *function = questions[i].function;
        const char *left = test_ask(here, questions[i].sql, function, a[0], a[1], a[2], NULL);
        const char *right = test_ask(there, questions[i].sql, function, a[0], a[1], a[2], NULL);
        cr_expect(strncmp(left, "ERROR", 5) != 0 && strchr(left, '\n')[1] != '\0', "%zu: %s", i,
                  left);
        cr_expect_str_eq(left, right, "%zu: %s\n%s\n%s", i, questions[i].sql, left, right);
    }
}

/* Goal: what the program of schema version 1 wrote stays, and is answered like rows of today,
 * alone, with hot rows and with newer files beside it. */
Test(archive_files, an_archive_of_schema_version_1_answers_as_a_new_one) {
    for (int more = 0; more < 2; more++) {
        char old_dir[64], new_dir[64], path[128];
        struct test_node old_node, new_node;
        struct test_archive old_archive, new_archive;
        uint64_t last = more == 1 ? 9 : 8;
        make_node(&old_node, old_dir, sizeof old_dir, more == 1);
        make_node(&new_node, new_dir, sizeof new_dir, more == 1);
        (void)snprintf(path, sizeof path, "%s/archive", old_dir);
        test_dir_copy(DBOS_SOURCE_DIR "/tests/golden/archive_v1", path);
        test_archive_open(&old_archive, old_dir, 0);
        cr_expect_eq(dbos_archiver_position(old_archive.archiver), 8, "its files count");
        test_archive_open(&new_archive, new_dir, 0);
        advance(&old_archive, last);
        advance(&new_archive, last);
        expect_same(&old_archive, &new_archive);
        test_archive_close(&old_archive);
        test_archive_open(&old_archive, old_dir, 1); /* exports at once */
        advance(&old_archive, last);
        test_archive_close(&old_archive);
        test_archive_open(&old_archive, old_dir, 0);
        cr_expect_eq(dbos_archiver_position(old_archive.archiver), last);
        expect_same(&old_archive, &new_archive);
        test_archive_close(&old_archive);
        test_archive_close(&new_archive);
        test_node_close(&old_node);
        test_node_close(&new_node);
        test_dir_remove(old_dir);
        test_dir_remove(new_dir);
    }
}

/* Rows of `relation` that lie behind one with a higher `column` in their file, files of several
 * chunks, and whether there are files with more than one. */
static void expect_order(struct test_archive *archive, const char *dir, const char *relation,
                         const char *column) {
    char sql[512];
    (void)snprintf(
        sql, sizeof sql,
        "SELECT count(*) FILTER (place < before), max(row) > 2048 FROM (SELECT %s AS place, "
        "file_row_number AS row, lag(%s) OVER (PARTITION BY filename "
        "ORDER BY file_row_number) AS before "
        "FROM read_parquet('%s/archive/%s/*/*.parquet', filename = true, "
        "file_row_number = true))",
        column, column, dir, relation);
    const char *text = test_rows(archive, sql, NULL);
    cr_expect_str_eq(text, "0|t\n", "%s: got %s", relation, text);
}

/* Goal: a question that was asked when all was in memory may be asked again when the first files
 * are there. Method: an archiver that exports between two askings. */
Test(archive_files, the_same_question_before_and_after_the_first_export) {
    static const char question[] = "SELECT count(*), max(position), count(seed) FROM prov.txn";
    char dir[64];
    char wanted[64];
    struct test_node node;
    struct test_archive archive;
    struct dbos_archiver_stats stats;
    uint64_t last = 0;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    test_play(&node);
    test_archive_open(&archive, dir, 300000);
    for (int64_t i = 0; i < 2000; i++) {
        test_begin(node.barrier, &test_ann, 0);
        test_statement(node.barrier, "insert into acc");
        test_put(node.barrier, TEST_ACC, 100 + i, "a value that is not short", (int32_t)i);
        last = test_commit(node.barrier);
        if (i == 0 || i == 1999) {
            dbos_log_wait(node.log, last);
            advance(&archive, last);
            dbos_archiver_stats(archive.archiver, &stats);
            cr_assert_eq(stats.exports != 0, i != 0);
            (void)snprintf(wanted, sizeof wanted, "%llu|%llu|0\n", (unsigned long long)last,
                           (unsigned long long)last);
            const char *text = test_rows(&archive, question, NULL);
            cr_expect_str_eq(text, wanted, "%s", text);
        }
    }
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

static void flip(const char *path, long bit) {
    FILE *file = fopen(path, "r+b");
    cr_assert_not_null(file, "%s", path);
    cr_assert_eq(fseek(file, bit / 8, SEEK_SET), 0);
    int byte = fgetc(file);
    cr_assert_eq(fseek(file, bit / 8, SEEK_SET), 0);
    (void)fputc(byte ^ (1 << (bit % 8)), file);
    (void)fclose(file);
}

static long size_of(const char *path) {
    struct stat facts;
    cr_assert_eq(stat(path, &facts), 0, "%s", path);
    return (long)facts.st_size;
}

static enum dbos_err check_archive(struct test_node *node, const char *dir,
                                   struct dbos_archive_findings *found) {
    return dbos_archive_check(&node->alloc, dbos_env_posix(), dir, true, found, &node->info);
}

/* Every `step`-th bit of [0, bytes) of a file: none is taken for what was written. (A newline that
 * is none makes one line of the last two: then both were being written, and the log has them.) */
static uint32_t expect_flips_refused(struct test_node *node, const char *dir, const char *path,
                                     long bytes, long step) {
    struct dbos_archive_findings found;
    uint32_t count = 0;
    for (long bit = 0; bit < bytes * 8; bit += step) {
        flip(path, bit);
        enum dbos_err err = check_archive(node, dir, &found);
        cr_expect(err == DBOS_ERR_CORRUPT || found.torn_bytes != 0, "bit %ld of %s", bit, path);
        flip(path, bit);
        count++;
    }
    return count;
}

/* A history in several exports, and the archive closed. Where the last line of its manifest begins.
 */
static long make_exports(struct test_node *node, char *dir, size_t dir_bytes, char *manifest,
                         size_t manifest_bytes) {
    struct test_archive archive;
    make_node(node, dir, dir_bytes, false);
    for (int64_t i = 0; i < 4; i++) {
        test_archive_open(&archive, dir, 1);
        test_begin(node->barrier, &test_ann, 0);
        test_put(node->barrier, TEST_ACC, 100 + i, "a value", (int32_t)i);
        uint64_t last = test_commit(node->barrier);
        dbos_log_wait(node->log, last);
        advance(&archive, last);
        test_archive_close(&archive);
    }
    (void)snprintf(manifest, manifest_bytes, "%s/archive/MANIFEST.jsonl", dir);
    FILE *file = fopen(manifest, "rb");
    static char text[65536];
    size_t size_bytes = fread(text, 1, sizeof text - 1, file);
    (void)fclose(file);
    text[size_bytes - 1] = '\0';
    cr_assert_not_null(strchr(text, '\n'), "one line is too few");
    return (long)(strrchr(text, '\n') - text) + 1;
}

/* Goal: a bit that has changed is said, whichever it is, and what is in order is not thrown away
 * for it. An archive whose log is gone can not be made again. */
Test(archive_files, a_flipped_bit_is_refused_and_nothing_is_cut) {
    char dir[64];
    char manifest[128];
    char path[400];
    struct test_node node;
    struct dbos_archive_findings before;
    struct dbos_archive_findings found;
    long last_line = make_exports(&node, dir, sizeof dir, manifest, sizeof manifest);
    long size = size_of(manifest);
    cr_assert_eq(check_archive(&node, dir, &before), DBOS_OK, "%s", node.info.message);
    cr_expect_geq(before.exports, 4);
    cr_expect_eq(before.last_position, 12);
    uint32_t count = expect_flips_refused(&node, dir, manifest, last_line, 5);
    cr_expect_gt(count, 1000);
    /* The last line may be one that was being written, as long as the log has it. */
    flip(manifest, last_line * 8 + 100);
    cr_expect_eq(check_archive(&node, dir, &found), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(found.exports, before.exports - 1);
    cr_expect_eq((long)found.torn_bytes, size - last_line);
    (void)snprintf(path, sizeof path, "cd %s/log && mv 00000001.seg 00000009.seg", dir);
    cr_assert_eq(system(path), 0);
    cr_expect_eq(check_archive(&node, dir, &found), DBOS_ERR_CORRUPT);
    cr_expect_not_null(strstr(node.info.message, "MANIFEST.jsonl is damaged"));
    (void)snprintf(path, sizeof path, "cd %s/log && mv 00000009.seg 00000001.seg", dir);
    cr_assert_eq(system(path), 0);
    flip(manifest, last_line * 8 + 100);
    /* The archiver refuses, and leaves all as it is. */
    flip(manifest, 80);
    cr_expect_eq(test_archive_try(dir), DBOS_ERR_CORRUPT);
    flip(manifest, 80);
    cr_expect_eq(size_of(manifest), size);
    cr_expect_eq(check_archive(&node, dir, &found), DBOS_OK, "%s", node.info.message);
    cr_expect_eq(found.files, before.files);
    /* Files. */
    (void)snprintf(path, sizeof path, "find %s/archive -name '*.parquet'", dir);
    FILE *names = popen(path, "r");
    cr_assert_not_null(names);
    count = 0;
    while (fgets(path, sizeof path, names) != NULL) {
        path[strcspn(path, "\n")] = '\0';
        count += expect_flips_refused(&node, dir, path, size_of(path), 389);
    }
    (void)pclose(names);
    cr_expect_gt(count, 500, "%u", count);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* Goal: the archiver starts without reading all that there is, and answers nothing from a file that
 * it has not compared. */
Test(archive_files, a_damaged_file_is_met_before_anything_is_answered_from_it) {
    char dir[64];
    char manifest[128];
    char path[400];
    struct test_node node;
    struct test_archive archive;
    struct dbos_errinfo info = {.code = DBOS_OK};
    (void)make_exports(&node, dir, sizeof dir, manifest, sizeof manifest);
    (void)snprintf(path, sizeof path, "find %s/archive/t_100 -name '*.parquet' | sort", dir);
    FILE *names = popen(path, "r");
    cr_assert_not_null(fgets(path, sizeof path, names));
    (void)pclose(names);
    path[strcspn(path, "\n")] = '\0';
    flip(path, 800);
    test_archive_open(&archive, dir, 0);
    const char *said = test_rows(&archive, "SELECT count(*) FROM acc", NULL, NULL);
    cr_expect_not_null(strstr(said, "ERROR XX001"), "%s", said);
    cr_expect_not_null(strstr(said, "is damaged or missing"), "%s", said);
    cr_expect(dbos_archiver_has_unchecked(archive.archiver));
    cr_expect_eq(dbos_archiver_check_next(archive.archiver, &info), DBOS_ERR_CORRUPT);
    flip(path, 800);
    said = test_rows(&archive, "SELECT count(*) FROM acc", NULL, NULL);
    cr_expect_null(strstr(said, "ERROR"), "%s", said);
    cr_expect_not(dbos_archiver_has_unchecked(archive.archiver));
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* Goal: rows are in the order of commit in each file, where a day ends in the middle of an export,
 * too. */
Test(archive_files, rows_lie_in_order) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    uint64_t last = 0;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    test_play(&node);
    for (int64_t i = 0; i < 12000; i++) {
        node.last_us += i == 5000 ? INT64_C(86400000000) : 1000;
        test_begin(node.barrier, &test_ann, 0);
        test_statement(node.barrier, "insert into acc");
        test_put(node.barrier, TEST_ACC, 100 + i, "a value that is not short", (int32_t)i);
        test_scan(node.barrier, TEST_REF);
        last = test_commit(node.barrier);
        if (i % 500 == 0) { /* an export ends with a batch: they shall not be large */
            dbos_log_wait(node.log, last);
        }
    }
    dbos_log_wait(node.log, last);
    test_archive_open(&archive, dir, 2200000); /* the second of three exports has both days */
    advance(&archive, last);
    struct dbos_archiver_stats stats;
    dbos_archiver_stats(archive.archiver, &stats);
    cr_expect_geq(stats.exports, 2);
    expect_order(&archive, dir, "txn", "position");
    expect_order(&archive, dir, "access", "ord");
    expect_order(&archive, dir, "event", "ord");
    expect_order(&archive, dir, "t_100", "ord");
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* Goal: statements that many transactions share, and more of them than are shared, are all there,
 * before and after a restart. */
Test(archive_files, every_statement_is_an_event_however_many_a_transaction_has) {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
    uint64_t last = 0;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 3), DBOS_OK);
    test_play(&node);
    for (int i = 0; i < 300; i++) {
        int statements = i % 3 == 0 ? 2 : i % 3 == 1 ? 64 : 65 + i % 2;
        test_begin(node.barrier, &test_ann, 0);
        for (int n = 0; n < statements; n++) {
            test_statement(node.barrier, n % 2 == 0 ? "insert into acc" : "select from acc");
            (void)test_read(node.barrier, TEST_ACC, 1);
            dbos_txn_note_egress(node.barrier, (uint32_t)n, 100, 5);
        }
        last = test_commit(node.barrier);
    }
    dbos_log_wait(node.log, last);
    for (int round = 0; round < 3; round++) {
        test_archive_open(&archive, dir, round == 1 ? 1 : 0);
        advance(&archive, last);
        expect_text(test_rows(&archive,
                              "SELECT op, count(*), count(DISTINCT ord), sum(statement), sum(count)"
                              " FROM prov.event WHERE position > 8 GROUP BY op ORDER BY op",
                              NULL),
                    "egress|13150|13150|426100|412950\n"
                    "read|13150|13150|426100|13150\n"
                    "statement|13150|13150|426100|0\n");
        expect_text(test_rows(&archive,
                              "SELECT count(*) FROM (SELECT position, statement, "
                              "list(op ORDER BY ord) AS ops FROM prov.event WHERE position > 8 "
                              "GROUP BY ALL) WHERE ops = ['statement', 'read', 'egress']",
                              NULL),
                    "13150\n");
        expect_text(test_rows(&archive,
                              "SELECT count(DISTINCT steps), count(*) FROM arch.step "
                              "WHERE position > 8",
                              NULL),
                    "2|66\n");
        test_archive_close(&archive);
    }
    test_node_close(&node);
    test_dir_remove(dir);
}

/* t_7 (k bigint, and with `more` v text). */
static struct dbos_table_def *make_def(struct dbos_alloc *alloc, bool more) {
    struct dbos_column columns[2] = {{.id = 1, .name = "k", .type = DBOS_TYPE_INT8},
                                     {.id = 2, .name = "v", .type = DBOS_TYPE_TEXT}};
    struct dbos_table_parts parts = {.id = 7,
                                     .schema_version = more ? 2 : 1,
                                     .schema = "public",
                                     .name = "t",
                                     .partition_column = -1,
                                     .column_count = more ? 2 : 1,
                                     .columns = columns};
    struct dbos_table_def *def = NULL;
    struct dbos_errinfo info;
    cr_assert_eq(dbos_table_def_make(alloc, &parts, &def, &info), DBOS_OK, "%s", info.message);
    return def;
}

/* One version with k, and with v when the relation has it. */
static void put_row(struct dbos_archive_relation *relation, int64_t k) {
    struct dbos_errinfo info;
    cr_assert_eq(dbos_archive_row_begin(relation, &info), DBOS_OK);
    for (uint32_t i = 0; i < DBOS_ROW_COLUMNS; i++) {
        if (i == DBOS_ROW_COLUMN_PK) {
            dbos_archive_put_null(relation, i);
        } else {
            dbos_archive_put_int(relation, i, k);
        }
    }
    dbos_archive_put_int(relation, relation->places[0], k);
    if (relation->def->column_count == 2) {
        dbos_archive_put_bytes(relation, relation->places[1], "a text of some length", 21);
    }
    dbos_archive_row_end(relation);
}

/* SELECT of two integers, as text. */
static void select_pair(const struct dbos_duckdb *duck, duckdb_connection connection,
                        const char *sql, char *out, size_t out_bytes) {
    duckdb_result result;
    struct dbos_errinfo info;
    cr_assert_eq(dbos_duckdb_select(duck, connection, sql, &result, &info), DBOS_OK, "%s",
                 info.message);
    duckdb_data_chunk chunk = duck->fetch_chunk(result);
    const int64_t *left = duck->vector_get_data(duck->data_chunk_get_vector(chunk, 0));
    const int64_t *right = duck->vector_get_data(duck->data_chunk_get_vector(chunk, 1));
    (void)snprintf(out, out_bytes, "%lld %lld", (long long)left[0], (long long)right[0]);
    duck->destroy_data_chunk(&chunk);
    duck->destroy_result(&result);
}

/* Goal: rows that were put before their table got a column are shown without it, in every run of a
 * query; emptied chunks show nothing, and are filled again. */
Test(archive_files, hot_rows_keep_the_columns_that_they_had) {
    struct test_archive archive; /* for its library */
    char dir[64], pair[64];
    struct test_node node;
    struct dbos_alloc alloc;
    struct dbos_archive_relation relation;
    struct dbos_errinfo info;
    duckdb_database database;
    duckdb_connection connection;
    test_dir_make(dir, sizeof dir);
    cr_assert_eq(test_node_open(&node, dir, 1), DBOS_OK);
    test_archive_open(&archive, dir, 0);
    const struct dbos_duckdb *duck = archive.duck;
    cr_assert_eq(duck->open_ext(NULL, &database, NULL, NULL), DuckDBSuccess);
    cr_assert_eq(duck->connect(database, &connection), DuckDBSuccess);
    cr_assert_eq(dbos_duckdb_run(duck, connection, "CREATE SCHEMA arch", &info), DBOS_OK);
    dbos_alloc_init(&alloc, "relation", 0);
    struct dbos_table_def *narrow = make_def(&alloc, false), *wide = make_def(&alloc, true);
    cr_assert_eq(dbos_archive_relation_init_table(&relation, &alloc, duck, connection, narrow),
                 DBOS_OK);
    for (int round = 0; round < 2; round++) {
        bool is_wide = round == 1;
        for (int64_t k = 0; k < 20000; k++) {
            put_row(&relation, k);
        }
        if (!is_wide) {
            cr_assert_eq(dbos_archive_relation_redefine(&relation, wide, &info), DBOS_OK);
            cr_expect(dbos_archive_relation_lacks(&relation, relation.places[1]));
        }
        for (int64_t k = 0; k < 100; k++) {
            put_row(&relation, k);
        }
        cr_expect_not(dbos_archive_relation_lacks(&relation, relation.places[1]));
        cr_expect(dbos_archive_relation_lacks(&relation, DBOS_ROW_COLUMN_PK));
        cr_assert_eq(dbos_archive_relation_view(&relation, "", &info), DBOS_OK, "%s", info.message);
        for (int again = 0; again < 2; again++) {
            select_pair(duck, connection, "SELECT count(*), sum(c1_k)::BIGINT FROM arch.t_7", pair,
                        sizeof pair);
            expect_text(pair, "20100 199994950");
            select_pair(duck, connection,
                        "SELECT count(c2_v), sum(length(c2_v))::BIGINT FROM arch.t_7", pair,
                        sizeof pair);
            expect_text(pair, is_wide ? "20100 422100" : "100 2100");
        }
        dbos_archive_relation_cool(&relation);
        select_pair(duck, connection, "SELECT count(*), 5::BIGINT FROM arch.t_7", pair,
                    sizeof pair);
        expect_text(pair, "0 5");
    }
    dbos_archive_relation_fini(&relation);
    dbos_table_def_unref(narrow);
    dbos_table_def_unref(wide);
    duck->disconnect(&connection);
    duck->close(&database);
    dbos_alloc_fini(&alloc);
    test_archive_close(&archive);
    test_node_close(&node);
    test_dir_remove(dir);
}
