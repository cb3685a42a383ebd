/* dbosctl replay, on the directories of real nodes: what was recorded happens again, a procedure
 * that hides something is found, and so is each bit of a record that says something else than
 * what happened. To repeat one:
 *     build/release/bin/integration_replay --filter 'replay/NAME'
 * DBOS_REPLAY_CALLS=100000 makes the mixed load larger, DBOS_REPLAY_SEED another one. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/env.h"
#include "base/hash.h"
#include "engine/replay_call.h"
#include "provenance/record_format.h"
#include "tests/integration/wire_support.h"
#include "tests/support/node.h"
#include "txn/history.h"

TestSuite(replay, .timeout = 900);

enum { PATH_BYTES = 128, SAID_BYTES = 16384 };

/* -- a node and what replay says of it ----------------------------------------------------------
 */

struct node {
    char dir[PATH_BYTES / 2];
    char data[PATH_BYTES];
    char log[PATH_BYTES];
    pid_t pid;
    int port;
};

static const char *const keeps_all[] = {"--no-archive", "--snapshot-log-bytes", "0", NULL};

static void start(struct node *node, const char *partitions, const char *const *arguments) {
    if (node->dir[0] == '\0') {
        (void)snprintf(node->dir, sizeof node->dir, "/tmp/dbos-replay-XXXXXX");
        cr_assert(mkdtemp(node->dir) != NULL);
        (void)snprintf(node->data, sizeof node->data, "%s/data", node->dir);
        (void)snprintf(node->log, sizeof node->log, "%s/log", node->dir);
    }
    struct node_options options = {.bin = DBOS_BIN_DIR,
                                   .data = node->data,
                                   .log = node->log,
                                   .partitions = partitions,
                                   .arguments = arguments};
    node->pid = node_start(&options, &node->port);
    cr_assert(node->port != 0, "dbosd did not start: see %s", node->log);
}

static void stop(const struct node *node) {
    int status = node_stop(node->pid);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d: see %s", status,
              node->log);
}

static void remove_node(const struct node *node) {
    char command[PATH_BYTES];
    (void)snprintf(command, sizeof command, "rm -rf %s", node->dir);
    cr_expect_eq(system(command), 0);
}

struct said {
    int status;
    uint64_t calls, same, gave_up, different;
    char text[SAID_BYTES];
};

static void replay(const struct node *node, struct said *said) {
    char command[3 * PATH_BYTES];
    (void)snprintf(command, sizeof command, DBOS_BIN_DIR "/dbosctl replay %s 2>&1", node->data);
    *said = (struct said){.status = -1};
    FILE *from = popen(command, "r");
    cr_assert(from != NULL);
    size_t size_bytes = fread(said->text, 1, sizeof said->text - 1, from);
    said->text[size_bytes] = '\0';
    int status = pclose(from);
    said->status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    const char *line = strstr(said->text, " calls run again");
    while (line != NULL && line > said->text && line[-1] != '\n') {
        line--;
    }
    if (line != NULL) {
        (void)sscanf(line,
                     "%" SCNu64 " calls run again in %*f s: %" SCNu64 " the same (%" SCNu64
                     " of them gave up, as then), %" SCNu64 " different",
                     &said->calls, &said->same, &said->gave_up, &said->different);
    }
}

/* The number before some words of what was said; 0 = they are not there. */
static uint64_t aside(const struct said *said, const char *words) {
    const char *at = strstr(said->text, words);
    while (at != NULL && at > said->text && at[-1] != '\n') {
        at--;
    }
    return at == NULL ? 0 : strtoull(strchr(at, ':') + 1, NULL, 10);
}

static void run_all(PGconn *conn, const char *const *statements) {
    for (; *statements != NULL; statements++) {
        wire_run(conn, *statements);
    }
}

/* -- a mixed load -------------------------------------------------------------------------------
 */

