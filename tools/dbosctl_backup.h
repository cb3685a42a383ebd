/* dbosctl backup: copy a node's directory, whether it runs or not, so that the copy can be
 * started.
 *
 * Everything in it is only ever added to, or removed as a whole when nobody needs it any more; what
 * is copied when makes the copy whole:
 *
 *   snapshots ─▶ log ─▶ the archive's manifest, and the files that it names ─▶ the end of the log,
 *   once more (the archive is never ahead of it) ─▶ large values (nor is the log of them)
 *
 * The copy is verified. Where the end of the log was being written while it was read, that end is
 * copied again. It holds everything that was acknowledged before the backup began.
 *
 * Thread: one. Memory: from the allocator given, all given back. */
#ifndef DBOS_TOOLS_DBOSCTL_BACKUP_H
#define DBOS_TOOLS_DBOSCTL_BACKUP_H

struct dbos_alloc;

/* `to` must not be there, or be empty. Says what it did; exit status 0, or 1: no backup, and why.
 */
int dbosctl_backup(struct dbos_alloc *alloc, const char *from, const char *to);

#endif /* DBOS_TOOLS_DBOSCTL_BACKUP_H */
