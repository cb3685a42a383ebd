/* Retries under an idempotency key: whatever happens to the connection or the node between two
 * tries, the effect is there once, and every answer is the first one.
 *
 * Each trial is one request with a key of its own. Clients send it, and cut the connection before
 * all of it is sent, behind it, or within the reply, or send it on two connections at once; they
 * try again until an answer has come, and go on asking for it: at once, later, with other
 * arguments. Meanwhile the node is killed, killed with all bytes lost that were not synced,
 * stopped, or takes snapshots, and the log behind them is cut off. At the end all is asked for once
 * more, the tables are counted, and so is the archive.
 *
 * A failed try (an error) has no effect and is not kept: a retry runs again.
 *
 *   retry_test --bin DIR --cases N --seed S [--lose SHIM --apply PROGRAM] [--without-keys 1]
 *
 * Without keys it has to fail: effects happen twice. A failure prints the command that repeats it;
 * threads and kills race, so it may take several tries. */
#include <libpq-fe.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"
#include "tests/support/crash_node.h"
#include "tests/support/raw_client.h"

enum {
    CLIENTS = 8,
    COUNTERS = 16,
    OPEN_TRIES_MAX = 1000,
    CASES_OF_A_FILE = 300, /* fewer do not fill one of the log */
    /* Trials between two events: a snapshot, or the end of the node. */
    EVENT_MIN = 15,
    EVENT_MAX = 60,
};

/* -- what is asked ------------------------------------------------------------------------------
 */

enum kind {
    KIND_ROW,     /* one row, with random number and time, returned */
    KIND_TWO,     /* the same, and a counter, in one message of two statements */
    KIND_COUNTER, /* a function in SQL */
    KIND_READ,    /* of a counter that goes on */
    KIND_TICKET,  /* compiled, random number and time */
    KIND_MOODY,   /* the same; fails every other time, and nothing is left of that */
    KIND_DOOMED,  /* writes, then fails, always */
    KIND_TWICE,   /* a duplicate key, always */
    KINDS,
};

struct kind_plan {
    const char *name;
    bool has_row;
    bool has_counter;
    const char *state; /* an error that it may end with; NULL = none */
    bool always_fails;
};

static const struct kind_plan plans[KINDS] = {
    [KIND_ROW] = {.name = "row", .has_row = true},
    [KIND_TWO] = {.name = "two statements", .has_row = true, .has_counter = true},
    [KIND_COUNTER] = {.name = "counter", .has_counter = true},
    [KIND_READ] = {.name = "read"},
    [KIND_TICKET] = {.name = "ticket", .has_row = true},
    [KIND_MOODY] = {.name = "moody", .has_row = true, .state = "P0001"},
    [KIND_DOOMED] = {.name = "doomed", .state = "P0001", .always_fails = true},
    [KIND_TWICE] = {.name = "twice", .state = "23505", .always_fails = true},
};

/* The statements of a trial; another number is another call. */
static void write_sql(enum kind kind, int64_t number, char *out, size_t out_bytes) {
    static const char row[] =
        "INSERT INTO effect VALUES (%lld, (random() * 1000000000000)::bigint, "
        "%d, now()) RETURNING id, made";
    char text[256];
    long long n = number;
    int counter = (int)(number < 0 ? -number : number) % COUNTERS;
    (void)snprintf(text, sizeof text, row, n, (int)kind);
    switch (kind) {
    case KIND_ROW:
        (void)snprintf(out, out_bytes, "%s", text);
        return;
    case KIND_TWO:
        (void)snprintf(out, out_bytes,
                       "%s; UPDATE counters SET n = n + 1, total = total + %lld WHERE id = %d "
                       "RETURNING n, total",
                       text, n, counter);
        return;
    case KIND_COUNTER:
        (void)snprintf(out, out_bytes, "SELECT count_up(%d, %lld)", counter, n);
        return;
    case KIND_READ:
        (void)snprintf(out, out_bytes, "SELECT n, total, %lld FROM counters WHERE id = %d", n,
                       counter);
        return;
    case KIND_TICKET:
        (void)snprintf(out, out_bytes, "SELECT retry_ticket(%lld, %d)", n, (int)kind);
        return;
    case KIND_MOODY:
        (void)snprintf(out, out_bytes, "SELECT retry_moody(%lld, %d)", n, (int)kind);
        return;
    case KIND_DOOMED:
        (void)snprintf(out, out_bytes, "SELECT retry_doomed(%lld, %d)", n, (int)kind);
        return;
    case KIND_TWICE:
        (void)snprintf(out, out_bytes, "INSERT INTO taken VALUES (1, %lld)", n);
        return;
    case KINDS:
        break;
    }
    abort();
}

