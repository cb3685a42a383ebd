#include "tests/history/workload.h"

#include <string.h>

enum { AMOUNT_MAX = 50 };

void workload_init(struct workload *w) {
    for (uint32_t part = 0; part < WORKLOAD_PARTS; part++) {
        for (uint32_t i = 0; i < WORKLOAD_LISTS; i++) {
            atomic_init(&w->lists[part][i].object, part + i * WORKLOAD_PARTS);
            atomic_init(&w->lists[part][i].writes, 0);
        }
        for (uint32_t i = 0; i < WORKLOAD_SETS; i++) {
            atomic_init(&w->sets[part][i].object, part + i * WORKLOAD_PARTS);
            atomic_init(&w->sets[part][i].writes, 0);
        }
        atomic_init(&w->next_list[part], part + WORKLOAD_LISTS * WORKLOAD_PARTS);
        atomic_init(&w->next_set[part], part + WORKLOAD_SETS * WORKLOAD_PARTS);
    }
    atomic_init(&w->next_value, 1);
}

/* -- picking -------------------------------------------------------------------------------------
 */

static uint32_t below(struct dbos_rng *rng, uint32_t bound) {
    return (uint32_t)dbos_rng_below(rng, bound);
}

/* Who reaches the limit puts another object in the slot; who still has the full one writes to it.
 */
static uint32_t use_slot(struct workload_slot *slot, _Atomic uint32_t *next, bool is_write) {
    if (is_write && atomic_fetch_add(&slot->writes, 1) == WORKLOAD_ELEMENTS_MAX) {
        atomic_store(&slot->object, atomic_fetch_add(next, WORKLOAD_PARTS));
        atomic_store(&slot->writes, 0);
    }
    return atomic_load(&slot->object);
}

/* Now and then a reader looks at an older one. */
static uint32_t maybe_older(struct dbos_rng *rng, uint32_t object) {
    uint32_t back = WORKLOAD_PARTS * (1 + below(rng, WORKLOAD_LISTS));
    return below(rng, 20) == 0 && object >= back ? object - back : object;
}

static uint32_t pick_list(struct workload *w, struct dbos_rng *rng, uint32_t part, bool is_write) {
    struct workload_slot *slot = &w->lists[part][below(rng, WORKLOAD_LISTS)];
    uint32_t object = use_slot(slot, &w->next_list[part], is_write);
    return is_write ? object : maybe_older(rng, object);
}

static uint32_t pick_set(struct workload *w, struct dbos_rng *rng, uint32_t part, bool is_write) {
    struct workload_slot *slot = &w->sets[part][below(rng, WORKLOAD_SETS)];
    uint32_t object = use_slot(slot, &w->next_set[part], is_write);
    return is_write ? object : maybe_older(rng, object);
}

static uint32_t pick_register(struct dbos_rng *rng, uint32_t part) {
    return part + WORKLOAD_PARTS * below(rng, WORKLOAD_REGISTERS);
}

static void add_step(struct workload_op *op, int32_t kind, uint32_t object, int64_t value) {
    DBOS_CHECK(op->count < WORKLOAD_STEPS_MAX);
    int32_t part = (int32_t)(object % WORKLOAD_PARTS);
    op->part = op->count == 0 || op->part == part ? part : -1;
    op->steps[op->count++] = (struct history_op_step){
        .kind = kind, .part = part, .object = (int64_t)object, .value = value};
}

static int64_t new_value(struct workload *w) { return atomic_fetch_add(&w->next_value, 1); }

static void append(struct workload *w, struct dbos_rng *rng, struct workload_op *op,
                   uint32_t part) {
    add_step(op, HISTORY_OP_APPEND, pick_list(w, rng, part, true), new_value(w));
}

static void read_list(struct workload *w, struct dbos_rng *rng, struct workload_op *op,
                      uint32_t part) {
    add_step(op, HISTORY_OP_READ_LIST, pick_list(w, rng, part, false), 0);
}

