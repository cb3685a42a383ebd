#include "engine/replay_call.h"

#include <stdio.h>

#include "base/hash.h"
#include "engine/wire.h"
#include "provenance/idmap.h"

struct dbos_replayer {
    struct dbos_alloc *alloc;
    struct dbos_replayer_options options;
    struct dbos_procs *procs;
    struct dbos_txn **txns; /* of each partition, and behind them the barrier's */
    uint32_t partitions;
    struct dbos_idmap sessions; /* id -> number of the user's name */
    struct dbos_buf users;      /* const char *, each in `names` */
    struct dbos_arena names;
    struct dbos_record_scratch scratch;
    struct dbos_buf record; /* of the call that ran again */
    struct dbos_buf row;    /* its result as it was sent */
};

/* What the record says about its call. */
struct recorded_call {
    struct dbos_record_head head;
    uint64_t client_statement; /* the text that called it */
    bool has_key;              /* an idempotency key, which was new */
    bool has_kept_reply;       /* … was not */
    uint16_t scans_from; /* the first statement that met several rows of a whole table; 0 = none */
    bool has_result;
    uint64_t result_bytes;
    uint64_t result_digest;
    uint32_t argument_count;
    struct dbos_datum arguments[DBOS_ARGUMENTS_MAX];
};

/* --- life ------------------------------------------------------------------------------------ */

static enum dbos_err open_txns(struct dbos_replayer *replayer) {
    uint32_t count = replayer->partitions + 1;
    replayer->txns = dbos_take_zero(replayer->alloc, count * sizeof(struct dbos_txn *));
    enum dbos_err err = replayer->txns == NULL ? DBOS_ERR_NOMEM : DBOS_OK;
    for (uint32_t i = 0; err == DBOS_OK && i < count; i++) {
        struct dbos_txn_options options = {
            .store = replayer->options.store,
            .partition = i == replayer->partitions ? DBOS_PARTITION_ALL : i,
            .env = replayer->options.env,
        };
        err = dbos_txn_open(replayer->alloc, &options, &replayer->txns[i]);
    }
    return err;
}

enum dbos_err dbos_replayer_open(struct dbos_alloc *alloc,
                                 const struct dbos_replayer_options *options,
                                 struct dbos_replayer **out, struct dbos_errinfo *info) {
    *out = NULL;
    struct dbos_replayer *replayer = dbos_take_zero(alloc, sizeof *replayer);
    if (replayer == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for running calls again");
    }
    replayer->alloc = alloc;
    replayer->options = *options;
    replayer->partitions = dbos_store_partitions(options->store);
    dbos_idmap_init(&replayer->sessions, alloc);
    dbos_buf_init(&replayer->users, alloc);
    dbos_buf_init(&replayer->record, alloc);
    dbos_buf_init(&replayer->row, alloc);
    dbos_arena_init(&replayer->names, alloc, 0);
    dbos_record_scratch_init(&replayer->scratch, alloc);
    enum dbos_err err = open_txns(replayer);
    if (err == DBOS_OK) {
        err = dbos_procs_open(alloc, options->env, NULL, &replayer->procs);
    }
    if (err != DBOS_OK) {
        (void)dbos_fail(info, err, "out of memory for running calls again");
    } else {
        err = dbos_procs_load_all(replayer->procs, options->store, info);
    }
    if (err != DBOS_OK) {
        dbos_replayer_close(replayer);
        return err;
    }
    *out = replayer;
    return DBOS_OK;
}

void dbos_replayer_close(struct dbos_replayer *replayer) {
    if (replayer == NULL) {
        return;
    }
    for (uint32_t i = 0; replayer->txns != NULL && i <= replayer->partitions; i++) {
        dbos_txn_close(replayer->txns[i]);
    }
    dbos_give(replayer->alloc, replayer->txns);
    dbos_procs_close(replayer->procs);
    dbos_idmap_fini(&replayer->sessions);
    dbos_buf_fini(&replayer->users);
    dbos_buf_fini(&replayer->record);
    dbos_buf_fini(&replayer->row);
    dbos_arena_fini(&replayer->names);
    dbos_record_scratch_fini(&replayer->scratch);
    dbos_give(replayer->alloc, replayer);
}

enum dbos_err dbos_replayer_redefined(struct dbos_replayer *replayer, struct dbos_errinfo *info) {
    return dbos_procs_follow(replayer->procs, info);
}

