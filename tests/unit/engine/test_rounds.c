/* Goal: who runs the requests of few clients syncs when most of them are there again, waits no
 * longer than three syncs take, and leaves the disk to another thread where others would wait.
 * Method: clients and times made up. */
#include <criterion/criterion.h>

#include "engine/rounds.h"

TestSuite(engine_rounds, .timeout = 10);

enum { CLIENTS = 32, SYNC_NS = 200000 };

struct scene {
    struct dbos_rounds rounds;
    uint64_t clients[CLIENTS];
    uint64_t now_ns;
};

static void hear(struct scene *scene, int first, int count) {
    for (int i = first; i < first + count; i++) {
        dbos_rounds_hear(&scene->rounds, &scene->clients[i]);
    }
}

static void end(struct scene *scene) {
    uint64_t begun_ns = scene->now_ns;
    scene->now_ns += SYNC_NS;
    dbos_rounds_end(&scene->rounds, begun_ns, scene->now_ns);
}

static uint64_t patience(const struct scene *scene) {
    return dbos_rounds_patience_us(&scene->rounds, scene->now_ns);
}

/* All clients are known, and what a sync takes. */
static void begin(struct scene *scene) {
    *scene = (struct scene){.now_ns = 1000000000};
    dbos_rounds_init(&scene->rounds);
    for (int i = 0; i < 100; i++) {
        hear(scene, 0, CLIENTS);
        end(scene);
    }
}

Test(engine_rounds, the_first_client_is_not_kept_waiting) {
    struct scene scene = {.now_ns = 1000000000};
    dbos_rounds_init(&scene.rounds);
    hear(&scene, 0, 1);
    cr_expect_eq(patience(&scene), 0);
}

Test(engine_rounds, three_quarters_of_the_clients_end_a_round) {
    struct scene scene;
    begin(&scene);
    hear(&scene, 0, CLIENTS * 3 / 4 - 1);
    cr_expect_gt(patience(&scene), 0);
    hear(&scene, 0, CLIENTS * 3 / 4 - 1); /* the same ones once more count once */
    cr_expect_gt(patience(&scene), 0);
    hear(&scene, CLIENTS - 1, 1);
    cr_expect_eq(patience(&scene), 0);
}

/* Two halves that take turns are all of the clients, not a half: they become one round. */
Test(engine_rounds, those_of_the_round_before_are_expected_too) {
    struct scene scene;
    begin(&scene);
    hear(&scene, 0, CLIENTS / 2);
    end(&scene);
    hear(&scene, CLIENTS / 2, CLIENTS / 2);
    end(&scene);
    hear(&scene, 0, CLIENTS / 2);
    cr_expect_gt(patience(&scene), 0);
    hear(&scene, CLIENTS / 2, CLIENTS / 4);
    cr_expect_eq(patience(&scene), 0);
}

Test(engine_rounds, who_stays_away_is_waited_for_as_long_as_three_syncs) {
    struct scene scene;
    begin(&scene);
    hear(&scene, 0, 2);
    uint64_t most_us = patience(&scene);
    cr_expect_gt(most_us, 2 * SYNC_NS / 1000);
    cr_expect_leq(most_us, 3 * SYNC_NS / 1000 + 1);
    scene.now_ns += most_us * 1000;
    cr_expect_eq(patience(&scene), 0);
    end(&scene);
    hear(&scene, 0, 2); /* those of two rounds ago have gone */
    end(&scene);
    hear(&scene, 0, 2);
    cr_expect_eq(patience(&scene), 0);
}

Test(engine_rounds, where_others_do_not_wait_for_the_disk_another_thread_writes) {
    struct scene scene;
    begin(&scene);
    hear(&scene, 0, CLIENTS);
    cr_expect(dbos_rounds_may_write(&scene.rounds, CLIENTS));
    cr_expect(dbos_rounds_may_write(&scene.rounds, CLIENTS / 2));
    cr_expect_not(dbos_rounds_may_write(&scene.rounds, CLIENTS / 2 - 1), "most have read only");
    cr_expect_not(dbos_rounds_may_write(&scene.rounds, 1000), "there are too many");
}

Test(engine_rounds, a_slow_disk_is_left_to_another_thread_and_tried_again_later) {
    struct scene scene;
    begin(&scene);
    for (int i = 0; i < 50; i++) {
        dbos_rounds_end(&scene.rounds, scene.now_ns, scene.now_ns + 5000000);
    }
    cr_expect_not(dbos_rounds_may_write(&scene.rounds, 1));
    int rounds = 0;
    while (!dbos_rounds_may_write(&scene.rounds, 1) && rounds < 10000) {
        dbos_rounds_end_elsewhere(&scene.rounds, scene.now_ns);
        rounds++;
    }
    cr_expect_gt(rounds, 100);
    cr_expect_lt(rounds, 10000);
}
