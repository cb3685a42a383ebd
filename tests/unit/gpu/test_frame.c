#include <criterion/criterion.h>

#include "base/alloc.h"
#include "base/env.h"
#include "gpu/assembler.h"
#include "gpu/frame.h"

TestSuite(gpu_frame, .timeout = 60);

static const uint8_t golden_payload[] = {'p', 'i', 'x', 'e', 'l', 's'};
/* Made by another program from docs/formats/frame.md. */
static const uint8_t golden[DBOS_FRAME_BYTES] = {
    0x44, 0x42, 0x54, 0x31, 0x01, 0x00, 0x02, 0x00, 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01,
    0x03, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x07, 0x00, 0x00, 0x00,
    0x09, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x01, 0x00, 0x01, 0x00, 0x90, 0xd0, 0x03, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x90, 0x51, 0xc4, 0x3b, 0x00, 0x00, 0x00, 0x00};

static struct dbos_frame golden_frame(void) {
    return (struct dbos_frame){.kind = DBOS_FRAME_INFER,
                               .task_id = 0x0102030405060708,
                               .attempt = 3,
                               .piece = 1,
                               .pieces = 4,
                               .model_id = 7,
                               .model_version = 9,
                               .count = 6,
                               .dtype = DBOS_DTYPE_U8,
                               .layout = DBOS_LAYOUT_NHW,
                               .deadline_us = 250000};
}

Test(gpu_frame, a_header_has_the_documented_bytes) {
    struct dbos_frame frame = golden_frame();
    struct dbos_frame back;
    /* Two runs: the checksum goes on over them. */
    struct dbos_bytes runs[] = {{golden_payload, 2}, {golden_payload + 2, 4}};
    uint8_t header[DBOS_FRAME_BYTES];
    cr_assert(dbos_frame_encode(&frame, runs, 2, header, NULL) == DBOS_OK);
    cr_assert_arr_eq(header, golden, sizeof golden);
    cr_assert(dbos_frame_decode(golden, &back, NULL) == DBOS_OK);
    cr_assert(dbos_frame_verify(golden, golden_payload, sizeof golden_payload, NULL) == DBOS_OK);
    cr_expect(back.kind == DBOS_FRAME_INFER && back.task_id == frame.task_id);
    cr_expect(back.attempt == 3 && back.piece == 1 && back.pieces == 4 && back.flags == 0);
    cr_expect(back.model_id == 7 && back.model_version == 9 && back.count == 6);
    cr_expect(back.dtype == DBOS_DTYPE_U8 && back.layout == DBOS_LAYOUT_NHW);
    cr_expect(back.deadline_us == 250000 && back.payload_bytes == 6);
}

Test(gpu_frame, every_flipped_bit_is_noticed) {
    for (size_t bit = 0; bit < 8 * (sizeof golden + sizeof golden_payload); bit++) {
        uint8_t bytes[sizeof golden + sizeof golden_payload];
        struct dbos_frame frame;
        memcpy(bytes, golden, sizeof golden);
        memcpy(bytes + sizeof golden, golden_payload, sizeof golden_payload);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        bool good =
            dbos_frame_decode(bytes, &frame, NULL) == DBOS_OK &&
            frame.payload_bytes == sizeof golden_payload &&
            dbos_frame_verify(bytes, bytes + sizeof golden, sizeof golden_payload, NULL) == DBOS_OK;
        cr_expect(!good, "bit %zu", bit);
    }
}

