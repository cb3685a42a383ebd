#include "engine/wire.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "procs/sql/type_io.h"

TestSuite(engine_wire, .timeout = 30);

enum { PAGE_BYTES = 4096, PAGES = 8 };

/* Bytes that end where no readable byte follows: an over-read of one is a crash. */
struct guard {
    uint8_t *map;
    uint8_t *end;
};

static void open_guard(struct guard *guard) {
    guard->map = mmap(NULL, (PAGES + 1) * PAGE_BYTES, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    cr_assert_neq(guard->map, MAP_FAILED);
    guard->end = guard->map + (size_t)PAGES * PAGE_BYTES;
    cr_assert_eq(mprotect(guard->end, PAGE_BYTES, PROT_NONE), 0);
}

static void close_guard(struct guard *guard) { (void)munmap(guard->map, (PAGES + 1) * PAGE_BYTES); }

static const uint8_t *place(const struct guard *guard, const void *data, size_t size_bytes) {
    cr_assert(size_bytes <= (size_t)PAGES * PAGE_BYTES);
    uint8_t *at = guard->end - size_bytes;
    if (size_bytes != 0) {
        memcpy(at, data, size_bytes);
    }
    return at;
}

/* Runs the decoder that belongs to the message. */
static enum dbos_err decode(const struct dbos_wire_message *message, struct dbos_errinfo *info) {
    struct dbos_wire_startup startup;
    struct dbos_wire_parse parse;
    struct dbos_wire_bind bind;
    struct dbos_wire_target target;
    struct dbos_wire_execute execute;
    const char *query = NULL;
    switch (message->type) {
    case 0:
        return dbos_wire_get_startup(message->body, &startup, info);
    case 'Q':
        return dbos_wire_get_query(message->body, &query, info);
    case 'P':
        return dbos_wire_get_parse(message->body, &parse, info);
    case 'B':
        return dbos_wire_get_bind(message->body, &bind, info);
    case 'E':
        return dbos_wire_get_execute(message->body, &execute, info);
    default:
        return dbos_wire_get_target(message->body, &target, info);
    }
}

struct sample {
    bool is_startup;
    size_t size_bytes;
    const char *bytes;
};
#define SAMPLE(is_startup, bytes)                                                                  \
    { (is_startup), sizeof(bytes) - 1, (bytes) }

static const struct sample samples[] = {
    SAMPLE(true, "\0\0\0\x08\x04\xd2\x16\x2f"),                     /* SSLRequest */
    SAMPLE(true, "\0\0\0\x10\x04\xd2\x16\x2e\0\0\0\x07\0\0\0\x09"), /* CancelRequest */
    SAMPLE(true, "\0\0\0\x12\0\x03\0\0user\0ana\0\0"),              /* start-up */
    SAMPLE(false, "Q\0\0\0\x0dselect 1\0"),                         /* Query */
    SAMPLE(false, "P\0\0\0\x16s\0select $1\0\0\x01\0\0\0\x14"),     /* Parse */
    SAMPLE(false, "B\0\0\0\x1ep\0s\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x2a\xff\xff\xff\xff\0\x01\0"
                  "\0"),                      /* Bind */
    SAMPLE(false, "D\0\0\0\x07Ss\0"),         /* Describe */
    SAMPLE(false, "C\0\0\0\x06P\0"),          /* Close */
    SAMPLE(false, "E\0\0\0\x09\0\0\0\0\x64"), /* Execute */
};
enum { SAMPLE_COUNT = sizeof samples / sizeof samples[0] };

static enum dbos_wire_frame frame(const struct sample *sample, const uint8_t *at, size_t size_bytes,
                                  struct dbos_wire_message *out, size_t *needed) {
    return sample->is_startup ? dbos_wire_next_startup(at, size_bytes, out, needed)
                              : dbos_wire_next(at, size_bytes, out, needed);
}

Test(engine_wire, a_message_that_is_cut_anywhere_is_partial_and_says_what_it_needs) {
    struct guard guard;
    open_guard(&guard);
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        const struct sample *sample = &samples[i];
        struct dbos_wire_message message;
        size_t needed = 0;
        for (size_t cut = 0; cut < sample->size_bytes; cut++) {
            const uint8_t *at = place(&guard, sample->bytes, cut);
            cr_assert_eq(frame(sample, at, cut, &message, &needed), DBOS_WIRE_PARTIAL);
            cr_assert(needed > cut && needed <= sample->size_bytes);
        }
        const uint8_t *at = place(&guard, sample->bytes, sample->size_bytes);
        cr_assert_eq(frame(sample, at, sample->size_bytes, &message, &needed), DBOS_WIRE_WHOLE,
                     "sample %zu", i);
        cr_expect_eq(message.size_bytes, sample->size_bytes);
        struct dbos_errinfo info = {0};
        cr_expect_eq(decode(&message, &info), DBOS_OK, "sample %zu: %s", i, info.message);
    }
    close_guard(&guard);
}

