#include "provenance/walk.h"

#include <stdlib.h>

#include "provenance/record.h"
#include "provenance/record_format.h"

#define NONE UINT32_MAX
enum {
    SLOT_COUNT = 1024,
    STOP_EVERY = 256, /* versions between two looks at `stop` */
};

/* A version (its write) or one block of a read, in the order (table, block, event). */
struct entry {
    uint64_t block;
    uint32_t table_id;
    uint32_t event;
};
/* A scan, in the order (table, part, event); `next` skips those that are expanded. */
struct scan {
    uint32_t table_id;
    uint16_t partition;
    uint16_t partitions;
    uint32_t event;
    uint32_t next; /* itself, or a later one of the list */
};

struct dbos_walk {
    struct dbos_alloc *alloc;
    uint64_t events_max;
    uint32_t ord_bits;
    bool backwards;
    struct dbos_walk_event *events;
    uint32_t event_count;
    uint32_t event_capacity;
    uint32_t *first;    /* of each event: the first of its transaction */
    uint32_t *expanded; /* at the first event: statements below (backwards) or from (forwards) it */
    uint32_t *rank;     /* of a write: its place in `versions` */
    struct entry *versions;
    uint32_t version_count;
    struct entry *reads; /* forwards only */
    uint64_t read_count;
    struct scan *scans; /* forwards only */
    uint32_t scan_count;
    uint32_t *queue;  /* events of versions found, in the order of finding */
    uint32_t *parent; /* of versions[i]: an event, NONE = a start or not found */
    uint32_t *depth;  /* of versions[i]; NONE = not found */
    uint32_t found;
};

enum dbos_err dbos_walk_open(struct dbos_alloc *alloc, uint64_t events_max,
                             struct dbos_walk **out) {
    struct dbos_walk *walk = dbos_take_zero(alloc, sizeof *walk);
    *out = walk;
    if (walk == NULL) {
        return DBOS_ERR_NOMEM;
    }
    walk->alloc = alloc;
    walk->events_max = events_max < NONE ? events_max : NONE - 1;
    return DBOS_OK;
}

void dbos_walk_close(struct dbos_walk *walk) {
    if (walk == NULL) {
        return;
    }
    void *blocks[] = {walk->events, walk->first, walk->expanded, walk->rank,   walk->versions,
                      walk->reads,  walk->scans, walk->queue,    walk->parent, walk->depth};
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        dbos_give(walk->alloc, blocks[i]);
    }
    dbos_give(walk->alloc, walk);
}

static bool is_write(const struct dbos_walk_event *event) {
    return event->op == DBOS_EVENT_INSERT || event->op == DBOS_EVENT_UPDATE ||
           event->op == DBOS_EVENT_DELETE;
}

enum dbos_err dbos_walk_add(struct dbos_walk *walk, const struct dbos_walk_event *event) {
    if (!is_write(event) && event->op != DBOS_EVENT_READ && event->op != DBOS_EVENT_SCAN) {
        return DBOS_OK;
    }
    if (walk->event_count == walk->event_capacity) {
        uint64_t capacity = (uint64_t)walk->event_capacity * 2 + 1024;
        capacity = capacity > walk->events_max ? walk->events_max : capacity;
        if (capacity == walk->event_capacity) {
            return DBOS_ERR_LIMIT;
        }
        void *events = dbos_retake(walk->alloc, walk->events, capacity * sizeof *walk->events);
        if (events == NULL) {
            return DBOS_ERR_NOMEM;
        }
        walk->events = events;
        walk->event_capacity = (uint32_t)capacity;
    }
    DBOS_DEBUG_CHECK(walk->event_count == 0 ||
                     walk->events[walk->event_count - 1].ord < event->ord);
    walk->events[walk->event_count++] = *event;
    return DBOS_OK;
}

/* -- preparing ----------------------------------------------------------------------------------
 */

static int compare_entries(const void *left, const void *right) {
    const struct entry *a = left, *b = right;
    if (a->table_id != b->table_id) {
        return a->table_id < b->table_id ? -1 : 1;
    }
    if (a->block != b->block) {
        return a->block < b->block ? -1 : 1;
    }
    return a->event < b->event ? -1 : a->event > b->event;
}

