#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/log.h"
#include "engine/engine_internal.h"
#include "engine/tasks.h"
#include "engine/worker_link.h"
#include "gpu/assembler.h"

enum {
    TASK_BUCKETS = 1024,
    IN_FLIGHT_MAX = 16,                 /* tasks at the worker */
    UNSENT_BYTES_MAX = 8 * 1024 * 1024, /* queued towards the worker */
    LEASE_MS = 10000,                   /* a heartbeat or a piece extends it */
    RETRY_MS_MIN = 50,
    RETRY_MS_MAX = 5000,
    ORPHAN_MS = 60000, /* pieces whose task never shows up */
    RESULT_BYTES_MAX = 64 * 1024 * 1024,
    TICK_MS = 100,
    STARVED_MAX = 5, /* results of a task that found no memory, before it has failed */
    RESULT_TIMEOUT_US = 30 * 1000 * 1000, /* of a result procedure; past it the task has failed */
};

enum task_state { TASK_COLLECTING, TASK_READY, TASK_SENT, TASK_FINISHING };

struct task {
    struct task *next_in_bucket;
    struct task *next; /* of the list of all */
    struct task *previous;
    uint64_t id;
    enum task_state state;
    bool known; /* `info` is there; else only pieces have come */
    struct dbos_outbox_task info;
    struct dbos_outbox_piece *pieces; /* info.pieces of them, payload NULL = missing */
    uint32_t piece_room;
    uint32_t have;
    uint16_t attempt;
    uint16_t starved;
    uint64_t epoch; /* of the connection that it was sent over */
    uint64_t since_ns;
    uint64_t retry_ns;
    uint64_t lease_ns;
};

/* What other threads tell the dispatcher. */
enum message_kind { MESSAGE_COMMITTED, MESSAGE_FINISHED };
struct dbos_task_message {
    struct dbos_queue_node node; /* first */
    enum message_kind kind;
    uint64_t position;
    struct dbos_task_message *next; /* waiting for the watermark, by position */
    uint32_t task_count;
    uint32_t piece_count;
    uint32_t tasks_taken; /* so many of them are ours already */
    uint32_t pieces_taken;
    struct dbos_outbox_task *tasks;   /* inside this block */
    struct dbos_outbox_piece *pieces; /* inside this block */
    struct dbos_task_outcome *outcome;
};

struct dbos_dispatcher {
    struct dbos_engine *engine;
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    int wake_fd;
    struct dbos_queue inbox;
    struct dbos_task_message *held; /* not durable yet, ascending */
    _Atomic uint64_t held_position; /* of the first of them; UINT64_MAX = none */
    struct task *buckets[TASK_BUCKETS];
    struct task *first;
    struct task *last;
    uint32_t in_flight;
    struct dbos_worker_link *link; /* NULL: this node has no worker */
    struct dbos_assembler assembler;
    uint64_t session; /* of the results' transactions */
    uint64_t requests;
    pthread_t thread;
    bool running;
    bool is_starved; /* the scan has found more than there was memory for */
    _Atomic bool stopping;
    _Atomic uint64_t stat_open, stat_sent, stat_done, stat_failed, stat_retried;
    _Atomic bool stat_connected;
};

/* -- tasks ---------------------------------------------------------------------------------------
 */

static struct task **bucket_of(struct dbos_dispatcher *d, uint64_t id) {
    return &d->buckets[dbos_mix64(id) % TASK_BUCKETS];
}

static struct task *find_task(struct dbos_dispatcher *d, uint64_t id) {
    struct task *task = *bucket_of(d, id);
    while (task != NULL && task->id != id) {
        task = task->next_in_bucket;
    }
    return task;
}

static struct task *make_task(struct dbos_dispatcher *d, uint64_t id) {
    struct task *task = dbos_take_zero(d->alloc, sizeof *task);
    if (task == NULL) {
        return NULL;
    }
    task->id = id;
    task->since_ns = d->env->ops->mono_ns(d->env);
    struct task **bucket = bucket_of(d, id);
    task->next_in_bucket = *bucket;
    *bucket = task;
    task->previous = d->last;
    if (d->last == NULL) {
        d->first = task;
    } else {
        d->last->next = task;
    }
    d->last = task;
    atomic_fetch_add(&d->stat_open, 1);
    return task;
}

static void give_task_parts(struct dbos_alloc *alloc, struct dbos_outbox_task *task) {
    for (uint32_t i = 0; i < task->chunk_count; i++) {
        dbos_object_unref(task->chunks[i]);
    }
    dbos_give(alloc, task->chunks);
    task->chunks = NULL;
    task->chunk_count = 0;
}

