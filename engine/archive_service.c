#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "engine/archive_client.h"
#include "engine/engine_internal.h"
#include "engine/reply.h"
#include "engine/wire.h"
#include "procs/sql/type_io.h"

enum {
    ADVANCE_US = 1000000, /* how often the archiver hears how far the log is durable */
    COLUMNS_MAX = DBOS_COLUMNS_MAX,
};

struct dbos_archive_service {
    struct dbos_engine *engine;
    struct dbos_archive_client *client;
    struct dbos_queue queue;
    struct dbos_queue_node stop;
    pthread_t thread;
    struct dbos_arena arena; /* of one answer's row */
};

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
    };
    return dbos_archive_query(service->client, &ask, &request->error);
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
    dbos_log_wait(service->engine->log, position);
    request->outcome = DBOS_OK;
    enum dbos_err err = service->client == NULL ? dbos_fail(&request->error, DBOS_ERR_ARCHIVE,
                                                            "this node runs without an archive")
                                                : ask(service, request, position, &answer);
    if (err == DBOS_OK) {
        err = dbos_reply_finish(service->engine, &request->reply, &request->error);
    }
    request->outcome = err;
    if (err != DBOS_OK) {
        dbos_reply_cut(service->engine, &request->reply, reply_start);
        dbos_wire_put_error(&request->reply, "ERROR", &request->error);
    } else if (!request->describe_only) {
        char tag[32];
        (void)snprintf(tag, sizeof tag, "SELECT %llu", (unsigned long long)answer.rows);
        dbos_wire_put_complete(&request->reply, tag);
    }
    request->gate_position = 0;
    request->on_done(request);
}

static void *service_main(void *arg) {
    struct dbos_archive_service *service = arg;
    for (;;) {
        struct dbos_queue_node *node = dbos_queue_wait(&service->queue, ADVANCE_US);
        if (node == &service->stop) {
            return NULL;
        }
        if (node != NULL) {
            answer_request(service, (struct dbos_request *)(void *)node);
        } else if (service->client != NULL) {
            dbos_archive_advance(service->client, dbos_log_durable(service->engine->log));
        }
    }
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
    if (engine->options.archive) {
        enum dbos_err err =
            dbos_archive_client_open(engine->alloc, engine->env, engine->program_dir,
                                     engine->data_dir, &service->client, info);
        if (err != DBOS_OK) {
            dbos_give(engine->alloc, service);
            return err;
        }
    }
    if (pthread_create(&service->thread, NULL, service_main, service) != 0) {
        dbos_archive_client_close(service->client);
        dbos_give(engine->alloc, service);
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
    dbos_archive_client_close(service->client);
    dbos_arena_fini(&service->arena);
    dbos_give(service->engine->alloc, service);
}
