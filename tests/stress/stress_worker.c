/* A worker and several databases in one process, for ThreadSanitizer: its two threads hand jobs,
 * results and cancellations over while connections come and go.
 *
 * Each client is a database of its own that loads a model, asks it (answers must be those of the
 * reference, computed beforehand), trains, cancels, repeats, and now and then hangs up in the
 * middle. The reference backend runs, since oneDNN's threads are not instrumented. */
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "gpu/assembler.h"
#include "gpu/train.h"
#include "gpu/worker.h"

enum { CLIENTS = 3, ROUNDS = 600, INPUTS = 24, HIDDEN = 6, OUTPUTS = 4, IMAGES = 20 };

struct shared {
    struct dbos_worker *worker;
    uint16_t port;
    struct dbos_buf model;
    uint8_t images[IMAGES * INPUTS];
    uint8_t labels[IMAGES]; /* what the model says of them */
};

struct client {
    const struct shared *shared;
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    uint64_t source;
    uint64_t task_id;
    int fd;
    uint32_t answers;
    uint32_t cancels;
    pthread_t thread;
};

static void send_all(int fd, const void *data, size_t size_bytes) {
    const uint8_t *next = data;
    while (size_bytes > 0) {
        ssize_t sent = send(fd, next, size_bytes, MSG_NOSIGNAL);
        DBOS_CHECK(sent > 0);
        next += sent;
        size_bytes -= (size_t)sent;
    }
}

static void receive_all(int fd, void *data, size_t size_bytes) {
    uint8_t *next = data;
    while (size_bytes > 0) {
        struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
        DBOS_CHECK(poll(&poll_fd, 1, 60000) == 1);
        ssize_t got = recv(fd, next, size_bytes, 0);
        DBOS_CHECK(got > 0);
        next += got;
        size_bytes -= (size_t)got;
    }
}

static void send_frame(const struct client *c, struct dbos_frame frame, const void *payload,
                       size_t size_bytes) {
    uint8_t header[DBOS_FRAME_BYTES];
    struct dbos_bytes run = {payload, size_bytes};
    frame.pieces = frame.pieces == 0 ? 1 : frame.pieces;
    DBOS_CHECK(dbos_frame_encode(&frame, &run, 1, header, NULL) == DBOS_OK);
    send_all(c->fd, header, sizeof header);
    send_all(c->fd, payload, size_bytes);
}

/* The next frame that is no heartbeat; its payload a block of the client's allocator. */
static uint8_t *receive_frame(struct client *c, struct dbos_frame *frame) {
    uint8_t header[DBOS_FRAME_BYTES];
    uint8_t *payload = NULL;
    do {
        dbos_give(&c->alloc, payload);
        receive_all(c->fd, header, sizeof header);
        DBOS_CHECK(dbos_frame_decode(header, frame, NULL) == DBOS_OK);
        payload = dbos_take(&c->alloc, frame->payload_bytes + 1);
        DBOS_CHECK(payload != NULL);
        receive_all(c->fd, payload, frame->payload_bytes);
        DBOS_CHECK(dbos_frame_verify(header, payload, frame->payload_bytes, NULL) == DBOS_OK);
    } while (frame->kind == DBOS_FRAME_HEARTBEAT);
    return payload;
}

static void client_connect(struct client *c) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_frame frame;
    struct dbos_frame_hello hello = {
        .version = 1, .frame_version_min = 1, .frame_version_max = 1, .source = c->source};
    DBOS_CHECK(env->ops->tcp_connect(env, "127.0.0.1", c->shared->port, 5000, &c->fd, NULL) ==
               DBOS_OK);
    send_frame(c, (struct dbos_frame){.kind = DBOS_FRAME_HELLO}, &hello, sizeof hello);
    dbos_give(&c->alloc, receive_frame(c, &frame));
    DBOS_CHECK(frame.kind == DBOS_FRAME_HELLO);
}

