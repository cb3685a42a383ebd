/* How long a key is kept: of each slot the newest ones, as many as the node was told, whatever
 * fails or comes again in between, and across snapshots, kills and other limits. To repeat one:
 *     build/dev/bin/integration_idempotency --filter 'idempotency/NAME' */
#include <criterion/criterion.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "storage/table.h"
#include "tests/integration/wire_support.h"
#include "tests/support/node.h"

TestSuite(idempotency, .timeout = 120);

enum { KEPT_MAX = 64, EXPIRED_AT_ONCE = 2 };

/* -- what should be there -----------------------------------------------------------------------
 */

/* The keys of a slot, by number, oldest first. */
struct slot_model {
    int keys[KEPT_MAX];
    int count;
};

struct model {
    struct slot_model slots[DBOS_SLOTS];
    int next; /* number of the next key */
};

static uint32_t slot_of_key(int number) {
    char text[32];
    int size = snprintf(text, sizeof text, "key %d", number);
    struct dbos_datum datum = dbos_datum_bytes(DBOS_TYPE_TEXT, text, (size_t)size);
    return dbos_slot_of(&datum);
}

static void model_add(struct model *model, int number, int kept_max) {
    struct slot_model *slot = &model->slots[slot_of_key(number)];
    cr_assert_lt(slot->count, KEPT_MAX);
    slot->keys[slot->count++] = number;
    for (int i = 0; i < EXPIRED_AT_ONCE && slot->count > kept_max; i++) {
        slot->count--;
        memmove(slot->keys, slot->keys + 1, (size_t)slot->count * sizeof slot->keys[0]);
    }
}

static bool model_has(const struct model *model, int number) {
    const struct slot_model *slot = &model->slots[slot_of_key(number)];
    for (int i = 0; i < slot->count; i++) {
        if (slot->keys[i] == number) {
            return true;
        }
    }
    return false;
}

/* -- the node -----------------------------------------------------------------------------------
 */

struct scene {
    const char *durability; /* async where nobody is killed: syncs take their time */
    char dir[64];
    char data[96];
    char log[96];
    pid_t pid;
    PGconn *conn;
    struct model *model;
    struct dbos_rng rng;
};

static void start(struct scene *scene, const char *keys) {
    const char *const arguments[] = {
        "--idempotency-keys", keys, "--durability", scene->durability, "--no-archive",
        "--no-worker",        NULL};
    struct node_options options = {.bin = DBOS_BIN_DIR,
                                   .data = scene->data,
                                   .log = scene->log,
                                   .partitions = "3",
                                   .arguments = arguments};
    int port = 0;
    scene->pid = node_start(&options, &port);
    cr_assert(scene->pid > 0, "the log is %s", scene->log);
    scene->conn = wire_connect(port);
}

static void stop(struct scene *scene) {
    PQfinish(scene->conn);
    cr_expect_eq(node_stop(scene->pid), 0);
}

static void open_scene(struct scene *scene, const char *durability, const char *keys) {
    scene->durability = durability;
    (void)snprintf(scene->dir, sizeof scene->dir, "/tmp/dbos-keys-XXXXXX");
    cr_assert(mkdtemp(scene->dir) != NULL);
    (void)snprintf(scene->data, sizeof scene->data, "%s/data", scene->dir);
    (void)snprintf(scene->log, sizeof scene->log, "%s/log", scene->dir);
    scene->model = calloc(1, sizeof *scene->model);
    dbos_rng_init(&scene->rng, 1);
    start(scene, keys);
    wire_run(scene->conn, "CREATE TABLE n (id int PRIMARY KEY, n int) PARTITION BY HASH (id)");
    wire_run(scene->conn, "INSERT INTO n VALUES (1, 0)");
}

static void close_scene(struct scene *scene) {
    char command[96];
    stop(scene);
    (void)snprintf(command, sizeof command, "rm -rf %s", scene->dir);
    cr_expect_eq(system(command), 0);
    free(scene->model);
}

