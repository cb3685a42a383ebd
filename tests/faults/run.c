#include "tests/faults/run.h"

#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/faults/node.h"
#include "tests/support/alloc_fault.h"
#include "tests/support/thread_fault.h"

enum {
    TRIES_MAX = 40,
    FULL_WAIT_US = 100000,
    FULL_US = 150000,
    NOTICE_US = 300000,
    LARGE_BYTES = 6000
};

const char *const fault_kind_names[FAULT_KINDS] = {"nothing", "alloc",  "thread",
                                                   "eio",     "enospc", "full"};

struct world {
    const struct fault_scenario *scenario;
    enum fault_kind kind;
    int64_t n;
    const char *dir;
    struct fault_truth *truth;
    struct fault_run *run;
    struct fault_node node;
    PGconn *conn;
    uint32_t files; /* open before the start */
    uint32_t prepared;
};

static void fail(const struct world *w, const char *format, ...) DBOS_PRINTF(2, 3);
static void fail(const struct world *w, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)vsnprintf(w->run->message, sizeof w->run->message, format, args);
    va_end(args);
    _exit(1);
}

/* -- faults --------------------------------------------------------------------------------------
 */

static void arm(struct world *w, int64_t n) {
    if (w->kind == FAULT_ALLOC) {
        alloc_fault_arm(n);
    } else if (w->kind == FAULT_THREAD) {
        thread_fault_arm(n);
    } else if (w->kind != FAULT_NOTHING && n > 0) {
        w->node.disk.error = w->kind == FAULT_EIO ? DBOS_ERR_IO : DBOS_ERR_DISK_FULL;
        w->node.disk.full_us = w->scenario->full_us == 0 ? FULL_US : w->scenario->full_us;
        env_fault_arm(&w->node.disk, w->kind == FAULT_FULL ? ENV_FAULT_FULL : ENV_FAULT_FAIL_ONCE,
                      n);
    }
}

static bool has_fired(struct world *w) {
    if (!w->run->has_fired && w->kind != FAULT_NOTHING) {
        w->run->has_fired = w->kind == FAULT_ALLOC    ? alloc_fault_has_fired()
                            : w->kind == FAULT_THREAD ? thread_fault_has_fired()
                                                      : w->node.disk.has_failed;
    }
    return w->run->has_fired;
}

static void disarm(struct world *w) {
    (void)has_fired(w);
    alloc_fault_arm(0);
    thread_fault_arm(0);
    env_fault_arm(&w->node.disk, ENV_FAULT_NONE, 0);
}

/* What the documents say that it ends with. */
static bool is_documented(const struct world *w, const char *state) {
    return strcmp(state, w->kind == FAULT_EIO                               ? "58030"
                         : w->kind == FAULT_ENOSPC || w->kind == FAULT_FULL ? "53100"
                                                                            : "53200") == 0;
}

static void note_refusal(struct world *w, const char *what, const char *state, const char *text) {
    if (!has_fired(w)) {
        fail(w, "%s: %s %s, and nothing had failed", what, state, text);
    }
    if (!is_documented(w, state)) {
        fail(w, "%s: not a documented error: %s %s", what, state, text);
    }
    w->run->was_refused = true;
}

/* -- start, stop and what is there ---------------------------------------------------------------
 */

static uint32_t open_files(void) {
    uint32_t count = 0;
    DIR *dir = opendir("/proc/self/fd");
    DBOS_CHECK(dir != NULL);
    while (readdir(dir) != NULL) {
        count++;
    }
    (void)closedir(dir);
    return count;
}

/* Nothing of the node is left. */
static void expect_nothing(struct world *w) {
    if (alloc_fault_held_bytes() != 0) {
        fail(w, "%llu bytes are held after the end", (unsigned long long)alloc_fault_held_bytes());
    }
    uint32_t files = open_files();
    if (files != w->files) {
        fail(w, "%u files are open after the end, %u were before the start", files, w->files);
    }
}

static void start(struct world *w) {
    struct dbos_errinfo info = {0};
    if (fault_node_start(&w->node, w->dir, &info) != DBOS_OK) {
        note_refusal(w, "start", info.sqlstate, info.message);
        expect_nothing(w);
        disarm(w);
        info = (struct dbos_errinfo){0};
        if (fault_node_start(&w->node, w->dir, &info) != DBOS_OK) {
            fail(w, "start after a failed start: %s %s (%s)", info.sqlstate, info.message,
                 info.detail);
        }
    }
}

