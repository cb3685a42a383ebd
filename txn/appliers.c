#include "txn/appliers.h"

#include <pthread.h>

#include "txn/txn.h"
#include "txn/txn_apply.h"

enum {
    CHUNKS = 4,
    CHUNK_BYTES = 1 << 20, /* of records; the batch that passes it is the last one */
    ALL = UINT16_MAX,
};

/* A record in a chunk. */
struct piece {
    uint32_t offset;
    uint32_t size_bytes;
    uint16_t partition; /* ALL: of any */
};

struct batch {
    uint64_t last_position;
    uint64_t state_hash;
    uint32_t first_piece;
    uint32_t piece_count;
    uint32_t record_count; /* those without writes are no pieces */
};

struct chunk {
    struct dbos_buf records;
    struct dbos_buf pieces;  /* struct piece */
    struct dbos_buf batches; /* struct batch */
    struct dbos_buf deltas;  /* uint64_t [applier][batch]: change of the state hash */
    uint32_t pending;        /* appliers that are not done with it; under the lock */
};

struct applier {
    struct dbos_appliers *appliers;
    uint32_t partition;
    pthread_t thread;
    bool has_thread;
    uint64_t error_position; /* of err */
    enum dbos_err err;
    struct dbos_errinfo info;
};

struct dbos_appliers {
    struct dbos_alloc *alloc;
    struct dbos_store *store;
    struct dbos_log *log;
    uint64_t after_position;
    uint64_t state_hash; /* of what was proved */
    uint64_t records;
    uint32_t count;
    struct applier *all;
    struct chunk chunks[CHUNKS];
    uint64_t filled; /* chunks handed over */
    uint64_t proved; /* … and compared */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint64_t ready; /* = filled, for the appliers; under the lock */
    bool stop;
    _Atomic bool failed;
};

/* --- an applier ------------------------------------------------------------------------------ */

static const struct batch *batches_of(const struct chunk *chunk, uint32_t *out_count) {
    *out_count = (uint32_t)(chunk->batches.size_bytes / sizeof(struct batch));
    return (const struct batch *)(const void *)chunk->batches.data;
}

static enum dbos_err apply_one(struct applier *applier, const struct chunk *chunk,
                               const struct batch *batch, uint64_t *delta) {
    struct dbos_appliers *appliers = applier->appliers;
    const struct piece *pieces = (const struct piece *)(const void *)chunk->pieces.data;
    for (uint32_t i = 0; i < batch->piece_count; i++) {
        const struct piece *piece = &pieces[batch->first_piece + i];
        if (piece->partition != ALL && piece->partition != applier->partition) {
            continue;
        }
        const uint8_t *record = chunk->records.data + piece->offset;
        enum dbos_err err =
            dbos_txn_apply_part(appliers->store, appliers->log, record, piece->size_bytes,
                                applier->partition, delta, &applier->info);
        if (err != DBOS_OK) {
            int64_t commit_us = 0;
            applier->error_position = dbos_record_peek(record, piece->size_bytes, &commit_us);
            return err;
        }
    }
    return DBOS_OK;
}

static void apply_chunk(struct applier *applier, struct chunk *chunk) {
    struct dbos_appliers *appliers = applier->appliers;
    uint32_t count = 0;
    const struct batch *batches = batches_of(chunk, &count);
    uint64_t *deltas = (uint64_t *)(void *)chunk->deltas.data + (size_t)applier->partition * count;
    for (uint32_t i = 0; i < count && !atomic_load(&appliers->failed); i++) {
        deltas[i] = 0;
        applier->err = apply_one(applier, chunk, &batches[i], &deltas[i]);
        if (applier->err != DBOS_OK) {
            atomic_store(&appliers->failed, true);
        }
    }
}

