#include "tools/dbosctl_top.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/env.h"

enum {
    STATEMENT_LINES = 10,
    MEMORY_LINES = 10,
    QUANTILES = 2,
};

/* -- readings -------------------------------------------------------------------------------------
 */

enum view { LATENCY, HISTOGRAM, PARTITIONS, LOG, ARCHIVE, STATEMENTS, SESSIONS, MEMORY, VIEWS };

/* Keys come first: rows of two readings are matched by them. */
static const char *const queries[VIEWS] = {
    [LATENCY] = "SELECT name, count, max_us FROM dbos.latency",
    [HISTOGRAM] = "SELECT name, from_us, to_us, count FROM dbos.histogram",
    [PARTITIONS] = "SELECT kind, partition, executed, queue_depth, busy_us FROM dbos.partitions",
    [LOG] = ("SELECT 'log', records, batches, syncs, bytes, in_flight_bytes, last_position, "
             "durable_position FROM dbos.log"),
    [ARCHIVE] = ("SELECT 'archive', state, class, lag_positions, lag_bytes, lag_s, waiting "
                 "FROM dbos.archive"),
    [STATEMENTS] = "SELECT kind, name, calls, errors, total_us FROM dbos.statements",
    [SESSIONS] = "SELECT 'sessions', count(*), coalesce(sum(in_flight), 0) FROM dbos.sessions",
    [MEMORY] = "SELECT area, name, bytes FROM dbos.memory ORDER BY bytes DESC",
};

struct reading {
    uint64_t at_ns;
    PGresult *results[VIEWS];
};

static void drop(struct reading *reading) {
    for (int i = 0; i < VIEWS; i++) {
        PQclear(reading->results[i]);
        reading->results[i] = NULL;
    }
}

static bool take(PGconn *connection, struct reading *out) {
    struct dbos_env *env = dbos_env_posix();
    *out = (struct reading){.at_ns = env->ops->mono_ns(env)};
    for (int i = 0; i < VIEWS; i++) {
        out->results[i] = PQexec(connection, queries[i]);
        if (PQresultStatus(out->results[i]) != PGRES_TUPLES_OK) {
            (void)fprintf(stderr, "dbosctl: %s", PQresultErrorMessage(out->results[i]));
            drop(out);
            return false;
        }
    }
    return true;
}

static const char *text(const struct reading *reading, enum view view, int row, int column) {
    return PQgetvalue(reading->results[view], row, column);
}

static double number(const struct reading *reading, enum view view, int row, int column) {
    return strtod(text(reading, view, row, column), NULL);
}

static int rows_of(const struct reading *reading, enum view view) {
    return PQntuples(reading->results[view]);
}

/* Two readings, and how many seconds lie between them. */
struct pair {
    struct reading before;
    struct reading now;
    double seconds;
};

/* The row of the reading before with the same first `keys` columns; -1 = it was not there. */
static int row_before(const struct pair *pair, enum view view, int row, int keys) {
    for (int i = 0; i < rows_of(&pair->before, view); i++) {
        bool same = true;
        for (int k = 0; k < keys && same; k++) {
            same = strcmp(text(&pair->before, view, i, k), text(&pair->now, view, row, k)) == 0;
        }
        if (same) {
            return i;
        }
    }
    return -1;
}

/* How much a counter has grown. */
static double growth(const struct pair *pair, enum view view, int row, int keys, int column) {
    int before = row_before(pair, view, row, keys);
    double was = before < 0 ? 0 : number(&pair->before, view, before, column);
    return number(&pair->now, view, row, column) - was;
}

static double rate(const struct pair *pair, enum view view, int row, int keys, int column) {
    return growth(pair, view, row, keys, column) / pair->seconds;
}

/* -- latencies ------------------------------------------------------------------------------------
 */

/* The middle of the bucket that holds the quantile of what came between the readings. */
static double quantile(const struct pair *pair, const char *name, double share) {
    double total = 0;
    double seen = 0;
    for (int pass = 0; pass < 2; pass++) {
        for (int i = 0; i < rows_of(&pair->now, HISTOGRAM); i++) {
            if (strcmp(text(&pair->now, HISTOGRAM, i, 0), name) != 0) {
                continue;
            }
            double count = growth(pair, HISTOGRAM, i, 2, 3);
            total += pass == 0 ? count : 0;
            seen += pass == 0 ? 0 : count;
            if (pass == 1 && count > 0 && seen >= total * share) {
                return (number(&pair->now, HISTOGRAM, i, 1) + number(&pair->now, HISTOGRAM, i, 2)) /
                       2;
            }
        }
    }
    return 0;
}

static void print_latencies(const struct pair *pair) {
    (void)printf("\nLATENCY us          per s        p50        p99   max ever\n");
    for (int i = 0; i < rows_of(&pair->now, LATENCY); i++) {
        const char *name = text(&pair->now, LATENCY, i, 0);
        (void)printf("%-14s %10.0f %10.1f %10.1f %10.1f\n", name, rate(pair, LATENCY, i, 1, 1),
                     quantile(pair, name, 0.5), quantile(pair, name, 0.99),
                     number(&pair->now, LATENCY, i, 2));
    }
}

/* -- the other parts ------------------------------------------------------------------------------
 */

static void print_head(const struct pair *pair, const char *where) {
    double executed = 0;
    for (int i = 0; i < rows_of(&pair->now, PARTITIONS); i++) {
        executed += rate(pair, PARTITIONS, i, 2, 2);
    }
    (void)printf("dbosd %s  sessions %s  in flight %s  requests/s %.0f  position %s  durable %s\n",
                 where, text(&pair->now, SESSIONS, 0, 1), text(&pair->now, SESSIONS, 0, 2),
                 executed, text(&pair->now, LOG, 0, 6), text(&pair->now, LOG, 0, 7));
}

