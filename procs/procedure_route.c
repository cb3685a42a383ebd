/* Which argument says where a procedure runs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "procs/procedure_internal.h"

/* Values that hash to the same slot have types of one class. */
static int type_class(enum dbos_type type) {
    switch (type) {
    case DBOS_TYPE_INT2:
    case DBOS_TYPE_INT4:
    case DBOS_TYPE_INT8:
        return DBOS_TYPE_INT8;
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_VARCHAR:
        return DBOS_TYPE_TEXT;
    case DBOS_TYPE_UNKNOWN:
    case DBOS_TYPE_BOOL:
    case DBOS_TYPE_FLOAT8:
    case DBOS_TYPE_BYTEA:
    case DBOS_TYPE_TIMESTAMPTZ:
    case DBOS_TYPE_VOID:
        break;
    }
    return (int)type;
}

/* -- "table.column=$n" ----------------------------------------------------------------------------
 */

static const char *skip_blanks(const char *at) {
    while (*at == ' ') {
        at++;
    }
    return at;
}

/* An identifier of at most 63 bytes; NULL = there is none. */
static const char *take_name(const char *at, char out[DBOS_NAME_BYTES]) {
    size_t length = strcspn(at, " .=");
    if (length == 0 || length >= DBOS_NAME_BYTES) {
        return NULL;
    }
    memcpy(out, at, length);
    out[length] = '\0';
    return skip_blanks(at + length);
}

static bool split(const char *text, char table[DBOS_NAME_BYTES], char column[DBOS_NAME_BYTES],
                  uint32_t *argument) {
    const char *at = take_name(skip_blanks(text), table);
    if (at == NULL || *at != '.') {
        return false;
    }
    at = take_name(skip_blanks(at + 1), column);
    if (at == NULL || *at != '=') {
        return false;
    }
    at = skip_blanks(at + 1);
    if (at[0] != '$' || at[1] < '1' || at[1] > '9') {
        return false;
    }
    char *end;
    unsigned long n = strtoul(at + 1, &end, 10);
    *argument = n > DBOS_ARGUMENTS_MAX ? DBOS_ARGUMENTS_MAX : (uint32_t)n - 1;
    return *skip_blanks(end) == '\0';
}

enum dbos_err dbos_route_parse(const struct dbos_procedure_info *info, const char *text,
                               struct dbos_catalog *catalog, uint64_t *out,
                               struct dbos_errinfo *error) {
    char table[DBOS_NAME_BYTES];
    char column[DBOS_NAME_BYTES];
    uint32_t argument = 0;
    *out = 0;
    if (!split(text, table, column, &argument)) {
        return dbos_fail(error, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "route \"%.64s\" is not of the form table.column=$n", text);
    }
    const struct dbos_table_def *def = dbos_catalog_table(catalog, NULL, table);
    if (def == NULL) {
        return dbos_fail(error, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "route \"%.64s\": table \"%s\" does not exist", text, table);
    }
    int32_t position = dbos_table_def_column(def, column);
    if (position < 0 || position != def->partition_column) {
        return dbos_fail(error, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "route \"%.64s\": \"%s\" is not the partitioning column of \"%s\"", text,
                         column, table);
    }
    if (argument >= info->argument_count) {
        return dbos_fail(error, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "route \"%.64s\": procedure \"%s\" has %u arguments", text, info->name,
                         info->argument_count);
    }
    enum dbos_type has = (enum dbos_type)info->arguments[argument].type;
    enum dbos_type needs = (enum dbos_type)def->columns[position].type;
    if (type_class(has) != type_class(needs)) {
        return dbos_fail(error, DBOS_ERR_INVALID_OBJECT_DEFINITION,
                         "route \"%.64s\": the column is %s, the argument %s", text,
                         dbos_type_name(needs), dbos_type_name(has));
    }
    *out = dbos_route_pack(def->id, argument);
    return DBOS_OK;
}

