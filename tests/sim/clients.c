/* The clients of a simulated node: what they ask, how they submit it, what they were told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/wire.h"
#include "tests/sim/world_internal.h"

/* --- requests -------------------------------------------------------------------------------- */

struct step {
    struct dbos_request request;
    struct dbos_request_statement statement;
    struct dbos_script *script;
    struct sim_op *op;
    struct dbos_datum parameters[3];
};

/* Parsed once for all seeds; NULL: each time, with what is in it. */
static const char *const sql_of[SIM_KINDS] = {
    [SIM_INSERT] = "INSERT INTO t VALUES ($1, $2, $3)",
    [SIM_ADD] = "UPDATE t SET n = n + $2 WHERE k = $1",
    [SIM_DELETE] = "DELETE FROM t WHERE k = $1",
    [SIM_ADD_RANGE] = "UPDATE t SET n = n + $2 WHERE k >= $1 AND k < $3",
    [SIM_DIVIDE_RANGE] = "UPDATE t SET n = 1000 / (n - $2) WHERE k >= $1 AND k < $3",
    [SIM_GET] = "SELECT n, length(v) FROM t WHERE k = $1",
    [SIM_COUNT] = "SELECT count(*), sum(n) FROM t",
    [SIM_SMALL_ADD] = "UPDATE s SET n = n + $2 WHERE k = $1",
    [SIM_SMALL_COUNT] = "SELECT count(*), sum(n) FROM s",
    [SIM_INDEX] = "CREATE INDEX by_n ON t (n)",
    [SIM_DROP_INDEX] = "DROP INDEX by_n",
    [SIM_TABLE] = "CREATE TABLE u (k bigint PRIMARY KEY, n bigint)",
    [SIM_DROP_TABLE] = "DROP TABLE u",
    [SIM_TABLE_INSERT] = "INSERT INTO u VALUES ($1, $2)",
};
static struct dbos_script *scripts[SIM_KINDS];
static struct dbos_alloc script_alloc;
enum { LETTERS = 26 };
static char letters[LETTERS][TEXT_BYTES_MAX];

void sim_clients_prepare(void) {
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&script_alloc, "scripts", 0);
    for (int i = 0; i < LETTERS; i++) {
        memset(letters[i], 'a' + i, TEXT_BYTES_MAX);
    }
    for (uint32_t i = 0; i < SIM_KINDS; i++) {
        if (sql_of[i] != NULL) {
            DBOS_CHECK(dbos_script_parse(&script_alloc, sql_of[i], &scripts[i], &info) == DBOS_OK);
        }
    }
}

static struct dbos_script *parse_transfer(const struct sim_op *op) {
    char sql[256];
    struct dbos_script *script = NULL;
    struct dbos_errinfo info = {0};
    (void)snprintf(sql, sizeof sql,
                   "UPDATE t SET n = n - %d WHERE k = %d; UPDATE t SET n = n + %d WHERE k = %d%s",
                   (int)op->n, (int)op->a, (int)op->n, (int)op->b,
                   op->kind == SIM_TRANSFER ? "" : "; UPDATE s SET n = n / (n - n) WHERE k = 0");
    DBOS_CHECK(dbos_script_parse(dbos_engine_session_alloc(world.engine), sql, &script, &info) ==
               DBOS_OK);
    return script;
}

static void on_done(struct dbos_request *request) {
    struct step *step = request->owner;
    step->op->is_done = true;
    sim_wake(&world.clients_left);
}

static void fill_parameters(struct step *step) {
    const struct sim_op *op = step->op;
    const enum dbos_type *types = NULL;
    uint32_t count = dbos_plan_parameters(step->statement.plan, &types);
    step->parameters[0] = dbos_datum_int(DBOS_TYPE_INT8, op->a);
    step->parameters[1] = dbos_datum_int(DBOS_TYPE_INT8, op->n);
    step->parameters[2] =
        op->kind == SIM_INSERT
            ? dbos_datum_bytes(DBOS_TYPE_TEXT, letters[op->letter - 'a'], op->text_bytes)
            : dbos_datum_int(DBOS_TYPE_INT8, op->b);
    for (uint32_t i = 0; i < count; i++) {
        DBOS_CHECK((uint8_t)types[i] == step->parameters[i].type);
    }
    step->statement.parameters = step->parameters;
    step->statement.parameter_count = count;
}

/* Of this life, used again as prepared statements are: what has been quick for some time may run in
 * its client. */
static struct dbos_plan *plans[SIM_KINDS];

