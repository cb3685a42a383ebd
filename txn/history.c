#include "txn/history.h"

#include "txn/log_internal.h"
#include "txn/snapshot.h"

enum { SNAPSHOTS_MAX = 64 };

struct dbos_history {
    struct dbos_alloc *alloc;
    struct dbos_log *log;
    struct dbos_store *store;
    struct dbos_snapshot_facts snapshot; /* that it begins with; position 0 = none */
};

/* --- opening --------------------------------------------------------------------------------- */

static enum dbos_err open_store(struct dbos_history *history, uint32_t partitions,
                                struct dbos_errinfo *info) {
    struct dbos_log *log = history->log;
    if (dbos_objects_open(history->alloc, log->identity.object_seed, &log->objects) != DBOS_OK ||
        dbos_store_open(history->alloc, log->objects, partitions, &history->store) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the tables");
    }
    return DBOS_OK;
}

enum dbos_err dbos_history_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                const char *data_dir, uint32_t partitions,
                                struct dbos_history **out, struct dbos_errinfo *info) {
    struct dbos_log_options options = {.env = env, .data_dir = data_dir, .read_only = true};
    *out = NULL;
    struct dbos_history *history = dbos_take_zero(alloc, sizeof *history);
    if (history == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the log");
    }
    history->alloc = alloc;
    enum dbos_err err = dbos_log_open(alloc, &options, &history->log, info);
    if (err == DBOS_OK) {
        err = open_store(history, partitions, info);
    }
    if (err != DBOS_OK) {
        dbos_history_close(history);
        return err;
    }
    *out = history;
    return DBOS_OK;
}

void dbos_history_close(struct dbos_history *history) {
    if (history == NULL) {
        return;
    }
    struct dbos_objects *objects = history->log == NULL ? NULL : history->log->objects;
    dbos_log_close(history->log);
    if (history->store != NULL) {
        dbos_store_close(history->store);
    }
    if (objects != NULL) {
        dbos_objects_close(objects);
    }
    dbos_give(history->alloc, history);
}

struct dbos_store *dbos_history_store(struct dbos_history *history) {
    return history->store;
}

struct dbos_log *dbos_history_log(struct dbos_history *history) {
    return history->log;
}

/* --- where it begins ------------------------------------------------------------------------- */

/* The oldest segment, and its first position; *out_number 0 = there is none in use. */
static enum dbos_err find_first(const struct dbos_history *history, uint32_t *out_number,
                                uint64_t *out_position, struct dbos_errinfo *info) {
    struct dbos_log *log = history->log;
    uint32_t highest = 0;
    bool exists = false;
    *out_position = 1;
    enum dbos_err err = dbos_log_segment_range(log->env, log->data_dir, out_number, &highest, info);
    if (err == DBOS_OK && *out_number != 0 &&
        !dbos_log_segment_begins_at(log, *out_number, out_position, &exists, NULL)) {
        /* One that is not in use yet, or damaged: reading it will say which. */
        *out_number = *out_number == highest ? 0 : *out_number;
    }
    return err;
}

static enum dbos_err read_partitions(const struct dbos_history *history,
                                     const struct dbos_batch *batch, uint32_t *out,
                                     struct dbos_errinfo *info) {
    struct dbos_record_scratch scratch;
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    size_t cursor = 0;
    size_t size_bytes = 0;
    const uint8_t *record = dbos_batch_next(batch, &cursor, &size_bytes);
    if (record == NULL) {
        return DBOS_OK;
    }
    dbos_record_scratch_init(&scratch, history->alloc);
    enum dbos_err err = dbos_record_open(record, size_bytes, &scratch, &head, &decoder, info);
    *out = err == DBOS_OK ? head.partitions : 0;
    dbos_record_scratch_fini(&scratch);
    return err;
}

enum dbos_err dbos_history_partitions(struct dbos_history *history, uint32_t *out,
                                      struct dbos_errinfo *info) {
    struct dbos_log *log = history->log;
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    uint32_t number = 0;
    uint64_t position = 0;
    *out = 0;
    enum dbos_err err = find_first(history, &number, &position, info);
    if (err != DBOS_OK || number == 0) {
        return err;
    }
    err = dbos_log_reader_open(log->alloc, log->env, log->data_dir, number, 0, &reader, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_log_reader_strict(reader);
    enum dbos_read_result result = dbos_log_reader_next(reader, &batch, info);
    if (result == DBOS_READ_CORRUPT) {
        err = info->code;
    } else if (result == DBOS_READ_BATCH) {
        err = read_partitions(history, &batch, out, info);
    }
    dbos_log_reader_close(reader);
    return err;
}

bool dbos_history_has_snapshots(struct dbos_history *history) {
    uint64_t position = 0;
    uint32_t count = 0;
    struct dbos_errinfo none = {0};
    const struct dbos_log *log = history->log;
    return dbos_snapshot_list(log->env, log->data_dir, &position, 1, &count, &none) == DBOS_OK &&
           count != 0;
}

/* The oldest snapshot behind which the log has everything. */
static enum dbos_err choose_snapshot(const struct dbos_history *history, uint64_t first_position,
                                     uint64_t *out, struct dbos_errinfo *info) {
    uint64_t positions[SNAPSHOTS_MAX]; /* newest first */
    uint32_t count = 0;
    const struct dbos_log *log = history->log;
    enum dbos_err err =
        dbos_snapshot_list(log->env, log->data_dir, positions, SNAPSHOTS_MAX, &count, info);
    if (err != DBOS_OK) {
        return err;
    }
    *out = 0;
    for (uint32_t i = 0; i < count && i < SNAPSHOTS_MAX && positions[i] + 1 >= first_position;
         i++) {
        *out = positions[i];
    }
    return *out != 0 ? DBOS_OK
                     : dbos_fail(info, DBOS_ERR_CORRUPT,
                                 "the log begins at position %llu, and no snapshot reaches it",
                                 (unsigned long long)first_position);
}

enum dbos_err dbos_history_begin(struct dbos_history *history, uint64_t *out_position,
                                 struct dbos_errinfo *info) {
    struct dbos_log *log = history->log;
    uint32_t number = 0;
    uint64_t first_position = 1;
    *out_position = 0;
    enum dbos_err err = find_first(history, &number, &first_position, info);
    if (err != DBOS_OK || first_position <= 1) {
        return err;
    }
    struct dbos_snapshot_load load = {.alloc = history->alloc,
                                      .env = log->env,
                                      .data_dir = log->data_dir,
                                      .database = log->identity.database,
                                      .store = history->store,
                                      .log = log,
                                      .read_only = true};
    err = choose_snapshot(history, first_position, &load.position, info);
    if (err == DBOS_OK) {
        err = dbos_snapshot_load(&load, &history->snapshot, info);
    }
    *out_position = history->snapshot.position;
    return err;
}

enum dbos_err dbos_history_read(struct dbos_history *history, struct dbos_recovery *recovery,
                                struct dbos_errinfo *info) {
    DBOS_CHECK(recovery->apply != NULL);
    recovery->after_position = history->snapshot.position;
    recovery->after_hash = history->snapshot.state_hash;
    recovery->after_commit_us = history->snapshot.commit_us;
    return dbos_log_recover(history->log, recovery, info);
}
