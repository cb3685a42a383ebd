#include "txn/txn.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/txn/txn_support.h"

TestSuite(txn_txn, .timeout = 120);

static void begin(struct dbos_txn *txn) { dbos_txn_begin(txn, &test_call); }

static void fill(struct dbos_datum *datums, int64_t key, const char *text, size_t text_bytes,
                 int64_t number) {
    datums[0] = dbos_datum_int(DBOS_TYPE_INT8, key);
    datums[1] = text == NULL ? dbos_datum_null(DBOS_TYPE_TEXT)
                             : dbos_datum_bytes(DBOS_TYPE_TEXT, text, text_bytes);
    datums[2] = dbos_datum_int(DBOS_TYPE_INT4, number);
}

static uint32_t partition_of(struct test_node *node, int64_t key) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT8, key);
    return dbos_store_partition_of(node->store, dbos_slot_of(&datum));
}

/* A key of this partition, from `from` on. */
static int64_t key_of(struct test_node *node, uint32_t partition, int64_t from) {
    while (partition_of(node, from) != partition) {
        from++;
    }
    return from;
}

static struct dbos_row *find(struct test_node *node, uint32_t table_id, uint32_t partition,
                             int64_t key) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT8, key);
    return dbos_table_find(dbos_store_table(node->store, table_id, partition), 0, &datum);
}

static enum dbos_err insert(struct test_node *node, struct dbos_txn *txn, uint32_t table_id,
                            int64_t key, const char *text, size_t text_bytes) {
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    fill(datums, key, text, text_bytes, 1);
    return dbos_txn_insert(txn, table_id, datums, &row, &node->info);
}

/* --- a random model -------------------------------------------------------------------------- */

enum { MODEL_TABLES = 3, MODEL_ROWS = 400, MODEL_KEYS = 60 };

struct model_row {
    uint32_t table; /* 0: empty place */
    int64_t key;
    uint32_t seed; /* its text is a function of this */
};
struct model {
    struct model_row rows[MODEL_ROWS];
    bool exists[MODEL_TABLES];
    uint32_t index_count[MODEL_TABLES];
    uint32_t procedure_version; /* 0 = none */
};

static const uint32_t table_ids[MODEL_TABLES] = {100, 101, 102};
static const bool table_partitioned[MODEL_TABLES] = {true, false, true};

static char model_text[9000];
/* Mostly short, sometimes an object. */
static size_t text_of(uint32_t seed) {
    size_t bytes = seed % 13 == 0 ? 4096 + seed % 3000 : seed % 100;
    for (size_t i = 0; i < bytes; i++) {
        model_text[i] = (char)('a' + (seed + i) % 26);
    }
    return bytes;
}

static struct model_row *model_find(struct model *model, uint32_t table, int64_t key) {
    for (size_t i = 0; i < MODEL_ROWS; i++) {
        if (model->rows[i].table == table && model->rows[i].key == key) {
            return &model->rows[i];
        }
    }
    return NULL;
}

static void model_put(struct model *model, uint32_t table, int64_t key, uint32_t seed) {
    struct model_row *row = model_find(model, table, key);
    row = row == NULL ? model_find(model, 0, 0) : row;
    cr_assert(row != NULL);
    *row = (struct model_row){.table = table, .key = key, .seed = seed};
}

static void model_remove(struct model *model, uint32_t table, int64_t key) {
    struct model_row *row = model_find(model, table, key);
    *row = (struct model_row){0};
}

static void model_drop(struct model *model, uint32_t table) {
    for (size_t i = 0; i < MODEL_ROWS; i++) {
        if (model->rows[i].table == table) {
            model->rows[i] = (struct model_row){0};
        }
    }
}

struct world {
    struct test_node node;
    struct model model;
    struct dbos_rng rng;
};

static uint32_t dice(struct world *world, uint32_t sides) {
    return (uint32_t)dbos_rng_below(&world->rng, sides);
}

