#include "tests/history/simulate.h"

#include <stdlib.h>
#include <string.h>

#include "base/env.h"

enum {
    ACTIVE = 8,        /* lists, and sets, in use at a time */
    ELEMENTS_MAX = 64, /* then the next list or set takes its place */
    REGISTERS = 16,
    ACCOUNTS = 8, /* registers behind the plain ones */
    BALANCE = 100,
    STEPS_MAX = 8,
    STEP_NS = 1000, /* between two commits */
};

const char *simulate_bug_name(enum simulate_bug bug) {
    static const char *const names[SIMULATE_BUGS] = {
        [SIMULATE_NO_BUG] = "none",
        [SIMULATE_DIRTY_READ] = "dirty read",
        [SIMULATE_ABORT_KEPT] = "effect of an abort",
        [SIMULATE_INTERMEDIATE_READ] = "intermediate read",
        [SIMULATE_LOST_UPDATE] = "lost update, register",
        [SIMULATE_LOST_TRANSFER] = "lost update, account",
        [SIMULATE_LOST_APPEND] = "lost append",
        [SIMULATE_LOST_ADD] = "lost addition to a set",
        [SIMULATE_LOST_TAIL] = "lost tail",
        [SIMULATE_STALE_LIST] = "stale read, list",
        [SIMULATE_STALE_REGISTER] = "stale read, register",
        [SIMULATE_STALE_SET] = "stale read, set",
        [SIMULATE_STALE_ACCOUNT] = "stale read, account",
        [SIMULATE_DUPLICATE_APPEND] = "duplicated append",
        [SIMULATE_REORDERED_APPEND] = "reordered appends",
        [SIMULATE_READ_SKEW] = "read skew",
        [SIMULATE_WRITE_SKEW] = "write skew",
        [SIMULATE_LONG_FORK] = "long fork",
        [SIMULATE_TORN_UNKNOWN] = "torn transaction",
    };
    return names[bug];
}

/* Every version, oldest first: a list and a set are all of them, a register is the last one. */
struct version {
    int64_t value;
    int64_t balance;
    uint32_t writer; /* operation */
    bool is_update;  /* its writer had read the version before */
};
struct object {
    struct version *versions;
    uint32_t count, max;
};

struct push {
    uint32_t op, object;
    uint8_t space;
};

struct world {
    struct dbos_rng rng;
    struct simulate_options options;
    struct history *h;
    struct object *objects[HISTORY_SPACES];
    uint32_t object_counts[HISTORY_SPACES];
    uint32_t lists[ACTIVE], sets[ACTIVE];
    struct push *pushes; /* newest last: to undo */
    size_t push_count, push_max;
    uint64_t now_ns;
    int64_t next_value;
    bool is_done; /* the bug */
};

/* One step as the database does it. */
struct plan_step {
    enum history_action action;
    uint32_t object;
    uint32_t hidden;     /* newest versions that the read does not show */
    uint32_t passed;     /* 1 + the place from the end of the one that it leaves out; 0: none */
    int64_t extra;       /* a value that it shows behind the others; 0: none */
    int64_t amount;      /* WRITE of an account: added to the balance */
    bool is_not_applied; /* a write that gets lost at once */
};
struct plan {
    enum history_kind kind;
    enum history_outcome outcome;
    struct plan_step steps[STEPS_MAX];
    uint32_t count;
};

/* -- objects -------------------------------------------------------------------------------------
 */

static uint32_t below(struct world *w, uint32_t bound) {
    return (uint32_t)dbos_rng_below(&w->rng, bound);
}

static uint32_t add_object(struct world *w, enum history_space space) {
    uint32_t number = w->object_counts[space]++;
    w->objects[space] = realloc(w->objects[space], w->object_counts[space] * sizeof(struct object));
    DBOS_CHECK(w->objects[space] != NULL);
    w->objects[space][number] = (struct object){0};
    return number;
}

static struct object *object_at(struct world *w, enum history_space space, uint32_t number) {
    return &w->objects[space][number];
}

