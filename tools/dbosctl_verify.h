/* dbosctl verify: do to a stopped node's directory what its start-up would do, and change nothing:
 * every checksum, the chain of batches, all rows applied and the state hash compared after each
 * batch, every large value read.
 *
 * Thread: one. Memory: from the allocator given; as much as the node itself. */
#ifndef DBOS_TOOLS_DBOSCTL_VERIFY_H
#define DBOS_TOOLS_DBOSCTL_VERIFY_H

struct dbos_alloc;

/* Prints what was found on standard output; 0 = all of it is in order, a torn end included, which
 * was never acknowledged; 1 = not, or it could not be read. */
int dbosctl_verify(struct dbos_alloc *alloc, const char *data_dir);

#endif /* DBOS_TOOLS_DBOSCTL_VERIFY_H */
