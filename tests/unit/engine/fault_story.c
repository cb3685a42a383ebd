#include "tests/unit/engine/fault_story.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

/* --- an engine ------------------------------------------------------------------------------- */

enum dbos_err fault_engine_open(struct test_engine *t, const char *dir,
                                struct dbos_engine_options options, struct dbos_errinfo *info) {
    return fault_engine_open_starved(t, dir, options, 0, info);
}

enum dbos_err fault_engine_open_starved(struct test_engine *t, const char *dir,
                                        struct dbos_engine_options options, int64_t n,
                                        struct dbos_errinfo *info) {
    memset(t, 0, sizeof *t);
    (void)snprintf(t->dir, sizeof t->dir, "%s", dir);
    dbos_alloc_init(&t->alloc, "engine", 0);
    atomic_store(&t->alloc.fail_countdown, n);
    env_fault_init(&t->fault, 1);
    options.env = &t->fault.env;
    options.data_dir = t->dir;
    options.program_dir = options.program_dir == NULL ? "" : options.program_dir;
    enum dbos_err err = dbos_engine_open(&t->alloc, &options, &t->engine, info);
    if (err == DBOS_OK) {
        err = dbos_engine_start(t->engine, NULL, NULL, info);
    }
    if (err != DBOS_OK) {
        fault_engine_close(t);
        return err;
    }
    t->session = (struct dbos_session_info){.id = dbos_engine_take_session_id(t->engine),
                                            .user = "u",
                                            .role = "u",
                                            .address = "in process",
                                            .application = "test"};
    return DBOS_OK;
}

void fault_engine_close(struct test_engine *t) {
    if (t->engine != NULL) {
        dbos_engine_stop(t->engine);
        dbos_engine_close(t->engine);
    }
    env_fault_fini(&t->fault);
    dbos_alloc_fini(&t->alloc);
}

/* --- statements ------------------------------------------------------------------------------ */

static void on_done(struct dbos_request *request) { (void)sem_post(request->owner); }

static enum dbos_err plan(struct test_engine *t, const char *sql, struct dbos_script **script,
                          struct dbos_plan **out, struct dbos_errinfo *info) {
    struct dbos_alloc *alloc = dbos_engine_session_alloc(t->engine);
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(t->engine);
    enum dbos_err err = dbos_script_parse(alloc, sql, script, info);
    if (err == DBOS_OK) {
        err = dbos_plan_make(alloc, catalog, dbos_engine_procs(t->engine), *script, 0, NULL, 0, out,
                             info);
    }
    dbos_catalog_unref(catalog);
    return err;
}

static enum dbos_err run_planned(struct test_engine *t, struct dbos_request *request,
                                 struct dbos_errinfo *info) {
    sem_t done;
    (void)sem_init(&done, 0, 0);
    request->session = &t->session;
    request->on_done = on_done;
    request->owner = &done;
    dbos_buf_init(&request->reply, dbos_engine_session_alloc(t->engine));
    enum dbos_err err = dbos_engine_route(t->engine, request, info);
    if (err == DBOS_OK) {
        dbos_engine_submit(t->engine, request);
        test_wait_for(&done, 1);
        dbos_log_wait(t->engine->log, request->gate_position);
        err = request->outcome;
        *info = request->error;
    }
    dbos_buf_fini(&request->reply);
    (void)sem_destroy(&done);
    return err;
}

enum dbos_err fault_run(struct test_engine *t, const char *sql, struct dbos_errinfo *info) {
    struct dbos_script *script = NULL;
    struct dbos_request_statement statement = {.plan = NULL};
    enum dbos_err err = plan(t, sql, &script, &statement.plan, info);
    if (err == DBOS_OK) {
        struct dbos_request request = {
            .kind = DBOS_REQUEST_STATEMENTS, .statement_count = 1, .statements = &statement};
        err = run_planned(t, &request, info);
    }
    if (statement.plan != NULL) {
        dbos_plan_unref(statement.plan);
    }
    if (script != NULL) {
        dbos_script_close(script);
    }
    return err;
}

void fault_must(struct test_engine *t, const char *sql) {
    struct dbos_errinfo info = {0};
    cr_assert_eq(fault_run(t, sql, &info), DBOS_OK, "%.100s: %s (%s)", sql, info.message,
                 info.detail);
}

