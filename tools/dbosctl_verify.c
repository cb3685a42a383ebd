#include "tools/dbosctl_verify.h"

#include <inttypes.h>
#include <stdio.h>

#include "provenance/archive_check.h"
#include "txn/log.h"

static void say_snapshots(const struct dbos_log_findings *found) {
    if (found->snapshots != 0) {
        (void)printf("%" PRIu32 " snapshot%s in order; the newest: position %" PRIu64 ", %" PRIu64
                     " rows, %" PRIu64 " bytes\n",
                     found->snapshots, found->snapshots == 1 ? "" : "s", found->snapshot.position,
                     found->snapshot.rows, found->snapshot.bytes);
    }
}

static void say_torn(const struct dbos_log_findings *found) {
    if (found->log.torn_bytes != 0) {
        (void)printf("torn end of the log: %" PRIu64 " bytes of a write that was not finished and "
                     "never acknowledged; the next start cuts them\n",
                     found->log.torn_bytes);
    }
    if (found->blobs.torn_bytes != 0) {
        (void)printf("torn end of the large values: %" PRIu64 " bytes that no transaction names; "
                     "the next start cuts them\n",
                     found->blobs.torn_bytes);
    }
}

static int verify_archive(struct dbos_alloc *alloc, const char *data_dir) {
    struct dbos_errinfo info = {0};
    struct dbos_archive_findings found;
    enum dbos_err err = dbos_archive_check(alloc, dbos_env_posix(), data_dir, true, &found, &info);
    if (err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION) {
        (void)printf("%s: %s%s%s\n", err == DBOS_ERR_CORRUPT ? "CORRUPT" : "UNKNOWN FORMAT",
                     info.message, info.detail[0] == '\0' ? "" : ". ", info.detail);
        return 1;
    }
    if (err != DBOS_OK) {
        (void)fprintf(stderr, "dbosctl: %s\n", info.message);
        return 1;
    }
    if (found.exports != 0) {
        (void)printf("the archive in order to position %" PRIu64 ": %" PRIu64 " files of %" PRIu64
                     " bytes\n",
                     found.last_position, found.files, found.bytes);
    }
    return 0;
}

int dbosctl_verify(struct dbos_alloc *alloc, const char *data_dir) {
    struct dbos_errinfo info = {0};
    struct dbos_log_findings found;
    enum dbos_err err = dbos_log_verify(alloc, dbos_env_posix(), data_dir, &found, &info);
    if (err == DBOS_OK) {
        say_snapshots(&found);
        say_torn(&found);
    } else if (err == DBOS_ERR_CORRUPT || err == DBOS_ERR_FORMAT_VERSION) {
        (void)printf("%s: %s%s%s\n", err == DBOS_ERR_CORRUPT ? "CORRUPT" : "UNKNOWN FORMAT",
                     info.message, info.detail[0] == '\0' ? "" : ". ", info.detail);
    } else {
        (void)fprintf(stderr, "dbosctl: %s\n", info.message);
        return 1;
    }
    (void)printf("%s: %" PRIu64 " records in %" PRIu64 " batches to position %" PRIu64
                 ", state hash %016" PRIx64 "%s; %" PRIu64 " large values of %" PRIu64 " bytes\n",
                 err == DBOS_OK ? "in order" : "NOT in order, read so far", found.log.records,
                 found.log.batches, found.log.last_position, found.log.state_hash,
                 err == DBOS_OK ? " proved" : "", found.blobs.values, found.blobs.bytes);
    int archive = verify_archive(alloc, data_dir);
    return err == DBOS_OK ? archive : 1;
}
