/* dbos-archiver DATA_DIR: the archiver process. dbosd starts it with one end of a socket pair as
 * descriptor 3 and speaks provenance/archive_protocol.h; when that end closes, it finishes what it
 * does and exits.
 *
 *   reader thread: frames ──▶ newest ADVANCE, one QUESTION ──▶ main thread: archiver
 *                  CANCEL, a deadline ──▶ interrupt
 *                  ADVANCE ◀── PROGRESS; how much of the processor the others get
 *
 * The reader never works and the worker never waits for the socket's input, so that a question can
 * be cancelled while it runs. Of two threads the reader alone keeps its scheduling class: it waits
 * for nothing that a patient thread holds without lifting that one's class first. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "provenance/archiver.h"
#include "storage/value.h"
#include "tools/archiver_pace.h"

enum {
    POLL_MS = 50,            /* how late a deadline may be noticed */
    ROWS_FLUSH_BYTES = 65536 /* of one ROWS frame */
};

struct inbox {
    pthread_mutex_t mutex;
    pthread_cond_t arrived;
    struct dbos_archiver *archiver;
    bool ended; /* the socket closed */
    uint64_t durable;
    bool urgent; /* the archive is too far behind */
    bool has_question;
    uint32_t question_id;
    struct dbos_buf question; /* payload; the worker's while `answering` */
    bool answering;
    bool cancelled;
    bool timed_out;
    uint64_t deadline_ns; /* 0 = none */
};

struct program {
    struct dbos_alloc alloc;
    struct dbos_env *env;
    struct inbox inbox;
    struct dbos_buf payload; /* of the reader */
    struct dbos_buf reply;   /* of the reader */
    struct archiver_pace pace;
    pthread_mutex_t sending; /* a frame is sent in one piece */
};

/* -- socket -------------------------------------------------------------------------------------
 */

/* false = the other end is gone. */
static bool send_all(const struct dbos_buf *frame) {
    size_t sent = 0;
    while (sent < frame->size_bytes) {
        ssize_t n =
            send(DBOS_ARCHIVE_FD, frame->data + sent, frame->size_bytes - sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        sent += (size_t)n;
    }
    return true;
}

/* -- reader -------------------------------------------------------------------------------------
 */

/* The worker may be patient while it has the lock: then it must get on. */
static void lock_inbox(struct program *program) {
    if (pthread_mutex_trylock(&program->inbox.mutex) != 0) {
        archiver_pace_set(&program->pace, DBOS_ARCHIVE_NORMAL);
        (void)pthread_mutex_lock(&program->inbox.mutex);
    }
}

/* With the lock. */
static void adjust_pace(struct program *program) {
    const struct inbox *inbox = &program->inbox;
    bool hurries = inbox->urgent || inbox->has_question || inbox->answering || inbox->ended;
    archiver_pace_set(&program->pace, hurries ? DBOS_ARCHIVE_NORMAL : DBOS_ARCHIVE_PATIENT);
}

/* Unless an answer is on its way: whoever reads that knows that the archiver lives. */
static void send_progress(struct program *program) {
    uint8_t bytes[DBOS_ARCHIVE_PROGRESS_BYTES];
    struct dbos_archive_progress progress = {.pace = (uint32_t)program->pace.now};
    struct dbos_buf *frame = &program->reply;
    dbos_archiver_progress(program->inbox.archiver, &progress.taken, &progress.exported);
    dbos_buf_reset(frame);
    dbos_archive_put_progress(frame, &progress);
    if (frame->failed || pthread_mutex_trylock(&program->sending) != 0) {
        return;
    }
    DBOS_CHECK(frame->size_bytes == sizeof bytes);
    memcpy(bytes, frame->data, sizeof bytes);
    dbos_buf_reset(frame);
    dbos_archive_put_frame(frame, DBOS_ARCHIVE_PROGRESS, 0, bytes, sizeof bytes);
    if (!frame->failed) {
        (void)send_all(frame); /* that the other end is gone shows when reading */
    }
    (void)pthread_mutex_unlock(&program->sending);
}

/* A question that ran too long, or is no longer wanted, is told so until it ends. */
static void watch_question(struct program *program) {
    struct inbox *inbox = &program->inbox;
    lock_inbox(program);
    if (inbox->answering && inbox->deadline_ns != 0 &&
        program->env->ops->mono_ns(program->env) > inbox->deadline_ns) {
        inbox->timed_out = true;
    }
    bool stop = inbox->answering && (inbox->timed_out || inbox->cancelled);
    if (stop) {
        dbos_archiver_interrupt(inbox->archiver);
    }
    adjust_pace(program);
    (void)pthread_mutex_unlock(&inbox->mutex);
}

/* Reads exactly so many bytes; looks at the deadline while it waits. */
static bool receive_all(struct program *program, uint8_t *to, size_t size_bytes) {
    size_t got = 0;
    while (got < size_bytes) {
        struct pollfd wait = {.fd = DBOS_ARCHIVE_FD, .events = POLLIN};
        int ready = poll(&wait, 1, POLL_MS);
        watch_question(program);
        if (ready <= 0) {
            continue;
        }
        ssize_t n = recv(DBOS_ARCHIVE_FD, to + got, size_bytes - got, 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return false;
        }
        got += (size_t)n;
    }
    return true;
}

static void take_question(struct inbox *inbox, uint32_t id, const struct dbos_buf *payload) {
    dbos_buf_reset(&inbox->question);
    dbos_buf_put(&inbox->question, payload->data, payload->size_bytes);
    inbox->question_id = id;
    inbox->cancelled = false;
    inbox->timed_out = false;
    inbox->has_question = true;
    dbos_archiver_set_hurry(inbox->archiver, true);
}

static void take_advance(struct inbox *inbox, const struct dbos_archive_advance *advance) {
    inbox->durable = advance->position > inbox->durable ? advance->position : inbox->durable;
    inbox->urgent = advance->urgent;
}

static bool take_frame(struct program *program, const struct dbos_archive_frame *frame) {
    struct inbox *inbox = &program->inbox;
    const struct dbos_buf *payload = &program->payload;
    struct dbos_archive_advance advance;
    struct dbos_errinfo info;
    bool is_advance = frame->kind == DBOS_ARCHIVE_ADVANCE;
    if (is_advance &&
        dbos_archive_get_advance(payload->data, payload->size_bytes, &advance, &info) != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "archiver: %s", info.message);
        return false;
    }
    lock_inbox(program);
    if (is_advance) {
        take_advance(inbox, &advance);
    } else if (frame->kind == DBOS_ARCHIVE_CANCEL) {
        inbox->cancelled = inbox->question_id == frame->id;
    } else if (frame->kind == DBOS_ARCHIVE_QUESTION) {
        take_question(inbox, frame->id, payload);
    }
    adjust_pace(program);
    (void)pthread_cond_signal(&inbox->arrived);
    (void)pthread_mutex_unlock(&inbox->mutex);
    if (is_advance) {
        send_progress(program);
    }
    return true;
}

