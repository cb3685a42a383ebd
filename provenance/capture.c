#include "provenance/capture.h"

#include "base/hash.h"
#include "provenance/record_format.h"

enum {
    /* Direct-mapped caches. A definition that falls out of its cache is written once more later:
     * more bytes, never a wrong record. */
    KNOWN_SESSIONS = 1024,
    KNOWN_TEXTS = 4096,
    RECENT_READS = 256,
    /* The most that parts of an event take, its operation included. */
    NUMBER_BYTES = 10,
    EVENT_BYTES = 1 + 4 * NUMBER_BYTES,
};

struct recent_read {
    uint64_t block;
    uint32_t table_id;
    uint32_t stamp; /* of the statement that read it */
};

struct dbos_capture {
    struct dbos_alloc *alloc;
    struct dbos_buf events;
    struct dbos_buf definitions; /* TEXT events of this transaction */
    struct dbos_buf pending;     /* u64 ids of the texts in `definitions` */
    bool has_reads;
    bool has_writes;
    bool has_ordinals;
    bool has_images;                       /* events that may refer to arguments */
    struct dbos_image_arguments arguments; /* what they may refer to */
    /* A statement of the procedure that is not written yet: its first READ goes with it. */
    bool statement_waits;
    uint32_t ordinal;
    /* The run of reads that is growing; count 0 = none. */
    uint64_t run_block;
    uint64_t run_count;
    uint32_t run_table;
    uint32_t last_table; /* as the decoder keeps them */
    uint64_t last_block;
    uint32_t near_table;
    uint64_t near_block;
    uint32_t stamp;
    struct recent_read recent[RECENT_READS];
    uint64_t known_sessions[KNOWN_SESSIONS];
    uint64_t known_texts[KNOWN_TEXTS];
};

enum dbos_err dbos_capture_open(struct dbos_alloc *alloc, struct dbos_capture **out) {
    struct dbos_capture *capture = dbos_take_zero(alloc, sizeof *capture);
    *out = capture;
    if (capture == NULL) {
        return DBOS_ERR_NOMEM;
    }
    capture->alloc = alloc;
    dbos_buf_init(&capture->events, alloc);
    dbos_buf_init(&capture->definitions, alloc);
    dbos_buf_init(&capture->pending, alloc);
    dbos_capture_begin(capture);
    return DBOS_OK;
}

void dbos_capture_close(struct dbos_capture *capture) {
    if (capture != NULL) {
        dbos_buf_fini(&capture->events);
        dbos_buf_fini(&capture->definitions);
        dbos_buf_fini(&capture->pending);
        dbos_give(capture->alloc, capture);
    }
}

/* Reads noted before this moment are no duplicates of later ones. */
static void new_stamp(struct dbos_capture *capture) {
    capture->stamp++;
    if (capture->stamp == 0) {
        memset(capture->recent, 0, sizeof capture->recent);
        capture->stamp = 1;
    }
}

void dbos_capture_begin(struct dbos_capture *capture) {
    dbos_buf_reset(&capture->events);
    dbos_buf_reset(&capture->definitions);
    dbos_buf_reset(&capture->pending);
    capture->has_reads = false;
    capture->has_writes = false;
    capture->has_ordinals = false;
    capture->has_images = false;
    capture->arguments.count = 0;
    capture->statement_waits = false;
    capture->run_count = 0;
    capture->last_table = 0;
    capture->last_block = 0;
    capture->near_table = 0;
    capture->near_block = 0;
    new_stamp(capture);
}

void dbos_capture_arguments(struct dbos_capture *capture, const struct dbos_datum *arguments,
                            uint32_t count) {
    DBOS_CHECK(!capture->has_images || capture->arguments.count == 0);
    capture->arguments.count = 0;
    for (uint32_t i = 0; i < count && i < DBOS_IMAGE_ARGUMENTS; i++) {
        dbos_image_note_argument(&capture->arguments, &arguments[i]);
    }
}

