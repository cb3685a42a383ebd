#include "gpu/worker.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include "base/alloc.h"
#include "base/env.h"
#include "base/log.h"
#include "gpu/compute.h"

#define NS_PER_S         1000000000ull
#define TICK_MS          100
#define LINGER_NS        NS_PER_S         /* a refused peer may read why for this long */
#define OUT_BYTES_MAX    (64u * 1048576u) /* a peer that does not read is cut off here */
#define FINISHED_BYTES   (16u * 1048576u) /* replies kept to answer duplicates */
#define FINISHED_MAX     256u             /* and how many: they are searched one by one */
#define READ_BYTES_MAX   (4u * 1048576u)  /* from one connection in one turn */
#define PIECED_TASKS_MAX 256u

/* A reply on its way out of one connection. */
struct out {
    struct dbos_reply *reply;
    size_t sent;
    struct out *next;
};

/*   open ──bad frame, no hello──▶ closing: what is queued is sent, then the write side is shut and
 *     │                             │      input is thrown away until the peer closes or LINGER_NS
 *     └──────end of file, error─────┴──▶ dead: freed at the end of the turn */
struct conn {
    uint64_t id; /* never reused */
    int fd;
    bool said_hello;
    bool closing;
    bool shut; /* write side, while closing */
    bool dead;
    uint64_t source;
    uint64_t closing_ns;
    uint64_t frame_ns; /* when the current frame's first byte came */
    uint32_t header_have;
    uint32_t payload_have;
    uint8_t header[DBOS_FRAME_BYTES];
    struct dbos_frame frame; /* once the header is there */
    uint8_t *payload;        /* frame.payload_bytes, or NULL if none */
    struct out *out_first;
    struct out *out_last;
    uint64_t out_bytes;
};

struct dbos_worker {
    struct dbos_alloc *alloc;
    void *block; /* where this struct lies: its queues want a cache line's alignment */
    struct dbos_env *env;
    struct dbos_worker_options options;
    int listen_fd;
    int wake_fd; /* the compute thread finished something */
    uint16_t port;
    bool stopping;
    uint64_t ids; /* of connections */
    struct conn **conns;
    uint32_t conn_count;
    struct pollfd *polls;
    struct dbos_assembler assembler;
    struct dbos_queue done;
    struct dbos_compute compute;
    struct dbos_job *alive; /* wait or run */
    uint32_t alive_count;
    uint64_t alive_bytes;
    struct dbos_reply *finished_first; /* oldest first */
    struct dbos_reply *finished_last;
    uint64_t finished_bytes;
    uint32_t finished_count;
};

static uint64_t now_ns(const struct dbos_worker *w) { return w->env->ops->mono_ns(w->env); }

/* --- Sending -----------------------------------------------------------------------------------
 */

static struct conn *conn_by_id(const struct dbos_worker *w, uint64_t id) {
    for (uint32_t i = 0; i < w->conn_count; i++) {
        if (w->conns[i]->id == id && !w->conns[i]->dead) {
            return w->conns[i];
        }
    }
    return NULL;
}

static void flush(struct dbos_worker *w, struct conn *conn) {
    while (conn->out_first != NULL && !conn->dead) {
        struct out *out = conn->out_first;
        const struct dbos_buf *bytes = &out->reply->bytes;
        ssize_t sent = send(conn->fd, bytes->data + out->sent, bytes->size_bytes - out->sent,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            conn->dead = errno != EAGAIN && errno != EINTR;
            return;
        }
        out->sent += (size_t)sent;
        conn->out_bytes -= (size_t)sent;
        if (out->sent == bytes->size_bytes) {
            conn->out_first = out->next;
            conn->out_last = out->next == NULL ? NULL : conn->out_last;
            dbos_reply_unref(w->alloc, out->reply);
            dbos_give(w->alloc, out);
        }
    }
    if (conn->closing && !conn->shut && !conn->dead) {
        (void)shutdown(conn->fd, SHUT_WR);
        conn->shut = true;
    }
}

