#include "txn/snapshot.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/txn/txn_support.h"
#include "txn/snapshot_format.h"

TestSuite(txn_snapshot, .timeout = 240);

/* --- transactions ---------------------------------------------------------------------------- */

/* Tables 100 (partitioned) and 101 (not); the text of a row is a function of its number, sometimes
 * as large as an object. */
enum { KEYS = 300 };

static char text[9000];
static size_t text_of(int64_t number) {
    size_t bytes = number % 17 == 0 ? 4096 + (size_t)(number % 3000) : (size_t)(number % 90);
    memset(text, 'a' + (int)(number % 26), bytes);
    return bytes;
}

static void fill(struct dbos_datum *datums, int64_t key, int64_t number) {
    size_t bytes = text_of(number);
    datums[0] = dbos_datum_int(DBOS_TYPE_INT8, key);
    datums[1] = dbos_datum_bytes(DBOS_TYPE_TEXT, text, bytes);
    datums[2] = dbos_datum_int(DBOS_TYPE_INT4, number);
}

static struct dbos_row *find(struct test_node *node, uint32_t table_id, int64_t key) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT8, key);
    uint32_t partition =
        table_id == 100 ? dbos_store_partition_of(node->store, dbos_slot_of(&datum)) : 0;
    return dbos_table_find(dbos_store_table(node->store, table_id, partition), 0, &datum);
}

/* Insert, update or delete one row, as it comes. */
static void write_one(struct test_node *node, struct dbos_txn *txn, struct dbos_rng *rng,
                      uint32_t table_id) {
    struct dbos_datum datums[3];
    int64_t key = (int64_t)dbos_rng_below(rng, KEYS);
    struct dbos_row *row = NULL;
    struct dbos_row *old = find(node, table_id, key);
    fill(datums, key, (int64_t)dbos_rng_below(rng, 100000));
    enum dbos_err err = DBOS_OK;
    if (old == NULL) {
        err = dbos_txn_insert(txn, table_id, datums, &row, &node->info);
    } else if (dbos_rng_below(rng, 3) == 0) {
        err = dbos_txn_delete(txn, table_id, old, &node->info);
    } else {
        err = dbos_txn_update(txn, table_id, old, datums, &row, &node->info);
    }
    cr_assert(err == DBOS_OK || err == DBOS_ERR_WRONG_PARTITION, "%s", node->info.message);
}

static void random_transaction(struct test_node *node, struct dbos_rng *rng) {
    uint32_t runner = (uint32_t)dbos_rng_below(rng, node->partitions + 1);
    bool is_barrier = runner == node->partitions;
    struct dbos_txn *txn = is_barrier ? node->barrier : node->txns[runner];
    dbos_txn_begin(txn, &test_call);
    for (uint64_t i = dbos_rng_below(rng, 12); i != 0; i--) {
        write_one(node, txn, rng, is_barrier && dbos_rng_below(rng, 2) == 0 ? 101 : 100);
    }
    if (dbos_rng_below(rng, 5) == 0) {
        (void)dbos_txn_abort(txn, DBOS_ERR_RAISED);
    } else {
        test_node_commit(node, txn);
    }
}

/* --- snapshots ------------------------------------------------------------------------------- */

static uint32_t generations;

static struct dbos_snapshot *cut(struct test_node *node, const char *dir) {
    struct dbos_snapshot *snapshot = NULL;
    struct dbos_snapshot_options options = {
        .env = node->env,
        .data_dir = dir,
        .store = node->store,
        .database = dbos_log_database(node->log),
        .position = dbos_log_last_position(node->log),
        .commit_us = node->last_us,
        .generation = ++generations,
    };
    cr_assert_eq(dbos_snapshot_cut(&node->alloc, &options, &snapshot, &node->info), DBOS_OK);
    return snapshot;
}

