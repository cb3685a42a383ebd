/* Versions of each object, and the edges that follow from them. */
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "tests/history/checker_internal.h"

static const int64_t *elements_of(const struct checker *c, uint32_t step) {
    return c->h->elements + c->h->steps[step].first;
}

static uint32_t count_of(const struct checker *c, uint32_t step) { return c->h->steps[step].count; }

static void link_ops(struct checker *c, uint32_t from, uint32_t to, enum graph_kind kind) {
    if (from != CHECKER_NONE && to != CHECKER_NONE) {
        graph_add_edge(&c->graph, from, to, kind);
    }
}

/* A write that took effect, and that no read shows, although one began when its transaction was
 * over: it was acknowledged, or something else that it wrote was seen. */
static void check_lost(struct checker *c, uint32_t write_step, uint64_t last_read_ns,
                       uint32_t last_reader) {
    uint32_t op = c->step_op[write_step];
    if (c->h->ops[op].return_ns < last_read_ns) {
        checker_say(c, CHECKER_LOST_WRITE, op, last_reader, "%lld is missing",
                    (long long)c->h->steps[write_step].value);
    }
}

/* The acknowledged read of the object that began last; CHECKER_NONE: there is none. */
static uint32_t last_reader_of(const struct checker *c, struct checker_object object) {
    uint32_t last = CHECKER_NONE;
    for (uint32_t i = 0; i < object.count; i++) {
        uint32_t op = c->step_op[object.steps[i]];
        if (checker_is_read(c, object.steps[i]) &&
            (last == CHECKER_NONE || c->h->ops[op].invoke_ns > c->h->ops[last].invoke_ns)) {
            last = op;
        }
    }
    return last;
}

/* -- lists ---------------------------------------------------------------------------------------
 */

static bool is_prefix(const struct checker *c, uint32_t step, uint32_t longest) {
    uint32_t count = count_of(c, step);
    return count <= count_of(c, longest) &&
           memcmp(elements_of(c, step), elements_of(c, longest), count * sizeof(int64_t)) == 0;
}

static void observe_elements(struct checker *c, const struct checker_values *values,
                             uint32_t step) {
    uint32_t count = count_of(c, step);
    bool *seen = checker_take(values->count, sizeof *seen);
    for (uint32_t i = 0; i < count; i++) {
        int64_t value = elements_of(c, step)[i];
        uint32_t found = checker_find(values, value);
        checker_observe(c, values, step, value);
        if (found != CHECKER_NONE && seen[found]) {
            checker_say(c, CHECKER_DUPLICATE, c->step_op[step],
                        c->step_op[values->items[found].step], "%lld is there twice",
                        (long long)value);
        }
        if (found != CHECKER_NONE) {
            seen[found] = true;
        }
    }
    free(seen);
}

static uint32_t longest_read(const struct checker *c, struct checker_object object) {
    uint32_t longest = CHECKER_NONE;
    for (uint32_t i = 0; i < object.count; i++) {
        uint32_t step = object.steps[i];
        if (checker_is_read(c, step) &&
            (longest == CHECKER_NONE || count_of(c, step) > count_of(c, longest))) {
            longest = step;
        }
    }
    return longest;
}

void checker_observe_list(struct checker *c, uint32_t number) {
    struct checker_object object = checker_object(c, number);
    uint32_t longest = longest_read(c, object);
    c->longest[number] = longest;
    if (longest == CHECKER_NONE) {
        return;
    }
    struct checker_values values = checker_values(c, object);
    observe_elements(c, &values, longest);
    for (uint32_t i = 0; i < object.count; i++) {
        uint32_t step = object.steps[i];
        if (!checker_is_read(c, step) || is_prefix(c, step, longest)) {
            continue;
        }
        observe_elements(c, &values, step);
        checker_say(c, CHECKER_DISAGREEMENT, c->step_op[step], c->step_op[longest],
                    "list %u: neither is a beginning of the other", c->h->steps[step].object);
    }
    free(values.items);
}

/* The order of one list, while its edges are made. */
struct list {
    struct checker *c;
    struct checker_object object;
    struct checker_values values;
    uint32_t longest, count;
    uint32_t *writers;    /* of each element of the longest read */
    bool *is_seen;        /* by place in the values: it is in the longest read */
    uint32_t *unseen_ops; /* transactions that took effect and have an append that is not in it */
    uint32_t unseen_count;
    uint32_t after; /* virtual: everything that is in the longest read, before all unseen */
};

