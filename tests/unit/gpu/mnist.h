/* Real MNIST for tests, where it is present: $DBOS_MNIST_DIR, $MNIST_DIR, or ../shared/data/mnist
 * beside the source tree.
 *
 * Memory: dbos_alloc of the caller. */
#ifndef DBOS_TESTS_UNIT_GPU_MNIST_H
#define DBOS_TESTS_UNIT_GPU_MNIST_H

#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"

struct mnist_set {
    uint32_t count;
    uint8_t *pixels; /* count × 784 */
    uint8_t *labels;
};

/* `which` is "train" or "t10k". False when the files are not there or not MNIST. */
bool mnist_read(struct dbos_alloc *alloc, const char *which, struct mnist_set *out);
void mnist_give(struct dbos_alloc *alloc, struct mnist_set *set);

#endif /* DBOS_TESTS_UNIT_GPU_MNIST_H */
