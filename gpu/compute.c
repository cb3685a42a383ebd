#include "gpu/compute.h"

#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/env.h"

#define IDLE_US 200000u

static uint64_t now_ns(const struct dbos_compute *c) { return c->env->ops->mono_ns(c->env); }

/* --- Replies -----------------------------------------------------------------------------------
 */

static struct dbos_reply *reply_open(struct dbos_alloc *alloc, const struct dbos_frame *task) {
    struct dbos_reply *reply = dbos_take_zero(alloc, sizeof *reply);
    if (reply != NULL) {
        reply->task = *task;
        reply->refs = 1;
        dbos_buf_init(&reply->bytes, alloc);
    }
    return reply;
}

void dbos_reply_unref(struct dbos_alloc *alloc, struct dbos_reply *reply) {
    if (reply == NULL) {
        return;
    }
    DBOS_CHECK(reply->refs > 0);
    if (--reply->refs == 0) {
        dbos_buf_fini(&reply->bytes);
        dbos_give(alloc, reply);
    }
}

static struct dbos_frame echo(const struct dbos_frame *task, enum dbos_frame_kind kind) {
    return (struct dbos_frame){
        .kind = kind,
        .task_id = task->task_id,
        .attempt = task->attempt,
        .pieces = 1,
        .model_id = task->model_id,
        .model_version = task->model_version,
    };
}

/* Append `bytes` as numbered pieces of at most 1 MiB. */
static enum dbos_err put_pieces(struct dbos_buf *buf, struct dbos_frame frame,
                                struct dbos_bytes bytes, struct dbos_errinfo *info) {
    size_t pieces = (bytes.size_bytes + DBOS_FRAME_PAYLOAD_MAX - 1) / DBOS_FRAME_PAYLOAD_MAX;
    enum dbos_err err = DBOS_OK;
    frame.pieces = pieces == 0 ? 1 : (uint32_t)pieces;
    for (frame.piece = 0; frame.piece < frame.pieces && err == DBOS_OK; frame.piece++) {
        size_t from = (size_t)frame.piece * DBOS_FRAME_PAYLOAD_MAX;
        size_t left = bytes.size_bytes - from;
        struct dbos_bytes run = {bytes.data + from,
                                 left < DBOS_FRAME_PAYLOAD_MAX ? left : DBOS_FRAME_PAYLOAD_MAX};
        err = dbos_frame_put(buf, &frame, &run, 1, info);
    }
    return err;
}

struct dbos_reply *dbos_reply_frame(struct dbos_alloc *alloc, const struct dbos_frame *task,
                                    enum dbos_frame_kind kind, uint16_t flags,
                                    struct dbos_bytes payload) {
    struct dbos_reply *reply = reply_open(alloc, task);
    struct dbos_frame frame = echo(task, kind);
    frame.flags = flags;
    frame.count = task->count;
    if (reply != NULL && dbos_frame_put(&reply->bytes, &frame, &payload, 1, NULL) != DBOS_OK) {
        dbos_reply_unref(alloc, reply);
        return NULL;
    }
    return reply;
}

struct dbos_reply *dbos_reply_error(struct dbos_alloc *alloc, const struct dbos_frame *task,
                                    const struct dbos_frame_times *times,
                                    enum dbos_frame_error_code code, const char *text) {
    struct dbos_frame_times none = {.version = 1};
    struct dbos_frame_error error = {.code = (uint32_t)code, .text_bytes = (uint32_t)strlen(text)};
    struct dbos_bytes runs[] = {
        {(const uint8_t *)(times == NULL ? &none : times), sizeof none},
        {(const uint8_t *)&error, sizeof error},
        {(const uint8_t *)text, error.text_bytes},
    };
    struct dbos_reply *reply = reply_open(alloc, task);
    struct dbos_frame frame = echo(task, DBOS_FRAME_ERROR);
    if (reply != NULL && dbos_frame_put(&reply->bytes, &frame, runs, 3, NULL) != DBOS_OK) {
        dbos_reply_unref(alloc, reply);
        return NULL;
    }
    if (reply != NULL) {
        reply->failed = true;
    }
    return reply;
}

