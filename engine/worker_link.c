#include "engine/worker_link.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

enum {
    CONNECT_TIMEOUT_MS = 2000,
    START_TIMEOUT_MS = 20000, /* from starting the process to its "ready" line */
    BACKOFF_MS_MIN = 100,
    BACKOFF_MS_MAX = 5000,
    SEND_RUNS_MAX = 32,
    MODELS_MAX = 64, /* remembered per connection; past it chunks are sent again */
    READY_LINE_BYTES = 256,
};

enum link_state { LINK_DOWN, LINK_STARTING, LINK_CONNECTED };

struct outgoing {
    struct outgoing *next;
    uint8_t header[DBOS_FRAME_BYTES];
    struct dbos_object *payload;
};

struct incoming {
    uint8_t header[DBOS_FRAME_BYTES];
    size_t header_bytes;
    struct dbos_frame frame;
    uint8_t *payload;
    size_t payload_bytes;
};

struct model_key {
    uint32_t id;
    uint32_t version;
};

struct dbos_worker_link {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    uint64_t source;
    enum link_state state;
    bool own_process;
    char program[576];
    char address[64];
    uint16_t port;
    pid_t pid;
    int stdout_fd; /* of our process */
    int stdin_fd;  /* its end of file tells the worker that we are gone */
    char ready_line[READY_LINE_BYTES];
    size_t ready_bytes;
    int socket;
    uint64_t epoch;
    uint64_t retry_ns; /* DOWN: when to try again; STARTING: when to give up */
    uint32_t backoff_ms;
    struct outgoing *first_out;
    struct outgoing *last_out;
    size_t out_done; /* bytes of first_out already sent */
    uint64_t unsent_bytes;
    struct incoming in;
    struct model_key models[MODELS_MAX];
    uint32_t model_count;
};

/* -- life ----------------------------------------------------------------------------------------
 */

static void close_fd(int *fd) {
    if (*fd >= 0) {
        (void)close(*fd);
        *fd = -1;
    }
}

static void drop_outgoing(struct dbos_worker_link *link) {
    while (link->first_out != NULL) {
        struct outgoing *frame = link->first_out;
        link->first_out = frame->next;
        dbos_object_unref(frame->payload);
        dbos_give(link->alloc, frame);
    }
    link->last_out = NULL;
    link->out_done = 0;
    link->unsent_bytes = 0;
}

static void drop_incoming(struct dbos_worker_link *link) {
    dbos_give(link->alloc, link->in.payload);
    link->in = (struct incoming){.payload = NULL};
}

static void reap(struct dbos_worker_link *link, bool kill_it) {
    if (link->pid <= 0) {
        return;
    }
    if (kill_it) {
        (void)kill(link->pid, SIGKILL);
    }
    int status = 0;
    if (waitpid(link->pid, &status, kill_it ? 0 : WNOHANG) == link->pid) {
        link->pid = 0;
    }
}

static void go_down(struct dbos_worker_link *link, uint64_t now_ns, const char *why) {
    if (link->state == LINK_CONNECTED || why != NULL) {
        dbos_log(DBOS_LOG_WARN, "worker: %s; trying again in %u ms", why == NULL ? "lost" : why,
                 link->backoff_ms);
    }
    close_fd(&link->socket);
    close_fd(&link->stdout_fd);
    close_fd(&link->stdin_fd);
    reap(link, true);
    drop_outgoing(link);
    drop_incoming(link);
    link->model_count = 0;
    link->ready_bytes = 0;
    link->state = LINK_DOWN;
    link->retry_ns = now_ns + (uint64_t)link->backoff_ms * 1000000;
    link->backoff_ms =
        link->backoff_ms * 2 > BACKOFF_MS_MAX ? BACKOFF_MS_MAX : link->backoff_ms * 2;
}

static enum dbos_err parse_address(struct dbos_worker_link *link, const char *address,
                                   struct dbos_errinfo *info) {
    const char *colon = strrchr(address, ':');
    long port = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);
    if (colon == NULL || port <= 0 || port > 65535 ||
        (size_t)(colon - address) >= sizeof link->address) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "worker address \"%s\" is not of the form ADDRESS:PORT", address);
    }
    memcpy(link->address, address, (size_t)(colon - address));
    link->address[colon - address] = '\0';
    link->port = (uint16_t)port;
    return DBOS_OK;
}

