/* One question: its calls become temporary tables, its parameters literals, its answer text cells.
 */
#include <stdio.h>
#include <stdlib.h>

#include "provenance/archive_internal.h"
#include "provenance/archive_text.h"

/* -- parameters -----------------------------------------------------------------------------------
 */

/* Length of the quoted thing, comment or dollar-quoted text that begins at `at`; 0 = none does. */
static size_t quoted_length(const char *at) {
    if (*at == '\'' || *at == '"') {
        const char *end = at + 1;
        while (*end != '\0' && *end != *at) {
            end++;
        }
        return (size_t)(end - at) + (*end == '\0' ? 0 : 1);
    }
    if (at[0] == '-' && at[1] == '-') {
        return strcspn(at, "\n");
    }
    if (at[0] == '/' && at[1] == '*') {
        const char *end = strstr(at + 2, "*/");
        return end == NULL ? strlen(at) : (size_t)(end - at) + 2;
    }
    size_t tag = 1 + strspn(at + 1, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_");
    if (at[0] == '$' && at[tag] == '$') {
        for (const char *end = at + tag + 1; *end != '\0'; end++) {
            if (strncmp(end, at, tag + 1) == 0) {
                return (size_t)(end - at) + tag + 1;
            }
        }
        return strlen(at);
    }
    return 0;
}

/* The statement with $n replaced by literals, as an untyped literal takes the type it is used as.
 */
static enum dbos_err put_statement(const struct dbos_archive_question *question,
                                   struct dbos_buf *sql, struct dbos_errinfo *info) {
    const char *at = question->sql;
    while (*at != '\0') {
        size_t quoted = quoted_length(at);
        if (quoted != 0) {
            dbos_buf_put(sql, at, quoted);
            at += quoted;
            continue;
        }
        size_t digits = *at == '$' ? strspn(at + 1, "0123456789") : 0;
        if (digits == 0) {
            dbos_buf_put_u8(sql, (uint8_t)*at++);
            continue;
        }
        unsigned long number = digits > 6 ? 0 : strtoul(at + 1, NULL, 10);
        const char *value = NULL;
        if (number != 0 && number <= question->parameter_count) {
            value = question->parameters[number - 1];
        } else if (number == 0 || !question->describe_only) {
            return dbos_fail_at(info, DBOS_ERR_UNDEFINED_PARAMETER,
                                (uint32_t)(at - question->sql) + 1, "there is no parameter $%lu",
                                number);
        }
        if (value == NULL) {
            dbos_sql_putf(sql, "NULL");
        } else {
            dbos_sql_put_literal(sql, value);
        }
        at += 1 + digits;
    }
    return dbos_sql_text(sql) == NULL
               ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the statement")
               : DBOS_OK;
}

/* -- cells ----------------------------------------------------------------------------------------
 */

struct asking {
    struct dbos_archiver *archiver;
    const struct dbos_duckdb *duck;
    duckdb_connection connection;
    duckdb_prepared_statement prepared;
    uint32_t column_count;
    const struct dbos_archive_sink *sink;
    struct dbos_errinfo *info;
    struct dbos_buf cells; /* texts of one row */
    struct dbos_bytes *row;
    size_t *starts;
};

static void put_hugeint(struct asking *asking, const duckdb_hugeint *value, enum dbos_err *err) {
    bool fits = (value->upper == 0 && value->lower <= INT64_MAX) ||
                (value->upper == -1 && value->lower > INT64_MAX);
    if (!fits) {
        *err = dbos_fail(asking->info, DBOS_ERR_OUT_OF_RANGE, "bigint out of range");
    }
    dbos_archive_text_int(&asking->cells, (int64_t)value->lower);
}

/* DuckDB types that have one of ours; every other one is cast in the statement. */
static enum dbos_type type_of(duckdb_type type) {
    static const struct {
        duckdb_type type;
        enum dbos_type ours;
    } types[] = {
        {DUCKDB_TYPE_BOOLEAN, DBOS_TYPE_BOOL},
        {DUCKDB_TYPE_TINYINT, DBOS_TYPE_INT2},
        {DUCKDB_TYPE_UTINYINT, DBOS_TYPE_INT2},
        {DUCKDB_TYPE_SMALLINT, DBOS_TYPE_INT2},
        {DUCKDB_TYPE_USMALLINT, DBOS_TYPE_INT4},
        {DUCKDB_TYPE_INTEGER, DBOS_TYPE_INT4},
        {DUCKDB_TYPE_UINTEGER, DBOS_TYPE_INT8},
        {DUCKDB_TYPE_BIGINT, DBOS_TYPE_INT8},
        {DUCKDB_TYPE_HUGEINT, DBOS_TYPE_INT8},
        {DUCKDB_TYPE_DOUBLE, DBOS_TYPE_FLOAT8},
        {DUCKDB_TYPE_VARCHAR, DBOS_TYPE_TEXT},
        {DUCKDB_TYPE_BLOB, DBOS_TYPE_BYTEA},
        {DUCKDB_TYPE_TIMESTAMP_TZ, DBOS_TYPE_TIMESTAMPTZ},
    };
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].type == type) {
            return types[i].ours;
        }
    }
    return DBOS_TYPE_UNKNOWN;
}