static const char *const schema[] = {
    "CREATE TABLE contestants (id int PRIMARY KEY, name text NOT NULL, total bigint NOT NULL "
    "DEFAULT 0)",
    "INSERT INTO contestants (id, name) VALUES (1, 'a'), (2, 'b'), (3, 'c')",
    "CREATE TABLE votes (phone bigint NOT NULL, contestant int NOT NULL) PARTITION BY HASH "
    "(phone)",
    "CREATE TABLE phone_votes (phone bigint PRIMARY KEY, n int NOT NULL) PARTITION BY HASH (phone)",
    "CREATE FUNCTION vote(bigint, int, int) RETURNS int LANGUAGE c AS 'vote.so', 'vote'",
    "CREATE FUNCTION vote_hot(bigint, int, int) RETURNS int LANGUAGE c AS 'vote.so', 'vote_hot'",
    "CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL) "
    "PARTITION BY HASH (id)",
    "INSERT INTO account SELECT i, 'owner ' || i, 100 FROM generate_series(1, 50) AS i",
    "CREATE PROCEDURE transfer(bigint, bigint, bigint) LANGUAGE c AS 'transfer.so', 'transfer'",
    "CREATE TABLE things (id bigint PRIMARY KEY, n int, t text, b bytea) PARTITION BY HASH (id)",
    "CREATE FUNCTION kit_put(bigint, int, text, bytea) RETURNS bigint LANGUAGE c AS "
    "'test/kit.so', 'kit_put'",
    "CREATE FUNCTION kit_text(bigint) RETURNS text LANGUAGE c AS 'test/kit.so', 'kit_text'",
    "CREATE FUNCTION kit_stubborn(bigint) RETURNS int LANGUAGE c AS 'test/kit.so', "
    "'kit_stubborn'",
    "CREATE FUNCTION kit_misuse(bigint, int) RETURNS int LANGUAGE c AS 'test/kit.so', "
    "'kit_misuse'",
    "CREATE PROCEDURE kit_abort(bigint, text) LANGUAGE c AS 'test/kit.so', 'kit_abort'",
    "CREATE FUNCTION kit_all() RETURNS bigint LANGUAGE c AS 'test/kit.so', 'kit_all'",
    "CREATE FUNCTION kit_loop(bigint, int) RETURNS bigint LANGUAGE c AS 'test/kit.so', "
    "'kit_loop'",
    "CREATE FUNCTION kit_surroundings() RETURNS text LANGUAGE c AS 'test/kit.so', "
    "'kit_surroundings'",
    "CREATE FUNCTION stamp(bigint) RETURNS double precision LANGUAGE sql AS "
    "'INSERT INTO things VALUES ($1, 1, current_user || now(), NULL); "
    "UPDATE things SET n = (random() * 1000)::int WHERE id = $1; SELECT random()'",
    "CREATE FUNCTION forget(bigint) RETURNS int LANGUAGE sql AS "
    "'DELETE FROM things WHERE id = $1; SELECT 1'",
    /* The order in which rows are met shows in what is written. */
    "CREATE FUNCTION interest(bigint) RETURNS bigint LANGUAGE sql AS "
    "'UPDATE account SET balance = balance + 1 WHERE balance % 3 = $1; "
    "SELECT sum(balance) FROM account'",
    "CREATE TABLE draws (id bigint, r double precision, at timestamptz)",
    "CREATE FUNCTION draw(bigint) RETURNS bigint LANGUAGE sql AS "
    "'INSERT INTO draws SELECT id, random(), now() FROM account WHERE id % 7 = $1; SELECT 1'",
    "CREATE TABLE results (task bigint, context bytea, error text, bytes bytea, pieces int, "
    "exec_us bigint)",
    "CREATE PROCEDURE task_result(bigint, bytea, text) LANGUAGE c AS 'test/tasks.so', "
    "'task_result'",
    "CREATE FUNCTION task_submit(int, int, int, int, bytea, bytea) RETURNS bigint LANGUAGE c AS "
    "'test/tasks.so', 'task_submit'",
    NULL,
};