/* -- the test -----------------------------------------------------------------------------------
 */

struct trial {
    int number;
    enum kind kind;
    bool is_over;    /* an answer has come that is kept; or an error, where there is none other */
    uint8_t *answer; /* what has come of it; the whole answer if is_over */
    size_t size_bytes;
};

/* How often; each client has its own. */
struct counts {
    uint64_t tries;
    uint64_t cut_within_request;
    uint64_t cut_behind_request;
    uint64_t cut_within_reply;
    uint64_t cut_by_node;
    uint64_t pairs;
    uint64_t compared; /* answers that had to be the first one, and were */
    uint64_t refused;  /* the key with other arguments, or of another user */
    uint64_t failed;   /* errors that left nothing */
};

struct shared {
    struct crash_node node;
    int cases;
    uint64_t seed;
    bool has_keys;
    struct dbos_rng rng;
    struct dbos_env *env;
    struct trial *trials;
    pthread_mutex_t lock;
    pthread_cond_t is_up;
    int port; /* under lock; 0 = down */
    _Atomic int over;
    _Atomic int clients;
    int kills;
    int losses;
    int stops;
    int snapshots;
};

struct client {
    struct shared *s;
    int number;
    bool asks_again; /* only for what has been answered */
    int file;        /* -1 = not connected */
    struct dbos_rng rng;
    struct counts counts;
    pthread_t thread;
};

static void fail(const struct shared *s, const char *format, ...) DBOS_PRINTF(2, 3);
static void fail(const struct shared *s, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "retry_test: FAILED: ");
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n  data: %s   repeat with: --cases %d --seed %llu%s%s\n", s->node.dir,
                  s->cases, (unsigned long long)s->seed, s->has_keys ? "" : " --without-keys 1",
                  s->node.shim == NULL ? "" : " --lose … --apply …");
    va_end(args);
    if (s->node.pid > 0) {
        node_kill(s->node.pid);
    }
    exit(1);
}

static bool one_in(struct dbos_rng *rng, uint64_t n) { return dbos_rng_below(rng, n) == 0; }

/* -- the node -----------------------------------------------------------------------------------
 */

static void set_port(struct shared *s, int port) {
    (void)pthread_mutex_lock(&s->lock);
    s->port = port;
    (void)pthread_cond_broadcast(&s->is_up);
    (void)pthread_mutex_unlock(&s->lock);
}

static int await_port(struct shared *s) {
    (void)pthread_mutex_lock(&s->lock);
    while (s->port == 0) {
        (void)pthread_cond_wait(&s->is_up, &s->lock);
    }
    int port = s->port;
    (void)pthread_mutex_unlock(&s->lock);
    return port;
}

static void start(struct shared *s, bool loses) {
    if (!crash_node_start(&s->node, loses)) {
        fail(s, "the node did not become ready; see %s", s->node.log);
    }
    set_port(s, s->node.port);
}

static void stop(struct shared *s) {
    set_port(s, 0);
    int status = crash_node_stop(&s->node);
    if (status != 0) {
        fail(s, "the node did not stop in order: status %d; see %s", status, s->node.log);
    }
}