/* How a column of another type is cast. */
static const char *cast_of(duckdb_type type) {
    if (type == DUCKDB_TYPE_FLOAT || type == DUCKDB_TYPE_DECIMAL) {
        return "DOUBLE";
    }
    if (type == DUCKDB_TYPE_UBIGINT || type == DUCKDB_TYPE_UHUGEINT || type == DUCKDB_TYPE_BIGNUM) {
        return "BIGINT";
    }
    if (type == DUCKDB_TYPE_TIMESTAMP || type == DUCKDB_TYPE_TIMESTAMP_S ||
        type == DUCKDB_TYPE_TIMESTAMP_MS || type == DUCKDB_TYPE_TIMESTAMP_NS) {
        return "TIMESTAMPTZ";
    }
    return "VARCHAR";
}

static void put_integer(struct dbos_buf *out, duckdb_type type, const void *data, uint64_t row) {
    int64_t value = 0;
    if (type == DUCKDB_TYPE_TINYINT) {
        value = ((const int8_t *)data)[row];
    } else if (type == DUCKDB_TYPE_UTINYINT) {
        value = ((const uint8_t *)data)[row];
    } else if (type == DUCKDB_TYPE_SMALLINT) {
        value = ((const int16_t *)data)[row];
    } else if (type == DUCKDB_TYPE_USMALLINT) {
        value = ((const uint16_t *)data)[row];
    } else if (type == DUCKDB_TYPE_INTEGER) {
        value = ((const int32_t *)data)[row];
    } else if (type == DUCKDB_TYPE_UINTEGER) {
        value = ((const uint32_t *)data)[row];
    } else {
        value = ((const int64_t *)data)[row];
    }
    dbos_archive_text_int(out, value);
}

static enum dbos_err put_cell(struct asking *asking, duckdb_type type, const void *data,
                              uint64_t row) {
    struct dbos_buf *out = &asking->cells;
    enum dbos_err err = DBOS_OK;
    if (type == DUCKDB_TYPE_VARCHAR || type == DUCKDB_TYPE_BLOB) {
        struct dbos_bytes bytes = dbos_duckdb_bytes(&((const duckdb_string_t *)data)[row]);
        if (type == DUCKDB_TYPE_BLOB) {
            dbos_archive_text_bytea(out, bytes.data, bytes.size_bytes);
        } else {
            dbos_buf_put(out, bytes.data, bytes.size_bytes);
        }
    } else if (type == DUCKDB_TYPE_BOOLEAN) {
        dbos_archive_text_bool(out, ((const bool *)data)[row]);
    } else if (type == DUCKDB_TYPE_DOUBLE) {
        dbos_archive_text_real(out, ((const double *)data)[row]);
    } else if (type == DUCKDB_TYPE_TIMESTAMP_TZ) {
        dbos_archive_text_timestamp(out, ((const int64_t *)data)[row]);
    } else if (type == DUCKDB_TYPE_HUGEINT) {
        put_hugeint(asking, &((const duckdb_hugeint *)data)[row], &err);
    } else {
        put_integer(out, type, data, row);
    }
    return err;
}