/* Parameters by letters: p phone, c contestant, a account, m amount, i thing, n small, t text. */
struct kind {
    int weight;
    const char *sql;
    const char *parameters;
    bool is_keyed; /* with an idempotency key, of a few */
};
static const struct kind kinds[] = {
    {800, "SELECT vote($1, $2, 2)", "pc", false},
    {80, "SELECT vote_hot($1, $2, 2)", "pc", false},
    {80, "CALL transfer($1, $2, $3)", "aam", false},
    {160, "SELECT kit_put($1, $2, $3, NULL)", "int", false},
    {60, "SELECT kit_put($1, $2, $3, NULL)", "int", true},
    {80, "SELECT kit_text($1)", "i", false},
    {60, "SELECT kit_loop($1, 5)", "i", false},
    {60, "CALL kit_abort($1, $2)", "it", false},
    {40, "SELECT kit_stubborn($1)", "i", false},
    {60, "SELECT kit_misuse($1, $2)", "in", false},
    {60, "SELECT kit_surroundings()", "", false},
    {120, "SELECT stamp($1)", "i", false},
    {40, "SELECT stamp((random() * 1000000000)::bigint)", "", false},
    {60, "SELECT forget($1)", "i", false},
    {40, "SELECT interest($1 % 3)", "i", false},
    {20, "SELECT draw($1 % 7)", "i", false},
    {20, "INSERT INTO things VALUES ($1, $2, $3, NULL)", "int", false},
    {2, "SELECT kit_all()", "", false},
    {4, "SELECT task_submit(3, 1, 0, 1, $1, 'context')", "t", false},
    {4, "SELECT task_submit(2, 1, 0, 1, $1, 'context')", "t", false}, /* there is no such model */
};
enum { KINDS = sizeof kinds / sizeof kinds[0], CLIENTS = 4, UNDER_WAY = 48, TEXT_MAX = 6000 };

struct load {
    struct dbos_rng rng;
    uint64_t seed;
    uint64_t range; /* of keys */
    PGconn *clients[CLIENTS];
    int under_way[CLIENTS];
    bool has_aborted; /* some call has */
};

static void put_parameter(struct load *load, char letter, char *out) {
    struct dbos_rng *rng = &load->rng;
    uint64_t below = load->range;
    if (letter == 't') {
        bool is_large = dbos_rng_below(rng, 20) == 0;
        size_t size_bytes = (size_t)dbos_rng_below(rng, is_large ? TEXT_MAX : 40);
        char filling = (char)('a' + dbos_rng_below(rng, 26));
        memset(out, filling, size_bytes);
        out[size_bytes] = '\0';
        return;
    }
    below = letter == 'a' ? 52 : below;
    below = letter == 'c' ? 5 : below;
    below = letter == 'm' ? 60 : below;
    below = letter == 'n' ? 17 : below;
    (void)snprintf(out, TEXT_MAX, "%" PRIu64, dbos_rng_below(rng, below));
}

static const struct kind *choose_kind(struct load *load) {
    int sum = 0;
    for (int i = 0; i < KINDS; i++) {
        sum += kinds[i].weight;
    }
    int at = (int)dbos_rng_below(&load->rng, (uint64_t)sum);
    const struct kind *kind = kinds;
    while (at >= kind->weight) {
        at -= kind->weight;
        kind++;
    }
    return kind;
}

static void send_key(struct load *load, PGconn *conn) {
    char sql[96];
    (void)snprintf(sql, sizeof sql, "SET LOCAL dbos.idempotency_key = 'k%" PRIu64 "'",
                   dbos_rng_below(&load->rng, load->range));
    cr_assert_eq(PQsendQueryParams(conn, sql, 0, NULL, NULL, NULL, NULL, 0), 1);
}

