/* Which function is meant. */
#include "procs/sql/function.h"

enum { CANDIDATES_MAX = 16 };

struct candidates {
    const struct dbos_function *items[CANDIDATES_MAX];
    uint32_t count;
};

enum dbos_err dbos_eval_take(struct dbos_eval *eval, size_t size_bytes, uint8_t **out) {
    *out = NULL;
    if (size_bytes > DBOS_RESULT_BYTES_MAX) {
        return dbos_fail(eval->info, DBOS_ERR_LIMIT, "requested length too large");
    }
    *out = dbos_arena_take(eval->arena, size_bytes + 1);
    return *out != NULL ? DBOS_OK : dbos_fail(eval->info, DBOS_ERR_NOMEM, "out of memory");
}

static enum dbos_type argument_type(const struct dbos_function *function, uint32_t i) {
    return (enum dbos_type)function->args[i < function->count ? i : function->count - 1u];
}

static bool accepts(const struct dbos_function *function, const enum dbos_type *types,
                    uint32_t count) {
    if (function->variadic ? count < function->count : count != function->count) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        enum dbos_type wanted = argument_type(function, i);
        if (wanted != DBOS_TYPE_UNKNOWN && types[i] != DBOS_TYPE_UNKNOWN &&
            dbos_cast_context(types[i], wanted) != DBOS_CAST_IMPLICIT) {
            return false;
        }
    }
    return true;
}

static void collect(struct candidates *candidates, struct dbos_function_table table,
                    const char *name, const enum dbos_type *types, uint32_t count) {
    for (uint32_t i = 0; i < table.count; i++) {
        if (strcmp(table.functions[i].name, name) == 0 &&
            accepts(&table.functions[i], types, count)) {
            DBOS_CHECK(candidates->count < CANDIDATES_MAX);
            candidates->items[candidates->count++] = &table.functions[i];
        }
    }
}

static bool is_preferred(enum dbos_type type) {
    return type == DBOS_TYPE_FLOAT8 || type == DBOS_TYPE_TEXT || type == DBOS_TYPE_BOOL ||
           type == DBOS_TYPE_TIMESTAMPTZ;
}

/* How well a candidate fits: exact matches count most, then preferred types; an untyped literal is
 * text before it is anything else. */
static uint32_t score_of(const struct dbos_function *function, const enum dbos_type *types,
                         uint32_t count) {
    uint32_t score = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum dbos_type wanted = argument_type(function, i);
        if (types[i] == DBOS_TYPE_UNKNOWN) {
            score += wanted == DBOS_TYPE_TEXT ? 2 : is_preferred(wanted) ? 1 : 0;
        } else if (wanted == types[i]) {
            score += 100;
        } else if (is_preferred(wanted)) {
            score += 1;
        }
    }
    return score;
}

enum dbos_found dbos_function_find(const char *name, const enum dbos_type *types, uint32_t count,
                                   const struct dbos_function **out) {
    struct candidates candidates = {.count = 0};
    collect(&candidates, dbos_functions_math(), name, types, count);
    collect(&candidates, dbos_functions_text(), name, types, count);
    collect(&candidates, dbos_functions_time(), name, types, count);
    collect(&candidates, dbos_functions_bytes(), name, types, count);
    collect(&candidates, dbos_functions_session(), name, types, count);
    *out = NULL;
    uint32_t best = 0;
    bool tie = false;
    for (uint32_t i = 0; i < candidates.count; i++) {
        uint32_t score = score_of(candidates.items[i], types, count);
        tie = *out != NULL && score == best ? true : score > best ? false : tie;
        if (*out == NULL || score > best) {
            *out = candidates.items[i];
            best = score;
        }
    }
    return *out == NULL ? DBOS_FOUND_NONE : tie ? DBOS_FOUND_MANY : DBOS_FOUND_ONE;
}
