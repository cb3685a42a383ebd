#include "tests/sim/sched.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/queue.h"

enum { TASKS_MAX = 64, STACK_BYTES = 1048576, LOOK_NS = 40, TURN_NS = 400 };
#define FOREVER     UINT64_MAX
#define LIFE_MAX_NS UINT64_C(3600000000000) /* an hour without an end is no life */

enum state { FREE, RUNNABLE, WAITING, ENDED };

struct task {
    enum state state;
    char name[16];
    void *(*run)(void *arg);
    void *arg;
    void *stack;
    ucontext_t context;
    const void *waits_for;
    uint64_t until_ns;
    bool was_woken;
};

static struct {
    struct dbos_rng rng;
    struct task tasks[TASKS_MAX];
    struct task *now; /* NULL: the scheduler */
    ucontext_t scheduler;
    uint64_t now_ns;
    uint64_t born_ns;
    uint64_t switches;
    uint64_t crash_at; /* of switches; 0 = not */
    uint32_t preempt_permille;
    uint64_t trace;
    void (*root)(void *arg);
    void *root_arg;
    bool is_over;
    bool is_loud;
    enum sim_end end;
} sim;

/* --- coroutines ------------------------------------------------------------------------------ */

void sim_trace(uint64_t what) { sim.trace = dbos_mix64(sim.trace * 31 + what); }
uint64_t sim_trace_hash(void) { return sim.trace; }
uint64_t sim_switches(void) { return sim.switches; }
uint64_t sim_dice(uint64_t sides) { return dbos_rng_below(&sim.rng, sides); }

uint64_t sim_now_ns(void) {
    sim.now_ns += LOOK_NS;
    return sim.now_ns;
}

static void to_scheduler(void) { (void)swapcontext(&sim.now->context, &sim.scheduler); }

static void task_main(void) {
    struct task *task = sim.now;
    (void)task->run(task->arg);
    task->state = ENDED;
    sim_wake(task);
    to_scheduler();
}

static struct task *make_task(const char *name, void *(*run)(void *arg), void *arg) {
    uint32_t i = 0;
    while (i < TASKS_MAX && sim.tasks[i].state != FREE) {
        i++;
    }
    DBOS_CHECK(i < TASKS_MAX);
    struct task *task = &sim.tasks[i];
    void *stack = task->stack;
    if (stack == NULL) {
        stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        DBOS_CHECK(stack != MAP_FAILED && mprotect(stack, 4096, PROT_NONE) == 0);
    }
    *task = (struct task){.state = RUNNABLE, .run = run, .arg = arg, .stack = stack};
    (void)snprintf(task->name, sizeof task->name, "%s", name);
    DBOS_CHECK(getcontext(&task->context) == 0);
    task->context.uc_stack.ss_sp = stack;
    task->context.uc_stack.ss_size = STACK_BYTES;
    makecontext(&task->context, task_main, 0);
    return task;
}

void sim_spawn(const char *name, void *(*run)(void *arg), void *arg) {
    (void)make_task(name, run, arg);
}

static void wake_due(void) {
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        struct task *task = &sim.tasks[i];
        if (task->state == WAITING && task->until_ns <= sim.now_ns) {
            task->state = RUNNABLE;
            task->was_woken = false;
        }
    }
}

static uint32_t runnable(struct task *out[TASKS_MAX]) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        if (sim.tasks[i].state == RUNNABLE) {
            out[count++] = &sim.tasks[i];
        }
    }
    return count;
}

/* Nobody can go on: the next timer. */
static void pass_time(void) {
    uint64_t next = FOREVER;
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        if (sim.tasks[i].state == WAITING && sim.tasks[i].until_ns < next) {
            next = sim.tasks[i].until_ns;
        }
    }
    if (next == FOREVER) {
        (void)fprintf(stderr, "sim: nobody can go on:");
        for (uint32_t i = 0; i < TASKS_MAX; i++) {
            if (sim.tasks[i].state == WAITING) {
                (void)fprintf(stderr, " %s", sim.tasks[i].name);
            }
        }
        (void)fprintf(stderr, "\n");
        abort();
    }
    sim.now_ns = next > sim.now_ns ? next : sim.now_ns;
}

static bool has_tasks(void) {
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        if (sim.tasks[i].state == RUNNABLE || sim.tasks[i].state == WAITING) {
            return true;
        }
    }
    return false;
}

