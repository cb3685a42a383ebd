/* The simulated machine: clock, random numbers and a disk in memory with what disks do.
 *
 * What was written and not synced is lost or kept, sector by sector (512 bytes, each whole), when
 * the machine goes down; so is a file's size; names that were made, renamed or removed since their
 * directory was last synced are lost from some point on. When only the process ends, all stays.
 * Operations may fail (EIO; what a sync that failed had to write no later sync writes, unless it is
 * written again), may find no room (ENOSPC), and may be slow. Each is a point at which another
 * thread may go on, and at which the machine may go down.
 *
 * Thread: coroutines of tests/sim/sched.h. Memory: malloc. */
#ifndef DBOS_TESTS_SIM_DISK_H
#define DBOS_TESTS_SIM_DISK_H

#include "tests/sim/sched.h"

enum sim_fault {
    SIM_TORN_WRITE,  /* a crash kept some sectors of a write and lost others */
    SIM_LOST_WRITE,  /* a crash lost one as a whole */
    SIM_LOST_NAME,   /* a crash lost a name */
    SIM_WRITE_FAILS, /* EIO */
    SIM_SYNC_FAILS,  /* EIO */
    SIM_READ_FAILS,  /* EIO */
    SIM_DISK_FULL,   /* ENOSPC */
    SIM_NO_MEMORY,   /* an allocation fails: tests/sim/clients.c */
    SIM_SLOW,        /* an operation took 1 to 100 ms */
    SIM_BIT_FLIP,    /* a bit of what is on the disk is another one */
    SIM_CRASH_AT_OPERATION,
    SIM_CRASH_AT_SWITCH,
    SIM_FAULTS,
};
extern const char *const sim_fault_names[SIM_FAULTS];

/* How it behaves now; all zero: like a good one. */
struct sim_disk_mood {
    uint32_t slow_per_mille;
    uint32_t fail_per_million; /* writes, syncs, reads */
    uint64_t room_bytes;       /* of all files; 0 = any */
    uint64_t crash_at;         /* operations from now on; 0 = not */
    uint64_t crash_at_sync;    /* … or syncs of a file, in front of it; 0 = not */
};

struct dbos_env *sim_disk_env(void);
void sim_disk_set(const struct sim_disk_mood *mood);
void sim_disk_set_room(uint64_t room_bytes);
/* The machine went down, with dice; or only the process. */
void sim_disk_crash(bool lose_unsynced);
/* Between two lives: change one bit of what is there (zeroes behind the end of a log are not), and
 * change it back, unless somebody has written there since. */
void sim_disk_flip(void);
void sim_disk_flip_back(void);
/* The file whose bit it is, and where; NULL: none. */
const char *sim_disk_flipped(uint64_t *out_offset);
uint64_t sim_disk_operations(void);
uint64_t sim_disk_bytes(void);
/* Of all names and what is in their files; files that are open. */
uint64_t sim_disk_hash(void);
uint32_t sim_disk_open_files(void);
/* Files whose path has this in it. */
uint32_t sim_disk_count(const char *part);
/* How often each fault has fired. */
const uint64_t *sim_disk_fired(void);
void sim_note_fault(enum sim_fault fault);

#endif /* DBOS_TESTS_SIM_DISK_H */
