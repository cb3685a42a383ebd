/* Refused: a process of its own, the end of this one, and the clock. */
#include <dbos/procedure.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static int run(struct dbos_call *call) {
    if (fork() < 0) {
        abort();
    }
    return dbos_return_int(call, clock());
}
DBOS_PROCEDURE(bad_abuse, .run = run);
