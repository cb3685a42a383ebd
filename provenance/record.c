#include "provenance/record.h"

#include "base/hash.h"
#include "provenance/record_format.h"

/* --- scratch --------------------------------------------------------------------------------- */

void dbos_record_scratch_init(struct dbos_record_scratch *scratch, struct dbos_alloc *alloc) {
    scratch->alloc = alloc;
    scratch->arguments.count = 0;
    for (unsigned i = 0; i < DBOS_SCRATCH_SLOTS; i++) {
        scratch->slots[i].large = NULL;
        scratch->slots[i].large_bytes = 0;
    }
}

void dbos_record_scratch_fini(struct dbos_record_scratch *scratch) {
    for (unsigned i = 0; i < DBOS_SCRATCH_SLOTS; i++) {
        dbos_give(scratch->alloc, scratch->slots[i].large);
        scratch->slots[i].large = NULL;
    }
}

static uint8_t *take_scratch(struct dbos_record_decoder *decoder, enum dbos_scratch_slot slot,
                             size_t size_bytes) {
    struct dbos_record_scratch *scratch = decoder->scratch;
    if (size_bytes <= DBOS_SCRATCH_SMALL_BYTES) {
        return scratch->slots[slot].small;
    }
    if (size_bytes > scratch->slots[slot].large_bytes) {
        uint8_t *block = dbos_retake(scratch->alloc, scratch->slots[slot].large, size_bytes);
        if (block == NULL) {
            decoder->out_of_memory = true;
            decoder->reader.failed = true;
            return NULL;
        }
        scratch->slots[slot].large = block;
        scratch->slots[slot].large_bytes = size_bytes;
    }
    return scratch->slots[slot].large;
}

/* --- the head -------------------------------------------------------------------------------- */

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

static enum dbos_err malformed_head(struct dbos_record_head *head, struct dbos_errinfo *info) {
    *head = (struct dbos_record_head){0};
    return dbos_fail(info, DBOS_ERR_CORRUPT, "head of a record is malformed");
}

static void head_from_frame(const struct dbos_record_frame_v1 *frame,
                            struct dbos_record_head *head) {
    *head = (struct dbos_record_head){
        .position = frame->position,
        .commit_us = frame->commit_us,
        .start_us = frame->start_us,
        .partition = frame->partition,
        .partitions = frame->partitions,
        .flags = frame->flags,
        .outcome = frame->outcome,
        .seed = frame->seed,
        .has_seed = true,
        .argument_count = frame->argument_count,
        .hash_delta = frame->hash_delta,
        .has_hash_delta = true,
    };
}

static enum dbos_err open_v1(const uint8_t *bytes, size_t size_bytes, struct dbos_record_head *head,
                             struct dbos_record_decoder *decoder, struct dbos_errinfo *info) {
    struct dbos_record_frame_v1 frame;
    if (size_bytes < sizeof frame) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record of %zu bytes is too short", size_bytes);
    }
    memcpy(&frame, bytes, sizeof frame);
    uint32_t crc =
        dbos_crc32c(0, bytes + DBOS_RECORD_V1_CRC_FROM, size_bytes - DBOS_RECORD_V1_CRC_FROM);
    if (crc != frame.crc) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "checksum of a record does not match");
    }
    if (frame.version != 1) {
        return dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                         "record has format version %u, this program knows 1 to %d", frame.version,
                         DBOS_RECORD_VERSION);
    }
    head_from_frame(&frame, head);
    struct dbos_reader *reader = &decoder->reader;
    *reader = dbos_reader_of(bytes + sizeof frame, size_bytes - sizeof frame);
    head->session = dbos_get_varint(reader);
    head->request = dbos_get_varint(reader);
    head->procedure = get_varint32(reader);
    head->procedure_version = get_varint32(reader);
    head->task_id = dbos_get_varint(reader);
    head->arguments = dbos_get_sized(reader);
    return reader->failed || frame.reserved != 0 ? malformed_head(head, info) : DBOS_OK;
}

