/* dbos/procedure.h: everything that a stored procedure may use. Include this and nothing else.
 *
 * A procedure is a function that runs as one ACID transaction, alone on its partition, to
 * completion:
 *
 *     #include <dbos/procedure.h>
 *
 *     enum { FIND, ADD };
 *     static const char *const statements[] = {
 *         [FIND] = "SELECT n FROM counters WHERE id = $1",
 *         [ADD] = "UPDATE counters SET n = n + $2 WHERE id = $1",
 *     };
 *
 *     static int bump(struct dbos_call *call) {
 *         int64_t id = dbos_arg_int(call, 0);
 *         if (dbos_execute(call, ADD, DBOS_INT(id), DBOS_INT(1)) == 0) {
 *             return dbos_abort(call, "there is no counter %lld", (long long)id);
 *         }
 *         return dbos_return_int(call, 0);
 *     }
 *
 *     DBOS_PROCEDURE(bump, .run = bump, .statements = statements, .statement_count = 2,
 *                    .route = "counters.id=$1");
 *
 * Rules, enforced by dbos-cc and by the loader: no global or thread-local variable that can be
 * written, no constructors, no function from outside but these and those of the allow-list
 * (docs/procedures.md: memcpy, memset, memmove, memcmp, strlen, strcmp, strncmp, snprintf, qsort,
 * and the arithmetic ones of libm). Time and random numbers come from the engine, so that a call
 * can be run again with the same outcome.
 *
 * After an error (a statement returned a negative number) the transaction can only be aborted:
 * return from the procedure; whatever it returns, the caller gets that error and nothing remains.
 *
 * Pointers handed out (arguments, columns, results) are valid until the procedure returns, columns
 * until the next dbos_fetch() or dbos_execute() of the same statement. */
#ifndef DBOS_PROCEDURE_H
#define DBOS_PROCEDURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { DBOS_SDK_VERSION = 1 };

struct dbos_call; /* one execution; opaque */

/* What a module says about a procedure. */
struct dbos_procedure {
    uint32_t sdk_version;
    uint32_t statement_count;
    const char *const *statements; /* prepared when the procedure is registered */
    const char *route; /* "table.column=$n": the argument that routes it; NULL = none: it
                          runs with all partitions in hand */
    int (*run)(struct dbos_call *call); /* DBOS_DONE or dbos_abort()'s value */
};

#define DBOS_PROCEDURE(name, ...)                                                                  \
    __attribute__((                                                                                \
        visibility("default"))) extern const struct dbos_procedure dbos_procedure_##name;          \
    const struct dbos_procedure dbos_procedure_##name = {.sdk_version = DBOS_SDK_VERSION,          \
                                                         __VA_ARGS__}

enum { DBOS_DONE = 0, DBOS_ABORTED = 1 };

/* -- arguments (0-based; asking for another type than declared is an error of the procedure)
 * ------- */
size_t dbos_arg_count(struct dbos_call *call);
bool dbos_arg_is_null(struct dbos_call *call, size_t i);
int64_t dbos_arg_int(struct dbos_call *call,
                     size_t i); /* smallint, int, bigint, boolean, timestamptz */
double dbos_arg_float(struct dbos_call *call, size_t i);
const void *dbos_arg_bytes(struct dbos_call *call, size_t i, size_t *out_size); /* text, bytea */

/* -- statements -----------------------------------------------------------------------------------
 */
enum dbos_value_kind { DBOS_VALUE_NULL, DBOS_VALUE_INT, DBOS_VALUE_FLOAT, DBOS_VALUE_BYTES };
struct dbos_value {
    enum dbos_value_kind kind;
    int64_t integer; /* INT: the value; BYTES: the size */
    double real;
    const void *bytes;
};
#define DBOS_NULL     ((struct dbos_value){.kind = DBOS_VALUE_NULL})
#define DBOS_INT(v)   ((struct dbos_value){.kind = DBOS_VALUE_INT, .integer = (v)})
#define DBOS_FLOAT(v) ((struct dbos_value){.kind = DBOS_VALUE_FLOAT, .real = (v)})
#define DBOS_BYTES(p, n)                                                                           \
    ((struct dbos_value){.kind = DBOS_VALUE_BYTES, .bytes = (p), .integer = (int64_t)(n)})

/* Run statement `statement` (its number in the list) with parameters $1…; rows inserted, updated,
 * deleted or returned; negative: an error, return from the procedure. */
