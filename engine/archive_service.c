#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "engine/archive_client.h"
#include "engine/archive_lag.h"
#include "engine/engine_internal.h"
#include "engine/reply.h"
#include "engine/wire.h"
#include "procs/sql/type_io.h"

enum {
    /* How often the archiver hears how far the log is durable, and says how far it is: while
     * nothing happens, while it is behind, while writers wait for it. */
    ADVANCE_IDLE_US = 200000,
    ADVANCE_BUSY_US = 100000,
    ADVANCE_FULL_US = 10000,
    COLUMNS_MAX = DBOS_COLUMNS_MAX,
};
#define BACKLOG_MAX_DEFAULT (UINT64_C(4) << 30)

struct dbos_archive_service {
    struct dbos_engine *engine;
    struct dbos_archive_client *client;
    struct dbos_queue queue;
    struct dbos_queue_node stop;
    pthread_t thread;
    struct dbos_arena arena; /* of one answer's row */
    uint64_t backlog_max;    /* bytes; UINT64_MAX = none */
    bool urgent;             /* the archiver shall not be patient */
    uint64_t told_ns;        /* when it was told last */
    uint64_t first_position; /* of the log when it started: until the archiver says how far it is */
    struct dbos_lag lag;
    pthread_mutex_t lock; /* of `facts` */
    struct dbos_archive_facts facts;
};

/* -- backlog --------------------------------------------------------------------------------------
 *
 * What the log has and the archiver has not taken over. Below half of what is allowed it takes the
 * time that nobody else wants; from there on, until it is down to a quarter, its share. When it is
 * full, writers wait until an eighth of it is gone. */

static uint64_t now_ns(const struct dbos_archive_service *service) {
    return service->engine->env->ops->mono_ns(service->engine->env);
}

static void measure(struct dbos_archive_service *service) {
    struct dbos_engine *engine = service->engine;
    struct dbos_archive_client_state state;
    struct dbos_archive_facts facts = {.is_on = true, .backlog_max = service->backlog_max};
    struct dbos_log_stats log;
    uint64_t now = now_ns(service);
    dbos_log_stats(engine->log, &log);
    dbos_archive_client_state(service->client, &state);
    facts.process = state.process;
    facts.starts = state.starts;
    facts.is_known = state.is_known;
    facts.taken = state.is_known ? state.progress.taken : service->first_position;
    facts.exported = state.is_known ? state.progress.exported : 0;
    facts.pace = state.progress.pace;
    facts.position = service->first_position + log.records;
    dbos_lag_note(&service->lag, facts.position, engine->recovered_bytes + log.bytes, now);
    dbos_lag_forget(&service->lag, facts.exported);
    dbos_lag_read(&service->lag, facts.taken, now, &facts.lag_bytes, &facts.lag_ns);
    (void)pthread_mutex_lock(&service->lock);
    service->facts = facts;
    (void)pthread_mutex_unlock(&service->lock);
}

/* While the log finds no room nothing is written, whatever the backlog. True: it is so. */
static bool watch_disk(struct dbos_archive_service *service) {
    struct dbos_engine *engine = service->engine;
    struct dbos_archive_gate *gate = &engine->archive_gate;
    bool is_full = dbos_log_is_disk_full(engine->log);
    if (is_full) {
        atomic_store(&gate->is_disk_full, true);
        dbos_archive_gate_close(gate);
    } else if (atomic_exchange(&gate->is_disk_full, false)) {
        dbos_archive_gate_open(engine);
    }
    return is_full;
}

static void decide(struct dbos_archive_service *service) {
    struct dbos_engine *engine = service->engine;
    uint64_t lag = service->facts.lag_bytes;
    uint64_t max = service->backlog_max;
    uint64_t reference = max == UINT64_MAX ? BACKLOG_MAX_DEFAULT : max;
    service->urgent = lag > reference / 2 || (service->urgent && lag > reference / 4);
    if (watch_disk(service)) {
        return;
    }
    bool is_open = dbos_archive_gate_is_open(&engine->archive_gate);
    if (is_open && lag > max) {
        dbos_log(DBOS_LOG_WARN,
                 "archive: %llu bytes behind the log, more than %llu: writers wait for it",
                 (unsigned long long)lag, (unsigned long long)max);
        dbos_archive_gate_close(&engine->archive_gate);
    } else if (!is_open && lag <= max - max / 8) {
        dbos_log(DBOS_LOG_INFO, "archive: it has caught up: writers go on");
        dbos_archive_gate_open(engine);
    }
}

/* While a question is under way the archiver is not talked to: it takes nothing over either, and is
 * as far behind as the log has grown. */
static void tick_asking(void *arg) {
    struct dbos_archive_service *service = arg;
    measure(service);
    decide(service);
    dbos_archive_gate_look(service->engine);
}