static enum dbos_err send_row(struct asking *asking, duckdb_data_chunk chunk, uint64_t row) {
    const struct dbos_duckdb *duck = asking->duck;
    dbos_buf_reset(&asking->cells);
    for (uint32_t i = 0; i < asking->column_count; i++) {
        duckdb_vector vector = duck->data_chunk_get_vector(chunk, i);
        asking->starts[i] = asking->cells.size_bytes;
        asking->row[i].data = NULL;
        if (dbos_duckdb_valid(duck->vector_get_validity(vector), row)) {
            duckdb_type type = duck->prepared_statement_column_type(asking->prepared, i);
            enum dbos_err err = put_cell(asking, type, duck->vector_get_data(vector), row);
            if (err != DBOS_OK) {
                return err;
            }
            asking->row[i].data = (const uint8_t *)"";
        }
        asking->row[i].size_bytes = asking->cells.size_bytes - asking->starts[i];
    }
    if (asking->cells.failed) {
        return dbos_fail(asking->info, DBOS_ERR_NOMEM, "out of memory for the answer");
    }
    for (uint32_t i = 0; i < asking->column_count; i++) {
        if (asking->row[i].data != NULL && asking->row[i].size_bytes != 0) {
            asking->row[i].data = asking->cells.data + asking->starts[i];
        }
    }
    return asking->sink->row(asking->sink->arg, asking->row, asking->column_count, asking->info);
}

/* -- the statement
 * ---------------------------------------------------------------------------------- */

bool dbos_archive_interrupted(struct dbos_archiver *archiver) {
    (void)pthread_mutex_lock(&archiver->question_mutex);
    bool interrupted = archiver->interrupted;
    (void)pthread_mutex_unlock(&archiver->question_mutex);
    return interrupted;
}

static enum dbos_err check_interrupt(struct asking *asking) {
    return dbos_archive_interrupted(asking->archiver)
               ? dbos_fail(asking->info, DBOS_ERR_CANCELED,
                           "canceling statement due to user request")
               : DBOS_OK;
}

/* Prepare the one statement of `sql`, which must be a SELECT. */
static enum dbos_err prepare_select(struct asking *asking, const char *sql) {
    const struct dbos_duckdb *duck = asking->duck;
    duckdb_extracted_statements statements = NULL;
    uint64_t count = duck->extract_statements(asking->connection, sql, &statements);
    enum dbos_err err = DBOS_OK;
    if (count == 0) {
        const char *message = duck->extract_statements_error(statements);
        err = dbos_duckdb_fail(DUCKDB_ERROR_SYNTAX, message, asking->info);
    } else if (count > 1) {
        err = dbos_fail(asking->info, DBOS_ERR_NOT_SUPPORTED,
                        "the archive takes one statement at a time");
    } else if (duck->prepare_extracted_statement(asking->connection, statements, 0,
                                                 &asking->prepared) != DuckDBSuccess) {
        const char *message = duck->prepare_error(asking->prepared);
        bool syntax = message != NULL && strncmp(message, "Parser", 6) == 0;
        bool invalid = message != NULL && strncmp(message, "Conversion", 10) == 0;
        err = dbos_duckdb_fail(syntax    ? DUCKDB_ERROR_PARSER
                               : invalid ? DUCKDB_ERROR_CONVERSION
                                         : DUCKDB_ERROR_BINDER,
                               message, asking->info);
    } else if (duck->prepared_statement_type(asking->prepared) != DUCKDB_STATEMENT_TYPE_SELECT) {
        err = dbos_fail(asking->info, DBOS_ERR_READ_ONLY, "the archive answers SELECT only");
    }
    duck->destroy_extracted(&statements);
    return err;
}

/* SELECT c0, CAST(c1 AS …) FROM (sql) AS q(c0, c1, …), with the names that the columns had. */
static enum dbos_err cast_columns(struct asking *asking, const char *sql,
                                  struct dbos_buf *wrapped) {
    const struct dbos_duckdb *duck = asking->duck;
    dbos_sql_putf(wrapped, "SELECT ");
    for (uint32_t i = 0; i < asking->column_count; i++) {
        duckdb_type type = duck->prepared_statement_column_type(asking->prepared, i);
        const char *name = duck->prepared_statement_column_name(asking->prepared, i);
        bool known = type_of(type) != DBOS_TYPE_UNKNOWN;
        dbos_sql_putf(wrapped, known ? "%sc%u AS " : "%sCAST(c%u AS %s) AS ", i == 0 ? "" : ", ", i,
                      cast_of(type));
        dbos_sql_put_ident(wrapped, name == NULL ? "?column?" : name);
        duck->free((void *)(uintptr_t)name);
    }
    dbos_sql_putf(wrapped, " FROM (%s\n) AS q(", sql);
    for (uint32_t i = 0; i < asking->column_count; i++) {
        dbos_sql_putf(wrapped, "%sc%u", i == 0 ? "" : ", ", i);
    }
    dbos_sql_putf(wrapped, ")");
    return dbos_sql_text(wrapped) == NULL
               ? dbos_fail(asking->info, DBOS_ERR_NOMEM, "out of memory for the statement")
               : DBOS_OK;
}

