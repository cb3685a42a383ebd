#include "tests/model/episode.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void episode_fail(const struct episode *e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr,
                  "model_test: FAILED after %u recorded transactions: ", e->oracle.txn_count);
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr,
                  "\n  data: %s\n  repeat with: model_test --episodes 1 --transactions %u --seed "
                  "%llu\n",
                  e->dir, e->transactions, (unsigned long long)e->seed);
    va_end(args);
    if (e->node > 0) {
        node_kill(e->node);
    }
    exit(1);
}

/* -- the node and its clients ---------------------------------------------------------------------
 */

static PGconn *connect_as(struct episode *e, const char *user) {
    char info[128];
    (void)snprintf(info, sizeof info, "host=127.0.0.1 port=%d user=%s dbname=dbos", e->port, user);
    PGconn *conn = PQconnectdb(info);
    if (PQstatus(conn) != CONNECTION_OK) {
        episode_fail(e, "cannot connect: %s", PQerrorMessage(conn));
    }
    return conn;
}

static void start_node(struct episode *e) {
    struct node_options options = {
        .bin = e->bin, .data = e->data, .log = e->log, .partitions = "2"};
    e->node = node_start(&options, &e->port);
    if (e->node < 0) {
        episode_fail(e, "the node did not become ready; see %s", e->log);
    }
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        e->users[u] = connect_as(e, program_user_name(u));
    }
    e->setup = connect_as(e, "setup");
}

static void disconnect(struct episode *e) {
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        PQfinish(e->users[u]);
    }
    PQfinish(e->setup);
}

PGresult *episode_ask(struct episode *e, const char *sql) {
    PGresult *result = PQexec(e->setup, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        episode_fail(e, "%s\n  %s", sql, PQerrorMessage(e->setup));
    }
    return result;
}

static void must(struct episode *e, const char *sql) { PQclear(episode_ask(e, sql)); }

/* -- requests -------------------------------------------------------------------------------------
 */

struct answer {
    bool lost;     /* the connection went before the answer was whole */
    char state[6]; /* "" = done */
    char message[256];
    uint64_t value;
};

static uint64_t hash_result(const PGresult *result) {
    uint64_t sum = 0;
    for (int r = 0; r < PQntuples(result); r++) {
        int64_t n[4];
        for (int c = 0; c < 4; c++) {
            n[c] = strtoll(PQgetvalue(result, r, c), NULL, 10);
        }
        const char *s = PQgetisnull(result, r, 4) ? NULL : PQgetvalue(result, r, 4);
        sum += model_row_hash(n[0], n[1], n[2], n[3], s, s == NULL ? 0 : strlen(s));
    }
    return sum;
}

static void take_result(const struct oracle_request *request, const PGresult *result,
                        struct answer *out) {
    switch (PQresultStatus(result)) {
    case PGRES_TUPLES_OK:
        if (request->procedure == PROGRAM_AD_HOC) {
            out->value = model_value_add(out->value, PQntuples(result), hash_result(result));
        } else {
            out->value = (uint64_t)strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        }
        break;
    case PGRES_COMMAND_OK:
        out->value = model_value_add(
            out->value, strtoll(PQcmdTuples((PGresult *)(uintptr_t)result), NULL, 10), 0);
        break;
    case PGRES_EMPTY_QUERY:
    case PGRES_COPY_OUT:
    case PGRES_COPY_IN:
    case PGRES_BAD_RESPONSE:
    case PGRES_NONFATAL_ERROR:
    case PGRES_FATAL_ERROR:
    case PGRES_COPY_BOTH:
    case PGRES_SINGLE_TUPLE:
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED: {
        const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
        (void)snprintf(out->state, sizeof out->state, "%s", state == NULL ? "?????" : state);
        (void)snprintf(out->message, sizeof out->message, "%s", PQresultErrorMessage(result));
        break;
    }
    }
}

static void send_request(struct episode *e, const struct oracle_request *request) {
    char text[PROGRAM_TEXT_BYTES];
    program_text(request, text);
    if (PQsendQuery(e->users[request->user], text) != 1) {
        episode_fail(e, "cannot send: %s", PQerrorMessage(e->users[request->user]));
    }
}

