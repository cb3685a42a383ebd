/* Registered procedures: checked, loaded, their statements planned, and called.
 *
 * A module's bytes live in the database (dbos.module_chunk, by content hash, 1 MB chunks); loading
 * checks the ELF file (undefined symbols on the allow-list, no writable or thread-local data, no
 * constructors), puts it in a memfd and opens it. Plans are made at registration and made again,
 * for all procedures, when DDL has changed the catalogue; DDL that would break one is refused,
 * naming it.
 *
 * Thread: load, forget and replan under the barrier (or before the partitions run); find and call
 * by any partition thread. Memory: from the allocator given at open. */
#ifndef DBOS_PROCS_PROCEDURE_H
#define DBOS_PROCS_PROCEDURE_H

#include "procs/sql/sql.h"

struct dbos_procs;
struct dbos_procedure_handle; /* one version of one procedure, loaded */

/* `data_dir`: where is kept what crashed (procs/deaths.h); NULL = nowhere. */
enum dbos_err dbos_procs_open(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                              struct dbos_procs **out) DBOS_MUST_USE;
void dbos_procs_close(struct dbos_procs *procs);

/* After recovery, and once for an empty database: load every procedure of the catalogue from the
 * store's tables. The store is borrowed until close.
 * Errors: MODULE (it no longer loads: the message says which and why), IO, NOMEM. */
enum dbos_err dbos_procs_load_all(struct dbos_procs *procs, struct dbos_store *store,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* The store's definitions were changed from outside, by a record that was applied: what is new is
 * loaded, and everything is planned for them. Versions that were replaced stay. Errors: MODULE,
 * DEPENDENT_OBJECTS, NOMEM. */
enum dbos_err dbos_procs_follow(struct dbos_procs *procs, struct dbos_errinfo *info) DBOS_MUST_USE;

/* CREATE [OR REPLACE] PROCEDURE/FUNCTION in a barrier transaction: read the module (from `module`
 * or the file named), check, store its chunks and its definition, load and plan. Undone with the
 * transaction. Errors: MODULE (names every offending symbol), UNDEFINED_FILE, DUPLICATE_FUNCTION,
 * and those of planning its statements. */
struct dbos_create_procedure {
    const struct dbos_procedure_info
        *info; /* id, version, module and symbol checked/filled by it */
    bool replace;
    /* LANGUAGE c: a path on the server, relative ones to <program>/../lib/dbos first and then to
     * the working directory; "dbos:<hash>" or NULL: the module (info->module) was uploaded already.
     */
    const char *file;
};
enum dbos_err dbos_procs_create(struct dbos_procs *procs, const struct dbos_run *run,
                                const struct dbos_create_procedure *create,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_procs_drop(struct dbos_procs *procs, const struct dbos_run *run,
                              const char *name, bool if_exists,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* End of a barrier transaction, after its commit or abort: what was loaded in it is kept, or
 * forgotten. (A catalogue that DDL had changed has a new version after the abort, too: plans then
 * count for that one.) */
void dbos_procs_committed(struct dbos_procs *procs);
void dbos_procs_aborted(struct dbos_procs *procs);
/* Plan all statements again for the transaction's catalogue (after DDL, before its commit).
 * Errors: DEPENDENT_OBJECTS, naming the procedure that would break. */
enum dbos_err dbos_procs_replan(struct dbos_procs *procs, struct dbos_catalog *catalog,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* The loaded version of a procedure; NULL = not loaded. Any thread, at any time. */
struct dbos_procedure_handle *dbos_procs_find(struct dbos_procs *procs, uint32_t id,
                                              uint32_t version);
/* A procedure that is part of the server and of no catalogue ("dbos_module_put"), for CALL; NULL =
 * none. Its id and version are found by dbos_procs_find() like others. Any thread. */
const struct dbos_procedure_info *dbos_procs_builtin(const struct dbos_procs *procs,
                                                     const char *name);
/* What a handle is a version of; borrowed. */
const struct dbos_procedure_info *
dbos_procedure_info_of(const struct dbos_procedure_handle *procedure);
/* What routes it: table id, its partitioning column, and which argument; false = nothing. */
bool dbos_procedure_route(const struct dbos_procedure_handle *procedure, uint32_t *out_table,
                          uint32_t *out_argument);
/* Does no statement of it write, and does it submit nothing? (declared statements are all SELECTs)
 */
bool dbos_procedure_reads_only(const struct dbos_procedure_handle *procedure);

/* Results of a task, for its result procedure. */
struct dbos_task_result_piece {
    struct dbos_bytes payload; /* without the time split */
    uint32_t count;
};
struct dbos_task_result {
    uint64_t task_id;
    uint32_t piece_count;
    const struct dbos_task_result_piece *pieces;
    uint32_t exec_us;
};
/* Call it in run->txn; arguments have the declared types. *out_value is in the transaction's arena.
 * `task_result` may be NULL. Errors: RAISED with the procedure's message, what a statement said,
 * what its guard said (procs/guard.h), QUARANTINED (it has ended the node twice). */
enum dbos_err dbos_procedure_call(struct dbos_procedure_handle *procedure,
                                  const struct dbos_run *run, const struct dbos_datum *arguments,
                                  uint32_t count, const struct dbos_task_result *task_result,
                                  struct dbos_datum *out_value,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROCS_PROCEDURE_H */