/* One insert, update or delete of a random key; the model follows where it succeeds. */
static void random_write(struct world *world, struct dbos_txn *txn, uint32_t t) {
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    struct test_node *node = &world->node;
    uint32_t id = table_ids[t];
    uint32_t seed = dice(world, 1u << 20) + 1;
    int64_t key = dice(world, MODEL_KEYS);
    uint32_t partition = table_partitioned[t] ? partition_of(node, key) : 0;
    struct model_row *known = model_find(&world->model, id, key);
    struct dbos_row *old = find(node, id, partition, key);
    cr_assert_eq(old != NULL, known != NULL);
    fill(datums, key, model_text, text_of(seed), seed);
    bool writable = dbos_txn_partition(txn) == DBOS_PARTITION_ALL ||
                    (table_partitioned[t] && partition == dbos_txn_partition(txn));
    enum dbos_err err = DBOS_OK;
    uint32_t what = dice(world, 4);
    if (old == NULL || what == 0) {
        err = dbos_txn_insert(txn, id, datums, &row, &node->info);
        enum dbos_err wanted = !writable       ? DBOS_ERR_WRONG_PARTITION
                               : known != NULL ? DBOS_ERR_UNIQUE
                                               : DBOS_OK;
        cr_assert_eq(err, wanted, "insert: %s", node->info.message);
    } else if (what == 1) {
        err = dbos_txn_delete(txn, id, old, &node->info);
        cr_assert_eq(err, writable ? DBOS_OK : DBOS_ERR_WRONG_PARTITION);
        if (err == DBOS_OK) {
            model_remove(&world->model, id, key);
        }
        return;
    } else {
        /* Sometimes the key moves, to another slot too. */
        int64_t to = what == 2 ? key : (int64_t)dice(world, MODEL_KEYS);
        datums[0].integer = to;
        err = dbos_txn_update(txn, id, old, datums, &row, &node->info);
        bool taken = to != key && model_find(&world->model, id, to) != NULL;
        bool to_writable = dbos_txn_partition(txn) == DBOS_PARTITION_ALL ||
                           (table_partitioned[t] && partition_of(node, to) == partition);
        enum dbos_err wanted = !writable || !to_writable ? DBOS_ERR_WRONG_PARTITION
                               : taken                   ? DBOS_ERR_UNIQUE
                                                         : DBOS_OK;
        cr_assert_eq(err, wanted, "update: %s", node->info.message);
        if (err == DBOS_OK) {
            model_remove(&world->model, id, key);
        }
        key = to;
    }
    if (err == DBOS_OK) {
        model_put(&world->model, id, key, seed);
    }
}

static struct dbos_table_def *with_index(struct test_node *node, const struct dbos_table_def *def) {
    struct dbos_index_def indexes[2];
    struct dbos_table_def *out = NULL;
    indexes[0] = def->indexes[0];
    indexes[1] = (struct dbos_index_def){
        .id = def->id * 10 + 1, .kind = DBOS_INDEX_ORDERED, .column_count = 1, .columns = {2}};
    (void)snprintf(indexes[1].name, sizeof indexes[1].name, "%.40s_n", def->name);
    struct dbos_table_parts parts = {.id = def->id,
                                     .schema_version = def->schema_version + 1,
                                     .schema = def->schema,
                                     .name = def->name,
                                     .partition_column = def->partition_column,
                                     .column_count = def->column_count,
                                     .index_count = (uint16_t)(def->index_count == 1 ? 2 : 1),
                                     .columns = def->columns,
                                     .indexes = indexes};
    cr_assert_eq(dbos_table_def_make(&node->alloc, &parts, &out, &node->info), DBOS_OK, "%s",
                 node->info.message);
    return out;
}

static void random_table_ddl(struct world *world, uint32_t t) {
    struct test_node *node = &world->node;
    char name[16];
    struct dbos_table_def *def = NULL;
    (void)snprintf(name, sizeof name, "t%u", t);
    if (!world->model.exists[t]) {
        def = test_node_def(node, table_ids[t], name, table_partitioned[t]);
        cr_assert_eq(dbos_txn_create_table(node->barrier, def, &node->info), DBOS_OK, "%s",
                     node->info.message);
        world->model.exists[t] = true;
        world->model.index_count[t] = 1;
    } else if (dice(world, 2) == 0) {
        cr_assert_eq(dbos_txn_drop_table(node->barrier, table_ids[t], &node->info), DBOS_OK);
        world->model.exists[t] = false;
        model_drop(&world->model, table_ids[t]);
    } else {
        const struct dbos_table *part = dbos_store_table(node->store, table_ids[t], 0);
        def = with_index(node, dbos_table_def_of(part));
        cr_assert_eq(dbos_txn_redefine_table(node->barrier, def, &node->info), DBOS_OK, "%s",
                     node->info.message);
        world->model.index_count[t] = def->index_count;
    }
    if (def != NULL) {
        dbos_table_def_unref(def);
    }
}

