#include "procs/sql/run_ddl.h"

#include <stdio.h>
#include <string.h>

#include "procs/procedure.h"

/* -- names ---------------------------------------------------------------------------------------
 */

/* Users' relations are in public; dbos and prov are the system's. */
static enum dbos_err check_schema(const char *schema, uint32_t position,
                                  struct dbos_errinfo *info) {
    if (schema == NULL || strcmp(schema, "public") == 0) {
        return DBOS_OK;
    }
    if (strcmp(schema, "dbos") == 0 || strcmp(schema, "prov") == 0) {
        return dbos_fail_at(info, DBOS_ERR_PRIVILEGE, position, "permission denied for schema %s",
                            schema);
    }
    return dbos_fail_at(info, DBOS_ERR_UNDEFINED_OBJECT, position, "schema \"%s\" does not exist",
                        schema);
}

static bool relation_exists(const struct dbos_catalog *catalog, const char *name) {
    uint32_t index = 0;
    return dbos_catalog_table(catalog, "public", name) != NULL ||
           dbos_catalog_index(catalog, name, &index) != NULL;
}

static enum dbos_err check_free(const struct dbos_catalog *catalog, const char *name,
                                uint32_t position, struct dbos_errinfo *info) {
    if (strlen(name) >= DBOS_NAME_BYTES) {
        return dbos_fail_at(info, DBOS_ERR_INVALID_OBJECT_DEFINITION, position,
                            "the name \"%s\" is longer than %d bytes", name, DBOS_NAME_BYTES - 1);
    }
    if (relation_exists(catalog, name)) {
        return dbos_fail_at(info, DBOS_ERR_DUPLICATE_TABLE, position,
                            "relation \"%s\" already exists", name);
    }
    return DBOS_OK;
}

static enum dbos_err find_table(const struct dbos_catalog *catalog,
                                const struct dbos_ast_relation *relation,
                                struct dbos_table_def **out, struct dbos_errinfo *info) {
    enum dbos_err err = check_schema(relation->schema, relation->position, info);
    if (err != DBOS_OK) {
        return err;
    }
    *out = dbos_catalog_table(catalog, "public", relation->name);
    if (*out == NULL) {
        return dbos_fail_at(info, DBOS_ERR_UNDEFINED_TABLE, relation->position,
                            "relation \"%s\" does not exist", relation->name);
    }
    return DBOS_OK;
}

/* "t_a_b_key": table, columns, suffix, cut to what a name may have. */
static void default_name(char out[DBOS_NAME_BYTES], const char *table,
                         const struct dbos_ast_name *columns, uint32_t count, const char *suffix) {
    char name[DBOS_NAME_BYTES * (DBOS_INDEX_COLUMNS_MAX + 2)];
    size_t used = (size_t)snprintf(name, sizeof name, "%s", table);
    for (uint32_t i = 0; i < count && used < sizeof name; i++) {
        used += (size_t)snprintf(name + used, sizeof name - used, "_%s", columns[i].name);
    }
    size_t room = DBOS_NAME_BYTES - 1 - strlen(suffix);
    (void)snprintf(out, DBOS_NAME_BYTES, "%.*s%s", (int)room, name, suffix);
}

/* A default name that is taken gets a number, as in PostgreSQL: t_a_idx1. */
static void free_name(const struct dbos_catalog *catalog, char name[DBOS_NAME_BYTES]) {
    char base[DBOS_NAME_BYTES];
    memcpy(base, name, sizeof base);
    for (uint32_t i = 1; relation_exists(catalog, name); i++) {
        char digits[12];
        int size = snprintf(digits, sizeof digits, "%u", i);
        (void)snprintf(name, DBOS_NAME_BYTES, "%.*s%s", DBOS_NAME_BYTES - 1 - size, base, digits);
    }
}

/* -- indexes -------------------------------------------------------------------------------------
 */

