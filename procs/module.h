/* Modules: shared objects with compiled procedures, checked as bytes and then opened.
 *
 * The check is what makes a procedure repeatable: nothing from outside but the SDK and the
 * functions of the allow-list, no data that outlives a call, no code that runs at loading. It keeps
 * honest code honest; it is no sandbox (native code is trusted by whoever registers it).
 *
 * Thread: the check is pure; open and close under the barrier.
 * Memory: a module from the allocator given at open. */
#ifndef DBOS_PROCS_MODULE_H
#define DBOS_PROCS_MODULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/alloc.h"

enum { DBOS_MODULE_BYTES_MAX = 64 * 1048576 };

struct dbos_module_facts {
    bool uses_tasks; /* it imports dbos_task_*(): it is never read-only */
};

/* Check a module's bytes. Nothing of them is executed; any bytes may be given.
 * Errors: MODULE, naming every offending function, variable, constructor and library. */
enum dbos_err dbos_module_check(const void *data, size_t size_bytes, struct dbos_module_facts *out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* Is this a function that a module may use? */
bool dbos_module_allows(const char *name);

/* The SDK version of this program. It stands in sdk.c, so that whatever opens modules is linked
 * with the functions that they look up by name. */
uint32_t dbos_sdk_version(void);

struct dbos_module;
/* Open checked bytes (not used after the call). *out is the caller's, NULL on error.
 * Errors: MODULE (the dynamic linker's words), IO, NOMEM. */
enum dbos_err dbos_module_open(struct dbos_alloc *alloc, const void *data, size_t size_bytes,
                               struct dbos_module **out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_module_close(struct dbos_module *module); /* NULL is allowed */
/* Where its instructions lie, until close. */
struct dbos_module_text {
    uintptr_t low;
    uintptr_t high;
};
struct dbos_module_text dbos_module_text(const struct dbos_module *module);
/* The procedure that DBOS_PROCEDURE(<name>, …) declared, checked; borrowed until close.
 * Errors: MODULE (no such procedure, another SDK version, nothing to run). */
struct dbos_procedure;
enum dbos_err dbos_module_procedure(struct dbos_module *module, const char *name,
                                    const struct dbos_procedure **out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROCS_MODULE_H */
