/* Rows of an access path. What is read is noted as it is: a row that an index led to by itself
 * (before the residual condition), a key that was absent, a range with its rows, or a whole part of
 * a table. A full scan that LIMIT stopped early is noted as one of the rows visited so far. */
#include "procs/sql/run.h"

/* -- keys -----------------------------------------------------------------------------------------
 */

enum fit { FITS, TOO_LOW, TOO_HIGH };

/* The value with its column's type; an integer may lie outside of what the column can hold. */
static enum fit fit_column(struct dbos_datum *value, enum dbos_type column) {
    int64_t low = INT64_MIN;
    int64_t high = INT64_MAX;
    if (column == DBOS_TYPE_INT2) {
        low = INT16_MIN;
        high = INT16_MAX;
    } else if (column == DBOS_TYPE_INT4) {
        low = INT32_MIN;
        high = INT32_MAX;
    }
    if (!dbos_type_is_bytes(column) && column != DBOS_TYPE_FLOAT8) {
        if (value->integer < low || value->integer > high) {
            return value->integer < low ? TOO_LOW : TOO_HIGH;
        }
    }
    value->type = (uint8_t)column;
    return FITS;
}

static enum dbos_type key_type(const struct dbos_access *access, uint32_t i) {
    const struct dbos_index_def *index = &access->def->indexes[access->index];
    return (enum dbos_type)access->def->columns[index->columns[i]].type;
}

/* A value for the keys, which must outlive the first reset of the scratch arena. */
static enum dbos_err eval_key(struct dbos_scan *scan, const struct dbos_expr *expr,
                              struct dbos_datum *out) {
    struct dbos_eval eval = scan->runner->eval;
    eval.arena = &scan->runner->keep;
    return dbos_expr_eval(expr, &eval, out);
}

static enum dbos_err eval_equal(struct dbos_scan *scan) {
    for (uint32_t i = 0; i < scan->access->key_count; i++) {
        struct dbos_datum value;
        enum dbos_err err = eval_key(scan, scan->access->key[i], &value);
        if (err != DBOS_OK) {
            return err;
        }
        if (value.is_null || fit_column(&value, key_type(scan->access, i)) != FITS) {
            scan->empty = true;
            return DBOS_OK;
        }
        scan->bounds[0][i] = value;
        scan->bounds[1][i] = value;
    }
    scan->bound_count[0] = scan->bound_count[1] = scan->access->key_count;
    scan->bound_inclusive[0] = scan->bound_inclusive[1] = true;
    return DBOS_OK;
}

/* One end of a range on the column behind the equal ones. */
static enum dbos_err eval_bound(struct dbos_scan *scan, bool high) {
    const struct dbos_access *access = scan->access;
    const struct dbos_expr *expr = high ? access->high : access->low;
    struct dbos_datum value;
    if (expr == NULL || scan->empty) {
        return DBOS_OK;
    }
    enum dbos_err err = eval_key(scan, expr, &value);
    if (err != DBOS_OK) {
        return err;
    }
    enum fit fit = value.is_null ? FITS : fit_column(&value, key_type(access, access->key_count));
    if (value.is_null || fit == (high ? TOO_LOW : TOO_HIGH)) {
        scan->empty = true;
    } else if (fit == FITS) {
        uint32_t end = high ? 1 : 0;
        scan->bounds[end][access->key_count] = value;
        scan->bound_count[end] = access->key_count + 1;
        scan->bound_inclusive[end] = high ? access->high_inclusive : access->low_inclusive;
    }
    return DBOS_OK;
}

static enum dbos_err eval_bounds(struct dbos_scan *scan) {
    enum dbos_err err = eval_equal(scan);
    if (err == DBOS_OK) {
        err = eval_bound(scan, false);
    }
    return err == DBOS_OK ? eval_bound(scan, true) : err;
}

/* -- partitions -----------------------------------------------------------------------------------
 */

