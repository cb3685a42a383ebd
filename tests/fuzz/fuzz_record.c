/* Transaction records (provenance/record.h): as they are, and sealed again, so that the checksum
 * does not keep the decoder from being reached. */
#include "base/alloc.h"
#include "base/hash.h"
#include "provenance/record.h"
#include "provenance/record_format.h"
#include "tests/fuzz/fuzz.h"

/* Everything that an event lends is looked at, to its last byte. */
static uint64_t bytes_of(const struct dbos_event *event) {
    const struct dbos_bytes lent[] = {event->before,  event->after, event->low,
                                      event->high,    event->text,  event->user,
                                      event->address, event->role,  event->application};
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof lent / sizeof lent[0]; i++) {
        sum += lent[i].size_bytes == 0 ? 0 : dbos_hash64(0, lent[i].data, lent[i].size_bytes);
    }
    return sum;
}

static void walk(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_record_scratch scratch;
    struct dbos_event event;
    struct dbos_errinfo info;
    uint64_t sum = 0;
    int64_t commit_us = 0;
    dbos_record_scratch_init(&scratch, alloc);
    DBOS_CHECK(dbos_record_frame_bytes(data, size_bytes) <= size_bytes);
    sum += dbos_record_peek(data, size_bytes, &commit_us);
    if (dbos_record_open(data, size_bytes, &scratch, &head, &decoder, &info) == DBOS_OK) {
        sum += dbos_hash64(0, head.arguments.data, head.arguments.size_bytes);
        while (dbos_record_next(&decoder, &event)) {
            DBOS_CHECK(event.op >= DBOS_EVENT_INSERT && event.op <= DBOS_EVENT_TEXT);
            sum += bytes_of(&event);
        }
        DBOS_CHECK(decoder.failed == (dbos_record_end(&decoder, &info) != DBOS_OK));
    }
    dbos_record_scratch_fini(&scratch);
    volatile uint64_t used = sum;
    (void)used;
    DBOS_CHECK(atomic_load(&alloc->bytes) == 0);
}

/* The same bytes as a record of this version, sealed. */
static void walk_sealed(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes,
                        uint32_t version) {
    uint8_t *copy = dbos_take(alloc, size_bytes);
    if (copy == NULL) {
        return;
    }
    memcpy(copy, data, size_bytes);
    dbos_store_u32(copy, (version == 1 ? 0 : version << DBOS_RECORD_SIZE_BITS) |
                             ((uint32_t)size_bytes & DBOS_RECORD_SIZE_MASK));
    if (version == 1 && size_bytes >= sizeof(struct dbos_record_frame_v1)) {
        dbos_store_u16(copy + DBOS_RECORD_V1_CRC_FROM, 1);
        dbos_store_u32(copy + 4, dbos_crc32c(0, copy + DBOS_RECORD_V1_CRC_FROM,
                                             size_bytes - DBOS_RECORD_V1_CRC_FROM));
    }
    static struct dbos_alloc own = {.name = "record", .bytes_max = 64 * 1048576};
    walk(&own, copy, size_bytes);
    dbos_give(alloc, copy);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    static struct dbos_alloc alloc = {.name = "fuzz"};
    walk(&alloc, data, size_bytes);
    if (size_bytes >= DBOS_RECORD_FRAME_BYTES) {
        walk_sealed(&alloc, data, size_bytes, 1);
        walk_sealed(&alloc, data, size_bytes, 2);
    }
    return 0;
}
