/* A real dbosd as a child of a test: started in a process group of its own, killed or stopped.
 *
 * Thread: one. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_NODE_H
#define DBOS_TESTS_SUPPORT_NODE_H

#include <stdbool.h>
#include <sys/types.h>

struct node_options {
    const char *bin;  /* folder of dbosd */
    const char *data; /* directory; made when it is not there */
    const char *log;  /* file that its standard error is appended to */
    const char *partitions;
    const char *const *environment; /* name, value, ..., NULL: set for the node; may be NULL */
    const char *const *arguments;   /* further ones, NULL at the end; may be NULL; they win */
};

/* Start a node (strict provenance of reads, a free port; small log segments and many snapshots) and
 * wait until it is ready. Returns -1,
 * and the reason is in its log, when it ended instead; port is then 0. */
pid_t node_start(const struct node_options *options, int *out_port);
/* kill -9 of the node and everything that it started; returns when all are gone. */
void node_kill(pid_t pid);
/* SIGTERM; its exit status as waitpid() has it. */
int node_stop(pid_t pid);

#endif /* DBOS_TESTS_SUPPORT_NODE_H */
