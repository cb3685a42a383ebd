#include "tests/unit/gpu/mnist.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *mnist_dir(void) {
    const char *dir = getenv("DBOS_MNIST_DIR");
    if (dir == NULL) {
        dir = getenv("MNIST_DIR");
    }
    return dir != NULL ? dir : DBOS_SOURCE_DIR "/../shared/data/mnist";
}

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* One IDX file through gzip: `head_bytes` of head, then count × item_bytes. */
static uint8_t *read_idx(struct dbos_alloc *alloc, const char *which, const char *kind,
                         size_t head_bytes, size_t item_bytes, uint32_t *count) {
    char command[512];
    uint8_t head[16];
    uint8_t *data = NULL;
    (void)snprintf(command, sizeof command, "gzip -dc '%s/%s-%s.gz' 2>/dev/null", mnist_dir(),
                   which, kind);
    FILE *pipe = popen(command, "r");
    if (pipe == NULL) {
        return NULL;
    }
    if (fread(head, 1, head_bytes, pipe) == head_bytes) {
        *count = big_endian(head + 4);
        data = *count > 1000000 ? NULL : dbos_take(alloc, *count * item_bytes);
        if (data != NULL && fread(data, item_bytes, *count, pipe) != *count) {
            dbos_give(alloc, data);
            data = NULL;
        }
    }
    (void)pclose(pipe);
    return data;
}

bool mnist_read(struct dbos_alloc *alloc, const char *which, struct mnist_set *out) {
    uint32_t label_count = 0;
    memset(out, 0, sizeof *out);
    out->pixels = read_idx(alloc, which, "images-idx3-ubyte", 16, 784, &out->count);
    out->labels = read_idx(alloc, which, "labels-idx1-ubyte", 8, 1, &label_count);
    if (out->pixels == NULL || out->labels == NULL || label_count != out->count) {
        mnist_give(alloc, out);
        return false;
    }
    return true;
}

void mnist_give(struct dbos_alloc *alloc, struct mnist_set *set) {
    dbos_give(alloc, set->pixels);
    dbos_give(alloc, set->labels);
    memset(set, 0, sizeof *set);
}
