#include "provenance/segment.h"

#include <stdio.h>

#include "base/hash.h"
#include "provenance/record_format.h"
#include "provenance/segment_format.h"

enum {
    READ_AHEAD_MIN = 16 * 1024, /* a follower at the end reads this much each time it looks */
    READ_AHEAD_MAX = 1024 * 1024,
};

struct dbos_log_reader {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    char data_dir[DBOS_DATA_DIR_BYTES_MAX + 1];
    uint32_t number; /* of the segment being read, or waited for */
    int file;        /* -1: not open */
    struct dbos_segment_header header;
    bool has_header;
    uint64_t offset;        /* of the next batch */
    uint64_t last_position; /* before the next batch */
    uint32_t previous_crc;  /* of the batch header before it */
    bool chain_known;       /* the two above are known */
    bool strict;
    uint64_t durable;
    size_t read_ahead;
    uint8_t *window; /* a piece of the file */
    size_t window_capacity;
    uint64_t window_offset;
    size_t window_bytes;
    uint8_t *body; /* the records of the batch, joined */
    size_t body_capacity;
};

enum dbos_err dbos_log_reader_open(struct dbos_alloc *alloc, struct dbos_env *env,
                                   const char *data_dir, uint32_t segment, uint64_t offset,
                                   struct dbos_log_reader **out, struct dbos_errinfo *info) {
    *out = NULL;
    DBOS_CHECK(segment != 0 && offset % DBOS_SECTOR_BYTES == 0);
    if (strlen(data_dir) > DBOS_DATA_DIR_BYTES_MAX) {
        return dbos_fail(info, DBOS_ERR_INVALID_PARAMETER,
                         "path of the data directory is longer "
                         "than %d bytes",
                         DBOS_DATA_DIR_BYTES_MAX);
    }
    struct dbos_log_reader *reader = dbos_take_zero(alloc, sizeof *reader);
    if (reader == NULL) {
        return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a log reader");
    }
    reader->alloc = alloc;
    reader->env = env;
    reader->number = segment;
    reader->offset = offset;
    reader->file = -1;
    reader->durable = UINT64_MAX;
    reader->read_ahead = READ_AHEAD_MIN;
    memcpy(reader->data_dir, data_dir, strlen(data_dir) + 1);
    *out = reader;
    return DBOS_OK;
}

static void leave_segment(struct dbos_log_reader *reader) {
    if (reader->file >= 0) {
        reader->env->ops->file_close(reader->env, reader->file);
    }
    reader->file = -1;
    reader->has_header = false;
    reader->window_bytes = 0;
}

void dbos_log_reader_close(struct dbos_log_reader *reader) {
    if (reader != NULL) {
        leave_segment(reader);
        dbos_give(reader->alloc, reader->window);
        dbos_give(reader->alloc, reader->body);
        dbos_give(reader->alloc, reader);
    }
}

void dbos_log_reader_strict(struct dbos_log_reader *reader) { reader->strict = true; }

void dbos_log_reader_set_durable(struct dbos_log_reader *reader, uint64_t position) {
    reader->durable = position;
}

void dbos_log_reader_place(const struct dbos_log_reader *reader, uint32_t *out_segment,
                           uint64_t *out_offset) {
    *out_segment = reader->number;
    *out_offset = reader->offset;
}

bool dbos_log_reader_header(const struct dbos_log_reader *reader, struct dbos_segment_header *out) {
    *out = reader->header;
    return reader->has_header;
}

/* --- messages -------------------------------------------------------------------------------- */

/* Damage at the reader's place. What is lost is added by judge_tail(). */
static enum dbos_read_result damaged(struct dbos_log_reader *reader, struct dbos_errinfo *info,
                                     uint64_t offset, const char *why) {
    char path[DBOS_PATH_BYTES];
    dbos_segment_path(path, reader->data_dir, reader->number);
    (void)dbos_fail(info, DBOS_ERR_CORRUPT, "log segment %s is damaged at offset %llu: %s", path,
                    (unsigned long long)offset, why);
    return DBOS_READ_CORRUPT;
}

/* `info` holds an error of the environment or of a header: say which file. */
static enum dbos_read_result failed_in(struct dbos_log_reader *reader, struct dbos_errinfo *info,
                                       uint32_t number) {
    char path[DBOS_PATH_BYTES];
    dbos_segment_path(path, reader->data_dir, number);
    dbos_err_detail(info, "Log segment %s.", path);
    return DBOS_READ_CORRUPT;
}

