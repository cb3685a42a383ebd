/* Every provenance function, asked through SQL, against what the oracle knows. Both sides become
 * lines of text; the sorted lines must be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/model/episode.h"

enum { LINE_BYTES = 512, SQL_BYTES = 1024, SHOWN = 12 };

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
    PGresult *result = episode_ask(c->e, c->sql);
    for (int r = 0; r < PQntuples(result); r++) {
        char text[LINE_BYTES] = "";
        size_t used = 0;
        for (int f = 0; f < PQnfields(result); f++) {
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", f == 0 ? "" : "|",
                                     PQgetisnull(result, r, f) ? "~" : PQgetvalue(result, r, f));
            DBOS_CHECK(used < sizeof text);
        }
        add_line(&c->actual, text);
    }
    PQclear(result);
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

/* -- history --------------------------------------------------------------------------------------
 */

static void expect_last_writer(struct check *c, uint32_t version) {
    if (version == ORACLE_NONE) {
        return;
    }
    const struct oracle_version *v = &c->e->oracle.versions[version];
    const struct oracle_txn *txn = &c->e->oracle.txns[v->txn];
    add_linef(&c->expected, "%s|%s|%s|%s|%s|%llu|%u|%s", program_table_name(v->table),
              key_of(v).text, program_user_name(txn->user), procedure_text(txn->procedure),
              op_text(v->op), (unsigned long long)position_of(c, v->txn), v->statement,
              c->e->positions[v->txn].ts);
}

#define LAST_WRITER_COLUMNS "table_name, pk, username, procedure, op, position, statement, ts"

/* Draws a key; c->versions are those of its blocks, and the last of them is the newest: two blocks
 * that had the key and were last written by one statement have no order that could be expected. */
static void draw_versions(struct check *c, int32_t *table, int32_t *a, int32_t *b) {
    const struct oracle_version *versions = c->e->oracle.versions;
    const uint32_t *items;
    uint32_t count;
    do {
        draw_key(c, table, a, b);
        oracle_blocks(&c->e->oracle, *table, *a, *b, &c->blocks);
        oracle_history(&c->e->oracle, &c->blocks, &c->versions);
        items = c->versions.items;
        count = c->versions.count;
    } while (count > 1 && versions[items[count - 1]].txn == versions[items[count - 2]].txn &&
             versions[items[count - 1]].statement == versions[items[count - 2]].statement);
}

static void check_last_writer(struct check *c) {
    int32_t table, a, b;
    draw_versions(c, &table, &a, &b);
    expect_last_writer(c, c->versions.count == 0 ? ORACLE_NONE
                                                 : c->versions.items[c->versions.count - 1]);
    ask(c, "SELECT " LAST_WRITER_COLUMNS " FROM prov_last_writer('%s', '%s')",
        program_table_name(table), key_text(table, a, b).text);
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
    add_linef(&c->expected, "%llu|%u|%s|%s|%s|%s|%s|%s|%s",
              (unsigned long long)position_of(c, v->txn), v->statement, c->e->positions[v->txn].ts,
              op_text(v->op), program_user_name(txn->user), procedure_text(txn->procedure),
              key_of(v).text, row_text(v->op == ORACLE_DELETE ? NULL : &v->row).text,
              row_text(before).text);
}

#define HISTORY_COLUMNS                                                                            \
    "position, statement, ts, op, username, procedure, pk, a, b, g, v, s, old_a, old_b, old_g, "   \
    "old_v, old_s"

static void check_history(struct check *c) {
    int32_t table, a, b;
    draw_key(c, &table, &a, &b);
    oracle_blocks(&c->e->oracle, table, a, b, &c->blocks);
    oracle_history(&c->e->oracle, &c->blocks, &c->versions);
    for (uint32_t i = 0; i < c->versions.count; i++) {
        expect_history(c, c->versions.items[i]);
    }
    ask(c, "SELECT " HISTORY_COLUMNS " FROM prov_history('%s', '%s')", program_table_name(table),
        key_text(table, a, b).text);
}

/* A half-open stretch of transactions. */
struct stretch {
    uint32_t first, end;
};

static struct stretch draw_stretch(const struct check *c) {
    uint32_t count = c->e->oracle.txn_count;
    uint32_t a = draw(c, count);
    uint32_t b = draw(c, count);
    return (struct stretch){.first = a < b ? a : b, .end = a < b ? b : a};
}

static bool within(const struct stretch *s, uint32_t txn) {
    return txn >= s->first && txn < s->end;
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
    ask(c, "SELECT " HISTORY_COLUMNS " FROM prov_history('%s', 'txn:%llu', 'txn:%llu')",
        program_table_name(table), (unsigned long long)position_of(c, s.first),
        (unsigned long long)position_of(c, s.end));
}

/* -- users and blocks -----------------------------------------------------------------------------
 */

enum { USE_READ = 0, USE_OPS = 4 }; /* else enum oracle_write */

