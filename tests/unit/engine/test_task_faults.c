/* Goal: a task that was submitted is done once, whatever fails once on its way: no crash, no leak,
 * nothing half-applied, and nobody has to see to it.
 * Method: a task of each kind goes by TCP to a worker in this process and comes back, while the
 * n-th allocation fails, in each allocator of the node and in the worker, for each n; or while the
 * n-th operation of the disk fails or is the last one, and a new engine goes on. A submission that
 * finds no memory leaves nothing and succeeds when it is tried again. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "engine/tasks.h"
#include "gpu/frame.h"
#include "gpu/worker.h"
#include "tests/unit/engine/fault_story.h"

TestSuite(engine_task_faults, .timeout = 240);

enum { IMAGES = 10, INPUTS = 4, SEGMENT_BYTES = 16384 };
/* Those that one submission makes, and all of them. */
enum { TASKS = 3, ALL_TASKS = 4 };
/* Shorter than a lease: who does not answer is a fault, too. */
enum { PATIENCE_MS = 8000 };

/* --- a worker -------------------------------------------------------------------------------- */

struct test_worker {
    const struct dbos_backend_ops *backend; /* NULL = the reference */
    struct dbos_alloc alloc;
    struct dbos_worker *worker;
    int stop_fd;
    char address[32];
    pthread_t thread;
};

static void *serve(void *arg) {
    struct dbos_errinfo info;
    enum dbos_err err = dbos_worker_run(((struct test_worker *)arg)->worker, &info);
    DBOS_CHECK(err == DBOS_OK);
    return NULL;
}

static enum dbos_err worker_open(struct test_worker *w, struct dbos_errinfo *info) {
    struct dbos_worker_options options;
    dbos_worker_defaults(&options);
    options.name = "test";
    options.address = "127.0.0.1";
    options.backend = w->backend == NULL ? &dbos_backend_ref : w->backend;
    options.stop_fd = w->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    options.parent_fd = -1;
    return dbos_worker_open(&w->alloc, dbos_env_posix(), &options, &w->worker, info);
}

static void worker_start(struct test_worker *w) {
    struct dbos_errinfo info = {0};
    dbos_alloc_init(&w->alloc, "worker", 0);
    DBOS_CHECK(worker_open(w, &info) == DBOS_OK);
    (void)snprintf(w->address, sizeof w->address, "127.0.0.1:%u", dbos_worker_port(w->worker));
    DBOS_CHECK(pthread_create(&w->thread, NULL, serve, w) == 0);
}

static void worker_stop(struct test_worker *w) {
    uint64_t one = 1;
    DBOS_CHECK(write(w->stop_fd, &one, sizeof one) == sizeof one);
    (void)pthread_join(w->thread, NULL);
    dbos_worker_close(w->worker);
    (void)close(w->stop_fd);
    dbos_alloc_fini(&w->alloc);
}

/* --- tasks ----------------------------------------------------------------------------------- */

static size_t put_hex(char *out, const void *data, size_t size_bytes) {
    for (size_t i = 0; i < size_bytes; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", ((const uint8_t *)data)[i]);
    }
    return 2 * size_bytes;
}

/* Task 0 asks a model, task 1 makes the next version of it, task 2 is one that the worker refuses,
 * task 3 asks and has a piece that comes later. */
static const char *submission(int number) {
    static const char *const contexts[ALL_TASKS] = {"61736b", "6d6f64656c", "626164", "74776f"};
    static char sql[1024];
    const struct dbos_train_params params = {.version = 1,
                                             .epochs = 1,
                                             .batch_size = 5,
                                             .optimizer = DBOS_OPTIMIZER_SGD,
                                             .learning_rate = 0.1f,
                                             .hidden = 2,
                                             .inputs = INPUTS,
                                             .outputs = 2};
    const size_t sizes[ALL_TASKS] = {IMAGES * INPUTS, IMAGES * INPUTS + IMAGES, IMAGES * INPUTS - 1,
                                     IMAGES * INPUTS};
    uint8_t images[IMAGES * INPUTS + IMAGES] = {0};
    for (size_t i = 0; i < IMAGES * INPUTS; i++) {
        images[i] = (uint8_t)(i * 37);
    }
    size_t at =
        (size_t)snprintf(sql, sizeof sql, "SELECT task_submit(%d, 1, 0, %d, '\\x",
                         number == 1 ? DBOS_FRAME_TRAIN : DBOS_FRAME_INFER, number == 3 ? 2 : 1);
    if (number == 1) {
        at += put_hex(sql + at, &params, sizeof params);
    }
    at += put_hex(sql + at, images, sizes[number]);
    (void)snprintf(sql + at, sizeof sql - at, "', '\\x%s')", contexts[number]);
    return sql;
}

