/* Refused: two functions that are not repeatable. */
#include <dbos/procedure.h>
#include <stdlib.h>
#include <time.h>

static int run(struct dbos_call *call) { return dbos_return_int(call, rand() + (int)time(NULL)); }
DBOS_PROCEDURE(bad_functions, .run = run);
