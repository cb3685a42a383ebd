/* What a partition (or the barrier) has run: calls, errors and times, by procedure and kind of
 * statement.
 *
 * A request's run time is from the moment it starts until the next one starts, or until the thread
 * finds its queue empty: that is how long nobody else could run there. It costs no reading of the
 * clock on a busy partition, because a request's start is read anyway, for its timeout; only a
 * thread that goes to sleep reads it once more. Where the clock was looked at just before the
 * commit (a plan is new, or its submitter runs it), the time is until then.
 *
 *   started ──run──▶ started ──run──▶ rest          wait: from the request's arrival to its start
 *
 * Thread: note and rest by the one that runs the requests (the barrier's: one after the other, with
 * all partitions parked); submitted by any; everything that the views read is atomic, and a
 * statement's meter is never freed before close.
 * Memory: 17 KiB for each procedure or kind that ran here, at most DBOS_METER_STATEMENTS_MAX of
 * them, from the allocator of open; what does not fit is counted together as "other". */
#ifndef DBOS_ENGINE_METER_H
#define DBOS_ENGINE_METER_H

#include "base/histogram.h"
#include "engine/request.h"

enum {
    DBOS_METER_STATEMENTS_MAX = 256,
    DBOS_METER_BUCKETS = 64,
};

struct dbos_statement_meter {
    struct dbos_statement_meter *next; /* in its bucket: older */
    uint32_t key;                      /* of a procedure its id */
    char name[DBOS_NAME_BYTES];        /* of the procedure, or "SELECT", "script", … */
    _Atomic uint64_t calls;
    _Atomic uint64_t errors;
    struct dbos_histogram run; /* nanoseconds */
};

struct dbos_meter {
    struct dbos_alloc *alloc;
    _Atomic uint64_t submitted; /* requests, by any thread */
    uint8_t between[64];
    struct dbos_statement_meter
        *running;        /* of the request that ran last; NULL = its time is known */
    uint64_t started_ns; /* of that request */
    uint32_t statement_count;
    _Atomic uint64_t executed;
    struct dbos_histogram wait; /* nanoseconds */
    struct dbos_statement_meter other;
    _Atomic(struct dbos_statement_meter *) buckets[DBOS_METER_BUCKETS];
};

/* Of cleared memory. */
void dbos_meter_init(struct dbos_meter *meter, struct dbos_alloc *alloc);
void dbos_meter_fini(struct dbos_meter *meter);

/* So many requests are on their way to here. */
static inline void dbos_meter_submitted(struct dbos_meter *meter, uint32_t count) {
    (void)atomic_fetch_add_explicit(&meter->submitted, count, memory_order_relaxed);
}
/* It goes elsewhere. */
static inline void dbos_meter_gave_up(struct dbos_meter *meter) {
    (void)atomic_fetch_sub_explicit(&meter->submitted, 1, memory_order_relaxed);
}
/* A request that started at that time has run; its outcome is there. `ended_ns`: when it ended, if
 * somebody has looked at the clock; 0 = the next start, or rest, tells. Not within a transaction:
 * takes memory when something runs here for the first time. */
void dbos_meter_note(struct dbos_meter *meter, const struct dbos_request *request,
                     uint64_t started_ns, uint64_t ended_ns);
/* Nothing is queued: what ran last has ended. */
void dbos_meter_rest(struct dbos_meter *meter, struct dbos_env *env);

/* Else it is a kind of statement. */
bool dbos_meter_is_procedure(const struct dbos_statement_meter *statement);

/* Readers, any thread: each statement that ran here, the newest first in its bucket, "other" last;
 * and the run times of all of them. */
void dbos_meter_each(const struct dbos_meter *meter,
                     void (*each)(void *arg, const struct dbos_statement_meter *statement),
                     void *arg);
void dbos_meter_read(const struct dbos_meter *meter, struct dbos_histogram_reading *run);

#endif /* DBOS_ENGINE_METER_H */