static void unlink_task(struct dbos_dispatcher *d, struct task *task) {
    struct task **bucket = bucket_of(d, task->id);
    while (*bucket != task) {
        bucket = &(*bucket)->next_in_bucket;
    }
    *bucket = task->next_in_bucket;
    *(task->previous == NULL ? &d->first : &task->previous->next) = task->next;
    *(task->next == NULL ? &d->last : &task->next->previous) = task->previous;
}

static void leave_worker(struct dbos_dispatcher *d, struct task *task) {
    if (task->state == TASK_SENT) {
        d->in_flight--;
    }
}

static void drop_task(struct dbos_dispatcher *d, struct task *task) {
    leave_worker(d, task);
    unlink_task(d, task);
    for (uint32_t i = 0; i < task->piece_room; i++) {
        dbos_object_unref(task->pieces[i].payload);
    }
    give_task_parts(d->alloc, &task->info);
    dbos_give(d->alloc, task->pieces);
    dbos_give(d->alloc, task);
    atomic_fetch_sub(&d->stat_open, 1);
}

static bool room_for_piece(struct dbos_dispatcher *d, struct task *task, uint32_t piece) {
    if (piece < task->piece_room) {
        return true;
    }
    uint32_t room = task->piece_room == 0 ? 1 : task->piece_room;
    while (room <= piece) {
        room *= 2;
    }
    struct dbos_outbox_piece *pieces = dbos_retake(d->alloc, task->pieces, room * sizeof *pieces);
    if (pieces == NULL) {
        return false;
    }
    memset(pieces + task->piece_room, 0, (room - task->piece_room) * sizeof *pieces);
    task->pieces = pieces;
    task->piece_room = room;
    return true;
}

/* Pieces with a number that the task does not have do not count; it then waits for its own, and
 * fails at its deadline. */
static void check_complete(struct task *task) {
    if (task->state != TASK_COLLECTING || !task->known || task->have < task->info.pieces ||
        task->piece_room < task->info.pieces) {
        return;
    }
    for (uint32_t i = 0; i < task->info.pieces; i++) {
        if (task->pieces[i].payload == NULL) {
            return;
        }
    }
    task->state = TASK_READY;
}

/* Takes over the piece's reference. False: there is no memory, and it is not taken over. */
static bool accept_piece(struct dbos_dispatcher *d, const struct dbos_outbox_piece *piece) {
    if (piece->piece >= DBOS_FRAME_PIECES_MAX) {
        dbos_object_unref(piece->payload);
        return true;
    }
    struct task *task = find_task(d, piece->task_id);
    if (task == NULL) {
        task = make_task(d, piece->task_id);
    }
    if (task == NULL || !room_for_piece(d, task, piece->piece)) {
        return false;
    }
    if (task->pieces[piece->piece].payload != NULL) {
        dbos_object_unref(piece->payload);
        return true;
    }
    task->pieces[piece->piece] = *piece;
    task->have++;
    check_complete(task);
    return true;
}

/* Takes over the task's references; `info->chunks` becomes a block of ours. False: there is no
 * memory, and they are not taken over. */
static bool accept_task(struct dbos_dispatcher *d, struct dbos_outbox_task *info) {
    struct task *task = find_task(d, info->task_id);
    if (task == NULL) {
        task = make_task(d, info->task_id);
    }
    if (task == NULL) {
        return false;
    }
    if (task->known) {
        give_task_parts(d->alloc, info);
        return true;
    }
    task->info = *info;
    task->known = true;
    check_complete(task);
    return true;
}

/* -- messages ------------------------------------------------------------------------------------
 */

static void give_message(struct dbos_dispatcher *d, struct dbos_task_message *message) {
    for (uint32_t i = message->tasks_taken; i < message->task_count; i++) {
        give_task_parts(d->alloc, &message->tasks[i]);
    }
    for (uint32_t i = message->pieces_taken; i < message->piece_count; i++) {
        dbos_object_unref(message->pieces[i].payload);
    }
    dbos_give(d->alloc, message);
}

/* A block that lives as long as the task, with the chunks of the transaction's arena. */
static bool copy_task(struct dbos_alloc *alloc, const struct dbos_outbox_task *task,
                      struct dbos_outbox_task *out) {
    size_t chunk_bytes = task->chunk_count * sizeof(struct dbos_object *);
    struct dbos_object **chunks = dbos_take(alloc, chunk_bytes + 1);
    if (chunks == NULL) {
        return false;
    }
    if (chunk_bytes != 0) {
        memcpy(chunks, task->chunks, chunk_bytes);
    }
    *out = *task;
    out->chunks = chunks;
    return true;
}