static int compare_scans(const void *left, const void *right) {
    const struct scan *a = left, *b = right;
    if (a->table_id != b->table_id) {
        return a->table_id < b->table_id ? -1 : 1;
    }
    if (a->partitions != b->partitions) {
        return a->partitions < b->partitions ? -1 : 1;
    }
    if (a->partition != b->partition) {
        return a->partition < b->partition ? -1 : 1;
    }
    return a->event < b->event ? -1 : a->event > b->event;
}

static enum dbos_err take_arrays(struct dbos_walk *walk, uint64_t versions, uint64_t reads,
                                 uint64_t scans) {
    struct dbos_alloc *alloc = walk->alloc;
    uint64_t events = (uint64_t)walk->event_count + 1;
    walk->first = dbos_take(alloc, events * sizeof *walk->first);
    walk->expanded = dbos_take(alloc, events * sizeof *walk->expanded);
    walk->rank = dbos_take(alloc, events * sizeof *walk->rank);
    walk->versions = dbos_take(alloc, (versions + 1) * sizeof *walk->versions);
    walk->queue = dbos_take(alloc, (versions + 1) * sizeof *walk->queue);
    walk->parent = dbos_take(alloc, (versions + 1) * sizeof *walk->parent);
    walk->depth = dbos_take(alloc, (versions + 1) * sizeof *walk->depth);
    walk->reads = dbos_take(alloc, (reads + 1) * sizeof *walk->reads);
    walk->scans = dbos_take(alloc, (scans + 1) * sizeof *walk->scans);
    bool failed = walk->first == NULL || walk->expanded == NULL || walk->rank == NULL ||
                  walk->versions == NULL || walk->queue == NULL || walk->parent == NULL ||
                  walk->depth == NULL || walk->reads == NULL || walk->scans == NULL;
    return failed ? DBOS_ERR_NOMEM : DBOS_OK;
}

static void add_version(struct dbos_walk *walk, uint32_t i) {
    const struct dbos_walk_event *event = &walk->events[i];
    uint32_t at = walk->version_count++;
    walk->versions[at] = (struct entry){event->block, event->table_id, i};
    walk->parent[at] = NONE;
    walk->depth[at] = NONE;
}

static void add_read(struct dbos_walk *walk, uint32_t i) {
    const struct dbos_walk_event *event = &walk->events[i];
    for (uint32_t n = 0; n < event->count; n++) {
        uint64_t block = event->block + (uint64_t)n * DBOS_BLOCK_STEP;
        walk->reads[walk->read_count++] = (struct entry){block, event->table_id, i};
    }
}

static void add_scan(struct dbos_walk *walk, uint32_t i) {
    const struct dbos_walk_event *event = &walk->events[i];
    walk->scans[walk->scan_count++] = (struct scan){.table_id = event->table_id,
                                                    .partition = event->partition,
                                                    .partitions = event->partitions,
                                                    .event = i};
}

static void fill_arrays(struct dbos_walk *walk) {
    for (uint32_t i = 0; i < walk->event_count; i++) {
        const struct dbos_walk_event *event = &walk->events[i];
        bool same =
            i != 0 && event->ord >> walk->ord_bits == walk->events[i - 1].ord >> walk->ord_bits;
        walk->first[i] = same ? walk->first[i - 1] : i;
        walk->expanded[i] = walk->backwards ? 0 : NONE;
        walk->rank[i] = NONE;
        if (is_write(event)) {
            add_version(walk, i);
        } else if (!walk->backwards && event->op == DBOS_EVENT_READ) {
            add_read(walk, i);
        } else if (!walk->backwards) {
            add_scan(walk, i);
        }
    }
}

enum dbos_err dbos_walk_prepare(struct dbos_walk *walk, uint32_t ord_bits, bool backwards) {
    uint64_t versions = 0, reads = 0, scans = 0;
    walk->ord_bits = ord_bits;
    walk->backwards = backwards;
    for (uint32_t i = 0; i < walk->event_count; i++) {
        versions += is_write(&walk->events[i]) ? 1 : 0;
        reads += walk->events[i].op == DBOS_EVENT_READ ? walk->events[i].count : 0;
        scans += walk->events[i].op == DBOS_EVENT_SCAN ? 1 : 0;
    }
    if (take_arrays(walk, versions, backwards ? 0 : reads, backwards ? 0 : scans) != DBOS_OK) {
        return DBOS_ERR_NOMEM;
    }
    fill_arrays(walk);
    qsort(walk->versions, walk->version_count, sizeof *walk->versions, compare_entries);
    qsort(walk->reads, walk->read_count, sizeof *walk->reads, compare_entries);
    qsort(walk->scans, walk->scan_count, sizeof *walk->scans, compare_scans);
    for (uint32_t i = 0; i < walk->version_count; i++) {
        walk->rank[walk->versions[i].event] = i;
    }
    for (uint32_t i = 0; i < walk->scan_count; i++) {
        walk->scans[i].next = i;
    }
    return DBOS_OK;
}