/* Queue a reply (one more reference) and send what the socket takes. NULL: there was no memory for
 * it. */
static void send_reply(struct dbos_worker *w, struct conn *conn, struct dbos_reply *reply) {
    if (conn == NULL || conn->dead || conn->shut) {
        return;
    }
    struct out *out = reply == NULL ? NULL : dbos_take_zero(w->alloc, sizeof *out);
    if (out == NULL || conn->out_bytes + reply->bytes.size_bytes > OUT_BYTES_MAX) {
        /* It cannot learn its results here: it will connect again and send its tasks again. */
        dbos_give(w->alloc, out);
        conn->dead = true;
        return;
    }
    reply->refs++;
    out->reply = reply;
    conn->out_bytes += reply->bytes.size_bytes;
    if (conn->out_last == NULL) {
        conn->out_first = out;
    } else {
        conn->out_last->next = out;
    }
    conn->out_last = out;
    flush(w, conn);
}

static void send_give(struct dbos_worker *w, struct conn *conn, struct dbos_reply *reply) {
    send_reply(w, conn, reply);
    dbos_reply_unref(w->alloc, reply);
}

static void send_error(struct dbos_worker *w, struct conn *conn, const struct dbos_frame *task,
                       enum dbos_frame_error_code code, const char *text) {
    send_give(w, conn, dbos_reply_error(w->alloc, task, NULL, code, text));
}

/* Say why, then close. */
static void refuse(struct dbos_worker *w, struct conn *conn, enum dbos_frame_error_code code,
                   const char *text) {
    const struct dbos_frame none = {.kind = DBOS_FRAME_ERROR, .pieces = 1};
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    conn->closing_ns = now_ns(w);
    send_error(w, conn, &none, code, text);
    flush(w, conn);
}

static void send_hello(struct dbos_worker *w, struct conn *conn) {
    const struct dbos_frame none = {.kind = DBOS_FRAME_HELLO, .pieces = 1};
    struct dbos_frame_hello hello = {
        .version = 1,
        .frame_version_min = DBOS_FRAME_VERSION,
        .frame_version_max = DBOS_FRAME_VERSION,
        .threads = w->options.threads,
        .assembled_bytes_max = w->options.assembled_bytes_max,
        .model_bytes_max = w->options.model_bytes_max,
        .queue_max = w->options.queue_max,
    };
    (void)snprintf(hello.name, sizeof hello.name, "%s", w->options.name);
    (void)snprintf(hello.backend, sizeof hello.backend, "%s", w->options.backend->name);
    send_give(w, conn,
              dbos_reply_frame(w->alloc, &none, DBOS_FRAME_HELLO, 0,
                               (struct dbos_bytes){(const uint8_t *)&hello, sizeof hello}));
}

/* --- Finished tasks: a duplicate is answered from here ------------------------------------------
 */

static void drop_oldest_finished(struct dbos_worker *w) {
    struct dbos_reply *oldest = w->finished_first;
    w->finished_first = oldest->next;
    if (w->finished_first == NULL) {
        w->finished_last = NULL;
    }
    w->finished_bytes -= oldest->bytes.size_bytes;
    w->finished_count--;
    dbos_reply_unref(w->alloc, oldest);
}

/* Takes the reference over. Failures are not kept: sent again, the task is tried again. */
static void keep_finished_give(struct dbos_worker *w, struct dbos_reply *reply) {
    if (reply->failed || reply->task.kind == DBOS_FRAME_MODEL_CHUNK ||
        reply->bytes.size_bytes > FINISHED_BYTES) {
        dbos_reply_unref(w->alloc, reply);
        return;
    }
    reply->next = NULL;
    if (w->finished_last == NULL) {
        w->finished_first = reply;
    } else {
        w->finished_last->next = reply;
    }
    w->finished_last = reply;
    w->finished_bytes += reply->bytes.size_bytes;
    w->finished_count++;
    while (w->finished_bytes > FINISHED_BYTES || w->finished_count > FINISHED_MAX) {
        drop_oldest_finished(w);
    }
}

