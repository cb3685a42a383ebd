/* What tests of faults need beside engine_support.h: an engine in a directory that outlives it,
 * statements whose every failure is a value, snapshots, and stories that are told in a process of
 * their own and cut short at one operation of the disk.
 *
 * Thread: the test's. Memory: the engine's session allocator; everything is given back. */
#ifndef DBOS_TESTS_UNIT_ENGINE_FAULT_STORY_H
#define DBOS_TESTS_UNIT_ENGINE_FAULT_STORY_H

#include "tests/unit/engine/engine_support.h"

/* Errors: those of opening and starting; the engine is then closed, with a zero balance. */
enum dbos_err fault_engine_open(struct test_engine *t, const char *dir,
                                struct dbos_engine_options options, struct dbos_errinfo *info);
/* The same, and the n-th allocation from the owner's allocator fails (0 = none). */
enum dbos_err fault_engine_open_starved(struct test_engine *t, const char *dir,
                                        struct dbos_engine_options options, int64_t n,
                                        struct dbos_errinfo *info);
/* The directory stays. */
void fault_engine_close(struct test_engine *t);

/* Parse, plan, route, run, and wait until it is durable. */
enum dbos_err fault_run(struct test_engine *t, const char *sql, struct dbos_errinfo *info);
/* fault_run() that must be well. */
void fault_must(struct test_engine *t, const char *sql);
enum dbos_err fault_snapshot(struct test_engine *t, struct dbos_errinfo *info);

/* The value of a column of the row with this bigint key; false = there is no such row. Nothing
 * runs meanwhile. */
bool fault_find(struct test_engine *t, const char *table, int64_t key, const char *column,
                struct dbos_datum *out);
uint64_t fault_count(struct test_engine *t, const char *table);

/* Where an engine takes memory from, one after the other. */
enum { FAULT_ALLOCATORS = 7 };
struct dbos_alloc *fault_alloc(struct test_engine *t, uint32_t number);

/* A directory in which a story begins, and a copy of it in which it is told. */
struct fault_dirs {
    char base[64];
    char now[80];
};
void fault_dirs_make(struct fault_dirs *dirs);
void fault_dirs_again(const struct fault_dirs *dirs); /* a new copy */
void fault_dirs_remove(const struct fault_dirs *dirs);

/* One place where a story is cut short. */
struct fault_point {
    enum env_fault_action action;
    enum dbos_err error; /* of the FAIL actions */
    int64_t n;           /* operation, from 1 */
};
/* Tell it in a process of its own, which must end well, by the cut, or (FAIL actions) because the
 * log has failed; true: before its end. `tell` arms the disk (fault_arm()) when it likes. */
bool fault_tell(void (*tell)(const char *dir, const struct fault_point *point, void *arg),
                const char *dir, const struct fault_point *point, void *arg);
void fault_arm(struct test_engine *t, const struct fault_point *point);
/* Of a process that other processes are told by. */
void *fault_shared(size_t size_bytes);

#endif /* DBOS_TESTS_UNIT_ENGINE_FAULT_STORY_H */
