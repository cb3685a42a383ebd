#include "tests/history/checker.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tests/history/checker_internal.h"

enum { SAID_MAX = 4, CYCLE_PRINT_MAX = 12 };

const char *checker_anomaly_name(enum checker_anomaly anomaly) {
    static const char *const names[CHECKER_ANOMALIES] = {
        [CHECKER_PHANTOM] = "phantom value",
        [CHECKER_DIRTY_READ] = "dirty read (G1a)",
        [CHECKER_INTERMEDIATE_READ] = "intermediate read (G1b)",
        [CHECKER_INTERNAL] = "internal inconsistency",
        [CHECKER_DUPLICATE] = "duplicated value",
        [CHECKER_DISAGREEMENT] = "reads that disagree",
        [CHECKER_LOST_WRITE] = "lost write",
        [CHECKER_LOST_UPDATE] = "lost update",
        [CHECKER_VERSION_ORDER] = "versions against real time",
        [CHECKER_TOTAL] = "wrong total",
        [CHECKER_NEGATIVE] = "negative balance",
        [CHECKER_BALANCE] = "two balances for one version",
        [CHECKER_CYCLE + GRAPH_G0] = "G0 (dirty write)",
        [CHECKER_CYCLE + GRAPH_G1C] = "G1c (circular information flow)",
        [CHECKER_CYCLE + GRAPH_G_SINGLE] = "G-single (read skew)",
        [CHECKER_CYCLE + GRAPH_G2] = "G2 (anti-dependency cycle, write skew)",
        [CHECKER_CYCLE + GRAPH_G0_REALTIME] = "G0-realtime (write against real time)",
        [CHECKER_CYCLE + GRAPH_G1C_REALTIME] = "G1c-realtime (read from the future)",
        [CHECKER_CYCLE + GRAPH_G_SINGLE_REALTIME] = "G-single-realtime (stale read)",
        [CHECKER_CYCLE + GRAPH_G2_REALTIME] = "G2-realtime",
    };
    return names[anomaly];
}

void *checker_take(size_t count, size_t item_bytes) {
    void *memory = calloc(count + 1, item_bytes);
    DBOS_CHECK(memory != NULL);
    return memory;
}

/* -- saying --------------------------------------------------------------------------------------
 */

static void print_op(const struct checker *c, uint32_t op) {
    if (op != CHECKER_NONE) {
        (void)fputs("    ", c->out);
        history_print_op(c->h, op, c->out);
        (void)fputc('\n', c->out);
    }
}

static bool count_anomaly(struct checker *c, enum checker_anomaly anomaly) {
    c->report->anomalies++;
    c->report->found[anomaly]++;
    return c->out != NULL && c->said[anomaly]++ < SAID_MAX;
}

void checker_say(struct checker *c, enum checker_anomaly anomaly, uint32_t op, uint32_t other,
                 const char *format, ...) {
    if (!count_anomaly(c, anomaly)) {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)fprintf(c->out, "  %s: ", checker_anomaly_name(anomaly));
    (void)vfprintf(c->out, format, args);
    (void)fputc('\n', c->out);
    va_end(args);
    print_op(c, op);
    print_op(c, other);
}

static void say_cycle(void *context, const struct graph_cycle *cycle) {
    static const char *const kinds[GRAPH_KINDS] = {
        [GRAPH_WW] = "wrote the version before that of",
        [GRAPH_WR] = "was read by",
        [GRAPH_RW] = "read the version before that of",
        [GRAPH_REALTIME] = "returned before the beginning of",
        [GRAPH_VIA] = "",
    };
    struct checker *c = context;
    enum checker_anomaly anomaly = CHECKER_CYCLE + cycle->class;
    if (!count_anomaly(c, anomaly)) {
        return;
    }
    (void)fprintf(c->out, "  %s: a cycle of %zu transactions\n", checker_anomaly_name(anomaly),
                  cycle->count);
    for (size_t i = 0; i < cycle->count && i < CYCLE_PRINT_MAX; i++) {
        print_op(c, cycle->nodes[i]);
        (void)fprintf(c->out, "      T%u %s T%u\n", cycle->nodes[i], kinds[cycle->kinds[i]],
                      cycle->nodes[(i + 1) % cycle->count]);
    }
}