static void *run(void *arg) {
    struct applier *applier = arg;
    struct dbos_appliers *appliers = applier->appliers;
    uint64_t next = 0;
    (void)pthread_setname_np(pthread_self(), "recover");
    (void)pthread_mutex_lock(&appliers->lock);
    for (;;) {
        while (next == appliers->ready && !appliers->stop) {
            (void)pthread_cond_wait(&appliers->changed, &appliers->lock);
        }
        if (next == appliers->ready) {
            break;
        }
        struct chunk *chunk = &appliers->chunks[next++ % CHUNKS];
        (void)pthread_mutex_unlock(&appliers->lock);
        apply_chunk(applier, chunk);
        (void)pthread_mutex_lock(&appliers->lock);
        if (--chunk->pending == 0) {
            (void)pthread_cond_broadcast(&appliers->changed);
        }
    }
    (void)pthread_mutex_unlock(&appliers->lock);
    return NULL;
}

/* --- the reader ------------------------------------------------------------------------------ */

static enum dbos_err first_error(struct dbos_appliers *appliers, struct dbos_errinfo *info) {
    const struct applier *first = NULL;
    for (uint32_t i = 0; i < appliers->count; i++) {
        const struct applier *applier = &appliers->all[i];
        if (applier->err != DBOS_OK &&
            (first == NULL || applier->error_position < first->error_position)) {
            first = applier;
        }
    }
    DBOS_CHECK(first != NULL);
    *info = first->info;
    return first->err;
}

static enum dbos_err check_hash(const struct dbos_appliers *appliers, uint64_t position,
                                uint64_t wanted, struct dbos_errinfo *info) {
    if (appliers->state_hash == wanted) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_CORRUPT,
                     "state after position %llu has hash %016llx, the log recorded %016llx",
                     (unsigned long long)position, (unsigned long long)appliers->state_hash,
                     (unsigned long long)wanted);
}

static void wait_for(struct dbos_appliers *appliers, const struct chunk *chunk) {
    (void)pthread_mutex_lock(&appliers->lock);
    while (chunk->pending != 0) {
        (void)pthread_cond_wait(&appliers->changed, &appliers->lock);
    }
    (void)pthread_mutex_unlock(&appliers->lock);
}

/* The oldest chunk that was not compared yet. */
static enum dbos_err prove(struct dbos_appliers *appliers, struct dbos_errinfo *info) {
    struct chunk *chunk = &appliers->chunks[appliers->proved % CHUNKS];
    uint32_t count = 0;
    const struct batch *batches = batches_of(chunk, &count);
    const uint64_t *deltas = (const uint64_t *)(const void *)chunk->deltas.data;
    wait_for(appliers, chunk);
    if (atomic_load(&appliers->failed)) {
        while (appliers->proved != appliers->filled) { /* nobody is at work any more */
            wait_for(appliers, &appliers->chunks[appliers->proved++ % CHUNKS]);
        }
        return first_error(appliers, info);
    }
    appliers->proved++;
    for (uint32_t i = 0; i < count; i++) {
        for (uint32_t a = 0; a < appliers->count; a++) {
            appliers->state_hash += deltas[(size_t)a * count + i];
        }
        appliers->records += batches[i].record_count;
        enum dbos_err err =
            check_hash(appliers, batches[i].last_position, batches[i].state_hash, info);
        if (err != DBOS_OK) {
            return err;
        }
    }
    return DBOS_OK;
}

static struct chunk *filling(struct dbos_appliers *appliers) {
    return &appliers->chunks[appliers->filled % CHUNKS];
}

static void empty(struct chunk *chunk) {
    dbos_buf_reset(&chunk->records);
    dbos_buf_reset(&chunk->pieces);
    dbos_buf_reset(&chunk->batches);
    dbos_buf_reset(&chunk->deltas);
}

static bool has_failed(const struct chunk *chunk) {
    return chunk->records.failed || chunk->pieces.failed || chunk->batches.failed ||
           chunk->deltas.failed;
}

