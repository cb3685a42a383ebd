/* CREATE and DROP, in a barrier transaction. */
#include <stdio.h>

#include "procs/procedure.h"
#include "procs/sql/run.h"

static enum dbos_err at(struct dbos_runner *runner, enum dbos_err err, uint32_t position) {
    if (err != DBOS_OK && runner->info != NULL && runner->info->position == 0) {
        runner->info->position = position;
    }
    return err;
}

/* Every registered procedure must still work. */
static enum dbos_err replan(struct dbos_runner *runner) {
    return runner->run->procs == NULL
               ? DBOS_OK
               : dbos_procs_replan(runner->run->procs, dbos_txn_catalog(runner->run->txn),
                                   runner->info);
}

/* -- names ----------------------------------------------------------------------------------------
 */

/* The names of indexes that are being made with a table. */
struct names {
    struct dbos_catalog *catalog;
    const struct dbos_index_def *indexes;
    uint32_t count;
};

static bool name_is_taken(const struct names *names, const char *name) {
    uint32_t index;
    for (uint32_t i = 0; i < names->count; i++) {
        if (strcmp(names->indexes[i].name, name) == 0) {
            return true;
        }
    }
    return dbos_catalog_table(names->catalog, "public", name) != NULL ||
           dbos_catalog_index(names->catalog, "public", name, &index) != NULL;
}

/* Bytes of `name` that are at most `bytes`, without cutting a character. */
static int clip(const char *name, size_t bytes) {
    size_t length = strlen(name);
    if (length <= bytes) {
        return (int)length;
    }
    while (bytes > 0 && ((unsigned char)name[bytes] & 0xc0) == 0x80) {
        bytes--;
    }
    return (int)bytes;
}

/* table_columns_label, shortened as PostgreSQL does it: the longer part first. */
static void make_name(const char *table, const char *columns, const char *label, char *out) {
    size_t overhead = strlen(label) + 1 + (columns[0] == '\0' ? 0 : 1);
    size_t available = DBOS_NAME_BYTES - 1 - overhead;
    size_t table_bytes = strlen(table);
    size_t column_bytes = strlen(columns);
    while (table_bytes + column_bytes > available) {
        if (table_bytes > column_bytes) {
            table_bytes--;
        } else {
            column_bytes--;
        }
    }
    (void)snprintf(out, DBOS_NAME_BYTES, "%.*s%s%.*s_%s", clip(table, table_bytes), table,
                   columns[0] == '\0' ? "" : "_", clip(columns, column_bytes), columns, label);
}

static void choose_name(const struct names *names, const char *table, const char *columns,
                        const char *label, char *out) {
    char numbered[32];
    make_name(table, columns, label, out);
    for (uint32_t i = 1; name_is_taken(names, out); i++) {
        (void)snprintf(numbered, sizeof numbered, "%s%u", label, i);
        make_name(table, columns, numbered, out);
    }
}

static void join_columns(const struct dbos_ast_name *columns, uint32_t count, char *out,
                         size_t out_bytes) {
    size_t used = 0;
    out[0] = '\0';
    for (uint32_t i = 0; i < count && used + 1 < out_bytes; i++) {
        used += (size_t)snprintf(out + used, out_bytes - used, "%s%s", i == 0 ? "" : "_",
                                 columns[i].name);
    }
}

/* -- CREATE TABLE ---------------------------------------------------------------------------------
 */

struct table_builder {
    struct dbos_runner *runner;
    const struct dbos_ast_create_table *ast;
    struct dbos_column columns[DBOS_COLUMNS_MAX];
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    struct dbos_table_parts parts;
};

