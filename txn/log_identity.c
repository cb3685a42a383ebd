/* The data directory: its lock, its identity file, its list of segments. */
#include <stdio.h>

#include "base/log.h"
#include "txn/log_internal.h"

enum dbos_err dbos_log_lock_dir(struct dbos_env *env, const char *data_dir, bool read_only,
                                int *out_file, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    *out_file = -1;
    if (strlen(data_dir) > DBOS_DATA_DIR_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "path of the data directory is longer than %d bytes",
                         DBOS_DATA_DIR_BYTES_MAX);
    }
    enum dbos_err err = read_only ? DBOS_OK : env->ops->dir_make(env, data_dir, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_log_path(path, data_dir, "lock");
    int file = -1;
    err =
        env->ops->file_open(env, path, read_only ? DBOS_OPEN_READ : DBOS_OPEN_CREATE, &file, info);
    if (err != DBOS_OK) {
        return read_only ? DBOS_OK : err;
    }
    err = env->ops->file_lock(env, file, info);
    if (err != DBOS_OK) {
        env->ops->file_close(env, file);
        if (err == DBOS_ERR_DUPLICATE_OBJECT) {
            return dbos_fail(info, err, "data directory %s is in use by another process", data_dir);
        }
        return err;
    }
    *out_file = file;
    return DBOS_OK;
}

struct listing {
    const char *name;
    bool found;
    uint32_t lowest; /* 0 = there is none */
    uint32_t highest;
};

static void note_name(void *arg, const char *name) {
    struct listing *listing = arg;
    unsigned number = 0;
    char end = '\0';
    listing->found |= listing->name != NULL && strcmp(listing->name, name) == 0;
    if (strlen(name) == 12 && sscanf(name, "%8u.se%c", &number, &end) == 2 && end == 'g') {
        listing->highest = number > listing->highest ? number : listing->highest;
        listing->lowest =
            listing->lowest == 0 || number < listing->lowest ? number : listing->lowest;
    }
}

enum dbos_err dbos_log_segment_range(struct dbos_env *env, const char *data_dir, uint32_t *out_low,
                                     uint32_t *out_high, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    struct listing listing = {0};
    dbos_log_path(path, data_dir, "log");
    enum dbos_err err = env->ops->dir_list(env, path, note_name, &listing, info);
    *out_low = listing.lowest;
    *out_high = listing.highest;
    return err;
}

static enum dbos_err name_exists(struct dbos_env *env, const char *data_dir, const char *name,
                                 bool *out, struct dbos_errinfo *info) {
    struct listing listing = {.name = name};
    enum dbos_err err = env->ops->dir_list(env, data_dir, note_name, &listing, info);
    *out = listing.found;
    return err;
}

static enum dbos_err read_identity(struct dbos_env *env, const char *path,
                                   struct dbos_stored_identity *out, struct dbos_errinfo *info) {
    int file = -1;
    size_t got = 0;
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_READ, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_read(env, file, 0, out, sizeof *out, &got, info);
    env->ops->file_close(env, file);
    if (err == DBOS_OK && got != sizeof *out) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "the identity file is too short");
    }
    if (err == DBOS_OK) {
        err = dbos_identity_check(out, info);
    }
    if (err != DBOS_OK) {
        dbos_err_detail(info, "File %s.", path);
    }
    return err;
}

/* A whole new file takes its name at once: written aside, synced, renamed, the name synced. */
static enum dbos_err write_identity(struct dbos_env *env, const char *data_dir, const char *path,
                                    const struct dbos_stored_identity *identity,
                                    struct dbos_errinfo *info) {
    char aside[DBOS_PATH_BYTES];
    int file = -1;
    dbos_log_path(aside, data_dir, "identity.new");
    enum dbos_err err = env->ops->file_open(env, aside, DBOS_OPEN_CREATE, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_truncate(env, file, 0, info);
    if (err == DBOS_OK) {
        err = env->ops->file_write(env, file, 0, identity, sizeof *identity, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->file_sync(env, file, info);
    }
    env->ops->file_close(env, file);
    if (err == DBOS_OK) {
        err = env->ops->path_rename(env, aside, path, info);
    }
    return err == DBOS_OK ? env->ops->dir_sync(env, data_dir, info) : err;
}

static void new_identity(struct dbos_env *env, struct dbos_stored_identity *out) {
    *out = (struct dbos_stored_identity){.object_seed = env->ops->random_u64(env),
                                         .created_us = env->ops->wall_us(env)};
    dbos_store_u64(out->database.bytes, env->ops->random_u64(env));
    dbos_store_u64(out->database.bytes + 8, env->ops->random_u64(env));
    /* RFC 4122: version 4, variant 1. */
    out->database.bytes[6] = (uint8_t)((out->database.bytes[6] & 0x0f) | 0x40);
    out->database.bytes[8] = (uint8_t)((out->database.bytes[8] & 0x3f) | 0x80);
    dbos_identity_encode(out);
}

/* The directory may be new: until its own name is on disk, a power cut takes it with all that is in
 * it. */
static enum dbos_err sync_parent(struct dbos_env *env, const char *data_dir,
                                 struct dbos_errinfo *info) {
    char parent[DBOS_PATH_BYTES];
    size_t length = strlen(data_dir);
    while (length > 1 && data_dir[length - 1] == '/') {
        length--;
    }
    while (length > 0 && data_dir[length - 1] != '/') {
        length--;
    }
    while (length > 1 && data_dir[length - 1] == '/') {
        length--;
    }
    (void)snprintf(parent, sizeof parent, "%.*s", length == 0 ? 1 : (int)length,
                   length == 0 ? "." : data_dir);
    enum dbos_err err = env->ops->dir_sync(env, parent, info);
    if (err != DBOS_ERR_PRIVILEGE) {
        return err;
    }
    /* Whoever made the data directory there, or let us make it, keeps it. */
    dbos_log(DBOS_LOG_WARN,
             "cannot read %s, to sync the name of %s in it: if it is new, a power cut may take it",
             parent, data_dir);
    return DBOS_OK;
}

enum dbos_err dbos_log_identity(struct dbos_env *env, const char *data_dir, bool read_only,
                                struct dbos_stored_identity *out, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    bool exists = false;
    bool has_log = false;
    dbos_log_path(path, data_dir, "identity");
    enum dbos_err err = name_exists(env, data_dir, "identity", &exists, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (exists) {
        return read_identity(env, path, out, info);
    }
    err = name_exists(env, data_dir, "log", &has_log, info);
    if (err == DBOS_OK && read_only && !has_log) {
        err = dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "%s is not a data directory", data_dir);
    }
    if (err == DBOS_OK && has_log) {
        /* With a new secret no large value of the log could be read again. */
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "%s has a log and no identity file", data_dir);
    }
    if (err != DBOS_OK) {
        return err;
    }
    err = sync_parent(env, data_dir, info);
    if (err != DBOS_OK) {
        return err;
    }
    new_identity(env, out);
    return write_identity(env, data_dir, path, out, info);
}

enum dbos_err dbos_log_object_seed(struct dbos_env *env, const char *data_dir, uint64_t *out_seed,
                                   struct dbos_errinfo *info) {
    struct dbos_stored_identity identity = {0};
    int lock_file = -1;
    *out_seed = 0;
    enum dbos_err err = dbos_log_lock_dir(env, data_dir, false, &lock_file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_log_identity(env, data_dir, false, &identity, info);
    env->ops->file_close(env, lock_file);
    if (err == DBOS_OK) {
        *out_seed = identity.object_seed;
    }
    return err;
}
