#include "procs/guard.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "procs/call.h"
#include "procs/deaths.h"

#if defined(__SANITIZE_THREAD__)
#define DELIVERS_LATE 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DELIVERS_LATE 1
#endif
#endif
#ifndef DELIVERS_LATE
#define DELIVERS_LATE 0
#endif

enum {
    SIGNAL_STACK_BYTES = 65536,
    STACK_RESERVE_BYTES = 262144, /* for the SDK, below what a procedure may use */
    STACK_END_BYTES = 65536,      /* so near to the end of the stack, and it is its end */
};

/* How a procedure ended: the values of sigsetjmp(). */
enum end { BY_RETURN, BY_TIME, BY_STACK, BY_DIVISION };

struct guard {
    struct guard *next;
    pthread_t thread;
    bool is_ready;
    struct dbos_call *volatile call; /* that runs now */
    sigjmp_buf back;
    uintptr_t stack_low;
    void *signal_stack;       /* NULL: the thread had one */
    _Atomic uint64_t entries; /* odd while a procedure runs */
    _Atomic bool is_late;     /* and was not met in its own code yet */
    uint64_t seen;            /* entries at the last look */
};

static _Thread_local struct guard own;

static struct {
    pthread_once_t once;
    pthread_mutex_t lock; /* of the list */
    struct guard *first;
    pthread_key_t key; /* its destructor ends a thread's guard */
    bool has_key;
    struct sigaction before[NSIG];
} guards = {.once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER};

static int look_signal(void) { return SIGRTMIN + 3; }

/* -- handlers --------------------------------------------------------------------------------- */

static bool is_own_code(const struct dbos_call *call, const void *context) {
    uintptr_t at = (uintptr_t)((const ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
    return at >= call->procedure->text.low && at < call->procedure->text.high;
}

static bool is_due(const struct dbos_run *run) {
    bool is_canceled =
        run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed) != 0;
    return is_canceled ||
           (run->deadline_ns != 0 && run->env->ops->mono_ns(run->env) > run->deadline_ns);
}

static void on_look(int number, siginfo_t *siginfo, void *context) {
    (void)number;
    (void)siginfo;
    int saved = errno;
    struct dbos_call *call = own.call;
    if (call != NULL && is_due(call->run)) {
        if (is_own_code(call, context)) {
            siglongjmp(own.back, BY_TIME);
        }
        atomic_store_explicit(&own.is_late, true, memory_order_relaxed);
    }
    errno = saved;
}

static const char *name_of(int number) {
    switch (number) {
    case SIGSEGV:
        return "SIGSEGV";
    case SIGBUS:
        return "SIGBUS";
    case SIGFPE:
        return "SIGFPE";
    case SIGILL:
        return "SIGILL";
    default:
        return "SIGABRT";
    }
}

static void say(const char *text) { (void)!write(STDERR_FILENO, text, strlen(text)); }

static void keep_death(const struct dbos_call *call, int number) {
    const struct dbos_procedure_info *info = call->procedure->info;
    say("dbosd: procedure \"");
    say(info->name);
    say("\" has met ");
    say(name_of(number));
    say(": the node ends, nothing of the call remains\n");
    if (call->procedure->procs->crash_path[0] != '\0') {
        dbos_death_note(call->procedure->procs->crash_path, info, name_of(number));
    }
}

static bool is_stack_end(const siginfo_t *siginfo) {
    uintptr_t at = (uintptr_t)siginfo->si_addr;
    return at >= own.stack_low - STACK_END_BYTES && at < own.stack_low + STACK_END_BYTES;
}

/* A fault happens again when this returns; what was sent (by abort()) is sent again. */
static void on_fault(int number, siginfo_t *siginfo, void *context) {
    const struct dbos_call *call = own.call;
    if (call != NULL) {
        bool is_own = is_own_code(call, context);
        if (is_own && number == SIGFPE && siginfo->si_code > 0) {
            siglongjmp(own.back, BY_DIVISION);
        }
        if (is_own && number == SIGSEGV && siginfo->si_code > 0 && is_stack_end(siginfo)) {
            siglongjmp(own.back, BY_STACK);
        }
        own.call = NULL; /* said once */
        keep_death(call, number);
    }
    (void)sigaction(number, &guards.before[number], NULL);
    if (siginfo->si_code <= 0) {
        (void)raise(number);
    }
}

/* -- threads ---------------------------------------------------------------------------------- */

static void end_thread(void *arg) {
    struct guard *guard = arg;
    (void)pthread_mutex_lock(&guards.lock);
    struct guard **link = &guards.first;
    while (*link != guard) {
        link = &(*link)->next;
    }
    *link = guard->next;
    (void)pthread_mutex_unlock(&guards.lock);
    if (guard->signal_stack != NULL) {
        stack_t none = {.ss_flags = SS_DISABLE};
        (void)sigaltstack(&none, NULL);
        (void)munmap(guard->signal_stack, SIGNAL_STACK_BYTES);
    }
    guard->is_ready = false;
}

static void take_signals(void) {
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    struct sigaction action = {.sa_sigaction = on_fault,
                               .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    guards.has_key = pthread_key_create(&guards.key, end_thread) == 0;
    if (DELIVERS_LATE) {
        return;
    }
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) {
        (void)sigaction(faults[i], &action, &guards.before[faults[i]]);
    }
    action.sa_sigaction = on_look;
    action.sa_flags |= SA_RESTART;
    (void)sigaction(look_signal(), &action, NULL);
}

static bool find_stack(struct guard *guard) {
    pthread_attr_t attributes;
    void *low = NULL;
    size_t size_bytes = 0;
    if (pthread_getattr_np(pthread_self(), &attributes) != 0) {
        return false;
    }
    bool is_found = pthread_attr_getstack(&attributes, &low, &size_bytes) == 0;
    (void)pthread_attr_destroy(&attributes);
    guard->stack_low = (uintptr_t)low;
    return is_found;
}

/* Without one of its own a handler could not run where the stack has come to its end. A sanitizer
 * gives its threads one. */
static bool take_signal_stack(struct guard *guard) {
    stack_t stack;
    if (sigaltstack(NULL, &stack) == 0 && (stack.ss_flags & SS_DISABLE) == 0) {
        return true;
    }
    void *memory =
        mmap(NULL, SIGNAL_STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return false;
    }
    stack = (stack_t){.ss_sp = memory, .ss_size = SIGNAL_STACK_BYTES};
    guard->signal_stack = memory;
    return sigaltstack(&stack, NULL) == 0;
}

static enum dbos_err make_ready(struct guard *guard, struct dbos_errinfo *info) {
    (void)pthread_once(&guards.once, take_signals);
    if (!guards.has_key || !find_stack(guard) || !take_signal_stack(guard) ||
        pthread_setspecific(guards.key, guard) != 0) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a thread's first procedure");
    }
    guard->thread = pthread_self();
    (void)pthread_mutex_lock(&guards.lock);
    guard->next = guards.first;
    guards.first = guard;
    (void)pthread_mutex_unlock(&guards.lock);
    guard->is_ready = true;
    return DBOS_OK;
}