/* Which parts to visit: the row's one where WHERE says it, else what is in hand. */
static enum dbos_err choose_partitions(struct dbos_scan *scan) {
    const struct dbos_access *access = scan->access;
    struct dbos_txn *txn = scan->runner->run->txn;
    uint32_t own = dbos_txn_partition(txn);
    scan->noted_partition = own;
    if (access->def->partition_column < 0) {
        scan->partition = scan->last_partition = own == DBOS_PARTITION_ALL ? 0 : own;
        scan->noted_partition = DBOS_PARTITION_ALL;
        return DBOS_OK;
    }
    if (access->partition == NULL) {
        bool all = own == DBOS_PARTITION_ALL;
        scan->partition = all ? 0 : own;
        scan->last_partition = all ? dbos_store_partitions(dbos_txn_store(txn)) - 1 : own;
        return DBOS_OK;
    }
    struct dbos_datum value;
    enum dbos_err err = eval_key(scan, access->partition, &value);
    if (err != DBOS_OK) {
        return err;
    }
    if (value.is_null) {
        scan->empty = true;
        return DBOS_OK;
    }
    err = dbos_txn_route(txn, access->def, &value, &scan->partition, scan->runner->info);
    scan->last_partition = scan->noted_partition = scan->partition;
    return err;
}

static struct dbos_table *part(const struct dbos_scan *scan) {
    return dbos_txn_table(scan->runner->run->txn, scan->access->def->id, scan->partition);
}

/* -- one row by its key ---------------------------------------------------------------------------
 */

/* The values of the key, in `keep`; *out = false: no row can have it. */
static enum dbos_err eval_find_key(struct dbos_runner *runner, const struct dbos_access *access,
                                   struct dbos_datum *key, bool *out) {
    const struct dbos_index_def *index = &access->def->indexes[access->index];
    enum dbos_err err = DBOS_OK;
    *out = true;
    runner->eval.arena = &runner->keep;
    for (uint32_t i = 0; i < access->key_count && *out && err == DBOS_OK; i++) {
        err = dbos_expr_eval(access->key[i], &runner->eval, &key[i]);
        *out = err == DBOS_OK && !key[i].is_null &&
               fit_column(&key[i], access->def->columns[index->columns[i]].type) == FITS;
    }
    runner->eval.arena = &runner->scratch;
    return err;
}

/* The part that the row with this key is on. Every unique key has the partitioning column in it. */
static enum dbos_err find_part(struct dbos_runner *runner, const struct dbos_access *access,
                               const struct dbos_datum *key, struct dbos_table **out) {
    const struct dbos_table_def *def = access->def;
    const struct dbos_index_def *index = &def->indexes[access->index];
    struct dbos_txn *txn = runner->run->txn;
    uint32_t partition = 0;
    uint32_t i = 0;
    enum dbos_err err = DBOS_OK;
    if (def->partition_column >= 0) {
        while (index->columns[i] != (uint32_t)def->partition_column) {
            i++;
            DBOS_CHECK(i < access->key_count);
        }
        err = dbos_txn_route(txn, def, &key[i], &partition, runner->info);
    }
    *out = err == DBOS_OK ? dbos_txn_table(txn, def->id, partition) : NULL;
    DBOS_CHECK(err != DBOS_OK || *out != NULL);
    return err;
}

enum dbos_err dbos_scan_find(struct dbos_runner *runner, const struct dbos_access *access,
                             struct dbos_row **out) {
    struct dbos_datum key[DBOS_INDEX_COLUMNS_MAX];
    struct dbos_txn *txn = runner->run->txn;
    struct dbos_table *table;
    bool possible;
    bool accepted = true;
    *out = NULL;
    runner->eval.def = access->def;
    runner->eval.row = NULL;
    runner->eval.values = NULL;
    enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
    if (err == DBOS_OK) {
        err = eval_find_key(runner, access, key, &possible);
    }
    if (err == DBOS_OK && possible) {
        err = find_part(runner, access, key, &table);
    }
    if (err != DBOS_OK || !possible) {
        return err;
    }
    struct dbos_row *row = dbos_table_find(table, access->index, key);
    if (row == NULL) {
        dbos_txn_note_absent(txn, access->def->id, access->def->indexes[access->index].id, key,
                             access->key_count);
        return DBOS_OK;
    }
    dbos_txn_note_read(txn, access->def->id, row);
    runner->eval.row = row;
    if (access->where != NULL) {
        err = dbos_expr_test(access->where, &runner->eval, &accepted);
    }
    *out = accepted ? row : NULL;
    return err;
}

/* -- many rows ------------------------------------------------------------------------------------
 */

