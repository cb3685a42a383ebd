/* Threads of the engine as coroutines of one thread, in an order that a seed decides.
 *
 * The program is linked with --wrap for what the engine's threads block on: mutexes, conditions,
 * futexes, poll() and sleeping (tests/sim/CMakeLists.txt). The engine's code is what a node runs.
 * One coroutine runs at a time; it may be changed at each of these calls and at each operation of
 * the disk. Time is simulated: it passes a little with each look at it, and jumps to the next
 * timer where nobody can run.
 *
 * Thread: one. Memory: stacks, used again by the next life; what an engine held that has crashed
 * is not given back: a seed runs in a process of its own. */
#ifndef DBOS_TESTS_SIM_SCHED_H
#define DBOS_TESTS_SIM_SCHED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/env.h"

enum sim_end {
    SIM_DONE,  /* `run` returned, and nobody else is left */
    SIM_CRASH, /* sim_crash() */
    SIM_EXIT,  /* the program ended its process */
};

/* `is_loud`: what the node says to its operator is to be seen. */
void sim_open(uint64_t seed, bool is_loud);
/* Run `run(arg)` and all threads that it makes, until the end of the life. */
enum sim_end sim_life(void (*run)(void *arg), void *arg);
/* The process is gone, in the middle of whatever it does. */
void sim_crash(void);
/* From now on so many calls of a thousand let somebody else go on; a crash when so many coroutines
 * were changed, 0 = none. */
void sim_set(uint32_t preempt_permille, uint64_t crash_after_switches);

/* Another coroutine of this life. */
void sim_spawn(const char *name, void *(*run)(void *arg), void *arg);
/* Until woken by somebody who names `object`, or for so long. */
void sim_wait(const void *object, uint64_t timeout_ns);
void sim_wake(const void *object);
void sim_sleep(uint64_t ns);
/* Perhaps let somebody else go on. */
void sim_point(void);

uint64_t sim_now_ns(void); /* passes a little */
uint64_t sim_dice(uint64_t sides);
/* What has happened, as one number: the same for the same seed. */
void sim_trace(uint64_t what);
uint64_t sim_trace_hash(void);
uint64_t sim_switches(void);

#endif /* DBOS_TESTS_SIM_SCHED_H */
