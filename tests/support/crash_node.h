/* A node that is killed and started again, on one directory: with nothing lost but the process, or
 * with all bytes lost, too, that were not synced (tests/support/lose_unsynced.c).
 *
 * Thread: one. Memory: none. */
#ifndef DBOS_TESTS_SUPPORT_CRASH_NODE_H
#define DBOS_TESTS_SUPPORT_CRASH_NODE_H

#include "tests/support/node.h"

struct crash_node {
    const char *bin;   /* folder of dbosd */
    const char *shim;  /* NULL: bytes are never lost */
    const char *apply; /* the program that drops them */
    bool ignores_sync; /* syncs do nothing: what relies on them must break */
    char dir[256];     /* everything below is in here */
    char data[288];
    char journal[288];
    char log[288];
    int port;
    pid_t pid;  /* 0 = does not run */
    bool loses; /* since its start */
};

/* Make its directory, below $TMPDIR; the first four fields are the caller's. False: it can not. */
bool crash_node_init(struct crash_node *node);
/* `loses`: the next kill drops what is not synced, where there is a shim. False: it did not become
 * ready; its log says why. */
bool crash_node_start(struct crash_node *node, bool loses);
/* False: what was not synced could not be dropped. */
bool crash_node_kill(struct crash_node *node);
/* SIGTERM; its exit status as waitpid() has it. */
int crash_node_stop(struct crash_node *node);
void crash_node_remove(const struct crash_node *node);

#endif /* DBOS_TESTS_SUPPORT_CRASH_NODE_H */
