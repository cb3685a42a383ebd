/* Large replies to many clients at once, of a real dbosd: what they hold is bounded, each client
 * gets the whole of its reply or an error that says why not, and others go on. */
#include <criterion/criterion.h>
#include <errno.h>
#include <libpq-fe.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/poison.h"
#include "tests/integration/wire_support.h"

TestSuite(replies, .timeout = 280);

enum {
    CLIENTS = 100,
    ROWS = 49,
    ROW_BYTES = 1000000,
    REPLY_MB = 256, /* --reply-memory */
    /* Beside that: buffers of 100 connections (half a megabyte each), the result that a partition
     * makes at the moment. */
    OTHER_MB = 128,
    LEFT_MB = 32, /* what may stay behind, of caches of malloc and log */
    PIECE = 65536,
    AGAIN = 6,
    MESSAGE_HEAD = 5,            /* type and length */
    VALUE_AT = MESSAGE_HEAD + 6, /* of a DataRow with one column: behind its count and length */
};

/* A client that reads a reply as a stream and keeps nothing of it. */
struct reader {
    struct wire_client wire;
    bool is_simple;
    uint8_t head[32]; /* of the message under way: its head, then the first bytes of its body */
    size_t seen;      /* of the message */
    size_t size;      /* of the message, when its head has been seen */
    int rows;
    bool is_wrong;
    int suspended; /* PortalSuspended */
    char tag[24];  /* of CommandComplete */
    bool is_ready; /* ReadyForQuery */
    char sqlstate[8];
};

static void nap(int ms) {
    struct timespec pause = {.tv_nsec = ms * 1000000L};
    (void)nanosleep(&pause, NULL);
}

/* -- what the node says of itself ---------------------------------------------------------------
 */

static long rss_kb(const struct wire_node *node) {
    char path[64];
    char line[256];
    long kb = -1;
    (void)snprintf(path, sizeof path, "/proc/%d/status", (int)node->pid);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, "RssAnon:", 8) == 0) {
            kb = strtol(line + 8, NULL, 10);
        }
    }
    (void)fclose(file);
    return kb;
}

static long long number(PGconn *conn, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s: %s", sql, PQerrorMessage(conn));
    long long value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

static void fill(PGconn *conn) {
    char sql[128];
    wire_run(conn, "CREATE TABLE large (id int PRIMARY KEY, v text)");
    wire_run(conn, "CREATE TABLE small (id int PRIMARY KEY, n int) PARTITION BY HASH (id)");
    wire_run(conn, "INSERT INTO small VALUES (1, 0)");
    for (int i = 0; i < ROWS; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO large VALUES (%d, repeat('%c', %d))", i,
                       'a' + i % 26, ROW_BYTES);
        wire_run(conn, sql);
    }
}

/* -- readers ------------------------------------------------------------------------------------
 */

static void begin(struct reader *reader, const struct wire_node *node, bool is_simple) {
    *reader = (struct reader){.is_simple = is_simple};
    wire_begin(&reader->wire, node);
}

/* The rest of a reader's state is of the last reply. */
static void request(struct reader *reader) {
    static const char *const none[] = {NULL};
    static const char sql[] = "SELECT v FROM large ORDER BY id";
    reader->seen = reader->size = 0;
    reader->rows = 0;
    reader->is_wrong = reader->is_ready = false;
    reader->sqlstate[0] = reader->tag[0] = 0;
    if (reader->is_simple) {
        wire_put_query(&reader->wire, sql);
    } else {
        wire_put_parse(&reader->wire, "", sql, 0);
        wire_put_bind(&reader->wire, "", "", none);
        wire_put_execute(&reader->wire, "", 0);
        wire_put_bare(&reader->wire, 'S');
    }
    wire_send(&reader->wire);
}

static void note_error(struct reader *reader, const uint8_t *body, size_t size) {
    for (size_t at = 0; at < size && body[at] != 0; at += strlen((const char *)body + at) + 1) {
        if (body[at] == 'C') {
            (void)snprintf(reader->sqlstate, sizeof reader->sqlstate, "%s", body + at + 1);
        }
    }
}

