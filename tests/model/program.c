#include "tests/model/program.h"

#include <stdio.h>

static const char *const statements[] = {MODEL_STATEMENTS, MODEL_STATEMENTS_LATER};
_Static_assert(sizeof statements / sizeof statements[0] == MODEL_TABLES * MODEL_KINDS,
               "one for each kind and table");

/* Keys are drawn from so few that all tables together can not have more than 1,000 rows. */
enum {
    ITEMS = 340,
    NOTES = 120,
    PAIRS_A = 40,
    PAIRS_B = 5,
    LATERS = 60,
    GROUPS = 40,
    VALUES = 400
};

const char *program_procedure_name(uint32_t procedure) {
    static const char *const names[] = {NULL, "model_one", "model_all", "model_sql"};
    return names[procedure];
}

const char *program_user_name(uint32_t user) {
    static const char *const names[PROGRAM_USERS] = {"ann", "bob", "cyd", "dan"};
    return names[user];
}

const char *program_table_name(int32_t table) {
    static const char *const names[MODEL_TABLES] = {"items", "notes", "pairs", "later"};
    return names[table];
}

/* -- drawing --------------------------------------------------------------------------------------
 */

static int32_t below(const struct program_source *source, int32_t bound) {
    return (int32_t)dbos_rng_below(source->rng, (uint64_t)bound);
}

static int32_t key_range(int32_t table) {
    static const int32_t ranges[MODEL_TABLES] = {ITEMS, NOTES, PAIRS_A, LATERS};
    return ranges[table];
}

static int32_t draw_kind(const struct program_source *source) {
    static const uint8_t weights[MODEL_KINDS] = {
        [MODEL_READ_KEY] = 14,         [MODEL_READ_KEY_FILTER] = 5, [MODEL_INSERT] = 14,
        [MODEL_INSERT_TWO] = 7,        [MODEL_UPDATE] = 14,         [MODEL_UPDATE_GROUP] = 5,
        [MODEL_UPDATE_KEY] = 3,        [MODEL_DELETE] = 6,          [MODEL_READ_GROUP] = 6,
        [MODEL_READ_GROUP_FILTER] = 3, [MODEL_READ_GROUPS] = 5,     [MODEL_READ_VALUES] = 3,
        [MODEL_READ_SCAN] = 2,         [MODEL_CHANGE_GROUP] = 4,    [MODEL_MOVE_GROUPS] = 2,
        [MODEL_CHANGE_VALUES] = 2,     [MODEL_CHANGE_SCAN] = 1,     [MODEL_DELETE_GROUPS] = 1,
        [MODEL_DELETE_SCAN] = 1,       [MODEL_READ_TAIL] = 5,       [MODEL_CHANGE_HEAD] = 3,
        [MODEL_COPY_GROUP] = 2,
    };
    int32_t total = 0;
    for (int i = 0; i < MODEL_KINDS; i++) {
        total += weights[i];
    }
    int32_t at = below(source, total);
    int32_t kind = 0;
    while (at >= weights[kind]) {
        at -= weights[kind++];
    }
    return kind;
}

static int32_t draw_table(const struct program_source *source, bool ad_hoc) {
    int32_t at = below(source, 100);
    if (ad_hoc && source->later_exists && at < 15) {
        return MODEL_LATER;
    }
    return at < 50 ? MODEL_ITEMS : at < 70 ? MODEL_NOTES : MODEL_PAIRS;
}

/* A key value, within `partition` where that is not ORACLE_ALL_PARTITIONS. */
static int32_t draw_key(const struct program_source *source, int32_t table, int32_t partition) {
    int32_t a = below(source, key_range(table));
    while (partition != ORACLE_ALL_PARTITIONS && table != MODEL_NOTES &&
           oracle_partition_of(source->oracle, a) != (uint32_t)partition) {
        a = below(source, key_range(table));
    }
    return a;
}

