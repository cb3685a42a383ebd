/* The parts of the archive that need no DuckDB: frames, manifest lines, texts, ids, walks. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/env.h"
#include "provenance/archive_manifest.h"
#include "provenance/archive_protocol.h"
#include "provenance/archive_text.h"
#include "provenance/idmap.h"
#include "provenance/record.h"
#include "provenance/walk.h"

TestSuite(provenance_archive, .timeout = 60);

/* -- protocol -----------------------------------------------------------------------------------
 */

static void put_sample(struct dbos_buf *payload) {
    const struct dbos_archive_value values[] = {
        {.text = "acc"}, {.row_type = "t", .name = "x"}, {.parameter = 2}};
    const struct dbos_archive_function_call call = {
        .function = "prov_history", .argument_count = 3, .arguments = values, .position = 15};
    const char *const parameters[] = {"1", NULL};
    const struct dbos_archive_question question = {.position = 77,
                                                   .sql = "SELECT 1",
                                                   .call_count = 1,
                                                   .calls = &call,
                                                   .parameter_count = 2,
                                                   .parameters = parameters,
                                                   .describe_only = true,
                                                   .timeout_us = 5};
    dbos_archive_put_question(payload, &question);
}

Test(provenance_archive, a_question_comes_back_and_a_cut_or_changed_one_is_refused) {
    struct dbos_alloc alloc;
    struct dbos_arena arena;
    struct dbos_buf payload;
    struct dbos_archive_question got;
    struct dbos_errinfo info;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_arena_init(&arena, &alloc, 0);
    dbos_buf_init(&payload, &alloc);
    put_sample(&payload);
    cr_assert_eq(dbos_archive_get_question(&arena, payload.data, payload.size_bytes, &got, &info),
                 DBOS_OK);
    cr_expect_eq(got.position, 77);
    cr_expect_eq(got.timeout_us, 5);
    cr_expect(got.describe_only);
    cr_expect_str_eq(got.sql, "SELECT 1");
    cr_assert_eq(got.call_count, 1);
    cr_expect_str_eq(got.calls[0].function, "prov_history");
    cr_expect_eq(got.calls[0].position, 15);
    cr_assert_eq(got.calls[0].argument_count, 3);
    cr_expect_str_eq(got.calls[0].arguments[0].text, "acc");
    cr_expect_str_eq(got.calls[0].arguments[1].row_type, "t");
    cr_expect_eq(got.calls[0].arguments[2].parameter, 2);
    cr_assert_eq(got.parameter_count, 2);
    cr_expect_str_eq(got.parameters[0], "1");
    cr_expect_null(got.parameters[1]);
    for (size_t cut = 0; cut < payload.size_bytes; cut++) {
        cr_expect_eq(dbos_archive_get_question(&arena, payload.data, cut, &got, &info),
                     DBOS_ERR_PROTOCOL, "cut at %zu", cut);
    }
    struct dbos_rng rng;
    dbos_rng_init(&rng, 3);
    for (int i = 0; i < 20000; i++) { /* no input crashes it */
        size_t at = dbos_rng_below(&rng, payload.size_bytes);
        uint8_t kept = payload.data[at];
        payload.data[at] = (uint8_t)dbos_rng_next(&rng);
        (void)!dbos_archive_get_question(&arena, payload.data, payload.size_bytes, &got, &info);
        payload.data[at] = kept;
        dbos_arena_reset(&arena);
    }
    dbos_buf_fini(&payload);
    dbos_arena_fini(&arena);
    dbos_alloc_fini(&alloc);
}

