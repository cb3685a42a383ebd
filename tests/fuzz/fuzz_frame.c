/* The worker's decoders: a stream of frames, the assembler, payload heads and stored models.
 *
 * The input is read as a stream: as long as a header decodes, its payload is cut from what follows.
 * The checksum is looked at but does not stop the walk, so that mutations reach what is behind it.
 */
#include "base/alloc.h"
#include "base/err.h"
#include "base/hash.h"
#include "gpu/assembler.h"
#include "gpu/frame.h"
#include "gpu/model.h"
#include "tests/fuzz/fuzz.h"

#define MODEL_CRC_OFFSET 32u

static void read_heads(const uint8_t *payload, size_t size_bytes, uint32_t count) {
    struct dbos_frame_times times;
    struct dbos_frame_hello hello;
    struct dbos_train_report report;
    enum dbos_frame_error_code code;
    struct dbos_bytes run;
    const uint8_t *labels;
    const uint8_t *probabilities;
    uint32_t sum = 0;
    if (dbos_frame_get_error(payload, size_bytes, &times, &code, &run, NULL) == DBOS_OK) {
        sum = dbos_crc32c(sum, run.data, run.size_bytes);
    }
    if (dbos_frame_get_infer_result(payload, size_bytes, count, &times, &labels, &probabilities,
                                    NULL) == DBOS_OK) {
        sum = dbos_crc32c(sum, labels, count);
        sum = dbos_crc32c(sum, probabilities, count * sizeof(float));
    }
    if (dbos_frame_get_train_result(payload, size_bytes, &times, &report, &run, NULL) == DBOS_OK) {
        sum = dbos_crc32c(sum, run.data, run.size_bytes);
    }
    if (dbos_frame_get_hello(payload, size_bytes, &hello, NULL) == DBOS_OK) {
        sum = dbos_crc32c(sum, hello.name, strlen(hello.name));
    }
    /* Used, so that the reads are not optimised away. */
    DBOS_CHECK(sum == 0 || sum != 0);
}

static void read_model(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    struct dbos_mlp *mlp = NULL;
    if (dbos_model_decode(alloc, data, size_bytes, &mlp, NULL) == DBOS_OK) {
        struct dbos_buf buf;
        dbos_buf_init(&buf, alloc);
        dbos_model_encode(mlp, &buf);
        /* Reserved bytes aside, one model has one stored form. */
        DBOS_CHECK(!buf.failed && buf.size_bytes == size_bytes);
        DBOS_CHECK(memcmp(buf.data + sizeof(struct dbos_model_header),
                          data + sizeof(struct dbos_model_header),
                          size_bytes - sizeof(struct dbos_model_header)) == 0);
        dbos_buf_fini(&buf);
        dbos_mlp_close(alloc, mlp);
    }
}

/* Once as it is and once with the checksum made right, to get behind it. */
static void read_models(struct dbos_alloc *alloc, const uint8_t *data, size_t size_bytes) {
    read_model(alloc, data, size_bytes);
    if (size_bytes < sizeof(struct dbos_model_header)) {
        return;
    }
    uint8_t *copy = dbos_take(alloc, size_bytes);
    DBOS_CHECK(copy != NULL);
    memcpy(copy, data, size_bytes);
    dbos_store_u32(copy + MODEL_CRC_OFFSET, 0);
    dbos_store_u32(copy + MODEL_CRC_OFFSET, dbos_crc32c(0, copy, size_bytes));
    read_model(alloc, copy, size_bytes);
    dbos_give(alloc, copy);
}

static void assemble(struct dbos_assembler *assembler, const struct dbos_frame *frame,
                     const uint8_t *payload, uint64_t now_ns) {
    struct dbos_assembly *assembly = NULL;
    uint8_t *copy = NULL;
    if (frame->payload_bytes > 0) {
        copy = dbos_take(assembler->alloc, frame->payload_bytes);
        DBOS_CHECK(copy != NULL);
        memcpy(copy, payload, frame->payload_bytes);
    }
    enum dbos_err err = dbos_assembler_add_give(assembler, frame, copy, now_ns, &assembly, NULL);
    DBOS_CHECK(err == DBOS_OK || assembly == NULL);
    DBOS_CHECK(assembler->bytes <= assembler->options.bytes_max);
    if (assembly != NULL) {
        struct dbos_buf buf;
        dbos_buf_init(&buf, assembler->alloc);
        dbos_assembly_put(assembly, &buf);
        DBOS_CHECK(!buf.failed && buf.size_bytes == assembly->payload_bytes);
        read_heads(buf.data, buf.size_bytes, assembly->frame.count);
        read_models(assembler->alloc, buf.data, buf.size_bytes);
        dbos_buf_fini(&buf);
        dbos_assembly_close(assembly);
    }
}

static void read_stream(struct dbos_assembler *assembler, struct dbos_reader *reader) {
    struct dbos_frame frame;
    const uint8_t *header = dbos_get(reader, DBOS_FRAME_BYTES);
    for (uint64_t n = 0; header != NULL && n < 4096; n++) {
        if (dbos_frame_decode(header, &frame, NULL) != DBOS_OK) {
            break;
        }
        const uint8_t *payload = dbos_get(reader, frame.payload_bytes);
        if (payload == NULL) {
            break;
        }
        (void)!dbos_frame_verify(header, payload, frame.payload_bytes, NULL);
        if (frame.kind == DBOS_FRAME_CANCEL) {
            (void)dbos_assembler_drop(assembler, 0, frame.task_id, frame.attempt);
        } else {
            assemble(assembler, &frame, payload, n);
        }
        header = dbos_get(reader, DBOS_FRAME_BYTES);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes) {
    static const struct dbos_assembler_options options = {
        .bytes_max = 4u << 20, .assemblies_max = 16, .idle_ns = 1000};
    struct dbos_alloc alloc;
    struct dbos_assembler assembler;
    struct dbos_frame expired;
    struct dbos_reader reader = dbos_reader_of(data, size_bytes);
    dbos_alloc_init(&alloc, "fuzz", 0);
    dbos_assembler_init(&assembler, &alloc, &options);
    read_stream(&assembler, &reader);
    (void)dbos_assembler_expire(&assembler, 1500, &expired);
    read_heads(data, size_bytes, size_bytes > 0 ? data[0] : 0);
    read_models(&alloc, data, size_bytes);
    dbos_assembler_fini(&assembler);
    dbos_alloc_fini(&alloc);
    return 0;
}
