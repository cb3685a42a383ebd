/* The oracle by itself, on a history small enough to be worked out by hand. */
#include <stdio.h>
#include <stdlib.h>

#include "tests/model/program.h"

static void expect(bool condition, const char *what, int line) {
    if (!condition) {
        (void)fprintf(stderr, "oracle_test.c:%d: %s\n", line, what);
        exit(1);
    }
}
#define EXPECT(condition) expect((condition), #condition, __LINE__)

static struct oracle_reply run(struct oracle *o, int32_t partition, const struct model_op *ops,
                               uint32_t count) {
    struct oracle_request request = {.partition = partition, .op_count = count};
    for (uint32_t i = 0; i < count; i++) {
        request.ops[i] = ops[i];
    }
    return oracle_run(o, &request);
}
#define RUN(o, ...)                                                                                \
    run((o), ORACLE_ALL_PARTITIONS, (const struct model_op[]){__VA_ARGS__},                        \
        sizeof((const struct model_op[]){__VA_ARGS__}) / sizeof(struct model_op))
#define ADD(table_, a_, g_, v_)                                                                    \
    { .kind = MODEL_INSERT, .table = (table_), .a = (a_), .x = (g_), .y = (v_), .s = -1 }
#define READ(a_)                                                                                   \
    { .kind = MODEL_READ_KEY, .table = MODEL_ITEMS, .a = (a_) }

/* Three rows; 1 flows into 2 (same transaction, later statement), not into what was written before
 * it was read; an aborted transaction leaves its read and nothing else. */
static void test_edges(struct dbos_alloc *alloc) {
    struct oracle o;
    oracle_open(alloc, 2, &o);
    EXPECT(RUN(&o, ADD(MODEL_ITEMS, 1, 5, 10), ADD(MODEL_ITEMS, 2, 5, 20)).txn == 0);
    EXPECT(RUN(&o, ADD(MODEL_ITEMS, 1, 5, 10)).outcome == ORACLE_DUPLICATE);
    EXPECT(o.txn_count == 1 && o.version_count == 2);
    struct oracle_reply reply =
        RUN(&o, ADD(MODEL_NOTES, 7, 0, 0), READ(1),
            {.kind = MODEL_UPDATE, .table = MODEL_ITEMS, .a = 2, .x = 1, .s = 3});
    EXPECT(reply.outcome == ORACLE_DONE && reply.txn == 1 && o.version_count == 4);
    EXPECT(RUN(&o, READ(2), {.kind = MODEL_DELETE, .table = MODEL_ITEMS, .a = 2},
               {.kind = MODEL_ABORT})
               .outcome == ORACLE_GAVE_UP);
    EXPECT(o.txn_count == 3 && !o.txns[2].committed && o.txns[2].read_count == 2);
    EXPECT(oracle_find(&o, MODEL_ITEMS, 2, 0) == 3 && o.versions[3].row.v == 21);

    uint32_t depths[4];
    struct oracle_list blocks = {0};
    struct oracle_list starts = {0};
    oracle_blocks(&o, MODEL_ITEMS, 1, 0, &blocks);
    oracle_history(&o, &blocks, &starts);
    EXPECT(blocks.count == 1 && starts.count == 1 && starts.items[0] == 0);
    oracle_downstream(&o, &starts, depths);
    EXPECT(depths[0] == 0 && depths[1] == ORACLE_NONE && depths[2] == ORACLE_NONE &&
           depths[3] == 1);
    starts.items[0] = 3;
    oracle_upstream(&o, &starts, depths);
    EXPECT(depths[0] == 1 && depths[1] == 1 && depths[2] == ORACLE_NONE && depths[3] == 0);
    oracle_list_close(alloc, &blocks);
    oracle_list_close(alloc, &starts);
    oracle_close(&o);
}

/* A range of an index reads what lies in it, a scan everything, a partition only its own. */
static void test_what_is_read(struct dbos_alloc *alloc) {
    struct oracle o;
    oracle_open(alloc, 2, &o);
    for (int32_t a = 0; a < 10; a++) {
        EXPECT(RUN(&o, ADD(MODEL_ITEMS, a, a, a)).outcome == ORACLE_DONE);
    }
    struct model_op range = {.kind = MODEL_READ_GROUPS, .table = MODEL_ITEMS, .x = 3, .y = 6};
    struct model_op values = {.kind = MODEL_READ_VALUES, .table = MODEL_ITEMS, .x = 3, .y = 6};
    EXPECT(o.txns[RUN(&o, range).txn].read_count == 3);
    EXPECT(o.txns[RUN(&o, values).txn].read_count == 10);
    o.value_index[MODEL_ITEMS] = true;
    EXPECT(o.txns[RUN(&o, values).txn].read_count == 3);
    struct model_op scan = {.kind = MODEL_READ_SCAN, .table = MODEL_ITEMS, .x = 4};
    uint32_t part[2] = {0, 0};
    for (int32_t p = 0; p < 2; p++) {
        part[p] = o.txns[run(&o, p, &scan, 1).txn].read_count;
    }
    EXPECT(part[0] + part[1] == 10 && part[0] > 0 && part[1] > 0);
    EXPECT(o.txns[RUN(&o, READ(99)).txn].absent_count == 1);
    EXPECT(o.txns[RUN(&o, READ(99)).txn].read_count == 0);
    oracle_close(&o);
}

/* A deleted key comes back as another block; a copy is of its own time; a read of what an aborted
 * transaction wrote is a read of what was there before. */