static struct dbos_dispatcher_stats stats_of(struct test_engine *t) {
    struct dbos_dispatcher_stats stats;
    dbos_dispatcher_stats(t->engine->dispatcher, &stats);
    return stats;
}

static void pause_ms(struct test_engine *t, uint64_t ms) {
    t->fault.env.ops->sleep_us(&t->fault.env, ms * 1000);
}

static void open_node_of(struct test_engine *t, const char *dir, const struct test_worker *w,
                         uint32_t partitions) {
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .partitions = partitions, .segment_bytes = SEGMENT_BYTES, .worker_address = w->address};
    enum dbos_err err = fault_engine_open(t, dir, options, &info);
    cr_assert_eq(err, DBOS_OK, "%s (%s)", info.message, info.detail);
    for (int ms = 0; !stats_of(t).worker_connected && ms < PATIENCE_MS; ms++) {
        pause_ms(t, 1);
    }
    cr_assert(stats_of(t).worker_connected);
}

static void open_node(struct test_engine *t, const char *dir, const struct test_worker *w) {
    open_node_of(t, dir, w, 2);
}

/* So many have ended since the start, and none is open; then nothing runs. */
static bool await_ends(struct test_engine *t, uint64_t count) {
    struct dbos_dispatcher_stats stats = stats_of(t);
    for (int ms = 0; stats.done + stats.failed < count && ms < PATIENCE_MS; ms++) {
        pause_ms(t, 1);
        stats = stats_of(t);
    }
    return stats.done + stats.failed >= count;
}

static void prepare(const char *dir) {
    struct test_engine t;
    struct test_worker w = {.backend = NULL};
    worker_start(&w);
    open_node(&t, dir, &w);
    for (size_t i = 0; i < TEST_TASK_DEFINITIONS; i++) {
        fault_must(&t, test_task_definitions[i]);
    }
    fault_must(&t, "CREATE PROCEDURE task_add(bigint, int, bytea) LANGUAGE c AS "
                   "'test/tasks.so', 'task_add'");
    fault_must(&t, submission(1));
    cr_assert(await_ends(&t, 1));
    cr_assert_eq(stats_of(&t).done, 1);
    fault_engine_close(&t);
    worker_stop(&w);
}

/* --- what there must be ---------------------------------------------------------------------- */

struct counts {
    uint64_t tasks, pieces, results, models;
};

static struct counts counts_of(struct test_engine *t) {
    return (struct counts){.tasks = fault_count(t, "task"),
                           .pieces = fault_count(t, "task_piece"),
                           .results = fault_count(t, "results"),
                           .models = fault_count(t, "model")};
}

static bool is_text(const struct dbos_datum *datum, const char *text) {
    return datum->bytes.size_bytes == strlen(text) &&
           memcmp(datum->bytes.data, text, strlen(text)) == 0;
}

/* The task has ended, with one result: a label and a probability for each image, or a model, or an
 * error where it was refused. True: it was to make a model. */
static bool check_task(struct test_engine *t, int64_t id, int64_t state, const char *what) {
    struct dbos_datum error;
    struct dbos_datum context;
    struct dbos_datum bytes;
    cr_assert(fault_find(t, "results", id, "error", &error), "%s: a task has no result", what);
    cr_assert(fault_find(t, "results", id, "context", &context));
    cr_assert(fault_find(t, "results", id, "bytes", &bytes));
    bool is_bad = is_text(&context, "bad");
    size_t images = is_text(&context, "ask") ? IMAGES : is_text(&context, "two") ? 2 * IMAGES : 0;
    cr_assert_neq(error.is_null, is_bad, "%s: %.*s", what, (int)error.bytes.size_bytes,
                  error.bytes.data);
    cr_assert_eq(bytes.is_null, is_bad, "%s", what);
    cr_assert(images == 0 || bytes.bytes.size_bytes == 5 * images, "%s", what);
    cr_assert_eq(state, is_bad ? DBOS_TASK_STATE_FAILED : DBOS_TASK_STATE_DONE, "%s", what);
    return is_text(&context, "model");
}