static bool is_copied(const struct test_node *node, const struct dbos_snapshot *snapshot) {
    for (uint32_t i = 0; i < node->partitions; i++) {
        if (!dbos_snapshot_is_copied(snapshot, i)) {
            return false;
        }
    }
    return true;
}

/* What fails here fails in finish(), too. */
static void write_out(struct test_node *node, struct dbos_snapshot *snapshot) {
    enum dbos_err err = dbos_snapshot_write(snapshot, 0, &node->info);
    (void)err;
}

static enum dbos_err finish(struct test_node *node, struct dbos_snapshot *snapshot) {
    while (!is_copied(node, snapshot)) {
        for (uint32_t i = 0; i < node->partitions; i++) {
            dbos_snapshot_slice(snapshot, i, 1000000);
        }
        write_out(node, snapshot);
    }
    dbos_log_wait(node->log, dbos_log_last_position(node->log));
    enum dbos_err err = dbos_snapshot_finish(snapshot, &node->info);
    dbos_snapshot_close(snapshot);
    return err;
}

static void take(struct test_node *node, const char *dir) {
    cr_assert_eq(finish(node, cut(node, dir)), DBOS_OK, "%s", node->info.message);
}

static void remove_log(const char *dir) {
    char command[200];
    (void)snprintf(command, sizeof command, "rm -f %s/log/*", dir);
    cr_assert_eq(system(command), 0);
}

/* The rows of a snapshot, loaded into a store of its own, as text. */
static char *loaded_text(struct test_node *node, const char *dir, uint64_t position,
                         uint32_t partitions) {
    struct test_node other = {.env = node->env, .partitions = 0};
    struct dbos_snapshot_facts facts;
    dbos_alloc_init(&other.alloc, "other", 0);
    cr_assert_eq(dbos_store_open(&other.alloc, node->objects, partitions, &other.store), DBOS_OK);
    struct dbos_snapshot_load load = {.alloc = &other.alloc,
                                      .env = node->env,
                                      .data_dir = dir,
                                      .database = dbos_log_database(node->log),
                                      .store = other.store,
                                      .log = node->log,
                                      .position = position};
    enum dbos_err err = dbos_snapshot_load(&load, &facts, &other.info);
    cr_assert_eq(err, DBOS_OK, "%s (%s)", other.info.message, other.info.detail);
    cr_assert_eq(facts.state_hash, dbos_store_state_hash(other.store));
    other.partitions = partitions;
    char *out = test_node_text(&other);
    dbos_store_close(other.store);
    dbos_alloc_fini(&other.alloc);
    return out;
}

/* Goal: a snapshot holds what was there at its cut, whatever is written and aborted while it is
 * taken, and a node that starts from it, on any number of partitions, goes on as one that read all
 * of the log. Method: random transactions between slices of a few rows; the text of the store at
 * the cut against that of the loaded snapshot; then a restart. */
Test(txn_snapshot, holds_the_rows_of_its_cut_and_a_node_starts_from_it) {
    char dir[64];
    struct test_node node;
    struct dbos_rng rng;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 11);
    for (uint32_t episode = 0; episode < 10; episode++) {
        test_node_open_ok(&node, dir, 1 + episode % 4);
        if (episode == 0) {
            test_node_create(&node, 100, "parted", true);
            test_node_create(&node, 101, "single", false);
        } else {
            cr_assert_neq(node.snapshot.position, 0);
        }
        for (uint32_t i = 0; i < 150; i++) {
            random_transaction(&node, &rng);
        }
        char *wanted = test_node_text(&node);
        uint64_t position = dbos_log_last_position(node.log);
        struct dbos_snapshot *snapshot = cut(&node, dir);
        while (!is_copied(&node, snapshot)) {
            random_transaction(&node, &rng);
            dbos_snapshot_slice(snapshot, (uint32_t)dbos_rng_below(&rng, node.partitions), 1);
            write_out(&node, snapshot);
        }
        cr_assert_eq(finish(&node, snapshot), DBOS_OK, "%s", node.info.message);
        char *loaded = loaded_text(&node, dir, position, 1 + (uint32_t)dbos_rng_below(&rng, 4));
        cr_assert_str_eq(loaded, wanted);
        free(loaded);
        free(wanted);
        for (uint32_t i = 0; i < 20; i++) {
            random_transaction(&node, &rng);
        }
        char *last = test_node_text(&node);
        test_node_close(&node);
        test_node_open_ok(&node, dir, 1 + (episode + 1) % 4);
        cr_assert_eq(node.snapshot.position, position);
        char *again = test_node_text(&node);
        cr_assert_str_eq(again, last);
        free(again);
        free(last);
        test_node_close(&node);
    }
    test_dir_remove(dir);
}