/* Copies the batch out of the transaction's arena. The references move into what is counted in
 * *out, which is NULL where there is no memory at all; false: not all of them did. */
static bool copy_batch(struct dbos_alloc *alloc, const struct dbos_outbox_batch *batch,
                       struct dbos_task_message **out) {
    size_t task_bytes = batch->task_count * sizeof(struct dbos_outbox_task);
    size_t piece_bytes = batch->piece_count * sizeof(struct dbos_outbox_piece);
    struct dbos_task_message *message =
        dbos_take_zero(alloc, sizeof *message + task_bytes + piece_bytes);
    *out = message;
    if (message == NULL) {
        return false;
    }
    message->tasks = (struct dbos_outbox_task *)(void *)(message + 1);
    message->pieces = (struct dbos_outbox_piece *)(void *)((uint8_t *)(message + 1) + task_bytes);
    for (; message->task_count < batch->task_count; message->task_count++) {
        uint32_t i = message->task_count;
        if (!copy_task(alloc, &batch->tasks[i], &message->tasks[i])) {
            return false;
        }
    }
    if (piece_bytes != 0) {
        memcpy(message->pieces, batch->pieces, piece_bytes);
    }
    message->piece_count = batch->piece_count;
    return true;
}

/* What did not move. */
static void drop_rest(const struct dbos_outbox_batch *batch,
                      const struct dbos_task_message *message) {
    uint32_t moved = message == NULL ? 0 : message->task_count;
    dbos_outbox_drop(&(struct dbos_outbox_batch){.task_count = batch->task_count - moved,
                                                 .tasks = batch->tasks + moved,
                                                 .piece_count = batch->piece_count,
                                                 .pieces = batch->pieces});
}

enum dbos_err dbos_dispatcher_prepare(struct dbos_dispatcher *d,
                                      const struct dbos_outbox_batch *batch,
                                      struct dbos_task_message **out, struct dbos_errinfo *info) {
    struct dbos_task_message *message = NULL;
    *out = NULL;
    if (!copy_batch(d->alloc, batch, &message)) {
        drop_rest(batch, message);
        if (message != NULL) {
            give_message(d, message);
        }
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a task that was submitted");
    }
    *out = message;
    return DBOS_OK;
}

void dbos_dispatcher_committed_give(struct dbos_dispatcher *d, struct dbos_task_message *message,
                                    uint64_t position) {
    message->kind = MESSAGE_COMMITTED;
    message->position = position;
    dbos_queue_push(&d->inbox, &message->node);
}

void dbos_dispatcher_forget_give(struct dbos_dispatcher *d, struct dbos_task_message *message) {
    give_message(d, message);
}

void dbos_dispatcher_durable(struct dbos_dispatcher *d, uint64_t position) {
    if (position >= atomic_load(&d->held_position)) {
        dbos_queue_wake(&d->inbox);
    }
}

static void hold(struct dbos_dispatcher *d, struct dbos_task_message *message) {
    struct dbos_task_message **place = &d->held;
    while (*place != NULL && (*place)->position <= message->position) {
        place = &(*place)->next;
    }
    message->next = *place;
    *place = message;
}

/* False: there is no memory for the rest of it, which stays. */
static bool accept_committed(struct dbos_dispatcher *d, struct dbos_task_message *message) {
    for (; message->tasks_taken < message->task_count; message->tasks_taken++) {
        if (!accept_task(d, &message->tasks[message->tasks_taken])) {
            return false;
        }
    }
    for (; message->pieces_taken < message->piece_count; message->pieces_taken++) {
        if (!accept_piece(d, &message->pieces[message->pieces_taken])) {
            return false;
        }
    }
    return true;
}

/* Nothing leaves the node before what it depends on is durable (decision 3). What is waited for is
 * announced before the watermark is looked at, so that no move of it is missed. What finds no
 * memory is tried again in the next turn. */
static void release_durable(struct dbos_dispatcher *d) {
    atomic_store(&d->held_position, d->held == NULL ? UINT64_MAX : d->held->position);
    uint64_t durable = dbos_log_durable(d->engine->log);
    while (d->held != NULL && d->held->position <= durable && accept_committed(d, d->held)) {
        struct dbos_task_message *message = d->held;
        d->held = message->next;
        give_message(d, message);
        atomic_store(&d->held_position, d->held == NULL ? UINT64_MAX : d->held->position);
        durable = dbos_log_durable(d->engine->log);
    }
}

/* -- finishing -----------------------------------------------------------------------------------
 */

