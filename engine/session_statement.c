/* Prepared statements: parsed, planned, given parameters. */
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "engine/session_internal.h"
#include "procs/sql/type_io.h"

enum { ARENA_CHUNK_BYTES = 512, OID_UNKNOWN = 705, ALL_COLUMNS = 3 };

static enum dbos_err no_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
}

/* -- make ---------------------------------------------------------------------------------------
 */

/* Past a quoted run or a comment that starts at `at`; `at` itself where none does. */
static const char *skip_quoted(const char *at) {
    const char *end = at;
    if (*at == '\'' || *at == '"') {
        end = strchr(at + 1, *at);
        return end == NULL ? at + strlen(at) : end + 1;
    }
    if (at[0] == '-' && at[1] == '-') {
        end = strchr(at, '\n');
        return end == NULL ? at + strlen(at) : end;
    }
    if (at[0] == '/' && at[1] == '*') {
        end = strstr(at + 2, "*/");
        return end == NULL ? at + strlen(at) : end + 2;
    }
    return at;
}

/* The highest $n in the text of a statement. */
static uint32_t highest_parameter(const char *text) {
    uint32_t highest = 0;
    for (const char *at = text; *at != 0;) {
        const char *after = skip_quoted(at);
        if (after != at) {
            at = after;
            continue;
        }
        uint32_t number = 0;
        if (*at++ == '$') {
            while (*at >= '0' && *at <= '9' && number < UINT16_MAX) {
                number = number * 10 + (uint32_t)(*at++ - '0');
            }
        }
        highest = number > highest && number <= UINT16_MAX ? number : highest;
    }
    return highest;
}

static uint32_t archive_parameters(const struct dbos_prepared *prepared) {
    struct dbos_archive_query query;
    dbos_script_archive(prepared->script, prepared->statement, &query);
    uint32_t highest = highest_parameter(query.sql);
    for (uint32_t i = 0; i < query.call_count; i++) {
        for (uint32_t k = 0; k < query.calls[i].argument_count; k++) {
            uint32_t number = query.calls[i].arguments[k].parameter;
            highest = number > highest ? number : highest;
        }
    }
    return highest;
}

/* The types that the client has given; those that we do not have are inferred. */
static enum dbos_err take_types(struct dbos_prepared *prepared, const struct dbos_prepare *prepare,
                                struct dbos_errinfo *info) {
    uint32_t count = prepare->declared_count;
    uint32_t *declared = dbos_arena_take(&prepared->arena, (count + 1) * sizeof *declared);
    enum dbos_type *hints = dbos_arena_take(&prepared->arena, (count + 1) * sizeof *hints);
    prepared->name = dbos_arena_copy(&prepared->arena, prepare->name, strlen(prepare->name));
    if (declared == NULL || hints == NULL || prepared->name == NULL) {
        return no_memory(info);
    }
    for (uint32_t i = 0; i < count; i++) {
        declared[i] = dbos_wire_be32_at(prepare->declared, i);
        hints[i] = dbos_type_of_oid(declared[i]);
    }
    prepared->declared_count = count;
    prepared->declared = declared;
    prepared->hints = hints;
    return DBOS_OK;
}

static enum dbos_err make_plan(struct dbos_session *session, const struct dbos_prepared *prepared,
                               struct dbos_plan **out, struct dbos_errinfo *info) {
    struct dbos_engine *engine = session->options.engine;
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(engine);
    enum dbos_err err =
        dbos_plan_make(session->alloc, catalog, dbos_engine_procs(engine), prepared->script,
                       prepared->statement, prepared->hints, prepared->declared_count, out, info);
    dbos_catalog_unref(catalog);
    /* What the client is told of it, an error too, may show definitions that are still on their way
     * to the disk. */
    session->gate_position = dbos_engine_definitions_gate(engine);
    return err;
}

void dbos_planned_unref(struct dbos_planned *planned) {
    if (planned != NULL && --planned->refs == 0) {
        dbos_plan_unref(planned->plan);
        dbos_give(planned->alloc, planned);
    }
}

/* The plan is handed over, also on error. */
static enum dbos_err set_plan(struct dbos_prepared *prepared, struct dbos_plan *plan,
                              struct dbos_errinfo *info) {
    struct dbos_planned *planned = dbos_take(prepared->alloc, sizeof *planned);
    if (planned == NULL) {
        dbos_plan_unref(plan);
        return no_memory(info);
    }
    *planned = (struct dbos_planned){.alloc = prepared->alloc, .refs = 1, .plan = plan};
    dbos_planned_unref(prepared->planned);
    prepared->planned = planned;
    prepared->plan = plan;
    return DBOS_OK;
}

