#include "tests/history/client.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 65536 }; /* numbers */

/* -- the stage -----------------------------------------------------------------------------------
 */

void client_stage_init(struct client_stage *stage, struct dbos_env *env, uint64_t operations) {
    *stage = (struct client_stage){.env = env, .operations = operations};
    stage->start_ns = env->ops->mono_ns(env);
    workload_init(&stage->workload);
    (void)pthread_mutex_init(&stage->lock, NULL);
    (void)pthread_cond_init(&stage->changed, NULL);
}

static uint64_t now_ns(struct client_stage *stage) {
    return stage->env->ops->mono_ns(stage->env) - stage->start_ns;
}

void client_stage_up(struct client_stage *stage, int port) {
    (void)pthread_mutex_lock(&stage->lock);
    stage->is_up = true;
    stage->incarnation++;
    stage->port = port;
    stage->ready_ns = now_ns(stage);
    (void)pthread_cond_broadcast(&stage->changed);
    (void)pthread_mutex_unlock(&stage->lock);
}

void client_stage_down(struct client_stage *stage) {
    (void)pthread_mutex_lock(&stage->lock);
    stage->is_up = false;
    (void)pthread_mutex_unlock(&stage->lock);
}

static bool is_current(struct client *c) {
    struct client_stage *stage = c->stage;
    (void)pthread_mutex_lock(&stage->lock);
    bool result = stage->is_up && stage->incarnation == c->incarnation;
    (void)pthread_mutex_unlock(&stage->lock);
    return result;
}

static void fail(struct client *c, const char *format, ...) DBOS_PRINTF(2, 3);
static void fail(struct client *c, const char *format, ...) {
    struct client_stage *stage = c->stage;
    va_list args;
    va_start(args, format);
    (void)pthread_mutex_lock(&stage->lock);
    if (!atomic_load(&stage->has_failed)) {
        (void)vsnprintf(stage->failure, sizeof stage->failure, format, args);
        atomic_store(&stage->has_failed, true);
    }
    (void)pthread_mutex_unlock(&stage->lock);
    va_end(args);
}

/* -- connecting ----------------------------------------------------------------------------------
 */

static bool prepare(PGconn *conn, const char *name, const char *sql) {
    PGresult *result = PQprepare(conn, name, sql, 0, NULL);
    bool is_done = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    return is_done;
}

static bool begin_session(struct client *c) {
    if (PQstatus(c->conn) != CONNECTION_OK) {
        return false;
    }
    if (c->kind == CLIENT_SQL) {
        return true;
    }
    return prepare(c->conn, "one", "SELECT history_one($1, $2)") &&
           prepare(c->conn, "all", "SELECT history_all($1)") && PQenterPipelineMode(c->conn) == 1;
}

/* To the node that is up; waits for one. False: that was in vain. */
static bool connect_to_node(struct client *c) {
    struct client_stage *stage = c->stage;
    char info[128];
    (void)pthread_mutex_lock(&stage->lock);
    while (!stage->is_up || stage->incarnation == c->incarnation) {
        (void)pthread_cond_wait(&stage->changed, &stage->lock);
    }
    c->incarnation = stage->incarnation;
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=client%u dbname=dbos",
                   stage->port, c->number);
    uint64_t ready_ns = stage->ready_ns;
    (void)pthread_mutex_unlock(&stage->lock);
    /* What was under way at the last node took effect before this one was ready, or never will. */
    for (; c->settled < c->sent; c->settled++) {
        size_t op = c->flights[c->settled % CLIENT_DEPTH_MAX].op;
        c->history.ops[op].return_ns = ready_ns;
    }
    PQfinish(c->conn);
    c->conn = PQconnectdb(info);
    if (begin_session(c)) {
        return true;
    }
    if (is_current(c)) {
        fail(c, "cannot connect: %s", PQerrorMessage(c->conn));
    }
    return false;
}

/* -- answers -------------------------------------------------------------------------------------
 */

struct answer {
    int64_t numbers[ANSWER_MAX];
    size_t count;
    bool is_whole;
    bool has_no_effect; /* an UPDATE that found no row */
    char state[6];      /* SQLSTATE; "": none */
    char message[256];
};

static void add_number(struct answer *a, int64_t number) {
    if (a->count == ANSWER_MAX) {
        a->is_whole = false;
        return;
    }
    a->numbers[a->count++] = number;
}