/* Does a batch of the log begin at or before the position, and end behind it? */
static bool is_inside_a_batch(struct test_node *node, const char *dir, uint64_t position) {
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    bool is_inside = false;
    cr_assert_eq(dbos_log_reader_open(&node->alloc, node->env, dir, 1, 0, &reader, &node->info),
                 DBOS_OK);
    while (dbos_log_reader_next(reader, &batch, &node->info) == DBOS_READ_BATCH) {
        is_inside |= batch.first_position <= position && position < batch.last_position;
    }
    dbos_log_reader_close(reader);
    return is_inside;
}

/* Transactions that go to the disk together may lie on both sides of a cut. */
Test(txn_snapshot, may_be_cut_in_the_midst_of_a_batch) {
    char dir[64];
    struct test_node node;
    struct dbos_rng rng;
    struct env_fault fault;
    bool was_inside = false;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 8);
    env_fault_init(&fault, 1);
    for (uint32_t try = 0; try < 20 && !was_inside; try++) {
        cr_assert_eq(test_node_open_env(&node, dir, 2, &fault.env), DBOS_OK);
        if (try == 0) {
            test_node_create(&node, 100, "parted", true);
            test_node_create(&node, 101, "single", false);
        }
        atomic_store(&fault.sync_delay_us, 3000);
        for (uint32_t i = 0; i < 30; i++) {
            random_transaction(&node, &rng);
        }
        struct dbos_snapshot *snapshot = cut(&node, dir);
        uint64_t position = dbos_log_last_position(node.log);
        for (uint32_t i = 0; i < 30; i++) {
            random_transaction(&node, &rng);
        }
        cr_assert_eq(finish(&node, snapshot), DBOS_OK, "%s", node.info.message);
        was_inside = is_inside_a_batch(&node, dir, position);
        char *wanted = test_node_text(&node);
        test_node_close(&node);
        test_node_open_ok(&node, dir, 1);
        cr_assert_eq(node.snapshot.position, position);
        char *again = test_node_text(&node);
        cr_assert_str_eq(again, wanted);
        free(again);
        free(wanted);
        test_node_close(&node);
    }
    cr_assert(was_inside);
    env_fault_fini(&fault);
    test_dir_remove(dir);
}

