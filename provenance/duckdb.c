#include "provenance/duckdb.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

static void *open_first(const char *const *paths, uint32_t count, struct dbos_errinfo *info) {
    (void)dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "no path of DuckDB's library is known");
    for (uint32_t i = 0; i < count; i++) {
        if (paths[i] == NULL || access(paths[i], R_OK) != 0) {
            continue;
        }
        /* Global, so that callbacks find what they need without state of the process. */
        void *library = dlopen(paths[i], RTLD_NOW | RTLD_GLOBAL);
        if (library != NULL) {
            return library;
        }
        (void)dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "cannot load DuckDB: %s", dlerror());
    }
    dbos_err_hint(info, "scripts/setup.sh fetches libduckdb.so into third_party/duckdb; "
                        "DBOS_DUCKDB_LIBRARY names another place.");
    return NULL;
}

/* A function's address; POSIX lets it come as a data pointer, which C does not convert. */
static bool load_symbol(void *library, const char *name, void *out, size_t out_bytes,
                        struct dbos_errinfo *info) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        (void)dbos_fail(info, DBOS_ERR_UNDEFINED_FILE, "DuckDB's library lacks %s", name);
        return false;
    }
    DBOS_CHECK(out_bytes == sizeof symbol);
    memcpy(out, &symbol, out_bytes);
    return true;
}