#define dbos_execute(call, statement, ...)                                                         \
    dbos_execute_values(                                                                           \
        (call), (statement),                                                                       \
        (const struct dbos_value[]){{.kind = DBOS_VALUE_NULL}, ##__VA_ARGS__} + 1,                 \
        sizeof((const struct dbos_value[]){{.kind = DBOS_VALUE_NULL}, ##__VA_ARGS__}) /            \
                sizeof(struct dbos_value) -                                                        \
            1)
int64_t dbos_execute_values(struct dbos_call *call, uint32_t statement,
                            const struct dbos_value *values, size_t count);
/* The next row of the last dbos_execute() of a SELECT; false after the last. */
bool dbos_fetch(struct dbos_call *call, uint32_t statement);
bool dbos_column_is_null(struct dbos_call *call, uint32_t statement, size_t column);
int64_t dbos_column_int(struct dbos_call *call, uint32_t statement, size_t column);
double dbos_column_float(struct dbos_call *call, uint32_t statement, size_t column);
const void *dbos_column_bytes(struct dbos_call *call, uint32_t statement, size_t column,
                              size_t *out_size);

/* -- outcome --------------------------------------------------------------------------------------
 */
/* Give up: everything is undone, the caller gets P0001 with this message. `return dbos_abort(…);`
 */
int dbos_abort(struct dbos_call *call, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* The value of a function; the last one counts; none = NULL. Each returns DBOS_DONE. */
int dbos_return_null(struct dbos_call *call);
int dbos_return_int(struct dbos_call *call, int64_t value);
int dbos_return_float(struct dbos_call *call, double value);
int dbos_return_bytes(struct dbos_call *call, const void *data, size_t size);

/* -- surroundings ---------------------------------------------------------------------------------
 */
int64_t dbos_now_us(struct dbos_call *call);  /* the transaction's time, µs since 1970 UTC */
uint64_t dbos_random(struct dbos_call *call); /* recorded with the transaction */
const char *dbos_user(struct dbos_call *call);
/* Memory until the procedure returns; NULL = out of memory: return. */
void *dbos_alloc(struct dbos_call *call, size_t size);

/* -- tasks ----------------------------------------------------------------------------------------
 */
/* A task is a computation outside the database: it leaves after this transaction has committed and
 * comes back as a call of `result_procedure`, exactly once, as the user who submitted it:
 *     PROCEDURE result(task bigint, context bytea, error text)
 * `error` is NULL when it succeeded; then dbos_result_*() read what came. The result procedure of a
 * train task stores the model, if it likes it: a row of dbos.model and one of dbos.model_chunk for
 * each piece, under a new version (procs/examples/mnist.c). */
enum dbos_task_kind { DBOS_TASK_INFER = 2, DBOS_TASK_TRAIN = 3 };
struct dbos_task {
    enum dbos_task_kind kind;
    const char *result_procedure;
    int32_t model_id;      /* from 1. infer: which model of dbos.model; train: which it is to be */
    int32_t model_version; /* infer: 0 = the newest */
    uint32_t pieces;       /* how many dbos_task_add() will come, from any transaction; ≥ 1 */
    uint32_t deadline_ms;  /* 0 = 60 s; past it the task fails */
    const void *context;   /* handed to the result procedure; at most 64 KB */
    size_t context_size;
};
/* Open a task; its id, or negative on error. */
int64_t dbos_task_open(struct dbos_call *call, const struct dbos_task *task);
/* Add piece `piece` (0-based) with `count` items. At most 1 MB. `payload` is in the format that the
 * worker expects of this kind (docs/formats/frame.md). 0, or negative on error. */
int dbos_task_add(struct dbos_call *call, int64_t task_id, uint32_t piece, uint32_t count,
                  const void *payload, size_t size);
/* Open a task of one piece and add it. */
int64_t dbos_task_submit(struct dbos_call *call, const struct dbos_task *task, uint32_t count,
                         const void *payload, size_t size);
/* In a result procedure: the pieces of the result (without the worker's time split). */
size_t dbos_result_pieces(struct dbos_call *call);
const void *dbos_result_piece(struct dbos_call *call, size_t piece, size_t *out_size,
                              uint32_t *out_count);
/* Time the worker spent computing, µs. */
uint32_t dbos_result_exec_us(struct dbos_call *call);

#endif /* DBOS_PROCEDURE_H */