/* Events are written to a place that has room for all of them; NULL: out of memory. */
static uint8_t *begin_bytes(struct dbos_capture *capture, size_t bytes_max) {
    return dbos_buf_reserve(&capture->events, bytes_max);
}

static void end_bytes(struct dbos_capture *capture, const uint8_t *end) {
    capture->events.size_bytes = (size_t)(end - capture->events.data);
}

static uint8_t *put_ordinal(uint8_t *to, uint32_t ordinal) {
    if (ordinal <= DBOS_EVENT_ORDINAL_MAX) {
        *to++ = (uint8_t)(DBOS_EVENT_ORDINAL | ordinal);
        return to;
    }
    *to++ = DBOS_EVENT_ORDINAL | DBOS_EVENT_ORDINAL_FOLLOWS;
    return dbos_store_varint(to, ordinal);
}

/* Operation byte of the growing run; a waiting statement goes into it, or before it. */
static uint8_t *put_run_op(struct dbos_capture *capture, uint8_t *to, unsigned same_table) {
    bool one = capture->run_count == 1;
    if (capture->statement_waits) {
        capture->statement_waits = false;
        if (one && capture->ordinal <= DBOS_EVENT_ORDINAL_READ_MAX) {
            *to++ = (uint8_t)(DBOS_EVENT_ORDINAL_READ | same_table | capture->ordinal);
            return to;
        }
        to = put_ordinal(to, capture->ordinal);
    }
    *to++ = (uint8_t)(DBOS_EVENT_READ | same_table | (one ? DBOS_EVENT_ONE_BLOCK : 0u));
    return to;
}

/* Write the growing run as one READ event. */
static void write_run(struct dbos_capture *capture) {
    unsigned same_table = capture->run_table == capture->last_table ? DBOS_EVENT_SAME_TABLE : 0;
    uint8_t *to = begin_bytes(capture, 2 * EVENT_BYTES);
    if (to != NULL) {
        to = put_run_op(capture, to, same_table);
        if (same_table == 0) {
            to = dbos_store_varint(to, capture->run_table);
        }
        to = dbos_store_zigzag(to, (int64_t)(capture->run_block - capture->last_block));
        if (capture->run_count != 1) {
            to = dbos_store_varint(to, capture->run_count);
        }
        end_bytes(capture, to);
    }
    capture->last_table = capture->run_table;
    capture->last_block = capture->run_block + (capture->run_count - 1) * DBOS_BLOCK_STEP;
    capture->near_table = capture->last_table;
    capture->near_block = capture->last_block;
    capture->run_count = 0;
}

static void write_waiting(struct dbos_capture *capture) {
    if (capture->run_count != 0) {
        write_run(capture);
    }
    if (capture->statement_waits) {
        capture->statement_waits = false;
        uint8_t *to = begin_bytes(capture, EVENT_BYTES);
        if (to != NULL) {
            end_bytes(capture, put_ordinal(to, capture->ordinal));
        }
    }
}

/* What waits for what comes next: the growing run, a statement without a READ. */
static inline void flush_waiting(struct dbos_capture *capture) {
    if (capture->run_count != 0 || capture->statement_waits) {
        write_waiting(capture);
    }
}

/* Room for an event; what waits is written before it. */
static uint8_t *begin_event(struct dbos_capture *capture, size_t extra_bytes) {
    flush_waiting(capture);
    return begin_bytes(capture, EVENT_BYTES + extra_bytes);
}

/* Operation and table of a RANGE, ABSENT or SCAN. */
static uint8_t *put_search(struct dbos_capture *capture, uint8_t *to, enum dbos_event_op op,
                           uint32_t table_id) {
    bool same_table = table_id == capture->last_table;
    *to++ = (uint8_t)(op | (same_table ? DBOS_EVENT_SAME_TABLE : 0u));
    capture->last_table = table_id;
    return same_table ? to : dbos_store_varint(to, table_id);
}

static bool text_is_pending(const struct dbos_capture *capture, uint64_t id) {
    for (size_t at = 0; at < capture->pending.size_bytes; at += sizeof id) {
        if (dbos_load_u64(capture->pending.data + at) == id) {
            return true;
        }
    }
    return false;
}

