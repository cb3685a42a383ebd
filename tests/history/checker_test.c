/* The checker by itself: histories made by hand, each anomaly and what looks like one; then random
 * ones of a make-believe database, right, and with one planted bug each.
 *
 *   checker_test [--seeds N] [--operations N] [--seed S]
 *
 * A failure prints the command that repeats it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/env.h"
#include "tests/history/checker.h"
#include "tests/history/simulate.h"

/* -- by hand -------------------------------------------------------------------------------------
 */

/* Operations in a notation that is close to what is printed:
 *
 *     "ok 10-20 a0:1 r0:1,2"      append 1 to list 0, read list 0 = [1 2]
 *
 * begun at 10, returned at 20 ("-" alone: never). Steps: a append, r read of a list, w write and g
 * read (get) of a register, + add to and s read of a set, t transfer step and b balance
 * (account:tag: balance). */
struct by_hand {
    const char *name;
    int anomaly; /* that it must have; -1: none at all */
    const char *ops[8];
};

#define CYCLE(class) (CHECKER_CYCLE + GRAPH_##class)

static const struct by_hand histories[] = {
    {"nothing", -1, {NULL}},
    {"one after the other", -1, {"ok 1-2 a0:1", "ok 3-4 a0:2", "ok 5-6 r0:1,2"}},
    {"overlapping appends in either order", -1, {"ok 1-5 a0:1", "ok 2-6 a0:2", "ok 7-8 r0:2,1"}},
    {"a read overlaps an append that it does not see",
     -1,
     {"ok 1-5 a0:1", "ok 2-6 r0:", "ok 7-8 r0:1"}},
    {"a read overlaps an append that it sees", -1, {"ok 3-9 a0:1", "ok 2-4 r0:1"}},
    {"touching intervals overlap", -1, {"ok 1-5 a0:1", "ok 5-6 r0:", "ok 7-8 r0:1"}},
    {"unknown and seen", -1, {"info 1- a0:1", "ok 8-9 r0:1"}},
    {"unknown and never seen", -1, {"info 1-3 a0:1", "ok 8-9 r0:"}},
    {"unknown, seen late", -1, {"info 1- a0:1", "ok 3-4 r0:", "ok 5-6 r0:1"}},
    {"unknown and seen in both objects", -1, {"info 1-3 a0:1 a1:2", "ok 5-6 r0:1", "ok 7-8 r1:2"}},
    {"failed and not seen", -1, {"fail 1-2 a0:1", "ok 3-4 r0:"}},
    {"own appends are seen", -1, {"ok 1-2 r0: a0:1 r0:1 a0:2 r0:1,2", "ok 3-4 r0:1,2"}},
    {"own last append read by nobody else", -1, {"ok 1-2 a0:1 r0:1 a0:2"}},
    {"registers, overlapping blind writes in either order",
     -1,
     {"ok 1-5 w0:1", "ok 2-6 w0:2", "ok 7-8 g0:1"}},
    {"registers, updates", -1, {"ok 1-5 g0:0 w0:1", "ok 2-6 g0:1 w0:2", "ok 7-8 g0:2"}},
    {"registers, unknown update between", -1, {"info 1-4 g0:0 w0:1", "ok 2-6 g0:1 w0:2"}},
    {"sets, overlapping additions",
     -1,
     {"ok 1-5 +0:1", "ok 2-6 +0:2", "ok 3-4 s0:2", "ok 7-8 s0:1,2"}},
    {"a bank", -1, {"ok 1-2 b0:0:100 b1:0:100 t0:1:90 t1:2:110", "snap 3-4 b0:1:90 b1:2:110"}},

    {"phantom", CHECKER_PHANTOM, {"ok 1-2 r0:7"}},
    {"phantom in a register", CHECKER_PHANTOM, {"ok 1-2 g0:7"}},
    {"phantom in a set", CHECKER_PHANTOM, {"ok 1-2 s0:7"}},
    {"dirty read", CHECKER_DIRTY_READ, {"fail 1-4 a0:1", "ok 2-3 r0:1"}},
    {"dirty read of a register", CHECKER_DIRTY_READ, {"fail 1-4 w0:1", "ok 2-3 g0:1"}},
    {"dirty read of a set", CHECKER_DIRTY_READ, {"fail 1-4 +0:1", "ok 2-3 s0:1"}},
    {"intermediate read",
     CHECKER_INTERMEDIATE_READ,
     {"ok 1-4 a0:1 a0:2", "ok 2-3 r0:1", "ok 5-6 r0:1,2"}},
    {"intermediate read of a register",
     CHECKER_INTERMEDIATE_READ,
     {"ok 1-4 w0:1 w0:2", "ok 2-3 g0:1"}},
    {"own append not seen", CHECKER_INTERNAL, {"ok 1-2 a0:1 r0:"}},
    {"own write not seen", CHECKER_INTERNAL, {"ok 1-2 w0:1 g0:0"}},
    {"a read that does not repeat", CHECKER_INTERNAL, {"ok 1-9 r0: r0:1", "ok 2-3 a0:1"}},
    {"duplicate", CHECKER_DUPLICATE, {"ok 1-2 a0:1", "ok 3-4 r0:1,1"}},
    {"duplicate in a set", CHECKER_DUPLICATE, {"ok 1-2 +0:1", "ok 3-4 s0:1,1"}},
    {"two orders",
     CHECKER_DISAGREEMENT,
     {"ok 1-9 a0:1", "ok 1-9 a0:2", "ok 2-3 r0:1,2", "ok 4-5 r0:2,1"}},
    {"long fork of a set",
     CHECKER_DISAGREEMENT,
     {"ok 1-9 +0:1", "ok 1-9 +0:2", "ok 2-3 s0:1", "ok 2-3 s0:2"}},
    {"lost append", CHECKER_LOST_WRITE, {"ok 1-2 a0:1", "ok 3-4 r0:"}},
    {"lost addition", CHECKER_LOST_WRITE, {"ok 1-2 +0:1", "ok 3-4 s0:"}},
    {"half of an unknown transaction is lost",
     CHECKER_LOST_WRITE,
     {"info 1-2 a0:1 a1:2", "ok 3-4 r0:1", "ok 5-6 r1:"}},
    {"lost append is a cycle, too", CYCLE(G_SINGLE_REALTIME), {"ok 1-2 a0:1", "ok 3-4 r0:"}},
    {"lost update", CHECKER_LOST_UPDATE, {"ok 1-9 g0:0 w0:1", "ok 1-9 g0:0 w0:2"}},
    {"lost update by append",
     CYCLE(G_SINGLE),
     {"ok 1-9 r0: a0:1", "ok 1-9 r0: a0:2", "ok 10-11 r0:1,2"}},
    {"blind writes against real time",
     CYCLE(G_SINGLE_REALTIME),
     {"ok 1-2 w0:1", "ok 3-4 w0:2", "ok 5-6 g0:1"}},
    {"runs of versions against real time",
     CHECKER_VERSION_ORDER,
     {"ok 1-2 w0:1", "ok 3-4 w0:2", "ok 5-6 g0:1 w0:3"}},
    {"wrong total", CHECKER_TOTAL, {"snap 3-4 b0:0:100 b1:0:90"}},
    {"an account is missing", CHECKER_TOTAL, {"snap 3-4 b0:0:200"}},
    {"negative", CHECKER_NEGATIVE, {"snap 3-4 b0:0:-1 b1:0:201"}},
    {"two balances",
     CHECKER_BALANCE,
     {"ok 1-2 b0:0:100 b1:0:100 t0:1:90 t1:2:110", "snap 3-4 b0:1:91 b1:2:109"}},
    {"G0: appends of two transactions interleave",
     CYCLE(G0),
     {"ok 1-9 a0:1 a1:2", "ok 1-9 a0:3 a1:4", "ok 10-11 r0:1,3 r1:4,2"}},
    {"G1c: each reads what the other wrote", CYCLE(G1C), {"ok 1-9 a0:1 r1:2", "ok 1-9 a1:2 r0:1"}},
    {"G-single: half of a transaction",
     CYCLE(G_SINGLE),
     {"ok 1-9 a0:1 a1:2", "ok 1-9 r0:1 r1:", "ok 10-11 r1:2"}},
    {"G-single: half of an unknown transaction",
     CYCLE(G_SINGLE),
     {"info 1-9 a0:1 a1:2", "ok 1-9 r0:1 r1:"}},
    {"G2: write skew",
     CYCLE(G2),
     {"ok 1-9 g0:0 g1:0 w0:1", "ok 1-9 g0:0 g1:0 w1:2", "ok 10-11 g0:1 g1:2"}},
    {"G2 of sets: neither sees the other's addition",
     CYCLE(G2),
     {"ok 1-9 s0: +1:1", "ok 1-9 s1: +0:2", "ok 10-11 s0:2 s1:1"}},
    {"order of appends against real time",
     CYCLE(G0_REALTIME),
     {"ok 1-2 a0:1", "ok 3-4 a0:2", "ok 1-9 r0:2,1"}},
    {"a read of the future", CYCLE(G1C_REALTIME), {"ok 1-2 r0:1", "ok 3-4 a0:1"}},
    {"stale read", CYCLE(G_SINGLE_REALTIME), {"ok 1-2 a0:1", "ok 3-4 r0:", "ok 2-9 r0:1"}},
    {"stale read of a register", CYCLE(G_SINGLE_REALTIME), {"ok 1-2 g0:0 w0:1", "ok 3-4 g0:0"}},
    {"stale read of a set", CYCLE(G_SINGLE_REALTIME), {"ok 1-2 +0:1", "ok 3-4 s0:", "ok 2-9 s0:1"}},
    {"an unknown transaction may not take effect after its end",
     CYCLE(G_SINGLE_REALTIME),
     {"info 1-2 a0:1", "ok 3-4 r0:", "ok 5-6 r0:1"}},
    {"two readers, each misses what the other is behind",
     CYCLE(G2_REALTIME),
     {"ok 1-20 a0:1", "ok 1-20 r0:1 r1:", "ok 2-3 a1:2", "ok 4-5 r0:", "ok 30-31 r0:1 r1:2"}},
};

