/* Insides of the archiver, shared by its parts: taking over (archiver.c, archive_ingest.c), files
 * (archive_export.c), questions (archive_query.c) and functions (archive_functions.c).
 *
 * Thread: the archiver's. Memory: the archiver's allocator. */
#ifndef DBOS_PROVENANCE_ARCHIVE_INTERNAL_H
#define DBOS_PROVENANCE_ARCHIVE_INTERNAL_H

#include <pthread.h>

#include "provenance/archive_relation.h"
#include "provenance/archiver.h"
#include "provenance/idmap.h"
#include "provenance/record.h"
#include "provenance/segment.h"
#include "storage/catalog.h"

enum {
    DBOS_ARCHIVE_PATH_BYTES = 1024,
    DBOS_ARCHIVE_ORD_BITS = 24, /* an event's number within its transaction */
    DBOS_ARCHIVE_CATALOG_TABLE_KIND = 1,
    DBOS_ARCHIVE_CATALOG_PROCEDURE_KIND = 2,
    DBOS_ARCHIVE_STEPS_MAX = 64,    /* of a transaction; one with more has rows of its own */
    DBOS_ARCHIVE_SETS_MAX = 0x8000, /* later ones have rows of their own */
};

struct dbos_archive_session {
    char *user; /* own memory */
    char *role;
};
struct dbos_archive_procedure {
    uint32_t id;
    char name[DBOS_NAME_BYTES];
};

/* What the segment being taken over has so far. */
struct dbos_archive_span {
    uint32_t segment;
    uint64_t records; /* since the last export */
    uint64_t first_position;
    uint64_t last_position;
    int64_t first_us;
    int64_t last_us;
};

/* An event STATEMENT within its transaction. */
struct dbos_archive_step {
    uint64_t statement_id;
    uint32_t number; /* of the event */
    uint32_t statement;
};
static_assert(sizeof(struct dbos_archive_step) == 16, "hashed as it is");

/* Sequences of statements that transactions had, each once. */
struct dbos_archive_steps {
    struct dbos_idmap index; /* id → place of `sets` */
    struct dbos_archive_step_set {
        uint32_t first; /* of `steps` */
        uint32_t count;
    } * sets;
    uint32_t set_count;
    uint32_t set_capacity;
    struct dbos_archive_step *steps;
    uint32_t step_count;
    uint32_t step_capacity;
};

struct dbos_archiver {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    const struct dbos_duckdb *duck;
    char data_dir[DBOS_ARCHIVE_PATH_BYTES];
    char folder[DBOS_ARCHIVE_PATH_BYTES]; /* <data_dir>/archive */
    uint64_t rows_max;
    uint64_t hot_bytes_max;

    duckdb_database database;
    duckdb_connection connection;   /* of taking over and exporting */
    pthread_mutex_t question_mutex; /* guards the next three */
    duckdb_connection question;     /* of the query that runs, or NULL */
    bool asking;                    /* a question is under way */
    bool interrupted;               /* and shall end */
    atomic_bool hurry;
    _Atomic uint64_t seen_taken; /* what dbos_archiver_progress() says */
    _Atomic uint64_t seen_exported;

    struct dbos_archive_relation fixed[DBOS_ARCHIVE_FIXED_COUNT];
    struct dbos_archive_relation walk;     /* what a walk found, on its way into an answer */
    struct dbos_archive_relation **tables; /* by id, ascending */
    uint32_t table_count;
    uint32_t table_capacity;
    bool names_stale; /* arch.relation and the prov views must be made again */

    struct dbos_idmap session_index;
    struct dbos_archive_session *sessions;
    uint32_t session_count;
    uint32_t session_capacity;
    struct dbos_idmap texts; /* statement ids whose text is known */
    struct dbos_archive_steps steps;
    struct dbos_archive_procedure *procedures;
    uint32_t procedure_count;
    uint32_t procedure_capacity;

    struct dbos_log_reader *reader;
    struct dbos_blob_index *blobs;
    struct dbos_archive_span span;
    uint64_t position; /* last one taken over */
    uint64_t synced;   /* on disk up to here: may be exported */
    uint64_t records;
    uint64_t exports;
    uint64_t files;
    int manifest; /* file */
    uint64_t manifest_bytes;
    struct dbos_errinfo broken; /* code != OK: nothing works any more */
    struct dbos_buf scratch;    /* a key, a cleaned text */
    struct dbos_record_scratch record_scratch;
    struct dbos_buf object; /* bytes of a large value */
};