Test(txn_snapshot, of_an_empty_database_is_one) {
    char dir[64];
    struct test_node node;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    take(&node, dir);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 3);
    cr_assert_eq(node.snapshot.position, 1);
    cr_assert_eq(node.recovery.records, 0);
    cr_assert_not_null(dbos_store_table(node.store, 100, 2));
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(txn_snapshot, block_counters_and_ids_are_not_given_out_again) {
    char dir[64];
    struct test_node node;
    struct dbos_datum datums[3];
    struct dbos_row *row = NULL;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 777, "dropped", true);
    dbos_txn_begin(node.barrier, &test_call);
    cr_assert_eq(dbos_txn_drop_table(node.barrier, 777, &node.info), DBOS_OK);
    fill(datums, 5, 1);
    cr_assert_eq(dbos_txn_insert(node.barrier, 100, datums, &row, &node.info), DBOS_OK);
    uint64_t block = row->block;
    test_node_commit(&node, node.barrier);
    dbos_txn_begin(node.barrier, &test_call);
    cr_assert_eq(dbos_txn_delete(node.barrier, 100, find(&node, 100, 5), &node.info), DBOS_OK);
    test_node_commit(&node, node.barrier);
    take(&node, dir);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 3);
    cr_assert_eq(node.recovery.records, 0);
    dbos_txn_begin(node.barrier, &test_call);
    cr_assert_eq(dbos_txn_insert(node.barrier, 100, datums, &row, &node.info), DBOS_OK);
    cr_assert_eq(row->block, block + DBOS_SLOTS);
    test_node_commit(&node, node.barrier);
    cr_assert_geq(dbos_store_catalog(node.store)->next_table_id, 778);
    test_node_close(&node);
    test_dir_remove(dir);
}

Test(txn_snapshot, is_given_up_when_a_table_is_dropped_meanwhile) {
    char dir[64];
    struct test_node node;
    struct dbos_rng rng;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 5);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    for (uint32_t i = 0; i < 100; i++) {
        random_transaction(&node, &rng);
    }
    struct dbos_snapshot *snapshot = cut(&node, dir);
    dbos_snapshot_slice(snapshot, 0, 1);
    dbos_txn_begin(node.barrier, &test_call);
    cr_assert_eq(dbos_txn_drop_table(node.barrier, 100, &node.info), DBOS_OK);
    dbos_txn_forget(node.barrier); /* taken back: it goes on */
    dbos_snapshot_slice(snapshot, 0, 1);
    dbos_txn_begin(node.barrier, &test_call);
    cr_assert_eq(dbos_txn_drop_table(node.barrier, 100, &node.info), DBOS_OK);
    test_node_commit(&node, node.barrier);
    cr_assert_eq(finish(&node, snapshot), DBOS_ERR_UNDEFINED_TABLE);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 2);
    cr_assert_eq(node.snapshot.position, 0);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* --- damage ---------------------------------------------------------------------------------- */

static void write_some(struct test_node *node, struct dbos_rng *rng) {
    for (uint32_t i = 0; i < 60; i++) {
        random_transaction(node, rng);
    }
}

static void flip(const char *path, uint64_t bit) {
    FILE *file = fopen(path, "r+b");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, (long)(bit / 8), SEEK_SET), 0);
    int byte = fgetc(file);
    cr_assert_eq(fseek(file, (long)(bit / 8), SEEK_SET), 0);
    cr_assert_neq(fputc(byte ^ (1 << (bit % 8)), file), EOF);
    cr_assert_eq(fclose(file), 0);
}

static uint64_t size_of(const char *path) {
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file);
    cr_assert_eq(fseek(file, 0, SEEK_END), 0);
    long size = ftell(file);
    (void)fclose(file);
    return (uint64_t)size;
}

/* Goal: no flipped bit of a snapshot is served. Method: two snapshots; bits of the newer one
 * flipped, one at a time, all of the manifest and many of the parts: the check refuses it, and the
 * node starts from the older one with the same rows. */