static int value_of(PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    int value = atoi(PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

static void call_with_key(struct scene *scene, int number, const char *sql, const char *state) {
    char text[256];
    (void)snprintf(text, sizeof text, "SET LOCAL dbos.idempotency_key = 'key %d'; %s", number, sql);
    if (state == NULL) {
        wire_run(scene->conn, text);
    } else {
        wire_expect_error(scene->conn, text, state);
    }
}

static const char count_up[] = "UPDATE n SET n = n + 1 WHERE id = 1";

/* New keys; among them calls that fail, and some that come again. */
static void call_often(struct scene *scene, int calls, int kept_max) {
    for (int i = 0; i < calls; i++) {
        int number = scene->model->next++;
        if (dbos_rng_below(&scene->rng, 8) == 0) {
            call_with_key(scene, number, "INSERT INTO n VALUES (1, 0)", "23505");
        }
        call_with_key(scene, number, count_up, NULL);
        model_add(scene->model, number, kept_max);
        if (dbos_rng_below(&scene->rng, 8) == 0) {
            call_with_key(scene, number, count_up, NULL);
        }
    }
}

static void expect_keys(struct scene *scene) {
    PGresult *result = PQexec(scene->conn, "SELECT key FROM dbos.idempotency");
    int expected = 0;
    for (int i = 0; i < DBOS_SLOTS; i++) {
        expected += scene->model->slots[i].count;
    }
    cr_expect_eq(PQntuples(result), expected, "%d keys, not %d", PQntuples(result), expected);
    for (int i = 0; i < PQntuples(result); i++) {
        int number = atoi(PQgetvalue(result, i, 0) + strlen("key "));
        cr_expect(model_has(scene->model, number), "key %d is still there", number);
    }
    PQclear(result);
    cr_expect_eq(value_of(scene->conn, "SELECT n FROM n"), scene->model->next);
}

/* -- tests --------------------------------------------------------------------------------------
 */

Test(idempotency, the_newest_keys_of_each_slot_are_kept) {
    struct scene scene;
    open_scene(&scene, "async", "3072");
    call_often(&scene, 6000, 3);
    expect_keys(&scene);
    close_scene(&scene);
}

Test(idempotency, keys_and_their_order_survive_snapshots_and_kills) {
    struct scene scene;
    open_scene(&scene, "sync", "1024");
    for (int i = 0; i < 3; i++) {
        call_often(&scene, 700, 1);
        wire_run(scene.conn, "SELECT dbos_snapshot()");
        call_often(&scene, 300, 1);
        node_kill(scene.pid);
        PQfinish(scene.conn);
        start(&scene, "1024");
        expect_keys(&scene);
    }
    close_scene(&scene);
}

Test(idempotency, another_limit_counts_for_the_calls_that_follow) {
    struct scene scene;
    open_scene(&scene, "async", "8192");
    call_often(&scene, 6000, 8);
    stop(&scene);
    start(&scene, "2047"); /* each slot has its part of it, whole and not rounded up */
    call_often(&scene, 3000, 1);
    expect_keys(&scene);
    stop(&scene);
    start(&scene, "4096");
    call_often(&scene, 4000, 4);
    expect_keys(&scene);
    close_scene(&scene);
}

Test(idempotency, a_retry_behind_the_end_of_its_key_runs_again) {
    struct scene scene;
    open_scene(&scene, "async", "1024");
    call_often(&scene, 1, 1);
    call_with_key(&scene, 0, count_up, NULL);
    cr_expect_eq(value_of(scene.conn, "SELECT n FROM n"), 1);
    call_with_key(&scene, 0, "UPDATE n SET n = n + 2 WHERE id = 1", "22023");
    while (model_has(scene.model, 0)) {
        call_often(&scene, 1, 1);
    }
    int before = value_of(scene.conn, "SELECT n FROM n");
    call_with_key(&scene, 0, count_up, NULL);
    cr_expect_eq(value_of(scene.conn, "SELECT n FROM n"), before + 1);
    close_scene(&scene);
}

Test(idempotency, a_limit_below_one_key_for_each_slot_is_no_limit) {
    int status = system(DBOS_BIN_DIR "/dbosd --data-dir /tmp/dbos-keys-never --port 0 "
                                     "--idempotency-keys 1023 2> /dev/null");
    cr_expect_eq(status, 2 << 8, "wrong usage");
}
