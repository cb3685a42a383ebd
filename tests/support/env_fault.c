#include "tests/support/env_fault.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SECTOR = 512 };

struct env_fault_sector {
    struct env_fault_sector *older;
    uint32_t file;
    uint64_t offset;
    uint8_t bytes[SECTOR]; /* as they were before */
};

static struct env_fault *fault_of(struct dbos_env *env) { return env->state; }

static bool is_lost(struct env_fault *fault) {
    return dbos_rng_below(&fault->rng, 2) == 0 || fault->lose_all;
}

void env_fault_cut(struct env_fault *fault) {
    for (struct env_fault_sector *sector = fault->newest; sector != NULL; sector = sector->older) {
        if (is_lost(fault)) {
            int file = open(fault->files[sector->file].path, O_WRONLY);
            if (file >= 0) {
                (void)!pwrite(file, sector->bytes, SECTOR, (off_t)sector->offset);
                (void)close(file);
            }
        }
    }
    for (uint32_t i = 0; i < fault->file_count; i++) {
        struct stat facts;
        if (stat(fault->files[i].path, &facts) == 0 &&
            (uint64_t)facts.st_size > fault->files[i].synced_bytes && is_lost(fault)) {
            (void)!truncate(fault->files[i].path, (off_t)fault->files[i].synced_bytes);
        }
    }
    _exit(ENV_FAULT_POWER_CUT);
}

/* Count one operation; true: it must fail. Called with the lock held. */
static bool count(struct env_fault *fault) {
    fault->operations++;
    if (fault->action == ENV_FAULT_NONE || fault->action == ENV_FAULT_FULL ||
        --fault->countdown > 0) {
        return false;
    }
    if (fault->action == ENV_FAULT_CUT) {
        env_fault_cut(fault);
    }
    if (fault->action == ENV_FAULT_KILL) {
        _exit(ENV_FAULT_POWER_CUT);
    }
    if (fault->action == ENV_FAULT_FAIL_ONCE) {
        fault->action = ENV_FAULT_NONE;
    }
    if (!fault->has_failed) {
        fault->has_failed = true;
        fault->failed_in = pthread_self();
    }
    return true;
}

/* What needs room finds none. Called with the lock held. */
static bool is_full(struct env_fault *fault) {
    uint64_t now_ns = fault->base->ops->mono_ns(fault->base);
    if (fault->action != ENV_FAULT_FULL || (fault->full_until_ns == 0 && --fault->countdown > 0)) {
        return false;
    }
    if (fault->full_until_ns == 0) {
        fault->full_until_ns = now_ns + fault->full_us * 1000;
        fault->has_failed = true;
        fault->failed_in = pthread_self();
    }
    if (now_ns >= fault->full_until_ns) {
        fault->action = ENV_FAULT_NONE;
    }
    return fault->action == ENV_FAULT_FULL;
}

bool env_fault_met_here(struct env_fault *fault) {
    (void)pthread_mutex_lock(&fault->lock);
    bool here = fault->has_failed && pthread_equal(fault->failed_in, pthread_self()) != 0;
    (void)pthread_mutex_unlock(&fault->lock);
    return here;
}

static enum dbos_err fails(const struct env_fault *fault, struct dbos_errinfo *info,
                           const char *what) {
    enum dbos_err err = fault->error == DBOS_OK ? DBOS_ERR_IO : fault->error;
    return dbos_fail(info, err, "cannot %s: planned fault", what);
}

static bool is_longer(int file, uint64_t end) {
    struct stat facts;
    return fstat(file, &facts) == 0 && end > (uint64_t)facts.st_size;
}

/* One that makes a file. */
static bool makes(struct env_fault *fault, const char *path) {
    struct stat facts;
    (void)pthread_mutex_lock(&fault->lock);
    bool fail = count(fault) || (stat(path, &facts) != 0 && is_full(fault));
    (void)pthread_mutex_unlock(&fault->lock);
    return fail;
}

static bool counted(struct env_fault *fault) {
    (void)pthread_mutex_lock(&fault->lock);
    bool fail = count(fault);
    (void)pthread_mutex_unlock(&fault->lock);
    return fail;
}