static void random_procedure_ddl(struct world *world) {
    struct test_node *node = &world->node;
    if (world->model.procedure_version != 0 && dice(world, 3) == 0) {
        cr_assert_eq(dbos_txn_drop_procedure(node->barrier, 9, &node->info), DBOS_OK);
        world->model.procedure_version = 0;
        return;
    }
    struct dbos_procedure_info *procedure = NULL;
    char body[] = "select 1";
    struct dbos_procedure_info parts = {.id = 9,
                                        .version = world->model.procedure_version + 1,
                                        .name = "p",
                                        .returns = DBOS_TYPE_VOID,
                                        .language = DBOS_LANGUAGE_SQL,
                                        .body = body};
    cr_assert_eq(dbos_procedure_info_make(&node->alloc, &parts, &procedure), DBOS_OK);
    cr_assert_eq(dbos_txn_put_procedure(node->barrier, procedure, &node->info), DBOS_OK, "%s",
                 node->info.message);
    world->model.procedure_version++;
    dbos_procedure_info_unref(procedure);
}

static void random_step(struct world *world, struct dbos_txn *txn) {
    bool barrier = dbos_txn_partition(txn) == DBOS_PARTITION_ALL;
    uint32_t t = dice(world, MODEL_TABLES);
    uint32_t what = dice(world, 20);
    if (barrier && what == 0) {
        random_table_ddl(world, t);
    } else if (barrier && what == 1) {
        random_procedure_ddl(world);
    } else if (world->model.exists[t]) {
        random_write(world, txn, t);
    }
}

/* The store holds what the model holds, no more and no less. */
static void expect_model(struct world *world) {
    struct test_node *node = &world->node;
    uint64_t rows = 0;
    const struct dbos_catalog *catalog = dbos_store_catalog(node->store);
    for (uint32_t t = 0; t < MODEL_TABLES; t++) {
        const struct dbos_table_def *def = dbos_catalog_table_by_id(catalog, table_ids[t]);
        cr_assert_eq(def != NULL, world->model.exists[t]);
        for (uint32_t p = 0; def != NULL && p < (table_partitioned[t] ? node->partitions : 1);
             p++) {
            struct dbos_table *table = dbos_store_table(node->store, table_ids[t], p);
            cr_assert(dbos_table_consistent(table));
            cr_assert_eq(def->index_count, world->model.index_count[t]);
            rows += dbos_table_row_count(table);
        }
    }
    for (size_t i = 0; i < MODEL_ROWS; i++) {
        const struct model_row *wanted = &world->model.rows[i];
        if (wanted->table == 0) {
            continue;
        }
        rows--;
        bool partitioned = table_partitioned[wanted->table - table_ids[0]];
        uint32_t partition = partitioned ? partition_of(node, wanted->key) : 0;
        const struct dbos_row *row = find(node, wanted->table, partition, wanted->key);
        cr_assert(row != NULL);
        const struct dbos_table_def *def =
            dbos_table_def_of(dbos_store_table(node->store, wanted->table, partition));
        size_t bytes = text_of(wanted->seed);
        struct dbos_datum text = dbos_row_column(def, row, 1);
        cr_assert_eq(text.bytes.size_bytes, bytes);
        cr_assert(bytes == 0 || memcmp(text.bytes.data, model_text, bytes) == 0);
        cr_assert_eq(dbos_row_column(def, row, 2).integer, wanted->seed);
        cr_assert_neq(row->position, 0);
    }
    cr_assert_eq(rows, 0);
    const struct dbos_procedure_info *procedure = dbos_catalog_procedure_by_id(catalog, 9);
    cr_assert_eq(procedure == NULL ? 0 : procedure->version, world->model.procedure_version);
}

/* The next block of each slot, and what every table holds. */
static char *full_text(struct world *world) {
    char *text = test_node_text(&world->node);
    size_t used = strlen(text);
    text = realloc(text, used + MODEL_TABLES * (DBOS_SLOTS / 64) * 24u + 1);
    for (uint32_t t = 0; t < MODEL_TABLES; t++) {
        for (uint32_t slot = 0; world->model.exists[t] && slot < DBOS_SLOTS; slot += 64) {
            uint32_t used_slot = table_partitioned[t] ? slot : 0;
            struct dbos_table *table = dbos_store_table(
                world->node.store, table_ids[t],
                table_partitioned[t] ? dbos_store_partition_of(world->node.store, slot) : 0);
            uint64_t block = dbos_table_take_block(table, used_slot);
            dbos_table_untake_block(table, block);
            used += (size_t)sprintf(text + used, "%llu,", (unsigned long long)block);
        }
    }
    return text;
}

