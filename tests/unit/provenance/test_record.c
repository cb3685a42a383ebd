#include "provenance/record.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "base/hash.h"
#include "provenance/capture.h"
#include "provenance/record_format.h"

TestSuite(provenance_record, .timeout = 60);

enum { EVENTS_MAX = 200, BYTES_MAX = 40 };

/* What was told to the capture, as the decoder must give it back. */
struct expected {
    struct dbos_event events[EVENTS_MAX];
    size_t count;
    uint8_t bytes[EVENTS_MAX * 4][BYTES_MAX];
    size_t bytes_count;
    struct dbos_buf arguments; /* as stored datums */
};

static struct dbos_bytes random_bytes(struct expected *expected, struct dbos_rng *rng) {
    uint8_t *to = expected->bytes[expected->bytes_count++];
    size_t size = dbos_rng_below(rng, BYTES_MAX);
    for (size_t i = 0; i < size; i++) {
        to[i] = (uint8_t)dbos_rng_next(rng);
    }
    return (struct dbos_bytes){.data = to, .size_bytes = size};
}

static struct dbos_row *row_with(struct dbos_alloc *alloc, uint64_t block, uint64_t position,
                                 struct dbos_bytes payload) {
    struct dbos_row *row = dbos_take_zero(alloc, sizeof *row + payload.size_bytes + 1);
    row->block = block;
    row->position = position;
    row->size_bytes = (uint32_t)payload.size_bytes;
    memcpy(row->payload, payload.data, payload.size_bytes);
    return row;
}

/* Small and large numbers alike. */
static uint64_t random_number(struct dbos_rng *rng) {
    return dbos_rng_next(rng) >> dbos_rng_below(rng, 64);
}

static struct dbos_event *expect(struct expected *expected, uint8_t op, uint16_t statement) {
    struct dbos_event *event = &expected->events[expected->count++];
    *event = (struct dbos_event){.op = op, .statement = statement};
    return event;
}

static void write_random(struct dbos_capture *capture, struct dbos_alloc *alloc,
                         struct expected *expected, struct dbos_rng *rng, uint16_t statement,
                         uint64_t own_position, bool aborted) {
    struct dbos_event scratch;
    uint8_t op = (uint8_t)(1 + dbos_rng_below(rng, 3));
    struct dbos_event *event = aborted ? &scratch : expect(expected, op, statement);
    *event = (struct dbos_event){.op = op, .statement = statement, .count = 1};
    event->table_id = (uint32_t)dbos_rng_below(rng, 3) + 100;
    event->block = random_number(rng);
    if (dbos_rng_below(rng, 2) == 0 && expected->count > 1) {
        /* The slot of an event before it. */
        event->block = expected->events[expected->count - 2].block + (random_number(rng) << 10);
    }
    uint64_t position = dbos_rng_below(rng, 3) == 0 ? 0 : random_number(rng);
    struct dbos_bytes before = random_bytes(expected, rng);
    struct dbos_bytes after = random_bytes(expected, rng);
    struct dbos_row *old = row_with(alloc, event->block, position, before);
    struct dbos_row *fresh = row_with(alloc, event->block, 0, after);
    struct dbos_table_def def = {.id = event->table_id};
    if (op == DBOS_EVENT_INSERT) {
        dbos_capture_insert(capture, &def, fresh);
    } else if (op == DBOS_EVENT_UPDATE) {
        dbos_capture_update(capture, &def, old, fresh);
    } else {
        dbos_capture_delete(capture, &def, old);
    }
    if (op != DBOS_EVENT_INSERT) {
        event->previous_position = position == 0 ? own_position : position;
        event->before = before;
    }
    if (op != DBOS_EVENT_DELETE) {
        event->after = after;
    }
    dbos_give(alloc, old);
    dbos_give(alloc, fresh);
}

/* A run of reads, some of them twice. */
static void read_random(struct dbos_capture *capture, struct expected *expected,
                        struct dbos_rng *rng, uint16_t statement) {
    uint32_t table_id = (uint32_t)dbos_rng_below(rng, 3) + 100;
    uint64_t count = 1 + dbos_rng_below(rng, 5);
    /* Near and far, and never one that was read before. */
    uint64_t block = (expected->count + 1) * 10000019u + (dbos_rng_next(rng) >> 40 << 30);
    for (uint64_t i = 0; i < count; i++) {
        dbos_capture_read(capture, table_id, block + i * DBOS_BLOCK_STEP);
        dbos_capture_read(capture, table_id, block + i * DBOS_BLOCK_STEP);
    }
    struct dbos_event *event = expect(expected, DBOS_EVENT_READ, statement);
    event->table_id = table_id;
    event->block = block;
    event->count = count;
}