static uint8_t integer_bytes(enum dbos_type type) {
    return type == DBOS_TYPE_INT8 ? 8 : type == DBOS_TYPE_INT4 ? 4 : type == DBOS_TYPE_INT2 ? 2 : 0;
}

/* Which parameters need no conversion. Another plan of the same statement wants the same types. */
static enum dbos_err note_integers(struct dbos_prepared *prepared, struct dbos_errinfo *info) {
    uint32_t count = dbos_prepared_parameters(prepared);
    prepared->integer_bytes = dbos_arena_take_zero(&prepared->arena, count);
    if (prepared->integer_bytes == NULL) {
        return no_memory(info);
    }
    for (uint32_t i = 0; i < count; i++) {
        enum dbos_type type = dbos_prepared_parameter_type(prepared, i);
        bool is_same = dbos_type_of_oid(dbos_prepared_parameter_oid(prepared, i)) == type;
        prepared->integer_bytes[i] = is_same ? integer_bytes(type) : 0;
    }
    return DBOS_OK;
}

static enum dbos_err plan_first(struct dbos_session *session, struct dbos_prepared *prepared,
                                struct dbos_errinfo *info) {
    struct dbos_plan *plan = NULL;
    enum dbos_err err = make_plan(session, prepared, &plan, info);
    if (err == DBOS_OK) {
        err = set_plan(prepared, plan, info);
    }
    return err == DBOS_OK ? note_integers(prepared, info) : err;
}

enum dbos_err dbos_prepared_of(struct dbos_session *session, const struct dbos_prepare *prepare,
                               struct dbos_script *script, uint32_t statement,
                               struct dbos_prepared **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_prepared *prepared = dbos_take_zero(session->alloc, sizeof *prepared);
    if (prepared == NULL) {
        dbos_script_close(script);
        return no_memory(info);
    }
    prepared->refs = 1;
    prepared->alloc = session->alloc;
    prepared->statement = statement;
    prepared->script = script;
    prepared->kind =
        dbos_script_count(script) == 0 ? DBOS_STATEMENT_EMPTY : dbos_script_kind(script, statement);
    dbos_arena_init(&prepared->arena, session->alloc, ARENA_CHUNK_BYTES);
    enum dbos_err err = take_types(prepared, prepare, info);
    if (err == DBOS_OK && prepared->kind == DBOS_STATEMENT_ARCHIVE) {
        prepared->archive_parameters = archive_parameters(prepared);
    } else if (err == DBOS_OK && !dbos_statement_is_local(prepared->kind)) {
        err = plan_first(session, prepared, info);
    }
    if (err != DBOS_OK) {
        dbos_prepared_unref(prepared);
        return err;
    }
    *out = prepared;
    return DBOS_OK;
}

