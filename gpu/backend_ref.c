/* The reference: plain loops, sums in double. Slow and obvious; it is asked for by name only. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "gpu/backend.h"
#include "gpu/train.h"

struct ref_model {
    struct dbos_mlp *mlp;
};

static enum dbos_err ref_open(struct dbos_alloc *alloc, const struct dbos_backend_options *options,
                              struct dbos_backend **out, struct dbos_errinfo *info) {
    (void)options;
    *out = dbos_take_zero(alloc, sizeof **out);
    if (*out == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a backend");
    }
    (*out)->ops = &dbos_backend_ref;
    (*out)->alloc = alloc;
    return DBOS_OK;
}

static void ref_close(struct dbos_backend *backend) { dbos_give(backend->alloc, backend); }

static enum dbos_err ref_load_model(struct dbos_backend *backend, const struct dbos_mlp *mlp,
                                    struct dbos_backend_model **out, struct dbos_errinfo *info) {
    struct ref_model *model = dbos_take_zero(backend->alloc, sizeof *model);
    *out = NULL;
    if (model == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model");
    }
    enum dbos_err err =
        dbos_mlp_open(backend->alloc, mlp->inputs, mlp->hidden, mlp->outputs, &model->mlp, info);
    if (err != DBOS_OK) {
        dbos_give(backend->alloc, model);
        return err;
    }
    memcpy(model->mlp->w1, mlp->w1, mlp->weight_count * sizeof(float));
    *out = (struct dbos_backend_model *)model;
    return DBOS_OK;
}

static void ref_unload_model(struct dbos_backend *backend, struct dbos_backend_model *opaque) {
    struct ref_model *model = (struct ref_model *)opaque;
    if (model == NULL) {
        return;
    }
    dbos_mlp_close(backend->alloc, model->mlp);
    dbos_give(backend->alloc, model);
}

/* out[row] = w[row] · x + b[row] */
static void dense(const float *w, const float *b, const float *x, uint32_t rows, uint32_t columns,
                  float *out) {
    for (uint32_t row = 0; row < rows; row++) {
        double sum = (double)b[row];
        for (uint32_t i = 0; i < columns; i++) {
            sum += (double)w[(size_t)row * columns + i] * (double)x[i];
        }
        out[row] = (float)sum;
    }
}

static void forward(const struct dbos_mlp *mlp, const float *x, float *hidden, float *scores) {
    dense(mlp->w1, mlp->b1, x, mlp->hidden, mlp->inputs, hidden);
    for (uint32_t i = 0; i < mlp->hidden; i++) {
        hidden[i] = hidden[i] > 0 ? hidden[i] : 0;
    }
    dense(mlp->w2, mlp->b2, hidden, mlp->outputs, mlp->hidden, scores);
}

