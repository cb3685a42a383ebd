/* Refused: variables that outlive a call, zeroed and not. */
#include <dbos/procedure.h>

static int64_t counter;
static int64_t start = 7;

static int run(struct dbos_call *call) { return dbos_return_int(call, ++counter + ++start); }
DBOS_PROCEDURE(bad_static, .run = run);
