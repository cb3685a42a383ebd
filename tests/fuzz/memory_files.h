/* Files in memory for readers that reach theirs through a dbos_env: a file's number is its place in
 * the environment's state, an array of struct fuzz_file. Opening is the target's own. */
#ifndef DBOS_TESTS_FUZZ_MEMORY_FILES_H
#define DBOS_TESTS_FUZZ_MEMORY_FILES_H

#include <string.h>

#include "base/env.h"

struct fuzz_file {
    const uint8_t *data;
    size_t size_bytes;
};

static inline void fuzz_file_close(struct dbos_env *env, int file) {
    DBOS_CHECK(((const struct fuzz_file *)env->state)[file].data != NULL);
}

static inline enum dbos_err fuzz_file_size(struct dbos_env *env, int file, uint64_t *out_bytes,
                                           struct dbos_errinfo *info) {
    const struct fuzz_file *files = env->state;
    (void)info;
    *out_bytes = files[file].size_bytes;
    return DBOS_OK;
}

static inline enum dbos_err fuzz_file_read(struct dbos_env *env, int file, uint64_t offset,
                                           void *data, size_t size_bytes, size_t *out_bytes,
                                           struct dbos_errinfo *info) {
    const struct fuzz_file *files = env->state;
    (void)info;
    *out_bytes = 0;
    if (offset < files[file].size_bytes) {
        size_t left = files[file].size_bytes - (size_t)offset;
        *out_bytes = left < size_bytes ? left : size_bytes;
        memcpy(data, files[file].data + offset, *out_bytes);
    }
    return DBOS_OK;
}

#endif /* DBOS_TESTS_FUZZ_MEMORY_FILES_H */
