/* dbos.memory: where this process' anonymous memory is. */
#include <stdio.h>

#include "base/process_memory.h"
#include "engine/engine_internal.h"
#include "engine/views.h"

/* What has been listed so far. */
struct listing {
    struct dbos_view_rows *rows;
    enum dbos_err err;
    int64_t total;      /* of all rows */
    uint64_t requested; /* of what was asked of malloc by our allocators */
};

static void put(struct listing *listing, const char *area, const char *name, int64_t bytes) {
    struct dbos_datum row[] = {dbos_view_text(area), dbos_view_text(name),
                               dbos_datum_int(DBOS_TYPE_INT8, bytes)};
    if (listing->err == DBOS_OK) {
        listing->err = dbos_view_add(listing->rows, row, 3);
    }
    listing->total += bytes;
}

static uint64_t held(const struct dbos_alloc *alloc) {
    return atomic_load_explicit(&alloc->bytes, memory_order_relaxed);
}

static void put_alloc(struct listing *listing, const char *area, const char *name,
                      const struct dbos_alloc *alloc) {
    uint64_t bytes = held(alloc);
    listing->requested += bytes;
    put(listing, area, name, (int64_t)bytes);
}

static void put_table(void *arg, const struct dbos_table_facts *facts) {
    struct listing *listing = arg;
    const struct dbos_table_def *def = facts->def;
    char name[3 * DBOS_NAME_BYTES];
    uint64_t rows_bytes = facts->bytes;
    for (uint32_t i = 0; i < def->index_count; i++) {
        uint64_t bytes = facts->index_bytes[i];
        rows_bytes -= bytes < rows_bytes ? bytes : rows_bytes;
        (void)snprintf(name, sizeof name, "%s.%s.%s", def->schema, def->name, def->indexes[i].name);
        put(listing, "index", name, (int64_t)bytes);
    }
    (void)snprintf(name, sizeof name, "%s.%s", def->schema, def->name);
    put(listing, "table", name, (int64_t)rows_bytes);
    listing->requested += facts->bytes;
}

/* The write buffer is as large as the largest batch; most of it is never touched. */
static void put_log(struct listing *listing, struct dbos_engine *engine) {
    const void *buffer = NULL;
    size_t buffer_bytes = dbos_log_buffer(engine->log, &buffer);
    uint64_t bytes = held(&engine->log_alloc);
    listing->requested += bytes;
    put(listing, "log", "segment buffer", (int64_t)dbos_resident_bytes(buffer, buffer_bytes));
    put(listing, "log", "records in flight, objects on disk",
        bytes > buffer_bytes ? (int64_t)(bytes - buffer_bytes) : 0);
}

static void add_buffered(void *arg, const struct dbos_session_entry *entry) {
    uint64_t bytes = atomic_load_explicit(&entry->buffered_bytes, memory_order_relaxed);
    uint64_t large = atomic_load_explicit(&entry->large_bytes, memory_order_relaxed);
    *(uint64_t *)arg += bytes > large ? bytes - large : 0;
}

/* The connections' buffers are the sessions' allocator's, too. */
static void put_sessions(struct listing *listing, struct dbos_engine *engine) {
    uint64_t buffered = 0;
    dbos_session_list_each(&engine->sessions, add_buffered, &buffered);
    uint64_t large = held(&engine->reply_alloc);
    uint64_t bytes = held(&engine->session_alloc);
    listing->requested += bytes;
    bytes -= large < bytes ? large : bytes;
    buffered = buffered < bytes ? buffered : bytes;
    put(listing, "sessions", "large replies", (int64_t)large);
    put(listing, "sessions", "network buffers", (int64_t)buffered);
    put(listing, "sessions", "sessions, statements, replies", (int64_t)(bytes - buffered));
}

static void put_process(struct listing *listing, struct dbos_engine *engine) {
    struct dbos_process_memory process;
    dbos_process_memory(engine->env, &process);
    int64_t heads = (int64_t)process.heap_used - (int64_t)listing->requested;
    put(listing, "allocator", "heads, rounding and libraries", heads > 0 ? heads : 0);
    put(listing, "allocator", "free, touched", (int64_t)process.heap_free);
    put(listing, "stacks", "threads", (int64_t)process.stacks);
    int64_t accounted = listing->total;
    put(listing, "process", "anonymous RSS", (int64_t)process.anonymous_rss);
    put(listing, "process", "unaccounted", (int64_t)process.anonymous_rss - accounted);
}

enum dbos_err dbos_views_memory(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct listing listing = {.rows = rows};
    dbos_store_each_table(engine->store, put_table, &listing);
    put_alloc(&listing, "storage", "catalogue, undo, capture", &engine->storage_alloc);
    put(&listing, "storage", "mapped ahead, for rows", (int64_t)held(&engine->regions_alloc));
    put_alloc(&listing, "objects", "large values", &engine->objects_alloc);
    put_alloc(&listing, "snapshots", "rows on their way to the disk", &engine->snapshots_alloc);
    put_alloc(&listing, "procedures", "modules, plans", &engine->procs_alloc);
    put_log(&listing, engine);
    put_sessions(&listing, engine);
    put_alloc(&listing, "node", "engine, network, counters", engine->alloc);
    put_process(&listing, engine);
    return listing.err;
}
