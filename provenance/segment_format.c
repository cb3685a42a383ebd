#include "provenance/segment_format.h"

#include <stdio.h>

#include "base/hash.h"

void dbos_log_path(char *out, const char *data_dir, const char *name) {
    int length = snprintf(out, DBOS_PATH_BYTES, "%s/%s", data_dir, name);
    DBOS_CHECK(length > 0 && length < DBOS_PATH_BYTES);
}

void dbos_segment_path(char *out, const char *data_dir, uint32_t number) {
    int length = snprintf(out, DBOS_PATH_BYTES, "%s/log/%08u.seg", data_dir, number);
    DBOS_CHECK(length > 0 && length < DBOS_PATH_BYTES);
}

void dbos_blob_path(char *out, const char *data_dir, uint32_t number) {
    int length = snprintf(out, DBOS_PATH_BYTES, "%s/blobs/%08u.blob", data_dir, number);
    DBOS_CHECK(length > 0 && length < DBOS_PATH_BYTES);
}

static bool is_zero(const uint8_t *bytes, size_t size_bytes) {
    /* Equal to itself shifted by one byte, and the first is zero. */
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size_bytes - 1) == 0;
}

/* --- sectors --------------------------------------------------------------------------------- */

static uint32_t sector_crc(const uint8_t *sector, uint32_t generation, uint32_t index,
                           uint32_t ordinal) {
    uint32_t head[3] = {generation, index, ordinal};
    uint32_t crc = dbos_crc32c(0, head, sizeof head);
    return dbos_crc32c(crc, sector + sizeof(struct dbos_sector_head), DBOS_SECTOR_PAYLOAD_BYTES);
}

void dbos_sector_seal(uint8_t *sector, uint32_t generation, uint32_t index, uint32_t ordinal) {
    DBOS_CHECK(generation != 0);
    struct dbos_sector_head head = {.generation = generation,
                                    .crc = sector_crc(sector, generation, index, ordinal),
                                    .ordinal = ordinal};
    memcpy(sector, &head, sizeof head);
}

enum dbos_sector_state dbos_sector_state(const uint8_t *sector, uint32_t generation,
                                         uint32_t index) {
    struct dbos_sector_head head;
    memcpy(&head, sector, sizeof head);
    if (head.generation == 0) {
        return is_zero(sector, DBOS_SECTOR_BYTES) ? DBOS_SECTOR_UNWRITTEN : DBOS_SECTOR_DAMAGED;
    }
    if (head.generation > generation ||
        head.crc != sector_crc(sector, head.generation, index, head.ordinal)) {
        return DBOS_SECTOR_DAMAGED;
    }
    return head.generation == generation ? DBOS_SECTOR_WRITTEN : DBOS_SECTOR_UNWRITTEN;
}

uint32_t dbos_sector_ordinal(const uint8_t *sector) {
    return dbos_load_u32(sector + offsetof(struct dbos_sector_head, ordinal));
}

/* --- identity file --------------------------------------------------------------------------- */

void dbos_identity_encode(struct dbos_stored_identity *identity) {
    identity->magic = DBOS_IDENTITY_MAGIC;
    identity->version = DBOS_LOG_FORMAT_VERSION;
    identity->size_bytes = sizeof *identity;
    identity->crc = dbos_crc32c(0, identity, offsetof(struct dbos_stored_identity, crc));
}

enum dbos_err dbos_identity_check(const struct dbos_stored_identity *identity,
                                  struct dbos_errinfo *info) {
    if (identity->magic != DBOS_IDENTITY_MAGIC ||
        identity->crc != dbos_crc32c(0, identity, offsetof(struct dbos_stored_identity, crc))) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "the identity file is damaged");
    }
    if (identity->version != DBOS_LOG_FORMAT_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "the data directory has format version %u, this program knows %d",
                         identity->version, DBOS_LOG_FORMAT_VERSION);
    }
    return DBOS_OK;
}

/* --- segment header -------------------------------------------------------------------------- */

void dbos_segment_header_encode(const struct dbos_segment_header *header, uint8_t *out) {
    struct dbos_stored_segment stored = {
        .magic = DBOS_SEGMENT_MAGIC,
        .version = DBOS_LOG_FORMAT_VERSION,
        .header_bytes = DBOS_SEGMENT_HEADER_BYTES,
        .number = header->number,
        .generation = header->generation,
        .epoch = header->epoch,
        .first_position = header->first_position,
        .size_bytes = header->size_bytes,
        .database = header->database,
        .object_seed = header->object_seed,
        .previous_crc = header->previous_crc,
    };
    memset(out, 0, DBOS_SEGMENT_HEADER_BYTES);
    memcpy(out, &stored, sizeof stored);
    stored.crc = dbos_crc32c(0, out, DBOS_SEGMENT_HEADER_BYTES);
    memcpy(out, &stored, sizeof stored);
}

