/* Errors: one list of codes with their SQLSTATE, and a fixed-size carrier of details.
 *
 * Three kinds of error, never mixed:
 *   1. a bug                    -> DBOS_CHECK() aborts the process, in release builds too;
 *   2. an operating error       -> `enum dbos_err` is the return value, details are in a
 *                                  `struct dbos_errinfo`;
 *   3. a procedure's own abort  -> DBOS_ERR_RAISED, an ordinary outcome of a transaction.
 *
 * Thread: any.
 * Memory: nothing here allocates. */
#ifndef DBOS_BASE_ERR_H
#define DBOS_BASE_ERR_H

#include <stdarg.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* X(name, number, SQLSTATE, text). Numbers are recorded in the log: never reuse one. */
#define DBOS_ERR_LIST(X)                                                                           \
    X(OK, 0, "00000", "successful completion")                                                     \
    X(NOMEM, 1, "53200", "out of memory")                                                          \
    X(IO, 2, "58030", "input/output error")                                                        \
    X(CORRUPT, 3, "XX001", "data corrupted")                                                       \
    X(INTERNAL, 4, "XX000", "internal error")                                                      \
    X(PROTOCOL, 5, "08P01", "protocol violation")                                                  \
    X(CONNECTION_LOST, 6, "08006", "connection failure")                                           \
    X(SHUTDOWN, 7, "57P01", "the server is shutting down")                                         \
    X(CANNOT_CONNECT_NOW, 8, "57P03", "cannot connect now")                                        \
    X(TOO_MANY_CONNECTIONS, 9, "53300", "too many connections")                                    \
    X(DISK_FULL, 10, "53100", "disk full")                                                         \
    X(UNKNOWN_DATABASE, 11, "3D000", "database does not exist")                                    \
    X(OUTCOME_UNKNOWN, 12, "08007", "transaction resolution unknown")                              \
    X(SYNTAX, 20, "42601", "syntax error")                                                         \
    X(UNDEFINED_TABLE, 21, "42P01", "relation does not exist")                                     \
    X(DUPLICATE_TABLE, 22, "42P07", "relation already exists")                                     \
    X(UNDEFINED_COLUMN, 23, "42703", "column does not exist")                                      \
    X(DUPLICATE_COLUMN, 24, "42701", "column specified more than once")                            \
    X(AMBIGUOUS_COLUMN, 25, "42702", "column reference is ambiguous")                              \
    X(UNDEFINED_FUNCTION, 26, "42883", "function does not exist")                                  \
    X(DUPLICATE_FUNCTION, 27, "42723", "function already exists")                                  \
    X(UNDEFINED_OBJECT, 28, "42704", "object does not exist")                                      \
    X(DUPLICATE_OBJECT, 29, "42710", "object already exists")                                      \
    X(UNDEFINED_PARAMETER, 30, "42P02", "there is no such parameter")                              \
    X(DATATYPE_MISMATCH, 31, "42804", "datatype mismatch")                                         \
    X(GROUPING, 32, "42803", "grouping error")                                                     \
    X(CANNOT_COERCE, 33, "42846", "cannot cast between types")                                     \
    X(INDETERMINATE_TYPE, 34, "42P18", "could not determine data type")                            \
    X(INVALID_TABLE_DEFINITION, 35, "42P16", "invalid table definition")                           \
    X(INVALID_OBJECT_DEFINITION, 36, "42P17", "invalid object definition")                         \
    X(INVALID_COLUMN_REFERENCE, 37, "42P10", "invalid column reference")                           \
    X(WRONG_OBJECT_TYPE, 38, "42809", "wrong object type")                                         \
    X(DEPENDENT_OBJECTS, 39, "2BP01", "other objects depend on it")                                \
    X(DUPLICATE_STATEMENT, 40, "42P05", "prepared statement already exists")                       \
    X(UNDEFINED_STATEMENT, 41, "26000", "prepared statement does not exist")                       \
    X(UNDEFINED_PORTAL, 42, "34000", "portal does not exist")                                      \
    X(UNDEFINED_SETTING, 43, "42704", "unrecognized configuration parameter")                      \
    X(PRIVILEGE, 44, "42501", "permission denied")                                                 \
    X(READ_ONLY, 45, "25006", "cannot write in a read-only transaction")                           \
    X(NOT_SUPPORTED, 60, "0A000", "feature not supported")                                         \
    X(UNIQUE, 61, "23505", "duplicate key value violates unique constraint")                       \
    X(NOT_NULL, 62, "23502", "null value violates not-null constraint")                            \
    X(INVALID_TEXT, 63, "22P02", "invalid input syntax")                                           \
    X(INVALID_BINARY, 64, "22P03", "incorrect binary data format")                                 \
    X(TOO_LONG, 65, "22001", "value too long")                                                     \
    X(OUT_OF_RANGE, 66, "22003", "numeric value out of range")                                     \
    X(DIVISION_BY_ZERO, 67, "22012", "division by zero")                                           \
    X(INVALID_PARAMETER, 68, "22023", "invalid parameter value")                                   \
    X(DATETIME, 69, "22007", "invalid datetime format")                                            \
    X(DATETIME_RANGE, 70, "22008", "timestamp out of range")                                       \
    X(CARDINALITY, 71, "21000", "more than one row returned by a subquery or function")            \
    X(ENCODING, 72, "22021", "invalid byte sequence for encoding UTF8")                            \
    X(LIMIT, 80, "54000", "program limit exceeded")                                                \
    X(TOO_COMPLEX, 81, "54001", "statement too complex")                                           \
    X(TOO_MANY_COLUMNS, 82, "54011", "too many columns")                                           \
    X(TOO_MANY_ARGUMENTS, 83, "54023", "too many arguments")                                       \
    X(CANCELED, 90, "57014", "canceling statement due to user request")                            \
    X(TIMEOUT, 91, "57014", "canceling statement due to statement timeout")                        \
    X(RAISED, 92, "P0001", "raised by a procedure")                                                \
    X(WRONG_PARTITION, 93, "55P04", "row belongs to another partition")                            \
    X(MODULE, 94, "58P01", "module cannot be loaded")                                              \
    X(UNDEFINED_FILE, 95, "58P01", "file cannot be read")                                          \
    /* Never sent: the caller plans again. */                                                      \
    X(STALE_PLAN, 96, "0A000", "plan was made for an older catalogue")                             \
    X(QUARANTINED, 97, "55000", "procedure has ended the node")                                    \
    X(TASK_DEADLINE, 100, "57014", "task missed its deadline")                                     \
    X(TASK_FAILED, 101, "58000", "task failed in the worker")                                      \
    X(ARCHIVE, 102, "58000", "archive is not available")                                           \
    X(HISTORY_HORIZON, 103, "72001", "before the recorded history")                                \
    X(FORMAT_VERSION, 104, "58000", "format version is not known")

