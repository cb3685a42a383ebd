/* Scripts: texts, positions, settings, archive queries, and text that is too deep. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "procs/sql/sql.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_sql_script, .timeout = 60);

static struct dbos_script *parse(struct dbos_alloc *alloc, const char *text) {
    struct dbos_script *script = NULL;
    struct dbos_errinfo info = {0};
    enum dbos_err err = dbos_script_parse(alloc, text, &script, &info);
    cr_assert_eq(err, DBOS_OK, "%s: %s", text, info.message);
    return script;
}

Test(procs_sql_script, statements_know_their_text_and_place) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    struct dbos_script *script =
        parse(&alloc, " -- é first\n SELECT 'é' ;;\n\tUPDATE t SET a = 1 ; SELECT 2");
    cr_assert_eq(dbos_script_count(script), 3);
    static const struct {
        enum dbos_statement_kind kind;
        const char *text;
        uint32_t position;
    } expected[] = {
        {DBOS_STATEMENT_SELECT, "SELECT 'é'", 13},
        {DBOS_STATEMENT_UPDATE, "UPDATE t SET a = 1", 28},
        {DBOS_STATEMENT_SELECT, "SELECT 2", 49},
    };
    for (uint32_t i = 0; i < 3; i++) {
        struct dbos_bytes text = dbos_script_text(script, i);
        cr_expect_eq(dbos_script_kind(script, i), expected[i].kind);
        cr_expect(text.size_bytes == strlen(expected[i].text) &&
                      memcmp(text.data, expected[i].text, text.size_bytes) == 0,
                  "%u: \"%.*s\"", i, (int)text.size_bytes, (const char *)text.data);
        cr_expect_eq(dbos_script_position(script, i), expected[i].position, "%u: %u", i,
                     dbos_script_position(script, i));
    }
    dbos_script_close(script);
    static const char *const empty[] = {"", "  ", ";", "-- nothing", "/* a /* b */ */ ;;"};
    for (size_t i = 0; i < sizeof empty / sizeof empty[0]; i++) {
        script = parse(&alloc, empty[i]);
        cr_expect_eq(dbos_script_count(script), 0, "\"%s\"", empty[i]);
        dbos_script_close(script);
    }
    dbos_alloc_fini(&alloc);
}

Test(procs_sql_script, syntax_errors_point_at_characters_of_the_whole_text) {
    static const struct {
        const char *text;
        enum dbos_err err;
        const char *message;
        uint32_t position;
    } cases[] = {
        {"selec 1", DBOS_ERR_SYNTAX, "syntax error at or near \"selec\"", 1},
        {"SELECT 'é' 'ü' x y", DBOS_ERR_SYNTAX, "syntax error at or near \"'ü'\"", 12},
        {"SELECT 1; SELECT é é é", DBOS_ERR_SYNTAX, "syntax error at or near \"é\"", 22},
        {"SELECT 'é'; BEGIN", DBOS_ERR_NOT_SUPPORTED, "BEGIN is not supported", 13},
        {"SELECT 'é'::numeric", DBOS_ERR_NOT_SUPPORTED, "type numeric is not supported", 13},
        {"SELECT \xff", DBOS_ERR_ENCODING, "invalid byte sequence for encoding \"UTF8\"", 0},
    };
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_script *script;
        struct dbos_errinfo info = {0};
        cr_expect_eq(dbos_script_parse(&alloc, cases[i].text, &script, &info), cases[i].err);
        cr_expect_str_eq(info.message, cases[i].message, "%s: %s", cases[i].text, info.message);
        cr_expect_eq(info.position, cases[i].position, "%s: %u", cases[i].text, info.position);
        cr_expect_null(script);
    }
    dbos_alloc_fini(&alloc);
}