static struct dbos_bound bound(const struct dbos_scan *scan, uint32_t end) {
    return (struct dbos_bound){.datums = scan->bounds[end],
                               .count = (uint16_t)scan->bound_count[end],
                               .inclusive = scan->bound_inclusive[end]};
}

static enum dbos_err open_part(struct dbos_scan *scan) {
    struct dbos_table *table = part(scan);
    DBOS_CHECK(table != NULL);
    enum dbos_err err = DBOS_OK;
    if (scan->access->kind == DBOS_ACCESS_FULL) {
        dbos_cursor_begin_full(table, &scan->cursor);
    } else {
        struct dbos_bound low = bound(scan, 0);
        struct dbos_bound high = bound(scan, 1);
        err = dbos_cursor_begin_range(table, scan->access->index, &low, &high,
                                      scan->access->descending, &scan->cursor);
    }
    scan->open = err == DBOS_OK;
    return err == DBOS_OK ? DBOS_OK : dbos_runner_nomem(scan->runner);
}

/* The next row of any part, or NULL. */
static enum dbos_err next_row(struct dbos_scan *scan, struct dbos_row **out) {
    *out = NULL;
    if (scan->empty) {
        return DBOS_OK;
    }
    if (scan->access->kind == DBOS_ACCESS_FIND) {
        *out = scan->found;
        scan->found = NULL;
        return DBOS_OK;
    }
    for (;;) {
        *out = dbos_cursor_next(&scan->cursor);
        if (*out != NULL || scan->partition == scan->last_partition) {
            break;
        }
        dbos_cursor_end(&scan->cursor);
        scan->open = false;
        scan->partition++;
        enum dbos_err err = open_part(scan);
        if (err != DBOS_OK) {
            return err;
        }
    }
    if (*out != NULL) {
        scan->visited++;
        if (scan->access->kind == DBOS_ACCESS_RANGE) {
            dbos_txn_note_read(scan->runner->run->txn, scan->access->def->id, *out);
        }
    }
    return DBOS_OK;
}

/* -- generate_series ------------------------------------------------------------------------------
 */

static enum dbos_err begin_series(struct dbos_scan *scan) {
    int64_t values[3] = {0, 0, 1};
    for (uint32_t i = 0; i < 3 && scan->access->series[i] != NULL; i++) {
        struct dbos_datum value;
        enum dbos_err err = eval_key(scan, scan->access->series[i], &value);
        if (err != DBOS_OK) {
            return err;
        }
        scan->empty = scan->empty || value.is_null;
        values[i] = value.integer;
    }
    if (!scan->empty && values[2] == 0) {
        return dbos_fail(scan->runner->info, DBOS_ERR_INVALID_PARAMETER,
                         "step size cannot equal zero");
    }
    scan->next = values[0];
    scan->last = values[1];
    scan->step = values[2];
    scan->more = !scan->empty;
    return DBOS_OK;
}

static bool next_of_series(struct dbos_scan *scan) {
    if (!scan->more || (scan->step > 0 ? scan->next > scan->last : scan->next < scan->last)) {
        return false;
    }
    scan->value = dbos_datum_int((enum dbos_type)scan->access->series[0]->type, scan->next);
    scan->more = !__builtin_add_overflow(scan->next, scan->step, &scan->next);
    scan->runner->eval.values = &scan->value;
    return true;
}

/* -- system views ---------------------------------------------------------------------------------
 */

/* All rows at once: what follows sees one moment. Nothing is noted, because nothing of it is data.
 */
static enum dbos_err begin_view(struct dbos_scan *scan) {
    struct dbos_runner *runner = scan->runner;
    const struct dbos_views *views = runner->run->views;
    struct dbos_view_rows rows = {.arena = &runner->keep, .view = scan->access->view};
    if (views == NULL) {
        return dbos_fail(runner->info, DBOS_ERR_NOT_SUPPORTED,
                         "system view \"%s\" cannot be read here", dbos_view_name(rows.view));
    }
    scan->view_row = NULL;
    if (views->fill(views->arg, &rows) != DBOS_OK) {
        return dbos_runner_nomem(runner);
    }
    scan->view_row = rows.first;
    return DBOS_OK;
}

