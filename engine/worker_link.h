/* One worker, as the dispatcher sees it: the process (when it is ours), the connection, what goes
 * out and what comes in. All calls return at once; the dispatcher waits in poll().
 *
 *   DOWN ──back-off over──▶ STARTING (process, reads "ready port=N") ──▶ CONNECTED
 *    ▲                                                                      │
 *    └───────────── process gone, connection lost, bad frame ◀──────────────┘
 *
 * Thread: the dispatcher's. Memory: from the allocator given at open. */
#ifndef DBOS_ENGINE_WORKER_LINK_H
#define DBOS_ENGINE_WORKER_LINK_H

#include <poll.h>

#include "base/env.h"
#include "gpu/frame.h"
#include "storage/object.h"

struct dbos_worker_link;

struct dbos_worker_link_options {
    struct dbos_env *env;
    const char *program_dir; /* of dbos-worker; when it is ours */
    const char *address;     /* "127.0.0.1:9000" of one that runs elsewhere; NULL = start our own */
    uint64_t source;         /* who numbers the tasks (gpu/frame.h); not 0 */
};

enum dbos_err dbos_worker_link_open(struct dbos_alloc *alloc,
                                    const struct dbos_worker_link_options *options,
                                    struct dbos_worker_link **out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_worker_link_close(struct dbos_worker_link *link); /* stops our process */

bool dbos_worker_link_connected(const struct dbos_worker_link *link);
/* Counts connections: a task sent over an earlier one has to be sent again. */
uint64_t dbos_worker_link_epoch(const struct dbos_worker_link *link);

/* Fill up to two poll entries; returns how many. *wake_ns: call dbos_worker_link_step() then at the
 * latest (0 = no need). */
uint32_t dbos_worker_link_poll(const struct dbos_worker_link *link, struct pollfd *fds,
                               uint64_t *wake_ns);
/* Do whatever can be done now: start, connect, send, receive, notice a death. */
void dbos_worker_link_step(struct dbos_worker_link *link, uint64_t now_ns);

/* Queue one frame. `payload` (NULL = none) is kept by a reference until it is sent. Errors: LIMIT,
 * NOMEM; CONNECTION_LOST when not connected. */
enum dbos_err dbos_worker_link_send(struct dbos_worker_link *link, struct dbos_frame *frame,
                                    struct dbos_object *payload) DBOS_MUST_USE;
uint64_t dbos_worker_link_unsent_bytes(const struct dbos_worker_link *link);

/* The next frame that came, checked; false = none. *payload is a block of the link's allocator that
 * the caller gives back (or hands to an assembler of the same allocator). */
bool dbos_worker_link_receive(struct dbos_worker_link *link, struct dbos_frame *frame,
                              void **payload);

/* Is this model on the worker, or on its way there, in this connection? */
bool dbos_worker_link_has_model(const struct dbos_worker_link *link, uint32_t id, uint32_t version);
/* Queue a model's chunks. Errors: as send. */
enum dbos_err dbos_worker_link_send_model(struct dbos_worker_link *link, uint32_t id,
                                          uint32_t version, struct dbos_object *const *chunks,
                                          uint32_t chunk_count) DBOS_MUST_USE;
/* The worker says that it does not have it (any more). */
void dbos_worker_link_forget_model(struct dbos_worker_link *link, uint32_t id, uint32_t version);

#endif /* DBOS_ENGINE_WORKER_LINK_H */
