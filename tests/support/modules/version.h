/* One procedure in versions: it notes which one ran. A module is as large as its ballast. */
#ifndef DBOS_TESTS_SUPPORT_MODULES_VERSION_H
#define DBOS_TESTS_SUPPORT_MODULES_VERSION_H

#include <dbos/procedure.h>

static const unsigned char ballast[BALLAST_BYTES] = {[0 ... BALLAST_BYTES - 1] = VERSION};

static const char *const statements[] = {"INSERT INTO calls VALUES ($1, $2)"};

/* answer(id bigint) returns bigint: a row (id, version), and the version as the module's last bytes
 * have it */
static int answer(struct dbos_call *call) {
    int64_t id = dbos_arg_int(call, 0);
    dbos_execute(call, 0, DBOS_INT(id), DBOS_INT(VERSION));
    return dbos_return_int(call, ballast[BALLAST_BYTES - 1 - (id & 1)]);
}
DBOS_PROCEDURE(answer, .run = answer, .statements = statements, .statement_count = 1);

#endif /* DBOS_TESTS_SUPPORT_MODULES_VERSION_H */
