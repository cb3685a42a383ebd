#include "base/regions.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/alloc_internal.h"

struct dbos_regions {
    struct dbos_alloc *alloc;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool wanted; /* somebody has taken, or tried to */
    bool stop;
    uint32_t count;
    void *ready[DBOS_REGIONS_READY];
};

/* -- mapping --------------------------------------------------------------------------------------
 */

static void *map(size_t size_bytes) {
    void *at = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* Regions tend to be mapped one below the other: mostly the first try is aligned. */
static void *map_aligned(void) {
    uint8_t *at = map(DBOS_REGION_BYTES);
    if (at == NULL || (uintptr_t)at % DBOS_REGION_BYTES == 0) {
        return at;
    }
    (void)munmap(at, DBOS_REGION_BYTES);
    at = map((size_t)2 * DBOS_REGION_BYTES);
    if (at == NULL) {
        return NULL;
    }
    size_t before = (DBOS_REGION_BYTES - (uintptr_t)at % DBOS_REGION_BYTES) % DBOS_REGION_BYTES;
    if (before != 0) {
        (void)munmap(at, before);
    }
    (void)munmap(at + before + DBOS_REGION_BYTES, DBOS_REGION_BYTES - before);
    return at + before;
}

void *dbos_region_map(bool huge) {
    void *region = map_aligned();
    if (region != NULL) {
        /* Only advice: without it everything works, with more TLB misses. */
        (void)madvise(region, DBOS_REGION_BYTES, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
    }
    return region;
}

void dbos_region_unmap(void *region) { (void)munmap(region, DBOS_REGION_BYTES); }

/* -- the thread -----------------------------------------------------------------------------------
 */

static void touch(void *region) {
    enum { PAGE_BYTES = 4096 };
    volatile uint8_t *bytes = region;
    for (size_t at = 0; at < DBOS_REGION_BYTES; at += PAGE_BYTES) {
        bytes[at] = 0;
    }
}

static void *make_region(struct dbos_regions *regions) {
    if (!dbos_alloc_charge(regions->alloc, DBOS_REGION_BYTES)) {
        return NULL;
    }
    void *region = dbos_region_map(true);
    if (region == NULL) {
        dbos_alloc_discharge(regions->alloc, DBOS_REGION_BYTES);
        return NULL;
    }
    touch(region);
    return region;
}

/* Called and left with the lock, which is free meanwhile. */
static void add_region(struct dbos_regions *regions) {
    (void)pthread_mutex_unlock(&regions->lock);
    void *region = make_region(regions);
    (void)pthread_mutex_lock(&regions->lock);
    if (region == NULL) {
        regions->wanted = false; /* no memory now: the next who wants one asks again */
    } else {
        regions->ready[regions->count++] = region;
    }
}

static void *run(void *arg) {
    struct dbos_regions *regions = arg;
    (void)pthread_setname_np(pthread_self(), "regions");
    (void)pthread_mutex_lock(&regions->lock);
    while (!regions->stop) {
        if (regions->wanted && regions->count < DBOS_REGIONS_READY) {
            add_region(regions);
        } else {
            (void)pthread_cond_wait(&regions->changed, &regions->lock);
        }
    }
    (void)pthread_mutex_unlock(&regions->lock);
    return NULL;
}

/* -- life -----------------------------------------------------------------------------------------
 */

enum dbos_err dbos_regions_open(struct dbos_alloc *alloc, struct dbos_regions **out) {
    struct dbos_regions *regions = dbos_take_zero(alloc, sizeof *regions);
    *out = NULL;
    if (regions == NULL) {
        return DBOS_ERR_NOMEM;
    }
    regions->alloc = alloc;
    (void)pthread_mutex_init(&regions->lock, NULL);
    (void)pthread_cond_init(&regions->changed, NULL);
    if (pthread_create(&regions->thread, NULL, run, regions) != 0) {
        (void)pthread_cond_destroy(&regions->changed);
        (void)pthread_mutex_destroy(&regions->lock);
        dbos_give(alloc, regions);
        return DBOS_ERR_NOMEM;
    }
    *out = regions;
    return DBOS_OK;
}

void dbos_regions_close(struct dbos_regions *regions) {
    if (regions == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&regions->lock);
    regions->stop = true;
    (void)pthread_cond_signal(&regions->changed);
    (void)pthread_mutex_unlock(&regions->lock);
    (void)pthread_join(regions->thread, NULL);
    for (uint32_t i = 0; i < regions->count; i++) {
        dbos_alloc_discharge(regions->alloc, DBOS_REGION_BYTES);
        dbos_region_unmap(regions->ready[i]);
    }
    (void)pthread_cond_destroy(&regions->changed);
    (void)pthread_mutex_destroy(&regions->lock);
    dbos_give(regions->alloc, regions);
}

void *dbos_regions_take(struct dbos_regions *regions) {
    void *region = NULL;
    (void)pthread_mutex_lock(&regions->lock);
    if (regions->count != 0) {
        region = regions->ready[--regions->count];
        dbos_alloc_discharge(regions->alloc, DBOS_REGION_BYTES);
    }
    regions->wanted = true;
    (void)pthread_cond_signal(&regions->changed);
    (void)pthread_mutex_unlock(&regions->lock);
    return region;
}
