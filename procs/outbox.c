#include "procs/outbox.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "gpu/frame.h"
#include "procs/outbox_internal.h"
#include "procs/outbox_model.h"

static_assert((int)DBOS_TASK_INFER == (int)DBOS_FRAME_INFER, "one number in SDK and frame");
static_assert((int)DBOS_TASK_TRAIN == (int)DBOS_FRAME_TRAIN, "one number in SDK and frame");

enum {
    CONTEXT_BYTES_MAX = 65536,
    DEADLINE_MS_DEFAULT = 60000,
    ROUTE_TRIES = 1 << 20,
};

/* -- places ---------------------------------------------------------------------------------------
 */

uint32_t dbos_outbox_partition(struct dbos_store *store, int64_t id) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT8, id);
    return dbos_store_partition_of(store, dbos_slot_of(&datum));
}

/* The `route` of a task's pieces on a partition: the task's id where that is its partition too,
 * else the first of a fixed sequence that is. So the pieces of a task are found by key on each
 * partition, and a piece that is added twice there is a duplicate key. */
int64_t dbos_outbox_route(struct dbos_store *store, int64_t task_id, uint32_t partition) {
    int64_t route = task_id;
    for (uint64_t n = 1; dbos_outbox_partition(store, route) != partition && n < ROUTE_TRIES; n++) {
        route = (int64_t)(dbos_mix64((uint64_t)task_id + n) >> 2);
    }
    return route;
}

struct dbos_row *dbos_outbox_find(struct dbos_store *store, int64_t task_id,
                                  struct dbos_table **out_table) {
    struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, task_id);
    *out_table = dbos_store_table(store, DBOS_TABLE_TASK, dbos_outbox_partition(store, task_id));
    return dbos_table_find(*out_table, 0, &key);
}

/* -- what the transaction submits -----------------------------------------------------------------
 */

/* In the transaction's arena. Rows stay where they are until the next begin, so a batch is made of
 * them when the transaction has committed; an aborted one leaves nothing to give back. */
struct outbox_events {
    uint32_t task_count;
    uint32_t task_room;
    uint32_t piece_count;
    uint32_t piece_room;
    struct dbos_outbox_task *tasks;
    struct dbos_outbox_piece *pieces;
    const struct dbos_row **piece_rows; /* piece_room of them */
};

static struct outbox_events *events_of(struct dbos_txn *txn) {
    void **attachment = dbos_txn_attachment(txn);
    if (*attachment == NULL) {
        *attachment = dbos_arena_take_zero(dbos_txn_arena(txn), sizeof(struct outbox_events));
    }
    return *attachment;
}

/* Room for one more of `size_bytes` each: twice as many, copied. */
static bool grow(struct dbos_arena *arena, void **array, uint32_t count, uint32_t room,
                 size_t size_bytes) {
    void *larger = dbos_arena_take_zero(arena, (size_t)room * size_bytes);
    if (larger == NULL) {
        return false;
    }
    if (count > 0) {
        memcpy(larger, *array, count * size_bytes);
    }
    *array = larger;
    return true;
}

static struct dbos_outbox_task *new_task_event(struct dbos_txn *txn) {
    struct outbox_events *events = events_of(txn);
    if (events == NULL) {
        return NULL;
    }
    if (events->task_count == events->task_room) {
        uint32_t room = events->task_room == 0 ? 1 : events->task_room * 2;
        void *tasks = events->tasks;
        if (!grow(dbos_txn_arena(txn), &tasks, events->task_count, room, sizeof *events->tasks)) {
            return NULL;
        }
        events->tasks = tasks;
        events->task_room = room;
    }
    return &events->tasks[events->task_count];
}

