#include "tools/dbosctl_backup.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "provenance/archive_check.h"
#include "provenance/archive_manifest.h"
#include "txn/log.h"

enum { PATH_BYTES = 1200, PIECE_BYTES = 1048576, ROUNDS_MAX = 20, PAUSE_US = 50000 };

struct backup {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    const char *from;
    const char *to;
    uint8_t *piece;
    uint64_t bytes; /* copied */
};

/* --- files ----------------------------------------------------------------------------------- */

static enum dbos_err copy_bytes(struct backup *backup, int source, int target,
                                struct dbos_errinfo *info) {
    struct dbos_env *env = backup->env;
    enum dbos_err err = DBOS_OK;
    size_t got = PIECE_BYTES;
    for (uint64_t at = 0; err == DBOS_OK && got == PIECE_BYTES; at += got) {
        err = env->ops->file_read(env, source, at, backup->piece, PIECE_BYTES, &got, info);
        if (err == DBOS_OK && got != 0) {
            err = env->ops->file_write(env, target, at, backup->piece, got, info);
            backup->bytes += got;
        }
    }
    return err == DBOS_OK ? env->ops->file_sync(env, target, info) : err;
}

static bool is_there(const char *path) { return access(path, F_OK) == 0; }

/* *out_gone: nobody needed it any more, and it was removed meanwhile. */
static enum dbos_err copy_file(struct backup *backup, const char *name, bool *out_gone,
                               struct dbos_errinfo *info) {
    struct dbos_env *env = backup->env;
    char from[PATH_BYTES];
    char to[PATH_BYTES];
    int source = -1;
    int target = -1;
    (void)snprintf(from, sizeof from, "%s/%s", backup->from, name);
    (void)snprintf(to, sizeof to, "%s/%s", backup->to, name);
    enum dbos_err err = env->ops->file_open(env, from, DBOS_OPEN_READ, &source, info);
    *out_gone = err != DBOS_OK && !is_there(from);
    if (err != DBOS_OK) {
        return *out_gone ? DBOS_OK : err;
    }
    err = env->ops->file_open(env, to, DBOS_OPEN_CREATE, &target, info);
    if (err == DBOS_OK) {
        err = env->ops->file_truncate(env, target, 0, info);
        if (err == DBOS_OK) {
            err = copy_bytes(backup, source, target, info);
        }
        env->ops->file_close(env, target);
    }
    env->ops->file_close(env, source);
    return err;
}

struct names {
    struct dbos_buf buf; /* each with its NUL */
};

static void note_name(void *arg, const char *name) {
    dbos_buf_put(&((struct names *)arg)->buf, name, strlen(name) + 1);
}

static int by_name(const void *one, const void *other) {
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

/* Copy the files of a folder that come at or behind `first`, in the order of their names. The last
 * name that was copied stays in `last`. */
static enum dbos_err copy_folder(struct backup *backup, const char *folder, const char *first,
                                 char last[64], uint32_t *out_gone, struct dbos_errinfo *info) {
    struct dbos_env *env = backup->env;
    char path[PATH_BYTES];
    struct names names;
    struct dbos_buf sorted; /* const char * */
    *out_gone = 0;
    (void)snprintf(path, sizeof path, "%s/%s", backup->from, folder);
    if (!is_there(path)) {
        return DBOS_OK;
    }
    dbos_buf_init(&names.buf, backup->alloc);
    enum dbos_err err = env->ops->dir_list(env, path, note_name, &names, info);
    (void)snprintf(path, sizeof path, "%s/%s", backup->to, folder);
    if (err == DBOS_OK) {
        err = env->ops->dir_make(env, path, info);
    }
    dbos_buf_init(&sorted, backup->alloc);
    for (size_t at = 0; at < names.buf.size_bytes;
         at += strlen((const char *)names.buf.data + at) + 1) {
        const char *name = (const char *)names.buf.data + at;
        dbos_buf_put(&sorted, &name, sizeof name);
    }
    if (err == DBOS_OK && (names.buf.failed || sorted.failed)) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the names of %s", folder);
    }
    size_t count = err == DBOS_OK ? sorted.size_bytes / sizeof(const char *) : 0;
    const char **all = (const char **)(void *)sorted.data;
    if (count != 0) {
        qsort(all, count, sizeof *all, by_name);
    }
    for (size_t i = 0; err == DBOS_OK && i < count; i++) {
        bool is_gone = false;
        if (strcmp(all[i], first) < 0) {
            continue;
        }
        (void)snprintf(path, sizeof path, "%s/%s", folder, all[i]);
        err = copy_file(backup, path, &is_gone, info);
        *out_gone += is_gone;
        (void)snprintf(last, 64, "%.63s", all[i]);
    }
    dbos_buf_fini(&sorted);
    dbos_buf_fini(&names.buf);
    (void)snprintf(path, sizeof path, "%s/%s", backup->to, folder);
    return err == DBOS_OK ? env->ops->dir_sync(env, path, info) : err;
}