static struct dbos_reply *find_finished(const struct dbos_worker *w,
                                        const struct dbos_frame *frame) {
    struct dbos_reply *reply = w->finished_first;
    while (reply != NULL && !dbos_frame_same_task(&reply->task, frame)) {
        reply = reply->next;
    }
    return reply;
}

/* --- Jobs ---------------------------------------------------------------------------------------
 */

static struct dbos_job *find_alive(const struct dbos_worker *w, const struct dbos_frame *frame) {
    struct dbos_job *job = w->alive;
    while (job != NULL && !dbos_frame_same_task(&job->frame, frame)) {
        job = job->next_alive;
    }
    return job;
}

/* Whether `later` is a later attempt at the same task, after which nobody waits for `frame`. Models
 * are known by their version, not by a task. */
static bool is_later(const struct dbos_frame *later, const struct dbos_frame *frame) {
    return later->source == frame->source && later->kind == frame->kind &&
           later->task_id == frame->task_id && later->attempt > frame->attempt &&
           frame->kind != DBOS_FRAME_MODEL_CHUNK;
}

static void supersede_earlier(const struct dbos_worker *w, const struct dbos_frame *frame) {
    for (struct dbos_job *job = w->alive; job != NULL; job = job->next_alive) {
        if (is_later(frame, &job->frame)) {
            atomic_store(&job->canceled, true);
        }
    }
}

static bool is_superseded(const struct dbos_worker *w, const struct dbos_frame *frame) {
    const struct dbos_job *job = w->alive;
    const struct dbos_reply *reply = w->finished_first;
    while (job != NULL && !is_later(&job->frame, frame)) {
        job = job->next_alive;
    }
    while (reply != NULL && !is_later(&reply->task, frame)) {
        reply = reply->next;
    }
    return job != NULL || reply != NULL;
}

static void start_job(struct dbos_worker *w, struct conn *conn, struct dbos_assembly *assembly) {
    struct dbos_job *job =
        w->alive_count == w->options.queue_max ? NULL : dbos_take_zero(w->alloc, sizeof *job);
    if (job == NULL) {
        send_error(w, conn, &assembly->frame, DBOS_FRAME_ERR_BUSY, "the worker's queue is full");
        dbos_assembly_close(assembly);
        return;
    }
    job->frame = assembly->frame;
    job->assembly = assembly;
    job->via = conn->id;
    job->held_bytes = assembly->payload_bytes;
    job->first_ns = assembly->first_ns;
    job->ready_ns = now_ns(w);
    job->beat_ns = job->ready_ns;
    job->deadline_ns = UINT64_MAX;
    if (job->frame.deadline_us > 0 &&
        job->frame.deadline_us < (UINT64_MAX - job->first_ns) / 1000) {
        job->deadline_ns = job->first_ns + job->frame.deadline_us * 1000;
    }
    supersede_earlier(w, &job->frame);
    job->next_alive = w->alive;
    w->alive = job;
    w->alive_count++;
    w->alive_bytes += job->held_bytes;
    dbos_compute_submit(&w->compute, job);
}

static void end_job(struct dbos_worker *w, struct dbos_job *job) {
    struct dbos_job **link = &w->alive;
    while (*link != job) {
        link = &(*link)->next_alive;
    }
    *link = job->next_alive;
    w->alive_count--;
    w->alive_bytes -= job->held_bytes;
    send_reply(w, conn_by_id(w, job->via), job->reply);
    if (job->reply != NULL) {
        keep_finished_give(w, job->reply);
    }
    dbos_give(w->alloc, job);
}

static void end_jobs(struct dbos_worker *w) {
    struct dbos_queue_node *node;
    while ((node = dbos_queue_pop(&w->done)) != NULL) {
        end_job(w, (struct dbos_job *)(void *)node);
    }
}