Test(procs_sql_script, settings_are_names_and_texts) {
    static const struct {
        const char *text;
        const char *name;
        const char *value;
        bool is_local;
        bool is_reset;
    } cases[] = {
        {"SET application_name = 'psql'", "application_name", "psql", false, false},
        {"SET LOCAL dbos.idempotency_key TO 'k-1'", "dbos.idempotency_key", "k-1", true, false},
        {"SET extra_float_digits = 3", "extra_float_digits", "3", false, false},
        {"SET client_encoding TO utf8", "client_encoding", "utf8", false, false},
        {"SET enable_x = off", "enable_x", "off", false, false},
        {"SET search_path TO a, 'b'", "search_path", "a, b", false, false},
        {"SET SESSION statement_timeout = DEFAULT", "statement_timeout", "", false, true},
        {"RESET Statement_Timeout", "statement_timeout", "", false, true},
        {"RESET ALL", "all", "", false, true},
        {"SET TIME ZONE 'UTC'", "timezone", "UTC", false, false},
        {"SHOW server_version", "server_version", "", false, false},
        {"SHOW TRANSACTION ISOLATION LEVEL", "transaction_isolation", "", false, false},
    };
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_setting_change change;
        struct dbos_script *script = parse(&alloc, cases[i].text);
        dbos_script_setting(script, 0, &change);
        cr_expect_str_eq(change.name, cases[i].name, "%s: %s", cases[i].text, change.name);
        cr_expect_str_eq(change.value, cases[i].value, "%s: %s", cases[i].text, change.value);
        cr_expect_eq(change.is_local, cases[i].is_local, "%s", cases[i].text);
        cr_expect_eq(change.is_reset, cases[i].is_reset, "%s", cases[i].text);
        dbos_script_close(script);
    }
    dbos_alloc_fini(&alloc);
}

static void describe_call(const struct dbos_archive_call *call, char *out, size_t out_bytes) {
    size_t used = (size_t)snprintf(out, out_bytes, "%s@%u", call->function, call->position);
    for (uint32_t i = 0; i < call->argument_count && used < out_bytes; i++) {
        const struct dbos_archive_argument *a = &call->arguments[i];
        used += (size_t)snprintf(out + used, out_bytes - used, " %s%s%s",
                                 a->name == NULL ? "" : a->name, a->name == NULL ? "" : "=>",
                                 a->text == NULL ? "" : a->text);
        if (a->parameter != 0) {
            used += (size_t)snprintf(out + used, out_bytes - used, "$%u", a->parameter);
        } else if (a->text == NULL) {
            used += (size_t)snprintf(out + used, out_bytes - used, "NULL::%s",
                                     a->row_type == NULL ? "" : a->row_type);
        }
    }
}

Test(procs_sql_script, provenance_queries_are_cut_out_and_rewritten) {
    static const struct {
        const char *text;
        const char *sql;
        const char *calls; /* of all, with ; between them */
    } cases[] = {
        {"SELECT * FROM prov_history('accounts', 5)", "SELECT * FROM dbos_call_0 AS prov_history",
         "prov_history@15 accounts 5"},
        {"SELECT * FROM prov_last_writer('t', $1) w WHERE w.x = ')' -- it's prov_(",
         "SELECT * FROM dbos_call_0 w WHERE w.x = ')' -- it's prov_(", "prov_last_writer@15 t $1"},
        {"SELECT 'é', a.x FROM dbos_as_of(NULL::t, '2026-01-01'::timestamptz) a JOIN "
         "prov_downstream('x', depth => 3, deep => true) d ON a.x = d.x",
         "SELECT 'é', a.x FROM dbos_call_0 a JOIN dbos_call_1 d ON a.x = d.x",
         "dbos_as_of@22 NULL::t 2026-01-01;prov_downstream@76 x depth=>3 deep=>true"},
        {"SELECT * FROM prov.calls c", "SELECT * FROM prov.calls c", ""},
        {"WITH q AS (SELECT * FROM prov_user_blocks('bob' /* ( */)) SELECT count(*) FROM q",
         "WITH q AS (SELECT * FROM dbos_call_0 AS prov_user_blocks) SELECT count(*) FROM q",
         "prov_user_blocks@26 bob"},
        {"SELECT 1 WHERE EXISTS (SELECT 1 FROM prov_upstream('it''s', 1.5, NULL, -3))",
         "SELECT 1 WHERE EXISTS (SELECT 1 FROM dbos_call_0 AS prov_upstream)",
         "prov_upstream@38 it's 1.5 NULL:: -3"},
    };
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char calls[512] = "";
        struct dbos_archive_query query;
        struct dbos_script *script = parse(&alloc, cases[i].text);
        cr_assert_eq(dbos_script_kind(script, 0), DBOS_STATEMENT_ARCHIVE, "%s", cases[i].text);
        dbos_script_archive(script, 0, &query);
        for (uint32_t c = 0; c < query.call_count; c++) {
            char one[256];
            describe_call(&query.calls[c], one, sizeof one);
            (void)strcat(strcat(calls, c == 0 ? "" : ";"), one);
        }
        cr_expect_str_eq(query.sql, cases[i].sql, "%s", query.sql);
        cr_expect_str_eq(calls, cases[i].calls, "%s", calls);
        dbos_script_close(script);
    }
    struct dbos_script *script;
    struct dbos_errinfo info = {0};
    cr_expect_eq(
        dbos_script_parse(&alloc, "SELECT * FROM prov_history(lower('x'))", &script, &info),
        DBOS_ERR_NOT_SUPPORTED);
    cr_expect_eq(info.position, 15);
    dbos_alloc_fini(&alloc);
}