/* -- a call ----------------------------------------------------------------------------------- */

static void enter(struct guard *guard, struct dbos_call *call) {
    uint64_t entries = atomic_load_explicit(&guard->entries, memory_order_relaxed);
    call->stack_floor = guard->stack_low + STACK_RESERVE_BYTES;
    guard->call = call;
    atomic_store_explicit(&guard->entries, entries + 1, memory_order_release);
}

static void leave(struct guard *guard) {
    uint64_t entries = atomic_load_explicit(&guard->entries, memory_order_relaxed);
    guard->call = NULL;
    atomic_store_explicit(&guard->is_late, false, memory_order_relaxed);
    atomic_store_explicit(&guard->entries, entries + 1, memory_order_release);
}

static enum dbos_err say_end(const struct dbos_call *call, int end, struct dbos_errinfo *info) {
    const char *name = call->procedure->info->name;
    if (end == BY_STACK) {
        return dbos_fail(info, DBOS_ERR_TOO_COMPLEX, "procedure \"%s\" has used up its stack",
                         name);
    }
    if (end == BY_DIVISION) {
        return dbos_fail(info, DBOS_ERR_DIVISION_BY_ZERO,
                         "procedure \"%s\" divided by zero, or out of range", name);
    }
    enum dbos_err err = dbos_run_look(call->run, info);
    dbos_err_detail(info, "It was interrupted in procedure \"%s\".", name);
    return err;
}

enum dbos_err dbos_guard_run(struct dbos_call *call, int *out, struct dbos_errinfo *info) {
    if (!own.is_ready) {
        enum dbos_err err = make_ready(&own, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    DBOS_CHECK(own.call == NULL); /* a procedure does not call another one */
    int end = sigsetjmp(own.back, 0);
    if (end == BY_RETURN) {
        enter(&own, call);
        *out = call->procedure->code->run(call);
    }
    leave(&own);
    return end == BY_RETURN ? DBOS_OK : say_end(call, end, info);
}

noreturn void dbos_guard_end_of_stack(void) { siglongjmp(own.back, BY_STACK); }

bool dbos_guards_look(void) {
    bool is_late = false;
    (void)pthread_mutex_lock(&guards.lock);
    for (struct guard *guard = guards.first; guard != NULL; guard = guard->next) {
        uint64_t entries = atomic_load_explicit(&guard->entries, memory_order_acquire);
        if (entries % 2 == 1 && entries == guard->seen && !DELIVERS_LATE) {
            (void)pthread_kill(guard->thread, look_signal());
        }
        guard->seen = entries;
        is_late |= entries % 2 == 1 && atomic_load(&guard->is_late);
    }
    (void)pthread_mutex_unlock(&guards.lock);
    return is_late;
}