/* -- steps by object -----------------------------------------------------------------------------
 */

struct checker_object checker_object(const struct checker *c, uint32_t object) {
    uint32_t first = c->object_first[object];
    return (struct checker_object){c->steps_by_object + first, c->object_first[object + 1] - first};
}

static uint32_t object_of(const struct checker *c, const struct history_step *step) {
    return c->object_base[history_space_of(step->action)] + step->object;
}

static void count_objects(struct checker *c) {
    uint32_t counts[HISTORY_SPACES] = {0};
    for (size_t i = 0; i < c->h->step_count; i++) {
        const struct history_step *step = &c->h->steps[i];
        enum history_space space = history_space_of(step->action);
        counts[space] = counts[space] > step->object ? counts[space] : step->object + 1;
    }
    for (int s = 0; s < HISTORY_SPACES; s++) {
        c->object_base[s + 1] = c->object_base[s] + counts[s];
    }
}

static void group_steps(struct checker *c) {
    size_t steps = c->h->step_count;
    uint32_t objects = c->object_base[HISTORY_SPACES];
    c->steps_by_object = checker_take(steps, sizeof *c->steps_by_object);
    c->object_first = checker_take(objects + 1, sizeof *c->object_first);
    for (size_t i = 0; i < steps; i++) {
        c->object_first[object_of(c, &c->h->steps[i]) + 1]++;
    }
    for (uint32_t o = 0; o < objects; o++) {
        c->object_first[o + 1] += c->object_first[o];
    }
    uint32_t *next = checker_take(objects + 1, sizeof *next);
    memcpy(next, c->object_first, (objects + 1) * sizeof *next);
    for (uint32_t i = 0; i < steps; i++) {
        c->steps_by_object[next[object_of(c, &c->h->steps[i])]++] = i;
    }
    free(next);
}

static int by_value(const void *a, const void *b) {
    const struct checker_value *x = a;
    const struct checker_value *y = b;
    return x->value < y->value ? -1 : x->value > y->value;
}

struct checker_values checker_values(const struct checker *c, struct checker_object object) {
    struct checker_values values = {.items = checker_take(object.count, sizeof *values.items)};
    for (uint32_t i = 0; i < object.count; i++) {
        const struct history_step *step = &c->h->steps[object.steps[i]];
        if (history_is_write(step->action)) {
            values.items[values.count++] = (struct checker_value){step->value, object.steps[i]};
        }
    }
    qsort(values.items, values.count, sizeof *values.items, by_value);
    for (uint32_t i = 1; i < values.count; i++) {
        DBOS_CHECK(values.items[i - 1].value != values.items[i].value);
    }
    return values;
}

uint32_t checker_find(const struct checker_values *values, int64_t value) {
    uint32_t low = 0;
    uint32_t high = values->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (values->items[middle].value < value) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    bool is_there = low < values->count && values->items[low].value == value;
    return is_there ? low : CHECKER_NONE;
}

void checker_observe(struct checker *c, const struct checker_values *values, uint32_t step,
                     int64_t value) {
    uint32_t reader = c->step_op[step];
    uint32_t found = checker_find(values, value);
    if (found == CHECKER_NONE) {
        checker_say(c, CHECKER_PHANTOM, reader, CHECKER_NONE, "nobody wrote %lld",
                    (long long)value);
        return;
    }
    uint32_t writer = c->step_op[values->items[found].step];
    if (c->h->ops[writer].outcome == HISTORY_FAILED) {
        checker_say(c, CHECKER_DIRTY_READ, reader, writer, "%lld was read, its writer failed",
                    (long long)value);
        return;
    }
    c->is_committed[writer] = true;
}

bool checker_is_read(const struct checker *c, uint32_t step) {
    return !history_is_write(c->h->steps[step].action) &&
           c->h->ops[c->step_op[step]].outcome == HISTORY_OK;
}

/* -- each transaction by itself ------------------------------------------------------------------
 */

