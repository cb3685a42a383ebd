/* Verification of a stopped node's directory: start-up, without changing anything. */
#include "txn/history.h"
#include "txn/log_internal.h"
#include "txn/snapshot.h"
#include "txn/txn.h"

struct verification {
    struct dbos_log *log;
    struct dbos_store *store;
};

static enum dbos_err read_record(const struct verification *v, const uint8_t *record,
                                 size_t size_bytes, struct dbos_errinfo *info) {
    struct dbos_record_scratch scratch;
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_event event;
    dbos_record_scratch_init(&scratch, v->log->alloc);
    enum dbos_err err = dbos_record_open(record, size_bytes, &scratch, &head, &decoder, info);
    while (err == DBOS_OK && dbos_record_next(&decoder, &event)) {
        /* Start-up stops at the last write of a record; reads are looked at too. */
    }
    if (err == DBOS_OK) {
        err = dbos_record_end(&decoder, info);
    }
    dbos_record_scratch_fini(&scratch);
    return err;
}

static enum dbos_err apply_record(void *arg, const uint8_t *record, size_t size_bytes,
                                  uint64_t *state_hash, struct dbos_errinfo *info) {
    const struct verification *v = arg;
    enum dbos_err err = read_record(v, record, size_bytes, info);
    return err == DBOS_OK
               ? dbos_txn_apply_record(v->store, v->log, record, size_bytes, state_hash, info)
               : err;
}

static enum dbos_err read_batch(const struct verification *v, const struct dbos_batch *batch,
                                struct dbos_errinfo *info) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    const uint8_t *record;
    enum dbos_err err = DBOS_OK;
    while (err == DBOS_OK && (record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        err = read_record(v, record, size_bytes, info);
    }
    return err;
}

/* A start reads what lies behind the newest snapshot. The older one, and the archive, want what
 * lies before it. */
static enum dbos_err read_kept(const struct verification *v, struct dbos_errinfo *info) {
    struct dbos_log *log = v->log;
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    uint32_t lowest = 0;
    uint32_t highest = 0;
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, &lowest, &highest, info);
    if (err != DBOS_OK || lowest == 0) {
        return err;
    }
    err = dbos_log_reader_open(log->alloc, log->env, log->data_dir, lowest, 0, &reader, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_log_reader_strict(reader);
    enum dbos_read_result result = DBOS_READ_BATCH;
    while (err == DBOS_OK &&
           (result = dbos_log_reader_next(reader, &batch, info)) == DBOS_READ_BATCH) {
        err = read_batch(v, &batch, info);
    }
    dbos_log_reader_close(reader);
    return err == DBOS_OK && result == DBOS_READ_CORRUPT ? info->code : err;
}

static enum dbos_err verify_open(struct dbos_alloc *alloc, struct verification *v,
                                 struct dbos_log_findings *out, struct dbos_errinfo *info) {
    struct dbos_log *log = v->log;
    out->log.apply = apply_record;
    out->log.arg = v;
    struct dbos_snapshot_load load = {.alloc = alloc,
                                      .env = log->env,
                                      .data_dir = log->data_dir,
                                      .database = log->identity.database,
                                      .store = v->store,
                                      .log = log,
                                      .read_only = true};
    uint32_t damaged = 0;
    enum dbos_err err = dbos_snapshot_check_all(&load, &out->snapshots, info);
    if (err == DBOS_OK && out->snapshots != 0) {
        err = read_kept(v, info);
    }
    if (err == DBOS_OK) {
        err = dbos_snapshot_recover(&load, &out->log, &out->snapshot, &damaged, info);
    }
    return err == DBOS_OK ? dbos_blob_index_verify(log->blobs, out->log.last_position,
                                                   log->identity.object_seed, &out->blobs, info)
                          : err;
}

enum dbos_err dbos_log_verify(struct dbos_alloc *alloc, struct dbos_env *env, const char *data_dir,
                              struct dbos_log_findings *out, struct dbos_errinfo *info) {
    struct dbos_history *history = NULL;
    *out = (struct dbos_log_findings){.log = {.records = 0}};
    enum dbos_err err = dbos_history_open(alloc, env, data_dir, 1, &history, info);
    if (err == DBOS_OK) {
        struct verification v = {.log = dbos_history_log(history),
                                 .store = dbos_history_store(history)};
        out->database = dbos_log_database(v.log);
        err = verify_open(alloc, &v, out, info);
    }
    dbos_history_close(history);
    return err;
}