static void give_outcome(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    dbos_buf_fini(&outcome->bytes);
    dbos_give(d->alloc, outcome->pieces);
    dbos_buf_fini(&outcome->request.reply);
    dbos_arena_fini(&outcome->request.arena);
    dbos_give(d->alloc, outcome->message);
    dbos_give(d->alloc, outcome);
}

/* In the thread that ran the transaction. */
static void outcome_done(struct dbos_request *request) {
    struct dbos_task_outcome *outcome = request->owner;
    dbos_queue_push(&outcome->dispatcher->inbox, &outcome->message->node);
}

static void submit_outcome(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    struct dbos_request *request = &outcome->request;
    request->number = ++d->requests;
    memset(&request->error, 0, sizeof request->error);
    dbos_engine_submit(d->engine, request);
}

static struct dbos_task_outcome *make_outcome(struct dbos_dispatcher *d, struct task *task) {
    struct dbos_task_outcome *outcome = dbos_take_zero(d->alloc, sizeof *outcome);
    struct dbos_task_message *message = dbos_take_zero(d->alloc, sizeof *message);
    if (outcome == NULL || message == NULL) {
        dbos_give(d->alloc, outcome);
        dbos_give(d->alloc, message);
        return NULL;
    }
    message->kind = MESSAGE_FINISHED;
    message->outcome = outcome;
    outcome->message = message;
    outcome->dispatcher = d;
    outcome->task_id = task->id;
    outcome->result.task_id = task->id;
    dbos_buf_init(&outcome->bytes, d->alloc);
    struct dbos_request *request = &outcome->request;
    request->kind = DBOS_REQUEST_TASK;
    request->owner = outcome;
    request->on_done = outcome_done;
    request->route = DBOS_ROUTE_ONE;
    request->partition = task->info.partition;
    request->timeout_us = RESULT_TIMEOUT_US;
    request->session = &outcome->session;
    dbos_arena_init(&request->arena, d->alloc, 0);
    dbos_buf_init(&request->reply, d->alloc);
    return outcome;
}

/* The result runs as the user who submitted the task (decision 11), whom the runner reads from the
 * task's row. Each result transaction is a session of its own. */
static void name_session(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    outcome->session = (struct dbos_session_info){
        .id = dbos_engine_take_session_id(d->engine),
        .user = outcome->user,
        .role = outcome->user,
        .address = "task",
        .application = "dbosd dispatcher",
    };
}

static void finish(struct dbos_dispatcher *d, struct task *task,
                   struct dbos_task_outcome *outcome) {
    leave_worker(d, task);
    task->state = TASK_FINISHING;
    name_session(d, outcome);
    submit_outcome(d, outcome);
}

/* False: there is no memory, and nothing has changed. */
static bool fail_task(struct dbos_dispatcher *d, struct task *task, const char *error) {
    struct dbos_task_outcome *outcome = make_outcome(d, task);
    if (outcome == NULL) {
        return false;
    }
    outcome->failed = true;
    (void)snprintf(outcome->error, sizeof outcome->error, "%s", error);
    finish(d, task, outcome);
    return true;
}

static void retry_task(struct dbos_dispatcher *d, struct task *task, uint64_t now_ns) {
    uint32_t tries = (uint32_t)task->attempt + task->starved;
    uint32_t doublings = tries < 8 ? tries : 8;
    uint64_t wait_ms = (uint64_t)RETRY_MS_MIN << doublings;
    leave_worker(d, task);
    task->state = TASK_READY;
    task->retry_ns = now_ns + (wait_ms < RETRY_MS_MAX ? wait_ms : RETRY_MS_MAX) * 1000000;
    atomic_fetch_add(&d->stat_retried, 1);
}

/* Memory may be there later; the worker computes the result once more (a task is stateless). */
static bool starve(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    struct task *task = find_task(d, outcome->task_id);
    if (outcome->request.outcome != DBOS_ERR_NOMEM || task == NULL ||
        task->starved >= STARVED_MAX) {
        return false;
    }
    task->starved++;
    give_outcome(d, outcome);
    retry_task(d, task, d->env->ops->mono_ns(d->env));
    return true;
}

/* A result procedure that can not run on the task's partition runs under the barrier; one that
 * aborts leaves the task failed with its message. */
static bool try_again(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    struct dbos_request *request = &outcome->request;
    if (request->outcome == DBOS_ERR_WRONG_PARTITION && request->route != DBOS_ROUTE_BARRIER) {
        request->route = DBOS_ROUTE_BARRIER;
        submit_outcome(d, outcome);
        return true;
    }
    if (!outcome->mark_only) {
        outcome->mark_only = true;
        outcome->failed = true;
        request->route = DBOS_ROUTE_BARRIER;
        (void)snprintf(outcome->error, sizeof outcome->error, "%.255s", request->error.message);
        submit_outcome(d, outcome);
        return true;
    }
    dbos_log(DBOS_LOG_ERROR, "task %llu can not be finished: %s",
             (unsigned long long)outcome->task_id, request->error.message);
    return false;
}

