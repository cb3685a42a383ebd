/* The worker frame: what the database and a worker say to each other over TCP.
 *
 * A frame is 64 bytes of header and a payload of at most 1 MiB, all little-endian. A task, a model
 * or a result that is larger travels in numbered pieces, in any order and over any connections;
 * gpu/assembler.h puts them together at both ends. docs/formats/frame.md says every byte.
 *
 * Thread: any; nothing is kept.
 * Memory: nothing is allocated but by dbos_frame_put(), in the caller's buffer. */
#ifndef DBOS_GPU_FRAME_H
#define DBOS_GPU_FRAME_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define DBOS_FRAME_MAGIC       0x31544244u /* the bytes "DBT1" */
#define DBOS_FRAME_VERSION     1u
#define DBOS_FRAME_BYTES       64u
#define DBOS_FRAME_PAYLOAD_MAX 1048576u
#define DBOS_FRAME_PIECES_MAX  4096u /* a task is at most 4 GiB */

enum dbos_frame_kind {
    DBOS_FRAME_HELLO = 1,
    DBOS_FRAME_INFER = 2,
    DBOS_FRAME_TRAIN = 3,
    DBOS_FRAME_MODEL_CHUNK = 4,
    DBOS_FRAME_RESULT = 5,
    DBOS_FRAME_ERROR = 6,
    DBOS_FRAME_CANCEL = 7,
    DBOS_FRAME_HEARTBEAT = 8,
};

/* Set on every heartbeat that a worker sends, so that it is not answered again. */
#define DBOS_FRAME_FLAG_REPLY 1u
/* Set on a result that is the acknowledgement of a loaded model. */
#define DBOS_FRAME_FLAG_MODEL 2u

enum dbos_frame_dtype { DBOS_DTYPE_NONE = 0, DBOS_DTYPE_U8 = 1, DBOS_DTYPE_F32 = 2 };
enum dbos_frame_layout { DBOS_LAYOUT_NONE = 0, DBOS_LAYOUT_NHW = 1 };

/* Why a worker refused a frame or failed a task: the code in an error frame. Never reuse one. */
enum dbos_frame_error_code {
    DBOS_FRAME_ERR_MODEL_NOT_LOADED = 1, /* send the model's chunks, then the task again */
    DBOS_FRAME_ERR_PROTOCOL = 2,         /* malformed frame; the connection is closed */
    DBOS_FRAME_ERR_LIMIT = 3,            /* more than the worker may hold; never fits */
    DBOS_FRAME_ERR_BUSY = 4,             /* the queue or the memory is full now; try later */
    DBOS_FRAME_ERR_DEADLINE = 5,         /* the task ran out of its time, or a piece never came */
    DBOS_FRAME_ERR_CANCELED = 6,         /* a cancel frame came first */
    DBOS_FRAME_ERR_BAD_MODEL = 7,        /* the assembled chunks are not a model */
    DBOS_FRAME_ERR_BAD_INPUT = 8, /* the task's payload does not fit its header or its model */
    DBOS_FRAME_ERR_BACKEND = 9,   /* the device or its library failed */
    DBOS_FRAME_ERR_VERSION = 10,  /* the peers share no version; the connection is closed */
};

/* The header as it lies in the stream. `deadline_us` is not aligned, hence bytes. */
struct dbos_frame_wire {
    uint32_t magic;
    uint16_t version;
    uint16_t kind;
    uint64_t task_id;
    uint16_t attempt;
    uint16_t flags;
    uint32_t piece;
    uint32_t pieces;
    uint32_t model_id;
    uint32_t model_version;
    uint32_t count;
    uint16_t dtype;
    uint16_t layout;
    uint8_t deadline_us[8];
    uint32_t payload_bytes;
    uint32_t crc32c;
    uint32_t reserved;
};
static_assert(sizeof(struct dbos_frame_wire) == DBOS_FRAME_BYTES, "sent format");
static_assert(offsetof(struct dbos_frame_wire, task_id) == 8, "sent format");
static_assert(offsetof(struct dbos_frame_wire, attempt) == 16, "sent format");
static_assert(offsetof(struct dbos_frame_wire, piece) == 20, "sent format");
static_assert(offsetof(struct dbos_frame_wire, model_id) == 28, "sent format");
static_assert(offsetof(struct dbos_frame_wire, count) == 36, "sent format");
static_assert(offsetof(struct dbos_frame_wire, dtype) == 40, "sent format");
static_assert(offsetof(struct dbos_frame_wire, deadline_us) == 44, "sent format");
static_assert(offsetof(struct dbos_frame_wire, payload_bytes) == 52, "sent format");
static_assert(offsetof(struct dbos_frame_wire, crc32c) == 56, "sent format");
static_assert(offsetof(struct dbos_frame_wire, reserved) == 60, "sent format");
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little-endian");

