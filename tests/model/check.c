/* Every provenance function, asked through SQL, against what the oracle knows. Both sides become
 * lines of text; the sorted lines must be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/episode.h"

enum { LINE_BYTES = 16384, SQL_BYTES = 1024, SHOWN = 12 };

struct lines {
    struct dbos_arena *arena;
    char **items;
    uint32_t count, capacity;
};

struct check {
    struct episode *e;
    struct dbos_arena arena;
    struct lines expected, actual;
    uint32_t *depths;
    struct oracle_list blocks, versions;
    int columns;      /* of the answer that are compared; 0 = all */
    PGresult *result; /* the last answer */
    char sql[SQL_BYTES];
};

/* -- lines ----------------------------------------------------------------------------------------
 */

static void add_line(struct lines *lines, const char *text) {
    if (lines->count == lines->capacity) {
        uint32_t capacity = lines->capacity == 0 ? 256 : lines->capacity * 2;
        char **items = dbos_arena_take(lines->arena, capacity * sizeof *items);
        DBOS_CHECK(items != NULL);
        if (lines->count > 0) {
            memcpy(items, lines->items, lines->count * sizeof *items);
        }
        lines->items = items;
        lines->capacity = capacity;
    }
    lines->items[lines->count] = dbos_arena_copy(lines->arena, text, strlen(text));
    DBOS_CHECK(lines->items[lines->count] != NULL);
    lines->count++;
}

static void add_linef(struct lines *lines, const char *format, ...) DBOS_PRINTF(2, 3);
static void add_linef(struct lines *lines, const char *format, ...) {
    char text[LINE_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add_line(lines, text);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort_lines(struct lines *lines) {
    if (lines->count > 0) {
        qsort(lines->items, lines->count, sizeof *lines->items, by_text);
    }
}

static void take_answer(struct check *c) {
    PQclear(c->result);
    c->result = episode_ask(c->e, c->sql);
    const PGresult *result = c->result;
    int columns = c->columns == 0 ? PQnfields(result) : c->columns;
    for (int r = 0; r < PQntuples(result); r++) {
        char text[LINE_BYTES] = "";
        size_t used = 0;
        for (int f = 0; f < columns; f++) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", f == 0 ? "" : "|",
                                     PQgetisnull(result, r, f) ? "~" : PQgetvalue(result, r, f));
            DBOS_CHECK(used < sizeof text);
        }
        add_line(&c->actual, text);
    }
}

/* What only one side has, a few lines of it. */
static void show_difference(const struct check *c) {
    const struct lines *x = &c->expected;
    const struct lines *y = &c->actual;
    uint32_t i = 0;
    uint32_t k = 0;
    for (int shown = 0; shown < SHOWN && (i < x->count || k < y->count);) {
        int order = i == x->count ? 1 : k == y->count ? -1 : strcmp(x->items[i], y->items[k]);
        if (order == 0) {
            i++;
            k++;
            continue;
        }
        (void)fprintf(stderr, "  %s %s\n", order < 0 ? "missing:   " : "unexpected:",
                      order < 0 ? x->items[i] : y->items[k]);
        i += order < 0;
        k += order > 0;
        shown++;
    }
}

/* Ask c->sql and compare; forgets both sides afterwards. */
static void compare(struct check *c) {
    take_answer(c);
    sort_lines(&c->expected);
    sort_lines(&c->actual);
    bool same = c->expected.count == c->actual.count;
    for (uint32_t i = 0; same && i < c->expected.count; i++) {
        same = strcmp(c->expected.items[i], c->actual.items[i]) == 0;
    }
    if (!same) {
        show_difference(c);
        episode_fail(c->e, "%s\n  %u lines expected, %u answered", c->sql, c->expected.count,
                     c->actual.count);
    }
    c->e->compared += c->expected.count + 1;
    dbos_arena_reset(&c->arena);
    c->expected = (struct lines){.arena = &c->arena};
    c->actual = (struct lines){.arena = &c->arena};
}

static void ask(struct check *c, const char *format, ...) DBOS_PRINTF(2, 3);
static void ask(struct check *c, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(c->sql, sizeof c->sql, format, args);
    va_end(args);
    DBOS_CHECK(size > 0 && (size_t)size < sizeof c->sql);
    compare(c);
}