static void order_list(struct list *l) {
    struct checker *c = l->c;
    for (uint32_t i = 0; i < l->count; i++) {
        uint32_t found = checker_find(&l->values, elements_of(c, l->longest)[i]);
        l->writers[i] = CHECKER_NONE;
        if (found == CHECKER_NONE) {
            continue;
        }
        l->is_seen[found] = true;
        l->writers[i] = c->step_op[l->values.items[found].step];
        if (i > 0) {
            link_ops(c, l->writers[i - 1], l->writers[i], GRAPH_WW);
        }
    }
}

static void collect_unseen(struct list *l) {
    struct checker *c = l->c;
    uint32_t last_reader = last_reader_of(c, l->object);
    uint64_t last_read_ns = last_reader == CHECKER_NONE ? 0 : c->h->ops[last_reader].invoke_ns;
    for (uint32_t i = 0; i < l->values.count; i++) {
        uint32_t step = l->values.items[i].step;
        if (l->is_seen[i] || !c->is_committed[c->step_op[step]]) {
            continue;
        }
        check_lost(c, step, last_read_ns, last_reader);
        l->unseen_ops[l->unseen_count++] = c->step_op[step];
    }
    if (l->unseen_count == 0) {
        return;
    }
    l->after = graph_add_node(&c->graph);
    for (uint32_t i = 0; i < l->unseen_count; i++) {
        graph_add_edge(&c->graph, l->after, l->unseen_ops[i], GRAPH_VIA);
    }
}

/* `op` comes before all unseen appends but its own: through the virtual node, unless it is one of
 * them. Those that read everything and append unseen are few, because any two of them are a cycle.
 */
static void link_to_unseen(struct list *l, uint32_t op, enum graph_kind kind) {
    bool is_one = false;
    for (uint32_t i = 0; i < l->unseen_count; i++) {
        is_one = is_one || l->unseen_ops[i] == op;
    }
    if (l->unseen_count == 0 || op == CHECKER_NONE) {
        return;
    }
    if (!is_one) {
        graph_add_edge(&l->c->graph, op, l->after, kind);
        return;
    }
    for (uint32_t i = 0; i < l->unseen_count; i++) {
        graph_add_edge(&l->c->graph, op, l->unseen_ops[i], kind);
    }
}

static void check_intermediate(struct checker *c, const struct checker_values *values,
                               uint32_t reader, int64_t value) {
    uint32_t found = checker_find(values, value);
    if (found == CHECKER_NONE) {
        return;
    }
    uint32_t step = values->items[found].step;
    if ((c->step_flags[step] & CHECKER_LAST) == 0 && c->step_op[step] != reader) {
        checker_say(c, CHECKER_INTERMEDIATE_READ, reader, c->step_op[step],
                    "%lld is not the last of its transaction", (long long)value);
    }
}

static void link_list_read(struct list *l, uint32_t step) {
    struct checker *c = l->c;
    uint32_t reader = c->step_op[step];
    uint32_t count = count_of(c, step);
    if (!is_prefix(c, step, l->longest)) {
        return; /* said already */
    }
    if (count > 0) {
        link_ops(c, l->writers[count - 1], reader, GRAPH_WR);
        check_intermediate(c, &l->values, reader, elements_of(c, step)[count - 1]);
    }
    if (count < l->count) {
        link_ops(c, reader, l->writers[count], GRAPH_RW);
    } else {
        link_to_unseen(l, reader, GRAPH_RW);
    }
}

void checker_link_list(struct checker *c, uint32_t number) {
    struct checker_object object = checker_object(c, number);
    if (c->longest[number] == CHECKER_NONE) {
        return;
    }
    struct list l = {.c = c, .object = object, .longest = c->longest[number]};
    l.values = checker_values(c, object);
    l.count = count_of(c, l.longest);
    l.writers = checker_take(l.count, sizeof *l.writers);
    l.is_seen = checker_take(l.values.count, sizeof *l.is_seen);
    l.unseen_ops = checker_take(l.values.count, sizeof *l.unseen_ops);
    order_list(&l);
    collect_unseen(&l);
    if (l.count > 0) {
        link_to_unseen(&l, l.writers[l.count - 1], GRAPH_WW);
    }
    for (uint32_t i = 0; i < object.count; i++) {
        if (checker_is_read(c, object.steps[i])) {
            link_list_read(&l, object.steps[i]);
        }
    }
    free(l.values.items);
    free(l.writers);
    free(l.is_seen);
    free(l.unseen_ops);
}