/* --- what the record says -------------------------------------------------------------------- */

static enum dbos_err note_session(struct dbos_replayer *replayer, const struct dbos_event *event,
                                  struct dbos_errinfo *info) {
    if (dbos_idmap_find(&replayer->sessions, event->session) != NULL) {
        return DBOS_OK;
    }
    uint32_t number = (uint32_t)(replayer->users.size_bytes / sizeof(const char *));
    const char *user = dbos_arena_copy(&replayer->names, event->user.data, event->user.size_bytes);
    dbos_buf_put(&replayer->users, &user, sizeof user);
    if (user == NULL || replayer->users.failed ||
        dbos_idmap_put(&replayer->sessions, event->session, number) != DBOS_OK) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the sessions of the log");
    }
    return DBOS_OK;
}

/* NULL = its definition was not met. */
static const char *user_of(const struct dbos_replayer *replayer, uint64_t session) {
    const uint32_t *number = dbos_idmap_find(&replayer->sessions, session);
    const char *user = NULL;
    if (number != NULL) {
        memcpy(&user, replayer->users.data + *number * sizeof user, sizeof user);
    }
    return user;
}

static void note_event(const struct dbos_event *event, struct recorded_call *call) {
    if (event->op == DBOS_EVENT_STATEMENT && event->statement == 1) {
        call->client_statement = event->statement_id;
    } else if (event->op == DBOS_EVENT_EGRESS) {
        call->has_result = true;
        call->result_bytes = event->bytes;
        call->result_digest = event->digest;
    } else if (event->op == DBOS_EVENT_READ && dbos_replay_is_of_key(event)) {
        call->has_kept_reply = true;
    } else if (event->op == DBOS_EVENT_ABSENT && dbos_replay_is_of_key(event)) {
        call->has_key = true;
    } else if (event->op == DBOS_EVENT_SCAN && event->count > 1 && call->scans_from == 0) {
        call->scans_from = event->statement;
    }
}

/* Head and arguments live in the replayer's scratch memory until the next record. */
static enum dbos_err read_record(struct dbos_replayer *replayer, const uint8_t *record,
                                 size_t size_bytes, struct recorded_call *call,
                                 struct dbos_errinfo *info) {
    struct dbos_record_decoder decoder;
    struct dbos_event event;
    enum dbos_err err =
        dbos_record_open(record, size_bytes, &replayer->scratch, &call->head, &decoder, info);
    while (err == DBOS_OK && dbos_record_next(&decoder, &event)) {
        if (event.op == DBOS_EVENT_SESSION) {
            err = note_session(replayer, &event, info);
        } else {
            note_event(&event, call);
        }
    }
    if (err == DBOS_OK) {
        err = dbos_record_end(&decoder, info);
    }
    if (err == DBOS_OK && call->head.partition >= call->head.partitions &&
        call->head.partition != DBOS_PARTITION_ALL) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT, "record %llu ran on partition %u of %u",
                        (unsigned long long)call->head.position, call->head.partition,
                        call->head.partitions);
    }
    return err;
}

static void give_arguments(struct recorded_call *call) {
    for (uint32_t i = 0; i < call->argument_count; i++) {
        dbos_object_unref(call->arguments[i].object);
    }
    call->argument_count = 0;
}

static enum dbos_err load_argument(const struct dbos_replayer *replayer, struct dbos_reader *reader,
                                   struct dbos_datum *out, struct dbos_errinfo *info) {
    struct dbos_object_id id = {.size_bytes = 0};
    dbos_datum_get(reader, out, &id);
    if (reader->failed) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "an argument is malformed");
    }
    out->object = NULL;
    if (id.size_bytes != 0) {
        enum dbos_err err = dbos_log_load_object(replayer->options.log, &id, &out->object, info);
        if (err != DBOS_OK) {
            return err;
        }
        if (out->object == NULL) {
            return dbos_fail(info, DBOS_ERR_CORRUPT, "an argument of %u bytes is not in the blobs",
                             id.size_bytes);
        }
        out->bytes.data = out->object->data;
    }
    return DBOS_OK;
}

