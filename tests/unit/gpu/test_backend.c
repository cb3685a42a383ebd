#include <criterion/criterion.h>
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "gpu/backend.h"
#include "gpu/train.h"
#include "tests/unit/gpu/mnist.h"

TestSuite(gpu_backend, .timeout = 280);

static struct dbos_backend *open_backend(struct dbos_alloc *alloc, const char *name) {
    struct dbos_backend_options options = {.threads = 1};
    struct dbos_backend *backend = NULL;
    struct dbos_errinfo info = {0};
    const struct dbos_backend_ops *ops = dbos_backend_find(name);
    cr_assert(ops != NULL);
    cr_assert(ops->open(alloc, &options, &backend, &info) == DBOS_OK, "%s", info.message);
    return backend;
}

static struct dbos_mlp *random_mlp(struct dbos_alloc *alloc, uint32_t inputs, uint32_t hidden,
                                   uint32_t outputs, uint64_t seed) {
    struct dbos_mlp *mlp = NULL;
    struct dbos_rng rng;
    cr_assert(dbos_mlp_open(alloc, inputs, hidden, outputs, &mlp, NULL) == DBOS_OK);
    dbos_train_start(mlp, seed);
    dbos_rng_init(&rng, seed + 1000);
    for (uint32_t i = 0; i < hidden; i++) {
        mlp->b1[i] = (float)(dbos_rng_unit(&rng) - 0.5);
    }
    for (uint32_t i = 0; i < outputs; i++) {
        mlp->b2[i] = (float)(dbos_rng_unit(&rng) - 0.5);
    }
    return mlp;
}

static uint8_t *random_bytes(struct dbos_alloc *alloc, size_t count, uint64_t seed) {
    struct dbos_rng rng;
    uint8_t *bytes = dbos_take(alloc, count);
    dbos_rng_init(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        bytes[i] = (uint8_t)dbos_rng_next(&rng);
    }
    return bytes;
}

struct answers {
    uint8_t *labels;
    float *probabilities;
};

static struct answers ask(struct dbos_alloc *alloc, struct dbos_backend *backend,
                          const struct dbos_mlp *mlp, const uint8_t *pixels, uint32_t count) {
    struct answers a = {dbos_take(alloc, count), dbos_take(alloc, count * sizeof(float))};
    struct dbos_backend_model *model = NULL;
    struct dbos_errinfo info = {0};
    cr_assert(backend->ops->load_model(backend, mlp, &model, &info) == DBOS_OK, "%s", info.message);
    cr_assert(backend->ops->infer(backend, model, pixels, count, a.labels, a.probabilities,
                                  &info) == DBOS_OK,
              "%s", info.message);
    backend->ops->unload_model(backend, model);
    return a;
}

/* Goal: the fast kernels compute what the formula says, for every plan and every padding.
 * Method: random models of the paper's and odd sizes; counts below, at and above each plan's. */
Test(gpu_backend, onednn_agrees_with_the_reference) {
    static const uint32_t counts[] = {1, 2, 7, 8, 9, 40, 64, 130, 256, 300, 1199, 1200, 1333};
    static const uint32_t sizes[][3] = {{784, 512, 10}, {33, 17, 3}, {5, 1, 256}, {1, 70, 2}};
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_backend *fast = open_backend(&alloc, "dnnl");
    struct dbos_backend *ref = open_backend(&alloc, "ref");
    for (size_t s = 0; s < 4; s++) {
        struct dbos_mlp *mlp = random_mlp(&alloc, sizes[s][0], sizes[s][1], sizes[s][2], s);
        uint8_t *pixels = random_bytes(&alloc, (size_t)1333 * mlp->inputs, s);
        struct answers right = ask(&alloc, ref, mlp, pixels, 1333);
        for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
            struct answers a = ask(&alloc, fast, mlp, pixels, counts[i]);
            for (uint32_t n = 0; n < counts[i]; n++) {
                float diff = fabsf(a.probabilities[n] - right.probabilities[n]);
                cr_assert(diff <= 1e-4f, "size %zu image %u of %u: %g", s, n, counts[i],
                          (double)diff);
                /* Another label only where the two best are that near. */
                cr_assert(a.labels[n] == right.labels[n] || right.probabilities[n] <= 0.5001f);
            }
            dbos_give(&alloc, a.labels);
            dbos_give(&alloc, a.probabilities);
        }
        dbos_give(&alloc, right.labels);
        dbos_give(&alloc, right.probabilities);
        dbos_give(&alloc, pixels);
        dbos_mlp_close(&alloc, mlp);
    }
    fast->ops->close(fast);
    ref->ops->close(ref);
    dbos_alloc_fini(&alloc);
}