static char *next_number(char *text, int64_t *out) {
    *out = strtoll(text, &text, 10);
    return text;
}

static void parse_collection(struct history *h, char *text) {
    int64_t elements[16];
    uint32_t count = 0;
    while (*text != '\0') {
        text = next_number(text, &elements[count++]);
        text += *text == ',';
    }
    history_set_read(h, h->step_count - 1, elements, count);
}

static void parse_step(struct history *h, char *text) {
    static const char letters[] = {'a', 'r', 'w', 'g', '+', 's'};
    int64_t object = 0;
    bool is_account = *text == 't' || *text == 'b';
    char letter = *text;
    if (is_account) {
        letter = *text == 't' ? 'w' : 'g';
    }
    struct history_step step = {0};
    for (uint8_t a = 0; a < sizeof letters; a++) {
        step.action = letters[a] == letter ? a : step.action;
    }
    text = next_number(text + 1, &object) + 1;
    step.object = (uint32_t)object;
    if (step.action == HISTORY_READ_LIST || step.action == HISTORY_READ_SET) {
        history_add_step(h, &step);
        parse_collection(h, text);
        return;
    }
    text = next_number(text, &step.value);
    if (is_account) {
        (void)next_number(text + 1, &step.balance);
    }
    history_add_step(h, &step);
}