/* -- registers -----------------------------------------------------------------------------------
 */

void checker_observe_register(struct checker *c, uint32_t number) {
    struct checker_object object = checker_object(c, number);
    struct checker_values values = checker_values(c, object);
    for (uint32_t i = 0; i < object.count; i++) {
        uint32_t step = object.steps[i];
        if (checker_is_read(c, step) && c->h->steps[step].value != 0) {
            checker_observe(c, &values, step, c->h->steps[step].value);
        }
    }
    free(values.items);
}

/* Versions that are known to follow one another without any between them. */
struct run {
    uint32_t head, tail; /* versions */
    uint64_t first_end;  /* the first of its writers to return */
    uint64_t last_begin; /* the last of its writers to begin */
    uint32_t after;      /* virtual: its last version, before the runs that follow; or NONE */
};

/* Version 0 is the one before any write, version i + 1 is that of values.items[i]. */
struct versions {
    struct checker *c;
    struct checker_object object;
    struct checker_values values;
    uint32_t *next;      /* the version that replaced it; CHECKER_NONE: not known */
    bool *has_previous;  /* known to have replaced another one */
    uint32_t *run_of;    /* of a run's last version: the run; else CHECKER_NONE */
    int64_t *balances;   /* of accounts */
    struct run *runs;    /* by first_end */
    uint32_t *latest;    /* among runs 0..i: the one with the greatest last_begin */
    uint32_t *runner_up; /* and the next */
    uint32_t run_count;
};

static uint32_t version_of(const struct versions *v, int64_t value) {
    uint32_t found = value == 0 ? 0 : checker_find(&v->values, value);
    return value == 0 || found == CHECKER_NONE ? found : found + 1;
}

static uint32_t version_writer(const struct versions *v, uint32_t version) {
    return version == 0 ? CHECKER_NONE : v->c->step_op[v->values.items[version - 1].step];
}

/* Its final write took effect, so that it is a version that others can see. */
static bool is_version(const struct versions *v, uint32_t version) {
    if (version == 0) {
        return true;
    }
    return v->c->is_committed[version_writer(v, version)] &&
           (v->c->step_flags[v->values.items[version - 1].step] & CHECKER_LAST) != 0;
}

/* `op` read `before` and wrote `after`, at once. */
static void chain(struct versions *v, uint32_t op, uint32_t before, uint32_t after) {
    v->has_previous[after] = true;
    link_ops(v->c, version_writer(v, before), op, GRAPH_WW);
    if (v->next[before] != CHECKER_NONE) {
        checker_say(v->c, CHECKER_LOST_UPDATE, version_writer(v, v->next[before]), op,
                    "both replaced the same version");
        return;
    }
    v->next[before] = after;
}

/* Steps of one transaction are together: does it read from others, and which is its final write? */
static void chain_all(struct versions *v) {
    struct checker *c = v->c;
    for (uint32_t i = 0; i < v->object.count;) {
        uint32_t op = c->step_op[v->object.steps[i]];
        uint32_t before = CHECKER_NONE;
        uint32_t after = CHECKER_NONE;
        for (; i < v->object.count && c->step_op[v->object.steps[i]] == op; i++) {
            uint32_t step = v->object.steps[i];
            uint32_t version = version_of(v, c->h->steps[step].value);
            if (checker_is_read(c, step) && (c->step_flags[step] & CHECKER_EXTERNAL) != 0) {
                before = version;
            }
            if (history_is_write(c->h->steps[step].action)) {
                after = version;
            }
        }
        if (before != CHECKER_NONE && after != CHECKER_NONE && c->is_committed[op]) {
            chain(v, op, before, after);
        }
    }
}

static struct run follow(struct versions *v, uint32_t head) {
    struct run run = {.head = head, .tail = head, .first_end = UINT64_MAX, .after = CHECKER_NONE};
    for (uint32_t version = head; version != CHECKER_NONE; version = v->next[version]) {
        uint32_t op = version_writer(v, version);
        uint64_t end = op == CHECKER_NONE ? 0 : v->c->h->ops[op].return_ns;
        uint64_t begin = op == CHECKER_NONE ? 0 : v->c->h->ops[op].invoke_ns;
        run.first_end = end < run.first_end ? end : run.first_end;
        run.last_begin = begin > run.last_begin ? begin : run.last_begin;
        run.tail = version;
    }
    return run;
}