/* --- Frames in ----------------------------------------------------------------------------------
 */

/* A piece of a task that is known: nothing is done twice. The answer goes to who asked last. */
static bool is_duplicate(struct dbos_worker *w, struct conn *conn) {
    struct dbos_job *job = find_alive(w, &conn->frame);
    if (job != NULL) {
        job->via = conn->id;
        return true;
    }
    struct dbos_reply *reply = find_finished(w, &conn->frame);
    if (reply == NULL) {
        return false;
    }
    /* All pieces come again; answer once. */
    if (conn->frame.piece + 1 == conn->frame.pieces) {
        send_reply(w, conn, reply);
    }
    return true;
}

static bool has_room(struct dbos_worker *w, struct conn *conn) {
    uint64_t limit = w->options.assembled_bytes_max;
    uint64_t held = w->alive_bytes + w->assembler.bytes;
    if (held + conn->frame.payload_bytes <= limit) {
        return true;
    }
    (void)dbos_assembler_drop(&w->assembler, conn->source, conn->frame.task_id,
                              conn->frame.attempt);
    bool alone = w->alive_count == 0 && w->assembler.assemblies == 0;
    send_error(w, conn, &conn->frame, alone ? DBOS_FRAME_ERR_LIMIT : DBOS_FRAME_ERR_BUSY,
               alone ? "the task is larger than this worker's memory for tasks"
                     : "the worker's memory for tasks is full");
    return false;
}

/* Takes the payload over. */
static void on_piece_give(struct dbos_worker *w, struct conn *conn, uint8_t *payload) {
    struct dbos_errinfo info = {0};
    struct dbos_assembly *assembly = NULL;
    if (is_superseded(w, &conn->frame)) {
        send_error(w, conn, &conn->frame, DBOS_FRAME_ERR_CANCELED,
                   "a later attempt of the task came first");
        dbos_give(w->alloc, payload);
        return;
    }
    if (is_duplicate(w, conn) || !has_room(w, conn)) {
        dbos_give(w->alloc, payload);
        return;
    }
    enum dbos_err err = dbos_assembler_add_give(&w->assembler, &conn->frame, payload,
                                                conn->frame_ns, &assembly, &info);
    if (err == DBOS_ERR_PROTOCOL) {
        send_error(w, conn, &conn->frame, DBOS_FRAME_ERR_BAD_INPUT, info.message);
    } else if (err != DBOS_OK) {
        send_error(w, conn, &conn->frame, DBOS_FRAME_ERR_BUSY, info.message);
    } else if (assembly != NULL) {
        start_job(w, conn, assembly);
    }
}

static void on_cancel(struct dbos_worker *w, struct conn *conn) {
    const struct dbos_frame *frame = &conn->frame;
    for (struct dbos_job *job = w->alive; job != NULL; job = job->next_alive) {
        if (job->frame.source == conn->source && job->frame.task_id == frame->task_id &&
            job->frame.attempt <= frame->attempt && job->frame.kind != DBOS_FRAME_MODEL_CHUNK) {
            atomic_store(&job->canceled, true);
        }
    }
    if (dbos_assembler_drop(&w->assembler, conn->source, frame->task_id, frame->attempt)) {
        send_error(w, conn, frame, DBOS_FRAME_ERR_CANCELED, "the task was canceled");
    }
}

static void on_hello(struct dbos_worker *w, struct conn *conn, const uint8_t *payload) {
    struct dbos_frame_hello hello;
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_frame_get_hello(payload, conn->frame.payload_bytes, &hello, &info);
    if (err != DBOS_OK) {
        refuse(w, conn,
               err == DBOS_ERR_FORMAT_VERSION ? DBOS_FRAME_ERR_VERSION : DBOS_FRAME_ERR_PROTOCOL,
               info.message);
        return;
    }
    conn->said_hello = true;
    /* Without an identity the ids mean something on this connection only. */
    conn->source = hello.source != 0 ? hello.source : ~conn->id;
}