enum dbos_err dbos_worker_link_open(struct dbos_alloc *alloc,
                                    const struct dbos_worker_link_options *options,
                                    struct dbos_worker_link **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_worker_link *link = dbos_take_zero(alloc, sizeof *link);
    if (link == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the worker link");
    }
    link->alloc = alloc;
    link->env = options->env;
    link->source = options->source;
    link->stdout_fd = link->stdin_fd = link->socket = -1;
    link->backoff_ms = BACKOFF_MS_MIN;
    link->own_process = options->address == NULL;
    (void)snprintf(link->program, sizeof link->program, "%s/dbos-worker", options->program_dir);
    (void)snprintf(link->address, sizeof link->address, "127.0.0.1");
    enum dbos_err err = DBOS_OK;
    if (options->address != NULL) {
        err = parse_address(link, options->address, info);
    } else if (access(link->program, X_OK) != 0) {
        err = dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "cannot run %s: %s", link->program,
                        strerror(errno));
        dbos_err_hint(info, "Start with --no-worker, or name one with --worker ADDRESS:PORT.");
    }
    if (err != DBOS_OK) {
        dbos_give(alloc, link);
        return err;
    }
    *out = link;
    return DBOS_OK;
}

void dbos_worker_link_close(struct dbos_worker_link *link) {
    close_fd(&link->socket);
    close_fd(&link->stdin_fd); /* its end of file ends the worker */
    close_fd(&link->stdout_fd);
    if (link->pid > 0) {
        (void)kill(link->pid, SIGTERM);
        for (int i = 0; i < 100 && link->pid > 0; i++) {
            reap(link, false);
            link->env->ops->sleep_us(link->env, link->pid > 0 ? 10000 : 0);
        }
        reap(link, true);
    }
    drop_outgoing(link);
    drop_incoming(link);
    dbos_give(link->alloc, link);
}

bool dbos_worker_link_connected(const struct dbos_worker_link *link) {
    return link->state == LINK_CONNECTED;
}

uint64_t dbos_worker_link_epoch(const struct dbos_worker_link *link) { return link->epoch; }

/* -- process -------------------------------------------------------------------------------------
 */

/* Only async-signal-safe calls between fork and exec. */
static void run_child(const char *program, int stdin_fd, int stdout_fd) {
    char *const arguments[] = {(char *)(uintptr_t) "dbos-worker",
                               (char *)(uintptr_t) "--exit-with-parent", NULL};
    (void)dup2(stdin_fd, STDIN_FILENO);
    (void)dup2(stdout_fd, STDOUT_FILENO);
    (void)execv(program, arguments);
    _exit(127);
}

static bool start_process(struct dbos_worker_link *link) {
    int to_child[2];
    int from_child[2];
    if (pipe2(to_child, O_CLOEXEC) != 0) {
        return false;
    }
    if (pipe2(from_child, O_CLOEXEC) != 0) {
        (void)close(to_child[0]);
        (void)close(to_child[1]);
        return false;
    }
    link->pid = fork();
    if (link->pid == 0) {
        run_child(link->program, to_child[0], from_child[1]);
    }
    (void)close(to_child[0]);
    (void)close(from_child[1]);
    link->stdin_fd = to_child[1];
    link->stdout_fd = from_child[0];
    (void)fcntl(link->stdout_fd, F_SETFL, O_NONBLOCK);
    return link->pid > 0;
}

static void say_hello(struct dbos_worker_link *link) {
    struct dbos_frame_hello hello = {
        .version = 1,
        .frame_version_min = DBOS_FRAME_VERSION,
        .frame_version_max = DBOS_FRAME_VERSION,
        .source = link->source,
        .name = "dbosd",
    };
    struct dbos_frame frame = {.kind = DBOS_FRAME_HELLO, .pieces = 1};
    struct dbos_bytes run = {.data = (const uint8_t *)&hello, .size_bytes = sizeof hello};
    uint8_t bytes[DBOS_FRAME_BYTES + sizeof hello];
    if (dbos_frame_encode(&frame, &run, 1, bytes, NULL) == DBOS_OK) {
        memcpy(bytes + DBOS_FRAME_BYTES, &hello, sizeof hello);
        ssize_t sent = send(link->socket, bytes, sizeof bytes, MSG_NOSIGNAL);
        (void)sent; /* a fresh socket takes 192 bytes; a dead one shows itself on receive */
    }
}

static void connect_worker(struct dbos_worker_link *link, uint64_t now_ns) {
    struct dbos_errinfo info;
    if (link->env->ops->tcp_connect(link->env, link->address, link->port, CONNECT_TIMEOUT_MS,
                                    &link->socket, &info) != DBOS_OK) {
        go_down(link, now_ns, info.message);
        return;
    }
    (void)fcntl(link->socket, F_SETFL, fcntl(link->socket, F_GETFL) | O_NONBLOCK);
    link->state = LINK_CONNECTED;
    link->epoch++;
    link->backoff_ms = BACKOFF_MS_MIN;
    say_hello(link);
}