/* `head`, then `part` again and again, then `tail` as often. */
static char *repeat(const char *head, const char *part, const char *tail, size_t times) {
    size_t part_bytes = strlen(part);
    size_t tail_bytes = strlen(tail);
    size_t head_bytes = strlen(head);
    char *text = malloc(head_bytes + times * (part_bytes + tail_bytes) + 3);
    cr_assert_not_null(text);
    char *at = stpcpy(text, head);
    for (size_t i = 0; i < times; i++) {
        at = stpcpy(at, part);
    }
    *at++ = '1';
    *at = '\0';
    for (size_t i = 0; i < times && tail_bytes != 0; i++) {
        at = stpcpy(at, tail);
    }
    return text;
}

Test(procs_sql_script, text_of_any_depth_is_parsed_or_refused) {
    static const struct {
        const char *head;
        const char *part;
        const char *tail;
    } shapes[] = {
        {"SELECT ", "(", ")"},
        {"SELECT ", "1+", ""},
        {"SELECT ", "NOT ", ""},
        {"SELECT ", "- ", ""},
        {"SELECT ", "abs(", ")"},
        {"SELECT ", "1 = 1 AND ", ""},
        {"SELECT ", "CASE WHEN true AND ", " THEN 1 END"},
        {"SELECT 1 UNION SELECT ", "1 UNION SELECT ", ""},
        {"SELECT 1", "::int", ""},
        {"SELECT * FROM t WHERE a = ", "1 OR a = ", ""},
        {"SELECT ", "1, ", ""},
        {"SELECT * FROM a ", "JOIN a ON true AND true ", ""},
        {"SELECT ", "(SELECT ", ")"},
        {"SELECT ", "a[", "]"},
        {"", "(", ""},
        {"SELECT /*", "/*", "*/"},
    };
    static const size_t times[] = {10, 300, 900, 5000, 30000};
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++) {
        for (size_t t = 0; t < sizeof times / sizeof times[0]; t++) {
            char *text = repeat(shapes[s].head, shapes[s].part, shapes[s].tail, times[t]);
            struct dbos_script *script = NULL;
            struct dbos_errinfo info = {0};
            enum dbos_err err = dbos_script_parse(&alloc, text, &script, &info);
            cr_expect(err == DBOS_OK || err == DBOS_ERR_TOO_COMPLEX ||
                          err == DBOS_ERR_NOT_SUPPORTED || err == DBOS_ERR_SYNTAX ||
                          err == DBOS_ERR_UNDEFINED_OBJECT,
                      "shape %zu, %zu times: %s", s, times[t], dbos_err_name(err));
            dbos_script_close(script);
            free(text);
        }
    }
    char *text = repeat("SELECT ", "1,", "", 300000);
    struct dbos_script *script;
    struct dbos_errinfo info = {0};
    cr_expect_eq(dbos_script_parse(&alloc, text, &script, &info), DBOS_ERR_LIMIT);
    free(text);
    dbos_alloc_fini(&alloc);
}