static void stop(struct world *w) {
    PQfinish(w->conn);
    w->conn = NULL;
    if (!fault_node_stop(&w->node)) {
        fail(w, "the indexes of a table do not agree with its rows");
    }
    expect_nothing(w);
}

static void open_world(struct world *w) {
    alloc_fault_begin();
    env_fault_init(&w->node.disk, 1);
    w->files = open_files();
}

/* A connection that nothing fails for. */
static void connect(struct world *w) {
    PQfinish(w->conn);
    w->conn = fault_node_connect(&w->node);
    if (PQstatus(w->conn) != CONNECTION_OK) {
        fail(w, "cannot connect: %s", PQerrorMessage(w->conn));
    }
}

static const char *look(struct world *w) {
    if (!fault_node_dump(&w->node, w->conn, w->run->now, sizeof w->run->now)) {
        fail(w, "the next statement fails, too: %s", w->run->now);
    }
    return w->run->now;
}

/* How far both are the same. */
static void expect_state(struct world *w, uint32_t wanted, const char *when) {
    const char *now = look(w);
    const char *then = w->truth->dumps[wanted];
    size_t same = 0;
    while (now[same] != 0 && now[same] == then[same]) {
        same++;
    }
    if (now[same] != then[same]) {
        while (same > 0 && now[same - 1] != '\n') {
            same--;
        }
        fail(w, "%s: not the tables as after %u statements: %.300s\nand not: %.300s", when, wanted,
             now + same, then + same);
    }
}

/* -- statements ----------------------------------------------------------------------------------
 */

struct parameters {
    const char *values[FAULT_PARAMETERS_MAX];
    int count;
};

static struct parameters parameters_of(const struct fault_statement *statement) {
    static char large[LARGE_BYTES + 1];
    struct parameters p = {.count = 0};
    memset(large, 'L', LARGE_BYTES);
    while (p.count < FAULT_PARAMETERS_MAX && statement->parameters[p.count] != NULL) {
        const char *value = statement->parameters[p.count];
        p.values[p.count++] = strcmp(value, "*") == 0 ? large : value;
    }
    return p;
}

static uint64_t hash_answer(const PGresult *result) {
    uint64_t hash = (uint64_t)PQresultStatus(result);
    for (int row = 0; row < PQntuples(result); row++) {
        for (int column = 0; column < PQnfields(result); column++) {
            hash = dbos_hash128(hash, PQgetvalue(result, row, column),
                                (size_t)PQgetlength(result, row, column))
                       .low;
        }
    }
    return hash;
}

static bool is_at_end(const struct fault_statement *statement) { return statement->sql == NULL; }

/* What a statement has come to. */
enum end { DONE, REFUSED, CUT };

/* Takes the result. */
static enum end judge(struct world *w, uint32_t at, PGresult *result) {
    const struct fault_statement *statement = &w->scenario->statements[at];
    const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
    bool is_cut = PQstatus(w->conn) != CONNECTION_OK;
    enum end end = DONE;
    if (is_cut) {
        if (!has_fired(w)) {
            fail(w, "%s: the session ended, and nothing had failed: %s", statement->sql,
                 PQerrorMessage(w->conn));
        }
        end = CUT;
    } else if (state == NULL ? statement->state != NULL
                             : statement->state == NULL || strcmp(state, statement->state) != 0) {
        note_refusal(w, statement->sql, state == NULL ? "00000" : state,
                     PQresultErrorMessage(result));
        end = REFUSED;
    } else if (w->kind == FAULT_NOTHING) {
        w->truth->answers[at] = hash_answer(result);
    } else if (!statement->varies && w->truth->answers[at] != hash_answer(result)) {
        fail(w, "%s: another answer than without a fault", statement->sql);
    }
    PQclear(result);
    return end;
}

static PGresult *run_prepared(struct world *w, const char *sql, const struct parameters *p) {
    char name[32];
    (void)snprintf(name, sizeof name, "s%u", w->prepared++);
    PGresult *result = PQprepare(w->conn, name, sql, 0, NULL);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        return result;
    }
    PQclear(result);
    result = PQdescribePrepared(w->conn, name);
    if (PQresultStatus(result) != PGRES_COMMAND_OK) {
        return result;
    }
    PQclear(result);
    return PQexecPrepared(w->conn, name, p->count, p->values, NULL, NULL, 1);
}

