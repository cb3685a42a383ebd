#include "tests/model/oracle.h"

#include <stdio.h>

#include "storage/table.h"

/* -- arrays ---------------------------------------------------------------------------------------
 */

static void *grown(struct dbos_alloc *alloc, void *items, uint32_t count, uint32_t *capacity,
                   size_t item_bytes) {
    if (count < *capacity) {
        return items;
    }
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    items = dbos_retake(alloc, items, *capacity * item_bytes);
    DBOS_CHECK(items != NULL);
    return items;
}

void oracle_list_add(struct dbos_alloc *alloc, struct oracle_list *list, uint32_t item) {
    list->items = grown(alloc, list->items, list->count, &list->capacity, sizeof item);
    list->items[list->count++] = item;
}

bool oracle_list_has(const struct oracle_list *list, uint32_t item) {
    for (uint32_t i = 0; i < list->count; i++) {
        if (list->items[i] == item) {
            return true;
        }
    }
    return false;
}

void oracle_list_close(struct dbos_alloc *alloc, struct oracle_list *list) {
    dbos_give(alloc, list->items);
    *list = (struct oracle_list){0};
}

void oracle_open(struct dbos_alloc *alloc, uint32_t partitions, struct oracle *o) {
    *o = (struct oracle){.alloc = alloc, .partitions = partitions};
}

void oracle_close(struct oracle *o) {
    dbos_give(o->alloc, o->versions);
    dbos_give(o->alloc, o->reads);
    dbos_give(o->alloc, o->txns);
    for (int t = 0; t < MODEL_TABLES; t++) {
        oracle_list_close(o->alloc, &o->live[t]);
    }
    oracle_list_close(o->alloc, &o->copies);
    oracle_list_close(o->alloc, &o->matches);
}

/* -- one transaction under way --------------------------------------------------------------------
 */

struct work {
    struct oracle *o;
    const struct oracle_request *request;
    struct oracle_txn txn;
    uint16_t statement;
    uint64_t value;
    bool looked; /* at anything, if only an absent key or an empty range */
    uint32_t scan_count;
    struct {
        int32_t table;
        uint16_t statement;
    } scans[MODEL_PROGRAM_MAX];
};

uint32_t oracle_partition_of(const struct oracle *o, int32_t a) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT4, a);
    return dbos_slot_of(&datum) % o->partitions;
}

static bool is_partitioned(int32_t table) { return table != MODEL_NOTES; }

/* Is a row with this `a` within what the transaction has in hand? */
static bool in_hand(const struct work *w, int32_t table, int32_t a) {
    return !is_partitioned(table) || w->request->partition == ORACLE_ALL_PARTITIONS ||
           oracle_partition_of(w->o, a) == (uint32_t)w->request->partition;
}

static bool may_write(const struct work *w, int32_t table, int32_t a) {
    return is_partitioned(table) ? in_hand(w, table, a)
                                 : w->request->partition == ORACLE_ALL_PARTITIONS;
}

uint32_t oracle_find(const struct oracle *o, int32_t table, int32_t a, int32_t b) {
    for (uint32_t i = 0; i < o->live[table].count; i++) {
        const struct oracle_row *row = &o->versions[o->live[table].items[i]].row;
        if (row->a == a && (model_key_columns(table) == 1 || row->b == b)) {
            return o->live[table].items[i];
        }
    }
    return ORACLE_NONE;
}

static void note_read(struct work *w, uint32_t version, enum oracle_via via) {
    struct oracle *o = w->o;
    o->reads = grown(o->alloc, o->reads, o->read_count, &o->read_capacity, sizeof *o->reads);
    o->reads[o->read_count++] = (struct oracle_read){
        .txn = o->txn_count, .version = version, .statement = w->statement, .via = (uint8_t)via};
    w->looked = true;
}

