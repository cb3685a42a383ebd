/* The real dbos-worker over TCP: what a database may send, and what anybody may. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/hash.h"
#include "gpu/assembler.h"
#include "gpu/frame.h"
#include "gpu/model.h"

TestSuite(integration_worker, .timeout = 120);

enum { INPUTS = 64, HIDDEN = 32, OUTPUTS = 10, EXAMPLES = 600, WAIT_MS = 30000 };

struct worker {
    pid_t pid;
    int input; /* closing it ends the worker */
    int output;
    uint16_t port;
};

static void worker_open(struct worker *w, const char *option, const char *value) {
    int in[2];
    int out[2];
    char line[128];
    unsigned port = 0;
    size_t have = 0;
    cr_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    w->pid = fork();
    cr_assert(w->pid >= 0);
    if (w->pid == 0) {
        (void)dup2(in[0], STDIN_FILENO);
        (void)dup2(out[1], STDOUT_FILENO);
        (void)execl(DBOS_BIN_DIR "/dbos-worker", "dbos-worker", "--exit-with-parent", option, value,
                    (char *)NULL);
        _exit(127);
    }
    (void)close(in[0]);
    (void)close(out[1]);
    w->input = in[1];
    w->output = out[0];
    while (have < sizeof line - 1 && read(w->output, line + have, 1) == 1 && line[have] != '\n') {
        have++;
    }
    line[have] = 0;
    cr_assert(sscanf(line, "ready port=%u backend=dnnl", &port) == 1, "\"%s\"", line);
    w->port = (uint16_t)port;
}

/* Ends it the given way: it must exit with 0 by itself. */
static void worker_close(struct worker *w, int signal_number) {
    int status = 0;
    if (signal_number != 0) {
        (void)kill(w->pid, signal_number);
    }
    (void)close(w->input);
    cr_assert(waitpid(w->pid, &status, 0) == w->pid);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
    (void)close(w->output);
}

/* --- A peer ------------------------------------------------------------------------------------
 */

struct peer {
    struct dbos_alloc *alloc;
    int fd;
    struct dbos_assembler assembler;
};

static void send_bytes(const struct peer *peer, const void *data, size_t size_bytes) {
    const uint8_t *next = data;
    while (size_bytes > 0) {
        ssize_t sent = send(peer->fd, next, size_bytes, MSG_NOSIGNAL);
        cr_assert(sent > 0);
        next += sent;
        size_bytes -= (size_t)sent;
    }
}

static void send_frame(const struct peer *peer, struct dbos_frame frame, const void *payload,
                       size_t size_bytes) {
    uint8_t header[DBOS_FRAME_BYTES];
    struct dbos_bytes run = {payload, size_bytes};
    frame.pieces = frame.pieces == 0 ? 1 : frame.pieces;
    cr_assert(dbos_frame_encode(&frame, &run, 1, header, NULL) == DBOS_OK);
    send_bytes(peer, header, sizeof header);
    send_bytes(peer, payload, size_bytes);
}

/* False at the end of the stream. */
static bool receive_bytes(const struct peer *peer, void *data, size_t size_bytes) {
    uint8_t *next = data;
    while (size_bytes > 0) {
        struct pollfd poll_fd = {.fd = peer->fd, .events = POLLIN};
        cr_assert(poll(&poll_fd, 1, WAIT_MS) == 1, "the worker is silent");
        ssize_t got = recv(peer->fd, next, size_bytes, 0);
        if (got <= 0) {
            return false;
        }
        next += got;
        size_bytes -= (size_t)got;
    }
    return true;
}

/* The next frame, its payload a block of the peer's allocator. False at the end of the stream. */
static bool receive_frame(const struct peer *peer, struct dbos_frame *frame, uint8_t **payload) {
    uint8_t header[DBOS_FRAME_BYTES];
    *payload = NULL;
    if (!receive_bytes(peer, header, sizeof header)) {
        return false;
    }
    cr_assert(dbos_frame_decode(header, frame, NULL) == DBOS_OK);
    if (frame->payload_bytes > 0) {
        *payload = dbos_take(peer->alloc, frame->payload_bytes);
        cr_assert(receive_bytes(peer, *payload, frame->payload_bytes));
    }
    cr_assert(dbos_frame_verify(header, *payload, frame->payload_bytes, NULL) == DBOS_OK);
    return true;
}