/* Numbers from outside: sums and differences go round at 2^64. */
static int64_t get_commit_us(struct dbos_reader *reader) {
    return (int64_t)((uint64_t)DBOS_RECORD_EPOCH_US + (uint64_t)dbos_get_zigzag(reader));
}

static void get_partition(struct dbos_reader *reader, struct dbos_record_head *head) {
    uint8_t both = dbos_get_u8(reader);
    if (both == 0) {
        head->partition = get_varint16(reader);
        head->partitions = get_varint16(reader);
        return;
    }
    uint8_t low = both & DBOS_HEAD_NIBBLE_MAX;
    head->partition = low == DBOS_HEAD_NIBBLE_MAX ? DBOS_PARTITION_ALL : low;
    head->partitions = both >> 4;
    reader->failed |= head->partitions == 0;
}

static void get_head(struct dbos_reader *reader, struct dbos_record_head *head) {
    uint32_t flags = get_varint32(reader);
    reader->failed |= flags >> DBOS_HEAD_FLAG_BITS > UINT16_MAX;
    head->flags = (uint16_t)(flags >> DBOS_HEAD_FLAG_BITS);
    head->position = dbos_get_varint(reader);
    head->commit_us = get_commit_us(reader);
    head->start_us = (int64_t)((uint64_t)head->commit_us - (uint64_t)dbos_get_zigzag(reader));
    get_partition(reader, head);
    if ((flags & DBOS_HEAD_SESSION_STAMP) != 0) {
        head->session = (uint64_t)head->commit_us - (uint64_t)dbos_get_zigzag(reader);
    } else {
        head->session = dbos_get_varint(reader);
    }
    head->request = dbos_get_varint(reader);
    head->procedure = get_varint32(reader);
    head->procedure_version = get_varint32(reader);
    head->has_seed = (flags & DBOS_HEAD_SEED) != 0;
    head->seed = head->has_seed ? dbos_get_u64(reader) : 0;
    head->outcome = (flags & DBOS_HEAD_OUTCOME) != 0 ? get_varint16(reader) : 0;
    head->task_id = (flags & DBOS_HEAD_TASK) != 0 ? dbos_get_varint(reader) : 0;
    head->argument_count = get_varint32(reader);
}

static enum dbos_err open_v2(const uint8_t *bytes, size_t size_bytes, struct dbos_record_head *head,
                             struct dbos_record_decoder *decoder, struct dbos_errinfo *info) {
    struct dbos_reader *reader = &decoder->reader;
    *reader = dbos_reader_of(bytes + DBOS_RECORD_FRAME_BYTES, size_bytes - DBOS_RECORD_FRAME_BYTES);
    get_head(reader, head);
    struct dbos_reader ahead = *reader;
    size_t arguments_bytes = dbos_image_arguments_bytes(&ahead, head->argument_count);
    if (ahead.failed) {
        return malformed_head(head, info);
    }
    uint8_t *arguments = take_scratch(decoder, DBOS_SCRATCH_ARGUMENTS, arguments_bytes);
    if (arguments == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the arguments of a record");
    }
    dbos_image_get_arguments(reader, head->argument_count, arguments, &decoder->scratch->arguments);
    head->arguments = (struct dbos_bytes){.data = arguments, .size_bytes = arguments_bytes};
    decoder->arguments = &decoder->scratch->arguments;
    return DBOS_OK;
}

static enum dbos_err check_frame(const uint8_t *bytes, size_t size_bytes, uint32_t *out_version,
                                 struct dbos_errinfo *info) {
    if (size_bytes < DBOS_RECORD_FRAME_BYTES) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record of %zu bytes is too short", size_bytes);
    }
    uint32_t word = dbos_load_u32(bytes);
    if ((word & DBOS_RECORD_SIZE_MASK) != size_bytes) {
        return dbos_fail(info, DBOS_ERR_CORRUPT, "record says %u bytes and has %zu",
                         word & DBOS_RECORD_SIZE_MASK, size_bytes);
    }
    *out_version = word >> DBOS_RECORD_SIZE_BITS;
    return DBOS_OK;
}

