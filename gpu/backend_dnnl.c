/* oneDNN on the CPU. All of its C API (2.x; 3.x changed it) is in this file.
 *
 * Inference: per batch size a plan of four primitives (pixels to floats / 255, dense with relu,
 * dense, softmax), made when the model is loaded. Weights are held once, in the layout that the
 * largest batch prefers. Training: forward and backward primitives on plain layouts, since the
 * weights change at every step; the loop is train.c's.
 *
 * After each primitive is chosen its kernel's name is read, and a reference kernel is refused: a
 * badly chosen layout would else cost a factor of tens in silence. */
#include <dnnl.h>
#include <string.h>

#include "base/alloc.h"
#include "gpu/backend.h"
#include "gpu/train.h"

/* Of libgomp, on which Debian's oneDNN is built; clang has no omp.h here. */
void omp_set_num_threads(int count);

/* Planned batch sizes. The largest is the paper's: 1,200 images in one frame. */
static const uint32_t buckets[] = {1, 8, 64, 256, 1200};
#define BUCKETS     (sizeof buckets / sizeof buckets[0])
#define BUCKET_MAX  1200u
#define ALIGN_BYTES 64u

struct dnnl_backend {
    struct dbos_backend base;
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    uint32_t threads;
    uint8_t *scratch; /* activations of one batch, shared by all models */
    size_t scratch_bytes;
};

/* One primitive with its arguments; the memories belong to it. */
#define STAGE_ARGS 5
struct stage {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[STAGE_ARGS];
    int arg_count;
};

enum { STAGE_FLOATS, STAGE_HIDDEN, STAGE_SCORES, STAGE_SOFTMAX, STAGES };
struct plan {
    struct stage stages[STAGES];
};

struct dnnl_model {
    uint32_t inputs;
    uint32_t hidden;
    uint32_t outputs;
    uint8_t *weights; /* one block: w1, b1, w2, b2, each aligned */
    float *w1;
    float *b1;
    float *w2;
    float *b2;
    dnnl_memory_desc_t w1_layout;
    dnnl_memory_desc_t w2_layout;
    struct plan plans[BUCKETS];
};

/* --- Small wrappers ----------------------------------------------------------------------------
 */

static enum dbos_err check(dnnl_status_t status, const char *what, struct dbos_errinfo *info) {
    if (status == dnnl_success) {
        return DBOS_OK;
    }
    return dbos_fail(info, status == dnnl_out_of_memory ? DBOS_ERR_NOMEM : DBOS_ERR_INTERNAL,
                     "oneDNN cannot make %s: status %d", what, (int)status);
}

static size_t aligned(size_t bytes) {
    return (bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES;
}

static uint8_t *align_up(uint8_t *block) {
    uintptr_t address = (uintptr_t)block;
    return block + (aligned(address) - address);
}

static dnnl_memory_desc_t matrix(uint32_t rows, uint32_t columns, dnnl_data_type_t type,
                                 dnnl_format_tag_t tag) {
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {rows, columns};
    DBOS_CHECK(dnnl_memory_desc_init_by_tag(&desc, 2, dims, type, tag) == dnnl_success);
    return desc;
}

static dnnl_memory_desc_t vector(uint32_t count) {
    dnnl_memory_desc_t desc;
    dnnl_dims_t dims = {count};
    DBOS_CHECK(dnnl_memory_desc_init_by_tag(&desc, 1, dims, dnnl_f32, dnnl_a) == dnnl_success);
    return desc;
}

/* Make the primitive of a description that found its kernel, unless that is a reference kernel.
 * Takes `desc` over. */
static enum dbos_err stage_primitive(struct stage *stage, dnnl_primitive_desc_t desc,
                                     const char *what, struct dbos_errinfo *info) {
    const char *kernel = NULL;
    enum dbos_err err =
        check(dnnl_primitive_desc_query(desc, dnnl_query_impl_info_str, 0, &kernel), what, info);
    if (err == DBOS_OK && strstr(kernel, "ref") != NULL) {
        err = dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                        "oneDNN has only the slow kernel \"%s\" for %s on this processor", kernel,
                        what);
    }
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_create(&stage->primitive, desc), what, info);
    }
    (void)dnnl_primitive_desc_destroy(desc);
    return err;
}

/* Give the stage an argument; its data comes with stage_bind(). */
static enum dbos_err stage_arg(struct stage *stage, dnnl_engine_t engine, int arg,
                               const dnnl_memory_desc_t *desc, void *data,
                               struct dbos_errinfo *info) {
    DBOS_CHECK(stage->arg_count < STAGE_ARGS);
    dnnl_memory_t memory = NULL;
    enum dbos_err err =
        check(dnnl_memory_create(&memory, desc, engine, data == NULL ? DNNL_MEMORY_NONE : data),
              "memory", info);
    if (err == DBOS_OK) {
        stage->args[stage->arg_count++] = (dnnl_exec_arg_t){.arg = arg, .memory = memory};
    }
    return err;
}

