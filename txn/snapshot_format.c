#include "txn/snapshot_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"

/* --- names ----------------------------------------------------------------------------------- */

void dbos_manifest_path(char *out, const char *data_dir, uint64_t position) {
    int length =
        snprintf(out, DBOS_PATH_BYTES, "%s/snapshots/%020" PRIu64 ".manifest", data_dir, position);
    DBOS_CHECK(length > 0 && length < DBOS_PATH_BYTES);
}

void dbos_part_path(char *out, const char *data_dir, uint64_t position, uint32_t part) {
    int length = snprintf(out, DBOS_PATH_BYTES, "%s/snapshots/%020" PRIu64 "-%04" PRIu32 ".part",
                          data_dir, position, part);
    DBOS_CHECK(length > 0 && length < DBOS_PATH_BYTES);
}

static bool all_digits(const char *text, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
    }
    return true;
}

bool dbos_snapshot_name(const char *name, struct dbos_snapshot_name *out) {
    enum { DIGITS = 20, PART_DIGITS = 4 };
    *out = (struct dbos_snapshot_name){0};
    if (strlen(name) < DIGITS || !all_digits(name, DIGITS)) {
        return false;
    }
    const char *rest = name + DIGITS;
    out->position = strtoull(name, NULL, 10);
    out->is_unfinished = strcmp(rest, ".manifest.new") == 0;
    out->is_manifest = strcmp(rest, ".manifest") == 0;
    return out->is_unfinished || out->is_manifest ||
           (rest[0] == '-' && strlen(rest) == PART_DIGITS + 6 &&
            all_digits(rest + 1, PART_DIGITS) && strcmp(rest + 1 + PART_DIGITS, ".part") == 0);
}

/* --- manifest -------------------------------------------------------------------------------- */

static uint32_t manifest_crc(const struct dbos_stored_manifest *manifest,
                             const struct dbos_stored_part_facts *parts) {
    uint32_t crc = dbos_crc32c(0, manifest, offsetof(struct dbos_stored_manifest, crc));
    return dbos_crc32c(crc, parts, manifest->parts * sizeof *parts);
}

void dbos_manifest_seal(struct dbos_stored_manifest *manifest,
                        const struct dbos_stored_part_facts *parts) {
    manifest->magic = DBOS_MANIFEST_MAGIC;
    manifest->version = DBOS_SNAPSHOT_FORMAT_VERSION;
    manifest->header_bytes = sizeof *manifest;
    manifest->crc = manifest_crc(manifest, parts);
}

static enum dbos_err check_version(uint16_t version, struct dbos_errinfo *info) {
    if (version == DBOS_SNAPSHOT_FORMAT_VERSION) {
        return DBOS_OK;
    }
    return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                     "the snapshot has format version %u, this program knows %d", version,
                     DBOS_SNAPSHOT_FORMAT_VERSION);
}

enum dbos_err dbos_manifest_check(const uint8_t *bytes, size_t size_bytes,
                                  struct dbos_stored_manifest *out,
                                  const struct dbos_stored_part_facts **out_parts,
                                  struct dbos_errinfo *info) {
    *out_parts = NULL;
    *out = (struct dbos_stored_manifest){0};
    if (size_bytes >= sizeof *out) {
        memcpy(out, bytes, sizeof *out);
    }
    size_t wanted = sizeof *out + out->parts * sizeof **out_parts;
    const struct dbos_stored_part_facts *parts =
        (const struct dbos_stored_part_facts *)(const void *)(bytes + sizeof *out);
    if (out->magic != DBOS_MANIFEST_MAGIC || out->parts == 0 ||
        out->parts > DBOS_SNAPSHOT_PARTS_MAX || size_bytes != wanted ||
        out->crc != manifest_crc(out, parts)) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "the snapshot's manifest is damaged");
    }
    *out_parts = parts;
    return check_version(out->version, info);
}

/* --- part files ------------------------------------------------------------------------------ */

void dbos_part_seal(struct dbos_stored_part *part) {
    part->magic = DBOS_PART_MAGIC;
    part->version = DBOS_SNAPSHOT_FORMAT_VERSION;
    part->header_bytes = sizeof *part;
    part->crc = dbos_crc32c(0, part, offsetof(struct dbos_stored_part, crc));
}

enum dbos_err dbos_part_check(const struct dbos_stored_part *part, struct dbos_errinfo *info) {
    if (part->magic != DBOS_PART_MAGIC ||
        part->crc != dbos_crc32c(0, part, offsetof(struct dbos_stored_part, crc))) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "its header is damaged");
    }
    return check_version(part->version, info);
}

static uint32_t chunk_crc(const struct dbos_stored_chunk *chunk, uint32_t crc_before) {
    return dbos_crc32c(crc_before, chunk, offsetof(struct dbos_stored_chunk, crc));
}

void dbos_chunk_seal(struct dbos_stored_chunk *chunk, const void *payload, uint32_t crc_before) {
    chunk->magic = DBOS_CHUNK_MAGIC;
    chunk->head_bytes = sizeof *chunk;
    chunk->payload_crc = dbos_crc32c(crc_before, payload, chunk->payload_bytes);
    chunk->crc = chunk_crc(chunk, crc_before);
}

enum dbos_err dbos_chunk_check(const struct dbos_stored_chunk *chunk, uint32_t number,
                               uint32_t crc_before, struct dbos_errinfo *info) {
    bool is_whole = chunk->magic == DBOS_CHUNK_MAGIC && chunk->crc == chunk_crc(chunk, crc_before);
    if (!is_whole || chunk->number != number || chunk->head_bytes != sizeof *chunk ||
        chunk->kind < DBOS_CHUNK_CATALOG || chunk->kind > DBOS_CHUNK_END ||
        chunk->payload_bytes > DBOS_CHUNK_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "the head of chunk %u is damaged", number);
    }
    return DBOS_OK;
}

/* --- rows ------------------------------------------------------------------------------------ */

static size_t put_varint(uint8_t *to, uint64_t value) {
    size_t at = 0;
    while (value >= 0x80) {
        to[at++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    to[at++] = (uint8_t)value;
    return at;
}

size_t dbos_snapshot_row_put(uint8_t *to, const struct dbos_snapshot_row *row) {
    size_t at = put_varint(to, row->table_id);
    at += put_varint(to + at, row->block);
    at += put_varint(to + at, row->position);
    at += put_varint(to + at, row->payload.size_bytes);
    memcpy(to + at, row->payload.data, row->payload.size_bytes);
    return at + row->payload.size_bytes;
}

bool dbos_snapshot_row_next(struct dbos_reader *reader, struct dbos_snapshot_row *out) {
    if (reader->failed || dbos_reader_left(reader) == 0) {
        return false;
    }
    uint64_t table_id = dbos_get_varint(reader);
    out->block = dbos_get_varint(reader);
    out->position = dbos_get_varint(reader);
    out->payload = dbos_get_sized(reader);
    reader->failed = reader->failed || table_id == 0 || table_id > UINT32_MAX;
    out->table_id = (uint32_t)table_id;
    return !reader->failed;
}