/* -- texts ----------------------------------------------------------------------------------------
 */

struct short_text {
    char text[128];
};

static struct short_text key_text(int32_t table, int32_t a, int32_t b) {
    struct short_text out;
    if (model_key_columns(table) == 2) {
        (void)snprintf(out.text, sizeof out.text, "(%d,%d)", (int)a, (int)b);
    } else {
        (void)snprintf(out.text, sizeof out.text, "%d", (int)a);
    }
    return out;
}

static struct short_text key_of(const struct oracle_version *v) {
    return key_text(v->table, v->row.a, v->row.b);
}

static struct short_text row_text(const struct oracle_row *row) {
    struct short_text out;
    if (row == NULL) {
        (void)snprintf(out.text, sizeof out.text, "~|~|~|~|~");
    } else {
        struct short_text s;
        (void)snprintf(s.text, sizeof s.text, row->s < 0 ? "~" : "s%d", (int)row->s);
        (void)snprintf(out.text, sizeof out.text, "%d|%d|%d|%lld|%.20s", (int)row->a, (int)row->b,
                       (int)row->g, (long long)row->v, s.text);
    }
    return out;
}

static const char *op_text(uint8_t op) {
    static const char *const names[] = {"?", "insert", "delete", "update"};
    return names[op];
}

static const char *procedure_text(uint32_t procedure) {
    const char *name = program_procedure_name(procedure);
    return name == NULL ? "~" : name;
}

/* The database's number of a block, learned at the beginning of the check. */
static unsigned long long block_of(const struct check *c, uint32_t version) {
    return (unsigned long long)c->e->block_ids[c->e->oracle.versions[version].block];
}

static uint64_t position_of(const struct check *c, uint32_t txn) {
    return c->e->positions[txn].position;
}

/* -- what is asked about --------------------------------------------------------------------------
 */

static uint32_t draw(const struct check *c, uint32_t bound) {
    return (uint32_t)dbos_rng_below(&c->e->rng, bound);
}

static int32_t draw_table(const struct check *c) {
    return (int32_t)draw(c, c->e->later_exists ? MODEL_TABLES : MODEL_LATER);
}

/* The key of a random version, so that it was there at some time; now and then one that never was.
 */
static void draw_key(const struct check *c, int32_t *table, int32_t *a, int32_t *b) {
    const struct oracle *o = &c->e->oracle;
    const struct oracle_version *v = &o->versions[draw(c, o->version_count)];
    *table = v->table;
    *a = v->row.a;
    *b = v->row.b;
    if (draw(c, 20) == 0) {
        *a = 77777;
    }
}

/* A row to ask about, by its key or by its block; c->blocks are what that means, c->versions
 * theirs, oldest first. */
struct subject {
    int32_t table;
    char text[128];
};

static struct subject draw_any_subject(struct check *c) {
    struct subject subject;
    int32_t a, b;
    draw_key(c, &subject.table, &a, &b);
    oracle_blocks(&c->e->oracle, subject.table, a, b, &c->blocks);
    (void)snprintf(subject.text, sizeof subject.text, "%s", key_text(subject.table, a, b).text);
    if (c->blocks.count > 0 && draw(c, 3) == 0) {
        uint32_t block = c->blocks.items[draw(c, c->blocks.count)];
        c->blocks.items[0] = block;
        c->blocks.count = 1;
        (void)snprintf(subject.text, sizeof subject.text, "block:%llu",
                       (unsigned long long)c->e->block_ids[block]);
    }
    oracle_history(&c->e->oracle, &c->blocks, &c->versions);
    return subject;
}

/* The same with one newest version: two blocks that had the key and were last written by one
 * statement have no order that could be expected. */
static struct subject draw_subject(struct check *c) {
    for (;;) {
        struct subject subject = draw_any_subject(c);
        const struct oracle_version *versions = c->e->oracle.versions;
        uint32_t count = c->versions.count;
        if (count < 2) {
            return subject;
        }
        const struct oracle_version *last = &versions[c->versions.items[count - 1]];
        const struct oracle_version *other = &versions[c->versions.items[count - 2]];
        if (last->txn != other->txn || last->statement != other->statement) {
            return subject;
        }
    }
}