enum dbos_err dbos_prepared_make(struct dbos_session *session, const struct dbos_prepare *prepare,
                                 struct dbos_prepared **out, struct dbos_errinfo *info) {
    struct dbos_script *script = NULL;
    *out = NULL;
    enum dbos_err err = dbos_script_parse(session->alloc, prepare->text, &script, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (dbos_script_count(script) > 1) {
        dbos_script_close(script);
        return dbos_fail(info, DBOS_ERR_SYNTAX,
                         "cannot insert multiple commands into a prepared statement");
    }
    return dbos_prepared_of(session, prepare, script, 0, out, info);
}

void dbos_prepared_unref(struct dbos_prepared *prepared) {
    if (prepared == NULL || --prepared->refs != 0) {
        return;
    }
    dbos_planned_unref(prepared->planned);
    if (prepared->script != NULL) {
        dbos_script_close(prepared->script);
    }
    dbos_arena_fini(&prepared->arena);
    dbos_give(prepared->alloc, prepared);
}

static bool same_columns(const struct dbos_plan *a, const struct dbos_plan *b) {
    const struct dbos_result_column *of_a = NULL;
    const struct dbos_result_column *of_b = NULL;
    uint32_t count = dbos_plan_columns(a, &of_a);
    if (count != dbos_plan_columns(b, &of_b)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (of_a[i].type != of_b[i].type || strcmp(of_a[i].name, of_b[i].name) != 0) {
            return false;
        }
    }
    return true;
}

/* Portals keep values that were decoded for the types of the plan before. */
static bool same_parameters(const struct dbos_plan *a, const struct dbos_plan *b) {
    const enum dbos_type *of_a = NULL;
    const enum dbos_type *of_b = NULL;
    uint32_t count = dbos_plan_parameters(a, &of_a);
    if (count != dbos_plan_parameters(b, &of_b)) {
        return false;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (of_a[i] != of_b[i]) {
            return false;
        }
    }
    return true;
}

enum dbos_err dbos_prepared_refresh(struct dbos_session *session, struct dbos_prepared *prepared,
                                    struct dbos_errinfo *info) {
    if (prepared->plan == NULL || dbos_plan_catalog_version(prepared->plan) ==
                                      dbos_engine_catalog_version(session->options.engine)) {
        return DBOS_OK;
    }
    struct dbos_plan *plan = NULL;
    enum dbos_err err = make_plan(session, prepared, &plan, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (!same_columns(prepared->plan, plan) || !same_parameters(prepared->plan, plan)) {
        dbos_plan_unref(plan);
        return dbos_fail(info, DBOS_ERR_NOT_SUPPORTED, "cached plan must not change result type");
    }
    return set_plan(prepared, plan, info);
}

/* -- parameters ---------------------------------------------------------------------------------
 */

uint32_t dbos_prepared_parameters(const struct dbos_prepared *prepared) {
    const enum dbos_type *types = NULL;
    if (prepared->plan != NULL) {
        return dbos_plan_parameters(prepared->plan, &types);
    }
    return prepared->kind == DBOS_STATEMENT_ARCHIVE ? prepared->archive_parameters : 0;
}

enum dbos_type dbos_prepared_parameter_type(const struct dbos_prepared *prepared, uint32_t i) {
    const enum dbos_type *types = NULL;
    enum dbos_type type = DBOS_TYPE_UNKNOWN;
    if (prepared->plan != NULL && i < dbos_plan_parameters(prepared->plan, &types)) {
        type = types[i];
    } else if (i < prepared->declared_count) {
        type = prepared->hints[i];
    }
    return type == DBOS_TYPE_UNKNOWN ? DBOS_TYPE_TEXT : type;
}

uint32_t dbos_prepared_parameter_oid(const struct dbos_prepared *prepared, uint32_t i) {
    uint32_t oid = i < prepared->declared_count ? prepared->declared[i] : 0;
    bool is_given = oid != 0 && oid != OID_UNKNOWN;
    return is_given ? oid : dbos_type_oid(dbos_prepared_parameter_type(prepared, i));
}

static bool is_integer(enum dbos_type type) {
    return type == DBOS_TYPE_INT2 || type == DBOS_TYPE_INT4 || type == DBOS_TYPE_INT8;
}

static bool fits(enum dbos_type type, int64_t value) {
    return type == DBOS_TYPE_INT8 ||
           (type == DBOS_TYPE_INT4 && value >= INT32_MIN && value <= INT32_MAX) ||
           (type == DBOS_TYPE_INT2 && value >= INT16_MIN && value <= INT16_MAX);
}

/* A number of the width that the driver chose becomes one of the width that is wanted. */
static enum dbos_err coerce_number(struct dbos_datum *datum, enum dbos_type wanted,
                                   struct dbos_errinfo *info) {
    enum dbos_type given = (enum dbos_type)datum->type;
    int64_t value = datum->integer;
    if (given == DBOS_TYPE_FLOAT8) {
        double rounded = rint(datum->real);
        if (!(rounded >= -9223372036854775808.0 && rounded < 9223372036854775808.0)) {
            return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range",
                             dbos_type_name(wanted));
        }
        value = (int64_t)rounded;
    }
    if (wanted == DBOS_TYPE_FLOAT8) {
        *datum = dbos_datum_real((double)value);
        return DBOS_OK;
    }
    if (!fits(wanted, value)) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "%s out of range", dbos_type_name(wanted));
    }
    *datum = dbos_datum_int(wanted, value);
    return DBOS_OK;
}