static enum dbos_err check_default(struct dbos_runner *runner, const struct dbos_ast_column *ast,
                                   const struct dbos_column *column) {
    if (ast->default_value == NULL) {
        return DBOS_OK;
    }
    struct dbos_binder binder = {.arena = &runner->keep,
                                 .info = runner->info,
                                 .catalog = dbos_txn_catalog(runner->run->txn),
                                 .clause = "DEFAULT expressions"};
    struct dbos_expr *expr = dbos_bind_expr(&binder, ast->default_value);
    if (expr == NULL) {
        if (binder.err == DBOS_ERR_UNDEFINED_COLUMN) {
            uint32_t position = runner->info == NULL ? 0 : runner->info->position;
            return dbos_fail_at(runner->info, DBOS_ERR_NOT_SUPPORTED, position,
                                "cannot use column reference in DEFAULT expression");
        }
        return binder.err;
    }
    if (binder.type_count != 0) {
        return dbos_fail_at(runner->info, DBOS_ERR_UNDEFINED_PARAMETER, expr->position,
                            "there is no parameter $%u", binder.type_count);
    }
    if (dbos_coerce_column(&binder, expr, column) == NULL) {
        if (binder.err == DBOS_ERR_DATATYPE_MISMATCH && runner->info != NULL) {
            (void)dbos_fail(runner->info, DBOS_ERR_DATATYPE_MISMATCH,
                            "column \"%s\" is of type %s but default expression is of type %s",
                            column->name, dbos_type_name((enum dbos_type)column->type),
                            dbos_bind_type_name((enum dbos_type)expr->type));
            dbos_err_hint(runner->info, "You will need to rewrite or cast the expression.");
        }
        return binder.err;
    }
    return DBOS_OK;
}

static enum dbos_err build_columns(struct table_builder *builder) {
    const struct dbos_ast_create_table *ast = builder->ast;
    struct dbos_errinfo *info = builder->runner->info;
    if (ast->column_count > DBOS_COLUMNS_MAX) {
        return dbos_fail(info, DBOS_ERR_TOO_MANY_COLUMNS, "tables can have at most %d columns",
                         DBOS_COLUMNS_MAX);
    }
    for (uint32_t i = 0; i < ast->column_count; i++) {
        const struct dbos_ast_column *from = &ast->columns[i];
        struct dbos_column *column = &builder->columns[i];
        for (uint32_t k = 0; k < i; k++) {
            if (strcmp(ast->columns[k].name, from->name) == 0) {
                return dbos_fail_at(info, DBOS_ERR_DUPLICATE_COLUMN, from->position,
                                    "column \"%s\" specified more than once", from->name);
            }
        }
        column->id = i + 1;
        (void)snprintf(column->name, sizeof column->name, "%s", from->name);
        column->type = (uint8_t)from->type.type;
        column->chars_max = from->type.chars_max;
        column->not_null = from->not_null;
        enum dbos_err err = check_default(builder->runner, from, column);
        if (err != DBOS_OK) {
            return err;
        }
        if (from->default_sql != NULL) {
            column->default_sql = dbos_arena_copy(&builder->runner->keep, from->default_sql,
                                                  strlen(from->default_sql));
            if (column->default_sql == NULL) {
                return dbos_runner_nomem(builder->runner);
            }
        }
    }
    builder->parts.column_count = (uint16_t)ast->column_count;
    return DBOS_OK;
}

static int32_t column_of(const struct table_builder *builder, const char *name) {
    for (uint32_t i = 0; i < builder->parts.column_count; i++) {
        if (strcmp(builder->columns[i].name, name) == 0) {
            return (int32_t)i;
        }
    }
    return -1;
}

static enum dbos_err key_columns(struct table_builder *builder, const struct dbos_ast_key *key,
                                 struct dbos_index_def *index) {
    struct dbos_errinfo *info = builder->runner->info;
    for (uint32_t i = 0; i < key->column_count; i++) {
        int32_t column = column_of(builder, key->columns[i].name);
        if (column < 0) {
            return dbos_fail_at(info, DBOS_ERR_UNDEFINED_COLUMN, key->position,
                                "column \"%s\" named in key does not exist", key->columns[i].name);
        }
        for (uint32_t k = 0; k < i; k++) {
            if (index->columns[k] == column) {
                return dbos_fail_at(info, DBOS_ERR_DUPLICATE_COLUMN, key->position,
                                    "column \"%s\" appears twice in %s constraint",
                                    key->columns[i].name, key->primary ? "primary key" : "unique");
            }
        }
        index->columns[i] = (uint16_t)column;
    }
    index->column_count = (uint16_t)key->column_count;
    return DBOS_OK;
}