static void test_time(struct dbos_alloc *alloc) {
    struct oracle o;
    struct oracle_list blocks = {0};
    uint32_t count = 0;
    oracle_open(alloc, 2, &o);
    EXPECT(RUN(&o, ADD(MODEL_PAIRS, 1, 1, 1)).txn == 0);
    EXPECT(RUN(&o, {.kind = MODEL_DELETE, .table = MODEL_PAIRS, .a = 1}).txn == 1);
    EXPECT(RUN(&o, ADD(MODEL_PAIRS, 1, 2, 2), ADD(MODEL_ITEMS, 1, 1, 1)).txn == 2);
    oracle_blocks(&o, MODEL_PAIRS, 1, 0, &blocks);
    EXPECT(blocks.count == 2);
    EXPECT(*oracle_copy(&o, 0, MODEL_PAIRS, &count) == 0 && count == 1);
    (void)oracle_copy(&o, 1, MODEL_PAIRS, &count);
    EXPECT(count == 0);
    EXPECT(o.versions[*oracle_copy(&o, 2, MODEL_PAIRS, &count)].row.v == 2 && count == 1);
    uint32_t txn = RUN(&o, ADD(MODEL_ITEMS, 5, 1, 1), READ(5), {.kind = MODEL_ABORT}).txn;
    EXPECT(txn == 3 && o.txns[txn].read_count == 0);
    txn = RUN(&o, {.kind = MODEL_UPDATE, .table = MODEL_ITEMS, .a = 1, .x = 1, .s = -1}, READ(1),
              {.kind = MODEL_ABORT})
              .txn;
    EXPECT(o.txns[txn].read_count == 2);
    EXPECT(o.reads[o.txns[txn].read_first + 1].version == oracle_find(&o, MODEL_ITEMS, 1, 0));
    oracle_list_close(alloc, &blocks);
    oracle_close(&o);
}

static bool reaches(struct oracle *o, uint32_t from, uint32_t to, bool down, uint32_t *depths) {
    struct oracle_list starts = {.items = &from, .count = 1};
    if (down) {
        oracle_downstream(o, &starts, depths);
    } else {
        oracle_upstream(o, &starts, depths);
    }
    return depths[to] != ORACLE_NONE;
}

static void expect_inverse(struct oracle *o, struct dbos_rng *rng) {
    uint32_t *depths = dbos_take(o->alloc, o->version_count * sizeof *depths);
    EXPECT(depths != NULL);
    uint32_t reached = 0;
    for (int i = 0; i < 200; i++) {
        uint32_t from = (uint32_t)dbos_rng_below(rng, o->version_count);
        uint32_t to = (uint32_t)dbos_rng_below(rng, o->version_count);
        bool down = reaches(o, from, to, true, depths);
        uint32_t depth = depths[to];
        EXPECT(reaches(o, to, from, false, depths) == down && depths[from] == depth);
        reached += down;
    }
    EXPECT(reached > 0 && reached < 200);
    dbos_give(o->alloc, depths);
}

/* What random requests do is worth comparing: they succeed and fail, hit and miss, and the tables
 * neither run empty nor over. */
static void test_random_requests(struct dbos_alloc *alloc, bool print) {
    struct oracle o;
    struct dbos_rng rng;
    uint32_t outcomes[4] = {0};
    uint32_t rows = 0;
    uint32_t absent = 0;
    oracle_open(alloc, 2, &o);
    dbos_rng_init(&rng, 1);
    struct program_source source = {.rng = &rng, .oracle = &o, .later_exists = true};
    for (uint32_t i = 0; i < 1000; i++) {
        struct oracle_request request;
        char text[PROGRAM_TEXT_BYTES];
        if (i < PROGRAM_LOAD_PARTS) {
            program_load(&source, i, &request);
        } else {
            program_random(&source, i % PROGRAM_USERS, false, &request);
        }
        program_text(&request, text);
        if (print) {
            (void)printf("%s\n", text);
        }
        outcomes[oracle_run(&o, &request).outcome]++;
    }
    for (int t = 0; t < MODEL_TABLES; t++) {
        EXPECT(o.live[t].count > 0);
        rows += o.live[t].count;
    }
    for (uint32_t i = 0; i < o.txn_count; i++) {
        absent += o.txns[i].absent_count;
    }
    (void)printf("1,000 requests: %u done, %u gave up, %u duplicates, %u elsewhere; %u records, %u "
                 "versions, %u rows read, %u keys absent, %u rows at the end\n",
                 outcomes[ORACLE_DONE], outcomes[ORACLE_GAVE_UP], outcomes[ORACLE_DUPLICATE],
                 outcomes[ORACLE_ELSEWHERE], o.txn_count, o.version_count, o.read_count, absent,
                 rows);
    EXPECT(outcomes[ORACLE_DONE] > 500 && outcomes[ORACLE_GAVE_UP] > 20);
    EXPECT(outcomes[ORACLE_DUPLICATE] > 20 && outcomes[ORACLE_ELSEWHERE] > 5);
    EXPECT(rows > 100 && rows <= 1000 && absent > 50);
    expect_inverse(&o, &rng);
    oracle_close(&o);
}

int main(int argc, char **argv) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "oracle", 0);
    test_edges(&alloc);
    test_what_is_read(&alloc);
    test_time(&alloc);
    test_random_requests(&alloc, argc > 1 && strcmp(argv[1], "--print") == 0);
    dbos_alloc_fini(&alloc);
    (void)printf("the oracle does what was worked out by hand\n");
    return 0;
}
