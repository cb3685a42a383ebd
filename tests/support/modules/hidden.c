/* A procedure that the check of modules accepts and that is not repeatable all the same: it stores
 * where its stack lies.
 *
 *     FUNCTION hidden(id bigint) RETURNS bigint */
#include <dbos/procedure.h>

static const char *const statements[] = {"INSERT INTO secrets (id, place) VALUES ($1, $2)"};

static int hidden(struct dbos_call *call) {
    volatile char here = 0;
    dbos_execute(call, 0, DBOS_INT(dbos_arg_int(call, 0)), DBOS_INT((intptr_t)&here));
    return dbos_return_int(call, 1);
}
DBOS_PROCEDURE(hidden, .run = hidden, .statements = statements, .statement_count = 1);