/* Hand the chunk over; then there is one to fill again. */
static enum dbos_err hand_over(struct dbos_appliers *appliers, struct dbos_errinfo *info) {
    struct chunk *chunk = filling(appliers);
    uint32_t count = 0;
    (void)batches_of(chunk, &count);
    if (count == 0 && !has_failed(chunk)) {
        return DBOS_OK;
    }
    dbos_buf_put_zero(&chunk->deltas, (size_t)count * appliers->count * sizeof(uint64_t));
    if (has_failed(chunk)) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for recovery");
    }
    (void)pthread_mutex_lock(&appliers->lock);
    chunk->pending = appliers->count;
    appliers->ready = ++appliers->filled;
    (void)pthread_cond_broadcast(&appliers->changed);
    (void)pthread_mutex_unlock(&appliers->lock);
    enum dbos_err err = DBOS_OK;
    if (appliers->filled - appliers->proved == CHUNKS) {
        err = prove(appliers, info);
    }
    empty(filling(appliers));
    return err;
}

static enum dbos_err drain(struct dbos_appliers *appliers, struct dbos_errinfo *info) {
    enum dbos_err err = hand_over(appliers, info);
    while (err == DBOS_OK && appliers->proved != appliers->filled) {
        err = prove(appliers, info);
    }
    return err;
}

/* The next record that recovery wants; NULL: the batch has none any more. */
static const uint8_t *next_wanted(const struct dbos_appliers *appliers,
                                  const struct dbos_batch *batch, size_t *cursor,
                                  size_t *size_bytes, struct dbos_record_route *route) {
    const uint8_t *record = dbos_batch_next(batch, cursor, size_bytes);
    while (record != NULL) {
        dbos_record_peek_route(record, *size_bytes, route);
        if (route->position > appliers->after_position) {
            break;
        }
        record = dbos_batch_next(batch, cursor, size_bytes);
    }
    return record;
}

/* With all partitions in hand, record by record. */
static enum dbos_err apply_alone(struct dbos_appliers *appliers, const struct dbos_batch *batch,
                                 struct dbos_errinfo *info) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    struct dbos_record_route route;
    const uint8_t *record;
    while ((record = next_wanted(appliers, batch, &cursor, &size_bytes, &route)) != NULL) {
        enum dbos_err err = dbos_txn_apply_record(appliers->store, appliers->log, record,
                                                  size_bytes, &appliers->state_hash, info);
        if (err != DBOS_OK) {
            return err;
        }
        appliers->records++;
    }
    return check_hash(appliers, batch->last_position, batch->state_hash, info);
}

/* False: something in it needs all partitions. */
static bool add(struct dbos_appliers *appliers, const struct dbos_batch *batch) {
    struct chunk *chunk = filling(appliers);
    uint32_t base = (uint32_t)chunk->records.size_bytes;
    uint32_t first_piece = (uint32_t)(chunk->pieces.size_bytes / sizeof(struct piece));
    struct batch entry = {.last_position = batch->last_position,
                          .state_hash = batch->state_hash,
                          .first_piece = first_piece};
    size_t cursor = 0;
    size_t size_bytes = 0;
    struct dbos_record_route route;
    const uint8_t *record;
    while ((record = next_wanted(appliers, batch, &cursor, &size_bytes, &route)) != NULL) {
        if (!route.is_known || (route.flags & DBOS_RECORD_BARRIER) != 0) {
            chunk->pieces.size_bytes = first_piece * sizeof(struct piece);
            return false;
        }
        entry.record_count++;
        if ((route.flags & (DBOS_RECORD_ABORTED | DBOS_RECORD_READ_ONLY)) != 0) {
            continue;
        }
        bool is_ours = route.partitions == appliers->count;
        struct piece piece = {.offset = base + (uint32_t)(record - batch->records),
                              .size_bytes = (uint32_t)size_bytes,
                              .partition = is_ours ? route.partition : (uint16_t)ALL};
        dbos_buf_put(&chunk->pieces, &piece, sizeof piece);
        entry.piece_count++;
    }
    dbos_buf_put(&chunk->records, batch->records, batch->records_bytes);
    dbos_buf_put(&chunk->batches, &entry, sizeof entry);
    return true;
}