static struct dbos_outbox_piece *new_piece_event(struct dbos_txn *txn,
                                                 const struct dbos_row ***out_row) {
    struct outbox_events *events = events_of(txn);
    if (events == NULL) {
        return NULL;
    }
    if (events->piece_count == events->piece_room) {
        uint32_t room = events->piece_room == 0 ? 1 : events->piece_room * 2;
        void *pieces = events->pieces;
        void *rows = events->piece_rows;
        if (!grow(dbos_txn_arena(txn), &pieces, events->piece_count, room,
                  sizeof *events->pieces) ||
            !grow(dbos_txn_arena(txn), &rows, events->piece_count, room,
                  sizeof *events->piece_rows)) {
            return NULL;
        }
        events->pieces = pieces;
        events->piece_rows = rows;
        events->piece_room = room;
    }
    *out_row = &events->piece_rows[events->piece_count];
    return &events->pieces[events->piece_count];
}

/* -- open -----------------------------------------------------------------------------------------
 */

/* The result procedure, with exactly (bigint, bytea, text). */
static enum dbos_err find_result_procedure(const struct dbos_run *run, const char *name,
                                           const struct dbos_procedure_info **out,
                                           struct dbos_errinfo *info) {
    static const uint8_t types[] = {DBOS_TYPE_INT8, DBOS_TYPE_BYTEA, DBOS_TYPE_TEXT};
    const struct dbos_procedure_info *procedure =
        dbos_catalog_procedure(dbos_txn_catalog(run->txn), name);
    bool matches = procedure != NULL && procedure->argument_count == 3;
    for (uint32_t i = 0; i < 3 && matches; i++) {
        matches = procedure->arguments[i].type == types[i];
    }
    if (!matches) {
        return dbos_fail(info, DBOS_ERR_UNDEFINED_FUNCTION,
                         "result procedure %s(bigint, bytea, text) does not exist", name);
    }
    *out = procedure;
    return DBOS_OK;
}

static enum dbos_err check_task(const struct dbos_task *task, struct dbos_errinfo *info) {
    if (task->kind != DBOS_TASK_INFER && task->kind != DBOS_TASK_TRAIN) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "there is no task kind %d",
                         (int)task->kind);
    }
    if (task->pieces == 0 || task->pieces > DBOS_FRAME_PIECES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "a task has 1 to %u pieces, not %u",
                         DBOS_FRAME_PIECES_MAX, task->pieces);
    }
    if (task->model_id <= 0 || task->model_version < 0) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "a model's id is a number from 1");
    }
    if (task->context_size > CONTEXT_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "the context of a task is over 64 KB");
    }
    return DBOS_OK;
}

/* An id that nobody has, on a partition that is in hand. Ids are random numbers of the transaction,
 * so they are as repeatable as it is, and are not used again after a restart. */
static int64_t choose_id(struct dbos_txn *txn) {
    struct dbos_store *store = dbos_txn_store(txn);
    for (;;) {
        int64_t id = (int64_t)(dbos_txn_random(txn) >> 2);
        struct dbos_table *table;
        if (id != 0 && dbos_txn_has_partition(txn, dbos_outbox_partition(store, id)) &&
            dbos_outbox_find(store, id, &table) == NULL) {
            return id;
        }
    }
}

/* Infer: which version, and that all of it is there. */
static enum dbos_err resolve_model(const struct dbos_run *run, const struct dbos_task *task,
                                   struct dbos_outbox_task *event, struct dbos_errinfo *info) {
    struct dbos_txn *txn = run->txn;
    struct dbos_store *store = dbos_txn_store(txn);
    struct dbos_model_ref model;
    event->model_id = task->model_id;
    if (task->kind == DBOS_TASK_TRAIN) {
        return DBOS_OK;
    }
    enum dbos_err err =
        dbos_model_find(store, txn, task->model_id, task->model_version, &model, info);
    if (err != DBOS_OK) {
        return err;
    }
    event->model_version = model.version;
    event->chunk_count = model.chunks;
    event->chunks =
        dbos_arena_take_zero(dbos_txn_arena(txn), (model.chunks + 1u) * sizeof *event->chunks);
    if (event->chunks == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory opening a task");
    }
    for (uint32_t i = 0; i < model.chunks; i++) {
        if (dbos_model_chunk(store, txn, &model, i) == NULL) {
            return dbos_fail(info, DBOS_ERR_UNDEFINED_OBJECT,
                             "version %d of model %d lacks chunk %u", model.version, model.model_id,
                             i);
        }
    }
    return DBOS_OK;
}

