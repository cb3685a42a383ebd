#include <criterion/criterion.h>

#include "base/env.h"

TestSuite(base_clock, .timeout = 10);

enum { SECOND_US = 1000000 };

/* An environment of which only the clocks exist, and stand still until they are moved. */
struct hands {
    struct dbos_env env;
    int64_t wall_us;
    uint64_t mono_ns;
};

static int64_t hands_wall_us(struct dbos_env *env) { return ((struct hands *)env->state)->wall_us; }
static uint64_t hands_mono_ns(struct dbos_env *env) {
    return ((struct hands *)env->state)->mono_ns;
}

static const struct dbos_env_ops hands_ops = {.wall_us = hands_wall_us, .mono_ns = hands_mono_ns};

static void hands_init(struct hands *hands) {
    hands->env = (struct dbos_env){.ops = &hands_ops, .state = hands};
    hands->wall_us = 1700000000ll * SECOND_US;
    hands->mono_ns = 5000;
}

/* Both clocks go on; the wall clock jumps besides. */
static void move(struct hands *hands, int64_t passed_us, int64_t jump_us) {
    hands->mono_ns += (uint64_t)passed_us * 1000;
    hands->wall_us += passed_us + jump_us;
}

Test(base_clock, time_grows_by_a_microsecond_when_the_clock_stands_or_goes_back) {
    struct hands hands;
    struct dbos_clock clock;
    hands_init(&hands);
    dbos_clock_init(&clock, &hands.env, 0);
    int64_t first_us = dbos_clock_next_us(&clock);
    cr_expect_eq(first_us, hands.wall_us);
    cr_expect_eq(dbos_clock_next_us(&clock), first_us + 1);
    move(&hands, 0, -30 * SECOND_US);
    cr_expect_eq(dbos_clock_next_us(&clock), first_us + 2);
    move(&hands, 31 * SECOND_US, 0);
    cr_expect_eq(dbos_clock_next_us(&clock), first_us + SECOND_US);
    cr_expect(!clock.alarm);
}

Test(base_clock, time_goes_on_after_the_last_recorded_one) {
    struct hands hands;
    struct dbos_clock clock;
    hands_init(&hands);
    dbos_clock_init(&clock, &hands.env, hands.wall_us + SECOND_US);
    cr_expect_eq(dbos_clock_next_us(&clock), hands.wall_us + SECOND_US + 1);
}

Test(base_clock, a_jump_of_more_than_60_s_is_not_followed_until_accepted) {
    static const int64_t jumps_us[] = {61ll * SECOND_US, -61ll * SECOND_US, 86400ll * SECOND_US};
    for (size_t i = 0; i < sizeof jumps_us / sizeof jumps_us[0]; i++) {
        struct hands hands;
        struct dbos_clock clock;
        hands_init(&hands);
        dbos_clock_init(&clock, &hands.env, 0);
        int64_t start_us = dbos_clock_next_us(&clock);
        move(&hands, 10 * SECOND_US, jumps_us[i]);
        cr_expect_eq(dbos_clock_next_us(&clock), start_us + 10 * SECOND_US, "monotonic rate");
        cr_expect(clock.alarm);
        move(&hands, 5 * SECOND_US, 0);
        cr_expect_eq(dbos_clock_next_us(&clock), start_us + 15 * SECOND_US);
        dbos_clock_accept_jump(&clock);
        cr_expect(!clock.alarm);
        int64_t after_us = dbos_clock_next_us(&clock);
        cr_expect_eq(after_us, jumps_us[i] > 0 ? hands.wall_us : start_us + 15 * SECOND_US + 1);
        cr_expect(!clock.alarm);
    }
}

/* Steps that an operator's time service makes over months are not one jump. */
Test(base_clock, small_steps_do_not_add_up_to_a_jump) {
    struct hands hands;
    struct dbos_clock clock;
    hands_init(&hands);
    dbos_clock_init(&clock, &hands.env, 0);
    for (int step = 0; step < 10; step++) {
        move(&hands, 3600ll * SECOND_US, 20 * SECOND_US);
        cr_assert_eq(dbos_clock_next_us(&clock), hands.wall_us, "step %d", step);
        cr_assert(!clock.alarm);
    }
}

Test(base_clock, the_wall_clock_is_followed_within_a_millisecond) {
    struct hands hands;
    struct dbos_clock clock;
    hands_init(&hands);
    dbos_clock_init(&clock, &hands.env, 0);
    int64_t start_us = hands.wall_us;
    move(&hands, 500, 300);
    cr_expect_eq(dbos_clock_next_us(&clock), start_us + 500, "by the monotonic clock until then");
    move(&hands, 500, 0);
    cr_expect_eq(dbos_clock_next_us(&clock), start_us + 1300);
    move(&hands, 1000, -200);
    cr_expect_eq(dbos_clock_next_us(&clock), start_us + 2100);
}
