#include "engine/archive_client.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"

extern char **environ;

enum {
    POLL_MS = 20,           /* how late a cancellation is noticed */
    BACKOFF_FIRST_MS = 100, /* doubles with each failed start … */
    BACKOFF_MAX_MS = 30000, /* … up to here */
    STABLE_MS = 60000,      /* a process that lived so long starts the back-off anew */
    CLOSE_MS = 3000,        /* so long may an export under way take to finish at the end */
    GRACE_MS = 2000,        /* the archiver keeps its deadlines itself: so late it may be */
    SILENCE_MS = 60000,     /* so long may it say nothing to a question without a deadline */
    QUESTION_BYTES_MAX = 60 * 1048576,
};

struct dbos_archive_client {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    char program[1024];
    char data_dir[1024];
    pid_t child; /* 0 = none */
    int socket;  /* -1 = none */
    uint64_t started_ns;
    uint64_t retry_ns; /* not before */
    uint32_t backoff_ms;
    struct dbos_archive_advance told; /* the last one */
    struct dbos_archive_client_state state;
    uint32_t question;
    struct dbos_buf out;
    struct dbos_buf payload;
    struct dbos_arena arena;
    struct dbos_bytes *cells;
    const char **texts;
    size_t *sizes;
};

static uint64_t now_ns(const struct dbos_archive_client *client) {
    return client->env->ops->mono_ns(client->env);
}

/* -- the process ---------------------------------------------------------------------------------
 */

static int spawn_child(struct dbos_archive_client *client, int child_end) {
    char *arguments[] = {client->program, client->data_dir, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawn_file_actions_adddup2(&actions, child_end, DBOS_ARCHIVE_FD);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int error =
        posix_spawn(&client->child, client->program, &actions, &attributes, arguments, environ);
    (void)posix_spawnattr_destroy(&attributes);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        client->child = 0;
    }
    return error;
}

static void start_child(struct dbos_archive_client *client) {
    int ends[2];
    if (now_ns(client) < client->retry_ns) {
        return;
    }
    client->retry_ns = now_ns(client) + client->backoff_ms * UINT64_C(1000000);
    client->backoff_ms =
        client->backoff_ms * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : client->backoff_ms * 2;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        dbos_log(DBOS_LOG_ERROR, "archive: no socket pair: %s", strerror(errno));
        return;
    }
    int error = spawn_child(client, ends[1]);
    (void)close(ends[1]);
    if (error != 0) {
        dbos_log(DBOS_LOG_ERROR, "archive: cannot start %s: %s", client->program, strerror(error));
        (void)close(ends[0]);
        return;
    }
    client->socket = ends[0];
    client->started_ns = now_ns(client);
    client->told = (struct dbos_archive_advance){.position = 0};
    client->state.process = client->child;
    client->state.starts++;
    dbos_log(DBOS_LOG_INFO, "archive: archiver started, process %d", (int)client->child);
}

/* The process is gone or useless: reap it, and say when it comes back. */
static void drop_child(struct dbos_archive_client *client) {
    int status = 0;
    if (client->socket >= 0) {
        (void)close(client->socket);
        client->socket = -1;
    }
    if (client->child == 0) {
        return;
    }
    (void)kill(client->child, SIGKILL); /* exactly-once does not depend on its leave-taking */
    (void)waitpid(client->child, &status, 0);
    bool stable = now_ns(client) - client->started_ns > STABLE_MS * UINT64_C(1000000);
    client->backoff_ms = stable ? BACKOFF_FIRST_MS : client->backoff_ms;
    client->retry_ns = now_ns(client) + client->backoff_ms * UINT64_C(1000000);
    if (WIFSIGNALED(status)) {
        dbos_log(DBOS_LOG_WARN, "archive: archiver %d ended by signal %d; next start in %u ms",
                 (int)client->child, WTERMSIG(status), client->backoff_ms);
    } else {
        dbos_log(DBOS_LOG_WARN, "archive: archiver %d ended with status %d; next start in %u ms",
                 (int)client->child, WEXITSTATUS(status), client->backoff_ms);
    }
    client->child = 0;
    client->state.process = 0;
    client->state.progress.taken = client->state.progress.exported;
}

