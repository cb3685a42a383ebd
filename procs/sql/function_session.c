/* Who, where, what. */
#include "procs/sql/function.h"

#define ARGS                                                                                       \
    struct dbos_eval *eval, const struct dbos_datum *args, uint32_t count, struct dbos_datum *out

static struct dbos_datum text(const char *value) {
    return dbos_datum_bytes(DBOS_TYPE_TEXT, value, strlen(value));
}

static enum dbos_err call_user(ARGS) {
    (void)args;
    (void)count;
    *out = text(eval->run->user == NULL ? "" : eval->run->user);
    return DBOS_OK;
}
static enum dbos_err call_database(ARGS) {
    (void)eval;
    (void)args;
    (void)count;
    *out = text("dbos");
    return DBOS_OK;
}
static enum dbos_err call_schema(ARGS) {
    (void)eval;
    (void)args;
    (void)count;
    *out = text("public");
    return DBOS_OK;
}
/* Clients look for a PostgreSQL version they know how to speak to. */
static enum dbos_err call_version(ARGS) {
    (void)eval;
    (void)args;
    (void)count;
    *out = text("PostgreSQL 15.0 (dbosd 0.1.0)");
    return DBOS_OK;
}
static enum dbos_err call_typeof(ARGS) {
    (void)eval;
    (void)count;
    *out = text(dbos_type_name((enum dbos_type)args[0].type));
    return DBOS_OK;
}

#define TEXT DBOS_TYPE_TEXT
#define STABLE(function_name, function)                                                            \
    { .name = (function_name), .result = TEXT, .volatility = DBOS_STABLE, .call = (function) }

static const struct dbos_function functions[] = {
    STABLE("current_user", call_user),
    STABLE("session_user", call_user),
    STABLE("current_role", call_user),
    STABLE("user", call_user),
    STABLE("current_database", call_database),
    STABLE("current_catalog", call_database),
    STABLE("current_schema", call_schema),
    STABLE("version", call_version),
    {.name = "pg_typeof",
     .count = 1,
     .args = {DBOS_TYPE_UNKNOWN},
     .result = TEXT,
     .takes_null = true,
     .call = call_typeof},
};

struct dbos_function_table dbos_functions_session(void) {
    return (struct dbos_function_table){functions, sizeof functions / sizeof functions[0]};
}
