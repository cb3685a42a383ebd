/* Goal: requests that are put behind each other run in that order, whatever partition each runs on,
 * and whether the one before is still waiting, is running, or has ended. Method: a real engine, a
 * chain of inserts with random keys that is submitted at an uneven pace; the positions in the log
 * say in which order they ran. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#include "tests/unit/engine/engine_support.h"

TestSuite(engine_order, .timeout = 60);

enum { PARTITIONS = 3, CHAIN = 400, ROUNDS = 10 };

static void run_chain(struct test_engine *t, struct dbos_rng *rng, int round) {
    static struct test_step steps[CHAIN];
    uint32_t used = 0;
    char sql[64];
    sem_t done;
    (void)sem_init(&done, 0, 0);
    for (int i = 0; i < CHAIN; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", round * CHAIN + i);
        test_step_prepare(t, &steps[i], sql, &done);
        used |= 1u << steps[i].request.partition;
    }
    cr_assert_eq(used, (1u << PARTITIONS) - 1, "every partition has some");
    dbos_engine_submit(t->engine, &steps[0].request);
    for (int i = 1; i < CHAIN; i++) {
        if (dbos_rng_below(rng, 20) == 0) {
            (void)usleep((useconds_t)dbos_rng_below(rng, 300));
        }
        dbos_engine_submit_after(t->engine, &steps[i].request, &steps[i - 1].request);
    }
    test_wait_for(&done, CHAIN);
    for (int i = 0; i < CHAIN; i++) {
        cr_assert_eq(steps[i].request.outcome, DBOS_OK, "%s", steps[i].request.error.message);
        cr_assert(i == 0 || steps[i].request.position > steps[i - 1].request.position,
                  "round %d: request %d ran before the one before it", round, i);
        test_step_release(&steps[i]);
    }
}

Test(engine_order, a_request_behind_another_runs_behind_it_on_any_partition) {
    struct test_engine t;
    struct dbos_rng rng;
    dbos_rng_init(&rng, 7);
    test_engine_open(&t, (struct dbos_engine_options){.partitions = PARTITIONS});
    cr_assert_eq(test_engine_run(&t, "CREATE TABLE t (k int PRIMARY KEY) PARTITION BY HASH (k)"),
                 DBOS_OK);
    for (int round = 0; round < ROUNDS; round++) {
        run_chain(&t, &rng, round);
    }
    test_engine_close(&t);
}
