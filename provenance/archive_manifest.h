/* MANIFEST.jsonl: one line for each export; the line is the commit of its files, and says where the
 * next one begins in the log.
 *
 *   {"format":1,"schema_version":1,"segment":3,"next_segment":4,"records":9,
 *    "first_position":1,"last_position":9,"first_us":17,"last_us":18,
 *    "files":[{"relation":"event","path":"event/day=2026-01-31/part-00000003-1-9.parquet",
 *              "rows":5,"bytes":123,"min_position":1,"max_position":9,"xxh3":"0123456789abcdef"}],
 *    "line_xxh3":"0123456789abcdef"}
 *
 * on one line. line_xxh3 is XXH3-64 of the bytes before `,"line_xxh3"`: a line that does not have
 * it, or has no newline, was being written when the process ended, and is cut.
 *
 * Thread: the archiver's. Memory: the caller's buffers. */
#ifndef DBOS_PROVENANCE_ARCHIVE_MANIFEST_H
#define DBOS_PROVENANCE_ARCHIVE_MANIFEST_H

#include "base/bytes.h"

enum { DBOS_MANIFEST_FORMAT = 1 };

/* A line as it grows: begin, files, end. */
struct dbos_manifest_segment {
    uint32_t segment;
    uint32_t next_segment; /* what follows last_position is in this one or later */
    uint64_t records;
    uint64_t first_position;
    uint64_t last_position;
    int64_t first_us;
    int64_t last_us;
};
struct dbos_manifest_file {
    const char *relation;
    const char *path;
    uint64_t rows;
    uint64_t bytes;
    uint64_t min_position;
    uint64_t max_position;
    uint64_t xxh3;
};
void dbos_manifest_begin(struct dbos_buf *line, const struct dbos_manifest_segment *segment);
void dbos_manifest_file(struct dbos_buf *line, const struct dbos_manifest_file *file, bool first);
void dbos_manifest_end(struct dbos_buf *line);

/* Length of the first line with its newline when it is whole, else 0. */
size_t dbos_manifest_line(const char *text, size_t size_bytes);
/* The facts of a whole line. Errors: FORMAT_VERSION (a newer program wrote it), CORRUPT. */
enum dbos_err dbos_manifest_read(const char *line, size_t size_bytes,
                                 struct dbos_manifest_segment *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* The files of a whole line, one after the other: `cursor` starts at 0. relation and path are
 * copied to the buffers given. false = no more. */
struct dbos_manifest_names {
    char relation[32];
    char path[256];
};
bool dbos_manifest_next(const char *line, size_t size_bytes, size_t *cursor,
                        struct dbos_manifest_names *names, struct dbos_manifest_file *out);

#endif /* DBOS_PROVENANCE_ARCHIVE_MANIFEST_H */
