/* A real engine in a directory of its own, on a disk that can be made slow; requests of one
 * statement for it, sessions of it, and what its log says.
 *
 * Thread: the test's. Memory: the engine's session allocator; everything is given back. */
#ifndef DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H
#define DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H

#include <semaphore.h>

#include "engine/engine_internal.h"
#include "engine/session.h"
#include "tests/support/env_fault.h"

struct test_engine {
    char dir[64];
    struct dbos_alloc alloc;
    struct env_fault fault;
    struct dbos_engine *engine;
    struct dbos_session_info session;
};
/* `options`: what differs; environment, directory and programs are filled in. */
void test_engine_open(struct test_engine *t, struct dbos_engine_options options);
void test_engine_close(struct test_engine *t);

/* One statement, planned and routed. */
struct test_step {
    struct dbos_request request;
    struct dbos_request_statement statement;
    struct dbos_script *script;
    sem_t *done; /* posted when it has ended */
};
void test_step_prepare(struct test_engine *t, struct test_step *step, const char *sql, sem_t *done);
void test_step_release(struct test_step *step);
/* Ready to be submitted once more. */
void test_step_again(struct test_step *step);
void test_wait_for(sem_t *done, int count);
/* Run it and wait for its end: the outcome. */
enum dbos_err test_engine_run(struct test_engine *t, const char *sql);

/* A session of ana whose start-up is over. `options`: submitter, pool, and what is to be done when
 * a request has ended; the rest is filled in. */
struct dbos_session *test_session_begin(struct test_engine *t, struct dbos_session_options options);

/* The table and the module of tests of tasks (tests/support/modules/tasks.c). */
enum { TEST_TASK_DEFINITIONS = 3 };
extern const char *const test_task_definitions[TEST_TASK_DEFINITIONS];

/* All records of the log up to now, in their order. `visit` reads a record's events to the last. */
typedef void test_record_visit(void *arg, const struct dbos_record_head *head,
                               struct dbos_record_decoder *decoder, size_t size_bytes);
void test_log_walk(struct test_engine *t, test_record_visit *visit, void *arg);

#endif /* DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H */
