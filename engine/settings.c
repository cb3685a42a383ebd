#include "engine/settings.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#include "engine/wire.h"

/* Checks `text` and writes the value as it is kept to `to` (DBOS_SETTING_BYTES). False = refused; a
 * fixed hint says what is accepted. */
typedef bool check_fn(const char *text, char *to);

enum setting_flags {
    REPORTED = 1,  /* ParameterStatus */
    READ_ONLY = 2, /* SET to what it is anyway is accepted */
};

struct setting {
    const char *name;
    const char *value;
    unsigned flags;
    check_fn *check;
    const char *hint;
    const char *description;
};

static void keep(char *to, const char *value) {
    (void)snprintf(to, DBOS_SETTING_BYTES, "%s", value);
}

static bool is_one_of(const char *text, const char *const *words, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (strcasecmp(text, words[i]) == 0) {
            return true;
        }
    }
    return false;
}
#define IS_ONE_OF(text, ...)                                                                       \
    is_one_of((text), (const char *const[]){__VA_ARGS__},                                          \
              sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

/* -- checks -------------------------------------------------------------------------------------
 */

/* PostgreSQL keeps printable ASCII of an application's name. */
static bool check_application(const char *text, char *to) {
    keep(to, text);
    for (char *at = to; *at != 0; at++) {
        if (*at < ' ' || *at > '~') {
            *at = '?';
        }
    }
    return true;
}

/* asyncpg sends the name in quotes. SQL_ASCII means that nothing is converted, which is so. */
static bool check_encoding(const char *text, char *to) {
    char bare[DBOS_SETTING_BYTES];
    size_t used = 0;
    for (; *text != 0 && used < sizeof bare - 1; text++) {
        if (*text != '\'' && *text != '"') {
            bare[used++] = *text;
        }
    }
    bare[used] = 0;
    if (IS_ONE_OF(bare, "UTF8", "UTF-8", "UNICODE")) {
        keep(to, "UTF8");
        return true;
    }
    keep(to, "SQL_ASCII");
    return strcasecmp(bare, "SQL_ASCII") == 0;
}

static bool check_date_style(const char *text, char *to) {
    char bare[DBOS_SETTING_BYTES];
    size_t used = 0;
    for (; *text != 0 && used < sizeof bare - 1; text++) {
        if (*text != ' ') {
            bare[used++] = *text;
        }
    }
    bare[used] = 0;
    if (IS_ONE_OF(bare, "ISO", "ISO,MDY", "ISO,US")) {
        keep(to, "ISO, MDY");
    } else if (IS_ONE_OF(bare, "ISO,DMY", "ISO,European")) {
        keep(to, "ISO, DMY");
    } else if (IS_ONE_OF(bare, "ISO,YMD")) {
        keep(to, "ISO, YMD");
    } else {
        return false;
    }
    return true;
}

static bool check_interval_style(const char *text, char *to) {
    keep(to, text);
    return IS_ONE_OF(text, "postgres", "postgres_verbose", "sql_standard", "iso_8601");
}

static bool check_time_zone(const char *text, char *to) {
    keep(to, "UTC");
    return IS_ONE_OF(text, "UTC", "GMT", "Etc/UTC", "Etc/GMT", "UCT", "Zulu", "0", "GMT0", "UTC0");
}

static bool check_float_digits(const char *text, char *to) {
    keep(to, text);
    return IS_ONE_OF(text, "1", "2", "3");
}

static bool check_on(const char *text, char *to) {
    keep(to, "on");
    return IS_ONE_OF(text, "on", "true", "yes", "1");
}

static bool check_hex(const char *text, char *to) {
    keep(to, "hex");
    return strcasecmp(text, "hex") == 0;
}

static bool check_level(const char *text, char *to) {
    keep(to, text);
    return IS_ONE_OF(text, "debug5", "debug4", "debug3", "debug2", "debug1", "debug", "log",
                     "notice", "warning", "error");
}

/* A list of schemas in which public must be. */
static bool check_path(const char *text, char *to) {
    char list[DBOS_SETTING_BYTES];
    char *rest = NULL;
    bool has_public = false;
    keep(list, text);
    for (char *word = strtok_r(list, ", \"", &rest); word != NULL;
         word = strtok_r(NULL, ", \"", &rest)) {
        if (!IS_ONE_OF(word, "public", "$user", "dbos", "prov", "pg_catalog")) {
            return false;
        }
        has_public = has_public || strcasecmp(word, "public") == 0;
    }
    keep(to, text);
    return has_public && strlen(text) < DBOS_SETTING_BYTES;
}

struct unit {
    const char *name;
    uint64_t us;
};
static const struct unit units[] = {
    {"us", 1},         {"ms", 1000},      {"s", 1000000},
    {"min", 60000000}, {"h", 3600000000}, {"d", 86400000000},
};
enum { UNIT_COUNT = sizeof units / sizeof units[0] };

/* "250", "250ms", "2 s": microseconds; a bare number counts milliseconds. */
static bool parse_duration(const char *text, uint64_t *out_us) {
    char *end = NULL;
    uint64_t unit_us = 1000;
    if (*text < '0' || *text > '9') {
        return false;
    }
    unsigned long long number = strtoull(text, &end, 10);
    while (*end == ' ') {
        end++;
    }
    if (*end != 0) {
        unit_us = 0;
        for (size_t i = 0; i < UNIT_COUNT; i++) {
            unit_us = strcmp(end, units[i].name) == 0 ? units[i].us : unit_us;
        }
    }
    /* PostgreSQL's limit: INT_MAX milliseconds. */
    if (unit_us == 0 || number > UINT64_C(2147483647000) / unit_us) {
        return false;
    }
    *out_us = number * unit_us;
    return true;
}

/* In the largest unit that is exact, as PostgreSQL shows it. */
static bool check_timeout(const char *text, char *to) {
    uint64_t us = 0;
    if (!parse_duration(text, &us)) {
        return false;
    }
    size_t unit = 0;
    for (size_t i = 1; i < UNIT_COUNT; i++) {
        unit = us % units[i].us == 0 ? i : unit;
    }
    if (us == 0) {
        keep(to, "0");
    } else {
        (void)snprintf(to, DBOS_SETTING_BYTES, "%llu%s", (unsigned long long)(us / units[unit].us),
                       units[unit].name);
    }
    return true;
}

/* -- the list -----------------------------------------------------------------------------------
 */

/* Named where the code must find them. */
enum {
    SETTING_APPLICATION_NAME = 0,
    SETTING_SESSION_AUTHORIZATION = 10,
    SETTING_TIME_ZONE = 12,
    SETTING_STATEMENT_TIMEOUT = 13,
    SETTING_CLIENT_MIN_MESSAGES = 14,
};

static const struct setting settings_list[] = {
    /* The reported ones first, in the order in which PostgreSQL 15 reports them. */
    {"application_name", "", REPORTED, check_application, "", "Name of the application."},
    {"client_encoding", "UTF8", REPORTED, check_encoding, "Texts are UTF8 here.",
     "The client's character set."},
    {"DateStyle", "ISO, MDY", REPORTED, check_date_style, "Points in time are written as ISO here.",
     "How points in time are written."},
    {"default_transaction_read_only", "off", REPORTED | READ_ONLY, NULL, "", "Always off."},
    {"in_hot_standby", "off", REPORTED | READ_ONLY, NULL, "", "Is this a standby?"},
    {"integer_datetimes", "on", REPORTED | READ_ONLY, NULL, "", "Points in time are integers."},
    {"IntervalStyle", "postgres", REPORTED, check_interval_style, "", "How intervals are written."},
    {"is_superuser", "off", REPORTED | READ_ONLY, NULL, "", "Is this user a superuser?"},
    {"server_encoding", "UTF8", REPORTED | READ_ONLY, NULL, "", "The database's character set."},
    {"server_version", "15.0 (dbosd 0.1)", REPORTED | READ_ONLY, NULL, "", "What clients expect."},
    {"session_authorization", "", REPORTED | READ_ONLY, NULL, "", "The user."},
    {"standard_conforming_strings", "on", REPORTED, check_on, "Backslashes are literal here.",
     "Are backslashes in strings literal?"},
    {"TimeZone", "UTC", REPORTED, check_time_zone,
     "Points in time are written in UTC here; convert them in the client.",
     "The zone in which points in time are written."},
    /* The others. */
    {"statement_timeout", "5s", 0, check_timeout,
     "A number of milliseconds, or 2s, 1min, …; 0 = none.",
     "Longest time that a statement may take."},
    {"client_min_messages", "notice", 0, check_level, "", "Least message that is sent."},
    {"extra_float_digits", "1", 0, check_float_digits,
     "Numbers are written in full here: 1, 2 or 3.",
     "How exact floating-point numbers are written."},
    {"search_path", "public", 0, check_path, "Tables are in the schemas public and dbos.",
     "Where names are looked for."},
    {"bytea_output", "hex", 0, check_hex, "Only hex.", "How bytea is written."},
    {"dbos.version", "0.1.0", READ_ONLY, NULL, "", "Version of dbosd."},
    {"server_version_num", "150000", READ_ONLY, NULL, "", "What clients expect, as a number."},
    {"transaction_isolation", "serializable", READ_ONLY, NULL, "", "Always serializable."},
    {"default_transaction_isolation", "serializable", READ_ONLY, NULL, "", "Always serializable."},
    {"transaction_read_only", "off", READ_ONLY, NULL, "", "Always off."},
    {"max_identifier_length", "63", READ_ONLY, NULL, "", "Longest name, in bytes."},
    {"lc_collate", "C", READ_ONLY, NULL, "", "Texts are ordered by their bytes."},
    {"lc_ctype", "C", READ_ONLY, NULL, "", "Case is that of ASCII."},
    {"synchronous_commit", "on", READ_ONLY, NULL, "", "See dbosd --durability."},
    {"lock_timeout", "0", READ_ONLY, NULL, "", "There are no locks."},
    {"idle_in_transaction_session_timeout", "0", READ_ONLY, NULL, "", "There is no such state."},
    {"role", "none", READ_ONLY, NULL, "", "There are no roles yet."},
};
enum { SETTING_COUNT = sizeof settings_list / sizeof settings_list[0], REPORTED_COUNT = 13 };
static_assert((int)SETTING_COUNT <= (int)DBOS_SETTINGS_MAX, "room for every setting");

static const char idempotency_key[] = "dbos.idempotency_key";

static int find(const char *name) {
    for (int i = 0; i < (int)SETTING_COUNT; i++) {
        if (strcasecmp(settings_list[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

void dbos_settings_init(struct dbos_settings *settings, const char *user) {
    *settings = (struct dbos_settings){.statement_timeout_us = 5000000};
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        keep(settings->values[i], settings_list[i].value);
    }
    DBOS_CHECK(find("session_authorization") == SETTING_SESSION_AUTHORIZATION);
    DBOS_CHECK(find("TimeZone") == SETTING_TIME_ZONE);
    DBOS_CHECK(find("statement_timeout") == SETTING_STATEMENT_TIMEOUT);
    DBOS_CHECK(find("client_min_messages") == SETTING_CLIENT_MIN_MESSAGES);
    keep(settings->values[SETTING_SESSION_AUTHORIZATION], user);
    dbos_settings_keep(settings);
}

void dbos_settings_keep(struct dbos_settings *settings) {
    memcpy(settings->defaults, settings->values, sizeof settings->defaults);
}

void dbos_settings_report(const struct dbos_settings *settings, struct dbos_buf *out) {
    for (size_t i = 0; i < REPORTED_COUNT; i++) {
        dbos_wire_put_parameter_status(out, settings_list[i].name, settings->values[i]);
    }
}

/* -- set ----------------------------------------------------------------------------------------
 */

static enum dbos_err unknown(const char *name, struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_UNDEFINED_SETTING,
                     "unrecognized configuration parameter \"%s\"", name);
}

static void store(struct dbos_settings *settings, int i, const char *value, struct dbos_buf *out) {
    bool changes = strcmp(settings->values[i], value) != 0;
    if (settings->values[i] != value) {
        keep(settings->values[i], value);
    }
    if (i == SETTING_STATEMENT_TIMEOUT) {
        bool is_valid = parse_duration(value, &settings->statement_timeout_us);
        DBOS_CHECK(is_valid);
    }
    if (changes && (settings_list[i].flags & REPORTED) != 0) {
        dbos_wire_put_parameter_status(out, settings_list[i].name, value);
    }
}

static void reset_all(struct dbos_settings *settings, struct dbos_buf *out) {
    for (int i = 0; i < (int)SETTING_COUNT; i++) {
        store(settings, i, settings->defaults[i], out);
    }
}

/* OK makes a NOTICE, anything else a WARNING with that SQLSTATE. */
static void notice(struct dbos_settings *settings, enum dbos_err code, const char *text,
                   struct dbos_buf *out) {
    struct dbos_errinfo info = {.code = code};
    if (IS_ONE_OF(settings->values[SETTING_CLIENT_MIN_MESSAGES], "warning", "error")) {
        return;
    }
    (void)snprintf(info.message, sizeof info.message, "%s", text);
    dbos_wire_put_notice(out, &info);
}

static enum dbos_err set_key(struct dbos_settings *settings, const char *value,
                             struct dbos_errinfo *info) {
    settings->has_idempotency_key = false;
    if (value == NULL || value[0] == 0) {
        return DBOS_OK;
    }
    if (strlen(value) >= sizeof settings->idempotency_key) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "an idempotency key has at most %d bytes", DBOS_IDEMPOTENCY_KEY_BYTES - 1);
    }
    memcpy(settings->idempotency_key, value, strlen(value) + 1);
    settings->has_idempotency_key = true;
    return DBOS_OK;
}

static enum dbos_err refuse(const struct setting *setting, const char *value,
                            struct dbos_errinfo *info) {
    enum dbos_err err;
    if ((setting->flags & READ_ONLY) != 0) {
        err = dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "parameter \"%s\" cannot be changed",
                        setting->name);
        memcpy(info->sqlstate, "55P02", sizeof info->sqlstate);
        return err;
    }
    err = dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                    "invalid value for parameter \"%s\": \"%.200s\"", setting->name, value);
    if (setting->hint[0] != 0) {
        dbos_err_hint(info, "%s", setting->hint);
    }
    return err;
}