Test(provenance_archive, frames_rows_and_errors_come_back) {
    struct dbos_alloc alloc;
    struct dbos_buf payload, frame;
    struct dbos_archive_frame head;
    struct dbos_errinfo info, got;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&payload, &alloc);
    dbos_buf_init(&frame, &alloc);
    const struct dbos_bytes cells[] = {
        {(const uint8_t *)"abc", 3}, {NULL, 0}, {(const uint8_t *)"", 0}};
    dbos_archive_put_row(&payload, cells, 3);
    dbos_archive_put_row(&payload, cells, 3);
    struct dbos_reader reader = dbos_reader_of(payload.data, payload.size_bytes);
    struct dbos_bytes read[3];
    for (int i = 0; i < 2; i++) {
        cr_assert(dbos_archive_get_row(&reader, read, 3));
        cr_expect_eq(read[0].size_bytes, 3);
        cr_expect_null(read[1].data);
        cr_expect_not_null(read[2].data);
    }
    cr_expect_not(dbos_archive_get_row(&reader, read, 3));
    cr_expect_not(reader.failed);
    reader = dbos_reader_of(payload.data, payload.size_bytes - 1);
    (void)dbos_archive_get_row(&reader, read, 3);
    cr_expect_not(dbos_archive_get_row(&reader, read, 3));
    cr_expect(reader.failed, "a cut row is malformed");

    dbos_archive_put_frame(&frame, DBOS_ARCHIVE_ROWS, 9, payload.data, payload.size_bytes);
    cr_assert_eq(dbos_archive_get_head(frame.data, &head, &info), DBOS_OK);
    cr_expect_eq(head.kind, DBOS_ARCHIVE_ROWS);
    cr_expect_eq(head.id, 9);
    cr_expect_eq(head.payload_bytes, payload.size_bytes);
    frame.data[4]++;
    cr_expect_eq(dbos_archive_get_head(frame.data, &head, &info), DBOS_ERR_FORMAT_VERSION);
    frame.data[0]++;
    cr_expect_eq(dbos_archive_get_head(frame.data, &head, &info), DBOS_ERR_PROTOCOL);

    (void)dbos_fail_at(&info, DBOS_ERR_UNDEFINED_TABLE, 7, "no table");
    dbos_err_hint(&info, "make one");
    dbos_buf_reset(&payload);
    dbos_archive_put_error(&payload, &info);
    dbos_archive_get_error(payload.data, payload.size_bytes, &got);
    cr_expect_eq(got.code, DBOS_ERR_UNDEFINED_TABLE);
    cr_expect_eq(got.position, 7);
    cr_expect_str_eq(got.sqlstate, "42P01");
    cr_expect_str_eq(got.message, "no table");
    cr_expect_str_eq(got.hint, "make one");
    dbos_archive_get_error(payload.data, 3, &got);
    cr_expect_eq(got.code, DBOS_ERR_PROTOCOL);
    dbos_buf_fini(&frame);
    dbos_buf_fini(&payload);
    dbos_alloc_fini(&alloc);
}

/* -- manifest -----------------------------------------------------------------------------------
 */

Test(provenance_archive, a_manifest_line_counts_only_when_it_is_whole) {
    struct dbos_alloc alloc;
    struct dbos_buf line;
    struct dbos_errinfo info;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&line, &alloc);
    const struct dbos_manifest_segment segment = {.segment = 3,
                                                  .next_segment = 4,
                                                  .records = 9,
                                                  .first_position = 11,
                                                  .last_position = 19,
                                                  .first_us = 100,
                                                  .last_us = 200};
    const struct dbos_manifest_file file = {.relation = "t_7",
                                            .path = "t_7/day=2026-01-31/part-1.parquet",
                                            .rows = 5,
                                            .bytes = 6,
                                            .min_position = 11,
                                            .max_position = 12,
                                            .xxh3 = UINT64_C(0xfedcba9876543210)};
    dbos_manifest_begin(&line, &segment);
    dbos_manifest_file(&line, &file, true);
    dbos_manifest_file(&line, &file, false);
    dbos_manifest_end(&line);
    const char *text = (const char *)line.data;
    cr_assert_eq(dbos_manifest_line(text, line.size_bytes), line.size_bytes);
    struct dbos_manifest_segment got;
    cr_assert_eq(dbos_manifest_read(text, line.size_bytes, &got, &info), DBOS_OK);
    cr_expect(got.segment == 3 && got.next_segment == 4 && got.records == 9);
    cr_expect(got.first_position == 11 && got.last_position == 19);
    cr_expect(got.first_us == 100 && got.last_us == 200);
    struct dbos_manifest_names names;
    struct dbos_manifest_file found;
    size_t cursor = 0;
    uint32_t files = 0;
    while (dbos_manifest_next(text, line.size_bytes, &cursor, &names, &found)) {
        cr_expect_str_eq(found.path, file.path);
        cr_expect_str_eq(found.relation, "t_7");
        cr_expect(found.rows == 5 && found.bytes == 6 && found.xxh3 == file.xxh3);
        files++;
    }
    cr_expect_eq(files, 2);
    for (size_t cut = 0; cut < line.size_bytes; cut++) {
        cr_expect_eq(dbos_manifest_line(text, cut), 0, "cut at %zu", cut);
    }
    for (size_t at = 0; at < line.size_bytes; at++) {
        line.data[at] ^= 1;
        cr_expect_eq(dbos_manifest_line(text, line.size_bytes), 0, "changed at %zu", at);
        line.data[at] ^= 1;
    }
    dbos_buf_fini(&line);
    dbos_alloc_fini(&alloc);
}