static bool child_is_alive(struct dbos_archive_client *client) {
    if (client->child == 0) {
        return false;
    }
    struct pollfd look = {.fd = client->socket, .events = POLLIN};
    if (poll(&look, 1, 0) > 0 && (look.revents & (POLLHUP | POLLERR)) != 0) {
        drop_child(client);
        return false;
    }
    return true;
}

static void ensure_child(struct dbos_archive_client *client) {
    if (!child_is_alive(client)) {
        start_child(client);
    }
}

/* -- frames --------------------------------------------------------------------------------------
 */

static bool make_frame(struct dbos_archive_client *client, enum dbos_archive_frame_kind kind,
                       uint32_t id, const void *payload, size_t size_bytes) {
    dbos_buf_reset(&client->out);
    dbos_archive_put_frame(&client->out, kind, id, payload, size_bytes);
    return !client->out.failed;
}

/* The payload of a PROGRESS. */
static bool take_progress(struct dbos_archive_client *client, const void *payload,
                          size_t size_bytes) {
    struct dbos_archive_progress progress;
    struct dbos_errinfo info;
    if (dbos_archive_get_progress(payload, size_bytes, &progress, &info) != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "archive: %s", info.message);
        drop_child(client);
        return false;
    }
    client->state.is_known = true;
    client->state.progress = progress;
    return true;
}

/* What has come since. Between two questions the archiver says nothing else. */
static void read_progress(struct dbos_archive_client *client) {
    enum { FRAME_BYTES = DBOS_ARCHIVE_HEAD_BYTES + DBOS_ARCHIVE_PROGRESS_BYTES };
    uint8_t frame[FRAME_BYTES];
    struct dbos_archive_frame head;
    struct dbos_errinfo info;
    while (client->child != 0 && recv(client->socket, frame, sizeof frame,
                                      MSG_PEEK | MSG_DONTWAIT) == (ssize_t)sizeof frame) {
        bool is_progress = dbos_archive_get_head(frame, &head, &info) == DBOS_OK &&
                           head.kind == DBOS_ARCHIVE_PROGRESS &&
                           head.payload_bytes == DBOS_ARCHIVE_PROGRESS_BYTES;
        if (!is_progress) {
            dbos_log(DBOS_LOG_ERROR, "archive: the archiver speaks without being asked");
            drop_child(client);
            return;
        }
        (void)recv(client->socket, frame, sizeof frame, MSG_DONTWAIT);
        (void)take_progress(client, frame + DBOS_ARCHIVE_HEAD_BYTES, DBOS_ARCHIVE_PROGRESS_BYTES);
    }
}

/* Never waits: a process that does not read must not hold up the caller. What does not fit is left
 * out, for the next call brings a later position; half a frame would garble all that follows. */
static void send_advance(struct dbos_archive_client *client,
                         const struct dbos_archive_advance *advance) {
    dbos_buf_reset(&client->payload);
    dbos_archive_put_advance(&client->payload, advance);
    if (client->payload.failed || !make_frame(client, DBOS_ARCHIVE_ADVANCE, 0, client->payload.data,
                                              client->payload.size_bytes)) {
        return;
    }
    ssize_t n =
        send(client->socket, client->out.data, client->out.size_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n == (ssize_t)client->out.size_bytes) {
        client->told = *advance;
    } else if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)) {
        drop_child(client);
    }
}

void dbos_archive_advance(struct dbos_archive_client *client, uint64_t position, bool urgent) {
    ensure_child(client);
    read_progress(client);
    if (client->child == 0) {
        return;
    }
    struct dbos_archive_advance advance = {
        .position = position > client->told.position ? position : client->told.position,
        .urgent = urgent};
    bool is_news = advance.position != client->told.position || urgent != client->told.urgent;
    if (is_news || client->state.progress.taken < advance.position) {
        send_advance(client, &advance); /* that it is told again asks how far it has come */
    }
}