/* Goal: no body makes a decoder read past it. Method: every body is cut at every byte, behind it an
 * unreadable page, with a length that says that this is all. */
Test(engine_wire, a_body_that_is_cut_anywhere_is_a_protocol_error) {
    struct guard guard;
    open_guard(&guard);
    for (size_t i = 0; i < SAMPLE_COUNT; i++) {
        size_t head_bytes = samples[i].is_startup ? 4 : 5;
        size_t body_bytes = samples[i].size_bytes - head_bytes;
        for (size_t cut = 0; cut < body_bytes; cut++) {
            struct dbos_errinfo info = {0};
            struct dbos_wire_message message = {
                .type = samples[i].is_startup ? 0 : (uint8_t)samples[i].bytes[0],
                .body = {.data = place(&guard, samples[i].bytes + head_bytes, cut),
                         .size_bytes = cut},
            };
            cr_expect_eq(decode(&message, &info), DBOS_ERR_PROTOCOL, "sample %zu at %zu", i, cut);
            cr_expect_str_eq(info.sqlstate, "08P01");
        }
    }
    close_guard(&guard);
}

/* Bind of two parameters, Describe, Execute, Sync. */
static const char call[] =
    "B\0\0\0\x1d\0s\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x2a\xff\xff\xff\xff\0\x01\0\x01"
    "D\0\0\0\x06P\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
/* With a name so long that a Bind which ends right behind it is not too short, and nothing behind
 * its Sync that a Describe could be mistaken for. */
static const char long_call[] =
    "B\0\0\0\x25\0prepared9\0\0\x01\0\x01\0\x02\0\0\0\x04\0\0\0\x2a\xff\xff\xff\xff\0\x01\0\x01"
    "E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
enum { CALL_BYTES = sizeof call - 1 };

static const struct {
    const char *bytes;
    size_t size_bytes;
    size_t bind_bytes;
    const char *statement;
    bool describes;
} calls[] = {
    {call, CALL_BYTES, 30, "s", true},
    {long_call, sizeof long_call - 1, 38, "prepared9", false},
};

Test(engine_wire, a_call_that_is_cut_anywhere_is_none) {
    struct guard guard;
    struct dbos_wire_call got;
    open_guard(&guard);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        size_t size_bytes = calls[i].size_bytes;
        for (size_t cut = 0; cut < size_bytes; cut++) {
            const uint8_t *at = place(&guard, calls[i].bytes, cut);
            cr_expect_not(dbos_wire_get_call(at, cut, &got), "call %zu cut at %zu", i, cut);
        }
        const uint8_t *at = place(&guard, calls[i].bytes, size_bytes);
        cr_assert(dbos_wire_get_call(at, size_bytes, &got));
        cr_expect_eq(got.size_bytes, size_bytes);
        cr_expect_eq(got.describes, calls[i].describes);
        cr_expect_str_eq(got.bind.statement, calls[i].statement);
        cr_expect_eq(got.bind.parameter_count, 2);
        bool is_null = false;
        struct dbos_bytes value = dbos_wire_next_value(&got.bind.values, &is_null);
        cr_expect(!is_null && value.size_bytes == 4 && value.data[3] == 0x2a);
        (void)dbos_wire_next_value(&got.bind.values, &is_null);
        cr_expect(is_null && got.bind.values.size_bytes == 0);
    }
    close_guard(&guard);
}