static void forget_plan(enum sim_kind kind) {
    if (plans[kind] != NULL) {
        dbos_plan_unref(plans[kind]);
        plans[kind] = NULL;
    }
}

void sim_clients_forget_plans(void) {
    for (uint32_t i = 0; i < SIM_KINDS; i++) {
        forget_plan((enum sim_kind)i);
    }
}

static enum dbos_err make_plan(struct step *step, struct dbos_errinfo *info) {
    enum sim_kind kind = step->op->kind;
    enum dbos_err err = DBOS_OK;
    if (plans[kind] == NULL) {
        struct dbos_plan *plan = NULL;
        struct dbos_catalog *catalog = dbos_engine_catalog_ref(world.engine);
        err =
            dbos_plan_make(dbos_engine_session_alloc(world.engine), catalog,
                           dbos_engine_procs(world.engine), scripts[kind], 0, NULL, 0, &plan, info);
        dbos_catalog_unref(catalog);
        forget_plan(kind); /* another client may have made it meanwhile */
        plans[kind] = plan;
    }
    if (err == DBOS_OK) {
        step->statement.plan = dbos_plan_ref(plans[kind]);
        fill_parameters(step);
    }
    return err;
}

/* False: it is refused before it reaches the engine. */
static bool prepare(struct step *step, struct client *client) {
    static char keys[SIM_OPS_MAX][16];
    struct dbos_errinfo info = {0};
    struct sim_op *op = step->op;
    uint32_t number = (uint32_t)(op - world.ops);
    struct dbos_request *request = &step->request;
    enum dbos_err err = DBOS_OK;
    *request = (struct dbos_request){.kind = DBOS_REQUEST_STATEMENTS,
                                     .session = &client->session,
                                     .number = number + 1,
                                     .on_done = on_done,
                                     .owner = step};
    dbos_buf_init(&request->reply, dbos_engine_session_alloc(world.engine));
    if (op->key >= 0) {
        (void)snprintf(keys[number], sizeof keys[number], "key-%d", op->key);
        request->idempotency_key = keys[number];
    }
    if (scripts[op->kind] == NULL) {
        step->script = parse_transfer(op);
        request->kind = DBOS_REQUEST_SCRIPT;
        request->script = step->script;
    } else {
        request->statement_count = 1;
        request->statements = &step->statement;
        err = make_plan(step, &info);
    }
    return err == DBOS_OK && dbos_engine_route(world.engine, request, &info) == DBOS_OK;
}

static void release(struct step *step) {
    dbos_buf_fini(&step->request.reply);
    if (step->statement.plan != NULL) {
        dbos_plan_unref(step->statement.plan);
    }
    if (step->script != NULL) {
        dbos_script_close(step->script);
    }
    memset(step, 0, sizeof *step);
}

/* --- replies --------------------------------------------------------------------------------- */

static uint32_t get_u16(const uint8_t *at) { return (uint32_t)at[0] << 8 | at[1]; }
static uint32_t get_u32(const uint8_t *at) { return get_u16(at) << 16 | get_u16(at + 2); }

