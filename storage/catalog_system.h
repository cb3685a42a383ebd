/* Definitions of the system's own tables. Their layout is a stored format: columns are only ever
 * added, with a new schema version.
 *
 * Thread: any. Memory: from the allocator given. */
#ifndef DBOS_STORAGE_CATALOG_SYSTEM_H
#define DBOS_STORAGE_CATALOG_SYSTEM_H

#include "storage/schema.h"

enum { DBOS_SYSTEM_TABLES = 7 };

/* The n-th system table, by ascending id; one reference for the caller. Errors: NOMEM. */
enum dbos_err dbos_catalog_system_table(struct dbos_alloc *alloc, uint32_t n,
                                        struct dbos_table_def **out) DBOS_MUST_USE;

#endif /* DBOS_STORAGE_CATALOG_SYSTEM_H */
