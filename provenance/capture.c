#include "provenance/capture.h"

#include "base/hash.h"
#include "provenance/record_format.h"

enum {
    /* Direct-mapped caches. A definition that falls out of its cache is written once more later:
     * more bytes, never a wrong record. */
    KNOWN_SESSIONS = 1024,
    KNOWN_TEXTS = 4096,
    RECENT_READS = 256,
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
    /* The run of reads that is growing; count 0 = none. */
    uint64_t run_block;
    uint64_t run_count;
    uint32_t run_table;
    uint32_t last_table; /* as the decoder keeps them */
    uint64_t last_block;
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
    capture->run_count = 0;
    capture->last_table = 0;
    capture->last_block = 0;
    new_stamp(capture);
}

/* Write the growing run as one READ event. */
static void flush_run(struct dbos_capture *capture) {
    if (capture->run_count == 0) {
        return;
    }
    struct dbos_buf *events = &capture->events;
    bool same_table = capture->run_table == capture->last_table;
    bool one = capture->run_count == 1;
    dbos_buf_put_u8(events, (uint8_t)(DBOS_EVENT_READ | (same_table ? DBOS_EVENT_SAME_TABLE : 0) |
                                      (one ? DBOS_EVENT_ONE_BLOCK : 0)));
    if (!same_table) {
        dbos_buf_put_varint(events, capture->run_table);
    }
    dbos_buf_put_zigzag(events, (int64_t)(capture->run_block - capture->last_block));
    if (!one) {
        dbos_buf_put_varint(events, capture->run_count);
    }
    capture->last_table = capture->run_table;
    capture->last_block = capture->run_block + (capture->run_count - 1) * DBOS_BLOCK_STEP;
    capture->run_count = 0;
}

/* The buffer for an event of this kind; a growing run is written before it. */
static struct dbos_buf *begin_event(struct dbos_capture *capture, enum dbos_event_op op) {
    flush_run(capture);
    dbos_buf_put_u8(&capture->events, (uint8_t)op);
    return &capture->events;
}

static bool text_is_known(const struct dbos_capture *capture, uint64_t id) {
    if (capture->known_texts[id % KNOWN_TEXTS] == id) {
        return true;
    }
    for (size_t at = 0; at < capture->pending.size_bytes; at += sizeof id) {
        if (dbos_load_u64(capture->pending.data + at) == id) {
            return true;
        }
    }
    return false;
}

void dbos_capture_statement(struct dbos_capture *capture, uint64_t statement_id, const char *text) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_STATEMENT);
    dbos_buf_put_u64(events, statement_id);
    new_stamp(capture);
    if (text != NULL && !text_is_known(capture, statement_id)) {
        dbos_buf_put_u8(&capture->definitions, DBOS_EVENT_TEXT);
        dbos_buf_put_u64(&capture->definitions, statement_id);
        dbos_buf_put_text(&capture->definitions, text);
        dbos_buf_put_u64(&capture->pending, statement_id);
    }
}

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
    flush_run(capture);
    capture->run_table = table_id;
    capture->run_block = block;
    capture->run_count = 1;
}

void dbos_capture_scan(struct dbos_capture *capture, uint32_t table_id, uint16_t partition,
                       uint64_t rows) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_SCAN);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, partition);
    dbos_buf_put_varint(events, rows);
    capture->has_reads = true;
}

void dbos_capture_range(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                        struct dbos_bytes low, struct dbos_bytes high, uint8_t bound_flags,
                        uint64_t rows) {
    DBOS_CHECK(bound_flags <= 3);
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_RANGE);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, index_id);
    dbos_buf_put_u8(events, bound_flags);
    dbos_buf_put_sized(events, low.data, low.size_bytes);
    dbos_buf_put_sized(events, high.data, high.size_bytes);
    dbos_buf_put_varint(events, rows);
    capture->has_reads = true;
}

void dbos_capture_absent(struct dbos_capture *capture, uint32_t table_id, uint32_t index_id,
                         struct dbos_bytes key) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_ABSENT);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, index_id);
    dbos_buf_put_sized(events, key.data, key.size_bytes);
    capture->has_reads = true;
}

static void put_image(struct dbos_buf *events, const struct dbos_row *row) {
    dbos_buf_put_sized(events, row->payload, row->size_bytes);
}

void dbos_capture_insert(struct dbos_capture *capture, uint32_t table_id,
                         const struct dbos_row *row) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_INSERT);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, row->block);
    put_image(events, row);
    capture->has_writes = true;
}