static void peer_connect(struct peer *peer, struct dbos_alloc *alloc, const struct worker *w) {
    const struct dbos_assembler_options options = {
        .bytes_max = 64u << 20, .assemblies_max = 8, .idle_ns = UINT64_MAX / 2};
    struct dbos_env *env = dbos_env_posix();
    peer->alloc = alloc;
    dbos_assembler_init(&peer->assembler, alloc, &options);
    cr_assert(env->ops->tcp_connect(env, "127.0.0.1", w->port, 5000, &peer->fd, NULL) == DBOS_OK);
}

/* Connect and exchange hellos, as the database `source`. */
static void peer_open(struct peer *peer, struct dbos_alloc *alloc, const struct worker *w,
                      uint64_t source) {
    struct dbos_frame_hello hello = {.version = 1,
                                     .frame_version_min = 1,
                                     .frame_version_max = 1,
                                     .source = source,
                                     .name = "test"};
    struct dbos_frame frame;
    uint8_t *payload;
    peer_connect(peer, alloc, w);
    send_frame(peer, (struct dbos_frame){.kind = DBOS_FRAME_HELLO}, &hello, sizeof hello);
    cr_assert(receive_frame(peer, &frame, &payload) && frame.kind == DBOS_FRAME_HELLO);
    cr_assert(dbos_frame_get_hello(payload, frame.payload_bytes, &hello, NULL) == DBOS_OK);
    cr_expect_str_eq(hello.backend, "dnnl");
    cr_expect_str_eq(hello.name, "dbos-worker");
    dbos_give(alloc, payload);
}

static void peer_close(struct peer *peer) {
    (void)close(peer->fd);
    dbos_assembler_fini(&peer->assembler);
}

/* Read until a whole result came; heartbeats are counted and passed over. */
static struct dbos_assembly *receive_result(struct peer *peer, uint32_t *beats) {
    struct dbos_assembly *assembly = NULL;
    struct dbos_frame frame;
    uint8_t *payload;
    while (assembly == NULL) {
        cr_assert(receive_frame(peer, &frame, &payload));
        if (frame.kind == DBOS_FRAME_HEARTBEAT) {
            dbos_give(peer->alloc, payload);
            *beats += 1;
            continue;
        }
        cr_assert(frame.kind == DBOS_FRAME_RESULT, "%.*s", (int)frame.payload_bytes - 40,
                  (const char *)payload + 40);
        cr_assert(dbos_assembler_add_give(&peer->assembler, &frame, payload, 0, &assembly, NULL) ==
                  DBOS_OK);
    }
    return assembly;
}

/* Expect an error frame for a task. */
static void expect_error(const struct peer *peer, uint64_t task_id,
                         enum dbos_frame_error_code code) {
    struct dbos_frame frame;
    struct dbos_frame_times times;
    enum dbos_frame_error_code got;
    struct dbos_bytes text;
    uint8_t *payload;
    do {
        cr_assert(receive_frame(peer, &frame, &payload));
        if (frame.kind == DBOS_FRAME_HEARTBEAT) {
            dbos_give(peer->alloc, payload);
        }
    } while (frame.kind == DBOS_FRAME_HEARTBEAT);
    cr_assert(frame.kind == DBOS_FRAME_ERROR, "kind %d", (int)frame.kind);
    cr_assert(dbos_frame_get_error(payload, frame.payload_bytes, &times, &got, &text, NULL) ==
              DBOS_OK);
    cr_expect(frame.task_id == task_id && got == code, "task %llu code %d: %.*s",
              (unsigned long long)frame.task_id, (int)got, (int)text.size_bytes,
              (const char *)text.data);
    cr_expect(text.size_bytes > 0);
    dbos_give(peer->alloc, payload);
}

static void expect_end(const struct peer *peer) {
    uint8_t byte;
    cr_expect(!receive_bytes(peer, &byte, 1));
}

/* --- Tasks --------------------------------------------------------------------------------------
 */

