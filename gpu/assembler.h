/* Puts the pieces of tasks, models and results together: in any order, repeated ones dropped,
 * within a limit of memory and time. Used at both ends of the wire.
 *
 * Thread: an assembler is used by one thread at a time.
 * Memory: from its allocator, up to its limits. */
#ifndef DBOS_GPU_ASSEMBLER_H
#define DBOS_GPU_ASSEMBLER_H

#include <stdbool.h>
#include <stdint.h>

#include "gpu/frame.h"

struct dbos_alloc;

/* All pieces of one task, model or result. Owned by whoever took it; see dbos_assembly_close(). */
struct dbos_assembly {
    struct dbos_alloc *alloc;
    struct dbos_frame frame; /* of piece 0, with count = the sum over the pieces */
    struct dbos_bytes *pieces;
    uint32_t piece_count;
    uint32_t have;
    uint64_t payload_bytes; /* of the pieces that are here */
    uint64_t count;
    uint64_t first_ns; /* when the first piece came */
    uint64_t last_ns;
    uint64_t expires_ns;
    struct dbos_assembly *next; /* the assembler's */
};

/* NULL is allowed. */
void dbos_assembly_close(struct dbos_assembly *assembly);
/* The pieces one after the other, appended to `buf` (look at buf->failed). */
void dbos_assembly_put(const struct dbos_assembly *assembly, struct dbos_buf *buf);

struct dbos_assembler_options {
    uint64_t bytes_max; /* held for incomplete assemblies, bookkeeping included */
    uint32_t assemblies_max;
    uint64_t idle_ns; /* an assembly without a deadline expires this long after its last piece */
};

struct dbos_assembler {
    struct dbos_alloc *alloc;
    struct dbos_assembler_options options;
    struct dbos_assembly *first;
    uint32_t assemblies;
    uint64_t bytes;
};

void dbos_assembler_init(struct dbos_assembler *assembler, struct dbos_alloc *alloc,
                         const struct dbos_assembler_options *options);
/* Drops what is incomplete. */
void dbos_assembler_fini(struct dbos_assembler *assembler);

/* Add one piece. `payload` is a block of frame->payload_bytes taken from the assembler's allocator
 * (NULL if empty); it is given over, also on error. Pieces belong together by source, kind, task
 * id, attempt, model id and model version. A piece that is here already is dropped. When the last
 * one comes, *out is the assembly, now the caller's; else NULL.
 *
 * Errors: DBOS_ERR_PROTOCOL, the piece contradicts earlier ones (they stay); DBOS_ERR_LIMIT, over
 * bytes_max or assemblies_max: the whole assembly is dropped; DBOS_ERR_NOMEM, likewise. */
enum dbos_err dbos_assembler_add_give(struct dbos_assembler *assembler,
                                      const struct dbos_frame *frame, void *payload,
                                      uint64_t now_ns, struct dbos_assembly **out,
                                      struct dbos_errinfo *info) DBOS_MUST_USE;

/* Drop all incomplete assemblies of a source's task (any attempt up to `attempt`). True if there
 * was one. */
bool dbos_assembler_drop(struct dbos_assembler *assembler, uint64_t source, uint64_t task_id,
                         uint16_t attempt);

/* Drop one assembly whose time is over and say which; false when there is none. Call in a loop. */
bool dbos_assembler_expire(struct dbos_assembler *assembler, uint64_t now_ns,
                           struct dbos_frame *out);

#endif /* DBOS_GPU_ASSEMBLER_H */