static void add_text(struct dbos_capture *capture, uint64_t statement_id, const char *text) {
    if (text != NULL && !text_is_pending(capture, statement_id)) {
        dbos_buf_put_u8(&capture->definitions, DBOS_EVENT_TEXT);
        dbos_buf_put_u64(&capture->definitions, statement_id);
        dbos_buf_put_text(&capture->definitions, text);
        dbos_buf_put_u64(&capture->pending, statement_id);
    }
}

static inline void define_text(struct dbos_capture *capture, uint64_t statement_id,
                               const char *text) {
    new_stamp(capture);
    if (capture->known_texts[statement_id % KNOWN_TEXTS] != statement_id) {
        add_text(capture, statement_id, text);
    }
}

void dbos_capture_statement(struct dbos_capture *capture, uint64_t statement_id, const char *text) {
    uint8_t *to = begin_event(capture, 0);
    if (to != NULL) {
        *to++ = DBOS_EVENT_STATEMENT;
        dbos_store_u64(to, statement_id);
        end_bytes(capture, to + sizeof statement_id);
    }
    define_text(capture, statement_id, text);
}

void dbos_capture_ordinal(struct dbos_capture *capture, uint32_t ordinal, uint64_t statement_id,
                          const char *text) {
    flush_waiting(capture);
    capture->has_ordinals = true;
    capture->statement_waits = true;
    capture->ordinal = ordinal;
    define_text(capture, statement_id, text);
}

bool dbos_capture_has_ordinals(const struct dbos_capture *capture) { return capture->has_ordinals; }

void dbos_capture_read(struct dbos_capture *capture, uint32_t table_id, uint64_t block) {
    struct recent_read *recent = &capture->recent[dbos_mix64(block + table_id) % RECENT_READS];
    if (recent->stamp == capture->stamp && recent->block == block && recent->table_id == table_id) {
        return;
    }
    *recent = (struct recent_read){.block = block, .table_id = table_id, .stamp = capture->stamp};
    capture->has_reads = true;
    if (capture->run_count != 0 && capture->run_table == table_id &&
        block == capture->run_block + capture->run_count * DBOS_BLOCK_STEP) {
        capture->run_count++;
        return;
    }
    if (capture->run_count != 0) {
        write_run(capture);
    }
    capture->run_table = table_id;
    capture->run_block = block;
    capture->run_count = 1;
}

void dbos_capture_scan(struct dbos_capture *capture, uint32_t table_id, uint16_t partition,
                       uint64_t rows) {
    uint8_t *to = begin_event(capture, 0);
    if (to != NULL) {
        to = put_search(capture, to, DBOS_EVENT_SCAN, table_id);
        to = dbos_store_varint(to, partition);
        end_bytes(capture, dbos_store_varint(to, rows));
    }
    capture->has_reads = true;
}

void dbos_capture_range(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                        struct dbos_bytes low, struct dbos_bytes high, uint8_t bound_flags,
                        uint64_t rows) {
    DBOS_CHECK(bound_flags <= 3);
    uint8_t *to = begin_event(capture, dbos_image_bytes_max(low.size_bytes) +
                                           dbos_image_bytes_max(high.size_bytes));
    if (to != NULL) {
        to = put_search(capture, to, DBOS_EVENT_RANGE, table_id);
        to = dbos_store_varint(to, index_id);
        *to++ = bound_flags;
        to = dbos_image_put_key(to, &capture->arguments, low);
        to = dbos_image_put_key(to, &capture->arguments, high);
        end_bytes(capture, dbos_store_varint(to, rows));
    }
    capture->has_images = true;
    capture->has_reads = true;
}

void dbos_capture_absent(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                         struct dbos_bytes key) {
    uint8_t *to = begin_event(capture, dbos_image_bytes_max(key.size_bytes));
    if (to != NULL) {
        to = put_search(capture, to, DBOS_EVENT_ABSENT, table_id);
        to = dbos_store_varint(to, index_id);
        end_bytes(capture, dbos_image_put_key(to, &capture->arguments, key));
    }
    capture->has_images = true;
    capture->has_reads = true;
}

