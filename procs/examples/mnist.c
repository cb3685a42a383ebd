/* The paper's image workflow (seed 001, section 2): train a digit classifier and serve it, with
 * data, model and predictions in the database and the computation in a worker.
 *
 *   train_open ─▶ train_add × n ─▶ [worker trains] ─▶ train_done: a new version of the model
 *   classify   ─▶ [worker infers] ─▶ classified: one prediction per image
 *
 * Each arrow into and out of the worker is a transaction; mnist.sql has the tables. */
#include <dbos/procedure.h>

#include <string.h>

enum {
    PIXELS = 784,
    IMAGES_MAX = 1200, /* what fits into a task of 1 MB */
    MODEL = 1,
    EPOCHS = 8,
    TRAIN_DEADLINE_MS = 280000,
    INFER_DEADLINE_MS = 60000,
};

/* Head of each piece of a train task: docs/formats/frame.md, struct dbos_train_params. */
struct train_params {
    uint32_t version;
    uint32_t epochs;
    uint32_t batch_size;
    uint32_t optimizer; /* 2 = Adam */
    float learning_rate;
    uint32_t hidden;
    uint32_t inputs;
    uint32_t outputs;
    uint64_t seed;
    uint32_t flags; /* 1 = the learning rate falls to zero */
    uint32_t reserved[5];
};

/* What classify() hands to classified(): which images the answers are for, in order. */
struct classify_context {
    int32_t batch;
    uint32_t count;
    int32_t ids[IMAGES_MAX];
};

/* -- training ------------------------------------------------------------------------------------
 */

static int run_train_open(struct dbos_call *call) {
    struct dbos_task task = {
        .kind = DBOS_TASK_TRAIN,
        .result_procedure = "train_done",
        .model_id = MODEL,
        .pieces = (uint32_t)dbos_arg_int(call, 0),
        .deadline_ms = TRAIN_DEADLINE_MS,
    };
    return dbos_return_int(call, dbos_task_open(call, &task));
}
DBOS_PROCEDURE(train_open, .run = run_train_open);

enum { LABELLED };
static const char *const train_add_statements[] = {
    [LABELLED] = "SELECT label, pixels FROM images WHERE batch = $1 ORDER BY id",
};

/* train_add(batch, task, piece): the images of one batch become one piece of the training set. */
static int run_train_add(struct dbos_call *call) {
    int64_t found = dbos_execute(call, LABELLED, DBOS_INT(dbos_arg_int(call, 0)));
    if (found <= 0 || found > IMAGES_MAX) {
        return dbos_abort(call, "a training piece has 1 to %d images, batch %lld has %lld",
                          IMAGES_MAX, (long long)dbos_arg_int(call, 0), (long long)found);
    }
    size_t count = (size_t)found;
    size_t size = sizeof(struct train_params) + count * (PIXELS + 1);
    uint8_t *payload = dbos_alloc(call, size);
    if (payload == NULL) {
        return dbos_abort(call, "out of memory");
    }
    struct train_params params = {
        .version = 1,
        .epochs = EPOCHS,
        .batch_size = 128,
        .optimizer = 2,
        .learning_rate = 0.001f,
        .hidden = 512,
        .inputs = PIXELS,
        .outputs = 10,
        .seed = 1,
        .flags = 1,
    };
    memcpy(payload, &params, sizeof params);
    uint8_t *pixels = payload + sizeof params;
    uint8_t *labels = pixels + count * PIXELS;
    for (size_t i = 0; dbos_fetch(call, LABELLED); i++) {
        size_t bytes = 0;
        const void *image = dbos_column_bytes(call, LABELLED, 1, &bytes);
        if (bytes != PIXELS) {
            return dbos_abort(call, "an image has %d bytes, not %zu", PIXELS, bytes);
        }
        memcpy(pixels + i * PIXELS, image, PIXELS);
        labels[i] = (uint8_t)dbos_column_int(call, LABELLED, 0);
    }
    (void)dbos_task_add(call, dbos_arg_int(call, 1), (uint32_t)dbos_arg_int(call, 2),
                        (uint32_t)count, payload, size);
    return dbos_return_int(call, found);
}
DBOS_PROCEDURE(train_add, .run = run_train_add, .statements = train_add_statements,
               .statement_count = 1, .route = "images.batch=$1");