static void search_random(struct dbos_capture *capture, struct expected *expected,
                          struct dbos_rng *rng, uint16_t statement) {
    uint8_t op = (uint8_t)(5 + dbos_rng_below(rng, 4));
    struct dbos_event *event = expect(expected, op, statement);
    event->count = random_number(rng);
    if (op == DBOS_EVENT_EGRESS) {
        event->bytes = random_number(rng);
        event->digest = dbos_rng_next(rng);
        dbos_capture_egress(capture, event->count, event->bytes, event->digest);
        return;
    }
    event->table_id = (uint32_t)random_number(rng);
    if (op == DBOS_EVENT_SCAN) {
        event->partition = (uint16_t)random_number(rng);
        dbos_capture_scan(capture, event->table_id, event->partition, event->count);
        return;
    }
    event->index_id = (uint32_t)random_number(rng);
    event->low = random_bytes(expected, rng);
    if (op == DBOS_EVENT_ABSENT) {
        event->count = 0;
        dbos_capture_absent(capture, event->table_id, event->index_id, event->low);
        return;
    }
    event->high = random_bytes(expected, rng);
    event->bound_flags = (uint8_t)dbos_rng_below(rng, 4);
    dbos_capture_range(capture, event->table_id, event->index_id, event->low, event->high,
                       event->bound_flags, event->count);
}

static bool same_bytes(struct dbos_bytes a, struct dbos_bytes b) {
    return a.size_bytes == b.size_bytes &&
           (a.size_bytes == 0 || memcmp(a.data, b.data, a.size_bytes) == 0);
}

static bool same_event(const struct dbos_event *a, const struct dbos_event *b) {
    return a->op == b->op && a->statement == b->statement && a->partition == b->partition &&
           a->table_id == b->table_id && a->index_id == b->index_id && a->block == b->block &&
           a->count == b->count && a->previous_position == b->previous_position &&
           a->statement_id == b->statement_id && a->bytes == b->bytes && a->digest == b->digest &&
           a->bound_flags == b->bound_flags && same_bytes(a->before, b->before) &&
           same_bytes(a->after, b->after) && same_bytes(a->low, b->low) &&
           same_bytes(a->high, b->high);
}

static int64_t near_or_far(struct dbos_rng *rng, int64_t to) {
    uint64_t distance = random_number(rng);
    return (int64_t)(dbos_rng_below(rng, 2) == 0 ? (uint64_t)to + distance
                                                 : (uint64_t)to - distance);
}

static struct dbos_record_head random_head(struct dbos_rng *rng, bool aborted) {
    int64_t commit_us = near_or_far(rng, DBOS_RECORD_EPOCH_US);
    uint16_t partition = (uint16_t)random_number(rng);
    return (struct dbos_record_head){
        .position = random_number(rng) + 1,
        .commit_us = commit_us,
        .start_us = near_or_far(rng, commit_us),
        .partition = dbos_rng_below(rng, 3) == 0 ? DBOS_PARTITION_ALL : partition,
        .partitions = (uint16_t)random_number(rng),
        .flags = aborted ? DBOS_RECORD_ABORTED : 0,
        .outcome = aborted ? DBOS_ERR_RAISED : DBOS_OK,
        .session = (dbos_rng_below(rng, 2) == 0 ? random_number(rng)
                                                : (uint64_t)near_or_far(rng, commit_us)) |
                   1,
        .request = random_number(rng),
        .procedure = (uint32_t)random_number(rng),
        .procedure_version = (uint32_t)random_number(rng),
        .task_id = dbos_rng_below(rng, 2) == 0 ? 0 : random_number(rng),
        .has_seed = dbos_rng_below(rng, 2) == 0,
    };
}

