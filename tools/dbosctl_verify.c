#include "tools/dbosctl_verify.h"

#include <inttypes.h>
#include <stdio.h>

#include "provenance/segment.h"

struct found {
    uint64_t batches;
    uint64_t records;
    uint64_t first_position;
    uint64_t last_position;
    uint64_t state_hash;
    uint64_t bytes;
};

static bool count_records(const struct dbos_batch *batch, struct found *found) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    uint32_t records = 0;
    while (dbos_batch_next(batch, &cursor, &size_bytes) != NULL) {
        records++;
    }
    if (records != batch->record_count) {
        (void)printf("segment %u offset %" PRIu64 ": %u records where %u are announced\n",
                     batch->segment, batch->offset, records, batch->record_count);
        return false;
    }
    if (found->batches > 0 && batch->first_position <= found->last_position) {
        (void)printf("segment %u offset %" PRIu64 ": position %" PRIu64 " follows %" PRIu64 "\n",
                     batch->segment, batch->offset, batch->first_position, found->last_position);
        return false;
    }
    if (found->batches == 0) {
        found->first_position = batch->first_position;
    }
    found->batches++;
    found->records += records;
    found->bytes += batch->end_offset - batch->offset;
    found->last_position = batch->last_position;
    found->state_hash = batch->state_hash;
    return true;
}

/* Errors are said; true = the log is in order (a torn end was never acknowledged). */
static bool walk(struct dbos_log_reader *reader, struct found *found) {
    for (;;) {
        struct dbos_batch batch;
        struct dbos_errinfo info = {0};
        switch (dbos_log_reader_next(reader, &batch, &info)) {
        case DBOS_READ_BATCH:
            if (!count_records(&batch, found)) {
                return false;
            }
            break;
        case DBOS_READ_END:
            return true;
        case DBOS_READ_TORN:
            (void)printf("torn end (an unfinished write, never acknowledged): %s\n", info.message);
            return true;
        case DBOS_READ_CORRUPT:
            (void)printf("CORRUPT: %s\n", info.message);
            return false;
        }
    }
}

int dbosctl_verify(struct dbos_alloc *alloc, const char *data_dir) {
    struct dbos_env *env = dbos_env_posix();
    struct dbos_errinfo info = {0};
    struct dbos_log_reader *reader = NULL;
    struct dbos_blob_index *blobs = NULL;
    struct found found = {0};
    if (dbos_log_reader_open(alloc, env, data_dir, 1, 0, &reader, &info) != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: %s\n", info.message);
        return 1;
    }
    bool fine = walk(reader, &found);
    dbos_log_reader_close(reader);
    if (dbos_blob_index_open(alloc, env, data_dir, &blobs, &info) != DBOS_OK) {
        (void)printf("CORRUPT: %s\n", info.message);
        fine = false;
    }
    dbos_blob_index_close(blobs);
    (void)printf("%s: %" PRIu64 " batches, %" PRIu64 " records, %" PRIu64
                 " bytes, positions %" PRIu64 " to %" PRIu64 ", state hash %016" PRIx64 "\n",
                 fine ? "in order" : "NOT in order", found.batches, found.records, found.bytes,
                 found.first_position, found.last_position, found.state_hash);
    return fine && found.batches > 0 ? 0 : 1;
}