/* A half-open stretch of transactions. */
struct stretch {
    uint32_t first, end;
    char arguments[96]; /* as arguments t0 and t1; empty = everything */
};

static struct stretch draw_stretch(const struct check *c) {
    uint32_t count = c->e->oracle.txn_count;
    struct stretch s = {.first = 0, .end = count};
    if (draw(c, 2) == 0) {
        uint32_t a = draw(c, count);
        uint32_t b = draw(c, count);
        s.first = a < b ? a : b;
        s.end = a < b ? b : a;
        bool by_time = draw(c, 2) == 0;
        const struct episode_position *at = c->e->positions;
        if (by_time) {
            (void)snprintf(s.arguments, sizeof s.arguments, ", '%s', '%s'", at[s.first].ts,
                           at[s.end].ts);
        } else {
            (void)snprintf(s.arguments, sizeof s.arguments, ", 'txn:%llu', 'txn:%llu'",
                           (unsigned long long)at[s.first].position,
                           (unsigned long long)at[s.end].position);
        }
    }
    return s;
}

static bool within(const struct stretch *s, uint32_t txn) {
    return txn >= s->first && txn < s->end;
}

/* -- time travel ----------------------------------------------------------------------------------
 */

static void check_as_of(struct check *c) {
    struct oracle *o = &c->e->oracle;
    int32_t table = draw_table(c);
    uint32_t txn = draw(c, 5) == 0 ? o->txn_count - 1 : draw(c, o->txn_count);
    const struct episode_position *at = &c->e->positions[txn];
    if (table == MODEL_LATER && at->position < c->e->later_position) {
        table = MODEL_ITEMS;
    }
    char moment[EPISODE_TS_BYTES + 8];
    switch (draw(c, 3)) {
    case 0:
        (void)snprintf(moment, sizeof moment, "txn:%llu", (unsigned long long)at->position);
        break;
    case 1:
        (void)snprintf(moment, sizeof moment, "%s", at->ts);
        break;
    default: /* just before the next */
        txn -= txn > 0;
        (void)snprintf(moment, sizeof moment, "%s", c->e->positions[txn + 1].before_ts);
        break;
    }
    uint32_t count = 0;
    const uint32_t *copy = oracle_copy(o, txn, table, &count);
    for (uint32_t i = 0; i < count; i++) {
        add_line(&c->expected, row_text(&o->versions[copy[i]].row).text);
    }
    ask(c, "SELECT a, b, g, v, s FROM dbos_as_of(NULL::%s, '%s')", program_table_name(table),
        moment);
}

static bool copy_has(const struct check *c, uint32_t txn, int32_t table, const char *text) {
    uint32_t count = 0;
    const uint32_t *copy = oracle_copy(&c->e->oracle, txn, table, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (strcmp(row_text(&c->e->oracle.versions[copy[i]].row).text, text) == 0) {
            return true;
        }
    }
    return false;
}

/* What has changed since: the table's rows now, without those of then. */
static void check_since(struct check *c) {
    struct oracle *o = &c->e->oracle;
    int32_t table = (int32_t)draw(c, MODEL_LATER);
    uint32_t then = draw(c, o->txn_count);
    uint32_t count = 0;
    const uint32_t *copy = oracle_copy(o, o->txn_count - 1, table, &count);
    for (uint32_t i = 0; i < count; i++) {
        struct short_text row = row_text(&o->versions[copy[i]].row);
        if (!copy_has(c, then, table, row.text)) {
            add_line(&c->expected, row.text);
        }
    }
    ask(c,
        "SELECT a, b, g, v, s FROM %s EXCEPT SELECT a, b, g, v, s FROM dbos_as_of(NULL::%s, "
        "'txn:%llu')",
        program_table_name(table), program_table_name(table),
        (unsigned long long)position_of(c, then));
}

/* -- history --------------------------------------------------------------------------------------
 */