static float top_probability(const float *scores, uint32_t outputs, uint8_t *label) {
    uint32_t best = 0;
    double sum = 0;
    for (uint32_t i = 1; i < outputs; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    for (uint32_t i = 0; i < outputs; i++) {
        sum += exp((double)scores[i] - (double)scores[best]);
    }
    *label = (uint8_t)best;
    return (float)(1.0 / sum);
}

static enum dbos_err ref_infer(struct dbos_backend *backend, struct dbos_backend_model *opaque,
                               const uint8_t *pixels, uint32_t count, uint8_t *labels,
                               float *probabilities, struct dbos_errinfo *info) {
    const struct dbos_mlp *mlp = ((struct ref_model *)opaque)->mlp;
    size_t floats = (size_t)mlp->inputs + mlp->hidden + mlp->outputs;
    float *x = dbos_take(backend->alloc, floats * sizeof(float));
    if (x == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to infer");
    }
    float *hidden = x + mlp->inputs;
    float *scores = hidden + mlp->hidden;
    for (uint32_t n = 0; n < count; n++) {
        const uint8_t *image = pixels + (size_t)n * mlp->inputs;
        for (uint32_t i = 0; i < mlp->inputs; i++) {
            x[i] = (float)image[i] * (1.0f / 255.0f);
        }
        forward(mlp, x, hidden, scores);
        probabilities[n] = top_probability(scores, mlp->outputs, &labels[n]);
    }
    dbos_give(backend->alloc, x);
    return DBOS_OK;
}

/* --- Training ----------------------------------------------------------------------------------
 */

struct ref_trainer {
    float *hidden;
    float *scores;
    double *sums; /* gradients in double until the batch is done */
};

/* Add one example's gradients to t->sums, which lies like the weights. */
static void backward(const struct ref_trainer *t, const struct dbos_mlp *mlp, const float *x,
                     double scale) {
    double *w1 = t->sums;
    double *b1 = w1 + (size_t)mlp->hidden * mlp->inputs;
    double *w2 = b1 + mlp->hidden;
    double *b2 = w2 + (size_t)mlp->outputs * mlp->hidden;
    for (uint32_t h = 0; h < mlp->hidden; h++) {
        double diff = 0;
        for (uint32_t o = 0; o < mlp->outputs; o++) {
            double d = (double)t->scores[o] * scale;
            w2[(size_t)o * mlp->hidden + h] += d * (double)t->hidden[h];
            diff += d * (double)mlp->w2[(size_t)o * mlp->hidden + h];
        }
        if (t->hidden[h] <= 0) {
            continue;
        }
        b1[h] += diff;
        for (uint32_t i = 0; i < mlp->inputs; i++) {
            w1[(size_t)h * mlp->inputs + i] += diff * (double)x[i];
        }
    }
    for (uint32_t o = 0; o < mlp->outputs; o++) {
        b2[o] += (double)t->scores[o] * scale;
    }
}

static enum dbos_err ref_gradients(void *state, const struct dbos_mlp *mlp,
                                   const struct dbos_train_batch *batch, struct dbos_mlp *out,
                                   double *loss_sum, uint32_t *correct, struct dbos_errinfo *info) {
    struct ref_trainer *t = state;
    (void)info;
    memset(t->sums, 0, mlp->weight_count * sizeof(double));
    *loss_sum = 0;
    *correct = 0;
    for (uint32_t n = 0; n < batch->count; n++) {
        const float *x = batch->x + (size_t)n * mlp->inputs;
        bool right = false;
        forward(mlp, x, t->hidden, t->scores);
        *loss_sum += dbos_train_softmax(t->scores, mlp->outputs, batch->labels[n], &right);
        *correct += right ? 1 : 0;
        backward(t, mlp, x, 1.0 / batch->count);
    }
    for (size_t i = 0; i < mlp->weight_count; i++) {
        out->w1[i] = (float)t->sums[i];
    }
    return DBOS_OK;
}

static enum dbos_err ref_train(struct dbos_backend *backend, const struct dbos_train_job *job,
                               struct dbos_mlp **out, struct dbos_train_report *report,
                               struct dbos_errinfo *info) {
    const struct dbos_train_params *p = &job->params;
    struct dbos_mlp *sizes = NULL;
    *out = NULL;
    enum dbos_err err =
        dbos_mlp_open(backend->alloc, p->inputs, p->hidden, p->outputs, &sizes, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t weight_count = sizes->weight_count;
    dbos_mlp_close(backend->alloc, sizes);
    struct ref_trainer t = {0};
    t.sums = dbos_take(backend->alloc, weight_count * sizeof(double) +
                                           ((size_t)p->hidden + p->outputs) * sizeof(float));
    if (t.sums == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to train");
    }
    t.hidden = (float *)(void *)(t.sums + weight_count);
    t.scores = t.hidden + p->hidden;
    struct dbos_train_engine engine = {.state = &t, .gradients = ref_gradients};
    err = dbos_train_run(backend->alloc, job, &engine, out, report, info);
    dbos_give(backend->alloc, t.sums);
    return err;
}

const struct dbos_backend_ops dbos_backend_ref = {
    .name = "ref",
    .open = ref_open,
    .close = ref_close,
    .load_model = ref_load_model,
    .unload_model = ref_unload_model,
    .infer = ref_infer,
    .train = ref_train,
};