static void expect_head(const struct dbos_record_head *a, const struct dbos_record_head *b) {
    cr_assert_eq(a->position, b->position);
    cr_assert_eq(a->commit_us, b->commit_us);
    cr_assert_eq(a->start_us, b->start_us);
    cr_assert_eq(a->partition, b->partition);
    cr_assert_eq(a->partitions, b->partitions);
    cr_assert_eq(a->flags, b->flags);
    cr_assert_eq(a->outcome, b->outcome);
    cr_assert_eq(a->session, b->session);
    cr_assert_eq(a->request, b->request);
    cr_assert_eq(a->procedure, b->procedure);
    cr_assert_eq(a->procedure_version, b->procedure_version);
    cr_assert_eq(a->task_id, b->task_id);
    cr_assert_eq(a->seed, b->seed);
    cr_assert_eq(a->has_seed, b->has_seed);
    cr_assert(!a->has_hash_delta);
    cr_assert_eq(a->argument_count, b->argument_count);
}

struct made {
    uint8_t *data;
    size_t size_bytes;
};

enum { ARGUMENTS = 6 };

/* Of several kinds; `to` gets them as the head wants them, `plain` as they must come back. */
static void random_arguments(struct dbos_rng *rng, struct dbos_datum *datums, struct dbos_buf *to,
                             struct dbos_buf *plain) {
    static const uint8_t text[] = "some text";
    datums[0] = dbos_datum_int(DBOS_TYPE_INT8, (int64_t)dbos_rng_next(rng));
    datums[1] = dbos_datum_int(DBOS_TYPE_INT4, (int64_t)dbos_rng_below(rng, 20) - 2);
    datums[2] = dbos_datum_null(DBOS_TYPE_TEXT);
    datums[3] = dbos_datum_real(-0.5);
    datums[4] = dbos_datum_bytes(DBOS_TYPE_VARCHAR, text, dbos_rng_below(rng, sizeof text));
    datums[5] = dbos_datum_int(DBOS_TYPE_BOOL, 1);
    dbos_buf_reset(to);
    dbos_buf_reset(plain);
    for (int i = 0; i < ARGUMENTS; i++) {
        dbos_image_put_argument(to, &datums[i]);
        dbos_datum_put(plain, &datums[i], true);
    }
}

/* A random record; `expected` has its events, without definitions. */
static struct made random_record(struct dbos_capture *capture, struct dbos_alloc *alloc,
                                 struct expected *expected, struct dbos_rng *rng,
                                 struct dbos_record_head *head) {
    uint16_t statement = 0;
    bool aborted = dbos_rng_below(rng, 4) == 0;
    struct dbos_datum datums[ARGUMENTS];
    struct dbos_buf arguments;
    *head = random_head(rng, aborted);
    head->seed = head->has_seed ? dbos_rng_next(rng) : 0;
    expected->count = 0;
    expected->bytes_count = 0;
    dbos_buf_init(&arguments, alloc);
    random_arguments(rng, datums, &arguments, &expected->arguments);
    head->argument_count = ARGUMENTS;
    head->arguments = (struct dbos_bytes){arguments.data, arguments.size_bytes};
    dbos_capture_begin(capture);
    dbos_capture_arguments(capture, datums, ARGUMENTS);
    for (uint64_t steps = dbos_rng_below(rng, EVENTS_MAX); steps != 0; steps--) {
        uint64_t what = dbos_rng_below(rng, 10);
        if (what == 0 && dbos_rng_below(rng, 2) == 0) {
            struct dbos_event *event = expect(expected, DBOS_EVENT_STATEMENT, ++statement);
            uint32_t ordinal = (uint32_t)random_number(rng);
            event->statement_id =
                dbos_record_statement_id(head->procedure, head->procedure_version, ordinal);
            dbos_capture_ordinal(capture, ordinal, event->statement_id, "its text");
        } else if (what == 0) {
            struct dbos_event *event = expect(expected, DBOS_EVENT_STATEMENT, ++statement);
            event->statement_id = 1 + dbos_rng_below(rng, 9);
            dbos_capture_statement(capture, event->statement_id, "a text");
        } else if (what < 5) {
            read_random(capture, expected, rng, statement);
        } else if (what < 7) {
            search_random(capture, expected, rng, statement);
        } else {
            write_random(capture, alloc, expected, rng, statement, head->position, aborted);
        }
    }
    struct dbos_session_info session = {.id = head->session, .user = "u", .role = "r"};
    cr_assert_eq(dbos_capture_reserve(capture, 3), DBOS_OK);
    size_t max = dbos_capture_record_bytes_max(capture, head);
    struct made made = {.data = malloc(max)};
    made.size_bytes = dbos_capture_finish(capture, head, &session, made.data);
    cr_assert_leq(made.size_bytes, max);
    dbos_buf_fini(&arguments);
    return made;
}

