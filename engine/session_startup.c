/* The first packets of a connection: who comes, and with what settings. */
#include <stdio.h>
#include <strings.h>

#include "engine/session_internal.h"
#include "procs/sql/type_io.h"

enum { NEGOTIATIONS_MAX = 2 }; /* one SSLRequest and one GSSENCRequest */

static void fatal(struct dbos_session *session, const struct dbos_errinfo *info) {
    dbos_session_fatal(session, info);
}

/* -- options: "-c name=value --name=value" ------------------------------------------------------
 */

static enum dbos_err set(struct dbos_session *session, const char *name, const char *value,
                         struct dbos_errinfo *info) {
    struct dbos_setting_request request = {.name = name, .value = value, .is_startup = true};
    struct dbos_buf ignored; /* everything is reported when the start-up is over */
    dbos_buf_init(&ignored, session->alloc);
    enum dbos_err err = dbos_settings_set(&session->settings, &request, &ignored, info);
    for (size_t at = 0; err == DBOS_OK && at < ignored.size_bytes && !ignored.failed;) {
        size_t length = 1 + (size_t)__builtin_bswap32(dbos_load_u32(ignored.data + at + 1));
        if (ignored.data[at] == 'N') {
            dbos_buf_put(&session->notices, ignored.data + at, length);
        }
        at += length;
    }
    dbos_buf_fini(&ignored);
    return err;
}

static enum dbos_err set_option(struct dbos_session *session, char *assignment,
                                struct dbos_errinfo *info) {
    char *value = strchr(assignment, '=');
    if (value == NULL) {
        return dbos_fail(info, DBOS_ERR_SYNTAX, "invalid command-line argument: %.100s",
                         assignment);
    }
    *value++ = 0;
    for (char *at = assignment; *at != 0; at++) {
        *at = *at == '-' ? '_' : *at;
    }
    return set(session, assignment, value, info);
}

