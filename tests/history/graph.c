#include "tests/history/graph.h"

#include <stdlib.h>
#include <string.h>

#include "base/err.h"

#define NONE       UINT32_MAX
#define MASK(kind) (1U << (kind))
#define DATA_MASK  (MASK(GRAPH_WW) | MASK(GRAPH_WR) | MASK(GRAPH_RW) | MASK(GRAPH_VIA))
#define ALL_MASK   (DATA_MASK | MASK(GRAPH_REALTIME))

/* A shorter cycle is easier to read; so many are looked at before the shortest is said. */
enum { CANDIDATES_MAX = 16, ATTEMPTS_MAX = 100000 };

static void *take(size_t count, size_t item_bytes) {
    void *memory = calloc(count + 1, item_bytes);
    DBOS_CHECK(memory != NULL);
    return memory;
}

void graph_init(struct graph *g, uint32_t meant_count) {
    *g = (struct graph){.meant_count = meant_count, .node_count = meant_count};
}

void graph_fini(struct graph *g) {
    free(g->edges);
    free(g->first);
    *g = (struct graph){0};
}

uint32_t graph_add_node(struct graph *g) {
    DBOS_CHECK(g->node_count < NONE);
    return g->node_count++;
}

void graph_add_edge(struct graph *g, uint32_t from, uint32_t to, enum graph_kind kind) {
    DBOS_CHECK(from < g->node_count);
    DBOS_CHECK(to < g->node_count);
    DBOS_CHECK((from >= g->meant_count) == (kind == GRAPH_VIA));
    if (from == to) {
        return;
    }
    if (g->edge_count == g->edge_max) {
        g->edge_max = g->edge_max == 0 ? 1024 : 2 * g->edge_max;
        g->edges = realloc(g->edges, g->edge_max * sizeof *g->edges);
        DBOS_CHECK(g->edges != NULL);
    }
    g->edges[g->edge_count++] = (struct graph_edge){from, to, (uint8_t)kind};
    g->kind_counts[kind]++;
}

static void sort_edges(struct graph *g) {
    struct graph_edge *sorted = take(g->edge_count, sizeof *sorted);
    free(g->first);
    g->first = take(g->node_count + 1, sizeof *g->first);
    for (size_t i = 0; i < g->edge_count; i++) {
        g->first[g->edges[i].from + 1]++;
    }
    for (uint32_t v = 0; v < g->node_count; v++) {
        g->first[v + 1] += g->first[v];
    }
    size_t *next = take(g->node_count + 1, sizeof *next);
    memcpy(next, g->first, (g->node_count + 1) * sizeof *next);
    for (size_t i = 0; i < g->edge_count; i++) {
        sorted[next[g->edges[i].from]++] = g->edges[i];
    }
    free(next);
    free(g->edges);
    g->edges = sorted;
    g->edge_max = g->edge_count;
}

/* -- strongly connected components ---------------------------------------------------------------
 */

/* Tarjan's algorithm with a stack of its own instead of recursion. Components are numbered in
 * reverse topological order: an edge leads to the same or to a smaller number. */
struct components {
    const struct graph *g;
    unsigned mask;
    const uint8_t *allowed; /* nodes to look at; NULL: all */
    uint32_t *of;           /* the component of each node */
    uint32_t *sizes;
    uint32_t count;
    uint32_t *index, *low;
    uint32_t next_index;
    uint32_t *open;  /* nodes whose component is not known yet */
    uint32_t *path;  /* from the root to where it is */
    size_t *at_edge; /* where the search stands in the edges of each node of the path */
    uint32_t open_count, path_count;
};

static bool is_allowed(const struct components *c, uint32_t node) {
    return c->allowed == NULL || c->allowed[node] != 0;
}

static void enter(struct components *c, uint32_t node) {
    c->index[node] = c->low[node] = ++c->next_index;
    c->open[c->open_count++] = node;
    c->at_edge[c->path_count] = c->g->first[node];
    c->path[c->path_count++] = node;
}

static void leave(struct components *c) {
    uint32_t node = c->path[--c->path_count];
    if (c->low[node] == c->index[node]) {
        uint32_t member = NONE;
        while (member != node) {
            member = c->open[--c->open_count];
            c->of[member] = c->count;
            c->sizes[c->count]++;
        }
        c->count++;
    }
    if (c->path_count > 0) {
        uint32_t parent = c->path[c->path_count - 1];
        c->low[parent] = c->low[node] < c->low[parent] ? c->low[node] : c->low[parent];
    }
}

/* One edge further, or back. */
static void advance(struct components *c) {
    uint32_t node = c->path[c->path_count - 1];
    size_t at = c->at_edge[c->path_count - 1]++;
    if (at == c->g->first[node + 1]) {
        leave(c);
        return;
    }
    const struct graph_edge *edge = &c->g->edges[at];
    if ((c->mask & MASK(edge->kind)) == 0 || !is_allowed(c, edge->to)) {
        return;
    }
    if (c->index[edge->to] == 0) {
        enter(c, edge->to);
    } else if (c->of[edge->to] == NONE && c->index[edge->to] < c->low[node]) {
        c->low[node] = c->index[edge->to];
    }
}