#define DBOS_ERR_ENUM(name, number, sqlstate, text) DBOS_ERR_##name = (number),
enum dbos_err { DBOS_ERR_LIST(DBOS_ERR_ENUM) };
#undef DBOS_ERR_ENUM
#define DBOS_OK DBOS_ERR_OK

/* A result that must not be dropped. */
#define DBOS_MUST_USE __attribute__((warn_unused_result))
#define DBOS_PRINTF(format_index, first_arg)                                                       \
    __attribute__((format(printf, format_index, first_arg)))

/* Details of one operating error, ready for an ErrorResponse. Zeroed = no error.
 * Empty strings mean "field absent". Fixed size: reporting an error never allocates. */
struct dbos_errinfo {
    enum dbos_err code;
    uint32_t position; /* 1-based character in the statement's text; 0 = none */
    char sqlstate[6];  /* normally that of the code; a procedure's abort may set its own */
    char message[384];
    char detail[384];
    char hint[256];
    char table[64];
    char column[64];
    char constraint[64];
};

/* No error: every text is empty. For paths that are too short for clearing all of it. */
static inline void dbos_errinfo_clear(struct dbos_errinfo *info) {
    info->code = DBOS_OK;
    info->position = 0;
    info->sqlstate[0] = info->message[0] = info->detail[0] = info->hint[0] = '\0';
    info->table[0] = info->column[0] = info->constraint[0] = '\0';
}

/* The five-character SQLSTATE and the default text of a code. Static strings. */
const char *dbos_err_sqlstate(enum dbos_err code);
const char *dbos_err_text(enum dbos_err code);
/* The code's name in the list ("UNIQUE"), for logs and tests. */
const char *dbos_err_name(enum dbos_err code);

/* Reset `info`, set code, SQLSTATE and a formatted message, and return `code`, so that
 * `return dbos_fail(info, DBOS_ERR_X, "...")` is the one way to fail. `info` may be NULL. */
enum dbos_err dbos_fail(struct dbos_errinfo *info, enum dbos_err code, const char *format, ...)
    DBOS_PRINTF(3, 4);
enum dbos_err dbos_vfail(struct dbos_errinfo *info, enum dbos_err code, const char *format,
                         va_list args) DBOS_PRINTF(3, 0);
/* Same, with position. */
enum dbos_err dbos_fail_at(struct dbos_errinfo *info, enum dbos_err code, uint32_t position,
                           const char *format, ...) DBOS_PRINTF(4, 5);
/* Add a detail or a hint to an error that was set. `info` may be NULL. */
void dbos_err_detail(struct dbos_errinfo *info, const char *format, ...) DBOS_PRINTF(2, 3);
void dbos_err_hint(struct dbos_errinfo *info, const char *format, ...) DBOS_PRINTF(2, 3);

/* A bug: print and abort(). On in every build. */
noreturn void dbos_check_failed(const char *expression, const char *file, int line);
#define DBOS_CHECK(expression)                                                                     \
    ((expression) ? (void)0 : dbos_check_failed(#expression, __FILE__, __LINE__))
/* O(n) walkers, only in dev and sanitizer builds. */
#ifdef DBOS_DEBUG
#define DBOS_DEBUG_CHECK(expression) DBOS_CHECK(expression)
#else
#define DBOS_DEBUG_CHECK(expression) ((void)sizeof((expression) ? 1 : 0))
#endif

#endif /* DBOS_BASE_ERR_H */
