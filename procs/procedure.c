#include "procs/procedure.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "procs/deaths.h"

/* -- open and close -------------------------------------------------------------------------------
 */

/* <program>/../lib/dbos: where example modules are found by their bare name. */
static void find_module_dir(struct dbos_procs *procs) {
    char path[400];
    ssize_t length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0) {
        return;
    }
    path[length] = '\0';
    char *slash = strrchr(path, '/');
    if (slash != NULL) {
        *slash = '\0';
        (void)snprintf(procs->module_dir, sizeof procs->module_dir, "%s/../lib/dbos", path);
    }
}

enum dbos_err dbos_procs_open(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                              struct dbos_procs **out) {
    *out = NULL;
    struct dbos_procs *procs = dbos_take_zero(alloc, sizeof *procs);
    if (procs == NULL) {
        return DBOS_ERR_NOMEM;
    }
    procs->alloc = alloc;
    procs->env = env;
    if (data_dir != NULL) {
        (void)snprintf(procs->data_dir, sizeof procs->data_dir, "%s", data_dir);
        (void)snprintf(procs->crash_path, sizeof procs->crash_path, "%s/" DBOS_DEATHS_FILE,
                       procs->data_dir);
    }
    find_module_dir(procs);
    if (dbos_builtins_add(procs) != DBOS_OK) {
        dbos_procs_close(procs);
        return DBOS_ERR_NOMEM;
    }
    *out = procs;
    return DBOS_OK;
}

static void close_handle(struct dbos_procedure_handle *handle) {
    struct dbos_alloc *alloc = handle->procs->alloc;
    dbos_plan_set_close(alloc, handle->plans);
    dbos_plan_set_close(alloc, handle->next);
    for (uint32_t i = 0; i < handle->script_count; i++) {
        if (handle->scripts[i] != NULL) {
            dbos_script_close(handle->scripts[i]);
        }
    }
    dbos_give(alloc, handle->scripts);
    dbos_procedure_info_unref(handle->info);
    dbos_give(alloc, handle);
}

static void close_handles(struct dbos_procedure_handle *first) {
    while (first != NULL) {
        struct dbos_procedure_handle *handle = first;
        first = handle->all;
        close_handle(handle);
    }
}

void dbos_procs_close(struct dbos_procs *procs) {
    if (procs == NULL) {
        return;
    }
    close_handles(procs->all);
    close_handles(procs->builtins);
    while (procs->modules != NULL) {
        struct dbos_loaded_module *module = procs->modules;
        procs->modules = module->next;
        dbos_module_close(module->module);
        dbos_give(procs->alloc, module);
    }
    dbos_give(procs->alloc, procs);
}

/* -- the table of handles -------------------------------------------------------------------------
 */

static _Atomic(struct dbos_procedure_handle *) *bucket_of(struct dbos_procs *procs, uint32_t id,
                                                          uint32_t version) {
    uint64_t key = dbos_mix64(((uint64_t)id << 32) | version);
    return &procs->buckets[key % DBOS_PROCS_BUCKETS];
}

struct dbos_procedure_handle *dbos_procs_find(struct dbos_procs *procs, uint32_t id,
                                              uint32_t version) {
    struct dbos_procedure_handle *handle =
        atomic_load_explicit(bucket_of(procs, id, version), memory_order_acquire);
    while (handle != NULL && (handle->info->id != id || handle->info->version != version)) {
        handle = atomic_load_explicit(&handle->chain, memory_order_acquire);
    }
    return handle;
}

void dbos_procs_link(struct dbos_procedure_handle *handle) {
    _Atomic(struct dbos_procedure_handle *) *bucket =
        bucket_of(handle->procs, handle->info->id, handle->info->version);
    atomic_store_explicit(&handle->chain, atomic_load(bucket), memory_order_relaxed);
    atomic_store_explicit(bucket, handle, memory_order_release);
}

/* Out of the bucket; a reader that stands on it still finds its way on. */
static void unlink_handle(struct dbos_procedure_handle *handle) {
    _Atomic(struct dbos_procedure_handle *) *link =
        bucket_of(handle->procs, handle->info->id, handle->info->version);
    struct dbos_procedure_handle *at = atomic_load(link);
    while (at != NULL && at != handle) {
        link = &at->chain;
        at = atomic_load(link);
    }
    if (at != NULL) {
        atomic_store_explicit(link, atomic_load(&handle->chain), memory_order_release);
    }
}

const struct dbos_procedure_info *
dbos_procedure_info_of(const struct dbos_procedure_handle *procedure) {
    return procedure->info;
}

