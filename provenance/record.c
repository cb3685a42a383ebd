#include "provenance/record.h"

#include "base/hash.h"
#include "provenance/record_format.h"

static void head_from_frame(const struct dbos_record_frame *frame, struct dbos_record_head *head) {
    *head = (struct dbos_record_head){
        .position = frame->position,
        .commit_us = frame->commit_us,
        .start_us = frame->start_us,
        .partition = frame->partition,
        .partitions = frame->partitions,
        .flags = frame->flags,
        .outcome = frame->outcome,
        .seed = frame->seed,
        .argument_count = frame->argument_count,
        .hash_delta = frame->hash_delta,
    };
}

/* A varint of a 32-bit field; anything larger is malformed. */
static uint32_t get_varint32(struct dbos_reader *reader) {
    uint64_t value = dbos_get_varint(reader);
    if (value > UINT32_MAX) {
        reader->failed = true;
        return 0;
    }
    return (uint32_t)value;
}

static uint16_t get_varint16(struct dbos_reader *reader) {
    uint32_t value = get_varint32(reader);
    if (value > UINT16_MAX) {
        reader->failed = true;
        return 0;
    }
    return (uint16_t)value;
}

enum dbos_err dbos_record_open(const void *record, size_t size_bytes, struct dbos_record_head *head,
                               struct dbos_record_decoder *decoder, struct dbos_errinfo *info) {
    struct dbos_record_frame frame;
    const uint8_t *bytes = record;
    *head = (struct dbos_record_head){0};
    *decoder = (struct dbos_record_decoder){.failed = true};
    if (size_bytes < sizeof frame) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record of %zu bytes is too short", size_bytes);
    }
    memcpy(&frame, bytes, sizeof frame);
    if (frame.size_bytes != size_bytes) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record says %u bytes and has %zu",
                         frame.size_bytes, size_bytes);
    }
    uint32_t crc = dbos_crc32c(0, bytes + DBOS_RECORD_CRC_FROM, size_bytes - DBOS_RECORD_CRC_FROM);
    if (crc != frame.crc) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "checksum of a record does not match");
    }
    if (frame.version != DBOS_RECORD_VERSION) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "record has format version %u, this program knows %d", frame.version,
                         DBOS_RECORD_VERSION);
    }
    head_from_frame(&frame, head);
    struct dbos_reader reader = dbos_reader_of(bytes + sizeof frame, size_bytes - sizeof frame);
    head->session = dbos_get_varint(&reader);
    head->request = dbos_get_varint(&reader);
    head->procedure = get_varint32(&reader);
    head->procedure_version = get_varint32(&reader);
    head->task_id = dbos_get_varint(&reader);
    head->arguments = dbos_get_sized(&reader);
    if (reader.failed || frame.reserved != 0) {
        *head = (struct dbos_record_head){0};
        return dbos_fail(info, DBOS_ERR_CORRUPT, "head of a record is malformed");
    }
    *decoder = (struct dbos_record_decoder){.reader = reader, .position = frame.position};
    return DBOS_OK;
}

static void next_read(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    event->table_id =
        (op & DBOS_EVENT_SAME_TABLE) != 0 ? decoder->last_table : get_varint32(reader);
    event->block = decoder->last_block + (uint64_t)dbos_get_zigzag(reader);
    event->count = (op & DBOS_EVENT_ONE_BLOCK) != 0 ? 1 : dbos_get_varint(reader);
    /* A run must not pass the end of the block ids. */
    if (event->count == 0 || event->count - 1 > (UINT64_MAX - event->block) / DBOS_BLOCK_STEP) {
        reader->failed = true;
        return;
    }
    decoder->last_table = event->table_id;
    decoder->last_block = event->block + (event->count - 1) * DBOS_BLOCK_STEP;
}