static uint32_t add_version(struct work *w, const struct oracle_version *version) {
    struct oracle *o = w->o;
    o->versions =
        grown(o->alloc, o->versions, o->version_count, &o->version_capacity, sizeof *o->versions);
    o->versions[o->version_count] = *version;
    o->versions[o->version_count].txn = o->txn_count;
    o->versions[o->version_count].statement = w->statement;
    o->versions[o->version_count].last_reader = ORACLE_NONE;
    return o->version_count++;
}

static void replace_live(struct oracle *o, int32_t table, uint32_t old, uint32_t fresh) {
    struct oracle_list *live = &o->live[table];
    for (uint32_t i = 0; i < live->count; i++) {
        if (live->items[i] == old) {
            live->items[i] = fresh == ORACLE_NONE ? live->items[--live->count] : fresh;
            return;
        }
    }
    DBOS_CHECK(false);
}

/* -- writes of one row ----------------------------------------------------------------------------
 */

static enum oracle_outcome insert_row(struct work *w, int32_t table, struct oracle_row row) {
    if (!may_write(w, table, row.a)) {
        return ORACLE_ELSEWHERE;
    }
    if (oracle_find(w->o, table, row.a, row.b) != ORACLE_NONE) {
        return ORACLE_DUPLICATE;
    }
    struct oracle_version version = {.row = row,
                                     .block = w->o->block_count++,
                                     .previous = ORACLE_NONE,
                                     .table = (uint8_t)table,
                                     .op = ORACLE_INSERT};
    oracle_list_add(w->o->alloc, &w->o->live[table], add_version(w, &version));
    return ORACLE_DONE;
}

static enum oracle_outcome delete_row(struct work *w, uint32_t old) {
    struct oracle_version version = w->o->versions[old];
    if (!may_write(w, version.table, version.row.a)) {
        return ORACLE_ELSEWHERE;
    }
    version.previous = old;
    version.op = ORACLE_DELETE;
    (void)add_version(w, &version);
    replace_live(w->o, version.table, old, ORACLE_NONE);
    return ORACLE_DONE;
}

static uint32_t slot_of(int32_t a) {
    struct dbos_datum datum = dbos_datum_int(DBOS_TYPE_INT4, a);
    return dbos_slot_of(&datum);
}

static enum oracle_outcome update_row(struct work *w, uint32_t old, struct oracle_row row) {
    struct oracle_version version = w->o->versions[old];
    int32_t table = version.table;
    if (!may_write(w, table, version.row.a) || !may_write(w, table, row.a)) {
        return ORACLE_ELSEWHERE;
    }
    uint32_t other = oracle_find(w->o, table, row.a, row.b);
    if (other != ORACLE_NONE && other != old) {
        return ORACLE_DUPLICATE;
    }
    if (is_partitioned(table) && slot_of(version.row.a) != slot_of(row.a)) {
        enum oracle_outcome outcome = delete_row(w, old);
        return outcome == ORACLE_DONE ? insert_row(w, table, row) : outcome;
    }
    version.row = row;
    version.previous = old;
    version.op = ORACLE_UPDATE;
    replace_live(w->o, table, old, add_version(w, &version));
    return ORACLE_DONE;
}

/* -- statements -----------------------------------------------------------------------------------
 */

/* Does the condition that an index can serve hold? */
static bool in_range(const struct model_op *op, const struct oracle_row *row) {
    switch (op->kind) {
    case MODEL_READ_GROUP:
    case MODEL_READ_GROUP_FILTER:
    case MODEL_CHANGE_GROUP:
    case MODEL_COPY_GROUP:
        return row->g == op->x;
    case MODEL_READ_GROUPS:
    case MODEL_MOVE_GROUPS:
    case MODEL_DELETE_GROUPS:
        return row->g >= op->x && row->g < op->y;
    case MODEL_READ_VALUES:
    case MODEL_CHANGE_VALUES:
        return row->v >= op->x && row->v < op->y;
    case MODEL_READ_SCAN:
    case MODEL_CHANGE_SCAN:
    case MODEL_DELETE_SCAN:
        return row->v % MODEL_SCAN_MODULUS == op->x;
    case MODEL_READ_TAIL:
        return row->a == op->a && row->b >= op->x;
    case MODEL_CHANGE_HEAD:
        return row->a == op->a;
    default:
        DBOS_CHECK(false);
    }
}