/* --- what a directory has -------------------------------------------------------------------- */

static void remove_one(void *arg, const char *name) {
    char path[PATH_BYTES];
    (void)snprintf(path, sizeof path, "%s/snapshots/%s", (const char *)arg, name);
    (void)unlink(path);
}

/* One that is removed while it is copied is none: then the others, once more. */
static enum dbos_err copy_snapshots(struct backup *backup, struct dbos_errinfo *info) {
    struct dbos_env *env = backup->env;
    char last[64];
    char path[PATH_BYTES];
    uint32_t gone = 1;
    enum dbos_err err = DBOS_OK;
    for (uint32_t round = 0; err == DBOS_OK && gone != 0; round++) {
        if (round == ROUNDS_MAX) {
            return dbos_fail(info, DBOS_ERR_IO, "snapshots come and go too fast to be copied");
        }
        (void)snprintf(path, sizeof path, "%s/snapshots", backup->to);
        if (is_there(path)) {
            (void)env->ops->dir_list(env, path, remove_one, (void *)(uintptr_t)backup->to, info);
        }
        err = copy_folder(backup, "snapshots", "", last, &gone, info);
    }
    return err;
}

/* The folders of a path, one after the other. */
static enum dbos_err make_folders(struct backup *backup, const char *name,
                                  struct dbos_errinfo *info) {
    char path[PATH_BYTES];
    enum dbos_err err = DBOS_OK;
    for (const char *slash = strchr(name, '/'); err == DBOS_OK && slash != NULL;
         slash = strchr(slash + 1, '/')) {
        (void)snprintf(path, sizeof path, "%s/%.*s", backup->to, (int)(slash - name), name);
        err = backup->env->ops->dir_make(backup->env, path, info);
    }
    return err;
}

static enum dbos_err copy_line_files(struct backup *backup, const char *line, size_t size_bytes,
                                     struct dbos_errinfo *info) {
    struct dbos_manifest_names names;
    struct dbos_manifest_file file;
    size_t cursor = 0;
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && dbos_manifest_next(line, size_bytes, &cursor, &names, &file)) {
        char name[PATH_BYTES / 2];
        bool is_gone = false;
        (void)snprintf(name, sizeof name, "archive/%s", file.path);
        err = make_folders(backup, name, info);
        if (err == DBOS_OK) {
            err = copy_file(backup, name, &is_gone, info);
        }
    }
    return err;
}