static void send_call(struct load *load, PGconn *conn) {
    static char texts[4][TEXT_MAX + 1];
    const char *const values[] = {texts[0], texts[1], texts[2], texts[3]};
    const struct kind *kind = choose_kind(load);
    int count = (int)strlen(kind->parameters);
    for (int i = 0; i < count; i++) {
        put_parameter(load, kind->parameters[i], texts[i]);
    }
    if (kind->is_keyed) {
        send_key(load, conn);
    }
    int format = (int)dbos_rng_below(&load->rng, 2);
    cr_assert_eq(PQsendQueryParams(conn, kind->sql, count, NULL, values, NULL, NULL, format), 1);
    cr_assert_eq(PQpipelineSync(conn), 1);
}

/* The results up to the next Sync. False: the node is gone. */
static bool take_reply(struct load *load, int client) {
    PGconn *conn = load->clients[client];
    for (;;) {
        PGresult *result = PQgetResult(conn);
        if (result == NULL) {
            if (PQstatus(conn) != CONNECTION_OK) {
                return false;
            }
            continue;
        }
        ExecStatusType status = PQresultStatus(result);
        load->has_aborted = load->has_aborted || status == PGRES_FATAL_ERROR;
        PQclear(result);
        if (status == PGRES_PIPELINE_SYNC) {
            load->under_way[client]--;
            return true;
        }
    }
}

static void connect_all(struct load *load, const struct node *node) {
    for (int i = 0; i < CLIENTS; i++) {
        load->clients[i] = wire_connect(node->port);
        load->under_way[i] = 0;
        cr_assert_eq(PQenterPipelineMode(load->clients[i]), 1);
    }
}

static void disconnect_all(struct load *load) {
    for (int i = 0; i < CLIENTS; i++) {
        PQfinish(load->clients[i]);
    }
}

static void run_calls(struct load *load, uint64_t count) {
    for (uint64_t i = 0; i < count; i++) {
        int client = (int)(i % CLIENTS);
        send_call(load, load->clients[client]);
        load->under_way[client]++;
        if (load->under_way[client] == UNDER_WAY) {
            cr_assert_eq(PQflush(load->clients[client]), 0);
            while (load->under_way[client] > UNDER_WAY / 2) {
                cr_assert(take_reply(load, client));
            }
        }
    }
}

static void take_all(struct load *load) {
    for (int i = 0; i < CLIENTS; i++) {
        while (load->under_way[i] > 0) {
            cr_assert(take_reply(load, i));
        }
    }
}

static uint64_t setting(const char *name, uint64_t otherwise) {
    const char *value = getenv(name);
    return value == NULL ? otherwise : strtoull(value, NULL, 10);
}

/* Each task has been given back by the worker: with an error, for its payload is none. */
static void wait_for_tasks(PGconn *conn) {
    for (int tries = 0; tries < 600; tries++) {
        PGresult *result = PQexec(conn, "SELECT count(*) FROM dbos.task WHERE state = 1");
        bool is_done = strcmp(PQgetvalue(result, 0, 0), "0") == 0;
        PQclear(result);
        if (is_done) {
            return;
        }
        (void)usleep(50000);
    }
    cr_assert_fail("tasks stay open");
}

/* Two partitions, a kill with calls under way, three partitions with a definition that is replaced,
 * a stop: of all that the log then says about calls, all happens again. */
