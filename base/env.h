/* Everything that is not deterministic, behind one interface: clock, random numbers, disk, network.
 *
 * The engine never calls clock_gettime, getrandom, open, pwrite or socket itself: it goes through
 * a `struct dbos_env`, so that a node can run inside a simulator, and so that a test can fail the
 * N-th write or jump the clock. dbos_env_posix() is the real one.
 *
 * Files are plain descriptors (int) numbered by the environment; -1 is never valid. Sockets of the
 * real environment are descriptors too, driven by base/loop.h.
 *
 * Thread: every operation may be called by any thread; a file is used as its owner says.
 * Errors: DBOS_ERR_IO unless said otherwise; dbos_fail() text names the operation, the path and
 * strerror. ENOSPC and EDQUOT are DBOS_ERR_DISK_FULL. */
#ifndef DBOS_BASE_ENV_H
#define DBOS_BASE_ENV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum dbos_open_mode {
    DBOS_OPEN_READ,       /* must exist */
    DBOS_OPEN_WRITE,      /* read and write; must exist */
    DBOS_OPEN_CREATE,     /* read and write; created when absent (mode 0600) */
    DBOS_OPEN_CREATE_NEW, /* read and write; must not exist */
};

struct dbos_env;
struct dbos_env_ops {
    /* Microseconds since 1970-01-01 UTC; may jump. */
    int64_t (*wall_us)(struct dbos_env *env);
    /* Nanoseconds since some point; never goes back. */
    uint64_t (*mono_ns)(struct dbos_env *env);
    void (*sleep_us)(struct dbos_env *env, uint64_t us);
    /* Random bits from the operating system. */
    uint64_t (*random_u64)(struct dbos_env *env);

    enum dbos_err (*file_open)(struct dbos_env *env, const char *path, enum dbos_open_mode mode,
                               int *out, struct dbos_errinfo *info);
    void (*file_close)(struct dbos_env *env, int file);
    /* Reads until `size_bytes` or the end of the file; *out_bytes says how many. */
    enum dbos_err (*file_read)(struct dbos_env *env, int file, uint64_t offset, void *data,
                               size_t size_bytes, size_t *out_bytes, struct dbos_errinfo *info);
    /* Writes all of it (short writes are continued). */
    enum dbos_err (*file_write)(struct dbos_env *env, int file, uint64_t offset, const void *data,
                                size_t size_bytes, struct dbos_errinfo *info);
    enum dbos_err (*file_sync)(struct dbos_env *env, int file, struct dbos_errinfo *info);
    enum dbos_err (*file_size)(struct dbos_env *env, int file, uint64_t *out_bytes,
                               struct dbos_errinfo *info);
    enum dbos_err (*file_truncate)(struct dbos_env *env, int file, uint64_t size_bytes,
                                   struct dbos_errinfo *info);
    /* Exclusive advisory lock for the life of the descriptor. DBOS_ERR_DUPLICATE_OBJECT = held. */
    enum dbos_err (*file_lock)(struct dbos_env *env, int file, struct dbos_errinfo *info);
    enum dbos_err (*path_rename)(struct dbos_env *env, const char *from, const char *to,
                                 struct dbos_errinfo *info);
    enum dbos_err (*path_remove)(struct dbos_env *env, const char *path, struct dbos_errinfo *info);
    /* mkdir -p of one level, mode 0700; an existing directory is fine. */
    enum dbos_err (*dir_make)(struct dbos_env *env, const char *path, struct dbos_errinfo *info);
    /* fsync of the directory, so that creations and renames in it last. Errors: IO; PRIVILEGE: who
     * may not read it can not sync it. */
    enum dbos_err (*dir_sync)(struct dbos_env *env, const char *path, struct dbos_errinfo *info);
    /* Calls `each` with every name but . and .., in no order. */
    enum dbos_err (*dir_list)(struct dbos_env *env, const char *path,
                              void (*each)(void *arg, const char *name), void *arg,
                              struct dbos_errinfo *info);

    /* A listening TCP socket (non-blocking). `port` 0 takes a free one; *out_port says which. */
    enum dbos_err (*tcp_listen)(struct dbos_env *env, const char *address, uint16_t port, int *out,
                                uint16_t *out_port, struct dbos_errinfo *info);
    /* Connect, waiting at most `timeout_ms`; the socket is blocking, TCP_NODELAY. */
    enum dbos_err (*tcp_connect)(struct dbos_env *env, const char *address, uint16_t port,
                                 uint32_t timeout_ms, int *out, struct dbos_errinfo *info);
};

struct dbos_env {
    const struct dbos_env_ops *ops;
    void *state; /* of the implementation */
};

/* The real machine. Static; never freed. */
struct dbos_env *dbos_env_posix(void);

/* The time a record carries: max(last + 1 µs, wall clock). A forward jump of the wall clock by more
 * than 60 s against the monotonic clock is not followed until accepted (architecture decision 15):
 * time then goes on at the monotonic rate and `alarm` is set. */
struct dbos_clock {
    struct dbos_env *env;
    int64_t last_us;      /* the last value handed out */
    int64_t base_wall_us; /* wall and monotonic reading that belong together */
    uint64_t base_mono_ns;
    uint64_t checked_ns; /* when the wall clock was last looked at: once in a millisecond */
    bool alarm;
};
void dbos_clock_init(struct dbos_clock *clock, struct dbos_env *env, int64_t last_us);
/* Strictly growing. Thread: the clock's owner only. */
int64_t dbos_clock_next_us(struct dbos_clock *clock);
void dbos_clock_accept_jump(struct dbos_clock *clock);

/* Deterministic generator (xoshiro256**) for procedures, demos and tests. */
struct dbos_rng {
    uint64_t s[4];
};
void dbos_rng_init(struct dbos_rng *rng, uint64_t seed);
uint64_t dbos_rng_next(struct dbos_rng *rng);
/* Uniform in [0, bound); bound > 0. */
uint64_t dbos_rng_below(struct dbos_rng *rng, uint64_t bound);
/* Uniform in [0, 1). */
double dbos_rng_unit(struct dbos_rng *rng);

#endif /* DBOS_BASE_ENV_H */
