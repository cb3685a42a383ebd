/* A session: one client's conversation, from the first byte to the last reply. It takes bytes and
 * gives bytes; the sockets are engine/net.c's.
 *
 *   bytes ─feed▶ messages ─▶ requests ─submit▶ engine ─on_done▶ net ─done▶ session
 *                                └─▶ units, in the order of the messages ─collect▶ bytes
 *
 * Messages are worked off ahead of their replies: a unit is bytes that are ready, then (perhaps) a
 * part of the reply of a request that is under way. Units leave in order, each when its request is
 * done and everything it depends on is durable.
 *
 * Everything that is executed between two Syncs is one transaction, so also all statements of one
 * simple Query message. A Flush, and a statement of DDL, end such a group early: what follows is
 * another transaction, and is looked at only when the first is done.
 *
 * Thread: one at a time, the net thread's; only `on_done` is called by others.
 * Memory: from the engine's session allocator; requests and units come from the owner's pool. */
#ifndef DBOS_ENGINE_SESSION_H
#define DBOS_ENGINE_SESSION_H

#include "engine/submitter.h"

struct dbos_session;

/* Requests and units that are not in use; one for all sessions of a thread. */
struct dbos_session_pool;
enum dbos_err dbos_session_pool_open(struct dbos_alloc *alloc,
                                     struct dbos_session_pool **out) DBOS_MUST_USE;
void dbos_session_pool_close(struct dbos_session_pool *pool);
/* So many sessions have something under way: what may be asked ahead in all is shared among them,
 * so that neither memory nor the wait of a newcomer grows with what others ask. */
void dbos_session_pool_share(struct dbos_session_pool *pool, uint32_t sessions);

struct dbos_session_options {
    struct dbos_engine *engine;
    struct dbos_submitter *submitter; /* of this thread; outlives the session */
    struct dbos_session_pool *pool;
    const char *address; /* of the client; copied */
    void *owner;
    /* mono_ns of the last time when its owner looked; NULL = times of requests are not kept. */
    const uint64_t *now_ns;
    /* Called by any thread when a request has ended: bring it to dbos_session_done(). */
    void (*on_done)(struct dbos_request *request);
    void *on_done_arg; /* in each request */
    /* May one more session begin? (53300 otherwise) */
    bool (*admit)(void *owner);
    /* A CancelRequest came. */
    void (*cancel)(void *owner, uint32_t process, uint32_t key);
};
/* Errors: NOMEM. */
enum dbos_err dbos_session_open(const struct dbos_session_options *options,
                                struct dbos_session **out) DBOS_MUST_USE;
/* No request may be under way. */
void dbos_session_close(struct dbos_session *session);

/* Work off the whole messages at the start of `data`, until one must wait. Returns the bytes used.
 */
size_t dbos_session_feed(struct dbos_session *session, const void *data, size_t size_bytes);
/* Bytes that the message at the start of the unused input has in all, where that is known. */
size_t dbos_session_needs(const struct dbos_session *session);
/* False: feeding would use nothing now; something must be done or collected first. */
bool dbos_session_wants_input(const struct dbos_session *session);
/* A request of this session has ended; `request->owner` says whose it is. */
void dbos_session_done(struct dbos_session *session, struct dbos_request *request);
/* Append what may leave now, `durable` being what the engine says. True: it stopped because `out`
 * has so much, or has become a large reply that nothing is to be put behind: there may be more. */
enum { DBOS_SESSION_UNSENT_MAX = 256 * 1024 };
bool dbos_session_collect(struct dbos_session *session, uint64_t durable, struct dbos_buf *out);

/* The start-up is over. */
bool dbos_session_is_ready(const struct dbos_session *session);
/* Nothing is under way and nothing waits to be collected. */
bool dbos_session_is_idle(const struct dbos_session *session);
/* No more input: close the connection once everything collected has been sent. */
bool dbos_session_is_over(const struct dbos_session *session);
uint32_t dbos_session_in_flight(const struct dbos_session *session);
/* End it with a FATAL error after what is under way. */
void dbos_session_end(struct dbos_session *session, const struct dbos_errinfo *why);
/* End it with a FATAL error instead of the replies that have not left; nothing is said in the
 * middle of one. What is under way runs on. */
void dbos_session_forsake(struct dbos_session *session, const struct dbos_errinfo *why);
/* Cancel what is under way, if the key is right. */
bool dbos_session_cancel(struct dbos_session *session, uint32_t process, uint32_t key);
/* The node stops: cancel what is under way, whoever waits for it. */
void dbos_session_cancel_all(struct dbos_session *session);
/* The client has gone: cancel nothing, but take no more input and drop all replies. */
void dbos_session_abandon(struct dbos_session *session);
/* What the connection has taken for input and output, for dbos.sessions; `large_bytes` of it are
 * a large reply. What the client is reading is added. */
void dbos_session_note_buffered(struct dbos_session *session, size_t bytes, size_t large_bytes);
void *dbos_session_owner(struct dbos_session *session);

#endif /* DBOS_ENGINE_SESSION_H */