static enum dbos_err load_arguments(const struct dbos_replayer *replayer,
                                    struct recorded_call *call, struct dbos_errinfo *info) {
    struct dbos_reader reader =
        dbos_reader_of(call->head.arguments.data, call->head.arguments.size_bytes);
    enum dbos_err err = DBOS_OK;
    if (call->head.argument_count > DBOS_ARGUMENTS_MAX) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "a call has %u arguments",
                         call->head.argument_count);
    }
    while (err == DBOS_OK && call->argument_count < call->head.argument_count) {
        err = load_argument(replayer, &reader, &call->arguments[call->argument_count], info);
        call->argument_count += err == DBOS_OK;
    }
    return err;
}

/* --- running it ------------------------------------------------------------------------------ */

/* The result as it went to the client: as text or in binary form the record does not say; its
 * digest does. */
static void note_result(struct dbos_replayer *replayer, struct dbos_txn *txn,
                        const struct recorded_call *call, const struct dbos_datum *value) {
    static const int16_t formats[] = {1, 0};
    uint64_t digest = 0;
    for (uint32_t i = 0; i < 2; i++) {
        dbos_buf_reset(&replayer->row);
        dbos_wire_put_row(&replayer->row, value, 1, &formats[i], 1);
        digest = dbos_hash64(0, replayer->row.data, replayer->row.size_bytes);
        if (call->has_result && replayer->row.size_bytes == call->result_bytes &&
            digest == call->result_digest) {
            break;
        }
    }
    dbos_txn_note_egress(txn, 1, replayer->row.size_bytes, digest);
}

static struct dbos_txn *txn_of(const struct dbos_replayer *replayer,
                               const struct dbos_record_head *head) {
    return replayer
        ->txns[head->partition == DBOS_PARTITION_ALL ? replayer->partitions : head->partition];
}

/* In the order of the engine: the client's statement, the arguments, the procedure, its result.
 * *why: how the call ended. */
static enum dbos_err run_again(struct dbos_replayer *replayer, const struct recorded_call *call,
                               struct dbos_procedure_handle *procedure, struct dbos_errinfo *why,
                               struct dbos_errinfo *info) {
    const struct dbos_record_head *head = &call->head;
    struct dbos_txn *txn = txn_of(replayer, head);
    struct dbos_datum value;
    const struct dbos_txn_again again = {.position = head->position,
                                         .commit_us = head->commit_us,
                                         .start_us = head->start_us,
                                         .seed = head->seed};
    const struct dbos_txn_call txn_call = {.procedure = head->procedure,
                                           .procedure_version = head->procedure_version,
                                           .read_only = dbos_procedure_reads_only(procedure),
                                           .again = &again};
    const struct dbos_run run = {.txn = txn,
                                 .procs = replayer->procs,
                                 .user = user_of(replayer, head->session),
                                 .env = replayer->options.env};
    dbos_txn_begin(txn, &txn_call);
    if (call->has_key) { /* that it was looked for leaves a record, whatever else is read */
        dbos_txn_note_absent(txn, DBOS_TABLE_IDEMPOTENCY, 0, NULL, 0);
    }
    dbos_txn_statement(txn, call->client_statement, NULL);
    dbos_txn_set_arguments(txn, call->arguments, call->argument_count);
    dbos_errinfo_clear(why);
    enum dbos_err outcome = dbos_procedure_call(procedure, &run, call->arguments,
                                                call->argument_count, NULL, &value, why);
    if (outcome == DBOS_OK && dbos_procedure_info_of(procedure)->is_function) {
        note_result(replayer, txn, call, &value);
    }
    enum dbos_err err = dbos_txn_rehearse(txn, outcome, &replayer->record, info);
    return err == DBOS_OK && (outcome == DBOS_ERR_NOMEM || replayer->row.failed)
               ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a call that runs again")
               : err;
}

/* --- verdicts -------------------------------------------------------------------------------- */

/* How long the stack is, and what has ended a node before, the record does not say: what was
 * refused for that must not be run here either. */
static bool is_from_outside(uint16_t outcome) {
    return outcome == DBOS_ERR_CANCELED || outcome == DBOS_ERR_TIMEOUT ||
           outcome == DBOS_ERR_NOMEM || outcome == DBOS_ERR_DISK_FULL ||
           outcome == DBOS_ERR_SHUTDOWN || outcome == DBOS_ERR_TOO_COMPLEX ||
           outcome == DBOS_ERR_QUARANTINED;
}