/* Examples [from, from + count) as a train piece: seeded noise with the label's pixels brighter. */
static size_t train_piece(uint8_t *to, const struct dbos_train_params *params, uint32_t from,
                          uint32_t count) {
    uint8_t *pixels = to + sizeof *params;
    uint8_t *labels = pixels + (size_t)count * INPUTS;
    memcpy(to, params, sizeof *params);
    for (uint32_t n = 0; n < count; n++) {
        struct dbos_rng rng;
        uint8_t label = (uint8_t)((from + n) % OUTPUTS);
        dbos_rng_init(&rng, from + n);
        for (uint32_t i = 0; i < INPUTS; i++) {
            uint8_t noise = (uint8_t)dbos_rng_below(&rng, 120);
            pixels[n * INPUTS + i] = (uint8_t)(noise + (i % OUTPUTS == label ? 100 : 0));
        }
        labels[n] = label;
    }
    return sizeof *params + (size_t)count * (INPUTS + 1);
}

static struct dbos_train_params small_params(void) {
    return (struct dbos_train_params){.version = 1,
                                      .epochs = 4,
                                      .batch_size = 32,
                                      .optimizer = DBOS_OPTIMIZER_ADAM,
                                      .learning_rate = 0.005f,
                                      .hidden = HIDDEN,
                                      .inputs = INPUTS,
                                      .outputs = OUTPUTS,
                                      .seed = 5};
}

/* Return when the worker has taken all that was sent on this connection. */
static void sync_peer(const struct peer *peer) {
    struct dbos_frame frame = {.kind = DBOS_FRAME_HEARTBEAT, .task_id = UINT64_MAX};
    uint8_t *payload;
    send_frame(peer, frame, NULL, 0);
    do {
        cr_assert(receive_frame(peer, &frame, &payload));
        cr_assert(frame.kind == DBOS_FRAME_HEARTBEAT && payload == NULL);
    } while (frame.task_id != UINT64_MAX);
}

/* Send a train task in two pieces, the second first, over two connections. The answer comes on
 * `two`. */
static void send_training(const struct peer *one, const struct peer *two, uint64_t task_id,
                          const struct dbos_train_params *params) {
    struct dbos_frame frame = {.kind = DBOS_FRAME_TRAIN,
                               .task_id = task_id,
                               .attempt = 1,
                               .pieces = 2,
                               .count = EXAMPLES / 2};
    size_t bytes_max = sizeof *params + EXAMPLES * (INPUTS + 1);
    uint8_t *piece = dbos_take(one->alloc, bytes_max);
    frame.piece = 1;
    size_t bytes = train_piece(piece, params, EXAMPLES / 2, EXAMPLES / 2);
    send_frame(one, frame, piece, bytes);
    if (one != two) {
        sync_peer(one);
    }
    frame.piece = 0;
    bytes = train_piece(piece, params, 0, EXAMPLES / 2);
    send_frame(two, frame, piece, bytes);
    dbos_give(one->alloc, piece);
}

/* The assembled result of a small training. */
static struct dbos_buf train_small(struct peer *peer, uint64_t task_id) {
    struct dbos_train_params params = small_params();
    struct dbos_buf result;
    uint32_t beats = 0;
    send_training(peer, peer, task_id, &params);
    struct dbos_assembly *assembly = receive_result(peer, &beats);
    cr_expect(assembly->frame.task_id == task_id && assembly->frame.attempt == 1);
    dbos_buf_init(&result, peer->alloc);
    dbos_assembly_put(assembly, &result);
    dbos_assembly_close(assembly);
    return result;
}

/* Send a model in chunks of `chunk_bytes`, the last first, one of them twice. */
static void send_model(const struct peer *peer, uint32_t version, struct dbos_bytes model,
                       size_t chunk_bytes) {
    uint32_t pieces = (uint32_t)((model.size_bytes + chunk_bytes - 1) / chunk_bytes);
    for (uint32_t piece = pieces; piece-- > 0;) {
        size_t from = piece * chunk_bytes;
        size_t left = model.size_bytes - from;
        struct dbos_frame frame = {.kind = DBOS_FRAME_MODEL_CHUNK,
                                   .model_id = 3,
                                   .model_version = version,
                                   .piece = piece,
                                   .pieces = pieces};
        for (int times = piece == 1 ? 2 : 1; times > 0; times--) {
            send_frame(peer, frame, model.data + from, left < chunk_bytes ? left : chunk_bytes);
        }
    }
}

