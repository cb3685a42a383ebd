/* The front door: a TCP port, its connections, and the thread that serves them.
 *
 * One thread runs the loop: it takes bytes to sessions, requests back from the engine (through a
 * queue that wakes the loop), and replies to clients once they are durable. What one wake-up finds
 * is worked off together; what one connection gets leaves in one send.
 *
 * Thread: open, start, drain, stop and close by the owner; dbos_net_durable() by the log thread.
 * Memory: buffers from the engine's session allocator; an idle connection holds one small buffer.
 */
#ifndef DBOS_ENGINE_NET_H
#define DBOS_ENGINE_NET_H

#include "base/loop.h"
#include "engine/engine.h"

struct dbos_net;

struct dbos_net_options {
    const char *address;         /* NULL = 127.0.0.1; anything but loopback is refused */
    uint16_t port;               /* 0 takes a free one */
    uint32_t connections_max;    /* 0 = 1,000 */
    uint32_t startup_timeout_ms; /* 0 = 10,000: a connection must be a session by then, and after
                                  * its end take something of its last reply as often */
    enum dbos_loop_kind loop;
};

/* Listens, serves nobody yet. Errors: INVALID_PARAMETER (not loopback), IO, NOMEM. */
enum dbos_err dbos_net_open(struct dbos_alloc *alloc, struct dbos_engine *engine,
                            const struct dbos_net_options *options, struct dbos_net **out,
                            struct dbos_errinfo *info) DBOS_MUST_USE;
uint16_t dbos_net_port(const struct dbos_net *net);
/* For dbos_engine_start(): `net` is its argument. */
void dbos_net_durable(void *net);
enum dbos_err dbos_net_start(struct dbos_net *net, struct dbos_errinfo *info) DBOS_MUST_USE;
/* Accept nobody any more, let what is under way end, tell every client (57P01). Waits at most
 * `timeout_ms`; true = all have gone. */
bool dbos_net_drain(struct dbos_net *net, uint32_t timeout_ms);
/* Close what is left and end the thread; waits for requests under way. The engine must still run.
 */
void dbos_net_stop(struct dbos_net *net);
/* Stopped, or never started. NULL is allowed. */
void dbos_net_close(struct dbos_net *net);

/* Connections now. Any thread. */
uint32_t dbos_net_connections(const struct dbos_net *net);

#endif /* DBOS_ENGINE_NET_H */