static enum end run_alone(struct world *w, uint32_t at) {
    const struct fault_statement *statement = &w->scenario->statements[at];
    struct parameters p = parameters_of(statement);
    PGresult *result = NULL;
    switch (statement->way) {
    case FAULT_EXTENDED:
        result = PQexecParams(w->conn, statement->sql, p.count, NULL, p.values, NULL, NULL, 1);
        break;
    case FAULT_PREPARED:
        result = run_prepared(w, statement->sql, &p);
        break;
    case FAULT_CONNECT:
        PQfinish(w->conn);
        w->conn = fault_node_connect(&w->node);
        result = PQexec(w->conn, statement->sql);
        break;
    case FAULT_SIMPLE:
    case FAULT_PIPELINED:
        result = PQexec(w->conn, statement->sql);
        break;
    }
    return judge(w, at, result);
}

/* Parse, Bind, Execute and Sync have two results and that of the Sync. */
static enum end take_pipelined(struct world *w, uint32_t at) {
    PGresult *outcome = NULL;
    for (bool is_over = false; !is_over && PQstatus(w->conn) == CONNECTION_OK;) {
        PGresult *result = PQgetResult(w->conn);
        ExecStatusType status = PQresultStatus(result);
        is_over = status == PGRES_PIPELINE_SYNC;
        bool is_outcome = result != NULL && !is_over && status != PGRES_PIPELINE_ABORTED &&
                          PQresultErrorField(outcome, PG_DIAG_SQLSTATE) == NULL;
        PQclear(is_outcome ? outcome : result);
        outcome = is_outcome ? result : outcome;
    }
    return judge(w, at, outcome);
}

static void run_pipelined(struct world *w, uint32_t from, uint32_t to, const bool *done,
                          enum end *ends) {
    (void)PQenterPipelineMode(w->conn);
    for (uint32_t i = from; i < to; i++) {
        const struct fault_statement *statement = &w->scenario->statements[i];
        struct parameters p = parameters_of(statement);
        char name[32];
        (void)snprintf(name, sizeof name, "s%u", w->prepared++);
        if (!done[i]) {
            (void)PQsendPrepare(w->conn, name, statement->sql, 0, NULL);
            (void)PQsendQueryPrepared(w->conn, name, p.count, p.values, NULL, NULL, 1);
            (void)PQpipelineSync(w->conn);
        }
    }
    for (uint32_t i = from; i < to; i++) {
        ends[i] = done[i] ? DONE : take_pipelined(w, i);
    }
    (void)PQexitPipelineMode(w->conn);
}

/* The statements that leave together: one, or a pipeline. */
static uint32_t group_end(const struct fault_scenario *scenario, uint32_t at) {
    uint32_t end = at + 1;
    while (scenario->statements[at].way == FAULT_PIPELINED &&
           !is_at_end(&scenario->statements[end]) &&
           scenario->statements[end].way == FAULT_PIPELINED) {
        end++;
    }
    return end;
}

/* The tables are as after some of the statements of a group; which? */
static uint32_t find_state(struct world *w, uint32_t from, uint32_t to, const char *when) {
    const char *now = look(w);
    for (uint32_t i = to; i > from; i--) {
        if (strcmp(now, w->truth->dumps[i]) == 0) {
            return i;
        }
    }
    expect_state(w, from, when);
    return from;
}

/* Nobody knows what the session that ended has done: the tables say it. */
static void reconnect(struct world *w, uint32_t from, uint32_t to, bool *done) {
    w->run->was_cut = true;
    connect(w);
    uint32_t reached = find_state(w, from, to, "after the end of the session");
    for (uint32_t i = from; i < to; i++) {
        done[i] = i < reached;
    }
}

/* Once. What is not done is tried again by the caller. */
static void try_group(struct world *w, uint32_t from, uint32_t to, bool *done) {
    enum end ends[FAULT_STATEMENTS_MAX];
    bool is_pipeline = w->scenario->statements[from].way == FAULT_PIPELINED;
    if (is_pipeline) {
        run_pipelined(w, from, to, done, ends);
    } else {
        ends[from] = run_alone(w, from);
    }
    if (PQstatus(w->conn) != CONNECTION_OK) {
        reconnect(w, from, to, done);
        return;
    }
    for (uint32_t i = from; i < to; i++) {
        done[i] = ends[i] == DONE;
    }
    if (ends[from] == REFUSED && !is_pipeline) {
        expect_state(w, from, "after the error");
    }
}