static void draw_range(const struct program_source *source, struct model_op *op) {
    switch (op->kind) {
    case MODEL_READ_VALUES:
    case MODEL_CHANGE_VALUES:
        op->x = below(source, VALUES);
        op->y = op->x + 1 + below(source, 25);
        op->z = 1 + below(source, 9);
        break;
    case MODEL_READ_SCAN:
    case MODEL_CHANGE_SCAN:
    case MODEL_DELETE_SCAN:
        op->x = below(source, MODEL_SCAN_MODULUS);
        break;
    case MODEL_COPY_GROUP:
        op->x = below(source, GROUPS);
        op->y = below(source, 2) == 0 ? 1 + below(source, 12) : -1 - below(source, 12);
        break;
    case MODEL_READ_GROUP:
    case MODEL_READ_GROUP_FILTER:
    case MODEL_CHANGE_GROUP:
        op->x = below(source, GROUPS);
        op->y = 1 + below(source, MODEL_SCAN_MODULUS);
        break;
    default:
        op->x = below(source, GROUPS);
        op->y = op->x + below(source, op->kind == MODEL_DELETE_GROUPS ? 2 : 6);
        op->z = below(source, 2) == 0 ? 1 : -1;
        break;
    }
}

static bool is_insert(int32_t kind) { return kind == MODEL_INSERT || kind == MODEL_INSERT_TWO; }

static void draw_op(const struct program_source *source, bool ad_hoc, int32_t partition,
                    struct model_op *op) {
    *op = (struct model_op){.kind = draw_kind(source), .table = draw_table(source, ad_hoc)};
    bool stray = partition != ORACLE_ALL_PARTITIONS && below(source, 60) == 0;
    bool wants_absent = is_insert(op->kind);
    for (int tries = 0; tries < 3; tries++) {
        op->a = draw_key(source, op->table, stray ? ORACLE_ALL_PARTITIONS : partition);
        op->b = below(source, PAIRS_B);
        if ((oracle_find(source->oracle, op->table, op->a, op->b) == ORACLE_NONE) == wants_absent) {
            break;
        }
    }
    op->s = below(source, 100) - 20;
    switch (op->kind) {
    case MODEL_INSERT:
    case MODEL_INSERT_TWO:
        op->x = below(source, GROUPS);
        op->y = below(source, VALUES);
        break;
    case MODEL_UPDATE:
        op->x = 1 + below(source, 20);
        break;
    case MODEL_UPDATE_GROUP:
        op->x = below(source, GROUPS);
        break;
    case MODEL_UPDATE_KEY:
        op->x = op->table == MODEL_PAIRS ? below(source, PAIRS_B)
                                         : draw_key(source, op->table, partition);
        break;
    case MODEL_READ_TAIL:
        op->x = below(source, PAIRS_B);
        break;
    case MODEL_CHANGE_HEAD:
        op->x = 1 + below(source, 9);
        break;
    case MODEL_READ_KEY_FILTER:
        op->x = 1 + below(source, MODEL_SCAN_MODULUS);
        break;
    default:
        draw_range(source, op);
        break;
    }
}

static bool is_read(int32_t kind) {
    return kind == MODEL_READ_KEY || kind == MODEL_READ_KEY_FILTER || kind == MODEL_READ_TAIL ||
           (kind >= MODEL_READ_GROUP && kind <= MODEL_READ_SCAN);
}

/* On one partition an unpartitioned table is read only; now and then the attempt to insert into it,
 * which must fail. */
static bool fits(const struct program_source *source, int32_t partition,
                 const struct model_op *op) {
    if (op->kind == MODEL_COPY_GROUP) { /* elsewhere, or a duplicate? Not on one partition */
        return partition == ORACLE_ALL_PARTITIONS;
    }
    if (partition == ORACLE_ALL_PARTITIONS || op->table != MODEL_NOTES || is_read(op->kind)) {
        return true;
    }
    return is_insert(op->kind) && below(source, 8) == 0;
}

