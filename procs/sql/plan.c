/* Plans: making, keeping, asking. */
#include "procs/sql/plan.h"

#include <stdio.h>

enum { PLAN_CHUNK_BYTES = 2048 };

static void close_plan(struct dbos_plan *plan) {
    struct dbos_alloc *alloc = plan->alloc;
    if (plan->view_columns != NULL) {
        dbos_table_def_unref(plan->view_columns);
    }
    dbos_catalog_unref(plan->catalog);
    dbos_script_close(plan->script);
    dbos_arena_fini(&plan->arena);
    dbos_give(alloc, plan);
}

static bool plan_select_or_call(struct dbos_binder *binder, struct dbos_plan *plan) {
    const struct dbos_ast_select *ast = &plan->statement->select;
    struct dbos_ast_call call;
    const char *name;
    if (dbos_plan_is_call(plan, ast, &call, &name)) {
        return dbos_plan_call(binder, plan, &call, name, true);
    }
    plan->read_only = true;
    if (!dbos_plan_select(binder, plan, ast, &plan->select, &plan->columns)) {
        return false;
    }
    plan->column_count = plan->select.column_count;
    return true;
}

static bool plan_statement(struct dbos_binder *binder, struct dbos_plan *plan) {
    switch (plan->kind) {
    case DBOS_STATEMENT_SELECT:
        return plan_select_or_call(binder, plan);
    case DBOS_STATEMENT_INSERT:
        return dbos_plan_insert(binder, plan);
    case DBOS_STATEMENT_UPDATE:
        return dbos_plan_update(binder, plan);
    case DBOS_STATEMENT_DELETE:
        return dbos_plan_delete(binder, plan);
    case DBOS_STATEMENT_CALL:
        return dbos_plan_call(binder, plan, &plan->statement->call, NULL, false);
    case DBOS_STATEMENT_DDL:
        return true;
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    DBOS_CHECK(!"this kind of statement has no plan");
    return false;
}

struct plan_request {
    struct dbos_alloc *alloc;
    struct dbos_catalog *catalog;
    struct dbos_procs *procs;
    struct dbos_script *script;
    uint32_t statement;
    const enum dbos_type *hints;
    uint32_t hint_count;
    bool in_procedure;
};

static struct dbos_plan *open_plan(const struct plan_request *request) {
    struct dbos_plan *plan = dbos_take_zero(request->alloc, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    atomic_init(&plan->refs, 1);
    plan->alloc = request->alloc;
    dbos_arena_init(&plan->arena, request->alloc, PLAN_CHUNK_BYTES);
    plan->script = dbos_script_ref(request->script);
    plan->catalog = dbos_catalog_ref(request->catalog);
    plan->procs = request->procs;
    plan->statement = &request->script->statements[request->statement];
    plan->kind = plan->statement->kind;
    plan->in_procedure = request->in_procedure;
    plan->statement_id =
        dbos_hash64(0, plan->statement->text.data, plan->statement->text.size_bytes);
    return plan;
}

static enum dbos_err make(const struct plan_request *request, struct dbos_plan **out,
                          struct dbos_errinfo *info) {
    *out = NULL;
    DBOS_CHECK(request->statement < request->script->count);
    struct dbos_plan *plan = open_plan(request);
    if (plan == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    struct dbos_binder binder = {.arena = &plan->arena, .info = info, .catalog = request->catalog};
    bool done = dbos_bind_hints(&binder, request->hints, request->hint_count) &&
                plan_statement(&binder, plan) && dbos_bind_parameters_known(&binder);
    if (!done) {
        DBOS_CHECK(binder.err != DBOS_OK);
        close_plan(plan);
        return binder.err;
    }
    plan->parameter_types = binder.types;
    plan->parameter_count = binder.type_count;
    *out = plan;
    return DBOS_OK;
}

enum dbos_err dbos_plan_make(struct dbos_alloc *alloc, struct dbos_catalog *catalog,
                             struct dbos_procs *procs, struct dbos_script *script,
                             uint32_t statement, const enum dbos_type *hints, uint32_t hint_count,
                             struct dbos_plan **out, struct dbos_errinfo *info) {
    struct plan_request request = {.alloc = alloc,
                                   .catalog = catalog,
                                   .procs = procs,
                                   .script = script,
                                   .statement = statement,
                                   .hints = hints,
                                   .hint_count = hint_count};
    return make(&request, out, info);
}

enum dbos_err dbos_plan_make_in_procedure(struct dbos_alloc *alloc, struct dbos_catalog *catalog,
                                          struct dbos_procs *procs, struct dbos_script *script,
                                          uint32_t statement, const enum dbos_type *hints,
                                          uint32_t hint_count, struct dbos_plan **out,
                                          struct dbos_errinfo *info) {
    struct plan_request request = {.alloc = alloc,
                                   .catalog = catalog,
                                   .procs = procs,
                                   .script = script,
                                   .statement = statement,
                                   .hints = hints,
                                   .hint_count = hint_count,
                                   .in_procedure = true};
    return make(&request, out, info);
}

struct dbos_plan *dbos_plan_ref(struct dbos_plan *plan) {
    DBOS_CHECK(atomic_fetch_add_explicit(&plan->refs, 1, memory_order_relaxed) != 0);
    return plan;
}

void dbos_plan_unref(struct dbos_plan *plan) {
    if (plan != NULL && atomic_fetch_sub_explicit(&plan->refs, 1, memory_order_acq_rel) == 1) {
        close_plan(plan);
    }
}

enum dbos_statement_kind dbos_plan_kind(const struct dbos_plan *plan) { return plan->kind; }
uint64_t dbos_plan_catalog_version(const struct dbos_plan *plan) { return plan->catalog->version; }

void dbos_plan_follow(struct dbos_plan *plan, struct dbos_catalog *catalog) {
    struct dbos_catalog *old = plan->catalog;
    DBOS_CHECK(catalog->table_count == old->table_count &&
               catalog->procedure_count == old->procedure_count);
    plan->catalog = dbos_catalog_ref(catalog);
    dbos_catalog_unref(old);
}
uint64_t dbos_plan_statement_id(const struct dbos_plan *plan) { return plan->statement_id; }
void dbos_plan_set_owner(struct dbos_plan *plan, const struct dbos_procedure_info *procedure,
                         uint32_t ordinal) {
    plan->own = (struct dbos_txn_own_statement){
        .procedure = procedure->id,
        .procedure_version = procedure->version,
        .ordinal = ordinal,
        .id = dbos_record_statement_id(procedure->id, procedure->version, ordinal),
        .text_id = plan->statement_id,
        .text = dbos_plan_text(plan),
    };
}
const char *dbos_plan_text(const struct dbos_plan *plan) {
    return (const char *)plan->statement->text.data;
}
uint32_t dbos_plan_parameters(const struct dbos_plan *plan, const enum dbos_type **out_types) {
    *out_types = plan->parameter_types;
    return plan->parameter_count;
}
uint32_t dbos_plan_columns(const struct dbos_plan *plan, const struct dbos_result_column **out) {
    *out = plan->columns;
    return plan->column_count;
}
/* Quick runs count up, slow ones down by more, and one that holds others up by as many as it may
 * happen among: the thread may have lost its processor meanwhile, which says nothing about the
 * plan. Two threads at once may lose a count: nothing depends on it. */
void dbos_plan_note_time(struct dbos_plan *plan, uint64_t us) {
    enum { QUICK_US = 100, STALL_US = 1000, SLOW_COSTS = 8, STALL_COSTS = 200, COUNT_MAX = 256 };
    int32_t costs = us >= STALL_US ? STALL_COSTS : us >= QUICK_US ? SLOW_COSTS : -1;
    int32_t count = atomic_load_explicit(&plan->quickness, memory_order_relaxed) - costs;
    count = count > COUNT_MAX ? COUNT_MAX : count < -COUNT_MAX ? -COUNT_MAX : count;
    atomic_store_explicit(&plan->quickness, count, memory_order_relaxed);
}

bool dbos_plan_is_quick(const struct dbos_plan *plan) {
    enum { QUICK_RUNS = 16 };
    /* A system view takes locks, and now and then its time. */
    return plan->view_columns == NULL &&
           atomic_load_explicit(&plan->quickness, memory_order_relaxed) >= QUICK_RUNS;
}

bool dbos_plan_is_read_only(const struct dbos_plan *plan) { return plan->read_only; }

const struct dbos_procedure_info *dbos_plan_procedure(const struct dbos_plan *plan) {
    return plan->kind == DBOS_STATEMENT_CALL ? plan->call.procedure : NULL;
}

static bool access_uses(const struct dbos_access *access, uint32_t table_id) {
    return access->def != NULL && access->def->id == table_id;
}

bool dbos_plan_uses_table(const struct dbos_plan *plan, uint32_t table_id) {
    switch (plan->kind) {
    case DBOS_STATEMENT_SELECT:
        return access_uses(&plan->select.access, table_id);
    case DBOS_STATEMENT_INSERT:
        return plan->insert.def->id == table_id ||
               (plan->insert.select != NULL && access_uses(&plan->insert.select->access, table_id));
    case DBOS_STATEMENT_UPDATE:
    case DBOS_STATEMENT_DELETE:
        return access_uses(&plan->change.access, table_id);
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_CALL:
    case DBOS_STATEMENT_DDL:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    return false;
}

/* -- tags -----------------------------------------------------------------------------------------
 */

static const char *ddl_tag(const struct dbos_ast_statement *statement) {
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
        break;
    }
    return statement->drop.is_function ? "DROP FUNCTION" : "DROP PROCEDURE";
}

/* "words count". By hand: it is written for every statement, and printf is a tenth of a
 * microsecond. */
static void put_tag(const char *words, uint64_t count, char *out, size_t out_bytes) {
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = '\0';
    do {
        digits[--at] = (char)('0' + count % 10);
        count /= 10;
    } while (count != 0);
    size_t length = strlen(words);
    DBOS_CHECK(length + sizeof digits - at <= out_bytes);
    memcpy(out, words, length);
    memcpy(out + length, digits + at, sizeof digits - at);
}

void dbos_plan_tag(const struct dbos_plan *plan, uint64_t rows, char *out, size_t out_bytes) {
    switch (plan->kind) {
    case DBOS_STATEMENT_SELECT:
        put_tag("SELECT ", rows, out, out_bytes);
        return;
    case DBOS_STATEMENT_INSERT:
        put_tag("INSERT 0 ", rows, out, out_bytes);
        return;
    case DBOS_STATEMENT_UPDATE:
        put_tag("UPDATE ", rows, out, out_bytes);
        return;
    case DBOS_STATEMENT_DELETE:
        put_tag("DELETE ", rows, out, out_bytes);
        return;
    case DBOS_STATEMENT_CALL:
        if (plan->call.is_select) {
            put_tag("SELECT ", rows, out, out_bytes);
        } else {
            (void)snprintf(out, out_bytes, "CALL");
        }
        return;
    case DBOS_STATEMENT_DDL:
        (void)snprintf(out, out_bytes, "%s", ddl_tag(plan->statement));
        return;
    case DBOS_STATEMENT_EMPTY:
    case DBOS_STATEMENT_SET:
    case DBOS_STATEMENT_SHOW:
    case DBOS_STATEMENT_ARCHIVE:
        break;
    }
    DBOS_CHECK(!"this kind of statement has no plan");
}