/* A condition on `a`: all of the key, or the first column of two. */
static bool is_of_key(int32_t kind) { return kind == MODEL_READ_TAIL || kind == MODEL_CHANGE_HEAD; }

/* Is there an index that visits exactly the rows for which in_range() holds? */
static bool has_index(const struct oracle *o, const struct model_op *op) {
    switch (op->kind) {
    case MODEL_READ_GROUP:
    case MODEL_READ_GROUP_FILTER:
    case MODEL_CHANGE_GROUP:
    case MODEL_COPY_GROUP:
        return op->table != MODEL_LATER;
    case MODEL_READ_GROUPS:
    case MODEL_MOVE_GROUPS:
    case MODEL_DELETE_GROUPS:
        return op->table == MODEL_ITEMS || op->table == MODEL_PAIRS;
    case MODEL_READ_VALUES:
    case MODEL_CHANGE_VALUES:
        return o->value_index[op->table];
    default:
        return is_of_key(op->kind);
    }
}

static bool is_by_key(const struct model_op *op) {
    return model_parameters(op->kind)[0] == 'K' ||
           (is_of_key(op->kind) && model_key_columns(op->table) == 1);
}

/* What the row of a key must fulfil besides. */
static bool passes(const struct model_op *op, const struct oracle_row *row) {
    switch (op->kind) {
    case MODEL_READ_KEY_FILTER:
        return row->v % MODEL_SCAN_MODULUS < op->x;
    case MODEL_READ_TAIL:
        return row->b >= op->x;
    default:
        return true;
    }
}

static enum oracle_outcome look_up_key(struct work *w, const struct model_op *op) {
    if (!in_hand(w, op->table, op->a)) {
        return ORACLE_ELSEWHERE;
    }
    uint32_t found = oracle_find(w->o, op->table, op->a, op->b);
    w->looked = true;
    if (found == ORACLE_NONE) {
        w->txn.absent_count++;
        return ORACLE_DONE;
    }
    note_read(w, found, ORACLE_BY_KEY);
    if (passes(op, &w->o->versions[found].row)) {
        oracle_list_add(w->o->alloc, &w->o->matches, found);
    }
    return ORACLE_DONE;
}

static enum oracle_outcome look_through(struct work *w, const struct model_op *op) {
    bool index = has_index(w->o, op);
    if (is_of_key(op->kind) && !in_hand(w, op->table, op->a)) {
        return ORACLE_ELSEWHERE;
    }
    if (!index) {
        w->scans[w->scan_count].table = op->table;
        w->scans[w->scan_count++].statement = w->statement;
    }
    const struct oracle_list *live = &w->o->live[op->table];
    w->looked = true;
    for (uint32_t i = 0; i < live->count; i++) {
        const struct oracle_row *row = &w->o->versions[live->items[i]].row;
        if (!in_hand(w, op->table, row->a)) {
            continue;
        }
        bool inside = in_range(op, row);
        if (!index || inside) {
            note_read(w, live->items[i], index ? ORACLE_BY_RANGE : ORACLE_BY_SCAN);
        }
        if (inside &&
            (op->kind != MODEL_READ_GROUP_FILTER || row->v % MODEL_SCAN_MODULUS < op->y)) {
            oracle_list_add(w->o->alloc, &w->o->matches, live->items[i]);
        }
    }
    return ORACLE_DONE;
}

