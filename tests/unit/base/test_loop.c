#include "base/loop.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/env.h"

TestSuite(base_loop, .timeout = 30);

/* Everything is run on both: what the machine allows, and poll(). */
static const enum dbos_loop_kind kinds[] = {DBOS_LOOP_BEST, DBOS_LOOP_POLL};
enum { KIND_COUNT = 2 };

struct fixture {
    struct dbos_alloc alloc;
    struct dbos_loop *loop;
    struct dbos_errinfo info;
};

static void open_fixture(struct fixture *f, enum dbos_loop_kind kind) {
    dbos_alloc_init(&f->alloc, "test", 0);
    enum dbos_err err = dbos_loop_open(&f->alloc, kind, &f->loop, &f->info);
    cr_assert_eq(err, DBOS_OK, "%s", f->info.message);
    if (kind == DBOS_LOOP_POLL) {
        cr_assert_not(dbos_loop_is_uring(f->loop));
    }
}

static void close_fixture(struct fixture *f) {
    dbos_loop_close(f->loop);
    dbos_alloc_fini(&f->alloc);
}

struct probe {
    struct dbos_loop_op op;
    int calls;
    int32_t result;
    struct dbos_loop *cancel_in; /* cancel the operation from within its own `done` */
};

static void note(struct dbos_loop_op *op, int32_t result) {
    struct probe *probe = op->owner;
    probe->calls++;
    probe->result = result;
    if (probe->cancel_in != NULL) {
        dbos_loop_cancel(probe->cancel_in, op);
    }
}

static void init_probe(struct probe *probe) {
    *probe = (struct probe){.op = {.done = note}};
    probe->op.owner = probe;
}

/* Turn until the probe was called `calls` times. */
static void turn_until(struct fixture *f, const struct probe *probe, int calls) {
    for (int i = 0; i < 1000 && probe->calls < calls; i++) {
        enum dbos_err err = dbos_loop_turn(f->loop, 10000, &f->info);
        cr_assert_eq(err, DBOS_OK, "%s", f->info.message);
    }
    cr_assert_eq(probe->calls, calls);
}

static void turn_times(struct fixture *f, int times) {
    for (int i = 0; i < times; i++) {
        cr_assert_eq(dbos_loop_turn(f->loop, 1000, &f->info), DBOS_OK);
    }
}

static void open_pair(int files[2]) {
    int result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, files);
    cr_assert_eq(result, 0);
}

static void close_pair(const int files[2]) {
    (void)close(files[0]);
    (void)close(files[1]);
}

Test(base_loop, bytes_arrive_when_they_were_sent_and_not_before) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct probe receiver;
        struct probe sender;
        int files[2];
        char got[16] = "";
        open_fixture(&f, kinds[k]);
        open_pair(files);
        init_probe(&receiver);
        init_probe(&sender);
        dbos_loop_recv(f.loop, &receiver.op, files[0], got, sizeof got);
        turn_times(&f, 3);
        cr_expect_eq(receiver.calls, 0);
        dbos_loop_send(f.loop, &sender.op, files[1], "hello", 5);
        turn_until(&f, &receiver, 1);
        turn_until(&f, &sender, 1);
        cr_expect_eq(receiver.result, 5);
        cr_expect_eq(sender.result, 5);
        cr_expect_eq(memcmp(got, "hello", 5), 0);
        close_pair(files);
        close_fixture(&f);
    }
}

Test(base_loop, the_other_side_closing_is_zero_bytes_and_then_an_error_to_send_to) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct probe probe;
        int files[2];
        char got[16];
        open_fixture(&f, kinds[k]);
        open_pair(files);
        init_probe(&probe);
        (void)close(files[1]);
        dbos_loop_recv(f.loop, &probe.op, files[0], got, sizeof got);
        turn_until(&f, &probe, 1);
        cr_expect_eq(probe.result, 0);
        dbos_loop_send(f.loop, &probe.op, files[0], "x", 1);
        turn_until(&f, &probe, 2);
        cr_expect_eq(probe.result, -EPIPE);
        (void)close(files[0]);
        close_fixture(&f);
    }
}

Test(base_loop, a_canceled_operation_is_still_reported_once) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct probe probe;
        int files[2];
        char got[16];
        open_fixture(&f, kinds[k]);
        open_pair(files);
        init_probe(&probe);
        dbos_loop_recv(f.loop, &probe.op, files[0], got, sizeof got);
        turn_times(&f, 1);
        dbos_loop_cancel(f.loop, &probe.op);
        dbos_loop_cancel(f.loop, &probe.op);
        turn_until(&f, &probe, 1);
        cr_expect_eq(probe.result, -ECANCELED);
        turn_times(&f, 3);
        cr_expect_eq(probe.calls, 1);
        dbos_loop_cancel(f.loop, &probe.op); /* not active: nothing */
        turn_times(&f, 3);
        cr_expect_eq(probe.calls, 1);
        close_pair(files);
        close_fixture(&f);
    }
}

Test(base_loop, an_operation_canceled_before_it_was_submitted_ends) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct probe probe;
        int files[2];
        char got[16];
        open_fixture(&f, kinds[k]);
        open_pair(files);
        init_probe(&probe);
        dbos_loop_recv(f.loop, &probe.op, files[0], got, sizeof got);
        dbos_loop_cancel(f.loop, &probe.op);
        turn_until(&f, &probe, 1);
        cr_expect_eq(probe.result, -ECANCELED);
        close_pair(files);
        close_fixture(&f);
    }
}