static bool read_frame(struct program *program) {
    uint8_t head[DBOS_ARCHIVE_HEAD_BYTES];
    struct dbos_archive_frame frame;
    struct dbos_errinfo info;
    if (!receive_all(program, head, sizeof head)) {
        return false;
    }
    if (dbos_archive_get_head(head, &frame, &info) != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "archiver: %s", info.message);
        return false;
    }
    dbos_buf_reset(&program->payload);
    uint8_t *to = dbos_buf_reserve(&program->payload, frame.payload_bytes + 1);
    if (to == NULL || !receive_all(program, to, frame.payload_bytes)) {
        return false;
    }
    program->payload.size_bytes = frame.payload_bytes;
    return take_frame(program, &frame);
}

static void *reader_main(void *arg) {
    struct program *program = arg;
    archiver_pace_keep(&program->pace);
    while (read_frame(program)) {
    }
    lock_inbox(program);
    program->inbox.ended = true;
    adjust_pace(program);
    program->inbox.cancelled = true;
    dbos_archiver_set_hurry(program->inbox.archiver, true);
    if (program->inbox.answering) {
        dbos_archiver_interrupt(program->inbox.archiver);
    }
    (void)pthread_cond_signal(&program->inbox.arrived);
    (void)pthread_mutex_unlock(&program->inbox.mutex);
    return NULL;
}

/* -- answering ----------------------------------------------------------------------------------
 */

struct answer {
    struct program *program;
    uint32_t id;
    struct dbos_buf rows;
    struct dbos_buf frame;
};

static enum dbos_err send_frame(struct answer *answer, enum dbos_archive_frame_kind kind,
                                const struct dbos_buf *payload, struct dbos_errinfo *info) {
    if (payload->size_bytes > DBOS_ARCHIVE_PAYLOAD_MAX) { /* by one row of it */
        return dbos_fail(info, DBOS_ERR_LIMIT, "the result is larger than %d bytes",
                         DBOS_RESULT_BYTES_MAX);
    }
    dbos_buf_reset(&answer->frame);
    dbos_archive_put_frame(&answer->frame, kind, answer->id, payload->data, payload->size_bytes);
    if (payload->failed || answer->frame.failed) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the answer");
    }
    (void)pthread_mutex_lock(&answer->program->sending);
    bool is_sent = send_all(&answer->frame);
    (void)pthread_mutex_unlock(&answer->program->sending);
    return is_sent ? DBOS_OK : dbos_fail(info, DBOS_ERR_CONNECTION_LOST, "the node is gone");
}

