#include "provenance/archive_check.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "provenance/archive_manifest.h"

enum { PATH_BYTES = 1536 };

struct check {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    const char *data_dir;
    bool reads_files;
    struct dbos_archive_findings *found;
    uint32_t next_segment; /* of the last whole line */
};

/* The whole file; give it back to the allocator. *out stays NULL where it can not be read. */
static enum dbos_err read_file(struct dbos_alloc *alloc, struct dbos_env *env, const char *path,
                               uint8_t **out, size_t *out_bytes, struct dbos_errinfo *info) {
    int file = -1;
    uint64_t size_bytes = 0;
    *out = NULL;
    *out_bytes = 0;
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_READ, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_size(env, file, &size_bytes, info);
    uint8_t *bytes = err == DBOS_OK ? dbos_take(alloc, (size_t)size_bytes + 1) : NULL;
    if (err == DBOS_OK && bytes == NULL) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory to check %s", path);
    }
    if (err == DBOS_OK) {
        err = env->ops->file_read(env, file, 0, bytes, (size_t)size_bytes, out_bytes, info);
    }
    env->ops->file_close(env, file);
    if (err != DBOS_OK) {
        dbos_give(alloc, bytes);
        return err;
    }
    *out = bytes;
    return DBOS_OK;
}

enum dbos_err dbos_archive_check_file(struct dbos_alloc *alloc, struct dbos_env *env,
                                      const char *folder, const struct dbos_manifest_file *file,
                                      struct dbos_errinfo *info) {
    char path[PATH_BYTES];
    uint8_t *bytes = NULL;
    size_t size_bytes = 0;
    (void)snprintf(path, sizeof path, "%s/%s", folder, file->path);
    enum dbos_err err = read_file(alloc, env, path, &bytes, &size_bytes, info);
    bool is_whole = err == DBOS_OK && size_bytes == file->bytes &&
                    dbos_hash64(0, bytes, size_bytes) == file->xxh3;
    dbos_give(alloc, bytes);
    if (is_whole || err == DBOS_ERR_NOMEM) {
        return err;
    }
    (void)dbos_fail(info, DBOS_ERR_CORRUPT, "archive file %s is damaged or missing", path);
    dbos_err_detail(info, "It has rows of positions %" PRIu64 " to %" PRIu64 ".",
                    file->min_position, file->max_position);
    return DBOS_ERR_CORRUPT;
}

static enum dbos_err check_file(struct check *check, const struct dbos_manifest_file *file,
                                struct dbos_errinfo *info) {
    char folder[PATH_BYTES];
    (void)snprintf(folder, sizeof folder, "%s/archive", check->data_dir);
    check->found->files++;
    check->found->bytes += file->bytes;
    return check->reads_files
               ? dbos_archive_check_file(check->alloc, check->env, folder, file, info)
               : DBOS_OK;
}

static enum dbos_err check_line(struct check *check, const char *line, size_t size_bytes,
                                struct dbos_errinfo *info) {
    struct dbos_manifest_segment segment;
    struct dbos_manifest_names names;
    struct dbos_manifest_file file;
    size_t cursor = 0;
    enum dbos_err err = dbos_manifest_read(line, size_bytes, &segment, info);
    while (err == DBOS_OK && dbos_manifest_next(line, size_bytes, &cursor, &names, &file)) {
        err = check_file(check, &file, info);
    }
    check->found->exports++;
    check->next_segment = segment.next_segment;
    if (segment.records != 0) {
        check->found->last_position = segment.last_position;
    }
    return err;
}

static void note_lowest(void *arg, const char *name) {
    uint32_t *lowest = arg;
    char *end = NULL;
    unsigned long number = strtoul(name, &end, 10);
    if (strcmp(end, ".seg") == 0 && number != 0 && number < *lowest) {
        *lowest = (uint32_t)number;
    }
}

/* The first segment that the log has. */
static enum dbos_err find_lowest(const struct check *check, uint32_t *out,
                                 struct dbos_errinfo *info) {
    char path[PATH_BYTES];
    *out = UINT32_MAX;
    (void)snprintf(path, sizeof path, "%s/log", check->data_dir);
    return check->env->ops->dir_list(check->env, path, note_lowest, out, info);
}

