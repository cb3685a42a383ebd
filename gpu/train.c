#include "gpu/train.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/env.h"

#define EPOCHS_MAX 10000u
#define BATCH_MAX  65536u

#define ADAM_BETA1   0.9f
#define ADAM_BETA2   0.999f
#define ADAM_EPSILON 1e-8f

struct trainer {
    struct dbos_alloc *alloc;
    const struct dbos_train_job *job;
    const struct dbos_train_engine *engine;
    struct dbos_rng rng; /* the order of the examples; the start has its own */
    struct dbos_mlp *mlp;
    struct dbos_mlp *gradients;
    struct dbos_mlp *mean;     /* Adam's first moment; NULL for SGD */
    struct dbos_mlp *variance; /* Adam's second moment */
    uint32_t *order;
    float *x;
    uint8_t *labels;
    uint64_t step;
    uint64_t steps;
    double loss_sum; /* of the epoch */
    uint64_t correct;
};

enum dbos_err dbos_train_check(const struct dbos_train_params *params, uint32_t count,
                               struct dbos_errinfo *info) {
    if (params->version != 1) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "train parameters version %u, not 1",
                         params->version);
    }
    if (count == 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "no examples to train on");
    }
    if (params->epochs == 0 || params->epochs > EPOCHS_MAX || params->batch_size == 0 ||
        params->batch_size > BATCH_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "%u epochs in batches of %u",
                         params->epochs, params->batch_size);
    }
    if (params->inputs == 0 || params->inputs > DBOS_MODEL_WIDTH_MAX || params->hidden == 0 ||
        params->hidden > DBOS_MODEL_WIDTH_MAX || params->outputs == 0 ||
        params->outputs > DBOS_MODEL_OUTPUTS_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "a model of %u-%u-%u units",
                         params->inputs, params->hidden, params->outputs);
    }
    if (params->optimizer != DBOS_OPTIMIZER_SGD && params->optimizer != DBOS_OPTIMIZER_ADAM) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "unknown optimizer %u",
                         params->optimizer);
    }
    if (!isfinite(params->learning_rate) || params->learning_rate <= 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "learning rate %g",
                         (double)params->learning_rate);
    }
    if ((params->flags & ~DBOS_TRAIN_LINEAR_DECAY) != 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "unknown train flags %x", params->flags);
    }
    return DBOS_OK;
}

static void fill_uniform(struct dbos_rng *rng, float *weights, size_t count, uint32_t fan_in) {
    double limit = sqrt(6.0 / fan_in);
    for (size_t i = 0; i < count; i++) {
        weights[i] = (float)((dbos_rng_unit(rng) * 2.0 - 1.0) * limit);
    }
}

void dbos_train_start(struct dbos_mlp *mlp, uint64_t seed) {
    struct dbos_rng rng;
    dbos_rng_init(&rng, seed);
    memset(mlp->w1, 0, mlp->weight_count * sizeof(float));
    fill_uniform(&rng, mlp->w1, (size_t)mlp->hidden * mlp->inputs, mlp->inputs);
    fill_uniform(&rng, mlp->w2, (size_t)mlp->outputs * mlp->hidden, mlp->hidden);
}

double dbos_train_softmax(float *scores, uint32_t outputs, uint8_t label, bool *correct) {
    uint32_t best = 0;
    double sum = 0;
    DBOS_CHECK(label < outputs);
    for (uint32_t i = 1; i < outputs; i++) {
        best = scores[i] > scores[best] ? i : best;
    }
    double top = (double)scores[best];
    double own = (double)scores[label] - top;
    for (uint32_t i = 0; i < outputs; i++) {
        double e = exp((double)scores[i] - top);
        scores[i] = (float)e;
        sum += e;
    }
    for (uint32_t i = 0; i < outputs; i++) {
        scores[i] = (float)((double)scores[i] / sum);
    }
    scores[label] -= 1.0f;
    *correct = best == label;
    return log(sum) - own;
}

/* --- Optimizers: restrict and plain loops, so that the compiler makes vectors of them -------- */