static uint32_t header_crc(const uint8_t *bytes) {
    enum { AT = offsetof(struct dbos_stored_segment, crc) };
    static const uint8_t zero[4] = {0};
    uint32_t crc = dbos_crc32c(0, bytes, AT);
    crc = dbos_crc32c(crc, zero, sizeof zero);
    return dbos_crc32c(crc, bytes + AT + 4, DBOS_SEGMENT_HEADER_BYTES - AT - 4);
}

enum dbos_header_state dbos_segment_header_decode(const uint8_t *bytes,
                                                  struct dbos_segment_header *out,
                                                  struct dbos_errinfo *info) {
    struct dbos_stored_segment stored;
    *out = (struct dbos_segment_header){0};
    if (is_zero(bytes, DBOS_SEGMENT_HEADER_BYTES)) {
        return DBOS_HEADER_UNUSED;
    }
    memcpy(&stored, bytes, sizeof stored);
    if (stored.magic != DBOS_SEGMENT_MAGIC || stored.crc != header_crc(bytes)) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT, "the segment header is damaged");
        return DBOS_HEADER_BAD;
    }
    if (stored.version != DBOS_LOG_FORMAT_VERSION ||
        stored.header_bytes != DBOS_SEGMENT_HEADER_BYTES) {
        (void)dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                        "the segment has format version %u, this program knows %d", stored.version,
                        DBOS_LOG_FORMAT_VERSION);
        return DBOS_HEADER_BAD;
    }
    if (stored.number == 0 || stored.generation == 0 || stored.first_position == 0 ||
        stored.size_bytes % DBOS_SECTOR_BYTES != 0 ||
        stored.size_bytes <= DBOS_SEGMENT_HEADER_BYTES ||
        stored.size_bytes / DBOS_SECTOR_BYTES > UINT32_MAX) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT, "the segment header is malformed");
        return DBOS_HEADER_BAD;
    }
    *out = (struct dbos_segment_header){
        .number = stored.number,
        .generation = stored.generation,
        .epoch = stored.epoch,
        .first_position = stored.first_position,
        .size_bytes = stored.size_bytes,
        .database = stored.database,
        .object_seed = stored.object_seed,
        .previous_crc = stored.previous_crc,
    };
    return DBOS_HEADER_VALID;
}

/* --- batch header ---------------------------------------------------------------------------- */

void dbos_batch_seal(struct dbos_stored_batch *batch) {
    batch->magic = DBOS_BATCH_MAGIC;
    batch->version = DBOS_BATCH_FORMAT_VERSION;
    batch->header_bytes = sizeof *batch;
    batch->reserved = 0;
    batch->crc = dbos_crc32c(0, batch, offsetof(struct dbos_stored_batch, crc));
}

enum dbos_err dbos_batch_check(const struct dbos_stored_batch *batch, struct dbos_errinfo *info) {
    if (batch->magic != DBOS_BATCH_MAGIC ||
        batch->crc != dbos_crc32c(0, batch, offsetof(struct dbos_stored_batch, crc))) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "the batch header is damaged");
    }
    if (batch->version == 0 || batch->version > DBOS_BATCH_FORMAT_VERSION ||
        batch->header_bytes != sizeof *batch) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "a batch has format version %u, this program knows 1 to %d",
                         batch->version, DBOS_BATCH_FORMAT_VERSION);
    }
    if (batch->record_count == 0 || batch->reserved != 0 ||
        batch->last_position < batch->first_position ||
        batch->last_position - batch->first_position + 1 != batch->record_count ||
        batch->synced_position >= batch->first_position) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "the batch header contradicts itself");
    }
    return DBOS_OK;
}

/* --- blob header ----------------------------------------------------------------------------- */

void dbos_blob_seal(struct dbos_stored_blob *blob, const void *data) {
    blob->magic = DBOS_BLOB_MAGIC;
    blob->version = DBOS_LOG_FORMAT_VERSION;
    blob->header_bytes = sizeof *blob;
    blob->data_crc = dbos_crc32c(0, data, blob->id.size_bytes);
    blob->crc = dbos_crc32c(0, blob, offsetof(struct dbos_stored_blob, crc));
}

bool dbos_blob_check(const struct dbos_stored_blob *blob, bool *too_new) {
    *too_new = false;
    if (blob->magic != DBOS_BLOB_MAGIC ||
        blob->crc != dbos_crc32c(0, blob, offsetof(struct dbos_stored_blob, crc))) {
        return false;
    }
    *too_new = blob->version != DBOS_LOG_FORMAT_VERSION || blob->header_bytes != sizeof *blob;
    return !*too_new;
}