Test(replay, what_a_mixed_load_has_recorded_happens_again) {
    uint64_t calls = setting("DBOS_REPLAY_CALLS", 5000);
    struct load load = {.seed = setting("DBOS_REPLAY_SEED", 1), .range = calls / 4 + 1};
    struct node node = {.dir = ""};
    struct said said;
    dbos_rng_init(&load.rng, load.seed);
    start(&node, "2", keeps_all);
    PGconn *conn = wire_connect(node.port);
    run_all(conn, schema);
    PQfinish(conn);
    connect_all(&load, &node);
    run_calls(&load, calls * 6 / 10);
    node_kill(node.pid);
    disconnect_all(&load);

    start(&node, "3", keeps_all);
    conn = wire_connect(node.port);
    connect_all(&load, &node);
    run_calls(&load, calls * 2 / 10);
    take_all(&load);
    wire_run(conn, "CREATE OR REPLACE FUNCTION forget(bigint) RETURNS int LANGUAGE sql AS "
                   "'UPDATE things SET n = -1 WHERE id = $1; SELECT 2'");
    wire_run(conn, "CREATE INDEX things_n ON things (n)");
    run_calls(&load, calls * 2 / 10);
    take_all(&load);
    wait_for_tasks(conn);
    wire_run(conn, "SET statement_timeout = '20ms'");
    wire_expect_error(conn, "SELECT kit_loop(1, 3000000)", "57014");
    disconnect_all(&load);
    PQfinish(conn);
    stop(&node);

    replay(&node, &said);
    (void)fputs(said.text, stderr);
    cr_expect_eq(said.status, 0, "seed %" PRIu64 ", %" PRIu64 " calls, %s:\n%s", load.seed, calls,
                 node.data, said.text);
    cr_expect(said.same > calls * 8 / 10 && said.different == 0, "%s", said.text);
    cr_expect(said.gave_up > calls / 100, "%s", said.text);
    cr_expect(aside(&said, "results of tasks") > 0, "%s", said.text);
    cr_expect(aside(&said, "an idempotency key") > 0, "%s", said.text);
    cr_expect(aside(&said, "definitions") > 0, "%s", said.text);
    cr_expect_eq(aside(&said, "ended from outside"), 1, "%s", said.text);
    if (said.status == 0) {
        remove_node(&node);
    }
}

/* Where reads are not recorded, what was written is still compared. */
Test(replay, without_records_of_reads_what_was_written_is_compared) {
    static const char *const arguments[] = {
        "--no-archive", "--snapshot-log-bytes", "0", "--provenance-reads", "off", NULL};
    enum { CALLS = 300 };
    struct load load = {.seed = setting("DBOS_REPLAY_SEED", 1), .range = CALLS / 4};
    struct node node = {.dir = ""};
    struct said said;
    dbos_rng_init(&load.rng, load.seed);
    start(&node, "2", arguments);
    PGconn *conn = wire_connect(node.port);
    run_all(conn, schema);
    PQfinish(conn);
    connect_all(&load, &node);
    run_calls(&load, CALLS);
    take_all(&load);
    disconnect_all(&load);
    stop(&node);
    replay(&node, &said);
    cr_expect_eq(said.status, 0, "seed %" PRIu64 ", %s:\n%s", load.seed, node.data, said.text);
    cr_expect(said.same > CALLS / 4 && said.gave_up == 0, "%s", said.text);
    if (said.status == 0) {
        remove_node(&node);
    }
}

/* -- a log without its beginning ----------------------------------------------------------------
 */

/* Snapshots are taken, and what lies before them goes once the archiver has it: the check begins
 * with the oldest of them, and says so. */
