/* Transaction records (provenance/record.h): as they are, and sealed again, so that the checksum
 * does not keep the decoder from being reached. */
#include "base/alloc.h"
#include "base/hash.h"
#include "provenance/record.h"
#include "provenance/record_format.h"
#include "tests/fuzz/fuzz.h"

static void walk(const uint8_t *data, size_t size_bytes) {
    struct dbos_record_head head;
    struct dbos_record_decoder decoder;
    struct dbos_event event;
    struct dbos_errinfo info;
    uint64_t sum = 0;
    if (dbos_record_open(data, size_bytes, &head, &decoder, &info) != DBOS_OK) {
        return;
    }
    while (dbos_record_next(&decoder, &event)) {
        DBOS_CHECK(event.op >= DBOS_EVENT_INSERT && event.op <= DBOS_EVENT_TEXT);
        sum += event.before.size_bytes + event.after.size_bytes + event.low.size_bytes +
               event.high.size_bytes + event.text.size_bytes + event.user.size_bytes;
    }
    DBOS_CHECK(sum <= size_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    static struct dbos_alloc alloc = {.name = "fuzz"};
    walk(data, size_bytes);
    if (size_bytes < sizeof(struct dbos_record_frame)) {
        return 0;
    }
    uint8_t *copy = dbos_take(&alloc, size_bytes);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size_bytes);
    dbos_store_u32(copy, (uint32_t)size_bytes);
    dbos_store_u16(copy + 8, DBOS_RECORD_VERSION);
    dbos_store_u32(copy + 4,
                   dbos_crc32c(0, copy + DBOS_RECORD_CRC_FROM, size_bytes - DBOS_RECORD_CRC_FROM));
    walk(copy, size_bytes);
    dbos_give(&alloc, copy);
    return 0;
}