enum { NEWEST, ADD_MODEL, ADD_CHUNK, LOG_TRAINING };
static const char *const train_done_statements[] = {
    [NEWEST] = "SELECT max(version) FROM dbos.model WHERE model_id = $1",
    [ADD_MODEL] = "INSERT INTO dbos.model (model_id, version, name, architecture, chunks, "
                  "created_us, task_id) VALUES ($1, $2, 'mnist', 'mlp 784-512-10', $3, $4, $5)",
    [ADD_CHUNK] = "INSERT INTO dbos.model_chunk (model_id, version, chunk, bytes) "
                  "VALUES ($1, $2, $3, $4)",
    [LOG_TRAINING] = "INSERT INTO trainings VALUES ($1, $2, $3, $4)",
};

/* train_done(task, context, error): the trained model becomes the next version. */
static int run_train_done(struct dbos_call *call) {
    int64_t task = dbos_arg_int(call, 0);
    if (!dbos_arg_is_null(call, 2)) {
        size_t size = 0;
        const void *error = dbos_arg_bytes(call, 2, &size);
        (void)dbos_execute(call, LOG_TRAINING, DBOS_INT(task), DBOS_NULL, DBOS_NULL,
                           DBOS_BYTES(error, size));
        return DBOS_DONE;
    }
    int64_t version = 1;
    if (dbos_execute(call, NEWEST, DBOS_INT(MODEL)) < 0) {
        return DBOS_DONE; /* the error is the transaction's */
    }
    if (dbos_fetch(call, NEWEST) && !dbos_column_is_null(call, NEWEST, 0)) {
        version = dbos_column_int(call, NEWEST, 0) + 1;
    }
    size_t chunks = dbos_result_pieces(call);
    (void)dbos_execute(call, ADD_MODEL, DBOS_INT(MODEL), DBOS_INT(version),
                       DBOS_INT((int64_t)chunks), DBOS_INT(dbos_now_us(call)), DBOS_INT(task));
    for (size_t i = 0; i < chunks; i++) {
        size_t size = 0;
        const void *bytes = dbos_result_piece(call, i, &size, NULL);
        (void)dbos_execute(call, ADD_CHUNK, DBOS_INT(MODEL), DBOS_INT(version),
                           DBOS_INT((int64_t)i), DBOS_BYTES(bytes, size));
    }
    (void)dbos_execute(call, LOG_TRAINING, DBOS_INT(task), DBOS_INT(version),
                       DBOS_INT((int64_t)dbos_result_exec_us(call)), DBOS_NULL);
    return DBOS_DONE;
}
DBOS_PROCEDURE(train_done, .run = run_train_done, .statements = train_done_statements,
               .statement_count = 4);

/* -- serving -------------------------------------------------------------------------------------
 */

enum { IMAGES };
static const char *const classify_statements[] = {
    [IMAGES] = "SELECT id, pixels FROM images WHERE batch = $1 ORDER BY id",
};