/* SET LOCAL means the next transaction; of the ordinary settings one has a meaning there. */
static void set_local(struct dbos_settings *settings, int i, const char *value,
                      struct dbos_buf *out) {
    if (i == SETTING_STATEMENT_TIMEOUT) {
        settings->has_local_timeout = parse_duration(value, &settings->local_timeout_us);
    } else if (strcmp(settings->values[i], value) != 0) {
        notice(settings, DBOS_ERR_INVALID_PARAMETER, "SET LOCAL of this setting has no effect",
               out);
    }
}

enum dbos_err dbos_settings_set(struct dbos_settings *settings,
                                const struct dbos_setting_request *request, struct dbos_buf *out,
                                struct dbos_errinfo *info) {
    struct dbos_errinfo unused;
    info = info == NULL ? &unused : info;
    if (request->value == NULL && strcasecmp(request->name, "all") == 0) {
        reset_all(settings, out);
        return DBOS_OK;
    }
    if (strcasecmp(request->name, idempotency_key) == 0) {
        return set_key(settings, request->value, info);
    }
    int i = find(request->name);
    if (i < 0) {
        return unknown(request->name, info);
    }
    const struct setting *setting = &settings_list[i];
    const char *text = request->value == NULL ? settings->defaults[i] : request->value;
    char value[DBOS_SETTING_BYTES];
    if (setting->check == NULL) {
        return strcasecmp(text, settings->values[i]) == 0 ? DBOS_OK : refuse(setting, text, info);
    }
    if (!setting->check(text, value)) {
        if (i == SETTING_TIME_ZONE && request->is_startup) {
            notice(settings, DBOS_OK, "points in time are written in UTC, whatever the TimeZone",
                   out);
            return DBOS_OK;
        }
        return refuse(setting, text, info);
    }
    if (request->is_local) {
        set_local(settings, i, value, out);
    } else {
        store(settings, i, value, out);
    }
    return DBOS_OK;
}

