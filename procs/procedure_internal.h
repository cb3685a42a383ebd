/* What the files of the procedure registry share.
 *
 * A handle is one version of one procedure. Handles are never freed before close, only unlinked: a
 * session thread may look one up while the barrier changes the registry.
 *
 * Thread: as procs/procedure.h. Memory: from the registry's allocator. */
#ifndef DBOS_PROCS_PROCEDURE_INTERNAL_H
#define DBOS_PROCS_PROCEDURE_INTERNAL_H

#include <stdatomic.h>

#include "procs/include/dbos/procedure.h"
#include "procs/module.h"
#include "procs/procedure.h"

enum {
    DBOS_PROCS_BUCKETS = 1024,
    DBOS_EXPECTED_TABLES = 4,
    DBOS_MODULE_CHUNK_BYTES = DBOS_COLUMN_BYTES_MAX,
};

/* The plans of all statements of a handle, made for one catalogue snapshot. */
struct dbos_plan_set {
    uint32_t count;
    uint32_t parameters_max; /* of one statement */
    bool read_only;
    uint64_t catalog_version; /* that it was made for */
    uint64_t route;           /* see dbos_route_pack(); 0 = none */
    /* Partitioned tables that the statements touch, as far as there is room: what a call does in
     * them has mostly to do with the value that it is routed by. */
    uint32_t expected_count;
    uint32_t expected[DBOS_EXPECTED_TABLES];
    struct dbos_plan *plans[];
};

typedef enum dbos_err dbos_builtin_function(const struct dbos_run *run,
                                            const struct dbos_datum *arguments,
                                            struct dbos_errinfo *info);

struct dbos_procedure_handle {
    struct dbos_procs *procs;
    struct dbos_procedure_info *info;
    const struct dbos_procedure *code; /* LANGUAGE c; borrowed from its module */
    dbos_builtin_function *builtin;    /* or NULL */
    struct dbos_module_text text;      /* of its module */
    uint32_t deaths;                   /* how often it has ended the process (procs/deaths.h) */
    bool uses_tasks;
    bool pending; /* made by the barrier transaction that is running */
    bool dead;    /* made by one that aborted */
    uint32_t script_count;
    struct dbos_script **scripts; /* LANGUAGE c: one for each statement; sql: one in all */
    uint32_t statement_count;
    struct dbos_plan_set *plans; /* NULL = broken by later DDL (only versions that were replaced) */
    struct dbos_plan_set *next;  /* for the catalogue of the barrier transaction that is running */
    uint64_t next_version;       /* of the catalogue it was asked for; 0 = not asked */
    _Atomic uint64_t route;      /* of `plans` */
    _Atomic bool read_only;
    _Atomic(struct dbos_procedure_handle *) chain; /* in its bucket */
    struct dbos_procedure_handle *all;             /* every handle ever made */
};

struct dbos_loaded_module {
    struct dbos_hash128 hash;
    struct dbos_module *module;
    struct dbos_module_facts facts;
    struct dbos_loaded_module *next;
};

struct dbos_procs {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    struct dbos_store *store; /* of dbos_procs_load_all() */
    char module_dir[512];     /* <program>/../lib/dbos */
    char data_dir[400];       /* "" = none */
    char crash_path[416];     /* procs/deaths.h; "" = none is kept */
    struct dbos_loaded_module *modules;
    struct dbos_procedure_handle *all;
    struct dbos_procedure_handle *builtins; /* in a list of their own: any thread walks it */
    _Atomic(struct dbos_procedure_handle *) buckets[DBOS_PROCS_BUCKETS];
};

/* Table and argument in one word, so that a session thread reads both at once. */
static inline uint64_t dbos_route_pack(uint32_t table_id, uint32_t argument) {
    return ((uint64_t)table_id << 32) | (argument + 1);
}

/* Bytes of a module with their identity in dbos.module_chunk. */
struct dbos_module_bytes {
    uint8_t *data; /* from the registry's allocator */
    size_t size_bytes;
    struct dbos_hash128 hash;
};

/* procedure.c: make a handle for `info` (a reference is taken), with the plans for `catalog`, and
 * link it. `module` is NULL for LANGUAGE sql. */
