/* Passes the check of its bytes, and is refused when it is opened: made for another SDK. */
#include <dbos/procedure.h>

static int run(struct dbos_call *call) { return dbos_return_int(call, 1); }

__attribute__((visibility("default"))) extern const struct dbos_procedure dbos_procedure_future;
const struct dbos_procedure dbos_procedure_future = {.sdk_version = 99, .run = run};

__attribute__((visibility("default"))) extern const struct dbos_procedure dbos_procedure_idle;
const struct dbos_procedure dbos_procedure_idle = {.sdk_version = DBOS_SDK_VERSION};
