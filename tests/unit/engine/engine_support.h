/* A real engine in a directory of its own, on a disk that can be made slow, and requests of one
 * statement for it.
 *
 * Thread: the test's. Memory: the engine's session allocator; everything is given back. */
#ifndef DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H
#define DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H

#include <semaphore.h>

#include "engine/engine_internal.h"
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

#endif /* DBOS_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H */