static uint32_t us_between(uint64_t from_ns, uint64_t to_ns) {
    uint64_t us = to_ns > from_ns ? (to_ns - from_ns) / 1000 : 0;
    return us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static struct dbos_frame_times times_of(const struct dbos_compute *c, const struct dbos_job *job) {
    return (struct dbos_frame_times){
        .version = 1,
        .recv_us = us_between(job->first_ns, job->ready_ns),
        .queue_us = us_between(job->ready_ns, job->start_ns),
        .exec_us = us_between(job->start_ns, now_ns(c)),
    };
}

static enum dbos_frame_error_code code_of(enum dbos_err err) {
    enum dbos_frame_error_code code = DBOS_FRAME_ERR_BACKEND;
    if (err == DBOS_ERR_UNDEFINED_OBJECT) {
        code = DBOS_FRAME_ERR_MODEL_NOT_LOADED;
    } else if (err == DBOS_ERR_NOMEM) {
        code = DBOS_FRAME_ERR_BUSY;
    } else if (err == DBOS_ERR_LIMIT) {
        code = DBOS_FRAME_ERR_LIMIT;
    } else if (err == DBOS_ERR_TASK_DEADLINE) {
        code = DBOS_FRAME_ERR_DEADLINE;
    } else if (err == DBOS_ERR_CANCELED) {
        code = DBOS_FRAME_ERR_CANCELED;
    } else if (err == DBOS_ERR_INVALID_PARAMETER || err == DBOS_ERR_OUT_OF_RANGE) {
        code = DBOS_FRAME_ERR_BAD_INPUT;
    } else if (err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION ||
               err == DBOS_ERR_NOT_SUPPORTED) {
        code = DBOS_FRAME_ERR_BAD_MODEL;
    }
    return code;
}

/* --- Models ------------------------------------------------------------------------------------
 */

static struct dbos_held_model *find_model(struct dbos_compute *c, const struct dbos_frame *frame) {
    struct dbos_held_model *held = c->models;
    while (held != NULL && (held->source != frame->source || held->id != frame->model_id ||
                            held->version != frame->model_version)) {
        held = held->next;
    }
    if (held != NULL) {
        held->used = ++c->uses;
    }
    return held;
}

static void drop_model(struct dbos_compute *c, struct dbos_held_model *held) {
    struct dbos_held_model **link = &c->models;
    while (*link != held) {
        link = &(*link)->next;
    }
    *link = held->next;
    c->model_bytes -= held->bytes;
    c->backend->ops->unload_model(c->backend, held->model);
    dbos_give(c->alloc, held);
}

static void make_room(struct dbos_compute *c, uint64_t bytes) {
    while (c->models != NULL && c->model_bytes + bytes > c->model_bytes_max) {
        struct dbos_held_model *oldest = c->models;
        for (struct dbos_held_model *m = oldest->next; m != NULL; m = m->next) {
            oldest = m->used < oldest->used ? m : oldest;
        }
        drop_model(c, oldest);
    }
}

static enum dbos_err hold_model(struct dbos_compute *c, const struct dbos_frame *frame,
                                const struct dbos_mlp *mlp, struct dbos_errinfo *info) {
    uint64_t bytes = mlp->weight_count * sizeof(float);
    if (bytes > c->model_bytes_max) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "a model of %llu bytes; this worker holds %llu",
                         (unsigned long long)bytes, (unsigned long long)c->model_bytes_max);
    }
    struct dbos_held_model *old = find_model(c, frame);
    if (old != NULL) {
        drop_model(c, old);
    }
    make_room(c, bytes);
    struct dbos_held_model *held = dbos_take_zero(c->alloc, sizeof *held);
    if (held == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model");
    }
    enum dbos_err err = c->backend->ops->load_model(c->backend, mlp, &held->model, info);
    if (err != DBOS_OK) {
        dbos_give(c->alloc, held);
        return err;
    }
    held->source = frame->source;
    held->id = frame->model_id;
    held->version = frame->model_version;
    held->bytes = bytes;
    held->used = ++c->uses;
    held->inputs = mlp->inputs;
    held->outputs = mlp->outputs;
    held->next = c->models;
    c->models = held;
    c->model_bytes += bytes;
    return DBOS_OK;
}

