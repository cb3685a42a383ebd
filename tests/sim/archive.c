#include "tests/sim/archive.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/archive_client.h"
#include "provenance/segment.h"
#include "tests/sim/disk.h"

enum {
    RECORDS_MAX = 32768,
    RETRY_NS = 20000000, /* as provenance/archiver.c */
    RETRIES_MAX = 250,
    RESTART_NS = 200000000,
};

struct kept {
    uint8_t *bytes;
    size_t size_bytes;
};

static struct {
    struct kept records[RECORDS_MAX]; /* by position */
    uint64_t exported;
    uint32_t segment; /* where the next life goes on */
    const char *data_dir;
    /* This life. */
    bool is_damaged;
    bool is_up;
    bool stops;
    bool is_known;
    struct dbos_alloc alloc;
    struct dbos_log_reader *reader;
    uint64_t taken;
    uint64_t wanted;
    uint32_t span_segment;
} archive = {.segment = 1};

uint64_t sim_archive_exported(void) { return archive.exported; }
uint64_t sim_archive_taken(void) { return archive.taken; }
bool sim_archive_is_down(void) { return !archive.is_up; }

const uint8_t *sim_archive_record(uint64_t position, size_t *out_bytes) {
    bool has = position != 0 && position <= archive.exported;
    *out_bytes = has ? archive.records[position].size_bytes : 0;
    return has ? archive.records[position].bytes : NULL;
}

void sim_archive_begin(const char *data_dir, bool is_damaged) {
    archive.data_dir = data_dir;
    archive.is_damaged = is_damaged;
    archive.is_up = false;
}

static noreturn void wrong(const char *what, uint64_t position) {
    (void)fprintf(stderr, "sim: the archive, behind position %llu (exported %llu): %s\n",
                  (unsigned long long)position, (unsigned long long)archive.exported, what);
    abort();
}

/* --- taking over ----------------------------------------------------------------------------- */

static void keep(uint64_t position, const uint8_t *record, size_t size_bytes) {
    struct kept *kept = &archive.records[position];
    DBOS_CHECK(position < RECORDS_MAX);
    free(kept->bytes); /* taken in a life that crashed, and never exported */
    kept->bytes = malloc(size_bytes);
    DBOS_CHECK(kept->bytes != NULL);
    memcpy(kept->bytes, record, size_bytes);
    kept->size_bytes = size_bytes;
}

static void export_taken(uint32_t next_segment) {
    sim_sleep(sim_dice(3000000));
    archive.exported = archive.taken;
    archive.segment = next_segment;
    archive.span_segment = next_segment;
}

static void take_batch(const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    int64_t commit_us = 0;
    const uint8_t *record;
    if (batch->last_position <= archive.taken) {
        return; /* exported before, out of a segment that was not sealed */
    }
    if (archive.span_segment != batch->segment) {
        export_taken(batch->segment);
    } else if (sim_dice(5) == 0) {
        export_taken(batch->segment); /* many large values: before the segment is sealed */
    }
    while ((record = dbos_batch_next(batch, &cursor, &size_bytes)) != NULL) {
        if (dbos_record_peek(record, size_bytes, &commit_us) != archive.taken + 1) {
            wrong("the log goes on elsewhere", archive.taken);
        }
        keep(archive.taken + 1, record, size_bytes);
        archive.taken++;
    }
}

/* False: it is over, for this process. */
static bool take_available(void) {
    struct dbos_batch batch;
    struct dbos_errinfo info = {0};
    enum dbos_read_result result = DBOS_READ_END;
    while (!archive.stops &&
           (result = dbos_log_reader_next(archive.reader, &batch, &info)) == DBOS_READ_BATCH) {
        take_batch(&batch);
    }
    if (result == DBOS_READ_CORRUPT && info.code != DBOS_ERR_IO && !archive.is_damaged) {
        wrong(info.message, archive.taken);
    }
    return result != DBOS_READ_CORRUPT;
}