void dbos_archive_client_state(const struct dbos_archive_client *client,
                               struct dbos_archive_client_state *out) {
    *out = client->state;
}

/* -- questions -----------------------------------------------------------------------------------
 */

struct asking {
    struct dbos_archive_client *client;
    const struct dbos_archive_request *request;
    struct dbos_errinfo *info;
    uint32_t id;
    uint32_t column_count;
    uint64_t until_ns; /* the archiver is given up then */
    bool wants_cancel; /* the request's flag was seen */
    bool cancelled;    /* CANCEL was sent */
    bool is_overdue;   /* it was given up */
    bool was_lost;     /* the process ended */
};

/* It runs and does not answer (stopped, or stuck): the next question gets a new process. */
static enum dbos_err give_up(struct asking *asking) {
    drop_child(asking->client);
    if (asking->wants_cancel) {
        return dbos_fail(asking->info, DBOS_ERR_CANCELED, "the statement was canceled");
    }
    if (asking->request->timeout_us != 0) {
        return dbos_fail(asking->info, DBOS_ERR_TIMEOUT,
                         "the archiver did not answer before the statement's timeout");
    }
    return dbos_fail(asking->info, DBOS_ERR_ARCHIVE, "the archiver did not answer for %d s",
                     SILENCE_MS / 1000);
}

static enum dbos_err lost(struct asking *asking) {
    if (asking->is_overdue) {
        return give_up(asking);
    }
    drop_child(asking->client);
    asking->was_lost = true;
    (void)dbos_fail(asking->info, DBOS_ERR_ARCHIVE, "the archiver ended while it answered");
    dbos_err_hint(asking->info, "It is started again; ask once more.");
    return DBOS_ERR_ARCHIVE;
}

static uint64_t after_ms(const struct dbos_archive_client *client, uint64_t ms) {
    return now_ns(client) + ms * UINT64_C(1000000);
}

static void set_deadline(struct asking *asking) {
    uint64_t timeout_ms = asking->request->timeout_us / 1000;
    timeout_ms = timeout_ms > UINT32_MAX ? UINT32_MAX : timeout_ms;
    asking->until_ns =
        after_ms(asking->client,
                 asking->request->timeout_us == 0 ? (uint64_t)SILENCE_MS : timeout_ms + GRACE_MS);
}

/* Waits a little for the socket; sees the request's cancellation. False = the time is over. */
static bool wait_a_little(struct asking *asking, short events, bool *ready) {
    struct dbos_archive_client *client = asking->client;
    struct pollfd wait = {.fd = client->socket, .events = events};
    const _Atomic uint32_t *wanted = asking->request->cancel;
    *ready = poll(&wait, 1, POLL_MS) > 0;
    if (!asking->wants_cancel && wanted != NULL && *wanted != 0) {
        uint64_t until_ns = after_ms(client, GRACE_MS);
        asking->wants_cancel = true;
        asking->until_ns = until_ns < asking->until_ns ? until_ns : asking->until_ns;
    }
    if (asking->request->tick != NULL) {
        asking->request->tick(asking->request->tick_arg);
    }
    asking->is_overdue = now_ns(client) > asking->until_ns;
    return !asking->is_overdue;
}

/* Sends the frame in `out`; false = the process ended or the time is over. */
static bool send_all(struct asking *asking) {
    const struct dbos_buf *frame = &asking->client->out;
    size_t sent = 0;
    while (sent < frame->size_bytes) {
        bool ready;
        ssize_t n = send(asking->client->socket, frame->data + sent, frame->size_bytes - sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0) {
            sent += (size_t)n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK)) {
            return false;
        } else if (!wait_a_little(asking, POLLOUT, &ready)) {
            return false;
        }
    }
    return true;
}

static bool cancel(struct asking *asking) {
    asking->cancelled = true;
    return make_frame(asking->client, DBOS_ARCHIVE_CANCEL, asking->id, NULL, 0) && send_all(asking);
}

