/* dbos.partitions, dbos.statements, dbos.latency and dbos.histogram: what the meters have counted.
 */
#include "engine/engine_internal.h"
#include "engine/views.h"

static struct dbos_histogram_reading *take_reading(struct dbos_view_rows *rows) {
    return dbos_arena_take_zero(rows->arena, sizeof(struct dbos_histogram_reading));
}

static uint64_t load(const _Atomic uint64_t *counter) {
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static double mean_us(const struct dbos_histogram_reading *reading) {
    return reading->count == 0 ? 0 : (double)reading->sum / (double)reading->count / 1000;
}

/* -- dbos.partitions ------------------------------------------------------------------------------
 */

static enum dbos_err put_partition(struct dbos_engine *engine, uint32_t i,
                                   struct dbos_view_rows *rows) {
    const struct dbos_meter *meter = &engine->meters[i];
    bool is_barrier = i == engine->partition_count;
    struct dbos_histogram_reading *run = take_reading(rows);
    struct dbos_histogram_reading *wait = take_reading(rows);
    if (run == NULL || wait == NULL) {
        return DBOS_ERR_NOMEM;
    }
    uint64_t executed = load(&meter->executed); /* before those that came */
    uint64_t submitted = load(&meter->submitted);
    dbos_meter_read(meter, run);
    dbos_histogram_read(&meter->wait, wait);
    struct dbos_datum row[] = {
        is_barrier ? dbos_datum_null(DBOS_TYPE_INT4) : dbos_view_integer(i),
        dbos_view_text(is_barrier ? "barrier" : "partition"),
        dbos_view_bigint(executed),
        dbos_view_bigint(submitted > executed ? submitted - executed : 0),
        dbos_view_bigint(run->sum / 1000),
        dbos_view_us(dbos_histogram_quantile(run, 500)),
        dbos_view_us(dbos_histogram_quantile(run, 990)),
        dbos_view_us(run->max),
        dbos_view_us(dbos_histogram_quantile(wait, 500)),
        dbos_view_us(dbos_histogram_quantile(wait, 990)),
        dbos_view_us(wait->max),
    };
    return dbos_view_add(rows, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_partitions(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i <= engine->partition_count && err == DBOS_OK; i++) {
        err = put_partition(engine, i, rows);
    }
    return err;
}

/* -- dbos.statements ------------------------------------------------------------------------------
 */

/* One procedure or kind of statement, over all partitions and the barrier. */
struct statement {
    struct statement *next;
    const struct dbos_statement_meter *meter; /* one of them: its name */
    uint64_t calls;
    uint64_t errors;
    struct dbos_histogram_reading run;
};
struct statements {
    struct dbos_arena *arena;
    struct statement *first;
    enum dbos_err err;
};

static void add_statement(void *arg, const struct dbos_statement_meter *meter) {
    struct statements *all = arg;
    struct statement *at = all->first;
    while (at != NULL && at->meter->key != meter->key) {
        at = at->next;
    }
    if (at == NULL) {
        at = dbos_arena_take_zero(all->arena, sizeof *at);
        if (at == NULL) {
            all->err = DBOS_ERR_NOMEM;
            return;
        }
        at->meter = meter;
        at->next = all->first;
        all->first = at;
    }
    at->calls += load(&meter->calls);
    at->errors += load(&meter->errors);
    dbos_histogram_read(&meter->run, &at->run);
}

static enum dbos_err put_statement(const struct statement *statement, struct dbos_view_rows *rows) {
    const struct dbos_histogram_reading *run = &statement->run;
    struct dbos_datum row[] = {
        dbos_view_text(statement->meter->name),
        dbos_view_text(dbos_meter_is_procedure(statement->meter) ? "procedure" : "statement"),
        dbos_view_bigint(statement->calls),
        dbos_view_bigint(statement->errors),
        dbos_view_bigint(run->sum / 1000),
        dbos_datum_real(mean_us(run)),
        dbos_view_us(dbos_histogram_quantile(run, 500)),
        dbos_view_us(dbos_histogram_quantile(run, 990)),
        dbos_view_us(run->max),
    };
    return dbos_view_add(rows, row, sizeof row / sizeof row[0]);
}

enum dbos_err dbos_views_statements(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    struct statements all = {.arena = rows->arena};
    for (uint32_t i = 0; i <= engine->partition_count; i++) {
        dbos_meter_each(&engine->meters[i], add_statement, &all);
    }
    for (const struct statement *at = all.first; at != NULL && all.err == DBOS_OK; at = at->next) {
        all.err = put_statement(at, rows);
    }
    return all.err;
}

/* -- dbos.latency and dbos.histogram --------------------------------------------------------------
 */

enum time_kind {
    TIME_REQUEST,
    TIME_WAIT,
    TIME_RUN,
    TIME_BARRIER_WAIT,
    TIME_BARRIER_RUN,
    TIME_LOG_SYNC,
    TIME_KINDS,
};

static const char *const time_names[TIME_KINDS] = {
    "request", "wait", "run", "barrier wait", "barrier run", "log sync",
};

static void read_time(struct dbos_engine *engine, enum time_kind kind,
                      struct dbos_histogram_reading *out) {
    bool is_barrier = kind == TIME_BARRIER_WAIT || kind == TIME_BARRIER_RUN;
    uint32_t first = is_barrier ? engine->partition_count : 0;
    uint32_t end = is_barrier ? first + 1 : engine->partition_count;
    if (kind == TIME_REQUEST) {
        dbos_histogram_read(&engine->request_times, out);
        return;
    }
    if (kind == TIME_LOG_SYNC) {
        dbos_histogram_read(dbos_log_sync_times(engine->log), out);
        return;
    }
    for (uint32_t i = first; i < end; i++) {
        if (kind == TIME_WAIT || kind == TIME_BARRIER_WAIT) {
            dbos_histogram_read(&engine->meters[i].wait, out);
        } else {
            dbos_meter_read(&engine->meters[i], out);
        }
    }
}

enum dbos_err dbos_views_latency(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < TIME_KINDS && err == DBOS_OK; i++) {
        struct dbos_histogram_reading *reading = take_reading(rows);
        if (reading == NULL) {
            return DBOS_ERR_NOMEM;
        }
        read_time(engine, (enum time_kind)i, reading);
        struct dbos_datum row[] = {
            dbos_view_text(time_names[i]),
            dbos_view_bigint(reading->count),
            dbos_datum_real(mean_us(reading)),
            dbos_view_us(dbos_histogram_quantile(reading, 500)),
            dbos_view_us(dbos_histogram_quantile(reading, 990)),
            dbos_view_us(reading->max),
        };
        err = dbos_view_add(rows, row, sizeof row / sizeof row[0]);
    }
    return err;
}

static enum dbos_err put_buckets(const char *name, const struct dbos_histogram_reading *reading,
                                 struct dbos_view_rows *rows) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < DBOS_HISTOGRAM_BUCKETS && err == DBOS_OK; i++) {
        struct dbos_datum row[] = {
            dbos_view_text(name),
            dbos_view_us(dbos_histogram_low(i)),
            dbos_view_us(dbos_histogram_low(i + 1)),
            dbos_view_bigint(reading->counts[i]),
        };
        if (reading->counts[i] != 0) {
            err = dbos_view_add(rows, row, sizeof row / sizeof row[0]);
        }
    }
    return err;
}

enum dbos_err dbos_views_histogram(struct dbos_engine *engine, struct dbos_view_rows *rows) {
    enum dbos_err err = DBOS_OK;
    for (uint32_t i = 0; i < TIME_KINDS && err == DBOS_OK; i++) {
        struct dbos_histogram_reading *reading = take_reading(rows);
        if (reading == NULL) {
            return DBOS_ERR_NOMEM;
        }
        read_time(engine, (enum time_kind)i, reading);
        err = put_buckets(time_names[i], reading, rows);
    }
    return err;
}
