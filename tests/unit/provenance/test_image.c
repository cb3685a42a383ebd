#include "provenance/image.h"

#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/hash.h"
#include "provenance/capture.h"
#include "provenance/record_format.h"
#include "tests/unit/storage/storage_support.c"

TestSuite(provenance_image, .timeout = 60);

static const struct test_table wide_table = {
    .id = 100,
    .name = "wide",
    .partition_column = -1,
    .columns = {{"a", DBOS_TYPE_INT8, false, 0},
                {"b", DBOS_TYPE_BOOL, false, 0},
                {"c", DBOS_TYPE_TEXT, false, 0},
                {"d", DBOS_TYPE_INT2, false, 0},
                {"e", DBOS_TYPE_BYTEA, false, 0},
                {"f", DBOS_TYPE_FLOAT8, false, 0},
                {"g", DBOS_TYPE_VARCHAR, false, 0},
                {"h", DBOS_TYPE_INT4, false, 0},
                {"i", DBOS_TYPE_TIMESTAMPTZ, false, 0}},
};
enum { WIDE_COLUMNS = 9, ARGUMENTS = 18, LONG_BYTES = 300 };

struct fixture {
    struct dbos_alloc alloc;
    struct dbos_slab slab; /* of the rows */
    struct dbos_objects *objects;
    struct dbos_table_def *def;
    struct dbos_rng rng;
    uint8_t room[WIDE_COLUMNS + ARGUMENTS][TEST_ROOM];
    uint8_t long_text[LONG_BYTES];
};

static void set_up(struct fixture *f) {
    dbos_alloc_init(&f->alloc, "test", 0);
    dbos_slab_init(&f->slab, &f->alloc);
    dbos_rng_init(&f->rng, 7);
    memset(f->long_text, 'x', sizeof f->long_text);
    cr_assert_eq(dbos_objects_open(&f->alloc, 42, &f->objects), DBOS_OK);
    f->def = test_def(&f->alloc, &wide_table);
}

static void tear_down(struct fixture *f) {
    dbos_table_def_unref(f->def);
    dbos_objects_close(f->objects);
    dbos_slab_fini(&f->slab);
    dbos_alloc_fini(&f->alloc);
}

/* Now and then NULL, any number, a long text, or what an argument is. */
static struct dbos_datum random_value(struct fixture *f, uint32_t column, uint8_t *room,
                                      const struct dbos_datum *arguments) {
    enum dbos_type type = (enum dbos_type)f->def->columns[column].type;
    const struct dbos_datum *argument = &arguments[dbos_rng_below(&f->rng, ARGUMENTS)];
    uint64_t choice = dbos_rng_below(&f->rng, 6);
    if (choice == 0 && !argument->is_null && argument->type == type) {
        return *argument;
    }
    if (choice == 1 && type == DBOS_TYPE_INT8) {
        return dbos_datum_int(type,
                              (int64_t)(dbos_rng_next(&f->rng) >> dbos_rng_below(&f->rng, 64)));
    }
    if (choice == 1 && type == DBOS_TYPE_TEXT) {
        return dbos_datum_bytes(type, f->long_text, dbos_rng_below(&f->rng, LONG_BYTES));
    }
    return test_random_datum(&f->rng, type, room);
}

static struct dbos_row *random_row(struct fixture *f, const struct dbos_datum *arguments,
                                   struct dbos_datum *datums, bool keep_some) {
    struct dbos_row *row = NULL;
    for (uint32_t i = 0; i < WIDE_COLUMNS; i++) {
        if (!keep_some || dbos_rng_below(&f->rng, 3) == 0) {
            datums[i] = random_value(f, i, f->room[i], arguments);
        }
    }
    cr_assert_eq(dbos_row_make(&f->slab, f->objects, f->def, datums, &row, NULL), DBOS_OK);
    return row;
}

static struct dbos_bytes payload_of(const struct dbos_row *row) {
    return (struct dbos_bytes){.data = row->payload, .size_bytes = row->size_bytes};
}

