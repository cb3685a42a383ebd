/* SQL: text -> statements -> plans -> rows.
 *
 *   parse (libpg_query, sql_parse.c)  ─▶ struct dbos_script: our own tree, one or more statements
 *   plan  (bind names and types, choose access paths, find the route) ─▶ struct dbos_plan
 *   run   (in a transaction, on the thread that has the partition) ─▶ rows to a sink
 *
 * A plan is immutable and may be run by any thread, many times. It is made for one catalogue
 * snapshot and keeps it; run against another one it is DBOS_ERR_STALE_PLAN before anything happens.
 *
 * Thread: parse and plan by any thread; run as above.
 * Memory: scripts and plans are objects of their own (arena inside); results of run are in the
 * transaction's arena. */
#ifndef DBOS_PROCS_SQL_SQL_H
#define DBOS_PROCS_SQL_SQL_H

#include "txn/txn.h"

struct dbos_procs; /* procs/procedure.h */
struct dbos_views; /* procs/sql/view.h */

enum dbos_statement_kind {
    DBOS_STATEMENT_EMPTY = 0,
    DBOS_STATEMENT_SELECT,
    DBOS_STATEMENT_INSERT,
    DBOS_STATEMENT_UPDATE,
    DBOS_STATEMENT_DELETE,
    DBOS_STATEMENT_CALL, /* CALL p(…), or SELECT f(…) of a registered function */
    DBOS_STATEMENT_DDL,  /* CREATE/DROP TABLE, INDEX, PROCEDURE, FUNCTION */
    DBOS_STATEMENT_SET,  /* SET [LOCAL|SESSION] name = value, RESET name: the session's business */
    DBOS_STATEMENT_SHOW,
    DBOS_STATEMENT_ARCHIVE, /* a SELECT over prov_…(), dbos_as_of(), prov.…: runs in the archive */
};

/* -- scripts ------------------------------------------------------------------------------------
 */

struct dbos_script;
/* Parse a whole query string (several statements with ; between them). Errors: SYNTAX with position
 * in characters (message as PostgreSQL's: syntax error at or near "x"), NOT_SUPPORTED naming the
 * construct (with position where the tree has one), TOO_COMPLEX (nesting), NOMEM. */