Test(gpu_frame, a_header_that_breaks_a_rule_is_refused) {
    static const struct {
        size_t offset;
        uint32_t value;
        size_t bytes;
        enum dbos_err err;
    } cases[] = {
        {0, 0x31544243, 4, DBOS_ERR_PROTOCOL}, {4, 2, 2, DBOS_ERR_FORMAT_VERSION},
        {4, 0, 2, DBOS_ERR_FORMAT_VERSION},    {6, 0, 2, DBOS_ERR_PROTOCOL},
        {6, 9, 2, DBOS_ERR_PROTOCOL},          {20, 4, 4, DBOS_ERR_PROTOCOL},
        {24, 0, 4, DBOS_ERR_PROTOCOL},         {24, 4097, 4, DBOS_ERR_LIMIT},
        {52, 1048577, 4, DBOS_ERR_LIMIT},      {52, 0xffffffff, 4, DBOS_ERR_LIMIT},
        {60, 1, 4, DBOS_ERR_PROTOCOL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t header[DBOS_FRAME_BYTES];
        struct dbos_frame frame;
        struct dbos_errinfo info = {0};
        memcpy(header, golden, sizeof header);
        memcpy(header + cases[i].offset, &cases[i].value, cases[i].bytes);
        cr_expect(dbos_frame_decode(header, &frame, &info) == cases[i].err, "case %zu: %s", i,
                  info.message);
    }
}

Test(gpu_frame, a_payload_over_one_mebibyte_is_not_encoded) {
    struct dbos_alloc alloc;
    dbos_alloc_init(&alloc, "test", 0);
    uint8_t *payload = dbos_take_zero(&alloc, DBOS_FRAME_PAYLOAD_MAX + 1);
    uint8_t header[DBOS_FRAME_BYTES];
    struct dbos_frame frame = golden_frame();
    struct dbos_bytes run = {payload, DBOS_FRAME_PAYLOAD_MAX};
    cr_expect(dbos_frame_encode(&frame, &run, 1, header, NULL) == DBOS_OK);
    cr_expect(dbos_frame_verify(header, payload, run.size_bytes, NULL) == DBOS_OK);
    run.size_bytes++;
    cr_expect(dbos_frame_encode(&frame, &run, 1, header, NULL) == DBOS_ERR_LIMIT);
    run.size_bytes = 0;
    frame.pieces = DBOS_FRAME_PIECES_MAX + 1;
    cr_expect(dbos_frame_encode(&frame, &run, 1, header, NULL) == DBOS_ERR_LIMIT);
    dbos_give(&alloc, payload);
    dbos_alloc_fini(&alloc);
}

/* --- Heads of payloads ------------------------------------------------------------------------ */

Test(gpu_frame, payload_heads_are_read_whole_or_refused) {
    uint8_t error[32 + 8 + 5];
    uint8_t infer[32 + 3 * 5];
    uint8_t train[32 + 32 + 7];
    struct dbos_frame_times times = {.version = 1, .recv_us = 2, .queue_us = 3, .exec_us = 4};
    struct dbos_frame_error head = {.code = DBOS_FRAME_ERR_DEADLINE, .text_bytes = 5};
    struct dbos_train_report report = {.version = 1, .epochs = 5, .model_bytes = 7};
    struct dbos_train_report report_back;
    struct dbos_frame_times times_back;
    enum dbos_frame_error_code code;
    struct dbos_bytes run;
    const uint8_t *labels;
    const uint8_t *probabilities;
    memset(infer, 0, sizeof infer);
    memset(train, 0, sizeof train);
    memcpy(error, &times, sizeof times);
    memcpy(error + 32, &head, sizeof head);
    memcpy(error + 40, "too l", 5);
    memcpy(infer, &times, sizeof times);
    memcpy(train, &times, sizeof times);
    memcpy(train + 32, &report, sizeof report);
    cr_assert(dbos_frame_get_error(error, sizeof error, &times_back, &code, &run, NULL) == DBOS_OK);
    cr_expect(code == DBOS_FRAME_ERR_DEADLINE && times_back.exec_us == 4);
    cr_expect(run.size_bytes == 5 && memcmp(run.data, "too l", 5) == 0);
    cr_assert(dbos_frame_get_infer_result(infer, sizeof infer, 3, &times_back, &labels,
                                          &probabilities, NULL) == DBOS_OK);
    cr_expect(labels == infer + 32 && probabilities == infer + 35);
    cr_assert(dbos_frame_get_train_result(train, sizeof train, &times_back, &report_back, &run,
                                          NULL) == DBOS_OK);
    cr_expect(report_back.epochs == 5 && run.data == train + 64 && run.size_bytes == 7);
    for (size_t cut = 0; cut < sizeof error; cut++) {
        cr_expect(dbos_frame_get_error(error, cut, NULL, &code, &run, NULL) != DBOS_OK);
    }
    for (size_t cut = 0; cut < sizeof infer; cut++) {
        cr_expect(dbos_frame_get_infer_result(infer, cut, 3, NULL, &labels, &probabilities, NULL) !=
                  DBOS_OK);
    }
    for (size_t cut = 0; cut < sizeof train; cut++) {
        cr_expect(dbos_frame_get_train_result(train, cut, NULL, &report_back, &run, NULL) !=
                  DBOS_OK);
    }
    cr_expect(dbos_frame_get_infer_result(infer, sizeof infer, UINT32_MAX, NULL, &labels,
                                          &probabilities, NULL) != DBOS_OK);
}

Test(gpu_frame, a_hello_needs_a_common_version_and_ended_names) {
    struct dbos_frame_hello hello = {
        .version = 1, .frame_version_min = 1, .frame_version_max = 3, .source = 5};
    struct dbos_frame_hello back;
    cr_expect(dbos_frame_get_hello(&hello, sizeof hello, &back, NULL) == DBOS_OK);
    cr_expect(back.source == 5);
    cr_expect(dbos_frame_get_hello(&hello, sizeof hello - 1, &back, NULL) == DBOS_ERR_PROTOCOL);
    hello.frame_version_min = 2;
    cr_expect(dbos_frame_get_hello(&hello, sizeof hello, &back, NULL) == DBOS_ERR_FORMAT_VERSION);
    hello.frame_version_min = 0;
    hello.frame_version_max = 0;
    cr_expect(dbos_frame_get_hello(&hello, sizeof hello, &back, NULL) == DBOS_ERR_FORMAT_VERSION);
    hello.frame_version_max = 1;
    memset(hello.name, 'x', sizeof hello.name);
    cr_expect(dbos_frame_get_hello(&hello, sizeof hello, &back, NULL) == DBOS_ERR_PROTOCOL);
}

/* --- Assembler -------------------------------------------------------------------------------- */

static const struct dbos_assembler_options roomy = {
    .bytes_max = 1 << 20, .assemblies_max = 8, .idle_ns = 1000000};

/* Piece i of a task: i + 1 bytes of the value i. */
static enum dbos_err add(struct dbos_assembler *assembler, uint64_t task_id, uint32_t piece,
                         uint32_t pieces, uint64_t now_ns, struct dbos_assembly **out) {
    struct dbos_frame frame = {.kind = DBOS_FRAME_TRAIN,
                               .task_id = task_id,
                               .piece = piece,
                               .pieces = pieces,
                               .count = piece,
                               .payload_bytes = piece + 1};
    uint8_t *payload = dbos_take(assembler->alloc, piece + 1);
    *out = NULL;
    if (payload == NULL) {
        return DBOS_ERR_NOMEM;
    }
    memset(payload, (int)piece, piece + 1);
    return dbos_assembler_add_give(assembler, &frame, payload, now_ns, out, NULL);
}

static void expect_whole(const struct dbos_assembly *assembly, uint32_t pieces) {
    struct dbos_buf buf;
    size_t at = 0;
    dbos_buf_init(&buf, assembly->alloc);
    dbos_assembly_put(assembly, &buf);
    cr_assert(!buf.failed && buf.size_bytes == (size_t)pieces * (pieces + 1) / 2);
    for (uint32_t piece = 0; piece < pieces; piece++) {
        for (uint32_t i = 0; i <= piece; i++) {
            cr_expect(buf.data[at++] == piece);
        }
    }
    cr_expect(assembly->frame.piece == 0 && assembly->frame.count == pieces * (pieces - 1) / 2);
    dbos_buf_fini(&buf);
}

/* Goal: whatever the order and however often a piece comes, a task is whole once.
 * Method: 200 seeded shuffles of two tasks' pieces, each piece one to three times. */
Test(gpu_frame, shuffled_and_repeated_pieces_make_the_task_once) {
    enum { PIECES = 12, SENT_MAX = 2 * PIECES * 3 };
    struct dbos_alloc alloc;
    struct dbos_assembler assembler;
    struct dbos_rng rng;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_assembler_init(&assembler, &alloc, &roomy);
    dbos_rng_init(&rng, 7);
    for (int round = 0; round < 200; round++) {
        uint32_t sent[SENT_MAX];
        uint32_t count = 0;
        uint32_t whole[2] = {0, 0};
        bool seen[2][PIECES] = {{false}};
        uint32_t have[2] = {0, 0};
        for (uint32_t i = 0; i < 2 * PIECES; i++) {
            for (uint64_t n = dbos_rng_below(&rng, 3) + 1; n > 0; n--) {
                sent[count++] = i;
            }
        }
        for (uint32_t i = count - 1; i > 0; i--) {
            uint32_t j = (uint32_t)dbos_rng_below(&rng, i + 1);
            uint32_t swap = sent[i];
            sent[i] = sent[j];
            sent[j] = swap;
        }
        for (uint32_t i = 0; i < count; i++) {
            uint32_t task = sent[i] / PIECES;
            uint32_t piece = sent[i] % PIECES;
            struct dbos_assembly *assembly;
            if (have[task] == PIECES) {
                continue; /* finished: the caller filters these */
            }
            cr_assert(add(&assembler, task, piece, PIECES, 0, &assembly) == DBOS_OK);
            have[task] += seen[task][piece] ? 0 : 1;
            seen[task][piece] = true;
            cr_assert((assembly != NULL) == (have[task] == PIECES));
            if (assembly != NULL) {
                whole[task]++;
                expect_whole(assembly, PIECES);
                dbos_assembly_close(assembly);
            }
        }
        cr_assert(whole[0] == 1 && whole[1] == 1);
        cr_assert(assembler.bytes == 0 && assembler.assemblies == 0);
    }
    dbos_assembler_fini(&assembler);
    dbos_alloc_fini(&alloc);
}

Test(gpu_frame, pieces_that_contradict_and_tasks_of_other_sources_stay_apart) {
    struct dbos_alloc alloc;
    struct dbos_assembler assembler;
    struct dbos_assembly *assembly;
    dbos_alloc_init(&alloc, "test", 0);
    dbos_assembler_init(&assembler, &alloc, &roomy);
    cr_expect(add(&assembler, 1, 0, 2, 0, &assembly) == DBOS_OK);
    cr_expect(add(&assembler, 1, 1, 3, 0, &assembly) == DBOS_ERR_PROTOCOL);
    struct dbos_frame other = {
        .kind = DBOS_FRAME_TRAIN, .task_id = 1, .piece = 1, .pieces = 2, .source = 9};
    cr_expect(dbos_assembler_add_give(&assembler, &other, NULL, 0, &assembly, NULL) == DBOS_OK);
    cr_expect(assembly == NULL && assembler.assemblies == 2);
    other.source = 0;
    other.attempt = 1;
    cr_expect(dbos_assembler_add_give(&assembler, &other, NULL, 0, &assembly, NULL) == DBOS_OK);
    cr_expect(assembly == NULL && assembler.assemblies == 3);
    cr_expect(add(&assembler, 1, 1, 2, 0, &assembly) == DBOS_OK);
    cr_assert(assembly != NULL);
    expect_whole(assembly, 2);
    dbos_assembly_close(assembly);
    cr_expect(dbos_assembler_drop(&assembler, 0, 1, 0) == false);
    cr_expect(dbos_assembler_drop(&assembler, 0, 1, 1) == true);
    cr_expect(assembler.assemblies == 1);
    dbos_assembler_fini(&assembler);
    dbos_alloc_fini(&alloc);
}

Test(gpu_frame, limits_of_bytes_and_tasks_drop_the_task_that_breaks_them) {
    struct dbos_alloc alloc;
    struct dbos_assembler assembler;
    struct dbos_assembly *assembly;
    struct dbos_assembler_options options = {
        .bytes_max = 4 * sizeof *assembly, .assemblies_max = 2, .idle_ns = 1000000};
    dbos_alloc_init(&alloc, "test", 0);
    dbos_assembler_init(&assembler, &alloc, &options);
    cr_expect(add(&assembler, 1, 0, 2, 0, &assembly) == DBOS_OK);
    cr_expect(add(&assembler, 2, 0, 2, 0, &assembly) == DBOS_OK);
    cr_expect(add(&assembler, 3, 0, 2, 0, &assembly) == DBOS_ERR_LIMIT);
    cr_expect(dbos_assembler_drop(&assembler, 0, 2, 0));
    /* The list of pieces alone is too long. */
    cr_expect(add(&assembler, 3, 0, DBOS_FRAME_PIECES_MAX, 0, &assembly) == DBOS_ERR_LIMIT);
    /* A piece that is too large takes its task with it, not the other one. */
    cr_expect(add(&assembler, 3, 0, 2, 0, &assembly) == DBOS_OK);
    struct dbos_frame large = {.kind = DBOS_FRAME_TRAIN,
                               .task_id = 3,
                               .piece = 1,
                               .pieces = 2,
                               .payload_bytes = 4 * sizeof *assembly};
    void *payload = dbos_take_zero(&alloc, large.payload_bytes);
    cr_expect(dbos_assembler_add_give(&assembler, &large, payload, 0, &assembly, NULL) ==
              DBOS_ERR_LIMIT);
    cr_expect(assembler.assemblies == 1);
    cr_expect(add(&assembler, 1, 1, 2, 0, &assembly) == DBOS_OK && assembly != NULL);
    dbos_assembly_close(assembly);
    cr_expect(assembler.bytes == 0);
    dbos_assembler_fini(&assembler);
    dbos_alloc_fini(&alloc);
}

Test(gpu_frame, a_task_whose_pieces_stop_coming_expires) {
    struct dbos_alloc alloc;
    struct dbos_assembler assembler;
    struct dbos_assembly *assembly;
    struct dbos_frame late;
    struct dbos_frame urgent = {
        .kind = DBOS_FRAME_INFER, .task_id = 2, .pieces = 2, .deadline_us = 100, .via = 42};
    dbos_alloc_init(&alloc, "test", 0);
    dbos_assembler_init(&assembler, &alloc, &roomy);
    cr_expect(add(&assembler, 1, 0, 3, 0, &assembly) == DBOS_OK);
    cr_expect(dbos_assembler_add_give(&assembler, &urgent, NULL, 0, &assembly, NULL) == DBOS_OK);
    cr_expect(!dbos_assembler_expire(&assembler, 99999, &late));
    cr_assert(dbos_assembler_expire(&assembler, 100000, &late));
    cr_expect(late.task_id == 2 && late.via == 42);
    cr_expect(add(&assembler, 1, 1, 3, 900000, &assembly) == DBOS_OK);
    cr_expect(!dbos_assembler_expire(&assembler, 1800000, &late), "a new piece prolongs");
    cr_assert(dbos_assembler_expire(&assembler, 1900000, &late));
    cr_expect(late.task_id == 1 && !dbos_assembler_expire(&assembler, UINT64_MAX, &late));
    dbos_assembler_fini(&assembler);
    dbos_alloc_fini(&alloc);
}

/* Goal: no out-of-memory point leaks or leaves a task half there.
 * Method: fail the 1st take, then the 2nd, and so on until the task is whole. */
Test(gpu_frame, assembly_survives_every_failed_take) {
    bool whole = false;
    for (int64_t nth = 1; !whole; nth++) {
        struct dbos_alloc alloc;
        struct dbos_assembler assembler;
        dbos_alloc_init(&alloc, "test", 0);
        dbos_assembler_init(&assembler, &alloc, &roomy);
        atomic_store(&alloc.fail_countdown, nth);
        for (uint32_t piece = 0; piece < 3; piece++) {
            struct dbos_assembly *assembly;
            enum dbos_err err = add(&assembler, 1, piece, 3, 0, &assembly);
            cr_assert(err == DBOS_OK || err == DBOS_ERR_NOMEM);
            whole = assembly != NULL;
            dbos_assembly_close(assembly);
        }
        dbos_assembler_fini(&assembler);
        dbos_alloc_fini(&alloc);
        cr_assert(nth < 100);
    }
}