Test(txn_snapshot, a_flipped_bit_is_found_and_the_older_one_is_used) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct test_node node;
    struct dbos_rng rng;
    struct dbos_snapshot_facts facts;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 77);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    write_some(&node, &rng);
    take(&node, dir);
    uint64_t older = dbos_log_last_position(node.log);
    write_some(&node, &rng);
    take(&node, dir);
    uint64_t newer = dbos_log_last_position(node.log);
    struct dbos_uuid database = dbos_log_database(node.log);
    char *wanted = test_node_text(&node);
    test_node_close(&node);
    char copy[80];
    (void)snprintf(copy, sizeof copy, "%s-copy", dir);
    test_dir_copy(dir, copy);
    struct dbos_alloc alloc;
    struct dbos_errinfo info;
    dbos_alloc_init(&alloc, "check", 0);
    for (uint32_t file = 0; file < 3; file++) {
        if (file == 2) {
            dbos_manifest_path(path, dir, newer);
        } else {
            dbos_part_path(path, dir, newer, file);
        }
        uint64_t bits = size_of(path) * 8;
        uint64_t step = file == 2 ? 1 : bits / 400;
        for (uint64_t bit = 0; bit < bits; bit += step) {
            flip(path, bit);
            enum dbos_err err =
                dbos_snapshot_check(&alloc, dbos_env_posix(), dir, &database, newer, &facts, &info);
            cr_assert_eq(err, DBOS_ERR_CORRUPT, "file %u bit %llu: %s", file,
                         (unsigned long long)bit, dbos_err_name(err));
            cr_assert(strstr(info.detail, "snapshots/") != NULL, "%s", info.detail);
            flip(path, bit);
        }
        flip(path, bits / 2);
        test_node_open_ok(&node, dir, 2);
        cr_assert_eq(node.snapshot.position, older);
        cr_assert_eq(node.damaged, 1);
        char *again = test_node_text(&node);
        cr_assert_str_eq(again, wanted);
        free(again);
        test_node_close(&node);
        cr_assert_neq(access(path, F_OK), 0, "what is damaged does not count as one of two");
        test_dir_copy(copy, dir);
    }
    dbos_alloc_fini(&alloc);
    free(wanted);
    test_dir_remove(copy);
    test_dir_remove(dir);
}

Test(txn_snapshot, a_newer_format_version_is_refused) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct test_node node;
    test_dir_make(dir, sizeof dir);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "parted", true);
    take(&node, dir);
    test_node_close(&node);
    dbos_manifest_path(path, dir, 1);
    struct {
        struct dbos_stored_manifest head;
        struct dbos_stored_part_facts part;
    } manifest;
    FILE *file = fopen(path, "r+b");
    cr_assert_eq(fread(&manifest, sizeof manifest, 1, file), 1);
    manifest.head.version = DBOS_SNAPSHOT_FORMAT_VERSION + 1;
    manifest.head.crc = dbos_crc32c(0, &manifest.head, offsetof(struct dbos_stored_manifest, crc));
    manifest.head.crc = dbos_crc32c(manifest.head.crc, &manifest.part, sizeof manifest.part);
    rewind(file);
    cr_assert_eq(fwrite(&manifest, sizeof manifest, 1, file), 1);
    (void)fclose(file);
    cr_assert_eq(test_node_open(&node, dir, 1), DBOS_ERR_FORMAT_VERSION);
    test_dir_remove(dir);
}

Test(txn_snapshot, a_log_that_does_not_reach_back_or_up_to_it_is_refused) {
    char dir[64];
    char copy[80];
    struct test_node node;
    struct dbos_rng rng;
    test_dir_make(dir, sizeof dir);
    (void)snprintf(copy, sizeof copy, "%s-copy", dir);
    dbos_rng_init(&rng, 3);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    write_some(&node, &rng);
    test_node_close(&node);
    test_dir_copy(dir, copy); /* a log that ends before … */
    test_node_open_ok(&node, dir, 1);
    write_some(&node, &rng);
    take(&node, dir);
    test_node_close(&node);
    char command[400];
    (void)snprintf(command, sizeof command, "cp -r %s/snapshots %s/", dir, copy);
    cr_assert_eq(system(command), 0); /* … the snapshot */
    cr_assert_eq(test_node_open(&node, copy, 1), DBOS_ERR_CORRUPT);
    remove_log(dir);
    cr_assert_eq(test_node_open(&node, dir, 1), DBOS_ERR_CORRUPT);
    test_dir_remove(copy);
    test_dir_remove(dir);
}

/* --- faults ---------------------------------------------------------------------------------- */

enum { STORY = 45, POSITIONS_MAX = 200 };

