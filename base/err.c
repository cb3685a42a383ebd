#include "base/err.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *dbos_err_sqlstate(enum dbos_err code) {
    switch (code) {
#define DBOS_ERR_STATE(name, number, sqlstate, text)                                               \
    case DBOS_ERR_##name:                                                                          \
        return sqlstate;
        DBOS_ERR_LIST(DBOS_ERR_STATE)
#undef DBOS_ERR_STATE
    }
    return "XX000";
}

const char *dbos_err_text(enum dbos_err code) {
    switch (code) {
#define DBOS_ERR_TEXT(name, number, sqlstate, text)                                                \
    case DBOS_ERR_##name:                                                                          \
        return text;
        DBOS_ERR_LIST(DBOS_ERR_TEXT)
#undef DBOS_ERR_TEXT
    }
    return "unknown error";
}

const char *dbos_err_name(enum dbos_err code) {
    switch (code) {
#define DBOS_ERR_NAME(name, number, sqlstate, text)                                                \
    case DBOS_ERR_##name:                                                                          \
        return #name;
        DBOS_ERR_LIST(DBOS_ERR_NAME)
#undef DBOS_ERR_NAME
    }
    return "UNKNOWN";
}

enum dbos_err dbos_vfail(struct dbos_errinfo *info, enum dbos_err code, const char *format,
                         va_list args) {
    DBOS_CHECK(code != DBOS_OK);
    if (info == NULL) {
        return code;
    }
    char message[sizeof info->message]; /* the arguments may point into *info */
    (void)vsnprintf(message, sizeof message, format, args);
    memset(info, 0, sizeof *info);
    info->code = code;
    memcpy(info->sqlstate, dbos_err_sqlstate(code), sizeof info->sqlstate);
    memcpy(info->message, message, strlen(message));
    return code;
}

enum dbos_err dbos_fail(struct dbos_errinfo *info, enum dbos_err code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)dbos_vfail(info, code, format, args);
    va_end(args);
    return code;
}

enum dbos_err dbos_fail_at(struct dbos_errinfo *info, enum dbos_err code, uint32_t position,
                           const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)dbos_vfail(info, code, format, args);
    va_end(args);
    if (info != NULL) {
        info->position = position;
    }
    return code;
}

void dbos_err_detail(struct dbos_errinfo *info, const char *format, ...) {
    if (info == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(info->detail, sizeof info->detail, format, args);
    va_end(args);
}

void dbos_err_hint(struct dbos_errinfo *info, const char *format, ...) {
    if (info == NULL) {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(info->hint, sizeof info->hint, format, args);
    va_end(args);
}

void dbos_check_failed(const char *expression, const char *file, int line) {
    (void)fprintf(stderr, "dbosd: bug: %s:%d: check failed: %s\n", file, line, expression);
    abort();
}
