#include "base/err.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <string.h>

TestSuite(base_err, .timeout = 10);

struct entry {
    const char *name;
    int number;
    const char *sqlstate;
    const char *text;
};

#define ENTRY(name, number, sqlstate, text) {#name, number, sqlstate, text},
static const struct entry entries[] = {DBOS_ERR_LIST(ENTRY)};
#undef ENTRY
enum { ENTRY_COUNT = sizeof entries / sizeof entries[0] };

Test(base_err, numbers_and_names_in_the_list_are_unique) {
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        for (size_t j = 0; j < i; j++) {
            cr_expect_neq(entries[i].number, entries[j].number, "%s and %s", entries[i].name,
                          entries[j].name);
            cr_expect_str_neq(entries[i].name, entries[j].name);
        }
    }
}

/* Numbers stand in logs: these were released and can not move. */
Test(base_err, recorded_numbers_stay_what_they_were) {
    cr_expect_eq(DBOS_OK, 0);
    cr_expect_eq(DBOS_ERR_NOMEM, 1);
    cr_expect_eq(DBOS_ERR_CORRUPT, 3);
    cr_expect_eq(DBOS_ERR_SYNTAX, 20);
    cr_expect_eq(DBOS_ERR_NOT_SUPPORTED, 60);
    cr_expect_eq(DBOS_ERR_UNIQUE, 61);
    cr_expect_eq(DBOS_ERR_LIMIT, 80);
    cr_expect_eq(DBOS_ERR_RAISED, 92);
    cr_expect_eq(DBOS_ERR_TASK_DEADLINE, 100);
    cr_expect_eq(DBOS_ERR_FORMAT_VERSION, 104);
}

Test(base_err, every_code_has_a_name_a_text_and_a_well_formed_sqlstate) {
    for (size_t i = 0; i < ENTRY_COUNT; i++) {
        enum dbos_err code = (enum dbos_err)entries[i].number;
        cr_expect_str_eq(dbos_err_name(code), entries[i].name);
        cr_expect_str_eq(dbos_err_text(code), entries[i].text);
        cr_expect_str_eq(dbos_err_sqlstate(code), entries[i].sqlstate);
        cr_expect_eq(strspn(entries[i].sqlstate, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"), 5);
        cr_expect_eq(strlen(entries[i].sqlstate), 5);
    }
    cr_expect_str_eq(dbos_err_sqlstate((enum dbos_err)9999), "XX000");
    cr_expect_str_eq(dbos_err_name((enum dbos_err)9999), "UNKNOWN");
}

Test(base_err, fail_sets_code_state_and_message_and_forgets_what_was_there) {
    struct dbos_errinfo info;
    memset(&info, 0x5a, sizeof info);
    enum dbos_err err = dbos_fail_at(&info, DBOS_ERR_SYNTAX, 7, "at \"%s\"", "selct");
    cr_expect_eq(err, DBOS_ERR_SYNTAX);
    cr_expect_eq(info.code, DBOS_ERR_SYNTAX);
    cr_expect_eq(info.position, 7u);
    cr_expect_str_eq(info.sqlstate, "42601");
    cr_expect_str_eq(info.message, "at \"selct\"");
    cr_expect_str_empty(info.detail);
    cr_expect_str_empty(info.table);
    dbos_err_detail(&info, "detail %d", 1);
    dbos_err_hint(&info, "hint %d", 2);
    cr_expect_str_eq(info.detail, "detail 1");
    cr_expect_str_eq(info.hint, "hint 2");
    cr_expect_eq(dbos_fail(NULL, DBOS_ERR_IO, "nobody listens"), DBOS_ERR_IO);
    dbos_err_detail(NULL, "nobody listens");
    dbos_err_hint(NULL, "nobody listens");
}

Test(base_err, an_error_can_be_wrapped_into_its_own_carrier) {
    struct dbos_errinfo info = {0};
    (void)dbos_fail(&info, DBOS_ERR_IO, "cannot read page %d", 3);
    (void)dbos_fail(&info, DBOS_ERR_CORRUPT, "recovery: %s (%s)", info.message, info.sqlstate);
    cr_expect_str_eq(info.message, "recovery: cannot read page 3 (58030)");
    cr_expect_str_eq(info.sqlstate, "XX001");
}

Test(base_err, a_message_too_long_is_cut_and_terminated) {
    struct dbos_errinfo info;
    char longer[2 * sizeof info.message];
    memset(longer, 'x', sizeof longer);
    longer[sizeof longer - 1] = '\0';
    (void)dbos_fail(&info, DBOS_ERR_IO, "%s", longer);
    cr_expect_eq(strlen(info.message), sizeof info.message - 1);
    dbos_err_hint(&info, "%s", longer);
    cr_expect_eq(strlen(info.hint), sizeof info.hint - 1);
}

Test(base_err, failing_with_ok_is_a_bug, .signal = SIGABRT) {
    struct dbos_errinfo info;
    (void)dbos_fail(&info, DBOS_OK, "all is well");
}
