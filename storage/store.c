#include "storage/store.h"

#include <pthread.h>
#include <stdio.h>

/* A table of the store: its allocator, and its parts, one for each partition (or one in all). */
struct dbos_store_table {
    struct dbos_alloc alloc; /* rows, directory and indexes of all parts */
    char name[2 * DBOS_NAME_BYTES];
    struct dbos_table_def *def; /* the present one */
    uint32_t part_count;
    struct dbos_table *parts[];
};

/* A DDL operation that can still be taken back. */
enum change_kind { CHANGE_CREATE, CHANGE_REDEFINE, CHANGE_PROCEDURE };
struct change {
    struct change *older;
    enum change_kind kind;
    struct dbos_catalog *back; /* the snapshot that undo brings back */
    struct dbos_store_table *table;
    struct dbos_table_change *parts; /* CHANGE_REDEFINE: one for each part of the table */
};

struct dbos_store {
    struct dbos_alloc *alloc;
    struct dbos_objects *objects;
    uint32_t partitions;
    uint32_t table_capacity;
    struct dbos_store_table **tables;       /* by id; NULL = no such table */
    _Atomic(struct dbos_catalog *) catalog; /* the newest; a transaction may still take it back */
    pthread_mutex_t mutex;                  /* of `published` */
    struct dbos_catalog *published;         /* the newest that is committed */
    _Atomic uint64_t published_version;
    bool tracks_ddl;
    struct change *changes; /* newest first */
};

static enum dbos_err fail_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

struct dbos_catalog *dbos_store_catalog(struct dbos_store *store) {
    return atomic_load_explicit(&store->catalog, memory_order_acquire);
}

struct dbos_catalog *dbos_store_catalog_ref(struct dbos_store *store) {
    DBOS_CHECK(pthread_mutex_lock(&store->mutex) == 0);
    struct dbos_catalog *catalog = dbos_catalog_ref(store->published);
    DBOS_CHECK(pthread_mutex_unlock(&store->mutex) == 0);
    return catalog;
}

uint64_t dbos_store_catalog_version(const struct dbos_store *store) {
    return atomic_load_explicit(&store->published_version, memory_order_acquire);
}

/* What stands now is committed: show it to everybody. */
static void publish(struct dbos_store *store) {
    DBOS_CHECK(pthread_mutex_lock(&store->mutex) == 0);
    struct dbos_catalog *before = store->published;
    store->published = dbos_catalog_ref(dbos_store_catalog(store));
    atomic_store_explicit(&store->published_version, store->published->version,
                          memory_order_release);
    DBOS_CHECK(pthread_mutex_unlock(&store->mutex) == 0);
    dbos_catalog_unref(before);
}