/* -- texts and ids ------------------------------------------------------------------------------
 */

static void expect_real(struct dbos_buf *buf, double value, const char *text) {
    dbos_buf_reset(buf);
    dbos_archive_text_real(buf, value);
    dbos_buf_put_u8(buf, 0);
    cr_expect_str_eq((const char *)buf->data, text, "got %s", (const char *)buf->data);
}

static void expect_time(struct dbos_buf *buf, int64_t us, const char *text) {
    dbos_buf_reset(buf);
    dbos_archive_text_timestamp(buf, us);
    dbos_buf_put_u8(buf, 0);
    cr_expect_str_eq((const char *)buf->data, text, "got %s", (const char *)buf->data);
}

Test(provenance_archive, values_have_the_text_that_postgresql_gives_them) {
    struct dbos_alloc alloc;
    struct dbos_buf buf;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_buf_init(&buf, &alloc);
    expect_real(&buf, 0, "0");
    expect_real(&buf, -0.0, "-0");
    expect_real(&buf, 1, "1");
    expect_real(&buf, 0.1, "0.1");
    expect_real(&buf, -1234.5, "-1234.5");
    expect_real(&buf, 1e14, "100000000000000");
    expect_real(&buf, 1e15, "1e+15");
    expect_real(&buf, 0.0001, "0.0001");
    expect_real(&buf, 0.00001, "1e-05");
    expect_real(&buf, 5e-324, "5e-324");
    expect_real(&buf, 1.7976931348623157e308, "1.7976931348623157e+308");
    expect_real(&buf, (double)NAN, "NaN");
    expect_real(&buf, (double)-INFINITY, "-Infinity");
    expect_time(&buf, 0, "1970-01-01 00:00:00+00");
    expect_time(&buf, -1, "1969-12-31 23:59:59.999999+00");
    expect_time(&buf, INT64_C(951782400000000), "2000-02-29 00:00:00+00");
    expect_time(&buf, INT64_C(1700000000123000), "2023-11-14 22:13:20.123+00");
    expect_time(&buf, INT64_C(-62167219200000000), "0001-01-01 00:00:00+00 BC");
    const uint8_t mixed[] = {'a', 0, 0xc3, 0xa4, 0xff, 0xed, 0xa0, 0x80, 'b', 0xe2, 0x82};
    dbos_buf_reset(&buf);
    dbos_archive_text_clean(&buf, mixed, sizeof mixed);
    dbos_buf_put_u8(&buf, 0);
    cr_expect_str_eq((const char *)buf.data, "a?\xc3\xa4????b??");
    dbos_buf_fini(&buf);
    dbos_alloc_fini(&alloc);
}

Test(provenance_archive, an_idmap_finds_what_was_put) {
    struct dbos_alloc alloc;
    struct dbos_idmap map;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_idmap_init(&map, &alloc);
    cr_expect_null(dbos_idmap_find(&map, 1));
    for (uint32_t i = 0; i < 10000; i++) {
        cr_assert_eq(dbos_idmap_put(&map, (uint64_t)i * i * 1024, i), DBOS_OK);
    }
    cr_assert_eq(dbos_idmap_put(&map, 0, 77), DBOS_OK, "a second put replaces");
    cr_expect_eq(map.count, 10000);
    cr_expect_eq(*dbos_idmap_find(&map, 0), 77);
    for (uint32_t i = 1; i < 10000; i++) {
        cr_expect_eq(*dbos_idmap_find(&map, (uint64_t)i * i * 1024), i);
    }
    cr_expect_null(dbos_idmap_find(&map, 5));
    dbos_idmap_fini(&map);
    dbos_alloc_fini(&alloc);
}

