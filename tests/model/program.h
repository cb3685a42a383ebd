/* Random requests, and how each is said to a node: SQL text for ad hoc statements, a bytea for the
 * procedures of tests/support/modules/model_ops.c.
 *
 * Thread: one. Memory: the caller's. */
#ifndef DBOS_TESTS_MODEL_PROGRAM_H
#define DBOS_TESTS_MODEL_PROGRAM_H

#include "base/env.h"
#include "tests/model/oracle.h"

enum { PROGRAM_TEXT_BYTES = 8192, PROGRAM_USERS = 4, PROGRAM_MARKERS = 100000 };

enum program_procedure {
    PROGRAM_AD_HOC,
    PROGRAM_ONE, /* model_one: on one partition */
    PROGRAM_ALL, /* model_all: under the barrier */
    PROGRAM_SQL, /* model_sql: LANGUAGE sql, an update and a read of one key of items */
};

/* NULL for AD_HOC. */
const char *program_procedure_name(uint32_t procedure);
const char *program_user_name(uint32_t user);
const char *program_table_name(int32_t table);

struct program_source {
    struct dbos_rng *rng;
    const struct oracle *oracle; /* partitions, and which keys are there */
    bool later_exists;           /* MODEL_LATER was created */
};
/* A transaction by `user`. `records`: its first operation leaves a record whatever happens. */
void program_random(const struct program_source *source, uint32_t user, bool records,
                    struct oracle_request *out);
/* A procedure call that ends with the insertion of row `marker` into items. */
void program_with_marker(const struct program_source *source, uint32_t user, int32_t marker,
                         struct oracle_request *out);
/* Rows for an empty database: request `part` of PROGRAM_LOAD_PARTS. */
enum { PROGRAM_LOAD_PARTS = 12 };
void program_load(const struct program_source *source, uint32_t part, struct oracle_request *out);
/* SELECT of one key. */
void program_look_up(uint32_t user, int32_t table, int32_t a, struct oracle_request *out);

/* What to send; `text` has PROGRAM_TEXT_BYTES. */
void program_text(const struct oracle_request *request, char *text);

#endif /* DBOS_TESTS_MODEL_PROGRAM_H */