/* Prepare, and once more with casts where a column has a type that PostgreSQL's clients lack. */
static enum dbos_err prepare(struct asking *asking, struct dbos_buf *sql) {
    const struct dbos_duckdb *duck = asking->duck;
    size_t length = sql->size_bytes;
    while (length > 0 && strchr("; \t\r\n", sql->data[length - 1]) != NULL) {
        length--;
    }
    sql->data[length] = '\0';
    const char *text = (const char *)sql->data;
    enum dbos_err err = prepare_select(asking, text);
    if (err != DBOS_OK) {
        return err;
    }
    asking->column_count = (uint32_t)duck->prepared_statement_column_count(asking->prepared);
    bool cast = false;
    for (uint32_t i = 0; i < asking->column_count; i++) {
        duckdb_type type = duck->prepared_statement_column_type(asking->prepared, i);
        cast = cast || type_of(type) == DBOS_TYPE_UNKNOWN;
    }
    if (!cast) {
        return DBOS_OK;
    }
    struct dbos_buf wrapped;
    dbos_buf_init(&wrapped, asking->archiver->alloc);
    err = cast_columns(asking, text, &wrapped);
    duck->destroy_prepare(&asking->prepared);
    asking->prepared = NULL;
    if (err == DBOS_OK) {
        err = prepare_select(asking, (const char *)wrapped.data);
    }
    dbos_buf_fini(&wrapped);
    return err;
}

/* As PostgreSQL names a column that was given no name: a function's, "?column?" for another
 * expression, where DuckDB writes the whole of it: count_star(), sum(n), (n + 1). */
static const char *tidy_name(char *name) {
    size_t word = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_");
    size_t length = strlen(name);
    if (strcmp(name, "count_star()") == 0) {
        return "count";
    }
    if (length < 2 || name[length - 1] != ')' || name[word] != '(') {
        return name;
    }
    name[word] = '\0';
    return word == 0 ? "?column?" : name;
}

static enum dbos_err send_columns(struct asking *asking) {
    const struct dbos_duckdb *duck = asking->duck;
    struct dbos_alloc *alloc = asking->archiver->alloc;
    uint32_t count = asking->column_count;
    if (count > DBOS_ARCHIVE_COLUMNS_MAX) {
        return dbos_fail(asking->info, DBOS_ERR_TOO_MANY_COLUMNS, "the answer has %u columns",
                         count);
    }
    struct dbos_archive_result_column *columns =
        dbos_take_zero(alloc, (count + 1) * sizeof *columns);
    char **names = dbos_take_zero(alloc, (count + 1) * sizeof *names);
    asking->row = dbos_take_zero(alloc, (count + 1) * sizeof *asking->row);
    asking->starts = dbos_take_zero(alloc, (count + 1) * sizeof *asking->starts);
    enum dbos_err err = DBOS_OK;
    if (columns == NULL || names == NULL || asking->row == NULL || asking->starts == NULL) {
        err = dbos_fail(asking->info, DBOS_ERR_NOMEM, "out of memory for the answer");
        count = 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        /* The library's copy, ours to change and to free. */
        const char *name = duck->prepared_statement_column_name(asking->prepared, i);
        names[i] = (char *)(uintptr_t)name;
        columns[i].name = name == NULL ? "?column?" : tidy_name(names[i]);
        columns[i].oid =
            dbos_type_oid(type_of(duck->prepared_statement_column_type(asking->prepared, i)));
    }
    if (err == DBOS_OK) {
        err = asking->sink->columns(asking->sink->arg, columns, count, asking->info);
    }
    for (uint32_t i = 0; i < count; i++) {
        duck->free(names[i]);
    }
    dbos_give(alloc, names);
    dbos_give(alloc, columns);
    return err;
}

