#include "tests/sim/world.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"
#include "engine/submitter.h"
#include "engine/wire.h"
#include "tests/sim/archive.h"
#include "tests/sim/model.h"
#include "txn/log_internal.h"

enum {
    CLIENTS_MAX = 6,
    PIPELINE_MAX = 5,
    SETUP = 2 + SIM_SMALL_KEYS, /* positions of the first life before clients come */
    POSITIONS_MAX = 3 * SIM_OPS_MAX,
    TEXT_BYTES_MAX = 10000,
    ANSWER_NS_MAX = 1000000000,
    SETTLE_NS = 2000000000,
    ASYNC_NS_MAX = 1000000000, /* a flush each 100 ms, and what a good disk needs */
};
static const char data_dir[] = "disk/data";

/* What the log has at a position: an operation, or none of ours. */
struct position {
    uint32_t op; /* 1 + its number; 0 = something else */
    uint64_t session;
    uint64_t request;
};

struct client {
    struct world *world;
    struct dbos_session_info session;
    struct dbos_submitter submitter;
    bool runs_itself;
};

static struct world {
    uint64_t seed;
    bool is_loud;
    uint32_t operations; /* to be done in all */
    /* This life. */
    uint32_t life;
    bool is_sync;
    uint32_t partitions;
    uint32_t quota; /* operations until it is stopped in order */
    struct dbos_alloc alloc;
    struct dbos_engine *engine;
    struct client clients[CLIENTS_MAX];
    uint32_t client_count;
    uint32_t clients_left;
    uint64_t acked_position; /* the newest that a client knows */
    bool had_fault;          /* the disk may fail in it */
    bool is_stopped;         /* in order */
    bool is_damaged;         /* a bit on its disk is another one: it may refuse to start */
    bool is_slow;            /* an operation of the disk may take its time */
    bool has_archive;
    bool has_small_backlog;  /* writers wait for it now and then */
    uint32_t large_one_in;         /* so many inserts has a value that is kept apart */
    struct dbos_log_findings seen; /* what verification said before it began */
    struct dbos_errinfo seen_info;
    enum dbos_err seen_err;
    /* All lives. */
    struct sim_op ops[SIM_OPS_MAX];
    uint32_t op_count;
    int32_t key_count;
    struct position positions[POSITIONS_MAX];
    uint64_t ended_ns; /* the life before */
    uint64_t judged;   /* the newest position that the model has seen */
    uint32_t unjudged; /* the first life whose operations it has not */
    struct sim_model model;
    uint64_t state_hash; /* at an orderly stop; 0 = not known */
    uint32_t acked;
    uint32_t crashes;
    uint32_t snapshots;
} world;

static noreturn void wrong(const char *format, ...) DBOS_PRINTF(1, 2);
static noreturn void wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "sim: seed %llu, life %u: ", (unsigned long long)world.seed, world.life);
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    abort();
}

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
};
static struct dbos_script *scripts[SIM_KINDS];
static struct dbos_alloc script_alloc;
static char letters[TEXT_BYTES_MAX];

void world_prepare(void) {
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&script_alloc, "scripts", 0);
    memset(letters, 'x', sizeof letters);
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
    step->parameters[2] = op->kind == SIM_INSERT
                              ? dbos_datum_bytes(DBOS_TYPE_TEXT, letters, op->text_bytes)
                              : dbos_datum_int(DBOS_TYPE_INT8, op->b);
    for (uint32_t i = 0; i < count; i++) {
        DBOS_CHECK((uint8_t)types[i] == step->parameters[i].type);
    }
    step->statement.parameters = step->parameters;
    step->statement.parameter_count = count;
}

static enum dbos_err make_plan(struct step *step, struct dbos_errinfo *info) {
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(world.engine);
    enum dbos_err err = dbos_plan_make(dbos_engine_session_alloc(world.engine), catalog,
                                       dbos_engine_procs(world.engine), scripts[step->op->kind], 0,
                                       NULL, 0, &step->statement.plan, info);
    dbos_catalog_unref(catalog);
    if (err == DBOS_OK) {
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
                                  .key = other->key};
            return true;
        }
    }
    return false;
}