static struct answer receive_answer(struct episode *e, const struct oracle_request *request) {
    struct answer answer = {.lost = false};
    PGconn *conn = e->users[request->user];
    PGresult *result = NULL;
    while ((result = PQgetResult(conn)) != NULL) {
        take_result(request, result, &answer);
        PQclear(result);
    }
    answer.lost = PQstatus(conn) != CONNECTION_OK;
    return answer;
}

/* model_sql() returns the value of the row, or NULL. */
static uint64_t expected_value(const struct episode *e, const struct oracle_request *request,
                               const struct oracle_reply *reply) {
    if (request->procedure != PROGRAM_SQL) {
        return reply->value;
    }
    uint32_t version = oracle_find(&e->oracle, MODEL_ITEMS, request->ops[0].a, 0);
    return version == ORACLE_NONE ? 0 : (uint64_t)e->oracle.versions[version].row.v;
}

/* Does the oracle expect this answer? */
static void compare_answer(struct episode *e, const struct oracle_request *request,
                           const struct answer *answer, const struct oracle_reply *reply) {
    static const char *const states[] = {"", "P0001", "23505", NULL};
    const char *state = states[reply->outcome];
    uint64_t expected = expected_value(e, request, reply);
    bool same = state == NULL ? answer->state[0] != '\0' : strcmp(state, answer->state) == 0;
    if (same && reply->outcome == ORACLE_DONE) {
        same = answer->value == expected;
    }
    e->aborted += reply->outcome != ORACLE_DONE;
    if (!same) {
        char text[PROGRAM_TEXT_BYTES];
        program_text(request, text);
        for (uint32_t i = 0; request->procedure != PROGRAM_AD_HOC && i < request->op_count; i++) {
            const struct model_op *op = &request->ops[i];
            (void)fprintf(stderr, "  op %u: kind %d %s a=%d b=%d x=%d y=%d z=%d s=%d\n", i + 1,
                          (int)op->kind, program_table_name(op->table), (int)op->a, (int)op->b,
                          (int)op->x, (int)op->y, (int)op->z, (int)op->s);
        }
        episode_fail(e,
                     "%s\n  by %s: SQLSTATE \"%s\" value %016llx, expected outcome %d (\"%s\") "
                     "value %016llx\n  %s",
                     text, program_user_name(request->user), answer->state,
                     (unsigned long long)answer->value, (int)reply->outcome,
                     state == NULL ? "any" : state, (unsigned long long)expected, answer->message);
    }
}

static void run_single(struct episode *e, const struct oracle_request *request) {
    send_request(e, request);
    struct answer answer = receive_answer(e, request);
    if (answer.lost) {
        episode_fail(e, "the node went away: %s; see %s", answer.message, e->log);
    }
    struct oracle_reply reply = oracle_run(&e->oracle, request);
    compare_answer(e, request, &answer, &reply);
}

/* -- positions ------------------------------------------------------------------------------------
 */

static uint32_t user_number(const char *name) {
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        if (strcmp(name, program_user_name(u)) == 0) {
            return u;
        }
    }
    return PROGRAM_USERS;
}

static void add_position(struct episode *e, uint64_t position, const char *ts, const char *before) {
    if (e->position_count == e->position_capacity) {
        e->position_capacity = e->position_capacity == 0 ? 1024 : e->position_capacity * 2;
        e->positions =
            dbos_retake(&e->alloc, e->positions, e->position_capacity * sizeof *e->positions);
        DBOS_CHECK(e->positions != NULL);
    }
    struct episode_position *to = &e->positions[e->position_count++];
    to->position = position;
    (void)snprintf(to->ts, sizeof to->ts, "%s", ts);
    (void)snprintf(to->before_ts, sizeof to->before_ts, "%s", before);
}

/* The oracle ran everything in the order of positions, so its next transaction is this one, or this
 * one is of a request that it does not know yet. */