/* The part of the first step, or, for a transaction that crosses parts, any. */
static uint32_t next_part(struct dbos_rng *rng, const struct workload_op *op, bool crosses) {
    return crosses || op->count == 0 ? below(rng, WORKLOAD_PARTS)
                                     : (uint32_t)op->steps[0].object % WORKLOAD_PARTS;
}

static void pick_lists(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    bool crosses = below(rng, 16) == 0;
    op->kind = HISTORY_LIST_TXN;
    for (uint32_t count = 1 + below(rng, 4); count > 0; count--) {
        (below(rng, 2) == 0 ? append : read_list)(w, rng, op, next_part(rng, op, crosses));
    }
}

/* A read, a blind write, both, or a swap that reads another register, too. */
static void pick_registers(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    uint32_t part = below(rng, WORKLOAD_PARTS);
    uint32_t object = pick_register(rng, part);
    uint32_t form = below(rng, 8);
    op->kind = HISTORY_REGISTER_TXN;
    if (form != 0) {
        add_step(op, HISTORY_OP_READ, object, 0);
    }
    if (form < 4) {
        add_step(op, HISTORY_OP_WRITE, object, new_value(w));
    }
    if (form == 3) {
        part = below(rng, 4) == 0 ? below(rng, WORKLOAD_PARTS) : part;
        add_step(op, HISTORY_OP_READ, pick_register(rng, part), 0);
    }
}

static void pick_transfer(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    uint32_t part = below(rng, WORKLOAD_PARTS);
    uint32_t from = below(rng, WORKLOAD_ACCOUNTS);
    uint32_t to = (from + 1 + below(rng, WORKLOAD_ACCOUNTS - 1)) % WORKLOAD_ACCOUNTS;
    uint32_t to_part = below(rng, 8) == 0 ? below(rng, WORKLOAD_PARTS) : part;
    uint32_t accounts[2] = {from * WORKLOAD_PARTS + part, to * WORKLOAD_PARTS + to_part};
    int64_t amount = 1 + below(rng, AMOUNT_MAX);
    op->kind = HISTORY_TRANSFER;
    add_step(op, HISTORY_OP_READ_ACCOUNT, accounts[0], 0);
    add_step(op, HISTORY_OP_READ_ACCOUNT, accounts[1], 0);
    add_step(op, HISTORY_OP_CHANGE, accounts[0], new_value(w));
    add_step(op, HISTORY_OP_CHANGE, accounts[1], new_value(w));
    op->steps[2].amount = -amount;
    op->steps[3].amount = amount;
}

static void pick_snapshot(struct workload_op *op) {
    op->kind = HISTORY_SNAPSHOT;
    for (uint32_t i = 0; i < WORKLOAD_PARTS * WORKLOAD_ACCOUNTS; i++) {
        add_step(op, HISTORY_OP_READ_ACCOUNT, i, 0);
    }
}

static void pick_sets(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    uint32_t part = below(rng, WORKLOAD_PARTS);
    op->kind = HISTORY_SET_TXN;
    if (below(rng, 2) == 0) {
        add_step(op, HISTORY_OP_ADD, pick_set(w, rng, part, true), new_value(w));
    } else {
        add_step(op, HISTORY_OP_READ_SET, pick_set(w, rng, part, false), 0);
    }
}

/* Either writes to a list, a register and a set, or reads from all of them. */
static void pick_mixed(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    bool crosses = below(rng, 8) == 0;
    bool is_write = below(rng, 2) == 0;
    op->kind = HISTORY_MIXED;
    (is_write ? append : read_list)(w, rng, op, next_part(rng, op, crosses));
    uint32_t object = pick_register(rng, next_part(rng, op, crosses));
    add_step(op, HISTORY_OP_READ, object, 0);
    if (is_write) {
        add_step(op, HISTORY_OP_WRITE, object, new_value(w));
    }
    uint32_t set = pick_set(w, rng, next_part(rng, op, crosses), is_write);
    add_step(op, is_write ? HISTORY_OP_ADD : HISTORY_OP_READ_SET, set, is_write ? new_value(w) : 0);
}