static void invent(struct sim_op *op) {
    static const uint8_t weights[SIM_KINDS] = {18, 20, 8, 4, 5, 20, 4, 5, 3, 5, 2, 1, 1};
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

static void submit(struct client *client, struct step *step) {
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

/* Nothing is slow, and nothing fails: nobody waits for long. */
static void judge_time(const struct sim_op *op) {
    uint64_t took_ns = op->acked_ns - op->begun_ns;
    if (took_ns > ANSWER_NS_MAX && !world.is_slow && !world.had_fault && !world.has_small_backlog) {
        wrong("operation %u took %llu us", (unsigned)(op - world.ops),
              (unsigned long long)(took_ns / 1000));
    }
}

static void tell(struct step *step) {
    struct sim_op *op = step->op;
    op->answer = read_reply(&step->request.reply);
    op->position = step->request.position;
    op->is_acked = true;
    op->acked_ns = sim_now_ns();
    world.acked++;
    judge_time(op);
    for (uint32_t i = 0; i < 6; i++) {
        sim_trace((uint64_t)op->answer.error[i % sizeof op->answer.error]);
    }
    sim_trace((uint64_t)op->answer.values[0]);
    if (op->position != 0 && op->position <= op->after) {
        wrong("operation %u took position %llu behind an acknowledged %llu",
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

static void *client_main(void *arg) {
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

static void on_durable(void *arg) {
    (void)arg;
    sim_wake(&world.clients_left);
}

/* --- the judge ------------------------------------------------------------------------------- */

struct walk {
    struct dbos_record_scratch scratch;
    uint64_t last;
    uint64_t first; /* that the log still has; 0 = none */
};

/* A block of a table is one row's for ever. */
static void judge_birth(const struct dbos_event *event) {
    enum { PLACES = 65536 };
    static uint64_t born[PLACES];
    uint64_t key = dbos_mix64(event->block * 1000003 + event->table_id) | 1;
    uint64_t at = key % PLACES;
    while (born[at] != 0 && born[at] != key) {
        at = (at + 1) % PLACES;
    }
    if (born[at] == key) {
        wrong("block %llu of table %u has been another row's", (unsigned long long)event->block,
              event->table_id);
    }
    born[at] = key;
}

/* The read that a look at one row leaves, and the writes that the model expects. */
static void judge_events(const struct sim_op *op, const struct dbos_record_head *head,
                         struct dbos_record_decoder *decoder, uint32_t writes) {
    struct dbos_event event;
    uint32_t found = 0;
    uint64_t reads = 0;
    bool is_absent = false;
    while (dbos_record_next(decoder, &event)) {
        found += event.op == DBOS_EVENT_INSERT || event.op == DBOS_EVENT_UPDATE ||
                 event.op == DBOS_EVENT_DELETE;
        if (event.op == DBOS_EVENT_INSERT) {
            judge_birth(&event);
        }
        reads += event.op == DBOS_EVENT_READ ? event.count : 0;
        is_absent |= event.op == DBOS_EVENT_ABSENT;
    }
    bool is_ddl = op->kind == SIM_INDEX || op->kind == SIM_DROP_INDEX;
    if (!is_ddl && found != writes) {
        wrong("position %llu wrote %u rows, the model %u", (unsigned long long)head->position,
              found, writes);
    }
    if (op->kind == SIM_GET && head->outcome == DBOS_OK &&
        (reads != op->answer.rows || (reads == 0) != is_absent) && op->is_acked) {
        wrong("position %llu read %llu rows and sent %u", (unsigned long long)head->position,
              (unsigned long long)reads, op->answer.rows);
    }
}

static void expect_answer(const struct sim_op *op, const struct sim_answer *expected,
                          const char *where) {
    char told[200];
    char should[200];
    if (sim_answers_agree(&op->answer, expected)) {
        return;
    }
    sim_describe(op, &op->answer, told, sizeof told);
    sim_describe(op, expected, should, sizeof should);
    wrong("operation %u, %s, was told\n  %s, position %llu; it should be\n  %s",
          (unsigned)(op - world.ops), where, told, (unsigned long long)op->position, should);
}

static struct sim_op *op_of(const struct dbos_record_head *head) {
    bool is_ours = head->request > 0 && head->request <= world.op_count;
    struct sim_op *op = is_ours ? &world.ops[head->request - 1] : NULL;
    return op != NULL && op->life >= world.unjudged ? op : NULL;
}

/* A record of the life before, in the order of the log: the model does the same. */
static void judge_new(const struct dbos_record_head *head, struct dbos_record_decoder *decoder) {
    struct sim_op *op = op_of(head);
    struct dbos_event event;
    uint32_t writes = 0;
    if (op == NULL) {
        if (head->position > SETUP) {
            wrong("position %llu is of request %llu, which nobody made",
                  (unsigned long long)head->position, (unsigned long long)head->request);
        }
        while (dbos_record_next(decoder, &event)) {
        }
        return;
    }
    if (op->logged != 0) {
        wrong("operation %u stands at %llu and at %llu", (unsigned)(op - world.ops),
              (unsigned long long)op->logged, (unsigned long long)head->position);
    }
    op->logged = head->position;
    if (op->is_acked && op->position != op->logged) {
        wrong("operation %u was told position %llu and stands at %llu", (unsigned)(op - world.ops),
              (unsigned long long)op->position, (unsigned long long)op->logged);
    }
    struct sim_answer expected =
        sim_model_run(&world.model, op, head->position, head->outcome != DBOS_OK, &writes);
    if (op->is_acked) {
        expect_answer(op, &expected, "in the log");
    }
    if ((head->outcome == DBOS_OK) != (expected.error[0] == '\0')) {
        wrong("position %llu has outcome %u, the model '%s'", (unsigned long long)head->position,
              head->outcome, expected.error);
    }
    judge_events(op, head, decoder, writes);
}

static void judge_old(const struct dbos_record_head *head, struct dbos_record_decoder *decoder) {
    const struct position *known = &world.positions[head->position];
    struct dbos_event event;
    if (known->session != head->session || known->request != head->request) {
        wrong("position %llu has changed", (unsigned long long)head->position);
    }
    while (dbos_record_next(decoder, &event)) {
    }
}

static void judge_record(struct walk *walk, const struct dbos_record_head *head,
                         struct dbos_record_decoder *decoder) {
    struct dbos_errinfo info = {0};
    if (head->position != walk->last + 1 || head->position >= POSITIONS_MAX) {
        wrong("position %llu follows %llu", (unsigned long long)head->position,
              (unsigned long long)walk->last);
    }
    walk->last = head->position;
    if (head->position <= world.judged) {
        judge_old(head, decoder);
    } else {
        judge_new(head, decoder);
        world.positions[head->position] =
            (struct position){.session = head->session, .request = head->request};
    }
    if (dbos_record_end(decoder, &info) != DBOS_OK) {
        wrong("position %llu: %s", (unsigned long long)head->position, info.message);
    }
}

/* What the archive has is what the log has. */
static void judge_copy(uint64_t position, const uint8_t *record, size_t size_bytes) {
    size_t kept_bytes = 0;
    const uint8_t *kept = sim_archive_record(position, &kept_bytes);
    if (kept != NULL && (kept_bytes != size_bytes || memcmp(kept, record, size_bytes) != 0)) {
        wrong("the archive has another position %llu than the log", (unsigned long long)position);
    }
}

static void judge_bytes(struct walk *walk, const uint8_t *record, size_t size_bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_errinfo info = {0};
    if (dbos_record_open(record, size_bytes, &walk->scratch, &head, &decoder, &info) != DBOS_OK) {
        wrong("a record: %s", info.message);
    }
    judge_copy(head.position, record, size_bytes);
    judge_record(walk, &head, &decoder);
}

/* The log begins where the archive does not end: what was cut off it is read there. */
static void begin_walk(struct walk *walk, const struct dbos_batch *batch) {
    walk->first = batch->first_position;
    if (walk->first > sim_archive_exported() + 1) {
        wrong("the log begins at %llu, the archive ends at %llu", (unsigned long long)walk->first,
              (unsigned long long)sim_archive_exported());
    }
    for (walk->last = world.judged; walk->last + 1 < walk->first;) {
        size_t size_bytes = 0;
        const uint8_t *record = sim_archive_record(walk->last + 1, &size_bytes);
        judge_bytes(walk, record, size_bytes);
    }
    walk->last = walk->first - 1;
}

static void judge_batch(struct walk *walk, const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    const uint8_t *record = NULL;
    if (walk->first == 0) {
        begin_walk(walk, batch);
    }
    while ((record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        judge_bytes(walk, record, size_bytes);
    }
}

static enum dbos_read_result read_log(struct walk *walk, bool judges, struct dbos_errinfo *info) {
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    enum dbos_read_result result;
    uint32_t lowest = 0;
    uint32_t highest = 0;
    dbos_record_scratch_init(&walk->scratch, &world.alloc);
    if (dbos_log_segment_range(sim_disk_env(), data_dir, &lowest, &highest, info) != DBOS_OK ||
        dbos_log_reader_open(&world.alloc, sim_disk_env(), data_dir, lowest, 0, &reader, info) !=
            DBOS_OK) {
        wrong("the log: %s", info->message);
    }
    while ((result = dbos_log_reader_next(reader, &batch, info)) == DBOS_READ_BATCH) {
        if (judges) {
            judge_batch(walk, &batch);
        }
    }
    dbos_log_reader_close(reader);
    dbos_record_scratch_fini(&walk->scratch);
    return result;
}

static uint64_t walk_log(void) {
    struct dbos_errinfo info = {0};
    struct walk walk = {0};
    if (world.is_damaged && read_log(&walk, false, &info) == DBOS_READ_CORRUPT) {
        sim_crash(); /* before the snapshot that it began with: the archiver refuses it */
    }
    if (read_log(&walk, true, &info) == DBOS_READ_CORRUPT) {
        wrong("the log: %s", info.message);
    }
    if (walk.first != 0 && world.engine->recovery.first_position != walk.first &&
        !world.had_fault) { /* of an old segment that can not be read it says nothing */
        wrong("the log begins at %llu, recovery says %llu", (unsigned long long)walk.first,
              (unsigned long long)world.engine->recovery.first_position);
    }
    if (sim_archive_exported() > walk.last) {
        wrong("the archive ends at %llu, the log at %llu",
              (unsigned long long)sim_archive_exported(), (unsigned long long)walk.last);
    }
    return walk.last;
}

/* Asynchronously, and told so long before the end that it was written since. */
static bool was_flushed(const struct sim_op *op) {
    return op->is_flushed_in_time && op->acked_ns + ASYNC_NS_MAX < world.ended_ns;
}

/* What was told and has no place in the log: a read whose own record was lost saw only what is
 * there; everything else that was told and should be there is lost. */
static void judge_unlogged(void) {
    for (uint32_t i = 0; i < world.op_count; i++) {
        struct sim_op *op = &world.ops[i];
        if (op->life < world.unjudged || !op->is_acked || op->logged != 0 ||
            !(op->is_sync || was_flushed(op))) {
            continue;
        }
        uint32_t writes = 0;
        bool is_full = strcmp(op->answer.error, "53100") == 0;
        if (op->position == 0 || is_full) {
            continue; /* it left no record: an error that met nothing, or nothing was read */
        }
        struct sim_answer expected = sim_model_run(&world.model, op, op->position, true, &writes);
        if (writes != 0 && op->answer.error[0] == '\0') {
            char told[200];
            sim_describe(op, &op->answer, told, sizeof told);
            wrong("LOST: operation %u was acknowledged at position %llu: %s", i,
                  (unsigned long long)op->position, told);
        }
        expect_answer(op, &expected, "its record lost");
    }
}

/* --- rows ------------------------------------------------------------------------------------ */

static void judge_rows(void) {
    uint32_t found = 0;
    struct dbos_catalog *catalog = dbos_store_catalog(world.engine->store);
    struct dbos_table_def *def = dbos_catalog_table(catalog, "public", "t");
    DBOS_CHECK(def != NULL);
    for (int64_t k = 0; k < SIM_KEYS; k++) {
        struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, k);
        uint32_t partition = dbos_store_partition_of(world.engine->store, dbos_slot_of(&key));
        struct dbos_table *table = dbos_store_table(world.engine->store, def->id, partition);
        const struct dbos_row *row = dbos_table_find(table, 0, &key);
        const struct sim_row *model = &world.model.rows[k];
        if ((row != NULL) != model->is_there) {
            wrong("row %lld is %s", (long long)k, row == NULL ? "lost" : "there again");
        }
        if (row == NULL) {
            continue;
        }
        struct dbos_datum n = dbos_row_column(def, row, 1);
        struct dbos_datum v = dbos_row_column(def, row, 2);
        found++;
        if (n.integer != model->n || v.bytes.size_bytes != model->text_bytes ||
            row->position != model->position) {
            wrong("row %lld is (%lld, %zu bytes, position %llu), the model (%lld, %u, %llu)",
                  (long long)k, (long long)n.integer, (size_t)v.bytes.size_bytes,
                  (unsigned long long)row->position, (long long)model->n, model->text_bytes,
                  (unsigned long long)model->position);
        }
    }
    sim_trace(found);
}

/* What verification has said of the disk is what start-up finds. */
static void judge_verification(void) {
    const struct dbos_log_findings *seen = &world.seen;
    const struct dbos_recovery *recovery = &world.engine->recovery;
    if (world.is_damaged || world.had_fault) {
        return;
    }
    if (world.seen_err != DBOS_OK) {
        if (recovery->last_position != 0) { /* else there was nothing yet, not even a directory */
            wrong("verification found damage, and recovery none: %s", world.seen_info.message);
        }
        return;
    }
    const struct {
        const char *what;
        uint64_t seen;
        uint64_t found;
    } facts[] = {
        {"the last position", seen->log.last_position, recovery->last_position},
        {"the first position", seen->log.first_position, recovery->first_position},
        {"the state hash", seen->log.state_hash, recovery->state_hash},
        {"records", seen->log.records, recovery->records},
        {"batches", seen->log.batches, recovery->batches},
        {"bytes", seen->log.bytes, recovery->bytes},
        {"torn bytes", seen->log.torn_bytes, recovery->torn_bytes},
        {"the last commit", (uint64_t)seen->log.last_commit_us, (uint64_t)recovery->last_commit_us},
        {"the snapshot", seen->snapshot.position, world.engine->loaded.position},
        {"its rows", seen->snapshot.rows, world.engine->loaded.rows},
        {"its bytes", seen->snapshot.bytes, world.engine->loaded.bytes},
    };
    for (uint32_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (facts[i].seen != facts[i].found) {
            wrong("%s: verification saw %llu, recovery %llu", facts[i].what,
                  (unsigned long long)facts[i].seen, (unsigned long long)facts[i].found);
        }
    }
}

static void judge(void) {
    judge_verification();
    uint64_t last = walk_log();
    if (last != world.engine->recovery.last_position || last < world.judged) {
        wrong("the log ends at %llu, recovery says %llu; %llu had been recovered before",
              (unsigned long long)last, (unsigned long long)world.engine->recovery.last_position,
              (unsigned long long)world.judged);
    }
    judge_unlogged();
    world.judged = last;
    world.unjudged = world.life;
    judge_rows();
    uint64_t hash = dbos_store_state_hash(world.engine->store);
    if (world.state_hash != 0 && hash != world.state_hash) {
        wrong("the state hash was %llx at the stop and is %llx",
              (unsigned long long)world.state_hash, (unsigned long long)hash);
    }
    world.state_hash = 0;
}

/* --- a life ---------------------------------------------------------------------------------- */

static void make_tables(void) {
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

static void choose_mood(struct sim_disk_mood *mood) {
    static const uint32_t slow[] = {0, 0, 3, 30};
    *mood = (struct sim_disk_mood){.slow_per_mille = slow[sim_dice(4)]};
    if (sim_dice(3) == 0) {
        mood->fail_per_million = sim_dice(2) == 0 ? 1000 : 5000;
    }
    if (sim_dice(5) == 0) {
        mood->room_bytes = sim_disk_bytes() + sim_dice(200000);
    }
    if (sim_dice(3) != 0) {
        mood->crash_at = 1 + sim_dice(sim_dice(2) == 0 ? 60 : 2000);
    }
}

static void choose_clients(void) {
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

static void open_engine(void) {
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .env = sim_disk_env(),
        .data_dir = data_dir,
        .program_dir = "",
        .partitions = world.partitions,
        .durability = world.is_sync ? DBOS_DURABILITY_SYNC : DBOS_DURABILITY_ASYNC,
        .archive = world.has_archive,
        .archive_backlog_max = world.has_small_backlog ? 20000 + sim_dice(100000) : UINT64_MAX,
        .segment_bytes = sim_dice(4) == 0 ? 1 + sim_dice(200000) : 65536,
        .snapshot_log_bytes = sim_dice(3) == 0 ? UINT64_MAX : 20000 + sim_dice(100000),
    };
    dbos_alloc_init(&world.alloc, "sim", 0);
    enum dbos_err err = dbos_engine_open(&world.alloc, &options, &world.engine, &info);
    if (err != DBOS_OK && !world.had_fault && !world.is_damaged) {
        wrong("it does not start: %s", info.message);
    }
    if (err != DBOS_OK && !world.had_fault && world.seen_err == DBOS_OK) {
        wrong("verification found nothing, and it does not start: %s", info.message);
    }
    if (err != DBOS_OK) {
        sim_crash(); /* whoever runs the node starts it again */
    }
    world.snapshots += world.engine->loaded.position != 0;
    if (world.engine->damaged_snapshots != 0 && !world.had_fault && !world.is_damaged) {
        wrong("a snapshot that counted is damaged");
    }
}

/* Nothing is changed by it, and nothing stays open. */
static void verify(void) {
    struct dbos_alloc alloc;
    uint64_t before = sim_disk_hash();
    dbos_alloc_init(&alloc, "verification", 0);
    world.seen_err = dbos_log_verify(&alloc, sim_disk_env(), data_dir, &world.seen, &world.seen_info);
    dbos_alloc_fini(&alloc);
    if (sim_disk_hash() != before || sim_disk_open_files() != 0) {
        wrong("verification has changed the disk, or left %u files open", sim_disk_open_files());
    }
}

/* The disk gets room again, after a while. */
static void *make_room(void *arg) {
    struct sim_disk_mood mood = *(struct sim_disk_mood *)arg;
    sim_sleep(5000000000);
    mood.room_bytes = 0;
    mood.crash_at = 0;
    sim_disk_set(&mood);
    return NULL;
}

/* With a good disk, in the end: the log is on it, there is room, and the archive has all of it. */
static void settle(bool is_last) {
    static const struct sim_disk_mood good = {0};
    uint64_t last = dbos_log_last_position(world.engine->log);
    sim_disk_set(&good);
    sim_set(20, 0);
    if (!is_last) {
        return;
    }
    sim_sleep(SETTLE_NS);
    if (dbos_engine_durable(world.engine) != last || dbos_log_synced(world.engine->log) != last) {
        wrong("of %llu positions %llu are durable and %llu synced", (unsigned long long)last,
              (unsigned long long)dbos_engine_durable(world.engine),
              (unsigned long long)dbos_log_synced(world.engine->log));
    }
    if (dbos_log_is_disk_full(world.engine->log)) {
        wrong("it takes the disk for full");
    }
    if (world.has_archive && sim_archive_taken() != last) {
        wrong("of %llu positions the archive has %llu", (unsigned long long)last,
              (unsigned long long)sim_archive_taken());
    }
}

/* All that was appended was written, and is counted. */
static void judge_stop(void) {
    struct dbos_log_stats stats;
    dbos_log_wait(world.engine->log, dbos_log_last_position(world.engine->log));
    dbos_log_stats(world.engine->log, &stats);
    uint64_t taken = dbos_log_last_position(world.engine->log);
    if (stats.in_flight_bytes != 0 || dbos_engine_durable(world.engine) != taken ||
        stats.records != taken - world.engine->recovery.last_position) {
        wrong("at the stop %llu bytes are on their way, and %llu records written of %llu",
              (unsigned long long)stats.in_flight_bytes, (unsigned long long)stats.records,
              (unsigned long long)(taken - world.engine->recovery.last_position));
    }
}

static void live(void *arg) {
    static struct sim_disk_mood mood;
    static const struct sim_disk_mood good = {0};
    struct dbos_errinfo info = {0};
    bool is_last = *(bool *)arg;
    choose_mood(&mood);
    mood = is_last || world.life == 0 ? good : mood;
    world.had_fault = mood.fail_per_million != 0 || mood.room_bytes != 0;
    world.is_slow = mood.slow_per_mille != 0;
    sim_disk_set(&good);
    if (world.life != 0) {
        verify();
    }
    uint64_t crash_at = mood.crash_at;
    if (world.life != 0 && sim_dice(3) != 0) {
        mood.crash_at = 0; /* most of the time not while it starts */
    }
    sim_disk_set(&mood);
    open_engine();
    mood.crash_at = 0;
    uint32_t fail_per_million = mood.fail_per_million;
    sim_disk_set(&good);
    if (world.life != 0) {
        judge();
    }
    mood.crash_at = crash_at;
    mood.fail_per_million = fail_per_million;
    choose_clients();
    if (dbos_engine_start(world.engine, on_durable, NULL, &info) != DBOS_OK) {
        wrong("it does not run: %s", info.message);
    }
    if (world.life == 0) {
        make_tables();
    }
    if (!is_last) {
        sim_disk_set(&mood);
        if (mood.room_bytes != 0) {
            sim_spawn("room", make_room, &mood);
        }
        sim_set((uint32_t)sim_dice(200), sim_dice(4) == 0 ? 1 + sim_dice(40000) : 0);
    }
    world.clients_left = world.client_count;
    for (uint32_t i = 0; i < world.client_count; i++) {
        sim_spawn("client", client_main, &world.clients[i]);
    }
    while (world.clients_left != 0) {
        sim_wait(&world.clients_left, UINT64_MAX);
    }
    settle(is_last);
    dbos_engine_stop(world.engine);
    judge_stop();
    uint64_t hash = dbos_store_state_hash(world.engine->store);
    dbos_engine_close(world.engine);
    dbos_alloc_fini(&world.alloc);
    if (sim_disk_open_files() != 0) {
        wrong("%u files are open after the stop", sim_disk_open_files());
    }
    world.state_hash = hash;
    world.is_stopped = true;
}

static void say_life(enum sim_end end) {
    static const char *const ends[] = {"stopped", "the machine went down", "the process ended"};
    if (world.is_loud) {
        (void)fprintf(
            stderr,
            "life %u: %u partitions, %s, %u operations so far, %u acknowledged, log judged "
            "to %llu: %s\n",
            world.life, world.partitions, world.is_sync ? "sync" : "async", world.op_count,
            world.acked, (unsigned long long)world.judged, ends[end]);
    }
}

static void run_life(bool is_last) {
    uint32_t left = world.operations > world.op_count ? world.operations - world.op_count : 0;
    uint32_t most = SIM_OPS_MAX - world.op_count - PIPELINE_MAX;
    world.partitions = 1 + (uint32_t)sim_dice(4);
    world.is_sync = world.life == 0 || sim_dice(5) != 0; /* the tables are there to stay */
    world.quota = is_last ? 50 : 1 + (uint32_t)sim_dice(left / 2 + 200);
    world.quota = world.quota > most ? most : world.quota;
    world.acked_position = world.judged;
    world.is_stopped = false;
    world.has_archive = is_last || sim_dice(6) != 0;
    world.has_small_backlog = !is_last && sim_dice(4) == 0;
    sim_set(20, 0);
    uint64_t before = sim_disk_fired()[SIM_CRASH_AT_OPERATION];
    world.is_damaged = !is_last && world.life > 0 && sim_dice(4) == 0;
    if (world.is_damaged) {
        sim_disk_flip();
    }
    sim_archive_begin(data_dir, world.is_damaged);
    enum sim_end end = sim_life(live, &is_last);
    world.ended_ns = sim_now_ns();
    if (end == SIM_CRASH && sim_disk_fired()[SIM_CRASH_AT_OPERATION] == before) {
        sim_note_fault(SIM_CRASH_AT_SWITCH);
    }
    if (end == SIM_DONE && !world.is_stopped) {
        wrong("a life ended without its end");
    }
    if (end != SIM_DONE) {
        world.state_hash = 0;
        world.crashes++;
        sim_disk_crash(end == SIM_CRASH);
    }
    if (world.is_damaged) {
        sim_disk_flip_back();
    }
    say_life(end);
    world.life++;
}

void world_run(uint64_t seed, uint32_t operations, bool is_loud, struct world_facts *out) {
    world.seed = seed;
    world.operations = operations;
    world.is_loud = is_loud;
    sim_open(seed, is_loud);
    world.large_one_in = sim_dice(3) == 0 ? 3 : 20;
    while (world.op_count < operations || world.crashes == 0) {
        run_life(false);
    }
    run_life(true);
    run_life(true); /* which judges the one before it */
    *out = (struct world_facts){.seed = seed,
                                .operations = world.op_count,
                                .acked = world.acked,
                                .lives = world.life,
                                .crashes = world.crashes,
                                .records = (uint32_t)world.judged,
                                .snapshots = world.snapshots,
                                .trace = sim_trace_hash()};
    memcpy(out->fired, sim_disk_fired(), sizeof out->fired);
}
