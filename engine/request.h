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
    DBOS_REQUEST_SCRIPT,   /* all statements of `script`, planned as they come, under the barrier */
    DBOS_REQUEST_ARCHIVE,  /* one statement of `script`, for the archive */
    DBOS_REQUEST_TASK,     /* the engine's own: outcome of a task */
    DBOS_REQUEST_SNAPSHOT, /* the engine's own: the cut of a snapshot, under the barrier */
};

struct dbos_request_statement {
    struct dbos_plan *plan;
    const struct dbos_datum *parameters; /* of the plan's parameter types; live as the request */
    const int16_t *formats; /* of the result columns: 0 text, 1 binary; live as the request */
    uint32_t parameter_count;
    uint32_t format_count; /* 0 = all text, 1 = for all, n = one each */
    bool describe;         /* RowDescription before the rows (simple protocol) */
    bool borrows_plan;     /* the plan is kept by who submits; false = a reference, the request's */
    uint64_t rows_max;     /* Execute's limit; 0 = none */
};

enum { DBOS_REQUEST_FEW = 4 };

/* A request goes from one processor's cache to another's and back: what is used together lies
 * together, and the error, which is seldom looked at, behind all of it. */
struct dbos_request {
    struct dbos_queue_node node;
    _Atomic(struct dbos_request *) then; /* see dbos_engine_submit_after() */

    /* Outcome. */
    struct dbos_buf reply;  /* RowDescription, DataRow, CommandComplete, ErrorResponse messages */
    uint64_t gate_position; /* send the reply when this is durable; 0 = at once */
    uint64_t position;      /* the transaction's; 0 = left no record */
    enum dbos_err outcome;

    enum dbos_request_kind kind;
    _Atomic uint32_t cancel;     /* set to 1 by a CancelRequest, any thread */
    _Atomic uint32_t is_awaited; /* 1 = the session waits for on_done, not just for the reply */
    bool is_followed; /* for on_done: a quick one of the same owner is about to end, too */

    /* Called by the runner when the transaction has ended; it must not block. */
    void (*on_done)(struct dbos_request *request);
    void *on_done_arg; /* for it: what it may look at without touching what `owner` writes */
    void *owner;

    const struct dbos_session_info *session; /* outlives the request */
    uint64_t number;                         /* counts within the session */
    uint64_t arrived_ns; /* mono_ns when it came, as far as its thread knows; 0 = not known */
    uint64_t timeout_us; /* statement_timeout; 0 = none */
    const char *idempotency_key; /* NULL = none */
    uint32_t statement_count;
    struct dbos_request_statement *statements;

    /* Where it runs; filled by dbos_engine_route(). */
    enum dbos_route_kind route;
    uint32_t partition;
    bool is_ddl;

    bool describe_only;                    /* ARCHIVE: the columns, no rows */
    uint32_t script_statement;             /* ARCHIVE: which */
    struct dbos_script *script;            /* SCRIPT, ARCHIVE; borrowed, outlives the request */
    const char *const *archive_parameters; /* ARCHIVE: text or NULL each */
    uint32_t archive_parameter_count;

    struct dbos_request *next; /* of whoever holds it */
    struct dbos_arena arena;   /* parameters, texts; the session gives it back */

    /* Room for the common case; whoever fills the request may use it. */
    struct dbos_request_statement one_statement;
    struct dbos_datum few_parameters[DBOS_REQUEST_FEW];
    int16_t few_formats[DBOS_REQUEST_FEW];

    struct dbos_errinfo error;
};

/* Requests for one partition, linked by their nodes, that were not pushed yet. */
struct dbos_request_chain {
    struct dbos_request *first;
    struct dbos_request *last;
    uint32_t count;
};

#endif /* DBOS_ENGINE_REQUEST_H */