/* -- walks --------------------------------------------------------------------------------------
 */

enum { WALK_EVENTS = 400, WALK_BLOCKS = 12, WALK_BITS = 8, WALK_PARTITIONS = 3 };

/* What a plain reading of the rule says: every pair of versions, one depending on the other. */
struct naive {
    struct dbos_walk_event events[WALK_EVENTS];
    uint32_t count;
    bool edge[WALK_EVENTS][WALK_EVENTS]; /* [version][version that it depends on] */
};

static bool is_write(const struct dbos_walk_event *event) { return event->op <= DBOS_EVENT_UPDATE; }

/* Random transactions of up to eight events: blocks come and go in two tables. */
static void draw_events(struct naive *n, struct dbos_rng *rng) {
    bool live[2][WALK_BLOCKS] = {{false}};
    uint32_t position = 1, within = 0, statement = 1;
    uint32_t length = 1 + (uint32_t)dbos_rng_below(rng, 8);
    n->count = 0;
    while (n->count < WALK_EVENTS) {
        if (within == length) {
            position++;
            within = 0;
            statement = 1;
            length = 1 + (uint32_t)dbos_rng_below(rng, 8);
        }
        struct dbos_walk_event *event = &n->events[n->count++];
        uint32_t table = (uint32_t)dbos_rng_below(rng, 2);
        uint64_t block = dbos_rng_below(rng, WALK_BLOCKS);
        statement += dbos_rng_below(rng, 3) == 0 ? 1 : 0;
        *event = (struct dbos_walk_event){.ord = ((int64_t)position << WALK_BITS) + within++,
                                          .block = block * 1024 + block % 5,
                                          .table_id = 100 + table,
                                          .count = 1,
                                          .statement = (uint16_t)statement};
        uint64_t kind = dbos_rng_below(rng, 10);
        if (kind < 4) {
            event->op = DBOS_EVENT_READ;
            event->count = kind == 0 ? 3 : 1;
        } else if (kind == 4) {
            event->op = DBOS_EVENT_SCAN;
            event->partition = dbos_rng_below(rng, 2) == 0
                                   ? DBOS_PARTITION_ALL
                                   : (uint16_t)dbos_rng_below(rng, WALK_PARTITIONS);
            event->partitions = WALK_PARTITIONS;
        } else if (!live[table][block]) {
            event->op = DBOS_EVENT_INSERT;
            live[table][block] = true;
        } else {
            event->op = kind == 5 ? DBOS_EVENT_DELETE : DBOS_EVENT_UPDATE;
            live[table][block] = kind != 5;
        }
    }
}

static bool read_covers(const struct dbos_walk_event *read, const struct dbos_walk_event *write) {
    if (read->table_id != write->table_id) {
        return false;
    }
    if (read->op == DBOS_EVENT_SCAN) {
        return read->partition == DBOS_PARTITION_ALL ||
               write->block % 1024 % read->partitions == read->partition;
    }
    for (uint32_t i = 0; i < read->count; i++) {
        if (read->block + i * 1024u == write->block) {
            return true;
        }
    }
    return false;
}

/* Did the read see this version: covered, before it, not a delete, none newer in between? */
static bool saw(const struct naive *n, uint32_t read, uint32_t version) {
    if (version > read || n->events[version].op == DBOS_EVENT_DELETE ||
        !read_covers(&n->events[read], &n->events[version])) {
        return false;
    }
    for (uint32_t i = version + 1; i < read; i++) {
        if (is_write(&n->events[i]) && n->events[i].table_id == n->events[version].table_id &&
            n->events[i].block == n->events[version].block) {
            return false;
        }
    }
    return true;
}

static void find_edges(struct naive *n) {
    memset(n->edge, 0, sizeof n->edge);
    for (uint32_t r = 0; r < n->count; r++) {
        if (is_write(&n->events[r])) {
            continue;
        }
        for (uint32_t v = 0; v < r; v++) {
            if (!is_write(&n->events[v]) || !saw(n, r, v)) {
                continue;
            }
            for (uint32_t w = 0; w < n->count; w++) {
                bool same = n->events[w].ord >> WALK_BITS == n->events[r].ord >> WALK_BITS;
                if (same && is_write(&n->events[w]) &&
                    n->events[w].statement >= n->events[r].statement) {
                    n->edge[w][v] = true;
                }
            }
        }
    }
}