static struct dbos_bytes payload_of(const struct dbos_row *row) {
    return (struct dbos_bytes){.data = row->payload, .size_bytes = row->size_bytes};
}

/* Operation, table and block of a write, as a difference to what was read or written last. */
static uint8_t *put_place(struct dbos_capture *capture, uint8_t *to, enum dbos_event_op op,
                          uint32_t table_id, uint64_t block) {
    int64_t difference = (int64_t)(block - capture->near_block);
    bool same_table = table_id == capture->near_table;
    bool same_slot = difference % DBOS_BLOCK_STEP == 0;
    capture->near_table = table_id;
    capture->near_block = block;
    *to++ = (uint8_t)(op | (same_table ? DBOS_EVENT_SAME_TABLE : 0u) |
                      (same_slot ? DBOS_EVENT_SAME_SLOT : 0u));
    if (!same_table) {
        to = dbos_store_varint(to, table_id);
    }
    return dbos_store_zigzag(to, same_slot ? difference / DBOS_BLOCK_STEP : difference);
}

static uint8_t *put_image(struct dbos_capture *capture, uint8_t *to,
                          const struct dbos_table_def *def, const struct dbos_row *row,
                          struct dbos_bytes base) {
    return dbos_image_put_row(to, &capture->arguments, def, payload_of(row), base);
}

static const struct dbos_bytes no_base = {.data = NULL};

void dbos_capture_insert(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *row) {
    uint8_t *to = begin_event(capture, dbos_image_bytes_max(row->size_bytes));
    if (to != NULL) {
        to = put_place(capture, to, DBOS_EVENT_INSERT, def->id, row->block);
        end_bytes(capture, put_image(capture, to, def, row, no_base));
    }
    capture->has_images = true;
    capture->has_writes = true;
}

void dbos_capture_update(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *before, const struct dbos_row *after) {
    DBOS_CHECK(before->block == after->block);
    uint8_t *to = begin_event(capture, dbos_image_bytes_max(before->size_bytes) +
                                           dbos_image_bytes_max(after->size_bytes));
    if (to != NULL) {
        to = put_place(capture, to, DBOS_EVENT_UPDATE, def->id, before->block);
        to = dbos_store_varint(to, before->position);
        to = put_image(capture, to, def, before, no_base);
        end_bytes(capture, put_image(capture, to, def, after, payload_of(before)));
    }
    capture->has_images = true;
    capture->has_writes = true;
}

void dbos_capture_delete(struct dbos_capture *capture, const struct dbos_table_def *def,
                         const struct dbos_row *row) {
    uint8_t *to = begin_event(capture, dbos_image_bytes_max(row->size_bytes));
    if (to != NULL) {
        to = put_place(capture, to, DBOS_EVENT_DELETE, def->id, row->block);
        to = dbos_store_varint(to, row->position);
        end_bytes(capture, put_image(capture, to, def, row, no_base));
    }
    capture->has_images = true;
    capture->has_writes = true;
}

void dbos_capture_egress(struct dbos_capture *capture, uint64_t rows, uint64_t bytes,
                         uint64_t digest) {
    uint8_t *to = begin_event(capture, 0);
    if (to != NULL) {
        *to++ = DBOS_EVENT_EGRESS;
        to = dbos_store_varint(to, rows);
        to = dbos_store_varint(to, bytes);
        dbos_store_u64(to, digest);
        end_bytes(capture, to + sizeof digest);
    }
}

bool dbos_capture_has_reads(const struct dbos_capture *capture) { return capture->has_reads; }

bool dbos_capture_has_writes(const struct dbos_capture *capture) { return capture->has_writes; }

bool dbos_capture_failed(const struct dbos_capture *capture) {
    return capture->events.failed || capture->definitions.failed || capture->pending.failed;
}