static void step_sgd(float *restrict weights, const float *restrict gradients, size_t count,
                     float rate) {
    for (size_t i = 0; i < count; i++) {
        weights[i] -= rate * gradients[i];
    }
}

/* `rate` and `epsilon` have Adam's bias corrections in them. */
static void step_adam(float *restrict weights, const float *restrict gradients,
                      float *restrict mean, float *restrict variance, size_t count, float rate,
                      float epsilon) {
    for (size_t i = 0; i < count; i++) {
        float g = gradients[i];
        float m = ADAM_BETA1 * mean[i] + (1.0f - ADAM_BETA1) * g;
        float v = ADAM_BETA2 * variance[i] + (1.0f - ADAM_BETA2) * g * g;
        mean[i] = m;
        variance[i] = v;
        weights[i] -= rate * m / (sqrtf(v) + epsilon);
    }
}

static float rate_now(const struct trainer *t) {
    float rate = t->job->params.learning_rate;
    if ((t->job->params.flags & DBOS_TRAIN_LINEAR_DECAY) == 0) {
        return rate;
    }
    return (float)((double)rate * (double)(t->steps - t->step) / (double)t->steps);
}

static void apply(struct trainer *t) {
    float rate = rate_now(t);
    size_t count = t->mlp->weight_count;
    if (t->mean == NULL) {
        step_sgd(t->mlp->w1, t->gradients->w1, count, rate);
        return;
    }
    double n = (double)(t->step + 1);
    double mean_scale = 1.0 - pow((double)ADAM_BETA1, n);
    double root = sqrt(1.0 - pow((double)ADAM_BETA2, n));
    step_adam(t->mlp->w1, t->gradients->w1, t->mean->w1, t->variance->w1, count,
              (float)((double)rate * root / mean_scale), (float)((double)ADAM_EPSILON * root));
}

/* --- The loop --------------------------------------------------------------------------------- */

static void shuffle(struct trainer *t) {
    for (uint32_t i = t->job->count - 1; i > 0; i--) {
        uint32_t j = (uint32_t)dbos_rng_below(&t->rng, (uint64_t)i + 1);
        uint32_t swap = t->order[i];
        t->order[i] = t->order[j];
        t->order[j] = swap;
    }
}

static void to_floats(float *restrict x, const uint8_t *restrict pixels, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        x[i] = (float)pixels[i] * (1.0f / 255.0f);
    }
}

static void gather(struct trainer *t, uint32_t from, uint32_t count) {
    uint32_t inputs = t->mlp->inputs;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t example = t->order[from + i];
        to_floats(t->x + (size_t)i * inputs, t->job->rows[example], inputs);
        t->labels[i] = t->job->labels[example];
    }
}

static enum dbos_err train_batch(struct trainer *t, uint32_t from, uint32_t count,
                                 struct dbos_errinfo *info) {
    double loss = 0;
    uint32_t correct = 0;
    gather(t, from, count);
    struct dbos_train_batch batch = {.x = t->x, .labels = t->labels, .count = count};
    enum dbos_err err =
        t->engine->gradients(t->engine->state, t->mlp, &batch, t->gradients, &loss, &correct, info);
    if (err != DBOS_OK) {
        return err;
    }
    apply(t);
    t->step++;
    t->loss_sum += loss;
    t->correct += correct;
    if (!isfinite(t->loss_sum)) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE,
                         "the training diverged at step %llu (learning rate %g)",
                         (unsigned long long)t->step, (double)t->job->params.learning_rate);
    }
    if (t->job->progress != NULL && !t->job->progress(t->job->arg, t->step, t->steps)) {
        return dbos_fail(info, DBOS_ERR_CANCELED, "the training was stopped at step %llu of %llu",
                         (unsigned long long)t->step, (unsigned long long)t->steps);
    }
    return DBOS_OK;
}

static enum dbos_err train_epoch(struct trainer *t, struct dbos_errinfo *info) {
    uint32_t size = t->job->params.batch_size;
    enum dbos_err err = DBOS_OK;
    t->loss_sum = 0;
    t->correct = 0;
    shuffle(t);
    for (uint32_t from = 0; from < t->job->count && err == DBOS_OK; from += size) {
        uint32_t left = t->job->count - from;
        err = train_batch(t, from, left < size ? left : size, info);
    }
    return err;
}