static PGconn *connect_as_checker(struct shared *s) {
    char info[128];
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=checker dbname=dbos",
                   s->node.port);
    PGconn *conn = PQconnectdb(info);
    PGresult *result = PQexec(conn, "SET statement_timeout = '120s'");
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        fail(s, "cannot connect: %s", PQerrorMessage(conn));
    }
    PQclear(result);
    return conn;
}

static PGresult *ask(struct shared *s, PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        fail(s, "%s: %s", sql, PQerrorMessage(conn));
    }
    return result;
}

static void must(struct shared *s, PGconn *conn, const char *sql) { PQclear(ask(s, conn, sql)); }

static int64_t value_of(struct shared *s, PGconn *conn, const char *sql) {
    PGresult *result = ask(s, conn, sql);
    int64_t value = PQntuples(result) == 1 ? strtoll(PQgetvalue(result, 0, 0), NULL, 10) : -1;
    PQclear(result);
    return value;
}

static void make_schema(struct shared *s, PGconn *conn) {
    char sql[256];
    must(s, conn,
         "CREATE TABLE effect (trial bigint, id bigint, kind int NOT NULL, made timestamptz, "
         "PRIMARY KEY (trial, id)) PARTITION BY HASH (trial)");
    must(s, conn,
         "CREATE TABLE counters (id int PRIMARY KEY, n bigint NOT NULL, total bigint NOT NULL) "
         "PARTITION BY HASH (id)");
    must(s, conn, "CREATE TABLE taken (id int PRIMARY KEY, trial bigint) PARTITION BY HASH (id)");
    must(s, conn, "INSERT INTO taken VALUES (1, 0)");
    must(s, conn,
         "CREATE FUNCTION count_up(id int, trial bigint) RETURNS bigint LANGUAGE sql AS "
         "'UPDATE counters SET n = n + 1, total = total + $2 WHERE id = $1; "
         "SELECT n FROM counters WHERE id = $1' SET dbos.partition = 'counters.id=$1'");
    for (int i = 0; i < COUNTERS; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO counters VALUES (%d, 0, 0)", i);
        must(s, conn, sql);
    }
    static const char *const functions[] = {"retry_ticket", "retry_moody", "retry_doomed"};
    for (int i = 0; i < 3; i++) {
        (void)snprintf(sql, sizeof sql,
                       "CREATE FUNCTION %s(trial bigint, kind int) RETURNS text LANGUAGE c AS "
                       "'test/retry.so', '%s'",
                       functions[i], functions[i]);
        must(s, conn, sql);
    }
}

/* -- one try ------------------------------------------------------------------------------------
 */

enum cut { CUT_NONE, CUT_WITHIN_REQUEST, CUT_BEHIND_REQUEST, CUT_WITHIN_REPLY, CUTS };

/* A request as bytes. By the extended protocol the key is set by a message of its own before. */
struct request {
    struct raw_bytes setting;
    struct raw_bytes bytes;
    bool is_extended;
};

static void make_request(struct client *c, enum kind kind, int64_t number, const char *key,
                         struct request *out) {
    char sql[512];
    char setting[128] = "";
    char both[sizeof setting + 2 + sizeof sql];
    *out = (struct request){.is_extended = kind != KIND_TWO && one_in(&c->rng, 2)};
    write_sql(kind, number, sql, sizeof sql);
    (void)snprintf(setting, sizeof setting, "SET LOCAL %s = '%s'",
                   c->s->has_keys ? "dbos.idempotency_key" : "application_name", key);
    if (out->is_extended) {
        raw_put_request(&out->setting, setting, false);
        raw_put_request(&out->bytes, sql, true);
    } else {
        (void)snprintf(both, sizeof both, "%s; %s", setting, sql);
        raw_put_request(&out->bytes, both, false);
    }
}

static void key_of(const struct shared *s, int number, char *out, size_t out_bytes) {
    (void)snprintf(out, out_bytes, "trial %d of %llu", number, (unsigned long long)s->seed);
}