static int by_first_end(const void *a, const void *b) {
    const struct run *x = a;
    const struct run *y = b;
    return x->first_end < y->first_end ? -1 : x->first_end > y->first_end;
}

static void rank_runs(struct versions *v) {
    uint32_t first = CHECKER_NONE;
    uint32_t second = CHECKER_NONE;
    for (uint32_t i = 0; i < v->run_count; i++) {
        uint64_t begin = v->runs[i].last_begin;
        if (first == CHECKER_NONE || begin > v->runs[first].last_begin) {
            second = first;
            first = i;
        } else if (second == CHECKER_NONE || begin > v->runs[second].last_begin) {
            second = i;
        }
        v->latest[i] = first;
        v->runner_up[i] = second;
    }
}

/* Every version starts a run that no transaction is known to have put behind another. */
static void find_runs(struct versions *v) {
    for (uint32_t version = 0; version <= v->values.count; version++) {
        if (is_version(v, version) && !v->has_previous[version]) {
            v->runs[v->run_count++] = follow(v, version);
        }
    }
    qsort(v->runs, v->run_count, sizeof *v->runs, by_first_end);
    for (uint32_t i = 0; i < v->run_count; i++) {
        v->run_of[v->runs[i].tail] = i;
    }
    rank_runs(v);
}

static void link_runs(struct versions *v, uint32_t before, uint32_t behind) {
    struct checker *c = v->c;
    struct run *run = &v->runs[before];
    uint32_t head_op = version_writer(v, v->runs[behind].head);
    if (run->after == CHECKER_NONE) {
        run->after = graph_add_node(&c->graph);
        link_ops(c, version_writer(v, run->tail), run->after, GRAPH_WW);
    }
    if (head_op != CHECKER_NONE) {
        graph_add_edge(&c->graph, run->after, head_op, GRAPH_VIA);
    }
}