/* Reads so many bytes, passing on a cancellation meanwhile. */
static bool receive_all(struct asking *asking, uint8_t *to, size_t size_bytes) {
    size_t got = 0;
    while (got < size_bytes) {
        bool ready;
        if (!wait_a_little(asking, POLLIN, &ready)) {
            return false;
        }
        if (asking->wants_cancel && !asking->cancelled && !cancel(asking)) {
            return false;
        }
        if (!ready) {
            continue;
        }
        ssize_t n = recv(asking->client->socket, to + got, size_bytes - got, MSG_DONTWAIT);
        if (n < 0 && (errno == EINTR || errno == EAGAIN || errno == EWOULDBLOCK)) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
        if (asking->request->timeout_us == 0 && !asking->wants_cancel) {
            set_deadline(asking); /* it speaks */
        }
    }
    return true;
}

static enum dbos_err receive_frame(struct asking *asking, struct dbos_archive_frame *frame) {
    struct dbos_archive_client *client = asking->client;
    uint8_t head[DBOS_ARCHIVE_HEAD_BYTES];
    do {
        if (!receive_all(asking, head, sizeof head)) {
            return lost(asking);
        }
        enum dbos_err err = dbos_archive_get_head(head, frame, asking->info);
        if (err != DBOS_OK) {
            drop_child(client);
            return err;
        }
        dbos_buf_reset(&client->payload);
        uint8_t *to = dbos_buf_reserve(&client->payload, frame->payload_bytes + 1);
        if (to == NULL || !receive_all(asking, to, frame->payload_bytes)) {
            return lost(asking);
        }
        client->payload.size_bytes = frame->payload_bytes;
        if (frame->kind == DBOS_ARCHIVE_PROGRESS &&
            !take_progress(client, client->payload.data, frame->payload_bytes)) {
            return dbos_fail(asking->info, DBOS_ERR_PROTOCOL, "malformed answer of the archive");
        }
    } while (frame->id != asking->id); /* the rest of an answer that was given up */
    return DBOS_OK;
}

static enum dbos_err make_row_arrays(struct dbos_archive_client *client, uint32_t count) {
    void *cells = dbos_retake(client->alloc, client->cells, (count + 1) * sizeof *client->cells);
    client->cells = cells == NULL ? client->cells : cells;
    void *texts = dbos_retake(client->alloc, client->texts, (count + 1) * sizeof *client->texts);
    client->texts = texts == NULL ? client->texts : texts;
    void *sizes = dbos_retake(client->alloc, client->sizes, (count + 1) * sizeof *client->sizes);
    client->sizes = sizes == NULL ? client->sizes : sizes;
    return cells == NULL || texts == NULL || sizes == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
}

static enum dbos_err take_columns(struct asking *asking) {
    struct dbos_archive_client *client = asking->client;
    struct dbos_archive_result_column *columns;
    enum dbos_err err =
        dbos_archive_get_columns(&client->arena, client->payload.data, client->payload.size_bytes,
                                 &columns, &asking->column_count, asking->info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_result_column *ours =
        dbos_arena_take_zero(&client->arena, (asking->column_count + 1) * sizeof *ours);
    if (ours == NULL || make_row_arrays(client, asking->column_count) != DBOS_OK) {
        return dbos_fail(asking->info, DBOS_ERR_NOMEM, "out of memory for the answer");
    }
    for (uint32_t i = 0; i < asking->column_count; i++) {
        ours[i].name = columns[i].name;
        ours[i].type = (uint8_t)dbos_type_of_oid(columns[i].oid);
    }
    return asking->request->columns(asking->request->arg, ours, asking->column_count, asking->info);
}

static enum dbos_err take_rows(struct asking *asking) {
    struct dbos_archive_client *client = asking->client;
    struct dbos_reader reader = dbos_reader_of(client->payload.data, client->payload.size_bytes);
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && dbos_archive_get_row(&reader, client->cells, asking->column_count)) {
        for (uint32_t i = 0; i < asking->column_count; i++) {
            client->texts[i] = (const char *)client->cells[i].data;
            client->sizes[i] = client->cells[i].size_bytes;
        }
        err =
            asking->request->row(asking->request->arg, client->texts, client->sizes, asking->info);
    }
    if (err == DBOS_OK && (reader.failed || dbos_reader_left(&reader) != 0)) {
        drop_child(client);
        err = dbos_fail(asking->info, DBOS_ERR_PROTOCOL, "malformed rows of the archive");
    }
    return err;
}