static uint64_t check_part(struct test_engine *t, uint32_t partition, const char *what) {
    struct dbos_table *tasks = dbos_store_table(t->engine->store, DBOS_TABLE_TASK, partition);
    const struct dbos_table_def *def = dbos_table_def_of(tasks);
    uint32_t state = (uint32_t)dbos_table_def_column(def, "state");
    struct dbos_cursor cursor;
    uint64_t models = 0;
    dbos_cursor_begin_full(tasks, &cursor);
    for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL;
         row = dbos_cursor_next(&cursor)) {
        models += check_task(t, dbos_row_column(def, row, 0).integer,
                             dbos_row_column(def, row, state).integer, what);
    }
    dbos_cursor_end(&cursor);
    return models;
}

/* So many tasks, each of which has had its effect once. */
static void check_tasks(struct test_engine *t, uint64_t submitted, const char *what) {
    struct counts now = counts_of(t);
    uint64_t models = 0;
    cr_assert_eq(now.tasks, submitted, "%s: %llu of %llu tasks", what,
                 (unsigned long long)now.tasks, (unsigned long long)submitted);
    cr_assert_eq(now.results, submitted, "%s", what);
    cr_assert_eq(now.pieces, 0, "%s", what);
    for (uint32_t i = 0; i < dbos_engine_partitions(t->engine); i++) {
        models += check_part(t, i, what);
    }
    cr_assert_eq(now.models, models, "%s: %llu models of %llu trainings", what,
                 (unsigned long long)now.models, (unsigned long long)models);
}

/* --- allocations ----------------------------------------------------------------------------- */

/* What finds no memory has left nothing; then once more. */
static void run_or_again(struct test_engine *t, const char *sql, const char *what) {
    struct dbos_errinfo info = {0};
    struct counts then = counts_of(t);
    enum dbos_err err = fault_run(t, sql, &info);
    if (err != DBOS_OK) {
        struct counts now = counts_of(t);
        cr_assert_eq(err, DBOS_ERR_NOMEM, "%s: %s", what, info.message);
        cr_assert_eq(memcmp(&then, &now, sizeof now), 0, "%s: something is left", what);
        err = fault_run(t, sql, &info);
    }
    cr_assert_eq(err, DBOS_OK, "%s: %s", what, info.message);
}

/* The task that waits for a piece. */
static int64_t find_open(struct test_engine *t) {
    struct dbos_cursor cursor;
    int64_t id = 0;
    for (uint32_t i = 0; i < dbos_engine_partitions(t->engine); i++) {
        struct dbos_table *tasks = dbos_store_table(t->engine->store, DBOS_TABLE_TASK, i);
        const struct dbos_table_def *def = dbos_table_def_of(tasks);
        uint32_t state = (uint32_t)dbos_table_def_column(def, "state");
        dbos_cursor_begin_full(tasks, &cursor);
        for (struct dbos_row *row = dbos_cursor_next(&cursor); row != NULL;
             row = dbos_cursor_next(&cursor)) {
            bool is_open = dbos_row_column(def, row, state).integer == DBOS_TASK_STATE_OPEN;
            id = is_open ? dbos_row_column(def, row, 0).integer : id;
        }
        dbos_cursor_end(&cursor);
    }
    cr_assert_neq(id, 0);
    return id;
}

static void submit_to_the_end(struct test_engine *t, int number, const char *what) {
    uint64_t ended = stats_of(t).done + stats_of(t).failed;
    run_or_again(t, submission(number), what);
    if (number == 3) {
        char sql[256];
        uint8_t images[IMAGES * INPUTS] = {7};
        size_t at = (size_t)snprintf(sql, sizeof sql, "CALL task_add(%lld, 1, '\\x",
                                     (long long)find_open(t));
        at += put_hex(sql + at, images, sizeof images);
        (void)snprintf(sql + at, sizeof sql - at, "')");
        run_or_again(t, sql, what);
    }
    cr_assert(await_ends(t, ended + 1), "%s: the task is stuck", what);
}

/* Whose allocations fail: an allocator of the node, by its number, or the worker's. */
enum { WORKER_REF = FAULT_ALLOCATORS, WORKER_DNNL };

/* False: there is no such allocation. */
static bool tell(const char *dir, uint32_t allocator, int64_t n) {
    struct test_engine t;
    struct test_worker w = {.backend = allocator == WORKER_DNNL ? &dbos_backend_dnnl : NULL};
    char what[64];
    worker_start(&w);
    open_node(&t, dir, &w);
    struct dbos_alloc *alloc = allocator < FAULT_ALLOCATORS ? fault_alloc(&t, allocator) : &w.alloc;
    (void)snprintf(what, sizeof what, "allocation %lld of \"%s\"", (long long)n, alloc->name);
    atomic_store(&alloc->fail_countdown, n);
    for (int number = 0; number < ALL_TASKS; number++) {
        submit_to_the_end(&t, number, what);
    }
    bool met = atomic_load(&alloc->fail_countdown) == 0;
    atomic_store(&alloc->fail_countdown, 0);
    check_tasks(&t, 1 + ALL_TASKS, what);
    fault_engine_close(&t);
    worker_stop(&w);
    return met;
}

