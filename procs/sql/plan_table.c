/* Tables: found by name, and who may write them. */
#include "procs/sql/plan.h"

enum dbos_err dbos_schema_check(const char *schema, struct dbos_errinfo *info) {
    if (schema == NULL || strcmp(schema, "public") == 0) {
        return DBOS_OK;
    }
    if (strcmp(schema, "dbos") == 0 || strcmp(schema, "prov") == 0 ||
        strcmp(schema, "pg_catalog") == 0) {
        return dbos_fail(info, DBOS_ERR_PRIVILEGE, "permission denied for schema %s", schema);
    }
    return dbos_fail_state(info, DBOS_ERR_UNDEFINED_OBJECT, "3F000", "schema \"%s\" does not exist",
                           schema);
}

bool dbos_plan_is_view(const struct dbos_binder *binder, const struct dbos_ast_relation *relation,
                       enum dbos_view_id *out) {
    return dbos_catalog_table(binder->catalog, relation->schema, relation->name) == NULL &&
           dbos_view_find(relation->schema, relation->name, out);
}

const struct dbos_table_def *dbos_plan_find_table(struct dbos_binder *binder,
                                                  const struct dbos_ast_relation *relation) {
    const struct dbos_table_def *def =
        dbos_catalog_table(binder->catalog, relation->schema, relation->name);
    if (def != NULL) {
        return def;
    }
    uint32_t index;
    enum dbos_view_id view;
    if (dbos_plan_is_view(binder, relation, &view)) {
        return dbos_bind_fail(binder, DBOS_ERR_PRIVILEGE, relation->position,
                              "permission denied for view %s", relation->name);
    }
    if (relation->schema == NULL &&
        dbos_catalog_index(binder->catalog, NULL, relation->name, &index) != NULL) {
        return dbos_bind_fail(binder, DBOS_ERR_WRONG_OBJECT_TYPE, relation->position,
                              "cannot open relation \"%s\"", relation->name);
    }
    return dbos_bind_fail(binder, DBOS_ERR_UNDEFINED_TABLE, relation->position,
                          "relation \"%s%s%s\" does not exist",
                          relation->schema == NULL ? "" : relation->schema,
                          relation->schema == NULL ? "" : ".", relation->name);
}

void dbos_plan_set_source(struct dbos_binder *binder, const struct dbos_ast_relation *relation,
                          const struct dbos_table_def *def) {
    binder->def = def;
    binder->has_alias = relation->alias != NULL;
    binder->table_name = relation->alias != NULL ? relation->alias : relation->name;
}

/* The system's tables are written by the system; models by procedures, too. */
bool dbos_plan_may_write(struct dbos_binder *binder, const struct dbos_plan *plan,
                         const struct dbos_table_def *def) {
    if (strcmp(def->schema, "dbos") != 0) {
        return true;
    }
    if (plan->in_procedure && (def->id == DBOS_TABLE_MODEL || def->id == DBOS_TABLE_MODEL_CHUNK)) {
        return true;
    }
    return dbos_bind_fail(binder, DBOS_ERR_PRIVILEGE, 0, "permission denied for table %s",
                          def->name) != NULL;
}
