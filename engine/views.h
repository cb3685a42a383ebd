/* The rows of the system views (procs/sql/view.h): what this node's counters say now.
 *
 * A statement that reads a view runs in a partition, or under the barrier, as any other one. That
 * is what makes it safe to look: no definition changes and no table comes or goes meanwhile,
 * because the barrier would need this partition. Everything else is read from atomic counters that
 * go on counting, or under a lock that is held for a copy: no partition stops. The rows of one
 * statement are of one moment, give or take what happened while they were made.
 *
 * Thread: those of partitions and the barrier. Memory: rows in the statement's arena. */
#ifndef DBOS_ENGINE_VIEWS_H
#define DBOS_ENGINE_VIEWS_H

#include "procs/sql/view.h"

struct dbos_engine;

/* The fill of struct dbos_views; `engine` is its arg. */
enum dbos_err dbos_views_fill(void *engine, struct dbos_view_rows *rows);

/* One for each view, in views.c, views_memory.c and views_times.c. Errors: NOMEM. */
enum dbos_err dbos_views_archive(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_histogram(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_latency(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_log(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_memory(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_partitions(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_sessions(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_snapshot(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_statements(struct dbos_engine *engine, struct dbos_view_rows *rows);
enum dbos_err dbos_views_tables(struct dbos_engine *engine, struct dbos_view_rows *rows);

static inline struct dbos_datum dbos_view_text(const char *text) {
    return dbos_datum_bytes(DBOS_TYPE_TEXT, text, strlen(text));
}
static inline struct dbos_datum dbos_view_bigint(uint64_t value) {
    return dbos_datum_int(DBOS_TYPE_INT8, value > INT64_MAX ? INT64_MAX : (int64_t)value);
}
static inline struct dbos_datum dbos_view_integer(uint32_t value) {
    return dbos_datum_int(DBOS_TYPE_INT4, value > INT32_MAX ? INT32_MAX : (int32_t)value);
}
/* Nanoseconds as microseconds. */
static inline struct dbos_datum dbos_view_us(uint64_t ns) {
    return dbos_datum_real((double)ns / 1000);
}

#endif /* DBOS_ENGINE_VIEWS_H */