static void try_allocations(uint32_t allocator, const char *name) {
    struct fault_dirs dirs;
    int64_t n = 1;
    fault_dirs_make(&dirs);
    prepare(dirs.base);
    for (bool met = true; met; n++) {
        fault_dirs_again(&dirs);
        met = tell(dirs.now, allocator, n);
    }
    (void)printf("task, allocations of %s: %lld\n", name, (long long)n - 2);
    fault_dirs_remove(&dirs);
}

Test(engine_task_faults, is_done_once_without_memory_for_tasks) { try_allocations(0, "engine"); }
Test(engine_task_faults, is_done_once_without_memory_for_tables) { try_allocations(1, "storage"); }
Test(engine_task_faults, is_done_once_without_memory_for_objects) { try_allocations(2, "objects"); }
Test(engine_task_faults, is_done_once_without_memory_for_sessions) {
    try_allocations(3, "sessions");
}
Test(engine_task_faults, is_done_once_without_memory_for_the_log) { try_allocations(4, "log"); }
Test(engine_task_faults, is_done_once_without_memory_for_procedures) {
    try_allocations(5, "procedures");
}
Test(engine_task_faults, is_done_once_without_memory_for_regions) { try_allocations(6, "regions"); }
Test(engine_task_faults, is_done_once_without_memory_in_the_worker) {
    try_allocations(WORKER_REF, "the worker");
}
Test(engine_task_faults, is_done_once_without_memory_in_the_worker_with_onednn) {
    try_allocations(WORKER_DNNL, "the worker with oneDNN");
}

/* A worker that finds no memory to begin with does not begin. */
Test(engine_task_faults, a_worker_without_memory_does_not_open) {
    enum dbos_err err = DBOS_ERR_NOMEM;
    int64_t n = 1;
    for (; err != DBOS_OK; n++) {
        struct test_worker w = {.backend = NULL};
        struct dbos_errinfo info = {0};
        dbos_alloc_init(&w.alloc, "worker", 0);
        atomic_store(&w.alloc.fail_countdown, n);
        err = worker_open(&w, &info);
        cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%lld: %s", (long long)n, info.message);
        if (err == DBOS_OK) {
            cr_assert_gt(atomic_load(&w.alloc.fail_countdown), 0);
            dbos_worker_close(w.worker);
        }
        (void)close(w.stop_fd);
        dbos_alloc_fini(&w.alloc);
    }
    (void)printf("task, allocations of a worker that opens: %lld\n", (long long)n - 2);
}

/* Tasks that a node has left open: it starts with all of them or not at all. False: there is no
 * such allocation. */
static bool start_starved(const char *dir, const struct test_worker *w, int64_t n) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {
        .partitions = 1, .segment_bytes = SEGMENT_BYTES, .worker_address = w->address};
    enum dbos_err err = fault_engine_open_starved(&t, dir, options, n, &info);
    cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM, "%lld: %s", (long long)n, info.message);
    if (err != DBOS_OK) {
        return true;
    }
    cr_assert(await_ends(&t, TASKS), "%lld: a task is stuck", (long long)n);
    bool met = atomic_load(&t.alloc.fail_countdown) == 0;
    check_tasks(&t, 1 + TASKS, "start");
    fault_engine_close(&t);
    return met;
}

static void leave_open(const char *dir) {
    struct test_engine t;
    struct dbos_errinfo info = {0};
    struct dbos_engine_options options = {.partitions = 2, .segment_bytes = SEGMENT_BYTES};
    cr_assert_eq(fault_engine_open(&t, dir, options, &info), DBOS_OK, "%s", info.message);
    for (int number = 0; number < TASKS; number++) {
        fault_must(&t, submission(number));
    }
    fault_engine_close(&t);
}

Test(engine_task_faults, a_node_does_not_start_without_its_open_tasks) {
    struct fault_dirs dirs;
    int64_t n = 1;
    fault_dirs_make(&dirs);
    prepare(dirs.base);
    leave_open(dirs.base);
    for (bool met = true; met; n++) {
        struct test_worker w = {.backend = NULL};
        worker_start(&w);
        fault_dirs_again(&dirs);
        met = start_starved(dirs.now, &w, n);
        worker_stop(&w);
    }
    (void)printf("task, allocations of a start with open tasks: %lld\n", (long long)n - 2);
    cr_assert_gt(n, 10);
    fault_dirs_remove(&dirs);
}