Test(base_loop, every_write_of_the_eventfd_wakes_until_canceled) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct probe probe;
        uint64_t one = 1;
        int file = eventfd(0, EFD_CLOEXEC);
        open_fixture(&f, kinds[k]);
        init_probe(&probe);
        dbos_loop_watch(f.loop, &probe.op, file);
        turn_times(&f, 2);
        cr_expect_eq(probe.calls, 0);
        for (int i = 1; i <= 3; i++) {
            cr_assert_eq(write(file, &one, sizeof one), (ssize_t)sizeof one);
            turn_until(&f, &probe, i);
        }
        probe.cancel_in = f.loop; /* at the next one */
        cr_assert_eq(write(file, &one, sizeof one), (ssize_t)sizeof one);
        for (int i = 0; i < 100 && probe.op.is_active; i++) {
            turn_times(&f, 1);
        }
        cr_expect_not(probe.op.is_active);
        (void)close(file);
        close_fixture(&f);
    }
}

struct accepting {
    struct dbos_loop_op op;
    int files[8];
    int count;
};

static void note_accepted(struct dbos_loop_op *op, int32_t result) {
    struct accepting *accepting = op->owner;
    if (result >= 0) {
        accepting->files[accepting->count++] = result;
    }
}

Test(base_loop, accepting_goes_on_until_it_is_canceled) {
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        struct dbos_env *env = dbos_env_posix();
        struct accepting accepting = {.op = {.done = note_accepted}};
        int listener = -1;
        int clients[3];
        uint16_t port = 0;
        open_fixture(&f, kinds[k]);
        enum dbos_err err = env->ops->tcp_listen(env, "127.0.0.1", 0, &listener, &port, &f.info);
        cr_assert_eq(err, DBOS_OK, "%s", f.info.message);
        accepting.op.owner = &accepting;
        dbos_loop_accept(f.loop, &accepting.op, listener);
        turn_times(&f, 2);
        for (int i = 0; i < 3; i++) {
            err = env->ops->tcp_connect(env, "127.0.0.1", port, 1000, &clients[i], &f.info);
            cr_assert_eq(err, DBOS_OK, "%s", f.info.message);
        }
        for (int i = 0; i < 100 && accepting.count < 3; i++) {
            turn_times(&f, 1);
        }
        cr_assert_eq(accepting.count, 3);
        dbos_loop_cancel(f.loop, &accepting.op);
        for (int i = 0; i < 100 && accepting.op.is_active; i++) {
            turn_times(&f, 1);
        }
        cr_expect_not(accepting.op.is_active);
        for (int i = 0; i < 3; i++) {
            (void)close(clients[i]);
            (void)close(accepting.files[i]);
        }
        (void)close(listener);
        close_fixture(&f);
    }
}

/* More than the submission ring holds, all at once. */
Test(base_loop, a_thousand_operations_can_be_started_in_one_turn) {
    enum { COUNT = 1000 };
    for (int k = 0; k < KIND_COUNT; k++) {
        struct fixture f;
        int files[2];
        char got[COUNT];
        struct probe *probes = calloc(COUNT, sizeof *probes);
        open_fixture(&f, kinds[k]);
        open_pair(files);
        int left = COUNT;
        for (int i = 0; i < COUNT; i++) {
            init_probe(&probes[i]);
            dbos_loop_recv(f.loop, &probes[i].op, files[0], &got[i], 1);
        }
        char data[COUNT];
        memset(data, 'x', sizeof data);
        cr_assert_eq(write(files[1], data, sizeof data), (ssize_t)sizeof data);
        for (int turn = 0; turn < 1000 && left != 0; turn++) {
            turn_times(&f, 1);
            left = 0;
            for (int i = 0; i < COUNT; i++) {
                left += probes[i].calls == 0;
            }
        }
        cr_expect_eq(left, 0);
        close_pair(files);
        close_fixture(&f);
        free(probes);
    }
}

/* Goal: the server goes on serving when its memory is used up. Method: more than there is room for
 * at open, all of them written to, and every take fails. */
Test(base_loop, without_memory_for_all_at_once_each_has_its_turn) {
    enum { WATCHED = 100 };
    struct fixture f;
    static struct probe probes[WATCHED];
    int files[WATCHED];
    open_fixture(&f, DBOS_LOOP_POLL);
    f.alloc.bytes_max = atomic_load(&f.alloc.bytes);
    for (int i = 0; i < WATCHED; i++) {
        init_probe(&probes[i]);
        probes[i].cancel_in = f.loop;
        files[i] = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        cr_assert_geq(files[i], 0);
        dbos_loop_watch(f.loop, &probes[i].op, files[i]);
    }
    turn_times(&f, 20);
    for (int i = 0; i < WATCHED; i++) {
        cr_expect_eq(probes[i].calls, 2, "%d: %d", i, probes[i].calls); /* written, and canceled */
        cr_expect_not(probes[i].op.is_active);
        (void)close(files[i]);
    }
    close_fixture(&f);
}
