/* What the files of a session share: units, executions, prepared statements, portals.
 *
 * Thread and memory: as engine/session.h. Counts of references are plain: one thread. */
#ifndef DBOS_ENGINE_SESSION_INTERNAL_H
#define DBOS_ENGINE_SESSION_INTERNAL_H

#include "base/histogram.h"
#include "engine/session.h"
#include "engine/session_list.h"
#include "engine/session_statement.h"
#include "engine/settings.h"
#include "engine/wire.h"

enum {
    DBOS_SESSION_UNITS_MAX = 256,        /* then input waits (pipelining); one for each request */
    DBOS_SESSION_UNITS_MIN = 2,          /* however many sessions there are */
    DBOS_POOL_UNITS_MAX = 2048,          /* of all sessions, which share them */
    DBOS_POOL_KEPT_MIN = 1024,           /* executions, and units, that are kept for reuse */
    DBOS_SESSION_STATEMENTS_MAX = 65536, /* prepared, named */
    DBOS_SESSION_PORTALS_MAX = 1024,     /* open at once, named */
    DBOS_SESSION_GROUP_MAX = 65536,      /* executed between two Syncs */
    DBOS_SESSION_NAME_BUCKETS = 64,
};

/* Who a request belongs to: a new one when application_name changes, because requests under way are
 * looked at by other threads. */
struct dbos_identity {
    uint32_t refs;
    uint8_t apart[64]; /* counting does not take away what others read */
    struct dbos_session_info info;
    char text[]; /* user, address, application */
};

/* What a statement of a request holds on to. */
struct dbos_pinned {
    struct dbos_prepared *prepared;
    struct dbos_planned *planned; /* NULL where it has no plan */
};

/* A step of the conversation: bytes, then perhaps a part of a reply. */
struct dbos_unit {
    struct dbos_unit *next;
    struct dbos_buf bytes;
    struct dbos_execution *execution; /* NULL: bytes alone */
    uint32_t statement;
    uint32_t rows_max; /* Execute's limit; 0 = none */
    bool is_sync;      /* an error before it drops nothing from here on */
    bool is_call;      /* the execution's own: BindComplete, bytes, reply, ReadyForQuery */
    bool is_begun;     /* the first bytes have left; now those from run_start on, then `bytes` */
    size_t run_start;  /* what is left of the part of the reply */
    size_t run_end;
    uint64_t gate_position; /* the bytes leave when this is durable */
};

/* One request and what belongs to it. */
struct dbos_execution {
    struct dbos_request request; /* first: the engine hands a pointer to it back */
    struct dbos_session *session;
    struct dbos_session_pool *pool;
    uint32_t refs; /* units, portals, being under way, being the open group */
    bool is_done;
    bool is_discarded; /* an error came before it was submitted */
    bool is_simple;
    bool is_describe; /* ARCHIVE: only columns */
    bool goes_on;     /* no Sync behind it yet: if it fails, messages are skipped up to the Sync */
    uint32_t statement_capacity;
    struct dbos_identity *identity;
    struct dbos_pinned *pinned;    /* of each statement; in the request's arena, or the one below */
    struct dbos_script *script;    /* SCRIPT: its own */
    struct dbos_execution *lender; /* whose arena has the parameters of a portal bound earlier */
    size_t *cursors;               /* where the unsent part of each statement's reply begins */
    size_t *ends;
    size_t one_cursor; /* room for the common case */
    size_t one_end;
    uint32_t attempts;           /* planned again after DDL of another session */
    bool has_few;                /* the request's room for few parameters and formats is taken */
    struct dbos_execution *next; /* in the pool, or among those that wait to be submitted */
    struct dbos_execution *previous;
    struct dbos_pinned one_pinned;
    struct dbos_unit unit; /* of a call (session_call.c) */
};

struct dbos_portal {
    struct dbos_portal *next;
    char *name; /* "" is the unnamed one */
    struct dbos_prepared *prepared;
    struct dbos_execution *home; /* lends parameters and formats */
    const struct dbos_datum *parameters;
    const char *const *archive_parameters;
    uint32_t parameter_count;
    const int16_t *formats;
    uint32_t format_count;
    struct dbos_execution *execution; /* executed once: where its rows are */
    uint32_t statement;
    bool was_local; /* executed once: SET, SHOW */
};

struct dbos_session_pool {
    struct dbos_alloc *alloc;
    struct dbos_execution *executions;
    struct dbos_unit *units;
    uint32_t execution_count;
    uint32_t unit_count;
    uint32_t share; /* units that a session may have ahead of its replies */
    uint32_t
        kept_max; /* grows with them: what comes and goes under load is taken from malloc once */
};

enum dbos_session_state {
    DBOS_SESSION_STARTING, /* start-up packets */
    DBOS_SESSION_READY,
    DBOS_SESSION_OVER, /* a FATAL error or Terminate: send what there is, then close */
};

