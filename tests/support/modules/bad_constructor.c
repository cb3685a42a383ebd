/* Refused: code that runs when the module is loaded. */
#include <dbos/procedure.h>

__attribute__((constructor)) static void wake(void) { __asm__ volatile("nop"); }

static int run(struct dbos_call *call) { return dbos_return_int(call, 1); }
DBOS_PROCEDURE(bad_constructor, .run = run);