static enum dbos_err coerce(struct dbos_datum *datum, enum dbos_type wanted,
                            struct dbos_arena *arena, struct dbos_errinfo *info) {
    enum dbos_type given = (enum dbos_type)datum->type;
    bool given_text =
        given == DBOS_TYPE_UNKNOWN || given == DBOS_TYPE_TEXT || given == DBOS_TYPE_VARCHAR;
    if (given == wanted) {
        return DBOS_OK;
    }
    if (given_text) {
        return dbos_text_in(wanted, (const char *)datum->bytes.data, datum->bytes.size_bytes, arena,
                            datum, info);
    }
    bool is_number = is_integer(given) || given == DBOS_TYPE_FLOAT8;
    if (is_number && (is_integer(wanted) || wanted == DBOS_TYPE_FLOAT8)) {
        return coerce_number(datum, wanted, info);
    }
    if (wanted != DBOS_TYPE_TEXT && wanted != DBOS_TYPE_VARCHAR) {
        return dbos_fail(info, DBOS_ERR_DATATYPE_MISMATCH, "a parameter of type %s was given as %s",
                         dbos_type_name(wanted), dbos_type_name(given));
    }
    struct dbos_buf text;
    dbos_buf_init(&text, arena->alloc);
    dbos_text_out(datum, &text);
    char *copy = text.failed ? NULL : dbos_arena_copy(arena, text.data, text.size_bytes);
    *datum = dbos_datum_bytes(wanted, copy, text.size_bytes);
    dbos_buf_fini(&text);
    return copy == NULL ? no_memory(info) : DBOS_OK;
}

/* One value as the driver sent it, of the type wanted, in the arena. */
static enum dbos_err decode(const struct dbos_prepared *prepared, uint32_t i, int16_t format,
                            struct dbos_bytes value, struct dbos_arena *arena,
                            struct dbos_datum *out, struct dbos_errinfo *info) {
    enum dbos_type wanted = dbos_prepared_parameter_type(prepared, i);
    enum dbos_err err;
    if (format == 0) {
        err = dbos_text_in(wanted, (const char *)value.data, value.size_bytes, arena, out, info);
    } else {
        err = dbos_binary_in(dbos_prepared_parameter_oid(prepared, i), value.data, value.size_bytes,
                             out, info);
        if (err == DBOS_ERR_INVALID_BINARY) {
            return dbos_fail(info, err, "incorrect binary data format in bind parameter %u", i + 1);
        }
        if (err == DBOS_OK && !out->is_null) {
            err = coerce(out, wanted, arena, info);
        }
    }
    if (err != DBOS_OK || out->is_null || !dbos_type_is_bytes((enum dbos_type)out->type)) {
        return err;
    }
    /* What is still the client's message must outlive it. */
    bool is_borrowed = value.size_bytes != 0 && out->bytes.data >= value.data &&
                       out->bytes.data < value.data + value.size_bytes;
    if (is_borrowed || out->bytes.size_bytes == 0) {
        out->bytes.data = (uint8_t *)dbos_arena_copy(arena, out->bytes.data, out->bytes.size_bytes);
        return out->bytes.data == NULL ? no_memory(info) : DBOS_OK;
    }
    return DBOS_OK;
}

/* The archive takes texts. */
static enum dbos_err decode_text(const struct dbos_prepared *prepared, uint32_t i, int16_t format,
                                 struct dbos_bytes value, struct dbos_arena *arena,
                                 const char **out, struct dbos_errinfo *info) {
    struct dbos_datum datum;
    *out = NULL;
    enum dbos_err err = decode(prepared, i, format, value, arena, &datum, info);
    if (err != DBOS_OK || datum.is_null) {
        return err;
    }
    struct dbos_buf text;
    dbos_buf_init(&text, arena->alloc);
    dbos_text_out(&datum, &text);
    *out = text.failed ? NULL : dbos_arena_copy(arena, text.data, text.size_bytes);
    dbos_buf_fini(&text);
    return *out == NULL ? no_memory(info) : DBOS_OK;
}

enum dbos_err dbos_prepared_check_counts(const struct dbos_prepared *prepared,
                                         const struct dbos_wire_bind *bind,
                                         struct dbos_errinfo *info) {
    uint32_t wanted = dbos_prepared_parameters(prepared);
    if (bind->parameter_count != wanted) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL,
                         "bind message supplies %u parameters, but prepared statement \"%s\" "
                         "requires %u",
                         bind->parameter_count, prepared->name, wanted);
    }
    const struct dbos_result_column *columns = NULL;
    uint32_t count = prepared->plan == NULL ? 0 : dbos_plan_columns(prepared->plan, &columns);
    if (prepared->plan != NULL && bind->result_format_count > 1 &&
        bind->result_format_count != count) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL,
                         "bind message has %u result formats but query has %u columns",
                         bind->result_format_count, count);
    }
    return DBOS_OK;
}

