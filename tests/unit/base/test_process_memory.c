#include "base/poison.h"
#include "base/process_memory.h"

#include <criterion/criterion.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

TestSuite(base_process_memory, .timeout = 20);

enum { MB = 1048576 };

Test(base_process_memory, only_pages_that_were_touched_are_resident) {
    char *data = mmap(NULL, 8 * MB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(data, MAP_FAILED);
    (void)madvise(data, 8 * MB, MADV_NOHUGEPAGE);
    cr_expect_eq(dbos_resident_bytes(data, 8 * MB), 0);
    memset(data + MB, 1, 2 * MB);
    cr_expect_eq(dbos_resident_bytes(data, 8 * MB), 2 * MB);
    cr_expect_eq(dbos_resident_bytes(data + MB + 100, 50), 50, "not more than was asked about");
    cr_expect_eq(dbos_resident_bytes(data, 0), 0);
    cr_expect_eq(munmap(data, 8 * MB), 0);
}

/* Many small blocks: the kernel, the C library and we say the same, but for what was never touched.
 */
Test(base_process_memory, what_is_taken_and_touched_is_counted) {
    enum { BLOCKS = 400000, BLOCK_BYTES = 100 };
    static void *blocks[BLOCKS];
    struct dbos_process_memory before;
    struct dbos_process_memory with;
    struct dbos_process_memory after;
    memset(blocks, 1, sizeof blocks);
    (void)mallopt(M_TOP_PAD, 16 * MB); /* reserved at once, touched one after the other */
    dbos_process_memory(dbos_env_posix(), &before);
    cr_expect_gt(before.anonymous_rss, 0);
    cr_expect(before.stacks >= 4096 && before.stacks < 16 * MB, "%llu bytes of stacks",
              (unsigned long long)before.stacks);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = malloc(BLOCK_BYTES);
        cr_assert_not_null(blocks[i]);
        memset(blocks[i], 7, BLOCK_BYTES);
    }
    dbos_process_memory(dbos_env_posix(), &with);
    uint64_t grown = with.anonymous_rss - before.anonymous_rss;
    cr_expect(grown > (uint64_t)BLOCKS * BLOCK_BYTES, "only %llu", (unsigned long long)grown);
    for (int i = 0; i < BLOCKS; i++) {
        free(blocks[i]);
    }
    dbos_process_memory(dbos_env_posix(), &after);
    if (DBOS_POISONS != 0) {
        return; /* another allocator, which says nothing */
    }
    uint64_t used = with.heap_used - before.heap_used;
    uint64_t all = used + with.heap_free - before.heap_free;
    uint64_t exact = (uint64_t)BLOCKS * 112; /* with head and rounding */
    cr_expect(used <= exact && used > exact - exact / 100, "%llu", (unsigned long long)used);
    cr_expect(all < grown + grown / 50 && grown < all + all / 50, "%llu of %llu",
              (unsigned long long)all, (unsigned long long)grown);
    cr_expect_leq(after.heap_used, before.heap_used + 1000);
    cr_expect_leq(after.heap_used + after.heap_free, after.anonymous_rss);
}
