/* dbos.archive, dbos.log, dbos.sessions, dbos.snapshot, dbos.tables, and the way to the others. */
#include "engine/views.h"

#include "engine/engine_internal.h"
#include "provenance/archive_protocol.h"

enum dbos_err dbos_views_fill(void *engine, struct dbos_view_rows *rows) {
    switch (rows->view) {
    case DBOS_VIEW_ARCHIVE:
        return dbos_views_archive(engine, rows);
    case DBOS_VIEW_HISTOGRAM:
        return dbos_views_histogram(engine, rows);
    case DBOS_VIEW_LATENCY:
        return dbos_views_latency(engine, rows);
    case DBOS_VIEW_LOG:
        return dbos_views_log(engine, rows);
    case DBOS_VIEW_MEMORY:
        return dbos_views_memory(engine, rows);
    case DBOS_VIEW_PARTITIONS:
        return dbos_views_partitions(engine, rows);
    case DBOS_VIEW_SESSIONS:
        return dbos_views_sessions(engine, rows);
    case DBOS_VIEW_SNAPSHOT:
        return dbos_views_snapshot(engine, rows);
    case DBOS_VIEW_STATEMENTS:
        return dbos_views_statements(engine, rows);
    case DBOS_VIEW_TABLES:
        return dbos_views_tables(engine, rows);
    case DBOS_VIEWS:
        break;
    }
    DBOS_CHECK(!"a view without rows");
    return DBOS_OK;
}

/* What goes into a list that is walked by somebody else. */
struct listing {
    struct dbos_view_rows *rows;
    enum dbos_err err; /* the first one */
};

static void put(struct listing *listing, const struct dbos_datum *row, uint32_t count) {
    if (listing->err == DBOS_OK) {
        listing->err = dbos_view_add(listing->rows, row, count);
    }
}

static struct dbos_datum bigint_or_null(bool is_there, uint64_t value) {
    return is_there ? dbos_view_bigint(value) : dbos_datum_null(DBOS_TYPE_INT8);
}

static struct dbos_datum archive_class(const struct dbos_archive_facts *facts) {
    if (facts->process == 0 || !facts->is_known) {
        return dbos_datum_null(DBOS_TYPE_TEXT);
    }
    return dbos_view_text(facts->pace == DBOS_ARCHIVE_PATIENT  ? "idle"
                          : facts->pace == DBOS_ARCHIVE_NORMAL ? "normal"
                                                               : "nice");
}

static const char *archive_state(const struct dbos_archive_facts *facts) {
    if (!facts->is_on) {
        return "off";
    }
    return facts->process != 0 ? "running" : "ended";
}

