#include <criterion/criterion.h>
#include <string.h>

#include "procs/include/dbos/procedure.h"
#include "procs/module.h"
#include "tests/unit/procs/procs_support.h"

TestSuite(procs_module, .timeout = 30);

static struct dbos_alloc alloc;

static void setup(void) { dbos_alloc_init(&alloc, "test", 0); }
static void balance(void) { dbos_alloc_fini(&alloc); }

static enum dbos_err check_file(const char *name, struct dbos_errinfo *info) {
    char path[512];
    size_t size_bytes = 0;
    struct dbos_module_facts facts;
    uint8_t *data = node_read_file(&alloc, node_module(name, path), &size_bytes);
    enum dbos_err err = dbos_module_check(data, size_bytes, &facts, info);
    dbos_give(&alloc, data);
    return err;
}

static struct dbos_module *open_file(const char *name) {
    char path[512];
    size_t size_bytes = 0;
    struct dbos_errinfo info = {0};
    struct dbos_module *module = NULL;
    uint8_t *data = node_read_file(&alloc, node_module(name, path), &size_bytes);
    enum dbos_err err = dbos_module_open(&alloc, data, size_bytes, &module, &info);
    cr_assert_eq(err, DBOS_OK, "%s: %s", name, info.message);
    dbos_give(&alloc, data);
    return module;
}

