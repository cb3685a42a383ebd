/* The judge of a simulated node: compares what clients were told, what the log and the archive
 * hold, what verification says and what the tables are with the model. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/sim/archive.h"
#include "tests/sim/world_internal.h"
#include "txn/log_internal.h"

noreturn void sim_wrong(const char *format, ...) {
    va_list args;
    va_start(args, format);
    (void)fprintf(stderr, "sim: seed %llu, life %u: ", (unsigned long long)world.seed, world.life);
    (void)vfprintf(stderr, format, args);
    (void)fprintf(stderr, "\n");
    va_end(args);
    abort();
}

struct walk {
    struct dbos_record_scratch scratch;
    uint64_t last;
    uint64_t first; /* that the log still has; 0 = none */
};

/* A block of a table is one row's for ever. */
static void judge_birth(const struct dbos_event *event) {
    enum { PLACES = 65536 };
    static uint64_t born[PLACES];
    uint64_t key = dbos_mix64(event->block * 1000003 + event->table_id) | 1;
    uint64_t at = key % PLACES;
    while (born[at] != 0 && born[at] != key) {
        at = (at + 1) % PLACES;
    }
    if (born[at] == key) {
        sim_wrong("block %llu of table %u has been another row's", (unsigned long long)event->block,
                  event->table_id);
    }
    born[at] = key;
}

/* The read that a look at one row leaves, and the writes that the model expects. */
static void judge_events(const struct sim_op *op, const struct dbos_record_head *head,
                         struct dbos_record_decoder *decoder, uint32_t writes) {
    struct dbos_event event;
    uint32_t found = 0;
    uint64_t reads = 0;
    bool is_absent = false;
    while (dbos_record_next(decoder, &event)) {
        found += event.op == DBOS_EVENT_INSERT || event.op == DBOS_EVENT_UPDATE ||
                 event.op == DBOS_EVENT_DELETE;
        if (event.op == DBOS_EVENT_INSERT) {
            judge_birth(&event);
        }
        reads += event.op == DBOS_EVENT_READ ? event.count : 0;
        is_absent |= event.op == DBOS_EVENT_ABSENT;
    }
    if (!sim_is_ddl(op) && found != writes) {
        sim_wrong("position %llu wrote %u rows, the model %u", (unsigned long long)head->position,
                  found, writes);
    }
    if (op->kind == SIM_GET && head->outcome == DBOS_OK &&
        (reads != op->answer.rows || (reads == 0) != is_absent) && op->is_acked) {
        sim_wrong("position %llu read %llu rows and sent %u", (unsigned long long)head->position,
                  (unsigned long long)reads, op->answer.rows);
    }
}

static void expect_answer(const struct sim_op *op, const struct sim_answer *expected,
                          const char *where) {
    char told[200];
    char should[200];
    if (sim_answers_agree(&op->answer, expected)) {
        return;
    }
    sim_describe(op, &op->answer, told, sizeof told);
    sim_describe(op, expected, should, sizeof should);
    sim_wrong("operation %u, %s, was told\n  %s, position %llu; it should be\n  %s",
              (unsigned)(op - world.ops), where, told, (unsigned long long)op->position, should);
}

static struct sim_op *op_of(const struct dbos_record_head *head) {
    bool is_ours = head->request > 0 && head->request <= world.op_count;
    struct sim_op *op = is_ours ? &world.ops[head->request - 1] : NULL;
    return op != NULL && op->life >= world.unjudged ? op : NULL;
}

/* No memory: what it read is there, and nothing that it wrote. */
static void judge_given_up(const struct sim_op *op, struct dbos_record_decoder *decoder) {
    struct dbos_event event;
    bool has_written = false;
    while (dbos_record_next(decoder, &event)) {
        has_written |= event.op == DBOS_EVENT_INSERT || event.op == DBOS_EVENT_UPDATE ||
                       event.op == DBOS_EVENT_DELETE;
    }
    if (has_written || (op->is_acked && strcmp(op->answer.error, "53200") != 0)) {
        sim_wrong("operation %u found no memory, and has written or was told something else",
                  (unsigned)(op - world.ops));
    }
}

