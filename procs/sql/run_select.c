/* SELECT: scan, group, project, sort or pass on.
 *
 *   scan ─▶ where ─▶ [groups ─▶ having] ─▶ project ─┬─▶ [distinct] ─▶ offset, limit ─▶ sink
 *                                                   └─▶ rows kept ─▶ sort ──┘ */
#include "procs/sql/run.h"

enum { POINT_COLUMNS = 32 }; /* of a row that goes from its key to the sink, on the stack */

struct output {
    struct dbos_runner *runner;
    const struct dbos_select_plan *select;
    struct dbos_sink *sink;
    uint64_t offset;
    uint64_t limit; /* UINT64_MAX = none */
    bool keep;      /* rows are sorted before they go out */
    bool full;      /* LIMIT is reached */
    struct dbos_datum *datums;
    struct dbos_groups distinct;
    struct dbos_datum **rows; /* kept */
    uint64_t row_count;
    uint64_t row_capacity;
};

/* -- LIMIT ----------------------------------------------------------------------------------------
 */

static enum dbos_err eval_count(struct dbos_runner *runner, const struct dbos_expr *expr,
                                const char *clause, const char *sqlstate, uint64_t *out) {
    struct dbos_datum value;
    if (expr == NULL) {
        return DBOS_OK;
    }
    enum dbos_err err = dbos_expr_eval(expr, &runner->eval, &value);
    if (err != DBOS_OK || value.is_null) {
        return err;
    }
    if (value.integer < 0) {
        return dbos_fail_state(runner->info, DBOS_ERR_INVALID_PARAMETER, sqlstate,
                               "%s must not be negative", clause);
    }
    *out = (uint64_t)value.integer;
    return DBOS_OK;
}

static enum dbos_err output_init(struct output *output) {
    struct dbos_runner *runner = output->runner;
    const struct dbos_select_plan *select = output->select;
    output->limit = UINT64_MAX;
    dbos_groups_init(&output->distinct, &runner->keep);
    output->datums =
        dbos_arena_take(&runner->keep, (select->expr_count + 1) * sizeof *output->datums);
    if (output->datums == NULL) {
        return dbos_runner_nomem(runner);
    }
    enum dbos_err err = eval_count(runner, select->offset, "OFFSET", "2201X", &output->offset);
    if (err == DBOS_OK) {
        err = eval_count(runner, select->limit, "LIMIT", "2201W", &output->limit);
    }
    output->full = output->limit == 0;
    return err;
}

/* -- rows out -------------------------------------------------------------------------------------
 */

static enum dbos_err send(struct output *output, const struct dbos_datum *datums) {
    if (output->offset > 0) {
        output->offset--;
        return DBOS_OK;
    }
    if (output->full) {
        return DBOS_OK;
    }
    enum dbos_err err =
        output->sink->row(output->sink, datums, output->select->column_count, output->runner->info);
    output->runner->rows += err == DBOS_OK ? 1 : 0;
    output->full = output->runner->rows >= output->limit;
    return err;
}

static enum dbos_err keep_row(struct output *output, const struct dbos_datum *datums) {
    struct dbos_arena *arena = &output->runner->keep;
    if (output->row_count == output->row_capacity) {
        uint64_t capacity = output->row_capacity == 0 ? 64 : output->row_capacity * 2;
        struct dbos_datum **rows = dbos_arena_take(arena, capacity * sizeof(struct dbos_datum *));
        if (rows == NULL) {
            return dbos_runner_nomem(output->runner);
        }
        if (output->row_count != 0) {
            memcpy(rows, output->rows, output->row_count * sizeof(struct dbos_datum *));
        }
        output->rows = rows;
        output->row_capacity = capacity;
    }
    struct dbos_datum *copy =
        dbos_arena_take(arena, (output->select->expr_count + 1) * sizeof *copy);
    if (copy == NULL) {
        return dbos_runner_nomem(output->runner);
    }
    memcpy(copy, datums, output->select->expr_count * sizeof *copy);
    output->rows[output->row_count++] = copy;
    return DBOS_OK;
}