static enum dbos_err build_key(struct table_builder *builder, const struct dbos_ast_key *key) {
    struct dbos_errinfo *info = builder->runner->info;
    struct dbos_catalog *catalog = dbos_txn_catalog(builder->runner->run->txn);
    uint32_t number = builder->parts.index_count;
    if (number == DBOS_INDEXES_MAX) {
        return dbos_fail_at(info, DBOS_ERR_INVALID_TABLE_DEFINITION, key->position,
                            "tables can have at most %d indexes", DBOS_INDEXES_MAX);
    }
    struct dbos_index_def *index = &builder->indexes[number];
    *index = (struct dbos_index_def){.id = catalog->next_index_id + number,
                                     .unique = true,
                                     .primary = key->primary,
                                     .kind = key->column_count == 1 ? DBOS_INDEX_HASH
                                                                    : DBOS_INDEX_ORDERED};
    enum dbos_err err = key_columns(builder, key, index);
    if (err != DBOS_OK) {
        return err;
    }
    struct names names = {.catalog = catalog, .indexes = builder->indexes, .count = number};
    char columns[512];
    join_columns(key->columns, key->column_count, columns, sizeof columns);
    if (key->name == NULL) {
        choose_name(&names, builder->ast->table.name, key->primary ? "" : columns,
                    key->primary ? "pkey" : "key", index->name);
    } else if (name_is_taken(&names, key->name)) {
        return dbos_fail(info, DBOS_ERR_DUPLICATE_TABLE, "relation \"%s\" already exists",
                         key->name);
    } else {
        (void)snprintf(index->name, sizeof index->name, "%s", key->name);
    }
    builder->parts.index_count++;
    return DBOS_OK;
}

/* The primary key comes first, wherever it is written. */
static enum dbos_err build_keys(struct table_builder *builder) {
    const struct dbos_ast_create_table *ast = builder->ast;
    enum dbos_err err = DBOS_OK;
    bool has_primary = false;
    for (uint32_t i = 0; i < ast->key_count && err == DBOS_OK; i++) {
        if (ast->keys[i].primary && has_primary) {
            return dbos_fail_at(
                builder->runner->info, DBOS_ERR_INVALID_TABLE_DEFINITION, ast->keys[i].position,
                "multiple primary keys for table \"%s\" are not allowed", ast->table.name);
        }
        has_primary = has_primary || ast->keys[i].primary;
        err = ast->keys[i].primary ? build_key(builder, &ast->keys[i]) : DBOS_OK;
    }
    for (uint32_t i = 0; i < ast->key_count && err == DBOS_OK; i++) {
        err = ast->keys[i].primary ? DBOS_OK : build_key(builder, &ast->keys[i]);
    }
    return err;
}

static enum dbos_err build_partitioning(struct table_builder *builder) {
    const char *name = builder->ast->partition_column;
    builder->parts.partition_column = -1;
    if (name == NULL) {
        return DBOS_OK;
    }
    builder->parts.partition_column = column_of(builder, name);
    if (builder->parts.partition_column < 0) {
        return dbos_fail_at(builder->runner->info, DBOS_ERR_UNDEFINED_COLUMN,
                            builder->ast->partition_position,
                            "column \"%s\" named in partition key does not exist", name);
    }
    return DBOS_OK;
}

/* Where the key stands that lacks the partitioning column. */
static uint32_t offending_key(const struct table_builder *builder) {
    const struct dbos_ast_create_table *ast = builder->ast;
    for (uint32_t i = 0; i < ast->key_count && ast->partition_column != NULL; i++) {
        bool found = false;
        for (uint32_t c = 0; c < ast->keys[i].column_count; c++) {
            found = found || strcmp(ast->keys[i].columns[c].name, ast->partition_column) == 0;
        }
        if (!found) {
            return ast->keys[i].position;
        }
    }
    return 0;
}

static enum dbos_err define_table(struct table_builder *builder) {
    struct dbos_runner *runner = builder->runner;
    struct dbos_catalog *catalog = dbos_txn_catalog(runner->run->txn);
    struct dbos_table_def *def;
    builder->parts.id = catalog->next_table_id;
    builder->parts.schema_version = 1;
    builder->parts.schema = "public";
    builder->parts.name = builder->ast->table.name;
    builder->parts.columns = builder->columns;
    builder->parts.indexes = builder->indexes;
    enum dbos_err err = dbos_table_def_make(catalog->alloc, &builder->parts, &def, runner->info);
    if (err != DBOS_OK) {
        uint32_t position = offending_key(builder);
        if (position != 0) {
            dbos_err_hint(runner->info,
                          "A unique key is checked inside one partition: add the partitioning "
                          "column to it, or partition by one of its columns.");
        }
        return at(runner, err, position);
    }
    err = dbos_txn_create_table(runner->run->txn, def, runner->info);
    dbos_table_def_unref(def);
    return err;
}