static uint32_t later(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* Before the partitions run: nobody else has the catalogue. */
void dbos_store_saw_ids(struct dbos_store *store, uint32_t next_table_id, uint32_t next_index_id,
                        uint32_t next_procedure_id) {
    struct dbos_catalog *catalog = dbos_store_catalog(store);
    catalog->next_table_id = later(catalog->next_table_id, next_table_id);
    catalog->next_index_id = later(catalog->next_index_id, next_index_id);
    catalog->next_procedure_id = later(catalog->next_procedure_id, next_procedure_id);
}

/* `fresh` is not shared yet: it gets the next version, and ids that were given out stay given out.
 */
static void replace_catalog_give(struct dbos_store *store, struct dbos_catalog *fresh) {
    struct dbos_catalog *before = dbos_store_catalog(store);
    fresh->version = before->version + 1;
    fresh->next_table_id = later(fresh->next_table_id, before->next_table_id);
    fresh->next_index_id = later(fresh->next_index_id, before->next_index_id);
    fresh->next_procedure_id = later(fresh->next_procedure_id, before->next_procedure_id);
    atomic_store_explicit(&store->catalog, fresh, memory_order_release);
    dbos_catalog_unref(before);
    if (!store->tracks_ddl) {
        publish(store);
    }
}

static void close_entry(struct dbos_store *store, struct dbos_store_table *entry) {
    if (entry == NULL) {
        return;
    }
    for (uint32_t i = 0; i < entry->part_count; i++) {
        dbos_table_close(entry->parts[i]);
    }
    dbos_table_def_unref(entry->def);
    dbos_alloc_fini(&entry->alloc);
    dbos_give(store->alloc, entry);
}

static enum dbos_err open_entry(struct dbos_store *store, struct dbos_table_def *def,
                                struct dbos_store_table **out) {
    uint32_t part_count = def->partition_column < 0 ? 1 : store->partitions;
    *out = NULL;
    struct dbos_store_table *entry =
        dbos_take_zero(store->alloc, sizeof *entry + part_count * sizeof(struct dbos_table *));
    if (entry == NULL) {
        return DBOS_ERR_NOMEM;
    }
    (void)snprintf(entry->name, sizeof entry->name, "%s.%s", def->schema, def->name);
    dbos_alloc_init(&entry->alloc, entry->name, 0);
    entry->alloc.regions = store->alloc->regions;
    entry->def = dbos_table_def_ref(def);
    while (entry->part_count < part_count) {
        enum dbos_err err = dbos_table_open(&entry->alloc, def, &entry->parts[entry->part_count]);
        if (err != DBOS_OK) {
            close_entry(store, entry);
            return err;
        }
        entry->part_count++;
    }
    *out = entry;
    return DBOS_OK;
}

/* Room in the array for a table id. */
static enum dbos_err reserve_id(struct dbos_store *store, uint32_t id) {
    if (id < store->table_capacity) {
        return DBOS_OK;
    }
    if (id >= UINT32_MAX / 2) {
        return DBOS_ERR_NOMEM;
    }
    uint32_t capacity = store->table_capacity < 128 ? 128 : store->table_capacity * 2;
    capacity = capacity > id ? capacity : id + 1;
    struct dbos_store_table **tables =
        dbos_retake(store->alloc, store->tables, capacity * sizeof(struct dbos_store_table *));
    if (tables == NULL) {
        return DBOS_ERR_NOMEM;
    }
    for (uint32_t i = store->table_capacity; i < capacity; i++) {
        tables[i] = NULL;
    }
    store->tables = tables;
    store->table_capacity = capacity;
    return DBOS_OK;
}

static struct dbos_store_table *entry_of(const struct dbos_store *store, uint32_t table_id) {
    return table_id < store->table_capacity ? store->tables[table_id] : NULL;
}

/* Tables of the first snapshot. */
static enum dbos_err open_system_tables(struct dbos_store *store) {
    const struct dbos_catalog *catalog = dbos_store_catalog(store);
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        struct dbos_table_def *def = catalog->tables[i];
        enum dbos_err err = reserve_id(store, def->id);
        if (err == DBOS_OK) {
            err = open_entry(store, def, &store->tables[def->id]);
        }
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_store_open(struct dbos_alloc *alloc, struct dbos_objects *objects,
                              uint32_t partitions, struct dbos_store **out) {
    DBOS_CHECK(partitions >= 1 && partitions <= DBOS_SLOTS);
    *out = NULL;
    struct dbos_store *store = dbos_take_zero(alloc, sizeof *store);
    if (store == NULL) {
        return DBOS_ERR_NOMEM;
    }
    struct dbos_catalog *catalog;
    if (dbos_catalog_open(alloc, &catalog) != DBOS_OK) {
        dbos_give(alloc, store);
        return DBOS_ERR_NOMEM;
    }
    store->alloc = alloc;
    store->objects = objects;
    store->partitions = partitions;
    atomic_init(&store->catalog, catalog);
    store->published = dbos_catalog_ref(catalog);
    atomic_init(&store->published_version, catalog->version);
    DBOS_CHECK(pthread_mutex_init(&store->mutex, NULL) == 0);
    enum dbos_err err = open_system_tables(store);
    if (err != DBOS_OK) {
        dbos_store_close(store);
        return err;
    }
    *out = store;
    return DBOS_OK;
}

void dbos_store_close(struct dbos_store *store) {
    if (store == NULL) {
        return;
    }
    dbos_store_keep_ddl(store);
    for (uint32_t i = 0; i < store->table_capacity; i++) {
        close_entry(store, store->tables[i]);
    }
    dbos_give(store->alloc, store->tables);
    dbos_catalog_unref(dbos_store_catalog(store));
    dbos_catalog_unref(store->published);
    DBOS_CHECK(pthread_mutex_destroy(&store->mutex) == 0);
    dbos_give(store->alloc, store);
}

uint32_t dbos_store_partitions(const struct dbos_store *store) { return store->partitions; }
struct dbos_objects *dbos_store_objects(struct dbos_store *store) {
    return store->objects;
}

uint32_t dbos_store_partition_of(const struct dbos_store *store, uint32_t slot) {
    return slot % store->partitions;
}

struct dbos_table *dbos_store_table(struct dbos_store *store, uint32_t table_id,
                                    uint32_t partition) {
    struct dbos_store_table *entry = entry_of(store, table_id);
    if (entry == NULL) {
        return NULL;
    }
    DBOS_CHECK(partition < store->partitions);
    return entry->parts[entry->part_count == 1 ? 0 : partition];
}

/* A record of what is about to happen, with the snapshot that takes it back. *out stays NULL where
 * nobody tracks. */
static enum dbos_err take_change(struct dbos_store *store, enum change_kind kind,
                                 struct change **out) {
    *out = NULL;
    if (!store->tracks_ddl) {
        return DBOS_OK;
    }
    struct change *change = dbos_take_zero(store->alloc, sizeof *change);
    if (change == NULL) {
        return DBOS_ERR_NOMEM;
    }
    change->kind = kind;
    if (dbos_catalog_copy(dbos_store_catalog(store), &change->back) != DBOS_OK) {
        dbos_give(store->alloc, change);
        return DBOS_ERR_NOMEM;
    }
    *out = change;
    return DBOS_OK;
}

/* `change` may be NULL. */
static void keep_change_give(struct dbos_store *store, struct change *change) {
    if (change != NULL) {
        change->older = store->changes;
        store->changes = change;
    }
}

static void forget_change_give(struct dbos_store *store, struct change *change) {
    if (change == NULL) {
        return;
    }
    if (change->parts != NULL) {
        for (uint32_t i = 0; i < change->table->part_count; i++) {
            dbos_table_forget_change(change->table->parts[i], &change->parts[i]);
        }
        dbos_give(store->alloc, change->parts);
    }
    dbos_catalog_unref(change->back);
    dbos_give(store->alloc, change);
}

static enum dbos_err check_names(struct dbos_store *store, const struct dbos_table_def *def,
                                 struct dbos_errinfo *info) {
    const struct dbos_catalog *catalog = dbos_store_catalog(store);
    if (dbos_catalog_table(catalog, def->schema, def->name) != NULL ||
        entry_of(store, def->id) != NULL) {
        return dbos_fail(info, DBOS_ERR_DUPLICATE_TABLE, "relation \"%s\" already exists",
                         def->name);
    }
    for (uint32_t i = 0; i < def->index_count; i++) {
        uint32_t position;
        if (dbos_catalog_index(catalog, def->schema, def->indexes[i].name, &position) != NULL) {
            return dbos_fail(info, DBOS_ERR_DUPLICATE_TABLE, "relation \"%s\" already exists",
                             def->indexes[i].name);
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_store_create_table(struct dbos_store *store, struct dbos_table_def *def,
                                      struct dbos_errinfo *info) {
    struct change *change = NULL;
    struct dbos_store_table *entry = NULL;
    struct dbos_catalog *fresh = NULL;
    enum dbos_err err = check_names(store, def, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = take_change(store, CHANGE_CREATE, &change);
    if (err == DBOS_OK) {
        err = reserve_id(store, def->id);
    }
    if (err == DBOS_OK) {
        err = open_entry(store, def, &entry);
    }
    if (err == DBOS_OK) {
        err = dbos_catalog_with_table(dbos_store_catalog(store), def, &fresh);
    }
    if (err != DBOS_OK) {
        forget_change_give(store, change);
        close_entry(store, entry);
        return fail_memory(info);
    }
    if (change != NULL) {
        change->table = entry;
    }
    keep_change_give(store, change);
    store->tables[def->id] = entry;
    replace_catalog_give(store, fresh);
    return DBOS_OK;
}

enum dbos_err dbos_store_drop_table(struct dbos_store *store, uint32_t table_id,
                                    struct dbos_dropped_table *out, struct dbos_errinfo *info) {
    struct dbos_store_table *entry = entry_of(store, table_id);
    struct dbos_catalog *fresh;
    *out = (struct dbos_dropped_table){0};
    if (entry == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_TABLE, "table %u does not exist", table_id);
    }
    if (dbos_catalog_copy(dbos_store_catalog(store), &out->back) != DBOS_OK) {
        return fail_memory(info);
    }
    if (dbos_catalog_without_table(dbos_store_catalog(store), table_id, &fresh) != DBOS_OK) {
        dbos_catalog_unref(out->back);
        out->back = NULL;
        return fail_memory(info);
    }
    out->def = entry->def;
    out->parts = entry->parts;
    out->part_count = entry->part_count;
    out->entry = entry;
    store->tables[table_id] = NULL;
    replace_catalog_give(store, fresh);
    return DBOS_OK;
}

void dbos_store_undrop_table(struct dbos_store *store, struct dbos_dropped_table *dropped) {
    DBOS_CHECK(entry_of(store, dropped->def->id) == NULL);
    store->tables[dropped->def->id] = dropped->entry;
    replace_catalog_give(store, dropped->back);
    *dropped = (struct dbos_dropped_table){0};
}

void dbos_store_forget_table(struct dbos_store *store, struct dbos_dropped_table *dropped) {
    dbos_store_keep_ddl(store); /* earlier changes may be of this table */
    dbos_catalog_unref(dropped->back);
    close_entry(store, dropped->entry);
    *dropped = (struct dbos_dropped_table){0};
}

/* Builds what is new for every part; on error nothing is left. */
static enum dbos_err prepare_parts(struct dbos_store *store, struct dbos_store_table *entry,
                                   struct dbos_table_def *def, struct dbos_table_change **out,
                                   struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_table_change *parts =
        dbos_take_zero(store->alloc, entry->part_count * sizeof *parts);
    if (parts == NULL) {
        return fail_memory(info);
    }
    for (uint32_t i = 0; i < entry->part_count; i++) {
        enum dbos_err err = dbos_table_prepare(entry->parts[i], def, &parts[i], info);
        if (err != DBOS_OK) {
            for (uint32_t j = 0; j < i; j++) {
                dbos_table_forget_change(entry->parts[j], &parts[j]);
            }
            dbos_give(store->alloc, parts);
            return err;
        }
    }
    *out = parts;
    return DBOS_OK;
}

/* The parts go over to the definition that they were prepared for; `parts` has the old one then. */
static void exchange_parts(struct dbos_store_table *entry, struct dbos_table_change *parts) {
    for (uint32_t i = 0; i < entry->part_count; i++) {
        dbos_table_exchange(entry->parts[i], &parts[i]);
    }
    struct dbos_table_def *before = entry->def;
    entry->def = dbos_table_def_ref(dbos_table_def_of(entry->parts[0]));
    dbos_table_def_unref(before);
}

static void forget_parts_give(struct dbos_store *store, struct dbos_store_table *entry,
                              struct dbos_table_change *parts) {
    for (uint32_t i = 0; i < entry->part_count; i++) {
        dbos_table_forget_change(entry->parts[i], &parts[i]);
    }
    dbos_give(store->alloc, parts);
}

enum dbos_err dbos_store_redefine_table(struct dbos_store *store, struct dbos_table_def *def,
                                        struct dbos_errinfo *info) {
    struct dbos_store_table *entry = entry_of(store, def->id);
    if (entry == NULL) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_TABLE, "relation \"%s\" does not exist",
                         def->name);
    }
    struct change *change = NULL;
    struct dbos_catalog *fresh = NULL;
    struct dbos_table_change *parts = NULL;
    if (take_change(store, CHANGE_REDEFINE, &change) != DBOS_OK) {
        return fail_memory(info);
    }
    if (dbos_catalog_with_table(dbos_store_catalog(store), def, &fresh) != DBOS_OK) {
        forget_change_give(store, change);
        return fail_memory(info);
    }
    enum dbos_err err = prepare_parts(store, entry, def, &parts, info);
    if (err != DBOS_OK) {
        dbos_catalog_unref(fresh);
        forget_change_give(store, change);
        return err;
    }
    exchange_parts(entry, parts);
    if (change != NULL) {
        change->table = entry;
        change->parts = parts;
        keep_change_give(store, change);
    } else {
        forget_parts_give(store, entry, parts);
    }
    replace_catalog_give(store, fresh);
    return DBOS_OK;
}

enum dbos_err dbos_store_put_procedure(struct dbos_store *store,
                                       struct dbos_procedure_info *procedure) {
    struct change *change;
    struct dbos_catalog *fresh;
    enum dbos_err err = take_change(store, CHANGE_PROCEDURE, &change);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_catalog_with_procedure(dbos_store_catalog(store), procedure, &fresh);
    if (err != DBOS_OK) {
        forget_change_give(store, change);
        return err;
    }
    keep_change_give(store, change);
    replace_catalog_give(store, fresh);
    return DBOS_OK;
}

enum dbos_err dbos_store_drop_procedure(struct dbos_store *store, uint32_t id) {
    struct change *change;
    struct dbos_catalog *fresh;
    if (dbos_catalog_procedure_by_id(dbos_store_catalog(store), id) == NULL) {
        return DBOS_ERR_UNDEFINED_FUNCTION;
    }
    enum dbos_err err = take_change(store, CHANGE_PROCEDURE, &change);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_catalog_without_procedure(dbos_store_catalog(store), id, &fresh);
    if (err != DBOS_OK) {
        forget_change_give(store, change);
        return err;
    }
    keep_change_give(store, change);
    replace_catalog_give(store, fresh);
    return DBOS_OK;
}

void dbos_store_track_ddl(struct dbos_store *store) { store->tracks_ddl = true; }

void dbos_store_undo_ddl(struct dbos_store *store) {
    struct change *change = store->changes;
    DBOS_CHECK(change != NULL);
    store->changes = change->older;
    struct dbos_catalog *back = change->back;
    change->back = NULL;
    switch (change->kind) {
    case CHANGE_CREATE:
        store->tables[change->table->def->id] = NULL;
        close_entry(store, change->table);
        break;
    case CHANGE_REDEFINE:
        exchange_parts(change->table, change->parts);
        break;
    case CHANGE_PROCEDURE:
        break;
    }
    forget_change_give(store, change);
    replace_catalog_give(store, back);
}

void dbos_store_keep_ddl(struct dbos_store *store) {
    while (store->changes != NULL) {
        struct change *change = store->changes;
        store->changes = change->older;
        forget_change_give(store, change);
    }
    if (store->tracks_ddl) {
        store->tracks_ddl = false;
        publish(store);
    }
}

uint64_t dbos_store_state_hash(struct dbos_store *store) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < store->table_capacity; i++) {
        const struct dbos_store_table *entry = store->tables[i];
        for (uint32_t j = 0; entry != NULL && j < entry->part_count; j++) {
            sum += dbos_table_state_hash(entry->parts[j]);
        }
    }
    return sum;
}

void dbos_store_each_memory(struct dbos_store *store,
                            void (*each)(void *arg, const char *name, uint64_t bytes,
                                         uint64_t rows),
                            void *arg) {
    each(arg, store->alloc->name, atomic_load(&store->alloc->bytes), 0);
    for (uint32_t i = 0; i < store->table_capacity; i++) {
        struct dbos_store_table *entry = store->tables[i];
        if (entry == NULL) {
            continue;
        }
        uint64_t rows = 0;
        for (uint32_t j = 0; j < entry->part_count; j++) {
            rows += dbos_table_row_count(entry->parts[j]);
        }
        each(arg, entry->name, atomic_load(&entry->alloc.bytes), rows);
    }
}

void dbos_store_each_table(struct dbos_store *store,
                           void (*each)(void *arg, const struct dbos_table_facts *facts),
                           void *arg) {
    for (uint32_t i = 0; i < store->table_capacity; i++) {
        const struct dbos_store_table *entry = store->tables[i];
        if (entry == NULL) {
            continue;
        }
        struct dbos_table_facts facts = {.def = entry->def,
                                         .parts = entry->part_count,
                                         .bytes = atomic_load(&entry->alloc.bytes)};
        for (uint32_t j = 0; j < entry->part_count; j++) {
            facts.rows += dbos_table_row_count(entry->parts[j]);
            for (uint32_t k = 0; k < entry->def->index_count; k++) {
                facts.index_bytes[k] += dbos_table_index_bytes(entry->parts[j], k);
            }
        }
        each(arg, &facts);
    }
}
