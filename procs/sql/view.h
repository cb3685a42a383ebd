/* System views: relations of the schema dbos whose rows are made when a statement looks.
 *
 * What is here are their names and columns, for the planner; the rows come from whoever runs the
 * statement (struct dbos_run.views), in one call at the beginning of the scan: what a statement
 * sees of a view is a snapshot of that moment. Nothing of it is user data, so that reading a view
 * leaves no read record. docs/views.md describes every column.
 *
 * Thread: definitions any; rows the statement's. Memory: rows are in the statement's arena. */
#ifndef DBOS_PROCS_SQL_VIEW_H
#define DBOS_PROCS_SQL_VIEW_H

#include "storage/schema.h"

enum dbos_view_id {
    DBOS_VIEW_ARCHIVE,
    DBOS_VIEW_HISTOGRAM,
    DBOS_VIEW_LATENCY,
    DBOS_VIEW_LOG,
    DBOS_VIEW_MEMORY,
    DBOS_VIEW_PARTITIONS,
    DBOS_VIEW_SESSIONS,
    DBOS_VIEW_SNAPSHOT,
    DBOS_VIEW_STATEMENTS,
    DBOS_VIEW_TABLES,
    DBOS_VIEWS, /* how many */
};

enum { DBOS_VIEW_COLUMNS_MAX = 16 };

const char *dbos_view_name(enum dbos_view_id view);
/* `schema` NULL is searched as for tables (dbos is among it). */
bool dbos_view_find(const char *schema, const char *name, enum dbos_view_id *out);
/* The view's columns as a definition that names can be bound to; it has no key and no rows. One
 * reference for the caller. Errors: NOMEM. */
enum dbos_err dbos_view_define(struct dbos_alloc *alloc, enum dbos_view_id view,
                               struct dbos_table_def **out) DBOS_MUST_USE;

/* Rows as they are made, in order. */
struct dbos_view_row {
    struct dbos_view_row *next;
    struct dbos_datum datums[]; /* one for each column */
};
struct dbos_view_rows {
    struct dbos_arena *arena;
    enum dbos_view_id view;
    struct dbos_view_row *first;
    struct dbos_view_row *last;
};
/* Append a row: one datum for each column of the view, of its type or NULL. Texts are copied.
 * Errors: NOMEM. */
enum dbos_err dbos_view_add(struct dbos_view_rows *rows, const struct dbos_datum *datums,
                            uint32_t count) DBOS_MUST_USE;

/* Who makes the rows. `fill` adds those of rows->view; errors: NOMEM alone (what can not be found
 * out is NULL). It must not block. */
struct dbos_views {
    void *arg;
    enum dbos_err (*fill)(void *arg, struct dbos_view_rows *rows);
};

#endif /* DBOS_PROCS_SQL_VIEW_H */
