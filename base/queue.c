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

void dbos_queue_init(struct dbos_queue *queue, int wake_fd) {
    atomic_init(&queue->stub.next, NULL);
    queue->head = &queue->stub;
    atomic_init(&queue->tail, &queue->stub);
    atomic_init(&queue->sleeping, 0);
    queue->wake_fd = wake_fd;
}

static void push_node(struct dbos_queue *queue, struct dbos_queue_node *node) {
    atomic_store_explicit(&node->next, NULL, memory_order_relaxed);
    struct dbos_queue_node *previous =
        atomic_exchange_explicit(&queue->tail, node, memory_order_acq_rel);
    atomic_store_explicit(&previous->next, node, memory_order_release);
}

void dbos_queue_wake(struct dbos_queue *queue) {
    /* Full order between the push above and the look at `sleeping` (pairs with prepare_sleep). A
     * read-modify-write rather than a fence, which ThreadSanitizer does not model. */
    if (atomic_exchange_explicit(&queue->sleeping, 0, memory_order_seq_cst) == 0) {
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

void dbos_queue_push(struct dbos_queue *queue, struct dbos_queue_node *node) {
    push_node(queue, node);
    dbos_queue_wake(queue);
}

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

bool dbos_queue_prepare_sleep(struct dbos_queue *queue) {
    (void)atomic_exchange_explicit(&queue->sleeping, 1, memory_order_seq_cst);
    struct dbos_queue_node *head = queue->head;
    bool empty = atomic_load_explicit(&head->next, memory_order_acquire) == NULL &&
                 atomic_load_explicit(&queue->tail, memory_order_seq_cst) == head;
    if (head != &queue->stub) {
        empty = false;
    }
    if (!empty) {
        atomic_store_explicit(&queue->sleeping, 0, memory_order_relaxed);
    }
    return empty;
}

void dbos_queue_end_sleep(struct dbos_queue *queue) {
    atomic_store_explicit(&queue->sleeping, 0, memory_order_relaxed);
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
        struct timespec timeout = {.tv_sec = (time_t)(timeout_us / 1000000),
                                   .tv_nsec = (long)(timeout_us % 1000000) * 1000};
        (void)syscall(SYS_futex, &queue->sleeping, FUTEX_WAIT_PRIVATE, 1, &timeout, NULL, 0);
        dbos_queue_end_sleep(queue);
    }
    return dbos_queue_pop(queue);
}