/* The message is whole. */
static void end_message(struct reader *reader) {
    switch (reader->head[0]) {
    case 'D':
        reader->is_wrong = reader->is_wrong || reader->size != VALUE_AT + ROW_BYTES;
        reader->rows++;
        break;
    case 'C':
        (void)snprintf(reader->tag, sizeof reader->tag, "%s", reader->head + MESSAGE_HEAD);
        break;
    case 's':
        reader->suspended++;
        break;
    case 'E':
        note_error(reader, reader->head + MESSAGE_HEAD, sizeof reader->head - MESSAGE_HEAD);
        break;
    case 'Z':
        reader->is_ready = true;
        break;
    default:
        break;
    }
    reader->seen = reader->size = 0;
}

/* Bytes of a value: all of them are the letter of its row. */
static bool is_value(const struct reader *reader, const uint8_t *data, size_t size) {
    uint8_t letter = (uint8_t)('a' + reader->rows % 26);
    return size == 0 || (data[0] == letter && memcmp(data, data + 1, size - 1) == 0);
}

/* How many bytes of the message under way lie in `head`: those of a value do not. */
static size_t head_bytes(const struct reader *reader) {
    size_t most = reader->head[0] == 'D' ? VALUE_AT : sizeof reader->head;
    return reader->seen < MESSAGE_HEAD ? MESSAGE_HEAD : reader->size < most ? reader->size : most;
}

static void look(struct reader *reader, const uint8_t *data, size_t size) {
    while (size != 0) {
        bool is_head = reader->seen < head_bytes(reader);
        size_t left = (is_head ? head_bytes(reader) : reader->size) - reader->seen;
        size_t step = size < left ? size : left;
        if (is_head) {
            memcpy(reader->head + reader->seen, data, step);
        } else if (reader->head[0] == 'D') {
            reader->is_wrong = reader->is_wrong || !is_value(reader, data, step);
        }
        reader->seen += step;
        data += step;
        size -= step;
        if (reader->seen == MESSAGE_HEAD) {
            reader->size = 1 + __builtin_bswap32(dbos_load_u32(reader->head + 1));
        }
        if (reader->seen >= MESSAGE_HEAD && reader->seen == reader->size) {
            end_message(reader);
        }
    }
}

/* What has come, at most a piece. */
static void read_piece(struct reader *reader, int flags) {
    static uint8_t piece[PIECE];
    ssize_t got = recv(reader->wire.file, piece, sizeof piece, flags);
    cr_assert(got > 0 || (got < 0 && errno == EAGAIN), "the connection has ended");
    look(reader, piece, got > 0 ? (size_t)got : 0);
}

static void read_all(struct reader *reader) {
    while (!reader->is_ready) {
        read_piece(reader, 0);
    }
}

static bool is_full(const struct reader *reader) {
    return reader->rows == ROWS && !reader->is_wrong && reader->sqlstate[0] == 0 &&
           strcmp(reader->tag, "SELECT 49") == 0;
}

static bool is_refused(const struct reader *reader) {
    return reader->rows == 0 && reader->tag[0] == 0 && strcmp(reader->sqlstate, "53200") == 0;
}

/* -- the test -----------------------------------------------------------------------------------
 */

struct watch {
    const struct wire_node *node;
    PGconn *conn;
    long rss_kb_max;
    long long replies_max; /* bytes of large replies */
    int transactions;
    double slowest_s;
};

static const char replies_held[] = "SELECT bytes FROM dbos.memory WHERE name = 'large replies'";

