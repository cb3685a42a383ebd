/* Inside of a plan: what the planner (plan*.c) leaves for the executor (run*.c).
 *
 * Thread: immutable once made. Memory: the plan's arena. */
#ifndef DBOS_PROCS_SQL_PLAN_H
#define DBOS_PROCS_SQL_PLAN_H

#include "procs/sql/bind.h"
#include "procs/sql/view.h"

enum dbos_access_kind {
    DBOS_ACCESS_NOTHING, /* no FROM: one row without columns */
    DBOS_ACCESS_SERIES,  /* generate_series(start, end, step) */
    DBOS_ACCESS_VIEW,    /* a system view; def is NULL */
    DBOS_ACCESS_FULL,
    DBOS_ACCESS_FIND,  /* at most one row by a unique index */
    DBOS_ACCESS_RANGE, /* equal leading columns, perhaps bounds on the next one */
};

/* How rows are found, and where. */
struct dbos_access {
    enum dbos_access_kind kind;
    const struct dbos_table_def *def; /* kept by the plan's catalogue */
    uint32_t index;
    uint32_t key_count;
    struct dbos_expr *key[DBOS_INDEX_COLUMNS_MAX];
    struct dbos_expr *low; /* of column key_count of the index; NULL = open */
    struct dbos_expr *high;
    bool low_inclusive;
    bool high_inclusive;
    bool descending;
    bool in_order; /* the index gives the order that ORDER BY wants, in one partition */
    struct dbos_expr *partition; /* value of the partitioning column, where WHERE gives it */
    struct dbos_expr *where;     /* checked on every row; of a FIND, what its key has not decided */
    struct dbos_expr *series[3];
    enum dbos_view_id view;
};

struct dbos_sort_key {
    uint32_t output; /* position among the select's exprs */
    bool descending;
    bool nulls_first;
};

struct dbos_select_plan {
    struct dbos_access access;
    struct dbos_expr **exprs; /* the result's columns, then what only ORDER BY needs */
    uint32_t expr_count;
    uint32_t column_count;
    bool aggregated;
    bool distinct;
    struct dbos_expr **groups;
    uint32_t group_count;
    struct dbos_aggregate *aggregates;
    uint32_t aggregate_count;
    struct dbos_expr *having;
    struct dbos_sort_key *sort;
    uint32_t sort_count;
    struct dbos_expr *limit;
    struct dbos_expr *offset;
};

struct dbos_returning {
    struct dbos_expr **exprs;
    uint32_t count;
};

struct dbos_insert_plan {
    const struct dbos_table_def *def;
    struct dbos_expr ***rows; /* row_count times one expression for each column of the table */
    uint32_t row_count;
    struct dbos_select_plan *select; /* instead: its columns go through `casts` */
    struct dbos_expr **from_select;  /* for each column: an expression over the select's row */
    struct dbos_returning returning;
};

struct dbos_change_plan { /* UPDATE and DELETE */
    struct dbos_access access;
    struct dbos_expr **set; /* UPDATE: for each column; NULL = as it is */
    struct dbos_returning returning;
};

struct dbos_call_plan {
    const struct dbos_procedure_info *procedure;
    struct dbos_expr **args;
    uint32_t count;
    bool is_select; /* SELECT f(…) */
};

struct dbos_plan {
    _Atomic uint32_t refs;
    _Atomic int32_t quickness; /* see dbos_plan_note_time() */
    struct dbos_alloc *alloc;
    struct dbos_arena arena;
    struct dbos_script *script;
    struct dbos_catalog *catalog;
    struct dbos_procs *procs;
    const struct dbos_ast_statement *statement;
    enum dbos_statement_kind kind;
    bool in_procedure;
    bool read_only;
    uint64_t statement_id;
    struct dbos_txn_own_statement own; /* in a procedure: which of its statements */
    enum dbos_type *parameter_types;
    uint32_t parameter_count;
    struct dbos_result_column *columns;
    uint32_t column_count;
    struct dbos_table_def *view_columns; /* of the system view that is read; NULL = none */
    union {
        struct dbos_select_plan select;
        struct dbos_insert_plan insert;
        struct dbos_change_plan change;
        struct dbos_call_plan call;
    };
};

/* plan_table.c: names of tables. */
/* It is a system view: no table has that name. */
bool dbos_plan_is_view(const struct dbos_binder *binder, const struct dbos_ast_relation *relation,
                       enum dbos_view_id *out);
/* Errors: UNDEFINED_TABLE; WRONG_OBJECT_TYPE when it is an index; PRIVILEGE when it is a system
 * view, which can only be read. */
const struct dbos_table_def *dbos_plan_find_table(struct dbos_binder *binder,
                                                  const struct dbos_ast_relation *relation);
/* The table's columns are what the binder sees from now on. */
void dbos_plan_set_source(struct dbos_binder *binder, const struct dbos_ast_relation *relation,
                          const struct dbos_table_def *def);
bool dbos_plan_may_write(struct dbos_binder *binder, const struct dbos_plan *plan,
                         const struct dbos_table_def *def);
/* `schema` NULL or public; else PRIVILEGE or an error that it does not exist. */
enum dbos_err dbos_schema_check(const char *schema, struct dbos_errinfo *info) DBOS_MUST_USE;

/* plan_access.c */
void dbos_plan_access(struct dbos_binder *binder, struct dbos_access *access);
/* Does the access give this order? Sets in_order and descending. */
void dbos_plan_order(struct dbos_access *access, const struct dbos_select_plan *select);

/* plan_select.c, plan_dml.c, plan_call.c */
bool dbos_plan_select(struct dbos_binder *binder, struct dbos_plan *plan,
                      const struct dbos_ast_select *ast, struct dbos_select_plan *out,
                      struct dbos_result_column **columns);
bool dbos_plan_insert(struct dbos_binder *binder, struct dbos_plan *plan);
bool dbos_plan_update(struct dbos_binder *binder, struct dbos_plan *plan);
bool dbos_plan_delete(struct dbos_binder *binder, struct dbos_plan *plan);
/* `ast` is CALL's, or the only target of a SELECT; *out_is_call = false: that is no procedure. */
bool dbos_plan_call(struct dbos_binder *binder, struct dbos_plan *plan,
                    const struct dbos_ast_call *ast, const char *column_name, bool is_select);
bool dbos_plan_is_call(const struct dbos_plan *plan, const struct dbos_ast_select *ast,
                       struct dbos_ast_call *out, const char **out_name);
/* Result columns of these expressions, named by the targets (stars already expanded). */
bool dbos_plan_returning(struct dbos_binder *binder, struct dbos_plan *plan,
                         const struct dbos_ast_targets *targets, const struct dbos_table_def *def,
                         struct dbos_returning *out);
void dbos_plan_describe(const struct dbos_expr *expr, const char *name,
                        const struct dbos_table_def *def, struct dbos_result_column *out);

#endif /* DBOS_PROCS_SQL_PLAN_H */