static void expect_last_writer(struct check *c, uint32_t version) {
    if (version == ORACLE_NONE) {
        return;
    }
    const struct oracle_version *v = &c->e->oracle.versions[version];
    const struct oracle_txn *txn = &c->e->oracle.txns[v->txn];
    add_linef(&c->expected, "%s|%llu|%s|%s|%s|%s|%llu|%u|%s", program_table_name(v->table),
              block_of(c, version), key_of(v).text, program_user_name(txn->user),
              procedure_text(txn->procedure), op_text(v->op),
              (unsigned long long)position_of(c, v->txn), v->statement, c->e->positions[v->txn].ts);
}

#define LAST_WRITER_COLUMNS                                                                        \
    "table_name, block_id, pk, username, procedure, op, position, statement, ts"

static void check_last_writer(struct check *c) {
    struct subject subject = draw_subject(c);
    uint32_t count = c->versions.count;
    expect_last_writer(c, count == 0 ? ORACLE_NONE : c->versions.items[count - 1]);
    ask(c, "SELECT " LAST_WRITER_COLUMNS " FROM prov_last_writer('%s', '%s')",
        program_table_name(subject.table), subject.text);
}

/* Of a whole table: several rows may have been written last, by one statement. */
static void check_last_writer_of_table(struct check *c) {
    const struct oracle *o = &c->e->oracle;
    int32_t table = draw_table(c);
    uint32_t last = ORACLE_NONE;
    for (uint32_t i = 0; i < o->version_count; i++) {
        last = o->versions[i].table == table ? i : last;
    }
    if (last == ORACLE_NONE) {
        return;
    }
    add_linef(&c->expected, "%llu|%u|%s", (unsigned long long)position_of(c, o->versions[last].txn),
              o->versions[last].statement, program_user_name(o->txns[o->versions[last].txn].user));
    ask(c, "SELECT position, statement, username FROM prov_last_writer('%s')",
        program_table_name(table));
}

static void expect_history(struct check *c, uint32_t version) {
    const struct oracle_version *v = &c->e->oracle.versions[version];
    const struct oracle_txn *txn = &c->e->oracle.txns[v->txn];
    const struct oracle_row *before =
        v->previous == ORACLE_NONE ? NULL : &c->e->oracle.versions[v->previous].row;
    add_linef(&c->expected, "%llu|%u|%s|%s|%s|%s|%llu|%s|%s|%s",
              (unsigned long long)position_of(c, v->txn), v->statement, c->e->positions[v->txn].ts,
              op_text(v->op), program_user_name(txn->user), procedure_text(txn->procedure),
              block_of(c, version), key_of(v).text,
              row_text(v->op == ORACLE_DELETE ? NULL : &v->row).text, row_text(before).text);
}

#define HISTORY_COLUMNS                                                                            \
    "position, statement, ts, op, username, procedure, block_id, pk, a, b, g, v, s, old_a, "       \
    "old_b, old_g, "                                                                               \
    "old_v, old_s"

static void check_history(struct check *c) {
    struct subject subject = draw_any_subject(c);
    struct stretch s = draw_stretch(c);
    for (uint32_t i = 0; i < c->versions.count; i++) {
        if (within(&s, c->e->oracle.versions[c->versions.items[i]].txn)) {
            expect_history(c, c->versions.items[i]);
        }
    }
    ask(c, "SELECT " HISTORY_COLUMNS " FROM prov_history('%s', '%s'%s)",
        program_table_name(subject.table), subject.text, s.arguments);
}

static void check_history_of_table(struct check *c) {
    const struct oracle *o = &c->e->oracle;
    int32_t table = draw_table(c);
    struct stretch s = draw_stretch(c);
    for (uint32_t i = 0; i < o->version_count; i++) {
        if (o->versions[i].table == table && within(&s, o->versions[i].txn)) {
            expect_history(c, i);
        }
    }
    ask(c, "SELECT " HISTORY_COLUMNS " FROM prov_history('%s'%s)", program_table_name(table),
        s.arguments);
}

/* -- users and blocks -----------------------------------------------------------------------------
 */

enum { USE_READ = 0, USE_OPS = 4 }; /* else enum oracle_write */

struct use {
    uint32_t n, first, last; /* reads or writes; transactions */
    bool egress;             /* rows left to the client at the read or later */
};

