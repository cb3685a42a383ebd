/* What computes: the table of functions that each device's code fills in. A CUDA backend joins by
 * adding its table to dbos_backend_find(); nothing else of the worker changes.
 *
 * A backend never falls back to a slower one by itself: it refuses, and says why.
 *
 * Thread: one backend is used by one thread at a time; train() calls its progress function on that
 * thread, and infer() and load_model() may be called from within it.
 * Memory: from the allocator given to open(). */
#ifndef DBOS_GPU_BACKEND_H
#define DBOS_GPU_BACKEND_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "gpu/frame.h"
#include "gpu/model.h"

struct dbos_alloc;
struct dbos_backend;
struct dbos_backend_model;

/* Examples to train on: borrowed rows of params.inputs bytes each, and their labels. */
struct dbos_train_job {
    struct dbos_train_params params;
    const uint8_t *const *rows;
    const uint8_t *labels;
    uint32_t count;
    /* Called after every step; false ends the training with DBOS_ERR_CANCELED. May be NULL. */
    bool (*progress)(void *arg, uint64_t step, uint64_t steps);
    void *arg;
};

struct dbos_backend_options {
    uint32_t threads; /* that one computation may use; at least 1 */
};

struct dbos_backend_ops {
    const char *name;

    /* Errors: DBOS_ERR_NOMEM, DBOS_ERR_NOT_SUPPORTED (no such device here). */
    enum dbos_err (*open)(struct dbos_alloc *alloc, const struct dbos_backend_options *options,
                          struct dbos_backend **out, struct dbos_errinfo *info);
    /* All models must have been unloaded. */
    void (*close)(struct dbos_backend *backend);

    /* Copy a model to the device and plan it for every batch size, so that no request pays for it.
     * Errors: DBOS_ERR_NOMEM; DBOS_ERR_NOT_SUPPORTED, the device has no fast kernel for it. */
    enum dbos_err (*load_model)(struct dbos_backend *backend, const struct dbos_mlp *mlp,
                                struct dbos_backend_model **out, struct dbos_errinfo *info);
    /* Gives back all that load_model took. NULL is allowed. */
    void (*unload_model)(struct dbos_backend *backend, struct dbos_backend_model *model);

    /* Classify `count` images of model.inputs bytes each: the label with the highest score and its
     * softmax probability, in the order of the input. */
    enum dbos_err (*infer)(struct dbos_backend *backend, struct dbos_backend_model *model,
                           const uint8_t *pixels, uint32_t count, uint8_t *labels,
                           float *probabilities, struct dbos_errinfo *info);

    /* Train a new model. Same seed, data, options and machine: same model, bit for bit.
     * *out is the caller's, from the backend's allocator.
     * Errors: DBOS_ERR_INVALID_PARAMETER, DBOS_ERR_CANCELED, DBOS_ERR_NOMEM,
     * DBOS_ERR_OUT_OF_RANGE (the training diverged). */
    enum dbos_err (*train)(struct dbos_backend *backend, const struct dbos_train_job *job,
                           struct dbos_mlp **out, struct dbos_train_report *report,
                           struct dbos_errinfo *info);
};

/* The head of every backend's own struct. */
struct dbos_backend {
    const struct dbos_backend_ops *ops;
    struct dbos_alloc *alloc;
};

/* oneDNN on the CPU; and plain C that accumulates in double: the oracle of the tests. */
extern const struct dbos_backend_ops dbos_backend_dnnl;
extern const struct dbos_backend_ops dbos_backend_ref;

/* "dnnl" or "ref"; NULL for a name that this build does not have. */
const struct dbos_backend_ops *dbos_backend_find(const char *name);

#endif /* DBOS_GPU_BACKEND_H */