static enum dbos_err run_load(struct dbos_compute *c, struct dbos_job *job,
                              struct dbos_errinfo *info) {
    struct dbos_buf whole;
    struct dbos_mlp *mlp = NULL;
    dbos_buf_init(&whole, c->alloc);
    dbos_assembly_put(job->assembly, &whole);
    enum dbos_err err = whole.failed
                            ? dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a model")
                            : dbos_model_decode(c->alloc, whole.data, whole.size_bytes, &mlp, info);
    dbos_buf_fini(&whole);
    if (err == DBOS_OK) {
        err = hold_model(c, &job->frame, mlp, info);
    }
    dbos_mlp_close(c->alloc, mlp);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_frame_times times = times_of(c, job);
    job->reply = dbos_reply_frame(c->alloc, &job->frame, DBOS_FRAME_RESULT, DBOS_FRAME_FLAG_MODEL,
                                  (struct dbos_bytes){(const uint8_t *)&times, sizeof times});
    return job->reply != NULL ? DBOS_OK : dbos_fail(info, DBOS_ERR_NOMEM, "no memory to reply");
}

/* --- Inference ---------------------------------------------------------------------------------
 */

static enum dbos_err check_infer(const struct dbos_job *job, const struct dbos_held_model *held,
                                 struct dbos_errinfo *info) {
    const struct dbos_frame *frame = &job->frame;
    if (held == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_OBJECT, "model %u version %u is not loaded",
                         frame->model_id, frame->model_version);
    }
    if (frame->dtype != DBOS_DTYPE_U8 || frame->layout != DBOS_LAYOUT_NHW) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "images of type %u in layout %u",
                         frame->dtype, frame->layout);
    }
    if (job->assembly->payload_bytes != job->assembly->count * held->inputs) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "%llu bytes are not %llu images of %u bytes",
                         (unsigned long long)job->assembly->payload_bytes,
                         (unsigned long long)job->assembly->count, held->inputs);
    }
    for (uint32_t i = 0; i < job->assembly->piece_count; i++) {
        if (job->assembly->pieces[i].size_bytes % held->inputs != 0) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "piece %u ends within an image", i);
        }
    }
    return DBOS_OK;
}

/* Labels and probabilities of all pieces into `payload`, after the times. */
static enum dbos_err infer_pieces(struct dbos_compute *c, const struct dbos_job *job,
                                  const struct dbos_held_model *held, uint8_t *labels,
                                  float *probabilities, struct dbos_errinfo *info) {
    const struct dbos_assembly *assembly = job->assembly;
    enum dbos_err err = DBOS_OK;
    size_t at = 0;
    for (uint32_t i = 0; i < assembly->piece_count && err == DBOS_OK; i++) {
        uint32_t count = (uint32_t)(assembly->pieces[i].size_bytes / held->inputs);
        err = c->backend->ops->infer(c->backend, held->model, assembly->pieces[i].data, count,
                                     labels + at, probabilities + at, info);
        at += count;
    }
    return err;
}

static enum dbos_err reply_infer(struct dbos_compute *c, struct dbos_job *job,
                                 const uint8_t *labels, const float *probabilities, size_t count,
                                 struct dbos_errinfo *info) {
    struct dbos_frame_times times = times_of(c, job);
    struct dbos_frame frame = echo(&job->frame, DBOS_FRAME_RESULT);
    struct dbos_buf payload;
    frame.count = (uint32_t)count;
    job->reply = reply_open(c->alloc, &job->frame);
    if (job->reply == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to reply");
    }
    dbos_buf_init(&payload, c->alloc);
    dbos_buf_put(&payload, &times, sizeof times);
    dbos_buf_put(&payload, labels, count);
    dbos_buf_put(&payload, probabilities, count * sizeof(float));
    enum dbos_err err =
        payload.failed ? dbos_fail(info, DBOS_ERR_NOMEM, "no memory to reply")
                       : put_pieces(&job->reply->bytes, frame,
                                    (struct dbos_bytes){payload.data, payload.size_bytes}, info);
    dbos_buf_fini(&payload);
    return err;
}