static void on_heartbeat(struct dbos_worker *w, struct conn *conn, const uint8_t *payload) {
    if ((conn->frame.flags & DBOS_FRAME_FLAG_REPLY) == 0) {
        send_give(w, conn,
                  dbos_reply_frame(w->alloc, &conn->frame, DBOS_FRAME_HEARTBEAT,
                                   DBOS_FRAME_FLAG_REPLY,
                                   (struct dbos_bytes){payload, conn->frame.payload_bytes}));
    }
}

/* A whole frame came, its checksum is right. Takes the payload over. */
static void on_frame_give(struct dbos_worker *w, struct conn *conn, uint8_t *payload) {
    if (!conn->said_hello && conn->frame.kind != DBOS_FRAME_HELLO) {
        refuse(w, conn, DBOS_FRAME_ERR_PROTOCOL, "a connection begins with a hello frame");
        dbos_give(w->alloc, payload);
        return;
    }
    conn->frame.source = conn->source;
    conn->frame.via = conn->id;
    switch (conn->frame.kind) {
    case DBOS_FRAME_INFER:
    case DBOS_FRAME_TRAIN:
    case DBOS_FRAME_MODEL_CHUNK:
        on_piece_give(w, conn, payload);
        return;
    case DBOS_FRAME_HELLO:
        on_hello(w, conn, payload);
        break;
    case DBOS_FRAME_CANCEL:
        on_cancel(w, conn);
        break;
    case DBOS_FRAME_HEARTBEAT:
        on_heartbeat(w, conn, payload);
        break;
    case DBOS_FRAME_RESULT:
    case DBOS_FRAME_ERROR:
        refuse(w, conn, DBOS_FRAME_ERR_PROTOCOL, "a worker takes no results");
        break;
    }
    dbos_give(w->alloc, payload);
}

/* The header is complete: make room for its payload. */
static void on_header(struct dbos_worker *w, struct conn *conn) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_frame_decode(conn->header, &conn->frame, &info);
    if (err != DBOS_OK) {
        refuse(w, conn,
               err == DBOS_ERR_FORMAT_VERSION ? DBOS_FRAME_ERR_VERSION : DBOS_FRAME_ERR_PROTOCOL,
               info.message);
        return;
    }
    if (conn->frame.payload_bytes > 0) {
        conn->payload = dbos_take(w->alloc, conn->frame.payload_bytes);
        if (conn->payload == NULL) {
            refuse(w, conn, DBOS_FRAME_ERR_BUSY, "the worker is out of memory");
        }
    }
}

static void on_payload(struct dbos_worker *w, struct conn *conn) {
    struct dbos_errinfo info = {0};
    uint8_t *payload = conn->payload;
    conn->payload = NULL;
    conn->header_have = 0;
    conn->payload_have = 0;
    if (dbos_frame_verify(conn->header, payload, conn->frame.payload_bytes, &info) != DBOS_OK) {
        refuse(w, conn, DBOS_FRAME_ERR_PROTOCOL, info.message);
        dbos_give(w->alloc, payload);
        return;
    }
    on_frame_give(w, conn, payload);
}