static void push_version(struct world *w, enum history_space space, uint32_t number,
                         const struct version *version) {
    struct object *object = object_at(w, space, number);
    if (object->count == object->max) {
        object->max = object->max == 0 ? 16 : 2 * object->max;
        object->versions = realloc(object->versions, object->max * sizeof *object->versions);
        DBOS_CHECK(object->versions != NULL);
    }
    object->versions[object->count++] = *version;
    if (w->push_count == w->push_max) {
        w->push_max = w->push_max == 0 ? 1024 : 2 * w->push_max;
        w->pushes = realloc(w->pushes, w->push_max * sizeof *w->pushes);
        DBOS_CHECK(w->pushes != NULL);
    }
    w->pushes[w->push_count++] = (struct push){version->writer, number, (uint8_t)space};
}

/* Undo all that operations from `op` on did. */
static void undo_from(struct world *w, uint32_t op) {
    while (w->push_count > 0 && w->pushes[w->push_count - 1].op >= op) {
        const struct push *push = &w->pushes[--w->push_count];
        object_at(w, push->space, push->object)->count--;
    }
}

/* A list, or a set, that is in use; a full one is replaced. */
static uint32_t pick(struct world *w, enum history_space space) {
    uint32_t *slot = &(space == HISTORY_LISTS ? w->lists : w->sets)[below(w, ACTIVE)];
    if (object_at(w, space, *slot)->count >= ELEMENTS_MAX) {
        *slot = add_object(w, space);
    }
    return *slot;
}

/* -- running a plan ------------------------------------------------------------------------------
 */

static bool is_account(const struct plan_step *step) {
    return history_space_of(step->action) == HISTORY_REGISTERS && step->object >= REGISTERS;
}

static struct version version_behind(struct world *w, const struct plan_step *step) {
    const struct object *object = object_at(w, HISTORY_REGISTERS, step->object);
    if (object->count > step->hidden) {
        return object->versions[object->count - 1 - step->hidden];
    }
    return (struct version){.balance = is_account(step) ? BALANCE : 0};
}

static void read_collection(struct world *w, size_t step_number, const struct plan_step *step) {
    const struct object *object = object_at(w, history_space_of(step->action), step->object);
    int64_t elements[2 * ELEMENTS_MAX + STEPS_MAX];
    uint32_t count = 0;
    DBOS_CHECK(object->count + 1 < sizeof elements / sizeof elements[0]);
    for (uint32_t i = 0; i + step->hidden < object->count; i++) {
        if (step->passed == 0 || i + step->passed != object->count) {
            elements[count++] = object->versions[i].value;
        }
    }
    if (step->extra != 0) {
        elements[count++] = step->extra;
    }
    history_set_read(w->h, step_number, elements, count);
}

static void read_step(struct world *w, size_t step_number, const struct plan_step *step) {
    if (step->action != HISTORY_READ) {
        read_collection(w, step_number, step);
        return;
    }
    struct version version = version_behind(w, step);
    w->h->steps[step_number].value = step->extra != 0 ? step->extra : version.value;
    w->h->steps[step_number].balance = version.balance;
}

/* What the transaction read of the account is what it adds to, stale or not. */
static int64_t new_balance(struct world *w, size_t first_step, const struct plan *plan,
                           const struct plan_step *step) {
    for (uint32_t i = 0; i < plan->count; i++) {
        if (plan->steps[i].action == HISTORY_READ && plan->steps[i].object == step->object) {
            return w->h->steps[first_step + i].balance + step->amount;
        }
    }
    return 0;
}

static bool reads_object(const struct plan *plan, const struct plan_step *step) {
    for (uint32_t i = 0; i < plan->count; i++) {
        if (plan->steps[i].action == HISTORY_READ && plan->steps[i].object == step->object) {
            return true;
        }
    }
    return false;
}

