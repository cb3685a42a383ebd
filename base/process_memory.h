/* What the operating system and the C library say about this process' memory.
 *
 * Nothing here walks the pages of the whole process: the anonymous set is a counter of the kernel,
 * the heap's sums are the C library's, and pages are looked at (mincore) only where memory was
 * reserved and may never have been touched: thread stacks and the ends of heaps.
 *
 * Thread: any. Memory: none; 20 KiB of stack. */
#ifndef DBOS_BASE_PROCESS_MEMORY_H
#define DBOS_BASE_PROCESS_MEMORY_H

#include "base/env.h"

struct dbos_process_memory {
    uint64_t anonymous_rss; /* RssAnon of /proc/self/status; 0 = not known */
    uint64_t stacks;        /* touched pages of the stacks of all threads */
    uint64_t heap_used;     /* blocks handed out by malloc, with their heads and rounding */
    uint64_t heap_free;     /* given back to malloc and kept by it, as far as it was ever touched */
};

/* Everything in bytes. What can not be read is 0. Under AddressSanitizer the heap's sums are 0. */
void dbos_process_memory(struct dbos_env *env, struct dbos_process_memory *out);

/* How much of these pages is in memory: an upper bound for blocks that do not fill their pages. */
uint64_t dbos_resident_bytes(const void *data, size_t size_bytes);

#endif /* DBOS_BASE_PROCESS_MEMORY_H */
