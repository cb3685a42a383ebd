/* A directed graph with kinds of edges, and its cycles.
 *
 * Nodes 0..n-1 are given at the start, and mean something; virtual nodes that come later stand for
 * many edges at once: "each of these before each of those" is one virtual node and not a product.
 * An edge out of a meant node says its kind, edges out of virtual nodes are GRAPH_VIA.
 *
 * Thread: one. Memory: malloc, freed by graph_fini(). */
#ifndef DBOS_HISTORY_GRAPH_H
#define DBOS_HISTORY_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum graph_kind {
    GRAPH_WW,       /* the next version is the other's */
    GRAPH_WR,       /* the other read it */
    GRAPH_RW,       /* the other wrote what comes after what was read */
    GRAPH_REALTIME, /* returned before the other was begun */
    GRAPH_VIA,      /* on from a virtual node */
    GRAPH_KINDS,
};

/* Adya's classes, and the same that need real time to be cycles. */
enum graph_class {
    GRAPH_G0,       /* ww only */
    GRAPH_G1C,      /* ww and wr */
    GRAPH_G_SINGLE, /* exactly one rw */
    GRAPH_G2,       /* several rw */
    GRAPH_G0_REALTIME,
    GRAPH_G1C_REALTIME,
    GRAPH_G_SINGLE_REALTIME,
    GRAPH_G2_REALTIME,
    GRAPH_CLASSES,
};

struct graph_edge {
    uint32_t from, to;
    uint8_t kind;
};

struct graph {
    uint32_t meant_count; /* nodes that are not virtual */
    uint32_t node_count;
    struct graph_edge *edges;
    size_t edge_count, edge_max;
    size_t kind_counts[GRAPH_KINDS];
    size_t *first; /* by graph_cycles(): edges of node v are first[v] .. first[v + 1] */
};

/* A cycle: nodes[i] -> nodes[i + 1] by kinds[i], the last back to the first. No virtual node. */
struct graph_cycle {
    enum graph_class class;
    size_t count;
    const uint32_t *nodes;
    const uint8_t *kinds;
};

void graph_init(struct graph *g, uint32_t meant_count);
void graph_fini(struct graph *g);
/* A further, virtual node. */
uint32_t graph_add_node(struct graph *g);
/* Nothing where the two are the same. */
void graph_add_edge(struct graph *g, uint32_t from, uint32_t to, enum graph_kind kind);

/* Sort the edges, and say one cycle of each strongly connected component, of the first class (in
 * the order above) that it has. The cycle is borrowed for the call. Returns how many. O(nodes +
 * edges) where there is none. */
size_t graph_cycles(struct graph *g, void (*found)(void *context, const struct graph_cycle *cycle),
                    void *context);

#endif /* DBOS_HISTORY_GRAPH_H */
