/* The engine's client and the archiver's process: questions, cancelling, deadlines, deaths. */
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "engine/archive_client.h"
#include "tests/integration/archive_support.h"

TestSuite(archive_client, .timeout = 120);

enum { ACC = 100, ROWS = 5000 };

static const struct dbos_session_info ann = {
    .id = 11, .user = "ann", .role = "ann", .address = "127.0.0.1", .application = "test"};

struct client_scene {
    char dir[64];
    struct test_node node;
    struct dbos_alloc alloc;
    struct dbos_archive_client *client;
    uint64_t position;
    struct dbos_errinfo info;
    uint64_t rows;
    uint64_t bytes;
    char columns[256];
    char first[512]; /* the first row */
    enum dbos_err fail_with;
};

static void open_client_scene(struct client_scene *scene) {
    memset(scene, 0, sizeof *scene);
    test_dir_make(scene->dir, sizeof scene->dir);
    cr_assert_eq(test_node_open(&scene->node, scene->dir, 2), DBOS_OK);
    struct dbos_txn *all = scene->node.barrier;
    struct dbos_table_def *acc = test_node_def(&scene->node, ACC, "acc", true);
    scene->node.last_us = INT64_C(1700000000000000);
    test_begin(all, &ann, 0);
    cr_assert_eq(dbos_txn_create_table(all, acc, &scene->node.info), DBOS_OK);
    dbos_table_def_unref(acc);
    test_statement(all, "insert into acc");
    for (int64_t i = 0; i < ROWS; i++) {
        test_put(all, ACC, i, "some text that makes the answer larger", (int32_t)i);
    }
    scene->position = test_commit(all);
    dbos_log_wait(scene->node.log, scene->position);
    dbos_alloc_init(&scene->alloc, "client", 0);
    cr_assert_eq(dbos_archive_client_open(&scene->alloc, dbos_env_posix(), DBOS_BIN_DIR, scene->dir,
                                          &scene->client, &scene->info),
                 DBOS_OK, "%s", scene->info.message);
}

static void close_client_scene(struct client_scene *scene) {
    dbos_archive_client_close(scene->client);
    dbos_alloc_fini(&scene->alloc);
    test_node_close(&scene->node);
    test_dir_remove(scene->dir);
}

static enum dbos_err note_columns(void *arg, const struct dbos_result_column *columns,
                                  uint32_t count, struct dbos_errinfo *info) {
    struct client_scene *scene = arg;
    (void)info;
    for (uint32_t i = 0; i < count; i++) {
        size_t used = strlen(scene->columns);
        (void)snprintf(scene->columns + used, sizeof scene->columns - used, "%s%s %s",
                       i == 0 ? "" : ", ", columns[i].name,
                       dbos_type_name((enum dbos_type)columns[i].type));
    }
    return DBOS_OK;
}

static enum dbos_err note_row(void *arg, const char *const *cells, const size_t *sizes,
                              struct dbos_errinfo *info) {
    struct client_scene *scene = arg;
    if (scene->rows == 0) {
        (void)snprintf(scene->first, sizeof scene->first, "%.*s",
                       cells[0] == NULL ? 1 : (int)sizes[0], cells[0] == NULL ? "~" : cells[0]);
    }
    scene->rows++;
    scene->bytes += cells[0] == NULL ? 0 : sizes[0];
    return scene->fail_with == DBOS_OK ? DBOS_OK
                                       : dbos_fail(info, scene->fail_with, "enough of it");
}

static enum dbos_err ask(struct client_scene *scene, const char *sql,
                         const struct dbos_archive_call *call, const char *parameter,
                         uint64_t timeout_us, const _Atomic uint32_t *cancel, bool describe_only) {
    struct dbos_archive_query query = {
        .sql = sql, .call_count = call == NULL ? 0 : 1, .calls = call};
    struct dbos_archive_request request = {.query = &query,
                                           .position = scene->position,
                                           .parameters = &parameter,
                                           .parameter_count = parameter == NULL ? 0 : 1,
                                           .describe_only = describe_only,
                                           .timeout_us = timeout_us,
                                           .cancel = cancel,
                                           .columns = note_columns,
                                           .row = note_row,
                                           .arg = scene};
    scene->rows = 0;
    scene->bytes = 0;
    scene->columns[0] = '\0';
    scene->first[0] = '\0';
    memset(&scene->info, 0, sizeof scene->info);
    return dbos_archive_query(scene->client, &request, &scene->info);
}

