#include "provenance/archive_manifest.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/hash.h"
#include "provenance/archive_columns.h"

#define LINE_MARK ",\"line_xxh3\":\""
enum { DIGEST_CHARS = 16 };

static void put_format(struct dbos_buf *line, const char *format, ...) DBOS_PRINTF(2, 3);
static void put_format(struct dbos_buf *line, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    DBOS_CHECK(length >= 0 && (size_t)length < sizeof text);
    dbos_buf_put(line, text, (size_t)length);
}

void dbos_manifest_begin(struct dbos_buf *line, const struct dbos_manifest_segment *segment) {
    put_format(line,
               "{\"format\":%d,\"schema_version\":%d,\"segment\":%u,\"next_segment\":%u,"
               "\"records\":%llu,",
               DBOS_MANIFEST_FORMAT, DBOS_ARCHIVE_SCHEMA_VERSION, segment->segment,
               segment->next_segment, (unsigned long long)segment->records);
    put_format(line, "\"first_position\":%llu,\"last_position\":%llu,",
               (unsigned long long)segment->first_position,
               (unsigned long long)segment->last_position);
    put_format(line, "\"first_us\":%lld,\"last_us\":%lld,\"files\":[", (long long)segment->first_us,
               (long long)segment->last_us);
}

void dbos_manifest_file(struct dbos_buf *line, const struct dbos_manifest_file *file, bool first) {
    put_format(line, "%s{\"relation\":\"%s\",\"path\":\"%s\",\"rows\":%llu,\"bytes\":%llu,",
               first ? "" : ",", file->relation, file->path, (unsigned long long)file->rows,
               (unsigned long long)file->bytes);
    put_format(line, "\"min_position\":%llu,\"max_position\":%llu,\"xxh3\":\"%016llx\"}",
               (unsigned long long)file->min_position, (unsigned long long)file->max_position,
               (unsigned long long)file->xxh3);
}

void dbos_manifest_end(struct dbos_buf *line) {
    put_format(line, "]");
    put_format(line, LINE_MARK "%016llx\"}\n",
               (unsigned long long)dbos_hash64(0, line->data, line->size_bytes));
}

size_t dbos_manifest_line(const char *text, size_t size_bytes) {
    const char *newline = size_bytes == 0 ? NULL : memchr(text, '\n', size_bytes);
    const size_t tail = strlen(LINE_MARK) + DIGEST_CHARS + 2; /* …"} */
    if (newline == NULL || (size_t)(newline - text) < tail) {
        return 0;
    }
    size_t length = (size_t)(newline - text);
    size_t covered = length - tail;
    char digest[DIGEST_CHARS + 1];
    (void)snprintf(digest, sizeof digest, "%016llx",
                   (unsigned long long)dbos_hash64(0, text, covered));
    bool whole = memcmp(text + covered, LINE_MARK, strlen(LINE_MARK)) == 0 &&
                 memcmp(text + covered + strlen(LINE_MARK), digest, DIGEST_CHARS) == 0 &&
                 memcmp(newline - 2, "\"}", 2) == 0;
    return whole ? length + 1 : 0;
}

/* Where the value of `"key":` begins between `at` and `end`; NULL = not there. */
static const char *find_value(const char *at, const char *end, const char *key) {
    char mark[40];
    int length = snprintf(mark, sizeof mark, "\"%s\":", key);
    const char *found = memmem(at, (size_t)(end - at), mark, (size_t)length);
    return found == NULL ? NULL : found + length;
}

static bool get_number(const char *at, const char *end, const char *key, uint64_t *out) {
    const char *value = find_value(at, end, key);
    if (value == NULL) {
        return false;
    }
    bool negative = value < end && *value == '-'; /* a time before 1970 */
    value += negative ? 1 : 0;
    *out = 0;
    for (; value < end && *value >= '0' && *value <= '9'; value++) {
        *out = *out * 10 + (uint64_t)(*value - '0');
    }
    *out = negative ? 0 - *out : *out;
    return true;
}

static bool get_string(const char *at, const char *end, const char *key, char *out,
                       size_t out_bytes) {
    const char *value = find_value(at, end, key);
    if (value == NULL || value == end || *value != '"') {
        return false;
    }
    const char *quote = memchr(value + 1, '"', (size_t)(end - value - 1));
    if (quote == NULL || (size_t)(quote - value) > out_bytes) {
        return false;
    }
    size_t length = (size_t)(quote - value - 1);
    memcpy(out, value + 1, length);
    out[length] = '\0';
    return true;
}

enum dbos_err dbos_manifest_read(const char *line, size_t size_bytes,
                                 struct dbos_manifest_segment *out, struct dbos_errinfo *info) {
    const char *end = line + size_bytes;
    uint64_t format = 0, schema = 0, segment = 0, next = 0, first_us = 0, last_us = 0;
    if (!get_number(line, end, "format", &format) || format != DBOS_MANIFEST_FORMAT) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION, "archive manifest of format %llu",
                         (unsigned long long)format);
    }
    if (get_number(line, end, "schema_version", &schema) && schema > DBOS_ARCHIVE_SCHEMA_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION, "archive of schema version %llu",
                         (unsigned long long)schema);
    }
    bool whole = get_number(line, end, "segment", &segment) &&
                 get_number(line, end, "next_segment", &next) &&
                 get_number(line, end, "records", &out->records) &&
                 get_number(line, end, "first_position", &out->first_position) &&
                 get_number(line, end, "last_position", &out->last_position) &&
                 get_number(line, end, "first_us", &first_us) &&
                 get_number(line, end, "last_us", &last_us);
    if (!whole || segment == 0 || next < segment || next > UINT32_MAX) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "a line of the archive manifest lacks its facts");
    }
    out->segment = (uint32_t)segment;
    out->next_segment = (uint32_t)next;
    out->first_us = (int64_t)first_us;
    out->last_us = (int64_t)last_us;
    return DBOS_OK;
}

bool dbos_manifest_next(const char *line, size_t size_bytes, size_t *cursor,
                        struct dbos_manifest_names *names, struct dbos_manifest_file *out) {
    static const char start[] = "{\"relation\":";
    const char *at = memmem(line + *cursor, size_bytes - *cursor, start, strlen(start));
    if (at == NULL) {
        return false;
    }
    const char *end = memchr(at, '}', size_bytes - (size_t)(at - line));
    char digest[DIGEST_CHARS + 1] = "";
    bool whole =
        end != NULL && get_string(at, end, "relation", names->relation, sizeof names->relation) &&
        get_string(at, end, "path", names->path, sizeof names->path) &&
        get_number(at, end, "rows", &out->rows) && get_number(at, end, "bytes", &out->bytes) &&
        get_number(at, end, "min_position", &out->min_position) &&
        get_number(at, end, "max_position", &out->max_position) &&
        get_string(at, end, "xxh3", digest, sizeof digest);
    if (!whole) {
        return false;
    }
    out->relation = names->relation;
    out->path = names->path;
    out->xxh3 = strtoull(digest, NULL, 16);
    *cursor = (size_t)(end - line);
    return true;
}