static uint32_t note_file(struct env_fault *fault, const char *path) {
    for (uint32_t i = 0; i < fault->file_count; i++) {
        if (strcmp(fault->files[i].path, path) == 0) {
            return i;
        }
    }
    struct stat facts;
    DBOS_CHECK(fault->file_count < ENV_FAULT_FILES && strlen(path) < 512);
    struct env_fault_file *file = &fault->files[fault->file_count];
    memcpy(file->path, path, strlen(path) + 1);
    file->synced_bytes = stat(path, &facts) == 0 ? (uint64_t)facts.st_size : 0;
    return fault->file_count++;
}

static enum dbos_err fault_open(struct dbos_env *env, const char *path, enum dbos_open_mode mode,
                                int *out, struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    bool changes = mode == DBOS_OPEN_CREATE || mode == DBOS_OPEN_CREATE_NEW;
    if (changes && makes(fault, path)) {
        *out = -1;
        return fails(fault, info, "open");
    }
    (void)pthread_mutex_lock(&fault->lock);
    uint32_t index = note_file(fault, path);
    enum dbos_err err = fault->base->ops->file_open(fault->base, path, mode, out, info);
    if (err == DBOS_OK) {
        DBOS_CHECK(*out < 1024);
        fault->file_of[*out] = index + 1;
    }
    (void)pthread_mutex_unlock(&fault->lock);
    return err;
}

/* What these sectors hold now, to be put back. */
static void keep_sectors(struct env_fault *fault, int file, uint64_t offset, size_t size_bytes) {
    uint64_t from = offset / SECTOR * SECTOR;
    for (uint64_t at = from; at < offset + size_bytes; at += SECTOR) {
        struct env_fault_sector *sector = calloc(1, sizeof *sector);
        DBOS_CHECK(sector != NULL && fault->file_of[file] != 0);
        sector->file = fault->file_of[file] - 1;
        sector->offset = at;
        (void)!pread(file, sector->bytes, SECTOR, (off_t)at);
        sector->older = fault->newest;
        fault->newest = sector;
    }
}

/* Others go on meanwhile. */
static void take_time(struct env_fault *fault, const _Atomic uint32_t *delay_us) {
    uint32_t us = atomic_load(delay_us);
    if (us != 0) {
        fault->base->ops->sleep_us(fault->base, us);
    }
}

static enum dbos_err fault_write(struct dbos_env *env, int file, uint64_t offset, const void *data,
                                 size_t size_bytes, struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    take_time(fault, &fault->write_delay_us);
    (void)pthread_mutex_lock(&fault->lock);
    if (fault->action == ENV_FAULT_CUT && fault->countdown == 1) {
        /* The cut comes during this write: its sectors are among those that may last or not. */
        keep_sectors(fault, file, offset, size_bytes);
        (void)fault->base->ops->file_write(fault->base, file, offset, data, size_bytes, info);
    }
    if (fault->action == ENV_FAULT_KILL && fault->countdown == 1) {
        size_t half = size_bytes / 2 / SECTOR * SECTOR; /* sectors are whole */
        (void)fault->base->ops->file_write(fault->base, file, offset, data, half, info);
    }
    if (count(fault) || (is_longer(file, offset + size_bytes) && is_full(fault))) {
        (void)pthread_mutex_unlock(&fault->lock);
        return fails(fault, info, "write");
    }
    keep_sectors(fault, file, offset, size_bytes);
    enum dbos_err err =
        fault->base->ops->file_write(fault->base, file, offset, data, size_bytes, info);
    (void)pthread_mutex_unlock(&fault->lock);
    return err;
}

static void forget_sectors(struct env_fault *fault, uint32_t index) {
    struct env_fault_sector **place = &fault->newest;
    while (*place != NULL) {
        struct env_fault_sector *sector = *place;
        if (sector->file == index) {
            *place = sector->older;
            free(sector);
        } else {
            place = &sector->older;
        }
    }
}

