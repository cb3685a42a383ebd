/* The dependence graph of row versions, walked breadth first.
 *
 * Rule: a version written at (transaction, statement s) depends on every version that the same
 * transaction read in a statement s' <= s. A read saw the newest version of its block before it, in
 * the order of events; a scan saw that of every block of its part of the table.
 *
 *   add events (ascending) ─▶ prepare ─▶ start at versions ─▶ upstream | downstream ─▶ found
 *
 * Each transaction's reads (or writes) are expanded once for each statement, each scan once, so a
 * walk takes time in proportion to the events it touches, whatever cycles the blocks make.
 *
 * Thread: one at a time.
 * Memory: from the allocator; about 80 bytes for each event. */
#ifndef DBOS_PROVENANCE_WALK_H
#define DBOS_PROVENANCE_WALK_H

#include "base/alloc.h"

struct dbos_walk;

struct dbos_walk_event {
    int64_t ord;
    uint64_t block;
    uint32_t table_id;
    uint32_t count; /* READ: blocks, 1024 apart */
    uint16_t statement;
    uint16_t partition;  /* SCAN; DBOS_PARTITION_ALL = the whole table */
    uint16_t partitions; /* SCAN */
    uint8_t op;          /* enum dbos_event_op: the writes, READ, SCAN; others are passed over */
};

struct dbos_walk_found {
    int64_t ord;        /* of the version's write event */
    int64_t parent_ord; /* the version from which it was reached; -1 = a start */
    uint32_t depth;
};

enum dbos_err dbos_walk_open(struct dbos_alloc *alloc, uint64_t events_max,
                             struct dbos_walk **out) DBOS_MUST_USE;
void dbos_walk_close(struct dbos_walk *walk);
/* Events come in ascending order. `ord_bits`: low bits of ord that number events within their
 * transaction. Errors: NOMEM, LIMIT (more than events_max). */
enum dbos_err dbos_walk_add(struct dbos_walk *walk,
                            const struct dbos_walk_event *event) DBOS_MUST_USE;
/* After the last event. `backwards` = upstream follows. */
enum dbos_err dbos_walk_prepare(struct dbos_walk *walk, uint32_t ord_bits,
                                bool backwards) DBOS_MUST_USE;
/* A version where the walk starts (depth 0); an ord that is no write is passed over. */
void dbos_walk_start(struct dbos_walk *walk, int64_t ord);
/* Walk in the prepared direction, `depth_max` edges far. `stop` (may be NULL) ends it early: then
 * CANCELED. */
enum dbos_err dbos_walk_run(struct dbos_walk *walk, uint32_t depth_max, bool (*stop)(void *arg),
                            void *arg) DBOS_MUST_USE;
uint32_t dbos_walk_count(const struct dbos_walk *walk);
struct dbos_walk_found dbos_walk_found(const struct dbos_walk *walk, uint32_t i);

#endif /* DBOS_PROVENANCE_WALK_H */