/* The header's fields, for programs. Magic, version, CRC and reserved are the codec's business. */
struct dbos_frame {
    enum dbos_frame_kind kind;
    uint64_t task_id;
    uint16_t attempt;
    uint16_t flags;  /* DBOS_FRAME_FLAG_* */
    uint32_t piece;  /* from 0 */
    uint32_t pieces; /* at least 1 */
    uint32_t model_id;
    uint32_t model_version;
    uint32_t count;         /* examples in this piece */
    uint16_t dtype;         /* enum dbos_frame_dtype */
    uint16_t layout;        /* enum dbos_frame_layout */
    uint64_t deadline_us;   /* time that the task has left when the frame is sent; 0 = no limit */
    uint32_t payload_bytes; /* set by encode */
    /* Not sent. Set by a receiver that serves several peers, zero otherwise: */
    uint64_t source; /* who numbers the tasks; ids of two sources never mix */
    uint64_t via;    /* the connection that the frame came by */
};

/* --- Heads of payloads (sent formats, each with its version) --------------------------------- */

/* The worker's time split, at the head of every result (of its first piece) and every error. */
struct dbos_frame_times {
    uint32_t version;  /* 1 */
    uint32_t recv_us;  /* first byte of the first piece .. last byte of the last piece */
    uint32_t queue_us; /* assembled .. execution began */
    uint32_t exec_us;  /* execution, with the copies below */
    uint32_t h2d_us;   /* copy to the device; 0 on a CPU */
    uint32_t d2h_us;   /* copy from the device; 0 on a CPU */
    uint32_t reserved[2];
};
static_assert(sizeof(struct dbos_frame_times) == 32, "sent format");

/* Head of every piece of a train task. All pieces of one task carry the same parameters. */
struct dbos_train_params {
    uint32_t version; /* 1 */
    uint32_t epochs;
    uint32_t batch_size;
    uint32_t optimizer; /* enum dbos_optimizer */
    float learning_rate;
    uint32_t hidden;
    uint32_t inputs;
    uint32_t outputs;
    uint64_t seed;
    uint32_t flags; /* DBOS_TRAIN_* */
    uint32_t reserved[5];
};
static_assert(sizeof(struct dbos_train_params) == 64, "sent format");
static_assert(offsetof(struct dbos_train_params, seed) == 32, "sent format");
/* The learning rate falls linearly to zero over the training. */
#define DBOS_TRAIN_LINEAR_DECAY 1u
enum dbos_optimizer { DBOS_OPTIMIZER_SGD = 1, DBOS_OPTIMIZER_ADAM = 2 };

/* After the times in a train result; the model's bytes follow. */
struct dbos_train_report {
    uint32_t version; /* 1 */
    uint32_t epochs;  /* that ran */
    float loss;       /* mean cross-entropy over the last epoch */
    float accuracy;   /* on the training examples, during the last epoch; 0..1 */
    uint64_t examples;
    uint32_t model_bytes;
    uint32_t reserved;
};
static_assert(sizeof(struct dbos_train_report) == 32, "sent format");

/* After the times in an error; `text_bytes` of UTF-8 follow. */
struct dbos_frame_error {
    uint32_t code; /* enum dbos_frame_error_code */
    uint32_t text_bytes;
};
static_assert(sizeof(struct dbos_frame_error) == 8, "sent format");