static void place_record(struct episode *e, const PGresult *result, int row, uint64_t *leftover) {
    uint64_t position = strtoull(PQgetvalue(result, row, 0), NULL, 10);
    const char *user = PQgetvalue(result, row, 1);
    uint32_t u = user_number(user);
    if (u == PROGRAM_USERS && strcmp(user, "setup") == 0) {
        return; /* DDL */
    }
    if (u == PROGRAM_USERS) {
        episode_fail(e, "position %llu is of user \"%s\"", (unsigned long long)position, user);
    }
    if (e->position_count < e->oracle.txn_count) {
        const struct oracle_txn *txn = &e->oracle.txns[e->position_count];
        if (txn->user != u) {
            episode_fail(e, "position %llu is of %s, expected of %s", (unsigned long long)position,
                         user, program_user_name(txn->user));
        }
        add_position(e, position, PQgetvalue(result, row, 2), PQgetvalue(result, row, 3));
    } else if (leftover == NULL || leftover[u] != 0) {
        episode_fail(e, "a record of %s at position %llu that nothing explains", user,
                     (unsigned long long)position);
    } else {
        leftover[u] = position;
    }
}

void episode_learn_positions(struct episode *e, uint64_t *leftover) {
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "SELECT position, username, ts, ts - INTERVAL '1 microsecond' FROM prov.txn "
                   "WHERE position > %llu ORDER BY position",
                   (unsigned long long)e->last_position);
    PGresult *result = episode_ask(e, sql);
    uint64_t last = e->last_position;
    for (int r = 0; r < PQntuples(result); r++) {
        uint64_t position = strtoull(PQgetvalue(result, r, 0), NULL, 10);
        if (position != last + 1) {
            episode_fail(e, "position %llu follows %llu", (unsigned long long)position,
                         (unsigned long long)last);
        }
        place_record(e, result, r, leftover);
        last = position;
    }
    if (e->position_count < e->oracle.txn_count) {
        episode_fail(e, "%u of %u transactions have no position",
                     e->oracle.txn_count - e->position_count, e->oracle.txn_count);
    }
    if (leftover == NULL) { /* else what is left over is looked at again */
        e->last_position = last;
    }
    PQclear(result);
}

/* -- what happens ---------------------------------------------------------------------------------
 */

static struct program_source source_of(struct episode *e) {
    return (struct program_source){
        .rng = &e->rng, .oracle = &e->oracle, .later_exists = e->later_exists};
}

static void run_random(struct episode *e) {
    struct program_source source = source_of(e);
    struct oracle_request request;
    program_random(&source, (uint32_t)dbos_rng_below(&e->rng, PROGRAM_USERS), false, &request);
    run_single(e, &request);
}

/* One request of every user, sent at the same time. */
struct group {
    struct oracle_request requests[PROGRAM_USERS];
    struct answer answers[PROGRAM_USERS];
    uint64_t positions[PROGRAM_USERS]; /* 0 = it left no record */
};

static void send_group(struct episode *e, struct group *group) {
    struct program_source source = source_of(e);
    episode_learn_positions(e, NULL);
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        group->positions[u] = 0;
        program_random(&source, u, true, &group->requests[u]);
        send_request(e, &group->requests[u]);
        (void)PQflush(e->users[u]);
    }
}

static void receive_group(struct episode *e, struct group *group) {
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        group->answers[u] = receive_answer(e, &group->requests[u]);
    }
}

/* The log says in which order they happened. Who was answered left a record. */
static void settle_group(struct episode *e, struct group *group) {
    episode_learn_positions(e, group->positions);
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        if (group->positions[u] == 0 && !group->answers[u].lost) {
            episode_fail(e, "a request of %s was answered and left no record",
                         program_user_name(u));
        }
    }
    for (;;) {
        uint32_t next = PROGRAM_USERS;
        for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
            uint64_t position = group->positions[u];
            if (position != 0 && (next == PROGRAM_USERS || position < group->positions[next])) {
                next = u;
            }
        }
        if (next == PROGRAM_USERS) {
            break;
        }
        group->positions[next] = 0;
        struct oracle_reply reply = oracle_run(&e->oracle, &group->requests[next]);
        if (!group->answers[next].lost) {
            compare_answer(e, &group->requests[next], &group->answers[next], &reply);
        }
    }
    episode_learn_positions(e, NULL);
}

static void run_group(struct episode *e) {
    struct group group;
    send_group(e, &group);
    receive_group(e, &group);
    for (uint32_t u = 0; u < PROGRAM_USERS; u++) {
        if (group.answers[u].lost) {
            episode_fail(e, "the node went away; see %s", e->log);
        }
    }
    settle_group(e, &group);
    e->groups++;
}

/* The request under way when the node was killed happened if it left a record; then its marker,
 * where it has one, must be there, and else not. */
