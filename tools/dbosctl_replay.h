/* dbosctl replay: does every call that the log records do the same again? Says what it finds on
 * standard output.
 *
 * Thread: one. Memory: from the allocator given, all given back. */
#ifndef DBOS_TOOLS_DBOSCTL_REPLAY_H
#define DBOS_TOOLS_DBOSCTL_REPLAY_H

struct dbos_alloc;

/* Exit status: 0 all calls did the same, 1 one did not, or the log could not be read. */
int dbosctl_replay(struct dbos_alloc *alloc, const char *data_dir);

#endif /* DBOS_TOOLS_DBOSCTL_REPLAY_H */
