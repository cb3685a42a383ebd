/* Clients that wait for the disk come in rounds: all are answered when a sync ends, and come again.
 * Whether the thread that hears them, and runs their requests itself, should now write and sync
 * what they left, or wait for more of them first. docs/adr/0006-the-submitter-runs-it.md.
 *
 * A round ends when three quarters of those that were heard in the last two have been heard in it,
 * or when three syncs' time has passed since the last one ended (a millisecond at most): a sync
 * costs the same, whoever is in it.
 *
 * Thread: one. Memory: the owner's. */
#ifndef DBOS_ENGINE_ROUNDS_H
#define DBOS_ENGINE_ROUNDS_H

#include <stdbool.h>
#include <stdint.h>

struct dbos_rounds {
    uint64_t number; /* of the round; begins with 2, so that 0 was never heard */
    uint32_t heard;  /* clients, in this round */
    uint32_t heard_before;
    uint32_t heard_in_both;
    uint32_t expected;
    uint64_t ended_ns;
    uint64_t takes_ns; /* one sync, lately */
};

void dbos_rounds_init(struct dbos_rounds *rounds);
/* `*client`: the client's last round, 0 at first; kept by its owner. */
void dbos_rounds_hear(struct dbos_rounds *rounds, uint64_t *client);
/* Most of those that were heard in this round wait for the disk, as `waiting` clients do, and the
 * disk is quick: who writes and syncs keeps nobody from anything else. */
bool dbos_rounds_may_write(const struct dbos_rounds *rounds, uint32_t waiting);
/* How long more clients may be waited for, in us; 0 = not at all: the round is to be ended. */
uint64_t dbos_rounds_patience_us(const struct dbos_rounds *rounds, uint64_t now_ns);
/* What they left has been written and synced here since `begun_ns`; or it was given to another
 * thread. */
void dbos_rounds_end(struct dbos_rounds *rounds, uint64_t begun_ns, uint64_t now_ns);
void dbos_rounds_end_elsewhere(struct dbos_rounds *rounds, uint64_t now_ns);

#endif /* DBOS_ENGINE_ROUNDS_H */
