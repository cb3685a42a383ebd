/* The readers of a snapshot (txn/snapshot.h) on any files: as they are, and with every checksum
 * made right, so that what stands behind them is reached. The files are in memory: two bytes for
 * the size of the manifest, the manifest, and then its only part. */
#include <stdlib.h>

#include "base/hash.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_files.h"
#include "txn/snapshot.h"
#include "txn/snapshot_format.h"

enum { MANIFEST, PART, POSITION = 12 };

struct files {
    uint8_t *manifest;
    size_t manifest_bytes;
    uint8_t *part;
    size_t part_bytes;
};

static enum dbos_err open_file(struct dbos_env *env, const char *path, enum dbos_open_mode mode,
                               int *out, struct dbos_errinfo *info) {
    (void)env;
    (void)mode;
    (void)info;
    *out = strstr(path, ".manifest") != NULL ? MANIFEST : PART;
    return DBOS_OK;
}

static const struct dbos_env_ops memory_ops = {
    .file_open = open_file,
    .file_close = fuzz_file_close,
    .file_read = fuzz_file_read,
    .file_size = fuzz_file_size,
};

/* The position that the manifest says, so that it is not refused for that alone. */
static uint64_t position_of(const struct files *files) {
    size_t at = offsetof(struct dbos_stored_manifest, position);
    return files->manifest_bytes >= at + 8 ? dbos_load_u64(files->manifest + at) : POSITION;
}

static void read_snapshot(struct files *files) {
    static struct dbos_alloc alloc = {.name = "fuzz", .bytes_max = 64 * 1048576};
    struct fuzz_file memory[] = {{files->manifest, files->manifest_bytes},
                                 {files->part, files->part_bytes}};
    struct dbos_env env = {.ops = &memory_ops, .state = memory};
    struct dbos_uuid database = {{0}};
    struct dbos_snapshot_facts facts;
    struct dbos_errinfo info;
    struct dbos_objects *objects = NULL;
    struct dbos_store *store = NULL;
    if (files->manifest_bytes >= sizeof(struct dbos_stored_manifest)) {
        memcpy(&database, files->manifest + offsetof(struct dbos_stored_manifest, database),
               sizeof database);
    }
    uint64_t position = position_of(files);
    enum dbos_err err =
        dbos_snapshot_check(&alloc, &env, "fuzz", &database, position, &facts, &info);
    DBOS_CHECK(dbos_objects_open(&alloc, 1, &objects) == DBOS_OK);
    DBOS_CHECK(dbos_store_open(&alloc, objects, 1, &store) == DBOS_OK);
    struct dbos_snapshot_load load = {.alloc = &alloc,
                                      .env = &env,
                                      .data_dir = "fuzz",
                                      .database = database,
                                      .store = store,
                                      .position = position};
    enum dbos_err loaded = dbos_snapshot_load(&load, &facts, &info);
    DBOS_CHECK(err == DBOS_OK || loaded != DBOS_OK); /* what the check refuses is not served */
    DBOS_CHECK(loaded != DBOS_OK || dbos_store_state_hash(store) == facts.state_hash);
    dbos_store_close(store);
    dbos_objects_close(objects);
    DBOS_CHECK(atomic_load(&alloc.bytes) == 0);
}

/* Heads and checksums as if this were what was meant. */
static void make_right(struct files *files) {
    struct dbos_stored_manifest manifest = {0};
    struct dbos_stored_part part = {0};
    struct dbos_stored_part_facts facts = {.bytes = files->part_bytes};
    if (files->manifest_bytes < sizeof manifest + sizeof facts || files->part_bytes < sizeof part) {
        return;
    }
    memcpy(&manifest, files->manifest, sizeof manifest);
    part.database = manifest.database;
    part.position = manifest.position;
    part.parts = 1;
    dbos_part_seal(&part);
    memcpy(files->part, &part, sizeof part);
    uint32_t crc = part.crc;
    size_t at = sizeof part;
    struct dbos_stored_chunk chunk;
    while (at + sizeof chunk <= files->part_bytes) {
        memcpy(&chunk, files->part + at, sizeof chunk);
        size_t left = files->part_bytes - at - sizeof chunk;
        bool is_last = left < sizeof chunk;
        chunk.payload_bytes = chunk.payload_bytes > left ? (uint32_t)left : chunk.payload_bytes;
        chunk.payload_bytes = is_last ? (uint32_t)left : chunk.payload_bytes;
        chunk.kind = is_last ? DBOS_CHUNK_END : chunk.kind;
        chunk.number = facts.chunks++;
        dbos_chunk_seal(&chunk, files->part + at + sizeof chunk, crc);
        memcpy(files->part + at, &chunk, sizeof chunk);
        crc = chunk.crc;
        facts.rows += chunk.rows;
        at += sizeof chunk + chunk.payload_bytes;
    }
    facts.crc = crc;
    manifest.parts = 1;
    dbos_manifest_seal(&manifest, &facts);
    memcpy(files->manifest, &manifest, sizeof manifest);
    memcpy(files->manifest + sizeof manifest, &facts, sizeof facts);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    if (size_bytes < 2 || size_bytes > 1048576) {
        return 0;
    }
    size_t manifest_bytes = (size_t)data[0] | (size_t)data[1] << 8;
    manifest_bytes = manifest_bytes > size_bytes - 2 ? size_bytes - 2 : manifest_bytes;
    struct files files = {.manifest_bytes = manifest_bytes,
                          .part_bytes = size_bytes - 2 - manifest_bytes};
    files.manifest = malloc(files.manifest_bytes + 1);
    files.part = malloc(files.part_bytes + 1);
    DBOS_CHECK(files.manifest != NULL && files.part != NULL);
    memcpy(files.manifest, data + 2, files.manifest_bytes);
    memcpy(files.part, data + 2 + files.manifest_bytes, files.part_bytes);
    read_snapshot(&files);
    make_right(&files);
    read_snapshot(&files);
    free(files.manifest);
    free(files.part);
    return 0;
}