static void count_use(struct use *use, uint32_t txn) {
    use->first = use->n == 0 ? txn : use->first;
    use->last = txn;
    use->n++;
}

static void count_uses(const struct check *c, uint32_t user, const struct stretch *s,
                       struct use *uses) {
    const struct oracle *o = &c->e->oracle;
    for (uint32_t t = s->first; t < s->end; t++) {
        const struct oracle_txn *txn = &o->txns[t];
        if (txn->user != user) {
            continue;
        }
        for (uint32_t i = txn->read_first; i < txn->read_first + txn->read_count; i++) {
            struct use *use = &uses[o->versions[o->reads[i].version].block * USE_OPS + USE_READ];
            count_use(use, t);
            use->egress = use->egress || txn->egress >= o->reads[i].statement;
        }
        for (uint32_t i = txn->version_first; i < txn->version_first + txn->version_count; i++) {
            count_use(&uses[o->versions[i].block * USE_OPS + o->versions[i].op], t);
        }
    }
}

/* The newest version of every block. */
static uint32_t *name_blocks(struct check *c) {
    const struct oracle *o = &c->e->oracle;
    uint32_t *names = dbos_arena_take(&c->arena, (o->block_count + 1) * sizeof *names);
    DBOS_CHECK(names != NULL);
    for (uint32_t i = 0; i < o->version_count; i++) {
        names[o->versions[i].block] = i;
    }
    return names;
}

static void check_user_blocks(struct check *c) {
    const struct oracle *o = &c->e->oracle;
    uint32_t user = draw(c, PROGRAM_USERS);
    struct stretch s = draw_stretch(c);
    const uint32_t *names = name_blocks(c);
    struct use *uses =
        dbos_arena_take_zero(&c->arena, (o->block_count + 1) * USE_OPS * sizeof *uses);
    DBOS_CHECK(uses != NULL);
    count_uses(c, user, &s, uses);
    for (uint32_t i = 0; i < o->block_count * USE_OPS; i++) {
        if (uses[i].n > 0) {
            const struct oracle_version *v = &o->versions[names[i / USE_OPS]];
            add_linef(&c->expected, "%s|%llu|%s|%s|%u|%llu|%s|%s|%s", program_table_name(v->table),
                      block_of(c, names[i / USE_OPS]), key_of(v).text,
                      i % USE_OPS == USE_READ ? "read" : op_text(i % USE_OPS), uses[i].n,
                      (unsigned long long)position_of(c, uses[i].last),
                      c->e->positions[uses[i].first].ts, c->e->positions[uses[i].last].ts,
                      uses[i].egress ? "t" : "f");
        }
    }
    ask(c,
        "SELECT table_name, block_id, pk, op, n, last_position, first_ts, last_ts, egress FROM "
        "prov_user_blocks('%s'%s) WHERE op IN ('read', 'insert', 'update', 'delete')",
        program_user_name(user), s.arguments);
}

enum { PROCEDURES = 4, VIAS = 2, READERS = PROGRAM_USERS * PROCEDURES * VIAS };

static bool reads_blocks(const struct check *c, uint32_t read) {
    const struct oracle *o = &c->e->oracle;
    return oracle_list_has(&c->blocks, o->versions[o->reads[read].version].block);
}

static uint32_t reader_of(const struct check *c, uint32_t read) {
    const struct oracle *o = &c->e->oracle;
    const struct oracle_txn *txn = &o->txns[o->reads[read].txn];
    return (txn->user * PROCEDURES + txn->procedure) * VIAS +
           (o->reads[read].via == ORACLE_BY_SCAN);
}

/* "{3,7}": where `reader` read, each position once. */
static void put_positions(const struct check *c, const struct stretch *s, uint32_t reader,
                          char *out) {
    size_t used = 0;
    uint32_t last = ORACLE_NONE;
    for (uint32_t i = 0; i < c->e->oracle.read_count; i++) {
        uint32_t txn = c->e->oracle.reads[i].txn;
        if (txn != last && within(s, txn) && reader_of(c, i) == reader && reads_blocks(c, i)) {
            used +=
                (size_t)snprintf(out + used, LINE_BYTES / 2 - used, "%s%llu", used == 0 ? "{" : ",",
                                 (unsigned long long)position_of(c, txn));
            DBOS_CHECK(used < LINE_BYTES / 2 - 1);
            last = txn;
        }
    }
    (void)snprintf(out + used, LINE_BYTES / 2 - used, "}");
}