static void schedule(void) {
    struct task *ready[TASKS_MAX];
    while (!sim.is_over && has_tasks()) {
        wake_due();
        uint32_t count = runnable(ready);
        if (count == 0) {
            pass_time();
            continue;
        }
        sim.now = ready[sim_dice(count)];
        sim.switches++;
        sim.now_ns += TURN_NS;
        sim_trace((uint64_t)(sim.now - sim.tasks));
        if (sim.now_ns - sim.born_ns > LIFE_MAX_NS) {
            (void)fprintf(stderr, "sim: a life of an hour has no end\n");
            abort();
        }
        (void)swapcontext(&sim.scheduler, &sim.now->context);
        sim.now = NULL;
        if (sim.crash_at != 0 && sim.switches >= sim.crash_at) {
            sim.is_over = true;
            sim.end = SIM_CRASH;
        }
    }
}

static void *root_main(void *unused) {
    (void)unused;
    sim.root(sim.root_arg);
    return NULL;
}

void sim_open(uint64_t seed, bool is_loud) {
    dbos_rng_init(&sim.rng, seed);
    sim.is_loud = is_loud;
    sim.now_ns = UINT64_C(1000000000000);
    sim.trace = seed;
}

void sim_set(uint32_t preempt_permille, uint64_t crash_after_switches) {
    sim.preempt_permille = preempt_permille;
    sim.crash_at = crash_after_switches == 0 ? 0 : sim.switches + crash_after_switches;
}

enum sim_end sim_life(void (*run)(void *arg), void *arg) {
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        sim.tasks[i].state = FREE;
    }
    sim.root = run;
    sim.root_arg = arg;
    sim.is_over = false;
    sim.end = SIM_DONE;
    sim.born_ns = sim.now_ns;
    (void)make_task("node", root_main, NULL);
    schedule();
    sim_trace((uint64_t)sim.end);
    return sim.end;
}

static void end_life(enum sim_end end) {
    sim.is_over = true;
    sim.end = end;
    to_scheduler();
    abort(); /* nobody comes back */
}

void sim_crash(void) { end_life(SIM_CRASH); }

void sim_wait(const void *object, uint64_t timeout_ns) {
    struct task *task = sim.now;
    task->state = WAITING;
    task->waits_for = object;
    task->was_woken = false;
    task->until_ns = timeout_ns > FOREVER - sim.now_ns ? FOREVER : sim.now_ns + timeout_ns;
    to_scheduler();
}

/* Wakes so many, by the dice. */
static uint32_t wake_some(const void *object, uint32_t most) {
    struct task *found[TASKS_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < TASKS_MAX; i++) {
        if (sim.tasks[i].state == WAITING && sim.tasks[i].waits_for == object) {
            found[count++] = &sim.tasks[i];
        }
    }
    uint32_t woken = 0;
    while (count > 0 && woken < most) {
        uint32_t i = (uint32_t)sim_dice(count);
        found[i]->state = RUNNABLE;
        found[i]->was_woken = true;
        found[i]->waits_for = NULL;
        found[i] = found[--count];
        woken++;
    }
    return woken;
}

void sim_wake(const void *object) { (void)wake_some(object, TASKS_MAX); }
void sim_sleep(uint64_t ns) { sim_wait(&sim, ns); }

void sim_point(void) {
    if (sim.now != NULL && sim_dice(1000) < sim.preempt_permille) {
        to_scheduler();
    }
}

/* --- what the engine calls ------------------------------------------------------------------- */

int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
ssize_t __real_write(int file, const void *data, size_t size_bytes);
int __real_poll(struct pollfd *fds, nfds_t count, int timeout_ms);

void __real_dbos_queue_push_quietly(struct dbos_queue *queue, struct dbos_queue_node *node);
void __wrap_dbos_queue_push_quietly(struct dbos_queue *queue, struct dbos_queue_node *node);
int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*run)(void *arg),
                          void *arg);
int __wrap_pthread_join(pthread_t thread, void **out);
int __wrap_pthread_setname_np(pthread_t thread, const char *name);
int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param);
int __wrap_setpriority(int which, id_t who, int priority);
int __wrap_sched_yield(void);
int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms);
ssize_t __wrap_write(int file, const void *data, size_t size_bytes);
long __wrap_syscall(long number, ...);
void __wrap__exit(int status);

/* Who pushes has seen that somebody else will look, and that may be over. */
void __wrap_dbos_queue_push_quietly(struct dbos_queue *queue, struct dbos_queue_node *node) {
    sim_point();
    __real_dbos_queue_push_quietly(queue, node);
    sim_point();
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex) {
    sim_point();
    return __real_pthread_mutex_trylock(mutex);
}

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex) {
    sim_point();
    while (__real_pthread_mutex_trylock(mutex) != 0) {
        sim_wait(mutex, FOREVER);
    }
    return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex) {
    int result = __real_pthread_mutex_unlock(mutex);
    (void)wake_some(mutex, 1);
    sim_point();
    return result;
}