static enum dbos_err stage_bind(struct stage *stage, int arg, void *data,
                                struct dbos_errinfo *info) {
    for (int i = 0; i < stage->arg_count; i++) {
        if (stage->args[i].arg == arg) {
            return check(dnnl_memory_set_data_handle(stage->args[i].memory, data), "a binding",
                         info);
        }
    }
    return dbos_fail(info, DBOS_ERR_INTERNAL, "a primitive has no argument %d", arg);
}

static enum dbos_err stage_run(const struct stage *stage, dnnl_stream_t stream,
                               struct dbos_errinfo *info) {
    return check(dnnl_primitive_execute(stage->primitive, stream, stage->arg_count, stage->args),
                 "a run", info);
}

static void stage_fini(struct stage *stage) {
    for (int i = 0; i < stage->arg_count; i++) {
        (void)dnnl_memory_destroy(stage->args[i].memory);
    }
    if (stage->primitive != NULL) {
        (void)dnnl_primitive_destroy(stage->primitive);
    }
    *stage = (struct stage){0};
}

/* --- Open and close ----------------------------------------------------------------------------
 */

static void dnnl_backend_close(struct dbos_backend *opaque) {
    struct dnnl_backend *backend = (struct dnnl_backend *)opaque;
    if (backend->stream != NULL) {
        (void)dnnl_stream_destroy(backend->stream);
    }
    if (backend->engine != NULL) {
        (void)dnnl_engine_destroy(backend->engine);
    }
    dbos_give(backend->base.alloc, backend->scratch);
    dbos_give(backend->base.alloc, backend);
}

static enum dbos_err dnnl_backend_open(struct dbos_alloc *alloc,
                                       const struct dbos_backend_options *options,
                                       struct dbos_backend **out, struct dbos_errinfo *info) {
    struct dnnl_backend *backend = dbos_take_zero(alloc, sizeof *backend);
    *out = NULL;
    if (backend == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a backend");
    }
    backend->base.ops = &dbos_backend_dnnl;
    backend->base.alloc = alloc;
    backend->threads = options->threads == 0 ? 1 : options->threads;
    enum dbos_err err =
        check(dnnl_engine_create(&backend->engine, dnnl_cpu, 0), "a CPU engine", info);
    if (err == DBOS_OK) {
        err =
            check(dnnl_stream_create(&backend->stream, backend->engine, dnnl_stream_default_flags),
                  "a stream", info);
    }
    if (err != DBOS_OK) {
        dnnl_backend_close(&backend->base);
        return err;
    }
    *out = &backend->base;
    return DBOS_OK;
}

/* The thread count is a property of the calling thread. */
static void use_threads(const struct dnnl_backend *backend) {
    omp_set_num_threads((int)backend->threads);
}

/* --- Plans for inference -----------------------------------------------------------------------
 */

static enum dbos_err plan_floats(struct dnnl_backend *backend, struct stage *stage, uint32_t batch,
                                 uint32_t inputs, struct dbos_errinfo *info) {
    dnnl_memory_desc_t pixels = matrix(batch, inputs, dnnl_u8, dnnl_ab);
    dnnl_memory_desc_t floats = matrix(batch, inputs, dnnl_f32, dnnl_ab);
    dnnl_primitive_attr_t attr = NULL;
    dnnl_primitive_desc_t desc = NULL;
    const float scale = 1.0f / 255.0f;
    enum dbos_err err = check(dnnl_primitive_attr_create(&attr), "attributes", info);
    if (err != DBOS_OK) {
        return err;
    }
    err = check(dnnl_primitive_attr_set_output_scales(attr, 1, 0, &scale), "a scale", info);
    if (err == DBOS_OK) {
        err = check(dnnl_reorder_primitive_desc_create(&desc, &pixels, backend->engine, &floats,
                                                       backend->engine, attr),
                    "a pixel conversion", info);
    }
    (void)dnnl_primitive_attr_destroy(attr);
    if (err == DBOS_OK) {
        err = stage_primitive(stage, desc, "a pixel conversion", info);
    }
    if (err == DBOS_OK) {
        err = stage_arg(stage, backend->engine, DNNL_ARG_FROM, &pixels, NULL, info);
    }
    return err != DBOS_OK ? err
                          : stage_arg(stage, backend->engine, DNNL_ARG_TO, &floats, NULL, info);
}

static enum dbos_err relu_attr(dnnl_primitive_attr_t *out, struct dbos_errinfo *info) {
    dnnl_post_ops_t ops = NULL;
    *out = NULL;
    enum dbos_err err = check(dnnl_post_ops_create(&ops), "post-operations", info);
    if (err != DBOS_OK) {
        return err;
    }
    err = check(dnnl_post_ops_append_eltwise(ops, 1.0f, dnnl_eltwise_relu, 0.0f, 0.0f), "a relu",
                info);
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_attr_create(out), "attributes", info);
    }
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_attr_set_post_ops(*out, ops), "a relu", info);
    }
    (void)dnnl_post_ops_destroy(ops);
    return err;
}