/* What a process shares with the one that outlives it. */
struct witness {
    uint64_t acknowledged;          /* position */
    uint64_t hashes[POSITIONS_MAX]; /* of the state after each, as an undisturbed run has them */
    uint64_t taken;                 /* snapshots that count */
};

static void note_state(struct test_node *node, struct witness *witness, bool is_told) {
    uint64_t position = dbos_log_last_position(node->log);
    cr_assert_lt(position, POSITIONS_MAX);
    if (is_told) {
        witness->hashes[position] = dbos_store_state_hash(node->store);
    }
    dbos_log_wait(node->log, position);
    witness->acknowledged = position;
}

/* Start, write, take a snapshot between writes, remove what it makes useless, write. All of it is
 * the same each time, so that it can be cut short anywhere. */
static void tell_story(const char *dir, struct dbos_env *env, struct witness *witness,
                       bool is_told) {
    struct test_node node;
    struct dbos_rng rng;
    uint64_t positions[8];
    uint32_t count = 0;
    uint32_t removed = 0;
    dbos_rng_init(&rng, 42);
    if (test_node_open_env(&node, dir, 2, env) != DBOS_OK) {
        return; /* the disk failed while it started */
    }
    struct dbos_snapshot *snapshot = NULL;
    for (uint32_t i = 0; i < STORY; i++) {
        random_transaction(&node, &rng);
        note_state(&node, witness, is_told);
        if (i == STORY / 3) {
            snapshot = cut(&node, dir);
        } else if (snapshot != NULL && i % 2 == 0) {
            dbos_snapshot_slice(snapshot, i / 2 % 2, 1);
            write_out(&node, snapshot);
        }
    }
    witness->taken += finish(&node, snapshot) == DBOS_OK;
    enum dbos_err err = dbos_snapshot_list(env, dir, positions, 8, &count, &node.info);
    if (err == DBOS_OK && count == 2) {
        err = dbos_log_truncate(node.log, positions[0], &removed, &node.info);
        if (err == DBOS_OK) {
            err = dbos_snapshot_remove(&node.alloc, env, dir, positions[1], &node.info);
        }
    }
    for (uint32_t i = 0; i < 5; i++) {
        random_transaction(&node, &rng);
        note_state(&node, witness, is_told);
    }
    test_node_close(&node);
}

static void prepare_story(const char *dir) {
    struct test_node node;
    struct dbos_rng rng;
    dbos_rng_init(&rng, 41);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    for (uint32_t i = 0; i < 30; i++) {
        random_transaction(&node, &rng);
    }
    take(&node, dir);
    test_node_close(&node);
}

/* The operations that change the disk, of the whole story; *out_removed: segments that went. */
static uint64_t count_operations(const char *dir, struct witness *witness) {
    struct env_fault fault;
    env_fault_init(&fault, 1);
    tell_story(dir, &fault.env, witness, true);
    uint64_t count = fault.operations;
    env_fault_fini(&fault);
    cr_assert_eq(witness->taken, 1);
    return count;
}

/* Goal: whatever the disk does while a snapshot is taken and what it makes useless is removed, a
 * node starts with everything that was acknowledged. Method: the same story in a process of its
 * own, with a power cut, or a failure, at each operation that changes the disk; then a start, and
 * the state hash of an undisturbed run. */
