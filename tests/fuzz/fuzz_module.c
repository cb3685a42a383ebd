/* The check of a module's bytes: whatever they are, it reads nothing behind them. */
#include "procs/module.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    struct dbos_module_facts facts;
    struct dbos_errinfo info = {0};
    if (dbos_module_check(data, size_bytes, &facts, &info) != DBOS_OK) {
        DBOS_CHECK(info.code == DBOS_ERR_MODULE && info.message[0] != '\0');
    }
    return 0;
}