/* The manifest as it is now, which names files that never change. */
static enum dbos_err copy_archive(struct backup *backup, struct dbos_errinfo *info) {
    struct dbos_env *env = backup->env;
    char path[PATH_BYTES];
    bool is_gone = false;
    int file = -1;
    uint64_t size_bytes = 0;
    size_t got = 0;
    (void)snprintf(path, sizeof path, "%s/archive/MANIFEST.jsonl", backup->from);
    if (!is_there(path)) {
        return DBOS_OK;
    }
    enum dbos_err err = make_folders(backup, "archive/", info);
    if (err == DBOS_OK) {
        err = copy_file(backup, "archive/MANIFEST.jsonl", &is_gone, info);
    }
    (void)snprintf(path, sizeof path, "%s/archive/MANIFEST.jsonl", backup->to);
    if (err == DBOS_OK) {
        err = env->ops->file_open(env, path, DBOS_OPEN_READ, &file, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_size(env, file, &size_bytes, info);
    char *text = err == DBOS_OK ? dbos_take(backup->alloc, (size_t)size_bytes + 1) : NULL;
    if (err == DBOS_OK) {
        err = text == NULL
                  ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the manifest")
                  : env->ops->file_read(env, file, 0, text, (size_t)size_bytes, &got, info);
    }
    env->ops->file_close(env, file);
    size_t at = 0;
    size_t line;
    while (err == DBOS_OK && (line = dbos_manifest_line(text + at, got - at)) != 0) {
        err = copy_line_files(backup, text + at, line, info);
        at += line;
    }
    dbos_give(backup->alloc, text);
    return err;
}

/* --- the order of things --------------------------------------------------------------------- */

static enum dbos_err verify_copy(struct backup *backup, struct dbos_log_findings *found,
                                 struct dbos_errinfo *info) {
    struct dbos_archive_findings archive;
    enum dbos_err err = dbos_log_verify(backup->alloc, backup->env, backup->to, found, info);
    return err == DBOS_OK
               ? dbos_archive_check(backup->alloc, backup->env, backup->to, true, &archive, info)
               : err;
}

/* What has come since, until what was read was not being written. */
static enum dbos_err copy_end(struct backup *backup, const char *last_segment,
                              struct dbos_log_findings *found, struct dbos_errinfo *info) {
    char first[64];
    char last[64] = "";
    uint32_t gone = 0;
    enum dbos_err err = DBOS_ERR_CORRUPT;
    (void)snprintf(first, sizeof first, "%s", last_segment);
    for (uint32_t round = 0; round < ROUNDS_MAX && err == DBOS_ERR_CORRUPT; round++) {
        backup->env->ops->sleep_us(backup->env, round == 0 ? 0 : PAUSE_US);
        err = copy_folder(backup, "log", first, last, &gone, info);
        if (err == DBOS_OK) {
            err = copy_folder(backup, "blobs", "", last, &gone, info);
        }
        if (err == DBOS_OK) {
            err = verify_copy(backup, found, info);
        }
    }
    return err;
}

/* The segment before the last is complete; the last one, and an empty one behind it, may grow. */
static void step_back(char segment[64]) {
    unsigned long number = strtoul(segment, NULL, 10);
    (void)snprintf(segment, 64, "%08lu.seg", number > 2 ? number - 2 : 0);
}

static enum dbos_err copy_all(struct backup *backup, struct dbos_log_findings *found,
                              struct dbos_errinfo *info) {
    char last[64] = "";
    uint32_t gone = 0;
    bool is_gone = false;
    enum dbos_err err = copy_file(backup, "identity", &is_gone, info);
    if (err == DBOS_OK && is_gone) {
        err = dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "%s is no data directory", backup->from);
    }
    if (err == DBOS_OK) {
        err = copy_file(backup, "crashed", &is_gone, info); /* what is not to be run there either */
    }
    if (err == DBOS_OK) {
        err = copy_snapshots(backup, info);
    }
    if (err == DBOS_OK) {
        err = copy_folder(backup, "log", "", last, &gone, info);
    }
    if (err == DBOS_OK) {
        err = copy_archive(backup, info);
    }
    step_back(last);
    return err == DBOS_OK ? copy_end(backup, last, found, info) : err;
}

static void count_name(void *arg, const char *name) {
    (void)name;
    (*(uint32_t *)arg)++;
}

static enum dbos_err make_target(struct backup *backup, struct dbos_errinfo *info) {
    uint32_t names = 0;
    enum dbos_err err = backup->env->ops->dir_make(backup->env, backup->to, info);
    if (err == DBOS_OK) {
        err = backup->env->ops->dir_list(backup->env, backup->to, count_name, &names, info);
    }
    return err == DBOS_OK && names != 0
               ? dbos_fail(info, DBOS_ERR_DUPLICATE_OBJECT, "%s is not empty", backup->to)
               : err;
}

int dbosctl_backup(struct dbos_alloc *alloc, const char *from, const char *to) {
    struct dbos_errinfo info = {0};
    struct dbos_log_findings found;
    struct backup backup = {.alloc = alloc,
                            .env = dbos_env_posix(),
                            .from = from,
                            .to = to,
                            .piece = dbos_take(alloc, PIECE_BYTES)};
    enum dbos_err err = backup.piece == NULL ? dbos_fail(&info, DBOS_ERR_NOMEM, "out of memory")
                                             : make_target(&backup, &info);
    if (err == DBOS_OK) {
        err = copy_all(&backup, &found, &info);
    }
    if (err == DBOS_OK) {
        err = backup.env->ops->dir_sync(backup.env, to, &info);
    }
    dbos_give(alloc, backup.piece);
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: no backup: %s%s%s; what lies in %s is none\n", info.message,
                      info.detail[0] == '\0' ? "" : " ", info.detail, to);
        return 1;
    }
    (void)printf("backup to position %" PRIu64 " in %s, verified: state hash %016" PRIx64
                 ", %" PRIu64 " MB copied\n",
                 found.log.last_position, to, found.log.state_hash, backup.bytes >> 20);
    return 0;
}