/* What may be exported: not what an asynchronous log has written and a power cut can take back. */
static void tick(struct dbos_archive_service *service) {
    dbos_archive_advance(service->client, dbos_log_synced(service->engine->log), service->urgent);
    service->told_ns = now_ns(service);
    tick_asking(service);
}

static uint64_t tick_due_us(const struct dbos_archive_service *service) {
    uint64_t period_us = ADVANCE_IDLE_US;
    if (!dbos_archive_gate_is_open(&service->engine->archive_gate)) {
        period_us = ADVANCE_FULL_US;
    } else if (service->facts.taken < service->facts.position) {
        period_us = ADVANCE_BUSY_US;
    }
    uint64_t since_us = (now_ns(service) - service->told_ns) / 1000;
    return since_us < period_us ? period_us - since_us : 0;
}

void dbos_archive_service_facts(struct dbos_archive_service *service,
                                struct dbos_archive_facts *out) {
    (void)pthread_mutex_lock(&service->lock);
    *out = service->facts;
    (void)pthread_mutex_unlock(&service->lock);
}

/* -- questions ------------------------------------------------------------------------------------
 */

/* Text cells of the archiver become values and leave as DataRow messages. */
struct answer {
    struct dbos_archive_service *service;
    struct dbos_request *request;
    uint32_t column_count;
    enum dbos_type types[COLUMNS_MAX];
    uint64_t rows;
    const int16_t *formats;
    uint32_t format_count;
};

static enum dbos_err answer_columns(void *arg, const struct dbos_result_column *columns,
                                    uint32_t count, struct dbos_errinfo *info) {
    struct answer *answer = arg;
    if (count > COLUMNS_MAX) {
        return dbos_fail(info, DBOS_ERR_TOO_MANY_COLUMNS,
                         "the answer has %u columns: the limit is %d", count, COLUMNS_MAX);
    }
    answer->column_count = count;
    for (uint32_t i = 0; i < count; i++) {
        answer->types[i] = (enum dbos_type)columns[i].type;
    }
    bool describe = answer->request->describe_only || (answer->request->statement_count == 0 ||
                                                       answer->request->statements[0].describe);
    if (describe) {
        dbos_wire_put_row_description(&answer->request->reply, columns, count, answer->formats,
                                      answer->format_count);
    }
    return DBOS_OK;
}