/* A dense layer: rows × columns weights applied to a batch. */
struct dense {
    uint32_t batch;
    uint32_t inputs;
    uint32_t outputs;
    bool relu;
    bool training; /* forward primitive that a backward one may follow */
};

/* *layout is the weights' layout to use; with format `any` oneDNN chooses and it is set. */
static enum dbos_err dense_forward(struct dnnl_backend *backend, struct stage *stage,
                                   const struct dense *dense, dnnl_memory_desc_t *layout,
                                   dnnl_primitive_desc_t *hint, struct dbos_errinfo *info) {
    dnnl_memory_desc_t src = matrix(dense->batch, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t bias = vector(dense->outputs);
    dnnl_memory_desc_t dst = matrix(dense->batch, dense->outputs, dnnl_f32, dnnl_ab);
    dnnl_inner_product_desc_t op;
    dnnl_primitive_desc_t desc = NULL;
    dnnl_primitive_attr_t attr = NULL;
    enum dbos_err err =
        check(dnnl_inner_product_forward_desc_init(
                  &op, dense->training ? dnnl_forward_training : dnnl_forward_inference, &src,
                  layout, &bias, &dst),
              "a dense layer", info);
    if (err == DBOS_OK && dense->relu) {
        err = relu_attr(&attr, info);
    }
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_desc_create(&desc, &op, attr, backend->engine, NULL),
                    "a dense layer", info);
    }
    if (attr != NULL) {
        (void)dnnl_primitive_attr_destroy(attr);
    }
    if (err != DBOS_OK) {
        return err;
    }
    *layout = *dnnl_primitive_desc_query_md(desc, dnnl_query_weights_md, 0);
    if (hint != NULL &&
        (err = check(dnnl_primitive_desc_clone(hint, desc), "a hint", info)) != DBOS_OK) {
        (void)dnnl_primitive_desc_destroy(desc);
        return err;
    }
    err = stage_primitive(stage, desc, "a dense layer", info);
    const struct {
        int arg;
        const dnnl_memory_desc_t *desc;
    } args[] = {{DNNL_ARG_SRC, &src},
                {DNNL_ARG_WEIGHTS, layout},
                {DNNL_ARG_BIAS, &bias},
                {DNNL_ARG_DST, &dst}};
    for (size_t i = 0; i < sizeof args / sizeof args[0] && err == DBOS_OK; i++) {
        err = stage_arg(stage, backend->engine, args[i].arg, args[i].desc, NULL, info);
    }
    return err;
}

static enum dbos_err plan_softmax(struct dnnl_backend *backend, struct stage *stage, uint32_t batch,
                                  uint32_t outputs, struct dbos_errinfo *info) {
    dnnl_memory_desc_t scores = matrix(batch, outputs, dnnl_f32, dnnl_ab);
    dnnl_softmax_desc_t op;
    dnnl_primitive_desc_t desc = NULL;
    enum dbos_err err = check(
        dnnl_softmax_forward_desc_init(&op, dnnl_forward_inference, &scores, 1), "softmax", info);
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_desc_create(&desc, &op, NULL, backend->engine, NULL), "softmax",
                    info);
    }
    if (err == DBOS_OK) {
        err = stage_primitive(stage, desc, "softmax", info);
    }
    if (err == DBOS_OK) {
        err = stage_arg(stage, backend->engine, DNNL_ARG_SRC, &scores, NULL, info);
    }
    return err != DBOS_OK ? err
                          : stage_arg(stage, backend->engine, DNNL_ARG_DST, &scores, NULL, info);
}

static enum dbos_err plan_bucket(struct dnnl_backend *backend, struct dnnl_model *model,
                                 size_t bucket, struct dbos_errinfo *info) {
    struct plan *plan = &model->plans[bucket];
    uint32_t batch = buckets[bucket];
    struct dense first = {
        .batch = batch, .inputs = model->inputs, .outputs = model->hidden, .relu = true};
    struct dense second = {.batch = batch, .inputs = model->hidden, .outputs = model->outputs};
    enum dbos_err err =
        plan_floats(backend, &plan->stages[STAGE_FLOATS], batch, model->inputs, info);
    if (err == DBOS_OK) {
        err = dense_forward(backend, &plan->stages[STAGE_HIDDEN], &first, &model->w1_layout, NULL,
                            info);
    }
    if (err == DBOS_OK) {
        err = dense_forward(backend, &plan->stages[STAGE_SCORES], &second, &model->w2_layout, NULL,
                            info);
    }
    if (err == DBOS_OK) {
        err = plan_softmax(backend, &plan->stages[STAGE_SOFTMAX], batch, model->outputs, info);
    }
    return err;
}

/* --- Models ------------------------------------------------------------------------------------
 */