/* Is it one, with Execute and Sync behind that Bind? Its length says that `body_bytes` are all. */
static bool is_call(const struct guard *guard, const void *body, size_t body_bytes) {
    static const char rest[] = "E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
    uint8_t bytes[128] = {'B', 0, 0, 0, (uint8_t)(body_bytes + 4)};
    struct dbos_wire_call got;
    size_t size_bytes = 5 + body_bytes + sizeof rest - 1;
    cr_assert_leq(size_bytes, sizeof bytes);
    memcpy(bytes + 5, body, body_bytes);
    memcpy(bytes + 5 + body_bytes, rest, sizeof rest - 1);
    return dbos_wire_get_call(place(guard, bytes, size_bytes), size_bytes, &got);
}

Test(engine_wire, a_call_whose_bind_is_cut_anywhere_is_none) {
    struct guard guard;
    open_guard(&guard);
    for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
        size_t body_bytes = calls[i].bind_bytes - 5;
        for (size_t cut = 0; cut < body_bytes; cut++) {
            cr_expect_not(is_call(&guard, calls[i].bytes + 5, cut), "call %zu cut at %zu", i, cut);
        }
        cr_expect(is_call(&guard, calls[i].bytes + 5, body_bytes));
    }
    close_guard(&guard);
}

#define BODY(is_sound, body)                                                                       \
    { (is_sound), sizeof(body) - 1, (body) }

Test(engine_wire, a_call_that_contradicts_itself_is_none) {
    static const struct {
        bool is_sound;
        size_t size_bytes;
        const char *body;
    } cases[] = {
        BODY(true, "\0s\0\0\x01\0\x01\0\x01\xff\xff\xff\xff\0\x01\0\x01"),
        BODY(true, "\0\0\0\0\0\0\0\0"),                               /* the shortest one */
        BODY(false, "\0\0\0\0\0\0\0"),                                /* shorter than that */
        BODY(false, "\0s\0\0\x02\0\0\0\0\0\x01\xff\xff\xff\xff\0\0"), /* 2 formats, 1 value */
        BODY(false, "\0s\0\0\x01\x01\0\0\0\0\x01\0\0"),               /* format 256 */
        BODY(false, "\0s\0\0\0\0\0\0\x02\0\0\x01\0"),                 /* result format 256 */
        BODY(false, "\0s\0\0\0\0\x01\0\0\0\x03"
                    "abc\0\0\0"), /* a byte behind it */
        BODY(false, "\0s\0\0\0\0\x02\0\0\0\x03"
                    "abc\0\0\0"),                               /* 2 values, 1 is there */
        BODY(false, "\0s\0\0\0\0\x01\xff\xff\xff\xfe\0\0\0\0"), /* a value of 4 GB */
        BODY(false, "p\0s\0\0\0\0\x01\0\0\0\0\0\0"),            /* a portal with a name */
    };
    struct guard guard;
    open_guard(&guard);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_expect_eq(is_call(&guard, cases[i].body, cases[i].size_bytes), cases[i].is_sound,
                     "case %zu", i);
    }
    close_guard(&guard);
}

/* The names would begin behind the end of such a Bind. */
Test(engine_wire, a_call_whose_bind_ends_before_its_names_is_none) {
    struct guard guard;
    struct dbos_wire_call got;
    uint8_t bytes[64];
    open_guard(&guard);
    memset(bytes, 'x', sizeof bytes);
    memcpy(bytes, "B\0\0\0\0\0", 6);
    for (uint8_t length = 0; length < 12; length++) {
        bytes[4] = length;
        cr_expect_not(dbos_wire_get_call(place(&guard, bytes, sizeof bytes), sizeof bytes, &got));
    }
    close_guard(&guard);
}