static bool is_all_done(const bool *done, uint32_t from, uint32_t to) {
    for (uint32_t i = from; i < to; i++) {
        if (!done[i]) {
            return false;
        }
    }
    return true;
}

/* A fault fires once: what was refused works the next time; where the disk was full, soon. */
static void run_group(struct world *w, uint32_t from, uint32_t to) {
    bool done[FAULT_STATEMENTS_MAX] = {false};
    w->run->submitted = to;
    if (w->kind == FAULT_FULL && w->scenario->full_us != 0 && has_fired(w)) {
        (void)usleep(NOTICE_US); /* the node looks five times in a second */
    }
    for (uint32_t tries = 0; !is_all_done(done, from, to); tries++) {
        uint32_t tries_max = w->kind == FAULT_ENOSPC || w->kind == FAULT_FULL ? TRIES_MAX : 2;
        if (tries == tries_max) {
            fail(w, "%s: refused again, and nothing failed", w->scenario->statements[from].sql);
        }
        if (tries > 1) {
            (void)usleep(FULL_WAIT_US);
        }
        try_group(w, from, to, done);
    }
    w->run->acknowledged = to;
}

static uint32_t run_statements(struct world *w, uint32_t from) {
    uint32_t at = from;
    while (!is_at_end(&w->scenario->statements[at])) {
        /* Without a fault one by one, so that the tables after each are known. */
        uint32_t to = w->kind == FAULT_NOTHING ? at + 1 : group_end(w->scenario, at);
        run_group(w, at, to);
        at = to;
        if (w->kind == FAULT_NOTHING) {
            memcpy(w->truth->dumps[at], look(w), FAULT_DUMP_BYTES);
        }
    }
    return at;
}

/* -- the whole of it -----------------------------------------------------------------------------
 */

/* Stop, and start once more on what is on the disk. */
static void expect_lasting(struct world *w, uint32_t count) {
    expect_state(w, count, "at the end");
    if (w->scenario->is_stop) {
        arm(w, w->n);
    }
    stop(w);
    disarm(w);
    w->kind = FAULT_NOTHING;
    start(w);
    connect(w);
    expect_state(w, count, "after a restart");
    stop(w);
}

static struct world world_of(const struct fault_task *task) {
    return (struct world){.scenario = task->scenario,
                          .kind = task->kind,
                          .n = task->n,
                          .dir = task->dir,
                          .truth = task->truth,
                          .run = task->run};
}

void fault_set_up(const struct fault_task *task) {
    struct world w = world_of(task);
    open_world(&w);
    start(&w);
    connect(&w);
    for (uint32_t i = 0; task->scenario->setup[i] != NULL; i++) {
        PGresult *result = PQexec(w.conn, task->scenario->setup[i]);
        if (PQresultErrorField(result, PG_DIAG_SQLSTATE) != NULL) {
            fail(&w, "%s: %s", task->scenario->setup[i], PQresultErrorMessage(result));
        }
        PQclear(result);
    }
    stop(&w);
}

void fault_run_one(const struct fault_task *task) {
    struct world w = world_of(task);
    bool is_middle = !task->scenario->is_boot && !task->scenario->is_stop;
    open_world(&w);
    if (task->scenario->is_boot) {
        arm(&w, task->n);
    }
    start(&w);
    if (task->scenario->is_boot) {
        disarm(&w);
    }
    connect(&w);
    if (task->kind == FAULT_NOTHING) {
        memcpy(w.truth->dumps[0], look(&w), FAULT_DUMP_BYTES);
    }
    if (is_middle) {
        arm(&w, task->n);
    }
    uint32_t count = run_statements(&w, 0);
    if (is_middle) {
        disarm(&w);
    }
    expect_lasting(&w, count);
}

void fault_go_on(const struct fault_task *task) {
    struct world w = world_of(task);
    w.n = 0;
    open_world(&w);
    start(&w);
    connect(&w);
    uint32_t from = find_state(&w, w.run->acknowledged, w.run->submitted, "after the node's end");
    expect_lasting(&w, run_statements(&w, from));
}