static int32_t column_of(const struct dbos_column *columns, uint32_t count, const char *name) {
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(columns[i].name, name) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static enum dbos_err fill_columns(struct dbos_index_def *index, const struct dbos_column *columns,
                                  uint32_t column_count, const struct dbos_ast_name *names,
                                  uint32_t name_count, const char *where,
                                  struct dbos_errinfo *info) {
    if (name_count > DBOS_INDEX_COLUMNS_MAX) {
        return dbos_fail(info, DBOS_ERR_TOO_MANY_COLUMNS,
                         "cannot use more than %d columns in an index", DBOS_INDEX_COLUMNS_MAX);
    }
    index->column_count = (uint16_t)name_count;
    for (uint32_t i = 0; i < name_count; i++) {
        int32_t column = column_of(columns, column_count, names[i].name);
        if (column < 0) {
            return dbos_fail_at(info, DBOS_ERR_UNDEFINED_COLUMN, names[i].position,
                                "column \"%s\"%s does not exist", names[i].name, where);
        }
        for (uint32_t k = 0; k < i; k++) {
            if (index->columns[k] == column) {
                return dbos_fail_at(info, DBOS_ERR_DUPLICATE_COLUMN, names[i].position,
                                    "column \"%s\" appears twice in the key", names[i].name);
            }
        }
        index->columns[i] = (uint16_t)column;
    }
    return DBOS_OK;
}

/* A key of one column is looked up by equality: a hash index. A longer one is looked through by its
 * first columns, too: an ordered index. */
static enum dbos_index_kind key_index_kind(uint32_t column_count) {
    return column_count == 1 ? DBOS_INDEX_HASH : DBOS_INDEX_ORDERED;
}

/* -- CREATE TABLE --------------------------------------------------------------------------------
 */

struct table_builder {
    const struct dbos_ast_create_table *create;
    const struct dbos_catalog *catalog;
    struct dbos_column *columns;
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    uint32_t index_count;
    struct dbos_errinfo *info;
};

static enum dbos_err build_columns(struct table_builder *b) {
    for (uint32_t i = 0; i < b->create->column_count; i++) {
        const struct dbos_ast_column *from = &b->create->columns[i];
        struct dbos_column *to = &b->columns[i];
        if (strlen(from->name) >= DBOS_NAME_BYTES) {
            return dbos_fail_at(b->info, DBOS_ERR_INVALID_TABLE_DEFINITION, from->position,
                                "the name \"%s\" is longer than %d bytes", from->name,
                                DBOS_NAME_BYTES - 1);
        }
        if (column_of(b->columns, i, from->name) >= 0) {
            return dbos_fail_at(b->info, DBOS_ERR_DUPLICATE_COLUMN, from->position,
                                "column \"%s\" specified more than once", from->name);
        }
        *to = (struct dbos_column){
            .id = i + 1,
            .type = (uint8_t)from->type.type,
            .not_null = from->not_null,
            .chars_max = from->type.chars_max,
            .default_sql = (char *)(uintptr_t)from->default_sql,
        };
        (void)snprintf(to->name, sizeof to->name, "%s", from->name);
    }
    return DBOS_OK;
}

static enum dbos_err build_key(struct table_builder *b, const struct dbos_ast_key *key) {
    if (b->index_count == DBOS_INDEXES_MAX) {
        return dbos_fail_at(b->info, DBOS_ERR_LIMIT, key->position,
                            "a table has at most %d indexes", DBOS_INDEXES_MAX);
    }
    struct dbos_index_def *index = &b->indexes[b->index_count];
    *index = (struct dbos_index_def){
        .id = b->catalog->next_index_id + b->index_count,
        .kind = (uint8_t)key_index_kind(key->column_count),
        .unique = true,
        .primary = key->primary,
    };
    enum dbos_err err = fill_columns(index, b->columns, b->create->column_count, key->columns,
                                     key->column_count, " named in key", b->info);
    if (err != DBOS_OK) {
        return err;
    }
    if (key->name != NULL) {
        err = check_free(b->catalog, key->name, key->position, b->info);
        (void)snprintf(index->name, sizeof index->name, "%s", key->name);
    } else {
        default_name(index->name, b->create->table.name, key->columns,
                     key->primary ? 0 : key->column_count, key->primary ? "_pkey" : "_key");
        free_name(b->catalog, index->name);
    }
    for (uint32_t i = 0; key->primary && i < index->column_count; i++) {
        b->columns[index->columns[i]].not_null = true;
    }
    b->index_count++;
    return err;
}

/* The primary key, where there is one, comes first (storage/schema.h). */
static enum dbos_err build_keys(struct table_builder *b) {
    bool has_primary = false;
    for (int pass = 0; pass < 2; pass++) {
        for (uint32_t i = 0; i < b->create->key_count; i++) {
            const struct dbos_ast_key *key = &b->create->keys[i];
            if (key->primary != (pass == 0)) {
                continue;
            }
            if (key->primary && has_primary) {
                return dbos_fail_at(b->info, DBOS_ERR_INVALID_TABLE_DEFINITION, key->position,
                                    "multiple primary keys for table \"%s\" are not allowed",
                                    b->create->table.name);
            }
            has_primary = has_primary || key->primary;
            enum dbos_err err = build_key(b, key);
            if (err != DBOS_OK) {
                return err;
            }
        }
    }
    return DBOS_OK;
}

static enum dbos_err partition_column(const struct table_builder *b, int32_t *out) {
    *out = -1;
    if (b->create->partition_column == NULL) {
        return DBOS_OK;
    }
    *out = column_of(b->columns, b->create->column_count, b->create->partition_column);
    if (*out < 0) {
        return dbos_fail_at(b->info, DBOS_ERR_UNDEFINED_COLUMN, b->create->partition_position,
                            "column \"%s\" named in partition key does not exist",
                            b->create->partition_column);
    }
    return DBOS_OK;
}

/* A DEFAULT is an expression without columns; planning it shows what is wrong with it. */
static enum dbos_err check_default(const struct dbos_run *run, struct dbos_alloc *alloc,
                                   const struct dbos_ast_column *column,
                                   struct dbos_errinfo *info) {
    char sql[1024];
    struct dbos_script *script = NULL;
    struct dbos_plan *plan = NULL;
    if (column->default_sql == NULL) {
        return DBOS_OK;
    }
    int size = snprintf(sql, sizeof sql, "SELECT CAST((%s) AS %s)", column->default_sql,
                        dbos_type_name(column->type.type));
    if (size < 0 || (size_t)size >= sizeof sql) {
        return dbos_fail_at(info, DBOS_ERR_LIMIT, column->position,
                            "the DEFAULT of column \"%s\" is too long", column->name);
    }
    enum dbos_err err = dbos_script_parse(alloc, sql, &script, info);
    if (err == DBOS_OK) {
        err = dbos_plan_make(alloc, dbos_txn_catalog(run->txn), run->procs, script, 0, NULL, 0,
                             &plan, info);
    }
    dbos_plan_unref(plan);
    if (script != NULL) {
        dbos_script_close(script);
    }
    if (err != DBOS_OK && info != NULL) {
        info->position = column->position;
    }
    return err;
}

static enum dbos_err make_table(struct table_builder *b, const struct dbos_run *run,
                                struct dbos_alloc *alloc) {
    struct dbos_table_def *def = NULL;
    int32_t column = -1;
    enum dbos_err err = partition_column(b, &column);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_table_parts parts = {
        .id = b->catalog->next_table_id,
        .schema_version = 1,
        .schema = "public",
        .name = b->create->table.name,
        .partition_column = column,
        .column_count = (uint16_t)b->create->column_count,
        .index_count = (uint16_t)b->index_count,
        .columns = b->columns,
        .indexes = b->indexes,
    };
    err = dbos_table_def_make(alloc, &parts, &def, b->info);
    if (err != DBOS_OK) {
        if (b->info != NULL && b->info->position == 0) {
            b->info->position = b->create->table.position;
        }
        return err;
    }
    err = dbos_txn_create_table(run->txn, def, b->info);
    dbos_table_def_unref(def); /* the store has its own reference */
    return err;
}

static enum dbos_err create_table(const struct dbos_ast_create_table *create,
                                  const struct dbos_run *run, struct dbos_errinfo *info) {
    struct dbos_catalog *catalog = dbos_txn_catalog(run->txn);
    struct dbos_alloc *alloc = catalog->alloc;
    enum dbos_err err = check_schema(create->table.schema, create->table.position, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (create->if_not_exists && dbos_catalog_table(catalog, "public", create->table.name)) {
        return DBOS_OK;
    }
    err = check_free(catalog, create->table.name, create->table.position, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (create->column_count > DBOS_COLUMNS_MAX) {
        return dbos_fail_at(info, DBOS_ERR_TOO_MANY_COLUMNS, create->table.position,
                            "tables can have at most %d columns", DBOS_COLUMNS_MAX);
    }
    struct table_builder b = {.create = create, .catalog = catalog, .info = info};
    b.columns = dbos_arena_take_zero(dbos_txn_arena(run->txn),
                                     (create->column_count + 1) * sizeof *b.columns);
    if (b.columns == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    err = build_columns(&b);
    if (err == DBOS_OK) {
        err = build_keys(&b);
    }
    for (uint32_t i = 0; err == DBOS_OK && i < create->column_count; i++) {
        err = check_default(run, alloc, &create->columns[i], info);
    }
    return err != DBOS_OK ? err : make_table(&b, run, alloc);
}

/* -- DROP TABLE, indexes -------------------------------------------------------------------------
 */

static enum dbos_err drop_table(const struct dbos_ast_drop *drop, const struct dbos_run *run,
                                struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < drop->name_count; i++) {
        const struct dbos_ast_name *name = &drop->names[i];
        enum dbos_err err = check_schema(name->schema, name->position, info);
        if (err != DBOS_OK) {
            return err;
        }
        struct dbos_table_def *def =
            dbos_catalog_table(dbos_txn_catalog(run->txn), "public", name->name);
        if (def == NULL && drop->if_exists) {
            continue;
        }
        if (def == NULL) {
            return dbos_fail_at(info, DBOS_ERR_UNDEFINED_TABLE, name->position,
                                "table \"%s\" does not exist", name->name);
        }
        err = dbos_txn_drop_table(run->txn, def->id, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* The same table with other indexes. */
static enum dbos_err redefine(const struct dbos_table_def *def,
                              const struct dbos_index_def *indexes, uint32_t index_count,
                              const struct dbos_run *run, struct dbos_errinfo *info) {
    struct dbos_table_parts parts = {
        .id = def->id,
        .schema_version = def->schema_version + 1,
        .schema = def->schema,
        .name = def->name,
        .partition_column = def->partition_column,
        .column_count = def->column_count,
        .index_count = (uint16_t)index_count,
        .columns = def->columns,
        .indexes = indexes,
    };
    struct dbos_table_def *changed = NULL;
    struct dbos_alloc *alloc = dbos_txn_catalog(run->txn)->alloc;
    enum dbos_err err = dbos_table_def_make(alloc, &parts, &changed, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = dbos_txn_redefine_table(run->txn, changed, info);
    dbos_table_def_unref(changed);
    return err;
}

static enum dbos_err create_index(const struct dbos_ast_create_index *create,
                                  const struct dbos_run *run, struct dbos_errinfo *info) {
    struct dbos_catalog *catalog = dbos_txn_catalog(run->txn);
    struct dbos_table_def *def = NULL;
    enum dbos_err err = find_table(catalog, &create->table, &def, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (create->name != NULL && create->if_not_exists && relation_exists(catalog, create->name)) {
        return DBOS_OK;
    }
    if (def->index_count == DBOS_INDEXES_MAX) {
        return dbos_fail_at(info, DBOS_ERR_LIMIT, create->table.position,
                            "a table has at most %d indexes", DBOS_INDEXES_MAX);
    }
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    memcpy(indexes, def->indexes, def->index_count * sizeof *indexes);
    struct dbos_index_def *index = &indexes[def->index_count];
    *index = (struct dbos_index_def){
        .id = catalog->next_index_id,
        .kind = create->hash ? DBOS_INDEX_HASH : DBOS_INDEX_ORDERED,
        .unique = create->unique,
    };
    err = fill_columns(index, def->columns, def->column_count, create->columns,
                       create->column_count, "", info);
    if (err != DBOS_OK) {
        return err;
    }
    if (create->name != NULL) {
        err = check_free(catalog, create->name, create->table.position, info);
        (void)snprintf(index->name, sizeof index->name, "%s", create->name);
    } else {
        default_name(index->name, def->name, create->columns, create->column_count, "_idx");
        free_name(catalog, index->name);
    }
    return err != DBOS_OK ? err : redefine(def, indexes, def->index_count + 1u, run, info);
}

static enum dbos_err drop_one_index(const struct dbos_ast_name *name, bool if_exists,
                                    const struct dbos_run *run, struct dbos_errinfo *info) {
    uint32_t place = 0;
    struct dbos_table_def *def = dbos_catalog_index(dbos_txn_catalog(run->txn), name->name, &place);
    if (def == NULL && if_exists) {
        return DBOS_OK;
    }
    if (def == NULL) {
        return dbos_fail_at(info, DBOS_ERR_UNDEFINED_OBJECT, name->position,
                            "index \"%s\" does not exist", name->name);
    }
    enum dbos_err err = check_schema(def->schema, name->position, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (def->indexes[place].primary) {
        return dbos_fail_at(info, DBOS_ERR_DEPENDENT_OBJECTS, name->position,
                            "cannot drop index %s because it is the primary key of table %s",
                            name->name, def->name);
    }
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    uint32_t count = 0;
    for (uint32_t i = 0; i < def->index_count; i++) {
        if (i != place) {
            indexes[count++] = def->indexes[i];
        }
    }
    return redefine(def, indexes, count, run, info);
}

static enum dbos_err drop_index(const struct dbos_ast_drop *drop, const struct dbos_run *run,
                                struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < drop->name_count; i++) {
        enum dbos_err err = drop_one_index(&drop->names[i], drop->if_exists, run, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* -- procedures ----------------------------------------------------------------------------------
 */

static enum dbos_err create_procedure(const struct dbos_ast_create_procedure *create,
                                      const struct dbos_run *run, struct dbos_errinfo *info) {
    struct dbos_procedure_info procedure = {
        .is_function = create->is_function,
        .returns = (uint8_t)(create->is_function ? create->returns : DBOS_TYPE_VOID),
        .language = (uint8_t)create->language,
        .argument_count = (uint16_t)create->argument_count,
        .arguments = create->arguments,
        .symbol = (char *)(uintptr_t)create->symbol,
        .body = (char *)(uintptr_t)create->body,
        .route = (char *)(uintptr_t)create->route,
    };
    if (strlen(create->name) >= DBOS_NAME_BYTES) {
        return dbos_fail(info, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "the name \"%s\" is longer than %d bytes", create->name,
                         DBOS_NAME_BYTES - 1);
    }
    (void)snprintf(procedure.name, sizeof procedure.name, "%s", create->name);
    struct dbos_create_procedure request = {
        .info = &procedure,
        .replace = create->replace,
        .file = create->file,
    };
    return dbos_procs_create(run->procs, run, &request, info);
}

static enum dbos_err drop_procedure(const struct dbos_ast_drop *drop, const struct dbos_run *run,
                                    struct dbos_errinfo *info) {
    for (uint32_t i = 0; i < drop->name_count; i++) {
        const struct dbos_ast_name *name = &drop->names[i];
        const struct dbos_procedure_info *found =
            dbos_catalog_procedure(dbos_txn_catalog(run->txn), name->name);
        if (found != NULL && found->is_function != drop->is_function) {
            return dbos_fail_at(info, DBOS_ERR_WRONG_OBJECT_TYPE, name->position, "%s is not a %s",
                                name->name, drop->is_function ? "function" : "procedure");
        }
        enum dbos_err err = dbos_procs_drop(run->procs, run, name->name, drop->if_exists, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* -- all -----------------------------------------------------------------------------------------
 */

static enum dbos_err run_definition(const struct dbos_ast_statement *statement,
                                    const struct dbos_run *run, struct dbos_errinfo *info) {
    switch (statement->ddl) {
    case DBOS_DDL_CREATE_TABLE:
        return create_table(&statement->create_table, run, info);
    case DBOS_DDL_DROP_TABLE:
        return drop_table(&statement->drop, run, info);
    case DBOS_DDL_CREATE_INDEX:
        return create_index(&statement->create_index, run, info);
    case DBOS_DDL_DROP_INDEX:
        return drop_index(&statement->drop, run, info);
    case DBOS_DDL_CREATE_PROCEDURE:
        return create_procedure(&statement->create_procedure, run, info);
    case DBOS_DDL_DROP_PROCEDURE:
        return drop_procedure(&statement->drop, run, info);
    }
    return dbos_fail(info, DBOS_ERR_INTERNAL, "unknown definition statement");
}

enum dbos_err dbos_ddl_run(const struct dbos_ast_statement *statement, const struct dbos_run *run,
                           struct dbos_errinfo *info) {
    enum dbos_err err = run_definition(statement, run, info);
    if (err != DBOS_OK) {
        return err;
    }
    return dbos_procs_replan(run->procs, dbos_txn_catalog(run->txn), info);
}

const char *dbos_ddl_tag(const struct dbos_ast_statement *statement) {
    switch (statement->ddl) {
    case DBOS_DDL_CREATE_TABLE:
        return "CREATE TABLE";
    case DBOS_DDL_DROP_TABLE:
        return "DROP TABLE";
    case DBOS_DDL_CREATE_INDEX:
        return "CREATE INDEX";
    case DBOS_DDL_DROP_INDEX:
        return "DROP INDEX";
    case DBOS_DDL_CREATE_PROCEDURE:
        return statement->create_procedure.is_function ? "CREATE FUNCTION" : "CREATE PROCEDURE";
    case DBOS_DDL_DROP_PROCEDURE:
        return statement->drop.is_function ? "DROP FUNCTION" : "DROP PROCEDURE";
    }
    return "";
}