static enum dbos_err answer_columns(void *arg, const struct dbos_archive_result_column *columns,
                                    uint32_t count, struct dbos_errinfo *info) {
    struct answer *answer = arg;
    dbos_buf_reset(&answer->rows);
    dbos_archive_put_columns(&answer->rows, columns, count);
    enum dbos_err err = send_frame(answer, DBOS_ARCHIVE_COLUMNS, &answer->rows, info);
    dbos_buf_reset(&answer->rows);
    return err;
}

static enum dbos_err answer_row(void *arg, const struct dbos_bytes *cells, uint32_t count,
                                struct dbos_errinfo *info) {
    struct answer *answer = arg;
    dbos_archive_put_row(&answer->rows, cells, count);
    if (answer->rows.size_bytes < ROWS_FLUSH_BYTES) {
        return DBOS_OK;
    }
    enum dbos_err err = send_frame(answer, DBOS_ARCHIVE_ROWS, &answer->rows, info);
    dbos_buf_reset(&answer->rows);
    return err;
}

static enum dbos_err ask(struct answer *answer, struct dbos_arena *arena,
                         const struct dbos_buf *payload, struct dbos_errinfo *info) {
    struct program *program = answer->program;
    struct inbox *inbox = &program->inbox;
    struct dbos_archive_question question;
    enum dbos_err err =
        dbos_archive_get_question(arena, payload->data, payload->size_bytes, &question, info);
    if (err != DBOS_OK) {
        return err;
    }
    (void)pthread_mutex_lock(&inbox->mutex);
    inbox->answering = true;
    inbox->deadline_ns = question.timeout_us == 0 ? 0
                                                  : program->env->ops->mono_ns(program->env) +
                                                        question.timeout_us * 1000;
    (void)pthread_mutex_unlock(&inbox->mutex);
    struct dbos_archive_sink sink = {answer_columns, answer_row, answer};
    err = dbos_archiver_query(inbox->archiver, &question, &sink, info);
    (void)pthread_mutex_lock(&inbox->mutex);
    inbox->answering = false;
    if (err == DBOS_ERR_CANCELED && inbox->timed_out) {
        err = dbos_fail(info, DBOS_ERR_TIMEOUT, "canceling statement due to statement timeout");
    }
    (void)pthread_mutex_unlock(&inbox->mutex);
    return err;
}

static void answer_question(struct program *program, uint32_t id, const struct dbos_buf *payload) {
    struct answer answer = {.program = program, .id = id};
    struct dbos_arena arena;
    struct dbos_errinfo info = {.code = DBOS_OK};
    dbos_arena_init(&arena, &program->alloc, 0);
    dbos_buf_init(&answer.rows, &program->alloc);
    dbos_buf_init(&answer.frame, &program->alloc);
    enum dbos_err err = ask(&answer, &arena, payload, &info);
    if (err == DBOS_OK && answer.rows.size_bytes != 0) {
        err = send_frame(&answer, DBOS_ARCHIVE_ROWS, &answer.rows, &info);
    }
    dbos_buf_reset(&answer.rows);
    if (err != DBOS_OK) {
        info.code = err;
        dbos_archive_put_error(&answer.rows, &info);
    }
    (void)send_frame(&answer, err == DBOS_OK ? DBOS_ARCHIVE_DONE : DBOS_ARCHIVE_ERROR, &answer.rows,
                     &info);
    dbos_buf_fini(&answer.rows);
    dbos_buf_fini(&answer.frame);
    dbos_arena_fini(&arena);
}

/* Nothing to take over and nothing asked: look at the files that nobody has looked at yet. False:
 * one is damaged. Called with the mutex. */
static bool wait_for_work(struct program *program) {
    struct inbox *inbox = &program->inbox;
    struct dbos_errinfo info;
    while (!inbox->ended && !inbox->has_question &&
           inbox->durable <= dbos_archiver_position(inbox->archiver)) {
        if (!dbos_archiver_has_unchecked(inbox->archiver)) {
            (void)pthread_cond_wait(&inbox->arrived, &inbox->mutex);
            continue;
        }
        (void)pthread_mutex_unlock(&inbox->mutex);
        enum dbos_err err = dbos_archiver_check_next(inbox->archiver, &info);
        (void)pthread_mutex_lock(&inbox->mutex);
        if (err != DBOS_OK) {
            dbos_log(DBOS_LOG_ERROR, "archiver: %s %s", info.message, info.detail);
            return false;
        }
    }
    return true;
}

