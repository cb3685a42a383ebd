/* Goal: a procedure is registered wholly or not at all, whatever the disk does and wherever memory
 * ends; what was acknowledged is there, and a second try succeeds.
 * Method: a story of everything that registers and drops procedures, with snapshots in between. It
 * is told in a process of its own and cut short at each operation that changes the disk; a new
 * engine then finds what was acknowledged, or that and what was under way, calls what there is,
 * and tells the rest; and what was recorded can be run again. Then the n-th allocation fails, in
 * each allocator, for each n, of each kind of registration. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/replay.h"
#include "procs/procedure_internal.h"
#include "tests/unit/engine/fault_story.h"

TestSuite(engine_registration_faults, .timeout = 120);

enum { SEGMENT_BYTES = 131072, STATE_BYTES = 1024, SQL_BYTES = 1 << 17, CALLS = 100 };

/* --- the story ------------------------------------------------------------------------------- */

static const char *const before[] = {
    "CREATE TABLE calls (id bigint PRIMARY KEY, version bigint) PARTITION BY HASH (id)",
    "CREATE TABLE account (id bigint PRIMARY KEY, balance bigint) PARTITION BY HASH (id)",
    "INSERT INTO account VALUES (1, 100), (2, 50)",
    ("CREATE FUNCTION stays(bigint) RETURNS bigint LANGUAGE sql "
     "AS 'SELECT balance FROM account WHERE id = $1'"),
    "CREATE FUNCTION goes(bigint) RETURNS bigint LANGUAGE sql AS 'SELECT $1'",
};

#define ANSWER(create, module)                                                                     \
    create " FUNCTION answer(id bigint) RETURNS bigint LANGUAGE c AS '" module "', 'answer'"

#define LATE(table)                                                                                \
    "CREATE PROCEDURE late(bigint) LANGUAGE sql AS 'DELETE FROM " table " WHERE id = $1'"

static char put_first[SQL_BYTES];
static char put_second[SQL_BYTES];
static char create_word[256];

/* NULL: take a snapshot. */
static const char *const steps[] = {
    ANSWER("CREATE", "test/version_1.so"),
    "SELECT answer(1)",
    NULL,
    ANSWER("CREATE OR REPLACE", "test/version_2.so"),
    "SELECT answer(2)",
    "DROP FUNCTION goes",
    LATE("account"),
    put_first, /* as `dbosctl procedure load` does it */
    put_second,
    create_word,
    NULL,
    ANSWER("CREATE OR REPLACE", "test/version_1.so"),
    "SELECT answer(3)",
};
enum { STEPS = sizeof steps / sizeof steps[0] };

static void write_put(char *out, const char *hash, int chunk, const uint8_t *data, size_t bytes) {
    size_t at =
        (size_t)snprintf(out, SQL_BYTES, "CALL dbos_module_put('%s', %d, '\\x", hash, chunk);
    cr_assert_lt(at + 2 * bytes + 8, SQL_BYTES);
    for (size_t i = 0; i < bytes; i++) {
        at += (size_t)snprintf(out + at, SQL_BYTES - at, "%02x", data[i]);
    }
    (void)snprintf(out + at, SQL_BYTES - at, "')");
}

/* The bytes of a module, in two chunks, and the definition that names them. */
static void write_upload(void) {
    static uint8_t bytes[SQL_BYTES / 2];
    char hash[33];
    FILE *file = fopen(DBOS_BIN_DIR "/../lib/dbos/test/good.so", "rb");
    cr_assert_not_null(file);
    size_t size = fread(bytes, 1, sizeof bytes, file);
    (void)fclose(file);
    cr_assert(size > 1000 && size < sizeof bytes);
    dbos_hash_text(dbos_hash128(0, bytes, size), hash);
    write_put(put_first, hash, 0, bytes, 1000);
    write_put(put_second, hash, 1, bytes + 1000, size - 1000);
    (void)snprintf(create_word, sizeof create_word,
                   "CREATE FUNCTION word(int) RETURNS text LANGUAGE c AS 'dbos:%s', 'word'", hash);
}

/* What a process shares with the one that outlives it. */
struct witness {
    int acknowledged;                    /* steps */
    char states[STEPS + 1][STATE_BYTES]; /* after so many, as an undisturbed run has them */
    uint64_t operations;                 /* of an undisturbed run */
    bool is_told;                        /* to its end, and the disk was well */
};

static enum dbos_err open_node(struct test_engine *t, const char *dir, uint32_t partitions) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = fault_engine_open(
        t, dir,
        (struct dbos_engine_options){.partitions = partitions, .segment_bytes = SEGMENT_BYTES},
        &info);
    cr_assert_eq(err, DBOS_OK, "%s (%s)", info.message, info.detail);
    return err;
}

