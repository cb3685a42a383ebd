/* Inside of the executor.
 *
 * Two arenas for each statement: `keep` lives as long as it runs, `scratch` for one row. Both begin
 * on the stack, so that a small statement takes nothing from an allocator.
 *
 * Thread: the transaction's. Memory: from the allocator of the transaction's arena. */
#ifndef DBOS_PROCS_SQL_RUN_H
#define DBOS_PROCS_SQL_RUN_H

#include "procs/sql/plan.h"

struct dbos_runner {
    const struct dbos_plan *plan;
    const struct dbos_run *run;
    const struct dbos_datum *parameters;
    struct dbos_sink *sink;
    struct dbos_errinfo *info;
    struct dbos_arena keep;
    struct dbos_arena scratch;
    uint8_t *scratch_start; /* of what it has before its first chunk */
    struct dbos_eval eval;  /* in `scratch` */
    uint32_t polls;
    uint64_t rows; /* returned, inserted, updated or deleted */
};

static inline enum dbos_err dbos_runner_nomem(const struct dbos_runner *runner) {
    return dbos_fail(runner->info, DBOS_ERR_NOMEM, "out of memory");
}

/* What was in `scratch` is dead. */
void dbos_runner_next_row(struct dbos_runner *runner);

/* scan.c: the rows of an access path, one after the other, with their reads noted. */

/* A FIND's row, in runner->eval; NULL: there is none, or WHERE does not accept it. */
enum dbos_err dbos_scan_find(struct dbos_runner *runner, const struct dbos_access *access,
                             struct dbos_row **out) DBOS_MUST_USE;

struct dbos_scan {
    struct dbos_runner *runner;
    const struct dbos_access *access;
    bool empty;         /* no row can match: a key is NULL or out of its column's range */
    uint32_t partition; /* being visited */
    uint32_t last_partition;
    uint32_t noted_partition;
    bool open; /* cursor is */
    struct dbos_cursor cursor;
    struct dbos_row *found; /* FIND: handed out next */
    uint64_t visited;
    uint32_t bound_count[2]; /* of low and high */
    bool bound_inclusive[2];
    struct dbos_datum bounds[2][DBOS_INDEX_COLUMNS_MAX];
    int64_t next; /* SERIES */
    int64_t last;
    int64_t step;
    bool more;
    struct dbos_datum value;
    const struct dbos_view_row *view_row; /* VIEW: handed out next */
};
enum dbos_err dbos_scan_begin(struct dbos_runner *runner, const struct dbos_access *access,
                              struct dbos_scan *scan) DBOS_MUST_USE;
/* The next row that WHERE accepts, in runner->eval; *out = false at the end. */
enum dbos_err dbos_scan_next(struct dbos_scan *scan, bool *out) DBOS_MUST_USE;
/* Notes what was read; also after an error. */
void dbos_scan_end(struct dbos_scan *scan);

/* groups.c: values to entries, for GROUP BY and DISTINCT. */
struct dbos_group {
    struct dbos_group *chain;
    struct dbos_group *next; /* in order of appearance */
    uint64_t hash;
    struct dbos_bytes key;
    struct dbos_datum *values;
    const struct dbos_row *row; /* the first of the group */
    void *states;               /* of its aggregates */
};
struct dbos_groups {
    struct dbos_arena *arena;
    struct dbos_group **buckets;
    uint32_t bucket_count;
    uint32_t count;
    struct dbos_group *first;
    struct dbos_group *last;
    struct dbos_buf key; /* scratch */
};
void dbos_groups_init(struct dbos_groups *groups, struct dbos_arena *arena);
void dbos_groups_fini(struct dbos_groups *groups);
/* The entry of these values; *is_new: it was made, with a copy of them. Errors: NOMEM. */
enum dbos_err dbos_groups_get(struct dbos_groups *groups, const struct dbos_datum *values,
                              uint32_t count, struct dbos_group **out, bool *is_new) DBOS_MUST_USE;
/* A copy of a value whose bytes live in the arena (an object's bytes are borrowed as they are). */
enum dbos_err dbos_datum_keep(struct dbos_arena *arena, const struct dbos_datum *from,
                              struct dbos_datum *out) DBOS_MUST_USE;

/* aggregate.c */
struct dbos_aggregate_state {
    uint64_t count;
    int64_t integer;
    double real;
    struct dbos_datum value; /* min, max; bytes in `buffer` */
    uint8_t *buffer;
    size_t buffer_bytes;
};
enum dbos_err dbos_aggregate_add(const struct dbos_aggregate *aggregate,
                                 struct dbos_aggregate_state *state,
                                 struct dbos_runner *runner) DBOS_MUST_USE;
struct dbos_datum dbos_aggregate_result(const struct dbos_aggregate *aggregate,
                                        const struct dbos_aggregate_state *state);

/* sort.c: stable. */
enum dbos_err dbos_sort_rows(struct dbos_runner *runner, const struct dbos_select_plan *select,
                             struct dbos_datum **rows, uint64_t count) DBOS_MUST_USE;

enum dbos_err dbos_run_select(struct dbos_runner *runner, const struct dbos_select_plan *select,
                              struct dbos_sink *sink) DBOS_MUST_USE;
enum dbos_err dbos_run_insert(struct dbos_runner *runner) DBOS_MUST_USE;
enum dbos_err dbos_run_update(struct dbos_runner *runner) DBOS_MUST_USE;
enum dbos_err dbos_run_delete(struct dbos_runner *runner) DBOS_MUST_USE;
enum dbos_err dbos_run_call(struct dbos_runner *runner) DBOS_MUST_USE;
enum dbos_err dbos_run_ddl(struct dbos_runner *runner) DBOS_MUST_USE;

#endif /* DBOS_PROCS_SQL_RUN_H */
