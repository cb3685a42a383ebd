/* A request: the unit of work that goes from a session to a partition and back.
 *
 *   session ─submit▶ [queue of a partition | barrier | archive thread] ─run▶ on_done ─▶ session
 *
 * One request is one transaction. It holds one or more statements that are planned already, or a
 * script whose statements are planned one after the other while it runs (a simple Query message
 * with several statements). The runner writes the reply as PostgreSQL messages, ready to be sent
 * once everything up to `gate_position` is durable.
 *
 * Thread: the session's until submit, the runner's until on_done, then the session's again.
 * Memory: made and given by the session; `reply` grows from the allocator it was opened with. */
#ifndef DBOS_ENGINE_REQUEST_H
#define DBOS_ENGINE_REQUEST_H

#include "base/queue.h"
#include "procs/outbox.h"
#include "procs/sql/sql.h"

enum dbos_request_kind {
    DBOS_REQUEST_STATEMENTS, /* `statements`, planned */
    DBOS_REQUEST_SCRIPT,  /* all statements of `script`, planned as they come, under the barrier */
    DBOS_REQUEST_ARCHIVE, /* one statement of `script`, for the archive */
    DBOS_REQUEST_TASK,    /* the engine's own: outcome of a task */
};

struct dbos_request_statement {
    struct dbos_plan *plan;              /* a reference, the request's */
    const struct dbos_datum *parameters; /* of the plan's parameter types; in the request's arena */
    uint32_t parameter_count;
    const int16_t *formats; /* of the result columns: 0 text, 1 binary; in the request's arena */
    uint32_t format_count;  /* 0 = all text, 1 = for all, n = one each */
    bool describe;          /* RowDescription before the rows (simple protocol) */
    uint64_t rows_max;      /* Execute's limit; 0 = none */
};

struct dbos_request {
    struct dbos_queue_node node;
    enum dbos_request_kind kind;
    const struct dbos_session_info *session; /* outlives the request */
    uint64_t number;                         /* counts within the session */
    struct dbos_arena arena;                 /* parameters, texts; the session gives it back */

    uint32_t statement_count;
    struct dbos_request_statement *statements;
    struct dbos_script *script;            /* SCRIPT, ARCHIVE; borrowed, outlives the request */
    uint32_t script_statement;             /* ARCHIVE: which */
    const char *const *archive_parameters; /* ARCHIVE: text or NULL each */
    uint32_t archive_parameter_count;
    bool describe_only; /* ARCHIVE: the columns, no rows */

    const char *idempotency_key; /* NULL = none */
    uint64_t timeout_us;         /* statement_timeout; 0 = none */
    uint64_t arrived_ns;     /* mono_ns when it came, as far as its thread knows; 0 = not known */
    _Atomic uint32_t cancel; /* set to 1 by a CancelRequest, any thread */
    _Atomic uint32_t is_awaited; /* 1 = the session waits for on_done, not just for the reply */
    _Atomic(struct dbos_request *) then; /* see dbos_engine_submit_after() */

    /* Where it runs; filled by dbos_engine_route(). */
    enum dbos_route_kind route;
    uint32_t partition;
    bool is_ddl;

    /* Called by the runner when the transaction has ended; it must not block. */
    void (*on_done)(struct dbos_request *request);
    void *owner;

    /* Outcome. */
    enum dbos_err outcome;
    struct dbos_errinfo error;
    struct dbos_buf reply;  /* RowDescription, DataRow, CommandComplete, ErrorResponse messages */
    uint64_t gate_position; /* send the reply when this is durable; 0 = at once */
    uint64_t position;      /* the transaction's; 0 = left no record */

    struct dbos_request *next; /* of whoever holds it */
};

#endif /* DBOS_ENGINE_REQUEST_H */