static void add_op(const struct program_source *source, struct oracle_request *request) {
    struct model_op *op = &request->ops[request->op_count++];
    do {
        draw_op(source, request->procedure == PROGRAM_AD_HOC, request->partition, op);
    } while (!fits(source, request->partition, op));
}

static void draw_ops(const struct program_source *source, uint32_t count, bool records,
                     struct oracle_request *request) {
    while (request->op_count < count) {
        add_op(source, request);
        struct model_op *op = &request->ops[0];
        if (request->op_count == 1 && records) {
            op->kind = MODEL_READ_KEY;
            op->a = draw_key(source, op->table, request->partition);
        }
    }
}

static void draw_call(const struct program_source *source, bool records,
                      struct oracle_request *request) {
    bool one = below(source, 100) < 60;
    request->procedure = one ? PROGRAM_ONE : PROGRAM_ALL;
    if (one) {
        request->partition = below(source, (int32_t)source->oracle->partitions);
    }
    draw_ops(source, 1 + (uint32_t)below(source, 7), records, request);
    if (below(source, 8) == 0) {
        uint32_t at = 1 + (uint32_t)below(source, (int32_t)request->op_count);
        request->ops[at] = (struct model_op){.kind = MODEL_ABORT};
        request->op_count = at + 1;
    }
}

static void draw_sql_call(const struct program_source *source, struct oracle_request *request) {
    int32_t a = below(source, ITEMS);
    request->procedure = PROGRAM_SQL;
    request->op_count = 2;
    request->ops[0] = (struct model_op){
        .kind = MODEL_UPDATE_GROUP, .table = MODEL_ITEMS, .a = a, .x = below(source, GROUPS)};
    request->ops[1] = (struct model_op){.kind = MODEL_READ_KEY, .table = MODEL_ITEMS, .a = a};
}

void program_random(const struct program_source *source, uint32_t user, bool records,
                    struct oracle_request *out) {
    *out = (struct oracle_request){.user = user, .partition = ORACLE_ALL_PARTITIONS};
    int32_t at = below(source, 100);
    if (at < 55) {
        draw_call(source, records, out);
    } else if (at < 62) {
        draw_sql_call(source, out);
    } else {
        out->procedure = PROGRAM_AD_HOC;
        draw_ops(source, below(source, 4) == 0 ? 2 + (uint32_t)below(source, 3) : 1, records, out);
    }
}

void program_with_marker(const struct program_source *source, uint32_t user, int32_t marker,
                         struct oracle_request *out) {
    *out = (struct oracle_request){.user = user, .partition = ORACLE_ALL_PARTITIONS};
    bool one = below(source, 2) == 0;
    out->procedure = one ? PROGRAM_ONE : PROGRAM_ALL;
    if (one) {
        out->partition = (int32_t)oracle_partition_of(source->oracle, marker);
    }
    draw_ops(source, 1 + (uint32_t)below(source, 5), true, out);
    out->ops[out->op_count++] = (struct model_op){
        .kind = MODEL_INSERT, .table = MODEL_ITEMS, .a = marker, .x = 1000, .y = 5000};
}

void program_load(const struct program_source *source, uint32_t part, struct oracle_request *out) {
    *out = (struct oracle_request){
        .user = part % PROGRAM_USERS, .procedure = PROGRAM_ALL, .partition = ORACLE_ALL_PARTITIONS};
    while (out->op_count < 20) {
        uint32_t n = part * 20 + out->op_count;
        struct model_op *op = &out->ops[out->op_count++];
        *op = (struct model_op){.kind = MODEL_INSERT, .s = below(source, 100) - 20};
        op->x = below(source, GROUPS);
        op->y = below(source, VALUES);
        op->table = n < 120 ? MODEL_ITEMS : n < 160 ? MODEL_NOTES : MODEL_PAIRS;
        op->a = (int32_t)(n < 160 ? n * 2 % 240 : (n - 160) % PAIRS_A);
        op->b = (int32_t)(n < 160 ? n : (n - 160) / PAIRS_A);
    }
}

