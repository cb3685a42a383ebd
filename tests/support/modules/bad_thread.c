/* Refused: a variable of each thread. */
#include <dbos/procedure.h>

static _Thread_local int64_t per_thread;

static int run(struct dbos_call *call) { return dbos_return_int(call, ++per_thread); }
DBOS_PROCEDURE(bad_thread, .run = run);