static enum dbos_err set_options(struct dbos_session *session, const char *options,
                                 struct dbos_errinfo *info) {
    char text[1024];
    char *rest = NULL;
    if (strlen(options) >= sizeof text) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "options are longer than %zu bytes", sizeof text);
    }
    memcpy(text, options, strlen(options) + 1);
    for (char *word = strtok_r(text, " \t", &rest); word != NULL;
         word = strtok_r(NULL, " \t", &rest)) {
        char *assignment = NULL;
        if (strcmp(word, "-c") == 0) {
            assignment = strtok_r(NULL, " \t", &rest);
        } else if (strncmp(word, "--", 2) == 0 || strncmp(word, "-c", 2) == 0) {
            assignment = word + 2;
        }
        if (assignment == NULL) {
            return dbos_fail(info, DBOS_ERR_SYNTAX, "invalid command-line argument: %.100s", word);
        }
        enum dbos_err err = set_option(session, assignment, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

/* -- a session ----------------------------------------------------------------------------------
 */

static enum dbos_err check_user(struct dbos_session *session, const char *user,
                                struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    if (user == NULL || user[0] == 0) {
        err = dbos_fail(info, DBOS_ERR_PRIVILEGE,
                        "no PostgreSQL user name specified in startup packet");
        memcpy(info->sqlstate, "28000", sizeof info->sqlstate);
    } else if (!dbos_utf8_valid(user, strlen(user))) {
        err = dbos_fail(info, DBOS_ERR_ENCODING, "the user name is not valid UTF8");
    } else if (strlen(user) >= sizeof session->user) {
        /* Cut off, two users would be recorded as one. */
        err = dbos_fail(info, DBOS_ERR_LIMIT, "a user name has at most %d bytes",
                        DBOS_NAME_BYTES - 1);
    } else {
        memcpy(session->user, user, strlen(user) + 1);
    }
    return err;
}

static enum dbos_err apply(struct dbos_session *session, const char *name, const char *value,
                           bool *has_extension, struct dbos_errinfo *info) {
    if (strcmp(name, "user") == 0) {
        return DBOS_OK;
    }
    if (strcmp(name, "database") == 0) {
        return strcmp(value, "dbos") == 0 ? DBOS_OK
                                          : dbos_fail(info, DBOS_ERR_UNKNOWN_DATABASE,
                                                      "database \"%.100s\" does not exist", value);
    }
    if (strcmp(name, "replication") == 0) {
        bool is_off = strcasecmp(value, "false") == 0 || strcasecmp(value, "off") == 0 ||
                      strcmp(value, "0") == 0;
        return is_off ? DBOS_OK
                      : dbos_fail(info, DBOS_ERR_NOT_SUPPORTED,
                                  "the replication protocol is not supported");
    }
    if (strncmp(name, "_pq_.", 5) == 0) {
        *has_extension = true;
        return DBOS_OK;
    }
    return strcmp(name, "options") == 0 ? set_options(session, value, info)
                                        : set(session, name, value, info);
}

static const char *find_user(struct dbos_bytes parameters) {
    const char *name = NULL;
    const char *value = NULL;
    const char *user = NULL;
    while (dbos_wire_next_parameter(&parameters, &name, &value)) {
        user = strcmp(name, "user") == 0 ? value : user;
    }
    return user;
}

static enum dbos_err begin(struct dbos_session *session, const struct dbos_wire_startup *startup,
                           bool *has_extension, struct dbos_errinfo *info) {
    struct dbos_bytes parameters = startup->parameters;
    const char *name = NULL;
    const char *value = NULL;
    enum dbos_err err = check_user(session, find_user(parameters), info);
    dbos_settings_init(&session->settings, session->user);
    while (err == DBOS_OK && dbos_wire_next_parameter(&parameters, &name, &value)) {
        err = apply(session, name, value, has_extension, info);
    }
    if (err == DBOS_OK && !session->options.admit(session->options.owner)) {
        err = dbos_fail(info, DBOS_ERR_TOO_MANY_CONNECTIONS, "sorry, too many clients already");
    }
    if (err == DBOS_OK) {
        session->id = dbos_engine_take_session_id(session->options.engine);
        err = dbos_session_identify(session);
        if (err != DBOS_OK) {
            (void)dbos_fail(info, err, "out of memory");
        }
    }
    return err;
}

static void start_session(struct dbos_session *session, const struct dbos_wire_startup *startup) {
    struct dbos_errinfo info = {0};
    bool has_extension = false;
    if (begin(session, startup, &has_extension, &info) != DBOS_OK) {
        fatal(session, &info);
        return;
    }
    struct dbos_env *env = dbos_engine_env(session->options.engine);
    session->key = (uint32_t)env->ops->random_u64(env);
    dbos_settings_keep(&session->settings);
    struct dbos_buf *out = dbos_session_bytes(session);
    if ((startup->version & 0xffff) != 0 || has_extension) {
        dbos_wire_put_negotiate(out, startup->parameters);
    }
    dbos_wire_put_authentication_ok(out);
    dbos_settings_report(&session->settings, out);
    dbos_wire_put_key(out, (uint32_t)session->id & INT32_MAX, session->key);
    dbos_buf_put(out, session->notices.data, session->notices.size_bytes);
    dbos_buf_fini(&session->notices);
    dbos_buf_init(&session->notices, session->alloc);
    session->state = DBOS_SESSION_READY;
    dbos_session_put_ready(session);
}

void dbos_session_startup(struct dbos_session *session, struct dbos_bytes body) {
    struct dbos_errinfo info = {0};
    struct dbos_wire_startup startup;
    enum dbos_err err = dbos_wire_get_startup(body, &startup, &info);
    if (err != DBOS_OK) {
        fatal(session, &info);
        return;
    }
    switch (startup.kind) {
    case DBOS_WIRE_STARTUP_SSL:
    case DBOS_WIRE_STARTUP_GSS:
        if (session->negotiations++ == NEGOTIATIONS_MAX) {
            (void)dbos_fail(&info, DBOS_ERR_PROTOCOL, "too many encryption requests");
            fatal(session, &info);
            return;
        }
        dbos_buf_put_u8(dbos_session_bytes(session), 'N'); /* there is no encryption yet */
        return;
    case DBOS_WIRE_STARTUP_CANCEL:
        session->options.cancel(session->options.owner, startup.process, startup.key);
        session->state = DBOS_SESSION_OVER;
        return;
    case DBOS_WIRE_STARTUP_SESSION:
        start_session(session, &startup);
        return;
    }
}
