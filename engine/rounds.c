#include "engine/rounds.h"

enum {
    WAITING_MAX = 64, /* more are served faster while the log's thread is at the disk */
    SYNCS_APART = 3,  /* of the time, at most one in so many is spent in syncs of few */
    APART_NS_MAX = 1000000,
    QUICK_NS_MAX = 1000000, /* a slower disk would keep others waiting */
    FIRST = 2,
};

void dbos_rounds_init(struct dbos_rounds *rounds) {
    *rounds = (struct dbos_rounds){.number = FIRST};
}

void dbos_rounds_hear(struct dbos_rounds *rounds, uint64_t *client) {
    if (*client == rounds->number) {
        return;
    }
    rounds->heard++;
    rounds->heard_in_both += *client == rounds->number - 1 ? 1 : 0;
    *client = rounds->number;
}

bool dbos_rounds_may_write(const struct dbos_rounds *rounds, uint32_t waiting) {
    return waiting <= WAITING_MAX && 2 * waiting >= rounds->heard &&
           rounds->takes_ns <= QUICK_NS_MAX;
}

uint64_t dbos_rounds_patience_us(const struct dbos_rounds *rounds, uint64_t now_ns) {
    uint32_t enough = (rounds->expected * 3 + 3) / 4;
    uint64_t apart_ns = SYNCS_APART * rounds->takes_ns;
    apart_ns = apart_ns < APART_NS_MAX ? apart_ns : APART_NS_MAX;
    uint64_t since_ns = now_ns - rounds->ended_ns;
    bool is_over = rounds->heard >= enough || since_ns >= apart_ns;
    return is_over ? 0 : (apart_ns - since_ns) / 1000 + 1;
}

static void next(struct dbos_rounds *rounds, uint64_t now_ns) {
    rounds->expected = rounds->heard + rounds->heard_before - rounds->heard_in_both;
    rounds->heard_before = rounds->heard;
    rounds->heard = 0;
    rounds->heard_in_both = 0;
    rounds->number++;
    rounds->ended_ns = now_ns;
}

void dbos_rounds_end(struct dbos_rounds *rounds, uint64_t begun_ns, uint64_t now_ns) {
    next(rounds, now_ns);
    rounds->takes_ns += ((now_ns - begun_ns) >> 3) - (rounds->takes_ns >> 3);
}

/* Whether a slow disk is slow still is found out by trying, now and then. */
void dbos_rounds_end_elsewhere(struct dbos_rounds *rounds, uint64_t now_ns) {
    next(rounds, now_ns);
    rounds->takes_ns -= rounds->takes_ns >> 8;
}
