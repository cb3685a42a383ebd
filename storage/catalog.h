/* The catalogue: an immutable snapshot of all definitions, replaced as a whole by DDL.
 *
 * Anyone may hold a snapshot and plan against it; DDL runs under the barrier, makes a new snapshot
 * with a higher version and publishes it. A plan whose snapshot is not the published one any more
 * is made again (DBOS_ERR_STALE_PLAN).
 *
 * Thread: snapshots may be read by any thread; publishing is the barrier's.
 * Memory: from the allocator of the first snapshot. */
#ifndef DBOS_STORAGE_CATALOG_H
#define DBOS_STORAGE_CATALOG_H

#include "storage/schema.h"

struct dbos_catalog {
    _Atomic uint32_t refs;
    struct dbos_alloc *alloc;
    uint64_t version;
    uint32_t table_count;
    uint32_t procedure_count;
    uint32_t next_table_id; /* never goes back */
    uint32_t next_index_id;
    uint32_t next_procedure_id;
    struct dbos_table_def **tables;          /* by id, ascending */
    struct dbos_procedure_info **procedures; /* current version of each, by id, ascending */
};

/* The snapshot of an empty database: the system tables alone (dbos.catalog, dbos.module_chunk,
 * dbos.task, dbos.task_piece, dbos.model, dbos.model_chunk, dbos.idempotency). */
enum dbos_err dbos_catalog_open(struct dbos_alloc *alloc, struct dbos_catalog **out) DBOS_MUST_USE;
struct dbos_catalog *dbos_catalog_ref(struct dbos_catalog *catalog);
void dbos_catalog_unref(struct dbos_catalog *catalog);

/* `schema` NULL searches public, then dbos. NULL = none. Borrowed from the snapshot. */
struct dbos_table_def *dbos_catalog_table(const struct dbos_catalog *catalog, const char *schema,
                                          const char *name);
struct dbos_table_def *dbos_catalog_table_by_id(const struct dbos_catalog *catalog, uint32_t id);
struct dbos_procedure_info *dbos_catalog_procedure(const struct dbos_catalog *catalog,
                                                   const char *name);
struct dbos_procedure_info *dbos_catalog_procedure_by_id(const struct dbos_catalog *catalog,
                                                         uint32_t id);
/* The table that has this index, and the index's position in it; NULL = none. Schemas are searched
 * as for a table. */
struct dbos_table_def *dbos_catalog_index(const struct dbos_catalog *catalog, const char *schema,
                                          const char *name, uint32_t *out_index);

/* New snapshots, version + 1; the old one is untouched. A definition with the id of an existing one
 * replaces it. *out has one reference for the caller. */
enum dbos_err dbos_catalog_with_table(struct dbos_catalog *catalog, struct dbos_table_def *def,
                                      struct dbos_catalog **out) DBOS_MUST_USE;
enum dbos_err dbos_catalog_without_table(struct dbos_catalog *catalog, uint32_t id,
                                         struct dbos_catalog **out) DBOS_MUST_USE;
enum dbos_err dbos_catalog_with_procedure(struct dbos_catalog *catalog,
                                          struct dbos_procedure_info *procedure,
                                          struct dbos_catalog **out) DBOS_MUST_USE;
enum dbos_err dbos_catalog_without_procedure(struct dbos_catalog *catalog, uint32_t id,
                                             struct dbos_catalog **out) DBOS_MUST_USE;

/* The same content again; what an undo publishes is made before the change. */
enum dbos_err dbos_catalog_copy(struct dbos_catalog *catalog,
                                struct dbos_catalog **out) DBOS_MUST_USE;

#endif /* DBOS_STORAGE_CATALOG_H */
