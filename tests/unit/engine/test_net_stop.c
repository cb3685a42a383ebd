/* What clients are told when the node stops: done, failed, or that nobody can say. Method: a real
 * engine and its port, on a disk whose syncs take longer than a stop waits. */
#include <criterion/criterion.h>
#include <string.h>

#include "engine/net.h"
#include "tests/support/raw_client.h"
#include "tests/unit/engine/engine_support.h"

TestSuite(engine_net_stop, .timeout = 60);

enum { SYNC_US = 2000000, DRAIN_MS = 200, LONG_DRAIN_MS = 20000, MOMENT_US = 50000 };

struct door {
    struct test_engine engine;
    struct dbos_net *net;
    int client;
};

static void open_door(struct door *door) {
    struct dbos_net_options options = {.address = "127.0.0.1"};
    struct dbos_errinfo info = {0};
    test_engine_open(&door->engine, (struct dbos_engine_options){.partitions = 1});
    cr_assert_eq(test_engine_run(&door->engine, "create table t (a int primary key) "
                                                "partition by hash (a)"),
                 DBOS_OK);
    cr_assert_eq(
        dbos_net_open(&door->engine.alloc, door->engine.engine, &options, &door->net, &info),
        DBOS_OK, "%s", info.message);
    cr_assert_eq(dbos_net_start(door->net, &info), DBOS_OK, "%s", info.message);
    door->client = raw_open(dbos_net_port(door->net), "ana");
    cr_assert_geq(door->client, 0);
}

static void close_door(struct door *door) {
    raw_close(door->client, false);
    dbos_net_close(door->net);
    test_engine_close(&door->engine);
}

static void send_query(const struct door *door, const char *sql) {
    struct raw_bytes bytes = {.size_bytes = 0};
    raw_put_request(&bytes, sql, false);
    cr_assert(raw_send(door->client, &bytes, bytes.size_bytes));
}

/* `answer`: what of one came before. */
static void expect_end(const struct door *door, const char *answer, const char *state) {
    struct raw_reply reply;
    raw_read(door->client, SIZE_MAX, false, &reply);
    cr_expect(reply.is_fatal);
    cr_expect_str_eq(reply.state, state);
    size_t size = strlen(answer);
    cr_expect(reply.bytes.size_bytes >= size && (size != 0 || reply.bytes.size_bytes == 0) &&
              memmem(reply.bytes.data, reply.bytes.size_bytes, answer, size) != NULL);
}

static void wait_a_moment(struct door *door) {
    struct dbos_env *env = &door->engine.fault.env;
    env->ops->sleep_us(env, MOMENT_US);
}

Test(engine_net_stop, who_waits_for_the_disk_is_told_that_the_outcome_is_not_known) {
    struct door door;
    open_door(&door);
    atomic_store(&door.engine.fault.sync_delay_us, SYNC_US);
    send_query(&door, "insert into t values (1)");
    wait_a_moment(&door);
    cr_expect(!dbos_net_drain(door.net, DRAIN_MS));
    dbos_net_stop(door.net);
    expect_end(&door, "", "08007");
    close_door(&door);
}

Test(engine_net_stop, who_is_canceled_by_it_is_told_the_same) {
    struct door door;
    open_door(&door);
    send_query(&door, "set statement_timeout = 0; "
                      "select count(*) from generate_series(1, 1000000000000) as i");
    wait_a_moment(&door);
    cr_expect(!dbos_net_drain(door.net, DRAIN_MS));
    dbos_net_stop(door.net);
    expect_end(&door, "", "08007");
    close_door(&door);
}

Test(engine_net_stop, what_is_done_in_time_is_answered_and_what_follows_is_not_begun) {
    struct door door;
    open_door(&door);
    atomic_store(&door.engine.fault.sync_delay_us, SYNC_US / 10);
    send_query(&door, "insert into t values (1)");
    wait_a_moment(&door);
    cr_expect(dbos_net_drain(door.net, LONG_DRAIN_MS));
    dbos_net_stop(door.net);
    expect_end(&door, "INSERT 0 1", "57P01");
    close_door(&door);
}
