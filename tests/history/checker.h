/* Is a history strictly serialisable? In the manner of Elle: versions of each object are put in
 * order by what was read, who wrote, read and overwrote which version are edges between
 * transactions, who returned before another began are edges, too, and a cycle of them is a proof
 * that no order of the transactions explains what was seen. What needs no graph is said directly.
 *
 *   lists      the longest read is the order; every other read must be a beginning of it
 *   registers  who read and wrote in one transaction wrote the next version; runs of versions that
 *              were found so are put in order by real time
 *   sets       reads must include one another
 *
 * Thread: one. Memory: malloc, given back before it returns. */
#ifndef DBOS_HISTORY_CHECKER_H
#define DBOS_HISTORY_CHECKER_H

#include "tests/history/graph.h"
#include "tests/history/history.h"

enum checker_anomaly {
    CHECKER_PHANTOM,           /* a value that nobody wrote */
    CHECKER_DIRTY_READ,        /* G1a: of a transaction that failed */
    CHECKER_INTERMEDIATE_READ, /* G1b: of a value that its own transaction replaced */
    CHECKER_INTERNAL,          /* a transaction does not see what it wrote or read itself */
    CHECKER_DUPLICATE,         /* one value twice in one read */
    CHECKER_DISAGREEMENT,      /* two reads of one object that no order explains */
    CHECKER_LOST_WRITE,        /* took effect, and is missing in a read that began later */
    CHECKER_LOST_UPDATE,       /* two transactions replaced the same version */
    CHECKER_VERSION_ORDER,     /* two runs of versions, each of which has to precede the other */
    CHECKER_TOTAL,             /* the accounts do not add up, or are not all there */
    CHECKER_NEGATIVE,          /* a balance below zero */
    CHECKER_BALANCE,           /* two balances for one version of an account */
    CHECKER_CYCLE,             /* + enum graph_class */
    CHECKER_ANOMALIES = CHECKER_CYCLE + GRAPH_CLASSES,
};

struct checker_report {
    uint64_t anomalies; /* in all; 0: the history is strictly serialisable */
    uint64_t found[CHECKER_ANOMALIES];
    uint64_t transactions; /* that took effect, or read */
    uint64_t nodes;        /* of the graph, with virtual ones */
    uint64_t edges[GRAPH_KINDS];
    uint64_t reads; /* of objects that were checked */
};

/* Check all of it. The first of each kind are explained in `out` (NULL: nowhere). O(n log n). */
void checker_run(const struct history *h, FILE *out, struct checker_report *report);

const char *checker_anomaly_name(enum checker_anomaly anomaly);

#endif /* DBOS_HISTORY_CHECKER_H */