static void random_transaction(struct world *world) {
    struct test_node *node = &world->node;
    uint32_t runner = dice(world, node->partitions + 2);
    struct dbos_txn *txn = runner < node->partitions ? node->txns[runner] : node->barrier;
    char *text = full_text(world);
    struct model before = world->model;
    begin(txn);
    for (uint32_t steps = dice(world, 25); steps != 0; steps--) {
        random_step(world, txn);
    }
    uint32_t end = dice(world, 4);
    if (end >= 2) {
        uint64_t last = dbos_log_last_position(node->log);
        bool wrote = dbos_txn_has_writes(txn);
        uint64_t position = test_node_commit(node, txn);
        cr_assert_eq(position, wrote ? last + 1 : 0);
        for (uint32_t i = 0; i < node->partitions; i++) {
            dbos_txn_see(node->barrier, dbos_txn_seen_position(node->txns[i]));
        }
        if (wrote) {
            cr_assert_eq(dbos_txn_seen_position(node->barrier), position);
        }
    } else {
        if (end == 0) {
            dbos_txn_forget(txn);
        } else {
            cr_assert_eq(dbos_txn_abort(txn, DBOS_ERR_RAISED), 0);
        }
        world->model = before;
        char *after = full_text(world);
        cr_assert_str_eq(after, text);
        free(after);
    }
    free(text);
    expect_model(world);
}

/* The state hash that the log carries is the sum over what is there. */
static void expect_hash(struct test_node *node) {
    uint64_t position = 0;
    uint64_t hash = 0;
    dbos_log_wait(node->log, dbos_log_last_position(node->log));
    dbos_log_state_hash(node->log, &position, &hash);
    cr_assert_eq(position, dbos_log_last_position(node->log));
    cr_assert_eq(hash, dbos_store_state_hash(node->store));
}

/* Goal: commit, abort, forget and recovery leave exactly what a naive copy says, definitions and
 * block counters included. Method: random transactions on partitions and under the barrier; after
 * each episode a restart, with another number of partitions. */
Test(txn_txn, random_transactions_and_restarts_agree_with_a_copy) {
    char dir[64];
    test_dir_make(dir, sizeof dir);
    struct world *world = calloc(1, sizeof *world);
    dbos_rng_init(&world->rng, 20260101);
    for (uint32_t episode = 0; episode < 12; episode++) {
        test_node_open_ok(&world->node, dir, 1 + episode % 4);
        expect_model(world);
        for (uint32_t i = 0; i < 80; i++) {
            random_transaction(world);
        }
        expect_hash(&world->node);
        char *text = test_node_text(&world->node);
        test_node_close(&world->node);
        test_node_open_ok(&world->node, dir, 1 + episode % 4);
        char *again = test_node_text(&world->node);
        cr_assert_str_eq(again, text);
        free(text);
        free(again);
        test_node_close(&world->node);
    }
    free(world);
    test_dir_remove(dir);
}

/* --- what is refused ------------------------------------------------------------------------- */