static void try_everywhere(enum env_fault_action action) {
    char base[64];
    char dir[80];
    char first[DBOS_PATH_BYTES];
    test_dir_make(base, sizeof base);
    (void)snprintf(dir, sizeof dir, "%s-now", base);
    test_node_segment_bytes = 16384;
    prepare_story(base);
    struct witness *witness =
        mmap(NULL, sizeof *witness, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(witness, MAP_FAILED);
    test_dir_copy(base, dir);
    uint64_t operations = count_operations(dir, witness);
    dbos_segment_path(first, dir, 1);
    cr_assert_neq(access(first, F_OK), 0, "the story truncates the log");
    uint64_t met = 0;
    for (uint64_t n = 1; n <= operations; n++) {
        test_dir_copy(base, dir);
        witness->acknowledged = 0;
        (void)fflush(NULL);
        pid_t child = fork();
        if (child == 0) {
            struct env_fault fault;
            env_fault_init(&fault, n);
            env_fault_arm(&fault, action, (int64_t)n);
            tell_story(dir, &fault.env, witness, false);
            _exit(0);
        }
        int status = 0;
        cr_assert_eq(waitpid(child, &status, 0), child);
        cr_assert(WIFEXITED(status), "operation %llu: signal %d", (unsigned long long)n,
                  WTERMSIG(status));
        int code = WEXITSTATUS(status);
        cr_assert(code == 0 || code == ENV_FAULT_POWER_CUT || code == DBOS_EXIT_LOG_FAILED,
                  "operation %llu: status %d", (unsigned long long)n, code);
        met += code != 0;
        struct test_node node;
        enum dbos_err err = test_node_open(&node, dir, 1 + (uint32_t)(n % 3));
        cr_assert_eq(err, DBOS_OK, "operation %llu: %s (%s)", (unsigned long long)n,
                     node.info.message, node.info.detail);
        uint64_t last = dbos_log_last_position(node.log);
        cr_assert_geq(last, witness->acknowledged);
        cr_assert(last < 32 || dbos_store_state_hash(node.store) == witness->hashes[last],
                  "operation %llu: another state at %llu", (unsigned long long)n,
                  (unsigned long long)last);
        cr_assert_neq(node.snapshot.position, 0);
        test_node_close(&node);
    }
    cr_assert_gt(met, operations / 4);
    cr_assert_eq(munmap(witness, sizeof *witness), 0);
    test_dir_remove(dir);
    test_dir_remove(base);
}

Test(txn_snapshot, a_power_cut_at_any_operation_loses_nothing) { try_everywhere(ENV_FAULT_CUT); }

Test(txn_snapshot, a_failure_at_any_operation_loses_nothing) {
    try_everywhere(ENV_FAULT_FAIL_ONCE);
}

/* Goal: a snapshot that finds no memory is given up, without a trace and without a leak, and the
 * next one is whole. Method: the n-th take fails, for each n. */
Test(txn_snapshot, without_memory_is_given_up) {
    char dir[64];
    struct test_node node;
    struct dbos_rng rng;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 9);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    write_some(&node, &rng);
    bool failed = true;
    uint32_t failures = 0;
    for (int64_t n = 1; failed; n++) {
        struct dbos_alloc alloc;
        struct dbos_snapshot *snapshot = NULL;
        random_transaction(&node, &rng); /* each has a position of its own */
        dbos_txn_begin(node.barrier, &test_call);
        write_one(&node, node.barrier, &rng, 100);
        test_node_commit(&node, node.barrier);
        dbos_alloc_init(&alloc, "snapshot", 0);
        alloc.fail_countdown = n;
        struct dbos_snapshot_options options = {
            .env = node.env,
            .data_dir = dir,
            .store = node.store,
            .database = dbos_log_database(node.log),
            .position = dbos_log_last_position(node.log),
            .commit_us = node.last_us,
            .generation = ++generations,
        };
        enum dbos_err err = dbos_snapshot_cut(&alloc, &options, &snapshot, &node.info);
        if (err == DBOS_OK) {
            random_transaction(&node, &rng);
            err = finish(&node, snapshot);
        }
        failed = err != DBOS_OK;
        cr_assert(!failed || err == DBOS_ERR_NOMEM, "%s", node.info.message);
        failures += failed;
        dbos_alloc_fini(&alloc); /* nothing leaks */
    }
    cr_assert_gt(failures, 4);
    char *wanted = test_node_text(&node);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 2);
    char *again = test_node_text(&node);
    cr_assert_str_eq(again, wanted);
    free(again);
    free(wanted);
    test_node_close(&node);
    test_dir_remove(dir);
}