static enum dbos_err create_table(struct dbos_runner *runner,
                                  const struct dbos_ast_create_table *ast) {
    struct dbos_catalog *catalog = dbos_txn_catalog(runner->run->txn);
    enum dbos_err err = dbos_schema_check(ast->table.schema, runner->info);
    if (err != DBOS_OK) {
        return at(runner, err, ast->table.position);
    }
    struct names names = {.catalog = catalog};
    if (name_is_taken(&names, ast->table.name)) {
        return ast->if_not_exists ? DBOS_OK
                                  : dbos_fail(runner->info, DBOS_ERR_DUPLICATE_TABLE,
                                              "relation \"%s\" already exists", ast->table.name);
    }
    struct table_builder *builder = dbos_arena_take_zero(&runner->keep, sizeof *builder);
    if (builder == NULL) {
        return dbos_runner_nomem(runner);
    }
    builder->runner = runner;
    builder->ast = ast;
    err = build_columns(builder);
    if (err == DBOS_OK) {
        err = build_partitioning(builder);
    }
    if (err == DBOS_OK) {
        err = build_keys(builder);
    }
    if (err == DBOS_OK) {
        err = define_table(builder);
    }
    return err == DBOS_OK ? replan(runner) : err;
}

/* -- DROP TABLE -----------------------------------------------------------------------------------
 */

static enum dbos_err drop_table(struct dbos_runner *runner, const struct dbos_ast_name *name,
                                bool if_exists) {
    struct dbos_catalog *catalog = dbos_txn_catalog(runner->run->txn);
    const struct dbos_table_def *def = dbos_catalog_table(catalog, name->schema, name->name);
    uint32_t index;
    if (def != NULL && strcmp(def->schema, "public") != 0) {
        return dbos_fail(runner->info, DBOS_ERR_PRIVILEGE, "must be owner of table %s", def->name);
    }
    if (def != NULL) {
        return dbos_txn_drop_table(runner->run->txn, def->id, runner->info);
    }
    if (dbos_catalog_index(catalog, name->schema, name->name, &index) != NULL) {
        (void)dbos_fail(runner->info, DBOS_ERR_WRONG_OBJECT_TYPE, "\"%s\" is not a table",
                        name->name);
        dbos_err_hint(runner->info, "Use DROP INDEX to remove an index.");
        return DBOS_ERR_WRONG_OBJECT_TYPE;
    }
    enum dbos_view_id view;
    if (dbos_view_find(name->schema, name->name, &view)) {
        return dbos_fail(runner->info, DBOS_ERR_WRONG_OBJECT_TYPE, "\"%s\" is not a table",
                         name->name);
    }
    return if_exists ? DBOS_OK
                     : dbos_fail(runner->info, DBOS_ERR_UNDEFINED_TABLE,
                                 "table \"%s\" does not exist", name->name);
}

/* -- indexes --------------------------------------------------------------------------------------
 */

/* The same table with these indexes. */
static enum dbos_err redefine(struct dbos_runner *runner, const struct dbos_table_def *def,
                              const struct dbos_index_def *indexes, uint32_t count,
                              uint32_t position) {
    struct dbos_table_def *fresh;
    struct dbos_table_parts parts = {.id = def->id,
                                     .schema_version = def->schema_version + 1,
                                     .schema = def->schema,
                                     .name = def->name,
                                     .partition_column = def->partition_column,
                                     .column_count = def->column_count,
                                     .index_count = (uint16_t)count,
                                     .columns = def->columns,
                                     .indexes = indexes};
    struct dbos_alloc *alloc = dbos_txn_catalog(runner->run->txn)->alloc;
    enum dbos_err err = dbos_table_def_make(alloc, &parts, &fresh, runner->info);
    if (err != DBOS_OK) {
        return at(runner, err, position);
    }
    err = dbos_txn_redefine_table(runner->run->txn, fresh, runner->info);
    dbos_table_def_unref(fresh);
    return err == DBOS_OK ? replan(runner) : err;
}

static enum dbos_err index_columns(struct dbos_runner *runner,
                                   const struct dbos_ast_create_index *ast,
                                   const struct dbos_table_def *def, struct dbos_index_def *out) {
    for (uint32_t i = 0; i < ast->column_count; i++) {
        int32_t column = dbos_table_def_column(def, ast->columns[i].name);
        if (column < 0) {
            return dbos_fail(runner->info, DBOS_ERR_UNDEFINED_COLUMN,
                             "column \"%s\" does not exist", ast->columns[i].name);
        }
        out->columns[i] = (uint16_t)column;
    }
    out->column_count = (uint16_t)ast->column_count;
    return DBOS_OK;
}

