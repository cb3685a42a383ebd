/* prov_…() and dbos_as_of(): each call becomes a temporary table or view of the question's
 * connection, made of SQL over the arch views; the closures are walked in C (walk.h).
 * docs/provenance.md says what each function means. */
#include <stdio.h>
#include <stdlib.h>

#include "provenance/archive_internal.h"
#include "provenance/archive_text.h"
#include "provenance/record.h"
#include "provenance/walk.h"

enum {
    ARGUMENTS = 4,
    WALK_EVENTS_MAX = 40000000, /* about 3 GB at the most */
};

/* A moment: a position ("txn:N") or a time. */
struct moment {
    bool given;
    bool is_position;
    int64_t value; /* position, or microseconds */
};

/* One call while it is made into a table. */
struct making {
    struct dbos_archiver *archiver;
    duckdb_connection connection;
    struct dbos_errinfo *info;
    const struct dbos_archive_function_call *call;
    uint32_t number;
    bool describe_only;
    const char *arguments[ARGUMENTS]; /* text or NULL */
    const struct dbos_archive_relation *table;
    struct moment from, until; /* half-open */
};

struct function {
    const char *name;
    uint32_t least;
    uint32_t most;
    const char *arguments[ARGUMENTS];
    enum dbos_err (*make)(struct making *making);
};

static enum dbos_err fail_here(const struct making *making, enum dbos_err code, const char *text,
                               const char *what) {
    return dbos_fail_at(making->info, code, making->call->position, text, what);
}

static enum dbos_err run(struct making *making, struct dbos_buf *sql) {
    return dbos_archive_run(making->archiver, making->connection, sql, making->info);
}

/* The first column of the first row, a BIGINT; *has = false when there is none or it is NULL. */
static enum dbos_err select_int(struct making *making, struct dbos_buf *sql, bool *has,
                                int64_t *out) {
    const struct dbos_duckdb *duck = making->archiver->duck;
    const char *text = dbos_sql_text(sql);
    duckdb_result result;
    enum dbos_err err =
        text == NULL ? dbos_fail(making->info, DBOS_ERR_NOMEM, "out of memory for archive SQL")
                     : dbos_duckdb_select(duck, making->connection, text, &result, making->info);
    dbos_buf_fini(sql);
    *has = false;
    if (err != DBOS_OK) {
        return err;
    }
    duckdb_data_chunk chunk = duck->fetch_chunk(result);
    if (chunk != NULL && duck->data_chunk_get_size(chunk) != 0) {
        duckdb_vector vector = duck->data_chunk_get_vector(chunk, 0);
        *has = dbos_duckdb_valid(duck->vector_get_validity(vector), 0);
        *out = *has ? *(const int64_t *)duck->vector_get_data(vector) : 0;
    }
    if (chunk != NULL) {
        duck->destroy_data_chunk(&chunk);
    }
    duck->destroy_result(&result);
    return DBOS_OK;
}

/* -- tables
 * ----------------------------------------------------------------------------------------- */

/* One part of a name: folded unless it is quoted. Returns what follows; NULL = malformed. */
static const char *parse_part(const char *at, char *out) {
    size_t length = 0;
    bool quoted = *at == '"';
    at += quoted ? 1 : 0;
    while (*at != '\0' && (quoted || *at != '.')) {
        if (quoted && *at == '"') {
            if (at[1] != '"') {
                break;
            }
            at++;
        }
        if (length == DBOS_NAME_BYTES - 1) {
            return NULL;
        }
        bool upper = !quoted && *at >= 'A' && *at <= 'Z';
        out[length++] = (char)(upper ? *at - 'A' + 'a' : *at);
        at++;
    }
    out[length] = '\0';
    if (quoted && *at++ != '"') {
        return NULL;
    }
    return length == 0 ? NULL : at;
}

static bool exists_at(const struct dbos_archive_relation *table, uint64_t position) {
    return table->created_position <= position && position < table->dropped_position;
}

/* The table of this name at a position; UINT64_MAX = now, where a dropped one is found, too. */
static const struct dbos_archive_relation *find_table(const struct dbos_archiver *archiver,
                                                      const char *schema, const char *name,
                                                      uint64_t position) {
    const struct dbos_archive_relation *found = NULL;
    for (uint32_t i = 0; i < archiver->table_count; i++) {
        const struct dbos_archive_relation *table = archiver->tables[i];
        if (strcmp(table->def->name, name) != 0 || strcmp(table->def->schema, schema) != 0) {
            continue;
        }
        bool now = position == UINT64_MAX;
        bool here = now ? table->dropped_position == UINT64_MAX : exists_at(table, position);
        if (here) {
            return table;
        }
        found = now ? table : found; /* the one that was dropped last has the highest id */
    }
    return found;
}