static void add_bytes(struct answer *a, const char *bytes, size_t size) {
    for (size_t at = 0; at + sizeof(int64_t) <= size; at += sizeof(int64_t)) {
        int64_t number = 0;
        memcpy(&number, bytes + at, sizeof number);
        add_number(a, number);
    }
}

/* A body in text form; no row is an empty list. */
static void add_body(struct answer *a, const PGresult *result) {
    size_t size = 0;
    unsigned char *bytes =
        PQntuples(result) == 0
            ? NULL
            : PQunescapeBytea((const unsigned char *)PQgetvalue(result, 0, 0), &size);
    add_number(a, (int64_t)(size / sizeof(int64_t)));
    add_bytes(a, (const char *)bytes, size);
    PQfreemem(bytes);
}

static void add_rows(struct answer *a, const PGresult *result, bool has_count) {
    if (has_count) {
        add_number(a, PQntuples(result));
    }
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++) {
            add_number(a, strtoll(PQgetvalue(result, row, column), NULL, 10));
        }
    }
}

static void take_error(struct answer *a, const PGresult *result) {
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    (void)snprintf(a->state, sizeof a->state, "%s", state == NULL ? "" : state);
    (void)snprintf(a->message, sizeof a->message, "%s", PQresultErrorMessage(result));
}

/* When what came is known: ok, failed, or, with the connection gone, unknown as it was begun. */
static void settle(struct client *c, const struct client_flight *flight, const struct answer *a) {
    struct history_op *op = &c->history.ops[flight->op];
    uint64_t return_ns = now_ns(c->stage);
    if (a->state[0] == '\0' && a->is_whole) {
        op->outcome = a->has_no_effect ? HISTORY_FAILED : HISTORY_OK;
        if (op->outcome == HISTORY_OK &&
            !workload_answer(&c->history, flight->op, &flight->asked, a->numbers, a->count)) {
            fail(c, "an answer that does not fit: operation %zu of client %u", flight->op,
                 c->number);
        }
    } else if (strcmp(a->state, "P0001") == 0) {
        op->outcome = HISTORY_FAILED;
    } else {
        fail(c, "%s: %s", a->state, a->message);
    }
    op->return_ns = return_ns;
    c->settled++;
}

/* -- programs ------------------------------------------------------------------------------------
 */

static bool send_program(struct client *c, const struct workload_op *op) {
    uint8_t part[8] = {0};
    part[7] = (uint8_t)op->part; /* bigint in network order; parts are few */
    const char *program = (const char *)op->steps;
    int size = (int)(op->count * sizeof op->steps[0]);
    const char *const values[2] = {(const char *)part, program};
    const int sizes[2] = {sizeof part, size};
    const int formats[2] = {1, 1};
    int skip = op->part < 0; /* history_all takes no part */
    return PQsendQueryPrepared(c->conn, skip ? "all" : "one", 2 - skip, values + skip, sizes + skip,
                               formats, 1) == 1 &&
           PQpipelineSync(c->conn) == 1;
}

/* The result of the oldest request, then NULL, then its end. */
static bool receive_program(struct client *c, struct answer *a) {
    bool is_ended = false;
    while (!is_ended) {
        PGresult *result = PQgetResult(c->conn);
        if (result == NULL && PQstatus(c->conn) != CONNECTION_OK) {
            return false;
        }
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_TUPLES_OK && PQntuples(result) == 1) {
            add_bytes(a, PQgetvalue(result, 0, 0), (size_t)PQgetlength(result, 0, 0));
            a->is_whole = true;
        } else if (result != NULL && status == PGRES_FATAL_ERROR) {
            take_error(a, result);
        }
        is_ended = result != NULL && status == PGRES_PIPELINE_SYNC;
        PQclear(result);
        if (PQstatus(c->conn) != CONNECTION_OK) {
            return false;
        }
    }
    return true;
}

/* -- SQL -----------------------------------------------------------------------------------------
 */

static bool send_sql(struct client *c, const struct workload_op *op) {
    char sql[WORKLOAD_SQL_BYTES];
    workload_sql(op, sql);
    return PQsendQuery(c->conn, sql) == 1;
}