size_t dbos_capture_bytes(const struct dbos_capture *capture) {
    return capture->events.size_bytes + capture->definitions.size_bytes;
}

enum dbos_err dbos_capture_reserve(struct dbos_capture *capture, size_t head_bytes) {
    (void)head_bytes; /* the record is written to the caller's memory; what waits is still ours */
    flush_waiting(capture);
    return dbos_capture_failed(capture) ? DBOS_ERR_NOMEM : DBOS_OK;
}

/* What a SESSION definition may take: four texts, each cut at this length. */
enum { SESSION_TEXT_BYTES = 1024, SESSION_BYTES_MAX = 1 + 10 + 4 * (SESSION_TEXT_BYTES + 2) };

static bool defines_session(const struct dbos_capture *capture, uint64_t id) {
    return id != 0 && capture->known_sessions[id % KNOWN_SESSIONS] != id;
}

size_t dbos_capture_record_bytes_max(const struct dbos_capture *capture,
                                     const struct dbos_record_head *head) {
    size_t session_bytes_max = defines_session(capture, head->session) ? SESSION_BYTES_MAX : 0;
    return DBOS_RECORD_HEAD_BYTES_MAX + head->arguments.size_bytes + session_bytes_max +
           capture->definitions.size_bytes + capture->events.size_bytes + 3 * EVENT_BYTES;
}

static void put_session_text(struct dbos_buf *to, const char *text) {
    size_t length = text == NULL ? 0 : strnlen(text, SESSION_TEXT_BYTES);
    dbos_buf_put_sized(to, text, length);
}

static void put_session(struct dbos_buf *to, const struct dbos_session_info *session) {
    dbos_buf_put_u8(to, DBOS_EVENT_SESSION);
    dbos_buf_put_varint(to, session->id);
    put_session_text(to, session->user);
    put_session_text(to, session->role);
    put_session_text(to, session->address);
    put_session_text(to, session->application);
}

/* Partition and number of partitions. */
static uint8_t *put_partition(uint8_t *to, const struct dbos_record_head *head) {
    bool all = head->partition == DBOS_PARTITION_ALL;
    if (head->partitions != 0 && head->partitions <= DBOS_HEAD_NIBBLE_MAX &&
        (all || head->partition < DBOS_HEAD_NIBBLE_MAX)) {
        *to++ = (uint8_t)((unsigned)head->partitions << 4 |
                          (all ? (unsigned)DBOS_HEAD_NIBBLE_MAX : (unsigned)head->partition));
        return to;
    }
    *to++ = 0;
    to = dbos_store_varint(to, head->partition);
    return dbos_store_varint(to, head->partitions);
}

static uint32_t head_flags(const struct dbos_record_head *head, int64_t session_age_us) {
    uint32_t flags = (uint32_t)head->flags << DBOS_HEAD_FLAG_BITS;
    uint64_t age = session_age_us < 0 ? 0 - (uint64_t)session_age_us : (uint64_t)session_age_us;
    flags |= age < head->session / 2 ? (unsigned)DBOS_HEAD_SESSION_STAMP : 0u;
    flags |= head->has_seed ? (unsigned)DBOS_HEAD_SEED : 0u;
    flags |= head->outcome != 0 ? (unsigned)DBOS_HEAD_OUTCOME : 0u;
    flags |= head->task_id != 0 ? (unsigned)DBOS_HEAD_TASK : 0u;
    return flags;
}

