#include "base/queue.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/err.h"

/* Spins before sleeping. A cross-core wake-up costs ~23 µs (measured on two virtual cores); with
 * the load generator on the same cores a long spin steals its time, so keep it short. */
enum { SPINS_BEFORE_SLEEP = 200 };

/* Of `sleeping`. */
enum { AWAKE = 0, ASLEEP = 1, WOKEN_EARLY = 2 };

void dbos_queue_init(struct dbos_queue *queue, int wake_fd) {
    atomic_init(&queue->stub.next, NULL);
    queue->head = &queue->stub;
    atomic_init(&queue->tail, &queue->stub);
    atomic_init(&queue->sleeping, 0);
    queue->wake_fd = wake_fd;
}

static void push_nodes(struct dbos_queue *queue, struct dbos_queue_node *first,
                       struct dbos_queue_node *last) {
    atomic_store_explicit(&last->next, NULL, memory_order_relaxed);
    struct dbos_queue_node *previous =
        atomic_exchange_explicit(&queue->tail, last, memory_order_acq_rel);
    atomic_store_explicit(&previous->next, first, memory_order_release);
}

static void push_node(struct dbos_queue *queue, struct dbos_queue_node *node) {
    push_nodes(queue, node, node);
}

/* Full order between what came before (a push) and the look at `sleeping` (pairs with
 * prepare_sleep). A read-modify-write rather than a fence, which ThreadSanitizer does not model. */
static void wake_sleeper(struct dbos_queue *queue, uint32_t state) {
    if (atomic_exchange_explicit(&queue->sleeping, state, memory_order_seq_cst) != ASLEEP) {
        return;
    }
    if (queue->wake_fd >= 0) {
        uint64_t one = 1;
        ssize_t written = write(queue->wake_fd, &one, sizeof one);
        DBOS_CHECK(written == (ssize_t)sizeof one || errno == EAGAIN);
        return;
    }
    (void)syscall(SYS_futex, &queue->sleeping, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

void dbos_queue_wake(struct dbos_queue *queue) { wake_sleeper(queue, WOKEN_EARLY); }

void dbos_queue_push(struct dbos_queue *queue, struct dbos_queue_node *node) {
    push_node(queue, node);
    wake_sleeper(queue, AWAKE); /* may undo a WOKEN_EARLY: then the node is there to be seen */
}

void dbos_queue_push_all(struct dbos_queue *queue, struct dbos_queue_node *first,
                         struct dbos_queue_node *last) {
    push_nodes(queue, first, last);
    wake_sleeper(queue, AWAKE);
}

void dbos_queue_push_quietly(struct dbos_queue *queue, struct dbos_queue_node *node) {
    push_node(queue, node);
}

void dbos_queue_kick(struct dbos_queue *queue) { wake_sleeper(queue, AWAKE); }

struct dbos_queue_node *dbos_queue_pop(struct dbos_queue *queue) {
    struct dbos_queue_node *head = queue->head;
    struct dbos_queue_node *next = atomic_load_explicit(&head->next, memory_order_acquire);
    if (head == &queue->stub) {
        if (next == NULL) {
            return NULL;
        }
        queue->head = next;
        head = next;
        next = atomic_load_explicit(&head->next, memory_order_acquire);
    }
    if (next != NULL) {
        queue->head = next;
        return head;
    }
    if (head != atomic_load_explicit(&queue->tail, memory_order_acquire)) {
        return NULL; /* a push is half done */
    }
    push_node(queue, &queue->stub);
    next = atomic_load_explicit(&head->next, memory_order_acquire);
    if (next == NULL) {
        return NULL;
    }
    queue->head = next;
    return head;
}

struct dbos_queue_node *dbos_queue_ahead(struct dbos_queue *queue) {
    return queue->head == &queue->stub ? NULL : queue->head;
}

/* The exchanges, not plain stores, take over what a producer did before its own exchange: without
 * that, the next look at the list need not see a push whose wake-up came while we were awake. */
void dbos_queue_end_sleep(struct dbos_queue *queue) {
    (void)atomic_exchange_explicit(&queue->sleeping, AWAKE, memory_order_seq_cst);
}

bool dbos_queue_is_empty(struct dbos_queue *queue) {
    struct dbos_queue_node *head = queue->head;
    return head == &queue->stub &&
           atomic_load_explicit(&head->next, memory_order_acquire) == NULL &&
           atomic_load_explicit(&queue->tail, memory_order_seq_cst) == head;
}

bool dbos_queue_prepare_sleep(struct dbos_queue *queue) {
    uint32_t before = atomic_exchange_explicit(&queue->sleeping, ASLEEP, memory_order_seq_cst);
    if (!dbos_queue_is_empty(queue) || before == WOKEN_EARLY) {
        dbos_queue_end_sleep(queue);
        return false;
    }
    return true;
}

static void sleep_on(struct dbos_queue *queue, uint64_t timeout_us) {
    struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                               .tv_nsec = (long)(timeout_us % 1000000) * 1000};
    (void)syscall(SYS_futex, &queue->sleeping, FUTEX_WAIT_PRIVATE, ASLEEP, &timeout, NULL, 0);
}

struct dbos_queue_node *dbos_queue_wait(struct dbos_queue *queue, uint64_t timeout_us) {
    for (int spin = 0; spin < SPINS_BEFORE_SLEEP; spin++) {
        struct dbos_queue_node *node = dbos_queue_pop(queue);
        if (node != NULL) {
            return node;
        }
        __builtin_ia32_pause();
    }
    if (dbos_queue_prepare_sleep(queue)) {
        sleep_on(queue, timeout_us);
        dbos_queue_end_sleep(queue);
    }
    return dbos_queue_pop(queue);
}

struct dbos_queue_node *dbos_queue_wait_turn(struct dbos_queue *queue, pthread_mutex_t *turn,
                                             uint64_t timeout_us) {
    if (dbos_queue_prepare_sleep(queue)) {
        DBOS_CHECK(pthread_mutex_unlock(turn) == 0);
        sleep_on(queue, timeout_us);
        DBOS_CHECK(pthread_mutex_lock(turn) == 0);
        dbos_queue_end_sleep(queue);
    }
    return dbos_queue_pop(queue);
}