static const char long_query[] = "SELECT count(*) FROM range(1000000) a, range(1000000) b "
                                 "WHERE a.range * b.range % 7 = 3";

Test(archive_client, a_question_goes_through_the_process_and_back) {
    struct client_scene scene;
    open_client_scene(&scene);
    struct dbos_archive_argument arguments[] = {{.row_type = "acc"}, {.parameter = 1}};
    struct dbos_archive_call call = {
        .function = "dbos_as_of", .argument_count = 2, .arguments = arguments, .position = 15};
    cr_expect_eq(ask(&scene, "SELECT v, k, n FROM dbos_call_0 WHERE k < 1000 ORDER BY k", &call,
                     "txn:1", 0, NULL, false),
                 DBOS_OK, "%s", scene.info.message);
    cr_expect_eq(scene.rows, 1000);
    cr_expect_str_eq(scene.columns, "v text, k bigint, n integer");
    cr_expect_str_eq(scene.first, "some text that makes the answer larger");
    cr_expect_eq(ask(&scene, "SELECT v FROM acc WHERE k = $1", NULL, "77", 0, NULL, false), DBOS_OK,
                 "%s", scene.info.message);
    cr_expect_eq(scene.rows, 1);
    cr_expect_eq(ask(&scene, "SELECT v, k FROM dbos_call_0 LIMIT $1", &call, NULL, 0, NULL, true),
                 DBOS_OK, "described without parameters: %s", scene.info.message);
    cr_expect_str_eq(scene.columns, "v text, k bigint");
    cr_expect_eq(scene.rows, 0);
    cr_expect_eq(
        ask(&scene, "SELECT repeat(v, 100) FROM acc, range(20)", NULL, NULL, 0, NULL, false),
        DBOS_OK);
    cr_expect_eq(scene.bytes, UINT64_C(3800) * ROWS * 20);
    close_client_scene(&scene);
}

Test(archive_client, errors_come_back_with_sqlstate_and_position) {
    struct client_scene scene;
    open_client_scene(&scene);
    cr_expect_eq(ask(&scene, "SELECT nope FROM acc", NULL, NULL, 0, NULL, false),
                 DBOS_ERR_UNDEFINED_COLUMN);
    cr_expect_str_eq(scene.info.sqlstate, "42703");
    cr_expect_eq(scene.info.position, 8, "got %u", scene.info.position);
    struct dbos_archive_argument argument = {.text = "nope"};
    struct dbos_archive_call call = {
        .function = "prov_history", .argument_count = 1, .arguments = &argument, .position = 15};
    cr_expect_eq(ask(&scene, "SELECT * FROM dbos_call_0", &call, NULL, 0, NULL, false),
                 DBOS_ERR_UNDEFINED_TABLE);
    cr_expect_eq(scene.info.position, 15);
    scene.fail_with = DBOS_ERR_LIMIT;
    cr_expect_eq(ask(&scene, "SELECT v FROM acc, range(50)", NULL, NULL, 0, NULL, false),
                 DBOS_ERR_LIMIT);
    scene.fail_with = DBOS_OK;
    cr_expect_eq(ask(&scene, "SELECT 1", NULL, NULL, 0, NULL, false), DBOS_OK,
                 "the rest of the answer was passed over: %s", scene.info.message);
    cr_expect_eq(scene.rows, 1);
    close_client_scene(&scene);
}

static void *cancel_soon(void *arg) {
    (void)usleep(300000);
    *(_Atomic uint32_t *)arg = 1;
    return NULL;
}