Test(txn_txn, rows_and_definitions_that_are_not_in_hand_are_refused) {
    char dir[64];
    struct test_node node;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 3);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    int64_t mine = key_of(&node, 1, 0);
    int64_t other = key_of(&node, 2, 0);
    struct dbos_txn *txn = node.txns[1];
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    uint32_t partition = 0;
    begin(txn);
    cr_expect_eq(insert(&node, txn, 100, other, "x", 1), DBOS_ERR_WRONG_PARTITION);
    cr_expect_eq(insert(&node, txn, 101, mine, "x", 1), DBOS_ERR_WRONG_PARTITION);
    cr_expect_eq(insert(&node, txn, 555, mine, "x", 1), DBOS_ERR_UNDEFINED_TABLE);
    cr_expect_eq(insert(&node, txn, 100, mine, "x", 1), DBOS_OK);
    fill(datums, other, "y", 1, 2);
    cr_expect_eq(dbos_txn_update(txn, 100, find(&node, 100, 1, mine), datums, &row, &node.info),
                 DBOS_ERR_WRONG_PARTITION);
    struct dbos_table_def *def = test_node_def(&node, 102, "third", true);
    cr_expect_eq(dbos_txn_create_table(txn, def, &node.info), DBOS_ERR_WRONG_PARTITION);
    dbos_table_def_unref(def);
    cr_expect(dbos_txn_table(txn, 100, 2) == NULL);
    cr_expect(dbos_txn_table(txn, 100, 1) != NULL);
    cr_expect(dbos_txn_table(txn, 101, 0) != NULL, "an unpartitioned table is readable anywhere");
    def = dbos_table_def_of(dbos_txn_table(txn, 100, 1));
    cr_expect_eq(dbos_txn_route(txn, def, &datums[0], &partition, &node.info),
                 DBOS_ERR_WRONG_PARTITION);
    datums[0].integer = mine;
    cr_expect_eq(dbos_txn_route(txn, def, &datums[0], &partition, &node.info), DBOS_OK);
    cr_expect_eq(partition, 1);
    (void)test_node_commit(&node, txn);
    cr_expect_eq(dbos_table_row_count(dbos_store_table(node.store, 100, 1)), 1);
    begin(node.barrier);
    cr_expect(dbos_txn_table(node.barrier, 100, DBOS_PARTITION_ALL) == NULL,
              "a partitioned table is in parts for the barrier, too");
    cr_expect_eq(insert(&node, node.barrier, 100, other, "x", 1), DBOS_OK);
    cr_expect_eq(insert(&node, node.barrier, 101, 1, "x", 1), DBOS_OK);
    (void)test_node_commit(&node, node.barrier);
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(txn_txn, a_read_only_call_writes_nothing_and_an_empty_one_leaves_no_record) {
    char dir[64];
    struct test_node node;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "t", true);
    uint64_t last = dbos_log_last_position(node.log);
    struct dbos_txn_call call = test_call;
    call.read_only = true;
    dbos_txn_begin(node.barrier, &call);
    cr_expect_eq(insert(&node, node.barrier, 100, 1, "x", 1), DBOS_ERR_READ_ONLY);
    cr_expect_eq(dbos_txn_drop_table(node.barrier, 100, &node.info), DBOS_ERR_READ_ONLY);
    cr_expect_eq(test_node_commit(&node, node.barrier), 0);
    begin(node.txns[0]);
    dbos_txn_statement(node.txns[0], 9, "select 1");
    dbos_txn_note_egress(node.txns[0], 1, 4, 77);
    cr_expect_eq(test_node_commit(&node, node.txns[0]), 0);
    cr_expect_eq(dbos_log_last_position(node.log), last);
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(txn_txn, a_write_set_that_no_record_holds_is_refused_and_undone) {
    char dir[64];
    struct test_node node;
    static char text[4000];
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "t", true);
    memset(text, 'x', sizeof text);
    begin(node.txns[0]);
    enum dbos_err err = DBOS_OK;
    int64_t rows = 0;
    while (err == DBOS_OK && rows < 20000) {
        err = insert(&node, node.txns[0], 100, rows++, text, sizeof text);
    }
    cr_expect_eq(err, DBOS_ERR_LIMIT);
    cr_expect_gt(rows, 15000);
    uint64_t position = 0;
    cr_expect_eq(dbos_txn_commit(node.txns[0], &position, &node.info), DBOS_ERR_LIMIT);
    cr_expect_eq(dbos_txn_abort(node.txns[0], DBOS_ERR_LIMIT), 0);
    cr_expect_eq(dbos_table_row_count(dbos_store_table(node.store, 100, 0)), 0);
    /* One that just fits does. */
    begin(node.txns[0]);
    for (int64_t i = 0; i < 15400; i++) {
        cr_assert_eq(insert(&node, node.txns[0], 100, i, text, sizeof text), DBOS_OK);
    }
    (void)test_node_commit(&node, node.txns[0]);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 1);
    cr_expect_eq(dbos_table_row_count(dbos_store_table(node.store, 100, 0)), 15400);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* --- what a record says ---------------------------------------------------------------------- */

/* The records of a directory as text, one line for each and one for each event. */
static char *records_text(const char *dir) {
    struct dbos_alloc alloc;
    struct dbos_log_reader *reader = NULL;
    struct dbos_errinfo info;
    struct dbos_batch batch;
    char *text = calloc(1, 1u << 20);
    char *at = text;
    dbos_alloc_init(&alloc, "read", 0);
    cr_assert_eq(dbos_log_reader_open(&alloc, dbos_env_posix(), dir, 1, 0, &reader, &info),
                 DBOS_OK);
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        size_t cursor = 0;
        size_t bytes = 0;
        const uint8_t *record = NULL;
        while ((record = dbos_batch_next(&batch, &cursor, &bytes)) != NULL) {
            struct dbos_record_head head;
            struct dbos_record_decoder decoder;
            struct dbos_record_scratch scratch;
            struct dbos_event event;
            dbos_record_scratch_init(&scratch, &alloc);
            cr_assert_eq(dbos_record_open(record, bytes, &scratch, &head, &decoder, &info),
                         DBOS_OK);
            at += sprintf(at, "%llu flags %u outcome %u session %llu args %u\n",
                          (unsigned long long)head.position, head.flags, head.outcome,
                          (unsigned long long)head.session, head.argument_count);
            while (dbos_record_next(&decoder, &event)) {
                at += sprintf(at, "  %u.%u t%u b%llu n%llu p%llu\n", event.statement, event.op,
                              event.table_id, (unsigned long long)event.block,
                              (unsigned long long)event.count,
                              (unsigned long long)event.previous_position);
            }
            cr_assert(!decoder.failed);
            dbos_record_scratch_fini(&scratch);
        }
    }
    dbos_log_reader_close(reader);
    dbos_alloc_fini(&alloc);
    return text;
}

