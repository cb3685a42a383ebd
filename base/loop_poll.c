#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/loop_internal.h"

struct polled {
    struct pollfd *files;
    struct dbos_loop_op **ops;
    uint32_t capacity;
    uint32_t canceled_count; /* their `done` is due at the next turn */
};

static enum dbos_err open_poll(struct dbos_loop *loop, struct dbos_errinfo *info) {
    loop->state = dbos_take_zero(loop->alloc, sizeof(struct polled));
    return loop->state == NULL ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory") : DBOS_OK;
}

static void close_poll(struct dbos_loop *loop) {
    struct polled *polled = loop->state;
    dbos_give(loop->alloc, polled->files);
    dbos_give(loop->alloc, polled->ops);
    dbos_give(loop->alloc, polled);
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

static enum dbos_err grow(struct dbos_loop *loop, struct polled *polled) {
    if (loop->active_count <= polled->capacity) {
        return DBOS_OK;
    }
    uint32_t capacity = loop->active_count * 2;
    struct pollfd *files = dbos_retake(loop->alloc, polled->files, capacity * sizeof *files);
    if (files == NULL) {
        return DBOS_ERR_NOMEM;
    }
    polled->files = files;
    struct dbos_loop_op **ops = dbos_retake(loop->alloc, polled->ops, capacity * sizeof(*ops));
    if (ops == NULL) {
        return DBOS_ERR_NOMEM;
    }
    polled->ops = ops;
    polled->capacity = capacity;
    return DBOS_OK;
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

static enum dbos_err turn(struct dbos_loop *loop, uint64_t timeout_us, struct dbos_errinfo *info) {
    struct polled *polled = loop->state;
    if (grow(loop, polled) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_IO, "out of memory for poll()");
    }
    uint32_t count = 0;
    for (struct dbos_loop_op *op = loop->active; op != NULL; op = op->next) {
        polled->files[count] = (struct pollfd){
            .fd = op->is_canceled ? -1 : op->file,
            .events = op->kind == DBOS_LOOP_SEND ? POLLOUT : POLLIN,
        };
        polled->ops[count++] = op;
    }
    DBOS_CHECK(count == loop->active_count);
    uint64_t timeout_ms = polled->canceled_count != 0 ? 0 : (timeout_us + 999) / 1000;
    int ready = poll(polled->files, count, timeout_ms > 60000 ? 60000 : (int)timeout_ms);
    if (ready < 0 && errno != EINTR) {
        return dbos_fail(info, DBOS_ERR_IO, "poll: %s", strerror(errno));
    }
    polled->canceled_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct dbos_loop_op *op = polled->ops[i];
        if (op->is_canceled) {
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