/* Behind the frame. Differences go round at 2^64. */
static uint8_t *put_head(uint8_t *to, const struct dbos_record_head *head) {
    uint64_t commit_us = (uint64_t)head->commit_us;
    int64_t session_age_us = (int64_t)(commit_us - head->session);
    uint32_t flags = head_flags(head, session_age_us);
    to = dbos_store_varint(to, flags);
    to = dbos_store_varint(to, head->position);
    to = dbos_store_zigzag(to, (int64_t)(commit_us - (uint64_t)DBOS_RECORD_EPOCH_US));
    to = dbos_store_zigzag(to, (int64_t)(commit_us - (uint64_t)head->start_us));
    to = put_partition(to, head);
    to = (flags & DBOS_HEAD_SESSION_STAMP) != 0 ? dbos_store_zigzag(to, session_age_us)
                                                : dbos_store_varint(to, head->session);
    to = dbos_store_varint(to, head->request);
    to = dbos_store_varint(to, head->procedure);
    to = dbos_store_varint(to, head->procedure_version);
    if (head->has_seed) {
        dbos_store_u64(to, head->seed);
        to += sizeof head->seed;
    }
    if (head->outcome != 0) {
        to = dbos_store_varint(to, head->outcome);
    }
    if (head->task_id != 0) {
        to = dbos_store_varint(to, head->task_id);
    }
    return dbos_store_varint(to, head->argument_count);
}

/* All events but the writes. Writes stand outside the chain of block differences, so that they can
 * be left out without changing a byte of the others. */
static void put_events_without_writes(struct dbos_buf *to, const struct dbos_capture *capture) {
    const struct dbos_buf *events = &capture->events;
    struct dbos_record_decoder decoder = {
        .reader = dbos_reader_of(events->data, events->size_bytes),
        .arguments = &capture->arguments,
        .version = DBOS_RECORD_VERSION,
    };
    struct dbos_event event;
    const uint8_t *start = decoder.reader.next;
    while (dbos_record_next(&decoder, &event)) {
        const uint8_t *end = decoder.reader.next;
        if (event.op != DBOS_EVENT_INSERT && event.op != DBOS_EVENT_UPDATE &&
            event.op != DBOS_EVENT_DELETE) {
            dbos_buf_put(to, start, (size_t)(end - start));
        }
        start = end;
    }
    DBOS_CHECK(!decoder.failed);
}

static void seal_record(uint8_t *record, size_t size_bytes) {
    DBOS_CHECK(size_bytes <= DBOS_RECORD_SIZE_MASK);
    dbos_store_u32(record,
                   (uint32_t)DBOS_RECORD_VERSION << DBOS_RECORD_SIZE_BITS | (uint32_t)size_bytes);
}

/* The record is on its way to the log: later ones need not define these again. */
static void remember_definitions(struct dbos_capture *capture,
                                 const struct dbos_session_info *session) {
    if (session != NULL) {
        capture->known_sessions[session->id % KNOWN_SESSIONS] = session->id;
    }
    for (size_t at = 0; at < capture->pending.size_bytes; at += sizeof(uint64_t)) {
        uint64_t id = dbos_load_u64(capture->pending.data + at);
        capture->known_texts[id % KNOWN_TEXTS] = id;
    }
}

size_t dbos_capture_finish(struct dbos_capture *capture, const struct dbos_record_head *head,
                           const struct dbos_session_info *session, uint8_t *to) {
    bool aborted = (head->flags & DBOS_RECORD_ABORTED) != 0;
    DBOS_CHECK(!dbos_capture_failed(capture));
    /* dbos_capture_reserve() came first. */
    DBOS_CHECK(capture->run_count == 0 && !capture->statement_waits);
    struct dbos_buf buf = {.data = to,
                           .capacity_bytes = dbos_capture_record_bytes_max(capture, head)};
    buf.size_bytes = (size_t)(put_head(to + DBOS_RECORD_FRAME_BYTES, head) - to);
    dbos_buf_put(&buf, head->arguments.data, head->arguments.size_bytes);
    DBOS_CHECK(session == NULL || session->id == head->session);
    if (session != NULL && defines_session(capture, session->id)) {
        put_session(&buf, session);
    }
    dbos_buf_put(&buf, capture->definitions.data, capture->definitions.size_bytes);
    if (aborted) {
        put_events_without_writes(&buf, capture);
    } else {
        dbos_buf_put(&buf, capture->events.data, capture->events.size_bytes);
    }
    DBOS_CHECK(!buf.failed && buf.data == to);
    seal_record(to, buf.size_bytes);
    remember_definitions(capture, session);
    return buf.size_bytes;
}