static void read_some(struct test_node *node, struct dbos_txn *txn) {
    struct dbos_datum low = dbos_datum_int(DBOS_TYPE_INT8, 3);
    struct dbos_bound bound = {.datums = &low, .count = 1, .inclusive = true};
    struct dbos_bound none = {0};
    dbos_txn_statement(txn, 11, "select * from t where k >= 3");
    dbos_txn_note_range(txn, 100, 1000, &bound, &none, 2);
    dbos_txn_note_read(txn, 100, find(node, 100, 0, 1));
    dbos_txn_note_read(txn, 100, find(node, 100, 0, 1));
    dbos_txn_note_absent(txn, 100, 1000, &low, 1);
    dbos_txn_note_scan(txn, 100, 0, 1);
    dbos_txn_note_egress(txn, 1, 10, 99);
}

Test(txn_txn, records_say_who_read_and_wrote_what_and_aborted_ones_only_what_was_read) {
    char dir[64];
    struct test_node node;
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    static char large[5000];
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "t", false); /* 1 */
    struct dbos_datum arguments[2] = {dbos_datum_int(DBOS_TYPE_INT8, 4),
                                      dbos_datum_bytes(DBOS_TYPE_BYTEA, large, sizeof large)};
    struct dbos_txn_call call = test_call;
    call.arguments = arguments;
    call.argument_count = 2;
    dbos_txn_begin(node.barrier, &call);
    cr_assert_eq(insert(&node, node.barrier, 100, 1, "one", 3), DBOS_OK);
    dbos_txn_note_read(node.barrier, 100, find(&node, 100, 0, 1)); /* its own is read, too */
    cr_expect_eq(test_node_commit(&node, node.barrier), 2);
    begin(node.barrier);
    read_some(&node, node.barrier);
    fill(datums, 1, "two", 3, 2);
    cr_assert_eq(
        dbos_txn_update(node.barrier, 100, find(&node, 100, 0, 1), datums, &row, &node.info),
        DBOS_OK);
    cr_assert_eq(dbos_txn_delete(node.barrier, 100, row, &node.info), DBOS_OK);
    dbos_txn_statement(node.barrier, 12, "insert");
    cr_assert_eq(insert(&node, node.barrier, 100, 1, "three", 5), DBOS_OK);
    cr_expect_eq(test_node_commit(&node, node.barrier), 3);
    begin(node.barrier);
    cr_assert_eq(insert(&node, node.barrier, 100, 2, "gone", 4), DBOS_OK);
    read_some(&node, node.barrier);
    cr_assert_eq(dbos_txn_delete(node.barrier, 100, find(&node, 100, 0, 1), &node.info), DBOS_OK);
    cr_expect_eq(dbos_txn_abort(node.barrier, DBOS_ERR_RAISED), 4);
    begin(node.barrier);
    read_some(&node, node.barrier);
    dbos_txn_forget(node.barrier);
    begin(node.txns[0]);
    read_some(&node, node.txns[0]);
    cr_expect_eq(test_node_commit(&node, node.txns[0]), 5);
    test_node_close(&node);
    char *text = records_text(dir);
    cr_expect_str_eq(text, "1 flags 17 outcome 0 session 5 args 0\n"
                           "  0.10 t0 b0 n0 p0\n" /* the session, once for this capture */
                           "  0.1 t1 b1024 n1 p0\n"
                           "2 flags 1 outcome 0 session 5 args 2\n"
                           "  0.1 t100 b1024 n1 p0\n"
                           "  0.4 t100 b1024 n1 p0\n"
                           "3 flags 1 outcome 0 session 5 args 0\n"
                           "  0.11 t0 b0 n0 p0\n" /* texts come first */
                           "  0.11 t0 b0 n0 p0\n"
                           "  1.9 t0 b0 n0 p0\n"
                           "  1.5 t100 b0 n2 p0\n"
                           "  1.4 t100 b1024 n1 p0\n"
                           "  1.6 t100 b0 n0 p0\n"
                           "  1.7 t100 b0 n1 p0\n"
                           "  1.8 t0 b0 n1 p0\n"
                           "  1.3 t100 b1024 n1 p2\n"
                           "  1.2 t100 b1024 n1 p3\n" /* a version of this very transaction */
                           "  2.9 t0 b0 n0 p0\n"
                           "  2.1 t100 b2048 n1 p0\n"
                           "4 flags 7 outcome 92 session 5 args 0\n"
                           "  1.9 t0 b0 n0 p0\n"
                           "  1.5 t100 b0 n2 p0\n"
                           "  1.4 t100 b2048 n1 p0\n"
                           "  1.6 t100 b0 n0 p0\n"
                           "  1.7 t100 b0 n1 p0\n"
                           "  1.8 t0 b0 n1 p0\n"
                           "5 flags 4 outcome 0 session 5 args 0\n"
                           "  0.10 t0 b0 n0 p0\n" /* another partition, another capture */
                           "  0.11 t0 b0 n0 p0\n"
                           "  1.9 t0 b0 n0 p0\n"
                           "  1.5 t100 b0 n2 p0\n"
                           "  1.4 t100 b2048 n1 p0\n"
                           "  1.6 t100 b0 n0 p0\n"
                           "  1.7 t100 b0 n1 p0\n"
                           "  1.8 t0 b0 n1 p0\n");
    free(text);
    test_dir_remove(dir);
}

