/* Load for a node, or for anything that speaks the PostgreSQL protocol: a mix of statements over
 * many connections, by one thread.
 *
 *   bench_load --port N --call SQL [--args "ARGUMENT ..."] [--weight N] ... [options]
 *
 * Every request is Bind/Execute/Sync of a statement that was prepared once: it commits on its own,
 * whatever the depth. An ARGUMENT is 1..6 (uniform), 10 (the number), seq:1 (1, 2, ... over all
 * connections) or a text. Numbers go in binary where the parameter's type is an integer.
 *
 * Closed loop (--depth P): each connection has P requests in flight, always. Open loop (--rate R):
 * requests arrive as a Poisson process of R per second over all connections, whatever the answers
 * do; each one's latency is counted from its arrival, waiting in this program included. What finds
 * --in-flight-max requests unanswered on its connection waits; what finds --backlog-max waiting is
 * "late": counted, never sent. Late are, too, those that the program itself was too slow for.
 *
 * "load begins" and "load ends" go to standard error when they do; one line of JSON with --tag's
 * fields to standard output. In it: tps, latencies and seconds are of the time after the warm-up;
 * everything else counts from the first request to the last answer (ok = answered without error,
 * replies = how often each value 0..9 was the answer, rows = rows that commands changed). Exit
 * status: 0, also where requests failed; 1 = no load was possible; 2 = wrong usage.
 *
 * Thread: one; libpq without threads of its own.
 * Memory: one allocator; a ring of requests for each connection. libpq has its own. */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>

#include "bench/load.h"

#include "base/alloc.h"

static uint64_t clock_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Clients */

static void watch(struct load *load, struct client *client, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    int socket = PQsocket(client->pg);
    int operation = socket == client->socket ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (epoll_ctl(load->epoll, operation, socket, &event) != 0) {
        perror("bench_load: epoll_ctl");
        exit(EXIT_FAILED);
    }
    client->socket = socket;
}

static void forget_ready(struct load *load, const struct client *client) {
    for (size_t i = 0; i < load->ready_count; i++) {
        if (load->ready[i] == client) {
            load->ready[i] = load->ready[--load->ready_count];
            return;
        }
    }
}

/* The connection is of no more use; what it had not answered is counted. */
static void end_client(struct load *load, struct client *client, struct state_counts *counts) {
    char state[STATE_BYTES];
    const char *message = PQerrorMessage(client->pg);
    load_state_of_message(message, state);
    load_count_state(counts, state, message);
    if (client->state == CLIENT_READY) {
        load->lost++;
        load->unanswered += client->sent - client->head;
        load->late += client->tail - client->sent;
        load->in_flight_clients -= client->head != client->tail;
        forget_ready(load, client);
    } else {
        load->connecting--;
    }
    client->state = CLIENT_GONE;
    PQfinish(client->pg); /* closes the socket, which leaves the epoll by that */
    client->pg = NULL;
}

static void start_client(struct load *load, struct client *client) {
    const struct options *options = &load->options;
    char port[8];
    (void)snprintf(port, sizeof port, "%u", (unsigned)options->port);
    const char *const names[] = {"host", "port", "user", "dbname", "sslmode", "gssencmode", NULL};
    const char *const values[] = {options->host, port,      options->user, options->database,
                                  "disable",     "disable", NULL};
    client->pg = PQconnectStartParams(names, values, 0);
    if (client->pg == NULL) {
        (void)fprintf(stderr, "bench_load: out of memory for connections\n");
        exit(EXIT_FAILED);
    }
    (void)PQsetErrorVerbosity(client->pg, PQERRORS_VERBOSE);
    client->state = CLIENT_CONNECTING;
    client->socket = -1;
    load->connecting++;
    if (PQstatus(client->pg) == CONNECTION_BAD) {
        end_client(load, client, &load->refused);
        return;
    }
    watch(load, client, EPOLLOUT);
}