/* classify(batch): ask for the digits on the images of a batch; returns the task. */
static int run_classify(struct dbos_call *call) {
    int64_t batch = dbos_arg_int(call, 0);
    int64_t found = dbos_execute(call, IMAGES, DBOS_INT(batch));
    if (found <= 0 || found > IMAGES_MAX) {
        return dbos_abort(call, "a task has 1 to %d images, batch %lld has %lld", IMAGES_MAX,
                          (long long)batch, (long long)found);
    }
    struct classify_context *context = dbos_alloc(call, sizeof *context);
    uint8_t *pixels = dbos_alloc(call, (size_t)found * PIXELS);
    if (context == NULL || pixels == NULL) {
        return dbos_abort(call, "out of memory");
    }
    context->batch = (int32_t)batch;
    context->count = (uint32_t)found;
    for (size_t i = 0; dbos_fetch(call, IMAGES); i++) {
        size_t bytes = 0;
        const void *image = dbos_column_bytes(call, IMAGES, 1, &bytes);
        if (bytes != PIXELS) {
            return dbos_abort(call, "an image has %d bytes, not %zu", PIXELS, bytes);
        }
        context->ids[i] = (int32_t)dbos_column_int(call, IMAGES, 0);
        memcpy(pixels + i * PIXELS, image, PIXELS);
    }
    struct dbos_task task = {
        .kind = DBOS_TASK_INFER,
        .result_procedure = "classified",
        .model_id = MODEL,
        .pieces = 1,
        .deadline_ms = INFER_DEADLINE_MS,
        .context = context,
        .context_size = offsetof(struct classify_context, ids) + (size_t)found * sizeof(int32_t),
    };
    return dbos_return_int(
        call, dbos_task_submit(call, &task, (uint32_t)found, pixels, (size_t)found * PIXELS));
}
DBOS_PROCEDURE(classify, .run = run_classify, .statements = classify_statements,
               .statement_count = 1, .route = "images.batch=$1");

enum { CHANGE, ADD, LOG_RUN };
static const char *const classified_statements[] = {
    [CHANGE] = "UPDATE predictions SET label = $3, probability = $4, task = $5 "
               "WHERE batch = $1 AND id = $2",
    [ADD] = "INSERT INTO predictions (batch, id, label, probability, task) "
            "VALUES ($1, $2, $3, $4, $5)",
    [LOG_RUN] = "INSERT INTO runs (batch, task, images, exec_us, error) "
                "VALUES ($1, $2, $3, $4, $5)",
};

/* classified(task, context, error): the answers become predictions. */
static int run_classified(struct dbos_call *call) {
    size_t size = 0;
    const struct classify_context *context = dbos_arg_bytes(call, 1, &size);
    int64_t task = dbos_arg_int(call, 0);
    if (!dbos_arg_is_null(call, 2)) {
        const void *error = dbos_arg_bytes(call, 2, &size);
        (void)dbos_execute(call, LOG_RUN, DBOS_INT(context->batch), DBOS_INT(task), DBOS_INT(0),
                           DBOS_INT(0), DBOS_BYTES(error, size));
        return DBOS_DONE;
    }
    const uint8_t *labels = dbos_result_piece(call, 0, &size, NULL);
    if (labels == NULL || size != (size_t)context->count * 5) {
        return dbos_abort(call, "%u images, but an answer of %zu bytes", context->count, size);
    }
    for (uint32_t i = 0; i < context->count; i++) {
        float probability = 0;
        memcpy(&probability, labels + context->count + i * sizeof probability, sizeof probability);
        struct dbos_value id = DBOS_INT(context->ids[i]);
        struct dbos_value label = DBOS_INT(labels[i]);
        struct dbos_value score = DBOS_FLOAT((double)probability);
        int64_t changed =
            dbos_execute(call, CHANGE, DBOS_INT(context->batch), id, label, score, DBOS_INT(task));
        if (changed == 0) {
            changed =
                dbos_execute(call, ADD, DBOS_INT(context->batch), id, label, score, DBOS_INT(task));
        }
        if (changed < 0) {
            return DBOS_DONE; /* the error is the transaction's */
        }
    }
    (void)dbos_execute(call, LOG_RUN, DBOS_INT(context->batch), DBOS_INT(task),
                       DBOS_INT(context->count), DBOS_INT((int64_t)dbos_result_exec_us(call)),
                       DBOS_NULL);
    return DBOS_DONE;
}
DBOS_PROCEDURE(classified, .run = run_classified, .statements = classified_statements,
               .statement_count = 3);
