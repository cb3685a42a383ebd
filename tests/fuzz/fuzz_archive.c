/* What the archive decodes: the frames between dbosd and the archiver, and its manifest. The first
 * byte chooses. */
#include "provenance/archive_manifest.h"
#include "provenance/archive_protocol.h"
#include "provenance/archive_text.h"
#include "tests/fuzz/fuzz.h"

static void read_question(struct dbos_arena *arena, const uint8_t *data, size_t size_bytes) {
    struct dbos_archive_question question;
    struct dbos_errinfo info;
    if (dbos_archive_get_question(arena, data, size_bytes, &question, &info) != DBOS_OK) {
        return;
    }
    DBOS_CHECK(question.sql != NULL && question.call_count <= DBOS_ARCHIVE_CALLS_MAX);
    for (uint32_t i = 0; i < question.call_count; i++) {
        DBOS_CHECK(question.calls[i].function != NULL);
        DBOS_CHECK(question.calls[i].argument_count <= DBOS_ARCHIVE_ARGUMENTS_MAX);
    }
    /* What was understood is written as something that is understood alike. */
    struct dbos_buf again;
    dbos_buf_init(&again, arena->alloc);
    dbos_archive_put_question(&again, &question);
    DBOS_CHECK(again.failed || dbos_archive_get_question(arena, again.data, again.size_bytes,
                                                         &question, &info) == DBOS_OK);
    dbos_buf_fini(&again);
}

static void read_answer(struct dbos_arena *arena, const uint8_t *data, size_t size_bytes) {
    struct dbos_archive_result_column *columns;
    struct dbos_errinfo info;
    struct dbos_bytes cells[3];
    uint32_t count;
    uint64_t bytes = 0;
    if (dbos_archive_get_columns(arena, data, size_bytes, &columns, &count, &info) == DBOS_OK) {
        DBOS_CHECK(count <= DBOS_ARCHIVE_COLUMNS_MAX);
    }
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    while (dbos_archive_get_row(&reader, cells, 3)) {
        bytes += cells[0].size_bytes + cells[1].size_bytes + cells[2].size_bytes;
    }
    DBOS_CHECK(bytes <= size_bytes);
    dbos_archive_get_error(data, size_bytes, &info);
    DBOS_CHECK(info.code != DBOS_OK);
    struct dbos_archive_progress progress;
    if (dbos_archive_get_progress(data, size_bytes, &progress, &info) == DBOS_OK) {
        DBOS_CHECK(size_bytes == DBOS_ARCHIVE_PROGRESS_BYTES);
        DBOS_CHECK(progress.exported <= progress.taken);
    }
    struct dbos_archive_advance advance;
    if (dbos_archive_get_advance(data, size_bytes, &advance, &info) == DBOS_OK) {
        DBOS_CHECK(size_bytes == DBOS_ARCHIVE_ADVANCE_BYTES);
    }
}

static void read_manifest(const uint8_t *data, size_t size_bytes) {
    const char *text = (const char *)data;
    struct dbos_manifest_segment segment;
    struct dbos_manifest_names names;
    struct dbos_manifest_file file;
    struct dbos_errinfo info;
    size_t cursor = 0;
    DBOS_CHECK(dbos_manifest_line(text, size_bytes) <= size_bytes);
    (void)!dbos_manifest_read(text, size_bytes, &segment, &info);
    while (dbos_manifest_next(text, size_bytes, &cursor, &names, &file)) {
        DBOS_CHECK(cursor <= size_bytes && strlen(file.path) < sizeof names.path);
    }
}

static void clean_text(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_buf once, twice;
    dbos_buf_init(&once, alloc);
    dbos_buf_init(&twice, alloc);
    dbos_archive_text_clean(&once, data, size_bytes);
    dbos_archive_text_clean(&twice, once.data, once.size_bytes);
    DBOS_CHECK(once.size_bytes == twice.size_bytes);
    DBOS_CHECK(once.size_bytes == 0 || memcmp(once.data, twice.data, once.size_bytes) == 0);
    dbos_buf_fini(&once);
    dbos_buf_fini(&twice);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    static struct dbos_alloc alloc = {.name = "fuzz"};
    struct dbos_arena arena;
    if (size_bytes == 0) {
        return 0;
    }
    dbos_arena_init(&arena, &alloc, 0);
    switch (data[0] % 4) {
    case 0:
        read_question(&arena, data + 1, size_bytes - 1);
        break;
    case 1:
        read_answer(&arena, data + 1, size_bytes - 1);
        break;
    case 2:
        read_manifest(data + 1, size_bytes - 1);
        break;
    default:
        clean_text(&alloc, data + 1, size_bytes - 1);
        break;
    }
    if (size_bytes > DBOS_ARCHIVE_HEAD_BYTES) {
        struct dbos_archive_frame frame;
        struct dbos_errinfo info;
        (void)!dbos_archive_get_head(data + 1, &frame, &info);
    }
    dbos_arena_fini(&arena);
    return 0;
}
