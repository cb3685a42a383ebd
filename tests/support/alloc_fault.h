/* All allocators of a program below one root, so that the n-th take of any of them can be made to
 * fail, and that what is held in all can be asked for.
 *
 * Links with -Wl,--wrap=dbos_alloc_init: each allocator that has no parent gets the root as one.
 *
 * Thread: any; begin before the first allocator is made. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_ALLOC_FAULT_H
#define DBOS_TESTS_SUPPORT_ALLOC_FAULT_H

#include <stdbool.h>
#include <stdint.h>

/* From now on. What was made before is not below the root. */
void alloc_fault_begin(void);
/* The n-th take from now on fails, once; 0 = none does. */
void alloc_fault_arm(int64_t n);
bool alloc_fault_has_fired(void);
/* Held by all allocators below the root. */
uint64_t alloc_fault_held_bytes(void);

#endif /* DBOS_TESTS_SUPPORT_ALLOC_FAULT_H */