/* Runs with first_end below `limit` are 0 .. result - 1. */
static uint32_t runs_ended_before(const struct versions *v, uint64_t limit) {
    uint32_t low = 0;
    uint32_t high = v->run_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (v->runs[middle].first_end < limit) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A run is a block that nothing gets into: one of its writers returned before one of another run
 * began, so all of it comes before all of the other. Said only for the nearest: a run is left out
 * where `nearest` is known to lie between. */
static void order_run(struct versions *v, uint32_t behind) {
    uint32_t count = runs_ended_before(v, v->runs[behind].last_begin);
    if (count == 0 || (count == 1 && behind == 0)) {
        return;
    }
    uint32_t nearest =
        v->latest[count - 1] != behind ? v->latest[count - 1] : v->runner_up[count - 1];
    link_runs(v, nearest, behind);
    for (uint32_t i = count; i-- > 0 && v->runs[i].first_end >= v->runs[nearest].last_begin;) {
        if (i != behind && i != nearest) {
            link_runs(v, i, behind);
        }
    }
    if (v->runs[nearest].last_begin > v->runs[behind].first_end) {
        checker_say(v->c, CHECKER_VERSION_ORDER, version_writer(v, v->runs[nearest].head),
                    version_writer(v, v->runs[behind].head),
                    "each would have to precede the other");
    }
}

static void check_balance(struct versions *v, uint32_t step, uint32_t version) {
    int64_t balance = v->c->h->steps[step].balance;
    if (balance == HISTORY_BALANCE_UNKNOWN) {
        return;
    }
    if (v->balances[version] == HISTORY_BALANCE_UNKNOWN) {
        v->balances[version] = balance;
    }
    if (v->balances[version] != balance) {
        checker_say(v->c, CHECKER_BALANCE, v->c->step_op[step], version_writer(v, version),
                    "%lld and %lld", (long long)balance, (long long)v->balances[version]);
    }
}

static void link_register_read(struct versions *v, uint32_t step, uint32_t version) {
    struct checker *c = v->c;
    uint32_t reader = c->step_op[step];
    link_ops(c, version_writer(v, version), reader, GRAPH_WR);
    check_intermediate(c, &v->values, reader, c->h->steps[step].value);
    if (v->next[version] != CHECKER_NONE) {
        link_ops(c, reader, version_writer(v, v->next[version]), GRAPH_RW);
    } else if (v->run_of[version] != CHECKER_NONE &&
               v->runs[v->run_of[version]].after != CHECKER_NONE) {
        graph_add_edge(&c->graph, reader, v->runs[v->run_of[version]].after, GRAPH_RW);
    }
}

static void link_register_steps(struct versions *v) {
    struct checker *c = v->c;
    for (uint32_t i = 0; i < v->object.count; i++) {
        uint32_t step = v->object.steps[i];
        uint32_t version = version_of(v, c->h->steps[step].value);
        bool is_read = checker_is_read(c, step);
        bool is_write = history_is_write(c->h->steps[step].action);
        if (version == CHECKER_NONE || (!is_read && !is_write)) {
            continue;
        }
        check_balance(v, step, version);
        if (is_read && (c->step_flags[step] & CHECKER_EXTERNAL) != 0) {
            link_register_read(v, step, version);
        }
    }
}

void checker_link_register(struct checker *c, uint32_t number) {
    struct versions v = {.c = c, .object = checker_object(c, number)};
    v.values = checker_values(c, v.object);
    size_t count = v.values.count + 1;
    v.next = checker_take(count, sizeof *v.next);
    v.has_previous = checker_take(count, sizeof *v.has_previous);
    v.run_of = checker_take(count, sizeof *v.run_of);
    v.balances = checker_take(count, sizeof *v.balances);
    v.runs = checker_take(count, sizeof *v.runs);
    v.latest = checker_take(count, sizeof *v.latest);
    v.runner_up = checker_take(count, sizeof *v.runner_up);
    for (size_t i = 0; i < count; i++) {
        v.next[i] = v.run_of[i] = CHECKER_NONE;
        v.balances[i] = HISTORY_BALANCE_UNKNOWN;
    }
    chain_all(&v);
    find_runs(&v);
    for (uint32_t i = 0; i < v.run_count; i++) {
        order_run(&v, i);
    }
    link_register_steps(&v);
    free(v.values.items);
    free(v.next);
    free(v.has_previous);
    free(v.run_of);
    free(v.balances);
    free(v.runs);
    free(v.latest);
    free(v.runner_up);
}

/* -- sets ----------------------------------------------------------------------------------------
 */

/* Reads of one set, smallest first. Those that show the same make a level, each of which includes
 * the one before:
 *
 *     added to level j ─▶ added[j] ─▶ added[j + 1] ─▶ …       added[j] ─▶ those who read level j
 *     those who read level j ─▶ less[j + 1] ─▶ less[j + 2] ─▶ …    less[j] ─▶ added to level j
 *
 * A transaction that adds to a set does not read it, too: it would be on both sides. */
struct set {
    struct checker *c;
    struct checker_object object;
    struct checker_values values;
    uint32_t *reads;         /* steps */
    uint32_t *level_of_read; /* CHECKER_NONE: it fits none */
    uint32_t read_count;
    uint32_t *first_of_level; /* in reads */
    uint32_t level_count;
    bool *is_seen;   /* by place in the values */
    uint32_t *added; /* virtual, by level */
    uint32_t *less;  /* virtual, by level, and one for what was never seen */
};

struct sized_read {
    uint32_t count, step;
};

static int by_count(const void *a, const void *b) {
    const struct sized_read *x = a;
    const struct sized_read *y = b;
    return x->count < y->count ? -1 : x->count > y->count;
}

static void collect_reads(struct set *s) {
    struct sized_read *sized = checker_take(s->object.count, sizeof *sized);
    for (uint32_t i = 0; i < s->object.count; i++) {
        uint32_t step = s->object.steps[i];
        if (checker_is_read(s->c, step)) {
            sized[s->read_count++] = (struct sized_read){count_of(s->c, step), step};
        }
    }
    qsort(sized, s->read_count, sizeof *sized, by_count);
    s->reads = checker_take(s->read_count, sizeof *s->reads);
    for (uint32_t i = 0; i < s->read_count; i++) {
        s->reads[i] = sized[i].step;
    }
    free(sized);
}

/* Both are sorted. */
static bool is_subset(const struct checker *c, uint32_t step, uint32_t of) {
    uint32_t j = 0;
    for (uint32_t i = 0; i < count_of(c, step); i++) {
        while (j < count_of(c, of) && elements_of(c, of)[j] < elements_of(c, step)[i]) {
            j++;
        }
        if (j == count_of(c, of) || elements_of(c, of)[j] != elements_of(c, step)[i]) {
            return false;
        }
        j++;
    }
    return true;
}

void checker_observe_set(struct checker *c, uint32_t number) {
    struct set s = {.c = c, .object = checker_object(c, number)};
    s.values = checker_values(c, s.object);
    collect_reads(&s);
    for (uint32_t i = s.read_count; i-- > 0;) {
        uint32_t largest = s.reads[s.read_count - 1];
        if (s.reads[i] == largest || !is_subset(c, s.reads[i], largest)) {
            observe_elements(c, &s.values, s.reads[i]);
        }
    }
    free(s.values.items);
    free(s.reads);
}

static void find_levels(struct set *s) {
    struct checker *c = s->c;
    for (uint32_t i = 0; i < s->read_count; i++) {
        uint32_t last = s->level_count == 0 ? i : s->first_of_level[s->level_count - 1];
        if (!is_subset(c, s->reads[last], s->reads[i])) {
            s->level_of_read[i] = CHECKER_NONE;
            checker_say(c, CHECKER_DISAGREEMENT, c->step_op[s->reads[last]],
                        c->step_op[s->reads[i]], "set %u: neither includes the other",
                        c->h->steps[s->reads[i]].object);
            continue;
        }
        if (s->level_count == 0 || count_of(c, s->reads[i]) > count_of(c, s->reads[last])) {
            s->first_of_level[s->level_count++] = i;
        }
        s->level_of_read[i] = s->level_count - 1;
    }
}

static void add_level_nodes(struct set *s) {
    struct graph *g = &s->c->graph;
    for (uint32_t j = 0; j <= s->level_count; j++) {
        s->added[j] = graph_add_node(g);
        s->less[j] = graph_add_node(g);
        if (j > 0) {
            graph_add_edge(g, s->added[j - 1], s->added[j], GRAPH_VIA);
            graph_add_edge(g, s->less[j - 1], s->less[j], GRAPH_VIA);
        }
    }
}

/* What was not seen in a level before was added to this one. */
static void link_additions(struct set *s, uint32_t level) {
    struct checker *c = s->c;
    uint32_t step = s->reads[s->first_of_level[level]];
    for (uint32_t i = 0; i < count_of(c, step); i++) {
        uint32_t found = checker_find(&s->values, elements_of(c, step)[i]);
        if (found == CHECKER_NONE || s->is_seen[found]) {
            continue;
        }
        uint32_t op = c->step_op[s->values.items[found].step];
        s->is_seen[found] = true;
        graph_add_edge(&c->graph, op, s->added[level], GRAPH_WR);
        graph_add_edge(&c->graph, s->less[level], op, GRAPH_VIA);
    }
}

static void link_unseen_additions(struct set *s) {
    struct checker *c = s->c;
    uint32_t last_reader = last_reader_of(c, s->object);
    uint64_t last_read_ns = last_reader == CHECKER_NONE ? 0 : c->h->ops[last_reader].invoke_ns;
    for (uint32_t i = 0; i < s->values.count; i++) {
        uint32_t step = s->values.items[i].step;
        if (!s->is_seen[i] && c->is_committed[c->step_op[step]]) {
            check_lost(c, step, last_read_ns, last_reader);
            graph_add_edge(&c->graph, s->less[s->level_count], c->step_op[step], GRAPH_VIA);
        }
    }
}

static void link_set(struct set *s) {
    struct checker *c = s->c;
    find_levels(s);
    add_level_nodes(s);
    for (uint32_t level = 0; level < s->level_count; level++) {
        link_additions(s, level);
    }
    link_unseen_additions(s);
    for (uint32_t i = 0; i < s->read_count; i++) {
        uint32_t level = s->level_of_read[i];
        if (level != CHECKER_NONE) {
            uint32_t reader = c->step_op[s->reads[i]];
            graph_add_edge(&c->graph, s->added[level], reader, GRAPH_VIA);
            graph_add_edge(&c->graph, reader, s->less[level + 1], GRAPH_RW);
        }
    }
}

void checker_link_set(struct checker *c, uint32_t number) {
    struct set s = {.c = c, .object = checker_object(c, number)};
    s.values = checker_values(c, s.object);
    collect_reads(&s);
    s.level_of_read = checker_take(s.read_count, sizeof *s.level_of_read);
    s.first_of_level = checker_take(s.read_count, sizeof *s.first_of_level);
    s.is_seen = checker_take(s.values.count, sizeof *s.is_seen);
    s.added = checker_take(s.read_count + 1, sizeof *s.added);
    s.less = checker_take(s.read_count + 1, sizeof *s.less);
    link_set(&s);
    free(s.values.items);
    free(s.reads);
    free(s.level_of_read);
    free(s.first_of_level);
    free(s.is_seen);
    free(s.added);
    free(s.less);
}