Test(engine_wire, a_call_has_no_larger_messages_than_others) {
    static const char head[] = "B\0\0\0\0\0\0\0\0\0\x01"; /* one value, */
    static const char tail[] = "\0\0E\0\0\0\x09\0\0\0\0\0S\0\0\0\x04";
    enum { HEAD_BYTES = sizeof head - 1, TAIL_BYTES = sizeof tail - 1, ELSE_BYTES = 16 };
    struct dbos_wire_call got;
    uint8_t *bytes = calloc(1, DBOS_WIRE_MESSAGE_BYTES_MAX + 64);
    cr_assert_not_null(bytes);
    for (uint32_t more = 0; more < 2; more++) {
        uint32_t length = DBOS_WIRE_MESSAGE_BYTES_MAX + more;
        memcpy(bytes, head, HEAD_BYTES);
        dbos_store_u32(bytes + 1, __builtin_bswap32(length));
        dbos_store_u32(bytes + HEAD_BYTES, __builtin_bswap32(length - ELSE_BYTES));
        memcpy(bytes + length - 1, tail, TAIL_BYTES);
        cr_expect_eq(dbos_wire_get_call(bytes, length - 1 + TAIL_BYTES, &got), more == 0);
    }
    free(bytes);
}

/* What is taken for a call must be one for the other decoders, too. */
static void expect_messages(const uint8_t *at, const struct dbos_wire_call *got) {
    size_t used = 0;
    while (used < got->size_bytes) {
        struct dbos_wire_message message;
        struct dbos_errinfo info = {0};
        size_t needed = 0;
        cr_assert_eq(dbos_wire_next(at + used, got->size_bytes - used, &message, &needed),
                     DBOS_WIRE_WHOLE);
        if (message.type != 'S') {
            cr_assert_eq(decode(&message, &info), DBOS_OK, "%s", info.message);
        }
        used += message.size_bytes;
    }
}