static void expect_loaded(struct peer *peer, uint32_t version) {
    uint32_t beats = 0;
    struct dbos_assembly *assembly = receive_result(peer, &beats);
    cr_expect(assembly->frame.flags == DBOS_FRAME_FLAG_MODEL);
    cr_expect(assembly->frame.model_id == 3 && assembly->frame.model_version == version);
    dbos_assembly_close(assembly);
}

static struct dbos_frame infer_frame(uint64_t task_id, uint32_t version, uint32_t count) {
    return (struct dbos_frame){.kind = DBOS_FRAME_INFER,
                               .task_id = task_id,
                               .attempt = 1,
                               .model_id = 3,
                               .model_version = version,
                               .count = count,
                               .dtype = DBOS_DTYPE_U8,
                               .layout = DBOS_LAYOUT_NHW};
}

/* Classify `count` examples and return how many come out right. */
static uint32_t infer_count_right(struct peer *peer, uint64_t task_id, uint32_t count) {
    struct dbos_train_params params = small_params();
    uint8_t *piece = dbos_take(peer->alloc, sizeof params + (size_t)count * (INPUTS + 1));
    const uint8_t *labels;
    const uint8_t *probabilities;
    struct dbos_frame_times times;
    struct dbos_buf result;
    uint32_t beats = 0;
    uint32_t right = 0;
    (void)train_piece(piece, &params, 5000, count);
    send_frame(peer, infer_frame(task_id, 1, count), piece + sizeof params, (size_t)count * INPUTS);
    struct dbos_assembly *assembly = receive_result(peer, &beats);
    cr_expect(assembly->frame.task_id == task_id && assembly->frame.count == count);
    dbos_buf_init(&result, peer->alloc);
    dbos_assembly_put(assembly, &result);
    cr_assert(dbos_frame_get_infer_result(result.data, result.size_bytes, count, &times, &labels,
                                          &probabilities, NULL) == DBOS_OK);
    for (uint32_t n = 0; n < count; n++) {
        float probability;
        memcpy(&probability, probabilities + n * sizeof probability, sizeof probability);
        cr_expect(probability >= 1.0f / OUTPUTS && probability <= 1.0f);
        right += labels[n] == (5000 + n) % OUTPUTS ? 1 : 0;
    }
    cr_expect(times.exec_us > 0);
    dbos_buf_fini(&result);
    dbos_assembly_close(assembly);
    dbos_give(peer->alloc, piece);
    return right;
}

Test(integration_worker, a_model_is_trained_returned_loaded_and_asked) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer peer;
    struct dbos_frame_times times;
    struct dbos_train_report report;
    struct dbos_bytes model;
    struct dbos_mlp *mlp = NULL;
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--threads", "1");
    peer_open(&peer, &alloc, &w, 77);
    struct dbos_buf result = train_small(&peer, 1);
    cr_assert(dbos_frame_get_train_result(result.data, result.size_bytes, &times, &report, &model,
                                          NULL) == DBOS_OK);
    cr_expect(report.examples == EXAMPLES && report.epochs == 4 && report.accuracy > 0.8f);
    cr_assert(dbos_model_decode(&alloc, model.data, model.size_bytes, &mlp, NULL) == DBOS_OK);
    cr_expect(mlp->inputs == INPUTS && mlp->hidden == HIDDEN && mlp->outputs == OUTPUTS);
    dbos_mlp_close(&alloc, mlp);
    /* Not loaded yet; then in many small chunks out of order; then it answers. */
    send_frame(&peer, infer_frame(2, 1, 1), result.data, INPUTS);
    expect_error(&peer, 2, DBOS_FRAME_ERR_MODEL_NOT_LOADED);
    send_model(&peer, 1, model, 1000);
    expect_loaded(&peer, 1);
    cr_expect(infer_count_right(&peer, 2, 500) > 450);
    /* A damaged model is refused and the good version stays. */
    result.data[result.size_bytes - 1] ^= 1;
    send_model(&peer, 1, model, 4000);
    expect_error(&peer, 0, DBOS_FRAME_ERR_BAD_MODEL);
    cr_expect(infer_count_right(&peer, 3, 70) > 60);
    /* What does not fit the model or the header is the task's error. */
    send_frame(&peer, infer_frame(4, 1, 2), result.data, INPUTS);
    expect_error(&peer, 4, DBOS_FRAME_ERR_BAD_INPUT);
    dbos_buf_fini(&result);
    peer_close(&peer);
    worker_close(&w, SIGTERM);
    dbos_alloc_fini(&alloc);
}

