/* The engine in one process, one partition and one thread, without a network: what a vote, a point
 * read and an insert cost. A line of JSON for each figure on stdout, progress on stderr.
 *
 *     bench_embedded [vote|vote-none|vote-async|vote-engine|storage|txn|all] [SECONDS] [PHONES]
 * [ROWS_MAX] [ROWS_MIN]
 *
 * vote     procs/examples/vote.c for SECONDS, phones drawn from PHONES, starting empty:
 *          path "txn" (begin, plan, commit) without a log and with one, and path "engine" (the same
 *          as a partition runs a request: its reply is encoded, too)
 * storage  rows (bigint, int) in a table with a hash index, ROWS_MIN..ROWS_MAX by powers of ten;
 *          and "memory-load", the floor: a load that waits for the one before it, in as much memory
 * txn      the same as transactions of one insert, or of one read that is recorded
 *
 * "ns" is time over operations of a loop that does nothing else. "ns_each" reads the clock around
 * each operation, as the peers' programs do, and has its cost ("clock" prints it) in it. Full
 * provenance is on wherever there is a transaction; the log is written by its own thread, async.
 * Each step is a process of its own, so that its resident memory is its own. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/regions.h"
#include "engine/engine_internal.h"

enum { BYTES_PER_ROW = 84, LINE_BYTES = 64, LOADS = 2000000 }; /* of the floor */
enum { MAX_VOTES = 10, CONTESTANTS = 6, READS = 2000000, BUILD_OPS_MIN = 1000000, BUILDS_MAX = 40 };

struct settings {
    double seconds;
    uint64_t phones;
    uint64_t rows_max;
    uint64_t rows_min;
};

struct step {
    void (*run)(const struct settings *settings, const struct step *step);
    const char *path;
    const char *log;
    uint64_t rows;
};

static void ensure(bool ok, const char *what, const struct dbos_errinfo *info) {
    if (!ok) {
        (void)fprintf(stderr, "bench_embedded: %s: %s\n", what, info == NULL ? "" : info->message);
        exit(1);
    }
}

/* -- time and chance ------------------------------------------------------------------------------
 */