static void take_sql_result(struct answer *a, const struct workload_op *op, uint32_t statement,
                            PGresult *result) {
    ExecStatusType status = PQresultStatus(result);
    int32_t kind = statement < op->count ? op->steps[statement].kind : HISTORY_OP_ABORT;
    if (status == PGRES_TUPLES_OK && kind == HISTORY_OP_READ_LIST) {
        add_body(a, result);
    } else if (status == PGRES_TUPLES_OK) {
        add_rows(a, result, op->kind != HISTORY_SNAPSHOT);
    } else if (status == PGRES_COMMAND_OK) {
        a->has_no_effect = a->has_no_effect || strcmp(PQcmdTuples(result), "0") == 0;
    } else {
        take_error(a, result);
    }
}

static bool receive_sql(struct client *c, const struct workload_op *op, struct answer *a) {
    PGresult *result = NULL;
    a->is_whole = true;
    for (uint32_t statement = 0; (result = PQgetResult(c->conn)) != NULL; statement++) {
        take_sql_result(a, op, statement, result);
        PQclear(result);
    }
    return PQstatus(c->conn) == CONNECTION_OK;
}

/* -- the thread ----------------------------------------------------------------------------------
 */

static bool has_more(struct client *c) {
    return !atomic_load(&c->stage->has_failed) &&
           atomic_load(&c->stage->begun) < c->stage->operations;
}

static bool pick(struct client *c, struct workload_op *out) {
    struct client_stage *stage = c->stage;
    if (c->kind == CLIENT_READER) {
        return workload_final_read(&stage->workload, (uint32_t)c->sent, out);
    }
    if (!has_more(c) || atomic_fetch_add(&stage->begun, 1) >= stage->operations) {
        return false;
    }
    (c->kind == CLIENT_SQL ? workload_pick_sql : workload_pick)(&stage->workload, &c->rng, out);
    return true;
}

/* A process of the history does one thing at a time, and ends with one of unknown outcome. */
static uint32_t process_of(const struct client *c) {
    return (c->incarnation * CLIENTS_MAX + c->number) * CLIENT_DEPTH_MAX +
           (uint32_t)(c->sent % c->depth);
}

/* False: nothing more to do, or the node is gone. */
static bool send_next(struct client *c) {
    struct client_flight *flight = &c->flights[c->sent % CLIENT_DEPTH_MAX];
    if (!pick(c, &flight->asked)) {
        return false;
    }
    flight->op = workload_begin(&c->history, &flight->asked, process_of(c), now_ns(c->stage));
    c->sent++;
    return c->kind == CLIENT_SQL ? send_sql(c, &flight->asked) : send_program(c, &flight->asked);
}

static bool receive_oldest(struct client *c, struct answer *a) {
    const struct client_flight *flight = &c->flights[c->settled % CLIENT_DEPTH_MAX];
    a->count = 0;
    a->is_whole = a->has_no_effect = false;
    a->state[0] = '\0';
    bool has_come =
        c->kind == CLIENT_SQL ? receive_sql(c, &flight->asked, a) : receive_program(c, a);
    if (has_come) {
        settle(c, flight, a);
    }
    return has_come;
}

/* Until there is nothing more to do, or the node is gone. */
static void work(struct client *c, struct answer *a) {
    bool is_alive = true;
    while (is_alive) {
        while (c->sent - c->settled < c->depth && send_next(c)) {
        }
        if (c->sent == c->settled) {
            return;
        }
        is_alive = receive_oldest(c, a);
    }
    if (is_current(c)) {
        fail(c, "the node closed a connection: %s", PQerrorMessage(c->conn));
    }
}

static void *run(void *arg) {
    struct client *c = arg;
    struct answer *answer = malloc(sizeof *answer);
    DBOS_CHECK(answer != NULL);
    bool is_first = true;
    while (!atomic_load(&c->stage->has_failed) &&
           (is_first || c->sent != c->settled || has_more(c))) {
        is_first = false;
        if (connect_to_node(c)) {
            work(c, answer);
        }
    }
    PQfinish(c->conn);
    c->conn = NULL;
    free(answer);
    return NULL;
}

void client_start(struct client *client, uint64_t seed) {
    DBOS_CHECK(client->depth >= 1 && client->depth <= CLIENT_DEPTH_MAX);
    DBOS_CHECK(client->number < CLIENTS_MAX);
    dbos_rng_init(&client->rng, seed);
    DBOS_CHECK(pthread_create(&client->thread, NULL, run, client) == 0);
}

void client_join(struct client *client) { (void)pthread_join(client->thread, NULL); }
