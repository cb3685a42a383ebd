/* All tables of a node: for each table one `struct dbos_table` per partition, or one in all for an
 * unpartitioned table; and the published catalogue snapshot.
 *
 * Each catalogue has a higher version than all before it; an undo makes one more. What a
 * transaction has changed is published when it ends.
 *
 * Thread: dbos_store_table() by any partition thread; create, drop and publish under the barrier
 * (or before the partitions run). dbos_store_catalog_ref() by any thread at any time. Memory:
 * tables from a per-table allocator that the store owns (shown in dbos.memory). */
#ifndef DBOS_STORAGE_STORE_H
#define DBOS_STORAGE_STORE_H

#include "storage/catalog.h"
#include "storage/table.h"

struct dbos_store;

/* `partitions` >= 1. Opens with the system tables. */
enum dbos_err dbos_store_open(struct dbos_alloc *alloc, struct dbos_objects *objects,
                              uint32_t partitions, struct dbos_store **out) DBOS_MUST_USE;
void dbos_store_close(struct dbos_store *store);
uint32_t dbos_store_partitions(const struct dbos_store *store);
struct dbos_objects *dbos_store_objects(struct dbos_store *store);
/* Which partition owns a slot: slot % partitions. */
uint32_t dbos_store_partition_of(const struct dbos_store *store, uint32_t slot);

/* The part of a table on a partition; an unpartitioned table gives the same for each. NULL = no
 * such table. */
struct dbos_table *dbos_store_table(struct dbos_store *store, uint32_t table_id,
                                    uint32_t partition);

/* The published snapshot, with a reference for the caller: never one that can be taken back. */
struct dbos_catalog *dbos_store_catalog_ref(struct dbos_store *store);
/* Version of the published one, without a lock. Any thread. */
uint64_t dbos_store_catalog_version(const struct dbos_store *store);
/* The newest, borrowed: for the barrier and for partition threads during one transaction. It is
 * ahead of the published one within a transaction that changes definitions. */
struct dbos_catalog *dbos_store_catalog(struct dbos_store *store);

/* DDL (barrier). Each changes tables and the catalogue, or fails and changes nothing. Outside
 * track..keep the new catalogue is published at once. */
enum dbos_err dbos_store_create_table(struct dbos_store *store, struct dbos_table_def *def,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;
/* The table's parts leave the store and come back with undrop; `out` has one for each partition
 * (1 when unpartitioned) and is the caller's, to be closed when the transaction has committed. */
struct dbos_store_table; /* of store.c */
struct dbos_dropped_table {
    struct dbos_table_def *def;
    struct dbos_table **parts;
    uint32_t part_count;
    struct dbos_store_table *entry;
    struct dbos_catalog *back; /* the snapshot that undrop brings back */
};
enum dbos_err dbos_store_drop_table(struct dbos_store *store, uint32_t table_id,
                                    struct dbos_dropped_table *out,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_store_undrop_table(struct dbos_store *store, struct dbos_dropped_table *dropped);
void dbos_store_forget_table(struct dbos_store *store, struct dbos_dropped_table *dropped);
/* A definition with one index more or less. */
enum dbos_err dbos_store_redefine_table(struct dbos_store *store, struct dbos_table_def *def,
                                        struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_store_put_procedure(struct dbos_store *store,
                                       struct dbos_procedure_info *procedure) DBOS_MUST_USE;
enum dbos_err dbos_store_drop_procedure(struct dbos_store *store, uint32_t id) DBOS_MUST_USE;

/* Undo of DDL that can not fail. Between track and keep the store keeps for each create, redefine,
 * put and drop of a procedure what taking it back needs; undo takes back the newest one. A dropped
 * table is not among them: undrop is its undo, in the same newest-first order. Keep ends the
 * transaction, committed or taken back: it publishes the catalogue that stands. */
void dbos_store_track_ddl(struct dbos_store *store);
void dbos_store_undo_ddl(struct dbos_store *store);
void dbos_store_keep_ddl(struct dbos_store *store);

/* Ids below these were given out once, whether or not what had them is still there (a snapshot
 * knows).
 */
void dbos_store_saw_ids(struct dbos_store *store, uint32_t next_table_id, uint32_t next_index_id,
                        uint32_t next_procedure_id);

/* Sum of the state hashes of all tables. O(rows). */
uint64_t dbos_store_state_hash(struct dbos_store *store);

/* dbos.memory: name and bytes of each allocator of the store. Under the barrier: the counts of rows
 * are the partitions'. */
void dbos_store_each_memory(struct dbos_store *store,
                            void (*each)(void *arg, const char *name, uint64_t bytes,
                                         uint64_t rows),
                            void *arg);

/* What a table holds, its indexes apart. By a partition thread in a request, or the barrier: no
 * table comes or goes meanwhile. The figures go on changing in other partitions. */
struct dbos_table_facts {
    const struct dbos_table_def *def; /* borrowed */
    uint32_t parts;
    uint64_t rows;
    uint64_t bytes; /* indexes included */
    uint64_t index_bytes[DBOS_INDEXES_MAX];
};
void dbos_store_each_table(struct dbos_store *store,
                           void (*each)(void *arg, const struct dbos_table_facts *facts),
                           void *arg);

#endif /* DBOS_STORAGE_STORE_H */