static bool take_until(uint64_t durable) {
    dbos_log_reader_set_durable(archive.reader, durable);
    bool goes_on = take_available();
    for (uint32_t i = 0; goes_on && archive.taken < durable && !archive.stops; i++) {
        if (i == RETRIES_MAX) {
            if (!archive.is_damaged) {
                wrong("the log ends before the position that is durable", archive.taken);
            }
            return false;
        }
        sim_sleep(RETRY_NS);
        goes_on = take_available();
    }
    return goes_on;
}

/* --- the process ----------------------------------------------------------------------------- */

static bool open_reader(void) {
    struct dbos_errinfo info = {0};
    archive.taken = archive.exported;
    archive.span_segment = archive.segment;
    return dbos_log_reader_open(&archive.alloc, sim_disk_env(), archive.data_dir, archive.segment,
                                0, &archive.reader, &info) == DBOS_OK;
}

static void run_process(void) {
    bool goes_on = open_reader();
    archive.is_known = archive.is_known || goes_on;
    while (goes_on && !archive.stops) {
        if (archive.wanted > archive.taken) {
            goes_on = take_until(archive.wanted);
        } else {
            sim_wait(&archive, UINT64_MAX);
        }
    }
    dbos_log_reader_close(archive.reader);
    archive.reader = NULL;
}

/* A process that ends is started again. */
static void *supervise(void *unused) {
    (void)unused;
    while (!archive.stops) {
        run_process();
        if (!archive.stops) {
            sim_sleep(RESTART_NS);
        }
    }
    archive.is_up = false;
    sim_wake(&archive.is_up);
    return NULL;
}

/* --- what the engine calls ------------------------------------------------------------------- */

enum dbos_err __wrap_dbos_archive_client_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                              const char *program_dir, const char *data_dir,
                                              struct dbos_archive_client **out,
                                              struct dbos_errinfo *info);
void __wrap_dbos_archive_client_close(struct dbos_archive_client *client);
void __wrap_dbos_archive_advance(struct dbos_archive_client *client, uint64_t position,
                                 bool urgent);
void __wrap_dbos_archive_client_state(const struct dbos_archive_client *client,
                                      struct dbos_archive_client_state *out);
enum dbos_err __wrap_dbos_archive_query(struct dbos_archive_client *client,
                                        const struct dbos_archive_request *request,
                                        struct dbos_errinfo *info);

enum dbos_err __wrap_dbos_archive_client_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                              const char *program_dir, const char *data_dir,
                                              struct dbos_archive_client **out,
                                              struct dbos_errinfo *info) {
    (void)alloc;
    (void)env;
    (void)program_dir;
    (void)data_dir;
    (void)info;
    dbos_alloc_init(&archive.alloc, "archive", 0);
    archive.stops = false;
    archive.is_known = false;
    archive.wanted = 0;
    archive.taken = archive.exported;
    archive.reader = NULL;
    archive.is_up = true;
    sim_spawn("archiver", supervise, NULL);
    *out = (struct dbos_archive_client *)(void *)&archive;
    return DBOS_OK;
}

void __wrap_dbos_archive_client_close(struct dbos_archive_client *client) {
    if (client == NULL) {
        return;
    }
    archive.stops = true;
    sim_wake(&archive);
    while (archive.is_up) {
        sim_wait(&archive.is_up, UINT64_MAX);
    }
    dbos_alloc_fini(&archive.alloc);
}

void __wrap_dbos_archive_advance(struct dbos_archive_client *client, uint64_t position,
                                 bool urgent) {
    (void)client;
    (void)urgent;
    if (position > archive.wanted) {
        archive.wanted = position;
        sim_wake(&archive);
    }
}

void __wrap_dbos_archive_client_state(const struct dbos_archive_client *client,
                                      struct dbos_archive_client_state *out) {
    (void)client;
    *out = (struct dbos_archive_client_state){
        .process = 1,
        .starts = 1,
        .is_known = archive.is_known,
        .progress = {.taken = archive.taken, .exported = archive.exported},
    };
}

enum dbos_err __wrap_dbos_archive_query(struct dbos_archive_client *client,
                                        const struct dbos_archive_request *request,
                                        struct dbos_errinfo *info) {
    (void)client;
    (void)request;
    return dbos_fail(info, DBOS_ERR_ARCHIVE, "the simulated archive answers nothing");
}