/* The row that runner->eval stands on. */
static enum dbos_err project(struct output *output) {
    struct dbos_runner *runner = output->runner;
    const struct dbos_select_plan *select = output->select;
    runner->eval.arena = output->keep ? &runner->keep : &runner->scratch;
    for (uint32_t i = 0; i < select->expr_count; i++) {
        enum dbos_err err = dbos_expr_eval(select->exprs[i], &runner->eval, &output->datums[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    runner->eval.arena = &runner->scratch;
    if (select->distinct) {
        struct dbos_group *group;
        bool is_new;
        enum dbos_err err = dbos_groups_get(&output->distinct, output->datums, select->column_count,
                                            &group, &is_new);
        if (err != DBOS_OK) {
            return dbos_runner_nomem(runner);
        }
        if (!is_new) {
            return DBOS_OK;
        }
    }
    return output->keep ? keep_row(output, output->datums) : send(output, output->datums);
}

static enum dbos_err finish(struct output *output) {
    if (!output->keep) {
        return DBOS_OK;
    }
    enum dbos_err err =
        dbos_sort_rows(output->runner, output->select, output->rows, output->row_count);
    for (uint64_t i = 0; i < output->row_count && err == DBOS_OK && !output->full; i++) {
        err = dbos_run_poll(output->runner->run, &output->runner->polls, output->runner->info);
        if (err == DBOS_OK) {
            err = send(output, output->rows[i]);
        }
    }
    return err;
}

/* -- without groups -------------------------------------------------------------------------------
 */

static enum dbos_err run_plain(struct output *output) {
    struct dbos_scan scan;
    struct dbos_runner *runner = output->runner;
    const struct dbos_access *access = &output->select->access;
    bool more = true;
    enum dbos_err err = dbos_scan_begin(runner, access, &scan);
    bool one_part = err == DBOS_OK && !scan.empty && access->def != NULL &&
                    scan.partition == scan.last_partition;
    output->keep = output->select->sort_count != 0 && !(access->in_order && one_part);
    while (err == DBOS_OK && !output->full) {
        err = dbos_scan_next(&scan, &more);
        if (err != DBOS_OK || !more) {
            break;
        }
        err = project(output);
    }
    dbos_scan_end(&scan);
    return err;
}

/* -- with groups ----------------------------------------------------------------------------------
 */

static enum dbos_err find_group(struct output *output, struct dbos_groups *groups,
                                struct dbos_datum *values, struct dbos_group **out) {
    struct dbos_runner *runner = output->runner;
    const struct dbos_select_plan *select = output->select;
    bool is_new;
    for (uint32_t i = 0; i < select->group_count; i++) {
        enum dbos_err err = dbos_expr_eval(select->groups[i], &runner->eval, &values[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    if (dbos_groups_get(groups, values, select->group_count, out, &is_new) != DBOS_OK) {
        return dbos_runner_nomem(runner);
    }
    if (is_new) {
        (*out)->row = runner->eval.row;
        (*out)->states = dbos_arena_take_zero(
            &runner->keep, (select->aggregate_count + 1) * sizeof(struct dbos_aggregate_state));
    }
    return (*out)->states == NULL ? dbos_runner_nomem(runner) : DBOS_OK;
}

static enum dbos_err collect(struct output *output, struct dbos_groups *groups,
                             struct dbos_scan *scan, struct dbos_datum *values) {
    const struct dbos_select_plan *select = output->select;
    bool more = true;
    for (;;) {
        struct dbos_group *group;
        enum dbos_err err = dbos_scan_next(scan, &more);
        if (err != DBOS_OK || !more) {
            return err;
        }
        err = find_group(output, groups, values, &group);
        if (err != DBOS_OK) {
            return err;
        }
        struct dbos_aggregate_state *states = group->states;
        for (uint32_t i = 0; i < select->aggregate_count && err == DBOS_OK; i++) {
            err = dbos_aggregate_add(&select->aggregates[i], &states[i], output->runner);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
}

static enum dbos_err emit_group(struct output *output, const struct dbos_group *group,
                                struct dbos_datum *results) {
    struct dbos_runner *runner = output->runner;
    const struct dbos_select_plan *select = output->select;
    const struct dbos_aggregate_state *states = group->states;
    bool wanted = true;
    for (uint32_t i = 0; i < select->aggregate_count; i++) {
        results[i] = dbos_aggregate_result(&select->aggregates[i], &states[i]);
    }
    dbos_runner_next_row(runner);
    runner->eval.groups = group->values;
    runner->eval.aggregates = results;
    runner->eval.row = group->row;
    enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
    if (err == DBOS_OK && select->having != NULL) {
        err = dbos_expr_test(select->having, &runner->eval, &wanted);
    }
    return err != DBOS_OK || !wanted ? err : project(output);
}

/* Without GROUP BY there is one group, even of no rows. */
static enum dbos_err add_empty_group(struct output *output, struct dbos_groups *groups,
                                     struct dbos_datum *values) {
    struct dbos_group *group;
    if (output->select->group_count != 0 || groups->count != 0) {
        return DBOS_OK;
    }
    output->runner->eval.row = NULL;
    return find_group(output, groups, values, &group);
}

static enum dbos_err run_groups(struct output *output, struct dbos_groups *groups) {
    struct dbos_runner *runner = output->runner;
    const struct dbos_select_plan *select = output->select;
    struct dbos_scan scan;
    struct dbos_datum *values =
        dbos_arena_take(&runner->keep, (select->group_count + 1) * sizeof *values);
    struct dbos_datum *results =
        dbos_arena_take(&runner->keep, (select->aggregate_count + 1) * sizeof *results);
    if (values == NULL || results == NULL) {
        return dbos_runner_nomem(runner);
    }
    enum dbos_err err = dbos_scan_begin(runner, &select->access, &scan);
    if (err == DBOS_OK) {
        err = collect(output, groups, &scan, values);
    }
    dbos_scan_end(&scan);
    if (err == DBOS_OK) {
        err = add_empty_group(output, groups, values);
    }
    output->keep = select->sort_count != 0;
    for (const struct dbos_group *group = groups->first;
         group != NULL && err == DBOS_OK && !output->full; group = group->next) {
        err = emit_group(output, group, results);
    }
    return err;
}

/* -- one row by its key ---------------------------------------------------------------------------
 */

/* Nothing is between the row and the sink: no order, no limit, no group. */
static enum dbos_err run_point(struct dbos_runner *runner, const struct dbos_select_plan *select,
                               struct dbos_sink *sink) {
    struct dbos_datum few[POINT_COLUMNS];
    struct dbos_row *row;
    enum dbos_err err = dbos_scan_find(runner, &select->access, &row);
    if (err != DBOS_OK || row == NULL) {
        return err;
    }
    for (uint32_t i = 0; i < select->expr_count; i++) {
        err = dbos_expr_eval(select->exprs[i], &runner->eval, &few[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    err = sink->row(sink, few, select->column_count, runner->info);
    runner->rows += err == DBOS_OK ? 1 : 0;
    return err;
}

static bool is_point(const struct dbos_select_plan *select) {
    return select->access.kind == DBOS_ACCESS_FIND && select->expr_count <= POINT_COLUMNS &&
           !select->aggregated && !select->distinct && select->sort_count == 0 &&
           select->limit == NULL && select->offset == NULL;
}

enum dbos_err dbos_run_select(struct dbos_runner *runner, const struct dbos_select_plan *select,
                              struct dbos_sink *sink) {
    if (is_point(select)) {
        return run_point(runner, select, sink);
    }
    struct output output = {.runner = runner, .select = select, .sink = sink};
    enum dbos_err err = output_init(&output);
    if (err == DBOS_OK && select->aggregated) {
        struct dbos_groups groups;
        dbos_groups_init(&groups, &runner->keep);
        err = run_groups(&output, &groups);
        dbos_groups_fini(&groups);
    } else if (err == DBOS_OK) {
        err = run_plain(&output);
    }
    if (err == DBOS_OK) {
        err = finish(&output);
    }
    dbos_groups_fini(&output.distinct);
    return err;
}