void workload_pick(struct workload *w, struct dbos_rng *rng, struct workload_op *out) {
    uint32_t kind = below(rng, 100);
    out->count = 0;
    if (kind < 40) {
        pick_lists(w, rng, out);
    } else if (kind < 60) {
        pick_registers(w, rng, out);
    } else if (kind < 75) {
        pick_transfer(w, rng, out);
    } else if (kind < 76) {
        pick_snapshot(out);
    } else if (kind < 93) {
        pick_sets(w, rng, out);
    } else {
        pick_mixed(w, rng, out);
    }
    if (below(rng, 32) == 0 && out->kind != HISTORY_SNAPSHOT) {
        add_step(out, HISTORY_OP_ABORT, (uint32_t)out->steps[0].object, 0);
    }
}

static void pick_one_read(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    uint32_t part = below(rng, WORKLOAD_PARTS);
    uint32_t form = below(rng, 4);
    if (form < 2) {
        op->kind = HISTORY_LIST_TXN;
        read_list(w, rng, op, part);
    } else if (form == 2) {
        op->kind = HISTORY_SET_TXN;
        add_step(op, HISTORY_OP_READ_SET, pick_set(w, rng, part, false), 0);
    } else {
        op->kind = HISTORY_REGISTER_TXN;
        add_step(op, HISTORY_OP_READ, pick_register(rng, part), 0);
    }
}

static void pick_three_reads(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    bool crosses = below(rng, 3) == 0;
    op->kind = HISTORY_MIXED;
    read_list(w, rng, op, below(rng, WORKLOAD_PARTS));
    add_step(op, HISTORY_OP_READ_SET, pick_set(w, rng, next_part(rng, op, crosses), false), 0);
    add_step(op, HISTORY_OP_READ, pick_register(rng, next_part(rng, op, crosses)), 0);
}

/* At most one write, which may find no list to append to: then the transaction has no effect. */
static void pick_one_write(struct workload *w, struct dbos_rng *rng, struct workload_op *op) {
    uint32_t part = below(rng, WORKLOAD_PARTS);
    uint32_t form = below(rng, 4);
    if (form < 2) {
        op->kind = HISTORY_LIST_TXN;
        append(w, rng, op, part);
        add_step(op, HISTORY_OP_READ_LIST, (uint32_t)op->steps[0].object, 0);
    } else if (form == 2) {
        op->kind = HISTORY_MIXED;
        add_step(op, HISTORY_OP_ADD, pick_set(w, rng, part, true), new_value(w));
        read_list(w, rng, op, part);
    } else {
        op->kind = HISTORY_REGISTER_TXN;
        add_step(op, HISTORY_OP_WRITE, pick_register(rng, part), new_value(w));
    }
}

/* Most of them only read: a call of a function that might write waits for its own record, a SELECT
 * for what it saw. */
void workload_pick_sql(struct workload *w, struct dbos_rng *rng, struct workload_op *out) {
    uint32_t form = below(rng, 64);
    out->count = 0;
    if (form == 0) {
        pick_snapshot(out);
    } else if (form < 32) {
        pick_one_read(w, rng, out);
    } else if (form < 40) {
        pick_three_reads(w, rng, out);
    } else {
        pick_one_write(w, rng, out);
    }
}

bool workload_final_read(const struct workload *w, uint32_t number, struct workload_op *out) {
    uint32_t lists = 0;
    uint32_t sets = 0;
    for (uint32_t part = 0; part < WORKLOAD_PARTS; part++) {
        uint32_t list = atomic_load(&w->next_list[part]);
        uint32_t set = atomic_load(&w->next_set[part]);
        lists = list > lists ? list : lists;
        sets = set > sets ? set : sets;
    }
    out->count = 0;
    if (number < lists) {
        out->kind = HISTORY_LIST_TXN;
        add_step(out, HISTORY_OP_READ_LIST, number, 0);
        return true;
    }
    number -= lists;
    if (number < sets) {
        out->kind = HISTORY_SET_TXN;
        add_step(out, HISTORY_OP_READ_SET, number, 0);
        return true;
    }
    number -= sets;
    if (number < WORKLOAD_PARTS * WORKLOAD_REGISTERS) {
        out->kind = HISTORY_REGISTER_TXN;
        add_step(out, HISTORY_OP_READ, number, 0);
        return true;
    }
    pick_snapshot(out);
    return number == WORKLOAD_PARTS * WORKLOAD_REGISTERS;
}