static void accept_finished(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome) {
    if (outcome->request.outcome != DBOS_OK && (starve(d, outcome) || try_again(d, outcome))) {
        return;
    }
    atomic_fetch_add(outcome->failed ? &d->stat_failed : &d->stat_done, 1);
    struct task *task = find_task(d, outcome->task_id);
    if (task != NULL) {
        drop_task(d, task);
    }
    give_outcome(d, outcome);
}

static void read_inbox(struct dbos_dispatcher *d) {
    for (;;) {
        struct dbos_task_message *message =
            (struct dbos_task_message *)(void *)dbos_queue_pop(&d->inbox);
        if (message == NULL) {
            return;
        }
        if (message->kind == MESSAGE_COMMITTED) {
            hold(d, message);
        } else {
            accept_finished(d, message->outcome);
        }
    }
}

/* -- to the worker -------------------------------------------------------------------------------
 */

static uint64_t left_us(struct dbos_dispatcher *d, const struct task *task) {
    int64_t now_us = d->env->ops->wall_us(d->env);
    return task->info.deadline_us > now_us ? (uint64_t)(task->info.deadline_us - now_us) : 0;
}

static enum dbos_err send_pieces(struct dbos_dispatcher *d, struct task *task,
                                 uint64_t deadline_us) {
    for (uint32_t i = 0; i < task->info.pieces; i++) {
        struct dbos_frame frame = {
            .kind = (enum dbos_frame_kind)task->info.kind,
            .task_id = task->id,
            .attempt = task->attempt,
            .piece = i,
            .pieces = task->info.pieces,
            .model_id = (uint32_t)task->info.model_id,
            .model_version = (uint32_t)task->info.model_version,
            .count = task->pieces[i].count,
            .dtype = DBOS_DTYPE_U8,
            .layout = DBOS_LAYOUT_NHW,
            .deadline_us = deadline_us,
        };
        enum dbos_err err = dbos_worker_link_send(d->link, &frame, task->pieces[i].payload);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

static void send_task(struct dbos_dispatcher *d, struct task *task, uint64_t now_ns) {
    uint32_t model = (uint32_t)task->info.model_id;
    uint32_t version = (uint32_t)task->info.model_version;
    enum dbos_err err = DBOS_OK;
    if (task->info.chunk_count != 0 && !dbos_worker_link_has_model(d->link, model, version)) {
        err = dbos_worker_link_send_model(d->link, model, version, task->info.chunks,
                                          task->info.chunk_count);
    }
    task->attempt++;
    if (err == DBOS_OK) {
        err = send_pieces(d, task, left_us(d, task));
    }
    task->state = TASK_SENT;
    d->in_flight++;
    task->epoch = dbos_worker_link_epoch(d->link);
    task->lease_ns = err == DBOS_OK ? now_ns + (uint64_t)LEASE_MS * 1000000 : 0;
    atomic_fetch_add(&d->stat_sent, 1);
}

static void check_task(struct dbos_dispatcher *d, struct task *task, uint64_t now_ns) {
    if (!task->known) {
        if (now_ns - task->since_ns > (uint64_t)ORPHAN_MS * 1000000) {
            dbos_log(DBOS_LOG_WARN, "pieces of task %llu, which is not open, are dropped",
                     (unsigned long long)task->id);
            drop_task(d, task);
        }
        return;
    }
    if (task->state == TASK_FINISHING) {
        return;
    }
    /* What found no memory for its end waits until it is tried again; nothing else is late. */
    bool may_end = task->starved == 0 || now_ns >= task->retry_ns;
    if (left_us(d, task) == 0 && may_end) {
        (void)fail_task(d, task, "the task missed its deadline"); /* else at the next walk */
        return;
    }
    bool lost = d->link == NULL || task->epoch != dbos_worker_link_epoch(d->link) ||
                !dbos_worker_link_connected(d->link) || now_ns > task->lease_ns;
    if (task->state == TASK_SENT && lost) {
        retry_task(d, task, now_ns);
    }
}

static void walk_tasks(struct dbos_dispatcher *d, uint64_t now_ns) {
    struct task *next = NULL;
    for (struct task *task = d->first; task != NULL; task = next) {
        next = task->next;
        check_task(d, task, now_ns);
    }
}

static void send_ready(struct dbos_dispatcher *d, uint64_t now_ns) {
    if (d->link == NULL || !dbos_worker_link_connected(d->link)) {
        return;
    }
    for (struct task *task = d->first; task != NULL && d->in_flight < IN_FLIGHT_MAX;
         task = task->next) {
        if (dbos_worker_link_unsent_bytes(d->link) > UNSENT_BYTES_MAX) {
            return;
        }
        if (task->state == TASK_READY && task->retry_ns <= now_ns) {
            send_task(d, task, now_ns);
        }
    }
}

/* -- from the worker -----------------------------------------------------------------------------
 */

/* Cut what the result procedure sees into pieces of at most 1 MB. */
static bool cut_pieces(struct dbos_dispatcher *d, struct dbos_task_outcome *outcome,
                       struct dbos_bytes payload, uint32_t count) {
    uint32_t pieces =
        (uint32_t)((payload.size_bytes + DBOS_TASK_BYTES_MAX - 1) / DBOS_TASK_BYTES_MAX);
    outcome->pieces = dbos_take_zero(d->alloc, (pieces + 1) * sizeof *outcome->pieces);
    if (outcome->pieces == NULL) {
        return false;
    }
    for (uint32_t i = 0; i < pieces; i++) {
        size_t start = (size_t)i * DBOS_TASK_BYTES_MAX;
        size_t left = payload.size_bytes - start;
        outcome->pieces[i] = (struct dbos_task_result_piece){
            .payload = {.data = payload.data + start,
                        .size_bytes = left < DBOS_TASK_BYTES_MAX ? left : DBOS_TASK_BYTES_MAX},
            .count = count,
        };
    }
    outcome->result.pieces = outcome->pieces;
    outcome->result.piece_count = pieces;
    return true;
}

/* Check the result against what its kind promises (decision 11) and split off the time split. */
static enum dbos_err read_result(struct dbos_dispatcher *d, struct task *task,
                                 struct dbos_task_outcome *outcome, uint32_t count,
                                 struct dbos_errinfo *info) {
    struct dbos_frame_times times = {0};
    struct dbos_bytes payload = {0};
    enum dbos_err err = DBOS_OK;
    if (task->info.kind == DBOS_FRAME_INFER) {
        const uint8_t *labels = NULL;
        const uint8_t *probabilities = NULL;
        err = dbos_frame_get_infer_result(outcome->bytes.data, outcome->bytes.size_bytes, count,
                                          &times, &labels, &probabilities, info);
        payload = (struct dbos_bytes){.data = labels, .size_bytes = (size_t)count * 5};
    } else {
        struct dbos_train_report report;
        err = dbos_frame_get_train_result(outcome->bytes.data, outcome->bytes.size_bytes, &times,
                                          &report, &payload, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    outcome->result.exec_us = times.exec_us;
    return cut_pieces(d, outcome, payload, count)
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the result");
}

static uint32_t task_items(const struct task *task) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < task->info.pieces; i++) {
        count += task->pieces[i].count;
    }
    return count;
}

static void accept_result(struct dbos_dispatcher *d, struct task *task,
                          struct dbos_assembly *assembly, uint64_t now_ns) {
    struct dbos_errinfo info;
    struct dbos_task_outcome *outcome = make_outcome(d, task);
    if (outcome == NULL) {
        retry_task(d, task, now_ns);
        return;
    }
    dbos_assembly_put(assembly, &outcome->bytes);
    enum dbos_err err = DBOS_ERR_NOMEM;
    if (!outcome->bytes.failed) {
        err = read_result(d, task, outcome, task_items(task), &info);
    }
    if (err == DBOS_ERR_NOMEM) {
        give_outcome(d, outcome);
        retry_task(d, task, now_ns);
        return;
    }
    if (err != DBOS_OK) {
        outcome->failed = true;
        (void)snprintf(outcome->error, sizeof outcome->error, "%.255s", info.message);
    }
    finish(d, task, outcome);
}

static void accept_error(struct dbos_dispatcher *d, struct task *task,
                         const struct dbos_frame *frame, const void *payload, uint64_t now_ns) {
    enum dbos_frame_error_code code = DBOS_FRAME_ERR_PROTOCOL;
    struct dbos_bytes text = {0};
    if (dbos_frame_get_error(payload, frame->payload_bytes, NULL, &code, &text, NULL) != DBOS_OK) {
        return; /* the lease will end */
    }
    if (code == DBOS_FRAME_ERR_MODEL_NOT_LOADED) {
        dbos_worker_link_forget_model(d->link, frame->model_id, frame->model_version);
        if (task->attempt > 1) { /* it had its chunks and refuses again: not at once */
            retry_task(d, task, now_ns);
            return;
        }
        leave_worker(d, task);
        task->state = TASK_READY;
        return;
    }
    if (code == DBOS_FRAME_ERR_BUSY || code == DBOS_FRAME_ERR_CANCELED) {
        retry_task(d, task, now_ns);
        return;
    }
    char error[DBOS_TASK_ERROR_BYTES];
    int size = text.size_bytes < sizeof error - 1 ? (int)text.size_bytes : (int)sizeof error - 1;
    (void)snprintf(error, sizeof error, "%.*s", size, (const char *)text.data);
    if (!fail_task(d, task, error)) {
        retry_task(d, task, now_ns);
    }
}

static void accept_frame(struct dbos_dispatcher *d, const struct dbos_frame *frame, void *payload,
                         uint64_t now_ns) {
    struct task *task = find_task(d, frame->task_id);
    bool current = task != NULL && task->state == TASK_SENT && task->attempt == frame->attempt;
    if (current) {
        task->lease_ns = now_ns + (uint64_t)LEASE_MS * 1000000;
    }
    if (current && frame->kind == DBOS_FRAME_RESULT) {
        struct dbos_assembly *assembly = NULL;
        enum dbos_err err =
            dbos_assembler_add_give(&d->assembler, frame, payload, now_ns, &assembly, NULL);
        if (err != DBOS_OK) {
            retry_task(d, task, now_ns);
        } else if (assembly != NULL) {
            accept_result(d, task, assembly, now_ns);
            dbos_assembly_close(assembly);
        }
        return;
    }
    if (frame->kind == DBOS_FRAME_ERROR && frame->task_id == 0) {
        /* A model that the worker refused: each task that wants it hears so itself. */
        dbos_worker_link_forget_model(d->link, frame->model_id, frame->model_version);
    }
    if (current && frame->kind == DBOS_FRAME_ERROR) {
        accept_error(d, task, frame, payload, now_ns);
    }
    dbos_give(d->alloc, payload);
}

static void read_frames(struct dbos_dispatcher *d, uint64_t now_ns) {
    struct dbos_frame frame;
    void *payload = NULL;
    while (dbos_worker_link_receive(d->link, &frame, &payload)) {
        accept_frame(d, &frame, payload, now_ns);
    }
    struct dbos_frame expired;
    while (dbos_assembler_expire(&d->assembler, now_ns, &expired)) {
    }
}

/* -- thread --------------------------------------------------------------------------------------
 */

static void sleep_until_work(struct dbos_dispatcher *d, uint64_t now_ns) {
    struct pollfd fds[3] = {{.fd = d->wake_fd, .events = POLLIN}};
    uint64_t wake_ns = 0;
    uint32_t count = 1;
    if (d->link != NULL) {
        count += dbos_worker_link_poll(d->link, fds + 1, &wake_ns);
    }
    int timeout_ms = TICK_MS;
    if (wake_ns != 0) {
        uint64_t until_ms = wake_ns > now_ns ? (wake_ns - now_ns) / 1000000 + 1 : 0;
        timeout_ms = until_ms < TICK_MS ? (int)until_ms : TICK_MS;
    }
    if (dbos_queue_prepare_sleep(&d->inbox)) {
        (void)poll(fds, count, timeout_ms);
        dbos_queue_end_sleep(&d->inbox);
    }
    uint64_t wakes = 0;
    ssize_t got = read(d->wake_fd, &wakes, sizeof wakes);
    (void)got; /* non-blocking: nothing there is fine */
}

static void *dispatcher_main(void *arg) {
    struct dbos_dispatcher *d = arg;
    uint64_t next_walk_ns = 0;
    while (!atomic_load(&d->stopping)) {
        uint64_t now_ns = d->env->ops->mono_ns(d->env);
        read_inbox(d);
        release_durable(d);
        if (d->link != NULL) {
            read_frames(d, now_ns);
            dbos_worker_link_step(d->link, now_ns);
            atomic_store(&d->stat_connected, dbos_worker_link_connected(d->link));
        }
        if (now_ns >= next_walk_ns) {
            walk_tasks(d, now_ns);
            next_walk_ns = now_ns + (uint64_t)TICK_MS * 1000000;
        }
        send_ready(d, now_ns);
        if (d->link != NULL) {
            dbos_worker_link_step(d->link, now_ns);
        }
        sleep_until_work(d, now_ns);
    }
    return NULL;
}

static void scanned_task(void *arg, struct dbos_outbox_task *task) {
    struct dbos_dispatcher *d = arg;
    if (!accept_task(d, task)) {
        give_task_parts(d->alloc, task);
        d->is_starved = true;
    }
}

static void scanned_piece(void *arg, struct dbos_outbox_piece *piece) {
    struct dbos_dispatcher *d = arg;
    if (!accept_piece(d, piece)) {
        dbos_object_unref(piece->payload);
        d->is_starved = true;
    }
}

/* Who numbers our tasks: the database, over restarts, so that a worker that runs elsewhere does
 * nothing twice. Where a power cut may take numbers back (async), a number is another task after
 * it: then it is this process. */
static uint64_t task_source(const struct dbos_dispatcher *d) {
    struct dbos_uuid database = dbos_log_database(d->engine->log);
    uint64_t seed = d->engine->options.durability == DBOS_DURABILITY_ASYNC
                        ? d->env->ops->random_u64(d->env)
                        : 0;
    uint64_t source = dbos_hash64(seed, database.bytes, sizeof database.bytes);
    return source == 0 ? 1 : source;
}

static enum dbos_err open_link(struct dbos_dispatcher *d, struct dbos_errinfo *info) {
    const struct dbos_engine_options *options = &d->engine->options;
    if (!options->worker && options->worker_address == NULL) {
        return DBOS_OK;
    }
    struct dbos_worker_link_options link = {
        .env = d->env,
        .program_dir = d->engine->program_dir,
        .address = options->worker_address,
        .source = task_source(d),
    };
    return dbos_worker_link_open(d->alloc, &link, &d->link, info);
}

enum dbos_err dbos_dispatcher_start(struct dbos_engine *engine, struct dbos_dispatcher **out,
                                    struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_dispatcher *d = dbos_take_zero(engine->alloc, sizeof *d);
    if (d == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the dispatcher");
    }
    d->engine = engine;
    d->alloc = engine->alloc;
    d->env = engine->env;
    d->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    DBOS_CHECK(d->wake_fd >= 0);
    dbos_queue_init(&d->inbox, d->wake_fd);
    atomic_init(&d->held_position, UINT64_MAX);
    struct dbos_assembler_options limits = {
        .bytes_max = RESULT_BYTES_MAX,
        .assemblies_max = 2 * IN_FLIGHT_MAX,
        .idle_ns = (uint64_t)2 * LEASE_MS * 1000000,
    };
    dbos_assembler_init(&d->assembler, d->alloc, &limits);
    enum dbos_err err = open_link(d, info);
    if (err == DBOS_OK) {
        err = dbos_outbox_scan(engine->store, d->alloc, scanned_task, scanned_piece, d, info);
    }
    if (err == DBOS_OK && d->is_starved) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the open tasks");
    }
    if (err == DBOS_OK && pthread_create(&d->thread, NULL, dispatcher_main, d) != 0) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the dispatcher thread");
    }
    if (err != DBOS_OK) {
        dbos_dispatcher_close(d);
        return err;
    }
    d->running = true;
    (void)pthread_setname_np(d->thread, "dispatcher");
    *out = d;
    return DBOS_OK;
}

