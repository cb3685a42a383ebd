/* Hot rows to Parquet files, and the manifest that makes them count. */
#include <stdio.h>

#include "base/log.h"
#include "provenance/archive_internal.h"
#include "provenance/archive_manifest.h"
#include "provenance/archive_text.h"

#define DAY_US 86400000000LL

/* -- a file of one relation and day ---------------------------------------------------------------
 */

struct part {
    struct dbos_archiver *archiver;
    const struct dbos_archive_relation *relation;
    int64_t day_number; /* since 1970-01-01 */
    bool whole;         /* no other day has rows */
    char day[16];
    char path[256]; /* relative to the archive's folder */
    uint64_t rows;
    uint64_t min_position;
    uint64_t max_position;
    uint64_t bytes;
    uint64_t xxh3;
};

static void join_path(const struct dbos_archiver *archiver, const char *relative,
                      const char *suffix, char *out, size_t out_bytes) {
    int length = snprintf(out, out_bytes, "%s/%s%s", archiver->folder, relative, suffix);
    DBOS_CHECK(length > 0 && (size_t)length < out_bytes);
}

/* The columns that have a value in some row; a file lacks the others. With their field ids, or
 * without. */
static void put_columns(struct dbos_buf *sql, const struct dbos_archive_relation *relation,
                        bool with_ids) {
    bool first = true;
    for (uint32_t i = 0; i < relation->column_count; i++) {
        if (dbos_archive_relation_lacks(relation, i)) {
            continue;
        }
        dbos_sql_putf(sql, "%s", first ? "" : ", ");
        dbos_sql_put_ident(sql, relation->columns[i].name);
        if (with_ids) {
            dbos_sql_putf(sql, ": %u", relation->columns[i].field_id);
        }
        first = false;
    }
}

static enum dbos_err copy_rows(struct part *part, const char *to, struct dbos_errinfo *info) {
    struct dbos_archiver *archiver = part->archiver;
    const struct dbos_archive_relation *relation = part->relation;
    struct dbos_buf sql;
    dbos_buf_init(&sql, archiver->alloc);
    dbos_sql_putf(&sql, "COPY (SELECT ");
    put_columns(&sql, relation, false);
    dbos_sql_putf(&sql, " FROM hot_%s()", relation->name);
    if (!part->whole) {
        dbos_sql_putf(&sql, " WHERE epoch_us(ts) // %lld = %lld", DAY_US,
                      (long long)part->day_number);
    }
    dbos_sql_putf(&sql, ") TO "); /* the hot rows are in order */
    dbos_sql_put_literal(&sql, to);
    dbos_sql_putf(&sql, " (FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, "
                        "COMPRESSION_LEVEL 1, DICTIONARY_SIZE_LIMIT 100, ");
    dbos_sql_putf(&sql, "FIELD_IDS {");
    put_columns(&sql, relation, true);
    dbos_sql_putf(&sql, "})");
    return dbos_archive_run(archiver, archiver->connection, &sql, info);
}

/* Size and hash of a finished file, and its bytes on the disk for good. */
static enum dbos_err sync_and_hash(struct part *part, const char *path, struct dbos_errinfo *info) {
    struct dbos_env *env = part->archiver->env;
    struct dbos_buf *bytes = &part->archiver->object;
    int file;
    size_t got = 0;
    enum dbos_err err = env->ops->file_open(env, path, DBOS_OPEN_WRITE, &file, info);
    if (err != DBOS_OK) {
        return err;
    }
    err = env->ops->file_sync(env, file, info);
    if (err == DBOS_OK) {
        err = env->ops->file_size(env, file, &part->bytes, info);
    }
    if (err == DBOS_OK) {
        dbos_buf_reset(bytes);
        uint8_t *to = dbos_buf_reserve(bytes, part->bytes);
        err = to == NULL ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for an archive file")
                         : env->ops->file_read(env, file, 0, to, part->bytes, &got, info);
        part->xxh3 = err == DBOS_OK ? dbos_hash64(0, to, got) : 0;
    }
    env->ops->file_close(env, file);
    return err;
}