static struct oracle_row changed(const struct model_op *op, struct oracle_row row) {
    switch (op->kind) {
    case MODEL_UPDATE:
        row.v += op->x;
        row.s = op->s;
        break;
    case MODEL_UPDATE_GROUP:
        row.g = op->x;
        break;
    case MODEL_UPDATE_KEY:
        *(op->table == MODEL_PAIRS ? &row.b : &row.a) = op->x;
        break;
    case MODEL_CHANGE_GROUP:
        row.v += op->y;
        break;
    case MODEL_CHANGE_HEAD:
        row.v += op->x;
        break;
    case MODEL_COPY_GROUP:
        row.a += op->y;
        break;
    case MODEL_MOVE_GROUPS:
        row.g += op->z;
        break;
    case MODEL_CHANGE_VALUES:
        row.v += op->z;
        break;
    case MODEL_CHANGE_SCAN:
        row.s = op->s;
        break;
    default:
        DBOS_CHECK(false);
    }
    return row;
}

static uint64_t hash_of(const struct oracle_row *row) {
    char text[MODEL_TEXT_BYTES];
    int size = snprintf(text, sizeof text, "s%d", (int)row->s);
    return model_row_hash(row->a, row->b, row->g, row->v, row->s < 0 ? NULL : text, (size_t)size);
}

static enum oracle_outcome write_matches(struct work *w, const struct model_op *op) {
    enum oracle_outcome outcome = ORACLE_DONE;
    bool deletes = op->kind == MODEL_DELETE || op->kind == MODEL_DELETE_GROUPS ||
                   op->kind == MODEL_DELETE_SCAN;
    for (uint32_t i = 0; outcome == ORACLE_DONE && i < w->o->matches.count; i++) {
        uint32_t old = w->o->matches.items[i];
        if (deletes) {
            outcome = delete_row(w, old);
            continue;
        }
        struct oracle_row row = changed(op, w->o->versions[old].row);
        outcome =
            op->kind == MODEL_COPY_GROUP ? insert_row(w, op->table, row) : update_row(w, old, row);
    }
    return outcome;
}

static uint64_t hash_matches(const struct oracle *o) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < o->matches.count; i++) {
        sum += hash_of(&o->versions[o->matches.items[i]].row);
    }
    return sum;
}

static enum oracle_outcome run_insert(struct work *w, const struct model_op *op) {
    struct oracle_row row = {.a = op->a, .b = op->b, .g = op->x, .v = op->y, .s = op->s};
    enum oracle_outcome outcome = insert_row(w, op->table, row);
    if (outcome == ORACLE_DONE && op->kind == MODEL_INSERT_TWO) {
        row.a++;
        row.g++;
        row.v++;
        outcome = insert_row(w, op->table, row);
    }
    w->value = model_value_add(w->value, op->kind == MODEL_INSERT ? 1 : 2, 0);
    return outcome;
}

static enum oracle_outcome run_op(struct work *w, const struct model_op *op) {
    if (op->kind == MODEL_ABORT) {
        return ORACLE_GAVE_UP;
    }
    w->statement++;
    w->o->matches.count = 0;
    if (op->kind == MODEL_INSERT || op->kind == MODEL_INSERT_TWO) {
        return run_insert(w, op);
    }
    enum oracle_outcome outcome = is_by_key(op) ? look_up_key(w, op) : look_through(w, op);
    bool reads = op->kind == MODEL_READ_KEY || op->kind == MODEL_READ_KEY_FILTER ||
                 op->kind == MODEL_READ_TAIL ||
                 (op->kind >= MODEL_READ_GROUP && op->kind <= MODEL_READ_SCAN);
    w->value = model_value_add(w->value, w->o->matches.count, reads ? hash_matches(w->o) : 0);
    if (outcome == ORACLE_DONE && reads && w->o->matches.count > 0 && w->request->procedure == 0) {
        w->txn.egress = w->statement;
    }
    return outcome == ORACLE_DONE && !reads ? write_matches(w, op) : outcome;
}