/* Goal: a batch that is smaller than its plan is padded from a copy, never from what follows it.
 * Method: the images end at a page that can not be read; the kernels are no compiled C, so that a
 * sanitizer would not see them. */
Test(gpu_backend, inference_reads_nothing_after_the_last_image) {
    static const uint32_t counts[] = {1, 5, 9, 40, 200, 700, 1201};
    struct dbos_alloc alloc;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_backend *backend = open_backend(&alloc, "dnnl");
    struct dbos_mlp *mlp = random_mlp(&alloc, 784, 16, 10, 1);
    size_t room = ((size_t)1201 * 784 / page + 1) * page;
    uint8_t *map =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert(map != MAP_FAILED && mprotect(map + room, page, PROT_NONE) == 0);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
        struct answers a =
            ask(&alloc, backend, mlp, map + room - (size_t)counts[i] * 784, counts[i]);
        cr_expect(a.labels[counts[i] - 1] < 10);
        dbos_give(&alloc, a.labels);
        dbos_give(&alloc, a.probabilities);
    }
    cr_assert(munmap(map, room + page) == 0);
    dbos_mlp_close(&alloc, mlp);
    backend->ops->close(backend);
    dbos_alloc_fini(&alloc);
}

Test(gpu_backend, load_survives_every_failed_take_and_gives_all_memory_back) {
    struct dbos_alloc alloc;
    bool loaded = false;
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_mlp *mlp = random_mlp(&alloc, 12, 8, 4, 1);
    for (int64_t nth = 1; !loaded; nth++) {
        struct dbos_backend *backend = open_backend(&alloc, "dnnl");
        uint64_t before = atomic_load(&alloc.bytes);
        struct dbos_backend_model *model = NULL;
        atomic_store(&alloc.fail_countdown, nth);
        loaded = backend->ops->load_model(backend, mlp, &model, NULL) == DBOS_OK;
        atomic_store(&alloc.fail_countdown, 0);
        cr_assert((model != NULL) == loaded && nth < 20);
        backend->ops->unload_model(backend, model);
        cr_expect(loaded || atomic_load(&alloc.bytes) == before);
        backend->ops->close(backend);
    }
    dbos_mlp_close(&alloc, mlp);
    dbos_alloc_fini(&alloc);
}

/* --- Training ----------------------------------------------------------------------------------
 */

struct examples {
    uint32_t count;
    uint8_t *pixels;
    uint8_t *labels;
    const uint8_t **rows;
};

/* Images whose label is the brightest of the first `outputs` pixels' regions. */
static struct examples make_examples(struct dbos_alloc *alloc, uint32_t count, uint32_t inputs,
                                     uint32_t outputs) {
    struct examples e = {count, random_bytes(alloc, (size_t)count * inputs, 3),
                         dbos_take(alloc, count), dbos_take(alloc, count * sizeof(uint8_t *))};
    for (uint32_t n = 0; n < count; n++) {
        e.labels[n] = (uint8_t)(n % outputs);
        e.rows[n] = e.pixels + (size_t)n * inputs;
        for (uint32_t i = 0; i < inputs; i++) {
            e.pixels[(size_t)n * inputs + i] /= 2;
        }
        for (uint32_t i = e.labels[n]; i < inputs; i += outputs) {
            e.pixels[(size_t)n * inputs + i] = (uint8_t)(e.pixels[(size_t)n * inputs + i] + 90);
        }
    }
    return e;
}