static void load_model(struct client *c) {
    const struct dbos_buf *model = &c->shared->model;
    size_t half = model->size_bytes / 2;
    struct dbos_frame frame = {
        .kind = DBOS_FRAME_MODEL_CHUNK, .model_id = 1, .model_version = 1, .pieces = 2, .piece = 1};
    send_frame(c, frame, model->data + half, model->size_bytes - half);
    frame.piece = 0;
    send_frame(c, frame, model->data, half);
    dbos_give(&c->alloc, receive_frame(c, &frame));
    DBOS_CHECK(frame.kind == DBOS_FRAME_RESULT && frame.flags == DBOS_FRAME_FLAG_MODEL);
}

static void ask(struct client *c, uint64_t task_id) {
    struct dbos_frame frame = {.kind = DBOS_FRAME_INFER,
                               .task_id = task_id,
                               .attempt = 1,
                               .model_id = 1,
                               .model_version = 1,
                               .count = IMAGES,
                               .dtype = DBOS_DTYPE_U8,
                               .layout = DBOS_LAYOUT_NHW};
    const uint8_t *labels;
    const uint8_t *probabilities;
    send_frame(c, frame, c->shared->images, sizeof c->shared->images);
    uint8_t *payload = receive_frame(c, &frame);
    DBOS_CHECK(frame.kind == DBOS_FRAME_RESULT && frame.task_id == task_id);
    DBOS_CHECK(dbos_frame_get_infer_result(payload, frame.payload_bytes, IMAGES, NULL, &labels,
                                           &probabilities, NULL) == DBOS_OK);
    DBOS_CHECK(memcmp(labels, c->shared->labels, IMAGES) == 0);
    dbos_give(&c->alloc, payload);
    c->answers++;
}

static void send_training(struct client *c, uint64_t task_id, uint32_t epochs) {
    struct dbos_train_params params = {.version = 1,
                                       .epochs = epochs,
                                       .batch_size = 8,
                                       .optimizer = DBOS_OPTIMIZER_SGD,
                                       .learning_rate = 0.01f,
                                       .hidden = HIDDEN,
                                       .inputs = INPUTS,
                                       .outputs = OUTPUTS,
                                       .seed = task_id};
    uint8_t piece[sizeof params + IMAGES * (INPUTS + 1)];
    struct dbos_frame frame = {
        .kind = DBOS_FRAME_TRAIN, .task_id = task_id, .attempt = 1, .count = IMAGES};
    memcpy(piece, &params, sizeof params);
    memcpy(piece + sizeof params, c->shared->images, sizeof c->shared->images);
    memcpy(piece + sizeof params + sizeof c->shared->images, c->shared->labels, IMAGES);
    send_frame(c, frame, piece, sizeof piece);
}

static void train(struct client *c) {
    struct dbos_frame frame;
    send_training(c, ++c->task_id, 2);
    uint8_t *payload = receive_frame(c, &frame);
    DBOS_CHECK(frame.kind == DBOS_FRAME_RESULT && frame.task_id == c->task_id);
    dbos_give(&c->alloc, payload);
    c->answers++;
}

static void train_and_cancel(struct client *c) {
    struct dbos_frame frame;
    send_training(c, ++c->task_id, 10000);
    send_frame(c,
               (struct dbos_frame){.kind = DBOS_FRAME_CANCEL, .task_id = c->task_id, .attempt = 1},
               NULL, 0);
    uint8_t *payload = receive_frame(c, &frame);
    DBOS_CHECK(frame.kind == DBOS_FRAME_ERROR && frame.task_id == c->task_id);
    dbos_give(&c->alloc, payload);
    c->cancels++;
}

static void hang_up(struct client *c) {
    send_training(c, ++c->task_id, 5);
    (void)close(c->fd);
    client_connect(c);
}

static void *client_main(void *arg) {
    struct client *c = arg;
    client_connect(c);
    load_model(c);
    for (int round = 0; round < ROUNDS; round++) {
        switch (dbos_rng_below(&c->rng, 6)) {
        case 0:
            train(c);
            break;
        case 1:
            train_and_cancel(c);
            break;
        case 2:
            hang_up(c);
            break;
        case 3:
            ask(c, ++c->task_id);
            ask(c, c->task_id); /* the same again: answered from memory */
            break;
        default:
            ask(c, ++c->task_id);
            break;
        }
    }
    (void)close(c->fd);
    return NULL;
}