/* Copy plain weights into the layout that the plans use. */
static enum dbos_err reorder(struct dnnl_backend *backend, const float *from, uint32_t rows,
                             uint32_t columns, const dnnl_memory_desc_t *layout, float *to,
                             struct dbos_errinfo *info) {
    dnnl_memory_desc_t plain = matrix(rows, columns, dnnl_f32, dnnl_ab);
    dnnl_primitive_desc_t desc = NULL;
    struct stage stage = {0};
    enum dbos_err err = check(dnnl_reorder_primitive_desc_create(&desc, &plain, backend->engine,
                                                                 layout, backend->engine, NULL),
                              "a reorder", info);
    /* Once per load: any kernel will do. */
    if (err == DBOS_OK) {
        err = check(dnnl_primitive_create(&stage.primitive, desc), "a reorder", info);
        (void)dnnl_primitive_desc_destroy(desc);
    }
    if (err == DBOS_OK) {
        err = stage_arg(&stage, backend->engine, DNNL_ARG_FROM, &plain, (void *)(uintptr_t)from,
                        info);
    }
    if (err == DBOS_OK) {
        err = stage_arg(&stage, backend->engine, DNNL_ARG_TO, layout, to, info);
    }
    if (err == DBOS_OK) {
        err = stage_run(&stage, backend->stream, info);
    }
    if (err == DBOS_OK) {
        err = check(dnnl_stream_wait(backend->stream), "a reorder", info);
    }
    stage_fini(&stage);
    return err;
}

static enum dbos_err hold_weights(struct dnnl_backend *backend, struct dnnl_model *model,
                                  const struct dbos_mlp *mlp, struct dbos_errinfo *info) {
    size_t w1_bytes = aligned(dnnl_memory_desc_get_size(&model->w1_layout));
    size_t b1_bytes = aligned(mlp->hidden * sizeof(float));
    size_t w2_bytes = aligned(dnnl_memory_desc_get_size(&model->w2_layout));
    size_t b2_bytes = aligned(mlp->outputs * sizeof(float));
    model->weights = dbos_take_zero(backend->base.alloc,
                                    w1_bytes + b1_bytes + w2_bytes + b2_bytes + ALIGN_BYTES);
    if (model->weights == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model's weights");
    }
    uint8_t *next = align_up(model->weights);
    model->w1 = (float *)(void *)next;
    model->b1 = (float *)(void *)(next + w1_bytes);
    model->w2 = (float *)(void *)(next + w1_bytes + b1_bytes);
    model->b2 = (float *)(void *)(next + w1_bytes + b1_bytes + w2_bytes);
    memcpy(model->b1, mlp->b1, mlp->hidden * sizeof(float));
    memcpy(model->b2, mlp->b2, mlp->outputs * sizeof(float));
    enum dbos_err err =
        reorder(backend, mlp->w1, mlp->hidden, mlp->inputs, &model->w1_layout, model->w1, info);
    return err != DBOS_OK ? err
                          : reorder(backend, mlp->w2, mlp->outputs, mlp->hidden, &model->w2_layout,
                                    model->w2, info);
}

static enum dbos_err grow_scratch(struct dnnl_backend *backend, const struct dnnl_model *model,
                                  struct dbos_errinfo *info) {
    size_t row =
        aligned(model->inputs) +
        (aligned(model->inputs) + aligned(model->hidden) + aligned(model->outputs)) * sizeof(float);
    size_t bytes = row * BUCKET_MAX + 5 * ALIGN_BYTES;
    if (bytes <= backend->scratch_bytes) {
        return DBOS_OK;
    }
    uint8_t *scratch = dbos_take(backend->base.alloc, bytes);
    if (scratch == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a batch's activations");
    }
    dbos_give(backend->base.alloc, backend->scratch);
    backend->scratch = scratch;
    backend->scratch_bytes = bytes;
    return DBOS_OK;
}

static void dnnl_unload_model(struct dbos_backend *opaque,
                              struct dbos_backend_model *opaque_model) {
    struct dnnl_backend *backend = (struct dnnl_backend *)opaque;
    struct dnnl_model *model = (struct dnnl_model *)opaque_model;
    if (model == NULL) {
        return;
    }
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        for (int i = 0; i < STAGES; i++) {
            stage_fini(&model->plans[bucket].stages[i]);
        }
    }
    dbos_give(backend->base.alloc, model->weights);
    dbos_give(backend->base.alloc, model);
}

/* Plan all batch sizes on the layout that the largest prefers. */
static enum dbos_err plan_model(struct dnnl_backend *backend, struct dnnl_model *model,
                                struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    model->w1_layout = matrix(model->hidden, model->inputs, dnnl_f32, dnnl_format_tag_any);
    model->w2_layout = matrix(model->outputs, model->hidden, dnnl_f32, dnnl_format_tag_any);
    for (size_t i = BUCKETS; i-- > 0 && err == DBOS_OK;) {
        err = plan_bucket(backend, model, i, info);
    }
    return err;
}

