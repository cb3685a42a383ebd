#include "engine/reply.h"

#include "storage/value.h"

/* No memory for a reply that is too small to be counted: the node's, not the replies' share. */
static enum dbos_err no_memory(struct dbos_errinfo *info) {
    return dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for the result");
}

static enum dbos_err no_room(struct dbos_engine *engine, struct dbos_errinfo *info) {
    const struct dbos_alloc *alloc = dbos_engine_reply_alloc(engine);
    enum dbos_err err = dbos_fail(info, DBOS_ERR_NOMEM, "out of memory for replies");
    dbos_err_detail(info, "Replies that are made or not read yet hold %llu of %llu bytes.",
                    (unsigned long long)atomic_load_explicit(&alloc->bytes, memory_order_relaxed),
                    (unsigned long long)alloc->bytes_max);
    dbos_err_hint(info, "Ask again when other clients have read theirs, ask for fewer rows (LIMIT),"
                        " or start dbosd with more --reply-memory.");
    return err;
}

static enum dbos_err move(struct dbos_engine *engine, struct dbos_buf *reply,
                          struct dbos_errinfo *info) {
    struct dbos_buf large;
    dbos_buf_init(&large, dbos_engine_reply_alloc(engine));
    dbos_buf_put(&large, reply->data, reply->size_bytes);
    if (large.failed) {
        dbos_buf_fini(&large);
        return no_room(engine, info);
    }
    dbos_buf_fini(reply);
    *reply = large;
    return DBOS_OK;
}

enum dbos_err dbos_reply_check(struct dbos_engine *engine, struct dbos_buf *reply,
                               struct dbos_errinfo *info) {
    if (reply->failed) {
        return reply->alloc == dbos_engine_reply_alloc(engine) ? no_room(engine, info)
                                                               : no_memory(info);
    }
    if (reply->size_bytes > DBOS_RESULT_BYTES_MAX) {
        enum dbos_err err = dbos_fail(info, DBOS_ERR_LIMIT, "the result is larger than %d bytes",
                                      DBOS_RESULT_BYTES_MAX);
        dbos_err_hint(info, "Ask for fewer rows: a WHERE clause, or LIMIT and OFFSET.");
        return err;
    }
    bool is_small = reply->size_bytes <= DBOS_REPLY_SMALL_BYTES_MAX;
    return is_small || reply->alloc == dbos_engine_reply_alloc(engine) ? DBOS_OK
                                                                       : move(engine, reply, info);
}

enum dbos_err dbos_reply_finish(struct dbos_engine *engine, struct dbos_buf *reply,
                                struct dbos_errinfo *info) {
    enum dbos_err err = dbos_reply_check(engine, reply, info);
    if (err == DBOS_OK && reply->alloc == dbos_engine_reply_alloc(engine) &&
        reply->capacity_bytes > reply->size_bytes) {
        uint8_t *data = dbos_retake(reply->alloc, reply->data, reply->size_bytes);
        if (data != NULL) {
            reply->data = data;
            reply->capacity_bytes = reply->size_bytes;
        }
    }
    return err;
}

void dbos_reply_cut(struct dbos_engine *engine, struct dbos_buf *reply, size_t start) {
    dbos_buf_reset(reply);
    reply->size_bytes = start;
    if (start == 0 && reply->alloc == dbos_engine_reply_alloc(engine)) {
        dbos_buf_fini(reply);
        dbos_buf_init(reply, dbos_engine_session_alloc(engine));
    }
}
