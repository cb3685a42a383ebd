/* Mini-batch training of the perceptron: what every backend shares. A backend computes the
 * gradients of one batch; the epochs, the seeded order, the seeded start and the optimizer are
 * here, so that two backends differ in rounding only.
 *
 * Thread: the backend's.
 * Memory: from the allocator; all of it is given back but the model. */
#ifndef DBOS_GPU_TRAIN_H
#define DBOS_GPU_TRAIN_H

#include <stdint.h>

#include "gpu/backend.h"

/* One batch: count × inputs of pixels / 255, and the labels. */
struct dbos_train_batch {
    const float *x;
    const uint8_t *labels;
    uint32_t count;
};

struct dbos_train_engine {
    void *state;
    /* The gradients of the batch's mean cross-entropy into `out` (same sizes as `mlp`), the sum of
     * its losses and how many of it the model classifies rightly. */
    enum dbos_err (*gradients)(void *state, const struct dbos_mlp *mlp,
                               const struct dbos_train_batch *batch, struct dbos_mlp *out,
                               double *loss_sum, uint32_t *correct, struct dbos_errinfo *info);
};

/* What a train job must satisfy; the limits of docs/formats/frame.md.
 * Errors: DBOS_ERR_INVALID_PARAMETER. */
enum dbos_err dbos_train_check(const struct dbos_train_params *params, uint32_t count,
                               struct dbos_errinfo *info) DBOS_MUST_USE;

/* Fill the weights as a training with this seed starts (uniform He initialisation). */
void dbos_train_start(struct dbos_mlp *mlp, uint64_t seed);

/* Softmax of `outputs` scores in place, and the cross-entropy of `label`: turns scores into
 * (probability − one-hot). Returns the loss; *correct is set to whether `label` had the highest. */
double dbos_train_softmax(float *scores, uint32_t outputs, uint8_t label, bool *correct);

/* Run the job. *out is the caller's. Errors: those of dbos_backend_ops.train. */
enum dbos_err dbos_train_run(struct dbos_alloc *alloc, const struct dbos_train_job *job,
                             const struct dbos_train_engine *engine, struct dbos_mlp **out,
                             struct dbos_train_report *report,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_GPU_TRAIN_H */