/* Into a block that ends where the image ends, for ASan, and back. */
static size_t round_trip(const struct dbos_image_arguments *arguments,
                         const struct dbos_table_def *def, struct dbos_bytes bytes,
                         struct dbos_bytes base) {
    uint8_t *room = malloc(dbos_image_bytes_max(bytes.size_bytes));
    const uint8_t *end = def == NULL ? dbos_image_put_key(room, arguments, bytes)
                                     : dbos_image_put_row(room, arguments, def, bytes, base);
    size_t size = (size_t)(end - room);
    cr_assert_leq(size, dbos_image_bytes_max(bytes.size_bytes));
    uint8_t *exact = malloc(size);
    memcpy(exact, room, size);
    struct dbos_reader reader = dbos_reader_of(exact, size);
    size_t made = 0;
    cr_assert(dbos_image_size(&reader, base, &made));
    cr_assert_eq(made, bytes.size_bytes);
    uint8_t *back = malloc(made + 1);
    dbos_image_get(&reader, arguments, base, back, made);
    cr_assert(!reader.failed);
    cr_assert_eq(dbos_reader_left(&reader), 0);
    cr_assert(made == 0 || memcmp(back, bytes.data, made) == 0);
    free(back);
    free(exact);
    free(room);
    return size;
}

static void random_arguments(struct fixture *f, struct dbos_datum *datums,
                             struct dbos_image_arguments *arguments) {
    arguments->count = 0;
    for (uint32_t i = 0; i < ARGUMENTS; i++) {
        enum dbos_type type = (enum dbos_type)f->def->columns[i % WIDE_COLUMNS].type;
        datums[i] = test_random_datum(&f->rng, type, f->room[WIDE_COLUMNS + i]);
        dbos_image_note_argument(arguments, &datums[i]);
    }
}

Test(provenance_image, rows_come_back_byte_for_byte) {
    static struct fixture f;
    static struct dbos_image_arguments arguments;
    struct dbos_datum argument_datums[ARGUMENTS];
    struct dbos_datum datums[WIDE_COLUMNS];
    const struct dbos_bytes none = {0};
    set_up(&f);
    for (int round = 0; round < 5000; round++) {
        random_arguments(&f, argument_datums, &arguments);
        struct dbos_row *before = random_row(&f, argument_datums, datums, false);
        struct dbos_row *after = random_row(&f, argument_datums, datums, true);
        round_trip(&arguments, f.def, payload_of(before), none);
        round_trip(&arguments, f.def, payload_of(after), payload_of(before));
        dbos_row_give(&f.slab, f.def, before);
        dbos_row_give(&f.slab, f.def, after);
    }
    tear_down(&f);
}

Test(provenance_image, keys_come_back_byte_for_byte) {
    static struct fixture f;
    static struct dbos_image_arguments arguments;
    struct dbos_datum datums[ARGUMENTS];
    struct dbos_buf key;
    const struct dbos_bytes none = {0};
    set_up(&f);
    dbos_buf_init(&key, &f.alloc);
    for (int round = 0; round < 5000; round++) {
        random_arguments(&f, datums, &arguments);
        dbos_buf_reset(&key);
        for (uint64_t i = dbos_rng_below(&f.rng, 5); i != 0; i--) {
            dbos_datum_put_key(&key, &datums[dbos_rng_below(&f.rng, ARGUMENTS)]);
        }
        round_trip(&arguments, NULL, (struct dbos_bytes){key.data, key.size_bytes}, none);
    }
    dbos_buf_fini(&key);
    tear_down(&f);
}

/* An argument, a small number, no change and a text that has moved take a byte or a few. */
Test(provenance_image, what_is_known_already_takes_a_byte) {
    static struct fixture f;
    static struct dbos_image_arguments arguments;
    struct dbos_datum datums[WIDE_COLUMNS];
    const struct dbos_bytes none = {0};
    set_up(&f);
    for (uint32_t i = 0; i < WIDE_COLUMNS; i++) {
        datums[i] = dbos_datum_null((enum dbos_type)f.def->columns[i].type);
    }
    datums[0] = dbos_datum_int(DBOS_TYPE_INT8, INT64_MIN + 5);
    datums[2] = dbos_datum_bytes(DBOS_TYPE_TEXT, f.long_text, LONG_BYTES);
    datums[7] = dbos_datum_int(DBOS_TYPE_INT4, 15);
    dbos_image_note_argument(&arguments, &datums[0]);
    dbos_image_note_argument(&arguments, &datums[2]);
    struct dbos_row *before = NULL;
    struct dbos_row *after = NULL;
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &before, NULL), DBOS_OK);
    /* Size 2, null bits 3, a 1, zeroes 1, h 1, i and ends 1 + 3 × 3, the text 1. */
    cr_expect_leq(round_trip(&arguments, f.def, payload_of(before), none), 22);
    cr_expect_leq(round_trip(&arguments, f.def, payload_of(before), payload_of(before)), 5);
    arguments.count = 0;
    datums[6] = dbos_datum_bytes(DBOS_TYPE_VARCHAR, "v", 1);
    cr_assert_eq(dbos_row_make(&f.slab, f.objects, f.def, datums, &after, NULL), DBOS_OK);
    cr_expect_leq(round_trip(&arguments, f.def, payload_of(after), payload_of(before)), 24);
    dbos_row_give(&f.slab, f.def, before);
    dbos_row_give(&f.slab, f.def, after);
    tear_down(&f);
}