struct use {
    uint32_t n, first, last; /* reads or writes; transactions */
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
            count_use(&uses[o->versions[o->reads[i].version].block * USE_OPS + USE_READ], t);
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
    bool all = draw(c, 2) == 0;
    struct stretch s = all ? (struct stretch){.first = 0, .end = o->txn_count} : draw_stretch(c);
    const uint32_t *names = name_blocks(c);
    struct use *uses =
        dbos_arena_take_zero(&c->arena, (o->block_count + 1) * USE_OPS * sizeof *uses);
    DBOS_CHECK(uses != NULL);
    count_uses(c, user, &s, uses);
    for (uint32_t i = 0; i < o->block_count * USE_OPS; i++) {
        if (uses[i].n > 0) {
            const struct oracle_version *v = &o->versions[names[i / USE_OPS]];
            add_linef(&c->expected, "%s|%s|%s|%u|%llu|%s|%s", program_table_name(v->table),
                      key_of(v).text, i % USE_OPS == USE_READ ? "read" : op_text(i % USE_OPS),
                      uses[i].n, (unsigned long long)position_of(c, uses[i].last),
                      c->e->positions[uses[i].first].ts, c->e->positions[uses[i].last].ts);
        }
    }
    char range[96] = "";
    if (!all) {
        (void)snprintf(range, sizeof range, ", 'txn:%llu', 'txn:%llu'",
                       (unsigned long long)position_of(c, s.first),
                       (unsigned long long)position_of(c, s.end));
    }
    ask(c,
        "SELECT table_name, pk, op, n, last_position, first_ts, last_ts FROM "
        "prov_user_blocks('%s'%s) WHERE op IN ('read', 'insert', 'update', 'delete')",
        program_user_name(user), range);
}

enum { PROCEDURES = 4, VIAS = 2 };

static void check_block_readers(struct check *c) {
    struct oracle *o = &c->e->oracle;
    struct use uses[PROGRAM_USERS * PROCEDURES * VIAS] = {{0}};
    int32_t table, a, b;
    draw_key(c, &table, &a, &b);
    oracle_blocks(o, table, a, b, &c->blocks);
    for (uint32_t i = 0; i < o->read_count; i++) {
        const struct oracle_read *read = &o->reads[i];
        const struct oracle_txn *txn = &o->txns[read->txn];
        if (oracle_list_has(&c->blocks, o->versions[read->version].block)) {
            uint32_t who = (txn->user * PROCEDURES + txn->procedure) * VIAS;
            count_use(&uses[who + (read->via == ORACLE_BY_SCAN)], read->txn);
        }
    }
    for (uint32_t i = 0; i < PROGRAM_USERS * PROCEDURES * VIAS; i++) {
        if (uses[i].n > 0) {
            add_linef(&c->expected, "%s|%s|%s|%u|%s|%s", program_user_name(i / VIAS / PROCEDURES),
                      procedure_text(i / VIAS % PROCEDURES), i % VIAS == 0 ? "row" : "scan",
                      uses[i].n, c->e->positions[uses[i].first].ts,
                      c->e->positions[uses[i].last].ts);
        }
    }
    ask(c,
        "SELECT username, procedure, via, n_reads, first_ts, last_ts FROM "
        "prov_block_readers('%s', '%s')",
        program_table_name(table), key_text(table, a, b).text);
}

/* -- what came from what --------------------------------------------------------------------------
 */

static void expect_walk(struct check *c) {
    const struct oracle *o = &c->e->oracle;
    for (uint32_t i = 0; i < o->version_count; i++) {
        if (c->depths[i] != ORACLE_NONE) {
            const struct oracle_version *v = &o->versions[i];
            const struct oracle_txn *txn = &o->txns[v->txn];
            add_linef(&c->expected, "%u|%s|%s|%llu|%u|%s|%s|%s", c->depths[i],
                      program_table_name(v->table), key_of(v).text,
                      (unsigned long long)position_of(c, v->txn), v->statement, op_text(v->op),
                      program_user_name(txn->user), procedure_text(txn->procedure));
        }
    }
}

static void check_walk(struct check *c, bool down) {
    struct oracle *o = &c->e->oracle;
    int32_t table, a, b;
    draw_versions(c, &table, &a, &b);
    if (!down && c->versions.count > 1) { /* upstream: of the newest version */
        c->versions.items[0] = c->versions.items[c->versions.count - 1];
        c->versions.count = 1;
    }
    if (down) {
        oracle_downstream(o, &c->versions, c->depths);
    } else {
        oracle_upstream(o, &c->versions, c->depths);
    }
    expect_walk(c);
    ask(c,
        "SELECT depth, table_name, pk, position, statement, op, username, procedure FROM "
        "%s('%s', '%s')",
        down ? "prov_downstream" : "prov_upstream", program_table_name(table),
        key_text(table, a, b).text);
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
    for (uint32_t i = 0; i < samples; i++) {
        check_as_of(&c);
        check_last_writer(&c);
        check_last_writer_of_table(&c);
        check_history(&c);
        check_history_of_table(&c);
        check_user_blocks(&c);
        check_block_readers(&c);
        check_walk(&c, true);
        check_walk(&c, false);
    }
    oracle_list_close(&e->alloc, &c.blocks);
    oracle_list_close(&e->alloc, &c.versions);
    dbos_give(&e->alloc, c.depths);
    dbos_arena_fini(&c.arena);
}