static void hang_up(struct client *c) {
    if (c->file >= 0) {
        raw_close(c->file, one_in(&c->rng, 2));
        c->file = -1;
    }
}

static int open_as(struct client *c, const char *user) {
    for (int i = 0; i < OPEN_TRIES_MAX; i++) {
        int file = raw_open(await_port(c->s), user);
        if (file >= 0) {
            return file;
        }
        c->s->env->ops->sleep_us(c->s->env, 5000); /* it goes down at this moment */
    }
    fail(c->s, "nobody lets %s in", user);
    return -1;
}

static bool send_setting(struct client *c, int file, const struct request *request) {
    struct raw_reply reply;
    if (!request->is_extended) {
        return true;
    }
    if (!raw_send(file, &request->setting, request->setting.size_bytes)) {
        return false;
    }
    raw_read(file, SIZE_MAX, true, &reply);
    if (reply.is_whole && reply.state[0] != 0) {
        fail(c->s, "SET LOCAL ended with %s", reply.state);
    }
    return reply.is_whole;
}

static bool send_request(struct client *c, int file, const struct request *request, size_t bytes) {
    return send_setting(c, file, request) && raw_send(file, &request->bytes, bytes);
}

static void read_reply(struct client *c, int file, const struct request *request, size_t bytes_max,
                       struct raw_reply *out) {
    raw_read(file, bytes_max, !request->is_extended, out);
    if (out->is_stuck) {
        fail(c->s, "a reply does not end");
    }
    c->counts.cut_by_node += !out->is_whole && bytes_max == SIZE_MAX;
}

/* Send as much, read as much, and go, unless nothing is cut. */
static void try_once(struct client *c, const struct request *request, enum cut cut,
                     struct raw_reply *out) {
    enum { REPLY_BYTES = 200 }; /* about what it has */
    size_t sent = request->bytes.size_bytes;
    size_t wanted = SIZE_MAX;
    *out = (struct raw_reply){.is_whole = false};
    c->file = c->file < 0 ? open_as(c, "client") : c->file;
    c->counts.tries++;
    if (cut == CUT_WITHIN_REQUEST) {
        sent = (size_t)dbos_rng_below(&c->rng, sent);
        c->counts.cut_within_request++;
    } else if (cut == CUT_BEHIND_REQUEST) {
        c->counts.cut_behind_request++;
    } else if (cut == CUT_WITHIN_REPLY) {
        wanted = (size_t)dbos_rng_below(&c->rng, REPLY_BYTES) + 1;
        c->counts.cut_within_reply++;
    }
    bool is_sent = send_request(c, c->file, request, sent);
    if (is_sent && (cut == CUT_NONE || cut == CUT_WITHIN_REPLY)) {
        read_reply(c, c->file, request, wanted, out);
    }
    if (cut != CUT_NONE || !out->is_whole) {
        hang_up(c);
    }
}

/* The same on two connections, before either has an answer. */
static void try_twice(struct client *c, const struct request *request, struct raw_reply out[2]) {
    c->file = c->file < 0 ? open_as(c, "client") : c->file;
    int other = open_as(c, "client");
    c->counts.tries += 2;
    c->counts.pairs++;
    bool is_sent = send_setting(c, c->file, request) && send_setting(c, other, request);
    is_sent = is_sent && raw_send(c->file, &request->bytes, request->bytes.size_bytes);
    is_sent = is_sent && raw_send(other, &request->bytes, request->bytes.size_bytes);
    for (int i = 0; i < 2; i++) {
        out[i] = (struct raw_reply){.is_whole = false};
        if (is_sent) {
            read_reply(c, i == 0 ? c->file : other, request, SIZE_MAX, &out[i]);
        }
    }
    if (!out[0].is_whole) {
        hang_up(c);
    }
    raw_close(other, one_in(&c->rng, 2));
}

/* -- what must hold of an answer ----------------------------------------------------------------
 */