/* What `step` read, against `before`, the step before it of its transaction on the same object. */
static void check_internal(struct checker *c, uint32_t op, const struct history_step *before,
                           const struct history_step *step) {
    bool agrees = true;
    if (step->action == HISTORY_READ) {
        agrees = step->value == before->value;
    } else if (before->action == HISTORY_APPEND) {
        agrees = step->count > 0 && c->h->elements[step->first + step->count - 1] == before->value;
    } else {
        agrees = step->count == before->count;
    }
    if (!agrees) {
        checker_say(c, CHECKER_INTERNAL, op, CHECKER_NONE, "object %u", step->object);
    }
}

/* The step before step `i` of the same transaction on the same object; UINT64_MAX: none. */
static uint64_t step_before(const struct checker *c, const struct history_op *op, uint64_t i) {
    uint32_t object = object_of(c, &c->h->steps[i]);
    for (uint64_t j = i; j-- > op->first_step;) {
        if (object_of(c, &c->h->steps[j]) == object) {
            return j;
        }
    }
    return UINT64_MAX;
}

static void flag_step(struct checker *c, uint32_t op_number, uint64_t i) {
    const struct history_op *op = &c->h->ops[op_number];
    const struct history_step *step = &c->h->steps[i];
    bool is_write = history_is_write(step->action);
    uint64_t before = step_before(c, op, i);
    c->step_op[i] = op_number;
    c->step_flags[i] = is_write ? CHECKER_LAST : CHECKER_EXTERNAL;
    if (before == UINT64_MAX) {
        return;
    }
    /* See struct set: who adds to a set does not read it. */
    DBOS_CHECK(history_space_of(step->action) != HISTORY_SETS ||
               step->action == c->h->steps[before].action);
    if (!is_write) {
        c->step_flags[i] = 0;
        if (op->outcome == HISTORY_OK) {
            check_internal(c, op_number, &c->h->steps[before], step);
        }
        return;
    }
    for (; before != UINT64_MAX; before = step_before(c, op, before)) {
        c->step_flags[before] &= (uint8_t)~CHECKER_LAST;
    }
}

static void check_snapshot(struct checker *c, uint32_t op_number) {
    const struct history_op *op = &c->h->ops[op_number];
    int64_t total = 0;
    for (uint32_t i = 0; i < op->step_count; i++) {
        const struct history_step *step = &c->h->steps[op->first_step + i];
        total += step->balance;
        if (step->balance < 0) {
            checker_say(c, CHECKER_NEGATIVE, op_number, CHECKER_NONE, "account %u", step->object);
        }
    }
    if (total != c->h->total || op->step_count != c->h->account_count) {
        checker_say(c, CHECKER_TOTAL, op_number, CHECKER_NONE, "%lld in %u accounts, not %lld",
                    (long long)total, op->step_count, (long long)c->h->total);
    }
}

static void check_transactions(struct checker *c) {
    for (uint32_t i = 0; i < c->h->op_count; i++) {
        const struct history_op *op = &c->h->ops[i];
        DBOS_CHECK(op->invoke_ns <= op->return_ns);
        for (uint64_t s = op->first_step; s < op->first_step + op->step_count; s++) {
            flag_step(c, i, s);
        }
        c->is_committed[i] = op->outcome == HISTORY_OK;
        if (op->kind == HISTORY_SNAPSHOT && op->outcome == HISTORY_OK) {
            check_snapshot(c, i);
        }
    }
}

/* -- real time -----------------------------------------------------------------------------------
 */

struct event {
    uint64_t time_ns;
    uint32_t op;
    bool is_return;
};

/* What happens at the same nanosecond overlaps: beginnings first. */
static int by_time(const void *a, const void *b) {
    const struct event *x = a;
    const struct event *y = b;
    if (x->time_ns != y->time_ns) {
        return x->time_ns < y->time_ns ? -1 : 1;
    }
    return (int)x->is_return - (int)y->is_return;
}

