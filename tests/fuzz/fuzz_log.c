/* The readers of log segments and blob files (provenance/segment.h) on any file: as it is, and with
 * every checksum made right, so that what stands behind them is reached. The file is in memory. */
#include "base/hash.h"
#include "provenance/record_format.h"
#include "provenance/segment_format.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_files.h"

static enum dbos_err memory_open(struct dbos_env *env, const char *path, enum dbos_open_mode mode,
                                 int *out, struct dbos_errinfo *info) {
    (void)env;
    (void)mode;
    *out = strstr(path, "/00000001.") != NULL ? 0 : -1;
    return *out == 0 ? DBOS_OK : dbos_fail(info, DBOS_ERR_IO, "no such file");
}

static enum dbos_err memory_list(struct dbos_env *env, const char *path,
                                 void (*each)(void *arg, const char *name), void *arg,
                                 struct dbos_errinfo *info) {
    (void)env;
    (void)info;
    each(arg, strstr(path, "blobs") != NULL ? "00000001.blob" : "00000001.seg");
    return DBOS_OK;
}

static const struct dbos_env_ops memory_ops = {
    .file_open = memory_open,
    .file_close = fuzz_file_close,
    .file_read = fuzz_file_read,
    .file_size = fuzz_file_size,
    .dir_list = memory_list,
};

static void read_records(struct dbos_alloc *alloc, const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    uint32_t count = 0;
    for (const uint8_t *record = dbos_batch_next(batch, &cursor, &size_bytes); record != NULL;
         record = dbos_batch_next(batch, &cursor, &size_bytes)) {
        struct dbos_record_head head;
        struct dbos_record_decoder decoder;
        struct dbos_record_scratch scratch;
        struct dbos_event event;
        struct dbos_errinfo info;
        count++;
        dbos_record_scratch_init(&scratch, alloc);
        if (dbos_record_open(record, size_bytes, &scratch, &head, &decoder, &info) == DBOS_OK) {
            while (dbos_record_next(&decoder, &event)) {
            }
        }
        dbos_record_scratch_fini(&scratch);
    }
    DBOS_CHECK(count == batch->record_count);
}

static void read_log(struct dbos_env *env, bool strict) {
    static struct dbos_alloc alloc = {.name = "fuzz", .bytes_max = 64 * 1048576};
    struct dbos_log_reader *reader = NULL;
    struct dbos_errinfo info;
    struct dbos_batch batch;
    uint64_t last = 0;
    if (dbos_log_reader_open(&alloc, env, "fuzz", 1, 0, &reader, &info) != DBOS_OK) {
        return;
    }
    if (strict) {
        dbos_log_reader_strict(reader);
    }
    while (dbos_log_reader_next(reader, &batch, &info) == DBOS_READ_BATCH) {
        DBOS_CHECK(last == 0 || batch.first_position == last + 1);
        last = batch.last_position;
        read_records(&alloc, &batch);
    }
    dbos_log_reader_close(reader);
    struct dbos_blob_index *index = NULL;
    if (dbos_blob_index_open(&alloc, env, "fuzz", &index, &info) == DBOS_OK) {
        uint32_t file = 0;
        uint64_t offset = 0;
        (void)dbos_blob_index_first_after(index, 0, &file, &offset);
        dbos_blob_index_close(index);
    }
    DBOS_CHECK(atomic_load(&alloc.bytes) == 0);
}

/* The payload bytes behind a batch header, over sectors, have this CRC. */
static uint32_t records_crc(const uint8_t *file, size_t size_bytes, size_t at, size_t left) {
    uint32_t crc = 0;
    size_t skip = sizeof(struct dbos_stored_batch);
    for (; left != 0 && at + DBOS_SECTOR_BYTES <= size_bytes; at += DBOS_SECTOR_BYTES) {
        size_t part = DBOS_SECTOR_PAYLOAD_BYTES - skip;
        part = part > left ? left : part;
        crc = dbos_crc32c(crc, file + at + sizeof(struct dbos_sector_head) + skip, part);
        left -= part;
        skip = 0;
    }
    return crc;
}

static void seal_batch(uint8_t *file, size_t size_bytes, size_t at) {
    struct dbos_stored_batch batch;
    uint8_t *place = file + at + sizeof(struct dbos_sector_head);
    memcpy(&batch, place, sizeof batch);
    batch.records_crc = records_crc(file, size_bytes, at, batch.records_bytes);
    batch.crc = dbos_crc32c(0, &batch, offsetof(struct dbos_stored_batch, crc));
    memcpy(place, &batch, sizeof batch);
}

static void seal(uint8_t *file, size_t size_bytes) {
    enum { CRC_AT = offsetof(struct dbos_stored_segment, crc) };
    dbos_store_u32(file + CRC_AT, 0);
    dbos_store_u32(file + CRC_AT, dbos_crc32c(0, file, DBOS_SEGMENT_HEADER_BYTES));
    for (size_t at = DBOS_SEGMENT_HEADER_BYTES; at + DBOS_SECTOR_BYTES <= size_bytes;
         at += DBOS_SECTOR_BYTES) {
        uint32_t generation = dbos_load_u32(file + at);
        uint32_t ordinal = dbos_sector_ordinal(file + at);
        if (generation == 0) {
            continue;
        }
        if (ordinal == 0) {
            seal_batch(file, size_bytes, at);
        }
        dbos_sector_seal(file + at, generation, (uint32_t)(at / DBOS_SECTOR_BYTES), ordinal);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    static struct dbos_alloc alloc = {.name = "fuzz"};
    struct fuzz_file memory = {.data = data, .size_bytes = size_bytes};
    struct dbos_env env = {.ops = &memory_ops, .state = &memory};
    read_log(&env, true);
    read_log(&env, false);
    if (size_bytes < DBOS_SEGMENT_HEADER_BYTES) {
        return 0;
    }
    uint8_t *copy = dbos_take(&alloc, size_bytes);
    if (copy == NULL) {
        return 0;
    }
    memcpy(copy, data, size_bytes);
    seal(copy, size_bytes);
    memory.data = copy;
    read_log(&env, true);
    read_log(&env, false);
    dbos_give(&alloc, copy);
    return 0;
}