static void give_examples(struct dbos_alloc *alloc, struct examples *e) {
    dbos_give(alloc, e->pixels);
    dbos_give(alloc, e->labels);
    dbos_give(alloc, e->rows);
}

static struct dbos_train_job job_of(const struct examples *e, uint32_t inputs, uint32_t hidden,
                                    uint32_t outputs) {
    return (struct dbos_train_job){.params = {.version = 1,
                                              .epochs = 3,
                                              .batch_size = 32,
                                              .optimizer = DBOS_OPTIMIZER_ADAM,
                                              .learning_rate = 0.005f,
                                              .hidden = hidden,
                                              .inputs = inputs,
                                              .outputs = outputs,
                                              .seed = 11},
                                   .rows = e->rows,
                                   .labels = e->labels,
                                   .count = e->count};
}

static struct dbos_mlp *train(struct dbos_backend *backend, const struct dbos_train_job *job,
                              struct dbos_train_report *report) {
    struct dbos_mlp *mlp = NULL;
    struct dbos_errinfo info = {0};
    cr_assert(backend->ops->train(backend, job, &mlp, report, &info) == DBOS_OK, "%s",
              info.message);
    return mlp;
}

/* Mean cross-entropy, all in double. */
static double loss_of(const struct dbos_mlp *mlp, const struct examples *e) {
    double total = 0;
    double hidden[64];
    double scores[16];
    cr_assert(mlp->hidden <= 64 && mlp->outputs <= 16);
    for (uint32_t n = 0; n < e->count; n++) {
        double sum = 0;
        for (uint32_t h = 0; h < mlp->hidden; h++) {
            hidden[h] = (double)mlp->b1[h];
            for (uint32_t i = 0; i < mlp->inputs; i++) {
                hidden[h] += (double)mlp->w1[(size_t)h * mlp->inputs + i] *
                             (double)((float)e->rows[n][i] * (1.0f / 255.0f));
            }
            hidden[h] = hidden[h] > 0 ? hidden[h] : 0;
        }
        for (uint32_t o = 0; o < mlp->outputs; o++) {
            scores[o] = (double)mlp->b2[o];
            for (uint32_t h = 0; h < mlp->hidden; h++) {
                scores[o] += (double)mlp->w2[(size_t)o * mlp->hidden + h] * hidden[h];
            }
            sum += exp(scores[o]);
        }
        total += log(sum) - scores[e->labels[n]];
    }
    return total / e->count;
}

/* Goal: training follows the true gradient.
 * Method: one SGD step of rate 1 on all examples moves each weight by its gradient; compare with
 * (loss(w + h) − loss(w − h)) / 2h, computed here from the definition. Both backends. */
Test(gpu_backend, a_training_step_follows_the_finite_differences_of_the_loss) {
    static const char *const names[] = {"ref", "dnnl"};
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct examples e = make_examples(&alloc, 24, 9, 3);
    for (size_t b = 0; b < 2; b++) {
        struct dbos_backend *backend = open_backend(&alloc, names[b]);
        struct dbos_train_job job = job_of(&e, 9, 7, 3);
        struct dbos_train_report report;
        struct dbos_mlp *start = NULL;
        job.params.epochs = 1;
        job.params.batch_size = e.count;
        job.params.optimizer = DBOS_OPTIMIZER_SGD;
        job.params.learning_rate = 1.0f;
        struct dbos_mlp *after = train(backend, &job, &report);
        cr_assert(dbos_mlp_open(&alloc, 9, 7, 3, &start, NULL) == DBOS_OK);
        dbos_train_start(start, job.params.seed);
        cr_expect(fabs(loss_of(start, &e) - (double)report.loss) < 1e-5);
        for (size_t i = 0; i < start->weight_count; i++) {
            float kept = start->w1[i];
            volatile float up = kept + 1e-3f;
            volatile float down = kept - 1e-3f;
            start->w1[i] = up;
            double above = loss_of(start, &e);
            start->w1[i] = down;
            double below = loss_of(start, &e);
            start->w1[i] = kept;
            double numeric = (above - below) / ((double)up - (double)down);
            double moved = (double)kept - (double)after->w1[i];
            cr_expect(fabs(numeric - moved) < 1e-4, "%s weight %zu: %g, moved %g", names[b], i,
                      numeric, moved);
        }
        dbos_mlp_close(&alloc, start);
        dbos_mlp_close(&alloc, after);
        backend->ops->close(backend);
    }
    give_examples(&alloc, &e);
    dbos_alloc_fini(&alloc);
}

