/* The worker's server: one thread that owns the sockets, assembles tasks and answers; one thread
 * that computes. A worker keeps nothing that a database could not send again: models arrive in
 * chunks, a task carries its input, and what was finished is remembered only to answer duplicates.
 *
 *   connections ──pieces──▶ assembler ──job──▶ queue ──▶ compute thread (backend, models)
 *        ▲                                                   │
 *        └────────── result, error, heartbeat ◀──done────────┘
 *
 * Thread: open, run and close from one thread; the compute thread is the worker's own.
 * Memory: from the allocator, within the limits of the options; all of it is back after close. */
#ifndef DBOS_GPU_WORKER_H
#define DBOS_GPU_WORKER_H

#include <stdint.h>

#include "base/err.h"
#include "gpu/backend.h"

struct dbos_alloc;
struct dbos_env;
struct dbos_worker;

struct dbos_worker_options {
    const char *name;    /* as said in hello; at most 31 bytes */
    const char *address; /* IPv4 to listen on */
    uint16_t port;       /* 0 = any */
    const struct dbos_backend_ops *backend;
    uint32_t threads;             /* of one computation */
    uint32_t connections_max;     /* each holds at most one unfinished frame of 1 MiB */
    uint32_t queue_max;           /* tasks that wait or run */
    uint64_t assembled_bytes_max; /* payloads of tasks that wait for pieces, wait or run */
    uint64_t model_bytes_max;     /* weights of loaded models; the least recently used goes first */
    uint64_t idle_us;             /* a task whose pieces stop coming fails after this long */
    int stop_fd;                  /* readable = stop; borrowed */
    int parent_fd;                /* end of file or hang-up = stop; -1 = none; borrowed */
};

/* Sensible limits; name, address, backend and the descriptors are still to be set. */
void dbos_worker_defaults(struct dbos_worker_options *options);

/* Open the backend and listen. *out is the caller's: dbos_worker_close(). `options`, `alloc` and
 * `env` are borrowed for its life.
 * Errors: DBOS_ERR_NOMEM, DBOS_ERR_IO (address in use), those of the backend's open. */
enum dbos_err dbos_worker_open(struct dbos_alloc *alloc, struct dbos_env *env,
                               const struct dbos_worker_options *options, struct dbos_worker **out,
                               struct dbos_errinfo *info) DBOS_MUST_USE;

/* The port that it listens on. */
uint16_t dbos_worker_port(const struct dbos_worker *worker);

/* Serve until stop_fd or parent_fd says stop. What runs is then canceled at its next step.
 * Errors: DBOS_ERR_IO, polling failed; DBOS_ERR_INTERNAL, no thread could be started. */
enum dbos_err dbos_worker_run(struct dbos_worker *worker, struct dbos_errinfo *info) DBOS_MUST_USE;

/* NULL is allowed. */
void dbos_worker_close(struct dbos_worker *worker);

#endif /* DBOS_GPU_WORKER_H */
