/* The transaction record: what the log holds and the archive is made of (architecture decision 2).
 *
 * One record for each transaction that read or wrote anything: who called what with which
 * arguments, when, with what outcome, and, in the order of execution, each statement with what it
 * read (blocks, runs, scans, ranges, absent keys) and wrote (before and after). Recovery applies
 * the writes; the archiver turns everything into rows. docs/formats/log.md says every byte.
 *
 * Encoding is done by provenance/capture.h; this header is the decoder and the vocabulary.
 *
 * Thread: any. Memory: a decoder borrows the record's bytes. */
#ifndef DBOS_PROVENANCE_RECORD_H
#define DBOS_PROVENANCE_RECORD_H

#include "provenance/image.h"

enum {
    DBOS_RECORD_VERSION = 2, /* as written; version 1 is read, too */
    DBOS_PARTITION_ALL = 0xffff,
    DBOS_RECORD_BYTES_MAX = 60 * 1048576, /* a larger one is refused at commit: LIMIT */
};

enum dbos_record_flag {
    DBOS_RECORD_BARRIER = 1,     /* ran with all partitions in hand */
    DBOS_RECORD_ABORTED = 2,     /* no writes; the read record stays */
    DBOS_RECORD_READ_ONLY = 4,   /* no writes */
    DBOS_RECORD_TASK_RESULT = 8, /* a result procedure, on behalf of task_id */
    DBOS_RECORD_DDL = 16,
    DBOS_RECORD_READS_OFF = 32, /* what it read was not recorded */
};

/* What is the same for a whole transaction. Bytes are borrowed. */
struct dbos_record_head {
    uint64_t position;
    int64_t commit_us; /* strictly growing with position within a partition */
    int64_t start_us;
    uint16_t partition;  /* DBOS_PARTITION_ALL under the barrier */
    uint16_t partitions; /* of the node then: slot % partitions = partition */
    uint16_t flags;      /* enum dbos_record_flag */
    uint16_t outcome;    /* enum dbos_err; DBOS_OK = committed */
    uint64_t session;    /* defined by a SESSION definition in this or an earlier record */
    uint64_t request;    /* counts within the session */
    uint32_t procedure;  /* 0 = ad hoc statements */
    uint32_t procedure_version;
    uint64_t task_id; /* TASK_RESULT; 0 otherwise */
    uint64_t seed;    /* of the random numbers handed out */
    bool has_seed;    /* some were */
    uint32_t argument_count;
    /* Decoded: argument_count stored datums (dbos_datum_put by reference). To be encoded: as
     * dbos_image_put_argument() wrote them. */
    struct dbos_bytes arguments;
    int64_t hash_delta;  /* change of the order-free state hash (modulo 2^64); version 1 */
    bool has_hash_delta; /* later versions leave it to the batch */
};

enum dbos_event_op { /* Apiary's codes 1-4, then ours */
                     DBOS_EVENT_INSERT = 1,
                     DBOS_EVENT_DELETE = 2,
                     DBOS_EVENT_UPDATE = 3,
                     DBOS_EVENT_READ = 4, /* `count` consecutive blocks (step 1024) from `block` */
                     DBOS_EVENT_RANGE =
                         5, /* an index range was looked through; its rows follow as READs */
                     DBOS_EVENT_ABSENT = 6, /* a key was looked for and not there */
                     DBOS_EVENT_SCAN =
                         7, /* every row of the table (partition `partition` of it) was read */
                     DBOS_EVENT_EGRESS = 8,    /* rows left to the client */
                     DBOS_EVENT_STATEMENT = 9, /* the following events belong to this statement */
                     DBOS_EVENT_SESSION = 10,  /* definition of a session */
                     DBOS_EVENT_TEXT = 11,     /* definition of a statement's text */
};