Test(gpu_backend, same_seed_gives_the_same_model_and_another_seed_another) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    /* 500 is no multiple of the batch: the last batch has its own plan. */
    struct examples e = make_examples(&alloc, 500, 64, 10);
    struct dbos_backend *backend = open_backend(&alloc, "dnnl");
    struct dbos_backend *ref = open_backend(&alloc, "ref");
    struct dbos_train_job job = job_of(&e, 64, 48, 10);
    struct dbos_train_report report[4];
    struct dbos_mlp *one = train(backend, &job, &report[0]);
    struct dbos_mlp *two = train(backend, &job, &report[1]);
    struct dbos_mlp *slow = train(ref, &job, &report[3]);
    job.params.seed++;
    struct dbos_mlp *other = train(backend, &job, &report[2]);
    size_t bytes = one->weight_count * sizeof(float);
    cr_expect(memcmp(one->w1, two->w1, bytes) == 0);
    cr_expect(memcmp(&report[0], &report[1], sizeof report[0]) == 0);
    cr_expect(memcmp(one->w1, other->w1, bytes) != 0);
    cr_expect(report[0].epochs == 3 && report[0].examples == 500);
    cr_expect(report[0].accuracy > 0.9f, "%g", (double)report[0].accuracy);
    for (size_t i = 0; i < one->weight_count; i++) {
        cr_assert(fabsf(one->w1[i] - slow->w1[i]) < 1e-2f, "weight %zu: %g and %g", i,
                  (double)one->w1[i], (double)slow->w1[i]);
    }
    struct dbos_mlp *all[] = {one, two, slow, other};
    for (size_t i = 0; i < 4; i++) {
        dbos_mlp_close(&alloc, all[i]);
    }
    backend->ops->close(backend);
    ref->ops->close(ref);
    give_examples(&alloc, &e);
    dbos_alloc_fini(&alloc);
}

static bool stop_at_third(void *arg, uint64_t step, uint64_t steps) {
    *(uint64_t *)arg = step;
    return step < 3 && steps > 3;
}

Test(gpu_backend, a_bad_or_stopped_or_diverging_training_is_an_error) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct examples e = make_examples(&alloc, 100, 16, 4);
    struct dbos_backend *backend = open_backend(&alloc, "dnnl");
    struct dbos_train_report report;
    struct dbos_mlp *mlp = NULL;
    for (int i = 0; i < 10; i++) {
        struct dbos_train_job job = job_of(&e, 16, 8, 4);
        struct dbos_train_params *p = &job.params;
        p->version = i == 0 ? 2 : p->version;
        p->epochs = i == 1 ? 0 : p->epochs;
        p->batch_size = i == 2 ? 0 : p->batch_size;
        p->optimizer = i == 3 ? 3 : p->optimizer;
        p->learning_rate = i == 4 ? -1.0f : p->learning_rate;
        p->learning_rate = i == 5 ? (float)NAN : p->learning_rate;
        p->hidden = i == 6 ? 1u << 20 : p->hidden;
        p->outputs = i == 7 ? 3 : p->outputs; /* label 3 is then too large */
        p->flags = i == 8 ? 2 : p->flags;
        job.count = i == 9 ? 0 : job.count;
        cr_expect(backend->ops->train(backend, &job, &mlp, &report, NULL) ==
                          DBOS_ERR_INVALID_PARAMETER &&
                      mlp == NULL,
                  "case %d", i);
    }
    uint64_t stopped = 0;
    struct dbos_train_job job = job_of(&e, 16, 8, 4);
    job.progress = stop_at_third;
    job.arg = &stopped;
    cr_expect(backend->ops->train(backend, &job, &mlp, &report, NULL) == DBOS_ERR_CANCELED);
    cr_expect(mlp == NULL && stopped == 3);
    job.progress = NULL;
    job.params.optimizer = DBOS_OPTIMIZER_SGD;
    job.params.learning_rate = 1e30f;
    cr_expect(backend->ops->train(backend, &job, &mlp, &report, NULL) == DBOS_ERR_OUT_OF_RANGE);
    cr_expect(mlp == NULL);
    backend->ops->close(backend);
    give_examples(&alloc, &e);
    dbos_alloc_fini(&alloc);
}

