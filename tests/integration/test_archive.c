/* From transactions to answers: the log of a real node, the archiver on it, every function. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/integration/archive_support.h"

TestSuite(archive, .timeout = 180);

#define expect_text(actual, expected) cr_expect_str_eq(actual, expected, "got:\n%s", actual)

struct scene {
    char dir[64];
    struct test_node node;
    struct test_archive archive;
};

static void open_scene(struct scene *scene) {
    test_dir_make(scene->dir, sizeof scene->dir);
    cr_assert_eq(test_node_open(&scene->node, scene->dir, 3), DBOS_OK);
    test_play(&scene->node);
    test_archive_open(&scene->archive, scene->dir, 0);
    struct dbos_errinfo info;
    cr_assert_eq(dbos_archiver_advance(scene->archive.archiver, 8, &info), DBOS_OK, "%s",
                 info.message);
}

static void close_scene(struct scene *scene) {
    test_archive_close(&scene->archive);
    test_node_close(&scene->node);
    test_dir_remove(scene->dir);
}

Test(archive, last_writer_and_history_name_every_version) {
    struct scene scene;
    open_scene(&scene);
    struct test_archive *a = &scene.archive;
    expect_text(test_rows(a,
                          "SELECT table_name, pk, username, op, position, statement, ts FROM "
                          "dbos_call_0",
                          "prov_last_writer", "acc", NULL),
                "acc|2|ann|insert|8|1|2023-11-14 22:13:20.000008+00\n");
    expect_text(test_rows(a, "SELECT pk, username, op, position FROM dbos_call_0",
                          "prov_last_writer", "public.acc", "1", NULL),
                "1|ann|update|5\n");
    expect_text(test_ask(a,
                         "SELECT position, op, username, pk, k, v, n, old_k, old_v, old_n FROM "
                         "dbos_call_0",
                         "prov_history", "acc", "2", NULL),
                "position:20|op:25|username:25|pk:25|k:20|v:25|n:23|old_k:20|old_v:25|old_n:23\n"
                "2|insert|ann|2|2|~|20|~|~|~\n"
                "6|delete|ann|2|~|~|~|2|~|20\n"
                "8|insert|ann|2|2|again|21|~|~|~\n");
    expect_text(test_rows(a, "SELECT position, pk, v, old_v FROM dbos_call_0", "prov_history",
                          "acc", "txn:3", "txn:6", NULL),
                "3|3|copy|~\n5|1|uno|one\n");
    expect_text(test_rows(a, "SELECT position FROM dbos_call_0", "prov_history", "acc", "99", NULL),
                "");
    close_scene(&scene);
}

Test(archive, as_of_shows_the_rows_of_every_position) {
    struct scene scene;
    open_scene(&scene);
    struct test_archive *a = &scene.archive;
    const char *const expected[] = {
        [1] = "",
        [2] = "1|one|10\n2|~|20\n",
        [3] = "1|one|10\n2|~|20\n3|copy|11\n",
        [4] = "1|one|10\n2|~|20\n3|copy|11\n",
        [5] = "1|uno|12\n2|~|20\n3|copy|11\n",
        [6] = "1|uno|12\n3|copy|11\n",
        [7] = "1|uno|12\n3|copy|11\n",
        [8] = "1|uno|12\n2|again|21\n3|copy|11\n",
    };
    for (int i = 1; i <= 8; i++) {
        char position[32], time[64];
        (void)snprintf(position, sizeof position, "txn:%d", i);
        (void)snprintf(time, sizeof time, "2023-11-14 22:13:20.%06d+00", i);
        expect_text(test_rows(a, "SELECT * FROM dbos_call_0 ORDER BY k", "dbos_as_of", "acc",
                              position, NULL),
                    expected[i]);
        expect_text(
            test_rows(a, "SELECT * FROM dbos_call_0 ORDER BY k", "dbos_as_of", "acc", time, NULL),
            expected[i]);
    }
    close_scene(&scene);
}

Test(archive, readers_and_user_blocks_count_scans_and_aborted_reads) {
    struct scene scene;
    open_scene(&scene);
    struct test_archive *a = &scene.archive;
    expect_text(test_rows(a, "SELECT username, n_reads, via, positions FROM dbos_call_0",
                          "prov_block_readers", "acc", "1", NULL),
                "bob|2|row|{3,7}\nbob|1|scan|{4}\nann|1|row|{5}\n");
    expect_text(test_rows(a, "SELECT username, via, positions FROM dbos_call_0",
                          "prov_block_readers", "acc", "3", NULL),
                "bob|scan|{4}\n");
    expect_text(test_rows(a,
                          "SELECT table_name, pk, op, n, last_position, egress FROM dbos_call_0 "
                          "ORDER BY 1, 2, 3",
                          "prov_user_blocks", "bob", NULL),
                "acc|1|read|3|7|t\nacc|2|read|1|4|f\nacc|3|insert|1|3|f\nacc|3|read|1|4|f\n"
                "ref|7|insert|1|4|f\n");
    expect_text(test_rows(a,
                          "SELECT table_name, pk, op, n FROM dbos_call_0 WHERE table_name = 'acc'"
                          " ORDER BY 1, 2, 3",
                          "prov_user_blocks", "ann", "txn:5", NULL),
                "acc|1|read|1\nacc|1|update|1\nacc|2|delete|1\nacc|2|insert|1\nacc|2|read|1\n");
    close_scene(&scene);
}

Test(archive, upstream_and_downstream_are_inverse) {
    struct scene scene;
    open_scene(&scene);
    struct test_archive *a = &scene.archive;
    expect_text(test_rows(a,
                          "SELECT depth, table_name, pk, position, username, op, "
                          "parent_position, parent_table FROM dbos_call_0 ORDER BY depth, pk",
                          "prov_upstream", "ref", "7", NULL),
                "0|ref|7|4|bob|insert|~|~\n1|acc|1|2|ann|insert|4|ref\n1|acc|2|2|ann|insert|4|ref\n"
                "1|acc|3|3|bob|insert|4|ref\n");
    expect_text(test_rows(a,
                          "SELECT depth, table_name, pk, position FROM dbos_call_0 "
                          "ORDER BY depth, position, pk",
                          "prov_downstream", "acc", "1", NULL),
                "0|acc|1|2\n0|acc|1|5\n1|acc|3|3\n1|ref|7|4\n");
    expect_text(test_rows(a,
                          "SELECT depth, table_name, pk, position FROM dbos_call_0 "
                          "ORDER BY depth, position, pk",
                          "prov_upstream", "acc", "1", NULL),
                "0|acc|1|5\n1|acc|1|2\n");
    expect_text(
        test_rows(a, "SELECT count(*) FROM dbos_call_0", "prov_upstream", "ref", "7", "0", NULL),
        "1\n");
    close_scene(&scene);
}

Test(archive, wrong_questions_have_the_right_sqlstate) {
    struct scene scene;
    open_scene(&scene);
    struct test_archive *a = &scene.archive;
    const struct {
        const char *sql, *function, *first, *second;
        const char *sqlstate;
    } cases[] = {
        {"SELECT * FROM dbos_call_0", "prov_history", "nothing", NULL, "42P01"},
        {"SELECT * FROM dbos_call_0", "prov_nothing", "acc", NULL, "42883"},
        {"SELECT * FROM dbos_call_0", "prov_upstream", "acc", NULL, "42883"},
        {"SELECT * FROM dbos_call_0", "dbos_as_of", "acc", "2001-01-01", "72001"},
        {"SELECT * FROM dbos_call_0", "dbos_as_of", "acc", "txn:0", "72001"},
        {"SELECT * FROM dbos_call_0", "dbos_as_of", "acc", "txn:9", "22023"},
        {"SELECT * FROM dbos_call_0", "dbos_as_of", "acc", "yesterday?", "22007"},
        {"SELECT * FROM dbos_call_0", "prov_history", "acc", "block:x", "22023"},
        {"SELECT nothing FROM dbos_call_0", "prov_history", "acc", NULL, "42703"},
        {"SELECT * FROM nowhere", NULL, NULL, NULL, "42P01"},
        {"SELEC 1", NULL, NULL, NULL, "42601"},
        {"SELECT 1; SELECT 2", NULL, NULL, NULL, "0A000"},
        {"CREATE TABLE x (a int)", NULL, NULL, NULL, "25006"},
        {"DROP VIEW arch.event", NULL, NULL, NULL, "25006"},
        {"COPY (SELECT 1) TO '/tmp/x'", NULL, NULL, NULL, "42501"},
        {"SET threads = 9", NULL, NULL, NULL, "25006"},
        {"SELECT * FROM read_text('/etc/hostname')", NULL, NULL, NULL, "42501"},
        {"SELECT $1", NULL, NULL, NULL, "42P02"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text =
            test_ask(a, cases[i].sql, cases[i].function, cases[i].first, cases[i].second, NULL);
        cr_expect_str_eq(a->info.sqlstate, cases[i].sqlstate, "%s %s: %s", cases[i].sql,
                         cases[i].function == NULL ? "" : cases[i].function, text);
    }
    expect_text(
        test_rows(a, "SELECT 1, 2.5, NULL, true, 'x', 1.5::double, [1,2], DATE '2020-01-02'", NULL),
        "1|2.5|~|t|x|1.5|[1, 2]|2020-01-02\n");
    expect_text(test_rows(a, "SELECT count(*), sum(n), avg(n) FROM acc", NULL),
                "3|44|14.666666666666666\n");
    expect_text(test_ask(a,
                         "SELECT count(*), sum(n), n + 1, max(k) AS m FROM acc WHERE k < 0 "
                         "GROUP BY n",
                         NULL),
                "count:20|sum:20|?column?:23|m:20\n");
    expect_text(test_rows(a, "SELECT username, count(*) FROM prov.txn GROUP BY 1 ORDER BY 1", NULL),
                "ann|5\nbob|3\n");
    expect_text(test_rows(a,
                          "SELECT table_name, op, count(*) FROM prov.event WHERE table_name = "
                          "'ref' GROUP BY 1, 2",
                          NULL),
                "ref|insert|1\n");
    expect_text(test_rows(a, "SELECT count(*) FROM prov.statement", NULL), "7\n");
    close_scene(&scene);
}
