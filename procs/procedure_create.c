/* CREATE and DROP PROCEDURE: from a module's bytes to a definition, in one barrier transaction. */
#include <stdio.h>
#include <string.h>

#include "procs/procedure_internal.h"

/* -- the module's bytes ---------------------------------------------------------------------------
 */

static enum dbos_err read_open_file(struct dbos_procs *procs, int file, const char *path,
                                    struct dbos_module_bytes *out, struct dbos_errinfo *info) {
    const struct dbos_env_ops *ops = procs->env->ops;
    uint64_t size_bytes = 0;
    enum dbos_err err = ops->file_size(procs->env, file, &size_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (size_bytes == 0 || size_bytes > DBOS_MODULE_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_MODULE, "module \"%s\" is %s", path,
                         size_bytes == 0 ? "empty" : "over 64 MB");
    }
    out->data = dbos_take(procs->alloc, size_bytes);
    if (out->data == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory reading module \"%s\"", path);
    }
    err = ops->file_read(procs->env, file, 0, out->data, size_bytes, &out->size_bytes, info);
    if (err != DBOS_OK) {
        dbos_give(procs->alloc, out->data);
        return err;
    }
    out->hash = dbos_hash128(0, out->data, out->size_bytes);
    return DBOS_OK;
}

/* A relative path is looked for beside the programs first, then in the working directory. */
static enum dbos_err open_file(struct dbos_procs *procs, const char *path, int *out,
                               struct dbos_errinfo *info) {
    const struct dbos_env_ops *ops = procs->env->ops;
    if (path[0] != '/' && procs->module_dir[0] != '\0') {
        char full[1024];
        (void)snprintf(full, sizeof full, "%s/%s", procs->module_dir, path);
        if (ops->file_open(procs->env, full, DBOS_OPEN_READ, out, NULL) == DBOS_OK) {
            return DBOS_OK;
        }
    }
    struct dbos_errinfo why = {0};
    if (ops->file_open(procs->env, path, DBOS_OPEN_READ, out, &why) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "could not access file \"%s\": %s", path,
                         why.message);
    }
    return DBOS_OK;
}

static enum dbos_err read_file(struct dbos_procs *procs, const char *path,
                               struct dbos_module_bytes *out, struct dbos_errinfo *info) {
    int file = -1;
    enum dbos_err err = open_file(procs, path, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = read_open_file(procs, file, path, out, info);
    procs->env->ops->file_close(procs->env, file);
    return err;
}

static enum dbos_err get_module(struct dbos_procs *procs, const struct dbos_run *run,
                                const struct dbos_create_procedure *create,
                                struct dbos_module_bytes *out, struct dbos_errinfo *info) {
    memset(out, 0, sizeof *out);
    struct dbos_hash128 hash = create->info->module;
    if (create->file != NULL && strncmp(create->file, "dbos:", 5) != 0) {
        return read_file(procs, create->file, out, info);
    }
    if (create->file != NULL && !dbos_hash_parse(create->file + 5, &hash)) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FILE,
                         "\"%.64s\" is not dbos: and 32 hexadecimal digits", create->file);
    }
    return dbos_module_fetch(procs->alloc, dbos_module_table(run->txn), hash, 0, out, info);
}

/* -- create ---------------------------------------------------------------------------------------
 */

static enum dbos_err check_existing(const struct dbos_procs *procs,
                                    const struct dbos_create_procedure *create,
                                    const struct dbos_procedure_info *existing,
                                    struct dbos_errinfo *info) {
    const struct dbos_procedure_info *wanted = create->info;
    const char *kind = wanted->is_function ? "function" : "procedure";
    if (dbos_procs_builtin(procs, wanted->name) != NULL || (existing != NULL && !create->replace)) {
        return dbos_fail(info, DBOS_ERR_DUPLICATE_FUNCTION, "%s \"%s\" already exists", kind,
                         wanted->name);
    }
    if (existing != NULL && existing->is_function != wanted->is_function) {
        (void)dbos_fail(info, DBOS_ERR_WRONG_OBJECT_TYPE, "cannot change routine kind");
        dbos_err_detail(info, "\"%s\" is a %s.", wanted->name,
                        existing->is_function ? "function" : "procedure");
        return DBOS_ERR_WRONG_OBJECT_TYPE;
    }
    if (wanted->argument_count > DBOS_ARGUMENTS_MAX) {
        return dbos_fail(info, DBOS_ERR_TOO_MANY_ARGUMENTS, "%s \"%s\" has more than %d arguments",
                         kind, wanted->name, DBOS_ARGUMENTS_MAX);
    }
    return DBOS_OK;
}