static enum dbos_replay_verdict look(const struct dbos_replayer *replayer,
                                     const struct recorded_call *call) {
    const struct dbos_record_head *head = &call->head;
    if (head->partitions != replayer->partitions) {
        return DBOS_REPLAY_ELSEWHERE;
    }
    if (head->procedure == 0) {
        return (head->flags & DBOS_RECORD_DDL) != 0 ? DBOS_REPLAY_DEFINITIONS
                                                    : DBOS_REPLAY_STATEMENTS;
    }
    if ((head->flags & DBOS_RECORD_TASK_RESULT) != 0) {
        return DBOS_REPLAY_TASK_RESULT;
    }
    if (call->has_kept_reply) {
        return DBOS_REPLAY_KEPT_REPLY;
    }
    if (is_from_outside(head->outcome)) {
        return DBOS_REPLAY_CUT_SHORT;
    }
    return DBOS_REPLAY_SAME;
}

/* The limits on replies and on the memory of them are the client's side, too. */
static bool is_reply_limit(const struct recorded_call *call, const struct dbos_errinfo *why) {
    return call->head.outcome == DBOS_ERR_LIMIT && why->code == DBOS_OK;
}

static bool may_be_order(const struct dbos_replayer *replayer, const struct recorded_call *call,
                         uint16_t statement) {
    return replayer->options.has_other_order && call->scans_from != 0 &&
           (statement == 0 || statement >= call->scans_from);
}

/* A call that is the same is the same whatever was not known. */
static enum dbos_replay_verdict judge_difference(const struct dbos_replayer *replayer,
                                                 const struct recorded_call *call,
                                                 uint16_t statement) {
    if (user_of(replayer, call->head.session) == NULL) {
        return DBOS_REPLAY_NO_CALLER;
    }
    return may_be_order(replayer, call, statement) ? DBOS_REPLAY_ROW_ORDER : DBOS_REPLAY_DIFFERENT;
}

static enum dbos_err check_call(struct dbos_replayer *replayer, struct recorded_call *call,
                                struct dbos_bytes record, struct dbos_replay_finding *out,
                                struct dbos_errinfo *info) {
    struct dbos_procedure_handle *procedure =
        dbos_procs_find(replayer->procs, call->head.procedure, call->head.procedure_version);
    struct dbos_errinfo why = {0};
    bool is_same = false;
    if (procedure == NULL) { /* a call finds its procedure in the catalogue, which is the log's */
        out->verdict = DBOS_REPLAY_DIFFERENT;
        (void)snprintf(out->texts.expected, sizeof out->texts.expected, "a call of procedure %u",
                       call->head.procedure);
        (void)snprintf(out->texts.came, sizeof out->texts.came, "there is no such version of it");
        return DBOS_OK;
    }
    out->procedure = dbos_procedure_info_of(procedure)->name;
    enum dbos_err err = load_arguments(replayer, call, info);
    if (err == DBOS_OK) {
        err = run_again(replayer, call, procedure, &why, info);
    }
    if (err == DBOS_OK && is_reply_limit(call, &why)) {
        out->verdict = DBOS_REPLAY_CUT_SHORT;
        return DBOS_OK;
    }
    struct dbos_replay_pair pair = {
        .alloc = replayer->alloc,
        .catalog = dbos_store_catalog(replayer->options.store),
        .recorded = record,
        .again = {.data = replayer->record.data, .size_bytes = replayer->record.size_bytes},
        .error = why.message,
    };
    if (err == DBOS_OK) {
        err = dbos_replay_compare(&pair, &is_same, &out->texts, info);
    }
    out->verdict =
        is_same ? DBOS_REPLAY_SAME : judge_difference(replayer, call, out->texts.statement);
    return err;
}

enum dbos_err dbos_replayer_check(struct dbos_replayer *replayer, const uint8_t *record,
                                  size_t size_bytes, struct dbos_replay_finding *out,
                                  struct dbos_errinfo *info) {
    struct recorded_call call = {.argument_count = 0};
    *out = (struct dbos_replay_finding){.procedure = ""};
    enum dbos_err err = read_record(replayer, record, size_bytes, &call, info);
    if (err != DBOS_OK) {
        return err;
    }
    out->verdict = look(replayer, &call);
    out->head = call.head;
    if (out->verdict == DBOS_REPLAY_SAME) {
        err = check_call(replayer, &call, (struct dbos_bytes){record, size_bytes}, out, info);
        give_arguments(&call);
    }
    return err;
}