Test(replay, a_log_without_its_beginning_is_checked_behind_the_oldest_snapshot) {
    enum { CALLS = 6000 };
    struct load load = {.seed = setting("DBOS_REPLAY_SEED", 1), .range = CALLS / 4};
    struct node node = {.dir = ""};
    struct said said;
    dbos_rng_init(&load.rng, load.seed);
    start(&node, "2", NULL);
    PGconn *conn = wire_connect(node.port);
    run_all(conn, schema);
    wire_run(conn, "SELECT forget(-1)");
    wire_run(conn, "SELECT stamp(-1)");
    for (int part = 0; part < 3; part++) {
        connect_all(&load, &node);
        run_calls(&load, CALLS / 3);
        take_all(&load);
        disconnect_all(&load);
        PQclear(PQexec(conn, "SELECT * FROM prov_last_writer('votes')")); /* the archiver has it */
        wire_run(conn, "SELECT dbos_snapshot()");
    }
    connect_all(&load, &node);
    run_calls(&load, CALLS / 3);
    take_all(&load);
    disconnect_all(&load);
    /* Of a session that is older than what is left: only one of them says who calls. */
    wire_run(conn, "SELECT forget(-1)");
    wire_run(conn, "SELECT stamp(-1)");
    PQfinish(conn);
    stop(&node);
    replay(&node, &said);
    cr_expect_eq(said.status, 0, "seed %" PRIu64 ", %s:\n%s", load.seed, node.data, said.text);
    cr_expect(strstr(said.text, ", behind the oldest snapshot") != NULL, "%s", said.text);
    cr_expect(said.same > CALLS / 4 && said.different == 0, "%s", said.text);
    cr_expect_eq(aside(&said, "who called is not known"), 1, "%s", said.text);
    if (said.status == 0) {
        remove_node(&node);
    }
}

/* -- what must be found -------------------------------------------------------------------------
 */

/* Statements that leave one record each: the first one has position 1. */
static const char *const hiding[] = {
    "CREATE TABLE secrets (id bigint PRIMARY KEY, place bigint) PARTITION BY HASH (id)",
    "CREATE FUNCTION hidden(bigint) RETURNS bigint LANGUAGE c AS 'test/hidden.so', 'hidden'",
    "CREATE FUNCTION open(bigint) RETURNS int LANGUAGE sql AS "
    "'INSERT INTO secrets VALUES ($1, 0); SELECT 1'",
    "SELECT open(1)",
    "SELECT hidden(2)",
    "SELECT open(3)",
    NULL,
};

Test(replay, a_procedure_that_stores_where_its_stack_lies_is_found) {
    struct node node = {.dir = ""};
    struct said said;
    start(&node, "1", keeps_all);
    PGconn *conn = wire_connect(node.port);
    run_all(conn, hiding);
    PQfinish(conn);
    replay(&node, &said);
    cr_expect(said.status == 1 && strstr(said.text, "in use by another process") != NULL, "%s",
              said.text);
    stop(&node);
    replay(&node, &said);
    cr_expect_eq(said.status, 1, "%s", said.text);
    cr_expect(strstr(said.text, "DIFFERENT at position 5, \"hidden\" version 1") != NULL, "%s",
              said.text);
    cr_expect(strstr(said.text, "insert into \"secrets\"") != NULL, "%s", said.text);
    cr_expect(said.same == 2 && said.different == 1, "%s", said.text);
    remove_node(&node);
}

/* A record is changed in memory, before it is checked and where no checksum is in the way. */
struct forger {
    struct dbos_alloc alloc;
    struct dbos_history *history;
    struct dbos_replayer *replayer;
    uint8_t *record; /* a copy */
    size_t size_bytes;
    uint64_t calls;
    uint64_t bits; /* that were changed */
};

/* Is it found? The state stays as it is, whatever the record says. */
static bool is_found(struct forger *f) {
    struct dbos_replay_finding finding;
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_replayer_check(f->replayer, f->record, f->size_bytes, &finding, &info);
    return err == DBOS_ERR_CORRUPT || (err == DBOS_OK && finding.verdict == DBOS_REPLAY_DIFFERENT);
}

static uint64_t fold(uint64_t digest, uint64_t value) { return dbos_mix64(digest ^ value); }

static uint64_t fold_bytes(uint64_t digest, struct dbos_bytes bytes) {
    return fold(fold(digest, bytes.size_bytes), dbos_hash64(0, bytes.data, bytes.size_bytes));
}

/* What the record says, whatever the spelling: an image may say a zero in two ways, and a number
 * by its digits or by the argument that has the same value. 0 = it is malformed. */
