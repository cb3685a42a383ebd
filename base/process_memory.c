#include "base/process_memory.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    TEXT_BYTES = 8192,
    BLOCK_PAGES = 256,        /* looked at in one call */
    HEAP_BYTES = 64 * 1048576 /* glibc's heaps begin at multiples of this (HEAP_MAX_SIZE) */
};

/* -- pages ----------------------------------------------------------------------------------------
 */

static uint64_t page_bytes(void) { return (uint64_t)sysconf(_SC_PAGESIZE); }

/* Pages in memory of at most BLOCK_PAGES. */
static uint32_t resident_pages(uint64_t start, uint32_t pages) {
    unsigned char states[BLOCK_PAGES];
    uint32_t count = 0;
    if (mincore((void *)(uintptr_t)start, pages * page_bytes(), states) != 0) {
        return 0;
    }
    for (uint32_t i = 0; i < pages; i++) {
        count += states[i] & 1u;
    }
    return count;
}

static uint32_t block_pages(uint64_t bytes) {
    uint64_t pages = bytes / page_bytes();
    return pages > BLOCK_PAGES ? BLOCK_PAGES : (uint32_t)pages;
}

/* `start` and `end` are multiples of a page. */
static uint64_t resident(uint64_t start, uint64_t end) {
    uint64_t bytes = 0;
    while (start < end) {
        uint32_t pages = block_pages(end - start);
        bytes += resident_pages(start, pages) * page_bytes();
        start += pages * page_bytes();
    }
    return bytes;
}

/* A heap grows upwards, and what was touched once stays: how much at its end never was. Not further
 * than a heap's length: other things are mapped, too, shadows of sanitizers for terabytes. */
static uint64_t untouched_end(uint64_t start, uint64_t end) {
    uint64_t bytes = 0;
    start = end - start > HEAP_BYTES ? end - HEAP_BYTES : start;
    while (start < end) {
        uint32_t pages = block_pages(end - start);
        uint32_t count = resident_pages(end - pages * page_bytes(), pages);
        bytes += (pages - count) * page_bytes();
        if (count != 0) {
            break;
        }
        end -= pages * page_bytes();
    }
    return bytes;
}

uint64_t dbos_resident_bytes(const void *data, size_t size_bytes) {
    uint64_t page = page_bytes();
    uint64_t start = (uint64_t)(uintptr_t)data / page * page;
    uint64_t end = ((uint64_t)(uintptr_t)data + size_bytes + page - 1) / page * page;
    uint64_t bytes = size_bytes == 0 ? 0 : resident(start, end);
    return bytes < size_bytes ? bytes : size_bytes;
}

/* -- /proc ----------------------------------------------------------------------------------------
 */

/* Calls `line` with each line of a file, without its end; longer ones are cut. */
static void each_line(struct dbos_env *env, const char *path,
                      void (*line)(void *arg, const char *text), void *arg) {
    char text[TEXT_BYTES];
    struct dbos_errinfo info;
    size_t kept = 0;
    size_t got = 0;
    uint64_t offset = 0;
    int file = -1;
    if (env->ops->file_open(env, path, DBOS_OPEN_READ, &file, &info) != DBOS_OK) {
        return;
    }
    while (env->ops->file_read(env, file, offset, text + kept, sizeof text - 1 - kept, &got,
                               &info) == DBOS_OK &&
           got != 0) {
        char *start = text;
        offset += got;
        text[kept + got] = 0;
        for (char *end = strchr(start, '\n'); end != NULL; end = strchr(start, '\n')) {
            *end = 0;
            line(arg, start);
            start = end + 1;
        }
        kept = strlen(start);
        kept = kept == sizeof text - 1 ? 0 : kept;
        memmove(text, start, kept);
    }
    env->ops->file_close(env, file);
}

static void status_line(void *arg, const char *text) {
    static const char name[] = "RssAnon:";
    struct dbos_process_memory *out = arg;
    if (strncmp(text, name, sizeof name - 1) == 0) {
        out->anonymous_rss = strtoull(text + sizeof name - 1, NULL, 10) * 1024;
    }
}

struct maps {
    uint64_t stack_bytes; /* of a thread, as they are made here */
    uint64_t guard_end;   /* end of the last range without any access */
    uint64_t stacks;      /* touched */
    uint64_t untouched;   /* ends of heaps */
};

/* "7f0000000000-7f0000021000 rw-p 00000000 00:00 0   [name]". A thread's stack is a writable range
 * of its size behind a guard; the first thread's has its name. */
static void maps_line(void *arg, const char *text) {
    struct maps *maps = arg;
    char *at = NULL;
    uint64_t start = strtoull(text, &at, 16);
    uint64_t end = *at == '-' ? strtoull(at + 1, &at, 16) : 0;
    if (end == 0 || *at != ' ') {
        return;
    }
    if (strncmp(at + 1, "---p", 4) == 0) {
        maps->guard_end = end;
        return;
    }
    bool is_heap = strstr(at, "[heap]") != NULL;
    bool is_first_stack = strstr(at, "[stack]") != NULL;
    bool is_bare = strchr(at, '/') == NULL && strchr(at, '[') == NULL;
    if (strncmp(at + 1, "rw-p", 4) != 0) {
        return;
    }
    if (is_first_stack ||
        (is_bare && end - start == maps->stack_bytes && maps->guard_end == start)) {
        maps->stacks += resident(start, end);
    } else if (is_heap || (is_bare && start % HEAP_BYTES == 0)) {
        maps->untouched += untouched_end(start, end);
    }
}

static uint64_t thread_stack_bytes(void) {
    pthread_attr_t attributes;
    size_t size_bytes = 0;
    if (pthread_getattr_default_np(&attributes) == 0) {
        (void)pthread_attr_getstacksize(&attributes, &size_bytes);
        (void)pthread_attr_destroy(&attributes);
    }
    return size_bytes;
}

void dbos_process_memory(struct dbos_env *env, struct dbos_process_memory *out) {
    struct maps maps = {.stack_bytes = thread_stack_bytes()};
    *out = (struct dbos_process_memory){0};
    each_line(env, "/proc/self/status", status_line, out);
    each_line(env, "/proc/self/maps", maps_line, &maps);
    struct mallinfo2 heap = mallinfo2();
    out->stacks = maps.stacks;
    out->heap_used = heap.uordblks + heap.hblkhd;
    out->heap_free = heap.fordblks > maps.untouched ? heap.fordblks - maps.untouched : 0;
}