static void check_block_readers(struct check *c) {
    struct use uses[READERS] = {{0}};
    char positions[LINE_BYTES / 2];
    struct subject subject = draw_any_subject(c);
    struct stretch s = draw_stretch(c);
    for (uint32_t i = 0; i < c->e->oracle.read_count; i++) {
        if (within(&s, c->e->oracle.reads[i].txn) && reads_blocks(c, i)) {
            count_use(&uses[reader_of(c, i)], c->e->oracle.reads[i].txn);
        }
    }
    for (uint32_t i = 0; i < READERS; i++) {
        if (uses[i].n > 0) {
            put_positions(c, &s, i, positions);
            add_linef(
                &c->expected, "%s|%s|%s|%u|%s|%s|%s", program_user_name(i / VIAS / PROCEDURES),
                procedure_text(i / VIAS % PROCEDURES), i % VIAS == 0 ? "row" : "scan", uses[i].n,
                c->e->positions[uses[i].first].ts, c->e->positions[uses[i].last].ts, positions);
        }
    }
    ask(c,
        "SELECT username, procedure, via, n_reads, first_ts, last_ts, positions FROM "
        "prov_block_readers('%s', '%s'%s)",
        program_table_name(subject.table), subject.text, s.arguments);
}

/* -- what came from what --------------------------------------------------------------------------
 */

static void expect_walk(struct check *c, uint32_t depth_max) {
    const struct oracle *o = &c->e->oracle;
    for (uint32_t i = 0; i < o->version_count; i++) {
        if (c->depths[i] != ORACLE_NONE && c->depths[i] <= depth_max) {
            const struct oracle_version *v = &o->versions[i];
            const struct oracle_txn *txn = &o->txns[v->txn];
            add_linef(&c->expected, "%u|%s|%llu|%s|%llu|%u|%s|%s|%s", c->depths[i],
                      program_table_name(v->table), block_of(c, i), key_of(v).text,
                      (unsigned long long)position_of(c, v->txn), v->statement, op_text(v->op),
                      program_user_name(txn->user), procedure_text(txn->procedure));
        }
    }
}

enum {
    WALK_DEPTH,
    WALK_TABLE,
    WALK_BLOCK,
    WALK_PK,
    WALK_POSITION,
    WALK_STATEMENT,
    WALK_COMPARED = 9,
    WALK_PARENT_TABLE = 9,
    WALK_PARENT_BLOCK,
    WALK_PARENT_POSITION
};

static uint64_t number(const struct check *c, int row, int column) {
    return strtoull(PQgetvalue(c->result, row, column), NULL, 10);
}

/* Was `read` read by the transaction that wrote `written`, and not after it? */
static bool is_edge(const struct oracle *o, uint32_t read, uint32_t written) {
    const struct oracle_txn *txn = &o->txns[o->versions[written].txn];
    for (uint32_t r = txn->read_first; r < txn->read_first + txn->read_count; r++) {
        if (o->reads[r].version == read &&
            o->reads[r].statement <= o->versions[written].statement) {
            return true;
        }
    }
    return false;
}

/* Is version `v` the one of this row's columns? */
static bool is_named(const struct check *c, uint32_t v, int row, int table, int block,
                     int position) {
    const struct oracle_version *version = &c->e->oracle.versions[v];
    return position_of(c, version->txn) == number(c, row, position) &&
           block_of(c, v) == number(c, row, block) &&
           strcmp(program_table_name(version->table), PQgetvalue(c->result, row, table)) == 0;
}

static bool has_parent(const struct check *c, int row, bool down, uint32_t child) {
    const struct oracle *o = &c->e->oracle;
    for (uint32_t v = 0; v < o->version_count; v++) {
        if (c->depths[v] == c->depths[child] - 1 &&
            is_named(c, v, row, WALK_PARENT_TABLE, WALK_PARENT_BLOCK, WALK_PARENT_POSITION) &&
            (down ? is_edge(o, v, child) : is_edge(o, child, v))) {
            return true;
        }
    }
    return false;
}

