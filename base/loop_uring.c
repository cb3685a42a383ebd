#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/loop_internal.h"

/* Operations that can be started between two turns without a system call in between. */
enum { ENTRIES = 512 };

struct uring {
    struct io_uring ring;
    bool is_enabled; /* by the first turn, so that the ring belongs to the thread that turns it */
};

static enum dbos_err open_ring(struct dbos_loop *loop, struct dbos_errinfo *info) {
    struct uring *uring = dbos_take_zero(loop->alloc, sizeof *uring);
    if (uring == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    /* Completions are worked off by the loop's thread when it asks for them, not by interrupting it
     * (Linux 6.1). Older kernels refuse the flags. */
    const unsigned flags[] = {IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                                  IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CLAMP,
                              IORING_SETUP_R_DISABLED | IORING_SETUP_CLAMP};
    int result = -EINVAL;
    for (size_t i = 0; i < sizeof flags / sizeof flags[0] && result == -EINVAL; i++) {
        result = io_uring_queue_init(ENTRIES, &uring->ring, flags[i]);
    }
    if (result < 0) {
        dbos_give(loop->alloc, uring);
        return dbos_fail(info, DBOS_ERR_IO, "io_uring_setup: %s", strerror(-result));
    }
    loop->state = uring;
    return DBOS_OK;
}

static void close_ring(struct dbos_loop *loop) {
    struct uring *uring = loop->state;
    io_uring_queue_exit(&uring->ring);
    dbos_give(loop->alloc, uring);
}

static void enable(struct uring *uring) {
    if (!uring->is_enabled) {
        /* Debian 12's liburing declares io_uring_enable_rings() and does not export it. */
        long result = syscall(SYS_io_uring_register, uring->ring.ring_fd,
                              IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        DBOS_CHECK(result == 0);
        uring->is_enabled = true;
    }
}

/* A free submission entry; when the ring is full, what is in it is submitted first. */
static struct io_uring_sqe *take_entry(struct uring *uring) {
    struct io_uring_sqe *entry = io_uring_get_sqe(&uring->ring);
    while (entry == NULL) {
        enable(uring);
        int result = io_uring_submit(&uring->ring);
        DBOS_CHECK(result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR);
        entry = io_uring_get_sqe(&uring->ring);
    }
    return entry;
}

static void submit_op(struct dbos_loop *loop, struct dbos_loop_op *op) {
    struct io_uring_sqe *entry = take_entry(loop->state);
    switch ((enum dbos_loop_op_kind)op->kind) {
    case DBOS_LOOP_ACCEPT:
        io_uring_prep_accept(entry, op->file, NULL, NULL, SOCK_CLOEXEC);
        break;
    case DBOS_LOOP_RECV:
        io_uring_prep_recv(entry, op->file, op->data, op->size_bytes, 0);
        break;
    case DBOS_LOOP_SEND:
        io_uring_prep_send(entry, op->file, op->data, op->size_bytes, MSG_NOSIGNAL);
        break;
    case DBOS_LOOP_WATCH:
        io_uring_prep_read(entry, op->file, &op->counter, sizeof op->counter, 0);
        break;
    }
    io_uring_sqe_set_data(entry, op);
}

static void start_op(struct dbos_loop *loop, struct dbos_loop_op *op) {
    if (op->kind == DBOS_LOOP_ACCEPT) { /* else the kernel would not wait for a connection */
        int flags = fcntl(op->file, F_GETFL);
        (void)fcntl(op->file, F_SETFL, flags & ~O_NONBLOCK);
    }
    submit_op(loop, op);
}

static void cancel_op(struct dbos_loop *loop, struct dbos_loop_op *op) {
    struct io_uring_sqe *entry = take_entry(loop->state);
    io_uring_prep_cancel(entry, op, 0);
    io_uring_sqe_set_data(entry, NULL);
}

static void complete(struct dbos_loop *loop, struct dbos_loop_op *op, int32_t result) {
    /* What the kernel reports as a mere interruption has not happened. */
    bool is_nothing = result == -EINTR || result == -EAGAIN;
    if (is_nothing && !op->is_canceled) {
        submit_op(loop, op);
    } else if (dbos_loop_complete(loop, op, is_nothing ? -ECANCELED : result)) {
        submit_op(loop, op);
        if (op->is_canceled) { /* by its own `done`, when there was nothing to cancel */
            cancel_op(loop, op);
        }
    }
}

static enum dbos_err turn(struct dbos_loop *loop, uint64_t timeout_us, struct dbos_errinfo *info) {
    struct uring *uring = loop->state;
    enable(uring);
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_us / 1000000),
                                        .tv_nsec = (long long)(timeout_us % 1000000) * 1000};
    struct io_uring_cqe *first = NULL;
    int result = timeout_us == 0
                     ? io_uring_submit_and_get_events(&uring->ring)
                     : io_uring_submit_and_wait_timeout(&uring->ring, &first, 1, &timeout, NULL);
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN &&
        result != -EBUSY) {
        return dbos_fail(info, DBOS_ERR_IO, "io_uring_enter: %s", strerror(-result));
    }
    /* Only what is there now: a `done` that starts new work must not keep the turn going for ever.
     */
    unsigned ready = io_uring_cq_ready(&uring->ring);
    for (unsigned i = 0; i < ready; i++) {
        struct io_uring_cqe *cqe = NULL;
        if (io_uring_peek_cqe(&uring->ring, &cqe) != 0) {
            break;
        }
        struct dbos_loop_op *op = io_uring_cqe_get_data(cqe);
        int32_t outcome = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        if (op != NULL) {
            complete(loop, op, outcome);
        }
    }
    return DBOS_OK;
}

const struct dbos_loop_backend dbos_loop_uring = {
    .open = open_ring,
    .close = close_ring,
    .start = start_op,
    .cancel = cancel_op,
    .turn = turn,
};
