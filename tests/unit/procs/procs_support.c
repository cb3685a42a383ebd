#include "tests/unit/procs/procs_support.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "procs/sql/type_io.h"

static const struct dbos_session_info session = {
    .id = 1, .user = "tester", .role = "", .address = "127.0.0.1", .application = "unit"};

static int64_t next_us(void *arg) {
    int64_t *last_us = arg;
    return ++*last_us;
}

static struct dbos_txn *open_txn(struct node *node, uint32_t partition) {
    struct dbos_txn_options options = {
        .store = node->store,
        .commit_time = next_us,
        .commit_time_arg = &node->last_us,
        .partition = partition,
        .env = dbos_env_posix(),
    };
    struct dbos_txn *txn = NULL;
    cr_assert_eq(dbos_txn_open(&node->txn_alloc, &options, &txn), DBOS_OK);
    return txn;
}

void node_open(struct node *node) {
    memset(node, 0, sizeof *node);
    node->last_us = INT64_C(1700000000000000);
    dbos_alloc_init(&node->alloc, "test", 0);
    dbos_alloc_init(&node->txn_alloc, "txn", 0);
    cr_assert_eq(dbos_objects_open(&node->alloc, 42, &node->objects), DBOS_OK);
    cr_assert_eq(dbos_store_open(&node->alloc, node->objects, NODE_PARTITIONS, &node->store),
                 DBOS_OK);
    cr_assert_eq(dbos_procs_open(&node->alloc, dbos_env_posix(), NULL, &node->procs), DBOS_OK);
    cr_assert_eq(dbos_procs_load_all(node->procs, node->store, &node->info), DBOS_OK);
    node->barrier = open_txn(node, DBOS_PARTITION_ALL);
    for (uint32_t p = 0; p < NODE_PARTITIONS; p++) {
        node->parts[p] = open_txn(node, p);
    }
}

void node_close(struct node *node) {
    node_drop_batch(node);
    for (uint32_t p = 0; p < NODE_PARTITIONS; p++) {
        dbos_txn_close(node->parts[p]);
    }
    dbos_txn_close(node->barrier);
    dbos_procs_close(node->procs);
    dbos_store_close(node->store);
    dbos_objects_close(node->objects);
    dbos_alloc_fini(&node->txn_alloc);
    dbos_alloc_fini(&node->alloc);
}

enum dbos_err node_reload_procedures(struct node *node) {
    dbos_procs_close(node->procs);
    cr_assert_eq(dbos_procs_open(&node->alloc, dbos_env_posix(), NULL, &node->procs), DBOS_OK);
    return dbos_procs_load_all(node->procs, node->store, &node->info);
}

/* -- transactions ---------------------------------------------------------------------------------
 */

struct dbos_run node_begin(struct node *node, uint32_t partition) {
    static const struct dbos_txn_call call = {.session = &session, .request = 1};
    struct dbos_run run = {
        .txn = partition == DBOS_PARTITION_ALL ? node->barrier : node->parts[partition],
        .procs = node->procs,
        .user = session.user,
        .env = dbos_env_posix(),
    };
    node_drop_batch(node);
    memset(&node->info, 0, sizeof node->info);
    dbos_txn_begin(run.txn, &call);
    return run;
}