static void parse_op(struct history *h, const char *line) {
    char copy[128];
    char *rest = NULL;
    int64_t begin = 0;
    int64_t end = 0;
    (void)snprintf(copy, sizeof copy, "%s", line);
    const char *outcome = strtok_r(copy, " ", &rest);
    char *times = next_number(strtok_r(NULL, " ", &rest), &begin);
    bool is_snapshot = strcmp(outcome, "snap") == 0;
    size_t op =
        history_begin(h, is_snapshot ? HISTORY_SNAPSHOT : HISTORY_MIXED, 0, (uint64_t)begin);
    (void)next_number(times + 1, &end);
    h->ops[op].return_ns = times[1] == '\0' ? HISTORY_NEVER : (uint64_t)end;
    h->ops[op].outcome = HISTORY_OK;
    if (*outcome == 'f' || *outcome == 'i') {
        h->ops[op].outcome = *outcome == 'f' ? HISTORY_FAILED : HISTORY_UNKNOWN;
    }
    for (char *text = strtok_r(NULL, " ", &rest); text != NULL; text = strtok_r(NULL, " ", &rest)) {
        parse_step(h, text);
    }
}

static bool check_by_hand(const struct by_hand *by_hand) {
    struct history h;
    struct checker_report report;
    history_init(&h);
    h.total = 200;
    h.account_count = 2;
    for (const char *const *op = by_hand->ops; *op != NULL; op++) {
        parse_op(&h, *op);
    }
    checker_run(&h, NULL, &report);
    bool is_right =
        by_hand->anomaly < 0 ? report.anomalies == 0 : report.found[by_hand->anomaly] > 0;
    if (!is_right) {
        (void)printf("FAILED: %s: %llu anomalies, not %s\n", by_hand->name,
                     (unsigned long long)report.anomalies,
                     by_hand->anomaly < 0
                         ? "none"
                         : checker_anomaly_name((enum checker_anomaly)by_hand->anomaly));
        checker_run(&h, stdout, &report);
    }
    history_fini(&h);
    return is_right;
}

static uint32_t check_all_by_hand(void) {
    uint32_t count = sizeof histories / sizeof histories[0];
    uint32_t failed = 0;
    for (uint32_t i = 0; i < count; i++) {
        failed += !check_by_hand(&histories[i]);
    }
    (void)printf("by hand: %u of %u histories judged right\n", count - failed, count);
    return failed;
}

