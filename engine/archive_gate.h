/* What writes waits here, before its transaction begins, while the archive's backlog is full. What
 * only reads goes on: it passes those that wait, unless it is of a session that has one among them.
 *
 *            close()
 *   OPEN ───────────────▶ FULL ──── open(): those that wait are submitted ────▶ OPEN
 *
 * While it is open, it costs one load for each request. A request that waits is ended here
 * when it is canceled or its time is over: it has left no trace then. While the disk has no room
 * for the log the gate is closed, too, and then nobody waits: what writes is ended at once.
 *
 * Thread: hold by any; close, open, look by the archive thread; end by whoever stops the engine.
 * Memory: none; requests are linked. */
#ifndef DBOS_ENGINE_ARCHIVE_GATE_H
#define DBOS_ENGINE_ARCHIVE_GATE_H

#include <pthread.h>

#include "engine/request.h"

struct dbos_engine;

enum dbos_archive_gate_state { DBOS_GATE_OPEN, DBOS_GATE_FULL };

struct dbos_archive_gate {
    _Atomic uint32_t state;    /* enum dbos_archive_gate_state; changed under the lock */
    _Atomic bool is_disk_full; /* that is why it is closed */
    _Atomic uint64_t waits;    /* requests that had to wait */
    _Atomic uint64_t refused;  /* and did not wait long enough */
    _Atomic uint32_t waiting;  /* now */
    pthread_mutex_t lock;
    bool ended;
    struct dbos_request *first; /* that wait, in the order in which they came */
    struct dbos_request *last;
};

void dbos_archive_gate_init(struct dbos_archive_gate *gate);
void dbos_archive_gate_fini(struct dbos_archive_gate *gate); /* nobody waits */

static inline bool dbos_archive_gate_is_open(const struct dbos_archive_gate *gate) {
    return atomic_load_explicit(&gate->state, memory_order_acquire) == DBOS_GATE_OPEN;
}
/* Where it is not open: true = the request is kept, and will be submitted or ended. */
bool dbos_archive_gate_hold(struct dbos_engine *engine, struct dbos_request *request);
void dbos_archive_gate_close(struct dbos_archive_gate *gate);
/* Submits those that wait. */
void dbos_archive_gate_open(struct dbos_engine *engine);
/* Ends those that are canceled, or whose time is over. */
void dbos_archive_gate_look(struct dbos_engine *engine);
/* Opens it for good. */
void dbos_archive_gate_end(struct dbos_engine *engine);

#endif /* DBOS_ENGINE_ARCHIVE_GATE_H */