/* A record of the life before, in the order of the log: the model does the same. */
static void judge_new(const struct dbos_record_head *head, struct dbos_record_decoder *decoder) {
    struct sim_op *op = op_of(head);
    struct dbos_event event;
    uint32_t writes = 0;
    if (op == NULL) {
        if (head->position > SETUP) {
            sim_wrong("position %llu is of request %llu, which nobody made",
                      (unsigned long long)head->position, (unsigned long long)head->request);
        }
        while (dbos_record_next(decoder, &event)) {
        }
        return;
    }
    if (op->logged != 0) {
        sim_wrong("operation %u stands at %llu and at %llu", (unsigned)(op - world.ops),
                  (unsigned long long)op->logged, (unsigned long long)head->position);
    }
    op->logged = head->position;
    if (op->is_acked && op->position != op->logged) {
        sim_wrong("operation %u was told position %llu and stands at %llu",
                  (unsigned)(op - world.ops), (unsigned long long)op->position,
                  (unsigned long long)op->logged);
    }
    if (head->outcome == DBOS_ERR_NOMEM && world.was_short) {
        judge_given_up(op, decoder);
        return;
    }
    struct sim_answer expected =
        sim_model_run(&world.model, op, head->position, head->outcome != DBOS_OK, &writes);
    if (op->is_acked) {
        expect_answer(op, &expected, "in the log");
    }
    if ((head->outcome == DBOS_OK) != (expected.error[0] == '\0')) {
        sim_wrong("position %llu has outcome %u, the model '%s'",
                  (unsigned long long)head->position, head->outcome, expected.error);
    }
    judge_events(op, head, decoder, writes);
}

static void judge_new_record(const struct dbos_record_head *head,
                             struct dbos_record_decoder *decoder) {
    struct dbos_errinfo info = {0};
    judge_new(head, decoder);
    if (dbos_record_end(decoder, &info) != DBOS_OK) {
        sim_wrong("position %llu: %s", (unsigned long long)head->position, info.message);
    }
}

/* What the archive has is what the log has. */
static void judge_copy(uint64_t position, const uint8_t *record, size_t size_bytes) {
    size_t kept_bytes = 0;
    const uint8_t *kept = sim_archive_record(position, &kept_bytes);
    if (kept != NULL && (kept_bytes != size_bytes || memcmp(kept, record, size_bytes) != 0)) {
        sim_wrong("the archive has another position %llu than the log",
                  (unsigned long long)position);
    }
}

static void judge_bytes(struct walk *walk, const uint8_t *record, size_t size_bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_errinfo info = {0};
    int64_t commit_us = 0;
    uint64_t position = dbos_record_peek(record, size_bytes, &commit_us);
    uint32_t crc = dbos_crc32c(0, record, size_bytes);
    if (position != walk->last + 1 || position >= POSITIONS_MAX) {
        sim_wrong("position %llu follows %llu", (unsigned long long)position,
                  (unsigned long long)walk->last);
    }
    walk->last = position;
    judge_copy(position, record, size_bytes);
    if (position <= world.judged) {
        if (world.crcs[position] != crc) {
            sim_wrong("position %llu has changed", (unsigned long long)position);
        }
        return;
    }
    world.crcs[position] = crc;
    if (dbos_record_open(record, size_bytes, &walk->scratch, &head, &decoder, &info) != DBOS_OK) {
        sim_wrong("a record: %s", info.message);
    }
    judge_new_record(&head, &decoder);
}

/* The log begins where the archive does not end: what was cut off it is read there. */
static void begin_walk(struct walk *walk, const struct dbos_batch *batch) {
    walk->first = batch->first_position;
    if (walk->first > sim_archive_exported() + 1) {
        sim_wrong("the log begins at %llu, the archive ends at %llu",
                  (unsigned long long)walk->first, (unsigned long long)sim_archive_exported());
    }
    for (walk->last = world.judged; walk->last + 1 < walk->first;) {
        size_t size_bytes = 0;
        const uint8_t *record = sim_archive_record(walk->last + 1, &size_bytes);
        judge_bytes(walk, record, size_bytes);
    }
    walk->last = walk->first - 1;
}