/* Every row but a start names a version one step nearer, and there is an edge between the two. */
static void check_parents(struct check *c, bool down) {
    const struct oracle *o = &c->e->oracle;
    for (int row = 0; row < PQntuples(c->result); row++) {
        bool start = number(c, row, WALK_DEPTH) == 0;
        bool ok = start && PQgetisnull(c->result, row, WALK_PARENT_POSITION);
        for (uint32_t v = 0; !ok && !start && v < o->version_count; v++) {
            ok = c->depths[v] == number(c, row, WALK_DEPTH) &&
                 o->versions[v].statement == number(c, row, WALK_STATEMENT) &&
                 is_named(c, v, row, WALK_TABLE, WALK_BLOCK, WALK_POSITION) &&
                 has_parent(c, row, down, v);
        }
        if (!ok) {
            episode_fail(c->e, "%s\n  %s %s at position %s has no parent %s block %s at %s", c->sql,
                         PQgetvalue(c->result, row, WALK_TABLE),
                         PQgetvalue(c->result, row, WALK_PK),
                         PQgetvalue(c->result, row, WALK_POSITION),
                         PQgetvalue(c->result, row, WALK_PARENT_TABLE),
                         PQgetvalue(c->result, row, WALK_PARENT_BLOCK),
                         PQgetvalue(c->result, row, WALK_PARENT_POSITION));
        }
    }
}

static void check_walk(struct check *c, bool down) {
    struct subject subject = draw_subject(c);
    if (!down && c->versions.count > 1) { /* upstream: of the newest version */
        c->versions.items[0] = c->versions.items[c->versions.count - 1];
        c->versions.count = 1;
    }
    (down ? oracle_downstream : oracle_upstream)(&c->e->oracle, &c->versions, c->depths);
    uint32_t depth_max = draw(c, 3) == 0 ? draw(c, 4) : ORACLE_NONE;
    char depth[32] = "";
    if (depth_max != ORACLE_NONE) {
        (void)snprintf(depth, sizeof depth, draw(c, 2) == 0 ? ", %u" : ", depth => %u", depth_max);
    }
    expect_walk(c, depth_max);
    c->columns = WALK_COMPARED;
    ask(c,
        "SELECT depth, table_name, block_id, pk, position, statement, op, username, procedure, "
        "parent_table, parent_block, parent_position FROM %s('%s', '%s'%s)",
        down ? "prov_downstream" : "prov_upstream", program_table_name(subject.table), subject.text,
        depth);
    c->columns = 0;
    check_parents(c, down);
}

/* -- blocks ---------------------------------------------------------------------------------------
 */

struct named {
    char name[192];
    uint64_t id;
};

