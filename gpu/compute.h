/* The compute thread of a worker: takes assembled jobs, holds the models, runs the backend, makes
 * the replies. Internal to the worker.
 *
 * Inference and model loads go before training, and between two steps of a training one of them is
 * run: a long training does not block the short tasks, and they do not starve it.
 *
 * Thread: submit() and the job's atomics from the thread that owns the sockets; a job is the
 * compute thread's from submit() until it comes back on the done queue. Memory: jobs and replies
 * come from the worker's allocator. */
#ifndef DBOS_GPU_COMPUTE_H
#define DBOS_GPU_COMPUTE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/queue.h"
#include "gpu/assembler.h"
#include "gpu/backend.h"
#include "gpu/frame.h"

struct dbos_env;

/* Whole frames, ready to be sent. Counted, because a reply may be on several connections' way out
 * and in the store of finished tasks; the count is the socket thread's. */
struct dbos_reply {
    struct dbos_frame task; /* what it answers */
    bool failed;            /* holds an error frame */
    uint32_t refs;
    struct dbos_buf bytes;
    struct dbos_reply *next; /* in the store of finished tasks */
};

struct dbos_job {
    struct dbos_queue_node node; /* first: queues hold this */
    struct dbos_frame frame;     /* of piece 0; ids to echo */
    struct dbos_assembly *assembly;
    struct dbos_reply *reply;
    struct dbos_job *next;       /* in the compute thread's lists */
    struct dbos_job *next_alive; /* the socket thread's list of jobs that wait or run */
    uint64_t held_bytes;         /* charged against assembled_bytes_max */
    uint64_t first_ns;           /* first byte of the first piece came */
    uint64_t ready_ns;           /* assembled */
    uint64_t start_ns;           /* execution began */
    uint64_t deadline_ns;        /* UINT64_MAX = none */
    uint64_t beat_ns;            /* when its last heartbeat was sent; the socket thread's */
    uint64_t via;                /* where the answer goes; the socket thread's */
    atomic_bool canceled;
    _Atomic uint32_t per_mille; /* how much of a training is done */
};

/* Jobs in order of arrival. */
struct dbos_job_list {
    struct dbos_job *first;
    struct dbos_job *last;
};

struct dbos_held_model {
    uint64_t source;
    uint32_t id;
    uint32_t version;
    uint64_t bytes;
    uint64_t used; /* larger = later */
    struct dbos_backend_model *model;
    uint32_t inputs;
    uint32_t outputs;
    struct dbos_held_model *next;
};

struct dbos_compute {
    struct dbos_alloc *alloc;
    struct dbos_env *env;
    struct dbos_backend *backend;
    struct dbos_queue queue; /* jobs in */
    struct dbos_queue *done; /* jobs out */
    atomic_bool stop;
    struct dbos_job_list urgent;
    struct dbos_job_list trains;
    struct dbos_held_model *models;
    uint64_t model_bytes;
    uint64_t model_bytes_max;
    uint64_t uses;
    pthread_t thread;
};

struct dbos_compute_options {
    const struct dbos_backend_ops *backend;
    uint32_t threads;
    uint64_t model_bytes_max;
    struct dbos_queue *done; /* borrowed */
};

/* Open the backend. Errors: DBOS_ERR_NOMEM, those of the backend. */
enum dbos_err dbos_compute_init(struct dbos_compute *compute, struct dbos_alloc *alloc,
                                struct dbos_env *env, const struct dbos_compute_options *options,
                                struct dbos_errinfo *info) DBOS_MUST_USE;
/* The thread must have been stopped. */
void dbos_compute_fini(struct dbos_compute *compute);

/* Errors: DBOS_ERR_INTERNAL, the system gives no thread. */
enum dbos_err dbos_compute_start(struct dbos_compute *compute,
                                 struct dbos_errinfo *info) DBOS_MUST_USE;
/* End what runs at its next step and join; jobs that did not run come back on `done` too. */
void dbos_compute_stop(struct dbos_compute *compute);

/* Hand a job over. */
void dbos_compute_submit(struct dbos_compute *compute, struct dbos_job *job);

/* An error reply to `task`. NULL when out of memory. */
struct dbos_reply *dbos_reply_error(struct dbos_alloc *alloc, const struct dbos_frame *task,
                                    const struct dbos_frame_times *times,
                                    enum dbos_frame_error_code code, const char *text);
/* A reply of one frame that echoes the ids of `task`. NULL when out of memory. */
struct dbos_reply *dbos_reply_frame(struct dbos_alloc *alloc, const struct dbos_frame *task,
                                    enum dbos_frame_kind kind, uint16_t flags,
                                    struct dbos_bytes payload);
/* One reference less. NULL is allowed. */
void dbos_reply_unref(struct dbos_alloc *alloc, struct dbos_reply *reply);

#endif /* DBOS_GPU_COMPUTE_H */