void program_look_up(uint32_t user, int32_t table, int32_t a, struct oracle_request *out) {
    *out = (struct oracle_request){.user = user, .partition = ORACLE_ALL_PARTITIONS, .op_count = 1};
    out->ops[0] = (struct model_op){.kind = MODEL_READ_KEY, .table = table, .a = a};
}

/* -- text -----------------------------------------------------------------------------------------
 */

struct text {
    char *at;
    size_t left;
};

static void put(struct text *text, const char *format, ...) DBOS_PRINTF(2, 3);
static void put(struct text *text, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int size = vsnprintf(text->at, text->left, format, args);
    va_end(args);
    DBOS_CHECK(size >= 0 && (size_t)size < text->left);
    text->at += size;
    text->left -= (size_t)size;
}

static void put_value(struct text *text, const struct model_op *op, char letter) {
    switch (letter) {
    case 'a':
        put(text, "%d", (int)op->a);
        break;
    case 'b':
        put(text, "%d", (int)op->b);
        break;
    case 'x':
        put(text, "%d", (int)op->x);
        break;
    case 'y':
        put(text, "(%d)", (int)op->y);
        break;
    case 'z':
        put(text, "(%d)", (int)op->z);
        break;
    default:
        if (op->s < 0) {
            put(text, "NULL");
        } else {
            put(text, "'s%d'", (int)op->s);
        }
        break;
    }
}

/* The letters of an operation's parameters, K spelt out. */
static void expand_parameters(const struct model_op *op, char *letters) {
    for (const char *c = model_parameters(op->kind); *c != '\0'; c++) {
        *letters++ = *c == 'K' ? 'a' : *c;
        if (*c == 'K' && model_key_columns(op->table) == 2) {
            *letters++ = 'b';
        }
    }
    *letters = '\0';
}

static void put_statement(struct text *text, const struct model_op *op) {
    char letters[8];
    expand_parameters(op, letters);
    for (const char *c = statements[op->table * MODEL_KINDS + op->kind]; *c != '\0'; c++) {
        if (*c == '$') {
            put_value(text, op, letters[*++c - '1']);
        } else {
            put(text, "%c", *c);
        }
    }
}

static void put_program(struct text *text, const struct oracle_request *request) {
    const uint8_t *bytes = (const uint8_t *)request->ops;
    put(text, "'\\x");
    for (size_t i = 0; i < request->op_count * sizeof(struct model_op); i++) {
        put(text, "%02x", bytes[i]);
    }
    put(text, "'");
}

/* Any key of the partition routes a call there. */
static int32_t routing_key(const struct oracle_request *request) {
    struct oracle partitions = {.partitions = 2};
    int32_t a = 0;
    while (oracle_partition_of(&partitions, a) != (uint32_t)request->partition) {
        a++;
    }
    return a;
}

void program_text(const struct oracle_request *request, char *out) {
    struct text text = {.at = out, .left = PROGRAM_TEXT_BYTES};
    switch (request->procedure) {
    case PROGRAM_ONE:
        put(&text, "SELECT model_one(%d, ", (int)routing_key(request));
        put_program(&text, request);
        put(&text, ")");
        break;
    case PROGRAM_ALL:
        put(&text, "SELECT model_all(");
        put_program(&text, request);
        put(&text, ")");
        break;
    case PROGRAM_SQL:
        put(&text, "SELECT model_sql(%d, %d)", (int)request->ops[0].a, (int)request->ops[0].x);
        break;
    default:
        for (uint32_t i = 0; i < request->op_count; i++) {
            put(&text, "%s", i == 0 ? "" : "; ");
            put_statement(&text, &request->ops[i]);
        }
        break;
    }
}