/* One recv(), straight to where the bytes belong. False when there is nothing more to read now. */
static bool read_some(struct dbos_worker *w, struct conn *conn, uint64_t *total) {
    bool in_header = conn->header_have < DBOS_FRAME_BYTES;
    uint8_t *to = in_header ? conn->header + conn->header_have : conn->payload + conn->payload_have;
    size_t want = in_header ? DBOS_FRAME_BYTES - conn->header_have
                            : conn->frame.payload_bytes - conn->payload_have;
    ssize_t got = recv(conn->fd, to, want, MSG_DONTWAIT);
    if (got <= 0) {
        conn->dead = got == 0 || (errno != EAGAIN && errno != EINTR);
        return false;
    }
    *total += (uint64_t)got;
    if (!in_header) {
        conn->payload_have += (uint32_t)got;
    } else {
        conn->frame_ns = conn->header_have == 0 ? now_ns(w) : conn->frame_ns;
        conn->header_have += (uint32_t)got;
        if (conn->header_have == DBOS_FRAME_BYTES) {
            on_header(w, conn);
        } else if (conn->header_have >= sizeof(uint32_t) &&
                   dbos_load_u32(conn->header) != DBOS_FRAME_MAGIC) {
            refuse(w, conn, DBOS_FRAME_ERR_PROTOCOL, "not a worker frame");
        }
    }
    return true;
}

static void on_readable(struct dbos_worker *w, struct conn *conn) {
    uint64_t total = 0;
    while (!conn->dead && !conn->closing && total < READ_BYTES_MAX && read_some(w, conn, &total)) {
        if (!conn->closing && conn->header_have == DBOS_FRAME_BYTES &&
            conn->payload_have == conn->frame.payload_bytes) {
            on_payload(w, conn);
        }
    }
    while (!conn->dead && conn->closing) {
        uint8_t scrap[4096];
        ssize_t got = recv(conn->fd, scrap, sizeof scrap, MSG_DONTWAIT);
        if (got <= 0) {
            conn->dead = got == 0 || (errno != EAGAIN && errno != EINTR);
            break;
        }
    }
}

/* --- Connections --------------------------------------------------------------------------------
 */

static void conn_close(struct dbos_worker *w, struct conn *conn) {
    while (conn->out_first != NULL) {
        struct out *out = conn->out_first;
        conn->out_first = out->next;
        dbos_reply_unref(w->alloc, out->reply);
        dbos_give(w->alloc, out);
    }
    (void)close(conn->fd);
    dbos_give(w->alloc, conn->payload);
    dbos_give(w->alloc, conn);
}

static void accept_one(struct dbos_worker *w, int fd) {
    int one = 1;
    struct conn *conn =
        w->conn_count == w->options.connections_max ? NULL : dbos_take_zero(w->alloc, sizeof *conn);
    if (conn == NULL) {
        (void)close(fd);
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    conn->fd = fd;
    conn->id = ++w->ids;
    w->conns[w->conn_count++] = conn;
    send_hello(w, conn);
}

static void accept_all(struct dbos_worker *w) {
    for (;;) {
        int fd = accept4(w->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            return;
        }
        accept_one(w, fd);
    }
}

static void reap(struct dbos_worker *w) {
    uint64_t now = now_ns(w);
    for (uint32_t i = 0; i < w->conn_count;) {
        struct conn *conn = w->conns[i];
        if (conn->dead || (conn->closing && now - conn->closing_ns > LINGER_NS)) {
            conn_close(w, conn);
            w->conns[i] = w->conns[--w->conn_count];
        } else {
            i++;
        }
    }
}

/* --- Time ---------------------------------------------------------------------------------------
 */

/* Who waits for a task learns every second that it is alive, so that its lease goes on. */
static void beat(struct dbos_worker *w, uint64_t now) {
    for (struct dbos_job *job = w->alive; job != NULL; job = job->next_alive) {
        if (now - job->beat_ns < NS_PER_S || job->frame.kind == DBOS_FRAME_MODEL_CHUNK) {
            continue;
        }
        struct dbos_frame task = job->frame;
        task.count = atomic_load(&job->per_mille);
        job->beat_ns = now;
        send_give(w, conn_by_id(w, job->via),
                  dbos_reply_frame(w->alloc, &task, DBOS_FRAME_HEARTBEAT, DBOS_FRAME_FLAG_REPLY,
                                   (struct dbos_bytes){NULL, 0}));
    }
}

static void tick(struct dbos_worker *w) {
    struct dbos_frame late;
    uint64_t now = now_ns(w);
    while (dbos_assembler_expire(&w->assembler, now, &late)) {
        send_error(w, conn_by_id(w, late.via), &late, DBOS_FRAME_ERR_DEADLINE,
                   "pieces of the task did not come in time");
    }
    beat(w, now);
}

/* --- The loop -----------------------------------------------------------------------------------
 */

enum { POLL_LISTEN, POLL_WAKE, POLL_STOP, POLL_PARENT, POLL_CONNS };

static nfds_t fill_polls(struct dbos_worker *w) {
    w->polls[POLL_LISTEN] = (struct pollfd){.fd = w->listen_fd, .events = POLLIN};
    w->polls[POLL_WAKE] = (struct pollfd){.fd = w->wake_fd, .events = POLLIN};
    w->polls[POLL_STOP] = (struct pollfd){.fd = w->options.stop_fd, .events = POLLIN};
    w->polls[POLL_PARENT] = (struct pollfd){.fd = w->options.parent_fd, .events = POLLIN};
    for (uint32_t i = 0; i < w->conn_count; i++) {
        const struct conn *conn = w->conns[i];
        short out = conn->out_first != NULL ? POLLOUT : 0;
        w->polls[POLL_CONNS + i] = (struct pollfd){.fd = conn->fd, .events = (short)(POLLIN | out)};
    }
    return POLL_CONNS + w->conn_count;
}

/* The parent says nothing: its end of the pipe only closes. */
static bool parent_gone(int fd, short revents) {
    char scrap[256];
    if ((revents & (POLLIN | POLLHUP | POLLERR)) == 0) {
        return false;
    }
    ssize_t got = read(fd, scrap, sizeof scrap);
    return got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR);
}