static void read_row(const uint8_t *at, struct sim_answer *answer) {
    uint32_t columns = get_u16(at);
    at += 2;
    for (uint32_t i = 0; i < columns && i < 2; i++) {
        int32_t length = (int32_t)get_u32(at);
        at += 4;
        answer->is_null[i] = length < 0;
        if (length >= 0) {
            char text[32] = "";
            memcpy(text, at, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
            answer->values[i] = strtoll(text, NULL, 10);
            at += length;
        }
    }
    answer->rows++;
}

static void read_error(const uint8_t *at, struct sim_answer *answer) {
    while (*at != 0) {
        if (*at == 'C') {
            (void)snprintf(answer->error, sizeof answer->error, "%s", (const char *)at + 1);
        }
        at += strlen((const char *)at) + 1;
    }
}

static int64_t last_number(const char *tag) {
    const char *blank = strrchr(tag, ' ');
    return blank == NULL ? 0 : strtoll(blank + 1, NULL, 10);
}

static struct sim_answer read_reply(const struct dbos_buf *reply) {
    struct sim_answer answer = {0};
    for (size_t at = 0; at < reply->size_bytes; at = dbos_wire_message_end(reply, at)) {
        const uint8_t *message = reply->data + at + 5;
        switch (reply->data[at]) {
        case 'D':
            read_row(message, &answer);
            break;
        case 'C':
            answer.changed += last_number((const char *)message);
            break;
        case 'E':
            answer = (struct sim_answer){0};
            read_error(message, &answer);
            break;
        default:
            break;
        }
    }
    return answer;
}

/* --- clients --------------------------------------------------------------------------------- */

static uint32_t text_size(void) {
    return sim_dice(world.large_one_in) == 0 ? 3000 + (uint32_t)sim_dice(6000)
                                             : (uint32_t)sim_dice(40);
}

/* A retry of what has a key, as it was: perhaps of another life, perhaps while it still runs. */
static bool repeat_one(struct sim_op *op) {
    if (world.key_count == 0 || sim_dice(12) != 0) {
        return false;
    }
    for (uint32_t tries = 0; tries < 20; tries++) {
        const struct sim_op *other = &world.ops[sim_dice(world.op_count)];
        if (other->key >= 0 && other != op) {
            *op = (struct sim_op){.kind = other->kind,
                                  .a = other->a,
                                  .b = other->b,
                                  .n = other->n,
                                  .text_bytes = other->text_bytes,
                                  .letter = other->letter,
                                  .key = other->key};
            return true;
        }
    }
    return false;
}

static void invent(struct sim_op *op) {
    static const uint8_t weights[SIM_KINDS] = {18, 20, 8, 4, 5, 20, 4, 5, 3, 5, 2, 1, 1, 1, 1, 3};
    uint32_t total = 0;
    for (uint32_t i = 0; i < SIM_KINDS; i++) {
        total += weights[i];
    }
    uint32_t dice = (uint32_t)sim_dice(total);
    uint32_t kind = 0;
    while (dice >= weights[kind]) {
        dice -= weights[kind++];
    }
    bool is_small = kind == SIM_SMALL_ADD;
    *op = (struct sim_op){.kind = (enum sim_kind)kind,
                          .a = (int64_t)sim_dice(is_small ? SIM_SMALL_KEYS : SIM_KEYS),
                          .n = (int64_t)sim_dice(9) - 4,
                          .key = -1};
    op->b = kind == SIM_ADD_RANGE || kind == SIM_DIVIDE_RANGE
                ? op->a + (int64_t)sim_dice((uint64_t)(SIM_KEYS - op->a) + 1)
                : (int64_t)sim_dice(SIM_KEYS);
    op->text_bytes = kind == SIM_INSERT ? text_size() : 0;
    op->letter = (char)('a' + sim_dice(LETTERS));
    bool may_have_key = kind == SIM_INSERT || kind == SIM_ADD || kind == SIM_ADD_RANGE ||
                        kind == SIM_DELETE || kind == SIM_SMALL_ADD;
    if (may_have_key && sim_dice(5) == 0 && world.key_count < SIM_IDEMPOTENT_MAX) {
        op->key = world.key_count++;
    }
}

static struct sim_op *next_op(void) {
    struct sim_op *op = &world.ops[world.op_count++];
    if (!repeat_one(op)) {
        invent(op);
    }
    op->life = world.life;
    op->is_sync = world.is_sync;
    op->is_flushed_in_time = !world.is_slow && !world.had_fault;
    op->after = world.acked_position;
    op->begun_ns = sim_now_ns();
    return op;
}

/* Somewhere in the engine the n-th allocation from now on finds no memory. */
static void run_short_of_memory(void) {
    struct dbos_engine *engine = world.engine;
    struct dbos_alloc *const allocs[] = {&engine->storage_alloc, &engine->objects_alloc,
                                         &engine->log_alloc, &engine->snapshots_alloc};
    atomic_store(&allocs[sim_dice(4)]->fail_countdown, 1 + (int64_t)sim_dice(10));
    sim_note_fault(SIM_NO_MEMORY);
    world.was_short = true;
}

static void submit(struct client *client, struct step *step) {
    if (world.is_short && sim_dice(20) == 0) {
        run_short_of_memory();
    }
    if (client->runs_itself) {
        dbos_submitter_submit(&client->submitter, &step->request);
    } else {
        dbos_engine_submit(world.engine, &step->request);
    }
}

/* The reply leaves when what it says is durable: what a session does. */
static void await(struct step *step) {
    struct sim_op *op = step->op;
    while (!op->is_done || step->request.gate_position > dbos_engine_durable(world.engine)) {
        sim_wait(&world.clients_left, UINT64_MAX);
    }
}

static void tell(struct step *step) {
    struct sim_op *op = step->op;
    op->answer = read_reply(&step->request.reply);
    op->position = step->request.position;
    op->is_acked = true;
    op->acked_ns = sim_now_ns();
    world.acked++;
    sim_judge_time(op);
    for (uint32_t i = 0; i < 6; i++) {
        sim_trace((uint64_t)op->answer.error[i % sizeof op->answer.error]);
    }
    sim_trace((uint64_t)op->answer.values[0]);
    if (op->position != 0 && op->position <= op->after) {
        sim_wrong("operation %u took position %llu behind an acknowledged %llu",
                  (unsigned)(op - world.ops), (unsigned long long)op->position,
                  (unsigned long long)op->after);
    }
    if (step->request.gate_position != 0 && op->position > world.acked_position &&
        op->position <= dbos_engine_durable(world.engine)) {
        world.acked_position = op->position;
    }
}

/* Plans of an older catalogue are made again, as a session does. */
static void run_step(struct client *client, struct step *step) {
    await(step);
    while (step->request.outcome == DBOS_ERR_STALE_PLAN) {
        struct sim_op *op = step->op;
        release(step);
        forget_plan(op->kind);
        step->op = op;
        op->is_done = false;
        if (!prepare(step, client)) {
            return;
        }
        dbos_engine_submit(world.engine, &step->request);
        await(step);
    }
    tell(step);
}

static void work_once(struct client *client) {
    struct step steps[PIPELINE_MAX];
    uint32_t count = 0;
    memset(steps, 0, sizeof steps);
    uint64_t most = 1 + sim_dice(PIPELINE_MAX);
    if (client->runs_itself) {
        dbos_submitter_works(&client->submitter);
    }
    while (count < most && world.quota > 0) {
        struct step *step = &steps[count];
        world.quota--;
        step->op = next_op();
        if (!prepare(step, client)) {
            release(step);
            continue;
        }
        count++;
        submit(client, step);
    }
    if (client->runs_itself) {
        (void)dbos_submitter_settle(&client->submitter, sim_dice(2) == 0);
        dbos_submitter_rests(&client->submitter);
    }
    for (uint32_t i = 0; i < count; i++) {
        run_step(client, &steps[i]);
        release(&steps[i]);
    }
}

void *sim_client_main(void *arg) {
    struct client *client = arg;
    while (world.quota > 0) {
        work_once(client);
        if (sim_dice(10) == 0) {
            sim_sleep(sim_dice(300) * 1000000);
        }
    }
    world.clients_left--;
    sim_wake(&world.clients_left);
    return NULL;
}

void sim_clients_on_durable(void *arg) {
    (void)arg;
    sim_wake(&world.clients_left);
}

/* --- who there is ---------------------------------------------------------------------------- */

void sim_clients_make_tables(void) {
    static const char *const statements[SETUP] = {
        "CREATE TABLE t (k bigint PRIMARY KEY, n bigint, v text) PARTITION BY HASH (k)",
        "CREATE TABLE s (k bigint PRIMARY KEY, n bigint)",
        "INSERT INTO s VALUES (0, 0)",
        "INSERT INTO s VALUES (1, 0)",
        "INSERT INTO s VALUES (2, 0)",
        "INSERT INTO s VALUES (3, 0)",
        "INSERT INTO s VALUES (4, 0)",
        "INSERT INTO s VALUES (5, 0)",
    };
    for (uint32_t i = 0; i < SETUP; i++) {
        struct dbos_alloc *alloc = dbos_engine_session_alloc(world.engine);
        struct dbos_errinfo info = {0};
        static struct sim_op op;
        struct step step = {.op = &op};
        op = (struct sim_op){.key = -1};
        DBOS_CHECK(dbos_script_parse(alloc, statements[i], &step.script, &info) == DBOS_OK);
        step.request = (struct dbos_request){.kind = DBOS_REQUEST_SCRIPT,
                                             .session = &world.clients[0].session,
                                             .on_done = on_done,
                                             .owner = &step,
                                             .script = step.script};
        dbos_buf_init(&step.request.reply, alloc);
        DBOS_CHECK(dbos_engine_route(world.engine, &step.request, &info) == DBOS_OK);
        dbos_engine_submit(world.engine, &step.request);
        await(&step);
        DBOS_CHECK(step.request.outcome == DBOS_OK);
        release(&step);
    }
}

void sim_clients_choose(void) {
    memset(plans, 0, sizeof plans); /* those of a life that has crashed */
    world.client_count = 1 + (uint32_t)sim_dice(CLIENTS_MAX);
    bool runs_itself = sim_dice(2) == 0;
    for (uint32_t i = 0; i < world.client_count; i++) {
        world.clients[i] = (struct client){
            .session = {.id = dbos_engine_take_session_id(world.engine),
                        .user = "u",
                        .role = "u",
                        .address = "sim",
                        .application = "sim"},
            .submitter = {.engine = world.engine},
            .runs_itself = runs_itself && i == 0, /* a node has one */
        };
    }
}