/* Frames until DONE or ERROR. After a callback failed, the rest is passed over. */
static enum dbos_err take_answer(struct asking *asking) {
    struct dbos_archive_client *client = asking->client;
    enum dbos_err kept = DBOS_OK;
    for (;;) {
        struct dbos_archive_frame frame;
        struct dbos_errinfo own;
        enum dbos_err err = receive_frame(asking, &frame);
        if (err != DBOS_OK) {
            return err;
        }
        if (frame.kind == DBOS_ARCHIVE_DONE) {
            return kept;
        }
        if (frame.kind == DBOS_ARCHIVE_ERROR) {
            dbos_archive_get_error(client->payload.data, client->payload.size_bytes, &own);
            if (kept == DBOS_OK && asking->info != NULL) {
                *asking->info = own;
            }
            return kept == DBOS_OK ? own.code : kept;
        }
        if (kept == DBOS_OK) {
            kept = frame.kind == DBOS_ARCHIVE_COLUMNS ? take_columns(asking) : take_rows(asking);
            if (kept != DBOS_OK && client->child == 0) {
                return kept;
            }
            if (kept != DBOS_OK) {
                if (!cancel(asking)) {
                    drop_child(client); /* the callback's error is what counts */
                    return kept;
                }
            }
        }
    }
}

/* The neutral form of a question: the statement's calls, in the arena. */
static enum dbos_err make_question(struct dbos_archive_client *client,
                                   const struct dbos_archive_request *request,
                                   struct dbos_archive_question *out) {
    const struct dbos_archive_query *query = request->query;
    struct dbos_archive_function_call *calls =
        dbos_arena_take_zero(&client->arena, (query->call_count + 1) * sizeof *calls);
    if (calls == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint32_t i = 0; i < query->call_count; i++) {
        const struct dbos_archive_call *from = &query->calls[i];
        struct dbos_archive_value *values =
            dbos_arena_take_zero(&client->arena, (from->argument_count + 1) * sizeof *values);
        if (values == NULL) {
            return DBOS_ERR_NOMEM;
        }
        for (uint32_t j = 0; j < from->argument_count; j++) {
            values[j] = (struct dbos_archive_value){.text = from->arguments[j].text,
                                                    .row_type = from->arguments[j].row_type,
                                                    .name = from->arguments[j].name,
                                                    .parameter = from->arguments[j].parameter};
        }
        calls[i] = (struct dbos_archive_function_call){.function = from->function,
                                                       .argument_count = from->argument_count,
                                                       .arguments = values,
                                                       .position = from->position};
    }
    *out = (struct dbos_archive_question){.position = request->position,
                                          .sql = query->sql,
                                          .call_count = query->call_count,
                                          .calls = calls,
                                          .parameter_count = request->parameter_count,
                                          .parameters = request->parameters,
                                          .describe_only = request->describe_only,
                                          .timeout_us = request->timeout_us};
    return DBOS_OK;
}

/* Wait for a process that is about to start, as long as the statement may take. */
static bool wait_for_child(struct dbos_archive_client *client,
                           const struct dbos_archive_request *request) {
    uint64_t patience_us =
        request->timeout_us == 0 || request->timeout_us > 5000000 ? 5000000 : request->timeout_us;
    uint64_t until_ns = now_ns(client) + patience_us * 1000;
    ensure_child(client);
    while (client->child == 0 && now_ns(client) < until_ns &&
           (request->cancel == NULL || *request->cancel == 0)) {
        client->env->ops->sleep_us(client->env, POLL_MS * 1000);
        if (request->tick != NULL) {
            request->tick(request->tick_arg);
        }
        ensure_child(client);
    }
    return client->child != 0;
}