static void judge_batch(struct walk *walk, const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    const uint8_t *record = NULL;
    if (walk->first == 0) {
        begin_walk(walk, batch);
    }
    while ((record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        judge_bytes(walk, record, size_bytes);
    }
}

static enum dbos_read_result read_log(struct walk *walk, bool judges, struct dbos_errinfo *info) {
    struct dbos_log_reader *reader = NULL;
    struct dbos_batch batch;
    enum dbos_read_result result;
    uint32_t lowest = 0;
    uint32_t highest = 0;
    dbos_record_scratch_init(&walk->scratch, &world.alloc);
    if (dbos_log_segment_range(sim_disk_env(), SIM_DATA_DIR, &lowest, &highest, info) != DBOS_OK ||
        dbos_log_reader_open(&world.alloc, sim_disk_env(), SIM_DATA_DIR, lowest, 0, &reader,
                             info) != DBOS_OK) {
        sim_wrong("the log: %s", info->message);
    }
    while ((result = dbos_log_reader_next(reader, &batch, info)) == DBOS_READ_BATCH) {
        if (judges) {
            judge_batch(walk, &batch);
        }
    }
    dbos_log_reader_close(reader);
    dbos_record_scratch_fini(&walk->scratch);
    return result;
}

static uint64_t walk_log(void) {
    struct dbos_errinfo info = {0};
    struct walk walk = {0};
    if (world.is_damaged && read_log(&walk, false, &info) == DBOS_READ_CORRUPT) {
        sim_crash(); /* before the snapshot that it began with: the archiver refuses it */
    }
    if (read_log(&walk, true, &info) == DBOS_READ_CORRUPT) {
        sim_wrong("the log: %s", info.message);
    }
    if (walk.first != 0 && world.engine->recovery.first_position != walk.first &&
        !world.had_fault) { /* of an old segment that can not be read it says nothing */
        sim_wrong("the log begins at %llu, recovery says %llu", (unsigned long long)walk.first,
                  (unsigned long long)world.engine->recovery.first_position);
    }
    if (sim_archive_exported() > walk.last) {
        sim_wrong("the archive ends at %llu, the log at %llu",
                  (unsigned long long)sim_archive_exported(), (unsigned long long)walk.last);
    }
    return walk.last;
}

/* Asynchronously, and told so long before the end that it was written since. */
static bool was_flushed(const struct sim_op *op) {
    return op->is_flushed_in_time && op->acked_ns + ASYNC_NS_MAX < world.ended_ns;
}

/* What was told and has no place in the log: a read whose own record was lost saw only what is
 * there; everything else that was told and should be there is lost. */
static void judge_unlogged(void) {
    for (uint32_t i = 0; i < world.op_count; i++) {
        struct sim_op *op = &world.ops[i];
        if (op->life < world.unjudged || !op->is_acked || op->logged != 0 ||
            !(op->is_sync || was_flushed(op))) {
            continue;
        }
        uint32_t writes = 0;
        bool is_refused = strcmp(op->answer.error, "53100") == 0 ||
                          (world.was_short && strcmp(op->answer.error, "53200") == 0);
        if (op->position == 0 || is_refused) {
            continue; /* it left no record: an error that met nothing, or nothing was read */
        }
        struct sim_answer expected = sim_model_run(&world.model, op, op->position, true, &writes);
        if (writes != 0 && op->answer.error[0] == '\0') {
            char told[200];
            sim_describe(op, &op->answer, told, sizeof told);
            sim_wrong("LOST: operation %u was acknowledged at position %llu: %s", i,
                      (unsigned long long)op->position, told);
        }
        expect_answer(op, &expected, "its record lost");
    }
}

/* --- rows ------------------------------------------------------------------------------------ */

static bool is_text(const struct dbos_bytes *text, char letter) {
    const char *bytes = (const char *)text->data;
    size_t same = 0;
    while (same < text->size_bytes && bytes[same] == letter) {
        same++;
    }
    return same == text->size_bytes;
}

static void judge_rows(void) {
    uint32_t found = 0;
    struct dbos_catalog *catalog = dbos_store_catalog(world.engine->store);
    struct dbos_table_def *def = dbos_catalog_table(catalog, "public", "t");
    DBOS_CHECK(def != NULL);
    for (int64_t k = 0; k < SIM_KEYS; k++) {
        struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, k);
        uint32_t partition = dbos_store_partition_of(world.engine->store, dbos_slot_of(&key));
        struct dbos_table *table = dbos_store_table(world.engine->store, def->id, partition);
        const struct dbos_row *row = dbos_table_find(table, 0, &key);
        const struct sim_row *model = &world.model.rows[k];
        if ((row != NULL) != model->is_there) {
            sim_wrong("row %lld is %s", (long long)k, row == NULL ? "lost" : "there again");
        }
        if (row == NULL) {
            continue;
        }
        struct dbos_datum n = dbos_row_column(def, row, 1);
        struct dbos_datum v = dbos_row_column(def, row, 2);
        found++;
        if (!is_text(&v.bytes, model->letter)) {
            sim_wrong("row %lld has another text", (long long)k);
        }
        if (n.integer != model->n || v.bytes.size_bytes != model->text_bytes ||
            row->position != model->position) {
            sim_wrong("row %lld is (%lld, %zu bytes, position %llu), the model (%lld, %u, %llu)",
                      (long long)k, (long long)n.integer, (size_t)v.bytes.size_bytes,
                      (unsigned long long)row->position, (long long)model->n, model->text_bytes,
                      (unsigned long long)model->position);
        }
    }
    sim_trace(found);
}