static enum dbos_err insert_task(const struct dbos_run *run, const struct dbos_task *task,
                                 const struct dbos_procedure_info *procedure,
                                 const struct dbos_outbox_task *event, struct dbos_errinfo *info) {
    const char *user = run->user == NULL ? "" : run->user;
    const void *context = task->context_size == 0 ? "" : task->context;
    struct dbos_datum datums[TASK_COLUMNS] = {
        [TASK_ID] = dbos_datum_int(DBOS_TYPE_INT8, (int64_t)event->task_id),
        [TASK_KIND] = dbos_datum_int(DBOS_TYPE_INT2, event->kind),
        [TASK_STATE] = dbos_datum_int(DBOS_TYPE_INT2, DBOS_TASK_STATE_OPEN),
        [TASK_USER] = dbos_datum_bytes(DBOS_TYPE_TEXT, user, strlen(user)),
        [TASK_PROCEDURE] = dbos_datum_int(DBOS_TYPE_INT4, procedure->id),
        [TASK_PROCEDURE_VERSION] = dbos_datum_int(DBOS_TYPE_INT4, procedure->version),
        [TASK_MODEL] = dbos_datum_int(DBOS_TYPE_INT4, event->model_id),
        [TASK_MODEL_VERSION] = dbos_datum_int(DBOS_TYPE_INT4, event->model_version),
        [TASK_PIECES] = dbos_datum_int(DBOS_TYPE_INT4, event->pieces),
        [TASK_CONTEXT] = dbos_datum_bytes(DBOS_TYPE_BYTEA, context, task->context_size),
        [TASK_DEADLINE] = dbos_datum_int(DBOS_TYPE_INT8, event->deadline_us),
        [TASK_SUBMITTED] = dbos_datum_int(DBOS_TYPE_INT8, dbos_txn_now_us(run->txn)),
        [TASK_ATTEMPT] = dbos_datum_int(DBOS_TYPE_INT4, 0),
        [TASK_ERROR] = dbos_datum_null(DBOS_TYPE_TEXT),
        [TASK_FINISHED] = dbos_datum_null(DBOS_TYPE_INT8),
    };
    struct dbos_row *row;
    return dbos_txn_insert(run->txn, DBOS_TABLE_TASK, datums, &row, info);
}

