/* A multi-layer perceptron with one hidden layer, and its bytes as stored in the database.
 *
 *   hidden = relu(w1 × pixels / 255 + b1);  scores = w2 × hidden + b2;  label = argmax(scores)
 *
 * Thread: a model is used by one thread at a time; reading it from many is fine.
 * Memory: one block from the allocator holds all four arrays. */
#ifndef DBOS_GPU_MODEL_H
#define DBOS_GPU_MODEL_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define DBOS_MODEL_MAGIC       0x314d4244u /* the bytes "DBM1" */
#define DBOS_MODEL_VERSION     1u
#define DBOS_MODEL_ARCH_MLP    1u
#define DBOS_MODEL_WIDTH_MAX   65536u /* inputs and hidden units */
#define DBOS_MODEL_OUTPUTS_MAX 256u   /* a label is one byte */

/* The head of a stored model; f32 weights w1[hidden][inputs], b1[hidden], w2[outputs][hidden],
 * b2[outputs] follow. See docs/formats/frame.md. */
struct dbos_model_header {
    uint32_t magic;
    uint32_t version;
    uint32_t arch;
    uint32_t inputs;
    uint32_t hidden;
    uint32_t outputs;
    uint64_t weight_bytes;
    uint32_t crc32c; /* over this header with the field zero, then the weights */
    uint32_t reserved[7];
};
static_assert(sizeof(struct dbos_model_header) == 64, "stored format");
static_assert(offsetof(struct dbos_model_header, weight_bytes) == 24, "stored format");
static_assert(offsetof(struct dbos_model_header, crc32c) == 32, "stored format");

struct dbos_mlp {
    uint32_t inputs;
    uint32_t hidden;
    uint32_t outputs;
    size_t weight_count; /* of all four arrays, which lie one after the other from w1 */
    float *w1;
    float *b1;
    float *w2;
    float *b2;
};

/* All weights zero. *out is owned by the caller: dbos_mlp_close() with the same allocator.
 * Errors: DBOS_ERR_INVALID_PARAMETER, a size is zero or too large; DBOS_ERR_NOMEM. */
enum dbos_err dbos_mlp_open(struct dbos_alloc *alloc, uint32_t inputs, uint32_t hidden,
                            uint32_t outputs, struct dbos_mlp **out,
                            struct dbos_errinfo *info) DBOS_MUST_USE;
/* NULL is allowed. */
void dbos_mlp_close(struct dbos_alloc *alloc, struct dbos_mlp *mlp);

/* Append the stored form (look at buf->failed). */
void dbos_model_encode(const struct dbos_mlp *mlp, struct dbos_buf *buf);

/* Read the stored form. *out is owned by the caller.
 * Errors: DBOS_ERR_CORRUPT (magic, sizes that do not add up, checksum, a weight that is not
 * finite), DBOS_ERR_FORMAT_VERSION, DBOS_ERR_NOT_SUPPORTED (another architecture),
 * DBOS_ERR_LIMIT, DBOS_ERR_NOMEM. */
enum dbos_err dbos_model_decode(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                                struct dbos_mlp **out, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_GPU_MODEL_H */