static enum dbos_err fault_sync(struct dbos_env *env, int file, struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    take_time(fault, &fault->sync_delay_us);
    (void)pthread_mutex_lock(&fault->lock);
    if (count(fault)) {
        (void)pthread_mutex_unlock(&fault->lock);
        return fails(fault, info, "sync");
    }
    fault->syncs++;
    uint32_t index = fault->file_of[file] - 1;
    forget_sectors(fault, index);
    struct stat facts;
    if (fstat(file, &facts) == 0) {
        fault->files[index].synced_bytes = (uint64_t)facts.st_size;
    }
    (void)pthread_mutex_unlock(&fault->lock);
    return DBOS_OK; /* nothing here needs the real disk to be synced */
}

/* Names and cuts last at once: what is gone can not come back. */
static void settle_size(struct env_fault *fault, const char *path, uint64_t size_bytes) {
    (void)pthread_mutex_lock(&fault->lock);
    uint32_t index = note_file(fault, path);
    forget_sectors(fault, index);
    fault->files[index].synced_bytes = size_bytes;
    (void)pthread_mutex_unlock(&fault->lock);
}

static enum dbos_err fault_truncate(struct dbos_env *env, int file, uint64_t size_bytes,
                                    struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    if (counted(fault)) {
        return fails(fault, info, "truncate");
    }
    uint32_t index = fault->file_of[file] - 1;
    if (fault->files[index].synced_bytes > size_bytes) {
        fault->files[index].synced_bytes = size_bytes;
    }
    return fault->base->ops->file_truncate(fault->base, file, size_bytes, info);
}

static enum dbos_err fault_rename(struct dbos_env *env, const char *from, const char *to,
                                  struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    struct stat facts;
    if (counted(fault)) {
        return fails(fault, info, "rename");
    }
    uint64_t size_bytes = stat(from, &facts) == 0 ? (uint64_t)facts.st_size : 0;
    enum dbos_err err = fault->base->ops->path_rename(fault->base, from, to, info);
    settle_size(fault, to, size_bytes);
    return err;
}

static enum dbos_err fault_remove(struct dbos_env *env, const char *path,
                                  struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    if (counted(fault)) {
        return fails(fault, info, "remove");
    }
    enum dbos_err err = fault->base->ops->path_remove(fault->base, path, info);
    settle_size(fault, path, 0);
    return err;
}

static enum dbos_err fault_dir_make(struct dbos_env *env, const char *path,
                                    struct dbos_errinfo *info) {
    struct env_fault *fault = fault_of(env);
    return counted(fault) ? fails(fault, info, "make directory")
                          : fault->base->ops->dir_make(fault->base, path, info);
}

static enum dbos_err fault_dir_sync(struct dbos_env *env, const char *path,
                                    struct dbos_errinfo *info) {
    (void)path;
    struct env_fault *fault = fault_of(env);
    return counted(fault) ? fails(fault, info, "sync directory") : DBOS_OK;
}

void env_fault_init(struct env_fault *fault, uint64_t seed) {
    memset(fault, 0, sizeof *fault);
    fault->base = dbos_env_posix();
    fault->ops = *fault->base->ops;
    fault->ops.file_open = fault_open;
    fault->ops.file_write = fault_write;
    fault->ops.file_sync = fault_sync;
    fault->ops.file_truncate = fault_truncate;
    fault->ops.path_rename = fault_rename;
    fault->ops.path_remove = fault_remove;
    fault->ops.dir_make = fault_dir_make;
    fault->ops.dir_sync = fault_dir_sync;
    fault->env = (struct dbos_env){.ops = &fault->ops, .state = fault};
    (void)pthread_mutex_init(&fault->lock, NULL);
    dbos_rng_init(&fault->rng, seed);
}

void env_fault_fini(struct env_fault *fault) {
    while (fault->newest != NULL) {
        struct env_fault_sector *sector = fault->newest;
        fault->newest = sector->older;
        free(sector);
    }
    (void)pthread_mutex_destroy(&fault->lock);
}

void env_fault_arm(struct env_fault *fault, enum env_fault_action action, int64_t n) {
    (void)pthread_mutex_lock(&fault->lock);
    fault->action = action;
    fault->countdown = n;
    (void)pthread_mutex_unlock(&fault->lock);
}