/* The process says "ready port=NNNN …" once it listens. */
static void read_ready_line(struct dbos_worker_link *link, uint64_t now_ns) {
    ssize_t got = read(link->stdout_fd, link->ready_line + link->ready_bytes,
                       READY_LINE_BYTES - 1 - link->ready_bytes);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
        go_down(link, now_ns, "the process ended before it was ready");
        return;
    }
    if (got < 0) {
        return;
    }
    link->ready_bytes += (size_t)got;
    link->ready_line[link->ready_bytes] = '\0';
    if (strchr(link->ready_line, '\n') == NULL) {
        return;
    }
    const char *port = strstr(link->ready_line, "port=");
    long number = port == NULL ? 0 : strtol(port + 5, NULL, 10);
    if (number <= 0 || number > 65535) {
        go_down(link, now_ns, "the process did not say its port");
        return;
    }
    link->port = (uint16_t)number;
    connect_worker(link, now_ns);
}

static void step_down(struct dbos_worker_link *link, uint64_t now_ns) {
    if (now_ns < link->retry_ns) {
        return;
    }
    if (!link->own_process) {
        connect_worker(link, now_ns);
        return;
    }
    if (!start_process(link)) {
        go_down(link, now_ns, "cannot start the process");
        return;
    }
    link->state = LINK_STARTING;
    link->retry_ns = now_ns + (uint64_t)START_TIMEOUT_MS * 1000000;
}

/* -- out -----------------------------------------------------------------------------------------
 */

static size_t frame_bytes(const struct outgoing *frame) {
    return DBOS_FRAME_BYTES + (frame->payload == NULL ? 0 : frame->payload->id.size_bytes);
}

static void pop_sent(struct dbos_worker_link *link, size_t sent) {
    link->unsent_bytes -= sent;
    link->out_done += sent;
    while (link->first_out != NULL && link->out_done >= frame_bytes(link->first_out)) {
        struct outgoing *frame = link->first_out;
        link->out_done -= frame_bytes(frame);
        link->first_out = frame->next;
        if (link->first_out == NULL) {
            link->last_out = NULL;
        }
        dbos_object_unref(frame->payload);
        dbos_give(link->alloc, frame);
    }
}

static void add_run(struct iovec *runs, int *count, const void *data, size_t size, size_t *skip) {
    if (*skip >= size) {
        *skip -= size;
        return;
    }
    runs[*count].iov_base = (char *)(uintptr_t)data + *skip;
    runs[*count].iov_len = size - *skip;
    *skip = 0;
    (*count)++;
}

static bool send_some(struct dbos_worker_link *link) {
    struct iovec runs[SEND_RUNS_MAX];
    int count = 0;
    size_t skip = link->out_done;
    for (struct outgoing *frame = link->first_out; frame != NULL && count + 2 <= SEND_RUNS_MAX;
         frame = frame->next) {
        add_run(runs, &count, frame->header, DBOS_FRAME_BYTES, &skip);
        if (frame->payload != NULL) {
            add_run(runs, &count, frame->payload->data, frame->payload->id.size_bytes, &skip);
        }
    }
    struct msghdr message = {.msg_iov = runs, .msg_iovlen = (size_t)count};
    ssize_t sent = sendmsg(link->socket, &message, MSG_NOSIGNAL);
    if (sent > 0) {
        pop_sent(link, (size_t)sent);
    }
    return sent >= 0 || errno == EAGAIN || errno == EINTR;
}

enum dbos_err dbos_worker_link_send(struct dbos_worker_link *link, struct dbos_frame *frame,
                                    struct dbos_object *payload) {
    if (link->state != LINK_CONNECTED) {
        return DBOS_ERR_CONNECTION_LOST;
    }
    struct outgoing *out = dbos_take_zero(link->alloc, sizeof *out);
    if (out == NULL) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_bytes run = {0};
    if (payload != NULL) {
        run = (struct dbos_bytes){.data = payload->data, .size_bytes = payload->id.size_bytes};
    }
    enum dbos_err err = dbos_frame_encode(frame, &run, payload == NULL ? 0 : 1, out->header, NULL);
    if (err != DBOS_OK) {
        dbos_give(link->alloc, out);
        return err;
    }
    out->payload = payload == NULL ? NULL : dbos_object_ref(payload);
    if (link->last_out == NULL) {
        link->first_out = out;
    } else {
        link->last_out->next = out;
    }
    link->last_out = out;
    link->unsent_bytes += frame_bytes(out);
    return DBOS_OK;
}

uint64_t dbos_worker_link_unsent_bytes(const struct dbos_worker_link *link) {
    return link->unsent_bytes;
}

/* -- in ------------------------------------------------------------------------------------------
 */