/* One integer as the client sends it: see integer_bytes(). */
static struct dbos_datum load_integer(const uint8_t *at, uint8_t size_bytes) {
    if (size_bytes == 8) {
        return dbos_datum_int(DBOS_TYPE_INT8, (int64_t)__builtin_bswap64(dbos_load_u64(at)));
    }
    if (size_bytes == 4) {
        return dbos_datum_int(DBOS_TYPE_INT4, (int32_t)__builtin_bswap32(dbos_load_u32(at)));
    }
    return dbos_datum_int(DBOS_TYPE_INT2, (int16_t)__builtin_bswap16(dbos_load_u16(at)));
}

/* Room for so many parameters and formats, for the first portal of a request in it. */
static enum dbos_err take_room(const struct dbos_wire_bind *bind, struct dbos_execution *execution,
                               struct dbos_datum **out_datums, int16_t **out_formats,
                               struct dbos_errinfo *info) {
    struct dbos_request *request = &execution->request;
    uint32_t format_count = bind->result_format_count;
    bool is_few = !execution->has_few && bind->parameter_count <= DBOS_REQUEST_FEW &&
                  format_count <= DBOS_REQUEST_FEW;
    if (is_few) {
        execution->has_few = true;
        *out_datums = request->few_parameters;
        *out_formats = request->few_formats;
        return DBOS_OK;
    }
    *out_datums = dbos_arena_take(&request->arena, bind->parameter_count * sizeof **out_datums);
    *out_formats = dbos_arena_take(&request->arena, format_count * sizeof **out_formats);
    return *out_datums == NULL || *out_formats == NULL ? no_memory(info) : DBOS_OK;
}

enum dbos_err dbos_prepared_bind(const struct dbos_prepared *prepared,
                                 const struct dbos_wire_bind *bind,
                                 struct dbos_execution *execution, struct dbos_portal *portal,
                                 struct dbos_errinfo *info) {
    struct dbos_arena *arena = &execution->request.arena;
    uint32_t count = bind->parameter_count;
    bool is_archive = prepared->kind == DBOS_STATEMENT_ARCHIVE;
    const char **texts = NULL;
    struct dbos_datum *datums = NULL;
    int16_t *formats = NULL;
    enum dbos_err err = take_room(bind, execution, &datums, &formats, info);
    if (err == DBOS_OK && is_archive) {
        memset(datums, 0, count * sizeof *datums);
        texts = dbos_arena_take_zero(arena, count * sizeof(*texts));
        err = texts == NULL ? no_memory(info) : DBOS_OK;
    }
    struct dbos_bytes values = bind->values;
    for (uint32_t i = 0; err == DBOS_OK && i < count; i++) {
        bool is_null = false;
        struct dbos_bytes value = dbos_wire_next_value(&values, &is_null);
        int16_t format = dbos_wire_format(bind->formats, bind->format_count, i);
        uint8_t integer = prepared->integer_bytes == NULL ? 0 : prepared->integer_bytes[i];
        if (is_null) {
            datums[i] = dbos_datum_null(dbos_prepared_parameter_type(prepared, i));
        } else if (format == 1 && integer != 0 && value.size_bytes == integer) {
            datums[i] = load_integer(value.data, integer);
        } else if (is_archive) {
            err = decode_text(prepared, i, format, value, arena, &texts[i], info);
        } else {
            err = decode(prepared, i, format, value, arena, &datums[i], info);
        }
    }
    for (uint32_t i = 0; err == DBOS_OK && i < bind->result_format_count; i++) {
        formats[i] = dbos_wire_format(bind->result_formats, bind->result_format_count, i);
    }
    portal->formats = formats;
    portal->format_count = bind->result_format_count;
    portal->parameters = datums;
    portal->archive_parameters = texts;
    portal->parameter_count = count;
    return err;
}

void dbos_prepared_describe(const struct dbos_prepared *prepared, const int16_t *formats,
                            uint32_t format_count, struct dbos_buf *out) {
    const struct dbos_result_column *columns = NULL;
    uint32_t count = dbos_plan_columns(prepared->plan, &columns);
    if (count == 0) {
        dbos_wire_put_no_data(out);
    } else {
        dbos_wire_put_row_description(out, columns, count, formats, format_count);
    }
}

