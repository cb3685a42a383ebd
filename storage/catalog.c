#include "storage/catalog.h"

#include "storage/catalog_system.h"

enum { FIRST_USER_INDEX = 100, FIRST_USER_PROCEDURE = 100 };

/* A snapshot is one block: the struct, then both arrays of pointers. */
static struct dbos_catalog *take_snapshot(struct dbos_alloc *alloc, uint32_t table_count,
                                          uint32_t procedure_count) {
    size_t pointers = (size_t)table_count + procedure_count;
    struct dbos_catalog *catalog =
        dbos_take_zero(alloc, sizeof *catalog + pointers * sizeof(void *));
    if (catalog == NULL) {
        return NULL;
    }
    atomic_init(&catalog->refs, 1);
    catalog->alloc = alloc;
    catalog->tables = (struct dbos_table_def **)(catalog + 1);
    catalog->procedures = (struct dbos_procedure_info **)(catalog->tables + table_count);
    return catalog;
}

/* References to everything that is in the arrays so far. */
static void give_snapshot(struct dbos_catalog *catalog) {
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        dbos_table_def_unref(catalog->tables[i]);
    }
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        dbos_procedure_info_unref(catalog->procedures[i]);
    }
    dbos_give(catalog->alloc, catalog);
}

enum dbos_err dbos_catalog_open(struct dbos_alloc *alloc, struct dbos_catalog **out) {
    *out = NULL;
    struct dbos_catalog *catalog = take_snapshot(alloc, DBOS_SYSTEM_TABLES, 0);
    if (catalog == NULL) {
        return DBOS_ERR_NOMEM;
    }
    catalog->version = 1;
    catalog->next_table_id = DBOS_TABLE_FIRST_USER;
    catalog->next_index_id = FIRST_USER_INDEX;
    catalog->next_procedure_id = FIRST_USER_PROCEDURE;
    while (catalog->table_count < DBOS_SYSTEM_TABLES) {
        enum dbos_err err = dbos_catalog_system_table(alloc, catalog->table_count,
                                                      &catalog->tables[catalog->table_count]);
        if (err != DBOS_OK) {
            give_snapshot(catalog);
            return err;
        }
        catalog->table_count++;
    }
    *out = catalog;
    return DBOS_OK;
}

struct dbos_catalog *dbos_catalog_ref(struct dbos_catalog *catalog) {
    DBOS_CHECK(atomic_fetch_add_explicit(&catalog->refs, 1, memory_order_relaxed) != 0);
    return catalog;
}

void dbos_catalog_unref(struct dbos_catalog *catalog) {
    if (catalog != NULL &&
        atomic_fetch_sub_explicit(&catalog->refs, 1, memory_order_acq_rel) == 1) {
        give_snapshot(catalog);
    }
}

static struct dbos_table_def *table_in_schema(const struct dbos_catalog *catalog,
                                              const char *schema, const char *name) {
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        struct dbos_table_def *def = catalog->tables[i];
        if (strcmp(def->name, name) == 0 && strcmp(def->schema, schema) == 0) {
            return def;
        }
    }
    return NULL;
}

struct dbos_table_def *dbos_catalog_table(const struct dbos_catalog *catalog, const char *schema,
                                          const char *name) {
    if (schema != NULL) {
        return table_in_schema(catalog, schema, name);
    }
    struct dbos_table_def *def = table_in_schema(catalog, "public", name);
    return def != NULL ? def : table_in_schema(catalog, "dbos", name);
}