static void say_lost(struct dbos_log_reader *reader, struct dbos_errinfo *info, uint64_t reach) {
    if (!reader->chain_known) {
        return;
    }
    if (reach > reader->last_position) {
        dbos_err_detail(info,
                        "Transactions from position %llu on cannot be read; later ones are there "
                        "up to position %llu.",
                        (unsigned long long)(reader->last_position + 1), (unsigned long long)reach);
    } else {
        dbos_err_detail(info, "Transactions from position %llu on cannot be read.",
                        (unsigned long long)(reader->last_position + 1));
    }
}

/* --- files ----------------------------------------------------------------------------------- */

struct name_search {
    char name[32];
    bool found;
};

static void match_name(void *arg, const char *name) {
    struct name_search *search = arg;
    search->found |= strcmp(search->name, name) == 0;
}

/* The environment can not tell "absent" from other reasons for a failed open: the list can. */
static bool segment_is_listed(struct dbos_log_reader *reader, uint32_t number) {
    char path[DBOS_PATH_BYTES];
    struct name_search search = {.found = false};
    struct dbos_errinfo ignored;
    (void)snprintf(search.name, sizeof search.name, "%08u.seg", number);
    dbos_log_path(path, reader->data_dir, "log");
    enum dbos_err err =
        reader->env->ops->dir_list(reader->env, path, match_name, &search, &ignored);
    return err == DBOS_OK && search.found;
}

/* Open a segment file and read its header. UNUSED: absent, too short or a zero header; the file is
 * then closed, unless the caller wants it (*out_file). BAD: info says why. */
static enum dbos_header_state open_segment(struct dbos_log_reader *reader, uint32_t number,
                                           int *out_file, struct dbos_segment_header *out,
                                           struct dbos_errinfo *info) {
    char path[DBOS_PATH_BYTES];
    uint8_t bytes[DBOS_SEGMENT_HEADER_BYTES];
    size_t got = 0;
    const struct dbos_env_ops *ops = reader->env->ops;
    *out = (struct dbos_segment_header){0};
    dbos_segment_path(path, reader->data_dir, number);
    if (ops->file_open(reader->env, path, DBOS_OPEN_READ, out_file, info) != DBOS_OK) {
        *out_file = -1;
        return segment_is_listed(reader, number) ? DBOS_HEADER_BAD : DBOS_HEADER_UNUSED;
    }
    enum dbos_header_state state = DBOS_HEADER_UNUSED;
    if (ops->file_read(reader->env, *out_file, 0, bytes, sizeof bytes, &got, info) != DBOS_OK) {
        state = DBOS_HEADER_BAD;
    } else if (got == sizeof bytes) {
        state = dbos_segment_header_decode(bytes, out, info);
    }
    if (state == DBOS_HEADER_VALID && out->number != number) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT, "the segment header has number %u", out->number);
        state = DBOS_HEADER_BAD;
    }
    if (state == DBOS_HEADER_VALID && reader->has_header &&
        memcmp(&out->database, &reader->header.database, sizeof out->database) != 0) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT, "the segment belongs to another database");
        state = DBOS_HEADER_BAD;
    }
    if (state == DBOS_HEADER_BAD) {
        ops->file_close(reader->env, *out_file);
        *out_file = -1;
    }
    return state;
}

static void close_file(struct dbos_log_reader *reader, int file) {
    if (file >= 0) {
        reader->env->ops->file_close(reader->env, file);
    }
}

/* Go to a segment that is in use: BATCH = done, END = it is not in use yet. */
static enum dbos_read_result enter_segment(struct dbos_log_reader *reader,
                                           struct dbos_errinfo *info) {
    int file = -1;
    struct dbos_segment_header header;
    enum dbos_header_state state = open_segment(reader, reader->number, &file, &header, info);
    if (state == DBOS_HEADER_BAD) {
        return failed_in(reader, info, reader->number);
    }
    if (state == DBOS_HEADER_UNUSED) {
        close_file(reader, file);
        return DBOS_READ_END;
    }
    reader->file = file;
    reader->header = header;
    reader->has_header = true;
    if (reader->offset <= DBOS_SEGMENT_HEADER_BYTES) {
        reader->offset = DBOS_SEGMENT_HEADER_BYTES;
        if (!reader->chain_known) {
            reader->last_position = header.first_position - 1;
            reader->previous_crc = header.previous_crc;
            reader->chain_known = true;
        }
    }
    if (reader->offset > header.size_bytes) {
        return damaged(reader, info, reader->offset, "the segment ends before this place");
    }
    return DBOS_READ_BATCH;
}