static enum dbos_err run_infer(struct dbos_compute *c, struct dbos_job *job,
                               struct dbos_errinfo *info) {
    struct dbos_held_model *held = find_model(c, &job->frame);
    enum dbos_err err = check_infer(job, held, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t count = (size_t)job->assembly->count;
    float *probabilities = dbos_take(c->alloc, count * (sizeof(float) + 1) + 1);
    if (probabilities == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for %zu answers", count);
    }
    uint8_t *labels = (uint8_t *)(probabilities + count);
    err = infer_pieces(c, job, held, labels, probabilities, info);
    if (err == DBOS_OK) {
        err = reply_infer(c, job, labels, probabilities, count, info);
    }
    dbos_give(c->alloc, probabilities);
    return err;
}

/* --- Training ----------------------------------------------------------------------------------
 */

/* Rows and labels of all pieces; `rows` and `labels` are NULL while counting. */
static enum dbos_err split_examples(const struct dbos_assembly *assembly,
                                    const struct dbos_train_params *params, const uint8_t **rows,
                                    uint8_t *labels, uint64_t *count, struct dbos_errinfo *info) {
    *count = 0;
    for (uint32_t i = 0; i < assembly->piece_count; i++) {
        struct dbos_reader reader =
            dbos_reader_of(assembly->pieces[i].data, assembly->pieces[i].size_bytes);
        const uint8_t *head = dbos_get(&reader, sizeof *params);
        size_t example_bytes = (size_t)params->inputs + 1;
        if (head == NULL || memcmp(head, params, sizeof *params) != 0) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                             "piece %u has other train parameters than piece 0", i);
        }
        size_t here = dbos_reader_left(&reader) / example_bytes;
        if (here * example_bytes != dbos_reader_left(&reader)) {
            return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "piece %u ends within an example",
                             i);
        }
        const uint8_t *pixels = dbos_get(&reader, here * params->inputs);
        for (size_t n = 0; n < here && rows != NULL; n++) {
            rows[*count + n] = pixels + n * params->inputs;
        }
        if (labels != NULL && here > 0) {
            memcpy(labels + *count, dbos_get(&reader, here), here);
        }
        *count += here;
    }
    if (*count != assembly->count || *count > UINT32_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "%llu examples, the frames say %llu",
                         (unsigned long long)*count, (unsigned long long)assembly->count);
    }
    return DBOS_OK;
}

static enum dbos_err reply_train(struct dbos_compute *c, struct dbos_job *job,
                                 const struct dbos_mlp *mlp, struct dbos_train_report *report,
                                 struct dbos_errinfo *info) {
    struct dbos_frame_times times = times_of(c, job);
    struct dbos_buf payload;
    report->model_bytes =
        (uint32_t)(sizeof(struct dbos_model_header) + mlp->weight_count * sizeof(float));
    job->reply = reply_open(c->alloc, &job->frame);
    if (job->reply == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory to reply");
    }
    dbos_buf_init(&payload, c->alloc);
    dbos_buf_put(&payload, &times, sizeof times);
    dbos_buf_put(&payload, report, sizeof *report);
    dbos_model_encode(mlp, &payload);
    enum dbos_err err =
        payload.failed ? dbos_fail(info, DBOS_ERR_NOMEM, "no memory to reply")
                       : put_pieces(&job->reply->bytes, echo(&job->frame, DBOS_FRAME_RESULT),
                                    (struct dbos_bytes){payload.data, payload.size_bytes}, info);
    dbos_buf_fini(&payload);
    return err;
}

struct train_run {
    struct dbos_compute *compute;
    struct dbos_job *job;
};

static bool train_progress(void *arg, uint64_t step, uint64_t steps);

