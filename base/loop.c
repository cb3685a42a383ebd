#include "base/loop.h"

#include <errno.h>
#include <sys/socket.h>

#include "base/loop_internal.h"

enum dbos_err dbos_loop_open(struct dbos_alloc *alloc, enum dbos_loop_kind kind,
                             struct dbos_loop **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_loop *loop = dbos_take_zero(alloc, sizeof *loop);
    if (loop == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    loop->alloc = alloc;
    loop->backend = kind == DBOS_LOOP_POLL ? &dbos_loop_poll : &dbos_loop_uring;
    enum dbos_err err = loop->backend->open(loop, info);
    if (err == DBOS_ERR_IO && kind == DBOS_LOOP_BEST) {
        loop->backend = &dbos_loop_poll;
        err = loop->backend->open(loop, info);
    }
    if (err != DBOS_OK) {
        dbos_give(alloc, loop);
        return err;
    }
    *out = loop;
    return DBOS_OK;
}

void dbos_loop_close(struct dbos_loop *loop) {
    if (loop == NULL) {
        return;
    }
    DBOS_CHECK(loop->active_count == 0);
    loop->backend->close(loop);
    dbos_give(loop->alloc, loop);
}

bool dbos_loop_is_uring(const struct dbos_loop *loop) { return loop->backend == &dbos_loop_uring; }

static void start(struct dbos_loop *loop, struct dbos_loop_op *op, enum dbos_loop_op_kind kind,
                  int file) {
    DBOS_CHECK(!op->is_active && op->done != NULL && file >= 0);
    op->kind = (uint8_t)kind;
    op->file = file;
    op->is_active = true;
    op->is_canceled = false;
    op->previous = NULL;
    op->next = loop->active;
    if (op->next != NULL) {
        op->next->previous = op;
    }
    loop->active = op;
    loop->active_count++;
    loop->backend->start(loop, op);
}

static void leave(struct dbos_loop *loop, struct dbos_loop_op *op) {
    DBOS_CHECK(op->is_active && loop->active_count > 0);
    op->is_active = false;
    if (op->next != NULL) {
        op->next->previous = op->previous;
    }
    if (op->previous != NULL) {
        op->previous->next = op->next;
    } else {
        loop->active = op->next;
    }
    loop->active_count--;
}

bool dbos_loop_complete(struct dbos_loop *loop, struct dbos_loop_op *op, int32_t result) {
    bool goes_on = (op->kind == DBOS_LOOP_ACCEPT || op->kind == DBOS_LOOP_WATCH) &&
                   !op->is_canceled && result != -ECANCELED;
    if (!goes_on) {
        leave(loop, op);
    }
    op->done(op, result);
    /* `done` may have canceled it, and then freed nothing: it is still active. */
    return goes_on && op->is_active;
}

void dbos_loop_accept(struct dbos_loop *loop, struct dbos_loop_op *op, int file) {
    start(loop, op, DBOS_LOOP_ACCEPT, file);
}

void dbos_loop_recv(struct dbos_loop *loop, struct dbos_loop_op *op, int file, void *data,
                    size_t size_bytes) {
    DBOS_CHECK(size_bytes > 0);
    op->data = data;
    op->size_bytes = size_bytes;
    start(loop, op, DBOS_LOOP_RECV, file);
}

void dbos_loop_send(struct dbos_loop *loop, struct dbos_loop_op *op, int file, const void *data,
                    size_t size_bytes) {
    DBOS_CHECK(size_bytes > 0);
    op->data = (void *)(uintptr_t)data; /* only read from */
    op->size_bytes = size_bytes;
    start(loop, op, DBOS_LOOP_SEND, file);
}

bool dbos_loop_send_now(int file, const void *data, size_t size_bytes, size_t *out_sent) {
    ssize_t sent = 0;
    do {
        sent = send(file, data, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    *out_sent = sent > 0 ? (size_t)sent : 0;
    return sent > 0 || errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOBUFS;
}

void dbos_loop_watch(struct dbos_loop *loop, struct dbos_loop_op *op, int file) {
    start(loop, op, DBOS_LOOP_WATCH, file);
}

void dbos_loop_cancel(struct dbos_loop *loop, struct dbos_loop_op *op) {
    if (op->is_active && !op->is_canceled) {
        op->is_canceled = true;
        loop->backend->cancel(loop, op);
    }
}

enum dbos_err dbos_loop_turn(struct dbos_loop *loop, uint64_t timeout_us,
                             struct dbos_errinfo *info) {
    return loop->backend->turn(loop, timeout_us, info);
}
