/* Completion-based network I/O: one operation is started, its `done` is called when it has
 * finished.
 *
 * On Linux this is io_uring, with one system call for each turn of the loop (everything that was
 * started since the last turn is submitted, and everything that has finished is reported). Where
 * io_uring is not allowed (containers), the same interface is served by poll(); which one it is, is
 * decided at open and can be asked for.
 *
 * Thread: open and close by the owner; everything else by the one thread that calls
 * dbos_loop_turn(), except that any thread may write the eventfd being watched.
 * Memory: the loop's own from the allocator; operations and their buffers are the caller's and must
 * stay until `done` was called for the last time. */
#ifndef DBOS_BASE_LOOP_H
#define DBOS_BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

struct dbos_loop;

/* One operation; `done` and `owner` are set by the caller, the rest belongs to the loop. */
struct dbos_loop_op {
    /* `result`: bytes, a descriptor, or a negative errno. -ECANCELED after dbos_loop_cancel(). */
    void (*done)(struct dbos_loop_op *op, int32_t result);
    void *owner;

    uint8_t kind;
    bool is_active; /* `done` will still be called */
    bool is_canceled;
    int file;
    void *data;
    size_t size_bytes;
    uint64_t counter; /* watch: what was read from the eventfd */
    struct dbos_loop_op *next;
    struct dbos_loop_op *previous;
};

enum dbos_loop_kind { DBOS_LOOP_BEST, DBOS_LOOP_URING, DBOS_LOOP_POLL };

/* Errors: NOMEM; IO (URING was asked for and is not allowed here). */
enum dbos_err dbos_loop_open(struct dbos_alloc *alloc, enum dbos_loop_kind kind,
                             struct dbos_loop **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* No operation may be active. */
void dbos_loop_close(struct dbos_loop *loop);
bool dbos_loop_is_uring(const struct dbos_loop *loop);

/* Accept connections until canceled: `done` is called with each new descriptor or a negative errno
 * (then the loop goes on accepting). Whether the listening socket is non-blocking is the loop's
 * affair; other descriptors must be blocking ones: io_uring gives up at once on those that are not.
 */
void dbos_loop_accept(struct dbos_loop *loop, struct dbos_loop_op *op, int file);
/* Receive at most `size_bytes` > 0; 0 = the other side has closed. */
void dbos_loop_recv(struct dbos_loop *loop, struct dbos_loop_op *op, int file, void *data,
                    size_t size_bytes);
/* Send; fewer bytes than asked for may have left. */
void dbos_loop_send(struct dbos_loop *loop, struct dbos_loop_op *op, int file, const void *data,
                    size_t size_bytes);
/* Send what the socket takes at once: nearly always everything, for one system call and no event.
 * False: the connection is lost. */
bool dbos_loop_send_now(int file, const void *data, size_t size_bytes,
                        size_t *out_sent) DBOS_MUST_USE;
/* `done` is called whenever the eventfd was written, until canceled. Nobody else may read it. */
void dbos_loop_watch(struct dbos_loop *loop, struct dbos_loop_op *op, int file);
/* Ask an active operation to end: its `done` is still called, with what it did or -ECANCELED. No
 * effect on one that is not active. */
void dbos_loop_cancel(struct dbos_loop *loop, struct dbos_loop_op *op);

/* Start what was asked for, wait at most `timeout_us` (0 = not at all) for something to finish, and
 * call the `done` of all that has. Errors: IO (the loop can not go on). */
enum dbos_err dbos_loop_turn(struct dbos_loop *loop, uint64_t timeout_us,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_BASE_LOOP_H */