Test(integration_worker, the_same_task_sent_again_is_answered_not_run_again) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer peer;
    struct peer other;
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--threads", "1");
    peer_open(&peer, &alloc, &w, 77);
    struct dbos_buf first = train_small(&peer, 1);
    struct dbos_buf again = train_small(&peer, 1);
    /* The time split is part of the result: a second run would differ in it. */
    cr_assert(first.size_bytes == again.size_bytes);
    cr_expect(memcmp(first.data, again.data, first.size_bytes) == 0);
    dbos_buf_fini(&again);
    /* Another connection of the same database too; another database's task 1 is another task. */
    peer_open(&other, &alloc, &w, 77);
    again = train_small(&other, 1);
    cr_expect(memcmp(first.data, again.data, first.size_bytes) == 0);
    dbos_buf_fini(&again);
    peer_close(&other);
    peer_open(&other, &alloc, &w, 78);
    again = train_small(&other, 1);
    cr_assert(first.size_bytes == again.size_bytes);
    cr_expect(memcmp(first.data, again.data, sizeof(struct dbos_frame_times)) != 0);
    cr_expect(memcmp(first.data + 64, again.data + 64, first.size_bytes - 64) == 0,
              "same seed, same model");
    dbos_buf_fini(&again);
    dbos_buf_fini(&first);
    peer_close(&other);
    peer_close(&peer);
    worker_close(&w, 0);
    dbos_alloc_fini(&alloc);
}

