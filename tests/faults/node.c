#include "tests/faults/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

enum { DRAIN_MS = 5000, LINES_MAX = 512, SEGMENT_BYTES = 32768, SHOWN_BYTES = 48 };

/* -- start and stop ------------------------------------------------------------------------------
 */

static enum dbos_err open_both(struct fault_node *node, const char *dir,
                               struct dbos_errinfo *info) {
    struct dbos_engine_options options = {.env = &node->disk.env,
                                          .data_dir = dir,
                                          .partitions = 2,
                                          .durability = DBOS_DURABILITY_SYNC,
                                          .snapshot_log_bytes = UINT64_MAX,
                                          .program_dir = DBOS_BIN_DIR,
                                          .segment_bytes = SEGMENT_BYTES};
    struct dbos_net_options net_options = {.loop = DBOS_LOOP_POLL};
    enum dbos_err err = dbos_engine_open(&node->alloc, &options, &node->engine, info);
    return err == DBOS_OK
               ? dbos_net_open(&node->alloc, node->engine, &net_options, &node->net, info)
               : err;
}

/* As dbosd does it, errors too. */
enum dbos_err fault_node_start(struct fault_node *node, const char *dir,
                               struct dbos_errinfo *info) {
    dbos_alloc_init(&node->alloc, "node", 0);
    node->engine = NULL;
    node->net = NULL;
    enum dbos_err err = open_both(node, dir, info);
    if (err == DBOS_OK) {
        err = dbos_engine_start(node->engine, dbos_net_durable, node->net, info);
        if (err == DBOS_OK) {
            err = dbos_net_start(node->net, info);
            if (err == DBOS_OK) {
                return DBOS_OK;
            }
            dbos_net_stop(node->net);
            dbos_engine_stop(node->engine);
        } else {
            dbos_net_stop(node->net);
        }
    }
    dbos_engine_close(node->engine);
    dbos_net_close(node->net);
    dbos_alloc_fini(&node->alloc);
    return err;
}

struct tables {
    struct dbos_store *store;
    uint32_t ids[LINES_MAX];
    uint32_t parts[LINES_MAX];
    uint32_t count;
};

static void note_table(void *arg, const struct dbos_table_facts *facts) {
    struct tables *tables = arg;
    DBOS_CHECK(tables->count < LINES_MAX);
    tables->ids[tables->count] = facts->def->id;
    tables->parts[tables->count++] = facts->parts;
}

static bool is_consistent(struct dbos_store *store) {
    static struct tables tables;
    bool is_good = true;
    tables = (struct tables){.store = store};
    dbos_store_each_table(store, note_table, &tables);
    for (uint32_t i = 0; i < tables.count; i++) {
        for (uint32_t part = 0; part < tables.parts[i]; part++) {
            struct dbos_table *table = dbos_store_table(store, tables.ids[i], part);
            is_good = is_good && table != NULL && dbos_table_consistent(table);
        }
    }
    return is_good;
}

bool fault_node_stop(struct fault_node *node) {
    (void)dbos_net_drain(node->net, DRAIN_MS);
    dbos_net_stop(node->net);
    dbos_engine_stop(node->engine);
    bool is_good = is_consistent(node->engine->store);
    dbos_engine_close(node->engine);
    dbos_net_close(node->net);
    dbos_alloc_fini(&node->alloc);
    return is_good;
}

/* -- the client ----------------------------------------------------------------------------------
 */

PGconn *fault_node_connect(const struct fault_node *node) {
    char words[128];
    (void)snprintf(words, sizeof words,
                   "host=127.0.0.1 port=%u user=ana dbname=dbos sslmode=disable gssencmode=disable",
                   dbos_net_port(node->net));
    PGconn *conn = PQconnectdb(words);
    DBOS_CHECK(conn != NULL);
    return conn;
}

struct text {
    char *out;
    size_t room_bytes;
    size_t used_bytes;
};

static void put(struct text *text, const char *format, ...) DBOS_PRINTF(2, 3);
static void put(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size =
        vsnprintf(text->out + text->used_bytes, text->room_bytes - text->used_bytes, format, args);
    va_end(args);
    DBOS_CHECK(size >= 0 && (size_t)size < text->room_bytes - text->used_bytes);
    text->used_bytes += (size_t)size;
}

/* The beginning of a value, and a hash of all of it. */
static void put_value(struct text *text, const char *value, size_t size_bytes) {
    if (size_bytes <= SHOWN_BYTES) {
        put(text, "|%s", value);
    } else {
        struct dbos_hash128 hash = dbos_hash128(0, value, size_bytes);
        put(text, "|%.16s... %016llx", value, (unsigned long long)hash.low);
    }
}

static int compare_lines(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void put_rows(struct text *text, const PGresult *result) {
    static char line[65536];
    char *lines[LINES_MAX];
    int count = PQntuples(result);
    DBOS_CHECK(count <= LINES_MAX);
    for (int row = 0; row < count; row++) {
        struct text one = {.out = line, .room_bytes = sizeof line};
        for (int column = 0; column < PQnfields(result); column++) {
            bool is_null = PQgetisnull(result, row, column) != 0;
            put_value(&one, is_null ? "NULL" : PQgetvalue(result, row, column),
                      is_null ? 4 : (size_t)PQgetlength(result, row, column));
        }
        lines[row] = strdup(line);
    }
    qsort(lines, (size_t)count, sizeof lines[0], compare_lines);
    for (int row = 0; row < count; row++) {
        put(text, "%s\n", lines[row]);
        free(lines[row]);
    }
}

static PGresult *ask(PGconn *conn, struct text *text, const char *sql) {
    PGresult *result = PQexec(conn, sql);
    if (PQresultStatus(result) == PGRES_TUPLES_OK) {
        return result;
    }
    text->used_bytes = 0;
    put(text, "%s: %s", sql, PQerrorMessage(conn));
    PQclear(result);
    return NULL;
}

bool fault_node_dump(PGconn *conn, char *out, size_t out_bytes) {
    struct text text = {.out = out, .room_bytes = out_bytes};
    char sql[256];
    PGresult *catalog = ask(conn, &text,
                            "SELECT kind, id, name, version, definition "
                            "FROM dbos.catalog ORDER BY kind, id");
    if (catalog == NULL) {
        return false;
    }
    bool is_whole = true;
    put_rows(&text, catalog);
    for (int row = 0; is_whole && row < PQntuples(catalog); row++) {
        if (strcmp(PQgetvalue(catalog, row, 0), "1") != 0) {
            continue;
        }
        (void)snprintf(sql, sizeof sql, "SELECT * FROM %s", PQgetvalue(catalog, row, 2));
        PGresult *rows = ask(conn, &text, sql);
        is_whole = rows != NULL;
        if (is_whole) {
            put(&text, "%s:\n", PQgetvalue(catalog, row, 2));
            put_rows(&text, rows);
        }
        PQclear(rows);
    }
    PQclear(catalog);
    return is_whole;
}