enum dbos_err node_end(struct node *node, const struct dbos_run *run, enum dbos_err err) {
    uint64_t position = 0;
    if (err == DBOS_OK) {
        err = dbos_outbox_take(run->txn, &node->batch, &node->info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_commit(run->txn, &position, &node->info);
    }
    if (err != DBOS_OK) {
        (void)dbos_txn_abort(run->txn, err);
    }
    if (run->txn == node->barrier) {
        if (err == DBOS_OK) {
            dbos_procs_committed(node->procs);
        } else {
            dbos_procs_aborted(node->procs);
        }
    }
    return err;
}

void node_drop_batch(struct node *node) {
    dbos_outbox_drop(&node->batch);
    memset(&node->batch, 0, sizeof node->batch);
}

/* -- statements -----------------------------------------------------------------------------------
 */

struct text_sink {
    struct dbos_sink base;
    struct node *node;
};

static enum dbos_err text_row(struct dbos_sink *sink, const struct dbos_datum *datums,
                              uint32_t count, struct dbos_errinfo *info) {
    struct node *node = ((struct text_sink *)sink)->node;
    struct dbos_buf line;
    dbos_buf_init(&line, &node->alloc);
    for (uint32_t i = 0; i < count; i++) {
        dbos_buf_put(&line, "|", i == 0 ? 0 : 1);
        if (!datums[i].is_null) {
            dbos_text_out(&datums[i], &line);
        }
    }
    dbos_buf_put(&line, "\n", 2); /* with its NUL */
    if (line.failed) {
        dbos_buf_fini(&line);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    size_t used = strlen(node->text);
    if (used + line.size_bytes <= sizeof node->text) {
        memcpy(node->text + used, line.data, line.size_bytes);
    }
    dbos_buf_fini(&line);
    return DBOS_OK;
}

static enum dbos_err run_one(struct node *node, const struct dbos_run *run,
                             struct dbos_script *script, uint32_t statement) {
    struct dbos_plan *plan = NULL;
    uint64_t rows = 0;
    struct text_sink sink = {.base = {.row = text_row}, .node = node};
    enum dbos_err err = dbos_plan_make(&node->alloc, dbos_txn_catalog(run->txn), node->procs,
                                       script, statement, NULL, 0, &plan, &node->info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_plan_run(plan, run, NULL, 0, &sink.base, &rows, &node->info);
    if (err == DBOS_OK && dbos_plan_kind(plan) == DBOS_STATEMENT_DDL) {
        err = dbos_procs_replan(node->procs, dbos_txn_catalog(run->txn), &node->info);
    }
    dbos_plan_unref(plan);
    return err;
}

enum dbos_err node_try(struct node *node, const char *sql) {
    struct dbos_script *script = NULL;
    node->text[0] = '\0';
    struct dbos_run run = node_begin(node, DBOS_PARTITION_ALL);
    enum dbos_err err = dbos_script_parse(&node->alloc, sql, &script, &node->info);
    for (uint32_t i = 0; err == DBOS_OK && i < dbos_script_count(script); i++) {
        err = run_one(node, &run, script, i);
    }
    if (script != NULL) {
        dbos_script_close(script);
    }
    return node_end(node, &run, err);
}

void node_exec(struct node *node, const char *sql) {
    enum dbos_err err = node_try(node, sql);
    cr_assert_eq(err, DBOS_OK, "%s: %s: %s %s", sql, dbos_err_name(err), node->info.message,
                 node->info.detail);
}

void node_expect(struct node *node, const char *sql, const char *expected) {
    node_exec(node, sql);
    cr_expect_str_eq(node->text, expected, "%s: \"%s\", not \"%s\"", sql, node->text, expected);
}

/* -- calls ----------------------------------------------------------------------------------------
 */

uint32_t node_partition_of(const struct node *node, int64_t value) {
    struct dbos_datum datum = bigint(value);
    return dbos_store_partition_of(node->store, dbos_slot_of(&datum));
}

int64_t node_value_on(const struct node *node, uint32_t partition, uint32_t i) {
    int64_t value = 0;
    do {
        value++;
        i -= node_partition_of(node, value) == partition && i > 0 ? 1 : 0;
    } while (i > 0 || node_partition_of(node, value) != partition);
    return value;
}

enum dbos_err node_call(struct node *node, const char *name, const struct dbos_datum *arguments,
                        uint32_t count, struct dbos_datum *out) {
    const struct dbos_procedure_info *procedure =
        dbos_catalog_procedure(dbos_store_catalog(node->store), name);
    cr_assert_not_null(procedure, "no procedure %s", name);
    struct dbos_procedure_handle *handle =
        dbos_procs_find(node->procs, procedure->id, procedure->version);
    cr_assert_not_null(handle, "procedure %s is not loaded", name);
    uint32_t table = 0;
    uint32_t argument = 0;
    uint32_t partition = DBOS_PARTITION_ALL;
    struct dbos_datum value;
    if (dbos_procedure_route(handle, &table, &argument)) {
        partition = dbos_store_partition_of(node->store, dbos_slot_of(&arguments[argument]));
    }
    struct dbos_run run = node_begin(node, partition);
    enum dbos_err err = dbos_procedure_call(handle, &run, arguments, count, NULL,
                                            out == NULL ? &value : out, &node->info);
    return node_end(node, &run, err);
}

/* -- files and values -----------------------------------------------------------------------------
 */

const char *node_module(const char *name, char out[512]) {
    (void)snprintf(out, 512, "%s/../lib/dbos/%s", DBOS_BIN_DIR, name);
    return out;
}

uint8_t *node_read_file(struct dbos_alloc *alloc, const char *path, size_t *out_bytes) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info = {0};
    int file = -1;
    uint64_t size_bytes = 0;
    cr_assert_eq(env->ops->file_open(env, path, DBOS_OPEN_READ, &file, &info), DBOS_OK, "%s",
                 info.message);
    cr_assert_eq(env->ops->file_size(env, file, &size_bytes, &info), DBOS_OK);
    uint8_t *data = dbos_take(alloc, size_bytes);
    cr_assert_not_null(data);
    cr_assert_eq(env->ops->file_read(env, file, 0, data, size_bytes, out_bytes, &info), DBOS_OK);
    env->ops->file_close(env, file);
    return data;
}

struct dbos_datum text_of(const char *text) {
    return dbos_datum_bytes(DBOS_TYPE_TEXT, text, strlen(text));
}
struct dbos_datum bigint(int64_t value) {
    return dbos_datum_int(DBOS_TYPE_INT8, value);
}
struct dbos_datum integer(int64_t value) {
    return dbos_datum_int(DBOS_TYPE_INT4, value);
}
struct dbos_datum bytea(const void *data, size_t size_bytes) {
    return dbos_datum_bytes(DBOS_TYPE_BYTEA, data, size_bytes);
}
