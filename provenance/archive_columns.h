/* Which relations and columns the archive has of its own, in order; docs/formats/archive.md says
 * what they mean. Their names and types are in archive_relation.c.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_PROVENANCE_ARCHIVE_COLUMNS_H
#define DBOS_PROVENANCE_ARCHIVE_COLUMNS_H

enum { DBOS_ARCHIVE_SCHEMA_VERSION = 2 };

enum dbos_archive_txn_column {
    DBOS_TXN_POSITION,
    DBOS_TXN_TS,
    DBOS_TXN_START_TS,
    DBOS_TXN_PARTITION,
    DBOS_TXN_PARTITIONS,
    DBOS_TXN_FLAGS,
    DBOS_TXN_OUTCOME,
    DBOS_TXN_STATUS,
    DBOS_TXN_READ_ONLY,
    DBOS_TXN_SESSION,
    DBOS_TXN_REQUEST,
    DBOS_TXN_USERNAME,
    DBOS_TXN_ROLE,
    DBOS_TXN_PROCEDURE_ID,
    DBOS_TXN_PROCEDURE_VERSION,
    DBOS_TXN_PROCEDURE,
    DBOS_TXN_TASK_ID,
    DBOS_TXN_SEED,
    DBOS_TXN_ARGUMENT_COUNT,
    DBOS_TXN_ARGUMENTS,
    DBOS_TXN_HASH_DELTA,
    DBOS_TXN_READS,
    DBOS_TXN_WRITES,
    DBOS_TXN_STEPS, /* the statements' events; NULL = there are none, or they are rows of event */
    DBOS_TXN_EGRESS_NUMBER, /* within the transaction, of the first EGRESS; NULL = there is none */
    DBOS_TXN_EGRESS_STATEMENT,
    DBOS_TXN_EGRESS_COUNT,
    DBOS_TXN_EGRESS_BYTES,
    DBOS_TXN_EGRESS_DIGEST,
    DBOS_TXN_COLUMNS,
};
/* Reads and writes have the first columns only, in a relation of their own: access. */
enum dbos_archive_event_column {
    DBOS_EVENT_COLUMN_ORD, /* position * 2^24 + number within the transaction: identity and order */
    DBOS_EVENT_COLUMN_POSITION,
    DBOS_EVENT_COLUMN_TS,
    DBOS_EVENT_COLUMN_STATEMENT,
    DBOS_EVENT_COLUMN_OP,
    DBOS_EVENT_COLUMN_TABLE,
    DBOS_EVENT_COLUMN_BLOCK,
    DBOS_EVENT_COLUMN_COUNT,
    DBOS_EVENT_COLUMN_PREVIOUS,
    DBOS_EVENT_COLUMN_PK,
    DBOS_ACCESS_COLUMNS,
    DBOS_EVENT_COLUMN_PARTITION = DBOS_ACCESS_COLUMNS,
    DBOS_EVENT_COLUMN_PARTITIONS,
    DBOS_EVENT_COLUMN_INDEX,
    DBOS_EVENT_COLUMN_STATEMENT_ID,
    DBOS_EVENT_COLUMN_BYTES,
    DBOS_EVENT_COLUMN_DIGEST,
    DBOS_EVENT_COLUMN_LOW,
    DBOS_EVENT_COLUMN_HIGH,
    DBOS_EVENT_COLUMN_BOUNDS,
    DBOS_EVENT_COLUMNS,
};
enum dbos_archive_session_column {
    DBOS_SESSION_POSITION,
    DBOS_SESSION_TS,
    DBOS_SESSION_ID,
    DBOS_SESSION_USERNAME,
    DBOS_SESSION_ROLE,
    DBOS_SESSION_ADDRESS,
    DBOS_SESSION_APPLICATION,
    DBOS_SESSION_COLUMNS,
};
enum dbos_archive_text_column {
    DBOS_TEXT_POSITION,
    DBOS_TEXT_TS,
    DBOS_TEXT_ID,
    DBOS_TEXT_TEXT,
    DBOS_TEXT_COLUMNS,
};
/* Which statements a transaction had, and where among its events: shared by all that had the same.
 */
enum dbos_archive_step_column {
    DBOS_STEP_POSITION,
    DBOS_STEP_TS,
    DBOS_STEP_STEPS,
    DBOS_STEP_NUMBER, /* of the event within the transaction */
    DBOS_STEP_STATEMENT,
    DBOS_STEP_STATEMENT_ID,
    DBOS_STEP_COLUMNS,
};
/* The archive's own columns of a table's relation; the table's columns follow. */
enum dbos_archive_row_column {
    DBOS_ROW_COLUMN_ORD,
    DBOS_ROW_COLUMN_POSITION,
    DBOS_ROW_COLUMN_TS,
    DBOS_ROW_COLUMN_STATEMENT,
    DBOS_ROW_COLUMN_OP,
    DBOS_ROW_COLUMN_BLOCK,
    DBOS_ROW_COLUMN_PREVIOUS,
    DBOS_ROW_COLUMN_PK,
    DBOS_ROW_COLUMNS,
};

enum dbos_archive_fixed {
    DBOS_ARCHIVE_TXN,
    DBOS_ARCHIVE_ACCESS,
    DBOS_ARCHIVE_EVENT,
    DBOS_ARCHIVE_STEP,
    DBOS_ARCHIVE_SESSION,
    DBOS_ARCHIVE_STATEMENT,
    DBOS_ARCHIVE_FIXED_COUNT,
    /* Never exported: what a walk found, on its way into an answer. */
    DBOS_ARCHIVE_WALK = DBOS_ARCHIVE_FIXED_COUNT,
    DBOS_ARCHIVE_KIND_COUNT,
};
enum dbos_archive_walk_column {
    DBOS_WALK_DEPTH,
    DBOS_WALK_ORD,
    DBOS_WALK_PARENT,
    DBOS_WALK_COLUMNS,
};

#endif /* DBOS_PROVENANCE_ARCHIVE_COLUMNS_H */