enum dbos_err dbos_outbox_open(const struct dbos_run *run, const struct dbos_task *task,
                               int64_t *out_task_id, struct dbos_errinfo *info) {
    struct dbos_txn *txn = run->txn;
    const struct dbos_procedure_info *procedure = NULL;
    *out_task_id = -1;
    dbos_outbox_statement(txn, "dbos_task_open()");
    enum dbos_err err = check_task(task, info);
    if (err == DBOS_OK) {
        err = find_result_procedure(run, task->result_procedure, &procedure, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_outbox_task *event = new_task_event(txn);
    if (event == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory opening a task");
    }
    uint32_t deadline_ms = task->deadline_ms == 0 ? DEADLINE_MS_DEFAULT : task->deadline_ms;
    int64_t id = choose_id(txn);
    *event = (struct dbos_outbox_task){
        .task_id = (uint64_t)id,
        .kind = (uint16_t)task->kind,
        .pieces = task->pieces,
        .deadline_us = dbos_txn_now_us(txn) + (int64_t)deadline_ms * 1000,
        .partition = dbos_outbox_partition(dbos_txn_store(txn), id),
    };
    err = resolve_model(run, task, event, info);
    if (err == DBOS_OK) {
        err = insert_task(run, task, procedure, event, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    events_of(txn)->task_count++;
    *out_task_id = id;
    return DBOS_OK;
}

/* -- add ------------------------------------------------------------------------------------------
 */

/* The task itself can be looked at only where its partition is in hand. */
static enum dbos_err check_piece(struct dbos_txn *txn, int64_t task_id, uint32_t piece,
                                 size_t size_bytes, struct dbos_errinfo *info) {
    struct dbos_store *store = dbos_txn_store(txn);
    if (size_bytes > DBOS_TASK_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "a piece of a task is over 1 MB");
    }
    if (task_id <= 0 || piece >= DBOS_FRAME_PIECES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER, "there is no piece %u of task %lld",
                         piece, (long long)task_id);
    }
    if (!dbos_txn_has_partition(txn, dbos_outbox_partition(store, task_id))) {
        return DBOS_OK;
    }
    struct dbos_table *table;
    struct dbos_row *row = dbos_outbox_find(store, task_id, &table);
    if (row != NULL) {
        dbos_txn_note_read(txn, DBOS_TABLE_TASK, row);
    }
    if (row == NULL || dbos_outbox_column(table, row, TASK_STATE).integer != DBOS_TASK_STATE_OPEN ||
        (int64_t)piece >= dbos_outbox_column(table, row, TASK_PIECES).integer) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "task %lld is not open, or has no piece %u", (long long)task_id, piece);
    }
    return DBOS_OK;
}

