/* The settings of one session: what SET, SHOW and RESET know, and what ParameterStatus reports.
 *
 * Thread: the session's. Memory: fixed size. */
#ifndef DBOS_ENGINE_SETTINGS_H
#define DBOS_ENGINE_SETTINGS_H

#include "base/bytes.h"

enum {
    DBOS_SETTINGS_MAX = 40,
    DBOS_SETTING_BYTES = 64,
    DBOS_IDEMPOTENCY_KEY_BYTES = 256, /* with the NUL */
};

struct dbos_settings {
    char values[DBOS_SETTINGS_MAX][DBOS_SETTING_BYTES];
    char defaults[DBOS_SETTINGS_MAX][DBOS_SETTING_BYTES]; /* RESET: as after the start-up */
    uint64_t statement_timeout_us;                        /* 0 = none */
    /* Of the next transaction alone. */
    bool has_local_timeout;
    uint64_t local_timeout_us;
    bool has_idempotency_key;
    char idempotency_key[DBOS_IDEMPOTENCY_KEY_BYTES];
};

void dbos_settings_init(struct dbos_settings *settings, const char *user);
/* The start-up is over: what it has set is what RESET goes back to. */
void dbos_settings_keep(struct dbos_settings *settings);
/* ParameterStatus of all 13 reported settings, in PostgreSQL's order. */
void dbos_settings_report(const struct dbos_settings *settings, struct dbos_buf *out);

struct dbos_setting_request {
    const char *name;  /* case does not matter */
    const char *value; /* NULL = RESET; name "all" with it: everything */
    bool is_local;
    bool is_startup; /* a time zone other than UTC is then noted, not refused */
};
/* A reported value that changes is written to `out` as ParameterStatus, notices as NoticeResponse.
 * Errors: UNDEFINED_SETTING, INVALID_PARAMETER. */
enum dbos_err dbos_settings_set(struct dbos_settings *settings,
                                const struct dbos_setting_request *request, struct dbos_buf *out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* *out_name is the setting's own spelling, *out_value borrowed from `settings`.
 * Errors: UNDEFINED_SETTING. */
enum dbos_err dbos_settings_show(const struct dbos_settings *settings, const char *name,
                                 const char **out_name, const char **out_value,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* For SHOW ALL: setting `i`; false past the last. */
bool dbos_settings_at(const struct dbos_settings *settings, size_t i, const char **out_name,
                      const char **out_value, const char **out_description);
const char *dbos_settings_application(const struct dbos_settings *settings);
/* The next transaction has taken what was only for it, or has failed before it began. */
void dbos_settings_end_transaction(struct dbos_settings *settings);

#endif /* DBOS_ENGINE_SETTINGS_H */