Test(integration_worker, a_long_training_beats_lets_others_in_and_can_be_canceled) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer one;
    struct peer two;
    struct dbos_frame frame;
    uint8_t *payload;
    struct dbos_train_params params = small_params();
    struct dbos_train_report report;
    struct dbos_bytes model;
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--threads", "1");
    peer_open(&one, &alloc, &w, 77);
    peer_open(&two, &alloc, &w, 77);
    struct dbos_buf small = train_small(&one, 1);
    cr_assert(dbos_frame_get_train_result(small.data, small.size_bytes, NULL, &report, &model,
                                          NULL) == DBOS_OK);
    send_model(&one, 1, model, 100000);
    expect_loaded(&one, 1);
    /* Over two connections; the beats come on the one that completed it. */
    params.epochs = 10000;
    params.hidden = 512;
    send_training(&one, &two, 50, &params);
    cr_assert(receive_frame(&two, &frame, &payload));
    cr_expect(frame.kind == DBOS_FRAME_HEARTBEAT && frame.task_id == 50);
    cr_expect(frame.flags == DBOS_FRAME_FLAG_REPLY && frame.count < 1000 && payload == NULL);
    /* Sent again while it runs: still one task with one answer. */
    send_training(&one, &two, 50, &params);
    /* Meanwhile a short task is served, and the echo answers. */
    cr_expect(infer_count_right(&one, 51, 100) > 90);
    send_frame(&one, (struct dbos_frame){.kind = DBOS_FRAME_HEARTBEAT, .task_id = 9}, "alive?", 6);
    do {
        cr_assert(receive_frame(&one, &frame, &payload));
    } while (frame.kind == DBOS_FRAME_HEARTBEAT && frame.task_id == 50);
    cr_expect(frame.kind == DBOS_FRAME_HEARTBEAT && frame.task_id == 9);
    cr_expect(frame.payload_bytes == 6 && memcmp(payload, "alive?", 6) == 0);
    dbos_give(&alloc, payload);
    /* A training that waits behind it is over at its deadline, not when its turn comes. */
    size_t bytes_max = sizeof params + INPUTS + 1;
    uint8_t *piece = dbos_take(&alloc, bytes_max);
    frame = (struct dbos_frame){
        .kind = DBOS_FRAME_TRAIN, .task_id = 52, .count = 1, .deadline_us = 200000};
    send_frame(&one, frame, piece, train_piece(piece, &params, 0, 1));
    expect_error(&one, 52, DBOS_FRAME_ERR_DEADLINE);
    /* Cancel by another connection of the same database. */
    send_frame(&one, (struct dbos_frame){.kind = DBOS_FRAME_CANCEL, .task_id = 50, .attempt = 1},
               NULL, 0);
    expect_error(&two, 50, DBOS_FRAME_ERR_CANCELED);
    /* A later attempt supersedes the earlier one. */
    send_training(&one, &two, 53, &params);
    sync_peer(&two);
    frame = (struct dbos_frame){.kind = DBOS_FRAME_TRAIN, .task_id = 53, .attempt = 2, .count = 1};
    params.epochs = 1;
    send_frame(&one, frame, piece, train_piece(piece, &params, 0, 1));
    uint32_t beats = 0;
    dbos_assembly_close(receive_result(&one, &beats));
    expect_error(&two, 53, DBOS_FRAME_ERR_CANCELED);
    frame.attempt = 1;
    send_frame(&one, frame, piece, train_piece(piece, &params, 0, 1));
    expect_error(&one, 53, DBOS_FRAME_ERR_CANCELED);
    /* And what runs when the worker is told to stop does not hold it up. */
    params.epochs = 10000;
    send_training(&one, &two, 60, &params);
    cr_assert(receive_frame(&two, &frame, &payload) && frame.kind == DBOS_FRAME_HEARTBEAT);
    dbos_give(&alloc, piece);
    dbos_buf_fini(&small);
    worker_close(&w, SIGTERM);
    peer_close(&one);
    peer_close(&two);
    dbos_alloc_fini(&alloc);
}

Test(integration_worker, a_task_that_runs_over_its_deadline_or_misses_a_piece_is_an_error) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer peer;
    struct dbos_train_params params = small_params();
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--threads", "1");
    peer_open(&peer, &alloc, &w, 77);
    uint8_t *piece = dbos_take(&alloc, sizeof params + EXAMPLES * (INPUTS + 1));
    struct dbos_frame frame = {
        .kind = DBOS_FRAME_TRAIN, .task_id = 1, .count = EXAMPLES, .deadline_us = 500000};
    params.epochs = 10000;
    params.hidden = 512;
    send_frame(&peer, frame, piece, train_piece(piece, &params, 0, EXAMPLES));
    expect_error(&peer, 1, DBOS_FRAME_ERR_DEADLINE);
    frame.task_id = 2;
    frame.pieces = 2;
    send_frame(&peer, frame, piece, 100);
    expect_error(&peer, 2, DBOS_FRAME_ERR_DEADLINE);
    /* A cancel of what waits for pieces. */
    frame.task_id = 3;
    frame.deadline_us = 0;
    send_frame(&peer, frame, piece, 100);
    send_frame(&peer, (struct dbos_frame){.kind = DBOS_FRAME_CANCEL, .task_id = 3}, NULL, 0);
    expect_error(&peer, 3, DBOS_FRAME_ERR_CANCELED);
    dbos_give(&alloc, piece);
    peer_close(&peer);
    worker_close(&w, 0);
    dbos_alloc_fini(&alloc);
}