static void write_step(struct world *w, uint32_t op, size_t step_number, const struct plan *plan,
                       const struct plan_step *step) {
    size_t first_step = w->h->ops[op].first_step;
    struct version version = {
        .value = w->next_value++,
        .writer = op,
        .is_update = step->action == HISTORY_WRITE && reads_object(plan, step),
        .balance = is_account(step) ? new_balance(w, first_step, plan, step) : 0};
    w->h->steps[step_number].value = version.value;
    if (step->action == HISTORY_WRITE) {
        w->h->steps[step_number].balance = version.balance;
    }
    if (!step->is_not_applied) {
        push_version(w, history_space_of(step->action), step->object, &version);
    }
}

/* What a client does not get to know. */
static void forget_reads(struct world *w, uint32_t op_number) {
    const struct history_op *op = &w->h->ops[op_number];
    for (uint32_t i = 0; i < op->step_count; i++) {
        struct history_step *step = &w->h->steps[op->first_step + i];
        if (!history_is_write(step->action)) {
            step->value = 0;
            step->count = 0;
        }
        if (history_space_of(step->action) == HISTORY_REGISTERS && op->kind == HISTORY_TRANSFER) {
            step->balance = HISTORY_BALANCE_UNKNOWN;
        }
    }
}

/* The transaction at the next moment, begun before it and returned behind it; its number. */
static uint32_t execute(struct world *w, const struct plan *plan) {
    uint32_t half = w->options.clients * STEP_NS / 2;
    w->now_ns += STEP_NS;
    uint32_t op = (uint32_t)w->h->op_count;
    (void)history_begin(w->h, plan->kind, op % w->options.clients, w->now_ns - 1 - below(w, half));
    w->h->ops[op].outcome = (uint8_t)plan->outcome;
    w->h->ops[op].return_ns = w->now_ns + 1 + below(w, half);
    for (uint32_t i = 0; i < plan->count; i++) {
        const struct plan_step *step = &plan->steps[i];
        history_add_step(
            w->h, &(struct history_step){.action = (uint8_t)step->action, .object = step->object});
        if (history_is_write(step->action)) {
            write_step(w, op, w->h->step_count - 1, plan, step);
        } else {
            read_step(w, w->h->step_count - 1, step);
        }
    }
    if (plan->outcome != HISTORY_OK) {
        forget_reads(w, op);
    }
    return op;
}

/* -- random transactions -------------------------------------------------------------------------
 */

static void add_plan_step(struct plan *plan, enum history_action action, uint32_t object) {
    DBOS_CHECK(plan->count < STEPS_MAX);
    plan->steps[plan->count++] = (struct plan_step){.action = action, .object = object};
}

static void plan_list(struct world *w, struct plan *plan) {
    plan->kind = HISTORY_LIST_TXN;
    for (uint32_t count = 1 + below(w, 4); count > 0; count--) {
        add_plan_step(plan, below(w, 2) == 0 ? HISTORY_APPEND : HISTORY_READ_LIST,
                      pick(w, HISTORY_LISTS));
    }
}

static void plan_register(struct world *w, struct plan *plan) {
    uint32_t number = below(w, REGISTERS);
    uint32_t form = below(w, 4);
    plan->kind = HISTORY_REGISTER_TXN;
    if (form != 0) {
        add_plan_step(plan, HISTORY_READ, number);
    }
    if (form == 0 || form == 1) {
        add_plan_step(plan, HISTORY_WRITE, number);
    }
    if (form == 2) {
        add_plan_step(plan, HISTORY_READ, (number + 1) % REGISTERS);
    }
}

static void plan_transfer(struct world *w, struct plan *plan) {
    uint32_t from = below(w, ACCOUNTS);
    uint32_t to = (from + 1 + below(w, ACCOUNTS - 1)) % ACCOUNTS;
    plan->kind = HISTORY_TRANSFER;
    add_plan_step(plan, HISTORY_READ, REGISTERS + from);
    add_plan_step(plan, HISTORY_READ, REGISTERS + to);
    add_plan_step(plan, HISTORY_WRITE, REGISTERS + from);
    add_plan_step(plan, HISTORY_WRITE, REGISTERS + to);
    int64_t amount = 1 + below(w, 20);
    plan->steps[2].amount = -amount;
    plan->steps[3].amount = amount;
    if (version_behind(w, &plan->steps[0]).balance < amount) {
        plan->outcome = HISTORY_FAILED;
    }
}