/* -- begin, commit, abort
 * -------------------------------------------------------------------------- */

static void keep_copy(struct oracle *o, struct oracle_txn *txn) {
    txn->copy_first = o->copies.count;
    for (int t = 0; t < MODEL_TABLES; t++) {
        txn->copy_counts[t] = o->live[t].count;
        for (uint32_t i = 0; i < o->live[t].count; i++) {
            oracle_list_add(o->alloc, &o->copies, o->live[t].items[i]);
        }
    }
}

static void restore_copy(struct oracle *o) {
    for (int t = 0; t < MODEL_TABLES; t++) {
        o->live[t].count = 0;
        uint32_t count = 0;
        const uint32_t *items =
            o->txn_count == 0 ? NULL : oracle_copy(o, o->txn_count - 1, t, &count);
        for (uint32_t i = 0; i < count; i++) {
            oracle_list_add(o->alloc, &o->live[t], items[i]);
        }
    }
}

/* An aborted scan counts as one of the rows that were there before the transaction. */
static void repeat_scans(struct work *w) {
    for (uint32_t i = 0; i < w->scan_count; i++) {
        int32_t table = w->scans[i].table;
        const struct oracle_list *live = &w->o->live[table];
        w->statement = w->scans[i].statement;
        for (uint32_t k = 0; k < live->count; k++) {
            if (in_hand(w, table, w->o->versions[live->items[k]].row.a)) {
                note_read(w, live->items[k], ORACLE_BY_SCAN);
            }
        }
    }
}

/* What was written never existed: a read of it is one of the version before, or of nothing. */
static void undo(struct work *w) {
    struct oracle *o = w->o;
    uint32_t kept = w->txn.read_first;
    for (uint32_t i = w->txn.read_first; i < o->read_count; i++) {
        struct oracle_read read = o->reads[i];
        while (read.version != ORACLE_NONE && read.version >= w->txn.version_first) {
            read.version = o->versions[read.version].previous;
        }
        if (read.version != ORACLE_NONE && read.via != ORACLE_BY_SCAN) {
            o->reads[kept++] = read;
        }
    }
    o->read_count = kept;
    o->version_count = w->txn.version_first;
    restore_copy(o);
    repeat_scans(w);
}

static uint32_t end(struct work *w, bool committed) {
    struct oracle *o = w->o;
    if (!committed) {
        undo(w);
    }
    if (!w->looked && o->version_count == w->txn.version_first) {
        return ORACLE_NONE;
    }
    w->txn.committed = committed;
    w->txn.version_count = o->version_count - w->txn.version_first;
    w->txn.read_count = o->read_count - w->txn.read_first;
    for (uint32_t r = w->txn.read_first; r < o->read_count; r++) {
        struct oracle_version *version = &o->versions[o->reads[r].version];
        o->reads[r].next = version->last_reader;
        version->last_reader = r;
    }
    keep_copy(o, &w->txn);
    o->txns = grown(o->alloc, o->txns, o->txn_count, &o->txn_capacity, sizeof *o->txns);
    o->txns[o->txn_count] = w->txn;
    return o->txn_count++;
}

struct oracle_reply oracle_run(struct oracle *o, const struct oracle_request *request) {
    struct work w = {.o = o, .request = request};
    w.statement = request->procedure != 0; /* the call itself is statement 1 */
    w.txn = (struct oracle_txn){.user = request->user,
                                .procedure = request->procedure,
                                .version_first = o->version_count,
                                .read_first = o->read_count};
    struct oracle_reply reply = {.outcome = ORACLE_DONE};
    for (uint32_t i = 0; i < request->op_count && reply.outcome == ORACLE_DONE; i++) {
        reply.outcome = run_op(&w, &request->ops[i]);
    }
    if (reply.outcome == ORACLE_DONE && request->procedure != 0) {
        w.txn.egress = w.statement; /* its value */
    }
    reply.value = w.value;
    reply.txn = end(&w, reply.outcome == ORACLE_DONE);
    return reply;
}

