#include "storage/schema.h"

#include <assert.h>

static bool terminated(const char *name) { return memchr(name, '\0', DBOS_NAME_BYTES) != NULL; }

static bool valid_column_type(uint8_t type) {
    return type >= DBOS_TYPE_BOOL && type <= DBOS_TYPE_TIMESTAMPTZ;
}

static enum dbos_err check_columns(const struct dbos_table_parts *parts,
                                   struct dbos_errinfo *info) {
    if (parts->column_count > DBOS_COLUMNS_MAX) {
        return dbos_fail(info, DBOS_ERR_TOO_MANY_COLUMNS, "tables can have at most %d columns",
                         DBOS_COLUMNS_MAX);
    }
    if (parts->column_count == 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                         "table \"%s\" must have at least one column", parts->name);
    }
    for (uint32_t i = 0; i < parts->column_count; i++) {
        const struct dbos_column *column = &parts->columns[i];
        if (!terminated(column->name) || column->name[0] == '\0' ||
            !valid_column_type(column->type)) {
            return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                             "column %u of table \"%s\" has no valid name or type", i + 1,
                             parts->name);
        }
        for (uint32_t j = 0; j < i; j++) {
            if (strcmp(column->name, parts->columns[j].name) == 0) {
                return dbos_fail(info, DBOS_ERR_DUPLICATE_COLUMN,
                                 "column \"%s\" specified more than once", column->name);
            }
        }
    }
    return DBOS_OK;
}

static bool index_has_column(const struct dbos_index_def *index, int32_t column) {
    for (uint32_t i = 0; i < index->column_count; i++) {
        if (index->columns[i] == column) {
            return true;
        }
    }
    return false;
}

static bool index_is_well_formed(const struct dbos_table_parts *parts, uint32_t position) {
    const struct dbos_index_def *index = &parts->indexes[position];
    if (!terminated(index->name) || index->name[0] == '\0' || index->column_count == 0 ||
        index->column_count > DBOS_INDEX_COLUMNS_MAX) {
        return false;
    }
    if (index->kind != DBOS_INDEX_HASH && index->kind != DBOS_INDEX_ORDERED) {
        return false;
    }
    if (index->primary && (position != 0 || !index->unique)) {
        return false;
    }
    for (uint32_t i = 0; i < index->column_count; i++) {
        if (index->columns[i] >= parts->column_count) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            if (index->columns[i] == index->columns[j]) {
                return false;
            }
        }
    }
    for (uint32_t i = 0; i < position; i++) {
        if (strcmp(parts->indexes[i].name, index->name) == 0 || parts->indexes[i].id == index->id) {
            return false;
        }
    }
    return true;
}

static enum dbos_err check_indexes(const struct dbos_table_parts *parts,
                                   struct dbos_errinfo *info) {
    if (parts->index_count > DBOS_INDEXES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                         "table \"%s\" can have at most %d indexes", parts->name, DBOS_INDEXES_MAX);
    }
    for (uint32_t i = 0; i < parts->index_count; i++) {
        const struct dbos_index_def *index = &parts->indexes[i];
        if (!index_is_well_formed(parts, i)) {
            return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                             "index %u of table \"%s\" is not well formed", i + 1, parts->name);
        }
        if (index->unique && parts->partition_column >= 0 &&
            !index_has_column(index, parts->partition_column)) {
            enum dbos_err err = dbos_fail(
                info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                "unique constraint on partitioned table must include the partitioning column");
            dbos_err_detail(info, "%s constraint on table \"%s\" lacks column \"%s\".",
                            index->primary ? "PRIMARY KEY" : "UNIQUE", parts->name,
                            parts->columns[parts->partition_column].name);
            return err;
        }
    }
    return DBOS_OK;
}

static enum dbos_err check_parts(const struct dbos_table_parts *parts, struct dbos_errinfo *info) {
    if (strlen(parts->schema) >= DBOS_NAME_BYTES || strlen(parts->name) >= DBOS_NAME_BYTES ||
        parts->schema[0] == '\0' || parts->name[0] == '\0') {
        return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION, "table without a valid name");
    }
    if (parts->partition_column < -1 || parts->partition_column >= (int32_t)parts->column_count) {
        return dbos_fail(info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                         "table \"%s\" has no such partitioning column", parts->name);
    }
    enum dbos_err err = check_columns(parts, info);
    return err == DBOS_OK ? check_indexes(parts, info) : err;
}

/* Where the parts of a definition's one block lie. */
struct block_plan {
    size_t columns;
    size_t indexes;
    size_t offsets;
    size_t strings;
    size_t total;
};

static struct block_plan plan_block(const struct dbos_table_parts *parts) {
    struct block_plan plan = {.columns = sizeof(struct dbos_table_def)};
    plan.indexes = plan.columns + parts->column_count * sizeof(struct dbos_column);
    plan.offsets = plan.indexes + parts->index_count * sizeof(struct dbos_index_def);
    plan.strings = plan.offsets + parts->column_count * sizeof(uint32_t);
    plan.total = plan.strings;
    for (uint32_t i = 0; i < parts->column_count; i++) {
        const char *text = parts->columns[i].default_sql;
        plan.total += text == NULL ? 0 : strlen(text) + 1;
    }
    return plan;
}
static_assert(sizeof(struct dbos_table_def) % 8 == 0, "columns follow it");
static_assert(sizeof(struct dbos_column) % 8 == 0, "indexes follow them");
static_assert(sizeof(struct dbos_index_def) % 4 == 0, "offsets follow them");

