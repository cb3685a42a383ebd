/* Is an archive what its manifest says? Every line and every file, by their checksums; without
 * DuckDB.
 *
 * A line that is damaged and has others behind it is damage, not an unfinished write, and so is a
 * last one that the log can not make again: cutting there would throw away files that are all that
 * is left of what they cover.
 *
 * Thread: any; nobody writes the archive meanwhile. Memory: the manifest, and a piece of a file. */
#ifndef DBOS_PROVENANCE_ARCHIVE_CHECK_H
#define DBOS_PROVENANCE_ARCHIVE_CHECK_H

#include "base/alloc.h"
#include "base/env.h"
#include "provenance/archive_manifest.h"

struct dbos_archive_findings {
    uint64_t exports; /* whole lines */
    uint64_t files;
    uint64_t bytes; /* of the files */
    uint64_t last_position;
    uint64_t torn_bytes; /* behind the last whole line: an export that did not come to its end */
};

/* Is a file what its line says? `folder` is the archive's. Errors: CORRUPT (with the positions that
 * are lost), NOMEM. */
enum dbos_err dbos_archive_check_file(struct dbos_alloc *alloc, struct dbos_env *env,
                                      const char *folder, const struct dbos_manifest_file *file,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

/* The whole of it, or, without `reads_files`, its manifest alone. A directory without an archive is
 * in order while its log has everything. Errors: CORRUPT (which file or line, and the positions
 * that are lost with it; or a hole between the archive and the log), FORMAT_VERSION, IO, NOMEM. */
enum dbos_err dbos_archive_check(struct dbos_alloc *alloc, struct dbos_env *env,
                                 const char *data_dir, bool reads_files,
                                 struct dbos_archive_findings *out,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;

#endif /* DBOS_PROVENANCE_ARCHIVE_CHECK_H */