static enum dbos_err trainer_init(struct trainer *t, struct dbos_errinfo *info) {
    const struct dbos_train_params *p = &t->job->params;
    uint32_t batch = p->batch_size < t->job->count ? p->batch_size : t->job->count;
    enum dbos_err err = dbos_mlp_open(t->alloc, p->inputs, p->hidden, p->outputs, &t->mlp, info);
    if (err == DBOS_OK) {
        err = dbos_mlp_open(t->alloc, p->inputs, p->hidden, p->outputs, &t->gradients, info);
    }
    if (err == DBOS_OK && p->optimizer == DBOS_OPTIMIZER_ADAM) {
        err = dbos_mlp_open(t->alloc, p->inputs, p->hidden, p->outputs, &t->mean, info);
        if (err == DBOS_OK) {
            err = dbos_mlp_open(t->alloc, p->inputs, p->hidden, p->outputs, &t->variance, info);
        }
    }
    if (err != DBOS_OK) {
        return err;
    }
    t->order = dbos_take(t->alloc, t->job->count * sizeof *t->order);
    t->x = dbos_take(t->alloc, (size_t)batch * p->inputs * sizeof *t->x);
    t->labels = dbos_take(t->alloc, batch);
    if (t->order == NULL || t->x == NULL || t->labels == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to train");
    }
    for (uint32_t i = 0; i < t->job->count; i++) {
        t->order[i] = i;
    }
    t->steps =
        (uint64_t)p->epochs * ((t->job->count + (uint64_t)p->batch_size - 1) / p->batch_size);
    dbos_train_start(t->mlp, p->seed);
    dbos_rng_init(&t->rng, p->seed + 1);
    return DBOS_OK;
}

static void trainer_fini(struct trainer *t) {
    dbos_mlp_close(t->alloc, t->mlp);
    dbos_mlp_close(t->alloc, t->gradients);
    dbos_mlp_close(t->alloc, t->mean);
    dbos_mlp_close(t->alloc, t->variance);
    dbos_give(t->alloc, t->order);
    dbos_give(t->alloc, t->x);
    dbos_give(t->alloc, t->labels);
}

static enum dbos_err check_labels(const struct dbos_train_job *job, struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < job->count; i++) {
        if (job->labels[i] >= job->params.outputs) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                             "example %u has label %u, the model has %u outputs", i, job->labels[i],
                             job->params.outputs);
        }
    }
    return DBOS_OK;
}

static enum dbos_err check_finite(const struct dbos_mlp *mlp, struct dbos_errinfo *info) {
    for (size_t i = 0; i < mlp->weight_count; i++) {
        if (!isfinite(mlp->w1[i])) {
            return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "the training diverged");
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_train_run(struct dbos_alloc *alloc, const struct dbos_train_job *job,
                             const struct dbos_train_engine *engine, struct dbos_mlp **out,
                             struct dbos_train_report *report, struct dbos_errinfo *info) {
    struct trainer t = {.alloc = alloc, .job = job, .engine = engine};
    *out = NULL;
    *report = (struct dbos_train_report){.version = 1, .examples = job->count};
    enum dbos_err err = dbos_train_check(&job->params, job->count, info);
    if (err == DBOS_OK) {
        err = check_labels(job, info);
    }
    if (err == DBOS_OK) {
        err = trainer_init(&t, info);
    }
    for (; err == DBOS_OK && report->epochs < job->params.epochs; report->epochs++) {
        err = train_epoch(&t, info);
    }
    if (err == DBOS_OK) {
        err = check_finite(t.mlp, info);
    }
    if (err == DBOS_OK) {
        report->loss = (float)(t.loss_sum / job->count);
        report->accuracy = (float)((double)t.correct / job->count);
        *out = t.mlp;
        t.mlp = NULL;
    }
    trainer_fini(&t);
    return err;
}