static enum dbos_err send_rows(struct asking *asking) {
    const struct dbos_duckdb *duck = asking->duck;
    duckdb_result result;
    duckdb_data_chunk chunk;
    uint64_t sent = 0;
    if (duck->execute_prepared(asking->prepared, &result) != DuckDBSuccess) {
        enum dbos_err err = dbos_duckdb_fail(duck->result_error_type(&result),
                                             duck->result_error(&result), asking->info);
        duck->destroy_result(&result);
        return err;
    }
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && (chunk = duck->fetch_chunk(result)) != NULL) {
        uint64_t rows = duck->data_chunk_get_size(chunk);
        sent += rows;
        err = check_interrupt(asking);
        if (err == DBOS_OK && sent > asking->archiver->rows_max) {
            err = dbos_fail(asking->info, DBOS_ERR_LIMIT, "the answer has more than %llu rows",
                            (unsigned long long)asking->archiver->rows_max);
        }
        for (uint64_t i = 0; i < rows && err == DBOS_OK; i++) {
            err = send_row(asking, chunk, i);
        }
        duck->destroy_data_chunk(&chunk);
    }
    duck->destroy_result(&result);
    return err;
}

static enum dbos_err answer(struct asking *asking, const struct dbos_archive_question *question) {
    struct dbos_buf sql;
    dbos_buf_init(&sql, asking->archiver->alloc);
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < question->call_count && err == DBOS_OK; i++) {
        err = dbos_archive_call(asking->archiver, asking->connection, question, i, asking->info);
        if (err == DBOS_OK) {
            err = check_interrupt(asking);
        }
    }
    if (err == DBOS_OK) {
        err = put_statement(question, &sql, asking->info);
    }
    if (err == DBOS_OK) {
        err = prepare(asking, &sql);
    }
    if (err == DBOS_OK) {
        err = send_columns(asking);
    }
    if (err == DBOS_OK && !question->describe_only) {
        err = check_interrupt(asking);
        err = err == DBOS_OK ? send_rows(asking) : err;
    }
    dbos_buf_fini(&sql);
    return err;
}

/* What an interrupt finds: whether a question is under way, and on which connection. */
static void set_question(struct dbos_archiver *archiver, bool asking,
                         duckdb_connection connection) {
    (void)pthread_mutex_lock(&archiver->question_mutex);
    archiver->interrupted = archiver->interrupted && archiver->asking && asking;
    archiver->asking = asking;
    archiver->question = connection;
    (void)pthread_mutex_unlock(&archiver->question_mutex);
}

/* On a connection of its own: its temporary tables end with it. */
static enum dbos_err answer_on_connection(struct asking *asking,
                                          const struct dbos_archive_question *question) {
    struct dbos_archiver *archiver = asking->archiver;
    if (archiver->duck->connect(archiver->database, &asking->connection) != DuckDBSuccess) {
        return dbos_fail(asking->info, DBOS_ERR_ARCHIVE, "cannot connect to DuckDB");
    }
    dbos_buf_init(&asking->cells, archiver->alloc);
    set_question(archiver, true, asking->connection);
    enum dbos_err err = answer(asking, question);
    set_question(archiver, true, NULL);
    if (asking->prepared != NULL) {
        archiver->duck->destroy_prepare(&asking->prepared);
    }
    archiver->duck->disconnect(&asking->connection);
    dbos_buf_fini(&asking->cells);
    dbos_give(archiver->alloc, asking->row);
    dbos_give(archiver->alloc, asking->starts);
    return err;
}

enum dbos_err dbos_archiver_query(struct dbos_archiver *archiver,
                                  const struct dbos_archive_question *question,
                                  const struct dbos_archive_sink *sink, struct dbos_errinfo *info) {
    struct dbos_errinfo own = {.code = DBOS_OK};
    struct asking asking = {.archiver = archiver,
                            .duck = archiver->duck,
                            .sink = sink,
                            .info = info == NULL ? &own : info};
    set_question(archiver, true, NULL);
    enum dbos_err err = dbos_archive_advance_for(archiver, question->position, asking.info);
    if (err == DBOS_OK) {
        err = dbos_archive_refresh(archiver, asking.info);
    }
    if (err == DBOS_OK) {
        err = answer_on_connection(&asking, question);
    }
    set_question(archiver, false, NULL);
    return err;
}

void dbos_archiver_interrupt(struct dbos_archiver *archiver) {
    (void)pthread_mutex_lock(&archiver->question_mutex);
    archiver->interrupted = archiver->asking;
    if (archiver->question != NULL) {
        archiver->duck->interrupt(archiver->question);
    }
    (void)pthread_mutex_unlock(&archiver->question_mutex);
}