static enum dbos_err dnnl_load_model(struct dbos_backend *opaque, const struct dbos_mlp *mlp,
                                     struct dbos_backend_model **out, struct dbos_errinfo *info) {
    struct dnnl_backend *backend = (struct dnnl_backend *)opaque;
    struct dnnl_model *model = dbos_take_zero(backend->base.alloc, sizeof *model);
    *out = NULL;
    if (model == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model");
    }
    use_threads(backend);
    model->inputs = mlp->inputs;
    model->hidden = mlp->hidden;
    model->outputs = mlp->outputs;
    enum dbos_err err = plan_model(backend, model, info);
    if (err == DBOS_OK) {
        err = hold_weights(backend, model, mlp, info);
    }
    if (err == DBOS_OK) {
        err = grow_scratch(backend, model, info);
    }
    if (err != DBOS_OK) {
        dnnl_unload_model(opaque, (struct dbos_backend_model *)model);
        return err;
    }
    *out = (struct dbos_backend_model *)model;
    return DBOS_OK;
}

/* --- Inference ---------------------------------------------------------------------------------
 */

struct activations {
    uint8_t *pixels; /* a padded copy, where the batch is smaller than its plan */
    float *x;
    float *hidden;
    float *scores;
};

static struct activations activations_of(const struct dnnl_backend *backend,
                                         const struct dnnl_model *model) {
    struct activations a;
    uint8_t *next = align_up(backend->scratch);
    a.pixels = next;
    next += aligned((size_t)model->inputs * BUCKET_MAX);
    a.x = (float *)(void *)next;
    next += aligned((size_t)model->inputs * BUCKET_MAX * sizeof(float));
    a.hidden = (float *)(void *)next;
    next += aligned((size_t)model->hidden * BUCKET_MAX * sizeof(float));
    a.scores = (float *)(void *)next;
    DBOS_CHECK(next + (size_t)model->outputs * BUCKET_MAX * sizeof(float) <=
               backend->scratch + backend->scratch_bytes);
    return a;
}

/* The plan to run next with `left` images to go: pad up to the next size if at least half of it is
 * used, else fill the largest size that is not larger. */
static size_t bucket_for(uint32_t left) {
    size_t above = 0;
    while (above < BUCKETS - 1 && buckets[above] < left) {
        above++;
    }
    bool fits = buckets[above] <= left || buckets[above] <= 2 * (uint64_t)left;
    return fits ? above : above - 1;
}

static enum dbos_err bind_plan(struct plan *plan, const struct dnnl_model *model,
                               const struct activations *a, const uint8_t *pixels,
                               struct dbos_errinfo *info) {
    const struct {
        int stage;
        int arg;
        void *data;
    } bindings[] = {
        {STAGE_FLOATS, DNNL_ARG_FROM, (void *)(uintptr_t)pixels},
        {STAGE_FLOATS, DNNL_ARG_TO, a->x},
        {STAGE_HIDDEN, DNNL_ARG_SRC, a->x},
        {STAGE_HIDDEN, DNNL_ARG_WEIGHTS, model->w1},
        {STAGE_HIDDEN, DNNL_ARG_BIAS, model->b1},
        {STAGE_HIDDEN, DNNL_ARG_DST, a->hidden},
        {STAGE_SCORES, DNNL_ARG_SRC, a->hidden},
        {STAGE_SCORES, DNNL_ARG_WEIGHTS, model->w2},
        {STAGE_SCORES, DNNL_ARG_BIAS, model->b2},
        {STAGE_SCORES, DNNL_ARG_DST, a->scores},
        {STAGE_SOFTMAX, DNNL_ARG_SRC, a->scores},
        {STAGE_SOFTMAX, DNNL_ARG_DST, a->scores},
    };
    enum dbos_err err = DBOS_OK;
    for (size_t i = 0; i < sizeof bindings / sizeof bindings[0] && err == DBOS_OK; i++) {
        err = stage_bind(&plan->stages[bindings[i].stage], bindings[i].arg, bindings[i].data, info);
    }
    return err;
}

static void read_scores(const float *scores, uint32_t count, uint32_t outputs, uint8_t *labels,
                        float *probabilities) {
    for (uint32_t n = 0; n < count; n++) {
        const float *row = scores + (size_t)n * outputs;
        uint32_t best = 0;
        for (uint32_t i = 1; i < outputs; i++) {
            best = row[i] > row[best] ? i : best;
        }
        labels[n] = (uint8_t)best;
        probabilities[n] = row[best];
    }
}