static enum dbos_err make_folders(const struct part *part, struct dbos_errinfo *info) {
    struct dbos_env *env = part->archiver->env;
    char relation[DBOS_ARCHIVE_PATH_BYTES + 300];
    char day[DBOS_ARCHIVE_PATH_BYTES + 300];
    join_path(part->archiver, part->relation->name, "", relation, sizeof relation);
    int length = snprintf(day, sizeof day, "%s/day=%s", relation, part->day);
    DBOS_CHECK(length > 0 && (size_t)length < sizeof day);
    enum dbos_err err = env->ops->dir_make(env, relation, info);
    if (err == DBOS_OK) {
        err = env->ops->dir_make(env, day, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->dir_sync(env, relation, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->dir_sync(env, part->archiver->folder, info);
    }
    return err;
}

static enum dbos_err sync_day(const struct part *part, struct dbos_errinfo *info) {
    char day[DBOS_ARCHIVE_PATH_BYTES + 300];
    int length = snprintf(day, sizeof day, "%s/%s/day=%s", part->archiver->folder,
                          part->relation->name, part->day);
    DBOS_CHECK(length > 0 && (size_t)length < sizeof day);
    return part->archiver->env->ops->dir_sync(part->archiver->env, day, info);
}

static enum dbos_err write_part(struct part *part, struct dbos_errinfo *info) {
    const struct dbos_archive_span *span = &part->archiver->span;
    struct dbos_env *env = part->archiver->env;
    (void)snprintf(part->path, sizeof part->path, "%s/day=%s/part-%08u-%llu-%llu.parquet",
                   part->relation->name, part->day, span->segment,
                   (unsigned long long)part->min_position, (unsigned long long)part->max_position);
    char temporary[DBOS_ARCHIVE_PATH_BYTES + 300];
    char final[DBOS_ARCHIVE_PATH_BYTES + 300];
    join_path(part->archiver, part->path, ".tmp", temporary, sizeof temporary);
    join_path(part->archiver, part->path, "", final, sizeof final);
    enum dbos_err err = make_folders(part, info);
    if (err == DBOS_OK) {
        err = copy_rows(part, temporary, info);
    }
    if (err == DBOS_OK) {
        err = sync_and_hash(part, temporary, info);
    }
    if (err == DBOS_OK) {
        err = env->ops->path_rename(env, temporary, final, info);
    }
    if (err == DBOS_OK) {
        err = sync_day(part, info);
    }
    return err;
}

/* -- a segment
 * -------------------------------------------------------------------------------------- */

static struct dbos_manifest_file facts_of(const struct part *part) {
    return (struct dbos_manifest_file){.relation = part->relation->name,
                                       .path = part->path,
                                       .rows = part->rows,
                                       .bytes = part->bytes,
                                       .min_position = part->min_position,
                                       .max_position = part->max_position,
                                       .xxh3 = part->xxh3};
}

/* The days on which a hot table has rows, with their counts, as a DuckDB result. */
static enum dbos_err select_days(struct dbos_archiver *archiver,
                                 const struct dbos_archive_relation *relation, duckdb_result *out,
                                 struct dbos_errinfo *info) {
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "SELECT epoch_us(ts) // %lld AS day, count(*), min(position), max(position), "
                   "count(*) OVER () FROM hot_%s() GROUP BY day ORDER BY day",
                   DAY_US, relation->name);
    return dbos_duckdb_select(archiver->duck, archiver->connection, sql, out, info);
}

/* "2026-01-31", from days since 1970-01-01. */
static void name_day(struct part *part) {
    struct dbos_buf text;
    dbos_buf_init(&text, part->archiver->alloc);
    dbos_archive_text_timestamp(&text, part->day_number * DAY_US);
    DBOS_CHECK(!text.failed && text.size_bytes > 10);
    memcpy(part->day, text.data, 10);
    part->day[10] = '\0';
    dbos_buf_fini(&text);
}

static void read_day(struct part *part, duckdb_data_chunk chunk, uint64_t row) {
    const struct dbos_duckdb *duck = part->archiver->duck;
    int64_t values[5];
    for (uint32_t i = 0; i < 5; i++) {
        const int64_t *column = duck->vector_get_data(duck->data_chunk_get_vector(chunk, i));
        values[i] = column[row];
    }
    part->day_number = values[0];
    part->rows = (uint64_t)values[1];
    part->min_position = (uint64_t)values[2];
    part->max_position = (uint64_t)values[3];
    part->whole = values[4] == 1;
    name_day(part);
}

/* The file of one day, its part of the line, its path in the relation. */
static enum dbos_err export_part(struct part *part, struct dbos_archive_relation *relation,
                                 struct dbos_buf *line, uint64_t *file_count,
                                 struct dbos_errinfo *info) {
    enum dbos_err err = write_part(part, info);
    if (err != DBOS_OK) {
        return err;
    }
    struct dbos_manifest_file file = facts_of(part);
    dbos_manifest_file(line, &file, *file_count == 0);
    (*file_count)++;
    return dbos_archive_relation_add_file(relation, &file, true) == DBOS_OK
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
}

/* Are the hot rows all of one day? Then *part says what of them. */
static bool is_one_day(struct dbos_archiver *archiver, struct dbos_archive_relation *relation,
                       struct part *part) {
    struct dbos_archive_extent extent = dbos_archive_relation_extent(relation);
    int64_t first = extent.min_ts / DAY_US - (extent.min_ts % DAY_US < 0 ? 1 : 0);
    int64_t last = extent.max_ts / DAY_US - (extent.max_ts % DAY_US < 0 ? 1 : 0);
    *part = (struct part){.archiver = archiver,
                          .relation = relation,
                          .day_number = first,
                          .whole = true,
                          .rows = relation->hot_rows,
                          .min_position = (uint64_t)extent.min_position,
                          .max_position = (uint64_t)extent.max_position};
    name_day(part);
    return first == last;
}

static enum dbos_err export_days(struct dbos_archiver *archiver,
                                 struct dbos_archive_relation *relation, struct dbos_buf *line,
                                 uint64_t *file_count, struct dbos_errinfo *info) {
    duckdb_result days;
    duckdb_data_chunk chunk;
    enum dbos_err err = select_days(archiver, relation, &days, info);
    if (err != DBOS_OK) {
        return err;
    }
    while (err == DBOS_OK && (chunk = archiver->duck->fetch_chunk(days)) != NULL) {
        uint64_t rows = archiver->duck->data_chunk_get_size(chunk);
        for (uint64_t row = 0; row < rows && err == DBOS_OK; row++) {
            struct part part = {.archiver = archiver, .relation = relation};
            read_day(&part, chunk, row);
            err = export_part(&part, relation, line, file_count, info);
        }
        archiver->duck->destroy_data_chunk(&chunk);
    }
    archiver->duck->destroy_result(&days);
    return err;
}

/* Files of one relation; their lines go to `line`, their paths to the relation. */
static enum dbos_err export_relation(struct dbos_archiver *archiver,
                                     struct dbos_archive_relation *relation, struct dbos_buf *line,
                                     uint64_t *file_count, struct dbos_errinfo *info) {
    struct part part;
    if (relation->hot_rows == 0) {
        return DBOS_OK;
    }
    enum dbos_err err = dbos_archive_relation_register(relation, info);
    if (err != DBOS_OK) {
        return err;
    }
    return is_one_day(archiver, relation, &part)
               ? export_part(&part, relation, line, file_count, info)
               : export_days(archiver, relation, line, file_count, info);
}

static enum dbos_err append_line(struct dbos_archiver *archiver, struct dbos_buf *line,
                                 struct dbos_errinfo *info) {
    struct dbos_env *env = archiver->env;
    if (line->failed) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the archive manifest");
    }
    enum dbos_err err = env->ops->file_write(env, archiver->manifest, archiver->manifest_bytes,
                                             line->data, line->size_bytes, info);
    if (err == DBOS_OK) {
        err = env->ops->file_sync(env, archiver->manifest, info);
    }
    archiver->manifest_bytes += err == DBOS_OK ? line->size_bytes : 0;
    return err;
}