/* Files of the log go only when the archive has what is in them, so a hole between the two was made
 * by something else. A log without any segment is not judged here. */
static enum dbos_err check_reach(const struct check *check, struct dbos_errinfo *info) {
    uint32_t lowest = 0;
    enum dbos_err err = find_lowest(check, &lowest, info);
    if (err != DBOS_OK || lowest == UINT32_MAX || lowest <= check->next_segment) {
        return err;
    }
    (void)dbos_fail(info, DBOS_ERR_CORRUPT,
                    "the archive ends at position %" PRIu64 ", and the log begins with segment %u",
                    check->found->last_position, lowest);
    dbos_err_detail(info, "Records of segment %u are in neither of them.", check->next_segment);
    return DBOS_ERR_CORRUPT;
}

/* What is behind the last whole line: was it being written, and can it be made again? */
static enum dbos_err check_rest(struct check *check, const char *rest, size_t size_bytes,
                                struct dbos_errinfo *info) {
    uint32_t lowest = UINT32_MAX;
    const char *newline = size_bytes == 0 ? NULL : memchr(rest, '\n', size_bytes);
    bool has_more = newline != NULL && newline + 1 != rest + size_bytes;
    check->found->torn_bytes = size_bytes;
    if (size_bytes == 0) {
        return DBOS_OK;
    }
    if (!has_more) {
        enum dbos_err err = find_lowest(check, &lowest, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    if (has_more || lowest > check->next_segment) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT,
                        "line %" PRIu64 " of the archive's MANIFEST.jsonl is damaged",
                        check->found->exports + 1);
        dbos_err_detail(info,
                        "It covers positions behind %" PRIu64 "; %s, so that it was not being "
                        "written when the process ended.",
                        check->found->last_position,
                        has_more ? "there are lines behind it"
                                 : "the log has been cut off behind it");
        return DBOS_ERR_CORRUPT;
    }
    return DBOS_OK;
}

static void find_manifest(void *arg, const char *name) {
    *(bool *)arg |= strcmp(name, "MANIFEST.jsonl") == 0;
}

static void find_archive(void *arg, const char *name) {
    *(bool *)arg |= strcmp(name, "archive") == 0;
}

/* *out: there is a manifest, at `path`. */
static enum dbos_err find(const struct check *check, char path[PATH_BYTES], bool *out,
                          struct dbos_errinfo *info) {
    struct dbos_env *env = check->env;
    bool has_archive = false;
    *out = false;
    enum dbos_err err = env->ops->dir_list(env, check->data_dir, find_archive, &has_archive, info);
    if (err == DBOS_OK && has_archive) {
        (void)snprintf(path, PATH_BYTES, "%s/archive", check->data_dir);
        err = env->ops->dir_list(env, path, find_manifest, out, info);
    }
    (void)snprintf(path, PATH_BYTES, "%s/archive/MANIFEST.jsonl", check->data_dir);
    return err;
}

enum dbos_err dbos_archive_check(struct dbos_alloc *alloc, struct dbos_env *env,
                                 const char *data_dir, bool reads_files,
                                 struct dbos_archive_findings *out, struct dbos_errinfo *info) {
    struct check check = {.alloc = alloc,
                          .env = env,
                          .data_dir = data_dir,
                          .reads_files = reads_files,
                          .found = out,
                          .next_segment = 1};
    char path[PATH_BYTES];
    bool is_there = false;
    uint8_t *text = NULL;
    size_t size_bytes = 0;
    *out = (struct dbos_archive_findings){0};
    enum dbos_err err = find(&check, path, &is_there, info);
    if (err != DBOS_OK || !is_there) {
        return err == DBOS_OK ? check_reach(&check, info) : err;
    }
    err = read_file(alloc, env, path, &text, &size_bytes, info);
    size_t at = 0;
    size_t line;
    while (err == DBOS_OK &&
           (line = dbos_manifest_line((const char *)text + at, size_bytes - at)) != 0) {
        err = check_line(&check, (const char *)text + at, line, info);
        at += line;
    }
    if (err == DBOS_OK) {
        err = check_rest(&check, (const char *)text + at, size_bytes - at, info);
    }
    if (err == DBOS_OK) {
        err = check_reach(&check, info);
    }
    dbos_give(alloc, text);
    return err;
}