static void print_partitions(const struct pair *pair) {
    (void)printf("\nPARTITION           per s     busy %%      queue\n");
    for (int i = 0; i < rows_of(&pair->now, PARTITIONS); i++) {
        (void)printf("%-10s %3s %10.0f %10.1f %10s\n", text(&pair->now, PARTITIONS, i, 0),
                     text(&pair->now, PARTITIONS, i, 1), rate(pair, PARTITIONS, i, 2, 2),
                     rate(pair, PARTITIONS, i, 2, 4) / 10000, text(&pair->now, PARTITIONS, i, 3));
    }
}

static void print_log(const struct pair *pair) {
    double records = rate(pair, LOG, 0, 1, 1);
    double batches = rate(pair, LOG, 0, 1, 2);
    (void)printf(
        "\nLOG  records/s  batches/s  records/batch    syncs/s       MB/s  in flight MB\n");
    (void)printf("%14.0f %10.0f %14.1f %10.0f %10.2f %13.2f\n", records, batches,
                 batches > 0 ? records / batches : 0, rate(pair, LOG, 0, 1, 3),
                 rate(pair, LOG, 0, 1, 4) / 1048576, number(&pair->now, LOG, 0, 5) / 1048576);
}

static void print_archive(const struct pair *pair) {
    (void)printf(
        "\nARCHIVE      state   class  lag txns     lag MB      lag s  requests waiting\n");
    (void)printf("%18s %7s %9s %10.1f %10.1f %17s\n", text(&pair->now, ARCHIVE, 0, 1),
                 text(&pair->now, ARCHIVE, 0, 2), text(&pair->now, ARCHIVE, 0, 3),
                 number(&pair->now, ARCHIVE, 0, 4) / 1048576, number(&pair->now, ARCHIVE, 0, 5),
                 text(&pair->now, ARCHIVE, 0, 6));
}

/* The row with the largest growth below `limit`; -1 = there is none. */
static int next_busiest(const struct pair *pair, double limit, int after) {
    int best = -1;
    double most = -1;
    for (int i = 0; i < rows_of(&pair->now, STATEMENTS); i++) {
        double calls = growth(pair, STATEMENTS, i, 2, 2);
        bool is_next = calls < limit || (calls == limit && i > after);
        if (is_next && calls > most) {
            most = calls;
            best = i;
        }
    }
    return best;
}

static void print_statements(const struct pair *pair) {
    double limit = 1e300;
    int row = -1;
    (void)printf("\nSTATEMENT                                per s   errors/s    mean us\n");
    for (int line = 0; line < STATEMENT_LINES; line++) {
        row = next_busiest(pair, limit, row);
        if (row < 0) {
            return;
        }
        double calls = growth(pair, STATEMENTS, row, 2, 2);
        double us = growth(pair, STATEMENTS, row, 2, 4);
        limit = calls;
        (void)printf("%-10s %-24s %10.0f %10.0f %10.1f\n", text(&pair->now, STATEMENTS, row, 0),
                     text(&pair->now, STATEMENTS, row, 1), calls / pair->seconds,
                     rate(pair, STATEMENTS, row, 2, 3), calls > 0 ? us / calls : 0);
    }
}

static void print_memory(const struct pair *pair) {
    double rest = 0;
    double shown = 0;
    int lines = 0;
    (void)printf("\nMEMORY MB\n");
    for (int i = 0; i < rows_of(&pair->now, MEMORY); i++) {
        double bytes = number(&pair->now, MEMORY, i, 2);
        if (strcmp(text(&pair->now, MEMORY, i, 0), "process") == 0) {
            continue;
        }
        shown += bytes;
        if (lines++ >= MEMORY_LINES) {
            rest += bytes;
            continue;
        }
        (void)printf("%-10s %-44s %10.2f\n", text(&pair->now, MEMORY, i, 0),
                     text(&pair->now, MEMORY, i, 1), bytes / 1048576);
    }
    (void)printf("%-55s %10.2f\n%-55s %10.2f\n", "all others", rest / 1048576, "sum",
                 shown / 1048576);
    for (int i = 0; i < rows_of(&pair->now, MEMORY); i++) {
        if (strcmp(text(&pair->now, MEMORY, i, 0), "process") == 0) {
            (void)printf("%-10s %-44s %10.2f\n", "process", text(&pair->now, MEMORY, i, 1),
                         number(&pair->now, MEMORY, i, 2) / 1048576);
        }
    }
}

static void print_all(const struct pair *pair, const struct dbosctl_top_options *options) {
    if (!options->once && isatty(STDOUT_FILENO)) {
        (void)printf("\033[H\033[2J");
    }
    print_head(pair, options->where);
    print_latencies(pair);
    print_partitions(pair);
    print_log(pair);
    print_archive(pair);
    print_statements(pair);
    print_memory(pair);
    (void)fflush(stdout);
}

bool dbosctl_top(PGconn *connection, const struct dbosctl_top_options *options) {
    struct dbos_env *env = dbos_env_posix();
    struct pair pair = {.seconds = 1};
    bool fine = take(connection, &pair.before);
    bool more = fine;
    while (more) {
        env->ops->sleep_us(env, (uint64_t)options->interval_ms * 1000);
        fine = take(connection, &pair.now);
        if (fine) {
            pair.seconds = (double)(pair.now.at_ns - pair.before.at_ns) / 1e9;
            print_all(&pair, options);
        }
        drop(&pair.before);
        pair.before = pair.now;
        more = fine && !options->once && ferror(stdout) == 0;
    }
    drop(&pair.before);
    return fine;
}