/* Copies `text` to *next and moves on behind it; NULL stays NULL. */
static char *copy_text(char **next, const char *text) {
    if (text == NULL) {
        return NULL;
    }
    char *copy = *next;
    size_t size_bytes = strlen(text) + 1;
    memcpy(copy, text, size_bytes);
    *next += size_bytes;
    return copy;
}

static uint32_t fixed_width(uint8_t type) {
    int16_t length = dbos_type_length((enum dbos_type)type);
    return length < 0 ? 0 : (uint32_t)length;
}

/* Fixed columns lie one after the other in table order, unaligned; variable ones are numbered. */
static void lay_out(struct dbos_table_def *def) {
    def->null_bytes = (def->column_count + 7u) / 8;
    for (uint32_t i = 0; i < def->column_count; i++) {
        uint32_t width = fixed_width(def->columns[i].type);
        if (width == 0) {
            def->offsets[i] = def->variable_count++;
        } else {
            def->offsets[i] = def->fixed_bytes;
            def->fixed_bytes += width;
        }
    }
}

static void fill_def(struct dbos_table_def *def, const struct dbos_table_parts *parts,
                     const struct block_plan *plan) {
    uint8_t *block = (uint8_t *)def;
    def->id = parts->id;
    def->schema_version = parts->schema_version;
    memcpy(def->schema, parts->schema, strlen(parts->schema));
    memcpy(def->name, parts->name, strlen(parts->name));
    def->partition_column = parts->partition_column;
    def->column_count = parts->column_count;
    def->index_count = parts->index_count;
    def->columns = (struct dbos_column *)(void *)(block + plan->columns);
    def->indexes = (struct dbos_index_def *)(void *)(block + plan->indexes);
    def->offsets = (uint32_t *)(void *)(block + plan->offsets);
    char *strings = (char *)(block + plan->strings);
    memcpy(def->columns, parts->columns, parts->column_count * sizeof *parts->columns);
    for (uint32_t i = 0; i < parts->column_count; i++) {
        def->columns[i].default_sql = copy_text(&strings, parts->columns[i].default_sql);
    }
    if (parts->index_count != 0) {
        memcpy(def->indexes, parts->indexes, parts->index_count * sizeof *parts->indexes);
    }
    if (parts->index_count != 0 && def->indexes[0].primary) {
        for (uint32_t i = 0; i < def->indexes[0].column_count; i++) {
            def->columns[def->indexes[0].columns[i]].not_null = true;
        }
    }
    lay_out(def);
}

enum dbos_err dbos_table_def_make(struct dbos_alloc *alloc, const struct dbos_table_parts *parts,
                                  struct dbos_table_def **out, struct dbos_errinfo *info) {
    *out = NULL;
    enum dbos_err err = check_parts(parts, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct block_plan plan = plan_block(parts);
    struct dbos_table_def *def = dbos_take_zero(alloc, plan.total);
    if (def == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    atomic_init(&def->refs, 1);
    def->alloc = alloc;
    fill_def(def, parts, &plan);
    *out = def;
    return DBOS_OK;
}

struct dbos_table_def *dbos_table_def_ref(struct dbos_table_def *def) {
    DBOS_CHECK(atomic_fetch_add_explicit(&def->refs, 1, memory_order_relaxed) != 0);
    return def;
}

void dbos_table_def_unref(struct dbos_table_def *def) {
    if (def != NULL && atomic_fetch_sub_explicit(&def->refs, 1, memory_order_acq_rel) == 1) {
        dbos_give(def->alloc, def);
    }
}

int32_t dbos_table_def_column(const struct dbos_table_def *def, const char *name) {
    for (int32_t i = 0; i < def->column_count; i++) {
        if (strcmp(def->columns[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

static size_t text_bytes(const char *text) { return text == NULL ? 0 : strlen(text) + 1; }

enum dbos_err dbos_procedure_info_make(struct dbos_alloc *alloc,
                                       const struct dbos_procedure_info *parts,
                                       struct dbos_procedure_info **out) {
    *out = NULL;
    DBOS_CHECK(parts->argument_count <= DBOS_ARGUMENTS_MAX);
    DBOS_CHECK(terminated(parts->name));
    size_t argument_bytes = parts->argument_count * sizeof *parts->arguments;
    size_t total = sizeof *parts + argument_bytes + text_bytes(parts->symbol) +
                   text_bytes(parts->body) + text_bytes(parts->route);
    struct dbos_procedure_info *procedure = dbos_take(alloc, total);
    if (procedure == NULL) {
        return DBOS_ERR_NOMEM;
    }
    memcpy(procedure, parts, sizeof *parts);
    atomic_init(&procedure->refs, 1);
    procedure->alloc = alloc;
    procedure->arguments = (struct dbos_argument *)(procedure + 1);
    if (argument_bytes != 0) {
        memcpy(procedure->arguments, parts->arguments, argument_bytes);
    }
    char *strings = (char *)(procedure + 1) + argument_bytes;
    procedure->symbol = copy_text(&strings, parts->symbol);
    procedure->body = copy_text(&strings, parts->body);
    procedure->route = copy_text(&strings, parts->route);
    *out = procedure;
    return DBOS_OK;
}

struct dbos_procedure_info *dbos_procedure_info_ref(struct dbos_procedure_info *procedure) {
    DBOS_CHECK(atomic_fetch_add_explicit(&procedure->refs, 1, memory_order_relaxed) != 0);
    return procedure;
}

void dbos_procedure_info_unref(struct dbos_procedure_info *procedure) {
    if (procedure != NULL &&
        atomic_fetch_sub_explicit(&procedure->refs, 1, memory_order_acq_rel) == 1) {
        dbos_give(procedure->alloc, procedure);
    }
}