static enum dbos_err resolve_table(struct making *making, const char *text, uint64_t position) {
    char first[DBOS_NAME_BYTES], second[DBOS_NAME_BYTES];
    const char *rest = parse_part(text, first);
    making->table = NULL;
    if (rest != NULL && *rest == '.') {
        rest = parse_part(rest + 1, second);
        if (rest != NULL && *rest == '\0') {
            making->table = find_table(making->archiver, first, second, position);
        }
    } else if (rest != NULL && *rest == '\0') {
        making->table = find_table(making->archiver, "public", first, position);
        if (making->table == NULL) {
            making->table = find_table(making->archiver, "dbos", first, position);
        }
    }
    if (making->table != NULL) {
        return DBOS_OK;
    }
    return fail_here(making, DBOS_ERR_UNDEFINED_TABLE,
                     position == UINT64_MAX ? "relation \"%s\" does not exist"
                                            : "relation \"%s\" did not exist then",
                     text);
}

/* -- moments
 * ---------------------------------------------------------------------------------------- */

static enum dbos_err parse_moment(struct making *making, const char *text, struct moment *out) {
    memset(out, 0, sizeof *out);
    if (text == NULL) {
        return DBOS_OK;
    }
    out->given = true;
    if (strncmp(text, "txn:", 4) == 0) {
        char *end;
        out->is_position = true;
        out->value = strtoll(text + 4, &end, 10);
        bool number = end != text + 4 && *end == '\0' && out->value >= 0;
        return number ? DBOS_OK
                      : fail_here(making, DBOS_ERR_INVALID_PARAMETER,
                                  "\"%s\" is no position: txn:N has a number", text);
    }
    struct dbos_buf sql;
    bool has;
    dbos_buf_init(&sql, making->archiver->alloc);
    dbos_sql_putf(&sql, "SELECT epoch_us(TRY_CAST(");
    dbos_sql_put_literal(&sql, text);
    dbos_sql_putf(&sql, " AS TIMESTAMPTZ))");
    enum dbos_err err = select_int(making, &sql, &has, &out->value);
    return err == DBOS_OK && !has
               ? fail_here(making, DBOS_ERR_DATETIME,
                           "invalid input syntax for type timestamp with time zone: \"%s\"", text)
               : err;
}

/* A moment before the first record can not be answered. */
static enum dbos_err check_horizon(struct making *making, const struct moment *moment) {
    struct dbos_buf sql;
    bool has;
    int64_t first = 0;
    if (!moment->given) {
        return DBOS_OK;
    }
    dbos_buf_init(&sql, making->archiver->alloc);
    dbos_sql_putf(&sql, moment->is_position ? "SELECT min(position) FROM arch.txn"
                                            : "SELECT epoch_us(min(ts)) FROM arch.txn");
    enum dbos_err err = select_int(making, &sql, &has, &first);
    return err == DBOS_OK && (!has || moment->value < first)
               ? fail_here(making, DBOS_ERR_HISTORY_HORIZON,
                           "%s is asked about a time before the recorded history",
                           making->call->function)
               : err;
}

/* The function's t0 and t1, where they were given. */
static enum dbos_err parse_window(struct making *making, uint32_t first_argument) {
    enum dbos_err err = parse_moment(making, making->arguments[first_argument], &making->from);
    if (err == DBOS_OK) {
        err = parse_moment(making, making->arguments[first_argument + 1], &making->until);
    }
    return err == DBOS_OK ? check_horizon(making, &making->from) : err;
}

static void put_moment(struct dbos_buf *sql, const char *alias, const char *op,
                       const struct moment *moment) {
    if (!moment->given) {
        return;
    }
    if (moment->is_position) {
        dbos_sql_putf(sql, " AND %s.position %s %lld", alias, op, (long long)moment->value);
    } else {
        dbos_sql_putf(sql, " AND %s.ts %s TIMESTAMPTZ '", alias, op);
        dbos_archive_text_timestamp(sql, moment->value);
        dbos_sql_putf(sql, "'");
    }
}

static void put_window(struct dbos_buf *sql, const char *alias, const struct making *making) {
    put_moment(sql, alias, ">=", &making->from);
    put_moment(sql, alias, "<", &making->until);
}

/* -- blocks
 * ----------------------------------------------------------------------------------------- */

/* A key as the archive writes it: numbers without sign and zeros that mean nothing, row literals
 * without blanks between fields and with their parentheses. */
