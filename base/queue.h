/* A queue from many threads to one, with sleep and wake-up: how requests reach a partition, replies
 * reach the net thread and commits reach the log thread.
 *
 * Intrusive (Vyukov's non-blocking MPSC list): a node lives inside the thing that is queued. Push
 * never blocks and never allocates. The consumer sleeps on a futex after a short spin; a push wakes
 * it only when it sleeps, so a busy queue costs no system call. A consumer that sleeps elsewhere
 * (in io_uring) sets `wake_fd`: then a push writes that eventfd instead, also only when it sleeps.
 *
 * Thread: push from any; pop, wait and sleep from the one consumer.
 * Memory: none. */
#ifndef DBOS_BASE_QUEUE_H
#define DBOS_BASE_QUEUE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dbos_queue_node {
    _Atomic(struct dbos_queue_node *) next;
};

/* A cache line apart by padding, not by alignment: a queue may lie in memory of any allocator. */
struct dbos_queue {
    uint8_t before[64];
    _Atomic(struct dbos_queue_node *) tail; /* producers */
    uint8_t between[64];
    struct dbos_queue_node *head; /* consumer */
    struct dbos_queue_node stub;
    uint8_t behind[64];
    _Atomic uint32_t sleeping; /* futex word: see queue.c */
    int wake_fd;               /* eventfd to write instead of a futex wake; -1 = none */
};

/* `wake_fd` is borrowed; -1 for a consumer that uses dbos_queue_wait(). */
void dbos_queue_init(struct dbos_queue *queue, int wake_fd);
void dbos_queue_push(struct dbos_queue *queue, struct dbos_queue_node *node);
/* The same for several nodes that are linked by `next` already, from `first` to `last`. */
void dbos_queue_push_all(struct dbos_queue *queue, struct dbos_queue_node *first,
                         struct dbos_queue_node *last);
/* As dbos_queue_push() without waking a sleeping consumer: for a producer that has more to push. It
 * must call dbos_queue_kick() before it waits for anything itself. */
void dbos_queue_push_quietly(struct dbos_queue *queue, struct dbos_queue_node *node);
/* Wake the consumer if it sleeps: what was pushed quietly is there to be seen. */
void dbos_queue_kick(struct dbos_queue *queue);
/* The oldest node, or NULL when empty (or when a push is half done; it will wake the consumer). */
struct dbos_queue_node *dbos_queue_pop(struct dbos_queue *queue);
/* What the next pop will probably return, for a look ahead; NULL = nothing is known of it. The
 * consumer's. */
struct dbos_queue_node *dbos_queue_ahead(struct dbos_queue *queue);
/* Pop, or sleep until there is something or `timeout_us` passed. NULL means look again: the time
 * passed, dbos_queue_wake() was called, or a push was half done. */
struct dbos_queue_node *dbos_queue_wait(struct dbos_queue *queue, uint64_t timeout_us);
/* The same for a queue that several threads may consume, one at a time: whoever holds `turn` is the
 * consumer. Called with it held; another may take it while this one sleeps, and it sleeps at once.
 */
struct dbos_queue_node *dbos_queue_wait_turn(struct dbos_queue *queue, pthread_mutex_t *turn,
                                             uint64_t timeout_us);
/* Nothing is there, and no push is half done. The consumer's. */
bool dbos_queue_is_empty(struct dbos_queue *queue);
/* For a consumer that sleeps on wake_fd: true = nothing is queued, sleep now (a push will write
 * wake_fd); false = something came, do not sleep. */
bool dbos_queue_prepare_sleep(struct dbos_queue *queue);
void dbos_queue_end_sleep(struct dbos_queue *queue);
/* Wake the consumer without pushing. If it does not sleep, its next sleep ends at once. */
void dbos_queue_wake(struct dbos_queue *queue);

#endif /* DBOS_BASE_QUEUE_H */