/* Receive into `to` until `have` reaches `want`; true when it did. */
static bool fill(struct dbos_worker_link *link, uint8_t *to, size_t *have, size_t want,
                 bool *broken) {
    while (*have < want) {
        ssize_t got = recv(link->socket, to + *have, want - *have, 0);
        if (got > 0) {
            *have += (size_t)got;
            continue;
        }
        if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
            *broken = true;
        }
        return false;
    }
    return true;
}

/* One whole, checked frame is in link->in. */
static bool receive_frame(struct dbos_worker_link *link, bool *broken) {
    struct incoming *in = &link->in;
    bool had_header = in->header_bytes == DBOS_FRAME_BYTES;
    if (!fill(link, in->header, &in->header_bytes, DBOS_FRAME_BYTES, broken)) {
        return false;
    }
    if (!had_header) {
        if (dbos_frame_decode(in->header, &in->frame, NULL) != DBOS_OK) {
            *broken = true;
            return false;
        }
        in->payload = dbos_take(link->alloc, in->frame.payload_bytes);
        if (in->payload == NULL) {
            *broken = true;
            return false;
        }
    }
    if (!fill(link, in->payload, &in->payload_bytes, in->frame.payload_bytes, broken)) {
        return false;
    }
    *broken = dbos_frame_verify(in->header, in->payload, in->payload_bytes, NULL) != DBOS_OK;
    return !*broken;
}

bool dbos_worker_link_receive(struct dbos_worker_link *link, struct dbos_frame *frame,
                              void **payload) {
    bool broken = false;
    *payload = NULL;
    if (link->state != LINK_CONNECTED) {
        return false;
    }
    if (receive_frame(link, &broken)) {
        *frame = link->in.frame;
        *payload = link->in.payload;
        link->in = (struct incoming){.payload = NULL};
        return true;
    }
    if (broken) {
        go_down(link, link->env->ops->mono_ns(link->env), "the connection is lost");
    }
    return false;
}

/* -- waiting -------------------------------------------------------------------------------------
 */

uint32_t dbos_worker_link_poll(const struct dbos_worker_link *link, struct pollfd *fds,
                               uint64_t *wake_ns) {
    *wake_ns = link->state == LINK_CONNECTED ? 0 : link->retry_ns;
    if (link->state == LINK_STARTING) {
        fds[0] = (struct pollfd){.fd = link->stdout_fd, .events = POLLIN};
        return 1;
    }
    if (link->state == LINK_CONNECTED) {
        short events = link->first_out == NULL ? POLLIN : POLLIN | POLLOUT;
        fds[0] = (struct pollfd){.fd = link->socket, .events = events};
        return 1;
    }
    return 0;
}

void dbos_worker_link_step(struct dbos_worker_link *link, uint64_t now_ns) {
    switch (link->state) {
    case LINK_DOWN:
        step_down(link, now_ns);
        break;
    case LINK_STARTING:
        if (now_ns > link->retry_ns) {
            go_down(link, now_ns, "the process was not ready in time");
        } else {
            read_ready_line(link, now_ns);
        }
        break;
    case LINK_CONNECTED:
        if (link->first_out != NULL && !send_some(link)) {
            go_down(link, now_ns, "the connection is lost");
        }
        break;
    }
}

/* -- models --------------------------------------------------------------------------------------
 */

bool dbos_worker_link_has_model(const struct dbos_worker_link *link, uint32_t id,
                                uint32_t version) {
    for (uint32_t i = 0; i < link->model_count; i++) {
        if (link->models[i].id == id && link->models[i].version == version) {
            return true;
        }
    }
    return false;
}

void dbos_worker_link_forget_model(struct dbos_worker_link *link, uint32_t id, uint32_t version) {
    for (uint32_t i = 0; i < link->model_count; i++) {
        if (link->models[i].id == id && link->models[i].version == version) {
            link->models[i] = link->models[--link->model_count];
            return;
        }
    }
}

enum dbos_err dbos_worker_link_send_model(struct dbos_worker_link *link, uint32_t id,
                                          uint32_t version, struct dbos_object *const *chunks,
                                          uint32_t chunk_count) {
    for (uint32_t i = 0; i < chunk_count; i++) {
        struct dbos_frame frame = {
            .kind = DBOS_FRAME_MODEL_CHUNK,
            .piece = i,
            .pieces = chunk_count,
            .model_id = id,
            .model_version = version,
        };
        enum dbos_err err = dbos_worker_link_send(link, &frame, chunks[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    if (link->model_count == MODELS_MAX) { /* forget the oldest: sent again when needed */
        memmove(link->models, link->models + 1, (MODELS_MAX - 1) * sizeof link->models[0]);
        link->model_count--;
    }
    link->models[link->model_count++] = (struct model_key){.id = id, .version = version};
    return DBOS_OK;
}
