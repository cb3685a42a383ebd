#include "tests/faults/node.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/engine_internal.h"

enum { DRAIN_MS = 5000, LINES_MAX = 512, SEGMENT_BYTES = 16384, SHOWN_BYTES = 48 };

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

/* Without ids: one that was given out is not used again, whatever became of what had it. */
static void put_definition(struct text *text, const struct dbos_table_def *def) {
    put(text, "%s.%s, version %u, by %d:", def->schema, def->name, def->schema_version,
        def->partition_column);
    for (uint32_t i = 0; i < def->column_count; i++) {
        const struct dbos_column *column = &def->columns[i];
        put(text, " %s %u %d %u '%s'", column->name, column->type, column->not_null,
            column->chars_max, column->default_sql == NULL ? "" : column->default_sql);
    }
    for (uint32_t i = 0; i < def->index_count; i++) {
        const struct dbos_index_def *index = &def->indexes[i];
        put(text, "; %s %u %d %d", index->name, index->kind, index->unique, index->primary);
        for (uint32_t k = 0; k < index->column_count; k++) {
            put(text, " %u", index->columns[k]);
        }
    }
    put(text, "\n");
}

/* What is in force, and what is stored of it. */
static bool put_definitions(const struct fault_node *node, PGconn *conn, struct text *text) {
    struct dbos_catalog *catalog = dbos_engine_catalog_ref(node->engine);
    for (uint32_t i = 0; i < catalog->table_count; i++) {
        put_definition(text, catalog->tables[i]);
    }
    for (uint32_t i = 0; i < catalog->procedure_count; i++) {
        put(text, "%s, version %u\n", catalog->procedures[i]->name,
            catalog->procedures[i]->version);
    }
    dbos_catalog_unref(catalog);
    PGresult *stored = ask(conn, text, "SELECT kind, name, version FROM dbos.catalog");
    if (stored != NULL) {
        put_rows(text, stored);
    }
    PQclear(stored);
    return stored != NULL;
}

static bool put_table(PGconn *conn, struct text *text, const char *name) {
    char sql[256];
    (void)snprintf(sql, sizeof sql, "SELECT * FROM %s", name);
    put(text, "%s:\n", name);
    PGresult *rows = ask(conn, text, sql);
    if (rows != NULL) {
        put_rows(text, rows);
    }
    PQclear(rows);
    return rows != NULL;
}

bool fault_node_dump(const struct fault_node *node, PGconn *conn, char *out, size_t out_bytes) {
    struct text text = {.out = out, .room_bytes = out_bytes};
    if (!put_definitions(node, conn, &text)) {
        return false;
    }
    PGresult *names =
        ask(conn, &text, "SELECT name FROM dbos.catalog WHERE kind = 1 ORDER BY name");
    bool is_whole = names != NULL;
    for (int row = 0; is_whole && row < PQntuples(names); row++) {
        is_whole = put_table(conn, &text, PQgetvalue(names, row, 0));
    }
    PQclear(names);
    return is_whole;
}