static void plan_snapshot(struct plan *plan) {
    plan->kind = HISTORY_SNAPSHOT;
    for (uint32_t i = 0; i < ACCOUNTS; i++) {
        add_plan_step(plan, HISTORY_READ, REGISTERS + i);
    }
}

static void plan_set(struct world *w, struct plan *plan) {
    plan->kind = HISTORY_SET_TXN;
    add_plan_step(plan, below(w, 2) == 0 ? HISTORY_ADD : HISTORY_READ_SET, pick(w, HISTORY_SETS));
}

static void plan_mixed(struct world *w, struct plan *plan) {
    bool is_write = below(w, 2) == 0;
    plan->kind = HISTORY_MIXED;
    add_plan_step(plan, is_write ? HISTORY_APPEND : HISTORY_READ_LIST, pick(w, HISTORY_LISTS));
    add_plan_step(plan, is_write ? HISTORY_WRITE : HISTORY_READ, below(w, REGISTERS));
    add_plan_step(plan, is_write ? HISTORY_ADD : HISTORY_READ_SET, pick(w, HISTORY_SETS));
}

static struct plan random_plan(struct world *w) {
    struct plan plan = {.outcome = HISTORY_OK};
    uint32_t kind = below(w, 100);
    uint32_t luck = below(w, 100);
    if (kind < 40) {
        plan_list(w, &plan);
    } else if (kind < 62) {
        plan_register(w, &plan);
    } else if (kind < 75) {
        plan_transfer(w, &plan);
    } else if (kind < 78) {
        plan_snapshot(&plan);
    } else if (kind < 93) {
        plan_set(w, &plan);
    } else {
        plan_mixed(w, &plan);
    }
    if (luck < 4) {
        plan.outcome = HISTORY_FAILED;
    } else if (luck < 7 && plan.outcome == HISTORY_OK) {
        plan.outcome = HISTORY_UNKNOWN;
    }
    return plan;
}

static void random_op(struct world *w) {
    struct plan plan = random_plan(w);
    uint32_t op = execute(w, &plan);
    if (plan.outcome == HISTORY_FAILED || (plan.outcome == HISTORY_UNKNOWN && below(w, 2) == 0)) {
        undo_from(w, op);
    }
    if (plan.outcome == HISTORY_UNKNOWN && below(w, 2) == 0) {
        w->h->ops[op].return_ns = HISTORY_NEVER;
    }
}

/* -- bugs ----------------------------------------------------------------------------------------
 */

/* A transaction whose first step this is. */
static struct plan plan_of(enum history_kind kind, enum history_action action, uint32_t object) {
    struct plan plan = {.kind = kind, .outcome = HISTORY_OK};
    add_plan_step(&plan, action, object);
    return plan;
}

/* So that what follows begins after all that was has returned. */
static void let_return(struct world *w) { w->now_ns += w->options.clients * STEP_NS; }

/* So that none of them returned before another began. */
static void overlap(struct world *w, uint32_t first, uint32_t last) {
    for (uint32_t i = first; i <= last; i++) {
        w->h->ops[i].invoke_ns = w->h->ops[first].invoke_ns;
        w->h->ops[i].return_ns = w->now_ns + STEP_NS;
    }
}

static const struct version *newest(struct world *w, enum history_space space, uint32_t number) {
    const struct object *object = object_at(w, space, number);
    return object->count == 0 ? NULL : &object->versions[object->count - 1];
}

static bool was_acknowledged(const struct world *w, const struct version *version) {
    return version != NULL && w->h->ops[version->writer].outcome == HISTORY_OK;
}