bool dbos_procedure_route(const struct dbos_procedure_handle *procedure, uint32_t *out_table,
                          uint32_t *out_argument) {
    uint64_t route = atomic_load_explicit(&procedure->route, memory_order_acquire);
    *out_table = (uint32_t)(route >> 32);
    *out_argument = route == 0 ? 0 : (uint32_t)route - 1;
    return route != 0;
}

bool dbos_procedure_reads_only(const struct dbos_procedure_handle *procedure) {
    return atomic_load_explicit(&procedure->read_only, memory_order_acquire);
}

/* -- loading --------------------------------------------------------------------------------------
 */

enum dbos_err dbos_procs_load_module(struct dbos_procs *procs,
                                     const struct dbos_module_bytes *bytes,
                                     const struct dbos_loaded_module **out,
                                     struct dbos_errinfo *info) {
    *out = NULL;
    for (struct dbos_loaded_module *m = procs->modules; m != NULL; m = m->next) {
        if (m->hash.high == bytes->hash.high && m->hash.low == bytes->hash.low) {
            *out = m;
            return DBOS_OK;
        }
    }
    struct dbos_loaded_module *module = dbos_take_zero(procs->alloc, sizeof *module);
    if (module == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory loading a module");
    }
    module->hash = bytes->hash;
    enum dbos_err err = dbos_module_check(bytes->data, bytes->size_bytes, &module->facts, info);
    if (err == DBOS_OK) {
        err = dbos_module_open(procs->alloc, bytes->data, bytes->size_bytes, &module->module, info);
    }
    if (err != DBOS_OK) {
        dbos_give(procs->alloc, module);
        return err;
    }
    module->next = procs->modules;
    procs->modules = module;
    *out = module;
    return DBOS_OK;
}

static void use_plans(struct dbos_procedure_handle *handle, struct dbos_plan_set *set) {
    dbos_plan_set_close(handle->procs->alloc, handle->plans);
    handle->plans = set;
    atomic_store_explicit(&handle->route, set == NULL ? 0 : set->route, memory_order_release);
    atomic_store_explicit(&handle->read_only, set != NULL && set->read_only && !handle->uses_tasks,
                          memory_order_release);
}

enum dbos_err dbos_procs_add(struct dbos_procs *procs, struct dbos_catalog *catalog,
                             struct dbos_procedure_info *info,
                             const struct dbos_loaded_module *module, bool pending,
                             struct dbos_errinfo *info_out) {
    struct dbos_procedure_handle *handle = dbos_take_zero(procs->alloc, sizeof *handle);
    if (handle == NULL) {
        return dbos_fail(info_out, DBOS_ERR_NOMEM, "out of memory loading a procedure");
    }
    handle->procs = procs;
    handle->info = dbos_procedure_info_ref(info);
    handle->pending = pending;
    enum dbos_err err = DBOS_OK;
    if (module != NULL) {
        handle->uses_tasks = module->facts.uses_tasks;
        handle->text = dbos_module_text(module->module);
        err = dbos_module_procedure(module->module, info->symbol, &handle->code, info_out);
    }
    struct dbos_plan_set *set = NULL;
    if (err == DBOS_OK) {
        err = dbos_handle_parse(handle, info_out);
    }
    if (err == DBOS_OK) {
        err = dbos_handle_plan(handle, catalog, &set, info_out);
    }
    if (err != DBOS_OK) {
        close_handle(handle);
        return err;
    }
    use_plans(handle, set);
    handle->all = procs->all;
    procs->all = handle;
    dbos_procs_link(handle);
    return DBOS_OK;
}