/* -- what records take, as docs/formats/log.md says
 * ------------------------------------------------
 */

static const struct test_table votes_table = {
    .id = 101,
    .name = "votes",
    .partition_column = 0,
    .columns = {{"phone", DBOS_TYPE_INT8, true, 0}, {"contestant", DBOS_TYPE_INT4, true, 0}},
};
static const struct test_table phones_table = {
    .id = 102,
    .name = "phone_votes",
    .partition_column = 0,
    .columns = {{"phone", DBOS_TYPE_INT8, true, 0}, {"n", DBOS_TYPE_INT4, true, 0}},
};

/* A node that has been busy for an hour: 30 million transactions, 10 million rows. */
enum { VOTE = 100, HOUR_POSITION = 30000000, SLOT = 700 };
#define NOW_US (DBOS_RECORD_EPOCH_US + INT64_C(40000000000000))
static const struct dbos_session_info session = {.id = (uint64_t)NOW_US - 3600000000u};

struct vote_tables {
    struct dbos_table_def *votes;
    struct dbos_table_def *phones;
};

static struct dbos_row *row_at(struct fixture *f, const struct dbos_table_def *def, int64_t phone,
                               int64_t number, uint64_t counter) {
    struct dbos_row *row = NULL;
    struct dbos_datum datums[2] = {dbos_datum_int(DBOS_TYPE_INT8, phone),
                                   dbos_datum_int(DBOS_TYPE_INT4, number)};
    cr_assert_eq(dbos_row_make(&f->slab, f->objects, def, datums, &row, NULL), DBOS_OK);
    row->block = counter * DBOS_BLOCK_STEP + SLOT;
    row->position = HOUR_POSITION - 1000;
    return row;
}

static void own_statement(struct dbos_capture *capture, uint32_t ordinal) {
    dbos_capture_ordinal(capture, ordinal, dbos_record_statement_id(VOTE, 1, ordinal), "text");
}

/* procs/examples/vote.c: the first vote of a number, or a later one. */
static void capture_vote(struct fixture *f, struct dbos_capture *capture,
                         const struct vote_tables *tables, int64_t phone, bool first) {
    uint8_t key[9] = {1};
    struct dbos_row *vote = row_at(f, tables->votes, phone, 3, 9700);
    struct dbos_row *old = row_at(f, tables->phones, phone, 1, 4800);
    struct dbos_row *fresh = row_at(f, tables->phones, phone, first ? 1 : 2, 4800);
    dbos_store_u64(key + 1, __builtin_bswap64((uint64_t)phone ^ UINT64_C(1) << 63));
    dbos_capture_statement(capture, UINT64_C(0x8877665544332211), "SELECT vote($1, $2, $3)");
    own_statement(capture, 0);
    dbos_capture_read(capture, 100, 3 * DBOS_BLOCK_STEP);
    own_statement(capture, 1);
    if (first) {
        dbos_capture_absent(capture, 102, 200, (struct dbos_bytes){key, sizeof key});
    } else {
        dbos_capture_read(capture, 102, old->block);
    }
    own_statement(capture, 2);
    dbos_capture_insert(capture, tables->votes, vote);
    own_statement(capture, first ? 3 : 4);
    if (first) {
        dbos_capture_insert(capture, tables->phones, fresh);
    } else {
        dbos_capture_read(capture, 102, old->block);
        dbos_capture_update(capture, tables->phones, old, fresh);
    }
    dbos_capture_egress(capture, 1, 15, UINT64_C(0x1122334455667788));
    dbos_row_give(&f->slab, tables->votes, vote);
    dbos_row_give(&f->slab, tables->phones, old);
    dbos_row_give(&f->slab, tables->phones, fresh);
}