/* Make the window cover a piece of the segment. */
static enum dbos_err cover(struct dbos_log_reader *reader, uint64_t offset, size_t size_bytes,
                           struct dbos_errinfo *info) {
    if (offset >= reader->window_offset &&
        offset + size_bytes <= reader->window_offset + reader->window_bytes) {
        return DBOS_OK;
    }
    size_t wanted = size_bytes > reader->read_ahead ? size_bytes : reader->read_ahead;
    uint64_t left = reader->header.size_bytes - offset;
    wanted = wanted > left ? (size_t)left : wanted;
    if (wanted > reader->window_capacity) {
        uint8_t *window = dbos_retake(reader->alloc, reader->window, wanted);
        if (window == NULL) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for %zu bytes of log", wanted);
        }
        reader->window = window;
        reader->window_capacity = wanted;
    }
    reader->window_bytes = 0;
    reader->window_offset = offset;
    enum dbos_err err = reader->env->ops->file_read(
        reader->env, reader->file, offset, reader->window, wanted, &reader->window_bytes, info);
    if (err != DBOS_OK) {
        return err;
    }
    if (reader->window_bytes < size_bytes) {
        return dbos_fail(info, DBOS_ERR_CORRUPT,
                         "the file ends at offset %llu, its header says %llu",
                         (unsigned long long)(offset + reader->window_bytes),
                         (unsigned long long)reader->header.size_bytes);
    }
    if (reader->read_ahead < READ_AHEAD_MAX) {
        reader->read_ahead *= 2;
    }
    return DBOS_OK;
}

static const uint8_t *in_window(const struct dbos_log_reader *reader, uint64_t offset) {
    DBOS_CHECK(offset >= reader->window_offset);
    return reader->window + (offset - reader->window_offset);
}

/* A living writer may have filled in what was read as zero. */
static void drop_window(struct dbos_log_reader *reader) {
    reader->window_bytes = 0;
    reader->read_ahead = READ_AHEAD_MIN;
}

/* --- a batch --------------------------------------------------------------------------------- */

static enum dbos_sector_state state_at(const struct dbos_log_reader *reader, uint64_t offset) {
    return dbos_sector_state(in_window(reader, offset), reader->header.generation,
                             (uint32_t)(offset / DBOS_SECTOR_BYTES));
}

/* Join the payloads behind the batch header. */
static enum dbos_err join_records(struct dbos_log_reader *reader,
                                  const struct dbos_stored_batch *head, struct dbos_errinfo *info) {
    size_t left = head->records_bytes;
    if (left > reader->body_capacity) {
        uint8_t *body = dbos_retake(reader->alloc, reader->body, left);
        if (body == NULL) {
            return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for a batch of %zu bytes", left);
        }
        reader->body = body;
        reader->body_capacity = left;
    }
    uint8_t *to = reader->body;
    size_t skip = sizeof *head;
    for (uint64_t offset = reader->offset; left != 0; offset += DBOS_SECTOR_BYTES) {
        size_t part = DBOS_SECTOR_PAYLOAD_BYTES - skip;
        part = part > left ? left : part;
        memcpy(to, in_window(reader, offset) + sizeof(struct dbos_sector_head) + skip, part);
        to += part;
        left -= part;
        skip = 0;
    }
    return DBOS_OK;
}

/* Are the records framed one behind the other, with consecutive positions? */
static bool records_are_framed(const struct dbos_batch *batch) {
    size_t cursor = 0;
    size_t size_bytes = 0;
    uint32_t count = 0;
    for (;;) {
        const uint8_t *record = dbos_batch_next(batch, &cursor, &size_bytes);
        if (record == NULL) {
            break;
        }
        int64_t commit_us = 0;
        if (dbos_record_peek(record, size_bytes, &commit_us) != batch->first_position + count) {
            return false;
        }
        count++;
    }
    return count == batch->record_count && cursor == batch->records_bytes;
}

