/* The two implementations behind base/loop.h.
 *
 * Thread and memory: as there. */
#ifndef DBOS_BASE_LOOP_INTERNAL_H
#define DBOS_BASE_LOOP_INTERNAL_H

#include "base/loop.h"

enum dbos_loop_op_kind { DBOS_LOOP_ACCEPT, DBOS_LOOP_RECV, DBOS_LOOP_SEND, DBOS_LOOP_WATCH };

struct dbos_loop_backend {
    enum dbos_err (*open)(struct dbos_loop *loop, struct dbos_errinfo *info);
    void (*close)(struct dbos_loop *loop);
    void (*start)(struct dbos_loop *loop, struct dbos_loop_op *op);
    void (*cancel)(struct dbos_loop *loop, struct dbos_loop_op *op);
    enum dbos_err (*turn)(struct dbos_loop *loop, uint64_t timeout_us, struct dbos_errinfo *info);
};

struct dbos_loop {
    struct dbos_alloc *alloc;
    const struct dbos_loop_backend *backend;
    void *state;                 /* the backend's */
    struct dbos_loop_op *active; /* all active operations */
    uint32_t active_count;
};

extern const struct dbos_loop_backend dbos_loop_uring;
extern const struct dbos_loop_backend dbos_loop_poll;

/* A completion: `again` operations (accept, watch) stay active unless canceled. True = the backend
 * must start it again. */
bool dbos_loop_complete(struct dbos_loop *loop, struct dbos_loop_op *op, int32_t result);

#endif /* DBOS_BASE_LOOP_INTERNAL_H */
