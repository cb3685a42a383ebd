/* Procedures that are part of the server. They have ids below those of users' procedures and stand
 * in no catalogue. */
#include <stdio.h>
#include <string.h>

#include "procs/procedure_internal.h"

enum { BUILTIN_MODULE_PUT = 1 };

/* CALL dbos_module_put(hash, chunk, bytes): one chunk of a module, under the content hash of the
 * whole (32 hexadecimal digits). CREATE … AS 'dbos:<hash>' proves the hash. */
static enum dbos_err module_put(const struct dbos_run *run, const struct dbos_datum *arguments,
                                struct dbos_errinfo *info) {
    struct dbos_hash128 hash;
    char text[33] = "";
    if (arguments[0].is_null || arguments[1].is_null || arguments[2].is_null) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "dbos_module_put takes no NULL");
    }
    if (arguments[0].bytes.size_bytes == 32) {
        memcpy(text, arguments[0].bytes.data, 32);
    }
    if (!dbos_hash_parse(text, &hash)) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "a module's hash is 32 hexadecimal digits");
    }
    int64_t chunk = arguments[1].integer;
    if (chunk < 0 || chunk >= DBOS_MODULE_BYTES_MAX / DBOS_MODULE_CHUNK_BYTES ||
        arguments[2].bytes.size_bytes == 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "a module has at most %d chunks, none of them empty",
                         DBOS_MODULE_BYTES_MAX / DBOS_MODULE_CHUNK_BYTES);
    }
    static const char statement[] = "CALL dbos_module_put($1, $2, $3)";
    dbos_txn_statement(run->txn, dbos_hash64(0, statement, sizeof statement - 1), statement);
    return dbos_module_store_chunk(run, hash, (uint32_t)chunk, arguments[2].bytes, info);
}

static enum dbos_err add(struct dbos_procs *procs, const struct dbos_procedure_info *parts,
                         dbos_builtin_function *function) {
    struct dbos_procedure_handle *handle = dbos_take_zero(procs->alloc, sizeof *handle);
    if (handle == NULL) {
        return DBOS_ERR_NOMEM;
    }
    if (dbos_procedure_info_make(procs->alloc, parts, &handle->info) != DBOS_OK) {
        dbos_give(procs->alloc, handle);
        return DBOS_ERR_NOMEM;
    }
    handle->procs = procs;
    handle->builtin = function;
    handle->all = procs->builtins;
    procs->builtins = handle;
    dbos_procs_link(handle);
    return DBOS_OK;
}

enum dbos_err dbos_builtins_add(struct dbos_procs *procs) {
    struct dbos_argument arguments[] = {
        {.name = "hash", .type = DBOS_TYPE_TEXT},
        {.name = "chunk", .type = DBOS_TYPE_INT4},
        {.name = "bytes", .type = DBOS_TYPE_BYTEA},
    };
    struct dbos_procedure_info parts = {
        .id = BUILTIN_MODULE_PUT,
        .version = 1,
        .name = "dbos_module_put",
        .returns = DBOS_TYPE_VOID,
        .language = DBOS_LANGUAGE_C,
        .argument_count = 3,
        .arguments = arguments,
        .symbol = "dbos_module_put",
    };
    return add(procs, &parts, module_put);
}

const struct dbos_procedure_info *dbos_procs_builtin(const struct dbos_procs *procs,
                                                     const char *name) {
    for (const struct dbos_procedure_handle *at = procs->builtins; at != NULL; at = at->all) {
        if (strcmp(at->info->name, name) == 0) {
            return at->info;
        }
    }
    return NULL;
}