static size_t finish(struct dbos_capture *capture, const struct dbos_buf *arguments) {
    static uint8_t record[65536];
    struct dbos_record_head head = {
        .position = HOUR_POSITION,
        .commit_us = NOW_US,
        .start_us = NOW_US - 20,
        .partition = 1,
        .partitions = 3,
        .session = session.id,
        .request = 200000,
        .procedure = VOTE,
        .procedure_version = 1,
        .argument_count = arguments == NULL ? 0 : 3,
    };
    if (arguments != NULL) {
        head.arguments = (struct dbos_bytes){arguments->data, arguments->size_bytes};
    }
    cr_assert_eq(dbos_capture_reserve(capture, 0), DBOS_OK);
    return dbos_capture_finish(capture, &head, &session, record);
}

static size_t vote_bytes(struct fixture *f, struct dbos_capture *capture,
                         const struct vote_tables *tables, bool first) {
    int64_t phone = 6175551234;
    struct dbos_buf arguments;
    struct dbos_datum datums[3] = {dbos_datum_int(DBOS_TYPE_INT8, phone),
                                   dbos_datum_int(DBOS_TYPE_INT4, 3),
                                   dbos_datum_int(DBOS_TYPE_INT4, 10)};
    dbos_buf_init(&arguments, &f->alloc);
    for (int i = 0; i < 3; i++) {
        dbos_image_put_argument(&arguments, &datums[i]);
    }
    dbos_capture_begin(capture);
    dbos_capture_arguments(capture, datums, 3);
    capture_vote(f, capture, tables, phone, first);
    size_t bytes = finish(capture, &arguments);
    dbos_buf_fini(&arguments);
    return bytes;
}

/* With 12 bytes of each sector of 512 and a share of the batch's header that is 96 in the log. */
Test(provenance_image, a_vote_takes_at_most_ninety_one_bytes) {
    static struct fixture f;
    struct dbos_capture *capture = NULL;
    set_up(&f);
    struct vote_tables tables = {.votes = test_def(&f.alloc, &votes_table),
                                 .phones = test_def(&f.alloc, &phones_table)};
    cr_assert_eq(dbos_capture_open(&f.alloc, &capture), DBOS_OK);
    (void)vote_bytes(&f, capture, &tables, true); /* definitions */
    (void)vote_bytes(&f, capture, &tables, false);
    size_t first = vote_bytes(&f, capture, &tables, true);
    size_t next = vote_bytes(&f, capture, &tables, false);
    cr_expect_leq(first, 88, "%zu", first);
    cr_expect_leq(next, 91, "%zu", next);
    dbos_capture_close(capture);
    dbos_table_def_unref(tables.votes);
    dbos_table_def_unref(tables.phones);
    tear_down(&f);
}

/* Ten rows of ten million, each by a statement of its own, and ten by one statement. */
Test(provenance_image, a_point_read_takes_at_most_five_bytes) {
    static struct fixture f;
    struct dbos_capture *capture = NULL;
    set_up(&f);
    cr_assert_eq(dbos_capture_open(&f.alloc, &capture), DBOS_OK);
    for (int each = 0; each < 2; each++) {
        size_t bytes[2] = {0, 0};
        for (int round = 0; round < 4; round++) {
            dbos_capture_begin(capture);
            own_statement(capture, 0);
            dbos_capture_read(capture, 102, 1024);
            for (uint64_t i = 0; i < (round % 2 == 0 ? 0u : 10u); i++) {
                if (each == 0) {
                    own_statement(capture, 1);
                }
                dbos_capture_read(capture, 102, dbos_mix64(i) % 10000000);
            }
            bytes[round % 2] = finish(capture, NULL);
        }
        cr_expect_leq(bytes[1] - bytes[0], 50, "%zu and %zu", bytes[0], bytes[1]);
    }
    dbos_capture_close(capture);
    tear_down(&f);
}