enum dbos_err dbos_outbox_add(const struct dbos_run *run, int64_t task_id, uint32_t piece,
                              uint32_t count, const void *payload, size_t size_bytes,
                              struct dbos_errinfo *info) {
    struct dbos_txn *txn = run->txn;
    struct dbos_store *store = dbos_txn_store(txn);
    dbos_outbox_statement(txn, "dbos_task_add()");
    enum dbos_err err = check_piece(txn, task_id, piece, size_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (count > INT32_MAX) {
        return dbos_fail(info, DBOS_ERR_OUT_OF_RANGE, "integer out of range");
    }
    const struct dbos_row **event_row = NULL;
    struct dbos_outbox_piece *event = new_piece_event(txn, &event_row);
    if (event == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory adding to a task");
    }
    uint32_t partition = dbos_txn_partition(txn);
    if (partition == DBOS_PARTITION_ALL) {
        partition = dbos_outbox_partition(store, task_id);
    }
    struct dbos_datum datums[PIECE_COLUMNS] = {
        [PIECE_ROUTE] =
            dbos_datum_int(DBOS_TYPE_INT8, dbos_outbox_route(store, task_id, partition)),
        [PIECE_TASK] = dbos_datum_int(DBOS_TYPE_INT8, task_id),
        [PIECE_NUMBER] = dbos_datum_int(DBOS_TYPE_INT4, piece),
        [PIECE_COUNT] = dbos_datum_int(DBOS_TYPE_INT4, count),
        [PIECE_PAYLOAD] =
            dbos_datum_bytes(DBOS_TYPE_BYTEA, size_bytes == 0 ? "" : payload, size_bytes),
    };
    struct dbos_row *row;
    err = dbos_txn_insert(txn, DBOS_TABLE_TASK_PIECE, datums, &row, info);
    if (err != DBOS_OK) {
        return err;
    }
    *event =
        (struct dbos_outbox_piece){.task_id = (uint64_t)task_id, .piece = piece, .count = count};
    *event_row = row;
    events_of(txn)->piece_count++;
    return DBOS_OK;
}

/* -- hand over ------------------------------------------------------------------------------------
 */

/* The object of a value, with a reference; a small value becomes one. NULL = out of memory. */
struct dbos_object *dbos_outbox_object(struct dbos_store *store, const struct dbos_datum *datum) {
    if (datum->object != NULL) {
        return dbos_object_ref(datum->object);
    }
    struct dbos_object *object = NULL;
    const void *data = datum->bytes.size_bytes == 0 ? "" : (const void *)datum->bytes.data;
    if (dbos_object_make(dbos_store_objects(store), data, datum->bytes.size_bytes, &object) !=
        DBOS_OK) {
        return NULL;
    }
    return object;
}

static void give_chunks(struct dbos_outbox_task *task, uint32_t count) {
    for (uint32_t i = 0; i < count; i++) {
        dbos_object_unref(task->chunks[i]);
    }
    task->chunk_count = 0;
}

/* The chunks of an infer task's model. Where one is gone the worker asks for the model until the
 * deadline. */
enum dbos_err dbos_outbox_reference_chunks(struct dbos_store *store,
                                           struct dbos_outbox_task *task) {
    struct dbos_model_ref model = {
        .model_id = task->model_id, .version = task->model_version, .chunks = task->chunk_count};
    for (uint32_t i = 0; i < task->chunk_count; i++) {
        const struct dbos_row *row = dbos_model_chunk(store, NULL, &model, i);
        struct dbos_datum bytes = dbos_datum_null(DBOS_TYPE_BYTEA);
        if (row != NULL) {
            bytes = dbos_model_chunk_bytes(store, row);
        }
        task->chunks[i] = bytes.is_null ? NULL : dbos_outbox_object(store, &bytes);
        if (task->chunks[i] == NULL) {
            give_chunks(task, i);
            if (!bytes.is_null) {
                return DBOS_ERR_NOMEM;
            }
            dbos_log(DBOS_LOG_ERROR, "task %llu: model %d version %d could not be referenced",
                     (unsigned long long)task->task_id, task->model_id, task->model_version);
        }
    }
    return DBOS_OK;
}

static bool reference_payload(struct dbos_store *store, struct dbos_table *table,
                              const struct dbos_row *row, struct dbos_outbox_piece *piece) {
    struct dbos_datum payload = dbos_outbox_column(table, row, PIECE_PAYLOAD);
    piece->payload = dbos_outbox_object(store, &payload);
    return piece->payload != NULL;
}

/* What is counted in `out` is referenced. */
static enum dbos_err reference_events(struct dbos_store *store, const struct outbox_events *events,
                                      struct dbos_outbox_batch *out) {
    struct dbos_table *table = dbos_store_table(store, DBOS_TABLE_TASK_PIECE, 0);
    for (; out->task_count < events->task_count; out->task_count++) {
        if (dbos_outbox_reference_chunks(store, &events->tasks[out->task_count]) != DBOS_OK) {
            return DBOS_ERR_NOMEM;
        }
    }
    for (; out->piece_count < events->piece_count; out->piece_count++) {
        if (!reference_payload(store, table, events->piece_rows[out->piece_count],
                               &events->pieces[out->piece_count])) {
            return DBOS_ERR_NOMEM;
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_outbox_take(struct dbos_txn *txn, struct dbos_outbox_batch *out,
                               struct dbos_errinfo *info) {
    const struct outbox_events *events = *dbos_txn_attachment(txn);
    memset(out, 0, sizeof *out);
    if (events == NULL) {
        return DBOS_OK;
    }
    *dbos_txn_attachment(txn) = NULL;
    out->tasks = events->tasks;
    out->pieces = events->pieces;
    if (reference_events(dbos_txn_store(txn), events, out) != DBOS_OK) {
        dbos_outbox_drop(out);
        memset(out, 0, sizeof *out);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a task that was submitted");
    }
    return DBOS_OK;
}

void dbos_outbox_drop(const struct dbos_outbox_batch *batch) {
    for (uint32_t i = 0; i < batch->task_count; i++) {
        give_chunks(&batch->tasks[i], batch->tasks[i].chunk_count);
    }
    for (uint32_t i = 0; i < batch->piece_count; i++) {
        dbos_object_unref(batch->pieces[i].payload);
    }
}