/* Run one plan on up to its size of images; *done says how many. */
static enum dbos_err infer_batch(struct dnnl_backend *backend, struct dnnl_model *model,
                                 const uint8_t *pixels, uint32_t left, uint8_t *labels,
                                 float *probabilities, uint32_t *done, struct dbos_errinfo *info) {
    struct activations a = activations_of(backend, model);
    size_t bucket = bucket_for(left);
    struct plan *plan = &model->plans[bucket];
    *done = left < buckets[bucket] ? left : buckets[bucket];
    if (*done < buckets[bucket]) {
        size_t bytes = (size_t)*done * model->inputs;
        memcpy(a.pixels, pixels, bytes);
        memset(a.pixels + bytes, 0, (size_t)buckets[bucket] * model->inputs - bytes);
        pixels = a.pixels;
    }
    enum dbos_err err = bind_plan(plan, model, &a, pixels, info);
    for (int i = 0; i < STAGES && err == DBOS_OK; i++) {
        err = stage_run(&plan->stages[i], backend->stream, info);
    }
    if (err == DBOS_OK) {
        err = check(dnnl_stream_wait(backend->stream), "a run", info);
    }
    if (err == DBOS_OK) {
        read_scores(a.scores, *done, model->outputs, labels, probabilities);
    }
    return err;
}

static enum dbos_err dnnl_infer(struct dbos_backend *opaque, struct dbos_backend_model *model,
                                const uint8_t *pixels, uint32_t count, uint8_t *labels,
                                float *probabilities, struct dbos_errinfo *info) {
    struct dnnl_backend *backend = (struct dnnl_backend *)opaque;
    struct dnnl_model *own = (struct dnnl_model *)model;
    enum dbos_err err = DBOS_OK;
    use_threads(backend);
    for (uint32_t at = 0; at < count && err == DBOS_OK;) {
        uint32_t done = 0;
        err = infer_batch(backend, own, pixels + (size_t)at * own->inputs, count - at, labels + at,
                          probabilities + at, &done, info);
        at += done;
    }
    return err;
}

/* --- Training ----------------------------------------------------------------------------------
 */

enum { T_HIDDEN, T_SCORES, T_BACK_SCORES_W, T_BACK_SCORES, T_BACK_HIDDEN_W, T_STAGES };

/* The primitives of one batch size. */
struct train_plan {
    uint32_t batch;
    struct stage stages[T_STAGES];
};

struct dnnl_trainer {
    struct dnnl_backend *backend;
    struct train_plan plans[2]; /* the batch size, and that of the last batch of an epoch */
    uint8_t *block;             /* activations */
    float *hidden;
    float *scores;
    float *diff_hidden;
};

/* Takes the operation's description and the forward hint; gives the stage its primitive. */
static enum dbos_err back_primitive(struct dnnl_backend *backend, struct stage *stage,
                                    const dnnl_inner_product_desc_t *op, dnnl_primitive_desc_t hint,
                                    struct dbos_errinfo *info) {
    dnnl_primitive_desc_t desc = NULL;
    enum dbos_err err = check(dnnl_primitive_desc_create(&desc, op, NULL, backend->engine, hint),
                              "a backward pass", info);
    return err != DBOS_OK ? err : stage_primitive(stage, desc, "a backward pass", info);
}