/* Depths by relaxing until nothing changes. */
static void naive_depths(const struct naive *n, uint32_t start, bool backwards, int *depths) {
    for (uint32_t i = 0; i < n->count; i++) {
        depths[i] = i == start ? 0 : -1;
    }
    for (int depth = 0; depth < (int)n->count; depth++) {
        for (uint32_t i = 0; i < n->count; i++) {
            for (uint32_t j = 0; depths[i] == depth && j < n->count; j++) {
                bool edge = backwards ? n->edge[i][j] : n->edge[j][i];
                depths[j] = edge && depths[j] < 0 ? depth + 1 : depths[j];
            }
        }
    }
}

static void compare_walk(struct dbos_alloc *alloc, const struct naive *n, uint32_t start,
                         bool backwards) {
    static int depths[WALK_EVENTS];
    struct dbos_walk *walk;
    cr_assert_eq(dbos_walk_open(alloc, 100000, &walk), DBOS_OK);
    for (uint32_t i = 0; i < n->count; i++) {
        cr_assert_eq(dbos_walk_add(walk, &n->events[i]), DBOS_OK);
    }
    cr_assert_eq(dbos_walk_prepare(walk, WALK_BITS, backwards), DBOS_OK);
    dbos_walk_start(walk, n->events[start].ord);
    cr_assert_eq(dbos_walk_run(walk, UINT32_MAX, NULL, NULL), DBOS_OK);
    naive_depths(n, start, backwards, depths);
    uint32_t expected = 0;
    for (uint32_t i = 0; i < n->count; i++) {
        expected += depths[i] >= 0 ? 1 : 0;
    }
    cr_expect_eq(dbos_walk_count(walk), expected, "%s from %u: %u, not %u",
                 backwards ? "up" : "down", start, dbos_walk_count(walk), expected);
    for (uint32_t f = 0; f < dbos_walk_count(walk); f++) {
        struct dbos_walk_found found = dbos_walk_found(walk, f);
        uint32_t i = 0;
        while (n->events[i].ord != found.ord) {
            i++;
        }
        cr_expect_eq((int)found.depth, depths[i]);
    }
    dbos_walk_close(walk);
}

Test(provenance_archive, walks_agree_with_a_plain_reading_of_the_rule) {
    static struct naive n;
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    dbos_alloc_init(&alloc, "test", 0);
    for (uint64_t seed = 1; seed <= 12; seed++) {
        dbos_rng_init(&rng, seed);
        draw_events(&n, &rng);
        find_edges(&n);
        for (uint32_t i = 0; i < n.count; i += 7) {
            if (is_write(&n.events[i])) {
                compare_walk(&alloc, &n, i, true);
                compare_walk(&alloc, &n, i, false);
            }
        }
    }
    dbos_alloc_fini(&alloc);
}

Test(provenance_archive, a_walk_says_when_it_is_too_long_and_stops_when_told) {
    static struct naive n;
    struct dbos_alloc alloc;
    struct dbos_rng rng;
    struct dbos_walk *walk;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_rng_init(&rng, 1);
    draw_events(&n, &rng);
    cr_assert_eq(dbos_walk_open(&alloc, 100, &walk), DBOS_OK);
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < n.count && err == DBOS_OK; i++) {
        err = dbos_walk_add(walk, &n.events[i]);
    }
    cr_expect_eq(err, DBOS_ERR_LIMIT);
    dbos_walk_close(walk);
    for (int64_t fail = 1;; fail++) { /* every allocation that fails is an error, and no leak */
        alloc.fail_countdown = fail;
        err = dbos_walk_open(&alloc, 100000, &walk);
        for (uint32_t i = 0; i < n.count && err == DBOS_OK; i++) {
            err = dbos_walk_add(walk, &n.events[i]);
        }
        if (err == DBOS_OK) {
            err = dbos_walk_prepare(walk, WALK_BITS, true);
        }
        dbos_walk_close(walk);
        if (err == DBOS_OK) {
            break;
        }
        cr_expect_eq(err, DBOS_ERR_NOMEM);
    }
    alloc.fail_countdown = 0;
    dbos_alloc_fini(&alloc);
}