/* Another client goes on with small transactions; it looks at the memory, too. */
static void look_around(struct watch *watch) {
    double start = wire_seconds();
    wire_run(watch->conn, "UPDATE small SET n = n + 1 WHERE id = 1");
    double took = wire_seconds() - start;
    watch->transactions++;
    watch->slowest_s = took > watch->slowest_s ? took : watch->slowest_s;
    long long replies = number(watch->conn, replies_held);
    watch->replies_max = replies > watch->replies_max ? replies : watch->replies_max;
    long kb = rss_kb(watch->node);
    watch->rss_kb_max = kb > watch->rss_kb_max ? kb : watch->rss_kb_max;
}

static void wait_until_run(struct watch *watch) {
    static const char sql[] = "SELECT count(*) FROM dbos.sessions WHERE username = 'ana' AND "
                              "statements > 0 AND in_flight = 0";
    double end = wire_seconds() + 120;
    while (number(watch->conn, sql) != CLIENTS) {
        look_around(watch);
        cr_assert_lt(wire_seconds(), end, "not all were run");
        nap(10);
    }
}

static int read_slowly(struct reader *readers, struct watch *watch) {
    int ready = 0;
    for (int round = 0; ready < CLIENTS; round++) {
        ready = 0;
        for (int i = 0; i < CLIENTS; i++) {
            if (!readers[i].is_ready) {
                read_piece(&readers[i], MSG_DONTWAIT);
            }
            ready += readers[i].is_ready;
        }
        if (round % 16 == 0) {
            look_around(watch);
        }
    }
    int full = 0;
    for (int i = 0; i < CLIENTS; i++) {
        full += is_full(&readers[i]);
        cr_expect(is_full(&readers[i]) || is_refused(&readers[i]), "client %d: %d rows, %s", i,
                  readers[i].rows, readers[i].sqlstate);
    }
    return full;
}

static void expect_bounded(const struct watch *watch, long before_kb) {
    (void)fprintf(
        stderr,
        "RSS %ld MB before, %ld MB at most, replies %lld MB; %d transactions, slowest %.3f s\n",
        before_kb / 1024, watch->rss_kb_max / 1024, watch->replies_max >> 20, watch->transactions,
        watch->slowest_s);
    cr_expect_leq(watch->replies_max, (long long)REPLY_MB << 20);
    cr_expect_gt(watch->replies_max, (long long)(REPLY_MB / 2) << 20);
    if (DBOS_POISONS == 0) { /* AddressSanitizer keeps what was freed */
        cr_expect_leq(watch->rss_kb_max, before_kb + (REPLY_MB + OTHER_MB) * 1024L);
    }
}

static void expect_returned(struct watch *watch, long before_kb) {
    double end = wire_seconds() + 20;
    long kb = rss_kb(watch->node);
    while (DBOS_POISONS == 0 && kb > before_kb + LEFT_MB * 1024L && wire_seconds() < end) {
        nap(50);
        kb = rss_kb(watch->node);
    }
    cr_expect(DBOS_POISONS != 0 || kb <= before_kb + LEFT_MB * 1024L, "RSS %ld KB, before %ld KB",
              kb, before_kb);
    cr_expect_eq(number(watch->conn, replies_held), 0);
}

static PGconn *watch_connect(const struct wire_node *node) {
    char text[128];
    (void)snprintf(text, sizeof text, "host=127.0.0.1 port=%d user=bob dbname=dbos", node->port);
    PGconn *conn = PQconnectdb(text);
    cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%s", PQerrorMessage(conn));
    return conn;
}

/* One after the other: there is room now. */
static void ask_again(struct reader *readers) {
    int asked = 0;
    for (int i = 0; i < CLIENTS && asked < AGAIN; i++) {
        if (is_refused(&readers[i])) {
            request(&readers[i]);
            read_all(&readers[i]);
            cr_expect(is_full(&readers[i]), "client %d: %s", i, readers[i].sqlstate);
            asked++;
        }
    }
    cr_expect_eq(asked, AGAIN);
}

/* Goal: a reply of 49 MB on each of 100 connections stays within --reply-memory; nobody gets half a
 * reply or somebody else's, the node goes on for others, and gives the memory back.
 * Method: all ask before any reads, half of them by each protocol; then all read a piece in turn.
 * Who was refused asks again behind the others. */