static bool send_prepares(struct load *load, struct client *client) {
    bool is_sent = PQsetnonblocking(client->pg, 1) == 0 && PQenterPipelineMode(client->pg) == 1;
    for (size_t i = 0; is_sent && i < load->call_count; i++) {
        is_sent = PQsendPrepare(client->pg, load->calls[i].name, load->calls[i].sql, 0, NULL) == 1;
    }
    return is_sent && PQpipelineSync(client->pg) == 1;
}

static void go_on_connecting(struct load *load, struct client *client) {
    switch (PQconnectPoll(client->pg)) {
    case PGRES_POLLING_READING:
        watch(load, client, EPOLLIN);
        return;
    case PGRES_POLLING_WRITING:
        watch(load, client, EPOLLOUT);
        return;
    case PGRES_POLLING_OK:
        client->state = CLIENT_PREPARING;
        watch(load, client, EPOLLIN);
        if (send_prepares(load, client)) {
            return;
        }
        break;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
    default:
        break;
    }
    end_client(load, client, &load->refused);
}

/* Requests */

/* Where an argument's bytes are written: network byte order, or text. */
union arg_value {
    char text[24];
    unsigned char binary[8];
};

static void write_integer(const struct arg *arg, int64_t number, union arg_value *out) {
    if (arg->size_bytes == 0) {
        (void)snprintf(out->text, sizeof out->text, "%" PRId64, number);
        return;
    }
    for (int i = arg->size_bytes - 1; i >= 0; i--) {
        out->binary[i] = (unsigned char)number;
        number >>= 8;
    }
}

static uint32_t draw_call(struct load *load) {
    uint64_t at = load->call_count == 1 ? 0 : dbos_rng_below(&load->rng, load->weight_sum);
    uint32_t index = 0;
    while (at >= load->calls[index].weight) {
        at -= load->calls[index].weight;
        index++;
    }
    return index;
}

static bool send_call(struct load *load, struct client *client, struct call *call) {
    union arg_value values[ARGS_MAX];
    const char *pointers[ARGS_MAX];
    int sizes[ARGS_MAX];
    int formats[ARGS_MAX];
    for (int i = 0; i < call->arg_count; i++) {
        struct arg *arg = &call->args[i];
        sizes[i] = arg->size_bytes;
        formats[i] = arg->size_bytes != 0;
        pointers[i] = arg->kind == ARG_TEXT ? arg->text : values[i].text;
        if (arg->kind == ARG_SEQUENCE) {
            write_integer(arg, arg->low++, &values[i]);
        } else if (arg->kind == ARG_UNIFORM) {
            uint64_t drawn = dbos_rng_below(&load->rng, (uint64_t)(arg->high - arg->low) + 1);
            write_integer(arg, arg->low + (int64_t)drawn, &values[i]);
        }
    }
    return PQsendQueryPrepared(client->pg, call->name, call->arg_count, pointers, sizes, formats,
                               0) == 1 &&
           PQpipelineSync(client->pg) == 1;
}

/* libpq writes to the socket at each Sync: the cork makes one packet of them. */
static void cork(const struct client *client, int is_corked) {
    (void)setsockopt(client->socket, IPPROTO_TCP, TCP_CORK, &is_corked, sizeof is_corked);
}

