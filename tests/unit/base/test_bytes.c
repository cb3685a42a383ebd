#include "base/bytes.h"

#include <criterion/criterion.h>
#include <string.h>

TestSuite(base_bytes, .timeout = 20);

static void put_everything(struct dbos_buf *buf) {
    dbos_buf_put_u8(buf, 0x12);
    dbos_buf_put_u16(buf, 0x3456);
    dbos_buf_put_u32(buf, 0x789abcde);
    dbos_buf_put_u64(buf, 0x0123456789abcdef);
    dbos_buf_put_be16(buf, 0x3456);
    dbos_buf_put_be32(buf, 0x789abcde);
    dbos_buf_put_be64(buf, 0x0123456789abcdef);
    dbos_buf_put_varint(buf, 300);
    dbos_buf_put_zigzag(buf, -300);
    dbos_buf_put_text(buf, "text");
    dbos_buf_put_sized(buf, NULL, 0);
    dbos_buf_put_zero(buf, 3);
    dbos_buf_put(buf, "raw", 3);
}

/* True if all of it was there and as put_everything() wrote it. */
static bool get_everything(struct dbos_reader *reader) {
    bool same = dbos_get_u8(reader) == 0x12;
    same = dbos_get_u16(reader) == 0x3456 && same;
    same = dbos_get_u32(reader) == 0x789abcde && same;
    same = dbos_get_u64(reader) == 0x0123456789abcdef && same;
    same = dbos_get_be16(reader) == 0x3456 && same;
    same = dbos_get_be32(reader) == 0x789abcde && same;
    same = dbos_get_be64(reader) == 0x0123456789abcdef && same;
    same = dbos_get_varint(reader) == 300 && same;
    same = dbos_get_zigzag(reader) == -300 && same;
    struct dbos_bytes text = dbos_get_sized(reader);
    same = text.size_bytes == 4 && memcmp(text.data, "text", 4) == 0 && same;
    same = dbos_get_sized(reader).size_bytes == 0 && same;
    const uint8_t *raw = dbos_get(reader, 6);
    return raw != NULL && memcmp(raw, "\0\0\0raw", 6) == 0 && same && !reader->failed;
}

Test(base_bytes, what_is_put_is_got_and_every_truncation_is_noticed) {
    struct dbos_alloc alloc;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&buf, &alloc);
    put_everything(&buf);
    cr_assert(!buf.failed);
    cr_assert_eq(buf.data[1], 0x56, "little-endian");
    cr_assert_eq(buf.data[15], 0x34, "big-endian");
    struct dbos_reader whole = dbos_reader_of(buf.data, buf.size_bytes);
    cr_expect(get_everything(&whole));
    cr_expect_eq(dbos_reader_left(&whole), 0);
    for (size_t cut = 0; cut < buf.size_bytes; cut++) {
        /* A copy of exact size, so that ASan sees an over-read. */
        uint8_t *copy = dbos_take(&alloc, cut);
        memcpy(copy, buf.data, cut);
        struct dbos_reader reader = dbos_reader_of(copy, cut);
        cr_expect(!get_everything(&reader), "cut to %zu", cut);
        cr_expect(reader.failed, "cut to %zu", cut);
        cr_expect_eq(dbos_get_u64(&reader), 0u, "failure is sticky");
        dbos_give(&alloc, copy);
    }
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

static const struct {
    uint64_t value;
    size_t size_bytes;
} varints[] = {
    {0, 1},
    {1, 1},
    {127, 1},
    {128, 2},
    {16383, 2},
    {16384, 3},
    {(1u << 21) - 1, 3},
    {1u << 21, 4},
    {(1u << 28) - 1, 4},
    {UINT32_MAX, 5},
    {(1ull << 35) - 1, 5},
    {1ull << 35, 6},
    {(1ull << 49) - 1, 7},
    {1ull << 56, 9},
    {(1ull << 63) - 1, 9},
    {1ull << 63, 10},
    {UINT64_MAX, 10},
};