enum dbos_err dbos_duckdb_open(struct dbos_alloc *alloc, const char *const *paths, uint32_t count,
                               struct dbos_duckdb **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_duckdb *duck = dbos_take_zero(alloc, sizeof *duck);
    if (duck == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for DuckDB's functions");
    }
    duck->alloc = alloc;
    duck->library = open_first(paths, count, info);
    bool loaded = duck->library != NULL;
#define LOAD(name)                                                                                 \
    loaded = loaded &&                                                                             \
             load_symbol(duck->library, "duckdb_" #name, &duck->name, sizeof duck->name, info);
    DBOS_DUCKDB_FUNCTIONS(LOAD)
#undef LOAD
    if (!loaded) {
        dbos_duckdb_close(duck);
        return DBOS_ERR_UNDEFINED_FILE;
    }
    if (info != NULL) {
        memset(info, 0, sizeof *info);
    }
    *out = duck;
    return DBOS_OK;
}

void dbos_duckdb_close(struct dbos_duckdb *duck) {
    if (duck != NULL) {
        dbos_give(duck->alloc, duck);
    }
}

enum dbos_err dbos_duckdb_select(const struct dbos_duckdb *duck, duckdb_connection connection,
                                 const char *sql, duckdb_result *out, struct dbos_errinfo *info) {
    if (duck->query(connection, sql, out) == DuckDBSuccess) {
        return DBOS_OK;
    }
    enum dbos_err err =
        dbos_duckdb_fail(duck->result_error_type(out), duck->result_error(out), info);
    dbos_err_detail(info, "%.300s", sql);
    duck->destroy_result(out);
    memset(out, 0, sizeof *out);
    return err;
}

enum dbos_err dbos_duckdb_run(const struct dbos_duckdb *duck, duckdb_connection connection,
                              const char *sql, struct dbos_errinfo *info) {
    duckdb_result result;
    enum dbos_err err = dbos_duckdb_select(duck, connection, sql, &result, info);
    if (err == DBOS_OK) {
        duck->destroy_result(&result);
    }
    return err;
}

#define EXTRA(kind, info)                                                                          \
    __typeof__(&duckdb_##kind##_get_extra_info) get = NULL;                                        \
    DBOS_CHECK(                                                                                    \
        load_symbol(RTLD_DEFAULT, "duckdb_" #kind "_get_extra_info", &get, sizeof get, NULL));     \
    return get(info)

void *dbos_duckdb_bind_extra(duckdb_bind_info info) { EXTRA(bind, info); }

void *dbos_duckdb_init_extra(duckdb_init_info info) { EXTRA(init, info); }

void *dbos_duckdb_function_extra(duckdb_function_info info) { EXTRA(function, info); }

#undef EXTRA

/* What DuckDB calls a catalog or a binder error is told apart by its text. */
static enum dbos_err code_of_name_error(const char *message) {
    const struct {
        const char *text;
        enum dbos_err code;
    } kinds[] = {
        {"Table with name", DBOS_ERR_UNDEFINED_TABLE},
        {"Scalar Function with name", DBOS_ERR_UNDEFINED_FUNCTION},
        {"Table Function with name", DBOS_ERR_UNDEFINED_FUNCTION},
        {"No function matches", DBOS_ERR_UNDEFINED_FUNCTION},
        {"Ambiguous reference", DBOS_ERR_AMBIGUOUS_COLUMN},
        {"Referenced column", DBOS_ERR_UNDEFINED_COLUMN},
        {"does not have a column", DBOS_ERR_UNDEFINED_COLUMN},
        {"must appear in the GROUP BY", DBOS_ERR_GROUPING},
        {"Referenced table", DBOS_ERR_UNDEFINED_TABLE},
        {"Cannot compare values", DBOS_ERR_DATATYPE_MISMATCH},
        {"disabled by configuration", DBOS_ERR_PRIVILEGE},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        if (strstr(message, kinds[i].text) != NULL) {
            return kinds[i].code;
        }
    }
    return DBOS_ERR_NOT_SUPPORTED;
}

static enum dbos_err code_of(duckdb_error_type type, const char *message) {
    /* Only the kinds that a statement can provoke; every other one is a fault of the archive. */
    if (type == DUCKDB_ERROR_PARSER || type == DUCKDB_ERROR_SYNTAX) {
        return DBOS_ERR_SYNTAX;
    }
    if (type == DUCKDB_ERROR_CATALOG || type == DUCKDB_ERROR_BINDER) {
        return code_of_name_error(message);
    }
    if (type == DUCKDB_ERROR_CONVERSION || type == DUCKDB_ERROR_MISMATCH_TYPE) {
        return DBOS_ERR_INVALID_TEXT;
    }
    if (type == DUCKDB_ERROR_OUT_OF_RANGE || type == DUCKDB_ERROR_DECIMAL) {
        return DBOS_ERR_OUT_OF_RANGE;
    }
    if (type == DUCKDB_ERROR_DIVIDE_BY_ZERO) {
        return DBOS_ERR_DIVISION_BY_ZERO;
    }
    if (type == DUCKDB_ERROR_INTERRUPT) {
        return DBOS_ERR_CANCELED;
    }
    if (type == DUCKDB_ERROR_OUT_OF_MEMORY) {
        return DBOS_ERR_NOMEM;
    }
    if (type == DUCKDB_ERROR_PERMISSION) {
        return DBOS_ERR_PRIVILEGE;
    }
    if (type == DUCKDB_ERROR_INVALID_INPUT || type == DUCKDB_ERROR_NOT_IMPLEMENTED) {
        return DBOS_ERR_NOT_SUPPORTED;
    }
    return DBOS_ERR_ARCHIVE;
}

/* "LINE 1: select x\n               ^": characters before the caret, without the "LINE 1: " part.
 */
static uint32_t caret_position(const char *message) {
    const char *line = strstr(message, "LINE 1: ");
    const char *end = line == NULL ? NULL : strchr(line, '\n');
    if (end == NULL) {
        return 0;
    }
    size_t blanks = strspn(end + 1, " ");
    const size_t head = strlen("LINE 1: ");
    bool cut = strncmp(line + head, "...", 3) == 0; /* a long line is shown in part */
    return cut || end[1 + blanks] != '^' || blanks < head ? 0 : (uint32_t)(blanks - head + 1);
}

enum dbos_err dbos_duckdb_fail(duckdb_error_type type, const char *message,
                               struct dbos_errinfo *info) {
    if (message == NULL) {
        message = "the archive gave no reason";
    }
    enum dbos_err code = code_of(type, message);
    const char *colon = strstr(message, "Error: "); /* "Binder Error: …": the code says the kind */
    const char *text = colon == NULL ? message : colon + strlen("Error: ");
    int length = (int)strcspn(text, "\n");
    return dbos_fail_at(info, code, caret_position(message), "%.*s", length, text);
}