/* What waits goes out, as far as the limit on requests in flight allows. */
static void send_waiting(struct load *load, struct client *client) {
    uint32_t in_flight_max =
        (uint32_t)(load_is_open_loop(load) ? load->options.in_flight_max : load->options.depth);
    uint32_t room = in_flight_max - (client->sent - client->head);
    uint32_t count = client->tail - client->sent < room ? client->tail - client->sent : room;
    bool is_sent = true;
    if (count > 1) {
        cork(client, 1);
    }
    for (uint32_t i = 0; is_sent && i < count; i++) {
        struct request *request = &client->ring[client->sent & (load->ring_max - 1)];
        is_sent = send_call(load, client, &load->calls[request->call]);
        client->sent++;
    }
    int left = is_sent ? PQflush(client->pg) : -1;
    if (count > 1) {
        cork(client, 0);
    }
    if (left < 0) {
        end_client(load, client, &load->errors);
        return;
    }
    if ((left == 1) != client->is_writing) {
        client->is_writing = left == 1;
        watch(load, client, client->is_writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
}

static void add_request(struct load *load, struct client *client, uint64_t arrived_ns) {
    load->in_flight_clients += client->head == client->tail;
    client->ring[client->tail & (load->ring_max - 1)] =
        (struct request){.arrived_ns = arrived_ns, .call = draw_call(load)};
    client->tail++;
    load->arrivals++;
}

/* A closed loop: as many in flight as the depth says. */
static void fill(struct load *load, struct client *client) {
    while (client->tail - client->head < load->options.depth) {
        add_request(load, client, load->now_ns);
    }
    send_waiting(load, client);
}

static void touch(struct load *load, struct client *client) {
    if (!client->is_touched) {
        uint64_t end = load->touched_first + load->touched_count++;
        client->is_touched = true;
        load->touched[end % load->options.connections] = client;
    }
}

/* What came for one connection goes out together. Not too many at once: answers are waiting. */
static void send_touched(struct load *load) {
    for (int i = 0; i < SENT_AT_ONCE && load->touched_count > 0; i++) {
        struct client *client = load->touched[load->touched_first];
        load->touched_first = (load->touched_first + 1) % load->options.connections;
        load->touched_count--;
        client->is_touched = false;
        if (client->state == CLIENT_READY) {
            send_waiting(load, client);
        }
    }
}

/* An open loop's arrivals up to now, each at a connection of its own draw. */
static void take_arrivals(struct load *load) {
    double mean_ns = (double)NS_PER_S / (double)load->options.rate;
    uint32_t held_max = (uint32_t)(load->options.in_flight_max + load->options.backlog_max);
    uint64_t until_ns = load->now_ns < load->end_ns ? load->now_ns : load->end_ns;
    for (int i = 0; i < ARRIVALS_AT_ONCE && load->arrival_ns < until_ns; i++) {
        struct client *client = load->ready[dbos_rng_below(&load->rng, load->ready_count)];
        if (client->tail - client->head < held_max) {
            add_request(load, client, load->arrival_ns);
            touch(load, client);
        } else {
            load->arrivals++;
            load->late++;
        }
        load->arrival_ns += (uint64_t)(-log(1 - dbos_rng_unit(&load->rng)) * mean_ns);
    }
    send_touched(load);
}

static void count_value(struct call *call, const PGresult *result) {
    if (PQntuples(result) != 1 || PQnfields(result) != 1) {
        call->replies[VALUES_COUNTED]++;
        return;
    }
    const char *value = PQgetvalue(result, 0, 0);
    bool is_digit = value[0] >= '0' && value[0] <= '9' && value[1] == 0;
    call->replies[is_digit ? value[0] - '0' : VALUES_COUNTED]++;
}

static void take_result(struct load *load, struct client *client, const PGresult *result) {
    struct call *call = &load->calls[client->ring[client->head & (load->ring_max - 1)].call];
    ExecStatusType status = PQresultStatus(result);
    if (status == PGRES_TUPLES_OK) {
        count_value(call, result);
    } else if (status == PGRES_COMMAND_OK) {
        call->rows += strtoull(PQcmdTuples((PGresult *)result), NULL, 10);
    } else {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        load_count_state(&load->errors, state == NULL ? "XX000" : state,
                         PQresultErrorMessage(result));
        client->failed = true;
    }
}

/* ReadyForQuery: the request at the head is answered. */
static void end_request(struct load *load, struct client *client) {
    const struct request *request = &client->ring[client->head & (load->ring_max - 1)];
    struct call *call = &load->calls[request->call];
    if (client->failed) {
        call->failed++;
    } else {
        call->ok++;
        load->measured += load->now_ns >= load->measure_ns && load->now_ns < load->end_ns;
        uint64_t second = (load->now_ns - load->load_ns) / NS_PER_S;
        load->series[second < SERIES_MAX ? second : SERIES_MAX - 1]++;
        if (request->arrived_ns >= load->measure_ns) {
            uint64_t took_ns = load->now_ns - request->arrived_ns;
            load_histogram_add(&call->latency, took_ns < (uint64_t)INT64_MAX ? took_ns : 0);
        }
    }
    client->failed = false;
    client->head++;
    load->in_flight_clients -= client->head == client->tail;
}

/* Answers to the prepares: the statements are the same on each connection, so an error is fatal. */
static void take_prepared(struct load *load, struct client *client) {
    for (;;) {
        if (PQisBusy(client->pg) == 1) {
            return;
        }
        PGresult *result = PQgetResult(client->pg);
        ExecStatusType status = PQresultStatus(result);
        if (status == PGRES_PIPELINE_SYNC) {
            client->state = CLIENT_READY;
            load->ready[load->ready_count++] = client;
            load->connecting--;
            PQclear(result);
            return;
        }
        if (result != NULL && status != PGRES_COMMAND_OK) {
            end_client(load, client, &load->refused);
            PQclear(result);
            return;
        }
        PQclear(result);
    }
}

static void take_answers(struct load *load, struct client *client) {
    int nothing = 0; /* once between a request's result and its Sync; twice is never right */
    while (client->head != client->sent && nothing < 2 && PQisBusy(client->pg) == 0) {
        PGresult *result = PQgetResult(client->pg);
        nothing = result == NULL ? nothing + 1 : 0;
        if (PQresultStatus(result) == PGRES_PIPELINE_SYNC) {
            end_request(load, client);
        } else if (result != NULL) {
            take_result(load, client, result);
        }
        PQclear(result);
        if (PQstatus(client->pg) == CONNECTION_BAD) {
            end_client(load, client, &load->errors);
            return;
        }
    }
    bool is_loading = load->phase == PHASE_LOAD && load->now_ns < load->end_ns;
    if (is_loading && !load_is_open_loop(load)) {
        fill(load, client);
    } else if (is_loading && client->tail != client->sent) {
        send_waiting(load, client);
    }
}

static void serve_client(struct load *load, struct client *client, uint32_t events) {
    if (client->state == CLIENT_CONNECTING) {
        go_on_connecting(load, client);
        return;
    }
    if (client->state != CLIENT_PREPARING && client->state != CLIENT_READY) {
        return;
    }
    struct state_counts *counts = client->state == CLIENT_READY ? &load->errors : &load->refused;
    if ((events & EPOLLOUT) != 0 && client->is_writing) {
        int left = PQflush(client->pg);
        if (left < 0) {
            end_client(load, client, counts);
            return;
        }
        client->is_writing = left == 1;
        watch(load, client, client->is_writing ? EPOLLIN | EPOLLOUT : EPOLLIN);
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) {
        return;
    }
    if (PQconsumeInput(client->pg) == 0) {
        end_client(load, client, counts);
    } else if (client->state == CLIENT_PREPARING) {
        take_prepared(load, client);
    } else {
        take_answers(load, client);
    }
}

/* The run */

/* Connections are started at the given rate, and not too many at once. */
static void start_clients(struct load *load) {
    uint64_t due = (load->now_ns - load->connect_ns) * load->options.connect_rate / NS_PER_S + 1;
    while (load->started < load->options.connections && load->started < due &&
           load->connecting < CONNECTING_MAX) {
        start_client(load, &load->clients[load->started++]);
    }
}

static void begin_load(struct load *load) {
    load->phase = PHASE_LOAD;
    load->now_ns = clock_ns();
    load->connected_ns = load->now_ns;
    load->load_ns = load->now_ns;
    load->measure_ns = load->load_ns + load->options.warmup_s * NS_PER_S;
    load->end_ns = load->measure_ns + load->options.seconds * NS_PER_S;
    load->arrival_ns = load->load_ns;
    (void)fprintf(stderr, "load begins: %zu connections\n", load->ready_count);
    if (load_is_open_loop(load)) {
        return;
    }
    for (size_t i = load->ready_count; i-- > 0;) {
        fill(load, load->ready[i]);
    }
}

/* What was never sent is late; arrivals that this program had no time for are, too. */
static void end_load(struct load *load) {
    double mean_ns = load_is_open_loop(load) ? (double)NS_PER_S / (double)load->options.rate : 0;
    (void)fprintf(stderr, "load ends\n");
    load->phase = PHASE_DRAIN;
    while (load_is_open_loop(load) && load->arrival_ns < load->end_ns) {
        load->arrivals++;
        load->late++;
        load->arrival_ns += (uint64_t)(-log(1 - dbos_rng_unit(&load->rng)) * mean_ns);
    }
    for (size_t i = 0; i < load->ready_count; i++) {
        struct client *client = load->ready[i];
        load->late += client->tail - client->sent;
        load->in_flight_clients -= client->head == client->sent && client->sent != client->tail;
        client->tail = client->sent;
    }
}

static void step(struct load *load) {
    switch (load->phase) {
    case PHASE_CONNECT:
        start_clients(load);
        if (load->started == load->options.connections && load->connecting == 0) {
            begin_load(load);
        }
        return;
    case PHASE_LOAD:
        if (load->now_ns >= load->end_ns || load->ready_count == 0) {
            end_load(load);
        } else if (load_is_open_loop(load)) {
            take_arrivals(load);
        }
        return;
    case PHASE_DRAIN:
        if (load->in_flight_clients == 0 ||
            load->now_ns >= load->end_ns + load->options.drain_s * NS_PER_S) {
            load->phase = PHASE_END;
        }
        return;
    case PHASE_END:
    default:
        return;
    }
}

/* How long the sockets may keep the program waiting. */
static uint64_t wait_ns(const struct load *load) {
    if (load->phase == PHASE_LOAD && load_is_open_loop(load)) {
        bool is_due = load->touched_count > 0 || load->arrival_ns <= load->now_ns;
        return is_due ? 0 : load->arrival_ns - load->now_ns;
    }
    return load->phase == PHASE_CONNECT ? 1000 * NS_PER_US : 10000 * NS_PER_US;
}

static void run(struct load *load) {
    struct epoll_event events[EVENTS_MAX];
    load->connect_ns = clock_ns();
    while (load->phase != PHASE_END) {
        load->now_ns = clock_ns();
        step(load);
        uint64_t wait = wait_ns(load);
        struct timespec timeout = {.tv_sec = (time_t)(wait / NS_PER_S),
                                   .tv_nsec = (long)(wait % NS_PER_S)};
        int count = epoll_pwait2(load->epoll, events, EVENTS_MAX, &timeout, NULL);
        for (int i = 0; i < count; i++) {
            load->now_ns = clock_ns();
            serve_client(load, events[i].data.ptr, events[i].events);
        }
    }
    for (size_t i = 0; i < load->ready_count; i++) {
        load->unanswered += load->ready[i]->sent - load->ready[i]->head;
    }
}

/* Setting up */

/* Each parameter's type, as the server sees it. */
static bool describe_call(PGconn *pg, struct call *call, bool is_text) {
    PGresult *result = PQprepare(pg, call->name, call->sql, 0, NULL);
    bool is_good = PQresultStatus(result) == PGRES_COMMAND_OK;
    PQclear(result);
    if (!is_good) {
        (void)fprintf(stderr, "bench_load: %s: %s", call->sql, PQerrorMessage(pg));
        return false;
    }
    result = PQdescribePrepared(pg, call->name);
    is_good = PQresultStatus(result) == PGRES_COMMAND_OK && PQnparams(result) == call->arg_count;
    for (int i = 0; is_good && i < call->arg_count; i++) {
        Oid type = PQparamtype(result, i);
        bool is_number = call->args[i].kind != ARG_TEXT && !is_text;
        call->args[i].size_bytes = !is_number         ? 0
                                   : type == INT8_OID ? 8
                                   : type == INT4_OID ? 4
                                   : type == INT2_OID ? 2
                                                      : 0;
    }
    if (!is_good) {
        (void)fprintf(stderr, "bench_load: %s: %d arguments given, %d wanted %s\n", call->sql,
                      call->arg_count, PQnparams(result), PQerrorMessage(pg));
    }
    PQclear(result);
    return is_good;
}

static bool describe_calls(struct load *load) {
    char address[512];
    (void)snprintf(address, sizeof address, "host=%s port=%u user=%s dbname=%s", load->options.host,
                   (unsigned)load->options.port, load->options.user, load->options.database);
    PGconn *pg = PQconnectdb(address);
    bool is_good = PQstatus(pg) == CONNECTION_OK;
    if (!is_good) {
        (void)fprintf(stderr, "bench_load: %s", PQerrorMessage(pg));
    }
    for (size_t i = 0; is_good && i < load->call_count; i++) {
        is_good = describe_call(pg, &load->calls[i], load->options.is_text);
    }
    PQfinish(pg);
    return is_good;
}

static bool allow_files(uint64_t connections) {
    struct rlimit limit;
    rlim_t wanted = connections + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        perror("bench_load: getrlimit");
        return false;
    }
    if (limit.rlim_cur >= wanted) {
        return true;
    }
    rlim_t before = limit.rlim_cur;
    limit.rlim_cur = wanted;
    if (limit.rlim_max != RLIM_INFINITY && limit.rlim_max < wanted) {
        limit.rlim_max = wanted; /* only root may */
    }
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        (void)fprintf(stderr,
                      "bench_load: %" PRIu64
                      " connections need %ju open files, and %ju are allowed "
                      "(ulimit -n): %s\n",
                      connections, (uintmax_t)wanted, (uintmax_t)before, strerror(errno));
        return false;
    }
    return true;
}