/* --- the disk -------------------------------------------------------------------------------- */

/* What a process shares with the one that outlives it. */
struct witness {
    uint64_t acknowledged; /* submissions */
    uint64_t operations;   /* of an undisturbed run */
    bool is_told;          /* to its end, and the disk was well */
};

/* Two tasks, one behind the other; what comes back is written, too. */
static void tell_disk(const char *dir, const struct fault_point *point, void *arg) {
    struct witness *witness = arg;
    struct dbos_errinfo info = {0};
    struct test_engine t;
    struct test_worker w = {.backend = NULL};
    worker_start(&w);
    open_node(&t, dir, &w);
    uint64_t first = t.fault.operations;
    fault_arm(&t, point);
    for (int number = 0; number < TASKS; number++) {
        if (fault_run(&t, submission(number), &info) != DBOS_OK) {
            (void)fprintf(stderr, "submission: %s\n", info.message);
            _exit(1);
        }
        witness->acknowledged = (uint64_t)number + 1;
        if (!await_ends(&t, (uint64_t)number + 1)) {
            _exit(2);
        }
    }
    dbos_log_wait(t.engine->log, dbos_log_last_position(t.engine->log));
    witness->operations = t.fault.operations - first;
    witness->is_told = t.fault.action != ENV_FAULT_NONE;
    env_fault_arm(&t.fault, ENV_FAULT_NONE, 0);
    fault_engine_close(&t);
    worker_stop(&w);
}

/* A new engine, perhaps with another number of partitions, does what is left to be done. */
static void check_disk(const char *dir, const struct witness *witness,
                       const struct fault_point *point) {
    struct test_engine t;
    struct test_worker w = {.backend = NULL};
    char what[64];
    (void)snprintf(what, sizeof what, "action %d, operation %lld", point->action,
                   (long long)point->n);
    worker_start(&w);
    open_node_of(&t, dir, &w, 1 + (uint32_t)(point->n % 3));
    for (int ms = 0; stats_of(&t).open != 0 && ms < PATIENCE_MS; ms++) {
        pause_ms(&t, 1);
    }
    cr_assert_eq(stats_of(&t).open, 0, "%s: a task is stuck", what);
    uint64_t tasks = fault_count(&t, "task") - 1; /* without that of the preparation */
    cr_assert(tasks >= witness->acknowledged && tasks <= witness->acknowledged + 1,
              "%s: %llu tasks, %llu acknowledged", what, (unsigned long long)tasks,
              (unsigned long long)witness->acknowledged);
    check_tasks(&t, 1 + tasks, what);
    fault_engine_close(&t);
    worker_stop(&w);
}

static void try_everywhere(enum env_fault_action action, enum dbos_err error, const char *name) {
    struct fault_dirs dirs;
    struct witness *witness = fault_shared(sizeof *witness);
    struct fault_point point = {.action = ENV_FAULT_NONE};
    uint64_t met = 0;
    fault_dirs_make(&dirs);
    prepare(dirs.base);
    fault_dirs_again(&dirs);
    cr_assert_not(fault_tell(tell_disk, dirs.now, &point, witness));
    uint64_t operations = witness->operations;
    uint64_t n = 1;
    for (witness->is_told = false; n <= operations || !witness->is_told; n++) {
        witness->is_told = false;
        point = (struct fault_point){.action = action, .error = error, .n = (int64_t)n};
        fault_dirs_again(&dirs);
        witness->acknowledged = 0;
        met += fault_tell(tell_disk, dirs.now, &point, witness);
        check_disk(dirs.now, witness, &point);
    }
    (void)printf("task, %s: %llu operations, %llu ended the process\n", name,
                 (unsigned long long)n - 2, (unsigned long long)met);
    cr_assert(operations >= 8 && met >= operations / 2);
    fault_dirs_remove(&dirs);
}

Test(engine_task_faults, is_done_once_whatever_the_disk_does) {
    try_everywhere(ENV_FAULT_CUT, DBOS_OK, "power cut");
    try_everywhere(ENV_FAULT_KILL, DBOS_OK, "kill");
    try_everywhere(ENV_FAULT_FAIL_ONCE, DBOS_ERR_IO, "EIO");
    try_everywhere(ENV_FAULT_FAIL_ONCE, DBOS_ERR_DISK_FULL, "ENOSPC");
}
