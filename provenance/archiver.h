/* The archiver: turns the log into Parquet files, exactly once, and answers provenance queries.
 *
 *   log segments ─▶ hot tables (DuckDB, in memory) ─segment is sealed─▶ Parquet + MANIFEST.jsonl
 *                        └────────────── arch.* views ──────────────────┘
 *                                             ▲
 *                                   prov_…(), dbos_as_of(), prov.* : one SELECT at a time
 *
 * A segment is sealed when the log has gone on to the next one. Its rows are then written to files
 * (of a segment with many large values: earlier, in parts), the files synced and renamed, and one
 * line appended to the manifest and synced: that line is the commit. At open, files that no line
 * names are removed and reading starts where the last line says, so each record is in exactly one
 * file of each relation or in the hot tables, whatever was killed when.
 *
 * Thread: one, the archiver's; dbos_archiver_interrupt(), dbos_archiver_set_hurry() and
 * dbos_archiver_progress() by any.
 * Memory: from the allocator given at open; DuckDB's within the limit given. */
#ifndef DBOS_PROVENANCE_ARCHIVER_H
#define DBOS_PROVENANCE_ARCHIVER_H

#include "base/env.h"
#include "provenance/archive_protocol.h"
#include "provenance/duckdb.h"

struct dbos_archiver;

struct dbos_archiver_options {
    struct dbos_env *env;
    const struct dbos_duckdb *duck; /* outlives the archiver */
    const char *data_dir;
    uint32_t threads;   /* of DuckDB; 0 = 1: with more, one spins while another works */
    uint32_t memory_mb; /* of DuckDB; 0 = 1024 */
    uint64_t rows_max;  /* of an answer; 0 = 10 million */
    /* Rows are exported before their segment is sealed when their texts and blobs are more than
     * this; 0 = 256 MiB. */
    uint64_t hot_bytes_max;
};

/* Open or create <data_dir>/archive and make it whole.
 * Errors: IO, DISK_FULL, NOMEM, CORRUPT (a file that the manifest names is gone), ARCHIVE. */
enum dbos_err dbos_archiver_open(struct dbos_alloc *alloc,
                                 const struct dbos_archiver_options *options,
                                 struct dbos_archiver **out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
void dbos_archiver_close(struct dbos_archiver *archiver);

/* Take over what the log has up to `durable`, which is on disk, exporting segments that are sealed,
 * and earlier where there are many large values. A question reaches beyond it, and exports nothing
 * that a power cut can still take back from an asynchronous log. It returns early,
 * between two batches, while dbos_archiver_set_hurry() says so. After an error the archiver
 * is broken: every later call returns the same error.
 * Errors: CORRUPT, FORMAT_VERSION, IO, DISK_FULL, NOMEM, ARCHIVE. */
enum dbos_err dbos_archiver_advance(struct dbos_archiver *archiver, uint64_t durable,
                                    struct dbos_errinfo *info) DBOS_MUST_USE;
/* The last position taken over. */
uint64_t dbos_archiver_position(const struct dbos_archiver *archiver);
/* How far it is, as of the last batch: the last position taken over, and the last one in files. */
void dbos_archiver_progress(const struct dbos_archiver *archiver, uint64_t *out_taken,
                            uint64_t *out_exported);

/* Where an answer goes. */
struct dbos_archive_sink {
    enum dbos_err (*columns)(void *arg, const struct dbos_archive_result_column *columns,
                             uint32_t count, struct dbos_errinfo *info);
    /* Cells in PostgreSQL's text form, data NULL = SQL NULL; borrowed for the call. */
    enum dbos_err (*row)(void *arg, const struct dbos_bytes *cells, uint32_t count,
                         struct dbos_errinfo *info);
    void *arg;
};
/* Take over everything up to question->position, then answer the SELECT with all that was taken
 * over. Errors: those of the statement, with SQLSTATE and position; HISTORY_HORIZON; LIMIT;
 * CANCELED (interrupted); those of advancing; what the sink returned. */
enum dbos_err dbos_archiver_query(struct dbos_archiver *archiver,
                                  const struct dbos_archive_question *question,
                                  const struct dbos_archive_sink *sink,
                                  struct dbos_errinfo *info) DBOS_MUST_USE;
/* Stop the query that runs now, if any. */
void dbos_archiver_interrupt(struct dbos_archiver *archiver);
/* Somebody waits: an advance that runs, or comes, returns soon, until it is set to false. */
void dbos_archiver_set_hurry(struct dbos_archiver *archiver, bool hurry);

/* Files that lay there when it was opened are read and compared with their checksums before
 * anything is answered from them: one at a time while there is nothing else to do, the others by
 * the first question. Errors: CORRUPT, NOMEM. */
bool dbos_archiver_has_unchecked(const struct dbos_archiver *archiver);
enum dbos_err dbos_archiver_check_next(struct dbos_archiver *archiver,
                                       struct dbos_errinfo *info) DBOS_MUST_USE;

struct dbos_archiver_stats {
    uint64_t records; /* taken over since open */
    uint64_t exports; /* lines of the manifest */
    uint64_t files;
};
void dbos_archiver_stats(const struct dbos_archiver *archiver, struct dbos_archiver_stats *out);

#endif /* DBOS_PROVENANCE_ARCHIVER_H */