static enum dbos_err find_index_table(struct dbos_runner *runner,
                                      const struct dbos_ast_relation *table,
                                      const struct dbos_table_def **out) {
    struct dbos_binder binder = {.arena = &runner->keep,
                                 .info = runner->info,
                                 .catalog = dbos_txn_catalog(runner->run->txn)};
    *out = dbos_plan_find_table(&binder, table);
    if (*out == NULL) {
        if (runner->info != NULL) {
            runner->info->position = 0; /* PostgreSQL gives none here */
        }
        return binder.err;
    }
    if (strcmp((*out)->schema, "public") != 0) {
        return dbos_fail(runner->info, DBOS_ERR_PRIVILEGE, "must be owner of table %s",
                         (*out)->name);
    }
    return DBOS_OK;
}

static enum dbos_err name_index(struct dbos_runner *runner, const struct dbos_ast_create_index *ast,
                                const struct dbos_table_def *def, struct dbos_index_def *index,
                                bool *exists) {
    struct names names = {.catalog = dbos_txn_catalog(runner->run->txn)};
    char columns[512];
    join_columns(ast->columns, ast->column_count, columns, sizeof columns);
    *exists = false;
    if (ast->name == NULL) {
        choose_name(&names, def->name, columns, "idx", index->name);
        return DBOS_OK;
    }
    *exists = name_is_taken(&names, ast->name);
    (void)snprintf(index->name, sizeof index->name, "%s", ast->name);
    return !*exists || ast->if_not_exists ? DBOS_OK
                                          : dbos_fail(runner->info, DBOS_ERR_DUPLICATE_TABLE,
                                                      "relation \"%s\" already exists", ast->name);
}

static enum dbos_err create_index(struct dbos_runner *runner,
                                  const struct dbos_ast_create_index *ast) {
    const struct dbos_table_def *def;
    bool exists;
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    enum dbos_err err = find_index_table(runner, &ast->table, &def);
    if (err != DBOS_OK) {
        return err;
    }
    if (def->index_count == DBOS_INDEXES_MAX) {
        return dbos_fail(runner->info, DBOS_ERR_INVALID_TABLE_DEFINITION,
                         "tables can have at most %d indexes", DBOS_INDEXES_MAX);
    }
    if (def->index_count != 0) {
        memcpy(indexes, def->indexes, def->index_count * sizeof indexes[0]);
    }
    struct dbos_index_def *index = &indexes[def->index_count];
    *index = (struct dbos_index_def){.id = dbos_txn_catalog(runner->run->txn)->next_index_id,
                                     .kind = ast->hash ? DBOS_INDEX_HASH : DBOS_INDEX_ORDERED,
                                     .unique = ast->unique};
    err = name_index(runner, ast, def, index, &exists);
    if (err != DBOS_OK || exists) {
        return err;
    }
    err = index_columns(runner, ast, def, index);
    return err == DBOS_OK
               ? redefine(runner, def, indexes, def->index_count + 1u, ast->table.position)
               : err;
}

static enum dbos_err no_index(struct dbos_runner *runner, const struct dbos_ast_name *name,
                              bool if_exists) {
    if (dbos_catalog_table(dbos_txn_catalog(runner->run->txn), name->schema, name->name) != NULL) {
        (void)dbos_fail(runner->info, DBOS_ERR_WRONG_OBJECT_TYPE, "\"%s\" is not an index",
                        name->name);
        dbos_err_hint(runner->info, "Use DROP TABLE to remove a table.");
        return DBOS_ERR_WRONG_OBJECT_TYPE;
    }
    return if_exists ? DBOS_OK
                     : dbos_fail(runner->info, DBOS_ERR_UNDEFINED_OBJECT,
                                 "index \"%s\" does not exist", name->name);
}

static enum dbos_err drop_index(struct dbos_runner *runner, const struct dbos_ast_name *name,
                                bool if_exists) {
    uint32_t number = 0;
    struct dbos_index_def indexes[DBOS_INDEXES_MAX];
    const struct dbos_table_def *def =
        dbos_catalog_index(dbos_txn_catalog(runner->run->txn), name->schema, name->name, &number);
    if (def == NULL) {
        return no_index(runner, name, if_exists);
    }
    if (strcmp(def->schema, "public") != 0) {
        return dbos_fail(runner->info, DBOS_ERR_PRIVILEGE, "must be owner of index %s", name->name);
    }
    if (def->indexes[number].primary) {
        return dbos_fail(runner->info, DBOS_ERR_DEPENDENT_OBJECTS,
                         "cannot drop index %s because constraint %s on table %s requires it",
                         name->name, name->name, def->name);
    }
    uint32_t count = 0;
    for (uint32_t i = 0; i < def->index_count; i++) {
        if (i != number) {
            indexes[count++] = def->indexes[i];
        }
    }
    return redefine(runner, def, indexes, count, 0);
}