/* The batch header in the first sector, checked against its place in the log. */
static enum dbos_read_result read_batch_head(struct dbos_log_reader *reader,
                                             struct dbos_stored_batch *head,
                                             struct dbos_errinfo *info) {
    uint64_t offset = reader->offset;
    if (offset + DBOS_SECTOR_BYTES > reader->header.size_bytes) {
        return DBOS_READ_END;
    }
    if (cover(reader, offset, DBOS_SECTOR_BYTES, info) != DBOS_OK) {
        return failed_in(reader, info, reader->number);
    }
    enum dbos_sector_state state = state_at(reader, offset);
    if (state == DBOS_SECTOR_UNWRITTEN) {
        return DBOS_READ_END;
    }
    if (state == DBOS_SECTOR_DAMAGED) {
        return damaged(reader, info, offset, "checksum of a sector does not match");
    }
    const uint8_t *sector = in_window(reader, offset);
    if (dbos_sector_ordinal(sector) != 0) {
        return damaged(reader, info, offset, "the middle of a batch where one should begin");
    }
    memcpy(head, sector + sizeof(struct dbos_sector_head), sizeof *head);
    if (dbos_batch_check(head, info) != DBOS_OK) {
        return failed_in(reader, info, reader->number);
    }
    if (offset + dbos_batch_sectors(head->records_bytes) * DBOS_SECTOR_BYTES >
        reader->header.size_bytes) {
        return damaged(reader, info, offset, "a batch passes the end of the segment");
    }
    if (reader->chain_known && (head->first_position != reader->last_position + 1 ||
                                head->previous_crc != reader->previous_crc)) {
        return damaged(reader, info, offset, "a batch does not follow the one before it");
    }
    return DBOS_READ_BATCH;
}

/* Every sector of the batch: written, or the batch is torn, or damaged. */
static enum dbos_read_result check_sectors(struct dbos_log_reader *reader,
                                           const struct dbos_stored_batch *head,
                                           struct dbos_errinfo *info) {
    uint64_t sectors = dbos_batch_sectors(head->records_bytes);
    if (cover(reader, reader->offset, (size_t)sectors * DBOS_SECTOR_BYTES, info) != DBOS_OK) {
        return failed_in(reader, info, reader->number);
    }
    bool torn = false;
    for (uint64_t i = 0; i < sectors; i++) {
        uint64_t offset = reader->offset + i * DBOS_SECTOR_BYTES;
        enum dbos_sector_state state = state_at(reader, offset);
        if (state == DBOS_SECTOR_DAMAGED) {
            return damaged(reader, info, offset, "checksum of a sector does not match");
        }
        if (state == DBOS_SECTOR_UNWRITTEN) {
            torn = true;
        } else if (dbos_sector_ordinal(in_window(reader, offset)) != i) {
            return damaged(reader, info, offset, "a sector of another batch");
        }
    }
    return torn ? DBOS_READ_TORN : DBOS_READ_BATCH;
}

/* Read what lies at the reader's place, without moving on. */
static enum dbos_read_result read_here(struct dbos_log_reader *reader, struct dbos_batch *out,
                                       struct dbos_errinfo *info) {
    struct dbos_stored_batch head;
    enum dbos_read_result result = read_batch_head(reader, &head, info);
    if (result == DBOS_READ_BATCH) {
        result = check_sectors(reader, &head, info);
    }
    if (result != DBOS_READ_BATCH) {
        return result;
    }
    if (join_records(reader, &head, info) != DBOS_OK) {
        return failed_in(reader, info, reader->number);
    }
    *out = (struct dbos_batch){
        .segment = reader->number,
        .offset = reader->offset,
        .end_offset = reader->offset + dbos_batch_sectors(head.records_bytes) * DBOS_SECTOR_BYTES,
        .first_position = head.first_position,
        .last_position = head.last_position,
        .synced_position = head.synced_position,
        .header_crc = head.crc,
        .state_hash = head.state_hash,
        .record_count = head.record_count,
        .records = reader->body,
        .records_bytes = head.records_bytes,
    };
    if (dbos_crc32c(0, reader->body, head.records_bytes) != head.records_crc ||
        !records_are_framed(out)) {
        return damaged(reader, info, reader->offset, "checksum of a batch does not match");
    }
    return DBOS_READ_BATCH;
}