static int by_name(const void *a, const void *b) {
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static struct named *take_names(struct check *c, uint32_t count) {
    struct named *names = dbos_arena_take_zero(&c->arena, (count + 1) * sizeof *names);
    DBOS_CHECK(names != NULL);
    return names;
}

static uint32_t name_versions(struct check *c, int32_t table, struct named *names) {
    const struct oracle *o = &c->e->oracle;
    uint32_t count = 0;
    for (uint32_t i = 0; i < o->version_count; i++) {
        const struct oracle_version *v = &o->versions[i];
        if (v->table == table) {
            names[count].id = v->block;
            (void)snprintf(names[count++].name, sizeof names->name, "%llu|%u|%s|%s",
                           (unsigned long long)position_of(c, v->txn), v->statement, op_text(v->op),
                           key_of(v).text);
        }
    }
    return count;
}

/* A block keeps its number for ever, and no other block of the table has it. */
static void learn_block(struct check *c, int32_t table, uint32_t block, uint64_t id) {
    struct episode *e = c->e;
    if (e->block_ids[block] == 0) {
        for (uint32_t i = 0; i < e->oracle.block_count; i++) {
            if (e->block_ids[i] == id && e->block_tables[i] == table) {
                episode_fail(e, "two blocks of %s have the number %llu", program_table_name(table),
                             (unsigned long long)id);
            }
        }
        e->block_ids[block] = id;
        e->block_tables[block] = (uint8_t)table;
    }
    if (e->block_ids[block] != id) {
        episode_fail(e, "block %llu of %s has become %llu", (unsigned long long)e->block_ids[block],
                     program_table_name(table), (unsigned long long)id);
    }
}

/* The whole history of a table against the oracle's: which blocks the database made. */
static void learn_blocks(struct check *c, int32_t table) {
    struct named *expected = take_names(c, c->e->oracle.version_count);
    uint32_t count = name_versions(c, table, expected);
    (void)snprintf(c->sql, sizeof c->sql,
                   "SELECT position, statement, op, pk, block_id FROM prov_history('%s')",
                   program_table_name(table));
    PGresult *result = episode_ask(c->e, c->sql);
    uint32_t rows = (uint32_t)PQntuples(result);
    struct named *actual = take_names(c, rows);
    for (uint32_t i = 0; i < rows; i++) {
        (void)snprintf(actual[i].name, sizeof actual->name, "%s|%s|%s|%s",
                       PQgetvalue(result, (int)i, 0), PQgetvalue(result, (int)i, 1),
                       PQgetvalue(result, (int)i, 2), PQgetvalue(result, (int)i, 3));
        actual[i].id = strtoull(PQgetvalue(result, (int)i, 4), NULL, 10);
    }
    PQclear(result);
    qsort(expected, count, sizeof *expected, by_name);
    qsort(actual, rows, sizeof *actual, by_name);
    for (uint32_t i = 0; i < count && i < rows; i++) {
        if (strcmp(expected[i].name, actual[i].name) != 0) {
            episode_fail(c->e, "%s\n  expected %s, answered %s", c->sql, expected[i].name,
                         actual[i].name);
        }
        learn_block(c, table, (uint32_t)expected[i].id, actual[i].id);
    }
    if (count != rows) {
        episode_fail(c->e, "%s\n  %u rows expected, %u answered", c->sql, count, rows);
    }
    c->e->compared += count + 1;
    dbos_arena_reset(&c->arena);
}

static void learn_all_blocks(struct check *c) {
    struct episode *e = c->e;
    if (e->block_capacity < e->oracle.block_count) {
        uint32_t capacity = e->oracle.block_count * 2;
        e->block_ids = dbos_retake(&e->alloc, e->block_ids, capacity * sizeof *e->block_ids);
        e->block_tables =
            dbos_retake(&e->alloc, e->block_tables, capacity * sizeof *e->block_tables);
        DBOS_CHECK(e->block_ids != NULL && e->block_tables != NULL);
        memset(e->block_ids + e->block_capacity, 0,
               (capacity - e->block_capacity) * sizeof *e->block_ids);
        e->block_capacity = capacity;
    }
    for (int32_t table = 0; table < (e->later_exists ? MODEL_TABLES : MODEL_LATER); table++) {
        learn_blocks(c, table);
    }
}

/* -- all of it ------------------------------------------------------------------------------------
 */

void check_provenance(struct episode *e, uint32_t samples) {
    struct check c = {.e = e};
    if (e->oracle.version_count == 0) {
        return;
    }
    dbos_arena_init(&c.arena, &e->alloc, 1 << 20);
    c.expected.arena = c.actual.arena = &c.arena;
    c.depths = dbos_take(&e->alloc, e->oracle.version_count * sizeof *c.depths);
    DBOS_CHECK(c.depths != NULL);
    learn_all_blocks(&c);
    for (uint32_t i = 0; i < samples; i++) {
        check_as_of(&c);
        check_since(&c);
        check_last_writer(&c);
        check_last_writer_of_table(&c);
        check_history(&c);
        check_history_of_table(&c);
        check_user_blocks(&c);
        check_block_readers(&c);
        check_walk(&c, true);
        check_walk(&c, false);
    }
    PQclear(c.result);
    oracle_list_close(&e->alloc, &c.blocks);
    oracle_list_close(&e->alloc, &c.versions);
    dbos_give(&e->alloc, c.depths);
    dbos_arena_fini(&c.arena);
}
