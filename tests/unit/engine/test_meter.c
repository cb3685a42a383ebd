/* What a meter says of a sequence of requests: against sums made by hand. */
#include "engine/meter.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

TestSuite(engine_meter, .timeout = 60);

struct fake_clock {
    struct dbos_env env;
    struct dbos_env_ops ops;
    uint64_t now_ns;
};

static uint64_t now(struct dbos_env *env) { return *(uint64_t *)env->state; }

static void clock_init(struct fake_clock *clock) {
    clock->ops = (struct dbos_env_ops){.mono_ns = now};
    clock->env = (struct dbos_env){.ops = &clock->ops, .state = &clock->now_ns};
    clock->now_ns = 1000000;
}

struct found {
    const char *name;
    const struct dbos_statement_meter *meter;
    int count;
};

static void find(void *arg, const struct dbos_statement_meter *statement) {
    struct found *found = arg;
    found->count++;
    if (found->name != NULL && strcmp(statement->name, found->name) == 0) {
        found->meter = statement;
    }
}

static struct dbos_histogram_reading *run_of(const struct dbos_statement_meter *statement) {
    static struct dbos_histogram_reading reading;
    memset(&reading, 0, sizeof reading);
    dbos_histogram_read(&statement->run, &reading);
    return &reading;
}

static struct dbos_meter *open_meter(struct dbos_alloc *alloc) {
    dbos_alloc_init(alloc, "meter", 0);
    struct dbos_meter *meter = dbos_take_zero(alloc, sizeof *meter);
    dbos_meter_init(meter, alloc);
    return meter;
}

static void close_meter(struct dbos_meter *meter, struct dbos_alloc *alloc) {
    dbos_meter_fini(meter);
    dbos_give(alloc, meter);
    dbos_alloc_fini(alloc);
}

/* A script that starts at 100 and a task's result at 350 that fails; then nothing from 1350 on. */
Test(engine_meter, a_request_runs_until_the_next_one_starts_or_the_thread_rests) {
    struct dbos_alloc alloc;
    struct fake_clock clock;
    struct dbos_meter *meter = open_meter(&alloc);
    struct dbos_request script = {.kind = DBOS_REQUEST_SCRIPT, .arrived_ns = 40};
    struct dbos_request task = {.kind = DBOS_REQUEST_TASK, .outcome = DBOS_ERR_TASK_FAILED};
    clock_init(&clock);
    dbos_meter_submitted(meter, 1);
    dbos_meter_submitted(meter, 1);
    dbos_meter_submitted(meter, 1);
    dbos_meter_note(meter, &script, 100, 0);
    dbos_meter_note(meter, &task, 350, 0);
    clock.now_ns = 1350;
    dbos_meter_rest(meter, &clock.env);
    clock.now_ns = 99999;
    dbos_meter_rest(meter, &clock.env); /* nothing ran */
    script.arrived_ns = 200000;         /* a clock that lags behind */
    dbos_meter_note(meter, &script, 100000, 0);
    struct found found = {.name = "script"};
    dbos_meter_each(meter, find, &found);
    cr_assert_not_null(found.meter);
    cr_expect_eq(found.count, 2);
    cr_expect_eq(found.meter->calls, 2);
    cr_expect_eq(found.meter->errors, 0);
    cr_expect_eq(run_of(found.meter)->count, 1, "the second one has not ended");
    cr_expect_eq(run_of(found.meter)->sum, 250);
    found.name = "task result";
    dbos_meter_each(meter, find, &found);
    cr_expect_eq(found.meter->calls, 1);
    cr_expect_eq(found.meter->errors, 1);
    cr_expect_eq(run_of(found.meter)->sum, 1000);
    cr_expect_eq(meter->executed, 3);
    cr_expect_eq(meter->submitted, 3);
    static struct dbos_histogram_reading reading;
    dbos_meter_read(meter, &reading);
    cr_expect_eq(reading.count, 2);
    cr_expect_eq(reading.sum, 1250);
    memset(&reading, 0, sizeof reading);
    dbos_histogram_read(&meter->wait, &reading);
    cr_expect_eq(reading.count, 2, "a request whose arrival is not known has no wait");
    cr_expect_eq(reading.sum, 60);
    close_meter(meter, &alloc);
}

Test(engine_meter, without_memory_it_is_counted_as_other) {
    struct dbos_alloc alloc;
    struct dbos_meter *meter = open_meter(&alloc);
    struct dbos_request script = {.kind = DBOS_REQUEST_SCRIPT};
    atomic_store(&alloc.fail_countdown, 1);
    dbos_meter_note(meter, &script, 10, 0);
    dbos_meter_note(meter, &script, 20, 0);
    struct found found = {.name = "other"};
    dbos_meter_each(meter, find, &found);
    cr_assert_not_null(found.meter);
    cr_expect_eq(found.count, 2);
    cr_expect_eq(found.meter->calls, 1);
    cr_expect_eq(run_of(found.meter)->sum, 10);
    close_meter(meter, &alloc);
}

Test(engine_meter, a_request_whose_end_is_known_has_ended) {
    struct dbos_alloc alloc;
    struct dbos_meter *meter = open_meter(&alloc);
    struct dbos_request script = {.kind = DBOS_REQUEST_SCRIPT};
    dbos_meter_note(meter, &script, 100, 0);
    dbos_meter_note(meter, &script, 150, 160);
    dbos_meter_note(meter, &script, 5000, 0);
    struct found found = {.name = "script"};
    dbos_meter_each(meter, find, &found);
    cr_expect_eq(run_of(found.meter)->count, 2);
    cr_expect_eq(run_of(found.meter)->sum, 60);
    dbos_meter_submitted(meter, 1);
    dbos_meter_gave_up(meter);
    cr_expect_eq(meter->submitted, 0);
    close_meter(meter, &alloc);
}