static void put_key(struct dbos_buf *key, const struct dbos_table_def *def, const char *text) {
    const struct dbos_index_def *index = def->index_count == 0 ? NULL : &def->indexes[0];
    bool several = index != NULL && index->column_count > 1;
    if (index != NULL && !several) {
        uint8_t type = def->columns[index->columns[0]].type;
        bool integer = type == DBOS_TYPE_INT2 || type == DBOS_TYPE_INT4 || type == DBOS_TYPE_INT8;
        char *end;
        long long number = strtoll(text, &end, 10);
        end += strspn(end, " ");
        if (integer && *end == '\0' && end != text) {
            dbos_archive_text_int(key, number);
            return;
        }
    }
    bool bare = several && *text != '(';
    bool quoted = false;
    dbos_sql_putf(key, "%s", bare ? "(" : "");
    for (const char *at = text; *at != '\0'; at++) {
        quoted = *at == '"' ? !quoted : quoted;
        bool after = at == text || at[-1] == ',' || at[-1] == '(' || at[-1] == ' ';
        if (!(several && !quoted && *at == ' ' && after)) {
            dbos_buf_put_u8(key, (uint8_t)*at);
        }
    }
    dbos_sql_putf(key, "%s", bare ? ")" : "");
}

/* " AND alias.block IN (…)": every block that ever had the key; nothing where no block is given. */
static enum dbos_err put_blocks(struct making *making, struct dbos_buf *sql, const char *alias,
                                const char *block) {
    if (block == NULL) {
        return DBOS_OK;
    }
    if (strncmp(block, "block:", 6) == 0) {
        char *end;
        long long number = strtoll(block + 6, &end, 10);
        if (end == block + 6 || *end != '\0') {
            return fail_here(making, DBOS_ERR_INVALID_PARAMETER,
                             "\"%s\" is no block: block:N has a number", block);
        }
        dbos_sql_putf(sql, " AND %s.block = %lld", alias, number);
        return DBOS_OK;
    }
    struct dbos_buf key;
    dbos_buf_init(&key, making->archiver->alloc);
    put_key(&key, making->table->def, block);
    const char *text = dbos_sql_text(&key);
    dbos_sql_putf(sql,
                  " AND %s.block IN (SELECT block FROM arch.event WHERE table_id = %u AND "
                  "op IN (1, 2, 3) AND pk = ",
                  alias, making->table->table_id);
    dbos_sql_put_literal(sql, text == NULL ? "" : text);
    dbos_sql_putf(sql, ")");
    sql->failed = sql->failed || text == NULL;
    dbos_buf_fini(&key);
    return DBOS_OK;
}

#define OP_NAME(alias)                                                                             \
    "CASE " alias ".op WHEN 1 THEN 'insert' WHEN 2 THEN 'delete' WHEN 3 THEN 'update' END AS op"

/* Starts "CREATE TEMP <kind> dbos_call_<n> AS ". */
static void begin_call(struct making *making, struct dbos_buf *sql, const char *kind) {
    dbos_buf_init(sql, making->archiver->alloc);
    dbos_sql_putf(sql, "CREATE TEMP %s dbos_call_%u AS ", kind, making->number);
}

/* -- prov_last_writer(table [, block])
 * ---------------------------------------------------------------- */

static enum dbos_err make_last_writer(struct making *making) {
    struct dbos_buf sql;
    enum dbos_err err = resolve_table(making, making->arguments[0], UINT64_MAX);
    if (err != DBOS_OK) {
        return err;
    }
    begin_call(making, &sql, "TABLE");
    dbos_sql_putf(
        &sql,
        "SELECT r.table_name, e.block AS block_id, e.pk, t.username, t.procedure, " OP_NAME(
            "e") ", e.position, e.statement, e.ts "
                 "FROM (SELECT * FROM arch.event e WHERE e.table_id = %u AND e.op IN (1, 2, 3)",
        making->table->table_id);
    err = put_blocks(making, &sql, "e", making->arguments[1]);
    dbos_sql_putf(&sql, " ORDER BY e.ord DESC LIMIT 1) e LEFT JOIN arch.txn t USING (position) "
                        "LEFT JOIN arch.relation r USING (table_id)");
    if (err != DBOS_OK) {
        dbos_buf_fini(&sql);
        return err;
    }
    return run(making, &sql);
}

/* -- prov_history(table [, block] [, t0, t1])
 * --------------------------------------------------------- */

