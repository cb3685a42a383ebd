/* Merge sort of materialised rows: stable, and it can be canceled. */
#include "procs/sql/run.h"

static int compare_rows(const struct dbos_select_plan *select, const struct dbos_datum *a,
                        const struct dbos_datum *b) {
    for (uint32_t i = 0; i < select->sort_count; i++) {
        const struct dbos_sort_key *key = &select->sort[i];
        const struct dbos_datum *left = &a[key->output];
        const struct dbos_datum *right = &b[key->output];
        int order;
        if (left->is_null || right->is_null) {
            order = (left->is_null ? 1 : 0) - (right->is_null ? 1 : 0);
            order = key->nulls_first ? -order : order;
        } else {
            order = dbos_datum_compare(left, right);
            order = key->descending ? -order : order;
        }
        if (order != 0) {
            return order;
        }
    }
    return 0;
}

static enum dbos_err merge(struct dbos_runner *runner, const struct dbos_select_plan *select,
                           struct dbos_datum **from, struct dbos_datum **to, uint64_t start,
                           uint64_t middle, uint64_t end) {
    uint64_t left = start;
    uint64_t right = middle;
    for (uint64_t at = start; at < end; at++) {
        enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
        if (err != DBOS_OK) {
            return err;
        }
        bool take_left =
            left < middle && (right >= end || compare_rows(select, from[left], from[right]) <= 0);
        to[at] = take_left ? from[left++] : from[right++];
    }
    return DBOS_OK;
}

enum dbos_err dbos_sort_rows(struct dbos_runner *runner, const struct dbos_select_plan *select,
                             struct dbos_datum **rows, uint64_t count) {
    if (count < 2) {
        return DBOS_OK;
    }
    struct dbos_datum **from = rows;
    struct dbos_datum **to = dbos_arena_take(&runner->keep, count * sizeof(struct dbos_datum *));
    if (to == NULL) {
        return dbos_runner_nomem(runner);
    }
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t start = 0; start < count; start += 2 * width) {
            uint64_t middle = start + width < count ? start + width : count;
            uint64_t end = start + 2 * width < count ? start + 2 * width : count;
            enum dbos_err err = merge(runner, select, from, to, start, middle, end);
            if (err != DBOS_OK) {
                return err;
            }
        }
        struct dbos_datum **swap = from;
        from = to;
        to = swap;
    }
    if (from != rows) {
        memcpy(rows, from, count * sizeof(struct dbos_datum *));
    }
    return DBOS_OK;
}