static void compare(struct client *c, struct trial *t, const struct raw_reply *reply) {
    size_t known = t->size_bytes;
    size_t came = reply->bytes.size_bytes;
    bool is_longer = came > known;
    size_t both = is_longer ? known : came;
    if ((t->is_over && is_longer) || (reply->is_whole && came < known) ||
        (both != 0 && memcmp(t->answer, reply->bytes.data, both) != 0)) {
        fail(c->s, "trial %d (%s): another answer than the first one, of %zu bytes: %zu bytes came",
             t->number, plans[t->kind].name, known, came);
    }
    c->counts.compared += known != 0 && came != 0;
    if (is_longer) {
        free(t->answer);
        t->answer = malloc(came);
        memcpy(t->answer, reply->bytes.data, came);
        t->size_bytes = came;
    }
}

/* A failed try is not kept: it may not come behind an answer, and says what this kind may say.
 * False: it is no answer to this trial. */
static bool check_error(struct client *c, const struct trial *t, const struct raw_reply *reply) {
    const struct kind_plan *plan = &plans[t->kind];
    bool is_own = plan->state != NULL && strcmp(plan->state, reply->state) == 0;
    c->counts.failed++;
    if (strcmp(reply->state, "57014") == 0) { /* a machine under load */
        return false;
    }
    if (!is_own || (!plan->always_fails && t->size_bytes != 0)) {
        fail(c->s, "trial %d (%s): %s, with %zu bytes of an answer before", t->number, plan->name,
             reply->state, t->size_bytes);
    }
    return plan->always_fails;
}

static void take(struct client *c, struct trial *t, const struct raw_reply *reply) {
    bool is_error = reply->state[0] != 0;
    if (reply->is_fatal || !reply->has_outcome) {
        return;
    }
    if (is_error && !check_error(c, t, reply)) {
        return;
    }
    if (!is_error && plans[t->kind].always_fails) {
        fail(c->s, "trial %d (%s) has not failed", t->number, plans[t->kind].name);
    }
    compare(c, t, reply);
    t->is_over = t->is_over || reply->is_whole;
}

/* -- trials -------------------------------------------------------------------------------------
 */

static void ask_for(struct client *c, struct trial *t, bool in_pair, enum cut cut) {
    struct request request;
    struct raw_reply replies[2] = {{.is_whole = false}};
    char key[64];
    key_of(c->s, t->number, key, sizeof key);
    make_request(c, t->kind, t->number, key, &request);
    if (in_pair) {
        try_twice(c, &request, replies);
    } else {
        try_once(c, &request, cut, &replies[0]);
    }
    int first = replies[1].state[0] != 0; /* of two, one that failed came before the answer */
    take(c, t, &replies[first]);
    take(c, t, &replies[1 - first]);
}

static void ask_anyhow(struct client *c, struct trial *t) {
    ask_for(c, t, one_in(&c->rng, 8), (enum cut)dbos_rng_below(&c->rng, CUTS));
}

/* Until it is whole. */
static void ask_through(struct client *c, struct trial *t) {
    do {
        ask_for(c, t, false, CUT_NONE);
    } while (!t->is_over || c->file < 0);
}

/* The key of an answered trial for something else, or by somebody else. */
static void abuse_key(struct client *c, const struct trial *t) {
    struct request request;
    struct raw_reply reply = {.is_whole = false};
    char key[64];
    bool by_other = one_in(&c->rng, 3);
    if (!c->s->has_keys || plans[t->kind].always_fails) {
        return; /* nothing is kept */
    }
    key_of(c->s, t->number, key, sizeof key);
    make_request(c, t->kind, by_other ? t->number : -(int64_t)t->number, key, &request);
    while (!reply.is_whole || reply.is_fatal || strcmp(reply.state, "57014") == 0) {
        int file = open_as(c, by_other ? "mallory" : "client");
        if (send_request(c, file, &request, request.bytes.size_bytes)) {
            read_reply(c, file, &request, SIZE_MAX, &reply);
        }
        raw_close(file, false);
    }
    if (strcmp(reply.state, "22023") != 0) {
        fail(c->s, "trial %d (%s): another call under its key is not refused: \"%s\"", t->number,
             plans[t->kind].name, reply.state);
    }
    c->counts.refused++;
}