enum dbos_err dbos_record_open(const void *record, size_t size_bytes,
                               struct dbos_record_scratch *scratch, struct dbos_record_head *head,
                               struct dbos_record_decoder *decoder, struct dbos_errinfo *info) {
    const uint8_t *bytes = record;
    *head = (struct dbos_record_head){0};
    *decoder = (struct dbos_record_decoder){.scratch = scratch};
    uint32_t version = 0;
    enum dbos_err err = check_frame(bytes, size_bytes, &version, info);
    if (err != DBOS_OK) {
        decoder->failed = true;
        return err;
    }
    if (version == 0) {
        err = open_v1(bytes, size_bytes, head, decoder, info);
    } else if (version == DBOS_RECORD_VERSION) {
        err = open_v2(bytes, size_bytes, head, decoder, info);
    } else {
        err = dbos_fail(info, DBOS_ERR_FORMAT_VERSION,
                        "record has format version %u, this program knows 1 to %d", version,
                        DBOS_RECORD_VERSION);
    }
    decoder->failed = err != DBOS_OK;
    decoder->version = version == 0 ? 1 : DBOS_RECORD_VERSION;
    decoder->position = head->position;
    decoder->procedure = head->procedure;
    decoder->procedure_version = head->procedure_version;
    return err;
}

uint64_t dbos_record_statement_id(uint32_t procedure, uint32_t version, uint32_t ordinal) {
    return dbos_mix64(((uint64_t)procedure << 32 | version) ^ dbos_mix64(ordinal + UINT64_C(1)));
}

/* --- events ---------------------------------------------------------------------------------- */

/* An image of version 2 into the decoder's memory. */
static struct dbos_bytes get_image(struct dbos_record_decoder *decoder, enum dbos_scratch_slot slot,
                                   struct dbos_bytes base) {
    struct dbos_bytes image = {.data = NULL};
    size_t size_bytes = 0;
    if (!dbos_image_size(&decoder->reader, base, &size_bytes)) {
        return image;
    }
    uint8_t *to = decoder->scratch == NULL ? NULL : take_scratch(decoder, slot, size_bytes);
    dbos_image_get(&decoder->reader, decoder->arguments, base, to, size_bytes);
    image = (struct dbos_bytes){.data = to, .size_bytes = size_bytes};
    return image;
}

static struct dbos_bytes get_bytes(struct dbos_record_decoder *decoder, enum dbos_scratch_slot slot,
                                   struct dbos_bytes base) {
    return decoder->version == 1 ? dbos_get_sized(&decoder->reader)
                                 : get_image(decoder, slot, base);
}

/* The table of the READ before; in version 2 of the RANGE, ABSENT or SCAN, too. */
static uint32_t get_table(struct dbos_record_decoder *decoder, uint8_t op) {
    uint32_t table_id =
        (op & DBOS_EVENT_SAME_TABLE) != 0 ? decoder->last_table : get_varint32(&decoder->reader);
    decoder->last_table = table_id;
    return table_id;
}

static void next_read(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    event->table_id = get_table(decoder, op);
    event->block = decoder->last_block + (uint64_t)dbos_get_zigzag(reader);
    event->count = (op & DBOS_EVENT_ONE_BLOCK) != 0 ? 1 : dbos_get_varint(reader);
    /* A run must not pass the end of the block ids. */
    if (event->count == 0 || event->count - 1 > (UINT64_MAX - event->block) / DBOS_BLOCK_STEP) {
        reader->failed = true;
        return;
    }
    decoder->last_block = event->block + (event->count - 1) * DBOS_BLOCK_STEP;
    decoder->near_table = event->table_id;
    decoder->near_block = decoder->last_block;
}

/* Where a write is. Writes are near each other and near what was read, but the reads do not depend
 * on them: an aborted record has none. */
static void next_place(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    if (decoder->version == 1) {
        event->table_id = get_varint32(reader);
        event->block = dbos_get_varint(reader);
        return;
    }
    event->table_id =
        (op & DBOS_EVENT_SAME_TABLE) != 0 ? decoder->near_table : get_varint32(reader);
    uint64_t difference = (uint64_t)dbos_get_zigzag(reader);
    uint64_t step = (op & DBOS_EVENT_SAME_SLOT) != 0 ? DBOS_BLOCK_STEP : 1;
    event->block = decoder->near_block + difference * step;
    decoder->near_table = event->table_id;
    decoder->near_block = event->block;
}