Test(gpu_backend, training_survives_every_failed_take) {
    struct dbos_alloc alloc;
    bool trained = false;
    dbos_alloc_init(&alloc, "test", 0);
    struct examples e = make_examples(&alloc, 40, 8, 2);
    struct dbos_backend *backend = open_backend(&alloc, "dnnl");
    uint64_t before = atomic_load(&alloc.bytes);
    for (int64_t nth = 1; !trained; nth++) {
        struct dbos_train_job job = job_of(&e, 8, 4, 2);
        struct dbos_train_report report;
        struct dbos_mlp *mlp = NULL;
        atomic_store(&alloc.fail_countdown, nth);
        enum dbos_err err = backend->ops->train(backend, &job, &mlp, &report, NULL);
        atomic_store(&alloc.fail_countdown, 0);
        trained = err == DBOS_OK;
        cr_assert(trained || err == DBOS_ERR_NOMEM);
        dbos_mlp_close(&alloc, mlp);
        cr_expect(atomic_load(&alloc.bytes) == before && nth < 50);
    }
    backend->ops->close(backend);
    give_examples(&alloc, &e);
    dbos_alloc_fini(&alloc);
}

/* Goal: the worker learns the real thing. Skipped, saying so, where the data is not there. */
Test(gpu_backend, mnist_is_learned_to_97_5_percent) {
    struct dbos_alloc alloc;
    struct mnist_set learn;
    struct mnist_set check;
    dbos_alloc_init(&alloc, "test", 0);
    if (!mnist_read(&alloc, "train", &learn)) {
        cr_skip("no MNIST: set DBOS_MNIST_DIR to a directory with its .gz files");
    }
    cr_assert(mnist_read(&alloc, "t10k", &check));
    struct examples e = {learn.count, learn.pixels, learn.labels,
                         dbos_take(&alloc, learn.count * sizeof(uint8_t *))};
    for (uint32_t n = 0; n < e.count; n++) {
        e.rows[n] = e.pixels + (size_t)n * 784;
    }
    struct dbos_train_job job = job_of(&e, 784, 512, 10);
    struct dbos_train_report report;
    struct dbos_env *env = dbos_env_posix();
    job.params.epochs = 5;
    job.params.batch_size = 128;
    job.params.learning_rate = 0.001f;
    struct dbos_backend *backend = open_backend(&alloc, "dnnl");
    uint64_t start_ns = env->ops->mono_ns(env);
    struct dbos_mlp *mlp = train(backend, &job, &report);
    uint64_t took_ms = (env->ops->mono_ns(env) - start_ns) / 1000000;
    struct answers a = ask(&alloc, backend, mlp, check.pixels, check.count);
    uint32_t right = 0;
    for (uint32_t n = 0; n < check.count; n++) {
        right += a.labels[n] == check.labels[n] ? 1 : 0;
    }
    cr_log_info("MNIST: %u of %u right, %u x 5 examples in %llu ms", right, check.count, e.count,
                (unsigned long long)took_ms);
    cr_expect(right * 1000ull >= check.count * 975ull, "%u of %u", right, check.count);
    dbos_give(&alloc, a.labels);
    dbos_give(&alloc, a.probabilities);
    dbos_give(&alloc, e.rows);
    dbos_mlp_close(&alloc, mlp);
    mnist_give(&alloc, &learn);
    mnist_give(&alloc, &check);
    backend->ops->close(backend);
    dbos_alloc_fini(&alloc);
}
