#include "base/queue.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/env.h"

TestSuite(base_queue, .timeout = 20);

enum { ITEMS = 1000 };

struct item {
    struct dbos_queue_node node; /* first: a node is an item */
    int number;
};

Test(base_queue, one_thread_gets_what_it_pushed_in_order) {
    static struct item items[ITEMS];
    struct dbos_queue queue;
    struct dbos_rng rng;
    int pushed = 0;
    int popped = 0;
    dbos_rng_init(&rng, 3);
    dbos_queue_init(&queue, -1);
    cr_assert_null(dbos_queue_pop(&queue));
    while (popped < 10 * ITEMS) {
        if (pushed < 10 * ITEMS && pushed - popped < ITEMS && dbos_rng_below(&rng, 2) == 0) {
            items[pushed % ITEMS].number = pushed;
            dbos_queue_push(&queue, &items[pushed % ITEMS].node);
            pushed++;
            continue;
        }
        struct item *item = (struct item *)dbos_queue_pop(&queue);
        cr_assert_eq(item == NULL, pushed == popped, "%d pushed, %d popped", pushed, popped);
        if (item != NULL) {
            cr_assert_eq(item->number, popped);
            popped++;
        }
    }
    cr_expect_null(dbos_queue_pop(&queue));
}

Test(base_queue, several_are_pushed_at_once_and_the_next_one_can_be_seen) {
    static struct item items[8];
    struct dbos_queue queue;
    dbos_queue_init(&queue, -1);
    cr_expect_null(dbos_queue_ahead(&queue));
    dbos_queue_push(&queue, &items[0].node);
    for (int i = 1; i < 7; i++) {
        atomic_store(&items[i].node.next, &items[i + 1].node);
    }
    dbos_queue_push_all(&queue, &items[1].node, &items[6].node);
    dbos_queue_push(&queue, &items[7].node);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(dbos_queue_pop(&queue), &items[i].node, "item %d", i);
        struct dbos_queue_node *ahead = dbos_queue_ahead(&queue);
        cr_expect_eq(ahead, i < 7 ? &items[i + 1].node : NULL, "behind item %d", i);
    }
    cr_expect_null(dbos_queue_pop(&queue));
    cr_expect(dbos_queue_is_empty(&queue));
}

Test(base_queue, waiting_for_nothing_ends_after_the_timeout) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_queue queue;
    dbos_queue_init(&queue, -1);
    uint64_t start_ns = env->ops->mono_ns(env);
    cr_expect_null(dbos_queue_wait(&queue, 20000));
    cr_expect_geq(env->ops->mono_ns(env) - start_ns, 19000000u);
    struct item item = {.number = 1};
    dbos_queue_push(&queue, &item.node);
    cr_expect_eq(dbos_queue_wait(&queue, 10000000), &item.node);
}

Test(base_queue, a_wake_up_before_the_sleep_is_not_lost) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_queue queue;
    dbos_queue_init(&queue, -1);
    dbos_queue_wake(&queue);
    uint64_t start_ns = env->ops->mono_ns(env);
    cr_expect_null(dbos_queue_wait(&queue, 10000000));
    cr_expect_lt(env->ops->mono_ns(env) - start_ns, 5000000000u);
    start_ns = env->ops->mono_ns(env);
    cr_expect_null(dbos_queue_wait(&queue, 20000), "and is used up");
    cr_expect_geq(env->ops->mono_ns(env) - start_ns, 19000000u);
}

static bool readable(int fd) {
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    return poll(&poll_fd, 1, 0) == 1;
}

Test(base_queue, the_eventfd_is_written_only_for_a_sleeper) {
    struct dbos_queue queue;
    struct item items[3] = {{.number = 0}, {.number = 1}, {.number = 2}};
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    dbos_queue_init(&queue, fd);
    dbos_queue_push(&queue, &items[0].node);
    cr_expect(!readable(fd), "nobody sleeps");
    cr_expect(!dbos_queue_prepare_sleep(&queue), "something is there");
    cr_expect_eq(dbos_queue_pop(&queue), &items[0].node);
    cr_expect(dbos_queue_prepare_sleep(&queue));
    dbos_queue_push(&queue, &items[1].node);
    cr_expect(readable(fd));
    dbos_queue_push(&queue, &items[2].node);
    uint64_t count = 0;
    cr_assert_eq(read(fd, &count, sizeof count), (ssize_t)sizeof count);
    cr_expect_eq(count, 1u, "one write wakes, the second push needs none");
    dbos_queue_end_sleep(&queue);
    cr_expect_eq(dbos_queue_pop(&queue), &items[1].node);
    cr_expect_eq(dbos_queue_pop(&queue), &items[2].node);
    cr_expect_null(dbos_queue_pop(&queue));
    (void)close(fd);
}