/* A snapshot may be given up; for anything else the log goes on, or the process ends. */
static enum dbos_err tell_step(struct test_engine *t, int step) {
    struct dbos_errinfo info = {0};
    enum dbos_err err = DBOS_OK;
    if (steps[step] == NULL) {
        err = fault_snapshot(t, &info);
        return err == DBOS_ERR_IO || err == DBOS_ERR_DISK_FULL ? DBOS_OK : err;
    }
    err = fault_run(t, steps[step], &info);
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "%.100s: %s\n", steps[step], info.message);
    }
    return err;
}

/* --- what there is --------------------------------------------------------------------------- */

static void put_procedures(struct test_engine *t, char *out, size_t *used) {
    const struct dbos_catalog *catalog = dbos_store_catalog(t->engine->store);
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        const struct dbos_procedure_info *info = catalog->procedures[i];
        char hash[33];
        dbos_hash_text(info->module, hash);
        *used += (size_t)snprintf(out + *used, STATE_BYTES - *used, "%s id %u version %u %s %u\n",
                                  info->name, info->id, info->version, hash, info->module_bytes);
    }
}

/* Definitions, chunks of modules, and rows. */
static void describe(struct test_engine *t, char out[STATE_BYTES]) {
    size_t used = 0;
    struct dbos_datum value;
    put_procedures(t, out, &used);
    used += (size_t)snprintf(out + used, STATE_BYTES - used, "%llu chunks\n",
                             (unsigned long long)fault_count(t, "module_chunk"));
    for (int64_t id = 1; id <= 3; id++) {
        if (fault_find(t, "calls", id, "version", &value)) {
            used += (size_t)snprintf(out + used, STATE_BYTES - used, "call %lld of %lld\n",
                                     (long long)id, (long long)value.integer);
        }
    }
    cr_assert(fault_find(t, "account", 1, "balance", &value) && value.integer == 100);
    cr_assert(fault_find(t, "account", 2, "balance", &value) && value.integer == 50);
    cr_assert_lt(used, STATE_BYTES - 1);
}

/* Its bytes are those that its hash was made of. */
static void check_modules(struct test_engine *t) {
    const struct dbos_catalog *catalog = dbos_store_catalog(t->engine->store);
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        const struct dbos_procedure_info *procedure = catalog->procedures[i];
        struct dbos_module_bytes bytes;
        struct dbos_errinfo info = {0};
        if (procedure->language != DBOS_LANGUAGE_C) {
            continue;
        }
        cr_assert_eq(dbos_module_fetch(
                         &t->alloc, dbos_store_table(t->engine->store, DBOS_TABLE_MODULE_CHUNK, 0),
                         procedure->module, procedure->module_bytes, &bytes, &info),
                     DBOS_OK, "%s: %s", procedure->name, info.message);
        dbos_give(&t->alloc, bytes.data);
    }
}

/* Each procedure of the catalogue runs, and the one with versions as the one that its number says:
 * odd ones are version_1.so. */
static void check_calls(struct test_engine *t) {
    const struct dbos_catalog *catalog = dbos_store_catalog(t->engine->store);
    const struct dbos_procedure_info *answer = dbos_catalog_procedure(catalog, "answer");
    struct dbos_datum value;
    check_modules(t);
    fault_must(t, "SELECT stays(1)");
    if (dbos_catalog_procedure(catalog, "late") != NULL) {
        fault_must(t, "CALL late(77)");
    }
    if (dbos_catalog_procedure(catalog, "word") != NULL) {
        fault_must(t, "SELECT word(2)");
    }
    if (answer != NULL) {
        int64_t wanted = answer->version % 2 == 1 ? 1 : 2;
        fault_must(t, "SELECT answer(100)");
        cr_assert(fault_find(t, "calls", CALLS, "version", &value));
        cr_assert_eq(value.integer, wanted);
        fault_must(t, "DELETE FROM calls WHERE id = 100");
    }
}

/* --- what was recorded ----------------------------------------------------------------------- */

static void differs(void *arg, const struct dbos_replay_finding *finding) {
    (void)arg;
    (void)finding;
}