static bool do_dirty_read(struct world *w) {
    static const struct {
        enum history_kind kind;
        enum history_action write, read;
    } kinds[] = {{HISTORY_LIST_TXN, HISTORY_APPEND, HISTORY_READ_LIST},
                 {HISTORY_REGISTER_TXN, HISTORY_WRITE, HISTORY_READ},
                 {HISTORY_SET_TXN, HISTORY_ADD, HISTORY_READ_SET}};
    uint32_t k = below(w, 3);
    uint32_t object = k == 1 ? below(w, REGISTERS) : pick(w, k == 0 ? HISTORY_LISTS : HISTORY_SETS);
    struct plan writer = plan_of(kinds[k].kind, kinds[k].write, object);
    struct plan reader = plan_of(kinds[k].kind, kinds[k].read, object);
    writer.outcome = HISTORY_FAILED;
    uint32_t op = execute(w, &writer);
    undo_from(w, op);
    reader.steps[0].extra = w->h->steps[w->h->ops[op].first_step].value;
    (void)execute(w, &reader);
    return true;
}

static bool do_abort_kept(struct world *w) {
    struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, pick(w, HISTORY_LISTS));
    plan.outcome = HISTORY_FAILED;
    (void)execute(w, &plan);
    return true;
}

static bool do_intermediate_read(struct world *w) {
    uint32_t list = pick(w, HISTORY_LISTS);
    struct plan writer = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, list);
    struct plan reader = plan_of(HISTORY_LIST_TXN, HISTORY_READ_LIST, list);
    add_plan_step(&writer, HISTORY_APPEND, list);
    reader.steps[0].hidden = 1;
    (void)execute(w, &writer);
    (void)execute(w, &reader);
    return true;
}

/* The update before must be one whose place is known, else nobody could tell which was lost. */
static bool do_lost_update(struct world *w) {
    uint32_t number = below(w, REGISTERS);
    const struct version *last = newest(w, HISTORY_REGISTERS, number);
    if (!was_acknowledged(w, last) || !last->is_update) {
        return false;
    }
    struct plan plan = plan_of(HISTORY_REGISTER_TXN, HISTORY_READ, number);
    plan.steps[0].hidden = 1;
    add_plan_step(&plan, HISTORY_WRITE, number);
    (void)execute(w, &plan);
    return true;
}

static bool do_lost_transfer(struct world *w) {
    struct plan plan = {.outcome = HISTORY_OK};
    plan_transfer(w, &plan);
    const struct version *last = newest(w, HISTORY_REGISTERS, plan.steps[0].object);
    if (plan.outcome != HISTORY_OK || !was_acknowledged(w, last)) {
        return false;
    }
    plan.steps[0].hidden = 1;
    (void)execute(w, &plan);
    return true;
}

static bool do_lost_write(struct world *w, enum history_kind kind, enum history_action action) {
    struct plan plan = plan_of(kind, action, pick(w, history_space_of(action)));
    plan.steps[0].is_not_applied = true;
    (void)execute(w, &plan);
    return true;
}

static bool do_lost_tail(struct world *w) {
    struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, pick(w, HISTORY_LISTS));
    uint32_t op = execute(w, &plan);
    for (uint32_t more = below(w, 8); more > 0; more--) {
        random_op(w);
    }
    undo_from(w, op);
    return true;
}

/* A read as of before the last version, whose writer has returned. */
static bool do_stale_read(struct world *w, enum history_kind kind, enum history_action action) {
    enum history_space space = history_space_of(action);
    uint32_t number = space == HISTORY_REGISTERS ? below(w, REGISTERS) : pick(w, space);
    const struct version *last = newest(w, space, number);
    if (!was_acknowledged(w, last) || (space == HISTORY_REGISTERS && !last->is_update)) {
        return false;
    }
    struct plan plan = plan_of(kind, action, number);
    const struct object *object = object_at(w, space, number);
    while (plan.steps[0].hidden < object->count &&
           object->versions[object->count - 1 - plan.steps[0].hidden].writer == last->writer) {
        plan.steps[0].hidden++;
    }
    let_return(w);
    (void)execute(w, &plan);
    return true;
}