/* The table that comes and goes. */
static void judge_table(void) {
    struct dbos_catalog *catalog = dbos_store_catalog(world.engine->store);
    struct dbos_table_def *def = dbos_catalog_table(catalog, "public", "u");
    if ((def != NULL) != world.model.has_table) {
        sim_wrong("table u is %s", def == NULL ? "lost" : "there again");
    }
    for (int64_t k = 0; def != NULL && k < SIM_KEYS; k++) {
        struct dbos_datum key = dbos_datum_int(DBOS_TYPE_INT8, k);
        struct dbos_table *table = dbos_store_table(world.engine->store, def->id, 0);
        if ((dbos_table_find(table, 0, &key) != NULL) != world.model.in_table[k]) {
            sim_wrong("row %lld of u is lost, or there again", (long long)k);
        }
    }
}

/* What verification has said of the disk is what start-up finds. */
static void judge_verification(void) {
    const struct dbos_log_findings *seen = &world.seen;
    const struct dbos_recovery *recovery = &world.engine->recovery;
    if (!world.is_verified || world.is_damaged || world.had_fault) {
        return;
    }
    if (world.seen_err != DBOS_OK) {
        if (recovery->last_position != 0) { /* else there was nothing yet, not even a directory */
            sim_wrong("verification found damage, and recovery none: %s", world.seen_info.message);
        }
        return;
    }
    const struct {
        const char *what;
        uint64_t seen;
        uint64_t found;
    } facts[] = {
        {"the last position", seen->log.last_position, recovery->last_position},
        {"the first position", seen->log.first_position, recovery->first_position},
        {"the state hash", seen->log.state_hash, recovery->state_hash},
        {"records", seen->log.records, recovery->records},
        {"batches", seen->log.batches, recovery->batches},
        {"bytes", seen->log.bytes, recovery->bytes},
        {"torn bytes", seen->log.torn_bytes, recovery->torn_bytes},
        {"the last commit", (uint64_t)seen->log.last_commit_us, (uint64_t)recovery->last_commit_us},
        {"the snapshot", seen->snapshot.position, world.engine->loaded.position},
        {"its rows", seen->snapshot.rows, world.engine->loaded.rows},
        {"its bytes", seen->snapshot.bytes, world.engine->loaded.bytes},
    };
    for (uint32_t i = 0; i < sizeof facts / sizeof facts[0]; i++) {
        if (facts[i].seen != facts[i].found) {
            sim_wrong("%s: verification saw %llu, recovery %llu", facts[i].what,
                      (unsigned long long)facts[i].seen, (unsigned long long)facts[i].found);
        }
    }
}