static void components_find(struct components *c, const struct graph *g, unsigned mask,
                            const uint8_t *allowed) {
    size_t n = g->node_count;
    *c = (struct components){.g = g, .mask = mask, .allowed = allowed};
    c->of = take(n, sizeof *c->of);
    c->sizes = take(n, sizeof *c->sizes);
    c->index = take(n, sizeof *c->index);
    c->low = take(n, sizeof *c->low);
    c->open = take(n, sizeof *c->open);
    c->path = take(n, sizeof *c->path);
    c->at_edge = take(n, sizeof *c->at_edge);
    memset(c->of, 0xff, n * sizeof *c->of);
    for (uint32_t v = 0; v < n; v++) {
        if (c->index[v] != 0 || !is_allowed(c, v)) {
            continue;
        }
        enter(c, v);
        while (c->path_count > 0) {
            advance(c);
        }
    }
    free(c->index);
    free(c->low);
    free(c->open);
    free(c->path);
    free(c->at_edge);
}

static void components_fini(struct components *c) {
    free(c->of);
    free(c->sizes);
}

/* -- one cycle -----------------------------------------------------------------------------------
 */

struct search {
    const struct graph *g;
    const struct components *whole; /* by all edges of the class */
    const struct components *order; /* by those that are no rw: where a path can lead */
    unsigned mask;
    size_t *edge_to; /* by which edge a node was reached, + 1 */
    uint32_t *seen;  /* the round in which it was reached */
    uint32_t *queue;
    uint32_t round;
    /* The best cycle so far: edges, the last one closes it. */
    size_t *best;
    size_t best_count;
};

/* Breadth first from `from`, within one component; true when `to` was reached. */
static bool reach(struct search *s, uint32_t from, uint32_t to, unsigned mask) {
    uint32_t head = 0;
    uint32_t tail = 0;
    s->queue[tail++] = from;
    s->seen[from] = ++s->round;
    s->edge_to[from] = 0;
    while (head < tail) {
        uint32_t node = s->queue[head++];
        for (size_t i = s->g->first[node]; i < s->g->first[node + 1]; i++) {
            const struct graph_edge *edge = &s->g->edges[i];
            uint32_t next = edge->to;
            if ((mask & MASK(edge->kind)) == 0 || s->whole->of[next] != s->whole->of[from] ||
                (s->order != NULL && s->order->of[next] < s->order->of[to])) {
                continue;
            }
            if (next == to) {
                s->edge_to[to] = i + 1;
                return true;
            }
            if (s->seen[next] != s->round) {
                s->seen[next] = s->round;
                s->edge_to[next] = i + 1;
                s->queue[tail++] = next;
            }
        }
    }
    return false;
}

/* Keep the path that reach() found, and behind it `closing` (+ 1; 0: the path is closed itself), if
 * that is shorter. */
static void keep_path(struct search *s, uint32_t from, uint32_t to, size_t closing) {
    size_t count = closing != 0;
    uint32_t node = to;
    do {
        node = s->g->edges[s->edge_to[node] - 1].from;
        count++;
    } while (node != from);
    if (s->best_count != 0 && s->best_count <= count) {
        return;
    }
    s->best_count = count;
    if (closing != 0) {
        s->best[--count] = closing - 1;
    }
    node = to;
    while (count > 0) {
        s->best[--count] = s->edge_to[node] - 1;
        node = s->g->edges[s->best[count]].from;
    }
}

/* A cycle with exactly one rw edge, the shortest of a few; false: there is none. */
static bool find_single(struct search *s, const uint32_t *members, uint32_t count) {
    uint32_t found = 0;
    uint32_t attempts = 0;
    unsigned mask = s->mask & ~MASK(GRAPH_RW);
    for (uint32_t m = 0; m < count && found < CANDIDATES_MAX; m++) {
        for (size_t i = s->g->first[members[m]]; i < s->g->first[members[m] + 1]; i++) {
            const struct graph_edge *edge = &s->g->edges[i];
            bool can_close = edge->kind == GRAPH_RW &&
                             s->whole->of[edge->to] == s->whole->of[edge->from] &&
                             s->order->of[edge->to] >= s->order->of[edge->from];
            if (!can_close || ++attempts > ATTEMPTS_MAX) {
                continue;
            }
            if (reach(s, edge->to, edge->from, mask)) {
                keep_path(s, edge->to, edge->from, i + 1);
                found++;
            }
        }
    }
    return found > 0;
}

static void find_any(struct search *s, const uint32_t *members, uint32_t count) {
    s->order = NULL;
    for (uint32_t m = 0; m < count && m < CANDIDATES_MAX; m++) {
        bool closed = reach(s, members[m], members[m], s->mask);
        DBOS_CHECK(closed);
        keep_path(s, members[m], members[m], 0);
    }
}

