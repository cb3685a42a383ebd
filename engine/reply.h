/* Memory of replies. A small one (64 KiB) is its session's; a larger one is moved to an allocator
 * of the node that all of them share and that has a limit, so that what clients ask for and do not
 * read is bounded. There is always room for a small one, an error's too.
 *
 * Thread: whose the request is. Memory: a reply that is no longer small grows from
 * dbos_engine_reply_alloc(), until it is dropped or its buffer is given back. */
#ifndef DBOS_ENGINE_REPLY_H
#define DBOS_ENGINE_REPLY_H

#include "engine/engine.h"

enum {
    DBOS_REPLY_SMALL_BYTES_MAX = 64 * 1024,
    DBOS_REPLY_MEMORY_MB = 1024, /* what all others hold together; default */
};

/* After each piece that was written: may the reply go on growing?
 * Errors: NOMEM (none left for replies), LIMIT (larger than a result may be). */
enum dbos_err dbos_reply_check(struct dbos_engine *engine, struct dbos_buf *reply,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* It is complete: check it once more, and give back what it has taken and does not use. Errors: as
 * dbos_reply_check(). */
enum dbos_err dbos_reply_finish(struct dbos_engine *engine, struct dbos_buf *reply,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* Forget what was written from `start` on, and that memory was short; a large one that is empty
 * then gives its memory back and is a small one again. */
void dbos_reply_cut(struct dbos_engine *engine, struct dbos_buf *reply, size_t start);

#endif /* DBOS_ENGINE_REPLY_H */