static enum dbos_err train_examples(struct dbos_compute *c, struct dbos_job *job,
                                    const struct dbos_train_job *train, struct dbos_errinfo *info) {
    struct dbos_train_report report;
    struct dbos_mlp *mlp = NULL;
    enum dbos_err err = c->backend->ops->train(c->backend, train, &mlp, &report, info);
    if (err == DBOS_ERR_CANCELED && !atomic_load(&job->canceled) && !atomic_load(&c->stop)) {
        err = dbos_fail(info, DBOS_ERR_TASK_DEADLINE, "the training ran out of its time");
    }
    if (err == DBOS_OK) {
        err = reply_train(c, job, mlp, &report, info);
    }
    dbos_mlp_close(c->alloc, mlp);
    return err;
}

static enum dbos_err run_train(struct dbos_compute *c, struct dbos_job *job,
                               struct dbos_errinfo *info) {
    struct train_run run = {.compute = c, .job = job};
    struct dbos_train_job train = {.progress = train_progress, .arg = &run};
    const struct dbos_bytes *first = &job->assembly->pieces[0];
    uint64_t count = 0;
    if (first->size_bytes < sizeof train.params) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "no train parameters");
    }
    memcpy(&train.params, first->data, sizeof train.params);
    enum dbos_err err = split_examples(job->assembly, &train.params, NULL, NULL, &count, info);
    if (err != DBOS_OK) {
        return err;
    }
    const uint8_t **rows = dbos_take(c->alloc, (size_t)count * sizeof *rows + 1);
    uint8_t *labels = dbos_take(c->alloc, (size_t)count + 1);
    if (rows == NULL || labels == NULL) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "no memory for %llu examples",
                        (unsigned long long)count);
    } else {
        err = split_examples(job->assembly, &train.params, rows, labels, &count, info);
    }
    if (err == DBOS_OK) {
        train.rows = rows;
        train.labels = labels;
        train.count = (uint32_t)count;
        err = train_examples(c, job, &train, info);
    }
    dbos_give(c->alloc, rows);
    dbos_give(c->alloc, labels);
    return err;
}

/* --- The thread --------------------------------------------------------------------------------
 */

static void list_push(struct dbos_job_list *list, struct dbos_job *job) {
    job->next = NULL;
    if (list->last == NULL) {
        list->first = job;
    } else {
        list->last->next = job;
    }
    list->last = job;
}

static struct dbos_job *list_pop(struct dbos_job_list *list) {
    struct dbos_job *job = list->first;
    if (job != NULL) {
        list->first = job->next;
        if (list->first == NULL) {
            list->last = NULL;
        }
        job->next = NULL;
    }
    return job;
}

static void sort_in(struct dbos_compute *c, struct dbos_queue_node *node) {
    struct dbos_job *job = (struct dbos_job *)(void *)node;
    list_push(job->frame.kind == DBOS_FRAME_TRAIN ? &c->trains : &c->urgent, job);
}

static void sort_all(struct dbos_compute *c) {
    struct dbos_queue_node *node;
    while ((node = dbos_queue_pop(&c->queue)) != NULL) {
        sort_in(c, node);
    }
}

static void finish(struct dbos_compute *c, struct dbos_job *job, enum dbos_err err,
                   const struct dbos_errinfo *info) {
    if (err != DBOS_OK) {
        struct dbos_frame_times times = times_of(c, job);
        dbos_reply_unref(c->alloc, job->reply);
        job->reply = dbos_reply_error(c->alloc, &job->frame, &times, code_of(err), info->message);
    }
    dbos_assembly_close(job->assembly);
    job->assembly = NULL;
    dbos_queue_push(c->done, &job->node);
}

/* Whether the job need not run (any more), and why. */
static enum dbos_err over(const struct dbos_compute *c, struct dbos_job *job,
                          struct dbos_errinfo *info) {
    if (atomic_load(&c->stop)) {
        return dbos_fail(info, DBOS_ERR_CANCELED, "the worker is shutting down");
    }
    if (atomic_load(&job->canceled)) {
        return dbos_fail(info, DBOS_ERR_CANCELED, "the task was canceled");
    }
    if (job->deadline_ns != UINT64_MAX && now_ns(c) >= job->deadline_ns) {
        return dbos_fail(info, DBOS_ERR_TASK_DEADLINE, "the task ran out of its time");
    }
    return DBOS_OK;
}

