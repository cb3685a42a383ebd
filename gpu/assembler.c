#include "gpu/assembler.h"

#include "base/alloc.h"

/* What an assembly costs beside its payloads. */
static uint64_t overhead_bytes(uint32_t pieces) {
    return sizeof(struct dbos_assembly) + (uint64_t)pieces * sizeof(struct dbos_bytes);
}

static uint64_t held_bytes(const struct dbos_assembly *assembly) {
    return overhead_bytes(assembly->piece_count) + assembly->payload_bytes;
}

void dbos_assembly_close(struct dbos_assembly *assembly) {
    if (assembly == NULL) {
        return;
    }
    for (uint32_t i = 0; i < assembly->piece_count; i++) {
        /* The block came to us whole and not const; see add_give. */
        dbos_give(assembly->alloc, (void *)(uintptr_t)assembly->pieces[i].data);
    }
    dbos_give(assembly->alloc, assembly->pieces);
    dbos_give(assembly->alloc, assembly);
}

void dbos_assembly_put(const struct dbos_assembly *assembly, struct dbos_buf *buf) {
    for (uint32_t i = 0; i < assembly->piece_count; i++) {
        dbos_buf_put(buf, assembly->pieces[i].data, assembly->pieces[i].size_bytes);
    }
}

void dbos_assembler_init(struct dbos_assembler *assembler, struct dbos_alloc *alloc,
                         const struct dbos_assembler_options *options) {
    DBOS_CHECK(options->assemblies_max > 0);
    *assembler = (struct dbos_assembler){.alloc = alloc, .options = *options};
}

static void unlink_assembly(struct dbos_assembler *assembler, struct dbos_assembly *assembly) {
    struct dbos_assembly **link = &assembler->first;
    while (*link != assembly) {
        link = &(*link)->next;
    }
    *link = assembly->next;
    assembly->next = NULL;
    assembler->assemblies--;
    assembler->bytes -= held_bytes(assembly);
}

void dbos_assembler_fini(struct dbos_assembler *assembler) {
    while (assembler->first != NULL) {
        struct dbos_assembly *assembly = assembler->first;
        unlink_assembly(assembler, assembly);
        dbos_assembly_close(assembly);
    }
    DBOS_CHECK(assembler->bytes == 0 && assembler->assemblies == 0);
}

static struct dbos_assembly *find_assembly(const struct dbos_assembler *assembler,
                                           const struct dbos_frame *frame) {
    struct dbos_assembly *assembly = assembler->first;
    while (assembly != NULL) {
        const struct dbos_frame *key = &assembly->frame;
        if (dbos_frame_same_task(key, frame)) {
            break;
        }
        assembly = assembly->next;
    }
    return assembly;
}

static struct dbos_assembly *assembly_open(struct dbos_alloc *alloc, const struct dbos_frame *frame,
                                           uint64_t now_ns) {
    struct dbos_assembly *assembly = dbos_take_zero(alloc, sizeof *assembly);
    if (assembly == NULL) {
        return NULL;
    }
    assembly->pieces = dbos_take_zero(alloc, frame->pieces * sizeof *assembly->pieces);
    if (assembly->pieces == NULL) {
        dbos_give(alloc, assembly);
        return NULL;
    }
    assembly->alloc = alloc;
    assembly->frame = *frame;
    assembly->piece_count = frame->pieces;
    assembly->first_ns = now_ns;
    return assembly;
}

/* A missing piece is told by a NULL run; an empty one that came points here. */
static uint8_t *present(struct dbos_alloc *alloc, void *payload) {
    return payload != NULL ? payload : dbos_take(alloc, 1);
}

static uint64_t expiry(const struct dbos_assembler *assembler, const struct dbos_frame *frame,
                       uint64_t now_ns) {
    uint64_t left_ns = assembler->options.idle_ns;
    if (frame->deadline_us > 0 && frame->deadline_us < left_ns / 1000) {
        left_ns = frame->deadline_us * 1000;
    }
    return now_ns + left_ns;
}

static void set_piece(struct dbos_assembler *assembler, struct dbos_assembly *assembly,
                      const struct dbos_frame *frame, uint8_t *payload, uint64_t now_ns) {
    DBOS_CHECK(assembly->pieces[frame->piece].data == NULL);
    assembly->pieces[frame->piece] = (struct dbos_bytes){payload, frame->payload_bytes};
    assembly->have++;
    assembly->payload_bytes += frame->payload_bytes;
    assembly->count += frame->count;
    assembly->last_ns = now_ns;
    if (assembly->have == 1 || frame->deadline_us == 0) {
        assembly->expires_ns = expiry(assembler, frame, now_ns);
    }
    if (frame->piece == 0) {
        assembly->frame = *frame;
    }
    assembly->frame.via = frame->via;
}