Test(txn_txn, with_reads_off_only_writes_are_recorded_and_the_record_says_so) {
    char dir[64];
    struct test_node node;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "t", false); /* 1 */
    test_node_reads_off(&node);
    begin(node.barrier);
    cr_assert_eq(insert(&node, node.barrier, 100, 1, "one", 3), DBOS_OK);
    read_some(&node, node.barrier);
    cr_expect_eq(test_node_commit(&node, node.barrier), 2);
    begin(node.barrier);
    read_some(&node, node.barrier);
    cr_expect_eq(test_node_commit(&node, node.barrier), 0, "nothing to be recorded");
    begin(node.barrier);
    read_some(&node, node.barrier);
    cr_expect_eq(dbos_txn_abort(node.barrier, DBOS_ERR_RAISED), 0);
    test_node_close(&node);
    char *text = records_text(dir);
    cr_expect_str_eq(text, "1 flags 17 outcome 0 session 5 args 0\n"
                           "  0.10 t0 b0 n0 p0\n"
                           "  0.1 t1 b1024 n1 p0\n"
                           "2 flags 33 outcome 0 session 5 args 0\n"
                           "  0.10 t0 b0 n0 p0\n"
                           "  0.11 t0 b0 n0 p0\n"
                           "  0.1 t100 b1024 n1 p0\n"
                           "  1.9 t0 b0 n0 p0\n");
    free(text);
    test_dir_remove(dir);
}

Test(txn_txn, random_numbers_and_time_are_fixed_by_what_the_record_holds) {
    char dir[64];
    struct test_node node;
    struct dbos_rng again;
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_batch batch;
    struct dbos_log_reader *reader = NULL;
    size_t cursor = 0;
    size_t bytes = 0;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "t", true);
    begin(node.txns[0]);
    int64_t now = dbos_txn_now_us(node.txns[0]);
    uint64_t first = dbos_txn_random(node.txns[0]);
    uint64_t second = dbos_txn_random(node.txns[0]);
    dbos_record_scratch_init(&scratch, &node.alloc);
    cr_assert_eq(insert(&node, node.txns[0], 100, 1, "x", 1), DBOS_OK);
    cr_expect_eq(dbos_txn_now_us(node.txns[0]), now);
    uint64_t position = test_node_commit(&node, node.txns[0]);
    dbos_log_wait(node.log, position);
    cr_assert_eq(dbos_log_reader_open(&node.alloc, node.env, dir, 1, 0, &reader, &node.info),
                 DBOS_OK);
    do {
        cr_assert_eq(dbos_log_reader_next(reader, &batch, &node.info), DBOS_READ_BATCH);
    } while (batch.last_position < position);
    do {
        const uint8_t *record = dbos_batch_next(&batch, &cursor, &bytes);
        cr_assert_eq(dbos_record_open(record, bytes, &scratch, &head, &decoder, &node.info),
                     DBOS_OK);
        cr_expect_eq(head.has_seed, head.position == position, "only where one was drawn");
    } while (head.position < position);
    dbos_rng_init(&again, head.seed);
    cr_expect_eq(dbos_rng_next(&again), first);
    cr_expect_eq(dbos_rng_next(&again), second);
    cr_expect_eq(head.start_us, now);
    dbos_log_reader_close(reader);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* --- memory ---------------------------------------------------------------------------------- */