static void run_trial(struct client *c, struct trial *t) {
    while (!t->is_over) {
        ask_anyhow(c, t);
    }
    for (uint64_t i = dbos_rng_below(&c->rng, 3); i > 0; i--) {
        ask_anyhow(c, t);
    }
    if (one_in(&c->rng, 8)) {
        abuse_key(c, t);
    }
}

/* An earlier one of this client's: kills and snapshots lie between. */
static struct trial *pick_earlier(struct client *c, int number) {
    uint64_t count = (uint64_t)(number / CLIENTS) + 1;
    return &c->s->trials[c->number + (int)dbos_rng_below(&c->rng, count) * CLIENTS];
}

static void *run_client(void *arg) {
    struct client *c = arg;
    struct shared *s = c->s;
    for (int i = c->number; i < s->cases; i += CLIENTS) {
        if (c->asks_again) {
            ask_through(c, &s->trials[i]);
        } else {
            run_trial(c, &s->trials[i]);
            ask_anyhow(c, pick_earlier(c, i));
            (void)atomic_fetch_add(&s->over, 1);
        }
    }
    hang_up(c);
    (void)atomic_fetch_sub(&s->clients, 1);
    return NULL;
}

static void start_clients(struct shared *s, struct client *clients, bool asks_again) {
    atomic_store(&s->clients, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        struct client *c = &clients[i];
        *c = (struct client){.s = s, .number = i, .asks_again = asks_again, .file = -1};
        dbos_rng_init(&c->rng, s->seed * 1000 + (uint64_t)i + (asks_again ? CLIENTS : 0));
        if (pthread_create(&c->thread, NULL, run_client, c) != 0) {
            fail(s, "no thread");
        }
    }
}

static void join_clients(struct client *clients, struct counts *sums) {
    for (int i = 0; i < CLIENTS; i++) {
        (void)pthread_join(clients[i].thread, NULL);
        const struct counts *counts = &clients[i].counts;
        sums->tries += counts->tries;
        sums->cut_within_request += counts->cut_within_request;
        sums->cut_behind_request += counts->cut_behind_request;
        sums->cut_within_reply += counts->cut_within_reply;
        sums->cut_by_node += counts->cut_by_node;
        sums->pairs += counts->pairs;
        sums->compared += counts->compared;
        sums->refused += counts->refused;
        sums->failed += counts->failed;
    }
}

/* -- what happens to the node -------------------------------------------------------------------
 */

/* Until some more trials are over, and then a moment. */
static void let_work(struct shared *s) {
    int goal =
        atomic_load(&s->over) + EVENT_MIN + (int)dbos_rng_below(&s->rng, EVENT_MAX - EVENT_MIN);
    while (atomic_load(&s->over) < goal && atomic_load(&s->clients) != 0) {
        s->env->ops->sleep_us(s->env, 500);
    }
    s->env->ops->sleep_us(s->env, dbos_rng_below(&s->rng, 3000));
}

static void take_snapshot(struct shared *s) {
    PGconn *conn = connect_as_checker(s);
    (void)value_of(s, conn, "SELECT dbos_snapshot()");
    PQfinish(conn);
    s->snapshots++;
}

static void kill_node(struct shared *s) {
    bool loses = s->node.loses;
    set_port(s, 0);
    if (!crash_node_kill(&s->node)) {
        fail(s, "cannot drop what was not synced");
    }
    s->kills++;
    s->losses += loses;
}

static void disturb(struct shared *s) {
    for (int life = 0; atomic_load(&s->clients) != 0; life++) {
        start(s, life % 3 == 0);
        let_work(s);
        if (life % 2 == 0) {
            take_snapshot(s);
            let_work(s);
        }
        if (life % 3 == 2) {
            stop(s);
            s->stops++;
        } else {
            kill_node(s);
        }
    }
}

