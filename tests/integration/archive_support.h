/* What the tests of the archive share: a node's data directory, an archiver on it, questions whose
 * answers are texts, and small transactions.
 *
 * Thread: the test's. Memory: malloc; the allocators' balances are checked at close. */
#ifndef DBOS_TESTS_INTEGRATION_ARCHIVE_SUPPORT_H
#define DBOS_TESTS_INTEGRATION_ARCHIVE_SUPPORT_H

#include "provenance/archiver.h"
#include "tests/unit/txn/txn_support.h"

struct test_archive {
    struct dbos_alloc alloc;
    struct dbos_duckdb *duck;
    struct dbos_archiver *archiver;
    uint64_t as_of;           /* a question waits for this position; 0 = for none */
    struct dbos_errinfo info; /* of the last question */
    char *text;               /* of the last answer */
    size_t text_bytes;
};

/* hot_bytes_max: 0 = the default. */
void test_archive_open(struct test_archive *t, const char *dir, uint64_t hot_bytes_max);
void test_archive_close(struct test_archive *t);
/* Open it and close it again: what opening said. */
enum dbos_err test_archive_try(const char *dir);

/* Ask `sql`, in which dbos_call_0 stands for function(arguments…; NULL ends them). The answer: a
 * line of column names, then a line for each row, cells separated by |, NULL as ~; or "ERROR
 * <sqlstate>: message". Valid until the next question. */
const char *test_ask(struct test_archive *t, const char *sql, const char *function, ...);
/* The same without the line of names. */
const char *test_rows(struct test_archive *t, const char *sql, const char *function, ...);

/* One transaction on the partition of `txn`: begin as `user`. */
void test_begin(struct dbos_txn *txn, const struct dbos_session_info *session, uint32_t procedure);
uint64_t test_commit(struct dbos_txn *txn);
void test_statement(struct dbos_txn *txn, const char *text);
/* table (k bigint, v text, n int): write and read by key. `v` NULL = SQL NULL. */
void test_put(struct dbos_txn *txn, uint32_t table, int64_t k, const char *v, int32_t n);
void test_change(struct dbos_txn *txn, uint32_t table, int64_t k, const char *v, int32_t n);
void test_erase(struct dbos_txn *txn, uint32_t table, int64_t k);
struct dbos_row *test_read(struct dbos_txn *txn, uint32_t table, int64_t k); /* noted */
void test_scan(struct dbos_txn *txn, uint32_t table);                        /* noted */

/* A small history, the same each time, its times too. Positions: 1 DDL, 2 ann puts 1 and 2, 3 bob
 * copies 1 to 3 (reads 1), 4 bob scans and writes ref 7, 5 ann changes 1, 6 ann erases 2, 7 bob
 * reads 1 and aborts, 8 ann puts 2 again. An archive of it lies in tests/golden. */
enum { TEST_ACC = 100, TEST_REF = 101 };
extern const struct dbos_session_info test_ann, test_bob;
void test_play(struct test_node *node);

#endif /* DBOS_TESTS_INTEGRATION_ARCHIVE_SUPPORT_H */