struct dbos_event {
    uint8_t op;         /* enum dbos_event_op */
    uint16_t statement; /* 1, 2, … within the transaction; 0 before the first */
    uint16_t partition; /* SCAN: whose part; DBOS_PARTITION_ALL = the whole table */
    uint32_t table_id;
    uint32_t index_id; /* RANGE, ABSENT */
    uint64_t block;
    uint64_t count;             /* READ: blocks; SCAN, RANGE: rows met; EGRESS: rows */
    uint64_t previous_position; /* UPDATE, DELETE: version that it ends; the record's own position
                                   where the same transaction had written it */
    uint64_t statement_id;      /* STATEMENT, TEXT: dbos_hash64(0, text), or, of a procedure's own
                                   statement, dbos_record_statement_id() */
    uint64_t bytes;             /* EGRESS */
    uint64_t digest;            /* EGRESS: XXH3 of the rows as sent */
    struct dbos_bytes before;   /* UPDATE, DELETE: payload */
    struct dbos_bytes after;    /* INSERT, UPDATE: payload */
    struct dbos_bytes low;      /* RANGE: key bytes, empty = unbounded; ABSENT: the key */
    struct dbos_bytes high;
    uint8_t bound_flags; /* RANGE: 1 low inclusive, 2 high inclusive */
    uint64_t session;    /* SESSION */
    struct dbos_bytes user, role, address, application; /* SESSION */
    struct dbos_bytes text;                             /* TEXT */
};

/* Memory that decoding a record takes where its bytes can not be borrowed: arguments, images and
 * keys of version 2. Small ones need no allocation; use it again for the next record. */
enum dbos_scratch_slot { DBOS_SCRATCH_ARGUMENTS, DBOS_SCRATCH_FIRST, DBOS_SCRATCH_SECOND };
enum { DBOS_SCRATCH_SLOTS = 3, DBOS_SCRATCH_SMALL_BYTES = 256 };
struct dbos_record_scratch {
    struct dbos_alloc *alloc;
    struct dbos_image_arguments arguments;
    struct {
        uint8_t *large;
        size_t large_bytes;
        uint8_t small[DBOS_SCRATCH_SMALL_BYTES];
    } slots[DBOS_SCRATCH_SLOTS];
};
/* Allocates nothing yet. */
void dbos_record_scratch_init(struct dbos_record_scratch *scratch, struct dbos_alloc *alloc);
void dbos_record_scratch_fini(struct dbos_record_scratch *scratch);

struct dbos_record_decoder {
    struct dbos_reader reader;
    struct dbos_record_scratch *scratch;          /* NULL: images and keys are passed over */
    const struct dbos_image_arguments *arguments; /* version 2: what images refer to */
    uint8_t version;
    uint8_t next_op; /* version 2: operation byte of a READ that hangs on a STATEMENT; 0 = none */
    uint16_t statement;
    uint64_t last_block; /* of the READ before */
    uint32_t last_table;
    uint32_t near_table; /* version 2: of the READ or write before */
    uint64_t near_block;
    uint64_t position; /* of the record, as its procedure */
    uint32_t procedure;
    uint32_t procedure_version;
    bool failed;
    bool out_of_memory; /* that is why it failed */
};

/* Identity of the statement with this number of a procedure. */
uint64_t dbos_record_statement_id(uint32_t procedure, uint32_t version, uint32_t ordinal);

/* Check length and version (of version 1 its checksum, too) and read the head. `record` is
 * one whole record as framed in a batch, whose checksum was right; what is decoded borrows from it
 * and from `scratch`. Errors: CORRUPT, FORMAT_VERSION, NOMEM. */
enum dbos_err dbos_record_open(const void *record, size_t size_bytes,
                               struct dbos_record_scratch *scratch, struct dbos_record_head *head,
                               struct dbos_record_decoder *decoder,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* The next event: true, or false at the end (then look at dbos_record_end()). Images and keys live
 * until the next call. */
bool dbos_record_next(struct dbos_record_decoder *decoder, struct dbos_event *event);
/* How it ended. Errors: CORRUPT, NOMEM. */
enum dbos_err dbos_record_end(const struct dbos_record_decoder *decoder,
                              struct dbos_errinfo *info) DBOS_MUST_USE;
/* Position and commit time of a framed record, without any check but its length; 0 = too short, or
 * of no known version. */
uint64_t dbos_record_peek(const void *record, size_t size_bytes, int64_t *out_commit_us);
/* Where a record ran, read as peek does. is_known: it is of version 2, and its head begins well. */
struct dbos_record_route {
    bool is_known;
    uint16_t flags;
    uint16_t partition;
    uint16_t partitions;
    uint64_t position;
};
void dbos_record_peek_route(const void *record, size_t size_bytes, struct dbos_record_route *out);
/* Bytes of the record that starts at `record`, where at most `left_bytes` are; 0 = that can be no
 * record. */
size_t dbos_record_frame_bytes(const uint8_t *record, size_t left_bytes);

#endif /* DBOS_PROVENANCE_RECORD_H */