static bool next_of_view(struct dbos_scan *scan) {
    if (scan->view_row == NULL) {
        return false;
    }
    scan->runner->eval.values = scan->view_row->datums;
    scan->view_row = scan->view_row->next;
    return true;
}

/* -- all ------------------------------------------------------------------------------------------
 */

static enum dbos_err begin_table(struct dbos_scan *scan) {
    if (scan->access->kind == DBOS_ACCESS_FIND) {
        return dbos_scan_find(scan->runner, scan->access, &scan->found);
    }
    enum dbos_err err = choose_partitions(scan);
    if (err == DBOS_OK && !scan->empty && scan->access->kind != DBOS_ACCESS_FULL) {
        err = eval_bounds(scan);
    }
    if (err != DBOS_OK || scan->empty) {
        return err;
    }
    scan->runner->eval.def = scan->access->def;
    return open_part(scan);
}

enum dbos_err dbos_scan_begin(struct dbos_runner *runner, const struct dbos_access *access,
                              struct dbos_scan *scan) {
    scan->runner = runner;
    scan->access = access;
    scan->empty = scan->open = false;
    scan->found = NULL;
    scan->partition = scan->last_partition = 0;
    scan->visited = 0;
    scan->bound_count[0] = scan->bound_count[1] = 0;
    scan->bound_inclusive[0] = scan->bound_inclusive[1] = true;
    runner->eval.row = NULL;
    runner->eval.values = NULL;
    if (access->kind == DBOS_ACCESS_NOTHING) {
        scan->more = true;
        return DBOS_OK;
    }
    if (access->kind == DBOS_ACCESS_VIEW) {
        return begin_view(scan);
    }
    return access->kind == DBOS_ACCESS_SERIES ? begin_series(scan) : begin_table(scan);
}

/* One candidate; *out = false: there are no more. */
static enum dbos_err advance(struct dbos_scan *scan, bool *out) {
    struct dbos_row *row = NULL;
    if (scan->access->kind == DBOS_ACCESS_SERIES) {
        *out = next_of_series(scan);
        return DBOS_OK;
    }
    if (scan->access->kind == DBOS_ACCESS_VIEW) {
        *out = next_of_view(scan);
        return DBOS_OK;
    }
    if (scan->access->kind == DBOS_ACCESS_NOTHING) {
        *out = scan->more;
        scan->more = false;
        return DBOS_OK;
    }
    enum dbos_err err = next_row(scan, &row);
    scan->runner->eval.row = row;
    *out = row != NULL;
    return err;
}

/* WHERE is evaluated in the scratch arena, whatever the row's results are to be in. */
static enum dbos_err accept(struct dbos_scan *scan, bool *out) {
    struct dbos_runner *runner = scan->runner;
    struct dbos_arena *arena = runner->eval.arena;
    runner->eval.arena = &runner->scratch;
    enum dbos_err err = dbos_expr_test(scan->access->where, &runner->eval, out);
    runner->eval.arena = arena;
    return err;
}

enum dbos_err dbos_scan_next(struct dbos_scan *scan, bool *out) {
    struct dbos_runner *runner = scan->runner;
    for (;;) {
        bool accepted = false;
        dbos_runner_next_row(runner);
        enum dbos_err err = dbos_run_poll(runner->run, &runner->polls, runner->info);
        if (err == DBOS_OK) {
            err = advance(scan, out);
        }
        bool decided = scan->access->where == NULL || scan->access->kind == DBOS_ACCESS_FIND;
        if (err != DBOS_OK || !*out || decided) {
            return err;
        }
        err = accept(scan, &accepted);
        if (err != DBOS_OK || accepted) {
            return err;
        }
    }
}

void dbos_scan_end(struct dbos_scan *scan) {
    const struct dbos_access *access = scan->access;
    struct dbos_txn *txn = scan->runner->run->txn;
    if (!scan->open) {
        return;
    }
    dbos_cursor_end(&scan->cursor);
    scan->open = false;
    if (access->kind == DBOS_ACCESS_FULL) {
        dbos_txn_note_scan(txn, access->def->id, scan->noted_partition, scan->visited);
        return;
    }
    struct dbos_bound low = bound(scan, 0);
    struct dbos_bound high = bound(scan, 1);
    dbos_txn_note_range(txn, access->def->id, access->def->indexes[access->index].id, &low, &high,
                        scan->visited);
}