struct dbos_session {
    struct dbos_alloc *alloc;
    struct dbos_session_options options;
    enum dbos_session_state state;
    char address[64];
    char user[DBOS_NAME_BYTES];
    uint64_t id;
    uint32_t key;
    uint32_t negotiations; /* SSLRequest and GSSENCRequest seen */
    uint64_t next_number;
    size_t needed_bytes;
    struct dbos_settings settings;
    struct dbos_buf notices; /* of the start-up */
    struct dbos_identity *identity;
    struct dbos_session_entry entry;

    struct dbos_unit *first;
    struct dbos_unit *last;
    uint32_t unit_count;
    bool is_dropping;       /* replies: until the next unit that is a Sync */
    uint64_t gate_position; /* of the newest definitions that a statement was planned with */
    struct dbos_buf lost;   /* takes what is written when there is no memory for a unit */

    bool is_skipping;               /* messages: until the next Sync */
    struct dbos_execution *group;   /* open: executed, not submitted */
    struct dbos_execution *waiting; /* to be submitted when those under way have ended */
    struct dbos_execution *waiting_last;
    struct dbos_execution *flying; /* under way; any of them may be canceled */
    uint32_t in_flight;
    bool is_held;                  /* no input until nothing is under way: DDL, Flush */
    uint32_t flying_partition;     /* of the newest */
    struct dbos_execution *newest; /* of those under way on partitions; NULL = none */
    bool newest_is_direct;         /* it was not put behind another one */

    struct dbos_prepared *statements[DBOS_SESSION_NAME_BUCKETS];
    uint32_t statement_count;
    struct dbos_prepared *unnamed;
    struct dbos_prepared *recent; /* of those: called last; NULL = none */
    struct dbos_portal *portals;
    uint32_t portal_count;
};

/* -- units (session_units.c) -- */
/* Where ready bytes go: behind everything there is. Never NULL; a buffer that fails ends the
 * session. */
struct dbos_buf *dbos_session_bytes(struct dbos_session *session);
/* The part of `execution` that belongs to its statement comes next; takes a reference. */
void dbos_session_put_result(struct dbos_session *session, struct dbos_execution *execution,
                             uint32_t statement, uint32_t rows_max);
/* An error before here drops nothing behind it. */
void dbos_session_put_boundary(struct dbos_session *session);
/* BindComplete, the execution's own unit's bytes, its reply and ReadyForQuery come next; takes a
 * reference. */
void dbos_session_put_call(struct dbos_session *session, struct dbos_execution *execution);
/* A boundary, then ReadyForQuery. */
void dbos_session_put_ready(struct dbos_session *session);
void dbos_session_drop_units(struct dbos_session *session);

/* -- executions (session_request.c) -- */
/* A new one with a reference for the caller; NULL = out of memory. */
struct dbos_execution *dbos_execution_take(struct dbos_session *session);
void dbos_execution_unref(struct dbos_execution *execution);
/* Append a statement; its parameters and formats are in an arena that lives as long. */
enum dbos_err dbos_execution_add(struct dbos_execution *execution, struct dbos_prepared *prepared,
                                 const struct dbos_request_statement *statement,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* Route and submit it, or let it wait; takes a reference of its own. */
void dbos_session_submit(struct dbos_session *session, struct dbos_execution *execution);
/* The whole reply has come: find the parts. */
void dbos_execution_split(struct dbos_execution *execution);
void dbos_execution_pool_close(struct dbos_session_pool *pool);
enum dbos_err dbos_session_identify(struct dbos_session *session) DBOS_MUST_USE;
void dbos_identity_unref(struct dbos_alloc *alloc, struct dbos_identity *identity);

/* -- messages -- */
/* Bind, perhaps Describe, Execute and Sync of the unnamed portal that lie one behind the other at
 * `data`, in one go; bytes used. 0: it is not that, or there is something to be said about it: take
 * the messages one by one (_call.c). */
size_t dbos_session_call(struct dbos_session *session, const uint8_t *data, size_t size_bytes);
/* NULL: there is none. */
struct dbos_prepared *dbos_session_find_statement(struct dbos_session *session, const char *name);
/* Forget it, "" being the unnamed one; what is under way keeps it until then. */
void dbos_session_close_statement(struct dbos_session *session, const char *name);
void dbos_session_startup(struct dbos_session *session, struct dbos_bytes body); /* _startup.c */
void dbos_session_query(struct dbos_session *session, struct dbos_bytes body);   /* _query.c */
/* One of P B D E C H S (_extended.c). */
void dbos_session_extended(struct dbos_session *session, const struct dbos_wire_message *message);
/* An error in the extended protocol: reported, the open group forgotten, messages skipped. */
void dbos_session_fail_extended(struct dbos_session *session, const struct dbos_errinfo *info);
/* Submit the open group, if there is one. `goes_on`: no Sync has come: if it fails, the messages up
 * to the Sync are skipped, so they must wait. */
void dbos_session_end_group(struct dbos_session *session, bool goes_on);
void dbos_session_drop_group(struct dbos_session *session);
void dbos_session_drop_portals(struct dbos_session *session);
void dbos_session_drop_statements(struct dbos_session *session);
void dbos_session_fatal(struct dbos_session *session, const struct dbos_errinfo *info);

#endif /* DBOS_ENGINE_SESSION_INTERNAL_H */