static void next_write(struct dbos_record_decoder *decoder, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    event->table_id = get_varint32(reader);
    event->block = dbos_get_varint(reader);
    event->count = 1;
    if (event->op != DBOS_EVENT_INSERT) {
        uint64_t previous = dbos_get_varint(reader);
        /* 0: the version that ends was written by this same transaction. */
        event->previous_position = previous == 0 ? decoder->position : previous;
        event->before = dbos_get_sized(reader);
    }
    if (event->op != DBOS_EVENT_DELETE) {
        event->after = dbos_get_sized(reader);
    }
}

static void next_search(struct dbos_reader *reader, struct dbos_event *event) {
    event->table_id = get_varint32(reader);
    if (event->op == DBOS_EVENT_SCAN) {
        event->partition = get_varint16(reader);
        event->count = dbos_get_varint(reader);
        return;
    }
    event->index_id = get_varint32(reader);
    if (event->op == DBOS_EVENT_RANGE) {
        event->bound_flags = dbos_get_u8(reader);
        reader->failed |= event->bound_flags > 3;
    }
    event->low = dbos_get_sized(reader);
    if (event->op == DBOS_EVENT_RANGE) {
        event->high = dbos_get_sized(reader);
        event->count = dbos_get_varint(reader);
    }
}

static void next_definition(struct dbos_reader *reader, struct dbos_event *event) {
    if (event->op == DBOS_EVENT_TEXT) {
        event->statement_id = dbos_get_u64(reader);
        event->text = dbos_get_sized(reader);
        return;
    }
    event->session = dbos_get_varint(reader);
    event->user = dbos_get_sized(reader);
    event->role = dbos_get_sized(reader);
    event->address = dbos_get_sized(reader);
    event->application = dbos_get_sized(reader);
}

static void next_body(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    switch (event->op) {
    case DBOS_EVENT_READ:
        next_read(decoder, op, event);
        break;
    case DBOS_EVENT_INSERT:
    case DBOS_EVENT_UPDATE:
    case DBOS_EVENT_DELETE:
        next_write(decoder, event);
        break;
    case DBOS_EVENT_RANGE:
    case DBOS_EVENT_ABSENT:
    case DBOS_EVENT_SCAN:
        next_search(reader, event);
        break;
    case DBOS_EVENT_EGRESS:
        event->count = dbos_get_varint(reader);
        event->bytes = dbos_get_varint(reader);
        event->digest = dbos_get_u64(reader);
        break;
    case DBOS_EVENT_STATEMENT:
        event->statement_id = dbos_get_u64(reader);
        break;
    case DBOS_EVENT_SESSION:
    case DBOS_EVENT_TEXT:
        next_definition(reader, event);
        break;
    default:
        reader->failed = true;
        break;
    }
}

bool dbos_record_next(struct dbos_record_decoder *decoder, struct dbos_event *event) {
    *event = (struct dbos_event){0};
    if (decoder->failed || dbos_reader_left(&decoder->reader) == 0) {
        return false;
    }
    uint8_t op = dbos_get_u8(&decoder->reader);
    event->op = (uint8_t)(op & DBOS_EVENT_OP_MASK);
    /* The upper bits belong to READ alone. */
    if ((event->op != DBOS_EVENT_READ && op != event->op) || (op & 0x80) != 0) {
        decoder->failed = true;
        return false;
    }
    if (event->op == DBOS_EVENT_STATEMENT && decoder->statement < UINT16_MAX) {
        decoder->statement++;
    }
    event->statement = decoder->statement;
    next_body(decoder, op, event);
    if (decoder->reader.failed) {
        decoder->failed = true;
        *event = (struct dbos_event){0};
        return false;
    }
    return true;
}

uint64_t dbos_record_peek(const void *record, size_t size_bytes, int64_t *out_commit_us) {
    struct dbos_record_frame frame;
    *out_commit_us = 0;
    if (size_bytes < sizeof frame) {
        return 0;
    }
    memcpy(&frame, record, sizeof frame);
    *out_commit_us = frame.commit_us;
    return frame.position;
}
