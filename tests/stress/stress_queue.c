/* Many producers, one consumer, in both ways of sleeping: on the futex and on an eventfd.
 * Goal: nothing is lost, doubled or reordered within one producer, and no wake-up is missed.
 * Method: producers push numbered items at a seeded, uneven pace. There is always something to
 * come, so that a sleep which lasts to its end means a missed wake-up. */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/env.h"
#include "base/err.h"
#include "base/queue.h"

enum {
    PRODUCERS = 4,
    ITEMS = 40000,
    PINGS = 40000,
    PING_DELAY_NS_MAX = 20000, /* around the time that a consumer spins before it sleeps */
    SLEEP_US_MAX = 30 * 1000 * 1000,
};

struct item {
    struct dbos_queue_node node; /* first: a node is an item */
    uint32_t producer;
    uint32_t number;
};

struct producer {
    struct dbos_queue *queue;
    struct item *items;
    uint32_t id;
};

static void *produce(void *arg) {
    struct producer *self = arg;
    struct dbos_rng rng;
    dbos_rng_init(&rng, self->id);
    for (uint32_t i = 0; i < ITEMS; i++) {
        self->items[i].producer = self->id;
        self->items[i].number = i;
        uint64_t pause = dbos_rng_below(&rng, 1000);
        if (dbos_rng_below(&rng, 4) ==
            0) { /* alone, or with those that come before the next kick */
            dbos_queue_push(self->queue, &self->items[i].node);
        } else {
            dbos_queue_push_quietly(self->queue, &self->items[i].node);
        }
        if (pause < 50 || i == ITEMS - 1) {
            dbos_queue_kick(self->queue);
        }
        if (pause < 2) { /* long enough that the consumer falls asleep */
            dbos_env_posix()->ops->sleep_us(dbos_env_posix(), 200);
        } else if (pause < 50) {
            (void)sched_yield();
        }
    }
    return NULL;
}

/* dbos_queue_wait() that fails where the whole time passed. */
static struct dbos_queue_node *wait_within(struct dbos_queue *queue) {
    struct dbos_env *env = dbos_env_posix();
    uint64_t start_ns = env->ops->mono_ns(env);
    struct dbos_queue_node *node = dbos_queue_wait(queue, SLEEP_US_MAX);
    DBOS_CHECK((env->ops->mono_ns(env) - start_ns) / 1000 < SLEEP_US_MAX);
    return node;
}

static struct dbos_queue_node *next_by_futex(struct dbos_queue *queue) {
    for (;;) { /* NULL only means look again */
        struct dbos_queue_node *node = wait_within(queue);
        if (node != NULL) {
            return node;
        }
    }
}

static struct dbos_queue_node *next_by_eventfd(struct dbos_queue *queue) {
    for (;;) {
        struct dbos_queue_node *node = dbos_queue_pop(queue);
        if (node != NULL) {
            return node;
        }
        if (!dbos_queue_prepare_sleep(queue)) {
            continue;
        }
        struct pollfd poll_fd = {.fd = queue->wake_fd, .events = POLLIN};
        uint64_t count = 0;
        DBOS_CHECK(poll(&poll_fd, 1, SLEEP_US_MAX / 1000) == 1);
        DBOS_CHECK(read(queue->wake_fd, &count, sizeof count) == (ssize_t)sizeof count);
        dbos_queue_end_sleep(queue);
    }
}

static void run(int wake_fd, struct item (*items)[ITEMS]) {
    struct dbos_queue queue;
    struct producer producers[PRODUCERS];
    pthread_t threads[PRODUCERS];
    uint32_t expected[PRODUCERS] = {0};
    dbos_queue_init(&queue, wake_fd);
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        producers[i] = (struct producer){.queue = &queue, .items = items[i], .id = i};
        DBOS_CHECK(pthread_create(&threads[i], NULL, produce, &producers[i]) == 0);
    }
    for (uint32_t got = 0; got < PRODUCERS * ITEMS; got++) {
        struct dbos_queue_node *node =
            wake_fd < 0 ? next_by_futex(&queue) : next_by_eventfd(&queue);
        struct item *item = (struct item *)node;
        DBOS_CHECK(item->producer < PRODUCERS);
        DBOS_CHECK(item->number == expected[item->producer]);
        expected[item->producer]++;
    }
    for (uint32_t i = 0; i < PRODUCERS; i++) {
        DBOS_CHECK(pthread_join(threads[i], NULL) == 0);
    }
    DBOS_CHECK(dbos_queue_pop(&queue) == NULL);
}

/* One item at a time, pushed just when the consumer is about to sleep: no later push makes up for a
 * missed wake-up here. */
struct ping {
    struct dbos_queue *queue;
    _Atomic uint32_t taken;
};

static void *ping(void *arg) {
    struct ping *self = arg;
    struct dbos_env *env = dbos_env_posix();
    struct item item;
    struct dbos_rng rng;
    dbos_rng_init(&rng, 11);
    for (uint32_t i = 0; i < PINGS; i++) {
        uint64_t end_ns = env->ops->mono_ns(env) + dbos_rng_below(&rng, PING_DELAY_NS_MAX);
        while (env->ops->mono_ns(env) < end_ns) {
        }
        item = (struct item){.number = i}; /* ours again once it was popped */
        dbos_queue_push(self->queue, &item.node);
        while (atomic_load(&self->taken) != i + 1) {
            (void)sched_yield();
        }
    }
    return NULL;
}

static void run_pings(int wake_fd) {
    struct dbos_queue queue;
    struct ping state = {.queue = &queue};
    pthread_t thread;
    dbos_queue_init(&queue, wake_fd);
    atomic_init(&state.taken, 0);
    DBOS_CHECK(pthread_create(&thread, NULL, ping, &state) == 0);
    for (uint32_t i = 0; i < PINGS; i++) {
        struct dbos_queue_node *node =
            wake_fd < 0 ? next_by_futex(&queue) : next_by_eventfd(&queue);
        DBOS_CHECK(((struct item *)node)->number == i);
        atomic_store(&state.taken, i + 1);
    }
    DBOS_CHECK(pthread_join(thread, NULL) == 0);
}

/* One thread only ever wakes; each wake-up must end a sleep, or be found by the next one. */
struct stop {
    struct dbos_queue *queue;
    _Atomic bool wanted;
};

static void *stop_soon(void *arg) {
    struct stop *stop = arg;
    atomic_store(&stop->wanted, true);
    dbos_queue_wake(stop->queue);
    return NULL;
}

static void run_stop(void) {
    struct dbos_queue queue;
    struct stop stop = {.queue = &queue};
    pthread_t thread;
    dbos_queue_init(&queue, -1);
    atomic_init(&stop.wanted, false);
    DBOS_CHECK(pthread_create(&thread, NULL, stop_soon, &stop) == 0);
    while (!atomic_load(&stop.wanted)) {
        DBOS_CHECK(wait_within(&queue) == NULL);
    }
    DBOS_CHECK(pthread_join(thread, NULL) == 0);
}

int main(void) {
    static struct item items[PRODUCERS][ITEMS];
    run(-1, items);
    run_pings(-1);
    int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    DBOS_CHECK(fd >= 0);
    run(fd, items);
    run_pings(fd);
    (void)close(fd);
    for (int round = 0; round < 300; round++) {
        run_stop();
    }
    (void)printf("%d items and %d pings by futex, as many by eventfd, 300 stops\n",
                 PRODUCERS * ITEMS, PINGS);
    return 0;
}