/* -- counting -----------------------------------------------------------------------------------
 */

static void equal(struct shared *s, const char *what, int64_t value, int64_t expected) {
    if (value != expected) {
        fail(s, "%s: %lld, not %lld", what, (long long)value, (long long)expected);
    }
}

/* Each trial's row once, and no other. */
static void check_rows(struct shared *s, PGconn *conn) {
    PGresult *result = ask(s, conn, "SELECT trial, count(*) FROM effect GROUP BY trial");
    int64_t expected = 0;
    for (int i = 0; i < PQntuples(result); i++) {
        long long number = strtoll(PQgetvalue(result, i, 0), NULL, 10);
        bool is_known = number > 0 && number <= s->cases;
        if (!is_known || !plans[s->trials[number - 1].kind].has_row) {
            fail(s, "trial %lld has left a row", number);
        }
        if (strcmp(PQgetvalue(result, i, 1), "1") != 0) {
            fail(s, "trial %lld has happened %s times", number, PQgetvalue(result, i, 1));
        }
    }
    for (int i = 0; i < s->cases; i++) {
        expected += plans[s->trials[i].kind].has_row;
    }
    equal(s, "trials with a row", PQntuples(result), expected);
    PQclear(result);
}

static void check_counters(struct shared *s, PGconn *conn) {
    char sql[128];
    for (int k = 0; k < COUNTERS; k++) {
        int64_t n = 0;
        int64_t total = 0;
        for (int i = 0; i < s->cases; i++) {
            const struct trial *t = &s->trials[i];
            bool is_here = plans[t->kind].has_counter && t->number % COUNTERS == k;
            n += is_here;
            total += is_here ? t->number : 0;
        }
        (void)snprintf(sql, sizeof sql, "SELECT n FROM counters WHERE id = %d", k);
        equal(s, "a counter", value_of(s, conn, sql), n);
        (void)snprintf(sql, sizeof sql, "SELECT total FROM counters WHERE id = %d", k);
        equal(s, "the sum of a counter", value_of(s, conn, sql), total);
    }
}

static int64_t count_kept(const struct shared *s) {
    int64_t kept = 0;
    for (int i = 0; i < s->cases; i++) {
        kept += !plans[s->trials[i].kind].always_fails;
    }
    return kept;
}

static void check_tables(struct shared *s, PGconn *conn) {
    check_rows(s, conn);
    check_counters(s, conn);
    equal(s, "rows that were there before", value_of(s, conn, "SELECT count(*) FROM taken"), 1);
    equal(s, "keys", value_of(s, conn, "SELECT count(*) FROM dbos.idempotency"),
          s->has_keys ? count_kept(s) : 0);
}

/* One committed transaction for each key; nothing was written twice and taken back. */
static void check_archive(struct shared *s, PGconn *conn) {
    int64_t rows = value_of(s, conn, "SELECT count(*) FROM effect");
    int64_t kept = s->has_keys ? count_kept(s) : 0;
    equal(s, "versions of rows in the archive",
          value_of(s, conn, "SELECT count(*) FROM prov_history('effect')"), rows);
    equal(s, "versions of counters in the archive",
          value_of(s, conn, "SELECT count(*) FROM prov_history('counters') WHERE op = 'update'"),
          value_of(s, conn, "SELECT sum(n) FROM counters"));
    equal(s, "versions of keys in the archive",
          value_of(s, conn, "SELECT count(*) FROM prov_history('dbos.idempotency')"), kept);
    equal(
        s, "transactions with a key in the archive",
        value_of(s, conn, "SELECT count(DISTINCT position) FROM prov_history('dbos.idempotency')"),
        kept);
}

