#include "base/env.h"

enum {
    JUMP_ACCEPTED_US = 60 * 1000 * 1000, /* architecture decision 15 */
    CHECK_EVERY_NS = 1000000,            /* a reading costs as much as a small row's insert */
};

void dbos_clock_init(struct dbos_clock *clock, struct dbos_env *env, int64_t last_us) {
    *clock = (struct dbos_clock){
        .env = env,
        .last_us = last_us,
        .base_wall_us = env->ops->wall_us(env),
        .base_mono_ns = env->ops->mono_ns(env),
    };
    clock->checked_ns = clock->base_mono_ns;
}

static int64_t wall_at(const struct dbos_clock *clock, uint64_t mono_ns) {
    return clock->base_wall_us + (int64_t)((mono_ns - clock->base_mono_ns) / 1000);
}

/* Follow the wall clock, unless it has jumped. */
static void check_wall(struct dbos_clock *clock, uint64_t mono_ns) {
    int64_t wall_us = clock->env->ops->wall_us(clock->env);
    int64_t jump_us = wall_us - wall_at(clock, mono_ns);
    clock->checked_ns = mono_ns;
    if (jump_us > JUMP_ACCEPTED_US || jump_us < -JUMP_ACCEPTED_US) {
        clock->alarm = true;
    } else { /* measured from the last reading: small steps over months are not one jump */
        clock->base_wall_us = wall_us;
        clock->base_mono_ns = mono_ns;
    }
}

int64_t dbos_clock_next_us(struct dbos_clock *clock) {
    uint64_t mono_ns = clock->env->ops->mono_ns(clock->env);
    if (mono_ns - clock->checked_ns >= CHECK_EVERY_NS) {
        check_wall(clock, mono_ns);
    }
    int64_t wall_us = wall_at(clock, mono_ns);
    clock->last_us = wall_us > clock->last_us ? wall_us : clock->last_us + 1;
    return clock->last_us;
}

void dbos_clock_accept_jump(struct dbos_clock *clock) {
    clock->base_wall_us = clock->env->ops->wall_us(clock->env);
    clock->base_mono_ns = clock->env->ops->mono_ns(clock->env);
    clock->checked_ns = clock->base_mono_ns;
    clock->alarm = false;
}
