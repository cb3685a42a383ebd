/* Segments that nobody needs any more. Declared in txn/log.h. */
#include "txn/log_internal.h"

bool dbos_log_segment_begins_at(struct dbos_log *log, uint32_t number, uint64_t *out_position,
                                bool *out_exists, struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    uint8_t bytes[DBOS_SEGMENT_HEADER_BYTES];
    struct dbos_segment_header header;
    size_t got = 0;
    int file = -1;
    dbos_segment_path(path, log->data_dir, number);
    *out_exists = log->env->ops->file_open(log->env, path, DBOS_OPEN_READ, &file, NULL) == DBOS_OK;
    if (!*out_exists) {
        return false;
    }
    enum dbos_err err =
        log->env->ops->file_read(log->env, file, 0, bytes, sizeof bytes, &got, NULL);
    log->env->ops->file_close(log->env, file);
    if (err != DBOS_OK || got != sizeof bytes ||
        dbos_segment_header_decode(bytes, &header, info) != DBOS_HEADER_VALID) {
        dbos_err_detail(info, "Log segment %s.", path);
        return false;
    }
    *out_position = header.first_position;
    return true;
}

/* From the oldest on, each one's name gone for good before the next one goes: what is left never
 * has a gap. The one that is written is never the last but one. */
enum dbos_err dbos_log_truncate(struct dbos_log *log, uint64_t position, uint32_t *out_removed,
                                struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    char dir[DBOS_PATH_BYTES];
    uint32_t lowest = 0;
    uint32_t highest = 0;
    *out_removed = 0;
    dbos_log_path(dir, log->data_dir, "log");
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, &lowest, &highest, info);
    for (uint32_t number = lowest; err == DBOS_OK && number != 0 && number < highest; number++) {
        uint64_t next_begins_at = 0;
        bool exists = false;
        if (!dbos_log_segment_begins_at(log, number + 1, &next_begins_at, &exists, NULL) ||
            next_begins_at > position) {
            break;
        }
        dbos_segment_path(path, log->data_dir, number);
        err = log->env->ops->path_remove(log->env, path, info);
        if (err == DBOS_OK) {
            err = log->env->ops->dir_sync(log->env, dir, info);
        }
        *out_removed += err == DBOS_OK;
    }
    return err;
}
