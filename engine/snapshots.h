/* Snapshots of a running node: when one is taken, and what goes with it.
 *
 *   asked for, or the log has grown by so much since the last one
 *      │
 *      ▼  barrier                partitions                     here
 *     cut ──▶ slices of 100 us each, a quarter of the time at most ──▶ chunks to the disk
 *                                                                │
 *              wait until the log is synced up to the cut ◀──────┘
 *              manifest; older snapshots than the last two go; log segments that nobody needs go
 *
 * A log segment is needed until the older of the last two snapshots is behind it and the archiver
 * has put all of it into files. Without an archive nothing is cut off: the log is the provenance.
 *
 * Thread: one, of its own; each function says who else. Memory: `snapshots` in dbos.memory. */
#ifndef DBOS_ENGINE_SNAPSHOTS_H
#define DBOS_ENGINE_SNAPSHOTS_H

#include "engine/request.h"
#include "txn/snapshot.h"

struct dbos_engine;
struct dbos_snapshots;

/* The log was recovered, and nothing runs yet; `facts` of what recovery has loaded (position 0: it
 * was nothing). Errors: NOMEM. */
enum dbos_err dbos_snapshots_open(struct dbos_engine *engine,
                                  const struct dbos_snapshot_facts *loaded,
                                  struct dbos_snapshots **out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_snapshots_start(struct dbos_snapshots *snapshots,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
/* Gives up the one that is being taken, while the partitions run; ends those that wait for one. */
void dbos_snapshots_stop(struct dbos_snapshots *snapshots);
void dbos_snapshots_close(struct dbos_snapshots *snapshots); /* NULL is allowed */

/* Any thread: a request for one; it ends when a snapshot counts that was cut later than this. */
void dbos_snapshots_submit(struct dbos_snapshots *snapshots, struct dbos_request *request);
/* Under the barrier. */
void dbos_snapshots_cut(struct dbos_snapshots *snapshots, struct dbos_request *request);
/* By a partition that has met its slice node. */
void dbos_snapshots_slice(struct dbos_snapshots *snapshots, uint32_t partition);

/* The partition's thread is copying, which is over in a moment. Any thread. */
bool dbos_snapshots_is_slicing(const struct dbos_snapshots *snapshots, uint32_t partition);

struct dbos_snapshots_stats {
    struct dbos_snapshot_facts last; /* that counts; position 0 = there is none */
    uint64_t taken;                  /* since the start */
    uint64_t failed;
    uint64_t segments_removed; /* of the log */
    uint64_t took_ns;          /* the last one, from its cut on */
    bool is_taking;
};
void dbos_snapshots_stats(struct dbos_snapshots *snapshots, struct dbos_snapshots_stats *out);

#endif /* DBOS_ENGINE_SNAPSHOTS_H */