/* -- planted -------------------------------------------------------------------------------------
 */

/* What each bug has to be called, whatever else it causes. */
static const int expected[SIMULATE_BUGS] = {
    [SIMULATE_DIRTY_READ] = CHECKER_DIRTY_READ,
    [SIMULATE_ABORT_KEPT] = CHECKER_DIRTY_READ,
    [SIMULATE_INTERMEDIATE_READ] = CHECKER_INTERMEDIATE_READ,
    [SIMULATE_LOST_UPDATE] = CHECKER_LOST_UPDATE,
    [SIMULATE_LOST_TRANSFER] = CHECKER_LOST_UPDATE,
    [SIMULATE_LOST_APPEND] = CHECKER_LOST_WRITE,
    [SIMULATE_LOST_ADD] = CHECKER_LOST_WRITE,
    [SIMULATE_LOST_TAIL] = CHECKER_LOST_WRITE,
    [SIMULATE_STALE_LIST] = CYCLE(G_SINGLE_REALTIME),
    [SIMULATE_STALE_REGISTER] = CYCLE(G_SINGLE_REALTIME),
    [SIMULATE_STALE_SET] = CYCLE(G_SINGLE_REALTIME),
    [SIMULATE_STALE_ACCOUNT] = CHECKER_TOTAL,
    [SIMULATE_DUPLICATE_APPEND] = CHECKER_DUPLICATE,
    [SIMULATE_REORDERED_APPEND] = CYCLE(G0_REALTIME),
    [SIMULATE_READ_SKEW] = CYCLE(G_SINGLE),
    [SIMULATE_WRITE_SKEW] = CYCLE(G2),
    [SIMULATE_LONG_FORK] = CHECKER_DISAGREEMENT,
    [SIMULATE_TORN_UNKNOWN] = CHECKER_LOST_WRITE,
};

struct arguments {
    uint32_t seeds, operations;
    uint64_t seed;
};

static bool check_planted(const struct arguments *arguments, enum simulate_bug bug, uint64_t seed) {
    struct simulate_options options = {
        .seed = seed, .operations = arguments->operations, .clients = 4U << seed % 5, .bug = bug};
    struct history h;
    struct checker_report report;
    struct dbos_rng rng;
    dbos_rng_init(&rng, seed ^ 0x9e3779b97f4a7c15U);
    options.bug_at = (uint32_t)dbos_rng_below(&rng, arguments->operations * 9 / 10);
    bool is_done = simulate_run(&options, &h);
    checker_run(&h, NULL, &report);
    bool is_right =
        bug == SIMULATE_NO_BUG ? report.anomalies == 0 : report.found[expected[bug]] > 0;
    if (!is_done || !is_right) {
        (void)printf("FAILED: planted %s%s, %llu anomalies; repeat with: checker_test --seeds 1 "
                     "--operations %u --seed %llu\n",
                     simulate_bug_name(bug), is_done ? "" : " (not done)",
                     (unsigned long long)report.anomalies, arguments->operations,
                     (unsigned long long)seed);
        checker_run(&h, stdout, &report);
    }
    history_fini(&h);
    return is_done && is_right;
}

static uint32_t check_all_planted(const struct arguments *arguments) {
    uint32_t failed = 0;
    for (enum simulate_bug bug = SIMULATE_NO_BUG; bug < SIMULATE_BUGS; bug++) {
        uint32_t right = 0;
        for (uint32_t i = 0; i < arguments->seeds; i++) {
            right += check_planted(arguments, bug, arguments->seed + i);
        }
        (void)printf("%-24s %s in %u of %u histories of %u transactions\n", simulate_bug_name(bug),
                     bug == SIMULATE_NO_BUG ? "accepted" : "found", right, arguments->seeds,
                     arguments->operations);
        failed += arguments->seeds - right;
    }
    return failed;
}

static const char *option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 1; i + 1 < argc; i++) {
        if (strcmp(argv[i], name) == 0) {
            return argv[i + 1];
        }
    }
    return otherwise;
}

int main(int argc, char **argv) {
    struct arguments arguments = {
        .seeds = (uint32_t)atoi(option(argc, argv, "--seeds", "20")),
        .operations = (uint32_t)atoi(option(argc, argv, "--operations", "10000")),
        .seed = strtoull(option(argc, argv, "--seed", "1"), NULL, 10),
    };
    (void)setvbuf(stdout, NULL, _IOLBF, 0);
    uint32_t failed = check_all_by_hand();
    failed += check_all_planted(&arguments);
    return failed == 0 ? 0 : 1;
}