static enum dbos_err ask_once(struct asking *asking, struct dbos_errinfo *info) {
    struct dbos_archive_client *client = asking->client;
    struct dbos_archive_question question;
    if (!wait_for_child(client, asking->request)) {
        return dbos_fail(info, DBOS_ERR_ARCHIVE, "the archiver does not run");
    }
    asking->id = ++client->question;
    dbos_arena_reset(&client->arena);
    if (make_question(client, asking->request, &question) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the question");
    }
    dbos_buf_reset(&client->payload);
    dbos_archive_put_question(&client->payload, &question);
    if (client->payload.failed || client->payload.size_bytes > QUESTION_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "the statement is too large for the archive");
    }
    set_deadline(asking);
    if (!make_frame(client, DBOS_ARCHIVE_QUESTION, asking->id, client->payload.data,
                    client->payload.size_bytes)) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the question");
    }
    if (!send_all(asking)) {
        return lost(asking);
    }
    return take_answer(asking);
}

enum dbos_err dbos_archive_query(struct dbos_archive_client *client,
                                 const struct dbos_archive_request *request,
                                 struct dbos_errinfo *info) {
    struct asking asking = {.client = client, .request = request, .info = info};
    enum dbos_err err = ask_once(&asking, info);
    if (err == DBOS_ERR_ARCHIVE && asking.was_lost && asking.column_count == 0) {
        /* It died before it said a word: asking again is the same question. */
        asking = (struct asking){.client = client, .request = request, .info = info};
        err = ask_once(&asking, info);
    }
    return err;
}

/* -- open and close -------------------------------------------------------------------------------
 */

enum dbos_err dbos_archive_client_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                       const char *program_dir, const char *data_dir,
                                       struct dbos_archive_client **out,
                                       struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_archive_client *client = dbos_take_zero(alloc, sizeof *client);
    if (client == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the archive");
    }
    client->alloc = alloc;
    client->env = env;
    client->socket = -1;
    client->backoff_ms = BACKOFF_FIRST_MS;
    dbos_buf_init(&client->out, alloc);
    dbos_buf_init(&client->payload, alloc);
    dbos_arena_init(&client->arena, alloc, 0);
    int program =
        snprintf(client->program, sizeof client->program, "%s/dbos-archiver", program_dir);
    int data = snprintf(client->data_dir, sizeof client->data_dir, "%s", data_dir);
    bool fits = program > 0 && (size_t)program < sizeof client->program && data > 0 &&
                (size_t)data < sizeof client->data_dir;
    if (!fits || access(client->program, X_OK) != 0) {
        (void)dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "there is no program %s/dbos-archiver",
                        program_dir);
        dbos_archive_client_close(client);
        return DBOS_ERR_UNDEFINED_FILE;
    }
    start_child(client);
    *out = client;
    return DBOS_OK;
}

/* The socket's end is the word to stop; an export is finished first. */
static void end_child(struct dbos_archive_client *client) {
    int status;
    (void)close(client->socket);
    client->socket = -1;
    uint64_t until_ns = now_ns(client) + CLOSE_MS * UINT64_C(1000000);
    while (waitpid(client->child, &status, WNOHANG) == 0) {
        if (now_ns(client) > until_ns) {
            drop_child(client);
            return;
        }
        client->env->ops->sleep_us(client->env, POLL_MS * 1000);
    }
    client->child = 0;
}

void dbos_archive_client_close(struct dbos_archive_client *client) {
    if (client == NULL) {
        return;
    }
    if (client->child != 0) {
        end_child(client);
    }
    dbos_buf_fini(&client->out);
    dbos_buf_fini(&client->payload);
    dbos_arena_fini(&client->arena);
    dbos_give(client->alloc, client->cells);
    dbos_give(client->alloc, client->texts);
    dbos_give(client->alloc, client->sizes);
    dbos_give(client->alloc, client);
}
