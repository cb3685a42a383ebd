/* Our own syntax tree: what sql_parse*.c makes of libpg_query's tree and all else reads.
 *
 * One node type for expressions, one struct for each kind of statement. Positions are characters in
 * the whole text, from 1; 0 = the grammar gives none. Names are lower-cased by the scanner already.
 *
 * Thread: immutable once parsed. Memory: the script's arena. */
#ifndef DBOS_PROCS_SQL_AST_H
#define DBOS_PROCS_SQL_AST_H

#include "procs/sql/sql.h"

enum dbos_ast_kind {
    DBOS_AST_NULL,
    DBOS_AST_INTEGER,   /* integer */
    DBOS_AST_FLOAT,     /* name: its digits */
    DBOS_AST_STRING,    /* name */
    DBOS_AST_BOOL,      /* integer */
    DBOS_AST_PARAMETER, /* integer: 1-based */
    DBOS_AST_COLUMN,    /* qualifier (or NULL), name */
    DBOS_AST_STAR,      /* qualifier (or NULL): only in a target list */
    DBOS_AST_OPERATOR,  /* name, 1 or 2 args */
    DBOS_AST_AND,       /* args */
    DBOS_AST_OR,
    DBOS_AST_NOT,
    DBOS_AST_IS_NULL,  /* negated */
    DBOS_AST_IS_BOOL,  /* integer: 1, 0 or -1 (unknown); negated */
    DBOS_AST_DISTINCT, /* IS [NOT] DISTINCT FROM; negated = NOT DISTINCT */
    DBOS_AST_IN,       /* args[0] IN (args[1..]); negated */
    DBOS_AST_BETWEEN,  /* args[0] between args[1] and args[2]; negated; integer 1 = SYMMETRIC */
    DBOS_AST_CASE,     /* has_operand: args[0]; then condition, result, …; the last is ELSE */
    DBOS_AST_COALESCE,
    DBOS_AST_GREATEST,
    DBOS_AST_LEAST,
    DBOS_AST_NULLIF,
    DBOS_AST_CALL,    /* name, args; star, distinct */
    DBOS_AST_CAST,    /* type, args[0] */
    DBOS_AST_DEFAULT, /* only in VALUES and SET */
};

/* A type as written: resolved at parsing, because there are no types but ours. */
struct dbos_ast_type {
    enum dbos_type type;
    uint32_t chars_max; /* varchar(n) */
    uint32_t position;
};

struct dbos_ast {
    enum dbos_ast_kind kind;
    bool negated;
    bool star;
    bool distinct;
    bool has_operand;
    uint32_t position;
    uint32_t count;
    int64_t integer;
    const char *qualifier;
    const char *name;
    struct dbos_ast_type type;
    struct dbos_ast **args;
};

/* A relation in FROM, INSERT INTO, … */
struct dbos_ast_relation {
    const char *schema;       /* or NULL */
    const char *name;         /* NULL: there is none */
    const char *alias;        /* or NULL */
    const char *column_alias; /* f() AS alias(column) */
    struct dbos_ast *series;  /* generate_series(…) instead of a table */
    uint32_t position;
};

struct dbos_ast_target {
    const char *name; /* AS name, or the column of INSERT and UPDATE; may be NULL */
    struct dbos_ast *expr;
    uint32_t position;
};
struct dbos_ast_targets {
    struct dbos_ast_target *items;
    uint32_t count;
};

struct dbos_ast_sort {
    struct dbos_ast *expr;
    bool descending;
    bool nulls_first;
};

struct dbos_ast_select {
    struct dbos_ast_targets targets;
    struct dbos_ast_relation from;
    struct dbos_ast *where;
    struct dbos_ast **group;
    uint32_t group_count;
    struct dbos_ast *having;
    struct dbos_ast_sort *sort;
    uint32_t sort_count;
    struct dbos_ast *limit;
    struct dbos_ast *offset;
    bool distinct;
};

struct dbos_ast_row {
    struct dbos_ast **values;
    uint32_t count;
};