Test(replies, of_fifty_megabytes_to_a_hundred_clients_stay_within_their_memory) {
    static struct reader readers[CLIENTS];
    const char *const arguments[] = {"--partitions", "2", "--reply-memory", "256", NULL};
    struct wire_node node;
    wire_node_start(&node, arguments);
    struct watch watch = {.node = &node, .conn = watch_connect(&node)};
    fill(watch.conn);
    for (int i = 0; i < CLIENTS; i++) {
        begin(&readers[i], &node, i % 2 == 0);
    }
    long before_kb = rss_kb(&node);
    for (int i = 0; i < CLIENTS; i++) {
        request(&readers[i]);
    }
    wait_until_run(&watch);
    int full = read_slowly(readers, &watch);
    (void)fprintf(stderr, "%d whole replies, %d refused\n", full, CLIENTS - full);
    cr_expect(full >= 3 && full < CLIENTS, "%d", full);
    expect_bounded(&watch, before_kb);
    ask_again(readers);
    expect_returned(&watch, before_kb);
    for (int i = 0; i < CLIENTS; i++) {
        wire_close(&readers[i].wire);
    }
    PQfinish(watch.conn);
    wire_node_stop(&node);
}

/* Goal: no part of a reply that is too large to be copied at once gets lost or is said twice.
 * Method: a portal read in three parts, of 20 MB, 1 MB and the rest. */
Test(replies, of_a_portal_leave_in_parts_of_any_size) {
    static const char *const none[] = {NULL};
    const char *const arguments[] = {"--partitions", "1", NULL};
    struct wire_node node;
    static struct reader reader;
    wire_node_start(&node, arguments);
    PGconn *conn = watch_connect(&node);
    fill(conn);
    begin(&reader, &node, false);
    struct wire_client *wire = &reader.wire;
    wire_put_parse(wire, "", "SELECT v FROM large ORDER BY id", 0);
    wire_put_bind(wire, "p", "", none);
    wire_put_execute(wire, "p", 20);
    wire_put_execute(wire, "p", 1);
    wire_put_execute(wire, "p", 0);
    wire_put_bare(wire, 'S');
    wire_send(wire);
    read_all(&reader);
    cr_expect(reader.rows == ROWS && !reader.is_wrong, "%d rows", reader.rows);
    cr_expect_eq(reader.suspended, 2);
    cr_expect_str_eq(reader.tag, "SELECT 28");
    wire_close(wire);
    PQfinish(conn);
    wire_node_stop(&node);
}

/* Goal: an answer of the archive that fits comes whole, and one that does not is an error like any
 * other: the connection goes on. Method: answers around the limit, of a node that has a megabyte
 * for them; they are larger than half of it, so that nothing is left to grow into. */
Test(replies, of_the_archive_come_whole_or_say_why) {
    enum { ARCHIVE_ROWS_MAX = 30, WHOLE_ROWS = 20 }; /* of 30 KB */
    const char *const arguments[] = {
        "--archive-backlog-max", "0", "--partitions", "1", "--reply-memory", "1", NULL};
    struct wire_node node;
    char sql[128];
    int refused = 0;
    wire_node_start(&node, arguments);
    PGconn *conn = wire_connect(node.port);
    wire_run(conn, "CREATE TABLE t (id int PRIMARY KEY)");
    for (int i = 0; i < ARCHIVE_ROWS_MAX; i++) {
        (void)snprintf(sql, sizeof sql, "INSERT INTO t VALUES (%d)", i);
        wire_run(conn, sql);
    }
    for (int rows = 1; rows <= ARCHIVE_ROWS_MAX; rows++) {
        (void)snprintf(sql, sizeof sql,
                       "SELECT repeat('x', 30000) AS v, position FROM prov.txn LIMIT %d", rows);
        PGresult *result = PQexec(conn, sql);
        if (PQresultStatus(result) == PGRES_TUPLES_OK) {
            cr_expect_eq(PQntuples(result), rows);
        } else {
            const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
            cr_expect(state != NULL && strcmp(state, "53200") == 0, "%d rows: %s", rows,
                      PQresultErrorMessage(result));
            cr_expect_gt(rows, WHOLE_ROWS);
            refused++;
        }
        PQclear(result);
        cr_assert_eq(PQstatus(conn), CONNECTION_OK, "%d rows", rows);
    }
    cr_expect_gt(refused, 0);
    PQfinish(conn);
    wire_node_stop(&node);
}