enum dbos_err dbos_appliers_take(struct dbos_appliers *appliers, const struct dbos_batch *batch,
                                 struct dbos_errinfo *info) {
    if (!add(appliers, batch)) {
        enum dbos_err err = drain(appliers, info);
        return err == DBOS_OK ? apply_alone(appliers, batch, info) : err;
    }
    return filling(appliers)->records.size_bytes >= CHUNK_BYTES ? hand_over(appliers, info)
                                                                : DBOS_OK;
}

enum dbos_err dbos_appliers_finish(struct dbos_appliers *appliers, uint64_t *out_state_hash,
                                   uint64_t *out_records, struct dbos_errinfo *info) {
    enum dbos_err err = drain(appliers, info);
    *out_state_hash = appliers->state_hash;
    *out_records = appliers->records;
    return err;
}

/* --- life ------------------------------------------------------------------------------------ */

enum dbos_err dbos_appliers_open(struct dbos_alloc *alloc, struct dbos_store *store,
                                 struct dbos_log *log, uint64_t after_position, uint64_t state_hash,
                                 struct dbos_appliers **out, struct dbos_errinfo *info) {
    uint32_t count = dbos_store_partitions(store);
    *out = NULL;
    struct dbos_appliers *appliers = dbos_take_zero(alloc, sizeof *appliers);
    struct applier *all = dbos_take_zero(alloc, count * sizeof *all);
    if (appliers == NULL || all == NULL) {
        dbos_give(alloc, appliers);
        dbos_give(alloc, all);
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for recovery");
    }
    appliers->alloc = alloc;
    appliers->store = store;
    appliers->log = log;
    appliers->after_position = after_position;
    appliers->state_hash = state_hash;
    appliers->count = count;
    appliers->all = all;
    (void)pthread_mutex_init(&appliers->lock, NULL);
    (void)pthread_cond_init(&appliers->changed, NULL);
    for (uint32_t i = 0; i < CHUNKS; i++) {
        dbos_buf_init(&appliers->chunks[i].records, alloc);
        dbos_buf_init(&appliers->chunks[i].pieces, alloc);
        dbos_buf_init(&appliers->chunks[i].batches, alloc);
        dbos_buf_init(&appliers->chunks[i].deltas, alloc);
    }
    for (uint32_t i = 0; i < count; i++) {
        all[i].appliers = appliers;
        all[i].partition = i;
        all[i].has_thread = pthread_create(&all[i].thread, NULL, run, &all[i]) == 0;
        if (!all[i].has_thread) {
            dbos_appliers_close(appliers);
            return dbos_fail(info, DBOS_ERR_NOMEM, "cannot start a thread for recovery");
        }
    }
    *out = appliers;
    return DBOS_OK;
}

void dbos_appliers_close(struct dbos_appliers *appliers) {
    if (appliers == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&appliers->lock);
    appliers->stop = true;
    (void)pthread_cond_broadcast(&appliers->changed);
    (void)pthread_mutex_unlock(&appliers->lock);
    for (uint32_t i = 0; i < appliers->count; i++) {
        if (appliers->all[i].has_thread) {
            (void)pthread_join(appliers->all[i].thread, NULL);
        }
    }
    for (uint32_t i = 0; i < CHUNKS; i++) {
        dbos_buf_fini(&appliers->chunks[i].records);
        dbos_buf_fini(&appliers->chunks[i].pieces);
        dbos_buf_fini(&appliers->chunks[i].batches);
        dbos_buf_fini(&appliers->chunks[i].deltas);
    }
    (void)pthread_cond_destroy(&appliers->changed);
    (void)pthread_mutex_destroy(&appliers->lock);
    dbos_give(appliers->alloc, appliers->all);
    dbos_give(appliers->alloc, appliers);
}
