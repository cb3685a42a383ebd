#include "gpu/frame.h"

#include "base/alloc.h"
#include "base/hash.h"

#define CRC_OFFSET offsetof(struct dbos_frame_wire, crc32c)

/* The CRC over the header with the CRC's own field zero; the payload continues it. */
static uint32_t header_crc(const uint8_t header[DBOS_FRAME_BYTES]) {
    uint8_t copy[DBOS_FRAME_BYTES];
    memcpy(copy, header, sizeof copy);
    memset(copy + CRC_OFFSET, 0, sizeof(uint32_t));
    return dbos_crc32c(0, copy, sizeof copy);
}

static uint64_t runs_bytes(const struct dbos_bytes *runs, size_t run_count) {
    uint64_t total = 0;
    for (size_t i = 0; i < run_count; i++) {
        total += runs[i].size_bytes;
    }
    return total;
}

static void wire_of(const struct dbos_frame *frame, struct dbos_frame_wire *wire) {
    *wire = (struct dbos_frame_wire){
        .magic = DBOS_FRAME_MAGIC,
        .version = DBOS_FRAME_VERSION,
        .kind = (uint16_t)frame->kind,
        .task_id = frame->task_id,
        .attempt = frame->attempt,
        .flags = frame->flags,
        .piece = frame->piece,
        .pieces = frame->pieces,
        .model_id = frame->model_id,
        .model_version = frame->model_version,
        .count = frame->count,
        .dtype = frame->dtype,
        .layout = frame->layout,
        .payload_bytes = frame->payload_bytes,
    };
    dbos_store_u64(wire->deadline_us, frame->deadline_us);
}

enum dbos_err dbos_frame_encode(struct dbos_frame *frame, const struct dbos_bytes *runs,
                                size_t run_count, uint8_t header[DBOS_FRAME_BYTES],
                                struct dbos_errinfo *info) {
    uint64_t total = runs_bytes(runs, run_count);
    struct dbos_frame_wire wire;
    if (total > DBOS_FRAME_PAYLOAD_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "a frame's payload of %llu bytes is over %u",
                         (unsigned long long)total, DBOS_FRAME_PAYLOAD_MAX);
    }
    if (frame->pieces > DBOS_FRAME_PIECES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "%u pieces are more than %u", frame->pieces,
                         DBOS_FRAME_PIECES_MAX);
    }
    DBOS_CHECK(frame->kind >= DBOS_FRAME_HELLO && frame->kind <= DBOS_FRAME_HEARTBEAT);
    DBOS_CHECK(frame->piece < frame->pieces);
    frame->payload_bytes = (uint32_t)total;
    wire_of(frame, &wire);
    memcpy(header, &wire, sizeof wire);
    uint32_t crc = header_crc(header);
    for (size_t i = 0; i < run_count; i++) {
        crc = dbos_crc32c(crc, runs[i].data, runs[i].size_bytes);
    }
    dbos_store_u32(header + CRC_OFFSET, crc);
    return DBOS_OK;
}

enum dbos_err dbos_frame_put(struct dbos_buf *buf, struct dbos_frame *frame,
                             const struct dbos_bytes *runs, size_t run_count,
                             struct dbos_errinfo *info) {
    uint8_t header[DBOS_FRAME_BYTES];
    enum dbos_err err = dbos_frame_encode(frame, runs, run_count, header, info);
    if (err != DBOS_OK) {
        return err;
    }
    dbos_buf_put(buf, header, sizeof header);
    for (size_t i = 0; i < run_count; i++) {
        dbos_buf_put(buf, runs[i].data, runs[i].size_bytes);
    }
    return buf->failed ? dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a frame") : DBOS_OK;
}

static enum dbos_err wire_check(const struct dbos_frame_wire *wire, struct dbos_errinfo *info) {
    if (wire->magic != DBOS_FRAME_MAGIC) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "not a worker frame: magic %08x", wire->magic);
    }
    if (wire->version != DBOS_FRAME_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION, "worker frame version %u, not %u",
                         wire->version, DBOS_FRAME_VERSION);
    }
    if (wire->kind < DBOS_FRAME_HELLO || wire->kind > DBOS_FRAME_HEARTBEAT) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "unknown frame kind %u", wire->kind);
    }
    if (wire->payload_bytes > DBOS_FRAME_PAYLOAD_MAX || wire->pieces > DBOS_FRAME_PIECES_MAX) {
        return dbos_fail(info, DBOS_ERR_LIMIT, "frame of %u bytes in %u pieces is over the limit",
                         wire->payload_bytes, wire->pieces);
    }
    if (wire->piece >= wire->pieces) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "piece %u of %u", wire->piece, wire->pieces);
    }
    if (wire->reserved != 0) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "reserved bytes of a frame are not zero");
    }
    return DBOS_OK;
}

enum dbos_err dbos_frame_decode(const uint8_t header[DBOS_FRAME_BYTES], struct dbos_frame *out,
                                struct dbos_errinfo *info) {
    struct dbos_frame_wire wire;
    memcpy(&wire, header, sizeof wire);
    *out = (struct dbos_frame){0};
    enum dbos_err err = wire_check(&wire, info);
    if (err != DBOS_OK) {
        return err;
    }
    *out = (struct dbos_frame){
        .kind = (enum dbos_frame_kind)wire.kind,
        .task_id = wire.task_id,
        .attempt = wire.attempt,
        .flags = wire.flags,
        .piece = wire.piece,
        .pieces = wire.pieces,
        .model_id = wire.model_id,
        .model_version = wire.model_version,
        .count = wire.count,
        .dtype = wire.dtype,
        .layout = wire.layout,
        .deadline_us = dbos_load_u64(wire.deadline_us),
        .payload_bytes = wire.payload_bytes,
    };
    return DBOS_OK;
}