static enum dbos_err run_kind(struct dbos_compute *c, struct dbos_job *job,
                              struct dbos_errinfo *info) {
    if (job->frame.kind == DBOS_FRAME_INFER) {
        return run_infer(c, job, info);
    }
    if (job->frame.kind == DBOS_FRAME_MODEL_CHUNK) {
        return run_load(c, job, info);
    }
    DBOS_CHECK(job->frame.kind == DBOS_FRAME_TRAIN);
    return run_train(c, job, info);
}

static void run_job(struct dbos_compute *c, struct dbos_job *job) {
    struct dbos_errinfo info = {0};
    job->start_ns = now_ns(c);
    enum dbos_err err = over(c, job, &info);
    if (err == DBOS_OK) {
        err = run_kind(c, job, &info);
    }
    finish(c, job, err, &info);
}

/* Trainings that wait behind the running one and are over need not wait to be told. */
static void sweep_trains(struct dbos_compute *c) {
    struct dbos_job_list keep = {0};
    struct dbos_job *job;
    while ((job = list_pop(&c->trains)) != NULL) {
        struct dbos_errinfo info = {0};
        enum dbos_err err = over(c, job, &info);
        if (err == DBOS_OK) {
            list_push(&keep, job);
        } else {
            job->start_ns = now_ns(c);
            finish(c, job, err, &info);
        }
    }
    c->trains = keep;
}

static bool train_progress(void *arg, uint64_t step, uint64_t steps) {
    struct train_run *run = arg;
    struct dbos_compute *c = run->compute;
    atomic_store(&run->job->per_mille, (uint32_t)(step * 1000 / steps));
    sort_all(c);
    if (c->trains.first != NULL) {
        sweep_trains(c);
    }
    struct dbos_job *job = list_pop(&c->urgent);
    if (job != NULL) {
        run_job(c, job);
    }
    return over(c, run->job, NULL) == DBOS_OK;
}

static void *compute_main(void *arg) {
    struct dbos_compute *c = arg;
    for (;;) {
        sort_all(c);
        struct dbos_job *job = list_pop(&c->urgent);
        if (job == NULL) {
            job = list_pop(&c->trains);
        }
        if (job != NULL) {
            run_job(c, job);
        } else if (atomic_load(&c->stop)) {
            break;
        } else {
            struct dbos_queue_node *node = dbos_queue_wait(&c->queue, IDLE_US);
            if (node != NULL) {
                sort_in(c, node);
            }
        }
    }
    return NULL;
}

enum dbos_err dbos_compute_init(struct dbos_compute *c, struct dbos_alloc *alloc,
                                struct dbos_env *env, const struct dbos_compute_options *options,
                                struct dbos_errinfo *info) {
    struct dbos_backend_options backend = {.threads = options->threads};
    memset(c, 0, sizeof *c);
    c->alloc = alloc;
    c->env = env;
    c->done = options->done;
    c->model_bytes_max = options->model_bytes_max;
    dbos_queue_init(&c->queue, -1);
    return options->backend->open(alloc, &backend, &c->backend, info);
}

void dbos_compute_fini(struct dbos_compute *c) {
    DBOS_CHECK(c->urgent.first == NULL && c->trains.first == NULL);
    while (c->models != NULL) {
        drop_model(c, c->models);
    }
    DBOS_CHECK(c->model_bytes == 0);
    if (c->backend != NULL) {
        c->backend->ops->close(c->backend);
        c->backend = NULL;
    }
}

enum dbos_err dbos_compute_start(struct dbos_compute *c, struct dbos_errinfo *info) {
    atomic_store(&c->stop, false);
    if (pthread_create(&c->thread, NULL, compute_main, c) != 0) {
        return dbos_fail(info, DBOS_ERR_INTERNAL, "cannot start the compute thread");
    }
    return DBOS_OK;
}

void dbos_compute_stop(struct dbos_compute *c) {
    atomic_store(&c->stop, true);
    dbos_queue_wake(&c->queue);
    (void)pthread_join(c->thread, NULL);
}

void dbos_compute_submit(struct dbos_compute *c, struct dbos_job *job) {
    dbos_queue_push(&c->queue, &job->node);
}