/* The definition as it will be stored. */
static enum dbos_err define(struct dbos_procs *procs, const struct dbos_run *run,
                            const struct dbos_create_procedure *create,
                            const struct dbos_procedure_info *existing,
                            const struct dbos_module_bytes *bytes, struct dbos_procedure_info **out,
                            struct dbos_errinfo *info) {
    struct dbos_procedure_info parts = {
        .id = existing != NULL ? existing->id : dbos_txn_catalog(run->txn)->next_procedure_id,
        .version = existing != NULL ? existing->version + 1 : 1,
        .is_function = create->info->is_function,
        .returns = create->info->returns,
        .language = create->info->language,
        .argument_count = create->info->argument_count,
        .arguments = create->info->arguments,
        .symbol = create->info->symbol,
        .module = bytes->hash,
        .module_bytes = (uint32_t)bytes->size_bytes,
        .body = create->info->body,
        .route = create->info->route,
    };
    memcpy(parts.name, create->info->name, sizeof parts.name);
    if (dbos_procedure_info_make(procs->alloc, &parts, out) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory defining a procedure");
    }
    return DBOS_OK;
}

/* Store the definition first, then plan against the catalogue that has it. */
static enum dbos_err store_and_add(struct dbos_procs *procs, const struct dbos_run *run,
                                   struct dbos_procedure_info *definition,
                                   const struct dbos_loaded_module *module,
                                   struct dbos_errinfo *info) {
    enum dbos_err err = dbos_txn_put_procedure(run->txn, definition, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_procs_add(procs, dbos_txn_catalog(run->txn), definition, module, true, info);
    if (err != DBOS_OK) {
        return err;
    }
    return dbos_procs_replan(procs, dbos_txn_catalog(run->txn), info);
}

enum dbos_err dbos_procs_create(struct dbos_procs *procs, const struct dbos_run *run,
                                const struct dbos_create_procedure *create,
                                struct dbos_errinfo *info) {
    DBOS_CHECK(dbos_txn_partition(run->txn) == DBOS_PARTITION_ALL);
    const struct dbos_procedure_info *existing =
        dbos_catalog_procedure(dbos_txn_catalog(run->txn), create->info->name);
    enum dbos_err err = check_existing(procs, create, existing, info);
    struct dbos_module_bytes bytes = {0};
    const struct dbos_loaded_module *module = NULL;
    if (err == DBOS_OK && create->info->language == DBOS_LANGUAGE_C) {
        err = get_module(procs, run, create, &bytes, info);
        if (err == DBOS_OK) {
            err = dbos_procs_load_module(procs, &bytes, &module, info);
        }
        if (err == DBOS_OK) {
            err = dbos_module_store(run, &bytes, info);
        }
    }
    struct dbos_procedure_info *definition = NULL;
    if (err == DBOS_OK) {
        err = define(procs, run, create, existing, &bytes, &definition, info);
    }
    dbos_give(procs->alloc, bytes.data);
    if (err != DBOS_OK) {
        return err;
    }
    err = store_and_add(procs, run, definition, module, info);
    dbos_procedure_info_unref(definition);
    return err;
}

enum dbos_err dbos_procs_drop(struct dbos_procs *procs, const struct dbos_run *run,
                              const char *name, bool if_exists, struct dbos_errinfo *info) {
    const struct dbos_procedure_info *existing =
        dbos_catalog_procedure(dbos_txn_catalog(run->txn), name);
    if (dbos_procs_builtin(procs, name) != NULL) {
        return dbos_fail(info, DBOS_ERR_PRIVILEGE, "procedure \"%s\" is part of the server", name);
    }
    if (existing == NULL) {
        return if_exists ? DBOS_OK
                         : dbos_fail(info, DBOS_ERR_UNDEFINED_FUNCTION,
                                     "procedure \"%s\" does not exist", name);
    }
    enum dbos_err err = dbos_txn_drop_procedure(run->txn, existing->id, info);
    if (err != DBOS_OK) {
        return err;
    }
    return dbos_procs_replan(procs, dbos_txn_catalog(run->txn), info);
}
