/* Which procedures have ended the process, and how often: a file that outlives it.
 *
 * A procedure that crashes takes the node with it: what it may have written elsewhere is not known.
 * Nothing of it is in the log, so nothing runs it again by itself; but its callers will. The second
 * time that a node starts after the same version, that version is not run any more.
 *
 *   <data directory>/crashed    a line for each death: "<id> <version> <signal> <name>\n"
 *
 * Thread: note by a signal handler (it calls nothing but what may be called there), read by the
 * owner before anything runs. Memory: none. */
#ifndef DBOS_PROCS_DEATHS_H
#define DBOS_PROCS_DEATHS_H

#include "procs/procedure_internal.h"

#define DBOS_DEATHS_FILE "crashed"
enum { DBOS_DEATHS_MAX = 2 };

/* Append a line, on disk when this returns. Where that can not be done, nothing is. */
void dbos_death_note(const char *path, const struct dbos_procedure_info *info,
                     const char *signal_name);

/* Count the lines into the loaded handles, and say which of them is not run any more. Lines that
 * are none, or of other versions, are passed over. Errors: IO, NOMEM. */
enum dbos_err dbos_deaths_read(struct dbos_procs *procs, struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROCS_DEATHS_H */