/* Every recorded call has done what it does again: the version that its record names has run. */
static void check_replay(const char *dir) {
    struct dbos_alloc alloc;
    struct dbos_replay_facts facts;
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&alloc, "replay", 0);
    struct dbos_replay_options options = {
        .env = dbos_env_posix(), .data_dir = dir, .differs = differs};
    cr_assert_eq(dbos_replay(&alloc, &options, &facts, &info), DBOS_OK, "%s (%s)", info.message,
                 info.detail);
    dbos_alloc_fini(&alloc);
    cr_assert_eq(facts.after_position, 0, "all of the log is there");
    cr_assert_eq(facts.verdicts[DBOS_REPLAY_DIFFERENT], 0);
    cr_assert_geq(facts.verdicts[DBOS_REPLAY_SAME], 3);
}

/* --- cut short ------------------------------------------------------------------------------- */

static void tell(const char *dir, const struct fault_point *point, void *arg) {
    struct witness *witness = arg;
    struct test_engine t;
    (void)open_node(&t, dir, 2);
    fault_arm(&t, point);
    for (int step = 0; step < STEPS; step++) {
        if (tell_step(&t, step) != DBOS_OK) {
            _exit(1);
        }
        witness->acknowledged = step + 1;
    }
    witness->is_told = t.fault.action != ENV_FAULT_NONE;
    env_fault_arm(&t.fault, ENV_FAULT_NONE, 0);
    fault_engine_close(&t);
}

static void tell_undisturbed(const char *dir, struct witness *witness) {
    struct test_engine t;
    (void)open_node(&t, dir, 2);
    uint64_t first = t.fault.operations;
    for (int step = 0; step < STEPS; step++) {
        describe(&t, witness->states[step]);
        cr_assert_eq(tell_step(&t, step), DBOS_OK);
    }
    describe(&t, witness->states[STEPS]);
    check_calls(&t);
    witness->operations = t.fault.operations - first;
    fault_engine_close(&t);
    check_replay(dir);
}

static void prepare(const char *dir) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    (void)open_node(&t, dir, 2);
    for (size_t i = 0; i < sizeof before / sizeof before[0]; i++) {
        fault_must(&t, before[i]);
    }
    cr_assert_eq(fault_snapshot(&t, &info), DBOS_OK);
    fault_engine_close(&t);
    write_upload();
}

/* Which step is the next one, by what is there; the one under way counts or it does not. */
static int find_step(struct test_engine *t, const struct witness *witness,
                     const struct fault_point *point) {
    char state[STATE_BYTES];
    describe(t, state);
    int told = witness->acknowledged;
    int next = told < STEPS ? told + 1 : told;
    if (strcmp(state, witness->states[told]) == 0) {
        return told;
    }
    cr_assert_str_eq(state, witness->states[next],
                     "action %d, operation %lld, step %d:\n%s\nnot\n%s", point->action,
                     (long long)point->n, told, state, witness->states[next]);
    return next;
}

static void check_after(const char *dir, const struct witness *witness,
                        const struct fault_point *point) {
    struct test_engine t;
    char state[STATE_BYTES];
    (void)open_node(&t, dir, 1 + (uint32_t)(point->n % 3));
    int next = find_step(&t, witness, point);
    check_calls(&t);
    for (int step = next; step < STEPS; step++) {
        cr_assert_eq(tell_step(&t, step), DBOS_OK);
    }
    describe(&t, state);
    cr_assert_str_eq(state, witness->states[STEPS]);
    check_calls(&t);
    fault_engine_close(&t);
    if (point->action == ENV_FAULT_CUT || point->action == ENV_FAULT_KILL) {
        check_replay(dir);
    }
}

static void try_everywhere(enum env_fault_action action, enum dbos_err error, const char *what) {
    struct fault_dirs dirs;
    struct witness *witness = fault_shared(sizeof *witness);
    fault_dirs_make(&dirs);
    prepare(dirs.base);
    fault_dirs_again(&dirs);
    tell_undisturbed(dirs.now, witness);
    uint64_t met = 0;
    uint64_t n = 1;
    for (; n <= witness->operations || !witness->is_told; n++) {
        witness->is_told = false;
        struct fault_point point = {.action = action, .error = error, .n = (int64_t)n};
        fault_dirs_again(&dirs);
        witness->acknowledged = 0;
        met += fault_tell(tell, dirs.now, &point, witness);
        check_after(dirs.now, witness, &point);
    }
    (void)printf("registration, %s: %llu operations, %llu ended the process\n", what,
                 (unsigned long long)n - 2, (unsigned long long)met);
    cr_assert_gt(witness->operations, 30);
    fault_dirs_remove(&dirs);
}

Test(engine_registration_faults, a_power_cut_at_any_operation_loses_nothing) {
    try_everywhere(ENV_FAULT_CUT, DBOS_OK, "power cut");
}