static int wait_on(pthread_cond_t *cond, pthread_mutex_t *mutex, uint64_t timeout_ns) {
    DBOS_CHECK(__real_pthread_mutex_unlock(mutex) == 0);
    (void)wake_some(mutex, 1);
    sim_wait(cond, timeout_ns);
    bool was_woken = sim.now->was_woken;
    (void)__wrap_pthread_mutex_lock(mutex);
    return was_woken ? 0 : ETIMEDOUT;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex) {
    return wait_on(cond, mutex, FOREVER);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                                  const struct timespec *until) {
    uint64_t until_ns = (uint64_t)until->tv_sec * 1000000000 + (uint64_t)until->tv_nsec;
    return wait_on(cond, mutex, until_ns > sim.now_ns ? until_ns - sim.now_ns : 0);
}

int __wrap_pthread_cond_signal(pthread_cond_t *cond) {
    (void)wake_some(cond, 1);
    sim_point();
    return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond) {
    (void)wake_some(cond, TASKS_MAX);
    sim_point();
    return 0;
}

int __wrap_pthread_create(pthread_t *out, const pthread_attr_t *attributes, void *(*run)(void *arg),
                          void *arg) {
    (void)attributes;
    struct task *task = make_task("thread", run, arg);
    *out = (pthread_t)(task - sim.tasks);
    sim_point();
    return 0;
}

int __wrap_pthread_join(pthread_t thread, void **out) {
    struct task *task = &sim.tasks[thread];
    (void)out;
    while (task->state != ENDED) {
        sim_wait(task, FOREVER);
    }
    task->state = FREE;
    return 0;
}

int __wrap_pthread_setname_np(pthread_t thread, const char *name) {
    (void)thread; /* pthread_self() is everybody */
    (void)snprintf(sim.now->name, sizeof sim.now->name, "%s", name);
    return 0;
}

int __wrap_pthread_setschedparam(pthread_t thread, int policy, const struct sched_param *param) {
    (void)thread;
    (void)policy;
    (void)param;
    return 0;
}

int __wrap_setpriority(int which, id_t who, int priority) {
    (void)which;
    (void)who;
    (void)priority;
    return 0;
}

int __wrap_sched_yield(void) {
    to_scheduler();
    return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out) {
    (void)clock;
    uint64_t now_ns = sim_now_ns();
    out->tv_sec = (time_t)(now_ns / 1000000000);
    out->tv_nsec = (long)(now_ns % 1000000000);
    return 0;
}

/* Every poll() waits for descriptors of this process: whoever writes to one looks. */
static char polled;

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    uint64_t until_ns = sim.now_ns + (uint64_t)timeout_ms * 1000000;
    int ready = __real_poll(fds, count, 0);
    while (ready == 0 && sim.now_ns < until_ns) {
        sim_wait(&polled, until_ns - sim.now_ns);
        ready = __real_poll(fds, count, 0);
    }
    return ready;
}

ssize_t __wrap_write(int file, const void *data, size_t size_bytes) {
    if (file == STDERR_FILENO && !sim.is_loud) {
        return (ssize_t)size_bytes; /* what the node says */
    }
    ssize_t written = __real_write(file, data, size_bytes);
    if (sim.now != NULL && file > STDERR_FILENO) {
        (void)wake_some(&polled, TASKS_MAX);
        sim_point();
    }
    return written;
}

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *timeout) {
    if (operation == FUTEX_WAKE_PRIVATE) {
        uint32_t woken = wake_some(word, value > TASKS_MAX ? TASKS_MAX : value);
        sim_point();
        return (long)woken;
    }
    DBOS_CHECK(operation == FUTEX_WAIT_PRIVATE);
    sim_point();
    if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != value) {
        errno = EAGAIN;
        return -1;
    }
    sim_wait(word, timeout == NULL
                       ? FOREVER
                       : (uint64_t)timeout->tv_sec * 1000000000 + (uint64_t)timeout->tv_nsec);
    if (!sim.now->was_woken) {
        errno = ETIMEDOUT;
        return -1;
    }
    return 0;
}

long __wrap_syscall(long number, ...) {
    va_list args;
    if (number != SYS_futex) {
        DBOS_CHECK(number == SYS_gettid);
        return 1;
    }
    va_start(args, number);
    uint32_t *word = va_arg(args, uint32_t *);
    int operation = va_arg(args, int);
    uint32_t value = va_arg(args, uint32_t);
    const struct timespec *timeout = va_arg(args, const struct timespec *);
    va_end(args);
    return futex(word, operation, value, timeout);
}

void __real__exit(int status);
void __wrap__exit(int status) {
    if (sim.now == NULL) {
        __real__exit(status);
    }
    sim_trace((uint64_t)status);
    end_life(SIM_EXIT);
}
