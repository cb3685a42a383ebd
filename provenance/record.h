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

#include "storage/row.h"

enum {
    DBOS_RECORD_VERSION = 1,
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
    uint32_t argument_count;
    struct dbos_bytes arguments; /* argument_count stored datums (dbos_datum_put by reference) */
    int64_t hash_delta;          /* change of the order-free state hash (modulo 2^64) */
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
    uint64_t statement_id;      /* STATEMENT, TEXT: dbos_hash64(0, text) */
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

struct dbos_record_decoder {
    struct dbos_reader reader;
    uint16_t statement;
    uint64_t last_block;
    uint32_t last_table;
    uint64_t position; /* of the record */
    bool failed;
};

/* Check length, CRC and version and read the head. `record` is one whole record as framed in a
 * batch. Errors: CORRUPT, FORMAT_VERSION. */
enum dbos_err dbos_record_open(const void *record, size_t size_bytes, struct dbos_record_head *head,
                               struct dbos_record_decoder *decoder,
                               struct dbos_errinfo *info) DBOS_MUST_USE;
/* The next event: true, or false at the end (then look at decoder->failed). */
bool dbos_record_next(struct dbos_record_decoder *decoder, struct dbos_event *event);
/* Position and commit time of a framed record, without any check but its length; 0 = too short. */
uint64_t dbos_record_peek(const void *record, size_t size_bytes, int64_t *out_commit_us);

#endif /* DBOS_PROVENANCE_RECORD_H */