/* -- procedures -----------------------------------------------------------------------------------
 */

static enum dbos_err create_procedure(struct dbos_runner *runner,
                                      const struct dbos_ast_create_procedure *ast) {
    struct dbos_arena *arena = &runner->keep;
    struct dbos_procedure_info info = {.is_function = ast->is_function,
                                       .returns = (uint8_t)ast->returns,
                                       .language = (uint8_t)ast->language,
                                       .argument_count = (uint16_t)ast->argument_count,
                                       .arguments = ast->arguments};
    (void)snprintf(info.name, sizeof info.name, "%s", ast->name);
    info.symbol =
        ast->symbol == NULL ? NULL : dbos_arena_copy(arena, ast->symbol, strlen(ast->symbol));
    info.body = ast->body == NULL ? NULL : dbos_arena_copy(arena, ast->body, strlen(ast->body));
    info.route = ast->route == NULL ? NULL : dbos_arena_copy(arena, ast->route, strlen(ast->route));
    if ((ast->symbol != NULL && info.symbol == NULL) || (ast->body != NULL && info.body == NULL) ||
        (ast->route != NULL && info.route == NULL)) {
        return dbos_runner_nomem(runner);
    }
    struct dbos_create_procedure create = {
        .info = &info, .replace = ast->replace, .file = ast->file};
    return dbos_procs_create(runner->run->procs, runner->run, &create, runner->info);
}

static enum dbos_err drop_procedure(struct dbos_runner *runner, const struct dbos_ast_name *name,
                                    const struct dbos_ast_drop *ast) {
    const struct dbos_procedure_info *procedure =
        dbos_catalog_procedure(dbos_txn_catalog(runner->run->txn), name->name);
    if (procedure == NULL && !ast->if_exists) {
        return dbos_fail(runner->info, DBOS_ERR_UNDEFINED_FUNCTION,
                         "could not find a %s named \"%s\"",
                         ast->is_function ? "function" : "procedure", name->name);
    }
    if (procedure != NULL && procedure->is_function != ast->is_function) {
        return dbos_fail(runner->info, DBOS_ERR_WRONG_OBJECT_TYPE, "%s is not a %s", name->name,
                         ast->is_function ? "function" : "procedure");
    }
    return dbos_procs_drop(runner->run->procs, runner->run, name->name, ast->if_exists,
                           runner->info);
}

/* -- all ------------------------------------------------------------------------------------------
 */

static enum dbos_err drop_each(struct dbos_runner *runner, enum dbos_ddl ddl,
                               const struct dbos_ast_drop *ast) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < ast->name_count && err == DBOS_OK; i++) {
        if (ddl == DBOS_DDL_DROP_TABLE) {
            err = drop_table(runner, &ast->names[i], ast->if_exists);
        } else if (ddl == DBOS_DDL_DROP_INDEX) {
            err = drop_index(runner, &ast->names[i], ast->if_exists);
        } else {
            err = drop_procedure(runner, &ast->names[i], ast);
        }
    }
    return err == DBOS_OK && ddl == DBOS_DDL_DROP_TABLE ? replan(runner) : err;
}

enum dbos_err dbos_run_ddl(struct dbos_runner *runner) {
    const struct dbos_ast_statement *statement = runner->plan->statement;
    DBOS_CHECK(dbos_txn_partition(runner->run->txn) == DBOS_PARTITION_ALL);
    switch (statement->ddl) {
    case DBOS_DDL_CREATE_TABLE:
        return create_table(runner, &statement->create_table);
    case DBOS_DDL_CREATE_INDEX:
        return create_index(runner, &statement->create_index);
    case DBOS_DDL_CREATE_PROCEDURE:
        return create_procedure(runner, &statement->create_procedure);
    case DBOS_DDL_DROP_TABLE:
    case DBOS_DDL_DROP_INDEX:
    case DBOS_DDL_DROP_PROCEDURE:
        break;
    }
    return drop_each(runner, statement->ddl, &statement->drop);
}