/* -- SQL -----------------------------------------------------------------------------------------
 */

const char *const *workload_schema(void) {
    static const char *const statements[] = {
        "CREATE TABLE lists (part bigint, id bigint, body bytea NOT NULL, PRIMARY KEY (part, id)) "
        "PARTITION BY HASH (part)",
        "CREATE TABLE registers (part bigint, id bigint, value bigint NOT NULL, "
        "PRIMARY KEY (part, id)) PARTITION BY HASH (part)",
        "CREATE TABLE sets (part bigint, id bigint, element bigint, "
        "PRIMARY KEY (part, id, element)) PARTITION BY HASH (part)",
        "CREATE TABLE accounts (part bigint, id bigint, tag bigint NOT NULL, "
        "balance bigint NOT NULL, PRIMARY KEY (part, id)) PARTITION BY HASH (part)",
        NULL,
    };
    return statements;
}

bool workload_fill(uint32_t number, char out[WORKLOAD_SQL_BYTES]) {
    uint32_t registers = WORKLOAD_FIRST_ACCOUNT;
    if (number < registers) {
        (void)snprintf(out, WORKLOAD_SQL_BYTES, "INSERT INTO registers VALUES (%u, %u, 0)",
                       number % WORKLOAD_PARTS, number);
        return true;
    }
    number -= registers;
    (void)snprintf(out, WORKLOAD_SQL_BYTES, "INSERT INTO accounts VALUES (%u, %u, 0, %d)",
                   number % WORKLOAD_PARTS, number, WORKLOAD_BALANCE);
    return number < WORKLOAD_PARTS * WORKLOAD_ACCOUNTS;
}

static void append_hex(char *out, int64_t value) {
    const uint8_t *bytes = (const uint8_t *)&value;
    for (size_t i = 0; i < sizeof value; i++) {
        (void)snprintf(out + 2 * i, 3, "%02x", bytes[i]);
    }
}

static void say_step(const struct history_op_step *step, char *out, size_t max) {
    static const char *const forms[HISTORY_OP_KINDS] = {
        [HISTORY_OP_APPEND] =
            "UPDATE lists SET body = body || '\\x%s' WHERE part = %d AND id = %lld; ",
        [HISTORY_OP_READ_LIST] = "SELECT body FROM lists WHERE part = %d AND id = %lld; ",
        [HISTORY_OP_WRITE] = "UPDATE registers SET value = %lld WHERE part = %d AND id = %lld; ",
        [HISTORY_OP_READ] = "SELECT value FROM registers WHERE part = %d AND id = %lld; ",
        [HISTORY_OP_ADD] = "INSERT INTO sets (part, id, element) VALUES (%d, %lld, %lld); ",
        [HISTORY_OP_READ_SET] = "SELECT element FROM sets WHERE part = %d AND id = %lld; ",
    };
    const char *form = forms[step->kind];
    char hex[2 * sizeof step->value + 1];
    DBOS_CHECK(form != NULL);
    switch (step->kind) {
    case HISTORY_OP_APPEND:
        append_hex(hex, step->value);
        (void)snprintf(out, max, form, hex, step->part, (long long)step->object);
        break;
    case HISTORY_OP_WRITE:
        (void)snprintf(out, max, form, (long long)step->value, step->part, (long long)step->object);
        break;
    case HISTORY_OP_ADD:
        (void)snprintf(out, max, form, step->part, (long long)step->object, (long long)step->value);
        break;
    default:
        (void)snprintf(out, max, form, step->part, (long long)step->object);
        break;
    }
}