Test(engine_wire, a_call_with_any_bit_changed_is_none_or_a_sound_one) {
    struct guard guard;
    struct dbos_wire_call got;
    uint32_t sound = 0;
    open_guard(&guard);
    for (size_t bit = 0; bit < (size_t)8 * CALL_BYTES; bit++) {
        uint8_t changed[CALL_BYTES];
        memcpy(changed, call, CALL_BYTES);
        changed[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool is_name = bit / 8 == 6; /* whether that is text is not looked at */
        const uint8_t *at = place(&guard, changed, CALL_BYTES);
        if (dbos_wire_get_call(at, CALL_BYTES, &got) && !is_name) {
            expect_messages(at, &got);
            sound++;
        }
    }
    cr_expect_gt(sound, 8 * 4, "the value may be anything");
    close_guard(&guard);
}

Test(engine_wire, lengths_that_can_not_be_lose_the_stream_before_anything_is_allocated) {
    static const struct {
        bool is_startup;
        const char *bytes;
        size_t size_bytes;
    } cases[] = {
        {true, "GET / HT", 8},               /* an HTTP client */
        {true, "\0\0\0\0\0\0\0\0", 8},       /* shorter than itself */
        {true, "\0\0\x27\x11\0\x03\0\0", 8}, /* 10,001 bytes */
        {false, "Q\x7f\xff\xff\xff", 5},     /* 2 GB */
        {false, "Q\x01\0\0\x01", 5},         /* 16 MB + 1 */
        {false, "Q\0\0\0\x03", 5},
        {false, "Q\xff\xff\xff\xff", 5},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_wire_message message;
        size_t needed = 0;
        enum dbos_wire_frame got =
            cases[i].is_startup
                ? dbos_wire_next_startup(cases[i].bytes, cases[i].size_bytes, &message, &needed)
                : dbos_wire_next(cases[i].bytes, cases[i].size_bytes, &message, &needed);
        cr_expect_eq(got, DBOS_WIRE_BAD, "case %zu", i);
    }
}

Test(engine_wire, bodies_that_contradict_themselves_are_refused) {
    static const struct {
        char type;
        const char *body;
        size_t size_bytes;
        const char *sqlstate;
    } cases[] = {
        {'Q', "select 1", 8, "08P01"},                              /* no NUL */
        {'Q', "a\0b\0", 4, "08P01"},                                /* bytes behind */
        {'Q', "\xff\0", 2, "22021"},                                /* not UTF-8 */
        {'P', "s\0q\0\xff\xff", 6, "08P01"},                        /* 65,535 types */
        {'B', "\0\0\0\x02\0\0\0\0\0\x01\0\0\0\0\0\0", 16, "08P01"}, /* 2 formats, 1 value */
        {'B', "\0\0\0\x01\0\x02\0\0\0\0", 10, "22023"},             /* format 2 */
        {'B', "\0\0\0\x01\x01\0\0\0\0\0", 10, "22023"},             /* format 256 */
        {'B', "\0\0\0\0\0\0\0\x01\0\x02", 10, "22023"},             /* result format 2 */
        {'B', "\0\0\0\0\0\x01\x7f\xff\xff\xff\0\0", 12, "08P01"},   /* a value of 2 GB */
        {'D', "X\0", 2, "08P01"},                                   /* neither S nor P */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_errinfo info = {0};
        struct dbos_wire_message message = {
            .type = (uint8_t)cases[i].type,
            .body = {.data = (const uint8_t *)cases[i].body, .size_bytes = cases[i].size_bytes},
        };
        cr_expect_neq(decode(&message, &info), DBOS_OK, "case %zu", i);
        cr_expect_str_eq(info.sqlstate, cases[i].sqlstate, "case %zu: %s", i, info.message);
    }
}

Test(engine_wire, the_protocol_of_1996_is_refused_by_name) {
    struct dbos_errinfo info = {0};
    struct dbos_wire_startup startup;
    struct dbos_bytes body = {.data = (const uint8_t *)"\0\x02\0\0", .size_bytes = 4};
    cr_expect_eq(dbos_wire_get_startup(body, &startup, &info), DBOS_ERR_PROTOCOL);
    cr_expect_str_eq(info.message, "unsupported frontend protocol 2.0: server supports 3.0 to 3.0");
}

static void expect_bytes(const struct dbos_buf *out, const char *bytes, size_t size_bytes) {
    cr_expect_eq(out->size_bytes, size_bytes, "%zu bytes", out->size_bytes);
    cr_expect(out->size_bytes == size_bytes && memcmp(out->data, bytes, size_bytes) == 0);
}

Test(engine_wire, a_row_has_each_column_in_its_own_format) {
    struct dbos_alloc alloc;
    struct dbos_buf out;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&out, &alloc);
    const struct dbos_datum row[] = {
        dbos_datum_int(DBOS_TYPE_INT4, 258),
        dbos_datum_null(DBOS_TYPE_TEXT),
        dbos_datum_bytes(DBOS_TYPE_BYTEA, "\x01", 1),
    };
    const int16_t each[] = {1, 0, 0};
    dbos_wire_put_row(&out, row, 3, each, 3);
    static const char mixed[] = "D\0\0\0\x1a\0\x03\0\0\0\x04\0\0\x01\x02\xff\xff\xff\xff\0\0\0\x04"
                                "\\x01";
    expect_bytes(&out, mixed, sizeof mixed - 1);
    dbos_buf_reset(&out);
    dbos_wire_put_row(&out, row, 1, NULL, 0);
    expect_bytes(&out,
                 "D\0\0\0\x0d\0\x01\0\0\0\x03"
                 "258",
                 14);
    const int16_t all[] = {1};
    dbos_buf_reset(&out);
    dbos_wire_put_row(&out, row, 3, all, 1);
    expect_bytes(&out, "D\0\0\0\x17\0\x03\0\0\0\x04\0\0\x01\x02\xff\xff\xff\xff\0\0\0\x01\x01", 24);
    dbos_buf_fini(&out);
    dbos_alloc_fini(&alloc);
}