/* -- archive_ingest.c: one record -----------------------------------------------------------------
 */

enum dbos_err dbos_archive_ingest(struct dbos_archiver *archiver, const uint8_t *record,
                                  size_t size_bytes, struct dbos_errinfo *info) DBOS_MUST_USE;
/* The system tables. */
enum dbos_err dbos_archive_define_system(struct dbos_archiver *archiver,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;
/* A definition appeared in dbos.catalog, or went. */
enum dbos_err dbos_archive_define(struct dbos_archiver *archiver, uint64_t position, int64_t kind,
                                  struct dbos_bytes definition,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_archive_undefine(struct dbos_archiver *archiver, uint64_t position, int64_t kind,
                                    struct dbos_bytes definition,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
enum dbos_err dbos_archive_learn_session(struct dbos_archiver *archiver, uint64_t id,
                                         struct dbos_bytes user,
                                         struct dbos_bytes role) DBOS_MUST_USE;
/* A table's relation by id; NULL = none. */
struct dbos_archive_relation *dbos_archive_table(const struct dbos_archiver *archiver, uint32_t id);

/* -- archive_steps.c: sequences of statements that many transactions have
 * -------------------------- */

void dbos_archive_steps_init(struct dbos_archive_steps *steps, struct dbos_alloc *alloc);
void dbos_archive_steps_fini(struct dbos_archive_steps *steps);
uint64_t dbos_archive_steps_id(const struct dbos_archive_step *steps, uint32_t count);
/* Is exactly this sequence known under the id? *out_taken = another one is. */
bool dbos_archive_steps_known(const struct dbos_archive_steps *steps, uint64_t id,
                              const struct dbos_archive_step *sequence, uint32_t count,
                              bool *out_taken);
/* A sequence, or (with the id of the newest one) what follows of it. Errors: NOMEM, CORRUPT (of
 * another one). */
enum dbos_err dbos_archive_steps_learn(struct dbos_archive_steps *steps, uint64_t id,
                                       const struct dbos_archive_step *sequence,
                                       uint32_t count) DBOS_MUST_USE;

/* -- archive_export.c: files
 * ----------------------------------------------------------------------- */

/* Read the manifest, cut a torn line, remove files that it does not name; the files that it has
 * come into the relations, its last position into the archiver, the segment to go on with into
 * *out_segment. */
enum dbos_err dbos_archive_load_manifest(struct dbos_archiver *archiver, uint32_t *out_segment,
                                         struct dbos_errinfo *info) DBOS_MUST_USE;
/* Hot rows to files, one line to the manifest, hot tables emptied. What comes next is in
 * `next_segment`. The span is empty afterwards. */
enum dbos_err dbos_archive_export(struct dbos_archiver *archiver, uint32_t next_segment,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;

/* -- archive_restore.c: what was known before the restart, from the files
 * -------------------------- */

enum dbos_err dbos_archive_restore(struct dbos_archiver *archiver,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

/* -- archiver.c
 * ------------------------------------------------------------------------------------- */

/* Every view fresh: the next query sees all that was taken over. */
enum dbos_err dbos_archive_refresh(struct dbos_archiver *archiver,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;
/* Has the question that is under way been interrupted? */
bool dbos_archive_interrupted(struct dbos_archiver *archiver);
/* Advance for a question: it does not hurry, but it can be interrupted (CANCELED, not broken). */
enum dbos_err dbos_archive_advance_for(struct dbos_archiver *archiver, uint64_t position,
                                       struct dbos_errinfo *info) DBOS_MUST_USE;
/* Runs what was built and frees the buffer. */
enum dbos_err dbos_archive_run(const struct dbos_archiver *archiver, duckdb_connection connection,
                               struct dbos_buf *sql, struct dbos_errinfo *info) DBOS_MUST_USE;

/* -- archive_functions.c: prov_…() and dbos_as_of()
 * ------------------------------------------------- */

/* Make the temporary table or view dbos_call_<number> on `connection`. */
enum dbos_err dbos_archive_call(struct dbos_archiver *archiver, duckdb_connection connection,
                                const struct dbos_archive_question *question, uint32_t number,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROVENANCE_ARCHIVE_INTERNAL_H */