void sim_judge_start(void) {
    judge_verification();
    uint64_t last = walk_log();
    if (last != world.engine->recovery.last_position || last < world.judged) {
        sim_wrong("the log ends at %llu, recovery says %llu; %llu had been recovered before",
                  (unsigned long long)last,
                  (unsigned long long)world.engine->recovery.last_position,
                  (unsigned long long)world.judged);
    }
    judge_unlogged();
    world.judged = last;
    world.unjudged = world.life;
    world.was_short = false;
    judge_rows();
    judge_table();
    uint64_t hash = dbos_store_state_hash(world.engine->store);
    if (world.state_hash != 0 && hash != world.state_hash) {
        sim_wrong("the state hash was %llx at the stop and is %llx",
                  (unsigned long long)world.state_hash, (unsigned long long)hash);
    }
    world.state_hash = 0;
}

/* --- the other moments ----------------------------------------------------------------------- */

/* A bit of what an orderly stop has left: nothing of it is without a checksum. */
static void judge_flip(void) {
    uint64_t offset = 0;
    const char *path = sim_disk_flipped(&offset);
    if (path == NULL || !world.was_stopped || strstr(path, "lock") != NULL) {
        return;
    }
    if (world.seen_err == DBOS_OK) {
        sim_wrong("verification does not see a flipped bit of %s, offset %llu", path,
                  (unsigned long long)offset);
    }
}

/* Nothing is changed by it, and nothing stays open. */
void sim_judge_disk(void) {
    struct dbos_alloc alloc;
    world.is_verified = world.is_damaged || sim_dice(2) == 0;
    if (!world.is_verified) {
        return;
    }
    uint64_t before = sim_disk_hash();
    dbos_alloc_init(&alloc, "verification", 0);
    world.seen_err =
        dbos_log_verify(&alloc, sim_disk_env(), SIM_DATA_DIR, &world.seen, &world.seen_info);
    dbos_alloc_fini(&alloc);
    judge_flip();
    if (sim_disk_hash() != before || sim_disk_open_files() != 0) {
        sim_wrong("verification has changed the disk, or left %u files open",
                  sim_disk_open_files());
    }
}

/* How long an answer may take: nobody waits for what does not come. */
void sim_judge_time(const struct sim_op *op) {
    enum { GOOD_MS = 50, SLOW_MS = 2000, BACKLOG_MS = 1000, SMALL_MS = 8000 };
    uint64_t took_ms = (op->acked_ns - op->begun_ns) / 1000000;
    uint64_t most_ms = GOOD_MS;
    most_ms += world.is_slow ? SLOW_MS : 0;
    most_ms += world.has_small_backlog ? BACKLOG_MS : 0;
    most_ms += world.is_small ? SMALL_MS : 0;
    if (took_ms > most_ms) {
        sim_wrong("operation %u took %llu ms", (unsigned)(op - world.ops),
                  (unsigned long long)took_ms);
    }
}

/* The log is on the disk, there is room, and the archive has all of it. */
void sim_judge_rest(void) {
    uint64_t last = dbos_log_last_position(world.engine->log);
    if (dbos_engine_durable(world.engine) != last || dbos_log_synced(world.engine->log) != last) {
        sim_wrong("of %llu positions %llu are durable and %llu synced", (unsigned long long)last,
                  (unsigned long long)dbos_engine_durable(world.engine),
                  (unsigned long long)dbos_log_synced(world.engine->log));
    }
    if (dbos_log_is_disk_full(world.engine->log)) {
        sim_wrong("it takes the disk for full");
    }
    if (world.has_archive && !world.is_damaged && sim_archive_taken() != last) {
        sim_wrong("of %llu positions the archive has %llu", (unsigned long long)last,
                  (unsigned long long)sim_archive_taken());
    }
}

/* All that was appended was written, and is counted. */
void sim_judge_stop(void) {
    struct dbos_log_stats stats;
    dbos_log_wait(world.engine->log, dbos_log_last_position(world.engine->log));
    dbos_log_stats(world.engine->log, &stats);
    uint64_t taken = dbos_log_last_position(world.engine->log);
    if (stats.in_flight_bytes != 0 || dbos_engine_durable(world.engine) != taken ||
        stats.records != taken - world.engine->recovery.last_position) {
        sim_wrong("at the stop %llu bytes are on their way, and %llu records written of %llu",
                  (unsigned long long)stats.in_flight_bytes, (unsigned long long)stats.records,
                  (unsigned long long)(taken - world.engine->recovery.last_position));
    }
}