static uint64_t now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* xorshift64: the peers' programs draw by the same one. */
static uint64_t draw(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Latencies: exact below 64 ns, then 64 classes for each power of two. */
struct latencies {
    uint64_t classes[60 * 64];
    uint64_t count;
    uint64_t sum_ns;
    uint64_t max_ns;
};

static void note_latency(struct latencies *all, uint64_t ns) {
    unsigned power = ns < 64 ? 0 : 63u - (unsigned)__builtin_clzll(ns);
    uint64_t class = ns < 64 ? ns : (uint64_t)(power - 5) * 64 + ((ns >> (power - 6)) & 63);
    all->classes[class]++;
    all->count++;
    all->sum_ns += ns;
    all->max_ns = ns > all->max_ns ? ns : all->max_ns;
}

static uint64_t quantile_ns(const struct latencies *all, double part) {
    uint64_t seen = 0;
    for (uint64_t i = 0; i < 60 * 64; i++) {
        seen += all->classes[i];
        if ((double)seen > part * (double)all->count) {
            uint64_t power = i / 64 + 5;
            return i < 64 ? i : (UINT64_C(1) << power) + ((i % 64) << (power - 6));
        }
    }
    return all->max_ns;
}

static uint64_t resident_bytes(void) {
    unsigned long long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file != NULL) {
        if (fscanf(file, "%*s %llu", &pages) != 1) {
            pages = 0;
        }
        (void)fclose(file);
    }
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void print_head(const char *workload, const struct step *step) {
    (void)printf("{\"system\":\"dbosd\",\"workload\":\"%s\",\"path\":\"%s\",\"log\":\"%s\"",
                 workload, step->path, step->log);
}

static void print_times(double ns, uint64_t ops, const struct latencies *each) {
    (void)printf(",\"ns\":%.1f,\"ops\":%llu", ns, (unsigned long long)ops);
    if (each->count != 0) {
        (void)printf(",\"ns_each\":%.1f,\"p50_ns\":%llu,\"p99_ns\":%llu,\"max_ns\":%llu",
                     (double)each->sum_ns / (double)each->count,
                     (unsigned long long)quantile_ns(each, 0.5),
                     (unsigned long long)quantile_ns(each, 0.99), (unsigned long long)each->max_ns);
    }
}

/* -- a node ---------------------------------------------------------------------------------------
 */

struct node {
    struct dbos_alloc alloc;
    char data_dir[256];
    struct dbos_engine *engine;
    struct dbos_txn *txn; /* of the partition, or one that leaves no record */
    struct dbos_log *log; /* NULL: not used */
    struct dbos_errinfo info;
};

static const struct dbos_session_info session = {
    .id = 1, .user = "bench", .role = "", .address = "127.0.0.1", .application = "embedded"};

static int64_t commit_time(void *arg) { return dbos_clock_next_us(arg); }

static void open_unlogged_txn(struct node *node) {
    struct dbos_engine *engine = node->engine;
    struct dbos_txn_options options = {
        .store = engine->store,
        .commit_time = commit_time,
        .commit_time_arg = &engine->clock,
        .partition = 0,
        .env = engine->env,
    };
    ensure(dbos_txn_open(&node->alloc, &options, &node->txn) == DBOS_OK, "transaction", NULL);
}

/* An engine whose threads, but the log's, are not started: the caller is the partition. */
static void open_node(struct node *node, bool logged) {
    const char *tmp = getenv("TMPDIR");
    memset(node, 0, sizeof *node);
    (void)snprintf(node->data_dir, sizeof node->data_dir, "%s/dbos-embedded-XXXXXX",
                   tmp == NULL ? "/tmp" : tmp);
    ensure(mkdtemp(node->data_dir) != NULL, "data directory", NULL);
    dbos_alloc_init(&node->alloc, "bench", 0);
    struct dbos_engine_options options = {
        .env = dbos_env_posix(),
        .data_dir = node->data_dir,
        .partitions = 1,
        .durability = DBOS_DURABILITY_ASYNC,
        .program_dir = "",
    };
    ensure(dbos_engine_open(&node->alloc, &options, &node->engine, &node->info) == DBOS_OK, "open",
           &node->info);
    ensure(dbos_log_start(node->engine->log, NULL, NULL, &node->info) == DBOS_OK, "log",
           &node->info);
    if (logged) {
        node->txn = node->engine->partitions[0].txn;
        node->log = node->engine->log;
        dbos_log_producer_works(node->log);
    } else {
        open_unlogged_txn(node);
    }
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *where) {
    (void)facts;
    (void)kind;
    (void)where;
    return remove(path);
}

static void close_node(struct node *node) {
    if (node->log != NULL) {
        dbos_log_producer_rests(node->log);
    } else {
        dbos_txn_close(node->txn);
    }
    dbos_engine_close(node->engine);
    dbos_alloc_fini(&node->alloc);
    (void)nftw(node->data_dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

/* Statements as one transaction under the barrier. */
static void run_script(struct node *node, const char *sql) {
    struct dbos_alloc *alloc = dbos_engine_session_alloc(node->engine);
    struct dbos_request request = {.kind = DBOS_REQUEST_SCRIPT, .session = &session};
    ensure(dbos_script_parse(alloc, sql, &request.script, &node->info) == DBOS_OK, sql,
           &node->info);
    dbos_buf_init(&request.reply, alloc);
    (void)dbos_request_run(node->engine, node->engine->barrier.txn, &request, 0);
    ensure(request.outcome == DBOS_OK, sql, &request.error);
    dbos_buf_fini(&request.reply);
    dbos_script_close(request.script);
}

static struct dbos_table *table_of(struct node *node, const char *name) {
    const struct dbos_table_def *def =
        dbos_catalog_table(dbos_store_catalog(node->engine->store), NULL, name);
    ensure(def != NULL, name, NULL);
    return dbos_store_table(node->engine->store, def->id, 0);
}

struct memory_sum {
    const char *prefix;
    uint64_t bytes;
};

static void add_memory(void *arg, const char *name, uint64_t bytes, uint64_t rows) {
    struct memory_sum *sum = arg;
    (void)rows;
    sum->bytes += strstr(name, sum->prefix) != NULL ? bytes : 0;
}

static uint64_t table_bytes(struct node *node, const char *name) {
    struct memory_sum sum = {.prefix = name};
    dbos_store_each_memory(node->engine->store, add_memory, &sum);
    return sum.bytes;
}

/* -- vote -----------------------------------------------------------------------------------------
 */

struct voter {
    struct node node;
    struct dbos_plan *plan;
    struct dbos_datum parameters[3];
    struct dbos_request request; /* path "engine" */
    struct dbos_request_statement statement;
    uint64_t number;
};

/* The reply's row, in place of a socket. */
struct outcome_sink {
    struct dbos_sink base;
    int64_t value;
};

static enum dbos_err keep_outcome(struct dbos_sink *base, const struct dbos_datum *datums,
                                  uint32_t count, struct dbos_errinfo *info) {
    (void)count;
    (void)info;
    ((struct outcome_sink *)(void *)base)->value = datums[0].integer;
    return DBOS_OK;
}

/* What dbos_request_run() does for a call, without the reply. */
static int64_t vote_by_txn(struct voter *voter) {
    struct node *node = &voter->node;
    struct dbos_env *env = node->engine->env;
    const struct dbos_procedure_info *procedure = dbos_plan_procedure(voter->plan);
    struct outcome_sink sink = {.base = {.row = keep_outcome}, .value = -1};
    struct dbos_outbox_batch tasks;
    uint32_t polls = 0;
    uint64_t rows = 0;
    uint64_t position = 0;
    if (node->log != NULL) {
        (void)dbos_log_wait_room(node->log, NULL, NULL);
    }
    struct dbos_txn_call call = {
        .session = &session,
        .request = ++voter->number,
        .procedure = procedure->id,
        .procedure_version = procedure->version,
        .arguments = voter->parameters,
        .argument_count = 3,
    };
    struct dbos_run run = {
        .txn = node->txn,
        .procs = node->engine->procs,
        .user = session.user,
        .deadline_ns = env->ops->mono_ns(env) + UINT64_C(5000000000),
        .env = env,
        .polls = &polls,
    };
    dbos_txn_begin(node->txn, &call);
    dbos_txn_statement(node->txn, dbos_plan_statement_id(voter->plan), dbos_plan_text(voter->plan));
    ensure(dbos_plan_run(voter->plan, &run, voter->parameters, 3, &sink.base, &rows, &node->info) ==
               DBOS_OK,
           "vote", &node->info);
    ensure(dbos_outbox_take(node->txn, &tasks, &node->info) == DBOS_OK, "tasks", &node->info);
    ensure(dbos_txn_commit(node->txn, &position, &node->info) == DBOS_OK, "commit", &node->info);
    return sink.value;
}

/* DataRow: 'D', length u32, columns u16, length u32, then the int4 in network order. */
static int64_t outcome_of_reply(const struct dbos_buf *reply) {
    const uint8_t *data = reply->data;
    ensure(reply->size_bytes > 15 && data[0] == 'D', "reply", NULL);
    return (int64_t)data[11] << 24 | (int64_t)data[12] << 16 | (int64_t)data[13] << 8 | data[14];
}

static int64_t vote_by_engine(struct voter *voter) {
    struct dbos_request *request = &voter->request;
    request->number = ++voter->number;
    dbos_buf_reset(&request->reply);
    (void)dbos_request_run(voter->node.engine, voter->node.txn, request, 0);
    ensure(request->outcome == DBOS_OK, "vote", &request->error);
    return outcome_of_reply(&request->reply);
}

static void open_voter(struct voter *voter, bool logged) {
    static const enum dbos_type types[] = {DBOS_TYPE_INT8, DBOS_TYPE_INT4, DBOS_TYPE_INT4};
    static const int16_t binary = 1;
    char sql[4096] = "";
    FILE *file = fopen(DBOS_SOURCE_DIR "/procs/examples/vote.sql", "r");
    ensure(file != NULL && fread(sql, 1, sizeof sql - 1, file) != 0, "vote.sql", NULL);
    (void)fclose(file);
    open_node(&voter->node, logged);
    run_script(&voter->node, sql);
    struct dbos_engine *engine = voter->node.engine;
    struct dbos_alloc *alloc = dbos_engine_session_alloc(engine);
    struct dbos_script *script = NULL;
    struct dbos_errinfo *info = &voter->node.info;
    ensure(dbos_script_parse(alloc, "SELECT vote($1, $2, $3)", &script, info) == DBOS_OK &&
               dbos_plan_make(alloc, dbos_store_catalog(engine->store), engine->procs, script, 0,
                              types, 3, &voter->plan, info) == DBOS_OK,
           "plan", info);
    dbos_script_close(script);
    ensure(dbos_plan_procedure(voter->plan) != NULL, "the plan calls no procedure", NULL);
    voter->statement = (struct dbos_request_statement){
        .plan = voter->plan,
        .parameters = voter->parameters,
        .parameter_count = 3,
        .formats = &binary,
        .format_count = 1,
    };
    voter->request = (struct dbos_request){
        .kind = DBOS_REQUEST_STATEMENTS,
        .session = &session,
        .statement_count = 1,
        .statements = &voter->statement,
        .timeout_us = 5000000,
    };
    dbos_buf_init(&voter->request.reply, alloc);
}

static void close_voter(struct voter *voter) {
    dbos_buf_fini(&voter->request.reply);
    dbos_plan_unref(voter->plan);
    close_node(&voter->node);
}

static bool cast_vote(struct voter *voter, int64_t (*vote)(struct voter *voter),
                      const struct settings *settings, uint64_t *chance) {
    voter->parameters[0] =
        dbos_datum_int(DBOS_TYPE_INT8, 2000000000 + (int64_t)(draw(chance) % settings->phones));
    voter->parameters[1] =
        dbos_datum_int(DBOS_TYPE_INT4, 1 + (int64_t)(draw(chance) % CONTESTANTS));
    voter->parameters[2] = dbos_datum_int(DBOS_TYPE_INT4, MAX_VOTES);
    return vote(voter) == 0;
}

static void bench_vote(const struct settings *settings, const struct step *step) {
    static struct voter voter;
    static struct latencies each;
    bool by_engine = strcmp(step->path, "engine") == 0;
    int64_t (*vote)(struct voter *) = by_engine ? vote_by_engine : vote_by_txn;
    uint64_t chance = UINT64_C(88172645463325252);
    uint64_t accepted = 0;
    open_voter(&voter, strcmp(step->log, "none") != 0);
    uint64_t warm = now_ns() + 500000000;
    while (now_ns() < warm) {
        accepted += cast_vote(&voter, vote, settings, &chance) ? 1 : 0;
    }
    uint64_t start = now_ns();
    uint64_t end = start + (uint64_t)(settings->seconds * 1e9);
    uint64_t before = start;
    while (before < end) {
        accepted += cast_vote(&voter, vote, settings, &chance) ? 1 : 0;
        uint64_t after = now_ns();
        note_latency(&each, after - before);
        before = after;
    }
    struct dbos_log_stats stats = {0};
    if (voter.node.log != NULL) {
        dbos_log_wait(voter.node.log, dbos_log_last_position(voter.node.log));
        dbos_log_stats(voter.node.log, &stats);
    }
    uint64_t rows = dbos_table_row_count(table_of(&voter.node, "votes"));
    ensure(rows == accepted, "rows and accepted votes differ", NULL);
    print_head("vote-inprocess", step);
    (void)printf(",\"rows\":%llu", (unsigned long long)rows);
    print_times((double)each.sum_ns / (double)each.count, each.count, &each);
    (void)printf(",\"tps\":%.0f,\"log_bytes_per_vote\":%.1f,\"records_per_batch\":%.1f}\n",
                 (double)each.count * 1e9 / (double)each.sum_ns,
                 (double)stats.bytes / (double)voter.number,
                 stats.batches == 0 ? 0.0 : (double)stats.records / (double)stats.batches);
    close_voter(&voter);
}

/* -- point read and insert ------------------------------------------------------------------------
 */

/* Either a table alone, or a table of a node behind transactions. */
struct rows_bench {
    struct node node;
    bool by_txn;
    struct dbos_alloc alloc; /* table alone, with what a node gives a table */
    struct dbos_alloc ahead;
    struct dbos_regions *regions;
    struct dbos_table_def *def;
    struct dbos_table *table;
    uint64_t request;
    int64_t sum; /* of what was read, so that it is read */
};

/* The key of the i-th row: distinct, and without any order. */
static struct dbos_datum key_of(uint64_t i) {
    return dbos_datum_int(DBOS_TYPE_INT8, (int64_t)dbos_mix64(i + UINT64_C(0x5851f42d4c957f2d)));
}

static void open_rows(struct rows_bench *bench, const struct step *step) {
    memset(bench, 0, sizeof *bench);
    bench->by_txn = strcmp(step->path, "txn") == 0;
    if (bench->by_txn) {
        open_node(&bench->node, strcmp(step->log, "none") != 0);
        run_script(&bench->node, "CREATE TABLE bench_rows (k bigint PRIMARY KEY, v int NOT NULL) "
                                 "PARTITION BY HASH (k)");
        bench->table = table_of(&bench->node, "bench_rows");
        bench->def = dbos_table_def_of(bench->table);
        return;
    }
    struct dbos_column columns[] = {
        {.id = 1, .name = "k", .type = DBOS_TYPE_INT8, .not_null = true},
        {.id = 2, .name = "v", .type = DBOS_TYPE_INT4, .not_null = true}};
    struct dbos_index_def index = {.id = 1000,
                                   .name = "bench_rows_pkey",
                                   .kind = DBOS_INDEX_HASH,
                                   .unique = true,
                                   .primary = true,
                                   .column_count = 1};
    struct dbos_table_parts parts = {.id = DBOS_TABLE_FIRST_USER,
                                     .schema_version = 1,
                                     .schema = "public",
                                     .name = "bench_rows",
                                     .partition_column = 0,
                                     .column_count = 2,
                                     .index_count = 1,
                                     .columns = columns,
                                     .indexes = &index};
    dbos_alloc_init(&bench->alloc, "table", 0);
    dbos_alloc_init(&bench->ahead, "regions", 0);
    ensure(dbos_regions_open(&bench->ahead, &bench->regions) == DBOS_OK, "regions", NULL);
    bench->alloc.regions = bench->regions;
    ensure(dbos_table_def_make(&bench->alloc, &parts, &bench->def, &bench->node.info) == DBOS_OK &&
               dbos_table_open(&bench->alloc, bench->def, &bench->table) == DBOS_OK,
           "table", &bench->node.info);
}

static void close_rows(struct rows_bench *bench) {
    if (bench->by_txn) {
        close_node(&bench->node);
        return;
    }
    dbos_table_close(bench->table);
    dbos_table_def_unref(bench->def);
    dbos_alloc_fini(&bench->alloc);
    dbos_regions_close(bench->regions);
    dbos_alloc_fini(&bench->ahead);
}

static void begin(struct rows_bench *bench) {
    struct dbos_txn_call call = {.session = &session, .request = ++bench->request};
    if (bench->node.log != NULL) {
        (void)dbos_log_wait_room(bench->node.log, NULL, NULL);
    }
    dbos_txn_begin(bench->node.txn, &call);
}

static void commit(struct rows_bench *bench) {
    uint64_t position = 0;
    ensure(dbos_txn_commit(bench->node.txn, &position, &bench->node.info) == DBOS_OK, "commit",
           &bench->node.info);
}

static void insert_one(struct rows_bench *bench, uint64_t i) {
    struct dbos_datum datums[] = {key_of(i), dbos_datum_int(DBOS_TYPE_INT4, (int32_t)i)};
    struct dbos_errinfo *info = &bench->node.info;
    struct dbos_row *row = NULL;
    enum dbos_err err;
    if (bench->by_txn) {
        begin(bench);
        err = dbos_txn_insert(bench->node.txn, bench->def->id, datums, &row, info);
        ensure(err == DBOS_OK, "insert", info);
        commit(bench);
        return;
    }
    dbos_table_expect_row(bench->table, dbos_slot_of(&datums[0]), datums);
    err = dbos_row_make(dbos_table_alloc(bench->table), NULL, bench->def, datums, &row, info);
    if (err == DBOS_OK) {
        row->block = dbos_table_take_block(bench->table, dbos_slot_of(&datums[0]));
        err = dbos_table_insert(bench->table, row, info);
    }
    ensure(err == DBOS_OK, "insert", info);
}

static void read_one(struct rows_bench *bench, uint64_t i) {
    struct dbos_datum key = key_of(i);
    if (bench->by_txn) {
        begin(bench);
    }
    const struct dbos_row *row = dbos_table_find(bench->table, 0, &key);
    ensure(row != NULL, "a row is missing", NULL);
    bench->sum += dbos_row_column(bench->def, row, 1).integer;
    if (bench->by_txn) {
        dbos_txn_note_read(bench->node.txn, bench->def->id, row);
        commit(bench);
    }
}

/* Rows from..to-1; nanoseconds. `each` NULL: the clock is read at the ends only. Not inlined, so
 * that a profile tells inserts from reads. */
__attribute__((noinline)) static uint64_t insert_rows(struct rows_bench *bench, uint64_t from,
                                                      uint64_t to, struct latencies *each) {
    uint64_t start = now_ns();
    uint64_t before = start;
    for (uint64_t i = from; i < to; i++) {
        insert_one(bench, i);
        if (each != NULL) {
            uint64_t after = now_ns();
            note_latency(each, after - before);
            before = after;
        }
    }
    return now_ns() - start;
}

__attribute__((noinline)) static uint64_t read_rows(struct rows_bench *bench, uint64_t rows,
                                                    uint64_t reads, struct latencies *each) {
    uint64_t chance = UINT64_C(88172645463325252);
    uint64_t start = now_ns();
    uint64_t before = start;
    for (uint64_t i = 0; i < reads; i++) {
        read_one(bench, draw(&chance) % rows);
        if (each != NULL) {
            uint64_t after = now_ns();
            note_latency(each, after - before);
            before = after;
        }
    }
    return now_ns() - start;
}

static void bench_reads(struct rows_bench *bench, const struct step *step) {
    static struct latencies each;
    (void)read_rows(bench, step->rows, READS / 10, NULL);
    uint64_t ns = read_rows(bench, step->rows, READS, NULL);
    (void)read_rows(bench, step->rows, READS, &each);
    print_head("point-read", step);
    (void)printf(",\"rows\":%llu", (unsigned long long)step->rows);
    print_times((double)ns / READS, READS, &each);
    (void)printf("}\n");
}

/* Inserts are timed from half the rows on: each doubling of an index falls in once. A small table
 * is built many times. */
static void bench_rows(const struct settings *settings, const struct step *step) {
    static struct rows_bench bench;
    static struct latencies each;
    uint64_t half = step->rows / 2;
    uint64_t builds = BUILD_OPS_MIN / step->rows + 2;
    uint64_t ns = 0;
    uint64_t ops = 0;
    uint64_t bytes = 0;
    uint64_t resident = 0;
    (void)settings;
    builds = builds > BUILDS_MAX ? BUILDS_MAX : builds;
    for (uint64_t build = 0; build < builds; build++) {
        uint64_t resident_before = resident_bytes();
        bool is_each = build % 2 == 1;
        open_rows(&bench, step);
        (void)insert_rows(&bench, 0, half, NULL);
        uint64_t part_ns = insert_rows(&bench, half, step->rows, is_each ? &each : NULL);
        ns += is_each ? 0 : part_ns;
        ops += is_each ? 0 : step->rows - half;
        if (build == 0) {
            bytes = bench.by_txn ? table_bytes(&bench.node, "bench_rows")
                                 : atomic_load(&bench.alloc.bytes);
            resident = resident_bytes() - resident_before;
        }
        if (build + 1 == builds) {
            bench_reads(&bench, step);
        }
        close_rows(&bench);
    }
    print_head("insert", step);
    (void)printf(",\"rows\":%llu", (unsigned long long)step->rows);
    print_times((double)ns / (double)ops, ops, &each);
    (void)printf(",\"bytes_per_row\":%.1f,\"rss_per_row\":%.1f}\n",
                 (double)bytes / (double)step->rows, (double)resident / (double)step->rows);
}

/* -- the floor ------------------------------------------------------------------------------------
 */

/* Lines in regions like a table's, each with the number of the next one: in an order that no
 * prefetcher guesses, and that comes past all of them (a full period modulo a power of two). */
struct lines {
    uint8_t *regions[4096];
    uint64_t count;
};

static uint64_t *line_at(const struct lines *lines, uint64_t number) {
    const uint64_t in_region = DBOS_REGION_BYTES / LINE_BYTES;
    uint8_t *region = lines->regions[number / in_region];
    return (uint64_t *)(void *)(region + number % in_region * LINE_BYTES);
}

static void map_lines(struct lines *lines, uint64_t bytes) {
    lines->count = DBOS_REGION_BYTES / LINE_BYTES;
    while (lines->count * LINE_BYTES < bytes) {
        lines->count *= 2;
    }
    uint64_t regions = lines->count * LINE_BYTES / DBOS_REGION_BYTES;
    ensure(regions <= sizeof lines->regions / sizeof lines->regions[0], "ROWS_MAX is too large",
           NULL);
    for (uint64_t i = 0; i < regions; i++) {
        lines->regions[i] = dbos_region_map(true);
        ensure(lines->regions[i] != NULL, "memory", NULL);
    }
    for (uint64_t i = 0; i < lines->count; i++) {
        *line_at(lines, i) =
            (i * UINT64_C(6364136223846793005) + 1442695040888963407u) % lines->count;
    }
}

static void bench_loads(const struct settings *settings, const struct step *step) {
    static struct lines lines;
    (void)settings;
    map_lines(&lines, step->rows * BYTES_PER_ROW);
    uint64_t at = 0;
    uint64_t start = now_ns();
    for (uint32_t i = 0; i < LOADS; i++) {
        at = *line_at(&lines, at);
    }
    double ns = (double)(now_ns() - start) / LOADS;
    (void)printf("{\"system\":\"machine\",\"workload\":\"memory-load\",\"rows\":%llu,"
                 "\"bytes\":%llu,\"ns\":%.1f,\"ops\":%d,\"last\":%llu}\n",
                 (unsigned long long)step->rows, (unsigned long long)(lines.count * LINE_BYTES), ns,
                 LOADS, (unsigned long long)at);
}

/* -- steps ----------------------------------------------------------------------------------------
 */

static void bench_clock(const struct settings *settings, const struct step *step) {
    (void)settings;
    (void)step;
    enum { CALLS = 4000000 };
    uint64_t start = now_ns();
    uint64_t last = start;
    for (int i = 0; i < CALLS; i++) {
        last = now_ns();
    }
    (void)printf("{\"system\":\"machine\",\"workload\":\"clock\",\"ns\":%.1f,\"ops\":%d}\n",
                 (double)(last - start) / CALLS, CALLS);
}

static void run_step(const struct settings *settings, const char *name, const struct step *step) {
    int status = 0;
    uint64_t start = now_ns();
    (void)fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        step->run(settings, step);
        (void)fflush(stdout);
        _exit(0);
    }
    ensure(child > 0 && waitpid(child, &status, 0) == child, "fork", NULL);
    (void)fprintf(stderr, "bench_embedded: %s path=%s log=%s rows=%llu: %.1f s\n", name, step->path,
                  step->log, (unsigned long long)step->rows, (double)(now_ns() - start) / 1e9);
    ensure(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a step has failed", NULL);
}

static void run_sizes(const struct settings *settings, const char *path, const char *log) {
    for (uint64_t rows = settings->rows_min; rows <= settings->rows_max; rows *= 10) {
        run_step(settings, "rows",
                 &(struct step){.run = bench_rows, .path = path, .log = log, .rows = rows});
    }
}

static void run_floors(const struct settings *settings) {
    for (uint64_t rows = settings->rows_min; rows <= settings->rows_max; rows *= 10) {
        run_step(settings, "memory-load",
                 &(struct step){.run = bench_loads, .path = "", .log = "", .rows = rows});
    }
}

static bool is_wanted(const char *what, const char *name) {
    return strcmp(what, "all") == 0 || strcmp(what, name) == 0;
}

/* The kinds of Vote; one alone is for a profile. */
static const struct {
    const char *name;
    const char *path;
    const char *log;
} votes[] = {
    {"vote-none", "txn", "none"},
    {"vote-async", "txn", "async"},
    {"vote-engine", "engine", "async"},
};

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "all";
    struct settings settings = {
        .seconds = argc > 2 ? strtod(argv[2], NULL) : 5,
        .phones = argc > 3 ? strtoull(argv[3], NULL, 10) : 10000000,
        .rows_max = argc > 4 ? strtoull(argv[4], NULL, 10) : 10000000,
        .rows_min = argc > 5 ? strtoull(argv[5], NULL, 10) : 10000,
    };
    ensure(settings.phones != 0 && settings.rows_min >= 2, "PHONES and ROWS_MIN are too small",
           NULL);
    run_step(&settings, "clock", &(struct step){.run = bench_clock, .path = "", .log = ""});
    for (size_t i = 0; i < sizeof votes / sizeof votes[0]; i++) {
        if (is_wanted(what, "vote") || is_wanted(what, votes[i].name)) {
            run_step(&settings, "vote",
                     &(struct step){.run = bench_vote, .path = votes[i].path, .log = votes[i].log});
        }
    }
    if (is_wanted(what, "storage")) {
        run_floors(&settings);
        run_sizes(&settings, "storage", "none");
    }
    if (is_wanted(what, "txn")) {
        run_sizes(&settings, "txn", "none");
        run_sizes(&settings, "txn", "async");
    }
    return 0;
}
