/* Scripts: life and access; parsing is in sql_parse.c. */
#include "procs/sql/ast.h"
#include "procs/sql/sql_lex.h"
#include "procs/sql/type_io.h"

enum { SCRIPT_CHUNK_BYTES = 4096 };

static void close_script(struct dbos_script *script) {
    struct dbos_alloc *alloc = script->alloc;
    dbos_arena_fini(&script->arena);
    dbos_give(alloc, script);
}

static enum dbos_err check_text(const char *text, struct dbos_errinfo *info) {
    size_t size_bytes = strlen(text);
    if (!dbos_utf8_valid(text, size_bytes)) {
        return dbos_fail(info, DBOS_ERR_ENCODING, "invalid byte sequence for encoding \"UTF8\"");
    }
    return dbos_lex_check_depth(text, info);
}

enum dbos_err dbos_script_parse(struct dbos_alloc *alloc, const char *text,
                                struct dbos_script **out, struct dbos_errinfo *info) {
    *out = NULL;
    enum dbos_err err = check_text(text, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_script *script = dbos_take_zero(alloc, sizeof *script);
    if (script == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory");
    }
    atomic_init(&script->refs, 1);
    script->alloc = alloc;
    dbos_arena_init(&script->arena, alloc, SCRIPT_CHUNK_BYTES);
    script->text = dbos_arena_copy(&script->arena, text, strlen(text));
    err = script->text == NULL ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory")
                               : dbos_script_fill(script, info);
    if (err != DBOS_OK) {
        close_script(script);
        return err;
    }
    *out = script;
    return DBOS_OK;
}

struct dbos_script *dbos_script_ref(struct dbos_script *script) {
    DBOS_CHECK(atomic_fetch_add_explicit(&script->refs, 1, memory_order_relaxed) != 0);
    return script;
}

void dbos_script_close(struct dbos_script *script) {
    if (script != NULL && atomic_fetch_sub_explicit(&script->refs, 1, memory_order_acq_rel) == 1) {
        close_script(script);
    }
}

uint32_t dbos_script_count(const struct dbos_script *script) { return script->count; }

static const struct dbos_ast_statement *statement_at(const struct dbos_script *script,
                                                     uint32_t statement) {
    DBOS_CHECK(statement < script->count);
    return &script->statements[statement];
}

enum dbos_statement_kind dbos_script_kind(const struct dbos_script *script, uint32_t statement) {
    return statement_at(script, statement)->kind;
}

struct dbos_bytes dbos_script_text(const struct dbos_script *script, uint32_t statement) {
    return statement_at(script, statement)->text;
}

uint32_t dbos_script_position(const struct dbos_script *script, uint32_t statement) {
    return statement_at(script, statement)->text_position;
}

void dbos_script_setting(const struct dbos_script *script, uint32_t statement,
                         struct dbos_setting_change *out) {
    const struct dbos_ast_statement *node = statement_at(script, statement);
    DBOS_CHECK(node->kind == DBOS_STATEMENT_SET || node->kind == DBOS_STATEMENT_SHOW);
    *out = node->setting;
}

void dbos_script_archive(const struct dbos_script *script, uint32_t statement,
                         struct dbos_archive_query *out) {
    const struct dbos_ast_statement *node = statement_at(script, statement);
    DBOS_CHECK(node->kind == DBOS_STATEMENT_ARCHIVE);
    *out = node->archive;
}
