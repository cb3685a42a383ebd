/* Are two records of one call the same? Compared is what the call did: its outcome, its arguments,
 * its seed, and event by event what it read and wrote, row images byte by byte. Left out is what
 * the record says about the client and the file: definitions of sessions and texts (written where
 * they are first needed), request and session numbers, the flag that says that nothing was written
 * (the events say it), and the row of an idempotency key, which the engine writes around the call.
 *
 * Thread: any. Memory: what decoding takes, from the allocator given. */
#ifndef DBOS_ENGINE_REPLAY_COMPARE_H
#define DBOS_ENGINE_REPLAY_COMPARE_H

#include "provenance/record.h"
#include "storage/catalog.h"

struct dbos_replay_pair {
    struct dbos_alloc *alloc;
    const struct dbos_catalog *catalog; /* for the names of tables */
    struct dbos_bytes recorded;
    struct dbos_bytes again; /* empty: it left no record */
    const char *error;       /* of the call that ran again; empty = it had none */
};

enum { DBOS_REPLAY_TEXT_BYTES = 384 };
/* The first difference. */
struct dbos_replay_texts {
    char expected[DBOS_REPLAY_TEXT_BYTES];
    char came[DBOS_REPLAY_TEXT_BYTES];
    uint16_t statement; /* where it is; 0 = in how the call ended, or before the first */
};

/* Errors: CORRUPT (the recorded one is malformed), NOMEM. */
enum dbos_err dbos_replay_compare(const struct dbos_replay_pair *pair, bool *out_same,
                                  struct dbos_replay_texts *out,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* An event that the engine adds around a call that has an idempotency key. */
bool dbos_replay_is_of_key(const struct dbos_event *event);

#endif /* DBOS_ENGINE_REPLAY_COMPARE_H */