/* Until the socket closes: take over what is durable, answer what is asked. */
static void work(struct program *program) {
    struct inbox *inbox = &program->inbox;
    struct dbos_buf question;
    dbos_buf_init(&question, &program->alloc);
    for (;;) {
        (void)pthread_mutex_lock(&inbox->mutex);
        bool ended = !wait_for_work(program) || inbox->ended;
        bool ask_now = inbox->has_question;
        uint64_t durable = inbox->durable;
        uint32_t id = inbox->question_id;
        if (ask_now) {
            struct dbos_buf swap = question;
            question = inbox->question;
            inbox->question = swap;
            inbox->has_question = false;
        }
        dbos_archiver_set_hurry(inbox->archiver, false);
        (void)pthread_mutex_unlock(&inbox->mutex);
        if (ended) {
            break;
        }
        if (ask_now) {
            answer_question(program, id, &question);
            continue;
        }
        struct dbos_errinfo info;
        if (dbos_archiver_advance(inbox->archiver, durable, &info) != DBOS_OK) {
            break; /* it was said in the log; dbosd starts a fresh one */
        }
    }
    dbos_buf_fini(&question);
}

/* -- start --------------------------------------------------------------------------------------
 */

static enum dbos_err load_duckdb(struct program *program, struct dbos_duckdb **out,
                                 struct dbos_errinfo *info) {
    char beside[DBOS_ARCHIVE_HEAD_BYTES + 4096] = "";
    char self[4096];
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length > 0) {
        self[length] = '\0';
        char *slash = strrchr(self, '/');
        if (slash != NULL) {
            *slash = '\0';
            (void)snprintf(beside, sizeof beside, "%.4000s/../lib/libduckdb.so", self);
        }
    }
    const char *paths[] = {getenv("DBOS_DUCKDB_LIBRARY"), beside, DBOS_DUCKDB_DIR "/libduckdb.so"};
    return dbos_duckdb_open(&program->alloc, paths, sizeof paths / sizeof paths[0], out, info);
}

static uint32_t number_of(const char *text) {
    unsigned long value = text == NULL ? 0 : strtoul(text, NULL, 10);
    return value > 1000000 ? 0 : (uint32_t)value;
}

static int serve(struct program *program, const char *data_dir) {
    struct dbos_errinfo info = {.code = DBOS_OK};
    struct dbos_duckdb *duck = NULL;
    struct dbos_archiver *archiver = NULL;
    enum dbos_err err = load_duckdb(program, &duck, &info);
    if (err == DBOS_OK) {
        struct dbos_archiver_options options = {
            .env = program->env,
            .duck = duck,
            .data_dir = data_dir,
            .threads = number_of(getenv("DBOS_ARCHIVE_THREADS")),
            .memory_mb = number_of(getenv("DBOS_ARCHIVE_MEMORY_MB")),
        };
        err = dbos_archiver_open(&program->alloc, &options, &archiver, &info);
    }
    if (err != DBOS_OK) {
        dbos_log(DBOS_LOG_ERROR, "archiver: %s %s", info.message, info.hint);
        dbos_duckdb_close(duck);
        return 1;
    }
    program->inbox.archiver = archiver;
    pthread_t reader;
    if (pthread_create(&reader, NULL, reader_main, program) != 0) {
        dbos_log(DBOS_LOG_ERROR, "archiver: cannot start its reader");
    } else {
        work(program);
        (void)shutdown(DBOS_ARCHIVE_FD, SHUT_RDWR);
        (void)pthread_join(reader, NULL);
    }
    dbos_archiver_close(archiver);
    dbos_duckdb_close(duck);
    return 0;
}

/* Each export takes the same buffers again: who gives them back to the kernel gets them back page
 * by page, zeroed. */
static void tune_heap(void) {
    (void)mallopt(M_MMAP_THRESHOLD, 32 * 1024 * 1024);
    (void)mallopt(M_TRIM_THRESHOLD, 256 * 1024 * 1024);
}

int main(int argc, char **argv) {
    if (argc != 2 || argv[1][0] == '-') {
        (void)fprintf(stderr, "usage: dbos-archiver DATA_DIR\n"
                              "dbosd starts it, with a socket as descriptor 3.\n");
        return 2;
    }
    struct program program = {.env = dbos_env_posix()};
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* Ctrl-C goes to the whole group; dbosd closes the socket */
    (void)prctl(PR_SET_NAME, "dbos-archiver");
    tune_heap();
    archiver_pace_init(&program.pace);
    (void)pthread_mutex_init(&program.sending, NULL);
    dbos_alloc_init(&program.alloc, "archiver", 0);
    (void)pthread_mutex_init(&program.inbox.mutex, NULL);
    (void)pthread_cond_init(&program.inbox.arrived, NULL);
    dbos_buf_init(&program.payload, &program.alloc);
    dbos_buf_init(&program.reply, &program.alloc);
    dbos_buf_init(&program.inbox.question, &program.alloc);
    int code = serve(&program, argv[1]);
    dbos_buf_fini(&program.payload);
    dbos_buf_fini(&program.reply);
    dbos_buf_fini(&program.inbox.question);
    dbos_alloc_fini(&program.alloc);
    return code;
}