/* -- show ---------------------------------------------------------------------------------------
 */

enum dbos_err dbos_settings_show(const struct dbos_settings *settings, const char *name,
                                 const char **out_name, const char **out_value,
                                 struct dbos_errinfo *info) {
    *out_name = NULL;
    *out_value = NULL;
    if (strcasecmp(name, idempotency_key) == 0) {
        *out_name = idempotency_key;
        *out_value = settings->has_idempotency_key ? settings->idempotency_key : "";
        return DBOS_OK;
    }
    int i = find(name);
    if (i < 0) {
        return unknown(name, info);
    }
    *out_name = settings_list[i].name;
    *out_value = settings->values[i];
    return DBOS_OK;
}

bool dbos_settings_at(const struct dbos_settings *settings, size_t i, const char **out_name,
                      const char **out_value, const char **out_description) {
    if (i >= SETTING_COUNT) {
        return false;
    }
    *out_name = settings_list[i].name;
    *out_value = settings->values[i];
    *out_description = settings_list[i].description;
    return true;
}

const char *dbos_settings_application(const struct dbos_settings *settings) {
    return settings->values[SETTING_APPLICATION_NAME];
}

void dbos_settings_end_transaction(struct dbos_settings *settings) {
    settings->has_idempotency_key = false;
    settings->has_local_timeout = false;
}