static void serve_conns(struct dbos_worker *w, uint32_t polled) {
    for (uint32_t i = 0; i < polled; i++) {
        struct conn *conn = w->conns[i];
        short revents = w->polls[POLL_CONNS + i].revents;
        if ((revents & POLLOUT) != 0) {
            flush(w, conn);
        }
        if ((revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !conn->dead) {
            on_readable(w, conn);
        }
    }
}

static void drain_wake(struct dbos_worker *w) {
    uint64_t count;
    ssize_t got = read(w->wake_fd, &count, sizeof count);
    (void)got; /* empty when another wake-up was faster */
}

static enum dbos_err turn(struct dbos_worker *w, struct dbos_errinfo *info) {
    uint32_t polled = w->conn_count;
    nfds_t count = fill_polls(w);
    bool waiting = w->alive_count > 0 || w->assembler.assemblies > 0 || w->conn_count > 0;
    int timeout_ms = dbos_queue_prepare_sleep(&w->done) ? (waiting ? TICK_MS : 10 * TICK_MS) : 0;
    int ready = poll(w->polls, count, timeout_ms);
    dbos_queue_end_sleep(&w->done);
    if (ready < 0 && errno != EINTR) {
        return dbos_fail(info, DBOS_ERR_IO, "poll: %s", strerror(errno));
    }
    if (ready > 0) {
        if (w->polls[POLL_WAKE].revents != 0) {
            drain_wake(w);
        }
        w->stopping = w->polls[POLL_STOP].revents != 0 ||
                      parent_gone(w->options.parent_fd, w->polls[POLL_PARENT].revents);
        serve_conns(w, polled);
        if (w->polls[POLL_LISTEN].revents != 0) {
            accept_all(w);
        }
    }
    end_jobs(w);
    tick(w);
    reap(w);
    return DBOS_OK;
}

enum dbos_err dbos_worker_run(struct dbos_worker *w, struct dbos_errinfo *info) {
    enum dbos_err err = dbos_compute_start(&w->compute, info);
    if (err != DBOS_OK) {
        return err;
    }
    while (err == DBOS_OK && !w->stopping) {
        err = turn(w, info);
    }
    dbos_compute_stop(&w->compute);
    end_jobs(w);
    DBOS_CHECK(w->alive == NULL && w->alive_bytes == 0);
    return err;
}

/* --- Open and close -----------------------------------------------------------------------------
 */

void dbos_worker_defaults(struct dbos_worker_options *options) {
    *options = (struct dbos_worker_options){
        .name = "worker",
        .address = "127.0.0.1",
        .threads = 1,
        .connections_max = 64,
        .queue_max = 1024,
        .assembled_bytes_max = 256u * 1048576u,
        .model_bytes_max = 256u * 1048576u,
        .idle_us = 60000000u,
        .stop_fd = -1,
        .parent_fd = -1,
    };
}

void dbos_worker_close(struct dbos_worker *w) {
    if (w == NULL) {
        return;
    }
    for (uint32_t i = 0; i < w->conn_count; i++) {
        conn_close(w, w->conns[i]);
    }
    while (w->finished_first != NULL) {
        drop_oldest_finished(w);
    }
    dbos_assembler_fini(&w->assembler);
    dbos_compute_fini(&w->compute);
    if (w->listen_fd >= 0) {
        (void)close(w->listen_fd);
    }
    if (w->wake_fd >= 0) {
        (void)close(w->wake_fd);
    }
    dbos_give(w->alloc, w->conns);
    dbos_give(w->alloc, w->polls);
    dbos_give(w->alloc, w->block);
}

static enum dbos_err open_parts(struct dbos_worker *w, struct dbos_errinfo *info) {
    struct dbos_compute_options compute = {
        .backend = w->options.backend,
        .threads = w->options.threads,
        .model_bytes_max = w->options.model_bytes_max,
        .done = &w->done,
    };
    w->conns = dbos_take_zero(w->alloc, w->options.connections_max * sizeof *w->conns);
    w->polls =
        dbos_take_zero(w->alloc, (POLL_CONNS + w->options.connections_max) * sizeof *w->polls);
    if (w->conns == NULL || w->polls == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a worker");
    }
    w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->wake_fd < 0) {
        return dbos_fail(info, DBOS_ERR_IO, "eventfd: %s", strerror(errno));
    }
    dbos_queue_init(&w->done, w->wake_fd);
    enum dbos_err err = dbos_compute_init(&w->compute, w->alloc, w->env, &compute, info);
    if (err != DBOS_OK) {
        return err;
    }
    return w->env->ops->tcp_listen(w->env, w->options.address, w->options.port, &w->listen_fd,
                                   &w->port, info);
}