void dbos_capture_update(struct dbos_capture *capture, uint32_t table_id,
                         const struct dbos_row *before, const struct dbos_row *after) {
    DBOS_CHECK(before->block == after->block);
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_UPDATE);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, before->block);
    dbos_buf_put_varint(events, before->position);
    put_image(events, before);
    put_image(events, after);
    capture->has_writes = true;
}

void dbos_capture_delete(struct dbos_capture *capture, uint32_t table_id,
                         const struct dbos_row *row) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_DELETE);
    dbos_buf_put_varint(events, table_id);
    dbos_buf_put_varint(events, row->block);
    dbos_buf_put_varint(events, row->position);
    put_image(events, row);
    capture->has_writes = true;
}

void dbos_capture_egress(struct dbos_capture *capture, uint64_t rows, uint64_t bytes,
                         uint64_t digest) {
    struct dbos_buf *events = begin_event(capture, DBOS_EVENT_EGRESS);
    dbos_buf_put_varint(events, rows);
    dbos_buf_put_varint(events, bytes);
    dbos_buf_put_u64(events, digest);
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
    (void)head_bytes; /* the record is written to the caller's memory; only the run is still ours */
    flush_run(capture);
    return dbos_capture_failed(capture) ? DBOS_ERR_NOMEM : DBOS_OK;
}

/* What a SESSION definition may take: four texts, each cut at this length. */
enum { SESSION_TEXT_BYTES = 1024, SESSION_BYTES_MAX = 1 + 10 + 4 * (SESSION_TEXT_BYTES + 2) };

static bool defines_session(const struct dbos_capture *capture, uint64_t id) {
    return id != 0 && capture->known_sessions[id % KNOWN_SESSIONS] != id;
}

size_t dbos_capture_record_bytes_max(const struct dbos_capture *capture,
                                     const struct dbos_record_head *head) {
    enum { RUN_BYTES_MAX = 1 + 3 * 10 };
    size_t session_bytes_max = defines_session(capture, head->session) ? SESSION_BYTES_MAX : 0;
    return DBOS_RECORD_HEAD_BYTES_MAX + head->arguments.size_bytes + session_bytes_max +
           capture->definitions.size_bytes + capture->events.size_bytes + RUN_BYTES_MAX;
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

static void put_head(struct dbos_buf *to, const struct dbos_record_head *head) {
    struct dbos_record_frame frame = {
        .version = DBOS_RECORD_VERSION,
        .flags = head->flags,
        .outcome = head->outcome,
        .partition = head->partition,
        .partitions = head->partitions,
        .argument_count = head->argument_count,
        .position = head->position,
        .commit_us = head->commit_us,
        .start_us = head->start_us,
        .seed = head->seed,
        .hash_delta = head->hash_delta,
    };
    dbos_buf_put(to, &frame, sizeof frame);
    dbos_buf_put_varint(to, head->session);
    dbos_buf_put_varint(to, head->request);
    dbos_buf_put_varint(to, head->procedure);
    dbos_buf_put_varint(to, head->procedure_version);
    dbos_buf_put_varint(to, head->task_id);
    dbos_buf_put_sized(to, head->arguments.data, head->arguments.size_bytes);
}

/* All events but the writes. Writes stand outside the chain of block differences, so that they can
 * be left out without changing a byte of the others. */
static void put_events_without_writes(struct dbos_buf *to, const struct dbos_buf *events) {
    struct dbos_record_decoder decoder = {.reader =
                                              dbos_reader_of(events->data, events->size_bytes)};
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
    DBOS_CHECK(size_bytes <= UINT32_MAX);
    dbos_store_u32(record, (uint32_t)size_bytes);
    dbos_store_u32(record + 4, dbos_crc32c(0, record + DBOS_RECORD_CRC_FROM,
                                           size_bytes - DBOS_RECORD_CRC_FROM));
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
    DBOS_CHECK(capture->run_count == 0); /* dbos_capture_reserve() came first */
    struct dbos_buf buf = {.data = to,
                           .capacity_bytes = dbos_capture_record_bytes_max(capture, head)};
    put_head(&buf, head);
    DBOS_CHECK(session == NULL || session->id == head->session);
    if (session != NULL && defines_session(capture, session->id)) {
        put_session(&buf, session);
    }
    dbos_buf_put(&buf, capture->definitions.data, capture->definitions.size_bytes);
    if (aborted) {
        put_events_without_writes(&buf, &capture->events);
    } else {
        dbos_buf_put(&buf, capture->events.data, capture->events.size_bytes);
    }
    DBOS_CHECK(!buf.failed && buf.data == to);
    seal_record(to, buf.size_bytes);
    remember_definitions(capture, session);
    return buf.size_bytes;
}
