/* The n-th thread that is started from now on can not be.
 *
 * Links with -Wl,--wrap=pthread_create.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_THREAD_FAULT_H
#define DBOS_TESTS_SUPPORT_THREAD_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* 0 = every one can. */
void thread_fault_arm(int64_t n);
bool thread_fault_has_fired(void);

#endif /* DBOS_TESTS_SUPPORT_THREAD_FAULT_H */