Test(provenance_record, random_records_come_back_as_they_were_told) {
    struct dbos_alloc alloc;
    struct dbos_capture *capture = NULL;
    struct dbos_rng rng;
    struct expected *expected = calloc(1, sizeof *expected);
    struct dbos_record_scratch scratch;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&expected->arguments, &alloc);
    dbos_record_scratch_init(&scratch, &alloc);
    dbos_rng_init(&rng, 42);
    cr_assert_eq(dbos_capture_open(&alloc, &capture), DBOS_OK);
    for (int round = 0; round < 400; round++) {
        struct dbos_record_head head;
        struct dbos_record_head back;
        struct dbos_record_decoder decoder;
        struct dbos_event event;
        struct dbos_errinfo info;
        struct made made = random_record(capture, &alloc, expected, &rng, &head);
        cr_assert_eq(dbos_record_open(made.data, made.size_bytes, &scratch, &back, &decoder, &info),
                     DBOS_OK, "%s", info.message);
        expect_head(&back, &head);
        cr_assert(same_bytes(back.arguments, (struct dbos_bytes){expected->arguments.data,
                                                                 expected->arguments.size_bytes}));
        size_t at = 0;
        while (dbos_record_next(&decoder, &event)) {
            if (event.op == DBOS_EVENT_SESSION || event.op == DBOS_EVENT_TEXT) {
                cr_assert_eq(at, 0, "definitions stand in front");
                continue;
            }
            cr_assert_lt(at, expected->count);
            cr_assert(same_event(&event, &expected->events[at]), "round %d, event %zu, op %u",
                      round, at, event.op);
            at++;
        }
        cr_assert(!decoder.failed);
        cr_assert_eq(at, expected->count);
        int64_t commit_us = 0;
        cr_assert_eq(dbos_record_peek(made.data, made.size_bytes, &commit_us), head.position);
        cr_assert_eq(commit_us, head.commit_us);
        free(made.data);
    }
    dbos_record_scratch_fini(&scratch);
    dbos_buf_fini(&expected->arguments);
    dbos_capture_close(capture);
    dbos_alloc_fini(&alloc);
    free(expected);
}

/* Walk a record to its end, whatever it is. */
static bool walk(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    struct dbos_errinfo info;
    dbos_record_scratch_init(&scratch, alloc);
    bool whole = dbos_record_open(data, size_bytes, &scratch, &head, &decoder, &info) == DBOS_OK;
    while (whole && dbos_record_next(&decoder, &event)) {
    }
    dbos_record_scratch_fini(&scratch);
    return whole && dbos_record_end(&decoder, &info) == DBOS_OK;
}

static void reseal(uint8_t *data, size_t size_bytes) {
    dbos_store_u32(data, 2u << DBOS_RECORD_SIZE_BITS | (uint32_t)size_bytes);
}

/* Goal: no bytes make the decoder read too far. Method: cut and changed records, with the size that
 * they have, in blocks of their own for ASan. */
Test(provenance_record, cut_and_changed_records_are_refused_or_walked_without_harm) {
    struct dbos_alloc alloc;
    struct dbos_capture *capture = NULL;
    struct dbos_rng rng;
    struct expected *expected = calloc(1, sizeof *expected);
    struct dbos_record_head head;
    uint64_t refused = 0;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&expected->arguments, &alloc);
    dbos_rng_init(&rng, 43);
    cr_assert_eq(dbos_capture_open(&alloc, &capture), DBOS_OK);
    for (int round = 0; round < 30; round++) {
        struct made made = random_record(capture, &alloc, expected, &rng, &head);
        for (size_t cut = 0; cut < made.size_bytes; cut += 1 + cut / 50) {
            uint8_t *copy = malloc(cut + 1);
            memcpy(copy, made.data, cut);
            cr_assert(!walk(&alloc, copy, cut), "a record without its end was taken");
            if (cut >= 4) {
                uint8_t *exact = malloc(cut);
                memcpy(exact, made.data, cut);
                reseal(exact, cut);
                refused += !walk(&alloc, exact, cut);
                free(exact);
            }
            free(copy);
        }
        for (int change = 0; change < 300; change++) {
            uint8_t *copy = malloc(made.size_bytes);
            memcpy(copy, made.data, made.size_bytes);
            size_t at = 4 + dbos_rng_below(&rng, made.size_bytes - 4);
            copy[at] = (uint8_t)(copy[at] ^ (1u << dbos_rng_below(&rng, 8)));
            refused += !walk(&alloc, copy, made.size_bytes);
            free(copy);
        }
        free(made.data);
    }
    cr_expect_gt(refused, 100);
    dbos_buf_fini(&expected->arguments);
    dbos_capture_close(capture);
    dbos_alloc_fini(&alloc);
    free(expected);
}