/* The payload of a hello, in both directions. */
struct dbos_frame_hello {
    uint32_t version; /* 1 */
    uint32_t frame_version_min;
    uint32_t frame_version_max;
    uint32_t threads;             /* that compute */
    uint64_t assembled_bytes_max; /* of all tasks that wait for pieces or run; 0 from a database */
    uint64_t model_bytes_max;     /* of all loaded models; 0 from a database */
    uint32_t queue_max;           /* tasks that may wait */
    uint32_t reserved;
    /* From a database: identifies it for good (not the connection). Task and model ids are unique
     * within a source; 0 = one that ends with this connection. */
    uint64_t source;
    uint32_t reserved2[4];
    char name[32];    /* NUL-terminated */
    char backend[32]; /* NUL-terminated; empty from a database */
};
static_assert(sizeof(struct dbos_frame_hello) == 128, "sent format");
static_assert(offsetof(struct dbos_frame_hello, source) == 40, "sent format");

/* --- Codec ------------------------------------------------------------------------------------ */

/* Write the header of a frame whose payload is `runs` one after the other (so that a sender may
 * writev() rows in place), and set frame->payload_bytes.
 * Errors: DBOS_ERR_LIMIT, the payload is over 1 MiB or there are too many pieces. */
enum dbos_err dbos_frame_encode(struct dbos_frame *frame, const struct dbos_bytes *runs,
                                size_t run_count, uint8_t header[DBOS_FRAME_BYTES],
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* Header and payload appended to `buf`, for senders that copy.
 * Errors: as encode; DBOS_ERR_NOMEM. */
enum dbos_err dbos_frame_put(struct dbos_buf *buf, struct dbos_frame *frame,
                             const struct dbos_bytes *runs, size_t run_count,
                             struct dbos_errinfo *info) DBOS_MUST_USE;

/* Read a header before its payload is there. The CRC is not looked at yet.
 * Errors: DBOS_ERR_PROTOCOL (magic, kind, piece numbers, reserved bits), DBOS_ERR_FORMAT_VERSION,
 * DBOS_ERR_LIMIT (payload or pieces over the limit). */
enum dbos_err dbos_frame_decode(const uint8_t header[DBOS_FRAME_BYTES], struct dbos_frame *out,
                                struct dbos_errinfo *info) DBOS_MUST_USE;

/* Compare the CRC once the payload is there.
 * Errors: DBOS_ERR_CORRUPT. */
enum dbos_err dbos_frame_verify(const uint8_t header[DBOS_FRAME_BYTES], const void *payload,
                                size_t payload_bytes, struct dbos_errinfo *info) DBOS_MUST_USE;

/* Split the payload of an error frame. `*text` borrows from `payload`; *times may be NULL.
 * Errors: DBOS_ERR_PROTOCOL. */
enum dbos_err dbos_frame_get_error(const void *payload, size_t payload_bytes,
                                   struct dbos_frame_times *times, enum dbos_frame_error_code *code,
                                   struct dbos_bytes *text,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

/* Split an assembled infer result: `labels` (count × u8) and `probabilities` (count × f32, not
 * aligned: read with memcpy) borrow from `payload`.
 * Errors: DBOS_ERR_PROTOCOL, the size is not that of `count` answers. */
enum dbos_err dbos_frame_get_infer_result(const void *payload, size_t payload_bytes, uint32_t count,
                                          struct dbos_frame_times *times, const uint8_t **labels,
                                          const uint8_t **probabilities,
                                          struct dbos_errinfo *info) DBOS_MUST_USE;

/* Split an assembled train result; `*model` borrows from `payload`.
 * Errors: DBOS_ERR_PROTOCOL. */
enum dbos_err dbos_frame_get_train_result(const void *payload, size_t payload_bytes,
                                          struct dbos_frame_times *times,
                                          struct dbos_train_report *report,
                                          struct dbos_bytes *model,
                                          struct dbos_errinfo *info) DBOS_MUST_USE;

/* Read and check a hello.
 * Errors: DBOS_ERR_PROTOCOL; DBOS_ERR_FORMAT_VERSION, the peers share no frame version. */
enum dbos_err dbos_frame_get_hello(const void *payload, size_t payload_bytes,
                                   struct dbos_frame_hello *out,
                                   struct dbos_errinfo *info) DBOS_MUST_USE;

/* Whether two frames are of one task, model or result: what identifies it is the same. */
bool dbos_frame_same_task(const struct dbos_frame *a, const struct dbos_frame *b);

#endif /* DBOS_GPU_FRAME_H */
