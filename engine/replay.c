#include "engine/replay.h"

#include "txn/history.h"

enum { PARTITIONS_MAX = 256 }; /* of a node: engine.c */

struct replay {
    struct dbos_alloc *alloc;
    const struct dbos_replay_options *options;
    struct dbos_replay_facts *facts;
    struct dbos_history *history;
    struct dbos_replayer *replayer;
    uint64_t records;                 /* of this pass */
    bool is_met[PARTITIONS_MAX + 1];  /* numbers of partitions in the log … */
    bool is_done[PARTITIONS_MAX + 1]; /* … and with a pass of theirs */
};

static enum dbos_err count(struct replay *replay, const struct dbos_replay_finding *finding,
                           struct dbos_errinfo *info) {
    uint32_t partitions = finding->head.partitions;
    if (partitions == 0 || partitions > PARTITIONS_MAX) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record %llu is of a node with %u partitions",
                         (unsigned long long)finding->head.position, partitions);
    }
    replay->is_met[partitions] = true;
    if (finding->verdict == DBOS_REPLAY_ELSEWHERE) {
        return DBOS_OK;
    }
    replay->facts->verdicts[finding->verdict]++;
    replay->facts->same_aborted +=
        finding->verdict == DBOS_REPLAY_SAME && finding->head.outcome != DBOS_OK;
    if (finding->verdict == DBOS_REPLAY_DIFFERENT && replay->options->differs != NULL) {
        replay->options->differs(replay->options->arg, finding);
    }
    return DBOS_OK;
}

static enum dbos_err replay_record(void *arg, const uint8_t *record, size_t size_bytes,
                                   uint64_t *state_hash, struct dbos_errinfo *info) {
    struct replay *replay = arg;
    struct dbos_replay_finding finding;
    replay->records++;
    enum dbos_err err = dbos_replayer_check(replay->replayer, record, size_bytes, &finding, info);
    if (err == DBOS_OK) {
        err = count(replay, &finding, info);
    }
    if (err == DBOS_OK) {
        err = dbos_txn_apply_record(dbos_history_store(replay->history),
                                    dbos_history_log(replay->history), record, size_bytes,
                                    state_hash, info);
    }
    if (err == DBOS_OK && (finding.head.flags & DBOS_RECORD_DDL) != 0) {
        err = dbos_replayer_redefined(replay->replayer, info);
    }
    return err;
}

static enum dbos_err pass_through(struct replay *replay, struct dbos_errinfo *info) {
    struct dbos_recovery recovery = {.apply = replay_record, .arg = replay};
    struct dbos_replayer_options options = {.env = replay->options->env,
                                            .store = dbos_history_store(replay->history),
                                            .log = dbos_history_log(replay->history)};
    options.has_other_order = dbos_history_has_snapshots(replay->history);
    enum dbos_err err = dbos_history_begin(replay->history, &replay->facts->after_position, info);
    if (err == DBOS_OK) {
        err = dbos_replayer_open(replay->alloc, &options, &replay->replayer, info);
    }
    if (err == DBOS_OK) {
        replay->records = 0;
        err = dbos_history_read(replay->history, &recovery, info);
        replay->facts->last_position = recovery.last_position;
        replay->facts->records = replay->records;
        replay->facts->passes++;
    }
    dbos_replayer_close(replay->replayer);
    replay->replayer = NULL;
    return err;
}

static enum dbos_err replay_with(struct replay *replay, uint32_t partitions,
                                 struct dbos_errinfo *info) {
    replay->is_done[partitions] = true;
    enum dbos_err err =
        dbos_history_open(replay->alloc, replay->options->env, replay->options->data_dir,
                          partitions, &replay->history, info);
    if (err == DBOS_OK) {
        err = pass_through(replay, info);
    }
    dbos_history_close(replay->history);
    replay->history = NULL;
    return err;
}

/* Of the first record; 1 where there is none. */
static enum dbos_err find_partitions(const struct replay *replay, uint32_t *out,
                                     struct dbos_errinfo *info) {
    struct dbos_history *history = NULL;
    enum dbos_err err = dbos_history_open(replay->alloc, replay->options->env,
                                          replay->options->data_dir, 1, &history, info);
    if (err == DBOS_OK) {
        err = dbos_history_partitions(history, out, info);
    }
    dbos_history_close(history);
    if (*out == 0 || *out > PARTITIONS_MAX) {
        *out = 1; /* reading it will say what is wrong */
    }
    return err;
}

enum dbos_err dbos_replay(struct dbos_alloc *alloc, const struct dbos_replay_options *options,
                          struct dbos_replay_facts *out, struct dbos_errinfo *info) {
    struct replay replay = {.alloc = alloc, .options = options, .facts = out};
    uint32_t partitions = 0;
    *out = (struct dbos_replay_facts){0};
    enum dbos_err err = find_partitions(&replay, &partitions, info);
    if (err == DBOS_OK) {
        err = replay_with(&replay, partitions, info);
    }
    for (partitions = 1; err == DBOS_OK && partitions <= PARTITIONS_MAX; partitions++) {
        if (replay.is_met[partitions] && !replay.is_done[partitions]) {
            err = replay_with(&replay, partitions, info);
        }
    }
    return err;
}