static void move_behind(struct dbos_log_reader *reader, const struct dbos_batch *batch) {
    reader->offset = batch->end_offset;
    reader->last_position = batch->last_position;
    reader->previous_crc = batch->header_crc;
    reader->chain_known = true;
}

/* --- ends ------------------------------------------------------------------------------------ */

struct tail {
    bool written; /* a written sector was met */
    bool damaged; /* a damaged one, at `offset` */
    uint64_t offset;
    uint64_t reach;  /* newest position of a later batch; 0 = none */
    uint64_t synced; /* the newest position that one of them says was synced */
};

static void note_later_batch(const uint8_t *sector, struct tail *tail) {
    struct dbos_stored_batch head;
    struct dbos_errinfo ignored;
    memcpy(&head, sector + sizeof(struct dbos_sector_head), sizeof head);
    if (dbos_sector_ordinal(sector) != 0 || dbos_batch_check(&head, &ignored) != DBOS_OK) {
        return;
    }
    tail->reach = head.last_position > tail->reach ? head.last_position : tail->reach;
    tail->synced = head.synced_position > tail->synced ? head.synced_position : tail->synced;
}

/* Look at every sector from `offset` to the end of the segment. */
static enum dbos_err look_at_tail(struct dbos_log_reader *reader, uint64_t offset,
                                  struct tail *tail, struct dbos_errinfo *info) {
    *tail = (struct tail){0};
    for (; offset + DBOS_SECTOR_BYTES <= reader->header.size_bytes; offset += DBOS_SECTOR_BYTES) {
        enum dbos_err err = cover(reader, offset, DBOS_SECTOR_BYTES, info);
        if (err != DBOS_OK) {
            return err;
        }
        enum dbos_sector_state state = state_at(reader, offset);
        if (state == DBOS_SECTOR_WRITTEN) {
            tail->written = true;
            note_later_batch(in_window(reader, offset), tail);
        } else if (state == DBOS_SECTOR_DAMAGED && !tail->damaged) {
            tail->damaged = true;
            tail->offset = offset;
        }
    }
    return DBOS_OK;
}

/* The next file has no header: was a batch in it that others followed? Only then was the header on
 * disk once. */
static uint64_t synced_in_unused(struct dbos_log_reader *reader, int file) {
    uint8_t sector[DBOS_SECTOR_BYTES];
    struct tail tail = {0};
    struct dbos_errinfo ignored;
    const struct dbos_env_ops *ops = reader->env->ops;
    uint64_t offset = DBOS_SEGMENT_HEADER_BYTES;
    for (size_t got = sizeof sector; got == sizeof sector; offset += sizeof sector) {
        if (ops->file_read(reader->env, file, offset, sector, sizeof sector, &got, &ignored) !=
            DBOS_OK) {
            break;
        }
        uint32_t generation = dbos_load_u32(sector);
        if (got == sizeof sector && generation != 0 &&
            dbos_sector_state(sector, generation, (uint32_t)(offset / sizeof sector)) ==
                DBOS_SECTOR_WRITTEN) {
            note_later_batch(sector, &tail);
        } else if (generation == 0) {
            break; /* a first write that was cut short: the rest was never acknowledged */
        }
    }
    return tail.synced;
}

/* Is the segment behind this one in use? Its first position, or 0; UINT64_MAX: it can not be read
 * (info says why). */
static uint64_t next_segment_first(struct dbos_log_reader *reader, struct dbos_errinfo *info) {
    int file = -1;
    struct dbos_segment_header header;
    enum dbos_header_state state = open_segment(reader, reader->number + 1, &file, &header, info);
    uint64_t first = 0;
    if (state == DBOS_HEADER_BAD) {
        (void)failed_in(reader, info, reader->number + 1);
        first = UINT64_MAX;
    } else if (state == DBOS_HEADER_VALID) {
        first = header.first_position;
    } else if (file >= 0 && reader->strict &&
               synced_in_unused(reader, file) > reader->last_position) {
        (void)dbos_fail(info, DBOS_ERR_CORRUPT, "the segment header is gone");
        (void)failed_in(reader, info, reader->number + 1);
        first = UINT64_MAX;
    }
    close_file(reader, file);
    return first;
}