Test(provenance_record, a_newer_version_is_refused_by_name) {
    struct dbos_record_scratch scratch;
    uint8_t record[80] = {0};
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_errinfo info;
    dbos_record_scratch_init(&scratch, NULL);
    dbos_store_u32(record, 3u << DBOS_RECORD_SIZE_BITS | (uint32_t)sizeof record);
    cr_expect_eq(dbos_record_open(record, sizeof record, &scratch, &head, &decoder, &info),
                 DBOS_ERR_FORMAT_VERSION);
    dbos_store_u32(record, (uint32_t)sizeof record);
    dbos_store_u16(record + 8, 2);
    dbos_store_u32(record + 4, dbos_crc32c(0, record + 8, sizeof record - 8));
    cr_expect_eq(dbos_record_open(record, sizeof record, &scratch, &head, &decoder, &info),
                 DBOS_ERR_FORMAT_VERSION);
}

static size_t definitions(struct dbos_capture *capture, uint64_t session_id, uint64_t text_id) {
    static uint8_t record[16384];
    struct dbos_record_head head = {.position = 1, .session = session_id};
    struct dbos_session_info session = {.id = session_id, .user = "u"};
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    struct dbos_errinfo info;
    size_t found = 0;
    dbos_record_scratch_init(&scratch, NULL);
    dbos_capture_begin(capture);
    dbos_capture_statement(capture, text_id, "select");
    dbos_capture_statement(capture, text_id, "select");
    cr_assert_eq(dbos_capture_reserve(capture, 0), DBOS_OK);
    cr_assert_leq(dbos_capture_record_bytes_max(capture, &head), sizeof record);
    size_t size = dbos_capture_finish(capture, &head, &session, record);
    cr_assert_eq(dbos_record_open(record, size, &scratch, &head, &decoder, &info), DBOS_OK);
    while (dbos_record_next(&decoder, &event)) {
        found += event.op == DBOS_EVENT_SESSION;
        found += event.op == DBOS_EVENT_TEXT ? 10 : 0;
    }
    return found;
}

Test(provenance_record, definitions_are_written_once_and_again_only_if_their_record_was_dropped) {
    struct dbos_alloc alloc;
    struct dbos_capture *capture = NULL;
    dbos_alloc_init(&alloc, "test", 0);
    cr_assert_eq(dbos_capture_open(&alloc, &capture), DBOS_OK);
    dbos_capture_begin(capture);
    dbos_capture_statement(capture, 7, "dropped"); /* never finished */
    cr_expect_eq(definitions(capture, 3, 7), 11);
    cr_expect_eq(definitions(capture, 3, 7), 0);
    cr_expect_eq(definitions(capture, 3, 8), 10);
    cr_expect_eq(definitions(capture, 4, 8), 1);
    cr_expect_eq(definitions(capture, 3, 7), 0);
    /* The same place in the cache: what was pushed out is defined again, never left undefined. */
    cr_expect_eq(definitions(capture, 3 + 1024, 7 + 4096), 11);
    cr_expect_eq(definitions(capture, 3, 7), 11);
    dbos_capture_close(capture);
    dbos_alloc_fini(&alloc);
}

Test(provenance_record, memory_that_runs_out_is_remembered_until_the_next_begin) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    for (int64_t n = 1; n <= 4; n++) {
        struct dbos_capture *capture = NULL;
        atomic_store(&alloc.fail_countdown, n);
        if (dbos_capture_open(&alloc, &capture) != DBOS_OK) {
            cr_expect_eq(n, 1);
            cr_expect(capture == NULL);
            continue;
        }
        dbos_capture_statement(capture, 1, "text");
        for (uint64_t i = 0; i < 100; i++) {
            dbos_capture_read(capture, 1, i * 5000);
        }
        cr_expect(dbos_capture_failed(capture));
        cr_expect_eq(dbos_capture_reserve(capture, 0), DBOS_ERR_NOMEM);
        atomic_store(&alloc.fail_countdown, 0);
        dbos_capture_begin(capture);
        cr_expect(!dbos_capture_failed(capture));
        dbos_capture_close(capture);
    }
    dbos_alloc_fini(&alloc);
}