enum dbos_err dbos_script_parse(struct dbos_alloc *alloc, const char *text,
                                struct dbos_script **out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_script_close(struct dbos_script *script); /* plans made from it must be gone */
uint32_t dbos_script_count(const struct dbos_script *script);
enum dbos_statement_kind dbos_script_kind(const struct dbos_script *script, uint32_t statement);
/* The text of one statement without leading blanks and its semicolon; and the offset in characters
 * of its first character in the whole text (positions of errors are relative to the whole text). */
struct dbos_bytes dbos_script_text(const struct dbos_script *script, uint32_t statement);
uint32_t dbos_script_position(const struct dbos_script *script, uint32_t statement);

/* SET: name (lower case) and value ("" + is_reset for RESET and DEFAULT). SHOW: name. Borrowed. */
struct dbos_setting_change {
    const char *name;
    const char *value;
    bool is_local;
    bool is_reset;
};
void dbos_script_setting(const struct dbos_script *script, uint32_t statement,
                         struct dbos_setting_change *out);

/* ARCHIVE: the calls of provenance functions, and the statement's text with the i-th call replaced
 * by the table name dbos_call_<i> (i from 0). Arguments are literals or parameters, as text;
 * parameters are named by number. Borrowed. */
struct dbos_archive_argument {
    const char *text; /* NULL = SQL NULL (also the row type argument NULL::t: then `row_type`) */
    const char *row_type; /* dbos_as_of(NULL::t, …): "t" */
    const char *name;     /* named notation (depth => 3), or NULL */
    uint32_t parameter;   /* 1-based; 0 = literal */
};
struct dbos_archive_call {
    const char *function; /* "prov_last_writer", "dbos_as_of", … */
    uint32_t argument_count;
    const struct dbos_archive_argument *arguments;
    uint32_t position; /* character in the whole text */
};
struct dbos_archive_query {
    const char *sql; /* rewritten text of this statement */
    uint32_t call_count;
    const struct dbos_archive_call *calls;
    bool takes_snapshot; /* no question: SELECT dbos_snapshot(), answered when one was taken */
};
void dbos_script_archive(const struct dbos_script *script, uint32_t statement,
                         struct dbos_archive_query *out);

/* -- plans --------------------------------------------------------------------------------------
 */

struct dbos_result_column {
    const char *name;
    uint8_t type;       /* enum dbos_type */
    uint32_t chars_max; /* VARCHAR(n) */
    uint32_t table_id;  /* of a plain column, else 0 */
    uint16_t column;    /* 1-based, else 0 */
};

struct dbos_plan;
/* Plan statement `statement` of a script, which is kept by the plan (reference). `hints[i]` is the
 * type of parameter i+1 where the client gave one (UNKNOWN = infer). Kinds SET, SHOW, ARCHIVE and
 * EMPTY have no plan (a bug to ask). Errors: 42P01, 42703, 42702, 42883, 42804, 42803, 42P18,
 * 42P02, 0A000 and so on, with position. */
enum dbos_err dbos_plan_make(struct dbos_alloc *alloc, struct dbos_catalog *catalog,
                             struct dbos_procs *procs, struct dbos_script *script,
                             uint32_t statement, const enum dbos_type *hints, uint32_t hint_count,
                             struct dbos_plan **out, struct dbos_errinfo *info) DBOS_MUST_USE;
/* The same for a statement of a procedure, which may write dbos.model and dbos.model_chunk, and may
 * not call another procedure (0A000). */
enum dbos_err dbos_plan_make_in_procedure(struct dbos_alloc *alloc, struct dbos_catalog *catalog,
                                          struct dbos_procs *procs, struct dbos_script *script,
                                          uint32_t statement, const enum dbos_type *hints,
                                          uint32_t hint_count, struct dbos_plan **out,
                                          struct dbos_errinfo *info) DBOS_MUST_USE;
/* Which statement of which procedure it is: records name it by its number. Once, before it runs. */
void dbos_plan_set_owner(struct dbos_plan *plan, const struct dbos_procedure_info *procedure,
                         uint32_t ordinal);
struct dbos_plan *dbos_plan_ref(struct dbos_plan *plan);
void dbos_plan_unref(struct dbos_plan *plan);
enum dbos_statement_kind dbos_plan_kind(const struct dbos_plan *plan);
uint64_t dbos_plan_catalog_version(const struct dbos_plan *plan);
/* It counts for this catalogue, too, which has the same definitions under another version. Nobody
 * else looks at the plan meanwhile. */
void dbos_plan_follow(struct dbos_plan *plan, struct dbos_catalog *catalog);
uint64_t dbos_plan_statement_id(const struct dbos_plan *plan); /* hash of the text */
const char *dbos_plan_text(const struct dbos_plan *plan);
uint32_t dbos_plan_parameters(const struct dbos_plan *plan, const enum dbos_type **out_types);
/* 0 columns = no rows come back (NoData). */
uint32_t dbos_plan_columns(const struct dbos_plan *plan, const struct dbos_result_column **out);
bool dbos_plan_is_read_only(const struct dbos_plan *plan);
/* CALL: the procedure that it runs (borrowed), else NULL. */
const struct dbos_procedure_info *dbos_plan_procedure(const struct dbos_plan *plan);
/* Tables whose absence or change would break it: for "DDL that would break a procedure is refused".
 */
bool dbos_plan_uses_table(const struct dbos_plan *plan, uint32_t table_id);

enum dbos_route_kind {
    DBOS_ROUTE_ANY,     /* no partitioned table: any one partition (unpartitioned tables, read) */
    DBOS_ROUTE_ONE,     /* the partition of the value found */
    DBOS_ROUTE_BARRIER, /* all partitions */
};
/* Where it must run with these parameter values (of the plan's parameter types). A value that can
 * not be known (an expression over rows) gives BARRIER. *out_slot is valid for ONE.
 * Errors: those of evaluating the route expression (e.g. 22003); UNDEFINED_PARAMETER (`count` is
 * less than the plan's parameters, as here and in run). */
enum dbos_err dbos_plan_route(const struct dbos_plan *plan, const struct dbos_datum *parameters,
                              uint32_t count, enum dbos_route_kind *out_kind, uint32_t *out_slot,
                              struct dbos_errinfo *info) DBOS_MUST_USE;

/* -- running ------------------------------------------------------------------------------------
 */

/* Receives rows; datums are borrowed for the call. An error stops the statement (e.g. LIMIT: result
 * over 50 MB). */
struct dbos_sink {
    enum dbos_err (*row)(struct dbos_sink *sink, const struct dbos_datum *datums, uint32_t count,
                         struct dbos_errinfo *info);
};

/* What a statement runs in. */
struct dbos_run {
    struct dbos_txn *txn;
    struct dbos_procs *procs;
    const char *user;               /* current_user, borrowed */
    const _Atomic uint32_t *cancel; /* non-zero = CANCELED; may be NULL */
    uint64_t deadline_ns;           /* env->mono_ns past which it is TIMEOUT; 0 = none */
    struct dbos_env *env;
    const struct dbos_views *views; /* who makes the rows of system views; NULL = nobody here */
    uint32_t *polls; /* counts over all statements that run here; NULL = each loop for itself */
};
/* DBOS_OK, CANCELED or TIMEOUT. Polled in every loop of the executor (cheaply: the clock is read at
 * the first call and every 256th after it, by run->polls or else by `counter`). */
enum { DBOS_POLLS_PER_LOOK = 256 };
/* For dbos_run_poll(): somebody wants it to end, or it is time to look at the clock. */
enum dbos_err dbos_run_look(const struct dbos_run *run, struct dbos_errinfo *info) DBOS_MUST_USE;
static inline DBOS_MUST_USE enum dbos_err
dbos_run_poll(const struct dbos_run *run, uint32_t *counter, struct dbos_errinfo *info) {
    uint32_t *polls = run->polls == NULL ? counter : run->polls;
    bool canceled =
        run->cancel != NULL && atomic_load_explicit(run->cancel, memory_order_relaxed) != 0;
    bool due = run->deadline_ns != 0 && (*polls)++ % DBOS_POLLS_PER_LOOK == 0;
    return canceled || due ? dbos_run_look(run, info) : DBOS_OK;
}

/* Run a plan in run->txn. Parameters have the plan's parameter types. `sink` may be NULL when the
 * plan has no columns. *out_rows: rows returned, inserted, updated or deleted. On error the
 * transaction may be half-way: the caller aborts it. The plan notes its statement in the
 * transaction (dbos_txn_statement), except for CALL, whose procedure's statements do so themselves.
 */
enum dbos_err dbos_plan_run(const struct dbos_plan *plan, const struct dbos_run *run,
                            const struct dbos_datum *parameters, uint32_t count,
                            struct dbos_sink *sink, uint64_t *out_rows,
                            struct dbos_errinfo *info) DBOS_MUST_USE;
/* Whoever runs a plan notes how long that took; quick is one that has nearly always been. Any
 * thread. */
void dbos_plan_note_time(struct dbos_plan *plan, uint64_t us);
bool dbos_plan_is_quick(const struct dbos_plan *plan);
/* CommandComplete's tag: "SELECT 3", "INSERT 0 1", "CREATE TABLE", "CALL". */
void dbos_plan_tag(const struct dbos_plan *plan, uint64_t rows, char *out, size_t out_bytes);

#endif /* DBOS_PROCS_SQL_SQL_H */