static void say_cycle(struct search *s, enum graph_class class,
                      void (*found)(void *context, const struct graph_cycle *cycle),
                      void *context) {
    uint32_t *nodes = take(s->best_count, sizeof *nodes);
    uint8_t *kinds = take(s->best_count, sizeof *kinds);
    struct graph_cycle cycle = {.class = class, .nodes = nodes, .kinds = kinds};
    for (size_t i = 0; i < s->best_count; i++) {
        const struct graph_edge *edge = &s->g->edges[s->best[i]];
        if (edge->from < s->g->meant_count) {
            nodes[cycle.count] = edge->from;
            kinds[cycle.count++] = edge->kind;
        }
    }
    DBOS_CHECK(cycle.count > 0);
    found(context, &cycle);
    free(nodes);
    free(kinds);
}

/* -- classes -------------------------------------------------------------------------------------
 */

/* Members of each component of more than one node, one component behind the other. */
static uint32_t *group_members(const struct components *c, uint32_t node_count, size_t *starts) {
    uint32_t *members = take(node_count, sizeof *members);
    for (uint32_t i = 0; i < c->count; i++) {
        starts[i + 1] = starts[i] + c->sizes[i];
    }
    size_t *next = take(c->count, sizeof *next);
    memcpy(next, starts, c->count * sizeof *next);
    for (uint32_t v = 0; v < node_count; v++) {
        if (c->of[v] != NONE) {
            members[next[c->of[v]]++] = v;
        }
    }
    free(next);
    return members;
}

struct classes {
    struct graph *g;
    struct components all; /* by all edges */
    uint8_t *allowed;      /* nodes of components of more than one that nothing was said of yet */
    struct search search;
    size_t said;
    void (*found)(void *context, const struct graph_cycle *cycle);
    void *context;
};

static void forget_component(struct classes *c, uint32_t member) {
    for (uint32_t v = 0; v < c->g->node_count; v++) {
        if (c->all.of[v] == c->all.of[member]) {
            c->allowed[v] = 0;
        }
    }
}

/* One cycle of each component that the class's edges make; `class` and the one with more rw edges.
 */
static void say_class(struct classes *c, enum graph_class class, unsigned mask) {
    struct components whole;
    struct components order = {0};
    bool has_rw = (mask & MASK(GRAPH_RW)) != 0;
    components_find(&whole, c->g, mask, c->allowed);
    if (has_rw) {
        components_find(&order, c->g, mask & ~MASK(GRAPH_RW), c->allowed);
    }
    size_t *starts = take(whole.count + 1, sizeof *starts);
    uint32_t *members = group_members(&whole, c->g->node_count, starts);
    for (uint32_t i = 0; i < whole.count; i++) {
        const uint32_t *of_component = members + starts[i];
        if (whole.sizes[i] < 2 || c->allowed[of_component[0]] == 0) {
            continue;
        }
        c->search.whole = &whole;
        c->search.order = &order;
        c->search.mask = mask;
        c->search.best_count = 0;
        bool is_single = has_rw && find_single(&c->search, of_component, whole.sizes[i]);
        if (!is_single) {
            find_any(&c->search, of_component, whole.sizes[i]);
        }
        say_cycle(&c->search, has_rw && !is_single ? class + 1 : class, c->found, c->context);
        c->said++;
        forget_component(c, of_component[0]);
    }
    free(starts);
    free(members);
    components_fini(&whole);
    components_fini(&order);
}

static void say_all_classes(struct classes *c) {
    static const struct {
        enum graph_class class;
        unsigned mask;
    } classes[] = {
        {GRAPH_G0, MASK(GRAPH_WW) | MASK(GRAPH_VIA)},
        {GRAPH_G1C, DATA_MASK & ~MASK(GRAPH_RW)},
        {GRAPH_G_SINGLE, DATA_MASK},
        {GRAPH_G0_REALTIME, MASK(GRAPH_WW) | MASK(GRAPH_REALTIME) | MASK(GRAPH_VIA)},
        {GRAPH_G1C_REALTIME, ALL_MASK & ~MASK(GRAPH_RW)},
        {GRAPH_G_SINGLE_REALTIME, ALL_MASK},
    };
    size_t n = c->g->node_count;
    c->search = (struct search){.g = c->g};
    c->search.edge_to = take(n, sizeof *c->search.edge_to);
    c->search.seen = take(n, sizeof *c->search.seen);
    c->search.queue = take(n, sizeof *c->search.queue);
    c->search.best = take(n + 1, sizeof *c->search.best);
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        say_class(c, classes[i].class, classes[i].mask);
    }
    free(c->search.edge_to);
    free(c->search.seen);
    free(c->search.queue);
    free(c->search.best);
}

size_t graph_cycles(struct graph *g, void (*found)(void *context, const struct graph_cycle *cycle),
                    void *context) {
    struct classes c = {.g = g, .found = found, .context = context};
    sort_edges(g);
    components_find(&c.all, g, ALL_MASK, NULL);
    if (c.all.count < g->node_count) {
        c.allowed = take(g->node_count, sizeof *c.allowed);
        for (uint32_t v = 0; v < g->node_count; v++) {
            c.allowed[v] = c.all.sizes[c.all.of[v]] > 1;
        }
        say_all_classes(&c);
        free(c.allowed);
    }
    components_fini(&c.all);
    return c.said;
}
