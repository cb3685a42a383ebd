#include "tests/support/thread_fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>

/* The linker's names; see the header. */
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg);

/* The wrapped function has no argument that a state could come with. */
static struct {
    _Atomic int64_t countdown;
    _Atomic bool has_fired;
} fault;

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                          void *arg) {
    if (atomic_load(&fault.countdown) > 0 && atomic_fetch_sub(&fault.countdown, 1) == 1) {
        atomic_store(&fault.has_fired, true);
        return EAGAIN;
    }
    return __real_pthread_create(thread, attributes, run, arg);
}

void thread_fault_arm(int64_t n) { atomic_store(&fault.countdown, n); }

bool thread_fault_has_fired(void) { return atomic_load(&fault.has_fired); }