/* i counts the fixed relations, then the tables. */
static struct dbos_archive_relation *relation_at(struct dbos_archiver *archiver, uint32_t i) {
    return i < DBOS_ARCHIVE_FIXED_COUNT ? &archiver->fixed[i]
                                        : archiver->tables[i - DBOS_ARCHIVE_FIXED_COUNT];
}

enum dbos_err dbos_archive_export(struct dbos_archiver *archiver, uint32_t next_segment,
                                  struct dbos_errinfo *info) {
    const struct dbos_archive_span *span = &archiver->span;
    struct dbos_manifest_segment segment = {.segment = span->segment,
                                            .next_segment = next_segment,
                                            .records = span->records,
                                            .first_position = span->first_position,
                                            .last_position = span->last_position,
                                            .first_us = span->first_us,
                                            .last_us = span->last_us};
    struct dbos_buf line;
    dbos_buf_init(&line, archiver->alloc);
    dbos_manifest_begin(&line, &segment);
    enum dbos_err err = DBOS_OK;
    uint64_t file_count = 0;
    uint32_t relation_count = DBOS_ARCHIVE_FIXED_COUNT + archiver->table_count;
    for (uint32_t i = 0; i < relation_count && err == DBOS_OK; i++) {
        err = export_relation(archiver, relation_at(archiver, i), &line, &file_count, info);
    }
    dbos_manifest_end(&line);
    if (err == DBOS_OK) {
        err = append_line(archiver, &line, info); /* the segment is in the archive now */
    }
    for (uint32_t i = 0; i < relation_count && err == DBOS_OK; i++) {
        dbos_archive_relation_cool(relation_at(archiver, i));
    }
    dbos_buf_fini(&line);
    archiver->exports += err == DBOS_OK ? 1 : 0;
    archiver->files += err == DBOS_OK ? file_count : 0;
    archiver->span = (struct dbos_archive_span){.segment = next_segment};
    return err;
}