Test(engine_registration_faults, a_kill_at_any_operation_loses_nothing) {
    try_everywhere(ENV_FAULT_KILL, DBOS_OK, "kill");
}

Test(engine_registration_faults, a_failure_at_any_operation_loses_nothing) {
    try_everywhere(ENV_FAULT_FAIL_ONCE, DBOS_ERR_IO, "EIO");
}

Test(engine_registration_faults, a_full_disk_at_any_operation_loses_nothing) {
    try_everywhere(ENV_FAULT_FAIL_ONCE, DBOS_ERR_DISK_FULL, "ENOSPC");
}

/* --- without memory -------------------------------------------------------------------------- */

struct registration {
    const char *name;
    const char *before[2]; /* what there must be first; NULL = nothing */
    const char *sql;
    enum dbos_err wanted; /* with all the memory that it wants */
};

static const struct registration registrations[] = {
    {.name = "a module's file", .sql = ANSWER("CREATE", "test/version_1.so")},
    {.name = "a chunk", .sql = put_first},
    {.name = "an uploaded module", .before = {put_first, put_second}, .sql = create_word},
    {.name = "the next version",
     .before = {ANSWER("CREATE", "test/version_1.so")},
     .sql = ANSWER("CREATE OR REPLACE", "test/version_2.so")},
    {.name = "SQL", .sql = LATE("account")},
    {.name = "DROP", .sql = "DROP FUNCTION goes"},
    {.name = "an error",
     .before = {ANSWER("CREATE", "test/version_1.so")},
     .sql = LATE("nowhere"),
     .wanted = DBOS_ERR_UNDEFINED_TABLE},
};
enum { REGISTRATIONS = sizeof registrations / sizeof registrations[0] };

/* With its n-th allocation failing: all of it or nothing. False: there is no such allocation. */
static bool register_starved(struct test_engine *t, const struct registration *registration,
                             struct dbos_alloc *alloc, int64_t n) {
    char then[STATE_BYTES];
    char now[STATE_BYTES];
    struct dbos_errinfo info = {0};
    describe(t, then);
    atomic_store(&alloc->fail_countdown, n);
    enum dbos_err err = fault_run(t, registration->sql, &info);
    bool met = atomic_load(&alloc->fail_countdown) == 0;
    atomic_store(&alloc->fail_countdown, 0);
    cr_assert(err == registration->wanted || (met && err == DBOS_ERR_NOMEM),
              "%s, allocation %lld of %s: %s", registration->name, (long long)n, alloc->name,
              info.message);
    describe(t, now);
    cr_assert_eq(strcmp(then, now) == 0, err != DBOS_OK, "%s, allocation %lld of %s:\n%s",
                 registration->name, (long long)n, alloc->name, now);
    check_calls(t);
    if (err == DBOS_ERR_NOMEM) {
        err = fault_run(t, registration->sql, &info);
        cr_assert_eq(err, registration->wanted, "%s, allocation %lld of %s, once more: %s",
                     registration->name, (long long)n, alloc->name, info.message);
        check_calls(t);
    }
    return met;
}

static void open_before(struct test_engine *t, const struct fault_dirs *dirs,
                        const struct registration *registration) {
    fault_dirs_again(dirs);
    (void)open_node(t, dirs->now, 2);
    for (int i = 0; i < 2 && registration->before[i] != NULL; i++) {
        fault_must(t, registration->before[i]);
    }
}

static int64_t starve(const struct fault_dirs *dirs, const struct registration *registration,
                      uint32_t allocator) {
    struct test_engine t;
    int64_t n = 0;
    bool met = true;
    open_before(&t, dirs, registration);
    while (met) {
        met = register_starved(&t, registration, fault_alloc(&t, allocator), ++n);
        if (met) { /* cold once more: what was loaded stays loaded */
            fault_engine_close(&t);
            open_before(&t, dirs, registration);
        }
    }
    fault_engine_close(&t);
    return n - 1;
}

Test(engine_registration_faults, without_memory_leaves_nothing_and_succeeds_later) {
    struct fault_dirs dirs;
    int64_t allocations = 0;
    fault_dirs_make(&dirs);
    prepare(dirs.base);
    for (int i = 0; i < REGISTRATIONS; i++) {
        int64_t count = 0;
        for (uint32_t allocator = 0; allocator < FAULT_ALLOCATORS; allocator++) {
            count += starve(&dirs, &registrations[i], allocator);
        }
        (void)printf("registration, allocations of %s: %lld\n", registrations[i].name,
                     (long long)count);
        allocations += count;
    }
    cr_assert_gt(allocations, 100);
    fault_dirs_remove(&dirs);
}