static uint64_t meaning(struct forger *f) {
    struct dbos_record_scratch scratch;
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_event e;
    struct dbos_errinfo info = {0};
    uint64_t digest = 1;
    dbos_record_scratch_init(&scratch, &f->alloc);
    enum dbos_err err =
        dbos_record_open(f->record, f->size_bytes, &scratch, &head, &decoder, &info);
    while (err == DBOS_OK && dbos_record_next(&decoder, &e)) {
        const uint64_t numbers[] = {e.op,    e.statement, e.partition,         e.table_id,
                                    e.block, e.index_id,  e.previous_position, e.count,
                                    e.bytes, e.digest,    e.statement_id,      e.bound_flags};
        for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
            digest = fold(digest, numbers[i]);
        }
        digest = fold_bytes(fold_bytes(digest, e.before), e.after);
        digest = fold_bytes(fold_bytes(digest, e.low), e.high);
    }
    bool is_whole = err == DBOS_OK && dbos_record_end(&decoder, &info) == DBOS_OK;
    dbos_record_scratch_fini(&scratch);
    return is_whole ? fold(digest, head.seed) : 0;
}

static void expect_bits(struct forger *f, size_t from, size_t to, uint64_t position) {
    const uint64_t recorded = meaning(f);
    for (size_t at = from; at < to; at++) {
        for (int bit = 0; bit < 8; bit++) {
            f->record[at] ^= (uint8_t)(1 << bit);
            bool is_other = meaning(f) != recorded;
            cr_expect_eq(is_found(f), is_other, "position %" PRIu64 ", bit %d of byte %zu of %zu",
                         position, bit, at, f->size_bytes);
            f->record[at] ^= (uint8_t)(1 << bit);
            f->bits += is_other;
        }
    }
}

/* Where the events begin, and behind the first of them: the client's statement, which is no
 * procedure's business. */
static size_t behind_statement(struct forger *f, struct dbos_record_head *head) {
    struct dbos_record_scratch scratch;
    struct dbos_record_decoder decoder;
    struct dbos_event event;
    struct dbos_errinfo info = {0};
    dbos_record_scratch_init(&scratch, &f->alloc);
    cr_assert_eq(dbos_record_open(f->record, f->size_bytes, &scratch, head, &decoder, &info),
                 DBOS_OK, "%s", info.message);
    do {
        cr_assert(dbos_record_next(&decoder, &event));
    } while (event.op != DBOS_EVENT_STATEMENT);
    size_t at = (size_t)(decoder.reader.next - f->record);
    dbos_record_scratch_fini(&scratch);
    return at;
}

/* Behind frame, flags, position and commit time the head has the difference to the start. */
static size_t place_of_start(const struct forger *f) {
    struct dbos_reader reader = dbos_reader_of(f->record, f->size_bytes);
    (void)dbos_get_u32(&reader);
    (void)dbos_get_varint(&reader);
    (void)dbos_get_varint(&reader);
    (void)dbos_get_zigzag(&reader);
    return (size_t)(reader.next - f->record);
}

static void forge(struct forger *f) {
    struct dbos_record_head head;
    size_t events = behind_statement(f, &head);
    expect_bits(f, events, f->size_bytes, head.position);
    if (head.has_seed) { /* the function that draws numbers writes the time, too */
        uint8_t *seed = memmem(f->record, events, &head.seed, sizeof head.seed);
        cr_assert(seed != NULL);
        size_t at = (size_t)(seed - f->record);
        expect_bits(f, at, at + sizeof head.seed, head.position);
        f->record[place_of_start(f)] ^= 2; /* a microsecond */
        cr_expect(is_found(f), "start time of position %" PRIu64, head.position);
        f->record[place_of_start(f)] ^= 2;
    }
    cr_expect(!is_found(f), "position %" PRIu64 " as it was", head.position);
}

