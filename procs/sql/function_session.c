/* Who and where. */
#include "procs/sql/function.h"

static enum dbos_err put_name(struct dbos_eval *eval, const char *name, struct dbos_datum *out) {
    char *copy = dbos_arena_copy(eval->arena, name, strlen(name));
    *out = dbos_datum_bytes(DBOS_TYPE_TEXT, copy, strlen(name));
    return copy != NULL ? DBOS_OK : dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
}

static enum dbos_err user_name(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_name(eval, eval->run->user, out);
}

static enum dbos_err database_name(struct dbos_eval *eval, const struct dbos_datum *args,
                                   uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_name(eval, "dbos", out);
}

static enum dbos_err schema_name(struct dbos_eval *eval, const struct dbos_datum *args,
                                 uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_name(eval, "public", out);
}

static enum dbos_err version_text(struct dbos_eval *eval, const struct dbos_datum *args,
                                  uint32_t count, struct dbos_datum *out) {
    (void)args;
    (void)count;
    return put_name(eval, "PostgreSQL 15.0 (dbosd 0.1.0)", out);
}

static enum dbos_err type_name(struct dbos_eval *eval, const struct dbos_datum *args,
                               uint32_t count, struct dbos_datum *out) {
    enum dbos_type type = (enum dbos_type)args[0].type;
    (void)count;
    return put_name(eval, type == DBOS_TYPE_UNKNOWN ? "unknown" : dbos_type_name(type), out);
}

#define TEXT DBOS_TYPE_TEXT

static const struct dbos_function functions[] = {
    {.name = "current_user", .result = TEXT, .volatility = DBOS_STABLE, .call = user_name},
    {.name = "session_user", .result = TEXT, .volatility = DBOS_STABLE, .call = user_name},
    {.name = "user", .result = TEXT, .volatility = DBOS_STABLE, .call = user_name},
    {.name = "current_role", .result = TEXT, .volatility = DBOS_STABLE, .call = user_name},
    {.name = "current_database", .result = TEXT, .call = database_name},
    {.name = "current_catalog", .result = TEXT, .call = database_name},
    {.name = "current_schema", .result = TEXT, .call = schema_name},
    {.name = "version", .result = TEXT, .call = version_text},
    {.name = "pg_typeof",
     .count = 1,
     .args = {DBOS_TYPE_UNKNOWN},
     .result = TEXT,
     .takes_null = true,
     .call = type_name},
};

struct dbos_function_table dbos_functions_session(void) {
    return (struct dbos_function_table){.functions = functions,
                                        .count = sizeof functions / sizeof functions[0]};
}