/* The log of the first tries is gone: what is known of them comes from a snapshot. */
static void cut_log(struct shared *s, PGconn *conn) {
    char path[400];
    (void)snprintf(path, sizeof path, "%s/log/00000001.seg", s->node.data);
    if (s->cases < CASES_OF_A_FILE) {
        return;
    }
    for (int i = 0; i < 600; i++) {
        (void)value_of(s, conn, "SELECT dbos_snapshot()");
        if (access(path, F_OK) != 0) {
            return;
        }
        s->env->ops->sleep_us(s->env, 50000); /* the archiver takes its time */
    }
    fail(s, "the log was never cut off behind a snapshot");
}

static void check_all(struct shared *s) {
    PGconn *conn = connect_as_checker(s);
    check_tables(s, conn);
    check_archive(s, conn);
    PQfinish(conn);
}

/* -- main ---------------------------------------------------------------------------------------
 */

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return otherwise;
}

static void open_shared(struct shared *s, int argc, char **argv) {
    *s = (struct shared){.env = dbos_env_posix(),
                         .lock = PTHREAD_MUTEX_INITIALIZER,
                         .is_up = PTHREAD_COND_INITIALIZER};
    s->node.bin = option(argc, argv, "--bin", DBOS_BIN_DIR);
    s->node.shim = option(argc, argv, "--lose", NULL);
    s->node.apply = option(argc, argv, "--apply", NULL);
    s->cases = atoi(option(argc, argv, "--cases", "500"));
    s->seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10);
    s->node.ignores_sync = getenv("CRASH_IGNORE_SYNC") != NULL;
    s->has_keys = strcmp(option(argc, argv, "--without-keys", "0"), "0") == 0;
    dbos_rng_init(&s->rng, s->seed);
    if (!crash_node_init(&s->node)) {
        fail(s, "no temporary directory");
    }
    s->trials = calloc((size_t)s->cases, sizeof *s->trials);
    for (int i = 0; i < s->cases; i++) {
        s->trials[i] =
            (struct trial){.number = i + 1, .kind = (enum kind)dbos_rng_below(&s->rng, KINDS)};
    }
}

static void set_up(struct shared *s) {
    start(s, false);
    PGconn *conn = connect_as_checker(s);
    make_schema(s, conn);
    PQfinish(conn);
    stop(s);
}

static void report(const struct shared *s, const struct counts *sums) {
    (void)printf(
        "%d trials, %llu tries: cut within the request %llu, behind it %llu, within the "
        "reply %llu, by the node %llu; %llu on two connections at once\n",
        s->cases, (unsigned long long)sums->tries, (unsigned long long)sums->cut_within_request,
        (unsigned long long)sums->cut_behind_request, (unsigned long long)sums->cut_within_reply,
        (unsigned long long)sums->cut_by_node, (unsigned long long)sums->pairs);
    (void)printf("%d kills (%d with unsynced bytes dropped), %d stops, %d snapshots\n", s->kills,
                 s->losses, s->stops, s->snapshots);
    (void)printf("%llu answers were the first one, %llu other calls refused, %llu errors without a "
                 "trace; no effect twice, none lost\n",
                 (unsigned long long)sums->compared, (unsigned long long)sums->refused,
                 (unsigned long long)sums->failed);
}

static void close_shared(struct shared *s) {
    for (int i = 0; i < s->cases; i++) {
        free(s->trials[i].answer);
    }
    free(s->trials);
    crash_node_remove(&s->node);
}

int main(int argc, char **argv) {
    struct shared s;
    struct client clients[CLIENTS];
    struct counts sums = {0};
    (void)signal(SIGPIPE, SIG_IGN);
    open_shared(&s, argc, argv);
    set_up(&s);
    start_clients(&s, clients, false);
    disturb(&s);
    join_clients(clients, &sums);

    start(&s, false);
    check_all(&s);
    PGconn *conn = connect_as_checker(&s);
    cut_log(&s, conn);
    PQfinish(conn);
    stop(&s);
    start(&s, false);
    start_clients(&s, clients, true);
    join_clients(clients, &sums);
    check_all(&s);
    stop(&s);
    report(&s, &sums);
    close_shared(&s);
    return 0;
}