/* -- inference ------------------------------------------------------------------------------------
 */

enum { PROBES = 4 };

/* The probe-th value of a type, different for each probe and each argument. */
static struct dbos_datum probe_value(enum dbos_type type, uint32_t probe, uint32_t argument) {
    static const char letters[PROBES * DBOS_ARGUMENTS_MAX + 1] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&()*+,-./"
        ":;<=>?@[]^_{|}~";
    uint32_t n = 1 + probe * 31 + argument;
    switch (type_class(type)) {
    case DBOS_TYPE_TEXT:
    case DBOS_TYPE_BYTEA:
        return dbos_datum_bytes(type, letters + n % 80, 1);
    case DBOS_TYPE_FLOAT8:
        return dbos_datum_real(n);
    case DBOS_TYPE_BOOL:
        return dbos_datum_int(type, probe & 1);
    default:
        return dbos_datum_int(type, n);
    }
}

/* Does a plan go where argument `argument` hashes, whatever the arguments are? A plan tells only
 * where given values lead, so it is asked with several: four slots of 1,024 do not agree by
 * accident. */
static bool follows(const struct dbos_procedure_info *info, const struct dbos_plan *plan,
                    uint32_t argument) {
    const enum dbos_type *types;
    uint32_t count = dbos_plan_parameters(plan, &types);
    if (argument >= count) {
        return false;
    }
    for (uint32_t probe = 0; probe < PROBES; probe++) {
        struct dbos_datum values[DBOS_ARGUMENTS_MAX];
        for (uint32_t i = 0; i < count; i++) {
            values[i] = probe_value(types[i], probe, i);
        }
        struct dbos_datum own = values[argument];
        own.type = info->arguments[argument].type;
        enum dbos_route_kind kind;
        uint32_t slot = 0;
        struct dbos_errinfo why;
        if (dbos_plan_route(plan, values, count, &kind, &slot, &why) != DBOS_OK ||
            kind != DBOS_ROUTE_ONE || slot != dbos_slot_of(&own)) {
            return false;
        }
    }
    return true;
}

static bool needs_no_route(const struct dbos_plan *plan) {
    const enum dbos_type *types;
    uint32_t count = dbos_plan_parameters(plan, &types);
    struct dbos_datum values[DBOS_ARGUMENTS_MAX];
    for (uint32_t i = 0; i < count; i++) {
        values[i] = probe_value(types[i], 0, i);
    }
    enum dbos_route_kind kind;
    uint32_t slot = 0;
    struct dbos_errinfo why;
    return dbos_plan_route(plan, values, count, &kind, &slot, &why) == DBOS_OK &&
           kind == DBOS_ROUTE_ANY;
}

static uint32_t partitioned_table(const struct dbos_plan_set *set, struct dbos_catalog *catalog) {
    for (uint32_t t = 0; t < catalog->table_count; t++) {
        for (uint32_t i = 0; i < set->count && catalog->tables[t]->partition_column >= 0; i++) {
            if (dbos_plan_uses_table(set->plans[i], catalog->tables[t]->id)) {
                return catalog->tables[t]->id;
            }
        }
    }
    return 0;
}

uint64_t dbos_route_infer(const struct dbos_procedure_info *info, const struct dbos_plan_set *set,
                          struct dbos_catalog *catalog) {
    uint32_t table = partitioned_table(set, catalog);
    for (uint32_t argument = 0; argument < info->argument_count && table != 0; argument++) {
        uint32_t following = 0;
        uint32_t indifferent = 0;
        for (uint32_t i = 0; i < set->count; i++) {
            if (needs_no_route(set->plans[i])) {
                indifferent++;
            } else if (follows(info, set->plans[i], argument)) {
                following++;
            }
        }
        if (following > 0 && following + indifferent == set->count) {
            return dbos_route_pack(table, argument);
        }
    }
    return 0;
}