Test(engine_wire, an_integer_alone_is_sent_in_its_own_width) {
    static const struct {
        enum dbos_type type;
        int64_t value;
        const char *bytes;
        size_t size_bytes;
    } cases[] = {
        {DBOS_TYPE_INT2, -2, "D\0\0\0\x0c\0\x01\0\0\0\x02\xff\xfe", 13},
        {DBOS_TYPE_INT4, -258, "D\0\0\0\x0e\0\x01\0\0\0\x04\xff\xff\xfe\xfe", 15},
        {DBOS_TYPE_INT8, INT64_MIN + 1, "D\0\0\0\x12\0\x01\0\0\0\x08\x80\0\0\0\0\0\0\x01", 19},
    };
    struct dbos_alloc alloc;
    struct dbos_buf out;
    const int16_t binary[] = {1};
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&out, &alloc);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct dbos_datum datum = dbos_datum_int(cases[i].type, cases[i].value);
        dbos_buf_reset(&out);
        dbos_wire_put_row(&out, &datum, 1, binary, 1);
        expect_bytes(&out, cases[i].bytes, cases[i].size_bytes);
    }
    struct dbos_datum null = dbos_datum_null(DBOS_TYPE_INT4);
    dbos_buf_reset(&out);
    dbos_wire_put_row(&out, &null, 1, binary, 1);
    expect_bytes(&out, "D\0\0\0\x0a\0\x01\xff\xff\xff\xff", 11);
    dbos_buf_fini(&out);
    dbos_alloc_fini(&alloc);
}

Test(engine_wire, a_row_description_says_type_and_modifier) {
    struct dbos_alloc alloc;
    struct dbos_buf out;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&out, &alloc);
    struct dbos_result_column column = {
        .name = "v", .type = DBOS_TYPE_VARCHAR, .chars_max = 10, .table_id = 100, .column = 2};
    dbos_wire_put_row_description(&out, &column, 1, NULL, 0);
    static const char wanted[] =
        "T\0\0\0\x1a\0\x01v\0\0\0\0\x64\0\x02\0\0\x04\x13\xff\xff\0\0\0\x0e"
        "\0\0";
    expect_bytes(&out, wanted, sizeof wanted - 1);
    dbos_buf_fini(&out);
    dbos_alloc_fini(&alloc);
}

/* Messages are cut to a fixed size: a client must never see half a character. */
Test(engine_wire, an_error_is_valid_text_wherever_its_message_was_cut) {
    struct dbos_alloc alloc;
    struct dbos_buf out;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&out, &alloc);
    for (int pad = 0; pad < 4; pad++) {
        char text[600];
        size_t used = (size_t)pad;
        memset(text, 'x', used);
        while (used < sizeof text - 5) {
            memcpy(text + used, "\360\237\230\200", 4);
            used += 4;
        }
        text[used] = 0;
        struct dbos_errinfo info;
        (void)dbos_fail_at(&info, DBOS_ERR_SYNTAX, 7, "%s", text);
        dbos_buf_reset(&out);
        dbos_wire_put_error(&out, "ERROR", &info);
        struct dbos_reader reader = dbos_reader_of(out.data + 5, out.size_bytes - 5);
        while (dbos_reader_left(&reader) > 1) {
            const char *field = (const char *)reader.next;
            size_t size_bytes = strlen(field);
            cr_expect(dbos_utf8_valid(field, size_bytes), "padding %d", pad);
            cr_expect(field[0] != 'M' || size_bytes > 370);
            (void)dbos_get(&reader, size_bytes + 1);
        }
    }
    dbos_buf_fini(&out);
    dbos_alloc_fini(&alloc);
}