static bool do_stale_account(struct world *w) {
    struct plan plan = {.outcome = HISTORY_OK};
    plan_snapshot(&plan);
    struct plan_step *step = &plan.steps[below(w, ACCOUNTS)];
    if (!was_acknowledged(w, newest(w, HISTORY_REGISTERS, step->object))) {
        return false;
    }
    step->hidden = 1;
    (void)execute(w, &plan);
    return true;
}

static bool do_duplicate_append(struct world *w) {
    uint32_t list = pick(w, HISTORY_LISTS);
    struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, list);
    (void)execute(w, &plan);
    struct version again = *newest(w, HISTORY_LISTS, list);
    push_version(w, HISTORY_LISTS, list, &again);
    return true;
}

static bool do_reordered_append(struct world *w) {
    uint32_t list = pick(w, HISTORY_LISTS);
    struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, list);
    (void)execute(w, &plan);
    let_return(w);
    (void)execute(w, &plan);
    struct object *object = object_at(w, HISTORY_LISTS, list);
    struct version last = object->versions[object->count - 1];
    object->versions[object->count - 1] = object->versions[object->count - 2];
    object->versions[object->count - 2] = last;
    return true;
}

static bool do_read_skew(struct world *w) {
    uint32_t one = pick(w, HISTORY_LISTS);
    uint32_t other = pick(w, HISTORY_LISTS);
    if (one == other) {
        return false;
    }
    struct plan writer = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, one);
    struct plan reader = plan_of(HISTORY_LIST_TXN, HISTORY_READ_LIST, one);
    add_plan_step(&writer, HISTORY_APPEND, other);
    add_plan_step(&reader, HISTORY_READ_LIST, other);
    reader.steps[1].hidden = 1;
    uint32_t first = execute(w, &writer);
    overlap(w, first, execute(w, &reader));
    return true;
}

static bool do_write_skew(struct world *w) {
    uint32_t one = below(w, REGISTERS);
    uint32_t other = (one + 1) % REGISTERS;
    struct plan first = plan_of(HISTORY_REGISTER_TXN, HISTORY_READ, one);
    add_plan_step(&first, HISTORY_READ, other);
    struct plan second = first;
    add_plan_step(&first, HISTORY_WRITE, one);
    add_plan_step(&second, HISTORY_WRITE, other);
    second.steps[0].hidden = 1;
    uint32_t op = execute(w, &first);
    overlap(w, op, execute(w, &second));
    return true;
}

static bool do_long_fork(struct world *w) {
    uint32_t set = pick(w, HISTORY_SETS);
    struct plan writer = plan_of(HISTORY_SET_TXN, HISTORY_ADD, set);
    struct plan reader = plan_of(HISTORY_SET_TXN, HISTORY_READ_SET, set);
    uint32_t first = execute(w, &writer);
    (void)execute(w, &writer);
    reader.steps[0].passed = 1;
    (void)execute(w, &reader);
    reader.steps[0].passed = 2;
    overlap(w, first, execute(w, &reader));
    return true;
}

static bool do_torn_unknown(struct world *w) {
    uint32_t one = pick(w, HISTORY_LISTS);
    uint32_t other = pick(w, HISTORY_LISTS);
    if (one == other) {
        return false;
    }
    struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_APPEND, one);
    add_plan_step(&plan, HISTORY_APPEND, other);
    plan.outcome = HISTORY_UNKNOWN;
    plan.steps[1].is_not_applied = true;
    (void)execute(w, &plan);
    return true;
}