static enum dbos_err back_weights(struct dnnl_backend *backend, struct stage *stage,
                                  const struct dense *dense, dnnl_primitive_desc_t hint,
                                  struct dbos_errinfo *info) {
    dnnl_memory_desc_t src = matrix(dense->batch, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t weights = matrix(dense->outputs, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t bias = vector(dense->outputs);
    dnnl_memory_desc_t dst = matrix(dense->batch, dense->outputs, dnnl_f32, dnnl_ab);
    dnnl_inner_product_desc_t op;
    enum dbos_err err =
        check(dnnl_inner_product_backward_weights_desc_init(&op, &src, &weights, &bias, &dst),
              "a backward pass", info);
    if (err == DBOS_OK) {
        err = back_primitive(backend, stage, &op, hint, info);
    }
    const struct {
        int arg;
        const dnnl_memory_desc_t *desc;
    } args[] = {{DNNL_ARG_SRC, &src},
                {DNNL_ARG_DIFF_WEIGHTS, &weights},
                {DNNL_ARG_DIFF_BIAS, &bias},
                {DNNL_ARG_DIFF_DST, &dst}};
    for (size_t i = 0; i < sizeof args / sizeof args[0] && err == DBOS_OK; i++) {
        err = stage_arg(stage, backend->engine, args[i].arg, args[i].desc, NULL, info);
    }
    return err;
}

static enum dbos_err back_data(struct dnnl_backend *backend, struct stage *stage,
                               const struct dense *dense, dnnl_primitive_desc_t hint,
                               struct dbos_errinfo *info) {
    dnnl_memory_desc_t src = matrix(dense->batch, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t weights = matrix(dense->outputs, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_memory_desc_t dst = matrix(dense->batch, dense->outputs, dnnl_f32, dnnl_ab);
    dnnl_inner_product_desc_t op;
    enum dbos_err err = check(dnnl_inner_product_backward_data_desc_init(&op, &src, &weights, &dst),
                              "a backward pass", info);
    if (err == DBOS_OK) {
        err = back_primitive(backend, stage, &op, hint, info);
    }
    const struct {
        int arg;
        const dnnl_memory_desc_t *desc;
    } args[] = {{DNNL_ARG_DIFF_SRC, &src}, {DNNL_ARG_WEIGHTS, &weights}, {DNNL_ARG_DIFF_DST, &dst}};
    for (size_t i = 0; i < sizeof args / sizeof args[0] && err == DBOS_OK; i++) {
        err = stage_arg(stage, backend->engine, args[i].arg, args[i].desc, NULL, info);
    }
    return err;
}

static enum dbos_err plan_dense_training(struct dnnl_backend *backend, const struct dense *dense,
                                         struct stage *forward, struct stage *weights,
                                         struct stage *data, struct dbos_errinfo *info) {
    dnnl_memory_desc_t layout = matrix(dense->outputs, dense->inputs, dnnl_f32, dnnl_ab);
    dnnl_primitive_desc_t hint = NULL;
    struct dense plain = *dense;
    struct stage unused = {0};
    /* The backward hint must be a forward pass without the fused relu. */
    plain.relu = false;
    enum dbos_err err = dense_forward(backend, &unused, &plain, &layout, &hint, info);
    stage_fini(&unused);
    if (err == DBOS_OK) {
        err = dense_forward(backend, forward, dense, &layout, NULL, info);
    }
    if (err == DBOS_OK) {
        err = back_weights(backend, weights, dense, hint, info);
    }
    if (err == DBOS_OK && data != NULL) {
        err = back_data(backend, data, dense, hint, info);
    }
    if (hint != NULL) {
        (void)dnnl_primitive_desc_destroy(hint);
    }
    return err;
}

static enum dbos_err plan_training(struct dnnl_backend *backend, struct train_plan *plan,
                                   const struct dbos_train_params *params, uint32_t batch,
                                   struct dbos_errinfo *info) {
    struct dense first = {.batch = batch,
                          .inputs = params->inputs,
                          .outputs = params->hidden,
                          .relu = true,
                          .training = true};
    struct dense second = {
        .batch = batch, .inputs = params->hidden, .outputs = params->outputs, .training = true};
    plan->batch = batch;
    enum dbos_err err = plan_dense_training(backend, &first, &plan->stages[T_HIDDEN],
                                            &plan->stages[T_BACK_HIDDEN_W], NULL, info);
    if (err == DBOS_OK) {
        err =
            plan_dense_training(backend, &second, &plan->stages[T_SCORES],
                                &plan->stages[T_BACK_SCORES_W], &plan->stages[T_BACK_SCORES], info);
    }
    return err;
}

static enum dbos_err bind_training(const struct dnnl_trainer *t, struct train_plan *plan,
                                   const struct dbos_mlp *mlp, const struct dbos_train_batch *batch,
                                   struct dbos_mlp *out, struct dbos_errinfo *info) {
    const struct {
        int stage;
        int arg;
        void *data;
    } bindings[] = {
        {T_HIDDEN, DNNL_ARG_SRC, (void *)(uintptr_t)batch->x},
        {T_HIDDEN, DNNL_ARG_WEIGHTS, mlp->w1},
        {T_HIDDEN, DNNL_ARG_BIAS, mlp->b1},
        {T_HIDDEN, DNNL_ARG_DST, t->hidden},
        {T_SCORES, DNNL_ARG_SRC, t->hidden},
        {T_SCORES, DNNL_ARG_WEIGHTS, mlp->w2},
        {T_SCORES, DNNL_ARG_BIAS, mlp->b2},
        {T_SCORES, DNNL_ARG_DST, t->scores},
        {T_BACK_SCORES_W, DNNL_ARG_SRC, t->hidden},
        {T_BACK_SCORES_W, DNNL_ARG_DIFF_WEIGHTS, out->w2},
        {T_BACK_SCORES_W, DNNL_ARG_DIFF_BIAS, out->b2},
        {T_BACK_SCORES_W, DNNL_ARG_DIFF_DST, t->scores},
        {T_BACK_SCORES, DNNL_ARG_DIFF_SRC, t->diff_hidden},
        {T_BACK_SCORES, DNNL_ARG_WEIGHTS, mlp->w2},
        {T_BACK_SCORES, DNNL_ARG_DIFF_DST, t->scores},
        {T_BACK_HIDDEN_W, DNNL_ARG_SRC, (void *)(uintptr_t)batch->x},
        {T_BACK_HIDDEN_W, DNNL_ARG_DIFF_WEIGHTS, out->w1},
        {T_BACK_HIDDEN_W, DNNL_ARG_DIFF_BIAS, out->b1},
        {T_BACK_HIDDEN_W, DNNL_ARG_DIFF_DST, t->diff_hidden},
    };
    enum dbos_err err = DBOS_OK;
    for (size_t i = 0; i < sizeof bindings / sizeof bindings[0] && err == DBOS_OK; i++) {
        err = stage_bind(&plan->stages[bindings[i].stage], bindings[i].arg, bindings[i].data, info);
    }
    return err;
}

/* Turn scores into the gradient of the mean loss with respect to them. */
static void loss_and_gradient(const struct dnnl_trainer *t, const struct dbos_train_batch *batch,
                              uint32_t outputs, double *loss_sum, uint32_t *correct) {
    float scale = 1.0f / (float)batch->count;
    for (uint32_t n = 0; n < batch->count; n++) {
        float *row = t->scores + (size_t)n * outputs;
        bool right = false;
        *loss_sum += dbos_train_softmax(row, outputs, batch->labels[n], &right);
        *correct += right ? 1 : 0;
        for (uint32_t i = 0; i < outputs; i++) {
            row[i] *= scale;
        }
    }
}

/* Where relu was zero, so is its derivative. */
static void mask_relu(float *restrict diff, const float *restrict hidden, size_t count) {
    for (size_t i = 0; i < count; i++) {
        diff[i] = hidden[i] > 0 ? diff[i] : 0;
    }
}

static enum dbos_err run_stages(const struct dnnl_trainer *t, const struct train_plan *plan,
                                int from, int to, struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    for (int i = from; i <= to && err == DBOS_OK; i++) {
        err = stage_run(&plan->stages[i], t->backend->stream, info);
    }
    return err != DBOS_OK ? err : check(dnnl_stream_wait(t->backend->stream), "a run", info);
}

static enum dbos_err dnnl_gradients(void *state, const struct dbos_mlp *mlp,
                                    const struct dbos_train_batch *batch, struct dbos_mlp *out,
                                    double *loss_sum, uint32_t *correct,
                                    struct dbos_errinfo *info) {
    struct dnnl_trainer *t = state;
    struct train_plan *plan = &t->plans[batch->count == t->plans[0].batch ? 0 : 1];
    DBOS_CHECK(plan->batch == batch->count);
    *loss_sum = 0;
    *correct = 0;
    use_threads(t->backend);
    enum dbos_err err = bind_training(t, plan, mlp, batch, out, info);
    if (err == DBOS_OK) {
        err = run_stages(t, plan, T_HIDDEN, T_SCORES, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    loss_and_gradient(t, batch, mlp->outputs, loss_sum, correct);
    err = run_stages(t, plan, T_BACK_SCORES_W, T_BACK_SCORES, info);
    if (err != DBOS_OK) {
        return err;
    }
    mask_relu(t->diff_hidden, t->hidden, (size_t)batch->count * mlp->hidden);
    return run_stages(t, plan, T_BACK_HIDDEN_W, T_BACK_HIDDEN_W, info);
}

static enum dbos_err trainer_open(struct dnnl_trainer *t, const struct dbos_train_job *job,
                                  struct dbos_errinfo *info) {
    const struct dbos_train_params *p = &job->params;
    uint32_t batch = p->batch_size < job->count ? p->batch_size : job->count;
    uint32_t last = job->count % batch;
    size_t hidden_bytes = aligned((size_t)batch * p->hidden * sizeof(float));
    size_t scores_bytes = aligned((size_t)batch * p->outputs * sizeof(float));
    t->block = dbos_take(t->backend->base.alloc, 2 * hidden_bytes + scores_bytes + ALIGN_BYTES);
    if (t->block == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to train");
    }
    uint8_t *next = align_up(t->block);
    t->hidden = (float *)(void *)next;
    t->diff_hidden = (float *)(void *)(next + hidden_bytes);
    t->scores = (float *)(void *)(next + 2 * hidden_bytes);
    enum dbos_err err = plan_training(t->backend, &t->plans[0], p, batch, info);
    if (err == DBOS_OK && last != 0) {
        err = plan_training(t->backend, &t->plans[1], p, last, info);
    }
    return err;
}

static void trainer_close(struct dnnl_trainer *t) {
    for (size_t i = 0; i < sizeof t->plans / sizeof t->plans[0]; i++) {
        for (int s = 0; s < T_STAGES; s++) {
            stage_fini(&t->plans[i].stages[s]);
        }
    }
    dbos_give(t->backend->base.alloc, t->block);
}

static enum dbos_err dnnl_train(struct dbos_backend *opaque, const struct dbos_train_job *job,
                                struct dbos_mlp **out, struct dbos_train_report *report,
                                struct dbos_errinfo *info) {
    struct dnnl_trainer t = {.backend = (struct dnnl_backend *)opaque};
    struct dbos_train_engine engine = {.state = &t, .gradients = dnnl_gradients};
    *out = NULL;
    enum dbos_err err = dbos_train_check(&job->params, job->count, info);
    if (err != DBOS_OK) {
        return err;
    }
    use_threads(t.backend);
    err = trainer_open(&t, job, info);
    if (err == DBOS_OK) {
        err = dbos_train_run(opaque->alloc, job, &engine, out, report, info);
    }
    trainer_close(&t);
    return err;
}

const struct dbos_backend_ops dbos_backend_dnnl = {
    .name = "dnnl",
    .open = dnnl_backend_open,
    .close = dnnl_backend_close,
    .load_model = dnnl_load_model,
    .unload_model = dnnl_unload_model,
    .infer = dnnl_infer,
    .train = dnnl_train,
};