enum dbos_err dbos_worker_open(struct dbos_alloc *alloc, struct dbos_env *env,
                               const struct dbos_worker_options *options, struct dbos_worker **out,
                               struct dbos_errinfo *info) {
    struct dbos_assembler_options assembler = {
        .bytes_max = options->assembled_bytes_max,
        .assemblies_max = PIECED_TASKS_MAX,
        .idle_ns = options->idle_us * 1000,
    };
    DBOS_CHECK(options->connections_max > 0 && options->queue_max > 0);
    *out = NULL;
    uint8_t *block =
        dbos_take_zero(alloc, sizeof(struct dbos_worker) + _Alignof(struct dbos_worker));
    if (block == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a worker");
    }
    size_t skip = (0 - (uintptr_t)block) % _Alignof(struct dbos_worker);
    struct dbos_worker *w = (struct dbos_worker *)(void *)(block + skip);
    w->alloc = alloc;
    w->block = block;
    w->env = env;
    w->options = *options;
    w->listen_fd = -1;
    w->wake_fd = -1;
    dbos_assembler_init(&w->assembler, alloc, &assembler);
    enum dbos_err err = open_parts(w, info);
    if (err != DBOS_OK) {
        dbos_worker_close(w);
        return err;
    }
    *out = w;
    return DBOS_OK;
}

uint16_t dbos_worker_port(const struct dbos_worker *worker) { return worker->port; }