/* -- finding ------------------------------------------------------------------------------------
 */

/* Number of entries before (table, block, event). */
static uint64_t lower_bound(const struct entry *entries, uint64_t count, const struct entry *key) {
    uint64_t low = 0, high = count;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (compare_entries(&entries[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* The version at `at` joins the found ones, once. */
static void note(struct dbos_walk *walk, uint32_t at, uint32_t parent_event, uint32_t depth) {
    if (walk->depth[at] != NONE) {
        return;
    }
    walk->depth[at] = depth;
    walk->parent[at] = parent_event;
    walk->queue[walk->found++] = walk->versions[at].event;
}

void dbos_walk_start(struct dbos_walk *walk, int64_t ord) {
    uint32_t low = 0, high = walk->event_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (walk->events[middle].ord < ord) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if (low < walk->event_count && walk->events[low].ord == ord && walk->rank[low] != NONE) {
        note(walk, walk->rank[low], NONE, 0);
    }
}

/* The version of the block that was live at `event`. */
static void note_live(struct dbos_walk *walk, uint32_t table_id, uint64_t block, uint32_t event,
                      uint32_t parent_event, uint32_t depth) {
    struct entry key = {block, table_id, event};
    uint64_t at = lower_bound(walk->versions, walk->version_count, &key);
    if (at == 0) {
        return;
    }
    const struct entry *version = &walk->versions[at - 1];
    if (version->table_id == table_id && version->block == block &&
        walk->events[version->event].op != DBOS_EVENT_DELETE) {
        note(walk, (uint32_t)(at - 1), parent_event, depth);
    }
}

static bool part_has(uint16_t partition, uint16_t partitions, uint64_t block) {
    return partition == DBOS_PARTITION_ALL || partitions == 0 ||
           (block % SLOT_COUNT) % partitions == partition;
}

/* Every version that a scan saw: block by block, the last one before it. */
static void note_scanned(struct dbos_walk *walk, uint32_t scan, uint32_t parent_event,
                         uint32_t depth) {
    const struct dbos_walk_event *event = &walk->events[scan];
    struct entry key = {0, event->table_id, 0};
    uint64_t at = lower_bound(walk->versions, walk->version_count, &key);
    while (at < walk->version_count && walk->versions[at].table_id == event->table_id) {
        uint64_t block = walk->versions[at].block;
        uint32_t last = NONE;
        for (; at < walk->version_count && walk->versions[at].table_id == event->table_id &&
               walk->versions[at].block == block;
             at++) {
            last = walk->versions[at].event < scan ? (uint32_t)at : last;
        }
        if (last != NONE && part_has(event->partition, event->partitions, block) &&
            walk->events[walk->versions[last].event].op != DBOS_EVENT_DELETE) {
            note(walk, last, parent_event, depth);
        }
    }
}

/* What the writing transaction had read up to the version's statement. */
static void expand_backwards(struct dbos_walk *walk, uint32_t version, uint32_t depth) {
    uint32_t first = walk->first[version];
    uint32_t from = walk->expanded[first];
    uint32_t to = walk->events[version].statement;
    for (uint32_t i = first; i < walk->event_count && walk->first[i] == first; i++) {
        const struct dbos_walk_event *event = &walk->events[i];
        if (event->statement > to) {
            break; /* statements grow */
        }
        if (event->statement < from) {
            continue;
        }
        if (event->op == DBOS_EVENT_READ) {
            for (uint32_t n = 0; n < event->count; n++) {
                note_live(walk, event->table_id, event->block + (uint64_t)n * DBOS_BLOCK_STEP, i,
                          version, depth);
            }
        } else if (event->op == DBOS_EVENT_SCAN) {
            note_scanned(walk, i, version, depth);
        }
    }
    walk->expanded[first] = to >= from ? to + 1 : from;
}

/* What the reading transaction wrote from the read's statement on. */
static void note_written(struct dbos_walk *walk, uint32_t read, uint32_t parent_event,
                         uint32_t depth) {
    uint32_t first = walk->first[read];
    uint32_t from = walk->events[read].statement;
    uint32_t to = walk->expanded[first];
    if (from >= to) {
        return;
    }
    for (uint32_t i = first; i < walk->event_count && walk->first[i] == first; i++) {
        const struct dbos_walk_event *event = &walk->events[i];
        if (event->statement >= to) {
            break;
        }
        if (event->statement >= from && is_write(event)) {
            note(walk, walk->rank[i], parent_event, depth);
        }
    }
    walk->expanded[first] = from;
}

static uint32_t find_unexpanded(struct dbos_walk *walk, uint32_t i) {
    uint32_t root = i;
    while (root < walk->scan_count && walk->scans[root].next != root) {
        root = walk->scans[root].next;
    }
    while (i < walk->scan_count && walk->scans[i].next != root) {
        uint32_t next = walk->scans[i].next;
        walk->scans[i].next = root;
        i = next;
    }
    return root;
}

static uint32_t scan_bound(const struct dbos_walk *walk, const struct scan *key) {
    uint32_t low = 0, high = walk->scan_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (compare_scans(&walk->scans[middle], key) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* Scans of one part of the table while the version lived; each is expanded once. Returns where the
 * next part begins. */
static uint32_t note_scans_of_part(struct dbos_walk *walk, struct scan part, uint32_t version,
                                   uint32_t end, uint32_t depth) {
    struct scan key = part;
    key.event = version;
    uint32_t i = scan_bound(walk, &key);
    key.event = end;
    uint32_t past = scan_bound(walk, &key);
    if (part_has(part.partition, part.partitions, walk->events[version].block)) {
        for (i = find_unexpanded(walk, i); i < past; i = find_unexpanded(walk, i)) {
            note_written(walk, walk->scans[i].event, version, depth);
            walk->scans[i].next = i + 1;
        }
    }
    key.event = NONE;
    return scan_bound(walk, &key);
}

static void expand_forwards(struct dbos_walk *walk, uint32_t version, uint32_t depth) {
    const struct dbos_walk_event *event = &walk->events[version];
    if (event->op == DBOS_EVENT_DELETE) {
        return; /* nobody reads what is not there */
    }
    uint32_t rank = walk->rank[version];
    uint32_t end = NONE;
    if (rank + 1 < walk->version_count && walk->versions[rank + 1].table_id == event->table_id &&
        walk->versions[rank + 1].block == event->block) {
        end = walk->versions[rank + 1].event;
    }
    struct entry key = {event->block, event->table_id, version};
    for (uint64_t i = lower_bound(walk->reads, walk->read_count, &key);
         i < walk->read_count && walk->reads[i].table_id == event->table_id &&
         walk->reads[i].block == event->block && walk->reads[i].event < end;
         i++) {
        note_written(walk, walk->reads[i].event, version, depth);
    }
    struct scan part = {.table_id = event->table_id};
    uint32_t at = scan_bound(walk, &part);
    while (at < walk->scan_count && walk->scans[at].table_id == event->table_id) {
        at = note_scans_of_part(walk, walk->scans[at], version, end, depth);
    }
}

enum dbos_err dbos_walk_run(struct dbos_walk *walk, uint32_t depth_max, bool (*stop)(void *arg),
                            void *arg) {
    for (uint32_t done = 0; done < walk->found; done++) {
        uint32_t version = walk->queue[done];
        uint32_t depth = walk->depth[walk->rank[version]];
        if (depth >= depth_max) {
            break; /* breadth first: all that follow are as deep */
        }
        if (stop != NULL && done % STOP_EVERY == 0 && stop(arg)) {
            return DBOS_ERR_CANCELED;
        }
        if (walk->backwards) {
            expand_backwards(walk, version, depth + 1);
        } else {
            expand_forwards(walk, version, depth + 1);
        }
    }
    return DBOS_OK;
}

uint32_t dbos_walk_count(const struct dbos_walk *walk) { return walk->found; }

struct dbos_walk_found dbos_walk_found(const struct dbos_walk *walk, uint32_t i) {
    uint32_t event = walk->queue[i];
    uint32_t rank = walk->rank[event];
    uint32_t parent = walk->parent[rank];
    return (struct dbos_walk_found){
        .ord = walk->events[event].ord,
        .parent_ord = parent == NONE ? -1 : walk->events[parent].ord,
        .depth = walk->depth[rank],
    };
}
