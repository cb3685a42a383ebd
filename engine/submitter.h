/* The thread that submits: it says when it has more to do, and may run short requests itself.
 *
 * Handing a request to its partition and the record to the log costs two wake-ups on the way and
 * one back, 20-40 us each where every processor has something else to do (measured): more than the
 * transaction. So the submitter takes the turn of a partition that sleeps with an empty queue, and
 * runs there what has been quick so far (dbos_plan_is_quick), a bounded number of requests between
 * two visits to its sockets. What takes longer than a moment after all is undone without a trace
 * and handed over as if it had never been tried. A client that is alone with its request, or one
 * of a few (engine/rounds.h), gets its commit written and synced here, too (dbos_log_release).
 * docs/adr/0006-the-submitter-runs-it.md.
 *
 * Thread: one, the submitter's. Memory: the owner's. */
#ifndef DBOS_ENGINE_SUBMITTER_H
#define DBOS_ENGINE_SUBMITTER_H

#include "engine/engine.h"

struct dbos_submitter {
    struct dbos_engine *engine;
    struct dbos_request_chain chain;
    uint32_t runs_left; /* requests that may still be run here, until it rests */
    bool holds_log;     /* something was: the log thread is not woken for it */
};

/* In pairs: see dbos_log_producer_works(). A submitter begins at rest. */
void dbos_submitter_works(struct dbos_submitter *submitter);
void dbos_submitter_rests(struct dbos_submitter *submitter);

/* dbos_engine_submit(), or run it now: then on_done() is called before this returns. Only for one
 * that is behind nothing else, or behind what was submitted to the same partition. */
void dbos_submitter_submit(struct dbos_submitter *submitter, struct dbos_request *request);
/* The same, but several may go together: not before dbos_submitter_flush(). One locked push and one
 * look whether the partition sleeps are for all of them. */
void dbos_submitter_queue(struct dbos_submitter *submitter, struct dbos_request *request);
void dbos_submitter_flush(struct dbos_submitter *submitter);

/* What was run here goes to the log: before resting, or a moment later (a millisecond at most, in
 * which nobody's commit is written). `here`: nobody else would be kept waiting by this thread,
 * which may write and sync itself. True: it may have, look at dbos_engine_durable(). */
bool dbos_submitter_settle(struct dbos_submitter *submitter, bool here);

#endif /* DBOS_ENGINE_SUBMITTER_H */