static void settle(struct episode *e, const struct oracle_request *request,
                   const struct answer *answer, int32_t marker) {
    uint64_t leftover[PROGRAM_USERS] = {0};
    episode_learn_positions(e, leftover);
    bool happened = leftover[request->user] != 0;
    if (!happened && !answer->lost) {
        episode_fail(e, "a request of %s was answered, and its record is lost",
                     program_user_name(request->user));
    }
    if (happened) {
        struct oracle_reply reply = oracle_run(&e->oracle, request);
        if (!answer->lost) {
            compare_answer(e, request, answer, &reply);
        }
    }
    if (marker >= 0) {
        struct oracle_request look;
        program_look_up(request->user, MODEL_ITEMS, marker, &look);
        run_single(e, &look);
    }
    episode_learn_positions(e, NULL);
}

static void kill_in_flight(struct episode *e) {
    struct program_source source = source_of(e);
    struct oracle_request request;
    uint32_t user = (uint32_t)dbos_rng_below(&e->rng, PROGRAM_USERS);
    int32_t marker = -1;
    if (dbos_rng_below(&e->rng, 3) > 0) {
        marker = PROGRAM_MARKERS + e->markers++;
        program_with_marker(&source, user, marker, &request);
    } else {
        program_random(&source, user, true, &request);
    }
    episode_learn_positions(e, NULL);
    send_request(e, &request);
    (void)PQflush(e->users[user]);
    e->env->ops->sleep_us(e->env, dbos_rng_below(&e->rng, 3000));
    node_kill(e->node);
    struct answer answer = receive_answer(e, &request);
    disconnect(e);
    start_node(e);
    settle(e, &request, &answer, marker);
}

static void kill_group(struct episode *e) {
    struct group group;
    send_group(e, &group);
    e->env->ops->sleep_us(e->env, dbos_rng_below(&e->rng, 4000));
    node_kill(e->node);
    receive_group(e, &group);
    disconnect(e);
    start_node(e);
    settle_group(e, &group);
}

static void kill_idle(struct episode *e) {
    node_kill(e->node);
    disconnect(e);
    start_node(e);
    episode_learn_positions(e, NULL);
}

static void kill_node(struct episode *e) {
    static void (*const ways[])(struct episode *) = {kill_idle, kill_in_flight, kill_in_flight,
                                                     kill_group};
    e->kills++;
    ways[dbos_rng_below(&e->rng, sizeof ways / sizeof ways[0])](e);
}

static void change_schema(struct episode *e) {
    static const int32_t tables[] = {MODEL_ITEMS, MODEL_PAIRS};
    char sql[128];
    if (!e->later_exists && dbos_rng_below(&e->rng, 2) == 0) {
        must(e, "CREATE TABLE later (a int PRIMARY KEY, b int, g int NOT NULL, v bigint NOT NULL, "
                "s varchar(20)) PARTITION BY HASH (a)");
        e->later_exists = true;
        episode_learn_positions(e, NULL);
        e->later_position = e->last_position;
        return;
    }
    int32_t table = tables[dbos_rng_below(&e->rng, 2)];
    bool *exists = &e->oracle.value_index[table];
    const char *name = program_table_name(table);
    if (*exists) {
        (void)snprintf(sql, sizeof sql, "DROP INDEX %s_v", name);
    } else {
        (void)snprintf(sql, sizeof sql, "CREATE INDEX %s_v ON %s (v)", name, name);
    }
    must(e, sql);
    *exists = !*exists;
}

/* -- the episode ----------------------------------------------------------------------------------
 */

static void make_schema(struct episode *e) {
    static const char *const ddl[] = {
        "CREATE TABLE items (a int PRIMARY KEY, b int, g int NOT NULL, v bigint NOT NULL, "
        "s varchar(20)) PARTITION BY HASH (a)",
        "CREATE INDEX items_g ON items (g)",
        "CREATE TABLE notes (a int PRIMARY KEY, b int, g int NOT NULL, v bigint NOT NULL, "
        "s varchar(20))",
        "CREATE INDEX notes_g ON notes USING hash (g)",
        "CREATE TABLE pairs (a int, b int, g int NOT NULL, v bigint NOT NULL, s varchar(20), "
        "PRIMARY KEY (a, b)) PARTITION BY HASH (a)",
        "CREATE INDEX pairs_g ON pairs (g)",
        "CREATE FUNCTION model_one(a int, program bytea) RETURNS bigint LANGUAGE c AS "
        "'" DBOS_MODULE_DIR "/model_ops.so', 'model_one'",
        "CREATE FUNCTION model_all(program bytea) RETURNS bigint LANGUAGE c AS "
        "'" DBOS_MODULE_DIR "/model_ops.so', 'model_all'",
        "CREATE FUNCTION model_sql(key int, new_group int) RETURNS bigint LANGUAGE sql AS "
        "'UPDATE items SET g = $2 WHERE a = $1; SELECT v FROM items WHERE a = $1'",
    };
    for (size_t i = 0; i < sizeof ddl / sizeof ddl[0]; i++) {
        must(e, ddl[i]);
    }
}