enum dbos_err dbos_frame_verify(const uint8_t header[DBOS_FRAME_BYTES], const void *payload,
                                size_t payload_bytes, struct dbos_errinfo *info) {
    uint32_t crc = dbos_crc32c(header_crc(header), payload, payload_bytes);
    uint32_t said = dbos_load_u32(header + CRC_OFFSET);
    if (crc != said) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "frame checksum %08x, computed %08x", said, crc);
    }
    return DBOS_OK;
}

/* --- Heads of payloads ------------------------------------------------------------------------ */

static enum dbos_err get_times(struct dbos_reader *reader, struct dbos_frame_times *times,
                               struct dbos_errinfo *info) {
    struct dbos_frame_times read;
    const uint8_t *bytes = dbos_get(reader, sizeof read);
    if (bytes == NULL) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "a reply is shorter than its time split");
    }
    memcpy(&read, bytes, sizeof read);
    if (read.version != 1) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "time split version %u, not 1", read.version);
    }
    if (times != NULL) {
        *times = read;
    }
    return DBOS_OK;
}

enum dbos_err dbos_frame_get_error(const void *payload, size_t payload_bytes,
                                   struct dbos_frame_times *times, enum dbos_frame_error_code *code,
                                   struct dbos_bytes *text, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, payload_bytes);
    *code = DBOS_FRAME_ERR_PROTOCOL;
    *text = (struct dbos_bytes){NULL, 0};
    enum dbos_err err = get_times(&reader, times, info);
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t said = dbos_get_u32(&reader);
    uint32_t text_bytes = dbos_get_u32(&reader);
    const uint8_t *data = dbos_get(&reader, text_bytes);
    if (reader.failed || said < DBOS_FRAME_ERR_MODEL_NOT_LOADED || said > DBOS_FRAME_ERR_VERSION) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed error frame");
    }
    *code = (enum dbos_frame_error_code)said;
    *text = (struct dbos_bytes){data, text_bytes};
    return DBOS_OK;
}

enum dbos_err dbos_frame_get_infer_result(const void *payload, size_t payload_bytes, uint32_t count,
                                          struct dbos_frame_times *times, const uint8_t **labels,
                                          const uint8_t **probabilities,
                                          struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, payload_bytes);
    *labels = NULL;
    *probabilities = NULL;
    enum dbos_err err = get_times(&reader, times, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (dbos_reader_left(&reader) != (uint64_t)count * (1 + sizeof(float))) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "a result of %zu bytes does not hold %u answers",
                         payload_bytes, count);
    }
    *labels = dbos_get(&reader, count);
    *probabilities = dbos_get(&reader, count * sizeof(float));
    return DBOS_OK;
}

enum dbos_err dbos_frame_get_train_result(const void *payload, size_t payload_bytes,
                                          struct dbos_frame_times *times,
                                          struct dbos_train_report *report,
                                          struct dbos_bytes *model, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, payload_bytes);
    *model = (struct dbos_bytes){NULL, 0};
    enum dbos_err err = get_times(&reader, times, info);
    if (err != DBOS_OK) {
        return err;
    }
    const uint8_t *bytes = dbos_get(&reader, sizeof *report);
    if (bytes == NULL) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "a train result is shorter than its report");
    }
    memcpy(report, bytes, sizeof *report);
    if (report->version != 1 || report->model_bytes != dbos_reader_left(&reader)) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "malformed train report");
    }
    *model = (struct dbos_bytes){dbos_get(&reader, report->model_bytes), report->model_bytes};
    return DBOS_OK;
}

enum dbos_err dbos_frame_get_hello(const void *payload, size_t payload_bytes,
                                   struct dbos_frame_hello *out, struct dbos_errinfo *info) {
    struct dbos_reader reader = dbos_reader_of(payload, payload_bytes);
    const uint8_t *bytes = dbos_get(&reader, sizeof *out);
    memset(out, 0, sizeof *out);
    if (bytes == NULL) {
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "a hello of %zu bytes", payload_bytes);
    }
    memcpy(out, bytes, sizeof *out);
    if (memchr(out->name, 0, sizeof out->name) == NULL ||
        memchr(out->backend, 0, sizeof out->backend) == NULL) {
        memset(out, 0, sizeof *out);
        return dbos_fail(info, DBOS_ERR_PROTOCOL, "a name in a hello does not end");
    }
    if (out->version != 1 || out->frame_version_min > DBOS_FRAME_VERSION ||
        out->frame_version_max < DBOS_FRAME_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "peer speaks frame versions %u to %u, this program %u",
                         out->frame_version_min, out->frame_version_max, DBOS_FRAME_VERSION);
    }
    return DBOS_OK;
}

bool dbos_frame_same_task(const struct dbos_frame *a, const struct dbos_frame *b) {
    return a->source == b->source && a->kind == b->kind && a->task_id == b->task_id &&
           a->attempt == b->attempt && a->model_id == b->model_id &&
           a->model_version == b->model_version;
}