Test(integration_worker, more_than_the_memory_for_tasks_is_refused_and_the_worker_goes_on) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer peer;
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--task-memory-mb", "2");
    peer_open(&peer, &alloc, &w, 77);
    uint8_t *piece = dbos_take_zero(&alloc, DBOS_FRAME_PAYLOAD_MAX);
    struct dbos_frame frame = {.kind = DBOS_FRAME_TRAIN, .task_id = 1, .pieces = 4};
    /* 1 MiB fits; the second meets the bookkeeping's share; the task is dropped. */
    send_frame(&peer, frame, piece, DBOS_FRAME_PAYLOAD_MAX);
    frame.piece = 1;
    send_frame(&peer, frame, piece, DBOS_FRAME_PAYLOAD_MAX);
    expect_error(&peer, 1, DBOS_FRAME_ERR_LIMIT);
    struct dbos_buf result = train_small(&peer, 2);
    cr_expect(result.size_bytes > 0);
    dbos_buf_fini(&result);
    dbos_give(&alloc, piece);
    peer_close(&peer);
    worker_close(&w, SIGTERM);
    dbos_alloc_fini(&alloc);
}

/* Goal: what one connection sends ends that connection at most.
 * Method: each kind of bad beginning on a connection of its own, while a good one works. */
Test(integration_worker, garbage_ends_its_own_connection_only) {
    struct dbos_alloc alloc;
    struct worker w;
    struct peer good;
    dbos_alloc_init(&alloc, "test", 0);
    worker_open(&w, "--threads", "1");
    peer_open(&good, &alloc, &w, 77);
    for (int kind = 0; kind < 7; kind++) {
        struct peer bad;
        struct dbos_frame frame = {.kind = DBOS_FRAME_HELLO, .pieces = 1};
        struct dbos_frame_hello hello = {
            .version = 1, .frame_version_min = 2, .frame_version_max = 2};
        struct dbos_bytes run = {(const uint8_t *)&hello, sizeof hello};
        enum dbos_frame_error_code code = DBOS_FRAME_ERR_PROTOCOL;
        uint8_t bytes[DBOS_FRAME_BYTES + sizeof hello];
        uint8_t *payload;
        cr_assert(dbos_frame_encode(&frame, &run, 1, bytes, NULL) == DBOS_OK);
        memcpy(bytes + DBOS_FRAME_BYTES, &hello, sizeof hello);
        if (kind <= 1) {
            peer_open(&bad, &alloc, &w, 5);
        } else {
            peer_connect(&bad, &alloc, &w);
            cr_assert(receive_frame(&bad, &frame, &payload) && frame.kind == DBOS_FRAME_HELLO);
            dbos_give(&alloc, payload);
        }
        switch (kind) {
        case 0: /* random bytes after a good start */
            for (uint64_t i = 0; i < 500; i++) {
                uint64_t noise = dbos_mix64(i + 1);
                send_bytes(&bad, &noise, sizeof noise);
            }
            break;
        case 1: /* a kind that only a worker sends */
            send_frame(&bad, (struct dbos_frame){.kind = DBOS_FRAME_RESULT}, "x", 1);
            break;
        case 2: /* another protocol */
            send_bytes(&bad, "GET / HTTP/1.1\r\n\r\n", 18);
            break;
        case 3: /* no common version in the hello */
            send_bytes(&bad, bytes, sizeof bytes);
            code = DBOS_FRAME_ERR_VERSION;
            break;
        case 4: /* another frame version */
            bytes[4] = 9;
            send_bytes(&bad, bytes, sizeof bytes);
            code = DBOS_FRAME_ERR_VERSION;
            break;
        case 5: /* a damaged payload */
            bytes[DBOS_FRAME_BYTES + 3] ^= 1;
            send_bytes(&bad, bytes, sizeof bytes);
            break;
        default: /* no hello */
            send_frame(&bad, (struct dbos_frame){.kind = DBOS_FRAME_CANCEL}, NULL, 0);
            break;
        }
        expect_error(&bad, 0, code);
        expect_end(&bad);
        peer_close(&bad);
    }
    /* One that says nothing and one that stops within a frame. */
    struct peer silent;
    struct peer half;
    peer_connect(&silent, &alloc, &w);
    peer_open(&half, &alloc, &w, 6);
    send_bytes(&half, "DBT1", 4);
    peer_close(&half);
    struct dbos_buf result = train_small(&good, 1);
    cr_expect(result.size_bytes > 0);
    dbos_buf_fini(&result);
    peer_close(&silent);
    peer_close(&good);
    worker_close(&w, SIGTERM);
    dbos_alloc_fini(&alloc);
}