static size_t collect_events(const struct checker *c, struct event *events) {
    size_t count = 0;
    for (uint32_t i = 0; i < c->h->op_count; i++) {
        if (!c->is_committed[i]) {
            continue;
        }
        events[count++] = (struct event){c->h->ops[i].invoke_ns, i, false};
        if (c->h->ops[i].return_ns != HISTORY_NEVER) {
            events[count++] = (struct event){c->h->ops[i].return_ns, i, true};
        }
    }
    qsort(events, count, sizeof *events, by_time);
    return count;
}

/* A line of virtual nodes through time: each return leads to the node behind it, each beginning
 * comes from the last node before it. So three edges for a transaction say what a product of all
 * would, because
 *
 *     T1 returns ─▶ node ─▶ node ─▶ T2 begins
 *
 * is a path exactly where T1 returned before T2 began. */
static void link_realtime(struct checker *c) {
    struct event *events = checker_take(2 * c->h->op_count, sizeof *events);
    size_t count = collect_events(c, events);
    uint32_t node = CHECKER_NONE;
    bool is_used = true; /* somebody began behind it: the next return needs another one */
    for (size_t i = 0; i < count; i++) {
        if (!events[i].is_return) {
            if (node != CHECKER_NONE) {
                graph_add_edge(&c->graph, node, events[i].op, GRAPH_VIA);
            }
            is_used = true;
            continue;
        }
        if (is_used) {
            uint32_t next = graph_add_node(&c->graph);
            if (node != CHECKER_NONE) {
                graph_add_edge(&c->graph, node, next, GRAPH_VIA);
            }
            node = next;
            is_used = false;
        }
        graph_add_edge(&c->graph, events[i].op, node, GRAPH_REALTIME);
    }
    free(events);
}

/* -- all of it -----------------------------------------------------------------------------------
 */

static void for_each_object(struct checker *c,
                            void (*const by_space[HISTORY_SPACES])(struct checker *c,
                                                                   uint32_t object)) {
    for (int s = 0; s < HISTORY_SPACES; s++) {
        for (uint32_t o = c->object_base[s]; o < c->object_base[s + 1]; o++) {
            by_space[s](c, o);
        }
    }
}

static void fill_report(struct checker *c) {
    for (uint32_t i = 0; i < c->h->op_count; i++) {
        c->report->transactions += c->is_committed[i];
    }
    for (uint32_t i = 0; i < c->h->step_count; i++) {
        c->report->reads += checker_is_read(c, i);
    }
    c->report->nodes = c->graph.node_count;
    for (int k = 0; k < GRAPH_KINDS; k++) {
        c->report->edges[k] = c->graph.kind_counts[k];
    }
}

static void open_checker(struct checker *c, const struct history *h) {
    DBOS_CHECK(h->op_count < UINT32_MAX / 4);
    DBOS_CHECK(h->step_count < UINT32_MAX);
    count_objects(c);
    c->step_op = checker_take(h->step_count, sizeof *c->step_op);
    c->step_flags = checker_take(h->step_count, sizeof *c->step_flags);
    c->is_committed = checker_take(h->op_count, sizeof *c->is_committed);
    c->longest = checker_take(c->object_base[HISTORY_REGISTERS], sizeof *c->longest);
    graph_init(&c->graph, (uint32_t)h->op_count);
    group_steps(c);
}

static void close_checker(struct checker *c) {
    graph_fini(&c->graph);
    free(c->step_op);
    free(c->step_flags);
    free(c->is_committed);
    free(c->longest);
    free(c->steps_by_object);
    free(c->object_first);
}

void checker_run(const struct history *h, FILE *out, struct checker_report *report) {
    static void (*const observe[HISTORY_SPACES])(struct checker *, uint32_t) = {
        checker_observe_list, checker_observe_register, checker_observe_set};
    static void (*const link[HISTORY_SPACES])(struct checker *, uint32_t) = {
        checker_link_list, checker_link_register, checker_link_set};
    *report = (struct checker_report){0};
    struct checker c = {.h = h, .report = report, .out = out};
    open_checker(&c, h);
    check_transactions(&c);
    for_each_object(&c, observe);
    for_each_object(&c, link);
    link_realtime(&c);
    (void)graph_cycles(&c.graph, say_cycle, &c);
    fill_report(&c);
    close_checker(&c);
}
