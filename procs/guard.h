/* What keeps a compiled procedure from keeping its thread, and what remembers one that has ended
 * the process.
 *
 * A procedure is native code on the thread that has the partition. It is ended from outside,
 * without anything compiled into it: while it runs, its thread is sent a signal now and then
 * (dbos_guards_look). Where the handler finds that the call is canceled or its time is over, and
 * that the interrupted instruction is one of the module's own, it jumps back to dbos_guard_run().
 * The engine is never left in the middle: an instruction of the SDK or of the C library is not
 * interrupted, the next signal comes a moment later. What the procedure held is its stack and the
 * transaction's arena (docs/adr/0011-runaway-procedures.md).
 *
 *   the module's instruction + signal, late       -> TIMEOUT or CANCELED
 *   the module's instruction + end of the stack   -> TOO_COMPLEX
 *   the module's instruction + division trap      -> DIVISION_BY_ZERO
 *   any other fault or abort() while one runs     -> kept (procs/deaths.h), and the process ends
 *
 * Thread: run by any; each thread has its own guard, made at its first call and gone with it. look
 * by one thread. The handlers are the process's: SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGRTMIN
 * + 3; what is no procedure's fault goes on to whoever had them before. Under ThreadSanitizer,
 * which delivers signals late, nothing is interrupted. Memory: a signal stack for each thread. */
#ifndef DBOS_PROCS_GUARD_H
#define DBOS_PROCS_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include "base/env.h"

struct dbos_call;

/* Runs the call's procedure; *out is what it returned. Errors: TIMEOUT, CANCELED, TOO_COMPLEX,
 * DIVISION_BY_ZERO, NOMEM (the thread's first call). */
enum dbos_err dbos_guard_run(struct dbos_call *call, int *out,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

/* By the SDK, holding nothing: the call that runs ends with TOO_COMPLEX. */
noreturn void dbos_guard_end_of_stack(void);

/* Sends a signal to each thread whose procedure runs since the last look, or longer. True: one of
 * them is late and was not met in its own code yet: look again soon. */
bool dbos_guards_look(void);

#endif /* DBOS_PROCS_GUARD_H */
