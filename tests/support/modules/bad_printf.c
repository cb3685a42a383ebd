/* Refused: output. */
#include <dbos/procedure.h>
#include <stdio.h>

static int run(struct dbos_call *call) {
    printf("%d\n", 1);
    fputs("x", stderr);
    return dbos_return_int(call, 1);
}
DBOS_PROCEDURE(bad_printf, .run = run);
