/* dbosctl verify: read a stopped node's log from its first batch to its last and check what can be
 * checked without a database: checksums, the chain of batches, growing positions, and that every
 * object that lies in a blob segment is whole.
 *
 * Thread: one. Memory: from the allocator given. */
#ifndef DBOS_TOOLS_DBOSCTL_VERIFY_H
#define DBOS_TOOLS_DBOSCTL_VERIFY_H

struct dbos_alloc;

/* Prints what was found on standard output; 0 = all of it is in order, 1 = not. */
int dbosctl_verify(struct dbos_alloc *alloc, const char *data_dir);

#endif /* DBOS_TOOLS_DBOSCTL_VERIFY_H */