static void complete(struct dbos_assembly *assembly) {
    DBOS_CHECK(assembly->have == assembly->piece_count);
    assembly->frame.count = assembly->count > UINT32_MAX ? UINT32_MAX : (uint32_t)assembly->count;
}

/* The assembly that the frame belongs to, made when it is the first piece; NULL and *err on
 * failure. */
static struct dbos_assembly *assembly_for(struct dbos_assembler *assembler,
                                          const struct dbos_frame *frame, uint64_t now_ns,
                                          enum dbos_err *err, struct dbos_errinfo *info) {
    struct dbos_assembly *assembly = find_assembly(assembler, frame);
    *err = DBOS_OK;
    if (assembly != NULL) {
        if (assembly->piece_count != frame->pieces) {
            *err = dbos_fail(info, DBOS_ERR_PROTOCOL, "piece %u of %u, earlier pieces said %u",
                             frame->piece, frame->pieces, assembly->piece_count);
            return NULL;
        }
        return assembly;
    }
    if (assembler->assemblies == assembler->options.assemblies_max ||
        overhead_bytes(frame->pieces) > assembler->options.bytes_max - assembler->bytes) {
        *err = dbos_fail(info, DBOS_ERR_LIMIT, "too many tasks wait for pieces");
        return NULL;
    }
    assembly = assembly_open(assembler->alloc, frame, now_ns);
    if (assembly == NULL) {
        *err = dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a task of %u pieces", frame->pieces);
        return NULL;
    }
    assembly->next = assembler->first;
    assembler->first = assembly;
    assembler->assemblies++;
    assembler->bytes += held_bytes(assembly);
    return assembly;
}

enum dbos_err dbos_assembler_add_give(struct dbos_assembler *assembler,
                                      const struct dbos_frame *frame, void *payload,
                                      uint64_t now_ns, struct dbos_assembly **out,
                                      struct dbos_errinfo *info) {
    enum dbos_err err = DBOS_OK;
    DBOS_CHECK(frame->piece < frame->pieces && frame->pieces <= DBOS_FRAME_PIECES_MAX);
    *out = NULL;
    struct dbos_assembly *assembly = assembly_for(assembler, frame, now_ns, &err, info);
    if (assembly == NULL) {
        dbos_give(assembler->alloc, payload);
        return err;
    }
    if (assembly->pieces[frame->piece].data != NULL) {
        dbos_give(assembler->alloc, payload);
        return DBOS_OK;
    }
    if (frame->payload_bytes > assembler->options.bytes_max - assembler->bytes) {
        err = dbos_fail(info, DBOS_ERR_LIMIT, "tasks in pieces hold over %llu bytes",
                        (unsigned long long)assembler->options.bytes_max);
        goto drop;
    }
    uint8_t *block = present(assembler->alloc, payload);
    if (block == NULL) {
        err = dbos_fail(info, DBOS_ERR_NOMEM, "no memory for a piece");
        goto drop;
    }
    set_piece(assembler, assembly, frame, block, now_ns);
    assembler->bytes += frame->payload_bytes;
    if (assembly->have == assembly->piece_count) {
        unlink_assembly(assembler, assembly);
        complete(assembly);
        *out = assembly;
    }
    return DBOS_OK;
drop:
    dbos_give(assembler->alloc, payload);
    unlink_assembly(assembler, assembly);
    dbos_assembly_close(assembly);
    return err;
}

bool dbos_assembler_drop(struct dbos_assembler *assembler, uint64_t source, uint64_t task_id,
                         uint16_t attempt) {
    bool dropped = false;
    struct dbos_assembly *assembly = assembler->first;
    while (assembly != NULL) {
        struct dbos_assembly *next = assembly->next;
        const struct dbos_frame *key = &assembly->frame;
        if (key->source == source && key->task_id == task_id && key->attempt <= attempt) {
            unlink_assembly(assembler, assembly);
            dbos_assembly_close(assembly);
            dropped = true;
        }
        assembly = next;
    }
    return dropped;
}

bool dbos_assembler_expire(struct dbos_assembler *assembler, uint64_t now_ns,
                           struct dbos_frame *out) {
    struct dbos_assembly *assembly = assembler->first;
    while (assembly != NULL && assembly->expires_ns > now_ns) {
        assembly = assembly->next;
    }
    if (assembly == NULL) {
        return false;
    }
    *out = assembly->frame;
    unlink_assembly(assembler, assembly);
    dbos_assembly_close(assembly);
    return true;
}
