/* Procedures for the tests of the outbox. */
#include <dbos/procedure.h>
#include <string.h>

enum { RESULT, NEWEST, ADD_MODEL, ADD_CHUNK };
static const char *const statements[] = {
    [RESULT] = "INSERT INTO results (task, context, error, bytes, pieces, exec_us) "
               "VALUES ($1, $2, $3, $4, $5, $6)",
    [NEWEST] = "SELECT max(version) FROM dbos.model WHERE model_id = 1",
    [ADD_MODEL] = "INSERT INTO dbos.model (model_id, version, name, architecture, chunks, "
                  "created_us, task_id) VALUES (1, $1, 'test', 'bytes', $2, $3, $4)",
    [ADD_CHUNK] = "INSERT INTO dbos.model_chunk (model_id, version, chunk, bytes) "
                  "VALUES (1, $1, $2, $3)",
};

/* task_submit(kind int, model int, version int, pieces int, payload bytea, context bytea)
 * returns bigint: opens a task and adds its first piece; a context that begins with "soon" gives it
 * 300 ms */
static int task_submit(struct dbos_call *call) {
    size_t payload_size = 0;
    size_t context_size = 0;
    const void *payload = dbos_arg_bytes(call, 4, &payload_size);
    const void *context = dbos_arg_bytes(call, 5, &context_size);
    struct dbos_task task = {
        .kind = (enum dbos_task_kind)dbos_arg_int(call, 0),
        .result_procedure = "task_result",
        .model_id = (int32_t)dbos_arg_int(call, 1),
        .model_version = (int32_t)dbos_arg_int(call, 2),
        .pieces = (uint32_t)dbos_arg_int(call, 3),
        .context = context,
        .context_size = context_size,
        .deadline_ms = context_size >= 4 && memcmp(context, "soon", 4) == 0 ? 300 : 0,
    };
    int64_t id = dbos_task_open(call, &task);
    if (id >= 0) {
        dbos_task_add(call, id, 0, 10, payload, payload_size);
    }
    return dbos_return_int(call, id);
}
DBOS_PROCEDURE(task_submit, .run = task_submit);

/* task_add(task bigint, piece int, payload bytea) */
static int task_add(struct dbos_call *call) {
    size_t size = 0;
    const void *payload = dbos_arg_bytes(call, 2, &size);
    dbos_task_add(call, dbos_arg_int(call, 0), (uint32_t)dbos_arg_int(call, 1), 10, payload, size);
    return DBOS_DONE;
}
DBOS_PROCEDURE(task_add, .run = task_add);

/* What came becomes the next version of model 1. */
static void store_model(struct dbos_call *call) {
    int64_t version = 1;
    dbos_execute(call, NEWEST);
    if (dbos_fetch(call, NEWEST) && !dbos_column_is_null(call, NEWEST, 0)) {
        version = dbos_column_int(call, NEWEST, 0) + 1;
    }
    size_t chunks = dbos_result_pieces(call);
    dbos_execute(call, ADD_MODEL, DBOS_INT(version), DBOS_INT((int64_t)chunks),
                 DBOS_INT(dbos_now_us(call)), DBOS_INT(dbos_arg_int(call, 0)));
    for (size_t i = 0; i < chunks; i++) {
        size_t size = 0;
        const void *bytes = dbos_result_piece(call, i, &size, NULL);
        dbos_execute(call, ADD_CHUNK, DBOS_INT(version), DBOS_INT((int64_t)i),
                     DBOS_BYTES(bytes, size));
    }
}

/* task_result(task bigint, context bytea, error text); a context "refuse" makes it abort, "model"
 * store the result as a model */
static int task_result(struct dbos_call *call) {
    size_t context_size = 0;
    size_t error_size = 0;
    size_t size = 0;
    uint32_t count = 0;
    const void *context = dbos_arg_bytes(call, 1, &context_size);
    const void *error = dbos_arg_bytes(call, 2, &error_size);
    const void *bytes = dbos_result_piece(call, 0, &size, &count);
    if (context_size == 6 && memcmp(context, "refuse", 6) == 0) {
        return dbos_abort(call, "refused by the result procedure");
    }
    if (error == NULL && context_size == 5 && memcmp(context, "model", 5) == 0) {
        store_model(call);
    }
    dbos_execute(call, RESULT, DBOS_INT(dbos_arg_int(call, 0)), DBOS_BYTES(context, context_size),
                 error == NULL ? DBOS_NULL : DBOS_BYTES(error, error_size),
                 bytes == NULL ? DBOS_NULL : DBOS_BYTES(bytes, size),
                 DBOS_INT((int64_t)dbos_result_pieces(call)), DBOS_INT(dbos_result_exec_us(call)));
    return DBOS_DONE;
}
DBOS_PROCEDURE(task_result, .run = task_result, .statements = statements, .statement_count = 4);