static bool do_bug(struct world *w) {
    switch (w->options.bug) {
    case SIMULATE_DIRTY_READ:
        return do_dirty_read(w);
    case SIMULATE_ABORT_KEPT:
        return do_abort_kept(w);
    case SIMULATE_INTERMEDIATE_READ:
        return do_intermediate_read(w);
    case SIMULATE_LOST_UPDATE:
        return do_lost_update(w);
    case SIMULATE_LOST_TRANSFER:
        return do_lost_transfer(w);
    case SIMULATE_LOST_APPEND:
        return do_lost_write(w, HISTORY_LIST_TXN, HISTORY_APPEND);
    case SIMULATE_LOST_ADD:
        return do_lost_write(w, HISTORY_SET_TXN, HISTORY_ADD);
    case SIMULATE_LOST_TAIL:
        return do_lost_tail(w);
    case SIMULATE_STALE_LIST:
        return do_stale_read(w, HISTORY_LIST_TXN, HISTORY_READ_LIST);
    case SIMULATE_STALE_REGISTER:
        return do_stale_read(w, HISTORY_REGISTER_TXN, HISTORY_READ);
    case SIMULATE_STALE_SET:
        return do_stale_read(w, HISTORY_SET_TXN, HISTORY_READ_SET);
    case SIMULATE_STALE_ACCOUNT:
        return do_stale_account(w);
    case SIMULATE_DUPLICATE_APPEND:
        return do_duplicate_append(w);
    case SIMULATE_REORDERED_APPEND:
        return do_reordered_append(w);
    case SIMULATE_READ_SKEW:
        return do_read_skew(w);
    case SIMULATE_WRITE_SKEW:
        return do_write_skew(w);
    case SIMULATE_LONG_FORK:
        return do_long_fork(w);
    case SIMULATE_TORN_UNKNOWN:
        return do_torn_unknown(w);
    case SIMULATE_NO_BUG:
    case SIMULATE_BUGS:
        break;
    }
    return true;
}

/* -- all of it -----------------------------------------------------------------------------------
 */

static void open_world(struct world *w, const struct simulate_options *options,
                       struct history *out) {
    *w = (struct world){.options = *options, .h = out, .next_value = 1};
    w->now_ns = (uint64_t)options->clients * STEP_NS;
    dbos_rng_init(&w->rng, options->seed);
    history_init(out);
    out->total = (int64_t)ACCOUNTS * BALANCE;
    out->account_count = ACCOUNTS;
    for (uint32_t i = 0; i < ACTIVE; i++) {
        w->lists[i] = add_object(w, HISTORY_LISTS);
        w->sets[i] = add_object(w, HISTORY_SETS);
    }
    for (uint32_t i = 0; i < REGISTERS + ACCOUNTS; i++) {
        (void)add_object(w, HISTORY_REGISTERS);
    }
}

static void close_world(struct world *w) {
    for (int s = 0; s < HISTORY_SPACES; s++) {
        for (uint32_t i = 0; i < w->object_counts[s]; i++) {
            free(w->objects[s][i].versions);
        }
        free(w->objects[s]);
    }
    free(w->pushes);
}

static void read_everything(struct world *w) {
    let_return(w);
    for (uint32_t i = 0; i < w->object_counts[HISTORY_LISTS]; i++) {
        struct plan plan = plan_of(HISTORY_LIST_TXN, HISTORY_READ_LIST, i);
        (void)execute(w, &plan);
    }
    for (uint32_t i = 0; i < REGISTERS; i++) {
        struct plan plan = plan_of(HISTORY_REGISTER_TXN, HISTORY_READ, i);
        (void)execute(w, &plan);
    }
    for (uint32_t i = 0; i < w->object_counts[HISTORY_SETS]; i++) {
        struct plan plan = plan_of(HISTORY_SET_TXN, HISTORY_READ_SET, i);
        (void)execute(w, &plan);
    }
    struct plan plan = {.outcome = HISTORY_OK};
    plan_snapshot(&plan);
    (void)execute(w, &plan);
}

bool simulate_run(const struct simulate_options *options, struct history *out) {
    struct world w;
    open_world(&w, options, out);
    w.is_done = options->bug == SIMULATE_NO_BUG;
    while (out->op_count < options->operations) {
        if (!w.is_done && out->op_count >= options->bug_at) {
            w.is_done = do_bug(&w);
        }
        random_op(&w);
    }
    read_everything(&w);
    close_world(&w);
    return w.is_done;
}