static bool make_clients(struct load *load, struct dbos_alloc *alloc) {
    const struct options *options = &load->options;
    uint64_t held_max =
        load_is_open_loop(load) ? options->in_flight_max + options->backlog_max : options->depth;
    load->ring_max = 1;
    while (load->ring_max < held_max) {
        load->ring_max *= 2;
    }
    size_t count = options->connections;
    load->clients = dbos_take_zero(alloc, count * sizeof *load->clients);
    load->ready = dbos_take(alloc, count * sizeof(struct client *));
    load->touched = dbos_take(alloc, count * sizeof(struct client *));
    struct request *rings = dbos_take(alloc, count * load->ring_max * sizeof(struct request));
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->clients == NULL || load->ready == NULL || load->touched == NULL || rings == NULL ||
        load->epoll < 0) {
        (void)fprintf(stderr, "bench_load: out of memory\n");
        dbos_give(alloc, rings);
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        load->clients[i].ring = rings + i * load->ring_max;
    }
    return true;
}

static void drop_clients(struct load *load, struct dbos_alloc *alloc) {
    for (size_t i = 0; i < load->options.connections; i++) {
        PQfinish(load->clients[i].pg);
    }
    dbos_give(alloc, load->clients[0].ring);
}

static bool run_with(struct load *load, struct dbos_alloc *alloc) {
    struct histogram *all = dbos_take_zero(alloc, sizeof *all);
    bool is_good = all != NULL && make_clients(load, alloc);
    if (is_good) {
        run(load);
        load_print(load, all);
        is_good = load->load_ns != 0 && load->arrivals != 0;
        drop_clients(load, alloc);
    }
    dbos_give(alloc, load->clients);
    dbos_give(alloc, load->ready);
    dbos_give(alloc, load->touched);
    dbos_give(alloc, all);
    return is_good;
}

int main(int argc, char **argv) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "load", 0);
    struct load *load = dbos_take_zero(&alloc, sizeof *load);
    if (load == NULL) {
        (void)fprintf(stderr, "bench_load: out of memory\n");
        return EXIT_FAILED;
    }
    load->options = (struct options){
        .host = "127.0.0.1",
        .user = "bench",
        .database = "dbos",
        .connections = 1,
        .depth = 1,
        .seconds = 5,
        .warmup_s = 1,
        .drain_s = 10,
        .connect_rate = 2000,
        .in_flight_max = 64,
        .backlog_max = 64,
        .seed = 1,
    };
    int status = load_parse(load, argc, argv) ? 0 : load_usage();
    if (status == 0) {
        dbos_rng_init(&load->rng, load->options.seed);
        bool is_good = allow_files(load->options.connections) && describe_calls(load) &&
                       run_with(load, &alloc);
        status = is_good ? 0 : EXIT_FAILED;
    }
    dbos_give(&alloc, load);
    dbos_alloc_fini(&alloc);
    return status;
}