static void next_write(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    next_place(decoder, op, event);
    event->count = 1;
    if (event->op != DBOS_EVENT_INSERT) {
        uint64_t previous = dbos_get_varint(reader);
        /* 0: the version that ends was written by this same transaction. */
        event->previous_position = previous == 0 ? decoder->position : previous;
        event->before = get_bytes(decoder, DBOS_SCRATCH_FIRST, event->before);
    }
    if (event->op != DBOS_EVENT_DELETE) {
        event->after = get_bytes(decoder, DBOS_SCRATCH_SECOND, event->before);
    }
}

static void next_search(struct dbos_record_decoder *decoder, uint8_t op, struct dbos_event *event) {
    struct dbos_reader *reader = &decoder->reader;
    const struct dbos_bytes none = {.data = NULL};
    event->table_id = decoder->version == 1 ? get_varint32(reader) : get_table(decoder, op);
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
    event->low = get_bytes(decoder, DBOS_SCRATCH_FIRST, none);
    if (event->op == DBOS_EVENT_RANGE) {
        event->high = get_bytes(decoder, DBOS_SCRATCH_SECOND, none);
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
        next_write(decoder, op, event);
        break;
    case DBOS_EVENT_RANGE:
    case DBOS_EVENT_ABSENT:
    case DBOS_EVENT_SCAN:
        next_search(decoder, op, event);
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

/* The upper bits that this operation may have. */
static uint8_t bits_allowed(uint8_t version, uint8_t op) {
    if (op == DBOS_EVENT_READ) {
        return DBOS_EVENT_SAME_TABLE | DBOS_EVENT_ONE_BLOCK;
    }
    if (version == 1) {
        return 0;
    }
    if (op <= DBOS_EVENT_UPDATE) {
        return DBOS_EVENT_SAME_TABLE | DBOS_EVENT_SAME_SLOT;
    }
    return op >= DBOS_EVENT_RANGE && op <= DBOS_EVENT_SCAN ? DBOS_EVENT_SAME_TABLE : 0;
}

/* A statement of the record's procedure; a READ may hang on it. */
static void next_ordinal(struct dbos_record_decoder *decoder, uint8_t op,
                         struct dbos_event *event) {
    uint32_t ordinal = op & DBOS_EVENT_ORDINAL_FOLLOWS;
    if (op >= DBOS_EVENT_ORDINAL_READ) {
        ordinal = op & DBOS_EVENT_ORDINAL_READ_MAX;
        decoder->next_op =
            (uint8_t)(DBOS_EVENT_READ | DBOS_EVENT_ONE_BLOCK | (op & DBOS_EVENT_SAME_TABLE));
    } else if (ordinal == DBOS_EVENT_ORDINAL_FOLLOWS) {
        ordinal = get_varint32(&decoder->reader);
    }
    event->op = DBOS_EVENT_STATEMENT;
    event->statement_id =
        dbos_record_statement_id(decoder->procedure, decoder->procedure_version, ordinal);
}

static void next_event(struct dbos_record_decoder *decoder, struct dbos_event *event) {
    uint8_t op = decoder->next_op;
    if (op == 0) {
        op = dbos_get_u8(&decoder->reader);
    }
    decoder->next_op = 0;
    if ((op & DBOS_EVENT_ORDINAL) != 0 && decoder->version != 1) {
        next_ordinal(decoder, op, event);
    } else {
        event->op = (uint8_t)(op & DBOS_EVENT_OP_MASK);
        uint8_t bits = (uint8_t)(op & ~DBOS_EVENT_OP_MASK);
        decoder->reader.failed |= (bits & ~bits_allowed(decoder->version, event->op)) != 0;
    }
    if (event->op == DBOS_EVENT_STATEMENT && decoder->statement < UINT16_MAX) {
        decoder->statement++;
    }
    event->statement = decoder->statement;
    if ((op & DBOS_EVENT_ORDINAL) == 0) {
        next_body(decoder, op, event);
    }
}

bool dbos_record_next(struct dbos_record_decoder *decoder, struct dbos_event *event) {
    *event = (struct dbos_event){0};
    if (decoder->failed || (dbos_reader_left(&decoder->reader) == 0 && decoder->next_op == 0)) {
        return false;
    }
    next_event(decoder, event);
    if (decoder->reader.failed) {
        decoder->failed = true;
        *event = (struct dbos_event){0};
        return false;
    }
    return true;
}

enum dbos_err dbos_record_end(const struct dbos_record_decoder *decoder,
                              struct dbos_errinfo *info) {
    if (!decoder->failed) {
        return DBOS_OK;
    }
    return decoder->out_of_memory
               ? dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for record %llu",
                           (unsigned long long)decoder->position)
               : dbos_fail(info, DBOS_ERR_CORRUPT, "record %llu has a malformed event",
                           (unsigned long long)decoder->position);
}

/* --- frames ---------------------------------------------------------------------------------- */

uint64_t dbos_record_peek(const void *record, size_t size_bytes, int64_t *out_commit_us) {
    *out_commit_us = 0;
    if (size_bytes < DBOS_RECORD_FRAME_BYTES) {
        return 0;
    }
    uint32_t version = dbos_load_u32(record) >> DBOS_RECORD_SIZE_BITS;
    if (version == 0 && size_bytes >= sizeof(struct dbos_record_frame_v1)) {
        struct dbos_record_frame_v1 frame;
        memcpy(&frame, record, sizeof frame);
        *out_commit_us = frame.commit_us;
        return frame.position;
    }
    if (version != DBOS_RECORD_VERSION) {
        return 0;
    }
    struct dbos_reader reader = dbos_reader_of((const uint8_t *)record + DBOS_RECORD_FRAME_BYTES,
                                               size_bytes - DBOS_RECORD_FRAME_BYTES);
    (void)dbos_get_varint(&reader);
    uint64_t position = dbos_get_varint(&reader);
    *out_commit_us = get_commit_us(&reader);
    return reader.failed ? 0 : position;
}

void dbos_record_peek_route(const void *record, size_t size_bytes, struct dbos_record_route *out) {
    int64_t commit_us = 0;
    *out = (struct dbos_record_route){.position = dbos_record_peek(record, size_bytes, &commit_us)};
    if (out->position == 0 ||
        dbos_load_u32(record) >> DBOS_RECORD_SIZE_BITS != DBOS_RECORD_VERSION) {
        return;
    }
    struct dbos_reader reader = dbos_reader_of((const uint8_t *)record + DBOS_RECORD_FRAME_BYTES,
                                               size_bytes - DBOS_RECORD_FRAME_BYTES);
    struct dbos_record_head head = {0};
    uint32_t flags = get_varint32(&reader);
    (void)dbos_get_varint(&reader); /* position */
    (void)dbos_get_zigzag(&reader); /* commit time */
    (void)dbos_get_zigzag(&reader); /* start time */
    get_partition(&reader, &head);
    out->is_known = !reader.failed && flags >> DBOS_HEAD_FLAG_BITS <= UINT16_MAX;
    out->flags = (uint16_t)(flags >> DBOS_HEAD_FLAG_BITS);
    out->partition = head.partition;
    out->partitions = head.partitions;
}

size_t dbos_record_frame_bytes(const uint8_t *record, size_t left_bytes) {
    if (left_bytes < DBOS_RECORD_FRAME_BYTES) {
        return 0;
    }
    uint32_t word = dbos_load_u32(record);
    size_t size_bytes = word & DBOS_RECORD_SIZE_MASK;
    size_t least = word >> DBOS_RECORD_SIZE_BITS == 0 ? sizeof(struct dbos_record_frame_v1)
                                                      : DBOS_RECORD_FRAME_BYTES;
    return size_bytes < least || size_bytes > left_bytes ? 0 : size_bytes;
}