/* Goal: recovery that finds no memory says so, leaks nothing, and never serves a part of the rows.
 * Method: the n-th take fails, for each n, with a snapshot and log behind it. */
Test(txn_snapshot, recovery_without_memory_is_refused) {
    char dir[64];
    struct test_node node;
    struct dbos_rng rng;
    uint32_t failures = 0;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 19);
    test_node_open_ok(&node, dir, 2);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    write_some(&node, &rng);
    take(&node, dir);
    for (uint32_t i = 0; i < 60; i++) { /* nothing that all partitions wait for */
        struct dbos_txn *txn = node.txns[i % 2];
        dbos_txn_begin(txn, &test_call);
        write_one(&node, txn, &rng, 100);
        write_one(&node, txn, &rng, 100);
        test_node_commit(&node, txn);
    }
    char *wanted = test_node_text(&node);
    test_node_close(&node);
    for (test_node_recovery_fails = 1; test_node_recovery_fails != 0; test_node_recovery_fails++) {
        enum dbos_err err = test_node_open(&node, dir, 2);
        cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%s", node.info.message);
        if (err != DBOS_OK) {
            failures++;
            continue;
        }
        char *again = test_node_text(&node);
        cr_assert_str_eq(again, wanted, "take %ld", (long)test_node_recovery_fails);
        free(again);
        bool is_last = !node.has_met_failure;
        test_node_close(&node);
        if (is_last) {
            break;
        }
    }
    test_node_recovery_fails = 0;
    cr_assert_gt(failures, 50);
    free(wanted);
    test_dir_remove(dir);
}

/* The first write of a segment may end behind its header: then the segment begins behind a snapshot
 * that was taken at the end of the one before, and has nothing yet. */
Test(txn_snapshot, a_segment_that_begins_behind_it_may_be_empty) {
    char dir[64];
    char path[DBOS_PATH_BYTES];
    struct test_node node;
    struct dbos_rng rng;
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    struct dbos_segment_header header;
    static uint8_t bytes[1048576];
    uint32_t crc = 0;
    test_dir_make(dir, sizeof dir);
    dbos_rng_init(&rng, 23);
    test_node_open_ok(&node, dir, 1);
    test_node_create(&node, 100, "parted", true);
    test_node_create(&node, 101, "single", false);
    write_some(&node, &rng);
    take(&node, dir);
    uint64_t position = dbos_log_last_position(node.log);
    char *wanted = test_node_text(&node);
    cr_assert_eq(dbos_log_reader_open(&node.alloc, node.env, dir, 1, 0, &reader, &node.info),
                 DBOS_OK);
    while (dbos_log_reader_next(reader, &batch, &node.info) == DBOS_READ_BATCH) {
        crc = batch.header_crc;
    }
    cr_assert(dbos_log_reader_header(reader, &header));
    dbos_log_reader_close(reader);
    test_node_close(&node);
    header.number++;
    header.first_position = position + 1;
    header.previous_crc = crc;
    header.size_bytes = sizeof bytes;
    dbos_segment_header_encode(&header, bytes);
    dbos_segment_path(path, dir, header.number);
    FILE *file = fopen(path, "wb");
    cr_assert_eq(fwrite(bytes, sizeof bytes, 1, file), 1);
    (void)fclose(file);
    test_node_open_ok(&node, dir, 1);
    cr_assert_eq(dbos_log_last_position(node.log), position);
    char *again = test_node_text(&node);
    cr_assert_str_eq(again, wanted);
    random_transaction(&node, &rng);
    free(again);
    free(wanted);
    test_node_close(&node);
    test_node_open_ok(&node, dir, 2);
    test_node_close(&node);
    test_dir_remove(dir);
}