static void set_up(struct episode *e) {
    const char *tmp = getenv("TMPDIR");
    e->env = dbos_env_posix();
    dbos_alloc_init(&e->alloc, "model", 0);
    dbos_rng_init(&e->rng, e->seed);
    (void)snprintf(e->dir, sizeof e->dir, "%.200s/dbosd-model-XXXXXX", tmp == NULL ? "/tmp" : tmp);
    if (mkdtemp(e->dir) == NULL) {
        episode_fail(e, "no temporary directory");
    }
    (void)snprintf(e->data, sizeof e->data, "%s/data", e->dir);
    (void)snprintf(e->log, sizeof e->log, "%s/dbosd.log", e->dir);
    oracle_open(&e->alloc, 2, &e->oracle);
    start_node(e);
    make_schema(e);
    episode_learn_positions(e, NULL);
}

/* Every recorded call, run again on the state that it met, does the same. */
static void replay(struct episode *e) {
    char text[3 * EPISODE_PATH_BYTES];
    (void)snprintf(text, sizeof text, "%s/dbosctl replay %s", e->bin, e->data);
    FILE *said = popen(text, "r");
    while (said != NULL && fgets(text, sizeof text, said) != NULL) {
        (void)sscanf(text, "%" SCNu64 " calls run again", &e->replayed);
        if (strncmp(text, "DIFFERENT", 9) == 0 || text[0] == ' ') {
            (void)fputs(text, stderr);
        }
    }
    if (said == NULL || pclose(said) != 0 || e->replayed == 0) {
        episode_fail(e, "dbosctl replay %s finds something else than was recorded", e->data);
    }
}

static void tear_down(struct episode *e) {
    char command[EPISODE_PATH_BYTES + 16];
    disconnect(e);
    int status = node_stop(e->node);
    e->node = 0;
    if (status != 0) {
        episode_fail(e, "the node did not stop cleanly: status %d; see %s", status, e->log);
    }
    replay(e);
    (void)snprintf(command, sizeof command, "rm -rf %s", e->dir);
    (void)!system(command);
    e->recorded = e->oracle.txn_count;
    oracle_close(&e->oracle);
    dbos_give(&e->alloc, e->positions);
    dbos_give(&e->alloc, e->block_ids);
    dbos_give(&e->alloc, e->block_tables);
    dbos_alloc_fini(&e->alloc);
}

static void check(struct episode *e, uint32_t samples) {
    uint64_t start = e->env->ops->mono_ns(e->env);
    episode_learn_positions(e, NULL);
    check_provenance(e, samples);
    e->check_s += (double)(e->env->ops->mono_ns(e->env) - start) / 1e9;
}

void episode_run(struct episode *e) {
    set_up(e);
    struct program_source source = source_of(e);
    uint32_t kills = 1 + (uint32_t)dbos_rng_below(&e->rng, 3);
    for (uint32_t i = 0; i < e->transactions; i++) {
        uint64_t at = dbos_rng_below(&e->rng, e->transactions);
        if (i < PROGRAM_LOAD_PARTS) {
            struct oracle_request request;
            program_load(&source, i, &request);
            run_single(e, &request);
        } else if (at < kills || (i == e->transactions / 2 && e->kills == 0)) {
            kill_node(e);
        } else if (at < kills + 3) {
            change_schema(e);
        } else if (at < kills + 5) {
            check(e, 2);
        } else if (at < kills + 5 + e->transactions / 50) {
            run_group(e);
            i += PROGRAM_USERS - 1;
        } else {
            run_random(e);
        }
    }
    check(e, 6);
    tear_down(e);
}