enum dbos_err fault_snapshot(struct test_engine *t, struct dbos_errinfo *info) {
    sem_t done;
    (void)sem_init(&done, 0, 0);
    struct dbos_request request = {.session = &t->session, .on_done = on_done, .owner = &done};
    dbos_buf_init(&request.reply, dbos_engine_session_alloc(t->engine));
    dbos_snapshots_submit(t->engine->snapshots, &request);
    test_wait_for(&done, 1);
    *info = request.error;
    dbos_buf_fini(&request.reply);
    (void)sem_destroy(&done);
    return request.outcome;
}

/* --- what is there --------------------------------------------------------------------------- */

static const struct dbos_table_def *table_of(struct test_engine *t, const char *name) {
    const struct dbos_table_def *def =
        dbos_catalog_table(dbos_store_catalog(t->engine->store), NULL, name);
    cr_assert_not_null(def, "%s", name);
    return def;
}

bool fault_find(struct test_engine *t, const char *table, int64_t key, const char *column,
                struct dbos_datum *out) {
    const struct dbos_table_def *def = table_of(t, table);
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT8, key);
    uint32_t partition = dbos_store_partition_of(t->engine->store, dbos_slot_of(&datum));
    struct dbos_table *part = dbos_store_table(t->engine->store, def->id, partition);
    const struct dbos_row *row = dbos_table_find(part, 0, &datum);
    if (row != NULL) {
        *out = dbos_row_column(def, row, (uint32_t)dbos_table_def_column(def, column));
    }
    return row != NULL;
}

uint64_t fault_count(struct test_engine *t, const char *table) {
    const struct dbos_table_def *def = table_of(t, table);
    uint32_t parts = def->partition_column < 0 ? 1 : dbos_engine_partitions(t->engine);
    uint64_t rows = 0;
    for (uint32_t i = 0; i < parts; i++) {
        rows += dbos_table_row_count(dbos_store_table(t->engine->store, def->id, i));
    }
    return rows;
}

struct dbos_alloc *fault_alloc(struct test_engine *t, uint32_t number) {
    struct dbos_alloc *const allocs[FAULT_ALLOCATORS] = {
        &t->alloc,
        &t->engine->storage_alloc,
        &t->engine->objects_alloc,
        &t->engine->session_alloc,
        &t->engine->log_alloc,
        &t->engine->procs_alloc,
        &t->engine->regions_alloc,
    };
    return allocs[number];
}

/* --- directories and processes --------------------------------------------------------------- */

void fault_dirs_make(struct fault_dirs *dirs) {
    (void)snprintf(dirs->base, sizeof dirs->base, "/tmp/dbos-story-XXXXXX");
    cr_assert_not_null(mkdtemp(dirs->base));
    (void)snprintf(dirs->now, sizeof dirs->now, "%s-now", dirs->base);
}

static void shell(const char *format, const char *a, const char *b) {
    char command[400];
    (void)snprintf(command, sizeof command, format, a, b);
    cr_assert_eq(system(command), 0, "%s", command);
}

void fault_dirs_again(const struct fault_dirs *dirs) {
    shell("rm -rf '%s'%s", dirs->now, "");
    shell("cp -r '%s' '%s'", dirs->base, dirs->now);
}

void fault_dirs_remove(const struct fault_dirs *dirs) {
    shell("rm -rf '%s' '%s'", dirs->base, dirs->now);
}

void fault_arm(struct test_engine *t, const struct fault_point *point) {
    t->fault.error = point->error;
    dbos_rng_init(&t->fault.rng, (uint64_t)point->n);
    env_fault_arm(&t->fault, point->action, point->n);
}

bool fault_tell(void (*tell)(const char *dir, const struct fault_point *point, void *arg),
                const char *dir, const struct fault_point *point, void *arg) {
    (void)fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        tell(dir, point, arg);
        _exit(0);
    }
    int status = 0;
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status), "action %d, operation %lld: signal %d", point->action,
              (long long)point->n, WTERMSIG(status));
    int code = WEXITSTATUS(status);
    bool fails = point->action == ENV_FAULT_FAIL_ONCE || point->action == ENV_FAULT_FAIL_FOREVER;
    cr_assert(code == 0 || code == (fails ? DBOS_EXIT_LOG_FAILED : ENV_FAULT_POWER_CUT),
              "action %d, operation %lld: status %d", point->action, (long long)point->n, code);
    return code != 0;
}

void *fault_shared(size_t size_bytes) {
    void *block = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(block, MAP_FAILED);
    return block;
}