static void *worker_main(void *arg) {
    DBOS_CHECK(dbos_worker_run(arg, NULL) == DBOS_OK);
    return NULL;
}

/* A model and what the reference answers with it. */
static void make_shared(struct shared *shared, struct dbos_alloc *alloc) {
    const struct dbos_backend_ops *ops = dbos_backend_find("ref");
    const struct dbos_backend_options options = {.threads = 1};
    struct dbos_backend *backend = NULL;
    struct dbos_backend_model *model = NULL;
    struct dbos_mlp *mlp = NULL;
    struct dbos_rng rng;
    float probabilities[IMAGES];
    dbos_rng_init(&rng, 4);
    for (size_t i = 0; i < sizeof shared->images; i++) {
        shared->images[i] = (uint8_t)dbos_rng_next(&rng);
    }
    DBOS_CHECK(dbos_mlp_open(alloc, INPUTS, HIDDEN, OUTPUTS, &mlp, NULL) == DBOS_OK);
    dbos_train_start(mlp, 9);
    DBOS_CHECK(ops->open(alloc, &options, &backend, NULL) == DBOS_OK);
    DBOS_CHECK(ops->load_model(backend, mlp, &model, NULL) == DBOS_OK);
    DBOS_CHECK(ops->infer(backend, model, shared->images, IMAGES, shared->labels, probabilities,
                          NULL) == DBOS_OK);
    ops->unload_model(backend, model);
    ops->close(backend);
    dbos_buf_init(&shared->model, alloc);
    dbos_model_encode(mlp, &shared->model);
    DBOS_CHECK(!shared->model.failed);
    dbos_mlp_close(alloc, mlp);
}

int main(void) {
    struct dbos_alloc alloc;
    struct shared shared;
    struct client clients[CLIENTS];
    struct dbos_worker_options options;
    struct dbos_errinfo info = {0};
    pthread_t thread;
    const uint64_t one = 1;
    dbos_alloc_init(&alloc, "stress", 0);
    memset(&shared, 0, sizeof shared);
    memset(clients, 0, sizeof clients);
    make_shared(&shared, &alloc);
    dbos_worker_defaults(&options);
    options.backend = dbos_backend_find("ref");
    options.stop_fd = eventfd(0, EFD_CLOEXEC);
    DBOS_CHECK(dbos_worker_open(&alloc, dbos_env_posix(), &options, &shared.worker, &info) ==
               DBOS_OK);
    shared.port = dbos_worker_port(shared.worker);
    DBOS_CHECK(pthread_create(&thread, NULL, worker_main, shared.worker) == 0);
    for (uint32_t i = 0; i < CLIENTS; i++) {
        clients[i].shared = &shared;
        clients[i].source = 100 + i;
        dbos_alloc_init(&clients[i].alloc, "client", 0);
        dbos_rng_init(&clients[i].rng, i);
        DBOS_CHECK(pthread_create(&clients[i].thread, NULL, client_main, &clients[i]) == 0);
    }
    uint32_t answers = 0;
    uint32_t cancels = 0;
    for (uint32_t i = 0; i < CLIENTS; i++) {
        DBOS_CHECK(pthread_join(clients[i].thread, NULL) == 0);
        dbos_alloc_fini(&clients[i].alloc);
        answers += clients[i].answers;
        cancels += clients[i].cancels;
    }
    DBOS_CHECK(write(options.stop_fd, &one, sizeof one) == sizeof one);
    DBOS_CHECK(pthread_join(thread, NULL) == 0);
    dbos_worker_close(shared.worker);
    (void)close(options.stop_fd);
    dbos_buf_fini(&shared.model);
    dbos_alloc_fini(&alloc);
    DBOS_CHECK(answers > CLIENTS * ROUNDS / 3 && cancels > 0);
    (void)printf("%u answers, %u cancels\n", answers, cancels);
    return EXIT_SUCCESS;
}