void workload_sql(const struct workload_op *op, char out[WORKLOAD_SQL_BYTES]) {
    size_t used = 0;
    out[0] = '\0';
    if (op->kind == HISTORY_SNAPSHOT) {
        (void)snprintf(out, WORKLOAD_SQL_BYTES, "SELECT 2, tag, balance FROM accounts ORDER BY id");
        return;
    }
    for (uint32_t i = 0; i < op->count; i++) {
        say_step(&op->steps[i], out + used, WORKLOAD_SQL_BYTES - used);
        used += strlen(out + used);
    }
}

/* -- the history ---------------------------------------------------------------------------------
 */

/* The step as the history has it; false: it says nothing. */
static bool as_history_step(const struct history_op_step *step, struct history_step *out) {
    static const int actions[HISTORY_OP_KINDS] = {
        [HISTORY_OP_APPEND] = HISTORY_APPEND,
        [HISTORY_OP_READ_LIST] = HISTORY_READ_LIST,
        [HISTORY_OP_WRITE] = HISTORY_WRITE,
        [HISTORY_OP_READ] = HISTORY_READ,
        [HISTORY_OP_ADD] = HISTORY_ADD,
        [HISTORY_OP_READ_SET] = HISTORY_READ_SET,
        [HISTORY_OP_CHANGE] = HISTORY_WRITE,
        [HISTORY_OP_READ_ACCOUNT] = HISTORY_READ,
        [HISTORY_OP_ABORT] = -1,
    };
    bool is_account = step->kind == HISTORY_OP_CHANGE || step->kind == HISTORY_OP_READ_ACCOUNT;
    *out = (struct history_step){.action = (uint8_t)actions[step->kind],
                                 .object = (uint32_t)step->object +
                                           (is_account ? WORKLOAD_FIRST_ACCOUNT : 0),
                                 .value = step->value};
    if (is_account) {
        out->balance = HISTORY_BALANCE_UNKNOWN;
    }
    return actions[step->kind] >= 0;
}

size_t workload_begin(struct history *h, const struct workload_op *op, uint32_t process,
                      uint64_t now_ns) {
    size_t number = history_begin(h, op->kind, process, now_ns);
    for (uint32_t i = 0; i < op->count; i++) {
        struct history_step step;
        if (as_history_step(&op->steps[i], &step)) {
            history_add_step(h, &step);
        }
    }
    return number;
}

/* An account's new balance is what was read of it before, and the amount. */
static void set_new_balance(struct history *h, const struct history_op *op,
                            struct history_step *step, int64_t amount) {
    for (uint32_t i = 0; i < op->step_count; i++) {
        const struct history_step *before = &h->steps[op->first_step + i];
        if (before->action == HISTORY_READ && before->object == step->object) {
            step->balance = before->balance + amount;
        }
    }
}

static bool take_answer(struct history *h, size_t step, const struct history_op_step *asked,
                        const int64_t *numbers, size_t count) {
    switch (asked->kind) {
    case HISTORY_OP_READ_LIST:
    case HISTORY_OP_READ_SET:
        history_set_read(h, step, numbers, (uint32_t)count);
        return true;
    case HISTORY_OP_READ:
        h->steps[step].value = count == 1 ? numbers[0] : -1;
        return count == 1;
    default:
        h->steps[step].value = count == 2 ? numbers[0] : -1;
        h->steps[step].balance = count == 2 ? numbers[1] : 0;
        return count == 2;
    }
}

bool workload_answer(struct history *h, size_t number, const struct workload_op *op,
                     const int64_t *answer, size_t count) {
    struct history_op *to = &h->ops[number];
    size_t at = 0;
    for (uint32_t i = 0; i < to->step_count; i++) {
        size_t step = to->first_step + i;
        if (op->steps[i].kind == HISTORY_OP_CHANGE) {
            set_new_balance(h, to, &h->steps[step], op->steps[i].amount);
        }
        if (history_is_write(h->steps[step].action)) {
            continue;
        }
        if (at == count || answer[at] < 0 || (size_t)answer[at] > count - at - 1) {
            return false;
        }
        size_t size = (size_t)answer[at++];
        if (!take_answer(h, step, &op->steps[i], answer + at, size)) {
            return false;
        }
        at += size;
    }
    return at == count;
}
