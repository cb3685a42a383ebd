/* dbosctl top: what a node does, from differences of two readings of its system views.
 *
 * Thread: one. Memory: libpq's results. */
#ifndef DBOS_TOOLS_DBOSCTL_TOP_H
#define DBOS_TOOLS_DBOSCTL_TOP_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

struct dbosctl_top_options {
    const char *where; /* "host:port", as the first line shows it */
    uint32_t interval_ms;
    bool once; /* print one interval and end; else a screen that goes on until it is stopped */
};

/* True unless the node could not be asked: then a message is on standard error. */
bool dbosctl_top(PGconn *connection, const struct dbosctl_top_options *options);

#endif /* DBOS_TOOLS_DBOSCTL_TOP_H */