enum dbos_err dbos_procs_add(struct dbos_procs *procs, struct dbos_catalog *catalog,
                             struct dbos_procedure_info *info,
                             const struct dbos_loaded_module *module, bool pending,
                             struct dbos_errinfo *info_out) DBOS_MUST_USE;
/* Check and open a module, once for each content. */
enum dbos_err dbos_procs_load_module(struct dbos_procs *procs,
                                     const struct dbos_module_bytes *bytes,
                                     const struct dbos_loaded_module **out,
                                     struct dbos_errinfo *info) DBOS_MUST_USE;

/* Into its bucket: from now on it is found. */
void dbos_procs_link(struct dbos_procedure_handle *handle);

/* procedure_plan.c */
enum dbos_err dbos_handle_parse(struct dbos_procedure_handle *handle,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_handle_plan(struct dbos_procedure_handle *handle, struct dbos_catalog *catalog,
                               struct dbos_plan_set **out, struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_plan_set_close(struct dbos_alloc *alloc, struct dbos_plan_set *set);

/* procedure_route.c: read "table.column=$n" against a catalogue.
 * Errors: INVALID_OBJECT_DEFINITION. */
enum dbos_err dbos_route_parse(const struct dbos_procedure_info *info, const char *text,
                               struct dbos_catalog *catalog, uint64_t *out,
                               struct dbos_errinfo *error) DBOS_MUST_USE;
/* The argument by which all statements that touch partitioned tables route; 0 = there is none. */
uint64_t dbos_route_infer(const struct dbos_procedure_info *info, const struct dbos_plan_set *set,
                          struct dbos_catalog *catalog);

/* module_store.c: dbos.module_chunk. */
enum dbos_err dbos_module_store(const struct dbos_run *run, const struct dbos_module_bytes *bytes,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* The table as a transaction sees it; unpartitioned. */
struct dbos_table *dbos_module_table(struct dbos_txn *txn);
/* One chunk; a chunk that is there already must have the same bytes. */
enum dbos_err dbos_module_store_chunk(const struct dbos_run *run, struct dbos_hash128 hash,
                                      uint32_t chunk, struct dbos_bytes bytes,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;
/* Read it back from a part of the table and prove its hash. `size_bytes` 0 = as many chunks as
 * there are. Errors: UNDEFINED_OBJECT, CORRUPT, NOMEM. */
enum dbos_err dbos_module_fetch(struct dbos_alloc *alloc, struct dbos_table *table,
                                struct dbos_hash128 hash, size_t size_bytes,
                                struct dbos_module_bytes *out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_hash_text(struct dbos_hash128 hash, char out[33]);
bool dbos_hash_parse(const char *text, struct dbos_hash128 *out);

/* builtin.c */
enum dbos_err dbos_builtins_add(struct dbos_procs *procs) DBOS_MUST_USE;

/* value_cast.c: an SDK value to a value of an SQL type; bytes are borrowed. `what` names it in
 * errors. Errors: DATATYPE_MISMATCH, OUT_OF_RANGE, ENCODING. */
enum dbos_err dbos_value_convert(const struct dbos_value *value, enum dbos_type type,
                                 struct dbos_datum *out, struct dbos_errinfo *info) DBOS_MUST_USE;
static inline DBOS_MUST_USE enum dbos_err dbos_value_cast(const struct dbos_value *value,
                                                          enum dbos_type type,
                                                          struct dbos_datum *out,
                                                          struct dbos_errinfo *info) {
    bool is_int8 = type == DBOS_TYPE_INT8;
    bool is_int4 = type == DBOS_TYPE_INT4 && value->integer == (int32_t)value->integer;
    if (value->kind == DBOS_VALUE_INT && (is_int8 || is_int4)) { /* what most values are */
        *out = dbos_datum_int(type, value->integer);
        return DBOS_OK;
    }
    return dbos_value_convert(value, type, out, info);
}
struct dbos_value dbos_value_of(const struct dbos_datum *datum);
/* Could a value of one type ever be cast to the other? */
bool dbos_type_casts(enum dbos_type from, enum dbos_type to);

#endif /* DBOS_PROCS_PROCEDURE_INTERNAL_H */