static enum dbos_err forge_record(void *arg, const uint8_t *record, size_t size_bytes,
                                  uint64_t *state_hash, struct dbos_errinfo *info) {
    struct forger *f = arg;
    struct dbos_replay_finding finding;
    enum dbos_err err = dbos_replayer_check(f->replayer, record, size_bytes, &finding, info);
    cr_assert_eq(err, DBOS_OK, "%s", info->message);
    if (finding.verdict == DBOS_REPLAY_SAME) {
        f->record = malloc(size_bytes);
        f->size_bytes = size_bytes;
        memcpy(f->record, record, size_bytes);
        forge(f);
        free(f->record);
        f->calls++;
    }
    cr_expect_neq(finding.verdict, DBOS_REPLAY_DIFFERENT);
    err = dbos_txn_apply_record(dbos_history_store(f->history), dbos_history_log(f->history),
                                record, size_bytes, state_hash, info);
    if (err == DBOS_OK && (finding.head.flags & DBOS_RECORD_DDL) != 0) {
        err = dbos_replayer_redefined(f->replayer, info);
    }
    return err;
}

/* Of each kind of event at least one: reads by key and in a run, a scan, a range, absent keys,
 * inserts, updates, deletes, results; committed and given up; a value that is a reference to an
 * argument and one that is an object. */
static const char *const forged[] = {
    "SELECT vote(1, 1, 2)",
    "SELECT vote(1, 2, 2)",
    "SELECT vote(1, 3, 2)",
    "SELECT vote(2, 9, 2)",
    "SELECT vote_hot(3, 1, 2)",
    "CALL transfer(1, 2, 30)",
    "CALL transfer(1, 2, 500)",
    "SELECT kit_put(1, 2, 'text', '\\x00ff')",
    "SELECT kit_put(2, 2, repeat('large', 1000), NULL)",
    "SELECT kit_text(1)",
    "SELECT stamp(4)",
    "SELECT forget(4)",
    "SELECT span(1, 3)",
    "SELECT interest(1)",
    "SELECT draw(3)",
    NULL,
};

Test(replay, each_bit_of_a_record_that_says_something_else_is_found) {
    struct forger f = {.calls = 0};
    struct node node = {.dir = ""};
    struct dbos_errinfo info = {0};
    uint64_t after = 0;
    start(&node, "1", keeps_all);
    PGconn *conn = wire_connect(node.port);
    run_all(conn, schema);
    wire_run(conn, "CREATE FUNCTION span(bigint, bigint) RETURNS bigint LANGUAGE sql AS "
                   "'SELECT sum(n) FROM things WHERE id >= $1 AND id < $2'");
    for (const char *const *sql = forged; *sql != NULL; sql++) {
        PQclear(PQexec(conn, *sql)); /* some are meant to fail */
    }
    PQfinish(conn);
    stop(&node);

    dbos_alloc_init(&f.alloc, "forger", 0);
    cr_assert_eq(dbos_history_open(&f.alloc, dbos_env_posix(), node.data, 1, &f.history, &info),
                 DBOS_OK, "%s", info.message);
    cr_assert_eq(dbos_history_begin(f.history, &after, &info), DBOS_OK);
    struct dbos_replayer_options options = {.env = dbos_env_posix(),
                                            .store = dbos_history_store(f.history),
                                            .log = dbos_history_log(f.history)};
    cr_assert_eq(dbos_replayer_open(&f.alloc, &options, &f.replayer, &info), DBOS_OK, "%s",
                 info.message);
    struct dbos_recovery recovery = {.apply = forge_record, .arg = &f};
    cr_assert_eq(dbos_history_read(f.history, &recovery, &info), DBOS_OK, "%s", info.message);
    dbos_replayer_close(f.replayer);
    dbos_history_close(f.history);
    dbos_alloc_fini(&f.alloc);
    cr_expect_eq(f.calls, sizeof forged / sizeof forged[0] - 1);
    cr_expect(f.bits > 5000, "%" PRIu64 " bits", f.bits);
    remove_node(&node);
}