Test(procs_module, what_is_not_repeatable_is_refused_and_named, .init = setup, .fini = balance) {
    static const struct {
        const char *file;
        const char *message;
    } cases[] = {
        {"test/bad_functions.so", "module uses functions that are not allowed: rand, time"},
        {"test/bad_static.so", "module has writable data: counter, start"},
        {"test/bad_constructor.so", "module has code that runs when it is loaded: wake"},
        {"test/bad_printf.so", "module uses functions that are not allowed: fputc, printf, stderr"},
        {"test/bad_thread.so",
         "module uses functions that are not allowed: __tls_get_addr; it has thread-local data: "
         "per_thread; it needs libraries that are not allowed: ld-linux-x86-64.so.2"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dbos_errinfo info = {0};
        cr_expect_eq(check_file(cases[i].file, &info), DBOS_ERR_MODULE, "%s", cases[i].file);
        cr_expect_str_eq(info.sqlstate, "58P01");
        cr_expect_not_null(strstr(info.hint, "dbos-cc"), "%s has no hint", cases[i].file);
        /* How a thread-local variable is reached depends on the compiler; it is named either way.
         */
        bool thread = strstr(cases[i].file, "thread") != NULL;
        cr_expect(thread ? strstr(info.message, "per_thread") != NULL
                         : strcmp(info.message, cases[i].message) == 0,
                  "%s: \"%s\"", cases[i].file, info.message);
    }
}

Test(procs_module, what_dbos_cc_makes_is_accepted, .init = setup, .fini = balance) {
    static const char *const files[] = {"vote.so", "transfer.so", "test/good.so", "test/kit.so",
                                        "test/tasks.so"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct dbos_errinfo info = {0};
        cr_expect_eq(check_file(files[i], &info), DBOS_OK, "%s: %s", files[i], info.message);
    }
}

Test(procs_module, the_check_says_whether_tasks_are_used, .init = setup, .fini = balance) {
    char path[512];
    size_t size_bytes = 0;
    struct dbos_module_facts facts;
    uint8_t *data = node_read_file(&alloc, node_module("test/tasks.so", path), &size_bytes);
    cr_expect_eq(dbos_module_check(data, size_bytes, &facts, NULL), DBOS_OK);
    cr_expect(facts.uses_tasks);
    dbos_give(&alloc, data);
    data = node_read_file(&alloc, node_module("vote.so", path), &size_bytes);
    cr_expect_eq(dbos_module_check(data, size_bytes, &facts, NULL), DBOS_OK);
    cr_expect(!facts.uses_tasks);
    dbos_give(&alloc, data);
}

/* A file that is cut inside what the loader reads can not pass; nothing behind the cut is read, as
 * the copy is exactly as long as the cut (ASan sees an over-read). */
Test(procs_module, a_module_that_was_cut_is_refused, .init = setup, .fini = balance) {
    char path[512];
    size_t size_bytes = 0;
    struct dbos_module_facts facts;
    uint8_t *data = node_read_file(&alloc, node_module("test/good.so", path), &size_bytes);
    uint32_t refused = 0;
    for (size_t cut = 0; cut < size_bytes; cut += cut < 4096 ? 7 : 97) {
        uint8_t *part = dbos_take(&alloc, cut + 1);
        memcpy(part, data, cut);
        refused += dbos_module_check(part, cut, &facts, NULL) == DBOS_ERR_MODULE;
        if (cut < size_bytes / 2) {
            cr_expect_eq(dbos_module_check(part, cut, &facts, NULL), DBOS_ERR_MODULE, "%zu", cut);
        }
        dbos_give(&alloc, part);
    }
    cr_expect_gt(refused, 100);
    dbos_give(&alloc, data);
}

Test(procs_module, files_of_another_kind_are_refused_with_a_reason, .init = setup,
     .fini = balance) {
    struct dbos_module_facts facts;
    struct dbos_errinfo info;
    size_t size_bytes = 0;
    cr_expect_eq(dbos_module_check("SELECT 1", 8, &facts, &info), DBOS_ERR_MODULE);
    cr_expect_str_eq(info.message, "module is not an ELF file");
    uint8_t *data = node_read_file(&alloc, "/proc/self/exe", &size_bytes);
    cr_expect_eq(dbos_module_check(data, size_bytes, &facts, &info), DBOS_ERR_MODULE);
    cr_expect(strcmp(info.message, "module is a program, not a shared object") == 0 ||
                  strcmp(info.message, "module is over 64 MB") == 0,
              "%s", info.message);
    dbos_give(&alloc, data);
}

Test(procs_module, a_procedure_is_found_by_its_name_and_checked, .init = setup, .fini = balance) {
    static const struct {
        const char *file;
        const char *name;
        const char *message;
    } cases[] = {
        {"test/good.so", "no_such", "module has no procedure \"no_such\""},
        {"test/bad_version.so", "future",
         "procedure \"future\" was compiled for SDK version 99, this server has 1"},
        {"test/bad_version.so", "idle",
         "procedure \"idle\" lacks .run, or its .statements do not match .statement_count (at most "
         "256)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct dbos_module *module = open_file(cases[i].file);
        const struct dbos_procedure *procedure = NULL;
        struct dbos_errinfo info = {0};
        cr_expect_eq(dbos_module_procedure(module, cases[i].name, &procedure, &info),
                     DBOS_ERR_MODULE);
        cr_expect_null(procedure);
        cr_expect_str_eq(info.message, cases[i].message);
        dbos_module_close(module);
    }
}

/* The dynamic linker takes a path that it knows for the library that it has loaded already. */
Test(procs_module, a_module_opened_after_another_was_closed_is_not_mistaken_for_it, .init = setup,
     .fini = balance) {
    for (int i = 0; i < 3; i++) {
        const struct dbos_procedure *procedure = NULL;
        struct dbos_module *first = open_file("test/good.so");
        struct dbos_module *second = open_file("vote.so");
        cr_expect_eq(dbos_module_procedure(first, "vote", &procedure, NULL), DBOS_ERR_MODULE);
        cr_expect_eq(dbos_module_procedure(second, "vote", &procedure, NULL), DBOS_OK);
        dbos_module_close(first);
        struct dbos_module *third = open_file("transfer.so");
        cr_expect_eq(dbos_module_procedure(third, "transfer", &procedure, NULL), DBOS_OK);
        dbos_module_close(second);
        dbos_module_close(third);
    }
}