enum dbos_err dbos_views_archive(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct dbos_archive_facts facts;
    const struct dbos_archive_gate *gate = &engine->archive_gate;
    dbos_archive_service_facts(engine->archive, &facts);
    bool is_on = facts.is_on;
    bool has_max = is_on && facts.backlog_max != UINT64_MAX;
    struct dbos_datum row[] = {
        dbos_view_text(archive_state(&facts)),
        archive_class(&facts),
        facts.process == 0 ? dbos_datum_null(DBOS_TYPE_INT4)
                           : dbos_view_integer((uint32_t)facts.process),
        dbos_view_bigint(facts.starts),
        dbos_view_bigint(dbos_log_durable(engine->log)),
        bigint_or_null(facts.is_known, facts.taken),
        bigint_or_null(facts.is_known, facts.exported),
        bigint_or_null(is_on, facts.position > facts.taken ? facts.position - facts.taken : 0),
        bigint_or_null(is_on, facts.lag_bytes),
        is_on ? dbos_datum_real((double)facts.lag_ns / 1e9) : dbos_datum_null(DBOS_TYPE_FLOAT8),
        bigint_or_null(has_max, facts.backlog_max),
        dbos_datum_int(DBOS_TYPE_BOOL, !dbos_archive_gate_is_open(gate)),
        dbos_view_integer(atomic_load(&gate->waiting)),
        dbos_view_bigint(atomic_load(&gate->waits)),
        dbos_view_bigint(atomic_load(&gate->refused)),
    };
    return dbos_view_add(rows, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_snapshot(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct dbos_snapshots_stats stats;
    dbos_snapshots_stats(engine->snapshots, &stats);
    bool is_any = stats.last.position != 0;
    struct dbos_datum row[] = {
        dbos_view_text(stats.is_taking ? "taking" : "idle"),
        bigint_or_null(is_any, stats.last.position),
        is_any ? dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, stats.last.taken_us)
               : dbos_datum_null(DBOS_TYPE_TIMESTAMPTZ),
        bigint_or_null(is_any, stats.last.rows),
        bigint_or_null(is_any, stats.last.bytes),
        bigint_or_null(stats.taken != 0, stats.took_ns / 1000),
        dbos_view_bigint(stats.taken),
        dbos_view_bigint(stats.failed),
        dbos_view_bigint(stats.segments_removed),
    };
    return dbos_view_add(rows, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_log(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct dbos_log_stats stats;
    struct dbos_histogram_reading *syncs = dbos_arena_take_zero(rows->arena, sizeof *syncs);
    if (syncs == NULL) {
        return DBOS_ERR_NOMEM;
    }
    dbos_log_stats(engine->log, &stats);
    dbos_histogram_read(dbos_log_sync_times(engine->log), syncs);
    double batches = stats.batches == 0 ? 1 : (double)stats.batches;
    struct dbos_datum row[] = {
        dbos_view_bigint(stats.records),
        dbos_view_bigint(stats.batches),
        dbos_view_bigint(stats.syncs),
        dbos_view_bigint(stats.bytes),
        dbos_view_bigint(stats.blob_bytes),
        dbos_view_bigint(stats.segments),
        dbos_view_bigint(stats.in_flight_bytes),
        dbos_view_bigint(stats.room_waits),
        dbos_datum_real((double)stats.records / batches),
        dbos_view_us(dbos_histogram_quantile(syncs, 500)),
        dbos_view_us(dbos_histogram_quantile(syncs, 990)),
        dbos_view_us(syncs->max),
        dbos_view_bigint(dbos_log_last_position(engine->log)),
        dbos_view_bigint(dbos_log_durable(engine->log)),
        dbos_datum_int(DBOS_TYPE_BOOL, dbos_log_is_disk_full(engine->log)),
    };
    return dbos_view_add(rows, row, sizeof row / sizeof row[0]);
}

static void put_session(void *arg, const struct dbos_session_entry *entry) {
    uint32_t in_flight = atomic_load_explicit(&entry->in_flight, memory_order_relaxed);
    struct dbos_datum row[] = {
        dbos_view_bigint(entry->id),
        dbos_view_text(entry->user),
        dbos_view_text(entry->application),
        dbos_view_text(entry->address),
        dbos_view_text(in_flight == 0 ? "idle" : "active"),
        dbos_datum_int(DBOS_TYPE_TIMESTAMPTZ, entry->connected_us),
        dbos_view_bigint(atomic_load_explicit(&entry->statements, memory_order_relaxed)),
        dbos_view_integer(in_flight),
        dbos_view_bigint(atomic_load_explicit(&entry->buffered_bytes, memory_order_relaxed)),
    };
    put(arg, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_sessions(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct listing listing = {.rows = rows};
    dbos_session_list_each(&engine->sessions, put_session, &listing);
    return listing.err;
}

static void put_table(void *arg, const struct dbos_table_facts *facts) {
    const struct dbos_table_def *def = facts->def;
    uint64_t index_bytes = 0;
    for (uint32_t i = 0; i < def->index_count; i++) {
        index_bytes += facts->index_bytes[i];
    }
    struct dbos_datum row[] = {
        dbos_view_text(def->schema),
        dbos_view_text(def->name),
        dbos_view_bigint(facts->rows),
        dbos_view_bigint(facts->bytes),
        dbos_view_bigint(index_bytes),
        dbos_view_integer(facts->parts),
        dbos_view_integer(def->index_count),
        def->partition_column < 0 ? dbos_datum_null(DBOS_TYPE_TEXT)
                                  : dbos_view_text(def->columns[def->partition_column].name),
    };
    put(arg, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_tables(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct listing listing = {.rows = rows};
    dbos_store_each_table(engine->store, put_table, &listing);
    return listing.err;
}