static bool is_used_name(const struct dbos_table_def *def, uint32_t before, const char *name) {
    static const char *const own[] = {"position", "statement", "ts",       "op",
                                      "username", "procedure", "block_id", "pk"};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        if (strcmp(own[i], name) == 0) {
            return true;
        }
    }
    for (uint32_t i = 0; i < before; i++) {
        if (strcmp(def->columns[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* A table's column beside the history's own ones: an underscore keeps them apart. */
static void put_history_name(struct dbos_buf *sql, const struct dbos_table_def *def,
                             uint32_t column, const char *prefix, uint32_t before) {
    char name[DBOS_NAME_BYTES + 8];
    (void)snprintf(name, sizeof name, "%s%s", prefix, def->columns[column].name);
    if (is_used_name(def, before, name)) {
        (void)snprintf(name, sizeof name, "%s%s_", prefix, def->columns[column].name);
    }
    dbos_sql_put_ident(sql, name);
}

static void put_history_columns(struct making *making, struct dbos_buf *sql) {
    const struct dbos_archive_relation *table = making->table;
    const struct dbos_table_def *def = table->def;
    for (uint32_t i = 0; i < def->column_count; i++) {
        dbos_sql_putf(sql, ", CASE WHEN v.op = 2 THEN NULL ELSE v.");
        dbos_sql_put_ident(sql, table->columns[table->places[i]].name);
        dbos_sql_putf(sql, " END AS ");
        put_history_name(sql, def, i, "", i);
    }
    for (uint32_t i = 0; i < def->column_count; i++) {
        dbos_sql_putf(sql, ", CASE WHEN v.op = 1 THEN NULL ELSE p.");
        dbos_sql_put_ident(sql, table->columns[table->places[i]].name);
        dbos_sql_putf(sql, " END AS ");
        put_history_name(sql, def, i, "old_", def->column_count);
    }
}

/* Only the order of versions goes through the window; large columns are joined, where a query wants
 * them at all. */
static enum dbos_err put_history(struct making *making, struct dbos_buf *sql, const char *block) {
    const char *name = making->table->name;
    dbos_sql_putf(sql, "SELECT v.position, v.statement, v.ts, " OP_NAME(
                           "v") ", t.username, "
                                "t.procedure, v.block AS block_id, v.pk");
    put_history_columns(making, sql);
    dbos_sql_putf(sql,
                  " FROM (SELECT h.ord, lag(h.ord) OVER (PARTITION BY h.block ORDER BY h.ord) "
                  "AS old_ord FROM arch.%s h WHERE true",
                  name);
    enum dbos_err err = put_blocks(making, sql, "h", block);
    dbos_sql_putf(sql,
                  ") n JOIN arch.%s v ON v.ord = n.ord LEFT JOIN arch.%s p ON p.ord = n.old_ord "
                  "LEFT JOIN arch.txn t ON t.position = v.position WHERE true",
                  name, name);
    put_window(sql, "v", making);
    dbos_sql_putf(sql, " ORDER BY v.ord");
    return err;
}

static bool looks_like_moment(const char *text) {
    return text != NULL &&
           (strncmp(text, "txn:", 4) == 0 || (strspn(text, "0123456789") == 4 && text[4] == '-'));
}

static enum dbos_err make_history(struct making *making) {
    struct dbos_buf sql;
    const char **arguments = making->arguments;
    if (making->call->argument_count == 3 && arguments[3] == NULL &&
        looks_like_moment(arguments[1]) && looks_like_moment(arguments[2])) {
        arguments[3] = arguments[2]; /* (table, t0, t1): the block was left out */
        arguments[2] = arguments[1];
        arguments[1] = NULL;
    }
    enum dbos_err err = resolve_table(making, arguments[0], UINT64_MAX);
    if (err == DBOS_OK) {
        err = parse_window(making, 2);
    }
    if (err != DBOS_OK) {
        return err;
    }
    begin_call(making, &sql, "VIEW");
    err = put_history(making, &sql, arguments[1]);
    if (err != DBOS_OK) {
        dbos_buf_fini(&sql);
        return err;
    }
    return run(making, &sql);
}

/* -- dbos_as_of(NULL::t, moment)
 * ---------------------------------------------------------------------- */

/* The last position that counts for a moment. */
static enum dbos_err position_of(struct making *making, const struct moment *moment,
                                 uint64_t *out) {
    struct dbos_buf sql;
    bool has;
    int64_t position = 0;
    *out = dbos_archiver_position(making->archiver);
    enum dbos_err err = check_horizon(making, moment);
    if (err != DBOS_OK || !moment->given) {
        return err;
    }
    if (moment->is_position) {
        if ((uint64_t)moment->value > *out) {
            return fail_here(making, DBOS_ERR_INVALID_PARAMETER,
                             "%s is asked about a position that does not exist yet",
                             making->call->function);
        }
        *out = (uint64_t)moment->value;
        return DBOS_OK;
    }
    dbos_buf_init(&sql, making->archiver->alloc);
    dbos_sql_putf(&sql, "SELECT max(position) FROM arch.txn AS t WHERE true");
    put_moment(&sql, "t", "<=", moment);
    err = select_int(making, &sql, &has, &position);
    *out = has ? (uint64_t)position : 0;
    return err;
}

static enum dbos_err make_as_of(struct making *making) {
    struct dbos_buf sql;
    struct moment moment;
    uint64_t position;
    enum dbos_err err = parse_moment(making, making->arguments[1], &moment);
    if (err == DBOS_OK) {
        err = position_of(making, &moment, &position);
    }
    if (err == DBOS_OK) {
        err = resolve_table(making, making->arguments[0], position);
    }
    if (err != DBOS_OK) {
        return err;
    }
    const struct dbos_archive_relation *table = making->table;
    begin_call(making, &sql, "VIEW");
    dbos_sql_putf(&sql, "SELECT ");
    for (uint32_t i = 0; i < table->def->column_count; i++) {
        dbos_sql_putf(&sql, "%s", i == 0 ? "" : ", ");
        dbos_sql_put_ident(&sql, table->columns[table->places[i]].name);
        dbos_sql_putf(&sql, " AS ");
        dbos_sql_put_ident(&sql, table->def->columns[i].name);
    }
    dbos_sql_putf(&sql,
                  " FROM arch.%s WHERE op <> 2 AND ord IN (SELECT max(ord) FROM arch.%s "
                  "WHERE position <= %llu GROUP BY block)",
                  table->name, table->name, (unsigned long long)position);
    return run(making, &sql);
}

/* -- prov_user_blocks(user [, t0, t1])
 * ------------------------------------------------------------------ */

static enum dbos_err make_user_blocks(struct making *making) {
    struct dbos_buf sql;
    enum dbos_err err = parse_window(making, 1);
    if (err != DBOS_OK) {
        return err;
    }
    begin_call(making, &sql, "TABLE");
    dbos_sql_putf(&sql, "WITH mine AS (SELECT t.position FROM arch.txn t WHERE t.username = ");
    dbos_sql_put_literal(&sql, making->arguments[0]);
    put_window(&sql, "t", making);
    dbos_sql_putf(
        &sql,
        "), ev AS (SELECT e.* FROM arch.event e SEMI JOIN mine USING (position)), "
        "sent AS (SELECT position, max(statement) AS last FROM ev WHERE op = 8 AND count > 0 "
        "GROUP BY position), "
        "key AS (SELECT table_id, block, arg_max(pk, ord) AS pk, min(ord) AS first FROM arch.event "
        "WHERE op IN (1, 2, 3) GROUP BY table_id, block), "
        "looked AS (SELECT table_id, block + 1024 * unnest(range(count)) AS block, ts, position, "
        "statement, ord FROM ev WHERE op = 4), "
        /* An aborted transaction may have read a row of its own, which never was. */
        "pieces AS (SELECT l.table_id, l.block, l.ts, l.position, l.statement FROM looked l JOIN "
        "key k "
        "ON k.table_id = l.table_id AND k.block = l.block AND k.first < l.ord UNION ALL "
        "SELECT v.table_id, v.block, s.ts, s.position, s.statement FROM ev s JOIN arch.version v "
        "ON v.table_id = s.table_id AND v.ord < s.ord AND v.next_ord > s.ord AND v.op <> 2 AND "
        "(s.partition = 65535 OR (v.block %% 1024) %% s.partitions = s.partition) "
        "WHERE s.op = 7), "
        "touched AS (SELECT table_id, block, " OP_NAME(
            "ev") ", ts, position, false AS egress "
                  "FROM ev WHERE op IN (1, 2, 3) UNION ALL "
                  "SELECT p.table_id, p.block, 'read', p.ts, p.position, "
                  "coalesce(sent.last >= p.statement, false) FROM pieces p LEFT JOIN sent USING "
                  "(position)) "
                  "SELECT any_value(r.table_name) AS table_name, x.block AS block_id, "
                  "any_value(key.pk) AS pk, x.op, min(x.ts) AS first_ts, max(x.ts) AS last_ts, "
                  "count(*) AS n, max(x.position) AS last_position, bool_or(x.egress) AS egress "
                  "FROM touched x LEFT JOIN key USING (table_id, block) "
                  "LEFT JOIN arch.relation r USING (table_id) "
                  "GROUP BY x.table_id, x.block, x.op ORDER BY table_name, block_id, x.op");
    return run(making, &sql);
}

/* -- prov_block_readers(table, block [, t0, t1])
 * ---------------------------------------------------------- */

static enum dbos_err make_block_readers(struct making *making) {
    struct dbos_buf sql;
    enum dbos_err err = resolve_table(making, making->arguments[0], UINT64_MAX);
    if (err == DBOS_OK) {
        err = parse_window(making, 2);
    }
    if (err != DBOS_OK) {
        return err;
    }
    uint32_t table = making->table->table_id;
    begin_call(making, &sql, "TABLE");
    dbos_sql_putf(&sql, "WITH life AS (SELECT v.* FROM arch.version v WHERE v.table_id = %u",
                  table);
    err = put_blocks(making, &sql, "v", making->arguments[1]);
    dbos_sql_putf(
        &sql,
        "), block AS (SELECT block, min(ord) AS first FROM life GROUP BY block), "
        "seen AS (SELECT e.position, e.ts, 'row' AS via FROM arch.event e JOIN block b "
        "ON b.block >= e.block AND b.block < e.block + 1024 * e.count AND "
        "(b.block - e.block) %% 1024 = 0 AND b.first < e.ord WHERE e.op = 4 AND e.table_id = %u "
        "UNION ALL "
        "SELECT s.position, s.ts, 'scan' FROM arch.event s JOIN life v "
        "ON v.ord < s.ord AND v.next_ord > s.ord AND v.op <> 2 AND "
        "(s.partition = 65535 OR (v.block %% 1024) %% s.partitions = s.partition) "
        "WHERE s.op = 7 AND s.table_id = %u) "
        "SELECT t.username, t.procedure, min(s.ts) AS first_ts, max(s.ts) AS last_ts, "
        "count(*) AS n_reads, s.via, '{' || array_to_string("
        "list_sort(list(DISTINCT s.position)), ',') || '}' "
        "AS positions FROM seen s LEFT JOIN arch.txn t USING (position) WHERE true",
        table, table);
    put_window(&sql, "s", making);
    dbos_sql_putf(&sql, " GROUP BY t.username, t.procedure, s.via "
                        "ORDER BY first_ts, t.username, t.procedure, s.via");
    if (err != DBOS_OK) {
        dbos_buf_fini(&sql);
        return err;
    }
    return run(making, &sql);
}

/* -- prov_upstream, prov_downstream(table, block [, depth])
 * ------------------------------------------------ */

static const void *values(const struct making *making, duckdb_data_chunk chunk, uint64_t column) {
    const struct dbos_duckdb *duck = making->archiver->duck;
    return duck->vector_get_data(duck->data_chunk_get_vector(chunk, column));
}

/* Columns: ord, statement, op, table_id, block, count, partition, partitions; none is NULL. */
static enum dbos_err load_events(struct making *making, struct dbos_walk *walk,
                                 duckdb_data_chunk chunk) {
    const int64_t *ords = values(making, chunk, 0);
    const int32_t *statements = values(making, chunk, 1);
    const int16_t *ops = values(making, chunk, 2);
    const int32_t *tables = values(making, chunk, 3);
    const int64_t *blocks = values(making, chunk, 4);
    const int64_t *counts = values(making, chunk, 5);
    const int32_t *partition = values(making, chunk, 6);
    const int32_t *partitions = values(making, chunk, 7);
    uint64_t rows = making->archiver->duck->data_chunk_get_size(chunk);
    for (uint64_t i = 0; i < rows; i++) {
        struct dbos_walk_event event = {.ord = ords[i],
                                        .block = (uint64_t)blocks[i],
                                        .table_id = (uint32_t)tables[i],
                                        .count = (uint32_t)counts[i],
                                        .statement = (uint16_t)statements[i],
                                        .partition = (uint16_t)partition[i],
                                        .partitions = (uint16_t)partitions[i],
                                        .op = (uint8_t)ops[i]};
        enum dbos_err err = dbos_walk_add(walk, &event);
        if (err != DBOS_OK) {
            return dbos_fail(making->info, err, "the history is too long to be walked in memory");
        }
    }
    return DBOS_OK;
}

static enum dbos_err load_starts(struct making *making, struct dbos_walk *walk,
                                 duckdb_data_chunk chunk) {
    const int64_t *ords = values(making, chunk, 0);
    uint64_t rows = making->archiver->duck->data_chunk_get_size(chunk);
    for (uint64_t i = 0; i < rows; i++) {
        dbos_walk_start(walk, ords[i]);
    }
    return DBOS_OK;
}

static enum dbos_err each_chunk(struct making *making, struct dbos_walk *walk, struct dbos_buf *sql,
                                enum dbos_err (*each)(struct making *making, struct dbos_walk *walk,
                                                      duckdb_data_chunk chunk)) {
    const struct dbos_duckdb *duck = making->archiver->duck;
    const char *text = dbos_sql_text(sql);
    duckdb_result result;
    duckdb_data_chunk chunk;
    enum dbos_err err =
        text == NULL ? dbos_fail(making->info, DBOS_ERR_NOMEM, "out of memory for archive SQL")
                     : dbos_duckdb_select(duck, making->connection, text, &result, making->info);
    dbos_buf_fini(sql);
    if (err != DBOS_OK) {
        return err;
    }
    while (err == DBOS_OK && (chunk = duck->fetch_chunk(result)) != NULL) {
        err = each(making, walk, chunk);
        duck->destroy_data_chunk(&chunk);
    }
    duck->destroy_result(&result);
    return err;
}

/* SELECT of the starting versions: the newest one upstream, all of the block downstream. */
static enum dbos_err put_starts(struct making *making, struct dbos_buf *sql, const char *what) {
    dbos_sql_putf(sql, "SELECT %s FROM arch.event e WHERE e.table_id = %u AND e.op IN (1, 2, 3)",
                  what, making->table->table_id);
    return put_blocks(making, sql, "e", making->arguments[1]);
}

static bool stop_walk(void *arg) { return dbos_archive_interrupted(arg); }

/* Load what the walk can touch, and walk. */
static enum dbos_err walk_events(struct making *making, struct dbos_walk *walk, bool backwards,
                                 uint32_t depth_max) {
    struct dbos_buf sql;
    bool has;
    int64_t start = 0;
    dbos_buf_init(&sql, making->archiver->alloc);
    enum dbos_err err = put_starts(making, &sql, backwards ? "max(e.ord)" : "min(e.ord)");
    if (err != DBOS_OK) {
        dbos_buf_fini(&sql);
        return err;
    }
    err = select_int(making, &sql, &has, &start);
    if (err != DBOS_OK || !has) {
        return err;
    }
    dbos_buf_init(&sql, making->archiver->alloc);
    dbos_sql_putf(&sql,
                  "SELECT ord, statement, op, table_id, coalesce(block, 0), count, "
                  "coalesce(partition, 0), coalesce(partitions, 0) FROM arch.event "
                  "WHERE op IN (1, 2, 3, 4, 7) AND ord %s %lld ORDER BY ord",
                  backwards ? "<=" : ">=", (long long)start);
    err = each_chunk(making, walk, &sql, load_events);
    if (err == DBOS_OK && dbos_walk_prepare(walk, DBOS_ARCHIVE_ORD_BITS, backwards) != DBOS_OK) {
        err = dbos_fail(making->info, DBOS_ERR_NOMEM, "out of memory for the walk");
    }
    dbos_buf_init(&sql, making->archiver->alloc);
    if (err == DBOS_OK && backwards) {
        dbos_walk_start(walk, start);
    } else if (err == DBOS_OK) {
        err = put_starts(making, &sql, "e.ord");
        err = err == DBOS_OK ? each_chunk(making, walk, &sql, load_starts) : err;
    }
    dbos_buf_fini(&sql);
    if (err == DBOS_OK && dbos_walk_run(walk, depth_max, stop_walk, making->archiver) != DBOS_OK) {
        err = dbos_fail(making->info, DBOS_ERR_CANCELED, "canceling statement due to user request");
    }
    return err;
}

/* What was found, as rows of hot_walk(). */
static enum dbos_err store_found(struct making *making, const struct dbos_walk *walk,
                                 struct dbos_archive_relation *relation) {
    uint32_t count = dbos_walk_count(walk);
    enum dbos_err err = dbos_archive_row_begin(relation, making->info);
    for (uint32_t i = 0; i < count && err == DBOS_OK; i++) {
        struct dbos_walk_found found = dbos_walk_found(walk, i);
        dbos_archive_put_int(relation, DBOS_WALK_DEPTH, found.depth);
        dbos_archive_put_int(relation, DBOS_WALK_ORD, found.ord);
        dbos_archive_put_int(relation, DBOS_WALK_PARENT, found.parent_ord);
        dbos_archive_row_end(relation);
        err = dbos_archive_row_begin(relation, making->info);
    }
    return err == DBOS_OK ? dbos_archive_relation_register(relation, making->info) : err;
}

static enum dbos_err show_found(struct making *making, const struct dbos_walk *walk) {
    struct dbos_archiver *archiver = making->archiver;
    struct dbos_buf sql;
    enum dbos_err err = store_found(making, walk, &archiver->walk);
    if (err == DBOS_OK) {
        begin_call(making, &sql, "TABLE");
        dbos_sql_putf(&sql, "SELECT w.depth, r.table_name, e.block AS block_id, e.pk, e.position, "
                            "e.statement, e.ts, t.procedure, t.username, " OP_NAME(
                                "e") ", "
                                     "p.position AS parent_position, p.block AS parent_block, "
                                     "pr.table_name AS parent_table FROM hot_walk() w "
                                     "JOIN arch.event e ON e.ord = w.ord "
                                     "LEFT JOIN arch.event p ON p.ord = w.parent "
                                     "LEFT JOIN arch.txn t ON t.position = e.position "
                                     "LEFT JOIN arch.relation r ON r.table_id = e.table_id "
                                     "LEFT JOIN arch.relation pr ON pr.table_id = p.table_id "
                                     "ORDER BY w.depth, w.ord");
        err = run(making, &sql);
    }
    dbos_archive_relation_cool(&archiver->walk);
    return err;
}

static enum dbos_err make_walk(struct making *making, bool backwards) {
    uint32_t depth_max = UINT32_MAX;
    enum dbos_err err = resolve_table(making, making->arguments[0], UINT64_MAX);
    if (err == DBOS_OK && making->arguments[2] != NULL) {
        char *end;
        long long depth = strtoll(making->arguments[2], &end, 10);
        if (*end != '\0' || end == making->arguments[2] || depth < 0) {
            return fail_here(making, DBOS_ERR_INVALID_PARAMETER, "\"%s\" is no depth",
                             making->arguments[2]);
        }
        depth_max = depth < UINT32_MAX ? (uint32_t)depth : UINT32_MAX;
    }
    struct dbos_walk *walk;
    if (err != DBOS_OK) {
        return err;
    }
    if (dbos_walk_open(making->archiver->alloc, WALK_EVENTS_MAX, &walk) != DBOS_OK) {
        return dbos_fail(making->info, DBOS_ERR_NOMEM, "out of memory for the walk");
    }
    if (!making->describe_only) {
        err = walk_events(making, walk, backwards, depth_max);
    }
    if (err == DBOS_OK) {
        err = show_found(making, walk);
    }
    dbos_walk_close(walk);
    return err;
}

static enum dbos_err make_upstream(struct making *making) { return make_walk(making, true); }

static enum dbos_err make_downstream(struct making *making) { return make_walk(making, false); }

/* -- calls
 * --------------------------------------------------------------------------------------------- */

static const struct function functions[] = {
    {"prov_last_writer", 1, 2, {"table", "block"}, make_last_writer},
    {"prov_history", 1, 4, {"table", "block", "t0", "t1"}, make_history},
    {"prov_user_blocks", 1, 3, {"user", "t0", "t1"}, make_user_blocks},
    {"prov_block_readers", 2, 4, {"table", "block", "t0", "t1"}, make_block_readers},
    {"prov_downstream", 2, 3, {"table", "block", "depth"}, make_downstream},
    {"prov_upstream", 2, 3, {"table", "block", "depth"}, make_upstream},
    {"dbos_as_of", 2, 2, {"table", "moment"}, make_as_of},
};

static const struct function *find_function(const struct dbos_archive_function_call *call) {
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++) {
        if (strcmp(functions[i].name, call->function) == 0) {
            bool fits = call->argument_count >= functions[i].least &&
                        call->argument_count <= functions[i].most;
            return fits ? &functions[i] : NULL;
        }
    }
    return NULL;
}

/* Which of the function's arguments this one is; ARGUMENTS = none. */
static uint32_t place_of(const struct function *function, const struct dbos_archive_value *value,
                         uint32_t number) {
    if (value->name == NULL) {
        return number;
    }
    uint32_t place = 0;
    while (place < function->most && strcmp(function->arguments[place], value->name) != 0) {
        place++;
    }
    return place < function->most ? place : ARGUMENTS;
}

static enum dbos_err place_arguments(struct making *making, const struct function *function,
                                     const struct dbos_archive_question *question) {
    for (uint32_t i = 0; i < making->call->argument_count; i++) {
        const struct dbos_archive_value *value = &making->call->arguments[i];
        uint32_t place = place_of(function, value, i);
        if (place == ARGUMENTS) {
            return fail_here(making, DBOS_ERR_UNDEFINED_FUNCTION,
                             "the function has no argument named \"%s\"", value->name);
        }
        const char *text = value->row_type != NULL ? value->row_type : value->text;
        if (value->parameter != 0) {
            bool there = value->parameter <= question->parameter_count;
            text = there ? question->parameters[value->parameter - 1] : NULL;
        }
        making->arguments[place] = text;
    }
    for (uint32_t i = 0; i < function->least; i++) {
        if (making->arguments[i] == NULL && !(making->describe_only && i != 0)) {
            return fail_here(making, DBOS_ERR_INVALID_PARAMETER, "argument \"%s\" must not be null",
                             function->arguments[i]);
        }
    }
    return DBOS_OK;
}

enum dbos_err dbos_archive_call(struct dbos_archiver *archiver, duckdb_connection connection,
                                const struct dbos_archive_question *question, uint32_t number,
                                struct dbos_errinfo *info) {
    const struct dbos_archive_function_call *call = &question->calls[number];
    const struct function *function = find_function(call);
    struct making making = {.archiver = archiver,
                            .connection = connection,
                            .info = info,
                            .call = call,
                            .number = number,
                            .describe_only = question->describe_only};
    if (function == NULL) {
        return dbos_fail_at(info, DBOS_ERR_UNDEFINED_FUNCTION, call->position,
                            "function %s with %u arguments does not exist", call->function,
                            call->argument_count);
    }
    enum dbos_err err = place_arguments(&making, function, question);
    return err == DBOS_OK ? function->make(&making) : err;
}