/* -- at open
 * ---------------------------------------------------------------------------------------- */

/* Names met while listing a folder, NUL-terminated, one after the other. */
struct names {
    struct dbos_buf buf;
};

static void note_name(void *arg, const char *name) {
    struct names *names = arg;
    dbos_buf_put(&names->buf, name, strlen(name) + 1);
}

static enum dbos_err list_names(struct dbos_archiver *archiver, const char *path,
                                struct names *names, struct dbos_errinfo *info) {
    dbos_buf_init(&names->buf, archiver->alloc);
    enum dbos_err err = archiver->env->ops->dir_list(archiver->env, path, note_name, names, info);
    if (err == DBOS_OK && names->buf.failed) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory listing %s", path);
    }
    if (err != DBOS_OK) {
        dbos_buf_fini(&names->buf);
    }
    return err;
}

static const char *next_name(const struct names *names, size_t *cursor) {
    if (*cursor >= names->buf.size_bytes) {
        return NULL;
    }
    const char *name = (const char *)names->buf.data + *cursor;
    *cursor += strlen(name) + 1;
    return name;
}

/* Removes from one day's folder what the manifest does not name (`known` has the hashes of paths).
 */
static enum dbos_err clean_day(struct dbos_archiver *archiver, const char *relation,
                               const char *day, const struct dbos_idmap *known,
                               struct dbos_errinfo *info) {
    char path[DBOS_ARCHIVE_PATH_BYTES + 700];
    struct names files;
    (void)snprintf(path, sizeof path, "%s/%s/%s", archiver->folder, relation, day);
    enum dbos_err err = list_names(archiver, path, &files, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t cursor = 0;
    const char *file;
    while (err == DBOS_OK && (file = next_name(&files, &cursor)) != NULL) {
        char relative[700];
        int length = snprintf(relative, sizeof relative, "%s/%s/%s", relation, day, file);
        DBOS_CHECK(length > 0 && (size_t)length < sizeof relative);
        if (dbos_idmap_find(known, dbos_hash64(0, relative, (size_t)length)) == NULL) {
            (void)snprintf(path, sizeof path, "%s/%s", archiver->folder, relative);
            dbos_log(DBOS_LOG_INFO, "archive: removing %s, which no manifest line names", relative);
            err = archiver->env->ops->path_remove(archiver->env, path, info);
        }
    }
    dbos_buf_fini(&files.buf);
    return err;
}

static enum dbos_err clean_relation(struct dbos_archiver *archiver, const char *relation,
                                    const struct dbos_idmap *known, struct dbos_errinfo *info) {
    char path[DBOS_ARCHIVE_PATH_BYTES + 300];
    struct names days;
    (void)snprintf(path, sizeof path, "%s/%s", archiver->folder, relation);
    enum dbos_err err = list_names(archiver, path, &days, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t cursor = 0;
    const char *day;
    while (err == DBOS_OK && (day = next_name(&days, &cursor)) != NULL) {
        if (strncmp(day, "day=", 4) == 0) {
            err = clean_day(archiver, relation, day, known, info);
        }
    }
    dbos_buf_fini(&days.buf);
    return err;
}

static bool is_relation_name(const char *name) {
    static const char *const fixed[] = {"txn", "event", "access", "step", "session", "statement"};
    for (size_t i = 0; i < sizeof fixed / sizeof fixed[0]; i++) {
        if (strcmp(name, fixed[i]) == 0) {
            return true;
        }
    }
    return strncmp(name, "t_", 2) == 0;
}

static enum dbos_err remove_strays(struct dbos_archiver *archiver, const struct dbos_idmap *known,
                                   struct dbos_errinfo *info) {
    struct names relations;
    enum dbos_err err = list_names(archiver, archiver->folder, &relations, info);
    if (err != DBOS_OK) {
        return err;
    }
    size_t cursor = 0;
    const char *name;
    while (err == DBOS_OK && (name = next_name(&relations, &cursor)) != NULL) {
        if (is_relation_name(name)) {
            err = clean_relation(archiver, name, known, info);
        }
    }
    dbos_buf_fini(&relations.buf);
    return err;
}

/* The whole manifest into archiver->object; what is behind the last whole line is cut. */
static enum dbos_err read_manifest(struct dbos_archiver *archiver, struct dbos_errinfo *info) {
    struct dbos_env *env = archiver->env;
    char path[DBOS_ARCHIVE_PATH_BYTES + 32];
    uint64_t size_bytes = 0;
    size_t got = 0;
    (void)snprintf(path, sizeof path, "%s/MANIFEST.jsonl", archiver->folder);
    enum dbos_err err = DBOS_OK;
    if (archiver->manifest < 0) {
        err = env->ops->file_open(env, path, DBOS_OPEN_CREATE, &archiver->manifest, info);
        if (err == DBOS_OK) {
            err = env->ops->dir_sync(env, archiver->folder, info);
        }
    }
    if (err == DBOS_OK) {
        err = env->ops->file_size(env, archiver->manifest, &size_bytes, info);
    }
    dbos_buf_reset(&archiver->object);
    uint8_t *to = dbos_buf_reserve(&archiver->object, size_bytes + 1);
    if (err == DBOS_OK && to == NULL) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the archive manifest");
    }
    if (err == DBOS_OK) {
        err = env->ops->file_read(env, archiver->manifest, 0, to, size_bytes, &got, info);
    }
    if (err != DBOS_OK) {
        return err;
    }
    size_t whole = 0, line;
    while ((line = dbos_manifest_line((const char *)to + whole, got - whole)) != 0) {
        whole += line;
    }
    archiver->object.size_bytes = whole;
    archiver->manifest_bytes = whole;
    if (whole == size_bytes) {
        return DBOS_OK;
    }
    dbos_log(DBOS_LOG_WARN, "archive: cutting %llu bytes of an unfinished manifest line",
             (unsigned long long)(size_bytes - whole));
    err = env->ops->file_truncate(env, archiver->manifest, whole, info);
    return err == DBOS_OK ? env->ops->file_sync(env, archiver->manifest, info) : err;
}

/* A file of the manifest joins its relation; that of a table that is not known yet waits. */
static enum dbos_err adopt_file(struct dbos_archiver *archiver,
                                const struct dbos_manifest_file *file, bool *out_waits,
                                struct dbos_errinfo *info) {
    struct dbos_archive_relation *relation = NULL;
    *out_waits = false;
    for (uint32_t i = 0; i < DBOS_ARCHIVE_FIXED_COUNT + archiver->table_count; i++) {
        struct dbos_archive_relation *one = relation_at(archiver, i);
        relation = strcmp(one->name, file->relation) == 0 ? one : relation;
    }
    if (relation == NULL) {
        *out_waits = true;
        return DBOS_OK;
    }
    for (uint32_t i = 0; i < relation->file_count; i++) {
        if (strcmp(relation->files[i].path, file->path) == 0) {
            return DBOS_OK; /* came in the first round */
        }
    }
    return dbos_archive_relation_add_file(relation, file, false) == DBOS_OK
               ? DBOS_OK
               : dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
}

/* All files of one line: `known` (may be NULL) gets the hashes of their paths. */
static enum dbos_err adopt_line(struct dbos_archiver *archiver, const char *line, size_t size_bytes,
                                struct dbos_idmap *known, bool *out_waits,
                                struct dbos_errinfo *info) {
    struct dbos_manifest_names names;
    struct dbos_manifest_file file;
    size_t cursor = 0;
    while (dbos_manifest_next(line, size_bytes, &cursor, &names, &file)) {
        bool waits;
        if (known != NULL &&
            dbos_idmap_put(known, dbos_hash64(0, file.path, strlen(file.path)), 1) != DBOS_OK) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory in the archive");
        }
        enum dbos_err err = adopt_file(archiver, &file, &waits, info);
        if (err != DBOS_OK) {
            return err;
        }
        *out_waits = *out_waits || waits;
        archiver->files += known != NULL ? 1 : 0;
    }
    return DBOS_OK;
}