/* -- questions ------------------------------------------------------------------------------------
 */

const uint32_t *oracle_copy(const struct oracle *o, uint32_t txn, int32_t table, uint32_t *count) {
    const struct oracle_txn *t = &o->txns[txn];
    uint32_t first = t->copy_first;
    for (int32_t i = 0; i < table; i++) {
        first += t->copy_counts[i];
    }
    *count = t->copy_counts[table];
    return o->copies.items + first;
}

void oracle_blocks(struct oracle *o, int32_t table, int32_t a, int32_t b, struct oracle_list *out) {
    out->count = 0;
    for (uint32_t i = 0; i < o->version_count; i++) {
        const struct oracle_version *v = &o->versions[i];
        if (v->table == table && v->row.a == a &&
            (model_key_columns(table) == 1 || v->row.b == b) && !oracle_list_has(out, v->block)) {
            oracle_list_add(o->alloc, out, v->block);
        }
    }
}

void oracle_history(struct oracle *o, const struct oracle_list *blocks, struct oracle_list *out) {
    out->count = 0;
    for (uint32_t i = 0; i < o->version_count; i++) {
        if (oracle_list_has(blocks, o->versions[i].block)) {
            oracle_list_add(o->alloc, out, i);
        }
    }
}

/* Breadth first: `queue` has the versions reached, in the order of depth. */
struct walk {
    struct oracle *o;
    uint32_t *depths;
    struct oracle_list queue;
};

static void reach(struct walk *w, uint32_t version, uint32_t depth) {
    if (w->depths[version] == ORACLE_NONE) {
        w->depths[version] = depth;
        oracle_list_add(w->o->alloc, &w->queue, version);
    }
}

static void walk_begin(struct walk *w, const struct oracle_list *starts) {
    for (uint32_t i = 0; i < w->o->version_count; i++) {
        w->depths[i] = ORACLE_NONE;
    }
    for (uint32_t i = 0; i < starts->count; i++) {
        reach(w, starts->items[i], 0);
    }
}

void oracle_upstream(struct oracle *o, const struct oracle_list *starts, uint32_t *depths) {
    struct walk w = {.o = o, .depths = depths};
    walk_begin(&w, starts);
    for (uint32_t i = 0; i < w.queue.count; i++) {
        const struct oracle_version *to = &o->versions[w.queue.items[i]];
        const struct oracle_txn *txn = &o->txns[to->txn];
        for (uint32_t r = txn->read_first; r < txn->read_first + txn->read_count; r++) {
            if (o->reads[r].statement <= to->statement) {
                reach(&w, o->reads[r].version, depths[w.queue.items[i]] + 1);
            }
        }
    }
    oracle_list_close(o->alloc, &w.queue);
}

static void reach_writes_after(struct walk *w, const struct oracle_read *read, uint32_t depth) {
    const struct oracle_txn *txn = &w->o->txns[read->txn];
    for (uint32_t v = txn->version_first; v < txn->version_first + txn->version_count; v++) {
        if (w->o->versions[v].statement >= read->statement) {
            reach(w, v, depth);
        }
    }
}

static void reach_readers(struct walk *w, uint32_t version) {
    const struct oracle *o = w->o;
    uint32_t depth = w->depths[version] + 1;
    for (uint32_t r = o->versions[version].last_reader; r != ORACLE_NONE; r = o->reads[r].next) {
        reach_writes_after(w, &o->reads[r], depth);
    }
}

void oracle_downstream(struct oracle *o, const struct oracle_list *starts, uint32_t *depths) {
    struct walk w = {.o = o, .depths = depths};
    walk_begin(&w, starts);
    for (uint32_t i = 0; i < w.queue.count; i++) {
        reach_readers(&w, w.queue.items[i]);
    }
    oracle_list_close(o->alloc, &w.queue);
}
