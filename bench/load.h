/* What the parts of the load generator share: load.c runs it, load_options.c reads the command
 * line, load_report.c counts latencies and errors and prints them.
 *
 * Thread: one.
 * Memory: `struct load` and what it points to belong to load.c. */
#ifndef DBOS_BENCH_LOAD_H
#define DBOS_BENCH_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <libpq-fe.h>

#include "base/env.h"

enum {
    CALLS_MAX = 8,
    ARGS_MAX = 8,
    TAGS_MAX = 16,
    STATES_MAX = 32, /* different SQLSTATEs; the last one takes the rest */
    STATE_BYTES = 6,
    VALUES_COUNTED = 10,
    CONNECTIONS_MAX = 60000,
    DEPTH_MAX = 4096,
    SECONDS_MAX = 3600,
    SERIES_MAX = 2 * SECONDS_MAX,
    CONNECTING_MAX = 256,       /* at once: less than a listener's backlog */
    ARRIVALS_AT_ONCE = 1000000, /* before the sockets are looked at again: more than a second has */
    SENT_AT_ONCE = 512,         /* connections whose arrivals are sent before that */
    EVENTS_MAX = 512,
    SPARE_FILES = 32,
    SUB_BITS = 6, /* 64 steps for each power of two: 1.6 % */
    SUB_COUNT = 1 << SUB_BITS,
    BUCKETS = (64 - SUB_BITS + 1) * SUB_COUNT,
    INT2_OID = 21,
    INT4_OID = 23,
    INT8_OID = 20,
    EXIT_FAILED = 1,
    EXIT_USAGE = 2,
};

#define NS_PER_S  1000000000u
#define NS_PER_US 1000u

enum arg_kind { ARG_UNIFORM, ARG_SEQUENCE, ARG_TEXT };

struct arg {
    enum arg_kind kind;
    int64_t low; /* a sequence's next value, too */
    int64_t high;
    const char *text;
    int size_bytes; /* of a binary integer; 0 = sent as text */
};

struct histogram {
    uint64_t counts[BUCKETS];
    uint64_t total;
    uint64_t max_ns;
};

struct call {
    const char *sql;
    char name[12];
    uint64_t weight;
    struct arg args[ARGS_MAX];
    int arg_count;
    struct histogram latency;
    uint64_t ok;
    uint64_t failed;
    uint64_t rows;
    uint64_t replies[VALUES_COUNTED + 1]; /* the last one: any other answer */
};

struct state_counts {
    char state[STATES_MAX][STATE_BYTES];
    uint64_t counts[STATES_MAX];
    size_t used;
};

struct request {
    uint64_t arrived_ns;
    uint32_t call;
};

enum client_state { CLIENT_IDLE, CLIENT_CONNECTING, CLIENT_PREPARING, CLIENT_READY, CLIENT_GONE };

/* Requests of a ring: [head, sent) in flight, [sent, tail) waiting. The numbers run freely. */
struct client {
    PGconn *pg;
    struct request *ring;
    uint32_t head;
    uint32_t sent;
    uint32_t tail;
    int socket;
    enum client_state state;
    bool is_writing; /* epoll tells when the socket takes more */
    bool is_touched;
    bool failed; /* the request at the head: an error was its answer */
};

struct options {
    const char *host;
    const char *user;
    const char *database;
    const char *tags[TAGS_MAX];
    size_t tag_count;
    uint64_t port;
    uint64_t connections;
    uint64_t depth;
    uint64_t rate; /* requests a second; 0 = closed loop */
    uint64_t seconds;
    uint64_t warmup_s;
    uint64_t drain_s;
    uint64_t connect_rate;
    uint64_t in_flight_max;
    uint64_t backlog_max;
    uint64_t seed;
    bool is_text;
    bool has_series;
};

enum phase { PHASE_CONNECT, PHASE_LOAD, PHASE_DRAIN, PHASE_END };

struct load {
    struct options options;
    struct call calls[CALLS_MAX];
    size_t call_count;
    uint64_t weight_sum;
    struct dbos_rng rng;
    struct client *clients;
    struct client **ready; /* those that take requests */
    size_t ready_count;
    struct client **touched; /* a ring of those with an arrival that is not sent yet */
    size_t touched_first;
    size_t touched_count;
    size_t started;
    size_t connecting;
    size_t in_flight_clients; /* with a request unanswered or waiting */
    uint32_t ring_max;        /* power of two */
    int epoll;
    enum phase phase;
    uint64_t connect_ns; /* when the first connection was started */
    uint64_t connected_ns;
    uint64_t load_ns;    /* first request */
    uint64_t measure_ns; /* end of the warm-up */
    uint64_t end_ns;     /* last arrival */
    uint64_t arrival_ns; /* the next one of an open loop */
    uint64_t now_ns;
    uint64_t measured; /* answered without error in [measure, end) */
    uint64_t arrivals;
    uint64_t late;
    uint64_t lost; /* connections that ended under load */
    uint64_t unanswered;
    struct state_counts errors;
    struct state_counts refused;
    uint64_t series[SERIES_MAX];
};

/* Reads the command line. False, with a message, where it makes no sense. */
bool load_parse(struct load *load, int argc, char **argv);
/* Prints the usage; returns the exit status. */
int load_usage(void);

void load_histogram_add(struct histogram *histogram, uint64_t ns);
/* One error more. The first message of each SQLSTATE goes to standard error. */
void load_count_state(struct state_counts *counts, const char *state, const char *message);
/* libpq keeps no SQLSTATE of a connection that failed; its verbose message has it, as in
 * "FATAL:  53300: too many connections". 08006 stands for a connection that just ended. */
void load_state_of_message(const char *message, char out[static STATE_BYTES]);
/* Prints the line of JSON. `all` is an empty histogram for the latencies of all calls. */
void load_print(const struct load *load, struct histogram *all);

static inline bool load_is_open_loop(const struct load *load) { return load->options.rate != 0; }

#endif /* DBOS_BENCH_LOAD_H */