static enum dbos_err adopt_manifest(struct dbos_archiver *archiver, struct dbos_idmap *known,
                                    uint32_t *out_segment, bool *out_waits,
                                    struct dbos_errinfo *info) {
    const char *text = (const char *)archiver->object.data;
    size_t left = archiver->object.size_bytes, line;
    *out_segment = 1;
    *out_waits = false;
    while ((line = dbos_manifest_line(text, left)) != 0) {
        struct dbos_manifest_segment segment;
        enum dbos_err err = dbos_manifest_read(text, line, &segment, info);
        if (err == DBOS_OK) {
            err = adopt_line(archiver, text, line, known, out_waits, info);
        }
        if (err != DBOS_OK) {
            return err;
        }
        *out_segment = segment.next_segment;
        archiver->position = segment.records == 0 ? archiver->position : segment.last_position;
        archiver->exports += known != NULL ? 1 : 0;
        text += line;
        left -= line;
    }
    return DBOS_OK;
}

enum dbos_err dbos_archive_load_manifest(struct dbos_archiver *archiver, uint32_t *out_segment,
                                         struct dbos_errinfo *info) {
    struct dbos_idmap known;
    dbos_idmap_init(&known, archiver->alloc);
    bool waits = false;
    enum dbos_err err = read_manifest(archiver, info);
    if (err == DBOS_OK) {
        err = adopt_manifest(archiver, &known, out_segment, &waits, info);
    }
    if (err == DBOS_OK) {
        err = remove_strays(archiver, &known, info);
    }
    dbos_idmap_fini(&known);
    if (err == DBOS_OK && archiver->exports != 0) {
        err = dbos_archive_restore(archiver, info); /* now the tables are known */
    }
    if (err != DBOS_OK || !waits) {
        return err;
    }
    err = read_manifest(archiver, info); /* the second round, for the users' tables */
    if (err == DBOS_OK) {
        err = adopt_manifest(archiver, NULL, out_segment, &waits, info);
    }
    if (err == DBOS_OK && waits) {
        err = dbos_fail(info, DBOS_ERR_CORRUPT,
                        "the archive has files of a table that its catalogue does not define");
    }
    return err;
}