Test(base_bytes, varints_take_the_bytes_they_should_and_come_back) {
    struct dbos_alloc alloc;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&buf, &alloc);
    for (size_t i = 0; i < sizeof varints / sizeof varints[0]; i++) {
        dbos_buf_reset(&buf);
        dbos_buf_put_varint(&buf, varints[i].value);
        cr_expect_eq(buf.size_bytes, varints[i].size_bytes, "value %zu", i);
        struct dbos_reader reader = dbos_reader_of(buf.data, buf.size_bytes);
        cr_expect_eq(dbos_get_varint(&reader), varints[i].value);
        cr_expect(!reader.failed && dbos_reader_left(&reader) == 0);
        for (size_t cut = 0; cut < buf.size_bytes; cut++) {
            reader = dbos_reader_of(buf.data, cut);
            cr_expect_eq(dbos_get_varint(&reader), 0u);
            cr_expect(reader.failed);
        }
        dbos_buf_reset(&buf);
        dbos_buf_put_zigzag(&buf, (int64_t)varints[i].value);
        dbos_buf_put_zigzag(&buf, (int64_t)(0 - varints[i].value));
        reader = dbos_reader_of(buf.data, buf.size_bytes);
        cr_expect_eq(dbos_get_zigzag(&reader), (int64_t)varints[i].value);
        cr_expect_eq(dbos_get_zigzag(&reader), (int64_t)(0 - varints[i].value));
    }
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

Test(base_bytes, a_varint_of_more_than_64_bits_is_malformed) {
    static const char *const malformed[] = {
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02",         /* bit 64 */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f",         /* more */
        "\x80\x80\x80\x80\x80\x80\x80\x80\x80\x81",         /* an eleventh byte is to come */
        "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", /* twelve */
    };
    for (size_t i = 0; i < sizeof malformed / sizeof malformed[0]; i++) {
        struct dbos_reader reader = dbos_reader_of(malformed[i], strlen(malformed[i]));
        cr_expect_eq(dbos_get_varint(&reader), 0u);
        cr_expect(reader.failed, "case %zu", i);
    }
}

Test(base_bytes, a_length_past_the_end_is_noticed_however_large) {
    static const uint64_t lengths[] = {4, 5, 1u << 20, UINT32_MAX, INT64_MAX, UINT64_MAX};
    struct dbos_alloc alloc;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&buf, &alloc);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        dbos_buf_reset(&buf);
        dbos_buf_put_varint(&buf, lengths[i]);
        dbos_buf_put(&buf, "abc", 3);
        struct dbos_reader reader = dbos_reader_of(buf.data, buf.size_bytes);
        struct dbos_bytes run = dbos_get_sized(&reader);
        cr_expect(reader.failed);
        cr_expect_eq(run.size_bytes, 0);
        reader = dbos_reader_of(buf.data, buf.size_bytes);
        cr_expect_null(dbos_get(&reader, SIZE_MAX));
    }
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

Test(base_bytes, no_bytes_of_nothing_are_a_valid_pointer) {
    struct dbos_reader reader = dbos_reader_of(NULL, 0);
    cr_expect_not_null(dbos_get(&reader, 0));
    cr_expect(!reader.failed);
    cr_expect_eq(dbos_reader_left(&reader), 0);
    cr_expect_null(dbos_get(&reader, 1));
    cr_expect(reader.failed);
}

Test(base_bytes, a_failed_buffer_stays_failed_until_reset_and_leaks_nothing) {
    for (int64_t n = 1; n <= 5; n++) {
        struct dbos_alloc alloc;
        struct dbos_buf buf;
        dbos_alloc_init(&alloc, "test", 0);
        dbos_buf_init(&buf, &alloc);
        atomic_store(&alloc.fail_countdown, n);
        for (int i = 0; i < 3000; i++) {
            put_everything(&buf);
        }
        cr_expect(buf.failed, "countdown %d", (int)n);
        cr_expect_leq(buf.size_bytes, buf.capacity_bytes);
        cr_expect_null(dbos_buf_reserve(&buf, 1));
        dbos_buf_reset(&buf);
        put_everything(&buf);
        struct dbos_reader reader = dbos_reader_of(buf.data, buf.size_bytes);
        cr_expect(get_everything(&reader));
        cr_expect_null(dbos_buf_reserve(&buf, SIZE_MAX - 2));
        cr_expect(buf.failed);
        dbos_buf_fini(&buf);
        dbos_alloc_fini(&alloc);
    }
}