/* Nobody writes: decide by what lies behind the place where reading stopped. */
static enum dbos_read_result judge_tail(struct dbos_log_reader *reader,
                                        enum dbos_read_result result, uint64_t next_first,
                                        struct dbos_errinfo *info) {
    struct tail tail;
    if (look_at_tail(reader, reader->offset, &tail, info) != DBOS_OK) {
        return failed_in(reader, info, reader->number);
    }
    if (result == DBOS_READ_CORRUPT) {
        say_lost(reader, info, tail.reach);
        return result;
    }
    if (tail.damaged) {
        result = damaged(reader, info, tail.offset, "checksum of a sector does not match");
    } else if (tail.synced > reader->last_position || next_first != 0) {
        result = damaged(reader, info, reader->offset, "a batch that had been synced is gone");
    }
    if (result == DBOS_READ_CORRUPT) {
        say_lost(reader, info, tail.reach);
        return result;
    }
    return tail.written ? DBOS_READ_TORN : DBOS_READ_END;
}

/* A writer may be at work: unfinished is not there yet, unless something proves that it was. */
static enum dbos_read_result judge_follower(struct dbos_log_reader *reader,
                                            enum dbos_read_result result, uint64_t next_first,
                                            struct dbos_errinfo *info) {
    bool promised = next_first != 0 || (reader->durable != UINT64_MAX && reader->chain_known &&
                                        reader->durable > reader->last_position);
    if (!promised) {
        return DBOS_READ_END;
    }
    if (result != DBOS_READ_CORRUPT) {
        result = damaged(reader, info, reader->offset, "a batch that had been synced is gone");
    }
    say_lost(reader, info, 0);
    return result;
}

/* No batch at the reader's place. BATCH: another look, or another segment, may have one. */
static enum dbos_read_result at_end(struct dbos_log_reader *reader, struct dbos_batch *out,
                                    enum dbos_read_result result, struct dbos_errinfo *info) {
    struct dbos_errinfo next_info = {0};
    uint64_t next_first = next_segment_first(reader, &next_info);
    if (!reader->strict) {
        /* What the window holds may be older than the next segment's header. */
        drop_window(reader);
        result = read_here(reader, out, info);
        if (result == DBOS_READ_BATCH) {
            return result;
        }
    }
    if (result == DBOS_READ_END && next_first == UINT64_MAX) {
        *info = next_info;
        return DBOS_READ_CORRUPT;
    }
    if (result == DBOS_READ_END && next_first != 0 && reader->chain_known &&
        next_first == reader->last_position + 1) {
        leave_segment(reader);
        reader->number++;
        reader->offset = 0;
        return DBOS_READ_BATCH;
    }
    return reader->strict ? judge_tail(reader, result, next_first, info)
                          : judge_follower(reader, result, next_first, info);
}

enum dbos_read_result dbos_log_reader_next(struct dbos_log_reader *reader, struct dbos_batch *out,
                                           struct dbos_errinfo *info) {
    struct dbos_errinfo local;
    info = info == NULL ? &local : info;
    for (;;) {
        *out = (struct dbos_batch){0};
        if (reader->chain_known && reader->last_position >= reader->durable) {
            return DBOS_READ_END;
        }
        if (!reader->has_header) {
            enum dbos_read_result entered = enter_segment(reader, info);
            if (entered != DBOS_READ_BATCH) {
                return entered;
            }
        }
        enum dbos_read_result result = read_here(reader, out, info);
        if (result != DBOS_READ_BATCH) {
            uint32_t number = reader->number;
            result = at_end(reader, out, result, info);
            if (result != DBOS_READ_BATCH) {
                drop_window(reader);
                return result;
            }
            if (reader->number != number) {
                continue;
            }
        }
        if (out->first_position > reader->durable) {
            return DBOS_READ_END;
        }
        move_behind(reader, out);
        return DBOS_READ_BATCH;
    }
}

const uint8_t *dbos_batch_next(const struct dbos_batch *batch, size_t *cursor, size_t *out_bytes) {
    *out_bytes = 0;
    const uint8_t *record = batch->records + *cursor;
    size_t size_bytes = dbos_record_frame_bytes(record, batch->records_bytes - *cursor);
    *cursor += size_bytes;
    *out_bytes = size_bytes;
    return size_bytes == 0 ? NULL : record;
}
