/* INSERT, UPDATE, DELETE. Rows to change are collected first: a cursor does not survive a change,
 * and no statement sees its own changes. */
#include "procs/sql/run.h"

/* -- RETURNING ------------------------------------------------------------------------------------
 */

static enum dbos_err return_row(struct dbos_runner *runner, const struct dbos_returning *returning,
                                const struct dbos_table_def *def, const struct dbos_row *row) {
    if (returning->count == 0) {
        return DBOS_OK;
    }
    struct dbos_datum *datums =
        dbos_arena_take(&runner->scratch, returning->count * sizeof *datums);
    if (datums == NULL) {
        return dbos_runner_nomem(runner);
    }
    runner->eval.def = def;
    runner->eval.row = row;
    for (uint32_t i = 0; i < returning->count; i++) {
        enum dbos_err err = dbos_expr_eval(returning->exprs[i], &runner->eval, &datums[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return runner->sink->row(runner->sink, datums, returning->count, runner->info);
}

/* -- INSERT ---------------------------------------------------------------------------------------
 */

static enum dbos_err insert_row(struct dbos_runner *runner, struct dbos_expr *const *exprs) {
    const struct dbos_insert_plan *insert = &runner->plan->insert;
    struct dbos_datum datums[DBOS_COLUMNS_MAX];
    struct dbos_row *row;
    for (uint32_t i = 0; i < insert->def->column_count; i++) {
        enum dbos_err err = dbos_expr_eval(exprs[i], &runner->eval, &datums[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    enum dbos_err err =
        dbos_txn_insert(runner->run->txn, insert->def->id, datums, &row, runner->info);
    if (err != DBOS_OK) {
        return err;
    }
    runner->rows++;
    const struct dbos_datum *values = runner->eval.values;
    err = return_row(runner, &insert->returning, insert->def, row);
    runner->eval.row = NULL;
    runner->eval.values = values;
    return err;
}

/* Rows of INSERT … SELECT, kept until all of them are known. */
struct kept_row {
    struct kept_row *next;
    struct dbos_datum datums[];
};
struct keeper {
    struct dbos_sink sink;
    struct dbos_runner *runner;
    struct dbos_arena rows;
    struct kept_row *first;
    struct kept_row *last;
};

static enum dbos_err keep_row(struct dbos_sink *sink, const struct dbos_datum *datums,
                              uint32_t count, struct dbos_errinfo *info) {
    struct keeper *keeper = (struct keeper *)(void *)sink;
    struct kept_row *row =
        dbos_arena_take(&keeper->rows, sizeof *row + count * sizeof row->datums[0]);
    if (row == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    row->next = NULL;
    for (uint32_t i = 0; i < count; i++) {
        if (dbos_datum_keep(&keeper->rows, &datums[i], &row->datums[i]) != DBOS_OK) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
        }
    }
    if (keeper->last == NULL) {
        keeper->first = row;
    } else {
        keeper->last->next = row;
    }
    keeper->last = row;
    return DBOS_OK;
}

static enum dbos_err insert_kept(struct dbos_runner *runner, const struct keeper *keeper) {
    for (const struct kept_row *row = keeper->first; row != NULL; row = row->next) {
        dbos_runner_next_row(runner);
        runner->eval.row = NULL;
        runner->eval.values = row->datums;
        enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
        if (err == DBOS_OK) {
            err = insert_row(runner, runner->plan->insert.from_select);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

static enum dbos_err insert_select(struct dbos_runner *runner) {
    struct keeper keeper = {.sink = {.row = keep_row}, .runner = runner};
    dbos_arena_init(&keeper.rows, runner->keep.alloc, 0);
    enum dbos_err err = dbos_run_select(runner, runner->plan->insert.select, &keeper.sink);
    runner->rows = 0;
    if (err == DBOS_OK) {
        err = insert_kept(runner, &keeper);
    }
    dbos_arena_fini(&keeper.rows);
    return err;
}

enum dbos_err dbos_run_insert(struct dbos_runner *runner) {
    const struct dbos_insert_plan *insert = &runner->plan->insert;
    if (insert->select != NULL) {
        return insert_select(runner);
    }
    for (uint32_t i = 0; i < insert->row_count; i++) {
        dbos_runner_next_row(runner);
        enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
        if (err == DBOS_OK) {
            err = insert_row(runner, insert->rows[i]);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* -- UPDATE and DELETE ----------------------------------------------------------------------------
 */

enum { BATCH_ROWS = 128 };
struct row_batch {
    struct row_batch *next;
    uint32_t count;
    struct dbos_row *rows[BATCH_ROWS];
};

static enum dbos_err add_row(struct dbos_runner *runner, struct row_batch **last,
                             const struct dbos_row *row) {
    struct row_batch *batch = *last;
    if (batch->count == BATCH_ROWS) {
        batch->next = dbos_arena_take_zero(&runner->keep, sizeof *batch);
        if (batch->next == NULL) {
            return dbos_runner_nomem(runner);
        }
        batch = *last = batch->next;
    }
    /* The scan lends it for reading; the transaction that changes it is this one. */
    memcpy(&batch->rows[batch->count], &row, sizeof row);
    batch->count++;
    return DBOS_OK;
}

static enum dbos_err collect_rows(struct dbos_runner *runner, const struct dbos_access *access,
                                  struct row_batch *first) {
    struct dbos_scan scan;
    struct row_batch *last = first;
    bool more = true;
    enum dbos_err err = dbos_scan_begin(runner, access, &scan);
    while (err == DBOS_OK) {
        err = dbos_scan_next(&scan, &more);
        if (err != DBOS_OK || !more) {
            break;
        }
        err = add_row(runner, &last, runner->eval.row);
    }
    dbos_scan_end(&scan);
    return err;
}

static enum dbos_err update_row(struct dbos_runner *runner, struct dbos_row *row) {
    const struct dbos_change_plan *change = &runner->plan->change;
    const struct dbos_table_def *def = change->access.def;
    struct dbos_datum datums[DBOS_COLUMNS_MAX];
    struct dbos_row *fresh;
    runner->eval.def = def;
    runner->eval.row = row;
    for (uint32_t i = 0; i < def->column_count; i++) {
        if (change->set[i] == NULL) {
            datums[i] = dbos_row_column(def, row, i);
            continue;
        }
        enum dbos_err err = dbos_expr_eval(change->set[i], &runner->eval, &datums[i]);
        if (err != DBOS_OK) {
            return err;
        }
    }
    enum dbos_err err =
        dbos_txn_update(runner->run->txn, def->id, row, datums, &fresh, runner->info);
    return err == DBOS_OK ? return_row(runner, &change->returning, def, fresh) : err;
}

static enum dbos_err delete_row(struct dbos_runner *runner, struct dbos_row *row) {
    const struct dbos_change_plan *change = &runner->plan->change;
    enum dbos_err err = return_row(runner, &change->returning, change->access.def, row);
    return err == DBOS_OK
               ? dbos_txn_delete(runner->run->txn, change->access.def->id, row, runner->info)
               : err;
}

typedef enum dbos_err change_row(struct dbos_runner *runner, struct dbos_row *row);

static enum dbos_err change_found(struct dbos_runner *runner, change_row *change) {
    struct dbos_row *row;
    enum dbos_err err = dbos_scan_find(runner, &runner->plan->change.access, &row);
    if (err == DBOS_OK && row != NULL) {
        err = change(runner, row);
        runner->rows += err == DBOS_OK ? 1 : 0;
    }
    return err;
}

static enum dbos_err change_rows(struct dbos_runner *runner, change_row *change) {
    if (runner->plan->change.access.kind == DBOS_ACCESS_FIND) {
        return change_found(runner, change);
    }
    struct row_batch first = {.count = 0};
    enum dbos_err err = collect_rows(runner, &runner->plan->change.access, &first);
    for (const struct row_batch *batch = &first; batch != NULL && err == DBOS_OK;
         batch = batch->next) {
        for (uint32_t i = 0; i < batch->count && err == DBOS_OK; i++) {
            dbos_runner_next_row(runner);
            err = dbos_run_poll(runner->run, &runner->polls, runner->info);
            if (err == DBOS_OK) {
                err = change(runner, batch->rows[i]);
            }
            runner->rows += err == DBOS_OK ? 1 : 0;
        }
    }
    return err;
}

enum dbos_err dbos_run_update(struct dbos_runner *runner) {
    return change_rows(runner, update_row);
}
enum dbos_err dbos_run_delete(struct dbos_runner *runner) {
    return change_rows(runner, delete_row);
}
