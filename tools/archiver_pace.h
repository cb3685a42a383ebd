/* How much of the processor the archiver asks for. Transactions come first: what the archive lacks
 * is in the log, and can be taken over later. So it works in what nobody else wants (SCHED_IDLE),
 * and as everybody else does while somebody waits for it or it is too far behind.
 *
 * To come back from SCHED_IDLE takes CAP_SYS_NICE or RLIMIT_NICE >= 20. A process that may not is
 * nice instead, for good: it could starve otherwise.
 *
 * Thread: one, which keeps its own class. Memory: none. */
#ifndef DBOS_TOOLS_ARCHIVER_PACE_H
#define DBOS_TOOLS_ARCHIVER_PACE_H

#include <sys/types.h>

#include "provenance/archive_protocol.h"

struct archiver_pace {
    pid_t keeper; /* the thread that sets it */
    bool may_return;
    enum dbos_archive_pace now;
};

/* Finds out what is allowed. The process has its ordinary class. */
void archiver_pace_init(struct archiver_pace *pace);
/* The calling thread is the keeper from here on. */
void archiver_pace_keep(struct archiver_pace *pace);
/* All threads of the process but the keeper. A process that is polite stays so. */
void archiver_pace_set(struct archiver_pace *pace, enum dbos_archive_pace wanted);

#endif /* DBOS_TOOLS_ARCHIVER_PACE_H */
