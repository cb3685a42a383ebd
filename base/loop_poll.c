#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop_internal.h"

/* Room from the start, so that a few connections are served whatever memory there is; where there
 * is none for more, those that have room take turns of a short wait. */
enum { CAPACITY = 32, SHORT_US = 10000 };

struct polled {
    struct pollfd *files;
    struct dbos_loop_op **ops;
    uint32_t capacity;
    uint32_t skip;           /* operations that had their turn, while there is no room for all */
    uint32_t canceled_count; /* their `done` is due at the next turn */
};

/* False: there is no memory for so many; what was there still is. */
static bool grow(struct dbos_alloc *alloc, struct polled *polled, uint32_t capacity) {
    struct pollfd *files = dbos_retake(alloc, polled->files, capacity * sizeof *files);
    if (files == NULL) {
        return false;
    }
    polled->files = files;
    struct dbos_loop_op **ops = dbos_retake(alloc, polled->ops, capacity * sizeof(*ops));
    if (ops == NULL) {
        return false;
    }
    polled->ops = ops;
    polled->capacity = capacity;
    return true;
}

static void close_poll(struct dbos_loop *loop) {
    struct polled *polled = loop->state;
    dbos_give(loop->alloc, polled->files);
    dbos_give(loop->alloc, polled->ops);
    dbos_give(loop->alloc, polled);
}

static enum dbos_err open_poll(struct dbos_loop *loop, struct dbos_errinfo *info) {
    struct polled *polled = dbos_take_zero(loop->alloc, sizeof *polled);
    loop->state = polled;
    if (polled != NULL && grow(loop->alloc, polled, CAPACITY)) {
        return DBOS_OK;
    }
    if (polled != NULL) {
        close_poll(loop);
    }
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* What is active is looked at by the next turn. */
static void start_op(struct dbos_loop *loop, struct dbos_loop_op *op) {
    (void)loop;
    if (op->kind == DBOS_LOOP_ACCEPT) { /* who was announced may be gone when accepted */
        int flags = fcntl(op->file, F_GETFL);
        (void)fcntl(op->file, F_SETFL, flags | O_NONBLOCK);
    }
}

static void cancel_op(struct dbos_loop *loop, struct dbos_loop_op *op) {
    struct polled *polled = loop->state;
    polled->canceled_count += op->is_canceled;
}

/* Do it without waiting; -EAGAIN = not yet. */
static int32_t attempt(struct dbos_loop_op *op) {
    ssize_t result = -1;
    switch ((enum dbos_loop_op_kind)op->kind) {
    case DBOS_LOOP_ACCEPT:
        result = accept4(op->file, NULL, NULL, SOCK_CLOEXEC);
        break;
    case DBOS_LOOP_RECV:
        result = recv(op->file, op->data, op->size_bytes, MSG_DONTWAIT);
        break;
    case DBOS_LOOP_SEND:
        result = send(op->file, op->data, op->size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
        break;
    case DBOS_LOOP_WATCH:
        result = read(op->file, &op->counter, sizeof op->counter);
        result = result > 0 ? 0 : result;
        break;
    }
    return result < 0 ? -errno : (int32_t)result;
}

/* What is waited for in this turn. */
static uint32_t choose(struct dbos_loop *loop, struct polled *polled) {
    uint32_t count = loop->active_count < polled->capacity ? loop->active_count : polled->capacity;
    struct dbos_loop_op *op = loop->active;
    polled->skip = count == loop->active_count ? 0 : polled->skip % loop->active_count;
    for (uint32_t i = 0; i < polled->skip; i++) {
        op = op->next;
    }
    for (uint32_t i = 0; i < count; i++) {
        op = op == NULL ? loop->active : op;
        polled->files[i] = (struct pollfd){
            .fd = op->is_canceled ? -1 : op->file,
            .events = op->kind == DBOS_LOOP_SEND ? POLLOUT : POLLIN,
        };
        polled->ops[i] = op;
        op = op->next;
    }
    polled->skip += count;
    return count;
}

static enum dbos_err turn(struct dbos_loop *loop, uint64_t timeout_us, struct dbos_errinfo *info) {
    struct polled *polled = loop->state;
    if (loop->active_count > polled->capacity &&
        !grow(loop->alloc, polled, loop->active_count * 2)) {
        timeout_us = timeout_us < SHORT_US ? timeout_us : SHORT_US;
    }
    uint32_t count = choose(loop, polled);
    uint64_t timeout_ms = polled->canceled_count != 0 ? 0 : (timeout_us + 999) / 1000;
    int ready = poll(polled->files, count, timeout_ms > 60000 ? 60000 : (int)timeout_ms);
    if (ready < 0 && errno != EINTR) {
        return dbos_fail(info, DBOS_ERR_IO, "poll: %s", strerror(errno));
    }
    for (uint32_t i = 0; i < count; i++) {
        struct dbos_loop_op *op = polled->ops[i];
        if (op->is_canceled) {
            polled->canceled_count--;
            (void)dbos_loop_complete(loop, op, -ECANCELED);
            continue;
        }
        if (ready <= 0 || polled->files[i].revents == 0) {
            continue;
        }
        int32_t result = attempt(op);
        if (result != -EAGAIN && result != -EINTR) {
            (void)dbos_loop_complete(loop, op, result);
        }
    }
    return DBOS_OK;
}

const struct dbos_loop_backend dbos_loop_poll = {
    .open = open_poll,
    .close = close_poll,
    .start = start_op,
    .cancel = cancel_op,
    .turn = turn,
};