/* One of everything; what it returns first that is not OK. */
static enum dbos_err do_everything(struct test_node *node, struct dbos_txn *txn,
                                   struct dbos_table_def *fresh, struct dbos_table_def *redefined,
                                   struct dbos_procedure_info *procedure) {
    static char large[6000];
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    dbos_txn_statement(txn, 40, "everything");
    dbos_txn_note_scan(txn, 100, DBOS_PARTITION_ALL, 3);
    enum dbos_err err = insert(node, txn, 100, 50, large, sizeof large);
    if (err == DBOS_OK) {
        fill(datums, 1, large, 4500, 9);
        err = dbos_txn_update(txn, 100, find(node, 100, partition_of(node, 1), 1), datums, &row,
                              &node->info);
    }
    if (err == DBOS_OK) {
        datums[0].integer = 51; /* another slot */
        err = dbos_txn_update(txn, 100, row, datums, &row, &node->info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_delete(txn, 100, find(node, 100, partition_of(node, 2), 2), &node->info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_create_table(txn, fresh, &node->info);
    }
    if (err == DBOS_OK) {
        err = insert(node, txn, fresh->id, 1, "x", 1);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_redefine_table(txn, redefined, &node->info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_put_procedure(txn, procedure, &node->info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_drop_procedure(txn, procedure->id, &node->info);
    }
    return err == DBOS_OK ? dbos_txn_drop_table(txn, 101, &node->info) : err;
}

/* Goal: no out-of-memory point leaves anything of the transaction behind, or loses any of it.
 * Method: fail the n-th take of each allocator, then the next, until commit succeeds. */
Test(txn_txn, every_failed_take_aborts_without_a_trace) {
    char dir[64];
    test_dir_make(dir, sizeof dir);
    for (int which = 0; which < 2; which++) {
        bool done = false;
        for (int64_t n = 1; !done; n++) {
            char sub[96];
            struct test_node node;
            (void)snprintf(sub, sizeof sub, "%s/%d-%ld", dir, which, n);
            test_node_open_ok(&node, sub, 2);
            test_node_create(&node, 100, "t", true);
            test_node_create(&node, 101, "u", true);
            begin(node.barrier);
            for (int64_t key = 1; key < 4; key++) {
                cr_assert_eq(insert(&node, node.barrier, 100, key, "start", 5), DBOS_OK);
                cr_assert_eq(insert(&node, node.barrier, 101, key, "start", 5), DBOS_OK);
            }
            (void)test_node_commit(&node, node.barrier);
            struct dbos_table_def *fresh = test_node_def(&node, 102, "v", true);
            struct dbos_table_def *redefined =
                with_index(&node, dbos_table_def_of(dbos_store_table(node.store, 100, 0)));
            char body[] = "select 1";
            struct dbos_procedure_info *procedure = NULL;
            struct dbos_procedure_info parts = {.id = 3,
                                                .version = 1,
                                                .name = "p",
                                                .returns = DBOS_TYPE_VOID,
                                                .language = DBOS_LANGUAGE_SQL,
                                                .body = body};
            cr_assert_eq(dbos_procedure_info_make(&node.alloc, &parts, &procedure), DBOS_OK);
            dbos_log_wait(node.log, dbos_log_last_position(node.log));
            char *before = test_node_text(&node);
            struct dbos_alloc *failing =
                which == 0 ? &node.alloc
                           : dbos_table_alloc(dbos_store_table(node.store, 100, 0))->alloc;
            uint64_t position = 0;
            begin(node.barrier);
            atomic_store(&failing->fail_countdown, n);
            enum dbos_err err = do_everything(&node, node.barrier, fresh, redefined, procedure);
            if (err == DBOS_OK) {
                err = dbos_txn_commit(node.barrier, &position, &node.info);
            }
            done = atomic_load(&failing->fail_countdown) > 0;
            if (err != DBOS_OK) {
                cr_expect_eq(err, DBOS_ERR_NOMEM, "take %ld: %s", n, node.info.message);
                cr_expect_neq(dbos_txn_commit(node.barrier, &position, &node.info), DBOS_OK,
                              "take %ld: committed after a failure", n);
                (void)dbos_txn_abort(node.barrier, err);
            }
            atomic_store(&failing->fail_countdown, 0);
            cr_expect(!done || err == DBOS_OK);
            char *after = test_node_text(&node);
            cr_expect(err == DBOS_OK || strcmp(before, after) == 0, "take %ld left a trace", n);
            expect_hash(&node);
            free(before);
            free(after);
            dbos_table_def_unref(fresh);
            dbos_table_def_unref(redefined);
            dbos_procedure_info_unref(procedure);
            test_node_close(&node);
        }
    }
    test_dir_remove(dir);
}
