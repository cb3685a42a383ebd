/* Prepared statements of a session: parsed, planned, given parameters.
 *
 * Thread and memory: as engine/session.h. Counts of references are plain: one thread. */
#ifndef DBOS_ENGINE_SESSION_STATEMENT_H
#define DBOS_ENGINE_SESSION_STATEMENT_H

#include "engine/session.h"
#include "engine/wire.h"

struct dbos_execution;
struct dbos_portal;

/* A plan for as long as a statement or one of its requests under way has it. The plan's own count
 * is atomic and lies beside what the partitions read: it is left alone for a request. */
struct dbos_planned {
    struct dbos_alloc *alloc;
    uint32_t refs;
    bool is_routed; /* a call that runs on one partition, and there is only one */
    struct dbos_plan *plan;
};

/* A parsed and planned statement. */
struct dbos_prepared {
    uint32_t refs;
    struct dbos_alloc *alloc;
    struct dbos_prepared *next; /* in its bucket */
    struct dbos_arena arena;    /* name, types */
    const char *name;
    struct dbos_script *script; /* NULL: an empty query */
    uint32_t statement;
    enum dbos_statement_kind kind;
    struct dbos_plan *plan; /* NULL for SET, SHOW, ARCHIVE, EMPTY */
    struct dbos_planned *planned;
    uint8_t *integer_bytes; /* of each parameter of the plan: its size, if the client sends an
                               integer of the very type that is wanted; else 0 */
    uint32_t declared_count;
    const uint32_t *declared;    /* oids as the client gave them */
    const enum dbos_type *hints; /* the same as types */
    uint32_t archive_parameters; /* ARCHIVE: highest $n */
};

struct dbos_prepare {
    const char *name;
    const char *text;
    uint32_t declared_count;
    const uint8_t *declared; /* big-endian oids */
};
/* Parse and plan one statement; a reference for the caller. */
enum dbos_err dbos_prepared_make(struct dbos_session *session, const struct dbos_prepare *prepare,
                                 struct dbos_prepared **out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* From a script that is handed over, also on error. */
enum dbos_err dbos_prepared_of(struct dbos_session *session, const struct dbos_prepare *prepare,
                               struct dbos_script *script, uint32_t statement,
                               struct dbos_prepared **out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_prepared_unref(struct dbos_prepared *prepared);
void dbos_planned_unref(struct dbos_planned *planned); /* NULL is allowed */
/* Plan again if the catalogue has changed. */
enum dbos_err dbos_prepared_refresh(struct dbos_session *session, struct dbos_prepared *prepared,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
uint32_t dbos_prepared_parameters(const struct dbos_prepared *prepared);
enum dbos_type dbos_prepared_parameter_type(const struct dbos_prepared *prepared, uint32_t i);
/* The oid that the client is told of parameter i. */
uint32_t dbos_prepared_parameter_oid(const struct dbos_prepared *prepared, uint32_t i);
/* Errors: PROTOCOL (not as many parameters or result formats as the statement has). */
enum dbos_err dbos_prepared_check_counts(const struct dbos_prepared *prepared,
                                         const struct dbos_wire_bind *bind,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;
/* Decode Bind's values, whose counts were checked, into `execution`'s arena, of the plan's types.
 */
enum dbos_err dbos_prepared_bind(const struct dbos_prepared *prepared,
                                 const struct dbos_wire_bind *bind,
                                 struct dbos_execution *execution, struct dbos_portal *portal,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* Do what SET, SHOW or an empty query say; `describe`: RowDescription before the row. */
enum dbos_err dbos_prepared_run_locally(struct dbos_session *session,
                                        const struct dbos_prepared *prepared, bool describe,
                                        struct dbos_errinfo *info) DBOS_MUST_USE;
/* Columns of SHOW. */
uint32_t dbos_prepared_show_columns(const struct dbos_prepared *prepared,
                                    const struct dbos_session *session,
                                    struct dbos_result_column *out);
static inline bool dbos_statement_is_local(enum dbos_statement_kind kind) {
    return kind == DBOS_STATEMENT_SET || kind == DBOS_STATEMENT_SHOW ||
           kind == DBOS_STATEMENT_EMPTY;
}

/* Its columns, as the portal shows them, or NoData. Only of one that has a plan. */
void dbos_prepared_describe(const struct dbos_prepared *prepared, const int16_t *formats,
                            uint32_t format_count, struct dbos_buf *out);

#endif /* DBOS_ENGINE_SESSION_STATEMENT_H */
