/* The engine's side of the archiver: starts the process, keeps it alive, asks it questions.
 *
 * The process gets one end of a socket pair as descriptor 3 and the data directory as its argument.
 * When it dies it is started again, with back-off, and that is said in the log; a question that was
 * under way fails with DBOS_ERR_ARCHIVE.
 *
 * Thread: one at a time (the archive thread).
 * Memory: from the allocator given at open. */
#ifndef DBOS_ENGINE_ARCHIVE_CLIENT_H
#define DBOS_ENGINE_ARCHIVE_CLIENT_H

#include <sys/types.h>

#include "procs/sql/sql.h"
#include "provenance/archive_protocol.h"

struct dbos_archive_client;

/* `program_dir` is where dbos-archiver lies. Errors: UNDEFINED_FILE (no such program), IO. */
enum dbos_err dbos_archive_client_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                       const char *program_dir, const char *data_dir,
                                       struct dbos_archive_client **out,
                                       struct dbos_errinfo *info) DBOS_MUST_USE;
/* Lets it finish the export under way for at most 3 s, then kills it: what it had not recorded is
 * exported after the next start. NULL is allowed. */
void dbos_archive_client_close(struct dbos_archive_client *client);

/* The log is on disk up to `position`: the archiver may export everything until there; `urgent`
 * if it shall not be patient. It answers with how far it is, for the next call to read. Also
 * restarts a process that has died. Never fails and never waits for a process that does not read;
 * what goes wrong is in the log. */
void dbos_archive_advance(struct dbos_archive_client *client, uint64_t position, bool urgent);

struct dbos_archive_client_state {
    pid_t process;   /* 0 = none */
    uint64_t starts; /* so far */
    bool is_known;   /* it, or one before it, has said how far it is */
    /* Of a process that has ended, what it had not exported is taken over again. */
    struct dbos_archive_progress progress;
};
void dbos_archive_client_state(const struct dbos_archive_client *client,
                               struct dbos_archive_client_state *out);

struct dbos_archive_request {
    const struct dbos_archive_query *query;
    uint64_t position;             /* answer as of here; already durable */
    const char *const *parameters; /* text or NULL */
    uint32_t parameter_count;
    bool describe_only;
    uint64_t timeout_us; /* 0 = none, but an archiver that is silent for 60 s is given up */
    const _Atomic uint32_t *cancel;
    /* Every few ms while the answer is waited for; it must not call the client. May be NULL. */
    void (*tick)(void *arg);
    void *tick_arg;
    /* Once, before the rows. */
    enum dbos_err (*columns)(void *arg, const struct dbos_result_column *columns, uint32_t count,
                             struct dbos_errinfo *info);
    /* Cells in PostgreSQL's text form, NULL = SQL NULL; borrowed for the call. */
    enum dbos_err (*row)(void *arg, const char *const *cells, const size_t *sizes,
                         struct dbos_errinfo *info);
    void *arg;
};
/* Ask and wait for the answer. Errors: what the archive says of the statement (with SQLSTATE and
 * position), CANCELED, TIMEOUT, ARCHIVE (the process died or is silent), what a callback returned.
 * A process that is 2 s late after the timeout or a cancellation is killed and started again. */
enum dbos_err dbos_archive_query(struct dbos_archive_client *client,
                                 const struct dbos_archive_request *request,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_ENGINE_ARCHIVE_CLIENT_H */