/* -- SET, SHOW ----------------------------------------------------------------------------------
 */

static enum dbos_err run_set(struct dbos_session *session, const struct dbos_setting_change *change,
                             struct dbos_errinfo *info) {
    struct dbos_setting_request request = {
        .name = change->name,
        .value = change->is_reset ? NULL : change->value,
        .is_local = change->is_local,
    };
    enum dbos_err err =
        dbos_settings_set(&session->settings, &request, dbos_session_bytes(session), info);
    if (err != DBOS_OK) {
        return err;
    }
    bool may_be_name = strcasecmp(change->name, "application_name") == 0 || change->is_reset;
    if (may_be_name && dbos_session_identify(session) != DBOS_OK) {
        return no_memory(info);
    }
    dbos_wire_put_complete(dbos_session_bytes(session), change->is_reset ? "RESET" : "SET");
    return DBOS_OK;
}

static struct dbos_datum text_datum(const char *text) {
    return dbos_datum_bytes(DBOS_TYPE_TEXT, text, strlen(text));
}

uint32_t dbos_prepared_show_columns(const struct dbos_prepared *prepared,
                                    const struct dbos_session *session,
                                    struct dbos_result_column *out) {
    static const char *const all[ALL_COLUMNS] = {"name", "setting", "description"};
    struct dbos_setting_change change;
    dbos_script_setting(prepared->script, prepared->statement, &change);
    if (strcasecmp(change.name, "all") == 0) {
        for (int i = 0; i < ALL_COLUMNS; i++) {
            out[i] = (struct dbos_result_column){.name = all[i], .type = DBOS_TYPE_TEXT};
        }
        return ALL_COLUMNS;
    }
    const char *name = NULL;
    const char *value = NULL;
    enum dbos_err err = dbos_settings_show(&session->settings, change.name, &name, &value, NULL);
    out[0] = (struct dbos_result_column){.name = err == DBOS_OK ? name : change.name,
                                         .type = DBOS_TYPE_TEXT};
    return 1;
}

static enum dbos_err run_show(struct dbos_session *session, const char *wanted,
                              struct dbos_errinfo *info) {
    struct dbos_buf *out = dbos_session_bytes(session);
    const char *name = NULL;
    const char *value = NULL;
    const char *text = NULL;
    if (strcasecmp(wanted, "all") == 0) {
        for (size_t i = 0; dbos_settings_at(&session->settings, i, &name, &value, &text); i++) {
            struct dbos_datum row[] = {text_datum(name), text_datum(value), text_datum(text)};
            dbos_wire_put_row(out, row, ALL_COLUMNS, NULL, 0);
        }
    } else {
        enum dbos_err err = dbos_settings_show(&session->settings, wanted, &name, &value, info);
        if (err != DBOS_OK) {
            return err;
        }
        struct dbos_datum row = text_datum(value);
        dbos_wire_put_row(out, &row, 1, NULL, 0);
    }
    dbos_wire_put_complete(out, "SHOW");
    return DBOS_OK;
}

enum dbos_err dbos_prepared_run_locally(struct dbos_session *session,
                                        const struct dbos_prepared *prepared, bool describe,
                                        struct dbos_errinfo *info) {
    struct dbos_setting_change change;
    if (prepared->kind == DBOS_STATEMENT_EMPTY) {
        dbos_wire_put_empty_query(dbos_session_bytes(session));
        return DBOS_OK;
    }
    dbos_script_setting(prepared->script, prepared->statement, &change);
    if (prepared->kind == DBOS_STATEMENT_SET) {
        return run_set(session, &change, info);
    }
    const char *name = NULL;
    const char *value = NULL;
    bool is_all = strcasecmp(change.name, "all") == 0;
    enum dbos_err err =
        is_all ? DBOS_OK : dbos_settings_show(&session->settings, change.name, &name, &value, info);
    if (err == DBOS_OK && describe) {
        struct dbos_result_column columns[ALL_COLUMNS];
        uint32_t count = dbos_prepared_show_columns(prepared, session, columns);
        dbos_wire_put_row_description(dbos_session_bytes(session), columns, count, NULL, 0);
    }
    return err == DBOS_OK ? run_show(session, change.name, info) : err;
}