static enum dbos_err load_one(struct dbos_procs *procs, struct dbos_store *store,
                              struct dbos_catalog *catalog, struct dbos_procedure_info *info,
                              struct dbos_errinfo *error) {
    const struct dbos_loaded_module *module = NULL;
    if (info->language == DBOS_LANGUAGE_C) {
        struct dbos_module_bytes bytes;
        enum dbos_err err =
            dbos_module_fetch(procs->alloc, dbos_store_table(store, DBOS_TABLE_MODULE_CHUNK, 0),
                              info->module, info->module_bytes, &bytes, error);
        if (err == DBOS_OK) {
            err = dbos_procs_load_module(procs, &bytes, &module, error);
            dbos_give(procs->alloc, bytes.data);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
    return dbos_procs_add(procs, catalog, info, module, false, error);
}

enum dbos_err dbos_procs_load_all(struct dbos_procs *procs, struct dbos_store *store,
                                  struct dbos_errinfo *info) {
    struct dbos_catalog *catalog = dbos_store_catalog(store);
    procs->store = store;
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        struct dbos_procedure_info *procedure = catalog->procedures[i];
        struct dbos_errinfo why = {0};
        enum dbos_err err = dbos_procs_find(procs, procedure->id, procedure->version) != NULL
                                ? DBOS_OK
                                : load_one(procs, store, catalog, procedure, &why);
        if (err != DBOS_OK) {
            return dbos_fail(info, err == DBOS_ERR_NOMEM ? err : DBOS_ERR_MODULE,
                             "procedure \"%s\" version %u does not load: %s", procedure->name,
                             procedure->version, why.message);
        }
    }
    return dbos_deaths_read(procs, info);
}

enum dbos_err dbos_procs_follow(struct dbos_procs *procs, struct dbos_errinfo *info) {
    enum dbos_err err = dbos_procs_load_all(procs, procs->store, info);
    if (err == DBOS_OK) {
        err = dbos_procs_replan(procs, dbos_store_catalog(procs->store), info);
    }
    if (err == DBOS_OK) {
        dbos_procs_committed(procs);
    }
    return err;
}

/* -- the barrier transaction ----------------------------------------------------------------------
 */

static bool is_current(const struct dbos_procedure_handle *handle,
                       const struct dbos_catalog *catalog) {
    const struct dbos_procedure_info *info =
        dbos_catalog_procedure_by_id(catalog, handle->info->id);
    return info != NULL && info->version == handle->info->version;
}

static void drop_next(struct dbos_procedure_handle *handle) {
    dbos_plan_set_close(handle->procs->alloc, handle->next);
    handle->next = NULL;
    handle->next_version = 0;
}

static bool is_planned_for(const struct dbos_procedure_handle *handle, uint64_t version) {
    if (handle->next_version != 0) {
        return handle->next_version == version;
    }
    return handle->plans != NULL && handle->plans->catalog_version == version;
}

static enum dbos_err replan(struct dbos_procedure_handle *handle, struct dbos_catalog *catalog,
                            struct dbos_errinfo *info) {
    struct dbos_errinfo why = {0};
    drop_next(handle);
    enum dbos_err err = dbos_handle_plan(handle, catalog, &handle->next, &why);
    if (err == DBOS_ERR_NOMEM) {
        return dbos_fail(info, err, "%s", why.message);
    }
    if (err != DBOS_OK && is_current(handle, catalog)) {
        (void)dbos_fail(info, DBOS_ERR_DEPENDENT_OBJECTS,
                        "procedure \"%s\" depends on what would change", handle->info->name);
        dbos_err_detail(info, "%s", why.message);
        dbos_err_hint(info, "Drop or replace procedure \"%s\" first.", handle->info->name);
        return DBOS_ERR_DEPENDENT_OBJECTS;
    }
    /* Where it failed it is a version that was replaced or dropped: only a task may still ask for
     * it.
     */
    handle->next_version = catalog->version;
    return DBOS_OK;
}

enum dbos_err dbos_procs_replan(struct dbos_procs *procs, struct dbos_catalog *catalog,
                                struct dbos_errinfo *info) {
    for (struct dbos_procedure_handle *handle = procs->all; handle != NULL; handle = handle->all) {
        if (handle->dead || is_planned_for(handle, catalog->version)) {
            continue;
        }
        enum dbos_err err = replan(handle, catalog, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

void dbos_procs_committed(struct dbos_procs *procs) {
    for (struct dbos_procedure_handle *handle = procs->all; handle != NULL; handle = handle->all) {
        if (handle->next_version != 0) {
            use_plans(handle, handle->next);
            handle->next = NULL;
            handle->next_version = 0;
        }
        handle->pending = false;
    }
}

/* The catalogue is again what the plans were made for, but it has a new version. This must not need
 * memory: what could be called before a transaction that fails can be called after it. */
static void follow(struct dbos_plan_set *set, struct dbos_catalog *catalog) {
    for (uint32_t i = 0; i < set->count; i++) {
        dbos_plan_follow(set->plans[i], catalog);
    }
    set->catalog_version = catalog->version;
}

void dbos_procs_aborted(struct dbos_procs *procs) {
    struct dbos_catalog *catalog = procs->store == NULL ? NULL : dbos_store_catalog(procs->store);
    for (struct dbos_procedure_handle *handle = procs->all; handle != NULL; handle = handle->all) {
        drop_next(handle);
        if (handle->pending) {
            unlink_handle(handle);
            use_plans(handle, NULL);
            handle->pending = false;
            handle->dead = true;
        } else if (!handle->dead && catalog != NULL && handle->plans != NULL &&
                   handle->plans->catalog_version != catalog->version) {
            follow(handle->plans, catalog);
        }
    }
}