Test(archive_client, a_long_question_ends_at_its_deadline_or_when_cancelled) {
    struct client_scene scene;
    open_client_scene(&scene);
    struct dbos_env *env = dbos_env_posix();
    uint64_t start = env->ops->mono_ns(env);
    cr_expect_eq(ask(&scene, long_query, NULL, NULL, 300000, NULL, false), DBOS_ERR_TIMEOUT, "%s",
                 scene.info.message);
    cr_expect_str_eq(scene.info.sqlstate, "57014");
    _Atomic uint32_t cancel = 0;
    pthread_t thread;
    cr_assert_eq(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
    cr_expect_eq(ask(&scene, long_query, NULL, NULL, 0, &cancel, false), DBOS_ERR_CANCELED, "%s",
                 scene.info.message);
    (void)pthread_join(thread, NULL);
    cr_expect_lt(env->ops->mono_ns(env) - start, UINT64_C(20000000000));
    cr_expect_eq(ask(&scene, "SELECT 1", NULL, NULL, 0, NULL, false), DBOS_OK);
    close_client_scene(&scene);
}

/* Processes named dbos-archiver that work on this directory. */
static pid_t find_archiver(const char *dir) {
    char command[256], line[64] = "";
    (void)snprintf(command, sizeof command, "pgrep -f 'dbos-archiver %s'", dir);
    FILE *pipe = popen(command, "r");
    cr_assert_not_null(pipe);
    (void)!fgets(line, sizeof line, pipe);
    (void)pclose(pipe);
    return (pid_t)strtol(line, NULL, 10);
}

Test(archive_client, a_dead_archiver_is_started_again_and_answers) {
    struct client_scene scene;
    open_client_scene(&scene);
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(ask(&scene, "SELECT count(*) FROM acc", NULL, NULL, 0, NULL, false), DBOS_OK,
                     "%s", scene.info.message);
        cr_expect_str_eq(scene.first, "5000");
        pid_t child = find_archiver(scene.dir);
        cr_assert_gt(child, 1);
        (void)kill(child, SIGKILL);
        if (i % 2 == 0) { /* the next question finds it dead, or dies with it and is asked again */
            (void)usleep(50000);
            dbos_archive_advance(scene.client, scene.position, false);
        }
    }
    pid_t child = find_archiver(scene.dir);
    close_client_scene(&scene);
    cr_expect(child <= 1 || kill(child, 0) != 0, "close leaves no process behind");
}

Test(archive_client, a_stopped_archiver_holds_up_neither_questions_nor_close) {
    struct client_scene scene;
    open_client_scene(&scene);
    struct dbos_env *env = dbos_env_posix();
    _Atomic uint32_t cancel = 0;
    pthread_t thread;
    for (int round = 0; round < 2; round++) {
        cr_assert_eq(ask(&scene, "SELECT 1", NULL, NULL, 0, NULL, false), DBOS_OK, "%s",
                     scene.info.message);
        pid_t child = find_archiver(scene.dir);
        cr_assert_gt(child, 1);
        cr_assert_eq(kill(child, SIGSTOP), 0);
        uint64_t start = env->ops->mono_ns(env);
        for (uint64_t i = 1; i <= 5000; i++) { /* more than its socket holds */
            dbos_archive_advance(scene.client, scene.position + i, false);
        }
        if (round == 0) {
            cr_expect_eq(ask(&scene, "SELECT 1", NULL, NULL, 500000, NULL, false),
                         DBOS_ERR_TIMEOUT);
        } else {
            cr_assert_eq(pthread_create(&thread, NULL, cancel_soon, &cancel), 0);
            cr_expect_eq(ask(&scene, "SELECT 1", NULL, NULL, 0, &cancel, false), DBOS_ERR_CANCELED);
            (void)pthread_join(thread, NULL);
        }
        cr_expect_str_eq(scene.info.sqlstate, "57014");
        cr_expect_lt(env->ops->mono_ns(env) - start, UINT64_C(5000000000));
    }
    cr_expect_eq(ask(&scene, "SELECT count(*) FROM acc", NULL, NULL, 0, NULL, false), DBOS_OK, "%s",
                 scene.info.message);
    cr_expect_str_eq(scene.first, "5000");
    pid_t child = find_archiver(scene.dir);
    cr_assert_gt(child, 1);
    (void)kill(child, SIGSTOP);
    uint64_t start = env->ops->mono_ns(env);
    close_client_scene(&scene);
    cr_expect_lt(env->ops->mono_ns(env) - start, UINT64_C(8000000000));
    cr_expect_neq(kill(child, 0), 0, "close leaves no process behind");
}