/* Position of the first table whose id is not below `id`; the arrays are ascending by id. */
static uint32_t table_position(const struct dbos_catalog *catalog, uint32_t id) {
    uint32_t low = 0;
    uint32_t high = catalog->table_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (catalog->tables[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static uint32_t procedure_position(const struct dbos_catalog *catalog, uint32_t id) {
    uint32_t low = 0;
    uint32_t high = catalog->procedure_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (catalog->procedures[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

struct dbos_table_def *dbos_catalog_table_by_id(const struct dbos_catalog *catalog, uint32_t id) {
    uint32_t at = table_position(catalog, id);
    bool found = at < catalog->table_count && catalog->tables[at]->id == id;
    return found ? catalog->tables[at] : NULL;
}

struct dbos_procedure_info *dbos_catalog_procedure(const struct dbos_catalog *catalog,
                                                   const char *name) {
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        if (strcmp(catalog->procedures[i]->name, name) == 0) {
            return catalog->procedures[i];
        }
    }
    return NULL;
}

struct dbos_procedure_info *dbos_catalog_procedure_by_id(const struct dbos_catalog *catalog,
                                                         uint32_t id) {
    uint32_t at = procedure_position(catalog, id);
    bool found = at < catalog->procedure_count && catalog->procedures[at]->id == id;
    return found ? catalog->procedures[at] : NULL;
}

static struct dbos_table_def *index_in_schema(const struct dbos_catalog *catalog,
                                              const char *schema, const char *name,
                                              uint32_t *out_index) {
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        struct dbos_table_def *def = catalog->tables[i];
        bool is_there = strcmp(def->schema, schema) == 0;
        for (uint32_t j = 0; is_there && j < def->index_count; j++) {
            if (strcmp(def->indexes[j].name, name) == 0) {
                *out_index = j;
                return def;
            }
        }
    }
    *out_index = 0;
    return NULL;
}

struct dbos_table_def *dbos_catalog_index(const struct dbos_catalog *catalog, const char *schema,
                                          const char *name, uint32_t *out_index) {
    if (schema != NULL) {
        return index_in_schema(catalog, schema, name, out_index);
    }
    struct dbos_table_def *def = index_in_schema(catalog, "public", name, out_index);
    return def != NULL ? def : index_in_schema(catalog, "dbos", name, out_index);
}

static uint32_t later(uint32_t a, uint32_t b) { return a > b ? a : b; }

/* One change: what stands at `at` of one of the arrays is replaced, taken out, or put before. */
struct change {
    struct dbos_table_def *table;          /* that comes in; NULL = none */
    struct dbos_procedure_info *procedure; /* that comes in; NULL = none */
    uint32_t table_at;
    uint32_t tables_out; /* 0 or 1 */
    uint32_t procedure_at;
    uint32_t procedures_out;
};

static void copy_tables(const struct dbos_catalog *from, const struct change *change,
                        struct dbos_catalog *to) {
    for (uint32_t i = 0; i <= from->table_count; i++) {
        if (i == change->table_at && change->table != NULL) {
            to->tables[to->table_count++] = dbos_table_def_ref(change->table);
        }
        bool out = i == change->table_at && change->tables_out != 0;
        if (i < from->table_count && !out) {
            to->tables[to->table_count++] = dbos_table_def_ref(from->tables[i]);
        }
    }
}

static void copy_procedures(const struct dbos_catalog *from, const struct change *change,
                            struct dbos_catalog *to) {
    for (uint32_t i = 0; i <= from->procedure_count; i++) {
        if (i == change->procedure_at && change->procedure != NULL) {
            to->procedures[to->procedure_count++] = dbos_procedure_info_ref(change->procedure);
        }
        bool out = i == change->procedure_at && change->procedures_out != 0;
        if (i < from->procedure_count && !out) {
            to->procedures[to->procedure_count++] = dbos_procedure_info_ref(from->procedures[i]);
        }
    }
}

static void raise_next_ids(struct dbos_catalog *catalog, const struct change *change) {
    if (change->table != NULL) {
        catalog->next_table_id = later(catalog->next_table_id, change->table->id + 1);
        for (uint32_t i = 0; i < change->table->index_count; i++) {
            catalog->next_index_id =
                later(catalog->next_index_id, change->table->indexes[i].id + 1);
        }
    }
    if (change->procedure != NULL) {
        catalog->next_procedure_id = later(catalog->next_procedure_id, change->procedure->id + 1);
    }
}

static enum dbos_err with_change(struct dbos_catalog *from, const struct change *change,
                                 struct dbos_catalog **out) {
    uint32_t tables = from->table_count + (change->table != NULL) - change->tables_out;
    uint32_t procedures =
        from->procedure_count + (change->procedure != NULL) - change->procedures_out;
    *out = NULL;
    struct dbos_catalog *to = take_snapshot(from->alloc, tables, procedures);
    if (to == NULL) {
        return DBOS_ERR_NOMEM;
    }
    to->version = from->version + 1;
    to->next_table_id = from->next_table_id;
    to->next_index_id = from->next_index_id;
    to->next_procedure_id = from->next_procedure_id;
    copy_tables(from, change, to);
    copy_procedures(from, change, to);
    DBOS_CHECK(to->table_count == tables && to->procedure_count == procedures);
    raise_next_ids(to, change);
    *out = to;
    return DBOS_OK;
}

enum dbos_err dbos_catalog_with_table(struct dbos_catalog *catalog, struct dbos_table_def *def,
                                      struct dbos_catalog **out) {
    struct change change = {
        .table = def,
        .table_at = table_position(catalog, def->id),
        .tables_out = dbos_catalog_table_by_id(catalog, def->id) != NULL,
    };
    return with_change(catalog, &change, out);
}

enum dbos_err dbos_catalog_without_table(struct dbos_catalog *catalog, uint32_t id,
                                         struct dbos_catalog **out) {
    struct change change = {
        .table_at = table_position(catalog, id),
        .tables_out = dbos_catalog_table_by_id(catalog, id) != NULL,
    };
    return with_change(catalog, &change, out);
}

enum dbos_err dbos_catalog_with_procedure(struct dbos_catalog *catalog,
                                          struct dbos_procedure_info *procedure,
                                          struct dbos_catalog **out) {
    struct change change = {
        .procedure = procedure,
        .procedure_at = procedure_position(catalog, procedure->id),
        .procedures_out = dbos_catalog_procedure_by_id(catalog, procedure->id) != NULL,
    };
    return with_change(catalog, &change, out);
}

enum dbos_err dbos_catalog_without_procedure(struct dbos_catalog *catalog, uint32_t id,
                                             struct dbos_catalog **out) {
    struct change change = {
        .procedure_at = procedure_position(catalog, id),
        .procedures_out = dbos_catalog_procedure_by_id(catalog, id) != NULL,
    };
    return with_change(catalog, &change, out);
}

enum dbos_err dbos_catalog_copy(struct dbos_catalog *catalog, struct dbos_catalog **out) {
    struct change nothing = {0};
    return with_change(catalog, &nothing, out);
}