static enum dbos_err answer_row(void *arg, const char *const *cells, const size_t *sizes,
                                struct dbos_errinfo *info) {
    struct answer *answer = arg;
    struct dbos_datum datums[COLUMNS_MAX];
    dbos_arena_reset(&answer->service->arena);
    for (uint32_t i = 0; i < answer->column_count; i++) {
        if (cells[i] == NULL) {
            datums[i] = dbos_datum_null(answer->types[i]);
            continue;
        }
        enum dbos_err err = dbos_text_in(answer->types[i], cells[i], sizes[i],
                                         &answer->service->arena, &datums[i], info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    struct dbos_buf *reply = &answer->request->reply;
    dbos_wire_put_row(reply, datums, answer->column_count, answer->formats, answer->format_count);
    answer->rows++;
    return dbos_reply_check(answer->service->engine, reply, info);
}

static enum dbos_err ask(struct dbos_archive_service *service, struct dbos_request *request,
                         uint64_t position, struct answer *answer) {
    struct dbos_archive_query query;
    dbos_script_archive(request->script, request->script_statement, &query);
    struct dbos_archive_request ask = {
        .query = &query,
        .position = position,
        .parameters = request->archive_parameters,
        .parameter_count = request->archive_parameter_count,
        .describe_only = request->describe_only,
        .timeout_us = request->timeout_us,
        .cancel = &request->cancel,
        .columns = answer_columns,
        .row = answer_row,
        .arg = answer,
        .tick = tick_asking,
        .tick_arg = service,
    };
    return dbos_archive_query(service->client, &ask, &request->error);
}

/* Nothing is written behind it: the room for more has been given back. */
static enum dbos_err end_reply(const struct answer *answer, struct dbos_errinfo *info) {
    struct dbos_buf *reply = &answer->request->reply;
    if (!answer->request->describe_only) {
        char tag[32];
        (void)snprintf(tag, sizeof tag, "SELECT %llu", (unsigned long long)answer->rows);
        dbos_wire_put_complete(reply, tag);
    }
    return dbos_reply_finish(answer->service->engine, reply, info);
}

/* The log may be waiting for room on the disk: this thread, which tells writers so, goes on
 * looking, and who asks may give up. */
static enum dbos_err wait_durable(struct dbos_archive_service *service,
                                  const struct dbos_request *request, uint64_t position,
                                  struct dbos_errinfo *info) {
    enum { LOOK_US = 500 };
    struct dbos_engine *engine = service->engine;
    uint64_t begun_ns = now_ns(service);
    while (dbos_log_durable(engine->log) < position) {
        uint64_t us = (now_ns(service) - begun_ns) / 1000;
        if (atomic_load(&request->cancel) != 0) {
            return dbos_fail(info, DBOS_ERR_CANCELED, "canceling statement due to user request");
        }
        if (request->timeout_us != 0 && us > request->timeout_us) {
            return dbos_fail(info, DBOS_ERR_TIMEOUT,
                             "canceling statement due to statement timeout");
        }
        (void)watch_disk(service);
        dbos_archive_gate_look(engine);
        engine->env->ops->sleep_us(engine->env, LOOK_US);
    }
    return DBOS_OK;
}

/* The answer holds for everything committed before the question came: wait until that is durable,
 * and the archiver waits until it has read so far. */
static void answer_request(struct dbos_archive_service *service, struct dbos_request *request) {
    uint64_t position = dbos_log_last_position(service->engine->log);
    struct answer answer = {.service = service, .request = request};
    if (request->statement_count != 0) {
        answer.formats = request->statements[0].formats;
        answer.format_count = request->statements[0].format_count;
    }
    size_t reply_start = request->reply.size_bytes;
    request->outcome = DBOS_OK;
    enum dbos_err err =
        service->client == NULL
            ? dbos_fail(&request->error, DBOS_ERR_ARCHIVE, "this node runs without an archive")
            : wait_durable(service, request, position, &request->error);
    if (err == DBOS_OK) {
        err = ask(service, request, position, &answer);
    }
    if (err == DBOS_OK) {
        err = end_reply(&answer, &request->error);
    }
    request->outcome = err;
    if (err != DBOS_OK) {
        dbos_reply_cut(service->engine, &request->reply, reply_start);
        dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    }
    request->gate_position = 0;
    request->on_done(request);
}

static void *service_main(void *arg) {
    struct dbos_archive_service *service = arg;
    for (;;) {
        bool is_open = dbos_archive_gate_is_open(&service->engine->archive_gate);
        uint64_t alone_us = is_open ? ADVANCE_IDLE_US : ADVANCE_FULL_US;
        uint64_t wait_us = service->client == NULL ? alone_us : tick_due_us(service);
        struct dbos_queue_node *node = dbos_queue_wait(&service->queue, wait_us);
        if (node == &service->stop) {
            return NULL;
        }
        if (node != NULL) {
            answer_request(service, (struct dbos_request *)(void *)node);
        }
        if (service->client == NULL) {
            (void)watch_disk(service);
            dbos_archive_gate_look(service->engine);
        } else if (tick_due_us(service) == 0) {
            tick(service);
        }
    }
}

/* The log is as recovery has left it. */
static void init_backlog(struct dbos_archive_service *service) {
    struct dbos_engine *engine = service->engine;
    service->backlog_max = engine->options.archive_backlog_max == 0
                               ? BACKLOG_MAX_DEFAULT
                               : engine->options.archive_backlog_max;
    service->first_position = engine->recovery.last_position;
    dbos_lag_init(&service->lag, engine->recovery.first_position - 1, 0, now_ns(service));
    dbos_lag_note(&service->lag, service->first_position, engine->recovered_bytes, now_ns(service));
    service->facts = (struct dbos_archive_facts){.is_on = engine->options.archive,
                                                 .backlog_max = service->backlog_max,
                                                 .taken = service->first_position,
                                                 .position = service->first_position};
}

static void free_service(struct dbos_archive_service *service) {
    dbos_archive_client_close(service->client);
    dbos_arena_fini(&service->arena);
    (void)pthread_mutex_destroy(&service->lock);
    dbos_give(service->engine->alloc, service);
}

enum dbos_err dbos_archive_service_start(struct dbos_engine *engine,
                                         struct dbos_archive_service **out,
                                         struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_archive_service *service = dbos_take_zero(engine->alloc, sizeof *service);
    if (service == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the archive");
    }
    service->engine = engine;
    dbos_queue_init(&service->queue, -1);
    dbos_arena_init(&service->arena, &engine->session_alloc, 0);
    (void)pthread_mutex_init(&service->lock, NULL);
    init_backlog(service);
    if (engine->options.archive) {
        enum dbos_err err =
            dbos_archive_client_open(engine->alloc, engine->env, engine->program_dir,
                                     engine->data_dir, &service->client, info);
        if (err != DBOS_OK) {
            free_service(service);
            return err;
        }
    }
    if (pthread_create(&service->thread, NULL, service_main, service) != 0) {
        free_service(service);
        return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start the archive thread");
    }
    (void)pthread_setname_np(service->thread, "archive");
    *out = service;
    return DBOS_OK;
}

void dbos_archive_service_submit(struct dbos_archive_service *service,
                                 struct dbos_request *request) {
    dbos_queue_push(&service->queue, &request->node);
}

void dbos_archive_service_stop(struct dbos_archive_service *service) {
    if (service == NULL) {
        return;
    }
    dbos_queue_push(&service->queue, &service->stop);
    (void)pthread_join(service->thread, NULL);
    free_service(service);
}