struct dbos_ast_insert {
    struct dbos_ast_relation table;
    struct dbos_ast_target *columns; /* names and positions */
    uint32_t column_count;           /* 0 = all */
    struct dbos_ast_row *rows;
    uint32_t row_count;
    struct dbos_ast_select *select; /* instead of rows */
    bool default_values;
    struct dbos_ast_targets returning;
};

struct dbos_ast_update {
    struct dbos_ast_relation table;
    struct dbos_ast_targets set;
    struct dbos_ast *where;
    struct dbos_ast_targets returning;
};

struct dbos_ast_delete {
    struct dbos_ast_relation table;
    struct dbos_ast *where;
    struct dbos_ast_targets returning;
};

enum dbos_ddl {
    DBOS_DDL_CREATE_TABLE,
    DBOS_DDL_DROP_TABLE,
    DBOS_DDL_CREATE_INDEX,
    DBOS_DDL_DROP_INDEX,
    DBOS_DDL_CREATE_PROCEDURE,
    DBOS_DDL_DROP_PROCEDURE,
};

struct dbos_ast_name {
    const char *schema; /* or NULL */
    const char *name;
    uint32_t position;
};

struct dbos_ast_column {
    const char *name;
    struct dbos_ast_type type;
    bool not_null;
    struct dbos_ast *default_value; /* or NULL */
    const char *default_sql;
    uint32_t position;
};

struct dbos_ast_key {
    const char *name; /* CONSTRAINT name, or NULL */
    bool primary;
    struct dbos_ast_name *columns;
    uint32_t column_count;
    uint32_t position;
};

struct dbos_ast_create_table {
    struct dbos_ast_relation table;
    bool if_not_exists;
    struct dbos_ast_column *columns;
    uint32_t column_count;
    struct dbos_ast_key *keys;
    uint32_t key_count;
    const char *partition_column; /* or NULL */
    uint32_t partition_position;
};

struct dbos_ast_create_index {
    const char *name; /* or NULL */
    struct dbos_ast_relation table;
    bool unique;
    bool if_not_exists;
    bool hash;
    struct dbos_ast_name *columns;
    uint32_t column_count;
};

/* Tables, indexes, procedures or functions. */
struct dbos_ast_drop {
    struct dbos_ast_name *names;
    uint32_t name_count;
    bool if_exists;
    bool is_function;
};

struct dbos_ast_create_procedure {
    const char *name;
    bool is_function;
    bool replace;
    enum dbos_type returns;
    enum dbos_language language;
    struct dbos_argument *arguments;
    uint32_t argument_count;
    const char *file;
    const char *symbol;
    const char *body;
    const char *route;
};

struct dbos_ast_call {
    const char *name;
    struct dbos_ast **args;
    uint32_t count;
    uint32_t position;
};

struct dbos_ast_statement {
    enum dbos_statement_kind kind;
    enum dbos_ddl ddl;
    struct dbos_bytes text;
    uint32_t text_position; /* characters before it in the whole text */
    union {
        struct dbos_ast_select select;
        struct dbos_ast_insert insert;
        struct dbos_ast_update update;
        struct dbos_ast_delete delete_from;
        struct dbos_ast_create_table create_table;
        struct dbos_ast_create_index create_index;
        struct dbos_ast_create_procedure create_procedure;
        struct dbos_ast_drop drop;
        struct dbos_ast_call call;
        struct dbos_setting_change setting;
        struct dbos_archive_query archive;
    };
};

struct dbos_script {
    _Atomic uint32_t refs; /* the opener's and its plans' */
    struct dbos_alloc *alloc;
    struct dbos_arena arena;
    const char *text;
    uint32_t count;
    struct dbos_ast_statement *statements;
};

/* Parse into an opened script (sql_parse.c); script.c owns the rest. */
enum dbos_err dbos_script_fill(struct dbos_script *script, struct dbos_errinfo *info) DBOS_MUST_USE;
struct dbos_script *dbos_script_ref(struct dbos_script *script);

#endif /* DBOS_PROCS_SQL_AST_H */