void dbos_dispatcher_stop(struct dbos_dispatcher *d) {
    if (!d->running) {
        return;
    }
    atomic_store(&d->stopping, true);
    uint64_t one = 1;
    ssize_t written = write(d->wake_fd, &one, sizeof one);
    (void)written;
    (void)pthread_join(d->thread, NULL);
    d->running = false;
}

void dbos_dispatcher_close(struct dbos_dispatcher *d) {
    if (d == NULL) {
        return;
    }
    DBOS_CHECK(!d->running);
    for (struct dbos_queue_node *node = dbos_queue_pop(&d->inbox); node != NULL;
         node = dbos_queue_pop(&d->inbox)) {
        struct dbos_task_message *message = (struct dbos_task_message *)(void *)node;
        if (message->outcome != NULL) {
            give_outcome(d, message->outcome);
        } else {
            give_message(d, message);
        }
    }
    while (d->held != NULL) {
        struct dbos_task_message *message = d->held;
        d->held = message->next;
        give_message(d, message);
    }
    while (d->first != NULL) {
        drop_task(d, d->first);
    }
    dbos_assembler_fini(&d->assembler);
    if (d->link != NULL) {
        dbos_worker_link_close(d->link);
    }
    (void)close(d->wake_fd);
    dbos_give(d->alloc, d);
}

void dbos_dispatcher_stats(struct dbos_dispatcher *d, struct dbos_dispatcher_stats *out) {
    *out = (struct dbos_dispatcher_stats){
        .open = atomic_load(&d->stat_open),
        .sent = atomic_load(&d->stat_sent),
        .done = atomic_load(&d->stat_done),
        .failed = atomic_load(&d->stat_failed),
        .retried = atomic_load(&d->stat_retried),
        .worker_connected = atomic_load(&d->stat_connected),
    };
}