/* Goal: what a client asks for is no reason for the archiver to end. Method: one row beyond what a
 * frame of it holds, and one that fits there and is too much for a result. */
Test(replies, of_the_archive_may_have_a_row_of_any_size) {
    const char *const arguments[] = {"--archive-backlog-max", "0", "--partitions", "1", NULL};
    struct wire_node node;
    wire_node_start(&node, arguments);
    PGconn *conn = wire_connect(node.port);
    wire_run(conn, "CREATE TABLE t (id int PRIMARY KEY)");
    wire_expect_error(conn, "SELECT repeat('x', 70000000) FROM prov.txn LIMIT 1", "54000");
    wire_expect_error(conn, "SELECT repeat('x', 60000000) FROM prov.txn LIMIT 1", "54000");
    cr_expect_eq(number(conn, "SELECT length(repeat('x', 70000000)) FROM prov.txn LIMIT 1"),
                 70000000);
    cr_expect_eq(number(conn, "SELECT starts FROM dbos.archive"), 1);
    PQfinish(conn);
    wire_node_stop(&node);
}

/* Goal: who says goodbye, or whose node stops, has the reply that is on its way first, however long
 * it has been there. Method: a session that is older than a start-up may take; its client does not
 * read for a while. */
Test(replies, that_are_on_their_way_arrive_before_the_end) {
    const char *const arguments[] = {"--partitions", "2", NULL};
    for (int stops = 0; stops < 2; stops++) {
        struct wire_node node;
        struct reader reader;
        wire_node_start(&node, arguments);
        PGconn *conn = watch_connect(&node);
        fill(conn);
        PQfinish(conn);
        begin(&reader, &node, true);
        for (int i = 0; i < 24; i++) {
            nap(500);
        }
        request(&reader);
        if (stops == 0) {
            wire_put_bare(&reader.wire, 'X');
            wire_send(&reader.wire);
        }
        nap(500);
        if (stops == 1) {
            cr_assert_eq(kill(node.pid, SIGTERM), 0);
            nap(500);
        }
        read_all(&reader);
        reader.sqlstate[0] = 0; /* a node that stops says so behind it */
        cr_expect(is_full(&reader), "%s: %d rows", stops == 1 ? "a stop" : "goodbye", reader.rows);
        wire_close(&reader.wire);
        wire_node_stop(&node);
    }
}

/* Goal: who says goodbye and never reads does not keep its reply in the node for ever. Method: it
 * does not read for longer than a start-up may take. */
Test(replies, that_nobody_takes_are_dropped_after_the_end) {
    const char *const arguments[] = {"--partitions", "2", NULL};
    struct wire_node node;
    struct reader reader;
    wire_node_start(&node, arguments);
    PGconn *conn = watch_connect(&node);
    fill(conn);
    begin(&reader, &node, true);
    request(&reader);
    wire_put_bare(&reader.wire, 'X');
    wire_send(&reader.wire);
    for (int i = 0; i < 4; i++) {
        nap(500);
    }
    cr_expect_gt(number(conn, replies_held), 0, "it was not on its way");
    for (int i = 0; i < 50 && number(conn, replies_held) != 0; i++) {
        nap(500);
    }
    cr_expect_eq(number(conn, replies_held), 0);
    PQfinish(conn);
    wire_close(&reader.wire);
    wire_node_stop(&node);
}
